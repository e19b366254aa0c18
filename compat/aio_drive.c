/* SPDX-License-Identifier: MIT */
/* aio_drive.c: who drives the loop, and how callers sleep.
 *
 * A thread of ours does, so that requests go on whatever the program does. But where callers wait
 * for one request after the other, two threads would be woken for each; so callers that wait drive
 * the loop themselves then, one at a time, and the thread stands by: every other millisecond it
 * looks whether they still come, and goes on if they do not.
 *
 * A caller drives only while completions come quickly. After a millisecond without one it leaves
 * the loop to the thread and sleeps until it is woken, as all others do who wait. So nothing hangs,
 * and little is late, when a caller that drives is interrupted by a handler that itself waits, or
 * never comes back from one. */
#include "aio_base.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../src/dropin.h"
#include "../src/syscall.h"

enum {
    STACK = 256 * 1024, /* of a thread that runs no code of the program's but at its end */
    LEAD_MS = 1,        /* without a completion: as long does a caller drive */
    TICK_MS = 2,        /* how often the thread looks, standing by */
    LEADS_FEW = 64,     /* callers have come so seldom before work was left undone: ... */
    SHY_MS = 1000,      /* ... so long they do not drive */
    BATCH = 32,         /* requests that are ended together */
    IDLE_WAKES = 3,     /* in a row: the descriptor is ready and the loop is not */
};

#define GAP_MOST (32 * OURO_S) /* see watch_program */

enum { SERVES, STANDS_BY, PARKED };

static struct {
    ouro_loop *loop;
    _Atomic uint32_t state;        /* of the thread, which sleeps here while it does not serve */
    _Atomic uint32_t leads;        /* how often callers have driven the loop */
    struct waiter *_Atomic leader; /* the caller that drives now */
    pthread_t leader_thread;
    pthread_t thread;       /* ours */
    bool wanted;            /* a caller waits, who could drive */
    _Atomic bool ambiguous; /* callers do not drive: see interrupted() */
    unsigned others;        /* requests in use that are the thread's alone */
    _Atomic int fd;         /* of the loop */
    _Atomic uint32_t open;  /* or it cannot be had */
    int error;              /* why not */
    _Atomic uint32_t calls; /* of aio_drive_call */
    ouro_time shy;          /* until then callers do not drive */
} drive;

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return OURO__SYSCALL(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout);
}

long aio_futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout)
{
    return futex(word, FUTEX_WAIT, value, timeout);
}

void aio_futex_wake(_Atomic uint32_t *word)
{
    (void)futex(word, FUTEX_WAKE, INT_MAX, NULL);
}

/* As ouro_run, and ends the requests that are over: how many, or -errno. */
static int run(unsigned min, ouro_time until)
{
    ouro_event events[BATCH];
    int r = ouro_run(drive.loop, min, until), sum = 0, count = BATCH;

    while (r > sum && count == BATCH && (count = ouro_reap(drive.loop, events, BATCH)) > 0) {
        aio_finish_all(events, (unsigned)count);
        sum += count;
    }
    if (stats_on)
        stats_loop(drive.loop);
    return r < 0 ? r : sum;
}

void aio_drive_now(void)
{
    bool may;

    aio_lock();
    may = !drive.others;
    aio_unlock();
    if (may)
        (void)run(0, OURO_NOWAIT);
}

/* ---- The thread ----------------------------------------------------------------------------- */

/* With the lock. */
static void serve(void)
{
    if (drive.state == SERVES)
        return;
    drive.leader = NULL;
    drive.state = SERVES;
    aio_futex_wake(&drive.state);
}

/* When to look whether the program is still there: a second after the last completion, and then
 * less and less often. */
struct watch {
    ouro_time next, gap;
};

static void watch_anew(struct watch *watch)
{
    watch->gap = OURO_S;
    watch->next = ouro_now(drive.loop) + watch->gap;
}

static void watch_program(struct watch *watch)
{
    ouro_time now = ouro_now(drive.loop);

    if (now < watch->next)
        return;
    if (aio_may_end() && aio_is_alone()) {
        aio_set_inside(false); /* the program's handlers run here */
        exit(0);               /* as the C library does for its last thread */
    }
    watch->gap = watch->gap < GAP_MOST ? watch->gap * 2 : GAP_MOST;
    watch->next = now + watch->gap;
}

/* With nothing in flight the thread leaves the loop after a while: programs may close all
 * descriptors, and who sleeps in one that is closed would not be woken. Not if somebody has called
 * since it asked what there is to do. */
static void park(uint32_t calls, ouro_time until, struct watch *watch)
{
    bool ends = until != OURO_FOREVER;

    aio_lock();
    if (!aio_busy() && drive.calls == calls)
        drive.state = PARKED;
    aio_unlock();
    while (drive.state == PARKED && (!ends || ouro_now(drive.loop) < until)) {
        ouro_time now = ouro_now(drive.loop);
        ouro_time next = ends && until < watch->next ? until : watch->next;
        ouro_time left = next > now ? next - now : 0;
        const struct timespec limit = { .tv_sec = (time_t)(left / OURO_S),
                                        .tv_nsec = (long)(left % OURO_S) };

        (void)aio_futex_wait(&drive.state, PARKED, &limit);
        watch_program(watch);
    }
    aio_lock();
    serve();
    aio_unlock();
}

/* With the lock. */
static bool callers_may_drive(void)
{
    return drive.wanted && !drive.others && !drive.ambiguous && drive.fd >= 0 &&
           ouro_now(drive.loop) >= drive.shy;
}

static void stand_by(void)
{
    const struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
    uint32_t first = drive.leads;
    bool parks;

    aio_lock();
    if (callers_may_drive())
        drive.state = STANDS_BY;
    drive.wanted = false;
    aio_unlock();
    while (drive.state == STANDS_BY) {
        uint32_t leads = drive.leads;

        (void)aio_futex_wait(&drive.state, STANDS_BY, &tick);
        (void)aio_patience(&parks);
        if (drive.state != STANDS_BY || drive.leads != leads)
            continue;
        aio_lock();
        serve();
        aio_unlock();
        if (run(0, OURO_NOWAIT) > 0 && leads - first < LEADS_FEW)
            drive.shy = ouro_now(drive.loop) + SHY_MS * OURO_MS;
    }
}

/* With the lock. Callers drive io_uring alone. */
static void find_fd(void)
{
    drive.fd = strcmp(ouro_engine_name(drive.loop), "uring") ? -1 : ouro__engine_fd(drive.loop);
}

/* With the lock, which a caller holds who waits for it. What a ring is given when it is opened, its
 * doorbell, interrupts who has opened it: that is no thread of the program's. */
static int open_loop(void)
{
    ouro_config config = { .size = sizeof(config), .threading = OURO_SHARED };
    int r = ouro_open(&config, &drive.loop);

    if (r == -EINVAL || r == -EOPNOTSUPP) { /* OURO_ENGINE names none that is to be had */
        config.engine = "auto";
        r = ouro_open(&config, &drive.loop);
    }
    if (r == 0)
        find_fd();
    return r;
}

/* A sleep has an end, after which it is seen that the engine was taken away. */
static void *thread_main(void *arg)
{
    struct watch watch;
    int r;

    (void)arg;
    aio_set_inside(true);
    r = open_loop();
    drive.thread = pthread_self();
    drive.error = r;
    atomic_store(&drive.open, 1);
    aio_futex_wake(&drive.open);
    if (r < 0)
        return NULL;
    stats_thread();
    prctl(PR_SET_NAME, "ouro-aio", 0, 0, 0);
    watch_anew(&watch);
    while (r >= 0) {
        uint32_t calls = drive.calls;
        bool parks;
        ouro_time patience = aio_patience(&parks), until = ouro_now(drive.loop) + patience;

        r = run(1, parks ? OURO_NOWAIT : until);
        if (r > 0) {
            stand_by();
            watch_anew(&watch);
        } else if (r == 0) {
            park(calls, parks && patience < OURO_S ? until : OURO_FOREVER, &watch);
            watch_program(&watch);
        }
    }
    return NULL;
}

int aio_drive(ouro_loop **ret)
{
    int r;

    memset(&drive, 0, sizeof(drive));
    r = aio_thread(thread_main, NULL, STACK);
    while (r == 0 && !atomic_load(&drive.open))
        (void)aio_futex_wait(&drive.open, 0, NULL);
    *ret = drive.loop;
    return r < 0 ? r : drive.error;
}

void aio_drive_forked(void)
{
    memset(&drive, 0, sizeof(drive));
}

void aio_drive_busy(void)
{
    if (drive.state == PARKED)
        serve();
}

void aio_drive_call(void)
{
    drive.calls++;
    serve();
}

void aio_drive_hurry(void)
{
    if (drive.state == SERVES && !aio_drive_is_here())
        ouro_wake(drive.loop);
    aio_drive_call();
}

bool aio_drive_interrupts(void)
{
    return strcmp(ouro_engine_name(drive.loop), "uring") == 0;
}

bool aio_drive_is_here(void)
{
    return drive.open && pthread_equal(drive.thread, pthread_self());
}

void aio_drive_reap(void)
{
    (void)run(0, OURO_NOWAIT);
}

void aio_drive_keep(void)
{
    drive.others++;
    serve();
}

void aio_drive_kept(void)
{
    drive.others--;
}

bool aio_drive_is_led_by(const struct waiter *waiter)
{
    return drive.leader == waiter;
}

/* ---- Callers that sleep --------------------------------------------------------------------- */

/* Is it this caller's turn to drive? */
static bool take_lead(struct waiter *waiter)
{
    bool mine = false;

    aio_lock();
    if (drive.state != STANDS_BY)
        drive.wanted = true;
    else if (drive.leader && pthread_equal(drive.leader_thread, pthread_self()))
        serve(); /* this is a handler that has interrupted who drives */
    else
        mine = !drive.leader && aio_waits_alone(waiter);
    if (mine) {
        drive.leader = waiter;
        drive.leader_thread = pthread_self();
    }
    aio_unlock();
    return mine;
}

/* stale: the descriptor does not say what it should; the engine may be another one now. */
static void leave_to_thread(bool stale)
{
    aio_lock();
    if (stale)
        find_fd();
    serve();
    aio_unlock();
}

bool aio_drive_leave(const struct waiter *waiter)
{
    if (drive.leader == waiter)
        drive.leader = NULL;
    return drive.state == STANDS_BY && !drive.leader;
}

/* Signals that a thread's own instructions raise, which it executes none of here: a handler of
 * theirs hardly is what has run. */
static bool is_fault(int signo)
{
    return signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL ||
           signo == SIGTRAP;
}

/* A handler has run meanwhile. Does it end the wait? A futex would say so: it sleeps on after
 * handlers with SA_RESTART; a ring does not. Where handlers of both kinds are installed it may have
 * been either: this once it ends, and from then on callers sleep where the kernel knows. */
static bool interrupted(const sigset_t *mask)
{
    unsigned restart = 0, end = 0;

    for (int signo = 1; signo < NSIG; signo++) {
        struct sigaction action;

        if (is_fault(signo) || sigismember(mask, signo) || sigaction(signo, NULL, &action) < 0 ||
            action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
            continue;
        if (action.sa_flags & SA_RESTART)
            restart++;
        else
            end++;
    }
    if (restart && end) {
        drive.ambiguous = true;
        leave_to_thread(false);
    }
    return end > 0;
}

/* Here, and only here, the thread may be cancelled, as far as it wants. A signal by which the C
 * library does that may have been sent and not arrived: it would end whatever call of the library's
 * it met, also with locks held. Who leaves such a call, as the poll, waits for it. */
static int admit_cancel(const struct aio_shield *old)
{
    int type;

    pthread_setcancelstate(old->cancel, NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    return type;
}

static void refuse_cancel(int type)
{
    pthread_setcanceltype(type, NULL);
    (void)poll(NULL, 0, 0);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
}

static long doze(struct waiter *waiter, uint32_t wakes, const struct timespec *timeout,
                 const struct aio_shield *old)
{
    sigset_t all;
    int type;
    long r;

    aio_set_inside(false);
    pthread_sigmask(SIG_SETMASK, &old->signals, &all);
    type = admit_cancel(old);
    r = aio_futex_wait(aio_word(waiter), wakes, timeout);
    refuse_cancel(type);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    aio_set_inside(true);
    return r;
}

static long sleep_in_ring(const struct timespec *limit, const struct aio_shield *old)
{
    int type;
    long r;

    aio_set_inside(false);
    type = admit_cancel(old);
    r = ouro__ring_sleep(drive.fd, limit, &old->signals);
    refuse_cancel(type);
    aio_set_inside(true);
    return r;
}

/* With a timeout, one round. */
static int lead(struct waiter *waiter, uint32_t wakes, const struct timespec *timeout,
                const struct aio_shield *old)
{
    static const struct timespec patience = { .tv_nsec = LEAD_MS * 1000000L };
    bool hurries = timeout && timeout->tv_sec == 0 && timeout->tv_nsec < patience.tv_nsec;
    unsigned idle = 0;

    while (aio_wakes(waiter) == wakes) {
        long r = sleep_in_ring(hurries ? timeout : &patience, old);
        bool stale = r < 0 && r != -EINTR && r != -ETIME;

        atomic_fetch_add(&drive.leads, 1);
        if (r == -EINTR && (timeout || interrupted(&old->signals)))
            return -EINTR;
        if (drive.leader != waiter) /* the thread has taken over */
            return 0;
        if (r == 0)
            idle = run(0, OURO_NOWAIT) > 0 ? 0 : idle + 1;
        if (stale || idle == IDLE_WAKES || (r == -ETIME && !hurries)) {
            leave_to_thread(stale || idle);
            return 0;
        }
        if (timeout)
            return 0;
    }
    return 0;
}

static int asleep(long r)
{
    return r == -EAGAIN ? 0 : (int)r; /* it was woken before */
}

int aio_sleep(struct waiter *waiter, uint32_t wakes, const struct timespec *timeout,
              const struct aio_shield *old)
{
    return asleep(take_lead(waiter) ? lead(waiter, wakes, timeout, old)
                                    : doze(waiter, wakes, timeout, old));
}

int aio_doze(struct waiter *waiter, uint32_t wakes, const struct timespec *timeout,
             const struct aio_shield *old)
{
    aio_lock();
    if (drive.state == STANDS_BY && !drive.leader)
        serve();
    aio_unlock();
    return asleep(doze(waiter, wakes, timeout, old));
}

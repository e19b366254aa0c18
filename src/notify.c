/* SPDX-License-Identifier: MIT */
/* notify.c: telling a program that its loop wants attention, by eventfd, signal or a call on a
 * thread.
 *
 * A SERVICE loop's thread fires by itself when there are events. The other loops have nobody who
 * looks while the program does something else: a thread watches the loop's descriptor and its next
 * deadline, fires once, and looks again after the loop was run or reaped. */
#include "core.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK ((size_t)256 << 10)

struct ouro__notifier {
    const ouro_loop *loop;
    ouro_notify how;
    pthread_t thread;
    bool runs;
    int control; /* eventfd: look again, or stop */
    int watched; /* the loop's descriptor; -1 in SERVICE loops */
    _Atomic uint32_t stop, fired, wanted;
    _Atomic uint64_t deadline;
};

static void fire(struct ouro__notifier *n)
{
    uint64_t one = 1;
    union sigval value = { .sival_ptr = n->how.value };

    switch (n->how.kind) {
    case OURO_NOTIFY_EVENTFD: sys_write(n->how.fd, &one, sizeof(one)); break;
    case OURO_NOTIFY_SIGNAL: ouro__queue_signal(n->how.signo, value.sival_ptr); break;
    default: n->how.fn(n->how.value); break;
    }
}

/* False: the program has closed it, as those do that close all descriptors. */
static bool poke(struct ouro__notifier *n)
{
    uint64_t one = 1;
    bool ours = ouro__owns(n->loop, n->control);

    if (ours)
        sys_write(n->control, &one, sizeof(one));
    return ours;
}

/* The only place where the thread may be cancelled. */
static long doze(struct pollfd *fds, unsigned count, ouro_time until)
{
    int state;
    long r;

    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    r = sys_ppoll(fds, count, until);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    return r;
}

/* One sleep: until the loop wants to be run, or it was run and things changed. */
static void watch(struct ouro__notifier *n)
{
    struct pollfd fds[2] = { { .fd = n->control, .events = POLLIN },
                             { .fd = n->watched, .events = POLLIN } };
    bool fired = atomic_load(&n->fired);
    ouro_time deadline = fired ? OURO_FOREVER : atomic_load(&n->deadline);
    uint64_t count;
    long r = doze(fds, fired || n->watched < 0 ? 1 : 2, deadline);

    if (r > 0 && fds[0].revents && !ouro__owns(n->loop, n->control)) {
        atomic_store(&n->stop, true); /* nor is there anything else to watch */
        return;
    }
    if (r > 0 && fds[0].revents) {
        sys_read(n->control, &count, sizeof(count));
        if (atomic_exchange(&n->wanted, false) && !atomic_load(&n->stop))
            fire(n);
        return;
    }
    if (!fired && (r > 0 || (r == 0 && deadline != OURO_FOREVER))) {
        atomic_store(&n->fired, true);
        fire(n);
    }
}

static void *notifier_main(void *arg)
{
    struct ouro__notifier *n = arg;
    int state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    while (!atomic_load(&n->stop))
        watch(n);
    return NULL;
}

/* SERVICE: there are events. The service thread calls no user function: THREAD has its own. */
void ouro__notify_fire(ouro_loop *loop)
{
    struct ouro__notifier *n = loop->notifier;

    if (loop->threading != OURO_SERVICE || atomic_exchange(&n->fired, true))
        return;
    if (n->how.kind != OURO_NOTIFY_THREAD) {
        fire(n);
    } else {
        atomic_store(&n->wanted, true);
        poke(n);
    }
}

/* The loop was run or reaped: fire again when there is something new. */
void ouro__notify_rearm(ouro_loop *loop)
{
    struct ouro__notifier *n = loop->notifier;

    if (loop->threading == OURO_SERVICE) {
        atomic_store(&n->fired, false);
        if (ouro__events_ready(loop))
            ouro__notify_fire(loop);
        return;
    }
    atomic_store(&n->deadline, ouro__due(loop));
    atomic_store(&n->fired, false);
    poke(n);
}

static void finish(ouro_loop *loop, struct ouro__notifier *n, int forked)
{
    if (!n)
        return;
    if (n->runs && !forked) {
        atomic_store(&n->stop, true);
        if (!poke(n))
            pthread_cancel(n->thread); /* asleep on what nobody can reach any more */
        pthread_join(n->thread, NULL);
    }
    ouro__drop(loop, n->control);
    ouro__alloc(loop, n, sizeof(*n), 0);
}

void ouro__notify_finish(ouro_loop *loop, int forked)
{
    struct ouro__notifier *n = loop->notifier;

    loop->notifier = NULL;
    finish(loop, n, forked);
}

static int check(const ouro_notify *how)
{
    if (how->size != sizeof(*how))
        return -EINVAL;
    switch (how->kind) {
    case OURO_NOTIFY_NONE: return 0;
    case OURO_NOTIFY_EVENTFD: return how->fd >= 0 ? 0 : -EBADF;
    case OURO_NOTIFY_SIGNAL: return how->signo > 0 && how->signo <= SIGRTMAX ? 0 : -EINVAL;
    case OURO_NOTIFY_THREAD: return how->fn ? 0 : -EFAULT;
    default: return -EINVAL;
    }
}

static int start(ouro_loop *loop, const ouro_notify *how)
{
    struct ouro__notifier *n = ouro__alloc(loop, NULL, 0, sizeof(*n));
    long r = 0;

    if (!n)
        return -ENOMEM;
    memset(n, 0, sizeof(*n));
    n->loop = loop;
    n->how = *how;
    n->watched = -1;
    r = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r < 0)
        goto release;
    n->control = (int)r;
    ouro__own(loop, n->control);
    if (loop->threading != OURO_SERVICE && (r = ouro__host_open(loop)) < 0)
        goto close;
    n->watched = loop->threading == OURO_SERVICE ? -1 : (int)r;
    loop->notifier = n;
    ouro__notify_rearm(loop);
    if (loop->threading != OURO_SERVICE || how->kind == OURO_NOTIFY_THREAD)
        r = sys_thread((void **)&n->thread, notifier_main, n, STACK);
    if (r >= 0) {
        n->runs = loop->threading != OURO_SERVICE || how->kind == OURO_NOTIFY_THREAD;
        return 0;
    }
    loop->notifier = NULL;
close:
    sys_close(n->control);
release:
    ouro__alloc(loop, n, sizeof(*n), 0);
    return (int)r;
}

int ouro_set_notify(ouro_loop *loop, const ouro_notify *notify)
{
    struct ouro__notifier *old;
    int r = notify ? check(notify) : -EINVAL;

    if (r == 0)
        r = ouro__enter(loop);
    if (r < 0)
        return r;
    old = loop->notifier;
    if (old && old->runs && pthread_equal(old->thread, pthread_self())) {
        ouro__leave(loop);
        return -EDEADLK; /* a notification cannot end its own thread */
    }
    loop->notifier = NULL;
    ouro__leave(loop); /* its last call may want the loop's lock */
    finish(loop, old, 0);
    r = ouro__enter(loop);
    if (r < 0)
        return r;
    if (notify->kind != OURO_NOTIFY_NONE)
        r = loop->closing ? -ESHUTDOWN : start(loop, notify);
    ouro__leave(loop);
    return r;
}

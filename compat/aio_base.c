/* SPDX-License-Identifier: MIT */
/* aio_base.c: what the drop-ins share: the loop and when it is opened, the lock, what a fork does
 * to them, and callers that wait. */
#include "aio_base.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    WAITERS = 64,
    NAP_NS = 200 * 1000,
};

struct waiter {
    _Atomic uint32_t woken; /* how often */
    unsigned users;         /* more than one where all others are taken */
};

static struct {
    pthread_mutex_t lock;
    ouro_loop *_Atomic loop;
    uint32_t waiting; /* callers */
    struct waiter waiters[WAITERS];
    volatile bool *_Atomic alive; /* what it points to is false in a child that is a copy still */
    unsigned copies;              /* times that this has begun anew, in this process or before */
    bool watches_forks;
    pid_t owner; /* of the loop */
} base = { .lock = PTHREAD_MUTEX_INITIALIZER };

static volatile bool alive_always; /* where the kernel wipes nothing */

/* Not such as would be allocated at the first use. */
static __thread bool is_inside __attribute__((tls_model("initial-exec")));

bool aio_is_inside(void)
{
    return is_inside;
}

void aio_set_inside(bool inside)
{
    is_inside = inside;
}

void aio_shield(struct aio_shield *ret_old)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &ret_old->signals);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ret_old->cancel);
    is_inside = true;
}

void aio_unshield(const struct aio_shield *old)
{
    is_inside = false;
    pthread_setcancelstate(old->cancel, NULL);
    pthread_sigmask(SIG_SETMASK, &old->signals, NULL);
}

int aio_thread(void *(*main)(void *arg), void *arg, size_t stack)
{
    pthread_attr_t attr;
    pthread_t thread;
    int r = pthread_attr_init(&attr);

    if (r)
        return -r;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (stack)
        pthread_attr_setstacksize(&attr, stack);
    r = pthread_create(&thread, &attr, main, arg);
    pthread_attr_destroy(&attr);
    return -r;
}

/* ---- Forks ---------------------------------------------------------------------------------- */

/* The program's own handlers of pthread_atfork may use POSIX AIO, in an order that nobody knows. So
 * nothing is held while it forks: the child begins anew, whatever state the copy is in, before
 * anything else happens to it. Where the kernel wipes a page for it (4.14), that is also so in
 * handlers that run before forked_child. */
bool aio_is_copy(void)
{
    const volatile bool *alive = atomic_load_explicit(&base.alive, memory_order_acquire);

    return alive && !*alive;
}

unsigned aio_copies(void)
{
    return base.copies;
}

/* Before anything else, so that there is no state that a child could not tell from its own. */
static void watch_forks(void)
{
    volatile bool *none = NULL, *alive = &alive_always;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) == 0)
        alive = page;
    *alive = true;
    if (atomic_compare_exchange_strong(&base.alive, &none, alive) && alive == page)
        return;
    if (page != MAP_FAILED)
        munmap(page, size);
}

/* With all signals blocked, and before there is another thread. */
static void begin_anew(void)
{
    if (base.loop) /* a copy, of which nothing goes on: this releases what it has */
        (void)ouro_close(base.loop, OURO_NOWAIT);
    base.loop = NULL;
    base.copies++;
    base.waiting = 0;
    memset(base.waiters, 0, sizeof(base.waiters));
    aio_drive_forked();
    aio_forked();
    stats_forked();
    pthread_mutex_init(&base.lock, NULL);
    *base.alive = true;
}

/* The child has no requests, and its parent's go on there. */
static void forked_child(void)
{
    struct aio_shield old;

    aio_shield(&old);
    if (base.alive == &alive_always || aio_is_copy())
        begin_anew();
    aio_unshield(&old);
}

void aio_lock(void)
{
    if (!atomic_load_explicit(&base.alive, memory_order_relaxed))
        watch_forks();
    if (aio_is_copy())
        begin_anew();
    pthread_mutex_lock(&base.lock);
}

void aio_unlock(void)
{
    pthread_mutex_unlock(&base.lock);
}

/* ---- The loop ------------------------------------------------------------------------------- */

int aio_watch_forks(void)
{
    int r = 0;

    if (!base.watches_forks) {
        r = -pthread_atfork(NULL, NULL, forked_child);
        base.watches_forks = r == 0;
    }
    return r;
}

static int start(void)
{
    ouro_loop *loop;
    int r;

    aio_prepare();
    r = aio_watch_forks();
    if (r == 0)
        r = aio_drive(&loop);
    if (r == 0) {
        stats_start(loop);
        base.owner = getpid();
        base.loop = loop;
    }
    return r;
}

int aio_start(ouro_loop **ret)
{
    int r = 0;

    *ret = atomic_load_explicit(&base.loop, memory_order_acquire);
    if (*ret && !aio_is_copy())
        return 0;
    aio_lock();
    if (!base.loop)
        r = start();
    *ret = base.loop;
    aio_unlock();
    return r;
}

void aio_drain(bool (*is_left)(void))
{
    const struct timespec nap = { .tv_nsec = NAP_NS };
    struct aio_shield old;

    /* A child of vfork(2) that ends has our memory, and nothing of ours to finish. */
    if (!base.loop || aio_is_copy() || base.owner != getpid() || is_inside)
        return;
    aio_shield(&old);
    aio_lock();
    while (is_left()) {
        aio_unlock();
        aio_drive_reap();
        nanosleep(&nap, NULL);
        aio_lock();
    }
    aio_unlock();
    aio_unshield(&old);
}

/* ---- Waiting -------------------------------------------------------------------------------- */

uint64_t aio_waiter_bit(const struct waiter *waiter)
{
    return (uint64_t)1 << (waiter - base.waiters);
}

struct waiter *aio_waiter_new(void)
{
    unsigned i = 0;

    while (i < WAITERS - 1 && base.waiters[i].users)
        i++;
    base.waiters[i].users++;
    base.waiting++;
    return &base.waiters[i];
}

bool aio_waits_alone(const struct waiter *waiter)
{
    return waiter->users == 1;
}

static void wake_waiter(struct waiter *waiter)
{
    atomic_fetch_add(&waiter->woken, 1);
    if (!aio_drive_is_led_by(waiter))
        aio_futex_wake(&waiter->woken);
}

/* Where callers drive the loop, it is another one's turn now. */
void aio_waiter_free(struct waiter *waiter)
{
    if (!waiter->users) /* taken before a fork, freed in the child */
        return;
    waiter->users--;
    base.waiting--;
    if (aio_drive_leave(waiter) && base.waiting) {
        for (waiter = base.waiters; !waiter->users; waiter++)
            continue;
        wake_waiter(waiter);
    }
}

uint32_t aio_wakes(const struct waiter *waiter)
{
    return atomic_load(&waiter->woken);
}

_Atomic uint32_t *aio_word(struct waiter *waiter)
{
    return &waiter->woken;
}

void aio_wake(uint64_t waiters)
{
    for (uint64_t left = waiters; left; left &= left - 1) {
        struct waiter *waiter = &base.waiters[__builtin_ctzll(left)];

        if (waiter->users)
            wake_waiter(waiter);
    }
}

/* SPDX-License-Identifier: MIT */
/* libaio_events.c: io_getevents: events from the kernel's ring, and those of ours that have not
 * been put there yet.
 *
 * Where nothing of ours is under way the kernel does it. Else who waits either drives our loop,
 * which is the short way while the kernel itself has nothing to do for this context; or sleeps in
 * the kernel, and our thread puts what is over into the ring. */
#include "libaio_dropin.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "libaio_pure.h"

enum {
    LEAD_MS = 2,   /* so long does a caller wait for completions of ours alone */
    SLICE_MS = 10, /* after which it looks again, where others may have taken what it waits for */
    SECOND_NS = 1000 * 1000 * 1000,
    SIGNALS_SIZE = 8, /* of the kernel's set */
};

/* What io_pgetevents wants. */
struct laio_mask {
    const sigset_t *set;
    size_t size;
};

struct fetch {
    struct laio_context *context;
    aio_context_t name;
    struct io_event *events;
    long min, most, got;
    const sigset_t *mask;
    const struct timespec *timeout; /* NULL: none */
    uint64_t until;
    bool polls;       /* the timeout is nothing */
    bool interrupted; /* by a handler */
    bool rests;       /* the context was destroyed meanwhile */
    unsigned copies;  /* by aio_copies, when it began */
    bool copied;      /* a handler has forked, and this is the child: nothing here is its own */
    long error;
};

/* The completion of an operation interrupts who has submitted it, and io_getevents would say EINTR.
 * io_pgetevents says it for handlers of signals alone. */
static long kernel_getevents(aio_context_t name, long min, long most, struct io_event *events,
                             const struct timespec *timeout, const sigset_t *mask)
{
    struct laio_mask with = { mask, SIGNALS_SIZE };
    long r = LAIO_KERNEL(SYS_io_pgetevents, name, min, most, events, timeout, mask ? &with : NULL);

    return r == -ENOSYS && !mask ? LAIO_KERNEL(SYS_io_getevents, name, min, most, events, timeout)
                                 : r;
}

/* ---- Time ----------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Nanoseconds of 2^63 or more are for ever. */
static uint64_t length_of(const struct timespec *timeout)
{
    const uint64_t most = INT64_MAX / 4;

    if ((uint64_t)timeout->tv_sec > most / SECOND_NS || (uint64_t)timeout->tv_nsec > most)
        return most;
    return (uint64_t)timeout->tv_sec * SECOND_NS + (uint64_t)timeout->tv_nsec;
}

static uint64_t time_left(const struct fetch *fetch)
{
    uint64_t now = now_ns();

    return fetch->polls || now >= fetch->until ? 0 : fetch->until - now;
}

static struct timespec as_timespec(uint64_t ns)
{
    return (struct timespec){ .tv_sec = (time_t)(ns / SECOND_NS),
                              .tv_nsec = (long)(ns % SECOND_NS) };
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- What is there -------------------------------------------------------------------------- */

/* With the lock. What is over and in no ring; what a descriptor is told of is told by the ring. */
static void take_ours(struct fetch *fetch)
{
    struct laio_context *context = fetch->context;
    struct laio_request **at = &context->first, *before = NULL;

    while (*at && fetch->got < fetch->most) {
        struct laio_request *request = *at;

        if (request->hold >= 0 && !request->stuck) {
            before = request;
            at = &request->next;
            continue;
        }
        fetch->events[fetch->got++] = (struct io_event){
            .data = request->copy.aio_data,
            .obj = (uintptr_t)request->at,
            .res = request->res,
        };
        *at = request->next;
        if (context->last == request)
            context->last = before;
        laio_delivered(request);
        atomic_fetch_add(&context->calls, 1);
    }
}

static void add_theirs(struct fetch *fetch, long count)
{
    atomic_fetch_add(&fetch->context->fetched, (uint64_t)count);
    atomic_fetch_add(&fetch->context->calls, (uint32_t)count);
    fetch->got += laio_correct(fetch->context, fetch->events + fetch->got, count);
}

static void take_theirs(struct fetch *fetch)
{
    const struct timespec none = { 0 };
    long r;

    if (fetch->got == fetch->most || !laio_unread(fetch->context))
        return;
    r = kernel_getevents(fetch->name, 0, fetch->most - fetch->got, fetch->events + fetch->got,
                         &none, NULL);
    if (r < 0)
        fetch->error = r;
    else
        add_theirs(fetch, r);
}

static bool can_store(const struct fetch *fetch)
{
    const long first = 4096 / sizeof(struct io_event);
    long count = fetch->most < first ? fetch->most : first;

    return count == 0 || laio_writable(fetch->events, (size_t)count * sizeof(*fetch->events));
}

/* With the lock. */
static void take_from_pure(struct fetch *fetch)
{
    long r = laio_pure_read(fetch->context, fetch->events + fetch->got, fetch->most - fetch->got);

    if (r < 0)
        fetch->error = r;
    else
        fetch->got += r;
}

static void take_all(struct fetch *fetch)
{
    struct laio_context *context = fetch->context;

    aio_lock();
    if (context->pure)
        take_from_pure(fetch);
    else if (context->first && !can_store(fetch))
        fetch->error = -EFAULT;
    else
        take_ours(fetch);
    aio_unlock();
    if (!context->pure && fetch->error == 0)
        take_theirs(fetch);
}

/* ---- Waiting -------------------------------------------------------------------------------- */

/* The kernel does files inside io_submit, so that events are there at once: who asks for none, and
 * has time, waits for the first of them. */
static long wanted(const struct fetch *fetch)
{
    if (fetch->min > 0 || fetch->polls)
        return fetch->min;
    return fetch->most > 0 && fetch->context->prompt ? 1 : 0;
}

static bool is_enough(const struct fetch *fetch)
{
    return fetch->got >= wanted(fetch) || fetch->error || fetch->interrupted ||
           atomic_load(&fetch->context->dying) || time_left(fetch) == 0;
}

/* A signal that the mask lets through is there already: it is handled, and ends the wait. */
static bool lets_through(const struct fetch *fetch)
{
    sigset_t pending, all;
    bool some = false;

    if (!fetch->mask || sigpending(&pending) < 0)
        return false;
    for (int signo = 1; signo < NSIG && !some; signo++)
        some = sigismember(&pending, signo) == 1 && sigismember(fetch->mask, signo) == 0;
    if (some) {
        aio_set_inside(false);
        pthread_sigmask(SIG_SETMASK, fetch->mask, &all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
        aio_set_inside(true);
    }
    return some;
}

/* Behind a sleep, before anything else. */
static bool is_copied(struct fetch *fetch)
{
    fetch->copied = aio_is_copy() || aio_copies() != fetch->copies;
    if (fetch->copied)
        fetch->error = -EINTR;
    return fetch->copied;
}

/* For requests of ours alone; false: none came. Who destroys the context meanwhile need not wait
 * for this thread: it may be a handler that has interrupted it here. */
static bool wait_for_ours(struct fetch *fetch, uint64_t most_ns, const struct aio_shield *old)
{
    struct laio_context *context = fetch->context;
    struct timespec limit = as_timespec(least(time_left(fetch), most_ns));
    struct aio_shield during = *old;
    struct waiter *waiter;
    uint32_t wakes;
    bool news;
    int r = 0;

    if (lets_through(fetch)) {
        fetch->interrupted = true;
        return true;
    }
    if (fetch->mask)
        during.signals = *fetch->mask;
    during.cancel = PTHREAD_CANCEL_DISABLE; /* it is no cancellation point */
    aio_lock();
    waiter = aio_waiter_new();
    context->waiters |= aio_waiter_bit(waiter);
    context->waiting++;
    wakes = aio_wakes(waiter);
    news = context->first || atomic_load(&context->dying) || laio_unread(context);
    aio_unlock();
    if (!news) {
        laio_rest(context);
        r = laio_sleep(context, waiter, wakes, &limit, &during);
        if (is_copied(fetch))
            return true;
        fetch->rests = !laio_resume(context);
    }
    aio_lock();
    if (--context->waiting == 0)
        context->waiters = 0;
    news = news || fetch->rests || aio_wakes(waiter) != wakes;
    aio_waiter_free(waiter);
    aio_unlock();
    fetch->interrupted = r == -EINTR;
    return news;
}

/* With what is only to be told by the ring, too. */
static bool has_ours(struct laio_context *context)
{
    bool has;

    aio_lock();
    has = context->first;
    aio_unlock();
    return has;
}

static void wait_in_kernel(struct fetch *fetch, const struct aio_shield *old)
{
    struct timespec limit = as_timespec(time_left(fetch));
    bool slices = fetch->min == 0, forever = !fetch->timeout && !slices;
    struct aio_shield now;
    long r;

    if (slices)
        limit = as_timespec(least(time_left(fetch), SLICE_MS * 1000000ull));
    atomic_fetch_add(&fetch->context->sleepers, 1);
    if (has_ours(fetch->context)) {
        atomic_fetch_sub(&fetch->context->sleepers, 1);
        return;
    }
    laio_rest(fetch->context);
    aio_unshield(old);
    r = kernel_getevents(fetch->name, 1, fetch->most - fetch->got, /* one by one: a handler shows */
                         fetch->events + fetch->got, forever ? NULL : &limit, fetch->mask);
    aio_shield(&now);
    if (is_copied(fetch))
        return;
    atomic_fetch_sub(&fetch->context->sleepers, 1);
    fetch->rests = !laio_resume(fetch->context);
    if (r > 0)
        add_theirs(fetch, r);
    else if (r == -EINTR)
        fetch->interrupted = true;
    else if (r < 0)
        fetch->error = r;
}

/* The kernel has nothing of this context's to do, and no signal mask makes the wait another one. */
static bool may_drive(const struct fetch *fetch)
{
    struct laio_context *context = fetch->context;

    return context->running && !fetch->mask && laio_used(context) == laio_unread(context);
}

/* Somebody else may have to deliver what is left. */
static void leave_rest(struct laio_context *context)
{
    bool left;

    aio_lock();
    left = context->first && !context->waiting;
    if (left && laio_is_called(context))
        laio_queue(context);
    aio_unlock();
    if (left && !laio_is_called(context))
        laio_deliver(context);
}

static long result_of(const struct fetch *fetch)
{
    if (fetch->got > 0)
        return fetch->got;
    if (fetch->error)
        return fetch->error;
    if (atomic_load(&fetch->context->dying))
        return -EINVAL;
    return fetch->interrupted ? -EINTR : 0;
}

static long fetch_events(struct fetch *fetch)
{
    struct aio_shield old;

    aio_shield(&old);
    take_all(fetch);
    while (!is_enough(fetch)) {
        if (fetch->context->pure)
            (void)wait_for_ours(fetch, UINT64_MAX, &old);
        else if (!may_drive(fetch) || !wait_for_ours(fetch, LEAD_MS * 1000000ull, &old))
            wait_in_kernel(fetch, &old);
        if (fetch->rests || fetch->copied)
            break;
        take_all(fetch);
    }
    if (!fetch->context->pure && !fetch->rests && !fetch->copied)
        leave_rest(fetch->context);
    aio_unshield(&old);
    return result_of(fetch);
}

/* Nothing of ours was there before, so it is the kernel's; but it may be there by now. False: there
 * is more to do. */
static bool ask_kernel(struct fetch *fetch, long *ret)
{
    const struct laio_ring *ring = fetch->context->ring;
    struct aio_shield old;

    *ret = 0;
    if (fetch->polls && ring->head == ring->tail)
        return true;
    atomic_fetch_add(&fetch->context->sleepers, 1);
    if (atomic_load(&fetch->context->special)) { /* by now */
        atomic_fetch_sub(&fetch->context->sleepers, 1);
        return false;
    }
    *ret = kernel_getevents(fetch->name, fetch->min, fetch->most, fetch->events, fetch->timeout,
                            fetch->mask);
    if (is_copied(fetch))
        return true;
    atomic_fetch_sub(&fetch->context->sleepers, 1);
    if (*ret <= 0)
        return true;
    if (!atomic_load(&fetch->context->special)) {
        atomic_fetch_add(&fetch->context->fetched, (uint64_t)*ret);
        atomic_fetch_add(&fetch->context->calls, (uint32_t)*ret);
        return true;
    }
    aio_shield(&old);
    add_theirs(fetch, *ret);
    *ret = fetch->got;
    aio_unshield(&old);
    return fetch->got >= fetch->min;
}

static const struct timespec *sensible(const struct timespec *timeout)
{
    static const struct timespec none;

    return timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0) ? &none : timeout;
}

int laio_getevents(aio_context_t name, long min, long count, struct io_event *events,
                   const struct timespec *timeout, const sigset_t *mask)
{
    struct laio_context *context = laio_find(name);
    struct fetch fetch = { context, name, events, min, count, 0, mask, .until = UINT64_MAX };
    bool plain;
    long r;

    if (!context)
        return (int)kernel_getevents(name, min, count, events, timeout, mask);
    fetch.copies = aio_copies();
    fetch.timeout = timeout = sensible(timeout);
    fetch.polls = timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
    plain = !context->pure && !atomic_load(&context->special);
    if (!plain && (min < 0 || count < 0 || min > count))
        return -EINVAL;
    if (timeout && !fetch.polls)
        fetch.until = now_ns() + length_of(timeout);
    if (plain && ask_kernel(&fetch, &r))
        return (int)r;
    if (!laio_enter(context, name))
        return -EINVAL;
    r = fetch_events(&fetch);
    if (fetch.rests)
        laio_unuse(context);
    else if (!fetch.copied)
        laio_leave(context);
    return (int)r;
}

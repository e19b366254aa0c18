/* SPDX-License-Identifier: MIT */
/* aio_request.c: the loop that runs requests, their memory, and who waits for them. */
#include "posix_aio.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CHUNK = 256, /* requests that get their memory together */
    CHUNKS = 2048,
    WAITERS = 64,
    LENGTH = 2, /* of a transfer: which of ouro_op.arg */
};

struct waiter {
    _Atomic uint32_t woken; /* how often */
    unsigned users;         /* more than one where all others are taken */
};

static struct {
    pthread_mutex_t lock;
    ouro_loop *_Atomic loop;
    struct request *chunks[CHUNKS];
    struct request *free;
    uint32_t count;            /* requests there is memory for */
    uint32_t busy;             /* in use */
    uint32_t waiting;          /* callers */
    _Atomic uint32_t canceled; /* requests, of which the program is not told yet */
    struct waiter waiters[WAITERS];
    volatile bool *_Atomic alive; /* what it points to is false in a child that is a copy still */
    bool watches_forks;
    bool strong; /* OURO_AIO_CANCEL */
} aio = { .lock = PTHREAD_MUTEX_INITIALIZER };

static volatile bool alive_always; /* where the kernel wipes nothing */

void aio_shield(struct aio_shield *ret_old)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &ret_old->signals);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ret_old->cancel);
}

void aio_unshield(const struct aio_shield *old)
{
    pthread_setcancelstate(old->cancel, NULL);
    pthread_sigmask(SIG_SETMASK, &old->signals, NULL);
}

/* ---- Forks ---------------------------------------------------------------------------------- */

/* The program's own handlers of pthread_atfork may use POSIX AIO, in an order that nobody knows. So
 * nothing is held while it forks: the child begins anew, whatever state the copy is in, before
 * anything else happens to it. Where the kernel wipes a page for it (4.14), that is also so in
 * handlers that run before forked_child. */
static bool is_copy(void)
{
    const volatile bool *alive = atomic_load_explicit(&aio.alive, memory_order_acquire);

    return alive && !*alive;
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
    if (atomic_compare_exchange_strong(&aio.alive, &none, alive) && alive == page)
        return;
    if (page != MAP_FAILED)
        munmap(page, size);
}

/* With all signals blocked, and before there is another thread. */
static void begin_anew(void)
{
    if (aio.loop) /* a copy, of which nothing goes on: this releases what it has */
        (void)ouro_close(aio.loop, OURO_NOWAIT);
    aio.loop = NULL;
    aio.free = NULL;
    aio.busy = 0;
    aio.waiting = 0;
    aio.canceled = 0;
    for (uint32_t i = 0; i < aio.count; i++) {
        struct request *request = &aio.chunks[i / CHUNK][i % CHUNK];

        memset(request, 0, sizeof(*request));
        request->number = i + 1;
        request->next = aio.free;
        aio.free = request;
    }
    memset(aio.waiters, 0, sizeof(aio.waiters));
    aio_drive_forked();
    aio_notify_forked();
    stats_forked();
    pthread_mutex_init(&aio.lock, NULL);
    *aio.alive = true;
}

/* The child has no requests, and its parent's go on there. */
static void forked_child(void)
{
    struct aio_shield old;

    aio_shield(&old);
    if (aio.alive == &alive_always || is_copy())
        begin_anew();
    aio_unshield(&old);
}

void aio_lock(void)
{
    if (!atomic_load_explicit(&aio.alive, memory_order_relaxed))
        watch_forks();
    if (is_copy())
        begin_anew();
    pthread_mutex_lock(&aio.lock);
}

void aio_unlock(void)
{
    pthread_mutex_unlock(&aio.lock);
}

/* ---- The loop ------------------------------------------------------------------------------- */

static int start(void)
{
    ouro_config config = { .size = sizeof(config), .threading = OURO_SHARED };
    const char *cancel = secure_getenv("OURO_AIO_CANCEL");
    ouro_loop *loop;
    int r = 0;

    stats_open(STATS_POSIX_AIO);
    aio.strong = cancel && strcmp(cancel, "strong") == 0;
    if (!aio.watches_forks) {
        r = -pthread_atfork(NULL, NULL, forked_child);
        aio.watches_forks = r == 0;
    }
    if (r == 0)
        r = ouro_open(&config, &loop);
    if (r == 0 && (r = aio_drive(loop)) < 0)
        (void)ouro_close(loop, OURO_NOWAIT);
    if (r == 0) {
        stats_start(loop);
        aio.loop = loop;
    }
    return r;
}

bool aio_cancels_strongly(void)
{
    return aio.strong;
}

int aio_start(ouro_loop **ret)
{
    int r = 0;

    *ret = atomic_load_explicit(&aio.loop, memory_order_acquire);
    if (*ret && !is_copy())
        return 0;
    aio_lock();
    if (!aio.loop)
        r = start();
    *ret = aio.loop;
    aio_unlock();
    return r;
}

/* ---- Requests ------------------------------------------------------------------------------- */

static bool more_requests(void)
{
    size_t size = CHUNK * sizeof(struct request);
    struct request *chunk;

    if (aio.count == CHUNK * CHUNKS)
        return false;
    chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return false;
    aio.chunks[aio.count / CHUNK] = chunk;
    for (unsigned i = CHUNK; i-- > 0;) {
        chunk[i].number = aio.count + i + 1;
        chunk[i].next = aio.free;
        aio.free = &chunk[i];
    }
    atomic_signal_fence(memory_order_seq_cst); /* a fork here finds the memory that it counts */
    aio.count += CHUNK;
    return true;
}

struct request *aio_take(void)
{
    struct request *request;

    if (!aio.free && !more_requests())
        return NULL;
    request = aio.free;
    aio.free = request->next;
    aio.busy++;
    aio_drive_busy();
    request->used = true;
    request->over = request->failed = request->waited = false;
    request->stream = request->steps = false;
    request->canceled = request->kept = false;
    request->holders = 1;
    request->block = NULL;
    request->list = NULL;
    request->waiters = 0;
    request->begun = 0;
    request->left = 0;
    request->event.sigev_notify = SIGEV_NONE;
    return request;
}

void aio_give(struct request *request)
{
    if (--request->holders)
        return;
    if (request->kept)
        aio_drive_kept();
    request->used = false;
    request->block = NULL;
    request->next = aio.free;
    aio.free = request;
    aio.busy--;
}

void aio_keep(struct request *request)
{
    request->kept = true;
    aio_drive_keep();
}

static struct request *at(uint32_t number)
{
    return &aio.chunks[(number - 1) / CHUNK][(number - 1) % CHUNK];
}

/* What the block remembers may be garbage: the request must agree. */
struct request *aio_find(const struct aiocb *block)
{
    uintptr_t number = (uintptr_t)block->__next_prio;
    struct request *request;

    if (number == 0 || number > aio.count)
        return NULL;
    request = at((uint32_t)number);
    return request->used && !request->over && request->block == block ? request : NULL;
}

void aio_prefetch(const struct aiocb *block)
{
    uintptr_t number = (uintptr_t)block->__next_prio;

    if (number && number <= aio.count)
        __builtin_prefetch(&at((uint32_t)number)->block);
}

bool aio_busy(void)
{
    return aio.busy;
}

struct request *aio_next(uint32_t number)
{
    for (; number <= aio.count; number++) {
        struct request *request = at(number);

        if (request->used && !request->over && request->block)
            return request;
    }
    return NULL;
}

/* ---- Waiting -------------------------------------------------------------------------------- */

static uint64_t bit_of(const struct waiter *waiter)
{
    return (uint64_t)1 << (waiter - aio.waiters);
}

struct waiter *aio_waiter_new(void)
{
    unsigned i = 0;

    while (i < WAITERS - 1 && aio.waiters[i].users)
        i++;
    aio.waiters[i].users++;
    aio.waiting++;
    return &aio.waiters[i];
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
    aio.waiting--;
    if (aio_drive_leave(waiter) && aio.waiting) {
        for (waiter = aio.waiters; !waiter->users; waiter++)
            continue;
        wake_waiter(waiter);
    }
}

/* The mark stays when the wait is over. If somebody else has the waiter by then, it looks once for
 * nothing, which costs less than to go through a long list again. */
void aio_await(struct waiter *waiter, struct request *request)
{
    request->waiters |= bit_of(waiter);
}

uint32_t aio_wakes(const struct waiter *waiter)
{
    return atomic_load(&waiter->woken);
}

_Atomic uint32_t *aio_word(struct waiter *waiter)
{
    return &waiter->woken;
}

/* With the lock. */
static void wake(struct request *request)
{
    for (uint64_t left = request->waiters; left; left &= left - 1) {
        struct waiter *waiter = &aio.waiters[__builtin_ctzll(left)];

        if (waiter->users)
            wake_waiter(waiter);
    }
    request->waiters = 0;
}

/* ---- Cancelled requests --------------------------------------------------------------------- */

void aio_mark_canceled(struct request *request)
{
    if (!request->canceled)
        aio.canceled++;
    request->canceled = true;
}

/* All of them, not only the caller's: none takes long. */
void aio_await_canceled(void)
{
    uint32_t left;

    while ((left = atomic_load(&aio.canceled)))
        (void)aio_futex_wait(&aio.canceled, left, NULL);
}

/* With the lock: the program has been told of it. */
static void canceled_is_over(struct request *request)
{
    if (!request->canceled)
        return;
    aio.canceled--;
    aio_futex_wake(&aio.canceled);
}

/* ---- The end -------------------------------------------------------------------------------- */

bool aio_tells(const struct request *request)
{
    return request->event.sigev_notify == SIGEV_SIGNAL ||
           request->event.sigev_notify == SIGEV_THREAD;
}

/* With the lock. Waiters are woken when the notification was sent, as aio_cancel promises. */
static void end(struct request *request)
{
    if (aio_tells(request)) {
        aio_unlock();
        aio_notify(request);
        aio_lock();
    }
    wake(request);
    canceled_is_over(request);
    aio_give(request);
}

/* With the lock. */
static void list_done(struct request *list, bool failed)
{
    list->failed |= failed;
    if (--list->left)
        return;
    __atomic_store_n(&list->over, true, __ATOMIC_RELEASE);
    if (list->waited)
        wake(list); /* who waits gives it back */
    else
        end(list);
}

void aio_list_done(struct request *list)
{
    aio_lock();
    list_done(list, false);
    aio_unlock();
}

/* With the lock. */
static void finish(struct request *request, int64_t res)
{
    struct aiocb *block = request->block;
    struct request *list = request->list;

    request->over = true;
    block->__return_value = res < 0 ? -1 : (ssize_t)res;
    /* From here on the block is the program's. */
    __atomic_store_n(&block->__error_code, res < 0 ? (int)-res : 0, __ATOMIC_RELEASE);
    end(request);
    if (list)
        list_done(list, res < 0);
}

/* Before the program sees that it is over. */
static void count_end(const struct request *request, int64_t res, uint64_t now)
{
    const ouro_op *op = &request->op;
    unsigned kind = op->code == OURO_READ    ? STATS_READ
                    : op->code == OURO_WRITE ? STATS_WRITE
                                             : STATS_FSYNC;

    if (request->begun)
        stats_end(kind, op->arg[LENGTH], res, now - request->begun);
}

static void count_ends(const ouro_event *events, unsigned count)
{
    uint64_t now = stats_now();

    for (unsigned i = 0; i < count; i++)
        count_end(events[i].op->user, events[i].res, now);
    stats_ended_by(stats_ender(), count);
}

void aio_finish(struct request *request, int64_t res)
{
    if (stats_on && request->begun) {
        count_end(request, res, stats_now());
        stats_ended_by(STATS_AT_ONCE, 1);
    }
    aio_lock();
    finish(request, res);
    aio_unlock();
}

void aio_finish_all(const ouro_event *events, unsigned count)
{
    if (stats_on)
        count_ends(events, count);
    aio_lock();
    for (unsigned i = 0; i < count; i++)
        finish(events[i].op->user, events[i].res);
    aio_unlock();
}

/* SPDX-License-Identifier: MIT */
/* aio_request.c: requests, their memory, and their end. */
#include "posix_aio.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
    CHUNK = 256, /* requests that get their memory together */
    CHUNKS = 2048,
    LENGTH = 2, /* of a transfer: which of ouro_op.arg */
};

static struct {
    struct request *chunks[CHUNKS];
    struct request *free;
    uint32_t count;            /* requests there is memory for */
    uint32_t busy;             /* in use */
    _Atomic uint32_t canceled; /* requests, of which the program is not told yet */
    uint32_t drained;          /* requests for which exit(3) need not wait any more */
    bool strong;               /* OURO_AIO_CANCEL */
} aio;

/* ---- The process ---------------------------------------------------------------------------- */

void aio_prepare(void)
{
    const char *cancel = secure_getenv("OURO_AIO_CANCEL");

    stats_open(STATS_POSIX_AIO);
    aio.strong = cancel && strcmp(cancel, "strong") == 0;
}

bool aio_cancels_strongly(void)
{
    return aio.strong;
}

ouro_time aio_patience(bool *ret_parks)
{
    *ret_parks = false;
    return OURO_S;
}

/* The child has no requests. */
void aio_forked(void)
{
    aio.free = NULL;
    aio.busy = 0;
    aio.drained = 0;
    aio.canceled = 0;
    for (uint32_t i = 0; i < aio.count; i++) {
        struct request *request = &aio.chunks[i / CHUNK][i % CHUNK];

        memset(request, 0, sizeof(*request));
        request->number = i + 1;
        request->next = aio.free;
        aio.free = request;
    }
    aio_notify_forked();
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* Who needs more than the first ones has their pages made together. */
static bool more_requests(void)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (aio.count ? MAP_POPULATE : 0);
    size_t size = CHUNK * sizeof(struct request);
    struct request *chunk;

    if (aio.count == CHUNK * CHUNKS)
        return false;
    chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
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

/* Threads of the C library's would go on with them. */
bool aio_may_end(void)
{
    bool may;

    aio_lock();
    may = !aio.busy;
    aio_unlock();
    return may;
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

/* The mark stays when the wait is over. If somebody else has the waiter by then, it looks once for
 * nothing, which costs less than to go through a long list again. */
void aio_await(struct waiter *waiter, struct request *request)
{
    request->waiters |= aio_waiter_bit(waiter);
}

/* With the lock. */
static void wake(struct request *request)
{
    if (request->waiters)
        aio_wake(request->waiters);
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

/* ---- The end of the process ----------------------------------------------------------------- */

/* An eventfd, of which the offset does not tell, may be full. */
static bool may_wait_for_ever(const struct request *request)
{
    struct stat st;

    return request->stream ||
           (fstat(request->fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode));
}

/* A sync may have to wait for a stream's read, and nobody has seen it end. */
static bool is_to_be_written(const struct request *request)
{
    return request->used && request->block && !request->over && request->op.code == OURO_WRITE &&
           !may_wait_for_ever(request);
}

/* What came later is not looked at: the last one may belong to a thread that goes on. */
static bool writes_are_left(void)
{
    while (aio.drained < aio.count && !is_to_be_written(at(aio.drained + 1)))
        aio.drained++;
    return aio.drained < aio.count;
}

/* exit(3) loses nothing that is on its way to a file. */
static void __attribute__((destructor)) drain_at_exit(void)
{
    aio_drain(writes_are_left);
}

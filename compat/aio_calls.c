/* SPDX-License-Identifier: MIT */
/* aio_calls.c: the functions of <aio.h>, as POSIX and glibc have them. */
#include "posix_aio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    AHEAD = 8,               /* in a list: so many blocks before its turn one is loaded */
    PRIORITIES = 20,         /* AIO_PRIO_DELTA_MAX */
    LARGE = 64 * 1024,       /* bytes that no caller shall wait to be copied */
    BATCH = 240,             /* of a list that are submitted at once: a ring but for a few */
    LIO_FSYNC = LIO_NOP + 1, /* ours: what a request may be besides */
    LIO_FDATASYNC,
};

static const size_t ADDRESSES = (size_t)1 << 62; /* there are fewer, so no buffer is as large */

static int fail(int error)
{
    errno = error;
    return -1;
}

/* ---- Submitting ----------------------------------------------------------------------------- */

/* Pipes, sockets and terminals: in order, for each direction, whatever the offset. */
static bool is_stream(int fd)
{
    return lseek(fd, 0, SEEK_CUR) < 0 && errno == ESPIPE;
}

/* What no bytes are refused for, of a directory or an eventfd: io_uring has no error for that. */
static int of_nothing(const struct aiocb *block, bool writes)
{
    void *buf = (void *)(uintptr_t)block->aio_buf;
    off_t offset = block->aio_offset;
    int fd = block->aio_fildes;
    ssize_t r = writes ? pwrite(fd, buf, 0, offset) : pread(fd, buf, 0, offset);

    if (r < 0 && errno == ESPIPE)
        r = writes ? write(fd, buf, 0) : read(fd, buf, 0);
    return r < 0 ? -errno : 0;
}

/* What pread(2) and pwrite(2) say before they do anything: 0 or -errno. The operation itself finds
 * what is left: that a small read is of a descriptor that is not for reading. */
static int look_at(const struct aiocb *block, bool writes, int flags, bool stream)
{
    size_t count = block->aio_nbytes;

    if (!stream && block->aio_offset < 0)
        return -EINVAL;
    if (flags < 0 || flags & O_PATH || (flags & O_ACCMODE) == (writes ? O_RDONLY : O_WRONLY))
        return -EBADF;
    if (count > SSIZE_MAX)
        return -EINVAL;
    if (count > ADDRESSES)
        return -EFAULT;
    return count == 0 && !stream ? of_nothing(block, writes) : 0;
}

/* Prepares the operation: 0 or -errno, which is the request's result then. */
static int prepare_transfer(struct request *request, const struct aiocb *block, bool writes)
{
    void *const nowhere = (void *)1; // NOLINT(performance-no-int-to-ptr)
    ouro_op *op = &request->op;
    bool large = block->aio_nbytes >= LARGE, looks = writes || large || block->aio_nbytes == 0;
    int fd = block->aio_fildes, flags = looks ? fcntl(fd, F_GETFL) : O_RDWR, r;
    void *buf = (void *)(uintptr_t)block->aio_buf;
    bool stream = is_stream(fd);
    int64_t offset = stream ? 0 : block->aio_offset;

    request->stream = stream;
    r = look_at(block, writes, flags, stream);
    if (r < 0)
        return r;
    if (!buf) /* the system fails for it where it looks there: not at the end of a file */
        buf = nowhere;
    if (writes)
        ouro_prep_write(op, fd, buf, block->aio_nbytes, offset);
    else
        ouro_prep_read(op, fd, buf, block->aio_nbytes, offset);
    op->flags = OURO_FDMODE;
    if (stream || (writes && flags & O_APPEND))
        op->flags |= OURO_SERIAL;
    if (large && !(flags & O_DIRECT) && !stream)
        op->flags |= OURO_BG;
    request->steps = op->flags & (OURO_SERIAL | OURO_BG);
    return 0;
}

static bool has_priority(const struct aiocb *block)
{
    return block->aio_reqprio >= 0 && block->aio_reqprio <= PRIORITIES;
}

static int prepare_op(struct request *request, const struct aiocb *block, int what)
{
    ouro_op *op = &request->op;

    switch (what) {
    case LIO_READ:
    case LIO_WRITE: return prepare_transfer(request, block, what == LIO_WRITE);
    case LIO_FSYNC: ouro_prep_fsync(op, block->aio_fildes); break;
    case LIO_FDATASYNC: ouro_prep_fdatasync(op, block->aio_fildes); break;
    default: return -EINVAL;
    }
    op->flags = OURO_BARRIER;
    request->steps = true;
    return 0;
}

static void count_begin(struct request *request, const struct aiocb *block, int what)
{
    unsigned kind = what == LIO_READ ? STATS_READ : what == LIO_WRITE ? STATS_WRITE : STATS_FSYNC;

    if (what < LIO_READ) /* no such thing */
        return;
    stats_begin(kind, block->aio_nbytes, request->list);
    request->begun = stats_now();
}

/* 0, or -errno, which is the request's result. */
static int prepare(struct request *request, const struct aiocb *block, int what)
{
    int r = prepare_op(request, block, what);

    if (stats_on)
        count_begin(request, block, what);
    if (r == 0 && (request->steps || aio_tells(request))) {
        aio_lock();
        aio_keep(request);
        aio_unlock();
    }
    return r;
}

/* NULL: no memory. */
static struct request *new_request(struct aiocb *block, const struct sigevent *event,
                                   struct request *list)
{
    struct request *request;

    aio_lock();
    request = aio_take();
    if (request) {
        request->block = block;
        request->fd = block->aio_fildes;
        request->list = list;
        if (event)
            request->event = *event;
        if (list)
            list->left++;
        block->__return_value = 0;
        block->__next_prio = (struct aiocb *)(uintptr_t)request->number;
        __atomic_store_n(&block->__error_code, EINPROGRESS, __ATOMIC_RELAXED);
    }
    aio_unlock();
    if (request) {
        request->op.cb = NULL;
        request->op.user = request;
    }
    return request;
}

/* It is not queued at all. */
static int refuse(struct aiocb *block, int error)
{
    block->__return_value = -1;
    __atomic_store_n(&block->__error_code, error, __ATOMIC_RELEASE);
    return fail(error);
}

/* One request: what it fails for is in its block, and the result is 0, but for what the system has
 * no more of. */
static int begin_one(struct aiocb *block, int what)
{
    struct request *request = NULL;
    ouro_loop *loop;
    struct aio_shield old;
    int saved = errno, r;

    if (aio_is_inside())
        return refuse(block, EAGAIN);
    aio_shield(&old);
    r = aio_start(&loop);
    if (r == 0)
        request = new_request(block, &block->aio_sigevent, NULL);
    if (request && (r = prepare(request, block, what)) == 0)
        r = ouro_submit(loop, &request->op);
    if (!request || r == -EAGAIN || r == -ENOMEM) {
        if (request) {
            if (stats_on)
                stats_refused();
            aio_lock();
            aio_give(request);
            aio_unlock();
        }
        aio_unshield(&old);
        return refuse(block, EAGAIN);
    }
    if (r < 0)
        aio_finish(request, r);
    else if (ouro_done(&request->op)) /* or somebody else has ended it, and uses it again */
        aio_drive_now();
    aio_unshield(&old);
    errno = saved;
    return 0;
}

static int transfer(struct aiocb *block, int what)
{
    return has_priority(block) ? begin_one(block, what) : refuse(block, EINVAL);
}

int aio_do_read(struct aiocb *block)
{
    return transfer(block, LIO_READ);
}

int aio_do_write(struct aiocb *block)
{
    return transfer(block, LIO_WRITE);
}

int aio_do_fsync(int how, struct aiocb *block)
{
    if (how != O_SYNC && how != O_DSYNC)
        return fail(EINVAL);
    if (fcntl(block->aio_fildes, F_GETFL) < 0)
        return fail(EBADF);
    block->aio_reqprio = 0; /* as glibc does, so that the block is good for more */
    return begin_one(block, how == O_SYNC ? LIO_FSYNC : LIO_FDATASYNC);
}

void aio_do_init(const struct aioinit *init)
{
    (void)init; /* threads and requests need no hint */
}

/* ---- Status --------------------------------------------------------------------------------- */

int aio_do_error(const struct aiocb *block)
{
    return __atomic_load_n(&block->__error_code, __ATOMIC_ACQUIRE);
}

ssize_t aio_do_return_(struct aiocb *block)
{
    return block->__return_value;
}

/* ---- Waiting -------------------------------------------------------------------------------- */

struct wait {
    const struct aiocb *const *blocks;
    int count;
    struct waiter *waiter;
    struct aio_shield old;
};

static bool in_progress(const struct aiocb *block)
{
    return block && aio_do_error(block) == EINPROGRESS;
}

/* Blocks and requests of a long list are in no cache, and each tells where the next thing lies. */
static void look_ahead(const struct wait *wait, int at)
{
    int near = at + AHEAD, far = at + 2 * AHEAD;

    if (far < wait->count && wait->blocks[far])
        __builtin_prefetch(&wait->blocks[far]->__error_code);
    if (near < wait->count && wait->blocks[near])
        aio_prefetch(wait->blocks[near]);
}

/* With the lock. False: one is over, or there is none. */
static bool mark(const struct wait *wait)
{
    bool some = false;

    for (int i = 0; i < wait->count; i++) {
        const struct aiocb *block = wait->blocks[i];
        struct request *request;

        look_ahead(wait, i);
        if (!block)
            continue;
        if (!in_progress(block))
            return false;
        some = true;
        request = aio_find(block);
        if (request)
            aio_await(wait->waiter, request);
    }
    return some;
}

static void stop_waiting(struct waiter *waiter)
{
    aio_lock();
    aio_waiter_free(waiter);
    aio_unlock();
}

/* The thread is cancelled in its sleep. */
static void end_wait(void *arg)
{
    const struct wait *wait = arg;
    struct aio_shield now;

    aio_shield(&now);
    stop_waiting(wait->waiter);
    now.signals = wait->old.signals;
    aio_unshield(&now);
}

static int suspend(struct wait *wait, const struct timespec *timeout)
{
    uint32_t wakes;
    volatile int r = 0;
    volatile bool waits;

    aio_shield(&wait->old);
    aio_lock();
    wait->waiter = aio_waiter_new();
    wakes = aio_wakes(wait->waiter);
    waits = mark(wait);
    aio_unlock();
    pthread_cleanup_push(end_wait, wait);
    if (waits)
        r = aio_sleep(wait->waiter, wakes, timeout, &wait->old);
    pthread_cleanup_pop(0);
    stop_waiting(wait->waiter);
    aio_unshield(&wait->old);
    return r;
}

static bool one_is_over(const struct wait *wait)
{
    bool some = false;

    for (int i = 0; i < wait->count; i++) {
        some = some || wait->blocks[i];
        if (wait->blocks[i] && !in_progress(wait->blocks[i]))
            return true;
    }
    return !some;
}

static struct timespec after(const struct timespec *timeout)
{
    const time_t most = INT_MAX; /* sixty years, so that no sum is too large */
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout->tv_sec < most ? timeout->tv_sec : most;
    at.tv_nsec += timeout->tv_nsec;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

/* False: the time has come. */
static bool time_left(const struct timespec *until, struct timespec *ret)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ret->tv_sec = until->tv_sec - now.tv_sec;
    ret->tv_nsec = until->tv_nsec - now.tv_nsec;
    if (ret->tv_nsec < 0) {
        ret->tv_nsec += 1000000000;
        ret->tv_sec--;
    }
    return ret->tv_sec >= 0;
}

int aio_do_suspend(const struct aiocb *const blocks[], int count, const struct timespec *timeout)
{
    struct wait wait = { .blocks = blocks, .count = count };
    struct timespec until, left;
    int saved = errno, r = 0;

    if (count < 0 || (timeout && (timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)))
        return fail(EINVAL);
    if (aio_is_inside())
        return fail(EAGAIN);
    if (timeout)
        until = after(timeout);
    while (!one_is_over(&wait)) {
        if (timeout && (timeout->tv_sec < 0 || !time_left(&until, &left)))
            return fail(EAGAIN);
        r = suspend(&wait, timeout ? &left : NULL);
        if (r == -EINTR && !one_is_over(&wait))
            return fail(EINTR);
    }
    errno = saved;
    return 0;
}

/* ---- Cancelling ----------------------------------------------------------------------------- */

struct cancels {
    unsigned canceled, kept;
};

/* With the lock. What has not begun ends; what has begun goes on, unless the user wishes otherwise
 * and it may wait for ever. */
static void cancel_request(ouro_loop *loop, struct cancels *cancels, struct request *request)
{
    if (ouro_withdraw(loop, &request->op) < 0) {
        if (!request->stream || !aio_cancels_strongly()) {
            cancels->kept++;
            return;
        }
        (void)ouro_cancel_id(loop, ouro_op_id(&request->op));
    }
    cancels->canceled++;
    aio_mark_canceled(request);
}

int aio_do_cancel(int fd, struct aiocb *block)
{
    struct cancels cancels = { .canceled = 0 };
    struct request *request;
    ouro_loop *loop;
    struct aio_shield old;

    if (fcntl(fd, F_GETFL) < 0)
        return fail(EBADF);
    if (block && block->aio_fildes != fd)
        return fail(EINVAL);
    if (aio_is_inside())
        return AIO_NOTCANCELED;
    aio_shield(&old);
    if (aio_start(&loop) == 0) {
        aio_lock();
        if (!block)
            for (uint32_t at = 1; (request = aio_next(at)); at = request->number + 1)
                if (request->fd == fd)
                    cancel_request(loop, &cancels, request);
        if (block && (request = aio_find(block)))
            cancel_request(loop, &cancels, request);
        aio_unlock();
        if (cancels.canceled)
            aio_await_canceled();
    }
    aio_unshield(&old);
    return cancels.kept ? AIO_NOTCANCELED : cancels.canceled ? AIO_CANCELED : AIO_ALLDONE;
}

/* ---- Lists ---------------------------------------------------------------------------------- */

/* Requests that are submitted together. */
struct batch {
    ouro_op *ops[BATCH];
    unsigned count;
};

static void submit(ouro_loop *loop, struct batch *batch)
{
    unsigned done = 0;

    while (done < batch->count) {
        int r = ouro_submit_n(loop, batch->ops + done, batch->count - done);

        if (r < 0)
            aio_finish(batch->ops[done]->user, r);
        done += r < 0 ? 1 : (unsigned)r;
    }
    while (batch->count && !ouro_done(batch->ops[batch->count - 1]))
        batch->count--;
    if (batch->count)
        aio_drive_now();
    batch->count = 0;
}

/* The requests of a list, as far as they can be had: 0, or the error of the last that cannot, which
 * the program is told of by its block alone. *ret_begun: whether there are any. */
static int begin_list(ouro_loop *loop, struct request *list, struct aiocb *const blocks[],
                      int count, bool silent, bool *ret_begun)
{
    struct batch batch = { .count = 0 };
    int error = 0;

    *ret_begun = false;
    for (int i = 0; i < count; i++) {
        struct aiocb *block = blocks[i];
        struct request *request;
        int r;

        if (!block || block->aio_lio_opcode == LIO_NOP)
            continue;
        request = has_priority(block)
                      ? new_request(block, silent ? NULL : &block->aio_sigevent, list)
                      : NULL;
        if (!request) {
            error = has_priority(block) ? EAGAIN : EINVAL;
            refuse(block, error);
            continue;
        }
        *ret_begun = true;
        r = block->aio_lio_opcode > LIO_NOP ? -EINVAL
                                            : prepare(request, block, block->aio_lio_opcode);
        if (r < 0)
            aio_finish(request, r);
        else
            batch.ops[batch.count++] = &request->op;
        if (batch.count == BATCH)
            submit(loop, &batch);
    }
    submit(loop, &batch);
    return error;
}

/* NULL: no memory. */
static struct request *new_list(int mode, const struct sigevent *event)
{
    struct request *list;

    aio_lock();
    list = aio_take();
    if (list) {
        list->left = 1; /* while it is made */
        list->waited = mode == LIO_WAIT;
        if (event && mode == LIO_NOWAIT)
            list->event = *event;
        if (aio_tells(list))
            aio_keep(list);
    }
    aio_unlock();
    return list;
}

struct list_wait {
    struct request *list;
    struct waiter *waiter;
    struct aio_shield old;
};

/* The list is the last request's from now on, or over. */
static void leave_list(const struct list_wait *wait)
{
    struct request *list = wait->list;

    aio_lock();
    aio_waiter_free(wait->waiter);
    list->waited = false;
    if (list->over)
        aio_give(list);
    aio_unlock();
}

static void end_list_wait(void *arg)
{
    const struct list_wait *wait = arg;
    struct aio_shield now;

    aio_shield(&now);
    leave_list(wait);
    now.signals = wait->old.signals;
    aio_unshield(&now);
}

static bool is_over(const struct request *list)
{
    return __atomic_load_n(&list->over, __ATOMIC_ACQUIRE);
}

/* Until all are over: 0, or -EINTR. */
static int wait_for_list(struct request *list, bool *ret_failed)
{
    struct list_wait wait = { .list = list };
    volatile int r = 0;

    aio_shield(&wait.old);
    aio_lock();
    wait.waiter = aio_waiter_new();
    if (!list->over)
        aio_await(wait.waiter, list);
    aio_unlock();
    pthread_cleanup_push(end_list_wait, &wait);
    while (!is_over(list) && r == 0) {
        uint32_t wakes = aio_wakes(wait.waiter);

        if (!is_over(list))
            r = aio_sleep(wait.waiter, wakes, NULL, &wait.old);
    }
    if (is_over(list)) { /* before, others may still write there */
        r = 0;
        *ret_failed = list->failed;
    }
    pthread_cleanup_pop(0);
    leave_list(&wait);
    aio_unshield(&wait.old);
    return r;
}

static int listio(int mode, struct aiocb *const blocks[], int count, struct sigevent *event,
                  bool silent)
{
    struct request *list = NULL;
    ouro_loop *loop;
    struct aio_shield old;
    bool failed = false, begun = false;
    int saved = errno, error = EAGAIN;

    if ((mode != LIO_WAIT && mode != LIO_NOWAIT) || count < 0)
        return fail(EINVAL);
    if (aio_is_inside())
        return fail(EAGAIN);
    aio_shield(&old);
    if (aio_start(&loop) == 0)
        list = new_list(mode, event);
    if (list) {
        error = begin_list(loop, list, blocks, count, silent, &begun);
        aio_list_done(list);
    }
    aio_unshield(&old);
    if (list && mode == LIO_WAIT) {
        int r = wait_for_list(list, &failed);

        error = r < 0 ? EINTR : failed || (error && begun) ? EIO : error;
    }
    if (error)
        return fail(error);
    errno = saved;
    return 0;
}

int aio_do_listio(int mode, struct aiocb *const blocks[], int count, struct sigevent *event)
{
    return listio(mode, blocks, count, event, false);
}

int aio_do_old_listio(int mode, struct aiocb *const blocks[], int count, struct sigevent *event)
{
    return listio(mode, blocks, count, event, true);
}

/* SPDX-License-Identifier: MIT */
/* libaio_inject.c: events of ours in the kernel's ring.
 *
 * An event bears the address of the block that was submitted. So the block itself is submitted
 * once more, such that the kernel ends it inside io_submit with the result that is to be told. If
 * possible it stays what it is (libaio_proxy.c). Else it is made a write of so many bytes to
 * /dev/null, and then what it was before. The program may have used the block, or its memory, for
 * something else by then, which is its right: it is touched only if it can be, and is what it was;
 * and what the program writes into it meanwhile stays. Should it do so between our look and the
 * kernel's, the event is put right in the ring. Who has the lock of the blocks knows that none is
 * changed.
 *
 * An error is told by a request that can only fail so. For errors without such a request the event
 * says EIO, and our io_getevents knows better (`fixes`). What cannot be put into the ring because
 * of its block is given by our io_getevents alone; who waits in the kernel is woken by an event of
 * a block of ours. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    WORDS = sizeof(struct iocb) / sizeof(uint64_t),
    GATE = offsetof(struct iocb, aio_lio_opcode) / sizeof(uint64_t), /* has the descriptor */
    FIXES_MAX = 1024, /* of a context; then the oldest is forgotten */
    PAGE = 4096,
};

static _Atomic int null_fd = -1;
static struct iocb neutral; /* events of this one are nobody's */

/* ---- What is injected ----------------------------------------------------------------------- */

static bool is_null(int fd)
{
    struct stat info = { 0 };

    return fd >= 0 && LAIO_KERNEL(SYS_fstat, fd, &info) == 0 && S_ISCHR(info.st_mode) &&
           info.st_rdev == makedev(1, 3);
}

/* Programs close all descriptors, and get their numbers for files of their own. */
int laio_null(void)
{
    int fd = atomic_load(&null_fd);

    if (is_null(fd))
        return fd;
    fd = (int)LAIO_KERNEL(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY | O_CLOEXEC);
    atomic_store(&null_fd, is_null(fd) ? fd : -1);
    return atomic_load(&null_fd);
}

void laio_inject_forked(void)
{
    memset(&neutral, 0, sizeof(neutral));
    laio_proxy_forked();
}

/* ---- Blocks --------------------------------------------------------------------------------- */

struct injection {
    struct laio_request *request;
    struct iocb image; /* what the block is made for a moment */
};

static void describe(struct injection *injection, const struct laio_failing *how, int fd)
{
    const struct laio_request *request = injection->request;
    struct iocb *image = &injection->image;

    *image = request->copy;
    image->aio_rw_flags = 0;
    image->aio_fildes = (uint32_t)fd;
    image->aio_lio_opcode = how ? how->opcode : IOCB_CMD_PWRITE;
    image->aio_nbytes = how ? how->size : (uint64_t)request->res;
    if (how) {
        image->aio_buf = (uintptr_t)how->buffer;
        image->aio_offset = how->offset;
    }
    if (request->hold >= 0) {
        int told = laio_held(request->hold);

        image->aio_resfd = (uint32_t)told;
        if (told < 0)
            image->aio_flags &= ~(uint32_t)IOCB_FLAG_RESFD;
    }
}

static const uint64_t *words(const struct iocb *block)
{
    return (const uint64_t *)(const void *)block;
}

/* Another thread may unmap it at any time. Where that call is refused it is looked at. */
static bool copy_block(struct iocb *at, struct iocb *ret)
{
    struct iovec to = { ret, sizeof(*ret) }, from = { at, sizeof(*at) };
    long r = LAIO_KERNEL(SYS_process_vm_readv, getpid(), &to, 1, &from, 1);

    if (r == -EPERM || r == -ENOSYS)
        *ret = *at;
    else if (r != (long)sizeof(*ret))
        return false;
    return true;
}

/* Can it be changed, and is it what was submitted? */
static bool is_unchanged(const struct laio_request *request)
{
    struct iocb *at = request->at;
    struct iocb now;

    if (!laio_writable(at, sizeof(*at)) || !copy_block(at, &now))
        return false;
    now.aio_key = 0; /* as the kernel leaves it */
    return memcmp(&now, &request->copy, sizeof(now)) == 0;
}

static bool exchange(struct iocb *at, unsigned word, const struct iocb *from, const struct iocb *to)
{
    uint64_t old = words(from)[word];

    return __atomic_compare_exchange_n((uint64_t *)(void *)at + word, &old, words(to)[word], false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Word by word, and only those that differ: whoever looks sees as little as possible of it. First
 * the one with the descriptor, which is never the program's where it is ours; if that is another
 * one by now, so is the request, and the rest is the program's. */
static bool change(struct iocb *at, const struct iocb *from, const struct iocb *to)
{
    if (!exchange(at, GATE, from, to))
        return false;
    for (unsigned i = 0; i < WORDS; i++)
        if (i != GATE && words(from)[i] != words(to)[i])
            (void)exchange(at, i, from, to);
    return true;
}

static long inject(struct laio_context *context, struct iocb **list, long count)
{
    long r;

    atomic_fetch_add(&context->taken, (uint64_t)count);
    r = LAIO_KERNEL(SYS_io_submit, context->address, count, list);
    if (r < count)
        atomic_fetch_sub(&context->taken, (uint64_t)(count - (r > 0 ? r : 0)));
    return r;
}

/* 1, or -errno. By the time that the kernel has told of it the block's memory may be gone. */
static long inject_one(struct laio_context *context, const struct injection *injection)
{
    const struct laio_request *request = injection->request;
    struct iocb *at = request->at;
    long r;

    if (!change(at, &request->copy, &injection->image))
        return -EFAULT;
    r = inject(context, &at, 1);
    if (laio_writable(at, sizeof(*at)))
        (void)change(at, &injection->image, &request->copy);
    return r;
}

/* With a use of the ring. Since its tail was there, the event of this request has come; it is to
 * say that. Another one of the same block may be beside it, and which is whose cannot be told. */
static void check_event(struct laio_context *context, uint32_t from,
                        const struct laio_request *request, int64_t res)
{
    struct io_event *wrong = NULL;
    uint32_t to = laio_tail(context);

    for (uint32_t at = from; at != to; at = (at + 1) % (context->room + 1)) {
        struct io_event *event = &context->ring->events[at];

        if (event->obj != (uintptr_t)request->at)
            continue;
        if (wrong || (event->data == request->copy.aio_data && event->res == res))
            return;
        wrong = event;
    }
    if (wrong) {
        __atomic_store_n(&wrong->data, request->copy.aio_data, __ATOMIC_RELAXED);
        __atomic_store_n(&wrong->res, res, __ATOMIC_RELAXED);
    }
}

/* ---- What io_getevents puts right ----------------------------------------------------------- */

/* With the lock. */
static void forget_oldest_fix(struct laio_context *context)
{
    struct laio_request *oldest = context->fixes; /* which is delivered long since */

    context->fixes = oldest->next;
    context->fix_count--;
    atomic_fetch_sub(&context->special, 1);
    laio_give(oldest);
}

/* With the lock. */
static void drop_fix(struct laio_context *context, struct laio_request *request)
{
    struct laio_request **at = &context->fixes;

    while (*at && *at != request)
        at = &(*at)->next;
    if (*at) {
        *at = request->next;
        context->fix_count--;
    }
}

/* With the lock. The event that says EIO is about to be in the ring. */
static void add_fix(struct laio_context *context, struct laio_request *request)
{
    struct laio_request **end = &context->fixes;

    while (*end)
        end = &(*end)->next;
    *end = request;
    request->next = NULL;
    if (++context->fix_count > FIXES_MAX)
        forget_oldest_fix(context);
}

/* With the lock. */
static void fix(struct laio_context *context, struct io_event *event)
{
    for (struct laio_request **at = &context->fixes; *at; at = &(*at)->next) {
        struct laio_request *request = *at;

        if ((uintptr_t)request->at != event->obj || request->copy.aio_data != event->data)
            continue;
        event->res = request->res;
        *at = request->next;
        context->fix_count--;
        atomic_fetch_sub(&context->special, 1);
        request->fetched = true;
        if (!request->delivering)
            laio_give(request);
        return;
    }
}

long laio_correct(struct laio_context *context, struct io_event *events, long count)
{
    long kept = 0;

    aio_lock();
    for (long i = 0; i < count; i++) {
        if (events[i].obj == (uintptr_t)&neutral) {
            atomic_fetch_sub(&context->special, 1);
            continue;
        }
        events[kept] = events[i];
        if (events[kept].res == -EIO)
            fix(context, &events[kept]);
        kept++;
    }
    aio_unlock();
    return kept;
}

static void tell(const struct laio_request *request)
{
    const uint64_t one = 1;
    int told = request->hold < 0 ? -1 : laio_held(request->hold);

    if (told >= 0)
        (void)LAIO_KERNEL(SYS_write, told, &one, sizeof(one));
}

/* Who waits in the kernel is woken, and a descriptor is told. */
static void wake_neutrally(struct laio_context *context, const struct laio_request *request)
{
    struct iocb *list = &neutral;
    int told = request->hold < 0 ? -1 : laio_held(request->hold);

    memset(&neutral, 0, sizeof(neutral));
    neutral.aio_lio_opcode = IOCB_CMD_PWRITE;
    neutral.aio_fildes = (uint32_t)laio_null();
    neutral.aio_buf = (uintptr_t)laio_scrap;
    if (told >= 0) {
        neutral.aio_flags = IOCB_FLAG_RESFD;
        neutral.aio_resfd = (uint32_t)told;
    }
    atomic_fetch_add(&context->special, 1);
    if (inject(context, &list, 1) == 1)
        return;
    atomic_fetch_sub(&context->special, 1);
    tell(request); /* the ring is full, so nobody sleeps but there */
}

/* ---- Delivering ----------------------------------------------------------------------------- */

/* With the lock. The next one that is for the ring: who waits in io_getevents takes the others. */
static struct laio_request *pop(struct laio_context *context)
{
    struct laio_request **at = &context->first, *before = NULL, *request;

    while (*at && ((*at)->stuck || (context->waiting && (*at)->hold < 0))) {
        before = *at;
        at = &before->next;
    }
    request = *at;
    if (!request)
        return NULL;
    *at = request->next;
    if (context->last == request)
        context->last = before;
    return request;
}

/* With the lock. In front of all others. */
static void put_back(struct laio_context *context, struct laio_request *request)
{
    request->next = context->first;
    if (!context->first)
        context->last = request;
    context->first = request;
}

static bool is_among(const struct injection *all, unsigned count, const struct iocb *at)
{
    for (unsigned i = 0; i < count; i++)
        if (all[i].request->at == at)
            return true;
    return false;
}

/* Only io_getevents can give this one. */
static void strand(struct laio_context *context, struct laio_request *request)
{
    request->stuck = true;
    aio_lock();
    put_back(context, request);
    aio_wake(context->waiters);
    aio_unlock();
    wake_neutrally(context, request);
}

/* By a block that is changed for a moment: as io_submit of one. */
static long inject_changed(struct laio_context *context, struct laio_request *request,
                           const struct laio_failing *how)
{
    struct injection one = { .request = request };
    int other, fd = how->open(&other);
    long r;

    if (fd < 0)
        return -EBADF;
    describe(&one, how, fd);
    r = inject_one(context, &one);
    close(fd);
    if (other >= 0)
        close(other);
    return r;
}

static long inject_as_it_is(struct laio_context *context, struct laio_request *request)
{
    unsigned done;
    long r;

    atomic_fetch_add(&context->taken, 1);
    done = laio_proxy_submit(context, &request, 1, &r);
    if (done)
        tell(request);
    else
        atomic_fetch_sub(&context->taken, 1);
    return done ? 1 : r;
}

/* A request that fails as it should, alone; 1: it is delivered, or -errno. Whoever sees EIO in its
 * place finds out in `fixes`. */
static long inject_error(struct laio_context *context, struct laio_request *request)
{
    uint32_t from = laio_tail(context);
    const struct laio_failing *how = laio_failing_of((int)-request->res);
    bool as_it_is = laio_proxy_can(request);
    int error = as_it_is ? laio_proxy_error(request) : how->error;
    bool fixed = error != -request->res;
    long r;

    request->delivering = fixed;
    request->fetched = false;
    if (fixed) {
        aio_lock();
        add_fix(context, request);
        aio_unlock();
    }
    r = as_it_is ? inject_as_it_is(context, request) : inject_changed(context, request, how);
    if (r != 1 && r != -EAGAIN && as_it_is && error == how->error && is_unchanged(request))
        r = inject_changed(context, request, how);
    if (r == 1)
        check_event(context, from, request, -error);
    aio_lock();
    request->delivering = false;
    if (fixed && r != 1)
        drop_fix(context, request);
    else if (fixed)
        laio_retire(request);
    else if (r == 1)
        laio_delivered(request);
    if (fixed && request->fetched)
        laio_give(request);
    aio_unlock();
    return r;
}

/* The first ones with a result, as many as have blocks of their own; the next one may be stranded,
 * or alone. */
static unsigned gather(struct laio_context *context, struct injection *all, int null)
{
    unsigned count = 0;

    while (count < LAIO_BATCH) {
        struct laio_request *request;
        bool alone;

        aio_lock();
        request = pop(context);
        aio_unlock();
        if (!request)
            break;
        alone = request->res < 0;
        if ((alone && count) || is_among(all, count, request->at)) {
            aio_lock();
            put_back(context, request);
            aio_unlock();
            break;
        }
        if (!is_unchanged(request)) {
            strand(context, request);
            continue;
        }
        all[count].request = request;
        if (!alone)
            describe(&all[count], NULL, null);
        count++;
        if (alone)
            break;
    }
    return count;
}

/* How many of them are in the ring, or -errno. */
static long inject_plain(struct laio_context *context, struct injection *all, unsigned count)
{
    struct laio_request *requests[LAIO_BATCH];
    unsigned done = 0, can = 0;
    long r = -EBADF;

    while (can < count && laio_proxy_can(all[can].request)) {
        requests[can] = all[can].request;
        can++;
    }
    if (can) {
        atomic_fetch_add(&context->taken, can);
        done = laio_proxy_submit(context, requests, can, &r);
        atomic_fetch_sub(&context->taken, can - done);
        for (unsigned i = 0; i < done && i < can; i++)
            tell(requests[i]);
    }
    if (done == count)
        return count;
    if (r != -EAGAIN) /* it may be gone by now */
        r = is_unchanged(all[done].request) ? inject_one(context, &all[done]) : -EFAULT;
    done += r == 1;
    return done ? (long)done : r;
}

/* False: there is no room now. */
static bool deliver_some(struct laio_context *context, struct injection *all, unsigned count)
{
    bool alone = all[0].request->res < 0;
    uint32_t from = laio_tail(context);
    long r = alone ? inject_error(context, all[0].request) : inject_plain(context, all, count);
    unsigned done = r < 0 ? 0 : (unsigned)r;
    bool stranded = r < 0 && r != -EAGAIN && r != -EINTR;

    for (unsigned i = 0; i < done && i < count && !alone; i++)
        check_event(context, from, all[i].request, all[i].request->res);
    aio_lock();
    for (unsigned i = 0; i < done && i < count && !alone; i++)
        laio_delivered(all[i].request);
    for (unsigned i = count; i-- > done + stranded;)
        put_back(context, all[i].request);
    aio_unlock();
    if (stranded)
        strand(context, all[done].request);
    return done || stranded;
}

void laio_deliver(struct laio_context *context)
{
    struct injection all[LAIO_BATCH];
    bool room = true, uses, there;
    unsigned count;
    int null;

    laio_lock_blocks();
    null = laio_null();
    uses = null >= 0 && laio_resume(context);
    /* It was moved, or destroyed, and neither by us: who finds it again queues it. */
    there = uses && laio_readable(context->ring, sizeof(*context->ring));
    while (there && room && !atomic_load(&context->dying) && (count = gather(context, all, null)))
        room = deliver_some(context, all, count);
    if (uses)
        laio_rest(context);
    if ((null < 0 || !room) && context->address) {
        aio_lock();
        laio_queue(context);
        aio_unlock();
    }
    laio_unlock_blocks();
}

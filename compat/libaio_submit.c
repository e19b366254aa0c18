/* SPDX-License-Identifier: MIT */
/* libaio_submit.c: io_submit: blocks in their order, in runs: those of the kernel in one call each,
 * ours as one batch each. The first one that is refused ends it. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libaio_pure.h"

/* A call of io_submit. */
struct submission {
    struct laio_context *context;
    aio_context_t name;
    ouro_loop *loop;
    struct iocb **blocks;
    long count, done;
    struct laio_look look;
    bool listed;
    int error; /* of the first one that was refused */
};

/* ---- The kernel's --------------------------------------------------------------------------- */

/* So many from `done` on. */
static void give_to_kernel(struct submission *sub, long count)
{
    struct laio_context *context = sub->context;
    long r;

    laio_look_at_tail(context);
    atomic_fetch_add(&context->taken, (uint64_t)count);
    r = LAIO_KERNEL(SYS_io_submit, sub->name, count, sub->blocks + sub->done);
    if (r < count)
        atomic_fetch_sub(&context->taken, (uint64_t)(count - (r > 0 ? r : 0)));
    if (r < 0)
        sub->error = (int)r;
    else
        sub->done += r;
    if (r >= 0 && r < count)
        sub->error = -EAGAIN; /* the next call says why */
    if (stats_on && r > 0)
        stats_passed((uint64_t)r);
}

/* From `done` on: how many are the kernel's, in a row. What cannot be read it refuses. */
static long count_theirs(struct submission *sub, long most)
{
    long count = 0;

    while (count < most) {
        const struct iocb *block = sub->blocks[sub->done + count];

        if (!laio_can_read(&sub->look, block))
            return count + 1;
        if (laio_whose(&sub->look, block) != LAIO_THEIRS)
            break;
        count++;
    }
    return count;
}

/* ---- Ours ----------------------------------------------------------------------------------- */

/* The kernel writes it back. */
int laio_clear_key(struct laio_look *look, struct iocb *block)
{
    if (!laio_can_write(look, block))
        return -EFAULT;
    if (block->aio_key)
        block->aio_key = 0;
    return 0;
}

/* 0 or -ENOMEM. */
static int copy_vector(struct laio_request *request, const struct iocb *block)
{
    const void *from = (const void *)(uintptr_t)block->aio_buf; // NOLINT
    size_t size = block->aio_nbytes * sizeof(struct iovec);

    request->vector = request->few;
    if (!laio_is_vector(block)) {                                     /* for its flags */
        request->few[0].iov_base = (void *)(uintptr_t)block->aio_buf; // NOLINT
        request->few[0].iov_len = block->aio_nbytes;
        return 0;
    }
    if (block->aio_nbytes > LAIO_FEW)
        request->vector = malloc(size);
    if (!request->vector)
        return -ENOMEM;
    memcpy(request->vector, from, size);
    return 0;
}

static void prepare_vector(struct laio_request *request, const struct iocb *block, int64_t offset)
{
    unsigned count = laio_is_vector(block) ? (unsigned)block->aio_nbytes : 1;
    int flags = (int)block->aio_rw_flags & ~LAIO_HIGH, fd = (int)block->aio_fildes;

    if (laio_writes(block))
        ouro_prep_writev(&request->op, fd, request->vector, count, offset, flags);
    else
        ouro_prep_readv(&request->op, fd, request->vector, count, offset, flags);
}

/* 0 or -ENOMEM. */
static int prepare_transfer(struct laio_request *request, const struct laio_look *look,
                            const struct iocb *block)
{
    bool writes = laio_writes(block), file = look->kind == LAIO_FILE || look->kind == LAIO_QUICK;
    bool appends = writes && file && (look->flags & O_APPEND || block->aio_rw_flags & LAIO_APPEND);
    void *buf = (void *)(uintptr_t)block->aio_buf; // NOLINT(performance-no-int-to-ptr)
    int64_t offset = file ? block->aio_offset : 0;
    int fd = (int)block->aio_fildes, r;
    ouro_op *op = &request->op;

    if (!buf)
        buf = (void *)1; // NOLINT: the system fails for it, where it looks there
    if (laio_is_vector(block) || block->aio_rw_flags & ~LAIO_HIGH) {
        r = copy_vector(request, block);
        if (r < 0)
            return r;
        prepare_vector(request, block, offset);
    } else if (writes) {
        ouro_prep_write(op, fd, buf, block->aio_nbytes, offset);
    } else {
        ouro_prep_read(op, fd, buf, block->aio_nbytes, offset);
    }
    op->flags = OURO_FDMODE;
    if (!file || appends)
        op->flags |= OURO_SERIAL;
    if (!file && writes && !(look->flags & O_NONBLOCK))
        op->flags |= OURO_EXACT; /* as write(2), which waits until all is out */
    request->file = file;
    request->prompt = look->kind == LAIO_FILE;
    return 0;
}

static int prepare(struct laio_request *request, const struct laio_look *look,
                   const struct iocb *block)
{
    int fd = (int)block->aio_fildes;

    switch (block->aio_lio_opcode) {
    case IOCB_CMD_FSYNC: ouro_prep_fsync(&request->op, fd); break;
    case IOCB_CMD_FDSYNC: ouro_prep_fdatasync(&request->op, fd); break;
    case LAIO_POLL:
        ouro_prep_poll(&request->op, fd, (unsigned)block->aio_buf | POLLERR | POLLHUP);
        return 0;
    default: return prepare_transfer(request, look, block);
    }
    request->file = true;
    return 0;
}

static void count_begin(struct laio_request *request, bool listed)
{
    const struct iocb *block = &request->copy;
    unsigned kind = laio_writes(block) ? STATS_WRITE : STATS_READ;

    switch (block->aio_lio_opcode) {
    case LAIO_POLL: return;
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC: kind = STATS_FSYNC; break;
    default: break;
    }
    stats_begin(kind, laio_is_vector(block) ? 0 : block->aio_nbytes, listed);
    request->begun = stats_now();
}

int laio_accept(struct laio_context *context, const struct laio_look *look, struct iocb *block,
                bool listed, struct laio_request **ret)
{
    struct laio_request *request = laio_take(context);

    if (!request)
        return -EAGAIN;
    request->at = block;
    request->copy = *block;
    if (block->aio_flags & IOCB_FLAG_RESFD)
        request->hold = laio_hold((int)block->aio_resfd);
    if ((block->aio_flags & IOCB_FLAG_RESFD && request->hold < 0) ||
        prepare(request, look, block) < 0) {
        laio_give(request);
        return -EAGAIN;
    }
    if (stats_on)
        count_begin(request, listed);
    laio_begun(request);
    *ret = request;
    return 0;
}

/* With both locks. 0 or -errno. */
static int accept_one(struct submission *sub, struct iocb *block, struct laio_request **ret)
{
    struct laio_context *context = sub->context;
    int r;

    if (atomic_load(&context->dying))
        return -EINVAL;
    if (laio_used(context) + context->undelivered >= context->sure)
        return -EAGAIN;
    r = laio_clear_key(&sub->look, block);
    return r < 0 ? r : laio_accept(context, &sub->look, block, sub->listed, ret);
}

/* From `done` on, up to the first that is not ours, or is refused. How many. */
static unsigned accept_ours(struct submission *sub, ouro_op **ret)
{
    unsigned count = 0;

    laio_lock_blocks();
    while (count < LAIO_BATCH && sub->done + count < sub->count && sub->error == 0) {
        struct iocb *block = sub->blocks[sub->done + count];
        struct laio_request *request = NULL;
        int r;

        if (!laio_can_read(&sub->look, block))
            break;
        r = laio_whose(&sub->look, block);
        if (r == LAIO_THEIRS)
            break;
        if (r == LAIO_OURS) {
            aio_lock();
            r = accept_one(sub, block, &request);
            aio_unlock();
        }
        if (request)
            ret[count++] = &request->op;
        else
            sub->error = r;
    }
    laio_unlock_blocks();
    return count;
}

/* The loop takes no more: they have never been. */
static void refuse(struct submission *sub, ouro_op *const *ops, unsigned count)
{
    aio_lock();
    for (unsigned i = 0; i < count; i++) {
        struct laio_request *request = ops[i]->user;

        if (request->begun)
            stats_refused();
        laio_unbegun(request);
    }
    aio_unlock();
    sub->error = -EAGAIN;
}

static void begin_ours(struct submission *sub)
{
    ouro_op *ops[LAIO_BATCH];
    unsigned count = accept_ours(sub, ops), begun = 0;

    while (begun < count) {
        int r = laio_submit_ops(sub->loop, sub->context, ops + begun, count - begun);

        if (r > 0) {
            begun += (unsigned)r;
        } else if (r == -EAGAIN || r == -ENOMEM) {
            refuse(sub, ops + begun, count - begun);
            break;
        } else {
            laio_finish(ops[begun++]->user, r < 0 ? r : -EIO);
        }
    }
    sub->done += begun;
}

/* ---- The call ------------------------------------------------------------------------------- */

/* How many in a row are the kernel's, while none of them is changed for a moment; and no more than
 * there is room for beside ours. */
static long count_run(struct submission *sub)
{
    struct laio_context *context = sub->context;
    long count, room;

    laio_lock_blocks();
    count = count_theirs(sub, sub->count - sub->done);
    laio_unlock_blocks();
    aio_lock();
    room = (long)context->room - (long)(laio_used(context) + context->undelivered);
    if (context->waiting && count)
        aio_wake(context->waiters); /* they wait for ours alone */
    aio_unlock();
    if (count > 0 && room <= 0) {
        sub->error = -EAGAIN;
        return 0;
    }
    return count < room ? count : room;
}

/* Has somebody else read the ring? */
static void look_for_others(struct laio_context *context)
{
    uint32_t count = context->room + 1, head = context->ring->head % count;

    if (head == atomic_load(&context->fetched) % count)
        return;
    atomic_store(&context->calls, 0);
    atomic_store(&context->fetched, head);
}

static void submit_mixed(struct submission *sub)
{
    struct aio_shield old;

    look_for_others(sub->context);
    aio_shield(&old);
    while (sub->done < sub->count && sub->error == 0) {
        long count = count_run(sub);

        if (count > 0)
            give_to_kernel(sub, count);
        else if (sub->error == 0)
            begin_ours(sub);
    }
    aio_unshield(&old);
}

/* Without a loop, or /dev/null, all is the kernel's: what blocks there blocks. */
static bool can_do_ours(struct submission *sub)
{
    struct aio_shield old;
    bool can;

    aio_shield(&old);
    can = aio_start(&sub->loop) == 0 && laio_null() >= 0;
    aio_unshield(&old);
    return can;
}

static void submit(struct submission *sub)
{
    if (atomic_load(&sub->context->special) == 0) { /* nothing of ours is to be minded */
        long count = count_theirs(sub, sub->count);

        if (count > 0)
            give_to_kernel(sub, count);
        if (sub->done == sub->count || sub->error)
            return;
    }
    if (can_do_ours(sub))
        submit_mixed(sub);
    else
        give_to_kernel(sub, sub->count - sub->done);
}

int laio_submit(aio_context_t name, long count, struct iocb **blocks)
{
    struct laio_context *context = laio_find(name);
    struct submission sub = { .context = context, .name = name, .blocks = blocks };

    if (!context || (!context->pure && (count <= 0 || !laio_plausible(blocks, sizeof(*blocks)))))
        return (int)LAIO_KERNEL(SYS_io_submit, name, count, blocks);
    if (!laio_enter(context, name))
        return -EINVAL;
    sub.count = count < (long)context->room ? count : (long)context->room;
    sub.listed = count > 1;
    laio_look_init(&sub.look, name);
    if (context->pure)
        sub.done = laio_pure_submit(context, count, blocks);
    else
        submit(&sub);
    laio_leave(context);
    return (int)(sub.done ? sub.done : sub.error);
}

int laio_cancel(aio_context_t name, struct iocb *block, struct io_event *ret)
{
    struct laio_context *context = laio_find(name);
    int r;

    if (!context ||
        !context->pure) /* it knows none of ours, as it knows none that cannot be cancelled */
        return (int)LAIO_KERNEL(SYS_io_cancel, name, block, ret);
    if (!laio_readable(block, sizeof(*block)))
        return -EFAULT;
    if (block->aio_key)
        return -EINVAL;
    if (!laio_enter(context, name))
        return -EINVAL;
    r = laio_pure_cancel(context, block);
    laio_leave(context);
    return r;
}

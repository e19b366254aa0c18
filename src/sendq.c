/* SPDX-License-Identifier: MIT */
/* sendq.c: queues of sends: in order, each whole, and none after one that failed.
 *
 * Order is SERIAL's (order.c) and wholeness EXACT's. What a queue adds is an error: a member that
 * did not go out whole leaves its own there, and those after it, which begin as it ends, see it
 * before anything of them goes out. */
#include "core.h"

void ouro_sendq_init(ouro_sendq *queue, ouro_loop *loop, ouro_fd fd, uint32_t flags)
{
    *queue = (ouro_sendq){ .loop = loop, .fd = fd, .flags = flags };
}

static int check(const ouro_sendq *queue, const ouro_op *op)
{
    uint16_t needs = KIND_FD | KIND_BYTES | KIND_WRITES;

    if (queue->flags & ~(uint32_t)OURO_DIRECT || op->code >= OURO_CODE_COUNT ||
        (ouro__kinds[op->code].traits & needs) != needs || op->fd != queue->fd ||
        (op->flags ^ queue->flags) & OURO_DIRECT)
        return -EINVAL;
    return queue->loop->closing ? -ESHUTDOWN : queue->error_;
}

/* What is in flight already is not touched. */
static int push(ouro_loop *loop, ouro_sendq *queue, ouro_op *op)
{
    uint32_t flags = op->flags;
    int r = ouro__check(loop, op);

    if (r < 0)
        return r;
    op->flags |= OURO_EXACT | OURO_SERIAL;
    r = ouro__check(loop, op);
    if (r == 0)
        r = ouro__accept(loop, op);
    if (r < 0) {
        op->flags = flags;
        return r;
    }
    op->stream_ |= SEND_QUEUED;
    op->sendq_ = queue;
    ouro__accepted(loop, op);
    ouro__begin(loop, op);
    return 0;
}

int ouro_sendq_push(ouro_sendq *queue, ouro_op *op)
{
    ouro_loop *loop;
    int r;

    if (!queue || !op)
        return -EINVAL;
    loop = queue->loop;
    r = ouro__enter(loop);
    if (r < 0)
        return r;
    r = check(queue, op);
    if (r == 0)
        r = push(loop, queue, op);
    if (r == 0)
        ouro__submitted(loop);
    ouro__leave(loop);
    return r;
}

static bool begun(const ouro_op *op)
{
    return op->done_ || op->retries_ || op->ready_;
}

/* One that is about to begin, or to go on. */
bool ouro__sendq_refuses(const ouro_op *op)
{
    return op->sendq_->error_ && !begun(op);
}

/* A member is final. What was stopped before anything went out left the stream as it was. */
void ouro__sendq_ended(const ouro_op *op)
{
    bool untouched = op->res < 0 && op->cflags & (OURO_C_CANCELED | OURO_C_TIMEDOUT);

    if (untouched || op->sendq_->error_ ||
        (op->res >= 0 && (uint64_t)op->res == ouro__wanted_bytes(op)))
        return;
    op->sendq_->error_ = op->res < 0 ? (int32_t)op->res : op->cause ? op->cause : -EPIPE;
}

static ouro_op *waiting(const struct ouro__list *list, const ouro_sendq *queue)
{
    for (ouro_op *op = list->head; op; op = op->next_)
        if (op->stream_ & SEND_QUEUED && op->sendq_ == queue && !begun(op))
            return op;
    return NULL;
}

/* The one that may begin next is in the loop's queue, the others are held. */
static void end_waiting(ouro_loop *loop, const ouro_sendq *queue)
{
    struct ouro__file *file =
        queue->flags & OURO_DIRECT ? &loop->direct[queue->fd].file : ouro__file_at(loop, queue->fd);
    ouro_op *op;

    while (file && ((op = waiting(&loop->queue, queue)) || (op = waiting(&file->held, queue))))
        ouro__cancel(loop, op, MARK_CANCEL);
}

int ouro_sendq_stop(ouro_sendq *queue)
{
    ouro_loop *loop;
    int r;

    if (!queue)
        return -EINVAL;
    loop = queue->loop;
    r = ouro__enter(loop);
    if (r < 0)
        return r;
    if (!queue->error_)
        queue->error_ = -ECANCELED;
    if (!(queue->flags & OURO_DIRECT) || (uint64_t)queue->fd < loop->direct_count)
        end_waiting(loop, queue);
    ouro__submitted(loop);
    ouro__leave(loop);
    return 0;
}

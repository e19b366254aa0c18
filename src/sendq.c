/* SPDX-License-Identifier: MIT */
/* sendq.c: queues of sends: in order, each whole, and none after one that failed.
 *
 * Order is SERIAL's (order.c) and wholeness EXACT's. What a queue adds is an error: a member that
 * did not go out whole leaves its own there, and those after it, which begin as it ends, see it
 * before anything of them goes out.
 *
 * Small sends ride along: when one begins, its step has the buffers of those that are held behind
 * it as well, up to some bytes, on sockets where nobody can see where a send began. They stay held
 * meanwhile. What the step has moved is dealt out in order: who has got all of his bytes ends as
 * soon as it is his turn, who has got a part goes on from there, the others are as they were. */
#include "core.h"

#define RIDE_BYTES ((size_t)64 << 10) /* a step of that size is none the cheaper for more */

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
    return op->done_ || op->retries_ || op->ready_ || op->stream_ & SEND_RIDES;
}

bool ouro__sendq_settles(ouro_loop *loop, ouro_op *op)
{
    if (op->notes_ & NOTE_LOST) /* the engine that had its bytes is */
        ouro__ended(loop, op, -EIO);
    else if (op->done_ && (uint64_t)op->done_ == ouro__wanted_bytes(op))
        ouro__finish(loop, op, op->done_, 0);
    else if (op->marks_ & (MARK_CANCEL | MARK_TIMEOUT)) /* as it rode; a part has gone out */
        ouro__ended(loop, op, -ECANCELED);
    else if (op->sendq_->error_ && !begun(op))
        ouro__finish(loop, op, -ECANCELED, OURO_C_CANCELED);
    else
        return false;
    return true;
}

/* ---- Riding along --------------------------------------------------------------------------- */

static size_t bytes_left(const ouro_op *op)
{
    return (size_t)op->arg[ARG_LEN] - (size_t)op->done_;
}

/* One that asks for nothing but its bytes to go out. */
static bool is_simple(const ouro_op *op)
{
    uint32_t harmless = OURO_EXACT | OURO_SERIAL | OURO_DIRECT | OURO_QUIET;

    return op->code == OURO_SEND && op->stream_ & SEND_QUEUED && !op->arg[ARG_MSG_FLAGS] &&
           !(op->flags & ~harmless) && op->arg[ARG_LEN] && bytes_left(op) < RIDE_BYTES;
}

bool ouro__sendq_leads(const ouro_op *op)
{
    return op->stream_ & SEND_QUEUED && is_simple(op) && ouro__fd(op) >= 0 &&
           ouro__file_counted(op)->held.head;
}

static struct iovec buffer_of(const ouro_op *op)
{
    return (struct iovec){ (char *)ouro__ptr(op, ARG_BUF) + op->done_, bytes_left(op) };
}

/* Was it held for the file that its number stands for now? */
static bool same_file(const ouro_op *op, int64_t identity)
{
    return !(op->notes_ & NOTE_HELD) || op->engine_[0] == (uint64_t)identity;
}

/* Who is held behind it in the same lane keeps his place. */
unsigned ouro__sendq_gather(ouro_op *op, struct iovec ret[OURO__RIDE_MOST])
{
    size_t bytes = bytes_left(op);
    unsigned count = 1;
    int64_t identity;

    ret[0] = buffer_of(op);
    if (!ouro__fd_joins(ouro__fd(op)))
        return 1;
    identity = op->flags & OURO_DIRECT ? 0 : ouro__fd_identity(ouro__fd(op));
    for (ouro_op *at = ouro__file_counted(op)->held.head; at && count < OURO__RIDE_MOST;
         at = at->next_) {
        if (!ouro__order_writes(at))
            continue;
        bytes += (size_t)at->arg[ARG_LEN];
        if (!is_simple(at) || at->sendq_ != op->sendq_ || bytes > RIDE_BYTES ||
            !same_file(at, identity))
            break;
        ret[count++] = buffer_of(at);
        at->stream_ |= SEND_RIDES;
        at->engine_[1] = (uintptr_t)op;
        op->stream_ |= SEND_LEADS;
    }
    return count;
}

/* The first that rides with it. Before them in their lane are only those that have. */
static ouro_op *rider_of(const ouro_op *op, const struct ouro__list *held)
{
    for (ouro_op *at = held->head; at; at = at->next_) {
        if (!ouro__order_writes(at))
            continue;
        if (at->engine_[1] != (uintptr_t)op)
            return NULL;
        if (at->stream_ & SEND_RIDES)
            return at;
    }
    return NULL;
}

int64_t ouro__sendq_dealt(ouro_loop *loop, ouro_op *op, int64_t res)
{
    const struct ouro__list *held = &ouro__file_counted(op)->held;
    int64_t own = (int64_t)bytes_left(op), left = res > own ? res - own : 0;
    bool asked = false;
    ouro_op *rider;

    op->stream_ &= (uint8_t)~SEND_LEADS;
    while ((rider = rider_of(op, held))) {
        int64_t size = (int64_t)rider->arg[ARG_LEN];

        rider->stream_ &= (uint8_t)~SEND_RIDES;
        rider->done_ = left < size ? left : size;
        left -= rider->done_;
        if (!(rider->marks_ & (MARK_CANCEL | MARK_TIMEOUT)))
            continue;
        asked = true;
        if (rider->done_)
            continue;
        ouro__order_unhold(loop, rider);
        ouro__ended(loop, rider, -ECANCELED);
    }
    if (res == -ECANCELED && asked)
        return -EINTR; /* nobody has asked for its own end: it goes on */
    return res > own ? own : res;
}

void ouro__sendq_alight(ouro_loop *loop, const ouro_op *op)
{
    ouro_op *leader = (ouro_op *)(uintptr_t)op->engine_[1];

    if (leader->notes_ & NOTE_LOST || leader->marks_ & (MARK_CANCEL | MARK_TIMEOUT))
        return; /* it ends in any case */
    loop->engine->cancel(loop, leader);
    loop->asked = true;
}

/* ---- Ends ----------------------------------------------------------------------------------- */

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

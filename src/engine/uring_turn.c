/* SPDX-License-Identifier: MIT */
/* uring_turn.c: driving an open ring: submitting, sleeping in it, reporting what it
 * finished, cancels, and losing it.
 *
 * A system may take the ring away at any time (a seccomp filter, a program that closes all
 * descriptors). Every enter is judged; a verdict that will not change sets `lost`, and the turn
 * ends by giving the ring up: what the kernel never saw goes on elsewhere (ouro__uring_abandon). */
#include "uring.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define REAP_BUDGET 4096u   /* completions in one turn, so that timers and inbox get theirs */
#define LAST_LOOKS 20u      /* a millisecond apart, at what a ring that is lost still completes */
#define AHEAD 3u            /* so many completions before its turn an operation is loaded */
#define LOOKS 8u            /* one look may bring only a part of what the kernel deferred */
#define PUT_OFF_MOST 4u     /* turns in a row, ... */
#define PUT_OFF_NS OURO_MS  /* ... if they are short */
#define TOGETHER_NS 200000u /* for which several completions are waited for at once */
#define REFUSALS_QUICK 16u  /* enters refused for want of memory: tried at once, ... */
#define REFUSALS_MOST 1000u /* ... then every millisecond, and then the operations are refused */
#define ALWAYS (POLLERR | POLLHUP | POLLNVAL) /* poll(2) reports these unasked */

/* ---- Entering the kernel ------------------------------------------------------------------- */

/* What took the number of a descriptor is not touched: without the ring nothing can be told to the
 * kernel, and without the proof nothing is proved. */
void ouro__uring_disown(const ouro_loop *loop, struct uring *u)
{
    if (!ouro__owns(loop, u->ring.fd))
        u->ring.fd = -1;
    if (!ouro__owns(loop, u->event_fd))
        u->event_fd = -1;
    if (!ouro__owns(loop, u->host_fd))
        u->host_fd = -1;
    if (!ouro__owns(loop, u->proof_fd))
        u->proof_fd = -1;
}

/* Nobody may have noticed yet that the program has closed it. */
static void signal_event(const struct uring *u, int fd)
{
    uint64_t one = 1;

    if (ouro__owns(u->loop, fd))
        (void)sys_write(fd, &one, sizeof(one));
}

/* Any thread, also one that has not noticed that the ring is lost: the state stays until close. */
void ouro__uring_wake(void *state)
{
    const struct uring *u = state;

    /* Each write is an edge, and each edge a completion of the poll, so the count need not be read
     * back. It would take 600 years of wakes to fill. */
    signal_event(u, u->event_fd);
    /* Who hosts the loop does not hear that through the ring: a kernel (6.18) that is inside the
     * write of one eventfd signals another one only the first time. */
    signal_event(u, u->host_fd);
}

/* What an enter's result means. False: the kernel took nothing, now or for ever (u->lost). */
static bool judge(ouro_loop *loop, struct uring *u, int r)
{
    if (r >= 0) {
        u->refusals = 0;
        return true;
    }
    switch (r) {
    case -EINTR:
    case -ETIME: return true;
    case -EAGAIN:
    case -EBUSY:
    case -ENOMEM: u->refusals++; return false;
    default:
        u->lost = r;
        ouro__uring_disown(loop, u);
        /* Who sleeps in the ring must leave it first. */
        if (loop->locked_mode && loop->sleeping)
            ouro__uring_wake(u);
        return false;
    }
}

/* Hands over what was written, without sleeping. The kernel may take less than all at once; to a
 * ring that is polled it is handed over once its thread was woken. */
static bool enter(ouro_loop *loop, struct uring *u, unsigned flags)
{
    unsigned count = ring_flush_count(&u->ring);
    ouro_time since = u->asks ? sys_coarse_now() : 0;
    int r;

    u->asks = u->bulk = false;
    do {
        r = ring_enter(&u->ring, count, 0, flags, NULL, 0);
        if (since)
            ouro__dared(loop, since);
        loop->stats.enters += count > 0;
        if (!judge(loop, u, r == 0 && count ? -EAGAIN : r))
            return false;
        count = ring_flush_count(&u->ring);
    } while (count && !ring_polled(&u->ring));
    return true;
}

bool ouro__uring_submit_all(ouro_loop *loop, struct uring *u)
{
    return !ring_flush_count(&u->ring) || enter(loop, u, 0);
}

/* The queue is full: until it no longer is. */
static bool make_room(ouro_loop *loop, struct uring *u)
{
    if (ring_polled(&u->ring))
        return enter(loop, u, RING_ENTER_SQ_WAIT);
    return ouro__uring_submit_all(loop, u);
}

struct ring_sqe *ouro__uring_spare_sqe(ouro_loop *loop, struct uring *u)
{
    struct ring_sqe *sqe = ring_sqe(&u->ring);

    while (!sqe && make_room(loop, u))
        sqe = ring_sqe(&u->ring);
    return sqe;
}

/* Has the kernel refused for now what was written? A thread that polls may not be there yet. */
static bool refused(struct uring *u)
{
    return ring_sq_pending(&u->ring) && (u->refusals || !ring_polled(&u->ring));
}

/* Watches the doorbell. */
static void arm(ouro_loop *loop, struct uring *u)
{
    struct ring_sqe *sqe = ouro__uring_spare_sqe(loop, u);

    if (!sqe)
        return;
    sqe->opcode = RING_OP_POLL_ADD;
    sqe->fd = u->event_fd;
    sqe->len = RING_POLL_MULTI;
    sqe->op_flags = ring_poll_mask(POLLIN);
    sqe->user_data = URING_TAG_WAKE;
    u->armed = true;
}

/* Makes the ring the calling thread's, the first time. False: there is none, or no more (a close
 * that was not finished in time has given it up). */
static bool drive(ouro_loop *loop, struct uring *u)
{
    if (!u->ring.map)
        return false;
    if (u->driven || u->lost)
        return !u->lost;
    if (u->ring.flags & RING_SETUP_R_DISABLED &&
        !judge(loop, u, ring_register(&u->ring, RING_REGISTER_ENABLE_RINGS, NULL, 0)))
        return false;
    if (u->caps & OURO_CAP_RING_FD && ring_register_fd(&u->ring) < 0)
        u->caps &= ~(uint64_t)OURO_CAP_RING_FD;
    u->driven = true;
    arm(loop, u);
    return true;
}

/* ---- Cancel -------------------------------------------------------------------------------- */

static bool ask_cancel(ouro_loop *loop, struct uring *u, const ouro_op *op)
{
    struct ring_sqe *sqe = u->lost ? NULL : ouro__uring_spare_sqe(loop, u);

    if (!sqe)
        return false;
    sqe->opcode = RING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = op->id_;
    sqe->user_data = URING_TAG_CANCEL;
    u->cancels++;
    return true;
}

/* A stream that is paused and then cancelled may wait there already. */
static void ask_later(struct uring *u, ouro_op *op)
{
    for (const ouro_op *at = u->uncanceled.head; at; at = at->next_)
        if (at == op)
            return;
    ouro__push(&u->uncanceled, op);
}

void ouro__uring_cancel(ouro_loop *loop, ouro_op *op)
{
    struct uring *u = loop->engine_state;

    if (!ask_cancel(loop, u, op))
        ask_later(u, op);
    else if (loop->locked_mode && loop->sleeping)
        (void)ouro__uring_submit_all(loop, u);
}

static void ask_cancels(ouro_loop *loop, struct uring *u)
{
    while (u->uncanceled.head && ask_cancel(loop, u, u->uncanceled.head))
        (void)ouro__pop(&u->uncanceled);
}

/* The operation has ended before there was room for its cancel. The list is short: it is used only
 * when the kernel refuses to take anything. */
static void forget_cancel(struct uring *u, ouro_op *op)
{
    for (ouro_op *at = u->uncanceled.head; at; at = at->next_) {
        if (at == op) {
            ouro__unlink(&u->uncanceled, op);
            return;
        }
    }
}

/* ---- Reaping ------------------------------------------------------------------------------- */

/* It waits, and then has the result itself. But nobody would tell it of a cancel that the ring has
 * been told of already. */
static void leave_to_worker(ouro_loop *loop, ouro_op *op)
{
    if (op->marks_ & (MARK_CANCEL | MARK_TIMEOUT) || op->stream_ & STREAM_STOPPED) {
        ouro__report(loop, op, -ECANCELED);
        return;
    }
    op->ready_ = 0;
    ouro__to_worker(loop, op, ROUTE_BLOCKER);
}

/* A poll in the ring also ends when the peer closes its half of a socket, which poll(2) reports to
 * who asked only. A worker waits for the rest. */
static void report_poll(ouro_loop *loop, ouro_op *op, int32_t res)
{
    uint32_t wanted = op->ready_ ? op->ready_ : (uint32_t)op->arg[ARG_EVENTS];
    uint32_t bits = (uint32_t)res & (wanted | ALWAYS);

    if (bits)
        ouro__report(loop, op, bits);
    else
        leave_to_worker(loop, op);
}

/* Cancels' own answers say nothing: the operation reports in any case. */
static void reap_tag(ouro_loop *loop, struct uring *u, const struct ring_cqe *cqe)
{
    if (cqe->user_data == URING_TAG_CANCEL) {
        u->cancels--;
    } else if (cqe->user_data == URING_TAG_LEND) {
        if (cqe->res >= 0) /* who wanted it could not wait for it */
            sys_close(cqe->res);
    } else if (cqe->user_data == URING_TAG_WAKE && !(cqe->flags & RING_CQE_MORE)) {
        /* The completion queue was full, or the thread that armed it has ended. At once, since a
         * foreign loop may be watching the ring for it. */
        u->armed = false;
        if (!u->lost) {
            arm(loop, u);
            (void)ouro__uring_submit_all(loop, u);
        }
    }
}

/* Sockets refuse every offset but 0, where the caller may have any: ignored from now on. */
static bool is_stream_after_all(ouro_op *op)
{
    if (!(ouro__kinds[op->code].traits & KIND_SPAN) || op->notes_ & NOTE_STREAM ||
        (int64_t)op->arg[ARG_OFFSET] == OURO_CUR)
        return false;
    op->notes_ |= NOTE_STREAM;
    return true;
}

/* A poll for an operation, or a poll, has ended. */
static void settle_poll(ouro_loop *loop, ouro_op *op, int32_t res)
{
    if (res > 0) {
        report_poll(loop, op, res);
    } else if (res == -EINVAL) {
        leave_to_worker(loop, op); /* a bit that the file never has, or one that is always ready */
    } else {
        ouro__report(loop, op, res);
    }
}

/* The bytes that a stream's completion brings. The end of the input, or a cancel, may have taken a
 * whole buffer; but never a part, even if some kernels (6.19) name a buffer. */
static void *bytes_of(ouro_pool *pool, const struct ring_cqe *cqe)
{
    uint32_t id = cqe->flags >> RING_CQE_BUFFER_SHIFT;
    bool some = cqe->res > 0, last = !pool->parts || !(cqe->flags & RING_CQE_BUF_MORE);
    void *data = NULL;

    if (!(cqe->flags & RING_CQE_BUFFER) || (pool->parts && !some))
        return NULL;
    if (pool->parts)
        data = ouro__pool_part(pool, id, (uint32_t)cqe->res, last);
    else
        data = ouro__pool_took(pool, id);
    if (data && last)
        ouro__uring_pool_took(pool);
    if (data && !some)
        (void)ouro__pool_give(pool, data);
    return some ? data : NULL;
}

/* Is it the socket's word, which has lost messages, and not that of a ring that was empty? */
static bool is_its_own(const ouro_loop *loop, const ouro_op *op, const ouro_pool *pool)
{
    int fd = ouro__fd(op);

    return ouro__pool_in_ring(pool) && pool->filled != ouro__uring_enters(loop) &&
           (fd < 0 ? loop->direct[op->fd].loses : ouro__fd_loses(fd));
}

/* One completion of a stream, perhaps with more to come from the same entry. */
static void settle_stream(ouro_loop *loop, ouro_op *op, const struct ring_cqe *cqe)
{
    ouro_pool *pool = ouro__pool_of(op);
    int32_t res = cqe->res;
    void *data = NULL;

    if (op->ready_ || op->code == OURO_POLL_MANY) {
        settle_poll(loop, op, res);
        return;
    }
    if (pool)
        data = bytes_of(pool, cqe);
    else if (res < 0)
        op->notes_ &= (uint16_t)~NOTE_SLOTTED; /* another engine may try next */
    if (res == -ENOBUFS && pool && pool->native && !is_its_own(loop, op, pool)) {
        ouro__uring_pool_more(loop, pool);
        res = OURO__NO_BUFFER;
    }
    if (data && op->code == OURO_RECVMSG_MANY)
        res -= (int32_t)ouro__datagram_rooms(op);
    ouro__stream_bring(op, data);
    if (cqe->flags & RING_CQE_MORE)
        ouro__stream_goes_on(loop, op, res);
    else
        ouro__report(loop, op, res);
}

/* A zero-copy send. What local sockets (and others), old kernels and a limit of locked memory
 * refuse is sent plainly. */
static void settle_zerocopy(ouro_loop *loop, ouro_op *op, int32_t res)
{
    bool refused = res == -EOPNOTSUPP || res == -EINVAL;

    op->notes_ &= (uint16_t)~NOTE_TRIED;
    if (refused)
        ouro__file_counted(op)->copied = URING_COPIED_ALWAYS;
    refused = refused || res == -ENOMEM || res == -ENOBUFS;
    ouro__report(loop, op, refused ? -EINTR : res); /* the core starts it again */
}

/* The kernel reads the buffer of a zero-copy send no more. The operation may have left its file by
 * now, whose record stays. */
static void settle_notice(ouro_loop *loop, ouro_op *op, int32_t res)
{
    struct ouro__file *file = (struct ouro__file *)(uintptr_t)op->file_;
    bool copied = (uint32_t)res & RING_NOTIF_USAGE_ZC_COPIED;
    bool known = op->marks_ & MARK_FILE || file->ours;

    if (copied)
        op->stream_ |= SEND_COPIED;
    if (known && file->copied != URING_COPIED_ALWAYS)
        file->copied = copied ? file->copied + (file->copied < URING_COPIED_MOST) : 0;
    ouro__let_go(loop, op);
}

static void settle(ouro_loop *loop, ouro_op *op, int32_t res)
{
    if (OURO__SELDOM(op->ready_ || op->code == OURO_POLL)) {
        settle_poll(loop, op, res);
    } else if (op->notes_ & NOTE_TRIED && op->flags & OURO_ZEROCOPY) {
        settle_zerocopy(loop, op, res);
    } else if (op->notes_ & NOTE_TRIED) {
        /* openat2 is strict about flags that openat ignores. */
        bool missed = res == -EAGAIN || res == -EINVAL;

        op->notes_ &= (uint16_t)~NOTE_TRIED;
        ouro__tried_names(loop, !missed);
        ouro__report(loop, op, missed ? -EINTR : res); /* the core starts it again */
    } else if (res < 0 && op->notes_ & NOTE_SLOTTED) {
        op->notes_ &= (uint16_t)~NOTE_SLOTTED; /* a worker may try next */
        ouro__report(loop, op, res);
    } else if (res == -ESPIPE && is_stream_after_all(op)) {
        ouro__report(loop, op, -EINTR);
    } else {
        ouro__report(loop, op, res);
    }
}

/* A run of plain operations: how many of the next `count` completions were such. */
static OURO__APART uint32_t reap_plain(ouro_loop *loop, const struct ring *ring, uint32_t first,
                                       uint32_t count)
{
    struct ouro__run run = ouro__run_start(loop);
    const struct ring_cqe *start = ring_cqe(ring, first), *end = ring->cqes + ring->cq_entries;
    const struct ring_cqe *cqe = start;

    count = count < run.left ? count : run.left;
    end = count < end - cqe ? cqe + count : end;
    for (; cqe != end; cqe++) {
        ouro_id id = cqe->user_data;
        struct ouro__slot *slot = ouro__run_slot(&run, id);
        int32_t res = cqe->res;
        ouro_op *op;

        if (OURO__SELDOM(!ouro__run_holds(slot, id)))
            break;
        op = ouro__run_op(slot);
        if (ouro__is_plain_nop(op)) {
            if (res)
                break;
        } else if (op->state_ != STATE_PLAIN) {
            break;
        } else {
            /* The copying of what was read has pushed the operations out of the nearest cache. */
            if (end - cqe > AHEAD)
                ouro__slot_prefetch(ouro__run_slot(&run, cqe[AHEAD].user_data));
            if (!ouro__run_usual(loop, op, res))
                break;
        }
        ouro__run_finish(loop, &run, slot, id, op, res);
    }
    count = (uint32_t)(cqe - start);
    ouro__run_end(loop, &run, count);
    return count;
}

/* A request that was refused as such, and not what it asked for. Then the ring is given up, and the
 * next engine begins the operation anew. A close may have an -EACCES of its file's server's. */
static bool was_denied(struct uring *u, const ouro_op *op, const struct ring_cqe *cqe)
{
    if (cqe->user_data == URING_TAG_LEND || cqe->user_data == URING_TAG_LENT)
        return false;
    if (!u->suspected)
        ring_denied(u->ops, u->denied);
    u->suspected = true;
    if (op && op->code == OURO_CLOSE)
        return ring_knows(u->denied, RING_OP_CLOSE);
    return u->denied[0] | u->denied[1];
}

static void give_back(ouro_loop *loop, struct uring *u, ouro_op *op)
{
    u->lost = u->lost ? u->lost : -EACCES;
    if (!op)
        return;
    forget_cancel(u, op);
    op->notes_ &= (uint16_t) ~(NOTE_TRIED | NOTE_SLOTTED);
    if (op->marks_ & (MARK_CANCEL | MARK_TIMEOUT) || op->stream_ & STREAM_STOPPED)
        ouro__report(loop, op, -ECANCELED);
    else
        ouro__unpull(loop, op);
}

static void reap_one(ouro_loop *loop, struct uring *u, ouro_op *op, const struct ring_cqe *cqe)
{
    if (OURO__SELDOM(cqe->res == -EACCES) && was_denied(u, op, cqe)) {
        u->running -= cqe->user_data < URING_TAG_FIRST;
        u->cancels -= cqe->user_data == URING_TAG_CANCEL;
        give_back(loop, u, op);
        return;
    }
    if (cqe->user_data >= URING_TAG_FIRST) {
        reap_tag(loop, u, cqe);
        return;
    }
    u->running -= !(cqe->flags & RING_CQE_MORE);
    if (OURO__SELDOM(!op)) {
        loop->stats.stale++;
        return;
    }
    if (u->uncanceled.head && !(cqe->flags & RING_CQE_MORE))
        forget_cancel(u, op);
    __builtin_prefetch((const void *)(uintptr_t)op->file_, 1); /* an answer will go there */
    if (OURO__SELDOM(op->marks_ & MARK_STREAM)) {
        settle_stream(loop, op, cqe);
    } else if (OURO__SELDOM(cqe->flags & RING_CQE_NOTIF)) {
        settle_notice(loop, op, cqe->res);
    } else {
        if (OURO__SELDOM(cqe->flags & RING_CQE_MORE))
            ouro__keep(op);
        settle(loop, op, cqe->res);
    }
}

/* The slot of an id; most are in the first chunk. */
static inline struct ouro__slot *slot_of(ouro_loop *loop, struct ouro__slot *chunk, ouro_id id)
{
    return chunk && ouro__run_has(id) ? chunk + (id & OURO__SLOT_MASK) : ouro__slot_of(loop, id);
}

/* Is there room for an event that is not final? *spare: what is left of what was found last. */
static inline bool has_room(ouro_loop *loop, int64_t *spare)
{
    if (*spare == 0) {
        if (ouro__ring_space(loop) < 0)
            return false;
        *spare = ouro__ring_spare(loop);
    }
    --*spare;
    return true;
}

/* Reports what is in the completion queue. Reporting runs no callback, nor this again. */
static unsigned reap(ouro_loop *loop, struct uring *u, unsigned budget)
{
    struct ring *ring = &u->ring;
    uint32_t first = ring->cq_head, count = ring_cq_tail(ring) - first, done = 0;
    struct ouro__slot *chunk = ouro__slot_at(loop, 0);
    int64_t spare = 0;

    if (count > budget)
        count = budget;
    for (uint32_t i = 0; i < AHEAD && i < count; i++)
        ouro__slot_prefetch(slot_of(loop, chunk, ring_cqe(ring, first + i)->user_data));
    while (done < count) {
        const struct ring_cqe *cqe = ring_cqe(ring, first + done);
        struct ouro__slot *slot = slot_of(loop, chunk, cqe->user_data);
        ouro_op *op = ouro__slot_tenant(slot, cqe->user_data);
        uint32_t plain = 0;

        if (count - done > AHEAD)
            ouro__slot_prefetch(
                slot_of(loop, chunk, ring_cqe(ring, first + done + AHEAD)->user_data));
        if (op && op->state_ == STATE_PLAIN && ouro__run_has(cqe->user_data))
            plain = reap_plain(loop, ring, first + done, count - done);
        else if (op && cqe->flags & RING_CQE_MORE && !has_room(loop, &spare))
            break; /* no memory: until the caller has taken some */
        u->running -= plain;
        done += plain ? plain : 1;
        if (!plain)
            reap_one(loop, u, op, cqe);
    }
    ring_cq_advance(ring, first + done);
    return done;
}

/* ---- Losing the ring ----------------------------------------------------------------------- */

/* Takes back what the kernel has not seen: to the queue, or with an error to its end. Last first,
 * so that the queue has them in order. */
static void take_back(ouro_loop *loop, struct uring *u, int error)
{
    struct ring *ring = &u->ring;
    unsigned pending = ring_sq_pending(ring), count = ring_sq_revocable(ring);

    while (count--) {
        struct ring_sqe sqe = *ring_sq_peek(ring, --pending);
        bool cancel = sqe.user_data == URING_TAG_CANCEL;
        ouro_op *op = ouro__slot_find(loop, cancel ? sqe.addr : sqe.user_data);

        ring->sq_tail--;
        if (sqe.user_data >= URING_TAG_FIRST && !cancel) {
            u->armed = u->armed && sqe.user_data != URING_TAG_WAKE;
            continue;
        }
        if (cancel) {
            u->cancels--;
            if (op && op->state_ == STATE_RUNNING)
                ask_later(u, op);
            continue;
        }
        u->running--;
        if (!op)
            continue;
        forget_cancel(u, op);
        op->notes_ &= (uint16_t) ~(NOTE_TRIED | NOTE_SLOTTED); /* it was not */
        if (error)
            ouro__report(loop, op, error);
        else
            ouro__unpull(loop, op);
    }
    ring->sq_published = ring->sq_tail;
    atomic_store_explicit(ring->sq_ktail, ring->sq_tail, memory_order_release);
}

/* The kernel is short of memory and takes nothing. What is in flight may give some back. */
static void be_patient(ouro_loop *loop, struct uring *u)
{
    int pause_ms = u->refusals > REFUSALS_QUICK;

    /* Other threads may have the lock meanwhile: they wait for what has ended. */
    ouro__sleep(loop, OURO_NOWAIT);
    (void)sys_poll(NULL, 0, pause_ms);
    ouro__awake(loop);
    if (u->lost)
        return;
    if (u->refusals > REFUSALS_MOST && u->running <= ring_sq_revocable(&u->ring)) {
        take_back(loop, u, -ENOMEM);
        u->refusals = 0;
        return;
    }
    (void)ring_enter(&u->ring, 0, 0, RING_ENTER_GETEVENTS, NULL, 0);
    (void)reap(loop, u, REAP_BUDGET);
}

/* The last thing that a turn does: the engine may be another one afterwards. */
static void give_up(ouro_loop *loop, struct uring *u)
{
    char reason[240];

    if (loop->locked_mode && loop->sleeping) {
        ouro__uring_wake(u);
        return;
    }
    snprintf(
        reason, sizeof(reason),
        "io_uring was taken away while it was in use (error %d); probably a seccomp filter was "
        "installed, requests are restricted, or a program closed descriptors that are not its own",
        -u->lost);
    ouro__engine_lost(loop, reason);
}

/* Often only enter is denied: then this ends what can be ended, also when a forked child's copy
 * keeps the ring alive. What it ends untouched goes on with the next engine. Result: how many. */
static int cancel_all(struct uring *u)
{
    struct ring_sync_cancel cancel = {
        .fd = -1,
        .flags = RING_CANCEL_ALL | RING_CANCEL_ANY,
        .timeout = { .nsec = 20 * 1000 * 1000 },
    };

    if (u->ring.fd < 0)
        return 0;
    return ring_register(&u->ring, RING_REGISTER_SYNC_CANCEL, &cancel, 1);
}

/* What was cancelled completes on the thread that submitted it, which may be another one and need
 * a moment. A ring with DEFER_TASKRUN completes nothing without enter, which is still to be had
 * where requests alone are denied. */
static void reap_rest(ouro_loop *loop, struct uring *u)
{
    bool enters = u->lost == -EACCES;
    bool wait = cancel_all(u) > 0 && !(u->ring.flags & RING_SETUP_DEFER_TASKRUN);

    /* The kernel's thread may be about to take what was published. */
    wait = wait || enters || ring_polled(&u->ring);

    for (unsigned i = 0; i < LAST_LOOKS; i++) {
        if (enters)
            (void)ring_enter(&u->ring, 0, 0, RING_ENTER_GETEVENTS, NULL, 0);
        while (reap(loop, u, REAP_BUDGET))
            continue;
        if (!wait || u->running <= ring_sq_revocable(&u->ring))
            return;
        (void)sys_poll(NULL, 0, 1);
    }
}

int ouro__uring_abandon(ouro_loop *loop)
{
    struct uring *u = loop->engine_state;
    int proof_fd = u->proof_fd;

    reap_rest(loop, u);
    take_back(loop, u, 0);
    u->uncanceled = (struct ouro__list){ 0 };
    u->running = u->cancels = 0;
    if (u->buffers)
        (void)ring_register(&u->ring, RING_UNREGISTER_BUFFERS, NULL, 0);
    if (!ring_polled(&u->ring)) /* its thread may still read them */
        ouro__uring_free_messages(loop, u);
    ring_close(&u->ring);
    u->proof_fd = -1;
    return proof_fd;
}

/* ---- A turn -------------------------------------------------------------------------------- */

/* A ring twice as large, while the kernel lets us have it. */
static bool grow(ouro_loop *loop, struct uring *u)
{
    struct ring *ring = &u->ring;
    unsigned entries = ring->sq_entries * 2;
    uint32_t limit;
    int r;

    if (!(u->caps & OURO_CAP_RESIZE) || entries > URING_ENTRIES_MOST)
        return false;
    if (u->messages) { /* entries that the kernel has not seen may point there, or to parts */
        if (!ouro__uring_submit_all(loop, u))
            return false;
        ouro__uring_free_messages(loop, u);
    }
    r = ring_resize(ring, entries, entries * URING_CQ_FACTOR);
    if (r < 0) {
        u->caps &= ~(uint64_t)OURO_CAP_RESIZE;
        if (r == -ENOTRECOVERABLE)
            u->lost = r;
        return false;
    }
    limit = ouro__uring_limit(ring);
    u->limit = limit > u->limit ? limit : u->limit;
    return true;
}

/* Writes what is queued; entries may be left for the caller to submit. True: there is more to do
 * before a sleep. */
static bool prepare(ouro_loop *loop, struct uring *u)
{
    enum uring_fill full;

    if (u->uncanceled.head)
        ask_cancels(loop, u);
    if (!u->armed)
        arm(loop, u);
    ouro__uring_pools_fill(loop);
    while ((full = ouro__uring_fill(loop, u)) != FILL_DONE) {
        loop->stats.queue_full++;
        if (full == FILL_SQ_FULL) {
            if (!grow(loop, u) && (u->lost || !make_room(loop, u)))
                return true;
            continue;
        }
        if (!enter(loop, u, RING_ENTER_GETEVENTS) || ring_cq_ready(&u->ring))
            return true;
        if (ring_sq_pending(&u->ring)) /* polled: some are not begun, and may finish at once */
            return true;
        /* Nothing is finished, and the next one may be what all others wait for. If they should
         * finish all at once, the kernel keeps what the queue has no room for. */
        if (!grow(loop, u))
            u->limit += u->ring.cq_entries;
    }
    return u->lost;
}

void ouro__uring_submit(ouro_loop *loop)
{
    struct uring *u = loop->engine_state;

    if (drive(loop, u)) {
        bool more = prepare(loop, u);
        (void)ouro__uring_submit_all(loop, u);
        loop->asked = loop->asked || refused(u);
        if (more && !u->lost && loop->locked_mode && loop->sleeping)
            ouro__uring_wake(u);
    }
    if (u->lost)
        give_up(loop, u);
}

/* Submits, and runs what the kernel deferred, without sleeping. */
static void look(ouro_loop *loop, struct uring *u)
{
    unsigned flags = ring_sq_flags(&u->ring);

    loop->stats.overflow += !!(flags & RING_SQ_CQ_OVERFLOW);
    if (ring_flush_count(&u->ring) || flags & (RING_SQ_TASKRUN | RING_SQ_CQ_OVERFLOW) ||
        u->host_fd >= 0)
        (void)enter(loop, u, RING_ENTER_GETEVENTS);
}

/* Is there something to report already? Then what the kernel has deferred (the copying of what was
 * read, above all) waits a turn: who gets the report may have more for the device, which would idle
 * meanwhile. Opens and closes are submitted first, for the same reason; most are over with that. So
 * are large sends, whose bytes are in the processor's caches now, and whose buffers are the next to
 * be received into then.
 * Who only looks, or hosts the loop, sleeps elsewhere, and is told of all that has ended. */
static bool put_off(ouro_loop *loop, struct uring *u, ouro_time until)
{
    bool ready;

    if ((u->asks || u->bulk) && !ouro__uring_submit_all(loop, u))
        return true;
    ready = ouro__progress(loop) != loop->turn_progress || ring_cq_ready(&u->ring);
    if (!ready || until == OURO_NOWAIT || u->host_fd >= 0) {
        u->put_off = 0;
        return false;
    }
    if (!u->put_off)
        u->put_off_since = sys_coarse_now();
    else if (u->put_off == PUT_OFF_MOST || sys_coarse_now() - u->put_off_since > PUT_OFF_NS)
        return false;
    u->put_off++;
    (void)ouro__uring_submit_all(loop, u);
    return true;
}

/* Sleeps in the ring. The kernel (6.13) runs what it has deferred 20 at a time, or as many as are
 * asked for together. But a doorbell is one completion, and so is one that starts something else;
 * neither may wait long for others. Where there is a lock, it is not held now. */
static int sleep_in_ring(const ouro_loop *loop, struct uring *u, unsigned count, ouro_time until)
{
    ouro_time soon;
    int r;

    if (!loop->locked_mode && loop->wanted > 1 && u->running > 1) {
        soon = sys_now() + TOGETHER_NS;
        if (until != OURO_FOREVER && until < soon)
            soon = until;
        r = ring_wait(&u->ring, count, loop->wanted < u->running ? loop->wanted : u->running, soon);
        if (ring_cq_ready(&u->ring) || (r < 0 && r != -ETIME) || soon == until)
            return r;
        count = ring_flush_count(&u->ring);
    }
    return ring_wait(&u->ring, count, 1, until);
}

static void sleep_until(ouro_loop *loop, struct uring *u, ouro_time until)
{
    unsigned count;
    int r;

    /* Without the lock others submit as well, so the sleeper must not. */
    if (loop->locked_mode && !ouro__uring_submit_all(loop, u))
        return;
    count = ring_flush_count(&u->ring);
    ouro__sleep(loop, until);
    r = sleep_in_ring(loop, u, count, until);
    ouro__awake(loop);
    loop->stats.enters += count > 0;
    (void)judge(loop, u, r);
}

/* A hosted turn gives no signal for what it finishes itself. It ends by taking the signals back
 * that came before, and gives one for what it leaves undone. A doorbell's may be among the former:
 * the core looks into the inbox after each turn. Nothing is read before the turn has entered the
 * ring: then it is there, and so is what was opened with it. */
static void host_signal(struct uring *u, bool on)
{
    uint64_t word = 1;

    if (u->host_fd < 0)
        return;
    if (on)
        (void)sys_read(u->host_fd, &word, sizeof(word));
    ring_cq_eventfd(&u->ring, on);
    /* The kernel looks at that switch after it has shown a completion: either it sees it on, or we
     * see the completion. */
    atomic_thread_fence(memory_order_seq_cst);
    word = 1;
    if (on && (ring_cq_ready(&u->ring) || ring_needs_enter(&u->ring)))
        (void)sys_write(u->host_fd, &word, sizeof(word));
}

/* Is there neither anything to hand over nor to find? */
static bool nothing_to_do(const ouro_loop *loop, struct uring *u)
{
    return !loop->queue.head && !ring_flush_count(&u->ring) && !ring_cq_ready(&u->ring) &&
           !ring_needs_enter(&u->ring) && !u->uncanceled.head && u->armed && u->host_fd < 0;
}

void ouro__uring_wait(ouro_loop *loop, ouro_time until)
{
    struct uring *u = loop->engine_state;
    unsigned count;

    if (until == OURO_NOWAIT && u->driven && !u->lost && nothing_to_do(loop, u)) {
        u->put_off = 0;
    } else if (drive(loop, u)) {
        unsigned looks = 0;
        bool busy;

        host_signal(u, false);
        busy = prepare(loop, u);
        if (!put_off(loop, u, until)) {
            until = ouro__until(loop, until);
            if (busy || until == OURO_NOWAIT || ring_cq_ready(&u->ring)) {
                looks = LOOKS;
                look(loop, u);
            } else {
                sleep_until(loop, u, until);
            }
        }
        count = reap(loop, u, REAP_BUDGET);
        for (; looks && !u->lost && count < REAP_BUDGET && ring_needs_enter(&u->ring); looks--) {
            look(loop, u);
            count += reap(loop, u, REAP_BUDGET - count);
        }
        if (looks) /* all was taken: the next turns may put off again */
            u->put_off = 0;
        if (u->refusals && !count && !u->lost)
            be_patient(loop, u);
        if (u->host_fd >= 0 && !u->lost) {
            /* The host sleeps next: nothing may wait for the turn after it. */
            if (!u->armed)
                arm(loop, u);
            (void)ouro__uring_submit_all(loop, u);
            host_signal(u, true);
        }
        loop->asked = loop->asked || refused(u); /* no sleep */
    }
    if (u->lost)
        give_up(loop, u);
}

/* Deferred completions do not wake a poll of the ring, but a registered eventfd. */
static int host(ouro_loop *loop, struct uring *u)
{
    long fd;
    int r;

    if (u->host_fd >= 0)
        return u->host_fd;
    fd = sys_eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return (int)fd;
    ouro__own(loop, (int)fd);
    r = ring_register(&u->ring, RING_REGISTER_EVENTFD, &(int){ (int)fd }, 1);
    if (r < 0) {
        sys_close((int)fd);
        return r;
    }
    u->host_fd = (int)fd;
    return u->host_fd;
}

int ouro__uring_pollfd(ouro_loop *loop)
{
    struct uring *u = loop->engine_state;

    /* The doorbell shows through the ring only once it is watched; and the ring may be gone. */
    if (drive(loop, u))
        (void)enter(loop, u, 0);
    if (u->lost)
        return u->lost;
    return u->ring.flags & RING_SETUP_DEFER_TASKRUN ? host(loop, u) : u->ring.fd;
}

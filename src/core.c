/* SPDX-License-Identifier: MIT */
/* core.c: an operation's way from submit to its completion; the same for all engines.
 *
 * accept (counted, ordered) -> start (queued) -> pull (the engine has it) -> report (what the
 * system said: try again, go on, or the end) -> finish (the caller's result, the event). Nothing
 * here runs a callback: finish puts events into rings, and loop.c delivers them. */
#include "core.h"

#define RETRIES_ON_ENGINE 3
#define RETRIES 16
#define RETRIES_AT_ALL 200 /* then even -EAGAIN is a result: nothing here knows how to wait */
#define EVENT_IN 1u        /* POLLIN */
#define EVENT_OUT 4u       /* POLLOUT */
#define RESTART_FIRST 512
#define RESTART_LAST 516
#define STEP_NONBLOCK 2u  /* SPLICE_F_NONBLOCK */
#define STEP_NOWAIT 8u    /* RWF_NOWAIT */
#define STEP_DONTWAIT 64u /* MSG_DONTWAIT */

/* ---- Delivery ------------------------------------------------------------------------------ */

/* The completion becomes visible. A plain operation is the caller's from here on. */
static OURO__INLINE void deliver(ouro_loop *loop, ouro_op *op)
{
    struct ouro__ring *ring = op->cb ? &loop->calls : &loop->events;

    if (!(op->flags & OURO_QUIET) || op->res < 0) {
        ouro__ring_push(ring, op, op->res, op->cflags, op->cause);
        if (op->cb) {
            ouro__set_state(op, STATE_REPORTED);
            return;
        }
    } else if (OURO__SELDOM(loop->inbox.starved)) {
        ouro__inbox_feed(loop);
    }
    if (loop->waiters)
        ouro__served(loop, op);
    ouro__set_state(op, STATE_DONE);
}

/* ---- Accept -------------------------------------------------------------------------------- */

static int find_region(ouro_loop *loop, ouro_op *op)
{
    uintptr_t at = (uintptr_t)op->arg[ARG_BUF];

    for (uint32_t i = 0; i < loop->region_count; i++) {
        uintptr_t base = (uintptr_t)loop->regions[i].iov_base;
        size_t size = loop->regions[i].iov_len;
        if (at >= base && at - base <= size && op->arg[ARG_LEN] <= size - (at - base)) {
            op->region_ = i;
            return 0;
        }
    }
    return -EFAULT;
}

static int reserve_slot(ouro_loop *loop, ouro_op *op)
{
    struct ouro__direct *direct;

    if (!(ouro__kinds[op->code].traits & KIND_MAKES) || !op->arg[ARG_SLOT])
        return 0;
    direct = &loop->direct[op->arg[ARG_SLOT] - 1];
    if (direct->fd != OURO__SLOT_EMPTY)
        return -EBUSY;
    direct->fd = OURO__SLOT_OPENING;
    return 0;
}

static void unreserve_slot(ouro_loop *loop, ouro_op *op)
{
    if (ouro__kinds[op->code].traits & KIND_MAKES && *ouro__slot_word(op))
        loop->direct[*ouro__slot_word(op) - 1].fd = OURO__SLOT_EMPTY;
}

static bool is_timer(const ouro_op *op)
{
    return op->code == OURO_TIMER || op->code == OURO_TIMER_MANY;
}

/* Its place in the heap: what comes first. */
ouro_time ouro__wanted_time(const ouro_op *op)
{
    ouro_time at = is_timer(op) ? ouro__timer_at(op) : op->deadline;

    return op->deadline && op->deadline < at ? op->deadline : at;
}

/* An operation that is the caller's is clean (or all-zero): whoever ends it has cleaned it, so that
 * the short way has less to store. */
void ouro__clean(ouro_op *op)
{
    op->marks_ = 0;
    op->done_ = 0;
    op->lanes_ = op->retries_ = op->stream_ = 0;
    op->notes_ = op->ready_ = 0;
}

static void own(ouro_loop *loop, ouro_op *op, enum ouro__route route)
{
    op->cflags = 0;
    op->cause = 0;
    op->loop_ = loop;
    op->since_ = ouro__now(loop);
    op->route_ = (uint8_t)route;
}

static void count_in(ouro_loop *loop, const ouro_op *op)
{
    loop->stats.submitted++;
    ouro__accepted(loop, op);
}

/* What a posted operation lacks, and a submitted one is refused for. */
static int admit(ouro_loop *loop, ouro_op *op)
{
    uint16_t traits = ouro__kinds[op->code].traits;
    int r;

    if (op->flags & OURO_REGBUF && (r = find_region(loop, op)) < 0)
        return r;
    if ((r = reserve_slot(loop, op)) < 0)
        return r;
    if (traits & KIND_STREAM && (r = ouro__stream_in(loop, op)) < 0)
        goto unreserve;
    if ((op->deadline || is_timer(op)) && (r = ouro__heap_add(loop, op, ouro__wanted_time(op))) < 0)
        goto unstream;
    if ((r = ouro__file_enter(loop, op)) < 0)
        goto unheap;
    loop->regbuf_in_flight += !!(op->flags & OURO_REGBUF);
    return 0;
unheap:
    if (op->marks_ & MARK_HEAP)
        ouro__heap_remove(loop, op);
unstream:
    if (traits & KIND_STREAM)
        ouro__stream_out(loop, op);
unreserve:
    unreserve_slot(loop, op);
    return r;
}

static int take_place(ouro_loop *loop, ouro_op *op)
{
    int r;

    if (ouro__room(loop) <= 0 && (r = ouro__ring_room(loop, 1)) < 0)
        return r;
    return ouro__slot_take(loop, &loop->slots, op);
}

/* Counts a checked operation in; it is HELD and somebody calls ouro__accepted, and then ouro__begin
 * (or another's end does), or ouro__unaccept. */
int ouro__accept(ouro_loop *loop, ouro_op *op)
{
    int r = take_place(loop, op);

    if (r < 0)
        return r;
    own(loop, op, loop->routes[op->code]);
    r = admit(loop, op);
    if (r < 0) {
        ouro__slot_give(loop, op);
        ouro__clean(op);
        return r;
    }
    ouro__set_state(op, STATE_HELD);
    loop->stats.submitted++;
    return 0;
}

/* Can the engine do it on a file that has no descriptor? Some need a look at it first: a write to
 * what may be a pipe, a stream that has to tell records from bytes and cannot, a close that may
 * have to wait for a peer. */
static bool by_number(const ouro_loop *loop, const ouro_op *op)
{
    if (op->flags & OURO_FDMODE)
        return false;
    switch (op->code) {
    case OURO_CLOSE: return !loop->direct[op->fd].lingers;
    case OURO_WRITE: return loop->caps & OURO_CAP_NOSIGNAL && (int64_t)op->arg[ARG_OFFSET] >= 0;
    case OURO_READ: return (int64_t)op->arg[ARG_OFFSET] >= 0;
    case OURO_RECV_MANY: return !(loop->caps & OURO_CAP_PARTS) || loop->direct[op->fd].bytes;
    case OURO_RECV:
    case OURO_SEND:
    case OURO_RECVMSG:
    case OURO_SENDMSG:
    case OURO_POLL:
    case OURO_POLL_MANY:
    case OURO_ACCEPT:
    case OURO_ACCEPT_MANY:
    case OURO_BIND:
    case OURO_LISTEN:
    case OURO_CONNECT:
    case OURO_SHUTDOWN: return true;
    default: return false;
    }
}

/* A receive or send of one buffer. */
static inline bool is_message(const ouro_op *op)
{
    return op->code == OURO_RECV || op->code == OURO_SEND;
}

static OURO__APART struct ouro__file *usual_slot_file(ouro_loop *loop, ouro_op *op)
{
    struct ouro__direct *direct;

    if ((uint64_t)op->fd >= loop->direct_count)
        return NULL;
    direct = &loop->direct[op->fd];
    if (direct->fd < 0 &&
        !(direct->fd == OURO__SLOT_ENGINE && (is_message(op) || by_number(loop, op))))
        return NULL;
    op->real_fd_ = direct->fd;
    return &direct->file;
}

static OURO__INLINE struct ouro__file *usual_file(ouro_loop *loop, ouro_op *op)
{
    return op->flags & OURO_DIRECT ? usual_slot_file(loop, op) : ouro__file_at(loop, op->fd);
}

/* A slot that an engine may fill by itself; others need to be told of. */
static bool usual_slot(const ouro_loop *loop, uint64_t slot)
{
    return loop->caps & OURO_CAP_SLOTS && slot <= loop->direct_count &&
           loop->direct[slot - 1].fd == OURO__SLOT_EMPTY;
}

/* Finds what the arguments of a usual operation name. False: something is out of the common. */
static inline bool usual(ouro_loop *loop, ouro_op *op, struct ouro__file **ret_file)
{
    uint32_t flags = op->flags & ~(uint32_t)OURO_QUIET;

    switch (op->code) {
    case OURO_READ:
    case OURO_WRITE:
        *ret_file = usual_file(loop, op);
        return !(flags & ~(uint32_t)(OURO_EXACT | OURO_REGBUF | OURO_DIRECT)) &&
               (int64_t)(op->arg[ARG_OFFSET] | op->arg[ARG_LEN]) >= 0 && op->arg[ARG_BUF] &&
               *ret_file && !(*ret_file)->closer;
    case OURO_OPEN:
        *ret_file = op->fd == OURO_HERE ? &loop->here : ouro__file_at(loop, op->fd);
        return !flags && op->arg[ARG_PATH] && *ret_file && !(*ret_file)->closer &&
               (!op->arg[ARG_SLOT] || usual_slot(loop, op->arg[ARG_SLOT]));
    case OURO_CLOSE:
        *ret_file = usual_file(loop, op);
        return !(flags & ~(uint32_t)OURO_DIRECT) && *ret_file && !(*ret_file)->in_flight &&
               (!flags || op->real_fd_ == OURO__SLOT_ENGINE);
    default: return false;
    }
}

/* The same of a receive or send. */
static OURO__INLINE bool usual_message(ouro_loop *loop, ouro_op *op, struct ouro__file **ret_file)
{
    uint32_t odd = ~(uint32_t)(OURO_QUIET | OURO_EXACT | OURO_DIRECT);

    if (op->flags & odd || (int64_t)op->arg[ARG_LEN] < 0 || !op->arg[ARG_BUF] ||
        op->arg[ARG_MSG_FLAGS] & ~(uint64_t)STEP_DONTWAIT)
        return false;
    *ret_file = usual_file(loop, op);
    return *ret_file && !(*ret_file)->closer;
}

static enum ouro__route route_of(ouro_loop *loop, ouro_op *op)
{
    if (op->code == OURO_WORK)
        return op->flags & OURO_BG ? ROUTE_BLOCKER : ROUTE_WORKER;
    if (op->code == OURO_RESOLVE)
        return ROUTE_BLOCKER;
    if (op->code == OURO_COPY)
        return ouro__route_copy(loop, op);
    if (op->route_ == ROUTE_ENGINE && loop->engine->route_op)
        return loop->engine->route_op(loop, op);
    return op->route_;
}

/* What operations that are submitted together need to be asked only once. */
struct batch {
    bool many;
    unsigned at_once; /* that many the engine takes, with nothing queued before them */
};

/* In a locked mode another thread may sleep in the engine. */
static unsigned room_at_once(ouro_loop *loop)
{
    if (!loop->engine->room || loop->locked_mode || loop->queue.head)
        return 0;
    return loop->engine->room(loop);
}

/* Is the engine's word wanted on a usual operation? Not on a read of what is no server's. */
static bool may_be_workers(const ouro_op *op, const struct ouro__file *file)
{
    return op->code == OURO_WRITE || (op->code == OURO_READ && file->server != SERVER_NO);
}

/* What need not wait for the turn, because nothing is before it and a try would be no gain, goes to
 * the engine at once. */
static OURO__INLINE bool take_at_once(ouro_loop *loop, ouro_op *op, enum ouro__route route,
                                      struct ouro__file *file, struct batch *batch, bool message)
{
    if (!batch->at_once || route != ROUTE_ENGINE)
        return false;
    if (!message && (!ouro__engine_is_best(loop, op, file, batch->many) ||
                     (may_be_workers(op, file) && route_of(loop, op) != ROUTE_ENGINE)))
        return false;
    loop->engine->take_one(loop, op);
    batch->at_once--;
    ouro__set_state(op, STATE_PLAIN);
    loop->asked = true;
    return true;
}

/* A file in memory is read, and engines by readiness send, without a turn, if nothing waits for one
 * before and nobody sleeps for the end. */
static OURO__APART bool end_at_once(ouro_loop *loop, ouro_op *op, const struct ouro__file *file)
{
    int64_t res;
    bool ended;

    /* The slot first: what was sent cannot be taken back. */
    if (loop->locked_mode || loop->queue.head || op->flags & ~(uint32_t)OURO_QUIET ||
        ouro__slot_take(loop, &loop->slots, op) < 0)
        return false;
    ended = ouro__try_usual(loop, op, file, &res);
    ouro__slot_give(loop, op);
    if (!ended)
        return false;
    ouro__set_state(op, STATE_PLAIN);
    op->res = res;
    op->cflags = OURO_C_INLINE;
    op->cause = 0;
    loop->stats.completed++;
    loop->stats.inlined++;
    loop->asked = true; /* a host shall look */
    deliver(loop, op);
    return true;
}

/* Is it worth a try? */
static OURO__INLINE bool may_end_at_once(const ouro_loop *loop, const ouro_op *op,
                                         const struct ouro__file *file, bool message)
{
    return message ? loop->engine->sends_here && op->code == OURO_SEND
                   : op->code == OURO_READ && file->kind == FILE_MEMORY;
}

/* Opens, closes of what is idle, reads and writes at an offset, receives and sends, all asking for
 * nothing special, are most of what programs do. This is what check, accept and begin come to for
 * them. 0: it is none, or something is out of the common: the others will see; 1: done. */
static OURO__INLINE int submit_usual_as(ouro_loop *loop, ouro_op *op, struct batch *batch,
                                        bool message)
{
    enum ouro__route route;
    struct ouro__file *file;
    int r;

    if (op->state_ > STATE_DONE || op->deadline ||
        !(message ? usual_message(loop, op, &file) : usual(loop, op, &file)) ||
        (route = loop->routes[op->code]) == ROUTE_NO)
        return 0;
    if (may_end_at_once(loop, op, file, message) && end_at_once(loop, op, file))
        return 1;
    if (!message && op->flags & OURO_REGBUF) {
        if ((r = find_region(loop, op)) < 0)
            return r;
        loop->regbuf_in_flight++;
    }
    if ((r = ouro__slot_take(loop, &loop->slots, op)) < 0) {
        loop->regbuf_in_flight -= !!(op->flags & OURO_REGBUF);
        return r;
    }
    if (!message && op->code == OURO_OPEN && op->arg[ARG_SLOT])
        (void)reserve_slot(loop, op);
    own(loop, op, route);
    ouro__file_count(file, op);
    if (message && op->code == OURO_RECV)
        ouro__file_waits(file, op);
    if (!take_at_once(loop, op, route, file, batch, message)) {
        ouro__requeue(loop, op);
        batch->at_once = 0;
    }
    return 1;
}

/* Two pieces of code: what is only asked of files is not asked of messages. */
static OURO__INLINE int submit_usual(ouro_loop *loop, ouro_op *op, struct batch *batch)
{
    return is_message(op) ? submit_usual_as(loop, op, batch, true)
                          : submit_usual_as(loop, op, batch, false);
}

static OURO__APART int submit_unusual(ouro_loop *loop, ouro_op *op)
{
    int r = ouro__check(loop, op);

    if (r == 0)
        r = ouro__accept(loop, op);
    if (r < 0)
        return r;
    ouro__accepted(loop, op);
    ouro__begin(loop, op);
    return 0;
}

/* So many of count completions are sure of a place. */
static unsigned placed(const ouro_loop *loop, unsigned count)
{
    int64_t room = ouro__room(loop);

    return room >= count ? count : room > 0 ? (unsigned)room : 0;
}

/* The short way: what the engine takes of plain operations while nothing has to grow. */
static unsigned submit_plain(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    unsigned done = 0, taken;

    /* In a locked mode other threads may sleep until they are final. */
    if (!loop->engine->take || loop->queue.head || loop->locked_mode || loop->trace)
        return 0;
    count = placed(loop, count);
    while (done < count && (taken = loop->engine->take(loop, ops + done, count - done)))
        done += taken;
    loop->asked = loop->asked || done;
    loop->stats.submitted += done;
    return done;
}

/* Where something is to be seen to after all. */
void ouro__make_ordinary(ouro_loop *loop, ouro_op *op)
{
    if (op->state_ != STATE_PLAIN)
        return;
    if (op->code == OURO_NOP)
        own(loop, op, loop->routes[OURO_NOP]);
    ouro__set_state(op, STATE_RUNNING);
}

unsigned ouro__submit_many(ouro_loop *loop, ouro_op *const *ops, unsigned count, int *ret_error)
{
    ouro_op *const *at = ops, *const *end = ops + count, *const * first, *const * stop;
    struct batch batch = { .many = count > 1 };

    while (at != end) {
        unsigned left = (unsigned)(end - at), plain;
        int r = 0;

        if ((*at)->code == OURO_NOP && (plain = submit_plain(loop, at, left))) {
            at += plain;
            continue;
        }
        batch.at_once = room_at_once(loop);
        first = at;
        stop = loop->trace ? at : at + placed(loop, left);
        while (at != stop && (r = submit_usual(loop, *at, &batch)) > 0)
            at++;
        loop->stats.submitted += (uint64_t)(at - first);
        if (r == 0 && (r = submit_unusual(loop, *at)) == 0)
            at++;
        if (r < 0) {
            *ret_error = r;
            break;
        }
    }
    return (unsigned)(at - ops);
}

int ouro__submit_one(ouro_loop *loop, ouro_op *op)
{
    struct batch batch = { .many = false };
    int r = 0;

    if (op->code == OURO_NOP && submit_plain(loop, &op, 1))
        return 0;
    if (!loop->trace && ouro__room(loop) > 0) {
        batch.at_once = room_at_once(loop);
        r = submit_usual(loop, op, &batch);
        loop->stats.submitted += r > 0;
    }
    if (r)
        return r < 0 ? r : 0;
    return submit_unusual(loop, op);
}

/* Takes back an accepted operation that has not begun: a chain that is refused as a whole. */
void ouro__unaccept(ouro_loop *loop, ouro_op *op)
{
    loop->stats.submitted--;
    if (op->marks_ & MARK_HEAP)
        ouro__heap_remove(loop, op);
    if (op->marks_ & MARK_FILE)
        ouro__file_leave(loop, op);
    if (op->marks_ & MARK_STREAM)
        ouro__stream_out(loop, op);
    loop->regbuf_in_flight -= !!(op->flags & OURO_REGBUF);
    unreserve_slot(loop, op);
    ouro__slot_give(loop, op);
    ouro__clean(op);
    ouro__set_state(op, STATE_IDLE);
}

/* An operation of another thread, whose slot was taken when it was posted. -EAGAIN: no room for its
 * completion yet, it stays in the inbox. */
int ouro__accept_posted(ouro_loop *loop, ouro_op *op)
{
    int r;

    if (ouro__room(loop) <= 0 && ouro__ring_room(loop, 1) < 0)
        return -EAGAIN;
    own(loop, op, loop->routes[op->code]);
    ouro__set_state(op, STATE_HELD);
    count_in(loop, op);
    r = loop->closing ? -ECANCELED : admit(loop, op);
    if (r == 0) {
        ouro__begin(loop, op);
    } else {
        loop->regbuf_in_flight += !!(op->flags & OURO_REGBUF);
        ouro__finish(loop, op, r, r == -ECANCELED ? OURO_C_CANCELED : 0);
    }
    return 0;
}

/* ---- Start --------------------------------------------------------------------------------- */

int ouro__need_descriptor(ouro_loop *loop, ouro_op *op)
{
    int r = 0;

    if (op->flags & OURO_DIRECT && op->real_fd_ == OURO__SLOT_ENGINE) {
        r = ouro__direct_descriptor(loop, (uint32_t)op->fd);
        op->real_fd_ = r < 0 ? OURO__SLOT_ENGINE : r;
    }
    return r < 0 ? r : 0;
}

/* Finds the file that its slot stands for now. */
static int look_up(ouro_loop *loop, ouro_op *op)
{
    int r = 0;

    op->real_fd_ = loop->direct[op->fd].fd;
    if (op->real_fd_ == OURO__SLOT_ENGINE) {
        if (!by_number(loop, op))
            r = ouro__need_descriptor(loop, op);
        return op->code == OURO_CLOSE ? 0 : r; /* without one it may have to be waited for */
    }
    return op->real_fd_ == OURO__SLOT_LOST ? -EIO : op->real_fd_ < 0 ? -EBADF : 0;
}

/* A HELD operation whose turn in its chain has come: starts unless its file's order holds it. */
void ouro__begin(ouro_loop *loop, ouro_op *op)
{
    uint16_t traits = ouro__kinds[op->code].traits;

    if (op->flags & OURO_DIRECT && look_up(loop, op) < 0) {
        ouro__start(loop, op); /* pull finds it out */
        return;
    }
    if (op->code == OURO_CLOSE)
        ouro__cancel_others(loop, op);
    if (traits & KIND_FD &&
        (op->flags & (OURO_SERIAL | OURO_BARRIER) || op->code == OURO_CLOSE ||
         traits & (KIND_POSITION | KIND_FD2) ||
         (traits & KIND_SPAN && (int64_t)op->arg[ARG_OFFSET] == OURO_CUR)) &&
        !ouro__order_enter(loop, op)) {
        if (op->code != OURO_CLOSE)
            ouro__hold_file(op);
        return;
    }
    ouro__start(loop, op);
}

/* Nothing holds the operation any more. Never ends it: the ends come from pull and report. */
void ouro__start(ouro_loop *loop, ouro_op *op)
{
    if (op->route_ != ROUTE_CORE) {
        ouro__requeue(loop, op);
    } else if (is_timer(op)) {
        ouro__set_state(op, STATE_TIMING);
        if (op->marks_ & MARK_CHAIN)
            ouro__heap_move(loop, op, ouro__wanted_time(op));
    } else {
        ouro__set_state(op, STATE_AWAY);
        ouro__message_send(loop, op);
    }
}

void ouro__requeue(ouro_loop *loop, ouro_op *op)
{
    if (OURO__SELDOM(op->stream_ & STREAM_PAUSED)) {
        ouro__stream_sleep(op);
        return;
    }
    ouro__set_state(op, STATE_QUEUED);
    ouro__push(&loop->queue, op);
}

void ouro__unpull(ouro_loop *loop, ouro_op *op)
{
    ouro__make_ordinary(loop, op);
    if (op->stream_ & SEND_LEADS)
        (void)ouro__sendq_dealt(loop, op, 0);
    ouro__set_state(op, STATE_QUEUED);
    ouro__push_front(&loop->queue, op);
}

void ouro__to_worker(ouro_loop *loop, ouro_op *op, enum ouro__route route)
{
    int r = ouro__need_descriptor(loop, op);

    if (r < 0) {
        ouro__ended(loop, op, r);
        return;
    }
    if (op->flags & OURO_FDMODE &&
        !(op->marks_ & MARK_STREAM)) /* descriptors are the program's, which may close them */
        ouro__hold_file(op);
    ouro__set_state(op, STATE_AWAY);
    loop->stats.pooled++;
    r = ouro__workers_submit(loop, op, route == ROUTE_BLOCKER);
    if (r < 0 && op->code == OURO_CLOSE)
        ouro__ended(loop, op, ouro__perform(op, PERFORM_BLOCK)); /* else it would stay open */
    else if (r < 0)
        ouro__ended(loop, op, r == -EAGAIN ? -ENOMEM : r);
}

/* An operation that had to wait shall not run on another file that has got the number meanwhile. */
void ouro__hold_file(ouro_op *op)
{
    if (!(ouro__kinds[op->code].traits & (KIND_FD | KIND_DIR)) || op->fd < 0 ||
        op->flags & OURO_DIRECT || op->notes_ & NOTE_HELD)
        return;
    op->notes_ |= NOTE_HELD;
    op->engine_[0] = (uint64_t)ouro__fd_identity((int)op->fd);
}

bool ouro__has_its_file(const ouro_op *op)
{
    return !(op->notes_ & NOTE_HELD) || op->engine_[0] == (uint64_t)ouro__fd_identity((int)op->fd);
}

int ouro__check_file(ouro_loop *loop, ouro_op *op)
{
    int r = 0;

    if (op->flags & OURO_DIRECT) {
        if (op->real_fd_ == OURO__SLOT_ENGINE)
            r = look_up(loop, op);
        if (op->real_fd_ == OURO__SLOT_LOST)
            op->notes_ |= NOTE_LOST;
        else if (op->real_fd_ < 0 && op->real_fd_ != OURO__SLOT_ENGINE)
            r = -EBADF;
        return op->notes_ & NOTE_LOST ? -EIO : r;
    }
    if (!ouro__has_its_file(op))
        r = -EBADF;
    op->notes_ &= (uint16_t)~NOTE_HELD;
    return r;
}

/* What the engine has registered of a descriptor must not outlive it: the file may go on to live by
 * another one. */
static void unwatch(ouro_loop *loop, const ouro_op *op)
{
    struct ouro__file *file = ouro__file_counted(op);

    if (file->watched)
        loop->engine->forget(loop, ouro__fd(op));
    file->watched = false;
}

/* Slow part of pull: true when the operation went another way. */
static bool diverted(ouro_loop *loop, ouro_op *op)
{
    uint16_t held = op->notes_ & NOTE_HELD;
    enum ouro__route route;
    int64_t res;

    if (OURO__SELDOM(op->stream_ & SEND_QUEUED) && ouro__sendq_settles(loop, op))
        return true;
    if ((op->flags & OURO_DIRECT || op->notes_ & NOTE_HELD) &&
        (res = ouro__check_file(loop, op)) < 0) {
        ouro__ended(loop, op, res);
        return true;
    }
    if (op->code == OURO_CLOSE)
        unwatch(loop, op);
    if (ouro__kinds[op->code].traits & KIND_TRY && ouro__try(loop, op, &res)) {
        op->notes_ |= NOTE_INLINE;
        loop->stats.inlined++;
        ouro__report(loop, op, res);
        return true;
    }
    if (op->code == OURO_CLOSE && op->flags & OURO_DIRECT && op->real_fd_ >= 0)
        ouro__direct_tell(loop, (uint32_t)op->fd, -1); /* or the engine would keep it open */
    route = route_of(loop, op);
    if (route == ROUTE_ENGINE)
        return false;
    op->notes_ |= held; /* who performs it looks once more */
    ouro__to_worker(loop, op, route);
    return true;
}

ouro_op *ouro__pull_slowly(ouro_loop *loop)
{
    ouro_op *op;

    while ((op = ouro__pop(&loop->queue))) {
        if (op->marks_ & MARK_STREAM && !ouro__stream_may_start(loop, op)) {
            ouro__stream_rest(loop, op);
            continue;
        }
        ouro__set_state(op, STATE_RUNNING);
        if (op->code == OURO_NOP || op->ready_ || !diverted(loop, op))
            break;
    }
    if (loop->patience.since) {
        ouro__dared(loop, loop->patience.since);
        loop->patience.since = 0;
    }
    return op;
}

/* ---- Report -------------------------------------------------------------------------------- */

static bool ending(const ouro_op *op)
{
    return op->marks_ & (MARK_CANCEL | MARK_TIMEOUT);
}

/* Does the caller want to see -EAGAIN? */
static bool wants_again(const ouro_op *op)
{
    switch (op->code) {
    case OURO_READV:
    case OURO_WRITEV:
        if (op->arg[ARG_RWF] & STEP_NOWAIT)
            return true;
        break;
    case OURO_SPLICE: return op->arg[ARG_RWF] & STEP_NONBLOCK;
    case OURO_RECV:
    case OURO_SEND:
    case OURO_RECVMSG:
    case OURO_SENDMSG:
        if (op->arg[ARG_MSG_FLAGS] & STEP_DONTWAIT)
            return true;
        break;
    case OURO_READ:
    case OURO_WRITE:
    case OURO_ACCEPT: break;
    case OURO_WORK: return true;
    default: return false;
    }
    return op->flags & OURO_FDMODE && ouro__fd_nonblocking(ouro__fd(op));
}

static void again(ouro_loop *loop, ouro_op *op, enum ouro__route route)
{
    loop->stats.retried++;
    op->retries_ += op->retries_ < UINT8_MAX;
    op->notes_ &= (uint16_t) ~(NOTE_POOLED | NOTE_INLINE);
    if (route == ROUTE_ENGINE)
        ouro__requeue(loop, op);
    else
        ouro__to_worker(loop, op, route);
}

/* Would block: wait for readiness, where the operation knows of any; a worker waits for the
 * rest. */
static void would_block(ouro_loop *loop, ouro_op *op)
{
    uint16_t traits = ouro__kinds[op->code].traits;

    if (op->retries_ >= RETRIES_AT_ALL) { /* a stream whose input others take */
        op->retries_ = 0;
        ouro__stream_rest(loop, op);
        return;
    }
    if (op->retries_ >= RETRIES && !(traits & KIND_STREAM))
        op->ready_ = 0; /* ready again and again, and yet not: a call that blocks is always right */
    else if (op->ready_ == 0 && traits & (KIND_READS | KIND_WRITES))
        op->ready_ = traits & KIND_READS ? EVENT_IN : EVENT_OUT;
    if (op->ready_ && op->flags & OURO_SERIAL) /* others wait as well: on this file, no other */
        ouro__hold_file(op);
    if (op->ready_)
        again(loop, op, ROUTE_ENGINE);
    else
        again(loop, op, traits & KIND_WAITS ? ROUTE_BLOCKER : ROUTE_WORKER);
}

static bool interrupted(int64_t res)
{
    return res == -EINTR || (res <= -RESTART_FIRST && res >= -RESTART_LAST);
}

/* A failed step. True: it was started again. */
static bool recovered(ouro_loop *loop, ouro_op *op, int64_t res)
{
    bool canceled = res == -ECANCELED, again_error = res == -EAGAIN;

    if (op->code == OURO_WORK || ending(op))
        return false;
    /* The number stands for another file than it did when we looked. */
    if (res == -ENOTSOCK && ouro__kinds[op->code].traits & KIND_SPAN &&
        op->retries_ < RETRIES_ON_ENGINE) {
        ouro__file_of(loop, op)->kind = FILE_UNKNOWN;
        again(loop, op, ROUTE_ENGINE);
        return true;
    }
    if (again_error && !wants_again(op) &&
        (op->retries_ < RETRIES_AT_ALL || op->marks_ & MARK_STREAM)) {
        would_block(loop, op);
        return true;
    }
    /* Nobody asked for a cancel: its thread has ended, or a pids limit left no thread to run it. */
    if ((interrupted(res) || canceled) && (interrupted(res) || op->retries_ < RETRIES)) {
        bool elsewhere =
            canceled && op->retries_ >= RETRIES_ON_ENGINE && !(op->marks_ & MARK_STREAM);
        if (interrupted(res))
            op->retries_ = 0;
        if (op->code == OURO_CONNECT)
            op->notes_ |= NOTE_CONNECTING; /* the kernel goes on with it */
        enum ouro__route worker =
            ouro__kinds[op->code].traits & KIND_WAITS ? ROUTE_BLOCKER : ROUTE_WORKER;
        again(loop, op, elsewhere ? worker : ROUTE_ENGINE);
        return true;
    }
    return false;
}

/* The descriptor of a poll is ready (or failed). POLL operations end by it, others try again. */
static void readied(ouro_loop *loop, ouro_op *op, int64_t res)
{
    bool retry = interrupted(res) || (res == -ECANCELED && op->retries_ < RETRIES);

    op->ready_ = 0;
    if (res < 0 && (ending(op) || !retry)) {
        ouro__ended(loop, op, res);
        return;
    }
    if (op->notes_ & NOTE_AUX_OURS) {
        ouro__fd_close(op->aux_fd_);
        op->notes_ &= (uint16_t) ~(NOTE_AUX_OURS | NOTE_AUX);
    }
    op->notes_ &= (uint16_t)~NOTE_AUX;
    if (ending(op))
        ouro__ended(loop, op, -ECANCELED);
    else
        again(loop, op, ROUTE_ENGINE);
}

/* Does a step of res bytes leave something for another one? EXACT goes on after short ones, too
 * many vectors for one step only after full ones. */
static bool wants_more(const ouro_op *op, int64_t res)
{
    uint16_t traits = ouro__kinds[op->code].traits;
    struct ouro__span span;

    if (!(traits & KIND_BYTES) || res <= 0 || (uint64_t)(op->done_ + res) >= ouro__wanted_bytes(op))
        return false;
    if (op->flags & OURO_EXACT)
        return true;
    return traits & KIND_VECTOR && op->arg[ARG_LEN] > OURO__IOV_MAX && ouro__span_of(op, &span) &&
           (uint64_t)res == ouro__span_bytes(&span);
}

/* A failure, a part, or readiness. */
static OURO__APART void report_specially(ouro_loop *loop, ouro_op *op, int64_t res)
{
    if (op->marks_ & MARK_STREAM && ouro__stream_report(loop, op, res))
        return;
    if (op->ready_ && res != -EAGAIN) {
        readied(loop, op, res);
        return;
    }
    if (op->code == OURO_CLOSE && interrupted(res))
        res = 0; /* it is closed: a second try could hit somebody else's descriptor */
    if (res < 0 && recovered(loop, op, res))
        return;
    if (wants_more(op, res)) {
        op->done_ += res;
        op->retries_ = 0;
        if (ending(op))
            ouro__ended(loop, op, -ECANCELED);
        else
            again(loop, op, ROUTE_ENGINE); /* or where its code and file lead it */
        return;
    }
    ouro__ended(loop, op, res);
}

/* A transfer of one buffer that has moved all, or enough, in one step. */
static OURO__INLINE bool moved_at_once(const ouro_op *op, int64_t res)
{
    const uint64_t those =
        1u << OURO_READ | 1u << OURO_WRITE | (uint64_t)1 << OURO_RECV | (uint64_t)1 << OURO_SEND;

    _Static_assert(OURO_CODE_COUNT <= 64, "a bit for each");
    return those >> op->code & 1 && !op->done_ &&
           ((uint64_t)res == op->arg[ARG_LEN] || !(op->flags & OURO_EXACT));
}

/* The engine's, a worker's, or an attempt's word on an operation. Success needs few questions, and
 * what moved at once not even those at the end. */
void ouro__report(ouro_loop *loop, ouro_op *op, int64_t res)
{
    bool moves = ouro__kinds[op->code].traits & KIND_BYTES;

    if (op->state_ == STATE_PLAIN)
        ouro__make_ordinary(loop, op);
    if (OURO__SELDOM(op->stream_ & SEND_LEADS))
        res = ouro__sendq_dealt(loop, op, res);
    if (OURO__SELDOM(res < 0 || op->ready_ || op->marks_ & MARK_STREAM) ||
        (moves && !moved_at_once(op, res)))
        report_specially(loop, op, res);
    else if (moves)
        ouro__finish(loop, op, res, 0);
    else
        ouro__ended(loop, op, res);
}

/* ---- The end ------------------------------------------------------------------------------- */

/* Who still waits for readiness there waits for a file that had this number before: the program has
 * closed it. Tried again, it ends with -EBADF. */
static int displace(ouro_loop *loop, ouro_op *op, void *user)
{
    const ouro_fd *fd = user;

    if (op->state_ == STATE_RUNNING && op->ready_ && ouro__names_fd(op, *fd)) {
        op->notes_ |= NOTE_HELD;
        op->engine_[0] = 0;
        loop->engine->cancel(loop, op);
        loop->asked = true;
    }
    return 0;
}

static void made_descriptor(ouro_loop *loop, ouro_op *op, ouro_fd fd)
{
    struct ouro__file *file = ouro__file_make(loop, fd);

    if (file && OURO__SELDOM(file->in_flight))
        ouro__each_slot(loop, displace, &fd);
    if (file)
        ouro__file_made(file, op);
}

int64_t ouro__made(ouro_loop *loop, ouro_op *op, int64_t fd)
{
    uint64_t *slot = ouro__slot_word(op);
    uint32_t at = (uint32_t)*slot - 1;

    if (op->notes_ & NOTE_UNBLOCK && !(op->notes_ & NOTE_SLOTTED))
        ouro__fd_unblock((int)fd, ouro__int(op, ARG_FLAGS));
    if (!*slot) {
        made_descriptor(loop, op, (ouro_fd)fd);
        return fd;
    }
    if (op->notes_ & NOTE_SLOTTED) {
        ouro__slot_filled(loop, op, at);
        ouro__learn_socket(loop, op, at);
        op->notes_ &= (uint16_t)~NOTE_SLOTTED;
    } else {
        ouro__file_made(&loop->direct[at].file, op);
        loop->direct[at].fd = (int)fd;
        ouro__direct_tell(loop, at, (int)fd);
    }
    if (!(op->marks_ & MARK_STREAM))
        return 0;
    *slot = 0; /* the next one gets another */
    return at;
}

/* Does this result mean that it was ended before it did anything? */
static bool stopped(const ouro_op *op, int64_t res)
{
    if (op->code == OURO_WORK && op->notes_ & NOTE_POOLED)
        return false; /* it ran */
    return res == -ECANCELED || res == -EAGAIN || interrupted(res);
}

/* What opening and closing change on our side. The result is the operation's. */
static int64_t made_or_not(ouro_loop *loop, ouro_op *op, int64_t res)
{
    if (res >= 0)
        return ouro__made(loop, op, res);
    unreserve_slot(loop, op);
    return res;
}

/* Of what was moved by the steps before, or ended before its time. */
static OURO__APART void ended_specially(ouro_loop *loop, ouro_op *op, int64_t res, bool cut)
{
    uint32_t cflags = 0;

    if (op->notes_ & NOTE_AUX_OURS)
        ouro__fd_close(op->aux_fd_);
    if (cut) {
        bool timeout = op->marks_ & MARK_TIMEOUT;
        res = timeout ? -ETIMEDOUT : -ECANCELED;
        cflags = timeout ? OURO_C_TIMEDOUT : OURO_C_CANCELED;
    }
    if (op->done_ && ouro__kinds[op->code].traits & KIND_BYTES) {
        op->cause = res < 0 ? (int32_t)res : 0;
        res = op->done_ + (res > 0 ? res : 0);
    }
    ouro__finish(loop, op, res, cflags);
}

/* Turns the last step's result into the operation's. */
void ouro__ended(ouro_loop *loop, ouro_op *op, int64_t res)
{
    bool cut = ending(op) && stopped(op, res);

    if (ouro__kinds[op->code].traits & KIND_MAKES)
        res = made_or_not(loop, op, res);
    else if (op->code == OURO_CLOSE && res != -EBADF && res != -ENOMEM && !cut)
        ouro__file_closed(loop, op, ouro__file_counted(op));
    if (OURO__SELDOM(cut || op->done_ || op->notes_ & NOTE_AUX_OURS))
        ended_specially(loop, op, res, cut);
    else
        ouro__finish(loop, op, res, 0);
}

/* It is counted no more, and the caller's again. */
static OURO__INLINE void release(ouro_loop *loop, ouro_op *op)
{
    if (op->marks_ & MARK_FILE)
        ouro__file_leave(loop, op);
    ouro__slot_give(loop, op);
    loop->stats.completed++;
    ouro__clean(op);
    deliver(loop, op);
}

/* There is more to be seen to. A broken chain ends with its member, in order. */
static OURO__APART void finish_specially(ouro_loop *loop, ouro_op *op)
{
    for (;;) {
        ouro_op *next = op->marks_ & MARK_CHAIN ? op->chain_ : NULL;
        bool broken = next && ouro__chain_breaks(op);

        loop->stats.canceled += !!(op->cflags & OURO_C_CANCELED);
        loop->stats.timed_out += !!(op->cflags & OURO_C_TIMEDOUT);
        if (op->marks_ & MARK_HEAP)
            ouro__heap_remove(loop, op);
        if (op->flags & OURO_REGBUF)
            loop->regbuf_in_flight--;
        if (op->stream_ & SEND_QUEUED)
            ouro__sendq_ended(op);
        if (loop->trace)
            ouro__trace_end(loop, op, op->res, op->cflags);
        release(loop, op);
        if (!broken) {
            if (next) {
                next->marks_ &= (uint8_t)~MARK_TURN;
                ouro__begin(loop, next);
            }
            return;
        }
        op = next;
        unreserve_slot(loop, op);
        op->res = -ECANCELED;
        op->cflags = OURO_C_CANCELED | (op->notes_ & OURO__NOTES_TOLD);
    }
}

static uint32_t told(const ouro_op *op)
{
    return (op->notes_ & OURO__NOTES_TOLD) | (op->stream_ & SEND_COPIED);
}

/* The kernel tells the end of a step and the end of its reading in any order. */
static void count_kept(ouro_op *op, uint32_t more)
{
    if (!(op->stream_ & SEND_KEPT))
        op->waits_ = 0;
    op->stream_ |= SEND_KEPT;
    op->waits_ += more;
}

void ouro__keep(ouro_op *op)
{
    count_kept(op, 1);
}

/* The result stands, but the kernel still reads the buffer, maybe until a peer has acknowledged
 * what is in it: those that wait for the operation's file need not wait for that. */
static void rest(ouro_loop *loop, ouro_op *op)
{
    ouro__set_state(op, STATE_PARKED);
    if (op->stream_ & SEND_QUEUED)
        ouro__sendq_ended(op);
    op->stream_ &= (uint8_t)~SEND_QUEUED;
    if (op->marks_ & MARK_FILE)
        ouro__file_leave(loop, op);
    op->marks_ &= (uint8_t)~MARK_FILE;
}

void ouro__let_go(ouro_loop *loop, ouro_op *op)
{
    count_kept(op, UINT32_MAX);
    if (op->waits_ || op->state_ != STATE_PARKED)
        return;
    op->cflags |= told(op);
    finish_specially(loop, op);
}

/* The end of an operation, wherever it is. */
void ouro__finish(ouro_loop *loop, ouro_op *op, int64_t res, uint32_t cflags)
{
    if (OURO__SELDOM(op->marks_ & MARK_STREAM)) {
        ouro__stream_finish(loop, op, res, cflags);
        return;
    }
    cflags |= told(op);
    op->res = res;
    op->cflags = cflags;
    if (OURO__SELDOM(op->stream_ & SEND_KEPT) && op->waits_)
        rest(loop, op);
    else if (OURO__SELDOM((op->marks_ & ~(unsigned)MARK_FILE) | (op->flags & OURO_REGBUF) |
                              (cflags & (OURO_C_CANCELED | OURO_C_TIMEDOUT)) ||
                          loop->trace))
        finish_specially(loop, op);
    else
        release(loop, op);
}

/* ---- Cancel -------------------------------------------------------------------------------- */

static void stop(ouro_loop *loop, ouro_op *op)
{
    ouro__ended(loop, op, -ECANCELED);
}

/* A request to end early: MARK_CANCEL, or MARK_TIMEOUT from the heap. */
void ouro__cancel(ouro_loop *loop, ouro_op *op, unsigned mark)
{
    if (op->state_ <= STATE_INBOX || op->state_ == STATE_REPORTED || ending(op) ||
        op == &loop->lost_watch)
        return;
    if (op->state_ == STATE_PARKED && !(op->marks_ & MARK_STREAM))
        return; /* it is over */
    ouro__make_ordinary(loop, op);
    op->marks_ |= (uint8_t)mark;
    switch (op->state_) {
    case STATE_HELD:
        if (ouro__sendq_rides(op)) {
            ouro__sendq_alight(loop, op);
            break;
        }
        if (op->marks_ & MARK_TURN)
            ouro__chain_cut(op);
        else
            ouro__order_unhold(loop, op);
        stop(loop, op);
        break;
    case STATE_QUEUED:
        ouro__unlink(&loop->queue, op);
        stop(loop, op);
        break;
    case STATE_RUNNING:
        if (!(op->notes_ & NOTE_LOST)) {
            loop->engine->cancel(loop, op);
            loop->asked = true;
        }
        break;
    case STATE_AWAY:
        if (op->code == OURO_MESSAGE ? ouro__message_take_back(op) : ouro__workers_cancel(loop, op))
            stop(loop, op);
        break;
    case STATE_PARKED:
        ouro__unpark(op);
        stop(loop, op);
        break;
    case STATE_TIMING: stop(loop, op); break;
    default: break;
    }
}

/* Is fd one of the operation's descriptors? */
bool ouro__names_fd(const ouro_op *op, ouro_fd fd)
{
    uint16_t traits = ouro__kinds[op->code].traits;

    if (traits & (KIND_FD | KIND_DIR) && !(op->flags & OURO_DIRECT) && op->fd == fd)
        return true;
    return traits & (KIND_FD2 | KIND_DIR2) && ouro__int(op, 0) == fd;
}

struct others {
    const ouro_op *key;
    uint32_t count; /* that are not found yet */
};

static int cancel_on_fd(ouro_loop *loop, ouro_op *op, void *user)
{
    struct others *others = user;
    const ouro_op *key = others->key;
    bool same = key->flags & OURO_DIRECT ? op->flags & OURO_DIRECT && op->fd == key->fd
                                         : ouro__names_fd(op, key->fd);

    if (same && op != key && op->marks_ & MARK_FILE) {
        others->count--;
        ouro__cancel(loop, op, MARK_CANCEL);
    }
    return !others->count;
}

/* Cancels what else is in flight on key->fd: most often one stream. */
void ouro__cancel_others(ouro_loop *loop, ouro_op *key)
{
    struct ouro__file *file = ouro__file_of(loop, key);
    struct others others = { .key = key };
    struct ouro__slot *slot;
    ouro_op *last = NULL;

    if (!file)
        return;
    others.count = file->in_flight - (key->marks_ & MARK_FILE ? 1u : 0u);
    if (others.count == 1 && (slot = ouro__slot_at(loop, file->last)))
        last = ouro__slot_op(slot);
    if (others.count && !(last && cancel_on_fd(loop, last, &others)))
        ouro__each_slot(loop, cancel_on_fd, &others);
}

static int cancel_one(ouro_loop *loop, ouro_op *op, void *user)
{
    (void)user;
    ouro__cancel(loop, op, MARK_CANCEL);
    return 0;
}

void ouro__cancel_all(ouro_loop *loop)
{
    ouro__each_slot(loop, cancel_one, NULL);
}

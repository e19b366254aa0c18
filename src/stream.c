/* SPDX-License-Identifier: MIT */
/* stream.c: operations with many completions: each but the last says OURO_C_MORE.
 *
 * A stream is an operation that starts again after each success. Engines that can go on by
 * themselves (the ring's multishot requests) report several successes for one start
 * (ouro__stream_more); when they stop, for whatever reason, it starts again like on all others.
 * So the caller sees one final completion, of a cancel, an error, or the end of the input.
 *
 * What cannot go on for a while is PARKED: while it is paused; until its pool has a buffer; until
 * there is a place for an event, or a descriptor for what is accepted (loop->parked, looked at
 * again after some time); and polls, until the completion before was collected, so that a
 * descriptor that stays ready floods nobody. */
#include "core.h"

#define MESSAGE_CUT 0xa8u       /* MSG_TRUNC, MSG_CTRUNC, MSG_EOR */
#define PATIENCE (20 * OURO_MS) /* between tries where nothing tells when one is worth it */

/* A slot for what is accepted next, kept while it waits. */
static bool find_slot(ouro_loop *loop, ouro_op *op)
{
    for (uint32_t i = 0; i < loop->direct_count; i++) {
        uint32_t at = (loop->direct_next + i) % loop->direct_count;

        if (loop->direct[at].fd == OURO__SLOT_EMPTY) {
            loop->direct[at].fd = OURO__SLOT_OPENING;
            loop->direct_next = at + 1;
            *ouro__slot_word(op) = (uint64_t)at + 1;
            return true;
        }
    }
    return false;
}

/* Is there all that a start of it needs? */
bool ouro__stream_may_start(ouro_loop *loop, ouro_op *op)
{
    bool wants_slot = op->code == OURO_ACCEPT_MANY && op->arg[ARG_ANY_SLOT];

    if (!ouro__more_room(loop))
        return false;
    return !wants_slot || *ouro__slot_word(op) || find_slot(loop, op);
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

/* One that runs has a place for a completion beside its last, whatever others take meanwhile. */
int ouro__stream_in(ouro_loop *loop, ouro_op *op)
{
    int r;

    loop->streams++;
    r = ouro__ring_space(loop);
    if (r < 0) {
        loop->streams--;
        return r;
    }
    ouro__set_places(loop);
    op->marks_ |= MARK_STREAM;
    op->stream_ = 0;
    op->engine_[0] = op->engine_[1] = op->engine_[2] = 0;
    if (ouro__pool_of(op))
        ouro__pool_of(op)->streams++;
    return 0;
}

void ouro__stream_out(ouro_loop *loop, ouro_op *op)
{
    loop->streams--;
    ouro__set_places(loop);
    op->marks_ &= (uint8_t)~MARK_STREAM;
    op->stream_ = 0;
    if (ouro__pool_of(op))
        ouro__pool_of(op)->streams--;
}

/* ---- Parking --------------------------------------------------------------------------------- */

/* list: where somebody looks for it; NULL: it is resumed by name. */
static void park(ouro_op *op, struct ouro__list *list)
{
    ouro__set_state(op, STATE_PARKED);
    op->worker_ = list;
    if (list)
        ouro__push(list, op);
}

/* For longer: the program may close its descriptor, and another file get the number. One that was
 * paused meanwhile waits for its resume, whatever else it lacks. */
static void rest(ouro_op *op, struct ouro__list *list)
{
    op->ready_ = 0;
    ouro__hold_file(op);
    park(op, op->stream_ & STREAM_PAUSED ? NULL : list);
}

void ouro__unpark(ouro_op *op)
{
    if (op->worker_)
        ouro__unlink(op->worker_, op);
    op->worker_ = NULL;
}

void ouro__unpark_all(ouro_loop *loop, struct ouro__list *list)
{
    struct ouro__list all = *list;
    ouro_op *op;

    *list = (struct ouro__list){ 0 };
    while ((op = ouro__pop(&all))) {
        op->worker_ = NULL;
        ouro__requeue(loop, op);
    }
}

static void look_later(ouro_loop *loop)
{
    if (!loop->parked.head && !loop->starved)
        loop->parked_until = sys_now() + PATIENCE;
}

/* For a place among the events, or a descriptor. */
void ouro__stream_rest(ouro_loop *loop, ouro_op *op)
{
    look_later(loop);
    rest(op, &loop->parked);
}

static void feed(ouro_loop *loop, ouro_pool *pool, ouro_op *op)
{
    ouro__unpark(op);
    ouro__requeue(loop, op);
    if (pool->parked.head) {
        look_later(loop);
        loop->starved = true;
    }
}

/* So many buffers are free: those who have waited longest for such ones go on. They may leave them
 * there: a try that brings nothing, and the end of a stream, give a buffer to the next one; all
 * else is found out later, when all that is free is given to others. */
static void feed_some(ouro_loop *loop, ouro_pool *pool, uint32_t count)
{
    ouro_op *next;

    for (ouro_op *op = pool->parked.head; op && count; op = next) {
        next = op->next_;
        if (ouro__pool_has(pool, op)) {
            feed(loop, pool, op);
            count--;
        }
    }
}

void ouro__stream_feed(ouro_loop *loop, ouro_pool *pool)
{
    feed_some(loop, pool, 1);
}

void ouro__streams_wake(ouro_loop *loop)
{
    if (OURO__LIKELY(!loop->parked.head && !loop->starved) || sys_now() < loop->parked_until)
        return;
    ouro__unpark_all(loop, &loop->parked);
    loop->starved = false;
    for (ouro_pool *pool = loop->pools; pool; pool = pool->next)
        feed_some(loop, pool, pool->count - pool->taken);
}

/* ---- Completions ----------------------------------------------------------------------------- */

/* The buffer in which the next completion's bytes lie; NULL: it has none. */
void ouro__stream_bring(ouro_op *op, void *data)
{
    op->engine_[1] = (uintptr_t)data;
}

/* What is seen to with a completion that is not only bytes: the flag of ours that it has. */
static OURO__APART uint32_t see_to(ouro_loop *loop, ouro_op *op, int64_t *res)
{
    if (ouro__kinds[op->code].traits & KIND_MAKES) {
        *res = ouro__made(loop, op, *res);
        return op->arg[ARG_ANY_SLOT] ? 0 : EVENT_FD; /* what is in a slot has an owner */
    }
    if (op->code != OURO_POLL_MANY && op->code != OURO_TIMER_MANY)
        return 0;
    op->stream_ |= STREAM_UNREAD; /* they tell nothing more until this was collected */
    return EVENT_LEADS;
}

/* One that is not the last. There is room for it. What the caller may read in a callback that runs
 * now on another thread stays as it is; who delivers the event stores it there. */
void ouro__stream_more(ouro_loop *loop, ouro_op *op, int64_t res)
{
    struct ouro__ring *ring = op->cb ? &loop->calls : &loop->events;
    uint32_t cflags = OURO_C_MORE | (op->notes_ & OURO__NOTES_TOLD);
    void *data = (void *)(uintptr_t)op->engine_[1];

    if (OURO__LIKELY(data != NULL))
        cflags |= OURO_C_BUF;
    else
        cflags |= see_to(loop, op, &res);
    ring->at[ring->tail++ & ring->mask] =
        (ouro_event){ .op = op, .res = res, .cflags = cflags, .data = data };
    op->engine_[1] = 0;
    op->retries_ = 0;
    op->notes_ &= (uint16_t) ~(NOTE_POOLED | NOTE_INLINE);
    loop->stats.streamed++;
    if (loop->waiters)
        ouro__served(loop, op);
}

/* The engine is asked to end what it was started for; then it starts again, when it may. */
static void stop(ouro_loop *loop, ouro_op *op)
{
    op->stream_ |= STREAM_STOPPED;
    loop->engine->cancel(loop, op);
    loop->asked = true;
}

/* The engine has more of it to tell without being asked. What it has told already comes in any
 * case, or it would hold up what others wait for; without a place no more than that shall come. */
void ouro__stream_goes_on(ouro_loop *loop, ouro_op *op, int64_t res)
{
    ouro__stream_more(loop, op, res);
    if (!(op->stream_ & STREAM_STOPPED) && !(op->marks_ & (MARK_CANCEL | MARK_TIMEOUT)) &&
        !ouro__more_room(loop))
        stop(loop, op);
}

/* The stream is the caller's again, who may not have collected this yet. */
static void lead_nobody(struct ouro__ring *ring, const ouro_op *op)
{
    for (uint32_t at = ring->head; at != ring->tail; at++)
        if (ring->at[at & ring->mask].op == op)
            ring->at[at & ring->mask].cflags &= ~(uint32_t)EVENT_LEADS;
}

/* The last one. */
void ouro__stream_finish(ouro_loop *loop, ouro_op *op, int64_t res, uint32_t cflags)
{
    struct ouro__ring *ring = op->cb ? &loop->calls : &loop->events;
    ouro_pool *pool = ouro__pool_of(op);

    if (pool && op->engine_[1]) /* the end of the input came with a buffer */
        (void)ouro__pool_give(pool, (void *)(uintptr_t)op->engine_[1]);
    else if (pool && OURO__SELDOM(pool->parked.head)) /* one may have come home for it */
        ouro__stream_feed(loop, pool);
    cflags |= op->notes_ & OURO__NOTES_TOLD;
    loop->stats.canceled += !!(cflags & OURO_C_CANCELED);
    loop->stats.timed_out += !!(cflags & OURO_C_TIMEDOUT);
    if (op->marks_ & MARK_HEAP)
        ouro__heap_remove(loop, op);
    if (op->marks_ & MARK_FILE)
        ouro__file_leave(loop, op);
    if (op->stream_ & STREAM_UNREAD)
        lead_nobody(ring, op);
    ouro__stream_out(loop, op);
    if (loop->trace)
        ouro__trace_end(loop, op, res, cflags);
    ouro__slot_give(loop, op);
    loop->stats.completed++;
    ouro__clean(op);
    ring->at[ring->tail & ring->mask] = (ouro_event){ .op = op, .res = res, .cflags = cflags };
    if (op->cb) {
        ouro__set_state(op, STATE_REPORTED);
    } else {
        op->res = res;
        op->cflags = cflags;
        op->cause = 0;
        ouro__set_hint(op, ring->tail);
        ouro__set_state(op, STATE_DONE);
    }
    ring->tail++;
    if (loop->waiters)
        ouro__served(loop, op);
}

void ouro_datagram_of(const ouro_op *op, void *data, ouro_datagram *ret)
{
    const ouro_pool *pool = ouro__ptr(op, ARG_POOL);
    size_t addr_room = (size_t)op->arg[ARG_ADDR_ROOM], rooms = ouro__datagram_rooms(op);
    const struct ouro__datagram_head *head = data;
    char *addr = (char *)data + sizeof(*head);
    uint32_t room = pool->size - (uint32_t)rooms;

    *ret = (ouro_datagram){
        .addr = head->addr_size && addr_room ? (const struct sockaddr *)(void *)addr : NULL,
        .control = head->control_size ? addr + addr_room : NULL,
        .payload = (char *)data + rooms,
        .addr_size = head->addr_size,
        .control_size = head->control_size,
        .size = head->size < room ? head->size : room,
        .flags = head->flags & MESSAGE_CUT,
    };
}

/* What it was started for has come; the next. */
static void next(ouro_loop *loop, ouro_op *op, int64_t res)
{
    ouro__stream_more(loop, op, res);
    if (op->marks_ & (MARK_CANCEL | MARK_TIMEOUT))
        ouro__ended(loop, op, -ECANCELED);
    else if (op->code == OURO_POLL_MANY)
        park(op, NULL);
    else
        ouro__requeue(loop, op);
}

static bool ends_input(const ouro_op *op, int64_t res)
{
    return res == 0 && (op->code == OURO_RECV_MANY ||
                        (op->code == OURO_RECVMSG_MANY && ouro__fd_ends(ouro__fd(op))));
}

/* Errors after which a stream goes on, now or later. */
static bool passes(const ouro_op *op, int64_t res)
{
    if (ouro__pool_of(op))
        return res == OURO__NO_BUFFER;
    if (op->code != OURO_ACCEPT_MANY)
        return false;
    return res == -EMFILE || res == -ENFILE || res == -ENOBUFS || res == -ENOMEM ||
           res == -ECONNABORTED;
}

static void wait_for_better(ouro_loop *loop, ouro_op *op, int64_t res)
{
    ouro_pool *pool = ouro__pool_of(op);

    if (res == -ECONNABORTED || (pool && ouro__pool_has(pool, op)))
        ouro__requeue(loop, op); /* that connection is gone; a buffer came back */
    else if (pool)
        rest(op, &pool->parked);
    else
        ouro__stream_rest(loop, op);
}

/* The word on one start of a stream, or on the readiness it waits for. False: the core goes on. */
bool ouro__stream_report(ouro_loop *loop, ouro_op *op, int64_t res)
{
    bool ending = op->marks_ & (MARK_CANCEL | MARK_TIMEOUT);
    bool stopped = op->stream_ & STREAM_STOPPED && !ending;
    bool success = res >= 0 && !ends_input(op, res);

    op->stream_ &= (uint8_t)~STREAM_STOPPED;
    if (stopped && res == -ECANCELED) {
        op->ready_ = 0;
        ouro__requeue(loop, op);
    } else if (op->ready_ || !(success || passes(op, res))) {
        return false;
    } else if (success) {
        next(loop, op, res);
    } else if (ending) {
        ouro__ended(loop, op, -ECANCELED);
    } else {
        wait_for_better(loop, op, res);
    }
    return true;
}

/* ---- Timers ---------------------------------------------------------------------------------- */

/* When a timer is due: a repeating one keeps the time of its next completion in engine_[0]. */
ouro_time ouro__timer_at(const ouro_op *op)
{
    return op->code == OURO_TIMER_MANY && op->engine_[0] ? op->engine_[0] : op->arg[ARG_TIME];
}

/* Not before that time, but for its deadline. */
static void add_later(ouro_loop *loop, ouro_op *op, ouro_time at)
{
    if (op->deadline && op->deadline < at)
        at = op->deadline;
    (void)ouro__heap_add(loop, op, at); /* it was there */
}

/* Its time has come: how often, since the last time. It goes on when that was collected. */
void ouro__timer_ticks(ouro_loop *loop, ouro_op *op)
{
    uint64_t every = op->arg[ARG_EVERY], at = ouro__timer_at(op);
    uint64_t ticks = (loop->now - at) / every + 1, last = at + (ticks - 1) * every;

    if (!ouro__more_room(loop)) {
        add_later(loop, op, loop->now + PATIENCE);
        return;
    }
    op->engine_[0] = last > UINT64_MAX - every ? UINT64_MAX : last + every;
    add_later(loop, op, UINT64_MAX);
    ouro__stream_more(loop, op, (int64_t)ticks);
}

/* From where it rests by name. */
static void go_on(ouro_loop *loop, ouro_op *op)
{
    if (op->state_ == STATE_PARKED && !op->worker_ && !(op->stream_ & STREAM_UNREAD))
        ouro__requeue(loop, op);
    else if (op->state_ == STATE_TIMING && !(op->stream_ & STREAM_UNREAD))
        ouro__heap_move(loop, op, ouro__wanted_time(op));
}

/* A completion that was not the last is in the caller's hand: polls and timers go on. */
void ouro__stream_collected(ouro_loop *loop, ouro_op *op)
{
    op->stream_ &= (uint8_t)~STREAM_UNREAD;
    if (!(op->stream_ & STREAM_PAUSED))
        go_on(loop, op);
}

/* What events bring that nobody will collect. */
static void drop(ouro_loop *loop, const ouro_event *event)
{
    if (event->cflags & EVENT_FD)
        ouro__fd_close((int)event->res);
    for (ouro_pool *pool = event->cflags & OURO_C_BUF ? loop->pools : NULL; pool; pool = pool->next)
        if (ouro__pool_give(pool, event->data))
            return;
}

void ouro__events_drop(ouro_loop *loop)
{
    struct ouro__ring *rings[] = { &loop->calls, &loop->events };

    for (unsigned i = 0; i < 2; i++) {
        for (uint32_t at = rings[i]->head; at != rings[i]->tail; at++)
            drop(loop, &rings[i]->at[at & rings[i]->mask]);
        rings[i]->head = rings[i]->tail = 0;
    }
    loop->holes = 0;
}

/* ---- Pause and resume ------------------------------------------------------------------------ */

static int check_stream(const ouro_op *op)
{
    if (!op || op->code >= OURO_CODE_COUNT || !(ouro__kinds[op->code].traits & KIND_STREAM))
        return -EINVAL;
    return op->state_ <= STATE_INBOX ? -EINVAL : 0;
}

static void pause_stream(ouro_loop *loop, ouro_op *op)
{
    op->stream_ |= STREAM_PAUSED;
    switch (op->state_) {
    case STATE_QUEUED:
        ouro__unlink(&loop->queue, op);
        rest(op, NULL);
        break;
    case STATE_PARKED:
        ouro__unpark(op);
        ouro__hold_file(op);
        break;
    case STATE_RUNNING: stop(loop, op); break;
    case STATE_AWAY:
        if (ouro__workers_cancel(loop, op))
            rest(op, NULL);
        break;
    case STATE_TIMING: ouro__heap_move(loop, op, op->deadline ? op->deadline : UINT64_MAX); break;
    default: break; /* what is under way ends, and then it rests */
    }
}

int ouro_pause(ouro_loop *loop, ouro_op *op)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    r = check_stream(op);
    if (r == 0 && !(op->stream_ & STREAM_PAUSED) && op->state_ != STATE_REPORTED &&
        op->state_ != STATE_DONE)
        pause_stream(loop, op);
    ouro__leave(loop);
    return r;
}

int ouro_resume(ouro_loop *loop, ouro_op *op)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    r = check_stream(op);
    if (r == 0 && op->stream_ & STREAM_PAUSED) {
        op->stream_ &= (uint8_t)~STREAM_PAUSED;
        go_on(loop, op);
        ouro__submitted(loop);
    }
    ouro__leave(loop);
    return r;
}

/* Instead of the queue, for one that is paused. */
void ouro__stream_sleep(ouro_op *op)
{
    rest(op, NULL);
}

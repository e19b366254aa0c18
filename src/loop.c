/* SPDX-License-Identifier: MIT */
/* loop.c: submitting, turns of the loop, and the ways to learn of completions.
 *
 * OWNED: one thread, no lock. SHARED and SERVICE: everything is under loop->lock, which is not held
 * while an engine sleeps or a callback runs. One thread at a time leads: it makes turns. The others
 * follow: they sleep on a condition of their own until the leader has served them, or leadership is
 * free. In a SERVICE loop the library's thread is the only leader. */
#include "core.h"

#define DEPTH_MOST 8u
#define CLOCK_TURNS 64u /* turns without sleep or deadline after which the clock is read again */

/* Callbacks that this thread is inside of, innermost first, and how deep. */
_Thread_local unsigned ouro__depth;
static _Thread_local const struct ouro__frame {
    const ouro_loop *loop;
    const struct ouro__frame *outer;
    const ouro_op *op;         /* a stream whose callback runs */
    struct ouro__frame *other; /* of the loop's, in locked modes */
} * inside;

bool ouro__in_callback(const ouro_loop *loop)
{
    for (const struct ouro__frame *frame = inside; frame; frame = frame->outer)
        if (frame->loop == loop)
            return true;
    return false;
}

/* ---- Who may drive ------------------------------------------------------------------------- */

/* The first to drive owns; two threads that race for that is the caller's fault, but found. */
static int own(ouro_loop *loop)
{
    const void *nobody = NULL;

    return ouro__drives(loop) || atomic_compare_exchange_strong(&loop->owner, &nobody, &ouro__depth)
               ? 0
               : -EPERM;
}

/* Whoever holds the lock, sleeps, or makes a turn is not cancelled: many a system call would end
 * it, and leave the lock taken or the turn half made. */
static _Thread_local struct {
    unsigned depth;
    int state;
} uncancelled;

void ouro__hold_off_cancel(void)
{
    if (uncancelled.depth++ == 0)
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &uncancelled.state);
}

void ouro__let_cancel(void)
{
    int state;

    if (--uncancelled.depth == 0)
        pthread_setcancelstate(uncancelled.state, &state);
}

int ouro__enter_slowly(ouro_loop *loop)
{
    if (!loop)
        return -EINVAL;
    if (!atomic_load_explicit(loop->alive, memory_order_relaxed))
        return -EOWNERDEAD;
    if (!loop->locked_mode)
        return own(loop);
    ouro__hold_off_cancel();
    pthread_mutex_lock(&loop->lock);
    return 0;
}

void ouro__leave_slowly(ouro_loop *loop)
{
    pthread_mutex_unlock(&loop->lock);
    ouro__let_cancel();
}

void ouro__sleep(ouro_loop *loop, ouro_time until)
{
    loop->stats.waits++;
    loop->sleeping = true;
    loop->sleep_until = until;
    if (loop->locked_mode)
        pthread_mutex_unlock(&loop->lock);
}

void ouro__awake(ouro_loop *loop)
{
    if (loop->locked_mode)
        pthread_mutex_lock(&loop->lock);
    loop->sleeping = false;
    loop->now = 0;
}

static bool may_lead(const ouro_loop *loop)
{
    if (loop->leading)
        return false;
    return !loop->service_runs || pthread_equal(loop->service, pthread_self());
}

/* ---- Submitting ---------------------------------------------------------------------------- */

static void submit_now(ouro_loop *loop)
{
    loop->asked = false;
    loop->engine->submit(loop);
}

static ouro_time earlier(ouro_time a, ouro_time b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* When there is something to do though nothing happens; OURO_FOREVER: never. */
static ouro_time next_time(const ouro_loop *loop)
{
    ouro_time at = loop->heap_count ? loop->heap[0].at : OURO_FOREVER;

    return OURO__SELDOM(loop->parked.head || loop->starved) ? earlier(at, loop->parked_until) : at;
}

/* After accepting. Nobody may be about to run a SHARED loop: what can start starts now. */
void ouro__submitted_slowly(ouro_loop *loop)
{
    if (loop->notifier && !inside && loop->threading != OURO_SERVICE)
        ouro__notify_rearm(loop);
    if (!loop->locked_mode)
        return;
    if (!loop->service_runs)
        submit_now(loop);
    if ((loop->sleeping || loop->host_fd >= 0) &&
        (loop->queue.head || ouro__calls_ready(loop) ||
         ouro__progress(loop) != loop->turn_progress || /* the sleeper may wait for that */
         (next_time(loop) != OURO_FOREVER &&
          (!loop->sleep_until || next_time(loop) < loop->sleep_until))))
        ouro__ring_bell(loop);
}

int ouro_submit_n(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    unsigned done = 0;
    int r = ops || !count ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    if (loop->closing)
        r = -ESHUTDOWN;
    else
        done = ouro__submit_many(loop, ops, count, &r);
    if (done)
        ouro__submitted(loop);
    ouro__leave(loop);
    return done ? (int)done : r;
}

int ouro_submit(ouro_loop *loop, ouro_op *op)
{
    int r = op ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    r = loop->closing ? -ESHUTDOWN : ouro__submit_one(loop, op);
    if (r == 0)
        ouro__submitted(loop);
    ouro__leave(loop);
    return r;
}

int ouro_flush(ouro_loop *loop)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    loop->try_count = 0;
    loop->try_bytes = 0;
    submit_now(loop);
    ouro__submitted(loop);
    ouro__leave(loop);
    return 0;
}

ouro_id ouro_op_id(const ouro_op *op)
{
    return op ? op->id_ : 0;
}

int ouro_cancel(ouro_loop *loop, ouro_op *op)
{
    int r = op ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    if (op->state_ == STATE_INBOX)
        r = ouro_cancel_id(loop, op->id_);
    else
        ouro__cancel(loop, op, MARK_CANCEL);
    ouro__submitted(loop);
    ouro__leave(loop);
    return r;
}

int ouro_withdraw(ouro_loop *loop, ouro_op *op)
{
    int r = op ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    /* What is queued may be on its second step; what has bytes done has ridden with another one. */
    if (op->state_ == STATE_HELD && !op->done_ && !ouro__sendq_rides(op))
        ouro__cancel(loop, op, MARK_CANCEL);
    else
        r = -EALREADY;
    ouro__submitted(loop);
    ouro__leave(loop);
    return r;
}

/* ---- Memory -------------------------------------------------------------------------------- */

/* All of the loop's memory; size 0 frees. */
void *ouro__alloc(ouro_loop *loop, void *old, size_t old_size, size_t size)
{
    void *fresh;

    if (!old && !size)
        return NULL;
    fresh = loop->config.alloc ? loop->config.alloc(loop->config.alloc_ctx, old, size)
                               : sys_realloc(old, size);
    if (fresh || !size)
        __atomic_fetch_add(&loop->stats.memory, size - (old ? old_size : 0), __ATOMIC_RELAXED);
    return fresh;
}

static int grow_ring(ouro_loop *loop, struct ouro__ring *ring, uint32_t room)
{
    ouro_event *at = ouro__alloc(loop, NULL, 0, (size_t)room * sizeof(*at));

    if (!at)
        return -ENOMEM;
    for (uint32_t i = ring->head; i != ring->tail; i++)
        at[i & (room - 1)] = ring->at[i & ring->mask];
    ouro__alloc(loop, ring->at, ring->at ? ((size_t)ring->mask + 1) * sizeof(*at) : 0, 0);
    ring->at = at;
    ring->mask = room - 1;
    return 0;
}

/* Events that were collected by themselves leave holes: closes them. */
static void compact(ouro_loop *loop)
{
    struct ouro__ring *ring = &loop->events;
    uint32_t to = ring->head;

    for (uint32_t i = ring->head; i != ring->tail; i++) {
        ouro_event event = ring->at[i & ring->mask];
        if (event.op || event.cflags & OURO_C_MESSAGE)
            ring->at[to++ & ring->mask] = event;
    }
    ring->tail = to;
    loop->holes = 0;
}

/* So many operations have a place each in both rings for their completion. The rest is for streams:
 * a completion that is not the last may be there when the places are taken. */
void ouro__set_places(ouro_loop *loop)
{
    uint32_t room = loop->calls.mask + 1 - loop->streams;

    loop->places = room < loop->max_ops ? room : loop->max_ops;
}

static int make_room(ouro_loop *loop, int64_t need)
{
    uint32_t size = loop->calls.mask + 1, room = size;

    while (room < need + loop->streams)
        room *= 2;
    if (room > size &&
        (grow_ring(loop, &loop->events, room) < 0 || grow_ring(loop, &loop->calls, room) < 0))
        return -ENOMEM;
    ouro__set_places(loop);
    return 0;
}

/* Operations in flight and events uncollected, and so many more. */
static int64_t needed(const ouro_loop *loop, uint32_t more)
{
    return (int64_t)loop->places - ouro__room(loop) + more;
}

/* Room for the completions of `more` further operations: both rings hold one of each in flight or
 * uncollected, so that a final completion never needs memory. */
int ouro__ring_room(ouro_loop *loop, uint32_t more)
{
    if (loop->holes)
        compact(loop);
    if (needed(loop, more) > loop->max_ops)
        return -EAGAIN;
    return make_room(loop, needed(loop, more));
}

int64_t ouro__ring_spare(const ouro_loop *loop)
{
    return (int64_t)loop->calls.mask + 1 - needed(loop, 0) - loop->streams;
}

int ouro__ring_space(ouro_loop *loop)
{
    if (ouro__ring_spare(loop) > 0)
        return 0;
    if (loop->holes)
        compact(loop);
    return make_room(loop, needed(loop, 1));
}

/* ---- Turns --------------------------------------------------------------------------------- */

static void look_at_clock(ouro_loop *loop)
{
    if (loop->heap_count || ++loop->idle_turns >= CLOCK_TURNS) {
        loop->now = sys_now();
        loop->idle_turns = 0;
        if (loop->heap_count)
            ouro__heap_fire(loop);
    }
}

ouro_time ouro__until(const ouro_loop *loop, ouro_time until)
{
    if (until == OURO_NOWAIT || ouro__progress(loop) != loop->turn_progress ||
        atomic_load_explicit(&loop->inbox.rung, memory_order_relaxed))
        return OURO_NOWAIT;
    return earlier(until, next_time(loop));
}

/* Does another thread run a callback of this stream? They come one after the other. */
static OURO__APART bool called_elsewhere(const ouro_loop *loop, const ouro_op *op)
{
    for (const struct ouro__frame *frame = loop->frames; frame; frame = frame->other) {
        const struct ouro__frame *mine = inside;

        while (mine && mine != frame)
            mine = mine->outer;
        if (frame->op == op && !mine)
            return true;
    }
    return false;
}

/* Could this thread run a callback now? */
static inline bool callable(const ouro_loop *loop)
{
    return ouro__calls_ready(loop) &&
           !(OURO__SELDOM(loop->locked_mode) &&
             called_elsewhere(loop, loop->calls.at[loop->calls.head & loop->calls.mask].op));
}

/* One turn: what came from elsewhere and what is due, then the engine, which may sleep. */
static void turn(ouro_loop *loop, ouro_time until)
{
    loop->try_count = 0;
    loop->try_bytes = 0;
    loop->turn_progress = ouro__progress(loop);
    ouro__inbox_drain(loop);
    look_at_clock(loop);
    ouro__streams_wake(loop);
    if (callable(loop))
        until = OURO_NOWAIT;
    loop->asked = false;
    loop->engine->wait(loop, until);
    ouro__inbox_drain(loop);
    look_at_clock(loop);
}

/* Completions were taken: what had no room in the inbox may come in. */
static void give_room(ouro_loop *loop)
{
    if (loop->inbox.starved)
        ouro__inbox_feed(loop);
    if (OURO__SELDOM(loop->parked.head)) {
        loop->parked_until = OURO_NOWAIT;
        if (loop->sleeping)
            ouro__ring_bell(loop);
    }
}

/* It goes on, which who sleeps in the engine, or in the host's loop, does not know. */
static void stream_collected(ouro_loop *loop, ouro_op *op)
{
    ouro__stream_collected(loop, op);
    if (loop->locked_mode && (loop->sleeping || loop->host_fd >= 0))
        ouro__submitted(loop);
}

static void enter_frame(ouro_loop *loop, struct ouro__frame *frame)
{
    frame->other = loop->frames;
    loop->frames = frame;
}

static void leave_frame(ouro_loop *loop, struct ouro__frame *frame)
{
    struct ouro__frame **at = &loop->frames;

    while (*at != frame)
        at = &(*at)->other;
    *at = frame->other;
}

/* Runs the callbacks that are ready now, `max` at most. */
static unsigned dispatch(ouro_loop *loop, unsigned max)
{
    unsigned count = loop->calls.tail - loop->calls.head, done;
    struct ouro__frame frame = { .loop = loop, .outer = inside };

    if (!count)
        return 0;
    if (count > max)
        count = max;
    ouro__depth++;
    inside = &frame;
    enter_frame(loop, &frame);
    for (done = 0; done < count && callable(loop); done++) {
        ouro_event event = loop->calls.at[loop->calls.head++ & loop->calls.mask];
        ouro_op *op = event.op;
        ouro_cb *cb = op->cb;

        op->res = event.res;
        op->cflags = event.cflags & ~OURO__EVENT_OURS;
        op->cause = event.cause;
        if (event.cflags & OURO_C_MORE) {
            op->data = event.data;
            frame.op = op;
            if (event.cflags & EVENT_LEADS)
                stream_collected(loop, op);
        } else {
            ouro__set_state(op, STATE_DONE);
        }
        if (loop->locked_mode) {
            pthread_mutex_unlock(&loop->lock);
            cb(op);
            pthread_mutex_lock(&loop->lock);
        } else {
            cb(op);
        }
        frame.op = NULL;
    }
    inside = frame.outer;
    leave_frame(loop, &frame);
    if (!ouro__calls_ready(loop))
        loop->calls.head = loop->calls.tail = 0; /* the same few cache lines for the next ones */
    else if (loop->locked_mode)
        ouro__ring_bell(loop); /* others may have left them to us */
    ouro__depth--;
    if (done)
        give_room(loop);
    return done;
}

/* ---- Following a leader -------------------------------------------------------------------- */

static void add_waiter(ouro_loop *loop, struct ouro__waiter *waiter)
{
    waiter->served = false;
    waiter->next = loop->waiters;
    loop->waiters = waiter;
}

static void remove_waiter(ouro_loop *loop, struct ouro__waiter *waiter)
{
    struct ouro__waiter **at = &loop->waiters;

    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
}

static bool waits_for(const struct ouro__waiter *waiter, const ouro_op *op)
{
    if (!waiter->ops)
        return true;
    for (unsigned i = 0; op && i < waiter->count; i++)
        if (waiter->ops[i] == op)
            return true;
    return false;
}

/* An operation is final, or an event came: wakes who waits for it. */
void ouro__served(ouro_loop *loop, const ouro_op *op)
{
    for (struct ouro__waiter *w = loop->waiters; w; w = w->next) {
        if (!w->served && waits_for(w, op)) {
            w->served = true;
            pthread_cond_signal(&w->cond);
        }
    }
}

void ouro__served_all(ouro_loop *loop)
{
    for (struct ouro__waiter *w = loop->waiters; w; w = w->next) {
        w->served = true;
        pthread_cond_signal(&w->cond);
    }
}

/* Leadership is free: one who waits takes it. */
static void hand_on(ouro_loop *loop)
{
    if (loop->service_runs)
        return;
    for (struct ouro__waiter *w = loop->waiters; w; w = w->next) {
        if (!w->served) {
            w->served = true;
            pthread_cond_signal(&w->cond);
            return;
        }
    }
}

static void follow(ouro_loop *loop, struct ouro__waiter *waiter, ouro_time until)
{
    add_waiter(loop, waiter);
    while (!waiter->served) {
        if (until == OURO_FOREVER) {
            pthread_cond_wait(&waiter->cond, &loop->lock);
        } else {
            struct timespec at = { .tv_sec = (time_t)(until / OURO_S),
                                   .tv_nsec = (long)(until % OURO_S) };
            if (pthread_cond_timedwait(&waiter->cond, &loop->lock, &at) == ETIMEDOUT)
                break;
        }
    }
    remove_waiter(loop, waiter);
    loop->now = 0;
}

/* Makes one turn if nobody leads, else waits for the leader's. Result: callbacks run. */
static unsigned step(ouro_loop *loop, struct ouro__waiter *waiter, ouro_time until, unsigned max)
{
    unsigned ran;

    if (!loop->locked_mode) {
        turn(loop, until);
        return dispatch(loop, max);
    }
    if (may_lead(loop)) {
        loop->leading = true;
        turn(loop, until);
        loop->leading = false;
        if (!ouro__calls_ready(loop))
            return 0;
        hand_on(loop);
        ran = dispatch(loop, max);
        if (loop->waiters && !ouro__in_flight(loop))
            ouro__served(loop, NULL); /* who waits for all */
        return ran;
    }
    if (until != OURO_NOWAIT)
        follow(loop, waiter, until);
    else
        ouro__submitted(loop);
    return loop->service_runs ? 0 : dispatch(loop, max);
}

/* For one of the operations; NULL: for anything. */
static void start_waiting(const ouro_loop *loop, struct ouro__waiter *waiter, ouro_op *const *ops,
                          unsigned count)
{
    if (!loop->locked_mode) { /* nobody leads but this thread */
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &waiter->cancel);
        return;
    }
    *waiter = (struct ouro__waiter){ .ops = ops, .count = count };
    ouro__cond_init(&waiter->cond);
}

/* Our own wait ends: somebody else may have to lead. */
static void stop_waiting(ouro_loop *loop, struct ouro__waiter *waiter)
{
    if (loop->locked_mode) {
        pthread_cond_destroy(&waiter->cond);
        if (!loop->leading)
            hand_on(loop);
    }
    if (loop->notifier)
        ouro__notify_rearm(loop);
    if (!loop->locked_mode)
        pthread_setcancelstate(waiter->cancel, &waiter->cancel);
}

/* When the time has come, one turn more is made, which finds all that has ended by then. */
static bool time_is_up(ouro_time *until)
{
    bool last = *until == OURO_NOWAIT;

    if (*until != OURO_FOREVER && sys_now() >= *until)
        *until = OURO_NOWAIT;
    return last;
}

/* ---- Running ------------------------------------------------------------------------------- */

static bool enough(const ouro_loop *loop, unsigned ran, unsigned min)
{
    if (min != OURO_ALL)
        return ran + ouro__events_ready(loop) >= min;
    return !ouro__in_flight(loop) && !atomic_load(&loop->inbox.rung) && !ouro__calls_ready(loop);
}

/* An engine may wait for so many together, for a moment: see uring_turn.c. Who waits for all may
 * have callbacks that are to run as soon as they can. */
static unsigned wanted(const ouro_loop *loop, unsigned ran, unsigned min)
{
    unsigned got = ran + ouro__events_ready(loop);

    return min == OURO_ALL || min <= got ? 1 : min - got;
}

/* Was ouro_wake called? Looks before it takes: an exchange is dear. */
static bool take_wake(ouro_loop *loop)
{
    return atomic_load(&loop->inbox.woken) && atomic_exchange(&loop->inbox.woken, false);
}

static int run(ouro_loop *loop, unsigned min, ouro_time until, unsigned max)
{
    struct ouro__waiter waiter;
    unsigned ran = 0;

    if (ouro__depth >= DEPTH_MOST)
        return -EDEADLK;
    start_waiting(loop, &waiter, NULL, 0);
    do {
        bool woken = take_wake(loop);
        bool stop = woken || enough(loop, ran, min) || until == OURO_NOWAIT;
        loop->wanted = wanted(loop, ran, min);
        ran += step(loop, &waiter, stop ? OURO_NOWAIT : until, max);
        loop->wanted = 1;
        if (stop)
            break;
    } while (!enough(loop, ran, min) && !time_is_up(&until));
    stop_waiting(loop, &waiter);
    return (int)(ran + ouro__events_ready(loop));
}

int ouro_run(ouro_loop *loop, unsigned min, ouro_time until)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    r = run(loop, min, min ? until : OURO_NOWAIT, UINT32_MAX);
    ouro__leave(loop);
    return r;
}

int ouro_dispatch(ouro_loop *loop, unsigned max)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    r = run(loop, 0, OURO_NOWAIT, max ? max : UINT32_MAX);
    if (r >= 0 && (loop->queue.head || loop->asked)) {
        submit_now(loop);
        ouro__submitted(loop);
    }
    ouro__leave(loop);
    return r;
}

static void drop_holes(ouro_loop *loop)
{
    struct ouro__ring *ring = &loop->events;

    while (ring->head != ring->tail) {
        const ouro_event *event = &ring->at[ring->head & ring->mask];
        if (event->op || event->cflags & OURO_C_MESSAGE)
            return;
        ring->head++;
        loop->holes--;
    }
}

static unsigned take_events(ouro_loop *loop, ouro_event *ret, unsigned max)
{
    struct ouro__ring *ring = &loop->events;
    uint32_t ready = ring->tail - ring->head, head = ring->head, count = 0;

    if (!loop->holes) {
        /* In one piece, or in two around the end of the ring. */
        uint32_t at = head & ring->mask, first = ring->mask + 1 - at;
        count = ready < max ? ready : max;
        first = first < count ? first : count;
        memcpy(ret, ring->at + at, first * sizeof(*ret));
        if (first < count)
            memcpy(ret + first, ring->at, (count - first) * sizeof(*ret));
        ring->head = head + count;
        if (ring->head == ring->tail)
            ring->head = ring->tail = 0; /* the same few cache lines for the next ones */
        return count;
    }
    while (count < max && ring->head != ring->tail) {
        ouro_event event = ring->at[ring->head++ & ring->mask];
        if (event.op || event.cflags & OURO_C_MESSAGE)
            ret[count++] = event;
        else
            loop->holes--;
    }
    return count;
}

int ouro_reap(ouro_loop *loop, ouro_event *ret, unsigned max)
{
    unsigned count;
    int r = ret || !max ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    count = max ? take_events(loop, ret, max) : 0; /* memcpy takes no NULL */
    if (count)
        give_room(loop);
    for (unsigned i = 0; loop->stats.streamed && i < count; i++) {
        if (ret[i].cflags & EVENT_LEADS)
            stream_collected(loop, ret[i].op);
        ret[i].cflags &= ~OURO__EVENT_OURS;
    }
    if (loop->notifier)
        ouro__notify_rearm(loop);
    ouro__leave(loop);
    return (int)count;
}

/* ---- Waiting for one ----------------------------------------------------------------------- */

int ouro_done(const ouro_op *op)
{
    return op && __atomic_load_n(&op->state_, __ATOMIC_ACQUIRE) == STATE_DONE;
}

static bool ends(const ouro_event *event, const ouro_op *op)
{
    return event->op == op && !(event->cflags & OURO_C_MORE);
}

/* Takes the event of a final operation out of the ring, whose place it remembers. */
static int collect(ouro_loop *loop, ouro_op *op)
{
    struct ouro__ring *ring = &loop->events;
    uint32_t at = (uint32_t)(uintptr_t)op->next_;

    if (op->cb)
        return -EINVAL;
    if (op->flags & OURO_QUIET && op->res >= 0)
        return 0;
    if (at - ring->head >= ring->tail - ring->head || !ends(&ring->at[at & ring->mask], op))
        for (at = ring->head; at != ring->tail && !ends(&ring->at[at & ring->mask], op); at++)
            ;
    if (at == ring->tail)
        return -EINVAL;
    ring->at[at & ring->mask] = (ouro_event){ 0 };
    loop->holes++;
    drop_holes(loop);
    give_room(loop);
    return 0;
}

static int find_done(ouro_loop *loop, ouro_op *const *ops, unsigned count, bool first)
{
    bool any = false;

    for (unsigned i = 0; i < count; i++) {
        ouro_op *op = ops[i];
        if (!op)
            continue;
        any = true;
        if (op->state_ == STATE_DONE)
            return collect(loop, op) < 0 ? -EINVAL : (int)i;
        if (first && (op->cb || op->state_ == STATE_IDLE))
            return -EINVAL;
    }
    return any ? -ETIME : -EINVAL;
}

static int wait_any(ouro_loop *loop, ouro_op *const *ops, unsigned count, ouro_time until,
                    bool wakeable)
{
    struct ouro__waiter waiter;
    int r = find_done(loop, ops, count, true);

    if (r != -ETIME)
        return r;
    if (ouro__depth >= DEPTH_MOST)
        return -EDEADLK;
    start_waiting(loop, &waiter, ops, count);
    for (;;) {
        bool woken = wakeable && take_wake(loop);
        step(loop, &waiter, woken ? OURO_NOWAIT : until, UINT32_MAX);
        r = find_done(loop, ops, count, false);
        if (r == -ETIME && woken)
            r = -EINTR;
        if (r != -ETIME || time_is_up(&until))
            break;
    }
    stop_waiting(loop, &waiter);
    return r;
}

int ouro_wait_any(ouro_loop *loop, ouro_op *const *ops, unsigned count, ouro_time until)
{
    int r = ops && count ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    r = wait_any(loop, ops, count, until, true);
    ouro__leave(loop);
    return r;
}

int ouro_wait(ouro_loop *loop, ouro_op *op, ouro_time until)
{
    return ouro_wait_any(loop, &op, 1, until);
}

int64_t ouro_do(ouro_loop *loop, ouro_op *op)
{
    int r = op && !op->cb ? ouro__enter(loop) : -EINVAL;
    int64_t res;

    if (r < 0)
        return r;
    if (ouro__depth >= DEPTH_MOST)
        r = -EDEADLK;
    else if (loop->closing)
        r = -ESHUTDOWN;
    else
        ouro__submit_many(loop, &op, 1, &r);
    if (r == 0) {
        ouro__submitted(loop);
        wait_any(loop, &op, 1, OURO_FOREVER, false);
    }
    res = r < 0 ? r : op->res;
    ouro__leave(loop);
    return res;
}

/* ---- Hosting ------------------------------------------------------------------------------- */

int ouro_pollfd(ouro_loop *loop)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    r = ouro__host_open(loop);
    if (r < 0) {
        submit_now(loop); /* an engine that was just lost is replaced here */
        r = ouro__host_open(loop);
    }
    ouro__leave(loop);
    return r;
}

/* When the loop wants to be run though its descriptor says nothing. */
ouro_time ouro__due(const ouro_loop *loop)
{
    if (loop->queue.head || loop->asked || callable(loop) || atomic_load(&loop->inbox.rung))
        return OURO_NOWAIT;
    return next_time(loop);
}

ouro_time ouro_next_deadline(ouro_loop *loop)
{
    ouro_time at;

    if (ouro__enter(loop) < 0)
        return OURO_FOREVER;
    at = ouro__due(loop);
    ouro__leave(loop);
    return at;
}

int ouro_timeout_ms(ouro_loop *loop)
{
    ouro_time at = ouro_next_deadline(loop), now;

    if (at == OURO_FOREVER)
        return -1;
    now = sys_now();
    if (at <= now)
        return 0;
    at = (at - now + OURO_MS - 1) / OURO_MS;
    return at < INT32_MAX ? (int)at : INT32_MAX;
}

ouro_time ouro_now(ouro_loop *loop)
{
    (void)loop;
    return sys_now();
}

/* ---- The library's own thread -------------------------------------------------------------- */

void *ouro__service_main(void *arg)
{
    ouro_loop *loop = arg;

    pthread_mutex_lock(&loop->lock);
    while (!loop->service_stop) {
        struct ouro__waiter none = { .ops = NULL };

        step(loop, &none, OURO_FOREVER, UINT32_MAX);
        if (loop->notifier && ouro__events_ready(loop))
            ouro__notify_fire(loop);
    }
    pthread_mutex_unlock(&loop->lock);
    return NULL;
}

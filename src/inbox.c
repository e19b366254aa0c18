/* SPDX-License-Identifier: MIT */
/* inbox.c: what comes to a loop from other threads: posted operations, messages, operations that
 * return from workers or other loops, and cancel requests; and the doorbell that wakes the driver.
 *
 * Lists are under inbox.lock. Cancel requests by id are a lock-free stack through the slots
 * themselves, so that a signal handler may push one and none needs memory. Who adds something rings
 * the bell: the first one since the driver looked wakes the engine. */
#include "core.h"

#define REQUESTS_AT_ONCE 16u

void ouro__ring_bell(ouro_loop *loop)
{
    const struct ouro__bell *bell;

    if (atomic_exchange(&loop->inbox.rung, true))
        return;
    bell = atomic_load(&loop->bell);
    bell->wake(bell->state);
}

/* ---- From other threads -------------------------------------------------------------------- */

static int post_owned(ouro_loop *loop, ouro_op *op, ouro_id *ret_id)
{
    struct ouro__inbox *inbox = &loop->inbox;
    int r;

    pthread_mutex_lock(&inbox->lock);
    r = inbox->closed ? -ESHUTDOWN : ouro__check(loop, op);
    if (r == 0)
        r = ouro__slot_take(loop, &inbox->slots, op);
    if (r == 0) {
        ouro__set_state(op, STATE_INBOX);
        if (ret_id)
            *ret_id = op->id_;
        ouro__push(&inbox->posted, op);
        inbox->posts++;
        /* Under the lock: whoever runs it may close the loop at once. */
        ouro__ring_bell(loop);
    }
    pthread_mutex_unlock(&inbox->lock);
    return r;
}

int ouro_post(ouro_loop *loop, ouro_op *op, ouro_id *ret_id)
{
    int r;

    if (!loop || !op)
        return -EINVAL;
    if (!atomic_load_explicit(loop->alive, memory_order_relaxed))
        return -EOWNERDEAD;
    if (!loop->locked_mode)
        return post_owned(loop, op, ret_id);
    r = ouro__enter(loop);
    if (r < 0)
        return r;
    if (loop->closing)
        r = -ESHUTDOWN;
    else
        ouro__submit_many(loop, &op, 1, &r);
    if (r == 0) {
        /* Under the lock nobody can have run its callback yet. */
        if (ret_id)
            *ret_id = op->id_;
        ouro__submitted(loop);
    }
    ouro__leave(loop);
    return r;
}

/* An operation that was AWAY comes back. Any thread; the operation is not touched afterwards. */
void ouro__return(ouro_loop *loop, ouro_op *op, int64_t res)
{
    struct ouro__inbox *inbox = &loop->inbox;

    op->result_ = res;
    pthread_mutex_lock(&inbox->lock);
    ouro__push(&inbox->returned, op);
    /* Under the lock: the driver may close the loop as soon as it has the last operation. */
    ouro__ring_bell(loop);
    pthread_mutex_unlock(&inbox->lock);
}

/* False: it is in the stack already, and whoever empties that reads the id after taking the slot
 * out. */
static bool ask_cancel(ouro_loop *loop, ouro_id id)
{
    uint32_t index = (uint32_t)(id & OURO__SLOT_MASK), head, none = 0;
    struct ouro__asked *asked = ouro__asked_at(loop, index);
    uint64_t seen = 0;

    /* Ids of a slot only grow, and the newest tenant is the one that can still be cancelled. */
    while (seen < id && !atomic_compare_exchange_weak(&asked->id, &seen, id))
        ;
    if (!atomic_compare_exchange_strong(&asked->next, &none, OURO__STACK_END))
        return false;
    head = atomic_load(&loop->inbox.cancels);
    do {
        atomic_store(&asked->next, head ? head : OURO__STACK_END);
    } while (!atomic_compare_exchange_weak(&loop->inbox.cancels, &head, index + 1));
    return true;
}

int ouro_cancel_id(ouro_loop *loop, ouro_id id)
{
    struct ouro__slot *slot;

    if (!loop)
        return -EINVAL;
    if (!atomic_load_explicit(loop->alive, memory_order_relaxed))
        return -EOWNERDEAD;
    slot = ouro__slot_at(loop, (uint32_t)(id & OURO__SLOT_MASK));
    if (!slot || !id || atomic_load_explicit(&slot->id, memory_order_relaxed) != id)
        return 0;
    if (ask_cancel(loop, id))
        ouro__ring_bell(loop);
    return 0;
}

/* There is room for what had none. */
void ouro__inbox_feed(ouro_loop *loop)
{
    loop->inbox.starved = false;
    ouro__ring_bell(loop);
}

static int remember(ouro_loop *loop, ouro_fd fd)
{
    struct ouro__inbox *inbox = &loop->inbox;
    unsigned i;

    for (i = 0; i < inbox->request_count && inbox->requests[i].fd != fd; i++)
        ;
    if (i == inbox->request_room) {
        unsigned room = i ? i * 2 : REQUESTS_AT_ONCE;
        struct ouro__request *requests =
            ouro__alloc(loop, inbox->requests, i * sizeof(*requests), room * sizeof(*requests));
        if (!requests)
            return -ENOMEM;
        inbox->requests = requests;
        inbox->request_room = room;
    }
    inbox->request_count += i == inbox->request_count;
    inbox->requests[i] = (struct ouro__request){ .fd = fd, .reach = inbox->posts };
    return 0;
}

static void cancel_now(ouro_loop *loop, ouro_fd fd)
{
    ouro_op key = { .fd = fd };

    if (fd < 0)
        ouro__cancel_all(loop);
    else
        ouro__cancel_others(loop, &key);
}

/* The driver acts at once; other threads leave a request, for what was posted before it. */
static int cancel_many(ouro_loop *loop, ouro_fd fd)
{
    int r = 0;

    if (!atomic_load_explicit(loop->alive, memory_order_relaxed))
        return -EOWNERDEAD;
    if (loop->locked_mode) {
        ouro__enter(loop);
        cancel_now(loop, fd);
        ouro__submitted(loop);
        ouro__leave(loop);
        return 0;
    }
    if (ouro__drives(loop)) {
        ouro__inbox_drain(loop);
        cancel_now(loop, fd);
        return 0;
    }
    pthread_mutex_lock(&loop->inbox.lock);
    r = remember(loop, fd);
    pthread_mutex_unlock(&loop->inbox.lock);
    if (r == 0)
        ouro__ring_bell(loop);
    return r;
}

int ouro_cancel_all(ouro_loop *loop)
{
    return loop ? cancel_many(loop, -1) : -EINVAL;
}

int ouro_cancel_fd(ouro_loop *loop, ouro_fd fd)
{
    if (!loop)
        return -EINVAL;
    return fd < 0 ? -EBADF : cancel_many(loop, fd);
}

void ouro_wake(ouro_loop *loop)
{
    if (!loop || !atomic_load_explicit(loop->alive, memory_order_relaxed))
        return;
    atomic_store(&loop->inbox.woken, true);
    ouro__ring_bell(loop);
}

/* ---- Messages ------------------------------------------------------------------------------ */

/* The operation travels: from our loop to the other's inbox, and back with the word taken. */
void ouro__message_send(ouro_loop *loop, ouro_op *op)
{
    ouro_loop *to = ouro__ptr(op, ARG_TO);
    bool closed;

    (void)loop;
    pthread_mutex_lock(&to->inbox.lock);
    closed = to->inbox.closed;
    if (!closed) {
        ouro__push(&to->inbox.messages, op);
        op->worker_ = to;
        ouro__ring_bell(to);
    }
    pthread_mutex_unlock(&to->inbox.lock);
    if (closed)
        ouro__return(op->loop_, op, -EPIPE);
}

/* True: the other loop had not seen it; it is ours again. */
bool ouro__message_take_back(ouro_op *op)
{
    ouro_loop *to = __atomic_load_n(&op->worker_, __ATOMIC_ACQUIRE);
    bool mine;

    if (!to)
        return false; /* it is coming back; the other loop may not exist any more */
    pthread_mutex_lock(&to->inbox.lock);
    mine = op->worker_ == to;
    if (mine)
        ouro__unlink(&to->inbox.messages, op);
    pthread_mutex_unlock(&to->inbox.lock);
    return mine;
}

static void receive(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;
    ouro_op *op;

    for (;;) {
        bool room = ouro__more_room(loop);
        pthread_mutex_lock(&inbox->lock);
        if (!room)
            inbox->starved = inbox->starved || inbox->messages.head;
        op = room ? ouro__pop(&inbox->messages) : NULL;
        if (op)
            __atomic_store_n(&op->worker_, NULL, __ATOMIC_RELEASE);
        pthread_mutex_unlock(&inbox->lock);
        if (!op)
            return;
        loop->events.at[loop->events.tail++ & loop->events.mask] =
            (ouro_event){ .res = (int64_t)op->arg[ARG_WORD], .cflags = OURO_C_MESSAGE };
        ouro__served(loop, NULL);
        ouro__return(op->loop_, op, 0);
    }
}

/* The loop closes: messages that nobody will take go back. */
void ouro__inbox_close(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;
    ouro_op *op;

    do {
        pthread_mutex_lock(&inbox->lock);
        inbox->closed = true;
        op = ouro__pop(&inbox->messages);
        if (op)
            __atomic_store_n(&op->worker_, NULL, __ATOMIC_RELEASE);
        pthread_mutex_unlock(&inbox->lock);
        if (op)
            ouro__return(op->loop_, op, -EPIPE);
    } while (op);
}

/* ---- The driver's side --------------------------------------------------------------------- */

/* Requests act on what the loop has accepted when it first sees them; later on each post within
 * their reach; then they are forgotten. */
static void run_requests(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;
    unsigned i = 0;

    pthread_mutex_lock(&inbox->lock);
    while (i < inbox->request_count) {
        struct ouro__request *request = &inbox->requests[i];
        ouro_fd fd = request->fd;
        bool seen = request->seen;

        request->seen = true;
        if (request->reach <= inbox->taken)
            *request = inbox->requests[--inbox->request_count];
        else
            i++;
        if (seen)
            continue;
        pthread_mutex_unlock(&inbox->lock);
        cancel_now(loop, fd);
        pthread_mutex_lock(&inbox->lock);
    }
    pthread_mutex_unlock(&inbox->lock);
}

/* Is the post that is accepted next within the reach of a request? */
static bool is_requested_next(ouro_loop *loop, const ouro_op *op)
{
    struct ouro__inbox *inbox = &loop->inbox;
    bool hit = false;

    pthread_mutex_lock(&inbox->lock);
    for (unsigned i = 0; i < inbox->request_count && !hit; i++) {
        const struct ouro__request *request = &inbox->requests[i];
        hit = request->seen && inbox->taken < request->reach &&
              (request->fd < 0 || ouro__names_fd(op, request->fd));
    }
    pthread_mutex_unlock(&inbox->lock);
    return hit;
}

/* No room for its completion: it and the rest wait, in their order. */
static void put_back(struct ouro__inbox *inbox, struct ouro__list *list, ouro_op *op)
{
    ouro__push_front(list, op);
    pthread_mutex_lock(&inbox->lock);
    if (inbox->posted.head) {
        list->tail->next_ = inbox->posted.head;
        inbox->posted.head->prev_ = list->tail;
        list->tail = inbox->posted.tail;
    }
    inbox->posted = *list;
    inbox->starved = true;
    pthread_mutex_unlock(&inbox->lock);
}

static void accept_posted(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;
    struct ouro__list list;
    bool requests;
    ouro_op *op;

    pthread_mutex_lock(&inbox->lock);
    list = inbox->posted;
    inbox->posted = (struct ouro__list){ 0 };
    requests = inbox->request_count;
    pthread_mutex_unlock(&inbox->lock);
    if (requests)
        run_requests(loop);
    while ((op = ouro__pop(&list))) {
        ouro_id id = op->id_;
        bool cancel = requests && is_requested_next(loop, op);
        if (ouro__accept_posted(loop, op) < 0) {
            put_back(inbox, &list, op);
            return;
        }
        inbox->taken++;
        /* It may be final, and gone, already. */
        if (cancel && (op = ouro__slot_find(loop, id)))
            ouro__cancel(loop, op, MARK_CANCEL);
        if (requests)
            run_requests(loop);
    }
}

static void take_returned(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;
    struct ouro__list list;
    ouro_op *op;

    pthread_mutex_lock(&inbox->lock);
    list = inbox->returned;
    inbox->returned = (struct ouro__list){ 0 };
    pthread_mutex_unlock(&inbox->lock);
    while ((op = ouro__pop(&list)))
        ouro__report(loop, op, op->result_);
}

static void take_cancels(ouro_loop *loop)
{
    uint32_t at = atomic_exchange(&loop->inbox.cancels, 0);

    while (at && at != OURO__STACK_END) {
        struct ouro__asked *asked = ouro__asked_at(loop, at - 1);
        ouro_op *op;
        at = atomic_exchange(&asked->next, 0);
        op = ouro__slot_find(loop, atomic_load(&asked->id));
        if (op && op->state_ == STATE_INBOX)
            (void)ask_cancel(loop, op->id_); /* no room to accept it yet: when there is some */
        else if (op)
            ouro__cancel(loop, op, MARK_CANCEL);
    }
}

void ouro__inbox_drain(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;

    if (!atomic_load_explicit(&inbox->rung, memory_order_relaxed))
        return;
    atomic_exchange(&inbox->rung, false);
    loop->stats.wakeups++;
    take_returned(loop);
    accept_posted(loop);
    take_cancels(loop);
    receive(loop);
    if (loop->waiters && atomic_load(&inbox->woken))
        ouro__served_all(loop);
}

bool ouro__inbox_busy(ouro_loop *loop)
{
    struct ouro__inbox *inbox = &loop->inbox;
    bool busy;

    pthread_mutex_lock(&inbox->lock);
    busy = inbox->posted.head || inbox->returned.head;
    pthread_mutex_unlock(&inbox->lock);
    return busy;
}

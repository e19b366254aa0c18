/* SPDX-License-Identifier: MIT */
/* ready.c: operations by readiness: what is tried, who waits on which descriptor, and the turn.
 *
 * What may wait for ever on a descriptor that poll(2) knows (streams, polls, one process) is tried
 * without waiting, armed when it would block, ended by ouro__ready_got, and tried again by the
 * core. The rest goes to workers; splice(2) too, but only once both sides are ready, because what
 * it moves may have to come from a disk.
 *
 * An armed operation has worker_ set and is in the list of its descriptor's watch. Who leaves it
 * goes through `ended`, never straight to the core: reporting may cancel others, and what walks
 * through a list must not meet that. A stream that waits alone is in no such walk: it receives
 * where its readiness is found, and need not leave while it is only told that more has come. */
#include "ready.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define ROOM_FIRST 16u
#define PULLS_PER_TURN 1024u
#define ROUNDS_PER_TURN 16u /* of those who wait behind one another for the same descriptor */
#define TOLD 2u             /* tries of who has waited: before it, and behind its event */
#define ALWAYS ((uint32_t)(POLLERR | POLLHUP | POLLNVAL)) /* come unasked */

static struct ready *state_of(ouro_loop *loop)
{
    return loop->engine_state;
}

/* ---- Arming --------------------------------------------------------------------------------- */

static int grow_watches(struct ready *ready, uint32_t need)
{
    uint32_t room = ready->room ? ready->room : ROOM_FIRST;
    struct watch *watches;

    if (need <= ready->room)
        return 0;
    while (room < need)
        room *= 2;
    watches = ouro__alloc(ready->loop, ready->watches, ready->room * sizeof(*watches),
                          room * sizeof(*watches));
    if (!watches)
        return -ENOMEM;
    memset(watches + ready->room, 0, (room - ready->room) * sizeof(*watches));
    ready->watches = watches;
    ready->room = room;
    return 0;
}

/* 0, or what ready_way.watch says. */
static int64_t arm(struct ready *ready, ouro_op *op)
{
    uint32_t fd = (uint32_t)ouro__ready_fd(op);
    struct watch *watch;
    int64_t r;

    if (grow_watches(ready, fd + 1) < 0)
        return -ENOMEM;
    watch = &ready->watches[fd];
    if (!watch->ops.head)
        watch->wants = 0;
    watch->wants |= op->ready_;
    r = ready->way->watch(ready, fd, watch, op);
    if (r)
        return r;
    if (op->retries_ > TOLD) /* it was its turn, and another took what was there */
        ouro__push_front(&watch->ops, op);
    else
        ouro__push(&watch->ops, op);
    op->worker_ = ready; /* says that it is armed */
    ready->armed++;
    return 0;
}

static void leave(struct ready *ready, ouro_op *op, int64_t res)
{
    op->worker_ = NULL;
    op->result_ = res;
    ouro__push(&ready->ended, op);
}

static void disarm(struct ready *ready, struct watch *watch, ouro_op *op, int64_t res)
{
    ouro__unlink(&watch->ops, op);
    leave(ready, op, res);
    ready->armed--;
}

/* Does it only look? All others may take what is there. */
static bool looks(const ouro_op *op)
{
    return op->code == OURO_POLL || op->code == OURO_POLL_MANY;
}

bool ouro__ready_got(struct ready *ready, struct watch *watch, uint32_t bits)
{
    uint32_t rest = bits; /* for those who would take what is there */
    uint16_t left = 0;
    ouro_op *op, *next;

    for (op = watch->ops.head; op; op = next) {
        uint32_t got = (looks(op) ? bits : rest) & (op->ready_ | ALWAYS);

        next = op->next_;
        if (got)
            disarm(ready, watch, op, got & POLLNVAL ? -EBADF : (int64_t)got);
        else
            left |= op->ready_;
        if (!(got & ALWAYS) && !looks(op))
            rest &= ~got; /* it may leave nothing for the others: they need another event */
    }
    watch->wants = left;
    return watch->ops.head;
}

/* ---- A turn --------------------------------------------------------------------------------- */

/* A stream of bytes that has taken all there was need not try again to learn it. */
static bool drained(struct ready *ready, const ouro_op *op, int64_t res)
{
    uint32_t fd = (uint32_t)ouro__fd(op);
    struct watch *watch = ouro__ready_watch(ready, fd);

    return op->code == OURO_RECV_MANY && res > 0 &&
           res < ((const ouro_pool *)ouro__ptr(op, ARG_POOL))->size && watch &&
           ready->way->drained && ready->way->drained(ready, fd, watch);
}

/* Its word is told, and it waits again. */
static void wait_on(struct ready *ready, ouro_op *op, int64_t res)
{
    op->ready_ = POLLIN;
    if (arm(ready, op) == 0) {
        ouro__stream_goes_on(ready->loop, op, res);
        return;
    }
    op->ready_ = 0; /* the next attempt tells why */
    ouro__report(ready->loop, op, res);
}

static void count_bytes(struct ready *ready, int64_t bytes)
{
    ready->bytes += bytes > 1024 ? bytes : 1024;
}

/* Who succeeds may have left something for the next one that waits there. */
static void tell_next(struct ready *ready, const ouro_op *op)
{
    uint32_t fd = (uint32_t)ouro__fd(op);
    uint16_t bits = ouro__kinds[op->code].traits & KIND_READS ? POLLIN : POLLOUT;
    struct watch *watch = ouro__ready_watch(ready, fd);
    ouro_op *next = watch ? watch->ops.head : NULL;

    while (next && !(next->ready_ & bits && !looks(next)))
        next = next->next_;
    if (!next)
        return;
    disarm(ready, watch, next, bits);
    if (!watch->ops.head)
        ready->way->unwatch(ready, fd, watch);
}

/* What an attempt has come to. */
static void tried(struct ready *ready, ouro_op *op, int64_t res)
{
    struct watch *watch;

    if (res >= 0 && ouro__kinds[op->code].traits & (KIND_READS | KIND_WRITES))
        tell_next(ready, op);
    if (OURO__SELDOM(res == -EOPNOTSUPP)) {
        ouro__to_worker(ready->loop, op, ROUTE_BLOCKER);
        return;
    }
    if (op->code == OURO_RECV_MANY && res > 0)
        count_bytes(ready, res);
    if (drained(ready, op, res)) {
        wait_on(ready, op, res);
        return;
    }
    if (res == -EAGAIN && op->ready_ && ready->way->tried &&
        (watch = ouro__ready_watch(ready, (uint32_t)ouro__ready_fd(op))))
        ready->way->tried(ready, watch, op);
    ouro__report(ready->loop, op, res);
}

static void try(struct ready *ready, ouro_op *op)
{
    tried(ready, op, ouro__perform(op, PERFORM_TRY));
}

/* May a stream of bytes receive here and now? */
static bool may_receive(const struct ready *ready, ouro_op *op)
{
    return op->code == OURO_RECV_MANY && !(op->flags & OURO_DIRECT) &&
           !(op->notes_ & (NOTE_HELD | NOTE_AUX)) && !ouro__ready_full(ready) &&
           ouro__stream_may_start(ready->loop, op);
}

bool ouro__ready_serve(struct ready *ready, uint32_t fd, struct watch *watch)
{
    ouro_op *op = watch->ops.head;
    int64_t res;

    if (!op || op->next_ || !may_receive(ready, op))
        return false;
    op->ready_ = 0;
    res = ouro__perform_socket(op, PERFORM_TRY);
    if (OURO__LIKELY(res > 0 && res < ouro__pool_of(op)->size &&
                     ready->way->drained(ready, fd, watch))) {
        op->ready_ = POLLIN;
        count_bytes(ready, res);
        ouro__stream_goes_on(ready->loop, op, res);
        return true;
    }
    ouro__unlink(&watch->ops, op);
    op->worker_ = NULL;
    watch->wants = 0;
    ready->armed--;
    tried(ready, op, res);
    return true;
}

/* What a stream waited for has come, and nothing else has happened to it: it need not go through
 * the core's queue. */
static bool goes_on(struct ready *ready, ouro_op *op)
{
    if (op->result_ < 0 || op->marks_ & (MARK_CANCEL | MARK_TIMEOUT) ||
        op->stream_ & (STREAM_PAUSED | STREAM_STOPPED) || !may_receive(ready, op))
        return false;
    op->ready_ = 0;
    try(ready, op);
    return true;
}

/* A part of them, if they bring much: who gets it may send it on while it is in the caches. */
static void report_ended(struct ready *ready)
{
    ouro_op *op;

    while (!ouro__ready_full(ready) && (op = ouro__pop(&ready->ended)))
        if (!goes_on(ready, op))
            ouro__report(ready->loop, op, op->result_);
}

/* What the core's pull gives: to be armed, or to be tried. */
static void take(struct ready *ready, ouro_op *op)
{
    int64_t res;

    op->worker_ = NULL;
    if (!op->ready_) {
        if (!ready->more || !ready->more->take(ready, op))
            try(ready, op);
        return;
    }
    res = arm(ready, op);
    if (res == -EOPNOTSUPP) {
        op->ready_ = 0; /* the worker waits, and then has the result itself */
        ouro__to_worker(ready->loop, op, ROUTE_BLOCKER);
    } else if (res) {
        ouro__report(ready->loop, op, res);
    }
}

static void pull(struct ready *ready)
{
    ouro_op *op;

    for (unsigned i = 0; i < PULLS_PER_TURN && (op = ouro__pull(ready->loop)); i++) {
        /* The turn has brought enough: who gets that comes first, and gives buffers back. */
        if (OURO__SELDOM(op->code == OURO_RECV_MANY && ouro__ready_full(ready))) {
            ouro__unpull(ready->loop, op);
            return;
        }
        take(ready, op);
    }
}

static void submit(struct ready *ready)
{
    unsigned rounds = 0;

    do {
        pull(ready);
        report_ended(ready);
    } while (ready->loop->queue.head && !ouro__ready_full(ready) && ++rounds < ROUNDS_PER_TURN);
    if (ready->more && ready->more->run)
        ready->more->run(ready);
}

/* The driver may be asleep. */
static void hurry(struct ready *ready)
{
    if (ready->loop->sleeping || ready->hosted)
        ouro__doorbell_ring(&ready->bell);
}

void ouro__ready_submit(ouro_loop *loop)
{
    struct ready *ready = state_of(loop);

    ready->sure = false;
    submit(ready);
    if (ready->ended.head || ready->left)
        hurry(ready);
}

void ouro__ready_wait(ouro_loop *loop, ouro_time until)
{
    struct ready *ready = state_of(loop);

    ready->bytes = 0;
    ready->sure = false;
    submit(ready);
    until = ouro__until(loop, until);
    if (loop->queue.head || ready->ended.head || ready->left)
        until = OURO_NOWAIT;
    else if (ready->deaf)
        until = ouro__sooner(until, sys_now() + OURO__DEAF_NS);
    if (until != OURO_NOWAIT && ready->more && ready->more->sleeps)
        until = ready->more->sleeps(ready, until);
    /* What was seen before is not all reported: the next look comes behind it. */
    if (!ouro__ready_full(ready) && (until != OURO_NOWAIT || ready->armed || ready->strays ||
                                     ready->left || ouro__doorbell_rung(&ready->bell)))
        ready->way->look(ready, until);
    report_ended(ready);
    if (loop->queue.head || ready->more) /* what was waited for can go on */
        submit(ready);
    loop->asked = loop->asked || ready->ended.head || ready->left;
}

void ouro__ready_end(struct ready *ready, ouro_op *op, int64_t res)
{
    leave(ready, op, res);
    hurry(ready);
}

void ouro__ready_cancel(ouro_loop *loop, ouro_op *op)
{
    struct ready *ready = state_of(loop);
    uint32_t fd = (uint32_t)ouro__ready_fd(op);
    struct watch *watch;

    if (op->worker_ != ready)
        return; /* it is about to be reported anyway */
    watch = &ready->watches[fd];
    disarm(ready, watch, op, -ECANCELED);
    if (!watch->ops.head)
        ready->way->unwatch(ready, fd, watch);
    hurry(ready);
}

void ouro__ready_wake(void *state)
{
    struct ready *ready = state;

    ouro__doorbell_ring(&ready->bell);
}

/* ---- Routes --------------------------------------------------------------------------------- */

enum ouro__route ouro__ready_route(ouro_loop *loop, unsigned code)
{
    (void)loop;
    switch (code) {
    case OURO_NOP:
    case OURO_READ:
    case OURO_WRITE:
    case OURO_READV:
    case OURO_WRITEV:
    case OURO_POLL:
    case OURO_WAITPID:
    case OURO_SOCKET:
    case OURO_BIND:
    case OURO_LISTEN:
    case OURO_CONNECT:
    case OURO_ACCEPT:
    case OURO_RECV:
    case OURO_SEND:
    case OURO_RECVMSG:
    case OURO_SENDMSG:
    case OURO_SHUTDOWN:
    case OURO_ACCEPT_MANY:
    case OURO_RECV_MANY:
    case OURO_RECVMSG_MANY:
    case OURO_SIGNAL:
    case OURO_SIGNAL_MANY:
    case OURO_POLL_MANY:
    case OURO_SPLICE: return ROUTE_ENGINE; /* route_op knows more */
    case OURO_TIMER:
    case OURO_TIMER_MANY:
    case OURO_MESSAGE: return ROUTE_CORE;
    default: return ROUTE_WORKER;
    }
}

static enum ouro__route route_transfer(ouro_loop *loop, ouro_op *op)
{
    if (op->notes_ & NOTE_STREAM)
        return ROUTE_ENGINE;
    switch (ouro__file_kind(ouro__file_of(loop, op), ouro__fd(op))) {
    case FILE_PLAIN:
    case FILE_DIRECT:
    case FILE_MEMORY: return ROUTE_WORKER;
    case FILE_STREAM:
    case FILE_SOCKET: return ROUTE_ENGINE;
    default: return ROUTE_BLOCKER; /* a device may do anything */
    }
}

enum ouro__route ouro__ready_route_op(ouro_loop *loop, ouro_op *op)
{
    switch (op->code) {
    case OURO_READ:
    case OURO_WRITE:
    case OURO_READV:
    case OURO_WRITEV: return route_transfer(loop, op);
    default: return ROUTE_ENGINE;
    }
}

/* ---- Open and close ------------------------------------------------------------------------- */

/* Does preadv2 know RWF_NOWAIT (8), on files or at least on pipes? */
static bool has_nowait(void)
{
    char byte;
    const struct iovec one = { &byte, 1 };
    int fds[2];
    long fd = sys_openat(AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
    long r = fd < 0 ? fd : sys_preadv2((int)fd, &one, 1, 0, 8);

    if (fd >= 0)
        sys_close((int)fd);
    if (r < 0 && r != -EAGAIN && sys_pipe2(fds, O_CLOEXEC) == 0) {
        r = sys_preadv2(fds[0], &one, 1, OURO_CUR, 8);
        sys_close(fds[0]);
        sys_close(fds[1]);
    }
    return r >= 0 || r == -EAGAIN;
}

uint64_t ouro__ready_caps(void)
{
    uint64_t caps = 0;
    long fd = sys_openat2(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0, 0x20 /* RESOLVE_CACHED */);

    if (fd >= 0)
        sys_close((int)fd);
    if (fd >= 0 || fd == -EAGAIN)
        caps |= OURO_CAP_CACHED;
    fd = sys_pidfd_open(getpid());
    if (fd >= 0) {
        sys_close((int)fd);
        caps |= OURO_CAP_PIDFD;
    }
    if (has_nowait())
        caps |= OURO_CAP_NOWAIT;
    if (ouro__has_nosignal())
        caps |= OURO_CAP_NOSIGNAL;
    return caps;
}

static void state_free(struct ready *ready)
{
    ouro_loop *loop = ready->loop;

    ouro__alloc(loop, ready->watches, ready->room * sizeof(*ready->watches), 0);
    ouro__alloc(loop, ready, ready->size, 0);
    loop->engine_state = NULL;
}

int ouro__ready_open(ouro_loop *loop, size_t size, const struct ready_way *way,
                     struct ouro__why *why)
{
    struct ready *ready = ouro__alloc(loop, NULL, 0, size);
    int r;

    if (!ready) {
        snprintf(why->text, sizeof(why->text), "%s: no memory for its state", loop->engine->name);
        return -ENOMEM;
    }
    memset(ready, 0, size);
    ready->loop = loop;
    ready->bell.loop = loop;
    ready->way = way;
    ready->size = size;
    loop->engine_state = ready;
    r = ouro__doorbell_open(loop, &ready->bell);
    if (r < 0) {
        snprintf(why->text, sizeof(why->text),
                 "%s: no descriptor for the doorbell (error %d): raise the limit of open files",
                 loop->engine->name, -r);
        state_free(ready);
    }
    return r;
}

void ouro__ready_close(ouro_loop *loop)
{
    struct ready *ready = state_of(loop);

    ouro__doorbell_close(&ready->bell);
    state_free(ready);
}

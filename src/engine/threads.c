/* SPDX-License-Identifier: MIT */
/* threads.c: the engine that works everywhere: readiness by poll(2), everything else on workers.
 *
 * What may wait for ever on a descriptor that poll(2) knows (streams, polls, one process) is
 * tried without waiting, armed in the set of descriptors when it would block, reported when
 * poll(2) shows it ready, and tried again by the core. The rest goes to workers; splice(2) too,
 * but only once both sides are ready, because what it moves may have to come from a disk.
 *
 * One entry of the set stands for all operations on a descriptor, so that there are never more
 * entries than descriptors: poll(2) refuses more than RLIMIT_NOFILE. `watches`, by descriptor
 * number, says where its entry is and who waits there, in order of arming. Entry 0 is the
 * doorbell.
 *
 * While the driver of a SHARED loop sleeps, without the lock, others may arm and disarm: it
 * sleeps on a copy, an arming wakes it, and a changed set is looked at once more.
 *
 * A hosted loop (ouro_pollfd) has one descriptor to show: an epoll descriptor that is kept in
 * step with the set, and only says whether poll(2) would find something. It cannot be the set
 * itself, because it refuses files that are always ready, and forgets descriptors that are
 * closed under it. */
#include "../core.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROOM_FIRST 16u
#define PULLS_PER_TURN 1024u
#define DEAF_NS (10 * OURO_MS) /* the longest sleep without a doorbell */

struct watch {
    struct ouro__list ops;
    uint32_t at; /* its entry; 0: none */
};

struct threads {
    const ouro_loop *loop;
    _Atomic int bell[2]; /* twice the same eventfd, or the ends of a pipe; -1: none for now */
    _Atomic bool rung;
    struct pollfd *fds;
    uint32_t count, room;
    struct watch *watches;
    uint32_t watch_room;
    uint64_t version;         /* of the set */
    struct pollfd *copy;      /* for the sleeping driver */
    struct pollfd *next_copy; /* larger, for its next sleep */
    uint32_t copy_room, next_room;
    struct ouro__list ended; /* left the set; result_ says how */
    int epoll;               /* -1: not hosted */
    bool blind;              /* epoll does not show all: the host has to look all the time */
};

static struct threads *state_of(ouro_loop *loop)
{
    return loop->engine_state;
}

/* ---- Doorbells ------------------------------------------------------------------------------ */

static int bell_open(ouro_loop *loop)
{
    struct threads *state = state_of(loop);
    int ends[2];
    long r = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    ends[0] = ends[1] = (int)r;
    if (r < 0)
        r = sys_pipe2(ends, O_CLOEXEC | O_NONBLOCK);
    if (r < 0)
        return (int)r;
    for (unsigned i = 0; i < 2; i++) {
        ouro__own(loop, ends[i]);
        atomic_store(&state->bell[i], ends[i]);
    }
    state->fds[0] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
    return 0;
}

static void bell_close(const ouro_loop *loop, struct threads *state)
{
    int ends[2] = { state->bell[0], state->bell[1] };

    ouro__drop(loop, ends[0]);
    if (ends[1] != ends[0])
        ouro__drop(loop, ends[1]);
    state->bell[0] = -1;
    state->bell[1] = -1;
}

/* A full pipe is rung already. A driver whose bell is gone finds that out before it sleeps. */
static void bell_ring(struct threads *state)
{
    const uint64_t one = 1;
    int end = atomic_load(&state->bell[1]);

    if (ouro__owns(state->loop, end))
        sys_write(end, &one, sizeof(one));
}

static void bell_still(struct threads *state)
{
    uint64_t some[32];

    while (sys_read(state->bell[0], some, sizeof(some)) == (long)sizeof(some))
        ; /* a pipe may hold more */
}

static void threads_wake(void *arg)
{
    struct threads *state = arg;

    if (!atomic_exchange(&state->rung, true))
        bell_ring(state);
}

/* False: the program has closed the doorbell, and there is no descriptor for a new one. A new one
 * is rung at once, for whoever rang the old one meanwhile. */
static bool bell_holds(ouro_loop *loop)
{
    struct threads *state = state_of(loop);

    if (ouro__owns(loop, state->bell[0]))
        return true;
    bell_close(loop, state);
    state->fds[0] = (struct pollfd){ .fd = -1 };
    if (bell_open(loop) < 0)
        return false;
    state->version++;
    atomic_store(&state->rung, true);
    bell_ring(state);
    if (!ouro__owns(loop, state->epoll))
        state->epoll = -1;
    else
        (void)sys_epoll_ctl(state->epoll, EPOLL_CTL_ADD, state->bell[0], POLLIN);
    return true;
}

/* Who rings between the last two lines has been heard: the driver looks at everything behind. */
static void hear_bell(ouro_loop *loop)
{
    struct threads *state = state_of(loop);

    if (!ouro__owns(loop, state->bell[0])) {
        (void)bell_holds(loop);
        return;
    }
    bell_still(state);
    atomic_exchange(&state->rung, false);
}

/* ---- The set -------------------------------------------------------------------------------- */

static int grow_watches(ouro_loop *loop, uint32_t need)
{
    struct threads *state = state_of(loop);
    uint32_t room = state->watch_room ? state->watch_room : ROOM_FIRST;
    struct watch *watches;

    if (need <= state->watch_room)
        return 0;
    while (room < need)
        room *= 2;
    watches = ouro__alloc(loop, state->watches, state->watch_room * sizeof(*watches),
                          room * sizeof(*watches));
    if (!watches)
        return -ENOMEM;
    memset(watches + state->watch_room, 0, (room - state->watch_room) * sizeof(*watches));
    state->watches = watches;
    state->watch_room = room;
    return 0;
}

/* The larger copy takes the place of the one that nobody sleeps on any more. */
static void change_copy(ouro_loop *loop)
{
    struct threads *state = state_of(loop);

    if (!state->next_copy)
        return;
    ouro__alloc(loop, state->copy, state->copy_room * sizeof(*state->copy), 0);
    state->copy = state->next_copy;
    state->copy_room = state->next_room;
    state->next_copy = NULL;
}

/* Now, so that a sleep never needs memory. */
static int grow_copy(ouro_loop *loop, uint32_t room)
{
    struct threads *state = state_of(loop);
    struct pollfd *fds;

    if (!loop->locked_mode || room <= (state->next_copy ? state->next_room : state->copy_room))
        return 0;
    fds = ouro__alloc(loop, state->next_copy,
                      state->next_copy ? state->next_room * sizeof(*fds) : 0, room * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    state->next_copy = fds;
    state->next_room = room;
    if (!loop->sleeping)
        change_copy(loop);
    return 0;
}

static int grow_set(ouro_loop *loop)
{
    struct threads *state = state_of(loop);
    uint32_t room = state->room ? state->room * 2 : ROOM_FIRST;
    struct pollfd *fds;

    if (state->count < state->room)
        return 0;
    if (grow_copy(loop, room) < 0)
        return -ENOMEM;
    fds = ouro__alloc(loop, state->fds, state->room * sizeof(*fds), room * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    state->fds = fds;
    state->room = room;
    return 0;
}

/* Tells a hosted loop's epoll descriptor what is waited for on fd; 0: nothing any more. Files
 * that it does not take (EPERM) never change their answer. */
static void mirror(struct threads *state, int fd, short events)
{
    unsigned bits = (uint16_t)events;
    long r;

    if (state->epoll < 0)
        return;
    r = sys_epoll_ctl(state->epoll, bits ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, bits);
    if (r == -ENOENT && bits)
        r = sys_epoll_ctl(state->epoll, EPOLL_CTL_ADD, fd, bits);
    if (r < 0 && r != -EPERM && bits)
        state->blind = true;
}

static int arm(ouro_loop *loop, ouro_op *op)
{
    struct threads *state = state_of(loop);
    uint32_t fd = (uint32_t)ouro__ready_fd(op);
    struct watch *watch;

    if (grow_watches(loop, fd + 1) < 0 || grow_set(loop) < 0)
        return -ENOMEM;
    watch = &state->watches[fd];
    if (!watch->at) {
        watch->at = state->count++;
        state->fds[watch->at] = (struct pollfd){ .fd = (int)fd };
    }
    state->fds[watch->at].events |= (short)(uint16_t)op->ready_;
    mirror(state, (int)fd, state->fds[watch->at].events);
    ouro__push(&watch->ops, op);
    op->worker_ = state; /* says that it is armed */
    state->version++;
    return 0;
}

static void drop_entry(struct threads *state, struct watch *watch)
{
    struct pollfd *last = &state->fds[--state->count];

    mirror(state, state->fds[watch->at].fd, 0);
    state->watches[last->fd].at = watch->at;
    state->fds[watch->at] = *last;
    watch->at = 0;
}

/* Takes an operation out of the set; what it waited for may stay in the entry until that is so. */
static void disarm(struct threads *state, struct watch *watch, ouro_op *op, int64_t res)
{
    ouro__unlink(&watch->ops, op);
    op->worker_ = NULL;
    op->result_ = res;
    ouro__push(&state->ended, op);
    state->version++;
}

/* One entry that poll(2) has marked: ends its operations, oldest first, and says what is left of
 * it. */
static void collect_entry(struct threads *state, struct pollfd *entry)
{
    struct watch *watch = &state->watches[entry->fd];
    uint32_t got = (uint16_t)entry->revents, left = 0;
    ouro_op *op, *next;

    for (op = watch->ops.head; op; op = next) {
        uint32_t bits = got & (op->ready_ | POLLERR | POLLHUP | POLLNVAL);

        next = op->next_;
        if (bits)
            disarm(state, watch, op, bits & POLLNVAL ? -EBADF : (int64_t)bits);
        else
            left |= op->ready_;
    }
    entry->events = (short)(uint16_t)left;
    entry->revents = 0;
    if (watch->ops.head)
        mirror(state, entry->fd, entry->events);
    else
        drop_entry(state, watch);
}

static void collect(ouro_loop *loop)
{
    struct threads *state = state_of(loop);
    uint32_t i = 1;

    if (state->fds[0].revents && !loop->sleeping) /* else it is for the sleeper */
        hear_bell(loop);
    state->fds[0].revents = 0;
    while (i < state->count) {
        struct pollfd *entry = &state->fds[i];
        int fd = entry->fd;

        if (entry->revents)
            collect_entry(state, entry);
        i += i < state->count && state->fds[i].fd == fd; /* else another one stands here now */
    }
}

static void report_ended(ouro_loop *loop)
{
    struct threads *state = state_of(loop);
    ouro_op *op;

    while ((op = ouro__pop(&state->ended)))
        ouro__report(loop, op, op->result_);
}

/* ---- Sleeping ------------------------------------------------------------------------------- */

/* In SHARED and SERVICE loops others change the set meanwhile: a copy is polled. */
static long sleep_on_copy(ouro_loop *loop, ouro_time until)
{
    struct threads *state = state_of(loop);
    uint64_t version = state->version;
    uint32_t count = state->count;
    long r;

    memcpy(state->copy, state->fds, count * sizeof(*state->fds));
    ouro__sleep(loop, until);
    r = sys_ppoll(state->copy, count, until);
    ouro__awake(loop);
    if (r > 0 && state->version == version)
        memcpy(state->fds, state->copy, count * sizeof(*state->fds));
    else if (r > 0 || state->version != version)
        r = sys_poll(state->fds, state->count, 0);
    change_copy(loop);
    return r;
}

static ouro_time sooner(ouro_time until, ouro_time at)
{
    return until == OURO_FOREVER || until > at ? at : until;
}

/* Nobody could wake a sleeper whose doorbell is gone. */
static void look(ouro_loop *loop, ouro_time until)
{
    struct threads *state = state_of(loop);
    long r;

    if (until != OURO_NOWAIT && !bell_holds(loop))
        until = sooner(until, sys_now() + DEAF_NS);
    if (until == OURO_NOWAIT) {
        r = sys_poll(state->fds, state->count, 0);
    } else if (loop->locked_mode) {
        r = sleep_on_copy(loop, until);
    } else {
        ouro__sleep(loop, until);
        r = sys_ppoll(state->fds, state->count, until);
        ouro__awake(loop);
    }
    if (r > 0)
        collect(loop);
}

/* ---- Hosting -------------------------------------------------------------------------------- */

static int threads_pollfd(ouro_loop *loop)
{
    struct threads *state = state_of(loop);
    long r;

    (void)bell_holds(loop);
    if (ouro__owns(loop, state->epoll))
        return state->epoll;
    r = sys_epoll_create(EPOLL_CLOEXEC);
    if (r < 0)
        return (int)r;
    state->epoll = (int)r;
    ouro__own(loop, state->epoll);
    r = sys_epoll_ctl(state->epoll, EPOLL_CTL_ADD, state->bell[0], POLLIN);
    if (r < 0) {
        sys_close(state->epoll);
        state->epoll = -1;
        return (int)r;
    }
    for (uint32_t i = 1; i < state->count; i++)
        mirror(state, state->fds[i].fd, state->fds[i].events);
    return state->epoll;
}

/* ---- A turn --------------------------------------------------------------------------------- */

/* What the core's pull gives: to be armed, or to be tried. */
static void take(ouro_loop *loop, ouro_op *op)
{
    int64_t res;

    op->worker_ = NULL;
    if (op->ready_) {
        res = arm(loop, op);
        if (res < 0)
            ouro__report(loop, op, res);
        return;
    }
    res = ouro__perform(op, PERFORM_TRY);
    if (res == -EOPNOTSUPP)
        ouro__to_worker(loop, op, ROUTE_BLOCKER);
    else
        ouro__report(loop, op, res);
}

static void threads_submit(ouro_loop *loop)
{
    struct threads *state = state_of(loop);
    uint64_t version = state->version;
    ouro_op *op;

    report_ended(loop);
    for (unsigned i = 0; i < PULLS_PER_TURN && (op = ouro__pull(loop)); i++)
        take(loop, op);
    if (state->version == version)
        return;
    if (loop->sleeping || state->blind)
        threads_wake(state);
}

static void threads_wait(ouro_loop *loop, ouro_time until)
{
    struct threads *state = state_of(loop);

    threads_submit(loop);
    until = ouro__until(loop, until);
    if (loop->queue.head || state->ended.head)
        until = OURO_NOWAIT;
    if (until != OURO_NOWAIT || state->count > 1 || atomic_load(&state->rung))
        look(loop, until);
    report_ended(loop);
    if (loop->queue.head) /* what was waited for can go on */
        threads_submit(loop);
    state->blind = state->blind && state->count > 1;
    if (state->blind)
        threads_wake(state);
}

static void threads_cancel(ouro_loop *loop, ouro_op *op)
{
    struct threads *state = state_of(loop);
    struct watch *watch;

    if (op->worker_ != state)
        return; /* it is about to be reported anyway */
    watch = &state->watches[ouro__ready_fd(op)];
    disarm(state, watch, op, -ECANCELED);
    if (!watch->ops.head)
        drop_entry(state, watch);
    if (loop->sleeping || state->epoll >= 0)
        threads_wake(state);
}

/* ---- Routes, open, close -------------------------------------------------------------------- */

static enum ouro__route threads_route(ouro_loop *loop, unsigned code)
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

static enum ouro__route threads_route_op(ouro_loop *loop, ouro_op *op)
{
    switch (op->code) {
    case OURO_READ:
    case OURO_WRITE:
    case OURO_READV:
    case OURO_WRITEV: return route_transfer(loop, op);
    default: return ROUTE_ENGINE;
    }
}

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

static uint64_t probe_caps(void)
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

static void state_free(ouro_loop *loop)
{
    struct threads *state = state_of(loop);

    ouro__alloc(loop, state->fds, state->room * sizeof(*state->fds), 0);
    ouro__alloc(loop, state->watches, state->watch_room * sizeof(*state->watches), 0);
    change_copy(loop);
    ouro__alloc(loop, state->copy, state->copy_room * sizeof(*state->copy), 0);
    ouro__alloc(loop, state, sizeof(*state), 0);
    loop->engine_state = NULL;
}

static int state_make(ouro_loop *loop)
{
    struct threads *state = ouro__alloc(loop, NULL, 0, sizeof(*state));

    if (!state)
        return -ENOMEM;
    memset(state, 0, sizeof(*state));
    state->loop = loop;
    loop->engine_state = state;
    state->bell[0] = -1;
    state->bell[1] = -1;
    state->epoll = -1;
    if (grow_set(loop) < 0) {
        state_free(loop);
        return -ENOMEM;
    }
    return 0;
}

static int threads_open(ouro_loop *loop, struct ouro__why *why)
{
    struct threads *state;
    int r = state_make(loop);

    if (r < 0) {
        snprintf(why->text, sizeof(why->text), "threads: no memory for its state");
        return r;
    }
    state = state_of(loop);
    r = bell_open(loop);
    if (r < 0) {
        snprintf(
            why->text, sizeof(why->text),
            "threads: no descriptor for the doorbell (error %d): raise the limit of open files",
            -r);
        state_free(loop);
        return r;
    }
    state->count = 1;
    loop->caps = probe_caps() & ~loop->mask;
    return 0;
}

static int threads_close(ouro_loop *loop, int forked, ouro_time until)
{
    struct threads *state = state_of(loop);

    (void)forked, (void)until; /* nothing here is left to the kernel */
    ouro__drop(loop, state->epoll);
    bell_close(loop, state);
    state_free(loop);
    return 0;
}

const struct ouro__engine ouro__engine_threads = {
    .name = "threads",
    .open = threads_open,
    .close = threads_close,
    .route = threads_route,
    .route_op = threads_route_op,
    .submit = threads_submit,
    .wait = threads_wait,
    .cancel = threads_cancel,
    .wake = threads_wake,
    .pollfd = threads_pollfd,
};

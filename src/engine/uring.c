/* SPDX-License-Identifier: MIT */
/* uring.c: the io_uring engine: opening a ring, what goes through it, and closing it. What happens
 * in between is in uring_turn.c.
 *
 * An OWNED loop's ring belongs to the thread that drives it first: it is created disabled and
 * enabled by that thread, and nothing completes but in that thread's waits (SINGLE_ISSUER,
 * DEFER_TASKRUN). The ring of a SHARED or SERVICE loop has neither: any thread submits under the
 * loop's lock while one may sleep in the ring without it. It also goes without COOP_TASKRUN: work
 * that the kernel has for the thread that submitted an operation must not wait until that thread
 * happens to make a system call.
 *
 * With SQPOLL (only where config.want asks) a thread of the kernel takes the entries, and the ring
 * of any loop is like that of a SHARED one. That thread has the credentials with which the loop
 * was opened, for good; so a process that may change its own must say that it knows.
 *
 * Whether the kernel is done with a ring and all buffers is known by a pipe: its write end is
 * registered with the ring and open nowhere else, so the read end hangs up when the ring and the
 * last of its requests are gone. */
#include "uring.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRIES 256u
#define PROOF_PATIENCE 2000000000ull

/* The opcode without which an operation goes to a worker. NOP is both a real one and "none". */
static const uint8_t opcodes[OURO_CODE_COUNT] = {
    [OURO_READ] = RING_OP_READ,           [OURO_WRITE] = RING_OP_WRITE,
    [OURO_READV] = RING_OP_READV,         [OURO_WRITEV] = RING_OP_WRITEV,
    [OURO_FSYNC] = RING_OP_FSYNC,         [OURO_OPEN] = RING_OP_OPENAT,
    [OURO_CLOSE] = RING_OP_CLOSE,         [OURO_STAT] = RING_OP_STATX,
    [OURO_RENAME] = RING_OP_RENAMEAT,     [OURO_UNLINK] = RING_OP_UNLINKAT,
    [OURO_MKDIR] = RING_OP_MKDIRAT,       [OURO_SYMLINK] = RING_OP_SYMLINKAT,
    [OURO_LINK] = RING_OP_LINKAT,         [OURO_FALLOCATE] = RING_OP_FALLOCATE,
    [OURO_FTRUNCATE] = RING_OP_FTRUNCATE, [OURO_FADVISE] = RING_OP_FADVISE,
    [OURO_POLL] = RING_OP_POLL_ADD,       [OURO_CONNECT] = RING_OP_CONNECT,
    [OURO_ACCEPT] = RING_OP_ACCEPT,       [OURO_RECV] = RING_OP_RECV,
    [OURO_SEND] = RING_OP_SEND,           [OURO_RECVMSG] = RING_OP_RECVMSG,
    [OURO_SENDMSG] = RING_OP_SENDMSG,
};

/* ---- Open ---------------------------------------------------------------------------------- */

static bool asks_for(const ouro_loop *loop, uint64_t cap)
{
    return loop->config.want & ~loop->mask & cap;
}

/* May this process act as somebody else later, or is it privileged now? What cannot be known is
 * taken to be so. */
static bool may_change(const char **ret_why)
{
    uint64_t permitted = 0;
    uid_t uids[3];
    gid_t gids[3];

    if (getresuid(&uids[0], &uids[1], &uids[2]) < 0 || getresgid(&gids[0], &gids[1], &gids[2]) < 0)
        *ret_why = "its ids cannot be known";
    else if (uids[1] == 0)
        *ret_why = "it is root";
    else if (uids[0] != uids[1] || uids[1] != uids[2] || gids[0] != gids[1] || gids[1] != gids[2])
        *ret_why = "its real, effective and saved ids differ";
    else if (sys_capget(&permitted) < 0)
        *ret_why = "its capabilities cannot be known";
    else if (permitted)
        *ret_why = "it has capabilities";
    else
        return false;
    return true;
}

/* Credentials that change are not the polling thread's. */
static int check_credentials(const ouro_loop *loop, struct ouro__why *why)
{
    const char *cause;

    if (!asks_for(loop, OURO_CAP_SQPOLL) || asks_for(loop, OURO_CAP_CREDENTIALS) ||
        !may_change(&cause))
        return 0;
    snprintf(why->text, sizeof(why->text),
             "SQPOLL keeps the credentials of the process as they are now, and this one may change "
             "them (%s); ask for OURO_CAP_CREDENTIALS as well if that is meant, or do without "
             "OURO_CAP_SQPOLL",
             cause);
    return -EPERM;
}

static unsigned setup_flags(const ouro_loop *loop)
{
    uint64_t mask = loop->mask;
    unsigned flags = RING_SETUP_CQSIZE | RING_SETUP_CLAMP | RING_SETUP_SUBMIT_ALL;

    if (!(mask & OURO_CAP_NO_ARRAY))
        flags |= RING_SETUP_NO_SQARRAY;
    if (asks_for(loop, OURO_CAP_SQPOLL))
        return flags | RING_SETUP_SQPOLL;
    if (loop->threading != OURO_OWNED)
        return flags;
    flags |= RING_SETUP_R_DISABLED | RING_SETUP_TASKRUN_FLAG;
    if (mask & OURO_CAP_SINGLE)
        return flags | RING_SETUP_COOP_TASKRUN;
    flags |= RING_SETUP_SINGLE_ISSUER;
    return flags | (mask & OURO_CAP_DEFER ? RING_SETUP_COOP_TASKRUN : RING_SETUP_DEFER_TASKRUN);
}

/* Asked with an argument that a kernel which knows the request cannot read, and one that does not
 * know it will not look at. */
static bool knows_resize(struct ring *ring)
{
    return ring_register(ring, RING_REGISTER_RESIZE_RINGS, (const void *)(uintptr_t)1, 1) ==
           -EFAULT;
}

static bool knows_pidfd(void)
{
    long fd = sys_pidfd_open((int)getpid());

    if (fd >= 0)
        sys_close((int)fd);
    return fd >= 0;
}

static uint64_t caps_of(const ouro_loop *loop, struct uring *u)
{
    unsigned flags = u->ring.flags;
    uint64_t caps = OURO_CAP_FIXED | OURO_CAP_NOWAIT | OURO_CAP_CACHED;
    bool polled = ring_polled(&u->ring);

    caps |= flags & RING_SETUP_DEFER_TASKRUN ? OURO_CAP_DEFER : 0u;
    caps |= flags & RING_SETUP_SINGLE_ISSUER ? OURO_CAP_SINGLE : 0u;
    caps |= flags & RING_SETUP_NO_SQARRAY ? OURO_CAP_NO_ARRAY : 0u;
    caps |= ring_knows(u->ops, RING_OP_OPENAT) ? OURO_CAP_NAMES : 0u;
    caps |= knows_resize(&u->ring) ? OURO_CAP_RESIZE : 0u;
    caps |= knows_pidfd() ? OURO_CAP_PIDFD : 0u;
    caps |= ouro__has_nosignal() ? OURO_CAP_NOSIGNAL : 0u;
    /* It came with 6.0, like the receives that go on; nothing else tells of these. */
    caps |= ring_knows(u->ops, RING_OP_SEND_ZC) ? OURO_CAP_MULTISHOT : 0u;
    caps |= ring_knows(u->ops, RING_OP_SENDMSG_ZC) ? OURO_CAP_ZEROCOPY : 0u;
    /* A registered descriptor saves 5 % of an enter and nothing per operation. But if
     * io_uring_register is taken away later, nothing drops it before its thread ends, and what is
     * in flight then stays so until then. So only who asks for it has it. */
    if (loop->threading == OURO_OWNED && loop->config.want & OURO_CAP_RING_FD && !polled &&
        u->ring.features & RING_FEAT_CQE_SKIP)
        caps |= OURO_CAP_RING_FD;
    /* To lend a descriptor must end inside the enter that asks for it. */
    if (loop->config.want & OURO_CAP_SLOTS && !polled &&
        ring_knows(u->ops, RING_OP_FIXED_FD_INSTALL))
        caps |= OURO_CAP_SLOTS;
    if (loop->config.want & OURO_CAP_PARTS && ~loop->mask & caps & OURO_CAP_MULTISHOT &&
        ouro__uring_knows_parts(u))
        caps |= OURO_CAP_PARTS;
    if (polled)
        caps |= OURO_CAP_SQPOLL | (loop->config.want & OURO_CAP_CREDENTIALS);
    return caps & ~loop->mask;
}

static int fill_ring(ouro_loop *loop, struct uring *u, struct ouro__why *why)
{
    const ouro_config *config = &loop->config;
    uint32_t workers[2] = { config->max_workers, config->max_blocking };
    long r = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const char *call = "eventfd";

    if (r >= 0) {
        u->event_fd = (int)r;
        ouro__own(loop, u->event_fd);
        call = "io_uring_register (files) or its pipe";
        r = ouro__uring_files(loop, u, 0);
    }
    if (r >= 0) {
        call = "io_uring_register (probe)";
        r = ring_probe(&u->ring, u->ops);
    }
    if (r >= 0 && !(ring_knows(u->ops, RING_OP_NOP) && ring_knows(u->ops, RING_OP_POLL_ADD) &&
                    ring_knows(u->ops, RING_OP_ASYNC_CANCEL))) {
        call = "asking for nop, poll and cancel";
        r = -EOPNOTSUPP;
    }
    if (r < 0) {
        snprintf(why->text, sizeof(why->text),
                 "the ring could be had, but %s failed with error %d (%s); %s", call, (int)-r,
                 r == -EMFILE || r == -ENFILE ? "no descriptor is left" : "probably forbidden here",
                 r == -EMFILE || r == -ENFILE ? "raise the limit (ulimit -n, LimitNOFILE=)"
                                              : "allow all of io_uring, or use another engine");
        return (int)r;
    }
    /* A kernel that does not know it has its own limits. */
    (void)ring_register(&u->ring, RING_REGISTER_IOWQ_MAX_WORKERS, workers, 2);
    return 0;
}

static void drop(ouro_loop *loop, struct uring *u)
{
    ouro__uring_free_messages(loop, u);
    ring_close(&u->ring);
    ouro__uring_mounts_close(u);
    ouro__drop(loop, u->host_fd);
    ouro__drop(loop, u->event_fd);
    ouro__drop(loop, u->proof_fd);
    ouro__alloc(loop, u, sizeof(*u), 0);
    loop->engine_state = NULL;
}

static int uring_open(ouro_loop *loop, struct ouro__why *why)
{
    unsigned depth = loop->config.depth ? loop->config.depth : ENTRIES;
    struct ring_wish wish = { .flags = setup_flags(loop), .sq_idle_ms = URING_POLL_MS };
    int r = check_credentials(loop, why);
    struct uring *u;

    if (r < 0)
        return r;
    u = ouro__alloc(loop, NULL, 0, sizeof(*u));
    if (!u) {
        snprintf(why->text, sizeof(why->text), "out of memory");
        return -ENOMEM;
    }
    memset(u, 0, sizeof(*u));
    u->loop = loop;
    u->event_fd = -1;
    u->proof_fd = -1;
    u->host_fd = -1;
    wish.entries = depth < RING_ENTRIES_MIN ? RING_ENTRIES_MIN : depth;
    if (wish.entries > URING_ENTRIES_MOST)
        wish.entries = URING_ENTRIES_MOST;
    wish.cq_entries = wish.entries * URING_CQ_FACTOR;
    r = ring_open(&u->ring, &wish, why->text, sizeof(why->text));
    if (r == 0) {
        ouro__own(loop, u->ring.fd);
        r = fill_ring(loop, u, why);
    }
    if (r < 0) {
        drop(loop, u);
        return r;
    }
    u->limit = ouro__uring_limit(&u->ring);
    u->reserve = ring_polled(&u->ring) ? 0 : URING_RESERVE;
    u->caps = loop->caps = caps_of(loop, u);
    u->nosignal = u->caps & OURO_CAP_NOSIGNAL;
    loop->engine_state = u;
    return 0;
}

/* ---- Routes -------------------------------------------------------------------------------- */

static enum ouro__route uring_route(ouro_loop *loop, unsigned code)
{
    const struct uring *u = loop->engine_state;

    switch (code) {
    case OURO_TIMER:
    case OURO_TIMER_MANY:
    case OURO_MESSAGE: return ROUTE_CORE;
    case OURO_NOP:
    case OURO_SPLICE:
    case OURO_SOCKET: /* these four without an opcode: a plain call */
    case OURO_BIND:
    case OURO_LISTEN:
    case OURO_SHUTDOWN:
    case OURO_ACCEPT_MANY:
    case OURO_RECV_MANY:
    case OURO_RECVMSG_MANY:
    case OURO_SIGNAL:
    case OURO_SIGNAL_MANY:
    case OURO_POLL_MANY: return ROUTE_ENGINE;
    case OURO_WAITPID: return u->caps & OURO_CAP_PIDFD ? ROUTE_ENGINE : ROUTE_BLOCKER;
    case OURO_OPEN:
    case OURO_STAT:
    case OURO_RENAME:
    case OURO_UNLINK:
    case OURO_MKDIR:
    case OURO_SYMLINK:
    case OURO_LINK:
        if (!(u->caps & OURO_CAP_NAMES))
            return ROUTE_WORKER;
        break;
    default: break;
    }
    return opcodes[code] && ring_knows(u->ops, opcodes[code]) ? ROUTE_ENGINE : ROUTE_WORKER;
}

/* What a device is asked for directly ends without moving the file's position (seen up to 6.18). */
static bool would_not_move(ouro_loop *loop, const ouro_op *op)
{
    return (int64_t)op->arg[ARG_OFFSET] == OURO_CUR && !(op->notes_ & NOTE_STREAM) &&
           ouro__file_kind(ouro__file_of(loop, op), ouro__fd(op)) == FILE_DIRECT;
}

static enum ouro__route route_span(ouro_loop *loop, struct uring *u, ouro_op *op)
{
    if (would_not_move(loop, op))
        return ROUTE_WORKER;
    if (ouro__uring_on_server(loop, u, op))
        return ROUTE_BLOCKER;
    /* What is said to take long. The ring waits for streams alone. */
    if (op->flags & OURO_BG && !(op->flags & OURO_DIRECT) &&
        !ouro__file_streams(ouro__file_of(loop, op), ouro__fd(op)))
        return ROUTE_BLOCKER;
    /* Written by this thread, a broken pipe would kill the process. */
    if (!u->nosignal && ouro__kinds[op->code].traits & KIND_WRITES &&
        ouro__file_kind(ouro__file_of(loop, op), ouro__fd(op)) == FILE_STREAM)
        return ROUTE_BLOCKER;
    return ROUTE_ENGINE;
}

static enum ouro__route uring_route_op(ouro_loop *loop, ouro_op *op)
{
    struct ouro__file *file;

    switch (op->code) {
    case OURO_READ:
    case OURO_READV:
    case OURO_WRITE:
    case OURO_WRITEV: return route_span(loop, loop->engine_state, op);
    case OURO_SPLICE:
        /* With a file on one side a try may wait for the disk, and without a limit for the pipe. */
        if (!ouro__file_streams(ouro__file_of(loop, op), ouro__fd(op)) ||
            !ouro__file_streams(ouro__file_at(loop, ouro__int(op, 0)), ouro__int(op, 0)))
            return ROUTE_BLOCKER;
        break;
    case OURO_CLOSE:
        /* The ring would close it on the spot, and wait for a peer if it lingers. What was opened
         * by its name is no socket; what has no descriptor does not linger, or there is none. */
        file = ouro__file_of(loop, op);
        if (file && file->ours != OURS_NAMED && ouro__fd(op) >= 0 &&
            ouro__file_kind(file, ouro__fd(op)) == FILE_SOCKET && ouro__fd_lingers(ouro__fd(op)))
            return ROUTE_BLOCKER;
        break;
    case OURO_FADVISE: return op->arg[ARG_SIZE] > UINT32_MAX ? ROUTE_WORKER : ROUTE_ENGINE;
    default: break;
    }
    return ROUTE_ENGINE;
}

/* ---- Registered regions, and the end --------------------------------------------- */

static int uring_buffers(ouro_loop *loop, const struct iovec *regions, unsigned count)
{
    struct uring *u = loop->engine_state;
    int r;

    if (!(u->caps & OURO_CAP_FIXED) || u->lost)
        return -EOPNOTSUPP;
    if (u->buffers)
        (void)ring_register(&u->ring, RING_UNREGISTER_BUFFERS, NULL, 0);
    u->buffers = false;
    if (!count)
        return 0;
    r = ring_register(&u->ring, RING_REGISTER_BUFFERS, regions, count);
    u->buffers = r >= 0;
    return r < 0 ? r : 0;
}

/* 0 when the kernel has dropped the ring, or -EBUSY at `until`. A child forked by somebody
 * keeps the bare ring for as long as it keeps its copy of the descriptor: after a while
 * that is no reason to wait. */
static int await_release(struct uring *u, ouro_time until)
{
    struct pollfd proof = { .fd = u->proof_fd };
    ouro_time enough = u->closed + PROOF_PATIENCE;
    long r;

    do
        r = sys_ppoll(&proof, 1, until == OURO_FOREVER || until > enough ? enough : until);
    while (r == -EINTR);
    return r > 0 || sys_now() >= enough ? 0 : -EBUSY;
}

static int uring_close(ouro_loop *loop, int forked, ouro_time until)
{
    struct uring *u = loop->engine_state;

    if (!u)
        return 0;
    ouro__uring_disown(loop, u);
    if (!forked && u->ring.map) {
        if (u->buffers)
            (void)ring_register(&u->ring, RING_UNREGISTER_BUFFERS, NULL, 0);
        ouro__uring_free_messages(loop, u);
        ring_close(&u->ring);
        u->closed = sys_now();
    }
    if (!forked && u->proof_fd >= 0 && await_release(u, until) < 0)
        return -EBUSY;
    drop(loop, u);
    return 0;
}

const struct ouro__engine ouro__engine_uring = {
    .name = "uring",
    .open = uring_open,
    .close = uring_close,
    .route = uring_route,
    .route_op = uring_route_op,
    .take = ouro__uring_take,
    .room = ouro__uring_room,
    .take_one = ouro__uring_take_one,
    .submit = ouro__uring_submit,
    .wait = ouro__uring_wait,
    .cancel = ouro__uring_cancel,
    .wake = ouro__uring_wake,
    .pollfd = ouro__uring_pollfd,
    .buffers = uring_buffers,
    .slot = ouro__uring_slot,
    .lend = ouro__uring_lend,
    .pool_open = ouro__uring_pool_open,
    .pool_give = ouro__uring_pool_fill,
    .pool_close = ouro__uring_pool_close,
    .abandon = ouro__uring_abandon,
};

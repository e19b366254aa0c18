/* SPDX-License-Identifier: MIT */
/* uring_sqe.c: operations as entries of an io_uring's submission queue.
 *
 * An entry names the memory of the operation and what it points to (paths, buffers, arrays),
 * which stay until the final completion, so nothing is copied. Writes are special because
 * io_uring runs them on the submitting thread, where a broken pipe or socket would kill the
 * process by SIGPIPE: sockets are sent to, with MSG_NOSIGNAL; the rest carries RWF_NOSIGNAL,
 * which came with kernel 6.18; before that, uring_route_op gives what may be a pipe to a worker,
 * whose signals are blocked. */
#include "uring.h"

#include <fcntl.h>
#include <sys/socket.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#define NO_SIGNAL 0x100u /* RWF_NOSIGNAL */

#define RESOLVE_FROM_CACHE 0x20u
#define PARTS_BYTES (OURO__RIDE_MOST * sizeof(struct iovec))
#define STATX_WANTED 0xfffu /* the basic fields and the birth time */

static uint64_t address(const void *at)
{
    return (uint64_t)(uintptr_t)at;
}

static void set_file(const ouro_loop *loop, const ouro_op *op, struct ring_sqe *sqe)
{
    if (ouro__fd_native(loop, op)) {
        sqe->fd = (int32_t)(op->fd + URING_SLOTS);
        sqe->flags = RING_SQE_FIXED_FILE;
    } else {
        sqe->fd = ouro__fd(op);
    }
}

static void encode_poll(const ouro_loop *loop, const ouro_op *op, struct ring_sqe *sqe,
                        uint32_t events)
{
    set_file(loop, op, sqe);
    sqe->opcode = RING_OP_POLL_ADD;
    sqe->op_flags = ring_poll_mask(events);
}

/* The ring keeps what it makes in its own table, where it has nothing to close on exec. False: it
 * makes a descriptor. */
static bool into_slot(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    uint64_t slot = *ouro__slot_word(op);

    if (!slot || !(u->caps & OURO_CAP_SLOTS) || ouro__uring_table(loop, u) < 0)
        return false;
    op->notes_ |= NOTE_SLOTTED;
    sqe->file_index = (uint32_t)slot + URING_SLOTS;
    return true;
}

/* ---- Sockets ------------------------------------------------------------------------------- */

static uint64_t message_bytes(const ouro_op *op)
{
    const struct msghdr *message = ouro__ptr(op, ARG_MSGHDR);
    uint64_t bytes = 0;

    if (op->code == OURO_SEND)
        return op->arg[ARG_LEN] - (uint64_t)op->done_;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    return bytes;
}

/* Makes a send one that does not copy, where that pays. A second attempt copies: the first may have
 * failed for want of memory to pin, or of an opcode that takes the flag (6.2). */
static void encode_zerocopy(const struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    if (!(u->caps & OURO_CAP_ZEROCOPY) || op->retries_ ||
        ouro__file_counted(op)->copied >= URING_COPIED_MOST ||
        message_bytes(op) < URING_ZEROCOPY_LEAST) {
        op->notes_ |= NOTE_COPIED;
        return;
    }
    op->notes_ |= NOTE_TRIED;
    sqe->opcode = op->code == OURO_SEND ? RING_OP_SEND_ZC : RING_OP_SENDMSG_ZC;
    sqe->ioprio = RING_SEND_ZC_REPORT_USAGE;
}

#define BULK 8192u /* bytes of a send, of which those of a turn fill the processor's caches */

/* A receive or send of one buffer. Never MSG_WAITALL: the kernel would go on after a part by
 * itself, and then drop the error that ended it. The core asks again, and learns it. */
static OURO__INLINE void encode_bytes(const ouro_loop *loop, struct uring *u, const ouro_op *op,
                                      struct ring_sqe *sqe)
{
    uint64_t done = (uint64_t)op->done_, left = op->arg[ARG_LEN] - done;
    bool writes = op->code == OURO_SEND;

    set_file(loop, op, sqe);
    sqe->opcode = writes ? RING_OP_SEND : RING_OP_RECV;
    sqe->addr = op->arg[ARG_BUF] + done;
    sqe->len = (uint32_t)(left < OURO__STEP_MAX ? left : OURO__STEP_MAX);
    sqe->op_flags = (uint32_t)op->arg[ARG_MSG_FLAGS] | (writes ? MSG_NOSIGNAL : 0);
    u->bulk |= writes && left >= BULK;
}

static void *per_entry(ouro_loop *loop, struct uring *u, void **array, size_t each,
                       const struct ring_sqe *sqe)
{
    size_t size = u->ring.sq_entries * each;

    if (!*array) {
        *array = ouro__alloc(loop, NULL, 0, size);
        if (!*array)
            return NULL;
        memset(*array, 0, size);
        u->message_count = u->ring.sq_entries;
    }
    return (char *)*array + (size_t)(sqe - u->ring.sqes) * each;
}

/* The kernel reads the header when it takes the entry; until then it needs a place of its own. */
static struct msghdr *message_of(ouro_loop *loop, struct uring *u, const struct ring_sqe *sqe)
{
    return per_entry(loop, u, &u->messages, sizeof(struct msghdr), sqe);
}

void ouro__uring_free_messages(ouro_loop *loop, struct uring *u)
{
    ouro__alloc(loop, u->messages, u->message_count * sizeof(struct msghdr), 0);
    ouro__alloc(loop, u->parts, u->message_count * PARTS_BYTES, 0);
    u->messages = u->parts = NULL;
}

/* A send of a queue, with those behind it. False: it goes alone. */
static bool encode_together(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    struct msghdr *message = message_of(loop, u, sqe);
    struct iovec *parts = message ? per_entry(loop, u, &u->parts, PARTS_BYTES, sqe) : NULL;
    unsigned count = parts ? ouro__sendq_gather(op, parts) : 1;

    if (count == 1)
        return false;
    *message = (struct msghdr){ .msg_iov = parts, .msg_iovlen = count };
    set_file(loop, op, sqe);
    sqe->opcode = RING_OP_SENDMSG;
    sqe->addr = address(message);
    sqe->len = 1;
    sqe->op_flags = MSG_NOSIGNAL;
    return true;
}

static void encode_message(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    if (ouro__sendq_leads(op) && encode_together(loop, u, op, sqe))
        return;
    if (op->code == OURO_RECV || op->code == OURO_SEND) {
        encode_bytes(loop, u, op, sqe);
    } else {
        bool writes = op->code == OURO_SENDMSG;

        set_file(loop, op, sqe);
        sqe->opcode = writes ? RING_OP_SENDMSG : RING_OP_RECVMSG;
        sqe->addr = op->arg[ARG_MSGHDR];
        sqe->len = 1;
        sqe->op_flags =
            (uint32_t)op->arg[ARG_MSG_FLAGS] | (writes ? MSG_NOSIGNAL : MSG_CMSG_CLOEXEC);
    }
    if (OURO__SELDOM(op->flags & OURO_ZEROCOPY))
        encode_zerocopy(u, op, sqe);
}

/* The name of a local socket is made in a directory, which may be on a disk. */
static bool is_local(const struct sockaddr *addr, uint64_t size)
{
    return size >= sizeof(addr->sa_family) && addr->sa_family == AF_UNIX;
}

/* The flags of what is made. */
static uint32_t made_flags(ouro_loop *loop, struct uring *u, ouro_op *op, unsigned arg,
                           struct ring_sqe *sqe)
{
    uint32_t flags = (uint32_t)op->arg[arg] & ~(uint32_t)SOCK_CLOEXEC;

    return into_slot(loop, u, op, sqe) ? flags : flags | SOCK_CLOEXEC;
}

/* False: the ring has none of it, or must not begin it anew. */
static bool encode_socket(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    static const uint8_t codes[] = { RING_OP_SOCKET, RING_OP_BIND, RING_OP_LISTEN, RING_OP_CONNECT,
                                     RING_OP_ACCEPT };

    sqe->opcode = op->code == OURO_SHUTDOWN ? RING_OP_SHUTDOWN : codes[op->code - OURO_SOCKET];
    if (!ring_knows(u->ops, sqe->opcode) || op->notes_ & NOTE_CONNECTING)
        return false;
    if (op->code != OURO_SOCKET)
        set_file(loop, op, sqe);
    switch (op->code) {
    case OURO_SOCKET:
        sqe->fd = ouro__int(op, ARG_DOMAIN);
        sqe->off = made_flags(loop, u, op, ARG_TYPE, sqe);
        sqe->len = (uint32_t)op->arg[ARG_PROTOCOL];
        break;
    case OURO_LISTEN:
    case OURO_SHUTDOWN: sqe->len = (uint32_t)op->arg[ARG_HOW]; break;
    default: /* bind, connect, accept */
        sqe->addr = op->arg[ARG_ADDR];
        sqe->off = op->arg[ARG_ADDR_SIZE];
        break;
    }
    if (op->code == OURO_ACCEPT)
        sqe->op_flags = made_flags(loop, u, op, ARG_HOW, sqe);
    else if (op->code == OURO_BIND && is_local(ouro__ptr(op, ARG_ADDR), op->arg[ARG_ADDR_SIZE]))
        sqe->flags |= RING_SQE_ASYNC;
    return true;
}

/* ---- Reading and writing ------------------------------------------------------------------- */

/* What is left of a read or write, as one step. ouro__span_of says the same, and more slowly. */
static OURO__INLINE void encode_single(const ouro_loop *loop, const ouro_op *op,
                                       struct ring_sqe *sqe, uint8_t opcode, uint8_t fixed)
{
    uint64_t done = (uint64_t)op->done_, left = op->arg[ARG_LEN] - done;
    int64_t offset = (int64_t)op->arg[ARG_OFFSET];

    sqe->opcode = opcode;
    set_file(loop, op, sqe);
    sqe->off =
        offset == OURO_CUR || op->notes_ & NOTE_STREAM ? (uint64_t)-1 : (uint64_t)offset + done;
    sqe->addr = op->arg[ARG_BUF] + done;
    sqe->len = (uint32_t)(left < OURO__STEP_MAX ? left : OURO__STEP_MAX);
    sqe->op_flags = (uint32_t)op->arg[ARG_RWF];
    if (op->flags & OURO_REGBUF && loop->regions_native) {
        sqe->opcode = fixed;
        sqe->buf_index = (uint16_t)op->region_;
    }
}

static void encode_vector(const ouro_loop *loop, const ouro_op *op, struct ring_sqe *sqe,
                          uint8_t opcode, uint8_t single)
{
    struct ouro__span span;

    (void)ouro__span_of(op, &span);
    set_file(loop, op, sqe);
    sqe->off = (uint64_t)span.offset;
    sqe->op_flags = (uint32_t)span.rwf;
    if (span.single) {
        sqe->opcode = single;
        sqe->addr = address(span.ptr);
        sqe->len = (uint32_t)span.len;
    } else {
        sqe->opcode = opcode;
        sqe->addr = address(span.iov);
        sqe->len = span.count;
    }
}

/* Turns a write into the send that does the same without a signal. */
static bool encode_send(ouro_loop *loop, struct uring *u, struct ring_sqe *sqe)
{
    uint32_t flags = MSG_NOSIGNAL;

    if (sqe->op_flags & RWF_NOWAIT)
        flags |= MSG_DONTWAIT;
    if (sqe->opcode == RING_OP_WRITEV) {
        struct msghdr *message = message_of(loop, u, sqe);
        if (!message)
            return false;
        *message = (struct msghdr){ .msg_iov = (struct iovec *)(uintptr_t)sqe->addr,
                                    .msg_iovlen = sqe->len };
        sqe->opcode = RING_OP_SENDMSG;
        sqe->addr = address(message);
        sqe->len = 1;
    } else {
        sqe->opcode = RING_OP_SEND;
    }
    sqe->off = 0;
    sqe->buf_index = 0;
    sqe->op_flags = flags;
    return true;
}

static bool encode_write(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    const struct ouro__file *file = ouro__file_of(loop, op);

    if (op->code == OURO_WRITE)
        encode_single(loop, op, sqe, RING_OP_WRITE, RING_OP_WRITE_FIXED);
    else
        encode_vector(loop, op, sqe, RING_OP_WRITEV, RING_OP_WRITE);
    switch (file ? file->kind : FILE_UNKNOWN) {
    case FILE_SOCKET:
        if (encode_send(loop, u, sqe))
            return true;
        ouro__to_worker(loop, op, ROUTE_BLOCKER);
        return false;
    default: break;
    }
    if (u->nosignal)
        sqe->op_flags |= NO_SIGNAL;
    return true;
}

/* ---- Names --------------------------------------------------------------------------------- */

/* What may ask a file's server inside the enter is timed, or left to a thread of the kernel's; of a
 * polled ring always, whose one thread has everything else to begin. */
static void ask_server(const ouro_loop *loop, struct uring *u, const ouro_op *op,
                       struct ring_sqe *sqe)
{
    if (op->flags & OURO_BG || ring_polled(&u->ring) || !ouro__dare(loop))
        sqe->flags = RING_SQE_ASYNC;
    else
        u->asks = true;
}

/* Nearly all opens are for reading: what these ask is not written into each operation. */
static const uint64_t cached_for_reading[3] = { O_RDONLY | O_CLOEXEC | O_LARGEFILE, 0,
                                                RESOLVE_FROM_CACHE };

/* A struct open_how that stays until the kernel takes the entry. */
static const uint64_t *how_cached(ouro_op *op, unsigned flags)
{
    if (flags == cached_for_reading[0])
        return cached_for_reading;
    op->engine_[0] = flags;
    op->engine_[1] = 0;
    op->engine_[2] = RESOLVE_FROM_CACHE;
    return op->engine_;
}

/* Into the ring's own table: the kernel looks into its caches first by itself. A worker of the
 * kernel's would wait for the other end of a FIFO, so it is opened with O_NONBLOCK, which the ring
 * does not mind and who is lent a descriptor does not see. */
static void encode_open_slot(const ouro_loop *loop, struct uring *u, ouro_op *op,
                             struct ring_sqe *sqe)
{
    int flags = ouro__int(op, ARG_FLAGS) & ~O_CLOEXEC;

    sqe->opcode = RING_OP_OPENAT;
    sqe->fd = (int32_t)op->fd;
    sqe->addr = op->arg[ARG_PATH];
    sqe->len = (uint32_t)op->arg[ARG_MODE];
    sqe->op_flags = (uint32_t)(flags | O_LARGEFILE | (flags & O_PATH ? 0 : O_NONBLOCK));
    ask_server(loop, u, op, sqe);
}

/* First a look into the cache of names, which never waits, in a batch with all others. Then,
 * because a kernel worker would wait for the other end of a FIFO, with O_NONBLOCK, which is taken
 * away again when the file is open. Directories and O_PATH have nothing to wait for. */
static OURO__APART void encode_open(ouro_loop *loop, struct uring *u, ouro_op *op,
                                    struct ring_sqe *sqe)
{
    int flags = ouro__int(op, ARG_FLAGS) | O_CLOEXEC | O_LARGEFILE;

    /* A file that may have to be read by a plain call gets a descriptor at once. */
    if (op->arg[ARG_SLOT] && u->caps & OURO_CAP_SLOTS && !ouro__uring_wary(u) &&
        into_slot(loop, u, op, sqe)) {
        encode_open_slot(loop, u, op, sqe);
        return;
    }
    sqe->fd = (int32_t)op->fd;
    sqe->addr = op->arg[ARG_PATH];
    if (!(op->notes_ & NOTE_NO_TRY) && !ring_polled(&u->ring) && ouro__try_names(loop, op)) {
        op->notes_ |= NOTE_NO_TRY | NOTE_TRIED;
        sqe->opcode = RING_OP_OPENAT2;
        sqe->off = address(how_cached(op, (unsigned)flags));
        sqe->len = sizeof(op->engine_);
        u->asks = true;
        return;
    }
    if (!(flags & (O_NONBLOCK | O_PATH | O_DIRECTORY))) {
        flags |= O_NONBLOCK;
        op->notes_ |= NOTE_UNBLOCK;
    }
    sqe->opcode = RING_OP_OPENAT;
    sqe->len = (uint32_t)op->arg[ARG_MODE];
    sqe->op_flags = (uint32_t)flags;
    /* The kernel would look into its caches first, as was done a moment ago. */
    if (op->notes_ & NOTE_NO_TRY)
        sqe->flags = RING_SQE_ASYNC;
    else
        ask_server(loop, u, op, sqe);
}

static OURO__INLINE void encode_close(const ouro_loop *loop, struct uring *u, const ouro_op *op,
                                      struct ring_sqe *sqe)
{
    sqe->opcode = RING_OP_CLOSE;
    if (ouro__fd(op) == OURO__SLOT_ENGINE)
        sqe->file_index = (uint32_t)op->fd + URING_SLOTS + 1;
    else
        sqe->fd = ouro__fd(op);
    ask_server(loop, u, op, sqe);
}

/* Two names: rename and link; the second directory is arg[0]. */
static void encode_two_names(const ouro_op *op, struct ring_sqe *sqe, uint8_t opcode)
{
    sqe->opcode = opcode;
    sqe->fd = (int32_t)op->fd;
    sqe->addr = op->arg[ARG_PATH];
    sqe->len = (uint32_t)ouro__int(op, 0);
    sqe->addr2 = op->arg[ARG_PATH2];
    sqe->op_flags = (uint32_t)op->arg[ARG_FLAGS];
}

static void encode_name(const ouro_op *op, struct ring_sqe *sqe)
{
    sqe->fd = (int32_t)op->fd;
    sqe->addr = op->arg[ARG_PATH];
    switch (op->code) {
    case OURO_STAT:
        sqe->opcode = RING_OP_STATX;
        sqe->len = STATX_WANTED;
        sqe->addr2 = op->arg[ARG_STAT];
        sqe->op_flags = (uint32_t)op->arg[ARG_FLAGS];
        break;
    case OURO_RENAME: encode_two_names(op, sqe, RING_OP_RENAMEAT); break;
    case OURO_LINK: encode_two_names(op, sqe, RING_OP_LINKAT); break;
    case OURO_UNLINK:
        sqe->opcode = RING_OP_UNLINKAT;
        sqe->op_flags = (uint32_t)op->arg[ARG_FLAGS];
        break;
    case OURO_MKDIR:
        sqe->opcode = RING_OP_MKDIRAT;
        sqe->len = (uint32_t)op->arg[ARG_MODE];
        break;
    default: /* OURO_SYMLINK */
        sqe->opcode = RING_OP_SYMLINKAT;
        sqe->addr = op->arg[ARG_TARGET];
        sqe->addr2 = op->arg[ARG_PATH];
        break;
    }
}

/* ---- The rest ------------------------------------------------------------------------------ */

static void encode_file(const ouro_loop *loop, const ouro_op *op, struct ring_sqe *sqe)
{
    sqe->fd = ouro__fd(op);
    switch (op->code) {
    case OURO_FSYNC:
        sqe->opcode = RING_OP_FSYNC;
        sqe->op_flags = op->arg[ARG_DATASYNC] ? RING_FSYNC_DATASYNC : 0;
        break;
    case OURO_FALLOCATE:
        sqe->opcode = RING_OP_FALLOCATE;
        sqe->off = op->arg[ARG_AT];
        sqe->addr = op->arg[ARG_SIZE];
        sqe->len = (uint32_t)op->arg[ARG_ADVICE];
        break;
    case OURO_FTRUNCATE:
        sqe->opcode = RING_OP_FTRUNCATE;
        sqe->off = op->arg[ARG_SIZE];
        break;
    case OURO_FADVISE:
        sqe->opcode = RING_OP_FADVISE;
        sqe->off = op->arg[ARG_AT];
        sqe->len = (uint32_t)op->arg[ARG_SIZE];
        sqe->op_flags = (uint32_t)op->arg[ARG_ADVICE];
        break;
    default: /* OURO_POLL */ encode_poll(loop, op, sqe, (uint32_t)op->arg[ARG_EVENTS]); break;
    }
}

/* Operations that the ring only waits for: tried first, then again whenever they may succeed. */
static void attempt(ouro_loop *loop, ouro_op *op)
{
    int64_t r = ouro__need_descriptor(loop, op);

    if (r == 0)
        r = ouro__perform(op, PERFORM_TRY);
    if (r == -EOPNOTSUPP)
        ouro__to_worker(loop, op, ROUTE_BLOCKER);
    else
        ouro__report(loop, op, r);
}

/* Must a descriptor's O_NONBLOCK be honoured? The ring waits for a stream all the same. */
static bool refuses_to_wait(ouro_loop *loop, const ouro_op *op)
{
    int fd = ouro__fd(op);

    return ouro__file_kind(ouro__file_of(loop, op), fd) >= FILE_STREAM && ouro__fd_nonblocking(fd);
}

/* False: it went another way. */
static OURO__APART bool encode_specially(ouro_loop *loop, ouro_op *op, struct ring_sqe *sqe)
{
    if (op->ready_) {
        encode_poll(loop, op, sqe, op->ready_);
        if (op->notes_ & NOTE_AUX)
            sqe->fd = op->aux_fd_;
        return true;
    }
    attempt(loop, op);
    return false;
}

/* ---- Streams ------------------------------------------------------------------------------- */

static bool encode_datagrams(ouro_loop *loop, struct uring *u, const ouro_op *op,
                             struct ring_sqe *sqe)
{
    struct msghdr *message = message_of(loop, u, sqe);

    if (!message)
        return false;
    *message = (struct msghdr){ .msg_namelen = (socklen_t)op->arg[ARG_ADDR_ROOM],
                                .msg_controllen = (size_t)op->arg[ARG_CONTROL_ROOM] };
    sqe->opcode = RING_OP_RECVMSG;
    sqe->addr = address(message);
    sqe->len = 1;
    sqe->op_flags |= MSG_CMSG_CLOEXEC;
    return true;
}

/* Does the ring take its buffers? Parts are for bytes: a record or datagram would be cut where the
 * buffer ends, and lies with its sender's address in one of its own. Who has come here without a
 * descriptor is known to receive bytes. */
static bool takes_from_ring(ouro_op *op, const ouro_pool *pool)
{
    int fd = ouro__fd(op);

    if (pool->parts &&
        (op->code == OURO_RECVMSG_MANY || (fd >= 0 && ouro__fd_type(fd) != SOCK_STREAM)))
        op->stream_ |= STREAM_WHOLE;
    return pool->native && !(op->stream_ & STREAM_WHOLE);
}

/* False: by readiness, like everywhere else. */
static bool encode_stream(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    ouro_pool *pool = ouro__ptr(op, ARG_POOL);

    if (op->code == OURO_POLL_MANY) {
        encode_poll(loop, op, sqe, (uint32_t)op->arg[ARG_EVENTS]);
        return true;
    }
    set_file(loop, op, sqe);
    if (op->code == OURO_ACCEPT_MANY) {
        sqe->opcode = RING_OP_ACCEPT;
        sqe->op_flags = made_flags(loop, u, op, ARG_HOW, sqe);
        if (u->caps & OURO_CAP_MULTISHOT && !op->arg[ARG_ANY_SLOT])
            sqe->ioprio = RING_ACCEPT_MULTISHOT;
        return true;
    }
    if (!takes_from_ring(op, pool))
        return encode_specially(loop, op, sqe);
    if (!ouro__pool_has(pool, op)) { /* else it would end at once, though nothing has come */
        ouro__report(loop, op, OURO__NO_BUFFER);
        return false;
    }
    ouro__uring_pool_start(pool);
    sqe->opcode = RING_OP_RECV;
    sqe->flags |= RING_SQE_BUFFER_SELECT;
    sqe->ioprio = RING_RECV_MULTISHOT;
    sqe->buf_group = pool->group;
    sqe->op_flags = (uint32_t)op->arg[ARG_MSG_FLAGS];
    if (op->code == OURO_RECVMSG_MANY && !encode_datagrams(loop, u, op, sqe)) {
        ouro__report(loop, op, -ENOMEM);
        return false;
    }
    return true;
}

/* False: the operation went another way, the entry is free. */
static OURO__APART bool encode(ouro_loop *loop, struct uring *u, ouro_op *op, struct ring_sqe *sqe)
{
    if (op->ready_ || (op->flags & OURO_FDMODE && refuses_to_wait(loop, op)))
        return encode_specially(loop, op, sqe);
    switch (op->code) {
    case OURO_NOP: return true;
    case OURO_READ: encode_single(loop, op, sqe, RING_OP_READ, RING_OP_READ_FIXED); return true;
    case OURO_WRITEV:
        /* A vector of nothing writes nothing; the ring would send an empty datagram. */
        if (!ouro__wanted_bytes(op))
            return encode_specially(loop, op, sqe);
        return encode_write(loop, u, op, sqe);
    case OURO_WRITE: return encode_write(loop, u, op, sqe);
    case OURO_READV: encode_vector(loop, op, sqe, RING_OP_READV, RING_OP_READ); return true;
    case OURO_STAT:
    case OURO_RENAME:
    case OURO_UNLINK:
    case OURO_MKDIR:
    case OURO_SYMLINK:
    case OURO_LINK: encode_name(op, sqe); return true;
    case OURO_RECV:
    case OURO_SEND:
    case OURO_RECVMSG:
    case OURO_SENDMSG: encode_message(loop, u, op, sqe); return true;
    case OURO_SOCKET:
    case OURO_BIND:
    case OURO_LISTEN:
    case OURO_CONNECT:
    case OURO_ACCEPT:
    case OURO_SHUTDOWN: return encode_socket(loop, u, op, sqe) || encode_specially(loop, op, sqe);
    case OURO_ACCEPT_MANY:
    case OURO_RECV_MANY:
    case OURO_RECVMSG_MANY:
    case OURO_POLL_MANY: return encode_stream(loop, u, op, sqe);
    case OURO_SIGNAL:
    case OURO_SIGNAL_MANY:
    case OURO_SPLICE:
    case OURO_WAITPID: return encode_specially(loop, op, sqe);
    default: encode_file(loop, op, sqe); return true;
    }
}

#define PLAIN_AHEAD 6 /* so many operations before its turn one is loaded */

/* Plain operations are nops: a run of them looks at the room once, and ends with the array. */
unsigned ouro__uring_take(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    struct uring *u = loop->engine_state;
    struct ring *ring = &u->ring;
    int64_t room = (int64_t)ring_sq_space(ring) - u->reserve;
    int64_t left = (int64_t)u->limit - u->running - u->cancels;
    uint32_t at = ring->sq_tail & ring->sq_mask;
    struct ring_sqe *sqe = &ring->sqes[at], *first = sqe, *end;
    struct ouro__slot *slot = loop->slots.free;

    left = left < room ? left : room;
    left = left < ring->sq_entries - at ? left : ring->sq_entries - at;
    left = left < count ? left : count;
    if (left <= 0 || u->lost)
        return 0;
    for (end = sqe + left; sqe != end && slot; sqe++, ops++) {
        ouro_op *op = *ops;

        if (end - sqe > PLAIN_AHEAD)
            __builtin_prefetch(ops[PLAIN_AHEAD], 1);
        if (!ouro__is_plain(op))
            break;
        slot = ouro__enter_plain(slot, op);
        *sqe = (struct ring_sqe){ .user_data = op->id_ };
    }
    loop->slots.free = slot;
    count = (unsigned)(sqe - first);
    ring->sq_tail += count;
    u->running += count;
    return count;
}

static inline void count_entry(struct uring *u)
{
    u->ring.sq_tail++;
    u->running++;
}

static OURO__APART void put_unusual(ouro_loop *loop, struct uring *u, ouro_op *op,
                                    struct ring_sqe *sqe)
{
    if (encode(loop, u, op, sqe))
        count_entry(u);
}

/* Writes the entry of an operation; there is room. What programs do most is at hand. */
static OURO__INLINE void put(ouro_loop *loop, struct uring *u, ouro_op *op)
{
    struct ring *ring = &u->ring;
    struct ring_sqe *sqe = &ring->sqes[ring->sq_tail & ring->sq_mask];
    uint32_t odd = OURO_FDMODE | OURO_BG | OURO_ZEROCOPY | OURO_SERIAL;
    bool usual = !op->ready_ && !(op->flags & odd);
    bool usual_read = op->code == OURO_READ && usual;
    bool usual_message = (op->code == OURO_SEND || op->code == OURO_RECV) && usual;

    memset(sqe, 0, sizeof(*sqe));
    sqe->user_data = op->id_;
    if (usual_read || usual_message || op->code == OURO_OPEN || op->code == OURO_CLOSE)
        count_entry(u);
    if (usual_message)
        encode_bytes(loop, u, op, sqe);
    else if (usual_read)
        encode_single(loop, op, sqe, RING_OP_READ, RING_OP_READ_FIXED);
    else if (op->code == OURO_OPEN)
        encode_open(loop, u, op, sqe);
    else if (op->code == OURO_CLOSE)
        encode_close(loop, u, op, sqe);
    else
        put_unusual(loop, u, op, sqe);
}

static inline enum uring_fill room(struct uring *u)
{
    struct ring *ring = &u->ring;
    uint32_t most = ring->sq_entries - u->reserve;

    if (ring->sq_tail - ring->sq_head >= most && ring->sq_entries - ring_sq_space(ring) >= most)
        return FILL_SQ_FULL;
    return u->running + u->cancels >= u->limit ? FILL_CQ_FULL : FILL_DONE;
}

unsigned ouro__uring_room(ouro_loop *loop)
{
    struct uring *u = loop->engine_state;
    int64_t entries = (int64_t)ring_sq_space(&u->ring) - u->reserve;
    int64_t left = (int64_t)u->limit - u->running - u->cancels;

    left = left < entries ? left : entries;
    return left > 0 && !u->lost ? (unsigned)left : 0;
}

void ouro__uring_take_one(ouro_loop *loop, ouro_op *op)
{
    put(loop, loop->engine_state, op);
}

enum uring_fill ouro__uring_fill(ouro_loop *loop, struct uring *u)
{
    while (loop->queue.head) {
        enum uring_fill full = room(u);
        ouro_op *op;

        if (full)
            return full;
        op = ouro__pull(loop);
        if (!op)
            break;
        put(loop, u, op);
    }
    return FILL_DONE;
}

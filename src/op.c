/* SPDX-License-Identifier: MIT */
/* op.c: the table of operations, the check of their arguments, what is left of a transfer, and the
 * table of states. */
#include "core.h"

/* Which states may follow which; ouro__set_state asserts it. */
const uint16_t ouro__next_states[STATE_COUNT] = {
#define TO(name) (1u << STATE_##name)
    [STATE_IDLE] = TO(INBOX) | TO(HELD) | TO(QUEUED) | TO(RUNNING) | TO(PLAIN),
    [STATE_DONE] = TO(INBOX) | TO(HELD) | TO(QUEUED) | TO(RUNNING) | TO(PLAIN),
    [STATE_PARKED] = TO(QUEUED) | TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_INBOX] = TO(HELD) | TO(IDLE),
    [STATE_HELD] =
        TO(PARKED) | TO(QUEUED) | TO(AWAY) | TO(TIMING) | TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_QUEUED] = TO(PARKED) | TO(RUNNING) | TO(AWAY) | TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_RUNNING] = TO(PARKED) | TO(QUEUED) | TO(AWAY) | TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_PLAIN] = TO(RUNNING) | TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_AWAY] = TO(PARKED) | TO(QUEUED) | TO(AWAY) | TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_TIMING] = TO(REPORTED) | TO(DONE) | TO(IDLE),
    [STATE_REPORTED] = TO(DONE) | TO(IDLE),
#undef TO
};

#define MESSAGE_WAITALL 0x100u /* MSG_... */
#define MESSAGE_ZEROCOPY 0x4000000u
#define MESSAGE_ONCE 0x2023u /* OOB, PEEK, TRUNC, ERRQUEUE */
#define MESSAGE_DONTWAIT 0x40u
#define UNBLOCKABLE (OURO_SIGNAL_BIT(9) | OURO_SIGNAL_BIT(19)) /* SIGKILL, SIGSTOP */
#define ADDRESS_MAX 128u                                       /* struct sockaddr_storage */

#define ANY (OURO_QUIET | OURO_SOFT)
#define ON_FD (ANY | OURO_BG | OURO_DIRECT | OURO_BARRIER)
#define ON_BYTES (ON_FD | OURO_EXACT | OURO_FDMODE | OURO_SERIAL)
#define READS (KIND_FD | KIND_BYTES | KIND_READS | KIND_SPAN | KIND_WAITS)
#define WRITES (KIND_FD | KIND_BYTES | KIND_WRITES | KIND_SPAN | KIND_WAITS)
#define ON_SOCKET (ANY | OURO_DIRECT | OURO_BARRIER)
#define INTO_POOL (KIND_FD | KIND_READS | KIND_WAITS | KIND_STREAM | KIND_POOL)
#define ON_STREAM (OURO_DIRECT | OURO_BARRIER)
#define ON_MESSAGE (ON_SOCKET | OURO_FDMODE | OURO_SERIAL)
#define ON_SENDING (ON_MESSAGE | OURO_ZEROCOPY)

const struct ouro__kind ouro__kinds[OURO_CODE_COUNT] = {
    [OURO_NOP] = { "nop", ANY, 0 },
    [OURO_READ] = { "read", ON_BYTES | OURO_REGBUF, READS | KIND_TRY },
    [OURO_WRITE] = { "write", ON_BYTES | OURO_REGBUF, WRITES },
    [OURO_READV] = { "readv", ON_BYTES, READS | KIND_VECTOR | KIND_TRY },
    [OURO_WRITEV] = { "writev", ON_BYTES, WRITES | KIND_VECTOR },
    [OURO_FSYNC] = { "fsync", ON_FD, KIND_FD },
    [OURO_OPEN] = { "open", ANY | OURO_BG, KIND_DIR | KIND_TRY | KIND_MAKES },
    [OURO_CLOSE] = { "close", ANY | OURO_BG | OURO_DIRECT, KIND_FD | KIND_TRY },
    [OURO_STAT] = { "stat", ANY | OURO_BG, KIND_DIR },
    [OURO_RENAME] = { "rename", ANY | OURO_BG, KIND_DIR | KIND_DIR2 },
    [OURO_UNLINK] = { "unlink", ANY | OURO_BG, KIND_DIR },
    [OURO_MKDIR] = { "mkdir", ANY | OURO_BG, KIND_DIR },
    [OURO_SYMLINK] = { "symlink", ANY | OURO_BG, KIND_DIR },
    [OURO_LINK] = { "link", ANY | OURO_BG, KIND_DIR | KIND_DIR2 },
    [OURO_FALLOCATE] = { "fallocate", ON_FD, KIND_FD },
    [OURO_FTRUNCATE] = { "ftruncate", ON_FD, KIND_FD },
    [OURO_FADVISE] = { "fadvise", ON_FD, KIND_FD },
    [OURO_READDIR] = { "readdir", ON_FD, KIND_FD | KIND_POSITION },
    [OURO_COPY] = { "copy", ANY | OURO_BG | OURO_EXACT | OURO_BARRIER,
                    KIND_FD | KIND_FD2 | KIND_BYTES | KIND_WAITS },
    [OURO_SPLICE] = { "splice", ANY | OURO_BG | OURO_EXACT | OURO_BARRIER,
                      KIND_FD | KIND_FD2 | KIND_BYTES | KIND_WAITS },
    [OURO_TIMER] = { "timer", ANY, 0 },
    [OURO_POLL] = { "poll", ON_SOCKET, KIND_FD | KIND_WAITS },
    [OURO_WORK] = { "work", ANY | OURO_BG, KIND_STRANGE },
    [OURO_WAITPID] = { "waitpid", ANY | OURO_BG, KIND_WAITS },
    [OURO_MESSAGE] = { "message", ANY, 0 },
    [OURO_SOCKET] = { "socket", ANY, KIND_MAKES },
    [OURO_BIND] = { "bind", ON_SOCKET, KIND_FD },
    [OURO_LISTEN] = { "listen", ON_SOCKET, KIND_FD },
    [OURO_CONNECT] = { "connect", ON_SOCKET, KIND_FD | KIND_WAITS },
    [OURO_ACCEPT] = { "accept", ON_SOCKET | OURO_FDMODE,
                      KIND_FD | KIND_MAKES | KIND_READS | KIND_WAITS },
    [OURO_RECV] = { "recv", ON_MESSAGE | OURO_EXACT,
                    KIND_FD | KIND_BYTES | KIND_READS | KIND_WAITS },
    [OURO_SEND] = { "send", ON_SENDING | OURO_EXACT,
                    KIND_FD | KIND_BYTES | KIND_WRITES | KIND_WAITS },
    [OURO_RECVMSG] = { "recvmsg", ON_MESSAGE, KIND_FD | KIND_READS | KIND_WAITS },
    [OURO_SENDMSG] = { "sendmsg", ON_SENDING, KIND_FD | KIND_WRITES | KIND_WAITS },
    [OURO_SHUTDOWN] = { "shutdown", ON_SOCKET, KIND_FD },
    [OURO_ACCEPT_MANY] = { "accept_many", ON_STREAM,
                           KIND_FD | KIND_MAKES | KIND_READS | KIND_WAITS | KIND_STREAM },
    [OURO_RECV_MANY] = { "recv_many", ON_STREAM, INTO_POOL },
    [OURO_RECVMSG_MANY] = { "recvmsg_many", ON_STREAM, INTO_POOL },
    [OURO_POLL_MANY] = { "poll_many", ON_STREAM, KIND_FD | KIND_WAITS | KIND_STREAM },
    [OURO_RESOLVE] = { "resolve", ANY, KIND_WAITS | KIND_STRANGE },
    [OURO_SIGNAL] = { "signal", ANY, KIND_WAITS },
    [OURO_SIGNAL_MANY] = { "signal_many", 0, KIND_WAITS | KIND_STREAM },
    [OURO_TIMER_MANY] = { "timer_many", 0, KIND_STREAM },
};

const char *ouro_code_name(unsigned code)
{
    return code < OURO_CODE_COUNT ? ouro__kinds[code].name : NULL;
}

static int check_transfer(const ouro_op *op, bool vector)
{
    int64_t offset = (int64_t)op->arg[ARG_OFFSET];

    if (!op->arg[ARG_BUF] && op->arg[ARG_LEN])
        return -EFAULT;
    if (offset < OURO_CUR)
        return -EINVAL;
    if (!vector && op->arg[ARG_LEN] > INT64_MAX)
        return -EINVAL;
    return 0;
}

/* What EXACT cannot go on after, or stands for; and what is told of elsewhere than by a result. */
static int check_message(const ouro_op *op)
{
    uint64_t flags = op->arg[ARG_MSG_FLAGS];

    if (flags & (MESSAGE_WAITALL | MESSAGE_ZEROCOPY) ||
        (op->flags & OURO_EXACT && flags & MESSAGE_ONCE))
        return -EINVAL;
    return op->code == OURO_RECV || op->code == OURO_SEND ? check_transfer(op, false) : 0;
}

static int check_recv_many(const ouro_loop *loop, const ouro_op *op)
{
    const ouro_pool *pool = ouro__ptr(op, ARG_POOL);
    uint64_t odd = MESSAGE_WAITALL | MESSAGE_ZEROCOPY | MESSAGE_ONCE | MESSAGE_DONTWAIT;

    if (!pool)
        return -EFAULT;
    if (op->code == OURO_RECVMSG_MANY &&
        (pool->size % 16 || pool->size <= ouro__datagram_rooms(op)))
        return -EINVAL;
    return pool->loop != loop || op->arg[ARG_MSG_FLAGS] & odd ? -EINVAL : 0;
}

static int check_pair(const ouro_op *op)
{
    if (ouro__int(op, 0) < 0)
        return -EBADF;
    if ((int64_t)op->arg[ARG_IN_OFFSET] < OURO_CUR || (int64_t)op->arg[ARG_OUT_OFFSET] < OURO_CUR)
        return -EINVAL;
    return op->arg[ARG_LEN] > INT64_MAX ? -EINVAL : 0;
}

static int check_names(const ouro_op *op)
{
    uint16_t traits = ouro__kinds[op->code].traits;

    if (!op->arg[ARG_PATH])
        return -EFAULT;
    if (op->fd < 0 && op->fd != OURO_HERE)
        return -EBADF;
    if (traits & KIND_DIR2 && ouro__int(op, 0) < 0 && ouro__int(op, 0) != OURO_HERE)
        return -EBADF;
    switch (op->code) {
    case OURO_STAT:
    case OURO_RENAME:
    case OURO_LINK:
    case OURO_SYMLINK: return op->arg[3] ? 0 : -EFAULT;
    default: return 0;
    }
}

static int check_arguments(const ouro_loop *loop, const ouro_op *op)
{
    if (ouro__kinds[op->code].traits & KIND_MAKES && op->arg[ARG_SLOT] > loop->direct_count)
        return -EINVAL;
    switch (op->code) {
    case OURO_READ:
    case OURO_WRITE: return check_transfer(op, false);
    case OURO_READV:
    case OURO_WRITEV: return check_transfer(op, true);
    case OURO_READDIR: return op->arg[ARG_BUF] ? 0 : -EFAULT;
    case OURO_COPY:
    case OURO_SPLICE: return check_pair(op);
    case OURO_FTRUNCATE: return (int64_t)op->arg[ARG_SIZE] < 0 ? -EINVAL : 0;
    case OURO_POLL:
    case OURO_POLL_MANY: return op->arg[ARG_EVENTS] > UINT16_MAX ? -EINVAL : 0;
    case OURO_TIMER: return op->arg[ARG_TIME] ? 0 : -EINVAL;
    case OURO_TIMER_MANY: return op->arg[ARG_TIME] && op->arg[ARG_EVERY] ? 0 : -EINVAL;
    case OURO_ACCEPT_MANY: return op->arg[ARG_ANY_SLOT] && !loop->direct_count ? -EINVAL : 0;
    case OURO_RECV_MANY:
    case OURO_RECVMSG_MANY: return check_recv_many(loop, op);
    case OURO_SIGNAL:
    case OURO_SIGNAL_MANY:
        return op->arg[ARG_SIGNALS] && !(op->arg[ARG_SIGNALS] & UNBLOCKABLE) ? 0 : -EINVAL;
    case OURO_RESOLVE:
        return (op->arg[ARG_HOST] || op->arg[ARG_SERVICE]) && op->arg[ARG_LIST] ? 0 : -EFAULT;
    case OURO_WORK: return op->arg[ARG_FN] ? 0 : -EFAULT;
    case OURO_MESSAGE: return op->arg[ARG_TO] ? 0 : -EFAULT;
    case OURO_BIND:
    case OURO_CONNECT:
        if (!op->arg[ARG_ADDR])
            return -EFAULT;
        return op->arg[ARG_ADDR_SIZE] > ADDRESS_MAX ? -EINVAL : 0;
    case OURO_ACCEPT: return op->arg[ARG_ADDR] && !op->arg[ARG_ADDR_SIZE] ? -EFAULT : 0;
    case OURO_RECV:
    case OURO_SEND: return check_message(op);
    case OURO_RECVMSG:
    case OURO_SENDMSG: return op->arg[ARG_MSGHDR] ? check_message(op) : -EFAULT;
    default: break;
    }
    return ouro__kinds[op->code].traits & KIND_DIR ? check_names(op) : 0;
}

/* Everything that can be found wrong without looking at the system. */
int ouro__check(ouro_loop *loop, const ouro_op *op)
{
    const struct ouro__kind *kind;
    uint8_t state = __atomic_load_n(&op->state_, __ATOMIC_ACQUIRE);

    if (state > STATE_DONE)
        return -EBUSY;
    if (op->code >= OURO_CODE_COUNT)
        return -EINVAL;
    kind = &ouro__kinds[op->code];
    if (op->flags & ~kind->flags)
        return -EINVAL;
    if (kind->traits & KIND_FD && op->fd < 0)
        return -EBADF;
    if (op->flags & OURO_DIRECT && (uint64_t)op->fd >= loop->direct_count)
        return -EBADF;
    if (loop->routes[op->code] == ROUTE_NO)
        return -EOPNOTSUPP;
    return op->code == OURO_NOP ? 0 : check_arguments(loop, op);
}

/* Skips what is done; an entry that was left half-way makes a step of its own. */
static int vector_span(const ouro_op *op, struct ouro__span *span)
{
    const struct iovec *iov = ouro__ptr(op, ARG_BUF);
    uint64_t count = op->arg[ARG_LEN], i = 0;
    uint64_t skip = (uint64_t)op->done_;

    if (skip) {
        while (i < count && skip >= iov[i].iov_len)
            skip -= iov[i++].iov_len;
        if (i == count)
            return 0;
        if (skip || iov[i].iov_len > OURO__STEP_MAX) {
            span->single = true;
            span->ptr = (char *)iov[i].iov_base + skip;
            span->len = iov[i].iov_len - (size_t)skip;
            return 1;
        }
    }
    span->single = false;
    span->iov = iov + i;
    span->count = (unsigned)(count - i < OURO__IOV_MAX ? count - i : OURO__IOV_MAX);
    return 1;
}

/* 0: nothing is left after done_ bytes; asked only for continuations. */
int ouro__span_of(const ouro_op *op, struct ouro__span *ret)
{
    int64_t offset = (int64_t)op->arg[ARG_OFFSET];
    int left = 1;

    if (ouro__kinds[op->code].traits & KIND_VECTOR) {
        left = vector_span(op, ret);
    } else {
        ret->single = true;
        ret->ptr = (char *)ouro__ptr(op, ARG_BUF) + op->done_;
        ret->len = (size_t)op->arg[ARG_LEN] - (size_t)op->done_;
        left = ret->len > 0;
    }
    if (ret->single) {
        /* What a try on the spot has read is part of the step, unless more is to come anyway. */
        size_t most = OURO__STEP_MAX;
        if (!(op->flags & OURO_EXACT) && (uint64_t)op->done_ < most)
            most -= (size_t)op->done_;
        if (ret->len > most)
            ret->len = most;
    }
    ret->offset = offset == OURO_CUR || op->notes_ & NOTE_STREAM ? OURO_CUR : offset + op->done_;
    ret->rwf = (int)op->arg[ARG_RWF];
    return left;
}

/* How many bytes the whole operation asks for. */
uint64_t ouro__wanted_bytes(const ouro_op *op)
{
    uint16_t traits = ouro__kinds[op->code].traits;
    const struct iovec *iov = ouro__ptr(op, ARG_BUF);
    uint64_t bytes = 0;

    if (!(traits & KIND_VECTOR))
        return op->arg[ARG_LEN];
    for (uint64_t i = 0; i < op->arg[ARG_LEN]; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

uint64_t ouro__span_bytes(const struct ouro__span *span)
{
    uint64_t bytes = 0;

    if (span->single)
        return span->len;
    for (unsigned i = 0; i < span->count; i++)
        bytes += span->iov[i].iov_len;
    return bytes;
}

/* SPDX-License-Identifier: MIT */
/* socket.c: what operations on sockets mean: one step of each as system calls, under the rules that
 * perform.c states.
 *
 * recv and send can be told not to wait (MSG_DONTWAIT), so a try is the call itself. accept and
 * connect cannot, and the flags of a descriptor that the program has opened are not ours to change:
 * on one of these that blocks, a try only looks, and a worker makes the call. On a socket that the
 * loop has made, O_NONBLOCK is set for the one call. */
#include "core.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#ifndef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0x40000000
#endif
#define LOOK_AGAIN_MS 1 /* where nothing tells when a peer has room again */

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Is -EAGAIN a result? */
static bool impatient(const ouro_op *op, int flags)
{
    return flags & MSG_DONTWAIT || (op->flags & OURO_FDMODE && ouro__fd_nonblocking(ouro__fd(op)));
}

/* Of a call that takes O_NONBLOCK from its descriptor alone: false, when it blocks and must not be
 * made to. *ret_set: restore_blocking is due. */
static bool set_nonblocking(const ouro_op *op, bool *ret_set)
{
    const struct ouro__file *file = op->loop_ ? ouro__file_of(op->loop_, op) : NULL;
    long flags = sys_fcntl(ouro__fd(op), F_GETFL, 0);

    *ret_set = false;
    if (flags < 0 || flags & O_NONBLOCK)
        return true;
    if (!file || file->ours != OURS_SOCKET)
        return false;
    *ret_set = sys_fcntl(ouro__fd(op), F_SETFL, flags | O_NONBLOCK) >= 0;
    return *ret_set;
}

static void restore_blocking(const ouro_op *op, bool set)
{
    long flags = set ? sys_fcntl(ouro__fd(op), F_GETFL, 0) : -1;

    if (flags >= 0)
        sys_fcntl(ouro__fd(op), F_SETFL, flags & ~(long)O_NONBLOCK);
}

/* ---- Receiving and sending ------------------------------------------------------------------- */

/* Sends copy. */
static int64_t message_step(ouro_op *op, int flags)
{
    char *at = (char *)ouro__ptr(op, ARG_BUF) + op->done_;
    size_t left = (size_t)op->arg[ARG_LEN] - (size_t)op->done_;
    int fd = ouro__fd(op);

    if (op->flags & OURO_ZEROCOPY)
        op->notes_ |= NOTE_COPIED;
    switch (op->code) {
    case OURO_RECV: return sys_recv(fd, at, left < OURO__STEP_MAX ? left : OURO__STEP_MAX, flags);
    case OURO_SEND:
        return sys_send(fd, at, left < OURO__STEP_MAX ? left : OURO__STEP_MAX,
                        flags | MSG_NOSIGNAL);
    case OURO_RECVMSG: return sys_recvmsg(fd, ouro__ptr(op, ARG_MSGHDR), flags | MSG_CMSG_CLOEXEC);
    default: return sys_sendmsg(fd, ouro__ptr(op, ARG_MSGHDR), flags | MSG_NOSIGNAL);
    }
}

/* A send of a queue, perhaps with others behind it. On the driver's thread. */
static int64_t send_together(ouro_op *op, int flags)
{
    struct iovec parts[OURO__RIDE_MOST];
    struct msghdr message = { .msg_iov = parts };

    message.msg_iovlen = ouro__sendq_gather(op, parts);
    return sys_sendmsg(ouro__fd(op), &message, flags | MSG_NOSIGNAL);
}

static int64_t perform_message(ouro_op *op, unsigned how)
{
    int flags = ouro__int(op, ARG_MSG_FLAGS);
    short events = ouro__kinds[op->code].traits & KIND_WRITES ? POLLOUT
                   : flags & MSG_ERRQUEUE                     ? 0 /* an error is always shown */
                   : flags & MSG_OOB                          ? POLLPRI
                                                              : POLLIN;
    int64_t r;

    if (how == PERFORM_TRY) {
        flags |= MSG_DONTWAIT;
        r = ouro__sendq_leads(op) ? send_together(op, flags) : message_step(op, flags);
        flags = ouro__int(op, ARG_MSG_FLAGS);
        return r == -EAGAIN && !impatient(op, flags) ? ouro__not_ready(op, events) : r;
    }
    for (unsigned tries = 0;; tries++) {
        r = message_step(op, flags);
        if (r != -EAGAIN || impatient(op, flags))
            return r;
        r = ouro__poll_one(ouro__fd(op), events, -1);
        if (r > 0 && tries) /* a socket that has hung up is ready for ever, whatever is wanted */
            r = ouro__poll_one(-1, 0, LOOK_AGAIN_MS);
        if (r < 0)
            return r;
    }
}

/* ---- Accepting ------------------------------------------------------------------------------- */

static int64_t accept_step(const ouro_op *op)
{
    return sys_accept4(ouro__fd(op), ouro__ptr(op, ARG_ADDR), ouro__ptr(op, ARG_ADDR_SIZE),
                       ouro__int(op, ARG_HOW) | SOCK_CLOEXEC);
}

/* Of a socket that blocks. What does not listen never becomes ready either. */
static int64_t nothing_to_accept(int fd)
{
    int listens = 0;
    unsigned size = sizeof(listens);
    int64_t r = ouro__poll_one(fd, POLLIN, 0);

    if (r == 0)
        r = sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    else
        return r < 0 ? r : 0;
    return r < 0 ? r : listens ? -EAGAIN : -EINVAL;
}

static int64_t accept_try(ouro_op *op)
{
    int fd = ouro__fd(op);
    bool set = false;
    int64_t r = ouro__fd_nonblocking(fd) ? 0 : nothing_to_accept(fd);

    if (r == 0) {
        if (!set_nonblocking(op, &set))
            return -EOPNOTSUPP; /* somebody else may be quicker */
        r = accept_step(op);
        restore_blocking(op, set);
    }
    return r == -EAGAIN && !impatient(op, 0) ? ouro__not_ready(op, POLLIN) : r;
}

static int64_t perform_accept(ouro_op *op, unsigned how)
{
    int64_t r;

    if (how == PERFORM_TRY)
        return accept_try(op);
    do {
        r = accept_step(op);
        if (r != -EAGAIN || impatient(op, 0))
            return r;
        r = ouro__poll_one(ouro__fd(op), POLLIN, -1);
    } while (r >= 0);
    return r;
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static int64_t connect_step(ouro_op *op)
{
    const void *addr = ouro__ptr(op, ARG_ADDR);
    int64_t r = sys_connect(ouro__fd(op), addr, (unsigned)op->arg[ARG_ADDR_SIZE]);

    if (r == -EINPROGRESS || r == -EINTR) /* the kernel goes on with it */
        op->notes_ |= NOTE_CONNECTING;
    return r;
}

/* How the connect that is under way has ended; -EAGAIN with a wish: not yet. A second call tells,
 * and leaves the socket as one call that waited would; SO_ERROR would not. */
static int64_t connected(ouro_op *op, unsigned how)
{
    int64_t r = ouro__poll_one(ouro__fd(op), POLLOUT, how == PERFORM_TRY ? 0 : -1);

    if (r <= 0)
        return r < 0 ? r : ouro__not_ready(op, POLLOUT);
    r = connect_step(op);
    return r == -EISCONN ? 0 : r == -EALREADY ? ouro__not_ready(op, POLLOUT) : r;
}

/* A local socket whose peer has no room says -EAGAIN, and nothing tells when it has. */
static int64_t connect_try(ouro_op *op)
{
    bool set;
    int64_t r;

    if (!set_nonblocking(op, &set))
        return -EOPNOTSUPP;
    r = connect_step(op);
    restore_blocking(op, set);
    if (r == -EINPROGRESS)
        return connected(op, PERFORM_TRY);
    return r == -EAGAIN ? -EOPNOTSUPP : r;
}

static int64_t perform_connect(ouro_op *op, unsigned how)
{
    int64_t r;

    if (op->notes_ & NOTE_CONNECTING)
        return connected(op, how);
    if (how == PERFORM_TRY)
        return connect_try(op);
    while ((r = connect_step(op)) == -EAGAIN) {
        r = ouro__poll_one(-1, 0, LOOK_AGAIN_MS);
        if (r < 0)
            return r;
    }
    return r == -EINPROGRESS ? connected(op, how) : r;
}

/* ---- The rest -------------------------------------------------------------------------------- */

/* The name of a local socket is made in a directory, which may be on a disk. */
static int64_t perform_bind(const ouro_op *op, unsigned how)
{
    const struct sockaddr *addr = ouro__ptr(op, ARG_ADDR);
    unsigned size = (unsigned)op->arg[ARG_ADDR_SIZE];

    if (how == PERFORM_TRY && size >= sizeof(addr->sa_family) && addr->sa_family == AF_UNIX)
        return -EOPNOTSUPP;
    return sys_bind(ouro__fd(op), addr, size);
}

/* A close of a socket waits for its peer if the program wishes so. */
bool ouro__fd_lingers(int fd)
{
    struct linger linger = { 0 };
    unsigned size = sizeof(linger);

    return sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size) >= 0 && linger.l_onoff &&
           linger.l_linger;
}

int ouro__fd_type(int fd)
{
    int type = 0;
    unsigned size = sizeof(type);
    long r = sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);

    return r < 0 ? (int)r : type;
}

/* Does a receive of nothing say that there will be no more? */
bool ouro__fd_ends(int fd)
{
    int type = ouro__fd_type(fd);

    return type == SOCK_STREAM || type == SOCK_SEQPACKET;
}

/* Does -ENOBUFS say that messages have come for which it had no room? */
bool ouro__fd_loses(int fd)
{
    int domain = 0;
    unsigned size = sizeof(domain);

    return sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) >= 0 && domain == AF_NETLINK;
}

/* Not those of datagrams and records, nor of SCTP, which calls itself a stream. */
bool ouro__fd_joins(int fd)
{
    int protocol = 0;
    unsigned size = sizeof(protocol);

    return ouro__fd_type(fd) == SOCK_STREAM &&
           sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) >= 0 &&
           protocol != IPPROTO_SCTP;
}

/* Only streams that share buffers want to know whether it is of bytes alone. */
void ouro__learn_socket(ouro_loop *loop, const ouro_op *op, uint32_t slot)
{
    struct ouro__direct *made = &loop->direct[slot], *from;
    bool asked = loop->caps & OURO_CAP_PARTS;

    if (op->code == OURO_SOCKET) {
        int type = ouro__int(op, ARG_TYPE) & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
        made->loses = ouro__int(op, ARG_DOMAIN) == AF_NETLINK;
        made->bytes = type == SOCK_STREAM;
    } else if (!(ouro__kinds[op->code].traits & KIND_FD)) {
        return;                    /* no socket */
    } else if (ouro__fd(op) < 0) { /* what is accepted is as its listener is */
        from = &loop->direct[op->fd];
        made->lingers = from->lingers;
        made->bytes = from->bytes;
    } else {
        made->lingers = ouro__fd_lingers(ouro__fd(op));
        made->bytes = asked && ouro__fd_type(ouro__fd(op)) == SOCK_STREAM;
    }
}

/* A datagram with its sender, laid out as io_uring does. */
static int64_t receive_datagram(const ouro_op *op, char *data, size_t size, int flags)
{
    size_t rooms = ouro__datagram_rooms(op);
    char *addr = data + sizeof(struct ouro__datagram_head);
    struct iovec payload = { data + rooms, size - rooms };
    struct msghdr message = { .msg_iov = &payload, .msg_iovlen = 1 };
    int64_t r;

    message.msg_name = addr;
    message.msg_namelen = (socklen_t)op->arg[ARG_ADDR_ROOM];
    message.msg_control = addr + op->arg[ARG_ADDR_ROOM];
    message.msg_controllen = (size_t)op->arg[ARG_CONTROL_ROOM];
    r = sys_recvmsg(ouro__fd(op), &message, flags | MSG_CMSG_CLOEXEC);
    *(struct ouro__datagram_head *)(void *)data =
        (struct ouro__datagram_head){ message.msg_namelen, (uint32_t)message.msg_controllen,
                                      r > 0 ? (uint32_t)r : 0, (uint32_t)message.msg_flags };
    return r;
}

/* A buffer is taken when bytes may be there, and given back when none were. Pools are the driver's:
 * a worker only waits, and the core tries again. */
static int64_t perform_recv_many(ouro_op *op, unsigned how)
{
    ouro_pool *pool = ouro__ptr(op, ARG_POOL);
    int flags = ouro__int(op, ARG_MSG_FLAGS) | MSG_DONTWAIT;
    bool datagrams = op->code == OURO_RECVMSG_MANY, empty;
    void *data;
    int64_t r;

    if (how == PERFORM_BLOCK) {
        op->ready_ = POLLIN;
        return ouro__poll_one(ouro__fd(op), POLLIN, -1);
    }
    data = ouro__pool_take(pool);
    if (!data)
        return OURO__NO_BUFFER;
    if (datagrams)
        r = receive_datagram(op, data, pool->size, flags);
    else
        r = sys_recv(ouro__fd(op), data, pool->size, flags);
    empty = r < 0 || (r == 0 && !datagrams);
    ouro__stream_bring(op, empty ? NULL : data);
    if (empty)
        (void)ouro__pool_give(pool, data);
    return r == -EAGAIN ? ouro__not_ready(op, POLLIN) : r;
}

int64_t ouro__perform_socket(ouro_op *op, unsigned how)
{
    switch (op->code) {
    case OURO_ACCEPT_MANY: return perform_accept(op, how);
    case OURO_RECV_MANY:
    case OURO_RECVMSG_MANY: return perform_recv_many(op, how);
    case OURO_SOCKET:
        return sys_socket(ouro__int(op, ARG_DOMAIN), ouro__int(op, ARG_TYPE) | SOCK_CLOEXEC,
                          ouro__int(op, ARG_PROTOCOL));
    case OURO_BIND: return perform_bind(op, how);
    case OURO_LISTEN: return sys_listen(ouro__fd(op), ouro__int(op, ARG_HOW));
    case OURO_SHUTDOWN: return sys_shutdown(ouro__fd(op), ouro__int(op, ARG_HOW));
    case OURO_CONNECT: return perform_connect(op, how);
    case OURO_ACCEPT: return perform_accept(op, how);
    default: return perform_message(op, how);
    }
}

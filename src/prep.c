/* SPDX-License-Identifier: MIT */
/* prep.c: the ouro_prep_* functions: plain stores that cannot fail. What lies where in op->arg is
 * said once, by the ARG_* names in core.h. */
#include "core.h"

static void prepare(ouro_op *op, enum ouro_code code, ouro_fd fd)
{
    op->res = 0;
    op->flags = 0;
    op->cflags = 0;
    op->deadline = OURO_FOREVER;
    op->fd = fd;
    op->code = (uint16_t)code;
}

static uint64_t pointer_word(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

void ouro_prep_nop(ouro_op *op)
{
    prepare(op, OURO_NOP, -1);
    op->cause = 0; /* submit does that for all others; a nop's short way stays in one cache line */
}

static void transfer(ouro_op *op, enum ouro_code code, ouro_fd fd, const void *at, size_t len,
                     int64_t offset, int rwf)
{
    prepare(op, code, fd);
    op->arg[ARG_BUF] = pointer_word(at);
    op->arg[ARG_LEN] = len;
    op->arg[ARG_OFFSET] = (uint64_t)offset;
    op->arg[ARG_RWF] = (uint64_t)rwf;
}

void ouro_prep_read(ouro_op *op, ouro_fd fd, void *buf, size_t len, int64_t offset)
{
    transfer(op, OURO_READ, fd, buf, len, offset, 0);
}

void ouro_prep_write(ouro_op *op, ouro_fd fd, const void *buf, size_t len, int64_t offset)
{
    transfer(op, OURO_WRITE, fd, buf, len, offset, 0);
}

void ouro_prep_readv(ouro_op *op, ouro_fd fd, const struct iovec *iov, unsigned count,
                     int64_t offset, int rwf)
{
    transfer(op, OURO_READV, fd, iov, count, offset, rwf);
}

void ouro_prep_writev(ouro_op *op, ouro_fd fd, const struct iovec *iov, unsigned count,
                      int64_t offset, int rwf)
{
    transfer(op, OURO_WRITEV, fd, iov, count, offset, rwf);
}

void ouro_prep_fsync(ouro_op *op, ouro_fd fd)
{
    prepare(op, OURO_FSYNC, fd);
    op->arg[ARG_DATASYNC] = 0;
}

void ouro_prep_fdatasync(ouro_op *op, ouro_fd fd)
{
    prepare(op, OURO_FSYNC, fd);
    op->arg[ARG_DATASYNC] = 1;
}

static void name(ouro_op *op, enum ouro_code code, ouro_fd dir, const char *path, uint64_t flags,
                 uint64_t third)
{
    prepare(op, code, dir);
    op->arg[ARG_PATH] = pointer_word(path);
    op->arg[ARG_FLAGS] = flags;
    op->arg[3] = third;
    op->arg[ARG_SLOT] = 0;
}

void ouro_prep_open(ouro_op *op, ouro_fd dir, const char *path, int flags, unsigned mode)
{
    name(op, OURO_OPEN, dir, path, (uint64_t)flags, mode);
}

void ouro_prep_open_direct(ouro_op *op, ouro_fd dir, const char *path, int flags, unsigned mode,
                           unsigned slot)
{
    name(op, OURO_OPEN, dir, path, (uint64_t)flags, mode);
    op->arg[ARG_SLOT] = (uint64_t)slot + 1;
}

void ouro_prep_close(ouro_op *op, ouro_fd fd)
{
    prepare(op, OURO_CLOSE, fd);
}

void ouro_prep_stat(ouro_op *op, ouro_fd dir, const char *path, int flags, struct ouro_stat *ret)
{
    name(op, OURO_STAT, dir, path, (uint64_t)flags, pointer_word(ret));
}

void ouro_prep_rename(ouro_op *op, ouro_fd old_dir, const char *old_path, ouro_fd new_dir,
                      const char *new_path, unsigned flags)
{
    name(op, OURO_RENAME, old_dir, old_path, flags, pointer_word(new_path));
    op->arg[0] = (uint64_t)new_dir;
}

void ouro_prep_unlink(ouro_op *op, ouro_fd dir, const char *path, int flags)
{
    name(op, OURO_UNLINK, dir, path, (uint64_t)flags, 0);
}

void ouro_prep_rmdir(ouro_op *op, ouro_fd dir, const char *path)
{
    name(op, OURO_UNLINK, dir, path, OURO__REMOVE_DIR, 0);
}

void ouro_prep_mkdir(ouro_op *op, ouro_fd dir, const char *path, unsigned mode)
{
    name(op, OURO_MKDIR, dir, path, 0, mode);
}

void ouro_prep_symlink(ouro_op *op, const char *target, ouro_fd dir, const char *path)
{
    name(op, OURO_SYMLINK, dir, path, 0, pointer_word(target));
}

void ouro_prep_link(ouro_op *op, ouro_fd old_dir, const char *old_path, ouro_fd new_dir,
                    const char *new_path, int flags)
{
    name(op, OURO_LINK, old_dir, old_path, (uint64_t)flags, pointer_word(new_path));
    op->arg[0] = (uint64_t)new_dir;
}

static void range(ouro_op *op, enum ouro_code code, ouro_fd fd, int64_t at, int64_t size, int how)
{
    prepare(op, code, fd);
    op->arg[ARG_AT] = (uint64_t)at;
    op->arg[ARG_SIZE] = (uint64_t)size;
    op->arg[ARG_ADVICE] = (uint64_t)how;
}

void ouro_prep_fallocate(ouro_op *op, ouro_fd fd, int mode, int64_t offset, int64_t len)
{
    range(op, OURO_FALLOCATE, fd, offset, len, mode);
}

void ouro_prep_ftruncate(ouro_op *op, ouro_fd fd, int64_t len)
{
    range(op, OURO_FTRUNCATE, fd, 0, len, 0);
}

void ouro_prep_fadvise(ouro_op *op, ouro_fd fd, int64_t offset, int64_t len, int advice)
{
    range(op, OURO_FADVISE, fd, offset, len, advice);
}

void ouro_prep_readdir(ouro_op *op, ouro_fd dir, void *buf, size_t len)
{
    transfer(op, OURO_READDIR, dir, buf, len, OURO_CUR, 0);
}

static void pair(ouro_op *op, enum ouro_code code, ouro_fd in, int64_t in_offset, ouro_fd out,
                 int64_t out_offset, size_t len, unsigned flags)
{
    prepare(op, code, in);
    op->arg[0] = (uint64_t)out;
    op->arg[ARG_IN_OFFSET] = (uint64_t)in_offset;
    op->arg[ARG_LEN] = len;
    op->arg[ARG_OUT_OFFSET] = (uint64_t)out_offset;
    op->arg[ARG_RWF] = flags;
}

void ouro_prep_copy(ouro_op *op, ouro_fd in, int64_t in_offset, ouro_fd out, int64_t out_offset,
                    size_t len)
{
    pair(op, OURO_COPY, in, in_offset, out, out_offset, len, 0);
}

void ouro_prep_splice(ouro_op *op, ouro_fd in, int64_t in_offset, ouro_fd out, int64_t out_offset,
                      size_t len, unsigned flags)
{
    pair(op, OURO_SPLICE, in, in_offset, out, out_offset, len, flags);
}

void ouro_prep_timer(ouro_op *op, ouro_time at)
{
    prepare(op, OURO_TIMER, -1);
    op->arg[ARG_TIME] = at;
}

void ouro_prep_poll(ouro_op *op, ouro_fd fd, unsigned events)
{
    prepare(op, OURO_POLL, fd);
    op->arg[ARG_EVENTS] = events;
}

void ouro_prep_work(ouro_op *op, int64_t (*fn)(void *arg), void *arg)
{
    prepare(op, OURO_WORK, -1);
    op->arg[ARG_FN] = (uint64_t)(uintptr_t)fn;
    op->arg[ARG_FN_ARG] = pointer_word(arg);
}

void ouro_prep_waitpid(ouro_op *op, int pid, int *status, int options)
{
    prepare(op, OURO_WAITPID, -1);
    op->arg[ARG_PID] = (uint64_t)(int64_t)pid;
    op->arg[ARG_STATUS] = pointer_word(status);
    op->arg[ARG_OPTIONS] = (uint64_t)(int64_t)options;
}

void ouro_prep_signal(ouro_op *op, uint64_t signals, struct ouro_signal *ret)
{
    prepare(op, OURO_SIGNAL, -1);
    op->arg[ARG_SIGNALS] = signals;
    op->arg[ARG_SIGNAL] = pointer_word(ret);
}

void ouro_prep_signal_many(ouro_op *op, uint64_t signals)
{
    ouro_prep_signal(op, signals, NULL);
    op->code = OURO_SIGNAL_MANY;
}

void ouro_prep_resolve(ouro_op *op, const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **ret)
{
    prepare(op, OURO_RESOLVE, -1);
    op->arg[ARG_HOST] = pointer_word(host);
    op->arg[ARG_SERVICE] = pointer_word(service);
    op->arg[ARG_HINTS] = pointer_word(hints);
    op->arg[ARG_LIST] = pointer_word(ret);
}

void ouro_prep_message(ouro_op *op, ouro_loop *to, int64_t word)
{
    prepare(op, OURO_MESSAGE, -1);
    op->arg[ARG_TO] = pointer_word(to);
    op->arg[ARG_WORD] = (uint64_t)word;
}

static void new_socket(ouro_op *op, int domain, int type, int protocol, uint64_t slot)
{
    prepare(op, OURO_SOCKET, -1);
    op->arg[ARG_DOMAIN] = (uint64_t)domain;
    op->arg[ARG_TYPE] = (uint64_t)type;
    op->arg[ARG_PROTOCOL] = (uint64_t)protocol;
    op->arg[ARG_SLOT] = slot;
}

void ouro_prep_socket(ouro_op *op, int domain, int type, int protocol)
{
    new_socket(op, domain, type, protocol, 0);
}

void ouro_prep_socket_direct(ouro_op *op, int domain, int type, int protocol, unsigned slot)
{
    new_socket(op, domain, type, protocol, (uint64_t)slot + 1);
}

/* Of bind, connect and accept. */
static void address(ouro_op *op, enum ouro_code code, ouro_fd fd, const void *addr, uint64_t size)
{
    prepare(op, code, fd);
    op->arg[ARG_ADDR] = pointer_word(addr);
    op->arg[ARG_ADDR_SIZE] = size;
}

void ouro_prep_bind(ouro_op *op, ouro_fd fd, const struct sockaddr *addr, unsigned addr_size)
{
    address(op, OURO_BIND, fd, addr, addr_size);
}

void ouro_prep_connect(ouro_op *op, ouro_fd fd, const struct sockaddr *addr, unsigned addr_size)
{
    address(op, OURO_CONNECT, fd, addr, addr_size);
}

void ouro_prep_listen(ouro_op *op, ouro_fd fd, int backlog)
{
    prepare(op, OURO_LISTEN, fd);
    op->arg[ARG_HOW] = (uint64_t)backlog;
}

void ouro_prep_shutdown(ouro_op *op, ouro_fd fd, int how)
{
    prepare(op, OURO_SHUTDOWN, fd);
    op->arg[ARG_HOW] = (uint64_t)how;
}

static void accepting(ouro_op *op, ouro_fd fd, struct sockaddr *ret_addr, unsigned *ret_size,
                      int flags, uint64_t slot)
{
    address(op, OURO_ACCEPT, fd, ret_addr, pointer_word(ret_size));
    op->arg[ARG_HOW] = (uint64_t)flags;
    op->arg[ARG_SLOT] = slot;
}

void ouro_prep_accept(ouro_op *op, ouro_fd fd, struct sockaddr *ret_addr, unsigned *ret_size,
                      int flags)
{
    accepting(op, fd, ret_addr, ret_size, flags, 0);
}

void ouro_prep_accept_direct(ouro_op *op, ouro_fd fd, struct sockaddr *ret_addr, unsigned *ret_size,
                             int flags, unsigned slot)
{
    accepting(op, fd, ret_addr, ret_size, flags, (uint64_t)slot + 1);
}

void ouro_prep_recv(ouro_op *op, ouro_fd fd, void *buf, size_t len, int flags)
{
    transfer(op, OURO_RECV, fd, buf, len, 0, flags);
}

void ouro_prep_send(ouro_op *op, ouro_fd fd, const void *buf, size_t len, int flags)
{
    transfer(op, OURO_SEND, fd, buf, len, 0, flags);
}

static void message_of(ouro_op *op, enum ouro_code code, ouro_fd fd, const struct msghdr *message,
                       int flags)
{
    prepare(op, code, fd);
    op->arg[ARG_MSGHDR] = pointer_word(message);
    op->arg[ARG_MSG_FLAGS] = (uint64_t)flags;
}

void ouro_prep_recvmsg(ouro_op *op, ouro_fd fd, struct msghdr *message, int flags)
{
    message_of(op, OURO_RECVMSG, fd, message, flags);
}

void ouro_prep_sendmsg(ouro_op *op, ouro_fd fd, const struct msghdr *message, int flags)
{
    message_of(op, OURO_SENDMSG, fd, message, flags);
}

void ouro_prep_accept_many(ouro_op *op, ouro_fd fd, int flags)
{
    accepting(op, fd, NULL, NULL, flags, 0);
    op->code = OURO_ACCEPT_MANY;
    op->arg[ARG_ANY_SLOT] = 0;
}

void ouro_prep_accept_many_direct(ouro_op *op, ouro_fd fd, int flags)
{
    ouro_prep_accept_many(op, fd, flags);
    op->arg[ARG_ANY_SLOT] = 1;
}

void ouro_prep_recv_many(ouro_op *op, ouro_fd fd, ouro_pool *pool, int flags)
{
    prepare(op, OURO_RECV_MANY, fd);
    op->arg[ARG_POOL] = pointer_word(pool);
    op->arg[ARG_MSG_FLAGS] = (uint64_t)flags;
}

/* Rounded up, so that control data lies as its reader wants it. */
void ouro_prep_recvmsg_many(ouro_op *op, ouro_fd fd, ouro_pool *pool, unsigned addr_room,
                            unsigned control_room, int flags)
{
    ouro_prep_recv_many(op, fd, pool, flags);
    op->code = OURO_RECVMSG_MANY;
    op->arg[ARG_ADDR_ROOM] = ((uint64_t)addr_room + 7) & ~(uint64_t)7;
    op->arg[ARG_CONTROL_ROOM] = ((uint64_t)control_room + 7) & ~(uint64_t)7;
}

void ouro_prep_poll_many(ouro_op *op, ouro_fd fd, unsigned events)
{
    ouro_prep_poll(op, fd, events);
    op->code = OURO_POLL_MANY;
}

void ouro_prep_timer_many(ouro_op *op, ouro_time at, ouro_time every)
{
    ouro_prep_timer(op, at);
    op->code = OURO_TIMER_MANY;
    op->arg[ARG_EVERY] = every;
}

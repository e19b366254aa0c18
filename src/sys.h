/* SPDX-License-Identifier: MIT */
/* sys.h: every system call and allocation of the library, in one table.
 *
 * Library code calls sys_NAME(...), which returns the result or -errno and leaves errno as it
 * was. In release builds sys_NAME is the function itself; in test builds (OURO_TESTING) it goes
 * through the table `ouro__sys`, whose entries a test may replace to make the n-th call fail. */
#ifndef OURO_SYS_H
#define OURO_SYS_H

#include <stddef.h>
#include <stdint.h>

#include "ouro.h"

struct aiocb;
struct kaio_control;
struct kaio_event;
struct ring_params;
struct epoll_event;
struct pollfd;
struct sigaction;
struct stat;

/* A leftover of BSD in <signal.h>, in the way of our entry of that name. */
#undef sigmask

/* X(name, parameters, arguments): each is long ouro__do_NAME(parameters), defined in sys.c,
 * which also says where a call is not quite the system's (thread, io_getevents, ppoll, epoll_wait,
 * take_signal, wait_signal, getaddrinfo). aio_*: the C library's own
 * (engine/libc_aio.c): find: -ENOSYS where it cannot be reached; start: what aio_lio_opcode says,
 * or with sync (O_SYNC, O_DSYNC) aio_fsync; result: what the request came to, once, or
 * -EINPROGRESS; suspend: until one of them is over. */
#define SYS_PORTABLE_CALLS(X)                                                                    \
    X(thread, (void **ret, void *(*fn)(void *), void *arg, size_t stack), (ret, fn, arg, stack)) \
    X(join, (void *thread), (thread))

#if !defined(_WIN32)
#define SYS_POSIX_CALLS(X)                                                                       \
    X(io_uring_setup, (unsigned entries, struct ring_params *params), (entries, params))         \
    X(io_uring_enter,                                                                            \
      (int fd, unsigned submit, unsigned min, unsigned flags, const void *arg, size_t size),     \
      (fd, submit, min, flags, arg, size))                                                       \
    X(io_uring_register, (int fd, unsigned code, const void *arg, unsigned count),               \
      (fd, code, arg, count))                                                                    \
    X(io_setup, (unsigned count, unsigned long *ret), (count, ret))                              \
    X(io_submit, (unsigned long context, long count, struct kaio_control *batch[]),              \
      (context, count, batch))                                                                   \
    X(io_getevents, (unsigned long context, long most, struct kaio_event *ret),                  \
      (context, most, ret))                                                                      \
    X(io_destroy, (unsigned long context), (context))                                            \
    X(mmap, (void **ret, size_t len, int prot, int flags, int fd, int64_t offset),               \
      (ret, len, prot, flags, fd, offset))                                                       \
    X(munmap, (void *at, size_t len), (at, len))                                                 \
    X(madvise, (void *at, size_t len, int advice), (at, len, advice))                            \
    X(eventfd, (unsigned start, int flags), (start, flags))                                      \
    X(pipe2, (int fds[2], int flags), (fds, flags))                                              \
    X(read, (int fd, void *buf, size_t len), (fd, buf, len))                                     \
    X(write, (int fd, const void *buf, size_t len), (fd, buf, len))                              \
    X(pread, (int fd, void *buf, size_t len, int64_t offset), (fd, buf, len, offset))            \
    X(pwrite, (int fd, const void *buf, size_t len, int64_t offset), (fd, buf, len, offset))     \
    X(preadv2, (int fd, const struct iovec *iov, int count, int64_t offset, int flags),          \
      (fd, iov, count, offset, flags))                                                           \
    X(pwritev2, (int fd, const struct iovec *iov, int count, int64_t offset, int flags),         \
      (fd, iov, count, offset, flags))                                                           \
    X(recv, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags))                   \
    X(send, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags))             \
    X(recvmsg, (int fd, void *msghdr, int flags), (fd, msghdr, flags))                           \
    X(sendmsg, (int fd, const void *msghdr, int flags), (fd, msghdr, flags))                     \
    X(socket, (int domain, int type, int protocol), (domain, type, protocol))                    \
    X(bind, (int fd, const void *addr, unsigned size), (fd, addr, size))                         \
    X(listen, (int fd, int backlog), (fd, backlog))                                              \
    X(connect, (int fd, const void *addr, unsigned size), (fd, addr, size))                      \
    X(accept4, (int fd, void *ret_addr, unsigned *ret_size, int flags),                          \
      (fd, ret_addr, ret_size, flags))                                                           \
    X(shutdown, (int fd, int how), (fd, how))                                                    \
    X(getsockopt, (int fd, int level, int option, void *ret, unsigned *ret_size),                \
      (fd, level, option, ret, ret_size))                                                        \
    X(getaddrinfo,                                                                               \
      (const char *host, const char *service, const void *hints, void **ret, int *ret_code),     \
      (host, service, hints, ret, ret_code))                                                     \
    X(lseek, (int fd, int64_t offset, int whence), (fd, offset, whence))                         \
    X(fsync, (int fd), (fd))                                                                     \
    X(fdatasync, (int fd), (fd))                                                                 \
    X(openat, (int dir, const char *path, int flags, unsigned mode), (dir, path, flags, mode))   \
    X(openat2, (int dir, const char *path, int flags, unsigned mode, uint64_t resolve),          \
      (dir, path, flags, mode, resolve))                                                         \
    X(close, (int fd), (fd))                                                                     \
    X(statx, (int dir, const char *path, int flags, unsigned mask, void *ret),                   \
      (dir, path, flags, mask, ret))                                                             \
    X(fstat, (int fd, struct stat *ret), (fd, ret))                                              \
    X(renameat2, (int od, const char *op, int nd, const char *np, unsigned flags),               \
      (od, op, nd, np, flags))                                                                   \
    X(unlinkat, (int dir, const char *path, int flags), (dir, path, flags))                      \
    X(mkdirat, (int dir, const char *path, unsigned mode), (dir, path, mode))                    \
    X(symlinkat, (const char *target, int dir, const char *path), (target, dir, path))           \
    X(linkat, (int od, const char *op, int nd, const char *np, int flags),                       \
      (od, op, nd, np, flags))                                                                   \
    X(fallocate, (int fd, int mode, int64_t offset, int64_t len), (fd, mode, offset, len))       \
    X(ftruncate, (int fd, int64_t len), (fd, len))                                               \
    X(fadvise, (int fd, int64_t offset, int64_t len, int advice), (fd, offset, len, advice))     \
    X(getdents64, (int fd, void *buf, size_t len), (fd, buf, len))                               \
    X(copy_file_range, (int in, int64_t *io, int out, int64_t *oo, size_t len),                  \
      (in, io, out, oo, len))                                                                    \
    X(splice, (int in, int64_t *io, int out, int64_t *oo, size_t len, unsigned flags),           \
      (in, io, out, oo, len, flags))                                                             \
    X(poll, (struct pollfd * fds, unsigned count, int timeout_ms), (fds, count, timeout_ms))     \
    X(ppoll, (struct pollfd * fds, unsigned count, ouro_time until), (fds, count, until))        \
    X(epoll_create, (int flags), (flags))                                                        \
    X(epoll_ctl, (int epoll, int code, int fd, unsigned events, uint64_t word),                  \
      (epoll, code, fd, events, word))                                                           \
    X(epoll_wait, (int epoll, struct epoll_event *ret, unsigned room, ouro_time until),          \
      (epoll, ret, room, until))                                                                 \
    X(timerfd_create, (int flags), (flags))                                                      \
    X(timerfd_set, (int fd, ouro_time after), (fd, after))                                       \
    X(aio_find, (void), ())                                                                      \
    X(aio_start, (struct aiocb * request, int sync), (request, sync))                            \
    X(aio_result, (struct aiocb * request), (request))                                           \
    X(aio_cancel, (int fd, struct aiocb *request), (fd, request))                                \
    X(aio_suspend, (const struct aiocb *const *requests, unsigned count), (requests, count))     \
    X(wait4, (int pid, int *status, int options), (pid, status, options))                        \
    X(pidfd_open, (int pid), (pid))                                                              \
    X(capget, (uint64_t * ret_permitted), (ret_permitted))                                       \
    X(fcntl, (int fd, int command, long arg), (fd, command, arg))                                \
    X(sigaction, (int signo, const struct sigaction *action, struct sigaction *old),             \
      (signo, action, old))                                                                      \
    X(sigmask, (int how, const void *set, void *old), (how, set, old))                           \
    X(take_signal, (int signo), (signo))                                                         \
    X(wait_signal, (uint64_t signals, struct ouro_signal * ret, int wait), (signals, ret, wait)) \
    X(signalfd, (uint64_t signals, int flags), (signals, flags))                                 \
    X(signal_thread, (void *thread, int signo), (thread, signo))
#else
#define SYS_POSIX_CALLS(X)
#endif

#define SYS_CALLS(X) SYS_PORTABLE_CALLS(X) SYS_POSIX_CALLS(X)

#define SYS_DECLARE(name, parameters, arguments) long ouro__do_##name parameters;
SYS_CALLS(SYS_DECLARE)
#undef SYS_DECLARE

/* As realloc; size 0 frees and returns NULL. */
void *ouro__do_realloc(void *old, size_t size);
/* Monotonic nanoseconds; and the same at a quarter of the cost, up to a timer tick (10 ms) late. */
ouro_time ouro__do_now(void);
ouro_time ouro__do_coarse_now(void);

#if defined(OURO_TESTING)
struct ouro__sys {
#define SYS_FIELD(name, parameters, arguments) long(*name) parameters;
    SYS_CALLS(SYS_FIELD)
#undef SYS_FIELD
    void *(*realloc)(void *old, size_t size);
    ouro_time (*now)(void);
    ouro_time (*coarse_now)(void);
};
extern struct ouro__sys ouro__sys;
#define SYS_INLINE(name, parameters, arguments) \
    static inline long sys_##name parameters    \
    {                                           \
        return ouro__sys.name arguments;        \
    }
static inline void *sys_realloc(void *old, size_t size)
{
    return ouro__sys.realloc(old, size);
}
static inline ouro_time sys_now(void)
{
    return ouro__sys.now();
}
static inline ouro_time sys_coarse_now(void)
{
    return ouro__sys.coarse_now();
}
#else
#define SYS_INLINE(name, parameters, arguments) \
    static inline long sys_##name parameters    \
    {                                           \
        return ouro__do_##name arguments;       \
    }
static inline void *sys_realloc(void *old, size_t size)
{
    return ouro__do_realloc(old, size);
}
static inline ouro_time sys_now(void)
{
    return ouro__do_now();
}
static inline ouro_time sys_coarse_now(void)
{
    return ouro__do_coarse_now();
}
#endif
SYS_CALLS(SYS_INLINE)
#undef SYS_INLINE

#endif

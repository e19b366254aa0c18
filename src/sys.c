/* SPDX-License-Identifier: MIT */
/* sys.c: the system calls of sys.h: each returns its result or -errno and leaves errno as it
 * was.
 *
 * What libraries lack or wrap differently (glibc and musl do not agree on preadv2, statx,
 * renameat2 and the younger calls) goes by number (syscall.h). Under Windows only
 * threads, memory and the clock exist here. 32-bit builds need -D_FILE_OFFSET_BITS=64, for all
 * files. */
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A library's pthread_t travels as the pointer-sized word that sys_thread gives out. */
_Static_assert(sizeof(pthread_t) <= sizeof(void *), "pthread_t fits a pointer");

#if !defined(_WIN32)
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "syscall.h"

/* From 5.1 on new calls have the same number everywhere (but on alpha). */
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* The older ones have one number on x86-64, and one on everything that came after 2010. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define PICK(x86_64, generic) x86_64
#elif defined(__aarch64__) || defined(__riscv) || defined(__loongarch__)
#define PICK(x86_64, generic) generic
#endif
#ifdef PICK
#ifndef SYS_preadv2
#define SYS_preadv2 PICK(327, 286)
#define SYS_pwritev2 PICK(328, 287)
#endif
#ifndef SYS_statx
#define SYS_statx PICK(332, 291)
#endif
#ifndef SYS_copy_file_range
#define SYS_copy_file_range PICK(326, 285)
#endif
#ifndef SYS_renameat2
#define SYS_renameat2 PICK(316, 276)
#endif
#endif

/* poll(2) in parts, where it takes no more: how many entries, and how often they are looked at. */
#define PART 64u
#define PART_PAUSE_NS (10 * OURO_MS)
/* Descriptors up to 65,535 can be waited for without poll(2). */
#define LONG_BITS (8 * sizeof(unsigned long))
#define SELECT_WORDS (65536 / LONG_BITS)

#define CAPABILITIES_VERSION 0x20080522u /* sets of 64 bits */

/* What openat2 takes. */
struct open_how {
    uint64_t flags, mode, resolve;
};

static long settle(long result, int saved)
{
    if (result < 0)
        result = -errno;
    errno = saved;
    return result;
}

/* The arguments of return are evaluated while errno may change; `saved` is read before. */
#define RETURN(call)   \
    int saved = errno; \
    return settle((long)(call), saved)

long ouro__do_io_uring_setup(unsigned entries, struct ring_params *params)
{
    return OURO__SYSCALL(SYS_io_uring_setup, entries, params);
}

long ouro__do_io_uring_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                             size_t size)
{
    return OURO__SYSCALL(SYS_io_uring_enter, fd, submit, min, flags, arg, size);
}

long ouro__do_io_uring_register(int fd, unsigned code, const void *arg, unsigned count)
{
    return OURO__SYSCALL(SYS_io_uring_register, fd, code, arg, count);
}

long ouro__do_io_setup(unsigned count, unsigned long *ret)
{
    return OURO__SYSCALL(SYS_io_setup, count, ret);
}

long ouro__do_io_submit(unsigned long context, long count, struct kaio_control *batch[])
{
    return OURO__SYSCALL(SYS_io_submit, context, count, batch);
}

/* Never waits. Some new 32-bit machines have only a younger form of it. */
long ouro__do_io_getevents(unsigned long context, long most, struct kaio_event *ret)
{
#ifdef SYS_io_getevents
    static const int64_t no_time[2];

    return OURO__SYSCALL(SYS_io_getevents, context, 0L, most, ret, no_time);
#else
    (void)context, (void)most, (void)ret;
    return -ENOSYS;
#endif
}

long ouro__do_io_destroy(unsigned long context)
{
    return OURO__SYSCALL(SYS_io_destroy, context);
}

long ouro__do_mmap(void **ret, size_t len, int prot, int flags, int fd, int64_t offset)
{
    int saved = errno;
    void *at = mmap(NULL, len, prot, flags, fd, (off_t)offset);

    if (at == MAP_FAILED)
        return settle(-1, saved);
    *ret = at;
    return 0;
}

long ouro__do_munmap(void *at, size_t len)
{
    RETURN(munmap(at, len));
}

long ouro__do_madvise(void *at, size_t len, int advice)
{
    RETURN(madvise(at, len, advice));
}

long ouro__do_eventfd(unsigned start, int flags)
{
    RETURN(eventfd(start, flags));
}

long ouro__do_pipe2(int fds[2], int flags)
{
    RETURN(pipe2(fds, flags));
}

long ouro__do_read(int fd, void *buf, size_t len)
{
    RETURN(read(fd, buf, len));
}

long ouro__do_write(int fd, const void *buf, size_t len)
{
    RETURN(write(fd, buf, len));
}

long ouro__do_pread(int fd, void *buf, size_t len, int64_t offset)
{
    RETURN(pread(fd, buf, len, (off_t)offset));
}

long ouro__do_pwrite(int fd, const void *buf, size_t len, int64_t offset)
{
    RETURN(pwrite(fd, buf, len, (off_t)offset));
}

/* The kernel takes the offset as two longs: on 64-bit machines the first is all of it, and the
 * second is shifted out. */
#define HALVES(offset) (long)(offset), (long)((uint64_t)(offset) >> 32)

/* Emulators of user space know neither: without flags the older calls do the same. */
long ouro__do_preadv2(int fd, const struct iovec *iov, int count, int64_t offset, int flags)
{
    long r = OURO__SYSCALL(SYS_preadv2, fd, iov, count, HALVES(offset), flags);

    if (r != -ENOSYS || flags)
        return r;
    return offset == OURO_CUR ? OURO__SYSCALL(SYS_readv, fd, iov, count)
                              : OURO__SYSCALL(SYS_preadv, fd, iov, count, HALVES(offset));
}

long ouro__do_pwritev2(int fd, const struct iovec *iov, int count, int64_t offset, int flags)
{
    long r = OURO__SYSCALL(SYS_pwritev2, fd, iov, count, HALVES(offset), flags);

    if (r != -ENOSYS || flags)
        return r;
    return offset == OURO_CUR ? OURO__SYSCALL(SYS_writev, fd, iov, count)
                              : OURO__SYSCALL(SYS_pwritev, fd, iov, count, HALVES(offset));
}

/* The library's functions are cancellation points, which cost more than all else around the call:
 * what is called once for each message goes by number where that is simple. */
long ouro__do_recv(int fd, void *buf, size_t len, int flags)
{
#if defined(__LP64__) && defined(SYS_recvfrom)
    return OURO__SYSCALL(SYS_recvfrom, fd, buf, len, flags);
#else
    RETURN(recv(fd, buf, len, flags));
#endif
}

long ouro__do_send(int fd, const void *buf, size_t len, int flags)
{
#if defined(__LP64__) && defined(SYS_sendto)
    return OURO__SYSCALL(SYS_sendto, fd, buf, len, flags);
#else
    RETURN(send(fd, buf, len, flags));
#endif
}

long ouro__do_recvmsg(int fd, void *msghdr, int flags)
{
    RETURN(recvmsg(fd, msghdr, flags));
}

long ouro__do_sendmsg(int fd, const void *msghdr, int flags)
{
    RETURN(sendmsg(fd, msghdr, flags));
}

long ouro__do_socket(int domain, int type, int protocol)
{
    RETURN(socket(domain, type, protocol));
}

long ouro__do_bind(int fd, const void *addr, unsigned size)
{
    RETURN(bind(fd, addr, size));
}

long ouro__do_listen(int fd, int backlog)
{
    RETURN(listen(fd, backlog));
}

long ouro__do_connect(int fd, const void *addr, unsigned size)
{
    RETURN(connect(fd, addr, size));
}

long ouro__do_accept4(int fd, void *ret_addr, unsigned *ret_size, int flags)
{
    RETURN(accept4(fd, ret_addr, ret_size, flags));
}

long ouro__do_shutdown(int fd, int how)
{
    RETURN(shutdown(fd, how));
}

long ouro__do_getsockopt(int fd, int level, int option, void *ret, unsigned *ret_size)
{
    RETURN(getsockopt(fd, level, option, ret, ret_size));
}

/* Positions beyond long (32-bit) come back as its greatest; callers here ask only whether there
 * is one. */
long ouro__do_lseek(int fd, int64_t offset, int whence)
{
    int saved = errno;
    off_t at = lseek(fd, (off_t)offset, whence);

    return settle(at > LONG_MAX ? LONG_MAX : (long)at, saved);
}

long ouro__do_fsync(int fd)
{
    RETURN(fsync(fd));
}

long ouro__do_fdatasync(int fd)
{
    RETURN(fdatasync(fd));
}

long ouro__do_openat(int dir, const char *path, int flags, unsigned mode)
{
    RETURN(openat(dir, path, flags, mode));
}

/* openat2 refuses what openat ignores: a mode without a file to be made, and O_LARGEFILE with
 * O_PATH, which 32-bit libraries add by themselves to openat. */
long ouro__do_openat2(int dir, const char *path, int flags, unsigned mode, uint64_t resolve)
{
    struct open_how how = { .flags = (uint32_t)flags, .resolve = resolve };

    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
        how.mode = mode & 07777;
    if (!(flags & O_PATH))
        how.flags |= O_LARGEFILE;
    return OURO__SYSCALL(SYS_openat2, dir, path, &how, sizeof(how));
}

long ouro__do_close(int fd)
{
    RETURN(close(fd));
}

long ouro__do_statx(int dir, const char *path, int flags, unsigned mask, void *ret)
{
    return OURO__SYSCALL(SYS_statx, dir, path, flags, mask, ret);
}

long ouro__do_fstat(int fd, struct stat *ret)
{
    RETURN(fstat(fd, ret));
}

long ouro__do_renameat2(int od, const char *op, int nd, const char *np, unsigned flags)
{
    return OURO__SYSCALL(SYS_renameat2, od, op, nd, np, flags);
}

long ouro__do_unlinkat(int dir, const char *path, int flags)
{
    RETURN(unlinkat(dir, path, flags));
}

long ouro__do_mkdirat(int dir, const char *path, unsigned mode)
{
    RETURN(mkdirat(dir, path, (mode_t)mode));
}

long ouro__do_symlinkat(const char *target, int dir, const char *path)
{
    RETURN(symlinkat(target, dir, path));
}

long ouro__do_linkat(int od, const char *op, int nd, const char *np, int flags)
{
    RETURN(linkat(od, op, nd, np, flags));
}

long ouro__do_fallocate(int fd, int mode, int64_t offset, int64_t len)
{
    RETURN(fallocate(fd, mode, (off_t)offset, (off_t)len));
}

long ouro__do_ftruncate(int fd, int64_t len)
{
    RETURN(ftruncate(fd, (off_t)len));
}

long ouro__do_fadvise(int fd, int64_t offset, int64_t len, int advice)
{
    int saved = errno;
    int r = posix_fadvise(fd, (off_t)offset, (off_t)len, advice); /* answers the errno itself */

    errno = saved;
    return -r;
}

long ouro__do_getdents64(int fd, void *buf, size_t len)
{
    return OURO__SYSCALL(SYS_getdents64, fd, buf, len);
}

long ouro__do_copy_file_range(int in, int64_t *io, int out, int64_t *oo, size_t len)
{
    return OURO__SYSCALL(SYS_copy_file_range, in, io, out, oo, len);
}

long ouro__do_splice(int in, int64_t *io, int out, int64_t *oo, size_t len, unsigned flags)
{
    return OURO__SYSCALL(SYS_splice, in, io, out, oo, len, flags);
}

/* What is left until a time of the monotonic clock; NULL: for ever. */
static const struct timespec *left_until(ouro_time until, struct timespec *ret)
{
    ouro_time now = until == OURO_FOREVER || until == OURO_NOWAIT ? 0 : ouro__do_now();

    *ret = (struct timespec){ 0, 0 };
    if (until > now && until != OURO_NOWAIT) {
        ret->tv_sec = (time_t)((until - now) / 1000000000u);
        ret->tv_nsec = (long)((until - now) % 1000000000u);
    }
    return until == OURO_FOREVER ? NULL : ret;
}

/* One entry by select(2), which says of an error or a hang-up only that a read or a write would not
 * wait. */
static long select_one(struct pollfd *one, const struct timespec *left)
{
    unsigned long in[SELECT_WORDS], out[SELECT_WORDS], odd[SELECT_WORDS];
    unsigned at = (unsigned)one->fd / LONG_BITS, words = at + 1;
    unsigned long bit = 1ul << ((unsigned)one->fd % LONG_BITS);
    long r;

    one->revents = 0;
    if (one->fd < 0)
        return pselect(0, NULL, NULL, NULL, left, NULL);
    if (words > SELECT_WORDS) { /* nothing can wait for it */
        one->revents = POLLNVAL;
        return 1;
    }
    memset(in, 0, words * sizeof(*in));
    memset(out, 0, words * sizeof(*out));
    memset(odd, 0, words * sizeof(*odd));
    in[at] = one->events & (POLLIN | POLLRDNORM) || !one->events ? bit : 0;
    out[at] = one->events & (POLLOUT | POLLWRNORM) ? bit : 0;
    odd[at] = one->events & POLLPRI ? bit : 0;
    r = pselect(one->fd + 1, (fd_set *)(void *)in, (fd_set *)(void *)out, (fd_set *)(void *)odd,
                left, NULL);
    if (r < 0 && errno == EBADF)
        one->revents = POLLNVAL;
    if (r > 0 && in[at])
        one->revents |= one->events ? one->events & (POLLIN | POLLRDNORM) : POLLHUP;
    if (r > 0 && out[at])
        one->revents |= one->events & (POLLOUT | POLLWRNORM);
    if (r > 0 && odd[at])
        one->revents |= POLLPRI;
    return one->revents ? 1 : r;
}

/* A few entries at once, as many as the limit allows. */
static long poll_parts(struct pollfd *fds, unsigned count, const struct timespec *left)
{
    struct rlimit limit = { PART, PART };
    unsigned part;
    long ready = 0;

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    part = limit.rlim_cur < PART ? (unsigned)limit.rlim_cur : PART;
    for (unsigned i = 0; i < count; i += part ? part : 1) {
        unsigned n = count - i < part ? count - i : part;
        long r = part ? ppoll(fds + i, n, left, NULL) : select_one(fds + i, left);

        if (r < 0)
            return r;
        ready += r;
    }
    return ready;
}

/* poll(2) refuses more entries than RLIMIT_NOFILE, which a program may have lowered below what is
 * open, and larger sets when memory is short: then entries are looked at in parts, again and again,
 * with a short sleep on the first alone. */
static long poll_patiently(struct pollfd *fds, unsigned count, ouro_time until)
{
    static const struct timespec none;
    struct timespec left;
    long r;

    for (;;) {
        ouro_time soon = ouro__do_now() + PART_PAUSE_NS;

        r = poll_parts(fds, count, &none);
        if (r || until == OURO_NOWAIT)
            return r;
        if (until != OURO_FOREVER && until <= soon - PART_PAUSE_NS)
            return 0;
        if (until != OURO_FOREVER && until < soon)
            soon = until;
        r = poll_parts(fds, 1, left_until(soon, &left));
        if (r < 0)
            return r;
    }
}

/* `until` is a time of the monotonic clock, OURO_NOWAIT or OURO_FOREVER: what is left of it is
 * found anew with each call, so that a caller may simply repeat it after -EINTR. */
static long poll_until(struct pollfd *fds, unsigned count, ouro_time until)
{
    struct timespec left;
    long r = ppoll(fds, count, left_until(until, &left), NULL);

    if (r < 0 && count && (errno == EINVAL || errno == ENOMEM))
        r = poll_patiently(fds, count, until);
    return r;
}

long ouro__do_poll(struct pollfd *fds, unsigned count, int timeout_ms)
{
    ouro_time until = timeout_ms ? OURO_FOREVER : OURO_NOWAIT;

    if (timeout_ms > 0)
        until = ouro__do_now() + (ouro_time)timeout_ms * OURO_MS;
    RETURN(poll_until(fds, count, until));
}

long ouro__do_ppoll(struct pollfd *fds, unsigned count, ouro_time until)
{
    RETURN(poll_until(fds, count, until));
}

long ouro__do_epoll_create(int flags)
{
    RETURN(epoll_create1(flags));
}

long ouro__do_epoll_ctl(int epoll, int code, int fd, unsigned events, uint64_t word)
{
    struct epoll_event event = { .events = events, .data.u64 = word };

    RETURN(epoll_ctl(epoll, code, fd, &event));
}

/* As much of the time until then as an int of milliseconds holds, rounded up. */
static int ms_until(ouro_time until)
{
    ouro_time now, ms;

    if (until == OURO_FOREVER || until == OURO_NOWAIT)
        return until == OURO_FOREVER ? -1 : 0;
    now = ouro__do_now();
    ms = until > now ? (until - now + OURO_MS - 1) / OURO_MS : 0;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* `until` as for ppoll: to the nanosecond from Linux 5.11 on, unless a filter of system calls does
 * not know the call. */
long ouro__do_epoll_wait(int epoll, struct epoll_event *ret, unsigned room, ouro_time until)
{
    static _Atomic bool coarse;
    struct timespec left;
    struct {
        int64_t seconds, ns;
    } wide;
    long r;

    if (until != OURO_FOREVER && until != OURO_NOWAIT &&
        !atomic_load_explicit(&coarse, memory_order_relaxed)) {
        left_until(until, &left);
        wide.seconds = left.tv_sec;
        wide.ns = left.tv_nsec;
        r = OURO__SYSCALL(SYS_epoll_pwait2, epoll, ret, room, &wide);
        if (r != -ENOSYS && r != -EPERM)
            return r;
        atomic_store_explicit(&coarse, true, memory_order_relaxed);
    }
    RETURN(epoll_wait(epoll, ret, (int)room, ms_until(until)));
}

long ouro__do_timerfd_create(int flags)
{
    RETURN(timerfd_create(CLOCK_MONOTONIC, flags));
}

/* Once, so long from now; 0: never. */
long ouro__do_timerfd_set(int fd, ouro_time after)
{
    struct itimerspec once = { .it_value = { .tv_sec = (time_t)(after / OURO_S),
                                             .tv_nsec = (long)(after % OURO_S) } };

    RETURN(timerfd_settime(fd, 0, &once, NULL));
}

long ouro__do_wait4(int pid, int *status, int options)
{
    RETURN(wait4(pid, status, options, NULL));
}

long ouro__do_pidfd_open(int pid)
{
    return OURO__SYSCALL(SYS_pidfd_open, pid);
}

long ouro__do_capget(uint64_t *ret_permitted)
{
    struct {
        uint32_t version;
        int pid;
    } header = { CAPABILITIES_VERSION, 0 };
    struct {
        uint32_t effective, permitted, inheritable;
    } sets[2] = { { 0 } }; /* the lower half, the upper half */
    long r = OURO__SYSCALL(SYS_capget, &header, sets);

    if (r == 0)
        *ret_permitted = sets[0].permitted | (uint64_t)sets[1].permitted << 32;
    return r;
}

long ouro__do_fcntl(int fd, int command, long arg)
{
    RETURN(fcntl(fd, command, arg));
}

long ouro__do_sigaction(int signo, const struct sigaction *action, struct sigaction *old)
{
    RETURN(sigaction(signo, action, old));
}

/* By the library, never the raw call: it keeps the signals that the library itself needs. */
long ouro__do_sigmask(int how, const void *set, void *old)
{
    return -pthread_sigmask(how, set, old);
}

/* *ret_code: of a failure, the library's own EAI_...; -EIO stands for all but EAI_SYSTEM. */
long ouro__do_getaddrinfo(const char *host, const char *service, const void *hints, void **ret,
                          int *ret_code)
{
    struct addrinfo *list = NULL;
    int saved = errno, code = getaddrinfo(host, service, hints, &list);
    long r = code == EAI_SYSTEM ? -errno : code ? -EIO : 0;

    errno = saved;
    if (code)
        *ret_code = code;
    else
        *ret = list;
    return r;
}

/* Takes one signal that is pending for this thread, which blocks it; -EAGAIN: none is. */
long ouro__do_take_signal(int signo)
{
    static const struct timespec none;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signo);
    RETURN(sigtimedwait(&set, NULL, &none));
}

static int set_of(uint64_t signals, sigset_t *ret)
{
    int saved = errno, r = 0;

    sigemptyset(ret);
    for (int signo = 1; signals; signo++, signals >>= 1)
        if (signals & 1 && sigaddset(ret, signo) < 0)
            r = -EINVAL; /* the library keeps it for itself */
    errno = saved;
    return r;
}

/* One of the set, bit signo - 1 each; -EAGAIN: none is pending, and wait is 0. */
long ouro__do_wait_signal(uint64_t signals, struct ouro_signal *ret, int wait)
{
    static const struct timespec none;
    siginfo_t info;
    sigset_t set;
    int saved = errno, r = set_of(signals, &set);

    if (r < 0)
        return r;
    r = wait ? sigwaitinfo(&set, &info) : sigtimedwait(&set, &info, &none);
    r = r < 0 ? -errno : r;
    errno = saved;
    if (r > 0 && ret)
        *ret = (struct ouro_signal){
            .signo = r,
            .code = info.si_code,
            .pid = info.si_pid,
            .status = r == SIGCHLD ? info.si_status : 0,
            .uid = info.si_uid,
            .value = r == SIGCHLD ? 0 : (uintptr_t)info.si_value.sival_ptr,
        };
    return r;
}

long ouro__do_signalfd(uint64_t signals, int flags)
{
    sigset_t set;
    int r = set_of(signals, &set);

    if (r < 0)
        return r;
    RETURN(signalfd(-1, &set, flags));
}

long ouro__do_signal_thread(void *thread, int signo)
{
    pthread_t id;

    memcpy(&id, &thread, sizeof(id));
    return -pthread_kill(id, signo);
}
#endif

static int create(void **ret, void *(*fn)(void *), void *arg, size_t stack)
{
    pthread_attr_t attr;
    pthread_t id;
    int r = pthread_attr_init(&attr);

    if (r)
        return r;
    if (stack)
        pthread_attr_setstacksize(&attr, stack); /* refused: the system's own size will do */
    r = pthread_create(&id, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    /* glibc takes thread-local data off the stack, and says EINVAL when none is left. */
    if (r == EINVAL && stack)
        r = pthread_create(&id, NULL, fn, arg);
    if (r == 0) {
        *ret = NULL;
        memcpy(ret, &id, sizeof(id));
    }
    return r;
}

/* A joinable thread with all signals blocked. *ret is its pthread_t, copied into a pointer: give
 * it to sys_join once. */
long ouro__do_thread(void **ret, void *(*fn)(void *), void *arg, size_t stack)
{
    int saved = errno, r;
#if !defined(_WIN32)
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
#endif
    r = create(ret, fn, arg, stack);
#if !defined(_WIN32)
    pthread_sigmask(SIG_SETMASK, &old, NULL);
#endif
    errno = saved;
    return -r;
}

long ouro__do_join(void *thread)
{
    pthread_t id;

    memcpy(&id, &thread, sizeof(id));
    return -pthread_join(id, NULL);
}

void *ouro__do_realloc(void *old, size_t size)
{
    int saved = errno;
    void *at = NULL;

    if (size)
        at = realloc(old, size);
    else
        free(old);
    errno = saved;
    return at;
}

#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif

static ouro_time look_at(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now); /* cannot fail, and does not enter the kernel */
    return (ouro_time)now.tv_sec * 1000000000u + (ouro_time)now.tv_nsec;
}

ouro_time ouro__do_now(void)
{
    return look_at(CLOCK_MONOTONIC);
}

ouro_time ouro__do_coarse_now(void)
{
    return look_at(CLOCK_MONOTONIC_COARSE);
}

#if defined(OURO_TESTING)
struct ouro__sys ouro__sys = {
#define ENTRY(name, parameters, arguments) .name = ouro__do_##name,
    SYS_CALLS(ENTRY)
#undef ENTRY
        .realloc = ouro__do_realloc,
    .now = ouro__do_now,
    .coarse_now = ouro__do_coarse_now,
};
#endif

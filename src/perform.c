/* SPDX-License-Identifier: MIT */
/* perform.c: what each operation means: one step of it as system calls on the calling thread.
 *
 * Workers run these with PERFORM_BLOCK; engines that know readiness only, with PERFORM_TRY,
 * which never waits for another process, a device that may stay silent, or a peer. What a try
 * answers:
 *
 *   -EAGAIN, ready_ != 0   when ouro__ready_fd(op) shows these bits a new try is worth it
 *   -EAGAIN, ready_ == 0   this is the result: the caller asked for it (RWF_NOWAIT, OURO_FDMODE)
 *   -EOPNOTSUPP            only an attempt that may block can tell
 *
 * SIGPIPE never reaches the calling thread: MSG_NOSIGNAL on sockets, RWF_NOSIGNAL on pipes where
 * the kernel knows it. Elsewhere the signal is raised where it is blocked, and taken away again:
 * on workers, whose threads block all signals, or for the one call (`quiet_begin`). */
#include "core.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8
#endif
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100 /* Linux 6.18 */
#endif
#define STATX_ALL_OF_OURS 0xfffu /* basic fields and birth time */
#define FROM_CACHE 0x20u         /* RESOLVE_CACHED */
#define NONBLOCK_SPLICE 2u       /* SPLICE_F_NONBLOCK */
#define COPY_CHUNK (64u * 1024)
#define ALWAYS (POLLERR | POLLHUP) /* poll(2) reports these unasked */

/* ---- What this kernel can do ---------------------------------------------------------------- */

/* Whether a pipe can be written without SIGPIPE is asked once per process, of a pipe of our own. */
bool ouro__has_nosignal(void)
{
    static _Atomic int known; /* 0: not asked yet; 1: yes; -1: no */
    int fds[2], answer = atomic_load_explicit(&known, memory_order_relaxed);
    struct iovec one = { &answer, 1 };

    if (answer)
        return answer > 0;
    if (sys_pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return false; /* asked again the next time */
    answer = sys_pwritev2(fds[1], &one, 1, OURO_CUR, RWF_NOSIGNAL) == 1 ? 1 : -1;
    sys_close(fds[0]);
    sys_close(fds[1]);
    atomic_store_explicit(&known, answer, memory_order_relaxed);
    return answer > 0;
}

/* config.mask pretends capabilities away. */
static bool masked(const ouro_op *op, uint64_t cap)
{
    return op->loop_ && op->loop_->mask & cap;
}

/* ---- Signals that a write may raise --------------------------------------------------------- */

struct quiet {
    sigset_t before;
    bool ours;    /* the mask was changed */
    bool pending; /* one was there already: it stays */
};

/* Blocks SIGPIPE for one call, where the thread is not a worker, which blocks all signals
 * anyway. */
static void quiet_begin(const ouro_op *op, struct quiet *quiet)
{
    sigset_t one;

    quiet->ours = !(op->notes_ & NOTE_POOLED);
    quiet->pending = false;
    if (!quiet->ours)
        return;
    sigpending(&one);
    quiet->pending = sigismember(&one, SIGPIPE) > 0;
    sigemptyset(&one);
    sigaddset(&one, SIGPIPE);
    sys_sigmask(SIG_BLOCK, &one, &quiet->before);
}

static int64_t quiet_end(struct quiet *quiet, int64_t res)
{
    if (res == -EPIPE && !quiet->pending)
        sys_take_signal(SIGPIPE);
    if (quiet->ours)
        sys_sigmask(SIG_SETMASK, &quiet->before, NULL);
    return res;
}

/* A file that would grow over RLIMIT_FSIZE raises SIGXFSZ, which must not linger on a worker. */
static int64_t file_limit(const ouro_op *op, int64_t res)
{
    if (res == -EFBIG && op->notes_ & NOTE_POOLED)
        sys_take_signal(SIGXFSZ);
    return res;
}

/* ---- Readiness ------------------------------------------------------------------------------ */

int64_t ouro__poll_one(int fd, short events, int timeout_ms)
{
    struct pollfd one = { .fd = fd, .events = events };
    long r = sys_poll(&one, 1, timeout_ms);

    if (r <= 0)
        return r;
    return one.revents & POLLNVAL ? -EBADF : (uint16_t)one.revents;
}

int64_t ouro__not_ready(ouro_op *op, short events)
{
    op->ready_ = (uint16_t)events | (uint32_t)ALWAYS;
    return -EAGAIN;
}

/* ---- Reads and writes ------------------------------------------------------------------------ */

/* One transfer: which way, between what. */
struct transfer {
    struct ouro__span span;
    int fd;
    bool writes;
    short events; /* what it waits for */
};

static int64_t by_flags(const struct transfer *t, int flags)
{
    const struct iovec one = { t->span.ptr, t->span.len };
    const struct iovec *iov = t->span.single ? &one : t->span.iov;
    int count = t->span.single ? 1 : (int)t->span.count;
    int64_t r = t->writes ? sys_pwritev2(t->fd, iov, count, t->span.offset, flags)
                          : sys_preadv2(t->fd, iov, count, t->span.offset, flags);

    return r == -ENOSYS ? -EOPNOTSUPP : r; /* who does not know the call knows no flag */
}

static int64_t plain(const struct transfer *t)
{
    const struct ouro__span *span = &t->span;

    if (!span->single || span->rwf)
        return by_flags(t, span->rwf);
    if (span->offset == OURO_CUR)
        return t->writes ? sys_write(t->fd, span->ptr, span->len)
                         : sys_read(t->fd, span->ptr, span->len);
    return t->writes ? sys_pwrite(t->fd, span->ptr, span->len, span->offset)
                     : sys_pread(t->fd, span->ptr, span->len, span->offset);
}

static int64_t on_socket(const struct transfer *t, int flags)
{
    const struct ouro__span *span = &t->span;
    struct msghdr message = { 0 };

    if (span->single)
        return t->writes ? sys_send(t->fd, span->ptr, span->len, flags | MSG_NOSIGNAL)
                         : sys_recv(t->fd, span->ptr, span->len, flags);
    message.msg_iov = (struct iovec *)(uintptr_t)span->iov;
    message.msg_iovlen = span->count;
    return t->writes ? sys_sendmsg(t->fd, &message, flags | MSG_NOSIGNAL)
                     : sys_recvmsg(t->fd, &message, flags);
}

/* read(2) of nothing, and writev(2) of nothing, touch no socket: recv and sendmsg would. */
static bool may_be_socket(const struct transfer *t)
{
    size_t bytes = t->span.single ? t->span.len : 0;

    if (t->span.rwf & ~(RWF_NOWAIT | RWF_NOSIGNAL))
        return false;
    for (unsigned i = 0; !t->span.single && !bytes && i < t->span.count; i++)
        bytes = t->span.iov[i].iov_len;
    return bytes > 0 || (t->writes && t->span.single);
}

/* A write to what is no socket, blocking as its descriptor says. */
static int64_t write_quietly(const ouro_op *op, const struct transfer *t)
{
    struct quiet quiet;
    int64_t r = -EOPNOTSUPP;

    if (!masked(op, OURO_CAP_NOSIGNAL) && ouro__has_nosignal())
        r = by_flags(t, t->span.rwf | RWF_NOSIGNAL);
    if (r != -EOPNOTSUPP)
        return r;
    quiet_begin(op, &quiet);
    return quiet_end(&quiet, plain(t));
}

/* A stream, waiting as long as it takes: what O_NONBLOCK refuses is waited for by poll(2). A signal
 * (workers_cancel sends one) ends either call. */
static int64_t stream_block(const ouro_op *op, const struct transfer *t)
{
    bool socket = may_be_socket(t), patient = !(t->span.rwf & RWF_NOWAIT);
    int64_t r;

    for (;;) {
        r = socket ? on_socket(t, patient ? 0 : MSG_DONTWAIT) : -ENOTSOCK;
        if (r == -ENOTSOCK) {
            socket = false;
            r = t->writes ? write_quietly(op, t) : plain(t);
        }
        if (r != -EAGAIN || !patient)
            return r;
        if (op->flags & OURO_FDMODE && ouro__fd_nonblocking(t->fd))
            return r;
        r = ouro__poll_one(t->fd, t->events, -1);
        if (r < 0)
            return r;
    }
}

/* -EAGAIN of a try: a result where the caller wants it, else a wish. */
static int64_t would_block(ouro_op *op, const struct transfer *t)
{
    if (t->span.rwf & RWF_NOWAIT || (op->flags & OURO_FDMODE && ouro__fd_nonblocking(t->fd)))
        return -EAGAIN;
    return ouro__not_ready(op, t->events);
}

/* Terminals, and pipes of old kernels, know no RWF_NOWAIT. With O_NONBLOCK a plain call is as good;
 * without, it would block if somebody else is quicker, so that even a ready one is for a worker. */
static int64_t stream_try_old(ouro_op *op, const struct transfer *t)
{
    int64_t r;

    if (ouro__fd_nonblocking(t->fd)) {
        if (t->writes && !(op->notes_ & NOTE_POOLED)) {
            if (masked(op, OURO_CAP_NOSIGNAL) || !ouro__has_nosignal())
                return -EOPNOTSUPP;
            r = by_flags(t, t->span.rwf | RWF_NOSIGNAL);
        } else {
            r = plain(t);
        }
        return r == -EAGAIN ? would_block(op, t) : r;
    }
    r = ouro__poll_one(t->fd, t->events, 0);
    if (r < 0)
        return r;
    return r ? -EOPNOTSUPP : would_block(op, t);
}

static int64_t stream_try(ouro_op *op, const struct transfer *t)
{
    int flags = t->span.rwf | RWF_NOWAIT;
    int64_t r = may_be_socket(t) ? on_socket(t, MSG_DONTWAIT) : -ENOTSOCK;

    if (r == -ENOTSOCK) {
        bool quiet = !t->writes || (!masked(op, OURO_CAP_NOSIGNAL) && ouro__has_nosignal());

        if (t->writes)
            flags |= RWF_NOSIGNAL;
        r = quiet && !masked(op, OURO_CAP_NOWAIT) ? by_flags(t, flags) : -EOPNOTSUPP;
        if (r == -EOPNOTSUPP)
            return stream_try_old(op, t);
    }
    return r == -EAGAIN ? would_block(op, t) : r;
}

/* A file with positions. What is not in memory is for a worker. */
static int64_t file_try(const ouro_op *op, const struct transfer *t)
{
    int64_t r;

    if (masked(op, OURO_CAP_NOWAIT))
        return -EOPNOTSUPP;
    r = by_flags(t, t->span.rwf | RWF_NOWAIT);
    if (r == -EAGAIN && !(t->span.rwf & RWF_NOWAIT))
        return -EOPNOTSUPP;
    return r;
}

static int64_t move_bytes(ouro_op *op, unsigned how, struct transfer *t)
{
    if (!(op->notes_ & NOTE_STREAM)) {
        int64_t r = how == PERFORM_TRY ? file_try(op, t) : -ESPIPE;

        if (how == PERFORM_BLOCK && t->span.offset != OURO_CUR)
            r = file_limit(op, plain(t));
        else if (how == PERFORM_BLOCK) /* may be a stream that nobody has looked at */
            return file_limit(op, stream_block(op, t));
        if (r != -ESPIPE)
            return r;
        op->notes_ |= NOTE_STREAM;
        t->span.offset = OURO_CUR;
    }
    return how == PERFORM_TRY ? stream_try(op, t) : stream_block(op, t);
}

static int64_t perform_transfer(ouro_op *op, unsigned how)
{
    struct transfer t = {
        .span = { .single = true, .offset = OURO_CUR },
        .fd = ouro__fd(op),
        .writes = ouro__kinds[op->code].traits & KIND_WRITES,
    };

    t.events = t.writes ? POLLOUT : POLLIN;
    if (!ouro__span_of(op, &t.span) && op->done_)
        return 0;
    return move_bytes(op, how, &t);
}

/* ---- Files and names ------------------------------------------------------------------------ */

/* With O_NONBLOCK, so that a FIFO never waits for its other end; the core takes it off again. A
 * leased file then answers -EAGAIN instead of waiting for the lease's end: it is no FIFO. */
static int64_t perform_open(ouro_op *op, unsigned how)
{
    int asked = ouro__int(op, ARG_FLAGS) | O_CLOEXEC;
    int flags = asked & O_PATH ? asked : asked | O_NONBLOCK;
    unsigned mode = (unsigned)op->arg[ARG_MODE];
    const char *path = ouro__ptr(op, ARG_PATH);
    int64_t r;

    if (how == PERFORM_TRY) {
        if (masked(op, OURO_CAP_CACHED))
            return -EOPNOTSUPP;
        r = sys_openat2((int)op->fd, path, flags, mode, FROM_CACHE);
        /* -EINVAL: flags that openat(2) lets pass. */
        if (r == -EAGAIN || r == -ENOSYS || r == -EINVAL || r == -EPERM)
            return -EOPNOTSUPP;
    } else {
        r = sys_openat((int)op->fd, path, flags, mode);
        if (r == -EAGAIN && flags != asked)
            return sys_openat((int)op->fd, path, asked, mode);
    }
    if (r >= 0 && flags != asked)
        op->notes_ |= NOTE_UNBLOCK;
    return r;
}

static int64_t perform_stat(const ouro_op *op)
{
    struct ouro_stat *ret = ouro__ptr(op, ARG_STAT);

    memset(ret, 0, sizeof(*ret)); /* older kernels know fewer fields */
    return sys_statx((int)op->fd, ouro__ptr(op, ARG_PATH), ouro__int(op, ARG_FLAGS),
                     STATX_ALL_OF_OURS, ret);
}

/* Linux has closed it when it says EINTR; a second close might hit somebody else's descriptor. */
static int64_t perform_close(const ouro_op *op)
{
    long r = sys_close(ouro__fd(op));

    return r == -EINTR ? 0 : r;
}

static int64_t perform_readdir(const ouro_op *op)
{
    size_t len = (size_t)op->arg[ARG_LEN];

    return sys_getdents64(ouro__fd(op), ouro__ptr(op, ARG_BUF),
                          len < OURO__STEP_MAX ? len : OURO__STEP_MAX);
}

/* ---- Copy ----------------------------------------------------------------------------------- */

/* What is left of a copy or splice: offsets and bytes. */
struct pair {
    int in, out;
    int64_t in_at, out_at;
    int64_t *in_ptr, *out_ptr; /* to the two above, or NULL: the file's own position */
    size_t len;
};

static void pair_of(const ouro_op *op, struct pair *pair)
{
    uint64_t left = op->arg[ARG_LEN] - (uint64_t)op->done_;

    pair->in = ouro__fd(op);
    pair->out = ouro__int(op, 0);
    pair->in_at = (int64_t)op->arg[ARG_IN_OFFSET];
    pair->out_at = (int64_t)op->arg[ARG_OUT_OFFSET];
    pair->in_ptr = pair->in_at == OURO_CUR ? NULL : &pair->in_at;
    pair->out_ptr = pair->out_at == OURO_CUR ? NULL : &pair->out_at;
    if (pair->in_ptr)
        pair->in_at += op->done_;
    if (pair->out_ptr)
        pair->out_at += op->done_;
    pair->len = left < OURO__STEP_MAX ? (size_t)left : OURO__STEP_MAX;
}

static bool same_file(const struct pair *pair)
{
    struct stat a, b;

    return sys_fstat(pair->in, &a) == 0 && sys_fstat(pair->out, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int64_t step(ouro_op *op, int fd, bool writes, void *buf, size_t len, int64_t offset)
{
    struct transfer t = {
        .span = { .single = true, .ptr = buf, .len = len, .offset = offset },
        .fd = fd,
        .writes = writes,
        .events = writes ? POLLOUT : POLLIN,
    };
    uint16_t notes = op->notes_;
    int64_t r;

    op->notes_ &= (uint16_t)~NOTE_STREAM; /* says something of op->fd alone */
    r = move_bytes(op, PERFORM_BLOCK, &t);
    op->notes_ = notes;
    return r;
}

/* Writes all of it unless that fails. What a stream gave is in nobody's hand but ours, so that an
 * interruption must not lose it. */
static int64_t write_all(ouro_op *op, struct pair *pair, char *buf, size_t len, bool keep)
{
    size_t done = 0;

    while (done < len) {
        int64_t at = pair->out_ptr ? pair->out_at + (int64_t)done : OURO_CUR;
        int64_t r = step(op, pair->out, true, buf + done, len - done, at);

        if (r == -EINTR && keep)
            continue;
        if (r <= 0)
            return done ? (int64_t)done : r ? r : -EIO;
        done += (size_t)r;
    }
    return (int64_t)done;
}

/* What has no position gives its bytes only once, whatever offset was named and whatever lseek
 * says. */
static bool is_stream(int fd)
{
    struct iovec none = { NULL, 0 };

    return sys_preadv2(fd, &none, 1, 0, 0) == -ESPIPE;
}

/* One chunk by reading and writing. From a file it is read at its position, which moves by what
 * was written; from a stream only when the output has room, and no more than a pipe then takes
 * at once. */
static int64_t copy_chunk(ouro_op *op, struct pair *pair, size_t len)
{
    char buf[COPY_CHUNK];
    bool stream = is_stream(pair->in);
    int64_t at = pair->in_ptr ? pair->in_at : stream ? OURO_CUR : sys_lseek(pair->in, 0, SEEK_CUR);
    int64_t got, put;

    if (len > sizeof(buf))
        len = sizeof(buf);
    if (stream) {
        got = ouro__poll_one(pair->out, POLLOUT, -1);
        if (got < 0)
            return got;
        if (len > 4096)
            len = 4096;
        at = OURO_CUR;
    }
    got = step(op, pair->in, false, buf, len, at);
    if (got <= 0)
        return got;
    put = write_all(op, pair, buf, (size_t)got, stream);
    if (put > 0 && pair->in_ptr && !stream)
        pair->in_at += put;
    else if (put > 0 && !stream)
        sys_lseek(pair->in, put, SEEK_CUR);
    if (put > 0 && pair->out_ptr)
        pair->out_at += put;
    return put;
}

/* Goes on while whole chunks come: a shorter one is the end, or all that a stream has now. */
static int64_t copy_by_hand(ouro_op *op, struct pair *pair)
{
    size_t done = 0;
    int64_t r = 0;

    while (done < pair->len) {
        size_t left = pair->len - done;

        r = copy_chunk(op, pair, left);
        if (r <= 0)
            break;
        done += (size_t)r;
        if ((size_t)r < (left < COPY_CHUNK ? left : COPY_CHUNK))
            break;
    }
    return done ? (int64_t)done : r;
}

static int64_t perform_copy(ouro_op *op)
{
    struct pair pair;
    int64_t r;

    pair_of(op, &pair);
    if (!pair.len)
        return 0;
    r = sys_copy_file_range(pair.in, pair.in_ptr, pair.out, pair.out_ptr, pair.len);
    switch (r) {
    case 0:      /* files of /proc seem empty: only reading tells */
    case -EBADF: /* also said for O_APPEND; else reading or writing will say it again */
    case -EXDEV:
    case -ENOSYS:
    case -EOPNOTSUPP:
    case -EPERM: /* filters of system calls */ break;
    case -EINVAL:
        if (same_file(&pair)) /* overlapping parts */
            return r;
        break;
    default: return file_limit(op, r);
    }
    return copy_by_hand(op, &pair);
}

/* ---- Splice --------------------------------------------------------------------------------- */

/* Which side keeps a splice waiting? 0: none that poll(2) knows of. */
static int64_t splice_waits(ouro_op *op, const struct pair *pair, int *ret_fd)
{
    int64_t r = ouro__poll_one(pair->in, POLLIN, 0);

    *ret_fd = pair->in;
    if (r < 0)
        return r;
    op->notes_ &= (uint16_t)~NOTE_AUX;
    if (r == 0)
        return POLLIN;
    *ret_fd = pair->out;
    r = ouro__poll_one(pair->out, POLLOUT, 0);
    if (r != 0)
        return r < 0 ? r : 0;
    op->notes_ |= NOTE_AUX;
    op->aux_fd_ = pair->out;
    return POLLOUT;
}

/* A try only looks whether both sides are ready: even what does not wait for a pipe or a peer
 * may wait for the disk that a file is on. */
static int64_t splice_try(ouro_op *op, const struct pair *pair)
{
    int fd;
    int64_t r = splice_waits(op, pair, &fd);

    if (r < 0)
        return r;
    return r ? ouro__not_ready(op, (short)r) : -EOPNOTSUPP;
}

static int64_t perform_splice(ouro_op *op, unsigned how)
{
    unsigned flags = (unsigned)op->arg[ARG_RWF];
    struct quiet quiet;
    struct pair pair;
    int64_t r;
    int fd;

    pair_of(op, &pair);
    if (!pair.len)
        return 0;
    if (how == PERFORM_TRY)
        return flags & NONBLOCK_SPLICE ? -EOPNOTSUPP : splice_try(op, &pair);
    for (;;) {
        pair_of(op, &pair); /* the call may have moved the offsets */
        quiet_begin(op, &quiet);
        r = quiet_end(&quiet,
                      sys_splice(pair.in, pair.in_ptr, pair.out, pair.out_ptr, pair.len, flags));
        if (r != -EAGAIN || flags & NONBLOCK_SPLICE)
            return file_limit(op, r);
        r = splice_waits(op, &pair, &fd);
        if (r < 0)
            return r;
        /* O_NONBLOCK of a descriptor. Both sides ready, and yet not: look again a little later. */
        r = r ? ouro__poll_one(fd, (short)r, -1) : ouro__poll_one(-1, 0, 1);
        if (r < 0)
            return r;
    }
}

/* ---- Poll, processes, work ------------------------------------------------------------------ */

static int64_t perform_poll(ouro_op *op, unsigned how)
{
    short events = (short)(uint16_t)op->arg[ARG_EVENTS];
    int64_t r = ouro__poll_one(ouro__fd(op), events, how == PERFORM_TRY ? 0 : -1);

    return r == 0 ? ouro__not_ready(op, events) : r;
}

/* On a descriptor made for it; without one, a worker waits. */
static int64_t wait_on(ouro_op *op, long fd)
{
    if (fd < 0)
        return -EOPNOTSUPP;
    op->aux_fd_ = (int32_t)fd;
    op->notes_ |= NOTE_AUX | NOTE_AUX_OURS;
    return ouro__not_ready(op, POLLIN);
}

/* A pidfd shows an end, nothing else; and only one process has one. */
static int64_t perform_waitpid(ouro_op *op, unsigned how)
{
    int pid = ouro__int(op, ARG_PID), options = ouro__int(op, ARG_OPTIONS);
    int64_t r =
        sys_wait4(pid, ouro__ptr(op, ARG_STATUS), how == PERFORM_TRY ? options | WNOHANG : options);

    if (r != 0 || how == PERFORM_BLOCK || options & WNOHANG)
        return r;
    if (op->notes_ & NOTE_AUX_OURS)
        return ouro__not_ready(op, POLLIN);
    if (pid <= 0 || options & (WUNTRACED | WCONTINUED) || masked(op, OURO_CAP_PIDFD))
        return -EOPNOTSUPP;
    return wait_on(op, sys_pidfd_open(pid));
}

/* Signals are taken by a call; the descriptor only shows that there are some. */
static int64_t perform_signal(ouro_op *op, unsigned how)
{
    uint64_t signals = op->arg[ARG_SIGNALS];
    int64_t r = sys_wait_signal(signals, ouro__ptr(op, ARG_SIGNAL), how == PERFORM_BLOCK);

    if (r != -EAGAIN || how == PERFORM_BLOCK)
        return r;
    if (op->notes_ & NOTE_AUX_OURS)
        return ouro__not_ready(op, POLLIN);
    return wait_on(op, sys_signalfd(signals, O_CLOEXEC | O_NONBLOCK));
}

static int64_t perform_work(const ouro_op *op)
{
    int64_t (*fn)(void *) = (int64_t(*)(void *))(uintptr_t)op->arg[ARG_FN];

    return fn(ouro__ptr(op, ARG_FN_ARG));
}

/* Nothing may look like a wish to be asked again, or like a deadline. */
static int64_t lookup_error(int64_t error, int code)
{
    switch (code) {
#ifdef EAI_NODATA
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
#endif
    case EAI_NONAME:
    case EAI_SERVICE: return -ENOENT;
    case EAI_AGAIN: return -EHOSTUNREACH;
    case EAI_BADFLAGS:
    case EAI_FAMILY:
    case EAI_SOCKTYPE: return -EINVAL;
    case EAI_MEMORY: return -ENOMEM;
    case EAI_SYSTEM:
        return error == -EAGAIN || error == -EINTR || error == -ETIMEDOUT ? -EHOSTUNREACH : error;
    default: return -EIO;
    }
}

static int64_t perform_resolve(ouro_op *op)
{
    void **ret = ouro__ptr(op, ARG_LIST);
    void *list;
    int code;
    int64_t r = sys_getaddrinfo(ouro__ptr(op, ARG_HOST), ouro__ptr(op, ARG_SERVICE),
                                ouro__ptr(op, ARG_HINTS), &list, &code);

    if (r < 0) {
        op->cause = code;
        return lookup_error(r, code);
    }
    *ret = list;
    return 0;
}

/* What only a call that may block can do. */
static int64_t perform_call(ouro_op *op)
{
    int dir = (int)op->fd, fd = ouro__fd(op), dir2 = ouro__int(op, 0);
    const char *path = ouro__ptr(op, ARG_PATH);
    int64_t at = (int64_t)op->arg[ARG_AT], size = (int64_t)op->arg[ARG_SIZE];

    switch (op->code) {
    case OURO_FSYNC: return op->arg[ARG_DATASYNC] ? sys_fdatasync(fd) : sys_fsync(fd);
    case OURO_CLOSE: return perform_close(op);
    case OURO_STAT: return perform_stat(op);
    case OURO_RENAME:
        return sys_renameat2(dir, path, dir2, ouro__ptr(op, ARG_PATH2),
                             (unsigned)op->arg[ARG_FLAGS]);
    case OURO_UNLINK: return sys_unlinkat(dir, path, ouro__int(op, ARG_FLAGS));
    case OURO_MKDIR: return sys_mkdirat(dir, path, (unsigned)op->arg[ARG_MODE]);
    case OURO_SYMLINK: return sys_symlinkat(ouro__ptr(op, ARG_TARGET), dir, path);
    case OURO_LINK:
        return sys_linkat(dir, path, dir2, ouro__ptr(op, ARG_PATH2), ouro__int(op, ARG_FLAGS));
    case OURO_FALLOCATE:
        return file_limit(op, sys_fallocate(fd, ouro__int(op, ARG_ADVICE), at, size));
    case OURO_FTRUNCATE: return file_limit(op, sys_ftruncate(fd, size));
    case OURO_FADVISE: return sys_fadvise(fd, at, size, ouro__int(op, ARG_ADVICE));
    case OURO_READDIR: return perform_readdir(op);
    case OURO_COPY: return perform_copy(op);
    case OURO_WORK: return perform_work(op);
    case OURO_RESOLVE: return perform_resolve(op);
    default: return -EINVAL; /* timers and messages are the core's */
    }
}

int64_t ouro__perform(ouro_op *op, unsigned how)
{
    op->ready_ = 0;
    switch (op->code) {
    case OURO_NOP: return 0;
    case OURO_READ:
    case OURO_WRITE:
    case OURO_READV:
    case OURO_WRITEV: return perform_transfer(op, how);
    case OURO_OPEN: return perform_open(op, how);
    case OURO_SPLICE: return perform_splice(op, how);
    case OURO_POLL:
    case OURO_POLL_MANY: return perform_poll(op, how);
    case OURO_WAITPID: return perform_waitpid(op, how);
    case OURO_SIGNAL:
    case OURO_SIGNAL_MANY: return perform_signal(op, how);
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
    case OURO_RECVMSG_MANY: return ouro__perform_socket(op, how);
    default: return how == PERFORM_TRY ? -EOPNOTSUPP : perform_call(op);
    }
}

/* SPDX-License-Identifier: MIT */
/* facts.c: what a descriptor stands for, and operations that are tried on the spot.
 *
 * Facts about a descriptor that the program opened live only while operations of ours are
 * in flight on it, because programs close and reuse numbers behind our back. A stale fact
 * may cost speed, never correctness: nothing that is tried here can wait for ever, whatever
 * the number stands for by now.
 *
 * Cached data is faster by a plain call that refuses to block (RWF_NOWAIT) than through any engine,
 * and so are cached names (RESOLVE_CACHED) where the engine would need a thread to open; what is
 * not cached goes to the engine. After misses the next operations are not tried, in growing number,
 * so that cold files cost little; a turn has a budget, so that hot ones do not keep timers waiting.
 * Files in memory (tmpfs) know no RWF_NOWAIT and are read plainly: io_uring would send each read to
 * a thread, three times slower.
 *
 * Opening and closing may ask the server of a file (FUSE, NFS), and nothing tells beforehand. So
 * these are timed, all that are made in a row together: after slow ones none is tried for a time
 * that grows. */
#include "core.h"

#include <sys/socket.h>
#include <sys/stat.h>

#define TRIES_PER_TURN 256u
#define BYTES_PER_TURN ((size_t)1 << 20)
#define SLOW (10 * OURO_MS) /* more than a tick of the coarse clock, less than anybody notices */
#define PAUSE_FACTOR 32u    /* so at most a 33rd of the time is spent waiting */
#define PAUSE_MOST (3600 * OURO_S)

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#define RESOLVE_FROM_CACHE 0x20u
#define WANTED_FACTS 0x101u /* STATX_TYPE, STATX_INO */
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif
#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#endif

/* What is known of the file without asking the server that it may be on: that could take long. */
static long look_at(int fd, struct ouro_stat *ret)
{
    struct stat st;
    long r = sys_statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, WANTED_FACTS, ret);

    if ((r != -ENOSYS && r != -EPERM) || sys_fstat(fd, &st) < 0)
        return r;
    /* An old seccomp filter that does not know statx. */
    ret->mode = (uint16_t)st.st_mode;
    ret->ino = st.st_ino;
    ret->dev_major = (uint32_t)(st.st_dev >> 8);
    ret->dev_minor = (uint32_t)(st.st_dev & 0xff);
    return 0;
}

/* Only files on tmpfs can have seals. */
static bool in_memory(int fd)
{
    return sys_fcntl(fd, F_GET_SEALS, 0) >= 0;
}

static uint8_t kind_of(int fd)
{
    struct ouro_stat st;
    long flags;

    if (look_at(fd, &st) < 0)
        return FILE_UNKNOWN;
    if (S_ISSOCK(st.mode))
        return FILE_SOCKET;
    if (S_ISFIFO(st.mode))
        return FILE_STREAM;
    if (S_ISCHR(st.mode)) {
        /* Terminals and the like have no position, /dev/zero and friends do. */
        struct iovec none = { NULL, 0 };
        return sys_preadv2(fd, &none, 1, 0, 0) == -ESPIPE ? FILE_STREAM : FILE_OTHER;
    }
    if (!S_ISREG(st.mode) && !S_ISBLK(st.mode))
        return S_ISDIR(st.mode) ? FILE_OTHER : FILE_STREAM; /* eventfd and the like */
    flags = sys_fcntl(fd, F_GETFL, 0);
    if (flags >= 0 && flags & O_DIRECT)
        return FILE_DIRECT;
    return S_ISREG(st.mode) && in_memory(fd) ? FILE_MEMORY : FILE_PLAIN;
}

/* It is looked at if nothing is known of it. NULL: FILE_UNKNOWN. */
uint8_t ouro__file_kind(struct ouro__file *file, int fd)
{
    if (!file)
        return FILE_UNKNOWN;
    /* What was a file in memory likely is one still, and is asked for the proof alone. */
    if (file->kind == FILE_UNKNOWN)
        file->kind = file->memory && in_memory(fd) ? FILE_MEMORY : kind_of(fd);
    return file->kind;
}

/* A socket, pipe, terminal and the like: it has no position, and may have to wait for its peer. */
bool ouro__file_streams(struct ouro__file *file, int fd)
{
    uint8_t kind = ouro__file_kind(file, fd);

    return kind == FILE_STREAM || kind == FILE_SOCKET;
}

bool ouro__fd_nonblocking(int fd)
{
    long flags = sys_fcntl(fd, F_GETFL, 0);

    return flags >= 0 && flags & O_NONBLOCK;
}

/* Takes the O_NONBLOCK away that opening added to the caller's flags. */
void ouro__fd_unblock(int fd, int flags)
{
    sys_fcntl(fd, F_SETFL, (long)flags & ~(long)O_NONBLOCK);
}

void ouro__fd_close(int fd)
{
    sys_close(fd);
}

int ouro__fd_copy(int fd)
{
    return (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return (int64_t)(a ^ a >> 29);
}

/* A copy between plain files ends by itself. */
enum ouro__route ouro__route_copy(ouro_loop *loop, const ouro_op *op)
{
    int fds[2] = { ouro__fd(op), ouro__int(op, 0) };
    struct ouro__file *files[2] = { ouro__file_of(loop, op), ouro__file_at(loop, fds[1]) };

    for (unsigned i = 0; i < 2; i++) {
        uint8_t kind = ouro__file_kind(files[i], fds[i]);

        if (kind == FILE_UNKNOWN || kind >= FILE_STREAM)
            return ROUTE_BLOCKER;
    }
    return ROUTE_WORKER;
}

/* Which file: to notice that a number stands for another one by now. How it was opened does not
 * count: flags change (F_SETFL) while operations wait. */
int64_t ouro__fd_identity(int fd)
{
    struct ouro_stat st;

    if (look_at(fd, &st) < 0)
        return 0;
    return mix((uint64_t)st.dev_major << 32 | st.dev_minor, st.ino);
}

/* The file system that it lies on. */
int ouro__fd_device(int fd, uint64_t *ret)
{
    struct ouro_stat st;
    long r = look_at(fd, &st);

    if (r < 0)
        return (int)r;
    *ret = (uint64_t)st.dev_major << 32 | st.dev_minor;
    return 0;
}

void ouro__dared(ouro_loop *loop, ouro_time since)
{
    struct ouro__patience *patience = &loop->patience;
    ouro_time now = sys_coarse_now(), pause = (now - since) * PAUSE_FACTOR;

    if (now - since <= SLOW) {
        patience->pause = patience->until = 0;
        return;
    }
    if (pause < patience->pause * 2)
        pause = patience->pause * 2;
    patience->pause = pause < PAUSE_MOST ? pause : PAUSE_MOST;
    patience->until = now + patience->pause;
}

/* Begins to time calls that are tried here; ouro__pull_slowly ends it. */
static bool dare_here(ouro_loop *loop)
{
    if (!ouro__dare(loop))
        return false;
    if (!loop->patience.since)
        loop->patience.since = sys_coarse_now();
    return true;
}

/* RWF_NOWAIT does not wait for the page cache, but for the device if the file is O_DIRECT. */
static bool buffered(struct ouro__file *file, int fd)
{
    if (!file->cache) {
        long flags = sys_fcntl(fd, F_GETFL, 0);
        file->cache = flags >= 0 && !(flags & O_DIRECT) ? CACHE_YES : CACHE_NO;
    }
    return file->cache == CACHE_YES;
}

static int64_t read_now(struct ouro__file *file, int fd, const struct ouro__span *span)
{
    struct iovec one = { span->ptr, span->len };
    const struct iovec *iov = span->single ? &one : span->iov;
    int count = span->single ? 1 : (int)span->count;
    int64_t r = -EOPNOTSUPP;

    if (file->kind == FILE_UNKNOWN || file->kind == FILE_PLAIN)
        r = sys_preadv2(fd, iov, count, span->offset, span->rwf | RWF_NOWAIT);
    if (r == -EOPNOTSUPP || r == -ESPIPE)
        (void)ouro__file_kind(file, fd);
    if (file->kind == FILE_MEMORY && span->offset != OURO_CUR)
        r = span->single && !span->rwf ? sys_pread(fd, span->ptr, span->len, span->offset)
                                       : sys_preadv2(fd, iov, count, span->offset, span->rwf);
    return r;
}

/* Short is the end of the file, or of what is cached; another step tells. What was read stays read:
 * the engine goes on behind it. */
static OURO__APART bool try_read(ouro_loop *loop, ouro_op *op, int64_t *ret)
{
    struct ouro__file *file = ouro__file_counted(op);
    struct ouro__span span;
    size_t bytes;

    if (!(loop->caps & OURO_CAP_NOWAIT) || op->arg[ARG_LEN] == 0)
        return false;
    if (file->memory)
        (void)ouro__file_kind(file, ouro__fd(op));
    if (file->kind >= FILE_STREAM)
        return false;
    if (file->kind != FILE_MEMORY &&
        (!ouro__lucky(&loop->luck_read) || !buffered(file, ouro__fd(op))))
        return false;
    while (ouro__span_of(op, &span)) {
        bytes = (size_t)ouro__span_bytes(&span);
        if (loop->try_bytes && loop->try_bytes + bytes > BYTES_PER_TURN)
            return false;
        *ret = read_now(file, ouro__fd(op), &span);
        if (*ret < 0)
            return ouro__missed(&loop->luck_read);
        loop->try_bytes += (size_t)*ret;
        if (*ret == 0 || (size_t)*ret == bytes || file->kind == FILE_MEMORY)
            return ouro__hit(&loop->luck_read);
        op->done_ += *ret;
    }
    *ret = 0;
    return ouro__hit(&loop->luck_read);
}

/* What end_at_once of core.c ends: a read of a file in memory that the loop has opened, or a send,
 * whose bytes are still in the caches. */
bool ouro__try_usual(ouro_loop *loop, const ouro_op *op, const struct ouro__file *file,
                     int64_t *ret)
{
    size_t len = (size_t)op->arg[ARG_LEN];
    void *buf = ouro__ptr(op, ARG_BUF);

    if (!len || loop->try_count >= TRIES_PER_TURN || loop->try_bytes + len > BYTES_PER_TURN)
        return false;
    if (op->code == OURO_SEND)
        *ret = sys_send((int)op->fd, buf, len,
                        ouro__int(op, ARG_MSG_FLAGS) | MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (file->ours == OURS_NAMED && loop->caps & OURO_CAP_NOWAIT && !op->arg[ARG_RWF])
        *ret = sys_pread((int)op->fd, buf, len, (int64_t)op->arg[ARG_OFFSET]);
    else
        return false;
    /* A socket's error is told once. */
    if (*ret < 0 && (op->code != OURO_SEND || *ret == -EAGAIN || *ret == -EINTR))
        return false;
    loop->try_count++;
    loop->try_bytes += *ret > 0 ? (size_t)*ret : 0;
    return true;
}

static OURO__APART bool try_open(ouro_loop *loop, ouro_op *op, int64_t *ret)
{
    int flags = ouro__int(op, ARG_FLAGS);

    if (!ouro__try_names(loop, op) || !dare_here(loop))
        return false;
    *ret = sys_openat2((int)op->fd, ouro__ptr(op, ARG_PATH), flags | O_CLOEXEC | O_NONBLOCK, 0,
                       RESOLVE_FROM_CACHE);
    if (*ret < 0 && *ret != -ENOENT && *ret != -EACCES && *ret != -ENOTDIR && *ret != -ELOOP)
        return ouro__missed(&loop->luck_open);
    if (*ret >= 0 && !(flags & O_NONBLOCK))
        op->notes_ |= NOTE_UNBLOCK;
    return ouro__hit(&loop->luck_open);
}

/* Closing what was only read does not wait for a device, but for a server it may; closing a socket
 * waits for its peer only where the program wishes so. */
static bool closes_at_once(const struct ouro__file *file, int fd)
{
    return file->readonly || (file->ours == OURS_SOCKET && !ouro__fd_lingers(fd));
}

static OURO__APART bool try_close(ouro_loop *loop, ouro_op *op, int64_t *ret)
{
    struct ouro__file *file = ouro__file_counted(op);

    if (!(loop->caps & OURO_CAP_CACHED) || op->flags & OURO_DIRECT ||
        !closes_at_once(file, (int)op->fd) || !dare_here(loop))
        return false;
    *ret = sys_close((int)op->fd);
    if (*ret == -EINTR)
        *ret = 0;
    return true;
}

/* Tries an operation on the spot; true: *ret is its result. */
bool ouro__try(ouro_loop *loop, ouro_op *op, int64_t *ret)
{
    /* An engine that opens by itself looks into the cache as well, and need not take O_NONBLOCK
     * away. */
    if (op->code == OURO_OPEN && op->route_ == ROUTE_ENGINE)
        return false;
    if (op->flags & OURO_BG || op->notes_ & NOTE_NO_TRY || loop->try_count >= TRIES_PER_TURN)
        return false;
    if (op->code == OURO_READ && ouro__file_counted(op)->cache == CACHE_NO)
        return false;
    op->notes_ |= NOTE_NO_TRY;
    loop->try_count++;
    switch (op->code) {
    case OURO_OPEN: return try_open(loop, op, ret);
    case OURO_CLOSE: return try_close(loop, op, ret);
    default: return try_read(loop, op, ret);
    }
}

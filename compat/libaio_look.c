/* SPDX-License-Identifier: MIT */
/* libaio_look.c: whose a request is: the kernel's, which does it without blocking or refuses it, or
 * ours.
 *
 * What is ours must be refused for the same reasons as the kernel would refuse it. Most of them
 * show in the block; for the others the kernel is asked, by a twin of the block that passes all
 * checks but the last one, of its buffer, and so never begins. Every block that is not plainly
 * fine is the kernel's: it says what is wrong, and does not block meanwhile. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifdef __aarch64__
#define ADDRESS_BITS 48
#else
#define ADDRESS_BITS 47
#endif

enum {
    PAGE = 4096,       /* the least that any machine has */
    MEMORY_DEVICE = 1, /* the major number of /dev/null and the like */
    KNOWN = 65536,     /* descriptors */
    NO_SUCH_HOW = 99,
    SIGNALS_SIZE = 8,
};

/* Descriptors that have stood for files with O_DIRECT. A stale one means that the kernel gets what
 * may block there, as it would without us. */
static _Atomic uint64_t direct[KNOWN / 64];

/* ---- Memory of the program's ---------------------------------------------------------------- */

bool laio_plausible(const void *block, size_t size)
{
    const uintptr_t end = (uintptr_t)1 << ADDRESS_BITS;
    uintptr_t at = (uintptr_t)block;

    return at >= PAGE && at < end && size <= end - at;
}

/* The kernel reads a set of signals before it looks at what is to be done with it. */
static bool is_readable(uintptr_t at)
{
    return LAIO_KERNEL(SYS_rt_sigprocmask, NO_SUCH_HOW, at, 0, SIGNALS_SIZE) != -EFAULT;
}

bool laio_readable(const void *at, size_t size)
{
    uintptr_t first = (uintptr_t)at, last = first + size - SIGNALS_SIZE;

    if (!laio_plausible(at, size))
        return false;
    for (uintptr_t probe = first; probe < last; probe += PAGE)
        if (!is_readable(probe))
            return false;
    return (last > first && first / PAGE == (last + SIGNALS_SIZE - 1) / PAGE) || is_readable(last);
}

/* Adds nothing to a word of it. */
static bool is_writable(uintptr_t at)
{
    static uint32_t word;

    return LAIO_KERNEL(SYS_futex, &word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, at,
                       FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

bool laio_writable(void *at, size_t size)
{
    uintptr_t first = (uintptr_t)at, last = first + size - sizeof(uint32_t);

    if (!laio_plausible(at, size) || first % sizeof(uint32_t))
        return false;
    for (uintptr_t probe = first; probe < last; probe += PAGE)
        if (!is_writable(probe))
            return false;
    return (last > first && first / PAGE == last / PAGE) || is_writable(last);
}

static bool is_on_page(const struct iocb *block, uintptr_t page)
{
    uintptr_t at = (uintptr_t)block;

    return page && at / PAGE == page && (at + sizeof(*block) - 1) / PAGE == page;
}

bool laio_can_read(struct laio_look *look, const struct iocb *block)
{
    if (is_on_page(block, look->read))
        return true;
    if (!laio_readable(block, sizeof(*block)))
        return false;
    look->read = (uintptr_t)block / PAGE;
    return true;
}

bool laio_can_write(struct laio_look *look, struct iocb *block)
{
    if (is_on_page(block, look->written))
        return true;
    if (!laio_writable(block, sizeof(*block)))
        return false;
    look->written = (uintptr_t)block / PAGE;
    return true;
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

void laio_look_init(struct laio_look *look, aio_context_t name)
{
    *look = (struct laio_look){ .name = name, .fd = -1, .resfd = -1 };
}

static void note_direct(int fd, bool is_direct)
{
    uint64_t bit = (uint64_t)1 << (fd % 64);

    if (fd >= KNOWN)
        return;
    if (is_direct)
        atomic_fetch_or_explicit(&direct[fd / 64], bit, memory_order_relaxed);
    else if (atomic_load_explicit(&direct[fd / 64], memory_order_relaxed) & bit)
        atomic_fetch_and_explicit(&direct[fd / 64], ~bit, memory_order_relaxed);
}

static bool was_direct(int fd)
{
    return fd < KNOWN &&
           atomic_load_explicit(&direct[fd / 64], memory_order_relaxed) >> (fd % 64) & 1;
}

/* Of a file in memory or behind a driver (/proc) nobody knows what it takes; nor of all that is
 * neither file, pipe nor socket. */
static enum laio_kind kind_of(int fd, int flags, bool *ret_proves)
{
    struct stat info = { 0 };

    if (flags < 0 || flags & O_PATH)
        return LAIO_NOTHING;
    if (flags & O_DIRECT && was_direct(fd))
        return LAIO_QUICK;
    if (LAIO_KERNEL(SYS_fstat, fd, &info) < 0)
        return LAIO_NOTHING;
    switch (info.st_mode & S_IFMT) {
    case S_IFREG:
    case S_IFBLK:
        note_direct(fd, flags & O_DIRECT);
        *ret_proves = S_ISREG(info.st_mode) && major(info.st_dev) == 0;
        return flags & O_DIRECT ? LAIO_QUICK : LAIO_FILE;
    case S_IFIFO: return LAIO_PIPE;
    case S_IFSOCK: return LAIO_SOCKET;
    case S_IFDIR: return LAIO_NOTHING;
    case S_IFCHR:
        if (major(info.st_rdev) == MEMORY_DEVICE)
            return LAIO_QUICK;
        *ret_proves = true;
        return LAIO_STREAM;
    default: *ret_proves = true; return LAIO_STREAM;
    }
}

void laio_look_at(struct laio_look *look, int fd)
{
    look->fd = fd;
    look->flags = (int)LAIO_KERNEL(SYS_fcntl, fd, F_GETFL);
    look->proves = false;
    look->proved = 0;
    look->kind = kind_of(fd, look->flags, &look->proves);
}

/* ---- Requests ------------------------------------------------------------------------------- */

bool laio_writes(const struct iocb *block)
{
    return block->aio_lio_opcode == IOCB_CMD_PWRITE || block->aio_lio_opcode == IOCB_CMD_PWRITEV;
}

bool laio_is_vector(const struct iocb *block)
{
    return block->aio_lio_opcode == IOCB_CMD_PREADV || block->aio_lio_opcode == IOCB_CMD_PWRITEV;
}

static const void *buffer_of(const struct iocb *block)
{
    return (const void *)(uintptr_t)block->aio_buf; // NOLINT(performance-no-int-to-ptr)
}

/* NULL is an address that the kernel takes, and finds to be a bad one later. */
static bool is_buffer(const void *at, size_t size)
{
    return !at || (uintptr_t)at < PAGE ? size <= LONG_MAX / 2 : laio_plausible(at, size);
}

/* The bytes that are to be moved, or -1: the kernel finds something wrong there. */
static int64_t size_of(const struct iocb *block)
{
    const struct iovec *vector = buffer_of(block);
    uint64_t sum = 0;

    if (!laio_is_vector(block))
        return is_buffer(vector, block->aio_nbytes) ? (int64_t)block->aio_nbytes : -1;
    if (block->aio_nbytes > LAIO_VECTOR ||
        !laio_readable(vector, block->aio_nbytes * sizeof(*vector)))
        return -1;
    for (uint64_t i = 0; i < block->aio_nbytes; i++) {
        if (vector[i].iov_len > SSIZE_MAX || !is_buffer(vector[i].iov_base, vector[i].iov_len))
            return -1;
        sum += vector[i].iov_len;
        if (sum > SSIZE_MAX)
            return -1;
    }
    return (int64_t)sum;
}

/* The kernel does it at once, or refuses it. */
static bool is_theirs(const struct laio_look *look, const struct iocb *block)
{
    bool writes = laio_writes(block);
    int64_t size;

    if (look->kind == LAIO_NOTHING || look->kind == LAIO_QUICK ||
        (look->flags & O_ACCMODE) == (writes ? O_RDONLY : O_WRONLY))
        return true;
    if (look->kind == LAIO_SOCKET && block->aio_offset != 0)
        return true;
    if (look->kind != LAIO_FILE && !writes && look->flags & O_NONBLOCK)
        return true;
    size = size_of(block);
    return size <= 0 || block->aio_offset > INT64_MAX - size;
}

/* What the kernel says to all but the buffer, which is one of its own: 0 or -errno. */
static int prove(const struct laio_look *look, const struct iocb *block)
{
    struct iocb twin = *block, *list = &twin;
    long r;

    twin.aio_lio_opcode = laio_writes(block) ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    twin.aio_buf = (uint64_t)1 << 63;
    twin.aio_nbytes = 1;
    r = LAIO_KERNEL(SYS_io_submit, look->name, 1, &list);
    return r == -EFAULT ? 0 : r < 0 ? (int)r : -EINVAL;
}

static bool needs_proof(const struct laio_look *look, const struct iocb *block)
{
    bool tells = block->aio_flags & IOCB_FLAG_RESFD;

    return block->aio_rw_flags || block->aio_flags & LAIO_IOPRIO ||
           (tells && block->aio_resfd != look->resfd) ||
           (look->proves && !(look->proved >> laio_writes(block) & 1));
}

int laio_whose(struct laio_look *look, const struct iocb *block)
{
    int fd = (int)block->aio_fildes, r;

    if (block->aio_lio_opcode != IOCB_CMD_PREAD && block->aio_lio_opcode != IOCB_CMD_PWRITE &&
        !laio_is_vector(block))
        return LAIO_THEIRS; /* also what is synced: the kernel has threads for that */
    if (block->aio_reserved2 || block->aio_nbytes == 0 || block->aio_nbytes > SSIZE_MAX ||
        block->aio_offset < 0 || block->aio_rw_flags & LAIO_NOWAIT || fd < 0)
        return LAIO_THEIRS;
    if (fd != look->fd)
        laio_look_at(look, fd);
    if (is_theirs(look, block))
        return LAIO_THEIRS;
    if (!needs_proof(look, block))
        return LAIO_OURS;
    r = prove(look, block);
    if (r < 0)
        return r;
    look->proved |= 1u << laio_writes(block);
    if (block->aio_flags & IOCB_FLAG_RESFD)
        look->resfd = block->aio_resfd;
    return LAIO_OURS;
}

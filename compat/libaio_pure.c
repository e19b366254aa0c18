/* SPDX-License-Identifier: MIT */
/* libaio_pure.c: contexts without kernel AIO. The ring is memory of the same form, which the
 * program may read, move (mremap) and unmap; ours is another view of it. All requests are ours,
 * and what is wrong with one is found here, in the kernel's order. */
#include "libaio_pure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    COUNT_MOST = 0x10000000 / 64, /* requests of a context, as the kernel has it */
    PER_CPU = 4,
    IDS = 1 << 17,
    LOWEST = 4096,        /* below that the kernel finds nothing later, and does not refuse */
    DEFAULT_MOST = 65536, /* of fs.aio-max-nr */
    RWF_KNOWN = 0x1ff,    /* up to RWF_NOSIGNAL */
    CLASS_SHIFT = 13,
    CLASS_RT = 1,
    CLASS_BEST_EFFORT = 2,
    CLASS_IDLE = 3,
    LEVELS = 8,
};

bool laio_pure_wanted(void)
{
    static _Atomic int wanted; /* -1: no */
    int is = atomic_load_explicit(&wanted, memory_order_relaxed);

    if (!is) {
        const char *word = secure_getenv("OURO_AIO_PURE");

        is = word && *word && strcmp(word, "0") != 0 ? 1 : -1;
        atomic_store(&wanted, is);
    }
    return is > 0;
}

/* ---- The ring ------------------------------------------------------------------------------- */

static unsigned long limit(void)
{
    char text[32] = "";
    int fd = open("/proc/sys/fs/aio-max-nr", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    return size > 0 ? strtoul(text, NULL, 10) : DEFAULT_MOST;
}

static size_t size_of(unsigned count)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), cpus = (size_t)sysconf(_SC_NPROCESSORS_CONF);
    size_t room = count > cpus * PER_CPU ? count : cpus * PER_CPU;
    size_t size = sizeof(struct laio_ring) + (room * 2 + 2) * sizeof(struct io_event);

    return (size + page - 1) / page * page;
}

static size_t mapped(const struct laio_context *context)
{
    return sizeof(struct laio_ring) + ((size_t)context->room + 1) * sizeof(struct io_event);
}

/* With the lock: the lowest that is free, as the kernel has it. */
static uint64_t ids[IDS / 64];

static uint32_t take_id(void)
{
    uint32_t id = 0;

    while (id < IDS - 64 && ids[id / 64] == UINT64_MAX)
        id += 64;
    while (id < IDS - 1 && ids[id / 64] >> (id % 64) & 1)
        id++;
    ids[id / 64] |= (uint64_t)1 << (id % 64);
    return id;
}

int laio_pure_open(struct laio_context *context, unsigned count, uintptr_t *ret_address)
{
    size_t size = size_of(count);
    struct laio_ring *ring;
    void *view = MAP_FAILED;
    int fd;

    if (count > COUNT_MOST)
        return -EINVAL;
    if (count > limit())
        return -EAGAIN;
    fd = memfd_create("ouro-aio", MFD_CLOEXEC);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? -EAGAIN : -ENOMEM;
    ring = ftruncate(fd, (off_t)size) == 0
               ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
               : MAP_FAILED;
    if (ring != MAP_FAILED)
        view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (view == MAP_FAILED) {
        if (ring != MAP_FAILED)
            munmap(ring, size);
        return -ENOMEM;
    }
    ring->id = context->id = take_id();
    ring->count = (uint32_t)((size - sizeof(*ring)) / sizeof(struct io_event));
    ring->magic = LAIO_MAGIC;
    ring->compatible = 1;
    ring->header = sizeof(*ring);
    context->room = ring->count - 1;
    context->ring = ring;
    context->pure = true;
    *ret_address = (uintptr_t)view;
    return 0;
}

void laio_pure_close(struct laio_context *context, uintptr_t address)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (mapped(context) + page - 1) / page * page;

    munmap((void *)address, size); // NOLINT(performance-no-int-to-ptr)
    munmap(context->ring, size);
    ids[context->id / 64] &= ~((uint64_t)1 << (context->id % 64));
    context->ring = NULL;
}

void laio_pure_post(struct laio_context *context, struct laio_request *request)
{
    struct laio_ring *ring = context->ring;
    uint32_t count = context->room + 1, tail = ring->tail % count;
    const uint64_t one = 1;
    bool polled = request->copy.aio_lio_opcode == LAIO_POLL;
    int told = request->hold < 0 ? -1 : laio_held(request->hold);

    ring->events[tail] = (struct io_event){
        .data = request->copy.aio_data,
        .obj = (uintptr_t)request->at,
        .res = polled && request->canceled && request->res < 0 ? 0 : request->res,
    };
    atomic_fetch_add(&context->taken, 1); /* it has a place among the events that nobody has read */
    atomic_store_explicit(&ring->tail, (tail + 1) % count, memory_order_release);
    if (told >= 0)
        (void)LAIO_KERNEL(SYS_write, told, &one, sizeof(one));
    laio_delivered(request);
}

long laio_pure_read(struct laio_context *context, struct io_event *events, long count)
{
    struct laio_ring *ring = context->ring;
    uint32_t places = context->room + 1, tail = ring->tail % places, head = ring->head % places;
    long got = 0;

    if (head != tail && count > 0 && !laio_writable(events, sizeof(*events)))
        return -EFAULT;
    for (; head != tail && got < count; got++) {
        events[got] = ring->events[head];
        head = (head + 1) % places;
    }
    if (got)
        atomic_store_explicit(&ring->head, head, memory_order_release);
    return got;
}

/* ---- What is wrong with a request ----------------------------------------------------------- */

static int check_resfd(const struct iocb *block)
{
    static const char eventfd[] = "anon_inode:[eventfd]";
    char path[64], is[sizeof(eventfd)] = "";

    if (!(block->aio_flags & IOCB_FLAG_RESFD))
        return 0;
    if (fcntl((int)block->aio_resfd, F_GETFD) < 0)
        return -EBADF;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)block->aio_resfd);
    return readlink(path, is, sizeof(is)) == sizeof(eventfd) - 1 &&
                   memcmp(is, eventfd, sizeof(eventfd) - 1) == 0
               ? 0
               : -EINVAL;
}

static int check_priority(const struct iocb *block)
{
    unsigned priority = (uint16_t)block->aio_reqprio, kind = priority >> CLASS_SHIFT;
    unsigned level = priority & ((1u << CLASS_SHIFT) - 1);

    if (!(block->aio_flags & LAIO_IOPRIO))
        return 0;
    if (kind == CLASS_RT && geteuid() != 0)
        return -EPERM;
    if (kind > CLASS_IDLE || (kind == 0 && level))
        return -EINVAL;
    return (kind == CLASS_RT || kind == CLASS_BEST_EFFORT) && (level & 0xff) >= LEVELS ? -EINVAL
                                                                                       : 0;
}

static bool is_user(const void *at, uint64_t size)
{
    return size == 0 || (uintptr_t)at < LOWEST || laio_plausible(at, size);
}

/* The bytes, or -errno. */
static int64_t check_buffer(const struct iocb *block)
{
    const struct iovec *vector = (const void *)(uintptr_t)block->aio_buf; // NOLINT
    uint64_t sum = 0;

    if (!laio_is_vector(block))
        return is_user(vector, block->aio_nbytes) ? (int64_t)block->aio_nbytes : -EFAULT;
    if (block->aio_nbytes > LAIO_VECTOR)
        return -EINVAL;
    if (block->aio_nbytes && !laio_readable(vector, block->aio_nbytes * sizeof(*vector)))
        return -EFAULT;
    for (uint64_t i = 0; i < block->aio_nbytes; i++) {
        if (vector[i].iov_len > SSIZE_MAX)
            return -EINVAL;
        if (!is_user(vector[i].iov_base, vector[i].iov_len))
            return -EFAULT;
        sum += vector[i].iov_len;
    }
    return sum > SSIZE_MAX ? -EINVAL : (int64_t)sum;
}

static int check_transfer(const struct laio_look *look, const struct iocb *block)
{
    int64_t size;
    int r = check_priority(block);

    if (r < 0)
        return r;
    if (block->aio_rw_flags & ~RWF_KNOWN)
        return -EOPNOTSUPP;
    if ((look->flags & O_ACCMODE) == (laio_writes(block) ? O_RDONLY : O_WRONLY))
        return -EBADF;
    if (look->kind == LAIO_NOTHING) /* a directory */
        return -EINVAL;
    size = check_buffer(block);
    if (size < 0)
        return (int)size;
    return block->aio_offset < 0 || block->aio_offset > INT64_MAX - size ? -EINVAL : 0;
}

static int check_sync(const struct laio_look *look, const struct iocb *block)
{
    bool none = look->kind == LAIO_PIPE || look->kind == LAIO_SOCKET || look->kind == LAIO_STREAM;

    return none || block->aio_buf || block->aio_offset || block->aio_nbytes || block->aio_rw_flags
               ? -EINVAL
               : 0;
}

static int check_poll(const struct iocb *block)
{
    return block->aio_offset || block->aio_nbytes || block->aio_rw_flags ||
                   block->aio_buf > UINT16_MAX
               ? -EINVAL
               : 0;
}

static int check(const struct laio_look *look, const struct iocb *block)
{
    switch (block->aio_lio_opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITEV: return check_transfer(look, block);
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC: return check_sync(look, block);
    case LAIO_POLL: return check_poll(block);
    default: return -EINVAL;
    }
}

/* ---- Submitting ----------------------------------------------------------------------------- */

/* With the lock. 0 or -errno, in the kernel's order. */
static int accept_one(struct laio_context *context, struct laio_look *look, struct iocb *block,
                      bool listed, struct laio_request **ret)
{
    int r;

    if (block->aio_reserved2 || block->aio_nbytes > SSIZE_MAX || atomic_load(&context->dying))
        return -EINVAL;
    if (laio_unread(context) + context->undelivered >= context->room)
        return -EAGAIN;
    if ((int)block->aio_fildes != look->fd)
        laio_look_at(look, (int)block->aio_fildes);
    if ((int)block->aio_fildes < 0 || look->flags < 0 || look->flags & O_PATH)
        return -EBADF;
    r = check_resfd(block);
    if (r == 0)
        r = laio_clear_key(look, block);
    if (r == 0)
        r = check(look, block);
    return r < 0 ? r : laio_accept(context, look, block, listed, ret);
}

/* 0 or -errno: then it has never been. */
static int begin(struct laio_context *context, ouro_loop *loop, struct laio_look *look,
                 struct iocb *block, bool listed)
{
    struct laio_request *request;
    ouro_op *op;
    int r;

    if (!laio_readable(block, sizeof(*block)))
        return -EFAULT;
    aio_lock();
    r = accept_one(context, look, block, listed, &request);
    aio_unlock();
    if (r < 0)
        return r;
    op = &request->op;
    if (look->kind == LAIO_SOCKET && block->aio_offset && request->copy.aio_lio_opcode != LAIO_POLL)
        r = -ESPIPE;
    else
        r = laio_submit_ops(loop, context, &op, 1);
    if (r == -EAGAIN || r == -ENOMEM) {
        aio_lock();
        if (request->begun)
            stats_refused();
        laio_unbegun(request);
        aio_unlock();
        return -EAGAIN;
    }
    if (r < 0)
        laio_finish(request, r);
    return 0;
}

long laio_pure_submit(struct laio_context *context, long count, struct iocb **blocks)
{
    struct laio_look look;
    struct aio_shield old;
    ouro_loop *loop;
    long done = 0;
    int r = 0, saved = errno;

    if (count < 0)
        return -EINVAL;
    aio_shield(&old);
    if (count > 0)
        r = aio_start(&loop);
    laio_look_init(&look, 0);
    for (; r == 0 && done < count && done < (long)context->room; done += r == 0)
        r = laio_readable(blocks + done, sizeof(*blocks))
                ? begin(context, loop, &look, blocks[done], count > 1)
                : -EFAULT;
    aio_unshield(&old);
    errno = saved;
    return done ? done : r;
}

int laio_pure_cancel(struct laio_context *context, const struct iocb *block)
{
    struct laio_request *request;
    struct aio_shield old;
    ouro_loop *loop;
    int r = -EINVAL;

    aio_shield(&old);
    if (aio_start(&loop) == 0) {
        aio_lock();
        request = laio_find_poll(context, block);
        if (request) {
            r = laio_cancel_op(loop, request) < 0 ? -EINVAL : -EINPROGRESS;
        }
        aio_unlock();
    }
    aio_unshield(&old);
    return r;
}

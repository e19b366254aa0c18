/* SPDX-License-Identifier: MIT */
/*
 * Opening, waiting on, resizing and closing one raw io_uring; the queues themselves are in ring.h.
 *
 * Most of this file is about refusal: getting the best ring that this kernel and these limits
 * allow, and saying in plain words why there is none. System calls go through sys.h; the few direct
 * ones only ask the process about itself.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../dropin.h"
#include "../sys.h"
#include "../syscall.h"
#include "refusal.h"

#define SECOND_NS 1000000000ull
#define NSIG_BYTES 8u /* of the kernel's signal set */
#define SHORTAGE_PAUSE_MS 50

/* Flags that change the layout or the ownership of the ring's memory, which this file knows in one
 * shape only. The last two came with 6.19: entries of mixed sizes, and queues without counters. */
#define SETUP_FOREIGN                                                                            \
    (RING_SETUP_SQE128 | RING_SETUP_CQE32 | RING_SETUP_NO_MMAP | RING_SETUP_REGISTERED_FD_ONLY | \
     RING_SETUP_CQE_MIXED | (3u << 19))

/* ---- why there is no ring */

static unsigned long limit_of(int resource)
{
    struct rlimit limit = { 0, 0 };
    int saved = errno;

    (void)getrlimit(resource, &limit);
    errno = saved;
    return (unsigned long)limit.rlim_cur;
}

static void kernel_release(struct utsname *ret)
{
    int saved = errno;

    memset(ret, 0, sizeof(*ret));
    (void)uname(ret);
    errno = saved;
}

static void explain_refusal(const char *call, int error, char *why, size_t size)
{
    int64_t disabled = ouro__number_in("/proc/sys/kernel/io_uring_disabled"); /* from 6.6 on */
    const char *name = ouro__error_name(error);

    if (disabled == 2)
        snprintf(why, size,
                 "%s failed with %s: the sysctl kernel.io_uring_disabled is 2, off for everybody; "
                 "as root run: sysctl kernel.io_uring_disabled=0",
                 call, name);
    else if (disabled == 1 && !ouro__seccomp_filtered())
        snprintf(
            why, size,
            "%s failed with %s: the sysctl kernel.io_uring_disabled is 1, for CAP_SYS_ADMIN and "
            "the group of kernel.io_uring_group only; join that group, or as root run: "
            "sysctl kernel.io_uring_disabled=0",
            call, name);
    else if (ouro__seccomp_filtered())
        snprintf(
            why, size,
            "%s failed with %s: a seccomp filter is in force and most likely refuses it, as the "
            "default profiles of container runtimes do; run with a profile that allows "
            "io_uring_setup, io_uring_enter and io_uring_register",
            call, name);
    else
        snprintf(why, size,
                 "%s failed with %s: probably refused by a security module (SELinux, AppArmor, "
                 "lockdown); see the kernel's log",
                 call, name);
}

static void explain_missing(const char *call, char *why, size_t size)
{
    struct utsname system;

    kernel_release(&system);
    if (ouro__seccomp_filtered())
        snprintf(
            why, size,
            "%s failed with ENOSYS: a seccomp filter is in force and most likely hides it; run "
            "with a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
            call);
    else
        snprintf(why, size,
                 "%s failed with ENOSYS: kernel %s is older than 5.15 or was built without "
                 "CONFIG_IO_URING; use a newer kernel",
                 call, system.release);
}

static void explain(const char *call, int error, char *why, size_t size)
{
    struct utsname system;

    switch (error) {
    case EPERM:
    case EACCES: explain_refusal(call, error, why, size); break;
    case ENOSYS: explain_missing(call, why, size); break;
    case ENOMEM:
        if (limit_of(RLIMIT_MEMLOCK) == (unsigned long)RLIM_INFINITY)
            snprintf(why, size,
                     "%s failed with ENOMEM even for a ring of %d entries: the system is "
                     "short of memory, or a memory cgroup is at its limit",
                     call, RING_ENTRIES_MIN);
        else
            snprintf(
                why, size,
                "%s failed with ENOMEM even for a ring of %d entries: this user's rings together "
                "may lock %lu KiB of memory; close some or raise it (ulimit -l, LimitMEMLOCK=)",
                call, RING_ENTRIES_MIN, limit_of(RLIMIT_MEMLOCK) / 1024);
        break;
    case EMFILE:
        snprintf(why, size,
                 "%s failed with EMFILE: all %lu file descriptors of this process are in "
                 "use; close some or raise the limit (ulimit -n, LimitNOFILE=)",
                 call, limit_of(RLIMIT_NOFILE));
        break;
    case ENFILE:
        snprintf(why, size,
                 "%s failed with ENFILE: the system is out of open files; as root raise "
                 "the sysctl fs.file-max",
                 call);
        break;
    case EINVAL:
        kernel_release(&system);
        snprintf(why, size,
                 "%s failed with EINVAL: kernel %s does not know this kind of ring; use "
                 "5.15 or later",
                 call, system.release);
        break;
    default:
        snprintf(why, size, "%s failed with %s (%d), which ouro knows no cause for", call,
                 ouro__error_name(error), error);
    }
}

/* ---- may we, without being killed for asking? */

/*
 * Arguments are chosen so that a kernel which allows the call refuses it at once: no memory for the
 * answer, no such descriptor. So no ring is made and nothing is charged.
 */
static void try_calls(struct refusal *refusal)
{
    refusal->call = "io_uring_setup";
    refusal->error = (int)-sys_io_uring_setup(0, NULL);
    if (refusal->error != EFAULT && refusal->error != EINVAL)
        return;
    refusal->error = 0;
    refusal->call = "io_uring_enter";
    refusal->error = (int)-sys_io_uring_enter(-1, 0, 0, 0, NULL, 0);
    if (refusal->error != EBADF)
        return;
    refusal->error = 0;
    refusal->call = "io_uring_register";
    refusal->error = (int)-sys_io_uring_register(-1, RING_REGISTER_PROBE, NULL, 0);
    if (refusal->error == EBADF || refusal->error == EINVAL)
        refusal->call = NULL;
}

int ring_blocked(char *why, size_t why_size)
{
    struct refusal refusal;
    int r = ouro__try_calls(try_calls, &refusal);

    if (r < 0) {
        snprintf(why, why_size,
                 "a seccomp filter is in force and the process that tries io_uring "
                 "could not be started (%s); raise the limits on processes and memory",
                 ouro__error_name(-r));
    } else if (refusal.call && refusal.error) {
        r = -refusal.error;
        explain(refusal.call, refusal.error, why, why_size);
    } else if (refusal.call) {
        r = -EPERM;
        snprintf(why, why_size,
                 "a seccomp filter kills whoever calls %s (tried in a child); run with "
                 "a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
                 refusal.call);
    }
    return r;
}

/* ---- opening */

/* The flags without the newest one that we can do without, or the same flags. Kernels learned the
 * flags in the order of their bits, so what an old kernel refuses goes first. */
static unsigned flags_without_newest(unsigned flags)
{
    unsigned optional = flags & ~(RING_SETUP_SUBMIT_ALL - 1u);
    unsigned newest;

    if (!optional)
        return flags;
    newest = 1u << (31 - __builtin_clz(optional));
    flags &= ~newest;
    /* Its older substitute: no interrupts at completion, and a flag to see by. */
    if (newest == RING_SETUP_DEFER_TASKRUN)
        flags |= RING_SETUP_COOP_TASKRUN | RING_SETUP_TASKRUN_FLAG;
    return flags;
}

/* One ring of this size with as many of *flags as the kernel knows; *flags becomes those. */
static long setup_peeling(const struct ring_wish *wish, unsigned entries, unsigned cq_entries,
                          unsigned *flags, struct ring_params *ret)
{
    for (;;) {
        struct ring_params params = {
            .flags = *flags,
            .cq_entries = cq_entries,
            .sq_thread_cpu = wish->sq_cpu,
            .sq_thread_idle = wish->sq_idle_ms,
            .wq_fd = *flags & RING_SETUP_ATTACH_WQ ? (uint32_t)wish->wq_fd : 0,
        };
        long fd = sys_io_uring_setup(entries, &params);
        unsigned fewer;

        if (fd >= 0)
            *ret = params;
        if (fd != -EINVAL)
            return fd;
        fewer = flags_without_newest(*flags);
        if (fewer == *flags)
            return fd;
        *flags = fewer;
    }
}

static unsigned flags_of(const struct ring_wish *wish)
{
    unsigned flags = wish->flags | RING_SETUP_CLAMP;

    if (wish->cq_entries)
        flags |= RING_SETUP_CQSIZE;
    else
        flags &= ~RING_SETUP_CQSIZE;
    /* The polling thread runs the deferred work itself; the kernel refuses these beside it. */
    if (flags & RING_SETUP_SQPOLL)
        flags &= ~(RING_SETUP_COOP_TASKRUN | RING_SETUP_TASKRUN_FLAG | RING_SETUP_DEFER_TASKRUN);
    return flags;
}

/* ---- mapping */

struct maps {
    void *rings; /* control words of both queues, completions, the index array if there is one */
    size_t rings_size;
    void *sqes;
    size_t sqes_size;
};

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static long map_part(int fd, int64_t offset, size_t size, void **ret)
{
    void *map = NULL;
    long r = sys_mmap(&map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);

    if (r < 0)
        return r;
    /* A child that could write here would take the parent's entries away. */
    r = sys_madvise(map, size, MADV_DONTFORK);
    if (r < 0) {
        (void)sys_munmap(map, size);
        return r;
    }
    *ret = map;
    return 0;
}

static void unmap(const struct maps *maps)
{
    (void)sys_munmap(maps->sqes, maps->sqes_size);
    (void)sys_munmap(maps->rings, maps->rings_size);
}

static struct maps maps_of(const struct ring *ring)
{
    return (struct maps){ ring->map, ring->map_size, ring->sqes, ring->sqes_size };
}

static long map_all(int fd, const struct ring_params *params, struct maps *ret)
{
    struct maps maps = { .sqes_size = params->sq_entries * sizeof(struct ring_sqe) };
    long r;

    maps.rings_size = params->cq_off.cqes + params->cq_entries * sizeof(struct ring_cqe);
    if (!(params->flags & RING_SETUP_NO_SQARRAY))
        maps.rings_size =
            max_size(maps.rings_size, params->sq_off.array + params->sq_entries * sizeof(uint32_t));
    r = map_part(fd, (int64_t)RING_OFF_SQ_RING, maps.rings_size, &maps.rings);
    if (r < 0)
        return r;
    r = map_part(fd, (int64_t)RING_OFF_SQES, maps.sqes_size, &maps.sqes);
    if (r < 0) {
        (void)sys_munmap(maps.rings, maps.rings_size);
        return r;
    }
    *ret = maps;
    return 0;
}

static _Atomic uint32_t *word(const struct maps *maps, uint32_t offset)
{
    return (_Atomic uint32_t *)(void *)((char *)maps->rings + offset);
}

/* Points the ring at fresh maps and takes over the counters that the kernel put there. */
static void attach(struct ring *ring, const struct maps *maps, const struct ring_params *params)
{
    const struct ring_sq_offsets *sq = &params->sq_off;
    const struct ring_cq_offsets *cq = &params->cq_off;

    ring->map = maps->rings;
    ring->map_size = maps->rings_size;
    ring->sqes = maps->sqes;
    ring->sqes_size = maps->sqes_size;
    ring->sq_khead = word(maps, sq->head);
    ring->sq_ktail = word(maps, sq->tail);
    ring->sq_kflags = word(maps, sq->flags);
    ring->sq_entries = params->sq_entries;
    ring->sq_mask = params->sq_entries - 1;
    ring->sq_head = atomic_load_explicit(ring->sq_khead, memory_order_acquire);
    ring->sq_tail = atomic_load_explicit(ring->sq_ktail, memory_order_relaxed);
    ring->sq_published = ring->sq_tail;
    ring->cqes = (struct ring_cqe *)(void *)((char *)maps->rings + cq->cqes);
    ring->cq_khead = word(maps, cq->head);
    ring->cq_ktail = word(maps, cq->tail);
    ring->cq_koverflow = word(maps, cq->overflow);
    ring->cq_kflags = word(maps, cq->flags);
    ring->cq_entries = params->cq_entries;
    ring->cq_mask = params->cq_entries - 1;
    ring->cq_head = atomic_load_explicit(ring->cq_khead, memory_order_relaxed);
    /* Entry N stands in slot N: written once, so that a flush is the same with and without it. */
    if (!(params->flags & RING_SETUP_NO_SQARRAY)) {
        uint32_t *array = (uint32_t *)(void *)((char *)maps->rings + sq->array);

        for (uint32_t i = 0; i < params->sq_entries; i++)
            array[i] = i;
    }
}

/* ---- opening, continued: a ring counts only when it is mapped */

struct attempt {
    const char *call; /* the one that failed */
    unsigned flags;
    int fd;
    struct ring_params params;
    struct maps maps;
};

/* The largest ring of at most these sizes that memory allows. */
static long open_shrinking(const struct ring_wish *wish, struct attempt *at)
{
    unsigned entries = wish->entries, cq_entries = wish->cq_entries;

    /* Refused with the same error as an unknown flag. */
    if (cq_entries && cq_entries < entries)
        cq_entries = entries;
    for (;;) {
        long r = setup_peeling(wish, entries, cq_entries, &at->flags, &at->params);

        at->call = "io_uring_setup";
        if (r >= 0 && (at->params.features & RING_FEAT_REQUIRED) != RING_FEAT_REQUIRED) {
            (void)sys_close((int)r);
            return -EOPNOTSUPP;
        }
        if (r >= 0) {
            at->fd = (int)r;
            at->call = "mmap of the ring";
            r = map_all(at->fd, &at->params, &at->maps);
            if (r >= 0)
                return 0;
            (void)sys_close(at->fd);
        }
        if (r != -ENOMEM || entries <= RING_ENTRIES_MIN)
            return r;
        entries = entries / 2 > RING_ENTRIES_MIN ? entries / 2 : RING_ENTRIES_MIN;
        if (cq_entries)
            cq_entries = cq_entries / 2 > entries ? cq_entries / 2 : entries;
    }
}

/* Rings as such are allowed, or ring_blocked() would have said so. */
static void explain_polling(int error, char *why, size_t size)
{
    if (error == EAGAIN)
        snprintf(why, size,
                 "io_uring_setup failed with EAGAIN: SQPOLL needs a thread of the kernel, and a "
                 "limit on threads allows no more (ulimit -u, pids.max of the cgroup)");
    else
        snprintf(why, size,
                 "io_uring_setup failed with %s: rings are allowed here, but not those that a "
                 "thread of the kernel polls (SQPOLL): probably refused by a security module, see "
                 "the kernel's log, or do without",
                 ouro__error_name(error));
}

static void explain_features(unsigned features, char *why, size_t size)
{
    struct utsname system;

    kernel_release(&system);
    snprintf(why, size,
             "io_uring of kernel %s lacks needed features (bits 0x%x of 0x%x); use 5.15 or later",
             system.release, RING_FEAT_REQUIRED & ~features, (unsigned)RING_FEAT_REQUIRED);
}

int ring_open(struct ring *ring, const struct ring_wish *wish, char *why, size_t why_size)
{
    struct attempt at = { .flags = flags_of(wish) };
    long r;

    if (wish->entries == 0 || wish->flags & SETUP_FOREIGN) {
        snprintf(why, why_size, "a ring of %u entries with flags 0x%x is not one that ouro can map",
                 wish->entries, wish->flags);
        return -EINVAL;
    }
    r = ring_blocked(why, why_size);
    if (r < 0)
        return (int)r;
    r = open_shrinking(wish, &at);
    if (r == -ENOMEM) {
        /* Rings closed a moment ago are still charged: the kernel frees them in its own time. */
        (void)sys_poll(NULL, 0, SHORTAGE_PAUSE_MS);
        r = open_shrinking(wish, &at);
    }
    if (r == -EOPNOTSUPP && !strcmp(at.call, "io_uring_setup"))
        explain_features(at.params.features, why, why_size);
    else if ((r == -EPERM || r == -EACCES || r == -EAGAIN) && at.flags & RING_SETUP_SQPOLL)
        explain_polling((int)-r, why, why_size);
    else if (r < 0)
        explain(at.call, (int)-r, why, why_size);
    if (r < 0)
        return (int)r;

    memset(ring, 0, sizeof(*ring));
    ring->fd = ring->enter_fd = at.fd;
    ring->flags = at.flags;
    ring->features = at.params.features;
    ring->refused = wish->flags & ~at.flags;
    ring->enter_flags = at.flags & RING_SETUP_SQPOLL ? RING_ENTER_SQ_WAKEUP : 0;
    ring->pid = getpid();
    /* Of the same release as the timer flag, which has no bit of its own. */
    if (ring->features & RING_FEAT_MIN_TIMEOUT)
        ring->wait_flags |= RING_ENTER_ABS_TIMER;
    if (ring->features & RING_FEAT_NO_IOWAIT)
        ring->wait_flags |= RING_ENTER_NO_IOWAIT;
    attach(ring, &at.maps, &at.params);
    return 0;
}

/* gettid() came late to the C libraries. It cannot fail. */
static int thread_id(void)
{
    return (int)OURO__SYSCALL(SYS_gettid, 0);
}

void ring_close(struct ring *ring)
{
    if (!ring || !ring->map)
        return;
    if (ring->pid == getpid()) {
        struct maps maps = maps_of(ring);

        if (ring->tid && ring->tid == thread_id()) {
            struct ring_rsrc_update update = { .offset = (uint32_t)ring->enter_fd };

            (void)ring_register(ring, RING_UNREGISTER_RING_FDS, &update, 1);
        }
        unmap(&maps);
    }
    /* In a forked child only the descriptor is ours; whatever lies where the maps were is not. */
    if (ring->fd >= 0)
        (void)sys_close(ring->fd);
    memset(ring, 0, sizeof(*ring));
    ring->fd = ring->enter_fd = -1;
}

/* ---- use */

int ring_enter(struct ring *ring, unsigned to_submit, unsigned min_complete, unsigned flags,
               const void *arg, size_t arg_size)
{
    flags |= ring->enter_flags;
    /* Whoever is woken for nothing polls for a while. */
    if (!to_submit)
        flags &= ~RING_ENTER_SQ_WAKEUP;
    return (int)sys_io_uring_enter(ring->enter_fd, to_submit, min_complete, flags, arg, arg_size);
}

static struct ring_timespec timespec_of(uint64_t ns)
{
    return (struct ring_timespec){ (int64_t)(ns / SECOND_NS), (int64_t)(ns % SECOND_NS) };
}

int ring_wait(struct ring *ring, unsigned to_submit, unsigned min_complete, uint64_t deadline_ns)
{
    struct ring_timespec ts;
    struct ring_getevents_arg arg = { .ts = (uintptr_t)&ts };
    unsigned flags = RING_ENTER_GETEVENTS | (ring->wait_flags & RING_ENTER_NO_IOWAIT);
    uint64_t now;

    if (deadline_ns == RING_NOWAIT)
        min_complete = 0;
    if (min_complete == 0 || deadline_ns == RING_FOREVER)
        return ring_enter(ring, to_submit, min_complete, flags, NULL, 0);

    flags |= RING_ENTER_EXT_ARG;
    if (ring->wait_flags & RING_ENTER_ABS_TIMER) {
        int r;

        ts = timespec_of(deadline_ns);
        r = ring_enter(ring, to_submit, min_complete, flags | RING_ENTER_ABS_TIMER, &arg,
                       sizeof(arg));
        /* Flags are looked at before anything is submitted, so a second try is safe. */
        if (r != -EINVAL)
            return r;
        ring->wait_flags &= ~RING_ENTER_ABS_TIMER;
    }
    now = sys_now();
    ts = timespec_of(deadline_ns > now ? deadline_ns - now : 0);
    return ring_enter(ring, to_submit, min_complete, flags, &arg, sizeof(arg));
}

/* Whoever it is that has the ring. */
long ouro__ring_sleep(int fd, const struct timespec *limit, const sigset_t *mask)
{
    struct ring_timespec ts = { limit->tv_sec, limit->tv_nsec };
    struct ring_getevents_arg arg = {
        .sigmask = (uintptr_t)mask,
        .sigmask_sz = NSIG_BYTES,
        .ts = (uintptr_t)&ts,
    };

    return sys_io_uring_enter(fd, 0, 1, RING_ENTER_GETEVENTS | RING_ENTER_EXT_ARG, &arg,
                              sizeof(arg));
}

int ring_register(struct ring *ring, unsigned opcode, const void *arg, unsigned count)
{
    return (int)sys_io_uring_register(ring->fd, opcode, arg, count);
}

int ring_register_fd(struct ring *ring)
{
    struct ring_rsrc_update update = { .offset = UINT32_MAX, .data = (uint32_t)ring->fd };
    int r;

    if (ring->tid)
        return -EBUSY;
    r = ring_register(ring, RING_REGISTER_RING_FDS, &update, 1);
    if (r < 0)
        return r;
    ring->enter_fd = (int32_t)update.offset;
    ring->enter_flags |= RING_ENTER_REGISTERED_RING;
    ring->tid = thread_id();
    return 0;
}

int ring_resize(struct ring *ring, unsigned entries, unsigned cq_entries)
{
    struct ring_params params = {
        .flags = RING_SETUP_CLAMP | (cq_entries ? RING_SETUP_CQSIZE : 0),
        .sq_entries = entries,
        .cq_entries = cq_entries,
    };
    struct maps old = maps_of(ring), fresh;
    size_t room = entries * (sizeof(struct ring_sqe) + sizeof(uint32_t)) +
                  max_size(cq_entries, entries * (size_t)2) * sizeof(struct ring_cqe) + 65536;
    void *trial = NULL;
    long r;

    /* The answer (seen on 6.18) leaves out where the new index array lies. No kernel that resizes
     * needs one, so only a caller who did not wish for NO_SQARRAY meets this. */
    if (!(ring->flags & RING_SETUP_NO_SQARRAY))
        return -EINVAL;
    /* The kernel carries over what it has been shown. */
    (void)ring_flush_count(ring);
    /* There is no way back once the kernel has switched, so see to the address space first. */
    r = sys_mmap(&trial, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r < 0)
        return (int)r;
    r = ring_register(ring, RING_REGISTER_RESIZE_RINGS, &params, 1);
    (void)sys_munmap(trial, room);
    if (r < 0)
        return (int)r;
    params.flags |= ring->flags & RING_SETUP_NO_SQARRAY;
    if (map_all(ring->fd, &params, &fresh) < 0)
        return -ENOTRECOVERABLE;
    attach(ring, &fresh, &params);
    unmap(&old);
    return 0;
}

int ring_probe(struct ring *ring, uint64_t ret_ops[2])
{
    union {
        struct ring_probe_reg head;
        unsigned char bytes[sizeof(struct ring_probe_reg) + 128 * sizeof(struct ring_probe_op)];
    } answer;
    const struct ring_probe_op *ops = (const void *)(answer.bytes + sizeof(struct ring_probe_reg));
    uint64_t found[2] = { 0, 0 };
    int r;

    memset(&answer, 0, sizeof(answer)); /* the kernel insists */
    r = ring_register(ring, RING_REGISTER_PROBE, &answer, 128);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < answer.head.ops_len && i < 128; i++) {
        if (ops[i].flags & RING_OP_SUPPORTED)
            found[ops[i].op / 64 & 1] |= (uint64_t)1 << (ops[i].op % 64);
    }
    memcpy(ret_ops, found, sizeof(found));
    return 0;
}

/* A ring of its own is asked for all of them, each with arguments that can have no effect. */
void ring_denied(const uint64_t ops[2], uint64_t ret_denied[2])
{
    const struct ring_wish wish = { .entries = 128, .flags = RING_SETUP_SUBMIT_ALL };
    unsigned count;
    char why[8];
    struct ring ring;

    ret_denied[0] = ret_denied[1] = 0;
    if (ring_open(&ring, &wish, why, sizeof(why)) < 0)
        return;
    for (unsigned code = 0; code <= RING_OP_LISTEN; code++) {
        struct ring_sqe *sqe = ring_knows(ops, code) ? ring_sqe(&ring) : NULL;
        if (!sqe)
            continue;
        sqe->opcode = (uint8_t)code;
        sqe->fd = -1;
        sqe->user_data = 1u + code;
    }
    while ((count = ring_flush_count(&ring)) && ring_enter(&ring, count, 0, 0, NULL, 0) > 0)
        continue; /* without SUBMIT_ALL each refusal ends an enter */
    for (; ring_cq_ready(&ring); ring_cq_advance(&ring, ring.cq_head + 1)) {
        const struct ring_cqe *cqe = ring_cqe(&ring, ring.cq_head);
        unsigned code = (unsigned)cqe->user_data - 1;
        if (cqe->res == -EACCES)
            ret_denied[code / 64 & 1] |= (uint64_t)1 << (code % 64);
    }
    ring_close(&ring);
}

/* SPDX-License-Identifier: MIT */
/*
 * One raw io_uring: opening, mapping, queues and waiting, with no knowledge of operations or loops.
 *
 * Who may call: all functions on one ring are serialised by the caller (one driver thread, or a
 * lock). A ring opened with SINGLE_ISSUER or with a registered descriptor belongs to one thread.
 * Entries are claimed with ring_sqe(), published with ring_flush_count() and handed over with
 * ring_enter() or ring_wait(). Completions are read between ring->cq_head and ring_cq_tail() and
 * given back with ring_cq_advance(). What runs per operation is inline and costs what it would cost
 * by hand: no atomic on our own tail, one release store per flush, one acquire load per reap.
 *
 * A ring with SQPOLL is polled: a thread of the kernel takes what is published, at any time. An
 * enter hands nothing over there, but wakes that thread when it sleeps; and what was published
 * cannot be taken back.
 *
 * Every function that can fail returns -errno exactly as the kernel said, and leaves errno alone.
 */
#ifndef OURO_RING_H
#define OURO_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "uring_abi.h"

/* The names with linkage, kept out of the way of a program that links the static library. */
#define ring_blocked ouro__ring_blocked
#define ring_open ouro__ring_open
#define ring_close ouro__ring_close
#define ring_enter ouro__ring_enter
#define ring_wait ouro__ring_wait
#define ring_register ouro__ring_register
#define ring_register_fd ouro__ring_register_fd
#define ring_resize ouro__ring_resize
#define ring_probe ouro__ring_probe
#define ring_denied ouro__ring_denied

/* Feature bits without which ring_open() refuses: the engine's floor, kernel 5.15. */
#define RING_FEAT_REQUIRED                                                                       \
    (RING_FEAT_SINGLE_MMAP | RING_FEAT_NODROP | RING_FEAT_SUBMIT_STABLE | RING_FEAT_RW_CUR_POS | \
     RING_FEAT_FAST_POLL | RING_FEAT_EXT_ARG | RING_FEAT_RSRC_TAGS)

/* What to wish for: a ring driven by one thread, and one driven by any thread under a lock. */
#define RING_WISH_OWNED                                                                       \
    (RING_SETUP_CQSIZE | RING_SETUP_CLAMP | RING_SETUP_SUBMIT_ALL | RING_SETUP_TASKRUN_FLAG | \
     RING_SETUP_SINGLE_ISSUER | RING_SETUP_DEFER_TASKRUN | RING_SETUP_NO_SQARRAY)
#define RING_WISH_SHARED                                                                      \
    (RING_SETUP_CQSIZE | RING_SETUP_CLAMP | RING_SETUP_SUBMIT_ALL | RING_SETUP_COOP_TASKRUN | \
     RING_SETUP_TASKRUN_FLAG | RING_SETUP_NO_SQARRAY)

#define RING_ENTRIES_MIN 8

/* Deadlines of ring_wait() with a meaning of their own, as in ouro.h. */
#define RING_FOREVER 0u
#define RING_NOWAIT 1u

struct ring_wish {
    unsigned entries;    /* submission queue; made a power of two by the kernel */
    unsigned cq_entries; /* completion queue, at least entries; 0: twice the entries */
    unsigned flags;      /* RING_SETUP_*; those from SUBMIT_ALL on may be given up */
    unsigned sq_idle_ms; /* with SQPOLL */
    unsigned sq_cpu;     /* with SQ_AFF */
    int wq_fd;           /* with ATTACH_WQ */
};

struct ring {
    /* submission: one cache line */
    struct ring_sqe *sqes;
    _Atomic uint32_t *sq_ktail;
    _Atomic uint32_t *sq_khead;
    _Atomic uint32_t *sq_kflags;
    uint32_t sq_tail;      /* ours: entries claimed */
    uint32_t sq_published; /* the tail that the kernel has been shown */
    uint32_t sq_head;      /* the kernel's head when we last looked; may lag behind */
    uint32_t sq_mask;
    uint32_t sq_entries;
    int32_t enter_fd;     /* the descriptor, or its index when it is registered */
    uint32_t enter_flags; /* ENTER_REGISTERED_RING; ENTER_SQ_WAKEUP: the ring is polled */
    uint32_t wait_flags;  /* what ring_wait() adds: ABS_TIMER, NO_IOWAIT */

    /* completion: one cache line */
    struct ring_cqe *cqes;
    _Atomic uint32_t *cq_ktail;
    _Atomic uint32_t *cq_khead;
    _Atomic uint32_t *cq_koverflow;
    _Atomic uint32_t *cq_kflags;
    uint32_t cq_head;
    uint32_t cq_mask;
    uint32_t cq_entries;
    int32_t fd;
    uint32_t flags;    /* RING_SETUP_* in force */
    uint32_t features; /* RING_FEAT_* */

    /* rarely used */
    uint32_t refused; /* RING_SETUP_* wished for and not known to this kernel */
    int32_t pid;      /* who mapped it: a forked child has the descriptor but not the maps */
    int32_t tid;      /* who registered the descriptor, or 0 */
    void *map;
    size_t map_size;
    size_t sqes_size;
};

_Static_assert(offsetof(struct ring, cqes) == (sizeof(void *) == 8 ? 64 : 48), "cache lines");

/*
 * 0 when this process may call io_uring_setup, io_uring_enter and io_uring_register and live, else
 * -errno with a sentence in `why`. Free of side effects. When a seccomp filter is in force the
 * three calls are first tried in a child process, because a filter may kill whoever makes them.
 */
int ring_blocked(char *why, size_t why_size);

/*
 * Opens a ring as near to the wish as this kernel allows: gives up unknown flags one at a time,
 * newest first, and shrinks while memory is refused. ring->flags, ->sq_entries and ->cq_entries say
 * what came of it. On failure -errno, the ring is untouched and `why` says what to do about it.
 */
int ring_open(struct ring *ring, const struct ring_wish *wish, char *why, size_t why_size);

/*
 * Releases the maps and the descriptor; NULL and a zeroed or closed ring are fine. The kernel drops
 * what is still in flight in its own time, so drain before. A registered descriptor is given back
 * only by the thread that registered it; from another one the ring lives until that thread ends.
 */
void ring_close(struct ring *ring);

/* io_uring_enter. Returns how many entries the kernel took, or -errno. With to_submit the thread of
 * a polled ring is woken, and the count says nothing. */
int ring_enter(struct ring *ring, unsigned to_submit, unsigned min_complete, unsigned flags,
               const void *arg, size_t arg_size);

/*
 * Submits, then waits for `min_complete` completions or until the absolute CLOCK_MONOTONIC time
 * `deadline_ns` (RING_FOREVER: none; RING_NOWAIT: only run what the kernel deferred). Returns what
 * io_uring_enter said, and that says little: after a submission the count hides a timeout (-ETIME)
 * and an interruption. Judge by the queue and the clock.
 */
int ring_wait(struct ring *ring, unsigned to_submit, unsigned min_complete, uint64_t deadline_ns);

/* io_uring_register. Returns what the kernel returned, or -errno. */
int ring_register(struct ring *ring, unsigned opcode, const void *arg, unsigned count);

/*
 * Registers the ring's descriptor with the calling thread, which makes ring_enter() cheaper there
 * and impossible elsewhere. 0 or -errno (-EINVAL before 5.18); the ring works either way.
 */
int ring_register_fd(struct ring *ring);

/*
 * Changes the sizes, keeping what is in flight, unsubmitted or not yet reaped; entry pointers from
 * ring_sqe() become invalid. 0, or -errno with the ring as it was: -EINVAL before 6.13 or without
 * DEFER_TASKRUN, -EOVERFLOW when the content does not fit, -ENOMEM. Only -ENOTRECOVERABLE means
 * that the ring is lost.
 */
int ring_resize(struct ring *ring, unsigned entries, unsigned cq_entries);

/* Sets bit N of ret_ops for every opcode N that the kernel knows. 0 or -errno. */
int ring_probe(struct ring *ring, uint64_t ret_ops[2]);

/* Sets bit N of ret_denied for every one of these that the rings of this process refuse (-EACCES),
 * whatever it asks for: a task may be restricted (7.0), of which the probe does not tell. */
void ring_denied(const uint64_t ops[2], uint64_t ret_denied[2]);

static inline bool ring_knows(const uint64_t ops[2], unsigned opcode)
{
    return opcode < 128 && (ops[opcode / 64] >> (opcode % 64) & 1);
}

/* Free entries. Looks at the kernel's head. */
static inline unsigned ring_sq_space(struct ring *ring)
{
    ring->sq_head = atomic_load_explicit(ring->sq_khead, memory_order_acquire);
    return ring->sq_entries - (ring->sq_tail - ring->sq_head);
}

/* The next free entry with whatever it held before, for callers that write all 64 bytes. */
static inline struct ring_sqe *ring_sqe_claim(struct ring *ring)
{
    if (ring->sq_tail - ring->sq_head >= ring->sq_entries && !ring_sq_space(ring))
        return NULL;
    return &ring->sqes[ring->sq_tail++ & ring->sq_mask];
}

/* The next free entry, zeroed; NULL when the queue is full (submit and try again). */
static inline struct ring_sqe *ring_sqe(struct ring *ring)
{
    struct ring_sqe *sqe = ring_sqe_claim(ring);

    if (sqe)
        memset(sqe, 0, sizeof(*sqe));
    return sqe;
}

/* Entries claimed that the kernel has not taken yet, published or not. */
static inline unsigned ring_sq_pending(struct ring *ring)
{
    return ring->sq_entries - ring_sq_space(ring);
}

/* The n-th of these, n < ring_sq_pending(); for taking work back from a ring that died. */
static inline struct ring_sqe *ring_sq_peek(struct ring *ring, unsigned n)
{
    return &ring->sqes[(ring->sq_head + n) & ring->sq_mask];
}

/* The kernel's flags: RING_SQ_TASKRUN, RING_SQ_CQ_OVERFLOW, RING_SQ_NEED_WAKEUP. */
static inline unsigned ring_sq_flags(const struct ring *ring)
{
    return atomic_load_explicit(ring->sq_kflags, memory_order_relaxed);
}

static inline bool ring_polled(const struct ring *ring)
{
    return ring->enter_flags & RING_ENTER_SQ_WAKEUP;
}

/* How many of the last entries the kernel has not taken, and cannot take unless it is entered. */
static inline unsigned ring_sq_revocable(struct ring *ring)
{
    return ring_polled(ring) ? ring->sq_tail - ring->sq_published : ring_sq_pending(ring);
}

/* Polled rings only, behind the store of the tail: whether the kernel's thread sleeps and must be
 * woken. The fence keeps that store before the load, which a release store does not: either the
 * thread sees the entries before it sleeps, or we see that it does. */
static inline bool ring_needs_wakeup(const struct ring *ring)
{
    atomic_thread_fence(memory_order_seq_cst);
    return ring_sq_flags(ring) & RING_SQ_NEED_WAKEUP;
}

/* Shows the kernel what was claimed; returns how many entries an enter must hand over. Of a polled
 * ring those are none, unless its thread sleeps. */
static inline unsigned ring_flush_count(struct ring *ring)
{
    unsigned pending;

    if (ring->sq_published != ring->sq_tail) {
        ring->sq_published = ring->sq_tail;
        atomic_store_explicit(ring->sq_ktail, ring->sq_tail, memory_order_release);
    }
    pending = ring_sq_pending(ring);
    if (__builtin_expect(ring_polled(ring), 0) && pending && !ring_needs_wakeup(ring))
        return 0;
    return pending;
}

/* Completions that only an enter with GETEVENTS brings into the queue. */
static inline bool ring_needs_enter(const struct ring *ring)
{
    return ring_sq_flags(ring) & (RING_SQ_TASKRUN | RING_SQ_CQ_OVERFLOW);
}

/* The end of what can be read; entries before it are complete in memory. */
static inline uint32_t ring_cq_tail(const struct ring *ring)
{
    return atomic_load_explicit(ring->cq_ktail, memory_order_acquire);
}

static inline unsigned ring_cq_ready(const struct ring *ring)
{
    return ring_cq_tail(ring) - ring->cq_head;
}

/* Completion number `index` (a running count, not a slot), from cq_head up to ring_cq_tail(). */
static inline const struct ring_cqe *ring_cqe(const struct ring *ring, uint32_t index)
{
    return &ring->cqes[index & ring->cq_mask];
}

/* Gives back everything before `head`. The kernel may overwrite it at once. */
static inline void ring_cq_advance(struct ring *ring, uint32_t head)
{
    ring->cq_head = head;
    atomic_store_explicit(ring->cq_khead, head, memory_order_release);
}

/* Completions that the kernel dropped for want of memory, since the ring was opened. */
static inline uint32_t ring_cq_dropped(const struct ring *ring)
{
    return atomic_load_explicit(ring->cq_koverflow, memory_order_relaxed);
}

/* Whether a registered eventfd is signalled; for busy loops that need no doorbell. */
static inline void ring_cq_eventfd(struct ring *ring, bool on)
{
    atomic_store_explicit(ring->cq_kflags, on ? 0u : RING_CQ_EVENTFD_DISABLED,
                          memory_order_relaxed);
}

/* Poll events as ring_sqe.op_flags wants them: halves swapped on big-endian machines. */
static inline uint32_t ring_poll_mask(uint32_t events)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return events << 16 | events >> 16;
#else
    return events;
#endif
}

#endif

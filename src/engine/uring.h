/* SPDX-License-Identifier: MIT */
/* uring.h: what the parts of the uring engine share: uring.c opens and closes a ring, uring_turn.c
 * drives it, uring_sqe.c writes operations into its submission queue, uring_slot.c has its table of
 * files, uring_pool.c buffers that the kernel takes, uring_mounts.c tells which files are not for
 * it.
 *
 * Everything belongs to whoever drives the loop (SHARED, SERVICE: to the holder of its lock), but
 * for event_fd, which any thread may write to. */
#ifndef OURO_URING_H
#define OURO_URING_H

#include "../core.h"
#include "ring.h"

struct msghdr;

/* user_data is the operation's id; what is our own has the top bits set, which no id ever has. */
#define URING_TAG_FIRST (UINT64_MAX - 15)
#define URING_TAG_WAKE (UINT64_MAX - 1)
#define URING_TAG_CANCEL (UINT64_MAX - 2)
#define URING_TAG_LEND (UINT64_MAX - 3)
#define URING_TAG_LENT (UINT64_MAX - 4) /* the same, when somebody has the descriptor */

/* Where the direct table begins in the kernel's table of files; before it lies the proof. */
#define URING_SLOTS 1u

/* Entries that operations leave free, for a cancel and for the doorbell, when the kernel takes
 * nothing for now. Of a polled ring none: it refuses nothing, and the kernel lets wait (SQ_WAIT)
 * for room in a queue that is full to the last entry. */
#define URING_RESERVE 2u

/* How long the thread of a polled ring looks for work before it sleeps. */
#define URING_POLL_MS 20u

/* File systems that a server is behind, as far as they are known one by one. */
#define URING_SERVERS 32u
struct uring_mounts {
    struct ring bell; /* shows that mounts have changed since they were looked at: no descriptor */
    uint32_t count;
    uint64_t devices[URING_SERVERS];
    ouro_time doubt; /* mounts cannot be seen; when to look again */
};

struct uring {
    struct ring ring;
    const ouro_loop *loop;
    uint32_t running; /* operations in the ring: written, not reaped */
    uint32_t cancels; /* cancel requests without an answer yet */
    uint32_t limit;   /* of the two together: what the completion queue can hold */
    uint32_t reserve; /* URING_RESERVE, or none */
    int lost;         /* -errno with which the kernel took the ring away, or 0 */
    bool driven;      /* enabled, by the thread that owns it from then on */
    bool armed;       /* the doorbell's poll is in the ring */
    bool nosignal;    /* RWF_NOSIGNAL is known */
    bool buffers;     /* regions are registered */
    bool suspected;   /* it was asked which requests are denied */
    bool asks;        /* an open or close is written and not submitted: it is made inside that
                         enter, and may ask a file's server */
    bool bulk;        /* a large send is written and not submitted */
    uint8_t put_off;  /* turns in a row that left alone what the kernel had deferred */
    bool no_files;    /* a table of the direct slots was refused */
    uint32_t files;   /* slots of the direct table that are registered */
    /* eventfd that the kernel signals with each completion, also with those that it defers (which
     * do not wake who polls the ring itself); -1: nobody hosts us */
    _Atomic int host_fd;
    _Atomic int event_fd; /* the doorbell; never read, see ouro__uring_wake */
    int proof_fd;         /* hangs up when the kernel has dropped the ring and all its requests */
    uint32_t refusals;    /* enters in a row that took nothing */
    uint64_t ops[2];      /* opcodes that the kernel knows */
    uint64_t denied[2];   /* those of them that it refuses this process */
    uint64_t caps;
    ouro_time closed;             /* when the ring was closed */
    ouro_time put_off_since;      /* the first of the turns that put off */
    struct ouro__list uncanceled; /* RUNNING operations whose cancel found no room */
    void *messages, *parts;       /* a header, and buffers of one, for each entry: ... */
    uint32_t message_count;       /* ... so many; made when the first is needed */
    struct uring_mounts mounts;
};

/* Sends of fewer bytes are copied: to pin pages and to take a second completion costs as much as
 * copying 27 KiB (kernel 6.18, CPU time of send and send_zc over loopback: 2.1 us, 0.08 us a KiB).
 * After so many in a row that the kernel had to copy all the same (loopback, a device that cannot
 * gather), the sends on that file are plain ones. */
#define URING_ZEROCOPY_LEAST (32u * 1024)
#define URING_COPIED_MOST 8u
#define URING_COPIED_ALWAYS UINT8_MAX /* such sockets know nothing else */

#define URING_ENTRIES_MOST 4096u /* such a ring locks 0.4 MiB of its user's memory */
#define URING_CQ_FACTOR 4u       /* completion entries for each submission entry */

/* Some completions are not of operations: the doorbell's and the cancels'. */
static inline uint32_t ouro__uring_limit(const struct ring *ring)
{
    return ring->cq_entries - ring->cq_entries / 8 - 1;
}

enum uring_fill {
    FILL_DONE,    /* the queue is empty, or the core wants a pause */
    FILL_SQ_FULL, /* submit, then there is room again */
    FILL_CQ_FULL  /* as many are running as the completion queue holds */
};
/* Pulls operations and writes their entries, until there are none or no room. */
enum uring_fill ouro__uring_fill(ouro_loop *loop, struct uring *u);

/* Before the ring's size changes. No entry that points to a message may be unsubmitted. */
void ouro__uring_free_messages(ouro_loop *loop, struct uring *u);

/* An entry, if need be after handing over what was written before; NULL: the ring takes nothing. */
struct ring_sqe *ouro__uring_spare_sqe(ouro_loop *loop, struct uring *u);
bool ouro__uring_submit_all(ouro_loop *loop, struct uring *u);

/* Registers the write end of a proof and room for slots; and the same once, if it is not there. */
int ouro__uring_files(ouro_loop *loop, struct uring *u, uint32_t slots);
int ouro__uring_table(ouro_loop *loop, struct uring *u);

/* The engine's slots (engine.h) that uring_turn.c fills. */
void ouro__uring_submit(ouro_loop *loop);
unsigned ouro__uring_take(ouro_loop *loop, ouro_op *const *ops, unsigned count);
unsigned ouro__uring_room(ouro_loop *loop);
void ouro__uring_take_one(ouro_loop *loop, ouro_op *op);
void ouro__uring_wait(ouro_loop *loop, ouro_time until);
void ouro__uring_cancel(ouro_loop *loop, ouro_op *op);
void ouro__uring_wake(void *state);
int ouro__uring_pollfd(ouro_loop *loop);
int ouro__uring_abandon(ouro_loop *loop);

/* Those that uring_slot.c fills. */
int ouro__uring_slot(ouro_loop *loop, uint32_t slot, int fd);
int ouro__uring_lend(ouro_loop *loop, uint32_t slot);

/* And those that uring_pool.c fills. */
bool ouro__uring_knows_parts(struct uring *u);
int ouro__uring_pool_open(ouro_loop *loop, ouro_pool *pool);
void ouro__uring_pool_start(ouro_pool *pool);
uint64_t ouro__uring_enters(const ouro_loop *loop);
void ouro__uring_pool_more(ouro_loop *loop, ouro_pool *pool); /* there was none for a stream */
void ouro__uring_pool_took(ouro_pool *pool);                  /* one has left the ring */
void ouro__uring_pool_fill(ouro_pool *pool);
void ouro__uring_pools_fill(ouro_loop *loop);
void ouro__uring_pool_close(ouro_loop *loop, ouro_pool *pool, int forked);

/* May a file be on a server that makes who reads it wait; and is this operation's? Then it is not
 * for the ring. */
bool ouro__uring_wary(struct uring *u);
bool ouro__uring_may_be_on_server(ouro_loop *loop, struct uring *u, ouro_op *op,
                                  struct ouro__file *file);
static inline bool ouro__uring_on_server(ouro_loop *loop, struct uring *u, ouro_op *op)
{
    struct ouro__file *file = ouro__file_of(loop, op);

    return file && file->server != SERVER_NO && ouro__uring_may_be_on_server(loop, u, op, file);
}
void ouro__uring_mounts_close(struct uring *u);

/* Forgets the numbers that the program has closed. */
void ouro__uring_disown(const ouro_loop *loop, struct uring *u);

#endif

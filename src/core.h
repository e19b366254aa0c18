/* SPDX-License-Identifier: MIT */
/* core.h: what the core's files and the engines share. Not installed.
 *
 * Read DESIGN.md first: it says what the states mean and who owns what. Everything in struct
 * ouro_loop belongs to the driver (SHARED, SERVICE: to whoever holds `lock`), but for what `struct
 * inbox` holds and what is marked atomic. */
#ifndef OURO_CORE_H
#define OURO_CORE_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine.h"
#include "ouro.h"
#include "sys.h"

/* mingw-w64 has no such numbers. */
#ifndef O_ACCMODE
#define O_ACCMODE 3
#endif
#ifndef O_DIRECT
#define O_DIRECT 0
#define O_TMPFILE 0
#define O_PATH 0
#define O_NONBLOCK 0
#endif
#ifndef ESHUTDOWN
#define ESHUTDOWN 108
#endif
#ifndef EOWNERDEAD
#define EOWNERDEAD 130
#endif

#define OURO__SELDOM(x) __builtin_expect(!!(x), 0)
#define OURO__LIKELY(x) __builtin_expect(!!(x), 1)
/* What each operation passes is one piece of code; what few pass is not in it. */
#define OURO__INLINE inline __attribute__((always_inline))
#define OURO__APART __attribute__((noinline))

_Static_assert(sizeof(struct ouro_op) == OURO_OP_SIZE, "the operation's size is ABI");
_Static_assert(sizeof(struct ouro_event) == 32, "the event's size is ABI");
_Static_assert(sizeof(struct ouro_signal) == 32, "the struct's size is ABI");
_Static_assert(sizeof(struct ouro_stat) == 256, "the kernel writes it");

/* ---- The operation's states (op->state_) --------------------------------------------------- */

enum ouro__state {
    STATE_IDLE = 0, /* the caller's; never submitted since it was zeroed */
    STATE_DONE,     /* the caller's again; res is valid */
    STATE_INBOX,    /* posted by another thread, the driver has not seen it */
    STATE_HELD,     /* waits for an earlier operation: order on its file, or its chain */
    STATE_QUEUED,   /* may start; waits for the engine to pull it */
    STATE_RUNNING,  /* the engine has it, and will report it */
    STATE_PLAIN,    /* the same, by the short way: nothing but its end is to be seen to */
    STATE_AWAY,     /* a worker or another loop has it, and will return it through the inbox */
    STATE_TIMING,   /* a timer in the heap */
    STATE_PARKED,   /* a stream that cannot go on for a while; or all is over but SEND_KEPT */
    STATE_REPORTED, /* final, its callback waits in loop->calls */
    STATE_COUNT
};

/* op->marks_: facts that make an operation take the slow way at its end. */
enum {
    MARK_CANCEL = 1,  /* a cancel was requested */
    MARK_TIMEOUT = 2, /* its deadline came (and no cancel was requested before) */
    MARK_HEAP = 4,    /* it is in the heap: a deadline, or a timer */
    MARK_CHAIN = 8,   /* member of a chain (chain_: the next one, NULL for the last) */
    MARK_FILE = 16,   /* counted in the record of its fd (and of its second fd) */
    MARK_LANES = 32,  /* takes part in its file's order (lanes_, waits_) */
    MARK_TURN = 64,   /* chain member whose turn has not come; prev_: the member before it */
    MARK_STREAM = 128 /* has many completions */
};
/* op->notes_: facts for the parts that run it. */
enum {
    NOTE_INLINE = OURO_C_INLINE, /* finished on the driver's thread */
    NOTE_POOLED = OURO_C_POOLED, /* ran on a worker */
    NOTE_LOST = OURO_C_LOST,     /* ended by the loss of its engine */
    NOTE_UNBLOCK = 1,            /* the opened file must lose the O_NONBLOCK that we gave it */
    NOTE_AUX = 2,                /* readiness is waited for on aux_fd_, not on fd */
    NOTE_AUX_OURS = 4,           /* aux_fd_ is a pidfd or signalfd of ours: close it at the end */
    NOTE_STREAM = 8,             /* its fd has no position: pipe, socket, terminal, ... */
    NOTE_COPIED = OURO_C_COPIED, /* a part of a zero-copy send was copied */
    NOTE_HELD = 256,             /* waits: engine_[0] tells which file its fd stood for */
    NOTE_CONNECTING = 1024,      /* the kernel is about it: to be asked for the end, not to begin */
    NOTE_SLOTTED = 8192,         /* the engine puts it into its own table: there is no descriptor */
    NOTE_NO_TRY = 16384,         /* was tried on the spot already */
    NOTE_TRIED = 512, /* the engine's entry refuses to wait: on -EAGAIN it gives another one */
};
/* op->stream_: the same of streams, and of sends; the driver's alone, also while a worker has the
 * operation. */
enum {
    STREAM_PAUSED = 1,           /* it starts nothing until it is resumed */
    STREAM_STOPPED = 2,          /* its start was cancelled, because it shall rest */
    STREAM_UNREAD = 4,           /* a poll or timer whose last completion was not collected yet */
    SEND_RIDES = 4,              /* its bytes are in the step of the one that engine_[1] names */
    SEND_QUEUED = 8,             /* member of a queue of sends, sendq_ */
    SEND_COPIED = OURO_C_COPIED, /* the kernel has copied what it should not */
    SEND_KEPT = 32,    /* waits_: steps that are over, whose buffers the kernel still reads */
    STREAM_WHOLE = 64, /* takes no parts of buffers (pool->parts), but each time a whole one */
    SEND_LEADS = 128   /* its step has the bytes of those that ride as well */
};
/* ouro_event.cflags, in the rings only. */
enum {
    EVENT_LEADS = 1 << 30, /* its stream, which is in flight, goes on when it is collected */
    EVENT_FD = 1 << 29     /* res is a descriptor that nobody else knows */
};
#define OURO__EVENT_OURS ((uint32_t)EVENT_LEADS | (uint32_t)EVENT_FD)
/* Are in cflags as well. */
#define OURO__NOTES_TOLD (NOTE_COPIED | NOTE_INLINE | NOTE_POOLED | NOTE_LOST)

/* Reads, writes and vectored forms of them have `done_` bytes behind them: what is left of the
 * operation as one step. single: ptr and len; else iov and count. */
struct ouro__span {
    bool single;
    void *ptr;
    size_t len;
    const struct iovec *iov;
    unsigned count;
    int64_t offset; /* OURO_CUR on streams */
    int rwf;
};
#define OURO__STEP_MAX ((size_t)0x7ffff000)
#define OURO__IOV_MAX 1024u

/* An attempt of a stream: its pool has none. Within the library only; the system's own -ENOBUFS
 * means something else. */
#define OURO__NO_BUFFER (-600)
#define OURO__REMOVE_DIR 0x200 /* AT_REMOVEDIR, where a header does not say */

/* ---- What is known of each operation's kind (op.c) ----------------------------------------- */

enum {
    KIND_FD = 1,     /* op->fd must be >= 0 */
    KIND_DIR = 2,    /* op->fd is a directory or OURO_HERE */
    KIND_FD2 = 4,    /* arg[0] is a second descriptor */
    KIND_DIR2 = 8,   /* arg[0] is a second directory or OURO_HERE */
    KIND_BYTES = 16, /* transfers bytes: EXACT, short results */
    KIND_READS = 32, /* its direction, for SERIAL and readiness */
    KIND_WRITES = 64,
    KIND_SPAN = 128,      /* read, write, readv, writev: ouro__span_of works */
    KIND_VECTOR = 256,    /* readv, writev */
    KIND_TRY = 512,       /* may be tried on the spot (ouro__try) */
    KIND_POSITION = 1024, /* uses the position of its file always */
    KIND_MAKES = 2048,    /* a success is a new descriptor, or fills a slot */
    KIND_WAITS = 4096,    /* may wait for ever: for a peer, or for anything */
    KIND_STREAM = 8192,   /* completes many times */
    KIND_POOL = 16384,    /* receives into a pool */
    KIND_STRANGE = 32768  /* runs code that is not ours, on a worker: never interrupted */
};
struct ouro__kind {
    const char *name;
    uint32_t flags;  /* OURO_* flags that make sense */
    uint16_t traits; /* KIND_* */
};
extern const struct ouro__kind ouro__kinds[OURO_CODE_COUNT];

/* Where arguments lie in op->arg. The second descriptor is always arg[0]. */
enum {
    ARG_BUF = 1,
    ARG_LEN = 2,
    ARG_OFFSET = 3,
    ARG_RWF = 4,      /* read, write; len = iovcnt */
    ARG_DATASYNC = 1, /* fsync */
    ARG_PATH = 1,
    ARG_FLAGS = 2,
    ARG_MODE = 3,
    ARG_SLOT = 4,   /* KIND_MAKES: slot + 1; 0: a descriptor */
    ARG_STAT = 3,   /* stat (path, flags) */
    ARG_PATH2 = 3,  /* rename, link (path, flags) */
    ARG_TARGET = 3, /* symlink (path) */
    ARG_AT = 1,
    ARG_SIZE = 2,
    ARG_ADVICE = 3, /* fallocate, ftruncate, fadvise */
    ARG_IN_OFFSET = 1,
    ARG_OUT_OFFSET = 3, /* copy, splice: fd -> arg[0] */
    ARG_TIME = 1,       /* timer */
    ARG_EVENTS = 1,     /* poll */
    ARG_FN = 1,
    ARG_FN_ARG = 2, /* work */
    ARG_PID = 1,
    ARG_STATUS = 2,
    ARG_OPTIONS = 3, /* waitpid */
    ARG_TO = 1,
    ARG_WORD = 2, /* message */
    ARG_SIGNALS = 1,
    ARG_SIGNAL = 2, /* signal: the set, and where it goes */
    ARG_HOST = 1,
    ARG_SERVICE = 2,
    ARG_HINTS = 3,
    ARG_LIST = 4, /* resolve */
    ARG_DOMAIN = 1,
    ARG_TYPE = 2,
    ARG_PROTOCOL = 3, /* socket (slot) */
    ARG_ADDR = 1,
    ARG_ADDR_SIZE = 2, /* bind, connect; accept: where it is (slot) */
    ARG_ANY_SLOT = 5,  /* accept_many: a free slot for each */
    ARG_HOW = 3,       /* accept: flags; shutdown, listen: how, backlog */
    ARG_MSGHDR = 1,
    ARG_MSG_FLAGS = 4, /* recv, send (buf, len), recvmsg, sendmsg */
    ARG_POOL = 1,
    ARG_ADDR_ROOM = 2,
    ARG_CONTROL_ROOM = 3, /* recv_many, recvmsg_many (msg_flags) */
    ARG_EVERY = 2         /* timer_many (time) */
};
static inline void *ouro__ptr(const ouro_op *op, unsigned i)
{
    return (void *)(uintptr_t)op->arg[i];
}
/* Of KIND_MAKES: the slot that its file goes into, plus 1; 0: none. A stream has one after the
 * other. */
static inline uint64_t *ouro__slot_word(ouro_op *op)
{
    return op->code == OURO_ACCEPT_MANY ? &op->engine_[2] : &op->arg[ARG_SLOT];
}
static inline int ouro__int(const ouro_op *op, unsigned i)
{
    return (int)(int64_t)op->arg[i];
}

/* What stands before an address, control data and a payload in the buffer of a recvmsg_many:
 * written by io_uring itself, or by socket.c. */
struct ouro__datagram_head {
    uint32_t addr_size, control_size, size, flags;
};
static inline size_t ouro__datagram_rooms(const ouro_op *op)
{
    return sizeof(struct ouro__datagram_head) + (size_t)op->arg[ARG_ADDR_ROOM] +
           (size_t)op->arg[ARG_CONTROL_ROOM];
}

/* ---- Parts of the loop --------------------------------------------------------------------- */

struct ouro__list { /* through next_ and prev_ */
    ouro_op *head, *tail;
};

/* Slots give operations their ids: id = generation << 20 | slot. They come in chunks that never
 * move, so that other threads may look at them. Slots from OURO__REMOTE on are for posted
 * operations. */
#define OURO__SLOT_BITS 20
#define OURO__SLOT_MASK ((1u << OURO__SLOT_BITS) - 1)
#define OURO__REMOTE (1u << 19)
#define OURO__CHUNK_BITS 10
#define OURO__CHUNK_SIZE (1u << OURO__CHUNK_BITS)
#define OURO__CHUNKS (1u << (OURO__SLOT_BITS - OURO__CHUNK_BITS))
#define OURO__STACK_END UINT32_MAX
struct ouro__slot {
    _Atomic uintptr_t tenant; /* the operation; or when free the next free slot, plus OURO__FREE */
    _Atomic uint64_t id;      /* of the current, or when free of the next, tenant */
};
#define OURO__FREE ((uintptr_t)1)
/* A cancel request for a slot; behind the slots of a chunk, because it is seldom. */
struct ouro__asked {
    _Atomic uint64_t id;
    _Atomic uint32_t next; /* in the stack of requests: slot + 1; 0: not in it */
};
#define OURO__CHUNK_BYTES \
    (OURO__CHUNK_SIZE * (sizeof(struct ouro__slot) + sizeof(struct ouro__asked)))
struct ouro__slots { /* the driver's, or those for posted operations */
    struct ouro__slot *free;
    uint32_t base, count; /* first; how many exist */
};

struct ouro__ring { /* of events; capacity is a power of two */
    ouro_event *at;
    uint32_t head, tail, mask;
};

/* What is known of a file descriptor while operations of ours are in flight on it, or since ouro
 * opened it; and the order of operations on it. */
enum {
    FILE_UNKNOWN = 0,
    FILE_PLAIN,
    FILE_DIRECT,
    FILE_MEMORY,
    FILE_STREAM, /* from here on: neither tried nor read in place */
    FILE_SOCKET,
    FILE_OTHER
};
#define OURO__PAGE_BITS 8
#define OURO__PAGE_SIZE (1u << OURO__PAGE_BITS)
enum { CACHE_UNKNOWN = 0, CACHE_YES, CACHE_NO };
enum { SERVER_UNKNOWN = 0, SERVER_NO, SERVER_YES };
enum { OURS_NOT = 0, OURS_NAMED, OURS_SOCKET }; /* by its name; by socket(2) or accept(2) */
/* What usual operations look at comes first. */
struct ouro__file {
    uint32_t in_flight;
    uint32_t epoch;         /* barriers accepted so far */
    uint8_t kind;           /* FILE_* */
    uint8_t ours;           /* OURS_*: opened by this loop: facts stay */
    uint8_t readonly;       /* opened by this loop for reading only */
    uint8_t cache;          /* CACHE_*: do reads go through the page cache? */
    uint8_t memory;         /* it was FILE_MEMORY when this was last known */
    uint8_t server;         /* SERVER_*: may who reads it have to wait for a server? */
    uint8_t busy;           /* lanes taken */
    uint8_t watched;        /* opened by this loop, and the engine has a registration of it */
    ouro_op *closer;        /* the close operation that waits for the others */
    struct ouro__list held; /* in the order of their turns */
    uint32_t copied : 8;    /* zero-copy sends in a row that were copied */
    uint32_t last : 24;     /* the slot of who began to wait last: a close looks there first */
    uint32_t barrier;       /* of those held that wait for all earlier ones, the latest: slot + 1 */
    uint32_t held_in[2];    /* held operations that want each lane */
    ouro_op *claims;        /* held at another file as well, and will want lanes of this one */
};

struct ouro__timer {
    ouro_time at;
    ouro_op *op;
};

struct ouro__parts {
    uint32_t used; /* bytes from its start that have gone out since it came into the ring */
    uint32_t out;  /* parts that are the caller's */
};

struct ouro_pool {
    ouro_loop *loop;
    struct ouro_pool *next; /* of the loop's */
    char *memory;
    uint16_t *ids; /* the first `ready`: free (native: and not in the ring) */
    uint8_t *out;  /* for each buffer: it is the caller's (parts: and the kernel is done with it) */
    struct ouro__parts *parts; /* for each buffer, where receives share one; NULL: none do */
    uint32_t count, size, ready, taken;
    uint32_t shift;       /* of a size that is a power of two; else 0 */
    uint32_t level;       /* native: so many shall be in the ring */
    uint32_t rings;       /* native, parts: so many are there, or have gone out from there */
    uint32_t reserve;     /* so many never are: for who takes no parts */
    uint32_t streams;     /* operations that use it */
    bool native;          /* free buffers are in a ring of the engine's */
    bool lost;            /* the engine that had them is, and may still write to them */
    uint16_t group, tail; /* native */
    uint64_t filled;      /* native: enters of the loop (or entries) when the level rose */
    uint32_t turn_took;   /* native: out of the ring in this turn, ... */
    uint32_t most, takes; /* ... in any since `takes` began to be counted, and these */
    void *ring;
    struct ouro__list parked; /* streams that wait for a buffer */
};

struct ouro__request { /* to cancel what was submitted before */
    ouro_fd fd;        /* on this descriptor; -1: everything */
    bool seen;         /* what the loop had accepted was cancelled */
    uint64_t reach;    /* how many operations were posted before */
};

struct ouro__inbox {
    pthread_mutex_t lock;
    struct ouro__list posted;   /* operations of other threads */
    struct ouro__list messages; /* operations of other loops, for us to receive */
    struct ouro__list returned; /* ours, back from workers and other loops: result_ */
    struct ouro__slots slots;   /* for posted operations */
    uint64_t posts, taken;      /* operations posted, and accepted of them */
    struct ouro__request *requests;
    unsigned request_count, request_room;
    bool starved; /* the driver's: something waits here until completions are taken */
    bool closed;
    _Atomic uint32_t cancels; /* stack of slots with cancel requests: slot + 1 */
    _Atomic uint32_t woken;   /* flags are words: not every machine exchanges bytes */
    _Atomic uint32_t rung;    /* something is here */
};

struct ouro__waiter { /* a thread that waits on a SHARED or SERVICE loop while another one leads */
    pthread_cond_t cond;
    struct ouro__waiter *next;
    ouro_op *const *ops; /* NULL: any event */
    unsigned count;
    ouro_time until;
    int cancel; /* OWNED loops: the state of cancellation before */
    bool served;
};

/* How to wake the engine. Written before it is published, so that a ringing thread never mixes two
 * engines; one that rang a lost engine is heard all the same: the driver looks at inbox.rung after
 * the change and before it sleeps. */
struct ouro__bell {
    void (*wake)(void *state);
    void *state;
};

#define OURO__SERVICE_STACK ((size_t)1 << 20)
struct ouro__workers;  /* workers.c */
struct ouro__notifier; /* notify.c */

/* What a slot of the direct table has in place of a descriptor. */
enum {
    OURO__SLOT_EMPTY = -1,
    OURO__SLOT_OPENING = -2,
    OURO__SLOT_ENGINE = -3, /* a file that the engine alone has */
    OURO__SLOT_LOST = -4    /* the same, and the engine is gone */
};

struct ouro_loop {
    /* every operation */
    const struct ouro__engine *engine;
    void *engine_state;
    struct ouro__list queue; /* QUEUED */
    struct ouro__slots slots;
    struct ouro__ring calls, events; /* completions with and without callback */
    uint32_t holes;                  /* places in events whose event was collected by itself */
    uint32_t places;                 /* operations that the rings have room for: at most max_ops */
    uint32_t max_ops;
    uint8_t routes[OURO_CODE_COUNT]; /* enum ouro__route */
    uint8_t threading;
    bool closing, drained, locked_mode;
    bool asked;    /* the engine was given something to hand over at its next submit or wait */
    ouro_time now; /* as of the last look; 0: before the last sleep, look again */
    ouro_counters stats;
    uint64_t caps, mask;

    /* deadlines */
    struct ouro__timer *heap;
    uint32_t heap_count, heap_room;

    /* files: page p holds descriptors p * OURO__PAGE_SIZE ... */
    struct ouro__file **files;
    uint32_t file_pages;
    struct ouro__file here; /* the record of OURO_HERE */
    struct ouro__direct {
        int fd;         /* or OURO__SLOT_... */
        bool native;    /* the engine knows the slot by its number */
        bool hasty;     /* and has opened it with O_NONBLOCK beside these flags, unasked */
        bool lingers;   /* a socket whose close may have to wait for its peer (SO_LINGER) */
        bool loses : 1; /* one that tells of lost messages by -ENOBUFS */
        bool bytes : 1; /* one that knows no records (SOCK_STREAM), as far as that was asked */
        int flags;
        struct ouro__file file;
    } * direct;
    uint32_t direct_count, direct_next; /* where a search for a free one begins */
    struct iovec *regions;
    uint32_t region_count, regbuf_in_flight;
    bool regions_native;

    /* streams (stream.c, bufpool.c) */
    struct ouro_pool *pools;
    uint32_t streams;           /* in flight */
    int64_t turns;              /* of operations that may wait for lanes: op->result_ meanwhile */
    struct ouro__list parked;   /* those that wait for a place or a descriptor ... */
    ouro_time parked_until;     /* ... and are looked at again then; also, if ... */
    bool starved;               /* ... some that wait for a buffer may have been passed over */
    struct ouro__frame *frames; /* callbacks that run (loop.c) */

    /* trying on the spot (file.c) */
    struct ouro__luck {
        uint32_t misses, skip;
    } luck_read, luck_open;
    struct ouro__patience {
        ouro_time since; /* when the first of the calls being timed began; 0: none */
        ouro_time until; /* none is tried before; 0: no server was slow yet */
        ouro_time pause; /* how long that is since the last slow one */
    } patience;
    uint32_t try_count, idle_turns;
    uint64_t turn_progress; /* ouro__progress when the turn began */
    uint32_t wanted;        /* events that ouro_run has still to wait for, as far as it was told */
    size_t try_bytes;

    /* who drives */
    _Atomic(struct ouro__slot *) chunks[OURO__CHUNKS];
    struct ouro__bell bells[2]; /* of the first engine, and of the one after a loss */
    _Atomic(const struct ouro__bell *) bell;

    pthread_mutex_t lock;        /* SHARED, SERVICE */
    _Atomic(const void *) owner; /* OWNED, once owned: what lies in that thread alone */
    pthread_t service;
    bool service_runs, service_stop;
    bool leading, sleeping; /* somebody drives; and sleeps in the engine until sleep_until */
    ouro_time sleep_until;
    struct ouro__waiter *waiters;
    _Atomic uint32_t *alive; /* 0 in a forked child */

    struct ouro__inbox inbox;
    struct ouro__workers *workers;
    struct ouro__notifier *notifier;

    /* epoll of the engine's descriptor, which a loss may change; -1: nobody hosts us */
    int host_fd;
    int host_engine_fd;
    uint8_t mark; /* on our own descriptors (process.c); 0: none was marked yet */

    /* an engine that the system took away: its state lives until close; lost_watch waits for the
     * proof that the kernel is done with its operations */
    const struct ouro__engine *lost_engine;
    void *lost_state;
    ouro_op lost_watch;

    FILE *trace; /* a line for each operation: $OURO_TRACE */
    ouro_config config;
    char why[1024];
    char engines[128];  /* the preference, as given */
    unsigned engine_at; /* place in the automatic order, for loss */
};

/* ---- op.c: the table of operations, and the one function that changes a state --------------- */

extern const uint16_t ouro__next_states[STATE_COUNT];
static inline void ouro__set_state(ouro_op *op, enum ouro__state to)
{
    assert(ouro__next_states[op->state_] & 1u << to);
    if (to == STATE_DONE)
        __atomic_store_n(&op->state_, (uint8_t)STATE_DONE, __ATOMIC_RELEASE);
    else
        __atomic_store_n(&op->state_, (uint8_t)to, __ATOMIC_RELAXED); /* ouro_done looks */
}
int ouro__check(ouro_loop *loop, const ouro_op *op);
int ouro__span_of(const ouro_op *op, struct ouro__span *ret); /* 0: nothing is left */
uint64_t ouro__wanted_bytes(const ouro_op *op);
uint64_t ouro__span_bytes(const struct ouro__span *span);
int ouro__slots_grow(ouro_loop *loop, struct ouro__slots *slots);
void ouro__slot_give_remote(ouro_loop *loop, struct ouro__slot *slot);
void ouro__each_slot(ouro_loop *loop, int (*fn)(ouro_loop *, ouro_op *, void *), void *user);
void ouro__slots_finish(ouro_loop *loop);

/* ---- core.c: an operation's way from submit to its completion ------------------------------ */

/* Check, accept, begin, in order, up to the first that is refused: *ret_error says why. */
unsigned ouro__submit_many(ouro_loop *loop, ouro_op *const *ops, unsigned count, int *ret_error);
int ouro__submit_one(ouro_loop *loop, ouro_op *op);
int ouro__accept(ouro_loop *loop, ouro_op *op); /* checked already */
void ouro__unaccept(ouro_loop *loop, ouro_op *op);
static inline void ouro__accepted(ouro_loop *loop, const ouro_op *op); /* for good */
int ouro__accept_posted(ouro_loop *loop, ouro_op *op);
void ouro__begin(ouro_loop *loop, ouro_op *op);
void ouro__start(ouro_loop *loop, ouro_op *op);
void ouro__make_ordinary(ouro_loop *loop, ouro_op *op); /* leaves the short way */
void ouro__hold_file(ouro_op *op);
bool ouro__has_its_file(const ouro_op *op); /* false: what it was held for has another file now */
/* Does its slot, or the descriptor that it was held for, still stand for the same file? 0, or what
 * it ends with. */
int ouro__check_file(ouro_loop *loop, ouro_op *op);
/* Something is to be done that the engine cannot do by the number of a slot: 0, and its file has a
 * descriptor (ouro__fd); or -errno. The engine may be entered. */
int ouro__need_descriptor(ouro_loop *loop, ouro_op *op);
void ouro__requeue(ouro_loop *loop, ouro_op *op);
void ouro__cancel(ouro_loop *loop, ouro_op *op, unsigned mark);
void ouro__cancel_others(ouro_loop *loop, ouro_op *key);
void ouro__cancel_all(ouro_loop *loop);
bool ouro__names_fd(const ouro_op *op, ouro_fd fd);
/* The engine's, or a worker's, word on a RUNNING or returned operation: res as the system said. */
void ouro__report(ouro_loop *loop, ouro_op *op, int64_t res);
/* A step is about to be reported, or was, after which the kernel still reads its buffer; and has
 * done with it. No operation is final in between. */
void ouro__keep(ouro_op *op);
void ouro__let_go(ouro_loop *loop, ouro_op *op);
void ouro__clean(ouro_op *op);
/* The end: res as the last step gave it; and res as the caller shall see it. */
void ouro__ended(ouro_loop *loop, ouro_op *op, int64_t res);
void ouro__finish(ouro_loop *loop, ouro_op *op, int64_t res, uint32_t cflags);

/* For engines: the next operation, RUNNING from now on, or NULL. Tries cached files on the spot on
 * the way. With op->ready_ != 0 the engine is asked for readiness only: POLL* bits on
 * ouro__ready_fd(op); it then reports the bits that hold. */
static inline ouro_op *ouro__pull(ouro_loop *loop);
ouro_op *ouro__pull_slowly(ouro_loop *loop);
/* Gives the last pulled operation back to the head of the queue: no room after all. */
void ouro__unpull(ouro_loop *loop, ouro_op *op);
/* Sends a RUNNING operation to a worker instead. */
void ouro__to_worker(ouro_loop *loop, ouro_op *op, enum ouro__route route);
/* The engine is gone (io_uring taken away): close has been called for it by itself. Pending: what
 * it could not submit is requeued by ouro__unpull before. Opens the next engine of the order. */
void ouro__engine_lost(ouro_loop *loop, const char *reason);
/* Does the engine know op's file by the number of its slot? */
static inline bool ouro__fd_native(const ouro_loop *loop, const ouro_op *op)
{
    return op->flags & OURO_DIRECT && loop->direct[op->fd].native;
}
/* The descriptor that stands behind op->fd, also where that is a slot of the direct table. */
static inline int ouro__fd(const ouro_op *op)
{
    return op->flags & OURO_DIRECT ? op->real_fd_ : (int)op->fd;
}
static inline int ouro__ready_fd(const ouro_op *op)
{
    return op->notes_ & NOTE_AUX ? op->aux_fd_ : ouro__fd(op);
}

/* ---- loop.c ---------------------------------------------------------------------------------- */

void ouro__sleep(ouro_loop *loop, ouro_time until); /* around an engine's sleep */
void ouro__awake(ouro_loop *loop);
static inline void ouro__submitted(ouro_loop *loop); /* after accepting: who waits may be served */
void ouro__submitted_slowly(ouro_loop *loop);
/* For engines, after pulling and before sleeping: how long they may sleep now. Something may have
 * finished on the spot, or a new timer may be due earlier. */
ouro_time ouro__until(const ouro_loop *loop, ouro_time until);
ouro_time ouro__due(const ouro_loop *loop);
static inline int ouro__enter(ouro_loop *loop); /* may this thread drive it? takes the lock */
int ouro__enter_slowly(ouro_loop *loop);
static inline void ouro__leave(ouro_loop *loop);
void ouro__leave_slowly(ouro_loop *loop);
void ouro__hold_off_cancel(void);          /* of this thread, */
void ouro__let_cancel(void);               /* until as many of these */
extern _Thread_local unsigned ouro__depth; /* of callbacks; where it lies says which thread it is */
static inline bool ouro__drives(const ouro_loop *loop);
bool ouro__in_callback(const ouro_loop *loop);
void ouro__compact(ouro_loop *loop);
void ouro__cond_init(pthread_cond_t *cond);
void *ouro__service_main(void *arg);
void ouro__served(ouro_loop *loop, const ouro_op *op); /* wakes the thread that waits for it */
void ouro__served_all(ouro_loop *loop);
void *ouro__alloc(ouro_loop *loop, void *old, size_t old_size, size_t size);
int ouro__ring_room(ouro_loop *loop, uint32_t more);
int ouro__ring_space(ouro_loop *loop);           /* for one event, whatever max_ops is */
int64_t ouro__ring_spare(const ouro_loop *loop); /* for so many there is */
void ouro__set_places(ouro_loop *loop);

/* ---- deadline.c, file.c, chain.c, inbox.c, select.c, notify.c, trace.c --------------------- */

ouro_time ouro__wanted_time(const ouro_op *op);
int64_t ouro__made(ouro_loop *loop, ouro_op *op, int64_t fd); /* the new descriptor's result */

/* ---- stream.c, bufpool.c --------------------------------------------------------------------- */

static inline bool ouro__more_room(ouro_loop *loop); /* for one completion that is not final */
void ouro__unpark(ouro_op *op);
void ouro__unpark_all(ouro_loop *loop, struct ouro__list *list);
void ouro__stream_feed(ouro_loop *loop, ouro_pool *pool);
void ouro__stream_rest(ouro_loop *loop, ouro_op *op);
void ouro__stream_sleep(ouro_op *op);
void ouro__streams_wake(ouro_loop *loop);
int ouro__stream_in(ouro_loop *loop, ouro_op *op);
void ouro__stream_out(ouro_loop *loop, ouro_op *op);
void ouro__stream_bring(ouro_op *op, void *data);
void ouro__stream_finish(ouro_loop *loop, ouro_op *op, int64_t res, uint32_t cflags);
void ouro__stream_more(ouro_loop *loop, ouro_op *op, int64_t res);
void ouro__stream_goes_on(ouro_loop *loop, ouro_op *op, int64_t res);
void ouro__events_drop(ouro_loop *loop);
bool ouro__stream_may_start(ouro_loop *loop, ouro_op *op);
bool ouro__stream_report(ouro_loop *loop, ouro_op *op, int64_t res);
void ouro__stream_collected(ouro_loop *loop, ouro_op *op);
ouro_time ouro__timer_at(const ouro_op *op);
void ouro__timer_ticks(ouro_loop *loop, ouro_op *op);
void ouro__pools_free(ouro_loop *loop);
void ouro__pools_lose(ouro_loop *loop, bool busy, int forked);
void ouro__pools_adopt(ouro_loop *loop);
void ouro__pools_found(ouro_loop *loop);
bool ouro__pool_has(const ouro_pool *pool, const ouro_op *op);
uint32_t ouro__pool_in_ring(const ouro_pool *pool);
bool ouro__pool_spares(const ouro_pool *pool);
void *ouro__pool_take(ouro_pool *pool);
void *ouro__pool_took(ouro_pool *pool, uint32_t id);
void *ouro__pool_part(ouro_pool *pool, uint32_t id, uint32_t size, bool last);
bool ouro__pool_give(ouro_pool *pool, const void *data);

int ouro__heap_add(ouro_loop *loop, ouro_op *op, ouro_time at);
void ouro__heap_remove(ouro_loop *loop, ouro_op *op);
void ouro__heap_move(ouro_loop *loop, ouro_op *op, ouro_time at);
void ouro__heap_fire(ouro_loop *loop);

static inline struct ouro__file *ouro__file_of(ouro_loop *loop, const ouro_op *op); /* or NULL */
static inline struct ouro__file *ouro__file_at(ouro_loop *loop, ouro_fd fd);        /* or NULL */
struct ouro__file *ouro__file_make(ouro_loop *loop, ouro_fd fd);
uint8_t ouro__file_kind(struct ouro__file *file, int fd);
bool ouro__file_streams(struct ouro__file *file, int fd);
int ouro__file_enter(ouro_loop *loop, ouro_op *op); /* counts it; -errno */
void ouro__file_leave_slowly(ouro_loop *loop, ouro_op *op);
int ouro__order_enter(ouro_loop *loop, ouro_op *op); /* 1: may start; 0: held */
void ouro__order_unhold(ouro_loop *loop, ouro_op *op);
bool ouro__order_writes(const ouro_op *op);
void ouro__files_finish(ouro_loop *loop);
void ouro__files_forget(ouro_loop *loop);
enum ouro__route ouro__route_copy(ouro_loop *loop, const ouro_op *op);
bool ouro__fd_nonblocking(int fd);
void ouro__fd_unblock(int fd, int flags);
void ouro__fd_close(int fd);
int ouro__fd_copy(int fd);
int64_t ouro__fd_identity(int fd);
int ouro__fd_device(int fd, uint64_t *ret); /* major << 32 | minor */
bool ouro__try(ouro_loop *loop, ouro_op *op,
               int64_t *ret); /* on the spot; true: *ret is the result */
bool ouro__try_usual(ouro_loop *loop, const ouro_op *op, const struct ouro__file *file,
                     int64_t *ret);
/* Around calls that a server could keep waiting: how long they took. */
void ouro__dared(ouro_loop *loop, ouro_time since);

bool ouro__chain_breaks(const ouro_op *op);
void ouro__chain_cut(ouro_op *op);

/* sendq.c: a member is about to begin or to go on: true: it has ended instead. */
bool ouro__sendq_settles(ouro_loop *loop, ouro_op *op);
void ouro__sendq_ended(const ouro_op *op);
/* Might others ride with its next step? Then the buffers of the step, its own first: how many. */
#define OURO__RIDE_MOST 16u
bool ouro__sendq_leads(const ouro_op *op);
unsigned ouro__sendq_gather(ouro_op *op, struct iovec ret[OURO__RIDE_MOST]);
/* Such a step has ended: deals out what it has moved; what is its own of that. */
int64_t ouro__sendq_dealt(ouro_loop *loop, ouro_op *op, int64_t res);
/* One that rides shall end early. */
void ouro__sendq_alight(ouro_loop *loop, const ouro_op *op);
static inline bool ouro__sendq_rides(const ouro_op *op)
{
    return op->stream_ & SEND_QUEUED && op->stream_ & SEND_RIDES;
}

void ouro__ring_bell(ouro_loop *loop);                        /* any thread */
void ouro__return(ouro_loop *loop, ouro_op *op, int64_t res); /* any thread: AWAY -> the driver */
void ouro__inbox_drain(ouro_loop *loop);
void ouro__inbox_feed(ouro_loop *loop);
void ouro__message_send(ouro_loop *loop, ouro_op *op);
bool ouro__message_take_back(ouro_op *op);
void ouro__inbox_close(ouro_loop *loop);
bool ouro__inbox_busy(ouro_loop *loop);

void ouro__trace_open(ouro_loop *loop); /* trace.c */
void ouro__trace_begin(ouro_loop *loop, const ouro_op *op);
void ouro__trace_end(ouro_loop *loop, const ouro_op *op, int64_t res, uint32_t cflags);
void ouro__trace_close(ouro_loop *loop, int forked);

int ouro__engines_set(ouro_loop *loop, const char *list);
int ouro__select(ouro_loop *loop, unsigned from);
void ouro__lost_finish(ouro_loop *loop, int forked);
int ouro__open_why(const ouro_config *config, ouro_loop **ret, char *why, size_t why_size);
int ouro__alive_open(ouro_loop *loop); /* process.c */
void ouro__alive_close(ouro_loop *loop);
unsigned ouro__cores(void);
const char *ouro__environment(const char *name);
/* Descriptors of the loop's own: each is marked when it is made, and the mark is asked for before a
 * number is used that may stand for somebody else's file by now. drop: closes it if it is ours. */
void ouro__own(ouro_loop *loop, int fd);
bool ouro__owns(const ouro_loop *loop, int fd);
void ouro__drop(const ouro_loop *loop, int fd);
int ouro__host_open(ouro_loop *loop);
void ouro__host_change(ouro_loop *loop);
void ouro__host_close(ouro_loop *loop);
void ouro__pause(void);
void ouro__queue_signal(int signo, void *value);
void ouro__await_hangup(int fd);
int ouro__direct_descriptor(ouro_loop *loop, uint32_t slot); /* register.c */
void ouro__direct_tell(ouro_loop *loop, uint32_t slot, int fd);
void ouro__direct_untell(ouro_loop *loop);
void ouro__direct_finish(ouro_loop *loop, int forked);
void ouro__notify_fire(ouro_loop *loop);
void ouro__notify_rearm(ouro_loop *loop);
void ouro__notify_finish(ouro_loop *loop, int forked);

/* ---- perform.c: every operation as one system call: THE definition of what it means --------- */

enum { PERFORM_BLOCK = 0, PERFORM_TRY = 1 };
/* One step of the operation, on the calling thread: result as the system says it (short
 * transfers, -EINTR, -EAGAIN are the core's to continue). TRY: never waits: -EAGAIN instead, with
 * op->ready_ set to what must hold (and aux_fd_ with NOTE_AUX if that is not op->fd), or
 * -EOPNOTSUPP when only a blocking attempt can tell (then ROUTE_BLOCKER). -EAGAIN with ready_ ==
 * 0 is a result: the caller asked for it (RWF_NOWAIT, OURO_FDMODE, SPLICE_F_NONBLOCK). Touches
 * result_, ready_, aux_fd_, notes_ alone. */
int64_t ouro__perform(ouro_op *op, unsigned how);
int64_t ouro__perform_socket(ouro_op *op, unsigned how); /* socket.c */
bool ouro__fd_lingers(int fd);
int ouro__fd_type(int fd);   /* SOCK_*, or -errno */
bool ouro__fd_loses(int fd); /* messages, and then says -ENOBUFS: netlink */
bool ouro__fd_ends(int fd);  /* on a receive of nothing: it is no socket of datagrams */
bool ouro__fd_joins(int fd); /* do sends on it leave no trace of where each began? */
/* What the operation has put into a slot has no descriptor that could be asked. */
void ouro__learn_socket(ouro_loop *loop, const ouro_op *op, uint32_t slot);
/* The bits that hold, 0 after so many milliseconds (-1: no limit), or -errno. */
int64_t ouro__poll_one(int fd, short events, int timeout_ms);
int64_t ouro__not_ready(ouro_op *op, short events); /* a try's wish: -EAGAIN */
/* Can pipes be written without SIGPIPE (RWF_NOSIGNAL)? */
bool ouro__has_nosignal(void);

/* ---- workers.c: threads in two classes ----------------------------------------------------- */

/* Queues an AWAY operation; starts a thread if all are busy and the class is not full. When not
 * even one thread can be had: -errno. The worker performs it (PERFORM_BLOCK) and calls
 * ouro__return. */
int ouro__workers_submit(ouro_loop *loop, ouro_op *op, bool blocker);
/* 1: it had not begun and is the caller's again; 0: it runs; a blocker is interrupted by signals
 * until it returns (-EINTR). */
int ouro__workers_cancel(ouro_loop *loop, ouro_op *op);
/* Ends all threads and joins them; nothing is queued or running. */
void ouro__workers_finish(ouro_loop *loop, int forked);

/* ---- What every operation passes: inline --------------------------------------------------- */

/* Is this the thread that drives an OWNED loop? Asks without becoming it. */
static inline bool ouro__drives(const ouro_loop *loop)
{
    return atomic_load_explicit(&loop->owner, memory_order_relaxed) == &ouro__depth;
}
static inline int ouro__enter(ouro_loop *loop)
{
    if (OURO__LIKELY(loop && ouro__drives(loop) &&
                     atomic_load_explicit(loop->alive, memory_order_relaxed)))
        return 0;
    return ouro__enter_slowly(loop);
}
static inline void ouro__leave(ouro_loop *loop)
{
    if (OURO__SELDOM(loop->locked_mode))
        ouro__leave_slowly(loop);
}
static inline ouro_time ouro__now(ouro_loop *loop)
{
    if (!loop->now)
        loop->now = sys_now();
    return loop->now;
}
static inline void ouro__submitted(ouro_loop *loop)
{
    if (OURO__SELDOM(loop->notifier || loop->locked_mode))
        ouro__submitted_slowly(loop);
}
/* Exactly one completion follows. */
static inline void ouro__accepted(ouro_loop *loop, const ouro_op *op)
{
    if (OURO__SELDOM(loop->trace))
        ouro__trace_begin(loop, op);
}
static inline uint32_t ouro__in_flight(const ouro_loop *loop)
{
    return (uint32_t)(loop->stats.submitted - loop->stats.completed);
}
/* Completions of all kinds so far. */
static inline uint64_t ouro__progress(const ouro_loop *loop)
{
    return loop->stats.completed + loop->stats.streamed;
}
static inline uint32_t ouro__events_ready(const ouro_loop *loop)
{
    return loop->events.tail - loop->events.head - loop->holes;
}
static inline bool ouro__calls_ready(const ouro_loop *loop)
{
    return loop->calls.head != loop->calls.tail;
}
/* How many more operations are sure of a place for their completion in either ring. */
static inline int64_t ouro__room(const ouro_loop *loop)
{
    return (int64_t)loop->places - ouro__in_flight(loop) - (loop->calls.tail - loop->calls.head) -
           (loop->events.tail - loop->events.head);
}

static inline bool ouro__more_room(ouro_loop *loop)
{
    return OURO__LIKELY(ouro__room(loop) > 0) || ouro__ring_room(loop, 1) == 0;
}

static inline struct ouro__slot *ouro__slot_at(ouro_loop *loop, uint32_t index)
{
    struct ouro__slot *chunk =
        atomic_load_explicit(&loop->chunks[index >> OURO__CHUNK_BITS], memory_order_acquire);
    return chunk ? chunk + (index & (OURO__CHUNK_SIZE - 1)) : NULL;
}
static inline struct ouro__asked *ouro__asked_at(ouro_loop *loop, uint32_t index)
{
    struct ouro__slot *chunk =
        atomic_load_explicit(&loop->chunks[index >> OURO__CHUNK_BITS], memory_order_acquire);
    return (struct ouro__asked *)(void *)(chunk + OURO__CHUNK_SIZE) +
           (index & (OURO__CHUNK_SIZE - 1));
}
/* NULL: free. */
static inline ouro_op *ouro__slot_op(const struct ouro__slot *slot)
{
    uintptr_t tenant = atomic_load_explicit(&slot->tenant, memory_order_relaxed);

    return tenant & OURO__FREE ? NULL : (ouro_op *)tenant;
}
/* Of a free slot. */
static inline struct ouro__slot *ouro__slot_next(const struct ouro__slot *slot)
{
    return (struct ouro__slot *)(atomic_load_explicit(&slot->tenant, memory_order_relaxed) -
                                 OURO__FREE);
}
static inline void ouro__slot_set_next(struct ouro__slot *slot, struct ouro__slot *next)
{
    atomic_store_explicit(&slot->tenant, (uintptr_t)next + OURO__FREE, memory_order_relaxed);
}
/* NULL: no such slot was given out. */
static inline struct ouro__slot *ouro__slot_of(ouro_loop *loop, ouro_id id)
{
    return ouro__slot_at(loop, (uint32_t)(id & OURO__SLOT_MASK));
}
/* Begins to load the operation that has the slot, if any, and what the program keeps behind it. */
static inline void ouro__slot_prefetch(const struct ouro__slot *slot)
{
    const char *op =
        slot ? (void *)atomic_load_explicit(&slot->tenant, memory_order_relaxed) : NULL;

    for (unsigned line = 0; op && line <= sizeof(ouro_op) / 64; line++)
        __builtin_prefetch(op + 64 * (size_t)line, 1);
}
/* NULL: stale. */
static inline ouro_op *ouro__slot_tenant(const struct ouro__slot *slot, ouro_id id)
{
    if (!slot || atomic_load_explicit(&slot->id, memory_order_relaxed) != id)
        return NULL;
    return ouro__slot_op(slot);
}
static inline ouro_op *ouro__slot_find(ouro_loop *loop, ouro_id id)
{
    return ouro__slot_tenant(ouro__slot_of(loop, id), id);
}
/* Gives the slot to op; the result is the next free one. */
static inline struct ouro__slot *ouro__slot_enter(struct ouro__slot *slot, ouro_op *op)
{
    struct ouro__slot *next = ouro__slot_next(slot);

    atomic_store_explicit(&slot->tenant, (uintptr_t)op, memory_order_relaxed);
    op->id_ = atomic_load_explicit(&slot->id, memory_order_relaxed);
    return next;
}
static inline int ouro__slot_take(ouro_loop *loop, struct ouro__slots *slots, ouro_op *op)
{
    struct ouro__slot *slot = slots->free;

    if (OURO__SELDOM(!slot)) {
        int r = ouro__slots_grow(loop, slots);
        if (r < 0)
            return r;
        slot = slots->free;
    }
    slots->free = ouro__slot_enter(slot, op);
    return 0;
}
/* The next tenant gets the next generation; a slot whose generations are used up stays empty. */
static inline void ouro__slot_leave(ouro_loop *loop, struct ouro__slot *slot, ouro_id id)
{
    uint64_t next = id + ((uint64_t)1 << OURO__SLOT_BITS);

    if (!slot) /* cannot be: what has an id has a slot */
        return;
    atomic_store_explicit(&slot->id, next, memory_order_relaxed);
    if (OURO__SELDOM(next < id)) {
        ouro__slot_set_next(slot, NULL);
    } else if (OURO__SELDOM(next & OURO__REMOTE)) {
        ouro__slot_give_remote(loop, slot);
    } else {
        ouro__slot_set_next(slot, loop->slots.free);
        loop->slots.free = slot;
    }
}
static inline void ouro__slot_give(ouro_loop *loop, ouro_op *op)
{
    ouro__slot_leave(loop, ouro__slot_of(loop, op->id_), op->id_);
}

static inline struct ouro__file *ouro__file_at(ouro_loop *loop, ouro_fd fd)
{
    uint32_t page = (uint32_t)fd >> OURO__PAGE_BITS;

    /* A negative descriptor is in a page that never is. */
    if (page >= loop->file_pages || !loop->files[page])
        return NULL;
    return &loop->files[page][(uint32_t)fd & (OURO__PAGE_SIZE - 1)];
}

/* Counts an operation that is no barrier in the record of its only descriptor. */
static inline void ouro__file_count(struct ouro__file *file, ouro_op *op)
{
    file->in_flight++;
    op->epoch_ = file->epoch;
    op->file_ = (uint64_t)(uintptr_t)file;
    op->marks_ |= MARK_FILE;
}

/* It may wait there for long. */
static inline void ouro__file_waits(struct ouro__file *file, const ouro_op *op)
{
    file->last = op->id_ & OURO__SLOT_MASK;
}

/* Of an operation in flight, which remembers it. */
static inline struct ouro__file *ouro__file_counted(const ouro_op *op)
{
    assert(op->marks_ & MARK_FILE);
    return (struct ouro__file *)(uintptr_t)op->file_;
}

/* Nothing is in flight on it. */
static inline void ouro__file_rests(struct ouro__file *file)
{
    if (file->kind && !(file->ours == OURS_NAMED && file->kind == FILE_MEMORY)) {
        file->memory = file->kind == FILE_MEMORY;
        file->kind = FILE_UNKNOWN;
    }
    if (!file->ours) {
        file->cache = CACHE_UNKNOWN;
        file->server = SERVER_UNKNOWN;
        file->copied = 0;
    }
}

/* Does anybody wait for operations on it to be final? */
static inline bool ouro__file_awaited(const struct ouro__file *file)
{
    return file->held.head || file->closer;
}

/* The loop has opened or made the file: its facts live until the loop closes it. */
static inline void ouro__file_made(struct ouro__file *file, const ouro_op *op)
{
    bool named = op->code == OURO_OPEN;
    int flags = named ? ouro__int(op, ARG_FLAGS) : O_RDWR;

    file->ours = named ? OURS_NAMED : OURS_SOCKET;
    file->watched = false;
    file->copied = 0;
    file->kind = FILE_UNKNOWN;
    file->server = SERVER_UNKNOWN;
    file->cache = flags & O_DIRECT ? CACHE_NO : CACHE_YES;
    file->readonly = (flags & O_ACCMODE) == O_RDONLY;
}
/* The engine has put a file into its own table. */
static inline void ouro__slot_filled(ouro_loop *loop, const ouro_op *op, uint32_t slot)
{
    struct ouro__direct *direct = &loop->direct[slot];

    ouro__file_made(&direct->file, op);
    direct->file.cache = CACHE_NO; /* without a descriptor nothing is tried */
    direct->fd = OURO__SLOT_ENGINE;
    direct->native = true;
    direct->lingers = direct->loses = direct->bytes = false;
    direct->flags = ouro__int(op, ARG_FLAGS);
    direct->hasty = op->code == OURO_OPEN && !(direct->flags & (O_NONBLOCK | O_PATH));
}
/* A close has succeeded. */
static inline void ouro__file_closed(ouro_loop *loop, const ouro_op *op, struct ouro__file *file)
{
    file->ours = OURS_NOT;
    file->readonly = false;
    if (op->flags & OURO_DIRECT) {
        loop->direct[op->fd].fd = OURO__SLOT_EMPTY;
        loop->direct[op->fd].native = false;
    }
}

/* A counted operation is final: gives its lanes back, lets others start, and is counted no more. */
static inline void ouro__file_leave(ouro_loop *loop, ouro_op *op)
{
    struct ouro__file *file = ouro__file_counted(op);

    if (op->marks_ & MARK_LANES || ouro__kinds[op->code].traits & (KIND_FD2 | KIND_DIR2) ||
        ouro__file_awaited(file))
        ouro__file_leave_slowly(loop, op);
    else if (!--file->in_flight)
        ouro__file_rests(file);
}

/* The record of op->fd. */
static inline struct ouro__file *ouro__file_of(ouro_loop *loop, const ouro_op *op)
{
    if (op->marks_ & MARK_FILE)
        return ouro__file_counted(op);
    if (op->flags & OURO_DIRECT)
        return &loop->direct[op->fd].file;
    return ouro__file_at(loop, op->fd);
}

/* NULL: it receives into none. */
static inline ouro_pool *ouro__pool_of(const ouro_op *op)
{
    return ouro__kinds[op->code].traits & KIND_POOL ? ouro__ptr(op, ARG_POOL) : NULL;
}

/* ---- Trying on the spot (facts.c) ---------------------------------------------------------- */

#define OURO__SKIP_MOST 512u
/* Misses say that the next tries would likely be misses. */
static inline bool ouro__lucky(struct ouro__luck *luck)
{
    if (luck->skip) {
        luck->skip--;
        return false;
    }
    return true;
}
static inline bool ouro__hit(struct ouro__luck *luck)
{
    luck->misses = 0;
    return true;
}
static inline bool ouro__missed(struct ouro__luck *luck)
{
    luck->misses += luck->misses < 9;
    luck->skip = (1u << luck->misses) < OURO__SKIP_MOST ? 1u << luck->misses : OURO__SKIP_MOST;
    return false;
}

/* May calls be tried that a server could keep waiting? */
static inline bool ouro__dare(const ouro_loop *loop)
{
    return OURO__LIKELY(!loop->patience.until) || sys_coarse_now() >= loop->patience.until;
}

/* Is it worth a look into the cache of names? */
static inline bool ouro__try_names(ouro_loop *loop, const ouro_op *op)
{
    if (!(loop->caps & OURO_CAP_CACHED) || op->flags & OURO_BG ||
        ouro__int(op, ARG_FLAGS) & (O_CREAT | O_TRUNC | O_TMPFILE | O_PATH))
        return false;
    return ouro__lucky(&loop->luck_open) && ouro__dare(loop);
}
static inline void ouro__tried_names(ouro_loop *loop, bool found)
{
    if (found)
        ouro__hit(&loop->luck_open);
    else
        ouro__missed(&loop->luck_open);
}

/* Would a try be no gain? batch: it is submitted together with others. */
static inline bool ouro__engine_is_best(ouro_loop *loop, const ouro_op *op,
                                        const struct ouro__file *file, bool batch)
{
    switch (op->code) {
    case OURO_READ:
        return file->cache == CACHE_NO || (!file->memory && !ouro__lucky(&loop->luck_read));
    case OURO_CLOSE: return batch && file->readonly && ouro__dare(loop); /* alone: a plain call */
    default: return true;
    }
}

/* ---- lists --------------------------------------------------------------------------------- */

static inline void ouro__push(struct ouro__list *list, ouro_op *op)
{
    op->next_ = NULL;
    op->prev_ = list->tail;
    if (list->tail)
        list->tail->next_ = op;
    else
        list->head = op;
    list->tail = op;
}
static inline void ouro__push_front(struct ouro__list *list, ouro_op *op)
{
    op->prev_ = NULL;
    op->next_ = list->head;
    if (list->head)
        list->head->prev_ = op;
    else
        list->tail = op;
    list->head = op;
}
/* prev_ of the first one means nothing. */
static inline void ouro__unlink(struct ouro__list *list, ouro_op *op)
{
    ouro_op *prev = op == list->head ? NULL : op->prev_;

    if (prev)
        prev->next_ = op->next_;
    else
        list->head = op->next_;
    if (op->next_)
        op->next_->prev_ = prev;
    else
        list->tail = prev;
}
static inline ouro_op *ouro__pop(struct ouro__list *list)
{
    ouro_op *op = list->head;

    if (op) {
        list->head = op->next_;
        if (!op->next_)
            list->tail = NULL;
    }
    return op;
}

/* A read or write of one buffer. */
static inline bool ouro__is_transfer(const ouro_op *op)
{
    return op->code == OURO_READ || op->code == OURO_WRITE;
}

static inline ouro_op *ouro__pull(ouro_loop *loop)
{
    ouro_op *op = loop->queue.head;

    if (!op || (op->code != OURO_NOP && !op->ready_))
        return ouro__pull_slowly(loop);
    ouro__pop(&loop->queue);
    ouro__set_state(op, STATE_RUNNING);
    return op;
}

/* A final operation remembers where its event is, for ouro_wait. */
static inline void ouro__set_hint(ouro_op *op, uint32_t at)
{
    op->next_ = (ouro_op *)(uintptr_t)at;
}
/* There is room for it. */
static inline void ouro__ring_push(struct ouro__ring *ring, ouro_op *op, int64_t res,
                                   uint32_t cflags, int32_t cause)
{
    ouro__set_hint(op, ring->tail);
    ring->at[ring->tail++ & ring->mask] = (ouro_event){ op, res, cflags, cause, NULL };
}

/* ---- The short way, for operations that need nothing looked after -------------------------- */

/* Neighbours are put together as they lie, so that a compiler makes one load of them. */
static inline uint32_t ouro__head_of(const ouro_op *op)
{
    return op->code | (uint32_t)op->state_ << 16 | (uint32_t)op->marks_ << 24;
}
/* The caller's, and nothing is set that would have to be looked after. An operation that is the
 * caller's has no marks. */
static inline bool ouro__is_plain(const ouro_op *op)
{
    uint32_t code = ouro__head_of(op);
    uint64_t flags = op->flags | (uint64_t)op->cflags << 32;

    _Static_assert(OURO_NOP == 0 && STATE_IDLE == 0 && STATE_DONE == 1, "nothing else is set");
    return !((code & ~((uint32_t)STATE_DONE << 16)) | (flags & ~(uint64_t)OURO_QUIET) |
             op->deadline | (uintptr_t)op->cb);
}
static inline bool ouro__is_plain_nop(const ouro_op *op)
{
    return ouro__head_of(op) == (OURO_NOP | (uint32_t)STATE_PLAIN << 16);
}
/* Gives op the slot, whose next free one is the result. */
static inline struct ouro__slot *ouro__enter_plain(struct ouro__slot *slot, ouro_op *op)
{
    ouro__set_state(op, STATE_PLAIN);
    return ouro__slot_enter(slot, op);
}

/* A run of ends of PLAIN operations: what changes with each of them stays in registers. Nothing
 * else may happen to the loop between start and end of a run. */
struct ouro__run {
    struct ouro__slot *chunk, *free; /* the first chunk; the free list */
    ouro_event *event;               /* where the next one goes */
    uint32_t tail, left;             /* its number; places up to the end of the ring */
};
static inline struct ouro__run ouro__run_start(const ouro_loop *loop)
{
    uint32_t at = loop->events.tail & loop->events.mask;

    return (struct ouro__run){ atomic_load_explicit(&loop->chunks[0], memory_order_relaxed),
                               loop->slots.free, loop->events.at + at, loop->events.tail,
                               loop->events.mask + 1 - at };
}
/* What is in the first chunk. */
static inline bool ouro__run_has(ouro_id id)
{
    return (id & OURO__SLOT_MASK) < OURO__CHUNK_SIZE;
}
/* Any, if it is not there. Not without a chunk. */
static inline struct ouro__slot *ouro__run_slot(const struct ouro__run *run, ouro_id id)
{
    return run->chunk + (id & (OURO__CHUNK_SIZE - 1));
}
/* Is it this one? This tells those apart, too, that belong to other chunks. */
static inline bool ouro__run_holds(const struct ouro__slot *slot, ouro_id id)
{
    return atomic_load_explicit(&slot->id, memory_order_relaxed) == id;
}
/* Its id has not changed since it was given out, so there is an operation. */
static inline ouro_op *ouro__run_op(const struct ouro__slot *slot)
{
    return (ouro_op *)atomic_load_explicit(&slot->tenant, memory_order_relaxed);
}
/* Sees to what the success of a usual operation means for the files. False: it is not for the short
 * way after all, and nothing was touched. */
static inline bool ouro__run_usual(ouro_loop *loop, ouro_op *op, int64_t res)
{
    struct ouro__file *file = ouro__file_counted(op), *fresh;

    if (OURO__SELDOM(res < 0 || ouro__file_awaited(file)))
        return false;
    switch (op->code) {
    case OURO_OPEN:
        if (op->notes_ & NOTE_SLOTTED) {
            ouro__slot_filled(loop, op, (uint32_t)op->arg[ARG_SLOT] - 1);
        } else {
            fresh = ouro__file_at(loop, (ouro_fd)res);
            if (OURO__SELDOM(!fresh || fresh->in_flight || op->arg[ARG_SLOT] ||
                             op->notes_ & NOTE_UNBLOCK))
                return false;
            ouro__file_made(fresh, op);
        }
        if (op->notes_ & NOTE_TRIED)
            ouro__tried_names(loop, true);
        op->notes_ = 0;
        break;
    case OURO_CLOSE: ouro__file_closed(loop, op, file); break;
    default:
        if ((uint64_t)res != op->arg[ARG_LEN] && op->flags & OURO_EXACT)
            return false;
        if (op->flags & OURO_REGBUF)
            loop->regbuf_in_flight--;
        break;
    }
    if (!--file->in_flight)
        ouro__file_rests(file);
    op->marks_ = 0;
    return true;
}
/* What was found has succeeded; at most `left` times. */
static inline void ouro__run_finish(ouro_loop *loop, struct ouro__run *run, struct ouro__slot *slot,
                                    ouro_id id, ouro_op *op, int64_t res)
{
    ouro_id next;

    /* A slot whose generations are used up stays empty. */
    if (OURO__SELDOM(__builtin_add_overflow(id, (ouro_id)1 << OURO__SLOT_BITS, &next))) {
        ouro__slot_set_next(slot, NULL);
    } else {
        ouro__slot_set_next(slot, run->free);
        run->free = slot;
    }
    atomic_store_explicit(&slot->id, next, memory_order_relaxed);
    op->res = res;
    if (!(op->flags & OURO_QUIET)) {
        if (op->cb) {
            ouro__ring_push(&loop->calls, op, res, 0, 0);
            ouro__set_state(op, STATE_REPORTED);
            return;
        }
        *run->event++ = (ouro_event){ .op = op, .res = res };
        ouro__set_hint(op, run->tail++);
    }
    ouro__set_state(op, STATE_DONE);
}
static inline void ouro__run_end(ouro_loop *loop, const struct ouro__run *run, uint32_t done)
{
    loop->slots.free = run->free;
    loop->events.tail = run->tail;
    loop->stats.completed += done;
}

#endif

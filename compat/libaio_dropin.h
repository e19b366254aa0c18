/* SPDX-License-Identifier: MIT */
/* libaio_dropin.h: the inside of the libaio drop-in.
 *
 * A context is the kernel's own (io_setup), and whatever the kernel does without blocking in
 * io_submit goes to it as it is. What would block there becomes an operation of ouro's; when it is
 * over, its event is put into the kernel's ring by a request that the kernel ends at once with the
 * same result (libaio_inject.c), unless somebody who is in our io_getevents takes it before. So who
 * reads the ring himself, or calls the kernel himself, sees all events.
 *
 * Where there is no kernel AIO, or the user does not want it (OURO_AIO_PURE=1), a context is memory
 * of ours of the same form (libaio_pure.c), and everything is ouro's.
 *
 * What has the lock of aio_base.h says so. A second lock (laio_lock_blocks) is held while the
 * program's control blocks are read or changed; it comes first. */
#ifndef OURO_COMPAT_LIBAIO_DROPIN_H
#define OURO_COMPAT_LIBAIO_DROPIN_H

#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "../src/syscall.h"
#include "aio_base.h"

enum {
    LAIO_FEW = 4,       /* parts of a vector that need no memory of their own */
    LAIO_VECTOR = 1024, /* parts, at most */
    LAIO_BATCH = 64,    /* requests that are submitted, or delivered, together */
    LAIO_NOWAIT = 8,    /* RWF_NOWAIT, RWF_APPEND */
    LAIO_APPEND = 16,
    LAIO_HIGH = 1,   /* RWF_HIPRI, which asynchronous requests ignore */
    LAIO_IOPRIO = 2, /* IOCB_FLAG_IOPRIO */
    LAIO_POLL = 5,   /* IOCB_CMD_POLL */
};

/* As the kernel maps it, at the address that is the context's name. */
struct laio_ring {
    uint32_t id, count;
    _Atomic uint32_t head, tail;
    uint32_t magic, compatible, incompatible, header;
    struct io_event events[];
};

struct laio_request {
    ouro_op op;
    struct iocb copy; /* as it was submitted */
    struct iocb *at;  /* where the program has it: the event's name */
    struct laio_context *context;
    struct laio_request *next;
    int64_t res;
    struct iovec *vector; /* few, or memory of its own */
    struct iovec few[LAIO_FEW];
    uint64_t begun;             /* by stats_now; 0: it is not counted */
    int hold;                   /* the descriptor that is told: see laio_hold; -1: none */
    struct laio_keeper *keeper; /* who holds its file; NULL: nobody (libaio_held.c) */
    struct laio_file *source;   /* that file, once he has it */
    bool used;
    bool over;
    bool file;   /* it ends by itself, whatever the program does */
    bool prompt; /* kernel AIO would have ended it inside io_submit */
    bool stuck;  /* its block is not what it was: only io_getevents can deliver it */
    bool kept;   /* by aio_drive_keep */
    _Atomic bool canceled;
    bool delivering; /* as a fix: who does that gives it back if its event is fetched at once */
    bool fetched;
};

struct laio_context {
    _Atomic uintptr_t address; /* the program's name for it; 0: this is none */
    struct laio_ring *ring;
    uint32_t room; /* requests and events that it holds at once */
    uint32_t sure; /* of those: so many have room whatever processor they come from */
    uint32_t id;
    bool pure; /* it is none of the kernel's; the program has another view of the ring */
    _Atomic bool dying;
    _Atomic uint32_t users;    /* threads that are in a call on it; the last one frees it */
    _Atomic uint32_t active;   /* of those: which may look at the ring */
    _Atomic uint32_t special;  /* requests of ours, and all else that io_getevents must see to */
    _Atomic uint64_t taken;    /* requests that the kernel has been given, ... */
    _Atomic uint64_t ended;    /* ... and those of them that it has ended */
    _Atomic uint64_t fetched;  /* events that our io_getevents has taken out of the ring */
    _Atomic uint32_t sleepers; /* calls of io_getevents that sleep in the kernel */
    _Atomic uint32_t calls;    /* events in a row that nobody else has taken */
    /* With the lock. */
    uint32_t running;                  /* of ours: not over */
    uint32_t undelivered;              /* of ours: running, or over and in no ring */
    uint32_t prompt;                   /* of those: see laio_request.prompt */
    struct laio_request *first, *last; /* over */
    struct laio_request *fixes;        /* delivered with -EIO for an error that cannot be had */
    uint32_t fix_count;
    uint64_t waiters;              /* who takes them from here */
    uint32_t waiting;              /* how many */
    struct laio_context *next_now; /* whose events are to be delivered now, ... */
    struct laio_context *next;     /* ... and soon */
    struct laio_context *next_free;
    bool queued_now, queued, young;
};

#define LAIO_MAGIC 0xa10a10a1u
#define LAIO_KERNEL(...) OURO__SYSCALL(__VA_ARGS__)

/* ---- libaio_context.c ------------------------------------------------------------------------ */

int laio_setup(unsigned count, aio_context_t *ret);
int laio_destroy(aio_context_t name);

/* NULL: it is none of ours, and the kernel shall say what it is. Any thread; nothing is held. */
struct laio_context *laio_find(aio_context_t name);

/* Around all that uses a context beyond a look: false: it is being destroyed. Who sleeps in the
 * kernel rests meanwhile: the ring may be gone when he wakes, and he cannot resume then. */
bool laio_enter(struct laio_context *context, aio_context_t name);
void laio_leave(struct laio_context *context);
void laio_unuse(struct laio_context *context); /* leave, of who rests */
void laio_rest(struct laio_context *context);
bool laio_resume(struct laio_context *context);

/* Places that the kernel's requests and the events that nobody has read take. */
uint32_t laio_used(struct laio_context *context);
void laio_look_at_tail(struct laio_context *context); /* now and then, and before each request */
uint32_t laio_unread(const struct laio_context *context);
uint32_t laio_tail(const struct laio_context *context); /* where the next event will be */

void laio_contexts_forked(void);

/* ---- libaio_request.c ------------------------------------------------------------------------ */

void laio_lock_blocks(void);
void laio_unlock_blocks(void);

/* With the lock. NULL: no memory. */
struct laio_request *laio_take(struct laio_context *context);
void laio_give(struct laio_request *request);

/* With the lock. It counts as running; its event is where it belongs; it is given back as well. */
void laio_begun(struct laio_request *request);
void laio_unbegun(struct laio_request *request); /* it did not run after all */
void laio_retire(struct laio_request *request);
void laio_delivered(struct laio_request *request);

/* Without the lock. It is over without having been run. */
void laio_finish(struct laio_request *request, int64_t res);

/* Without the lock, in a thread whose table of descriptors is another one: they are over, and our
 * thread sees to what takes a descriptor. */
void laio_finish_apart(const ouro_event *events, unsigned count);

/* With the lock. To be delivered by our thread soon. */
void laio_queue(struct laio_context *context);

/* Submits operations: how many of them were taken, or the first one's error. Whose calls must not
 * be interrupted by what ends later has our thread do it. */
int laio_submit_ops(ouro_loop *loop, const struct laio_context *context, ouro_op *const *ops,
                    unsigned count);

/* As aio_sleep, for the same. */
int laio_sleep(const struct laio_context *context, struct waiter *waiter, uint32_t wakes,
               const struct timespec *timeout, const struct aio_shield *old);

/* Does the program wait for events of this context in our io_getevents alone? */
bool laio_is_called(const struct laio_context *context);

/* With the lock. One request; without it: those of a keeper for which that was called. */
int laio_cancel_op(ouro_loop *loop, struct laio_request *request);
void laio_cancel_marked(const struct laio_keeper *keeper, ouro_loop *loop);

/* With the lock. A poll of this block that nobody has cancelled; NULL: there is none. */
struct laio_request *laio_find_poll(const struct laio_context *context, const struct iocb *block);

/* Without the lock: cancels what may wait for ever, waits for the rest, forgets all. */
void laio_end_all(struct laio_context *context, const struct aio_shield *old);

/* Until what was accepted for files is on its way to them, as kernel AIO would have it (exit). */
void laio_drain(void);

/* With the lock. The program's descriptor, held by one of ours: its number, or -1. */
int laio_hold(int fd);
void laio_unhold(int hold);
int laio_held(int hold); /* the descriptor; -1: it was closed behind our back */

/* Ours, until the program closes it; also when it gives the number to another file. */
void laio_mark(int fd);
bool laio_is_marked(int fd);

/* ---- libaio_held.c --------------------------------------------------------------------------- */

/* Without the lock. So many of these requests are run by who holds their files; the others are to
 * be submitted to the loop as they are. */
unsigned laio_held_submit(ouro_loop *loop, ouro_op *const *ops, unsigned count);
bool laio_holds(void);                               /* with the lock */
void laio_held_cancel(struct laio_request *request); /* with it */
void laio_held_forked(void);

/* ---- libaio_look.c: whose a request is ------------------------------------------------------- */

enum laio_kind {
    LAIO_NOTHING, /* the kernel shall say why not */
    LAIO_QUICK,   /* the kernel does it without blocking */
    LAIO_FILE,
    LAIO_PIPE,
    LAIO_SOCKET,
    LAIO_STREAM, /* terminals, eventfd and so on */
};
enum laio_whose { LAIO_THEIRS, LAIO_OURS }; /* or -errno: refused */

/* What was found in this call, so that requests on one descriptor ask once. */
struct laio_look {
    aio_context_t name;
    int fd;
    int flags;
    enum laio_kind kind;
    bool proves;             /* each direction is to be tried before it is believed */
    unsigned proved;         /* bits: reading, writing */
    int64_t resfd;           /* that was proved to be an eventfd */
    uintptr_t read, written; /* pages of blocks that were proved to be there */
};
void laio_look_init(struct laio_look *look, aio_context_t name);
int laio_whose(struct laio_look *look, const struct iocb *block);
void laio_look_at(struct laio_look *look, int fd);
bool laio_plausible(const void *block, size_t size); /* an address that a program may have */
bool laio_readable(const void *at, size_t size);     /* by a system call */
bool laio_writable(void *at, size_t size);
bool laio_can_read(struct laio_look *look, const struct iocb *block);
bool laio_can_write(struct laio_look *look, struct iocb *block);
bool laio_writes(const struct iocb *block);
bool laio_is_vector(const struct iocb *block);

/* ---- libaio_submit.c, libaio_events.c -------------------------------------------------------- */

int laio_submit(aio_context_t name, long count, struct iocb **blocks);

/* With the lock. A request of ours, which counts as running from now on: 0 or -EAGAIN. */
int laio_accept(struct laio_context *context, const struct laio_look *look, struct iocb *block,
                bool listed, struct laio_request **ret);

/* The key of a block becomes 0, as in the kernel: 0 or -EFAULT. */
int laio_clear_key(struct laio_look *look, struct iocb *block);

int laio_cancel(aio_context_t name, struct iocb *block, struct io_event *ret);

/* mask: NULL, or the signals that are blocked while it waits. */
int laio_getevents(aio_context_t name, long min, long count, struct io_event *events,
                   const struct timespec *timeout, const sigset_t *mask);

/* ---- libaio_failing.c ------------------------------------------------------------------------ */

/* A request that can only fail with this errno. Its file is opened for it, and closed behind it,
 * as is another one that has to be open meanwhile (-1: none). */
struct laio_failing {
    int error;
    int (*open)(int *ret_other);
    uint16_t opcode;
    uint16_t size;
    uint16_t offset;
    char *buffer;
};
extern char laio_scrap[8]; /* a buffer for what nobody wants */

const struct laio_failing *laio_failing_of(int error); /* or that of EIO */
int laio_open_terminal(bool writes);                   /* whose other side is closed: EIO */
int laio_open_reset(void);                             /* a read of it is ECONNRESET */

/* ---- libaio_proxy.c -------------------------------------------------------------------------- */

/* With the lock of the blocks. Whether the block of a request that is over can be submitted as it
 * is on other files; and doing it: how many, and why no more. Nobody is told by a descriptor. */
bool laio_proxy_can(const struct laio_request *request);
unsigned laio_proxy_submit(struct laio_context *context, struct laio_request *const *requests,
                           unsigned count, long *ret_error);
int laio_proxy_error(const struct laio_request *request); /* that the event of a failed one has */
void laio_proxy_forked(void);

/* ---- libaio_inject.c ------------------------------------------------------------------------- */

/* Without the lock, shielded: delivers what is over into the context's ring. */
void laio_deliver(struct laio_context *context);

/* Events that the kernel has given: what is ours among them is put right. How many are left. */
long laio_correct(struct laio_context *context, struct io_event *events, long count);

/* Without it there is nothing of ours: a descriptor of /dev/null, or -1. */
int laio_null(void);
void laio_inject_forked(void);

#endif

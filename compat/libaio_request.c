/* SPDX-License-Identifier: MIT */
/* libaio_request.c: the requests that are ours: their memory, their end, and the descriptors that
 * are told of it. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "libaio_pure.h"

enum {
    CHUNK = 256, /* requests that get their memory together */
    CHUNKS = 2048,
    HOLDS = 256,
    HOLD_MARK = 33, /* a signal that means nothing without O_ASYNC: the descriptor is ours */
    OTHER_MARK = 34,
    LENGTH = 2,     /* of a transfer: which of ouro_op.arg */
    SOON_MS = 2,    /* that is how late what nobody fetches may be */
    CALLS_FEW = 32, /* events in a row, after which nobody else is expected */
};

/* How operations get into a loop. */
enum {
    WAY_UNKNOWN,
    WAY_RING,  /* into that of all */
    WAY_APART, /* into one where their files are held, if possible: the other one is mostly empty */
};

static struct {
    struct laio_request *chunks[CHUNKS];
    struct laio_request *free;
    uint32_t count;                        /* requests there is memory for */
    uint32_t busy;                         /* in use */
    _Atomic uint32_t files;                /* that are running, for files */
    struct laio_context *late;             /* contexts with what nobody has fetched so far */
    struct errand *errands;                /* for our thread */
    bool ticks;                            /* it looks again soon */
    struct laio_request *told, **told_end; /* over, and such that tell: for our thread */
    _Atomic int way;                       /* one of these: see laio_submit_ops */
    uint32_t looped;                       /* operations in the loop, where they are counted */
    struct {
        int fd, held;
        uint32_t users;
    } holds[HOLDS];
} laio;

static pthread_mutex_t blocks = PTHREAD_MUTEX_INITIALIZER;

void laio_lock_blocks(void)
{
    pthread_mutex_lock(&blocks);
}

void laio_unlock_blocks(void)
{
    pthread_mutex_unlock(&blocks);
}

/* ---- The process ---------------------------------------------------------------------------- */

void aio_prepare(void)
{
    stats_open(STATS_LIBAIO);
}

bool aio_busy(void)
{
    return laio.way == WAY_APART ? laio.looped : laio.busy;
}

/* With kernel AIO it would not wait for streams; for files it does in the end (laio_drain). */
bool aio_may_end(void)
{
    return true;
}

/* Contexts are the parent's, and so are their requests. */
void aio_forked(void)
{
    laio.free = NULL;
    laio.busy = 0;
    laio.files = 0;
    laio.late = NULL;
    laio.errands = NULL;
    laio.ticks = false;
    laio.told = NULL;
    laio.way = WAY_UNKNOWN;
    laio.looped = 0;
    for (uint32_t i = 0; i < laio.count; i++) {
        struct laio_request *request = &laio.chunks[i / CHUNK][i % CHUNK];

        memset(request, 0, sizeof(*request));
        request->next = laio.free;
        laio.free = request;
    }
    for (unsigned i = 0; i < HOLDS; i++) {
        if (laio.holds[i].users && laio_held((int)i) >= 0)
            (void)LAIO_KERNEL(SYS_close, laio.holds[i].held);
        laio.holds[i].users = 0;
    }
    laio_contexts_forked();
    laio_inject_forked();
    laio_held_forked();
    pthread_mutex_init(&blocks, NULL);
}

/* ---- Descriptors that are told -------------------------------------------------------------- */

void laio_mark(int fd)
{
    (void)LAIO_KERNEL(SYS_fcntl, fd, F_SETSIG, HOLD_MARK);
}

bool laio_is_marked(int fd)
{
    return LAIO_KERNEL(SYS_fcntl, fd, F_GETSIG) == HOLD_MARK;
}

/* With the lock, of one that is marked. Containers refuse kcmp(2); then what is done to the one is
 * looked for at the other. */
static bool is_same_file(int fd, int held)
{
    pid_t self = getpid();
    long r = LAIO_KERNEL(SYS_kcmp, self, self, KCMP_FILE, fd, held);
    bool same;

    if (r >= 0)
        return r == 0;
    if (LAIO_KERNEL(SYS_fcntl, held, F_SETSIG, OTHER_MARK) < 0)
        return false;
    same = LAIO_KERNEL(SYS_fcntl, fd, F_GETSIG) == OTHER_MARK;
    laio_mark(held);
    return same;
}

int laio_hold(int fd)
{
    int unused = -1;
    long held;

    for (int i = 0; i < HOLDS; i++) {
        if (laio.holds[i].users && laio.holds[i].fd == fd && laio_held(i) >= 0 &&
            is_same_file(fd, laio.holds[i].held)) {
            laio.holds[i].users++;
            return i;
        }
        if (!laio.holds[i].users)
            unused = i;
    }
    if (unused < 0)
        return -1;
    held = LAIO_KERNEL(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
    if (held < 0)
        return -1;
    laio_mark((int)held);
    laio.holds[unused].fd = fd;
    laio.holds[unused].held = (int)held;
    laio.holds[unused].users = 1;
    return unused;
}

int laio_held(int hold)
{
    int fd = laio.holds[hold].held;

    return laio_is_marked(fd) ? fd : -1;
}

void laio_unhold(int hold)
{
    if (hold < 0 || --laio.holds[hold].users)
        return;
    if (laio_held(hold) >= 0)
        (void)LAIO_KERNEL(SYS_close, laio.holds[hold].held);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static bool more_requests(void)
{
    size_t size = CHUNK * sizeof(struct laio_request);
    struct laio_request *chunk;

    if (laio.count == CHUNK * CHUNKS)
        return false;
    chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return false;
    laio.chunks[laio.count / CHUNK] = chunk;
    for (unsigned i = CHUNK; i-- > 0;) {
        chunk[i].next = laio.free;
        laio.free = &chunk[i];
    }
    atomic_signal_fence(memory_order_seq_cst); /* a fork here finds the memory that it counts */
    laio.count += CHUNK;
    return true;
}

struct laio_request *laio_take(struct laio_context *context)
{
    struct laio_request *request;

    if (!laio.free && !more_requests())
        return NULL;
    request = laio.free;
    laio.free = request->next;
    laio.busy++;
    if (laio.way != WAY_APART)
        aio_drive_busy();
    request->context = context;
    request->keeper = NULL;
    request->source = NULL;
    request->used = true;
    request->over = request->stuck = false;
    request->file = request->prompt = false;
    request->kept = false;
    request->canceled = false;
    request->vector = NULL;
    request->begun = 0;
    request->hold = -1;
    request->op.cb = NULL;
    request->op.user = request;
    return request;
}

void laio_give(struct laio_request *request)
{
    laio_unhold(request->hold);
    if (request->vector != request->few)
        free(request->vector);
    request->vector = NULL;
    request->used = false;
    request->next = laio.free;
    laio.free = request;
    laio.busy--;
}

void laio_begun(struct laio_request *request)
{
    struct laio_context *context = request->context;

    context->running++;
    context->undelivered++;
    context->prompt += request->prompt;
    if (request->file)
        atomic_fetch_add(&laio.files, 1);
    atomic_fetch_add(&context->special, 1);
    if (request->hold >= 0) { /* who waits for that descriptor makes no call of ours */
        request->kept = true;
        aio_drive_keep();
    }
}

void laio_unbegun(struct laio_request *request)
{
    request->context->running--;
    if (request->file)
        atomic_fetch_sub(&laio.files, 1);
    laio_delivered(request);
}

void laio_retire(struct laio_request *request)
{
    struct laio_context *context = request->context;

    context->undelivered--;
    context->prompt -= request->prompt;
    laio_unhold(request->hold);
    request->hold = -1;
    if (request->kept)
        aio_drive_kept();
    request->kept = false;
}

void laio_delivered(struct laio_request *request)
{
    laio_retire(request);
    atomic_fetch_sub(&request->context->special, 1);
    laio_give(request);
}

/* ---- The end -------------------------------------------------------------------------------- */

/* Our thread looks every other millisecond while there is one. */
void laio_queue(struct laio_context *context)
{
    if (context->queued)
        return;
    context->queued = context->young = true;
    context->next = laio.late;
    laio.late = context;
    if (laio.way == WAY_APART) /* whoever this is */
        aio_drive_call();
    else if (!laio.ticks)
        aio_drive_hurry();
    laio.ticks = true;
}

/* With the lock. */
static void queue_now(struct laio_context *context, struct laio_context **list)
{
    if (context->queued_now)
        return;
    context->queued_now = true;
    context->next_now = *list;
    *list = context;
}

static void append(struct laio_context *context, struct laio_request *request)
{
    request->next = NULL;
    if (context->first)
        context->last->next = request;
    else
        context->first = request;
    context->last = request;
}

/* Before the program sees that it is over. */
static void count_end(const struct laio_request *request, int64_t res, uint64_t now)
{
    const ouro_op *op = &request->op;
    bool writes = op->code == OURO_WRITE || op->code == OURO_WRITEV;
    unsigned kind = writes ? STATS_WRITE : STATS_READ;
    bool vector = op->code == OURO_READV || op->code == OURO_WRITEV;

    if (op->code == OURO_FSYNC)
        kind = STATS_FSYNC;
    stats_end(kind, vector && res > 0 ? (uint64_t)res : op->arg[LENGTH], res, now - request->begun);
}

/* With the lock. What has to be delivered now comes into the list. */
static void finish(struct laio_request *request, int64_t res, struct laio_context **now)
{
    struct laio_context *context = request->context;

    request->res = res;
    request->over = true;
    context->running--;
    if (request->file)
        atomic_fetch_sub(&laio.files, 1);
    if (context->dying) {
        laio_delivered(request);
        aio_wake(context->waiters);
        return;
    }
    if (context->pure) {
        laio_pure_post(context, request);
        aio_wake(context->waiters);
        return;
    }
    append(context, request);
    if (context->waiting)
        aio_wake(context->waiters);
    if (request->hold >= 0 ||
        (!context->waiting && (!laio_is_called(context) || context->sleepers)))
        queue_now(context, now);
    else if (!context->waiting)
        laio_queue(context);
}

/* With the lock. Our thread delivers them when it looks next. */
static void queue_all(struct laio_context *list)
{
    while (list) {
        struct laio_context *context = list;

        list = context->next_now;
        context->queued_now = false;
        laio_queue(context);
        context->young = false;
    }
}

/* Without the lock. */
static void deliver_now(struct laio_context *list)
{
    while (list) {
        struct laio_context *context = list;

        aio_lock();
        list = context->next_now;
        context->queued_now = false;
        aio_unlock();
        laio_deliver(context);
    }
}

static void count_ends(const ouro_event *events, unsigned count)
{
    uint64_t now = stats_now();

    for (unsigned i = 0; i < count; i++) {
        const struct laio_request *request = events[i].op->user;

        if (request->begun)
            count_end(request, events[i].res, now);
    }
    stats_ended_by(stats_ender(), count);
}

void aio_finish_all(const ouro_event *events, unsigned count)
{
    struct laio_context *now = NULL;

    if (stats_on)
        count_ends(events, count);
    aio_lock();
    if (laio.way == WAY_APART)
        laio.looped -= count;
    for (unsigned i = 0; i < count; i++)
        finish(events[i].op->user, events[i].res, &now);
    aio_unlock();
    deliver_now(now);
}

void laio_finish(struct laio_request *request, int64_t res)
{
    struct laio_context *now = NULL;

    if (stats_on && request->begun) {
        count_end(request, res, stats_now());
        stats_ended_by(STATS_AT_ONCE, 1);
    }
    aio_lock();
    finish(request, res, &now);
    aio_unlock();
    deliver_now(now);
}

void laio_finish_apart(const ouro_event *events, unsigned count)
{
    struct laio_context *now = NULL;

    if (stats_on)
        count_ends(events, count);
    aio_lock();
    for (unsigned i = 0; i < count; i++) {
        struct laio_request *request = events[i].op->user;

        if (request->hold < 0) {
            finish(request, events[i].res, &now);
            continue;
        }
        request->res = events[i].res;
        request->next = NULL;
        *(laio.told ? laio.told_end : &laio.told) = request;
        laio.told_end = &request->next;
    }
    if (now || laio.told)
        aio_drive_call();
    queue_all(now);
    aio_unlock();
}

/* With the lock. They are in the queue then, or have been delivered. */
static void finish_told(void)
{
    struct laio_context *now = NULL;
    struct laio_request *request;

    while ((request = laio.told)) {
        laio.told = request->next;
        finish(request, request->res, &now);
    }
    queue_all(now);
}

/* ---- What our thread does between its turns ------------------------------------------------- */

/* With the lock. What is in the queue for the second time. */
static struct laio_context *take_old(void)
{
    struct laio_context **at = &laio.late, *list = NULL;

    while (*at) {
        struct laio_context *context = *at;

        if (context->young) {
            context->young = false;
            at = &context->next;
            continue;
        }
        *at = context->next;
        context->queued = false;
        queue_now(context, &list);
    }
    return list;
}

bool laio_is_called(const struct laio_context *context)
{
    return context->calls >= CALLS_FEW;
}

/* A submission that waits for our thread, on the stack of who wants it. */
struct errand {
    ouro_loop *loop;
    ouro_op *const *ops;
    unsigned count;
    int result;
    _Atomic uint32_t done;
    struct errand *next;
};

static int submit(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    int r = ouro_submit_n(loop, ops, count);
    bool over = false;

    for (int i = 0; i < r && !over; i++)
        over = ouro_done(ops[i]); /* or it is used again by now */
    if (over)
        aio_drive_reap();
    return r;
}

static void run_errands(void)
{
    struct errand *errand;

    aio_lock();
    errand = laio.errands;
    laio.errands = NULL;
    aio_unlock();
    while (errand) {
        struct errand *next = errand->next;

        errand->result = submit(errand->loop, errand->ops, errand->count);
        atomic_store(&errand->done, 1);
        aio_futex_wake(&errand->done); /* at worst it wakes somebody for nothing */
        errand = next;
    }
}

/* With the lock. Of those that find no room where files are held: as many as need no order, which
 * is kept there alone. */
static unsigned count_unordered(ouro_op *const *ops, unsigned count)
{
    unsigned i = 0;

    while (i < count && !(laio_holds() && ops[i]->flags & OURO_SERIAL))
        i++;
    return i;
}

/* As submit. */
static int submit_apart(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    unsigned done = laio_held_submit(loop, ops, count), left;
    int r;

    if (done)
        return (int)done;
    aio_lock();
    left = count_unordered(ops, count);
    if (!left) {
        aio_unlock();
        return -EAGAIN;
    }
    laio.looped += left;
    aio_drive_busy();
    aio_unlock();
    r = submit(loop, ops, left);
    aio_lock();
    laio.looped -= left - (r > 0 ? (unsigned)r : 0);
    aio_unlock();
    return r;
}

static int way(void)
{
    if (laio.way == WAY_UNKNOWN) {
        aio_lock();
        laio.way = aio_drive_interrupts() ? WAY_RING : WAY_APART;
        if (laio.way == WAY_APART)
            aio_drive_hurry(); /* our thread is in the loop still */
        aio_unlock();
    }
    return laio.way;
}

int laio_submit_ops(ouro_loop *loop, const struct laio_context *context, ouro_op *const *ops,
                    unsigned count)
{
    struct errand errand = { .loop = loop, .ops = ops, .count = count }, **end = &laio.errands;

    if (way() == WAY_APART)
        return submit_apart(loop, ops, count);
    if (laio_is_called(context) || !aio_drive_interrupts() || aio_drive_is_here())
        return submit(loop, ops, count);
    aio_lock();
    while (*end)
        end = &(*end)->next;
    *end = &errand;
    aio_drive_hurry();
    aio_unlock();
    while (!atomic_load(&errand.done))
        (void)aio_futex_wait(&errand.done, 0, NULL);
    return errand.result;
}

int laio_sleep(const struct laio_context *context, struct waiter *waiter, uint32_t wakes,
               const struct timespec *timeout, const struct aio_shield *old)
{
    return laio_is_called(context) ? aio_sleep(waiter, wakes, timeout, old)
                                   : aio_doze(waiter, wakes, timeout, old);
}

/* What could not be delivered for lack of room, or was left behind by who fetched the rest, is
 * delivered after a while. */
ouro_time aio_patience(bool *ret_parks)
{
    struct laio_context *list;
    bool more;

    run_errands();
    aio_lock();
    finish_told();
    list = take_old();
    *ret_parks = laio.way == WAY_APART && !laio.looped;
    aio_unlock();
    deliver_now(list);
    aio_lock();
    laio.ticks = more = laio.late;
    more = more || (laio.way == WAY_APART && laio.looped); /* there aio_drive_call wakes nobody */
    aio_unlock();
    return more ? SOON_MS * OURO_MS : OURO_S;
}

/* ---- The end of a context ------------------------------------------------------------------- */

/* With the lock. */
static bool is_begun(const struct laio_request *request)
{
    return request->keeper || ouro_op_id(&request->op);
}

int laio_cancel_op(ouro_loop *loop, struct laio_request *request)
{
    request->canceled = true;
    if (!request->keeper)
        return ouro_cancel(loop, &request->op);
    laio_held_cancel(request);
    return 0;
}

void laio_cancel_marked(const struct laio_keeper *keeper, ouro_loop *loop)
{
    aio_lock();
    for (uint32_t i = 0; i < laio.count; i++) {
        struct laio_request *request = &laio.chunks[i / CHUNK][i % CHUNK];

        if (request->used && request->keeper == keeper && request->source && request->canceled &&
            !request->over)
            (void)ouro_cancel(loop, &request->op);
    }
    aio_unlock();
}

struct laio_request *laio_find_poll(const struct laio_context *context, const struct iocb *block)
{
    for (uint32_t i = 0; i < laio.count; i++) {
        struct laio_request *request = &laio.chunks[i / CHUNK][i % CHUNK];

        if (request->used && request->context == context && request->at == block &&
            request->copy.aio_lio_opcode == LAIO_POLL && !request->over && !request->canceled &&
            is_begun(request))
            return request;
    }
    return NULL;
}

/* With the lock. What waits for a peer would wait for ever. */
static void cancel_all(const struct laio_context *context, ouro_loop *loop)
{
    for (uint32_t i = 0; i < laio.count; i++) {
        struct laio_request *request = &laio.chunks[i / CHUNK][i % CHUNK];

        if (request->used && request->context == context && !request->over && !request->file &&
            is_begun(request))
            (void)laio_cancel_op(loop, request);
    }
}

/* With the lock. */
static void forget(struct laio_context *context)
{
    struct laio_request *request;

    while ((request = context->first)) {
        context->first = request->next;
        laio_delivered(request);
    }
    while ((request = context->fixes)) {
        context->fixes = request->next;
        atomic_fetch_sub(&context->special, 1);
        laio_give(request);
    }
    context->fix_count = 0;
}

void laio_end_all(struct laio_context *context, const struct aio_shield *old)
{
    const struct timespec slice = { .tv_nsec = SOON_MS * 1000000L };
    struct aio_shield alone = *old;
    struct waiter *waiter;
    ouro_loop *loop;

    sigfillset(&alone.signals); /* a handler must not find a context that is half gone */
    alone.cancel = PTHREAD_CANCEL_DISABLE;
    if (!atomic_load(&context->special) || aio_start(&loop) < 0)
        return;
    aio_lock();
    waiter = aio_waiter_new();
    context->waiters |= aio_waiter_bit(waiter);
    while (context->running) {
        uint32_t wakes = aio_wakes(waiter);

        cancel_all(context, loop);
        aio_unlock();
        if (aio_drive_is_here())
            aio_drive_reap();
        (void)laio_sleep(context, waiter, wakes, &slice, &alone);
        aio_lock();
        if (aio_drive_is_here())
            finish_told();
    }
    aio_waiter_free(waiter);
    aio_unlock();
    laio_lock_blocks(); /* somebody may be delivering */
    aio_lock();
    forget(context);
    aio_unlock();
    laio_unlock_blocks();
}

/* ---- The end of the process ----------------------------------------------------------------- */

static bool files_are_left(void)
{
    finish_told(); /* this may be our thread */
    return atomic_load(&laio.files);
}

void laio_drain(void)
{
    if (atomic_load(&laio.files))
        aio_drain(files_are_left);
}

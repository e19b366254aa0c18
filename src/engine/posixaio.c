/* SPDX-License-Identifier: MIT */
/* posixaio.c: the engine on the C library's own POSIX AIO: files by aio_read, aio_write and
 * aio_fsync; what poll(2) knows by readiness; the rest on workers.
 *
 * A "hand" is a request that the C library may have, and what waits behind it: there is one for
 * each busy descriptor, because glibc runs the requests of a descriptor one after the other
 * anyway. There are HANDS of them; what finds none free is in the `crowd`. Whatever waits is held
 * (ouro__hold_file): its number may stand for another file when its turn comes.
 *
 * Nothing that the C library offers tells a loop of an end: a signal would be the program's, and
 * SIGEV_THREAD of glibc is a new thread each time, and nobody is told when that cannot be had. So
 * a driver that is about to sleep gives the requests that nobody watches to a "watcher", a thread
 * that sleeps in aio_suspend until one of them is over, rings, and gives all of them back. There
 * is no more than one as long as the loop sleeps for files alone. What a watcher has is not looked
 * at by the driver, so no request is used again while somebody waits for it.
 *
 * A forked child has a copy of glibc's bookkeeping, but none of its threads: it would wait for
 * them for ever. There, files go to workers. */
#include "poll_set.h"

#include <aio.h>
#include <unistd.h>

#define HANDS 32u /* glibc runs 20 at a time, of all that the process has */
#define STACK ((size_t)64 * 1024)
#define IDLE (10 * OURO_S) /* a watcher without requests waits that long */

struct hand {
    struct aiocb request; /* first: what a watcher has leads back here */
    ouro_op *op;          /* NULL: free */
    bool watched;
    struct ouro__list behind; /* wait for the same descriptor */
};

enum watch_state { WATCH_IDLE, WATCH_BUSY, WATCH_BACK };
struct watcher {
    struct posixaio *all;
    void *thread; /* NULL: none was started yet */
    pthread_cond_t cond;
    /* under the lock; BUSY: the watcher's */
    enum watch_state state;
    bool gone; /* the thread has ended, or is about to */
    unsigned count;
    const struct aiocb *requests[HANDS];
};

struct posixaio {
    struct poll_set set;
    struct hand hands[HANDS];
    unsigned busy, unwatched; /* hands with an operation; of them, those of no watcher */
    struct ouro__list crowd;
    bool orphan; /* the threads of the C library's AIO did not come along */

    pthread_mutex_t lock;
    bool stop;
    struct watcher *watchers[HANDS]; /* each has a request, so there are no more */
    unsigned watcher_count;
};

/* The process in which ouro first used the C library's AIO. */
static _Atomic long user_process;

static struct posixaio *state_of(ouro_loop *loop)
{
    return loop->engine_state;
}

/* ---- On the watchers' threads --------------------------------------------------------------- */

/* For something to do; false: there was nothing for long. */
static bool wait_for_work(struct watcher *watcher)
{
    ouro_time until = ouro__do_now() + IDLE;
    struct timespec at = { (time_t)(until / OURO_S), (long)(until % OURO_S) };
    int r = 0;

    while (watcher->state != WATCH_BUSY && !watcher->all->stop && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&watcher->cond, &watcher->all->lock, &at);
    return watcher->state == WATCH_BUSY;
}

static void *watcher_main(void *arg)
{
    struct watcher *watcher = arg;
    struct posixaio *all = watcher->all;

    pthread_mutex_lock(&all->lock);
    while (wait_for_work(watcher)) {
        pthread_mutex_unlock(&all->lock);
        sys_aio_suspend(watcher->requests, watcher->count);
        pthread_mutex_lock(&all->lock);
        watcher->state = WATCH_BACK;
        ouro__doorbell_ring(&all->set.ready.bell);
    }
    watcher->gone = true;
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* ---- Watching ------------------------------------------------------------------------------- */

/* Starts the thread of a watcher that has none, with the lock held. */
static bool start_watcher(struct watcher *watcher)
{
    if (watcher->thread)
        sys_join(watcher->thread);
    watcher->thread = NULL;
    if (sys_thread(&watcher->thread, watcher_main, watcher, STACK) < 0)
        return false;
    watcher->gone = false;
    return true;
}

static struct watcher *new_watcher(struct posixaio *all)
{
    ouro_loop *loop = all->set.ready.loop;
    struct watcher *watcher = ouro__alloc(loop, NULL, 0, sizeof(*watcher));

    if (!watcher)
        return NULL;
    *watcher = (struct watcher){ .all = all, .gone = true };
    ouro__cond_init(&watcher->cond);
    all->watchers[all->watcher_count++] = watcher;
    return watcher;
}

static struct watcher *free_watcher(struct posixaio *all)
{
    struct watcher *gone = NULL;

    for (unsigned i = 0; i < all->watcher_count; i++) {
        if (all->watchers[i]->state != WATCH_IDLE)
            continue;
        if (!all->watchers[i]->gone)
            return all->watchers[i];
        gone = all->watchers[i];
    }
    if (!gone)
        gone = new_watcher(all);
    return gone && start_watcher(gone) ? gone : NULL;
}

/* Has everything watched that the C library has. False: there is no thread for it. */
static bool watch(struct posixaio *all)
{
    struct watcher *watcher;

    if (!all->unwatched)
        return true;
    pthread_mutex_lock(&all->lock);
    watcher = free_watcher(all);
    if (watcher) {
        watcher->count = 0;
        for (struct hand *hand = all->hands; hand < all->hands + HANDS; hand++)
            if (hand->op && !hand->watched) {
                hand->watched = true;
                watcher->requests[watcher->count++] = &hand->request;
            }
        all->unwatched = 0;
        watcher->state = WATCH_BUSY;
        pthread_cond_signal(&watcher->cond);
    }
    pthread_mutex_unlock(&all->lock);
    return watcher;
}

/* What watchers have given back may be looked at, and used again. */
static void take_back(struct posixaio *all)
{
    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; i < all->watcher_count; i++) {
        struct watcher *watcher = all->watchers[i];

        if (watcher->state != WATCH_BACK)
            continue;
        for (unsigned k = 0; k < watcher->count; k++)
            ((struct hand *)(uintptr_t)watcher->requests[k])->watched = false;
        all->unwatched += watcher->count;
        watcher->state = WATCH_IDLE;
    }
    pthread_mutex_unlock(&all->lock);
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* Is it one that the C library does as perform.c means it? Streams could keep its threads for ever,
 * and what goes by readiness must not be started twice. */
static bool is_native(const struct posixaio *all, const ouro_op *op)
{
    uint8_t kind;

    if (all->orphan || op->notes_ & NOTE_STREAM)
        return false;
    if (op->code != OURO_FSYNC &&
        (!ouro__is_transfer(op) || (int64_t)op->arg[ARG_OFFSET] == OURO_CUR))
        return false;
    kind = ouro__file_kind(ouro__file_of(all->set.ready.loop, op), ouro__fd(op));
    return kind == FILE_PLAIN || kind == FILE_DIRECT || kind == FILE_MEMORY;
}

static long start(struct hand *hand, const ouro_op *op)
{
    struct ouro__span span = { .single = true };

    hand->request = (struct aiocb){ .aio_fildes = ouro__fd(op) };
    hand->request.aio_sigevent.sigev_notify = SIGEV_NONE;
    if (op->code == OURO_FSYNC)
        return sys_aio_start(&hand->request, op->arg[ARG_DATASYNC] ? O_DSYNC : O_SYNC);
    ouro__span_of(op, &span);
    hand->request.aio_lio_opcode = op->code == OURO_READ ? LIO_READ : LIO_WRITE;
    hand->request.aio_buf = span.ptr;
    hand->request.aio_nbytes = span.len;
    hand->request.aio_offset = (off_t)span.offset;
    return sys_aio_start(&hand->request, 0);
}

/* Gives op to the C library. What it does not take (no memory, no thread; aio_fsync of a descriptor
 * for reading) a worker does. */
static void run(struct posixaio *all, struct hand *hand, ouro_op *op)
{
    op->worker_ = NULL;
    if (start(hand, op) < 0) {
        ouro__to_worker(all->set.ready.loop, op, ROUTE_WORKER);
        return;
    }
    op->worker_ = hand;
    hand->op = op;
    hand->watched = false;
    all->busy++;
    all->unwatched++;
}

static void wait_in(struct ouro__list *list, ouro_op *op, void *where)
{
    ouro__hold_file(op);
    ouro__push(list, op);
    op->worker_ = where;
}

/* The one that has op's descriptor, or else a free one; NULL: there is none. */
static struct hand *hand_for(struct posixaio *all, const ouro_op *op)
{
    struct hand *free_one = NULL;

    for (struct hand *hand = all->hands; hand < all->hands + HANDS; hand++) {
        if (hand->op && hand->request.aio_fildes == ouro__fd(op))
            return hand;
        if (!hand->op && !free_one)
            free_one = hand;
    }
    return free_one;
}

static bool posixaio_take(struct ready *ready, ouro_op *op)
{
    struct posixaio *all = (struct posixaio *)ready;
    struct hand *hand;

    if (!is_native(all, op))
        return false;
    if (!atomic_load_explicit(&user_process, memory_order_relaxed))
        atomic_store(&user_process, (long)getpid());
    hand = all->crowd.head ? NULL : hand_for(all, op);
    if (!hand)
        wait_in(&all->crowd, op, &all->crowd);
    else if (hand->op)
        wait_in(&hand->behind, op, hand);
    else
        run(all, hand, op);
    return true;
}

/* ---- Ends ----------------------------------------------------------------------------------- */

/* What is known of its descriptor may be known of a file that had the number before. A stream would
 * keep a thread of the C library's for ever, so that is asked anew. */
static void run_held(struct posixaio *all, struct hand *hand, ouro_op *op)
{
    ouro_loop *loop = all->set.ready.loop;
    int r = ouro__check_file(loop, op);

    op->worker_ = NULL;
    ouro__file_counted(op)->kind = FILE_UNKNOWN;
    if (r < 0)
        ouro__report(loop, op, r);
    else if (is_native(all, op))
        run(all, hand, op);
    else
        ouro__unpull(loop, op);
}

/* A hand is free: for those behind it, then for the crowd, whose first may have to go behind
 * another one. */
static void pass_on(struct posixaio *all, struct hand *hand)
{
    ouro_op *op;

    while (!hand->op && (op = ouro__pop(&hand->behind)))
        run_held(all, hand, op);
    while ((op = all->crowd.head) && (hand = hand_for(all, op))) {
        ouro__pop(&all->crowd);
        if (hand->op)
            wait_in(&hand->behind, op, hand);
        else
            run_held(all, hand, op);
    }
}

static void end(struct posixaio *all, struct hand *hand, int64_t res)
{
    ouro_op *op = hand->op;

    hand->op = NULL;
    op->worker_ = NULL;
    all->busy--;
    all->unwatched--;
    pass_on(all, hand);
    ouro__report(all->set.ready.loop, op, res);
}

static void reap(struct posixaio *all)
{
    if (!all->busy)
        return;
    take_back(all);
    for (struct hand *hand = all->hands; hand < all->hands + HANDS; hand++) {
        long r;

        if (hand->op && !hand->watched && (r = sys_aio_result(&hand->request)) != -EINPROGRESS)
            end(all, hand, r);
    }
}

/* ---- A turn --------------------------------------------------------------------------------- */

/* Nobody tells a sleeper of what is not watched. */
static ouro_time posixaio_sleeps(struct ready *ready, ouro_time until)
{
    struct posixaio *all = (struct posixaio *)ready;

    return watch(all) ? until : ouro__sooner(until, sys_now() + OURO__DEAF_NS);
}

/* Somebody sleeps already. */
static void tell(struct posixaio *all)
{
    struct ready *ready = &all->set.ready;

    if ((ready->loop->sleeping || ready->hosted) && !watch(all))
        ouro__doorbell_ring(&ready->bell);
}

static const struct ready_more by_requests = {
    .take = posixaio_take,
    .sleeps = posixaio_sleeps,
};

static void posixaio_submit(ouro_loop *loop)
{
    ouro__ready_submit(loop);
    tell(state_of(loop));
}

static void posixaio_wait(ouro_loop *loop, ouro_time until)
{
    struct posixaio *all = state_of(loop);

    reap(all);
    ouro__ready_wait(loop, until);
    reap(all);
    if (loop->queue.head) /* what has ended can go on */
        ouro__ready_submit(loop);
    tell(all);
}

static void drop(struct posixaio *all, struct ouro__list *list, ouro_op *op)
{
    ouro__unlink(list, op);
    ouro__ready_end(&all->set.ready, op, -ECANCELED);
}

/* A cancelled request is over, and whoever watches it wakes; one that is not to be cancelled goes
 * on. */
static void posixaio_cancel(ouro_loop *loop, ouro_op *op)
{
    struct posixaio *all = state_of(loop);
    struct hand *hand = op->worker_;

    if (op->worker_ == &all->crowd)
        drop(all, &all->crowd, op);
    else if ((uintptr_t)hand - (uintptr_t)all->hands >= sizeof(all->hands))
        ouro__ready_cancel(loop, op);
    else if (hand->op == op)
        sys_aio_cancel(hand->request.aio_fildes, &hand->request);
    else
        drop(all, &hand->behind, op);
}

static int posixaio_pollfd(ouro_loop *loop)
{
    int fd = ouro__poll_set_pollfd(loop);

    tell(state_of(loop));
    return fd;
}

/* ---- Routes --------------------------------------------------------------------------------- */

static enum ouro__route posixaio_route(ouro_loop *loop, unsigned code)
{
    return code == OURO_FSYNC && !state_of(loop)->orphan ? ROUTE_ENGINE
                                                         : ouro__ready_route(loop, code);
}

static enum ouro__route posixaio_route_op(ouro_loop *loop, ouro_op *op)
{
    if (is_native(state_of(loop), op))
        return ROUTE_ENGINE;
    return op->code == OURO_FSYNC ? ROUTE_WORKER : ouro__ready_route_op(loop, op);
}

/* ---- Open and close ------------------------------------------------------------------------- */

static int posixaio_open(ouro_loop *loop, struct ouro__why *why)
{
    struct posixaio *all;
    int r = (int)sys_aio_find();

    if (r < 0) {
        snprintf(why->text, sizeof(why->text),
                 "posixaio: the C library's aio_read cannot be reached: the program is linked "
                 "statically, or its C library has no POSIX AIO; use engine threads");
        return r;
    }
    r = ouro__poll_set_open(loop, sizeof(struct posixaio), why);
    if (r < 0)
        return r;
    all = state_of(loop);
    pthread_mutex_init(&all->lock, NULL);
    all->orphan = atomic_load(&user_process) && atomic_load(&user_process) != (long)getpid();
    all->set.ready.more = &by_requests;
    loop->caps = ouro__ready_caps() & ~loop->mask;
    return 0;
}

/* In a forked child the watchers do not exist, and one of them may hold the lock for ever. */
static int posixaio_close(ouro_loop *loop, int forked, ouro_time until)
{
    struct posixaio *all = state_of(loop);

    (void)until; /* all requests are over: nobody waits for them any more */
    if (!forked) {
        pthread_mutex_lock(&all->lock);
        all->stop = true;
        for (unsigned i = 0; i < all->watcher_count; i++)
            pthread_cond_signal(&all->watchers[i]->cond);
        pthread_mutex_unlock(&all->lock);
    }
    for (unsigned i = 0; i < all->watcher_count; i++) {
        struct watcher *watcher = all->watchers[i];

        if (!forked && watcher->thread)
            sys_join(watcher->thread);
        if (!forked)
            pthread_cond_destroy(&watcher->cond);
        ouro__alloc(loop, watcher, sizeof(*watcher), 0);
    }
    if (!forked)
        pthread_mutex_destroy(&all->lock);
    ouro__poll_set_close(loop);
    return 0;
}

const struct ouro__engine ouro__engine_posixaio = {
    .name = "posixaio",
    .sends_here = true,
    .open = posixaio_open,
    .close = posixaio_close,
    .route = posixaio_route,
    .route_op = posixaio_route_op,
    .submit = posixaio_submit,
    .wait = posixaio_wait,
    .cancel = posixaio_cancel,
    .wake = ouro__ready_wake,
    .pollfd = posixaio_pollfd,
};

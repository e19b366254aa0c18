/* SPDX-License-Identifier: MIT */
/* open.c: making a loop, ending it, and what a forked child does with its copy. */
#include "core.h"

#include <stdio.h>

#define FIRST_PLACES 256u
#define DEPTH_DEFAULT 256u
#define DEPTH_MOST 32768u
#define OPS_MOST OURO__REMOTE /* as many as there are slots for the driver */
#define BLOCKING_DEFAULT 64u
#define WORKERS_LEAST 4u

static int check_config(const ouro_config *config)
{
    if (config->size != sizeof(*config) || config->threading > OURO_SERVICE)
        return -EINVAL;
    if (config->depth > DEPTH_MOST || config->max_ops > OPS_MOST)
        return -EINVAL;
    for (unsigned i = 0; i < sizeof(config->reserved) / sizeof(config->reserved[0]); i++)
        if (config->reserved[i])
            return -EINVAL;
    return 0;
}

static void set_config(ouro_loop *loop, const ouro_config *config)
{
    unsigned workers = 2 * ouro__cores();

    if (config)
        loop->config = *config;
    if (!loop->config.depth)
        loop->config.depth = DEPTH_DEFAULT;
    if (!loop->config.max_workers)
        loop->config.max_workers = workers > WORKERS_LEAST ? workers : WORKERS_LEAST;
    if (!loop->config.max_blocking)
        loop->config.max_blocking = BLOCKING_DEFAULT;
    loop->max_ops = loop->config.max_ops ? loop->config.max_ops : OPS_MOST;
    loop->mask = loop->config.mask;
    loop->threading = (uint8_t)loop->config.threading;
    loop->locked_mode = loop->threading != OURO_OWNED;
}

static int make_ring(ouro_loop *loop, struct ouro__ring *ring)
{
    ring->at = ouro__alloc(loop, NULL, 0, FIRST_PLACES * sizeof(ouro_event));
    if (!ring->at)
        return -ENOMEM;
    ring->mask = FIRST_PLACES - 1;
    return 0;
}

static void free_ring(ouro_loop *loop, struct ouro__ring *ring)
{
    ouro__alloc(loop, ring->at, ring->at ? ((size_t)ring->mask + 1) * sizeof(ouro_event) : 0, 0);
}

/* Everything but the engine, which is closed. Half-built loops are fine. */
static void release(ouro_loop *loop)
{
    void *(*alloc)(void *, void *, size_t) = loop->config.alloc;

    free_ring(loop, &loop->calls);
    free_ring(loop, &loop->events);
    ouro__slots_finish(loop);
    ouro__alloc(loop, loop->heap, loop->heap_room * sizeof(*loop->heap), 0);
    ouro__alloc(loop, loop->inbox.requests, loop->inbox.request_room * sizeof(struct ouro__request),
                0);
    ouro__files_finish(loop);
    ouro__host_close(loop);
    ouro__alive_close(loop);
    pthread_mutex_destroy(&loop->inbox.lock);
    pthread_mutex_destroy(&loop->lock);
    if (alloc)
        alloc(loop->config.alloc_ctx, loop, 0);
    else
        sys_realloc(loop, 0);
}

static int start_service(ouro_loop *loop)
{
    long r;

    if (loop->threading != OURO_SERVICE)
        return 0;
    pthread_mutex_lock(&loop->lock);
    loop->service_stop = false;
    r = sys_thread((void **)&loop->service, ouro__service_main, loop, OURO__SERVICE_STACK);
    loop->service_runs = r == 0;
    pthread_mutex_unlock(&loop->lock);
    return (int)r;
}

static void stop_service(ouro_loop *loop)
{
    if (!loop->service_runs)
        return;
    pthread_mutex_lock(&loop->lock);
    loop->service_stop = true;
    pthread_mutex_unlock(&loop->lock);
    /* A callback may be waiting in the loop for an operation that would never end by itself. */
    ouro_cancel_all(loop);
    ouro__ring_bell(loop);
    pthread_join(loop->service, NULL);
    loop->service_runs = false;
}

static int build(ouro_loop *loop)
{
    const char *list = loop->config.engine;
    int r;

    pthread_mutex_init(&loop->lock, NULL);
    pthread_mutex_init(&loop->inbox.lock, NULL);
    loop->now = sys_now();
    loop->host_fd = -1;
    loop->inbox.slots.base = OURO__REMOTE;
    loop->places = FIRST_PLACES < loop->max_ops ? FIRST_PLACES : loop->max_ops;
    if (!list)
        list = ouro__environment("OURO_ENGINE");
    if ((r = ouro__engines_set(loop, list)) < 0)
        return r;
    loop->config.engine = loop->engines;
    if ((r = ouro__alive_open(loop)) < 0)
        return r;
    if ((r = make_ring(loop, &loop->calls)) < 0 || (r = make_ring(loop, &loop->events)) < 0)
        return r;
    if ((r = ouro__select(loop, 0)) < 0)
        return r;
    ouro__trace_open(loop);
    if ((r = start_service(loop)) < 0) {
        loop->engine->close(loop, 0, OURO_FOREVER);
        ouro__trace_close(loop, 0);
        return r;
    }
    return 0;
}

/* The reason is copied out also when there is no loop to keep it. */
int ouro__open_why(const ouro_config *config, ouro_loop **ret, char *why, size_t why_size)
{
    ouro_loop *loop;
    int r = config ? check_config(config) : 0;

    if (r < 0)
        return r;
    if (config && config->alloc)
        loop = config->alloc(config->alloc_ctx, NULL, sizeof(*loop));
    else
        loop = sys_realloc(NULL, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    memset(loop, 0, sizeof(*loop));
    set_config(loop, config);
    r = build(loop);
    if (why && why_size)
        snprintf(why, why_size, "%s", loop->why);
    if (r < 0) {
        release(loop);
        return r;
    }
    *ret = loop;
    return 0;
}

int ouro_open(const ouro_config *config, ouro_loop **ret)
{
    return ret ? ouro__open_why(config, ret, NULL, 0) : -EINVAL;
}

/* ---- Closing ------------------------------------------------------------------------------- */

/* Cancels all and runs what is left to its end. */
static int drain(ouro_loop *loop, ouro_time until)
{
    ouro__inbox_close(loop);
    for (;;) {
        int r;
        ouro_cancel_all(loop);
        r = ouro_run(loop, OURO_ALL, until);
        if (r < 0)
            return r;
        if (!ouro__in_flight(loop) && !ouro__calls_ready(loop) && !ouro__inbox_busy(loop))
            return 0;
        if (until != OURO_FOREVER && sys_now() >= until)
            return -EBUSY;
    }
}

/* A child's copies of descriptors that operations have opened for themselves. */
static int drop_descriptor(ouro_loop *loop, ouro_op *op, void *user)
{
    (void)user;
    if (op->notes_ & NOTE_AUX_OURS)
        ouro__fd_close(op->aux_fd_);
    if (op == &loop->lost_watch)
        ouro__drop(loop, (int)op->fd);
    return 0;
}

static int close_in_child(ouro_loop *loop)
{
    ouro__each_slot(loop, drop_descriptor, NULL);
    ouro__pools_lose(loop, false, 1);
    ouro__events_drop(loop);
    ouro__pools_free(loop);
    if (loop->engine)
        loop->engine->close(loop, 1, OURO_FOREVER);
    ouro__lost_finish(loop, 1);
    ouro__workers_finish(loop, 1);
    ouro__notify_finish(loop, 1);
    ouro__direct_finish(loop, 1);
    ouro__trace_close(loop, 1);
    release(loop);
    return 0;
}

static int close_loop(ouro_loop *loop, ouro_time until)
{
    int r;

    if (!atomic_load(loop->alive))
        return close_in_child(loop);
    r = ouro__enter(loop);
    if (r < 0)
        return r;
    if (ouro__in_callback(loop)) {
        ouro__leave(loop);
        return -EDEADLK;
    }
    loop->closing = true;
    ouro__leave(loop);
    stop_service(loop);
    if (!loop->drained && (r = drain(loop, until)) < 0)
        return r;
    loop->drained = true;
    ouro__workers_finish(loop, 0);
    ouro__notify_finish(loop, 0);
    ouro__direct_finish(loop, 0);
    ouro__events_drop(loop);
    ouro__pools_free(loop);
    r = loop->engine->close(loop, 0, until);
    if (r < 0)
        return r;
    ouro__trace_close(loop, 0);
    ouro__lost_finish(loop, 0);
    release(loop);
    return 0;
}

/* It joins threads, which a cancel would end, and half of a loop could not be closed again. */
int ouro_close(ouro_loop *loop, ouro_time until)
{
    int r;

    if (!loop)
        return 0;
    ouro__hold_off_cancel();
    r = close_loop(loop, until);
    ouro__let_cancel();
    return r;
}

/* ---- Fork ---------------------------------------------------------------------------------- */

static int forget(ouro_loop *loop, ouro_op *op, void *user)
{
    uint32_t index = (uint32_t)(op->id_ & OURO__SLOT_MASK);

    drop_descriptor(loop, op, user);
    atomic_store(&ouro__asked_at(loop, index)->next, 0);
    ouro__clean(op);
    ouro__set_state(op, STATE_IDLE);
    ouro__slot_give(loop, op);
    return 0;
}

/* Locks may have been held by threads that do not exist here: all is made anew. */
int ouro_fork_child(ouro_loop *loop)
{
    int r;

    if (!loop)
        return -EINVAL;
    if (atomic_load(loop->alive))
        return -EINVAL;
    ouro__pools_lose(loop, false, 1);
    if (loop->engine)
        loop->engine->close(loop, 1, OURO_FOREVER);
    ouro__lost_finish(loop, 1);
    ouro__workers_finish(loop, 1);
    ouro__notify_finish(loop, 1);
    pthread_mutex_init(&loop->lock, NULL);
    pthread_mutex_init(&loop->inbox.lock, NULL);
    ouro__each_slot(loop, forget, NULL);
    for (uint32_t i = loop->calls.head; i != loop->calls.tail; i++)
        if (!(loop->calls.at[i & loop->calls.mask].cflags & OURO_C_MORE))
            ouro__set_state(loop->calls.at[i & loop->calls.mask].op, STATE_IDLE);
    ouro__events_drop(loop);
    loop->heap_count = loop->streams = 0;
    ouro__set_places(loop);
    loop->stats.completed = loop->stats.submitted;
    loop->turn_progress = ouro__progress(loop);
    loop->queue = loop->parked = (struct ouro__list){ 0 };
    loop->frames = NULL;
    loop->inbox.posted = loop->inbox.messages = loop->inbox.returned = (struct ouro__list){ 0 };
    loop->inbox.request_count = 0;
    loop->inbox.posts = loop->inbox.taken = 0;
    atomic_store(&loop->inbox.cancels, 0);
    atomic_store(&loop->inbox.rung, false);
    atomic_store(&loop->inbox.woken, false);
    ouro__files_forget(loop);
    loop->regions_native = false;
    loop->regbuf_in_flight = 0;
    loop->leading = loop->sleeping = loop->service_runs = false;
    loop->waiters = NULL;
    atomic_store(&loop->owner, NULL);
    ouro__host_close(loop);
    loop->engine_state = NULL;
    loop->why[0] = 0;
    atomic_store(loop->alive, 1);
    r = ouro__select(loop, 0);
    if (r == 0)
        ouro__pools_adopt(loop);
    if (r == 0)
        r = start_service(loop);
    if (r < 0)
        atomic_store(loop->alive, 0); /* it can still be closed, or tried again */
    return r;
}

/* SPDX-License-Identifier: MIT */
/* engine.h: what stands between the core and an engine.
 *
 * An engine pulls work (ouro__pull) and reports results (ouro__report). It changes no operation's
 * state, runs no callback, and knows nothing of deadlines, chains, order, EXACT or retries: the
 * core does these once for all engines. All functions are called by the thread that drives the loop
 * (SHARED, SERVICE: under the loop's lock) unless a line says otherwise. */
#ifndef OURO_ENGINE_H
#define OURO_ENGINE_H

#include <stdbool.h>

#include "ouro.h"

/* A reason in plain words: what was refused, the likely cause, what to do. */
struct ouro__why {
    char text[512];
};

enum ouro__route {
    ROUTE_NO = 0,      /* not to be had */
    ROUTE_ENGINE = 1,  /* the engine takes it from the queue */
    ROUTE_WORKER = 2,  /* a worker that ends by itself (files, names) */
    ROUTE_BLOCKER = 3, /* a worker that may wait for ever */
    ROUTE_CORE = 4     /* timers, messages: the core itself */
};

struct ouro__engine {
    const char *name;
    bool sends_here; /* a send is a plain call: the core may make it as soon as it is submitted */

    /* The probe is the open, with the very flags it will use. Sets loop->engine_state and
     * loop->caps (the OURO_CAP_* it has, config.mask taken away). On failure -errno, why filled,
     * nothing left behind. */
    int (*open)(ouro_loop *loop, struct ouro__why *why);

    /* Releases everything; nothing of the engine's is in flight. Returns when no kernel object is
     * left, or -EBUSY at `until` (call again). With `forked`: in a child; drop this process' copies
     * only. */
    int (*close)(ouro_loop *loop, int forked, ouro_time until);

    /* Where operations of this code go, asked once at open for each code; and for codes for which
     * this answers ROUTE_ENGINE, route_op (may be NULL) decides per operation at start: the file's
     * facts are known then (ouro__file_of). Support for ouro_support: OURO_NATIVE when ENGINE. */
    enum ouro__route (*route)(ouro_loop *loop, unsigned code);
    enum ouro__route (*route_op)(ouro_loop *loop, ouro_op *op);

    /* Pull while there is room and hand to the kernel; never blocks; leaves the rest queued. */
    void (*submit)(ouro_loop *loop);

    /* Accepts a prefix of ops, as far as they are plain (ouro__is_plain, ouro__enter_plain) and it
     * has room and slots for them, and has them RUNNING, without handing them to the kernel yet:
     * how many. Asked only when nothing is queued. May be NULL. */
    unsigned (*take)(ouro_loop *loop, ouro_op *const *ops, unsigned count);

    /* The same one by one for opens, closes, and reads and writes of one buffer, which the core has
     * accepted and makes PLAIN: how many there is room for, until something else is asked of the
     * engine; and takes one of them. May both be NULL. */
    unsigned (*room)(ouro_loop *loop);
    void (*take_one)(ouro_loop *loop, ouro_op *op);

    /* Submit, then sleep until something is there to report, the doorbell rings, or `until`
     * (absolute; OURO_NOWAIT: do not sleep; OURO_FOREVER), then report what finished. The
     * engine sleeps between ouro__sleep and ouro__awake, which drop and take the loop's lock.
     * Spurious returns are fine. */
    void (*wait)(ouro_loop *loop, ouro_time until);

    /* Asks for the early end of a RUNNING operation, which reports in any case. Cannot fail; waits
     * in a list of the engine's own (through op->next_) if there is no room. */
    void (*cancel)(ouro_loop *loop, ouro_op *op);

    /* Any thread, signal handlers too: makes wait return, now or the next time. state is
     * loop->engine_state; after a loss it may be that of the lost engine. */
    void (*wake)(void *state);

    /* A descriptor that is readable when wait(OURO_NOWAIT) would report something or the
     * doorbell was rung; -errno. */
    int (*pollfd)(ouro_loop *loop);

    /* Registered regions (count 0: none). 0 when the kernel has them now (operations with
     * OURO_REGBUF may then name region op->region_), else -errno, and the core uses plain memory.
     * May be NULL. */
    int (*buffers)(ouro_loop *loop, const struct iovec *regions, unsigned count);

    /* A slot of the direct table stands for fd from now on, or for nothing (-1). 0 when operations
     * may name it by its number from now on (ouro__direct.native), else -errno, and they name the
     * descriptor. May be NULL. */
    int (*slot)(ouro_loop *loop, uint32_t slot, int fd);

    /* A descriptor for a slot whose file the engine alone has (NOTE_SLOTTED), or -errno. May be
     * NULL where none has such. */
    int (*lend)(ouro_loop *loop, uint32_t slot);

    /* A pool's free buffers become the kernel's to take from (completions then bring them by
     * ouro__pool_took): 0, or -errno, and the pool keeps them. pool_give: one more is aside.
     * pool_close: all are the pool's again; also called when the engine is lost, or in a forked
     * child. May be NULL, all three. */
    int (*pool_open)(ouro_loop *loop, ouro_pool *pool);
    void (*pool_give)(ouro_pool *pool);
    void (*pool_close)(ouro_loop *loop, ouro_pool *pool, int forked);

    /* The loop is about to close a descriptor that it has opened, of which the engine has said that
     * it keeps a registration (ouro__file.watched). NULL: says so of none. */
    void (*forget)(ouro_loop *loop, int fd);

    /* The system took the engine away; called by ouro__engine_lost. Reports what is known to be
     * finished, gives back by ouro__unpull what the kernel never saw, and drops the kernel's
     * objects without waiting. Operations that are still RUNNING then may be the kernel's yet: the
     * result is a descriptor, from now on the caller's, that hangs up (POLLHUP) when the kernel is
     * done with all of them. The state stays, for wake() by threads that have not noticed; close
     * releases it. NULL: cannot be lost. */
    int (*abandon)(ouro_loop *loop);
};

extern const struct ouro__engine ouro__engine_uring, ouro__engine_kaio, ouro__engine_epoll,
    ouro__engine_threads, ouro__engine_posixaio;

#endif

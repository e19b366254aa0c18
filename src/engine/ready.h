/* SPDX-License-Identifier: MIT */
/* ready.h: what engines share that know when a descriptor is ready, and let workers do the rest.
 *
 * Such an engine tries an operation without waiting (ouro__perform), waits on its descriptor when
 * it would block, and reports it when that is ready; the core then has it tried again. So readiness
 * is never more than a hint, and one too many costs a try. ready.c does this once for all of them;
 * how descriptors are watched is a `ready_way`: a set for poll(2) (poll_set.c) or one of the
 * kernel's (epoll_set.c). The state of an engine begins with its set, and a set with a struct
 * ready. */
#ifndef OURO_READY_H
#define OURO_READY_H

#include "../core.h"
#include "doorbell.h"

/* Who waits on a descriptor; by its number. */
struct watch {
    struct ouro__list ops; /* in order of arming */
    uint16_t wants;        /* what they wait for, at least */
    /* the set's own: all zero until it first watches this number */
    uint16_t mask, seen;
    uint8_t trust, transport;
    uint32_t at;
};

struct ready;
struct ready_way {
    /* op is about to wait on fd, where watch->wants includes op->ready_ already. 0: what comes is
     * told by ouro__ready_got; > 0: these bits hold now, it need not wait; -EOPNOTSUPP: a worker
     * must wait for it; other -errno: it ends so. */
    int64_t (*watch)(struct ready *ready, uint32_t fd, struct watch *watch, const ouro_op *op);

    /* Nobody waits on fd any more. */
    void (*unwatch)(struct ready *ready, uint32_t fd, struct watch *watch);

    /* op was tried, would block, and waits for op->ready_ from now on. May be NULL. */
    void (*tried)(struct ready *ready, struct watch *watch, const ouro_op *op);

    /* A receive has brought less than it had room for. True: there is no more now, and
     * ouro__ready_got will tell when there is. May be NULL. */
    bool (*drained)(struct ready *ready, uint32_t fd, struct watch *watch);

    /* Sleeps until something is ready, the doorbell rings, or `until`; tells ouro__ready_got, or
     * leaves some for the next time. */
    void (*look)(struct ready *ready, ouro_time until);
};

/* What an engine does by itself besides. */
struct ready_more {
    /* op is to be tried. True: the engine has it and will report it. */
    bool (*take)(struct ready *ready, ouro_op *op);

    /* Starts what was taken, and reports what has ended; before each sleep and behind it. May be
     * NULL. */
    void (*run)(struct ready *ready);

    /* The driver is about to sleep: until when it may. May be NULL. */
    ouro_time (*sleeps)(struct ready *ready, ouro_time until);
};

struct ready {
    ouro_loop *loop;
    const struct ready_way *way;
    const struct ready_more *more; /* may be NULL */
    size_t size;                   /* of the whole state of the engine */
    struct doorbell bell;
    struct watch *watches; /* by descriptor number */
    uint32_t room;
    uint32_t armed;          /* operations that wait in watches */
    struct ouro__list ended; /* have left them; result_ says how */
    int64_t bytes;           /* that streams have brought in this turn, each 1 KiB at least */
    bool left;               /* the set's own: of what it has seen, some is not told yet */
    bool hosted;             /* somebody has our descriptor in a set of his own */
    bool strays;             /* it may be readable for what nobody waits for: each turn looks */
    bool sure;               /* the set's own: false again at the start of each turn */
    bool deaf;               /* the engine's own: it has to look, nothing would wake it */
};

/* Makes loop->engine_state, of so many bytes, with a doorbell; on failure nothing is left. */
int ouro__ready_open(ouro_loop *loop, size_t size, const struct ready_way *way,
                     struct ouro__why *why);
void ouro__ready_close(ouro_loop *loop);

/* Slots of struct ouro__engine. */
enum ouro__route ouro__ready_route(ouro_loop *loop, unsigned code);
enum ouro__route ouro__ready_route_op(ouro_loop *loop, ouro_op *op);
void ouro__ready_submit(ouro_loop *loop);
void ouro__ready_wait(ouro_loop *loop, ouro_time until);
void ouro__ready_cancel(ouro_loop *loop, ouro_op *op);
void ouro__ready_wake(void *state);

/* For ways: the bits hold on this watch's descriptor: ends who waits for them, or whom they end
 * unasked (errors, hang-ups; POLLNVAL with -EBADF); of those who would take what is there, the
 * first of each direction. True: others still wait, for watch->wants, and are told of what holds
 * then, too. */
bool ouro__ready_got(struct ready *ready, struct watch *watch, uint32_t bits);

/* For ways that know `drained`: something has come here, of which those who wait are not told yet.
 * A stream of bytes that waits alone receives on the spot and goes on waiting. True: so it was, or
 * it waits no more; false: nothing was done. */
bool ouro__ready_serve(struct ready *ready, uint32_t fd, struct watch *watch);

/* For engines: a RUNNING operation that is in no list ends so; the driver hears of it. */
void ouro__ready_end(struct ready *ready, ouro_op *op, int64_t res);

/* Which OURO_CAP_* the calls have that tries and workers make. */
uint64_t ouro__ready_caps(void);

/* Have streams brought so much in this turn that who gets it should come first? More would be cold
 * in the caches before it is sent on, and might need all buffers of a pool. */
static inline bool ouro__ready_full(const struct ready *ready)
{
    return ready->bytes >= 65536;
}

static inline struct watch *ouro__ready_watch(struct ready *ready, uint32_t fd)
{
    return fd < ready->room ? &ready->watches[fd] : NULL;
}

static inline ouro_time ouro__sooner(ouro_time until, ouro_time at)
{
    return until == OURO_FOREVER || until > at ? at : until;
}

#endif

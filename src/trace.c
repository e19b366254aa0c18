/* SPDX-License-Identifier: MIT */
/* trace.c: counters, and the listing of what is in flight and where it waits. */
#include "core.h"

int ouro_get_counters(ouro_loop *loop, ouro_counters *ret, size_t size)
{
    int r = ret && size <= sizeof(*ret) ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    loop->stats.in_flight = ouro__in_flight(loop);
    loop->stats.uncollected = ouro__events_ready(loop);
    memcpy(ret, &loop->stats, size);
    ouro__leave(loop);
    return 0;
}

static const char *where(const ouro_op *op)
{
    switch (op->state_) {
    case STATE_INBOX: return "inbox";
    case STATE_HELD: return op->marks_ & MARK_TURN ? "chain" : "order";
    case STATE_QUEUED: return op->ready_ ? "readiness" : "queue";
    case STATE_PLAIN: return "engine";
    case STATE_RUNNING: return op->ready_ ? "readiness" : "engine";
    case STATE_AWAY: return op->code == OURO_MESSAGE ? "inbox" : "worker";
    case STATE_TIMING: return "timer";
    default: return "callback";
    }
}

struct visit {
    int (*fn)(const ouro_op *op, const char *where, ouro_time since, void *user);
    void *user;
    int result;
};

static int visit_one(ouro_loop *loop, ouro_op *op, void *user)
{
    struct visit *visit = user;

    if (op == &loop->lost_watch)
        return 0;
    visit->result = visit->fn(
        op, where(op), op->state_ == STATE_PLAIN ? ouro__now(loop) : op->since_, visit->user);
    return visit->result;
}

int ouro_each_inflight(ouro_loop *loop,
                       int (*fn)(const ouro_op *op, const char *where, ouro_time since, void *user),
                       void *user)
{
    struct visit visit = { .fn = fn, .user = user };
    int r = fn ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    ouro__each_slot(loop, visit_one, &visit);
    ouro__leave(loop);
    return visit.result;
}

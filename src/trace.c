/* SPDX-License-Identifier: MIT */
/* trace.c: counters, the listing of what is in flight and where it waits, and what a program's user
 * may ask for by the environment: a line for each operation, a summary at close. */
#include "core.h"

#include <stdio.h>

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
    case STATE_PARKED: return op->marks_ & MARK_STREAM ? "stream" : "engine";
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
    bool known = op->state_ != STATE_PLAIN || op->code != OURO_NOP;

    if (op == &loop->lost_watch)
        return 0;
    visit->result = visit->fn(op, where(op), known ? op->since_ : ouro__now(loop), visit->user);
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

/* ---- Asked for by the environment ---------------------------------------------------------- */

/* OURO_TRACE: 1 is standard error, anything else a file to append to. A file that cannot be opened
 * is said once, and changes nothing else. */
void ouro__trace_open(ouro_loop *loop)
{
    const char *path = ouro__environment("OURO_TRACE");
    int saved = errno;
    FILE *file;

    if (!path || !*path || !strcmp(path, "0"))
        return;
    if (!strcmp(path, "1")) {
        loop->trace = stderr;
        return;
    }
    file = fopen(path, "ae"); /* e: programs that are started do not inherit it */
    if (file)
        setvbuf(file, NULL, _IOLBF, BUFSIZ);
    else
        fprintf(stderr, "ouro: OURO_TRACE: cannot open %s: %s\n", path, strerror(errno));
    loop->trace = file;
    errno = saved;
}

/* OURO_STATS=1: what the loop has done. */
static void print_summary(const ouro_loop *loop)
{
    const ouro_counters *c = &loop->stats;
    const char *wanted = ouro__environment("OURO_STATS");

    if (!wanted || !*wanted || !strcmp(wanted, "0"))
        return;
    fprintf(
        stderr,
        "ouro: %s: %llu operations (%llu on the spot, %llu on workers, %llu canceled, %llu timed "
        "out), %llu submitting calls, %llu sleeps, %llu wakeups, %llu retries\n",
        loop->engine ? loop->engine->name : "none", (unsigned long long)c->completed,
        (unsigned long long)c->inlined, (unsigned long long)c->pooled,
        (unsigned long long)c->canceled, (unsigned long long)c->timed_out,
        (unsigned long long)c->enters, (unsigned long long)c->waits, (unsigned long long)c->wakeups,
        (unsigned long long)c->retried);
}

void ouro__trace_close(ouro_loop *loop, int forked)
{
    int saved = errno;

    if (!forked && loop->drained)
        print_summary(loop);
    if (loop->trace && loop->trace != stderr)
        fclose(loop->trace);
    loop->trace = NULL;
    errno = saved;
}

/* Who reads along sees when, on which loop and engine, what, on which descriptor. */
static void trace(ouro_loop *loop, const ouro_op *op, const char *what, const char *rest)
{
    ouro_time now = sys_now();
    int saved = errno;

    fprintf(loop->trace, "ouro %llu.%06llu %p %s %s %s id=0x%llx fd=%lld%s\n",
            (unsigned long long)(now / OURO_S), (unsigned long long)(now % OURO_S / OURO_US),
            (void *)loop, loop->engine->name, what, ouro__kinds[op->code].name,
            (unsigned long long)op->id_, (long long)op->fd, rest);
    errno = saved;
}

void ouro__trace_begin(ouro_loop *loop, const ouro_op *op)
{
    char rest[80] = "";

    if (ouro__kinds[op->code].traits & KIND_SPAN)
        snprintf(rest, sizeof(rest), " %s=%llu offset=%lld",
                 ouro__kinds[op->code].traits & KIND_VECTOR ? "vectors" : "bytes",
                 (unsigned long long)op->arg[ARG_LEN], (long long)op->arg[ARG_OFFSET]);
    trace(loop, op, "begin", rest);
}

void ouro__trace_end(ouro_loop *loop, const ouro_op *op, int64_t res, uint32_t cflags)
{
    char rest[80];

    snprintf(rest, sizeof(rest), " res=%lld flags=0x%x after=%lluus", (long long)res,
             (unsigned)cflags, (unsigned long long)((sys_now() - op->since_) / OURO_US));
    trace(loop, op, "end", rest);
}

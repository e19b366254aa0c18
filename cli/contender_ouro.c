/* SPDX-License-Identifier: MIT */
/* The contenders `ouro:ENGINE`, one for each engine of the library: written as a program would use
 * it, with operations that are submitted in batches and completions that are reaped as values. */
#include "bench.h"

#include "ouro.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ENGINES_MAX = 8, WORKERS_MAX = 32 };

/* One operation in flight; in suite files it opens, reads and closes one file after the other. */
struct slot {
    _Alignas(64) ouro_op op; /* first: an event's operation is its slot; in few cache lines */
    ouro_op close;           /* quiet, so that the slot need not wait for it */
    bool reading;            /* its file is open */
    bool closes;             /* `close` was submitted */
    int fd;
    uint64_t begun;
    uint64_t where; /* offset, or number of the file */
    char *data;
};

struct batches {
    unsigned flush; /* flush when so many are prepared; 0: all at the next turn */
    unsigned parts; /* take a part of the depth at a time: the device works on the others then */
};

struct loop_user {
    const struct job *job;
    ouro_loop *loop;
    int fd;
    char *buffers;
    uint64_t stride;
    struct slot *slots;
    struct slot **idle;
    unsigned idle_count;
    ouro_op **batch; /* prepared, not yet submitted: a close and the next open of each slot */
    unsigned batch_count;
    ouro_event *events;
    uint64_t completed; /* suite nop */
    struct batches batches;
    ouro_fd file;        /* suite random: fd, or a slot of the direct table */
    uint32_t read_flags; /* suite random */
};

static int failed_call(const char *what, int error)
{
    cli_error("%s: %s", what, strerror(-error));
    return error;
}

static int submit_batch(struct loop_user *u)
{
    unsigned count = u->batch_count;
    int r;

    u->batch_count = 0;
    if (!count)
        return 0;
    r = ouro_submit_n(u->loop, u->batch, count);
    return r < (int)count ? failed_call("ouro_submit_n", r < 0 ? r : -EAGAIN) : 0;
}

/* The same, and the engine sees it at once instead of at the next turn. */
static int submit_now(struct loop_user *u)
{
    int r = submit_batch(u);

    return r < 0 ? r : ouro_flush(u->loop);
}

/* Runs the loop until an event lies ready, or until all that is left has ended: how many events were
 * taken, or -errno. */
static int wait_events(struct loop_user *u)
{
    unsigned depth = u->job->depth, parts = u->batches.parts;
    bool busy = u->idle_count < depth; /* else the last closes */
    int r = ouro_run(u->loop, busy ? 1 : OURO_ALL, OURO_FOREVER);

    if (r < 0 && r != -EINTR)
        return failed_call("ouro_run", r);
    r = ouro_reap(u->loop, u->events, depth < parts ? 1 : depth / parts);
    return r < 0 ? failed_call("ouro_reap", r) : r;
}

/* Operations stay as they were prepared, so they may be submitted again as they are. They are quiet:
 * an event is a failure. */
static int nop_batch(struct loop_user *u, unsigned depth)
{
    int r;

    u->batch_count = depth;
    r = submit_batch(u);
    if (r == 0)
        r = ouro_run(u->loop, OURO_ALL, OURO_FOREVER);
    if (r < 0)
        return failed_call("ouro_run", r);
    if (r > 0)
        r = ouro_reap(u->loop, u->events, 1);
    return r > 0 ? (int)u->events[0].res : r;
}

/* Not only are there no errors: as many are final as were submitted. */
static int check_nops(struct loop_user *u, uint64_t operations)
{
    ouro_counters counters;
    int r = ouro_get_counters(u->loop, &counters, sizeof(counters));

    if (r < 0)
        return failed_call("ouro_get_counters", r);
    u->completed += operations;
    if (counters.completed != u->completed || counters.in_flight) {
        cli_error("%llu operations were completed, not %llu",
                  (unsigned long long)counters.completed, (unsigned long long)u->completed);
        return -EIO;
    }
    return 0;
}

static int nop_round(struct loop_user *u, struct round *round)
{
    unsigned depth = u->job->depth;
    uint64_t start = now_ns(), now = start, before;

    while (now - start < round->limit_ns && !cli_signal) {
        before = now;
        for (unsigned batch = 0; batch < NOP_BATCHES; batch++) {
            int r = nop_batch(u, depth);
            if (r < 0)
                return r;
        }
        now = now_ns();
        histogram_add(round->latency, (now - before) / NOP_BATCHES, (uint64_t)NOP_BATCHES * depth);
        round->operations += (uint64_t)NOP_BATCHES * depth;
    }
    return cli_signal ? -EINTR : check_nops(u, round->operations);
}

static void begin_block(struct loop_user *u, uint64_t *seed, uint64_t now)
{
    struct slot *slot = u->idle[--u->idle_count];

    slot->begun = now;
    slot->where = random_offset(u->job, seed);
    ouro_prep_read(&slot->op, u->file, slot->data, u->job->block, (int64_t)slot->where);
    slot->op.flags = u->read_flags;
    u->batch[u->batch_count++] = &slot->op;
}

static void begin_file(struct loop_user *u, unsigned index, uint64_t now)
{
    struct slot *slot = u->idle[--u->idle_count];

    slot->begun = now;
    slot->where = index;
    slot->reading = false;
    ouro_prep_open(&slot->op, u->job->dir_fd, u->job->names[index], O_RDONLY, 0);
    u->batch[u->batch_count++] = &slot->op;
}

static void end_slot(struct loop_user *u, struct slot *slot, struct round *round, uint64_t now)
{
    u->idle[u->idle_count++] = slot;
    round->operations++;
    histogram_add(round->latency, now - slot->begun, 1);
}

/* By now it has long ended, unless the engine's threads are very slow. */
static int close_file(struct loop_user *u, struct slot *slot)
{
    int r = slot->closes && !ouro_done(&slot->close)
                ? ouro_wait(u->loop, &slot->close, OURO_FOREVER)
                : 0;

    if (r < 0)
        return failed_call("ouro_wait", r);
    ouro_prep_close(&slot->close, slot->fd);
    slot->close.flags = OURO_QUIET;
    slot->closes = true;
    u->batch[u->batch_count++] = &slot->close;
    return 0;
}

/* What a file's operation has brought, and its next one. A read that failed still leads to close.
 * */
static int go_on(struct loop_user *u, struct slot *slot, int64_t result, struct round *round,
                 uint64_t now)
{
    const struct job *job = u->job;
    unsigned index = (unsigned)slot->where;

    if (slot->reading) {
        int r = job_check_file(job, index, slot->data, result, round->full_check);
        int closed = close_file(u, slot);
        end_slot(u, slot, round, now);
        return r ? r : closed;
    }
    if (result < 0) {
        end_slot(u, slot, round, now);
        return job_check_file(job, index, NULL, result, false);
    }
    slot->fd = (int)result;
    slot->reading = true;
    ouro_prep_read(&slot->op, slot->fd, slot->data, job->size, 0);
    u->batch[u->batch_count++] = &slot->op;
    return 0;
}

static int finish(struct loop_user *u, const ouro_event *event, struct round *round, uint64_t now)
{
    struct slot *slot = (struct slot *)(void *)event->op;

    if (event->op->code == OURO_CLOSE)
        return failed_call("close", (int)event->res);
    if (u->job->suite == SUITE_FILES)
        return go_on(u, slot, event->res, round, now);
    end_slot(u, slot, round, now);
    return job_check_block(u->job, slot->where, slot->data, event->res, round->full_check);
}

static int read_round(struct loop_user *u, struct round *round)
{
    const struct job *job = u->job;
    bool files = job->suite == SUITE_FILES, more = true;
    uint64_t start = now_ns(), now = start, seed = round->seed;
    unsigned next = 0;
    int r = 0;

    while (more || u->idle_count < job->depth || u->batch_count) {
        int count;

        while (more && r == 0 && u->idle_count && (!files || next < job->count)) {
            if (files)
                begin_file(u, next++, now);
            else
                begin_block(u, &seed, now);
            if (u->batches.flush && u->batch_count == u->batches.flush)
                r = submit_now(u);
        }
        count = submit_batch(u);
        r = r ? r : count;
        count = wait_events(u);
        if (count < 0)
            return count; /* the loop is broken; close cancels and drains what is left */
        now = now_ns();
        for (int i = 0; i < count; i++) {
            int finished = finish(u, &u->events[i], round, now);
            r = r ? r : finished;
        }
        if (r < 0 || cli_signal || (files ? next == job->count : now - start >= round->limit_ns))
            more = false;
    }
    return cli_signal ? -EINTR : r;
}

static int ouro_round(void *state, struct round *round)
{
    struct loop_user *u = state;

    return u->job->suite == SUITE_NOP ? nop_round(u, round) : read_round(u, round);
}

/* As the contender liburing tries several. */
static const struct batches choices[2][3] = {
    { { 0, 1 }, { 4, 1 }, { 1, 1 } }, /* random */
    { { 0, 1 }, { 0, 2 }, { 0, 4 } }, /* files */
};

static int variant_round(void *state, unsigned variant, struct round *round)
{
    struct loop_user *u = state;

    u->batches = choices[u->job->suite == SUITE_FILES][variant];
    return read_round(u, round);
}

static int choose_batches(struct loop_user *u)
{
    int r = job_choose(u->job, 3, u, variant_round);

    if (r >= 0)
        u->batches = choices[u->job->suite == SUITE_FILES][r];
    return r < 0 ? r : 0;
}

static void ouro_contender_close(void *state)
{
    struct loop_user *u = state;

    ouro_close(u->loop, OURO_FOREVER);
    if (u->fd >= 0)
        close(u->fd);
    free(u->slots);
    free(u->idle);
    free(u->batch);
    free(u->events);
    free(u->buffers);
    free(u);
}

static int make_slots(struct loop_user *u)
{
    const struct job *job = u->job;
    unsigned depth = job->depth;

    u->slots = aligned_alloc(64, depth * sizeof(*u->slots));
    u->idle = calloc(depth, sizeof(struct slot *));
    u->batch = calloc(2 * (size_t)depth, sizeof(ouro_op *));
    u->events = calloc(depth, sizeof(*u->events));
    if (!u->slots || !u->idle || !u->batch || !u->events)
        return -ENOMEM;
    memset(u->slots, 0, depth * sizeof(*u->slots));
    if (job->suite != SUITE_NOP) {
        u->buffers =
            job_buffers(depth, job->suite == SUITE_FILES ? job->size : job->block, &u->stride);
        if (!u->buffers)
            return -ENOMEM;
    }
    for (unsigned i = 0; i < depth; i++) {
        u->slots[i].data = u->buffers ? u->buffers + i * u->stride : NULL;
        u->idle[u->idle_count++] = &u->slots[i];
        u->batch[i] = &u->slots[i].op; /* suite nop submits all of them every time */
        ouro_prep_nop(&u->slots[i].op);
        u->slots[i].op.flags = OURO_QUIET;
    }
    return 0;
}

/* The file once more, in a slot of the loop's own table. */
static int open_slot(struct loop_user *u)
{
    ouro_op *op = &u->slots[0].op;
    int r = ouro_direct_table(u->loop, 1);

    if (r < 0)
        return r;
    ouro_prep_open_direct(op, OURO_HERE, u->job->path, O_RDONLY | O_DIRECT, 0, 0);
    return (int)ouro_do(u->loop, op);
}

static int open_random(struct loop_user *u, char *why)
{
    struct iovec region = { u->buffers, u->stride * u->job->depth };

    u->fd = job_open_file(u->job, why);
    if (u->fd < 0)
        return u->fd;
    u->file = u->fd;
    if (!u->job->direct)
        return 0; /* cached reads need nothing of this */
    if (ouro_register_buffers(u->loop, &region, 1) == 0)
        u->read_flags |= OURO_REGBUF;
    if (open_slot(u) == 0) {
        u->file = 0;
        u->read_flags |= OURO_DIRECT;
    }
    return 0;
}

static int ouro_contender_open(const struct contender *self, const struct job *job,
                               void **ret_state, char *why)
{
    ouro_config config = { .size = sizeof(config), .engine = self->engine };
    struct loop_user *u = calloc(1, sizeof(*u));
    int r;

    if (!u)
        return -ENOMEM;
    u->job = job;
    u->fd = -1;
    if (job->depth > 256)
        config.depth = job->depth;
    /* Where operations run on threads, as many as the contender `blocking` has, within reason. */
    if (job->suite != SUITE_NOP)
        config.max_workers = job->depth < WORKERS_MAX ? job->depth : WORKERS_MAX;
    r = ouro_open(&config, &u->loop);
    if (r < 0)
        ouro_probe(self->engine, why, WHY_SIZE, NULL);
    else
        r = make_slots(u);
    if (r == 0 && job->suite == SUITE_RANDOM)
        r = open_random(u, why);
    if (r == 0 && job->suite != SUITE_NOP)
        r = choose_batches(u);
    if (r < 0)
        ouro_contender_close(u);
    else
        *ret_state = u;
    return r;
}

static const char *ouro_describe(const struct job *job)
{
    return job->suite == SUITE_NOP     ? "ouro_submit_n, ouro_run until all are final"
           : job->suite == SUITE_FILES ? "open, read and close are operations of the loop"
           : job->direct               ? "file in a slot of the loop, registered buffers"
                                       : "ouro_submit_n, ouro_run, ouro_reap";
}

unsigned contender_ouro_list(struct contender *ret, unsigned max)
{
    static char names[ENGINES_MAX][32];
    const char *engine;
    unsigned count = 0;

    while (count < max && count < ENGINES_MAX && (engine = ouro_engine_list(count))) {
        snprintf(names[count], sizeof(names[count]), "ouro:%s", engine);
        ret[count] = (struct contender){
            .name = names[count],
            .engine = engine,
            .suites = 1u << SUITE_NOP | 1u << SUITE_FILES | 1u << SUITE_RANDOM,
            .describe = ouro_describe,
            .open = ouro_contender_open,
            .round = ouro_round,
            .close = ouro_contender_close,
        };
        count++;
    }
    return count;
}

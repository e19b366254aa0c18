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
    bool closes;             /* `close` was submitted */
    unsigned direct;         /* where the next file goes that is opened into the direct table */
    struct piece piece;
};

struct batches {
    unsigned flush; /* flush when so many are prepared; 0: all at the next turn */
    unsigned parts; /* await and take a part of the depth: the device works on the others then */
    bool direct;    /* suite files: each slot's file is in a slot of the loop's direct table */
};

struct loop_user {
    const struct job *job;
    const char *engine;
    ouro_loop *loop;
    struct reading reading; /* not in suite nop; its file: `file`, or a slot of the direct table */
    int file;               /* of random blocks: opened by the loop, or -1 */
    struct slot *slots;
    struct slot **idle;
    unsigned idle_count;
    ouro_op **batch; /* prepared, not yet submitted: a close and the next open of each slot */
    unsigned batch_count;
    ouro_event *events;
    uint64_t completed; /* suite nop */
    struct batches batches;
    uint32_t read_flags; /* suite random */
    bool has_table;      /* suite files: direct slots without descriptors */
    bool opening;        /* what was submitted last has opens in it */
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

/* For how many events to wait. Opens are soon over, and their reads shall be on their way before
 * anything is waited for. */
static unsigned wanted(const struct loop_user *u)
{
    unsigned depth = u->job->depth, part = depth / u->batches.parts, busy = depth - u->idle_count;

    if (!busy) /* but for the last closes */
        return OURO_ALL;
    return u->opening || busy < 2 * part ? 1 : part;
}

/* Runs the loop until events lie ready, or until all that is left has ended: how many events were
 * taken, or -errno. */
static int wait_events(struct loop_user *u)
{
    unsigned part = u->job->depth / u->batches.parts;
    int r = ouro_run(u->loop, wanted(u), OURO_FOREVER);

    u->opening = false;
    if (r < 0 && r != -EINTR)
        return failed_call("ouro_run", r);
    r = ouro_reap(u->loop, u->events, part ? part : 1);
    return r < 0 ? failed_call("ouro_reap", r) : r;
}

/* Operations stay as they were prepared, so they may be submitted again as they are. They are
 * quiet, and an event is a failure. */
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

static void prepare(struct loop_user *u, ouro_op *op, uint32_t flags)
{
    op->flags = flags;
    u->batch[u->batch_count++] = op;
}

static void read_piece(struct loop_user *u, struct slot *slot)
{
    const struct piece *piece = &slot->piece;

    ouro_prep_read(&slot->op, piece->fd, piece->data, piece->size, piece->offset);
    prepare(u, &slot->op, u->batches.direct ? OURO_DIRECT : u->read_flags);
}

/* Starts the next operation of the round; false: nothing is left to start. */
static bool begin_next(struct loop_user *u, uint64_t now, uint64_t *next)
{
    struct slot *slot = u->idle[u->idle_count - 1];
    struct piece *piece = &slot->piece;

    if (!piece_next(piece, &u->reading, (unsigned)(slot - u->slots), now, next))
        return false;
    u->idle_count--;
    u->opening = piece->fd < 0;
    if (piece->fd >= 0) {
        read_piece(u, slot);
    } else if (u->batches.direct) {
        ouro_prep_open_direct(&slot->op, u->job->dir_fd, u->job->names[piece->where], O_RDONLY, 0,
                              slot->direct);
        prepare(u, &slot->op, 0);
    } else {
        ouro_prep_open(&slot->op, u->job->dir_fd, u->job->names[piece->where], O_RDONLY, 0);
        prepare(u, &slot->op, 0);
    }
    return true;
}

/* By now it has long ended, unless the engine's threads are very slow. */
static int close_file(struct loop_user *u, struct slot *slot)
{
    int r = slot->closes && !ouro_done(&slot->close)
                ? ouro_wait(u->loop, &slot->close, OURO_FOREVER)
                : 0;

    if (r < 0)
        return failed_call("ouro_wait", r);
    ouro_prep_close(&slot->close, slot->piece.fd);
    prepare(u, &slot->close, u->batches.direct ? OURO_QUIET | OURO_DIRECT : OURO_QUIET);
    slot->closes = true;
    slot->direct ^= 1; /* that one is free: its close has ended */
    slot->piece.fd = -1;
    return 0;
}

/* An open leads to a read; that, even one that failed, to a close. */
static int finish(struct loop_user *u, const ouro_event *event, struct round *round, uint64_t now)
{
    struct slot *slot = (struct slot *)(void *)event->op;
    int r, closed = 0;

    if (event->op->code == OURO_CLOSE)
        return failed_call("close", (int)event->res);
    if (event->op->code == OURO_OPEN && event->res >= 0) {
        slot->piece.fd = u->batches.direct ? (int)slot->direct : (int)event->res;
        read_piece(u, slot);
        return 0;
    }
    if (u->job->suite == SUITE_FILES && slot->piece.fd >= 0)
        closed = close_file(u, slot);
    u->idle[u->idle_count++] = slot;
    r = piece_end(&slot->piece, u->job, round, event->res, now);
    return r ? r : closed;
}

static int read_round(struct loop_user *u, struct round *round)
{
    const struct job *job = u->job;
    bool files = job->suite == SUITE_FILES, more = true;
    uint64_t start = now_ns(), now = start, next = files ? 0 : round->seed;
    int r = 0;

    while (more || u->idle_count < job->depth || u->batch_count) {
        int count;

        while (more && r == 0 && u->idle_count) {
            more = begin_next(u, now, &next);
            if (u->batches.flush && u->batch_count == u->batches.flush &&
                (count = submit_now(u)) < 0)
                return count;
        }
        if ((count = submit_batch(u)) < 0 || (count = wait_events(u)) < 0)
            return count; /* the loop is broken; close cancels and drains what is left */
        now = now_ns();
        for (int i = 0; i < count; i++) {
            int finished = finish(u, &u->events[i], round, now);
            r = r ? r : finished;
        }
        if (r < 0 || cli_signal || (!files && now - start >= round->limit_ns))
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
static const struct batches random_choices[] = {
    { .flush = 0, .parts = 1 },
    { .flush = 4, .parts = 1 },
    { .flush = 1, .parts = 1 },
};
static const struct batches files_choices[] = {
    { .parts = 1 },
    { .parts = 2 },
    { .parts = 4 },
    { .parts = 1, .direct = true },
    { .parts = 2, .direct = true },
    { .parts = 4, .direct = true },
};
enum { RANDOM_CHOICES = 3, FILES_CHOICES = 6, CHOICES_WITHOUT_TABLE = 3 };

static const char *direct_engine; /* which chose to have its files in direct slots, or NULL */

static int variant_round(void *state, unsigned variant, struct round *round)
{
    struct loop_user *u = state;

    u->batches = u->job->suite == SUITE_FILES ? files_choices[variant] : random_choices[variant];
    return read_round(u, round);
}

static int choose_batches(struct loop_user *u)
{
    bool files = u->job->suite == SUITE_FILES;
    unsigned count = !files ? RANDOM_CHOICES : u->has_table ? FILES_CHOICES : CHOICES_WITHOUT_TABLE;
    int r = job_choose(u->job, count, u, variant_round);

    if (r < 0)
        return r;
    u->batches = files ? files_choices[r] : random_choices[r];
    if (u->batches.direct)
        direct_engine = u->engine;
    return 0;
}

static void ouro_contender_close(void *state)
{
    struct loop_user *u = state;

    ouro_close(u->loop, OURO_FOREVER);
    if (u->file >= 0)
        close(u->file);
    reading_close(&u->reading);
    free(u->slots);
    free(u->idle);
    free(u->batch);
    free(u->events);
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
    for (unsigned i = 0; i < depth; i++) {
        u->idle[u->idle_count++] = &u->slots[i];
        u->slots[i].direct = 2 * i;
        u->batch[i] = &u->slots[i].op; /* suite nop submits all of them every time */
        ouro_prep_nop(&u->slots[i].op);
        u->slots[i].op.flags = OURO_QUIET;
    }
    return 0;
}

/* The file once more, opened by the loop, so that it need not look at it again and again. */
static int open_by_loop(struct loop_user *u)
{
    ouro_op *op = &u->slots[0].op;
    int64_t fd;

    ouro_prep_open(op, OURO_HERE, u->job->path, O_RDONLY, 0);
    fd = ouro_do(u->loop, op);
    if (fd < 0)
        return failed_call("ouro_do (open)", (int)fd);
    u->file = u->reading.file = (int)fd;
    posix_fadvise(u->file, 0, 0, POSIX_FADV_RANDOM);
    return 0;
}

/* The same in a slot of the loop's own table. */
static int open_slot(struct loop_user *u)
{
    ouro_op *op = &u->slots[0].op;
    int r = ouro_direct_table(u->loop, 1);

    if (r < 0)
        return r;
    ouro_prep_open_direct(op, OURO_HERE, u->job->path, O_RDONLY | O_DIRECT, 0, 0);
    return (int)ouro_do(u->loop, op);
}

/* Cached reads need nothing of this. */
static void register_things(struct loop_user *u)
{
    struct reading *reading = &u->reading;
    struct iovec region = { reading->buffers, reading->stride * u->job->depth };

    if (ouro_register_buffers(u->loop, &region, 1) == 0)
        u->read_flags |= OURO_REGBUF;
    if (open_slot(u) == 0) {
        reading->file = 0;
        u->read_flags |= OURO_DIRECT;
    }
}

static int open_reading(struct loop_user *u, char *why)
{
    const struct job *job = u->job;
    int r = reading_open(&u->reading, job, job->depth, why);

    if (r < 0)
        return r;
    if (job->reads == READS_BLOCKS && job->direct)
        register_things(u);
    else if (job->reads == READS_BLOCKS && (r = open_by_loop(u)) < 0)
        return r;
    if (u->has_table)
        u->has_table = ouro_direct_table(u->loop, 2 * job->depth) == 0;
    return choose_batches(u);
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
    u->engine = self->engine;
    u->reading.fd = u->file = -1;
    if (job->depth > 256)
        config.depth = job->depth;
    /* Where operations run on threads, as many as the contender `blocking` has, within reason. */
    if (job->suite != SUITE_NOP)
        config.max_workers = job->depth < WORKERS_MAX ? job->depth : WORKERS_MAX;
    if (job->suite == SUITE_FILES)
        config.want = OURO_CAP_SLOTS; /* few engines have it */
    r = ouro_open(&config, &u->loop);
    u->has_table = r == 0 && config.want;
    if (r < 0 && config.want) {
        config.want = 0;
        r = ouro_open(&config, &u->loop);
    }
    if (r < 0)
        ouro_probe(self->engine, why, WHY_SIZE, NULL);
    else
        r = make_slots(u);
    if (r == 0 && job->suite != SUITE_NOP)
        r = open_reading(u, why);
    if (r < 0)
        ouro_contender_close(u);
    else
        *ret_state = u;
    return r;
}

static const char *ouro_describe(const struct contender *self, const struct job *job)
{
    bool direct = direct_engine && strcmp(direct_engine, self->engine) == 0;

    return job->suite == SUITE_NOP ? "ouro_submit_n, ouro_run until all are final"
           : job->suite == SUITE_FILES && direct
               ? "open, read and close in slots of the loop (OURO_CAP_SLOTS)"
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

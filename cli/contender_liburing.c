/* SPDX-License-Identifier: MIT */
/* The contender `liburing`: io_uring by hand with the usual library, tuned as well as we know how;
 * it is the ceiling that ouro is measured against, so anything that makes it faster belongs here.
 * The ring runs with SINGLE_ISSUER and DEFER_TASKRUN where the kernel takes them, its descriptor is
 * registered, one io_uring_enter submits a batch and waits for the next one, and random reads use a
 * registered file and registered buffers. */
#include "bench.h"

#ifdef HAVE_LIBURING

#include "liburing_flags.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Ways to use the ring. Which is the best depends on the device and the file system: a lookup of
 * extents blocks in submission, and IOSQE_ASYNC has the kernel's workers do it side by side; a fast
 * device idles while a batch is being gathered, so that a system call for each read pays; opens in
 * the ring save system calls, and with registered files descriptors too. All are tried when the
 * contender is opened, and the fastest takes part. */
struct variant {
    enum { BY_HAND, IN_RING, IN_TABLE } opens; /* IN_TABLE: in the ring, to a registered file */
    bool closes;                               /* in the ring too */
    bool async;
    unsigned every; /* submit when so many are prepared; 0: all with the wait */
    unsigned batch; /* completions to wait for */
    const char *how;
};

static const struct variant files_variants[] = {
    { .batch = 1, .how = "open and close by hand, plain reads" },
    { .batch = 16, .how = "open and close by hand, plain reads in batches of 16" },
    { .batch = 32, .how = "open and close by hand, plain reads in batches of 32" },
    { .batch = 1, .every = 1, .how = "open and close by hand, plain reads one by one" },
    { .batch = 1, .async = true, .how = "open and close by hand, reads with IOSQE_ASYNC" },
    { .batch = 16,
      .async = true,
      .how = "open and close by hand, reads with IOSQE_ASYNC in batches of 16" },
    { IN_RING, .batch = 16, .how = "open in the ring, close by hand, batches of 16" },
    { IN_RING, .batch = 32, .how = "open in the ring, close by hand, batches of 32" },
    { IN_RING, true, .batch = 16, .how = "open and close in the ring, batches of 16" },
    { IN_RING, true, .batch = 32, .how = "open and close in the ring, batches of 32" },
    { IN_TABLE, true, .batch = 16, .how = "open and close registered files, batches of 16" },
    { IN_TABLE, true, .batch = 32, .how = "open and close registered files, batches of 32" },
};

static const struct variant random_variants[] = {
    { .batch = 1, .how = "registered file and buffers, submitted in batches" },
    { .batch = 1, .every = 4, .how = "registered file and buffers, submitted by fours" },
    { .batch = 1, .every = 1, .how = "registered file and buffers, submitted one by one" },
};

static char chosen_how[WHY_SIZE] = "the variant that is fastest here";

/* What a close says when it fails; otherwise it says nothing. */
static const uint64_t CLOSE_FAILED = UINT64_MAX;

struct raw {
    const struct job *job;
    struct io_uring ring;
    bool have_ring;
    bool fixed_buffers;
    bool have_table; /* of registered files: suite random: the one; files: one for each piece */
    bool fixed_file; /* reads name a registered file */
    bool opening;    /* what is prepared has opens in it */
    const struct variant *variant;
    struct reading reading; /* not in suite nop */
    struct piece *pieces;
    unsigned *idle; /* numbers of the pieces that are not in flight */
    unsigned idle_count;
};

static int nop_round(struct raw *raw, struct round *round)
{
    struct io_uring *ring = &raw->ring;
    unsigned depth = raw->job->depth;
    uint64_t start = now_ns(), now = start, before;

    while (now - start < round->limit_ns && !cli_signal) {
        before = now;
        for (unsigned batch = 0; batch < NOP_BATCHES; batch++) {
            struct io_uring_cqe *cqe;
            unsigned head, seen = 0, pending = depth;

            for (unsigned i = 0; i < depth; i++)
                io_uring_prep_nop(io_uring_get_sqe(ring));
            while (pending) {
                int r = io_uring_submit_and_wait(ring, pending);
                if (r < 0 && r != -EINTR)
                    return r;
                seen = 0;
                io_uring_for_each_cqe(ring, head, cqe)
                {
                    if (cqe->res < 0)
                        return cqe->res;
                    seen++;
                }
                io_uring_cq_advance(ring, seen);
                pending -= seen;
            }
        }
        now = now_ns();
        histogram_add(round->latency, (now - before) / NOP_BATCHES, (uint64_t)NOP_BATCHES * depth);
        round->operations += (uint64_t)NOP_BATCHES * depth;
    }
    return cli_signal ? -EINTR : 0;
}

static void prepare_read(struct raw *raw, unsigned i)
{
    const struct piece *piece = &raw->pieces[i];
    unsigned size = (unsigned)piece->size;
    uint64_t offset = (uint64_t)piece->offset;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&raw->ring);

    if (raw->fixed_buffers)
        io_uring_prep_read_fixed(sqe, piece->fd, piece->data, size, offset, 0);
    else
        io_uring_prep_read(sqe, piece->fd, piece->data, size, offset);
    if (raw->fixed_file)
        sqe->flags |= IOSQE_FIXED_FILE;
    if (raw->variant->async)
        sqe->flags |= IOSQE_ASYNC;
    sqe->user_data = i;
}

static void prepare_open(struct raw *raw, unsigned i)
{
    const struct job *job = raw->job;
    const char *name = job->names[raw->pieces[i].where];
    struct io_uring_sqe *sqe = io_uring_get_sqe(&raw->ring);

    if (raw->fixed_file)
        io_uring_prep_openat_direct(sqe, job->dir_fd, name, O_RDONLY, 0, i);
    else
        io_uring_prep_openat(sqe, job->dir_fd, name, O_RDONLY | O_CLOEXEC, 0);
    sqe->user_data = i;
    raw->opening = true;
}

static void prepare_close(struct raw *raw, struct piece *piece)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&raw->ring);

    if (raw->fixed_file)
        io_uring_prep_close_direct(sqe, (unsigned)piece->fd);
    else
        io_uring_prep_close(sqe, piece->fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = CLOSE_FAILED;
    piece->fd = -1;
}

/* Prepares the next operation: 1, 0 when there is nothing left to start, or -errno. */
static int prepare_next(struct raw *raw, uint64_t now, uint64_t *next)
{
    unsigned i = raw->idle[raw->idle_count - 1];
    struct piece *piece = &raw->pieces[i];
    int r = raw->variant->opens ? piece_next(piece, &raw->reading, i, now, next)
                                : piece_begin(piece, &raw->reading, i, now, next);

    if (r <= 0)
        return r;
    raw->idle_count--;
    if (raw->variant->opens)
        prepare_open(raw, i);
    else
        prepare_read(raw, i);
    return 1;
}

static int finish(struct raw *raw, const struct io_uring_cqe *cqe, struct round *round,
                  uint64_t now)
{
    unsigned i = (unsigned)cqe->user_data;
    struct piece *piece;

    if (cqe->user_data == CLOSE_FAILED) {
        cli_error("close: %s", strerror(-cqe->res));
        return cqe->res;
    }
    piece = &raw->pieces[i];
    if (piece->fd < 0 && cqe->res >= 0) { /* it was the open */
        piece->fd = raw->fixed_file ? (int)i : cqe->res;
        prepare_read(raw, i);
        return 0;
    }
    if (raw->variant->closes && piece->fd >= 0)
        prepare_close(raw, piece);
    raw->idle[raw->idle_count++] = i;
    return piece_end(piece, raw->job, round, cqe->res, now);
}

static int finish_all(struct raw *raw, struct round *round, uint64_t now)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    int r = 0;

    io_uring_for_each_cqe(&raw->ring, head, cqe)
    {
        int finished = finish(raw, cqe, round, now);
        r = r ? r : finished;
        seen++;
    }
    io_uring_cq_advance(&raw->ring, seen);
    return r;
}

/* How many completions to sleep for: a batch while there is more to start, so that each system call
 * carries many; at the end whatever comes. */
static unsigned wanted(const struct raw *raw, bool more)
{
    unsigned batch = raw->variant->batch, busy = raw->job->depth - raw->idle_count;

    return !busy ? 0 : more && busy >= 2 * batch ? batch : 1;
}

/* Opens are done when submit returns, bar a few, so their reads can be submitted before anything is
 * waited for: a wait would first copy what earlier reads have brought, while the device idles. */
static int submit(struct raw *raw, bool more)
{
    int r = raw->opening ? io_uring_submit(&raw->ring)
                         : io_uring_submit_and_wait(&raw->ring, wanted(raw, more));

    raw->opening = false;
    if (r >= 0 || r == -EINTR || r == -EAGAIN)
        return 0;
    cli_error("io_uring_enter: %s", strerror(-r));
    return r;
}

static int read_round(struct raw *raw, struct round *round)
{
    const struct job *job = raw->job;
    bool files = job->suite == SUITE_FILES, more = true;
    uint64_t start = now_ns(), now = start, next = files ? 0 : round->seed;
    unsigned every = raw->variant->every;
    int r = 0;

    while (more || raw->idle_count < job->depth || io_uring_sq_ready(&raw->ring)) {
        int begun = 1, finished;

        while (more && begun > 0 && raw->idle_count) {
            begun = prepare_next(raw, now, &next);
            if (every && io_uring_sq_ready(&raw->ring) >= every)
                io_uring_submit(&raw->ring); /* what it leaves goes with the wait */
        }
        if (begun <= 0)
            more = false;
        r = r ? r : begun < 0 ? begun : 0;
        finished = submit(raw, more);
        if (finished < 0)
            return finished;
        now = now_ns();
        finished = finish_all(raw, round, now);
        r = r ? r : finished;
        if (r < 0 || cli_signal || (!files && now - start >= round->limit_ns))
            more = false;
    }
    return cli_signal ? -EINTR : r;
}

static int liburing_round(void *state, struct round *round)
{
    struct raw *raw = state;

    return raw->job->suite == SUITE_NOP ? nop_round(raw, round) : read_round(raw, round);
}

static void liburing_close(void *state)
{
    struct raw *raw = state;

    if (raw->have_ring)
        io_uring_queue_exit(&raw->ring);
    reading_close(&raw->reading);
    free(raw->pieces);
    free(raw->idle);
    free(raw);
}

static int open_ring(struct raw *raw, char *why)
{
    static const unsigned flags[] = {
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_SUBMIT_ALL,
        0,
    };
    /* Suite files may have a close and the next open of each piece. */
    unsigned entries = raw->job->suite == SUITE_FILES ? 2 * raw->job->depth : raw->job->depth;
    int r = -EINVAL;

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]) && r == -EINVAL; i++)
        r = io_uring_queue_init(entries, &raw->ring, flags[i]);
    if (r < 0) {
        snprintf(why, WHY_SIZE, "io_uring_setup: %s (see 'ouro info')", strerror(-r));
        return r;
    }
    raw->have_ring = true;
    io_uring_register_ring_fd(&raw->ring); /* an older kernel lacks it: slower, not wrong */
    return 0;
}

/* Registration may be refused by the limits on locked memory and on open files, or by an older
 * kernel: plain reads and descriptors then. */
static void register_things(struct raw *raw)
{
    struct reading *reading = &raw->reading;
    struct iovec region = { reading->buffers, reading->stride * raw->job->depth };

    if (raw->job->suite == SUITE_FILES) {
        raw->have_table = io_uring_register_files_sparse(&raw->ring, raw->job->depth) == 0;
        return;
    }
    raw->have_table = io_uring_register_files(&raw->ring, &reading->fd, 1) == 0;
    if (raw->have_table)
        reading->file = 0;
    raw->fixed_buffers = io_uring_register_buffers(&raw->ring, &region, 1) == 0;
}

static const struct variant *variants_of(const struct job *job, unsigned *ret_count)
{
    bool files = job->suite == SUITE_FILES;

    *ret_count = files ? sizeof(files_variants) / sizeof(files_variants[0])
                       : sizeof(random_variants) / sizeof(random_variants[0]);
    return files ? files_variants : random_variants;
}

/* Takes the variant, if this kernel can do it. */
static bool use_variant(struct raw *raw, const struct variant *variant)
{
    if (variant->closes && !(raw->ring.features & IORING_FEAT_CQE_SKIP))
        return false;
    if (variant->opens == IN_TABLE && !raw->have_table)
        return false;
    raw->variant = variant;
    raw->fixed_file =
        raw->job->suite == SUITE_RANDOM ? raw->have_table : variant->opens == IN_TABLE;
    return true;
}

/* One that cannot be used makes no operations, so that it is not the fastest. */
static int variant_round(void *state, unsigned variant, struct round *round)
{
    struct raw *raw = state;
    unsigned count;

    return use_variant(raw, &variants_of(raw->job, &count)[variant]) ? read_round(raw, round) : 0;
}

static int choose_variant(struct raw *raw)
{
    unsigned count;
    const struct variant *variants = variants_of(raw->job, &count);
    int r = job_choose(raw->job, count, raw, variant_round);

    if (r < 0)
        return r;
    use_variant(raw, &variants[r]);
    snprintf(chosen_how, sizeof(chosen_how), "%s (the fastest variant here)", raw->variant->how);
    return 0;
}

/* What the suites need that read. */
static int open_reading(struct raw *raw, char *why)
{
    const struct job *job = raw->job;
    unsigned depth = job->depth;
    int r;

    raw->pieces = calloc(depth, sizeof(*raw->pieces));
    raw->idle = calloc(depth, sizeof(*raw->idle));
    r = reading_open(&raw->reading, job, depth, why);
    if (r == 0 && !(raw->pieces && raw->idle))
        r = -ENOMEM;
    if (r < 0)
        return r;
    for (unsigned i = 0; i < depth; i++)
        raw->idle[raw->idle_count++] = i;
    register_things(raw);
    return choose_variant(raw);
}

static int liburing_open(const struct contender *self, const struct job *job, void **ret_state,
                         char *why)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    int r;

    (void)self;
    if (!raw)
        return -ENOMEM;
    raw->job = job;
    raw->reading.fd = -1;
    raw->variant = &random_variants[0];
    r = open_ring(raw, why);
    if (r == 0 && job->suite != SUITE_NOP)
        r = open_reading(raw, why);
    if (r < 0)
        liburing_close(raw);
    else
        *ret_state = raw;
    return r;
}

static const char *liburing_describe(const struct contender *self, const struct job *job)
{
    (void)self;
    return job->suite == SUITE_NOP ? "one io_uring_enter per batch" : chosen_how;
}

const struct contender contender_liburing = {
    .name = "liburing",
    .suites = 1u << SUITE_NOP | 1u << SUITE_FILES | 1u << SUITE_RANDOM,
    .describe = liburing_describe,
    .open = liburing_open,
    .round = liburing_round,
    .close = liburing_close,
};

#else
extern int contender_liburing_absent; /* an empty file is not C */
#endif

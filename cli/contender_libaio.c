/* SPDX-License-Identifier: MIT */
/* The contender `libaio`: the kernel's older interface (io_submit, io_getevents), which is
 * asynchronous for direct I/O only: on buffered files io_submit does the reading. */
#include "bench.h"

#ifdef HAVE_LIBAIO

#include <fcntl.h>
#include <libaio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slot {
    struct iocb control;
    uint64_t begun;
    uint64_t where; /* offset, or number of the file */
    int fd;
};

struct kernel_aio {
    const struct job *job;
    io_context_t context;
    int fd;
    char *buffers;
    uint64_t stride;
    struct slot *slots;
    struct slot **idle;
    unsigned idle_count;
    struct iocb **batch;
    unsigned batch_count; /* prepared, not yet submitted */
    struct io_event *events;
    unsigned in_flight; /* submitted */
};

/* Prepares the next operation: 1, 0 when there is nothing left to start, or -errno. */
static int prepare_next(struct kernel_aio *k, uint64_t now, uint64_t *next)
{
    const struct job *job = k->job;
    struct slot *slot = k->idle[k->idle_count - 1];
    char *data = k->buffers + (uint64_t)(slot - k->slots) * k->stride;

    slot->begun = now;
    if (job->suite == SUITE_RANDOM) {
        slot->where = random_offset(job, next);
        io_prep_pread(&slot->control, k->fd, data, job->block, (long long)slot->where);
    } else {
        if (*next == job->count)
            return 0;
        slot->where = (*next)++;
        slot->fd = openat(job->dir_fd, job->names[slot->where], O_RDONLY | O_CLOEXEC);
        if (slot->fd < 0)
            return job_check_file(job, (unsigned)slot->where, data, -errno, false);
        io_prep_pread(&slot->control, slot->fd, data, job->size, 0);
    }
    k->idle_count--;
    k->batch[k->batch_count++] = &slot->control;
    return 1;
}

static int submit_batch(struct kernel_aio *k)
{
    unsigned done = 0;
    int r = 0;

    while (done < k->batch_count) {
        r = io_submit(k->context, (long)(k->batch_count - done), k->batch + done);
        if (r == -EINTR || r == -EAGAIN)
            continue;
        if (r <= 0)
            break;
        done += (unsigned)r;
        k->in_flight += (unsigned)r;
    }
    for (unsigned i = done; i < k->batch_count; i++) { /* refused: never started */
        struct slot *slot = (struct slot *)(void *)k->batch[i];
        if (k->job->suite == SUITE_FILES)
            close(slot->fd);
        k->idle[k->idle_count++] = slot;
    }
    if (done < k->batch_count)
        cli_error("io_submit: %s", strerror(-r));
    k->batch_count = 0;
    return r < 0 ? r : 0;
}

static int finish(struct kernel_aio *k, const struct io_event *event, struct round *round,
                  uint64_t now)
{
    struct slot *slot = (struct slot *)(void *)event->obj;
    const char *data = k->buffers + (uint64_t)(slot - k->slots) * k->stride;
    int64_t result = (int64_t)event->res;

    k->idle[k->idle_count++] = slot;
    round->operations++;
    histogram_add(round->latency, now - slot->begun, 1);
    if (k->job->suite == SUITE_RANDOM)
        return job_check_block(k->job, slot->where, data, result, round->full_check);
    close(slot->fd);
    return job_check_file(k->job, (unsigned)slot->where, data, result, round->full_check);
}

static int libaio_round(void *state, struct round *round)
{
    struct kernel_aio *k = state;
    bool files = k->job->suite == SUITE_FILES;
    uint64_t start = now_ns(), now = start, next = files ? 0 : round->seed;
    bool more = true;
    int r = 0;

    while (more || k->in_flight) {
        int count, begun = 1;

        while (more && begun > 0 && k->idle_count)
            begun = prepare_next(k, now, &next);
        if (begun <= 0)
            more = false;
        r = r ? r : begun < 0 ? begun : 0;
        begun = submit_batch(k);
        r = r ? r : begun;
        count = k->in_flight ? io_getevents(k->context, 1, (long)k->in_flight, k->events, NULL) : 0;
        now = now_ns();
        for (int i = 0; i < count; i++) {
            int finished = finish(k, &k->events[i], round, now);
            k->in_flight--;
            r = r ? r : finished;
        }
        if (r < 0 || cli_signal || (!files && now - start >= round->limit_ns))
            more = false;
    }
    return cli_signal ? -EINTR : r;
}

static void libaio_close(void *state)
{
    struct kernel_aio *k = state;

    if (k->context)
        io_destroy(k->context);
    if (k->fd >= 0)
        close(k->fd);
    free(k->slots);
    free(k->idle);
    free(k->batch);
    free(k->events);
    free(k->buffers);
    free(k);
}

static int libaio_open(const struct contender *self, const struct job *job, void **ret_state,
                       char *why)
{
    struct kernel_aio *k = calloc(1, sizeof(*k));
    unsigned depth = job->depth;
    int r;

    (void)self;
    if (!k)
        return -ENOMEM;
    k->job = job;
    k->fd = -1;
    k->slots = calloc(depth, sizeof(*k->slots));
    k->idle = calloc(depth, sizeof(struct slot *));
    k->batch = calloc(depth, sizeof(struct iocb *));
    k->events = calloc(depth, sizeof(*k->events));
    k->buffers = job_buffers(depth, job->suite == SUITE_FILES ? job->size : job->block, &k->stride);
    r = k->slots && k->idle && k->batch && k->events && k->buffers ? 0 : -ENOMEM;
    if (r == 0) {
        r = io_setup((int)depth, &k->context);
        if (r < 0)
            snprintf(why, WHY_SIZE, "io_setup: %s%s", strerror(-r),
                     r == -EAGAIN ? " (the limit fs.aio-max-nr is reached)" : "");
    }
    if (r == 0 && job->suite == SUITE_RANDOM)
        k->fd = r = job_open_file(job, why);
    if (r < 0) {
        libaio_close(k);
        return r;
    }
    for (unsigned i = 0; i < depth; i++)
        k->idle[k->idle_count++] = &k->slots[i];
    *ret_state = k;
    return 0;
}

static const char *libaio_describe(const struct job *job)
{
    return job->suite == SUITE_FILES ? "io_submit; open and close by hand"
                                     : "io_submit in batches, io_getevents";
}

const struct contender contender_libaio = {
    .name = "libaio",
    .suites = 1u << SUITE_FILES | 1u << SUITE_RANDOM,
    .describe = libaio_describe,
    .open = libaio_open,
    .round = libaio_round,
    .close = libaio_close,
};

#else
extern int contender_libaio_absent; /* an empty file is not C */
#endif

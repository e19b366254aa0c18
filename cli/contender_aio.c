/* SPDX-License-Identifier: MIT */
/* The contender `glibc-aio`: POSIX AIO as the system's libc does it (aio_read, aio_suspend), with
 * its default settings, as a program meets it. Opening and closing have no asynchronous form there
 * and are done by hand. */
#include "bench.h"

#include <aio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slot {
    struct aiocb control;
    uint64_t begun;
    uint64_t where; /* offset, or number of the file */
};

struct posix {
    const struct job *job;
    int fd;
    char *buffers;
    uint64_t stride;
    struct slot *slots;
    const struct aiocb **waiting; /* NULL: the slot is free */
    unsigned in_flight;
};

static int begin_read(struct posix *p, unsigned i, int fd, uint64_t size, uint64_t offset)
{
    struct slot *slot = &p->slots[i];

    memset(&slot->control, 0, sizeof(slot->control));
    slot->control.aio_fildes = fd;
    slot->control.aio_buf = p->buffers + i * p->stride;
    slot->control.aio_nbytes = size;
    slot->control.aio_offset = (off_t)offset;
    slot->control.aio_sigevent.sigev_notify = SIGEV_NONE;
    if (aio_read(&slot->control) < 0)
        return -errno;
    p->waiting[i] = &slot->control;
    p->in_flight++;
    return 0;
}

/* Starts the next operation in a free slot: 1, 0 when there is nothing left to start, or -errno. */
static int begin_next(struct posix *p, unsigned i, uint64_t now, uint64_t *next)
{
    const struct job *job = p->job;
    struct slot *slot = &p->slots[i];
    int fd = p->fd, r;

    slot->begun = now;
    if (job->suite == SUITE_RANDOM) {
        slot->where = random_offset(job, next);
        r = begin_read(p, i, fd, job->block, slot->where);
    } else {
        if (*next == job->count)
            return 0;
        slot->where = (*next)++;
        fd = openat(job->dir_fd, job->names[slot->where], O_RDONLY | O_CLOEXEC);
        r = fd < 0 ? -errno : begin_read(p, i, fd, job->size, 0);
        if (r < 0 && fd >= 0)
            close(fd);
    }
    if (r < 0)
        cli_error("aio_read: %s", strerror(-r));
    return r < 0 ? r : 1;
}

static int finish(struct posix *p, unsigned i, struct round *round, uint64_t now)
{
    struct slot *slot = &p->slots[i];
    int error = aio_error(&slot->control);
    int64_t result = aio_return(&slot->control);
    const char *data = p->buffers + i * p->stride;

    if (result < 0)
        result = -error;
    p->waiting[i] = NULL;
    p->in_flight--;
    round->operations++;
    histogram_add(round->latency, now - slot->begun, 1);
    if (p->job->suite == SUITE_RANDOM)
        return job_check_block(p->job, slot->where, data, result, round->full_check);
    close(slot->control.aio_fildes);
    return job_check_file(p->job, (unsigned)slot->where, data, result, round->full_check);
}

static int posix_round(void *state, struct round *round)
{
    struct posix *p = state;
    bool files = p->job->suite == SUITE_FILES;
    uint64_t start = now_ns(), now = start, next = files ? 0 : round->seed;
    bool more = true;
    int r = 0;

    while (more || p->in_flight) {
        for (unsigned i = 0; i < p->job->depth && more; i++) {
            int begun;

            if (p->waiting[i])
                continue;
            begun = begin_next(p, i, now, &next);
            if (begun < 0)
                r = begun;
            more = begun > 0;
        }
        if (p->in_flight)
            aio_suspend(p->waiting, (int)p->job->depth, NULL);
        now = now_ns();
        for (unsigned i = 0; i < p->job->depth; i++) {
            if (p->waiting[i] && aio_error(p->waiting[i]) != EINPROGRESS) {
                int finished = finish(p, i, round, now);
                r = r ? r : finished;
            }
        }
        if (r < 0 || cli_signal || (!files && now - start >= round->limit_ns))
            more = false;
    }
    return cli_signal ? -EINTR : r;
}

static void posix_close(void *state)
{
    struct posix *p = state;

    if (p->fd >= 0)
        close(p->fd);
    free(p->slots);
    free(p->waiting);
    free(p->buffers);
    free(p);
}

static int posix_open(const struct contender *self, const struct job *job, void **ret_state,
                      char *why)
{
    struct posix *p = calloc(1, sizeof(*p));
    int r = 0;

    (void)self;
    if (!p)
        return -ENOMEM;
    p->job = job;
    p->fd = -1;
    p->slots = calloc(job->depth, sizeof(*p->slots));
    p->waiting = calloc(job->depth, sizeof(const struct aiocb *));
    p->buffers =
        job_buffers(job->depth, job->suite == SUITE_FILES ? job->size : job->block, &p->stride);
    if (!p->slots || !p->waiting || !p->buffers)
        r = -ENOMEM;
    else if (job->suite == SUITE_RANDOM)
        p->fd = r = job_open_file(job, why);
    if (r < 0)
        posix_close(p);
    else
        *ret_state = p;
    return r < 0 ? r : 0;
}

static const char *posix_describe(const struct job *job)
{
    return job->suite == SUITE_FILES ? "aio_read; open and close by hand" : "aio_read, aio_suspend";
}

const struct contender contender_glibc_aio = {
    .name = "glibc-aio",
    .suites = 1u << SUITE_FILES | 1u << SUITE_RANDOM,
    .describe = posix_describe,
    .open = posix_open,
    .round = posix_round,
    .close = posix_close,
};

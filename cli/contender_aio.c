/* SPDX-License-Identifier: MIT */
/* The contenders `glibc-aio` and `posixaio-dropin`: one program of <aio.h>, as the system's libc
 * runs it with its default settings, and as ouro's drop-in does. Opening and closing have no
 * asynchronous form there and are done by hand. */
#include "bench.h"

#include <aio.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    struct aiocb control;
    struct piece piece;
};

struct posix {
    struct aio_calls calls;
    struct reading reading;
    struct slot *slots;
    const struct aiocb **waiting; /* NULL: the slot is free */
    unsigned in_flight;
};

/* Starts the next operation in a free slot: 1, 0 when there is nothing left to start, or -errno. */
static int begin_next(struct posix *p, unsigned i, uint64_t now, uint64_t *next)
{
    struct slot *slot = &p->slots[i];
    struct piece *piece = &slot->piece;
    int r = piece_begin(piece, &p->reading, i, now, next);

    if (r <= 0)
        return r;
    memset(&slot->control, 0, sizeof(slot->control));
    slot->control.aio_fildes = piece->fd;
    slot->control.aio_buf = piece->data;
    slot->control.aio_nbytes = piece->size;
    slot->control.aio_offset = (off_t)piece->offset;
    slot->control.aio_sigevent.sigev_notify = SIGEV_NONE;
    if (p->calls.read(&slot->control) < 0) {
        r = -errno;
        piece_drop(piece, p->reading.job);
        cli_error("aio_read: %s", strerror(-r));
        return r;
    }
    p->waiting[i] = &slot->control;
    p->in_flight++;
    return 1;
}

static int finish(struct posix *p, unsigned i, struct round *round, uint64_t now)
{
    struct slot *slot = &p->slots[i];
    int error = p->calls.error(&slot->control);
    int64_t result = p->calls.result(&slot->control);

    p->waiting[i] = NULL;
    p->in_flight--;
    return piece_end(&slot->piece, p->reading.job, round, result < 0 ? -error : result, now);
}

static int posix_round(void *state, struct round *round)
{
    struct posix *p = state;
    const struct job *job = p->reading.job;
    bool files = job->suite == SUITE_FILES;
    uint64_t start = now_ns(), now = start, next = files ? 0 : round->seed;
    bool more = true;
    int r = 0;

    while (more || p->in_flight) {
        for (unsigned i = 0; i < job->depth && more; i++) {
            int begun;

            if (p->waiting[i])
                continue;
            begun = begin_next(p, i, now, &next);
            if (begun < 0)
                r = begun;
            more = begun > 0;
        }
        if (p->in_flight)
            p->calls.suspend(p->waiting, (int)job->depth, NULL);
        now = now_ns();
        for (unsigned i = 0; i < job->depth; i++) {
            if (p->waiting[i] && p->calls.error(p->waiting[i]) != EINPROGRESS) {
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

    reading_close(&p->reading);
    free(p->slots);
    free(p->waiting);
    free(p);
}

/* dlsym gives pointers to data, which POSIX lets hold functions. */
static bool find(void *library, const char *name, void *ret)
{
    void *at = dlsym(library, name);

    memcpy(ret, &at, sizeof(at));
    return at;
}

static int load(struct aio_calls *ret, char *why)
{
    char path[PATH_MAX];
    const char *reason = "it is not there";

    if (cli_find_dropin(CLI_POSIXAIO, path, sizeof(path))) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

        if (library && find(library, "aio_read64", &ret->read) &&
            find(library, "aio_error64", &ret->error) &&
            find(library, "aio_return64", &ret->result) &&
            find(library, "aio_suspend64", &ret->suspend))
            return 0;
        reason = dlerror();
    }
    snprintf(why, WHY_SIZE, "%s cannot be loaded: %s", CLI_POSIXAIO, reason);
    return -ENOENT;
}

int aio_calls_find(const struct contender *self, struct aio_calls *ret, char *why)
{
    *ret = (struct aio_calls){ aio_read, aio_error, aio_return, aio_suspend };
    return strcmp(self->name, contender_posixaio_dropin.name) == 0 ? load(ret, why) : 0;
}

static int posix_open(const struct contender *self, const struct job *job, void **ret_state,
                      char *why)
{
    struct posix *p = calloc(1, sizeof(*p));
    int r;

    if (!p)
        return -ENOMEM;
    p->slots = calloc(job->depth, sizeof(*p->slots));
    p->waiting = calloc(job->depth, sizeof(const struct aiocb *));
    r = reading_open(&p->reading, job, job->depth, why);
    if (r == 0 && (!p->slots || !p->waiting))
        r = -ENOMEM;
    if (r == 0)
        r = aio_calls_find(self, &p->calls, why);
    if (r < 0)
        posix_close(p);
    else
        *ret_state = p;
    return r;
}

static const char *posix_describe(const struct contender *self, const struct job *job)
{
    (void)self;
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

const struct contender contender_posixaio_dropin = {
    .name = "posixaio-dropin",
    .suites = 1u << SUITE_FILES | 1u << SUITE_RANDOM,
    .describe = posix_describe,
    .open = posix_open,
    .round = posix_round,
    .close = posix_close,
};

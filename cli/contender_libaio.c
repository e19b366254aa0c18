/* SPDX-License-Identifier: MIT */
/* The contenders `libaio` and `libaio-dropin`: one program of the kernel's older interface, with
 * io_submit and io_getevents of the system's library, and of ouro's drop-in. The kernel's is
 * asynchronous for direct I/O only: on buffered files io_submit does the reading. */
#include "bench.h"

#ifdef HAVE_LIBAIO

#include <dlfcn.h>
#include <libaio.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    struct iocb control; /* first: a control block is its slot */
    struct piece piece;
};

struct calls {
    int (*setup)(int count, io_context_t *ret);
    int (*destroy)(io_context_t context);
    int (*submit)(io_context_t context, long count, struct iocb **blocks);
    int (*getevents)(io_context_t context, long min, long count, struct io_event *events,
                     struct timespec *timeout);
};

struct kernel_aio {
    struct calls calls;
    struct reading reading;
    io_context_t context;
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
    struct slot *slot = k->idle[k->idle_count - 1];
    struct piece *piece = &slot->piece;
    int r = piece_begin(piece, &k->reading, (unsigned)(slot - k->slots), now, next);

    if (r <= 0)
        return r;
    io_prep_pread(&slot->control, piece->fd, piece->data, piece->size, (long long)piece->offset);
    k->idle_count--;
    k->batch[k->batch_count++] = &slot->control;
    return 1;
}

static int submit_batch(struct kernel_aio *k)
{
    unsigned done = 0;
    int r = 0;

    while (done < k->batch_count) {
        r = k->calls.submit(k->context, (long)(k->batch_count - done), k->batch + done);
        if (r == -EINTR || r == -EAGAIN)
            continue;
        if (r <= 0)
            break;
        done += (unsigned)r;
        k->in_flight += (unsigned)r;
    }
    for (unsigned i = done; i < k->batch_count; i++) { /* refused: never started */
        struct slot *slot = (struct slot *)(void *)k->batch[i];
        piece_drop(&slot->piece, k->reading.job);
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

    k->idle[k->idle_count++] = slot;
    k->in_flight--;
    return piece_end(&slot->piece, k->reading.job, round, (int64_t)event->res, now);
}

static int libaio_round(void *state, struct round *round)
{
    struct kernel_aio *k = state;
    bool files = k->reading.job->suite == SUITE_FILES;
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
        count = 0;
        if (k->in_flight)
            count = k->calls.getevents(k->context, 1, (long)k->in_flight, k->events, NULL);
        now = now_ns();
        for (int i = 0; i < count; i++) {
            int finished = finish(k, &k->events[i], round, now);
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
        k->calls.destroy(k->context);
    reading_close(&k->reading);
    free(k->slots);
    free(k->idle);
    free(k->batch);
    free(k->events);
    free(k);
}

/* dlsym gives pointers to data, which POSIX lets hold functions. */
static bool find(void *library, const char *name, void *ret)
{
    void *at = dlsym(library, name);

    memcpy(ret, &at, sizeof(at));
    return at;
}

static int load(struct calls *ret, char *why)
{
    const char *reason = "it is not there";
    char path[PATH_MAX];

    if (cli_find_dropin(CLI_LIBAIO, path, sizeof(path))) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

        if (library && find(library, "io_setup", &ret->setup) &&
            find(library, "io_destroy", &ret->destroy) &&
            find(library, "io_submit", &ret->submit) &&
            find(library, "io_getevents", &ret->getevents))
            return 0;
        reason = dlerror();
    }
    snprintf(why, WHY_SIZE, "%s cannot be loaded: %s", CLI_LIBAIO, reason);
    return -ENOENT;
}

static int libaio_open(const struct contender *self, const struct job *job, void **ret_state,
                       char *why)
{
    struct kernel_aio *k = calloc(1, sizeof(*k));
    unsigned depth = job->depth;
    int r;

    if (!k)
        return -ENOMEM;
    k->calls = (struct calls){ io_setup, io_destroy, io_submit, io_getevents };
    k->slots = calloc(depth, sizeof(*k->slots));
    k->idle = calloc(depth, sizeof(struct slot *));
    k->batch = calloc(depth, sizeof(struct iocb *));
    k->events = calloc(depth, sizeof(*k->events));
    r = reading_open(&k->reading, job, depth, why);
    if (r == 0 && !(k->slots && k->idle && k->batch && k->events))
        r = -ENOMEM;
    if (r == 0 && strcmp(self->name, contender_libaio_dropin.name) == 0)
        r = load(&k->calls, why);
    if (r == 0) {
        r = k->calls.setup((int)depth, &k->context);
        if (r < 0)
            snprintf(why, WHY_SIZE, "io_setup: %s%s", strerror(-r),
                     r == -EAGAIN ? " (the limit fs.aio-max-nr is reached)" : "");
    }
    if (r < 0) {
        libaio_close(k);
        return r;
    }
    for (unsigned i = 0; i < depth; i++)
        k->idle[k->idle_count++] = &k->slots[i];
    *ret_state = k;
    return 0;
}

static const char *libaio_describe(const struct contender *self, const struct job *job)
{
    (void)self;
    return job->suite == SUITE_FILES ? "io_submit; open and close by hand"
                                     : "io_submit in batches, io_getevents";
}

/* The same program; what it calls is told by the name. */
#define CONTENDER(title)                                                         \
    {                                                                            \
        .name = title, .suites = 1u << SUITE_FILES | 1u << SUITE_RANDOM,         \
        .describe = libaio_describe, .open = libaio_open, .round = libaio_round, \
        .close = libaio_close,                                                   \
    }

const struct contender contender_libaio = CONTENDER("libaio");
const struct contender contender_libaio_dropin = CONTENDER("libaio-dropin");

#else
extern int contender_libaio_absent; /* an empty file is not C */
#endif

/* SPDX-License-Identifier: MIT */
/* Suite notify: random reads, as in suite random, by programs that are told that a request is over
 * in one of three ways. none: they wait in a call of the interface, and that is the contender of
 * suite random itself. signal: a handler for a real-time signal, which gets the request in
 * si_value. thread: a function that the library calls. Both post a semaphore that the program waits
 * for.
 *
 * A handler, and not sigwaitinfo(2), because that is what the examples of aio(7) do, and most who
 * copied from there. */
#include "bench.h"

#include "ouro.h"

#include <aio.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS = 64, PATIENCE_S = 30 };

const char *const way_names[WAYS] = { "none", "signal", "thread" };

struct listener;

struct slot {
    ouro_op op;
    struct aiocb control;
    struct piece piece;
    struct listener *owner;
    struct slot *next; /* told of, not yet taken */
};

struct listener {
    const struct job *job;
    const struct contender *plain; /* way none: who does it all, */
    void *plain_state;             /* and its state */
    struct aio_calls calls;
    ouro_loop *loop; /* of contenders ouro:ENGINE */
    struct reading reading;
    struct slot *slots, **idle;
    ouro_op **batch;
    unsigned idle_count;
    /* One post for each request that is over and on the list; of a loop, that it has events. */
    sem_t posts;
    struct slot *_Atomic told; /* the latest first */
    struct slot *taken;        /* the oldest first */
    bool lost;                 /* may still be told of what it has given up */
};

/* The same contenders as suite random has, by index. */
static struct contender plain[CONTENDERS_MAX];
static unsigned plain_count;

/* ---- being told ---- */

/* On any thread, and in a handler. */
static void tell(struct slot *slot)
{
    struct listener *l = slot->owner;

    slot->next = atomic_load(&l->told);
    while (!atomic_compare_exchange_weak(&l->told, &slot->next, slot))
        continue;
    sem_post(&l->posts);
}

static void tell_from_thread(union sigval value)
{
    tell(value.sival_ptr);
}

static void tell_from_handler(int signo, siginfo_t *info, void *context)
{
    int saved = errno;

    (void)signo;
    (void)context;
    tell(info->si_value.sival_ptr);
    errno = saved;
}

static void loop_has_events(void *listener)
{
    sem_post(&((struct listener *)listener)->posts);
}

static void loop_has_events_handler(int signo, siginfo_t *info, void *context)
{
    int saved = errno;

    (void)signo;
    (void)context;
    loop_has_events(info->si_value.sival_ptr);
    errno = saved;
}

static int handle_signal(int signo, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };

    sigemptyset(&action.sa_mask);
    return sigaction(signo, &action, NULL) < 0 ? -errno : 0;
}

/* Reads always end, so a post that does not come was lost. */
static int wait_for_post(struct listener *l)
{
    struct timespec until;

    if (sem_trywait(&l->posts) == 0)
        return 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    while (sem_timedwait(&l->posts, &until) < 0) {
        if (errno != EINTR) {
            l->lost = true;
            cli_error("no notification in %d seconds", PATIENCE_S);
            return -ETIMEDOUT;
        }
    }
    return 0;
}

/* Behind a post: there is one. */
static struct slot *take_told(struct listener *l)
{
    struct slot *slot, *latest;

    if (!l->taken) {
        for (latest = atomic_exchange(&l->told, NULL); latest; latest = slot) {
            slot = latest->next;
            latest->next = l->taken;
            l->taken = latest;
        }
    }
    slot = l->taken;
    l->taken = slot->next;
    return slot;
}

/* ---- requests ---- */

static int submit_aio(struct listener *l, struct slot *slot)
{
    const struct piece *piece = &slot->piece;
    struct aiocb *control = &slot->control;

    memset(control, 0, sizeof(*control));
    control->aio_fildes = piece->fd;
    control->aio_buf = piece->data;
    control->aio_nbytes = piece->size;
    control->aio_offset = (off_t)piece->offset;
    control->aio_sigevent.sigev_value.sival_ptr = slot;
    if (l->job->way == WAY_SIGNAL) {
        control->aio_sigevent.sigev_notify = SIGEV_SIGNAL;
        control->aio_sigevent.sigev_signo = SIGRTMIN;
    } else {
        control->aio_sigevent.sigev_notify = SIGEV_THREAD;
        control->aio_sigevent.sigev_notify_function = tell_from_thread;
    }
    return l->calls.read(control) < 0 ? -errno : 0;
}

/* Fills all idle slots with requests of the round. */
static int submit_idle(struct listener *l, uint64_t now, uint64_t *next)
{
    unsigned count = 0;
    int r = 0;

    while (l->idle_count && r == 0) {
        struct slot *slot = l->idle[--l->idle_count];
        struct piece *piece = &slot->piece;

        piece_next(piece, &l->reading, (unsigned)(slot - l->slots), now, next);
        if (l->loop) {
            ouro_prep_read(&slot->op, piece->fd, piece->data, piece->size, piece->offset);
            l->batch[count++] = &slot->op;
        } else if ((r = submit_aio(l, slot)) < 0) {
            l->idle[l->idle_count++] = slot;
            cli_error("aio_read: %s", strerror(-r));
        }
    }
    if (count && (r = ouro_submit_n(l->loop, l->batch, count)) < (int)count) {
        l->lost = true;
        r = r < 0 ? r : -EAGAIN;
        cli_error("ouro_submit_n: %s", strerror(-r));
    }
    return r < 0 ? r : 0;
}

static int end(struct listener *l, struct slot *slot, struct round *round, int64_t result,
               uint64_t now)
{
    l->idle[l->idle_count++] = slot;
    return piece_end(&slot->piece, l->job, round, result, now);
}

static int end_aio(struct listener *l, struct round *round, uint64_t now)
{
    struct slot *slot = take_told(l);
    int error = l->calls.error(&slot->control);
    int64_t result = l->calls.result(&slot->control);

    return end(l, slot, round, result < 0 ? -error : result, now);
}

static int end_events(struct listener *l, struct round *round, uint64_t now)
{
    ouro_event events[EVENTS];
    int count, r = 0;

    do {
        count = ouro_reap(l->loop, events, EVENTS);
        for (int i = 0; i < count; i++) {
            struct slot *slot = (struct slot *)(void *)events[i].op; /* its first member */
            int ended = end(l, slot, round, events[i].res, now);
            r = r ? r : ended;
        }
    } while (count == EVENTS);
    return count < 0 ? count : r;
}

static int told_round(struct listener *l, struct round *round)
{
    uint64_t start = now_ns(), now = start, next = round->seed;
    bool more = true;
    int r = 0;

    while (more || (l->idle_count < l->job->depth && !l->lost)) {
        int ended;

        if (more)
            r = submit_idle(l, now, &next);
        if (l->idle_count < l->job->depth && !l->lost) {
            ended = wait_for_post(l);
            now = now_ns();
            if (ended == 0)
                ended = l->loop ? end_events(l, round, now) : end_aio(l, round, now);
            r = r ? r : ended;
        }
        if (r < 0 || cli_signal || now - start >= round->limit_ns)
            more = false;
    }
    return cli_signal ? -EINTR : r;
}

static int notify_round(void *state, struct round *round)
{
    struct listener *l = state;

    return l->plain ? l->plain->round(l->plain_state, round) : told_round(l, round);
}

/* ---- opening and closing ---- */

static void notify_close(void *state)
{
    struct listener *l = state;

    if (l->plain_state)
        l->plain->close(l->plain_state);
    ouro_close(l->loop, OURO_FOREVER);
    if (l->lost)
        return;
    reading_close(&l->reading);
    sem_destroy(&l->posts);
    free(l->slots);
    free(l->idle);
    free(l->batch);
    free(l);
}

static int open_loop(struct listener *l, const struct contender *self, char *why)
{
    ouro_config config = { .size = sizeof(config),
                           .engine = self->engine,
                           .threading = OURO_SERVICE };
    ouro_notify how = {
        .size = sizeof(how),
        .kind = l->job->way == WAY_SIGNAL ? OURO_NOTIFY_SIGNAL : OURO_NOTIFY_THREAD,
        .signo = SIGRTMIN + 1,
        .value = l,
        .fn = loop_has_events,
    };
    int r;

    if (l->job->depth > 256)
        config.depth = l->job->depth;
    r = ouro_open(&config, &l->loop);
    if (r < 0) {
        ouro_probe(self->engine, why, WHY_SIZE, NULL);
        return r;
    }
    r = handle_signal(SIGRTMIN + 1, loop_has_events_handler);
    return r < 0 ? r : ouro_set_notify(l->loop, &how);
}

static int open_told(struct listener *l, const struct contender *self, char *why)
{
    unsigned depth = l->job->depth;
    int r = reading_open(&l->reading, l->job, depth, why);

    l->slots = calloc(depth, sizeof(*l->slots));
    l->idle = calloc(depth, sizeof(struct slot *));
    l->batch = calloc(depth, sizeof(ouro_op *));
    if (r == 0 && (!l->slots || !l->idle || !l->batch))
        r = -ENOMEM;
    while (r == 0 && l->idle_count < depth) {
        l->slots[l->idle_count].owner = l;
        l->idle[l->idle_count] = &l->slots[l->idle_count];
        l->idle_count++;
    }
    if (r < 0 || self->engine)
        return r < 0 ? r : open_loop(l, self, why);
    r = handle_signal(SIGRTMIN, tell_from_handler);
    return r < 0 ? r : aio_calls_find(self, &l->calls, why);
}

static const struct contender *find_plain(const struct contender *self)
{
    for (unsigned i = 0; i < plain_count; i++)
        if (strcmp(plain[i].name, self->name) == 0)
            return &plain[i];
    return NULL;
}

static int notify_open(const struct contender *self, const struct job *job, void **ret_state,
                       char *why)
{
    struct listener *l = calloc(1, sizeof(*l));
    int r;

    if (!l)
        return -ENOMEM;
    l->job = job;
    l->reading.fd = -1;
    sem_init(&l->posts, 0, 0);
    if (job->way == WAY_NONE) {
        l->plain = find_plain(self);
        r = l->plain ? l->plain->open(l->plain, job, &l->plain_state, why) : -EINVAL;
        if (r < 0)
            l->plain_state = NULL;
    } else {
        r = open_told(l, self, why);
    }
    if (r < 0)
        notify_close(l);
    else
        *ret_state = l;
    return r;
}

static const char *notify_describe(const struct contender *self, const struct job *job)
{
    (void)job;
    return self->engine ? "ouro_run; a service loop and ouro_set_notify: OURO_NOTIFY_SIGNAL to a "
                          "handler, OURO_NOTIFY_THREAD"
                        : "aio_suspend; SIGEV_SIGNAL to a handler; SIGEV_THREAD";
}

unsigned contender_notify_list(struct contender *ret, unsigned max)
{
    plain_count = 0;
    plain[plain_count++] = contender_glibc_aio;
#ifdef HAVE_POSIXAIO
    plain[plain_count++] = contender_posixaio_dropin;
#endif
    plain_count += contender_ouro_list(plain + plain_count, max - plain_count);
    for (unsigned i = 0; i < plain_count; i++)
        ret[i] = (struct contender){
            .name = plain[i].name,
            .engine = plain[i].engine,
            .suites = 1u << SUITE_NOTIFY,
            .describe = notify_describe,
            .open = notify_open,
            .round = notify_round,
            .close = notify_close,
        };
    return plain_count;
}

/* ---- the view ---- */

static void json_row_notify(struct json *json, const struct run *run, unsigned row)
{
    json_uint(json, "depth", run->depth);
    json_string(json, "way", way_names[run->way]);
    json_operations(json, run, row);
    json_latency(json, &run->entries[row]);
}

const struct view view_notify = {
    .titles = { "req/s", "range", "per req", "p50", "p99", "CPU s", "CPU/req" },
    .ratio = "x",
    .chart = "Throughput",
    .unit = "requests per second",
    .cells = cells_operations,
    .json = json_row_notify,
};

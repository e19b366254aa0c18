/* SPDX-License-Identifier: MIT */
/* Suite aio-scale: very many outstanding requests of POSIX AIO on one descriptor. Each round is a
 * process of its own, which starts with nothing, whose memory is its own, and whose end, whatever
 * ends it, is seen here. It
 *
 *   - submits `count` reads of an empty pipe, of which none can end meanwhile;
 *   - waits in aio_suspend for many of them, with no time to wait, and until the last of the list
 *     ends; on the main thread, and once more on one with a stack of 64 KiB;
 *   - feeds half of them and closes the pipe on the rest, and looks at each result. Reads of a pipe
 *     end in the order in which they were submitted.
 *
 * glibc walks its list of requests for each that is added, and has 40 bytes of stack for each entry
 * in aio_suspend: it gets fewer, and the report says how many. */
#include "bench.h"

#include <aio.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    COUNT_GLIBC = 10000,
    ENTRIES_GLIBC_SMALL = 1000, /* that fit on the small stack */
    SMALL_STACK = 64 * 1024,
    POLLS = 8,
    WRITER_NAP_NS = 3 * 1000 * 1000, /* before it writes: the other one sleeps by then */
    PATIENCE_S = 120,
    LOOK_MS = 100, /* for a signal that came before the sleep */
};

/* What a round measures besides: indices into struct round's. */
enum {
    SUBMIT_NS, /* all of them */
    FIRST_NS,  /* each of the first tenth */
    LAST_NS,   /* each of the last tenth */
    POLL_NS,   /* aio_suspend with no time to wait */
    OVER_NS,   /* ... whose last entry is over already */
    WAKE_NS,   /* ... from the write that ends its last entry until it is back */
    SMALL_POLL_NS,
    SMALL_OVER_NS,
    SMALL_WAKE_NS,
    END_NS,   /* from the first of the other bytes until the last request is over */
    MEMORY,   /* bytes by which the process grows with each request */
    REQUESTS, /* outstanding */
    ENTRIES_MAIN,
    ENTRIES_SMALL,
    SCALE_MEASURES
};

static const char *const keys[SCALE_MEASURES] = {
    "submit_ns",
    "first_tenth_ns_per_request",
    "last_tenth_ns_per_request",
    "suspend_poll_ns",
    "suspend_over_ns",
    "suspend_wake_ns",
    "small_stack_poll_ns",
    "small_stack_over_ns",
    "small_stack_wake_ns",
    "end_ns",
    "rss_bytes_per_request",
    "requests",
    "suspend_entries",
    "small_stack_entries",
};

/* What the process writes for this one to read. */
struct shared {
    double measures[SCALE_MEASURES];
    int error;
    bool done;
    char why[WHY_SIZE];
};

struct scale {
    const char *name;
    struct aio_calls calls;
    unsigned count, entries, small_entries;
    struct shared *shared;
    struct aiocb *blocks;
    unsigned char *data; /* one byte for each request */
    const struct aiocb **list;
    int in, out; /* the pipe */
};

static int fail(struct scale *s, int error, const char *what)
{
    if (!s->shared->why[0])
        snprintf(s->shared->why, WHY_SIZE, "%s: %s", what, strerror(error));
    return -error;
}

/* The byte that request i shall get. */
static unsigned char byte_of(unsigned i)
{
    return (unsigned char)(i * 151 + 7);
}

/* ---- submitting ---- */

static int submit(struct scale *s, unsigned i, int fd)
{
    struct aiocb *block = &s->blocks[i];

    block->aio_fildes = fd;
    block->aio_buf = &s->data[i];
    block->aio_nbytes = 1;
    block->aio_sigevent.sigev_notify = SIGEV_NONE;
    return s->calls.read(block) < 0 ? fail(s, errno, "aio_read") : 0;
}

/* One request that ends: threads and tables are made by the first. */
static int start_library(struct scale *s)
{
    const struct aiocb *list[] = { &s->blocks[0] };
    int ends[2], r;

    if (pipe(ends) < 0)
        return fail(s, errno, "pipe");
    close(ends[1]);
    r = submit(s, 0, ends[0]);
    if (r == 0 && s->calls.suspend(list, 1, NULL) < 0)
        r = fail(s, errno, "aio_suspend");
    if (r == 0 && s->calls.result(&s->blocks[0]) != 0)
        r = fail(s, EBADMSG, "a read of a closed pipe");
    close(ends[0]);
    memset(&s->blocks[0], 0, sizeof(s->blocks[0]));
    return r;
}

static int submit_range(struct scale *s, unsigned from, unsigned to)
{
    int r = 0;

    for (unsigned i = from; i < to && r == 0; i++)
        r = submit(s, i, s->in);
    return r;
}

static int submit_all(struct scale *s)
{
    double *measures = s->shared->measures, resident = bench_resident(getpid());
    unsigned tenth = s->count / 10 ? s->count / 10 : 1;
    uint64_t begin = now_ns(), first, last, end;
    int r = submit_range(s, 0, tenth);

    first = now_ns();
    if (r == 0)
        r = submit_range(s, tenth, s->count - tenth);
    last = now_ns();
    if (r == 0)
        r = submit_range(s, s->count - tenth, s->count);
    end = now_ns();
    measures[SUBMIT_NS] = (double)(end - begin);
    measures[FIRST_NS] = (double)(first - begin) / tenth;
    measures[LAST_NS] = (double)(end - last) / tenth;
    measures[MEMORY] = (bench_resident(getpid()) - resident) / s->count;
    measures[REQUESTS] = s->count;
    for (unsigned i = 0; i < s->count && r == 0; i++)
        if (s->calls.error(&s->blocks[i]) != EINPROGRESS)
            r = fail(s, EBADMSG, "a read of an empty pipe is over");
    return r;
}

/* ---- waiting ---- */

struct waiting {
    struct scale *scale;
    unsigned first; /* the request that ends; the last of the list */
    unsigned entries;
    double *measures; /* poll, over, wake */
    int result;
};

struct writer {
    struct scale *scale;
    unsigned number; /* of the request */
    uint64_t written;
    bool failed;
};

static void *write_later(void *arg)
{
    struct writer *writer = arg;
    unsigned char byte = byte_of(writer->number);

    nanosleep(&(struct timespec){ .tv_nsec = WRITER_NAP_NS }, NULL);
    writer->written = now_ns();
    writer->failed = write(writer->scale->out, &byte, 1) != 1;
    return NULL;
}

static int suspend(const struct waiting *w, time_t seconds)
{
    struct timespec limit = { .tv_sec = seconds };

    return w->scale->calls.suspend(w->scale->list, (int)w->entries, &limit) < 0 ? -errno : 0;
}

static int wait_for_write(struct waiting *w)
{
    struct writer writer = { .scale = w->scale, .number = w->first };
    pthread_t thread;
    uint64_t back;
    int r = pthread_create(&thread, NULL, write_later, &writer);

    if (r)
        return fail(w->scale, r, "pthread_create");
    r = suspend(w, PATIENCE_S);
    back = now_ns();
    pthread_join(thread, NULL);
    if (r < 0)
        return fail(w->scale, -r, "aio_suspend until an entry is over");
    if (writer.failed)
        return fail(w->scale, EPIPE, "write");
    w->measures[2] = back > writer.written ? (double)(back - writer.written) : 0;
    return 0;
}

static int measure_suspend(struct waiting *w)
{
    struct scale *s = w->scale;
    uint64_t begin;
    int r;

    for (unsigned i = 0; i < w->entries; i++)
        s->list[i] = &s->blocks[w->first + w->entries - 1 - i];
    begin = now_ns();
    for (unsigned i = 0; i < POLLS; i++)
        if ((r = suspend(w, 0)) != -EAGAIN)
            return fail(s, r ? -r : EBADMSG, "aio_suspend without time");
    w->measures[0] = (double)(now_ns() - begin) / POLLS;
    r = wait_for_write(w);
    if (r < 0)
        return r;
    begin = now_ns();
    r = suspend(w, 0);
    w->measures[1] = (double)(now_ns() - begin);
    if (r < 0)
        return fail(s, -r, "aio_suspend of what is over");
    if (s->calls.error(&s->blocks[w->first]) != 0)
        return fail(s, EBADMSG, "the first read is not over");
    return 0;
}

static void *suspend_thread(void *arg)
{
    struct waiting *w = arg;

    w->result = measure_suspend(w);
    return NULL;
}

static int suspend_on_small_stack(struct waiting *w)
{
    pthread_attr_t attr;
    pthread_t thread;
    int r = pthread_attr_init(&attr);

    if (r)
        return fail(w->scale, r, "pthread_attr_init");
    r = pthread_attr_setstacksize(&attr, SMALL_STACK);
    if (r == 0)
        r = pthread_create(&thread, &attr, suspend_thread, w);
    pthread_attr_destroy(&attr);
    if (r)
        return fail(w->scale, r, "a thread with a stack of 64 KiB");
    pthread_join(thread, NULL);
    return w->result;
}

static int wait_twice(struct scale *s)
{
    double *measures = s->shared->measures;
    struct waiting w = { .scale = s, .entries = s->entries, .measures = &measures[POLL_NS] };
    int r;

    measures[ENTRIES_MAIN] = w.entries;
    r = measure_suspend(&w);
    if (r < 0)
        return r;
    w.first = 1;
    w.entries = s->small_entries;
    w.measures = &measures[SMALL_POLL_NS];
    measures[ENTRIES_SMALL] = w.entries;
    return suspend_on_small_stack(&w);
}

/* ---- the end ---- */

/* Bytes for the requests from the third on to `to`. */
static int feed(struct scale *s, unsigned to)
{
    unsigned char bytes[1024];

    for (unsigned i = 2; i < to;) {
        unsigned count = 0;

        while (count < sizeof(bytes) && i + count < to) {
            bytes[count] = byte_of(i + count);
            count++;
        }
        if (write(s->out, bytes, count) != (ssize_t)count)
            return fail(s, errno, "write");
        i += count;
    }
    return 0;
}

static int check_result(struct scale *s, unsigned i, bool fed)
{
    struct aiocb *block = &s->blocks[i];
    int error = s->calls.error(block);
    ssize_t result = s->calls.result(block);

    if (error == 0 && result == fed && (!fed || s->data[i] == byte_of(i)))
        return 0;
    snprintf(s->shared->why, WHY_SIZE, "request %u of %u: error %d, result %zd, wanted %d", i,
             s->count, error, result, fed);
    return -EBADMSG;
}

static int end_all(struct scale *s)
{
    const struct timespec limit = { .tv_sec = PATIENCE_S };
    unsigned fed = s->count / 2;
    uint64_t begin = now_ns();
    int r = feed(s, fed);

    close(s->out);
    for (unsigned i = s->count; i-- > 0 && r == 0;) {
        const struct aiocb *last[] = { &s->blocks[i] };

        while (r == 0 && s->calls.error(last[0]) == EINPROGRESS)
            if (s->calls.suspend(last, 1, &limit) < 0 && errno != EINTR)
                r = fail(s, errno, "aio_suspend for the end");
    }
    s->shared->measures[END_NS] = (double)(now_ns() - begin);
    for (unsigned i = 0; i < s->count && r == 0; i++)
        r = check_result(s, i, i < fed);
    return r;
}

/* ---- the process ---- */

static int work(struct scale *s)
{
    int ends[2], r;

    s->blocks = malloc(s->count * sizeof(*s->blocks));
    s->data = malloc(s->count);
    s->list = malloc(s->count * sizeof(const struct aiocb *));
    if (!s->blocks || !s->data || !s->list)
        return fail(s, ENOMEM, "memory");
    memset(s->blocks, 0, s->count * sizeof(*s->blocks)); /* touched here, not in the timed part */
    memset(s->data, 0, s->count);
    memset(s->list, 0, s->count * sizeof(const struct aiocb *));
    if (pipe(ends) < 0)
        return fail(s, errno, "pipe");
    s->in = ends[0];
    s->out = ends[1];
    r = start_library(s);
    if (r == 0)
        r = submit_all(s);
    if (r == 0)
        r = wait_twice(s);
    return r < 0 ? r : end_all(s);
}

/* 0 or -errno: until it has ended, which closes the pipe, or the time has come, or a signal. */
static int wait_for(struct scale *s, pid_t child, int ended)
{
    struct pollfd poll_fd = { .fd = ended, .events = POLLIN };
    uint64_t begin = now_ns();
    int status = 0, r = 0;

    while (r == 0 && poll(&poll_fd, 1, LOOK_MS) <= 0) {
        if (cli_signal)
            r = -EINTR;
        else if (now_ns() - begin > (uint64_t)PATIENCE_S * 1000000000)
            r = fail(s, ETIMEDOUT, "the requests");
    }
    if (r < 0)
        kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (r < 0)
        return r;
    if (s->shared->done)
        return s->shared->error;
    if (WIFSIGNALED(status))
        snprintf(s->shared->why, WHY_SIZE, "its process was ended by: %s",
                 strsignal(WTERMSIG(status)));
    return -EIO;
}

static int run_process(struct scale *s)
{
    int ends[2], r;
    pid_t child;

    memset(s->shared, 0, sizeof(*s->shared));
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    child = bench_fork();
    if (child == 0) {
        close(ends[0]);
        s->shared->error = work(s);
        s->shared->done = true;
        _exit(0);
    }
    close(ends[1]);
    r = child < 0 ? child : wait_for(s, child, ends[0]);
    close(ends[0]);
    return r;
}

static int scale_round(void *state, struct round *round)
{
    struct scale *s = state;
    int r = run_process(s);

    if (r < 0 && !cli_signal && s->shared->why[0])
        cli_error("%s: %s", s->name, s->shared->why);
    round->operations = s->count;
    round->busy = s->shared->measures[SUBMIT_NS] / 1e9;
    memcpy(round->measures, s->shared->measures, sizeof(s->shared->measures));
    return r;
}

static void scale_close(void *state)
{
    struct scale *s = state;

    if (s->shared)
        munmap(s->shared, sizeof(*s->shared));
    free(s);
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static int scale_open(const struct contender *self, const struct job *job, void **ret_state,
                      char *why)
{
    bool glibc = strcmp(self->name, contender_glibc_aio.name) == 0;
    struct scale *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    s->name = self->name;
    s->count = glibc ? least(job->count, COUNT_GLIBC) : job->count;
    s->entries = least(s->count - 1, SCALE_ENTRIES);
    s->small_entries = glibc ? least(s->entries, ENTRIES_GLIBC_SMALL) : s->entries;
    s->shared =
        mmap(NULL, sizeof(*s->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->shared == MAP_FAILED)
        s->shared = NULL;
    r = s->shared ? aio_calls_find(self, &s->calls, why) : -ENOMEM;
    if (r < 0)
        scale_close(s);
    else
        *ret_state = s;
    return r;
}

/* 0: not known. */
static unsigned request_bytes(const struct contender *contender)
{
#ifdef HAVE_POSIXAIO
    if (strcmp(contender->name, contender_posixaio_dropin.name) == 0)
        return aio_request_bytes;
#endif
    (void)contender;
    return 0;
}

static const char *scale_describe(const struct contender *self, const struct job *job)
{
    static char text[WHY_SIZE];

    (void)job;
    if (request_bytes(self))
        snprintf(text, sizeof(text), "one thread for all; %u bytes for each request",
                 request_bytes(self));
    else
        snprintf(text, sizeof(text),
                 "one thread per descriptor; walks its list for each request, so it gets %d at "
                 "most, and on a stack of 64 KiB %d entries",
                 COUNT_GLIBC, ENTRIES_GLIBC_SMALL);
    return text;
}

unsigned contender_scale_list(struct contender *ret, unsigned max)
{
    unsigned count = 0;

    (void)max;
    ret[count++] = contender_glibc_aio;
#ifdef HAVE_POSIXAIO
    ret[count++] = contender_posixaio_dropin;
#endif
    for (unsigned i = 0; i < count; i++) {
        ret[i].suites = 1u << SUITE_SCALE;
        ret[i].describe = scale_describe;
        ret[i].open = scale_open;
        ret[i].round = scale_round;
        ret[i].close = scale_close;
    }
    return count;
}

/* ---- the view ---- */

static double middle(const struct run *run, unsigned row, unsigned measure)
{
    return stats_median(run->entries[row].measures[measure], run->rounds);
}

static void cells_scale(struct table *table, const struct run *run, unsigned row)
{
    static const unsigned times[] = { SUBMIT_NS, FIRST_NS, LAST_NS, POLL_NS, OVER_NS, WAKE_NS };

    table_cell(table, "%.0f", middle(run, row, REQUESTS));
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        cell_ns(table, middle(run, row, times[i]));
    table_cell(table, "%.0f", middle(run, row, ENTRIES_SMALL));
    cell_ns(table, middle(run, row, SMALL_WAKE_NS));
    cell_bytes(table, middle(run, row, MEMORY));
}

static void json_row_scale(struct json *json, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];

    json_operations(json, run, row);
    for (unsigned m = 0; m < SCALE_MEASURES; m++)
        json_double(json, keys[m], middle(run, row, m));
    if (request_bytes(entry->contender))
        json_uint(json, "request_bytes", request_bytes(entry->contender));
    else
        json_null(json, "request_bytes");
    for (unsigned m = 0; m < REQUESTS; m++) {
        char key[64];

        snprintf(key, sizeof(key), "rounds_%s", keys[m]);
        json_numbers(json, key, entry->measures[m], run->rounds);
    }
}

const struct view view_scale = {
    .titles = { "requests", "submit all", "first 10 %", "last 10 %", "suspend 0 s", "over", "woken",
                "64 KiB stack", "woken", "RSS/req" },
    .ratio = "x",
    .chart = "Submissions",
    .unit = "submissions per second",
    .cells = cells_scale,
    .json = json_row_scale,
};

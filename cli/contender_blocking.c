/* SPDX-License-Identifier: MIT */
/* The contender `blocking`: what a program does without any asynchronous interface. nop: the
 * cheapest system call, one by one; files: a plain loop; random: one thread per operation in
 * flight. */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct blocking;

struct reader {
    struct blocking *owner;
    pthread_t thread;
    unsigned index;
    uint64_t operations;
    int result;
    struct histogram latency;
};

struct blocking {
    const struct job *job;
    struct reading reading; /* not in suite nop */
    /* random: the threads, and what they share in a round */
    struct reader *readers;
    unsigned started;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    unsigned turn;    /* counts rounds; a thread works when it sees a new one */
    unsigned running; /* threads that have not finished the turn */
    bool leaving;
    uint64_t end_ns; /* of the turn: the same for all, whenever a thread gets the CPU */
    struct round *round;
};

static int nop_round(struct round *round)
{
    uint64_t start = now_ns(), now = start, before;

    while (now - start < round->limit_ns && !cli_signal) {
        before = now;
        for (unsigned i = 0; i < 512; i++)
            syscall(SYS_getppid);
        now = now_ns();
        histogram_add(round->latency, (now - before) / 512, 512);
        round->operations += 512;
    }
    return cli_signal ? -EINTR : 0;
}

static int files_round(struct blocking *b, struct round *round)
{
    const struct job *job = b->job;
    uint64_t before = now_ns(), now;

    for (unsigned i = 0; i < job->count && !cli_signal; i++) {
        int fd = openat(job->dir_fd, job->names[i], O_RDONLY | O_CLOEXEC), r;
        ssize_t n;

        if (fd < 0)
            return job_check_file(job, i, NULL, -errno, false);
        n = pread(fd, b->reading.buffers, job->size, 0);
        if (n < 0)
            n = -errno;
        close(fd);
        r = job_check_file(job, i, b->reading.buffers, n, round->full_check);
        if (r < 0)
            return r;
        now = now_ns();
        histogram_add(round->latency, now - before, 1);
        before = now;
        round->operations++;
    }
    return cli_signal ? -EINTR : 0;
}

static int read_blocks(struct reader *reader, const struct round *round)
{
    const struct blocking *b = reader->owner;
    const struct job *job = b->job;
    char *data = b->reading.buffers + reader->index * b->reading.stride;
    uint64_t before = now_ns(), now = before;
    uint64_t seed = round->seed + (uint64_t)reader->index * 0x51ed27u;
    int r = 0;

    while (now < b->end_ns && !cli_signal && r == 0) {
        uint64_t offset = random_offset(job, &seed);
        ssize_t n = pread(b->reading.fd, data, job->block, (off_t)offset);

        if (n < 0)
            n = -errno;
        r = job_check_block(job, offset, data, n, round->full_check);
        now = now_ns();
        histogram_add(&reader->latency, now - before, 1);
        before = now;
        reader->operations++;
    }
    return r;
}

static void *reader_main(void *arg)
{
    struct reader *reader = arg;
    struct blocking *b = reader->owner;

    pthread_mutex_lock(&b->lock);
    for (unsigned turn = 0;;) {
        while (turn == b->turn && !b->leaving)
            pthread_cond_wait(&b->begin, &b->lock);
        if (b->leaving)
            break;
        turn = b->turn;
        pthread_mutex_unlock(&b->lock);
        reader->result = read_blocks(reader, b->round);
        pthread_mutex_lock(&b->lock);
        if (--b->running == 0)
            pthread_cond_signal(&b->end);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static int random_round(struct blocking *b, struct round *round)
{
    int r = 0;

    b->round = round;
    b->end_ns = now_ns() + round->limit_ns;
    for (unsigned i = 0; i < b->started; i++) {
        b->readers[i].operations = 0;
        memset(&b->readers[i].latency, 0, sizeof(b->readers[i].latency));
    }
    pthread_mutex_lock(&b->lock);
    b->turn++;
    b->running = b->started;
    pthread_cond_broadcast(&b->begin);
    while (b->running)
        pthread_cond_wait(&b->end, &b->lock);
    pthread_mutex_unlock(&b->lock);
    for (unsigned i = 0; i < b->started; i++) {
        round->operations += b->readers[i].operations;
        histogram_merge(round->latency, &b->readers[i].latency);
        r = r ? r : b->readers[i].result;
    }
    return cli_signal ? -EINTR : r;
}

static void blocking_close(void *state)
{
    struct blocking *b = state;

    pthread_mutex_lock(&b->lock);
    b->leaving = true;
    pthread_cond_broadcast(&b->begin);
    pthread_mutex_unlock(&b->lock);
    for (unsigned i = 0; i < b->started; i++)
        pthread_join(b->readers[i].thread, NULL);
    pthread_cond_destroy(&b->begin);
    pthread_cond_destroy(&b->end);
    pthread_mutex_destroy(&b->lock);
    reading_close(&b->reading);
    free(b->readers);
    free(b);
}

static int start_readers(struct blocking *b, char *why)
{
    unsigned depth = b->job->depth;

    b->readers = calloc(depth, sizeof(*b->readers));
    if (!b->readers)
        return -ENOMEM;
    for (; b->started < depth; b->started++) {
        struct reader *reader = &b->readers[b->started];
        int r;

        reader->owner = b;
        reader->index = b->started;
        r = pthread_create(&reader->thread, NULL, reader_main, reader);
        if (r != 0) {
            snprintf(why, WHY_SIZE, "only %u threads of %u: %s", b->started, depth, strerror(r));
            return -r;
        }
    }
    return 0;
}

static int blocking_open(const struct contender *self, const struct job *job, void **ret_state,
                         char *why)
{
    struct blocking *b = calloc(1, sizeof(*b));
    int r = 0;

    (void)self;
    if (!b)
        return -ENOMEM;
    b->job = job;
    b->reading.fd = -1;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->begin, NULL);
    pthread_cond_init(&b->end, NULL);
    if (job->suite != SUITE_NOP)
        r = reading_open(&b->reading, job, job->suite == SUITE_FILES ? 1 : job->depth, why);
    if (r == 0 && job->suite == SUITE_RANDOM)
        r = start_readers(b, why);
    if (r < 0)
        blocking_close(b);
    else
        *ret_state = b;
    return r;
}

static int blocking_round(void *state, struct round *round)
{
    struct blocking *b = state;

    switch (b->job->suite) {
    case SUITE_NOP: return nop_round(round);
    case SUITE_FILES: return files_round(b, round);
    case SUITE_RANDOM: return random_round(b, round);
    default: return -EINVAL; /* the others have contenders of their own */
    }
}

static const char *blocking_describe(const struct contender *self, const struct job *job)
{
    (void)self;
    return job->suite == SUITE_NOP     ? "getppid(2), one by one"
           : job->suite == SUITE_FILES ? "open, pread, close in a plain loop"
                                       : "pread on one thread per operation in flight";
}

const struct contender contender_blocking = {
    .name = "blocking",
    .suites = 1u << SUITE_NOP | 1u << SUITE_FILES | 1u << SUITE_RANDOM,
    .describe = blocking_describe,
    .open = blocking_open,
    .round = blocking_round,
    .close = blocking_close,
};

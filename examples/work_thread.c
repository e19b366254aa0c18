/* SPDX-License-Identifier: MIT */
/* work_thread: counts primes on worker threads. Half of the jobs are submitted by the thread that
 * drives the loop, half are posted by another thread, which then says by a message how many.
 * Usage: work_thread [LIMIT]; the result is always checked against a count by one thread. */
#define _POSIX_C_SOURCE 200809L
#include <ouro.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS = 8, SUBMITTED = JOBS / 2 };

struct job {
    ouro_op op;
    struct state *state;
    long from, to;
};

struct state {
    ouro_loop *loop;
    struct job jobs[JOBS];
    ouro_op message;
    int64_t primes;          /* these three: driver thread only, so no locks */
    int done;                /* jobs whose callback ran */
    int64_t expected;        /* jobs altogether; 0: not known yet */
    atomic_int poster_error; /* why the poster could not even send its message */
};

static int64_t count_primes(long from, long to)
{
    int64_t count = 0;

    for (long n = from < 2 ? 2 : from; n < to; n++) {
        long d = 2;
        while (d * d <= n && n % d != 0)
            d++;
        count += d * d > n;
    }
    return count;
}

/* On a worker: touches nothing but its job. */
static int64_t work(void *arg)
{
    const struct job *job = arg;
    return count_primes(job->from, job->to);
}

/* On the driver thread, also for the jobs that the other thread posted. */
static void on_done(ouro_op *op)
{
    struct state *state = ((struct job *)op->user)->state;

    state->done++;
    if (op->res > 0)
        state->primes += op->res;
}

static ouro_op *prep_job(struct job *job)
{
    ouro_prep_work(&job->op, work, job);
    job->op.cb = on_done;
    job->op.user = job;
    return &job->op;
}

static void *poster(void *arg)
{
    struct state *state = arg;
    int posted = 0, r = 0;

    while (SUBMITTED + posted < JOBS && r >= 0) {
        r = ouro_post(state->loop, prep_job(&state->jobs[SUBMITTED + posted]), NULL);
        posted += r >= 0;
    }
    /* The word arrives as an event without operation; the message's own success is not news. */
    ouro_prep_message(&state->message, state->loop, posted);
    state->message.flags = OURO_QUIET;
    r = ouro_post(state->loop, &state->message, NULL);
    if (r < 0) {
        atomic_store(&state->poster_error, r);
        ouro_wake(state->loop); /* or the driver would sleep on */
    }
    return NULL;
}

/* Runs the loop until the message has come and all jobs that it speaks of are done. */
static int drive(struct state *state, int64_t submitted)
{
    ouro_event event;
    int r = 0;

    while (r >= 0 && (state->expected == 0 || state->done < state->expected)) {
        r = ouro_run(state->loop, 1, OURO_FOREVER); /* callbacks run in here */
        while (ouro_reap(state->loop, &event, 1) == 1) {
            if (event.cflags & OURO_C_MESSAGE)
                state->expected = submitted + event.res;
            else if (event.res < 0)
                r = (int)event.res; /* of the message operation */
        }
        if (r >= 0)
            r = atomic_load(&state->poster_error);
    }
    return r < 0 ? r : 0;
}

int main(int argc, char **argv)
{
    static struct state state; /* static: all-zero, and there until the loop is closed */
    long limit = argc > 1 ? strtol(argv[1], NULL, 10) : 200000;
    int submitted = 0;
    pthread_t thread;

    int r = ouro_open(NULL, &state.loop);
    for (int i = 0; i < JOBS; i++) {
        state.jobs[i].state = &state;
        state.jobs[i].from = limit * i / JOBS;
        state.jobs[i].to = limit * (i + 1) / JOBS;
    }
    while (r >= 0 && submitted < SUBMITTED) { /* the first submit makes this the driver thread */
        r = ouro_submit(state.loop, prep_job(&state.jobs[submitted]));
        submitted += r >= 0;
    }
    if (r >= 0) {
        r = -pthread_create(&thread, NULL, poster, &state);
        if (r == 0) {
            r = drive(&state, submitted);
            pthread_join(thread, NULL);
        }
    }
    int closed = ouro_close(state.loop, OURO_FOREVER);
    if (r >= 0)
        r = closed;
    int wrong = r < 0 || state.done != JOBS || state.primes != count_primes(0, limit);
    printf("%lld primes below %ld by %d jobs: %s\n", (long long)state.primes, limit, state.done,
           r < 0   ? strerror(-r)
           : wrong ? "wrong"
                   : "ok");
    return wrong;
}

/* SPDX-License-Identifier: MIT */
/* t_signals.c: a storm of signals during everything, also of handlers that call what they may:
 * nothing is lost, doubled, or ended early. */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "test.h"

static _Atomic unsigned hits;

static void on_alarm(int signo)
{
    (void)signo;
    hits++;
}

static void storm(bool on, int flags)
{
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = flags };
    struct itimerval every = { { 0, on ? 1000 : 0 }, { 0, on ? 1000 : 0 } };

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

static void pipe_transfers_survive_a_storm(struct test *t)
{
    enum { SIZE = 200000 };
    static char data[SIZE], got[SIZE];
    ouro_op *w = op_new(t), *r = op_new(t);
    int fds[2];

    fill(data, SIZE, 31);
    make_pipe(t, fds);
    for (int flags = 0; flags < 2; flags++) {
        storm(true, flags ? SA_RESTART : 0);
        for (int i = 0; i < 10; i++) {
            memset(got, 0, SIZE);
            ouro_prep_write(w, fds[1], data, SIZE, 0);
            ouro_prep_read(r, fds[0], got, SIZE, 0);
            w->flags = r->flags = OURO_EXACT;
            start(t, w);
            start(t, r);
            CHECK_EQ(finish(t, r), SIZE);
            CHECK_EQ(finish(t, w), SIZE);
            check_filled(got, SIZE, 31);
        }
        storm(false, 0);
    }
}

static void waits_and_deadlines_survive_a_storm(struct test *t)
{
    ouro_op *timer = op_new(t), *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    storm(true, 0);
    for (int i = 0; i < 5; i++) {
        ouro_time at = in_ms(t, 12);

        ouro_prep_timer(timer, at);
        CHECK_EQ(do_op(t, timer), 0);
        CHECK(ouro_now(t->loop) >= at);
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        op->deadline = in_ms(t, 6);
        CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    }
    CHECK(hits > 0);
    storm(false, 0);
}

static void files_and_names_survive_a_storm(struct test *t)
{
    enum { SIZE = 100000 };
    static char data[SIZE], got[SIZE];
    ouro_op *op = op_new(t);
    struct ouro_stat st;

    fill(data, SIZE, 32);
    storm(true, 0);
    for (int i = 0; i < 20; i++) {
        int fd;

        ouro_prep_open(op, OURO_HERE, path_in(t, "f"), O_RDWR | O_CREAT, 0600);
        fd = (int)do_op(t, op);
        CHECK(fd >= 0);
        ouro_prep_write(op, fd, data, SIZE, 0);
        op->flags = OURO_EXACT;
        CHECK_EQ(do_op(t, op), SIZE);
        ouro_prep_fdatasync(op, fd);
        CHECK_EQ(do_op(t, op), 0);
        ouro_prep_stat(op, fd, "", AT_EMPTY_PATH, &st);
        CHECK_EQ(do_op(t, op), 0);
        ouro_prep_read(op, fd, got, SIZE, 0);
        op->flags = OURO_EXACT;
        CHECK_EQ(do_op(t, op), SIZE);
        check_filled(got, SIZE, 32);
        ouro_prep_close(op, fd);
        CHECK_EQ(do_op(t, op), 0);
        ouro_prep_unlink(op, OURO_HERE, path_in(t, "f"), 0);
        CHECK_EQ(do_op(t, op), 0);
    }
    storm(false, 0);
}

static void waitpid_survives_a_storm(struct test *t)
{
    ouro_op *op = op_new(t);

    for (int any = 0; any < 2; any++) {
        pid_t child;
        int status;

        storm(false, 0);
        child = fork();
        if (child == 0) {
            usleep(20000);
            _exit(9);
        }
        storm(true, 0);
        ouro_prep_waitpid(op, any ? -1 : child, &status, 0);
        CHECK_EQ(do_op(t, op), child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    }
    storm(false, 0);
}

static void closing_survives_a_storm(struct test *t)
{
    char byte;
    int fds[2];

    make_pipe(t, fds);
    storm(true, 0);
    for (int i = 0; i < 20; i++) {
        ouro_op *op = op_new(t);

        if (!t->loop)
            open_loop(t);
        record_of(op)->own_cb = true;
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        start(t, op);
        step(t);
        close_loop(t);
        CHECK_EQ(RES(op), -ECANCELED);
    }
    storm(false, 0);
}

/* ---- Handlers that call -------------------------------------------------------------------- */

enum { LIVE = 5, ROUNDS = 100 };

/* What the handler may reach. It cancels what is in flight, what has long ended and what never was,
 * and wakes. */
static struct {
    ouro_loop *_Atomic loop;
    _Atomic ouro_id live[2 * LIVE], stale;
    _Atomic unsigned count, refused; /* count: of live */
    pthread_t main, other;
    atomic_bool both; /* other gets each signal of main's, too */
} reach;

static void on_alarm_calling(int signo)
{
    unsigned count = reach.count, turn = hits++ % (count + 3);
    ouro_loop *loop = reach.loop;

    if (turn < count)
        reach.refused += ouro_cancel_id(loop, reach.live[turn]) != 0;
    else if (turn == count)
        reach.refused += ouro_cancel_id(loop, reach.stale) != 0;
    else if (turn == count + 1)
        reach.refused += ouro_cancel_id(loop, UINT64_MAX) != 0;
    else
        ouro_wake(loop);
    if (reach.both && pthread_equal(reach.main, pthread_self()))
        (void)pthread_kill(reach.other, signo);
}

/* Often, but so that a sanitizer gets on between two of them. */
static void storm_of_calls(struct test *t, unsigned count)
{
    struct sigaction action = { .sa_handler = on_alarm_calling };
    long us = count ? 100 * (long)seconds_scaled(1) : 0;
    struct itimerval every = { { 0, us }, { 0, us } };

    if (count) {
        reach.loop = t->loop;
        reach.count = count;
        reach.main = pthread_self();
        sigaction(SIGALRM, &action, NULL);
    }
    setitimer(ITIMER_REAL, &every, NULL);
}

/* A wake ends an ouro_wait early. */
static int64_t finish_woken(struct test *t, ouro_op *op)
{
    int r = -EINTR;

    if (t->style != STYLE_WAIT)
        return finish(t, op);
    while (r == -EINTR)
        r = ouro_wait(t->loop, op, t->limit);
    CHECK_EQ(r, 0);
    ledger_waited(t, op);
    return RES(op);
}

struct caller {
    struct test *t;
    ouro_op *ops[LIVE];
    char bytes[LIVE][4096];
    int lone[2], fds[2], file;
    unsigned place;       /* of its ids among those that the handler reaches */
    unsigned ended[LIVE]; /* not by a cancel */
};

static void caller_init(struct caller *caller, struct test *t, unsigned place)
{
    caller->t = t;
    caller->place = place;
    for (unsigned i = 0; i < LIVE; i++)
        caller->ops[i] = op_new(t);
    make_pipe(t, caller->lone);
    make_pipe(t, caller->fds);
    caller->file = make_file(t, place ? "b" : "a", caller->bytes[0], 4096);
}

/* The first waits for what never comes: only the handler ends it. */
static void prepare_round(struct caller *caller)
{
    ouro_op *const *ops = caller->ops;

    ouro_prep_read(ops[0], caller->lone[0], caller->bytes[0], 1, 0);
    ouro_prep_read(ops[1], caller->fds[0], caller->bytes[1], 1, 0);
    ouro_prep_write(ops[2], caller->fds[1], caller->bytes[2], 1, 0);
    ouro_prep_read(ops[3], caller->file, caller->bytes[3], 4096, 0);
    ouro_prep_timer(ops[4], in_ms(caller->t, 1));
}

static void run_round(struct caller *caller, bool post)
{
    static const int64_t wanted[LIVE] = { 1, 1, 1, 4096, 0 };

    prepare_round(caller);
    for (unsigned i = 0; i < LIVE; i++) {
        ouro_op *op = caller->ops[i];

        reach.stale = reach.live[caller->place + i];
        if (post)
            CHECK_EQ(start_post(caller->t, op), 0);
        else
            start(caller->t, op);
        reach.live[caller->place + i] = post ? record_of(op)->id : ouro_op_id(op);
    }
    for (unsigned i = LIVE; i--;) {
        int64_t res = finish_woken(caller->t, caller->ops[i]);

        CHECK(res == wanted[i] || res == -ECANCELED);
        caller->ended[i] += res >= 0;
    }
}

static void *run_rounds(void *arg)
{
    struct caller *caller = arg;

    for (unsigned i = 0; i < ROUNDS; i++)
        run_round(caller, i % 2);
    return NULL;
}

/* What was written was read, or is still there. */
static void check_caller(struct caller *caller)
{
    unsigned left = 0;
    char byte;

    for (; readable(caller->fds[0], 0); left++)
        CHECK_EQ(read(caller->fds[0], &byte, 1), 1);
    CHECK_EQ(caller->ended[2], caller->ended[1] + left);
    CHECK_EQ(caller->ended[0], 0);
    CHECK_EQ(reach.refused, 0);
    CHECK(hits >= ROUNDS);
}

static void a_handler_may_cancel_and_wake_whatever_it_interrupts(struct test *t)
{
    static struct caller caller;

    caller_init(&caller, t, 0);
    storm_of_calls(t, LIVE);
    (void)run_rounds(&caller);
    storm_of_calls(t, 0);
    check_caller(&caller);
}

static void handlers_of_two_threads_may_call_at_once(struct test *t)
{
    static struct caller callers[2];

    for (unsigned i = 0; i < 2; i++)
        caller_init(&callers[i], t, i * LIVE);
    CHECK_EQ(pthread_create(&reach.other, NULL, run_rounds, &callers[1]), 0);
    reach.both = true;
    storm_of_calls(t, 2 * LIVE);
    (void)run_rounds(&callers[0]);
    reach.both = false;
    CHECK_EQ(pthread_join(reach.other, NULL), 0);
    storm_of_calls(t, 0);
    for (unsigned i = 0; i < 2; i++)
        check_caller(&callers[i]);
}

static const struct test_case cases[] = {
    { NAMED(pipe_transfers_survive_a_storm), .faults = "2", .pitfalls = "S5", .seconds = 30 },
    { NAMED(waits_and_deadlines_survive_a_storm), .faults = "2", .pitfalls = "S5 C7" },
    { NAMED(files_and_names_survive_a_storm), .faults = "2", .fixed = FIX_FD, .pitfalls = "S5",
      .seconds = 30 },
    { NAMED(waitpid_survives_a_storm), .faults = "2", .fixed = FIX_FD, .pitfalls = "S5" },
    { NAMED(closing_survives_a_storm), .fixed = FIX_STYLE, .pitfalls = "S5 R9" },
    { NAMED(a_handler_may_cancel_and_wake_whatever_it_interrupts), .faults = "11",
      .fixed = FIX_FD | FIX_MASK, .seconds = 30 },
    { NAMED(handlers_of_two_threads_may_call_at_once), .faults = "11", .fixed = FIX_ALL & ~FIX_MODE,
      .style = STYLE_WAIT, .needs = NEED_THREADS, .seconds = 30 },
    { .name = NULL },
};
const struct subject subject_signals = { "signals", cases };

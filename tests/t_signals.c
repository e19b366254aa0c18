/* SPDX-License-Identifier: MIT */
/* t_signals.c: a storm of signals during everything: nothing is lost, doubled, or ended early. */
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

static const struct test_case cases[] = {
    { NAMED(pipe_transfers_survive_a_storm), .faults = "2", .pitfalls = "S5", .seconds = 30 },
    { NAMED(waits_and_deadlines_survive_a_storm), .faults = "2", .pitfalls = "S5 C7" },
    { NAMED(files_and_names_survive_a_storm), .faults = "2", .fixed = FIX_FD, .pitfalls = "S5",
      .seconds = 30 },
    { NAMED(waitpid_survives_a_storm), .faults = "2", .fixed = FIX_FD, .pitfalls = "S5" },
    { NAMED(closing_survives_a_storm), .fixed = FIX_STYLE, .pitfalls = "S5 R9" },
    { .name = NULL },
};
const struct subject subject_signals = { "signals", cases };

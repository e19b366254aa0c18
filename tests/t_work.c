/* SPDX-License-Identifier: MIT */
/* t_work.c: user work on worker threads, and waiting for processes. */
#include <signal.h>
#include <sys/wait.h>

#include "test.h"

static int64_t negate(void *arg)
{
    return -(int64_t)(intptr_t)arg;
}

static void work_runs_elsewhere_and_returns_what_it_likes(struct test *t)
{
    ouro_op *op = op_new(t);

    for (int i = -700; i < 700; i += 100) {
        ouro_prep_work(op, negate, (void *)(intptr_t)i);
        op->flags = i % 200 ? OURO_BG : 0;
        CHECK_EQ(do_op(t, op), -i);
        CHECK(CFLAGS(op) & OURO_C_POOLED);
    }
}

struct meeting {
    pthread_barrier_t barrier;
};

static int64_t meet(void *arg)
{
    pthread_barrier_wait(arg);
    return 1;
}

/* So many workers must run at once, or the test hangs. */
static void workers_run_at_the_same_time(struct test *t)
{
    enum { COUNT = 4 };
    ouro_op *ops[COUNT];
    struct meeting meeting;

    for (int bg = 0; bg < 2; bg++) {
        pthread_barrier_init(&meeting.barrier, NULL, COUNT);
        for (int i = 0; i < COUNT; i++) {
            ouro_prep_work(ops[i] = op_new(t), meet, &meeting.barrier);
            ops[i]->flags = bg ? OURO_BG : 0;
            start(t, ops[i]);
        }
        finish_all(t);
        pthread_barrier_destroy(&meeting.barrier);
    }
}

static _Atomic int running, most;

static int64_t count_running(void *arg)
{
    int now = ++running, seen = most;

    (void)arg;
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        ;
    usleep(300);
    running--;
    return 0;
}

static void workers_are_limited(struct test *t)
{
    ouro_op *ops[60];

    close_loop(t);
    t->config.max_workers = 3;
    t->config.max_blocking = 2;
    open_loop(t);
    running = most = 0;
    for (int i = 0; i < 60; i++) {
        ouro_prep_work(ops[i] = op_new(t), count_running, NULL);
        ops[i]->flags = i >= 30 ? OURO_BG : 0;
        start(t, ops[i]);
        if (i == 29) {
            finish_all(t);
            CHECK(most <= 3);
            most = 0;
        }
    }
    finish_all(t);
    CHECK(most <= 2);
}

static _Atomic bool gate;

static int64_t wait_at_gate(void *arg)
{
    (void)arg;
    while (!gate)
        usleep(100);
    return 0;
}

static void background_work_does_not_starve_files(struct test *t)
{
    ouro_op *ops[10], *op = op_new(t);
    char buf[4];
    int fd = make_file(t, "f", "abc", 3);

    close_loop(t);
    t->config.max_blocking = 4;
    open_loop(t);
    for (int i = 0; i < 10; i++) {
        ouro_prep_work(ops[i] = op_new(t), wait_at_gate, NULL);
        ops[i]->flags = OURO_BG;
        start(t, ops[i]);
    }
    ouro_prep_read(op, fd, buf, 3, 0);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_readdir(op, made(t, open(t->dir, O_RDONLY | O_DIRECTORY)), buf, 4);
    CHECK_EQ(do_op(t, op), -EINVAL);
    gate = true;
    finish_all(t);
}

static void waitpid_gives_pid_and_status(struct test *t)
{
    ouro_op *op = op_new(t);
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(33);
    ouro_prep_waitpid(op, child, &status, 0);
    CHECK_EQ(do_op(t, op), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
    CHECK_EQ(waitpid(child, NULL, WNOHANG), -1);
    ouro_prep_waitpid(op, child, &status, 0);
    CHECK_EQ(do_op(t, op), -ECHILD);
}

static void waitpid_waits(struct test *t)
{
    ouro_op *op = op_new(t), *look = op_new(t);
    int fds[2], status = 0, unused;
    pid_t child;

    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    child = fork();
    if (child == 0) {
        char byte;

        close(fds[1]);
        _exit(read(fds[0], &byte, 1) == 0 ? 5 : 6);
    }
    ouro_prep_waitpid(op, child, &status, 0);
    start(t, op);
    ouro_prep_waitpid(look, child, &unused, WNOHANG);
    CHECK_EQ(do_op(t, look), 0);
    CHECK(!is_final(op));
    close(fds[0]);
    close(fds[1]);
    CHECK_EQ(finish(t, op), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void waitpid_of_any_child_and_without_status(struct test *t)
{
    ouro_op *op = op_new(t);
    pid_t child;

    ouro_prep_waitpid(op, -1, NULL, 0);
    CHECK_EQ(do_op(t, op), -ECHILD);
    child = fork();
    if (child == 0)
        _exit(0);
    ouro_prep_waitpid(op, -1, NULL, 0);
    CHECK_EQ(do_op(t, op), child);
    ouro_prep_waitpid(op, -1, NULL, 1 << 20);
    CHECK_EQ(do_op(t, op), -EINVAL);
}

static void waitpid_is_cancelled_and_the_child_stays_ours(struct test *t)
{
    for (int any = 0; any < 2; any++) {
        ouro_op *op = op_new(t);
        int status;
        pid_t child = fork();

        if (child == 0)
            for (;;)
                pause();
        ouro_prep_waitpid(op, any ? -1 : child, &status, 0);
        start(t, op);
        for (int i = 0; i < 3; i++)
            step(t);
        CHECK(!is_final(op));
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        CHECK_EQ(finish(t, op), -ECANCELED);
        CHECK(CFLAGS(op) & OURO_C_CANCELED);
        kill(child, SIGKILL);
        CHECK_EQ(waitpid(child, &status, 0), child);
    }
}

static const struct test_case cases[] = {
    { NAMED(work_runs_elsewhere_and_returns_what_it_likes), .fixed = FIX_FD },
    { NAMED(workers_run_at_the_same_time), .fixed = FIX_FD },
    { NAMED(workers_are_limited), .fixed = FIX_FD },
    { NAMED(background_work_does_not_starve_files), .fixed = FIX_FD, .pitfalls = "R7" },
    { NAMED(waitpid_gives_pid_and_status), .fixed = FIX_FD },
    { NAMED(waitpid_waits), .fixed = FIX_FD },
    { NAMED(waitpid_of_any_child_and_without_status), .fixed = FIX_FD },
    { NAMED(waitpid_is_cancelled_and_the_child_stays_ours), .fixed = FIX_FD },
    { .name = NULL },
};
const struct subject subject_work = { "work", cases };

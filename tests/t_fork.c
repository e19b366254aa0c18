/* SPDX-License-Identifier: MIT */
/* t_fork.c: fork and exec with a loop: the child cannot disturb the parent, and may start anew. */
#include <sys/wait.h>

#include "test.h"

static void the_child_owns_nothing(struct test *t)
{
    ouro_op *op = op_new(t), *pending = op_new(t);
    pid_t child;

    ouro_prep_nop(op);
    do_op(t, op);
    ouro_prep_timer(pending, in_ms(t, 3600000));
    start(t, pending);
    child = fork();
    if (child == 0) {
        ouro_op mine = { 0 };
        ouro_event event;

        ouro_prep_nop(&mine);
        CHECK_EQ(ouro_submit(t->loop, &mine), -EOWNERDEAD);
        CHECK_EQ(ouro_post(t->loop, &mine, NULL), -EOWNERDEAD);
        CHECK_EQ(ouro_flush(t->loop), -EOWNERDEAD);
        CHECK_EQ(ouro_run(t->loop, 0, OURO_NOWAIT), -EOWNERDEAD);
        CHECK_EQ(ouro_reap(t->loop, &event, 1), -EOWNERDEAD);
        CHECK_EQ(ouro_dispatch(t->loop, 0), -EOWNERDEAD);
        CHECK_EQ(ouro_cancel_all(t->loop), -EOWNERDEAD);
        CHECK_EQ(ouro_close(t->loop, OURO_FOREVER), 0);
        _exit(0);
    }
    expect_exit_zero(child);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(!is_final(pending));
    ouro_cancel(t->loop, pending);
    CHECK_EQ(finish(t, pending), -ECANCELED);
}

/* What the child does with its copy must not make the parent's next submission vanish. */
static void the_parents_next_operation_is_not_lost(struct test *t)
{
    ouro_op *op = op_new(t), *r = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 10; i++) {
        pid_t child;

        ouro_prep_read(r, fds[0], &byte, 1, 0);
        start(t, r);
        if (i & 1)
            step(t);
        child = fork();
        if (child == 0) {
            ouro_op mine = { 0 };

            ouro_prep_nop(&mine);
            if (ouro_submit(t->loop, &mine) != -EOWNERDEAD)
                _exit(1);
            ouro_run(t->loop, 1, OURO_NOWAIT);
            ouro_wake(t->loop);
            _exit(i & 2 ? ouro_close(t->loop, OURO_FOREVER) != 0 : 0);
        }
        expect_exit_zero(child);
        ouro_prep_nop(op);
        CHECK_EQ(do_op(t, op), 0);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK_EQ(finish(t, r), 1);
    }
}

static void the_child_starts_anew(struct test *t)
{
    ouro_op *op = op_new(t), *pending = op_new(t), *r = op_new(t);
    char byte = 0;
    int fds[2], ready[2];
    pid_t child;

    make_pipe(t, fds);
    make_pipe(t, ready);
    ouro_prep_nop(op);
    do_op(t, op);
    ouro_prep_read(pending, fds[0], &byte, 1, 0);
    start(t, pending);
    step(t);
    child = fork();
    if (child == 0) {
        char mine;

        if (ouro_fork_child(t->loop) < 0)
            _exit(1);
        ledger_forget(pending);
        if (t->style == STYLE_HOSTED) /* its descriptor is another now */
            t->style = STYLE_CALLBACK;
        CHECK_EQ(ouro_done(pending), 0);
        ouro_prep_nop(op);
        CHECK_EQ(do_op(t, op), 0);
        CHECK_EQ(write(ready[1], "r", 1), 1);
        ouro_prep_read(r, ready[0], &mine, 1, 0);
        CHECK_EQ(do_op(t, r), 1);
        ouro_prep_stat(r, OURO_HERE, "/", 0, &(struct ouro_stat){ 0 });
        CHECK_EQ(do_op(t, r), 0);
        _exit(ouro_close(t->loop, OURO_FOREVER) == 0 ? 0 : 2);
    }
    expect_exit_zero(child);
    CHECK(!is_final(pending));
    CHECK_EQ(write(fds[1], "p", 1), 1);
    CHECK_EQ(finish(t, pending), 1);
    CHECK_EQ(byte, 'p');
}

/* What has a descriptor is the child's as well; what only the parent's ring has is not. */
static void slots_with_descriptors_are_inherited(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    pid_t child;

    open_loop_wanting(t, OURO_CAP_SLOTS);
    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, 2), 0);
    for (unsigned i = 0; i < 2; i++) {
        ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0, i);
        CHECK_EQ(do_op(t, op), 0);
    }
    ouro_prep_fsync(op, 1);
    op->flags = OURO_DIRECT; /* has a descriptor from now on */
    CHECK_EQ(do_op(t, op), 0);
    child = fork();
    if (child == 0) {
        int r;

        if (ouro_fork_child(t->loop) < 0)
            _exit(1);
        if (t->style == STYLE_HOSTED) /* its descriptor is another now */
            t->style = STYLE_CALLBACK;
        ouro_prep_read(op, 1, buf, 8, 0);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 6);
        ouro_prep_read(op, 0, buf, 8, 0);
        op->flags = OURO_DIRECT;
        r = start_try(t, op);
        if (t->config.want && ouro_direct_install(t->loop, 0) < 0)
            CHECK_EQ(r < 0 ? r : finish(t, op), -EBADF);
        else
            CHECK_EQ(finish(t, op), 6);
        _exit(ouro_close(t->loop, OURO_FOREVER) == 0 ? 0 : 2);
    }
    expect_exit_zero(child);
    ouro_prep_read(op, 0, buf, 8, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 6);
}

static void exec_inherits_nothing(struct test *t)
{
    ouro_op *op = op_new(t);
    struct ouro_stat st;
    char count[16];
    pid_t child;

    /* With a worker and a pollfd, so that all its descriptors exist. */
    ouro_prep_stat(op, OURO_HERE, "/", 0, &st);
    op->flags = OURO_BG;
    CHECK_EQ(do_op(t, op), 0);
    CHECK(ouro_pollfd(t->loop) >= 0);
    snprintf(count, sizeof count, "%ld", t->fds_before);
    child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "run", "--exec-child", count, (char *)NULL);
        _exit(9);
    }
    expect_exit_zero(child);
}

static const struct test_case cases[] = {
    { NAMED(the_child_owns_nothing), .faults = "10", .fixed = FIX_FD, .pitfalls = "R3" },
    { NAMED(the_parents_next_operation_is_not_lost), .faults = "10", .pitfalls = "R2" },
    { NAMED(the_child_starts_anew), .faults = "10", .pitfalls = "R2 R3" },
    { NAMED(slots_with_descriptors_are_inherited), .fixed = FIX_FD, .no_loop = true },
    { NAMED(exec_inherits_nothing), .faults = "10", .fixed = FIX_FD, .pitfalls = "R1" },
    { .name = NULL },
};
const struct subject subject_fork = { "fork", cases };

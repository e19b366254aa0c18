/* SPDX-License-Identifier: MIT */
/* t_chains.c: operations that start when the one before has succeeded. */
#include <sys/syscall.h>

#include "test.h"

static void members_run_one_after_the_other(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char buf[8] = "";
    int fd = make_file(t, "f", NULL, 0);

    for (int i = 0; i < 50; i++) {
        char text[4] = { 'a', (char)('a' + i % 26), 'c', 0 };

        ouro_prep_write(ops[0], fd, text, 3, 0);
        ouro_prep_fsync(ops[1], fd);
        ouro_prep_read(ops[2], fd, buf, 8, 0);
        CHECK(start_chain(t, ops, 3) >= 0);
        CHECK_EQ(finish(t, ops[2]), 3);
        CHECK(memcmp(buf, text, 3) == 0);
        CHECK_EQ(finish(t, ops[0]), 3);
        CHECK_EQ(finish(t, ops[1]), 0);
        if (t->style != STYLE_WAIT)
            CHECK(ORDER(ops[0]) < ORDER(ops[1]) && ORDER(ops[1]) < ORDER(ops[2]));
    }
}

static void an_error_ends_the_rest(struct test *t)
{
    ouro_op *ops[4] = { op_new(t), op_new(t), op_new(t), op_new(t) };
    char buf[8];
    int fd = make_file(t, "f", "abc", 3);

    ouro_prep_nop(ops[0]);
    ouro_prep_open(ops[1], OURO_HERE, path_in(t, "none"), O_RDONLY, 0);
    ouro_prep_read(ops[2], fd, buf, 8, 0);
    ouro_prep_timer(ops[3], in_ms(t, 3600000));
    CHECK(start_chain(t, ops, 4) >= 0);
    finish_canceled(t, ops[3]);
    CHECK_EQ(finish(t, ops[0]), 0);
    CHECK_EQ(finish(t, ops[1]), -ENOENT);
    finish_canceled(t, ops[2]);
    if (t->style != STYLE_WAIT)
        for (int i = 0; i < 3; i++)
            CHECK(ORDER(ops[i]) < ORDER(ops[i + 1]));
}

static void a_short_read_breaks_only_an_exact_member(struct test *t)
{
    ouro_op *ops[2] = { op_new(t), op_new(t) };
    char buf[8];
    int fd = make_file(t, "f", "abc", 3);

    ouro_prep_read(ops[0], fd, buf, 8, 0);
    ouro_prep_nop(ops[1]);
    CHECK(start_chain(t, ops, 2) >= 0);
    CHECK_EQ(finish(t, ops[0]), 3);
    CHECK_EQ(finish(t, ops[1]), 0);
    ouro_prep_read(ops[0], fd, buf, 8, 100); /* end of file */
    ouro_prep_nop(ops[1]);
    CHECK(start_chain(t, ops, 2) >= 0);
    CHECK_EQ(finish(t, ops[0]), 0);
    CHECK_EQ(finish(t, ops[1]), 0);
    ouro_prep_read(ops[0], fd, buf, 8, 0);
    ops[0]->flags = OURO_EXACT;
    ouro_prep_nop(ops[1]);
    CHECK(start_chain(t, ops, 2) >= 0);
    CHECK_EQ(finish(t, ops[0]), 3);
    finish_canceled(t, ops[1]);
    ouro_prep_read(ops[0], fd, buf, 8, 100);
    ops[0]->flags = OURO_EXACT;
    ouro_prep_nop(ops[1]);
    CHECK(start_chain(t, ops, 2) >= 0);
    CHECK_EQ(finish(t, ops[0]), 0);
    finish_canceled(t, ops[1]);
}

static void a_soft_member_breaks_nothing(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char buf[8];
    int fd = make_file(t, "f", "abc", 3);

    ouro_prep_read(ops[0], fd, buf, 8, 0);
    ops[0]->flags = OURO_EXACT | OURO_SOFT;
    ouro_prep_unlink(ops[1], OURO_HERE, path_in(t, "none"), 0);
    ops[1]->flags = OURO_SOFT;
    ouro_prep_nop(ops[2]);
    CHECK(start_chain(t, ops, 3) >= 0);
    CHECK_EQ(finish(t, ops[2]), 0);
    CHECK_EQ(finish(t, ops[0]), 3);
    CHECK_EQ(finish(t, ops[1]), -ENOENT);
}

static void all_or_none_is_accepted(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char buf[8];

    ouro_prep_nop(ops[0]);
    ouro_prep_read(ops[1], 0, NULL, 8, 0);
    ouro_prep_nop(ops[2]);
    CHECK_EQ(start_chain(t, ops, 3), -EFAULT);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(ouro_done(ops[i]), 0);
    ouro_prep_read(ops[1], 9999, buf, 8, 0);
    CHECK(start_chain(t, ops, 3) >= 0);
    CHECK_EQ(finish(t, ops[0]), 0);
    CHECK_EQ(finish(t, ops[1]), -EBADF); /* its own error, not the chain's */
    finish_canceled(t, ops[2]);
    ouro_prep_nop(ops[0]);
    CHECK(start_chain(t, ops, 1) >= 0);
    CHECK_EQ(finish(t, ops[0]), 0);
}

/* A chain whose first member waits for a byte in the pipe, the others doing nothing. */
static void prep_waiting(struct test *t, ouro_op *const *ops, int count, int fds[2])
{
    static char byte;

    make_pipe(t, fds);
    ouro_prep_read(ops[0], fds[0], &byte, 1, 0);
    for (int i = 1; i < count; i++)
        ouro_prep_nop(ops[i]);
}

static void cancelling_a_member_ends_it_and_the_rest(struct test *t)
{
    ouro_op *ops[4] = { op_new(t), op_new(t), op_new(t), op_new(t) };
    int fds[2];

    prep_waiting(t, ops, 4, fds);
    CHECK(start_chain(t, ops, 4) >= 0);
    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[2])), 0);
    finish_canceled(t, ops[2]);
    finish_canceled(t, ops[3]);
    CHECK(!is_final(ops[0]) && !is_final(ops[1]));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, ops[0]), 1);
    CHECK_EQ(finish(t, ops[1]), 0);
}

static void cancelling_the_head_ends_all(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    int fds[2];

    prep_waiting(t, ops, 3, fds);
    CHECK(start_chain(t, ops, 3) >= 0);
    step(t);
    CHECK_EQ(ouro_cancel(t->loop, ops[0]), 0);
    for (int i = 0; i < 3; i++)
        finish_canceled(t, ops[i]);
}

static void deadlines_run_from_the_submit(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    int fds[2];

    prep_waiting(t, ops, 3, fds);
    ops[1]->deadline = in_ms(t, 4); /* comes before its turn does */
    CHECK(start_chain(t, ops, 3) >= 0);
    CHECK_EQ(finish(t, ops[1]), -ETIMEDOUT);
    finish_canceled(t, ops[2]);
    CHECK(!is_final(ops[0]));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, ops[0]), 1);
}

static void long_chains_are_not_split(struct test *t)
{
    enum { COUNT = 600 };
    ouro_op *ops[COUNT];
    int fd = make_file(t, "f", NULL, 0);
    static char data[COUNT], got[COUNT];

    close_loop(t);
    t->config.depth = 8;
    open_loop(t);
    for (int i = 0; i < COUNT; i++) {
        data[i] = (char)('a' + i % 26);
        ouro_prep_write(ops[i] = op_new(t), fd, &data[i], 1, i);
    }
    CHECK(start_chain(t, ops, COUNT) >= 0);
    finish_all(t);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(RES(ops[i]), 1);
        if (i && t->style != STYLE_WAIT)
            CHECK(ORDER(ops[i - 1]) < ORDER(ops[i]));
    }
    CHECK_EQ(pread(fd, got, COUNT, 0), COUNT);
    CHECK(memcmp(data, got, COUNT) == 0);
}

static void two_chains_do_not_disturb_each_other(struct test *t)
{
    ouro_op *a[3] = { op_new(t), op_new(t), op_new(t) }, *b[2] = { op_new(t), op_new(t) };
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(a[0], fds[0], &byte, 1, 0);
    ouro_prep_nop(a[1]);
    ouro_prep_nop(a[2]);
    CHECK(start_chain(t, a, 3) >= 0);
    ouro_prep_unlink(b[0], OURO_HERE, path_in(t, "none"), 0);
    ouro_prep_nop(b[1]);
    CHECK(start_chain(t, b, 2) >= 0);
    CHECK_EQ(finish(t, b[0]), -ENOENT);
    finish_canceled(t, b[1]);
    CHECK(!is_final(a[0]) && !is_final(a[1]) && !is_final(a[2]));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, a[2]), 0);
    CHECK_EQ(finish(t, a[1]), 0);
    CHECK_EQ(finish(t, a[0]), 1);
}

/* ThreadSanitizer must not know: it would call the swap of files below a race, which it is. */
static int open_unseen(const char *path)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void a_file_closed_before_its_turn_is_not_another_file(struct test *t)
{
    ouro_op *ops[2] = { op_new(t), op_new(t) };
    char byte;
    int fds[2], fd = open_unseen(path_in(t, "f")), other;

    make_pipe(t, fds);
    ouro_prep_read(ops[0], fds[0], &byte, 1, 0);
    ouro_prep_write(ops[1], fd, "wrong", 5, 0);
    CHECK(start_chain(t, ops, 2) >= 0);
    step(t);
    syscall(SYS_close, fd);
    other = open_unseen(path_in(t, "other"));
    CHECK_EQ(other, fd);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, ops[0]), 1);
    finish(t, ops[1]); /* held: 5; else its number was found to mean another file: -EBADF */
    CHECK(RES(ops[1]) == 5 || RES(ops[1]) == -EBADF);
    CHECK_EQ(lseek(other, 0, SEEK_END), 0);
    close(other);
}

static void submit_from_the_last(struct test *t, ouro_op *op)
{
    (void)op;
    ouro_op *more[2] = { op_new(t), op_new(t) };

    for (int i = 0; i < 2; i++) {
        record_of(more[i])->own_cb = true;
        ouro_prep_nop(more[i]);
    }
    CHECK(start_chain(t, more, 2) >= 0);
}

static void a_callback_starts_the_next_chain(struct test *t)
{
    ouro_op *ops[2] = { op_new(t), op_new(t) };

    for (int i = 0; i < 2; i++) {
        record_of(ops[i])->own_cb = true;
        ouro_prep_nop(ops[i]);
    }
    record_of(ops[1])->then = submit_from_the_last;
    CHECK(start_chain(t, ops, 2) >= 0);
    wait_completions(t, 4);
}

static const struct test_case cases[] = {
    { NAMED(members_run_one_after_the_other), .fixed = FIX_FD },
    { NAMED(an_error_ends_the_rest), .fixed = FIX_FD },
    { NAMED(a_short_read_breaks_only_an_exact_member), .fixed = FIX_FD, .pitfalls = "K9" },
    { NAMED(a_soft_member_breaks_nothing), .fixed = FIX_FD },
    { NAMED(all_or_none_is_accepted), .fixed = FIX_FD, .pitfalls = "K10 S4" },
    { NAMED(cancelling_a_member_ends_it_and_the_rest) },
    { NAMED(cancelling_the_head_ends_all) },
    { NAMED(deadlines_run_from_the_submit), .pitfalls = "K12" },
    { NAMED(long_chains_are_not_split), .fixed = FIX_FD, .pitfalls = "S3" },
    { NAMED(two_chains_do_not_disturb_each_other) },
    { NAMED(a_file_closed_before_its_turn_is_not_another_file), .pitfalls = "K11 F3" },
    { NAMED(a_callback_starts_the_next_chain), .fixed = FIX_STYLE | FIX_FD },
    { .name = NULL },
};
const struct subject subject_chains = { "chains", cases };

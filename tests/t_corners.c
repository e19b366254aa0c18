/* SPDX-License-Identifier: MIT */
/* t_corners.c: corners in which the library was wrong once: what was found stays found. Where a
 * behaviour has a subject of its own, that subject has the plain cases and this one the odd. */
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test.h"

static void no_longer_than(struct test *t)
{
    CHECK(ouro_now(t->loop) < t->limit);
    usleep(1000);
}

/* For tests whose mode is fixed by their nature. */
static void open_as(struct test *t, enum mode mode)
{
    t->mode = mode;
    t->config.threading = (uint32_t)mode;
    open_loop(t);
}

/* A loop of this thread's own beside the case's. */
static ouro_loop *open_other(struct test *t)
{
    ouro_config config;
    ouro_loop *loop;

    config_for(t, &config);
    config.threading = OURO_OWNED;
    config.alloc = NULL; /* the case's own is counted */
    CHECK_EQ(ouro_open(&config, &loop), 0);
    return loop;
}

/* ---- Chains -------------------------------------------------------------------------------- */

static void a_broken_chain_does_not_resume_behind_a_soft_member(struct test *t)
{
    ouro_op *ops[4] = { op_new(t), op_new(t), op_new(t), op_new(t) };

    ouro_prep_open(ops[0], OURO_HERE, path_in(t, "none"), O_RDONLY, 0);
    ouro_prep_nop(ops[1]);
    ouro_prep_mkdir(ops[2], OURO_HERE, path_in(t, "never"), 0700);
    ouro_prep_mkdir(ops[3], OURO_HERE, path_in(t, "never2"), 0700);
    ops[1]->flags = ops[2]->flags = OURO_SOFT;
    CHECK(start_chain(t, ops, 4) >= 0);
    CHECK_EQ(finish(t, ops[0]), -ENOENT);
    for (int i = 1; i < 4; i++)
        finish_canceled(t, ops[i]);
    CHECK(access(path_in(t, "never"), F_OK) != 0);
    CHECK(access(path_in(t, "never2"), F_OK) != 0);
}

static void cancelling_a_soft_member_ends_the_rest(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(ops[0], fds[0], &byte, 1, 0);
    ouro_prep_nop(ops[1]);
    ops[1]->flags = OURO_SOFT;
    ouro_prep_mkdir(ops[2], OURO_HERE, path_in(t, "never"), 0700);
    CHECK(start_chain(t, ops, 3) >= 0);
    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[1])), 0);
    finish_canceled(t, ops[1]);
    finish_canceled(t, ops[2]);
    CHECK(!is_final(ops[0]));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, ops[0]), 1);
    CHECK(access(path_in(t, "never"), F_OK) != 0);
}

static void a_timer_in_a_chain_waits_for_its_turn(struct test *t)
{
    ouro_op *ops[4] = { op_new(t), op_new(t), op_new(t), op_new(t) };
    ouro_time first = in_ms(t, 40);

    ouro_prep_timer(ops[0], first);
    ouro_prep_timer(ops[1], in_ms(t, 10)); /* past when its turn comes */
    ouro_prep_timer(ops[2], in_ms(t, 60));
    ouro_prep_nop(ops[3]);
    CHECK(start_chain(t, ops, 4) >= 0);
    CHECK_EQ(finish(t, ops[1]), 0);
    CHECK(ouro_now(t->loop) >= first);
    CHECK_EQ(CFLAGS(ops[1]) & (OURO_C_TIMEDOUT | OURO_C_CANCELED), 0);
    CHECK_EQ(finish(t, ops[0]), 0);
    CHECK_EQ(finish(t, ops[3]), 0);
    CHECK_EQ(finish(t, ops[2]), 0);
    /* Its deadline runs from the submit all the same. */
    ouro_prep_timer(ops[0], in_ms(t, 3600000));
    ouro_prep_timer(ops[1], in_ms(t, 3600000));
    ops[1]->deadline = in_ms(t, 5);
    CHECK(start_chain(t, ops, 2) >= 0);
    CHECK_EQ(finish(t, ops[1]), -ETIMEDOUT);
    CHECK(!is_final(ops[0]));
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[0])), 0);
    finish_canceled(t, ops[0]);
}

static void a_chain_opens_reads_and_closes_a_direct_slot(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char buf[8];

    make_file(t, "f", "abcd", 4);
    CHECK_EQ(ouro_direct_table(t->loop, 4), 0);
    for (int i = 0; i < 3; i++) {
        memset(buf, 0, sizeof buf);
        ouro_prep_open_direct(ops[0], OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 1);
        ouro_prep_read(ops[1], 1, buf, 8, 0);
        ouro_prep_close(ops[2], 1);
        ops[1]->flags = ops[2]->flags = OURO_DIRECT;
        CHECK_EQ(start_chain(t, ops, 3), 0);
        CHECK_EQ(finish(t, ops[0]), 0);
        CHECK_EQ(finish(t, ops[1]), 4);
        CHECK_EQ(finish(t, ops[2]), 0);
        CHECK(memcmp(buf, "abcd", 5) == 0);
    }
    /* An open that fails leaves the slot free, and the rest without effect. */
    ouro_prep_open_direct(ops[0], OURO_HERE, path_in(t, "none"), O_RDONLY, 0, 1);
    ouro_prep_read(ops[1], 1, buf, 8, 0);
    ops[1]->flags = OURO_DIRECT;
    CHECK_EQ(start_chain(t, ops, 2), 0);
    CHECK_EQ(finish(t, ops[0]), -ENOENT);
    finish_canceled(t, ops[1]);
    ouro_prep_open_direct(ops[0], OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 1);
    CHECK_EQ(do_op(t, ops[0]), 0);
}

/* ---- Time ---------------------------------------------------------------------------------- */

static void queued_operations_are_cancelled_out_of_the_middle(struct test *t)
{
    ouro_op *ops[8];

    for (int i = 0; i < 8; i++) {
        ouro_prep_nop(ops[i] = op_new(t));
        if (i == 5)
            ops[i]->deadline = in_ms(t, 3600000); /* between plain ones, one that is not */
    }
    CHECK_EQ(start_n(t, ops, 8), 8);
    if (t->mode == MODE_OWNED) /* the others have started already */
        for (int i = 7; i > 0; i -= 2)
            CHECK_EQ(ouro_cancel(t->loop, ops[i]), 0);
    for (int i = 0; i < 8; i++) {
        int64_t res = finish(t, ops[i]);
        CHECK(res == 0 || (i % 2 && res == -ECANCELED));
    }
}

static void a_timer_at_zero_is_refused(struct test *t)
{
    ouro_op *ops[2] = { op_new(t), op_new(t) };

    ouro_prep_timer(ops[0], 0);
    CHECK_EQ(start_try(t, ops[0]), -EINVAL);
    CHECK_EQ(start_post(t, ops[0]), -EINVAL);
    ouro_prep_nop(ops[1]);
    CHECK_EQ(start_chain(t, (ouro_op *[]){ ops[1], ops[0] }, 2), -EINVAL);
    ouro_prep_timer(ops[0], OURO_NOWAIT);
    CHECK_EQ(do_op(t, ops[0]), 0);
}

static void an_earlier_deadline_wins_when_both_are_past(struct test *t)
{
    ouro_op *op = op_new(t);

    for (int i = 0; i < 3; i++) {
        ouro_prep_timer(op, in_ms(t, 6));
        op->deadline = in_ms(t, 3);
        start(t, op);
        usleep(10000);
        CHECK_EQ(finish(t, op), -ETIMEDOUT);
        CHECK(CFLAGS(op) & OURO_C_TIMEDOUT);
        ouro_prep_timer(op, in_ms(t, 3));
        op->deadline = in_ms(t, 6);
        start(t, op);
        usleep(10000);
        CHECK_EQ(finish(t, op), 0);
    }
}

/* ---- Barriers ------------------------------------------------------------------------------ */

static void a_barrier_keeps_its_place(struct test *t)
{
    ouro_op *ops[5];
    char got[8];
    int fd = make_file(t, "f", NULL, 0);

    for (int i = 0; i < 5; i++)
        ops[i] = op_new(t);
    for (int round = 0; round < 20; round++) {
        CHECK_EQ(ftruncate(fd, 0), 0);
        CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
        for (int i = 0; i < 5; i++) {
            ouro_prep_write(ops[i], fd, &"ABCDE"[i], 1, OURO_CUR);
            ops[i]->flags = i == 1 || i == 3 ? OURO_BARRIER : 0;
            start(t, ops[i]);
        }
        finish_all(t);
        CHECK_EQ(pread(fd, got, 8, 0), 5);
        CHECK(memcmp(got, "ABCDE", 5) == 0);
    }
}

static void a_copy_within_one_file_may_be_a_barrier(struct test *t)
{
    ouro_op *op = op_new(t), *before = op_new(t);
    char got[5];
    int fd = make_file(t, "f", "0123456789", 10);

    ouro_prep_copy(op, fd, 0, fd, 100, 5);
    op->flags = OURO_BARRIER;
    CHECK_EQ(do_op(t, op), 5);
    ouro_prep_write(before, fd, "abcde", 5, 0);
    start(t, before);
    ouro_prep_copy(op, fd, 0, fd, 200, 5);
    op->flags = OURO_BARRIER | OURO_EXACT;
    CHECK_EQ(do_op(t, op), 5);
    CHECK_EQ(finish(t, before), 5);
    CHECK_EQ(pread(fd, got, 5, 200), 5);
    CHECK(memcmp(got, "abcde", 5) == 0);
}

static void a_barrier_in_a_chain_waits_for_none_behind_it(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    int fd = make_file(t, "f", NULL, 0);

    for (int round = 0; round < 5; round++) {
        ouro_prep_timer(ops[0], in_ms(t, round));
        for (int i = 1; i < 3; i++) {
            ouro_prep_fsync(ops[i], fd);
            ops[i]->flags = OURO_BARRIER;
        }
        CHECK_EQ(start_chain(t, ops, 2), 0);
        start(t, ops[2]);
        CHECK_EQ(finish(t, ops[0]), 0);
        CHECK_EQ(finish(t, ops[1]), 0);
        CHECK_EQ(finish(t, ops[2]), 0);
    }
    /* Both members on the file. */
    for (int i = 0; i < 3; i++) {
        ouro_prep_fsync(ops[i], fd);
        ops[i]->flags = i ? OURO_BARRIER : 0;
    }
    CHECK_EQ(start_chain(t, ops, 2), 0);
    start(t, ops[2]);
    finish_all(t);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(RES(ops[i]), 0);
}

/* ---- Numbers that stand for another file now ----------------------------------------------- */

static void replace(int fd, int by)
{
    CHECK_EQ(dup2(by, fd), fd);
    close(by);
}

static void a_stale_fact_changes_no_result(struct test *t)
{
    ouro_op *pending = op_new(t), *op = op_new(t);
    char buf[8];
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ouro_prep_read(pending, pair[0], buf, 8, OURO_CUR);
    start(t, pending);
    step(t);
    replace(pair[0], open(path_in(t, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ouro_prep_write(op, pair[0], "DATA", 4, 100);
    CHECK_EQ(do_op(t, op), 4);
    CHECK_EQ(lseek(pair[0], 0, SEEK_END), 104);
    memset(buf, 0, sizeof buf);
    ouro_prep_read(op, pair[0], buf, 4, 100);
    CHECK_EQ(do_op(t, op), 4);
    CHECK(memcmp(buf, "DATA", 4) == 0);
    /* What the one before it may do is not this test's matter. */
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(pending)), 0);
    finish(t, pending);
    close(pair[0]);
    close(pair[1]);
}

/* Opened by the library, closed by the program; the number is a socket then. */
static int reused(struct test *t, int ret_pair[2])
{
    ouro_op *op = op_new(t);
    int fd;

    ouro_prep_open(op, OURO_HERE, path_in(t, "f"), O_RDWR | O_CREAT, 0600);
    fd = (int)do_op(t, op);
    CHECK(fd >= 0);
    ouro_prep_write(op, fd, "y", 1, OURO_CUR);
    CHECK_EQ(do_op(t, op), 1);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_pair), 0);
    replace(fd, ret_pair[0]);
    ret_pair[0] = fd;
    return fd;
}

static void a_file_that_became_a_socket_raises_no_sigpipe(struct test *t)
{
    ouro_op *op = op_new(t);
    int pair[2], fd = reused(t, pair);

    close(pair[1]);
    for (int i = 0; i < 2; i++) {
        ouro_prep_write(op, fd, "zz", 2, OURO_CUR); /* SIGPIPE would end the process */
        CHECK_EQ(do_op(t, op), -EPIPE);
    }
    close(fd);
}

static void a_file_that_became_a_socket_can_be_cancelled(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int pair[2], fd = reused(t, pair);

    ouro_prep_read(op, fd, buf, 4, OURO_CUR);
    start(t, op);
    let_pass(t);
    CHECK_EQ(ouro_done(op), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
    close(fd);
    close(pair[1]);
}

/* ---- Bytes --------------------------------------------------------------------------------- */

static void many_vectors_do_not_wait_for_more(struct test *t)
{
    enum { COUNT = 1100 };
    static struct iovec iov[COUNT];
    static char bytes[COUNT];
    ouro_op *op = op_new(t);
    int fds[2], fd;

    for (int i = 0; i < COUNT; i++)
        iov[i] = (struct iovec){ &bytes[i], 1 };
    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "0123456789", 10), 10);
    ouro_prep_readv(op, fds[0], iov, COUNT, OURO_CUR, 0);
    CHECK_EQ(do_op(t, op), 10);
    CHECK(memcmp(bytes, "0123456789", 10) == 0);
    /* A full step goes on. */
    memset(bytes, 'v', COUNT);
    fd = make_file(t, "f", bytes, COUNT);
    memset(bytes, 0, COUNT);
    ouro_prep_readv(op, fd, iov, COUNT, 0, 0);
    CHECK_EQ(do_op(t, op), COUNT);
    CHECK_EQ(bytes[COUNT - 1], 'v');
}

static void wait_for_size(struct test *t, int fd, int64_t size)
{
    struct stat st;

    for (;;) {
        CHECK_EQ(fstat(fd, &st), 0);
        if (st.st_size >= size)
            return;
        step(t);
        no_longer_than(t);
    }
}

static void a_copy_from_a_pipe_can_be_cancelled(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", NULL, 0);

    make_pipe(t, fds);
    ouro_prep_copy(op, fds[0], OURO_CUR, fd, 0, 100);
    start(t, op);
    let_pass(t);
    CHECK_EQ(ouro_done(op), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
    CHECK_EQ(write(fds[1], "hello", 5), 5); /* nobody is left who would take it */
    usleep(5000);
    CHECK(readable(fds[0], 0));
}

/* As programs do between fork and exec, or when they start over. */
static void a_worker_is_interrupted_after_all_signals_were_reset(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", NULL, 0);

    make_pipe(t, fds);
    for (int round = 0; round < 2; round++) {
        ouro_prep_copy(op, fds[0], OURO_CUR, fd, 0, 100);
        start(t, op);
        let_pass(t);
        for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++)
            signal(signo, SIG_DFL);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        finish_canceled(t, op);
    }
}

/* What moved before the cancel is the result. */
static void end_in_part(struct test *t, ouro_op *op, int fd, int to)
{
    op->flags = OURO_EXACT;
    start(t, op);
    step(t);
    CHECK_EQ(write(to, "hello", 5), 5);
    wait_for_size(t, fd, 5);
    let_pass(t);
    CHECK_EQ(ouro_done(op), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    CHECK_EQ(finish(t, op), 5);
    CHECK(CFLAGS(op) & OURO_C_CANCELED);
}

static void a_cancelled_copy_tells_what_moved(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", NULL, 0);

    make_pipe(t, fds);
    ouro_prep_copy(op, fds[0], OURO_CUR, fd, 0, 100);
    end_in_part(t, op, fd, fds[1]);
}

static void a_cancelled_splice_tells_what_moved(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", NULL, 0);

    make_pipe(t, fds);
    ouro_prep_splice(op, fds[0], OURO_CUR, fd, 0, 100, 0);
    end_in_part(t, op, fd, fds[1]);
}

/* ---- Closing ------------------------------------------------------------------------------- */

static void close_can_be_called_again(struct test *t)
{
    for (int i = 0; i < 30; i++) {
        ouro_op op = { 0 };
        long fds = count_fds();
        int r;

        open_loop(t);
        ouro_prep_nop(&op);
        CHECK_EQ(ouro_do(t->loop, &op), 0);
        if (t->style == STYLE_HOSTED) {
            close_loop(t);
            continue;
        }
        while ((r = ouro_close(t->loop, OURO_NOWAIT)) == -EBUSY)
            no_longer_than(t);
        CHECK_EQ(r, 0);
        CHECK_EQ(t->allocated, 0);
        t->loop = NULL;
        CHECK_EQ(count_fds(), fds);
    }
}

struct two {
    struct test *t;
    int answer;
};

static void close_outer(ouro_op *op)
{
    struct two *two = op->user;

    two->answer = ouro_close(two->t->loop, OURO_NOWAIT);
}

static void run_inner(struct test *t, ouro_op *op)
{
    ouro_op nested = { .cb = close_outer, .user = op->user };
    ouro_loop *inner = open_other(t);

    ouro_prep_nop(&nested);
    CHECK_EQ(ouro_submit(inner, &nested), 0);
    CHECK(ouro_run(inner, 1, t->limit) >= 1);
    CHECK_EQ(ouro_close(inner, t->limit), 0);
}

static void an_outer_loop_is_not_closed_inside_its_callback(struct test *t)
{
    struct two two = { t, 1 };
    ouro_op *op = op_new(t);

    record_of(op)->own_cb = true;
    record_of(op)->then = run_inner;
    op->user = &two;
    ouro_prep_nop(op);
    start(t, op);
    finish(t, op);
    close_loop(t); /* a service's thread may still be in the callback until here */
    CHECK_EQ(two.answer, -EDEADLK);
}

static void sleep_a_while(struct test *t, ouro_op *op)
{
    (void)t;
    *(_Atomic bool *)op->user = true;
    usleep(50000);
}

static void a_service_is_closed_while_a_callback_runs(struct test *t)
{
    static _Atomic bool entered;
    ouro_op *op;

    open_as(t, MODE_SERVICE);
    op = op_new(t);
    record_of(op)->then = sleep_a_while;
    op->user = (void *)&entered;
    ouro_prep_nop(op);
    start(t, op);
    while (!entered)
        no_longer_than(t);
    close_loop(t);
}

static _Atomic int64_t nested_result;
static _Atomic bool nesting;

static void wait_inside(struct test *t, ouro_op *op)
{
    const int *fds = op->user;
    ouro_op inner = { 0 };
    char byte;

    ouro_prep_read(&inner, fds[0], &byte, 1, OURO_CUR);
    nesting = true;
    nested_result = ouro_do(t->loop, &inner);
}

static void closing_a_service_ends_what_a_callback_waits_for(struct test *t)
{
    ouro_op *op;
    int fds[2];

    open_as(t, MODE_SERVICE);
    make_pipe(t, fds);
    op = op_new(t);
    record_of(op)->then = wait_inside;
    op->user = fds;
    ouro_prep_nop(op);
    start(t, op);
    while (!nesting)
        no_longer_than(t);
    usleep(10000);
    close_loop(t);
    CHECK(nested_result == -ECANCELED || nested_result == -ESHUTDOWN);
}

/* As realloc, but what was freed faults at any touch. */
static void *guarded(void *ctx, void *old, size_t size)
{
    size_t *block = old ? (size_t *)(void *)((char *)old - 4096) : NULL, *fresh = NULL;

    (void)ctx;
    if (size) {
        fresh = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED)
            return NULL;
        fresh[0] = size;
        if (old)
            memcpy((char *)fresh + 4096, old, block[0] < size ? block[0] : size);
    }
    if (old)
        mprotect(block, block[0] + 4096, PROT_NONE);
    return fresh ? (char *)fresh + 4096 : NULL;
}

static void a_message_whose_target_closed_can_be_cancelled(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_config config;
    ouro_loop *to;

    config_for(t, &config);
    config.threading = OURO_OWNED;
    config.alloc = guarded;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(ouro_open(&config, &to), 0);
        ouro_prep_message(op, to, 42);
        start(t, op);
        CHECK_EQ(ouro_flush(t->loop), 0);
        CHECK_EQ(ouro_close(to, t->limit), 0);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        if (i & 1)
            CHECK_EQ(ouro_cancel_all(t->loop), 0);
        CHECK_EQ(finish(t, op), -EPIPE);
    }
}

/* ---- A full loop --------------------------------------------------------------------------- */

enum { FULL = 256 };

static void fill_up(struct test *t)
{
    ouro_op *more = op_new(t);

    for (int i = 0; i < FULL; i++) {
        ouro_op *op = op_new(t);

        ouro_prep_nop(op);
        start(t, op);
    }
    ouro_prep_nop(more);
    CHECK_EQ(start_try(t, more), -EAGAIN);
}

static void a_full_loop_takes_a_message_when_there_is_room(struct test *t)
{
    ouro_op message = { 0 };
    ouro_loop *from;

    t->config.max_ops = FULL;
    open_loop(t);
    fill_up(t);
    from = open_other(t);
    ouro_prep_message(&message, t->loop, 42);
    CHECK_EQ(ouro_submit(from, &message), 0);
    CHECK(ouro_run(from, 0, OURO_NOWAIT) >= 0);
    let_pass(t); /* full, and yet not running hot for ever */
    if (t->mode != MODE_SERVICE)
        CHECK(ouro_run(t->loop, OURO_ALL, t->limit) >= FULL);
    while (atomic_load(&t->word_count) == 0) {
        reap_all(t);
        step(t);
        no_longer_than(t);
    }
    CHECK_EQ(t->words[0], 42);
    CHECK_EQ(ouro_wait(from, &message, t->limit), 0);
    CHECK_EQ(message.res, 0);
    CHECK_EQ(ouro_close(from, t->limit), 0);
    finish_all(t);
}

static void a_full_loop_with_a_message_closes(struct test *t)
{
    ouro_op message = { 0 };
    ouro_loop *from;
    ouro_time limit;

    t->drops = true;
    t->config.max_ops = FULL;
    open_loop(t);
    limit = t->limit;
    fill_up(t);
    from = open_other(t);
    ouro_prep_message(&message, t->loop, 42);
    CHECK_EQ(ouro_submit(from, &message), 0);
    CHECK(ouro_run(from, 0, OURO_NOWAIT) >= 0);
    let_pass(t);
    close_loop(t);
    CHECK_EQ(ouro_wait(from, &message, limit), 0);
    CHECK(message.res == -EPIPE || message.res == 0);
    CHECK_EQ(ouro_close(from, limit), 0);
}

struct poster {
    struct test *t;
    ouro_op *op;
    int r;
};

static void *post_then_cancel_all(void *arg)
{
    struct poster *poster = arg;

    ouro_prep_nop(poster->op);
    poster->r = start_post(poster->t, poster->op);
    CHECK_EQ(ouro_cancel_all(poster->t->loop), 0);
    return NULL;
}

static void cancel_all_works_while_posts_do_not_fit(struct test *t)
{
    struct poster poster = { .t = t };
    ouro_op *ops[4];
    pthread_t thread;
    char bytes[4];
    int fds[2];

    t->config.max_ops = 4;
    open_loop(t);
    make_pipe(t, fds);
    for (int i = 0; i < 4; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, OURO_CUR);
        start(t, ops[i]);
    }
    step(t);
    poster.op = op_new(t);
    CHECK_EQ(pthread_create(&thread, NULL, post_then_cancel_all, &poster), 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 4; i++)
        finish_canceled(t, ops[i]);
    CHECK(poster.r == 0 || poster.r == -EAGAIN); /* a locked loop takes it at once, or not */
    if (poster.r == 0)
        CHECK(finish(t, poster.op) == 0 || RES(poster.op) == -ECANCELED);
}

static _Atomic bool rounds_done;

static void *post_and_cancel_many(void *arg)
{
    struct poster *poster = arg;
    struct test *t = poster->t;

    for (int i = 0; i < 1500; i++) {
        ouro_prep_timer(poster->op, in_ms(t, 3600000));
        CHECK_EQ(start_post(t, poster->op), 0);
        CHECK_EQ(ouro_cancel_all(t->loop), 0);
        while (!is_final(poster->op))
            CHECK(ouro_now(t->loop) < t->limit);
        CHECK_EQ(RES(poster->op), -ECANCELED);
    }
    rounds_done = true;
    ouro_wake(t->loop);
    return NULL;
}

static void cancel_all_reaches_a_post_before_it(struct test *t)
{
    struct poster poster = { .t = t, .op = op_new(t) };
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, post_and_cancel_many, &poster), 0);
    while (!rounds_done)
        if (t->mode == MODE_SERVICE)
            usleep(1000);
        else
            CHECK(ouro_run(t->loop, 1, in_ms(t, 20)) >= 0);
    pthread_join(thread, NULL);
}

/* ---- Threads ------------------------------------------------------------------------------- */

struct leaving {
    struct test *t;
    ouro_op *ops[3];
    int fds[2], pid, status;
    char byte;
};

static void *submit_and_leave(void *arg)
{
    struct leaving *leaving = arg;

    ouro_prep_waitpid(leaving->ops[0], leaving->pid, &leaving->status, 0);
    ouro_prep_poll(leaving->ops[1], leaving->fds[0], POLLIN);
    ouro_prep_read(leaving->ops[2], leaving->fds[0], &leaving->byte, 1, 0);
    for (int i = 0; i < 3; i++)
        start(leaving->t, leaving->ops[i]);
    CHECK_EQ(ouro_flush(leaving->t->loop), 0);
    return NULL;
}

static void operations_outlive_the_thread_that_submitted_them(struct test *t)
{
    struct leaving leaving = { .t = t, .ops = { op_new(t), op_new(t), op_new(t) } };
    pthread_t thread;
    char byte;
    int go[2];

    make_pipe(t, leaving.fds);
    make_pipe(t, go);
    leaving.pid = fork();
    if (leaving.pid == 0) {
        while (read(go[0], &byte, 1) != 1)
            usleep(1000);
        _exit(7);
    }
    CHECK_EQ(pthread_create(&thread, NULL, submit_and_leave, &leaving), 0);
    pthread_join(thread, NULL);
    let_pass(t);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(ouro_done(leaving.ops[i]), 0);
    CHECK_EQ(write(go[1], "g", 1), 1);
    CHECK_EQ(finish(t, leaving.ops[0]), leaving.pid);
    CHECK(WIFEXITED(leaving.status) && WEXITSTATUS(leaving.status) == 7);
    CHECK_EQ(write(leaving.fds[1], "xx", 2), 2);
    CHECK_EQ(finish(t, leaving.ops[1]), POLLIN);
    CHECK_EQ(finish(t, leaving.ops[2]), 1);
}

static void run_all_waits_for_a_services_callbacks(struct test *t)
{
    ouro_op *op;
    ouro_time start_at, end;

    open_as(t, MODE_SERVICE);
    op = op_new(t);
    for (int i = 0; i < 3; i++) {
        start_at = ouro_now(t->loop);
        end = in_ms(t, 20);
        ouro_prep_timer(op, end);
        start(t, op);
        CHECK(ouro_run(t->loop, OURO_ALL, t->limit) >= 0);
        CHECK(ouro_now(t->loop) >= end);
        CHECK(ouro_now(t->loop) - start_at < (t->limit - start_at) / 2);
        finish(t, op);
    }
}

static void *finish_in_thread(void *arg)
{
    struct poster *poster = arg;

    poster->r = (int)finish(poster->t, poster->op);
    return NULL;
}

static void a_cancel_wakes_who_waits_for_it(struct test *t)
{
    struct poster poster = { .t = t, .op = op_new(t) };
    pthread_t thread;

    for (int i = 0; i < 5; i++) {
        ouro_prep_timer(poster.op, in_ms(t, 3600000));
        start(t, poster.op);
        CHECK_EQ(pthread_create(&thread, NULL, finish_in_thread, &poster), 0);
        usleep(10000);
        CHECK_EQ(ouro_cancel(t->loop, poster.op), 0);
        pthread_join(thread, NULL);
        CHECK_EQ(poster.r, -ECANCELED);
    }
}

static void *run_in_thread(void *arg)
{
    struct poster *poster = arg;

    poster->r = ouro_run(poster->t->loop, 1, poster->t->limit);
    return NULL;
}

static void what_ends_at_its_submit_wakes_who_runs(struct test *t)
{
    struct poster poster = { .t = t, .op = op_new(t) };
    pthread_t thread;
    char buf[8];
    int fd = make_file(t, "f", "abc", 3);

    for (int i = 0; i < 5; i++) {
        CHECK_EQ(pread(fd, buf, 8, 0), 3);
        CHECK_EQ(pthread_create(&thread, NULL, run_in_thread, &poster), 0);
        usleep(10000);
        ouro_prep_read(poster.op, fd, buf, 8, 0);
        start(t, poster.op);
        pthread_join(thread, NULL);
        CHECK_EQ(poster.r, 1);
        CHECK_EQ(reap_all(t), 1);
        CHECK_EQ(RES(poster.op), 3);
    }
}

/* A host that sleeps by descriptor and time alone finds what was over with its submit. */
static void what_ends_at_its_submit_is_told_to_the_host(struct test *t)
{
    ouro_op *op = op_new(t);
    struct pollfd host = { .fd = ouro_pollfd(t->loop), .events = POLLIN };
    int fd, memory = made(t, memfd_create("m", MFD_CLOEXEC));
    char path[32], byte = 0;

    CHECK(host.fd >= 0);
    CHECK_EQ(write(memory, "a", 1), 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0);
    CHECK((fd = (int)do_op(t, op)) >= 0);
    for (int i = 0; i < 3; i++) {
        ouro_prep_read(op, fd, &byte, 1, 0);
        start(t, op);
        for (int turns = 0; !is_final(op); turns++) {
            CHECK(turns < 100);
            CHECK(poll(&host, 1, ouro_timeout_ms(t->loop)) >= 0);
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
            reap_all(t);
        }
        CHECK_EQ(RES(op), 1);
        CHECK_EQ(byte, 'a');
    }
    ouro_prep_close(op, fd);
    CHECK_EQ(do_op(t, op), 0);
}

/* ---- Notification -------------------------------------------------------------------------- */

static void empty(int fd)
{
    uint64_t value;

    while (read(fd, &value, 8) == 8)
        ;
}

static void a_later_submit_is_notified(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_EVENTFD, .fd = fd });
    usleep(5000);
    empty(fd);
    ouro_prep_timer(op, in_ms(t, 20));
    start(t, op);
    CHECK_EQ(ouro_flush(t->loop), 0);
    for (int i = 0; !ouro_done(op); i++) {
        CHECK(readable(fd, 5000));
        empty(fd);
        if (t->mode != MODE_SERVICE)
            CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
        CHECK(i < 10);
    }
    CHECK_EQ(reap_all(t), 1);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    close(fd);
}

static void what_a_reap_leaves_is_notified_again(struct test *t)
{
    ouro_op *ops[3];
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    open_as(t, MODE_SERVICE);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_EVENTFD, .fd = fd });
    for (int i = 0; i < 3; i++) {
        ouro_prep_timer(ops[i] = op_new(t), in_ms(t, i < 2 ? 5 : 60));
        start(t, ops[i]);
    }
    while (!ouro_done(ops[0]) || !ouro_done(ops[1]))
        no_longer_than(t);
    for (int i = 0; i < 3; i++) {
        ouro_event event;

        CHECK(readable(fd, 5000));
        empty(fd);
        CHECK_EQ(ouro_reap(t->loop, &event, 1), 1);
        ledger_event(t, &event);
    }
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    close(fd);
}

static _Atomic int notified, own_answer;

/* Until fn was called because the operation, a timer, has ended. */
static void await_call(struct test *t, void (*fn)(void *), ouro_op *op)
{
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_THREAD, .fn = fn, .value = t });
    ouro_prep_timer(op, in_ms(t, 2));
    start(t, op);
    CHECK_EQ(ouro_flush(t->loop), 0);
    while (!notified)
        no_longer_than(t);
}

static void reap_slowly(void *value)
{
    struct test *t = value;

    notified++;
    usleep(30000);
    reap_all(t);
}

static void a_notification_ends_while_its_call_uses_the_loop(struct test *t)
{
    ouro_op *op = op_new(t);

    await_call(t, reap_slowly, op);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    finish(t, op);
}

static void end_itself(void *value)
{
    struct test *t = value;

    own_answer = set_notify_try(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    notified++;
}

static void a_notification_does_not_end_its_own_thread(struct test *t)
{
    ouro_op *op = op_new(t);

    await_call(t, end_itself, op);
    CHECK_EQ(own_answer, -EDEADLK);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    finish(t, op);
}

/* ---- Fork and loss ------------------------------------------------------------------------- */

static unsigned raw_calls;

static void count_raw(ouro_op *op)
{
    (void)op;
    raw_calls++;
}

static void use_in_child(struct test *t, ouro_op *op)
{
    CHECK_EQ(ouro_fork_child(t->loop), 0);
    CHECK_EQ(ouro_done(op), 0);
    ouro_prep_nop(op);
    CHECK_EQ(ouro_submit(t->loop, op), 0);
    CHECK(ouro_run(t->loop, OURO_ALL, t->limit) >= 0);
    CHECK_EQ(raw_calls, 2);
    CHECK_EQ(ouro_done(op), 1);
    _exit(ouro_close(t->loop, t->limit) == 0 ? 0 : 2);
}

static void undelivered_callbacks_are_idle_in_the_child(struct test *t)
{
    static ouro_op ops[2];
    int status;
    pid_t child;

    for (int i = 0; i < 2; i++) {
        ops[i].cb = count_raw;
        ouro_prep_nop(&ops[i]);
        CHECK_EQ(ouro_submit(t->loop, &ops[i]), 0);
    }
    while (!raw_calls) {
        CHECK(ouro_dispatch(t->loop, 1) >= 0);
        CHECK(ouro_now(t->loop) < t->limit);
    }
    CHECK_EQ(raw_calls, 1);
    child = fork();
    if (child == 0)
        use_in_child(t, &ops[1]);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(ouro_run(t->loop, OURO_ALL, t->limit) >= 0);
    CHECK_EQ(raw_calls, 2);
}

static int expect_only(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    (void)where;
    (void)since;
    CHECK(op == user);
    return 0;
}

/* A copy of the ring in a child keeps it alive: the kernel may still write to the buffer. */
static void a_lost_ring_gives_no_buffer_back_while_it_lives(struct test *t)
{
    ouro_op *lost = op_new(t), *op = op_new(t);
    static char byte;
    int fds[2];
    pid_t child;

    t->config.engine = NULL;
    open_loop(t);
    make_pipe(t, fds);
    ouro_prep_read(lost, fds[0], &byte, 1, OURO_CUR);
    start(t, lost);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    block_io_uring(BLOCK_ENTER | BLOCK_REGISTER, EPERM);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    let_pass(t);
    CHECK_EQ(ouro_done(lost), 0);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    let_pass(t);
    CHECK_EQ(ouro_done(lost), 0);
    CHECK_EQ(ouro_each_inflight(t->loop, expect_only, lost), 0);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    finish(t, lost);
    CHECK(CFLAGS(lost) & OURO_C_LOST ? RES(lost) == -EIO : RES(lost) == -ECANCELED);
    byte = 'k';
    CHECK_EQ(write(fds[1], "x", 1), 1);
    usleep(5000);
    CHECK_EQ(byte, 'k');
}

static void a_loss_needs_none_of_the_wanted_capabilities(struct test *t)
{
    ouro_op *op = op_new(t);

    t->config.engine = NULL;
    t->config.want = OURO_CAP_FIXED;
    open_loop(t);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    block_io_uring(BLOCK_ALL, EPERM);
    for (int i = 0; i < 3; i++) {
        ouro_prep_nop(op);
        CHECK_EQ(do_op(t, op), 0);
    }
    CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(1)) == 0);
}

#define PLAIN .fixed = FIX_FD
#define CALLBACKS .fixed = FIX_STYLE | FIX_FD
#define EVENTS .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP
#define SERVICE(kind) .fixed = FIX_MODE | FIX_STYLE | FIX_FD, .style = kind, .no_loop = true
static const struct test_case cases[] = {
    { NAMED(a_broken_chain_does_not_resume_behind_a_soft_member), PLAIN },
    { NAMED(cancelling_a_soft_member_ends_the_rest), PLAIN },
    { NAMED(a_timer_in_a_chain_waits_for_its_turn), PLAIN },
    { NAMED(a_chain_opens_reads_and_closes_a_direct_slot), PLAIN },
    { NAMED(queued_operations_are_cancelled_out_of_the_middle), PLAIN },
    { NAMED(a_timer_at_zero_is_refused), PLAIN },
    { NAMED(an_earlier_deadline_wins_when_both_are_past), PLAIN },
    { NAMED(a_barrier_keeps_its_place), PLAIN },
    { NAMED(a_copy_within_one_file_may_be_a_barrier), PLAIN },
    { NAMED(a_barrier_in_a_chain_waits_for_none_behind_it), PLAIN },
    { NAMED(a_stale_fact_changes_no_result), PLAIN },
    { NAMED(a_file_that_became_a_socket_raises_no_sigpipe), PLAIN },
    { NAMED(a_file_that_became_a_socket_can_be_cancelled), PLAIN },
    { NAMED(many_vectors_do_not_wait_for_more) },
    { NAMED(a_worker_is_interrupted_after_all_signals_were_reset), PLAIN },
    { NAMED(a_copy_from_a_pipe_can_be_cancelled) },
    { NAMED(a_cancelled_copy_tells_what_moved) },
    { NAMED(a_cancelled_splice_tells_what_moved) },
    { NAMED(close_can_be_called_again), PLAIN, .no_loop = true },
    { NAMED(an_outer_loop_is_not_closed_inside_its_callback), CALLBACKS },
    { NAMED(a_service_is_closed_while_a_callback_runs), SERVICE(STYLE_CALLBACK) },
    { NAMED(closing_a_service_ends_what_a_callback_waits_for), SERVICE(STYLE_CALLBACK) },
    { NAMED(a_message_whose_target_closed_can_be_cancelled), PLAIN },
    { NAMED(a_full_loop_takes_a_message_when_there_is_room), EVENTS, .no_loop = true },
    { NAMED(a_full_loop_with_a_message_closes), EVENTS, .no_loop = true },
    { NAMED(cancel_all_works_while_posts_do_not_fit), CALLBACKS, .no_loop = true },
    { NAMED(cancel_all_reaches_a_post_before_it), CALLBACKS, .seconds = 20 },
    { NAMED(operations_outlive_the_thread_that_submitted_them), PLAIN, .needs = NEED_THREADS },
    { NAMED(run_all_waits_for_a_services_callbacks), SERVICE(STYLE_CALLBACK) },
    { NAMED(a_cancel_wakes_who_waits_for_it), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_WAIT,
      .needs = NEED_THREADS },
    { NAMED(what_ends_at_its_submit_wakes_who_runs), EVENTS, .needs = NEED_THREADS },
    { NAMED(what_ends_at_its_submit_is_told_to_the_host), EVENTS, .needs = NEED_DRIVER },
    { NAMED(a_later_submit_is_notified), EVENTS },
    { NAMED(what_a_reap_leaves_is_notified_again), SERVICE(STYLE_REAP) },
    { NAMED(a_notification_ends_while_its_call_uses_the_loop), EVENTS, .needs = NEED_THREADS },
    { NAMED(a_notification_does_not_end_its_own_thread), EVENTS, .needs = NEED_THREADS },
    { NAMED(undelivered_callbacks_are_idle_in_the_child), CALLBACKS, .needs = NEED_DRIVER },
    { NAMED(a_lost_ring_gives_no_buffer_back_while_it_lives), PLAIN, .no_loop = true,
      .needs = NEED_URING },
    { NAMED(a_loss_needs_none_of_the_wanted_capabilities), .fixed = FIX_FD | FIX_MASK,
      .no_loop = true, .needs = NEED_URING },
    { .name = NULL },
};
const struct subject subject_corners = { "corners", cases };

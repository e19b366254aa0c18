/* SPDX-License-Identifier: MIT */
/* t_basics.c: accepting, refusing and completing operations; what a loop tells about itself. */
#include <sys/wait.h>

#include "test.h"

static void nop_completes_with_zero(struct test *t)
{
    ouro_op *op = op_new(t);

    for (int i = 0; i < 3; i++) {
        ouro_prep_nop(op);
        CHECK_EQ(do_op(t, op), 0);
        CHECK(ouro_done(op));
    }
}

static void every_operation_of_a_batch_completes(struct test *t)
{
    ouro_op *ops[1000];

    for (unsigned i = 0; i < 1000; i++)
        ouro_prep_nop(ops[i] = op_new(t));
    CHECK_EQ(start_n(t, ops, 1000), 1000);
    finish_all(t);
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQ(RES(ops[i]), 0);
}

/* More than the engine's depth, of which a quarter stays pending: none is lost or refused. */
static void more_than_the_depth_is_neither_lost_nor_refused(struct test *t)
{
    ouro_op *ops[400], *reads[100];
    char bytes[100] = { 0 };
    int fds[2];

    close_loop(t);
    t->config.depth = 8;
    open_loop(t);
    make_pipe(t, fds);
    for (unsigned i = 0; i < 100; i++) {
        ouro_prep_read(reads[i] = op_new(t), fds[0], &bytes[i], 1, 0);
        start(t, reads[i]);
        for (unsigned k = 0; k < 4; k++) {
            ouro_prep_nop(ops[i * 4 + k] = op_new(t));
            start(t, ops[i * 4 + k]);
        }
    }
    for (unsigned i = 0; i < 400; i++)
        CHECK_EQ(finish(t, ops[i]), 0);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(write(fds[1], "x", 1), 1);
    finish_all(t);
    for (unsigned i = 0; i < 100; i++)
        CHECK(RES(reads[i]) == 1 && bytes[i] == 'x');
}

static void prep_leaves_callback_and_user_alone(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;

    op->user = t;
    op->flags = 77;
    op->deadline = 5;
    op->cb = (ouro_cb *)nop_completes_with_zero;
    ouro_prep_read(op, 0, &byte, 1, 0);
    CHECK(op->user == t && op->cb == (ouro_cb *)nop_completes_with_zero);
    CHECK(op->flags == 0 && op->deadline == 0 && op->res == 0 && op->cflags == 0);
}

/* ---- Refusals ------------------------------------------------------------------------------ */

static int64_t some_work(void *arg)
{
    (void)arg;
    return 0;
}

static void refuse(struct test *t, ouro_op *op, int error, int line)
{
    ouro_counters before, after;
    int r;

    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof before), 0);
    r = start_try(t, op);
    if (r != -error)
        FAIL("line %d: %s: refused with %d, %d is due", line, ouro_code_name(op->code), -r, error);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof after), 0);
    CHECK_EQ(before.submitted, after.submitted);
    /* Still the caller's: prepared anew, it works. */
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
}
#define REFUSED(error, prepare)         \
    do {                                \
        prepare;                        \
        refuse(t, op, error, __LINE__); \
    } while (0)

static void bad_descriptors_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    struct ouro_stat st;
    struct iovec iov = { &st, 1 };
    char buf[8];

    REFUSED(EBADF, ouro_prep_read(op, -1, buf, 1, 0));
    REFUSED(EBADF, ouro_prep_write(op, -7, buf, 1, 0));
    REFUSED(EBADF, ouro_prep_readv(op, -1, &iov, 1, 0, 0));
    REFUSED(EBADF, ouro_prep_writev(op, -1, &iov, 1, 0, 0));
    REFUSED(EBADF, ouro_prep_fsync(op, -1));
    REFUSED(EBADF, ouro_prep_fdatasync(op, -1));
    REFUSED(EBADF, ouro_prep_open(op, -1, "x", O_RDONLY, 0));
    REFUSED(EBADF, ouro_prep_close(op, -1));
    REFUSED(EBADF, ouro_prep_stat(op, -2, "x", 0, &st));
    REFUSED(EBADF, ouro_prep_rename(op, -1, "x", OURO_HERE, "y", 0));
    REFUSED(EBADF, ouro_prep_rename(op, OURO_HERE, "x", -1, "y", 0));
    REFUSED(EBADF, ouro_prep_unlink(op, -1, "x", 0));
    REFUSED(EBADF, ouro_prep_mkdir(op, -1, "x", 0));
    REFUSED(EBADF, ouro_prep_symlink(op, "x", -1, "y"));
    REFUSED(EBADF, ouro_prep_link(op, OURO_HERE, "x", -1, "y", 0));
    REFUSED(EBADF, ouro_prep_fallocate(op, -1, 0, 0, 1));
    REFUSED(EBADF, ouro_prep_ftruncate(op, -1, 0));
    REFUSED(EBADF, ouro_prep_fadvise(op, -1, 0, 0, 0));
    REFUSED(EBADF, ouro_prep_readdir(op, -1, buf, 8));
    REFUSED(EBADF, ouro_prep_copy(op, 0, 0, -1, 0, 1));
    REFUSED(EBADF, ouro_prep_splice(op, -1, OURO_CUR, 0, OURO_CUR, 1, 0));
    REFUSED(EBADF, ouro_prep_poll(op, -1, 1));
}

static void missing_pointers_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);

    REFUSED(EFAULT, ouro_prep_read(op, 0, NULL, 1, 0));
    REFUSED(EFAULT, ouro_prep_write(op, 0, NULL, 1, 0));
    REFUSED(EFAULT, ouro_prep_readv(op, 0, NULL, 1, 0, 0));
    REFUSED(EFAULT, ouro_prep_open(op, OURO_HERE, NULL, 0, 0));
    REFUSED(EFAULT, ouro_prep_stat(op, OURO_HERE, NULL, 0, NULL));
    REFUSED(EFAULT, ouro_prep_stat(op, OURO_HERE, "x", 0, NULL));
    REFUSED(EFAULT, ouro_prep_rename(op, OURO_HERE, "x", OURO_HERE, NULL, 0));
    REFUSED(EFAULT, ouro_prep_unlink(op, OURO_HERE, NULL, 0));
    REFUSED(EFAULT, ouro_prep_mkdir(op, OURO_HERE, NULL, 0));
    REFUSED(EFAULT, ouro_prep_symlink(op, NULL, OURO_HERE, "x"));
    REFUSED(EFAULT, ouro_prep_link(op, OURO_HERE, NULL, OURO_HERE, "x", 0));
    REFUSED(EFAULT, ouro_prep_readdir(op, 0, NULL, 8));
    REFUSED(EFAULT, ouro_prep_work(op, NULL, NULL));
    REFUSED(EFAULT, ouro_prep_message(op, NULL, 0));
}

static void bad_values_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];

    REFUSED(EINVAL, ouro_prep_read(op, 0, buf, 1, -5));
    REFUSED(EINVAL, ouro_prep_write(op, 0, buf, 1, INT64_MIN));
    REFUSED(EINVAL, (ouro_prep_nop(op), op->code = OURO_CODE_COUNT));
    REFUSED(EINVAL, ouro_prep_timer(op, 0));
}

static void unknown_and_useless_flags_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];

    REFUSED(EINVAL, (ouro_prep_nop(op), op->flags = 1u << 30));
    REFUSED(EINVAL, (ouro_prep_read(op, 0, buf, 1, 0), op->flags = 1u << 25));
    REFUSED(EINVAL, (ouro_prep_nop(op), op->flags = OURO_EXACT));
    REFUSED(EINVAL, (ouro_prep_fsync(op, 0), op->flags = OURO_SERIAL));
    REFUSED(EINVAL, (ouro_prep_work(op, some_work, NULL), op->flags = OURO_FDMODE));
    REFUSED(EINVAL, (ouro_prep_nop(op), op->flags = OURO_DIRECT));
    REFUSED(EINVAL, (ouro_prep_timer(op, 5), op->flags = OURO_REGBUF));
    REFUSED(EINVAL, (ouro_prep_timer(op, 5), op->flags = OURO_BARRIER));
}

static void a_second_submit_in_flight_is_busy(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    CHECK_EQ(start_try(t, op), -EBUSY);
    step(t);
    CHECK_EQ(start_try(t, op), -EBUSY);
    CHECK_EQ(write(fds[1], "a", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(byte, 'a');
}

static void a_batch_is_accepted_up_to_the_first_bad_one(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char byte;

    ouro_prep_nop(ops[0]);
    ouro_prep_read(ops[1], -1, &byte, 1, 0);
    ouro_prep_nop(ops[2]);
    CHECK_EQ(start_n(t, ops, 3), 1);
    CHECK_EQ(finish(t, ops[0]), 0);
    CHECK(!ouro_done(ops[2]));
    CHECK_EQ(start_n(t, ops + 1, 2), -EBADF);
    CHECK_EQ(start_n(t, ops + 2, 1), 1);
    CHECK_EQ(finish(t, ops[2]), 0);
    CHECK_EQ(start_n(t, ops, 0), 0);
}

static void the_limit_of_operations_is_eagain(struct test *t)
{
    ouro_op *reads[4], *more = op_new(t);
    char bytes[4];
    int fds[2];

    close_loop(t);
    t->config.max_ops = 4;
    open_loop(t);
    make_pipe(t, fds);
    for (int i = 0; i < 4; i++) {
        ouro_prep_read(reads[i] = op_new(t), fds[0], &bytes[i], 1, 0);
        start(t, reads[i]);
    }
    ouro_prep_nop(more);
    CHECK_EQ(start_try(t, more), -EAGAIN);
    CHECK_EQ(write(fds[1], "abcd", 4), 4);
    finish_all(t);
    CHECK_EQ(do_op(t, more), 0);
}

static void uncollected_events_count_for_the_limit(struct test *t)
{
    ouro_op *ops[3];

    close_loop(t);
    t->config.max_ops = 2;
    open_loop(t);
    for (int i = 0; i < 3; i++)
        ouro_prep_nop(ops[i] = op_new(t));
    CHECK_EQ(start_n(t, ops, 2), 2);
    while (!ouro_done(ops[0]) || !ouro_done(ops[1]))
        CHECK(ouro_run(t->loop, 2, t->limit) >= 0);
    CHECK_EQ(start_try(t, ops[2]), -EAGAIN);
    CHECK_EQ(reap_all(t), 2);
    CHECK_EQ(do_op(t, ops[2]), 0);
}

/* ---- Completing ---------------------------------------------------------------------------- */

static void ids_are_never_reused(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_id ids[200];

    CHECK_EQ(ouro_op_id(op), 0);
    for (int i = 0; i < 200; i++) {
        ouro_prep_nop(op);
        start(t, op);
        if (t->mode != MODE_SERVICE)
            ids[i] = ouro_op_id(op);
        finish(t, op);
        ids[i] = ouro_op_id(op);
        CHECK(ids[i] != 0);
        for (int k = 0; k < i; k++)
            CHECK(ids[i] != ids[k]);
    }
}

static void quiet_success_is_not_reported(struct test *t)
{
    ouro_op *quiet = op_new(t), *loud = op_new(t);

    ouro_prep_nop(quiet);
    quiet->flags = OURO_QUIET;
    CHECK_EQ(start_try(t, quiet), 0);
    while (!ouro_done(quiet)) {
        ouro_prep_nop(loud);
        CHECK_EQ(do_op(t, loud), 0);
    }
    CHECK_EQ(quiet->res, 0);
    ouro_prep_nop(loud);
    CHECK_EQ(do_op(t, loud), 0);
    CHECK_EQ(record_of(quiet)->completed, 0);
    ledger_quiet(quiet);
}

struct listing {
    unsigned count, reads, timers;
    const char *where_timer;
};

static int list_one(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    struct listing *listing = user;

    CHECK(since != 0);
    CHECK(where != NULL);
    listing->count++;
    if (op->code == OURO_READ)
        listing->reads++;
    if (op->code == OURO_TIMER) {
        listing->timers++;
        listing->where_timer = where;
    }
    return 0;
}

static int stop_at_once(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    (void)op;
    (void)where;
    (void)since;
    ++*(int *)user;
    return 7;
}

/* Flags, deadline and arguments are as they were. */
static void what_was_prepared_may_be_submitted_again(struct test *t)
{
    ouro_op *read = op_new(t), *nop = op_new(t), *open = op_new(t);
    int fd = make_file(t, "f", "abc", 3);
    char bytes[8];

    ouro_prep_nop(nop);
    nop->deadline = in_ms(t, 3600000);
    ouro_prep_read(read, fd, bytes, 2, 1);
    read->flags = OURO_EXACT;
    ouro_prep_open(open, OURO_HERE, path_in(t, "none"), O_RDONLY, 0);
    for (int i = 0; i < 5; i++) {
        memset(bytes, 0, sizeof(bytes));
        CHECK_EQ(do_op(t, read), 2);
        CHECK(!strcmp(bytes, "bc"));
        CHECK_EQ(do_op(t, nop), 0);
        CHECK_EQ(do_op(t, open), -ENOENT);
        CHECK(read->flags == OURO_EXACT && nop->deadline != 0);
    }
}

/* Nops need so little that they go a short way; whatever else happens to them must find them. */
static void nops_are_listed_canceled_and_counted_like_others(struct test *t)
{
    enum { COUNT = 300 };
    ouro_op *ops[COUNT];
    struct listing listing = { 0 };
    ouro_counters before, after;

    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof(before)), 0);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_nop(ops[i] = op_new(t));
        ops[i]->flags = i % 5 == 4 ? OURO_SOFT : 0;
    }
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    CHECK_EQ(ouro_each_inflight(t->loop, list_one, &listing), 0);
    if (t->mode == MODE_OWNED)
        CHECK_EQ(listing.count, COUNT);
    for (int i = 0; i < COUNT; i += 3)
        ouro_cancel(t->loop, ops[i]);
    for (int i = 1; i < COUNT; i += 3)
        ouro_cancel_id(t->loop, ouro_op_id(ops[i]));
    finish_all(t);
    for (int i = 0; i < COUNT; i++)
        CHECK(RES(ops[i]) == 0 || (i % 3 != 2 && RES(ops[i]) == -ECANCELED));
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof(after)), 0);
    CHECK_EQ(after.completed - before.completed, COUNT);
    CHECK_EQ(after.in_flight, 0);
}

static int began_before(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    const ouro_time *latest = user;

    (void)where;
    return op->code == OURO_READ && since > *latest;
}

/* The first read finds that a try is no gain, so that the second goes to the engine at once. */
static void what_waits_for_long_is_listed_with_its_time(struct test *t)
{
    ouro_op *first = op_new(t), *second = op_new(t), *timer = op_new(t);
    int a[2], b[2];
    char bytes[2];
    ouro_time latest;

    make_socketpair(t, a);
    make_socketpair(t, b);
    ouro_prep_read(first, a[0], bytes, 1, 0);
    start(t, first);
    step(t);
    ouro_prep_read(second, b[0], bytes + 1, 1, 0);
    start(t, second);
    latest = ouro_now(t->loop);
    ouro_prep_timer(timer, in_ms(t, 20));
    CHECK_EQ(do_op(t, timer), 0);
    CHECK_EQ(ouro_each_inflight(t->loop, began_before, &latest), 0);
    CHECK(write(a[1], "a", 1) == 1 && write(b[1], "b", 1) == 1);
    CHECK_EQ(finish(t, first), 1);
    CHECK_EQ(finish(t, second), 1);
    CHECK(bytes[0] == 'a' && bytes[1] == 'b');
}

/* So do opens, reads and closes that ask for nothing special. */
static void usual_operations_are_listed_canceled_and_counted_like_others(struct test *t)
{
    enum { COUNT = 60 };
    ouro_op *opens[COUNT], *others[2 * COUNT];
    char bytes[COUNT];
    ouro_counters before, after;
    unsigned count = 0, done = 0;

    (void)make_file(t, "usual", "abc", 3);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof(before)), 0);
    for (int i = 0; i < COUNT; i++)
        ouro_prep_open(opens[i] = op_new(t), OURO_HERE, path_in(t, "usual"), O_RDONLY, 0);
    CHECK_EQ(start_n(t, opens, COUNT), COUNT);
    for (int i = 0; i < COUNT; i += 3)
        ouro_cancel(t->loop, opens[i]);
    for (int i = 1; i < COUNT; i += 3)
        ouro_cancel_id(t->loop, ouro_op_id(opens[i]));
    finish_all(t);
    for (int i = 0; i < COUNT; i++) {
        CHECK(RES(opens[i]) >= 0 || (i % 3 != 2 && RES(opens[i]) == -ECANCELED));
        if (RES(opens[i]) < 0)
            continue;
        ouro_prep_read(others[count++] = op_new(t), (int)RES(opens[i]), &bytes[i], 1, i % 3);
        done++;
    }
    CHECK_EQ(start_n(t, others, count), count);
    finish_all(t);
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(RES(others[i]), 1);
        ouro_prep_close(others[count + i] = op_new(t), others[i]->fd);
    }
    for (int i = 2; i < COUNT; i += 3)
        CHECK_EQ(bytes[i], 'c');
    CHECK_EQ(start_n(t, others + count, count), count);
    finish_all(t);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(RES(others[count + i]), 0);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof(after)), 0);
    CHECK_EQ(after.completed - before.completed, COUNT + 2 * (uint64_t)done);
    CHECK_EQ(after.in_flight, 0);
}

static void quiet_failure_is_reported(struct test *t)
{
    ouro_op *op = op_new(t);
    struct ouro_stat st;

    ouro_prep_stat(op, OURO_HERE, path_in(t, "none"), 0, &st);
    op->flags = OURO_QUIET;
    CHECK_EQ(do_op(t, op), -ENOENT);
}

static void waiting_for_a_quiet_success_works(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_nop(op);
    op->flags = OURO_QUIET;
    start(t, op);
    CHECK_EQ(ouro_wait(t->loop, op, t->limit), 0);
    ledger_quiet(op);
}

static void done_looks_without_collecting(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_event event;

    CHECK_EQ(ouro_done(op), 0);
    ouro_prep_nop(op);
    start(t, op);
    CHECK(ouro_run(t->loop, 1, t->limit) >= 1);
    CHECK_EQ(ouro_done(op), 1);
    CHECK_EQ(ouro_done(op), 1);
    CHECK_EQ(ouro_reap(t->loop, &event, 1), 1);
    ledger_event(t, &event);
    CHECK(event.op == op);
    CHECK_EQ(ouro_done(op), 1);
    CHECK_EQ(ouro_reap(t->loop, &event, 1), 0);
}

static void wait_refuses_what_it_cannot_wait_for(struct test *t)
{
    ouro_op *op = op_new(t), *with_callback = op_new(t);

    CHECK_EQ(ouro_wait(t->loop, op, OURO_NOWAIT), -EINVAL);
    ouro_prep_nop(op);
    start(t, op);
    CHECK_EQ(ouro_wait(t->loop, op, t->limit), 0);
    ledger_waited(t, op);
    CHECK_EQ(ouro_wait(t->loop, op, OURO_NOWAIT), -EINVAL);
    ouro_prep_timer(with_callback, in_ms(t, 60000));
    record_of(with_callback)->own_cb = true;
    start(t, with_callback);
    CHECK_EQ(ouro_wait(t->loop, with_callback, OURO_NOWAIT), -EINVAL);
    CHECK_EQ(ouro_cancel(t->loop, with_callback), 0);
    CHECK_EQ(finish(t, with_callback), -ECANCELED);
}

static void wait_that_runs_out_of_time_cancels_nothing(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte = 0;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    CHECK_EQ(ouro_wait(t->loop, op, OURO_NOWAIT), -ETIME);
    CHECK_EQ(ouro_wait(t->loop, op, in_ms(t, 3)), -ETIME);
    CHECK_EQ(write(fds[1], "k", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK(byte == 'k' && CFLAGS(op) == (CFLAGS(op) & (OURO_C_INLINE | OURO_C_POOLED)));
}

static void wait_any_names_one_that_is_final(struct test *t)
{
    ouro_op *ops[4] = { op_new(t), NULL, op_new(t), op_new(t) };
    char byte;
    int fds[2], at;

    make_pipe(t, fds);
    ouro_prep_read(ops[0], fds[0], &byte, 1, 0);
    ouro_prep_nop(ops[2]);
    ouro_prep_timer(ops[3], in_ms(t, 60000));
    start(t, ops[0]);
    start(t, ops[3]);
    CHECK_EQ(ouro_wait_any(t->loop, (ouro_op *[]){ ops[0], NULL, ops[3] }, 3, OURO_NOWAIT), -ETIME);
    start(t, ops[2]);
    at = ouro_wait_any(t->loop, ops, 4, t->limit);
    CHECK_EQ(at, 2);
    ledger_waited(t, ops[2]);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ops[2] = NULL;
    CHECK_EQ(ouro_wait_any(t->loop, ops, 4, t->limit), 0);
    ledger_waited(t, ops[0]);
    ouro_cancel(t->loop, ops[3]);
    CHECK_EQ(finish(t, ops[3]), -ECANCELED);
}

static void do_submits_waits_and_collects(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_event event;
    char byte;

    ouro_prep_nop(op);
    record_of(op)->own_event = true;
    CHECK_EQ(ouro_do(t->loop, op), 0);
    CHECK_EQ(ouro_reap(t->loop, &event, 1), 0);
    ouro_prep_read(op, -1, &byte, 1, 0);
    CHECK_EQ(ouro_do(t->loop, op), -EBADF);
    ouro_prep_read(op, 12345, &byte, 1, 0);
    CHECK_EQ(ouro_do(t->loop, op), -EBADF);
    ouro_prep_timer(op, in_ms(t, 2));
    ouro_wake(t->loop); /* does not end it */
    CHECK_EQ(ouro_do(t->loop, op), 0);
}

static void reap_gives_the_oldest_first(struct test *t)
{
    ouro_op *ops[10];
    ouro_event event;

    for (int i = 0; i < 10; i++) {
        ouro_prep_nop(ops[i] = op_new(t));
        start(t, ops[i]);
        while (!ouro_done(ops[i]))
            CHECK(ouro_run(t->loop, (unsigned)i + 1, t->limit) >= 0);
    }
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(ouro_reap(t->loop, &event, 1), 1);
        CHECK(event.op == ops[i]);
        ledger_event(t, &event);
    }
}

static void run_with_zero_does_not_wait(struct test *t)
{
    ouro_op *op = op_new(t);

    CHECK_EQ(ouro_run(t->loop, 0, OURO_FOREVER), 0);
    CHECK_EQ(ouro_reap(t->loop, NULL, 0), 0);
    ouro_prep_timer(op, in_ms(t, 3600000));
    start(t, op);
    CHECK_EQ(ouro_run(t->loop, 0, OURO_FOREVER), 0);
    CHECK_EQ(ouro_run(t->loop, 5, OURO_NOWAIT), 0);
    CHECK_EQ(ouro_run(t->loop, 1, in_ms(t, 2)), 0);
    ouro_cancel(t->loop, op);
    CHECK_EQ(finish(t, op), -ECANCELED);
}

static void run_all_returns_when_nothing_is_in_flight(struct test *t)
{
    ouro_op *ops[20];

    for (int i = 0; i < 20; i++) {
        ouro_prep_timer(ops[i] = op_new(t), in_ms(t, i % 7));
        start(t, ops[i]);
    }
    CHECK(ouro_run(t->loop, OURO_ALL, t->limit) >= 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(ouro_done(ops[i]), 1);
    reap_all(t);
    finish_all(t);
    CHECK_EQ(ouro_run(t->loop, OURO_ALL, t->limit), 0);
}

/* ---- Callbacks ----------------------------------------------------------------------------- */

static void submit_runs_no_callback(struct test *t)
{
    ouro_op *op = op_new(t);

    record_of(op)->own_cb = true;
    ouro_prep_nop(op);
    start(t, op);
    CHECK_EQ(record_of(op)->completed, 0);
    CHECK_EQ(ouro_flush(t->loop), 0);
    CHECK_EQ(record_of(op)->completed, 0);
    ouro_cancel(t->loop, op);
    CHECK_EQ(record_of(op)->completed, 0);
    finish(t, op);
}

static void free_and_replace(struct test *t, ouro_op *op)
{
    int left = (int)(intptr_t)op->user;
    ouro_op *next;

    op_free(t, op);
    if (left > 0) {
        next = op_new(t);
        record_of(next)->own_cb = true;
        record_of(next)->then = free_and_replace;
        next->user = (void *)(intptr_t)(left - 1);
        ouro_prep_nop(next);
        start(t, next);
    }
}

static void a_callback_may_free_its_operation(struct test *t)
{
    ouro_op *op = op_new(t);

    record_of(op)->own_cb = true;
    record_of(op)->then = free_and_replace;
    op->user = (void *)(intptr_t)100;
    ouro_prep_nop(op);
    start(t, op);
    wait_completions(t, 101);
}

static void submit_again(struct test *t, ouro_op *op)
{
    if (++*(int *)op->user < 1000) {
        ouro_prep_nop(op);
        start(t, op);
    }
}

static void a_callback_may_submit_its_operation_again(struct test *t)
{
    ouro_op *op = op_new(t);
    int times = 0;

    record_of(op)->own_cb = true;
    record_of(op)->then = submit_again;
    op->user = &times;
    ouro_prep_nop(op);
    start(t, op);
    wait_completions(t, 1000);
    close_loop(t); /* a service's thread may still be in the last callback until here */
    CHECK_EQ(times, 1000);
}

struct nesting {
    int depth, deepest, refused;
};

static void run_inside(struct test *t, ouro_op *op)
{
    struct nesting *nesting = op->user;
    ouro_op *next = op_new(t);
    int r;

    nesting->depth++;
    if (nesting->depth > nesting->deepest)
        nesting->deepest = nesting->depth;
    record_of(next)->own_cb = true;
    next->user = nesting;
    if (!nesting->refused)
        record_of(next)->then = run_inside;
    ouro_prep_nop(next);
    start(t, next);
    r = ouro_run(t->loop, 1, t->limit);
    if (r == -EDEADLK)
        nesting->refused++;
    else
        CHECK(r >= 1);
    nesting->depth--;
}

static void runs_nest_eight_deep_in_callbacks(struct test *t)
{
    struct nesting nesting = { 0 };
    ouro_op *op = op_new(t);

    record_of(op)->own_cb = true;
    record_of(op)->then = run_inside;
    op->user = &nesting;
    ouro_prep_nop(op);
    start(t, op);
    finish(t, op);
    CHECK_EQ(nesting.deepest, 8);
    CHECK(nesting.refused >= 1);
    record_of(op)->then = NULL;
    for (struct record *record = t->records; record; record = record->next)
        record->then = NULL;
    finish_all(t);
}

/* ---- What a loop tells --------------------------------------------------------------------- */

static void counters_count(struct test *t)
{
    ouro_op *op = op_new(t), *timer = op_new(t);
    ouro_counters c;

    for (int i = 0; i < 5; i++) {
        ouro_prep_nop(op);
        do_op(t, op);
    }
    ouro_prep_timer(timer, in_ms(t, 60000));
    start(t, timer);
    CHECK_EQ(ouro_get_counters(t->loop, &c, sizeof c), 0);
    CHECK(c.submitted == 6 && c.completed == 5 && c.in_flight == 1 && c.uncollected == 0);
    CHECK(c.memory > 0);
    ouro_cancel(t->loop, timer);
    finish(t, timer);
    CHECK_EQ(ouro_get_counters(t->loop, &c, sizeof c), 0);
    CHECK(c.completed == 6 && c.canceled == 1 && c.in_flight == 0 && c.stale == 0);
}

static void what_is_in_flight_is_listed(struct test *t)
{
    ouro_op *read_op = op_new(t), *timer = op_new(t);
    struct listing listing = { 0 };
    int fds[2], times = 0;
    char byte;

    make_pipe(t, fds);
    ouro_prep_read(read_op, fds[0], &byte, 1, 0);
    start(t, read_op);
    ouro_prep_timer(timer, in_ms(t, 60000));
    start(t, timer);
    step(t);
    CHECK_EQ(ouro_each_inflight(t->loop, list_one, &listing), 0);
    CHECK(listing.count == 2 && listing.reads == 1 && listing.timers == 1);
    CHECK(strcmp(listing.where_timer, "timer") == 0);
    CHECK_EQ(ouro_each_inflight(t->loop, stop_at_once, &times), 7);
    CHECK_EQ(times, 1);
    ouro_cancel_all(t->loop);
    finish_all(t);
    CHECK_EQ(ouro_each_inflight(t->loop, stop_at_once, &times), 0);
}

static void the_engine_is_named(struct test *t)
{
    const char *name = ouro_engine_name(t->loop);

    CHECK(strcmp(name, t->engine ? t->engine : ouro_engine_list(1)) == 0);
    CHECK(ouro_engine_why(t->loop) != NULL);
    if (!t->engine) /* io_uring is refused in such a run: it says so */
        CHECK(strstr(ouro_engine_why(t->loop), "uring") != NULL);
    else
        CHECK(*ouro_engine_why(t->loop) == 0);
}

static void support_is_told_for_every_operation(struct test *t)
{
    for (unsigned code = 0; code < OURO_CODE_COUNT; code++) {
        int r = ouro_support(t->loop, code, 0);

        CHECK(r >= OURO_NATIVE && r <= OURO_ON_WORKER);
        CHECK(ouro_code_name(code) != NULL);
    }
    CHECK_EQ(ouro_support(t->loop, OURO_CODE_COUNT, 0), -EINVAL);
    CHECK_EQ(ouro_support(t->loop, OURO_NOP, OURO_EXACT), -EINVAL);
    CHECK(ouro_code_name(OURO_CODE_COUNT) == NULL);
    CHECK(strcmp(ouro_code_name(OURO_READ), "read") == 0);
    if (t->mask == MASK_NAMES && t->engine)
        CHECK_EQ(ouro_support(t->loop, OURO_OPEN, 0), OURO_ON_WORKER);
}

static void engines_are_listed_and_probed(struct test *t)
{
    char why[256];
    uint64_t caps = 0;
    unsigned count = 0;

    (void)t;
    while (ouro_engine_list(count))
        count++;
    CHECK(count >= 4);
    CHECK(strcmp(ouro_engine_list(0), "uring") == 0 && strcmp(ouro_engine_list(1), "kaio") == 0);
    CHECK(strcmp(ouro_engine_list(count - 2), "threads") == 0);
    CHECK(strcmp(ouro_engine_list(count - 1), "posixaio") == 0); /* chosen by name alone */
    CHECK_EQ(ouro_probe("threads", why, sizeof why, &caps), 0);
    CHECK_EQ(ouro_probe("threads", NULL, 0, NULL), 0);
    CHECK_EQ(ouro_probe("no-such-engine", why, sizeof why, &caps), -EINVAL);
}

static void bad_configurations_are_refused(struct test *t)
{
    ouro_loop *loop = NULL;
    ouro_config config;

#define BAD(error, change)                             \
    do {                                               \
        config = t->config;                            \
        change;                                        \
        CHECK_EQ(ouro_open(&config, &loop), -(error)); \
        CHECK(loop == NULL);                           \
    } while (0)
    BAD(EINVAL, config.size = 0);
    BAD(EINVAL, config.threading = 17);
    BAD(EINVAL, config.engine = "no-such-engine");
    BAD(EINVAL, config.reserved[7] = 1);
    BAD(EINVAL, config.max_ops = 1u << 21);
    BAD(EOPNOTSUPP, (config.engine = "threads", config.want = OURO_CAP_DEFER));
}

static void a_loop_needs_no_configuration(struct test *t)
{
    t->config.alloc = NULL;
    CHECK_EQ(ouro_open(NULL, &t->loop), 0);
    t->limit = in_ms(t, 8000);
    if (t->style == STYLE_HOSTED)
        t->style = STYLE_CALLBACK;
    t->mode = MODE_OWNED;
    nop_completes_with_zero(t);
}

struct stranger {
    struct test *t;
    ouro_op *op;
};

static void *try_as_stranger(void *arg)
{
    struct stranger *s = arg;
    ouro_loop *loop = s->t->loop;
    ouro_event event;
    ouro_op op = { 0 };

    ouro_prep_nop(&op);
    CHECK_EQ(ouro_submit(loop, &op), -EPERM);
    CHECK_EQ(ouro_flush(loop), -EPERM);
    CHECK_EQ(ouro_run(loop, 0, OURO_NOWAIT), -EPERM);
    CHECK_EQ(ouro_wait(loop, s->op, OURO_NOWAIT), -EPERM);
    CHECK_EQ(ouro_cancel(loop, s->op), -EPERM);
    CHECK_EQ(ouro_dispatch(loop, 0), -EPERM);
    CHECK_EQ(ouro_reap(loop, &event, 1), -EPERM);
    CHECK_EQ(ouro_close(loop, OURO_NOWAIT), -EPERM);
    return NULL;
}

static void other_threads_may_not_drive(struct test *t)
{
    struct stranger s = { t, op_new(t) };
    pthread_t thread;

    ouro_prep_timer(s.op, in_ms(t, 60000));
    start(t, s.op);
    CHECK_EQ(pthread_create(&thread, NULL, try_as_stranger, &s), 0);
    pthread_join(thread, NULL);
    ouro_cancel(t->loop, s.op);
    CHECK_EQ(finish(t, s.op), -ECANCELED);
}

static int visit_none(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    (void)op;
    (void)where;
    (void)since;
    (void)user;
    return 0;
}

static void a_missing_loop_is_refused_everywhere(struct test *t)
{
    ouro_op op = { 0 }, *ops[1] = { &op };
    ouro_notify notify = { .size = sizeof notify };
    ouro_counters counters;
    ouro_event event;

    (void)t;
    ouro_prep_nop(&op);
    CHECK_EQ(ouro_submit(NULL, &op), -EINVAL);
    CHECK_EQ(ouro_submit_n(NULL, ops, 1), -EINVAL);
    CHECK_EQ(ouro_chain(NULL, ops, 1), -EINVAL);
    CHECK_EQ(ouro_post(NULL, &op, NULL), -EINVAL);
    CHECK_EQ(ouro_do(NULL, &op), -EINVAL);
    CHECK_EQ(ouro_flush(NULL), -EINVAL);
    CHECK_EQ(ouro_cancel(NULL, &op), -EINVAL);
    CHECK_EQ(ouro_cancel_id(NULL, 1), -EINVAL);
    CHECK_EQ(ouro_cancel_fd(NULL, 0), -EINVAL);
    CHECK_EQ(ouro_cancel_all(NULL), -EINVAL);
    CHECK_EQ(ouro_run(NULL, 0, OURO_NOWAIT), -EINVAL);
    CHECK_EQ(ouro_reap(NULL, &event, 1), -EINVAL);
    CHECK_EQ(ouro_wait(NULL, &op, OURO_NOWAIT), -EINVAL);
    CHECK_EQ(ouro_wait_any(NULL, ops, 1, OURO_NOWAIT), -EINVAL);
    CHECK_EQ(ouro_pollfd(NULL), -EINVAL);
    CHECK_EQ(ouro_next_deadline(NULL), OURO_FOREVER);
    CHECK_EQ(ouro_timeout_ms(NULL), -1);
    CHECK_EQ(ouro_dispatch(NULL, 0), -EINVAL);
    CHECK_EQ(ouro_set_notify(NULL, &notify), -EINVAL);
    CHECK_EQ(ouro_register_buffers(NULL, NULL, 0), -EINVAL);
    CHECK_EQ(ouro_direct_table(NULL, 1), -EINVAL);
    CHECK_EQ(ouro_direct_install(NULL, 0), -EINVAL);
    CHECK_EQ(ouro_get_counters(NULL, &counters, sizeof counters), -EINVAL);
    CHECK_EQ(ouro_each_inflight(NULL, visit_none, NULL), -EINVAL);
    CHECK_EQ(ouro_close(NULL, OURO_NOWAIT), 0);
    ouro_wake(NULL);
}

static const struct test_case cases[] = {
    { NAMED(nop_completes_with_zero) },
    { NAMED(every_operation_of_a_batch_completes), .pitfalls = "C1 C4" },
    { NAMED(more_than_the_depth_is_neither_lost_nor_refused), .faults = "8",
      .pitfalls = "S1 C1 R16" },
    { NAMED(prep_leaves_callback_and_user_alone), .fixed = FIX_ALL },
    { NAMED(bad_descriptors_are_refused), .pitfalls = "K10" },
    { NAMED(missing_pointers_are_refused), .faults = "29" },
    { NAMED(bad_values_are_refused), .faults = "29", .pitfalls = "F7" },
    { NAMED(unknown_and_useless_flags_are_refused) },
    { NAMED(a_second_submit_in_flight_is_busy), .faults = "29" },
    { NAMED(a_batch_is_accepted_up_to_the_first_bad_one), .pitfalls = "S4" },
    { NAMED(the_limit_of_operations_is_eagain) },
    { NAMED(uncollected_events_count_for_the_limit), .style = STYLE_REAP,
      .fixed = FIX_STYLE | FIX_FD | FIX_MASK },
    { NAMED(ids_are_never_reused), .pitfalls = "K5" },
    { NAMED(quiet_success_is_not_reported), .fixed = FIX_FD },
    { NAMED(quiet_failure_is_reported) },
    { NAMED(what_was_prepared_may_be_submitted_again) },
    { NAMED(nops_are_listed_canceled_and_counted_like_others), .fixed = FIX_FD },
    { NAMED(usual_operations_are_listed_canceled_and_counted_like_others), .fixed = FIX_FD },
    { NAMED(what_waits_for_long_is_listed_with_its_time), .fixed = FIX_FD },
    { NAMED(waiting_for_a_quiet_success_works), .style = STYLE_WAIT, .fixed = FIX_STYLE | FIX_FD },
    { NAMED(done_looks_without_collecting), .style = STYLE_REAP, .fixed = FIX_STYLE | FIX_FD },
    { NAMED(wait_refuses_what_it_cannot_wait_for), .style = STYLE_WAIT,
      .fixed = FIX_STYLE | FIX_FD },
    { NAMED(wait_that_runs_out_of_time_cancels_nothing), .style = STYLE_WAIT, .fixed = FIX_STYLE,
      .pitfalls = "S6" },
    { NAMED(wait_any_names_one_that_is_final), .style = STYLE_WAIT, .fixed = FIX_STYLE },
    { NAMED(do_submits_waits_and_collects), .style = STYLE_WAIT, .fixed = FIX_STYLE | FIX_FD },
    { NAMED(reap_gives_the_oldest_first), .style = STYLE_REAP, .fixed = FIX_STYLE | FIX_FD },
    { NAMED(run_with_zero_does_not_wait), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(run_all_returns_when_nothing_is_in_flight), .needs = NEED_DRIVER, .fixed = FIX_FD },
    { NAMED(submit_runs_no_callback), .needs = NEED_DRIVER, .fixed = FIX_STYLE | FIX_FD },
    { NAMED(a_callback_may_free_its_operation), .fixed = FIX_STYLE | FIX_FD, .pitfalls = "C5" },
    { NAMED(a_callback_may_submit_its_operation_again), .fixed = FIX_STYLE | FIX_FD,
      .pitfalls = "C5" },
    { NAMED(runs_nest_eight_deep_in_callbacks), .needs = NEED_OWNED, .fixed = FIX_STYLE | FIX_FD,
      .pitfalls = "C5" },
    { NAMED(counters_count), .fixed = FIX_FD },
    { NAMED(what_is_in_flight_is_listed) },
    { NAMED(the_engine_is_named), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(support_is_told_for_every_operation), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(engines_are_listed_and_probed), .fixed = FIX_ALL },
    { NAMED(bad_configurations_are_refused), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(a_loop_needs_no_configuration), .fixed = FIX_MODE | FIX_FD | FIX_MASK,
      .no_loop = true },
    { NAMED(other_threads_may_not_drive), .needs = NEED_OWNED, .fixed = FIX_STYLE | FIX_FD },
    { NAMED(a_missing_loop_is_refused_everywhere), .fixed = FIX_ALL, .no_loop = true },
    { .name = NULL },
};
const struct subject subject_basics = { "basics", cases };

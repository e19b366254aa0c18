/* SPDX-License-Identifier: MIT */
/* t_cancel.c: requests to end early: by operation, by id, by descriptor, all; from anywhere; at
 * every point of an operation's life. Whatever happens, one final completion that tells the
 * truth. */
#include <poll.h>
#include <signal.h>

#include "test.h"

static ouro_op *pending_read(struct test *t, int fds[2], char *byte)
{
    ouro_op *op = op_new(t);

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], byte, 1, 0);
    start(t, op);
    return op;
}

static void expect_canceled(struct test *t, ouro_op *op)
{
    CHECK_EQ(finish(t, op), -ECANCELED);
    CHECK(CFLAGS(op) & OURO_C_CANCELED);
}

static void cancel_ends_a_queued_read(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *op = pending_read(t, fds, &byte);

    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    expect_canceled(t, op);
}

/* Of reads that come one after the other, all but the first have not begun. */
static void what_has_not_begun_is_withdrawn(struct test *t)
{
    ouro_op *ops[3];
    char bytes[3] = "";
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 3; i++) {
        ops[i] = op_new(t);
        ouro_prep_read(ops[i], fds[0], &bytes[i], 1, 0);
        ops[i]->flags = OURO_SERIAL;
        start(t, ops[i]);
    }
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK_EQ(ouro_withdraw(t->loop, ops[1]), 0);
    expect_canceled(t, ops[1]);
    CHECK_EQ(ouro_withdraw(t->loop, ops[0]), -EALREADY);
    step(t);
    CHECK(!is_final(ops[0]));
    CHECK_EQ(write(fds[1], "xy", 2), 2);
    CHECK_EQ(finish(t, ops[0]), 1);
    CHECK_EQ(finish(t, ops[2]), 1);
    CHECK(bytes[0] == 'x' && bytes[1] == 0 && bytes[2] == 'y');
    CHECK_EQ(ouro_withdraw(t->loop, ops[0]), -EALREADY);
    CHECK_EQ(ouro_withdraw(t->loop, NULL), -EINVAL);
}

static void cancel_ends_a_waiting_read(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *op = pending_read(t, fds, &byte);

    for (int i = 0; i < 3; i++)
        step(t);
    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    expect_canceled(t, op);
    /* Its buffer is ours again: later data goes elsewhere. */
    byte = 'q';
    CHECK_EQ(write(fds[1], "n", 1), 1);
    step(t);
    CHECK_EQ(byte, 'q');
}

static void cancel_by_id_ends_it(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *op = pending_read(t, fds, &byte);

    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    expect_canceled(t, op);
}

static void a_stale_id_cancels_nothing(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *op = op_new(t);
    ouro_id old;

    ouro_prep_nop(op);
    do_op(t, op);
    old = ouro_op_id(op);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, old), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, 0), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, UINT64_MAX), 0);
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
}

static void cancelling_twice_is_cancelling_once(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *op = pending_read(t, fds, &byte);
    ouro_id id = ouro_op_id(op);

    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, id), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, id), 0);
    if (t->mode != MODE_SERVICE) /* there it may be final by now, and no longer ours to name */
        CHECK_EQ(ouro_cancel(t->loop, op), 0);
    CHECK_EQ(ouro_cancel_fd(t->loop, fds[0]), 0);
    expect_canceled(t, op);
    CHECK_EQ(ouro_cancel_id(t->loop, id), 0);
}

static void cancel_after_completion_changes_nothing(struct test *t)
{
    ouro_op *op = op_new(t), *next = op_new(t);

    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    CHECK_EQ(op->res, 0);
    ouro_prep_nop(next);
    CHECK_EQ(do_op(t, next), 0);
    CHECK(!(CFLAGS(op) & OURO_C_CANCELED));
}

static void cancel_by_descriptor_ends_all_on_it(struct test *t)
{
    ouro_op *mine[10], *other;
    char bytes[11];
    int a[2], b[2];

    make_pipe(t, a);
    other = pending_read(t, b, &bytes[10]);
    for (int i = 0; i < 10; i++) {
        mine[i] = op_new(t);
        if (i & 1)
            ouro_prep_poll(mine[i], a[0], POLLIN);
        else
            ouro_prep_read(mine[i], a[0], &bytes[i], 1, 0);
        start(t, mine[i]);
    }
    step(t);
    CHECK_EQ(ouro_cancel_fd(t->loop, a[0]), 0);
    for (int i = 0; i < 10; i++)
        expect_canceled(t, mine[i]);
    CHECK(!is_final(other));
    CHECK_EQ(ouro_cancel_fd(t->loop, 9999), 0);
    CHECK_EQ(ouro_cancel_fd(t->loop, b[0]), 0);
    expect_canceled(t, other);
}

static void cancel_all_ends_everything_and_the_loop_lives(struct test *t)
{
    ouro_op *ops[30], *later = op_new(t);
    char bytes[30];
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 30; i++) {
        ops[i] = op_new(t);
        if (i % 3 == 0)
            ouro_prep_timer(ops[i], in_ms(t, 3600000));
        else if (i % 3 == 1)
            ouro_prep_read(ops[i], fds[0], &bytes[i], 1, 0);
        else
            ouro_prep_poll(ops[i], fds[0], POLLIN);
        start(t, ops[i]);
        if (i == 15)
            step(t);
    }
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    ouro_prep_timer(later, in_ms(t, 1)); /* submitted after: not meant */
    start(t, later);
    for (int i = 0; i < 30; i++)
        expect_canceled(t, ops[i]);
    CHECK_EQ(finish(t, later), 0);
}

static void cancel_of_a_held_operation(struct test *t)
{
    ouro_op *first, *held = op_new(t), *third = op_new(t);
    char bytes[3];
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(first = op_new(t), fds[0], &bytes[0], 1, 0);
    ouro_prep_read(held, fds[0], &bytes[1], 1, 0);
    ouro_prep_read(third, fds[0], &bytes[2], 1, 0);
    first->flags = held->flags = third->flags = OURO_SERIAL;
    start(t, first);
    start(t, held);
    start(t, third);
    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(held)), 0);
    expect_canceled(t, held);
    CHECK(!is_final(first));
    CHECK_EQ(write(fds[1], "ab", 2), 2);
    CHECK_EQ(finish(t, first), 1);
    CHECK_EQ(finish(t, third), 1);
    CHECK(bytes[0] == 'a' && bytes[2] == 'b');
}

static void cancel_of_a_timer(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_timer(op, in_ms(t, 3600000));
    start(t, op);
    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    expect_canceled(t, op);
}

struct gate {
    _Atomic bool open;
    _Atomic unsigned entered;
};

static int64_t wait_at_gate(void *arg)
{
    struct gate *gate = arg;

    gate->entered++;
    while (!gate->open)
        usleep(100);
    return 7;
}

static void cancel_of_queued_and_of_running_work(struct test *t)
{
    struct gate gate = { false, 0 };
    ouro_op *running[2], *queued = op_new(t);

    close_loop(t);
    t->config.max_workers = 2;
    open_loop(t);
    for (int i = 0; i < 2; i++) {
        ouro_prep_work(running[i] = op_new(t), wait_at_gate, &gate);
        start(t, running[i]);
    }
    while (gate.entered < 2) {
        step(t);
        usleep(100);
    }
    ouro_prep_work(queued, wait_at_gate, &gate);
    start(t, queued);
    step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(queued)), 0);
    expect_canceled(t, queued);
    CHECK_EQ(gate.entered, 2);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(running[0])), 0);
    step(t);
    CHECK(!is_final(running[0]));
    gate.open = true;
    CHECK_EQ(finish(t, running[0]), 7);
    CHECK_EQ(finish(t, running[1]), 7);
    CHECK(!(CFLAGS(running[1]) & OURO_C_CANCELED));
}

static void cancel_of_exact_gives_the_bytes_moved(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[10];
    int fds[2];
    struct pollfd pending;

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], buf, 10, 0);
    op->flags = OURO_EXACT;
    start(t, op);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    pending = (struct pollfd){ .fd = fds[0], .events = POLLIN };
    while (poll(&pending, 1, 1) > 0) /* until it has taken them */
        step(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    CHECK_EQ(finish(t, op), 3);
    CHECK(CFLAGS(op) & OURO_C_CANCELED);
    CHECK_EQ(op->cause, -ECANCELED);
    CHECK(memcmp(buf, "abc", 3) == 0);
}

struct other {
    struct test *t;
    ouro_id id;
    int fd;
    int how;
};

static void *cancel_elsewhere(void *arg)
{
    struct other *other = arg;

    if (other->how == 0)
        CHECK_EQ(ouro_cancel_id(other->t->loop, other->id), 0);
    else if (other->how == 1)
        CHECK_EQ(ouro_cancel_fd(other->t->loop, other->fd), 0);
    else
        CHECK_EQ(ouro_cancel_all(other->t->loop), 0);
    return NULL;
}

static void other_threads_cancel_while_the_driver_sleeps(struct test *t)
{
    for (int how = 0; how < 3; how++) {
        char byte;
        int fds[2];
        ouro_op *op = pending_read(t, fds, &byte);
        struct other other = { t, ouro_op_id(op), fds[0], how };
        pthread_t thread;

        step(t);
        CHECK_EQ(pthread_create(&thread, NULL, cancel_elsewhere, &other), 0);
        expect_canceled(t, op);
        pthread_join(thread, NULL);
    }
}

static struct other from_handler;

static void on_signal(int signo)
{
    (void)signo;
    /* NOLINTNEXTLINE(bugprone-signal-handler): it promises to be safe */
    ouro_cancel_id(from_handler.t->loop, from_handler.id);
}

static void a_signal_handler_cancels(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *op = pending_read(t, fds, &byte);

    from_handler = (struct other){ t, ouro_op_id(op), 0, 0 };
    signal(SIGUSR1, on_signal);
    step(t);
    raise(SIGUSR1);
    expect_canceled(t, op);
}

/* The byte comes just as the cancel does: who has it must be told. */
static void cancel_against_completion_loses_nothing(struct test *t)
{
    ouro_op *op = op_new(t), *check = op_new(t);
    unsigned taken = 0, canceled = 0;
    char byte, again;
    int fds[2];

    make_pipe(t, fds);
    for (unsigned i = 0; i < 1000; i++) {
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        start(t, op);
        if (i & 1)
            step(t);
        if (i & 2)
            CHECK_EQ(write(fds[1], "r", 1), 1);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        if (!(i & 2))
            CHECK_EQ(write(fds[1], "r", 1), 1);
        if (finish(t, op) == 1) {
            CHECK_EQ(byte, 'r');
            taken++;
        } else {
            CHECK_EQ(RES(op), -ECANCELED);
            canceled++;
            ouro_prep_read(check, fds[0], &again, 1, 0);
            CHECK_EQ(do_op(t, check), 1);
        }
    }
    CHECK_EQ(taken + canceled, 1000);
}

static void an_open_that_beats_its_cancel_gives_its_descriptor(struct test *t)
{
    long before = count_fds();
    ouro_op *op = op_new(t);

    make_file(t, "f", "x", 1);
    for (int i = 0; i < 200; i++) {
        ouro_prep_open(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0);
        start(t, op);
        if (i & 1)
            step(t);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        if (finish(t, op) >= 0)
            CHECK_EQ(close((int)RES(op)), 0);
        else
            CHECK_EQ(RES(op), -ECANCELED);
    }
    /* One for the file; the library may open some of its own, once. */
    CHECK(count_fds() <= before + 1 + 8);
}

static void more_cancels_than_the_engine_holds(struct test *t)
{
    enum { COUNT = 500 };
    ouro_op *ops[COUNT];
    static char bytes[COUNT];
    int fds[2];

    close_loop(t);
    t->config.depth = 8;
    open_loop(t);
    make_pipe(t, fds);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, 0);
        start(t, ops[i]);
    }
    step(t);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[i])), 0);
    for (int i = 0; i < COUNT; i++)
        expect_canceled(t, ops[i]);
}

static void cancel_in(struct test *t, ouro_op *op)
{
    CHECK_EQ(ouro_cancel(t->loop, op->user), 0);
}

static void a_callback_cancels_another(struct test *t)
{
    char byte;
    int fds[2];
    ouro_op *victim = pending_read(t, fds, &byte), *op = op_new(t);

    step(t);
    record_of(op)->own_cb = true;
    record_of(op)->then = cancel_in;
    op->user = victim;
    ouro_prep_nop(op);
    start(t, op);
    finish(t, op);
    expect_canceled(t, victim);
}

/* A cancelled splice runs in the kernel's own worker there, and ends in its own words. */
static void a_running_splice_is_cancelled(struct test *t)
{
    ouro_op *op = op_new(t);
    int a[2], b[2];

    make_pipe(t, a);
    make_pipe(t, b);
    ouro_prep_splice(op, a[0], OURO_CUR, b[1], OURO_CUR, 100, 0);
    start(t, op);
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    expect_canceled(t, op);
}

static const struct test_case cases[] = {
    { NAMED(cancel_ends_a_queued_read) },
    { NAMED(what_has_not_begun_is_withdrawn) },
    { NAMED(cancel_ends_a_waiting_read), .pitfalls = "K1 K2" },
    { NAMED(cancel_by_id_ends_it), .pitfalls = "K1" },
    { NAMED(a_stale_id_cancels_nothing), .pitfalls = "K5" },
    { NAMED(cancelling_twice_is_cancelling_once), .pitfalls = "K1 K2" },
    { NAMED(cancel_after_completion_changes_nothing), .pitfalls = "K1" },
    { NAMED(cancel_by_descriptor_ends_all_on_it), .pitfalls = "K8 K4" },
    { NAMED(cancel_all_ends_everything_and_the_loop_lives), .pitfalls = "K4" },
    { NAMED(cancel_of_a_held_operation) },
    { NAMED(cancel_of_a_timer), .fixed = FIX_FD },
    { NAMED(cancel_of_queued_and_of_running_work), .fixed = FIX_FD },
    { NAMED(cancel_of_exact_gives_the_bytes_moved), .pitfalls = "K6" },
    { NAMED(other_threads_cancel_while_the_driver_sleeps), .pitfalls = "K15" },
    { NAMED(a_signal_handler_cancels), .faults = "11" },
    { NAMED(cancel_against_completion_loses_nothing), .faults = "9", .pitfalls = "K1 K2 K14" },
    { NAMED(an_open_that_beats_its_cancel_gives_its_descriptor), .fixed = FIX_FD,
      .pitfalls = "K7" },
    { NAMED(more_cancels_than_the_engine_holds), .pitfalls = "S2" },
    { NAMED(a_callback_cancels_another), .pitfalls = "C5" },
    { NAMED(a_running_splice_is_cancelled), .pitfalls = "K3" },
    { .name = NULL },
};
const struct subject subject_cancel = { "cancel", cases };

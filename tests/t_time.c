/* SPDX-License-Identifier: MIT */
/* t_time.c: timers and deadlines. No test needs a moment to be met: what comes too late is slow,
 * what comes too early is wrong. */
#include <time.h>

#include "test.h"

static void a_timer_ends_at_its_time_not_before(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_time at = in_ms(t, 5);

    ouro_prep_timer(op, at);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(ouro_now(t->loop) >= at);
}

static void past_timers_end_at_the_next_turn(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_timer(op, OURO_NOWAIT);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_timer(op, in_ms(t, -1000));
    CHECK_EQ(do_op(t, op), 0);
}

static void timers_end_in_order_of_their_times(struct test *t)
{
    enum { COUNT = 200 };
    ouro_op *ops[COUNT];
    ouro_time base = in_ms(t, 5);

    for (unsigned i = 0; i < COUNT; i++)
        ouro_prep_timer(ops[i] = op_new(t), base + (i * 7919u % COUNT) * 50000u);
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    if (t->style == STYLE_WAIT) { /* waiting one by one says nothing about order */
        finish_all(t);
        return;
    }
    finish_all(t);
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned k = 0; k < COUNT; k++)
            if (ops[i]->arg[1] < ops[k]->arg[1])
                CHECK(ORDER(ops[i]) < ORDER(ops[k]));
}

static void many_timers_and_half_of_them_cancelled(struct test *t)
{
    enum { COUNT = 3000 };
    ouro_op **ops = calloc(COUNT, sizeof *ops);
    ouro_time base = in_ms(t, 1);

    CHECK(ops != NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        bool far = i % 2;

        ouro_prep_timer(ops[i] = op_new(t), far ? in_ms(t, 3600000) + i : base + i * 1009u);
        start(t, ops[i]);
    }
    for (unsigned i = 1; i < COUNT; i += 2)
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[i])), 0);
    finish_all(t);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQ(RES(ops[i]), i % 2 ? -ECANCELED : 0);
    free(ops);
}

static void a_deadline_ends_a_pending_read(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_time at;
    char byte;
    int fds[2];

    for (int socket = 0; socket < 2; socket++) {
        make_stream(t, socket, fds);
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        op->deadline = at = in_ms(t, 4);
        CHECK_EQ(do_op(t, op), -ETIMEDOUT);
        CHECK(ouro_now(t->loop) >= at);
        CHECK(CFLAGS(op) & OURO_C_TIMEDOUT);
        /* Nothing was eaten. */
        CHECK_EQ(write(fds[1], "x", 1), 1);
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        CHECK_EQ(do_op(t, op), 1);
    }
}

static void a_past_deadline_ends_it_at_once(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    op->deadline = OURO_NOWAIT;
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    ouro_prep_timer(op, in_ms(t, 3600000));
    op->deadline = in_ms(t, 2);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    ouro_prep_poll(op, fds[0], 1);
    op->deadline = in_ms(t, 2);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
}

static void a_deadline_not_met_changes_nothing(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte = 0;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    op->deadline = in_ms(t, 3600000);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "y", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK(!(CFLAGS(op) & (OURO_C_TIMEDOUT | OURO_C_CANCELED)));
    ouro_prep_nop(op);
    CHECK_EQ(op->deadline, 0);
    CHECK_EQ(do_op(t, op), 0);
}

static void deadline_on_exact_gives_the_bytes_moved(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[10];
    int fds[2];

    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    ouro_prep_read(op, fds[0], buf, 10, 0);
    op->flags = OURO_EXACT;
    op->deadline = in_ms(t, 20);
    start(t, op);
    finish(t, op);
    if (RES(op) == -ETIMEDOUT) { /* so slow that the deadline came before the first byte */
        CHECK_EQ(read(fds[0], buf, 10), 3);
        return;
    }
    CHECK_EQ(RES(op), 3);
    CHECK(CFLAGS(op) & OURO_C_TIMEDOUT);
    CHECK(memcmp(buf, "abc", 3) == 0);
}

/* The deadline and the data come together: one outcome, and it tells what became of the byte. */
static void deadline_against_completion_has_one_outcome(struct test *t)
{
    ouro_op *op = op_new(t), *check = op_new(t);
    unsigned taken = 0, timed_out = 0;
    char byte, again;
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 300; i++) {
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        op->deadline = ouro_now(t->loop) + (ouro_time)(i % 60) * 2000u;
        start(t, op);
        if (i & 1)
            step(t);
        CHECK_EQ(write(fds[1], "z", 1), 1);
        if (finish(t, op) == 1) {
            taken++;
            CHECK(byte == 'z');
        } else {
            CHECK_EQ(RES(op), -ETIMEDOUT);
            CHECK(CFLAGS(op) & OURO_C_TIMEDOUT);
            timed_out++;
            ouro_prep_read(check, fds[0], &again, 1, 0);
            CHECK_EQ(do_op(t, check), 1);
        }
    }
    CHECK_EQ(taken + timed_out, 300);
}

static void deadlines_fire_in_a_flood_of_completions(struct test *t)
{
    ouro_op *timer = op_new(t), *nops[64];

    for (int i = 0; i < 64; i++)
        nops[i] = op_new(t);
    ouro_prep_timer(timer, in_ms(t, 10));
    start(t, timer);
    while (!is_final(timer)) {
        CHECK(ouro_now(t->loop) < t->limit);
        for (int i = 0; i < 64; i++)
            ouro_prep_nop(nops[i]);
        CHECK_EQ(start_n(t, nops, 64), 64);
        for (int i = 0; i < 64; i++)
            finish(t, nops[i]);
        step(t); /* waiting for what is final already makes no turn */
        if (t->style == STYLE_WAIT && ouro_done(timer))
            finish(t, timer);
    }
}

struct gate {
    _Atomic bool open, entered;
};

static int64_t wait_at_gate(void *arg)
{
    struct gate *gate = arg;

    gate->entered = true;
    while (!gate->open)
        usleep(100);
    return 42;
}

static void work_that_runs_outlives_its_deadline(struct test *t)
{
    ouro_op *op = op_new(t), *timer = op_new(t);
    struct gate gate = { false, false };

    ouro_prep_work(op, wait_at_gate, &gate);
    op->deadline = in_ms(t, 5);
    start(t, op);
    step(t);
    ouro_prep_timer(timer, in_ms(t, 8));
    do_op(t, timer);
    gate.open = true;
    finish(t, op);
    CHECK_EQ(RES(op), gate.entered ? 42 : -ETIMEDOUT);
}

static void now_is_the_monotonic_clock(struct test *t)
{
    ouro_time a, b;
    struct timespec ts;

    a = ouro_now(t->loop);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    b = ouro_now(t->loop);
    CHECK(a <= (ouro_time)ts.tv_sec * OURO_S + (ouro_time)ts.tv_nsec);
    CHECK(b >= (ouro_time)ts.tv_sec * OURO_S + (ouro_time)ts.tv_nsec);
}

static const struct test_case cases[] = {
    { NAMED(a_timer_ends_at_its_time_not_before), .fixed = FIX_FD, .pitfalls = "C7 K13" },
    { NAMED(past_timers_end_at_the_next_turn), .fixed = FIX_FD },
    { NAMED(timers_end_in_order_of_their_times), .fixed = FIX_FD },
    { NAMED(many_timers_and_half_of_them_cancelled), .faults = "27", .fixed = FIX_FD },
    { NAMED(a_deadline_ends_a_pending_read), .pitfalls = "K12 S5" },
    { NAMED(a_past_deadline_ends_it_at_once) },
    { NAMED(a_deadline_not_met_changes_nothing) },
    { NAMED(deadline_on_exact_gives_the_bytes_moved), .pitfalls = "K6" },
    { NAMED(deadline_against_completion_has_one_outcome), .faults = "9", .pitfalls = "K14" },
    { NAMED(deadlines_fire_in_a_flood_of_completions), .fixed = FIX_FD, .pitfalls = "C11" },
    { NAMED(work_that_runs_outlives_its_deadline), .fixed = FIX_FD },
    { NAMED(now_is_the_monotonic_clock), .fixed = FIX_STYLE | FIX_FD | FIX_MASK, .pitfalls = "C7" },
    { .name = NULL },
};
const struct subject subject_time = { "time", cases };

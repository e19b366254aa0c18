/* SPDX-License-Identifier: MIT */
/* t_cost.c: what an operation costs besides itself: no allocation, and no system call too many. */
#include "sys.h"
#include "test.h"

enum { BATCH = 128 };
static struct ouro__sys real;
static _Atomic long allocations, enters, others;

static void *count_realloc(void *old, size_t size)
{
    allocations++;
    return real.realloc(old, size);
}

static long count_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                        size_t size)
{
    enters++;
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

/* Every other call of the table is counted as well. */
#define COUNTED(name, parameters, arguments) \
    static long other_##name parameters      \
    {                                        \
        others++;                            \
        return real.name arguments;          \
    }
SYS_CALLS(COUNTED)
#undef COUNTED

static void count_calls(void)
{
    real = ouro__sys;
#define INSTALL(name, parameters, arguments) ouro__sys.name = other_##name;
    SYS_CALLS(INSTALL)
#undef INSTALL
    ouro__sys.io_uring_enter = count_enter;
    ouro__sys.realloc = count_realloc;
}

static void batch_of_nops(struct test *t, ouro_op **ops)
{
    ouro_event events[BATCH];
    int done = 0;

    for (int i = 0; i < BATCH; i++)
        ouro_prep_nop(ops[i]);
    CHECK_EQ(start_n(t, ops, BATCH), BATCH);
    while (done < BATCH) {
        int count;

        CHECK(ouro_run(t->loop, (unsigned)(BATCH - done), t->limit) >= 0);
        while ((count = ouro_reap(t->loop, events, BATCH)) > 0)
            for (int i = 0; i < count; i++, done++)
                ledger_event(t, &events[i]);
    }
}

/* With calls counted, and after what happens only in the first turns. */
static void open_warm(struct test *t, ouro_op **ops)
{
    count_calls();
    open_loop(t);
    for (int i = 0; i < BATCH; i++)
        ops[i] = op_new(t);
    for (int i = 0; i < 20; i++)
        batch_of_nops(t, ops);
}

static void an_operation_allocates_nothing(struct test *t)
{
    ouro_op *ops[BATCH];

    t->config.alloc = NULL;
    open_warm(t, ops);
    allocations = 0;
    for (int i = 0; i < 100000 / BATCH; i++)
        batch_of_nops(t, ops);
    CHECK_EQ(allocations, 0);
    close_loop(t);
    ouro__sys = real;
}

static void other_kinds_allocate_nothing_either(struct test *t)
{
    ouro_op *ops[4] = { op_new(t), op_new(t), op_new(t), op_new(t) };
    struct ouro_stat st;
    char bytes[2];
    int fds[2], fd = make_file(t, "f", "abc", 3);

    t->config.alloc = NULL;
    t->config.max_workers = 1; /* a second one may start at any time, and has a record */
    t->config.max_blocking = 1;
    count_calls();
    open_loop(t);
    make_pipe(t, fds);
    for (int i = 0; i < 400; i++) {
        if (i == 200)
            allocations = 0;
        ouro_prep_read(ops[0], fds[0], &bytes[0], 1, 0);
        ops[0]->deadline = in_ms(t, 3600000);
        ouro_prep_read(ops[1], fd, &bytes[1], 1, 1);
        ouro_prep_stat(ops[2], OURO_HERE, "/", 0, &st);
        ouro_prep_timer(ops[3], in_ms(t, i % 2));
        CHECK_EQ(start_n(t, ops, 4), 4);
        if (i < 200 && i % 20 == 0)
            usleep(2000); /* it is waited for, and what that needs has grown by then */
        CHECK_EQ(write(fds[1], "x", 1), 1);
        for (int k = 0; k < 4; k++)
            finish(t, ops[k]);
    }
    CHECK_EQ(allocations, 0);
    close_loop(t);
    ouro__sys = real;
}

static void a_batch_enters_the_kernel_once(struct test *t)
{
    ouro_op *ops[BATCH];

    open_warm(t, ops);
    enters = others = 0;
    for (int i = 0; i < 1000; i++)
        batch_of_nops(t, ops);
    CHECK(enters <= 1000);
    CHECK_EQ(others, 0);
    close_loop(t);
    ouro__sys = real;
}

static const struct test_case cases[] = {
    { NAMED(an_operation_allocates_nothing), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .no_loop = true, .heavy = true, .seconds = 30 },
    { NAMED(other_kinds_allocate_nothing_either), .fixed = FIX_FD, .no_loop = true, .seconds = 20 },
    { NAMED(a_batch_enters_the_kernel_once), .fixed = FIX_STYLE | FIX_FD | FIX_MASK,
      .style = STYLE_REAP, .needs = NEED_OWNED | NEED_URING, .no_loop = true },
    { .name = NULL },
};
const struct subject subject_cost = { "cost", cases };

/* SPDX-License-Identifier: MIT */
/* t_limits.c: few descriptors, no locked memory, small and large numbers of operations. */
#include <signal.h>
#include <sys/resource.h>

#include "test.h"

static void ten_thousand_operations_in_flight(struct test *t)
{
    enum { COUNT = 10000 };
    ouro_op **ops = calloc(COUNT, sizeof *ops);
    ouro_counters c;

    CHECK(ops != NULL);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_timer(ops[i] = op_new(t), in_ms(t, 3600000 + i));
        start(t, ops[i]);
    }
    step(t);
    if (t->mode != MODE_SERVICE) {
        CHECK_EQ(ouro_get_counters(t->loop, &c, sizeof c), 0);
        CHECK_EQ(c.in_flight, COUNT);
    }
    for (int i = 0; i < COUNT; i += 2)
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[i])), 0);
    for (int i = 0; i < COUNT; i += 2)
        CHECK_EQ(finish(t, ops[i]), -ECANCELED);
    for (int i = 0; i < COUNT; i += 2) {
        ouro_prep_nop(ops[i]);
        start(t, ops[i]);
    }
    for (int i = 0; i < COUNT; i += 2)
        CHECK_EQ(finish(t, ops[i]), 0);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    finish_all(t);
    free(ops);
}

/* What ends without a word makes room as well. */
static void quiet_ends_make_room_for_what_is_posted(struct test *t)
{
    enum { MOST = 4 };
    ouro_op *timers[MOST], *posted;
    ouro_time at;

    t->config.max_ops = MOST;
    open_loop(t);
    at = in_ms(t, 30);
    posted = op_new(t);
    for (int i = 0; i < MOST; i++) {
        ouro_prep_timer(timers[i] = op_new(t), at);
        timers[i]->flags = OURO_QUIET;
        start(t, timers[i]);
    }
    ouro_prep_nop(posted);
    CHECK_EQ(start_post(t, posted), 0);
    step(t);
    CHECK_EQ(finish(t, posted), 0);
    for (int i = 0; i < MOST; i++)
        ledger_quiet(timers[i]);
}

static void thousands_of_reads_at_once(struct test *t)
{
    enum { COUNT = 3000 };
    ouro_op **ops = calloc(COUNT, sizeof *ops);
    static char bytes[COUNT];
    int fd = make_file(t, "f", "0123456789", 10);

    CHECK(ops != NULL);
    for (int i = 0; i < COUNT; i++)
        ouro_prep_read(ops[i] = op_new(t), fd, &bytes[i], 1, i % 10);
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    finish_all(t);
    for (int i = 0; i < COUNT; i++)
        CHECK(RES(ops[i]) == 1 && bytes[i] == '0' + i % 10);
    free(ops);
}

static void high_descriptors_work(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int r, fd = make_file(t, "f", "abc", 3), high = fcntl(fd, F_DUPFD_CLOEXEC, 5000);

    CHECK(high >= 5000);
    made(t, high);
    ouro_prep_read(op, high, buf, 4, 0);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_read(op, high, buf, 4, OURO_CUR);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_read(op, INT32_MAX, buf, 4, 0); /* refused, or found to be bad */
    r = start_try(t, op);
    CHECK_EQ(r < 0 ? r : finish(t, op), -EBADF);
}

/* A loop is had, or refused with the error and without a trace, at every number of descriptors. */
static void opening_with_few_descriptors_leaks_nothing(struct test *t)
{
    struct rlimit limit, less;
    long before = count_fds();
    unsigned refused = 0, opened = 0;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int free_fds = 0; free_fds < 12; free_fds++) {
        int held[64], count = 0, r;
        ouro_loop *loop = NULL;

        less = (struct rlimit){ 64, limit.rlim_max };
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &less), 0);
        while (count < 64 && (held[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
            count++;
        CHECK(count >= free_fds);
        for (int i = 0; i < free_fds; i++)
            close(held[--count]);
        r = ouro_open(&t->config, &loop);
        if (r == 0) {
            ouro_op op = { 0 };

            opened++;
            ouro_prep_nop(&op);
            CHECK_EQ(ouro_do(loop, &op), 0);
            CHECK_EQ(ouro_close(loop, OURO_FOREVER), 0);
        } else {
            refused++;
            CHECK(r == -EMFILE || r == -EOPNOTSUPP);
            CHECK(loop == NULL);
        }
        while (count)
            close(held[--count]);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        CHECK_EQ(count_fds(), before);
    }
    CHECK(opened > 0);
    CHECK(refused + opened == 12);
}

static void without_locked_memory_a_loop_is_still_had(struct test *t)
{
    struct rlimit none = { 0, 0 };
    ouro_op op = { 0 };
    ouro_config config = t->config;
    ouro_loop *loop;

    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    drop_privileges(65534);
    config.engine =
        NULL; /* automatic: the next engine, and a reason, if io_uring needs the memory */
    CHECK_EQ(ouro_open(&config, &loop), 0);
    if (strcmp(ouro_engine_name(loop), "uring") != 0)
        CHECK(strlen(ouro_engine_why(loop)) > 10);
    ouro_prep_nop(&op);
    CHECK_EQ(ouro_do(loop, &op), 0);
    CHECK_EQ(ouro_close(loop, OURO_FOREVER), 0);
}

static void many_rings_for_one_user_do_not_run_out(struct test *t)
{
    enum { COUNT = 60 };
    ouro_loop *loops[COUNT];
    ouro_config config = t->config;

    drop_privileges(65534);
    config.engine = NULL;
    config.depth = 4096;
    for (int i = 0; i < COUNT; i++) {
        ouro_op op = { 0 };

        CHECK_EQ(ouro_open(&config, &loops[i]), 0);
        ouro_prep_nop(&op);
        CHECK_EQ(ouro_do(loops[i], &op), 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(ouro_close(loops[i], OURO_FOREVER), 0);
}

static void a_file_size_limit_is_a_short_write_then_efbig(struct test *t)
{
    static char data[10000];
    struct rlimit limit = { 5000, RLIM_INFINITY };
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", NULL, 0);

    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ouro_prep_write(op, fd, data, 10000, 0);
    CHECK_EQ(do_op(t, op), 5000);
    ouro_prep_write(op, fd, data, 100, 5000);
    CHECK_EQ(do_op(t, op), -EFBIG);
    ouro_prep_write(op, fd, data, 10000, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 5000);
    CHECK_EQ(op->cause, -EFBIG);
}

static const struct test_case cases[] = {
    { NAMED(ten_thousand_operations_in_flight), .faults = "8", .fixed = FIX_FD,
      .pitfalls = "R16 C1", .heavy = true, .seconds = 30 },
    { NAMED(quiet_ends_make_room_for_what_is_posted), .needs = NEED_OWNED, .no_loop = true },
    { NAMED(thousands_of_reads_at_once), .fixed = FIX_FD, .pitfalls = "S1 C1 R16", .seconds = 30 },
    { NAMED(high_descriptors_work) },
    { NAMED(opening_with_few_descriptors_leaks_nothing), .faults = "7", .fixed = FIX_STYLE | FIX_FD,
      .no_loop = true },
    { NAMED(without_locked_memory_a_loop_is_still_had), .faults = "6", .fixed = FIX_STYLE | FIX_FD,
      .no_loop = true, .pitfalls = "R4" },
    { NAMED(many_rings_for_one_user_do_not_run_out), .faults = "6",
      .fixed = FIX_STYLE | FIX_FD | FIX_MASK, .no_loop = true, .heavy = true, .pitfalls = "R4",
      .seconds = 30 },
    { NAMED(a_file_size_limit_is_a_short_write_then_efbig), .faults = "1 4" },
    { .name = NULL },
};
const struct subject subject_limits = { "limits", cases };

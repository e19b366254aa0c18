/* SPDX-License-Identifier: MIT */
/* t_refusal.c: io_uring refused, before a loop is opened and while it is at work. Under --blocked
 * the whole suite runs with it refused; here are the refusals one by one. */
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>

#include "engine/ring.h"
#include "engine/uring_abi.h"
#include "sys.h"
#include "test.h"

static void works_without(struct test *t, unsigned which, int error)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int fds[2];

    block_io_uring(which, error);
    t->config.engine = NULL;
    open_loop(t);
    CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(1)) == 0);
    CHECK(strstr(ouro_engine_why(t->loop), "uring") != NULL);
    CHECK(strlen(ouro_engine_why(t->loop)) > 20);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], buf, 4, 0);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    CHECK_EQ(finish(t, op), 3);
}

static void setup_refused_by_eperm(struct test *t)
{
    works_without(t, BLOCK_SETUP, EPERM);
}

static void setup_refused_by_enosys(struct test *t)
{
    works_without(t, BLOCK_SETUP, ENOSYS);
}

static void setup_refused_by_eacces(struct test *t)
{
    works_without(t, BLOCK_SETUP, EACCES);
}

static void setup_refused_by_enomem(struct test *t)
{
    works_without(t, BLOCK_SETUP, ENOMEM);
}

static void setup_that_kills_kills_the_probe_only(struct test *t)
{
    works_without(t, BLOCK_SETUP, BLOCK_KILL);
}

static void enter_alone_refused(struct test *t)
{
    works_without(t, BLOCK_ENTER, EPERM);
}

static void enter_alone_kills(struct test *t)
{
    works_without(t, BLOCK_ENTER, BLOCK_KILL);
}

/* A ring without register is still a ring: on it or on the next engine, it must work. */
static void register_alone_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int fd;

    block_io_uring(BLOCK_REGISTER, EPERM);
    t->config.engine = NULL;
    open_loop(t);
    fd = make_file(t, "f", "abc", 3);
    ouro_prep_read(op, fd, buf, 4, 0);
    CHECK_EQ(do_op(t, op), 3);
    CHECK_EQ(ouro_register_buffers(t->loop, &(struct iovec){ buf, 4 }, 1), 0);
    ouro_prep_read(op, fd, buf, 4, 0);
    op->flags = OURO_REGBUF;
    CHECK_EQ(do_op(t, op), 3);
}

static void register_alone_kills(struct test *t)
{
    block_io_uring(BLOCK_REGISTER, BLOCK_KILL);
    t->config.engine = NULL;
    open_loop(t);
    ouro_op *op = op_new(t);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
}

static void refused_engines_are_reported_to_who_insists(struct test *t)
{
    ouro_loop *loop = NULL;
    char why[512] = "";
    uint64_t caps;

    block_io_uring(BLOCK_ALL, EPERM);
    t->config.engine = "uring";
    CHECK_EQ(ouro_open(&t->config, &loop), -EOPNOTSUPP);
    CHECK(loop == NULL);
    CHECK(ouro_probe("uring", why, sizeof why, &caps) < 0);
    CHECK(strlen(why) > 20);
    t->config.engine = "uring,threads";
    CHECK_EQ(ouro_open(&t->config, &t->loop), 0);
    CHECK(strcmp(ouro_engine_name(t->loop), "threads") == 0);
}

/* What the engine cannot do without, all of it in Linux 5.15; each is missed alone. */
#define NEEDED                                                                                   \
    (RING_FEAT_SINGLE_MMAP | RING_FEAT_NODROP | RING_FEAT_SUBMIT_STABLE | RING_FEAT_RW_CUR_POS | \
     RING_FEAT_FAST_POLL | RING_FEAT_EXT_ARG | RING_FEAT_RSRC_TAGS)

static long (*real_setup)(unsigned, struct ring_params *);
static unsigned lacking;

static long lacking_setup(unsigned entries, struct ring_params *params)
{
    long fd = real_setup(entries, params);

    params->features &= ~lacking;
    return fd;
}

static void a_ring_that_lacks_what_is_needed_is_refused(struct test *t)
{
    char why[512], bits[32];

    real_setup = ouro__sys.io_uring_setup;
    ouro__sys.io_uring_setup = lacking_setup;
    for (unsigned bit = 0; bit < 32; bit++) {
        ouro_op op = { 0 };
        bool needed = NEEDED >> bit & 1;

        lacking = 1u << bit;
        CHECK_EQ(ouro_probe("uring", why, sizeof(why), NULL), needed ? -EOPNOTSUPP : 0);
        t->config.engine = NULL;
        open_loop(t);
        CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(needed)) == 0);
        snprintf(bits, sizeof(bits), "bits 0x%x of", lacking);
        CHECK(!needed || (strstr(ouro_engine_why(t->loop), bits) && strstr(why, bits)));
        ouro_prep_nop(&op);
        CHECK_EQ(ouro_do(t->loop, &op), 0);
        close_loop(t);
    }
    ouro__sys.io_uring_setup = real_setup;
}

/* ---- Taken away at work -------------------------------------------------------------------- */

/* What may come of operations that were in flight: their real result, or -EIO with LOST. */
static void judge_lost(struct test *t, ouro_op *op, int64_t real)
{
    finish(t, op);
    if (CFLAGS(op) & OURO_C_LOST)
        CHECK_EQ(RES(op), -EIO);
    else
        CHECK_EQ(RES(op), real);
}

static void later_ones_work(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int fds[2];

    for (int i = 0; i < 3; i++) {
        ouro_prep_nop(op);
        CHECK_EQ(do_op(t, op), 0);
        make_pipe(t, fds);
        ouro_prep_read(op, fds[0], buf, 4, 0);
        start(t, op);
        step(t);
        CHECK_EQ(write(fds[1], "abc", 3), 3);
        CHECK_EQ(finish(t, op), 3);
        ouro_prep_read(op, make_file(t, "later", "xy", 2), buf, 4, 0);
        CHECK_EQ(do_op(t, op), 2);
        ouro_prep_timer(op, in_ms(t, 1));
        CHECK_EQ(do_op(t, op), 0);
    }
    CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(1)) == 0);
    CHECK(strstr(ouro_engine_why(t->loop), "uring") != NULL);
}

static void lose_the_ring(struct test *t, unsigned which, int error)
{
    enum { COUNT = 12 };
    ouro_op *reads[COUNT], *timer = op_new(t), *queued = op_new(t), *file = op_new(t);
    static char bytes[COUNT + 1], buf[8];
    int fds[COUNT][2], fd = make_file(t, "f", "abcdef", 6);

    t->config.engine = NULL;
    open_loop(t);
    CHECK(strcmp(ouro_engine_name(t->loop), "uring") == 0);
    for (int i = 0; i < COUNT; i++) {
        make_pipe(t, fds[i]);
        ouro_prep_read(reads[i] = op_new(t), fds[i][0], &bytes[i], 1, 0);
        start(t, reads[i]);
    }
    ouro_prep_timer(timer, in_ms(t, 20));
    start(t, timer);
    step(t);
    block_io_uring(which, error);
    ouro_prep_nop(queued); /* the ring never sees it: it must come out right */
    start(t, queued);
    ouro_prep_read(file, fd, buf, 8, 0);
    start(t, file);
    CHECK_EQ(finish(t, queued), 0);
    CHECK_EQ(finish(t, file), 6);
    CHECK_EQ(finish(t, timer), 0);
    /* A lost one is final now; the others read on the next engine what comes. */
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(write(fds[i][1], "z", 1), 1);
    for (int i = 0; i < COUNT; i++)
        judge_lost(t, reads[i], 1);
    later_ones_work(t);
}

static void enter_refused_at_work(struct test *t)
{
    lose_the_ring(t, BLOCK_ENTER, EPERM);
}

static void everything_refused_at_work(struct test *t)
{
    lose_the_ring(t, BLOCK_ALL, ENOSYS);
}

static void refused_at_work_then_cancelled_and_closed(struct test *t)
{
    ouro_op *ops[10];
    static char bytes[10];
    int fds[2];

    t->config.engine = NULL;
    open_loop(t);
    make_pipe(t, fds);
    for (int i = 0; i < 10; i++) {
        record_of(ops[i] = op_new(t))->own_cb = true;
        ouro_prep_read(ops[i], fds[0], &bytes[i], 1, 0);
        start(t, ops[i]);
    }
    step(t);
    block_io_uring(BLOCK_ALL, EPERM);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[0])), 0);
    close_loop(t);
    for (int i = 0; i < 10; i++)
        CHECK(RES(ops[i]) == -ECANCELED || (RES(ops[i]) == -EIO && CFLAGS(ops[i]) & OURO_C_LOST));
    /* The kernel is done with the buffers: what comes now is for others. */
    memset(bytes, 'k', sizeof bytes);
    CHECK_EQ(write(fds[1], "0123456789", 10), 10);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(bytes[i], 'k');
    CHECK_EQ(read(fds[0], bytes, 10), 10);
}

/* ---- Requests that are refused though the ring knows them ----------------------------------- */

static struct ouro__sys real;
static unsigned denied; /* an opcode */

static unsigned add_rules(struct ring_restriction *rules, uint16_t what, unsigned count)
{
    unsigned added = 0;

    for (unsigned i = 0; i < count; i++)
        if (what != RING_RESTRICT_SQE_OP || i != denied)
            rules[added++] = (struct ring_restriction){ .opcode = what, .what = (uint8_t)i };
    return added;
}

/* All but one are allowed, which takes a rule for each; one for a code that the kernel does not
 * know makes it refuse all. */
static long restrict_ring(int fd)
{
    static struct ring_restriction rules[256];
    static unsigned codes = 64, ops = 100;
    long r;

    do {
        unsigned count = add_rules(rules, RING_RESTRICT_REGISTER_OP, codes);

        count += add_rules(rules + count, RING_RESTRICT_SQE_OP, ops);
        rules[count++] =
            (struct ring_restriction){ .opcode = RING_RESTRICT_SQE_FLAGS_ALLOWED, .what = 0x7f };
        r = real.io_uring_register(fd, RING_REGISTER_RESTRICTIONS, rules, count);
        if (r < 0 && --ops < 40) {
            ops = 100;
            codes--;
        }
    } while (r == -EINVAL && codes > 20);
    return r;
}

/* A ring as a task gets it that is restricted (Linux 7.0). */
static long restricted_setup(unsigned entries, struct ring_params *params)
{
    unsigned disabled = params->flags & RING_SETUP_R_DISABLED;
    long fd;

    params->flags |= RING_SETUP_R_DISABLED;
    fd = real.io_uring_setup(entries, params);
    if (fd < 0)
        return fd;
    CHECK_EQ(restrict_ring((int)fd), 0);
    params->flags &= ~RING_SETUP_R_DISABLED | disabled;
    if (!disabled)
        CHECK_EQ(real.io_uring_register((int)fd, RING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
    return fd;
}

static void what_a_ring_refuses_is_done_another_way(struct test *t)
{
    real = ouro__sys;
    t->config.engine = NULL;
    ouro__sys.io_uring_setup = restricted_setup;
    for (denied = 0; denied <= RING_OP_LISTEN; denied++) {
        open_loop(t);
        /* A thread of the loop's own may have learned of it by now. */
        CHECK(t->mode == MODE_SERVICE || strcmp(ouro_engine_name(t->loop), "uring") == 0);
        work_on_files(t);
        work_on_sockets(t);
        work_on_the_rest(t);
        close_loop(t);
    }
    ouro__sys = real;
}

/* ---- One answer that is wrong, from the table of system calls ------------------------------ */

static long (*real_enter)(int, unsigned, unsigned, unsigned, const void *, size_t);
static _Atomic int answer, answers;

static long wrong_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                        size_t size)
{
    int left = answers;

    while (left > 0 && !atomic_compare_exchange_weak(&answers, &left, left - 1))
        ;
    if (left > 0)
        return answer;
    return real_enter(fd, submit, min, flags, arg, size);
}

static void open_with_wrong_enter(struct test *t)
{
    real_enter = ouro__sys.io_uring_enter;
    ouro__sys.io_uring_enter = wrong_enter;
    open_loop(t);
}

static void close_with_wrong_enter(struct test *t)
{
    close_loop(t);
    ouro__sys.io_uring_enter = real_enter;
}

static void passing_errors_of_enter_lose_nothing(struct test *t)
{
    static const int errors[] = { -EINTR, -EAGAIN, -EBUSY, -ENOMEM, 0 };
    ouro_op *ops[20];
    char byte;
    int fds[2];

    open_with_wrong_enter(t);
    make_pipe(t, fds);
    for (int i = 0; i < 20; i++)
        ops[i] = op_new(t);
    for (size_t k = 0; k < sizeof errors / sizeof *errors; k++) {
        for (int times = 1; times < 30; times *= 3) {
            for (int i = 0; i < 19; i++)
                ouro_prep_nop(ops[i]);
            ouro_prep_read(ops[19], fds[0], &byte, 1, 0);
            answer = errors[k];
            answers = times;
            CHECK_EQ(start_n(t, ops, 20), 20);
            for (int i = 0; i < 19; i++)
                CHECK_EQ(finish(t, ops[i]), 0);
            CHECK_EQ(write(fds[1], "e", 1), 1);
            answers = times;
            CHECK_EQ(finish(t, ops[19]), 1);
            answers = 0;
        }
    }
    close_with_wrong_enter(t);
}

/* A kernel without memory for a request says EAGAIN. To who has asked to receive that would mean
 * something else. */
static void what_is_refused_for_ever_ends(struct test *t)
{
    enum { COUNT = 20 };
    static const int errors[] = { -EAGAIN, -EBUSY };
    ouro_op *ops[COUNT];
    ouro_time since;
    char byte;
    int fds[2];

    open_with_wrong_enter(t);
    make_socketpair(t, fds);
    for (int i = 0; i < COUNT; i++)
        ops[i] = op_new(t);
    for (int k = 0; k < 4; k++) {
        bool refused = k % 2 == 0;

        for (int i = 0; i < COUNT - 1; i++)
            ouro_prep_nop(ops[i]);
        ouro_prep_recv(ops[COUNT - 1], fds[0], &byte, 1, 0);
        answer = errors[k / 2];
        answers = refused ? INT_MAX : 0;
        since = ouro_now(t->loop);
        CHECK_EQ(start_n(t, ops, COUNT), COUNT);
        CHECK_EQ(write(fds[1], "e", refused ? 0 : 1), !refused);
        for (int i = 0; i < COUNT; i++)
            CHECK_EQ(finish(t, ops[i]), refused ? -ENOMEM : i == COUNT - 1);
        if (!refused)
            continue;
        CHECK(ouro_now(t->loop) - since > 300 * OURO_MS); /* memory may come back */
        CHECK(INT_MAX - answers < 5000);                  /* meanwhile it was asked now and then */
    }
    close_with_wrong_enter(t);
}

static void dropped_completions_are_lost_not_awaited(struct test *t)
{
    ouro_op *ops[10];
    static char bytes[10];
    int fds[2];

    t->config.engine = NULL;
    open_with_wrong_enter(t);
    make_pipe(t, fds);
    for (int i = 0; i < 10; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, 0);
        start(t, ops[i]);
    }
    step(t);
    answer = -EBADR;
    answers = 1000000;
    CHECK_EQ(write(fds[1], "0123456789", 10), 10);
    for (int i = 0; i < 10; i++)
        judge_lost(t, ops[i], 1);
    for (int i = 0; i < 3; i++) { /* completions may be seen without a call: now there is one */
        ouro_prep_nop(ops[0]);
        CHECK_EQ(do_op(t, ops[0]), 0);
    }
    answers = 0;
    CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(1)) == 0);
    close_with_wrong_enter(t);
}

#define ALONE .fixed = FIX_STYLE | FIX_FD | FIX_MASK, .no_loop = true
#define LOST .fixed = FIX_FD, .no_loop = true, .needs = NEED_URING, .seconds = 20
static const struct test_case cases[] = {
    { NAMED(setup_refused_by_eperm), .faults = "14", ALONE },
    { NAMED(setup_refused_by_enosys), .faults = "14", ALONE },
    { NAMED(setup_refused_by_eacces), ALONE },
    { NAMED(setup_refused_by_enomem), .faults = "6", ALONE, .pitfalls = "R4" },
    { NAMED(setup_that_kills_kills_the_probe_only), .faults = "14", ALONE },
    { NAMED(enter_alone_refused), .faults = "14", ALONE },
    { NAMED(enter_alone_kills), .faults = "14", ALONE },
    { NAMED(register_alone_refused), .faults = "14", ALONE },
    { NAMED(register_alone_kills), .faults = "14", ALONE },
    { NAMED(refused_engines_are_reported_to_who_insists), ALONE },
    { NAMED(a_ring_that_lacks_what_is_needed_is_refused), ALONE, .needs = NEED_URING,
      .pitfalls = "C10" },
    { NAMED(enter_refused_at_work), LOST, .pitfalls = "S10" },
    { NAMED(everything_refused_at_work), .faults = "14", LOST, .pitfalls = "S10" },
    { NAMED(refused_at_work_then_cancelled_and_closed), .fixed = FIX_STYLE | FIX_FD,
      .no_loop = true, .needs = NEED_URING, .pitfalls = "S10 R9", .seconds = 20 },
    { NAMED(what_a_ring_refuses_is_done_another_way), .faults = "13", .fixed = FIX_FD | FIX_MASK,
      .heavy = true, .no_loop = true, .needs = NEED_URING, .seconds = 60 },
    { NAMED(passing_errors_of_enter_lose_nothing), .faults = "2 3", LOST,
      .pitfalls = "S4 S5 S6 S8" },
    { NAMED(what_is_refused_for_ever_ends), LOST, .heavy = true, .faults = "3", .pitfalls = "S7" },
    { NAMED(dropped_completions_are_lost_not_awaited), LOST, .pitfalls = "S9" },
    { .name = NULL },
};
const struct subject subject_refusal = { "refusal", cases };

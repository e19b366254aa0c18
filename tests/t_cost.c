/* SPDX-License-Identifier: MIT */
/* t_cost.c: what an operation costs besides itself: no allocation, and no system call too many. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/ring.h"
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

/* ---- What the ring is asked for ------------------------------------------------------------ */

static _Atomic unsigned features, setup_flags, sleeps, idle_sleeps, looks;
static int ring_fd;

static long watched_setup(unsigned entries, struct ring_params *params)
{
    long fd = real.io_uring_setup(entries, params);

    if (fd >= 0) {
        ring_fd = (int)fd;
        features = params->features;
        setup_flags = params->flags;
    }
    return fd;
}

static long watched_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                          size_t size)
{
    enters++;
    looks += !!(flags & RING_ENTER_GETEVENTS);
    if (min && flags & RING_ENTER_GETEVENTS) {
        sleeps++;
        idle_sleeps += !!(flags & RING_ENTER_NO_IOWAIT);
    }
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static void watch_the_ring(struct test *t)
{
    real = ouro__sys;
    ouro__sys.io_uring_setup = watched_setup;
    ouro__sys.io_uring_enter = watched_enter;
    open_loop(t);
}

/* Else a machine whose programs wait for pipes looks as if its disks were slow. */
static void a_sleep_in_the_ring_is_no_wait_for_a_disk(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    watch_the_ring(t);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    op->deadline = in_ms(t, 20);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    CHECK(sleeps > 0);
    CHECK_EQ(idle_sleeps, features & RING_FEAT_NO_IOWAIT ? sleeps : 0);
    close_loop(t);
    ouro__sys = real;
}

/* No thread of the kernel spins for the loop, with the rights of whoever opened it, and what cannot
 * be polled for (sockets, timers) works. */
static void nobody_polls_for_the_loop(struct test *t)
{
    ouro_op *op = op_new(t), *timer = op_new(t);
    char path[64], line[128], byte;
    int fds[2], sq_thread = 0;
    FILE *info;

    watch_the_ring(t);
    CHECK_EQ(setup_flags & (RING_SETUP_IOPOLL | RING_SETUP_SQPOLL), 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", ring_fd);
    info = fopen(path, "re");
    while (info && fgets(line, sizeof line, info))
        sscanf(line, "SqThread: %d", &sq_thread);
    if (info)
        fclose(info);
    CHECK(sq_thread <= 0);
    make_socketpair(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    ouro_prep_timer(timer, in_ms(t, 5));
    CHECK_EQ(do_op(t, timer), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    close_loop(t);
    ouro__sys = real;
}

/* Who gets the open file may have a read for the device, which must not wait until others' bytes
 * are copied. */
static void an_open_is_reported_before_the_kernel_copies(struct test *t)
{
    ouro_op *open = op_new(t), *read = op_new(t);
    char byte;
    int fds[2];

    watch_the_ring(t);
    make_pipe(t, fds);
    for (int i = 0; i < 20; i++) {
        ouro_prep_read(read, fds[0], &byte, 1, 0);
        start(t, read);
        step(t);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        ouro_prep_open(open, OURO_HERE, "/", O_RDONLY | O_DIRECTORY, 0); /* always cached */
        start(t, open);
        enters = 0;
        looks = 0;
        CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
        CHECK(is_final(open) && RES(open) >= 0);
        if (setup_flags & RING_SETUP_DEFER_TASKRUN) {
            CHECK_EQ(enters, 1);
            CHECK_EQ(looks, 0);
            CHECK(!is_final(read));
        }
        CHECK_EQ(finish(t, read), 1);
        close((int)RES(open));
    }
    close_loop(t);
    ouro__sys = real;
}

/* One call for each, as in a plain loop: nothing asks again what the loop has opened. */
static void reading_from_memory_is_one_call(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd, memory = made(t, memfd_create("m", MFD_CLOEXEC));
    char path[32], byte;

    count_calls();
    open_loop(t);
    CHECK_EQ(write(memory, "a", 1), 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0);
    fd = (int)do_op(t, op);
    CHECK(fd >= 0);
    ouro_prep_read(op, fd, &byte, 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    enters = others = 0;
    for (int i = 0; i < 100; i++) {
        start(t, op);
        CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
        CHECK_EQ(finish(t, op), 1);
    }
    CHECK_EQ(enters, 0);
    CHECK(others <= 110); /* and the clock, now and then */
    ouro_prep_close(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    close_loop(t);
    ouro__sys = real;
}

/* ---- Streams that share a pool -------------------------------------------------------------- */

enum { CROWD = 40, CROWD_BUFFERS = 256, CROWD_ROUNDS = 16 };
static ouro_pool *crowd_pool;
static _Atomic long entries, arrived;

static long counted_entries(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                            size_t size)
{
    entries += submit;
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static void crowd_took(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    arrived += res > 0;
    CHECK_EQ(ouro_pool_release(crowd_pool, data), 0);
}

static void crowd_speaks(struct test *t, int (*fds)[2], long round)
{
    for (int i = 0; i < CROWD; i++)
        CHECK_EQ(write(fds[i][1], "x", 1), 1);
    while (arrived < round * CROWD)
        CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
}

/* However many speak at once: after a while there are buffers enough where the kernel looks for
 * them, and no stream is started again and again. */
static void streams_that_share_a_pool_go_on_by_themselves(struct test *t)
{
    int fds[CROWD][2];
    ouro_op *ops[CROWD];
    long before;

    real = ouro__sys;
    ouro__sys.io_uring_enter = counted_entries;
    open_loop(t);
    CHECK_EQ(ouro_pool_create(t->loop, CROWD_BUFFERS, 64, &crowd_pool), 0);
    for (int i = 0; i < CROWD; i++) {
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds[i]), 0);
        ops[i] = op_new(t);
        record_of(ops[i])->more = crowd_took;
        ouro_prep_recv_many(ops[i], fds[i][0], crowd_pool, 0);
        start(t, ops[i]);
    }
    for (long round = 1; round <= CROWD_ROUNDS; round++)
        crowd_speaks(t, fds, round);
    before = entries;
    for (long round = CROWD_ROUNDS + 1; round <= 2 * CROWD_ROUNDS; round++)
        crowd_speaks(t, fds, round);
    CHECK(entries <= before + 2); /* the doorbell's */
    for (int i = 0; i < CROWD; i++) {
        close(fds[i][1]);
        CHECK_EQ(finish(t, ops[i]), 0);
        close(fds[i][0]);
    }
    CHECK_EQ(ouro_pool_destroy(crowd_pool), 0);
    close_loop(t);
    ouro__sys = real;
}

static const struct test_case cases[] = {
    { NAMED(an_operation_allocates_nothing), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .no_loop = true, .heavy = true, .seconds = 30 },
    { NAMED(other_kinds_allocate_nothing_either), .fixed = FIX_FD, .no_loop = true, .seconds = 20 },
    { NAMED(a_batch_enters_the_kernel_once), .fixed = FIX_STYLE | FIX_FD | FIX_MASK,
      .style = STYLE_REAP, .needs = NEED_OWNED | NEED_URING, .no_loop = true },
    { NAMED(a_sleep_in_the_ring_is_no_wait_for_a_disk), .fixed = FIX_STYLE | FIX_FD,
      .needs = NEED_URING, .no_loop = true, .pitfalls = "C8" },
    { NAMED(an_open_is_reported_before_the_kernel_copies), .fixed = FIX_ALL, .needs = NEED_URING,
      .no_loop = true },
    { NAMED(nobody_polls_for_the_loop), .fixed = FIX_FD, .needs = NEED_URING, .no_loop = true,
      .pitfalls = "R12 R15" },
    { NAMED(reading_from_memory_is_one_call), .fixed = FIX_STYLE | FIX_FD | FIX_MASK,
      .style = STYLE_REAP, .needs = NEED_OWNED | NEED_URING, .no_loop = true },
    { NAMED(streams_that_share_a_pool_go_on_by_themselves), .fixed = FIX_STYLE | FIX_FD | FIX_MASK,
      .style = STYLE_CALLBACK, .needs = NEED_OWNED | NEED_URING, .no_loop = true },
    { .name = NULL },
};
const struct subject subject_cost = { "cost", cases };

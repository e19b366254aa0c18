/* SPDX-License-Identifier: MIT */
/* t_sqpoll.c: a thread of the kernel that takes what is submitted (OURO_CAP_SQPOLL), where io_uring
 * has that; and what must be the same without. */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "core.h"
#include "engine/uring.h"
#include "sys.h"
#include "test.h"

#define POLLING (OURO_CAP_SQPOLL | OURO_CAP_CREDENTIALS)
#define NOBODY 65534

/* ---- Helpers --------------------------------------------------------------------------------- */

/* Small, so that its queues are full soon. */
static bool want_polling(struct test *t)
{
    t->config.depth = 8;
    return open_loop_wanting(t, POLLING);
}

static const struct ring *ring_of(struct test *t)
{
    return &((struct uring *)t->loop->engine_state)->ring;
}

static bool sleeps(struct test *t)
{
    return ring_sq_flags(ring_of(t)) & RING_SQ_NEED_WAKEUP;
}

static void await_sleep(struct test *t)
{
    while (!sleeps(t)) {
        CHECK(ouro_now(t->loop) < t->limit);
        usleep(1000);
    }
}

static ouro_op *start_read(struct test *t, int fd, void *buf, size_t len)
{
    ouro_op *op = op_new(t);

    ouro_prep_read(op, fd, buf, len, OURO_CUR);
    start(t, op);
    return op;
}

static void do_nop(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
}

static void expect_byte(struct test *t, ouro_op *op, int fd)
{
    step(t);
    CHECK_EQ(write(fd, "b", 1), 1);
    CHECK_EQ(finish(t, op), 1);
}

/* ---- Operations ------------------------------------------------------------------------------ */

static void files_work(struct test *t)
{
    char first[4], second[8];
    struct iovec parts[2] = { { (char[]){ "abc" }, 3 }, { (char[]){ "defgh" }, 5 } };
    struct iovec room[2] = { { first, 4 }, { second, 8 } };
    const char *path = path_in(t, "f");
    ouro_op *op = op_new(t);
    struct ouro_stat st;
    int fd;

    (void)want_polling(t);
    ouro_prep_open(op, OURO_HERE, path, O_RDWR | O_CREAT, 0600);
    fd = (int)do_op(t, op);
    CHECK(fd >= 0);
    ouro_prep_writev(op, fd, parts, 2, 0, 0);
    CHECK_EQ(do_op(t, op), 8);
    ouro_prep_fsync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_readv(op, fd, room, 2, 0, 0);
    CHECK_EQ(do_op(t, op), 8);
    CHECK(memcmp(first, "abcd", 4) == 0 && memcmp(second, "efgh", 4) == 0);
    ouro_prep_stat(op, OURO_HERE, path, 0, &st);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(st.size, 8);
    ouro_prep_close(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0);
    fd = (int)do_op(t, op);
    ouro_prep_read(op, fd, second, 8, 3);
    CHECK_EQ(do_op(t, op), 5);
    CHECK(memcmp(second, "defgh", 5) == 0);
    ouro_prep_close(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_unlink(op, OURO_HERE, path, 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -ENOENT);
}

/* An opened slot is known to the ring, its close is taken behind what used it. */
static void slots_with_descriptors_work(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];

    (void)want_polling(t);
    CHECK_EQ(ouro_direct_table(t->loop, 2), 0);
    for (int i = 0; i < 20; i++) {
        char text[] = { 'a', (char)('a' + i) };

        close(make_file(t, "f", text, 2));
        unmade(t, t->made[t->made_count - 1]);
        ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 1);
        CHECK_EQ(do_op(t, op), 0);
        ouro_prep_read(op, 1, buf, 8, 0);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 2);
        CHECK(memcmp(buf, text, 2) == 0);
        ouro_prep_close(op, 1);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 0);
    }
}

static void timers_cancels_exact_and_serial_work(struct test *t)
{
    ouro_op *op = op_new(t), *first, *second, *timer = op_new(t);
    char buf[8], bytes[2];
    int fds[2];

    (void)want_polling(t);
    make_pipe(t, fds);
    ouro_prep_timer(timer, in_ms(t, 5));
    CHECK_EQ(do_op(t, timer), 0);
    ouro_prep_read(op, fds[0], buf, 8, OURO_CUR);
    op->deadline = in_ms(t, 5);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    cancel_and_finish(t, start_read(t, fds[0], buf, 8));
    ouro_prep_read(op, fds[0], buf, 8, OURO_CUR);
    op->flags = OURO_EXACT;
    op->deadline = 0;
    start(t, op);
    for (int i = 0; i < 8; i++) {
        step(t);
        CHECK_EQ(write(fds[1], &"12345678"[i], 1), 1);
    }
    CHECK_EQ(finish(t, op), 8);
    CHECK(memcmp(buf, "12345678", 8) == 0);
    ouro_prep_read(first = op_new(t), fds[0], &bytes[0], 1, OURO_CUR);
    ouro_prep_read(second = op_new(t), fds[0], &bytes[1], 1, OURO_CUR);
    first->flags = second->flags = OURO_SERIAL;
    start(t, first);
    start(t, second);
    step(t);
    CHECK_EQ(write(fds[1], "xy", 2), 2);
    CHECK_EQ(finish(t, second), 1);
    CHECK_EQ(finish(t, first), 1);
    CHECK(memcmp(bytes, "xy", 2) == 0);
}

/* ---- Full queues ----------------------------------------------------------------------------- */

static void a_full_queue_is_waited_for(struct test *t)
{
    enum { COUNT = 1000 };
    static ouro_op *ops[COUNT];
    static char bytes[COUNT];
    int fds[2];

    (void)want_polling(t);
    make_pipe(t, fds);
    for (int i = 0; i < COUNT; i++)
        ouro_prep_nop(ops[i] = op_new(t));
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(finish(t, ops[i]), 0);
    /* More than the queue of completions holds; only the last to be written may end the others. */
    for (int i = 0; i < COUNT; i++)
        ouro_prep_read(ops[i], fds[0], &bytes[i], 1, OURO_CUR);
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    ouro_prep_write(ops[0] = op_new(t), fds[1], bytes, COUNT, OURO_CUR);
    CHECK_EQ(do_op(t, ops[0]), COUNT);
    finish_all(t);
    for (int i = 1; i < COUNT; i++)
        CHECK_EQ(RES(ops[i]), 1);
}

/* Vectors that are sent, and headers, are read when an entry is taken: each has its own. */
static void headers_stay_until_they_are_read(struct test *t)
{
    enum { COUNT = 200 };
    static struct {
        ouro_op *send, *receive;
        struct iovec parts[2], room;
        struct msghdr out, in;
        char from[2][4], to[8];
    } flows[COUNT];
    int fds[2];

    (void)want_polling(t);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    made(t, fds[0]);
    made(t, fds[1]);
    for (int i = 0; i < COUNT; i++) {
        snprintf(flows[i].from[0], 4, "%03d", i);
        snprintf(flows[i].from[1], 4, "%03d", COUNT - i);
        flows[i].parts[0] = (struct iovec){ flows[i].from[0], 4 };
        flows[i].parts[1] = (struct iovec){ flows[i].from[1], 4 };
        flows[i].room = (struct iovec){ flows[i].to, 8 };
        flows[i].out = (struct msghdr){ .msg_iov = flows[i].parts, .msg_iovlen = 2 };
        flows[i].in = (struct msghdr){ .msg_iov = &flows[i].room, .msg_iovlen = 1 };
        ouro_prep_recvmsg(flows[i].receive = op_new(t), fds[0], &flows[i].in, 0);
        flows[i].send = op_new(t);
        if (i % 2)
            ouro_prep_sendmsg(flows[i].send, fds[1], &flows[i].out, 0);
        else
            ouro_prep_writev(flows[i].send, fds[1], flows[i].parts, 2, OURO_CUR, 0);
        flows[i].send->flags = flows[i].receive->flags = OURO_SERIAL;
        start(t, flows[i].receive);
    }
    for (int i = 0; i < COUNT; i++)
        start(t, flows[i].send);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(finish(t, flows[i].send), 8);
        CHECK_EQ(finish(t, flows[i].receive), 8);
        CHECK(memcmp(flows[i].to, flows[i].from, 8) == 0);
    }
}

/* The same at once, on sockets of their own. */
static void vectors_of_many_sockets_are_not_mixed(struct test *t)
{
    enum { COUNT = 20, ROUNDS = 20 };
    static struct {
        ouro_op *op;
        struct iovec parts[2];
        char from[2][4], to[8];
        int fds[2];
    } flows[COUNT];

    (void)want_polling(t);
    for (int i = 0; i < COUNT; i++) {
        make_socketpair(t, flows[i].fds);
        flows[i].op = op_new(t);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++) {
            snprintf(flows[i].from[0], 4, "%03d", i);
            snprintf(flows[i].from[1], 4, "%03d", round);
            flows[i].parts[0] = (struct iovec){ flows[i].from[0], 4 };
            flows[i].parts[1] = (struct iovec){ flows[i].from[1], 4 };
            ouro_prep_writev(flows[i].op, flows[i].fds[1], flows[i].parts, 2, OURO_CUR, 0);
            start(t, flows[i].op);
        }
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(finish(t, flows[i].op), 8);
            CHECK_EQ(read(flows[i].fds[0], flows[i].to, 8), 8);
            CHECK(memcmp(flows[i].to, flows[i].from, 8) == 0);
        }
    }
}

static _Atomic unsigned came;

static void buffer_came(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK(res > 0 && data);
    came++;
}

/* There are few buffers in the ring at first, and none comes back. */
static void all_buffers_come_into_use(struct test *t)
{
    enum { BUFFERS = 64, SIZE = 64 };
    static char data[BUFFERS * SIZE];
    ouro_op *op = op_new(t);
    ouro_pool *pool;
    int fds[2];

    (void)want_polling(t);
    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, SIZE, &pool), 0);
    make_socketpair(t, fds);
    record_of(op)->more = buffer_came;
    ouro_prep_recv_many(op, fds[0], pool, 0);
    start(t, op);
    CHECK_EQ(send(fds[1], data, sizeof(data), 0), sizeof(data));
    while (came < BUFFERS) {
        CHECK(ouro_now(t->loop) < t->limit);
        step(t);
        reap_all(t);
        usleep(100);
    }
    cancel_and_finish(t, op);
    CHECK_EQ(ouro_pool_destroy(pool), 0);
}

/* ---- Awake and asleep ------------------------------------------------------------------------ */

static void a_sleeping_thread_is_woken(struct test *t)
{
    char byte;
    int fds[2];

    if (!want_polling(t))
        return;
    make_pipe(t, fds);
    do_nop(t);
    for (int i = 0; i < 5; i++) {
        await_sleep(t);
        do_nop(t);
        await_sleep(t);
        expect_byte(t, start_read(t, fds[0], &byte, 1), fds[1]);
    }
}

/* What waits is ended by a thread that sleeps, and so is the wait of who posts and wakes. */
static void events_reach_a_sleeping_thread(struct test *t)
{
    char bytes[10];
    ouro_op *ops[10];
    int fds[10][2];

    if (!want_polling(t))
        return;
    for (int i = 0; i < 10; i++) {
        make_pipe(t, fds[i]);
        ops[i] = start_read(t, fds[i][0], &bytes[i], 1);
    }
    for (int i = 0; i < 5; i++) {
        step(t);
        await_sleep(t);
        CHECK_EQ(write(fds[i][1], "b", 1), 1);
        CHECK_EQ(finish(t, ops[i]), 1);
        await_sleep(t);
        ouro_prep_nop(ops[i]);
        CHECK_EQ(start_post(t, ops[i]), 0);
        CHECK_EQ(finish(t, ops[i]), 0);
        await_sleep(t);
        cancel_and_finish(t, ops[9 - i]);
    }
}

/* A loop that only waits hands nothing over. */
static void who_waits_lets_it_sleep(struct test *t)
{
    ouro_op *timer = op_new(t);

    if (!want_polling(t))
        return;
    do_nop(t);
    for (int i = 0; i < 5; i++) {
        await_sleep(t);
        ouro_prep_timer(timer, in_ms(t, 5));
        CHECK_EQ(do_op(t, timer), 0);
        CHECK(sleeps(t));
    }
}

static struct ouro__sys real;
static _Atomic unsigned enters, handed;

static long counted_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                          size_t size)
{
    enters++;
    handed += submit > 0;
    CHECK(submit ? flags & RING_ENTER_SQ_WAKEUP : !(flags & RING_ENTER_SQ_WAKEUP));
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static long sleepless_setup(unsigned entries, struct ring_params *params)
{
    if (params && params->flags & RING_SETUP_SQPOLL) {
        CHECK_EQ(params->sq_thread_idle, URING_POLL_MS);
        params->sq_thread_idle = 600000;
    }
    return real.io_uring_setup(entries, params);
}

static bool open_sleepless(struct test *t)
{
    bool polls;

    real = ouro__sys;
    ouro__sys.io_uring_setup = sleepless_setup;
    ouro__sys.io_uring_enter = counted_enter;
    polls = want_polling(t);
    if (polls)
        do_nop(t); /* a new one sleeps */
    handed = 0;
    return polls;
}

static void an_awake_thread_is_handed_nothing(struct test *t)
{
    static ouro_op *ops[300];
    char byte;
    int fds[2];

    if (open_sleepless(t)) {
        make_pipe(t, fds);
        for (int i = 0; i < 300; i++)
            ouro_prep_nop(ops[i] = op_new(t));
        CHECK_EQ(start_n(t, ops, 300), 300);
        finish_all(t);
        expect_byte(t, start_read(t, fds[0], &byte, 1), fds[1]);
        CHECK_EQ(handed, 0);
    }
    close_loop(t);
    ouro__sys = real;
}

/* Neither the submission nor the look for its end. */
static void an_awake_thread_needs_no_call_at_all(struct test *t)
{
    ouro_op *op = op_new(t);

    if (open_sleepless(t)) {
        do_nop(t);
        step(t);
        for (int i = 0; i < 10; i++) {
            unsigned before = enters;

            ouro_prep_nop(op);
            start(t, op);
            CHECK_EQ(ouro_flush(t->loop), 0);
            while (!is_final(op)) {
                CHECK(ouro_now(t->loop) < t->limit);
                usleep(200); /* the thread needs a processor, too */
                step(t);
                if (t->style == STYLE_WAIT && ouro_done(op))
                    CHECK_EQ(finish(t, op), 0);
            }
            CHECK_EQ(enters, before);
        }
    }
    close_loop(t);
    ouro__sys = real;
}

/* ---- Loss, fork, and the end ----------------------------------------------------------------- */

/* Its real result, or lost. */
static void judge(struct test *t, ouro_op *op, int64_t result)
{
    finish(t, op);
    CHECK_EQ(RES(op), CFLAGS(op) & OURO_C_LOST ? -EIO : result);
}

/* What the kernel was shown while its thread slept may run for as long as the ring lives. */
static void a_lost_ring_gives_nothing_back_that_it_was_shown(struct test *t)
{
    static char waits, shown;
    ouro_op *waiting, *late;
    int fds[2], later[2];
    pid_t child;

    t->config.engine = NULL;
    if (!want_polling(t))
        return;
    make_pipe(t, fds);
    make_pipe(t, later);
    waiting = start_read(t, fds[0], &waits, 1);
    do_nop(t);
    await_sleep(t);
    child = fork(); /* its copy of the descriptor keeps the ring */
    if (child == 0) {
        pause();
        _exit(0);
    }
    block_io_uring(BLOCK_ENTER | BLOCK_REGISTER, EPERM);
    late = start_read(t, later[0], &shown, 1);
    do { /* the ring, while it is there, could cancel them */
        CHECK(ouro_now(t->loop) < t->limit);
        let_pass(t);
    } while (strcmp(ouro_engine_name(t->loop), "uring") == 0);
    CHECK_EQ(ouro_done(waiting) + ouro_done(late), 0);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    let_pass(t);
    CHECK_EQ(ouro_done(waiting), 0);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    judge(t, waiting, -ECANCELED);
    judge(t, late, -ECANCELED);
    waits = shown = 'k';
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(write(later[1], "x", 1), 1);
    usleep(5000);
    CHECK_EQ(waits, 'k');
    CHECK_EQ(shown, 'k');
    do_nop(t);
}

/* Some are shown to the kernel, some only written, some not even that: each ends once, and later
 * ones are the next engine's. */
static void a_lost_ring_ends_all_it_had(struct test *t, unsigned which)
{
    enum { COUNT = 40 };
    static ouro_op *ops[COUNT];
    static char bytes[COUNT];
    ouro_op *nop = op_new(t);
    int fds[2];

    t->config.engine = NULL;
    if (!want_polling(t))
        return;
    make_pipe(t, fds);
    do_nop(t);
    await_sleep(t);
    block_io_uring(which, EPERM);
    for (int i = 0; i < COUNT; i++)
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, OURO_CUR);
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    ouro_prep_nop(nop);
    start(t, nop);
    judge(t, nop, 0);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(write(fds[1], "z", 1), 1);
    for (int i = 0; i < COUNT; i++)
        judge(t, ops[i], 1);
    do_nop(t);
    CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(1)) == 0);
}

static void a_lost_ring_ends_what_it_was_shown(struct test *t)
{
    a_lost_ring_ends_all_it_had(t, BLOCK_ENTER);
}

static void a_ring_lost_altogether_ends_what_it_was_shown(struct test *t)
{
    a_lost_ring_ends_all_it_had(t, BLOCK_ALL);
}

static void parent_and_child_have_a_ring_each(struct test *t)
{
    char mine = 0, theirs = 0;
    ouro_op *pending, *op;
    int fds[2], other[2];
    pid_t child;

    if (!want_polling(t))
        return;
    make_pipe(t, fds);
    make_pipe(t, other);
    pending = start_read(t, fds[0], &mine, 1);
    do_nop(t);
    child = fork();
    if (child == 0) {
        CHECK_EQ(ouro_fork_child(t->loop), 0);
        CHECK(t->loop->caps & OURO_CAP_SQPOLL);
        ledger_forget(pending);
        if (t->style == STYLE_HOSTED) /* its descriptor is another now */
            t->style = STYLE_CALLBACK;
        do_nop(t);
        await_sleep(t);
        expect_byte(t, start_read(t, other[0], &theirs, 1), other[1]);
        _exit(ouro_close(t->loop, OURO_FOREVER) == 0 ? 0 : 2);
    }
    expect_exit_zero(child);
    do_nop(t);
    op = start_read(t, other[0], &theirs, 1);
    CHECK(!is_final(pending));
    expect_byte(t, pending, fds[1]);
    CHECK_EQ(mine, 'b');
    expect_byte(t, op, other[1]);
}

/* Awake or asleep, with entries that nobody has taken yet. The harness looks for what is left. */
static void a_close_releases_all(struct test *t)
{
    static char bytes[100];
    int fds[2];

    make_pipe(t, fds);
    for (int round = 0; round < 4; round++) {
        ouro_op *timer;

        if (!want_polling(t))
            return;
        if (round % 2)
            await_sleep(t);
        timer = op_new(t);
        ouro_prep_timer(timer, in_ms(t, 3600000));
        record_of(timer)->own_cb = true;
        start(t, timer);
        for (int i = 0; i < 100; i++) {
            ouro_op *op = op_new(t);

            ouro_prep_read(op, fds[0], &bytes[i], 1, OURO_CUR);
            record_of(op)->own_cb = true;
            start(t, op);
        }
        if (round / 2)
            step(t);
        close_loop(t);
    }
    memset(bytes, 'k', sizeof(bytes));
    CHECK_EQ(write(fds[1], bytes, 1), 1);
    CHECK_EQ(read(fds[0], bytes, 100), 1);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static int try_want(struct test *t, uint64_t want, uint64_t mask)
{
    int r;

    t->config.want = want;
    t->config.mask = mask;
    r = open_loop_try(t);
    if (r == 0)
        close_loop(t);
    return r;
}

static void only_who_asks_is_polled_for(struct test *t)
{
    static const uint64_t not_beside[] = { OURO_CAP_DEFER, OURO_CAP_SINGLE, OURO_CAP_RING_FD,
                                           OURO_CAP_RESIZE, OURO_CAP_SLOTS };
    int r = try_want(t, POLLING, 0);

    CHECK(r == 0 || r == -EOPNOTSUPP);
    CHECK_EQ(try_want(t, POLLING, OURO_CAP_SQPOLL), -EOPNOTSUPP);
    CHECK_EQ(try_want(t, POLLING, OURO_CAP_CREDENTIALS), -EOPNOTSUPP);
    CHECK_EQ(try_want(t, OURO_CAP_CREDENTIALS, 0), -EOPNOTSUPP);
    for (size_t i = 0; i < sizeof(not_beside) / sizeof(*not_beside); i++)
        CHECK_EQ(try_want(t, POLLING | not_beside[i], 0), -EOPNOTSUPP);
    CHECK_EQ(try_want(t, 0, 0), 0);
    open_loop(t);
    CHECK_EQ(t->loop->caps & POLLING, 0);
}

/* Why it is refused; "": it is not. */
static const char *refusal(struct test *t)
{
    static char why[2048];
    ouro_config config = t->config;
    ouro_op op = { 0 };
    ouro_loop *loop;
    int r;

    config.depth = 8;
    config.want = OURO_CAP_SQPOLL;
    r = ouro__open_why(&config, &loop, why, sizeof(why));
    if (r < 0) {
        CHECK_EQ(r, -EOPNOTSUPP);
        return why;
    }
    CHECK_EQ(loop->caps & POLLING, OURO_CAP_SQPOLL);
    ouro_prep_nop(&op);
    CHECK_EQ(ouro_do(loop, &op), 0);
    CHECK_EQ(ouro_close(loop, OURO_FOREVER), 0);
    return "";
}

static void refused_for(struct test *t, const char *cause)
{
    const char *why = refusal(t);

    if (!strstr(why, cause) || !strstr(why, "OURO_CAP_CREDENTIALS"))
        FAIL("\"%s\" in \"%s\"", cause, why);
}

/* R12, by the processes that root can make. */
static void who_may_change_must_acknowledge_that(struct test *t)
{
    if (geteuid() != 0)
        return;
    refused_for(t, "it is root");
    for (int way = 0; way < 4; way++) {
        pid_t child = fork();

        if (child == 0) {
            CHECK_EQ(prctl(PR_SET_KEEPCAPS, way == 3, 0, 0, 0), 0);
            CHECK_EQ(setresgid(NOBODY, NOBODY, way == 2 ? 0 : NOBODY), 0);
            CHECK_EQ(setresuid(way == 1 ? 0 : NOBODY, NOBODY, NOBODY), 0);
            if (way == 0)
                CHECK_EQ(strlen(refusal(t)), 0);
            else
                refused_for(t, way == 3 ? "it has capabilities" : "ids differ");
            _exit(0);
        }
        expect_exit_zero(child);
    }
}

#define ASKS .no_loop = true, .fixed = FIX_FD
#define OF_URING .no_loop = true, .needs = NEED_URING, .fixed = FIX_FD | FIX_MASK
static const struct test_case cases[] = {
    { NAMED(files_work), ASKS, .pitfalls = "S11" },
    { NAMED(slots_with_descriptors_work), ASKS },
    { NAMED(timers_cancels_exact_and_serial_work), .no_loop = true, .fixed = FIX_MASK },
    { NAMED(a_full_queue_is_waited_for), ASKS, .seconds = 20 },
    { NAMED(headers_stay_until_they_are_read), ASKS, .pitfalls = "S11" },
    { NAMED(vectors_of_many_sockets_are_not_mixed), ASKS, .pitfalls = "S11" },
    { NAMED(all_buffers_come_into_use), ASKS },
    { NAMED(a_sleeping_thread_is_woken), OF_URING, .pitfalls = "R11" },
    { NAMED(events_reach_a_sleeping_thread), OF_URING, .pitfalls = "R11" },
    { NAMED(who_waits_lets_it_sleep), .no_loop = true, .needs = NEED_URING | NEED_OWNED,
      .fixed = FIX_FD | FIX_MASK },
    { NAMED(an_awake_thread_is_handed_nothing), OF_URING, .seconds = 30 },
    { NAMED(an_awake_thread_needs_no_call_at_all), .no_loop = true,
      .needs = NEED_URING | NEED_DRIVER, .fixed = FIX_FD | FIX_MASK, .seconds = 30 },
    { NAMED(a_lost_ring_gives_nothing_back_that_it_was_shown), OF_URING, .seconds = 20 },
    { NAMED(a_lost_ring_ends_what_it_was_shown), OF_URING, .seconds = 20 },
    { NAMED(a_ring_lost_altogether_ends_what_it_was_shown), OF_URING, .seconds = 20 },
    { NAMED(parent_and_child_have_a_ring_each), .no_loop = true, .needs = NEED_URING | NEED_DRIVER,
      .fixed = FIX_FD | FIX_MASK, .pitfalls = "R2 R3" },
    { NAMED(a_close_releases_all), ASKS },
    { NAMED(only_who_asks_is_polled_for), .no_loop = true, .fixed = FIX_FD | FIX_MASK },
    { NAMED(who_may_change_must_acknowledge_that), OF_URING, .pitfalls = "R12" },
    { 0 },
};

const struct subject subject_sqpoll = { "sqpoll", cases };

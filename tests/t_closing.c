/* SPDX-License-Identifier: MIT */
/* t_closing.c: the end of a loop, and of descriptors: cancelled, drained, and then nothing is
 * left. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test.h"

static void close_cancels_everything_and_runs_the_callbacks(struct test *t)
{
    ouro_op *ops[30];
    static char bytes[30];
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 30; i++) {
        record_of(ops[i] = op_new(t))->own_cb = true;
        if (i % 3 == 0)
            ouro_prep_timer(ops[i], in_ms(t, 3600000));
        else if (i % 3 == 1)
            ouro_prep_read(ops[i], fds[0], &bytes[i], 1, 0);
        else
            ouro_prep_poll(ops[i], fds[0], POLLIN);
        if (i % 5 == 0)
            ops[i]->deadline = in_ms(t, 3600000);
        start(t, ops[i]);
        if (i == 15)
            step(t);
    }
    close_loop(t); /* judges: each was called once */
    for (int i = 0; i < 30; i++) {
        CHECK_EQ(RES(ops[i]), -ECANCELED);
        CHECK(CFLAGS(ops[i]) & OURO_C_CANCELED);
    }
}

static void close_drops_uncollected_events(struct test *t)
{
    ouro_op *ops[20];

    t->drops = true;
    for (int i = 0; i < 20; i++) {
        ouro_prep_nop(ops[i] = op_new(t));
        start(t, ops[i]);
    }
    ouro_prep_timer(ops[0] = op_new(t), in_ms(t, 3600000));
    start(t, ops[0]);
    if (t->mode != MODE_SERVICE)
        CHECK(ouro_run(t->loop, 5, t->limit) >= 5);
    close_loop(t);
    CHECK_EQ(ouro_done(ops[0]), 1);
    CHECK_EQ(ops[0]->res, -ECANCELED);
}

static void try_to_submit(struct test *t, ouro_op *op)
{
    ouro_op *more = op_new(t);

    ouro_prep_nop(more);
    *(int *)op->user = start_try(t, more);
    CHECK_EQ(ouro_close(t->loop, OURO_NOWAIT), -EDEADLK);
}

static void a_closing_loop_accepts_nothing(struct test *t)
{
    ouro_op *op = op_new(t);
    int answer = 1;

    record_of(op)->own_cb = true;
    record_of(op)->then = try_to_submit;
    op->user = &answer;
    ouro_prep_timer(op, in_ms(t, 3600000));
    start(t, op);
    close_loop(t);
    CHECK_EQ(answer, -ESHUTDOWN);
}

static _Atomic bool gate;

static int64_t wait_at_gate(void *arg)
{
    *(_Atomic bool *)arg = true;
    while (!gate)
        usleep(100);
    return 5;
}

static void close_is_busy_while_work_runs_and_may_be_repeated(struct test *t)
{
    ouro_op *op = op_new(t), *more = op_new(t);
    static _Atomic bool entered;

    record_of(op)->own_cb = true;
    ouro_prep_work(op, wait_at_gate, (void *)&entered);
    start(t, op);
    while (!entered) {
        step(t);
        usleep(100);
    }
    CHECK_EQ(ouro_close(t->loop, OURO_NOWAIT), -EBUSY);
    CHECK_EQ(ouro_close(t->loop, in_ms(t, 3)), -EBUSY);
    ouro_prep_nop(more);
    CHECK_EQ(start_try(t, more), -ESHUTDOWN);
    gate = true;
    close_loop(t);
    CHECK_EQ(RES(op), 5);
}

static void close_in(struct test *t, ouro_op *op)
{
    *(int *)op->user = ouro_close(t->loop, OURO_FOREVER);
}

static void close_in_a_callback_is_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    int r = 1;

    record_of(op)->own_cb = true;
    record_of(op)->then = close_in;
    op->user = &r;
    ouro_prep_nop(op);
    start(t, op);
    finish(t, op);
    close_loop(t); /* a service's thread may still be in the callback until here */
    CHECK_EQ(r, -EDEADLK);
    CHECK_EQ(ouro_close(NULL, OURO_FOREVER), 0);
}

/* ---- Closing descriptors ------------------------------------------------------------------- */

static void close_of_a_descriptor_cancels_what_is_on_it(struct test *t)
{
    ouro_op *ops[5], *closer = op_new(t);
    char bytes[5] = "....";
    int fds[2];

    for (int round = 0; round < 2; round++) {
        make_socketpair(t, fds);
        for (int i = 0; i < 5; i++) {
            ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, 0);
            start(t, ops[i]);
        }
        if (round)
            step(t);
        ouro_prep_close(closer, fds[0]);
        start(t, closer);
        for (int i = 0; i < 5; i++) {
            CHECK_EQ(finish(t, ops[i]), -ECANCELED);
            CHECK(CFLAGS(ops[i]) & OURO_C_CANCELED);
        }
        CHECK_EQ(finish(t, closer), 0);
        if (t->style != STYLE_WAIT)
            CHECK(ORDER(closer) > ORDER(ops[4]));
        unmade(t, fds[0]);
        CHECK(fcntl(fds[0], F_GETFD) < 0);
        /* The other side knows at once, and nothing lands in the buffers. */
        CHECK_EQ(send(fds[1], "late", 4, MSG_NOSIGNAL), -1);
        CHECK_EQ(errno, EPIPE);
        CHECK(memcmp(bytes, "....", 4) == 0);
    }
}

static void close_tells_the_reader_of_a_pipe(struct test *t)
{
    ouro_op *op = op_new(t), *closer = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    ouro_prep_close(closer, fds[1]);
    CHECK_EQ(do_op(t, closer), 0);
    unmade(t, fds[1]);
    CHECK_EQ(finish(t, op), 0);
}

static void a_bad_close_leaves_the_loop_alone(struct test *t)
{
    ouro_op *op = op_new(t), *nop = op_new(t);
    int fd = ouro_pollfd(t->loop);

    CHECK(fd >= 0);
    ouro_prep_close(op, 9998);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_nop(nop);
    CHECK_EQ(do_op(t, nop), 0);
}

/* ---- Closed means released ----------------------------------------------------------------- */

enum { TIMES = 40 };

static void a_closed_loop_holds_no_pipe(struct test *t)
{
    int held = 0;

    for (int i = 0; i < TIMES; i++) {
        ouro_op *op = op_new(t);
        struct pollfd peer;
        char byte;
        int fds[2];

        if (!t->loop)
            open_loop(t);
        CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        record_of(op)->own_cb = true;
        start(t, op);
        step(t);
        close_loop(t);
        close(fds[0]);
        peer = (struct pollfd){ .fd = fds[1], .events = 0 };
        held += poll(&peer, 1, 0) != 1 || !(peer.revents & POLLERR);
        close(fds[1]);
    }
    CHECK_EQ(held, 0);
}

static void a_closed_loop_holds_no_lock(struct test *t)
{
    const char *path = path_in(t, "fifo");
    int held = 0;

    CHECK_EQ(mkfifo(path, 0600), 0);
    for (int i = 0; i < TIMES; i++) {
        ouro_op *op = op_new(t);
        char byte;
        int a, b;

        if (!t->loop)
            open_loop(t);
        a = open(path, O_RDWR | O_CLOEXEC);
        b = open(path, O_RDWR | O_CLOEXEC);
        CHECK_EQ(flock(a, LOCK_EX | LOCK_NB), 0);
        ouro_prep_read(op, a, &byte, 1, 0);
        record_of(op)->own_cb = true;
        start(t, op);
        step(t);
        close_loop(t);
        close(a);
        held += flock(b, LOCK_EX | LOCK_NB) != 0;
        close(b);
    }
    CHECK_EQ(held, 0);
}

/* One of 127.0.0.0/8 for each process: no other test can take the port between a close and the next
 * bind. */
static in_addr_t own_address(void)
{
    return htonl(0x7f000000u | ((uint32_t)getpid() & 0x3fffffu) << 2 | 1u);
}

static int listen_at(struct sockaddr_in *at)
{
    socklen_t len = sizeof *at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    if (bind(fd, (struct sockaddr *)(void *)at, sizeof *at) != 0 || listen(fd, 5) != 0) {
        close(fd);
        return -1;
    }
    CHECK_EQ(getsockname(fd, (struct sockaddr *)(void *)at, &len), 0);
    return fd;
}

static void a_closed_loop_holds_no_port(struct test *t)
{
    int held = 0;

    for (int i = 0; i < TIMES; i++) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { own_address() } };
        ouro_op *op = op_new(t);
        int fd = listen_at(&at), again;

        CHECK(fd >= 0);
        if (!t->loop)
            open_loop(t);
        ouro_prep_poll(op, fd, POLLIN);
        record_of(op)->own_cb = true;
        start(t, op);
        step(t);
        close_loop(t);
        close(fd);
        again = listen_at(&at);
        held += again < 0;
        if (again >= 0)
            close(again);
    }
    CHECK_EQ(held, 0);
}

/* The process ends right after ouro_close: what it held is free when it is reaped. */
static void a_process_that_closed_leaves_nothing(struct test *t)
{
    int held = 0;

    for (int i = 0; i < TIMES; i++) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { own_address() } };
        int fd = listen_at(&at), status, again;
        pid_t child;

        CHECK(fd >= 0);
        child = fork();
        if (child == 0) {
            ouro_op op = { 0 }, read_op = { 0 };
            int fds[2];
            char byte;

            if (ouro_open(&t->config, &t->loop) < 0 || pipe2(fds, O_CLOEXEC) != 0)
                _exit(1);
            ouro_prep_poll(&op, fd, POLLIN);
            ouro_prep_read(&read_op, fds[0], &byte, 1, 0);
            if (ouro_submit(t->loop, &op) < 0 || ouro_submit(t->loop, &read_op) < 0 ||
                ouro_flush(t->loop) < 0)
                _exit(2);
            _exit(ouro_close(t->loop, OURO_FOREVER) == 0 ? 0 : 3);
        }
        close(fd);
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
        again = listen_at(&at);
        held += again < 0;
        if (again >= 0)
            close(again);
    }
    CHECK_EQ(held, 0);
}

_Noreturn static void end_in_flight(struct test *t, bool at_once)
{
    static ouro_op ops[20];
    static char bytes[20];
    int fds[2];

    if (ouro_open(&t->config, &t->loop) < 0 || pipe2(fds, O_CLOEXEC) != 0)
        _exit(1);
    for (int i = 0; i < 20; i++) {
        ouro_prep_read(&ops[i], fds[0], &bytes[i], 1, 0);
        if (ouro_submit(t->loop, &ops[i]) < 0)
            _exit(2);
    }
    ouro_flush(t->loop);
    if (at_once)
        _exit(0);
    exit(0);
}

static void exit_with_operations_in_flight_is_prompt(struct test *t)
{
    for (int at_once = 0; at_once < 2; at_once++) {
        pid_t child = fork();
        int status;

        if (child == 0)
            end_in_flight(t, at_once);
        CHECK(ends_within(child, seconds_scaled(3), &status));
        CHECK_EQ(status, 0);
    }
}

static void many_loops_one_after_the_other(struct test *t)
{
    ouro_op op = { 0 };

    for (int i = 0; i < 100; i++) {
        ouro_loop *loop;

        CHECK_EQ(ouro_open(&t->config, &loop), 0);
        ouro_prep_nop(&op);
        op.cb = NULL;
        CHECK_EQ(ouro_do(loop, &op), 0);
        CHECK_EQ(ouro_close(loop, OURO_FOREVER), 0);
    }
}

static void many_loops_at_once(struct test *t)
{
    enum { COUNT = 40 };
    ouro_loop *loops[COUNT];

    for (int i = 0; i < COUNT; i++) {
        ouro_op op = { 0 };

        CHECK_EQ(ouro_open(&t->config, &loops[i]), 0);
        ouro_prep_nop(&op);
        CHECK_EQ(ouro_do(loops[i], &op), 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(ouro_close(loops[i], OURO_FOREVER), 0);
}

static const struct test_case cases[] = {
    { NAMED(close_cancels_everything_and_runs_the_callbacks), .fixed = FIX_STYLE },
    { NAMED(close_drops_uncollected_events), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP },
    { NAMED(a_closing_loop_accepts_nothing), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(close_is_busy_while_work_runs_and_may_be_repeated), .fixed = FIX_STYLE | FIX_FD,
      .pitfalls = "R9" },
    { NAMED(close_in_a_callback_is_refused), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(close_of_a_descriptor_cancels_what_is_on_it), .pitfalls = "F1 F2 K8 F4" },
    { NAMED(close_tells_the_reader_of_a_pipe) },
    { NAMED(a_bad_close_leaves_the_loop_alone), .fixed = FIX_FD },
    { NAMED(a_closed_loop_holds_no_pipe), .fixed = FIX_STYLE, .pitfalls = "R9", .seconds = 20 },
    { NAMED(a_closed_loop_holds_no_lock), .fixed = FIX_STYLE, .pitfalls = "R8", .seconds = 20 },
    { NAMED(a_closed_loop_holds_no_port), .fixed = FIX_STYLE | FIX_FD, .pitfalls = "R8",
      .seconds = 20 },
    { NAMED(a_process_that_closed_leaves_nothing), .fixed = FIX_STYLE | FIX_FD, .pitfalls = "R8",
      .no_loop = true, .heavy = true, .seconds = 30 },
    { NAMED(exit_with_operations_in_flight_is_prompt), .faults = "12", .fixed = FIX_STYLE | FIX_FD,
      .no_loop = true },
    { NAMED(many_loops_one_after_the_other), .fixed = FIX_STYLE | FIX_FD, .pitfalls = "R4",
      .no_loop = true, .heavy = true, .seconds = 30 },
    { NAMED(many_loops_at_once), .fixed = FIX_STYLE | FIX_FD, .pitfalls = "R4", .no_loop = true,
      .heavy = true, .seconds = 30 },
    { .name = NULL },
};
const struct subject subject_closing = { "closing", cases };

/* SPDX-License-Identifier: MIT */
/* t_poll.c: readiness of one descriptor, with the bits that poll(2) gives. */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "test.h"

static int64_t plain_poll(int fd, unsigned events)
{
    struct pollfd pfd = { .fd = fd, .events = (short)events };

    return poll(&pfd, 1, 0) == 1 ? pfd.revents : 0;
}

static void ready_descriptors_complete_at_once(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "x", 1);

    make_pipe(t, fds);
    ouro_prep_poll(op, fds[1], POLLOUT);
    CHECK_EQ(do_op(t, op), plain_poll(fds[1], POLLOUT));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_poll(op, fds[0], POLLIN);
    CHECK_EQ(do_op(t, op), POLLIN);
    ouro_prep_poll(op, fd, POLLIN | POLLOUT); /* plain files are always ready */
    CHECK_EQ(do_op(t, op), POLLIN | POLLOUT);
}

/* A ring may tell of a peer that has closed its half; who is not interested is cancelled all the
 * same, also before that was looked at. */
static void what_is_not_wanted_ends_no_poll_and_a_cancel_does(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2];

    make_socketpair(t, fds);
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    ouro_prep_poll(op, fds[0], POLLPRI);
    start(t, op);
    CHECK_EQ(ouro_flush(t->loop), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    CHECK_EQ(finish(t, op), -ECANCELED);
    ouro_prep_poll(op, fds[0], POLLPRI);
    op->deadline = in_ms(t, 20);
    start(t, op);
    CHECK_EQ(ouro_flush(t->loop), 0);
    usleep(30000);
    CHECK_EQ(finish(t, op), -ETIMEDOUT);
}

static void readiness_is_waited_for(struct test *t)
{
    ouro_op *op = op_new(t);
    uint64_t one = 1;
    int fds[2], counter = made(t, eventfd(0, EFD_CLOEXEC));

    make_pipe(t, fds);
    ouro_prep_poll(op, fds[0], POLLIN);
    start(t, op);
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), POLLIN);
    ouro_prep_poll(op, counter, POLLIN);
    start(t, op);
    step(t);
    CHECK_EQ(write(counter, &one, 8), 8);
    CHECK_EQ(finish(t, op), POLLIN);
}

static void hangups_and_errors_come_unasked(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_poll(op, fds[0], POLLIN);
    start(t, op);
    step(t);
    unmade(t, fds[1]);
    close(fds[1]);
    CHECK_EQ(finish(t, op), plain_poll(fds[0], POLLIN));
    make_pipe(t, fds);
    unmade(t, fds[0]);
    close(fds[0]);
    ouro_prep_poll(op, fds[1], POLLOUT);
    CHECK_EQ(do_op(t, op), plain_poll(fds[1], POLLOUT));
    ouro_prep_poll(op, fds[1], 0);
    CHECK_EQ(do_op(t, op), POLLERR);
}

static void one_byte_wakes_all_who_poll(struct test *t)
{
    ouro_op *ops[20];
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 20; i++) {
        ouro_prep_poll(ops[i] = op_new(t), fds[0], POLLIN);
        start(t, ops[i]);
    }
    step(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    finish_all(t);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(RES(ops[i]), POLLIN);
}

static void polling_a_bad_descriptor_is_ebadf(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_poll(op, 9999, POLLIN);
    CHECK_EQ(do_op(t, op), -EBADF);
}

static void read_and_write_polls_on_one_descriptor(struct test *t)
{
    ouro_op *in = op_new(t), *out = op_new(t);
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_poll(in, fds[0], POLLIN);
    ouro_prep_poll(out, fds[0], POLLOUT);
    start(t, in);
    CHECK_EQ(do_op(t, out), POLLOUT);
    CHECK(!is_final(in));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, in), POLLIN);
}

static const struct test_case cases[] = {
    { NAMED(ready_descriptors_complete_at_once) },
    { NAMED(what_is_not_wanted_ends_no_poll_and_a_cancel_does) },
    { NAMED(readiness_is_waited_for), .pitfalls = "F5" },
    { NAMED(hangups_and_errors_come_unasked) },
    { NAMED(one_byte_wakes_all_who_poll) },
    { NAMED(polling_a_bad_descriptor_is_ebadf) },
    { NAMED(read_and_write_polls_on_one_descriptor) },
    { .name = NULL },
};
const struct subject subject_poll = { "poll", cases };

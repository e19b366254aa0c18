/* SPDX-License-Identifier: MIT */
/* t_zerocopy.c: sends that need not be copied: a hint, with the same bytes and one final
 * completion, and never a buffer that comes back while it is read. */
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core.h"
#include "engine/uring.h"
#include "sys.h"
#include "test.h"

#define BIG ((size_t)3 << 20)

static char data[BIG], got[BIG];

/* Until so much has come. */
static void drain(struct test *t, int fd, size_t size)
{
    size_t came = 0;

    while (came < size) {
        ssize_t r;
        CHECK(ouro_now(t->loop) < t->limit);
        step(t);
        reap_all(t);
        r = recv(fd, got + came, size - came, MSG_DONTWAIT);
        if (r > 0)
            came += (size_t)r;
        else
            usleep(50);
    }
}

static void all_sizes_arrive_whole(struct test *t)
{
    static const size_t sizes[] = { 1, 5000, 40000, BIG };
    ouro_op *op = op_new(t);
    int fds[2];

    fill(data, BIG, 31);
    for (int kind = 0; kind < 2; kind++) {
        if (kind)
            make_socketpair(t, fds);
        else
            make_tcp(t, fds);
        for (unsigned i = 0; i < 4; i++) {
            ouro_prep_send(op, fds[0], data, sizes[i], 0);
            op->flags = OURO_ZEROCOPY | OURO_EXACT;
            start(t, op);
            drain(t, fds[1], sizes[i]);
            CHECK_EQ(finish(t, op), sizes[i]);
            CHECK(memcmp(got, data, sizes[i]) == 0);
            /* Loopback copies, local sockets do, and what is small is not worth it. */
            CHECK(CFLAGS(op) & OURO_C_COPIED);
            CHECK(!(CFLAGS(op) & OURO_C_MORE));
        }
    }
}

static void messages_and_datagrams_go_out(struct test *t)
{
    struct iovec parts[2] = { { data, 20000 }, { data + 20000, 20001 } };
    struct sockaddr_in addr = { .sin_family = AF_INET };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    socklen_t size = sizeof(addr);
    ouro_op *op = op_new(t);
    int in = made(t, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    int out = made(t, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

    fill(data, 40001, 32);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(in, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_EQ(getsockname(in, (struct sockaddr *)&addr, &size), 0);
    message.msg_name = &addr;
    message.msg_namelen = size;
    for (int i = 0; i < 20; i++) {
        ouro_prep_sendmsg(op, out, &message, 0);
        op->flags = OURO_ZEROCOPY;
        CHECK_EQ(do_op(t, op), 40001);
        CHECK(CFLAGS(op) & OURO_C_COPIED);
        CHECK_EQ(recv(in, got, sizeof(got), 0), 40001);
        check_filled(got, 40001, 32);
    }
    ouro_prep_sendmsg(op, out, &message, MSG_OOB); /* the second attempt's error is the result */
    op->flags = OURO_ZEROCOPY;
    CHECK_EQ(do_op(t, op), -EOPNOTSUPP);
}

static void many_at_once_on_many_sockets(struct test *t)
{
    enum { SOCKETS = 8, EACH = 6, SIZE = 50000 };
    ouro_op *ops[SOCKETS][EACH];
    int fds[SOCKETS][2];

    fill(data, SIZE * EACH, 33);
    for (int i = 0; i < SOCKETS; i++) {
        make_tcp(t, fds[i]);
        for (int j = 0; j < EACH; j++) {
            ops[i][j] = op_new(t);
            ouro_prep_send(ops[i][j], fds[i][0], data + SIZE * j, SIZE, 0);
            ops[i][j]->flags = OURO_ZEROCOPY | OURO_EXACT | OURO_SERIAL;
            start(t, ops[i][j]);
        }
    }
    for (int i = 0; i < SOCKETS; i++) {
        drain(t, fds[i][1], SIZE * EACH);
        check_filled(got, SIZE * EACH, 33);
    }
    finish_all(t);
    for (int i = 0; i < SOCKETS; i++)
        for (int j = 0; j < EACH; j++)
            CHECK_EQ(RES(ops[i][j]), SIZE);
}

/* A pair with room for much less than BIG. */
static void make_narrow(struct test *t, int fds[2])
{
    const int small = 100000;

    make_tcp(t, fds);
    CHECK_EQ(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    CHECK_EQ(setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
}

static void read_some(struct test *t, ouro_op *op, int fd)
{
    CHECK(ouro_now(t->loop) < t->limit);
    let_pass(t);
    if (ouro_done(op))
        finish(t, op);
    else
        (void)!recv(fd, got, sizeof(got), MSG_DONTWAIT);
    usleep(1000);
}

static void read_until_final(struct test *t, ouro_op *op, int fd)
{
    while (!is_final(op))
        read_some(t, op, fd);
}

/* The result says what went out; it may come only when the peer has that. */
static void they_end_early_with_the_truth(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2];

    for (int late = 0; late < 2; late++) {
        make_narrow(t, fds);
        ouro_prep_send(op, fds[0], data, BIG, 0);
        op->flags = OURO_ZEROCOPY | OURO_EXACT;
        op->deadline = late ? in_ms(t, 30) : OURO_FOREVER;
        start(t, op);
        let_pass(t);
        CHECK(late || !is_final(op));
        if (late)
            usleep(40000);
        else
            CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        let_pass(t);
        read_until_final(t, op, fds[1]);
        CHECK(RES(op) < (int64_t)BIG);
        CHECK(RES(op) > 0 || RES(op) == (late ? -ETIMEDOUT : -ECANCELED));
        CHECK_EQ(!!(CFLAGS(op) & OURO_C_CANCELED), !late);
        CHECK_EQ(!!(CFLAGS(op) & OURO_C_TIMEDOUT), late);
    }
}

static void a_reset_ends_them(struct test *t)
{
    const struct linger now = { 1, 0 };
    ouro_op *op = op_new(t);
    int fds[2];

    make_narrow(t, fds);
    ouro_prep_send(op, fds[0], data, BIG, 0);
    op->flags = OURO_ZEROCOPY | OURO_EXACT;
    start(t, op);
    let_pass(t);
    CHECK_EQ(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    unmade(t, fds[1]);
    close(fds[1]);
    finish(t, op);
    if (RES(op) > 0)
        CHECK(RES(op) < (int64_t)BIG && (op->cause == -ECONNRESET || op->cause == -EPIPE));
    else
        CHECK(RES(op) == -ECONNRESET || RES(op) == -EPIPE);
}

/* Who waits for the socket need not wait for the peer, too. */
static void a_close_does_not_wait_for_the_peer(struct test *t)
{
    ouro_op *op = op_new(t), *next = op_new(t), *shut = op_new(t);
    int fds[2], unsent, arrived;

    make_narrow(t, fds);
    ouro_prep_send(op, fds[0], data, 60000, 0);
    ouro_prep_send(next, fds[0], data, BIG, 0);
    op->flags = next->flags = OURO_ZEROCOPY | OURO_EXACT | OURO_SERIAL;
    start(t, op);
    start(t, next);
    do { /* until the first has gone out */
        CHECK(ouro_now(t->loop) < t->limit);
        let_pass(t);
        CHECK_EQ(ioctl(fds[0], SIOCOUTQ, &unsent), 0);
        CHECK_EQ(ioctl(fds[1], FIONREAD, &arrived), 0);
    } while (unsent + arrived < 60000);
    unmade(t, fds[0]);
    ouro_prep_close(shut, fds[0]);
    CHECK_EQ(do_op(t, shut), 0);
    read_until_final(t, op, fds[1]);
    CHECK_EQ(RES(op), 60000);
    read_until_final(t, next, fds[1]);
    CHECK(RES(next) < (int64_t)BIG && CFLAGS(next) & OURO_C_CANCELED);
}

/* What a device does with a long memory, the test does here: it says that the kernel reads on. */
static void a_buffer_that_is_read_is_not_given_back(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_send(op, fds[0], data, BIG, 0);
    op->flags = OURO_ZEROCOPY | OURO_EXACT;
    start(t, op);
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(ouro__enter(t->loop), 0);
    ouro__keep(op);
    ouro__leave(t->loop);
    drain(t, fds[1], BIG);
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(ouro__enter(t->loop), 0);
    ouro__let_go(t->loop, op);
    ouro__submitted(t->loop);
    ouro__leave(t->loop);
    CHECK_EQ(finish(t, op), BIG);
    CHECK(!(CFLAGS(op) & OURO_C_CANCELED));
}

/* The ring is gone while it reads: what is known stands, and comes when that is over. */
static void the_loss_of_the_ring_lets_go(struct test *t)
{
    ouro_op *whole = op_new(t), *part = op_new(t), *other = op_new(t);
    int narrow[2], wide[2];

    make_narrow(t, narrow);
    make_tcp(t, wide);
    ouro_prep_send(whole, wide[0], data, 50000, 0);
    ouro_prep_send(part, narrow[0], data, BIG, 0);
    whole->flags = part->flags = OURO_ZEROCOPY | OURO_EXACT;
    start(t, whole);
    start(t, part);
    let_pass(t);
    block_io_uring(BLOCK_ALL, EPERM);
    ouro_prep_nop(other);
    CHECK_EQ(do_op(t, other), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(part)), 0);
    while (!is_final(whole)) { /* only the end of all proves the end of one */
        (void)!recv(wide[1], got, sizeof(got), MSG_DONTWAIT);
        read_some(t, whole, narrow[1]);
    }
    CHECK_EQ(RES(whole), 50000);
    read_until_final(t, part, narrow[1]);
    if (RES(part) == -EIO)
        CHECK(CFLAGS(part) & OURO_C_LOST);
    else
        CHECK(RES(part) > 0 && RES(part) < (int64_t)BIG && part->cause < 0);
}

static struct ouro__sys real;
static struct ring *ring;
static unsigned uncopied; /* entries for sends without copying */

static long watched_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                          size_t size)
{
    for (unsigned i = 0; i < submit && i < ring_sq_pending(ring); i++)
        uncopied += ring_sq_peek(ring, i)->opcode == RING_OP_SEND_ZC;
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static void send_and_drain(struct test *t, ouro_op *op, const int fds[2], size_t size)
{
    ouro_prep_send(op, fds[0], data, size, 0);
    op->flags = OURO_ZEROCOPY | OURO_EXACT;
    start(t, op);
    drain(t, fds[1], size);
    CHECK_EQ(finish(t, op), size);
}

/* Where all is copied in the end, it is soon sent plainly; and what is small is from the start. */
static void what_is_always_copied_is_sent_plainly(struct test *t)
{
    enum { SENDS = 20, MOST = 8 };
    ouro_op *op = op_new(t);
    struct sockaddr_in addr;
    int fds[2], listener = make_listener(t, &addr);
    bool native;

    open_loop(t);
    real = ouro__sys;
    ring = &((struct uring *)t->loop->engine_state)->ring; /* or nobody enters one */
    ouro__sys.io_uring_enter = watched_enter;
    native = ouro_support(t->loop, OURO_SEND, OURO_ZEROCOPY) == OURO_NATIVE;
    fds[1] = connect_to(&addr);
    ouro_prep_accept(op, listener, NULL, NULL, 0); /* what the loop has made it knows for longer */
    fds[0] = (int)do_op(t, op);
    CHECK(fds[0] >= 0);
    for (int i = 0; i < SENDS; i++)
        send_and_drain(t, op, fds, 16384);
    CHECK_EQ(uncopied, 0);
    for (int i = 0; i < SENDS; i++)
        send_and_drain(t, op, fds, 40000);
    CHECK_EQ(uncopied, native ? MOST : 0);
    CHECK(CFLAGS(op) & OURO_C_COPIED);
    ouro_prep_close(op, fds[0]);
    CHECK_EQ(do_op(t, op), 0);
    close(fds[1]);
    close_loop(t);
    ouro__sys = real;
}

static void only_sends_take_the_hint(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], native = ouro_support(t->loop, OURO_SEND, OURO_ZEROCOPY);

    make_socketpair(t, fds);
    CHECK(native == OURO_NATIVE || native == OURO_EMULATED);
    CHECK_EQ(ouro_support(t->loop, OURO_SENDMSG, OURO_ZEROCOPY), native);
    CHECK_EQ(ouro_support(t->loop, OURO_RECV, OURO_ZEROCOPY), -EINVAL);
    ouro_prep_recv(op, fds[0], got, 1, 0);
    op->flags = OURO_ZEROCOPY;
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_send(op, fds[0], "x", 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    CHECK(!(CFLAGS(op) & OURO_C_COPIED));
}

static const struct test_case cases[] = {
    { NAMED(all_sizes_arrive_whole), .pitfalls = "F20" },
    { NAMED(messages_and_datagrams_go_out) },
    { NAMED(many_at_once_on_many_sockets) },
    { NAMED(they_end_early_with_the_truth) },
    { NAMED(a_reset_ends_them) },
    { NAMED(what_is_always_copied_is_sent_plainly), .needs = NEED_OWNED, .no_loop = true,
      .pitfalls = "F21" },
    { NAMED(a_close_does_not_wait_for_the_peer) },
    { NAMED(a_buffer_that_is_read_is_not_given_back) },
    { NAMED(the_loss_of_the_ring_lets_go), .needs = NEED_URING },
    { NAMED(only_sends_take_the_hint) },
    { 0 },
};

const struct subject subject_zerocopy = { "zerocopy", cases };

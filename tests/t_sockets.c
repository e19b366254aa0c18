/* SPDX-License-Identifier: MIT */
/* t_sockets.c: sockets: making, connecting, accepting, receiving and sending, over TCP on loopback,
 * local sockets and datagrams; what a peer may do to them; and that they wait for nobody else. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "test.h"

#define BIG ((size_t)4 << 20)

/* ---- Peers made by plain calls --------------------------------------------------------------- */

static struct sockaddr *any(void *addr)
{
    return addr;
}

static void loopback(struct sockaddr_in *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->sin_family = AF_INET;
    ret->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

/* *ret_addr: where it listens, or what datagrams are sent to. */
static int bound(struct test *t, int type, struct sockaddr_in *ret_addr, int backlog)
{
    int fd = made(t, socket(AF_INET, type | SOCK_CLOEXEC, 0));
    socklen_t size = sizeof(*ret_addr);

    loopback(ret_addr);
    CHECK_EQ(bind(fd, any(ret_addr), sizeof(*ret_addr)), 0);
    CHECK_EQ(getsockname(fd, any(ret_addr), &size), 0);
    if (type == SOCK_STREAM)
        CHECK_EQ(listen(fd, backlog), 0);
    return fd;
}

static int connected(struct test *t, const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK_EQ(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
    return made(t, fd);
}

/* TCP, or a local pair. */
static void make_pair(struct test *t, unsigned which, int fds[2])
{
    if (which == 0)
        make_tcp(t, fds);
    else
        make_socketpair(t, fds);
}

static void reset(struct test *t, int fd)
{
    const struct linger now = { 1, 0 };

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    unmade(t, fd);
    close(fd);
}

/* ---- From socket to shutdown ----------------------------------------------------------------- */

static void a_connection_from_its_beginning_to_its_end(struct test *t)
{
    ouro_op *op = op_new(t), *other = op_new(t);
    struct sockaddr_in addr, peer;
    unsigned peer_size = sizeof(peer);
    socklen_t size = sizeof(addr);
    char buf[8] = "";
    int listener, client, server;

    ouro_prep_socket(op, AF_INET, SOCK_STREAM, 0);
    listener = (int)do_op(t, op);
    CHECK(listener >= 0 && fcntl(listener, F_GETFD) & FD_CLOEXEC);
    CHECK(!(fcntl(listener, F_GETFL) & O_NONBLOCK));
    loopback(&addr);
    ouro_prep_bind(op, listener, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_listen(op, listener, 4);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(getsockname(listener, any(&addr), &size), 0);

    ouro_prep_accept(other, listener, any(&peer), &peer_size, 0);
    start(t, other);
    let_pass(t);
    CHECK(!is_final(other));
    ouro_prep_socket(op, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    client = (int)do_op(t, op);
    CHECK(client >= 0 && fcntl(client, F_GETFL) & O_NONBLOCK);
    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), 0);
    server = (int)finish(t, other);
    CHECK(server >= 0 && fcntl(server, F_GETFD) & FD_CLOEXEC);
    CHECK(!(fcntl(server, F_GETFL) & O_NONBLOCK) && !(fcntl(listener, F_GETFL) & O_NONBLOCK));
    size = sizeof(addr);
    CHECK_EQ(getsockname(client, any(&addr), &size), 0);
    CHECK_EQ(peer_size, sizeof(peer));
    CHECK_EQ(peer.sin_port, addr.sin_port);

    ouro_prep_recv(other, server, buf, sizeof(buf), 0);
    start(t, other);
    ouro_prep_send(op, client, "hello", 5, 0);
    CHECK_EQ(do_op(t, op), 5);
    CHECK_EQ(finish(t, other), 5);
    CHECK(memcmp(buf, "hello", 5) == 0);
    ouro_prep_recv(other, server, buf, sizeof(buf), 0);
    start(t, other);
    ouro_prep_shutdown(op, client, SHUT_WR);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(finish(t, other), 0);
    for (int i = 0; i < 3; i++) {
        ouro_prep_close(op, (int[]){ server, client, listener }[i]);
        CHECK_EQ(do_op(t, op), 0);
    }
}

static void a_connect_on_a_socket_of_the_program_connects(struct test *t)
{
    struct sockaddr_in addr;
    ouro_op *op = op_new(t);
    int listener = bound(t, SOCK_STREAM, &addr, 4);
    int client = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(do_op(t, op), -EISCONN);
    CHECK(readable(listener, 1000));
    unmade(t, listener); /* now nobody listens there */
    close(listener);
    client = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), -ECONNREFUSED);
}

/* The queue of a listener that nobody accepts from fills up; a connect then waits for ever. */
static void a_connect_that_gets_no_answer_is_cancelled_and_times_out(struct test *t)
{
    struct sockaddr_in addr;
    ouro_op *op = op_new(t), *made_op = op_new(t);
    int client;

    bound(t, SOCK_STREAM, &addr, 0);
    connected(t, &addr);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            client = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        } else {
            ouro_prep_socket(made_op, AF_INET, SOCK_STREAM, 0);
            client = (int)do_op(t, made_op);
        }
        ouro_prep_connect(op, client, any(&addr), sizeof(addr));
        start(t, op);
        let_pass(t);
        CHECK(!is_final(op));
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        finish_canceled(t, op);
        if (i == 1) {
            CHECK(!(fcntl(client, F_GETFL) & O_NONBLOCK));
            close(client);
        }
    }
    client = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    op->deadline = in_ms(t, 30);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    CHECK(CFLAGS(op) & OURO_C_TIMEDOUT);
}

static void local_names_are_bound_and_connected_to(struct test *t)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    ouro_op *op = op_new(t), *accepting = op_new(t);
    int listener = made(t, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int client = made(t, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path_in(t, "socket"));
    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), -ENOENT);
    ouro_prep_bind(op, listener, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(do_op(t, op), plain(bind(listener, any(&addr), sizeof(addr)))); /* bound already */
    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), -ECONNREFUSED);
    ouro_prep_listen(op, listener, 1);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_connect(op, client, any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_accept(accepting, listener, NULL, NULL, SOCK_NONBLOCK);
    CHECK(do_op(t, accepting) >= 0);
    CHECK(fcntl((int)RES(accepting), F_GETFL) & O_NONBLOCK);
    close((int)RES(accepting));
}

/* A local connect whose listener has no room waits, and succeeds when it has. */
static void a_local_connect_waits_for_room(struct test *t)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int listener = made(t, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ouro_op *ops[3];
    unsigned waiting = 0;

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path_in(t, "socket"));
    CHECK_EQ(bind(listener, any(&addr), sizeof(addr)), 0);
    CHECK_EQ(listen(listener, 0), 0);
    for (int i = 0; i < 3; i++) {
        int client = made(t, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        ops[i] = op_new(t);
        ouro_prep_connect(ops[i], client, any(&addr), sizeof(addr));
        start(t, ops[i]);
    }
    let_pass(t);
    for (int i = 0; i < 3; i++)
        waiting += !is_final(ops[i]);
    CHECK(waiting >= 1);
    for (int i = 0; i < 3; i++) {
        CHECK(readable(listener, 5000));
        close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        let_pass(t);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(finish(t, ops[i]), 0);
}

static void accepts_are_served_one_each(struct test *t)
{
    struct sockaddr_in addr;
    int listener = bound(t, SOCK_STREAM, &addr, 16), client;
    ouro_op *ops[4];

    for (int i = 0; i < 4; i++) {
        ops[i] = op_new(t);
        ouro_prep_accept(ops[i], listener, NULL, NULL, 0);
        start(t, ops[i]);
    }
    let_pass(t);
    for (int i = 0; i < 3; i++)
        connected(t, &addr);
    wait_completions(t, 3);
    let_pass(t);
    client = 0;
    for (int i = 0; i < 4; i++) {
        if (!is_final(ops[i]))
            continue;
        CHECK(RES(ops[i]) >= 0);
        close((int)RES(ops[i]));
        client++;
    }
    CHECK_EQ(client, 3);
    CHECK_EQ(ouro_cancel_fd(t->loop, listener), 0);
    finish_all(t);
    for (int i = 0; i < 4; i++)
        CHECK(RES(ops[i]) >= 0 || RES(ops[i]) == -ECANCELED);
}

/* No descriptor left: an error, and the connection stays in the listener's queue. */
static void an_accept_without_descriptors_fails_and_loses_nothing(struct test *t)
{
    struct rlimit limit, none;
    struct sockaddr_in addr;
    int listener = bound(t, SOCK_STREAM, &addr, 4), first;
    ouro_op *op = op_new(t);

    connected(t, &addr);
    CHECK(readable(listener, 1000));
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    first = fcntl(listener, F_DUPFD, 0);
    close(first);
    none = limit;
    none.rlim_cur = (rlim_t)first;
    ouro_prep_accept(op, listener, NULL, NULL, 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(do_op(t, op), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(do_op(t, op) >= 0);
    close((int)RES(op));
}

static void sockets_in_slots(struct test *t)
{
    struct sockaddr_in addr;
    int listener = bound(t, SOCK_STREAM, &addr, 4);
    ouro_op *op = op_new(t), *other = op_new(t);
    char buf[4] = "";

    ouro_prep_accept_direct(op, listener, NULL, NULL, 0, 0);
    CHECK_EQ(start_try(t, op), -EINVAL); /* no table yet */
    CHECK_EQ(ouro_direct_table(t->loop, 2), 0);
    ouro_prep_socket_direct(op, AF_INET, SOCK_STREAM, 0, 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_connect(op, 0, any(&addr), sizeof(addr));
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_accept_direct(op, listener, NULL, NULL, 0, 0);
    CHECK_EQ(start_try(t, op), -EBUSY);
    ouro_prep_accept_direct(op, listener, NULL, NULL, 0, 1);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_recv(other, 1, buf, 4, 0);
    other->flags = OURO_DIRECT | OURO_EXACT;
    start(t, other);
    for (int i = 0; i < 2; i++) {
        ouro_prep_send(op, 0, &"ping"[2 * i], 2, 0);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 2);
    }
    CHECK_EQ(finish(t, other), 4);
    CHECK(memcmp(buf, "ping", 4) == 0);
    for (int slot = 0; slot < 2; slot++) {
        ouro_prep_close(op, slot);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 0);
    }
}

/* ---- Receiving and sending ------------------------------------------------------------------- */

static void exact_goes_on_until_all_has_come(struct test *t)
{
    static unsigned char data[BIG], got[BIG];
    ouro_op *in = op_new(t), *out = op_new(t);
    int fds[2];

    fill(data, BIG, 7);
    for (unsigned which = 0; which < 2; which++) {
        memset(got, 0, BIG);
        make_pair(t, which, fds);
        ouro_prep_recv(in, fds[0], got, BIG, 0);
        in->flags = OURO_EXACT;
        start(t, in);
        ouro_prep_send(out, fds[1], data, BIG, 0);
        out->flags = OURO_EXACT;
        start(t, out);
        CHECK_EQ(finish(t, out), BIG);
        CHECK_EQ(finish(t, in), BIG);
        check_filled(got, BIG, 7);
        /* The end of the stream cuts it short. */
        ouro_prep_recv(in, fds[0], got, 8, 0);
        in->flags = OURO_EXACT;
        start(t, in);
        CHECK_EQ(send(fds[1], "abc", 3, 0), 3);
        step(t);
        CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
        CHECK_EQ(finish(t, in), 3);
        CHECK_EQ(in->cause, 0);
    }
}

static void a_cancelled_exact_receive_tells_what_came(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8] = "";
    int fds[2];

    make_tcp(t, fds);
    ouro_prep_recv(op, fds[0], buf, 8, 0);
    op->flags = OURO_EXACT;
    start(t, op);
    CHECK_EQ(send(fds[1], "abc", 3, 0), 3);
    let_pass(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    CHECK_EQ(finish(t, op), 3);
    CHECK(CFLAGS(op) & OURO_C_CANCELED);
    CHECK(memcmp(buf, "abc", 3) == 0);
}

static void flags_of_messages_are_heeded(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8] = "";
    int fds[2];

    for (unsigned which = 0; which < 2; which++) {
        make_pair(t, which, fds);
        ouro_prep_recv(op, fds[0], buf, 8, MSG_DONTWAIT);
        CHECK_EQ(do_op(t, op), -EAGAIN);
        CHECK_EQ(send(fds[1], "abc", 3, 0), 3);
        ouro_prep_recv(op, fds[0], buf, 8, MSG_PEEK);
        CHECK_EQ(do_op(t, op), 3);
        ouro_prep_recv(op, fds[0], buf, 8, MSG_DONTWAIT);
        CHECK_EQ(do_op(t, op), 3);
        ouro_prep_recv(op, fds[0], buf, 8, 0);
        op->flags = OURO_FDMODE;
        if (t->fdmode == FD_NONBLOCK) {
            CHECK_EQ(do_op(t, op), -EAGAIN);
            continue;
        }
        start(t, op);
        let_pass(t);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        finish_canceled(t, op);
    }
}

static void datagrams_bring_their_sender_and_their_size(struct test *t)
{
    struct sockaddr_in a_addr, b_addr, from;
    int a = bound(t, SOCK_DGRAM, &a_addr, 0), b = bound(t, SOCK_DGRAM, &b_addr, 0);
    ouro_op *in = op_new(t), *out = op_new(t);
    char buf[4] = "";
    struct iovec in_part = { buf, sizeof(buf) }, out_part = { (void *)(uintptr_t) "longer", 6 };
    struct msghdr got = {
        .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &in_part, .msg_iovlen = 1
    };
    struct msghdr put = {
        .msg_name = &b_addr, .msg_namelen = sizeof(b_addr), .msg_iov = &out_part, .msg_iovlen = 1
    };

    ouro_prep_recvmsg(in, b, &got, 0);
    start(t, in);
    let_pass(t);
    CHECK(!is_final(in));
    ouro_prep_sendmsg(out, a, &put, 0);
    CHECK_EQ(do_op(t, out), 6);
    CHECK_EQ(finish(t, in), 4);
    CHECK(got.msg_flags & MSG_TRUNC);
    CHECK_EQ(got.msg_namelen, sizeof(from));
    CHECK_EQ(from.sin_port, a_addr.sin_port);
    CHECK(memcmp(buf, "long", 4) == 0);
    CHECK_EQ(sendto(a, "12345678", 8, 0, any(&b_addr), sizeof(b_addr)), 8);
    ouro_prep_recv(in, b, buf, 4, MSG_TRUNC);
    CHECK_EQ(do_op(t, in), 8); /* the size that it had */
    CHECK_EQ(sendto(a, "", 0, 0, any(&b_addr), sizeof(b_addr)), 0);
    ouro_prep_recv(in, b, buf, 4, 0);
    CHECK_EQ(do_op(t, in), 0);
}

static void descriptors_travel(struct test *t)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } in_control, out_control = { .space = "" };
    ouro_op *in = op_new(t), *out = op_new(t);
    char byte = 'x', came = 0;
    struct iovec in_part = { &came, 1 }, out_part = { &byte, 1 };
    struct msghdr got = { .msg_iov = &in_part,
                          .msg_iovlen = 1,
                          .msg_control = in_control.space,
                          .msg_controllen = sizeof(in_control) };
    struct msghdr put = { .msg_iov = &out_part,
                          .msg_iovlen = 1,
                          .msg_control = out_control.space,
                          .msg_controllen = sizeof(out_control) };
    int fds[2], file = make_file(t, "f", "content", 7), received;
    char buf[8] = "";

    make_socketpair(t, fds);
    out_control.header.cmsg_level = SOL_SOCKET;
    out_control.header.cmsg_type = SCM_RIGHTS;
    out_control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&out_control.header), &file, sizeof(file));
    ouro_prep_recvmsg(in, fds[0], &got, 0);
    start(t, in);
    step(t);
    ouro_prep_sendmsg(out, fds[1], &put, 0);
    CHECK_EQ(do_op(t, out), 1);
    CHECK_EQ(finish(t, in), 1);
    CHECK_EQ(came, 'x');
    CHECK_EQ(in_control.header.cmsg_type, SCM_RIGHTS);
    memcpy(&received, CMSG_DATA(&in_control.header), sizeof(received));
    CHECK(received != file && fcntl(received, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(pread(received, buf, 7, 0), 7);
    CHECK(memcmp(buf, "content", 7) == 0);
    close(received);
}

static void serial_receives_keep_their_order(struct test *t)
{
    ouro_op *ops[8];
    char got[8];
    int fds[2];

    make_tcp(t, fds);
    for (int i = 0; i < 8; i++) {
        ops[i] = op_new(t);
        ouro_prep_recv(ops[i], fds[0], &got[i], 1, 0);
        ops[i]->flags = OURO_SERIAL;
        start(t, ops[i]);
    }
    CHECK_EQ(send(fds[1], "01234567", 8, 0), 8);
    finish_all(t);
    CHECK(memcmp(got, "01234567", 8) == 0);
}

/* ---- What a peer may do ---------------------------------------------------------------------- */

static void a_broken_pipe_is_an_error_and_no_signal(struct test *t)
{
    ouro_op *op = op_new(t);
    struct iovec part = { (void *)(uintptr_t) "x", 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    int fds[2];

    signal(SIGPIPE, SIG_DFL); /* it would end this process */
    for (unsigned which = 0; which < 2; which++) {
        make_pair(t, which, fds);
        CHECK_EQ(shutdown(fds[0], SHUT_WR), 0);
        ouro_prep_send(op, fds[0], "x", 1, 0);
        CHECK_EQ(do_op(t, op), -EPIPE);
        ouro_prep_sendmsg(op, fds[0], &message, 0);
        CHECK_EQ(do_op(t, op), -EPIPE);
    }
}

static void a_reset_ends_who_waits(struct test *t)
{
    ouro_op *in = op_new(t), *out = op_new(t);
    static char data[BIG];
    char byte;
    int fds[2];

    make_tcp(t, fds);
    /* Left alone, the buffer of a sender that is given time grows until all fits in. */
    CHECK_EQ(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &(int){ 65536 }, sizeof(int)), 0);
    ouro_prep_recv(in, fds[0], &byte, 1, 0);
    start(t, in);
    ouro_prep_send(out, fds[0], data, BIG, 0);
    out->flags = OURO_EXACT;
    start(t, out);
    let_pass(t);
    CHECK(!is_final(in) && !is_final(out));
    reset(t, fds[1]);
    finish_all(t);
    CHECK(RES(in) == -ECONNRESET || out->cause == -ECONNRESET); /* one of them is told */
    CHECK(RES(in) == -ECONNRESET || RES(in) == 0 || RES(in) == -EPIPE);
    CHECK(out->cause == -ECONNRESET || out->cause == -EPIPE);
}

/* The system tells of it once. */
static void a_reset_is_the_next_sends_result(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2];

    make_tcp(t, fds);
    ouro_prep_send(op, fds[0], "a", 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    reset(t, fds[1]);
    CHECK(readable(fds[0], 1000));
    ouro_prep_send(op, fds[0], "b", 1, 0);
    CHECK_EQ(do_op(t, op), -ECONNRESET);
    ouro_prep_send(op, fds[0], "c", 1, 0);
    CHECK_EQ(do_op(t, op), -EPIPE);
}

static bool stingy;

static void *stingy_alloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (size)
        return stingy ? NULL : realloc(old, size);
    free(old);
    return NULL;
}

/* Ids come in chunks of 1024; with three in use there are places for 4096 completions. */
static void a_send_that_is_refused_sends_nothing(struct test *t)
{
    enum { TIMERS = 3072 };
    static ouro_op timers[TIMERS];
    ouro_config config = { .size = sizeof(config), .engine = t->engine, .alloc = stingy_alloc };
    ouro_op op = { 0 };
    ouro_loop *loop;
    char byte;
    int fds[2];

    make_tcp(t, fds);
    CHECK_EQ(ouro_open(&config, &loop), 0);
    ouro_prep_send(&op, fds[0], "a", 1, 0);
    CHECK_EQ(ouro_do(loop, &op), 1);
    CHECK_EQ(recv(fds[1], &byte, 1, 0), 1);
    for (int i = 0; i < TIMERS; i++) {
        ouro_prep_timer(&timers[i], ouro_now(loop) + 3600 * OURO_S);
        CHECK_EQ(ouro_submit(loop, &timers[i]), 0);
    }
    stingy = true;
    ouro_prep_send(&op, fds[0], "b", 1, 0);
    CHECK_EQ(ouro_submit(loop, &op), -ENOMEM);
    stingy = false;
    CHECK(!readable(fds[1], 20));
    CHECK_EQ(ouro_close(loop, OURO_FOREVER), 0);
}

/* One half of a connection is closed; the other still carries data. */
static void half_closed_connections_work(struct test *t)
{
    ouro_op *op = op_new(t), *in = op_new(t);
    char buf[8] = "";
    int fds[2];

    make_tcp(t, fds);
    ouro_prep_recv(in, fds[1], buf, 8, 0);
    start(t, in);
    ouro_prep_shutdown(op, fds[0], SHUT_WR);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(finish(t, in), 0);
    ouro_prep_recv(in, fds[0], buf, 8, 0);
    start(t, in);
    let_pass(t);
    CHECK(!is_final(in));
    ouro_prep_send(op, fds[1], "late", 4, 0);
    CHECK_EQ(do_op(t, op), 4);
    CHECK_EQ(finish(t, in), 4);
}

/* shutdown(2) by the program ends what waits. */
static void a_shutdown_ends_receives(struct test *t)
{
    ouro_op *in = op_new(t);
    char byte;
    int fds[2];

    make_tcp(t, fds);
    ouro_prep_recv(in, fds[0], &byte, 1, 0);
    start(t, in);
    let_pass(t);
    CHECK_EQ(shutdown(fds[0], SHUT_RDWR), 0);
    CHECK_EQ(finish(t, in), 0);
}

static void a_close_ends_what_is_in_flight_and_sends_the_end(struct test *t)
{
    ouro_op *in = op_new(t), *op = op_new(t);
    char byte;
    int fds[2];

    make_tcp(t, fds);
    ouro_prep_recv(in, fds[0], &byte, 1, 0);
    start(t, in);
    let_pass(t);
    unmade(t, fds[0]);
    ouro_prep_close(op, fds[0]);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(finish(t, in), -ECANCELED);
    CHECK(readable(fds[1], 1000));
    CHECK_EQ(recv(fds[1], &byte, 1, 0), 0);
}

/* ---- Independence ---------------------------------------------------------------------------- */

enum { WAITERS = 9 };

/* One operation of each kind that waits for its peer; the descriptors: a socket that brings and
 * takes nothing, a listener that nobody connects to, and one whose queue is full. */
static void prep_waiter(struct test *t, ouro_op *op, unsigned which, const int fds[3],
                        ouro_pool *pool)
{
    static struct sockaddr_in addr;
    static char bytes[WAITERS], data[1000];
    static struct iovec part = { &bytes[8], 1 };
    static struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    socklen_t size = sizeof(addr);
    int client;

    switch (which) {
    case 0: ouro_prep_recv(op, fds[0], &bytes[0], 1, 0); break;
    case 1: ouro_prep_read(op, fds[0], &bytes[1], 1, 0); break;
    case 2: ouro_prep_send(op, fds[0], data, sizeof(data), 0); break;
    case 3: ouro_prep_write(op, fds[0], data, sizeof(data), 0); break;
    case 4: ouro_prep_accept(op, fds[1], NULL, NULL, 0); break;
    case 5: ouro_prep_accept_many(op, fds[1], 0); break;
    case 6: ouro_prep_recv_many(op, fds[0], pool, 0); break;
    case 7:
        client = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        CHECK_EQ(getsockname(fds[2], any(&addr), &size), 0);
        ouro_prep_connect(op, client, any(&addr), sizeof(addr));
        break;
    default: ouro_prep_recvmsg(op, fds[0], &message, 0); break;
    }
}

struct delays {
    unsigned count, late, slow; /* over 50 ms, 500 ms */
    ouro_time pooled;           /* the longest of those that ran on a worker */
};

static void note_delay(struct test *t, ouro_op *op, ouro_time since, struct delays *delays)
{
    ouro_time took = ouro_now(t->loop) - since, unit = seconds_scaled(1) * OURO_MS;

    delays->count++;
    delays->late += took > 50 * unit;
    delays->slow += took > 500 * unit;
    if (CFLAGS(op) & OURO_C_POOLED && took > delays->pooled)
        delays->pooled = took;
}

static void use_a_file(struct test *t, ouro_op *op, int fd, struct delays *delays)
{
    struct ouro_stat st;
    char buf[4];

    for (int i = 0; i < 5; i++) {
        ouro_time since = ouro_now(t->loop);

        if (i == 0)
            ouro_prep_read(op, fd, buf, 4, 0);
        else if (i == 1)
            ouro_prep_write(op, fd, "data", 4, 0);
        else if (i == 2)
            ouro_prep_fsync(op, fd);
        else if (i == 3)
            ouro_prep_stat(op, OURO_HERE, path_in(t, "f"), 0, &st);
        else
            ouro_prep_open(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0);
        op->deadline = in_ms(t, 5000);
        CHECK(do_op(t, op) == (i < 2 ? 4 : 0) || i == 4);
        note_delay(t, op, since, delays);
    }
    CHECK(RES(op) >= 0);
    close((int)RES(op));
}

static int64_t keep_the_worker(void *arg)
{
    atomic_bool *kept = arg;

    while (*kept)
        usleep(1000);
    return 0;
}

/* What delays is seen: work that keeps the only worker from a file that needs one. */
static void check_delay_is_seen(struct test *t)
{
    atomic_bool kept = true;
    struct delays delays = { 0 };
    ouro_op *work = op_new(t), *op = op_new(t);
    ouro_time since = ouro_now(t->loop);
    struct ouro_stat st;
    bool done;

    ouro_prep_work(work, keep_the_worker, &kept);
    start(t, work);
    ouro_prep_stat(op, OURO_HERE, path_in(t, "f"), 0, &st);
    start(t, op);
    let_pass(t);
    done = ouro_done(op);
    kept = false;
    CHECK_EQ(finish(t, op), 0);
    note_delay(t, op, since, &delays);
    CHECK(delays.pooled == 0 || (!done && delays.pooled >= 20 * OURO_MS));
    CHECK_EQ(finish(t, work), 0);
}

/* However many sockets wait for ever, whatever for, a file is read, written, synced, opened; also
 * where one worker is all there is. */
static void sockets_that_wait_for_ever_delay_no_file(struct test *t)
{
    enum { COUNT = 4 * WAITERS };
    static char data[1000];
    struct sockaddr_in addr;
    struct delays delays = { 0 };
    ouro_op *ops[COUNT], *op;
    ouro_pool *pool;
    int fd, fds[3], pair[2];

    close_loop(t);
    t->config.max_workers = t->config.max_blocking = 1;
    open_loop(t);
    op = op_new(t);
    fd = make_file(t, "f", "data", 4);
    make_socketpair(t, pair); /* on loopback TCP finds room later on */
    while (send(pair[0], data, sizeof(data), MSG_DONTWAIT) > 0)
        ;
    fds[0] = pair[0];
    fds[1] = bound(t, SOCK_STREAM, &addr, 4);
    fds[2] = bound(t, SOCK_STREAM, &addr, 0);
    connected(t, &addr);
    CHECK_EQ(ouro_pool_create(t->loop, 4, 64, &pool), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        prep_waiter(t, ops[i] = op_new(t), i % WAITERS, fds, pool);
        start(t, ops[i]);
    }
    let_pass(t);
    for (int i = 0; i < 4; i++)
        use_a_file(t, op, fd, &delays);
    CHECK(delays.slow <= 1 && delays.late <= delays.count / 2); /* a disk may be slow once */
    check_delay_is_seen(t);
    for (int i = 0; i < COUNT; i++)
        CHECK(!is_final(ops[i]));
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    finish_all(t);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(RES(ops[i]), -ECANCELED);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void bad_arguments_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_recv(op, -1, buf, 4, 0);
    CHECK_EQ(start_try(t, op), -EBADF);
    ouro_prep_recv(op, fds[0], NULL, 4, 0);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_recv(op, fds[0], buf, 4, MSG_WAITALL);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_send(op, fds[0], buf, 4, MSG_ZEROCOPY);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recv(op, fds[0], buf, 4, MSG_PEEK);
    op->flags = OURO_EXACT;
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recvmsg(op, fds[0], NULL, 0);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_connect(op, fds[0], NULL, 0);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_bind(op, fds[0], any(buf), 129);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_accept(op, fds[0], any(buf), NULL, 0);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_socket_direct(op, AF_INET, SOCK_STREAM, 0, 7);
    CHECK_EQ(start_try(t, op), -EINVAL);
}

static void errors_of_calls_come_back(struct test *t)
{
    ouro_op *op = op_new(t);
    struct sockaddr_in addr;
    char buf[4];
    int fd = make_file(t, "f", "x", 1), fds[2];

    ouro_prep_socket(op, AF_INET, 77, 0);
    CHECK_EQ(do_op(t, op), plain(socket(AF_INET, 77, 0)));
    ouro_prep_recv(op, fd, buf, 4, 0);
    CHECK_EQ(do_op(t, op), -ENOTSOCK);
    ouro_prep_accept(op, fd, NULL, NULL, 0);
    CHECK_EQ(do_op(t, op), -ENOTSOCK);
    ouro_prep_listen(op, fd, 1);
    CHECK_EQ(do_op(t, op), -ENOTSOCK);
    ouro_prep_shutdown(op, fd, SHUT_RD);
    CHECK_EQ(do_op(t, op), -ENOTSOCK);
    make_socketpair(t, fds);
    ouro_prep_accept(op, fds[0], NULL, NULL, 0);
    CHECK_EQ(do_op(t, op), -EINVAL);
    loopback(&addr);
    ouro_prep_connect(op, fds[0], any(&addr), sizeof(addr));
    CHECK_EQ(do_op(t, op), plain(connect(fds[0], any(&addr), sizeof(addr))));
    ouro_prep_shutdown(op, fds[0], 77);
    CHECK_EQ(do_op(t, op), -EINVAL);
}

static const struct test_case cases[] = {
    { NAMED(a_connection_from_its_beginning_to_its_end) },
    { NAMED(a_connect_on_a_socket_of_the_program_connects) },
    { NAMED(a_connect_that_gets_no_answer_is_cancelled_and_times_out) },
    { NAMED(local_names_are_bound_and_connected_to) },
    { NAMED(a_local_connect_waits_for_room) },
    { NAMED(accepts_are_served_one_each) },
    { NAMED(an_accept_without_descriptors_fails_and_loses_nothing), .faults = "7" },
    { NAMED(sockets_in_slots) },
    { NAMED(exact_goes_on_until_all_has_come), .faults = "1" },
    { NAMED(a_cancelled_exact_receive_tells_what_came), .pitfalls = "K6" },
    { NAMED(flags_of_messages_are_heeded), .faults = "3" },
    { NAMED(datagrams_bring_their_sender_and_their_size) },
    { NAMED(descriptors_travel) },
    { NAMED(serial_receives_keep_their_order) },
    { NAMED(a_broken_pipe_is_an_error_and_no_signal), .faults = "24", .pitfalls = "S14" },
    { NAMED(a_reset_ends_who_waits), .faults = "24" },
    { NAMED(a_reset_is_the_next_sends_result), .faults = "24" },
    { NAMED(a_send_that_is_refused_sends_nothing), .fixed = FIX_ALL },
    { NAMED(half_closed_connections_work), .faults = "24" },
    { NAMED(a_shutdown_ends_receives), .pitfalls = "F4" },
    { NAMED(a_close_ends_what_is_in_flight_and_sends_the_end), .pitfalls = "F1" },
    { NAMED(sockets_that_wait_for_ever_delay_no_file) },
    { NAMED(bad_arguments_are_refused) },
    { NAMED(errors_of_calls_come_back) },
    { 0 },
};

const struct subject subject_sockets = { "sockets", cases };

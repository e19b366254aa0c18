/* SPDX-License-Identifier: MIT */
/* t_slotted.c: sockets that are made or accepted into slots of the direct table by loops that
 * ask for OURO_CAP_SLOTS: io_uring has them without descriptors, and the results are the same on
 * every engine. */
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "test.h"

#define SLOTS 8u

/* ---- Helpers -------------------------------------------------------------------------------- */

/* True: what goes into slots has no descriptor. Without OURO_CAP_FIXED the ring has no table. */
static bool open_with(struct test *t, uint64_t caps)
{
    bool asked = open_loop_wanting(t, caps);

    CHECK_EQ(ouro_direct_table(t->loop, SLOTS), 0);
    return asked && t->mask != MASK_FIXED;
}

static bool open_with_slots(struct test *t)
{
    return open_with(t, OURO_CAP_SLOTS);
}

static int64_t do_direct(struct test *t, ouro_op *op)
{
    op->flags |= OURO_DIRECT;
    return do_op(t, op);
}

static int64_t send_slot(struct test *t, int slot, const void *data, size_t size)
{
    ouro_op *op = op_new(t);

    ouro_prep_send(op, slot, data, size, 0);
    return do_direct(t, op);
}

static int64_t recv_slot(struct test *t, int slot, void *data, size_t size)
{
    ouro_op *op = op_new(t);

    ouro_prep_recv(op, slot, data, size, 0);
    return do_direct(t, op);
}

static int64_t shut_slot(struct test *t, int slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_shutdown(op, slot, SHUT_WR);
    return do_direct(t, op);
}

static int64_t close_slot(struct test *t, int slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_close(op, slot);
    return do_direct(t, op);
}

static void socket_into(struct test *t, int domain, unsigned slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_socket_direct(op, domain, SOCK_STREAM, 0, slot);
    CHECK_EQ(do_op(t, op), 0);
}

static void accept_into(struct test *t, int listener, unsigned slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_accept_direct(op, listener, NULL, NULL, 0, slot);
    CHECK_EQ(do_op(t, op), 0);
}

static int64_t connect_slot(struct test *t, int slot, const void *addr, unsigned size)
{
    ouro_op *op = op_new(t);

    ouro_prep_connect(op, slot, addr, size);
    return do_direct(t, op);
}

/* A connection from slot 0 to slot 1. */
static void connect_slots(struct test *t)
{
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr);

    socket_into(t, AF_INET, 0);
    CHECK_EQ(connect_slot(t, 0, &addr, sizeof(addr)), 0);
    accept_into(t, listener, 1);
}

/* What accept_many has brought, and recv_many. */
static struct {
    pthread_mutex_t lock;
    unsigned count;
    int slots[64];
    ouro_pool *pool;
    char bytes[64];
    _Atomic size_t size;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void accepted(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op, (void)data;
    pthread_mutex_lock(&seen.lock);
    CHECK(res >= 0 && res < (int64_t)SLOTS && seen.count < 64);
    seen.slots[seen.count++] = (int)res;
    pthread_mutex_unlock(&seen.lock);
}

static void received(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK(res > 0 && seen.size + (size_t)res <= sizeof(seen.bytes));
    memcpy(seen.bytes + seen.size, data, (size_t)res);
    CHECK_EQ(ouro_pool_release(seen.pool, data), 0);
    seen.size += (size_t)res;
}

static unsigned count_seen(void)
{
    unsigned count;

    pthread_mutex_lock(&seen.lock);
    count = seen.count;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static void await(struct test *t, unsigned count)
{
    while (count_seen() < count) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%u connections of %u came in time", count_seen(), count);
        step(t);
        reap_all(t);
        usleep(100);
    }
}

/* ---- Without descriptors -------------------------------------------------------------------- */

static void pass_messages(struct test *t, int from, int to)
{
    char out[4] = "mess", in[8] = "";
    struct iovec iov_out[2] = { { out, 2 }, { out + 2, 2 } }, iov_in = { in, sizeof(in) };
    struct msghdr sent = { .msg_iov = iov_out, .msg_iovlen = 2 };
    struct msghdr got = { .msg_iov = &iov_in, .msg_iovlen = 1 };
    ouro_op *op = op_new(t);

    ouro_prep_sendmsg(op, from, &sent, 0);
    CHECK_EQ(do_direct(t, op), 4);
    ouro_prep_poll(op, to, POLLIN);
    CHECK_EQ(do_direct(t, op), POLLIN);
    ouro_prep_recvmsg(op, to, &got, 0);
    CHECK_EQ(do_direct(t, op), 4);
    CHECK(memcmp(in, "mess", 4) == 0);
}

/* Until the end of the input. */
static void pass_stream(struct test *t, int from, int to)
{
    ouro_op *op = op_new(t);

    record_of(op)->more = received;
    CHECK_EQ(ouro_pool_create(t->loop, 4, 512, &seen.pool), 0);
    ouro_prep_recv_many(op, to, seen.pool, 0);
    op->flags = OURO_DIRECT;
    start(t, op);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(send_slot(t, from, &"abcdefgh"[i], 1), 1);
    while (seen.size < 8) {
        CHECK(ouro_now(t->loop) < t->limit);
        let_rest(t);
    }
    CHECK_EQ(shut_slot(t, from), 0);
    CHECK_EQ(finish(t, op), 0);
    CHECK_EQ(seen.size, 8);
    CHECK(memcmp(seen.bytes, "abcdefgh", 8) == 0);
}

static void connections_need_no_descriptor(struct test *t)
{
    char buf[8] = "";
    bool alone = open_with_slots(t);
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr);
    ouro_op *op = op_new(t);
    long before;

    socket_into(t, AF_INET, 0); /* the table's proof changes descriptors */
    CHECK_EQ(close_slot(t, 0), 0);
    before = count_fds();
    ouro_prep_accept_direct(op, listener, NULL, NULL, 0, 1);
    start(t, op);
    let_pass(t);
    CHECK(!is_final(op));
    socket_into(t, AF_INET, 0);
    CHECK_EQ(connect_slot(t, 0, &addr, sizeof(addr)), 0);
    CHECK_EQ(finish(t, op), 0);
    ouro_prep_recv(op, 1, buf, 4, 0);
    op->flags = OURO_DIRECT | OURO_EXACT;
    start(t, op);
    let_pass(t);
    CHECK_EQ(send_slot(t, 0, "pi", 2), 2);
    CHECK_EQ(send_slot(t, 0, "ng", 2), 2);
    CHECK_EQ(finish(t, op), 4);
    CHECK(memcmp(buf, "ping", 4) == 0);
    pass_messages(t, 1, 0);
    pass_stream(t, 0, 1);
    if (alone)
        CHECK_EQ(count_fds(), before);
    ouro_prep_write(op, 1, "written", 7, 0); /* before RWF_NOSIGNAL (6.18) by a descriptor */
    CHECK_EQ(do_direct(t, op), 7);
    ouro_prep_read(op, 0, buf, sizeof(buf), 0);
    CHECK_EQ(do_direct(t, op), 7);
    CHECK(memcmp(buf, "written", 7) == 0);
    CHECK_EQ(close_slot(t, 1), 0);
    CHECK_EQ(recv_slot(t, 0, buf, 1), 0);
    CHECK_EQ(close_slot(t, 0), 0);
    if (alone)
        CHECK_EQ(count_fds(), before);
}

/* What is accepted is of its listener's type, what is made of the one that was asked for: neither
 * has to be looked at to know that it receives bytes. */
static void a_stream_that_shares_buffers_needs_no_descriptor(struct test *t)
{
    bool alone = open_with(t, OURO_CAP_SLOTS | OURO_CAP_PARTS);
    long before;

    connect_slots(t);
    before = count_fds();
    pass_stream(t, 0, 1);
    seen.size = 0;
    CHECK_EQ(ouro_pool_destroy(seen.pool), 0);
    pass_stream(t, 1, 0);
    if (alone)
        CHECK_EQ(count_fds(), before);
    CHECK_EQ(close_slot(t, 0), 0);
    CHECK_EQ(close_slot(t, 1), 0);
}

/* A listener in a slot, too. */
static void a_listener_in_a_slot_accepts(struct test *t)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    ouro_op *op = op_new(t), *many = op_new(t);
    char byte = 0;

    open_with_slots(t);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path_in(t, "s"));
    socket_into(t, AF_UNIX, 0);
    ouro_prep_bind(op, 0, (struct sockaddr *)(void *)&addr, sizeof(addr));
    CHECK_EQ(do_direct(t, op), 0);
    ouro_prep_listen(op, 0, 4);
    CHECK_EQ(do_direct(t, op), 0);
    socket_into(t, AF_UNIX, 1);
    CHECK_EQ(connect_slot(t, 1, &addr, sizeof(addr)), 0);
    ouro_prep_accept_direct(op, 0, NULL, NULL, 0, 2);
    CHECK_EQ(do_direct(t, op), 0);
    CHECK_EQ(send_slot(t, 1, "x", 1), 1);
    CHECK_EQ(recv_slot(t, 2, &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    record_of(many)->more = accepted;
    ouro_prep_accept_many_direct(many, 0, 0);
    many->flags = OURO_DIRECT;
    start(t, many);
    socket_into(t, AF_UNIX, 7);
    CHECK_EQ(connect_slot(t, 7, &addr, sizeof(addr)), 0);
    await(t, 1);
    CHECK_EQ(send_slot(t, seen.slots[0], "y", 1), 1);
    CHECK_EQ(recv_slot(t, 7, &byte, 1), 1);
    CHECK_EQ(byte, 'y');
    CHECK_EQ(close_slot(t, 0), 0); /* ends the stream, and leaves the connections */
    finish_canceled(t, many);
    CHECK_EQ(send_slot(t, 7, "z", 1), 1);
    CHECK_EQ(recv_slot(t, seen.slots[0], &byte, 1), 1);
}

/* Nobody who connects is lost, whether he finds a free slot or has to wait for one. */
static void connections_go_into_slots_as_they_are_free(struct test *t)
{
    enum { CLIENTS = 24 };
    int clients[CLIENTS], listener;
    bool alone = open_with_slots(t);
    struct sockaddr_in addr;
    ouro_op *op = op_new(t);
    long before;
    char byte;

    listener = make_listener(t, &addr);
    socket_into(t, AF_INET, 0);
    CHECK_EQ(close_slot(t, 0), 0);
    record_of(op)->more = accepted;
    ouro_prep_accept_many_direct(op, listener, 0);
    start(t, op);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(&addr);
        CHECK_EQ(send(clients[i], &(char){ (char)('a' + i) }, 1, 0), 1);
    }
    before = count_fds();
    await(t, SLOTS);
    let_rest(t);
    CHECK_EQ(count_seen(), SLOTS);
    if (alone)
        CHECK_EQ(count_fds(), before);
    for (int i = 0; i < CLIENTS; i++) {
        await(t, (unsigned)i + 1);
        CHECK_EQ(recv_slot(t, seen.slots[i], &byte, 1), 1);
        CHECK_EQ(byte, 'a' + i);
        CHECK_EQ(close_slot(t, seen.slots[i]), 0);
        CHECK_EQ(recv(clients[i], &byte, 1, 0), 0);
        close(clients[i]);
    }
    cancel_and_finish(t, op);
    for (unsigned i = 0; i < SLOTS; i++)
        socket_into(t, AF_INET, i); /* all are free again */
}

/* A cancel may meet an accept that has its connection: that one is in the slot then. Else it is
 * still to be accepted, and the slot is empty. */
static void a_cancelled_accept_loses_nobody(struct test *t)
{
    enum { ROUNDS = 60 };
    struct sockaddr_in addr;
    ouro_op *op = op_new(t);
    int listener;
    char byte;

    open_with_slots(t);
    listener = make_listener(t, &addr);
    for (unsigned round = 0; round < ROUNDS; round++) {
        int client;

        ouro_prep_accept_direct(op, listener, NULL, NULL, 0, 3);
        start(t, op);
        if (round % 3)
            step(t);
        client = connect_to(&addr);
        CHECK_EQ(send(client, "c", 1, 0), 1);
        if (round % 3 == 2 && round % 2)
            step(t);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        if (finish(t, op) < 0) {
            CHECK_EQ(RES(op), -ECANCELED);
            accept_into(t, listener, 3); /* it would be -EBUSY */
        } else {
            CHECK_EQ(RES(op), 0);
        }
        CHECK_EQ(recv_slot(t, 3, &byte, 1), 1);
        CHECK_EQ(byte, 'c');
        CHECK_EQ(close_slot(t, 3), 0);
        close(client);
    }
}

/* ---- Where a descriptor is needed ------------------------------------------------------------ */

static void what_needs_a_descriptor_is_lent_one(struct test *t)
{
    bool alone = open_with_slots(t);
    ouro_op *op = op_new(t);
    char buf[4] = "", out[2] = { 'v', 'w' };
    struct iovec iov[2] = { { out, 1 }, { out + 1, 1 } };
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    long before;
    int fd;

    connect_slots(t);
    before = count_fds();
    ouro_prep_writev(op, 0, iov, 2, 0, 0);
    CHECK_EQ(do_direct(t, op), 2);
    ouro_prep_recv(op, 1, buf, 4, 0);
    op->flags = OURO_FDMODE;
    CHECK_EQ(do_direct(t, op), 2);
    CHECK(memcmp(buf, "vw", 2) == 0);
    CHECK_EQ(count_fds() - before, alone ? 2 : 0);
    fd = ouro_direct_install(t->loop, 1);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC && !(fcntl(fd, F_GETFL) & O_NONBLOCK));
    CHECK_EQ(getpeername(fd, (struct sockaddr *)(void *)&peer, &size), 0);
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    close(fd);
    ouro_prep_recv(op, 1, buf, 1, 0);
    op->flags = OURO_DIRECT;
    start(t, op); /* waits all the same */
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(send_slot(t, 0, "n", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(close_slot(t, 0), 0);
    CHECK_EQ(close_slot(t, 1), 0);
    CHECK_EQ(count_fds(), alone ? before : before - 2);
}

/* The listener's SO_LINGER, which the connection takes over, or its own. */
static void check_lingering(struct test *t, bool inherited)
{
    static char bytes[1 << 18];
    const struct linger linger = { .l_onoff = 1, .l_linger = 5 };
    ouro_op *closing = op_new(t), *op = op_new(t);
    struct sockaddr_in addr;
    ouro_time before;
    int listener, client;

    open_with_slots(t);
    listener = make_listener(t, &addr);
    if (inherited)
        CHECK_EQ(setsockopt(listener, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    client = connect_to(&addr);
    accept_into(t, listener, 2);
    if (!inherited) {
        int fd = ouro_direct_install(t->loop, 2);

        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
        close(fd);
    }
    ouro_prep_send(op, 2, bytes, sizeof(bytes), MSG_DONTWAIT);
    do
        do_direct(t, op);
    while (RES(op) > 0);
    CHECK_EQ(RES(op), -EAGAIN);
    before = ouro_now(t->loop);
    ouro_prep_close(closing, 2);
    closing->flags = OURO_DIRECT;
    start(t, closing);
    ouro_prep_timer(op, in_ms(t, 20));
    CHECK_EQ(do_op(t, op), 0);
    CHECK(ouro_now(t->loop) - before < 3000 * OURO_MS);
    CHECK(!ouro_done(closing));
    close(client); /* what nobody takes any more is not lingered for */
    CHECK_EQ(finish(t, closing), 0);
    CHECK(ouro_now(t->loop) - before < 4000 * OURO_MS);
    client = connect_to(&addr);
    accept_into(t, listener, 2);
    close(client);
}

static void a_lingering_slot_holds_up_nothing(struct test *t)
{
    check_lingering(t, false);
}

static void a_slot_that_inherits_lingering_holds_up_nothing(struct test *t)
{
    check_lingering(t, true);
}

/* Without a descriptor to be had, what needs one says so, and the socket is none the worse. */
static void no_descriptor_is_left(struct test *t)
{
    struct rlimit limit, none;
    char byte = 'v';
    struct iovec iov = { &byte, 1 };
    struct sockaddr_in addr;
    ouro_op *op = op_new(t);
    int listener, client;

    if (!open_with_slots(t))
        return; /* there are descriptors already */
    listener = make_listener(t, &addr);
    client = made(t, connect_to(&addr));
    socket_into(t, AF_INET, 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    accept_into(t, listener, 1);
    ouro_prep_writev(op, 1, &iov, 1, 0, 0);
    CHECK_EQ(do_direct(t, op), -EMFILE);
    CHECK_EQ(send_slot(t, 1, "s", 1), 1);
    CHECK_EQ(recv(client, &byte, 1, 0), 1);
    CHECK_EQ(byte, 's');
    CHECK_EQ(ouro_direct_install(t->loop, 1), -EMFILE);
    CHECK_EQ(close_slot(t, 1), 0);
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* ---- Ends ----------------------------------------------------------------------------------- */

/* -EPIPE and no signal, whatever wrote. */
static void a_broken_connection_is_epipe(struct test *t)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    ouro_op *op = op_new(t);
    char byte = 'm';
    struct iovec iov = { &byte, 1 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    int listener = made(t, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

    open_with_slots(t);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path_in(t, "s"));
    CHECK_EQ(bind(listener, (struct sockaddr *)(void *)&addr, sizeof(addr)), 0);
    CHECK_EQ(listen(listener, 1), 0);
    socket_into(t, AF_UNIX, 0);
    CHECK_EQ(connect_slot(t, 0, &addr, sizeof(addr)), 0);
    accept_into(t, listener, 1);
    CHECK_EQ(close_slot(t, 1), 0);
    CHECK_EQ(send_slot(t, 0, "s", 1), -EPIPE);
    ouro_prep_write(op, 0, "w", 1, 0);
    CHECK_EQ(do_direct(t, op), -EPIPE);
    ouro_prep_writev(op, 0, &iov, 1, 0, 0);
    CHECK_EQ(do_direct(t, op), -EPIPE);
    ouro_prep_sendmsg(op, 0, &message, 0);
    CHECK_EQ(do_direct(t, op), -EPIPE);
}

/* A close ends what waits there first. */
static void a_close_ends_what_waits_on_its_slot(struct test *t)
{
    ouro_op *stream = op_new(t), *receive = op_new(t), *poll_op = op_new(t);
    char byte;

    open_with_slots(t);
    connect_slots(t);
    CHECK_EQ(ouro_pool_create(t->loop, 4, 512, &seen.pool), 0);
    record_of(stream)->more = received;
    ouro_prep_recv_many(stream, 1, seen.pool, 0);
    stream->flags = OURO_DIRECT;
    start(t, stream);
    ouro_prep_recv(receive, 0, &byte, 1, 0);
    receive->flags = OURO_DIRECT;
    start(t, receive);
    ouro_prep_poll(poll_op, 0, POLLIN);
    poll_op->flags = OURO_DIRECT;
    start(t, poll_op);
    let_pass(t);
    CHECK_EQ(close_slot(t, 0), 0);
    finish_canceled(t, receive);
    finish_canceled(t, poll_op);
    CHECK_EQ(finish(t, stream), 0);
    CHECK_EQ(close_slot(t, 1), 0);
}

/* A queue keeps its order and its wholeness by the number of the slot. */
static void sends_of_a_queue_go_out_by_the_slot(struct test *t)
{
    enum { SENDS = 12, SIZE = 100000 };
    static unsigned char data[SENDS * SIZE], got[SENDS * SIZE];
    ouro_op *ops[SENDS], *in = op_new(t);
    ouro_sendq queue;

    open_with_slots(t);
    connect_slots(t);
    fill(data, sizeof(data), 9);
    ouro_sendq_init(&queue, t->loop, 0, OURO_DIRECT);
    for (unsigned i = 0; i < SENDS; i++) {
        ouro_prep_send(ops[i] = op_new(t), 0, data + i * SIZE, SIZE, 0);
        ops[i]->flags = OURO_DIRECT;
        CHECK_EQ(start_push(t, &queue, ops[i]), 0);
    }
    ouro_prep_recv(in, 1, got, sizeof(got), 0);
    in->flags = OURO_DIRECT | OURO_EXACT;
    CHECK_EQ(do_op(t, in), (int64_t)sizeof(got));
    for (unsigned i = 0; i < SENDS; i++)
        CHECK_EQ(finish(t, ops[i]), SIZE);
    check_filled(got, sizeof(got), 9);
}

/* ---- Loss and fork -------------------------------------------------------------------------- */

/* What only the ring had is gone with it, and says so; what comes after has descriptors. */
static void sockets_are_lost_with_the_ring(struct test *t)
{
    ouro_op *waiting = op_new(t), *stream = op_new(t), *queued = op_new(t), *next = op_new(t);
    struct sockaddr_in addr;
    int listener, client;
    char byte, more;

    t->config.engine = NULL;
    if (!open_with_slots(t))
        return;
    connect_slots(t);
    listener = make_listener(t, &addr);
    client = made(t, connect_to(&addr));
    CHECK_EQ(ouro_pool_create(t->loop, 4, 512, &seen.pool), 0);
    ouro_prep_recv(waiting, 0, &byte, 1, 0);
    waiting->flags = OURO_DIRECT;
    start(t, waiting);
    record_of(stream)->more = received;
    ouro_prep_recv_many(stream, 1, seen.pool, 0);
    stream->flags = OURO_DIRECT;
    start(t, stream);
    let_pass(t);
    block_io_uring(BLOCK_ALL, EPERM);
    ouro_prep_send(queued, 1, "q", 1, 0);
    queued->flags = OURO_DIRECT;
    start(t, queued);
    ouro_prep_accept_direct(next, listener, NULL, NULL, 0, 4);
    start(t, next);
    CHECK_EQ(finish(t, queued), -EIO);
    CHECK(CFLAGS(queued) & OURO_C_LOST);
    CHECK_EQ(finish(t, waiting), -EIO);
    CHECK_EQ(finish(t, stream), -EIO);
    CHECK_EQ(finish(t, next), 0);
    CHECK_EQ(send_slot(t, 4, "4", 1), 1);
    CHECK_EQ(recv(client, &more, 1, 0), 1);
    CHECK_EQ(more, '4');
    CHECK_EQ(close_slot(t, 0), -EIO); /* empties it all the same */
    socket_into(t, AF_INET, 0);
    CHECK_EQ(connect_slot(t, 0, &addr, sizeof(addr)), 0);
}

/* What only the parent's ring has is the parent's alone. */
static void a_forked_child_has_no_sockets_of_the_ring(struct test *t)
{
    bool alone = open_with_slots(t);
    char byte;
    pid_t child;

    connect_slots(t);
    child = fork();
    if (child == 0) {
        int fd;

        if (ouro_fork_child(t->loop) < 0)
            _exit(1);
        fd = ouro_direct_install(t->loop, 0);
        _exit(alone == (fd == -EBADF) && alone == (fd < 0) ? 0 : 2);
    }
    expect_exit_zero(child);
    CHECK_EQ(send_slot(t, 0, "p", 1), 1);
    CHECK_EQ(recv_slot(t, 1, &byte, 1), 1);
    CHECK_EQ(byte, 'p');
}

#define BY_SLOT(name, ...)                        \
    {                                             \
        NAMED(name), .no_loop = true, __VA_ARGS__ \
    }
static const struct test_case cases[] = {
    BY_SLOT(connections_need_no_descriptor, .fixed = FIX_MASK, .pitfalls = "F11"),
    BY_SLOT(a_stream_that_shares_buffers_needs_no_descriptor, .fixed = FIX_MASK),
    BY_SLOT(a_listener_in_a_slot_accepts, .fixed = FIX_FD),
    BY_SLOT(connections_go_into_slots_as_they_are_free, .pitfalls = "F11"),
    BY_SLOT(a_cancelled_accept_loses_nobody, .pitfalls = "K7"),
    BY_SLOT(what_needs_a_descriptor_is_lent_one, .fixed = FIX_MASK),
    BY_SLOT(a_lingering_slot_holds_up_nothing, .fixed = FIX_FD, .heavy = true),
    BY_SLOT(a_slot_that_inherits_lingering_holds_up_nothing, .fixed = FIX_FD, .heavy = true),
    BY_SLOT(no_descriptor_is_left, .fixed = FIX_FD | FIX_MASK),
    BY_SLOT(a_broken_connection_is_epipe, .fixed = FIX_FD, .pitfalls = "S14"),
    BY_SLOT(a_close_ends_what_waits_on_its_slot, .fixed = FIX_FD),
    BY_SLOT(sends_of_a_queue_go_out_by_the_slot, .fixed = FIX_FD),
    BY_SLOT(sockets_are_lost_with_the_ring, .fixed = FIX_FD | FIX_MASK, .needs = NEED_URING),
    BY_SLOT(a_forked_child_has_no_sockets_of_the_ring, .fixed = FIX_FD),
    { .name = NULL },
};
const struct subject subject_slotted = { "slotted", cases };

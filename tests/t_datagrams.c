/* SPDX-License-Identifier: MIT */
/* t_datagrams.c: streams of datagrams (recvmsg_many): each with its sender and control data, in a
 * buffer of the pool. */
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "test.h"

#define BUFFERS 4u
#define BUFFER_SIZE 2048u
#define ROOM 64u /* for addresses and for control data */

/* What has come; in SERVICE loops the library's thread writes it. */
static struct {
    pthread_mutex_t lock;
    ouro_pool *pool;
    unsigned count;
    int64_t res[64];
    ouro_datagram at[64];
    unsigned char first[64]; /* byte of the payload */
    uint16_t port[64];
    int fd[64]; /* that came with it, or -1 */
    void *kept[64];
    bool keeps;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static unsigned count_seen(void)
{
    unsigned count;

    pthread_mutex_lock(&seen.lock);
    count = seen.count;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static int descriptor_in(const ouro_datagram *datagram)
{
    struct cmsghdr *part = datagram->control;
    int fd = -1;

    if (!part || datagram->control_size < CMSG_LEN(sizeof(int)) || part->cmsg_type != SCM_RIGHTS)
        return -1;
    memcpy(&fd, CMSG_DATA(part), sizeof(fd));
    return fd;
}

static void received(struct test *t, ouro_op *op, int64_t res, void *data)
{
    ouro_datagram one;
    unsigned i;

    (void)t;
    CHECK(res >= 0 && data);
    ouro_datagram_of(op, data, &one);
    CHECK_EQ(one.size, res);
    pthread_mutex_lock(&seen.lock);
    i = seen.count;
    CHECK(i < 64);
    seen.res[i] = res;
    seen.at[i] = one;
    seen.first[i] = res ? *(unsigned char *)one.payload : 0;
    seen.fd[i] = descriptor_in(&one);
    if (one.addr && one.addr->sa_family == AF_INET)
        seen.port[i] = ((const struct sockaddr_in *)(const void *)one.addr)->sin_port;
    seen.kept[i] = data;
    pthread_mutex_unlock(&seen.lock);
    if (!seen.keeps)
        CHECK_EQ(ouro_pool_release(seen.pool, data), 0);
    pthread_mutex_lock(&seen.lock);
    seen.count++;
    pthread_mutex_unlock(&seen.lock);
}

static void turn(struct test *t)
{
    CHECK(ouro_now(t->loop) < t->limit);
    step(t);
    reap_all(t);
    usleep(100);
}

static void await(struct test *t, unsigned count)
{
    while (count_seen() < count)
        turn(t);
}

static int udp(struct test *t, struct sockaddr_in *ret_addr)
{
    int fd = made(t, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    socklen_t size = sizeof(*ret_addr);

    memset(ret_addr, 0, sizeof(*ret_addr));
    ret_addr->sin_family = AF_INET;
    ret_addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(fd, (struct sockaddr *)ret_addr, sizeof(*ret_addr)), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)ret_addr, &size), 0);
    return fd;
}

static void send_to(int fd, const struct sockaddr_in *to, const void *data, size_t len)
{
    CHECK_EQ(sendto(fd, data, len, 0, (const struct sockaddr *)to, sizeof(*to)), len);
}

static ouro_op *start_stream(struct test *t, int fd, unsigned addr_room, unsigned control_room)
{
    ouro_op *op = op_new(t);

    if (!seen.pool)
        CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, BUFFER_SIZE, &seen.pool), 0);
    record_of(op)->more = received;
    ouro_prep_recvmsg_many(op, fd, seen.pool, addr_room, control_room, 0);
    start(t, op);
    return op;
}

static void end_stream(struct test *t, ouro_op *op)
{
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
    CHECK_EQ(ouro_pool_destroy(seen.pool), 0);
}

static void datagrams_come_with_their_senders(struct test *t)
{
    struct sockaddr_in to, from[2];
    int in = udp(t, &to), out[2] = { udp(t, &from[0]), udp(t, &from[1]) };
    char data[1000];
    ouro_op *op = start_stream(t, in, sizeof(struct sockaddr_in), 0);

    for (unsigned i = 0; i < 40; i++) {
        memset(data, 'a' + (int)i, sizeof(data));
        send_to(out[i % 2], &to, data, i % 5 ? i * 25 : 0); /* some are empty */
        if (i % 3 == 0)
            turn(t);
    }
    await(t, 40);
    for (unsigned i = 0; i < 40; i++) {
        CHECK_EQ(seen.res[i], i % 5 ? i * 25 : 0);
        CHECK_EQ(seen.first[i], i % 5 ? 'a' + (int)i : 0);
        CHECK_EQ(seen.at[i].addr_size, sizeof(struct sockaddr_in));
        CHECK_EQ(seen.port[i], from[i % 2].sin_port);
        CHECK(!seen.at[i].control && !seen.at[i].flags);
    }
    CHECK(!is_final(op));
    end_stream(t, op);
}

static void what_is_cut_is_told(struct test *t)
{
    static char data[BUFFER_SIZE + 100];
    struct sockaddr_in to, from;
    int in = udp(t, &to), out = udp(t, &from);
    ouro_op *op = start_stream(t, in, 8, 0);
    unsigned room = BUFFER_SIZE - 16 - 8;

    fill(data, sizeof(data), 41);
    send_to(out, &to, data, room);
    send_to(out, &to, data, room + 1);
    send_to(out, &to, data, sizeof(data));
    await(t, 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(seen.res[i], room);
        CHECK_EQ(seen.at[i].flags, i ? MSG_TRUNC : 0);
        CHECK_EQ(seen.at[i].addr_size, sizeof(struct sockaddr_in)); /* only 8 had room */
        CHECK_EQ(seen.port[i], from.sin_port);
    }
    end_stream(t, op);
}

static void send_descriptor(int socket, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = { { 0 } };
    char mark = 'd';
    struct iovec byte = { &mark, 1 };
    struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1 };
    struct cmsghdr *part;

    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(part), &fd, sizeof(fd));
    CHECK_EQ(sendmsg(socket, &message, 0), 1);
}

static void descriptors_come_as_control_data(struct test *t)
{
    int fds[2], file = make_file(t, "f", "file", 4);
    char got[5] = "";
    ouro_op *op;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    made(t, fds[0]);
    made(t, fds[1]);
    op = start_stream(t, fds[0], sizeof(struct sockaddr_un), CMSG_SPACE(sizeof(int)));
    send_descriptor(fds[1], file);
    CHECK_EQ(send(fds[1], "p", 1, 0), 1);
    await(t, 2);
    CHECK(seen.fd[0] >= 0 && fcntl(seen.fd[0], F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(pread(seen.fd[0], got, 4, 0), 4);
    CHECK_EQ(close(seen.fd[0]), 0);
    CHECK(!strcmp(got, "file") && seen.fd[1] < 0 && seen.first[1] == 'p');
    CHECK(!seen.at[0].addr); /* the other end has no name */
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
    op = start_stream(t, fds[0], 0, 0);
    send_descriptor(fds[1], file);
    await(t, 3);
    CHECK(seen.fd[2] < 0 && !seen.at[2].control);
    CHECK_EQ(seen.at[2].flags, MSG_CTRUNC);
    end_stream(t, op);
}

/* What has no buffer stays in the socket. */
static void a_lack_of_buffers_is_waited_out(struct test *t)
{
    struct sockaddr_in to, from;
    int in = udp(t, &to), out = udp(t, &from);
    ouro_op *op;

    seen.keeps = true;
    op = start_stream(t, in, ROOM, ROOM);
    for (unsigned i = 0; i < 3 * BUFFERS; i++)
        send_to(out, &to, &(char){ (char)('a' + i) }, 1);
    await(t, BUFFERS);
    for (int i = 0; i < 20; i++)
        turn(t);
    CHECK_EQ(count_seen(), BUFFERS);
    CHECK(!is_final(op));
    for (unsigned i = 0; i < 2 * BUFFERS; i++) {
        ouro_datagram again;
        ouro_datagram_of(op, seen.kept[i], &again);
        CHECK_EQ(*(char *)again.payload, 'a' + (int)i); /* nobody has written there */
        CHECK_EQ(ouro_pool_release(seen.pool, again.payload), 0);
        await(t, BUFFERS + i + 1);
    }
    for (unsigned i = 0; i < 3 * BUFFERS; i++)
        CHECK_EQ(seen.first[i], 'a' + (int)i);
    end_stream(t, op);
}

/* Where nothing means the end, it is final, and brings no buffer. */
static void the_end_of_a_connection_is_final(struct test *t)
{
    ouro_op *op = NULL;
    int fds[2];

    for (int i = 0; i < 12; i++) { /* more often than there are buffers */
        int type = i % 2 ? SOCK_SEQPACKET : SOCK_STREAM;
        CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
        op = start_stream(t, fds[0], ROOM, ROOM);
        CHECK_EQ(send(fds[1], "x", 1, 0), 1);
        await(t, (unsigned)i + 1);
        CHECK_EQ(seen.first[i], 'x');
        close(fds[1]);
        CHECK_EQ(finish(t, op), 0);
        CHECK(!(CFLAGS(op) & (OURO_C_MORE | OURO_C_BUF)));
        close(fds[0]);
    }
    CHECK_EQ(ouro_pool_destroy(seen.pool), 0);
}

/* The kernel's answers to so many questions have no room. Then there is a buffer, and yet -ENOBUFS:
 * that is for the caller. */
static void lost_messages_are_told(struct test *t)
{
    const struct nlmsghdr question = { .nlmsg_len = NLMSG_LENGTH(0),
                                       .nlmsg_type = NLMSG_NOOP,
                                       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK };
    int fd = made(t, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), least = 1;
    ouro_op *op;

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(send(fd, &question, sizeof(question), 0), sizeof(question));
    op = start_stream(t, fd, ROOM, 0);
    CHECK_EQ(finish(t, op), -ENOBUFS);
    CHECK_EQ(count_seen(), 0);
    op = start_stream(t, fd, ROOM, 0);
    await(t, 1);
    while (recv(fd, &least, sizeof(least), MSG_DONTWAIT) > 0)
        ;
    end_stream(t, op);
}

static void bad_ones_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    struct sockaddr_in to;
    ouro_pool *odd;
    int in = udp(t, &to);

    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, BUFFER_SIZE, &seen.pool), 0);
    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, 1000, &odd), 0);
    ouro_prep_recvmsg_many(op, in, NULL, 0, 0, 0);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_recvmsg_many(op, in, odd, 0, 0, 0);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recvmsg_many(op, in, seen.pool, BUFFER_SIZE - 16, 0, 0);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recvmsg_many(op, in, seen.pool, UINT32_MAX, UINT32_MAX, 0);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recvmsg_many(op, in, seen.pool, 0, 0, MSG_TRUNC);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recvmsg_many(op, -1, seen.pool, 0, 0, 0);
    CHECK_EQ(start_try(t, op), -EBADF);
    ouro_prep_recvmsg_many(op, make_file(t, "f", "x", 1), seen.pool, 0, 0, 0);
    CHECK_EQ(do_op(t, op), -ENOTSOCK);
    CHECK_EQ(ouro_pool_destroy(odd), 0);
    CHECK_EQ(ouro_pool_destroy(seen.pool), 0);
}

static const struct test_case cases[] = {
    { NAMED(datagrams_come_with_their_senders) },
    { NAMED(what_is_cut_is_told) },
    { NAMED(descriptors_come_as_control_data) },
    { NAMED(a_lack_of_buffers_is_waited_out) },
    { NAMED(the_end_of_a_connection_is_final) },
    { NAMED(lost_messages_are_told), .fixed = FIX_FD },
    { NAMED(bad_ones_are_refused) },
    { 0 },
};

const struct subject subject_datagrams = { "datagrams", cases };

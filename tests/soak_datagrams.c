/* SPDX-License-Identifier: MIT */
/* soak_datagrams.c: datagrams over UDP and local sockets, received one by one and by streams: each
 * comes once, whole, from its sender, if it was sent, and not if its send was ended.
 *
 * None may get lost: no more are under way than the receiver's buffer has room for. Datagrams of
 * a channel are numbered; a number is used again when what it stood for was settled. */
#include <arpa/inet.h>

#include "soak.h"

enum { CHANNELS = 2, NUMBERS = 256 /* a power of two, and under way at most */ };
enum { ADDR_ROOM = 32, CONTROL_ROOM = 16, POOL_BUFFER = 256 };
enum { FREE, UNDER_WAY, SENT, CAME /* and the send is not final */ }; /* what a number stands for */

struct head {
    uint32_t magic, channel, number, size;
};

static struct channel {
    int in, out;
    struct sockaddr_in addr; /* UDP: where to send to */
    uint16_t port;           /* and from where it comes */
    uint8_t state[NUMBERS];
    uint32_t next;
    struct item *stream;
} channels[CHANNELS];
static struct keeper keeper;

static unsigned char byte_of(const struct head *head, uint32_t at)
{
    return (unsigned char)(head->number * 37 + head->channel * 5 + at * 11);
}

/* ---- Completions ----------------------------------------------------------------------------- */

static void came(struct channel *channel, const char *data, uint32_t size, bool cut)
{
    struct head head;
    uint8_t *state;

    if (size < sizeof head)
        die("a datagram of %u bytes", size);
    memcpy(&head, data, sizeof head);
    if (head.magic != 0x6f75726f || head.channel != (uint32_t)(channel - channels) ||
        head.number >= NUMBERS || (cut ? head.size <= size : head.size != size))
        die("a datagram of %u bytes that nobody sent (%u bytes, %scut)", size, head.size,
            cut ? "" : "not ");
    for (uint32_t i = sizeof head; i < size; i++)
        if ((unsigned char)data[i] != byte_of(&head, i))
            die("a datagram is wrong at %u", i);
    state = &channel->state[head.number];
    if (*state != UNDER_WAY && *state != SENT)
        die("datagram %u came twice, or after its send had ended", head.number);
    *state = *state == SENT ? FREE : CAME;
}

static void judge_send(struct channel *channel, const struct item *item, int64_t res)
{
    uint8_t *state = &channel->state[item->number];

    if (res >= 0 && res != (int64_t)item->len)
        die("a datagram was sent in part");
    if (res < 0 && *state == CAME)
        die("a datagram came, and its send says that it was ended");
    *state = res < 0 || *state == CAME ? FREE : SENT;
}

static void check_sender(const struct channel *channel, const struct sockaddr *addr, unsigned size)
{
    const struct sockaddr_in *in = (const void *)addr;

    if (channel->port && (!addr || size != sizeof *in || in->sin_port != channel->port))
        die("a datagram from nowhere");
}

static void judge_receive(struct channel *channel, const struct item *item, int64_t res)
{
    const struct msghdr *head = &item->message.head;

    if (res < 0)
        return;
    if ((uint64_t)res > item->len)
        die("a datagram larger than its buffer");
    check_sender(channel, head->msg_name, head->msg_namelen);
    came(channel, item->buf, (uint32_t)res, head->msg_flags & MSG_TRUNC);
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    struct channel *channel = &channels[item->at];

    if (item->op.code == OURO_SENDMSG)
        judge_send(channel, item, res);
    else if (item->op.code == OURO_RECVMSG)
        judge_receive(channel, item, res);
    else if (res >= 0)
        die("a stream of datagrams ended");
    else
        channel->stream = NULL;
    if (item->op.flags & OURO_ZEROCOPY && res > 0 && !(cflags & OURO_C_COPIED))
        die("a datagram over loopback was not copied");
}

static void more(struct item *item, int64_t res, void *data)
{
    struct channel *channel = &channels[item->at];
    ouro_datagram one;

    if (!data)
        die("a datagram without buffer");
    ouro_datagram_of(&item->op, data, &one);
    if (one.size != res || (one.control && !one.control_size))
        die("a datagram of %lld bytes says %u", (long long)res, one.size);
    check_sender(channel, one.addr, one.addr_size);
    came(channel, one.payload, one.size, one.flags & MSG_TRUNC);
    keeper_take(&keeper, data);
}

/* ---- Submissions ----------------------------------------------------------------------------- */

static bool prepare_send(struct channel *channel, struct item *item)
{
    uint32_t number = channel->next % NUMBERS;
    struct head head = { .magic = 0x6f75726f,
                         .channel = (uint32_t)item->at,
                         .number = number,
                         .size = (uint32_t)sizeof head + draw(draw(20) ? 100 : 300) };

    if (channel->state[number] != FREE)
        return false;
    channel->next++;
    channel->state[number] = UNDER_WAY;
    memcpy(item->buf, &head, sizeof head);
    for (uint32_t i = sizeof head; i < head.size; i++)
        item->buf[i] = (char)byte_of(&head, i);
    item->number = number;
    item->len = head.size;
    item->message.part = (struct iovec){ item->buf, head.size };
    item->message.head = (struct msghdr){ .msg_iov = &item->message.part,
                                          .msg_iovlen = 1,
                                          .msg_name = channel->port ? &channel->addr : NULL,
                                          .msg_namelen = channel->port ? sizeof channel->addr : 0 };
    ouro_prep_sendmsg(&item->op, channel->out, &item->message.head, 0);
    item->op.flags = (draw(20) ? 0 : OURO_ZEROCOPY) | (draw(4) ? 0 : OURO_SERIAL);
    item->op.deadline = soon(5000000);
    return true;
}

static bool prepare_receive(struct channel *channel, struct item *item)
{
    if (!channel->stream && !draw(4)) {
        channel->stream = item;
        ouro_prep_recvmsg_many(&item->op, channel->in, keeper.pool, ADDR_ROOM, CONTROL_ROOM, 0);
    } else {
        item->len = sizeof(struct head) + draw(300);
        item->message.part = (struct iovec){ item->buf, item->len };
        item->message.head = (struct msghdr){ .msg_iov = &item->message.part,
                                              .msg_iovlen = 1,
                                              .msg_name = &item->message.addr,
                                              .msg_namelen = sizeof item->message.addr };
        ouro_prep_recvmsg(&item->op, channel->in, &item->message.head, 0);
    }
    item->op.deadline = soon(3000000);
    return true;
}

static bool prepare(struct item *item)
{
    struct channel *channel = &channels[draw(CHANNELS)];

    item->at = (int)(channel - channels);
    return draw(3) ? prepare_send(channel, item) : prepare_receive(channel, item);
}

static void stir(void)
{
    struct item *stream = channels[draw(CHANNELS)].stream;
    int r = 0;

    if (stream) /* which may have ended, and not been collected: -EINVAL */
        r = draw(2) ? ouro_pause(soak.loop, &stream->op) : ouro_resume(soak.loop, &stream->op);
    if (r < 0 && r != -EINVAL)
        die("a stream cannot be paused: %s", strerror(-r));
}

/* ---- The channels ---------------------------------------------------------------------------- */

static int udp(struct sockaddr_in *ret_addr)
{
    static const int room = 1 << 20; /* what of it is granted is enough */
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *ret_addr;

    memset(ret_addr, 0, sizeof *ret_addr);
    ret_addr->sin_family = AF_INET;
    ret_addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) != 0 ||
        bind(fd, (struct sockaddr *)ret_addr, sizeof *ret_addr) != 0 ||
        getsockname(fd, (struct sockaddr *)ret_addr, &size) != 0)
        die("no UDP");
    return fd;
}

static void open_channels(void)
{
    struct sockaddr_in from;
    int fds[2];

    channels[0].in = udp(&channels[0].addr);
    channels[0].out = udp(&from);
    channels[0].port = from.sin_port;
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) != 0)
        die("no sockets");
    channels[1].in = fds[0];
    channels[1].out = fds[1];
    keeper_open(&keeper, KEPT * 2, POOL_BUFFER);
}

static void settle(void)
{
    keeper_settle(&keeper);
}

static void close_channels(void)
{
    char data[BUF];
    ssize_t r;

    for (struct channel *channel = channels; channel < channels + CHANNELS; channel++) {
        while ((r = recv(channel->in, data, sizeof data, MSG_DONTWAIT)) >= 0)
            came(channel, data, (uint32_t)r, false);
        for (int i = 0; i < NUMBERS; i++)
            if (channel->state[i] != FREE)
                die("datagram %d never came", i);
        close(channel->in);
        close(channel->out);
    }
}

const struct theme theme_datagrams = {
    .name = "datagrams",
    .weight = 30,
    .open = open_channels,
    .close = close_channels,
    .prepare = prepare,
    .more = more,
    .judge = judge,
    .stir = stir,
    .settle = settle,
};

/* SPDX-License-Identifier: MIT */
/* soak_bytes.c: bytes in order: each connection's arrive as they were sent, by queues of sends,
 * SERIAL and BARRIER sends, without copying, through direct slots, into receives and streams that
 * pause.
 *
 * A lane is one direction of a connection. It numbers its sends and its receives as they are
 * submitted. What has arrived is compared when the send that it belongs to is final: that one has
 * told how much of it went out. */
#include "soak.h"

enum { LANES = 6, LOCAL = 2 /* of the lanes */, WINDOW = 16, BIG = 40000, LOG = 1 << 17 };
enum { SENDS, RECEIVES, STREAMS }; /* kinds */

struct part {
    bool final;
    int64_t res;
    char bytes[BUF]; /* of a receive */
};

static struct lane {
    int out, in;
    uint32_t out_flags, in_flags; /* OURO_DIRECT */
    ouro_sendq queue;
    unsigned queued, receiving;
    /* Of the queue: a member fell short, and so it refuses; some were cancelled by that. */
    bool broken, refused;
    struct item *stream, *big; /* that are in flight */
    struct part sent[WINDOW], got[WINDOW];
    uint64_t sent_first, sent_next, got_first, got_next;
    char log[LOG]; /* has arrived, and is not compared */
    uint64_t log_first, log_next;
    char bytes[BIG]; /* of one send without copying */
} lanes[LANES];
static struct keeper keeper;

/* ---- What is sent and what arrives ----------------------------------------------------------- */

static char byte_of(const struct lane *lane, uint64_t number, size_t at)
{
    return (char)(number * 131 + (uint64_t)(lane - lanes) * 17 + at * 7 + (at >> 8));
}

static void fill_bytes(const struct lane *lane, uint64_t number, char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = byte_of(lane, number, i);
}

static void compare(struct lane *lane)
{
    while (lane->sent_first < lane->sent_next) {
        const struct part *part = &lane->sent[lane->sent_first % WINDOW];
        uint64_t len = part->res > 0 ? (uint64_t)part->res : 0;

        if (!part->final || lane->log_next - lane->log_first < len)
            return;
        for (uint64_t i = 0; i < len; i++)
            if (lane->log[lane->log_first++ % LOG] != byte_of(lane, lane->sent_first, i))
                die("lane %d: byte %llu of %llu is wrong", (int)(lane - lanes),
                    (unsigned long long)i, (unsigned long long)len);
        lane->sent_first++;
    }
    if (lane->log_first != lane->log_next)
        die("lane %d: bytes that nobody sent", (int)(lane - lanes));
}

static void arrived(struct lane *lane, const char *bytes, int64_t len)
{
    if (lane->log_next - lane->log_first + (uint64_t)len > LOG)
        die("lane %d: more bytes than were sent", (int)(lane - lanes));
    for (int64_t i = 0; i < len; i++)
        lane->log[lane->log_next++ % LOG] = bytes[i];
}

/* ---- Completions ----------------------------------------------------------------------------- */

/* A queue that broke begins anew when the last of it has ended. */
static void left_queue(struct lane *lane)
{
    if (--lane->queued)
        return;
    if (lane->refused && !lane->broken)
        die("lane %d: a queue ended sends, and none had failed", (int)(lane - lanes));
    if (lane->broken)
        ouro_sendq_init(&lane->queue, soak.loop, lane->out, lane->out_flags);
    lane->broken = lane->refused = false;
}

/* All here is local, so that zero copy is never zero copies. */
static void check_copied(const struct item *item, int64_t res, uint32_t cflags)
{
    bool copied = cflags & OURO_C_COPIED, asked = item->op.flags & OURO_ZEROCOPY;

    if (copied && !asked)
        die("a send says copied, and nobody asked");
    if (asked && res > 0 && !copied)
        die("a send over loopback says it was not copied");
}

static void judge_send(struct lane *lane, struct item *item, int64_t res, uint32_t cflags)
{
    struct part *part = &lane->sent[item->number % WINDOW];
    bool big = lane->big == item;
    char *bytes = big ? lane->bytes : item->buf;

    check_copied(item, res, cflags);
    if (item->linked && cflags & OURO_C_CANCELED && !item->canceled)
        lane->refused = true;
    if (item->linked && res < (int64_t)item->len && !ended_early(res, cflags))
        lane->broken = true;
    *part = (struct part){ .final = true, .res = res };
    memset(bytes, 0xee, big ? BIG : 16); /* it is ours again */
    if (big)
        lane->big = NULL;
    if (item->linked)
        left_queue(lane);
}

static void judge_receive(struct lane *lane, struct item *item, int64_t res)
{
    struct part *part = &lane->got[item->number % WINDOW];

    if (res == 0)
        die("lane %d ended", (int)(lane - lanes));
    part->final = true;
    part->res = res;
    if (res > 0)
        memcpy(part->bytes, item->buf, (size_t)res);
    lane->receiving--;
    while (lane->got_first < lane->got_next) {
        part = &lane->got[lane->got_first % WINDOW];
        if (!part->final)
            return;
        if (part->res > 0)
            arrived(lane, part->bytes, part->res);
        lane->got_first++;
    }
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    struct lane *lane = &lanes[item->at];

    if (item->kind == SENDS)
        judge_send(lane, item, res, cflags);
    else if (item->kind == RECEIVES)
        judge_receive(lane, item, res);
    else if (res >= 0)
        die("lane %d ended", item->at);
    else
        lane->stream = NULL;
    compare(lane);
}

static void more(struct item *item, int64_t res, void *data)
{
    if (!data)
        die("a stream brings no bytes");
    arrived(&lanes[item->at], data, res);
    keeper_take(&keeper, data);
    compare(&lanes[item->at]);
}

/* ---- Submissions ----------------------------------------------------------------------------- */

/* By a write, of one part or two, or a send, which may do without a copy if it is big. */
static void prepare_part(const struct lane *lane, struct item *item, char *bytes)
{
    ouro_op *op = &item->op;
    size_t half = item->len / 2;
    bool big = bytes != item->buf;

    item->parts[0] = (struct iovec){ bytes, half };
    item->parts[1] = (struct iovec){ bytes + half, item->len - half };
    switch (big ? 3 : draw(5)) {
    case 0: ouro_prep_write(op, lane->out, bytes, item->len, OURO_CUR); break;
    case 1: ouro_prep_writev(op, lane->out, item->parts, 2, OURO_CUR, 0); break;
    default: ouro_prep_send(op, lane->out, bytes, item->len, 0); break;
    }
    op->flags = lane->out_flags;
    if (op->code == OURO_SEND && (big || !draw(10)))
        op->flags |= OURO_ZEROCOPY;
}

static bool prepare_send(struct lane *lane, struct item *item)
{
    ouro_op *op = &item->op;
    bool big = !lane->big && !draw(100);
    char *bytes = big ? lane->bytes : item->buf;

    if (lane->sent_next - lane->sent_first == WINDOW)
        return false;
    item->kind = SENDS;
    item->number = lane->sent_next++;
    item->len = big ? BIG : 1 + draw(draw(16) ? 200 : BUF);
    if (big)
        lane->big = item;
    fill_bytes(lane, item->number, bytes, item->len);
    lane->sent[item->number % WINDOW].final = false;
    prepare_part(lane, item, bytes);
    item->linked = draw(3) != 0;
    if (item->linked)
        lane->queued++;
    else
        op->flags |= OURO_SERIAL; /* which a queue adds, and EXACT */
    op->flags |= (draw(4) ? 0 : OURO_EXACT) | (draw(30) ? 0 : OURO_BARRIER);
    op->deadline = soon(20000000);
    return true;
}

static bool prepare_receive(struct lane *lane, struct item *item)
{
    ouro_op *op = &item->op;
    size_t len = 1 + draw(draw(4) ? 300 : BUF);

    if (lane->stream || lane->got_next - lane->got_first == WINDOW)
        return false;
    op->deadline = 0;
    if (!lane->receiving && !draw(3)) {
        lane->stream = item;
        item->kind = STREAMS;
        ouro_prep_recv_many(op, lane->in, keeper.pool, 0);
        op->flags = lane->in_flags;
        op->deadline = soon(5000000);
        return true;
    }
    lane->receiving++;
    item->kind = RECEIVES;
    item->number = lane->got_next++;
    lane->got[item->number % WINDOW].final = false;
    if (draw(2))
        ouro_prep_recv(op, lane->in, item->buf, len, 0);
    else
        ouro_prep_read(op, lane->in, item->buf, len, OURO_CUR);
    op->flags =
        lane->in_flags | OURO_SERIAL | (draw(4) ? 0 : OURO_EXACT) | (draw(30) ? 0 : OURO_BARRIER);
    op->deadline = soon(5000000);
    return true;
}

static bool prepare(struct item *item)
{
    struct lane *lane = &lanes[draw(LANES)];

    item->at = (int)(lane - lanes);
    return draw(2) ? prepare_send(lane, item) : prepare_receive(lane, item);
}

static int submit(struct item *item)
{
    if (item->kind == SENDS && item->linked)
        return ouro_sendq_push(&lanes[item->at].queue, &item->op);
    return ouro_submit(soak.loop, &item->op);
}

/* By a queue that broke: the send was never there. It is the lane's last one. */
static void refused(struct item *item, int error)
{
    struct lane *lane = &lanes[item->at];

    if (item->kind != SENDS || !item->linked)
        die("%s refused: %s", ouro_code_name(item->op.code), strerror(-error));
    if (item->number + 1 != lane->sent_next)
        die("a send was refused out of order");
    lane->refused = true;
    lane->sent_next--;
    if (lane->big == item)
        lane->big = NULL;
    left_queue(lane);
}

/* Pauses a stream or lets it go on; or stops a queue. */
static void stir(void)
{
    struct lane *lane = &lanes[draw(LANES)];
    int r = 0;

    if (lane->stream) /* which may have ended, and not been collected: -EINVAL */
        r = draw(2) ? ouro_pause(soak.loop, &lane->stream->op)
                    : ouro_resume(soak.loop, &lane->stream->op);
    if (r < 0 && r != -EINVAL)
        die("a stream cannot be paused: %s", strerror(-r));
    if (lane->queued && !draw(200)) {
        lane->broken = true;
        if (ouro_sendq_stop(&lane->queue) < 0)
            die("a queue cannot be stopped");
    }
}

/* ---- The lanes ------------------------------------------------------------------------------- */

static void open_lane(struct lane *lane, int slot)
{
    static const int size = 8192;
    ouro_op op = { 0 };
    struct sockaddr_in addr;
    int fds[2], listener = soak_listener(&addr);

    if (lane - lanes < LOCAL) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
            die("no sockets");
    } else {
        fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fds[1] < 0 || connect(fds[1], (struct sockaddr *)&addr, sizeof addr) != 0)
            die("no connection");
        ouro_prep_accept_direct(&op, listener, NULL, NULL, 0, (unsigned)slot);
        if (soak_do(&op) != 0 || (fds[0] = ouro_direct_install(soak.loop, (unsigned)slot)) < 0)
            die("no connection in a slot");
    }
    close(listener);
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) != 0)
            die("no small buffer");
    lane->out = fds[0];
    lane->in = fds[1];
}

/* One lane sends from a slot, another one receives from one. */
static void open_lanes(void)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &lanes[i];
        open_lane(lane, i);
        if (i == LANES - 1) {
            close(lane->out);
            lane->out = i;
            lane->out_flags = OURO_DIRECT;
        } else if (i == LANES - 2) {
            int out = lane->in;
            close(lane->out);
            lane->in = i;
            lane->in_flags = OURO_DIRECT;
            lane->out = out;
        }
        ouro_sendq_init(&lane->queue, soak.loop, lane->out, lane->out_flags);
    }
    keeper_open(&keeper, KEPT * 2, 512);
}

/* What is still under way arrives. */
static void settle(void)
{
    ouro_op op = { 0 };
    static char rest[BUF];

    for (struct lane *lane = lanes; lane < lanes + LANES; lane++) {
        compare(lane);
        while (lane->sent_first < lane->sent_next) {
            int64_t r;

            ouro_prep_recv(&op, lane->in, rest, sizeof rest, 0);
            op.flags = lane->in_flags;
            op.deadline = ouro_now(soak.loop) + 10 * OURO_S;
            r = soak_do(&op);
            if (r <= 0)
                die("lane %d: bytes never arrive", (int)(lane - lanes));
            arrived(lane, rest, r);
            compare(lane);
        }
    }
    keeper_settle(&keeper);
}

static void close_lanes(void)
{
    for (struct lane *lane = lanes; lane < lanes + LANES; lane++) {
        if (!(lane->out_flags & OURO_DIRECT))
            close(lane->out);
        if (!(lane->in_flags & OURO_DIRECT))
            close(lane->in);
    }
}

const struct theme theme_bytes = {
    .name = "bytes",
    .weight = 40,
    .open = open_lanes,
    .close = close_lanes,
    .prepare = prepare,
    .submit = submit,
    .refused = refused,
    .more = more,
    .judge = judge,
    .stir = stir,
    .settle = settle,
};

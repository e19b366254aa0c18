/* SPDX-License-Identifier: MIT */
/* soak_network.c: connections over loopback, from connect and accept to the loop's close, on
 * descriptors and in direct slots, which both streams and single accepts fill.
 *
 * A call is one connection at a time, and its client's port tells which of those that were accepted
 * belongs to it. It has one step after the other; what a cancel or deadline ends is hung up. What
 * is to be closed lies in a heap of its own, and stays there until the loop has closed it. */
#include <arpa/inet.h>

#include "soak.h"

enum { CALLS = 6, WASTE = 64, ANSWER_MOST = 1500 };
enum { FREE, CONNECTING, CONNECTED, SENDING, TALKING, TALKED, ENDING };
enum { DOOR, CONNECT, SEND, RECEIVE, SHUTDOWN, WAIT_END, HANG, CLOSE }; /* kinds */

struct end {
    int fd;
    uint32_t flags; /* OURO_DIRECT */
};

static struct call {
    unsigned step;
    in_port_t port;
    bool failed, shut, has_client, has_peer;
    struct end client, peer;
    unsigned flying;      /* operations in flight */
    struct item *hanging; /* a receive that its client's close shall end */
    uint32_t len, seed;
    int64_t went, came;
    ouro_time since;
} calls[CALLS];

static struct end waste[WASTE];
static unsigned waste_count;
static struct item *door;
static int listener;
static struct sockaddr_in address;
static uint32_t seeds;
static struct keeper keeper; /* for streams that wait for an end */

static void throw_away(struct end end)
{
    if (waste_count == WASTE)
        die("too many connections are to be closed");
    waste[waste_count++] = end;
}

static void hang_up(struct call *call)
{
    if (call->has_client)
        throw_away(call->client);
    if (call->has_peer)
        throw_away(call->peer);
    call->has_client = call->has_peer = false;
    call->step = FREE;
}

/* ---- Completions ----------------------------------------------------------------------------- */

/* Whose connection was accepted? One whose client is gone is nobody's. */
static void accepted(struct end end)
{
    int fd = end.flags ? ouro_direct_install(soak.loop, (unsigned)end.fd) : end.fd;
    struct sockaddr_in addr = { 0 };
    socklen_t size = sizeof addr;
    struct call *call;

    if (fd < 0)
        die("a slot has no connection: %s", strerror(-fd));
    if (getpeername(fd, (struct sockaddr *)&addr, &size) != 0)
        addr.sin_port = 0;
    if (end.flags)
        close(fd);
    for (call = calls; call < calls + CALLS; call++)
        if (addr.sin_port && addr.sin_port == call->port && !call->has_peer &&
            (call->step == CONNECTING || call->step == CONNECTED)) {
            call->peer = end;
            call->has_peer = true;
            return;
        }
    throw_away(end);
}

static void judge_talk(struct call *call, const struct item *item, int64_t res, bool ended)
{
    char want[ANSWER_MOST];

    if (item->kind == SEND) {
        call->went = res > 0 ? res : 0;
    } else {
        call->came = res > 0 ? res : 0;
        fill(want, (size_t)call->came, call->seed);
        if (memcmp(want, item->buf, (size_t)call->came) != 0)
            die("a connection brings wrong bytes");
    }
    call->failed |= ended || res != (int64_t)call->len;
    if (!ended && res != (int64_t)call->len && !item->canceled && !item->timed)
        die("%s fell short: %lld of %u bytes", ouro_code_name(item->op.code), (long long)res,
            call->len);
    if (call->flying || call->step != TALKING)
        return;
    if (call->came > call->went)
        die("%lld bytes came, and %lld were sent", (long long)call->came, (long long)call->went);
    call->step = TALKED;
}

static void judge_step(struct call *call, struct item *item, int64_t res)
{
    call->flying--;
    switch (item->kind) {
    case CONNECT:
        call->step = CONNECTED;
        call->since = ouro_now(soak.loop);
        call->failed = res < 0;
        break;
    case SEND:
    case RECEIVE: judge_talk(call, item, res, res < 0); break;
    case WAIT_END:
        if (res > 0)
            die("a connection brings bytes behind its end");
        hang_up(call);
        break;
    case HANG:
        if (res >= 0)
            die("a connection ended by itself");
        call->hanging = NULL;
        hang_up(call);
        break;
    default: call->failed |= res < 0; break;
    }
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    (void)cflags;
    if (item->kind == CLOSE) {
        if (res < 0) /* it was ended before it began */
            throw_away((struct end){ item->op.fd, item->op.flags & OURO_DIRECT });
    } else if (item->kind == DOOR) {
        door = NULL;
        if (item->op.code == OURO_ACCEPT && res >= 0)
            accepted((struct end){ (int)res, 0 });
        else if (res >= 0)
            die("a stream of connections ended");
    } else {
        judge_step(&calls[item->at], item, res);
    }
}

static void more(struct item *item, int64_t res, void *data)
{
    if (item->kind != DOOR || data)
        die("a connection brings bytes behind its end");
    accepted((struct end){ (int)res, item->number ? OURO_DIRECT : 0 });
}

/* ---- Submissions ----------------------------------------------------------------------------- */

static bool prepare_door(struct item *item)
{
    door = item;
    item->kind = DOOR;
    item->number = 0;
    switch (draw(3)) {
    case 0: ouro_prep_accept(&item->op, listener, NULL, NULL, 0); break;
    case 1: ouro_prep_accept_many(&item->op, listener, 0); break;
    default:
        item->number = 1;
        ouro_prep_accept_many_direct(&item->op, listener, 0);
        break;
    }
    item->op.deadline = soon(30000000);
    return true;
}

static bool prepare_close(struct item *item)
{
    struct end end = waste[--waste_count];

    item->kind = CLOSE;
    ouro_prep_close(&item->op, end.fd);
    item->op.flags = end.flags;
    return true;
}

/* Closed connections leave nothing behind (SO_LINGER), or the system would run out of ports. */
static void dial(struct call *call, struct item *item)
{
    static const struct linger none = { .l_onoff = 1 };
    struct sockaddr_in from = { .sin_family = AF_INET };
    socklen_t size = sizeof from;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) != 0 ||
        bind(fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        getsockname(fd, (struct sockaddr *)&from, &size) != 0)
        die("no socket");
    *call = (struct call){
        .step = CONNECTING, .port = from.sin_port, .client = { fd, 0 }, .has_client = true
    };
    call->len = 1 + draw(ANSWER_MOST);
    call->seed = ++seeds;
    item->kind = CONNECT;
    ouro_prep_connect(&item->op, fd, (struct sockaddr *)&address, sizeof address);
}

/* Both sides at once: what one sends the other one receives. */
static void talk(struct call *call, struct item *item)
{
    if (call->step == CONNECTED) {
        call->step = SENDING;
        item->kind = SEND;
        fill(item->buf, call->len, call->seed);
        ouro_prep_send(&item->op, call->client.fd, item->buf, call->len, 0);
        item->op.flags = call->client.flags | OURO_EXACT;
    } else {
        call->step = TALKING;
        item->kind = RECEIVE;
        ouro_prep_recv(&item->op, call->peer.fd, item->buf, call->len, 0);
        item->op.flags = call->peer.flags | OURO_EXACT;
    }
    item->op.deadline = soon(50000000);
}

/* Which of its ends receives until it is closed? */
static struct end *hanging_end(struct call *call)
{
    return call->seed & 2 ? &call->peer : &call->client;
}

static void wait_for_end(struct call *call, struct item *item, const struct end *end)
{
    if (draw(2))
        ouro_prep_recv(&item->op, end->fd, item->buf, 1, 0);
    else
        ouro_prep_recv_many(&item->op, end->fd, keeper.pool, 0);
    item->op.flags = end->flags;
    item->op.deadline = soon(100000000);
    call->step = ENDING;
}

/* The peer's shutdown ends the client's receive; or the close of its own descriptor does. */
static bool end_call(struct call *call, struct item *item)
{
    bool shuts = call->seed & 1;

    if (call->failed) {
        hang_up(call);
        return false;
    }
    if (!shuts) {
        item->kind = HANG;
        call->hanging = item;
        wait_for_end(call, item, hanging_end(call));
    } else if (call->shut) {
        item->kind = WAIT_END;
        wait_for_end(call, item, &call->client);
    } else {
        item->kind = SHUTDOWN;
        call->shut = true;
        ouro_prep_shutdown(&item->op, call->peer.fd, SHUT_WR);
        item->op.flags = call->peer.flags;
    }
    return true;
}

/* One that hangs is closed while it receives; the other end goes when that has ended. */
static bool next_step(struct call *call, struct item *item)
{
    if (call->hanging) {
        call->hanging->canceled = true;
        call->hanging = NULL;
        throw_away(*hanging_end(call));
        if (hanging_end(call) == &call->client)
            call->has_client = false;
        else
            call->has_peer = false;
        return false;
    }
    if (call->step == FREE) {
        dial(call, item);
    } else if (call->step == CONNECTED && call->failed) {
        hang_up(call);
        return false;
    } else if ((call->step == CONNECTED && call->has_peer) || call->step == SENDING) {
        talk(call, item);
    } else if (call->step == TALKED && !call->flying) {
        if (!end_call(call, item))
            return false;
    } else {
        return false;
    }
    call->flying++;
    return true;
}

static bool prepare(struct item *item)
{
    item->at = (int)draw(CALLS);
    if (!door)
        return prepare_door(item);
    if (waste_count && draw(2))
        return prepare_close(item);
    return next_step(&calls[item->at], item);
}

static void stir(void)
{
    struct call *call = &calls[draw(CALLS)];

    if (call->step == CONNECTED && !call->failed && !call->has_peer &&
        ouro_now(soak.loop) - call->since > 20 * OURO_S)
        die("a connection that nobody accepts");
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

static void open_network(void)
{
    listener = soak_listener(&address);
    keeper_open(&keeper, KEPT, 64);
}

static void settle(void)
{
    ouro_op op = { 0 };

    for (struct call *call = calls; call < calls + CALLS; call++)
        if (call->step != FREE)
            hang_up(call);
    while (waste_count) {
        struct end end = waste[--waste_count];

        ouro_prep_close(&op, end.fd);
        op.flags = end.flags;
        if (soak_do(&op) != 0)
            die("close: %s", strerror((int)-op.res));
    }
    keeper_settle(&keeper);
}

static void close_network(void)
{
    close(listener);
}

const struct theme theme_network = {
    .name = "network",
    .weight = 10,
    .open = open_network,
    .close = close_network,
    .prepare = prepare,
    .more = more,
    .judge = judge,
    .stir = stir,
    .settle = settle,
};

/* SPDX-License-Identifier: MIT */
/* soak_basics.c: nops, timers, user work, and unordered bytes through pipes and sockets, of which
 * as many come out as went in. */
#include <poll.h>

#include "soak.h"

enum { PIPES = 8, SOCKETS = 4 /* of the pipes */ };

static int pipes[PIPES][2];
static int64_t bytes_in[PIPES], bytes_out[PIPES];
static struct keeper keeper;

static bool reads(const ouro_op *op)
{
    return op->code == OURO_READ || op->code == OURO_RECV;
}

static bool writes(const ouro_op *op)
{
    return op->code == OURO_WRITE || op->code == OURO_SEND;
}

static void more(struct item *item, int64_t res, void *data)
{
    if (!data)
        return;
    bytes_out[item->at] += res;
    keeper_take(&keeper, data);
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    (void)cflags;
    if (item->at >= 0 && res > 0 && reads(&item->op))
        bytes_out[item->at] += res;
    if (item->at >= 0 && res > 0 && writes(&item->op))
        bytes_in[item->at] += res;
}

static int64_t some_work(void *arg)
{
    (void)arg;
    return 0;
}

/* Each ends by its deadline, if not by a cancel. */
static void prepare_stream(struct item *item, int pipe)
{
    ouro_op *op = &item->op;
    ouro_time now = ouro_now(soak.loop);

    switch (draw(3)) {
    case 0:
        item->at = pipe % SOCKETS;
        ouro_prep_recv_many(op, pipes[item->at][0], keeper.pool, 0);
        break;
    case 1: ouro_prep_poll_many(op, pipes[pipe][0], POLLIN); break;
    default: ouro_prep_timer_many(op, now + draw(100000), 1 + draw(1000000)); break;
    }
    op->deadline = soon(3000000);
}

/* To or from a pipe. A socket is one that messages work on, too. */
static void prepare_bytes(struct item *item, int pipe, bool write)
{
    ouro_op *op = &item->op;
    int fd = pipes[pipe][write];
    size_t len = 1 + draw(16);

    item->at = pipe;
    if (pipe < SOCKETS && write && draw(2))
        ouro_prep_send(op, fd, item->buf, len, 0);
    else if (pipe < SOCKETS && !write && draw(2))
        ouro_prep_recv(op, fd, item->buf, len, 0);
    else if (write)
        ouro_prep_write(op, fd, item->buf, len, 0);
    else
        ouro_prep_read(op, fd, item->buf, len, 0);
    if (!write && !draw(8))
        op->flags |= OURO_SERIAL;
    op->deadline = soon(3000000);
}

static bool prepare(struct item *item)
{
    ouro_op *op = &item->op;
    unsigned kind = draw(80);
    int pipe = (int)draw(PIPES);

    item->posts = true;
    if (kind < 30) {
        ouro_prep_nop(op);
    } else if (kind < 38) {
        ouro_prep_timer(op, soon(2000000));
    } else if (kind < 72) {
        prepare_bytes(item, pipe, kind < 55);
    } else if (kind < 75) {
        prepare_stream(item, pipe);
    } else if (kind < 78) {
        ouro_prep_poll(op, pipes[pipe][0], POLLIN);
        op->deadline = soon(3000000);
    } else {
        ouro_prep_work(op, some_work, NULL);
    }
    return true;
}

static void open_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        int mode = i & 1 ? O_NONBLOCK : 0;
        if (i < SOCKETS ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | mode, 0, pipes[i])
                        : pipe2(pipes[i], O_CLOEXEC | mode))
            die("no pipe");
    }
    keeper_open(&keeper, 2 * KEPT, 8);
}

static void settle(void)
{
    keeper_settle(&keeper);
}

static void close_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        char rest[256];
        ssize_t r;

        fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
        while ((r = read(pipes[i][0], rest, sizeof rest)) > 0)
            bytes_out[i] += r;
        if (bytes_in[i] != bytes_out[i])
            die("pipe %d: %lld bytes in, %lld out", i, (long long)bytes_in[i],
                (long long)bytes_out[i]);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

const struct theme theme_basics = {
    .name = "basics",
    .weight = 740,
    .open = open_pipes,
    .close = close_pipes,
    .prepare = prepare,
    .more = more,
    .judge = judge,
    .settle = settle,
};

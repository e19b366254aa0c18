/* SPDX-License-Identifier: MIT */
/* echo: sends back what it reads, over a pair of connected sockets or from stdin to stdout. Poll
 * comes first, then the read, then the write: while the other side is silent no buffer is tied up.
 * Usage: echo [-], - for stdin to stdout; without arguments it talks to a client of its own. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <ouro.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 16 * 1024, TALK = 1000 * 1000 };

struct echo {
    ouro_op op;
    ouro_loop *loop;
    ouro_fd in, out;
    int64_t bytes;
    int open;  /* until the other side has ended, or an error */
    int error; /* -errno */
    char data[BLOCK];
};

/* Sends everything, and receives at the same time: two operations on one socket. */
struct client {
    ouro_op send, receive;
    ouro_loop *loop;
    ouro_fd fd;
    size_t got;
    int open, error;
    char out[TALK], in[TALK + 1]; /* one more, so that too much would show */
};

static void echo_step(ouro_op *op);

static void echo_submit(struct echo *echo)
{
    echo->op.cb = echo_step;
    echo->op.user = echo;
    int r = ouro_submit(echo->loop, &echo->op);
    echo->open = r >= 0;
    echo->error = r < 0 ? r : 0;
}

static void echo_start(struct echo *echo)
{
    ouro_prep_poll(&echo->op, echo->in, POLLIN);
    echo_submit(echo);
}

/* Poll -> read -> write -> poll: op->code says what has just ended. */
static void echo_step(ouro_op *op)
{
    struct echo *echo = op->user;

    if (op->res < 0 || (op->code == OURO_READ && op->res == 0)) {
        echo->error = (int)op->res;
        echo->open = 0;
        if (echo->in == echo->out) /* a socket: the other side sees the end, too */
            shutdown(echo->out, SHUT_WR);
        return;
    }
    if (op->code == OURO_POLL) { /* readable, or hung up: the read tells which */
        ouro_prep_read(op, echo->in, echo->data, BLOCK, OURO_CUR);
    } else if (op->code == OURO_READ) {
        ouro_prep_write(op, echo->out, echo->data, (size_t)op->res, OURO_CUR);
        op->flags = OURO_EXACT; /* all of it, however full the other side is */
    } else {
        echo->bytes += op->res;
        echo_start(echo);
        return;
    }
    echo_submit(echo);
}

static void on_sent(ouro_op *op)
{
    struct client *client = op->user;

    if (op->res < 0)
        client->error = (int)op->res;
    shutdown(client->fd, SHUT_WR); /* no more to come */
}

static void on_received(ouro_op *op)
{
    struct client *client = op->user;

    client->open = 0;
    if (op->res < 0)
        client->error = (int)op->res;
    else
        client->got = (size_t)op->res;
}

static int client_start(struct client *client)
{
    for (int i = 0; i < TALK; i++)
        client->out[i] = (char)(i * 31 + i / 251);
    /* EXACT on the read: until the echo ends the connection. A socket has no offset: 0. */
    ouro_prep_read(&client->receive, client->fd, client->in, sizeof(client->in), 0);
    ouro_prep_write(&client->send, client->fd, client->out, TALK, 0);
    client->receive.flags = client->send.flags = OURO_EXACT;
    client->receive.cb = on_received;
    client->send.cb = on_sent;
    client->receive.user = client->send.user = client;
    int r = ouro_submit(client->loop, &client->receive);
    client->open = r >= 0;
    return r < 0 ? r : ouro_submit(client->loop, &client->send);
}

int main(int argc, char **argv)
{
    static struct echo echo = { .in = STDIN_FILENO, .out = STDOUT_FILENO };
    static struct client client;
    int own = argc < 2 || strcmp(argv[1], "-") != 0, fds[2] = { -1, -1 };

    if (own && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
        return perror("echo"), 1;
    int r = ouro_open(NULL, &echo.loop);
    if (own) {
        echo.in = echo.out = fds[0];
        client.fd = fds[1];
        client.loop = echo.loop;
        r = r < 0 ? r : client_start(&client);
    }
    if (r >= 0)
        echo_start(&echo);
    while (r >= 0 && (echo.open || (client.open && echo.error == 0)))
        r = ouro_run(echo.loop, 1, OURO_FOREVER);
    int closed = ouro_close(echo.loop, OURO_FOREVER); /* also ends what waits after an error */
    r = r < 0 ? r : echo.error < 0 ? echo.error : client.error < 0 ? client.error : closed;
    if (r >= 0 && own && (client.got != TALK || memcmp(client.in, client.out, TALK) != 0))
        r = -EPROTO;
    fprintf(stderr, "echoed %lld bytes: %s\n", (long long)echo.bytes, r < 0 ? strerror(-r) : "ok");
    return r < 0;
}

/* SPDX-License-Identifier: MIT */
/* echo_server: a TCP server that sends back what it receives. One stream accepts, one stream for
 * each connection receives into buffers of a pool, and each piece goes back by a send of its own,
 * in order because they are SERIAL. Idle connections hold no buffer.
 * Usage: echo_server PORT [CONNECTIONS]: port 0 is any; ends when so many have ended. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <ouro.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BUFFERS = 256, BUFFER_SIZE = 16 * 1024 };

static ouro_loop *loop;
static ouro_pool *pool;
static long left = -1; /* connections until the end; -1: for ever */

struct connection {
    ouro_op op; /* the stream, then the close */
    ouro_fd fd;
    unsigned sending;
    int ended;
};

struct piece {
    ouro_op op;
    struct connection *connection;
    void *data;
};

static void on_closed(ouro_op *op)
{
    free(op->user);
    left -= left > 0;
}

/* The peer has ended its side, and all has gone back. */
static void close_when_done(struct connection *connection)
{
    if (!connection->ended || connection->sending)
        return;
    ouro_prep_close(&connection->op, connection->fd);
    connection->op.cb = on_closed;
    ouro_submit(loop, &connection->op);
}

static void on_sent(ouro_op *op)
{
    struct piece *piece = op->user;
    struct connection *connection = piece->connection;

    ouro_pool_release(pool, piece->data);
    free(piece);
    connection->sending--;
    close_when_done(connection);
}

static void on_received(ouro_op *op)
{
    struct connection *connection = op->user;
    struct piece *piece;

    if (!(op->cflags & OURO_C_MORE)) { /* the end, or an error */
        connection->ended = 1;
        close_when_done(connection);
        return;
    }
    piece = calloc(1, sizeof(*piece));
    if (!piece) {
        ouro_pool_release(pool, op->data);
        ouro_cancel(loop, op);
        return;
    }
    piece->connection = connection;
    piece->data = op->data;
    piece->op.user = piece;
    piece->op.cb = on_sent;
    ouro_prep_send(&piece->op, connection->fd, piece->data, (size_t)op->res, 0);
    piece->op.flags = OURO_EXACT | OURO_SERIAL;
    connection->sending++;
    if (ouro_submit(loop, &piece->op) < 0)
        on_sent(&piece->op);
}

static void on_accepted(ouro_op *op)
{
    struct connection *connection;

    if (!(op->cflags & OURO_C_MORE)) {
        fprintf(stderr, "accept: %s\n", strerror((int)-op->res));
        left = 0;
        return;
    }
    connection = calloc(1, sizeof(*connection));
    if (!connection)
        exit(1);
    connection->fd = (ouro_fd)op->res;
    connection->op.user = connection;
    connection->op.cb = on_received;
    ouro_prep_recv_many(&connection->op, connection->fd, pool, 0);
    if (ouro_submit(loop, &connection->op) < 0)
        exit(1);
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };
    socklen_t size = sizeof(addr);
    static ouro_op accepts;
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

    if (argc < 2)
        return fprintf(stderr, "usage: echo_server PORT [CONNECTIONS]\n"), 2;
    if (argc > 2)
        left = atol(argv[2]);
    addr.sin_port = htons((uint16_t)atoi(argv[1]));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 511) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &size) != 0)
        return perror("echo_server"), 1;
    if (ouro_open(NULL, &loop) < 0 || ouro_pool_create(loop, BUFFERS, BUFFER_SIZE, &pool) < 0)
        return fprintf(stderr, "no loop\n"), 1;
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);
    ouro_prep_accept_many(&accepts, fd, 0);
    accepts.cb = on_accepted;
    int r = ouro_submit(loop, &accepts);
    while (r >= 0 && left != 0)
        r = ouro_run(loop, 1, OURO_FOREVER);
    left = -1; /* what ends now is ended by us */
    return ouro_close(loop, OURO_FOREVER) < 0 || r < 0;
}

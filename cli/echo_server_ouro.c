/* SPDX-License-Identifier: MIT */
/* The echo server written to ouro.h: one loop, one accept at a time, and per connection one
 * operation that is a recv, then a send of what came, then a recv again, and a close at the end.
 * How a connection is read and answered is in serve_next and its callbacks alone; the rest
 * (accepting, stopping, counting) only knows that connections begin and end. */
#include "echo.h"

#include "ouro.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONN_BLOCK = 16 * 1024, /* what a connection receives and sends at once */
    PAUSE_MS = 100,         /* between tries to accept where descriptors have run out */
    GRACE_S = 1,            /* for connections to end by themselves after a stop */
    CLOSE_S = 5,
};

struct conn {
    ouro_op op;
    struct echo_server *server;
    struct conn *next, *prev; /* among the open ones, or (next) the free ones */
    int64_t size;             /* of what is sent back */
    char data[CONN_BLOCK];
};

struct echo_server {
    ouro_op accept, pause;
    ouro_loop *loop;
    int listener;
    struct conn *open, *idle;
    int error; /* what ended the server */
    atomic_bool stopping;
    pthread_mutex_t lock; /* wakeable: another thread may wake the loop */
    bool wakeable;
    struct echo_counters counters;
};

static void on_accept(ouro_op *op);
static void serve_next(struct conn *conn);

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    /* One writer: no locked instruction. */
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, value + more, memory_order_relaxed);
}

/* ---- one connection ---- */

static void on_closed(ouro_op *op)
{
    struct conn *conn = op->user;
    struct echo_server *server = conn->server;

    *(conn->prev ? &conn->prev->next : &server->open) = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    conn->next = server->idle;
    server->idle = conn;
    count(&server->counters.ended, 1);
}

static void submit(struct conn *conn, ouro_cb *cb)
{
    struct echo_server *server = conn->server;
    int r;

    conn->op.cb = cb;
    r = ouro_submit(server->loop, &conn->op);
    /* While the loop is being closed it takes nothing: echo_server_free closes what is left. */
    if (r < 0 && !server->error && !atomic_load(&server->stopping))
        server->error = r;
}

static void conn_end(struct conn *conn, int64_t result)
{
    if (result < 0)
        count(&conn->server->counters.failed, 1);
    ouro_prep_close(&conn->op, conn->op.fd);
    submit(conn, on_closed);
}

static void on_sent(ouro_op *op)
{
    struct conn *conn = op->user;

    if (op->res < conn->size) {
        conn_end(conn, op->res < 0 ? op->res : -EPIPE);
        return;
    }
    count(&conn->server->counters.requests, 1);
    count(&conn->server->counters.bytes, (uint64_t)op->res);
    serve_next(conn);
}

static void on_received(ouro_op *op)
{
    struct conn *conn = op->user;

    if (op->res <= 0) {
        conn_end(conn, op->res);
        return;
    }
    conn->size = op->res;
    ouro_prep_send(op, op->fd, conn->data, (size_t)conn->size, 0);
    op->flags = OURO_EXACT;
    submit(conn, on_sent);
}

static void serve_next(struct conn *conn)
{
    ouro_prep_recv(&conn->op, conn->op.fd, conn->data, sizeof(conn->data), 0);
    submit(conn, on_received);
}

static int conn_begin(struct echo_server *server, int fd)
{
    struct conn *conn = server->idle;

    if (conn) {
        server->idle = conn->next;
    } else {
        conn = aligned_alloc(64, (sizeof(*conn) + 63) / 64 * 64);
        if (!conn)
            return -ENOMEM;
        /* Not the data: a page that is never used takes no memory. */
        memset(conn, 0, offsetof(struct conn, data));
        conn->server = server;
        conn->op.user = conn;
    }
    conn->prev = NULL;
    conn->next = server->open;
    if (conn->next)
        conn->next->prev = conn;
    server->open = conn;
    count(&server->counters.accepted, 1);
    conn->op.fd = fd;
    serve_next(conn);
    return 0;
}

/* ---- accepting ---- */

static void accept_next(struct echo_server *server)
{
    int r;

    ouro_prep_accept(&server->accept, server->listener, NULL, NULL, 0);
    server->accept.cb = on_accept;
    server->accept.user = server;
    r = ouro_submit(server->loop, &server->accept);
    if (r < 0 && !server->error)
        server->error = r;
}

static void on_pause_over(ouro_op *op)
{
    struct echo_server *server = op->user;

    if (op->res == 0 && !atomic_load(&server->stopping))
        accept_next(server);
}

/* No descriptor or no memory for one more: those that are there are served on meanwhile. */
static void accept_later(struct echo_server *server)
{
    int r;

    count(&server->counters.pauses, 1);
    ouro_prep_timer(&server->pause, ouro_now(server->loop) + PAUSE_MS * OURO_MS);
    server->pause.cb = on_pause_over;
    server->pause.user = server;
    r = ouro_submit(server->loop, &server->pause);
    if (r < 0 && !server->error)
        server->error = r;
}

static void on_accept(ouro_op *op)
{
    struct echo_server *server = op->user;
    int64_t res = op->res;

    if (atomic_load(&server->stopping)) {
        if (res >= 0)
            close((int)res);
        return;
    }
    if (res >= 0 && conn_begin(server, (int)res) < 0) {
        close((int)res);
        res = -ENOMEM;
    }
    if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS)
        accept_later(server);
    else if (res == -EBADF || res == -EINVAL || res == -ENOTSOCK || res == -EOPNOTSUPP)
        server->error = (int)res;
    else
        accept_next(server); /* or what went wrong was that one connection */
}

/* ---- the server ---- */

int echo_server_open(struct echo_server **ret, const char *engine, int listener, char *why)
{
    ouro_config config = { .size = sizeof(config), .engine = engine };
    struct echo_server *server = aligned_alloc(64, (sizeof(*server) + 63) / 64 * 64);
    int r;

    if (!server)
        return -ENOMEM;
    memset(server, 0, sizeof(*server));
    server->listener = listener;
    r = ouro_open(&config, &server->loop);
    if (r < 0) {
        if (engine)
            ouro_probe(engine, why, WHY_SIZE, NULL);
        if (!why[0])
            snprintf(why, WHY_SIZE, "cannot make a loop: %s", strerror(-r));
        free(server);
        return r;
    }
    pthread_mutex_init(&server->lock, NULL);
    server->wakeable = true;
    *ret = server;
    return 0;
}

/* Connections end at the next request, as if their peers had ended them. */
static void end_connections(struct echo_server *server)
{
    ouro_time until = ouro_now(server->loop) + GRACE_S * OURO_S;
    int r = 0;

    ouro_cancel(server->loop, &server->accept);
    ouro_cancel(server->loop, &server->pause);
    for (struct conn *conn = server->open; conn; conn = conn->next)
        if (conn->op.code != OURO_CLOSE)
            shutdown(conn->op.fd, SHUT_RD);
    while (server->open && r >= 0 && ouro_now(server->loop) < until)
        r = ouro_run(server->loop, 1, until);
}

int echo_server_run(struct echo_server *server)
{
    int r = 0, closed;

    accept_next(server);
    while (r >= 0 && !server->error && !atomic_load(&server->stopping))
        r = ouro_run(server->loop, 1, OURO_FOREVER);
    atomic_store(&server->stopping, true);
    pthread_mutex_lock(&server->lock);
    server->wakeable = false;
    pthread_mutex_unlock(&server->lock);
    end_connections(server);
    /* Who did not take his answer in time: the operation is cancelled, the descriptor closed. */
    closed = ouro_close(server->loop, ouro_now(server->loop) + CLOSE_S * OURO_S);
    if (closed == 0)
        server->loop = NULL;
    return server->error ? server->error : r < 0 ? r : closed;
}

void echo_server_stop(struct echo_server *server)
{
    pthread_mutex_lock(&server->lock);
    atomic_store(&server->stopping, true);
    if (server->wakeable)
        ouro_wake(server->loop);
    pthread_mutex_unlock(&server->lock);
}

const struct echo_counters *echo_server_counters(const struct echo_server *server)
{
    return &server->counters;
}

const char *echo_server_engine(const struct echo_server *server)
{
    return ouro_engine_name(server->loop);
}

void echo_server_free(struct echo_server *server)
{
    struct conn *next;

    if (server->loop) /* not served, or still busy: then its memory has to stay */
        if (ouro_close(server->loop, OURO_NOWAIT) < 0)
            return;
    for (struct conn *conn = server->open; conn; conn = next) {
        next = conn->next;
        close(conn->op.fd);
        free(conn);
    }
    for (struct conn *conn = server->idle; conn; conn = next) {
        next = conn->next;
        free(conn);
    }
    pthread_mutex_destroy(&server->lock);
    free(server);
}

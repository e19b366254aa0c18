/* SPDX-License-Identifier: MIT */
/* The echo server written to ouro.h: one loop, one accept at a time, and per connection a stream
 * that receives into buffers of a pool and a send for what has come, in order. So a connection that
 * is idle needs no buffer, and one operation. No buffer of the pool waits for a peer: what a peer
 * does not take at once is copied to memory of its connection's own, so that those who read slowly
 * leave the pool to the others. How a connection is read and answered is in serve_begin and its
 * callbacks alone; the rest (accepting, stopping, counting) only knows that connections begin and
 * end. */
#include "echo.h"

#include "ouro.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    POOL_BUFFERS = 512,
    POOL_BLOCK = ECHO_BLOCK, /* more than most messages: a short receive needs no other */
    CHUNKS_MAX = 4,          /* that one connection may have waiting before it is told to pause */
    PAUSE_MS = 100,          /* between tries to accept where descriptors have run out */
    GRACE_S = 1,             /* after a stop: for what is under way, and then for what is owed */
    CLOSE_S = 5,
    BLOCK_CONNS = 64, /* that get their memory together */
    SLOTS_MOST = 16384,
};

/* What has come and is to be sent back: a buffer of the pool, or (own) memory behind it. */
struct chunk {
    _Alignas(64) ouro_op out;
    struct chunk *next;
    char *data;
    int64_t size;
    unsigned requests; /* receives that brought it */
    bool own;
};

struct conn {
    ouro_op in; /* the stream, and in the end the close */
    struct echo_server *server;
    struct conn *next, *prev;   /* among the open ones, or (next) the free ones */
    struct chunk *first, *last; /* oldest first; the first is being sent */
    unsigned chunks;
    int slot; /* of the loop's direct table, of its own; beyond the table: none */
    int fd, error;
    uint32_t direct;    /* OURO_DIRECT: fd is the slot */
    bool ended, paused; /* the stream */
    bool stuck;         /* a send has failed: the chunks that are left go nowhere */
};

struct block {
    struct conn conns[BLOCK_CONNS];
    struct block *next;
};

struct echo_server {
    ouro_op accept, pause;
    ouro_loop *loop;
    ouro_pool *pool;
    int listener;
    struct conn *open, *idle;
    struct conn *coming; /* for whom is accepted */
    struct block *blocks;
    int conns, slots;                          /* that there are */
    bool slotted;                              /* the loop has slots without descriptors */
    struct chunk chunks[POOL_BUFFERS], *spare; /* as there are buffers, which may come in parts */
    int error;                                 /* what ended the server */
    atomic_bool stopping;
    pthread_mutex_t lock; /* wakeable: another thread may wake the loop */
    bool wakeable;
    struct echo_counters counters;
};

static void on_accept(ouro_op *op);

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

static void submit(struct conn *conn, ouro_op *op, ouro_cb *cb)
{
    struct echo_server *server = conn->server;
    int r;

    op->cb = cb;
    op->user = conn;
    r = ouro_submit(server->loop, op);
    /* While the loop is being closed it takes nothing: echo_server_free closes what is left. */
    if (r < 0 && !server->error && !atomic_load(&server->stopping))
        server->error = r;
}

static void chunk_push(struct conn *conn, struct chunk *chunk)
{
    chunk->next = NULL;
    if (conn->first)
        conn->last->next = chunk;
    else
        conn->first = chunk;
    conn->last = chunk;
    conn->chunks++;
}

/* Room for so many bytes; NULL: no memory. */
static struct chunk *chunk_own(int64_t size)
{
    struct chunk *chunk = aligned_alloc(64, (sizeof(*chunk) + (size_t)size + 63) / 64 * 64);

    if (!chunk)
        return NULL;
    memset(chunk, 0, sizeof(*chunk));
    chunk->data = (char *)(chunk + 1);
    chunk->own = true;
    return chunk;
}

static void chunk_append(struct chunk *chunk, const char *data, int64_t size, unsigned requests)
{
    memcpy(chunk->data + chunk->size, data, (size_t)size);
    chunk->size += size;
    chunk->requests += requests;
}

static void chunk_pop(struct conn *conn)
{
    struct chunk *chunk = conn->first;

    conn->first = chunk->next;
    conn->chunks--;
    if (chunk->own) {
        free(chunk);
        return;
    }
    ouro_pool_release(conn->server->pool, chunk->data);
    chunk->next = conn->server->spare;
    conn->server->spare = chunk;
}

/* When neither the stream nor a send is in flight. */
static void conn_end(struct conn *conn)
{
    while (conn->first)
        chunk_pop(conn);
    if (conn->error)
        count(&conn->server->counters.failed, 1);
    ouro_prep_close(&conn->in, conn->fd);
    conn->in.flags = conn->direct;
    submit(conn, &conn->in, on_closed);
}

static void conn_fail(struct conn *conn, int error)
{
    conn->error = error;
    conn->stuck = true;
    if (conn->ended)
        conn_end(conn);
    else
        ouro_cancel(conn->server->loop, &conn->in);
}

static void on_sent(ouro_op *op);

/* From a buffer of the pool without waiting. */
static void send_first(struct conn *conn)
{
    struct chunk *chunk = conn->first;

    ouro_prep_send(&chunk->out, conn->fd, chunk->data, (size_t)chunk->size,
                   chunk->own ? 0 : MSG_DONTWAIT);
    chunk->out.flags = conn->direct | (chunk->own ? OURO_EXACT : 0);
    submit(conn, &chunk->out, on_sent);
}

/* The peer has no room for more: all that is to be sent to it leaves the pool. False: no memory. */
static bool put_aside(struct conn *conn, int64_t sent)
{
    struct chunk *own;
    int64_t size = -sent;

    for (const struct chunk *chunk = conn->first; chunk; chunk = chunk->next)
        size += chunk->size;
    own = chunk_own(size);
    if (!own)
        return false;
    for (; conn->first; sent = 0) {
        struct chunk *chunk = conn->first;

        chunk_append(own, chunk->data + sent, chunk->size - sent, chunk->requests);
        chunk_pop(conn);
    }
    chunk_push(conn, own);
    return true;
}

static void on_sent(ouro_op *op)
{
    struct conn *conn = op->user;
    struct chunk *chunk = conn->first;
    int64_t sent = op->res < 0 ? 0 : op->res;

    count(&conn->server->counters.bytes, (uint64_t)sent);
    if (sent < chunk->size && (chunk->own || (op->res < 0 && op->res != -EAGAIN))) {
        conn_fail(conn, op->res < 0 ? (int)op->res : -EPIPE);
        return;
    }
    if (sent < chunk->size) {
        if (put_aside(conn, sent))
            send_first(conn);
        else
            conn_fail(conn, -ENOMEM);
        return;
    }
    count(&conn->server->counters.requests, chunk->requests);
    chunk_pop(conn);
    if (conn->first) {
        send_first(conn);
    } else if (conn->ended) {
        conn_end(conn);
    } else if (conn->paused) {
        conn->paused = false;
        ouro_resume(conn->server->loop, &conn->in);
    }
}

/* A buffer that has come, or a part of one; behind one that waits for the peer it would wait as
 * well. False: no memory. */
static bool take(struct conn *conn, char *data, int64_t size)
{
    struct echo_server *server = conn->server;
    struct chunk *chunk = server->spare;

    if (!chunk || (conn->first && conn->first->own)) {
        chunk = chunk_own(size);
        if (chunk)
            chunk_append(chunk, data, size, 1);
        ouro_pool_release(server->pool, data);
    } else {
        server->spare = chunk->next;
        chunk->data = data;
        chunk->size = size;
        chunk->requests = 1;
    }
    if (chunk)
        chunk_push(conn, chunk);
    return chunk;
}

static void on_received(ouro_op *op)
{
    struct conn *conn = op->user;
    struct echo_server *server = conn->server;
    bool idle = !conn->first;

    if (op->cflags & OURO_C_BUF && conn->error) {
        ouro_pool_release(server->pool, op->data);
    } else if (op->cflags & OURO_C_BUF && !take(conn, op->data, op->res)) {
        conn->error = -ENOMEM; /* what was received before is still sent */
        ouro_cancel(server->loop, op);
    } else if (op->cflags & OURO_C_BUF && idle) {
        send_first(conn);
    }
    if (op->cflags & OURO_C_MORE) {
        if (conn->chunks > CHUNKS_MAX && !conn->paused)
            conn->paused = ouro_pause(server->loop, op) == 0;
        return;
    }
    conn->ended = true;
    if (op->res < 0 && !conn->error)
        conn->error = (int)op->res;
    if (!conn->first || conn->stuck) /* else when all is sent */
        conn_end(conn);
}

static void serve_begin(struct conn *conn)
{
    conn->first = NULL;
    conn->chunks = 0;
    conn->ended = conn->paused = conn->stuck = false;
    conn->error = 0;
    ouro_prep_recv_many(&conn->in, conn->fd, conn->server->pool, 0);
    conn->in.flags = conn->direct;
    submit(conn, &conn->in, on_received);
}

/* False: no memory. */
static bool more_conns(struct echo_server *server)
{
    struct block *block = aligned_alloc(64, (sizeof(*block) + 63) / 64 * 64);

    if (!block)
        return false;
    memset(block, 0, sizeof(*block));
    block->next = server->blocks;
    server->blocks = block;
    for (unsigned i = 0; i < BLOCK_CONNS; i++) {
        block->conns[i].server = server;
        block->conns[i].slot = server->conns++;
        block->conns[i].next = server->idle;
        server->idle = &block->conns[i];
    }
    return true;
}

/* The next one to come. False: no memory. */
static bool expect_conn(struct echo_server *server)
{
    if (server->coming)
        return true;
    if (!server->idle && !more_conns(server))
        return false;
    server->coming = server->idle;
    server->idle = server->coming->next;
    server->coming->direct = server->coming->slot < server->slots ? OURO_DIRECT : 0;
    return true;
}

/* fd: 0 where it is in its slot. */
static void conn_begin(struct echo_server *server, int fd)
{
    struct conn *conn = server->coming;

    server->coming = NULL;
    conn->fd = conn->direct ? conn->slot : fd;
    conn->prev = NULL;
    conn->next = server->open;
    if (conn->next)
        conn->next->prev = conn;
    server->open = conn;
    count(&server->counters.accepted, 1);
    serve_begin(conn);
}

/* ---- accepting ---- */

static void accept_later(struct echo_server *server);

static void accept_next(struct echo_server *server)
{
    const struct conn *conn;
    int r;

    if (!expect_conn(server)) {
        accept_later(server);
        return;
    }
    conn = server->coming;
    if (conn->direct)
        ouro_prep_accept_direct(&server->accept, server->listener, NULL, NULL, 0,
                                (unsigned)conn->slot);
    else
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
        if (res >= 0 && !server->coming->direct)
            close((int)res);
        return;
    }
    if (res >= 0)
        conn_begin(server, (int)res);
    if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS)
        accept_later(server);
    else if (res == -EBADF || res == -EINVAL || res == -ENOTSOCK || res == -EOPNOTSUPP)
        server->error = (int)res;
    else
        accept_next(server); /* or what went wrong was that one connection */
}

/* ---- the server ---- */

/* Slots without descriptors save the kernel looking one up for each send; parts keep what lies in
 * the processor's caches close together. */
static int open_loop(struct echo_server *server, const char *engine)
{
    static const uint64_t wants[] = { OURO_CAP_SLOTS | OURO_CAP_PARTS, OURO_CAP_SLOTS, 0 };
    ouro_config config = { .size = sizeof(config), .engine = engine };
    int r = -EOPNOTSUPP;

    for (unsigned i = 0; r == -EOPNOTSUPP && i < sizeof(wants) / sizeof(*wants); i++) {
        config.want = wants[i]; /* few engines have them */
        r = ouro_open(&config, &server->loop);
        server->slotted = wants[i] & OURO_CAP_SLOTS;
    }
    return r;
}

/* The kernel takes no larger table than there may be descriptors. */
static int make_table(struct echo_server *server)
{
    struct rlimit limit;

    if (!server->slotted || getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 2)
        return 0;
    server->slots = limit.rlim_cur > SLOTS_MOST ? SLOTS_MOST : (int)limit.rlim_cur - 1;
    return ouro_direct_table(server->loop, (unsigned)server->slots);
}

int echo_server_open(struct echo_server **ret, const char *engine, int listener, char *why)
{
    struct echo_server *server = aligned_alloc(64, (sizeof(*server) + 63) / 64 * 64);
    int r;

    if (!server)
        return -ENOMEM;
    memset(server, 0, sizeof(*server));
    server->listener = listener;
    for (unsigned i = 0; i < POOL_BUFFERS; i++) {
        server->chunks[i].next = server->spare;
        server->spare = &server->chunks[i];
    }
    r = open_loop(server, engine);
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

static void stop_reading(const struct conn *conn)
{
    int fd = conn->direct ? ouro_direct_install(conn->server->loop, (unsigned)conn->fd) : conn->fd;

    shutdown(fd, SHUT_RD);
    if (conn->direct)
        close(fd);
}

static void serve_until(struct echo_server *server, ouro_time until)
{
    int r = 0;

    while (server->open && r >= 0 && ouro_now(server->loop) < until)
        r = ouro_run(server->loop, 1, until);
}

/* Where a request ends is not for the server to know: for a while the connections are served as
 * ever, so that who is in the middle of one can send the rest. Then they end as if their peers had
 * ended them, with what has come by then. */
static void end_connections(struct echo_server *server)
{
    ouro_time begun = ouro_now(server->loop);

    ouro_cancel(server->loop, &server->accept);
    ouro_cancel(server->loop, &server->pause);
    serve_until(server, begun + GRACE_S * OURO_S);
    for (struct conn *conn = server->open; conn; conn = conn->next)
        if (conn->in.code != OURO_CLOSE)
            stop_reading(conn);
    serve_until(server, begun + 2 * GRACE_S * OURO_S);
}

int echo_server_run(struct echo_server *server)
{
    int r = ouro_pool_create(server->loop, POOL_BUFFERS, POOL_BLOCK, &server->pool), closed;

    if (r >= 0)
        r = make_table(server);
    if (r >= 0)
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
    struct block *block;

    if (server->loop) /* not served, or still busy: then its memory has to stay */
        if (ouro_close(server->loop, OURO_NOWAIT) < 0)
            return;
    for (struct conn *conn = server->open; conn; conn = conn->next) {
        while (conn->first) {
            struct chunk *chunk = conn->first;

            conn->first = chunk->next;
            if (chunk->own)
                free(chunk);
        }
        if (!conn->direct)
            close(conn->fd);
    }
    while ((block = server->blocks)) {
        server->blocks = block->next;
        free(block);
    }
    pthread_mutex_destroy(&server->lock);
    free(server);
}

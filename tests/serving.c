/* SPDX-License-Identifier: MIT */
/* serving.c: a small echo server on the loop of a test, and what peers of it do: see serving.h. */
#include "serving.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { QUEUE_MOST = 4 }; /* blocks of a connection that wait, before its stream is paused */

/* ---- The server ----------------------------------------------------------------------------- */

/* A connection. Its callbacks are all of it, so it needs no lock. */
struct conn {
    ouro_op *in, *out;
    bool stream, ended, paused, broken;
    struct {
        void *data;
        int64_t size;
    } queue[BUFFERS]; /* what came and is not yet sent */
    unsigned head, tail;
    char block[BLOCK];
};

struct server server;

static void closed(struct test *t, ouro_op *op)
{
    struct conn *conn = op->user;

    CHECK_EQ(RES(op), 0);
    op_free(t, conn->in);
    op_free(t, conn->out);
    free(conn);
    server.closed++;
}

static void end(struct test *t, struct conn *conn)
{
    ouro_prep_close(conn->out, conn->in->fd);
    record_of(conn->out)->then = closed;
    start(t, conn->out);
}

static void sent(struct test *t, ouro_op *op);

static void send_next(struct test *t, struct conn *conn)
{
    void *data = conn->stream ? conn->queue[conn->head % BUFFERS].data : conn->block;
    int64_t size = conn->queue[conn->head % BUFFERS].size;

    ouro_prep_send(conn->out, conn->in->fd, data, (size_t)size, 0);
    conn->out->flags = OURO_EXACT;
    record_of(conn->out)->then = sent;
    start(t, conn->out);
}

static void receive(struct test *t, struct conn *conn);

static void drop(struct conn *conn)
{
    if (conn->stream)
        CHECK_EQ(ouro_pool_release(server.pool, conn->queue[conn->head % BUFFERS].data), 0);
    conn->head++;
}

static void sent(struct test *t, ouro_op *op)
{
    struct conn *conn = op->user;
    bool all = RES(op) == conn->queue[conn->head % BUFFERS].size;

    if (!all) {
        int64_t why = RES(op) < 0 ? RES(op) : op->cause;
        CHECK(why == -EPIPE || why == -ECONNRESET || why == -ECANCELED);
        conn->broken = true;
        server.broken++;
    }
    do
        drop(conn);
    while (conn->broken && conn->head != conn->tail);
    if (conn->head != conn->tail)
        send_next(t, conn);
    else if (conn->ended || (conn->broken && !conn->stream))
        end(t, conn);
    else if (conn->broken)
        CHECK_EQ(ouro_cancel(t->loop, conn->in), 0);
    else if (!conn->stream)
        receive(t, conn);
    else if (conn->paused)
        conn->paused = ouro_resume(t->loop, conn->in) != 0;
}

static void came(struct test *t, struct conn *conn, int64_t size, void *data)
{
    bool idle = conn->head == conn->tail;

    CHECK(size > 0 && size <= BLOCK && conn->tail - conn->head < BUFFERS);
    conn->queue[conn->tail % BUFFERS].data = data;
    conn->queue[conn->tail++ % BUFFERS].size = size;
    if (conn->broken)
        drop(conn);
    else if (idle)
        send_next(t, conn);
}

static void stream_came(struct test *t, ouro_op *op, int64_t res, void *data)
{
    struct conn *conn = op->user;

    came(t, conn, res, data);
    if (conn->tail - conn->head >= QUEUE_MOST && !conn->paused)
        conn->paused = ouro_pause(t->loop, op) == 0;
}

static void input_ended(struct test *t, ouro_op *op)
{
    struct conn *conn = op->user;
    int64_t res = RES(op);

    CHECK(res >= 0 || res == -ECONNRESET || res == -EPIPE || res == -ECANCELED);
    if (res > 0) {
        came(t, conn, res, conn->block);
        return;
    }
    conn->ended = true;
    if (conn->head == conn->tail)
        end(t, conn);
}

static void receive(struct test *t, struct conn *conn)
{
    int fd = conn->in->fd;

    if (conn->stream)
        ouro_prep_recv_many(conn->in, fd, server.pool, 0);
    else
        ouro_prep_recv(conn->in, fd, conn->block, BLOCK, 0);
    start(t, conn->in);
}

ouro_op *op_of(struct test *t, void *user)
{
    ouro_op *op = op_new(t);

    op->user = user;
    record_of(op)->own_cb = true;
    return op;
}

static void accepted(struct test *t, ouro_op *op, int64_t res, void *data)
{
    struct conn *conn = calloc(1, sizeof(*conn));

    (void)op, (void)data;
    CHECK(conn && fcntl((int)res, F_GETFD) & FD_CLOEXEC);
    conn->in = op_of(t, conn);
    conn->out = op_of(t, conn);
    conn->stream = server.accepted++ % 2 == 0;
    record_of(conn->in)->then = input_ended;
    record_of(conn->in)->more = stream_came;
    conn->in->fd = (int)res;
    receive(t, conn);
}

void serve(struct test *t, int backlog)
{
    socklen_t size = sizeof(server.addr);
    const int one = 1, little = 32768;

    server.listener = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    server.addr = (struct sockaddr_in){ .sin_family = AF_INET };
    server.addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    /* Its connections have these from it: else megabytes wait for a slow reader. */
    CHECK_EQ(setsockopt(server.listener, SOL_SOCKET, SO_SNDBUF, &little, sizeof(little)), 0);
    CHECK_EQ(setsockopt(server.listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)), 0);
    CHECK_EQ(bind(server.listener, (struct sockaddr *)&server.addr, size), 0);
    CHECK_EQ(getsockname(server.listener, (struct sockaddr *)&server.addr, &size), 0);
    CHECK_EQ(listen(server.listener, backlog), 0);
    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, BLOCK, &server.pool), 0);
    server.door = op_of(t, NULL);
    record_of(server.door)->more = accepted;
    ouro_prep_accept_many(server.door, server.listener, 0);
    start(t, server.door);
}

/* For that long, and longer if nothing wakes it. */
void turn(struct test *t, int64_t ms)
{
    if (t->mode == MODE_SERVICE)
        usleep((unsigned)ms * 1000);
    else
        CHECK(ouro_run(t->loop, 1, in_ms(t, ms)) >= 0);
}

/* Until that many connections are open, and all others closed. */
void await_open(struct test *t, unsigned open)
{
    while (server.accepted - server.closed != open) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%u connections of %u are open, %u are due", server.accepted - server.closed,
                 server.accepted, open);
        turn(t, 1);
    }
}

/* All that is left is the listener. */
void stop(struct test *t)
{
    await_open(t, 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(server.door)), 0);
    finish_canceled(t, server.door);
    CHECK_EQ(ouro_pool_destroy(server.pool), 0);
}

/* ---- Who has nothing to do ------------------------------------------------------------------ */

static ouro_time cpu_time(void)
{
    struct timespec now;

    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (ouro_time)now.tv_sec * OURO_S + (ouro_time)now.tv_nsec;
}

/* Nothing happens for 300 ms: the process sleeps, but for looks that are seldom. */
void check_rest(struct test *t)
{
    ouro_counters before, after;
    ouro_time cpu, until;

    for (int i = 0; i < 5; i++)
        turn(t, 10);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof(before)), 0);
    cpu = cpu_time();
    until = in_ms(t, 300);
    while (ouro_now(t->loop) < until)
        turn(t, 300);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof(after)), 0);
    CHECK(cpu_time() - cpu < (ouro_time)seconds_scaled(100) * OURO_MS);
    CHECK(after.waits - before.waits <= 60);
}

/* ---- Peers ---------------------------------------------------------------------------------- */

int peer_socket(void)
{
    const struct timeval patience = { .tv_sec = seconds_scaled(8) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

int connect_to_server(int fd)
{
    int r;

    do
        r = connect(fd, (const struct sockaddr *)&server.addr, sizeof(server.addr));
    while (r < 0 && errno == EINTR);
    return r;
}

int connected(void)
{
    int fd = peer_socket();

    CHECK_EQ(connect_to_server(fd), 0);
    return fd;
}

void send_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t r = send(fd, data, size, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        CHECK(r > 0);
        data += r;
        size -= (size_t)r;
    }
}

void receive_all(int fd, char *data, size_t size)
{
    while (size) {
        ssize_t r = recv(fd, data, size, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            FAIL("%zu bytes are missing: %s", size, r ? strerror(errno) : "end of file");
        data += r;
        size -= (size_t)r;
    }
}

/* A request and its answer. */
void exchange(int fd, size_t size)
{
    static _Atomic uint32_t seed;
    static _Thread_local char data[MESSAGE], got[MESSAGE];
    uint32_t mine = seed++;

    fill(data, size, mine);
    send_all(fd, data, size);
    receive_all(fd, got, size);
    check_filled(got, size, mine);
}

void reset(int fd)
{
    const struct linger now = { 1, 0 };

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

/* Connections that go on whatever else happens. */
int steady[STEADY];

void steady_begin(void)
{
    for (int i = 0; i < STEADY; i++)
        exchange(steady[i] = connected(), 100);
}

void steady_go_on(void)
{
    for (int i = 0; i < STEADY; i++)
        exchange(steady[i], i % 2 ? 10 : MESSAGE);
}

void say_goodbye(int fd)
{
    char byte;

    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

void steady_end(void)
{
    steady_go_on();
    for (int i = 0; i < STEADY; i++)
        say_goodbye(steady[i]);
}

static void (*peers_do)(void);
static atomic_bool peers_done;
static pthread_t peers_thread;

static void *run_peers(void *arg)
{
    (void)arg;
    peers_do();
    peers_done = true;
    return NULL;
}

void begin_peers(void (*peers)(void))
{
    peers_do = peers;
    peers_done = false;
    CHECK_EQ(pthread_create(&peers_thread, NULL, run_peers, NULL), 0);
}

void end_peers(struct test *t)
{
    while (!peers_done) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("the peers are not done in time; %u connections are open",
                 server.accepted - server.closed);
        turn(t, 2);
    }
    pthread_join(peers_thread, NULL);
}

/* Drives the server while the peers do that. */
void with_peers(struct test *t, void (*peers)(void))
{
    begin_peers(peers);
    end_peers(t);
}

/* ---- Slow readers ---------------------------------------------------------------------------- */

/* Peers that send until nothing goes any more, and read nothing meanwhile. */
struct slow slow[SLOW];

void fill_windows(void)
{
    static char text[251 * 300];

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(i % 251);
    for (int i = 0; i < SLOW; i++) {
        const int small = 4096;

        slow[i].fd = peer_socket();
        CHECK_EQ(setsockopt(slow[i].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
        CHECK_EQ(setsockopt(slow[i].fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
        CHECK_EQ(connect_to_server(slow[i].fd), 0);
    }
    for (int idle = 0; idle < 20; idle++, usleep(10000)) {
        for (int i = 0; i < SLOW; i++) {
            ssize_t r;
            while (r = send(slow[i].fd, text + slow[i].sent % 251, 40000, MSG_DONTWAIT), r > 0) {
                slow[i].sent += (size_t)r;
                idle = 0;
            }
        }
    }
}

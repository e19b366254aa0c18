/* SPDX-License-Identifier: MIT */
/* t_streams.c: operations with many completions, and the pools that they receive into. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "core.h"
#include "engine/uring.h"
#include "sys.h"
#include "test.h"

#define BUFFERS 8u
#define BUFFER_SIZE 512u
#define CONNECTIONS 40

/* What has come; in SERVICE loops the library's thread writes it. */
static struct {
    pthread_mutex_t lock;
    ouro_pool *pool;
    _Atomic unsigned count;       /* completions that were not final */
    int fds[512];                 /* accepted */
    unsigned char bytes[1 << 20]; /* received, in order */
    _Atomic size_t size;
    void *kept[64]; /* buffers not given back */
    _Atomic unsigned kept_count;
    bool keeps;
    _Atomic int64_t last, sum;
    atomic_int inside; /* callbacks of one stream that run */
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static unsigned count_seen(void)
{
    unsigned count;

    pthread_mutex_lock(&seen.lock);
    count = seen.count;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static void accepted(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op, (void)data;
    pthread_mutex_lock(&seen.lock);
    CHECK(seen.count < 512 && fcntl((int)res, F_GETFD) & FD_CLOEXEC);
    seen.fds[seen.count++] = (int)res;
    pthread_mutex_unlock(&seen.lock);
}

static void received(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK(res > 0 && res <= BUFFER_SIZE && data);
    pthread_mutex_lock(&seen.lock);
    CHECK(seen.size + (size_t)res <= sizeof(seen.bytes));
    memcpy(seen.bytes + seen.size, data, (size_t)res);
    seen.size += (size_t)res;
    seen.count++;
    if (seen.keeps)
        seen.kept[seen.kept_count++] = data;
    pthread_mutex_unlock(&seen.lock);
    if (!seen.keeps)
        CHECK_EQ(ouro_pool_release(seen.pool, data), 0);
}

static void counted(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK(!data);
    pthread_mutex_lock(&seen.lock);
    seen.count++;
    seen.last = res;
    seen.sum += res;
    pthread_mutex_unlock(&seen.lock);
}

/* ---- Helpers -------------------------------------------------------------------------------- */

static ouro_op *stream(struct test *t, void (*more)(struct test *, ouro_op *, int64_t, void *))
{
    ouro_op *op = op_new(t);

    record_of(op)->more = more;
    return op;
}

static void make_pool(struct test *t)
{
    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, BUFFER_SIZE, &seen.pool), 0);
}

static void destroy_pool(void)
{
    CHECK_EQ(ouro_pool_destroy(seen.pool), 0);
}

/* Until that many completions that are not final have come. */
static void await(struct test *t, unsigned count)
{
    while (count_seen() < count) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%u completions of %u came in time", count_seen(), count);
        step(t);
        reap_all(t);
        usleep(100);
    }
}

static void await_bytes(struct test *t, size_t size)
{
    for (bool all = false; !all;) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%zu bytes of %zu came in time", seen.size, size);
        step(t);
        reap_all(t);
        usleep(100);
        pthread_mutex_lock(&seen.lock);
        all = seen.size >= size;
        pthread_mutex_unlock(&seen.lock);
    }
}

/* ---- accept_many ---------------------------------------------------------------------------- */

static void every_connection_is_accepted_once(struct test *t)
{
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr), clients[CONNECTIONS];
    ouro_op *op = stream(t, accepted);

    ouro_prep_accept_many(op, listener, 0);
    start(t, op);
    for (int i = 0; i < CONNECTIONS; i++) {
        clients[i] = connect_to(&addr);
        if (i % 7 == 0)
            step(t);
    }
    await(t, CONNECTIONS);
    let_rest(t);
    CHECK_EQ(count_seen(), CONNECTIONS);
    CHECK(!is_final(op));
    cancel_and_finish(t, op);
    for (int i = 0; i < CONNECTIONS; i++) {
        char byte = 0;
        CHECK_EQ(send(clients[i], &(char){ 'a' }, 1, 0), 1);
        close(clients[i]);
        CHECK(readable(seen.fds[i], 1000));
        CHECK_EQ(recv(seen.fds[i], &byte, 1, 0), 1);
        close(seen.fds[i]);
    }
}

/* More connections than the completion queue has places. */
static void an_overflow_loses_no_connection(struct test *t)
{
    struct sockaddr_in addr;
    int listener, clients[300];
    ouro_op *op;

    close_loop(t);
    t->config.depth = 4;
    open_loop(t);
    listener = make_listener(t, &addr);
    op = stream(t, accepted);
    ouro_prep_accept_many(op, listener, 0);
    start(t, op);
    step(t);
    for (int i = 0; i < 300; i++)
        clients[i] = connect_to(&addr);
    await(t, 300);
    CHECK(!is_final(op));
    cancel_and_finish(t, op);
    for (int i = 0; i < 300; i++) {
        close(clients[i]);
        close(seen.fds[i]);
    }
}

/* What needs one and is no stream ends. */
static void check_ends(struct test *t, int listener, int error)
{
    ouro_op *op = op_new(t);

    ouro_prep_open(op, OURO_HERE, "/dev/null", O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), error);
    ouro_prep_accept(op, listener, NULL, NULL, 0);
    CHECK_EQ(do_op(t, op), error);
}

/* Who finds nothing to reap is no reason to look again at once. The stream itself is one, for a
 * moment each time that it has rested: it is enough that the loop says once that it may sleep. */
static void check_sleeps(struct test *t)
{
    int ms = 0;

    for (int i = 0; i < 100 && ms == 0; i++) {
        CHECK(ouro_run(t->loop, 1, in_ms(t, 2)) >= 0);
        reap_all(t);
        ms = ouro_timeout_ms(t->loop);
    }
    CHECK(ms != 0);
}

/* It waits until there is one, and does not turn like mad meanwhile. */
static void check_lack(struct test *t, int error)
{
    struct sockaddr_in addr;
    struct rlimit limit, none;
    int listener = make_listener(t, &addr), client, first;
    ouro_op *op = stream(t, accepted);
    ouro_counters before, after;

    client = connect_to(&addr);
    CHECK(readable(listener, 1000));
    ouro_prep_open(op, OURO_HERE, path_in(t, "none"), O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -ENOENT); /* the library has its own descriptors */
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    first = fcntl(listener, F_DUPFD, 0);
    close(first);
    none = limit;
    none.rlim_cur = (rlim_t)first;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    check_ends(t, listener, error);
    ouro_prep_accept_many(op, listener, 0);
    start(t, op);
    let_rest(t);
    CHECK(!is_final(op));
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof(before)), 0);
    if (t->mode != MODE_SERVICE)
        CHECK(ouro_run(t->loop, 1, in_ms(t, 200)) >= 0);
    else
        usleep(200000);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof(after)), 0);
    CHECK(after.waits - before.waits <= 30);
    if (t->mode == MODE_OWNED)
        check_sleeps(t);
    CHECK_EQ(count_seen(), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    await(t, 1);
    cancel_and_finish(t, op);
    close(client);
    close(seen.fds[0]);
}

static void a_lack_of_descriptors_is_waited_out(struct test *t)
{
    check_lack(t, -EMFILE);
}

/* ---- The same, but that the whole system is said to have none ------------------------------- */

static struct ouro__sys real;
static struct {
    const struct ring *ring;
    uint32_t at; /* completions before it were looked at */
    _Atomic unsigned said;
} full;

static long say_full(long r)
{
    full.said += r == -EMFILE;
    return r == -EMFILE ? -ENFILE : r;
}

static long full_accept(int fd, void *ret_addr, unsigned *ret_size, int flags)
{
    return say_full(real.accept4(fd, ret_addr, ret_size, flags));
}

static long full_openat(int dir, const char *path, int flags, unsigned mode)
{
    return say_full(real.openat(dir, path, flags, mode));
}

static long full_openat2(int dir, const char *path, int flags, unsigned mode, uint64_t resolve)
{
    return say_full(real.openat2(dir, path, flags, mode, resolve));
}

static long full_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                       size_t size)
{
    long r = real.io_uring_enter(fd, submit, min, flags, arg, size);

    for (; full.at != ring_cq_tail(full.ring); full.at++) {
        struct ring_cqe *cqe = &full.ring->cqes[full.at & full.ring->cq_mask];
        cqe->res = (int32_t)say_full(cqe->res);
    }
    return r;
}

/* Nobody but who enters it adds to the ring of an OWNED loop. */
static void a_full_table_of_the_system_is_waited_out(struct test *t)
{
    bool ring = strcmp(ouro_engine_name(t->loop), "uring") == 0;
    const struct uring *u = t->loop->engine_state;

    real = ouro__sys;
    ouro__sys.accept4 = full_accept;
    ouro__sys.openat = full_openat;
    ouro__sys.openat2 = full_openat2;
    if (ring) {
        full.ring = &u->ring;
        full.at = u->ring.cq_head;
        ouro__sys.io_uring_enter = full_enter;
    }
    check_lack(t, -ENFILE);
    CHECK(full.said > 3);
    close_loop(t);
    ouro__sys = real;
}

static void into_slot(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op, (void)data;
    CHECK(res >= 0 && res < 4);
    pthread_mutex_lock(&seen.lock);
    seen.fds[seen.count++] = (int)res;
    pthread_mutex_unlock(&seen.lock);
}

static void close_slot(struct test *t, int slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_close(op, slot);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
}

/* Each gets a slot of its own, and who finds none waits for one. */
static void connections_go_into_free_slots(struct test *t)
{
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr), clients[8], slots = 0;
    ouro_op *op = stream(t, into_slot), *other = op_new(t);
    char byte;

    ouro_prep_accept_many_direct(op, listener, 0);
    CHECK_EQ(start_try(t, op), -EINVAL); /* there is no table */
    CHECK_EQ(ouro_direct_table(t->loop, 4), 0);
    start(t, op);
    for (int i = 0; i < 8; i++) {
        clients[i] = connect_to(&addr);
        CHECK_EQ(send(clients[i], &(char){ (char)('a' + i) }, 1, 0), 1);
    }
    await(t, 4);
    let_rest(t);
    CHECK_EQ(count_seen(), 4);
    CHECK(!is_final(op));
    for (int i = 0; i < 8; i++) {
        await(t, (unsigned)i + 1);
        ouro_prep_recv(other, seen.fds[i], &byte, 1, 0);
        other->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, other), 1);
        CHECK_EQ(byte, 'a' + i);
        if (i >= 4) {
            slots |= 1 << seen.fds[i];
            continue;
        }
        close_slot(t, seen.fds[i]);
        await(t, (unsigned)i + 5);
        CHECK_EQ(seen.fds[i + 4], seen.fds[i]);
    }
    CHECK_EQ(slots, 15);
    close_slot(t, seen.fds[7]); /* it waits for a connection with that one */
    let_rest(t);
    cancel_and_finish(t, op);
    ouro_prep_socket_direct(other, AF_INET, SOCK_STREAM, 0, (unsigned)seen.fds[7]);
    CHECK_EQ(do_op(t, other), 0);
    for (int i = 0; i < 4; i++)
        close_slot(t, i);
    for (int i = 0; i < 8; i++)
        close(clients[i]);
}

/* ---- recv_many ------------------------------------------------------------------------------ */

static void all_bytes_come_in_order_and_then_the_end(struct test *t)
{
    static unsigned char data[200000];
    ouro_op *op = stream(t, received);
    size_t sent = 0;
    int fds[2];

    fill(data, sizeof(data), 3);
    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    while (sent < sizeof(data)) {
        size_t part = 1 + (sent * 7919) % 3000;
        ssize_t r = send(fds[1], data + sent,
                         part < sizeof(data) - sent ? part : sizeof(data) - sent, MSG_DONTWAIT);
        if (r > 0)
            sent += (size_t)r;
        step(t);
        reap_all(t);
    }
    await_bytes(t, sizeof(data));
    check_filled(seen.bytes, sizeof(data), 3);
    CHECK(!is_final(op));
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    CHECK_EQ(finish(t, op), 0);
    CHECK(!(CFLAGS(op) & (OURO_C_BUF | OURO_C_MORE)));
    destroy_pool();
}

/* What has no buffer stays in the socket until one is given back. */
static void a_lack_of_buffers_is_waited_out(struct test *t)
{
    static unsigned char data[4 * BUFFERS * BUFFER_SIZE];
    ouro_op *op = stream(t, received);
    int fds[2];

    fill(data, sizeof(data), 4);
    make_pool(t);
    make_socketpair(t, fds);
    seen.keeps = true;
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    CHECK_EQ(send(fds[1], data, sizeof(data), 0), sizeof(data));
    await(t, BUFFERS);
    let_rest(t);
    CHECK_EQ(seen.kept_count, BUFFERS);
    CHECK(!is_final(op));
    while (seen.size < sizeof(data)) {
        unsigned had = count_seen();
        void *data_back;
        pthread_mutex_lock(&seen.lock);
        CHECK(seen.kept_count > 0);
        data_back = seen.kept[--seen.kept_count];
        pthread_mutex_unlock(&seen.lock);
        CHECK_EQ(ouro_pool_release(seen.pool, (char *)data_back + 1), 0); /* anywhere in it */
        await(t, had + 1);
    }
    check_filled(seen.bytes, sizeof(data), 4);
    cancel_and_finish(t, op);
    destroy_pool(); /* with buffers that are out */
}

/* Many streams share a pool that is smaller than they are many. */
static void streams_share_a_small_pool(struct test *t)
{
    ouro_op *ops[CONNECTIONS];
    int fds[CONNECTIONS][2];

    make_pool(t);
    for (int i = 0; i < CONNECTIONS; i++) {
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds[i]), 0);
        ops[i] = stream(t, received);
        ouro_prep_recv_many(ops[i], fds[i][0], seen.pool, 0);
        start(t, ops[i]);
    }
    step(t);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < CONNECTIONS; i++)
            CHECK_EQ(send(fds[i][1], "0123456789", 10, 0), 10);
    await_bytes(t, (size_t)5 * 10 * CONNECTIONS);
    CHECK_EQ(ouro_pool_destroy(seen.pool), -EBUSY);
    for (int i = 0; i < CONNECTIONS; i++)
        close(fds[i][1]);
    finish_all(t);
    for (int i = 0; i < CONNECTIONS; i++) {
        CHECK_EQ(RES(ops[i]), 0);
        close(fds[i][0]);
    }
    destroy_pool();
}

/* Where the bytes lie that have come, and the buffers that are kept. */
enum { MANY = 256, RECORD = 64 };
static struct {
    bool used[MANY];
    char *first;
    void *out[MANY];
} places;

static void placed(struct test *t, ouro_op *op, int64_t res, void *data)
{
    bool keeps;

    (void)t, (void)op;
    CHECK_EQ(res, 8);
    pthread_mutex_lock(&seen.lock);
    keeps = seen.keeps;
    if (!places.first || (char *)data < places.first)
        places.first = data;
    if (keeps)
        places.out[seen.kept_count++] = data;
    else
        places.used[((char *)data - places.first) / RECORD % MANY] = true;
    seen.count++;
    pthread_mutex_unlock(&seen.lock);
    if (!keeps)
        CHECK_EQ(ouro_pool_release(seen.pool, data), 0);
}

/* From now on buffers are kept, or given back and noted anew. */
static void begin_places(bool keeps)
{
    pthread_mutex_lock(&seen.lock);
    seen.keeps = keeps;
    memset(places.used, 0, sizeof(places.used));
    pthread_mutex_unlock(&seen.lock);
}

static void send_records(struct test *t, int fd, unsigned count)
{
    unsigned before = count_seen();

    for (unsigned i = 0; i < count; i++)
        while (send(fd, "01234567", 8, MSG_DONTWAIT) != 8)
            step(t);
    await(t, before + count);
}

/* What passes through the processor's caches are those that are needed, however many once were. */
static void few_buffers_are_used_again_and_again(struct test *t)
{
    ouro_op *op = stream(t, placed);
    unsigned used = 0;
    int fds[2];

    CHECK_EQ(ouro_pool_create(t->loop, MANY, RECORD, &seen.pool), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    begin_places(true);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    send_records(t, fds[1], MANY - 1);
    begin_places(false);
    for (unsigned i = 0; i < MANY - 1; i++)
        CHECK_EQ(ouro_pool_release(seen.pool, places.out[i]), 0);
    for (unsigned i = 0; i < 320; i++) /* it takes a while to forget */
        send_records(t, fds[1], 8);
    begin_places(false);
    for (unsigned i = 0; i < 32; i++)
        send_records(t, fds[1], 8);
    for (unsigned i = 0; i < MANY; i++)
        used += places.used[i];
    CHECK(used <= 32);
    cancel_and_finish(t, op);
    close(fds[0]);
    close(fds[1]);
    destroy_pool();
}

static void a_reset_ends_a_stream(struct test *t)
{
    const struct linger now = { 1, 0 };
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr), client = connect_to(&addr), server;
    ouro_op *op = stream(t, received);

    make_pool(t);
    server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ouro_prep_recv_many(op, server, seen.pool, 0);
    start(t, op);
    CHECK_EQ(send(client, "x", 1, 0), 1);
    await_bytes(t, 1);
    CHECK_EQ(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(client);
    CHECK_EQ(finish(t, op), -ECONNRESET);
    close(server);
    destroy_pool();
}

static void a_close_ends_the_streams_of_its_descriptor(struct test *t)
{
    ouro_op *op = stream(t, received), *close_op = op_new(t);
    int fds[2];

    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    let_rest(t);
    unmade(t, fds[0]);
    ouro_prep_close(close_op, fds[0]);
    CHECK_EQ(do_op(t, close_op), 0);
    finish_canceled(t, op);
    destroy_pool();
}

/* ---- Pause and resume ------------------------------------------------------------------------ */

static void a_paused_stream_rests_and_goes_on(struct test *t)
{
    ouro_op *op = stream(t, received);
    size_t before;
    int fds[2];

    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    CHECK_EQ(ouro_pause(t->loop, op), -EINVAL); /* not in flight */
    start(t, op);
    CHECK_EQ(send(fds[1], "one", 3, 0), 3);
    await_bytes(t, 3);
    for (int i = 0; i < 40; i++) { /* more often than anything is tried again */
        CHECK_EQ(ouro_pause(t->loop, op), 0);
        CHECK_EQ(ouro_pause(t->loop, op), 0);
        if (i % 2)
            let_rest(t);
        CHECK_EQ(ouro_resume(t->loop, op), 0);
        CHECK_EQ(ouro_resume(t->loop, op), 0);
        if (i % 3)
            step(t);
    }
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    before = seen.size;
    CHECK_EQ(send(fds[1], "two", 3, 0), 3);
    let_rest(t);
    CHECK_EQ(seen.size, before);
    CHECK(!is_final(op));
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    await_bytes(t, 6);
    CHECK(memcmp(seen.bytes, "onetwo", 6) == 0);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    cancel_and_finish(t, op);
    destroy_pool();
}

/* ---- poll_many and timer_many ---------------------------------------------------------------- */

static void readiness_is_told_as_long_as_it_holds(struct test *t)
{
    ouro_op *op = stream(t, counted);
    unsigned had;
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_poll_many(op, fds[0], POLLIN);
    start(t, op);
    let_rest(t);
    CHECK_EQ(count_seen(), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    await(t, 3);
    CHECK_EQ(seen.last, POLLIN);
    while (read(fds[0], &byte, 1) != 1)
        ;
    let_rest(t);
    had = count_seen();
    let_rest(t);
    CHECK_EQ(count_seen(), had);
    unmade(t, fds[1]);
    close(fds[1]);
    await(t, had + 1);
    CHECK(seen.last & POLLHUP);
    cancel_and_finish(t, op);
}

/* Nobody takes its completions: there is one, not thousands. */
static void an_uncollected_poll_floods_nobody(struct test *t)
{
    ouro_op *op = stream(t, counted);
    ouro_counters counters;
    int fds[2];

    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    record_of(op)->own_event = true;
    ouro_prep_poll_many(op, fds[0], POLLIN);
    start(t, op);
    let_pass(t);
    CHECK_EQ(ouro_get_counters(t->loop, &counters, sizeof(counters)), 0);
    CHECK_EQ(counters.uncollected, 1);
    CHECK_EQ(counters.streamed, 1);
    await(t, 3);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
}

static void a_timer_ticks(struct test *t)
{
    ouro_op *op = stream(t, counted);
    ouro_time begin = ouro_now(t->loop);
    int64_t ticks;

    ouro_prep_timer_many(op, begin + 5 * OURO_MS, 10 * OURO_MS);
    start(t, op);
    await(t, 3);
    usleep(50000);
    await(t, count_seen() + 2); /* the first may have come before it was slept through */
    cancel_and_finish(t, op);
    ticks = (int64_t)((ouro_now(t->loop) - begin - 5 * OURO_MS) / (10 * OURO_MS)) + 1;
    CHECK(seen.sum >= 7 && seen.sum <= ticks);
    /* A deadline ends it, paused or not. */
    ouro_prep_timer_many(op, in_ms(t, 1), OURO_MS);
    op->deadline = in_ms(t, 50);
    start(t, op);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    CHECK_EQ(finish(t, op), -ETIMEDOUT);
}

/* Who collects a tick and sleeps again needs to do nothing else. */
static void a_timer_ticks_for_who_only_collects(struct test *t)
{
    ouro_op *op = stream(t, counted);
    ouro_time late = in_ms(t, 2000);
    ouro_event event;

    ouro_prep_timer_many(op, in_ms(t, 1), OURO_MS);
    start(t, op);
    while (count_seen() < 5) {
        CHECK(ouro_run(t->loop, 1, in_ms(t, 5000)) >= 0);
        CHECK(ouro_now(t->loop) < late);
        while (ouro_reap(t->loop, &event, 1) == 1)
            ledger_event(t, &event);
    }
    cancel_and_finish(t, op);
}

static void a_timer_that_is_paused_keeps_still_to_its_deadline(struct test *t)
{
    ouro_op *op = stream(t, counted);
    unsigned had = count_seen();

    ouro_prep_timer_many(op, in_ms(t, 20), OURO_MS);
    op->deadline = in_ms(t, 60);
    start(t, op);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    CHECK_EQ(finish(t, op), -ETIMEDOUT);
    CHECK_EQ(count_seen(), had);
}

/* The next time lies beyond the end of the clock: it does not come. */
static void a_timer_may_tick_once_in_an_age(struct test *t)
{
    ouro_op *op = stream(t, counted);
    unsigned had = count_seen();

    ouro_prep_timer_many(op, in_ms(t, 5), UINT64_MAX);
    start(t, op);
    await(t, had + 1);
    let_rest(t);
    CHECK_EQ(count_seen(), had + 1);
    cancel_and_finish(t, op);
}

static void ticks_leave_places_for_the_last_completions(struct test *t)
{
    ouro_op *ops[48];
    ouro_counters counters;

    close_loop(t);
    t->config.max_ops = 64;
    open_loop(t);
    for (int i = 0; i < 48; i++) {
        ops[i] = stream(t, counted);
        record_of(ops[i])->own_event = true;
        ouro_prep_timer_many(ops[i], in_ms(t, 5), 1000 * OURO_S);
        start(t, ops[i]);
    }
    usleep(20000);
    let_pass(t);
    CHECK_EQ(ouro_get_counters(t->loop, &counters, sizeof(counters)), 0);
    CHECK(counters.in_flight + counters.uncollected <= 64);
    for (int i = 0; i < 48; i++)
        cancel_and_finish(t, ops[i]);
}

/* ---- Limits and refusals --------------------------------------------------------------------- */

static void bad_streams_are_refused(struct test *t)
{
    ouro_op *op = stream(t, received), *other = op_new(t), *chain[2] = { op, other };
    ouro_pool *pool = NULL;
    int fds[2];

    make_socketpair(t, fds);
    make_pool(t);
    ouro_prep_recv_many(op, fds[0], NULL, 0);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_recv_many(op, -1, seen.pool, 0);
    CHECK_EQ(start_try(t, op), -EBADF);
    ouro_prep_recv_many(op, fds[0], seen.pool, MSG_DONTWAIT);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    op->flags = OURO_QUIET;
    CHECK_EQ(start_try(t, op), -EINVAL);
    op->flags = 0;
    ouro_prep_nop(other);
    CHECK_EQ(start_chain(t, chain, 2), -EINVAL);
    ouro_prep_timer_many(op, in_ms(t, 10), 0);
    CHECK_EQ(start_try(t, op), -EINVAL);
    CHECK_EQ(ouro_pool_create(t->loop, 3, 64, &pool), -EINVAL);
    CHECK_EQ(ouro_pool_create(t->loop, 0, 64, &pool), -EINVAL);
    CHECK_EQ(ouro_pool_create(t->loop, 65536, 64, &pool), -EINVAL);
    CHECK_EQ(ouro_pool_create(t->loop, 4, 0, &pool), -EINVAL);
    CHECK_EQ(ouro_pool_release(seen.pool, NULL), -EINVAL);
    CHECK_EQ(ouro_pool_release(seen.pool, op), -EINVAL);
    CHECK_EQ(ouro_pause(t->loop, other), -EINVAL);
    CHECK_EQ(ouro_pool_destroy(NULL), 0);
    ouro_prep_recv_many(op, make_file(t, "f", "x", 1), seen.pool, 0);
    CHECK_EQ(do_op(t, op), -ENOTSOCK);
    destroy_pool();
}

/* ---- Losing the ring ------------------------------------------------------------------------- */

/* What was running then goes on, or ends with -EIO, since what it took is not known; what is
 * submitted later runs on the next engine, with the same pool. */
static void streams_and_pools_survive_the_loss_of_the_ring(struct test *t)
{
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr), client, fds[2], later[2];
    ouro_op *in = stream(t, received), *door = stream(t, accepted);

    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(in, fds[0], seen.pool, 0);
    start(t, in);
    CHECK_EQ(send(fds[1], "before", 6, 0), 6);
    await_bytes(t, 6);
    block_io_uring(BLOCK_ALL, EPERM);
    CHECK_EQ(send(fds[1], "behind", 6, 0), 6);
    while (seen.size < 12 && !is_final(in)) {
        CHECK(ouro_now(t->loop) < t->limit);
        step(t);
        reap_all(t);
    }
    if (is_final(in))
        CHECK(RES(in) == -EIO && CFLAGS(in) & OURO_C_LOST);
    else
        CHECK(memcmp(seen.bytes, "beforebehind", 12) == 0);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    finish_all(t);
    seen.size = 0;
    seen.count = 0;
    make_socketpair(t, later);
    ouro_prep_recv_many(in, later[0], seen.pool, 0);
    start(t, in);
    for (unsigned i = 0; i < 2 * BUFFERS; i++)
        CHECK_EQ(send(later[1], "later", 5, 0), 5);
    await_bytes(t, (size_t)2 * BUFFERS * 5);
    seen.count = 0;
    ouro_prep_accept_many(door, listener, 0);
    start(t, door);
    client = connect_to(&addr);
    await(t, 1);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    finish_all(t);
    close(client);
    close(seen.fds[0]);
    destroy_pool();
}

/* ---- Threads --------------------------------------------------------------------------------- */

static void one_by_one(struct test *t, ouro_op *op, int64_t res, void *data)
{
    CHECK_EQ(atomic_fetch_add(&seen.inside, 1), 0);
    received(t, op, res, data);
    usleep(50);
    CHECK_EQ(atomic_fetch_sub(&seen.inside, 1), 1);
}

static void *runs(void *arg)
{
    struct test *t = arg;

    while (seen.size < 2000)
        CHECK(ouro_run(t->loop, 1, in_ms(t, 10)) >= 0);
    return NULL;
}

/* However many threads run the loop, callbacks of one stream come one after the other. */
static void callbacks_of_a_stream_do_not_overlap(struct test *t)
{
    ouro_op *op = stream(t, one_by_one);
    pthread_t threads[3];
    int fds[2];

    make_pool(t);
    make_socketpair(t, fds);
    record_of(op)->own_cb = true;
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, runs, t), 0);
    for (int i = 0; i < 2000; i++) {
        while (send(fds[1], "x", 1, 0) < 0)
            usleep(100);
        if (i % 10 == 0)
            usleep(100);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cancel_and_finish(t, op);
    destroy_pool();
}

static const struct test_case cases[] = {
    { NAMED(every_connection_is_accepted_once) },
    { NAMED(an_overflow_loses_no_connection), .faults = "8", .pitfalls = "C2" },
    { NAMED(a_lack_of_descriptors_is_waited_out), .faults = "7" },
    { NAMED(a_full_table_of_the_system_is_waited_out), .faults = "7",
      .fixed = FIX_ALL & ~FIX_STYLE },
    { NAMED(connections_go_into_free_slots) },
    { NAMED(all_bytes_come_in_order_and_then_the_end) },
    { NAMED(a_lack_of_buffers_is_waited_out), .pitfalls = "F15" },
    { NAMED(streams_share_a_small_pool) },
    { NAMED(few_buffers_are_used_again_and_again) },
    { NAMED(a_reset_ends_a_stream), .faults = "24" },
    { NAMED(a_close_ends_the_streams_of_its_descriptor) },
    { NAMED(a_paused_stream_rests_and_goes_on) },
    { NAMED(readiness_is_told_as_long_as_it_holds) },
    { NAMED(a_timer_that_is_paused_keeps_still_to_its_deadline) },
    { NAMED(a_timer_may_tick_once_in_an_age) },
    { NAMED(ticks_leave_places_for_the_last_completions), .needs = NEED_DRIVER },
    { NAMED(an_uncollected_poll_floods_nobody), .needs = NEED_DRIVER },
    { NAMED(a_timer_ticks) },
    { NAMED(a_timer_ticks_for_who_only_collects), .fixed = FIX_STYLE, .style = STYLE_REAP },
    { NAMED(bad_streams_are_refused) },
    { NAMED(streams_and_pools_survive_the_loss_of_the_ring), .needs = NEED_URING },
    { NAMED(callbacks_of_a_stream_do_not_overlap), .needs = NEED_THREADS },
    { 0 },
};

const struct subject subject_streams = { "streams", cases };

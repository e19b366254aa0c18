/* SPDX-License-Identifier: MIT */
/* t_ready.c: waiting for readiness: what an engine keeps of a descriptor must not outlive it, lose
 * an edge, or cost a call for each wait. The tests run on all engines; where an engine keeps
 * nothing they say that the results are the same. */
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "sys.h"
#include "test.h"

static struct ouro__sys real;
static _Atomic long controls; /* calls of epoll_ctl */

static long counted_ctl(int epoll, int code, int fd, unsigned events, uint64_t word)
{
    controls++;
    return real.epoll_ctl(epoll, code, fd, events, word);
}

/* Doubts come as soon as that instead of after a second; OURO_FOREVER: never. */
static _Atomic ouro_time doubt_after;

static long doubting_set(int fd, ouro_time after)
{
    return real.timerfd_set(fd, after ? doubt_after : 0);
}

static _Atomic long shown_waits;
static _Atomic int shown_fd = -1;

/* A byte comes when the engine looks, and has attempts behind it that are not armed yet. */
static long late_wait(int epoll, struct epoll_event *ret, unsigned room, ouro_time until)
{
    if (shown_fd >= 0 && !shown_waits++)
        CHECK_EQ(write(shown_fd, "x", 1), 1);
    return real.epoll_wait(epoll, ret, room, until);
}

static void watch_calls(struct test *t, ouro_time doubts)
{
    real = ouro__sys;
    doubt_after = doubts;
    ouro__sys.epoll_ctl = counted_ctl;
    ouro__sys.timerfd_set = doubting_set;
    ouro__sys.epoll_wait = late_wait;
    open_loop(t);
}

/* On kaio, too, what is no direct file waits that way. */
static bool by_epoll(const struct test *t)
{
    const char *name = ouro_engine_name(t->loop);

    return strcmp(name, "epoll") == 0 || strcmp(name, "kaio") == 0;
}

static void finish_watching(struct test *t)
{
    close_loop(t);
    ouro__sys = real;
}

/* A FIFO that the loop has opened for reading and writing: what is written there can be read. */
static int open_fifo(struct test *t, const char *name)
{
    ouro_op *op = op_new(t);

    CHECK(mkfifo(path_in(t, name), 0600) == 0 || errno == EEXIST);
    ouro_prep_open(op, OURO_HERE, path_in(t, name), O_RDWR, 0);
    CHECK(do_op(t, op) >= 0);
    return (int)RES(op);
}

static void close_fifo(struct test *t, int fd)
{
    ouro_op *op = op_new(t);

    ouro_prep_close(op, fd);
    CHECK_EQ(do_op(t, op), 0);
}

/* A read that waits until a byte is written. */
static void exchange(struct test *t, ouro_op *op, int fd, int writer)
{
    static char byte;

    ouro_prep_read(op, fd, &byte, 1, 0);
    start(t, op);
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(writer, "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
}

/* ---- What the loop opened ------------------------------------------------------------------ */

static void what_the_loop_opened_waits_without_calls(struct test *t)
{
    static char bytes[1 << 16];
    ouro_op *op = op_new(t);
    int fd;

    watch_calls(t, OURO_FOREVER);
    fd = open_fifo(t, "f");
    for (int i = 0; i < 100; i++) {
        if (i == 2)
            controls = 0;
        exchange(t, op, fd, fd);
        CHECK_EQ(write(fd, bytes, sizeof bytes), sizeof bytes); /* and now for room */
        ouro_prep_write(op, fd, "x", 1, 0);
        start(t, op);
        for (int k = 0; k < 3; k++)
            step(t);
        CHECK(!is_final(op));
        CHECK_EQ(read(fd, bytes, sizeof bytes), sizeof bytes);
        CHECK_EQ(finish(t, op), 1);
        CHECK_EQ(read(fd, bytes, 1), 1);
    }
    if (by_epoll(t))
        CHECK_EQ(controls, 0);
    close_fifo(t, fd);
    finish_watching(t);
}

static void an_edge_between_an_attempt_and_its_waiting_is_not_lost(struct test *t)
{
    enum { COUNT = 3000 };
    static ouro_op *ops[COUNT];
    char byte;
    int fd;

    watch_calls(t, OURO_FOREVER);
    fd = open_fifo(t, "f");
    exchange(t, ops[0] = op_new(t), fd, fd);
    ouro_prep_read(ops[0], fd, &byte, 1, 0);
    for (int i = 1; i < COUNT; i++)
        ouro_prep_nop(ops[i] = op_new(t));
    shown_fd = fd;
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    for (int i = 1; i < COUNT; i++)
        CHECK_EQ(finish(t, ops[i]), 0);
    if (!shown_waits)
        CHECK_EQ(write(fd, "x", 1), 1); /* another engine */
    CHECK_EQ(finish(t, ops[0]), 1);
    shown_fd = -1;
    close_fifo(t, fd);
    finish_watching(t);
}

/* The program closes what the loop has opened, and opens another file under its number. */
static void a_number_taken_from_the_loop_is_noticed(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fd, fds[2];

    watch_calls(t, 20 * OURO_MS);
    fd = open_fifo(t, "f");
    exchange(t, op, fd, fd);
    make_pipe(t, fds);
    CHECK_EQ(dup3(fds[0], fd, O_CLOEXEC), fd);
    ouro_prep_read(op, fd, &byte, 1, 0);
    start(t, op);
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(fds[1], "y", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(byte, 'y');
    close(fd);
    finish_watching(t);
}

/* Who waits long is asked about once, not again and again. */
static void long_waits_cost_little(struct test *t)
{
    ouro_op *op = op_new(t), *timer = op_new(t);
    ouro_counters before, after;
    char byte;
    int fd;

    watch_calls(t, 5 * OURO_MS);
    fd = open_fifo(t, "f");
    exchange(t, op, fd, fd);
    ouro_prep_read(op, fd, &byte, 1, 0);
    start(t, op);
    let_pass(t);
    ouro_prep_timer(timer, in_ms(t, 50));
    CHECK_EQ(do_op(t, timer), 0);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof before), 0);
    controls = 0;
    ouro_prep_timer(timer, in_ms(t, 200));
    CHECK_EQ(do_op(t, timer), 0);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof after), 0);
    if (by_epoll(t))
        CHECK_EQ(controls, 0);
    CHECK(after.waits - before.waits < 10);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    close_fifo(t, fd);
    finish_watching(t);
}

/* ---- Streams over TCP, whose short receives tell that there is no more ---------------------- */

enum { POOL = 16, BUFFER = 256 };
static ouro_pool *pool;
static _Atomic uint64_t stream_bytes;
static _Atomic long recv_calls;

static long counted_recv(int fd, void *buf, size_t len, int flags)
{
    recv_calls++;
    return real.recv(fd, buf, len, flags);
}

static void stream_took(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    stream_bytes += (uint64_t)res;
    CHECK_EQ(ouro_pool_release(pool, data), 0);
}

static void await_stream(struct test *t, uint64_t bytes)
{
    while (stream_bytes < bytes) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%llu bytes of %llu came", (unsigned long long)stream_bytes,
                 (unsigned long long)bytes);
        CHECK(ouro_run(t->loop, 1, in_ms(t, 20)) >= 0);
        reap_all(t);
    }
}

/* ret[0]: accepted by the loop, with a stream on it that rests already; ret[1]: the peer. */
static ouro_op *make_stream_over_tcp(struct test *t, int ret[2])
{
    struct sockaddr_in addr;
    ouro_op *op = op_new(t);
    int listener = make_listener(t, &addr);

    ret[1] = connect_to(&addr);
    ouro_prep_accept(op, listener, NULL, NULL, 0);
    ret[0] = (int)do_op(t, op);
    CHECK(ret[0] >= 0);
    stream_bytes = 0;
    CHECK_EQ(ouro_pool_create(t->loop, POOL, BUFFER, &pool), 0);
    record_of(op)->more = stream_took;
    ouro_prep_recv_many(op, ret[0], pool, 0);
    start(t, op);
    CHECK_EQ(send(ret[1], "first", 5, 0), 5);
    await_stream(t, 5);
    return op;
}

static void end_stream(struct test *t, int fd, int peer)
{
    if (peer >= 0)
        close(peer);
    close_fifo(t, fd);
    CHECK_EQ(ouro_pool_destroy(pool), 0);
    finish_watching(t);
}

static void a_stream_asks_once_for_what_came(struct test *t)
{
    ouro_op *op;
    int fds[2];

    watch_calls(t, OURO_FOREVER);
    ouro__sys.recv = counted_recv;
    op = make_stream_over_tcp(t, fds);
    recv_calls = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        CHECK_EQ(send(fds[1], "twelve bytes", 12, 0), 12);
        await_stream(t, 5 + 12 * i);
    }
    if (by_epoll(t))
        CHECK(recv_calls <= 102);
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    CHECK_EQ(finish(t, op), 0);
    end_stream(t, fds[0], fds[1]);
}

/* ---- Many streams that bring much ----------------------------------------------------------- */

enum { LOUD = 16, SHOUT = 16 * 1024 };

/* Their bytes are handed over in parts, so that who sends them on finds them in the caches; and a
 * host is told that there are more. */
static void what_a_turn_leaves_is_told_to_the_host(struct test *t)
{
    static char shout[SHOUT];
    ouro_op *streams[LOUD], *op = op_new(t);
    int fds[LOUD], peers[LOUD], listener;
    struct sockaddr_in addr;
    uint64_t most = 0;

    listener = make_listener(t, &addr);
    stream_bytes = 0;
    CHECK_EQ(ouro_pool_create(t->loop, LOUD, 2 * SHOUT, &pool), 0);
    for (int i = 0; i < LOUD; i++) {
        peers[i] = connect_to(&addr);
        ouro_prep_accept(op, listener, NULL, NULL, 0);
        CHECK((fds[i] = (int)do_op(t, op)) >= 0);
        streams[i] = op_new(t);
        record_of(streams[i])->more = stream_took;
        ouro_prep_recv_many(streams[i], fds[i], pool, 0);
        start(t, streams[i]);
    }
    let_rest(t);
    for (int i = 0; i < LOUD; i++)
        CHECK_EQ(send(peers[i], shout, SHOUT, 0), SHOUT);
    while (stream_bytes < (uint64_t)LOUD * SHOUT) {
        struct pollfd host = { .fd = ouro_pollfd(t->loop), .events = POLLIN };
        uint64_t before = stream_bytes;

        CHECK(host.fd >= 0);
        if (poll(&host, 1, ouro_timeout_ms(t->loop)) == 0)
            CHECK(ouro_now(t->loop) < t->limit);
        CHECK(ouro_dispatch(t->loop, 0) >= 0);
        reap_all(t);
        most = stream_bytes - before > most ? stream_bytes - before : most;
    }
    if (by_epoll(t))
        CHECK(most < (uint64_t)LOUD * SHOUT / 2);
    for (int i = 0; i < LOUD; i++) {
        close(peers[i]);
        CHECK_EQ(finish(t, streams[i]), 0);
        close_fifo(t, fds[i]);
    }
    CHECK_EQ(ouro_pool_destroy(pool), 0);
}

/* The last bytes and the end of the input come together: one edge. */
static void the_end_behind_the_last_bytes_is_seen(struct test *t)
{
    ouro_op *op;
    int fds[2];

    watch_calls(t, OURO_FOREVER);
    op = make_stream_over_tcp(t, fds);
    let_pass(t);
    CHECK_EQ(send(fds[1], "last", 4, MSG_MORE), 4);
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    await_stream(t, 9);
    CHECK_EQ(finish(t, op), 0);
    end_stream(t, fds[0], fds[1]);
}

/* A receive stops in front of an urgent byte, whatever lies behind it. */
static void bytes_behind_an_urgent_one_are_received(struct test *t)
{
    ouro_op *op;
    int fds[2];

    watch_calls(t, OURO_FOREVER);
    op = make_stream_over_tcp(t, fds);
    for (uint64_t i = 1; i <= 20; i++) {
        let_pass(t);
        CHECK_EQ(send(fds[1], "before", 6, MSG_MORE), 6);
        CHECK_EQ(send(fds[1], "!", 1, MSG_OOB), 1);
        CHECK_EQ(send(fds[1], "behind", 6, 0), 6);
        await_stream(t, 5 + 12 * i);
    }
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    CHECK_EQ(finish(t, op), 0);
    end_stream(t, fds[0], fds[1]);
}

/* That the peer has ended his half is no news again and again to who waits for room to send. */
static void a_send_to_a_half_closed_peer_does_not_spin(struct test *t)
{
    static char bytes[8 << 20];
    ouro_op *op, *out = op_new(t), *timer = op_new(t);
    ouro_counters before, after;
    int fds[2];
    size_t got = 0;

    watch_calls(t, OURO_FOREVER);
    op = make_stream_over_tcp(t, fds);
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    CHECK_EQ(finish(t, op), 0);
    ouro_prep_send(out, fds[0], bytes, sizeof(bytes), 0);
    out->flags = OURO_EXACT;
    start(t, out);
    let_pass(t);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof before), 0);
    ouro_prep_timer(timer, in_ms(t, 100));
    CHECK_EQ(do_op(t, timer), 0);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof after), 0);
    CHECK(after.retried - before.retried < 20);
    while (got < sizeof(bytes)) {
        ssize_t r = recv(fds[1], bytes, sizeof(bytes), MSG_DONTWAIT);
        got += r > 0 ? (size_t)r : 0;
        step(t);
        reap_all(t);
    }
    CHECK_EQ(finish(t, out), sizeof(bytes));
    end_stream(t, fds[0], fds[1]);
}

/* ---- Numbers that change hands ------------------------------------------------------------- */

static uint64_t disturbances(struct test *t)
{
    ouro_counters counters;

    CHECK_EQ(ouro_get_counters(t->loop, &counters, sizeof counters), 0);
    return counters.retried + counters.stale;
}

/* A copy keeps the old file alive, whose events must end nothing and wake nobody. */
static void a_closed_file_that_lives_on_is_heard_no_more(struct test *t)
{
    ouro_op *op = op_new(t);
    uint64_t before;
    char byte;
    int fd, copy;

    watch_calls(t, OURO_FOREVER);
    fd = open_fifo(t, "a");
    exchange(t, op, fd, fd);
    copy = made(t, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    close_fifo(t, fd);
    CHECK_EQ(open_fifo(t, "b"), fd); /* the lowest number that is free */
    ouro_prep_read(op, fd, &byte, 1, 0);
    start(t, op);
    let_pass(t);
    before = disturbances(t);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(write(copy, "a", 1), 1);
        let_pass(t);
    }
    CHECK(!is_final(op));
    CHECK_EQ(disturbances(t), before);
    CHECK_EQ(write(fd, "b", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(byte, 'b');
    close_fifo(t, fd);
    finish_watching(t);
}

/* The same with descriptors that the program opens and closes by itself. The old file's event may
 * be seen once more, but is no attempt of anybody's. */
static void an_old_event_is_not_for_who_waits_under_its_number(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_counters before, after;
    char byte;
    int old[2], new[2], copy;

    make_socketpair(t, old);
    make_socketpair(t, new);
    ouro_prep_read(op, old[0], &byte, 1, 0);
    start(t, op);
    let_pass(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
    copy = made(t, fcntl(old[0], F_DUPFD_CLOEXEC, 0));
    CHECK_EQ(dup3(new[0], old[0], O_CLOEXEC), old[0]);
    ouro_prep_read(op, old[0], &byte, 1, 0);
    start(t, op);
    let_pass(t);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof before), 0);
    CHECK_EQ(write(old[1], "a", 1), 1);
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof after), 0);
    CHECK_EQ(after.retried, before.retried);
    CHECK(readable(copy, 0)); /* and nobody took its byte */
    CHECK_EQ(write(new[1], "b", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(byte, 'b');
}

/* Who waited for the file that had the number before cannot be told what happens to it. */
static void who_waits_for_a_file_that_is_gone_gets_nothing_of_the_next(struct test *t)
{
    const char *engine = ouro_engine_name(t->loop);
    ouro_op *first = op_new(t), *second = op_new(t);
    char bytes[2] = "--";
    int old[2], new[2];

    make_socketpair(t, old);
    make_socketpair(t, new);
    made(t, fcntl(old[0], F_DUPFD_CLOEXEC, 0));
    ouro_prep_read(first, old[0], &bytes[0], 1, 0);
    start(t, first);
    let_pass(t);
    CHECK_EQ(dup3(new[0], old[0], O_CLOEXEC), old[0]);
    ouro_prep_read(second, old[0], &bytes[1], 1, 0);
    start(t, second);
    let_pass(t);
    if (strcmp(engine, "threads") == 0 || strcmp(engine, "posixaio") == 0) {
        /* poll(2) knows numbers alone */
        CHECK_EQ(write(new[1], "xy", 2), 2);
    } else {
        CHECK_EQ(write(new[1], "b", 1), 1);
        CHECK_EQ(finish(t, second), 1);
        CHECK_EQ(bytes[1], 'b');
        if (by_epoll(t))
            CHECK_EQ(finish(t, first), -EBADF);
        else
            CHECK_EQ(write(old[1], "a", 1), 1); /* the kernel holds the file */
    }
    finish_all(t);
    CHECK(bytes[0] != 'b');
}

/* Both directions of one descriptor that the program has opened: who is not served by the first
 * event needs another one. */
static void who_is_not_served_yet_still_waits(struct test *t)
{
    static char bytes[1 << 16];
    ouro_op *in = op_new(t), *out = op_new(t);
    long full = 0;
    int fds[2];

    make_socketpair(t, fds);
    for (int i = 0; i < 5; i++) {
        while (send(fds[0], bytes, 1000, MSG_DONTWAIT) > 0)
            full += 1000;
        ouro_prep_write(out, fds[0], "x", 1, 0);
        ouro_prep_read(in, fds[0], bytes, 1, 0);
        start(t, i % 2 ? out : in);
        start(t, i % 2 ? in : out);
        let_pass(t);
        CHECK_EQ(write(fds[1], "y", 1), 1);
        CHECK_EQ(finish(t, in), 1);
        let_pass(t);
        CHECK(!is_final(out));
        for (; full > 0; full -= 1000)
            CHECK_EQ(recv(fds[1], bytes, 1000, MSG_WAITALL), 1000);
        CHECK_EQ(finish(t, out), 1);
        CHECK_EQ(read(fds[1], bytes, 1), 1);
    }
}

/* ---- Limits -------------------------------------------------------------------------------- */

static _Atomic int ctl_error;

static long refused_ctl(int epoll, int code, int fd, unsigned events, uint64_t word)
{
    return ctl_error ? ctl_error : real.epoll_ctl(epoll, code, fd, events, word);
}

static void wait_in_all_ways(struct test *t, int fd)
{
    ouro_op *op = op_new(t), *poll_op = op_new(t), *canceled = op_new(t), *late = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    exchange(t, op, fds[0], fds[1]);
    exchange(t, op, fd, fd);
    ouro_prep_read(canceled, fd, &byte, 1, 0);
    start(t, canceled);
    ouro_prep_read(late, fds[0], &byte, 1, 0);
    late->deadline = in_ms(t, 20);
    CHECK_EQ(do_op(t, late), -ETIMEDOUT);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(canceled)), 0);
    finish_canceled(t, canceled);
    ouro_prep_poll(poll_op, fds[0], 1);
    start(t, poll_op);
    let_pass(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, poll_op), 1);
}

/* What comes is told to one of those who wait for it, and to the next one if something is left. */
static void many_read(struct test *t, int from, int to)
{
    enum { COUNT = 100 };
    static char bytes[COUNT];
    ouro_op *ops[COUNT];
    ouro_counters before, after;

    for (int i = 0; i < COUNT; i++) {
        ouro_prep_read(ops[i] = op_new(t), from, &bytes[i], 1, 0);
        start(t, ops[i]);
    }
    let_pass(t);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof before), 0);
    for (int i = 0; i < COUNT / 2; i++) {
        CHECK_EQ(write(to, "a", 1), 1);
        let_pass(t);
    }
    for (int i = 0; i < COUNT / 2; i++)
        CHECK_EQ(write(to, "b", 1), 1);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(finish(t, ops[i]), 1);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof after), 0);
    CHECK_EQ(after.pooled, before.pooled);
    CHECK(after.retried - before.retried <= 5 * COUNT);
}

/* A poll sees what the receive behind it then takes; and neither has a sender try. */
static void who_only_looks_takes_nothing(struct test *t)
{
    static char bytes[1 << 16];
    ouro_op *in = op_new(t), *look = op_new(t), *out = op_new(t);
    ouro_counters before, after;
    long full = 0;
    int fds[2];

    make_socketpair(t, fds);
    while (send(fds[0], bytes, 1000, MSG_DONTWAIT) > 0)
        full += 1000;
    ouro_prep_send(out, fds[0], "x", 1, 0);
    start(t, out);
    for (int i = 0; i < 20; i++) {
        ouro_prep_poll(look, fds[0], POLLIN);
        start(t, look);
        let_pass(t);
        ouro_prep_recv(in, fds[0], bytes, 1, 0);
        start(t, in);
        let_pass(t);
        CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof before), 0);
        CHECK_EQ(write(fds[1], "y", 1), 1);
        CHECK_EQ(finish(t, in), 1);
        CHECK_EQ(finish(t, look), POLLIN);
        CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof after), 0);
        CHECK_EQ(after.pooled, before.pooled);
    }
    for (; full > 0; full -= 1000)
        CHECK_EQ(recv(fds[1], bytes, 1000, MSG_WAITALL), 1000);
    CHECK_EQ(finish(t, out), 1);
}

static void one_of_many_is_woken(struct test *t)
{
    int fds[2];

    make_socketpair(t, fds);
    many_read(t, fds[0], fds[1]);
}

static void one_of_many_is_woken_of_a_file_of_ours(struct test *t)
{
    int fd;

    watch_calls(t, OURO_FOREVER);
    fd = open_fifo(t, "a");
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0); /* or workers would read */
    many_read(t, fd, fd);
    close_fifo(t, fd);
    finish_watching(t);
}

static void where_no_more_can_be_watched_workers_wait(struct test *t)
{
    static const int errors[] = { -ENOSPC, -ENOMEM };
    ouro_op *held = op_new(t);
    char byte;
    int fd, fds[2];

    real = ouro__sys;
    ouro__sys.epoll_ctl = refused_ctl;
    open_loop(t);
    fd = open_fifo(t, "f");
    make_pipe(t, fds);
    for (unsigned i = 0; i < 2; i++) {
        ouro_prep_read(held, fds[0], &byte, 1, 0); /* waits since before */
        start(t, held);
        let_pass(t);
        ctl_error = errors[i];
        wait_in_all_ways(t, fd);
        ctl_error = 0;
        wait_in_all_ways(t, fd);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK_EQ(finish(t, held), 1);
    }
    close_fifo(t, fd);
    close_loop(t);
    ouro__sys = real;
}

/* Linux before 5.11, or an old filter. */
static void deadlines_need_no_young_system_call(struct test *t)
{
    static const long pwait2 = 441;
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 20; i++) {
        ouro_time before = ouro_now(t->loop), at = before + 3 * OURO_MS / 2;
        ouro_counters sleeps, more;

        if (i == 10)
            block_calls(&pwait2, 1, i % 2 ? EPERM : ENOSYS);
        CHECK_EQ(ouro_get_counters(t->loop, &sleeps, sizeof sleeps), 0);
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        op->deadline = at;
        CHECK_EQ(do_op(t, op), -ETIMEDOUT);
        CHECK(ouro_now(t->loop) >= at);
        CHECK_EQ(ouro_get_counters(t->loop, &more, sizeof more), 0);
        CHECK(more.waits - sleeps.waits < 10); /* it slept */
    }
}

enum { NUMBERS = 64 };

static void note_open(bool ret[NUMBERS])
{
    for (int fd = 0; fd < NUMBERS; fd++)
        ret[fd] = fcntl(fd, F_GETFD) >= 0;
}

static void close_others(const bool before[NUMBERS])
{
    for (int fd = 0; fd < NUMBERS; fd++)
        if (!before[fd])
            close(fd);
}

/* The program has closed the loop's descriptors: what they had registered counts no more. */
static void what_was_registered_is_so_again(struct test *t)
{
    static char bytes[1 << 16];
    ouro_op *op = op_new(t), *in = op_new(t);
    bool before[NUMBERS];
    int fd, fds[2];

    make_socketpair(t, fds);
    note_open(before);
    watch_calls(t, OURO_FOREVER);
    fd = open_fifo(t, "f");
    before[fd] = true;
    exchange(t, op, fd, fd);
    close_others(before);
    exchange(t, op, fd, fd);
    ouro_prep_poll(in, fds[0], POLLIN);
    start(t, in);
    step(t);
    close_others(before);
    while (send(fds[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    ouro_prep_poll(op, fds[0], POLLOUT);
    start(t, op);
    let_pass(t);
    CHECK(!is_final(op));
    while (recv(fds[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    CHECK(finish(t, op) & POLLOUT);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(finish(t, in) & POLLIN || CFLAGS(in) & OURO_C_LOST);
    ouro_prep_read(op, fd, bytes, 1, 0);
    op->deadline = in_ms(t, 10);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    close_fifo(t, fd);
    finish_watching(t);
}

/* The same, and it may have no others. */
static void waiting_goes_on_without_any_descriptor(struct test *t)
{
    struct rlimit limit, none;
    ouro_op *op = op_new(t), *held = op_new(t);
    char bytes[2];
    bool before[NUMBERS];
    int fds[2], others[2];

    if (strcmp(t->engine ? t->engine : "", "uring") == 0)
        return; /* a lost ring is replaced once there is a descriptor */
    make_pipe(t, fds);
    make_pipe(t, others);
    note_open(before);
    open_loop(t);
    ouro_prep_read(held, others[0], &bytes[0], 1, 0);
    start(t, held);
    step(t);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){ (rlim_t)others[1] + 1, limit.rlim_max };
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    close_others(before);
    ouro_prep_timer(op, in_ms(t, 20));
    CHECK_EQ(do_op(t, op), 0);
    exchange(t, op, fds[0], fds[1]);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(write(others[1], "x", 1), 1);
    CHECK_EQ(finish(t, held), 1);
    exchange(t, op, fds[0], fds[1]);
    close_loop(t);
}

/* ---- Many ---------------------------------------------------------------------------------- */

static void a_thousand_pipes_are_read_as_they_fill(struct test *t)
{
    enum { COUNT = 1000 };
    static ouro_op *ops[COUNT];
    static char bytes[COUNT];
    static int fds[COUNT][2];

    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(pipe2(fds[i], O_CLOEXEC), 0);
        ops[i] = op_new(t);
    }
    for (int round = 0; round < 3; round++) {
        memset(bytes, 0, sizeof bytes);
        for (int i = 0; i < COUNT; i++)
            ouro_prep_read(ops[i], fds[i][0], &bytes[i], 1, 0);
        CHECK_EQ(start_n(t, ops, COUNT), COUNT);
        step(t);
        for (int i = 0; i < COUNT; i++) {
            int at = (i * 7 + round) % COUNT;
            char byte = (char)(at % 100 + 1);

            CHECK_EQ(write(fds[at][1], &byte, 1), 1);
            if (i % 100 == 99) /* also while others still wait */
                step(t);
        }
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(finish(t, ops[i]), 1);
            CHECK_EQ(bytes[i], i % 100 + 1);
        }
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(close(fds[i][0]) == 0 && close(fds[i][1]) == 0);
}

/* ---- Hosting ------------------------------------------------------------------------------- */

/* What nobody waits for any more is no reason to call the loop again and again. */
static void events_for_nobody_keep_no_host_awake(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd, host, looks;

    watch_calls(t, OURO_FOREVER);
    host = ouro_pollfd(t->loop);
    CHECK(host >= 0);
    fd = open_fifo(t, "f");
    exchange(t, op, fd, fd);
    CHECK_EQ(write(fd, "x", 1), 1);
    for (looks = 0; looks < 20 && (ouro_timeout_ms(t->loop) == 0 || readable(host, 0)); looks++)
        CHECK(ouro_dispatch(t->loop, 0) >= 0);
    CHECK(looks < 20);
    ouro_prep_poll(op, fd, 1);
    CHECK_EQ(do_op(t, op), 1);
    close_fifo(t, fd);
    finish_watching(t);
}

#define ALONE .fixed = FIX_STYLE | FIX_FD | FIX_MASK, .no_loop = true
#define ALL_STYLES .fixed = FIX_FD | FIX_MASK
static const struct test_case cases[] = {
    { NAMED(what_the_loop_opened_waits_without_calls), ALL_STYLES, .no_loop = true },
    { NAMED(an_edge_between_an_attempt_and_its_waiting_is_not_lost), ALL_STYLES, .no_loop = true },
    { NAMED(a_number_taken_from_the_loop_is_noticed), ALL_STYLES, .no_loop = true,
      .pitfalls = "F3" },
    { NAMED(long_waits_cost_little), ALONE },
    { NAMED(a_stream_asks_once_for_what_came), .fixed = FIX_FD, .no_loop = true },
    { NAMED(what_a_turn_leaves_is_told_to_the_host), ALL_STYLES, .needs = NEED_DRIVER },
    { NAMED(the_end_behind_the_last_bytes_is_seen), ALL_STYLES, .no_loop = true },
    { NAMED(bytes_behind_an_urgent_one_are_received), ALL_STYLES, .no_loop = true },
    { NAMED(a_send_to_a_half_closed_peer_does_not_spin), ALL_STYLES, .no_loop = true },
    { NAMED(a_closed_file_that_lives_on_is_heard_no_more), ALL_STYLES, .no_loop = true,
      .pitfalls = "F1" },
    { NAMED(an_old_event_is_not_for_who_waits_under_its_number), ALL_STYLES, .pitfalls = "F1 F3" },
    { NAMED(who_waits_for_a_file_that_is_gone_gets_nothing_of_the_next), ALL_STYLES,
      .pitfalls = "F3" },
    { NAMED(who_is_not_served_yet_still_waits), ALL_STYLES },
    { NAMED(who_only_looks_takes_nothing), ALL_STYLES },
    { NAMED(one_of_many_is_woken), ALL_STYLES },
    { NAMED(one_of_many_is_woken_of_a_file_of_ours), ALL_STYLES, .no_loop = true },
    { NAMED(where_no_more_can_be_watched_workers_wait), ALL_STYLES, .no_loop = true },
    { NAMED(deadlines_need_no_young_system_call), .fixed = FIX_FD | FIX_MASK, .heavy = true },
    { NAMED(what_was_registered_is_so_again), ALONE, .needs = NEED_DRIVER },
    { NAMED(waiting_goes_on_without_any_descriptor), ALONE, .needs = NEED_DRIVER },
    { NAMED(a_thousand_pipes_are_read_as_they_fill), .fixed = FIX_FD, .heavy = true,
      .seconds = 20 },
    { NAMED(events_for_nobody_keep_no_host_awake), ALONE, .needs = NEED_DRIVER },
    { .name = NULL },
};
const struct subject subject_ready = { "ready", cases };

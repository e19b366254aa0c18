/* SPDX-License-Identifier: MIT */
/* t_trouble.c: what the system and the program itself do to a server: signals, calls that fail for
 * a moment, kernels that know little, cancels, forks and kills. Nothing may be lost or leaked. */
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "serving.h"
#include "sys.h"

/* ---- Interruptions --------------------------------------------------------------------------- */

static void on_alarm(int signo)
{
    (void)signo;
}

static void storm(bool on)
{
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval every = { { 0, on ? 300 : 0 }, { 0, on ? 300 : 0 } };

    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
}

static void exchange_a_while(void)
{
    for (int i = 0; i < 10; i++)
        steady_go_on();
}

static void a_storm_of_signals_loses_no_byte(struct test *t)
{
    serve(t, 16);
    with_peers(t, steady_begin);
    storm(true);
    with_peers(t, exchange_a_while);
    storm(false);
    with_peers(t, steady_end);
    stop(t);
    CHECK_EQ(server.broken, 0);
}

/* Every fourth call fails as it may at any time. */
static struct ouro__sys real;
static atomic_uint calls, failures;

static long fails(void)
{
    failures++;
    return -EINTR;
}

static bool is_due(void)
{
    return ++calls % 4 == 0;
}

static long flaky_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                        size_t size)
{
    static const int errors[] = { EINTR, EAGAIN, EBUSY };

    if (is_due())
        return -errors[failures++ % 3];
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static long flaky_epoll_wait(int epoll, struct epoll_event *ret, unsigned room, ouro_time until)
{
    return is_due() ? fails() : real.epoll_wait(epoll, ret, room, until);
}

static long flaky_ppoll(struct pollfd *fds, unsigned count, ouro_time until)
{
    return is_due() ? fails() : real.ppoll(fds, count, until);
}

static long flaky_recv(int fd, void *buf, size_t len, int flags)
{
    return is_due() ? fails() : real.recv(fd, buf, len, flags);
}

static long flaky_send(int fd, const void *buf, size_t len, int flags)
{
    return is_due() ? fails() : real.send(fd, buf, len, flags);
}

static long flaky_accept(int fd, void *ret_addr, unsigned *ret_size, int flags)
{
    static const int errors[] = { EINTR, ECONNABORTED, EMFILE, ENOBUFS, ENOMEM };

    if (is_due())
        return -errors[failures++ % 5];
    return real.accept4(fd, ret_addr, ret_size, flags);
}

static void passing_errors_lose_no_byte(struct test *t)
{
    real = ouro__sys;
    ouro__sys.io_uring_enter = flaky_enter;
    ouro__sys.epoll_wait = flaky_epoll_wait;
    ouro__sys.ppoll = flaky_ppoll;
    ouro__sys.recv = flaky_recv;
    ouro__sys.send = flaky_send;
    ouro__sys.accept4 = flaky_accept;
    open_loop(t);
    serve(t, 16);
    with_peers(t, steady_begin);
    with_peers(t, exchange_a_while);
    with_peers(t, steady_end);
    stop(t);
    close_loop(t);
    ouro__sys = real;
    CHECK(failures > 10);
    CHECK_EQ(server.broken, 0);
}

/* ---- Old kernels ----------------------------------------------------------------------------- */

static unsigned newest; /* the last request that the ring is said to know */

/* The answer of IORING_REGISTER_PROBE (8): a head of 16 bytes, then 8 for each request, of which
 * the flags (bytes 2, 3) say that it is known. */
static long old_register(int fd, unsigned code, const void *arg, unsigned count)
{
    long r = real.io_uring_register(fd, code, arg, count);
    unsigned char *answer = (unsigned char *)(uintptr_t)arg;

    for (unsigned i = newest + 1; code == 8 && r >= 0 && i < count; i++)
        answer[16 + 8 * i + 2] = 0;
    return r;
}

/* A ring that knows files and readiness only, and one of Linux 5.15. */
static void an_old_ring_serves_all_the_same(struct test *t)
{
    real = ouro__sys;
    ouro__sys.io_uring_register = old_register;
    for (int i = 0; i < 2; i++) {
        newest = i ? 39 : 14; /* LINKAT; ASYNC_CANCEL */
        open_loop(t);
        serve(t, 16);
        with_peers(t, steady_begin);
        with_peers(t, exchange_a_while);
        with_peers(t, steady_end);
        stop(t);
        close_loop(t);
    }
    ouro__sys = real;
    CHECK_EQ(server.broken, 0);
}

/* ---- Cancels, forks, ends -------------------------------------------------------------------- */

static struct {
    unsigned char bytes[4000];
    size_t size;
} taken;

static void take(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    memcpy(taken.bytes + taken.size, data, (size_t)res);
    taken.size += (size_t)res;
    CHECK_EQ(ouro_pool_release(server.pool, data), 0);
}

/* What came before its end is delivered, what comes after stays in the socket. */
static void a_stream_that_is_cancelled_takes_nothing_with_it(struct test *t)
{
    unsigned char data[1000];
    ouro_op *op = op_of(t, NULL);
    int fds[2];

    fill(data, sizeof(data), 5);
    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, 64, &server.pool), 0);
    record_of(op)->more = take;
    for (unsigned round = 0; round < 60; round++) {
        ssize_t r;

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        taken.size = 0;
        ouro_prep_recv_many(op, fds[0], server.pool, 0);
        start(t, op);
        for (unsigned i = 0; i < 10; i++) {
            CHECK_EQ(send(fds[1], data + (size_t)i * 100, 100, 0), 100);
            if (i < round % 11 && round % 2)
                step(t);
            if (i == round % 10)
                CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        }
        finish_canceled(t, op);
        while (r = recv(fds[0], taken.bytes + taken.size, 1000, MSG_DONTWAIT), r > 0)
            taken.size += (size_t)r;
        CHECK_EQ(taken.size, sizeof(data));
        CHECK(memcmp(taken.bytes, data, sizeof(data)) == 0);
        close(fds[0]);
        close(fds[1]);
    }
    CHECK_EQ(ouro_pool_destroy(server.pool), 0);
}

static void fork_and_spawn(void)
{
    char *const words[] = { (char *)(uintptr_t) "true", NULL };

    for (int i = 0; i < 10; i++) {
        pid_t child = -1;

        steady_go_on();
        if (i % 2)
            CHECK_EQ(posix_spawnp(&child, "true", NULL, NULL, words, environ), 0);
        else
            child = fork();
        if (child == 0)
            _exit(0);
        steady_go_on();
        CHECK_EQ(waitpid(child, NULL, 0), child);
    }
}

static void children_disturb_no_connection(struct test *t)
{
    serve(t, 16);
    with_peers(t, steady_begin);
    with_peers(t, fork_and_spawn);
    with_peers(t, steady_end);
    stop(t);
    CHECK_EQ(server.broken, 0);
}

/* A server that is killed while it accepts, receives, and waits for room. */
static pid_t doomed_server(struct test *t)
{
    int ready[2];
    pid_t child;

    CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
    child = fork();
    if (child == 0) {
        open_loop(t);
        serve(t, 16);
        CHECK_EQ(write(ready[1], &server.addr, sizeof(server.addr)), sizeof(server.addr));
        for (;;)
            turn(t, 100);
    }
    close(ready[1]);
    CHECK_EQ(read(ready[0], &server.addr, sizeof(server.addr)), sizeof(server.addr));
    close(ready[0]);
    return child;
}

static void a_killed_server_lets_go_of_all(struct test *t)
{
    struct pollfd ended[STEADY + SLOW];
    pid_t child = doomed_server(t);
    const int one = 1;
    int r = -1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    steady_begin();
    fill_windows();
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    for (int i = 0; i < STEADY + SLOW; i++) {
        ended[i] = (struct pollfd){ .fd = i < STEADY ? steady[i] : slow[i - STEADY].fd,
                                    .events = POLLRDHUP };
        CHECK_EQ(poll(&ended[i], 1, (int)seconds_scaled(2000)), 1);
        close(ended[i].fd);
    }
    CHECK_EQ(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    for (int i = 0; i < 200 && r < 0; i++, usleep(10000))
        r = bind(listener, (struct sockaddr *)&server.addr, sizeof(server.addr));
    CHECK_EQ(r, 0);
    close(listener);
}

#define SERVES .fixed = FIX_STYLE | FIX_FD, .heavy = true, .seconds = 20
static const struct test_case cases[] = {
    { NAMED(a_storm_of_signals_loses_no_byte), SERVES, .faults = "2 11" },
    { NAMED(passing_errors_lose_no_byte), SERVES, .no_loop = true, .faults = "2 3" },
    { NAMED(an_old_ring_serves_all_the_same), SERVES, .no_loop = true, .faults = "13" },
    { NAMED(a_stream_that_is_cancelled_takes_nothing_with_it), SERVES, .faults = "9" },
    { NAMED(children_disturb_no_connection), SERVES, .faults = "10" },
    { NAMED(a_killed_server_lets_go_of_all), SERVES, .no_loop = true, .faults = "12" },
    { 0 },
};

const struct subject subject_trouble = { "trouble", cases };

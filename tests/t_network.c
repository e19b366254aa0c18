/* SPDX-License-Identifier: MIT */
/* t_network.c: what peers and networks do to a server: resets, silence, floods, links that flap.
 * Nothing may be lost or leaked, and who has nothing to do must not turn. */
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "serving.h"

/* ---- Resets, half ends, silence -------------------------------------------------------------- */

enum { RESETS = 120 };

static void storm_of_resets(void)
{
    static char data[65536];

    for (int i = 0; i < RESETS; i++) {
        int fd = connected();

        if (i % 5 == 1)
            send_all(fd, data, 10);
        if (i % 5 == 2)
            send_all(fd, data, sizeof(data)); /* and reads nothing */
        if (i % 5 == 3)
            exchange(fd, 5000);
        if (i % 5 == 4)
            CHECK_EQ(shutdown(fd, SHUT_WR), 0);
        reset(fd);
        if (i % 10 == 0)
            steady_go_on();
    }
}

/* Whatever state a connection is in when its peer resets it, it ends, and no other one does. */
static void resets_end_their_own_connections_alone(struct test *t)
{
    long fds;

    serve(t, 512);
    with_peers(t, steady_begin);
    await_open(t, STEADY);
    fds = count_fds();
    with_peers(t, storm_of_resets);
    await_open(t, STEADY);
    CHECK(server.accepted > STEADY + RESETS / 2); /* the kernel may drop what was reset at once */
    while (count_fds() > fds + 1) {               /* an engine may have made a timer */
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%ld descriptors are open, %ld were", count_fds(), fds);
        turn(t, 1); /* some may have been accepted, and not served, yet */
    }
    check_rest(t);
    with_peers(t, steady_end);
    stop(t);
}

static void half_ends(void)
{
    static char data[65536], got[65536];

    fill(data, sizeof(data), 9);
    for (int i = 0; i < 20; i++) {
        int fd = connected();
        char byte;

        send_all(fd, data, sizeof(data));
        CHECK_EQ(shutdown(fd, SHUT_WR), 0);
        usleep(i % 2 * 2000);
        receive_all(fd, got, sizeof(got));
        check_filled(got, sizeof(got), 9);
        CHECK_EQ(recv(fd, &byte, 1, 0), 0);
        close(fd);
    }
}

static void who_ends_his_half_gets_all_that_he_is_owed(struct test *t)
{
    serve(t, 16);
    with_peers(t, half_ends);
    stop(t);
    CHECK_EQ(server.broken, 0);
}

/* Both sides close at once, some with bytes that nobody has read. */
static void simultaneous_closes_end_both_sides(struct test *t)
{
    enum { PAIRS = 10 };
    static char bytes[2 * PAIRS];
    ouro_op *in[2 * PAIRS], *out[2 * PAIRS];
    int fds[2 * PAIRS], listener;
    struct sockaddr_in addr = { .sin_family = AF_INET };
    socklen_t size = sizeof(addr);
    long count;

    listener = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(listener, (struct sockaddr *)&addr, size), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&addr, &size), 0);
    CHECK_EQ(listen(listener, PAIRS), 0);
    count = count_fds();
    for (int i = 0; i < 2 * PAIRS; i += 2) {
        fds[i] = peer_socket();
        CHECK_EQ(connect(fds[i], (struct sockaddr *)&addr, size), 0);
        fds[i + 1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        CHECK(fds[i + 1] >= 0);
    }
    for (int i = 0; i < 2 * PAIRS; i++) {
        ouro_prep_recv(in[i] = op_new(t), fds[i], &bytes[i], 1, 0);
        if (i % 3)
            start(t, in[i]);
        ouro_prep_close(out[i] = op_new(t), fds[i]);
    }
    step(t);
    for (int i = 0; i < 2 * PAIRS; i += 4)
        CHECK_EQ(send(fds[i], "abc", 3, MSG_NOSIGNAL), 3);
    CHECK_EQ(start_n(t, out, 2 * PAIRS), 2 * PAIRS);
    finish_all(t);
    for (int i = 0; i < 2 * PAIRS; i++) {
        CHECK_EQ(RES(out[i]), 0);
        CHECK(i % 3 == 0 || RES(in[i]) == -ECANCELED || RES(in[i]) == -ECONNRESET ||
              (RES(in[i]) >= 0 && RES(in[i]) <= 1));
    }
    CHECK_EQ(count_fds(), count);
}

static void read_in_small_pieces(void)
{
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < SLOW; i++) {
            static unsigned char piece[20000];
            ssize_t r;

            if (slow[i].got == slow[i].sent)
                continue;
            r = recv(slow[i].fd, piece, i < 2 ? 1000 : sizeof(piece), 0);
            CHECK(r > 0);
            for (ssize_t k = 0; k < r; k++)
                CHECK_EQ(piece[k], slow[i].got++ % 251);
            more = true;
        }
    }
    for (int i = 0; i < SLOW; i++)
        say_goodbye(slow[i].fd);
}

static void slow_readers_hold_up_nobody_and_get_every_byte(struct test *t)
{
    serve(t, 16);
    with_peers(t, steady_begin);
    with_peers(t, fill_windows);
    with_peers(t, steady_go_on);
    check_rest(t); /* while their windows are shut */
    with_peers(t, read_in_small_pieces);
    with_peers(t, steady_end);
    stop(t);
    CHECK_EQ(server.broken, 0);
}

/* ---- Floods and limits ----------------------------------------------------------------------- */

enum { FLOOD = 2000, FLOOD_ROOM = 2 * FLOOD + 100, SMALL_FLOOD = 300, LATE = 5 };
static int flood[FLOOD];
static int flooding; /* so many of them */

/* Both ends of a connection are ours, and the rest takes some, too. */
static void make_room_for_the_flood(int count)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    flooding = limit.rlim_max < FLOOD_ROOM ? (int)(limit.rlim_max - 100) / 2 : FLOOD;
    CHECK(flooding > 100);
    flooding = count < flooding ? count : flooding;
}

static void flood_and_leave(void)
{
    for (int i = 0; i < flooding; i++)
        flood[i] = connected();
    for (int i = 0; i < flooding; i++)
        exchange(flood[i], 50);
    steady_go_on();
    for (int i = 0; i < flooding; i++)
        i % 2 ? reset(flood[i]) : (void)close(flood[i]);
}

static void serve_a_flood(struct test *t, int count)
{
    make_room_for_the_flood(count);
    serve(t, count);
    with_peers(t, steady_begin);
    with_peers(t, flood_and_leave);
    await_open(t, STEADY);
    CHECK_EQ(server.accepted, STEADY + flooding);
    with_peers(t, steady_end);
    stop(t);
}

/* poll(2) looks at each of them each time. */
static void a_flood_of_connections_is_served(struct test *t)
{
    const char *name = ouro_engine_name(t->loop);
    bool polls = strcmp(name, "threads") == 0 || strcmp(name, "posixaio") == 0;

    serve_a_flood(t, polls ? SMALL_FLOOD : FLOOD);
}

/* Nobody accepts for a while, and more come than the backlog holds. */
static void flood_the_backlog(void)
{
    for (int i = 0; i < SMALL_FLOOD; i++) {
        flood[i] = peer_socket();
        CHECK_EQ(fcntl(flood[i], F_SETFL, O_NONBLOCK), 0);
        CHECK(connect_to_server(flood[i]) == 0 || errno == EINPROGRESS);
    }
    steady_go_on();
}

static unsigned got_in;

static void leave_the_flood(void)
{
    for (int i = 0; i < SMALL_FLOOD; i++) {
        struct pollfd writable = { .fd = flood[i], .events = POLLOUT };
        bool in = poll(&writable, 1, 0) == 1 && !(writable.revents & POLLERR);

        CHECK_EQ(fcntl(flood[i], F_SETFL, 0), 0);
        if (in && got_in++ % 2)
            exchange(flood[i], 50);
        close(flood[i]);
    }
}

static void come_late(void)
{
    int fd = connected();

    exchange(fd, 50);
    say_goodbye(fd);
}

static void a_flood_beyond_the_backlog_is_got_over(struct test *t)
{
    ouro_time begin;

    serve(t, 8);
    with_peers(t, steady_begin);
    CHECK_EQ(ouro_pause(t->loop, server.door), 0);
    with_peers(t, flood_the_backlog);
    check_rest(t);
    CHECK_EQ(ouro_resume(t->loop, server.door), 0);
    with_peers(t, leave_the_flood);
    CHECK(got_in >= 8 && got_in < SMALL_FLOOD); /* the others were shed */
    begin = ouro_now(t->loop);
    with_peers(t, come_late);
    CHECK(ouro_now(t->loop) - begin < (ouro_time)seconds_scaled(1) * OURO_S);
    await_open(t, STEADY);
    with_peers(t, steady_end);
    stop(t);
}

/* Descriptors that peers have made before there were none left. */
static int late[LATE];

static void knock(void)
{
    for (int i = 0; i < LATE; i++) {
        CHECK_EQ(connect_to_server(late[i]), 0); /* the kernel takes them */
        CHECK_EQ(send(late[i], "x", 1, 0), 1);
    }
    steady_go_on();
}

static void the_first_is_served(void)
{
    char byte;

    receive_all(late[0], &byte, 1);
    exchange(late[0], MESSAGE);
}

static void all_are_served(void)
{
    steady_end();
    for (int i = 0; i < LATE; i++) {
        char byte;

        if (i > 0)
            receive_all(late[i], &byte, 1);
        exchange(late[i], MESSAGE);
    }
}

static void the_late_leave(void)
{
    for (int i = 0; i < LATE; i++)
        say_goodbye(late[i]);
}

/* Two descriptors are left for five who come, or one, if the engine needs the other; when four who
 * were there leave, all have one. The limit is set before an accept starts: the ring's keeps to the
 * one of that time. */
static void without_descriptors_the_served_stay_and_the_others_come_later(struct test *t)
{
    struct rlimit limit, few;
    ouro_time begin;
    int first;

    serve(t, 16);
    with_peers(t, steady_begin);
    for (int i = 0; i < LATE; i++)
        late[i] = peer_socket();
    CHECK_EQ(ouro_pause(t->loop, server.door), 0);
    for (int i = 0; i < 5; i++)
        turn(t, 5);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    first = fcntl(server.listener, F_DUPFD_CLOEXEC, 0);
    close(first);
    few = (struct rlimit){ (rlim_t)first + 2, limit.rlim_max };
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQ(ouro_resume(t->loop, server.door), 0);
    with_peers(t, knock);
    with_peers(t, the_first_is_served);
    CHECK(server.accepted == STEADY + 1 || server.accepted == STEADY + 2);
    check_rest(t);
    with_peers(t, steady_go_on);
    begin = ouro_now(t->loop);
    with_peers(t, all_are_served);
    CHECK(ouro_now(t->loop) - begin < (ouro_time)seconds_scaled(1) * OURO_S);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    with_peers(t, the_late_leave);
    stop(t);
    CHECK_EQ(server.accepted, STEADY + LATE);
}

/* Far more connections and completions than the engine's queues hold. */
static void a_small_engine_serves_many(struct test *t)
{
    close_loop(t);
    t->config.depth = 4;
    open_loop(t);
    serve_a_flood(t, SMALL_FLOOD);
}

/* ---- Links ----------------------------------------------------------------------------------- */

static void link_up(bool up)
{
    struct ifreq request = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    request.ifr_flags = up ? IFF_UP : 0;
    CHECK_EQ(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static atomic_uint rounds;

static void exchange_for_long(void)
{
    for (int i = 0; i < 25; i++, rounds++) {
        steady_go_on();
        usleep(1000);
    }
}

static void own_network(struct test *t)
{
    CHECK(own_namespaces());
    link_up(true);
    open_loop(t);
}

/* While the link is down nothing moves and nobody turns; then all goes on. */
static void a_link_that_flaps_loses_nothing(struct test *t)
{
    ouro_op *op;

    own_network(t);
    op = op_new(t);
    serve(t, 16);
    with_peers(t, steady_begin);
    begin_peers(exchange_for_long);
    for (int i = 0; i < 2; i++) {
        unsigned before = rounds;
        int fd = peer_socket();

        while (rounds < before + 5)
            turn(t, 2);
        link_up(false);
        turn(t, 20);
        before = rounds;
        ouro_prep_connect(op, fd, (struct sockaddr *)&server.addr, sizeof(server.addr));
        op->deadline = in_ms(t, 50);
        CHECK_EQ(do_op(t, op), -ETIMEDOUT);
        CHECK(CFLAGS(op) & OURO_C_TIMEDOUT);
        close(fd);
        check_rest(t);
        CHECK_EQ(rounds, before);
        link_up(true);
    }
    end_peers(t);
    with_peers(t, steady_end);
    stop(t);
    CHECK_EQ(server.broken, 0);
}

/* What the system gives up by itself has an error of the system's, not the flag of a deadline. */
static void a_link_that_stays_down_ends_who_waits(struct test *t)
{
    static char data[1000], byte;
    const unsigned patience_ms = 100;
    ouro_op *in, *out;
    int fd, peer;

    own_network(t);
    in = op_new(t);
    out = op_new(t);
    serve(t, 16);
    CHECK_EQ(ouro_pause(t->loop, server.door), 0);
    let_pass(t);
    fd = made(t, connected());
    CHECK(readable(server.listener, 1000));
    peer = made(t, accept4(server.listener, NULL, NULL, SOCK_CLOEXEC));
    CHECK_EQ(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms)), 0);
    ouro_prep_recv(in, fd, &byte, 1, 0);
    start(t, in);
    let_pass(t);
    link_up(false);
    ouro_prep_send(out, fd, data, sizeof(data), 0);
    CHECK_EQ(do_op(t, out), sizeof(data));
    CHECK(finish(t, in) == -ETIMEDOUT || RES(in) == -EHOSTUNREACH || RES(in) == -ENETUNREACH);
    CHECK(!(CFLAGS(in) & (OURO_C_TIMEDOUT | OURO_C_CANCELED)));
    ouro_prep_send(out, fd, data, sizeof(data), 0);
    CHECK_EQ(do_op(t, out), -EPIPE);
    link_up(true);
    CHECK(!readable(peer, 0)); /* it knows of nothing */
    CHECK_EQ(ouro_resume(t->loop, server.door), 0);
    stop(t);
}

/* ---- Parts ----------------------------------------------------------------------------------- */

/* A send that finds little room says how much went, and that much arrives. */
static void a_short_send_tells_what_went(struct test *t)
{
    enum { BIG = 4 << 20 };
    static char data[BIG], got[BIG];
    ouro_op *op = op_new(t);
    int fds[2];

    fill(data, BIG, 3);
    make_socketpair(t, fds);
    for (int i = 0; i < 3; i++) {
        int64_t res;
        ssize_t r;
        size_t size = 0;

        ouro_prep_send(op, fds[0], data, BIG, 0);
        res = do_op(t, op);
        CHECK(res > 0 && res < BIG);
        while (r = recv(fds[1], got + size, BIG - size, MSG_DONTWAIT), r > 0)
            size += (size_t)r;
        CHECK_EQ(size, res);
        check_filled(got, size, 3);
    }
}

#define SERVES .fixed = FIX_STYLE | FIX_FD, .heavy = true, .seconds = 20
static const struct test_case cases[] = {
    { NAMED(resets_end_their_own_connections_alone), SERVES, .faults = "24" },
    { NAMED(who_ends_his_half_gets_all_that_he_is_owed), SERVES, .faults = "24" },
    { NAMED(simultaneous_closes_end_both_sides), .fixed = FIX_FD, .heavy = true, .faults = "24" },
    { NAMED(slow_readers_hold_up_nobody_and_get_every_byte), SERVES, .faults = "24" },
    { NAMED(a_flood_of_connections_is_served), SERVES, .faults = "23" },
    { NAMED(a_flood_beyond_the_backlog_is_got_over), SERVES, .faults = "23" },
    { NAMED(without_descriptors_the_served_stay_and_the_others_come_later), SERVES,
      .faults = "7 23" },
    { NAMED(a_small_engine_serves_many), SERVES, .faults = "8" },
    { NAMED(a_link_that_flaps_loses_nothing), SERVES, .needs = NEED_NAMESPACES, .no_loop = true,
      .faults = "24" },
    { NAMED(a_link_that_stays_down_ends_who_waits), SERVES, .needs = NEED_NAMESPACES,
      .no_loop = true, .faults = "24" },
    { NAMED(a_short_send_tells_what_went), .heavy = true, .faults = "1" },
    { 0 },
};

const struct subject subject_network = { "network", cases };

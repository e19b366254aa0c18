/* SPDX-License-Identifier: MIT */
/* t_edges.c: more corners in which the library was wrong once, about single operations: odd flags,
 * nothing to move, races that are always lost, and what a kernel gives or takes at an edge. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "test.h"

static void cancel_all_of(struct test *t, ouro_op *const *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!is_final(ops[i]))
            CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[i])), 0);
    for (unsigned i = 0; i < count; i++)
        finish(t, ops[i]);
}

/* ---- Nothing to move ----------------------------------------------------------------------- */

static void splicing_nothing_is_zero(struct test *t)
{
    ouro_op *op = op_new(t);
    int from[2], to[2], fd = make_file(t, "f", "abc", 3);

    make_pipe(t, from);
    make_pipe(t, to);
    ouro_prep_splice(op, from[0], OURO_CUR, to[1], OURO_CUR, 0, 0); /* an empty pipe */
    CHECK_EQ(do_op(t, op), plain(splice(from[0], NULL, to[1], NULL, 0, 0)));
    ouro_prep_splice(op, fd, 0, to[1], OURO_CUR, 0, 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_splice(op, from[0], OURO_CUR, fd, 0, 0, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 0);
}

/* How many datagrams lie there. */
static int count_datagrams(int fd)
{
    char byte;
    int count = 0;

    while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0)
        count++;
    return count;
}

static void an_empty_vector_sends_no_datagram(struct test *t)
{
    static char nothing[1];
    struct iovec empty[2] = { { nothing, 0 }, { nothing, 0 } };
    ouro_op *op = op_new(t);
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    made(t, pair[0]);
    made(t, pair[1]);
    for (unsigned count = 0; count <= 2; count++) {
        CHECK_EQ(writev(pair[0], empty, (int)count), 0);
        CHECK_EQ(count_datagrams(pair[1]), 0);
        ouro_prep_writev(op, pair[0], count ? empty : NULL, count, OURO_CUR, 0);
        CHECK_EQ(do_op(t, op), 0);
        CHECK_EQ(count_datagrams(pair[1]), 0);
    }
    /* A write of nothing does send one, as write(2) does. */
    CHECK_EQ(write(pair[0], "", 0), 0);
    CHECK_EQ(count_datagrams(pair[1]), 1);
    ouro_prep_write(op, pair[0], "", 0, OURO_CUR);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(count_datagrams(pair[1]), 1);
}

/* ---- Bytes of streams ---------------------------------------------------------------------- */

static int bytes_in(int fd)
{
    int count = 0;

    CHECK_EQ(ioctl(fd, FIONREAD, &count), 0);
    return count;
}

/* What was taken from the input must have arrived, wherever the copy ends. */
static void copy_to_full_pipe(struct test *t, int64_t offset)
{
    enum { TOTAL = 60000 };
    static char bytes[TOTAL];
    ouro_op *op = op_new(t);
    int from[2], to[2];
    int64_t moved;

    make_pipe(t, from);
    make_pipe(t, to);
    CHECK(fcntl(to[1], F_SETPIPE_SZ, 4096) >= 4096);
    fill(bytes, TOTAL, 6);
    CHECK_EQ(write(from[1], bytes, TOTAL), TOTAL);
    ouro_prep_copy(op, from[0], offset, to[1], OURO_CUR, TOTAL);
    start(t, op);
    while (bytes_in(to[0]) < 4096) {
        step(t);
        usleep(1000);
        CHECK(ouro_now(t->loop) < t->limit);
    }
    let_pass(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    moved = finish(t, op);
    CHECK_EQ(moved, bytes_in(to[0]));
    CHECK_EQ(moved + bytes_in(from[0]), TOTAL);
    CHECK_EQ(read(to[0], bytes, TOTAL), moved);
    check_filled(bytes, (size_t)moved, 6);
}

static void a_copy_between_pipes_loses_nothing(struct test *t)
{
    copy_to_full_pipe(t, OURO_CUR);
    copy_to_full_pipe(t, 0); /* which pipes ignore */
}

static void a_copy_of_a_counter_to_a_full_pipe_leaves_it(struct test *t)
{
    static char page[4096];
    ouro_op *op = op_new(t);
    uint64_t seven = 7, left = 0;
    int counter = made(t, eventfd(0, EFD_CLOEXEC)), to[2];

    make_pipe(t, to);
    CHECK(fcntl(to[1], F_SETPIPE_SZ, 4096) >= 4096);
    CHECK_EQ(write(to[1], page, 4096), 4096);
    CHECK_EQ(write(counter, &seven, 8), 8);
    for (int i = 0; i < 2; i++) {
        ouro_prep_copy(op, counter, i ? 0 : OURO_CUR, to[1], OURO_CUR, 8);
        start(t, op);
        let_pass(t);
        CHECK(!is_final(op));
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        finish_canceled(t, op);
        CHECK_EQ(bytes_in(to[0]), 4096);
    }
    CHECK_EQ(read(counter, &left, 8), 8);
    CHECK_EQ(left, 7);
}

/* One gets the byte, the others have been woken for nothing: in the end as often as there are
 * others. */
static void lose_every_race(struct test *t, bool splice)
{
    enum { COUNT = 230 };
    static char bytes[COUNT];
    ouro_op *ops[COUNT];
    int fds[2], to[2];

    make_pipe(t, fds);
    make_pipe(t, to);
    for (int i = 0; i < COUNT; i++) {
        ops[i] = op_new(t);
        if (splice)
            ouro_prep_splice(ops[i], fds[0], OURO_CUR, to[1], OURO_CUR, 1, 0);
        else
            ouro_prep_read(ops[i], fds[0], &bytes[i], 1, OURO_CUR);
        start(t, ops[i]);
    }
    for (unsigned i = 1; i <= COUNT; i++) {
        step(t);
        CHECK_EQ(write(fds[1], "h", 1), 1);
        wait_completions(t, i);
        if (splice) { /* each takes a whole buffer of the pipe */
            CHECK(readable(to[0], 0));
            CHECK_EQ(read(to[0], bytes, COUNT), 1);
        }
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(finish(t, ops[i]), 1);
    CHECK_EQ(bytes_in(fds[0]), 0);
}

static void reads_that_lose_every_race_still_wait(struct test *t)
{
    lose_every_race(t, false);
}

static void splices_that_lose_every_race_still_wait(struct test *t)
{
    lose_every_race(t, true);
}

/* ---- Flags --------------------------------------------------------------------------------- */

/* openat(2) ignores what openat2(2) refuses: bits that mean nothing, in flags and mode. */
static void open_ignores_what_openat_ignores(struct test *t)
{
    static const struct {
        int flags;
        unsigned mode;
    } odd[] = {
        { O_RDONLY | 0x20, 0 },        { O_PATH | O_APPEND, 0 },          { O_RDONLY, 0777 },
        { O_RDWR | O_CREAT, 0100600 }, { O_RDWR | O_CREAT | 0x20, 0600 },
    };
    const char *path = path_in(t, "f");
    ouro_op *op = op_new(t);

    make_file(t, "f", "abc", 3);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        int own = open(path, odd[i].flags | O_CLOEXEC, odd[i].mode);

        CHECK(own >= 0);
        for (int k = 0; k < 4; k++) { /* whatever was learned from the first ones */
            int64_t fd;

            ouro_prep_open(op, OURO_HERE, path, odd[i].flags, odd[i].mode);
            op->flags = k & 1 ? OURO_BG : 0;
            fd = do_op(t, op);
            if (fd < 0)
                FAIL("flags %x, mode %o: %s", (unsigned)odd[i].flags, odd[i].mode,
                     strerror((int)-fd));
            CHECK_EQ(fcntl((int)fd, F_GETFL), fcntl(own, F_GETFL));
            close((int)fd);
        }
        close(own);
    }
}

enum { STREAM, SHUT, GONE, FULL_OF_ONE, READ_END, READ_END_ALONE, WRITE_END, FILE_END, PATH_END };

/* A descriptor to poll, as each kind and state has its own bits; the other end, or -1. */
static int polled(struct test *t, int state, int *ret_other)
{
    int fds[2];

    *ret_other = -1;
    if (state >= FILE_END) {
        make_file(t, "f", "x", 1);
        return open(path_in(t, "f"), (state == PATH_END ? O_PATH : O_RDONLY) | O_CLOEXEC);
    }
    if (state >= READ_END)
        CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    else
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *ret_other = fds[1];
    switch (state) {
    case SHUT: shutdown(fds[1], SHUT_WR); break;
    case FULL_OF_ONE: CHECK_EQ(write(fds[1], "x", 1), 1); break;
    case GONE:
    case READ_END_ALONE:
        close(fds[1]);
        *ret_other = -1;
        break;
    case WRITE_END: *ret_other = fds[0]; return fds[1];
    default: break;
    }
    return fds[0];
}

static void poll_gives_the_bits_of_poll(struct test *t)
{
    enum { RDHUP = 0x2000, COUNT = 10 }; /* POLLRDHUP */
    static const unsigned events[COUNT] = {
        0,
        POLLIN,
        POLLOUT,
        POLLIN | POLLOUT,
        POLLPRI,
        RDHUP,
        POLLIN | RDHUP,
        POLLIN | POLLOUT | POLLPRI | RDHUP | 0x40 | 0x100, /* POLLRDNORM, POLLWRNORM */
        POLLERR,
        POLLHUP,
    };

    for (int state = STREAM; state <= PATH_END; state++) {
        ouro_op *ops[COUNT];
        int other, fd = polled(t, state, &other);

        for (int i = 0; i < COUNT; i++) {
            ouro_prep_poll(ops[i] = op_new(t), fd, events[i]);
            start(t, ops[i]);
        }
        let_pass(t);
        for (int i = 0; i < COUNT; i++) {
            struct pollfd look = { .fd = fd, .events = (short)events[i] };

            if (poll(&look, 1, 0) == 0)
                CHECK(!ouro_done(ops[i]));
            else
                CHECK_EQ(finish(t, ops[i]), look.revents & POLLNVAL ? -EBADF : look.revents);
        }
        cancel_all_of(t, ops, COUNT);
        close(fd);
        if (other >= 0)
            close(other);
    }
}

/* ---- Processes ----------------------------------------------------------------------------- */

static pid_t child_that_waits(int fd)
{
    pid_t pid = fork();
    char byte;

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* Where only ancestors may trace, if nothing else is said. */
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        while (read(fd, &byte, 1) != 1)
            usleep(1000);
        _exit(7);
    }
    CHECK(pid > 0);
    return pid;
}

static pid_t start_tracer(pid_t traced, int tell)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_SEIZE, traced, NULL, NULL) != 0 || write(tell, "s", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    CHECK(pid > 0);
    return pid;
}

/* It has ended, which shows, but its parent may not have it before its tracer. */
static void a_traced_child_is_waited_for(struct test *t)
{
    ouro_op *op = op_new(t);
    int go[2], told[2], status = 0;
    struct pollfd ready;
    pid_t child, tracer;

    make_pipe(t, go);
    make_pipe(t, told);
    child = child_that_waits(go[0]);
    usleep(2000);
    tracer = start_tracer(child, told[1]);
    ready = (struct pollfd){ .fd = told[0], .events = POLLIN };
    CHECK_EQ(poll(&ready, 1, 5000), 1);
    ouro_prep_waitpid(op, child, &status, 0);
    start(t, op);
    step(t);
    CHECK_EQ(write(go[1], "g", 1), 1);
    for (int i = 0; i < 20; i++)
        let_pass(t);
    CHECK(!ouro_done(op));
    CHECK_EQ(kill(tracer, SIGKILL), 0);
    CHECK_EQ(waitpid(tracer, NULL, 0), tracer);
    CHECK_EQ(finish(t, op), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

enum { CHILDREN = 10 };

/* Everything that the library has opened in this process is closed again. */
_Noreturn static void close_in_child(struct test *t, bool anew)
{
    if (anew && ouro_fork_child(t->loop) < 0)
        _exit(1);
    if (ouro_close(t->loop, OURO_FOREVER) < 0)
        _exit(2);
    for (unsigned i = 0; i < t->made_count; i++)
        close(t->made[i]);
    _exit(count_fds() == t->fds_before ? 0 : 3);
}

static void fork_with_processes_awaited(struct test *t, bool anew)
{
    ouro_op *ops[CHILDREN];
    pid_t pids[CHILDREN], child;
    int go[2], status;

    make_pipe(t, go);
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = child_that_waits(go[0]);
        ouro_prep_waitpid(ops[i] = op_new(t), pids[i], NULL, 0);
        start(t, ops[i]);
    }
    let_pass(t);
    child = fork();
    if (child == 0)
        close_in_child(t, anew);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(write(go[1], "gggggggggg", CHILDREN), CHILDREN);
    for (int i = 0; i < CHILDREN; i++)
        CHECK_EQ(finish(t, ops[i]), pids[i]);
}

static void a_forked_child_keeps_no_descriptor(struct test *t)
{
    fork_with_processes_awaited(t, false);
}

static void a_child_that_starts_anew_keeps_no_descriptor(struct test *t)
{
    fork_with_processes_awaited(t, true);
}

/* ---- The ring ------------------------------------------------------------------------------ */

/* A connection with bytes in it that nobody takes. */
static void fill_connection(struct test *t, int *ret_writer, int *ret_reader)
{
    static char bytes[1 << 18];
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), writer;

    writer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)(void *)&at, sizeof at), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)(void *)&at, &len), 0);
    CHECK_EQ(connect(writer, (struct sockaddr *)(void *)&at, sizeof at), 0);
    *ret_reader = made(t, accept(listener, NULL, NULL));
    close(listener);
    while (send(writer, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    *ret_writer = writer;
}

static void a_lingering_close_holds_up_nothing(struct test *t)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 5 };
    ouro_op *closing = op_new(t), *timer = op_new(t);
    ouro_time before;
    int writer, reader;

    fill_connection(t, &writer, &reader);
    CHECK_EQ(setsockopt(writer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    before = ouro_now(t->loop);
    ouro_prep_close(closing, writer);
    start(t, closing);
    ouro_prep_timer(timer, in_ms(t, 20));
    start(t, timer);
    CHECK_EQ(finish(t, timer), 0);
    CHECK(ouro_now(t->loop) - before < 3000 * OURO_MS);
    CHECK(!ouro_done(closing));
    unmade(t, reader);
    close(reader); /* what nobody takes any more is not lingered for */
    CHECK_EQ(finish(t, closing), 0);
    CHECK(ouro_now(t->loop) - before < 4000 * OURO_MS);
}

/* A copy of the ring in a child keeps it alive, but while only enter is denied, its requests can
 * be ended, and none had an effect. (The ring of an OWNED loop completes nothing without enter.) */
static void a_ring_without_enter_loses_no_operation(struct test *t)
{
    enum { COUNT = 5 };
    ouro_op *ops[COUNT], *op = op_new(t);
    static char bytes[COUNT];
    int fds[2], go[2];
    pid_t child;

    t->config.engine = NULL;
    open_loop(t);
    CHECK(strcmp(ouro_engine_name(t->loop), "uring") == 0);
    make_pipe(t, fds);
    make_pipe(t, go);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, OURO_CUR);
        start(t, ops[i]);
    }
    let_pass(t);
    child = child_that_waits(go[0]);
    block_io_uring(BLOCK_ENTER, EPERM);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(strcmp(ouro_engine_name(t->loop), ouro_engine_list(1)) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(!ouro_done(ops[i]));
    CHECK_EQ(write(fds[1], "lllll", COUNT), COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(finish(t, ops[i]), 1);
        CHECK_EQ(CFLAGS(ops[i]) & OURO_C_LOST, 0);
    }
    CHECK_EQ(kill(child, SIGKILL), 0); /* until here it lived, and so did its copy */
    CHECK_EQ(waitpid(child, NULL, 0), child);
}

struct posting {
    struct test *t;
    ouro_op *op; /* a timer; NULL: a wake alone */
};

static void *post_later(void *arg)
{
    struct posting *posting = arg;

    usleep(2000);
    if (!posting->op) {
        ouro_wake(posting->t->loop);
        return NULL;
    }
    ouro_prep_timer(posting->op, in_ms(posting->t, 1)); /* the sleeper must learn of it */
    CHECK_EQ(start_post(posting->t, posting->op), 0);
    return NULL;
}

/* More completions at once than the ring's queue holds, which ends the watch of the doorbell: it is
 * watched again, and other threads still wake a loop that sleeps. */
static void wakes_survive_an_overflow(struct test *t)
{
    enum { COUNT = 400, ROUNDS = 3 };
    struct posting wake = { .t = t }, post = { .t = t, .op = op_new(t) };
    static ouro_op *ops[COUNT];
    pthread_t thread;
    int fds[2];

    t->config.depth = 8;
    open_loop(t);
    make_pipe(t, fds);
    for (int i = 0; i < COUNT; i++)
        ops[i] = op_new(t);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        char byte;

        for (int i = 0; i < COUNT; i++) {
            ouro_prep_poll(ops[i], fds[0], POLLIN);
            start(t, ops[i]);
        }
        let_pass(t);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK_EQ(pthread_create(&thread, NULL, post_later, &wake), 0);
        pthread_join(thread, NULL); /* within the flood */
        wait_completions(t, round * (COUNT + 1) - 1);
        for (int i = 0; i < COUNT; i++)
            CHECK_EQ(finish(t, ops[i]), POLLIN);
        CHECK_EQ(read(fds[0], &byte, 1), 1);
        CHECK_EQ(pthread_create(&thread, NULL, post_later, &post), 0);
        wait_completions(t, round * (COUNT + 1)); /* asleep until the post */
        pthread_join(thread, NULL);
        CHECK_EQ(finish(t, post.op), 0);
    }
}

/* A poll that the system has ended while the loop did not look; and a timer, which ends by itself
 * in the next turn. */
static ouro_op *start_what_has_ended(struct test *t, ouro_op *timer)
{
    ouro_op *op = op_new(t);
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_poll(op, fds[0], POLLIN);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    if (t->mode != MODE_OWNED)
        usleep(2000); /* whoever waits for it has had the time */
    ouro_prep_timer(timer, OURO_NOWAIT);
    start(t, timer);
    return op;
}

/* What ends on the spot in each turn holds up for a few turns only what ends in the ring. */
static void what_ends_on_the_spot_starves_nobody(struct test *t)
{
    ouro_op *timer = op_new(t), *op;
    unsigned turns;

    for (int i = 0; i < 20; i++) {
        op = start_what_has_ended(t, timer);
        for (turns = 0; !is_final(op); turns++) {
            CHECK(turns < 10);
            if (is_final(timer))
                start(t, timer);
            CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
            reap_all(t);
        }
        CHECK_EQ(RES(op), POLLIN);
        finish(t, timer);
    }
}

/* Nor are many ended by a few at a time. */
static void what_ends_on_the_spot_holds_up_no_crowd(struct test *t)
{
    enum { COUNT = 1000 };
    static ouro_op *ops[COUNT];
    ouro_op *timer = op_new(t);
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_poll(ops[i] = op_new(t), fds[0], POLLIN);
        start(t, ops[i]);
    }
    let_pass(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_timer(timer, OURO_NOWAIT);
    for (unsigned turns = 0; turns < 20; turns++) {
        start(t, timer);
        CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
        reap_all(t);
        finish(t, timer);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(is_final(ops[i]));
}

/* The byte is there long before the deadline, and the loop makes turns, if not many. */
static void slow_turns_let_nothing_time_out(struct test *t)
{
    ouro_op *timer = op_new(t), *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    op->deadline = in_ms(t, 150);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_timer(timer, OURO_NOWAIT);
    while (!is_final(op)) {
        start(t, timer);
        CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
        reap_all(t);
        finish(t, timer);
        usleep(50000);
    }
    CHECK_EQ(RES(op), 1);
}

/* Who only looks, and perhaps not soon again, is told of all that has ended. */
static void a_look_finds_all_that_has_ended(struct test *t)
{
    ouro_op *timer = op_new(t), *op;

    op = start_what_has_ended(t, timer);
    CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
    reap_all(t);
    CHECK(is_final(timer) && is_final(op));
    op = start_what_has_ended(t, timer);
    CHECK(ouro_run(t->loop, 2, ouro_now(t->loop)) >= 0);
    reap_all(t);
    CHECK(is_final(timer) && is_final(op));
}

static void a_wait_until_now_finds_what_has_ended(struct test *t)
{
    ouro_op *timer = op_new(t), *op;

    for (int i = 0; i < 2; i++) {
        op = start_what_has_ended(t, timer);
        CHECK_EQ(ouro_wait(t->loop, op, i ? ouro_now(t->loop) : OURO_NOWAIT), 0);
        ledger_waited(t, op);
        finish(t, timer);
    }
}

#define PLAIN .fixed = FIX_FD
static const struct test_case cases[] = {
    { NAMED(splicing_nothing_is_zero) },
    { NAMED(an_empty_vector_sends_no_datagram) },
    { NAMED(a_copy_between_pipes_loses_nothing), PLAIN },
    { NAMED(a_copy_of_a_counter_to_a_full_pipe_leaves_it) },
    { NAMED(reads_that_lose_every_race_still_wait), .seconds = 20 },
    { NAMED(splices_that_lose_every_race_still_wait), .seconds = 20 },
    { NAMED(open_ignores_what_openat_ignores), PLAIN },
    { NAMED(poll_gives_the_bits_of_poll), PLAIN },
    { NAMED(a_traced_child_is_waited_for), PLAIN },
    { NAMED(a_forked_child_keeps_no_descriptor), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(a_child_that_starts_anew_keeps_no_descriptor), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(a_lingering_close_holds_up_nothing), PLAIN },
    { NAMED(a_ring_without_enter_loses_no_operation), PLAIN, .no_loop = true,
      .needs = NEED_URING | NEED_THREADS },
    { NAMED(wakes_survive_an_overflow), PLAIN, .no_loop = true, .pitfalls = "C2", .seconds = 20 },
    { NAMED(what_ends_on_the_spot_starves_nobody), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .needs = NEED_DRIVER },
    { NAMED(what_ends_on_the_spot_holds_up_no_crowd), .fixed = FIX_STYLE | FIX_FD,
      .style = STYLE_REAP, .needs = NEED_DRIVER },
    { NAMED(slow_turns_let_nothing_time_out), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .needs = NEED_DRIVER },
    { NAMED(a_look_finds_all_that_has_ended), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .needs = NEED_DRIVER },
    { NAMED(a_wait_until_now_finds_what_has_ended), .fixed = FIX_STYLE | FIX_FD,
      .style = STYLE_WAIT, .needs = NEED_DRIVER },
    { .name = NULL },
};
const struct subject subject_edges = { "edges", cases };

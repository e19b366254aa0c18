/* SPDX-License-Identifier: MIT */
/* t_sendq.c: queues of sends: what is pushed goes out in order and whole, and nothing after one
 * that failed. */
#include <sys/socket.h>

#include "sys.h"
#include "test.h"

#define COUNT 40
#define BIG ((size_t)2 << 20)

static char big[BIG];

static void push(struct test *t, ouro_sendq *queue, ouro_op *op)
{
    CHECK_EQ(start_push(t, queue, op), 0);
}

static ouro_op *sending(struct test *t, int fd, const void *data, size_t len)
{
    ouro_op *op = op_new(t);

    ouro_prep_send(op, fd, data, len, 0);
    return op;
}

/* ORDER is when a completion was seen: waiting for them one by one says nothing about it. */
static void check_order(struct test *t, ouro_op *const *ops, unsigned count)
{
    for (unsigned i = 1; i < count && t->style != STYLE_WAIT; i++)
        CHECK(ORDER(ops[i - 1]) < ORDER(ops[i]));
}

static void check_canceled(ouro_op *op)
{
    CHECK_EQ(RES(op), -ECANCELED);
    CHECK(CFLAGS(op) & OURO_C_CANCELED);
}

/* Reads what is there by now, as a peer does that is in no hurry. */
static size_t take(struct test *t, int fd, char *to, size_t room)
{
    ssize_t r;

    step(t);
    reap_all(t);
    r = recv(fd, to, room < 60000 ? room : 60000, MSG_DONTWAIT);
    return r > 0 ? (size_t)r : 0;
}

static void sends_go_out_in_order_and_whole(struct test *t)
{
    static char data[COUNT * 30000], got[sizeof(data)];
    static struct iovec parts[COUNT][3];
    ouro_op *ops[COUNT];
    size_t at = 0, came = 0, sizes[COUNT];
    ouro_sendq queue;
    int fds[2];

    fill(data, sizeof(data), 21);
    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    for (int i = 0; i < COUNT; i++) {
        char *part = data + at;
        size_t size = sizes[i] = i % 4 == 3 ? 1 + (size_t)i : 20000 + (size_t)i * 137;
        ops[i] = op_new(t);
        parts[i][0] = (struct iovec){ part, size / 3 };
        parts[i][1] = (struct iovec){ part, 0 };
        parts[i][2] = (struct iovec){ part + size / 3, size - size / 3 };
        if (i % 3 == 0)
            ouro_prep_send(ops[i], fds[0], part, size, 0);
        else if (i % 3 == 1)
            ouro_prep_write(ops[i], fds[0], part, size, 0);
        else
            ouro_prep_writev(ops[i], fds[0], parts[i], 3, OURO_CUR, 0);
        push(t, &queue, ops[i]);
        at += size;
    }
    while (came < at) {
        CHECK(ouro_now(t->loop) < t->limit);
        came += take(t, fds[1], got + came, at - came);
    }
    finish_all(t);
    check_filled(got, at, 21);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(RES(ops[i]), sizes[i]);
    check_order(t, ops, COUNT);
}

static void a_failure_ends_the_rest_in_order(struct test *t)
{
    ouro_op *ops[COUNT], *late;
    ouro_sendq queue;
    int fds[2];

    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    push(t, &queue, ops[0] = sending(t, fds[0], big, BIG));
    for (int i = 1; i < COUNT; i++)
        push(t, &queue, ops[i] = sending(t, fds[0], big, 10));
    let_pass(t);
    CHECK(!is_final(ops[0]));
    unmade(t, fds[1]);
    close(fds[1]);
    finish_all(t);
    CHECK(RES(ops[0]) == -EPIPE || (RES(ops[0]) > 0 && RES(ops[0]) < (int64_t)BIG));
    if (RES(ops[0]) > 0)
        CHECK_EQ(ops[0]->cause, -EPIPE);
    for (int i = 1; i < COUNT; i++)
        check_canceled(ops[i]);
    check_order(t, ops, COUNT);
    late = sending(t, fds[0], big, 1);
    CHECK_EQ(start_push(t, &queue, late), -EPIPE);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    push(t, &queue, late);
    CHECK_EQ(finish(t, late), -EPIPE);
}

static void one_that_has_not_begun_leaves_by_itself(struct test *t)
{
    static char got[BIG + 2];
    ouro_op *first, *second, *third, *fourth;
    ouro_sendq queue;
    size_t came = 0;
    int fds[2];

    memset(big, 'a', BIG);
    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    push(t, &queue, first = sending(t, fds[0], big, BIG));
    push(t, &queue, second = sending(t, fds[0], "b", 1));
    push(t, &queue, third = sending(t, fds[0], "c", 1));
    fourth = sending(t, fds[0], "d", 1);
    fourth->deadline = in_ms(t, 20);
    push(t, &queue, fourth);
    let_pass(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(second)), 0);
    finish_canceled(t, second);
    CHECK_EQ(finish(t, fourth), -ETIMEDOUT);
    CHECK(!is_final(first) && !is_final(third));
    while (came < BIG + 1)
        came += take(t, fds[1], got + came, sizeof(got) - came);
    CHECK_EQ(finish(t, first), BIG);
    CHECK_EQ(finish(t, third), 1);
    CHECK(got[BIG - 1] == 'a' && got[BIG] == 'c');
    let_pass(t);
    CHECK_EQ(recv(fds[1], got, sizeof(got), MSG_DONTWAIT), -1);
}

static void one_that_was_cut_ends_the_rest(struct test *t)
{
    ouro_op *first, *second, *late;
    ouro_sendq queue;
    int fds[2];

    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    push(t, &queue, first = sending(t, fds[0], big, BIG));
    push(t, &queue, second = sending(t, fds[0], big, 1));
    let_pass(t);
    CHECK(readable(fds[1], 1000));
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(first)), 0);
    CHECK(finish(t, first) > 0);
    CHECK(RES(first) < (int64_t)BIG && CFLAGS(first) & OURO_C_CANCELED);
    CHECK_EQ(finish(t, second), -ECANCELED);
    check_canceled(second);
    late = sending(t, fds[0], big, 1);
    CHECK_EQ(start_push(t, &queue, late), -ECANCELED);
}

static void a_queue_that_is_stopped_sends_nothing_more(struct test *t)
{
    static char got[BIG];
    ouro_op *ops[COUNT], *late;
    ouro_sendq queue;
    size_t came = 0;
    int fds[2];

    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    for (int i = 0; i < COUNT; i++)
        push(t, &queue, ops[i] = sending(t, fds[0], big, i ? 10 : BIG));
    let_pass(t);
    CHECK_EQ(ouro_sendq_stop(&queue), 0);
    for (int i = 1; i < COUNT; i++) {
        finish(t, ops[i]);
        check_canceled(ops[i]);
    }
    check_order(t, ops + 1, COUNT - 1);
    CHECK(!is_final(ops[0]));
    late = sending(t, fds[0], "z", 1);
    CHECK_EQ(start_push(t, &queue, late), -ECANCELED);
    while (came < BIG)
        came += take(t, fds[1], got + came, BIG - came);
    CHECK_EQ(finish(t, ops[0]), BIG);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    push(t, &queue, late);
    CHECK_EQ(finish(t, late), 1);
    CHECK_EQ(recv(fds[1], got, sizeof(got), 0), 1);
    CHECK_EQ(got[0], 'z');
}

/* Before any turn: the first has not begun either, but in loops that act at once. */
static void a_stop_at_once_keeps_the_order(struct test *t)
{
    ouro_op *ops[COUNT];
    ouro_sendq queue;
    bool went = false;
    int fds[2];

    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    for (int i = 0; i < COUNT; i++)
        push(t, &queue, ops[i] = sending(t, fds[0], big, 10));
    CHECK_EQ(ouro_sendq_stop(&queue), 0);
    finish_all(t);
    for (int i = COUNT - 1; i >= 0; i--) {
        if (RES(ops[i]) == 10)
            went = true;
        else
            check_canceled(ops[i]);
        CHECK(!went || RES(ops[i]) == 10);
    }
    if (t->mode == MODE_OWNED)
        CHECK(!went);
    /* The one that had begun may go on meanwhile: the order is that of the others. */
    for (unsigned i = 1; i < COUNT && t->style != STYLE_WAIT; i++)
        CHECK(RES(ops[i - 1]) != RES(ops[i]) || ORDER(ops[i - 1]) < ORDER(ops[i]));
}

static void a_close_ends_what_is_queued(struct test *t)
{
    ouro_op *ops[COUNT], *shut = op_new(t);
    ouro_sendq queue;
    int fds[2];

    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    for (int i = 0; i < COUNT; i++)
        push(t, &queue, ops[i] = sending(t, fds[0], big, BIG));
    let_pass(t);
    unmade(t, fds[0]);
    ouro_prep_close(shut, fds[0]);
    CHECK_EQ(do_op(t, shut), 0);
    finish_all(t);
    CHECK(CFLAGS(ops[0]) & OURO_C_CANCELED && RES(ops[0]) < (int64_t)BIG);
    for (int i = 1; i < COUNT; i++)
        check_canceled(ops[i]);
}

static void slots_and_pipes_have_queues(struct test *t)
{
    ouro_op *op = op_new(t), *a, *b;
    ouro_sendq queue;
    char got[3] = "";
    int fds[2];

    make_pipe(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[1], 0);
    ouro_prep_write(op, fds[1], "p", 1, 0);
    push(t, &queue, op);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(read(fds[0], got, 1), 1);

    CHECK_EQ(ouro_direct_table(t->loop, 4), 0);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDWR | O_CREAT | O_APPEND, 0600, 2);
    CHECK_EQ(do_op(t, op), 0);
    ouro_sendq_init(&queue, t->loop, 2, OURO_DIRECT);
    ouro_prep_write(a = op_new(t), 2, "ab", 2, 0);
    ouro_prep_write(b = op_new(t), 2, "c", 1, 0);
    CHECK_EQ(start_push(t, &queue, a), -EINVAL);
    a->flags = b->flags = OURO_DIRECT;
    push(t, &queue, a);
    push(t, &queue, b);
    CHECK_EQ(finish(t, a), 2);
    CHECK_EQ(finish(t, b), 1);
    ouro_prep_read(op, 2, got, 3, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 3);
    CHECK(memcmp(got, "abc", 3) == 0);
}

static void what_is_no_send_is_refused(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_sendq queue;
    char byte;
    int fds[2];

    make_socketpair(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    CHECK_EQ(ouro_sendq_push(&queue, NULL), -EINVAL);
    CHECK_EQ(ouro_sendq_push(NULL, op), -EINVAL);
    CHECK_EQ(ouro_sendq_stop(NULL), -EINVAL);
    ouro_prep_recv(op, fds[0], &byte, 1, 0);
    CHECK_EQ(start_push(t, &queue, op), -EINVAL);
    ouro_prep_send(op, fds[1], "x", 1, 0);
    CHECK_EQ(start_push(t, &queue, op), -EINVAL);
    ouro_prep_send(op, fds[0], "x", 1, MSG_OOB);
    CHECK_EQ(start_push(t, &queue, op), -EINVAL);
    CHECK_EQ(op->flags, 0);
    ouro_prep_send(op, fds[0], NULL, 1, 0);
    CHECK_EQ(start_push(t, &queue, op), -EFAULT);
    ouro_sendq_init(&queue, t->loop, fds[0], OURO_QUIET);
    ouro_prep_send(op, fds[0], "x", 1, 0);
    CHECK_EQ(start_push(t, &queue, op), -EINVAL);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    push(t, &queue, op);
    CHECK_EQ(finish(t, op), 1);
}

/* ---- Small ones, which may go out together --------------------------------------------------- */

enum { SMALL = 700, MANY = 64 };
static char small[MANY * SMALL];

/* Pushed to a socket whose peer reads nothing, and which has room for some. */
static void push_small(struct test *t, ouro_sendq *queue, int fds[2], ouro_op *ops[MANY])
{
    const int room = 4096;

    fill(small, sizeof(small), 33);
    make_socketpair(t, fds);
    CHECK_EQ(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    ouro_sendq_init(queue, t->loop, fds[0], 0);
    for (int i = 0; i < MANY; i++) {
        ops[i] = sending(t, fds[0], small + (size_t)i * SMALL, SMALL);
        push(t, queue, ops[i]);
    }
    let_rest(t);
    CHECK(ouro_done(ops[0]) && !ouro_done(ops[MANY - 1]));
}

static size_t drain(struct test *t, int fd, char *to, size_t room)
{
    size_t came = 0, more = 1;

    for (int idle = 0; idle < 20; idle = more ? 0 : idle + 1) {
        more = take(t, fd, to + came, room - came);
        came += more;
        if (!more)
            usleep(1000);
    }
    return came;
}

/* What the peer has received is what the results say, and nothing else. */
static void check_came(ouro_op *const *ops, const char *got, size_t came)
{
    size_t at = 0;

    for (int i = 0; i < MANY; i++) {
        size_t size = RES(ops[i]) > 0 ? (size_t)RES(ops[i]) : 0;

        CHECK(size <= SMALL && at + size <= came);
        CHECK(memcmp(got + at, small + (size_t)i * SMALL, size) == 0);
        at += size;
    }
    CHECK_EQ(at, came);
}

static struct ouro__sys real;
static _Atomic long calls;

static long count_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                        size_t size)
{
    calls++;
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static long count_send(int fd, const void *data, size_t len, int flags)
{
    calls++;
    return real.send(fd, data, len, flags);
}

static long count_sendmsg(int fd, const void *message, int flags)
{
    calls++;
    return real.sendmsg(fd, message, flags);
}

static void small_sends_go_out_together(struct test *t)
{
    enum { SENDS = 32, SIZE = 64 };
    ouro_op *ops[SENDS];
    char got[SENDS * SIZE + 1];
    ouro_sendq queue;
    int fds[2];

    fill(small, sizeof(small), 34);
    make_tcp(t, fds);
    ouro_sendq_init(&queue, t->loop, fds[0], 0);
    real = ouro__sys;
    ouro__sys.io_uring_enter = count_enter;
    ouro__sys.send = count_send;
    ouro__sys.sendmsg = count_sendmsg;
    for (int i = 0; i < SENDS; i++)
        push(t, &queue, ops[i] = sending(t, fds[0], small + (size_t)i * SIZE, SIZE));
    finish_all(t);
    ouro__sys = real;
    CHECK(calls <= SENDS / 3);
    for (int i = 0; i < SENDS; i++)
        CHECK_EQ(RES(ops[i]), SIZE);
    check_order(t, ops, SENDS);
    CHECK_EQ(recv(fds[1], got, sizeof(got), 0), SENDS * SIZE);
    CHECK(memcmp(got, small, SENDS * SIZE) == 0);
}

/* One from the middle leaves, by a cancel or its deadline; the others go out around it. */
static void leave_the_others(struct test *t, bool deadline)
{
    static char got[sizeof(small) + 1];
    ouro_op *ops[MANY];
    ouro_sendq queue;
    int fds[2], out = 0;

    push_small(t, &queue, fds, ops);
    while (ouro_done(ops[out]))
        out++;
    out += 5; /* the one that waits for room may have begun, this one has not */
    CHECK(out < MANY);
    if (deadline) {
        ouro_op *timed = sending(t, fds[0], "late", 4);

        timed->deadline = in_ms(t, 20);
        push(t, &queue, timed);
        CHECK_EQ(finish(t, timed), -ETIMEDOUT);
    }
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[out])), 0);
    finish_canceled(t, ops[out]);
    CHECK(!ouro_done(ops[out - 1]) && !ouro_done(ops[out + 1]));
    CHECK_EQ(drain(t, fds[1], got, sizeof(got)), sizeof(small) - SMALL);
    finish_all(t);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(RES(ops[i]), i == out ? -ECANCELED : SMALL);
    check_came(ops, got, sizeof(small) - SMALL);
}

static void one_of_many_leaves_the_others(struct test *t)
{
    leave_the_others(t, false);
}

static void a_deadline_of_many_leaves_the_others(struct test *t)
{
    leave_the_others(t, true);
}

static void all_that_ride_are_cancelled(struct test *t)
{
    static char got[sizeof(small) + 1];
    ouro_op *ops[MANY];
    ouro_sendq queue;
    unsigned parts = 0;
    int fds[2];

    push_small(t, &queue, fds, ops);
    for (int i = MANY - 1; i >= 0; i--)
        if (!ouro_done(ops[i]))
            CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[i])), 0);
    finish_all(t);
    for (int i = 0; i < MANY; i++) {
        if (RES(ops[i]) == SMALL)
            continue;
        CHECK(RES(ops[i]) == -ECANCELED || RES(ops[i]) > 0);
        CHECK(CFLAGS(ops[i]) & OURO_C_CANCELED);
        parts += RES(ops[i]) > 0;
    }
    CHECK(parts <= 1);
    check_came(ops, got, drain(t, fds[1], got, sizeof(got)));
}

static ouro_op *pushed[MANY];
static bool withdrawn[MANY];

/* One has been sent: the next that has not. */
static void withdraw_next(struct test *t, ouro_op *op)
{
    int i = 0;

    if (op->res != SMALL)
        return;
    while (i < MANY && pushed[i] != op)
        i++;
    for (i++; i < MANY; i++)
        if (!ouro_done(pushed[i]) && !withdrawn[i]) {
            withdrawn[i] = ouro_withdraw(t->loop, pushed[i]) == 0;
            return;
        }
}

static void who_is_withdrawn_has_sent_nothing(struct test *t)
{
    static char got[sizeof(small) + 1];
    ouro_sendq queue;
    int fds[2];
    size_t came;

    push_small(t, &queue, fds, pushed);
    for (int i = 0; i < MANY; i++)
        record_of(pushed[i])->then = withdraw_next;
    came = drain(t, fds[1], got, sizeof(got));
    finish_all(t);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(RES(pushed[i]), withdrawn[i] ? -ECANCELED : SMALL);
    check_came(pushed, got, came);
}

static void a_stop_lets_those_go_on_that_have_begun(struct test *t)
{
    static char got[sizeof(small) + 1];
    ouro_op *ops[MANY];
    ouro_sendq queue;
    size_t came;
    int fds[2], last = 0;

    push_small(t, &queue, fds, ops);
    CHECK_EQ(ouro_sendq_stop(&queue), 0);
    came = drain(t, fds[1], got, sizeof(got));
    finish_all(t);
    while (last < MANY && RES(ops[last]) == SMALL)
        last++;
    CHECK(last < MANY); /* more than may ride have not begun */
    for (int i = last; i < MANY; i++)
        check_canceled(ops[i]);
    check_came(ops, got, came);
}

/* Where a reader sees where each began, each goes alone. */
static void datagrams_and_records_keep_their_ends(struct test *t)
{
    static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
    char got[128];

    for (unsigned type = 0; type < 2; type++) {
        ouro_op *ops[8];
        ouro_sendq queue;
        int fds[2];

        CHECK_EQ(socketpair(AF_UNIX, types[type] | SOCK_CLOEXEC, 0, fds), 0);
        made(t, fds[0]);
        made(t, fds[1]);
        ouro_sendq_init(&queue, t->loop, fds[0], 0);
        for (int i = 0; i < 8; i++)
            push(t, &queue, ops[i] = sending(t, fds[0], small, 10 + (size_t)i));
        for (int i = 0; i < 8; i++)
            CHECK_EQ(finish(t, ops[i]), 10 + i);
        for (int i = 0; i < 8; i++)
            CHECK_EQ(recv(fds[1], got, sizeof(got), MSG_DONTWAIT), 10 + i);
    }
}

/* What the ring had is not known; what it never had was not sent. */
static void small_sends_are_lost_with_the_ring(struct test *t)
{
    static char got[sizeof(small) + 1];
    ouro_op *ops[MANY];
    ouro_sendq queue;
    unsigned lost = 0;
    size_t came, at = 0;
    int fds[2];

    t->config.engine = NULL;
    open_loop(t);
    push_small(t, &queue, fds, ops);
    block_io_uring(BLOCK_ALL, EPERM);
    step(t);
    came = drain(t, fds[1], got, sizeof(got));
    finish_all(t);
    for (int i = 0; i < MANY; i++) {
        if (RES(ops[i]) == SMALL) {
            CHECK_EQ(lost, 0);
            at += SMALL;
        } else if (CFLAGS(ops[i]) & OURO_C_LOST) {
            CHECK_EQ(RES(ops[i]) > 0 ? ops[i]->cause : RES(ops[i]), -EIO);
            lost++;
        } else {
            check_canceled(ops[i]);
        }
    }
    /* A ring that completes without being entered tells after all. */
    CHECK(lost < MANY && (lost > 1 || t->mode != MODE_OWNED));
    CHECK(came >= at && came <= at + lost * SMALL);
    CHECK(memcmp(got, small, came) == 0);
}

static const struct test_case cases[] = {
    { NAMED(sends_go_out_in_order_and_whole) },
    { NAMED(a_failure_ends_the_rest_in_order) },
    { NAMED(one_that_has_not_begun_leaves_by_itself) },
    { NAMED(one_that_was_cut_ends_the_rest) },
    { NAMED(a_queue_that_is_stopped_sends_nothing_more) },
    { NAMED(a_stop_at_once_keeps_the_order) },
    { NAMED(a_close_ends_what_is_queued) },
    { NAMED(slots_and_pipes_have_queues) },
    { NAMED(what_is_no_send_is_refused) },
    { NAMED(small_sends_go_out_together), .fixed = FIX_MODE | FIX_STYLE | FIX_MASK },
    { NAMED(one_of_many_leaves_the_others) },
    { NAMED(a_deadline_of_many_leaves_the_others) },
    { NAMED(all_that_ride_are_cancelled) },
    { NAMED(who_is_withdrawn_has_sent_nothing), .fixed = FIX_STYLE, .style = STYLE_CALLBACK },
    { NAMED(a_stop_lets_those_go_on_that_have_begun) },
    { NAMED(datagrams_and_records_keep_their_ends) },
    { NAMED(small_sends_are_lost_with_the_ring), .needs = NEED_URING, .no_loop = true,
      .fixed = FIX_FD | FIX_MASK },
    { 0 },
};

const struct subject subject_sendq = { "sendq", cases };

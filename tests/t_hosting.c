/* SPDX-License-Identifier: MIT */
/* t_hosting.c: a loop inside another loop: its descriptor, its next deadline, dispatch,
 * notification. (Every test runs hosted too, in the rows of that style; here is what those cannot
 * tell.) */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "test.h"

static void idle_loops_have_no_deadline_and_are_not_readable(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = ouro_pollfd(t->loop);

    CHECK(fd >= 0);
    CHECK_EQ(ouro_pollfd(t->loop), fd);
    ouro_prep_nop(op);
    do_op(t, op);
    while (ouro_dispatch(t->loop, 0) > 0)
        reap_all(t);
    CHECK_EQ(ouro_next_deadline(t->loop), 0);
    CHECK_EQ(ouro_timeout_ms(t->loop), -1);
    CHECK(!readable(fd, 0));
}

static void what_is_not_flushed_wants_a_dispatch_now(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_nop(op);
    start(t, op);
    if (t->mode == MODE_OWNED) {
        CHECK_EQ(ouro_next_deadline(t->loop), OURO_NOWAIT);
        CHECK_EQ(ouro_timeout_ms(t->loop), 0);
    }
    finish(t, op);
}

static void the_next_deadline_is_the_nearest(struct test *t)
{
    ouro_op *far = op_new(t), *near = op_new(t), *r = op_new(t);
    ouro_time at = in_ms(t, 1800000);
    char byte;
    int fds[2], ms;

    make_pipe(t, fds);
    ouro_prep_timer(far, in_ms(t, 3600000));
    ouro_prep_timer(near, at);
    start(t, far);
    start(t, near);
    step(t);
    CHECK_EQ(ouro_next_deadline(t->loop), at);
    ms = ouro_timeout_ms(t->loop);
    CHECK(ms > 1700000 && ms <= 1800000);
    ouro_prep_read(r, fds[0], &byte, 1, 0);
    r->deadline = at - OURO_S;
    start(t, r);
    step(t);
    CHECK_EQ(ouro_next_deadline(t->loop), at - OURO_S);
    ouro_cancel_all(t->loop);
    finish_all(t);
    CHECK_EQ(ouro_next_deadline(t->loop), 0);
}

static void it_becomes_readable_when_something_completes(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2], fd = ouro_pollfd(t->loop);

    make_pipe(t, fds);
    for (int i = 0; i < 20; i++) {
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        start(t, op);
        while (ouro_timeout_ms(t->loop) == 0)
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
        CHECK(!readable(fd, 0));
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK(readable(fd, 5000));
        while (!is_final(op)) {
            CHECK(ouro_now(t->loop) < t->limit);
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
        }
        CHECK_EQ(RES(op), 1);
    }
}

/* Also when other operations, which end by themselves, keep its turns busy. */
static void what_has_ended_wakes_the_host(struct test *t)
{
    ouro_op *op = op_new(t), *timer = op_new(t);
    int fds[2], fd = ouro_pollfd(t->loop);

    for (int i = 0; i < 20; i++) {
        make_pipe(t, fds);
        ouro_prep_poll(op, fds[0], POLLIN);
        start(t, op);
        CHECK(ouro_dispatch(t->loop, 0) >= 0);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        ouro_prep_timer(timer, OURO_NOWAIT);
        start(t, timer);
        CHECK(ouro_run(t->loop, 1, t->limit) >= 0);
        reap_all(t);
        for (unsigned turns = 0; !is_final(op); turns++) {
            CHECK(turns < 10);
            if (i % 2 && is_final(timer))
                start(t, timer);
            CHECK(ouro_timeout_ms(t->loop) == 0 || readable(fd, 1000));
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
            reap_all(t);
        }
        CHECK_EQ(RES(op), POLLIN);
        finish(t, timer);
    }
}

enum { STREAMS = 150 }; /* more than an engine serves in one turn */
static struct {
    ouro_pool *pool;
    int fds[STREAMS];
    unsigned accepted, received;
} crowd;

static void on_crowd_accept(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op, (void)data;
    crowd.fds[crowd.accepted++] = (int)res;
}

static void on_crowd_receive(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK_EQ(res, 1);
    crowd.received++;
    CHECK_EQ(ouro_pool_release(crowd.pool, data), 0);
}

/* As a host does: sleeps on the descriptor, then dispatches. What it waits for is there already: it
 * is told before any timer of the engine's would mend that it was not. */
static void host_until(struct test *t, const unsigned *count, unsigned wanted)
{
    while (*count < wanted) {
        int ms = ouro_timeout_ms(t->loop);

        CHECK(ms == 0 || readable(ouro_pollfd(t->loop), 300));
        CHECK(ouro_dispatch(t->loop, 0) >= 0);
        reap_all(t);
    }
}

/* Many streams become readable at once: a host is told until the last has been served. */
static void a_crowd_is_served_to_the_last(struct test *t)
{
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr), peers[STREAMS];
    ouro_op *accepts = op_new(t), *receives[STREAMS];

    CHECK_EQ(ouro_pool_create(t->loop, 256, 64, &crowd.pool), 0);
    record_of(accepts)->more = on_crowd_accept;
    ouro_prep_accept_many(accepts, listener, 0);
    start(t, accepts);
    for (int i = 0; i < STREAMS; i++)
        peers[i] = connect_to(&addr);
    host_until(t, &crowd.accepted, STREAMS);
    for (int i = 0; i < STREAMS; i++) {
        receives[i] = op_new(t);
        record_of(receives[i])->more = on_crowd_receive;
        ouro_prep_recv_many(receives[i], crowd.fds[i], crowd.pool, 0);
        start(t, receives[i]);
    }
    for (unsigned round = 1; round <= 5; round++) {
        for (int i = 0; i < STREAMS; i++)
            CHECK_EQ(send(peers[i], "x", 1, 0), 1);
        host_until(t, &crowd.received, round * STREAMS);
    }
    for (int i = 0; i < STREAMS; i++) {
        close(peers[i]);
        finish(t, receives[i]);
        CHECK_EQ(RES(receives[i]), 0);
        close(crowd.fds[i]);
    }
    cancel_and_finish(t, accepts);
    CHECK_EQ(ouro_pool_destroy(crowd.pool), 0);
}

static void a_worker_makes_it_readable(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = ouro_pollfd(t->loop);
    char buf[64];
    int dir = made(t, open(t->dir, O_RDONLY | O_DIRECTORY));

    for (int i = 0; i < 20; i++) {
        ouro_prep_readdir(op, dir, buf, 64);
        start(t, op);
        while (ouro_timeout_ms(t->loop) == 0)
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
        while (!is_final(op)) {
            CHECK(readable(fd, 5000));
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
        }
    }
}

static void *post_nop(void *arg)
{
    struct record *record = arg;

    CHECK_EQ(start_post(record->t, &record->op), 0);
    return NULL;
}

static void a_post_and_a_wake_make_it_readable(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = ouro_pollfd(t->loop);
    pthread_t thread;

    CHECK(ouro_dispatch(t->loop, 0) >= 0);
    for (unsigned i = 0; i < 20; i++) {
        ouro_prep_nop(op);
        CHECK_EQ(pthread_create(&thread, NULL, post_nop, record_of(op)), 0);
        while (atomic_load(&record_of(op)->completed) <= i) {
            CHECK(readable(fd, 5000));
            CHECK(ouro_dispatch(t->loop, 0) >= 0);
        }
        pthread_join(thread, NULL);
    }
    ouro_wake(t->loop);
    CHECK(readable(fd, 5000));
    for (int i = 0; i < 3; i++)
        CHECK(ouro_dispatch(t->loop, 0) >= 0);
    CHECK(!readable(fd, 0));
}

static void dispatch_runs_at_most_so_many_callbacks(struct test *t)
{
    ouro_op *ops[10];
    unsigned done = 0;

    for (int i = 0; i < 10; i++) {
        ouro_prep_timer(ops[i] = op_new(t), OURO_NOWAIT);
        start(t, ops[i]);
    }
    while (done < 10) {
        unsigned before = (unsigned)atomic_load(&t->order);

        CHECK(ouro_now(t->loop) < t->limit);
        CHECK(ouro_dispatch(t->loop, 3) >= 0);
        done = (unsigned)atomic_load(&t->order);
        CHECK(done - before <= 3);
        if (done < 10)
            CHECK_EQ(ouro_next_deadline(t->loop), OURO_NOWAIT);
    }
}

static void uncollected_events_do_not_ask_for_dispatch(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_nop(op);
    start(t, op);
    while (!ouro_done(op))
        CHECK(ouro_dispatch(t->loop, 0) >= 0);
    CHECK(ouro_dispatch(t->loop, 0) == 1);
    CHECK_EQ(ouro_timeout_ms(t->loop), -1);
    CHECK_EQ(reap_all(t), 1);
}

/* ---- Notification -------------------------------------------------------------------------- */

/* Collects by run and reap until the operation is final. */
static void collect(struct test *t, ouro_op *op)
{
    while (!is_final(op)) {
        CHECK(ouro_now(t->loop) < t->limit);
        if (t->mode != MODE_SERVICE)
            CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
        reap_all(t);
    }
}

static void an_eventfd_is_written(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), fds[2];
    char byte;

    make_pipe(t, fds);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_EVENTFD, .fd = fd });
    for (int i = 0; i < 50; i++) {
        uint64_t value;

        ouro_prep_read(op, fds[0], &byte, 1, 0);
        start(t, op);
        step(t);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK(readable(fd, 5000));
        while (read(fd, &value, 8) == 8)
            ;
        collect(t, op);
    }
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    close(fd);
}

static void a_timer_notifies_too(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_EVENTFD, .fd = fd });
    for (int i = 0; i < 10; i++) {
        uint64_t value;

        ouro_prep_timer(op, in_ms(t, 2));
        start(t, op);
        step(t);
        CHECK(ouro_done(op) || readable(fd, 5000)); /* a slow turn has ended it by itself */
        while (read(fd, &value, 8) == 8)
            ;
        collect(t, op);
    }
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
    close(fd);
}

static _Atomic int signals;
static void *_Atomic signal_value;

static void on_signal(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    signal_value = info->si_value.sival_ptr;
    signals++;
}

static void wait_for_count(struct test *t, _Atomic int *count)
{
    while (!*count) {
        CHECK(ouro_now(t->loop) < t->limit);
        usleep(100);
    }
}

static void a_signal_is_queued(struct test *t)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    sigaction(SIGUSR2, &action, NULL);
    make_pipe(t, fds);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_SIGNAL, .signo = SIGUSR2, .value = t });
    for (int i = 0; i < 10; i++) {
        signals = 0;
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        start(t, op);
        step(t);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        wait_for_count(t, &signals);
        CHECK(signal_value == t);
        collect(t, op);
    }
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
}

static _Atomic int calls;
static _Atomic pthread_t caller;

static void on_call(void *value)
{
    caller = pthread_self();
    *(_Atomic int *)value += 1;
}

static void a_thread_calls(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    set_notify(t,
               (ouro_notify){ .kind = OURO_NOTIFY_THREAD, .fn = on_call, .value = (void *)&calls });
    for (int i = 0; i < 10; i++) {
        calls = 0;
        ouro_prep_read(op, fds[0], &byte, 1, 0);
        start(t, op);
        step(t);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        wait_for_count(t, &calls);
        CHECK(!pthread_equal(caller, pthread_self()));
        collect(t, op);
    }
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_NONE });
}

static void bad_notifications_are_refused(struct test *t)
{
    ouro_notify notify = { .size = sizeof notify, .kind = 77 };

    CHECK_EQ(ouro_set_notify(t->loop, &notify), -EINVAL);
    notify.kind = OURO_NOTIFY_EVENTFD;
    notify.fd = -1;
    CHECK_EQ(ouro_set_notify(t->loop, &notify), -EBADF);
    notify.kind = OURO_NOTIFY_SIGNAL;
    notify.signo = 5000;
    CHECK_EQ(ouro_set_notify(t->loop, &notify), -EINVAL);
    notify.size = 3;
    CHECK_EQ(ouro_set_notify(t->loop, &notify), -EINVAL);
}

#define CALLBACKS .fixed = FIX_STYLE | FIX_FD, .needs = NEED_DRIVER
#define EVENTS .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP
static const struct test_case cases[] = {
    { NAMED(idle_loops_have_no_deadline_and_are_not_readable), CALLBACKS, .pitfalls = "C3" },
    { NAMED(what_is_not_flushed_wants_a_dispatch_now), CALLBACKS },
    { NAMED(the_next_deadline_is_the_nearest), CALLBACKS },
    { NAMED(it_becomes_readable_when_something_completes), CALLBACKS, .pitfalls = "C3" },
    { NAMED(what_has_ended_wakes_the_host), EVENTS, .needs = NEED_DRIVER, .pitfalls = "C3" },
    { NAMED(a_crowd_is_served_to_the_last), CALLBACKS },
    { NAMED(a_worker_makes_it_readable), CALLBACKS, .pitfalls = "C3" },
    { NAMED(a_post_and_a_wake_make_it_readable), CALLBACKS, .pitfalls = "C3 R13" },
    { NAMED(dispatch_runs_at_most_so_many_callbacks), CALLBACKS, .pitfalls = "C11" },
    { NAMED(uncollected_events_do_not_ask_for_dispatch), .fixed = FIX_STYLE | FIX_FD,
      .style = STYLE_REAP, .needs = NEED_DRIVER },
    { NAMED(an_eventfd_is_written), EVENTS },
    { NAMED(a_timer_notifies_too), EVENTS },
    { NAMED(a_signal_is_queued), EVENTS },
    { NAMED(a_thread_calls), EVENTS },
    { NAMED(bad_notifications_are_refused), EVENTS },
    { .name = NULL },
};
const struct subject subject_hosting = { "hosting", cases };

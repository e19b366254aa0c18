/* SPDX-License-Identifier: MIT */
/* t_threads.c: several threads and one loop: posts, wakeups, messages, waiters that lead and
 * follow. */
#include <poll.h>
#include <sched.h>
#include <signal.h>

#include "test.h"

enum { THREADS_MAX = 8 };

static void spawn(pthread_t *threads, unsigned count, void *(*fn)(void *), void *args, size_t size)
{
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, fn, (char *)args + i * size), 0);
}

static void join(pthread_t *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Posts --------------------------------------------------------------------------------- */

enum { POSTS = 400 };
struct poster {
    struct test *t;
    ouro_op *ops[POSTS];
};

static void *post_many(void *arg)
{
    struct poster *poster = arg;

    for (int i = 0; i < POSTS; i++)
        CHECK_EQ(start_post(poster->t, poster->ops[i]), 0);
    return NULL;
}

static void posts_of_four_threads_all_complete(struct test *t)
{
    static struct poster posters[4];
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        posters[i].t = t;
        for (int k = 0; k < POSTS; k++)
            ouro_prep_nop(posters[i].ops[k] = op_new(t));
    }
    spawn(threads, 4, post_many, posters, sizeof *posters);
    wait_completions(t, 4 * POSTS);
    join(threads, 4);
    finish_all(t);
}

struct one_post {
    struct test *t;
    ouro_op *op;
    ouro_id id;
    int r;
};

static void *post_one(void *arg)
{
    struct one_post *one = arg;

    one->r = start_post(one->t, one->op);
    return NULL;
}

static void a_post_wakes_the_sleeping_driver(struct test *t)
{
    for (unsigned i = 0; i < 20; i++) {
        struct one_post one = { t, op_new(t), 0, 0 };
        pthread_t thread;

        ouro_prep_nop(one.op);
        spawn(&thread, 1, post_one, &one, sizeof one);
        wait_completions(t, i + 1); /* by the post alone */
        join(&thread, 1);
        CHECK_EQ(one.r, 0);
        CHECK_EQ(finish(t, one.op), 0);
    }
}

static void a_post_is_checked_like_a_submit(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    ouro_prep_read(op, -1, &byte, 1, 0);
    CHECK_EQ(start_post(t, op), -EBADF);
    ouro_prep_read(op, 0, NULL, 1, 0);
    CHECK_EQ(start_post(t, op), -EFAULT);
    ouro_prep_nop(op);
    op->flags = 1u << 30;
    CHECK_EQ(start_post(t, op), -EINVAL);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    CHECK_EQ(start_post(t, op), 0);
    CHECK_EQ(start_post(t, op), -EBUSY);
    CHECK_EQ(write(fds[1], "p", 1), 1);
    CHECK_EQ(finish(t, op), 1);
}

static void *post_and_cancel(void *arg)
{
    struct one_post *one = arg;

    ledger_offer(one->op);
    one->op->cb = NULL;
    one->r = ouro_post(one->t->loop, one->op, &one->id);
    ledger_answer(one->t, one->op, one->r >= 0);
    CHECK(one->id != 0);
    CHECK_EQ(ouro_cancel_id(one->t->loop, one->id), 0);
    return NULL;
}

static void a_posted_operation_is_cancelled_by_its_poster(struct test *t)
{
    for (unsigned i = 0; i < 50; i++) {
        struct one_post one = { t, op_new(t), 0, 0 };
        pthread_t thread;
        char byte;
        int fds[2];

        CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
        ouro_prep_read(one.op, fds[0], &byte, 1, 0);
        spawn(&thread, 1, post_and_cancel, &one, sizeof one);
        wait_completions(t, i + 1);
        join(&thread, 1);
        CHECK_EQ(RES(one.op), -ECANCELED);
        close(fds[0]);
        close(fds[1]);
    }
}

/* ---- Wakeups ------------------------------------------------------------------------------- */

static void *wake_it(void *arg)
{
    ouro_wake(((struct test *)arg)->loop);
    return NULL;
}

static void wake_ends_this_or_the_next_run(struct test *t)
{
    pthread_t thread;

    for (int i = 0; i < 20; i++) {
        spawn(&thread, 1, wake_it, t, sizeof *t);
        CHECK_EQ(ouro_run(t->loop, 1, OURO_FOREVER), 0);
        join(&thread, 1);
    }
    ouro_wake(t->loop);
    CHECK_EQ(ouro_run(t->loop, 1, OURO_FOREVER), 0);
}

/* The engine may be waiting for several completions together. */
static void wake_ends_a_run_that_awaits_many(struct test *t)
{
    enum { COUNT = 4 };
    ouro_op *ops[COUNT];
    pthread_t thread;
    char bytes[COUNT];
    int fds[COUNT][2];

    for (int i = 0; i < COUNT; i++) {
        make_pipe(t, fds[i]);
        ouro_prep_read(ops[i] = op_new(t), fds[i][0], &bytes[i], 1, 0);
        start(t, ops[i]);
    }
    for (int i = 0; i < 20; i++) {
        spawn(&thread, 1, wake_it, t, sizeof *t);
        CHECK_EQ(ouro_run(t->loop, COUNT, OURO_FOREVER), 0);
        join(&thread, 1);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(write(fds[i][1], "x", 1), 1);
    CHECK_EQ(ouro_run(t->loop, COUNT, OURO_FOREVER), COUNT);
    finish_all(t);
}

static void wake_ends_a_wait_with_eintr(struct test *t)
{
    ouro_op *op = op_new(t);
    pthread_t thread;

    ouro_prep_timer(op, in_ms(t, 3600000));
    start(t, op);
    spawn(&thread, 1, wake_it, t, sizeof *t);
    CHECK_EQ(ouro_wait(t->loop, op, OURO_FOREVER), -EINTR);
    join(&thread, 1);
    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    CHECK_EQ(finish(t, op), -ECANCELED);
}

static struct test *woken_by_signal;

static void wake_on_signal(int signo)
{
    (void)signo;
    ouro_wake(woken_by_signal->loop); /* NOLINT(bugprone-signal-handler): it promises to be safe */
}

static void a_signal_handler_wakes(struct test *t)
{
    woken_by_signal = t;
    signal(SIGUSR1, wake_on_signal);
    raise(SIGUSR1);
    CHECK_EQ(ouro_run(t->loop, 1, OURO_FOREVER), 0);
}

/* ---- Messages ------------------------------------------------------------------------------ */

static void a_message_to_itself_arrives(struct test *t)
{
    ouro_op *ops[10];

    for (int i = 0; i < 10; i++) {
        ouro_prep_message(ops[i] = op_new(t), t->loop, -5 - i);
        start(t, ops[i]);
    }
    wait_completions(t, 20);
    finish_all(t);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(RES(ops[i]), 0);
        CHECK_EQ(t->words[i], -5 - i);
    }
}

struct receiver {
    struct test *t;
    ouro_loop *loop;
    pthread_barrier_t ready;
    unsigned count;
};

static void *receive_messages(void *arg)
{
    struct receiver *receiver = arg;
    ouro_config config;

    config_for(receiver->t, &config);
    CHECK_EQ(ouro_open(&config, &receiver->loop), 0);
    pthread_barrier_wait(&receiver->ready);
    while (receiver->count < 1000) {
        ouro_event event;

        CHECK(ouro_run(receiver->loop, 1, OURO_FOREVER) >= 0);
        while (ouro_reap(receiver->loop, &event, 1) == 1) {
            CHECK(event.op == NULL && event.cflags == OURO_C_MESSAGE);
            CHECK_EQ(event.res, receiver->count);
            receiver->count++;
        }
    }
    pthread_barrier_wait(&receiver->ready);
    CHECK_EQ(ouro_close(receiver->loop, OURO_FOREVER), 0);
    return NULL;
}

static void messages_to_another_thread_arrive_in_order(struct test *t)
{
    struct receiver receiver = { .t = t };
    ouro_op *op = op_new(t);
    pthread_t thread;

    pthread_barrier_init(&receiver.ready, NULL, 2);
    spawn(&thread, 1, receive_messages, &receiver, sizeof receiver);
    pthread_barrier_wait(&receiver.ready);
    for (int i = 0; i < 1000; i++) {
        ouro_prep_message(op, receiver.loop, i);
        CHECK_EQ(do_op(t, op), 0);
    }
    pthread_barrier_wait(&receiver.ready);
    join(&thread, 1);
    pthread_barrier_destroy(&receiver.ready);
}

static void a_message_to_a_loop_that_closes_is_epipe(struct test *t)
{
    ouro_loop *other;
    ouro_config config;
    ouro_op *op = op_new(t);

    config_for(t, &config);
    CHECK_EQ(ouro_open(&config, &other), 0);
    ouro_prep_message(op, other, 1);
    start(t, op);
    step(t);
    CHECK_EQ(ouro_close(other, t->limit), 0);
    finish(t, op);
    CHECK(RES(op) == -EPIPE || (t->mode == MODE_SERVICE && RES(op) == 0));
}

/* ---- Several waiters ----------------------------------------------------------------------- */

struct waiter {
    struct test *t;
    pthread_barrier_t *round;
    int fds[2];
    unsigned rounds;
    _Atomic unsigned done;
};

static void *wait_rounds(void *arg)
{
    struct waiter *waiter = arg;
    struct test *t = waiter->t;
    ouro_op *op = op_new(t);
    char byte;

    for (unsigned i = 0; i < waiter->rounds; i++) {
        ouro_prep_read(op, waiter->fds[0], &byte, 1, 0);
        start(t, op);
        pthread_barrier_wait(waiter->round);
        CHECK_EQ(ouro_wait(t->loop, op, OURO_FOREVER), 0);
        ledger_waited(t, op);
        CHECK_EQ(RES(op), 1);
        waiter->done++;
    }
    return NULL;
}

/* No wait has a limit: a wakeup that is lost is a test that hangs. */
static void eight_waiters_get_one_completion_each(struct test *t)
{
    enum { ROUNDS = 500 };
    static struct waiter waiters[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    pthread_barrier_t round;

    pthread_barrier_init(&round, NULL, THREADS_MAX + 1);
    for (int i = 0; i < THREADS_MAX; i++) {
        waiters[i].t = t;
        waiters[i].round = &round;
        waiters[i].rounds = ROUNDS;
        make_pipe(t, waiters[i].fds);
    }
    spawn(threads, THREADS_MAX, wait_rounds, waiters, sizeof *waiters);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&round);
        for (unsigned k = 0; k < THREADS_MAX; k++)
            CHECK_EQ(write(waiters[(k * 5 + i) % THREADS_MAX].fds[1], "w", 1), 1);
    }
    join(threads, THREADS_MAX);
    pthread_barrier_destroy(&round);
    for (int i = 0; i < THREADS_MAX; i++)
        CHECK_EQ(waiters[i].done, ROUNDS);
}

static void *nop_rounds(void *arg)
{
    struct waiter *waiter = arg;
    ouro_op *op = op_new(waiter->t);

    for (unsigned i = 0; i < waiter->rounds; i++) {
        ouro_prep_nop(op);
        start(waiter->t, op);
        CHECK_EQ(ouro_wait(waiter->t->loop, op, OURO_FOREVER), 0);
        ledger_waited(waiter->t, op);
    }
    return NULL;
}

static void eight_threads_submit_and_wait_at_once(struct test *t)
{
    static struct waiter waiters[THREADS_MAX];
    pthread_t threads[THREADS_MAX];

    for (int i = 0; i < THREADS_MAX; i++) {
        waiters[i].t = t;
        waiters[i].rounds = 3000;
    }
    spawn(threads, THREADS_MAX, nop_rounds, waiters, sizeof *waiters);
    join(threads, THREADS_MAX);
}

struct sleeper {
    struct test *t;
    ouro_op *op;
};

static void *wait_for_op(void *arg)
{
    struct sleeper *sleeper = arg;

    CHECK_EQ(ouro_wait(sleeper->t->loop, sleeper->op, OURO_FOREVER), 0);
    ledger_waited(sleeper->t, sleeper->op);
    return NULL;
}

static void a_nearer_deadline_wakes_the_leader(struct test *t)
{
    struct sleeper far = { t, op_new(t) };
    ouro_op *near = op_new(t);
    pthread_t thread;

    ouro_prep_timer(far.op, in_ms(t, 3600000));
    start(t, far.op);
    spawn(&thread, 1, wait_for_op, &far, sizeof far);
    for (int i = 0; i < 20; i++) {
        ouro_prep_timer(near, in_ms(t, 2));
        start(t, near);
        CHECK_EQ(ouro_wait(t->loop, near, OURO_FOREVER), 0);
        ledger_waited(t, near);
        CHECK_EQ(RES(near), 0);
    }
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(far.op)), 0);
    join(&thread, 1);
    CHECK_EQ(RES(far.op), -ECANCELED);
}

/* The leader's own wait ends first: somebody else must lead, or the other one never hears. */
static void leadership_is_handed_on(struct test *t)
{
    enum { ROUNDS = 200 };
    int a[2], b[2];
    char byte_a, byte_b;

    make_pipe(t, a);
    make_pipe(t, b);
    for (int i = 0; i < ROUNDS; i++) {
        struct sleeper sleepers[2] = { { t, op_new(t) }, { t, op_new(t) } };
        pthread_t threads[2];

        ouro_prep_read(sleepers[0].op, a[0], &byte_a, 1, 0);
        ouro_prep_read(sleepers[1].op, b[0], &byte_b, 1, 0);
        start(t, sleepers[0].op);
        start(t, sleepers[1].op);
        spawn(threads, 2, wait_for_op, sleepers, sizeof *sleepers);
        CHECK_EQ(write(i & 1 ? a[1] : b[1], "1", 1), 1);
        pthread_join(threads[i & 1 ? 0 : 1], NULL);
        CHECK_EQ(write(i & 1 ? b[1] : a[1], "2", 1), 1);
        pthread_join(threads[i & 1 ? 1 : 0], NULL);
    }
}

static void *start_and_leave(void *arg)
{
    struct sleeper *sleeper = arg;

    start(sleeper->t, sleeper->op);
    CHECK_EQ(ouro_flush(sleeper->t->loop), 0);
    return NULL;
}

static void operations_outlive_the_thread_that_submitted(struct test *t)
{
    struct sleeper sleepers[3] = { { t, op_new(t) }, { t, op_new(t) }, { t, op_new(t) } };
    pthread_t threads[3];
    char bytes[2];
    int a[2], b[2];

    make_pipe(t, a);
    make_socketpair(t, b);
    ouro_prep_read(sleepers[0].op, a[0], &bytes[0], 1, 0);
    ouro_prep_read(sleepers[1].op, b[0], &bytes[1], 1, 0);
    ouro_prep_poll(sleepers[2].op, b[0], POLLIN);
    spawn(threads, 3, start_and_leave, sleepers, sizeof *sleepers);
    join(threads, 3);
    CHECK_EQ(write(a[1], "a", 1), 1);
    CHECK_EQ(finish(t, sleepers[0].op), 1);
    CHECK_EQ(write(b[1], "bb", 2), 2);
    CHECK_EQ(finish(t, sleepers[1].op), 1);
    CHECK_EQ(finish(t, sleepers[2].op), POLLIN);
}

static void callbacks_of_a_service_run_on_its_thread(struct test *t)
{
    ouro_op *op = op_new(t);

    record_of(op)->own_cb = true;
    ouro_prep_nop(op);
    start(t, op);
    finish(t, op);
    if (t->mode == MODE_SERVICE)
        CHECK(!pthread_equal(record_of(op)->thread, pthread_self()));
    else
        CHECK(pthread_equal(record_of(op)->thread, pthread_self()));
}

static int64_t read_signal_mask(void *arg)
{
    return pthread_sigmask(SIG_SETMASK, NULL, arg);
}

static void threads_of_the_library_take_no_signals(struct test *t)
{
    ouro_op *op = op_new(t);
    sigset_t set, before, after;

    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (int i = 0; i < 2; i++) {
        sigemptyset(&set);
        ouro_prep_work(op, read_signal_mask, &set);
        op->flags = i ? OURO_BG : 0;
        CHECK_EQ(do_op(t, op), 0);
        for (int signo = 1; signo < 32; signo++)
            if (signo != SIGKILL && signo != SIGSTOP)
                CHECK(sigismember(&set, signo));
    }
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signo = 1; signo < 32; signo++)
        CHECK_EQ(sigismember(&before, signo), sigismember(&after, signo));
}

static void *drive_elsewhere(void *arg)
{
    ouro_op op = { 0 };

    for (int i = 0; i < 10; i++) {
        ouro_prep_timer(&op, ouro_now(arg) + OURO_MS);
        CHECK_EQ(ouro_do(arg, &op), 0);
    }
    CHECK_EQ(ouro_close(arg, OURO_FOREVER), 0);
    return NULL;
}

/* Owned by the first that submits or runs, not by who opened it. */
static void a_loop_is_opened_here_and_driven_there(struct test *t)
{
    ouro_loop *loop;
    pthread_t thread;

    CHECK_EQ(ouro_open(&t->config, &loop), 0);
    CHECK_EQ(pthread_create(&thread, NULL, drive_elsewhere, loop), 0);
    join(&thread, 1);
}

static void no_thread_before_one_is_needed(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_nop(op);
    do_op(t, op);
    ouro_prep_timer(op, in_ms(t, 1));
    do_op(t, op);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    do_op(t, op);
    CHECK_EQ(count_threads(), t->threads_before);
}

/* ---- Threads that are cancelled ------------------------------------------------------------ */

struct victim {
    struct test *t;
    ouro_op *op, *timer;
    int fds[2];
    char byte;
    pthread_t thread;
    atomic_bool back;
    struct victim *other; /* the main thread closes the loop when that one is back, too */
};

/* Everything here is called with a cancel of the thread pending, most of it inside of a sleep. */
static void *sleep_and_be_cancelled(void *arg)
{
    struct victim *victim = arg;
    ouro_loop *loop = victim->t->loop;

    CHECK_EQ(ouro_wait(loop, victim->op, victim->t->limit), 0);
    while (!ouro_done(victim->timer))
        CHECK(ouro_run(loop, 2, in_ms(victim->t, 2)) >= 0);
    CHECK_EQ(ouro_wait(loop, victim->timer, OURO_NOWAIT), 0);
    if (victim->other) {
        while (!victim->other->back)
            sched_yield(); /* no point of cancellation, as a sleep is */
        CHECK_EQ(ouro_close(loop, victim->t->limit), 0);
    }
    victim->back = true;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    ledger_waited(victim->t, victim->op);
    ledger_waited(victim->t, victim->timer);
    return NULL;
}

static void prepare_victim(struct test *t, struct victim *victim)
{
    *victim = (struct victim){ .t = t, .op = op_new(t), .timer = op_new(t) };
    make_pipe(t, victim->fds);
    ouro_prep_read(victim->op, victim->fds[0], &victim->byte, 1, 0);
    ouro_prep_timer(victim->timer, in_ms(t, 60));
    start(t, victim->op);
    start(t, victim->timer);
}

struct canceller {
    pthread_t main;
    struct victim *victims;
    unsigned count;
};

/* The main thread would take the process along, with status 0. */
static void *cancel_victims(void *arg)
{
    struct canceller *canceller = arg;

    usleep(20000);
    for (unsigned i = 0; i < canceller->count; i++) {
        struct victim *victim = &canceller->victims[i];

        CHECK_EQ(pthread_cancel(i ? victim->thread : canceller->main), 0);
        usleep(2000);
        CHECK_EQ(write(victim->fds[1], "x", 1), 1);
    }
    for (unsigned i = canceller->count; i--;)
        for (unsigned ms = 0; !canceller->victims[i].back; ms++, usleep(1000))
            if (ms == seconds_scaled(5) * 1000)
                FAIL("a call that a cancel of its thread came upon did not return");
    return NULL;
}

/* Of calls that a cancel could end, none would give back its lock, or leave the list of waiters. */
static void no_call_ends_by_a_cancel_of_its_thread(struct test *t)
{
    static struct victim victims[2];
    struct canceller canceller = { pthread_self(), victims, t->mode == MODE_OWNED ? 1 : 2 };
    ouro_op *file = op_new(t);
    pthread_t thread;
    void *end;

    ouro_prep_read(file, make_file(t, "f", "x", 1), &victims[0].byte, 1, 0);
    file->flags = OURO_BG; /* a worker, which the close joins */
    CHECK_EQ(do_op(t, file), 1);
    for (unsigned i = 0; i < canceller.count; i++)
        prepare_victim(t, &victims[i]);
    victims[0].other = &victims[1];
    victims[1].back = canceller.count == 1;
    if (canceller.count > 1)
        spawn(&victims[1].thread, 1, sleep_and_be_cancelled, &victims[1], sizeof *victims);
    spawn(&thread, 1, cancel_victims, &canceller, sizeof canceller);
    (void)sleep_and_be_cancelled(&victims[0]);
    t->loop = NULL;
    join(&thread, 1);
    if (canceller.count > 1)
        CHECK_EQ(pthread_join(victims[1].thread, &end), 0);
}

#define FIX_AS(what) .fixed = FIX_STYLE, .style = STYLE_##what
static const struct test_case cases[] = {
    { NAMED(posts_of_four_threads_all_complete), .fixed = FIX_FD, .pitfalls = "K15 R13" },
    { NAMED(a_post_wakes_the_sleeping_driver), .fixed = FIX_FD, .pitfalls = "C9 K15 R13" },
    { NAMED(a_post_is_checked_like_a_submit) },
    { NAMED(a_posted_operation_is_cancelled_by_its_poster), FIX_AS(REAP) },
    { NAMED(wake_ends_this_or_the_next_run), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .pitfalls = "C9" },
    { NAMED(wake_ends_a_run_that_awaits_many), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP,
      .pitfalls = "C9" },
    { NAMED(wake_ends_a_wait_with_eintr), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_WAIT },
    { NAMED(a_signal_handler_wakes), .faults = "11", .fixed = FIX_STYLE | FIX_FD,
      .style = STYLE_REAP },
    { NAMED(a_message_to_itself_arrives), .fixed = FIX_STYLE | FIX_FD, .style = STYLE_REAP },
    { NAMED(messages_to_another_thread_arrive_in_order), .fixed = FIX_FD, .pitfalls = "R13" },
    { NAMED(a_message_to_a_loop_that_closes_is_epipe), .fixed = FIX_FD, .pitfalls = "R13" },
    { NAMED(eight_waiters_get_one_completion_each), FIX_AS(WAIT), .needs = NEED_THREADS,
      .seconds = 30 },
    { NAMED(eight_threads_submit_and_wait_at_once), .fixed = FIX_STYLE | FIX_FD,
      .style = STYLE_WAIT, .needs = NEED_THREADS, .seconds = 30 },
    { NAMED(a_nearer_deadline_wakes_the_leader), FIX_AS(WAIT), .needs = NEED_THREADS },
    { NAMED(leadership_is_handed_on), FIX_AS(WAIT), .needs = NEED_THREADS, .seconds = 30 },
    { NAMED(operations_outlive_the_thread_that_submitted), .faults = "12", .needs = NEED_THREADS,
      .pitfalls = "R5" },
    { NAMED(callbacks_of_a_service_run_on_its_thread), .fixed = FIX_STYLE | FIX_FD },
    { NAMED(threads_of_the_library_take_no_signals), .fixed = FIX_FD, .pitfalls = "R14" },
    { NAMED(a_loop_is_opened_here_and_driven_there), .fixed = FIX_STYLE | FIX_FD, .no_loop = true,
      .pitfalls = "K16" },
    { NAMED(no_thread_before_one_is_needed), .fixed = FIX_MASK, .needs = NEED_DRIVER },
    { NAMED(no_call_ends_by_a_cancel_of_its_thread), .faults = "12", .fixed = FIX_STYLE | FIX_FD,
      .style = STYLE_WAIT },
    { .name = NULL },
};
const struct subject subject_threads = { "threads", cases };

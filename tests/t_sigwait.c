/* SPDX-License-Identifier: MIT */
/* t_sigwait.c: operations that take signals: each signal once, none lost, and none taken that was
 * not asked for. */
#include <signal.h>
#include <sys/wait.h>

#include "sys.h"
#include "test.h"

#define FIRST SIGRTMIN
#define BIT OURO_SIGNAL_BIT

/* As a program must: before there is another thread that could get them. */
static void block(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGCHLD);
    for (int i = 0; i < 4; i++)
        sigaddset(&set, FIRST + i);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
}

static void raise_with(int signo, int value)
{
    CHECK_EQ(sigqueue(getpid(), signo, (union sigval){ .sival_ptr = (void *)(intptr_t)value }), 0);
}

static bool pending(int signo)
{
    sigset_t set;

    sigpending(&set);
    return sigismember(&set, signo) > 0;
}

static void take(int signo)
{
    static const struct timespec none;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signo);
    CHECK_EQ(sigtimedwait(&set, NULL, &none), signo);
}

static void a_signal_completes_who_waits_for_it(struct test *t)
{
    ouro_op *op = op_new(t);
    struct ouro_signal got = { 0 };

    block();
    for (int i = 0; i < 3; i++) {
        ouro_prep_signal(op, BIT(SIGUSR1) | BIT(FIRST + 1), &got);
        start(t, op);
        let_pass(t);
        CHECK(!is_final(op));
        raise_with(SIGUSR2, 1); /* not his */
        let_pass(t);
        CHECK(!is_final(op));
        raise_with(FIRST + 1, 77 + i);
        CHECK_EQ(finish(t, op), FIRST + 1);
        CHECK_EQ(got.signo, FIRST + 1);
        CHECK_EQ(got.value, 77 + i);
        CHECK_EQ(got.pid, getpid());
        CHECK_EQ(got.uid, getuid());
        CHECK_EQ(got.code, SI_QUEUE);
        CHECK(pending(SIGUSR2));
    }
    ouro_prep_signal(op, BIT(SIGUSR2), NULL); /* was there before */
    CHECK_EQ(do_op(t, op), SIGUSR2);
    CHECK(!pending(SIGUSR2));
}

static void the_end_of_a_child_is_told(struct test *t)
{
    ouro_op *op = op_new(t);
    struct ouro_signal got;
    pid_t child;

    block();
    ouro_prep_signal(op, BIT(SIGCHLD), &got);
    start(t, op);
    child = fork();
    CHECK(child >= 0);
    if (!child)
        _exit(7);
    CHECK_EQ(finish(t, op), SIGCHLD);
    CHECK_EQ(got.pid, child);
    CHECK_EQ(got.status, 7);
    CHECK_EQ(got.code, CLD_EXITED);
    CHECK_EQ(waitpid(child, NULL, 0), child);
}

static void who_stops_waiting_takes_none(struct test *t)
{
    ouro_op *op = op_new(t);

    block();
    for (int i = 0; i < 3; i++) {
        ouro_prep_signal(op, BIT(SIGUSR1), NULL);
        start(t, op);
        if (i)
            let_pass(t);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        finish_canceled(t, op);
        op->deadline = in_ms(t, 20);
        CHECK_EQ(do_op(t, op), -ETIMEDOUT);
        raise_with(SIGUSR1, 0);
        let_pass(t);
        CHECK(pending(SIGUSR1));
        take(SIGUSR1);
    }
}

/* Without a descriptor a worker waits. */
static long no_signalfd(uint64_t signals, int flags)
{
    (void)signals, (void)flags;
    return -EMFILE;
}

static void no_descriptor_is_needed(struct test *t)
{
    ouro_op *op = op_new(t), *other = op_new(t);
    struct ouro_signal got = { 0 };

    block();
    ouro__sys.signalfd = no_signalfd;
    for (int i = 0; i < 3; i++) {
        ouro_prep_signal(op, BIT(SIGUSR1), &got);
        ouro_prep_signal(other, BIT(SIGUSR2), NULL);
        start(t, op);
        start(t, other);
        let_pass(t);
        CHECK(!is_final(op));
        raise_with(SIGUSR1, 5);
        CHECK_EQ(finish(t, op), SIGUSR1);
        CHECK_EQ(got.value, 5);
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(other)), 0);
        finish_canceled(t, other);
    }
}

/* ---- Many ------------------------------------------------------------------------------------ */

static struct {
    pthread_mutex_t lock;
    unsigned count;
    int signos[256];
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void taken(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK(!data);
    pthread_mutex_lock(&seen.lock);
    CHECK(seen.count < 256);
    seen.signos[seen.count++] = (int)res;
    pthread_mutex_unlock(&seen.lock);
}

static unsigned count_seen(void)
{
    unsigned count;

    pthread_mutex_lock(&seen.lock);
    count = seen.count;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static void await(struct test *t, unsigned count)
{
    while (count_seen() < count) {
        CHECK(ouro_now(t->loop) < t->limit);
        step(t);
        reap_all(t);
        usleep(100);
    }
}

/* Real-time signals are queued: each is one completion. */
static void each_of_many_signals_is_one_completion(struct test *t)
{
    ouro_op *op = op_new(t);
    unsigned counts[2] = { 0 };

    block();
    record_of(op)->more = taken;
    ouro_prep_signal_many(op, BIT(FIRST) | BIT(FIRST + 1));
    start(t, op);
    for (unsigned i = 0; i < 100; i++) {
        raise_with(FIRST + (int)(i % 2), 0);
        if (i % 10 == 0)
            step(t);
        if (i == 50)
            await(t, 51);
    }
    raise_with(FIRST + 2, 0);
    await(t, 100);
    let_pass(t);
    CHECK_EQ(count_seen(), 100);
    CHECK(!is_final(op));
    for (unsigned i = 0; i < 100; i++) {
        CHECK(seen.signos[i] == FIRST || seen.signos[i] == FIRST + 1);
        counts[seen.signos[i] - FIRST]++;
    }
    CHECK_EQ(counts[0], 50);
    CHECK_EQ(counts[1], 50);
    CHECK(pending(FIRST + 2));
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_pass(t);
    raise_with(FIRST, 0);
    let_pass(t);
    CHECK_EQ(count_seen(), 100);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    await(t, 101);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
    raise_with(FIRST, 0);
    let_pass(t);
    CHECK(pending(FIRST));
}

/* What two wait for, one gets, and the other one goes on waiting. */
static void two_share_what_comes(struct test *t)
{
    ouro_op *a = op_new(t), *b = op_new(t);

    block();
    ouro_prep_signal(a, BIT(FIRST), NULL);
    ouro_prep_signal(b, BIT(FIRST) | BIT(SIGUSR1), NULL);
    start(t, a);
    start(t, b);
    let_pass(t);
    raise_with(FIRST, 0);
    while (!ouro_done(a) && !ouro_done(b)) {
        CHECK(ouro_now(t->loop) < t->limit);
        let_pass(t);
    }
    let_pass(t);
    CHECK(ouro_done(a) != ouro_done(b));
    raise_with(FIRST, 0);
    CHECK_EQ(finish(t, a), FIRST);
    CHECK_EQ(finish(t, b), FIRST);
}

static void bad_sets_are_refused(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_signal(op, 0, NULL);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_signal(op, BIT(SIGUSR1) | BIT(SIGKILL), NULL);
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_signal_many(op, BIT(SIGSTOP));
    CHECK_EQ(start_try(t, op), -EINVAL);
    ouro_prep_signal(op, BIT(32), NULL); /* the C library's own */
    CHECK_EQ(do_op(t, op), -EINVAL);
}

static const struct test_case cases[] = {
    { NAMED(a_signal_completes_who_waits_for_it) },
    { NAMED(the_end_of_a_child_is_told) },
    { NAMED(who_stops_waiting_takes_none) },
    { NAMED(no_descriptor_is_needed) },
    { NAMED(each_of_many_signals_is_one_completion) },
    { NAMED(two_share_what_comes) },
    { NAMED(bad_sets_are_refused) },
    { 0 },
};

const struct subject subject_sigwait = { "sigwait", cases };

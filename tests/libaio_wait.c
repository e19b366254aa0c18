/* SPDX-License-Identifier: MIT */
/* libaio_wait.c: how long io_getevents and io_pgetevents wait, and what signals do to them
 * (L19, L20). */
#include "libaio_test.h"

#include <sched.h>
#include <sys/time.h>

static struct iocb idle; /* a poll of a pipe in which nothing comes */
static int idle_fds[2];

/* A context in which something is in flight that does not end. */
static io_context_t busy_context(void)
{
    io_context_t context = context_of(64);

    CHECK(pipe(idle_fds) == 0);
    io_prep_poll(&idle, idle_fds[0], 1);
    CHECK(submit(context, &idle) == 1);
    return context;
}

static double time_of(io_context_t context, long min, struct timespec timeout, int wanted)
{
    struct io_event events[4];
    double start = now_s();

    CHECK(io_getevents(context, min, 4, events, &timeout) == wanted);
    return now_s() - start;
}

static void l19_a_timeout_is_waited_for(void)
{
    io_context_t contexts[] = { context_of(8), busy_context() };

    for (int i = 0; i < 2; i++) {
        double took = time_of(contexts[i], 1, (struct timespec){ 0, 100 * 1000000 }, 0);

        CHECK(took >= 0.1 && took < 1);
        took = time_of(contexts[i], 4, (struct timespec){ 0, 1200 * 1000000L }, 0);
        CHECK(took >= 1.2 && took < 2.2); /* more than 10^9 ns are so many */
        CHECK(time_of(contexts[i], 1, (struct timespec){ 0, 0 }, 0) < 0.05);
        CHECK(time_of(contexts[i], 1, (struct timespec){ 0, 1 }, 0) < 0.05);
    }
}

/* BETTER: the kernel waits for ever. */
static void l19_a_negative_timeout_is_over(void)
{
    io_context_t context = busy_context();

    alarm(2);
    CHECK(time_of(context, 1, (struct timespec){ -1, 0 }, 0) < 0.05);
    CHECK(time_of(context, 1, (struct timespec){ 0, -1 }, 0) < 0.05);
}

/* One of three is there, or two come while it waits: it has what there is when time is over. */
static void l19_less_than_the_least_when_time_is_over(void)
{
    io_context_t context = busy_context();
    int fd = file_of(4096, 0);
    struct io_event events[4];
    struct timespec timeout = { 0, 100 * 1000000 };
    struct iocb iocb;
    char bytes[10];

    io_prep_pread(&iocb, fd, bytes, 10, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(io_getevents(context, 3, 4, events, &timeout) == 1 && events[0].obj == &iocb);
    CHECK(submit(context, &iocb) == 1);
    CHECK(io_pgetevents(context, 3, 4, events, &timeout, NULL) == 1);
    check_empty(context);
}

static void *feed_later(void *arg)
{
    nap_ms(100);
    CHECK(write(*(int *)arg, "xy", 2) == 2);
    return NULL;
}

/* Waits with what is in flight of the kernel's. */
static void l19_an_event_ends_the_wait(void)
{
    io_context_t context = busy_context();
    struct io_event events[4];
    struct timespec hour = { 3600, 0 };
    pthread_t thread;
    double start = now_s();

    CHECK(pthread_create(&thread, NULL, feed_later, &idle_fds[1]) == 0);
    CHECK(io_getevents(context, 1, 4, events, &hour) == 1 && events[0].obj == &idle);
    CHECK(now_s() - start >= 0.09 && now_s() - start < 2);
    pthread_join(thread, NULL);
}

/* BETTER: the second request is one that io_submit would wait for. */
static void l19_events_of_both_kinds_end_the_wait(void)
{
    io_context_t context = busy_context();
    struct io_event events[4];
    struct iocb iocb;
    pthread_t threads[2];
    char byte;
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(pthread_create(&threads[0], NULL, feed_later, &fds[1]) == 0);
    CHECK(io_getevents(context, 1, 4, events, NULL) == 1 && events[0].obj == &iocb);
    CHECK(submit(context, &iocb) == 1); /* the second byte is there */
    CHECK(pthread_create(&threads[1], NULL, feed_later, &idle_fds[1]) == 0);
    CHECK(io_getevents(context, 2, 4, events, NULL) == 2);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static double cpu_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Neither while there is nothing, nor while something waits. BETTER: for a pipe. */
static void l19_who_waits_takes_no_time(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(4096, 0), fds[2];
    struct iocb iocb;
    char bytes[100];

    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 2; i++) {
        double before;

        io_prep_pread(&iocb, fd, bytes, sizeof(bytes), 0);
        CHECK(outcome(context, &iocb) == sizeof(bytes));
        before = cpu_s();
        nap_ms(400);
        CHECK(cpu_s() - before < 0.1);
        io_prep_pread(&iocb, fds[0], bytes, 1, 0);
        CHECK(i || submit(context, &iocb) == 1);
    }
}

/* ---- Signals (L20) -------------------------------------------------------------------------- */

static atomic_int handled;

static void count(int signo)
{
    (void)signo;
    handled++;
}

static void l20_a_signal_ends_the_wait_also_with_sa_restart(void)
{
    static const int flags[] = { 0, SA_RESTART };
    io_context_t context = busy_context();
    struct timespec hour = { 3600, 0 };
    struct io_event event;

    main_thread = pthread_self();
    for (int i = 0; i < 4; i++) {
        struct sigaction action = { .sa_handler = count, .sa_flags = flags[i % 2] };
        pthread_t thread;

        sigaction(SIGUSR1, &action, NULL);
        CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
        if (i < 2)
            CHECK(io_getevents(context, 1, 1, &event, i ? &hour : NULL) == -EINTR);
        else
            CHECK(io_pgetevents(context, 1, 1, &event, &hour, NULL) == -EINTR);
        CHECK(handled == i + 1);
        pthread_join(thread, NULL);
    }
}

/* BETTER: with a request in flight that io_submit would wait for. */
static void l20_a_signal_ends_the_wait_for_a_pipe(void)
{
    io_context_t context = context_of(8);
    struct sigaction action = { .sa_handler = count, .sa_flags = SA_RESTART };
    struct io_event event;
    pthread_t thread;
    struct iocb iocb;
    char byte;
    int fds[2];

    CHECK(pipe(fds) == 0);
    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
    CHECK(io_getevents(context, 1, 1, &event, NULL) == -EINTR && handled == 1);
    pthread_join(thread, NULL);
    CHECK(write(fds[1], "x", 1) == 1 && take(context, BY_CALL).obj == &iocb);
}

static void l20_a_signal_spoils_nothing_that_is_there(void)
{
    io_context_t context = busy_context();
    struct sigaction action = { .sa_handler = count };
    int fd = file_of(4096, 0);
    struct io_event events[4];
    pthread_t thread;
    struct iocb iocb;
    char bytes[10];

    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    io_prep_pread(&iocb, fd, bytes, 10, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
    CHECK(io_getevents(context, 2, 4, events, NULL) == 1 && events[0].obj == &iocb);
    CHECK(handled == 1);
    pthread_join(thread, NULL);
}

/* One that is pending already is let through for the wait alone, and not missed. */
static void l20_io_pgetevents_masks_signals_for_the_wait(void)
{
    io_context_t context = busy_context();
    struct sigaction action = { .sa_handler = count };
    struct timespec soon = { 0, 50 * 1000000 }, hour = { 3600, 0 };
    struct io_event event;
    sigset_t usr1, none, now;

    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    raise(SIGUSR1);
    CHECK(io_pgetevents(context, 1, 1, &event, &soon, NULL) == 0 && handled == 0);
    CHECK(io_pgetevents(context, 1, 1, &event, &hour, &none) == -EINTR && handled == 1);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1) == 1);
}

static void l20_io_pgetevents_blocks_signals_for_the_wait(void)
{
    io_context_t context = busy_context();
    struct sigaction action = { .sa_handler = count };
    struct timespec soon = { 0, 200 * 1000000 };
    struct io_event event;
    pthread_t thread;
    sigset_t usr1;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    main_thread = pthread_self();
    CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
    CHECK(io_pgetevents(context, 1, 1, &event, &soon, &usr1) == 0); /* all the time */
    CHECK(handled == 1);                                            /* behind it */
    pthread_join(thread, NULL);
}

/* Reads one after the other, and many at once, while signals come all the time: nothing is lost and
 * nothing comes twice. */
static void storm(int flags)
{
    enum { ROUNDS = 100, COUNT = 32 };
    struct itimerval timer = { { 0, 300 }, { 0, 300 } };
    struct sigaction action = { .sa_handler = count, .sa_flags = flags };
    io_context_t context = context_of(COUNT);
    static char bytes[COUNT][1000];
    struct iocb iocbs[COUNT], *list[COUNT];
    int fd = file_of(COUNT * 1000, 0);

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct io_event events[COUNT];
        unsigned seen = 0;
        int done = 0, r;

        for (int i = 0; i < COUNT; i++) {
            list[i] = &iocbs[i];
            io_prep_pread(list[i], fd, bytes[i], sizeof(bytes[i]), i * 1000);
        }
        while (done < COUNT) {
            r = io_submit(context, COUNT - done, list + done);
            CHECK(r > 0 || r == -EINTR);
            done += r > 0 ? r : 0;
        }
        for (int left = COUNT; left; left -= r > 0 ? r : 0) {
            r = io_getevents(context, left, left, events, NULL);
            CHECK(r > 0 || r == -EINTR);
            for (int i = 0; i < r; i++) {
                long which = events[i].obj - iocbs;

                CHECK(result_of(&events[i]) == 1000 && !(seen >> which & 1));
                CHECK(is_filled(bytes[which], 1000, which * 1000));
                seen |= 1u << which;
            }
        }
    }
    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
    CHECK(handled > 0);
    check_empty(context);
}

static void l20_a_storm_of_signals_spoils_nothing(void)
{
    storm(0);
    storm(SA_RESTART);
}

static void *read_later(void *arg)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    char byte;

    nap_ms(100);
    io_prep_pread(&iocb, *(int *)arg, &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(!take_within(context, BY_RING, 100, &event));
    return NULL;
}

/* Nothing that the first request has made belongs to who made it. On one processor what is made for
 * it does not begin before the request is there, and so does not wait for it yet. BETTER: io_submit
 * would wait. */
static void l20_the_first_request_interrupts_nobody(void)
{
    io_context_t context = busy_context();
    struct timespec soon = { 0, 300 * 1000000 };
    struct io_event event;
    struct iocb iocb;
    pthread_t thread;
    cpu_set_t one;
    char byte;
    int fds[2];

    alarm(10);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof(one), &one) == 0 && pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(pthread_create(&thread, NULL, read_later, &fds[0]) == 0);
    CHECK(raw_getevents(context, 1, 1, &event, &soon) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

struct sleeper {
    io_context_t context;
    atomic_int ready;
    atomic_bool back;
};

static void *sleep_and_come_back(void *arg)
{
    struct sleeper *sleeper = arg;
    struct timespec soon = { .tv_nsec = 100000000 };
    struct io_event event;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    sleeper->ready = 1;
    nap_ms(100); /* the cancel comes meanwhile */
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    CHECK(io_getevents(sleeper->context, 1, 1, &event, &soon) == 0);
    sleeper->back = true;
    return NULL;
}

/* BETTER: it waits for a pipe. The call is no cancellation point. */
static void l20_a_cancelled_thread_comes_back(void)
{
    struct sleeper sleeper = { .context = context_of(8) };
    struct iocb iocb;
    pthread_t thread;
    int fds[2];
    char byte;

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(sleeper.context, &iocb) == 1);
    CHECK(pthread_create(&thread, NULL, sleep_and_come_back, &sleeper) == 0);
    until(&sleeper.ready, 1);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(sleeper.back && io_destroy(sleeper.context) == 0);
}

const struct dropin_case wait_tests[] = {
    TEST(l19_a_timeout_is_waited_for),
    BETTER(l19_a_negative_timeout_is_over),
    TEST(l19_less_than_the_least_when_time_is_over),
    TEST(l19_an_event_ends_the_wait),
    BETTER(l19_events_of_both_kinds_end_the_wait),
    BETTER(l19_who_waits_takes_no_time),
    TEST(l20_a_signal_ends_the_wait_also_with_sa_restart),
    BETTER(l20_a_signal_ends_the_wait_for_a_pipe),
    TEST(l20_a_signal_spoils_nothing_that_is_there),
    TEST(l20_io_pgetevents_masks_signals_for_the_wait),
    TEST(l20_io_pgetevents_blocks_signals_for_the_wait),
    TEST(l20_a_storm_of_signals_spoils_nothing),
    BETTER(l20_the_first_request_interrupts_nobody),
    BETTER(l20_a_cancelled_thread_comes_back),
    { 0 },
};

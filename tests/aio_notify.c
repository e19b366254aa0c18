/* SPDX-License-Identifier: MIT */
/* aio_notify.c: signals and threads that tell of the end of a request (P34-P39). */
#include "aio_test.h"

#include <sys/resource.h>

static void p34_a_signal_brings_the_value(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = signalling(fd, &byte, SIGRTMIN + 3, 77);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    signalled = &block;
    for (int i = 1; i <= 100; i++) {
        CHECK(aio_read(&block) == 0);
        until(&signals, i);
        CHECK(last_value == 77 && aio_error(&block) == 0);
    }
    block.aio_sigevent.sigev_signo = 0;
    CHECK(aio_read(&block) == 0 && await(&block) == 0 && aio_return(&block) == 1);
    block.aio_sigevent.sigev_signo = 9999; /* BETTER: the result stays */
    CHECK(aio_read(&block) == 0 && await(&block) == 0 && aio_return(&block) == 1);
}

/* Of all processes of the user. */
static rlim_t signals_pending(void)
{
    char line[256];
    unsigned long count = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (fgets(line, sizeof(line), file))
        sscanf(line, "SigQ: %lu", &count);
    fclose(file);
    return count;
}

/* BETTER: glibc makes errors of 22 out of 30 good reads. */
static void p35_a_full_queue_of_signals_spoils_no_result(void)
{
    enum { COUNT = 30 };
    static struct aiocb blocks[COUNT];
    char byte;
    int fd = temp_file(0);
    struct rlimit limit;
    sigset_t set;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK(getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    limit.rlim_cur = signals_pending() + 10;
    CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = signalling(fd, &byte, SIGRTMIN, i);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && aio_return(&blocks[i]) == 1);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* those that had no room come after all */
    until(&signals, COUNT);
}

static atomic_int calls, masked, shielded, blocked_calls;
static void on_thread(union sigval value)
{
    sigset_t mask;
    int state;

    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    shielded += state != PTHREAD_CANCEL_ENABLE;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int signo = 1; signo < 32; signo++)
        masked += sigismember(&mask, signo);
    if (value.sival_int == 1) {
        blocked_calls++;
        nap_ms(3000);
    }
    calls++;
}

static struct aiocb calling(int fd, void *buf, int value)
{
    struct aiocb block = block_of(fd, buf, 1, 0);

    block.aio_sigevent.sigev_notify = SIGEV_THREAD;
    block.aio_sigevent.sigev_notify_function = on_thread;
    block.aio_sigevent.sigev_notify_attributes = NULL;
    block.aio_sigevent.sigev_value.sival_int = value;
    return block;
}

static void p36_a_function_that_waits_delays_no_other(void)
{
    enum { COUNT = 20 };
    static struct aiocb slow[COUNT], quick[COUNT];
    char byte;
    int fd = temp_file(0);
    pthread_attr_t attr;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < COUNT; i++) {
        slow[i] = calling(fd, &byte, 1);
        CHECK(aio_read(&slow[i]) == 0);
    }
    until(&blocked_calls, COUNT);
    pthread_attr_init(&attr); /* joinable ones are not left behind */
    for (int i = 0; i < COUNT; i++) {
        quick[i] = calling(fd, &byte, 0);
        if (i % 2)
            quick[i].aio_sigevent.sigev_notify_attributes = &attr;
        CHECK(aio_read(&quick[i]) == 0);
    }
    for (int i = 0; i < 2000 && calls < COUNT; i++)
        nap_ms(1);
    CHECK(calls == COUNT && masked == 0 && shielded == 0);
}

/* BETTER: glibc does not look whether there is a thread. */
static void p36_a_lack_of_threads_loses_no_call(void)
{
    struct rlimit limit, full;
    long pages = 0;
    struct aiocb block;
    char byte;
    int fds[2];
    FILE *file;

    CHECK(pipe(fds) == 0);
    block = calling(fds[0], &byte, 0);
    CHECK(aio_read(&block) == 0);
    file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    full = limit;
    full.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (64 << 10);
    CHECK(setrlimit(RLIMIT_AS, &full) == 0);
    CHECK(write(fds[1], "a", 1) == 1);
    nap_ms(300);
    CHECK(aio_error(&block) == 0 && setrlimit(RLIMIT_AS, &limit) == 0);
    until(&calls, 1);
}

static void p37_unknown_notifications_are_none(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, 0);

    block.aio_sigevent.sigev_notify = 4711;
    CHECK(pwrite(fd, "a", 1, 0) == 1 && aio_read(&block) == 0 && await(&block) == 0);
}

static int count_threads(void)
{
    char line[256];
    int count = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (fgets(line, sizeof(line), file))
        sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

static void p39_no_thread_before_the_first_request(void)
{
    char byte;
    int fd = temp_file(0);
    static struct aiocb never;

    CHECK(count_threads() == 1);
    CHECK(aio_error(&never) == 0);
    CHECK(count_threads() == 1);
    CHECK(read_by(fd, &byte, 1, 0) == 0);
}

const struct dropin_case notify_tests[] = {
    BETTER(p34_a_signal_brings_the_value),
    BETTER(p35_a_full_queue_of_signals_spoils_no_result),
    TEST(p36_a_function_that_waits_delays_no_other),
    BETTER(p36_a_lack_of_threads_loses_no_call),
    TEST(p37_unknown_notifications_are_none),
    TEST(p39_no_thread_before_the_first_request),
    { 0 },
};

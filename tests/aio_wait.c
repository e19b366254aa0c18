/* SPDX-License-Identifier: MIT */
/* aio_wait.c: aio_error and aio_return, and waiting in aio_suspend (P21-P29). */
#include "aio_test.h"

#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void p21_a_block_that_was_never_submitted_has_no_error(void)
{
    static struct aiocb block;

    CHECK(aio_error(&block) == 0 && aio_return(&block) == 0);
}

/* Of locks it says nothing: one that is free needs no system call either. */
static void p21_status_is_read_without_a_system_call(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };
    char byte;
    int fds[2], fd = temp_file(0);
    struct aiocb done = block_of(fd, &byte, 1, 0), waits;

    if (SANITIZED)
        _exit(SKIP_STATUS);
    CHECK(pipe(fds) == 0);
    waits = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&waits) == 0 && aio_read(&done) == 0 && await(&done) == 0);
    CHECK(aio_return(&done) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
    for (int i = 0; i < 100000; i++)
        CHECK(aio_error(&waits) == EINPROGRESS && aio_error(&done) == 0 && aio_return(&done) == 0);
}

static void p22_results_may_be_asked_for_again(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, 0);

    CHECK(pwrite(fd, "a", 1, 0) == 1 && aio_read(&block) == 0 && await(&block) == 0);
    CHECK(aio_return(&block) == 1 && aio_return(&block) == 1 && aio_error(&block) == 0);
}

/* Two threads: one submits, the other one knows nothing but aio_error. */
enum { SEEN_BLOCKS = 8, SEEN_SIZE = 512, SEEN_ROUNDS = 4000 };
static struct seen {
    struct aiocb block;
    char data[SEEN_SIZE];
    atomic_int round; /* submitted */
    atomic_int seen;
} seen[SEEN_BLOCKS];

static char pattern_of(int i, int round)
{
    return (char)(1 + (i + round) % 100);
}

static void *look_only(void *arg)
{
    for (int round = 1; round <= SEEN_ROUNDS; round++)
        for (int i = 0; i < SEEN_BLOCKS; i++) {
            struct seen *one = &seen[i];

            while (one->round < round)
                sched_yield();
            while (aio_error(&one->block) == EINPROGRESS)
                sched_yield();
            CHECK(aio_return(&one->block) == SEEN_SIZE);
            for (int at = 0; at < SEEN_SIZE; at++)
                CHECK(one->data[at] == pattern_of(i, round));
            one->seen = round;
        }
    return arg;
}

static void p23_who_sees_the_end_sees_the_bytes(void)
{
    char pattern[SEEN_SIZE];
    int fd = temp_file(0);
    pthread_t thread;

    for (int i = 0; i < 100; i++) {
        memset(pattern, 1 + i, SEEN_SIZE);
        CHECK(pwrite(fd, pattern, SEEN_SIZE, i * SEEN_SIZE) == SEEN_SIZE);
    }
    CHECK(pthread_create(&thread, NULL, look_only, NULL) == 0);
    for (int round = 1; round <= SEEN_ROUNDS; round++)
        for (int i = 0; i < SEEN_BLOCKS; i++) {
            struct seen *one = &seen[i];
            off_t offset = (off_t)(pattern_of(i, round) - 1) * SEEN_SIZE;

            while (one->seen < round - 1)
                sched_yield();
            memset(one->data, 0, SEEN_SIZE);
            one->block = block_of(fd, one->data, SEEN_SIZE, offset);
            CHECK(aio_read(&one->block) == 0);
            one->round = round;
        }
    CHECK(pthread_join(thread, NULL) == 0);
}

static void p24_the_private_fields_are_as_with_glibc(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, -1);

    _Static_assert(offsetof(struct aiocb, __error_code) == 112, "glibc's layout");
    _Static_assert(offsetof(struct aiocb, __return_value) == 120, "glibc's layout");
    CHECK(aio_read(&block) == 0 && await(&block) == EINVAL);
    CHECK(block.__error_code == EINVAL && block.__return_value == -1);
}

/* ---- aio_suspend ----------------------------------------------------------------------------- */

static void p25_suspend_returns_when_one_is_over(void)
{
    char byte;
    int fds[2], fd = temp_file(0);
    struct aiocb waits, done;
    static struct aiocb never;
    const struct aiocb *list[3] = { NULL, NULL, NULL };

    CHECK(aio_suspend(list, 3, NULL) == 0 && aio_suspend(list, 0, NULL) == 0);
    CHECK(aio_suspend(list, -1, NULL) == -1 && errno == EINVAL);
    list[1] = &never;
    CHECK(aio_suspend(list, 3, NULL) == 0);
    CHECK(pipe(fds) == 0 && pwrite(fd, "a", 1, 0) == 1);
    waits = block_of(fds[0], &byte, 1, 0);
    done = block_of(fd, &byte, 1, 0);
    CHECK(aio_read(&waits) == 0 && aio_read(&done) == 0);
    list[0] = &waits, list[1] = NULL, list[2] = &done;
    CHECK(aio_suspend(list, 3, NULL) == 0 && aio_error(&done) == 0);
    CHECK(write(fds[1], "x", 1) == 1 && await(&waits) == 0);
}

static void *write_later(void *fd)
{
    nap_ms(50);
    CHECK(write(*(int *)fd, "x", 1) == 1);
    return NULL;
}

static void p26_suspend_has_a_limit(void)
{
    char byte;
    int fds[2];
    pthread_t thread;
    struct aiocb block;
    const struct aiocb *list[] = { &block };
    struct timespec limit = { 0, 50000000 };
    double start;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    start = now_s();
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EAGAIN);
    CHECK(now_s() - start > 0.049);
    limit = (struct timespec){ 0, 0 };
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EAGAIN);
    limit = (struct timespec){ -1, 0 };
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EAGAIN);
    limit = (struct timespec){ 0, 2000000000 }; /* BETTER: glibc aborts */
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EINVAL);
    limit = (struct timespec){ LONG_MAX, 999999999 };
    CHECK(pthread_create(&thread, NULL, write_later, &fds[1]) == 0);
    CHECK(aio_suspend(list, 1, &limit) == 0 && aio_error(&block) == 0);
    pthread_join(thread, NULL);
}

/* BETTER: with glibc the time has come then. */
static void p26_a_limit_has_no_negative_nanoseconds(void)
{
    static const struct timespec bad[] = { { 0, -1 }, { 1, -1 }, { 0, LONG_MIN } };
    char byte;
    int fds[2];
    struct aiocb block;
    const struct aiocb *list[] = { &block };

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        CHECK(aio_suspend(list, 1, &bad[i]) == -1 && errno == EINVAL);
    CHECK(aio_error(&block) == EINPROGRESS && write(fds[1], "x", 1) == 1 && await(&block) == 0);
}

static void p27_signals_interrupt_suspend(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    const struct aiocb *list[] = { &block };
    struct timespec limit = { 10, 0 };
    struct sigaction action = { .sa_handler = on_nothing };
    pthread_t thread;

    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
        CHECK(aio_suspend(list, 1, i ? &limit : NULL) == -1 && errno == EINTR);
        pthread_join(thread, NULL);
    }
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pthread_create(&thread, NULL, send_signal, &fds[1]) == 0);
    CHECK(aio_suspend(list, 1, NULL) == 0 && aio_error(&block) == 0);
    pthread_join(thread, NULL);
}

/* BETTER: glibc keeps 40 bytes of stack for each. */
static void *suspend_many(void *arg)
{
    enum { COUNT = 250000 };
    const struct aiocb **list = malloc(COUNT * sizeof(*list));
    struct timespec limit = { 0, 10000000 };

    for (int i = 0; i < COUNT; i++)
        list[i] = arg;
    CHECK(aio_suspend(list, COUNT, &limit) == -1 && errno == EAGAIN);
    return NULL;
}

static void p28_suspend_needs_little_stack(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    pthread_attr_t attr;
    pthread_t thread;
    size_t least = PTHREAD_STACK_MIN; /* some machines have more than these 64 KiB */

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    pthread_attr_init(&attr);
    CHECK(pthread_attr_setstacksize(&attr, least > 65536 ? least : 65536) == 0);
    CHECK(pthread_create(&thread, &attr, suspend_many, &block) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* CPU time for each of a list, of which none ends: what it is at best. */
static double cost_of_suspend(const struct aiocb *const list[], int count)
{
    enum { TRIES = 3, LEAST = 32000 };
    struct timespec limit = { 0, 1000000 };
    int times = LEAST / count;
    double best = 1e9;

    for (int i = 0; i < TRIES; i++) {
        double start = cpu_seconds(), cost;

        for (int k = 0; k < times; k++)
            CHECK(aio_suspend(list, count, &limit) == -1 && errno == EAGAIN);
        cost = (cpu_seconds() - start) / (count * times);
        best = cost < best ? cost : best;
    }
    return best;
}

/* BETTER: glibc looks for each among all that there are, and one of many costs 40 times as much. */
static void p28_each_of_many_costs_suspend_the_same(void)
{
    enum { MANY = 32000, FEW = 1000, TIMES = 8 };
    struct aiocb *blocks = calloc(MANY, sizeof(*blocks));
    const struct aiocb **list = calloc(MANY, sizeof(*list));
    char *bytes = calloc(MANY, 1);
    double few = 0, growth;
    int fds[2];

    CHECK(blocks && list && bytes && pipe(fds) == 0);
    for (int i = 0; i < MANY; i++) {
        if (i == FEW)
            few = cost_of_suspend(list, FEW);
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        list[i] = &blocks[i];
        CHECK(aio_read(&blocks[i]) == 0);
    }
    growth = cost_of_suspend(list, MANY) / few;
    dprintf(1, "# one of %d costs %.1f times as much as one of %d\n", MANY, growth, FEW);
    CHECK(growth <= TIMES);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(aio_suspend(list, MANY, NULL) == 0 && aio_error(list[0]) == 0);
    _exit(0); /* the others are outstanding */
}

static void p29_suspend_is_a_cancellation_point(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    pthread_t thread;
    void *result;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (int i = 0; i < 200; i++) {
        CHECK(pthread_create(&thread, NULL, suspend_for_ever, &block) == 0);
        if (i % 2)
            nap_ms(1);
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    CHECK(write(fds[1], "x", 1) == 1 && await(&block) == 0);
}

const struct dropin_case wait_tests[] = {
    TEST(p21_a_block_that_was_never_submitted_has_no_error),
    TEST(p21_status_is_read_without_a_system_call),
    TEST(p22_results_may_be_asked_for_again),
    TEST(p23_who_sees_the_end_sees_the_bytes),
    TEST(p24_the_private_fields_are_as_with_glibc),
    TEST(p25_suspend_returns_when_one_is_over),
    BETTER(p26_suspend_has_a_limit),
    BETTER(p26_a_limit_has_no_negative_nanoseconds),
    TEST(p27_signals_interrupt_suspend),
    BETTER(p28_suspend_needs_little_stack),
    BETTER(p28_each_of_many_costs_suspend_the_same),
    TEST(p29_suspend_is_a_cancellation_point),
    { 0 },
};

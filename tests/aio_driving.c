/* SPDX-License-Identifier: MIT */
/* aio_driving.c: callers that wait for one quick request after the other. On io_uring they drive
 * the loop themselves then (DESIGN.md), which nobody shall notice but by the time it takes. */
#include <dirent.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "aio_test.h"

enum { SIZE = SLOW_SIZE, BLOCKS = SLOW_BLOCKS, ROUNDS = 2000 };

struct slow {
    _Alignas(SIZE) char page[SIZE];
    struct aiocb block;
    int number;
};

static void begin(struct slow *slow, int fd, int number)
{
    slow->number = number % BLOCKS;
    slow->block = block_of(fd, slow->page, SIZE, (off_t)slow->number * SIZE);
    CHECK(aio_read(&slow->block) == 0);
}

static void check(struct slow *slow)
{
    CHECK(aio_error(&slow->block) == 0 && aio_return(&slow->block) == SIZE);
    CHECK(slow->page[0] == 'a' + slow->number % 26);
    CHECK(slow->page[SIZE - 1] == slow->page[0]);
}

static int suspend_once(struct slow *slow)
{
    const struct aiocb *list[] = { &slow->block };

    return aio_suspend(list, 1, NULL);
}

/* ---- Who drives ----------------------------------------------------------------------------- */

/* How often the thread of that name has slept; -1: there is none. */
static long sleeps_of(const char *name)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *entry;
    long count = -1;

    CHECK(tasks);
    while ((entry = readdir(tasks))) {
        char path[300], line[128];
        FILE *file;
        bool it = false;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof(line), file)) {
            if (strncmp(line, "Name:", 5) == 0)
                it = strstr(line, name) != NULL;
            if (it && sscanf(line, "voluntary_ctxt_switches: %ld", &count) == 1)
                break;
        }
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return count;
}

/* On a machine that has other work the thread takes over now and then, for a second if callers have
 * left work undone: not all the time. */
static void d6_who_waits_for_quick_requests_drives(void)
{
    enum { BATCH = 50 };
    static struct slow slow;
    double limit = now_s() + 8;
    int fd = slow_file(), led = 0;

    while (!led && now_s() < limit) {
        long before = sleeps_of("ouro-aio");

        for (int k = 0; k < BATCH; k++) {
            begin(&slow, fd, k);
            CHECK(await(&slow.block) == 0);
            check(&slow);
        }
        if (!has_io_uring() || !(fcntl(fd, F_GETFL) & O_DIRECT))
            _exit(SKIP_STATUS); /* somebody else drives, or nothing is waited for */
        led = sleeps_of("ouro-aio") - before < BATCH / 2;
    }
    CHECK(led);
}

static void polled_only(struct slow *slow, int fd, int number)
{
    double limit = now_s() + 5;

    begin(slow, fd, number);
    while (aio_error(&slow->block) == EINPROGRESS)
        CHECK(now_s() < limit);
    check(slow);
}

/* Who has driven before may do so as well. */
static void d6_who_only_polls_sees_the_end(void)
{
    static struct slow slow;
    int fd = slow_file();

    for (int i = 0; i < 100; i++)
        polled_only(&slow, fd, i);
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 50; k++) {
            begin(&slow, fd, k);
            CHECK(await(&slow.block) == 0);
            check(&slow);
        }
        polled_only(&slow, fd, i);
    }
}

enum { IDLE_MS = 1000 }; /* after which glibc's threads are gone */

static long sleeps_of_all(void)
{
    struct rusage usage;

    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_nvcsw;
}

/* Can the cache be asked without waiting? An emulator may not know how. */
static bool has_tries(int fd)
{
    char byte;
    struct iovec part = { &byte, 1 };

    return has_io_uring() || preadv2(fd, &part, 1, 0, RWF_NOWAIT) == 1;
}

/* Not the caller, and nobody else for him. On a machine that has other work somebody may. */
static void d6_nobody_sleeps_for_what_is_in_the_page_cache(void)
{
    enum { TRIES = 30, CACHED = 100 };
    static char page[SIZE];
    int fd = temp_file(0), quiet = 0;

    CHECK(pwrite(fd, page, SIZE, 0) == SIZE && read_by(fd, page, SIZE, 0) == SIZE);
    if (SANITIZED || !has_tries(fd))
        _exit(SKIP_STATUS); /* a sanitizer makes us slow, and who waits goes to sleep */
    for (int i = 0; i < TRIES && !quiet; i++) {
        long before = sleeps_of_all();

        for (int k = 0; k < CACHED; k++)
            CHECK(read_by(fd, page, SIZE, 0) == SIZE);
        quiet = sleeps_of_all() - before < CACHED / 2;
    }
    CHECK(quiet);
}

/* Fills tasks with the numbers of our threads. */
static int threads_now(long *tasks, int most)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    int count = 0;

    CHECK(dir);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.' && count < most)
            tasks[count++] = strtol(entry->d_name, NULL, 10);
    }
    closedir(dir);
    return count;
}

static void d6_after_a_pause_no_thread_is_made(void)
{
    enum { MOST = 64 };
    long before[MOST], after[MOST];
    int fd = temp_file(0), had, has;
    char byte = 'p';

    CHECK(write_by(fd, &byte, 1, 0) == 1 && read_by(fd, &byte, 1, 0) == 1);
    had = threads_now(before, MOST);
    nap_ms(IDLE_MS + 200);
    CHECK(read_by(fd, &byte, 1, 0) == 1);
    has = threads_now(after, MOST);
    for (int i = 0; i < has; i++) {
        int k = 0;

        while (k < had && before[k] != after[i])
            k++;
        CHECK(k < had);
    }
}

/* ---- Handlers ------------------------------------------------------------------------------- */

static atomic_bool enough;

static void *interrupt(void *arg)
{
    const pthread_t *thread = arg;

    while (!enough) {
        pthread_kill(*thread, SIGUSR1);
        usleep(50);
    }
    return NULL;
}

static int interruptions(int flags)
{
    static struct slow slow;
    struct sigaction action = { .sa_handler = on_nothing, .sa_flags = flags };
    pthread_t self = pthread_self(), thread;
    int fd = slow_file(), count = 0;

    sigaction(SIGUSR1, &action, NULL);
    CHECK(pthread_create(&thread, NULL, interrupt, &self) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        begin(&slow, fd, i);
        while (suspend_once(&slow) < 0) {
            CHECK(errno == EINTR);
            count++;
        }
        check(&slow);
    }
    enough = true;
    pthread_join(thread, NULL);
    return count;
}

/* Runtimes, and sanitizers, have handlers of faults beside: they are not meant. */
static void p27_handlers_that_restart_interrupt_no_quick_wait(void)
{
    struct sigaction action = { .sa_handler = on_nothing };

    sigaction(SIGSEGV, &action, NULL);
    CHECK(interruptions(SA_RESTART) == 0);
}

static void p27_other_handlers_may_interrupt_it(void)
{
    (void)interruptions(0);
}

/* Where handlers of both kinds are installed: seldom, at most, does one end the wait that should
 * not. */
static void p27_handlers_of_both_kinds(void)
{
    struct sigaction action = { .sa_handler = on_nothing };

    sigaction(SIGUSR2, &action, NULL);
    CHECK(interruptions(SA_RESTART) <= 1);
}

static sigjmp_buf away;
static volatile sig_atomic_t may_leave;

static void leave(int signo)
{
    (void)signo;
    if (may_leave)
        siglongjmp(away, 1);
}

static void every_us(long us)
{
    struct itimerval timer = { { 0, us }, { 0, us } };

    setitimer(ITIMER_REAL, &timer, NULL);
}

static void p28_a_handler_need_not_come_back(void)
{
    enum { TIMES = 300 };
    static struct slow slow[TIMES];
    volatile int i;
    int fd = slow_file();

    signal(SIGALRM, leave);
    every_us(300);
    for (i = 0; i < TIMES; i++) {
        begin(&slow[i], fd, i);
        if (sigsetjmp(away, 1) == 0) {
            may_leave = 1;
            (void)suspend_once(&slow[i]);
        }
        may_leave = 0;
    }
    every_us(0);
    for (i = 0; i < TIMES; i++) {
        while (suspend_once(&slow[i]) < 0)
            CHECK(errno == EINTR);
        check(&slow[i]);
    }
}

static int handlers_file;
static atomic_int handled;

static void read_too(int signo)
{
    static struct slow slow;
    int saved = errno;

    (void)signo;
    begin(&slow, handlers_file, handled++);
    CHECK(await(&slow.block) == 0);
    check(&slow);
    errno = saved;
}

static void p28_a_handler_waits_for_quick_requests_inside_such_a_wait(void)
{
    struct sigaction action = { .sa_handler = read_too, .sa_flags = SA_RESTART };
    static struct slow slow;
    double end = now_s() + 10;

    handlers_file = slow_file();
    sigaction(SIGALRM, &action, NULL);
    every_us(1000);
    for (int i = 0; handled < 300 && now_s() < end; i++) {
        begin(&slow, handlers_file, i);
        CHECK(await(&slow.block) == 0);
        check(&slow);
    }
    every_us(0);
    CHECK(handled > 0);
}

/* ---- Threads -------------------------------------------------------------------------------- */

struct worker {
    struct slow slow;
    int fd;
    atomic_bool begun;
};

static void *work(void *arg)
{
    struct worker *worker = arg;

    for (int i = 0; !enough; i++) {
        begin(&worker->slow, worker->fd, i);
        worker->begun = true;
        (void)suspend_once(&worker->slow);
        CHECK(await(&worker->slow.block) == 0);
        check(&worker->slow);
    }
    return NULL;
}

/* It may have been before its suspend, in it, or behind it. */
static void p29_who_drives_may_be_cancelled(void)
{
    static struct worker worker;
    pthread_t thread;
    void *result;

    worker.fd = slow_file();
    for (int i = 0; i < 200; i++) {
        worker.begun = false;
        CHECK(pthread_create(&thread, NULL, work, &worker) == 0);
        while (!worker.begun)
            usleep(1);
        usleep((useconds_t)(i * 7 % 500));
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        CHECK(await(&worker.slow.block) == 0);
    }
}

static void p52_threads_drive_by_turns_while_the_process_forks(void)
{
    enum { WORKERS = 4, CHILDREN = 20 };
    static struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    int fd = slow_file(), status;

    for (int i = 0; i < WORKERS; i++) {
        workers[i].fd = fd;
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();

        if (child == 0) {
            static struct slow slow;

            begin(&slow, fd, i);
            CHECK(await(&slow.block) == 0);
            check(&slow);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        nap_ms(5);
    }
    enough = true;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
}

/* A slow one is not forgotten while others wait for quick ones. */
static void p25_who_waits_long_is_woken_beside_those_who_do_not(void)
{
    static struct worker worker;
    static struct slow slow;
    pthread_t thread;
    double longest = 0;

    worker.fd = slow_file();
    CHECK(pthread_create(&thread, NULL, work, &worker) == 0);
    for (int i = 0; i < 500; i++) {
        double start = now_s(), took;

        begin(&slow, worker.fd, i);
        CHECK(await(&slow.block) == 0);
        check(&slow);
        took = now_s() - start;
        longest = took > longest ? took : longest;
        if (i % 50 == 0)
            nap_ms(3);
    }
    CHECK(longest < 1);
    enough = true;
    pthread_join(thread, NULL);
}

const struct dropin_case driving_tests[] = {
    TEST(d6_who_waits_for_quick_requests_drives),
    TEST(d6_who_only_polls_sees_the_end),
    BETTER(d6_nobody_sleeps_for_what_is_in_the_page_cache),
    BETTER(d6_after_a_pause_no_thread_is_made),
    TEST(p25_who_waits_long_is_woken_beside_those_who_do_not),
    TEST(p27_handlers_that_restart_interrupt_no_quick_wait),
    TEST(p27_other_handlers_may_interrupt_it),
    TEST(p27_handlers_of_both_kinds),
    TEST(p28_a_handler_need_not_come_back),
    BETTER(p28_a_handler_waits_for_quick_requests_inside_such_a_wait),
    TEST(p29_who_drives_may_be_cancelled),
    BETTER(p52_threads_drive_by_turns_while_the_process_forks),
    { 0 },
};

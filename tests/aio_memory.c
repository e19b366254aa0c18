/* SPDX-License-Identifier: MIT */
/* aio_memory.c: when memory runs out (P11), who asks for it (P56), and what calls us from there. */
#include "aio_test.h"

#include <sys/resource.h>

/* ---- P11 ------------------------------------------------------------------------------------ */

static size_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* BETTER: glibc leaves in the block what was there. */
static void p11_without_memory_a_request_is_refused(void)
{
    enum { COUNT = 100000, ROOM = 2 << 20 };
    struct aiocb *blocks = calloc(COUNT, sizeof(*blocks)), *refused;
    const struct aiocb *list[1];
    char *bytes = calloc(COUNT, 1), byte;
    struct rlimit limit, narrow;
    int fds[2], begun = 0;

    if (SANITIZED)
        _exit(SKIP_STATUS); /* a sanitizer lives in the same room */
    CHECK(pipe(fds) == 0 && read_by(temp_file(0), &byte, 1, 0) == 0);
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    narrow = limit;
    narrow.rlim_cur = address_space() + ROOM;
    CHECK(setrlimit(RLIMIT_AS, &narrow) == 0);
    for (; begun < COUNT; begun++) {
        blocks[begun] = block_of(fds[0], &bytes[begun], 1, 0);
        if (aio_read(&blocks[begun]) < 0)
            break;
    }
    CHECK(begun > 100 && begun < COUNT && errno == EAGAIN);
    refused = &blocks[begun];
    list[0] = refused;
    CHECK(aio_error(refused) == EAGAIN && aio_return(refused) == -1);
    CHECK(aio_suspend(list, 1, NULL) == 0);
    CHECK(aio_cancel(fds[0], refused) == AIO_ALLDONE);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    CHECK(aio_read(refused) == 0 && aio_error(refused) == EINPROGRESS);
    for (int i = 0; i <= begun; i++)
        CHECK(write(fds[1], &(char){ (char)(i % 100) }, 1) == 1);
    for (int i = 0; i <= begun; i++)
        CHECK(await(&blocks[i]) == 0 && bytes[i] == (char)(i % 100));
}

enum { AT_ONCE = 5000, THREADS = 4 };

static void *submit_many(void *arg)
{
    struct aiocb *blocks = calloc(AT_ONCE, sizeof(*blocks));
    char *bytes = calloc(AT_ONCE, 1);

    CHECK(blocks && bytes);
    for (int i = 0; i < AT_ONCE; i++) {
        blocks[i] = block_of(*(int *)arg, &bytes[i], 1, i % 100);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    for (int i = 0; i < AT_ONCE; i++)
        CHECK(await(&blocks[i]) == 0 && aio_return(&blocks[i]) == 1 && bytes[i] == i % 100);
    return NULL;
}

/* More than fit into any queue that is shared with the kernel. */
static void p11_full_queues_are_no_lack(void)
{
    pthread_t threads[THREADS];
    char data[100];
    int fd = temp_file(0);

    for (int i = 0; i < 100; i++)
        data[i] = (char)i;
    CHECK(pwrite(fd, data, 100, 0) == 100);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, submit_many, &fd) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- P56 ------------------------------------------------------------------------------------ */

/* What comes for the first time is not counted: threads may be started for it. */
enum { ROUNDS = 200, WARM = 20 };

static void nothing_is_allocated(struct aiocb *block, int writer, void (*over)(struct aiocb *block))
{
    int sum = 0;

    if (SANITIZED)
        _exit(SKIP_STATUS);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(aio_read(block) == 0);
        if (i >= WARM)
            start_counting();
        CHECK(write(writer, "x", 1) == 1);
        over(block);
        CHECK(aio_error(block) == 0 && aio_return(block) == 1);
        sum += counted();
    }
    if (sum)
        dprintf(1, "# %d allocations\n", sum);
    CHECK(sum == 0);
}

static void over_by_polling(struct aiocb *block)
{
    while (aio_error(block) == EINPROGRESS)
        nap_ms(0);
}

static void over_by_suspend(struct aiocb *block)
{
    CHECK(await(block) == 0);
}

static void over_by_signal(struct aiocb *block)
{
    static int wanted;

    until(&signals, ++wanted);
    CHECK(aio_error(block) == 0);
}

static void p56_who_polls_allocates_nothing(void)
{
    char byte;
    int fds[2];
    struct aiocb block;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    nothing_is_allocated(&block, fds[1], over_by_polling);
}

static void p56_who_waits_allocates_nothing(void)
{
    char byte;
    int fds[2];
    struct aiocb block;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    nothing_is_allocated(&block, fds[1], over_by_suspend);
}

static void p56_who_is_signalled_allocates_nothing(void)
{
    char byte;
    int fds[2];
    struct aiocb block;

    CHECK(pipe(fds) == 0);
    block = signalling(fds[0], &byte, SIGRTMIN, 1);
    nothing_is_allocated(&block, fds[1], over_by_signal);
}

static atomic_int called;
static void on_call(union sigval value)
{
    (void)value;
    called++;
}

/* The thread that calls the function has memory of its own; it is used again while it is
 * there. BETTER: glibc starts one for each call. */
static void p56_a_thread_that_is_there_is_called_without_allocating(void)
{
    enum { CALLS = 50 };
    char byte;
    int fds[2], quiet = 0;
    struct aiocb block;

    if (SANITIZED)
        _exit(SKIP_STATUS);
    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    block.aio_sigevent.sigev_notify = SIGEV_THREAD;
    block.aio_sigevent.sigev_notify_function = on_call;
    block.aio_sigevent.sigev_notify_attributes = NULL;
    for (int i = 0; i < CALLS; i++) {
        CHECK(aio_read(&block) == 0);
        start_counting();
        CHECK(write(fds[1], "x", 1) == 1);
        until(&called, i + 1);
        quiet += counted() == 0;
        nap_ms(1); /* it goes back to waiting */
    }
    dprintf(1, "# %d of %d calls needed no new thread\n", quiet, CALLS);
    CHECK(quiet >= CALLS / 2);
}

/* A file's requests never wait, so their submission is counted as well. */
static void p56_reads_of_a_file_allocate_nothing_at_all(void)
{
    enum { COUNT = 32 };
    static struct aiocb blocks[COUNT];
    static char bytes[COUNT];
    int fd = temp_file(0), count;

    if (SANITIZED)
        _exit(SKIP_STATUS);
    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int round = 0; round < 50; round++) {
        if (round == 25) {
            nap_ms(50); /* threads that are being started */
            start_counting();
        }
        for (int i = 0; i < COUNT; i++) {
            blocks[i] = block_of(fd, &bytes[i], 1, 0);
            CHECK(aio_read(&blocks[i]) == 0);
        }
        for (int i = 0; i < COUNT; i++)
            CHECK(await(&blocks[i]) == 0);
    }
    count = counted();
    dprintf(1, "# %d allocations in %d requests\n", count, 25 * COUNT);
    CHECK(count <= 16); /* a worker more, at most */
}

/* ---- A program that is called from inside --------------------------------------------------- */

static atomic_int calls_inside;
static int file_inside;

/* As an allocator does that writes what it is asked for into a log. */
static void call_from_inside(void)
{
    static _Thread_local bool nested;
    struct aiocb block;
    char byte;

    if (nested)
        return;
    nested = true;
    calls_inside++;
    block = block_of(file_inside, &byte, 1, 0);
    if (aio_read(&block) == 0)
        CHECK(await(&block) == 0 && aio_return(&block) == 1);
    else
        CHECK(errno == EAGAIN && aio_error(&block) == EAGAIN);
    nested = false;
}

static void d5_what_the_library_calls_may_call_it(void)
{
    enum { COUNT = 600 };
    static struct aiocb blocks[COUNT], *list[COUNT];
    static char bytes[COUNT];

    if (SANITIZED)
        _exit(SKIP_STATUS);
    file_inside = temp_file(0);
    CHECK(pwrite(file_inside, "a", 1, 0) == 1);
    in_allocation = call_from_inside;
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(file_inside, &bytes[i], 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
        list[i] = &blocks[i];
    }
    CHECK(aio_read(&blocks[0]) == 0 && await(&blocks[0]) == 0);
    CHECK(lio_listio(LIO_WAIT, list, COUNT, NULL) == 0);
    in_allocation = call_nobody;
    dprintf(1, "# %d calls from inside\n", calls_inside);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_return(&blocks[i]) == 1 && bytes[i] == 'a');
    CHECK(calls_inside > 0);
}

const struct dropin_case memory_tests[] = {
    BETTER(d5_what_the_library_calls_may_call_it),
    BETTER(p11_without_memory_a_request_is_refused),
    TEST(p11_full_queues_are_no_lack),
    TEST(p56_who_polls_allocates_nothing),
    TEST(p56_who_waits_allocates_nothing),
    TEST(p56_who_is_signalled_allocates_nothing),
    BETTER(p56_a_thread_that_is_there_is_called_without_allocating),
    TEST(p56_reads_of_a_file_allocate_nothing_at_all),
    { 0 },
};

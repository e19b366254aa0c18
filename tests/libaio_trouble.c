/* SPDX-License-Identifier: MIT */
/* libaio_trouble.c: programs that close what is not theirs, and many threads at once (decision 2;
 * L7, L21). */
#include "libaio_test.h"

#include <sys/eventfd.h>

enum { PAGE = 4096, FILES = 60 };

/* Requests of each kind, on descriptors of the program's own. */
struct kinds {
    io_context_t context;
    int fd, direct, ends[2], counter;
    char *bytes;
    struct iocb iocb;
    uint64_t told;
};

static void begin(struct kinds *kinds)
{
    *kinds = (struct kinds){ .context = context_of(8), .bytes = aligned(PAGE) };
    kinds->fd = file_of(2 * PAGE, 0);
    kinds->direct = file_of(2 * PAGE, O_DIRECT);
    kinds->counter = eventfd(0, 0);
    CHECK(pipe(kinds->ends) == 0);
}

static void one(struct kinds *kinds, enum path path, long wanted)
{
    io_set_eventfd(&kinds->iocb, kinds->counter);
    CHECK(outcome_by(kinds->context, &kinds->iocb, path) == wanted);
    kinds->told++;
}

static void use(struct kinds *kinds)
{
    struct iocb *iocb = &kinds->iocb;
    uint64_t count, told = 0;

    for (enum path path = BY_CALL; path < PATHS; path++) {
        drop_cache(kinds->fd);
        io_prep_pread(iocb, kinds->fd, kinds->bytes, PAGE, PAGE);
        one(kinds, path, PAGE);
        CHECK(is_filled(kinds->bytes, PAGE, PAGE));
        io_prep_pread(iocb, kinds->direct, kinds->bytes, PAGE, 0);
        one(kinds, path, PAGE);
        CHECK(is_filled(kinds->bytes, PAGE, 0));
        io_prep_pwrite(iocb, kinds->ends[1], (char[]){ "x" }, 1, 0);
        one(kinds, path, 1);
        io_prep_pread(iocb, kinds->ends[0], kinds->bytes, 1, 0);
        one(kinds, path, 1);
        io_prep_fsync(iocb, kinds->fd);
        one(kinds, path, 0);
    }
    while (told < kinds->told) {
        CHECK(read(kinds->counter, &count, sizeof(count)) == sizeof(count));
        told += count;
    }
    CHECK(told == kinds->told);
    kinds->told = 0;
}

/* All others are closed, or become another file. */
static void replace_others(const struct kinds *kinds, int file)
{
    for (int i = 3; i < 300; i++)
        if (i != kinds->fd && i != kinds->direct && i != kinds->ends[0] && i != kinds->ends[1] &&
            i != kinds->counter && i != file) {
            if (file < 0)
                close(i);
            else
                CHECK(dup2(file, i) == i);
        }
}

/* What takes their numbers is not touched. */
static void d2_a_program_may_close_all_descriptors(void)
{
    struct kinds kinds;
    int files[FILES];

    begin(&kinds);
    for (int round = 0; round < 3; round++) {
        use(&kinds);
        nap_ms(round * 5);
        replace_others(&kinds, -1);
        if (round % 2)
            use(&kinds);
        for (int i = 0; i < FILES; i++) {
            files[i] = round % 2 ? temp_file(0) : eventfd(0, EFD_NONBLOCK);
            CHECK(files[i] >= 0);
        }
        use(&kinds);
        for (int i = 0; i < FILES; i++) {
            uint64_t count;

            if (round % 2)
                CHECK(lseek(files[i], 0, SEEK_END) == 0);
            else
                CHECK(read(files[i], &count, sizeof(count)) < 0 && errno == EAGAIN);
            close(files[i]);
        }
    }
    CHECK(io_destroy(kinds.context) == 0);
}

/* A program that keeps descriptors of its own where a library's may be. */
static void d2_numbers_may_be_taken_by_dup2(void)
{
    struct kinds kinds;
    int file = temp_file(0);

    begin(&kinds);
    use(&kinds);
    replace_others(&kinds, file);
    use(&kinds);
    CHECK(lseek(file, 0, SEEK_END) == 0);
}

/* BETTER: one waits for a pipe while they are closed. */
static void d2_all_may_be_closed_while_a_pipe_is_waited_for(void)
{
    struct kinds kinds;
    struct io_event event;
    struct iocb waits;
    int fds[2];
    char byte;

    begin(&kinds);
    CHECK(pipe(fds) == 0 && dup2(fds[1], 400) == 400);
    io_prep_pread(&waits, fds[0], &byte, 1, 0);
    CHECK(submit(kinds.context, &waits) == 1);
    use(&kinds);
    replace_others(&kinds, -1);
    for (int i = 0; i < FILES; i++)
        CHECK(open("/dev/zero", O_RDWR) >= 0);
    CHECK(write(400, "x", 1) == 1);
    event = take(kinds.context, BY_SYSTEM_CALL);
    CHECK(event.obj == &waits && (result_of(&event) == 1 || result_of(&event) == -EIO));
    use(&kinds);
}

/* ---- Many threads, one context -------------------------------------------------------------- */

enum { THREADS = 8, EACH = 200 };
static io_context_t shared;
static int shared_files[2];

struct work {
    struct iocb iocbs[EACH];
    char (*bytes)[PAGE];
    atomic_int seen[EACH];
};

static struct work works[THREADS];
static atomic_int taken;

static void *submit_all(void *arg)
{
    struct work *work = arg;

    for (int i = 0; i < EACH; i++) {
        io_prep_pread(&work->iocbs[i], shared_files[i % 2], work->bytes[i], PAGE,
                      i % 64 * (long long)PAGE);
        work->iocbs[i].data = work;
        while (submit(shared, &work->iocbs[i]) != 1)
            nap_ms(1);
    }
    return NULL;
}

static void *take_all(void *arg)
{
    (void)arg;
    while (taken < THREADS * EACH) {
        struct timespec soon = { 0, 10 * 1000000 };
        struct io_event events[5];
        int r = io_getevents(shared, 1, 5, events, &soon);

        CHECK(r >= 0);
        for (int i = 0; i < r; i++) {
            struct work *work = events[i].data;
            long which = events[i].obj - work->iocbs;

            CHECK(result_of(&events[i]) == PAGE && work->seen[which]++ == 0);
            CHECK(is_filled(work->bytes[which], PAGE, which % 64 * PAGE));
        }
        taken += r;
    }
    return NULL;
}

static void l21_threads_submit_and_take_in_one_context(void)
{
    pthread_t threads[THREADS + 2];

    shared = context_of(32); /* it is full now and then */
    shared_files[0] = file_of(64 * PAGE, 0);
    shared_files[1] = file_of(64 * PAGE, O_DIRECT);
    for (int i = 0; i < THREADS; i++)
        works[i].bytes = (char(*)[PAGE])aligned((size_t)EACH * PAGE);
    for (int i = 0; i < THREADS + 2; i++)
        CHECK(pthread_create(&threads[i], NULL, i < THREADS ? submit_all : take_all,
                             &works[i % THREADS]) == 0);
    for (int i = 0; i < THREADS + 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(taken == THREADS * EACH);
    check_empty(shared);
    CHECK(io_destroy(shared) == 0);
}

static atomic_bool enough;

static void *make_contexts(void *arg)
{
    (void)arg;
    while (!enough) {
        io_context_t context = context_of(1);

        CHECK(io_destroy(context) == 0);
    }
    return NULL;
}

/* A context comes where another one was, and neither has the other's events. */
static void l07_contexts_come_and_go_with_requests_in_flight(void)
{
    enum { ROUNDS = 60, COUNT = 8 };
    int fd = file_of(COUNT * 64 * 1024, 0);
    char *bytes = aligned(COUNT * 64 * 1024);
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, make_contexts, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        io_context_t context = context_of(COUNT);
        struct iocb iocbs[COUNT], *list[COUNT];

        for (int i = 0; i < COUNT; i++) {
            list[i] = &iocbs[i];
            io_prep_pread(list[i], fd, bytes + (size_t)i * 65536, 65536, (long long)i * 65536);
        }
        if (round % 3 == 0)
            drop_cache(fd);
        CHECK(io_submit(context, COUNT, list) == COUNT);
        if (round % 2)
            for (int i = 0; i < COUNT; i++) {
                struct io_event event = take(context, (enum path)(round % PATHS));

                CHECK(event.obj >= iocbs && event.obj < iocbs + COUNT);
                CHECK(result_of(&event) == 65536);
            }
        if (round % 2)
            check_empty(context);
        CHECK(io_destroy(context) == 0);
    }
    enough = true;
    pthread_join(thread, NULL);
}

const struct dropin_case trouble_tests[] = {
    TEST(d2_a_program_may_close_all_descriptors),
    TEST(d2_numbers_may_be_taken_by_dup2),
    BETTER(d2_all_may_be_closed_while_a_pipe_is_waited_for),
    TEST(l21_threads_submit_and_take_in_one_context),
    TEST(l07_contexts_come_and_go_with_requests_in_flight),
    { 0 },
};

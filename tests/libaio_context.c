/* SPDX-License-Identifier: MIT */
/* libaio_context.c: contexts, from their making to their end (L1-L7). */
#include "libaio_test.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum { PAGE = 4096 };

/* The versions that programs of before 2003 were linked with. */
int old_cancel(io_context_t context, struct iocb *iocb);
int old_getevents(io_context_t context, long nr, struct io_event *events, struct timespec *timeout);
int old_queue_wait(io_context_t context, struct timespec *timeout);
__asm__(".symver old_cancel,io_cancel@LIBAIO_0.1");
__asm__(".symver old_getevents,io_getevents@LIBAIO_0.1");
__asm__(".symver old_queue_wait,io_queue_wait@LIBAIO_0.1");

static void l01_the_old_prototypes_work(void)
{
    io_context_t context = context_of(8);
    struct timespec soon = { 0, 20 * 1000000 }, hour = { 3600, 0 };
    struct io_event events[4];
    struct iocb iocb;
    char byte;
    int fd = temp_file(0), fds[2];

    CHECK(pwrite(fd, "a", 1, 0) == 1 && pipe(fds) == 0);
    io_prep_pread(&iocb, fd, &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(old_getevents(context, 4, events, NULL) == 1); /* one is enough */
    CHECK(events[0].obj == &iocb && result_of(events) == 1 && byte == 'a');
    CHECK(old_getevents(context, 4, events, &soon) == 0);
    CHECK(old_queue_wait(context, &hour) == 0);
    io_prep_poll(&iocb, fds[0], 1);
    CHECK(submit(context, &iocb) == 1);
    CHECK(old_cancel(context, &iocb) == -EINPROGRESS);
    CHECK(old_getevents(context, 4, events, NULL) == 1 && events[0].obj == &iocb);
}

static long number_in(const char *path)
{
    FILE *file = fopen(path, "r");
    long number = -1;

    CHECK(file && fscanf(file, "%ld", &number) == 1);
    fclose(file);
    return number;
}

static void l02_what_io_setup_refuses(void)
{
    io_context_t context = NULL, used = context_of(1);
    int more = (int)number_in("/proc/sys/fs/aio-max-nr") + 1;

    CHECK(io_setup(1, NULL) == -EFAULT && io_setup(0, NULL) == -EFAULT);
    CHECK(io_setup(1, (io_context_t *)(uintptr_t)-PAGE) == -EFAULT);
    CHECK(io_setup(0, &context) == -EINVAL && !context);
    CHECK(io_setup(1, &used) == -EINVAL && used);
    CHECK(io_setup(-1, &context) == -EINVAL && !context);
    CHECK(io_setup(0x10000000 / 64 + 1, &context) == -EINVAL && !context);
    CHECK(io_setup(more, &context) == -EAGAIN && !context);
}

static void l02_what_io_queue_init_refuses(void)
{
    io_context_t context = (io_context_t)(uintptr_t)0x5a5a;

    CHECK(io_queue_init(0, &context) == -EINVAL && io_queue_init(-7, &context) == -EINVAL);
    CHECK(context == (io_context_t)(uintptr_t)0x5a5a);
    CHECK(io_queue_init(7, &context) == 0 && ring_of(context)->magic == RING_MAGIC);
    CHECK(io_queue_release(context) == 0);
}

/* Others may make contexts meanwhile, and the kernel counts those that end when it comes to it. */
static void l03_contexts_are_counted_by_the_system(void)
{
    enum { NR = 777, TRIES = 20 };
    bool counted = false;

    for (int i = 0; i < TRIES && !counted; i++) {
        long before = number_in("/proc/sys/fs/aio-nr");
        io_context_t context = context_of(NR);

        counted = number_in("/proc/sys/fs/aio-nr") == before + NR;
        CHECK(io_destroy(context) == 0);
        nap_ms(20);
    }
    CHECK(counted);
}

/* The ring of the least size grows by whole pages. */
static void l04_the_ring_is_the_kernels(void)
{
    static const int asked[] = { 1, 32, 64, 128, 256, 1024, 5000 };
    io_context_t contexts[7];

    for (int i = 0; i < 7; i++) {
        struct ring *ring;

        contexts[i] = context_of(asked[i]);
        ring = ring_of(contexts[i]);
        CHECK(ring->id == (unsigned)i && ring->head == 0 && ring->tail == 0);
        CHECK(ring->magic == RING_MAGIC && ring->compat == 1 && ring->incompat == 0);
        CHECK(ring->header_length == sizeof(*ring) && sizeof(*ring) == 32);
        CHECK(ring->nr >= 2u * (unsigned)asked[i] + 1 && ring->nr < 2u * (unsigned)asked[i] + 256);
        CHECK((sizeof(*ring) + ring->nr * sizeof(struct io_event)) % PAGE == 0);
    }
    CHECK(io_destroy(contexts[2]) == 0); /* the lowest number that is free is used again */
    CHECK(ring_of(contexts[2] = context_of(1))->id == 2);
    for (int i = 0; i < 7; i++)
        CHECK(io_destroy(contexts[i]) == 0);
}

/* A program may put it elsewhere, and has a context of another name then. */
static void l04_the_ring_may_be_moved(void)
{
    io_context_t old = context_of(64), context;
    size_t size = sizeof(struct ring) + ring_of(old)->nr * sizeof(struct io_event);
    char *place = aligned(4 * size), byte;
    struct iocb iocb, waits;
    int fd = temp_file(0), fds[2];

    CHECK(pwrite(fd, "abc", 3, 0) == 3 && pipe(fds) == 0);
    io_prep_pread(&iocb, fd, &byte, 1, 0);
    CHECK(outcome(old, &iocb) == 1);
    io_prep_poll(&waits, fds[0], 1);
    CHECK(submit(old, &waits) == 1);
    context = mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place + size);
    CHECK((void *)context == (void *)(place + size));
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, fd, &byte, 1, path);
        CHECK(outcome_by(context, &iocb, path) == 1 && byte == 'a' + (int)path);
    }
    CHECK(write(fds[1], "x", 1) == 1 && take(context, BY_CALL).obj == &waits);
    CHECK(submit(old, &iocb) == -EINVAL);
    CHECK(io_destroy(old) == -EINVAL && io_destroy(context) == 0);
}

/* BETTER: it waits for a pipe. Where the ring is while nobody calls is not told. */
static void l04_the_ring_may_be_moved_behind_a_request(void)
{
    io_context_t old = context_of(64), context;
    size_t size = sizeof(struct ring) + ring_of(old)->nr * sizeof(struct io_event);
    char *place = aligned(4 * size), byte;
    struct iocb iocb;
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(old, &iocb) == 1);
    context = mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place + size);
    CHECK((void *)context == (void *)(place + size));
    CHECK(write(fds[1], "x", 1) == 1);
    nap_ms(20);
    CHECK(take(context, BY_CALL).obj == &iocb && byte == 'x');
    CHECK(io_destroy(context) == 0);
}

/* Polls of a pipe stay; cached reads end at once; either way each has a place in the ring. */
static int fill(io_context_t context, struct iocb *iocbs, int max, int fd, int idle, char *byte)
{
    int count = 0, r = 1;

    for (; count < max && r == 1; count += r == 1) {
        if (idle < 0 || (fd >= 0 && count % 2))
            io_prep_pread(&iocbs[count], fd, byte, 1, 0);
        else
            io_prep_poll(&iocbs[count], idle, 1);
        r = submit(context, &iocbs[count]);
    }
    CHECK(count == max || r == -EAGAIN);
    return count;
}

static void l05_as_many_as_were_asked_for(void)
{
    static const int asked[] = { 1, 100, 1000 };
    static struct iocb iocbs[5000];
    static struct io_event events[5000];
    int fds[2], fd = temp_file(0);
    char byte;

    CHECK(pipe(fds) == 0 && pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < 3; i++) {
        io_context_t context = context_of(asked[i]);
        int nr = (int)ring_of(context)->nr, count;

        count = fill(context, iocbs, 5000, -1, fds[0], &byte);
        CHECK(count >= asked[i] && count <= nr - 1);
        CHECK(io_destroy(context) == 0);
        context = context_of(asked[i]);
        count = fill(context, iocbs, 5000, fd, -1, &byte);
        CHECK(count >= asked[i] && count <= nr - 1);
        CHECK(io_getevents(context, count, 5000, events, NULL) == count);
        check_empty(context);
        CHECK(io_destroy(context) == 0);
    }
}

/* Of all that is accepted the event comes, whatever kinds are mixed, and however they are taken. */
static void l05_room_is_never_exceeded(void)
{
    static struct iocb iocbs[1000];
    static bool seen[1000];
    io_context_t context = context_of(1);
    int fds[2], fd = temp_file(0), count, nr = (int)ring_of(context)->nr;
    char byte;

    CHECK(pipe(fds) == 0 && pwrite(fd, "a", 1, 0) == 1);
    count = fill(context, iocbs, 1000, fd, fds[0], &byte);
    CHECK(count >= 1 && count <= nr - 1);
    CHECK(write(fds[1], "x", 1) == 1); /* now all come */
    for (int i = 0; i < count; i++) {
        struct io_event event = take(context, (enum path)(i % PATHS));

        CHECK(result_of(&event) & 1); /* a byte; POLLIN, and what came with it */
        CHECK(!seen[event.obj - iocbs]);
        seen[event.obj - iocbs] = true;
    }
    check_empty(context);
}

static void l05_places_are_free_again_when_events_are_taken(void)
{
    static struct iocb iocbs[1000];
    io_context_t context = context_of(1);
    struct ring *ring = ring_of(context);
    int fd = temp_file(0), count;
    struct timespec second = { 1, 0 };
    struct io_event events[8];
    char byte;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    count = fill(context, iocbs, 1000, fd, -1, &byte);
    while ((ring->tail + ring->nr - ring->head) % ring->nr < (unsigned)count)
        nap_ms(1);
    CHECK(submit(context, iocbs) == -EAGAIN);
    CHECK(io_getevents(context, 8, 8, events, &second) == 8);
    CHECK(fill(context, iocbs, 1000, fd, -1, &byte) == 8);
    while ((ring->tail + ring->nr - ring->head) % ring->nr < (unsigned)count)
        nap_ms(1);
    ring->head = (ring->head + 5) % ring->nr; /* as programs do that read the ring */
    CHECK(fill(context, iocbs, 1000, fd, -1, &byte) == 5);
    CHECK(io_destroy(context) == 0);
}

/* ---- The end -------------------------------------------------------------------------------- */

static void l06_the_end_waits_for_what_is_written(void)
{
    enum { COUNT = 32, SIZE = 256 << 10 };
    static const int flags[] = { 0, O_DIRECT };
    char *bytes = aligned((size_t)COUNT * SIZE), *same = aligned((size_t)COUNT * SIZE);

    fill_at(bytes, (size_t)COUNT * SIZE, 0);
    for (int i = 0; i < 2; i++) {
        io_context_t context = context_of(COUNT);
        struct iocb iocbs[COUNT], *list[COUNT];
        int fd = temp_file(flags[i]);

        for (int k = 0; k < COUNT; k++) {
            list[k] = &iocbs[k];
            io_prep_pwrite(list[k], fd, bytes + (size_t)k * SIZE, SIZE, (long long)k * SIZE);
        }
        CHECK(io_submit(context, COUNT, list) == COUNT);
        CHECK(io_destroy(context) == 0);
        CHECK(pread(fd, same, (size_t)COUNT * SIZE, 0) == COUNT * SIZE);
        CHECK(memcmp(bytes, same, (size_t)COUNT * SIZE) == 0);
        close(fd);
    }
}

/* Behind it the program's memory is its own. */
static void l06_the_end_waits_for_what_is_read(void)
{
    enum { COUNT = 16, SIZE = 256 << 10 };
    char *bytes = aligned((size_t)COUNT * SIZE);
    int fd = file_of((size_t)COUNT * SIZE, 0);
    io_context_t context = context_of(COUNT);
    struct iocb iocbs[COUNT], *list[COUNT];

    for (int k = 0; k < COUNT; k++) {
        list[k] = &iocbs[k];
        io_prep_pread(list[k], fd, bytes + (size_t)k * SIZE, SIZE, (long long)k * SIZE);
    }
    CHECK(io_submit(context, COUNT, list) == COUNT);
    CHECK(io_destroy(context) == 0);
    memset(bytes, 0x77, (size_t)COUNT * SIZE);
    nap_ms(100);
    for (size_t i = 0; i < (size_t)COUNT * SIZE; i++)
        CHECK(bytes[i] == 0x77);
}

/* BETTER: the kernel waits inside io_submit for the bytes of a pipe. */
static void l06_the_end_ends_what_waits_for_a_pipe(void)
{
    io_context_t context = context_of(4);
    struct iocb iocb;
    char bytes[4] = "....", got[4];
    int fds[2];
    double start;

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], bytes, 4, 0);
    CHECK(submit(context, &iocb) == 1);
    start = now_s();
    CHECK(io_destroy(context) == 0 && now_s() - start < 1);
    CHECK(write(fds[1], "abc", 3) == 3);
    nap_ms(50);
    CHECK(memcmp(bytes, "....", 4) == 0 && read(fds[0], got, 4) == 3);
}

static void l06_the_end_ends_polls(void)
{
    io_context_t context = context_of(4);
    struct iocb iocb;
    int fds[2];
    double start;

    CHECK(pipe(fds) == 0);
    io_prep_poll(&iocb, fds[0], 1);
    CHECK(submit(context, &iocb) == 1);
    start = now_s();
    CHECK(io_destroy(context) == 0 && now_s() - start < 1);
    CHECK(write(fds[1], "abc", 3) == 3);
}

static io_context_t shared;
static atomic_int ended, returned;

static void *wait_by_call(void *arg)
{
    struct io_event event;
    int r = io_getevents(shared, 1, 1, &event, NULL);

    (void)arg;
    CHECK(r == -EINVAL);
    returned++;
    return NULL;
}

static void *wait_by_system_call(void *arg)
{
    struct io_event event;
    long r = raw_getevents(shared, 1, 1, &event, NULL);

    (void)arg;
    CHECK(r == -EINVAL);
    returned++;
    return NULL;
}

static void end_while_two_wait(void)
{
    pthread_t threads[2];

    CHECK(pthread_create(&threads[0], NULL, wait_by_call, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, wait_by_system_call, NULL) == 0);
    nap_ms(100);
    CHECK(returned == 0);
    CHECK(io_destroy(shared) == 0);
    until(&returned, 2);
}

/* MariaDB stops so. */
static void l06_the_end_wakes_who_waits(void)
{
    shared = context_of(4);
    end_while_two_wait();
}

static void l06_the_end_wakes_who_waits_for_a_poll(void)
{
    struct iocb iocb;
    int fds[2];

    CHECK(pipe(fds) == 0);
    shared = context_of(4);
    io_prep_poll(&iocb, fds[0], 1);
    CHECK(submit(shared, &iocb) == 1);
    /* Its event may come to one of them; the kernel has ended the context before that. */
    end_while_two_wait();
}

/* BETTER: the request would not have been accepted yet. */
static void l06_the_end_wakes_who_waits_for_a_pipe(void)
{
    struct iocb iocb;
    char byte;
    int fds[2];

    CHECK(pipe(fds) == 0);
    shared = context_of(4);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(shared, &iocb) == 1);
    end_while_two_wait();
}

static void *end_it(void *arg)
{
    int r = io_destroy(shared);

    (void)arg;
    CHECK(r == 0 || r == -EINVAL);
    ended += r == 0;
    return NULL;
}

static void l06_one_alone_ends_it(void)
{
    enum { THREADS = 8, TIMES = 10 };
    pthread_t threads[THREADS];
    struct iocb iocb;
    int fds[2];

    CHECK(pipe(fds) == 0);
    for (int i = 1; i <= TIMES; i++) {
        shared = context_of(4);
        io_prep_poll(&iocb, fds[0], 1);
        CHECK(submit(shared, &iocb) == 1);
        for (int k = 0; k < THREADS; k++)
            CHECK(pthread_create(&threads[k], NULL, end_it, NULL) == 0);
        for (int k = 0; k < THREADS; k++)
            CHECK(pthread_join(threads[k], NULL) == 0);
        CHECK(ended == i);
    }
}

static void l06_what_has_ended_is_unknown(void)
{
    io_context_t context = context_of(4);
    static char nothing[PAGE];

    CHECK(io_destroy(context) == 0 && io_destroy(context) == -EINVAL);
    CHECK(io_queue_release(context) == -EINVAL);
    CHECK(io_destroy(NULL) == -EINVAL && io_destroy((io_context_t)-1) == -EINVAL);
    CHECK(io_destroy((io_context_t)(void *)nothing) == -EINVAL);
}

static void l06_the_end_is_quick(void)
{
    double best = 1e9;

    for (int i = 0; i < 8; i++) {
        io_context_t context = context_of(64);
        double start = now_s(), took;

        CHECK(io_destroy(context) == 0);
        took = now_s() - start;
        best = took < best ? took : best;
    }
    CHECK(best < 0.05);
}

/* ---- Many ----------------------------------------------------------------------------------- */

static void l07_ten_thousand_contexts_are_nothing_but_memory(void)
{
    enum { CONTEXTS = 10000 };
    static io_context_t contexts[CONTEXTS];
    int fd = temp_file(0), fds = count_of("/proc/self/fd"), threads = count_of("/proc/self/task");
    struct iocb iocb;
    char byte;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < CONTEXTS; i++)
        contexts[i] = context_of(1);
    CHECK(count_of("/proc/self/fd") == fds && count_of("/proc/self/task") == threads);
    for (int i = 0; i < CONTEXTS; i += 7) {
        io_prep_pread(&iocb, fd, &byte, 1, 0);
        CHECK(outcome(contexts[i], &iocb) == 1 && byte == 'a');
    }
    CHECK(count_of("/proc/self/fd") < fds + 20 && count_of("/proc/self/task") < threads + 20);
}

static void *make_use_and_end(void *arg)
{
    for (int i = 0; i < 10; i++) {
        io_context_t context = context_of(8);
        struct iocb iocb;
        char bytes[100];

        for (int k = 0; k < 20; k++) {
            io_prep_pread(&iocb, *(int *)arg, bytes, sizeof(bytes), k * 10);
            CHECK(outcome_by(context, &iocb, (enum path)(k % PATHS)) == sizeof(bytes));
            CHECK(is_filled(bytes, sizeof(bytes), k * 10));
        }
        CHECK(io_destroy(context) == 0);
    }
    return NULL;
}

static void l07_many_threads_with_contexts_of_their_own(void)
{
    enum { THREADS = 50 };
    pthread_t threads[THREADS];
    int fd = file_of(4096, 0);

    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, make_use_and_end, &fd) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

const struct dropin_case context_tests[] = {
    TEST(l01_the_old_prototypes_work),
    TEST(l02_what_io_setup_refuses),
    TEST(l02_what_io_queue_init_refuses),
    TEST(l03_contexts_are_counted_by_the_system),
    TEST(l04_the_ring_is_the_kernels),
    TEST(l04_the_ring_may_be_moved),
    BETTER(l04_the_ring_may_be_moved_behind_a_request),
    TEST(l05_as_many_as_were_asked_for),
    TEST(l05_room_is_never_exceeded),
    TEST(l05_places_are_free_again_when_events_are_taken),
    TEST(l06_the_end_waits_for_what_is_written),
    TEST(l06_the_end_waits_for_what_is_read),
    BETTER(l06_the_end_ends_what_waits_for_a_pipe),
    TEST(l06_the_end_ends_polls),
    TEST(l06_the_end_wakes_who_waits),
    TEST(l06_the_end_wakes_who_waits_for_a_poll),
    BETTER(l06_the_end_wakes_who_waits_for_a_pipe),
    TEST(l06_one_alone_ends_it),
    TEST(l06_what_has_ended_is_unknown),
    TEST(l06_the_end_is_quick),
    TEST(l07_ten_thousand_contexts_are_nothing_but_memory),
    TEST(l07_many_threads_with_contexts_of_their_own),
    { 0 },
};

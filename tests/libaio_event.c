/* SPDX-License-Identifier: MIT */
/* libaio_event.c: events, what tells of them, and who calls for them (L18, L21-L24, L28). */
#include "libaio_test.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static void l18_numbers_and_contexts(void)
{
    io_context_t context = context_of(8);
    struct timespec none = { 0, 0 }, hour = { 3600, 0 };
    static char nothing[PAGE];
    struct io_event events[4];
    io_context_t ended = context_of(8);

    CHECK(io_getevents(context, -1, 1, events, &hour) == -EINVAL);
    CHECK(io_getevents(context, 0, -1, events, &hour) == -EINVAL);
    CHECK(io_getevents(context, 2, 1, events, &hour) == -EINVAL);
    CHECK(io_pgetevents(context, 2, 1, events, &hour, NULL) == -EINVAL);
    CHECK(io_getevents(context, 0, 0, events, &hour) == 0);
    CHECK(io_getevents(context, 0, 0, NULL, &hour) == 0);
    CHECK(io_getevents(context, 0, 4, events, &none) == 0);
    CHECK(io_getevents(context, 1, 4, events, &none) == 0);
    CHECK(io_getevents(context, 0, 4, events, NULL) == 0);
    CHECK(io_getevents(NULL, 0, 4, events, NULL) == -EINVAL);
    CHECK(io_getevents(NULL, 1, 4, events, &hour) == -EINVAL);
    CHECK(io_getevents((io_context_t)(void *)nothing, 1, 4, events, NULL) == -EINVAL);
    CHECK(io_pgetevents((io_context_t)(void *)nothing, 1, 4, events, NULL, NULL) == -EINVAL);
    CHECK(io_destroy(ended) == 0);
    /* The system's libaio looks into the memory that is gone before it asks. */
    CHECK(raw_getevents(ended, 1, 4, events, NULL) == -EINVAL);
    CHECK(raw_getevents(ended, -1, -4, events, NULL) == -EINVAL);
}

/* What cannot be stored is not lost. */
static void l21_a_place_that_cannot_be_written(void)
{
    io_context_t context = context_of(8);
    struct timespec hour = { 3600, 0 };
    char *memory = aligned(2 * PAGE);
    struct io_event *events = (struct io_event *)(void *)(memory + PAGE) - 1;
    struct iocb iocbs[3];
    int fd = file_of(3000, 0);
    char bytes[3000];

    CHECK(mprotect(memory + PAGE, PAGE, PROT_READ) == 0);
    for (int i = 0; i < 3; i++) {
        io_prep_pread(&iocbs[i], fd, bytes + (size_t)i * 1000, 1000, 1000 * (long long)i);
        CHECK(submit(context, &iocbs[i]) == 1);
    }
    while (ring_of(context)->tail != 3)
        nap_ms(1);
    CHECK(io_getevents(context, 1, 3, (void *)8, &hour) == -EFAULT);
    CHECK(io_getevents(context, 1, 1, NULL, NULL) == -EFAULT);
    CHECK(io_getevents(context, 1, 1, events + 1, &hour) == -EFAULT);
    CHECK(io_getevents(context, 1, 1, events, &hour) == 1);
    CHECK(take(context, BY_CALL).obj != take(context, BY_CALL).obj);
    check_empty(context);
}

enum { MANY = 400 };
static io_context_t shared;
static struct iocb many[MANY];
static atomic_int taken[MANY], total;

static void *take_some(void *arg)
{
    enum path path = *(const enum path *)arg;

    while (total < MANY) {
        struct timespec soon = { 0, 20 * 1000000 };
        struct io_event events[7];
        long r = path == BY_CALL ? io_getevents(shared, 1, 7, events, &soon)
                                 : raw_getevents(shared, 1, 7, events, &soon);

        CHECK(r >= 0 && r <= 7);
        for (long i = 0; i < r; i++) {
            CHECK(result_of(&events[i]) == 100);
            CHECK(taken[events[i].obj - many]++ == 0);
            total++;
        }
    }
    return NULL;
}

/* Several wait, in both ways, while another one submits all the time. */
static void l21_each_event_is_delivered_once(void)
{
    enum { THREADS = 4 };
    static const enum path paths[THREADS] = { BY_CALL, BY_CALL, BY_SYSTEM_CALL, BY_CALL };
    pthread_t threads[THREADS];
    int fds[] = { file_of(50000, 0), file_of(50000, 0) };
    static char bytes[MANY][100];

    shared = context_of(64);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, take_some, (void *)(uintptr_t)&paths[i]) == 0);
    for (int i = 0; i < MANY; i++) {
        io_prep_pread(&many[i], fds[i % 2], bytes[i], 100, i * 100);
        while (submit(shared, &many[i]) == -EAGAIN)
            nap_ms(1);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < MANY; i++)
        CHECK(taken[i] == 1 && is_filled(bytes[i], 100, i * 100));
    check_empty(shared);
}

/* QEMU puts both results together: whatever is in the second one would spoil the first. */
static void l22_results_are_64_bits_and_the_second_is_0(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(PAGE, 0);
    struct io_event event;
    struct iocb iocb;
    char bytes[10];

    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, fd, (void *)8, 10, 0);
        CHECK(submit(context, &iocb) == 1);
        event = take(context, path);
        CHECK((event.res == (unsigned long)-EFAULT || event.res == (unsigned long)-EIO) &&
              event.res2 == 0);
        io_prep_pread(&iocb, fd, bytes, 10, 0);
        CHECK(submit(context, &iocb) == 1);
        event = take(context, path);
        CHECK(event.res == 10 && event.res2 == 0);
    }
}

#define SAME(wanted, call)                          \
    do {                                            \
        errno = 4711;                               \
        CHECK((call) == (wanted) && errno == 4711); \
    } while (0)

static void l23_errno_is_never_changed(void)
{
    io_context_t context = NULL;
    struct timespec none = { 0, 0 }, soon = { 0, 1000000 };
    int fd = file_of(PAGE, 0), direct = file_of(PAGE, O_DIRECT), fds[2];
    char *bytes = aligned(PAGE);
    struct io_event event;
    struct iocb iocb;

    CHECK(pipe(fds) == 0);
    SAME(-EINVAL, io_setup(0, &context));
    SAME(0, io_setup(8, &context));
    for (int i = 0; i < 2; i++) {
        io_prep_pread(&iocb, i ? direct : fd, bytes, PAGE, 0);
        SAME(1, submit(context, &iocb));
        SAME(1, io_getevents(context, 1, 1, &event, NULL));
        SAME(1, submit(context, &iocb));
        SAME(1, io_pgetevents(context, 1, 1, &event, NULL, NULL));
    }
    io_prep_fsync(&iocb, fd);
    SAME(1, submit(context, &iocb));
    SAME(1, io_getevents(context, 1, 1, &event, NULL));
    io_prep_pread(&iocb, fd, (void *)8, 10, 0);
    SAME(1, submit(context, &iocb));
    SAME(1, io_getevents(context, 1, 1, &event, NULL));
    iocb.aio_fildes = -1;
    SAME(-EBADF, submit(context, &iocb));
    SAME(0, io_getevents(context, 0, 1, &event, &none));
    SAME(0, io_getevents(context, 1, 1, &event, &soon));
    SAME(-EINVAL, io_getevents(context, 2, 1, &event, &soon));
    SAME(0, io_queue_run(context));
    SAME(-EINVAL, io_cancel(context, &iocb, &event));
    io_prep_poll(&iocb, fds[0], 1);
    SAME(1, submit(context, &iocb));
    SAME(-EINPROGRESS, io_cancel(context, &iocb, &event));
    SAME(0, io_destroy(context));
    SAME(-EINVAL, io_destroy(context));
    SAME(-EINVAL, io_queue_init(0, &context));
}

/* ---- eventfd (L24) -------------------------------------------------------------------------- */

static uint64_t count_in(int fd)
{
    uint64_t count = 0;

    CHECK(read(fd, &count, sizeof(count)) == sizeof(count));
    return count;
}

/* Requests of all kinds, of which every third tells nobody. */
static int submit_kinds(io_context_t context, struct iocb *iocbs, int count, int counter)
{
    static char memory[16][PAGE] __attribute__((aligned(4096)));
    static int fd = -1, direct, fds[2];
    struct iocb *list[16];
    int told = 0;

    if (fd < 0) {
        fd = file_of(16 * PAGE, 0);
        direct = file_of(16 * PAGE, O_DIRECT);
        CHECK(pipe(fds) == 0);
    }
    for (int i = 0; i < count; i++) {
        list[i] = &iocbs[i];
        switch (i % 5) {
        case 0: io_prep_pread(list[i], fd, memory[i], PAGE, i * PAGE); break;
        case 1: io_prep_pread(list[i], direct, memory[i], PAGE, i * PAGE); break;
        case 2: io_prep_fdsync(list[i], fd); break;
        case 3: io_prep_pread(list[i], fd, (void *)8, 10, 0); break;
        default: io_prep_poll(list[i], fds[1], 4); break;
        }
        if (i % 3)
            io_set_eventfd(list[i], counter);
        told += i % 3 != 0;
    }
    CHECK(io_submit(context, count, list) == count);
    return told;
}

static void l24_an_eventfd_counts_the_events_of_those_who_asked(void)
{
    io_context_t context = context_of(64);
    int counter = eventfd(0, 0);
    struct iocb iocbs[16];

    for (int round = 0; round < 50; round++) {
        int wanted = submit_kinds(context, iocbs, 16, counter);
        uint64_t told = 0;

        while (told < (uint64_t)wanted)
            told += count_in(counter);
        CHECK(told == (uint64_t)wanted);
        for (int i = 0; i < 16; i++)
            (void)take(context, (enum path)(round % PATHS));
        check_empty(context);
        nap_ms(1);
        CHECK(poll(&(struct pollfd){ .fd = counter, .events = POLLIN }, 1, 0) == 0);
    }
}

/* tgt reads the count, and then waits for exactly as many events; a reader of the ring must find
 * them there. */
static void l24_what_is_counted_is_there(void)
{
    io_context_t context = context_of(64);
    int counter = eventfd(0, 0), fd = file_of(64 * PAGE, 0);
    char *memory = aligned(64 * (size_t)PAGE);
    struct iocb iocbs[64], *list[64];
    struct io_event events[64];

    for (int round = 0; round < 30; round++) {
        drop_cache(fd);
        for (int i = 0; i < 64; i++) {
            list[i] = &iocbs[i];
            io_prep_pread(list[i], fd, memory + (size_t)i * PAGE, PAGE, i * PAGE);
            io_set_eventfd(list[i], counter);
        }
        CHECK(io_submit(context, 64, list) == 64);
        for (uint64_t left = 64; left;) {
            uint64_t count = count_in(counter);
            struct ring *ring = ring_of(context);

            CHECK(count <= left);
            CHECK((ring->tail + ring->nr - ring->head) % ring->nr >= count);
            CHECK(io_getevents(context, (long)count, (long)count, events, NULL) == (int)count);
            left -= count;
        }
        check_empty(context);
    }
}

static void l24_an_eventfd_may_be_closed_at_once(void)
{
    io_context_t context = context_of(64);
    int counter = eventfd(0, EFD_NONBLOCK), kept = dup(counter), other = temp_file(0), fds[2];
    uint64_t told = 0, count;
    struct iocb iocbs[16];
    int wanted;

    CHECK(pipe(fds) == 0);
    wanted = submit_kinds(context, iocbs, 16, counter);
    CHECK(dup2(other, counter) == counter); /* whoever writes to that number now writes there */
    for (int i = 0; i < 16; i++)
        (void)take(context, BY_CALL);
    for (int i = 0; i < 1000 && told < (uint64_t)wanted; i++, nap_ms(1))
        if (read(kept, &count, sizeof(count)) == sizeof(count))
            told += count;
    CHECK(told == (uint64_t)wanted && lseek(other, 0, SEEK_END) == 0);
}

/* BETTER: it waits for a pipe. */
static void l24_a_pipe_that_is_waited_for_tells_by_eventfd(void)
{
    io_context_t context = context_of(64);
    int counter = eventfd(0, 0), fds[2];
    struct pollfd entry = { .fd = counter, .events = POLLIN };
    struct iocb iocb;
    char byte;

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    io_set_eventfd(&iocb, counter);
    CHECK(submit(context, &iocb) == 1);
    CHECK(poll(&entry, 1, 50) == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(poll(&entry, 1, 5000) == 1); /* nobody calls into the library meanwhile */
    CHECK(count_in(counter) == 1 && take(context, BY_RING).obj == &iocb);
}

enum { TELLERS = 300 };

/* BETTER: it waits for a pipe. Each is told by a descriptor of its own; or there is no room. */
static void l24_who_is_accepted_is_told(void)
{
    static struct iocb iocbs[TELLERS];
    io_context_t context = context_of(TELLERS);
    int counters[TELLERS], accepted = 0, r = 1, fds[2];
    char bytes[TELLERS];

    CHECK(pipe(fds) == 0);
    while (accepted < TELLERS && r == 1) {
        counters[accepted] = eventfd(0, 0);
        io_prep_pread(&iocbs[accepted], fds[0], &bytes[accepted], 1, 0);
        io_set_eventfd(&iocbs[accepted], counters[accepted]);
        r = submit(context, &iocbs[accepted]);
        accepted += r == 1;
    }
    CHECK(accepted >= 250 && (r == 1 || r == -EAGAIN));
    CHECK(write(fds[1], bytes, (size_t)accepted) == accepted);
    for (int i = 0; i < accepted; i++) {
        struct pollfd entry = { .fd = counters[i], .events = POLLIN };

        CHECK(poll(&entry, 1, 5000) == 1 && count_in(counters[i]) == 1);
    }
}

/* The same. One descriptor is told of them all, also where it cannot be compared with others. */
static void l24_one_descriptor_is_told_of_all(void)
{
    static struct iocb iocbs[TELLERS];
    io_context_t context = context_of(TELLERS);
    int counter = eventfd(0, EFD_NONBLOCK), fds[2];
    uint64_t count, sum = 0;
    char bytes[TELLERS];

    refuse_calls(SYS_kcmp, SYS_kcmp, EPERM);
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < TELLERS; i++) {
        io_prep_pread(&iocbs[i], fds[0], &bytes[i], 1, 0);
        io_set_eventfd(&iocbs[i], counter);
        CHECK(submit(context, &iocbs[i]) == 1);
    }
    CHECK(write(fds[1], bytes, TELLERS) == TELLERS);
    for (int i = 0; i < 5000 && sum < TELLERS; i++, nap_ms(1))
        if (read(counter, &count, sizeof(count)) == sizeof(count))
            sum += count;
    CHECK(sum == TELLERS);
}

/* ---- Callbacks (L28) ------------------------------------------------------------------------ */

static io_context_t called_for;
static struct iocb *called_with;
static int calls;

static void call_back(io_context_t context, struct iocb *iocb, long res, long res2)
{
    CHECK(context == called_for && res2 == 0);
    CHECK(res == (iocb == called_with ? 10 : -EFAULT));
    calls++;
}

static void l28_io_queue_run_calls_back(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(PAGE, 0);
    struct iocb iocbs[2];
    char bytes[10];

    called_for = context;
    called_with = &iocbs[0];
    CHECK(io_queue_run(context) == 0 && calls == 0);
    io_prep_pread(&iocbs[0], fd, bytes, 10, 0);
    io_prep_pread(&iocbs[1], fd, (void *)8, 10, 0);
    for (int i = 0; i < 2; i++) {
        io_set_callback(&iocbs[i], call_back);
        CHECK(submit(context, &iocbs[i]) == 1);
    }
    for (int i = 0; i < 2000 && calls < 2; i++, nap_ms(1))
        CHECK(io_queue_run(context) == 0);
    CHECK(calls == 2 && io_queue_run(context) == 0);
    CHECK(io_queue_release(context) == 0);
}

const struct dropin_case event_tests[] = {
    TEST(l18_numbers_and_contexts),
    TEST(l21_a_place_that_cannot_be_written),
    TEST(l21_each_event_is_delivered_once),
    TEST(l22_results_are_64_bits_and_the_second_is_0),
    TEST(l23_errno_is_never_changed),
    TEST(l24_an_eventfd_counts_the_events_of_those_who_asked),
    TEST(l24_what_is_counted_is_there),
    TEST(l24_an_eventfd_may_be_closed_at_once),
    BETTER(l24_a_pipe_that_is_waited_for_tells_by_eventfd),
    BETTER(l24_who_is_accepted_is_told),
    BETTER(l24_one_descriptor_is_told_of_all),
    TEST(l28_io_queue_run_calls_back),
    { 0 },
};

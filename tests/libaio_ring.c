/* SPDX-License-Identifier: MIT */
/* libaio_ring.c: programs that read the ring themselves, and that call the system by themselves
 * (L25-L27). */
#include "libaio_test.h"

#include <poll.h>
#include <sys/eventfd.h>

enum { PAGE = 4096, DEPTH = 32, SPACE = 256 }; /* SPACE: pages of a file */

/* Requests that are made anew as soon as their event is seen, as QEMU does. */
struct engine {
    io_context_t context;
    struct iocb iocbs[DEPTH];
    off_t at[DEPTH];
    char *memory;
    int fds[3], counter, left, in_flight;
    unsigned random;
};

static void begin_one(struct engine *engine, int which)
{
    struct iocb *iocb = &engine->iocbs[which];

    engine->random = engine->random * 1664525 + 1013904223;
    engine->at[which] = (off_t)(engine->random >> 8) % (SPACE - 1) * PAGE;
    memset(iocb, (int)engine->random, sizeof(*iocb)); /* whatever was there */
    if (engine->random >> 16 & 8)
        io_prep_fdsync(iocb, engine->fds[0]);
    else
        io_prep_pread(iocb, engine->fds[engine->random >> 16 & 1],
                      engine->memory + (size_t)which * PAGE, PAGE, engine->at[which]);
    iocb->data = (void *)(uintptr_t)engine->random;
    if (engine->counter >= 0)
        io_set_eventfd(iocb, engine->counter);
    CHECK(submit(engine->context, iocb) == 1);
    engine->left--;
    engine->in_flight++;
}

static void end_one(struct engine *engine, const struct io_event *event)
{
    long which = event->obj - engine->iocbs;
    const char *bytes = engine->memory + which * PAGE;

    CHECK(which >= 0 && which < DEPTH);
    CHECK(event->data == event->obj->data); /* nobody else writes to it */
    CHECK(event->obj->aio_fildes == engine->fds[0] || event->obj->aio_fildes == engine->fds[1]);
    if (event->obj->aio_lio_opcode == IO_CMD_FDSYNC) {
        CHECK(result_of(event) == 0);
    } else {
        CHECK(event->obj->aio_lio_opcode == IO_CMD_PREAD && event->obj->u.c.nbytes == PAGE);
        CHECK(event->obj->u.c.buf == bytes && event->obj->u.c.offset == engine->at[which]);
        CHECK(result_of(event) == PAGE && is_filled(bytes, PAGE, engine->at[which]));
    }
    engine->in_flight--;
    if (engine->left > 0)
        begin_one(engine, (int)which);
}

static void begin(struct engine *engine, int count, bool counts)
{
    *engine = (struct engine){ .context = context_of(DEPTH), .left = count };
    engine->memory = aligned((size_t)DEPTH * PAGE);
    engine->fds[0] = file_of((size_t)SPACE * PAGE, 0);
    engine->fds[1] = file_of((size_t)SPACE * PAGE, O_DIRECT);
    engine->counter = counts ? eventfd(0, EFD_NONBLOCK) : -1;
    for (int i = 0; i < DEPTH; i++)
        begin_one(engine, i);
}

/* What is there, without a look at the magic number; its head is told at once. */
static int reap(struct engine *engine)
{
    struct ring *ring = ring_of(engine->context);
    unsigned head = ring->head, tail = ring->tail;
    int count = 0;

    for (; head != tail; count++) {
        struct io_event event = ring->events[head];

        head = (head + 1) % ring->nr;
        ring->head = head;
        end_one(engine, &event);
    }
    return count;
}

static void l25_a_loop_with_an_eventfd_reads_the_ring(void)
{
    struct engine engine;
    uint64_t told, in_all = 0;
    enum { COUNT = 3000 };

    begin(&engine, COUNT, true);
    while (engine.in_flight) {
        CHECK(poll(&(struct pollfd){ .fd = engine.counter, .events = POLLIN }, 1, 5000) == 1);
        if (read(engine.counter, &told, sizeof(told)) == sizeof(told))
            in_all += told;
        (void)reap(&engine);
    }
    for (int i = 0; i < 1000 && in_all < COUNT; i++, nap_ms(1))
        if (read(engine.counter, &told, sizeof(told)) == sizeof(told))
            in_all += told;
    CHECK(in_all == COUNT);
    check_empty(engine.context);
}

/* No call but io_submit is made: the tail moves by itself. */
static void l25_a_loop_looks_at_the_ring_alone(void)
{
    struct engine engine;
    double limit = now_s() + 15;

    begin(&engine, 3000, false);
    while (engine.in_flight && now_s() < limit)
        if (!reap(&engine))
            usleep(10);
    CHECK(engine.in_flight == 0);
    check_empty(engine.context);
}

static atomic_bool enough;
static int busy_file;

/* Others submit in other contexts meanwhile. */
static void *be_busy(void *arg)
{
    io_context_t context = context_of(8);

    (void)arg;
    while (!enough) {
        struct iocb iocb;
        char bytes[100];

        io_prep_pread(&iocb, busy_file, bytes, sizeof(bytes), 1000);
        CHECK(outcome(context, &iocb) == sizeof(bytes) && is_filled(bytes, sizeof(bytes), 1000));
    }
    return NULL;
}

static void l25_two_loops_and_callers_at_once(void)
{
    static struct engine engines[2];
    double limit = now_s() + 15;
    pthread_t threads[2];

    busy_file = file_of(PAGE, 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, be_busy, NULL) == 0);
    for (int i = 0; i < 2; i++)
        begin(&engines[i], 1500, false);
    while ((engines[0].in_flight || engines[1].in_flight) && now_s() < limit)
        if (reap(&engines[0]) + reap(&engines[1]) == 0)
            usleep(10);
    enough = true;
    for (int i = 0; i < 2; i++) {
        CHECK(engines[i].in_flight == 0);
        pthread_join(threads[i], NULL);
        check_empty(engines[i].context);
    }
}

/* A program may pass over events, and its head may be any number: only what is left counts. */
static void l25_the_programs_head_is_taken(void)
{
    io_context_t context = context_of(1);
    struct ring *ring = ring_of(context);
    int fd = file_of(PAGE, 0);
    struct io_event events[8];
    struct timespec none = { 0, 0 };
    struct iocb iocbs[6];
    char bytes[10];

    for (int i = 0; i < 6; i++) {
        io_prep_pread(&iocbs[i], fd, bytes, 10, 0);
        CHECK(submit(context, &iocbs[i]) == 1);
        while (ring->tail != (unsigned)i + 1)
            nap_ms(1);
    }
    ring->head = 2;
    CHECK(io_getevents(context, 1, 1, events, NULL) == 1 && events[0].obj == &iocbs[2]);
    ring->head = 4 + ring->nr;
    CHECK(io_getevents(context, 1, 8, events, &none) == 2 && events[0].obj == &iocbs[4]);
    ring->head = ring->tail;
    CHECK(io_getevents(context, 1, 8, events, &none) == 0);
}

/* The ring's end is its beginning. What our io_getevents gives need not have been there. */
static void l25_events_go_round(void)
{
    io_context_t context = context_of(1);
    struct ring *ring = ring_of(context);
    int fd = file_of(PAGE, 0);
    struct iocb iocb;
    char bytes[10];
    unsigned turns = 0;

    for (unsigned i = 0; i < 3 * ring->nr; i++) {
        unsigned tail = ring->tail;

        io_prep_pread(&iocb, fd, bytes, 10, i % 1000);
        CHECK(outcome_by(context, &iocb, (enum path)(1 + i % (PATHS - 1))) == 10);
        turns += ring->tail < tail;
        CHECK(ring->tail == (tail + 1) % ring->nr);
    }
    CHECK(turns == 3);
}

/* fio, SPDK and Artemis read the ring where they find this, and it stays. */
static void l26_the_ring_says_that_it_may_be_read(void)
{
    io_context_t context = context_of(32);
    struct ring *ring = ring_of(context);
    int fd = file_of(PAGE, 0);
    struct iocb iocb;
    char bytes[10];

    for (int i = 0; i < 10; i++) {
        CHECK(ring->magic == RING_MAGIC && ring->compat == 1 && ring->incompat == 0);
        io_prep_pread(&iocb, fd, bytes, 10, i);
        CHECK(outcome_by(context, &iocb, BY_RING) == 10 && is_filled(bytes, 10, i));
    }
}

/* ---- Without the library (L27) -------------------------------------------------------------- */

static void l27_the_systems_calls_on_the_librarys_context(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(4 * PAGE, 0), direct = file_of(4 * PAGE, O_DIRECT), fds[2];
    char *bytes = aligned(PAGE);
    struct timespec soon = { 1, 0 };
    struct io_event event;
    struct iocb iocb, *list[1] = { &iocb };

    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 20; i++) {
        io_prep_pread(&iocb, i % 2 ? direct : fd, bytes, PAGE, i % 4 * PAGE);
        CHECK(raw_submit(context, 1, list) == 1);
        if (i % 3)
            CHECK(raw_getevents(context, 1, 1, &event, &soon) == 1);
        else
            CHECK(io_getevents(context, 1, 1, &event, NULL) == 1);
        CHECK(event.obj == &iocb && result_of(&event) == PAGE &&
              is_filled(bytes, PAGE, i % 4 * PAGE));
    }
    io_prep_poll(&iocb, fds[0], 1);
    CHECK(raw_submit(context, 1, list) == 1);
    CHECK(syscall(SYS_io_cancel, context, &iocb, &event) == -1 && errno == EINPROGRESS);
    CHECK(take(context, BY_CALL).obj == &iocb);
    CHECK(syscall(SYS_io_destroy, context) == 0 && io_destroy(context) == -EINVAL);
}

/* It may have been made before the library was there, or by another one. */
static void l27_the_librarys_calls_on_the_systems_context(void)
{
    io_context_t context = NULL;
    int fd = file_of(4 * PAGE, 0), direct = file_of(4 * PAGE, O_DIRECT), fds[2];
    char *bytes = aligned(PAGE);
    struct io_event event;
    struct iocb iocb;

    CHECK(pipe(fds) == 0 && syscall(SYS_io_setup, 8, &context) == 0);
    for (int i = 0; i < 20; i++) {
        io_prep_pread(&iocb, i % 2 ? direct : fd, bytes, PAGE, i % 4 * PAGE);
        CHECK(outcome_by(context, &iocb, (enum path)(i % PATHS)) == PAGE);
        CHECK(is_filled(bytes, PAGE, i % 4 * PAGE));
    }
    io_prep_poll(&iocb, fds[0], 1);
    CHECK(submit(context, &iocb) == 1 && io_cancel(context, &iocb, &event) == -EINPROGRESS);
    CHECK(take(context, BY_CALL).obj == &iocb && io_destroy(context) == 0);
}

static void l27_the_systems_calls_on_the_systems_context(void)
{
    io_context_t context = NULL;
    struct timespec soon = { 1, 0 };
    int fd = file_of(PAGE, 0);
    struct io_event event;
    struct iocb iocb, *list[1] = { &iocb };
    char bytes[10];

    CHECK(syscall(SYS_io_setup, 0, &context) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_io_setup, 8, &context) == 0 && ring_of(context)->magic == RING_MAGIC);
    io_prep_pread(&iocb, fd, bytes, 10, 0);
    CHECK(raw_submit(context, 1, list) == 1);
    CHECK(raw_getevents(context, 1, 1, &event, &soon) == 1);
    CHECK(event.obj == &iocb && result_of(&event) == 10);
    CHECK(raw_submit(context, -1, list) == -EINVAL && syscall(SYS_io_destroy, context) == 0);
    CHECK(syscall(SYS_io_destroy, context) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_getpid) == getpid());
}

const struct dropin_case ring_tests[] = {
    TEST(l25_a_loop_with_an_eventfd_reads_the_ring),
    TEST(l25_a_loop_looks_at_the_ring_alone),
    TEST(l25_two_loops_and_callers_at_once),
    TEST(l25_the_programs_head_is_taken),
    TEST(l25_events_go_round),
    TEST(l26_the_ring_says_that_it_may_be_read),
    TEST(l27_the_systems_calls_on_the_librarys_context),
    TEST(l27_the_librarys_calls_on_the_systems_context),
    TEST(l27_the_systems_calls_on_the_systems_context),
    { 0 },
};

/* SPDX-License-Identifier: MIT */
/* libaio_process.c: cancelling, polling, children, and what happens without io_uring or without
 * the kernel's AIO (L29-L31, L36, L37). */
#include "libaio_test.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

enum { PAGE = 4096 };

/* ---- Cancelling (L29) ----------------------------------------------------------------------- */

static void l29_a_poll_that_waits_is_cancelled(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    int fds[2];

    CHECK(pipe(fds) == 0);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_poll(&iocb, fds[0], POLLIN);
        CHECK(submit(context, &iocb) == 1);
        CHECK(io_cancel(context, &iocb, &event) == -EINPROGRESS);
        CHECK(io_cancel(context, &iocb, &event) == -EINVAL);
        event = take(context, path);
        CHECK(event.obj == &iocb && result_of(&event) == 0);
        CHECK(io_cancel(context, &iocb, &event) == -EINVAL);
        check_empty(context);
    }
}

static void l29_what_io_cancel_refuses(void)
{
    io_context_t context = context_of(8);
    struct iocb iocb, never;
    struct io_event event;
    char bytes[10];
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_poll(&iocb, fds[0], POLLIN);
    io_prep_poll(&never, fds[0], POLLIN);
    CHECK(io_cancel(context, NULL, &event) == -EFAULT && io_cancel(NULL, NULL, &event) == -EFAULT);
    CHECK(io_cancel(context, &never, &event) == -EINVAL);
    CHECK(submit(context, &iocb) == 1);
    CHECK(io_cancel(context, (struct iocb *)(uintptr_t)-PAGE, &event) == -EFAULT);
    CHECK(io_cancel(NULL, &iocb, &event) == -EINVAL);
    CHECK(io_cancel((io_context_t)-1, &iocb, &event) == -EINVAL);
    iocb.key = 1;
    CHECK(io_cancel(context, &iocb, &event) == -EINVAL);
    iocb.key = 0;
    CHECK(io_cancel(context_of(8), &iocb, &event) == -EINVAL); /* another one's */
    CHECK(io_cancel(context, &iocb, NULL) == -EINPROGRESS);
    CHECK(take(context, BY_CALL).obj == &iocb);
    io_prep_pread(&iocb, file_of(PAGE, 0), bytes, 10, 0);
    CHECK(outcome(context, &iocb) == 10 && io_cancel(context, &iocb, &event) == -EINVAL);
}

/* Callers free the control block when they are told of success: reads and writes go on. */
static void l29_reads_and_writes_are_not_cancelled(void)
{
    enum { COUNT = 16, SIZE = 64 << 10 };
    static const int flags[] = { 0, O_DIRECT };
    char *bytes = aligned((size_t)COUNT * SIZE);

    for (int i = 0; i < 2; i++) {
        io_context_t context = context_of(COUNT);
        int fd = file_of((size_t)COUNT * SIZE, flags[i]);
        struct iocb iocbs[COUNT], *list[COUNT];
        struct io_event event;

        for (int k = 0; k < COUNT; k++) {
            list[k] = &iocbs[k];
            io_prep_pread(list[k], fd, bytes + (size_t)k * SIZE, SIZE, (long long)k * SIZE);
        }
        CHECK(io_submit(context, COUNT, list) == COUNT);
        for (int k = COUNT; k-- > 0;)
            CHECK(io_cancel(context, list[k], &event) == -EINVAL);
        for (int k = 0; k < COUNT; k++) {
            event = take(context, BY_CALL);
            CHECK(result_of(&event) == SIZE);
        }
        CHECK(is_filled(bytes, (size_t)COUNT * SIZE, 0));
    }
}

/* BETTER: it is accepted. */
static void l29_a_read_of_a_pipe_is_not_cancelled(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    char byte;
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(io_cancel(context, &iocb, &event) == -EINVAL);
    CHECK(write(fds[1], "x", 1) == 1);
    event = take(context, BY_CALL);
    CHECK(event.obj == &iocb && result_of(&event) == 1 && byte == 'x');
}

/* ---- Polling (L30) -------------------------------------------------------------------------- */

enum { KINDS = 6 };

/* A descriptor that is not ready, and what makes it so. */
static int waiting_one(int kind, int *ret_far)
{
    int fds[2] = { -1, -1 }, set;
    struct epoll_event interest = { .events = EPOLLIN };

    switch (kind) {
    case 0: CHECK(pipe(fds) == 0); break;
    case 1: CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0); break;
    case 2: CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0); break;
    case 3: fds[0] = fds[1] = eventfd(0, 0); break;
    case 4: fds[0] = timerfd_create(CLOCK_MONOTONIC, 0); break;
    default:
        set = epoll_create1(0);
        CHECK(pipe(fds) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, fds[0], &interest) == 0);
        fds[0] = set;
        break;
    }
    *ret_far = fds[1];
    return fds[0];
}

static void make_ready(int kind, int fd, int far)
{
    struct itimerspec soon = { .it_value = { .tv_nsec = 1000 } };

    if (kind == 4)
        CHECK(timerfd_settime(fd, 0, &soon, NULL) == 0);
    else
        CHECK(write(far, "\1\0\0\0\0\0\0\0", 8) == 8);
}

static void l30_a_poll_ends_when_its_descriptor_is_ready(void)
{
    io_context_t context = context_of(8);

    for (int kind = 0; kind < KINDS; kind++)
        for (int before = 0; before < 2; before++)
            for (enum path path = BY_CALL; path < PATHS; path++) {
                int far, fd = waiting_one(kind, &far);
                struct io_event event;
                struct iocb iocb;

                if (before)
                    make_ready(kind, fd, far);
                io_prep_poll(&iocb, fd, POLLIN | POLLRDNORM);
                CHECK(submit(context, &iocb) == 1);
                if (!before) {
                    CHECK(!take_within(context, path, 2, &event));
                    make_ready(kind, fd, far);
                }
                event = take(context, path);
                CHECK(event.obj == &iocb && (result_of(&event) & POLLIN));
                CHECK((result_of(&event) & (POLLERR | POLLHUP)) == 0);
                CHECK(!take_within(context, path, 2, &event)); /* once */
                close(fd);
                close(far);
            }
}

static void l30_hang_ups_and_errors_need_not_be_asked_for(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    int fds[2];

    for (int write_end = 0; write_end < 2; write_end++) {
        CHECK(pipe(fds) == 0);
        io_prep_poll(&iocb, fds[write_end], 0);
        CHECK(submit(context, &iocb) == 1);
        CHECK(!take_within(context, BY_CALL, 5, &event));
        close(fds[!write_end]);
        event = take(context, BY_CALL);
        CHECK(result_of(&event) == (write_end ? POLLERR : POLLHUP));
    }
}

static atomic_bool enough;

/* Full by splice, whose bytes make nobody write(2). */
static void *splice_into(void *arg)
{
    int fd = file_of(PAGE, 0);

    while (!enough) {
        off_t at = 0;

        if (splice(fd, &at, *(int *)arg, NULL, 1, SPLICE_F_NONBLOCK) < 0)
            CHECK(errno == EAGAIN);
    }
    return NULL;
}

static void l30_no_poll_misses_a_splice(void)
{
    io_context_t context = context_of(8);
    pthread_t thread;
    struct iocb iocb;
    char bytes[PAGE];
    int fds[2];

    CHECK(pipe2(fds, O_NONBLOCK) == 0);
    CHECK(pthread_create(&thread, NULL, splice_into, &fds[1]) == 0);
    for (int i = 0; i < 2000; i++) {
        io_prep_poll(&iocb, fds[0], POLLIN);
        CHECK(outcome(context, &iocb) == POLLIN);
        CHECK(read(fds[0], bytes, sizeof(bytes)) > 0);
    }
    enough = true;
    pthread_join(thread, NULL);
}

/* ---- Children (L31) ------------------------------------------------------------------------- */

/* Events are taken in each way, or in all but by calls that the system does not have. */
static void use_all_kinds(bool by_system_call)
{
    io_context_t context = context_of(8);
    int fd = file_of(2 * PAGE, 0), direct = file_of(2 * PAGE, O_DIRECT), fds[2];
    char *bytes = aligned(PAGE);
    struct iocb iocb;

    CHECK(pipe(fds) == 0 && write(fds[1], "abc", 3) == 3);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        if (path == BY_SYSTEM_CALL && !by_system_call)
            continue;
        io_prep_pread(&iocb, fd, bytes, PAGE, PAGE);
        CHECK(outcome_by(context, &iocb, path) == PAGE && is_filled(bytes, PAGE, PAGE));
        io_prep_pread(&iocb, direct, bytes, PAGE, 0);
        CHECK(outcome_by(context, &iocb, path) == PAGE && is_filled(bytes, PAGE, 0));
        io_prep_pread(&iocb, fds[0], bytes, 1, 0);
        CHECK(outcome_by(context, &iocb, path) == 1 && strchr("abcx", bytes[0]));
        io_prep_pwrite(&iocb, fds[1], (char[]){ "x" }, 1, 0);
        CHECK(outcome_by(context, &iocb, path) == 1);
        io_prep_fsync(&iocb, fd);
        CHECK(outcome_by(context, &iocb, path) == 0);
        io_prep_pread(&iocb, fd, (void *)8, 10, 0);
        CHECK(outcome_by(context, &iocb, path) < 0);
    }
    CHECK(io_destroy(context) == 0);
}

static void be_a_child(io_context_t context, struct iocb *iocb)
{
    struct timespec none = { 0, 0 }, soon = { 0, 1000 };
    struct io_event event;
    int r;

    CHECK(ring_of(context)->magic == RING_MAGIC);
    CHECK(submit(context, iocb) == -EINVAL && raw_submit(context, 1, &iocb) == -EINVAL);
    r = io_getevents(context, 0, 1, &event, &none);
    CHECK(r == -EINVAL || (r == 0 && ring_of(context)->head == ring_of(context)->tail));
    CHECK(io_getevents(context, 0, 1, &event, &soon) == -EINVAL);
    CHECK(io_getevents(context, 1, 1, &event, NULL) == -EINVAL);
    CHECK(io_pgetevents(context, 1, 1, &event, NULL, NULL) == -EINVAL);
    CHECK(io_cancel(context, iocb, &event) == -EINVAL);
    CHECK(io_destroy(context) == -EINVAL);
    use_all_kinds(true);
}

static int end_of(pid_t child)
{
    int status;

    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return status;
}

static void fork_with(io_context_t context, struct iocb *iocb)
{
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            be_a_child(context, iocb);
            if (i % 2)
                exit(0);
            _exit(0);
        }
        use_all_kinds(true);
        CHECK(end_of(child) == 0);
    }
}

static void l31_a_child_has_no_contexts_but_its_own(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(PAGE, 0), fds[2];
    struct iocb iocb, waits;
    char bytes[10];

    CHECK(pipe(fds) == 0);
    io_prep_poll(&waits, fds[0], POLLIN);
    io_prep_pread(&iocb, fd, bytes, 10, 0);
    CHECK(outcome(context, &iocb) == 10 && submit(context, &waits) == 1);
    fork_with(context, &iocb);
    CHECK(outcome(context, &iocb) == 10);
    CHECK(write(fds[1], "x", 1) == 1 && take(context, BY_CALL).obj == &waits);
}

/* BETTER: it waits for a pipe; the bytes are the parent's. */
static void l31_what_waits_for_a_pipe_is_the_parents(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    char bytes[10];
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], bytes, 10, 0);
    CHECK(submit(context, &iocb) == 1);
    fork_with(context, &iocb);
    CHECK(write(fds[1], "x", 1) == 1);
    event = take(context, BY_CALL);
    CHECK(event.obj == &iocb && result_of(&event) == 1);
}

static io_context_t doomed;
static volatile int destroyed = 1;

static void destroy_in_handler(int signo)
{
    (void)signo;
    destroyed = io_destroy(doomed);
}

/* BETTER: it waits for a pipe. Who is interrupted waits for a context that there is no more. */
static void l06_a_handler_may_destroy_what_it_has_interrupted(void)
{
    struct timespec soon = { .tv_sec = 5 };

    main_thread = pthread_self();
    for (int i = 0; i < 4; i++) {
        struct sigaction action = { .sa_handler = destroy_in_handler,
                                    .sa_flags = i / 2 ? SA_RESTART : 0 };
        struct io_event event;
        pthread_t thread;
        struct iocb iocb;
        int fds[2], r;
        char byte;

        doomed = context_of(8);
        destroyed = 1;
        CHECK(pipe(fds) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
        io_prep_pread(&iocb, fds[0], &byte, 1, 0);
        CHECK(submit(doomed, &iocb) == 1);
        CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
        r = io_getevents(doomed, 1, 1, &event, i % 2 ? &soon : NULL);
        CHECK(destroyed == 0 && (r == -EINTR || r == -EINVAL));
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(io_getevents(doomed, 1, 1, &event, &soon) == -EINVAL);
        close(fds[0]);
        close(fds[1]);
    }
}

static volatile pid_t forked = -1;

static void fork_in_handler(int signo)
{
    (void)signo;
    forked = fork();
}

/* BETTER: it waits for a pipe. In the child the call that was interrupted ends as any other. */
static void l31_a_handler_may_fork_and_the_child_come_back(void)
{
    struct sigaction action = { .sa_handler = fork_in_handler };
    io_context_t context = context_of(8);
    struct timespec soon = { .tv_sec = 2 };
    struct io_event event;
    pthread_t thread;
    struct iocb iocb;
    int fds[2], r, status;
    char byte;

    main_thread = pthread_self();
    CHECK(pipe(fds) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
    r = io_getevents(context, 1, 1, &event, &soon);
    if (forked == 0) {
        io_context_t own = context_of(8);

        alarm(10);
        CHECK(r == -EINTR || r == -EINVAL);
        io_prep_pread(&iocb, file_of(PAGE, 0), &byte, 1, 0);
        CHECK(io_getevents(context, 1, 1, &event, &soon) == -EINVAL);
        CHECK(outcome(own, &iocb) == 1 && io_destroy(own) == 0);
        _exit(0);
    }
    CHECK(r == -EINTR && pthread_join(thread, NULL) == 0);
    CHECK(waitpid(forked, &status, 0) == forked && status == 0);
    CHECK(write(fds[1], "x", 1) == 1 && take(context, BY_CALL).obj == &iocb);
    CHECK(io_destroy(context) == 0);
}

static void *read_meanwhile(void *arg)
{
    io_context_t context = context_of(8);

    while (!enough) {
        struct iocb iocb;
        char bytes[10];

        io_prep_pread(&iocb, *(int *)arg, bytes, 10, 5);
        CHECK(outcome(context, &iocb) == 10 && is_filled(bytes, 10, 5));
    }
    return NULL;
}

static void l31_a_fork_may_come_at_any_time(void)
{
    int fd = file_of(PAGE, 0);
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, read_meanwhile, &fd) == 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            if (i % 2)
                use_all_kinds(true);
            exit(0);
        }
        CHECK(end_of(child) == 0);
    }
    enough = true;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- Without (L36), and without need (L37) -------------------------------------------------- */

static void l36_without_io_uring_all_is_the_same(void)
{
    static const int refusals[] = { EPERM, ENOSYS, ENOMEM };

    for (unsigned i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            refuse_io_uring(refusals[i]);
            use_all_kinds(true);
            CHECK(!has_io_uring());
            _exit(0);
        }
        CHECK(end_of(child) == 0);
    }
}

/* BETTER, of course. */
static void l36_without_the_kernels_aio_there_are_contexts(void)
{
    static const int refusals[] = { ENOSYS, EPERM };

    for (unsigned i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            refuse_calls(SYS_io_setup, SYS_io_cancel, refusals[i]);
            use_all_kinds(false);
            _exit(0);
        }
        CHECK(end_of(child) == 0);
    }
}

/* They go where they would have gone without the library: no thread, no ring, no descriptor. */
static void l37_direct_requests_need_nothing_else(void)
{
    int fd = file_of(64 * PAGE, O_DIRECT), fds = count_of("/proc/self/fd");
    int threads = count_of("/proc/self/task");
    io_context_t context = context_of(64);
    char *bytes = aligned(64 * (size_t)PAGE);
    struct iocb iocbs[64], *list[64];
    struct io_event events[64];

    if (!(fcntl(fd, F_GETFL) & O_DIRECT))
        _exit(SKIP_STATUS);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 64; i++) {
            list[i] = &iocbs[i];
            if (round % 2)
                io_prep_pread(list[i], fd, bytes + (size_t)i * PAGE, PAGE, i * PAGE);
            else
                io_prep_pwrite(list[i], fd, bytes + (size_t)i * PAGE, PAGE, i * PAGE);
        }
        CHECK(io_submit(context, 64, list) == 64);
        CHECK(io_getevents(context, 64, 64, events, NULL) == 64);
    }
    CHECK(count_of("/proc/self/fd") == fds && count_of("/proc/self/task") == threads);
}

/* ---- A program that is called from inside (decision 5) --------------------------------------- */

static io_context_t context_inside;
static int file_inside;
static atomic_int calls_inside, refused_inside;

static void call_from_inside(void)
{
    static _Thread_local bool nested;
    struct io_event event;
    struct iocb iocb;
    char byte;
    int r;

    if (nested)
        return;
    nested = true;
    calls_inside++;
    io_prep_pread(&iocb, file_inside, &byte, 1, 0);
    r = submit(context_inside, &iocb);
    CHECK(r == 1 || r == -EAGAIN);
    if (r == 1)
        CHECK(io_getevents(context_inside, 1, 1, &event, NULL) == 1 && event.res == 1);
    else
        refused_inside++;
    nested = false;
}

/* As an allocator does that writes what it is asked for into a log. */
static void d5_what_the_library_calls_may_call_it(void)
{
    enum { COUNT = 600 };
    static struct iocb blocks[COUNT];
    static struct io_event events[COUNT];
    struct iocb *list[COUNT];
    io_context_t context = context_of(COUNT);
    char byte;

    if (SANITIZED)
        _exit(SKIP_STATUS);
    context_inside = context_of(8);
    file_inside = temp_file(0);
    CHECK(pwrite(file_inside, "a", 1, 0) == 1);
    for (int i = 0; i < COUNT; i++) {
        io_prep_pread(&blocks[i], file_inside, &byte, 1, 0);
        list[i] = &blocks[i];
    }
    in_allocation = call_from_inside;
    for (int done = 0; done < COUNT;) {
        int r = io_submit(context, COUNT - done, list + done);

        CHECK(r > 0);
        done += r;
    }
    CHECK(io_getevents(context, COUNT, COUNT, events, NULL) == COUNT);
    in_allocation = call_nobody;
    dprintf(1, "# %d calls, %d of them from inside\n", calls_inside, refused_inside);
    for (int i = 0; i < COUNT; i++)
        CHECK(events[i].res == 1);
}

const struct dropin_case process_tests[] = {
    TEST(l29_a_poll_that_waits_is_cancelled),
    TEST(l29_what_io_cancel_refuses),
    TEST(l29_reads_and_writes_are_not_cancelled),
    BETTER(l29_a_read_of_a_pipe_is_not_cancelled),
    TEST(l30_a_poll_ends_when_its_descriptor_is_ready),
    TEST(l30_hang_ups_and_errors_need_not_be_asked_for),
    TEST(l30_no_poll_misses_a_splice),
    TEST(l31_a_child_has_no_contexts_but_its_own),
    BETTER(l31_what_waits_for_a_pipe_is_the_parents),
    BETTER(l31_a_handler_may_fork_and_the_child_come_back),
    BETTER(l06_a_handler_may_destroy_what_it_has_interrupted),
    TEST(l31_a_fork_may_come_at_any_time),
    TEST(l36_without_io_uring_all_is_the_same),
    BETTER(l36_without_the_kernels_aio_there_are_contexts),
    TEST(l37_direct_requests_need_nothing_else),
    TEST(d5_what_the_library_calls_may_call_it),
    { 0 },
};

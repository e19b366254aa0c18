/* SPDX-License-Identifier: MIT */
/* libaio_end.c: threads and processes that end with requests in flight (L32). */
#include "libaio_test.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "../compat/aio_versions.h"

enum { PIECE = 256 << 10 };

enum end {
    BY__EXIT,
    BY_C_EXIT, /* _Exit, which is C's own */
    BY_EXIT,
    BY_QUICK_EXIT,
    BY_OLD_QUICK_EXIT,
    BY__EXIT_OF_A_THREAD,
    BY_RETURN,
    BY_SIGKILL
};

/* As programs of that time call it; younger machines have one alone. */
#ifdef AIO_OLD_QUICK_EXIT
extern void old_quick_exit(int status) __attribute__((noreturn));
__asm__(".symver old_quick_exit, quick_exit@" AIO_TEXT(AIO_OLD_QUICK_EXIT));
#else
#define old_quick_exit quick_exit
#endif

static void *leave(void *arg)
{
    _exit(*(int *)arg);
}

static void end_by(enum end end)
{
    int status = 0;
    pthread_t thread;

    switch (end) {
    case BY__EXIT: _exit(0);
    case BY_C_EXIT: _Exit(0);
    case BY_EXIT: exit(0);
    case BY_QUICK_EXIT: quick_exit(0);
    case BY_OLD_QUICK_EXIT: old_quick_exit(0);
    case BY_SIGKILL: raise(SIGKILL); break;
    case BY_RETURN: pthread_exit(NULL); /* of the last thread */
    default:
        CHECK(pthread_create(&thread, NULL, leave, &status) == 0);
        pthread_join(thread, NULL);
        break;
    }
}

/* A child writes so many pieces, and ends at once. */
static void write_and_end(int flags, int pieces, enum end end)
{
    size_t size = (size_t)pieces * PIECE;
    char *bytes = aligned(size), *same = aligned(size);
    int fd = temp_file(flags), status;
    pid_t child;

    fill_at(bytes, size, 0);
    child = fork();
    if (child == 0) {
        static struct iocb iocbs[256], *list[256];
        io_context_t context = context_of(pieces);

        alarm(15);
        for (int i = 0; i < pieces; i++) {
            list[i] = &iocbs[i];
            io_prep_pwrite(list[i], fd, bytes + (size_t)i * PIECE, PIECE, (off_t)i * PIECE);
        }
        CHECK(io_submit(context, pieces, list) == pieces);
        end_by(end);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(status == (end == BY_SIGKILL ? SIGKILL : 0));
    for (size_t at = 0; at < size; at += PIECE)
        CHECK(pread(fd, same + at, PIECE, (off_t)at) == PIECE);
    CHECK(memcmp(bytes, same, size) == 0);
    munmap(bytes, size);
    munmap(same, size);
    close(fd);
}

static void l32_64_mib_are_written_behind__exit(void)
{
    write_and_end(0, 256, BY__EXIT);
    write_and_end(O_DIRECT, 256, BY__EXIT);
}

static void write_and_end_by(enum end end)
{
    for (int i = 0; i < 3; i++) {
        write_and_end(0, 32, end);
        write_and_end(O_DIRECT, 32, end);
    }
}

static void l32_what_is_accepted_is_written_behind__Exit(void)
{
    write_and_end_by(BY_C_EXIT);
}

static void l32_what_is_accepted_is_written_behind_exit(void)
{
    write_and_end_by(BY_EXIT);
}

static void l32_what_is_accepted_is_written_behind_quick_exit(void)
{
    write_and_end_by(BY_QUICK_EXIT);
}

static void l32_what_is_accepted_is_written_behind_the_older_quick_exit(void)
{
    write_and_end_by(BY_OLD_QUICK_EXIT);
}

static void l32_what_is_accepted_is_written_behind__exit_of_a_thread(void)
{
    write_and_end_by(BY__EXIT_OF_A_THREAD);
}

static void l32_what_is_accepted_is_written_behind_the_last_thread(void)
{
    write_and_end_by(BY_RETURN);
}

/* Buffered writes were over already with the kernel, and are not here. */
static void l32_direct_writes_survive_sigkill(void)
{
    for (int i = 0; i < 3; i++)
        write_and_end(O_DIRECT, 32, BY_SIGKILL);
}

/* BETTER: there is no such request with the kernel. Nobody will ever bring its byte. */
static io_context_t left;

static void destroy_left(void)
{
    CHECK(io_destroy(left) == 0);
}

static void end_with_a_pipe(enum end end, bool destroys)
{
    int fds[2], status;
    double start = now_s();
    pid_t child;

    CHECK(pipe(fds) == 0);
    if ((child = fork()) == 0) {
        struct iocb iocb;
        char byte;

        alarm(10);
        left = context_of(8);
        CHECK(!destroys || atexit(destroy_left) == 0);
        io_prep_pread(&iocb, fds[0], &byte, 1, 0);
        CHECK(submit(left, &iocb) == 1);
        end_by(end);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(now_s() - start < 2);
    close(fds[0]);
    close(fds[1]);
}

static void l32_the_end_waits_for_no_pipe(void)
{
    for (enum end end = BY__EXIT; end < BY_RETURN; end++)
        end_with_a_pipe(end, false);
}

static void l32_the_end_of_the_last_thread_waits_for_no_pipe(void)
{
    end_with_a_pipe(BY_RETURN, false);
}

static void l32_a_context_may_be_destroyed_at_the_end(void)
{
    end_with_a_pipe(BY_EXIT, true);
    end_with_a_pipe(BY_RETURN, true);
}

/* ---- Threads -------------------------------------------------------------------------------- */

struct errand {
    io_context_t context;
    struct iocb iocbs[16];
    char bytes[16][1000];
    int fd, count;
};

static void *submit_and_end(void *arg)
{
    struct errand *errand = arg;
    struct iocb *list[16];

    for (int i = 0; i < errand->count; i++) {
        list[i] = &errand->iocbs[i];
        io_prep_pread(list[i], errand->fd, errand->bytes[i], 1000, i * 1000);
    }
    CHECK(io_submit(errand->context, errand->count, list) == errand->count);
    return NULL;
}

static void l32_requests_survive_their_thread(void)
{
    for (int round = 0; round < 20; round++) {
        struct errand errand = { .context = context_of(16), .count = 16 };
        pthread_t thread;

        errand.fd = file_of(16000, 0);
        CHECK(pthread_create(&thread, NULL, submit_and_end, &errand) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        for (int i = 0; i < 16; i++) {
            struct io_event event = take(errand.context, (enum path)(round % PATHS));
            long which = event.obj - errand.iocbs;

            CHECK(result_of(&event) == 1000);
            CHECK(is_filled(errand.bytes[which], 1000, which * 1000));
        }
        close(errand.fd);
        CHECK(io_destroy(errand.context) == 0);
    }
}

/* BETTER: it waits for a pipe. */
static void l32_what_waits_for_a_pipe_survives_its_thread(void)
{
    static struct errand errand = { .count = 1 };
    struct io_event event;
    pthread_t thread;
    int fds[2];

    CHECK(pipe(fds) == 0);
    errand.context = context_of(16);
    errand.fd = fds[0];
    CHECK(pthread_create(&thread, NULL, submit_and_end, &errand) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    nap_ms(20);
    CHECK(write(fds[1], "x", 1) == 1);
    event = take(errand.context, BY_RING);
    CHECK(event.obj == errand.iocbs && result_of(&event) == 1 && errand.bytes[0][0] == 'x');
}

const struct dropin_case end_tests[] = {
    TEST(l32_64_mib_are_written_behind__exit),
    TEST(l32_what_is_accepted_is_written_behind__Exit),
    TEST(l32_what_is_accepted_is_written_behind_exit),
    TEST(l32_what_is_accepted_is_written_behind_quick_exit),
    TEST(l32_what_is_accepted_is_written_behind_the_older_quick_exit),
    TEST(l32_what_is_accepted_is_written_behind__exit_of_a_thread),
    TEST(l32_what_is_accepted_is_written_behind_the_last_thread),
    TEST(l32_direct_writes_survive_sigkill),
    BETTER(l32_the_end_waits_for_no_pipe),
    BETTER(l32_the_end_of_the_last_thread_waits_for_no_pipe),
    BETTER(l32_a_context_may_be_destroyed_at_the_end),
    TEST(l32_requests_survive_their_thread),
    BETTER(l32_what_waits_for_a_pipe_survives_its_thread),
    { 0 },
};

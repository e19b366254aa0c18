/* SPDX-License-Identifier: MIT */
/* libaio_stream.c: requests that may have to wait, and in which order they are done (L14-L16,
 * L35). */
#include "libaio_test.h"

#include <pty.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>

/* The least of some times is that of a submission, and not of whatever the machine does else. */
static double quickest(io_context_t context, struct iocb *iocbs, int count)
{
    double best = 1e9;

    for (int i = 0; i < count; i++) {
        double start = now_s(), took;

        CHECK(submit(context, &iocbs[i]) == 1);
        took = now_s() - start;
        best = took < best ? took : best;
    }
    return best;
}

/* BETTER, as are the others that wait: io_submit does it there and then, in the kernel. */
static void l15_a_read_of_a_pipe_is_waited_for_behind_io_submit(void)
{
    enum { COUNT = 5 };
    io_context_t context = context_of(8);
    struct iocb iocbs[COUNT];
    struct io_event event;
    char bytes[COUNT];
    int fds[2];

    CHECK(pipe(fds) == 0);
    for (int i = 0; i < COUNT; i++)
        io_prep_pread(&iocbs[i], fds[0], &bytes[i], 1, 0);
    CHECK(quickest(context, iocbs, COUNT) < 0.001);
    CHECK(!take_within(context, BY_SYSTEM_CALL, 50, &event));
    for (int i = 0; i < COUNT; i++) {
        char byte = (char)('a' + i);

        CHECK(write(fds[1], &byte, 1) == 1);
        event = take(context, (enum path)(i % PATHS));
        CHECK(event.obj == &iocbs[i] && result_of(&event) == 1 && bytes[i] == byte);
    }
}

static void l15_a_read_of_a_socket_is_waited_for_behind_io_submit(void)
{
    io_context_t context = context_of(8);
    struct iocb iocbs[2];
    struct io_event event;
    char bytes[8];
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    io_prep_pread(&iocbs[0], pair[0], bytes, 8, 0);
    io_prep_pread(&iocbs[1], pair[0], bytes, 8, 0);
    CHECK(quickest(context, iocbs, 2) < 0.001);
    CHECK(write(pair[1], "abc", 3) == 3);
    event = take(context, BY_RING);
    CHECK(event.obj == &iocbs[0] && result_of(&event) == 3 && memcmp(bytes, "abc", 3) == 0);
    close(pair[1]);
    event = take(context, BY_CALL);
    CHECK(event.obj == &iocbs[1] && result_of(&event) == 0);
}

static void l15_a_read_of_a_terminal_is_waited_for_behind_io_submit(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    char bytes[8];
    int far, fd;

    CHECK(openpty(&far, &fd, NULL, NULL, NULL) == 0);
    io_prep_pread(&iocb, fd, bytes, 8, 0);
    CHECK(quickest(context, &iocb, 1) < 0.1);
    CHECK(!take_within(context, BY_CALL, 20, &event));
    CHECK(write(far, "ab\n", 3) == 3);
    event = take(context, BY_CALL);
    CHECK(event.obj == &iocb && result_of(&event) == 3 && memcmp(bytes, "ab\n", 3) == 0);
}

static void l15_a_write_into_a_full_pipe_is_waited_for_behind_io_submit(void)
{
    enum { SIZE = 200000 };
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    char *bytes = aligned(SIZE), *got = aligned(SIZE);
    int fds[2];

    CHECK(pipe(fds) == 0);
    fill_at(bytes, SIZE, 0);
    io_prep_pwrite(&iocb, fds[1], bytes, SIZE, 0);
    CHECK(quickest(context, &iocb, 1) < 0.1);
    for (ssize_t at = 0, r; at < SIZE; at += r)
        CHECK((r = read(fds[0], got + at, (size_t)(SIZE - at))) > 0);
    CHECK(memcmp(bytes, got, SIZE) == 0);
    event = take(context, BY_CALL);
    CHECK(result_of(&event) == SIZE);
}

/* One that waits holds up no other, nor one of another kind. */
static void l15_what_waits_holds_up_nothing(void)
{
    io_context_t context = context_of(8);
    int fds[2], fd = file_of(8192, 0), direct = file_of(8192, O_DIRECT);
    char *bytes = aligned(8192), byte;
    struct iocb waits, iocb;

    CHECK(pipe(fds) == 0);
    io_prep_pread(&waits, fds[0], &byte, 1, 0);
    CHECK(submit(context, &waits) == 1);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, fd, bytes, 4096, 4096);
        CHECK(outcome_by(context, &iocb, path) == 4096 && is_filled(bytes, 4096, 4096));
        io_prep_pread(&iocb, direct, bytes, 4096, 0);
        CHECK(outcome_by(context, &iocb, path) == 4096 && is_filled(bytes, 4096, 0));
        io_prep_fsync(&iocb, fd); /* L35: it waits for none of the others */
        CHECK(outcome_by(context, &iocb, path) == 0);
    }
    CHECK(write(fds[1], "x", 1) == 1 && take(context, BY_CALL).obj == &waits);
}

static void l35_writes_and_syncs_are_all_done(void)
{
    enum { COUNT = 32 };
    io_context_t context = context_of(2 * COUNT);
    struct iocb iocbs[2 * COUNT], *list[2 * COUNT];
    char bytes[COUNT];
    int fd = temp_file(0);

    memset(bytes, 'x', COUNT);
    for (int i = 0; i < 2 * COUNT; i++) {
        list[i] = &iocbs[i];
        if (i % 2)
            io_prep_fdsync(list[i], fd);
        else
            io_prep_pwrite(list[i], fd, &bytes[i / 2], 1, i / 2);
    }
    CHECK(io_submit(context, 2 * COUNT, list) == 2 * COUNT);
    for (int i = 0; i < 2 * COUNT; i++) {
        struct io_event event = take(context, BY_CALL);

        CHECK(result_of(&event) == ((event.obj - iocbs) % 2 ? 0 : 1));
    }
    CHECK(lseek(fd, 0, SEEK_END) == COUNT);
}

/* ---- Order (L16) ---------------------------------------------------------------------------- */

static void append(int flags, size_t size, int batch)
{
    enum { COUNT = 64 };
    io_context_t context = context_of(COUNT);
    struct iocb iocbs[COUNT], *list[COUNT];
    char *bytes = aligned(COUNT * size), *got = aligned(COUNT * size);
    int fd = temp_file(O_APPEND | flags);

    fill_at(bytes, COUNT * size, 0);
    for (int i = 0; i < COUNT; i++) {
        list[i] = &iocbs[i];
        io_prep_pwrite(list[i], fd, bytes + (size_t)i * size, size, 0);
    }
    for (int i = 0; i < COUNT; i += batch)
        CHECK(io_submit(context, batch, list + i) == batch);
    for (int i = 0; i < COUNT; i++) {
        struct io_event event = take(context, BY_CALL);

        CHECK(result_of(&event) == (long)size);
    }
    CHECK(pread(fd, got, COUNT * size, 0) == (ssize_t)(COUNT * size));
    CHECK(memcmp(bytes, got, COUNT * size) == 0);
}

static void l16_appended_writes_keep_their_order(void)
{
    append(0, 1000, 64);
    append(0, 10000, 1);
    append(O_DIRECT, 4096, 64);
    append(O_DIRECT, 4096, 1);
}

/* Writes with a flag of their own, between those that append anyway. */
static void l16_rwf_append_keeps_its_order(void)
{
    enum { COUNT = 16 };
    io_context_t context = context_of(COUNT);
    struct iocb iocbs[COUNT], *list[COUNT];
    struct iovec vectors[COUNT];
    char bytes[COUNT], got[COUNT];
    int fd = temp_file(0);

    for (int i = 0; i < COUNT; i++) {
        bytes[i] = (char)('a' + i);
        vectors[i] = (struct iovec){ &bytes[i], 1 };
        list[i] = &iocbs[i];
        io_prep_pwritev2(list[i], fd, &vectors[i], 1, 0, RWF_APPEND);
    }
    CHECK(io_submit(context, COUNT, list) == COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct io_event event = take(context, BY_CALL);

        CHECK(result_of(&event) == 1);
    }
    CHECK(pread(fd, got, COUNT, 0) == COUNT && memcmp(bytes, got, COUNT) == 0);
}

/* In one batch, and by one call each; a pipe and a socket. */
static void write_in_order(int out, int in, int batch)
{
    enum { COUNT = 60, SIZE = 700 };
    io_context_t context = context_of(COUNT);
    struct iocb iocbs[COUNT], *list[COUNT];
    char *bytes = aligned((size_t)COUNT * SIZE), *got = aligned((size_t)COUNT * SIZE);
    ssize_t r;

    fill_at(bytes, (size_t)COUNT * SIZE, 0);
    for (int i = 0; i < COUNT; i++) {
        list[i] = &iocbs[i];
        io_prep_pwrite(list[i], out, bytes + (size_t)i * SIZE, SIZE, 0);
    }
    for (int i = 0; i < COUNT; i += batch)
        CHECK(io_submit(context, batch, list + i) == batch);
    for (ssize_t at = 0; at < COUNT * SIZE; at += r)
        CHECK((r = read(in, got + at, (size_t)(COUNT * SIZE - at))) > 0);
    CHECK(memcmp(bytes, got, (size_t)COUNT * SIZE) == 0);
    for (int i = 0; i < COUNT; i++) {
        struct io_event event = take(context, (enum path)(i % PATHS));

        CHECK(result_of(&event) == SIZE);
    }
    CHECK(io_destroy(context) == 0);
}

static void l16_writes_into_a_stream_keep_their_order(void)
{
    int fds[2], pair[2];

    CHECK(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (int i = 0; i < 10; i++) {
        write_in_order(fds[1], fds[0], i % 2 ? 1 : 60);
        write_in_order(pair[1], pair[0], i % 2 ? 1 : 60);
    }
}

static void read_in_order(int in, int out, bool before)
{
    enum { COUNT = 60, SIZE = 100 };
    io_context_t context = context_of(COUNT);
    struct iocb iocbs[COUNT], *list[COUNT];
    char bytes[COUNT * SIZE], got[COUNT * SIZE];

    fill_at(bytes, sizeof(bytes), 0);
    for (int i = 0; i < COUNT; i++) {
        list[i] = &iocbs[i];
        io_prep_pread(list[i], in, got + (size_t)i * SIZE, SIZE, 0);
    }
    if (before)
        CHECK(write(out, bytes, sizeof(bytes)) == sizeof(bytes));
    CHECK(io_submit(context, COUNT, list) == COUNT);
    if (!before)
        CHECK(write(out, bytes, sizeof(bytes)) == sizeof(bytes));
    for (int i = 0; i < COUNT; i++) {
        struct io_event event = take(context, BY_CALL);

        CHECK(result_of(&event) == SIZE);
    }
    CHECK(memcmp(bytes, got, sizeof(bytes)) == 0);
    CHECK(io_destroy(context) == 0);
}

static void read_streams(bool before)
{
    int fds[2], pair[2];

    CHECK(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (int i = 0; i < 10; i++) {
        read_in_order(fds[0], fds[1], before);
        read_in_order(pair[0], pair[1], before);
    }
}

static void l16_reads_of_a_stream_keep_their_order(void)
{
    read_streams(true);
}

static void l16_reads_that_wait_keep_their_order(void)
{
    read_streams(false);
}

/* ---- io_getevents without a number to wait for (L14) ---------------------------------------- */

/* On the kernel such requests are over when io_submit returns, and programs count on it. */
static void l14_what_is_over_at_once_is_found_at_once(void)
{
    io_context_t context = context_of(8);
    struct timespec second = { 1, 0 };
    int fd = file_of(1 << 20, 0);
    struct io_event event;
    struct iocb iocb;
    char bytes[4096];

    for (int i = 0; i < 20; i++) {
        io_prep_pread(&iocb, fd, bytes, i % 4 ? sizeof(bytes) : 0, i * 50000);
        CHECK(submit(context, &iocb) == 1);
        CHECK(io_getevents(context, 0, 1, &event, i % 2 ? NULL : &second) == 1);
        CHECK(event.obj == &iocb && result_of(&event) == (i % 4 ? 4096 : 0));
        CHECK(i % 4 == 0 || is_filled(bytes, sizeof(bytes), i * 50000));
    }
}

/* Nothing is waited for that the kernel would not have ended in io_submit: Seastar looks so. */
static void l14_what_waits_is_not_waited_for(void)
{
    io_context_t context = context_of(8);
    struct timespec hour = { 3600, 0 };
    struct io_event event;
    struct iocb iocb;
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_poll(&iocb, fds[0], 1);
    CHECK(submit(context, &iocb) == 1);
    CHECK(io_getevents(context, 0, 1, &event, NULL) == 0);
    CHECK(io_getevents(context, 0, 1, &event, &hour) == 0);
}

/* BETTER: such a read is accepted. */
static void l14_a_pipe_is_not_waited_for(void)
{
    io_context_t context = context_of(8);
    struct timespec hour = { 3600, 0 };
    struct io_event event;
    struct iocb iocb;
    char byte;
    int fds[2];

    CHECK(pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], &byte, 1, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(io_getevents(context, 0, 1, &event, NULL) == 0);
    CHECK(io_getevents(context, 0, 1, &event, &hour) == 0);
}

const struct dropin_case stream_tests[] = {
    TEST(l14_what_is_over_at_once_is_found_at_once),
    TEST(l14_what_waits_is_not_waited_for),
    BETTER(l14_a_pipe_is_not_waited_for),
    BETTER(l15_a_read_of_a_pipe_is_waited_for_behind_io_submit),
    BETTER(l15_a_read_of_a_socket_is_waited_for_behind_io_submit),
    BETTER(l15_a_read_of_a_terminal_is_waited_for_behind_io_submit),
    BETTER(l15_a_write_into_a_full_pipe_is_waited_for_behind_io_submit),
    BETTER(l15_what_waits_holds_up_nothing),
    TEST(l16_appended_writes_keep_their_order),
    TEST(l16_rwf_append_keeps_its_order),
    TEST(l16_writes_into_a_stream_keep_their_order),
    TEST(l16_reads_of_a_stream_keep_their_order),
    BETTER(l16_reads_that_wait_keep_their_order),
    TEST(l35_writes_and_syncs_are_all_done),
    { 0 },
};

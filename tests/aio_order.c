/* SPDX-License-Identifier: MIT */
/* aio_order.c: what runs beside each other and what runs in order, on which file (P15-P20). */
#include "aio_test.h"

#include <sys/socket.h>
#include <sys/wait.h>

static void p15_requests_on_one_file_run_beside_each_other(void)
{
    enum { COUNT = 200 };
    static struct aiocb blocks[COUNT];
    static char data[COUNT][512], back[COUNT][512];
    int fd = temp_file(0);

    for (int i = 0; i < COUNT; i++) {
        memset(data[i], i, sizeof(data[i]));
        blocks[i] = block_of(fd, data[i], 512, i * 512);
        CHECK(aio_write(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && aio_return(&blocks[i]) == 512);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fd, back[i], 512, i * 512);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && memcmp(back[i], data[i], 512) == 0);
}

/* BETTER: glibc does one after the other. */
static void p15_a_small_request_overtakes_a_large_one(void)
{
    enum { LARGE = 64 << 20, TIMES = 20 };
    char *data = calloc(1, LARGE), byte;
    int fd = temp_file(0), overtaken = 0;

    CHECK(data && pwrite(fd, data, LARGE, 0) == LARGE);
    for (int i = 0; i < TIMES && !overtaken; i++) {
        struct aiocb large = block_of(fd, data, LARGE, 0), small = block_of(fd, &byte, 1, 0);

        CHECK(aio_read(&large) == 0 && aio_read(&small) == 0);
        CHECK(await(&small) == 0);
        overtaken = aio_error(&large) == EINPROGRESS;
        CHECK(await(&large) == 0 && aio_return(&large) == LARGE && aio_return(&small) == 1);
    }
    CHECK(overtaken);
    free(data);
}

static void p16_appends_come_in_order(void)
{
    enum { COUNT = 300, SIZE = 4096 };
    static struct aiocb blocks[COUNT];
    char *data = aligned_alloc(4096, COUNT * SIZE), *back = aligned_alloc(4096, COUNT * SIZE);

    for (int direct = 0; direct <= O_DIRECT; direct += O_DIRECT) {
        int fd = temp_file(O_APPEND | direct);

        for (int i = 0; i < COUNT; i++) {
            memset(data + i * SIZE, i % 251, SIZE);
            blocks[i] = block_of(fd, data + i * SIZE, SIZE, 0);
            CHECK(aio_write(&blocks[i]) == 0);
        }
        for (int i = 0; i < COUNT; i++)
            CHECK(await(&blocks[i]) == 0 && aio_return(&blocks[i]) == SIZE);
        CHECK(pread(fd, back, COUNT * SIZE, 0) == COUNT * SIZE);
        CHECK(memcmp(data, back, COUNT * SIZE) == 0);
    }
}

static void p17_a_stream_reads_in_order_beside_its_writes(void)
{
    enum { COUNT = 50 };
    static struct aiocb blocks[COUNT];
    static char back[COUNT][3];
    char data[COUNT * 3 + 1];
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fds[0], back[i], 3, 0);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    CHECK(write_by(fds[0], "ping", 4, 0) == 4); /* BETTER: glibc waits for the reads */
    for (int i = 0; i < COUNT; i++)
        snprintf(data + i * 3, 4, "%03d", i);
    for (int i = 0; i < COUNT; i++) {
        CHECK(write(fds[1], data + i * 3, 3) == 3);
        CHECK(await(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(memcmp(back[i], data + i * 3, 3) == 0);
}

static void p18_a_sync_waits_for_what_was_before_it(void)
{
    enum { COUNT = 100, SIZE = 16384 };
    static struct aiocb blocks[COUNT];
    static char data[SIZE];
    struct aiocb sync;
    int fd = temp_file(0), fds[2], readonly = open("/etc/passwd", O_RDONLY);

    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fd, data, SIZE, (off_t)i * SIZE);
        CHECK(aio_write(&blocks[i]) == 0);
    }
    sync = block_of(fd, NULL, 0, 0);
    CHECK(aio_fsync(O_SYNC, &sync) == 0);
    CHECK(await(&sync) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_error(&blocks[i]) == 0);
    CHECK(aio_fsync(O_DSYNC, &sync) == 0 && await(&sync) == 0 && aio_return(&sync) == 0);
    CHECK(aio_fsync(12345, &sync) == -1 && errno == EINVAL);
    sync.aio_fildes = 999;
    CHECK(aio_fsync(O_SYNC, &sync) == -1 && errno == EBADF);
    sync.aio_fildes = readonly;
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && await(&sync) == 0);
    CHECK(pipe(fds) == 0);
    sync.aio_fildes = fds[0];
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && await(&sync) == EINVAL);
}

static void p18_a_sync_holds_up_nothing_behind_it(void)
{
    char byte, other;
    int fds[2];
    struct aiocb first, sync;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    first = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&first) == 0);
    sync = block_of(fds[0], NULL, 0, 0);
    CHECK(aio_fsync(O_SYNC, &sync) == 0 && aio_error(&sync) == EINPROGRESS);
    CHECK(write_by(fds[0], "a", 1, 0) == 1 && recv(fds[1], &other, 1, 0) == 1);
    CHECK(aio_error(&sync) == EINPROGRESS);
    CHECK(write(fds[1], "b", 1) == 1);
    CHECK(await(&first) == 0 && await(&sync) == EINVAL);
}

/* BETTER (glibc reads from the file that has the number then, BZ 14942) */
static void p19_a_request_never_reads_another_file(void)
{
    char byte = 0, other = 0;
    int fds[2], fd;
    struct aiocb first, second;

    CHECK(pipe(fds) == 0);
    first = block_of(fds[0], &byte, 1, 0);
    second = block_of(fds[0], &other, 1, 0);
    CHECK(aio_read(&first) == 0 && aio_read(&second) == 0);
    nap_ms(20);
    fd = open("/etc/passwd", O_RDONLY);
    CHECK(dup2(fd, fds[0]) == fds[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK(write(fds[1], "xy", 2) == 2 || errno == EPIPE);
    /* Where readiness is waited for, nothing may tell any more that the pipe is gone. */
    for (int i = 0; i < 500 && aio_error(&second) == EINPROGRESS; i++)
        nap_ms(1);
    CHECK(other == 0 || other == 'y');
    CHECK(byte == 0 || byte == 'x');
}

enum { APPENDS = 200, APPEND = 4096 };

/* The number is another file's as soon as they are submitted: how many were written before. */
static int append_and_replace(char (*data)[APPEND], int number, int other, bool closed)
{
    static struct aiocb blocks[APPENDS];
    int done = 0;

    for (int i = 0; i < APPENDS; i++) {
        blocks[i] = block_of(number, data[i], APPEND, 0);
        CHECK(aio_write(&blocks[i]) == 0);
    }
    if (closed)
        close(number);
    CHECK(dup2(other, number) == number);
    for (int i = 0; i < APPENDS; i++) {
        int error = await(&blocks[i]);

        CHECK(error == EBADF || (error == 0 && done == i && aio_return(&blocks[i]) == APPEND));
        done += error == 0;
    }
    return done;
}

/* BETTER: glibc writes them into the file that has the number then. They end with an error instead.
 * Without io_uring the number may change between a thread's last look and its write. */
static void p19_appends_that_wait_never_write_another_file(void)
{
    enum { ROUNDS = 20 };
    static char data[APPENDS][APPEND], back[APPENDS][APPEND];
    int strays = 0;

    for (int i = 0; i < APPENDS; i++)
        memset(data[i], i, APPEND);
    for (int round = 0; round < ROUNDS; round++) {
        int right = temp_file(O_APPEND), number = dup(right), other = temp_file(O_APPEND);
        int done = append_and_replace(data, number, other, round % 2);
        off_t astray = lseek(other, 0, SEEK_END), size = (off_t)done * APPEND - astray;

        strays += astray != 0;
        CHECK(astray == 0 || (astray == APPEND && !has_io_uring()));
        CHECK(lseek(right, 0, SEEK_END) == size);
        CHECK(pread(right, back, sizeof(back), 0) == (ssize_t)size);
        CHECK(memcmp(back, data, (size_t)size) == 0);
        close(number);
        close(right);
        close(other);
    }
    CHECK(strays <= ROUNDS / 10);
}

static void p19_record_locks_survive_requests(void)
{
    char byte;
    int fd = temp_file(0);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    pid_t child;
    int status;

    CHECK(pwrite(fd, "a", 1, 0) == 1 && fcntl(fd, F_SETLK, &lock) == 0);
    for (int i = 0; i < 10000; i++)
        CHECK(read_by(fd, &byte, 1, 0) == 1);
    child = fork();
    if (child == 0) {
        struct flock probe = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
        _exit(fcntl(fd, F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* BETTER: glibc sorts what waits for one descriptor, and mixes up a stream. */
static void p20_priorities_change_no_order_of_a_stream(void)
{
    enum { COUNT = 84 };
    static struct aiocb blocks[COUNT];
    static char bytes[COUNT];
    int fds[2];

    CHECK(pipe(fds) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        blocks[i].aio_reqprio = 20 - i % 21; /* less is more urgent, with glibc */
        CHECK(aio_read(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(write(fds[1], &(char){ (char)i }, 1) == 1);
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && bytes[i] == (char)i);
    for (int i = 0; i < COUNT; i++) { /* and writes, which wait for room */
        blocks[i] = block_of(fds[1], &bytes[i], 1, 0);
        blocks[i].aio_reqprio = 20 - i % 21;
    }
    while (fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0 && write(fds[1], "full", 4) == 4)
        ;
    CHECK(fcntl(fds[1], F_SETFL, 0) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_write(&blocks[i]) == 0);
    for (char byte = 'f'; byte == 'f' || byte == 'u' || byte == 'l';)
        CHECK(read(fds[0], &byte, 1) == 1 && (strchr("ful", byte) || byte == 0));
    for (int i = 1; i < COUNT; i++)
        CHECK(read(fds[0], bytes, 1) == 1 && bytes[0] == (char)i);
}

static void p20_priorities_change_no_order_of_appends(void)
{
    enum { COUNT = 84, SIZE = 4096 };
    static struct aiocb blocks[COUNT];
    static char data[COUNT][SIZE], back[SIZE];
    int fd = temp_file(O_APPEND);

    for (int i = 0; i < COUNT; i++) {
        memset(data[i], i, SIZE);
        blocks[i] = block_of(fd, data[i], SIZE, 0);
        blocks[i].aio_reqprio = 20 - i % 21;
        CHECK(aio_write(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && aio_return(&blocks[i]) == SIZE);
    for (int i = 0; i < COUNT; i++)
        CHECK(pread(fd, back, SIZE, i * SIZE) == SIZE && memcmp(back, data[i], SIZE) == 0);
}

/* A socket that is blocked holds up no file. */
static void reads_that_wait_hold_up_no_file(void)
{
    enum { COUNT = 50 };
    static struct aiocb blocks[COUNT];
    static char bytes[COUNT];
    char byte;
    int fd = temp_file(0);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < COUNT; i++) {
        int fds[2];

        CHECK(pipe(fds) == 0);
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    alarm(3);
    CHECK(read_by(fd, &byte, 1, 0) == 1 && byte == 'a');
    alarm(0);
}

const struct dropin_case order_tests[] = {
    TEST(p15_requests_on_one_file_run_beside_each_other),
    BETTER(p15_a_small_request_overtakes_a_large_one),
    TEST(p16_appends_come_in_order),
    BETTER(p17_a_stream_reads_in_order_beside_its_writes),
    TEST(p18_a_sync_waits_for_what_was_before_it),
    BETTER(p18_a_sync_holds_up_nothing_behind_it),
    BETTER(p19_a_request_never_reads_another_file),
    BETTER(p19_appends_that_wait_never_write_another_file),
    TEST(p19_record_locks_survive_requests),
    BETTER(p20_priorities_change_no_order_of_a_stream),
    BETTER(p20_priorities_change_no_order_of_appends),
    BETTER(reads_that_wait_hold_up_no_file),
    { 0 },
};

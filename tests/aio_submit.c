/* SPDX-License-Identifier: MIT */
/* aio_submit.c: what is accepted, what it is told, and how much of it (P1-P14). */
#include "aio_test.h"

#include <limits.h>
#include <sys/socket.h>

static void p1_a_read_of_what_has_not_come_returns_at_once(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    double start = now_s();

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    CHECK(now_s() - start < 1 && aio_error(&block) == EINPROGRESS);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(await(&block) == 0 && aio_return(&block) == 1 && byte == 'x');
}

static void p2_the_operation_code_is_for_lists_alone(void)
{
    char buf[3];
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, (void *)(uintptr_t) "abc", 3, 0);

    block.aio_lio_opcode = LIO_READ;
    CHECK(aio_write(&block) == 0 && await(&block) == 0 && aio_return(&block) == 3);
    block = block_of(fd, buf, 3, 0);
    block.aio_lio_opcode = LIO_WRITE;
    CHECK(aio_read(&block) == 0 && await(&block) == 0 && memcmp(buf, "abc", 3) == 0);
}

static void p3_priorities_have_a_range(void)
{
    char byte;
    int fd = temp_file(0);
    static const int bad[] = { -1, 21, INT_MAX, INT_MIN };

    for (unsigned i = 0; i < 4; i++) {
        struct aiocb block = block_of(fd, &byte, 1, 0);

        block.aio_reqprio = bad[i];
        CHECK(aio_read(&block) == -1 && errno == EINVAL);
        CHECK(aio_error(&block) == EINVAL && aio_return(&block) == -1);
    }
    for (int good = 0; good <= 20; good += 10) {
        struct aiocb block = block_of(fd, &byte, 1, 0);

        block.aio_reqprio = good;
        CHECK(aio_read(&block) == 0 && await(&block) == 0);
    }
}

static void p4_bad_descriptors_are_told_by_aio_error(void)
{
    char byte = 0;
    int readonly = open("/etc/passwd", O_RDONLY), writeonly = open("/dev/null", O_WRONLY);

    CHECK(read_by(999, &byte, 1, 0) == -1 && errno == EBADF);
    CHECK(read_by(-1, &byte, 1, 0) == -1 && errno == EBADF);
    CHECK(write_by(readonly, &byte, 1, 0) == -1 && errno == EBADF);
    CHECK(read_by(writeonly, &byte, 1, 0) == -1 && errno == EBADF);
}

static void p5_offsets_count_where_there_is_a_position(void)
{
    char buf[4];
    int fd = temp_file(0), fds[2];

    CHECK(pwrite(fd, "abcdef", 6, 0) == 6);
    CHECK(read_by(fd, buf, 3, -1) == -1 && errno == EINVAL);
    CHECK(read_by(fd, buf, 3, -5) == -1 && errno == EINVAL);
    CHECK(read_by(fd, buf, 3, 2) == 3 && memcmp(buf, "cde", 3) == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == 0);
    CHECK(pipe(fds) == 0 && write(fds[1], "xyz", 3) == 3);
    CHECK(read_by(fds[0], buf, 1, 4096) == 1 && buf[0] == 'x');
    CHECK(read_by(fds[0], buf, 1, -1) == 1 && buf[0] == 'y');
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK(write_by(fds[1], "s", 1, 77) == 1);
    CHECK(read_by(fds[0], buf, 1, 33) == 1 && buf[0] == 's');
}

static void p6_more_bytes_than_there_can_be(void)
{
    static char byte;
    int fd = temp_file(0);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    CHECK(read_by(fd, &byte, (size_t)SSIZE_MAX + 1, 0) == -1 &&
          (errno == EINVAL || errno == EFAULT));
    CHECK(read_by(fd, &byte, SIZE_MAX, 0) == -1 && (errno == EINVAL || errno == EFAULT));
}

static void p7_errors_and_the_end_come_by_aio_error(void)
{
    char byte;
    int fd = temp_file(0), dir = open("/", O_RDONLY);

    CHECK(pwrite(fd, "abc", 3, 0) == 3);
    CHECK(read_by(fd, (void *)8, 3, 0) == -1 && errno == EFAULT);
    CHECK(read_by(dir, &byte, 1, 0) == -1 && errno == EISDIR);
    CHECK(read_by(fd, &byte, 1, 3) == 0 && errno == 0);
    CHECK(read_by(fd, &byte, 0, 0) == 0 && errno == 0);
}

static void p8_descriptors_that_do_not_block_say_eagain(void)
{
    char byte;
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    CHECK(read_by(fds[0], &byte, 1, 0) == -1 && errno == EAGAIN);
}

static void p9_a_block_may_change_once_it_is_submitted(void)
{
    char byte = 0, other = 0;
    int fds[2], fd = temp_file(0);
    struct aiocb block;

    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 20; i++) { /* glibc's thread is quicker now and then */
        block = block_of(fds[0], &byte, 1, 0);
        CHECK(aio_read(&block) == 0);
        block.aio_buf = &other;
        block.aio_nbytes = 99;
        block.aio_fildes = fd;
        CHECK(write(fds[1], "x", 1) == 1);
        CHECK(await(&block) == 0 && aio_return(&block) == 1 && byte == 'x' && other == 0);
    }
}

static struct aiocb again;
static atomic_int again_left, again_done;
static void resubmit(union sigval value)
{
    (void)value;
    again_done++;
    if (again_left-- > 0)
        CHECK(aio_read(&again) == 0);
}

static void p10_a_block_may_be_submitted_again_by_its_own_notification(void)
{
    char byte;
    int fd = temp_file(0);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    again = block_of(fd, &byte, 1, 0);
    again.aio_sigevent.sigev_notify = SIGEV_THREAD;
    again.aio_sigevent.sigev_notify_function = resubmit;
    again.aio_sigevent.sigev_notify_attributes = NULL;
    again_left = 50;
    CHECK(aio_read(&again) == 0);
    until(&again_done, 51);
    for (int i = 0; i < 1000; i++) /* without aio_return */
        CHECK(read_by(fd, &byte, 1, 0) == 1);
}

/* How many times as much as the first tenth of them the last one cost. All end well. */
static double growth_of_submission(int count)
{
    struct aiocb *blocks = calloc((size_t)count, sizeof(*blocks));
    char *bytes = calloc((size_t)count, 1);
    int fds[2], tenth = count / 10;
    double start = 0, first = 0, last;

    CHECK(blocks && bytes && pipe(fds) == 0);
    memset(blocks, 1, (size_t)count * sizeof(*blocks)); /* has its pages */
    for (int i = 0; i < count; i++) {
        if (i == 0 || i == count - tenth)
            start = cpu_seconds();
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        CHECK(aio_read(&blocks[i]) == 0);
        if (i == tenth - 1)
            first = cpu_seconds() - start;
    }
    last = cpu_seconds() - start;
    for (int i = 0; i < count; i++)
        CHECK(write(fds[1], &(char){ (char)(i % 100) }, 1) == 1);
    for (int i = 0; i < count; i++)
        CHECK(await(&blocks[i]) == 0 && bytes[i] == (char)(i % 100));
    close(fds[0]);
    close(fds[1]);
    free(bytes);
    free(blocks);
    return last / first;
}

/* BETTER: glibc looks at all of them for each, and the last tenth costs 19 times as much. */
static void p12_many_requests_may_be_outstanding(void)
{
    enum { COUNT = 65536, TIMES = 8, TRIES = 3 };
    double growth = TIMES + 1;
    char byte;

    CHECK(read_by(temp_file(0), &byte, 1, 0) == 0); /* threads are there */
    for (int i = 0; i < TRIES && growth > TIMES; i++)
        growth = growth_of_submission(COUNT);
    dprintf(1, "# the last of %d cost %.1f times as much as the first\n", COUNT, growth);
    CHECK(growth <= TIMES);
}

static void p13_short_transfers_are_told_as_they_are(void)
{
    char buf[100];
    int fd = temp_file(0), fds[2];

    CHECK(pwrite(fd, "abc", 3, 0) == 3);
    CHECK(read_by(fd, buf, 100, 0) == 3);
    CHECK(pipe(fds) == 0 && write(fds[1], "xy", 2) == 2);
    CHECK(read_by(fds[0], buf, 100, 0) == 2);
}

static void p14_signals_do_not_end_requests(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    struct sigaction action = { .sa_handler = on_nothing };

    sigaction(SIGUSR1, &action, NULL);
    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (int i = 0; i < 100; i++)
        kill(getpid(), SIGUSR1);
    CHECK(aio_error(&block) == EINPROGRESS);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(await(&block) == 0);
}

const struct dropin_case submit_tests[] = {
    TEST(p1_a_read_of_what_has_not_come_returns_at_once),
    TEST(p2_the_operation_code_is_for_lists_alone),
    TEST(p3_priorities_have_a_range),
    TEST(p4_bad_descriptors_are_told_by_aio_error),
    BETTER(p5_offsets_count_where_there_is_a_position),
    TEST(p6_more_bytes_than_there_can_be),
    TEST(p7_errors_and_the_end_come_by_aio_error),
    TEST(p8_descriptors_that_do_not_block_say_eagain),
    BETTER(p9_a_block_may_change_once_it_is_submitted),
    TEST(p10_a_block_may_be_submitted_again_by_its_own_notification),
    BETTER(p12_many_requests_may_be_outstanding),
    TEST(p13_short_transfers_are_told_as_they_are),
    TEST(p14_signals_do_not_end_requests),
    { 0 },
};

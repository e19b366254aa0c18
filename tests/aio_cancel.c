/* SPDX-License-Identifier: MIT */
/* aio_cancel.c: aio_cancel (P30-P33). */
#include "aio_test.h"

#include <sys/socket.h>

/* However many threads are inside aio_suspend. */
static void p31_a_cancel_does_not_wait_for_those_who_wait(void)
{
    enum { COUNT = 80 };
    pthread_t threads[COUNT];
    struct aiocb waits, queued[2];
    char bytes[3];
    int idle[2], fds[2];

    CHECK(pipe(idle) == 0 && pipe(fds) == 0);
    waits = block_of(idle[0], &bytes[0], 1, 0);
    CHECK(aio_read(&waits) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, suspend_for_ever, &waits) == 0);
    nap_ms(100);
    for (int i = 0; i < 2; i++) {
        queued[i] = block_of(fds[0], &bytes[i + 1], 1, 0);
        CHECK(aio_read(&queued[i]) == 0);
    }
    nap_ms(20);
    CHECK(aio_cancel(fds[0], &queued[1]) == AIO_CANCELED);
    CHECK(aio_error(&queued[1]) == ECANCELED && aio_error(&waits) == EINPROGRESS);
    CHECK(write(idle[1], "x", 1) == 1 && await(&waits) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void p30_cancel_of_what_is_not_there(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb garbage, block;

    CHECK(aio_cancel(999, NULL) == -1 && errno == EBADF);
    CHECK(aio_cancel(fd, NULL) == AIO_ALLDONE);
    memset(&garbage, 0x5a, sizeof(garbage));
    garbage.aio_fildes = fd;
    CHECK(aio_cancel(fd, &garbage) == AIO_ALLDONE || aio_cancel(fd, &garbage) == -1);
    garbage.aio_fildes = fd + 1;
    CHECK(aio_cancel(fd, &garbage) == -1 && errno == EINVAL);
    block = block_of(fd, &byte, 1, 0);
    CHECK(aio_read(&block) == 0 && await(&block) == 0);
    CHECK(aio_cancel(fd, &block) == AIO_ALLDONE && aio_cancel(fd, NULL) == AIO_ALLDONE);
}

static atomic_int told;
static void tell(union sigval value)
{
    told += value.sival_int;
}

static void p31_cancelled_requests_are_over_when_cancel_returns(void)
{
    enum { COUNT = 10 };
    static struct aiocb blocks[COUNT];
    static char bytes[COUNT];
    int fds[2];

    CHECK(pipe(fds) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        blocks[i].aio_sigevent.sigev_notify = SIGEV_THREAD;
        blocks[i].aio_sigevent.sigev_notify_function = tell;
        blocks[i].aio_sigevent.sigev_notify_attributes = NULL;
        blocks[i].aio_sigevent.sigev_value.sival_int = 1;
        CHECK(aio_read(&blocks[i]) == 0);
    }
    nap_ms(20);
    CHECK(aio_cancel(fds[0], &blocks[5]) == AIO_CANCELED);
    CHECK(aio_error(&blocks[5]) == ECANCELED && aio_return(&blocks[5]) == -1);
    /* P32: what waits for the peer already goes on, as with glibc. */
    CHECK(aio_cancel(fds[0], &blocks[0]) == AIO_NOTCANCELED);
    CHECK(aio_error(&blocks[0]) == EINPROGRESS);
    CHECK(aio_cancel(fds[0], NULL) == AIO_NOTCANCELED);
    for (int i = 1; i < COUNT; i++)
        CHECK(aio_error(&blocks[i]) == ECANCELED && aio_return(&blocks[i]) == -1);
    until(&told, COUNT - 1);
    /* P33 */
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(await(&blocks[0]) == 0 && aio_return(&blocks[0]) == 1 && bytes[0] == 'x');
    until(&told, COUNT);
}

/* OURO_AIO_CANCEL=strong: what waits for a peer ends as well. */
static void p32_the_strong_cancel_ends_what_waits(void)
{
    char bytes[2];
    int fds[2];
    struct aiocb first, second;

    CHECK(setenv("OURO_AIO_CANCEL", "strong", 1) == 0);
    CHECK(pipe(fds) == 0);
    first = block_of(fds[0], &bytes[0], 1, 0);
    second = block_of(fds[0], &bytes[1], 1, 0);
    CHECK(aio_read(&first) == 0 && aio_read(&second) == 0);
    nap_ms(20);
    CHECK(aio_cancel(fds[0], &first) == AIO_CANCELED && aio_error(&first) == ECANCELED);
    CHECK(write(fds[1], "x", 1) == 1 && await(&second) == 0 && bytes[1] == 'x');
}

static void p32_the_strong_cancel_ends_what_waits_on_a_socket(void)
{
    enum { COUNT = 5 };
    struct aiocb blocks[COUNT];
    char bytes[COUNT], byte;
    int fds[2];

    CHECK(setenv("OURO_AIO_CANCEL", "strong", 1) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    nap_ms(20);
    CHECK(aio_cancel(fds[0], &blocks[0]) == AIO_CANCELED);
    CHECK(aio_error(&blocks[0]) == ECANCELED && aio_error(&blocks[1]) == EINPROGRESS);
    CHECK(aio_cancel(fds[0], NULL) == AIO_CANCELED);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_error(&blocks[i]) == ECANCELED && aio_return(&blocks[i]) == -1);
    CHECK(aio_cancel(fds[0], NULL) == AIO_ALLDONE);
    CHECK(write(fds[1], "x", 1) == 1); /* which none of them has eaten */
    CHECK(recv(fds[0], &byte, 1, MSG_DONTWAIT) == 1 && byte == 'x');
}

static void p32_the_strong_cancel_ends_writes_that_wait(void)
{
    enum { SIZE = 4096, COUNT = 3 };
    static char data[SIZE], back[SIZE];
    struct aiocb blocks[COUNT];
    int fds[2], full = 0, left = 0;

    CHECK(setenv("OURO_AIO_CANCEL", "strong", 1) == 0);
    CHECK(pipe(fds) == 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(fds[1], data, SIZE) == SIZE)
        full++;
    CHECK(full > 0 && fcntl(fds[1], F_SETFL, 0) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fds[1], data, SIZE, 0);
        CHECK(aio_write(&blocks[i]) == 0);
    }
    nap_ms(20);
    CHECK(aio_cancel(fds[1], &blocks[0]) == AIO_CANCELED && aio_error(&blocks[0]) == ECANCELED);
    CHECK(aio_error(&blocks[1]) == EINPROGRESS && aio_error(&blocks[2]) == EINPROGRESS);
    CHECK(aio_cancel(fds[1], NULL) == AIO_CANCELED);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_error(&blocks[i]) == ECANCELED && aio_return(&blocks[i]) == -1);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    for (ssize_t r; (r = read(fds[0], back, SIZE)) > 0;)
        left += (int)r;
    CHECK(left == full * SIZE);
}

const struct dropin_case cancel_tests[] = {
    TEST(p30_cancel_of_what_is_not_there),
    TEST(p31_a_cancel_does_not_wait_for_those_who_wait),
    TEST(p31_cancelled_requests_are_over_when_cancel_returns),
    BETTER(p32_the_strong_cancel_ends_what_waits),
    BETTER(p32_the_strong_cancel_ends_what_waits_on_a_socket),
    BETTER(p32_the_strong_cancel_ends_writes_that_wait),
    { 0 },
};

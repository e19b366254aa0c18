/* SPDX-License-Identifier: MIT */
/* aio_test.c: what programs may rely on of POSIX AIO, a test for each statement. It is a program of
 * <aio.h> alone, and knows nothing of ouro: `ouro run` puts the drop-in under it (DROPINS in the
 * Makefile), also where io_uring is refused and on other engines. By itself it runs on glibc;
 * BETTER marks what glibc does not do. Here are helpers for requests; the runner is dropin_test.c,
 * and the tests are in aio_submit.c, aio_order.c, aio_wait.c, aio_cancel.c, aio_notify.c,
 * aio_lists.c, aio_process.c, aio_memory.c, aio_handlers.c and aio_driving.c. */
#include "aio_test.h"

#include <time.h>

static const struct dropin_case *const themes[] = {
    submit_tests, order_tests,   wait_tests,   cancel_tests,  notify_tests,
    list_tests,   process_tests, memory_tests, handler_tests, driving_tests,
};

/* Fields that are the library's hold garbage, as in a block on the stack. */
struct aiocb block_of(int fd, void *buf, size_t size, off_t offset)
{
    struct aiocb block;

    memset(&block, 0x5a, sizeof(block));
    block.aio_fildes = fd;
    block.aio_buf = buf;
    block.aio_nbytes = size;
    block.aio_offset = offset;
    block.aio_reqprio = 0;
    block.aio_sigevent.sigev_notify = SIGEV_NONE;
    return block;
}

int await(struct aiocb *block)
{
    const struct aiocb *list[] = { block };

    while (aio_error(block) == EINPROGRESS)
        CHECK(aio_suspend(list, 1, NULL) == 0 || errno == EINTR);
    return aio_error(block);
}

ssize_t read_by(int fd, void *buf, size_t size, off_t offset)
{
    struct aiocb block = block_of(fd, buf, size, offset);

    CHECK(aio_read(&block) == 0);
    errno = await(&block);
    return aio_return(&block);
}

ssize_t write_by(int fd, const void *buf, size_t size, off_t offset)
{
    struct aiocb block = block_of(fd, (void *)(uintptr_t)buf, size, offset);

    CHECK(aio_write(&block) == 0);
    errno = await(&block);
    return aio_return(&block);
}

double cpu_seconds(void)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int slow_file(void)
{
    static _Alignas(SLOW_SIZE) char page[SLOW_SIZE];
    int fd = temp_file(0), direct;

    for (int i = 0; i < SLOW_BLOCKS; i++) {
        memset(page, 'a' + i % 26, SLOW_SIZE);
        CHECK(pwrite(fd, page, SLOW_SIZE, (off_t)i * SLOW_SIZE) == SLOW_SIZE);
    }
    CHECK(fsync(fd) == 0);
    direct = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT);
    (void)direct; /* from the cache, then */
    return fd;
}

void *suspend_for_ever(void *arg)
{
    const struct aiocb *list[] = { arg };

    aio_suspend(list, 1, NULL);
    return NULL;
}

atomic_int signals, last_value;
struct aiocb *signalled;

static void on_aio(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    if (info->si_code == SI_ASYNCIO && info->si_pid == getpid() && info->si_uid == getuid() &&
        (!signalled || aio_error(signalled) != EINPROGRESS)) { /* P38 */
        last_value = info->si_value.sival_int;
        signals++;
    }
}

struct aiocb signalling(int fd, void *buf, int signo, int value)
{
    struct aiocb block = block_of(fd, buf, 1, 0);
    struct sigaction action = { .sa_sigaction = on_aio, .sa_flags = SA_SIGINFO | SA_RESTART };

    sigaction(signo ? signo : SIGUSR1, &action, NULL);
    block.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
    block.aio_sigevent.sigev_signo = signo;
    block.aio_sigevent.sigev_value.sival_int = value;
    return block;
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv, themes, sizeof(themes) / sizeof(*themes));
}

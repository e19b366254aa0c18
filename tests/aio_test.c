/* SPDX-License-Identifier: MIT */
/* aio_test.c: what programs may rely on of POSIX AIO, a test for each statement. It is a program of
 * <aio.h> alone, and knows nothing of ouro: aio_test.sh runs it with the drop-in preloaded, also
 * where io_uring is refused and on other engines. By itself it runs on glibc; BETTER marks what
 * glibc does not do.
 *
 *   aio_test [--blocked] [--glibc] [NAME] */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_S = 20 };

#define CHECK(holds)                                                                 \
    do {                                                                             \
        if (!(holds)) {                                                              \
            dprintf(1, "# aio_test.c:%d: %s (errno %d)\n", __LINE__, #holds, errno); \
            _exit(1);                                                                \
        }                                                                            \
    } while (0)

/* ---- Helpers -------------------------------------------------------------------------------- */

static void nap_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int temp_file(int flags)
{
    char path[] = "/var/tmp/aio-test-XXXXXX";
    int fd = mkstemp(path), again;

    CHECK(fd >= 0);
    again = open(path, O_RDWR | flags);
    CHECK(again >= 0);
    close(fd);
    unlink(path);
    return again;
}

/* Fields that are the library's hold garbage, as in a block on the stack. */
static struct aiocb block_of(int fd, void *buf, size_t size, off_t offset)
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

static int await(struct aiocb *block)
{
    const struct aiocb *list[] = { block };

    while (aio_error(block) == EINPROGRESS)
        CHECK(aio_suspend(list, 1, NULL) == 0 || errno == EINTR);
    return aio_error(block);
}

static ssize_t read_by(int fd, void *buf, size_t size, off_t offset)
{
    struct aiocb block = block_of(fd, buf, size, offset);

    CHECK(aio_read(&block) == 0);
    errno = await(&block);
    return aio_return(&block);
}

static ssize_t write_by(int fd, const void *buf, size_t size, off_t offset)
{
    struct aiocb block = block_of(fd, (void *)(uintptr_t)buf, size, offset);

    CHECK(aio_write(&block) == 0);
    errno = await(&block);
    return aio_return(&block);
}

static void until(const atomic_int *count, int wanted)
{
    for (int i = 0; i < 5000 && *count < wanted; i++)
        nap_ms(1);
    CHECK(*count == wanted);
}

/* ---- Submission ------------------------------------------------------------------------------ */

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
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    block.aio_buf = &other;
    block.aio_nbytes = 99;
    block.aio_fildes = fd;
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(await(&block) == 0 && aio_return(&block) == 1 && byte == 'x' && other == 0);
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

static void p12_many_requests_may_be_outstanding(void)
{
    enum { COUNT = 65536 };
    struct aiocb *blocks = calloc(COUNT, sizeof(*blocks));
    char *bytes = calloc(COUNT, 1);
    int fds[2];
    double start;

    CHECK(pipe(fds) == 0);
    start = now_s();
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fds[0], &bytes[i], 1, 0);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    CHECK(now_s() - start < 10);
    for (int i = 0; i < COUNT; i++)
        CHECK(write(fds[1], &(char){ (char)(i % 100) }, 1) == 1);
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && bytes[i] == (char)(i % 100));
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

static void on_nothing(int signo)
{
    (void)signo;
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

/* ---- Order ---------------------------------------------------------------------------------- */

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

/* ---- Status --------------------------------------------------------------------------------- */

static void p21_a_block_that_was_never_submitted_has_no_error(void)
{
    static struct aiocb block;

    CHECK(aio_error(&block) == 0 && aio_return(&block) == 0);
}

static void p22_results_may_be_asked_for_again(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, 0);

    CHECK(pwrite(fd, "a", 1, 0) == 1 && aio_read(&block) == 0 && await(&block) == 0);
    CHECK(aio_return(&block) == 1 && aio_return(&block) == 1 && aio_error(&block) == 0);
}

static void p24_the_private_fields_are_as_with_glibc(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, -1);

    _Static_assert(offsetof(struct aiocb, __error_code) == 112, "glibc's layout");
    _Static_assert(offsetof(struct aiocb, __return_value) == 120, "glibc's layout");
    CHECK(aio_read(&block) == 0 && await(&block) == EINVAL);
    CHECK(block.__error_code == EINVAL && block.__return_value == -1);
}

/* ---- Waiting -------------------------------------------------------------------------------- */

static void p25_suspend_returns_when_one_is_over(void)
{
    char byte;
    int fds[2], fd = temp_file(0);
    struct aiocb waits, done;
    static struct aiocb never;
    const struct aiocb *list[3] = { NULL, NULL, NULL };

    CHECK(aio_suspend(list, 3, NULL) == 0 && aio_suspend(list, 0, NULL) == 0);
    CHECK(aio_suspend(list, -1, NULL) == -1 && errno == EINVAL);
    list[1] = &never;
    CHECK(aio_suspend(list, 3, NULL) == 0);
    CHECK(pipe(fds) == 0 && pwrite(fd, "a", 1, 0) == 1);
    waits = block_of(fds[0], &byte, 1, 0);
    done = block_of(fd, &byte, 1, 0);
    CHECK(aio_read(&waits) == 0 && aio_read(&done) == 0);
    list[0] = &waits, list[1] = NULL, list[2] = &done;
    CHECK(aio_suspend(list, 3, NULL) == 0 && aio_error(&done) == 0);
    CHECK(write(fds[1], "x", 1) == 1 && await(&waits) == 0);
}

static void *write_later(void *fd)
{
    nap_ms(50);
    CHECK(write(*(int *)fd, "x", 1) == 1);
    return NULL;
}

static void p26_suspend_has_a_limit(void)
{
    char byte;
    int fds[2];
    pthread_t thread;
    struct aiocb block;
    const struct aiocb *list[] = { &block };
    struct timespec limit = { 0, 50000000 };
    double start;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    start = now_s();
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EAGAIN);
    CHECK(now_s() - start > 0.049);
    limit = (struct timespec){ 0, 0 };
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EAGAIN);
    limit = (struct timespec){ -1, 0 };
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EAGAIN);
    limit = (struct timespec){ 0, 2000000000 }; /* BETTER: glibc aborts */
    CHECK(aio_suspend(list, 1, &limit) == -1 && errno == EINVAL);
    limit = (struct timespec){ LONG_MAX, 999999999 };
    CHECK(pthread_create(&thread, NULL, write_later, &fds[1]) == 0);
    CHECK(aio_suspend(list, 1, &limit) == 0 && aio_error(&block) == 0);
    pthread_join(thread, NULL);
}

static pthread_t main_thread;
static void *send_signal(void *arg)
{
    nap_ms(50);
    pthread_kill(main_thread, SIGUSR1);
    if (arg) {
        nap_ms(50);
        CHECK(write(*(int *)arg, "x", 1) == 1);
    }
    return NULL;
}

static void p27_signals_interrupt_suspend(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    const struct aiocb *list[] = { &block };
    struct timespec limit = { 10, 0 };
    struct sigaction action = { .sa_handler = on_nothing };
    pthread_t thread;

    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
        CHECK(aio_suspend(list, 1, i ? &limit : NULL) == -1 && errno == EINTR);
        pthread_join(thread, NULL);
    }
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pthread_create(&thread, NULL, send_signal, &fds[1]) == 0);
    CHECK(aio_suspend(list, 1, NULL) == 0 && aio_error(&block) == 0);
    pthread_join(thread, NULL);
}

/* BETTER: glibc keeps 40 bytes of stack for each. */
static void *suspend_many(void *arg)
{
    enum { COUNT = 250000 };
    const struct aiocb **list = malloc(COUNT * sizeof(*list));
    struct timespec limit = { 0, 10000000 };

    for (int i = 0; i < COUNT; i++)
        list[i] = arg;
    CHECK(aio_suspend(list, COUNT, &limit) == -1 && errno == EAGAIN);
    return NULL;
}

static void p28_suspend_needs_little_stack(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    pthread_attr_t attr;
    pthread_t thread;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    pthread_attr_init(&attr);
    CHECK(pthread_attr_setstacksize(&attr, 65536) == 0);
    CHECK(pthread_create(&thread, &attr, suspend_many, &block) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void *suspend_for_ever(void *arg)
{
    const struct aiocb *list[] = { arg };

    aio_suspend(list, 1, NULL);
    return NULL;
}

static void p29_suspend_is_a_cancellation_point(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    pthread_t thread;
    void *result;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (int i = 0; i < 200; i++) {
        CHECK(pthread_create(&thread, NULL, suspend_for_ever, &block) == 0);
        if (i % 2)
            nap_ms(1);
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    CHECK(write(fds[1], "x", 1) == 1 && await(&block) == 0);
}

/* ---- Cancel --------------------------------------------------------------------------------- */

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

/* ---- Notification --------------------------------------------------------------------------- */

static atomic_int signals, last_value;
static struct aiocb *signalled;
static void on_aio(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    if (info->si_code == SI_ASYNCIO && info->si_pid == getpid() && info->si_uid == getuid() &&
        (!signalled || aio_error(signalled) != EINPROGRESS)) { /* P38 */
        last_value = info->si_value.sival_int;
        signals++;
    }
}

static struct aiocb signalling(int fd, void *buf, int signo, int value)
{
    struct aiocb block = block_of(fd, buf, 1, 0);
    struct sigaction action = { .sa_sigaction = on_aio, .sa_flags = SA_SIGINFO | SA_RESTART };

    sigaction(signo ? signo : SIGUSR1, &action, NULL);
    block.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
    block.aio_sigevent.sigev_signo = signo;
    block.aio_sigevent.sigev_value.sival_int = value;
    return block;
}

static void p34_a_signal_brings_the_value(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = signalling(fd, &byte, SIGRTMIN + 3, 77);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    signalled = &block;
    for (int i = 1; i <= 100; i++) {
        CHECK(aio_read(&block) == 0);
        until(&signals, i);
        CHECK(last_value == 77 && aio_error(&block) == 0);
    }
    block.aio_sigevent.sigev_signo = 0;
    CHECK(aio_read(&block) == 0 && await(&block) == 0 && aio_return(&block) == 1);
    block.aio_sigevent.sigev_signo = 9999; /* BETTER: the result stays */
    CHECK(aio_read(&block) == 0 && await(&block) == 0 && aio_return(&block) == 1);
}

/* BETTER: glibc makes errors of 22 out of 30 good reads. */
static void p35_a_full_queue_of_signals_spoils_no_result(void)
{
    enum { COUNT = 30 };
    static struct aiocb blocks[COUNT];
    char byte;
    int fd = temp_file(0);
    struct rlimit limit;
    sigset_t set;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK(getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    limit.rlim_cur = 10;
    CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = signalling(fd, &byte, SIGRTMIN, i);
        CHECK(aio_read(&blocks[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(await(&blocks[i]) == 0 && aio_return(&blocks[i]) == 1);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* those that had no room come after all */
    until(&signals, COUNT);
}

static atomic_int calls, masked, blocked_calls;
static void on_thread(union sigval value)
{
    sigset_t mask;

    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int signo = 1; signo < 32; signo++)
        masked += sigismember(&mask, signo);
    if (value.sival_int == 1) {
        blocked_calls++;
        nap_ms(3000);
    }
    calls++;
}

static struct aiocb calling(int fd, void *buf, int value)
{
    struct aiocb block = block_of(fd, buf, 1, 0);

    block.aio_sigevent.sigev_notify = SIGEV_THREAD;
    block.aio_sigevent.sigev_notify_function = on_thread;
    block.aio_sigevent.sigev_notify_attributes = NULL;
    block.aio_sigevent.sigev_value.sival_int = value;
    return block;
}

static void p36_a_function_that_waits_delays_no_other(void)
{
    enum { COUNT = 20 };
    static struct aiocb slow[COUNT], quick[COUNT];
    char byte;
    int fd = temp_file(0);
    pthread_attr_t attr;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < COUNT; i++) {
        slow[i] = calling(fd, &byte, 1);
        CHECK(aio_read(&slow[i]) == 0);
    }
    until(&blocked_calls, COUNT);
    pthread_attr_init(&attr); /* joinable ones are not left behind */
    for (int i = 0; i < COUNT; i++) {
        quick[i] = calling(fd, &byte, 0);
        if (i % 2)
            quick[i].aio_sigevent.sigev_notify_attributes = &attr;
        CHECK(aio_read(&quick[i]) == 0);
    }
    for (int i = 0; i < 2000 && calls < COUNT; i++)
        nap_ms(1);
    CHECK(calls == COUNT && masked == 0);
}

static void p37_unknown_notifications_are_none(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, 0);

    block.aio_sigevent.sigev_notify = 4711;
    CHECK(pwrite(fd, "a", 1, 0) == 1 && aio_read(&block) == 0 && await(&block) == 0);
}

static int count_threads(void)
{
    char line[256];
    int count = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (fgets(line, sizeof(line), file))
        sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

static void p39_no_thread_before_the_first_request(void)
{
    char byte;
    int fd = temp_file(0);
    static struct aiocb never;

    CHECK(count_threads() == 1);
    CHECK(aio_error(&never) == 0);
    CHECK(count_threads() == 1);
    CHECK(read_by(fd, &byte, 1, 0) == 0);
}

/* ---- Lists ---------------------------------------------------------------------------------- */

static void p40_lists_are_long(void)
{
    enum { COUNT = 5000 };
    static struct aiocb blocks[COUNT];
    static struct aiocb *list[COUNT];
    static char bytes[COUNT];
    int fd = temp_file(0);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    CHECK(lio_listio(77, list, 0, NULL) == -1 && errno == EINVAL);
    CHECK(lio_listio(LIO_WAIT, list, -1, NULL) == -1 && errno == EINVAL);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fd, &bytes[i], 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
        list[i] = &blocks[i];
    }
    CHECK(lio_listio(LIO_WAIT, list, COUNT, NULL) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_error(&blocks[i]) == 0 && bytes[i] == 'a');
}

static void p41_one_that_fails_stops_no_other(void)
{
    char bytes[3] = { 0 };
    int fd = temp_file(0);
    struct aiocb blocks[4];
    struct aiocb *list[] = { &blocks[0], NULL, &blocks[1], &blocks[2], &blocks[3] };

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < 4; i++) {
        blocks[i] = block_of(fd, bytes + i % 3, 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
    }
    blocks[1].aio_lio_opcode = LIO_NOP;
    blocks[1].__error_code = 4242;
    CHECK(lio_listio(LIO_WAIT, list, 5, NULL) == 0 && blocks[1].__error_code == 4242);
    blocks[2].aio_lio_opcode = 99;
    CHECK(lio_listio(LIO_WAIT, list, 5, NULL) == -1 && errno == EIO);
    CHECK(aio_error(&blocks[0]) == 0 && aio_error(&blocks[2]) == EINVAL &&
          aio_error(&blocks[3]) == 0);
}

/* BETTER: glibc writes to the caller's stack when the requests end. */
static void p42_a_wait_that_was_interrupted_leaves_nothing_behind(void)
{
    char bytes[2];
    int fds[2];
    struct aiocb blocks[2];
    struct aiocb *list[] = { &blocks[0], &blocks[1] };
    struct sigaction action = { .sa_handler = on_nothing };
    pthread_t thread;

    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 2; i++) {
        blocks[i] = block_of(fds[0], bytes + i, 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
    }
    CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
    CHECK(lio_listio(LIO_WAIT, list, 2, NULL) == -1 && errno == EINTR);
    pthread_join(thread, NULL);
    CHECK(write(fds[1], "ab", 2) == 2);
    CHECK(await(&blocks[0]) == 0 && await(&blocks[1]) == 0 && bytes[1] == 'b');
}

static void p43_a_list_tells_when_all_are_over(void)
{
    char bytes[3];
    int fds[2];
    struct aiocb blocks[3];
    struct aiocb *list[3];
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };

    event.sigev_value.sival_int = 1000;
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 3; i++) {
        blocks[i] = signalling(fds[0], bytes + i, SIGRTMIN, i);
        blocks[i].aio_lio_opcode = LIO_READ;
        list[i] = &blocks[i];
    }
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == 0);
    CHECK(write(fds[1], "ab", 2) == 2);
    until(&signals, 2);
    nap_ms(20);
    CHECK(signals == 2);
    CHECK(write(fds[1], "c", 1) == 1);
    until(&signals, 4);
    CHECK(last_value == 1000);
    list[0] = NULL;
    blocks[1].aio_lio_opcode = blocks[2].aio_lio_opcode = LIO_NOP;
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == 0); /* of nothing: at once */
    until(&signals, 5);
    blocks[1].aio_lio_opcode = blocks[2].aio_lio_opcode = LIO_READ;
    blocks[1].aio_reqprio = -1;
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == -1 && errno == EINVAL);
    CHECK(write(fds[1], "d", 1) == 1);
    CHECK(await(&blocks[2]) == 0 && aio_error(&blocks[1]) == EINVAL);
    for (int i = 0; i < 5000 && last_value != 1000; i++)
        nap_ms(1);
    CHECK(last_value == 1000);
}

extern int old_lio_listio(int mode, struct aiocb *const list[], int count, struct sigevent *event);
__asm__(".symver old_lio_listio, lio_listio@GLIBC_2.2.5");

static void p44_the_oldest_lio_listio_tells_of_no_single_request(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = signalling(fd, &byte, SIGRTMIN, 5);
    struct aiocb *list[] = { &block };

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    block.aio_lio_opcode = LIO_READ;
    CHECK(old_lio_listio(LIO_WAIT, list, 1, NULL) == 0);
    nap_ms(50);
    CHECK(signals == 0);
    CHECK(lio_listio(LIO_WAIT, list, 1, NULL) == 0);
    until(&signals, 1);
}

/* ---- Process -------------------------------------------------------------------------------- */

static void p46_a_child_has_requests_of_its_own(void)
{
    char byte;
    int fds[2], fd = temp_file(0), status;
    struct aiocb block;

    CHECK(pwrite(fd, "a", 1, 0) == 1 && pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(aio_read(&block) == 0);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();

        if (child == 0) { /* BETTER: with glibc it waits for ever */
            alarm(5);
            CHECK(read_by(fd, &byte, 1, 0) == 1 && byte == 'a');
            CHECK(aio_cancel(fds[0], NULL) == AIO_ALLDONE);
            _exit(0);
        }
        CHECK(read_by(fd, &byte, 1, 0) == 1);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(aio_error(&block) == EINPROGRESS);
    CHECK(write(fds[1], "x", 1) == 1 && await(&block) == 0);
}

static int descriptors_of_a_child(void)
{
    FILE *list = popen("ls /proc/self/fd | wc -l", "r");
    int count = -1;

    CHECK(list && fscanf(list, "%d", &count) == 1);
    pclose(list);
    return count;
}

static void p47_programs_that_are_started_inherit_nothing(void)
{
    char byte;
    int fd = temp_file(0), before = descriptors_of_a_child();

    CHECK(read_by(fd, &byte, 1, 0) == 0);
    CHECK(descriptors_of_a_child() == before);
}

static void p48_exit_does_not_wait(void)
{
    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = fork();

        if (child == 0) {
            static char data[1 << 16];
            char byte;
            int fds[2], fd = temp_file(0);
            struct aiocb blocks[2];

            CHECK(pipe(fds) == 0);
            alarm(5);
            blocks[0] = block_of(fds[0], &byte, 1, 0);
            blocks[1] = block_of(fd, data, sizeof(data), 0);
            CHECK(aio_read(&blocks[0]) == 0 && aio_write(&blocks[1]) == 0);
            if (i % 2)
                exit(0);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

static void p49_a_program_may_close_all_descriptors(void)
{
    char byte;
    int fd = temp_file(0), files[40];

    CHECK(pwrite(fd, "a", 1, 0) == 1 && read_by(fd, &byte, 1, 0) == 1);
    nap_ms(10);
    for (int i = 3; i < 100; i++)
        if (i != fd)
            close(i);
    for (int i = 0; i < 40; i++)
        files[i] = open("/etc/passwd", O_RDONLY);
    for (int i = 0; i < 20; i++)
        CHECK(read_by(fd, &byte, 1, 0) == 1 && byte == 'a');
    for (int i = 0; i < 40; i++)
        CHECK(fcntl(files[i], F_GETFD) >= 0 && lseek(files[i], 0, SEEK_CUR) == 0);
}

static void p50_a_broken_pipe_is_an_error_and_no_signal(void)
{
    int fds[2];

    CHECK(pipe(fds) == 0);
    close(fds[0]);
    CHECK(write_by(fds[1], "x", 1, 0) == -1 && errno == EPIPE);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    close(fds[0]);
    CHECK(write_by(fds[1], "x", 1, 0) == -1 && errno == EPIPE);
}

static void p51_a_hint_is_taken(void)
{
    struct aioinit hint = { .aio_threads = 3, .aio_num = 10 };

    aio_init(&hint); /* glibc's crashes for NULL, and its header forbids it */
}

static void *many_threads(void *arg)
{
    char byte;

    for (int i = 0; i < 500; i++)
        CHECK(read_by(*(int *)arg, &byte, 1, 0) == 1);
    return NULL;
}

static void p52_many_threads_at_once(void)
{
    int fd = temp_file(0);
    pthread_t threads[8];

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, many_threads, &fd) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

static void *submit_and_end(void *arg)
{
    struct aiocb *block = arg;

    CHECK(aio_read(block) == 0);
    return NULL;
}

static void p52_requests_survive_their_thread(void)
{
    char byte;
    int fds[2];
    struct aiocb block;
    pthread_t thread;

    CHECK(pipe(fds) == 0);
    block = block_of(fds[0], &byte, 1, 0);
    CHECK(pthread_create(&thread, NULL, submit_and_end, &block) == 0);
    pthread_join(thread, NULL);
    nap_ms(50);
    CHECK(aio_error(&block) == EINPROGRESS);
    CHECK(write(fds[1], "x", 1) == 1 && await(&block) == 0 && byte == 'x');
}

static void p53_errno_changes_on_failure_alone(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = block_of(fd, &byte, 1, 0);
    const struct aiocb *list[] = { &block };

    errno = 4711;
    CHECK(aio_read(&block) == 0 && errno == 4711);
    while (aio_error(&block) == EINPROGRESS)
        CHECK(aio_suspend(list, 1, NULL) == 0 && errno == 4711);
    CHECK(aio_return(&block) == 0 && errno == 4711);
    CHECK(aio_cancel(fd, NULL) == AIO_ALLDONE && errno == 4711);
    CHECK(aio_fsync(O_SYNC, &block) == 0 && errno == 4711);
    await(&block);
}

static void p55_a_file_that_may_not_grow(void)
{
    int fd = temp_file(0);
    struct rlimit limit = { 1000, 1000 };

    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(write_by(fd, "abc", 3, 2000) == -1 && errno == EFBIG);
}

/* ---- A socket that is blocked holds up no file ---------------------------------------------- */

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

/* ---- The table ------------------------------------------------------------------------------ */

#define TEST(name)         \
    {                      \
#name, name, false \
    }
#define BETTER(name)      \
    {                     \
#name, name, true \
    } /* not so with glibc */
static const struct {
    const char *name;
    void (*run)(void);
    bool better;
} tests[] = {
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
    TEST(p15_requests_on_one_file_run_beside_each_other),
    TEST(p16_appends_come_in_order),
    BETTER(p17_a_stream_reads_in_order_beside_its_writes),
    TEST(p18_a_sync_waits_for_what_was_before_it),
    BETTER(p18_a_sync_holds_up_nothing_behind_it),
    BETTER(p19_a_request_never_reads_another_file),
    TEST(p19_record_locks_survive_requests),
    TEST(p21_a_block_that_was_never_submitted_has_no_error),
    TEST(p22_results_may_be_asked_for_again),
    TEST(p24_the_private_fields_are_as_with_glibc),
    TEST(p25_suspend_returns_when_one_is_over),
    BETTER(p26_suspend_has_a_limit),
    TEST(p27_signals_interrupt_suspend),
    BETTER(p28_suspend_needs_little_stack),
    TEST(p29_suspend_is_a_cancellation_point),
    TEST(p30_cancel_of_what_is_not_there),
    TEST(p31_a_cancel_does_not_wait_for_those_who_wait),
    TEST(p31_cancelled_requests_are_over_when_cancel_returns),
    BETTER(p32_the_strong_cancel_ends_what_waits),
    BETTER(p34_a_signal_brings_the_value),
    BETTER(p35_a_full_queue_of_signals_spoils_no_result),
    TEST(p36_a_function_that_waits_delays_no_other),
    TEST(p37_unknown_notifications_are_none),
    TEST(p39_no_thread_before_the_first_request),
    BETTER(p40_lists_are_long),
    TEST(p41_one_that_fails_stops_no_other),
    BETTER(p42_a_wait_that_was_interrupted_leaves_nothing_behind),
    TEST(p43_a_list_tells_when_all_are_over),
    BETTER(p44_the_oldest_lio_listio_tells_of_no_single_request),
    BETTER(p46_a_child_has_requests_of_its_own),
    TEST(p47_programs_that_are_started_inherit_nothing),
    TEST(p48_exit_does_not_wait),
    TEST(p49_a_program_may_close_all_descriptors),
    TEST(p50_a_broken_pipe_is_an_error_and_no_signal),
    TEST(p51_a_hint_is_taken),
    TEST(p52_many_threads_at_once),
    TEST(p52_requests_survive_their_thread),
    TEST(p53_errno_changes_on_failure_alone),
    TEST(p55_a_file_that_may_not_grow),
    BETTER(reads_that_wait_hold_up_no_file),
};

static void refuse_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 425, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 427, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

/* 0: it passed. */
static int run_one(unsigned i)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        alarm(LIMIT_S);
        tests[i].run();
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        printf("# killed by signal %d\n", WTERMSIG(status));
    return status;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    unsigned count = sizeof(tests) / sizeof(*tests), number = 0;
    bool glibc = false;
    int failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--blocked") == 0)
            refuse_io_uring();
        else if (strcmp(argv[i], "--glibc") == 0)
            glibc = true;
        else
            only = argv[i];
    }
    for (unsigned i = 0; i < count; i++) {
        bool bad;

        if (only && strcmp(only, tests[i].name) != 0)
            continue;
        bad = run_one(i) != 0;
        if (glibc && tests[i].better)
            bad = !bad; /* it is there to show that it is better */
        printf("%sok %u - %s\n", bad ? "not " : "", ++number, tests[i].name);
        failed += bad;
    }
    printf("1..%u\n", number);
    return failed ? 1 : 0;
}

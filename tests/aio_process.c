/* SPDX-License-Identifier: MIT */
/* aio_process.c: what the process around it may do: fork, exit, close, threads (P46-P55). */
#include "aio_test.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

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

/* Programs wait for what they have begun before they fork, and go on behind it. */
static int forking_file;
static void read_around_fork(void)
{
    char byte;

    CHECK(read_by(forking_file, &byte, 1, 0) == 1 && byte == 'a');
}

/* BETTER: with glibc the child waits for ever. */
static void p46_handlers_of_a_fork_may_use_it(void)
{
    pid_t child;
    int status;

    forking_file = temp_file(0);
    CHECK(pwrite(forking_file, "a", 1, 0) == 1);
    CHECK(pthread_atfork(read_around_fork, read_around_fork, read_around_fork) == 0);
    for (int i = 1; i <= 20; i++) {
        read_around_fork(); /* registers handlers of its own, behind these */
        CHECK(pthread_atfork(read_around_fork, read_around_fork, read_around_fork) == 0);
        child = fork();
        if (child == 0) {
            alarm(5);
            read_around_fork();
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

static atomic_bool forked_enough;
static void *submit_meanwhile(void *arg)
{
    char byte;

    while (!forked_enough)
        CHECK(read_by(*(int *)arg, &byte, 1, 0) == 1);
    return NULL;
}

static void p46_a_fork_may_come_at_any_time(void)
{
    int fd = temp_file(0), status;
    pthread_t threads[2];
    char byte;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, submit_meanwhile, &fd) == 0);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();

        if (child == 0) { /* BETTER: with glibc it waits for ever */
            alarm(5);
            for (int k = 0; k < 5; k++)
                CHECK(read_by(fd, &byte, 1, 0) == 1 && byte == 'a');
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    forked_enough = true;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
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

enum { PIECES = 8, PIECE = 8 << 20, PIECE_WORDS = PIECE / 4 };
static uint32_t pieces[PIECES][PIECE_WORDS];

/* Other bytes in each piece, and in each place of it. */
static void make_pieces(void)
{
    for (uint32_t k = 0; k < PIECES; k++)
        for (uint32_t i = 0; i < PIECE_WORDS; i++)
            pieces[k][i] = k * PIECE + i;
}

static void write_and_exit(int fd)
{
    static struct aiocb blocks[PIECES], waiting, behind, full;
    uint64_t most = UINT64_MAX - 1;
    int fds[2], event = eventfd(1, 0);
    char byte;

    for (int k = 0; k < PIECES; k++) {
        blocks[k] = block_of(fd, pieces[k], PIECE, (off_t)k * PIECE);
        CHECK(aio_write(&blocks[k]) == 0);
    }
    CHECK(pipe(fds) == 0); /* what waits for ever does not hold it up */
    waiting = block_of(fds[0], &byte, 1, 0);
    behind = block_of(fds[0], NULL, 0, 0);
    full = block_of(event, &most, sizeof(most), 0);
    CHECK(aio_read(&waiting) == 0 && aio_write(&full) == 0);
    (void)aio_fsync(O_SYNC, &behind);
    exit(0);
}

/* BETTER: with glibc the end of the process is the end of its threads. */
static void p48_exit_loses_nothing_that_is_to_be_written(void)
{
    static uint32_t back[PIECE_WORDS];

    make_pieces();
    for (int i = 0; i < 3; i++) {
        int fd = temp_file(0), status;
        pid_t child = fork();
        struct stat st;

        if (child == 0)
            write_and_exit(fd);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(fstat(fd, &st) == 0 && st.st_size == (off_t)PIECES * PIECE);
        for (int k = 0; k < PIECES; k++) {
            CHECK(pread(fd, back, PIECE, (off_t)k * PIECE) == PIECE);
            CHECK(memcmp(back, pieces[k], PIECE) == 0);
        }
        close(fd);
    }
}

/* No thread of ours, and none of the C library's, keeps it; what is in flight, it does. */
static void p48_the_last_thread_ends_the_process(void)
{
    double start = now_s();
    int status;
    pid_t child = fork();

    if (child == 0) {
        static char byte;
        static struct aiocb block;
        int fds[2];

        CHECK(pipe(fds) == 0);
        block = block_of(fds[0], &byte, 1, 0);
        CHECK(aio_read(&block) == 0);
        if (fork() == 0) {
            nap_ms(1500);
            _exit(write(fds[1], "a", 1) != 1);
        }
        pthread_exit(NULL);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(now_s() - start > 1.4);
}

/* Where nobody can see its threads. */
static void p48_a_program_that_cannot_be_seen_is_there(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        const struct rlimit one = { 1, 1 };
        char byte;
        int fd = temp_file(0);

        CHECK(read_by(fd, &byte, 1, 0) == 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &one) == 0);
        nap_ms(2500);
        _exit(7);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void *live_on(void *arg)
{
    nap_ms(2500);
    _exit(*(int *)arg);
}

static void start_one(union sigval value)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, live_on, value.sival_ptr) == 0);
}

/* They have the name of who has started them. */
static void function_starts_one(pthread_attr_t *attr)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        static struct aiocb block;
        static int seven = 7;
        static char byte;

        block = block_of(temp_file(0), &byte, 1, 0);
        block.aio_sigevent.sigev_notify = SIGEV_THREAD;
        block.aio_sigevent.sigev_notify_function = start_one;
        block.aio_sigevent.sigev_notify_attributes = attr;
        block.aio_sigevent.sigev_value.sival_ptr = &seven;
        CHECK(aio_read(&block) == 0);
        nap_ms(300);
        pthread_exit(NULL);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void p48_what_a_function_starts_is_the_programs(void)
{
    pthread_attr_t attr;

    CHECK(pthread_attr_init(&attr) == 0);
    function_starts_one(NULL);
    function_starts_one(&attr);
    pthread_attr_destroy(&attr);
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

enum { SLOW_READS = 16, WRITES = 20, LARGE_WRITES = 3, LARGE = 1 << 20, SMALL = 1 << 14 };

struct many {
    struct aiocb reads[SLOW_READS], writes[WRITES];
    _Alignas(SLOW_SIZE) char pages[SLOW_READS][SLOW_SIZE];
    _Alignas(SLOW_SIZE) char data[WRITES][LARGE];
    int slow, wide;
    char round;
};

static size_t size_of_write(int number)
{
    return number < LARGE_WRITES ? LARGE : SMALL;
}

/* In flight when the thread is gone: nothing has waited for them. */
static void *submit_many_and_end(void *arg)
{
    struct many *many = arg;

    for (int i = 0; i < WRITES; i++) {
        size_t size = size_of_write(i);

        memset(many->data[i], many->round + i, size);
        many->writes[i] = block_of(many->wide, many->data[i], size, (off_t)i * LARGE);
    }
    for (int i = 0; i < SLOW_READS; i++)
        many->reads[i] = block_of(many->slow, many->pages[i], SLOW_SIZE, (off_t)i * SLOW_SIZE);
    for (int i = 0; i < WRITES; i++)
        CHECK(aio_write(&many->writes[i]) == 0);
    for (int i = 0; i < SLOW_READS; i++)
        CHECK(aio_read(&many->reads[i]) == 0);
    pthread_exit(NULL);
}

static void all_are_good(struct many *many)
{
    static _Alignas(SLOW_SIZE) char back[LARGE];

    for (int i = 0; i < SLOW_READS; i++) {
        CHECK(await(&many->reads[i]) == 0 && aio_return(&many->reads[i]) == SLOW_SIZE);
        CHECK(many->pages[i][0] == 'a' + i && many->pages[i][SLOW_SIZE - 1] == 'a' + i);
        memset(many->pages[i], 0, SLOW_SIZE);
    }
    for (int i = 0; i < WRITES; i++) {
        ssize_t size = (ssize_t)size_of_write(i);

        CHECK(await(&many->writes[i]) == 0 && aio_return(&many->writes[i]) == size);
        CHECK(pread(many->wide, back, (size_t)size, (off_t)i * LARGE) == size);
        CHECK(memcmp(back, many->data[i], (size_t)size) == 0);
    }
}

static void p52_all_that_is_in_flight_survives_its_thread(void)
{
    enum { ROUNDS = 40 };
    static struct many many;
    int in_flight = 0;

    many.slow = slow_file();
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread;

        many.round = (char)(i % 100);
        many.wide = temp_file(i % 2 ? O_DIRECT : 0); /* which has to grow */
        CHECK(pthread_create(&thread, NULL, submit_many_and_end, &many) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        in_flight += aio_error(&many.reads[SLOW_READS - 1]) == EINPROGRESS;
        all_are_good(&many);
        close(many.wide);
    }
    dprintf(1, "# in flight when its thread was gone: %d times of %d\n", in_flight, ROUNDS);
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

/* Every engine that can be had is as good; --blocked runs all the tests so. */
static void p54_without_io_uring_requests_go_on(void)
{
    static const int refusals[] = { EPERM, ENOSYS, ENOMEM };

    for (unsigned i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
        int status;
        pid_t child = fork();

        if (child == 0) {
            char bytes[2];
            int fd = temp_file(0), fds[2];
            struct aiocb waits;

            alarm(10);
            refuse_io_uring(refusals[i]);
            CHECK(pipe(fds) == 0);
            waits = block_of(fds[0], bytes, 1, 0);
            CHECK(aio_read(&waits) == 0 && aio_error(&waits) == EINPROGRESS);
            CHECK(write_by(fd, "abc", 3, 0) == 3 && read_by(fd, bytes, 2, 1) == 2);
            CHECK(memcmp(bytes, "bc", 2) == 0);
            CHECK(aio_error(&waits) == EINPROGRESS && write(fds[1], "x", 1) == 1);
            CHECK(await(&waits) == 0 && aio_return(&waits) == 1 && bytes[0] == 'x');
            CHECK(aio_fsync(O_SYNC, &waits) == 0 && await(&waits) == EINVAL);
            CHECK(!has_io_uring());
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

static void p55_a_file_that_may_not_grow(void)
{
    int fd = temp_file(0);
    struct rlimit limit = { 1000, 1000 };

    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(write_by(fd, "abc", 3, 2000) == -1 && errno == EFBIG);
}

const struct dropin_case process_tests[] = {
    BETTER(p46_a_child_has_requests_of_its_own),
    BETTER(p46_handlers_of_a_fork_may_use_it),
    BETTER(p46_a_fork_may_come_at_any_time),
    TEST(p47_programs_that_are_started_inherit_nothing),
    TEST(p48_exit_does_not_wait),
    BETTER(p48_exit_loses_nothing_that_is_to_be_written),
    TEST(p48_the_last_thread_ends_the_process),
    TEST(p48_a_program_that_cannot_be_seen_is_there),
    TEST(p48_what_a_function_starts_is_the_programs),
    TEST(p49_a_program_may_close_all_descriptors),
    TEST(p50_a_broken_pipe_is_an_error_and_no_signal),
    TEST(p51_a_hint_is_taken),
    TEST(p52_many_threads_at_once),
    TEST(p52_requests_survive_their_thread),
    TEST(p52_all_that_is_in_flight_survives_its_thread),
    TEST(p53_errno_changes_on_failure_alone),
    TEST(p54_without_io_uring_requests_go_on),
    TEST(p55_a_file_that_may_not_grow),
    { 0 },
};

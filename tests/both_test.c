/* SPDX-License-Identifier: MIT */
/* both_test.c: POSIX AIO and libaio in one process, with both drop-ins under them, which know
 * nothing of each other, and have a loop each. It is a program of those two interfaces alone
 * (`ouro run` in run_test.sh). */
#include <aio.h>
#include <libaio.h>

#include "dropin_test.h"

enum { PIECE = 4096, PIECES = 16, ROUNDS = 20, THREADS = 4 };

struct file {
    int fd;
    io_context_t context;
    char out[PIECES][PIECE], in[PIECES][PIECE];
    struct aiocb blocks[PIECES];
    struct iocb iocbs[PIECES];
};

static struct file *file_of(int fd)
{
    struct file *file = calloc(1, sizeof(*file));

    CHECK(file && io_setup(PIECES, &file->context) == 0);
    file->fd = fd;
    return file;
}

static void free_file(struct file *file)
{
    CHECK(io_destroy(file->context) == 0);
    free(file);
}

/* Every other piece is POSIX AIO's, from the first or from the second on. */
static void start(struct file *file, int first, bool writes)
{
    for (int i = 0; i < PIECES; i++) {
        off_t offset = (off_t)i * PIECE;

        if ((i + first) % 2) {
            struct iocb *iocb = &file->iocbs[i];

            if (writes)
                io_prep_pwrite(iocb, file->fd, file->out[i], PIECE, offset);
            else
                io_prep_pread(iocb, file->fd, file->in[i], PIECE, offset);
            CHECK(io_submit(file->context, 1, &iocb) == 1);
            continue;
        }
        file->blocks[i] = (struct aiocb){ .aio_fildes = file->fd,
                                          .aio_buf = writes ? file->out[i] : file->in[i],
                                          .aio_nbytes = PIECE,
                                          .aio_offset = offset };
        file->blocks[i].aio_sigevent.sigev_notify = SIGEV_NONE;
        CHECK((writes ? aio_write : aio_read)(&file->blocks[i]) == 0);
    }
}

static void finish(struct file *file, int first)
{
    struct io_event events[PIECES];
    int count = io_getevents(file->context, PIECES / 2, PIECES, events, NULL);

    CHECK(count == PIECES / 2);
    for (int i = 0; i < count; i++)
        CHECK((long)events[i].res == PIECE);
    for (int i = first; i < PIECES; i += 2) {
        const struct aiocb *list[1] = { &file->blocks[i] };

        while (aio_error(list[0]) == EINPROGRESS)
            CHECK(aio_suspend(list, 1, NULL) == 0 || errno == EINTR);
        CHECK(aio_error(list[0]) == 0 && aio_return(&file->blocks[i]) == PIECE);
    }
}

/* What one has written the other reads. */
static void write_and_read(struct file *file, int round)
{
    for (int i = 0; i < PIECES; i++)
        memset(file->out[i], round * PIECES + i + 1, PIECE);
    memset(file->in, 0, sizeof(file->in));
    start(file, 0, true);
    finish(file, 0);
    start(file, 1, false);
    finish(file, 1);
    CHECK(memcmp(file->out, file->in, sizeof(file->in)) == 0);
}

static void both_work_on_one_file(void)
{
    struct file *file = file_of(temp_file(0));

    for (int round = 0; round < ROUNDS; round++)
        write_and_read(file, round);
    free_file(file);
}

static void *work_on_own_file(void *arg)
{
    (void)arg;
    both_work_on_one_file();
    return NULL;
}

static void both_work_on_files_of_many_threads(void)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work_on_own_file, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

struct wait {
    io_context_t context;
    struct aiocb block;
    char byte;
    _Atomic bool over;
};

static void *wait_by_libaio(void *arg)
{
    struct wait *wait = arg;
    struct io_event event;
    int r;

    while ((r = io_getevents(wait->context, 1, 1, &event, NULL)) == -EINTR)
        continue; /* signals end it, also those of the C library */
    CHECK(r == 1 && event.res == 1);
    wait->over = true;
    return NULL;
}

static void *wait_by_posix_aio(void *arg)
{
    struct wait *wait = arg;
    const struct aiocb *list[1] = { &wait->block };

    while (aio_suspend(list, 1, NULL) < 0)
        CHECK(errno == EINTR);
    CHECK(aio_return(&wait->block) == 1);
    wait->over = true;
    return NULL;
}

/* Threads that wait in both for pipes; meanwhile this is done. */
static void while_both_wait(void (*work)(void))
{
    struct wait waits[2] = { 0 };
    struct iocb iocb, *list[1] = { &iocb };
    pthread_t threads[2];
    int fds[2][2];

    CHECK(pipe(fds[0]) == 0 && pipe(fds[1]) == 0);
    CHECK(io_setup(4, &waits[0].context) == 0);
    io_prep_pread(&iocb, fds[0][0], &waits[0].byte, 1, 0);
    CHECK(io_submit(waits[0].context, 1, list) == 1);
    waits[1].block = (struct aiocb){ .aio_fildes = fds[1][0],
                                     .aio_buf = &waits[1].byte,
                                     .aio_nbytes = 1,
                                     .aio_sigevent.sigev_notify = SIGEV_NONE };
    CHECK(aio_read(&waits[1].block) == 0);
    CHECK(pthread_create(&threads[0], NULL, wait_by_libaio, &waits[0]) == 0);
    CHECK(pthread_create(&threads[1], NULL, wait_by_posix_aio, &waits[1]) == 0);
    work();
    CHECK(!waits[0].over && !waits[1].over);
    for (int i = 0; i < 2; i++) {
        CHECK(write(fds[i][1], "x", 1) == 1);
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(waits[i].byte == 'x');
    }
}

static void waits_in_both_hold_up_neither(void)
{
    while_both_wait(both_work_on_one_file);
}

/* glibc changes the rights of all threads by a signal of its own, and waits until each has handled
 * it: who has blocked that signal in one of them, stops the program here. */
static void change_rights(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1) == 0);
        CHECK(setgid(getgid()) == 0 && setuid(getuid()) == 0);
        both_work_on_one_file();
    }
}

static void rights_change_while_both_wait(void)
{
    while_both_wait(change_rights);
}

/* One pipe: the bytes go to whoever reads, once each. */
static void both_read_one_pipe(void)
{
    struct wait waits[2] = { 0 };
    struct iocb iocb, *list[1] = { &iocb };
    int fds[2];

    CHECK(pipe(fds) == 0 && io_setup(4, &waits[0].context) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        io_prep_pread(&iocb, fds[0], &waits[0].byte, 1, 0);
        CHECK(io_submit(waits[0].context, 1, list) == 1);
        waits[1].block = (struct aiocb){ .aio_fildes = fds[0],
                                         .aio_buf = &waits[1].byte,
                                         .aio_nbytes = 1,
                                         .aio_sigevent.sigev_notify = SIGEV_NONE };
        CHECK(aio_read(&waits[1].block) == 0);
        CHECK(write(fds[1], "ab", 2) == 2);
        wait_by_libaio(&waits[0]);
        wait_by_posix_aio(&waits[1]);
        CHECK(waits[0].byte + waits[1].byte == 'a' + 'b');
    }
}

static const struct dropin_case both_tests[] = {
    TEST(both_work_on_one_file),
    TEST(both_work_on_files_of_many_threads),
    BETTER(waits_in_both_hold_up_neither), /* the kernel's io_submit waits itself */
    BETTER(rights_change_while_both_wait),
    BETTER(both_read_one_pipe),
    { 0 },
};

int main(int argc, char **argv)
{
    static const struct dropin_case *const themes[] = { both_tests };

    return run_tests(argc, argv, themes, 1);
}

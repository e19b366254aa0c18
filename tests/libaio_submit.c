/* SPDX-License-Identifier: MIT */
/* libaio_submit.c: what is accepted, in which order, and what happens to the program's control
 * blocks and descriptors behind that (L8, L9, L12, L13, L17). */
#include "libaio_test.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { PAGE = 4096 };

#ifndef RWF_HIPRI
#define RWF_HIPRI 1
#endif

static void l08_numbers_and_contexts(void)
{
    io_context_t context = context_of(8);
    static char nothing[PAGE];
    struct iocb iocb, *list[2] = { &iocb, NULL };
    char byte;
    int fd = temp_file(0);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    io_prep_pread(&iocb, fd, &byte, 1, 0);
    CHECK(io_submit(context, -1, list) == -EINVAL && io_submit(context, LONG_MIN, list) == -EINVAL);
    CHECK(io_submit(context, 0, list) == 0);
    CHECK(io_submit(context, 0, NULL) == 0 && io_submit(context, 0, (void *)-PAGE) == 0);
    CHECK(io_submit(NULL, 1, list) == -EINVAL && io_submit(NULL, 0, list) == -EINVAL);
    CHECK(io_submit((io_context_t)-1, 1, list) == -EINVAL);
    CHECK(io_submit((io_context_t)(uintptr_t)8, 1, list) == -EINVAL);
    CHECK(io_submit((io_context_t)(void *)nothing, 1, list) == -EINVAL);
    CHECK(io_submit((io_context_t)(void *)((char *)context + 1), 1, list) == -EINVAL);
    check_empty(context);
    CHECK(io_submit(context, LONG_MAX, list) == 1); /* it is cut, and the second cannot be read */
    CHECK(take(context, BY_CALL).obj == &iocb);
}

static void l09_up_to_the_first_that_is_bad(void)
{
    io_context_t context = context_of(8);
    struct iocb iocbs[5], *list[5];
    char bytes[5] = ".....";
    int fd = temp_file(0);

    CHECK(pwrite(fd, "abcde", 5, 0) == 5);
    for (int i = 0; i < 5; i++) {
        list[i] = &iocbs[i];
        io_prep_pread(list[i], fd, &bytes[i], 1, i);
    }
    iocbs[2].aio_fildes = -1;
    CHECK(io_submit(context, 5, list) == 2);
    for (int i = 0; i < 2; i++) {
        struct io_event event = take(context, BY_CALL);

        CHECK(event.obj == list[0] || event.obj == list[1]);
    }
    check_empty(context);
    CHECK(io_submit(context, 3, list + 2) == -EBADF);
    check_empty(context);
    CHECK(memcmp(bytes, "ab...", 5) == 0);
    iocbs[2].aio_fildes = fd;
    list[3] = NULL;
    CHECK(io_submit(context, 3, list + 2) == 1 && take(context, BY_CALL).obj == list[2]);
    CHECK(io_submit(context, 2, list + 3) == -EFAULT);
    CHECK(io_submit(context, 2, NULL) == -EFAULT);
}

/* Ceph and others end themselves when they are told of 0; behind a want of room, too. */
static void l09_never_none_of_some(void)
{
    static struct iocb iocbs[2000], *list[2000];
    io_context_t context = context_of(16);
    int fd = temp_file(0), r;
    long total = 0;
    char byte;

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < 2000; i++) {
        list[i] = &iocbs[i];
        io_prep_pread(list[i], fd, &byte, 1, 0);
    }
    while ((r = io_submit(context, 2000, list)) > 0)
        total += r;
    CHECK(r == -EAGAIN && total >= 16 && total < ring_of(context)->nr);
    for (long i = 0; i < total; i++)
        (void)take(context, (enum path)(i % PATHS));
    check_empty(context);
}

static void l12_what_is_ignored(void)
{
    io_context_t context = context_of(8);
    struct iocb iocb;
    struct iovec none = { NULL, 0 };
    char byte = 0;
    int fd = temp_file(0);

    CHECK(pwrite(fd, "abc", 3, 0) == 3);
    io_prep_pread(&iocb, fd, &byte, 1, 0);
    iocb.aio_reqprio = 0x7fff; /* without the flag it says nothing */
    iocb.key = 0xdeadbeef;
    iocb.u.c.flags = 1u << 5 | 1u << 31;
    CHECK(outcome(context, &iocb) == 1 && byte == 'a');
    CHECK(iocb.key == 0 && iocb.u.c.flags == (1u << 5 | 1u << 31));
    io_prep_pread(&iocb, fd, &byte, 1, 1);
    iocb.aio_rw_flags = RWF_HIPRI;
    CHECK(outcome(context, &iocb) == 1 && byte == 'b');
    io_prep_pread(&iocb, fd, &byte, 0, 2);
    CHECK(outcome(context, &iocb) == 0);
    io_prep_pread(&iocb, fd, NULL, 0, 2);
    CHECK(outcome(context, &iocb) == 0);
    io_prep_pwrite(&iocb, fd, &byte, 0, 100);
    CHECK(outcome(context, &iocb) == 0);
    io_prep_preadv(&iocb, fd, &none, 0, 0);
    CHECK(outcome(context, &iocb) == 0);
    io_prep_pwritev(&iocb, fd, NULL, 0, 0);
    CHECK(outcome(context, &iocb) == 0);
    io_prep_preadv(&iocb, fd, &none, 1, 0);
    CHECK(outcome(context, &iocb) == 0);
    io_prep_pread(&iocb, fd, &byte, 1, 3); /* behind its end */
    CHECK(outcome(context, &iocb) == 0);
}

static void l12_flags_and_priorities(void)
{
    static const int flags[] = { RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_SYNC, RWF_NOWAIT };
    static const int priorities[] = { 0, 2 << 13 | 4, 3 << 13 }; /* of the classes 0, BE, IDLE */
    io_context_t context = context_of(8);
    char bytes[] = "abcdef", got[sizeof(bytes)];
    struct iovec vectors[] = { { bytes, 2 }, { bytes + 2, 0 }, { bytes + 2, 4 } };
    struct iovec places[] = { { got, 1 }, { got + 1, 5 } };
    int fds[] = { temp_file(0), temp_file(O_DSYNC) };
    struct iocb iocb;

    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++) {
            io_prep_pwritev2(&iocb, fds[i], vectors, 3, k * 1000, flags[k]);
            iocb.u.c.flags = FLAG_IOPRIO;
            iocb.aio_reqprio = (short)priorities[k];
            CHECK(outcome_by(context, &iocb, (enum path)k) == 6);
            memset(got, 0, sizeof(got));
            io_prep_preadv2(&iocb, fds[i], places, 2, k * 1000, flags[3]);
            CHECK(outcome(context, &iocb) == 6 && memcmp(bytes, got, 6) == 0);
        }
    }
}

/* ---- The program's control blocks are its own again ----------------------------------------- */

enum fate { OVERWRITTEN, UNMAPPED, READ_ONLY, SUBMITTED_AGAIN, FATES };

/* An event of the program's. Who looks by himself may see that of a block which is not his instead,
 * and finds his own by io_getevents. */
static struct io_event take_of(io_context_t context, const struct iocb *iocb, enum path path)
{
    struct io_event event = take(context, path);

    return event.obj == iocb || path == BY_CALL ? event : take(context, BY_CALL);
}

static void spoil(struct iocb *iocb, enum fate fate)
{
    switch (fate) {
    case OVERWRITTEN: memset(iocb, 0xee, sizeof(*iocb)); break;
    case UNMAPPED: CHECK(munmap(iocb, PAGE) == 0); break;
    case READ_ONLY: CHECK(mprotect(iocb, PAGE, PROT_READ) == 0); break;
    default: break;
    }
}

/* Byte by byte, also what is between the members. */
static bool is_same(const void *one, const void *two)
{
    return memcmp(one, two, sizeof(struct iocb)) == 0;
}

/* A read whose control block is gone when it is over: by bytes that come then, or without. */
static void lose(enum fate fate, enum path path, int fd, int feed, off_t at)
{
    enum { SIZE = 3000 };
    io_context_t context = context_of(8);
    struct iocb *iocb = (struct iocb *)(void *)aligned(PAGE), copy;
    char bytes[SIZE], others[SIZE], data[SIZE];
    int wanted = 1;

    io_prep_pread(iocb, fd, bytes, SIZE, feed < 0 ? at : 0);
    iocb->data = bytes;
    CHECK(submit(context, iocb) == 1);
    copy = *iocb;
    spoil(iocb, fate);
    if (fate == SUBMITTED_AGAIN) {
        io_prep_pread(iocb, fd, others, SIZE, feed < 0 ? at + SIZE : 0);
        iocb->data = others;
        CHECK(submit(context, iocb) == 1);
        wanted = 2;
    }
    for (int i = 0; i < wanted && feed >= 0; i++) {
        fill_at(data, SIZE, at + (off_t)i * SIZE);
        CHECK(write(feed, data, SIZE) == SIZE);
    }
    for (int i = 0; i < wanted; i++) {
        struct io_event event = take_of(context, iocb, path);
        bool first = event.data == bytes;

        CHECK(event.obj == iocb && result_of(&event) == SIZE);
        CHECK(first || event.data == others);
        CHECK(is_filled(first ? bytes : others, SIZE, first ? at : at + SIZE));
    }
    if (fate == READ_ONLY)
        CHECK(is_same(iocb, &copy));
    for (size_t i = 0; i < sizeof(*iocb) && fate == OVERWRITTEN; i++)
        CHECK(((unsigned char *)iocb)[i] == 0xee);
    CHECK(!take_within(context, BY_CALL, 5, &(struct io_event){ 0 }));
    CHECK(io_destroy(context) == 0);
}

static void l13_a_control_block_may_go_at_once(void)
{
    int fd = file_of(100000, 0);
    off_t at = 0;

    for (enum fate fate = OVERWRITTEN; fate < FATES; fate++)
        for (enum path path = BY_CALL; path < PATHS; path++, at += 4000)
            lose(fate, path, fd, -1, at);
}

/* BETTER: the kernel would wait for the pipe. */
static void l13_a_control_block_may_go_while_a_pipe_is_waited_for(void)
{
    for (enum fate fate = OVERWRITTEN; fate < FATES; fate++)
        for (enum path path = BY_CALL; path < PATHS; path++) {
            int fds[2];

            CHECK(pipe(fds) == 0);
            lose(fate, path, fds[0], fds[1], 4000);
            close(fds[0]);
            close(fds[1]);
        }
}

/* What is in a block goes to and fro while `on`. */
struct swing {
    struct iocb iocb;
    char here, there;
    _Atomic bool on, end;
    _Atomic unsigned rests;
};

static void *swing_main(void *arg)
{
    struct swing *swing = arg;

    while (!atomic_load(&swing->end))
        if (atomic_load(&swing->on)) {
            __atomic_store_n(&swing->iocb.data, (void *)&swing->there, __ATOMIC_RELAXED);
            __atomic_store_n(&swing->iocb.data, (void *)&swing->here, __ATOMIC_RELAXED);
        } else {
            atomic_fetch_add(&swing->rests, 1);
            usleep(20);
        }
    return NULL;
}

static void stop_swing(struct swing *swing)
{
    unsigned rests;

    atomic_store(&swing->on, false);
    rests = atomic_load(&swing->rests);
    while (atomic_load(&swing->rests) == rests)
        usleep(20);
}

/* BETTER, for it is a pipe. Whatever is in the block when its event is made, the event is that of
 * what was submitted, or stays with io_getevents. */
static void l13_a_control_block_may_change_at_any_time(void)
{
    struct swing swing = { .on = false };
    io_context_t context = context_of(8);
    struct ring *ring = ring_of(context);
    pthread_t thread;
    char byte;
    int fds[2];

    CHECK(pipe(fds) == 0 && pthread_create(&thread, NULL, swing_main, &swing) == 0);
    for (int i = 0; i < 200; i++) {
        struct io_event event;

        io_prep_pread(&swing.iocb, fds[0], &byte, 1, 0);
        swing.iocb.data = &swing.here;
        CHECK(submit(context, &swing.iocb) == 1);
        atomic_store(&swing.on, true);
        CHECK(write(fds[1], "x", 1) == 1);
        for (int k = 0; k < 1000 && ring->head == ring->tail; k++)
            nap_ms(1);
        stop_swing(&swing);
        event = take_of(context, &swing.iocb, BY_RING);
        CHECK(event.obj == &swing.iocb && event.data == &swing.here && result_of(&event) == 1);
    }
    atomic_store(&swing.end, true);
    CHECK(pthread_join(thread, NULL) == 0 && close(fds[0]) == 0 && close(fds[1]) == 0);
    check_empty(context);
}

/* While it waits the block stays as the kernel leaves it, and behind its end, too. */
static void check_unchanged(io_context_t context, struct iocb *iocb, enum path path)
{
    struct iocb before;

    iocb->data = iocb;
    CHECK(submit(context, iocb) == 1);
    before = *iocb;
    CHECK(take(context, path).data == iocb);
    for (int i = 0; path != BY_CALL && i < 100 && !is_same(&before, iocb); i++)
        nap_ms(1); /* who looks by himself may see it while the event is put there */
    CHECK(is_same(&before, iocb));
}

static void l13_a_control_block_stays_as_it_was(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(100000, 0);
    struct iocb iocb;
    char bytes[100];

    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, fd, bytes, sizeof(bytes), 20000 * (long long)path);
        check_unchanged(context, &iocb, path);
        io_prep_fdsync(&iocb, fd);
        check_unchanged(context, &iocb, path);
        io_prep_pread(&iocb, fd, (void *)8, sizeof(bytes), 0); /* an error */
        check_unchanged(context, &iocb, path);
    }
}

/* The last that are in memory which ends behind them; vectors are copied like blocks. */
static void l13_vectors_may_go_at_once(void)
{
    io_context_t context = context_of(8);
    int fd = file_of(100000, 0);
    char bytes[3000];
    struct iocb iocb;

    for (int gone = 0; gone < 2; gone++) {
        struct iovec *vectors = (struct iovec *)(void *)(aligned(2 * PAGE) + PAGE) - 3;
        struct io_event event;

        CHECK(munmap(vectors + 3, PAGE) == 0);
        for (int i = 0; i < 3; i++)
            vectors[i] = (struct iovec){ bytes + (size_t)i * 1000, 1000 };
        drop_cache(fd);
        io_prep_preadv(&iocb, fd, vectors, 3, 50000);
        CHECK(submit(context, &iocb) == 1);
        if (gone)
            CHECK(munmap((char *)(vectors + 3) - PAGE, PAGE) == 0);
        else
            memset(vectors, 0, 3 * sizeof(*vectors));
        event = take(context, BY_CALL);
        CHECK(result_of(&event) == 3000 && is_filled(bytes, 3000, 50000));
    }
}

/* ---- So are its descriptors ----------------------------------------------------------------- */

static void l17_a_descriptor_may_be_closed_at_once(void)
{
    enum { COUNT = 16, SIZE = 64 << 10 };
    static const int flags[] = { 0, O_DIRECT };
    char *bytes = aligned((size_t)COUNT * SIZE);

    for (int i = 0; i < 2; i++)
        for (int replaced = 0; replaced < 2; replaced++) {
            io_context_t context = context_of(COUNT);
            int fd = file_of((size_t)COUNT * SIZE, flags[i]), other = temp_file(0);
            struct iocb iocbs[COUNT], *list[COUNT];

            for (int k = 0; k < COUNT; k++) {
                list[k] = &iocbs[k];
                io_prep_pread(list[k], fd, bytes + (size_t)k * SIZE, SIZE, (long long)k * SIZE);
            }
            CHECK(io_submit(context, COUNT, list) == COUNT);
            CHECK(replaced ? dup2(other, fd) == fd : close(fd) == 0);
            for (int k = 0; k < COUNT; k++) {
                struct io_event event = take(context, BY_CALL);

                CHECK(result_of(&event) == SIZE);
            }
            CHECK(is_filled(bytes, (size_t)COUNT * SIZE, 0));
            CHECK(io_destroy(context) == 0);
        }
}

/* BETTER: it waits for a pipe. */
static void l17_a_pipe_may_be_closed_while_it_is_waited_for(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;
    char bytes[4];
    int fds[2], other = temp_file(0);

    CHECK(pwrite(other, "wrong", 5, 0) == 5 && pipe(fds) == 0);
    io_prep_pread(&iocb, fds[0], bytes, 4, 0);
    CHECK(submit(context, &iocb) == 1);
    CHECK(dup2(other, fds[0]) == fds[0]);
    CHECK(write(fds[1], "abcd", 4) == 4); /* nobody else has its other end */
    event = take(context, BY_CALL);
    CHECK(result_of(&event) == 4 && memcmp(bytes, "abcd", 4) == 0);
}

/* fcntl(2): who closes any descriptor of a file drops all locks that its process has on it. */
static void l17_record_locks_are_kept(void)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    io_context_t context = context_of(8);
    int fd = file_of(4096, 0), status;
    struct iocb iocb;
    char bytes[100];
    pid_t child;

    CHECK(fcntl(fd, F_SETLK, &lock) == 0);
    io_prep_pread(&iocb, fd, bytes, sizeof(bytes), 0);
    CHECK(outcome(context, &iocb) == sizeof(bytes));
    io_prep_pwrite(&iocb, fd, bytes, sizeof(bytes), 0);
    CHECK(outcome(context, &iocb) == sizeof(bytes));
    if ((child = fork()) == 0)
        _exit(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == getppid());
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

/* BETTER: it waits for a pipe. */
static void l17_no_file_is_held_longer_than_its_request(void)
{
    io_context_t context = context_of(8);
    double limit = now_s() + 5;
    struct iocb iocbs[2];
    char bytes[2];
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 2; i++) {
        io_prep_pread(&iocbs[i], fds[0], &bytes[i], 1, 0);
        CHECK(submit(context, &iocbs[i]) == 1);
    }
    CHECK(write(fds[1], "ab", 2) == 2);
    for (int i = 0; i < 2; i++)
        CHECK(take(context, BY_CALL).res == 1);
    CHECK(close(fds[0]) == 0 && memcmp(bytes, "ab", 2) == 0);
    while (write(fds[1], "c", 1) == 1 && now_s() < limit)
        nap_ms(1);
    CHECK(write(fds[1], "c", 1) < 0 && errno == EPIPE);
}

const struct dropin_case submit_tests[] = {
    TEST(l08_numbers_and_contexts),
    TEST(l09_up_to_the_first_that_is_bad),
    TEST(l09_never_none_of_some),
    TEST(l12_what_is_ignored),
    TEST(l12_flags_and_priorities),
    TEST(l13_a_control_block_may_go_at_once),
    BETTER(l13_a_control_block_may_go_while_a_pipe_is_waited_for),
    BETTER(l13_a_control_block_may_change_at_any_time),
    TEST(l13_a_control_block_stays_as_it_was),
    TEST(l13_vectors_may_go_at_once),
    TEST(l17_a_descriptor_may_be_closed_at_once),
    BETTER(l17_a_pipe_may_be_closed_while_it_is_waited_for),
    TEST(l17_record_locks_are_kept),
    BETTER(l17_no_file_is_held_longer_than_its_request),
    { 0 },
};

/* SPDX-License-Identifier: MIT */
/* t_files.c: reading and writing, each result compared with what the plain system call says. */
#include <limits.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef RWF_DSYNC
#define RWF_DSYNC 2
#endif
#ifndef RWF_APPEND
#define RWF_APPEND 16
#endif

static void read_gives_what_pread_gives(struct test *t)
{
    static const struct {
        int64_t offset;
        size_t len;
    } cases_[] = { { 0, 10 }, { 5, 9000 }, { 8190, 10 }, { 0, 20000 }, { 9999, 5 }, { 0, 0 } };
    char data[10000], got[20000], want[20000];
    ouro_op *op = op_new(t);
    int fd;

    fill(data, sizeof data, 1);
    fd = make_file(t, "f", data, sizeof data);
    for (size_t i = 0; i < sizeof cases_ / sizeof *cases_; i++) {
        int64_t r = plain(pread(fd, want, cases_[i].len, cases_[i].offset));

        memset(got, 0, sizeof got);
        ouro_prep_read(op, fd, got, cases_[i].len, cases_[i].offset);
        CHECK_EQ(do_op(t, op), r);
        CHECK(memcmp(got, want, (size_t)r) == 0);
    }
}

static void end_of_file_is_zero(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    int fd = make_file(t, "f", "abc", 3);

    ouro_prep_read(op, fd, buf, 8, 3);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_read(op, fd, buf, 8, INT64_MAX / 2);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_read(op, fd, buf, 8, 1);
    CHECK_EQ(do_op(t, op), 2);
    ouro_prep_read(op, fd, buf, 8, 1);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 2);
    CHECK_EQ(op->cause, 0);
}

static void write_then_read_gives_the_same(struct test *t)
{
    enum { SIZE = 300000 };
    char *data = malloc(SIZE), *got = malloc(SIZE);
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", NULL, 0);

    CHECK(data && got);
    fill(data, SIZE, 9);
    ouro_prep_write(op, fd, data, SIZE, 4097);
    CHECK_EQ(do_op(t, op), SIZE);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    ouro_prep_read(op, fd, got, SIZE, 4097);
    CHECK_EQ(do_op(t, op), SIZE);
    check_filled(got, SIZE, 9);
    CHECK_EQ(lseek(fd, 0, SEEK_END), SIZE + 4097);
    free(data);
    free(got);
}

static void many_reads_at_once_each_get_their_own(struct test *t)
{
    enum { COUNT = 64, SIZE = 512 };
    static char data[COUNT * SIZE], got[COUNT][SIZE];
    ouro_op *ops[COUNT];
    int fd;

    fill(data, sizeof data, 3);
    fd = make_file(t, "f", data, sizeof data);
    for (int i = 0; i < COUNT; i++)
        ouro_prep_read(ops[i] = op_new(t), fd, got[i], SIZE, (int64_t)i * SIZE);
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    finish_all(t);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(RES(ops[i]), SIZE);
        CHECK(memcmp(got[i], data + (size_t)i * SIZE, SIZE) == 0);
    }
}

static void current_position_is_used_and_moved(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8] = "";
    int fd = make_file(t, "f", "0123456789", 10);

    ouro_prep_read(op, fd, buf, 4, OURO_CUR);
    CHECK_EQ(do_op(t, op), 4);
    CHECK(memcmp(buf, "0123", 4) == 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 4);
    ouro_prep_read(op, fd, buf, 4, 8);
    CHECK_EQ(do_op(t, op), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 4);
    ouro_prep_write(op, fd, "ab", 2, OURO_CUR);
    CHECK_EQ(do_op(t, op), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
    ouro_prep_read(op, fd, buf, 8, OURO_CUR);
    CHECK_EQ(do_op(t, op), 4);
    ouro_prep_read(op, fd, buf, 8, OURO_CUR);
    CHECK_EQ(do_op(t, op), 0);
}

static void current_position_operations_run_in_order(struct test *t)
{
    enum { COUNT = 200, SIZE = 700 };
    static char data[COUNT * SIZE], got[COUNT][SIZE];
    ouro_op *ops[COUNT];
    int fd;

    fill(data, sizeof data, 4);
    fd = make_file(t, "f", data, sizeof data);
    for (int i = 0; i < COUNT; i++)
        ouro_prep_read(ops[i] = op_new(t), fd, got[i], SIZE, OURO_CUR);
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    finish_all(t);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(RES(ops[i]), SIZE);
        CHECK(memcmp(got[i], data + (size_t)i * SIZE, SIZE) == 0);
    }
}

static void append_ignores_the_offset(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    int fd = made(t, open(path_in(t, "f"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));

    ouro_prep_write(op, fd, "abc", 3, 0);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_write(op, fd, "def", 3, 0);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_read(op, fd, buf, 8, 0);
    CHECK_EQ(do_op(t, op), 6);
    CHECK(memcmp(buf, "abcdef", 6) == 0);
}

static void pipes_ignore_the_offset(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8] = "";
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_write(op, fds[1], "abc", 3, 1000);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_read(op, fds[0], buf, 2, 4096);
    CHECK_EQ(do_op(t, op), 2);
    ouro_prep_read(op, fds[0], buf + 2, 2, OURO_CUR);
    CHECK_EQ(do_op(t, op), 1);
    CHECK(memcmp(buf, "abc", 3) == 0);
}

static void vectors_read_and_write(struct test *t)
{
    char a[5] = "", b[7] = "", c[3] = "";
    char hello[] = "Hello, world!";
    struct iovec out[3] = { { hello, 5 }, { hello, 0 }, { hello + 5, 8 } };
    struct iovec in[3] = { { a, 5 }, { b, 7 }, { c, 3 } };
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", NULL, 0);

    ouro_prep_writev(op, fd, out, 3, 2, 0);
    CHECK_EQ(do_op(t, op), 13);
    ouro_prep_readv(op, fd, in, 3, 2, 0);
    CHECK_EQ(do_op(t, op), 13);
    CHECK(memcmp(a, "Hello", 5) == 0 && memcmp(b, ", world", 7) == 0 && c[0] == '!');
    ouro_prep_readv(op, fd, in, 3, OURO_CUR, 0);
    CHECK_EQ(do_op(t, op), 15);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 15);
    ouro_prep_writev(op, fd, out, 3, 0, RWF_DSYNC);
    CHECK_EQ(do_op(t, op), 13);
    ouro_prep_writev(op, fd, out, 1, 0, RWF_APPEND);
    CHECK_EQ(do_op(t, op), 5);
    CHECK_EQ(lseek(fd, 0, SEEK_END), 20);
    ouro_prep_readv(op, fd, in, 0, 0, 0);
    CHECK_EQ(do_op(t, op), 0);
}

static void more_vectors_than_the_system_takes(struct test *t)
{
    enum { COUNT = IOV_MAX * 2 + 77 };
    static char data[COUNT * 3], got[COUNT * 3];
    static struct iovec iov[COUNT];
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", NULL, 0);

    fill(data, sizeof data, 8);
    for (size_t i = 0; i < COUNT; i++)
        iov[i] = (struct iovec){ data + i * 3, 3 };
    ouro_prep_writev(op, fd, iov, COUNT, 0, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), (int64_t)sizeof data);
    for (size_t i = 0; i < COUNT; i++)
        iov[i].iov_base = got + i * 3;
    ouro_prep_readv(op, fd, iov, COUNT, 0, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), (int64_t)sizeof got);
    check_filled(got, sizeof got, 8);
    for (size_t i = 0; i < COUNT; i++) /* the array is not the library's to change */
        CHECK(iov[i].iov_base == got + i * 3 && iov[i].iov_len == 3);
    ouro_prep_readv(op, fd, iov, COUNT, 0, 0);
    CHECK(do_op(t, op) >= IOV_MAX * 3);
}

static void nowait_asks_for_eagain(struct test *t)
{
    char byte;
    struct iovec iov = { &byte, 1 };
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "x", 1);
    int64_t want = plain(preadv2(fd, &iov, 1, 0, RWF_NOWAIT));

    ouro_prep_readv(op, fd, &iov, 1, 0, RWF_NOWAIT);
    CHECK_EQ(do_op(t, op), want);
    make_pipe(t, fds);
    want = plain(preadv2(fds[0], &iov, 1, -1, RWF_NOWAIT));
    ouro_prep_readv(op, fds[0], &iov, 1, 0, RWF_NOWAIT);
    CHECK_EQ(do_op(t, op), want);
    ouro_prep_readv(op, fd, &iov, 1, 0, 1 << 29);
    want = plain(preadv2(fd, &iov, 1, 0, 1 << 29));
    CHECK_EQ(do_op(t, op), want);
}

static void exact_goes_on_until_all_is_there(struct test *t)
{
    enum { SIZE = 200000, PIECE = 5000 };
    static char data[SIZE], got[SIZE];
    ouro_op *op = op_new(t);
    int fds[2];

    fill(data, SIZE, 5);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], got, SIZE, 0);
    op->flags = OURO_EXACT;
    start(t, op);
    for (size_t at = 0; at < SIZE; at += PIECE) {
        struct pollfd room = { .fd = fds[1], .events = POLLOUT };
        size_t sent = 0;

        while (sent < PIECE) {
            ssize_t r;

            step(t);
            if (poll(&room, 1, 1) == 0)
                continue;
            r = write(fds[1], data + at + sent, PIECE - sent > 4096 ? 4096 : PIECE - sent);
            CHECK(r > 0);
            sent += (size_t)r;
        }
    }
    CHECK_EQ(finish(t, op), SIZE);
    check_filled(got, SIZE, 5);
}

static void exact_write_waits_for_the_reader(struct test *t)
{
    enum { SIZE = 500000 };
    static char data[SIZE], got[SIZE];
    ouro_op *w = op_new(t), *r = op_new(t);
    size_t at = 0;
    int fds[2];

    fill(data, SIZE, 6);
    make_pipe(t, fds);
    ouro_prep_write(w, fds[1], data, SIZE, 0);
    w->flags = OURO_EXACT;
    start(t, w);
    while (at < SIZE) {
        ouro_prep_read(r, fds[0], got + at, SIZE - at, 0);
        CHECK(do_op(t, r) > 0);
        at += (size_t)RES(r);
    }
    CHECK_EQ(finish(t, w), SIZE);
    check_filled(got, SIZE, 6);
}

static void exact_that_falls_short_says_why(struct test *t)
{
    static char buf[100];
    ouro_op *op = op_new(t);
    int fds[2];

    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    unmade(t, fds[1]);
    close(fds[1]);
    ouro_prep_read(op, fds[0], buf, 100, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 3);
    CHECK_EQ(op->cause, 0);
    make_pipe(t, fds);
    ouro_prep_write(op, fds[1], buf, 100, 0);
    CHECK_EQ(do_op(t, op), 100);
    ouro_prep_read(op, fds[0], buf, 99, 0);
    CHECK_EQ(do_op(t, op), 99);
}

static void broken_pipe_is_epipe_without_signal(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte = 'x';
    struct iovec iov = { &byte, 1 };
    int fds[2];

    for (int socket = 0; socket < 2; socket++) {
        make_stream(t, socket, fds);
        unmade(t, fds[0]);
        close(fds[0]);
        ouro_prep_write(op, fds[1], "x", 1, 0);
        CHECK_EQ(do_op(t, op), -EPIPE);
        ouro_prep_writev(op, fds[1], &iov, 1, 0, 0);
        CHECK_EQ(do_op(t, op), -EPIPE);
        ouro_prep_write(op, fds[1], "x", 1, OURO_CUR);
        op->flags = OURO_EXACT;
        CHECK_EQ(do_op(t, op), -EPIPE);
    }
}

static void pipe_breaking_under_a_write_is_no_signal(struct test *t)
{
    enum { SIZE = 1000000 };
    static char data[SIZE];
    ouro_op *op = op_new(t);
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_write(op, fds[1], data, SIZE, 0);
    op->flags = OURO_EXACT;
    start(t, op);
    step(t);
    unmade(t, fds[0]);
    close(fds[0]);
    if (finish(t, op) >= 0) {
        CHECK(RES(op) > 0 && RES(op) < SIZE);
        CHECK_EQ(op->cause, -EPIPE);
    } else {
        CHECK_EQ(RES(op), -EPIPE);
    }
}

/* Why the one before fell short says nothing of the next. */
static void a_cause_does_not_outlive_its_operation(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    int fds[2];

    make_pipe(t, fds);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(write(fds[1], "abc", 3), 3);
        ouro_prep_read(op, fds[0], buf, sizeof(buf), 0);
        op->flags = OURO_EXACT;
        op->deadline = in_ms(t, 200 * seconds_scaled(1)); /* it begins before */
        CHECK_EQ(do_op(t, op), 3);
        CHECK_EQ(op->cause, -ETIMEDOUT);
        if (i == 0) {
            ouro_prep_nop(op);
            CHECK_EQ(do_op(t, op), 0);
        } else {
            CHECK_EQ(write(fds[1], "d", 1), 1);
            ouro_prep_read(op, fds[0], buf, 1, 0);
            CHECK_EQ(do_op(t, op), 1);
        }
        CHECK_EQ(op->cause, 0);
    }
}

static void bad_and_wrong_descriptors(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8] = { 0 };
    int dir = made(t, open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int writer = made(t, open(path_in(t, "w"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    int reader = made(t, open(path_in(t, "w"), O_RDONLY | O_CLOEXEC));
    int path = made(t, open(path_in(t, "w"), O_PATH | O_CLOEXEC));

    ouro_prep_read(op, 9999, buf, 8, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_write(op, 9999, buf, 8, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_fsync(op, 9999);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_read(op, dir, buf, 8, 0);
    CHECK_EQ(do_op(t, op), plain(pread(dir, buf, 8, 0)));
    ouro_prep_read(op, writer, buf, 8, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_write(op, reader, buf, 8, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_read(op, path, buf, 8, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
}

static void unmapped_buffers_are_efault(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "abcdef", 6);
    /* Not unmapped: a thread's stack could come to lie there. */
    char *gone = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(gone != MAP_FAILED);
    ouro_prep_read(op, fd, gone, 6, 0);
    CHECK_EQ(do_op(t, op), -EFAULT);
    ouro_prep_write(op, fd, gone, 6, 0);
    CHECK_EQ(do_op(t, op), -EFAULT);
    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_read(op, fds[0], gone, 1, 0);
    CHECK_EQ(do_op(t, op), -EFAULT);
    ouro_prep_open(op, OURO_HERE, gone, O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -EFAULT);
    munmap(gone, 8192);
}

static void a_huge_read_is_cut_or_goes_on(struct test *t)
{
    /* One page of memory seen many times makes a buffer of more than 2 GiB. */
    const size_t piece = 1u << 21, size = 0x80000000u;
    int memory = made(t, memfd_create("piece", MFD_CLOEXEC)), zero = made(t, open("/dev/zero", 2));
    char *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ouro_op *op = op_new(t);

    CHECK(at != MAP_FAILED);
    CHECK_EQ(ftruncate(memory, (off_t)piece), 0);
    for (size_t i = 0; i < size; i += piece)
        CHECK(mmap(at + i, piece, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0) !=
              MAP_FAILED);
    ouro_prep_read(op, zero, at, size, 0);
    CHECK(do_op(t, op) > 0); /* /dev/zero stops early for whoever wants the thread */
    CHECK(RES(op) <= 0x7ffff000);
    ouro_prep_read(op, zero, at, size, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), (int64_t)size);
    munmap(at, size);
}

static void full_device_is_enospc(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = made(t, open("/dev/full", O_WRONLY | O_CLOEXEC));

    ouro_prep_write(op, fd, "x", 1, 0);
    CHECK_EQ(do_op(t, op), -ENOSPC);
}

static void blocking_read_waits_whatever_the_mode(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int fds[2];

    for (int socket = 0; socket < 2; socket++) {
        make_stream(t, socket, fds);
        ouro_prep_read(op, fds[0], buf, 4, 0);
        start(t, op);
        for (int i = 0; i < 3; i++)
            step(t);
        CHECK(!is_final(op));
        CHECK_EQ(write(fds[1], "go", 2), 2);
        CHECK_EQ(finish(t, op), 2);
    }
}

static void fdmode_honours_nonblock(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[4];
    int fds[2];

    for (int socket = 0; socket < 2; socket++) {
        make_stream(t, socket, fds);
        ouro_prep_read(op, fds[0], buf, 4, 0);
        op->flags = OURO_FDMODE;
        start(t, op);
        if (t->fdmode == FD_BLOCKING) {
            step(t);
            CHECK(!is_final(op));
            CHECK_EQ(write(fds[1], "go", 2), 2);
            CHECK_EQ(finish(t, op), 2);
        } else {
            CHECK_EQ(finish(t, op), -EAGAIN);
        }
    }
}

static void full_pipe_makes_a_write_wait(struct test *t)
{
    static char data[65536], got[65536];
    ouro_op *op = op_new(t);
    int fds[2], flags;
    ssize_t filled = 0, r;

    make_pipe(t, fds);
    flags = fcntl(fds[1], F_GETFL);
    fcntl(fds[1], F_SETFL, flags | O_NONBLOCK);
    while ((r = write(fds[1], data, sizeof data)) > 0)
        filled += r;
    fcntl(fds[1], F_SETFL, flags);
    ouro_prep_write(op, fds[1], "last", 4, 0);
    start(t, op);
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK(!is_final(op));
    while (filled > 0) {
        r = read(fds[0], got, (size_t)filled < sizeof got ? (size_t)filled : sizeof got);
        CHECK(r > 0);
        filled -= r;
    }
    CHECK_EQ(finish(t, op), 4);
    CHECK_EQ(read(fds[0], got, 10), 4);
}

static void direct_files_read_and_write(struct test *t)
{
    ouro_op *op = op_new(t);
    char *buf = aligned_alloc(4096, 16384);
    int fd = open(path_in(t, "d"), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);

    CHECK(buf != NULL);
    if (fd >= 0) { /* else a file system without it; buffered reading is tested above */
        int64_t want;

        made(t, fd);
        fill(buf, 16384, 2);
        ouro_prep_write(op, fd, buf, 16384, 0);
        CHECK_EQ(do_op(t, op), 16384);
        memset(buf, 0, 16384);
        ouro_prep_read(op, fd, buf, 16384, 0);
        CHECK_EQ(do_op(t, op), 16384);
        check_filled(buf, 16384, 2);
        ouro_prep_read(op, fd, buf, 8192, 12288);
        CHECK_EQ(do_op(t, op), 4096);
        want = plain(pread(fd, buf + 1, 511, 3));
        ouro_prep_read(op, fd, buf + 1, 511, 3);
        CHECK_EQ(do_op(t, op), want);
    }
    free(buf);
}

static void memory_files_read_and_write(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[100];
    int fd = made(t, memfd_create("m", MFD_CLOEXEC));

    ouro_prep_write(op, fd, "hello", 5, 10);
    CHECK_EQ(do_op(t, op), 5);
    ouro_prep_read(op, fd, buf, 100, 0);
    CHECK_EQ(do_op(t, op), 15);
    CHECK(memcmp(buf, "\0\0\0\0\0\0\0\0\0\0hello", 15) == 0);
}

static void descriptors_are_reused_without_memory(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2], fd = open(path_in(t, "a"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK_EQ(write(fd, "a", 1), 1);
    ouro_prep_read(op, fd, &byte, 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    close(fd);
    /* The same number now means a pipe, then a socket: what was learned is not used. */
    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQ(fds[0], fd);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "p", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(byte, 'p');
    close(fds[0]);
    close(fds[1]);
    fd = open(path_in(t, "a"), O_RDONLY | O_CLOEXEC);
    ouro_prep_read(op, fd, &byte, 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    CHECK_EQ(byte, 'a');
    close(fd);
}

/* What ouro has opened in memory is taken for such until ouro closes it. If the program closes it
 * by itself, and the number stands for a pipe by now, that is found out. */
static void a_memory_file_that_became_a_pipe_is_read(struct test *t)
{
    ouro_op *op = op_new(t);
    char path[32], byte = 0;
    int fds[2], fd, memory = memfd_create("m", MFD_CLOEXEC);

    CHECK_EQ(write(memory, "a", 1), 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0);
    fd = (int)do_op(t, op);
    CHECK(fd >= 0);
    for (int i = 0; i < 3; i++) {
        ouro_prep_read(op, fd, &byte, 1, 0);
        CHECK_EQ(do_op(t, op), 1);
        CHECK_EQ(byte, 'a');
    }
    close(fd);
    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQ(dup3(fds[0], fd, O_CLOEXEC) == fd || fds[0] == fd, 1);
    for (int i = 0; i < 3; i++) {
        ouro_prep_read(op, fd, &byte, 1, 0);
        start(t, op);
        step(t);
        CHECK_EQ(write(fds[1], "p", 1), 1);
        CHECK_EQ(finish(t, op), 1);
        CHECK_EQ(byte, 'p');
    }
    close(fd);
    if (fds[0] != fd)
        close(fds[0]);
    close(fds[1]);
    close(memory);
}

static void terminals_read(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[16];
    int slave, master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    made(t, master);
    CHECK_EQ(grantpt(master), 0);
    CHECK_EQ(unlockpt(master), 0);
    slave = made(t, open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ouro_prep_read(op, slave, buf, sizeof buf, 0);
    start(t, op);
    step(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(master, "line\n", 5), 5);
    CHECK_EQ(finish(t, op), 5);
    CHECK(memcmp(buf, "line\n", 5) == 0);
}

static void bg_reads_the_same(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    int fd = make_file(t, "f", "abcdef", 6);

    ouro_prep_read(op, fd, buf, 8, 2);
    op->flags = OURO_BG;
    CHECK_EQ(do_op(t, op), 4);
    CHECK(!(CFLAGS(op) & OURO_C_INLINE));
}

/* As under emulators of user space: whatever asks for a try goes another way. */
static void flags_of_reads_and_writes_may_be_unknown(struct test *t)
{
    static const long numbers[] = { SYS_preadv2, SYS_pwritev2 };
    struct iovec parts[] = { { (char[]){ "ab" }, 2 }, { (char[]){ "cd" }, 2 } };
    ouro_op *op;
    char buf[8];
    int fd, fds[2];

    block_calls(numbers, 2, ENOSYS);
    open_loop(t);
    op = op_new(t);
    fd = make_file(t, "f", "0123456789", 10);
    make_pipe(t, fds);
    ouro_prep_writev(op, fd, parts, 2, 2, 0);
    CHECK_EQ(do_op(t, op), 4);
    ouro_prep_write(op, fd, "e", 1, 6);
    CHECK_EQ(do_op(t, op), 1);
    ouro_prep_read(op, fd, buf, 8, 0);
    CHECK_EQ(do_op(t, op), 8);
    CHECK(memcmp(buf, "01abcde7", 8) == 0);
    parts[0].iov_base = buf;
    parts[1].iov_base = buf + 2;
    ouro_prep_readv(op, fd, parts, 2, OURO_CUR, 0);
    CHECK_EQ(do_op(t, op), 4);
    CHECK(memcmp(buf, "01ab", 4) == 0);
    ouro_prep_readv(op, fd, parts, 2, OURO_CUR, 0);
    CHECK_EQ(do_op(t, op), 4);
    CHECK(memcmp(buf, "cde7", 4) == 0);

    ouro_prep_read(op, fds[0], buf, 8, 0);
    start(t, op);
    step(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(fds[1], "xy", 2), 2);
    CHECK_EQ(finish(t, op), 2);
    ouro_prep_writev(op, fds[1], parts, 2, 0, 0);
    CHECK_EQ(do_op(t, op), 4);
    ouro_prep_readv(op, fds[0], parts, 1, 0, 0);
    CHECK_EQ(do_op(t, op), 2);
    close(fds[0]);
    unmade(t, fds[0]);
    ouro_prep_write(op, fds[1], "z", 1, 0);
    CHECK_EQ(do_op(t, op), -EPIPE);
    close_loop(t);
}

static const struct test_case cases[] = {
    { NAMED(read_gives_what_pread_gives) },
    { NAMED(end_of_file_is_zero), .pitfalls = "K9" },
    { NAMED(write_then_read_gives_the_same) },
    { NAMED(many_reads_at_once_each_get_their_own) },
    { NAMED(current_position_is_used_and_moved), .pitfalls = "F7" },
    { NAMED(current_position_operations_run_in_order), .pitfalls = "F9" },
    { NAMED(append_ignores_the_offset), .pitfalls = "F8" },
    { NAMED(pipes_ignore_the_offset), .pitfalls = "F7" },
    { NAMED(vectors_read_and_write) },
    { NAMED(more_vectors_than_the_system_takes), .pitfalls = "S13 S11" },
    { NAMED(nowait_asks_for_eagain), .faults = "3", .pitfalls = "F6" },
    { NAMED(exact_goes_on_until_all_is_there), .faults = "1", .pitfalls = "S12" },
    { NAMED(exact_write_waits_for_the_reader) },
    { NAMED(exact_that_falls_short_says_why), .faults = "1" },
    { NAMED(a_cause_does_not_outlive_its_operation) },
    { NAMED(broken_pipe_is_epipe_without_signal), .pitfalls = "S14" },
    { NAMED(pipe_breaking_under_a_write_is_no_signal), .pitfalls = "S14" },
    { NAMED(bad_and_wrong_descriptors) },
    { NAMED(unmapped_buffers_are_efault), .faults = "28" },
    { NAMED(a_huge_read_is_cut_or_goes_on), .faults = "1", .pitfalls = "S12",
      .fixed = FIX_STYLE | FIX_FD, .heavy = true, .seconds = 30 },
    { NAMED(full_device_is_enospc), .faults = "4" },
    { NAMED(blocking_read_waits_whatever_the_mode), .pitfalls = "F5" },
    { NAMED(fdmode_honours_nonblock), .pitfalls = "F5 F6" },
    { NAMED(full_pipe_makes_a_write_wait), .pitfalls = "F5" },
    { NAMED(direct_files_read_and_write) },
    { NAMED(memory_files_read_and_write) },
    { NAMED(descriptors_are_reused_without_memory) },
    { NAMED(a_memory_file_that_became_a_pipe_is_read), .fixed = FIX_FD },
    { NAMED(terminals_read), .pitfalls = "F5" },
    { NAMED(bg_reads_the_same) },
    { NAMED(flags_of_reads_and_writes_may_be_unknown), .no_loop = true },
    { .name = NULL },
};
const struct subject subject_files = { "files", cases };

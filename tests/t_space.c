/* SPDX-License-Identifier: MIT */
/* t_space.c: room in files, durability, copying and splicing. */
#include <sys/mman.h>
#include <sys/stat.h>

#include "test.h"

#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 1
#endif
#ifndef SPLICE_F_NONBLOCK
#define SPLICE_F_NONBLOCK 2
#endif

static int64_t size_of(int fd)
{
    struct stat st;

    CHECK_EQ(fstat(fd, &st), 0);
    return st.st_size;
}

static void fallocate_does_what_fallocate_does(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "abc", 3), other = make_file(t, "g", "abc", 3);
    int64_t want = plain(fallocate(other, 0, 0, 8192));

    ouro_prep_fallocate(op, fd, 0, 0, 8192);
    CHECK_EQ(do_op(t, op), want);
    CHECK_EQ(size_of(fd), size_of(other));
    want = plain(fallocate(other, FALLOC_FL_KEEP_SIZE, 0, 65536));
    ouro_prep_fallocate(op, fd, FALLOC_FL_KEEP_SIZE, 0, 65536);
    CHECK_EQ(do_op(t, op), want);
    CHECK_EQ(size_of(fd), size_of(other));
    want = plain(fallocate(other, 0, 0, 0));
    ouro_prep_fallocate(op, fd, 0, 0, 0);
    CHECK_EQ(do_op(t, op), want);
    make_pipe(t, fds);
    want = plain(fallocate(fds[1], 0, 0, 10));
    ouro_prep_fallocate(op, fds[1], 0, 0, 10);
    CHECK_EQ(do_op(t, op), want);
}

static void ftruncate_cuts_and_extends(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", "abcdef", 6), reader;
    char buf[8] = "";

    ouro_prep_ftruncate(op, fd, 2);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(size_of(fd), 2);
    ouro_prep_ftruncate(op, fd, 5);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(pread(fd, buf, 8, 0), 5);
    CHECK(memcmp(buf, "ab\0\0\0", 5) == 0);
    reader = made(t, open(path_in(t, "f"), O_RDONLY | O_CLOEXEC));
    ouro_prep_ftruncate(op, reader, 1);
    CHECK_EQ(do_op(t, op), -EINVAL);
}

static void fadvise_answers_as_posix_fadvise(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "abcdef", 6);

    ouro_prep_fadvise(op, fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_fadvise(op, fd, 0, 0, POSIX_FADV_DONTNEED);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_fadvise(op, fd, 0, 0, 4711);
    CHECK_EQ(do_op(t, op), -EINVAL);
    make_pipe(t, fds);
    ouro_prep_fadvise(op, fds[0], 0, 0, POSIX_FADV_NORMAL);
    CHECK_EQ(do_op(t, op), -posix_fadvise(fds[0], 0, 0, POSIX_FADV_NORMAL));
}

static void syncs_answer_as_the_system(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "abcdef", 6);

    ouro_prep_fsync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_fdatasync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    make_pipe(t, fds);
    ouro_prep_fsync(op, fds[1]);
    CHECK_EQ(do_op(t, op), plain(fsync(fds[1])));
}

static void copy_moves_bytes_between_files(struct test *t)
{
    enum { SIZE = 100000 };
    static char data[SIZE], got[SIZE];
    ouro_op *op = op_new(t);
    int in, out = make_file(t, "out", NULL, 0);

    fill(data, SIZE, 7);
    in = make_file(t, "in", data, SIZE);
    ouro_prep_copy(op, in, 0, out, 0, SIZE);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), SIZE);
    CHECK_EQ(pread(out, got, SIZE, 0), SIZE);
    check_filled(got, SIZE, 7);
    ouro_prep_copy(op, in, SIZE, out, 0, 100);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_copy(op, in, SIZE - 10, out, SIZE, 100);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 10);
    CHECK_EQ(op->cause, 0);
    CHECK_EQ(size_of(out), SIZE + 10);
}

static void copy_uses_and_moves_positions(struct test *t)
{
    ouro_op *op = op_new(t);
    int in = make_file(t, "in", "0123456789", 10), out = make_file(t, "out", NULL, 0);
    char got[8] = "";

    CHECK_EQ(lseek(in, 3, SEEK_SET), 3);
    CHECK_EQ(lseek(out, 1, SEEK_SET), 1);
    ouro_prep_copy(op, in, OURO_CUR, out, OURO_CUR, 4);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 4);
    CHECK_EQ(lseek(in, 0, SEEK_CUR), 7);
    CHECK_EQ(lseek(out, 0, SEEK_CUR), 5);
    CHECK_EQ(pread(out, got, 8, 1), 4);
    CHECK(memcmp(got, "3456", 4) == 0);
}

static void copy_works_where_the_system_call_does_not(struct test *t)
{
    ouro_op *op = op_new(t);
    int memory = made(t, memfd_create("m", MFD_CLOEXEC)), out = make_file(t, "out", NULL, 0);
    int fds[2];
    char got[16] = "";

    CHECK_EQ(write(memory, "from memory", 11), 11);
    ouro_prep_copy(op, memory, 0, out, 0, 100); /* two file systems */
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), 11);
    CHECK_EQ(pread(out, got, 16, 0), 11);
    CHECK(memcmp(got, "from memory", 11) == 0);
    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "pipe", 4), 4);
    ouro_prep_copy(op, fds[0], OURO_CUR, out, 0, 4);
    CHECK_EQ(do_op(t, op), 4);
    CHECK_EQ(pread(out, got, 4, 0), 4);
    CHECK(memcmp(got, "pipe", 4) == 0);
}

static void splice_moves_between_pipe_and_file(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", "0123456789", 10);
    char got[16] = "";

    make_pipe(t, fds);
    ouro_prep_splice(op, fd, 2, fds[1], OURO_CUR, 5, 0);
    CHECK_EQ(do_op(t, op), 5);
    CHECK_EQ(read(fds[0], got, 16), 5);
    CHECK(memcmp(got, "23456", 5) == 0);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    ouro_prep_splice(op, fds[0], OURO_CUR, fd, 0, 100, 0);
    CHECK_EQ(do_op(t, op), 3);
    CHECK_EQ(pread(fd, got, 16, 0), 10);
    CHECK(memcmp(got, "abc3456789", 10) == 0);
    ouro_prep_splice(op, fd, 10, fds[1], OURO_CUR, 5, 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_splice(op, fd, 0, fd, 5, 5, 0);
    CHECK_EQ(do_op(t, op), -EINVAL);
}

static void splice_waits_for_readiness(struct test *t)
{
    ouro_op *op = op_new(t);
    int a[2], b[2];
    char got[8] = "";

    make_pipe(t, a);
    make_pipe(t, b);
    ouro_prep_splice(op, a[0], OURO_CUR, b[1], OURO_CUR, 8, 0);
    start(t, op);
    for (int i = 0; i < 3; i++)
        step(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(a[1], "late", 4), 4);
    CHECK_EQ(finish(t, op), 4);
    CHECK_EQ(read(b[0], got, 8), 4);
    ouro_prep_splice(op, a[0], OURO_CUR, b[1], OURO_CUR, 8, SPLICE_F_NONBLOCK);
    CHECK_EQ(do_op(t, op), -EAGAIN);
}

/* Blocked splices go where they cannot starve what is ready. */
static void blocked_splices_starve_nothing(struct test *t)
{
    enum { COUNT = 12 }; /* what the pipe behind them can take */
    ouro_op *ops[COUNT], *op = op_new(t), *stat_op = op_new(t);
    int a[COUNT][2], b[2], fd = make_file(t, "f", "abc", 3);
    struct ouro_stat st;
    char buf[4];

    make_pipe(t, b);
    for (int i = 0; i < COUNT; i++) {
        make_pipe(t, a[i]);
        ouro_prep_splice(ops[i] = op_new(t), a[i][0], OURO_CUR, b[1], OURO_CUR, 8, 0);
        start(t, ops[i]);
    }
    for (int i = 0; i < 20; i++) {
        ouro_prep_read(op, fd, buf, 3, 0);
        op->flags = OURO_BG;
        CHECK_EQ(do_op(t, op), 3);
        ouro_prep_stat(stat_op, fd, "", AT_EMPTY_PATH, &st);
        CHECK_EQ(do_op(t, stat_op), 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(write(a[i][1], "x", 1), 1);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(finish(t, ops[i]), 1);
}

static const struct test_case cases[] = {
    { NAMED(fallocate_does_what_fallocate_does) },
    { NAMED(ftruncate_cuts_and_extends) },
    { NAMED(fadvise_answers_as_posix_fadvise) },
    { NAMED(syncs_answer_as_the_system) },
    { NAMED(copy_moves_bytes_between_files) },
    { NAMED(copy_uses_and_moves_positions) },
    { NAMED(copy_works_where_the_system_call_does_not) },
    { NAMED(splice_moves_between_pipe_and_file) },
    { NAMED(splice_waits_for_readiness), .pitfalls = "F5" },
    { NAMED(blocked_splices_starve_nothing), .pitfalls = "R7" },
    { .name = NULL },
};
const struct subject subject_space = { "space", cases };

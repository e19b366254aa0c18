/* SPDX-License-Identifier: MIT */
/* t_register.c: registered buffers and the table of direct files: the same results on every
 * engine. */
#include <sys/resource.h>
#include <sys/uio.h>

#include "sys.h"
#include "test.h"

static void registered_buffers_read_and_write(struct test *t)
{
    enum { SIZE = 65536 };
    char *region = aligned_alloc(4096, SIZE);
    struct iovec iov = { region, SIZE };
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", NULL, 0);

    CHECK(region != NULL);
    fill(region, SIZE, 21);
    CHECK_EQ(ouro_register_buffers(t->loop, &iov, 1), 0);
    ouro_prep_write(op, fd, region + 100, 5000, 0);
    op->flags = OURO_REGBUF;
    CHECK_EQ(do_op(t, op), 5000);
    ouro_prep_read(op, fd, region + 20000, 5000, 0);
    op->flags = OURO_REGBUF;
    CHECK_EQ(do_op(t, op), 5000);
    CHECK(memcmp(region + 100, region + 20000, 5000) == 0);
    /* Outside of every region. */
    ouro_prep_read(op, fd, region + SIZE - 10, 20, 0);
    op->flags = OURO_REGBUF;
    CHECK(start_try(t, op) < 0);
    CHECK_EQ(ouro_register_buffers(t->loop, NULL, 0), 0);
    ouro_prep_read(op, fd, region, 10, 0);
    op->flags = OURO_REGBUF;
    CHECK(start_try(t, op) < 0);
    ouro_prep_read(op, fd, region, 10, 0);
    CHECK_EQ(do_op(t, op), 10);
    free(region);
}

static void regions_are_busy_while_used(struct test *t)
{
    static char region[4096];
    struct iovec iov = { region, sizeof region };
    ouro_op *op = op_new(t);
    int fds[2];

    make_pipe(t, fds);
    CHECK_EQ(ouro_register_buffers(t->loop, &iov, 1), 0);
    ouro_prep_read(op, fds[0], region, 10, 0);
    op->flags = OURO_REGBUF;
    start(t, op);
    step(t);
    CHECK_EQ(ouro_register_buffers(t->loop, NULL, 0), -EBUSY);
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    CHECK_EQ(finish(t, op), 3);
    CHECK(memcmp(region, "abc", 3) == 0);
    CHECK_EQ(ouro_register_buffers(t->loop, NULL, 0), 0);
}

/* Pinning is refused under this limit (to who is not privileged): plain memory then. */
static void buffers_without_memlock_are_plain(struct test *t)
{
    enum { SIZE = 1 << 20 };
    struct rlimit none = { 0, 0 };
    char *region = aligned_alloc(4096, SIZE);
    struct iovec iov = { region, SIZE };
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", "abcdef", 6);

    CHECK(region != NULL);
    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    CHECK_EQ(ouro_register_buffers(t->loop, &iov, 1), 0);
    ouro_prep_read(op, fd, region + 77777, 100, 0);
    op->flags = OURO_REGBUF;
    CHECK_EQ(do_op(t, op), 6);
    CHECK(memcmp(region + 77777, "abcdef", 6) == 0);
    CHECK_EQ(ouro_register_buffers(t->loop, NULL, 0), 0);
    free(region);
}

static void direct_slots_open_read_and_close(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    int fd, r;

    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, 8), 0);
    CHECK(ouro_direct_table(t->loop, 8) < 0);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDWR, 0, 3);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_read(op, 3, buf, 8, 1);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 5);
    CHECK(memcmp(buf, "bcdef", 5) == 0);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 3);
    CHECK_EQ(start_try(t, op), -EBUSY);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 8);
    CHECK_EQ(start_try(t, op), -EINVAL);
    fd = ouro_direct_install(t->loop, 3);
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(pread(fd, buf, 3, 0), 3);
    close(fd);
    ouro_prep_close(op, 3);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_read(op, 3, buf, 8, 1);
    op->flags = OURO_DIRECT;
    r = start_try(t, op); /* refused, or found to be empty */
    CHECK_EQ(r < 0 ? r : finish(t, op), -EBADF);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "none"), O_RDONLY, 0, 3);
    CHECK_EQ(do_op(t, op), -ENOENT);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 3);
    CHECK_EQ(do_op(t, op), 0);
}

static void a_chain_opens_reads_and_closes_a_slot(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };
    char buf[8];

    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, 2), 0);
    for (int i = 0; i < 20; i++) {
        ouro_prep_open_direct(ops[0], OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 1);
        ouro_prep_read(ops[1], 1, buf, 8, 0);
        ops[1]->flags = OURO_DIRECT;
        ouro_prep_close(ops[2], 1);
        ops[2]->flags = OURO_DIRECT;
        memset(buf, 0, 8);
        CHECK(start_chain(t, ops, 3) >= 0);
        CHECK_EQ(finish(t, ops[2]), 0);
        CHECK_EQ(finish(t, ops[0]), 0);
        CHECK_EQ(finish(t, ops[1]), 6);
        CHECK(memcmp(buf, "abcdef", 6) == 0);
    }
}

/* Not even the kernel's table of files holds it: the pipe has lost its last writer. */
static void a_closed_slot_lets_go_of_its_file(struct test *t)
{
    ouro_op *op = op_new(t);
    char link[32];

    CHECK_EQ(ouro_direct_table(t->loop, 4), 0);
    for (int i = 0; i < 20; i++) {
        int fds[2];
        char byte;

        CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fds[1]);
        ouro_prep_open_direct(op, OURO_HERE, link, O_WRONLY, 0, 2);
        CHECK_EQ(do_op(t, op), 0);
        close(fds[1]);
        ouro_prep_write(op, 2, "x", 1, 0);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 1);
        ouro_prep_close(op, 2);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 0);
        CHECK_EQ(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        CHECK_EQ(read(fds[0], &byte, 1), 1);
        CHECK_EQ(read(fds[0], &byte, 1), 0);
        close(fds[0]);
    }
}

static struct ouro__sys real;
static unsigned registrations;

static long count_register(int fd, unsigned opcode, const void *arg, unsigned count)
{
    registrations++;
    return real.io_uring_register(fd, opcode, arg, count);
}

/* The kernel takes no table that is larger than RLIMIT_NOFILE, and is not asked for it again. */
static void more_slots_than_descriptors_are_slots_all_the_same(struct test *t)
{
    struct rlimit few = { 256, 256 };
    ouro_op *op = op_new(t);
    char byte;

    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQ(ouro_direct_table(t->loop, 65536), 0);
    real = ouro__sys;
    ouro__sys.io_uring_register = count_register;
    for (unsigned i = 0; i < 20; i++) {
        ouro_prep_open_direct(op, OURO_HERE, "/dev/zero", O_RDONLY, 0, 60000 + i);
        CHECK_EQ(do_op(t, op), 0);
        ouro_prep_read(op, 60000 + i, &byte, 1, 0);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 1);
    }
    CHECK(registrations <= 8);
    close_loop(t);
    ouro__sys = real;
}

static void slots_left_open_are_closed_with_the_loop(struct test *t)
{
    ouro_op *op = op_new(t);

    CHECK_EQ(ouro_direct_table(t->loop, 16), 0);
    for (unsigned i = 0; i < 16; i++) {
        ouro_prep_open_direct(op, OURO_HERE, "/dev/null", O_RDONLY, 0, i);
        CHECK_EQ(do_op(t, op), 0);
    }
}

static const struct test_case cases[] = {
    { NAMED(registered_buffers_read_and_write), .pitfalls = "F14" },
    { NAMED(regions_are_busy_while_used) },
    { NAMED(buffers_without_memlock_are_plain), .pitfalls = "F14" },
    { NAMED(direct_slots_open_read_and_close), .fixed = FIX_FD, .pitfalls = "F11" },
    { NAMED(a_chain_opens_reads_and_closes_a_slot), .fixed = FIX_FD, .pitfalls = "F11 K11" },
    { NAMED(a_closed_slot_lets_go_of_its_file), .fixed = FIX_FD, .pitfalls = "R8" },
    { NAMED(more_slots_than_descriptors_are_slots_all_the_same), .fixed = FIX_FD },
    { NAMED(slots_left_open_are_closed_with_the_loop), .fixed = FIX_FD },
    { .name = NULL },
};
const struct subject subject_register = { "register", cases };

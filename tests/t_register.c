/* SPDX-License-Identifier: MIT */
/* t_register.c: registered buffers: the same results on every engine. */
#include <sys/resource.h>
#include <sys/uio.h>

#include "core.h"
#include "engine/uring_abi.h"
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

static struct ouro__sys real;
static unsigned pinnings, refusals;

static long watched_register(int fd, unsigned code, const void *arg, unsigned count)
{
    long r = real.io_uring_register(fd, code, arg, count);

    pinnings += code == RING_REGISTER_BUFFERS;
    refusals += code == RING_REGISTER_BUFFERS && r < 0;
    return r;
}

/* Pinning is refused under this limit (to who is not privileged): plain memory then. What is locked
 * is counted by user, hence one of the test's own. */
static void buffers_without_memlock_are_plain(struct test *t)
{
    enum { SIZE = 1 << 20 };
    struct rlimit none = { 0, 0 };
    char *region = aligned_alloc(4096, SIZE);
    struct iovec iov = { region, SIZE };
    ouro_op *op = op_new(t);
    int fd = make_file(t, "f", "abcdef", 6);
    ouro_counters before, after;

    CHECK(region != NULL);
    drop_privileges(20000 + (uid_t)getpid() % 40000);
    real = ouro__sys;
    ouro__sys.io_uring_register = watched_register;
    open_loop(t);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof(before)), 0);
    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    CHECK_EQ(ouro_register_buffers(t->loop, &iov, 1), 0);
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof(after)), 0);
    CHECK_EQ(after.fallback - before.fallback, 1);
    CHECK_EQ(pinnings, t->loop->caps & OURO_CAP_FIXED ? 1 : 0);
    CHECK_EQ(refusals, pinnings);
    ouro_prep_read(op, fd, region + 77777, 100, 0);
    op->flags = OURO_REGBUF;
    CHECK_EQ(do_op(t, op), 6);
    CHECK(memcmp(region + 77777, "abcdef", 6) == 0);
    CHECK_EQ(ouro_register_buffers(t->loop, NULL, 0), 0);
    close_loop(t);
    ouro__sys = real;
    free(region);
}

static const struct test_case cases[] = {
    { NAMED(registered_buffers_read_and_write) },
    { NAMED(regions_are_busy_while_used) },
    { NAMED(buffers_without_memlock_are_plain), .no_loop = true, .faults = "6", .pitfalls = "F14" },
    { .name = NULL },
};
const struct subject subject_register = { "register", cases };

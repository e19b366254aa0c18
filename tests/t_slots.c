/* SPDX-License-Identifier: MIT */
/* t_slots.c: the table of direct files: the same results on every engine, and with and without
 * descriptors behind the slots (OURO_CAP_SLOTS, which only io_uring has). */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "sys.h"
#include "test.h"

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

/* ---- Without descriptors ------------------------------------------------------------------- */

#define SLOTTED(name)                          \
    static void name##_slotted(struct test *t) \
    {                                          \
        open_loop_wanting(t, OURO_CAP_SLOTS);  \
        name(t);                               \
    }
SLOTTED(direct_slots_open_read_and_close)
SLOTTED(a_chain_opens_reads_and_closes_a_slot)
SLOTTED(a_closed_slot_lets_go_of_its_file)
SLOTTED(more_slots_than_descriptors_are_slots_all_the_same)
SLOTTED(slots_left_open_are_closed_with_the_loop)

static void open_slot(struct test *t, const char *path, int flags, unsigned slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_open_direct(op, OURO_HERE, path, flags, 0, slot);
    CHECK_EQ(do_op(t, op), 0);
}

static void close_slot(struct test *t, unsigned slot)
{
    ouro_op *op = op_new(t);

    ouro_prep_close(op, slot);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
}

/* What io_uring does by the slot's number needs none; a vector at the file's position does. */
static void a_descriptor_is_made_when_one_is_needed(struct test *t)
{
    ouro_op *op = op_new(t);
    char buf[8];
    struct iovec iov = { buf, sizeof(buf) };
    bool slots = open_loop_wanting(t, OURO_CAP_SLOTS);
    long before;
    int fd;

    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, 8), 0);
    open_slot(t, path_in(t, "f"), O_RDWR, 0); /* the table's proof changes descriptors */
    close_slot(t, 0);
    before = count_fds();
    for (unsigned i = 0; i < 8; i++)
        open_slot(t, path_in(t, "f"), O_RDWR, i);
    for (unsigned i = 0; i < 8; i++) {
        ouro_prep_read(op, i, buf, 4, 1);
        op->flags = OURO_DIRECT | OURO_EXACT;
        CHECK_EQ(do_op(t, op), 4);
        CHECK(memcmp(buf, "bcde", 4) == 0);
        ouro_prep_write(op, i, buf, 4, 1);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 4);
    }
    CHECK_EQ(count_fds() - before, slots ? 0 : 8);
    ouro_prep_readv(op, 5, &iov, 1, OURO_CUR, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 6);
    CHECK(memcmp(buf, "abcdef", 6) == 0);
    CHECK_EQ(do_op(t, op), 0); /* the position is the file's, whoever names it */
    fd = ouro_direct_install(t->loop, 4);
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
    CHECK_EQ(count_fds() - before, slots ? 1 : 8);
    ouro_prep_read(op, 5, buf, 3, 2);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 3);
    for (unsigned i = 0; i < 8; i++)
        close_slot(t, i);
    CHECK_EQ(count_fds(), before);
}

/* Reads and a close in one batch; and batches of opens and closes by turns, the short way. */
static void batches_of_slots(struct test *t)
{
    enum { SLOTS = 16, ROUNDS = 20 };
    ouro_op *ops[2 * SLOTS];
    char bufs[SLOTS][8];

    open_loop_wanting(t, OURO_CAP_SLOTS);
    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, SLOTS), 0);
    for (unsigned i = 0; i < 2 * SLOTS; i++)
        ops[i] = op_new(t);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < SLOTS; i++)
            ouro_prep_open_direct(ops[i], OURO_HERE, path_in(t, i == 7 ? "none" : "f"), O_RDONLY, 0,
                                  i);
        CHECK_EQ(start_n(t, ops, SLOTS), SLOTS);
        for (unsigned i = 0; i < SLOTS; i++)
            CHECK_EQ(finish(t, ops[i]), i == 7 ? -ENOENT : 0);
        open_slot(t, path_in(t, "f"), O_RDONLY, 7);
        memset(bufs, 0, sizeof(bufs));
        for (unsigned i = 0; i < SLOTS; i++) {
            ouro_prep_read(ops[i], i, bufs[i], 8, 0);
            ops[i]->flags = OURO_DIRECT;
        }
        CHECK_EQ(start_n(t, ops, SLOTS), SLOTS);
        for (unsigned i = 0; i < SLOTS; i++) {
            CHECK_EQ(finish(t, ops[i]), 6);
            CHECK(memcmp(bufs[i], "abcdef", 6) == 0);
            ouro_prep_close(ops[SLOTS + i], i);
            ops[SLOTS + i]->flags = OURO_DIRECT;
        }
        CHECK_EQ(start_n(t, ops + SLOTS, SLOTS), SLOTS);
        for (unsigned i = 0; i < SLOTS; i++)
            CHECK_EQ(finish(t, ops[SLOTS + i]), 0);
    }
}

/* A close ends what is in flight on its slot first. */
static void a_pipe_in_a_slot_is_waited_for(struct test *t)
{
    ouro_op *read = op_new(t), *close = op_new(t);
    char byte = 'k';
    int fd;

    open_loop_wanting(t, OURO_CAP_SLOTS);
    CHECK_EQ(mkfifo(path_in(t, "p"), 0600), 0);
    CHECK_EQ(ouro_direct_table(t->loop, 2), 0);
    open_slot(t, path_in(t, "p"), O_RDONLY, 1);
    fd = made(t, open(path_in(t, "p"), O_WRONLY | O_CLOEXEC));
    CHECK(fd >= 0);
    ouro_prep_read(read, 1, &byte, 1, 0);
    read->flags = OURO_DIRECT;
    start(t, read);
    let_pass(t);
    CHECK(!is_final(read));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(finish(t, read), 1);
    CHECK_EQ(byte, 'x');
    start(t, read);
    let_pass(t);
    ouro_prep_close(close, 1);
    close->flags = OURO_DIRECT;
    start(t, close);
    CHECK_EQ(finish(t, close), 0);
    finish_canceled(t, read);
    signal(SIGPIPE, SIG_IGN);
    CHECK_EQ(plain(write(fd, "x", 1)), -EPIPE);
}

/* An operation that needs a descriptor says that there is none left; the slot is none the worse. */
static void no_descriptor_is_left_for_a_slot(struct test *t)
{
    struct rlimit limit, none;
    ouro_op *op = op_new(t);
    char buf[8];
    struct iovec iov = { buf, sizeof(buf) };

    if (!open_loop_wanting(t, OURO_CAP_SLOTS))
        return; /* there is a descriptor already */
    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, 2), 0);
    open_slot(t, path_in(t, "f"), O_RDONLY, 1);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(ouro_direct_install(t->loop, 1), -EMFILE);
    ouro_prep_readv(op, 1, &iov, 1, 0, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), -EMFILE);
    ouro_prep_read(op, 1, buf, 8, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 6);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ouro_prep_readv(op, 1, &iov, 1, 0, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 6);
}

/* What only the ring had is gone with it, and says so; a slot that had a descriptor goes on. */
static void slots_are_lost_with_the_ring(struct test *t)
{
    ouro_op *op = op_new(t), *queued = op_new(t), *opening = op_new(t);
    char buf[8], more[8];
    int fd;

    t->config.engine = NULL;
    if (!open_loop_wanting(t, OURO_CAP_SLOTS))
        return;
    close(make_file(t, "f", "abcdef", 6));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(ouro_direct_table(t->loop, 4), 0);
    for (unsigned i = 0; i < 3; i++)
        open_slot(t, path_in(t, "f"), O_RDONLY, i);
    ouro_prep_fsync(op, 2);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
    block_io_uring(BLOCK_ALL, EPERM);
    ouro_prep_open_direct(opening, OURO_HERE, path_in(t, "f"), O_RDONLY, 0, 3);
    start(t, opening);
    ouro_prep_read(queued, 1, more, 8, 0);
    queued->flags = OURO_DIRECT;
    start(t, queued);
    CHECK_EQ(finish(t, queued), -EIO);
    CHECK(CFLAGS(queued) & OURO_C_LOST);
    CHECK_EQ(finish(t, opening), 0);
    ouro_prep_read(op, 3, buf, 8, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 6);
    ouro_prep_read(op, 0, buf, 8, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), -EIO);
    CHECK(CFLAGS(op) & OURO_C_LOST);
    CHECK_EQ(ouro_direct_install(t->loop, 0), -EIO);
    ouro_prep_read(op, 2, buf, 8, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 6);
    ouro_prep_close(op, 1);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), -EIO);
    open_slot(t, path_in(t, "f"), O_RDONLY, 1);
    CHECK_EQ(do_op(t, queued), 6);
    CHECK(memcmp(more, "abcdef", 6) == 0);
    fd = ouro_direct_install(t->loop, 1);
    CHECK(fd >= 0);
    close(fd);
}

#define SLOT(name)                                              \
    { NAMED(name), .fixed = FIX_FD, .pitfalls = "F11" },        \
    {                                                           \
        NAMED(name##_slotted), .fixed = FIX_FD, .no_loop = true \
    }
static const struct test_case cases[] = {
    SLOT(direct_slots_open_read_and_close),
    SLOT(a_chain_opens_reads_and_closes_a_slot),
    SLOT(a_closed_slot_lets_go_of_its_file),
    SLOT(more_slots_than_descriptors_are_slots_all_the_same),
    SLOT(slots_left_open_are_closed_with_the_loop),
    { NAMED(a_descriptor_is_made_when_one_is_needed), .fixed = FIX_FD | FIX_MASK, .no_loop = true },
    { NAMED(batches_of_slots), .fixed = FIX_FD, .no_loop = true },
    { NAMED(a_pipe_in_a_slot_is_waited_for), .fixed = FIX_FD, .no_loop = true },
    { NAMED(no_descriptor_is_left_for_a_slot), .fixed = FIX_FD | FIX_MASK, .no_loop = true },
    { NAMED(slots_are_lost_with_the_ring), .fixed = FIX_FD | FIX_MASK, .no_loop = true,
      .needs = NEED_URING },
    { .name = NULL },
};

const struct subject subject_slots = { "slots", cases };

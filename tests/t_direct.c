/* SPDX-License-Identifier: MIT */
/* t_direct.c: files that are open with O_DIRECT, which some engines serve in a way of their own:
 * the results are those of the plain calls all the same. */
#include <sys/uio.h>

#include "test.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef RWF_DSYNC
#define RWF_DSYNC 2
#endif

enum { BLOCK = 4096, BLOCKS = 64, SIZE = BLOCK * BLOCKS, READS_MOST = 400 };
static _Alignas(BLOCK) char data[SIZE], got[READS_MOST * BLOCK];

/* Each block is filled by its number. */
static int make_blocks(struct test *t, const char *name)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        fill(data + (size_t)i * BLOCK, BLOCK, i);
    memset(got, 0, sizeof got);
    return make_direct(t, name, data, SIZE);
}

static void prep_block(ouro_op *op, bool writes, int fd, uint32_t block)
{
    char *at = (writes ? data : got) + (size_t)block * BLOCK;

    if (writes)
        ouro_prep_write(op, fd, at, BLOCK, (int64_t)block * BLOCK);
    else
        ouro_prep_read(op, fd, at, BLOCK, (int64_t)(block % BLOCKS) * BLOCK);
}

static void check_block(uint32_t block, uint32_t seed)
{
    check_filled(got + (size_t)block * BLOCK, BLOCK, seed);
}

static void blocks_are_read_and_written(struct test *t)
{
    ouro_op *ops[BLOCKS];
    int fd = make_blocks(t, "f");

    for (uint32_t i = 0; i < BLOCKS; i++) {
        ouro_prep_nop(ops[i] = op_new(t));
        prep_block(ops[i], false, fd, i);
    }
    CHECK_EQ(start_n(t, ops, BLOCKS), BLOCKS);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        CHECK_EQ(finish(t, ops[i]), BLOCK);
        check_block(i, i);
        fill(data + (size_t)i * BLOCK, BLOCK, i + 1000);
        prep_block(ops[i], true, fd, i);
    }
    CHECK_EQ(start_n(t, ops, BLOCKS), BLOCKS);
    finish_all(t);
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK_EQ(RES(ops[i]), BLOCK);
    CHECK_EQ(pread(fd, got, SIZE, 0), SIZE);
    CHECK(memcmp(got, data, SIZE) == 0);
}

static void vectors_are_read_and_written(struct test *t)
{
    struct iovec out[BLOCKS], in[BLOCKS];
    ouro_op *op = op_new(t);
    int fd = make_blocks(t, "f");

    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t other = (i * 7 + 3) % BLOCKS; /* all of them, in another order */

        out[i] = (struct iovec){ data + (size_t)other * BLOCK, BLOCK };
        in[i] = (struct iovec){ got + (size_t)other * BLOCK, BLOCK };
    }
    ouro_prep_writev(op, fd, out, BLOCKS, 0, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), SIZE);
    ouro_prep_readv(op, fd, in, BLOCKS, 0, 0);
    CHECK_EQ(do_op(t, op), SIZE);
    CHECK(memcmp(got, data, SIZE) == 0);
    ouro_prep_writev(op, fd, out, 1, 0, RWF_DSYNC);
    CHECK_EQ(do_op(t, op), BLOCK);
    ouro_prep_readv(op, fd, in, 1, 0, 1 << 30); /* no such flag */
    CHECK_EQ(do_op(t, op), -EOPNOTSUPP);
    ouro_prep_readv(op, fd, in, 1, 0, RWF_NOWAIT);
    CHECK(do_op(t, op) == BLOCK || RES(op) == -EAGAIN || RES(op) == -EOPNOTSUPP);
}

/* More vectors than one call takes. */
static void many_vectors_go_on(struct test *t)
{
    enum { COUNT = 1500, PART = 512 };
    static struct iovec in[COUNT];
    static _Alignas(BLOCK) char large[COUNT * PART], want[COUNT * PART];
    ouro_op *op = op_new(t);
    ssize_t plain_result;
    int fd;

    fill(want, sizeof want, 5);
    fd = make_direct(t, "f", want, sizeof want);
    for (int i = 0; i < COUNT; i++)
        in[i] = (struct iovec){ large + i * PART, PART };
    plain_result = plain(preadv(fd, in, 1024, 0));
    ouro_prep_readv(op, fd, in, COUNT, 0, 0);
    op->flags = OURO_EXACT;
    do_op(t, op);
    if (plain_result < 0) { /* some devices want whole blocks */
        CHECK_EQ(RES(op), plain_result);
        return;
    }
    CHECK_EQ(RES(op), sizeof large);
    CHECK(memcmp(large, want, sizeof want) == 0);
}

static void ends_are_those_of_the_plain_calls(struct test *t)
{
    static const struct {
        size_t len;
        int64_t offset;
    } asked[] = { { SIZE, BLOCK },    { BLOCK, SIZE },      { 2 * BLOCK, SIZE - BLOCK },
                  { 0, 0 },           { BLOCK, 1ll << 60 }, { 100, 3 },
                  { BLOCK - 1, 0 },   { BLOCK, 1 },         { SIZE - BLOCK, SIZE - BLOCK },
                  { SIZE - 512, 512 } };
    ouro_op *op = op_new(t);
    int fd = make_blocks(t, "f");

    for (unsigned pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
            int64_t want = plain(pread(fd, data, asked[i].len, asked[i].offset));

            memset(got, 0, sizeof got);
            ouro_prep_read(op, fd, got, asked[i].len, asked[i].offset);
            CHECK_EQ(do_op(t, op), want);
            CHECK_EQ(op->cause, 0);
            CHECK(want <= 0 || memcmp(got, data, (size_t)want) == 0);
        }
        /* The second time the file ends within a block. */
        CHECK_EQ(ftruncate(fd, SIZE - 1000), 0);
    }
    ouro_prep_read(op, fd, got, SIZE, 0);
    op->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, op), SIZE - 1000);
}

static void a_growing_file_is_written_in_place(struct test *t)
{
    ouro_op *ops[BLOCKS];
    int fd = make_blocks(t, "f");

    CHECK_EQ(ftruncate(fd, 0), 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t block = BLOCKS - 1 - i; /* holes first */

        prep_block(ops[i] = op_new(t), true, fd, block);
        start(t, ops[i]);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK_EQ(finish(t, ops[i]), BLOCK);
    CHECK_EQ(pread(fd, got, SIZE, 0), SIZE);
    CHECK(memcmp(got, data, SIZE) == 0);
    CHECK_EQ(lseek(fd, 0, SEEK_END), SIZE);
}

static void the_position_moves_in_order(struct test *t)
{
    ouro_op *ops[BLOCKS];
    int fd = make_blocks(t, "f");

    for (uint32_t i = 0; i < BLOCKS; i++) {
        ouro_prep_read(ops[i] = op_new(t), fd, got + (size_t)i * BLOCK, BLOCK, OURO_CUR);
        start(t, ops[i]);
    }
    finish_all(t);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        CHECK_EQ(RES(ops[i]), BLOCK);
        check_block(i, i);
    }
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), SIZE);
    CHECK_EQ(lseek(fd, BLOCK, SEEK_SET), BLOCK);
    for (uint32_t i = 0; i < 8; i++) {
        ouro_prep_write(ops[i], fd, data + (size_t)i * BLOCK, BLOCK, OURO_CUR);
        start(t, ops[i]);
    }
    finish_all(t);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 9 * BLOCK);
    CHECK_EQ(pread(fd, got, 8 * BLOCK, BLOCK), 8 * BLOCK);
    for (uint32_t i = 0; i < 8; i++)
        check_block(i, i);
}

/* SERIAL in the order of submission; BARRIER behind all, and a sync may be one. */
static void order_holds(struct test *t)
{
    enum { COUNT = 24 };
    ouro_op *writes[COUNT], *sync = op_new(t), *read_op = op_new(t);
    int fd = make_blocks(t, "f");

    for (uint32_t i = 0; i < COUNT; i++) {
        fill(data + (size_t)i * BLOCK, BLOCK, i + 70);
        ouro_prep_write(writes[i] = op_new(t), fd, data + (size_t)i * BLOCK, BLOCK, 0);
        writes[i]->flags = OURO_SERIAL;
        start(t, writes[i]);
    }
    ouro_prep_fdatasync(sync, fd);
    sync->flags = OURO_BARRIER;
    start(t, sync);
    ouro_prep_read(read_op, fd, got, BLOCK, 0);
    read_op->flags = OURO_BARRIER;
    CHECK_EQ(do_op(t, read_op), BLOCK);
    check_block(0, COUNT - 1 + 70);
    finish_all(t);
    CHECK_EQ(RES(sync), 0);
    for (int i = 0; i + 1 < COUNT; i++)
        CHECK(RES(writes[i]) == BLOCK &&
              (t->style == STYLE_WAIT || ORDER(writes[i]) < ORDER(writes[i + 1])));
    CHECK(t->style == STYLE_WAIT ||
          (ORDER(writes[COUNT - 1]) < ORDER(sync) && ORDER(sync) < ORDER(read_op)));
}

static void a_chain_writes_syncs_and_reads(struct test *t)
{
    ouro_op *ops[4];
    int fd = make_blocks(t, "f");

    for (int i = 0; i < 4; i++)
        ops[i] = op_new(t);
    fill(data, BLOCK, 99);
    ouro_prep_write(ops[0], fd, data, BLOCK, SIZE);
    ouro_prep_fsync(ops[1], fd);
    ouro_prep_read(ops[2], fd, got, BLOCK, SIZE);
    ouro_prep_fsync(ops[3], fd);
    CHECK(start_chain(t, ops, 4) >= 0);
    finish_all(t);
    CHECK_EQ(RES(ops[0]), BLOCK);
    CHECK_EQ(RES(ops[1]), 0);
    CHECK_EQ(RES(ops[2]), BLOCK);
    CHECK_EQ(RES(ops[3]), 0);
    check_filled(got, BLOCK, 99);
}

static int64_t open_by_the_loop(struct test *t, const char *name, int flags)
{
    ouro_op *op = op_new(t);

    ouro_prep_open(op, OURO_HERE, path_in(t, name), flags, 0600);
    return do_op(t, op);
}

static void the_loop_opens_reads_and_closes(struct test *t)
{
    ouro_op *op = op_new(t);

    make_blocks(t, "f");
    for (uint32_t i = 0; i < 20; i++) {
        int64_t fd = open_by_the_loop(t, "f", O_RDWR | O_DIRECT);

        CHECK(fd >= 0);
        prep_block(op, false, (int)fd, i);
        CHECK_EQ(do_op(t, op), BLOCK);
        check_block(i, i);
        prep_block(op, true, (int)fd, i);
        CHECK_EQ(do_op(t, op), BLOCK);
        ouro_prep_fsync(op, (int)fd);
        CHECK_EQ(do_op(t, op), 0);
        ouro_prep_close(op, (int)fd);
        CHECK_EQ(do_op(t, op), 0);
        prep_block(op, false, (int)fd, i);
        CHECK_EQ(do_op(t, op), -EBADF);
    }
}

static void slots_and_regions_serve_it_too(struct test *t)
{
    struct iovec regions[2] = { { data, SIZE }, { got, SIZE } };
    ouro_op *op = op_new(t);

    make_blocks(t, "f");
    CHECK_EQ(ouro_direct_table(t->loop, 8), 0);
    CHECK_EQ(ouro_register_buffers(t->loop, regions, 2), 0);
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, "f"), O_RDWR | O_DIRECT, 0, 5);
    CHECK_EQ(do_op(t, op), 0);
    for (uint32_t i = 0; i < BLOCKS; i += 9) {
        prep_block(op, false, 5, i);
        op->flags = OURO_DIRECT | OURO_REGBUF;
        CHECK_EQ(do_op(t, op), BLOCK);
        check_block(i, i);
        prep_block(op, true, 5, i);
        op->flags = OURO_DIRECT | OURO_REGBUF;
        CHECK_EQ(do_op(t, op), BLOCK);
    }
    ouro_prep_fsync(op, 5);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_close(op, 5);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 0);
}

/* A cancel may come too late; whoever says that it did not left the buffer alone. */
static void cancels_and_deadlines_tell_the_truth(struct test *t)
{
    ouro_op *ops[BLOCKS];
    int fd = make_blocks(t, "f");

    for (unsigned round = 0; round < 10; round++) {
        memset(got, 0x5a, sizeof got);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (round == 0)
                ops[i] = op_new(t);
            prep_block(ops[i], false, fd, i);
            if (i % 3 == 1)
                ops[i]->deadline = ouro_now(t->loop) + i * 2000;
            start(t, ops[i]);
            if (i % 3 == 0 && t->mode == MODE_OWNED)
                ouro_cancel(t->loop, ops[i]);
            if (i % 16 == round)
                step(t);
        }
        ouro_cancel_all(t->loop);
        finish_all(t);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (RES(ops[i]) == BLOCK) {
                check_block(i, i);
                continue;
            }
            CHECK(RES(ops[i]) == -ECANCELED || RES(ops[i]) == -ETIMEDOUT);
            for (size_t k = 0; k < BLOCK; k++)
                CHECK_EQ(got[(size_t)i * BLOCK + k], 0x5a);
        }
    }
}

static void closing_the_file_waits_for_what_reads_it(struct test *t)
{
    ouro_op *ops[BLOCKS], *closing = op_new(t);

    make_blocks(t, "f");
    for (int round = 0; round < 5; round++) {
        int64_t fd = open_by_the_loop(t, "f", O_RDONLY | O_DIRECT);

        CHECK(fd >= 0);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (round == 0)
                ops[i] = op_new(t);
            prep_block(ops[i], false, (int)fd, i);
            start(t, ops[i]);
        }
        if (round & 1)
            step(t);
        ouro_prep_close(closing, (int)fd);
        CHECK_EQ(do_op(t, closing), 0);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            CHECK(ouro_done(ops[i]));
            finish(t, ops[i]);
            CHECK(RES(ops[i]) == BLOCK || RES(ops[i]) == -ECANCELED);
        }
        CHECK_EQ(fcntl((int)fd, F_GETFD), -1);
    }
}

static void a_pipe_of_direct_packets_is_a_pipe(struct test *t)
{
    ouro_op *op = op_new(t), *other = op_new(t);
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_DIRECT) != 0)
        FAIL("pipe2: %s", strerror(errno));
    made(t, fds[0]);
    made(t, fds[1]);
    ouro_prep_read(op, fds[0], got, BLOCK, 0);
    start(t, op);
    let_pass(t);
    CHECK(!is_final(op));
    CHECK_EQ(write(fds[1], "abc", 3), 3);
    CHECK_EQ(finish(t, op), 3);
    start(t, op);
    ouro_prep_read(other, fds[0], got, BLOCK, 0);
    other->deadline = in_ms(t, 20);
    CHECK_EQ(do_op(t, other), -ETIMEDOUT);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
}

static void the_loop_closes_with_reads_in_flight(struct test *t)
{
    ouro_op *ops[READS_MOST];
    int fd = make_blocks(t, "f");

    for (uint32_t i = 0; i < READS_MOST; i++) {
        record_of(ops[i] = op_new(t))->own_cb = true;
        prep_block(ops[i], false, fd, i);
        start(t, ops[i]);
    }
    step(t);
    close_loop(t);
    for (uint32_t i = 0; i < READS_MOST; i++) {
        if (RES(ops[i]) == BLOCK)
            check_block(i, i % BLOCKS);
        else
            CHECK_EQ(RES(ops[i]), -ECANCELED);
    }
}

static void a_missing_buffer_is_efault(struct test *t)
{
    struct iovec iov = { (void *)16, BLOCK };
    ouro_op *op = op_new(t);
    int fd = make_blocks(t, "f");

    ouro_prep_read(op, fd, iov.iov_base, BLOCK, 0);
    CHECK_EQ(do_op(t, op), -EFAULT);
    ouro_prep_readv(op, fd, &iov, 1, 0, 0);
    CHECK_EQ(do_op(t, op), -EFAULT);
    ouro_prep_read(op, 9999, got, BLOCK, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
    ouro_prep_fsync(op, 9999);
    CHECK_EQ(do_op(t, op), -EBADF);
}

static const struct test_case cases[] = {
    { NAMED(blocks_are_read_and_written) },
    { NAMED(vectors_are_read_and_written), .heavy = true },
    { NAMED(many_vectors_go_on), .heavy = true },
    { NAMED(ends_are_those_of_the_plain_calls), .heavy = true },
    { NAMED(a_growing_file_is_written_in_place), .heavy = true },
    { NAMED(the_position_moves_in_order), .heavy = true },
    { NAMED(order_holds) },
    { NAMED(a_chain_writes_syncs_and_reads) },
    { NAMED(the_loop_opens_reads_and_closes), .heavy = true },
    { NAMED(slots_and_regions_serve_it_too), .heavy = true },
    { NAMED(cancels_and_deadlines_tell_the_truth) },
    { NAMED(closing_the_file_waits_for_what_reads_it), .heavy = true },
    { NAMED(a_pipe_of_direct_packets_is_a_pipe), .heavy = true },
    { NAMED(the_loop_closes_with_reads_in_flight), .heavy = true },
    { NAMED(a_missing_buffer_is_efault), .heavy = true },
    { .name = NULL },
};
const struct subject subject_direct = { "direct", cases };

/* SPDX-License-Identifier: MIT */
/* t_order.c: SERIAL and BARRIER: which operations on a file wait for which. */
#include "test.h"

static void serial_reads_of_a_pipe_come_in_order(struct test *t)
{
    enum { COUNT = 100 };
    ouro_op *ops[COUNT];
    static char data[COUNT * 3], got[COUNT][3];
    int fds[2];

    fill(data, sizeof data, 11);
    make_pipe(t, fds);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], got[i], 3, 0);
        ops[i]->flags = OURO_SERIAL | OURO_EXACT;
        start(t, ops[i]);
    }
    for (size_t at = 0; at < sizeof data; at += 2) {
        CHECK_EQ(write(fds[1], data + at, 2), 2);
        if (at % 16 == 0)
            step(t);
    }
    finish_all(t);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(RES(ops[i]), 3);
        CHECK(memcmp(got[i], data + i * 3, 3) == 0);
        if (i && t->style != STYLE_WAIT)
            CHECK(ORDER(ops[i - 1]) < ORDER(ops[i]));
    }
}

static void serial_writes_of_a_pipe_come_in_order(struct test *t)
{
    enum { COUNT = 50, SIZE = 9000 };
    static char data[COUNT * SIZE], got[COUNT * SIZE];
    ouro_op *ops[COUNT], *r = op_new(t);
    int fds[2];

    fill(data, sizeof data, 12);
    make_pipe(t, fds);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_write(ops[i] = op_new(t), fds[1], data + (size_t)i * SIZE, SIZE, 0);
        ops[i]->flags = OURO_SERIAL | OURO_EXACT;
        start(t, ops[i]);
    }
    ouro_prep_read(r, fds[0], got, sizeof got, 0);
    r->flags = OURO_EXACT;
    CHECK_EQ(do_op(t, r), (int64_t)sizeof got);
    check_filled(got, sizeof got, 12);
    finish_all(t);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(RES(ops[i]), SIZE);
}

static void directions_do_not_wait_for_each_other(struct test *t)
{
    ouro_op *r = op_new(t), *w = op_new(t);
    char byte;
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_read(r, fds[0], &byte, 1, 0);
    r->flags = OURO_SERIAL;
    start(t, r);
    ouro_prep_write(w, fds[0], "x", 1, 0);
    w->flags = OURO_SERIAL;
    CHECK_EQ(do_op(t, w), 1);
    CHECK(!is_final(r));
    CHECK_EQ(write(fds[1], "y", 1), 1);
    CHECK_EQ(finish(t, r), 1);
}

/* What waits for its turn, or for input, reads the file that it was submitted for. */
static void who_waits_in_order_reads_no_other_file(struct test *t)
{
    ouro_op *ops[2];
    char bytes[2] = "";
    int fds[2], other = make_file(t, "other", "other", 5);

    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    for (int i = 0; i < 2; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, 0);
        ops[i]->flags = OURO_SERIAL;
        start(t, ops[i]);
    }
    for (int i = 0; i < 3; i++)
        step(t);
    let_rest(t);
    CHECK_EQ(dup3(other, fds[0], O_CLOEXEC), fds[0]);
    let_rest(t);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    finish_all(t);
    for (int i = 0; i < 2; i++) {
        CHECK(RES(ops[i]) < 0);
        CHECK_EQ(bytes[i], 0);
    }
    close(fds[0]);
    close(fds[1]);
}

static void who_waits_in_order_minds_no_flags(struct test *t)
{
    ouro_op *ops[2];
    char bytes[2] = "";
    int fds[2], flags;

    make_pipe(t, fds);
    for (int i = 0; i < 2; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[0], &bytes[i], 1, 0);
        ops[i]->flags = OURO_SERIAL;
        start(t, ops[i]);
    }
    step(t);
    flags = fcntl(fds[0], F_GETFL);
    CHECK_EQ(fcntl(fds[0], F_SETFL, flags ^ O_NONBLOCK), 0);
    CHECK_EQ(write(fds[1], "ab", 2), 2);
    finish_all(t);
    CHECK_EQ(fcntl(fds[0], F_SETFL, flags), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(RES(ops[i]), 1);
        CHECK_EQ(bytes[i], "ab"[i]);
    }
}

static void files_do_not_wait_for_each_other(struct test *t)
{
    ouro_op *first = op_new(t), *second = op_new(t);
    char bytes[2];
    int a[2], b[2];

    make_pipe(t, a);
    make_pipe(t, b);
    CHECK_EQ(write(b[1], "b", 1), 1);
    ouro_prep_read(first, a[0], &bytes[0], 1, 0);
    ouro_prep_read(second, b[0], &bytes[1], 1, 0);
    first->flags = second->flags = OURO_SERIAL;
    start(t, first);
    CHECK_EQ(do_op(t, second), 1);
    CHECK(!is_final(first));
    CHECK_EQ(write(a[1], "a", 1), 1);
    CHECK_EQ(finish(t, first), 1);
}

static void a_barrier_waits_for_all_before_it(struct test *t)
{
    enum { COUNT = 40, SIZE = 20000 };
    static char data[COUNT * SIZE], got[COUNT * SIZE];
    ouro_op *ops[COUNT], *sync = op_new(t), *r = op_new(t);
    int fd = make_file(t, "f", NULL, 0);

    fill(data, sizeof data, 13);
    for (int round = 0; round < 5; round++) {
        CHECK_EQ(ftruncate(fd, 0), 0);
        for (int i = 0; i < COUNT; i++) {
            if (!round)
                ops[i] = op_new(t);
            ouro_prep_write(ops[i], fd, data + (size_t)i * SIZE, SIZE, (int64_t)i * SIZE);
            ops[i]->flags = OURO_EXACT;
            start(t, ops[i]);
        }
        ouro_prep_fsync(sync, fd);
        sync->flags = OURO_BARRIER;
        start(t, sync);
        ouro_prep_read(r, fd, got, sizeof got, 0);
        r->flags = OURO_BARRIER | OURO_EXACT;
        CHECK_EQ(do_op(t, r), (int64_t)sizeof got);
        check_filled(got, sizeof got, 13);
        CHECK_EQ(finish(t, sync), 0);
        finish_all(t);
        if (t->style != STYLE_WAIT)
            for (int i = 0; i < COUNT; i++)
                CHECK(ORDER(ops[i]) < ORDER(sync) && ORDER(sync) < ORDER(r));
    }
}

static void a_barrier_holds_nothing_after_it(struct test *t)
{
    ouro_op *first = op_new(t), *barrier = op_new(t), *after = op_new(t);
    char bytes[3];
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_read(first, fds[0], &bytes[0], 1, 0);
    ouro_prep_write(barrier, fds[0], "b", 1, 0);
    barrier->flags = OURO_BARRIER;
    ouro_prep_write(after, fds[0], "a", 1, 0);
    start(t, first);
    start(t, barrier);
    CHECK_EQ(do_op(t, after), 1);
    CHECK(!is_final(barrier) && !is_final(first));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, first), 1);
    CHECK_EQ(finish(t, barrier), 1);
}

static void a_barrier_starts_when_the_one_before_is_cancelled(struct test *t)
{
    ouro_op *first = op_new(t), *barrier = op_new(t);
    char byte;
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_read(first, fds[0], &byte, 1, 0);
    ouro_prep_write(barrier, fds[0], "b", 1, 0);
    barrier->flags = OURO_BARRIER;
    start(t, first);
    start(t, barrier);
    step(t);
    CHECK(!is_final(barrier));
    CHECK_EQ(ouro_cancel(t->loop, first), 0);
    CHECK_EQ(finish(t, first), -ECANCELED);
    CHECK_EQ(finish(t, barrier), 1);
}

/* "m" is written before the barrier's "b", and "l" behind it. */
static void check_passes(struct test *t, ouro_op *member, ouro_op *barrier, int fd)
{
    ouro_op *last = op_new(t);
    char got[3];

    ouro_prep_write(last, fd, "l", 1, OURO_CUR);
    start(t, last);
    CHECK_EQ(finish(t, last), 1);
    finish_all(t);
    CHECK(RES(member) == 1 && RES(barrier) == 1);
    CHECK_EQ(pread(fd, got, sizeof(got), 0), sizeof(got));
    CHECK(memcmp(got, "mbl", sizeof(got)) == 0);
}

/* A barrier waits for members of chains that have not begun: they must not wait behind it. */
static void a_barrier_lets_pass_whom_it_waits_for(struct test *t)
{
    ouro_op *timer = op_new(t), *member = op_new(t), *barrier = op_new(t);
    ouro_op *const chain[] = { timer, member };
    int fd = make_file(t, "f", NULL, 0);

    ouro_prep_timer(timer, in_ms(t, 20));
    ouro_prep_write(member, fd, "m", 1, OURO_CUR);
    CHECK(start_chain(t, chain, 2) >= 0);
    ouro_prep_write(barrier, fd, "b", 1, OURO_CUR);
    barrier->flags = OURO_BARRIER;
    start(t, barrier);
    check_passes(t, member, barrier, fd);
}

/* The same where what it waits for is behind an operation on its other file, of the same chain. */
static void a_claim_lets_pass_whom_its_barrier_waits_for(struct test *t)
{
    ouro_op *timer = op_new(t), *there = op_new(t), *here = op_new(t);
    ouro_op *barrier = op_new(t), *const chain[] = { timer, there, here };
    int from = make_file(t, "from", "b", 1), to = make_file(t, "to", NULL, 0);

    ouro_prep_timer(timer, in_ms(t, 20));
    ouro_prep_write(there, to, "m", 1, OURO_CUR);
    ouro_prep_fsync(here, from);
    CHECK(start_chain(t, chain, 3) >= 0);
    ouro_prep_copy(barrier, from, 0, to, OURO_CUR, 1);
    barrier->flags = OURO_BARRIER;
    start(t, barrier);
    check_passes(t, there, barrier, to);
    CHECK_EQ(RES(here), 0);
}

static void held_operations_have_deadlines(struct test *t)
{
    ouro_op *first = op_new(t), *held = op_new(t);
    char bytes[2];
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(first, fds[0], &bytes[0], 1, 0);
    ouro_prep_read(held, fds[0], &bytes[1], 1, 0);
    first->flags = held->flags = OURO_SERIAL;
    held->deadline = in_ms(t, 3);
    start(t, first);
    start(t, held);
    CHECK_EQ(finish(t, held), -ETIMEDOUT);
    CHECK(!is_final(first));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, first), 1);
}

/* ---- The same as one after the other --------------------------------------------------------- */

enum { FILES = 3, MOVES = 24, MOST = 8, LONG = 64 };

/* One of a read, a write and a copy at the current positions. */
struct move {
    unsigned what, from, to, size;
    bool barrier;
    char bytes[MOST], got[MOST], same[MOST];
    int64_t res;
};

static unsigned draw(uint32_t *seed, unsigned below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

static void make_moves(struct move *moves, uint32_t seed)
{
    memset(moves, 0, MOVES * sizeof(*moves));
    for (unsigned i = 0; i < MOVES; i++) {
        struct move *m = &moves[i];

        m->what = draw(&seed, 3);
        m->from = draw(&seed, FILES);
        m->to = (m->from + 1 + draw(&seed, FILES - 1)) % FILES;
        m->size = 1 + draw(&seed, MOST);
        m->barrier = draw(&seed, 6) == 0;
        memset(m->bytes, 'A' + (int)i, sizeof(m->bytes));
    }
}

static void do_moves(struct move *moves, const int *fds)
{
    for (struct move *m = moves; m < moves + MOVES; m++) {
        switch (m->what) {
        case 0: m->res = read(fds[m->from], m->same, m->size); break;
        case 1: m->res = write(fds[m->from], m->bytes, m->size); break;
        default: m->res = copy_file_range(fds[m->from], NULL, fds[m->to], NULL, m->size, 0); break;
        }
    }
}

static void start_moves(struct test *t, struct move *moves, ouro_op **ops, const int *fds)
{
    for (unsigned i = 0; i < MOVES; i++) {
        struct move *m = &moves[i];

        switch (m->what) {
        case 0: ouro_prep_read(ops[i], fds[m->from], m->got, m->size, OURO_CUR); break;
        case 1: ouro_prep_write(ops[i], fds[m->from], m->bytes, m->size, OURO_CUR); break;
        default:
            ouro_prep_copy(ops[i], fds[m->from], OURO_CUR, fds[m->to], OURO_CUR, m->size);
            break;
        }
        ops[i]->flags = m->barrier ? OURO_BARRIER : 0;
    }
    CHECK_EQ(start_n(t, ops, MOVES), MOVES);
}

static void rewind_files(const int *fds)
{
    for (int i = 0; i < FILES; i++) {
        char bytes[LONG];

        memset(bytes, 'a' + i, sizeof(bytes));
        CHECK_EQ(ftruncate(fds[i], 0), 0);
        CHECK_EQ(pwrite(fds[i], bytes, LONG, 0), LONG);
        CHECK_EQ(lseek(fds[i], 0, SEEK_SET), 0);
    }
}

static void positions_move_in_the_order_of_submission(struct test *t)
{
    static struct move moves[MOVES];
    ouro_op *ops[MOVES];
    int fds[FILES], same[FILES];

    for (int i = 0; i < FILES; i++) {
        char names[2][8] = { { 'f', (char)('0' + i) }, { 's', (char)('0' + i) } };

        fds[i] = make_file(t, names[0], NULL, 0);
        same[FILES - 1 - i] = make_file(t, names[1], NULL, 0);
    }
    for (int i = 0; i < MOVES; i++)
        ops[i] = op_new(t);
    for (uint32_t round = 0; round < 30; round++) {
        make_moves(moves, round);
        rewind_files(fds);
        rewind_files(same);
        do_moves(moves, same);
        start_moves(t, moves, ops, fds);
        finish_all(t);
        for (int i = 0; i < MOVES; i++) {
            CHECK_EQ(RES(ops[i]), moves[i].res);
            CHECK(moves[i].what || memcmp(moves[i].got, moves[i].same, MOST) == 0);
        }
        for (int i = 0; i < FILES; i++) {
            char a[512] = "", b[512] = "";

            CHECK_EQ(pread(fds[i], a, sizeof(a), 0), pread(same[i], b, sizeof(b), 0));
            CHECK(memcmp(a, b, sizeof(a)) == 0);
            CHECK_EQ(lseek(fds[i], 0, SEEK_CUR), lseek(same[i], 0, SEEK_CUR));
        }
    }
}

static void current_position_on_streams_orders_nothing(struct test *t)
{
    ouro_op *r = op_new(t), *w = op_new(t);
    char byte;
    int fds[2];

    make_socketpair(t, fds);
    ouro_prep_read(r, fds[0], &byte, 1, OURO_CUR);
    start(t, r);
    step(t);
    ouro_prep_write(w, fds[0], "x", 1, OURO_CUR);
    CHECK_EQ(do_op(t, w), 1);
    CHECK(!is_final(r));
    CHECK_EQ(write(fds[1], "y", 1), 1);
    CHECK_EQ(finish(t, r), 1);
}

static void readdirs_run_one_after_the_other(struct test *t)
{
    ouro_op *a = op_new(t), *b = op_new(t);
    char *buf = aligned_alloc(8, 8192);
    int dir = made(t, open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

    CHECK(buf != NULL);
    ouro_prep_readdir(a, dir, buf, 4096);
    ouro_prep_readdir(b, dir, buf + 4096, 4096);
    start(t, a);
    start(t, b);
    CHECK(finish(t, a) > 0);
    CHECK_EQ(finish(t, b), 0);
    free(buf);
}

static const struct test_case cases[] = {
    { NAMED(serial_reads_of_a_pipe_come_in_order) },
    { NAMED(serial_writes_of_a_pipe_come_in_order) },
    { NAMED(directions_do_not_wait_for_each_other) },
    { NAMED(who_waits_in_order_reads_no_other_file) },
    { NAMED(who_waits_in_order_minds_no_flags) },
    { NAMED(files_do_not_wait_for_each_other) },
    { NAMED(a_barrier_waits_for_all_before_it) },
    { NAMED(a_barrier_holds_nothing_after_it) },
    { NAMED(a_barrier_starts_when_the_one_before_is_cancelled) },
    { NAMED(a_barrier_lets_pass_whom_it_waits_for) },
    { NAMED(a_claim_lets_pass_whom_its_barrier_waits_for) },
    { NAMED(held_operations_have_deadlines) },
    { NAMED(positions_move_in_the_order_of_submission) },
    { NAMED(current_position_on_streams_orders_nothing), .pitfalls = "F7 F9" },
    { NAMED(readdirs_run_one_after_the_other), .fixed = FIX_FD, .pitfalls = "F9" },
    { .name = NULL },
};
const struct subject subject_order = { "order", cases };

/* SPDX-License-Identifier: MIT */
/* t_entries.c: what is written into a ring's entries, and completions that a kernel seldom makes.
 * Between the two stands a doctor, who sees each enter: for one operation he makes the kernel do
 * nothing and reports something else, or changes what it reports. */
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "core.h"
#include "engine/uring.h"
#include "sys.h"
#include "test.h"

#define TIMES 3

static struct ouro__sys real;
static struct {
    struct ring *ring;
    uint32_t at; /* completions before it were looked at */
    ouro_id id;  /* of the patient; 0: none */
    int32_t res; /* what is reported of it, */
    unsigned left, changed;
    bool works; /* after it was done all the same */
} doctor;

static void doctor_entries(struct ring *ring)
{
    for (unsigned i = 0, count = ring_sq_pending(ring); i < count; i++) {
        struct ring_sqe *sqe = ring_sq_peek(ring, i);

        if (doctor.id && doctor.left && !doctor.works && sqe->user_data == doctor.id)
            *sqe = (struct ring_sqe){ .opcode = RING_OP_NOP, .user_data = doctor.id };
    }
}

static void doctor_results(struct ring *ring)
{
    for (; doctor.at != ring_cq_tail(ring); doctor.at++) {
        struct ring_cqe *cqe = &ring->cqes[doctor.at & ring->cq_mask];

        if (doctor.id && doctor.left && cqe->user_data == doctor.id) {
            cqe->res = doctor.res;
            doctor.left--;
            doctor.changed++;
        }
    }
}

static long doctored_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                           size_t size)
{
    long r;

    doctor_entries(doctor.ring);
    r = real.io_uring_enter(fd, submit, min, flags, arg, size);
    doctor_results(doctor.ring);
    return r;
}

static struct ring *ring_of(struct test *t)
{
    struct uring *u = t->loop->engine_state;

    return &u->ring;
}

static void call_doctor(struct test *t)
{
    real = ouro__sys;
    doctor.ring = ring_of(t);
    doctor.at = ring_cq_tail(doctor.ring);
    ouro__sys.io_uring_enter = doctored_enter;
}

/* From now on so many completions of op are said to be res. */
static void treat(ouro_op *op, unsigned times, int32_t res, bool works)
{
    doctor.id = ouro_op_id(op);
    doctor.left = times;
    doctor.res = res;
    doctor.works = works;
    doctor.changed = 0;
}

/* ---- Interrupted requests ------------------------------------------------------------------- */

/* What a request that a worker of the kernel runs may end with when it is disturbed: EINTR, and
 * what the kernel uses inside for "once more". */
static const int32_t interruptions[] = { -EINTR, -512, -513, -514, -516 };
#define INTERRUPTIONS (sizeof interruptions / sizeof *interruptions)

static int64_t do_disturbed(struct test *t, ouro_op *op, int32_t res)
{
    int64_t r;

    start(t, op);
    treat(op, TIMES, res, false);
    r = finish(t, op);
    CHECK_EQ(doctor.changed, TIMES);
    CHECK_EQ(CFLAGS(op) & (OURO_C_CANCELED | OURO_C_LOST), 0);
    return r;
}

static void interrupted_requests_are_made_again(struct test *t)
{
    ouro_op *op = op_new(t);
    ouro_counters before, after;
    char bytes[8];
    int fds[2], fd;

    t->config.mask |= OURO_CAP_CACHED | OURO_CAP_NOWAIT; /* nothing is tried on the spot */
    open_loop(t);
    call_doctor(t);
    fd = make_file(t, "f", "abc", 3);
    make_socketpair(t, fds);
    CHECK_EQ(ouro_get_counters(t->loop, &before, sizeof(before)), 0);
    for (size_t i = 0; i < INTERRUPTIONS; i++) {
        ouro_prep_read(op, fd, bytes, 8, 0);
        CHECK_EQ(do_disturbed(t, op, interruptions[i]), 3);
        ouro_prep_write(op, fd, "xyz", 3, 0);
        CHECK_EQ(do_disturbed(t, op, interruptions[i]), 3);
        ouro_prep_fsync(op, fd);
        CHECK_EQ(do_disturbed(t, op, interruptions[i]), 0);
        CHECK_EQ(write(fds[1], "q", 1), 1);
        ouro_prep_recv(op, fds[0], bytes, 8, 0);
        CHECK_EQ(do_disturbed(t, op, interruptions[i]), 1);
        ouro_prep_poll(op, fds[1], POLLOUT);
        CHECK_EQ(do_disturbed(t, op, interruptions[i]), POLLOUT);
    }
    CHECK_EQ(ouro_get_counters(t->loop, &after, sizeof(after)), 0);
    CHECK_EQ(after.retried - before.retried, INTERRUPTIONS * 5 * TIMES);
    close_loop(t);
    ouro__sys = real;
}

/* Who has asked for the end is told of that, whatever word the kernel has for it. */
static void an_interruption_that_was_asked_for_is_a_cancel(struct test *t)
{
    ouro_op *op = op_new(t);
    char byte;
    int fds[2];

    open_loop(t);
    call_doctor(t);
    make_pipe(t, fds);
    for (size_t i = 0; i < 2 * INTERRUPTIONS; i++) {
        bool late = i % 2;

        ouro_prep_read(op, fds[0], &byte, 1, 0);
        op->deadline = late ? in_ms(t, 20) : 0;
        start(t, op);
        step(t);
        treat(op, 1, interruptions[i / 2], true);
        if (!late)
            CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        CHECK_EQ(finish(t, op), late ? -ETIMEDOUT : -ECANCELED);
        CHECK_EQ(doctor.changed, 1);
        CHECK(CFLAGS(op) & (late ? OURO_C_TIMEDOUT : OURO_C_CANCELED));
    }
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    CHECK_EQ(do_op(t, op), 1); /* nobody has taken it */
    close_loop(t);
    ouro__sys = real;
}

/* A second try would hit whoever has the number by then. */
static void an_interrupted_close_has_closed(struct test *t)
{
    ouro_op *op = op_new(t);

    open_loop(t);
    call_doctor(t);
    for (size_t i = 0; i < INTERRUPTIONS; i++) {
        int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

        CHECK(fd >= 0);
        ouro_prep_close(op, fd);
        start(t, op);
        treat(op, TIMES, interruptions[i], true);
        CHECK_EQ(finish(t, op), 0);
        CHECK_EQ(doctor.changed, 1);
        CHECK_EQ(plain(fcntl(fd, F_GETFD)), -EBADF);
    }
    close_loop(t);
    ouro__sys = real;
}

/* ---- Completions of the past ---------------------------------------------------------------- */

/* The kernel is made to complete something under that id, of which the loop knows nothing. */
static void complete_stranger(struct test *t, ouro_id id)
{
    struct uring *u = t->loop->engine_state;
    struct ring_sqe *sqe = ring_sqe(&u->ring);

    CHECK(sqe != NULL);
    sqe->opcode = RING_OP_NOP;
    sqe->user_data = id;
    u->running++;
}

static uint64_t stale(struct test *t)
{
    ouro_counters c;

    CHECK_EQ(ouro_get_counters(t->loop, &c, sizeof(c)), 0);
    return c.stale;
}

static void completions_of_the_past_are_dropped_and_counted(struct test *t)
{
    enum { NOPS = 9 };
    const ouro_id generation = (ouro_id)1 << OURO__SLOT_BITS;
    ouro_op *op = op_new(t), *nops[NOPS];
    ouro_id id;
    char byte;
    int fds[2];

    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    id = ouro_op_id(op);
    complete_stranger(t, id - generation);     /* the slot's tenant before, ... */
    complete_stranger(t, id + generation);     /* ... and the next */
    complete_stranger(t, id + 1);              /* a slot that is free, ... */
    complete_stranger(t, id + generation / 2); /* ... and one that there never was */
    complete_stranger(t, 0);
    step(t);
    let_rest(t);
    CHECK_EQ(stale(t), 5);
    CHECK(!is_final(op));
    for (int i = 0; i < NOPS; i++) { /* whose completions are looked at together */
        ouro_prep_nop(nops[i] = op_new(t));
        start(t, nops[i]);
        complete_stranger(t, ouro_op_id(nops[i]) - generation);
    }
    for (int i = 0; i < NOPS; i++)
        CHECK_EQ(finish(t, nops[i]), 0);
    let_rest(t);
    CHECK_EQ(stale(t), 5 + NOPS);
    CHECK(!is_final(op));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
}

/* ---- What is asked of the ring -------------------------------------------------------------- */

static struct {
    _Atomic unsigned registered; /* times that a descriptor was, ... */
    _Atomic unsigned by_number;  /* ... and entered by the number that it got then */
    struct ring *ring;           /* whose entries are looked at, if any are */
    _Atomic unsigned writes, async;
} seen;

static long watched_register(int fd, unsigned code, const void *arg, unsigned count)
{
    seen.registered += code == RING_REGISTER_RING_FDS;
    return real.io_uring_register(fd, code, arg, count);
}

static void look_at(const struct ring_sqe *sqe)
{
    switch (sqe->opcode) {
    case RING_OP_WRITE:
    case RING_OP_WRITEV:
    case RING_OP_WRITE_FIXED:
        seen.writes++;
        seen.async += !!(sqe->flags & RING_SQE_ASYNC);
        break;
    default: break;
    }
}

static long watched_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                          size_t size)
{
    seen.by_number += !!(flags & RING_ENTER_REGISTERED_RING);
    for (unsigned i = 0; seen.ring && i < submit && i < ring_sq_pending(seen.ring); i++)
        look_at(ring_sq_peek(seen.ring, i));
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static void watch(void)
{
    real = ouro__sys;
    ouro__sys.io_uring_register = watched_register;
    ouro__sys.io_uring_enter = watched_enter;
}

static void do_nop(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
}

/* Its number is good on the thread that has registered it, and nowhere else. */
static void only_owned_rings_are_entered_by_number(struct test *t)
{
    bool can, has;

    watch();
    has = open_loop_wanting(t, OURO_CAP_RING_FD);
    can = t->mode == MODE_OWNED && !(t->config.mask & OURO_CAP_RING_FD) &&
          ring_of(t)->features & RING_FEAT_CQE_SKIP;
    CHECK_EQ(has, can);
    do_nop(t);
    CHECK_EQ(seen.registered, can);
    CHECK_EQ(seen.by_number > 0, can);
    close_loop(t);
    t->config.want = 0; /* nor are those of who does not ask for it */
    seen.registered = seen.by_number = 0;
    open_loop(t);
    do_nop(t);
    CHECK_EQ(seen.registered + seen.by_number, 0);
    close_loop(t);
    ouro__sys = real;
}

/* Without a limit there is one for each request that blocks, thousands if need be. */
static void the_kernels_workers_are_limited(struct test *t)
{
    uint32_t limits[2];

    watch();
    for (unsigned i = 0; i < 2; i++) {
        t->config.max_workers = i ? 3 : 0;
        t->config.max_blocking = i ? 5 : 0;
        open_loop(t);
        do_nop(t);
        memset(limits, 0, sizeof(limits)); /* changes none, and gets them */
        CHECK_EQ(real.io_uring_register(ring_of(t)->fd, RING_REGISTER_IOWQ_MAX_WORKERS, limits, 2),
                 0);
        CHECK_EQ(limits[RING_IOWQ_UNBOUND], i ? 5 : 64);
        CHECK(!i || limits[RING_IOWQ_BOUND] == 3);
        close_loop(t);
    }
    ouro__sys = real;
}

/* There they would wait for each other, one thread for each: what goes into the cache is copied
 * while it is submitted. */
static void writes_are_not_sent_to_the_kernels_workers(struct test *t)
{
    enum { WRITES = 32, SIZE = 8192 };
    static char data[SIZE], got[SIZE];
    struct iovec parts[2] = { { data, 5000 }, { data + 5000, SIZE - 5000 } };
    struct iovec region = { data, SIZE };
    ouro_op *ops[WRITES];
    int fd;

    open_loop(t);
    watch();
    seen.ring = ring_of(t);
    fill(data, SIZE, 41);
    fd = make_file(t, "f", NULL, 0);
    CHECK_EQ(ouro_register_buffers(t->loop, &region, 1), 0);
    for (unsigned i = 0; i < WRITES; i++) {
        ops[i] = op_new(t);
        if (i % 4 == 1)
            ouro_prep_writev(ops[i], fd, parts, 2, (int64_t)i * SIZE, 0);
        else
            ouro_prep_write(ops[i], fd, data, SIZE, (int64_t)i * SIZE);
        ops[i]->flags = i % 4 == 2 ? OURO_REGBUF : i % 4 == 3 ? OURO_EXACT : 0;
    }
    CHECK_EQ(start_n(t, ops, WRITES), WRITES);
    for (unsigned i = 0; i < WRITES; i++) {
        CHECK_EQ(finish(t, ops[i]), SIZE);
        CHECK_EQ(pread(fd, got, SIZE, (off_t)i * SIZE), SIZE);
        CHECK(memcmp(got, data, SIZE) == 0);
    }
    CHECK(seen.writes >= WRITES);
    CHECK_EQ(seen.async, 0);
    CHECK_EQ(ouro_register_buffers(t->loop, NULL, 0), 0);
    close_loop(t);
    ouro__sys = real;
}

/* ---- What is left in entries ---------------------------------------------------------------- */

/* What the kernel has taken is overwritten. */
static long spoiling_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                           size_t size)
{
    struct ring *ring = doctor.ring;
    long r = real.io_uring_enter(fd, submit, min, flags, arg, size);

    for (unsigned i = ring_sq_pending(ring); i < ring->sq_entries; i++)
        memset(ring_sq_peek(ring, i), 0xa5, sizeof(struct ring_sqe));
    return r;
}

static void spoil_entries(struct test *t)
{
    call_doctor(t);
    ouro__sys.io_uring_enter = spoiling_enter;
    memset(doctor.ring->sqes, 0xa5, doctor.ring->sqes_size);
}

static void what_is_left_in_entries_changes_nothing(struct test *t)
{
    open_loop(t);
    spoil_entries(t);
    for (unsigned i = 0; i < 3; i++) {
        work_on_files(t);
        work_on_sockets(t);
        work_on_the_rest(t);
    }
    close_loop(t);
    ouro__sys = real;
}

/* IN_TURNS: nothing is submitted before the turn. */
#define IN_TURNS .needs = NEED_URING | NEED_OWNED, .fixed = FIX_FD
#define OF_RING .needs = NEED_URING | NEED_DRIVER, .fixed = FIX_FD
static const struct test_case cases[] = {
    { NAMED(interrupted_requests_are_made_again), IN_TURNS, .no_loop = true, .pitfalls = "K3" },
    { NAMED(an_interruption_that_was_asked_for_is_a_cancel), OF_RING, .no_loop = true,
      .pitfalls = "K3" },
    { NAMED(an_interrupted_close_has_closed), IN_TURNS, .no_loop = true, .pitfalls = "K3" },
    { NAMED(completions_of_the_past_are_dropped_and_counted), OF_RING, .faults = "30",
      .pitfalls = "C6" },
    { NAMED(only_owned_rings_are_entered_by_number), .needs = NEED_URING, .fixed = FIX_FD,
      .no_loop = true, .pitfalls = "F12" },
    { NAMED(the_kernels_workers_are_limited), OF_RING, .no_loop = true, .pitfalls = "R6" },
    { NAMED(writes_are_not_sent_to_the_kernels_workers), OF_RING, .no_loop = true,
      .pitfalls = "F13" },
    { NAMED(what_is_left_in_entries_changes_nothing), OF_RING, .no_loop = true, .pitfalls = "S15" },
    { 0 },
};

const struct subject subject_entries = { "entries", cases };

/* SPDX-License-Identifier: MIT */
/* t_parts.c: receives that share a buffer of a pool (OURO_CAP_PARTS), where io_uring has that; and
 * what must be the same without. Everything that comes is kept until the test gives it back. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core.h"
#include "engine/uring.h"
#include "sys.h"
#include "test.h"

#define BUFFERS 8u
#define BUFFER_SIZE 512u
#define KEPT_MOST 8192u
#define STRANGER (URING_TAG_FIRST + 1) /* the tag of nothing */

struct flow {
    struct {
        char *data; /* NULL: given back */
        size_t len, at;
    } kept[KEPT_MOST];
    _Atomic unsigned count;
    _Atomic size_t size;
};

/* In SERVICE loops the library's thread adds to the flows. */
static ouro_pool *pool;
static struct flow bytes, records; /* records: also datagrams, each checked from the start on */
static unsigned char data[1 << 16];

static void keep(struct flow *flow, char *at, size_t len, size_t place)
{
    CHECK(at && flow->count < KEPT_MOST);
    flow->kept[flow->count].data = at;
    flow->kept[flow->count].len = len;
    flow->kept[flow->count].at = place;
    flow->size += len;
    flow->count++;
}

static void received(struct test *t, ouro_op *op, int64_t res, void *at)
{
    (void)t, (void)op;
    CHECK(res > 0);
    keep(&bytes, at, (size_t)res, bytes.size);
}

static void record_came(struct test *t, ouro_op *op, int64_t res, void *at)
{
    ouro_datagram datagram;

    (void)t;
    CHECK(res > 0);
    if (op->code == OURO_RECVMSG_MANY) {
        ouro_datagram_of(op, at, &datagram);
        CHECK_EQ(datagram.size, res);
        at = datagram.payload;
    }
    keep(&records, at, (size_t)res, 0);
}

/* Whatever has come since lies elsewhere. */
static void give(struct flow *flow, unsigned i)
{
    char *at = flow->kept[i].data;
    size_t len = flow->kept[i].len;

    CHECK(at && memcmp(at, data + flow->kept[i].at, len) == 0);
    CHECK_EQ(ouro_pool_release(pool, at + len - 1), 0);
    flow->kept[i].data = NULL;
}

static void give_all(struct flow *flow)
{
    unsigned count = flow->count; /* what comes meanwhile is kept */

    for (unsigned i = 0; i < count; i++)
        if (flow->kept[i].data)
            give(flow, i);
}

/* ---- Helpers --------------------------------------------------------------------------------- */

/* A loop with parts, where they can be had. */
static bool want_parts(struct test *t)
{
    return open_loop_wanting(t, OURO_CAP_PARTS);
}

static void make_pool(struct test *t, unsigned count, unsigned size)
{
    fill(data, sizeof(data), 5);
    CHECK_EQ(ouro_pool_create(t->loop, count, size, &pool), 0);
}

static ouro_op *start_bytes(struct test *t, int fd)
{
    ouro_op *op = op_new(t);

    record_of(op)->more = received;
    ouro_prep_recv_many(op, fd, pool, 0);
    start(t, op);
    return op;
}

/* Keeps the parts, so that they can be told from what comes. */
static void begin_anew(struct flow *flow)
{
    flow->count = 0;
    flow->size = 0;
}

static void turn(struct test *t)
{
    CHECK(ouro_now(t->loop) < t->limit);
    step(t);
    reap_all(t);
    usleep(100);
}

static void await(struct test *t, const struct flow *flow, size_t size)
{
    while (flow->size < size)
        turn(t);
}

/* In messages of their own: what lies in the socket is received at once. */
static void send_slowly(struct test *t, int fd, unsigned count, size_t each)
{
    for (unsigned i = 0; i < count; i++) {
        size_t size = bytes.size;
        CHECK_EQ(send(fd, data + size, each, 0), each);
        await(t, &bytes, size + each);
    }
}

/* As much as is given until a lack of buffers ends it; machines may be slow. */
static size_t receive_all(struct test *t)
{
    for (unsigned quiet = 0; quiet < 3; quiet++) {
        size_t size = bytes.size;

        let_rest(t);
        if (bytes.size > size)
            quiet = 0;
    }
    return bytes.size;
}

static void destroy_pool(void)
{
    CHECK_EQ(ouro_pool_destroy(pool), 0);
}

/* ---- Giving back ----------------------------------------------------------------------------- */

static void parts_share_a_buffer_in_any_order(struct test *t)
{
    static const unsigned order[] = { 3, 0, 4, 1, 2 };
    bool parts = want_parts(t);
    ouro_op *op;
    int fds[2];

    make_pool(t, BUFFERS, BUFFER_SIZE);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    send_slowly(t, fds[1], 5, 10);
    for (unsigned i = 0; parts && i < 5; i++)
        CHECK(bytes.kept[i].data == bytes.kept[0].data + (size_t)i * 10);
    for (unsigned i = 0; i < 5; i++)
        give(&bytes, order[i]);
    /* Far more than the pool has; two are kept at a time. */
    for (unsigned i = 5; i < 1000; i++) {
        send_slowly(t, fds[1], 1, 1 + i % 60);
        while (bytes.count < i + 1)
            turn(t);
        for (unsigned at = bytes.count, had = 0; at-- > 5;)
            if (bytes.kept[at].data && ++had > 2)
                give(&bytes, at);
    }
    CHECK(memcmp(bytes.kept[bytes.count - 1].data, data + bytes.kept[bytes.count - 1].at,
                 bytes.kept[bytes.count - 1].len) == 0);
    give_all(&bytes);
    cancel_and_finish(t, op);
    destroy_pool();
}

/* Of two buffers one is for parts: it holds six messages of ten bytes and four bytes of another. */
static void a_buffer_is_free_when_all_its_parts_are_back(struct test *t)
{
    ouro_op *op;
    int fds[2];

    if (!want_parts(t))
        return;
    make_pool(t, 2, 64);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    send_slowly(t, fds[1], 6, 10);
    CHECK_EQ(send(fds[1], data + 60, 30, 0), 30);
    await(t, &bytes, 64);
    for (unsigned i = 0; i < 7; i++) {
        CHECK_EQ(receive_all(t), 64);
        give(&bytes, (i + 3) % 7);
    }
    await(t, &bytes, 90);
    CHECK_EQ(bytes.kept[7].len, 26);
    CHECK(bytes.kept[7].data + 64 > bytes.kept[0].data);
    cancel_and_finish(t, op);
    destroy_pool(); /* with a part that is out */
}

static void a_release_too_many_is_refused(struct test *t)
{
    bool parts = want_parts(t);
    char *first, *second;
    ouro_op *op;
    int fds[2];

    make_pool(t, BUFFERS, BUFFER_SIZE);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    send_slowly(t, fds[1], 2, 10);
    first = bytes.kept[0].data;
    second = bytes.kept[1].data;
    CHECK_EQ(ouro_pool_release(pool, first - BUFFERS * BUFFER_SIZE), -EINVAL);
    CHECK_EQ(ouro_pool_release(pool, first + BUFFERS * BUFFER_SIZE), -EINVAL);
    CHECK_EQ(ouro_pool_release(pool, first), 0);
    CHECK_EQ(ouro_pool_release(pool, parts ? first : second), 0); /* a part, wherever it lies */
    CHECK_EQ(ouro_pool_release(pool, first), -EINVAL);
    CHECK_EQ(ouro_pool_release(pool, second), -EINVAL);
    begin_anew(&bytes);
    send_slowly(t, fds[1], 3, 10);
    give_all(&bytes);
    CHECK_EQ(ouro_pool_release(pool, bytes.kept[0].data), -EINVAL);
    cancel_and_finish(t, op);
    destroy_pool();
}

/* There are more buffers than a ring has at first; all but an eighth come into it. */
static void more_buffers_come_into_use(struct test *t)
{
    bool parts = want_parts(t);
    size_t most = parts ? 56 * 64 : 64 * 64;
    ouro_op *op;
    int fds[2];

    make_pool(t, 64, 64);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    CHECK_EQ(send(fds[1], data, 3 * most, 0), 3 * most);
    for (unsigned i = 1; i <= 3; i++) {
        await(t, &bytes, i * most);
        CHECK_EQ(receive_all(t), i * most); /* and no more */
        give_all(&bytes);
    }
    cancel_and_finish(t, op);
    destroy_pool();
}

/* ---- The end behind a lack of buffers -------------------------------------------------------- */

/* What fills all buffers, less, and more. */
static void the_end_is_seen_behind_a_lack_of_buffers(struct test *t)
{
    static const size_t sizes[] = { 64, 128, 10, 300 };

    make_pool(t, 2, 64);
    for (unsigned i = 0; i < 4; i++) {
        int fds[2];
        ouro_op *op;

        begin_anew(&bytes);
        make_socketpair(t, fds);
        op = start_bytes(t, fds[0]);
        CHECK_EQ(send(fds[1], data, sizes[i], 0), sizes[i]);
        (void)receive_all(t);
        CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
        (void)receive_all(t);
        CHECK(sizes[i] < 128 || !is_final(op));
        while (!is_final(op)) {
            give_all(&bytes);
            turn(t);
        }
        CHECK_EQ(RES(op), 0);
        CHECK_EQ(bytes.size, sizes[i]);
        give_all(&bytes);
    }
    destroy_pool();
}

static void the_end_is_seen_behind_a_lack_of_parts(struct test *t)
{
    (void)want_parts(t);
    the_end_is_seen_behind_a_lack_of_buffers(t);
}

/* ---- What takes a buffer, or says so --------------------------------------------------------- */

static struct ouro__sys real;
static struct {
    const struct ring *ring;
    uint32_t at;    /* completions before it were looked at */
    uint32_t named; /* the flags of the last that brought bytes */
    ouro_id id;     /* of the stream whose bytes are hidden; 0: none */
    unsigned changed;
} doctor;

/* A cancel that has taken a buffer: the bytes are there, and only the cancel is reported. */
static void hide_bytes(struct ring_cqe *cqe)
{
    if (cqe->res > 0)
        cqe->user_data = STRANGER;
    else
        cqe->flags |= doctor.named & ~RING_CQE_MORE;
    doctor.changed++;
}

static long doctored_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                           size_t size)
{
    long r = real.io_uring_enter(fd, submit, min, flags, arg, size);

    for (; doctor.at != ring_cq_tail(doctor.ring); doctor.at++) {
        struct ring_cqe *cqe = &doctor.ring->cqes[doctor.at & doctor.ring->cq_mask];

        if (cqe->flags & RING_CQE_BUFFER && cqe->res > 0)
            doctor.named = cqe->flags;
        if (doctor.id && cqe->user_data == doctor.id) {
            hide_bytes(cqe);
        } else if (!doctor.id && cqe->res == 0 && !cqe->flags && cqe->user_data < URING_TAG_FIRST) {
            cqe->flags = doctor.named & ~(RING_CQE_MORE | RING_CQE_BUF_MORE);
            doctor.changed++;
        }
    }
    return r;
}

static void call_doctor(struct test *t)
{
    struct uring *u = t->loop->engine_state;

    real = ouro__sys;
    doctor.ring = &u->ring;
    doctor.at = u->ring.cq_head;
    ouro__sys.io_uring_enter = doctored_enter;
}

static void cancels_give_back_what_they_took(struct test *t)
{
    ouro_op *op;
    int fds[2];

    make_pool(t, BUFFERS, BUFFER_SIZE);
    call_doctor(t);
    for (unsigned i = 0; i < 3 * BUFFERS; i++) {
        make_socketpair(t, fds);
        op = start_bytes(t, fds[0]);
        doctor.id = ouro_op_id(op);
        doctor.changed = 0;
        turn(t);
        CHECK_EQ(send(fds[1], "x", 1, 0), 1);
        while (!doctor.changed)
            turn(t);
        cancel_and_finish(t, op);
        CHECK_EQ(doctor.changed, 2);
        unmade(t, fds[0]);
        unmade(t, fds[1]);
        close(fds[0]);
        close(fds[1]);
    }
    doctor.id = UINT64_MAX;
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    CHECK_EQ(send(fds[1], data, BUFFERS * BUFFER_SIZE, 0), BUFFERS * BUFFER_SIZE);
    CHECK_EQ(receive_all(t), BUFFERS * BUFFER_SIZE);
    CHECK_EQ(bytes.count, BUFFERS);
    cancel_and_finish(t, op);
    destroy_pool();
    ouro__sys = real;
}

/* Kernels from 6.19 on name a buffer with the end of the input: here all do. */
static void ends_and_cancels_take_no_part(struct test *t)
{
    ouro_op *op, *other;
    int fds[2], more[2];

    if (!want_parts(t))
        return;
    make_pool(t, BUFFERS, BUFFER_SIZE);
    call_doctor(t);
    make_socketpair(t, fds);
    other = start_bytes(t, fds[0]);
    for (unsigned i = 0; i < 3 * BUFFERS; i++) {
        make_socketpair(t, more);
        op = start_bytes(t, more[0]);
        send_slowly(t, more[1], 1, 7);
        doctor.changed = 0;
        if (i % 2) {
            cancel_and_finish(t, op);
        } else {
            CHECK_EQ(shutdown(more[1], SHUT_WR), 0);
            CHECK_EQ(finish(t, op), 0);
            CHECK_EQ(doctor.changed, 1);
        }
        send_slowly(t, fds[1], 1, 5);
        unmade(t, more[0]);
        unmade(t, more[1]);
        close(more[0]);
        close(more[1]);
    }
    for (unsigned i = 1; i < bytes.count; i++) /* all parts lie side by side */
        CHECK(bytes.kept[i].data == bytes.kept[0].data + bytes.kept[i].at);
    give_all(&bytes);
    CHECK_EQ(ouro_pool_release(pool, bytes.kept[0].data), -EINVAL);
    CHECK_EQ(ouro_pool_release(pool, (char *)pool->memory), -EINVAL);
    cancel_and_finish(t, other);
    destroy_pool();
    ouro__sys = real;
}

/* ---- Records and datagrams ------------------------------------------------------------------- */

static ouro_op *start_datagrams(struct test *t, int fds[2])
{
    ouro_op *op = op_new(t);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    made(t, fds[0]);
    made(t, fds[1]);
    record_of(op)->more = record_came;
    ouro_prep_recvmsg_many(op, fds[0], pool, 32, 32, 0);
    start(t, op);
    return op;
}

/* Whoever of the two has taken all that it can get, the other one goes on when its own is back. */
static void datagrams_and_bytes_share_a_pool(struct test *t)
{
    bool parts = want_parts(t);
    ouro_op *op, *datagrams;
    unsigned had;
    int fds[2], pair[2];

    make_pool(t, BUFFERS, BUFFER_SIZE);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    datagrams = start_datagrams(t, pair);
    CHECK_EQ(send(fds[1], data, 20 * BUFFER_SIZE, 0), 20 * BUFFER_SIZE);
    (void)receive_all(t); /* all buffers, but for those that go out whole */
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(send(pair[1], data, 100 + i, 0), 100 + i);
    if (!parts)
        give_all(&bytes);
    for (unsigned i = 0; i < 3; i++) {
        while (records.count == i) {
            if (!parts)
                give_all(&bytes);
            turn(t);
        }
        CHECK_EQ(records.kept[i].len, 100 + i);
        let_rest(t);
        had = records.count;
        CHECK(!parts || had == i + 1);
        give(&records, i);
    }
    for (unsigned i = 0; i < BUFFERS; i++) /* now they wait for each other's */
        CHECK_EQ(send(pair[1], data, 200, 0), 200);
    while (bytes.size < (size_t)20 * BUFFER_SIZE || records.count < 3 + BUFFERS) {
        turn(t);
        give_all(&records);
        turn(t);
        give_all(&bytes);
    }
    give_all(&records);
    give_all(&bytes);
    cancel_and_finish(t, datagrams);
    cancel_and_finish(t, op);
    destroy_pool();
}

/* Without bytes datagrams have all buffers; bytes get the next one that is back. */
static void datagrams_alone_have_all_buffers(struct test *t)
{
    ouro_op *op, *datagrams;
    int fds[2], pair[2];

    (void)want_parts(t);
    make_pool(t, BUFFERS, BUFFER_SIZE);
    datagrams = start_datagrams(t, pair);
    for (unsigned i = 0; i < BUFFERS; i++) {
        CHECK_EQ(send(pair[1], data, 11, 0), 11);
        await(t, &records, (size_t)11 * (i + 1));
    }
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    CHECK_EQ(send(fds[1], data, 22, 0), 22);
    CHECK_EQ(receive_all(t), 0);
    give(&records, 3);
    await(t, &bytes, 22);
    CHECK(memcmp(records.kept[4].data, data, 11) == 0);
    give_all(&records);
    give_all(&bytes);
    cancel_and_finish(t, datagrams);
    cancel_and_finish(t, op);
    destroy_pool();
}

/* A part may end where the buffer does; a record must not. */
static void records_are_not_cut(struct test *t)
{
    ouro_op *op;
    int fds[2];

    (void)want_parts(t);
    make_pool(t, 2, BUFFER_SIZE);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    made(t, fds[0]);
    made(t, fds[1]);
    op = op_new(t);
    record_of(op)->more = record_came;
    ouro_prep_recv_many(op, fds[0], pool, 0);
    start(t, op);
    for (unsigned i = 0; i < 50; i++) {
        CHECK_EQ(send(fds[1], data, 301, 0), 301);
        while (records.count == i)
            turn(t);
        CHECK_EQ(records.kept[i].len, 301);
        give_all(&records);
    }
    CHECK_EQ(shutdown(fds[1], SHUT_WR), 0);
    CHECK_EQ(finish(t, op), 0);
    destroy_pool();
}

/* ---- Loss and fork --------------------------------------------------------------------------- */

/* All buffers but the one whose parts are kept. */
static ouro_op *fill_the_rest(struct test *t, const int fds[2])
{
    ouro_op *op;

    begin_anew(&bytes);
    op = start_bytes(t, fds[0]);
    CHECK_EQ(send(fds[1], data, 2 * BUFFERS * BUFFER_SIZE, 0), 2 * BUFFERS * BUFFER_SIZE);
    CHECK_EQ(receive_all(t), (BUFFERS - 1) * BUFFER_SIZE);
    return op;
}

static void empty_all(struct test *t, ouro_op *op, char *released)
{
    while (bytes.size < (size_t)2 * BUFFERS * BUFFER_SIZE) {
        give_all(&bytes);
        turn(t);
    }
    cancel_and_finish(t, op);
    give_all(&bytes);
    CHECK_EQ(ouro_pool_release(pool, released), -EINVAL);
    destroy_pool();
}

static void parts_outlive_their_ring(struct test *t)
{
    char *first, *second;
    ouro_op *op, *nop;
    int fds[2], later[2];

    if (!want_parts(t))
        return;
    make_pool(t, BUFFERS, BUFFER_SIZE);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    send_slowly(t, fds[1], 2, 10);
    CHECK_EQ(bytes.count, 2);
    block_io_uring(BLOCK_ALL, EPERM);
    nop = op_new(t);
    ouro_prep_nop(nop);
    CHECK_EQ(do_op(t, nop), 0);
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    finish_all(t);
    CHECK(is_final(op));
    first = bytes.kept[0].data;
    second = bytes.kept[1].data;
    make_socketpair(t, later);
    op = fill_the_rest(t, later);
    CHECK(memcmp(first, data, 10) == 0 && memcmp(second, data + 10, 10) == 0);
    CHECK_EQ(ouro_pool_release(pool, first), 0);
    CHECK_EQ(receive_all(t), (BUFFERS - 1) * BUFFER_SIZE);
    CHECK_EQ(ouro_pool_release(pool, second), 0);
    CHECK_EQ(receive_all(t), BUFFERS * BUFFER_SIZE);
    empty_all(t, op, first);
}

/* The buffer with the parts is the one that does not come into the child's ring: a datagram gets it
 * when the last of them is back. */
static void child(struct test *t, ouro_op *op)
{
    char *first = bytes.kept[0].data, *second = bytes.kept[1].data;
    ouro_op *mine, *datagrams;
    int fds[2], pair[2];

    CHECK_EQ(ouro_fork_child(t->loop), 0);
    ledger_forget(op);
    if (t->style == STYLE_HOSTED)
        t->style = STYLE_CALLBACK;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    mine = fill_the_rest(t, fds);
    datagrams = start_datagrams(t, pair);
    CHECK_EQ(send(pair[1], data, 9, 0), 9);
    CHECK(memcmp(first, data, 10) == 0 && memcmp(second, data + 10, 10) == 0);
    CHECK_EQ(ouro_pool_release(pool, first), 0);
    let_rest(t);
    CHECK_EQ(records.count, 0);
    CHECK_EQ(ouro_pool_release(pool, second), 0);
    await(t, &records, 9);
    CHECK(records.kept[0].data > first && records.kept[0].data < first + BUFFER_SIZE);
    give_all(&records);
    cancel_and_finish(t, datagrams);
    empty_all(t, mine, first);
    _exit(ouro_close(t->loop, OURO_FOREVER) == 0 ? 0 : 2);
}

static void parts_are_the_childs_as_well(struct test *t)
{
    ouro_op *op;
    int fds[2];
    pid_t pid;

    if (!want_parts(t))
        return;
    make_pool(t, BUFFERS, BUFFER_SIZE);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    send_slowly(t, fds[1], 2, 10);
    pid = fork();
    if (pid == 0)
        child(t, op);
    expect_exit_zero(pid);
    give_all(&bytes);
    send_slowly(t, fds[1], 20, 100);
    cancel_and_finish(t, op);
    destroy_pool();
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* Nothing changes for who does not ask; and what is hidden cannot be had. */
static void only_who_asks_has_parts(struct test *t)
{
    ouro_op *op;
    int fds[2];

    open_loop(t);
    make_pool(t, BUFFERS, BUFFER_SIZE);
    make_socketpair(t, fds);
    op = start_bytes(t, fds[0]);
    send_slowly(t, fds[1], 3, 10);
    for (unsigned i = 1; i < 3; i++)
        CHECK((bytes.kept[i].data - bytes.kept[0].data) % (int)BUFFER_SIZE == 0);
    give_all(&bytes);
    cancel_and_finish(t, op);
    close_loop(t);
    t->config.want = OURO_CAP_PARTS;
    t->config.mask |= OURO_CAP_PARTS;
    CHECK_EQ(open_loop_try(t), -EOPNOTSUPP);
    t->config.mask = OURO_CAP_MULTISHOT;
    CHECK_EQ(open_loop_try(t), -EOPNOTSUPP);
    t->config.want = 0;
    open_loop(t);
}

#define ASKS .no_loop = true
#define OF_URING .no_loop = true, .needs = NEED_URING, .fixed = FIX_MASK
static const struct test_case cases[] = {
    { NAMED(parts_share_a_buffer_in_any_order), ASKS, .pitfalls = "F18" },
    { NAMED(a_buffer_is_free_when_all_its_parts_are_back), OF_URING, .pitfalls = "F18" },
    { NAMED(a_release_too_many_is_refused), ASKS },
    { NAMED(more_buffers_come_into_use), ASKS },
    { NAMED(the_end_is_seen_behind_a_lack_of_buffers), .pitfalls = "F16" },
    { NAMED(the_end_is_seen_behind_a_lack_of_parts), ASKS, .pitfalls = "F16" },
    { NAMED(cancels_give_back_what_they_took), .needs = NEED_URING | NEED_OWNED,
      .fixed = FIX_MASK | FIX_FD, .pitfalls = "F19" },
    { NAMED(ends_and_cancels_take_no_part), .no_loop = true, .needs = NEED_URING | NEED_OWNED,
      .fixed = FIX_MASK | FIX_FD, .pitfalls = "F18 F19" },
    { NAMED(datagrams_and_bytes_share_a_pool), ASKS, .pitfalls = "F18" },
    { NAMED(datagrams_alone_have_all_buffers), ASKS },
    { NAMED(records_are_not_cut), ASKS },
    { NAMED(parts_outlive_their_ring), OF_URING },
    { NAMED(parts_are_the_childs_as_well), .no_loop = true, .needs = NEED_URING | NEED_DRIVER,
      .fixed = FIX_MASK },
    { NAMED(only_who_asks_has_parts), ASKS },
    { 0 },
};

const struct subject subject_parts = { "parts", cases };

/* SPDX-License-Identifier: MIT */
/* t_flow.c: streams that cannot go on: no place, no buffer, paused, their descriptor gone; what
 * they hold up meanwhile (nothing), and how they end then. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sys.h"
#include "test.h"

#define BUFFERS 8u
#define BUFFER_SIZE 64u
#define CLIENTS 64
#define FEW 16u /* places */

static struct {
    ouro_pool *pool;
    unsigned count; /* completions that were not final */
    int fds[512];   /* accepted */
    char bytes[4096];
    size_t size;
    void *kept[BUFFERS];
    unsigned kept_count;
    bool keeps;
} seen;

static struct ouro__sys real;

static void accepted(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op, (void)data;
    seen.fds[seen.count++] = (int)res;
}

static void received(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op;
    CHECK(seen.size + (size_t)res <= sizeof(seen.bytes));
    memcpy(seen.bytes + seen.size, data, (size_t)res);
    seen.size += (size_t)res;
    seen.count++;
    if (seen.keeps)
        seen.kept[seen.kept_count++] = data;
    else
        CHECK_EQ(ouro_pool_release(seen.pool, data), 0);
}

static void counted(struct test *t, ouro_op *op, int64_t res, void *data)
{
    (void)t, (void)op, (void)res, (void)data;
    seen.count++;
}

/* ---- Helpers -------------------------------------------------------------------------------- */

/* By events, so that a test decides when they are collected. */
static ouro_op *stream(struct test *t, void (*more)(struct test *, ouro_op *, int64_t, void *))
{
    ouro_op *op = op_new(t);

    record_of(op)->more = more;
    record_of(op)->own_event = true;
    return op;
}

static void make_pool(struct test *t)
{
    CHECK_EQ(ouro_pool_create(t->loop, BUFFERS, BUFFER_SIZE, &seen.pool), 0);
}

static void destroy_pool(void)
{
    CHECK_EQ(ouro_pool_destroy(seen.pool), 0);
}

static void reopen(struct test *t, unsigned max_ops)
{
    close_loop(t);
    t->config.max_ops = max_ops;
    open_loop(t);
}

static void await(struct test *t, unsigned count)
{
    while (seen.count < count) {
        if (ouro_now(t->loop) >= t->limit)
            FAIL("%u completions of %u came in time", seen.count, count);
        step(t);
        reap_all(t);
        usleep(100);
    }
}

static ouro_counters counters(struct test *t)
{
    ouro_counters now;

    CHECK_EQ(ouro_get_counters(t->loop, &now, sizeof(now)), 0);
    return now;
}

/* ---- No place -------------------------------------------------------------------------------- */

struct crowd {
    ouro_op *door;
    struct sockaddr_in addr;
    int clients[CLIENTS];
};

/* Until the places of a small loop are taken, for which slow machines need long. */
static void fill_up(struct test *t, unsigned places)
{
    while (counters(t).streamed < places) {
        CHECK(ouro_now(t->loop) < t->limit);
        let_pass(t);
    }
}

/* More connections than there are places; nobody collects. */
static void crowd(struct test *t, struct crowd *crowd)
{
    int listener = make_listener(t, &crowd->addr);

    crowd->door = stream(t, accepted);
    ouro_prep_accept_many(crowd->door, listener, 0);
    start(t, crowd->door);
    for (int i = 0; i < CLIENTS; i++)
        crowd->clients[i] = connect_to(&crowd->addr);
    let_pass(t);
}

static void disperse(struct crowd *crowd)
{
    for (int i = 0; i < CLIENTS; i++)
        close(crowd->clients[i]);
    for (unsigned i = 0; i < seen.count; i++)
        close(seen.fds[i]);
}

static void who_waits_for_others_waits_for_no_place(struct test *t)
{
    ouro_op *op;
    struct crowd many;
    char byte;
    int fds[2];

    reopen(t, FEW);
    op = stream(t, NULL);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    crowd(t, &many);
    fill_up(t, FEW - 2);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(ouro_wait(t->loop, op, in_ms(t, 2000)), 0);
    ledger_waited(t, op);
    /* So does the end of the stream itself. */
    CHECK_EQ(ouro_cancel(t->loop, many.door), 0);
    CHECK_EQ(ouro_wait(t->loop, many.door, in_ms(t, 2000)), 0);
    ledger_waited(t, many.door);
    CHECK_EQ(RES(many.door), -ECANCELED);
    let_rest(t);
    CHECK(seen.count >= FEW - 2);
    disperse(&many);
}

/* What a ring had posted when the places ran out comes as well; nothing more does. */
static void a_stream_without_places_stops(struct test *t)
{
    struct crowd many;
    int late[CLIENTS];
    uint64_t had;

    reopen(t, FEW);
    crowd(t, &many);
    fill_up(t, FEW - 1);
    let_pass(t);
    had = counters(t).uncollected;
    CHECK(had >= FEW - 1 && (had <= FEW || strcmp(ouro_engine_name(t->loop), "uring") == 0));
    for (int i = 0; i < CLIENTS; i++)
        late[i] = connect_to(&many.addr);
    let_pass(t);
    CHECK_EQ(counters(t).uncollected, had);
    await(t, 2 * CLIENTS);
    CHECK(!is_final(many.door));
    cancel_and_finish(t, many.door);
    for (int i = 0; i < CLIENTS; i++)
        close(late[i]);
    disperse(&many);
}

/* Who runs the loop only when told to is told that there are places again, and of a cancel. */
static void who_is_notified_hears_of_streams_that_can_go_on(struct test *t)
{
    int signal = made(t, eventfd(0, EFD_CLOEXEC));
    ouro_event events[4];
    struct crowd many;
    unsigned count = 0;
    bool last = false;

    reopen(t, FEW);
    set_notify(t, (ouro_notify){ .kind = OURO_NOTIFY_EVENTFD, .fd = signal });
    crowd(t, &many);
    while (!last) {
        uint64_t word;
        int n;
        while ((n = ouro_reap(t->loop, events, 4)) > 0) {
            for (int i = 0; i < n; i++) {
                last = !(events[i].cflags & OURO_C_MORE);
                count += !last;
                ledger_event(t, &events[i]);
            }
        }
        CHECK(count <= CLIENTS);
        if (count == CLIENTS)
            CHECK_EQ(ouro_cancel(t->loop, many.door), 0);
        if (last || ouro_done(many.door)) /* it rested: its end lies there already */
            continue;
        CHECK(readable(signal, 2000));
        CHECK_EQ(read(signal, &word, sizeof(word)), sizeof(word));
        CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
    }
    CHECK_EQ(count, CLIENTS);
    disperse(&many);
}

/* Nobody else can know these descriptors. */
static void connections_that_nobody_collected_are_closed_with_the_loop(struct test *t)
{
    struct crowd many;

    reopen(t, FEW);
    crowd(t, &many);
    t->drops = true;
    close_loop(t);
    disperse(&many);
}

#define DOORS 64u
#define ROOM 256u

/* Workers accept where a listener blocks; when they are back, others have taken the places. */
static void what_workers_bring_displaces_nothing(struct test *t)
{
    struct sockaddr_in addrs[DOORS];
    ouro_op *doors[DOORS], *nops[ROOM - DOORS];
    int clients[DOORS], listeners[DOORS];

    reopen(t, ROOM);
    for (unsigned i = 0; i < DOORS; i++) {
        listeners[i] = make_listener(t, &addrs[i]);
        unmade(t, listeners[i]);
        doors[i] = stream(t, accepted);
        ouro_prep_accept_many(doors[i], listeners[i], 0);
        start(t, doors[i]);
        clients[i] = connect_to(&addrs[i]);
    }
    CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
    for (unsigned i = 0; i < ROOM - DOORS; i++) {
        nops[i] = stream(t, NULL);
        ouro_prep_nop(nops[i]);
        if (start_try(t, nops[i]) < 0) /* those that were quick have the places */
            nops[i] = NULL;
    }
    let_pass(t);
    await(t, DOORS);
    for (unsigned i = 0; i < ROOM - DOORS; i++)
        CHECK(!nops[i] || finish(t, nops[i]) == 0);
    for (unsigned i = 0; i < DOORS; i++) {
        cancel_and_finish(t, doors[i]);
        close(clients[i]);
        close(seen.fds[i]);
        close(listeners[i]);
    }
}

/* ---- Pause and resume ------------------------------------------------------------------------ */

static void a_resumed_poll_waits_for_who_collects(struct test *t)
{
    ouro_op *op = stream(t, counted);
    int fds[2];

    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_poll_many(op, fds[0], POLLIN);
    start(t, op);
    let_pass(t);
    CHECK_EQ(counters(t).streamed, 1);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    let_pass(t);
    CHECK_EQ(counters(t).streamed, 1);
    await(t, 3);
    /* One that is collected while it is paused: the next one comes after the resume. */
    let_pass(t);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    seen.count = 0;
    let_rest(t);
    CHECK_EQ(seen.count, 0);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    await(t, 2);
    cancel_and_finish(t, op);
}

static void a_resumed_timer_waits_for_who_collects(struct test *t)
{
    ouro_op *op = stream(t, counted);

    ouro_prep_timer_many(op, in_ms(t, 1), OURO_MS);
    start(t, op);
    let_pass(t);
    CHECK_EQ(counters(t).streamed, 1);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    let_pass(t);
    CHECK_EQ(counters(t).streamed, 1);
    await(t, 3);
    cancel_and_finish(t, op);
}

/* A number that another file has got meanwhile: its bytes are somebody else's. */
static void a_resumed_stream_reads_no_other_file(struct test *t)
{
    ouro_op *op = stream(t, received);
    char byte = 0;
    int first[2], second[2];

    make_pool(t);
    make_socketpair(t, first);
    make_socketpair(t, second);
    ouro_prep_recv_many(op, first[0], seen.pool, 0);
    start(t, op);
    CHECK_EQ(send(first[1], "1", 1, 0), 1);
    await(t, 1);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    CHECK_EQ(dup3(second[0], first[0], O_CLOEXEC), first[0]);
    CHECK_EQ(send(second[1], "2", 1, 0), 1);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    CHECK_EQ(finish(t, op), -EBADF);
    CHECK_EQ(seen.size, 1);
    CHECK_EQ(recv(second[0], &byte, 1, 0), 1);
    CHECK_EQ(byte, '2');
    destroy_pool();
}

static void a_paused_stream_whose_descriptor_was_closed_ends(struct test *t)
{
    ouro_op *op = stream(t, received);
    int fds[2];

    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    let_rest(t);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    unmade(t, fds[0]);
    close(fds[0]);
    let_rest(t);
    CHECK(!is_final(op));
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    CHECK_EQ(finish(t, op), -EBADF);
    destroy_pool();
}

/* What was under way when it was paused says that there is no buffer. */
static void a_buffer_wakes_no_paused_stream(struct test *t)
{
    static const char data[BUFFERS * BUFFER_SIZE];
    ouro_op *op = stream(t, received);
    int fds[2];

    seen.keeps = true;
    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    let_pass(t);
    CHECK_EQ(send(fds[1], data, sizeof(data), 0), sizeof(data));
    await(t, BUFFERS);
    CHECK_EQ(send(fds[1], "x", 1, 0), 1);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[0]), 0);
    let_rest(t);
    CHECK_EQ(seen.count, BUFFERS);
    seen.kept_count = 0;
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    await(t, BUFFERS + 1);
    CHECK_EQ(seen.size, sizeof(data) + 1);
    cancel_and_finish(t, op);
}

/* The end comes while it is paused, or just before. */
static void the_end_may_meet_a_pause(struct test *t)
{
    for (int i = 0; i < 40; i++) {
        ouro_op *op = stream(t, received);
        int fds[2], r;

        make_pool(t);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        ouro_prep_recv_many(op, fds[0], seen.pool, 0);
        start(t, op);
        if (i % 2)
            step(t);
        CHECK_EQ(send(fds[1], "x", 1, 0), 1);
        close(fds[1]);
        if (i % 3 == 1)
            step(t);
        r = ouro_pause(t->loop, op);
        CHECK(r == 0 || r == -EINVAL);
        if (i % 5 < 2)
            let_rest(t);
        r = ouro_resume(t->loop, op);
        CHECK(r == 0 || r == -EINVAL);
        CHECK_EQ(finish(t, op), 0);
        reap_all(t);
        CHECK_EQ(ouro_pause(t->loop, op), -EINVAL);
        CHECK_EQ(ouro_resume(t->loop, op), -EINVAL);
        CHECK_EQ(seen.size, i + 1);
        close(fds[0]);
        destroy_pool();
    }
}

/* ---- The end of what rests ------------------------------------------------------------------- */

static void starve(struct test *t, ouro_op *op, int fds[2])
{
    static const char data[2 * BUFFERS * BUFFER_SIZE];

    seen.keeps = true;
    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    CHECK_EQ(send(fds[1], data, sizeof(data), 0), sizeof(data));
    await(t, BUFFERS);
    let_rest(t);
    CHECK_EQ(seen.kept_count, BUFFERS);
}

static void what_rests_can_be_cancelled_by_its_descriptor(struct test *t)
{
    ouro_op *starved = stream(t, received), *paused = stream(t, received);
    struct crowd many;
    int fds[2], other[2];

    reopen(t, FEW);
    starve(t, starved, fds);
    make_socketpair(t, other);
    ouro_prep_recv_many(paused, other[0], seen.pool, 0);
    start(t, paused);
    CHECK_EQ(ouro_pause(t->loop, paused), 0);
    let_rest(t);
    CHECK_EQ(ouro_cancel_fd(t->loop, fds[0]), 0);
    reap_all(t);
    finish_canceled(t, starved);
    CHECK(!is_final(paused));
    CHECK_EQ(ouro_cancel_fd(t->loop, other[0]), 0);
    reap_all(t);
    finish_canceled(t, paused);
    destroy_pool();
    seen.count = 0;
    crowd(t, &many);
    CHECK_EQ(ouro_cancel_fd(t->loop, (int)many.door->fd), 0);
    let_pass(t);
    CHECK(ouro_done(many.door));
    reap_all(t);
    finish_canceled(t, many.door);
    disperse(&many);
}

static void what_rests_keeps_its_deadline(struct test *t)
{
    ouro_op *op = stream(t, received), *paused = stream(t, received);
    int fds[2], other[2];

    op->deadline = 0;
    starve(t, op, fds);
    make_socketpair(t, other);
    ouro_prep_recv_many(paused, other[0], seen.pool, 0);
    paused->deadline = in_ms(t, 50);
    start(t, paused);
    CHECK_EQ(ouro_pause(t->loop, paused), 0);
    CHECK_EQ(finish(t, paused), -ETIMEDOUT);
    CHECK(CFLAGS(paused) & OURO_C_TIMEDOUT);
    cancel_and_finish(t, op);
    /* There is no buffer: it never starts. */
    ouro_prep_recv_many(op, other[0], seen.pool, 0);
    op->deadline = in_ms(t, 50);
    start(t, op);
    CHECK_EQ(finish(t, op), -ETIMEDOUT);
    destroy_pool();
}

static void a_stream_starts_behind_its_barrier(struct test *t)
{
    ouro_op *first = op_new(t), *op = stream(t, received);
    char byte;
    int fds[2];

    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv(first, fds[0], &byte, 1, 0);
    start(t, first);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    op->flags = OURO_BARRIER;
    start(t, op);
    let_rest(t);
    CHECK_EQ(ouro_pause(t->loop, op), 0); /* while it is held */
    CHECK_EQ(send(fds[1], "12", 2, 0), 2);
    CHECK_EQ(finish(t, first), 1);
    let_rest(t);
    CHECK_EQ(seen.size, 0);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    await(t, 1);
    CHECK(byte == '1' && seen.bytes[0] == '2');
    cancel_and_finish(t, op);
    destroy_pool();
}

/* ---- Whose operation it is ------------------------------------------------------------------- */

static unsigned lives;

static void live_again(ouro_op *op)
{
    if (op->cflags & OURO_C_MORE) {
        CHECK_EQ(ouro_pool_release(seen.pool, op->data), 0);
    } else if (++lives < 20) {
        ouro_prep_recv_many(op, op->fd, seen.pool, 0);
        CHECK_EQ(ouro_submit(op->user, op), 0);
        CHECK_EQ(ouro_cancel(op->user, op), 0);
    } else {
        memset(op, 0xa5, sizeof(*op));
        free(op);
    }
}

static void the_last_callback_may_start_or_free_its_stream(struct test *t)
{
    ouro_op *op = calloc(1, sizeof(*op));
    int fds[2];

    make_pool(t);
    make_socketpair(t, fds);
    lives = 0;
    op->cb = live_again;
    op->user = t->loop;
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    CHECK_EQ(ouro_submit(t->loop, op), 0);
    CHECK_EQ(send(fds[1], "x", 1, 0), 1);
    step(t);
    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    while (lives < 20) {
        CHECK(ouro_now(t->loop) < t->limit);
        step(t);
    }
    let_rest(t);
    destroy_pool();
}

/* One that is known to be final is the caller's, collected or not. */
static void a_done_stream_is_not_looked_at(struct test *t)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    ouro_op *op = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ouro_event events[4];
    int fds[2], count;

    CHECK(op != MAP_FAILED);
    make_pipe(t, fds);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    ouro_prep_poll_many(op, fds[0], POLLIN);
    CHECK_EQ(ouro_submit(t->loop, op), 0);
    let_pass(t);
    CHECK_EQ(ouro_cancel(t->loop, op), 0);
    let_pass(t);
    CHECK(ouro_done(op));
    munmap(op, size);
    count = ouro_reap(t->loop, events, 4);
    CHECK_EQ(count, 2);
    CHECK_EQ(events[0].cflags, OURO_C_MORE);
    CHECK_EQ(events[1].res, -ECANCELED);
}

static bool memory_refused;

static void *stingy(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (size && memory_refused)
        return NULL;
    if (!size) {
        free(old);
        return NULL;
    }
    return realloc(old, size);
}

/* A posted stream for which there is no memory leaves its pool free. */
static void a_posted_stream_that_is_refused_uses_no_pool(struct test *t)
{
    ouro_op *op = stream(t, received), *nop = stream(t, NULL);
    int fds[2], high;

    close_loop(t);
    t->config.alloc = stingy;
    open_loop(t);
    make_pool(t);
    make_socketpair(t, fds);
    high = made(t, fcntl(fds[0], F_DUPFD_CLOEXEC, 600)); /* its record is not there yet */
    ouro_prep_nop(nop); /* posted operations have slots from here on */
    CHECK_EQ(start_post(t, nop), 0);
    CHECK_EQ(finish(t, nop), 0);
    ouro_prep_recv_many(op, high, seen.pool, 0);
    memory_refused = true;
    CHECK_EQ(t->mode == MODE_OWNED ? start_post(t, op) : start_try(t, op),
             t->mode == MODE_OWNED ? 0 : -ENOMEM); /* SHARED: a post is a submit */
    if (t->mode == MODE_OWNED)
        CHECK_EQ(finish(t, op), -ENOMEM);
    memory_refused = false;
    CHECK_EQ(start_post(t, op), 0);
    CHECK_EQ(send(fds[1], "x", 1, 0), 1);
    await(t, 1);
    CHECK_EQ(ouro_pool_destroy(seen.pool), -EBUSY);
    cancel_and_finish(t, op);
    destroy_pool();
    close_loop(t);
    t->config.alloc = NULL;
    open_loop(t);
}

/* ---- Fork ------------------------------------------------------------------------------------ */

static void in_the_child(struct test *t, ouro_op *op, ouro_op *mine)
{
    int fds[2];

    CHECK_EQ(ouro_fork_child(t->loop), 0);
    ledger_forget(op);
    if (t->style == STYLE_HOSTED)
        t->style = STYLE_CALLBACK;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    seen.size = seen.count = 0;
    seen.keeps = true;
    ouro_prep_recv_many(mine, fds[0], seen.pool, 0);
    start(t, mine);
    for (unsigned i = 0; i < BUFFERS; i++) { /* what the parent has not collected is here free */
        CHECK_EQ(send(fds[1], "child", 5, 0), 5);
        await(t, i + 1);
    }
    CHECK_EQ(seen.size, BUFFERS * 5);
    cancel_and_finish(t, mine);
    destroy_pool();
    _exit(ouro_close(t->loop, OURO_FOREVER) == 0 ? 0 : 2);
}

static void parent_and_child_have_a_pool_each(struct test *t)
{
    ouro_op *op = stream(t, received), *mine = stream(t, received);
    int fds[2], status;
    pid_t child;

    make_pool(t);
    make_socketpair(t, fds);
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    CHECK_EQ(send(fds[1], "a", 1, 0), 1);
    let_pass(t);
    CHECK_EQ(counters(t).uncollected, 1);
    child = fork();
    if (child == 0)
        in_the_child(t, op, mine);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (unsigned i = 0; i < 3 * BUFFERS; i++) {
        CHECK_EQ(send(fds[1], "b", 1, 0), 1);
        await(t, i + 2);
    }
    CHECK(seen.bytes[0] == 'a' && seen.bytes[3 * BUFFERS] == 'b');
    cancel_and_finish(t, op);
    destroy_pool();
}

/* ---- Many that wait for a buffer ------------------------------------------------------------- */

#define CROWD 24u

static unsigned looks;

static long counted_statx(int dir, const char *path, int flags, unsigned mask, void *ret)
{
    looks++;
    return real.statx(dir, path, flags, mask, ret);
}

/* Each has a buffer full to receive; the first ones have got all that there are. */
static void crowd_starves(struct test *t, ouro_op *ops[CROWD], int fds[CROWD][2])
{
    char bytes[BUFFER_SIZE] = "";

    seen.keeps = true;
    make_pool(t);
    for (unsigned i = 0; i < CROWD; i++) {
        make_socketpair(t, fds[i]);
        CHECK_EQ(send(fds[i][1], bytes, sizeof(bytes), 0), sizeof(bytes));
        ouro_prep_recv_many(ops[i] = stream(t, received), fds[i][0], seen.pool, 0);
        start(t, ops[i]);
    }
    await(t, BUFFERS);
    let_rest(t);
    CHECK_EQ(seen.kept_count, BUFFERS);
}

static void end_crowd(struct test *t, ouro_op *ops[CROWD])
{
    for (unsigned i = 0; i < CROWD; i++)
        cancel_and_finish(t, ops[i]);
    destroy_pool();
}

static void one_buffer_starts_one_stream(struct test *t)
{
    ouro_op *ops[CROWD];
    int fds[CROWD][2];

    close_loop(t);
    real = ouro__sys;
    ouro__sys.statx = counted_statx;
    open_loop(t);
    crowd_starves(t, ops, fds);
    looks = 0;
    for (unsigned i = 0; seen.count < CROWD; i++) {
        CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[i % BUFFERS]), 0);
        seen.kept_count = i % BUFFERS;
        await(t, BUFFERS + i + 1);
    }
    CHECK(looks <= 4 * CROWD);
    seen.kept_count = BUFFERS;
    for (unsigned i = 0; i < BUFFERS; i++)
        CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[i]), 0);
    end_crowd(t, ops);
    close_loop(t);
    ouro__sys = real;
    open_loop(t);
}

/* Who would have had it next ends before he takes it. */
static void a_buffer_of_who_ends_is_for_the_next(struct test *t)
{
    ouro_op *ops[CROWD];
    int fds[CROWD][2];

    crowd_starves(t, ops, fds);
    CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[--seen.kept_count]), 0);
    for (unsigned i = 0; i < CROWD - 1; i++)
        CHECK_EQ(ouro_cancel(t->loop, ops[i]), 0);
    await(t, BUFFERS + 1);
    seen.keeps = false;
    for (unsigned i = 0; i < BUFFERS; i++)
        CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[i]), 0);
    cancel_and_finish(t, ops[CROWD - 1]);
    finish_all(t);
    destroy_pool();
}

/* All buffers have come home while nothing had come for those who got them. */
static void buffers_that_lie_idle_serve_all_who_wait(struct test *t)
{
    char bytes[BUFFER_SIZE] = "";
    ouro_op *ops[CROWD];
    int fds[CROWD][2];

    crowd_starves(t, ops, fds);
    for (unsigned i = 0; i < CROWD; i++)
        while (recv(fds[i][0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
    seen.kept_count = 0;
    seen.keeps = false;
    for (unsigned i = 0; i < BUFFERS; i++)
        CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[i]), 0);
    for (int i = 0; i < 8; i++) /* so often they may be looked at */
        let_rest(t);
    for (unsigned i = 0; i < CROWD; i++) {
        CHECK_EQ(send(fds[i][1], bytes, sizeof(bytes), 0), sizeof(bytes));
        await(t, BUFFERS + i + 1);
    }
    end_crowd(t, ops);
}

/* What most of them wait for is gone. */
static void a_buffer_that_is_left_is_for_the_next(struct test *t)
{
    ouro_op *ops[CROWD];
    int fds[CROWD][2];
    char bytes[BUFFER_SIZE];
    unsigned taken = 0;

    crowd_starves(t, ops, fds);
    for (unsigned i = 0; i < CROWD && taken < CROWD - BUFFERS - 1; i++)
        taken += recv(fds[i][0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0;
    CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[--seen.kept_count]), 0);
    await(t, BUFFERS + 1);
    seen.keeps = false;
    for (unsigned i = 0; i < BUFFERS; i++)
        CHECK_EQ(ouro_pool_release(seen.pool, seen.kept[i]), 0);
    end_crowd(t, ops);
}

/* ---- Readiness ------------------------------------------------------------------------------- */

static _Atomic unsigned thefts;

/* Somebody else is quicker each time. */
static long stolen_recv(int fd, void *buf, size_t len, int flags)
{
    if (thefts) {
        thefts--;
        return -EAGAIN;
    }
    return real.recv(fd, buf, len, flags);
}

static void bytes_that_others_took_end_no_stream(struct test *t)
{
    ouro_op *op = stream(t, received);
    int fds[2];

    real = ouro__sys;
    ouro__sys.recv = stolen_recv;
    make_pool(t);
    make_socketpair(t, fds);
    CHECK_EQ(send(fds[1], "x", 1, 0), 1);
    thefts = 500;
    ouro_prep_recv_many(op, fds[0], seen.pool, 0);
    start(t, op);
    await(t, 1);
    CHECK(!is_final(op));
    cancel_and_finish(t, op);
    destroy_pool();
    close_loop(t);
    ouro__sys = real;
    open_loop(t);
}

static long refused_ctl(int epoll, int code, int fd, unsigned events, uint64_t word)
{
    return fd >= 600 ? -ENOSPC : real.epoll_ctl(epoll, code, fd, events, word);
}

static void refuse_registration(struct test *t)
{
    close_loop(t);
    real = ouro__sys;
    ouro__sys.epoll_ctl = refused_ctl;
    open_loop(t);
}

static void permit_registration(struct test *t)
{
    close_loop(t);
    ouro__sys = real;
    open_loop(t);
}

/* Where epoll has no room for it, a worker waits, once for each time that something comes. */
static void a_worker_that_waits_for_a_stream_waits(struct test *t)
{
    ouro_op *op = stream(t, received);
    int fds[2], high;

    refuse_registration(t);
    make_pool(t);
    make_socketpair(t, fds);
    high = made(t, fcntl(fds[0], F_DUPFD_CLOEXEC, 600));
    ouro_prep_recv_many(op, high, seen.pool, 0);
    start(t, op);
    let_rest(t);
    CHECK(counters(t).pooled <= 1);
    for (unsigned i = 0; i < 2 * BUFFERS; i++) {
        CHECK_EQ(send(fds[1], "x", 1, 0), 1);
        await(t, i + 1);
    }
    CHECK(counters(t).pooled <= 2 * BUFFERS + 1);
    cancel_and_finish(t, op);
    destroy_pool();
    permit_registration(t);
}

/* The worker that accepts for it is called back. */
static void a_paused_stream_accepts_nothing(struct test *t)
{
    ouro_op *op = stream(t, accepted);
    struct sockaddr_in addr;
    int client, high;

    refuse_registration(t);
    high = made(t, fcntl(make_listener(t, &addr), F_DUPFD_CLOEXEC, 600));
    ouro_prep_accept_many(op, high, 0);
    start(t, op);
    let_rest(t);
    CHECK_EQ(ouro_pause(t->loop, op), 0);
    let_rest(t);
    client = connect_to(&addr);
    let_rest(t);
    CHECK_EQ(seen.count, 0);
    CHECK_EQ(ouro_resume(t->loop, op), 0);
    await(t, 1);
    cancel_and_finish(t, op);
    close(client);
    close(seen.fds[0]);
    permit_registration(t);
}

/* A program closes a connection behind the loop's back, and the next one gets its number: what
 * comes there is not for who waited on the first. */
static void a_new_connection_is_not_its_predecessor(struct test *t)
{
    ouro_op *door = stream(t, accepted), *old = op_new(t), *fresh = stream(t, received);
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr), first;
    int second = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte = 0;

    make_pool(t);
    ouro_prep_accept_many(door, listener, 0);
    start(t, door);
    first = connect_to(&addr);
    await(t, 1);
    ouro_prep_recv(old, seen.fds[0], &byte, 1, 0);
    start(t, old);
    let_rest(t);
    close(seen.fds[0]);
    CHECK_EQ(connect(second, (struct sockaddr *)&addr, sizeof(addr)), 0);
    await(t, 2);
    if (seen.fds[1] == seen.fds[0]) { /* a ring may have taken the number before */
        ouro_prep_recv_many(fresh, seen.fds[1], seen.pool, 0);
        start(t, fresh);
        let_rest(t);
        CHECK_EQ(send(second, "2", 1, 0), 1);
        await(t, 3);
        CHECK(byte == 0 && seen.bytes[0] == '2');
        if (!is_final(old)) /* the ring still has the first one */
            cancel_and_finish(t, old);
        else
            CHECK_EQ(RES(old), -EBADF);
        cancel_and_finish(t, fresh);
    }
    CHECK_EQ(ouro_cancel_all(t->loop), 0);
    reap_all(t);
    finish_all(t);
    close(first);
    close(second);
    close(seen.fds[1]);
    destroy_pool();
}

static const struct test_case cases[] = {
    { NAMED(who_waits_for_others_waits_for_no_place), .needs = NEED_DRIVER },
    { NAMED(a_stream_without_places_stops), .needs = NEED_DRIVER },
    { NAMED(who_is_notified_hears_of_streams_that_can_go_on), .needs = NEED_DRIVER },
    { NAMED(connections_that_nobody_collected_are_closed_with_the_loop), .needs = NEED_DRIVER },
    { NAMED(what_workers_bring_displaces_nothing), .needs = NEED_DRIVER },
    { NAMED(a_resumed_poll_waits_for_who_collects), .needs = NEED_DRIVER },
    { NAMED(a_resumed_timer_waits_for_who_collects), .needs = NEED_DRIVER },
    { NAMED(a_resumed_stream_reads_no_other_file), .needs = NEED_DRIVER, .pitfalls = "F3" },
    { NAMED(a_paused_stream_whose_descriptor_was_closed_ends), .needs = NEED_DRIVER },
    { NAMED(a_buffer_wakes_no_paused_stream), .needs = NEED_DRIVER },
    { NAMED(the_end_may_meet_a_pause), .needs = NEED_DRIVER },
    { NAMED(what_rests_can_be_cancelled_by_its_descriptor), .needs = NEED_DRIVER },
    { NAMED(what_rests_keeps_its_deadline), .needs = NEED_DRIVER },
    { NAMED(a_stream_starts_behind_its_barrier), .needs = NEED_DRIVER },
    { NAMED(the_last_callback_may_start_or_free_its_stream), .needs = NEED_DRIVER },
    { NAMED(a_done_stream_is_not_looked_at), .needs = NEED_DRIVER, .fixed = FIX_STYLE },
    { NAMED(a_posted_stream_that_is_refused_uses_no_pool), .needs = NEED_DRIVER },
    { NAMED(parent_and_child_have_a_pool_each), .needs = NEED_DRIVER },
    { NAMED(one_buffer_starts_one_stream), .needs = NEED_DRIVER },
    { NAMED(a_buffer_of_who_ends_is_for_the_next), .needs = NEED_DRIVER },
    { NAMED(buffers_that_lie_idle_serve_all_who_wait), .needs = NEED_DRIVER },
    { NAMED(a_buffer_that_is_left_is_for_the_next), .needs = NEED_DRIVER },
    { NAMED(bytes_that_others_took_end_no_stream), .needs = NEED_DRIVER },
    { NAMED(a_new_connection_is_not_its_predecessor), .needs = NEED_DRIVER, .pitfalls = "F3" },
    { NAMED(a_worker_that_waits_for_a_stream_waits), .needs = NEED_DRIVER },
    { NAMED(a_paused_stream_accepts_nothing), .needs = NEED_DRIVER },
    { 0 },
};

const struct subject subject_flow = { "flow", cases };

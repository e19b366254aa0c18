/* SPDX-License-Identifier: MIT */
/* t_posixaio.c: what is special about engine posixaio: which requests the C library gets, what its
 * words come to, and who hears of their end. */
#include <aio.h>
#include <sys/wait.h>

#include "sys.h"
#include "test.h"

enum { LIBC_THREADS = 20 /* harness.c says so */, FDS = 40, WRITES = 8 };

/* ---- Watching the table --------------------------------------------------------------------- */

static struct ouro__sys real;
static _Atomic int reads, writes, syncs, cancels;
static _Atomic int slow_fd;               /* its requests do not end */
static _Atomic int running[1024], twice;  /* requests by descriptor */
static _Atomic int64_t last_offset[1024]; /* ... must come in order */

static long watched_start(struct aiocb *request, int sync)
{
    int fd = request->aio_fildes;

    (*(sync ? &syncs : request->aio_lio_opcode == LIO_READ ? &reads : &writes))++;
    if (running[fd]++ || (!sync && request->aio_offset < last_offset[fd]))
        twice++;
    last_offset[fd] = request->aio_offset;
    return real.aio_start(request, sync);
}

static long watched_result(struct aiocb *request)
{
    int fd = request->aio_fildes;
    long r = fd == slow_fd ? -EINPROGRESS : real.aio_result(request);

    running[fd] -= r != -EINPROGRESS;
    return r;
}

static long watched_suspend(const struct aiocb *const *requests, unsigned count)
{
    long r = real.aio_suspend(requests, count);

    for (unsigned i = 0; i < count; i++)
        while (requests[i]->aio_fildes == slow_fd)
            usleep(1000);
    return r;
}

static long watched_cancel(int fd, struct aiocb *request)
{
    long r = real.aio_cancel(fd, request);

    cancels += r == AIO_CANCELED;
    return r;
}

static long refused_start(struct aiocb *request, int sync)
{
    (void)request, (void)sync;
    return -EAGAIN;
}

static long refused_thread(void **ret, void *(*fn)(void *), void *arg, size_t stack)
{
    (void)ret, (void)fn, (void)arg, (void)stack;
    return -EAGAIN;
}

/* Before the loop has threads that look at the table. */
static void watch_calls(struct test *t)
{
    real = ouro__sys;
    slow_fd = -1;
    ouro__sys.aio_start = watched_start;
    ouro__sys.aio_result = watched_result;
    ouro__sys.aio_suspend = watched_suspend;
    ouro__sys.aio_cancel = watched_cancel;
    t->config.mask |= OURO_CAP_NOWAIT; /* nothing is read on the spot */
    open_loop(t);
}

static void unwatch_calls(struct test *t)
{
    close_loop(t);
    t->loop = NULL;
    ouro__sys = real;
}

static int64_t size_of(int fd)
{
    return lseek(fd, 0, SEEK_END);
}

/* The engine itself has done it. */
static void check_native(ouro_op *op)
{
    CHECK(!(CFLAGS(op) & (OURO_C_POOLED | OURO_C_INLINE)));
}

/* ---- Which requests there are --------------------------------------------------------------- */

static void files_go_to_the_c_library(struct test *t)
{
    char text[64], back[64];
    struct iovec parts[2] = { { back, 32 }, { back + 32, 32 } };
    ouro_op *op = op_new(t);
    bool memory;
    int fd, ends[2];

    watch_calls(t);
    fd = make_file(t, "f", "", 0);
    memory = fcntl(fd, F_GET_SEALS) >= 0; /* such files are read in place */
    fill(text, sizeof text, 1);
    ouro_prep_write(op, fd, text, sizeof text, 0);
    CHECK_EQ(do_op(t, op), sizeof text);
    check_native(op);
    ouro_prep_fsync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_fdatasync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    check_native(op);
    ouro_prep_read(op, fd, back, sizeof back, 0);
    CHECK_EQ(do_op(t, op), sizeof back);
    check_filled(back, sizeof back, 1);
    CHECK(writes == 1 && syncs == 2 && reads == !memory);
    /* What it cannot do, or would keep its threads for ever. */
    ouro_prep_readv(op, fd, parts, 2, 0, 0);
    CHECK_EQ(do_op(t, op), sizeof back);
    ouro_prep_read(op, fd, back, sizeof back, OURO_CUR);
    CHECK(do_op(t, op) >= 0);
    make_pipe(t, ends);
    ouro_prep_write(op, ends[1], text, 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    CHECK(writes == 1 && syncs == 2 && reads == !memory);
    unwatch_calls(t);
}

/* More descriptors than the engine has requests for, and several operations on each of them. */
static void a_descriptor_has_one_request_at_a_time(struct test *t)
{
    static ouro_op *ops[FDS * WRITES];
    static char bytes[WRITES][8], back[WRITES][8];
    char name[16];
    int fds[FDS];

    watch_calls(t);
    for (int k = 0; k < WRITES; k++)
        fill(bytes[k], sizeof bytes[k], (uint32_t)k);
    for (int i = 0; i < FDS; i++) {
        snprintf(name, sizeof name, "f%d", i);
        fds[i] = make_file(t, name, "", 0);
    }
    for (int i = 0; i < FDS * WRITES; i++) {
        ops[i] = op_new(t);
        ouro_prep_write(ops[i], fds[i % FDS], bytes[i / FDS], 8, i / FDS * 8);
    }
    CHECK_EQ(start_n(t, ops, FDS * WRITES), FDS * WRITES);
    finish_all(t);
    CHECK_EQ(twice, 0);
    CHECK_EQ(writes, FDS * WRITES);
    for (int i = 0; i < FDS * WRITES; i++)
        CHECK_EQ(RES(ops[i]), 8);
    for (int i = 0; i < FDS; i++) {
        CHECK_EQ(pread(fds[i], back, sizeof back, 0), sizeof back);
        CHECK(memcmp(back, bytes, sizeof back) == 0);
    }
    unwatch_calls(t);
}

static void what_waits_is_for_the_file_that_it_named(struct test *t)
{
    ouro_op *first = op_new(t), *second = op_new(t);
    int fd, other;

    watch_calls(t);
    fd = make_file(t, "f", "", 0);
    other = make_file(t, "other", "", 0);
    slow_fd = fd;
    ouro_prep_write(first, fd, "a", 1, 0);
    ouro_prep_write(second, fd, "b", 1, 1);
    start(t, first);
    start(t, second);
    do { /* until the C library has done the first */
        CHECK(ouro_now(t->loop) < t->limit);
        let_pass(t);
    } while (size_of(fd) == 0);
    CHECK(!is_final(first) && !is_final(second));
    CHECK_EQ(dup3(other, fd, O_CLOEXEC), fd);
    slow_fd = -1;
    CHECK_EQ(finish(t, first), 1);
    CHECK_EQ(finish(t, second), -EBADF);
    CHECK_EQ(size_of(other), 0);
    unwatch_calls(t);
}

/* The descriptor is a stream now, for which a thread of the C library would wait for ever. */
static void what_waits_does_not_read_a_stream(struct test *t)
{
    ouro_op *first = op_new(t), *second = op_new(t);
    int fd, ends[2];
    char byte;

    watch_calls(t);
    fd = make_file(t, "f", "", 0);
    make_socketpair(t, ends);
    slow_fd = fd;
    ouro_prep_write(first, fd, "a", 1, 0);
    start(t, first);
    let_pass(t);
    unmade(t, fd);
    CHECK_EQ(dup3(ends[0], fd, O_CLOEXEC), fd);
    ouro_prep_read(second, fd, &byte, 1, 0);
    start(t, second);
    let_pass(t);
    slow_fd = -1;
    CHECK_EQ(finish(t, first), 1);
    let_pass(t);
    ouro_cancel(t->loop, second);
    finish_canceled(t, second);
    CHECK_EQ(reads, 0);
    unwatch_calls(t);
    close(fd);
}

/* ---- What the C library refuses ------------------------------------------------------------- */

static void what_it_refuses_goes_to_workers(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd, readonly;

    watch_calls(t);
    fd = make_file(t, "f", "", 0);
    readonly = made(t, open(path_in(t, "f"), O_RDONLY | O_CLOEXEC));
    ouro_prep_fsync(op, readonly); /* EBADF of glibc's aio_fsync, 0 of fsync(2) */
    CHECK_EQ(do_op(t, op), 0);
    ouro__sys.aio_start = refused_start;
    ouro_prep_write(op, fd, "abc", 3, 0);
    CHECK_EQ(do_op(t, op), 3);
    CHECK(CFLAGS(op) & OURO_C_POOLED);
    CHECK_EQ(size_of(fd), 3);
    unwatch_calls(t);
}

/* All threads that it may have wait for what the program itself has asked for. */
static void a_cancelled_request_has_done_nothing(struct test *t)
{
    ouro_op *first = op_new(t), *second = op_new(t);
    static struct aiocb blockers[LIBC_THREADS];
    static char bytes[LIBC_THREADS];
    int ends[2], fd;

    watch_calls(t);
    make_pipe(t, ends);
    for (int i = 0; i < LIBC_THREADS; i++) {
        blockers[i].aio_fildes = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
        blockers[i].aio_buf = &bytes[i];
        blockers[i].aio_nbytes = 1;
        blockers[i].aio_sigevent.sigev_notify = SIGEV_NONE;
        CHECK_EQ(aio_read(&blockers[i]), 0);
    }
    fd = make_file(t, "f", "", 0);
    ouro_prep_write(first, fd, "a", 1, 0);
    ouro_prep_write(second, fd, "b", 1, 1);
    start(t, first);
    start(t, second);
    let_pass(t);
    CHECK(!is_final(first) && !is_final(second));
    ouro_cancel(t->loop, second); /* the C library has not seen it yet */
    finish_canceled(t, second);
    CHECK(!is_final(first) && cancels == 0);
    ouro_cancel(t->loop, first);
    finish_canceled(t, first);
    CHECK_EQ(cancels, 1);
    CHECK_EQ(size_of(fd), 0);
    for (int i = 0; i < LIBC_THREADS; i++)
        CHECK_EQ(write(ends[1], "x", 1), 1);
    for (int i = 0; i < LIBC_THREADS; i++) {
        const struct aiocb *one = &blockers[i];

        while (aio_error(one) == EINPROGRESS)
            aio_suspend(&one, 1, NULL);
        CHECK_EQ(aio_return(&blockers[i]), 1);
        close(blockers[i].aio_fildes);
    }
    unwatch_calls(t);
}

/* ---- Who hears of ends ---------------------------------------------------------------------- */

/* The driver has slept with the first one alone, and sleeps with both. */
static void a_later_request_is_heard_of_before_an_earlier_one(struct test *t)
{
    ouro_op *first = op_new(t), *second = op_new(t), *timer = op_new(t);
    int slow, fast;

    watch_calls(t);
    slow = make_file(t, "slow", "", 0);
    fast = make_file(t, "fast", "", 0);
    slow_fd = slow;
    ouro_prep_write(first, slow, "a", 1, 0);
    start(t, first);
    ouro_prep_timer(timer, in_ms(t, 20));
    CHECK_EQ(do_op(t, timer), 0);
    ouro_prep_write(second, fast, "b", 1, 0);
    CHECK_EQ(do_op(t, second), 1);
    CHECK(!is_final(first));
    slow_fd = -1;
    CHECK_EQ(finish(t, first), 1);
    unwatch_calls(t);
}

static void without_a_thread_ends_are_looked_for(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd;

    watch_calls(t);
    ouro__sys.thread = refused_thread;
    fd = make_file(t, "f", "", 0);
    for (int i = 0; i < 3; i++) {
        ouro_prep_write(op, fd, "a", 1, i);
        CHECK_EQ(do_op(t, op), 1);
        check_native(op);
    }
    unwatch_calls(t);
}

static void no_thread_watches_what_is_no_file(struct test *t)
{
    ouro_op *op = op_new(t);
    long threads = count_threads();
    int ends[2];
    char byte;

    make_pipe(t, ends);
    ouro_prep_read(op, ends[0], &byte, 1, 0);
    start(t, op);
    let_pass(t);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(count_threads(), threads);
}

/* ---- In a child ----------------------------------------------------------------------------- */

/* Alone, round the ledger: 0 or what was wrong. */
static int write_in_child(struct test *t, int fd)
{
    ouro_op op = { 0 };
    ouro_loop *loop;
    ouro_config config = t->config;

    config.threading = OURO_OWNED;
    if (ouro_open(&config, &loop) < 0 || strcmp(ouro_engine_name(loop), "posixaio") != 0)
        return 1;
    ouro_prep_write(&op, fd, "child", 5, 0);
    if (ouro_submit(loop, &op) < 0 || ouro_wait(loop, &op, ouro_now(loop) + 5 * OURO_S) < 0)
        return 2;
    if (op.res != 5 || !(op.cflags & OURO_C_POOLED))
        return 3;
    return ouro_close(loop, OURO_FOREVER) == 0 ? 0 : 4;
}

/* The C library's threads, which it would wait for, are the parent's alone. */
static void a_child_of_its_user_writes_without_it(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd, status;
    pid_t child;

    watch_calls(t);
    fd = make_file(t, "f", "", 0);
    ouro_prep_write(op, fd, "parent", 6, 0);
    CHECK_EQ(do_op(t, op), 6);
    child = fork();
    if (child == 0)
        _exit(write_in_child(t, fd));
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    ouro_prep_write(op, fd, "parent", 6, 0);
    CHECK_EQ(do_op(t, op), 6);
    check_native(op);
    unwatch_calls(t);
}

#define SPECIAL .needs = NEED_POSIXAIO, .fixed = FIX_FD | FIX_MASK
static const struct test_case cases[] = {
    { NAMED(files_go_to_the_c_library), SPECIAL, .no_loop = true },
    { NAMED(a_descriptor_has_one_request_at_a_time), SPECIAL, .no_loop = true },
    { NAMED(what_waits_is_for_the_file_that_it_named), SPECIAL, .no_loop = true },
    { NAMED(what_waits_does_not_read_a_stream), SPECIAL, .no_loop = true },
    { NAMED(what_it_refuses_goes_to_workers), SPECIAL, .no_loop = true },
    { NAMED(a_cancelled_request_has_done_nothing), SPECIAL, .no_loop = true },
    { NAMED(a_later_request_is_heard_of_before_an_earlier_one), SPECIAL, .no_loop = true },
    { NAMED(without_a_thread_ends_are_looked_for), SPECIAL, .no_loop = true },
    { NAMED(no_thread_watches_what_is_no_file), SPECIAL },
    { NAMED(a_child_of_its_user_writes_without_it), SPECIAL, .no_loop = true },
    { .name = NULL },
};
const struct subject subject_posixaio = { "posixaio", cases };

/* SPDX-License-Identifier: MIT */
/* t_kaio.c: what is special to the engine of the kernel's older AIO: which operations go to
 * io_submit, when they do not, what a full context holds up, how completions come, and what is left
 * of a context. Calls are seen, held back or answered by the table of system calls. */
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "engine/kaio_context.h"
#include "sys.h"
#include "test.h"

#if defined(__has_include)
#if __has_include(<linux/aio_abi.h>)
#include <linux/aio_abi.h>
#define ABI_HEADER 1
#endif
#endif

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

enum { BLOCK = 4096, BLOCKS = 64, SIZE = BLOCK * BLOCKS, READS_MOST = 900, HELD_MOST = 64 };
static _Alignas(BLOCK) char data[SIZE], got[READS_MOST * BLOCK];

/* ---- The calls ------------------------------------------------------------------------------ */

static struct ouro__sys real;
static _Atomic long setups, destroys, requests, looks;
static _Atomic int setup_error;       /* io_setup says so */
static _Atomic bool missing;          /* there is no such call */
static _Atomic bool tiny, hidden;     /* it makes a small context; one of an unknown form */
static _Atomic bool holding, cutting; /* requests do not begin; are for less than was asked */

static struct {
    pthread_mutex_t lock;
    struct kaio_control at[HELD_MOST];
    unsigned count;
    unsigned long context;
} held = { .lock = PTHREAD_MUTEX_INITIALIZER };

static long seen_setup(unsigned count, unsigned long *ret)
{
    long r;

    if (missing)
        return -ENOSYS;
    if (!ret) /* a question only */
        return real.io_setup(count, ret);
    if (setup_error)
        return setup_error;
    r = real.io_setup(tiny ? 1 : count, ret);
    setups += r == 0;
    if (r == 0 && hidden)
        ((struct kaio_ring *)*ret)->magic = 0;
    return r;
}

static long seen_destroy(unsigned long context)
{
    long r = real.io_destroy(context);

    destroys += r == 0;
    return r;
}

static long seen_getevents(unsigned long context, long most, struct kaio_event *ret)
{
    looks++;
    return real.io_getevents(context, most, ret);
}

/* Half of what is one piece, or of the vectors. */
static void cut(struct kaio_control *control)
{
    if (control->code != KAIO_FSYNC && control->code != KAIO_FDATASYNC)
        control->len /= 2;
}

static long seen_submit(unsigned long context, long count, struct kaio_control *batch[])
{
    long r;

    if (holding) {
        pthread_mutex_lock(&held.lock);
        for (long i = 0; i < count; i++) {
            CHECK(held.count < HELD_MOST);
            held.at[held.count++] = *batch[i];
        }
        held.context = context;
        pthread_mutex_unlock(&held.lock);
        return count;
    }
    for (long i = 0; cutting && i < count; i++)
        cut(batch[i]);
    r = real.io_submit(context, count, batch);
    requests += r > 0 ? r : 0;
    return r;
}

/* What was held begins; with fd on that file instead; if silent, no bell rings at its end. */
static void release_held(int fd, bool silent)
{
    struct kaio_control *one;

    holding = false;
    for (unsigned i = 0; i < held.count; i++) {
        one = &held.at[i];
        if (fd >= 0)
            one->fd = (uint32_t)fd;
        if (silent)
            one->flags = 0;
        CHECK_EQ(real.io_submit(held.context, 1, &one), 1);
    }
    held.count = 0;
}

static void see_calls(void)
{
    real = ouro__sys;
    ouro__sys.io_setup = seen_setup;
    ouro__sys.io_destroy = seen_destroy;
    ouro__sys.io_submit = seen_submit;
    ouro__sys.io_getevents = seen_getevents;
}

/* Opens the loop with the calls seen; io_getevents is tried at its opening. */
static void open_seen(struct test *t)
{
    see_calls();
    open_loop(t);
    looks = 0;
}

static unsigned contexts(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned count = 0;

    CHECK(file != NULL);
    while (fgets(line, sizeof line, file))
        count += strstr(line, "/[aio]") != NULL;
    fclose(file);
    return count;
}

static void close_seen(struct test *t)
{
    close_loop(t);
    CHECK_EQ(destroys, setups);
    CHECK_EQ(contexts(), 0);
    ouro__sys = real;
}

/* ---- Files ---------------------------------------------------------------------------------- */

static int make_blocks(struct test *t)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        fill(data + (size_t)i * BLOCK, BLOCK, i);
    memset(got, 0, sizeof got);
    return make_direct(t, "f", data, SIZE);
}

/* A file in memory may be open with O_DIRECT, too, but there is nothing to be asynchronous; and
 * without RWF_NOWAIT nothing is tried. */
static bool is_asynchronous(const struct test *t, int fd)
{
    struct iovec iov = { got, BLOCK };

    if (t->mask == MASK_CACHE)
        return false;
    return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;
}

static void prep_block(ouro_op *op, int fd, uint32_t block)
{
    ouro_prep_read(op, fd, got + (size_t)block * BLOCK, BLOCK, (int64_t)(block % BLOCKS) * BLOCK);
}

static void start_reads(struct test *t, ouro_op **ops, uint32_t count, int fd)
{
    for (uint32_t i = 0; i < count; i++) {
        prep_block(ops[i] = op_new(t), fd, i);
        start(t, ops[i]);
    }
    step(t);
}

static void finish_reads(struct test *t, ouro_op **ops, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(finish(t, ops[i]), BLOCK);
        check_filled(got + (size_t)i * BLOCK, BLOCK, i % BLOCKS);
    }
}

static void expect_native(struct test *t, ouro_op *op, int64_t result)
{
    long before = requests;

    CHECK_EQ(do_op(t, op), result);
    CHECK_EQ(CFLAGS(op) & (OURO_C_POOLED | OURO_C_INLINE), 0);
    CHECK_EQ(requests, before + 1);
}

/* ---- What goes to the kernel ---------------------------------------------------------------- */

static void direct_files_go_to_the_kernel(struct test *t)
{
    struct iovec iov[2] = { { got, BLOCK }, { got + BLOCK, BLOCK } };
    ouro_op *op = op_new(t);
    int fd;

    open_seen(t);
    fd = make_blocks(t);
    if (is_asynchronous(t, fd)) {
        prep_block(op, fd, 5);
        expect_native(t, op, BLOCK);
        ouro_prep_readv(op, fd, iov, 2, BLOCK, 0);
        expect_native(t, op, 2 * BLOCK);
        prep_block(op, fd, BLOCKS - 1); /* its end is the file's: no second look */
        op->arg[2] = 2 * BLOCK;
        expect_native(t, op, BLOCK);
    }
    ouro_prep_fsync(op, fd);
    expect_native(t, op, 0);
    ouro_prep_fdatasync(op, fd);
    expect_native(t, op, 0);
    ouro_prep_write(op, fd, data, BLOCK, 0);
    CHECK_EQ(do_op(t, op), BLOCK);
    ouro_prep_writev(op, fd, iov, 2, BLOCK, 0);
    CHECK_EQ(do_op(t, op), 2 * BLOCK);
    CHECK_EQ(looks, 0); /* completions are read from memory */
    CHECK_EQ(ouro_support(t->loop, OURO_FSYNC, 0), OURO_NATIVE);
    close_seen(t);
}

static void nothing_else_makes_a_context(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd;

    open_seen(t);
    make_pipe(t, fds);
    fd = make_file(t, "f", "abc", 3);
    ouro_prep_read(op, fd, got, 10, 0);
    CHECK_EQ(do_op(t, op), 3);
    ouro_prep_write(op, fd, "defg", 4, 3);
    CHECK_EQ(do_op(t, op), 4);
    ouro_prep_fsync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_write(op, fds[1], "x", 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    ouro_prep_read(op, fds[0], got, 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    fd = make_blocks(t);
    ouro_prep_read(op, fd, got, BLOCK, OURO_CUR);
    CHECK_EQ(do_op(t, op), BLOCK);
    CHECK_EQ(requests, 0);
    CHECK_EQ(setups, 0);
    CHECK_EQ(contexts(), 0);
    close_seen(t);
}

/* They are direct in name only: io_submit would copy all of it before it returns. */
static void files_in_memory_are_for_workers(struct test *t)
{
    ouro_op *op = op_new(t);
    char path[64];
    int fd = made(t, memfd_create("m", MFD_CLOEXEC)), direct;

    open_seen(t);
    fill(data, BLOCK, 3);
    CHECK_EQ(pwrite(fd, data, BLOCK, 0), BLOCK);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct >= 0) { /* from 6.6 on */
        made(t, direct);
        ouro_prep_read(op, direct, got, BLOCK, 0);
        CHECK_EQ(do_op(t, op), BLOCK);
        CHECK(CFLAGS(op) & OURO_C_POOLED);
        check_filled(got, BLOCK, 3);
    }
    close_seen(t);
}

/* ---- When it would wait --------------------------------------------------------------------- */

/* An empty pipe that refuses to wait gives the answer of a file that would. */
static void what_would_wait_goes_to_a_worker(struct test *t)
{
    ouro_op *ops[4];
    int fds[2], fd;

    open_seen(t);
    make_pipe(t, fds);
    fd = make_blocks(t);
    holding = true;
    start_reads(t, ops, 4, fd);
    CHECK_EQ(held.count, 4);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[3])), 0);
    let_pass(t);
    CHECK(!is_final(ops[3]));
    for (unsigned i = 0; i < held.count; i++)
        CHECK(held.at[i].rw_flags & RWF_NOWAIT);
    release_held(fds[0], false);
    finish_canceled(t, ops[3]); /* it has done nothing yet */
    finish_reads(t, ops, 3);
    for (int i = 0; i < 3; i++)
        CHECK(CFLAGS(ops[i]) & OURO_C_POOLED);
    close_seen(t);
}

static void parts_are_completed(struct test *t)
{
    struct iovec iov[4];
    ouro_op *op = op_new(t);
    int fd;

    open_seen(t);
    fd = make_blocks(t);
    cutting = true;
    ouro_prep_read(op, fd, got, SIZE, 0);
    CHECK_EQ(do_op(t, op), SIZE);
    CHECK(memcmp(got, data, SIZE) == 0);
    op->flags = OURO_EXACT;
    memset(got, 0, SIZE);
    CHECK_EQ(do_op(t, op), SIZE);
    CHECK(memcmp(got, data, SIZE) == 0);
    for (int i = 0; i < 4; i++)
        iov[i] = (struct iovec){ got + i * BLOCK, BLOCK };
    memset(got, 0, SIZE);
    ouro_prep_readv(op, fd, iov, 4, 0, 0);
    CHECK_EQ(do_op(t, op), 4 * BLOCK);
    CHECK(memcmp(got, data, 4 * BLOCK) == 0);
    fill(data, SIZE, 77);
    ouro_prep_write(op, fd, data, SIZE, 0);
    CHECK_EQ(do_op(t, op), SIZE);
    CHECK_EQ(op->cause, 0);
    cutting = false;
    CHECK_EQ(pread(fd, got, SIZE, 0), SIZE);
    CHECK(memcmp(got, data, SIZE) == 0);
    close_seen(t);
}

/* A pipe with room for less gives the answer of a file that is written in part; what it took is not
 * written again. */
static void a_written_part_is_not_written_again(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd;

    open_seen(t);
    make_pipe(t, fds);
    CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, BLOCK), BLOCK);
    fd = make_blocks(t);
    memset(got, 'w', 2 * BLOCK);
    holding = true;
    ouro_prep_write(op, fd, got, 2 * BLOCK, 0);
    start(t, op);
    step(t);
    CHECK_EQ(held.count, 1);
    release_held(fds[1], false);
    CHECK_EQ(finish(t, op), 2 * BLOCK);
    CHECK_EQ(pread(fd, got, 3 * BLOCK, 0), 3 * BLOCK);
    check_filled(got, BLOCK, 0);
    CHECK(got[BLOCK] == 'w' && got[2 * BLOCK - 1] == 'w');
    check_filled(got + 2 * BLOCK, BLOCK, 2);
    close_seen(t);
}

/* ---- A context that is full, or not to be had ----------------------------------------------- */

static void a_full_context_holds_up_nothing_else(struct test *t)
{
    enum { COUNT = 10, ROOM = 4 };
    ouro_op *ops[COUNT], *op = op_new(t);
    char byte;
    int fds[2], fd;

    t->config.depth = ROOM;
    open_seen(t);
    make_pipe(t, fds);
    fd = make_blocks(t);
    holding = true;
    start_reads(t, ops, COUNT, fd);
    CHECK_EQ(held.count, ROOM);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    prep_block(op, fd, 0);
    op->deadline = in_ms(t, 5);
    CHECK_EQ(do_op(t, op), -ETIMEDOUT);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[COUNT - 1])), 0);
    finish_canceled(t, ops[COUNT - 1]);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(ops[0])), 0); /* the kernel has it: too late */
    let_pass(t);
    CHECK_EQ(held.count, ROOM);
    for (int i = 0; i < COUNT - 1; i++)
        CHECK(!is_final(ops[i]));
    release_held(-1, false);
    finish_reads(t, ops, COUNT - 1);
    close_seen(t);
}

/* The kernel says -EAGAIN before the engine thinks that it is full. */
static void a_smaller_context_than_thought_serves_all(struct test *t)
{
    enum { COUNT = READS_MOST };
    static ouro_op *ops[COUNT];
    int fd;

    tiny = true;
    t->config.depth = 512;
    open_seen(t);
    fd = make_blocks(t);
    start_reads(t, ops, COUNT, fd);
    finish_reads(t, ops, COUNT);
    for (int i = 0; is_asynchronous(t, fd) && i < COUNT; i++)
        CHECK_EQ(CFLAGS(ops[i]) & OURO_C_POOLED, 0);
    close_seen(t);
}

static void without_a_context_workers_do_it(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd;

    open_seen(t);
    fd = make_blocks(t);
    setup_error = -EAGAIN;
    for (uint32_t i = 0; i < 3; i++) {
        prep_block(op, fd, i);
        CHECK_EQ(do_op(t, op), BLOCK);
        check_filled(got + (size_t)i * BLOCK, BLOCK, i);
        CHECK(CFLAGS(op) & OURO_C_POOLED);
        ouro_prep_fsync(op, fd);
        CHECK_EQ(do_op(t, op), 0);
    }
    CHECK_EQ(setups, 0);
    setup_error = 0;
    ouro_prep_timer(op, in_ms(t, 1100)); /* then it is asked for again */
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_fsync(op, fd);
    expect_native(t, op, 0);
    CHECK_EQ(setups, 1);
    close_seen(t);
}

/* Without io_submit from now on: it is refused, as a late filter does it. */
static void requests_refused_at_work_go_to_workers(struct test *t)
{
    const long number = SYS_io_submit;
    ouro_op *ops[BLOCKS];
    int fd;

    open_loop(t);
    fd = make_blocks(t);
    start_reads(t, ops, BLOCKS, fd);
    block_calls(&number, 1, EPERM);
    finish_reads(t, ops, BLOCKS);
    start_reads(t, ops, BLOCKS, fd);
    finish_reads(t, ops, BLOCKS);
    for (int i = 0; i < BLOCKS; i++)
        CHECK(CFLAGS(ops[i]) & OURO_C_POOLED);
    close_loop(t);
    CHECK_EQ(contexts(), 0);
}

/* ---- Refused when the loop opens ------------------------------------------------------------- */

static void refused(struct test *t, const char *word, const char *other)
{
    ouro_loop *loop = NULL;
    char why[512] = "";

    t->config.engine = "kaio";
    CHECK_EQ(ouro_open(&t->config, &loop), -EOPNOTSUPP);
    CHECK(loop == NULL);
    CHECK(ouro_probe("kaio", why, sizeof why, NULL) < 0);
    if (!strstr(why, word) || !strstr(why, other))
        FAIL("%s and %s are not in: %s", word, other, why);
    t->config.engine = "kaio,epoll";
    open_loop(t);
    CHECK(strcmp(ouro_engine_name(t->loop), "epoll") == 0);
    CHECK(strstr(ouro_engine_why(t->loop), word) != NULL);
    close_loop(t);
}

static void refused_call(struct test *t, long number, int error, const char *name)
{
    block_calls(&number, 1, error);
    refused(t, name, error == BLOCK_KILL ? "kills" : error == EPERM ? "EPERM" : "ENOSYS");
}

static void setup_refused(struct test *t)
{
    refused_call(t, SYS_io_setup, EPERM, "io_setup");
}

static void setup_hidden(struct test *t)
{
    refused_call(t, SYS_io_setup, ENOSYS, "io_setup");
}

static void setup_kills_the_probe_only(struct test *t)
{
    refused_call(t, SYS_io_setup, BLOCK_KILL, "io_setup");
}

static void submit_refused(struct test *t)
{
    refused_call(t, SYS_io_submit, EPERM, "io_submit");
}

static void destroy_kills_the_probe_only(struct test *t)
{
    refused_call(t, SYS_io_destroy, BLOCK_KILL, "io_destroy");
}

static void a_kernel_without_it_is_named(struct test *t)
{
    see_calls();
    missing = true;
    refused(t, "ENOSYS", "CONFIG_AIO");
    ouro__sys = real;
}

static const char *taken_path, *most_path;

static long other_numbers(int dir, const char *path, int flags, unsigned mode)
{
    if (strcmp(path, "/proc/sys/fs/aio-nr") == 0)
        path = taken_path;
    else if (strcmp(path, "/proc/sys/fs/aio-max-nr") == 0)
        path = most_path;
    return real.openat(dir, path, flags, mode);
}

static void a_system_without_requests_left_is_named(struct test *t)
{
    ouro_op *op = op_new(t);

    make_file(t, "taken", "40963\n", 6);
    make_file(t, "most", "40970\n", 6);
    taken_path = path_in(t, "taken");
    most_path = path_in(t, "most");
    real = ouro__sys;
    ouro__sys.openat = other_numbers;
    refused(t, "40963 requests (fs.aio-nr) of 40970 (fs.aio-max-nr)", "EAGAIN");
    taken_path = most_path = path_in(t, "no such file"); /* hidden: nobody knows */
    t->config.engine = "kaio";
    open_loop(t);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    close_loop(t);
    ouro__sys = real;
}

/* ---- Completions ---------------------------------------------------------------------------- */

static void a_ring_of_another_form_is_asked_by_a_call(struct test *t)
{
    enum { COUNT = 300 };
    static ouro_op *ops[COUNT];
    int fd;

    hidden = true;
    open_seen(t);
    fd = make_blocks(t);
    start_reads(t, ops, COUNT, fd);
    finish_reads(t, ops, COUNT);
    CHECK(!requests || looks > 0);
    close_seen(t);
}

/* The ring of events goes round many times. */
static void thousands_of_reads_come_back(struct test *t)
{
    static ouro_op *ops[BLOCKS];
    int fd;

    t->config.depth = 8;
    open_seen(t);
    fd = make_blocks(t);
    for (int i = 0; i < BLOCKS; i++)
        ops[i] = op_new(t);
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < BLOCKS; i++)
            prep_block(ops[i], fd, i);
        CHECK_EQ(start_n(t, ops, BLOCKS), BLOCKS);
        finish_reads(t, ops, BLOCKS);
        memset(got, 0, sizeof got);
    }
    CHECK_EQ(looks, 0);
    close_seen(t);
}

static struct test *shared_test;
static int shared_fd;

static void *read_many(void *arg)
{
    char *buf = aligned_alloc(BLOCK, BLOCK);
    uint32_t first = (uint32_t)(uintptr_t)arg;

    CHECK(buf != NULL);
    for (uint32_t i = 0; i < 200; i++) {
        ouro_op op = { 0 };
        uint32_t block = (first + i) % BLOCKS;

        ouro_prep_read(&op, shared_fd, buf, BLOCK, (int64_t)block * BLOCK);
        CHECK_EQ(ouro_do(shared_test->loop, &op), BLOCK);
        check_filled(buf, BLOCK, block);
    }
    free(buf);
    return NULL;
}

static void threads_share_a_context(struct test *t)
{
    pthread_t threads[4];

    open_seen(t);
    shared_test = t;
    shared_fd = make_blocks(t);
    for (uintptr_t i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, read_many, (void *)(i * 16)), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    close_seen(t);
}

/* ---- Descriptors that change hands ---------------------------------------------------------- */

/* Many reads one after the other: if nobody heard of their ends, each would take 10 ms. */
static void reads_are_quick(struct test *t, int fd)
{
    ouro_time since = ouro_now(t->loop);
    ouro_op *op = op_new(t);

    for (uint32_t i = 0; i < 200; i++) {
        prep_block(op, fd, i % BLOCKS);
        CHECK_EQ(do_op(t, op), BLOCK);
    }
    CHECK(ouro_now(t->loop) - since < seconds_scaled(1) * OURO_S);
}

static void a_bell_that_was_closed_rings_nobody_elses(struct test *t)
{
    ouro_op *ops[3];
    uint64_t value;
    int fd, bell, mine;

    open_seen(t);
    fd = make_blocks(t);
    holding = true;
    start_reads(t, ops, 3, fd);
    CHECK(held.at[0].flags & KAIO_FLAG_BELL);
    bell = (int)held.at[0].bell_fd;
    mine = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(mine >= 0 && dup2(mine, bell) == bell);
    close(mine);
    step(t); /* a host may learn of nothing else */
    release_held(fd, true);
    finish_reads(t, ops, 3); /* nothing tells of their ends */
    reads_are_quick(t, fd);
    CHECK_EQ(plain(read(bell, &value, sizeof value)), -EAGAIN);
    close_loop(t);
    CHECK_EQ(close(bell), 0);
    CHECK_EQ(contexts(), 0);
    ouro__sys = real;
}

static void reads_survive_that_all_is_closed(struct test *t)
{
    ouro_op *ops[3];
    bool others[64];
    int fd;

    fd = make_blocks(t);
    for (int i = 0; i < 64; i++)
        others[i] = fcntl(i, F_GETFD) >= 0;
    open_seen(t);
    holding = true;
    start_reads(t, ops, 3, fd);
    for (int i = 0; i < 64; i++)
        if (!others[i])
            close(i);
    release_held(fd, true);
    finish_reads(t, ops, 3);
    reads_are_quick(t, fd);
    close_seen(t);
}

/* The number of a direct file becomes a pipe's, while something is in flight on the file. */
static void a_file_that_became_a_pipe_is_waited_for(struct test *t)
{
    ouro_op *first[1], *op = op_new(t);
    int fds[2], fd, old;

    open_seen(t);
    make_pipe(t, fds);
    fd = make_blocks(t);
    old = made(t, dup(fd));
    holding = true;
    start_reads(t, first, 1, fd);
    unmade(t, fd);
    CHECK_EQ(dup2(fds[0], fd), fd);
    made(t, fd);
    holding = false;
    for (int i = 0; i < 2; i++) {
        ouro_prep_read(op, fd, got + BLOCK, 10, 0);
        start(t, op);
        let_pass(t);
        CHECK(!is_final(op));
        if (i == 1) {
            CHECK_EQ(write(fds[1], "abc", 3), 3);
            CHECK_EQ(finish(t, op), 3);
        } else {
            CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
            finish_canceled(t, op);
        }
    }
    release_held(old, false);
    CHECK_EQ(finish(t, first[0]), BLOCK);
    close_seen(t);
}

/* ---- The end of a context ------------------------------------------------------------------- */

static void a_closed_loop_leaves_no_context(struct test *t)
{
    ouro_op *op = op_new(t);
    int fd;

    see_calls();
    fd = make_blocks(t);
    for (int i = 1; i <= 5; i++) {
        open_loop(t);
        ouro_prep_fsync(op, fd);
        CHECK_EQ(do_op(t, op), 0);
        CHECK_EQ(contexts(), 1);
        close_loop(t);
        CHECK_EQ(contexts(), 0);
        CHECK(setups == i && destroys == i);
    }
    ouro__sys = real;
}

static void a_child_has_nothing_of_it(struct test *t)
{
    ouro_op *ops[3];
    int fd;

    open_seen(t);
    fd = make_blocks(t);
    for (int how = 0; how < 3; how++) {
        holding = true;
        start_reads(t, ops, 3, fd);
        pid_t child = fork();
        if (child == 0) {
            ouro_op mine = { 0 };

            holding = false;
            CHECK_EQ(contexts(), 0);
            if (how == 1) {
                CHECK_EQ(ouro_fork_child(t->loop), 0);
                ouro_prep_read(&mine, fd, got, BLOCK, 0);
                CHECK_EQ(ouro_do(t->loop, &mine), BLOCK);
            }
            if (how) {
                CHECK_EQ(ouro_close(t->loop, OURO_FOREVER), 0);
                CHECK_EQ(contexts(), 0);
            }
            _exit(0);
        }
        expect_exit_zero(child);
        release_held(-1, false);
        finish_reads(t, ops, 3);
    }
    close_seen(t);
}

/* ---- Numbers and layouts -------------------------------------------------------------------- */

static void layouts_are_the_kernels(struct test *t)
{
    (void)t;
#ifdef ABI_HEADER
#define SAME(ours, a, b)                                                       \
    CHECK_EQ(offsetof(struct kaio_##ours, a), offsetof(struct ABI_##ours, b)); \
    CHECK_EQ(sizeof(((struct kaio_##ours *)0)->a), sizeof(((struct ABI_##ours *)0)->b))
#define ABI_control iocb
#define ABI_event io_event
    CHECK_EQ(sizeof(struct kaio_control), sizeof(struct iocb));
    CHECK_EQ(sizeof(struct kaio_event), sizeof(struct io_event));
    SAME(control, data, aio_data);
    SAME(control, key, aio_key);
    SAME(control, rw_flags, aio_rw_flags);
    SAME(control, code, aio_lio_opcode);
    SAME(control, priority, aio_reqprio);
    SAME(control, fd, aio_fildes);
    SAME(control, buf, aio_buf);
    SAME(control, len, aio_nbytes);
    SAME(control, offset, aio_offset);
    SAME(control, flags, aio_flags);
    SAME(control, bell_fd, aio_resfd);
    SAME(event, data, data);
    SAME(event, control, obj);
    SAME(event, res, res);
    SAME(event, res2, res2);
    CHECK_EQ(KAIO_READ, IOCB_CMD_PREAD);
    CHECK_EQ(KAIO_WRITE, IOCB_CMD_PWRITE);
    CHECK_EQ(KAIO_READV, IOCB_CMD_PREADV);
    CHECK_EQ(KAIO_WRITEV, IOCB_CMD_PWRITEV);
    CHECK_EQ(KAIO_FSYNC, IOCB_CMD_FSYNC);
    CHECK_EQ(KAIO_FDATASYNC, IOCB_CMD_FDSYNC);
    CHECK_EQ(KAIO_FLAG_BELL, IOCB_FLAG_RESFD);
#endif
    CHECK_EQ(offsetof(struct kaio_ring, events), 32);
}

#define ALONE .needs = NEED_KAIO, .no_loop = true
#define HELD ALONE, .fixed = FIX_MODE | FIX_MASK
#define THREADS .needs = NEED_KAIO | NEED_THREADS, .no_loop = true, .fixed = FIX_STYLE
#define REFUSED ALONE, .fixed = FIX_STYLE | FIX_FD | FIX_MASK
static const struct test_case cases[] = {
    { NAMED(direct_files_go_to_the_kernel), ALONE },
    { NAMED(nothing_else_makes_a_context), ALONE },
    { NAMED(files_in_memory_are_for_workers), ALONE },
    { NAMED(what_would_wait_goes_to_a_worker), HELD },
    { NAMED(parts_are_completed), ALONE },
    { NAMED(a_written_part_is_not_written_again), HELD },
    { NAMED(a_full_context_holds_up_nothing_else), HELD },
    { NAMED(a_smaller_context_than_thought_serves_all), ALONE },
    { NAMED(without_a_context_workers_do_it), ALONE, .fixed = FIX_STYLE | FIX_FD | FIX_MASK },
    { NAMED(requests_refused_at_work_go_to_workers), ALONE },
    { NAMED(setup_refused), REFUSED },
    { NAMED(setup_hidden), REFUSED },
    { NAMED(setup_kills_the_probe_only), REFUSED },
    { NAMED(submit_refused), REFUSED },
    { NAMED(destroy_kills_the_probe_only), REFUSED },
    { NAMED(a_kernel_without_it_is_named), REFUSED },
    { NAMED(a_system_without_requests_left_is_named), REFUSED },
    { NAMED(a_ring_of_another_form_is_asked_by_a_call), ALONE },
    { NAMED(thousands_of_reads_come_back), ALONE },
    { NAMED(threads_share_a_context), THREADS },
    { NAMED(a_bell_that_was_closed_rings_nobody_elses), HELD },
    { NAMED(reads_survive_that_all_is_closed), ALONE, .fixed = FIX_MODE | FIX_STYLE | FIX_MASK },
    { NAMED(a_file_that_became_a_pipe_is_waited_for), HELD },
    { NAMED(a_closed_loop_leaves_no_context), ALONE },
    { NAMED(a_child_has_nothing_of_it), HELD },
    { NAMED(layouts_are_the_kernels), ALONE, .fixed = FIX_ALL },
    { .name = NULL },
};
const struct subject subject_kaio = { "kaio", cases };

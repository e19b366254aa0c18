/* SPDX-License-Identifier: MIT */
/* t_fault.c: every system call and allocation of the library fails once, at its first use, its
 * second, and so on, until a whole scenario passes without meeting the failure. No crash, no leak,
 * no hang, one completion each, and the loop closes. */
#include <poll.h>

#include "sys.h"
#include "test.h"

/* The table's entries by number, and a wrapper for each that fails when its time has come. */
enum {
#define NUMBER(name, parameters, arguments) CALL_##name,
    SYS_CALLS(NUMBER)
#undef NUMBER
        CALL_realloc,
    CALL_COUNT
};
static const char *const names[CALL_COUNT] = {
#define NAME(name, parameters, arguments) #name,
    SYS_CALLS(NAME)
#undef NAME
        "realloc"
};

static struct ouro__sys real;
static _Atomic int failing, countdown, error_now;
static _Atomic long live;

static bool hit(int call)
{
    return call == failing && atomic_fetch_sub(&countdown, 1) == 1;
}

#define WRAPPER(name, parameters, arguments)                       \
    static long fail_##name parameters                             \
    {                                                              \
        return hit(CALL_##name) ? error_now : real.name arguments; \
    }
SYS_CALLS(WRAPPER)
#undef WRAPPER

/* A close that fails has closed. */
static long fail_close_after(int fd)
{
    long r = real.close(fd);

    return hit(CALL_close) ? -EIO : r;
}

static void *fail_realloc(void *old, size_t size)
{
    void *at;

    if (size && hit(CALL_realloc))
        return NULL;
    at = real.realloc(old, size);
    if (!size)
        live -= old != NULL;
    else if (at && !old)
        live++;
    return at;
}

static void install(void)
{
    real = ouro__sys;
#define INSTALL(name, parameters, arguments) ouro__sys.name = fail_##name;
    SYS_CALLS(INSTALL)
#undef INSTALL
    ouro__sys.close = fail_close_after;
    ouro__sys.realloc = fail_realloc;
}

/* An error that this call may really give; 0: it cannot fail, or only by a bug of ours. */
static int error_of(int call)
{
    switch (call) {
    case CALL_aio_start:
    case CALL_thread: return -EAGAIN;
    case CALL_aio_find: return -ENOSYS;
    case CALL_io_uring_setup:
    case CALL_mmap:
    case CALL_realloc: return -ENOMEM;
    case CALL_io_uring_enter: return -EAGAIN;
    case CALL_io_uring_register: return -ENOMEM;
    case CALL_eventfd:
    case CALL_pipe2:
    case CALL_openat:
    case CALL_openat2:
    case CALL_pidfd_open: return -EMFILE;
    case CALL_poll:
    case CALL_ppoll:
    case CALL_epoll_wait:
    case CALL_aio_suspend:
    case CALL_wait4: return -EINTR;
    case CALL_madvise: return -EINVAL;
    case CALL_epoll_create:
    case CALL_timerfd_create: return -EMFILE;
    case CALL_epoll_ctl: return -ENOMEM;
    case CALL_sigaction: return -EINVAL;
    case CALL_aio_result:
    case CALL_aio_cancel:
    case CALL_munmap: /* undoing does not fail */
    case CALL_join:
    case CALL_sigmask:
    case CALL_take_signal:
    case CALL_signal_thread:
    case CALL_timerfd_set:
    case CALL_read: /* bells are read and written: eventfds and pipes of our own */
    case CALL_write:
    case CALL_fcntl: return 0;
    default: return -EIO;
    }
}

/* ---- The scenario -------------------------------------------------------------------------- */

static int64_t no_work(void *arg)
{
    (void)arg;
    return 3;
}

/* Whatever comes is right, if it is what the call gives or some error. */
static int64_t attempt(struct test *t, ouro_op *op, int64_t best)
{
    int r = start_try(t, op);

    if (r < 0)
        return r;
    finish(t, op);
    if (RES(op) != best && best >= 0 && RES(op) >= 0 && op->code != OURO_OPEN)
        FAIL("%s gave %lld, %lld is due", ouro_code_name(op->code), (long long)RES(op),
             (long long)best);
    return RES(op);
}

static void files_scenario(struct test *t, ouro_op *op)
{
    char buf[8], dirents[512];
    struct iovec iov = { buf, 8 };
    struct ouro_stat st;
    int64_t fd, dir;

    ouro_prep_open(op, OURO_HERE, path_in(t, "f"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    fd = attempt(t, op, 0);
    if (fd >= 0) {
        int64_t wrote;

        ouro_prep_write(op, (int)fd, "abcdef", 6, 0);
        wrote = attempt(t, op, 6);
        ouro_prep_read(op, (int)fd, buf, 8, 0);
        attempt(t, op, wrote == 6 ? 6 : 0);
        ouro_prep_readv(op, (int)fd, &iov, 1, OURO_CUR, 0);
        attempt(t, op, wrote == 6 ? 6 : 0);
        ouro_prep_fsync(op, (int)fd);
        attempt(t, op, 0);
        ouro_prep_stat(op, (int)fd, "", AT_EMPTY_PATH, &st);
        attempt(t, op, 0);
        ouro_prep_ftruncate(op, (int)fd, 3);
        attempt(t, op, 0);
        ouro_prep_close(op, (int)fd);
        if (attempt(t, op, 0) < 0 && fcntl((int)fd, F_GETFD) >= 0)
            close((int)fd);
    }
    dir = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ouro_prep_readdir(op, (int)dir, dirents, sizeof dirents);
    attempt(t, op, -1);
    close((int)dir);
    ouro_prep_mkdir(op, OURO_HERE, path_in(t, "d"), 0700);
    attempt(t, op, 0);
    ouro_prep_rmdir(op, OURO_HERE, path_in(t, "d"));
    attempt(t, op, 0);
}

static void pipes_scenario(struct test *t, ouro_op *op)
{
    ouro_op *r = op_new(t);
    char buf[8];
    int fds[2];

    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    ouro_prep_write(op, fds[1], "abc", 3, 0);
    if (attempt(t, op, 3) == 3) {
        ouro_prep_read(op, fds[0], buf, 8, 0);
        attempt(t, op, 3);
    }
    ouro_prep_read(r, fds[0], buf, 8, 0);
    if (start_try(t, r) >= 0) {
        step(t);
        ouro_cancel_id(t->loop, ouro_op_id(r));
        finish(t, r);
        CHECK(RES(r) < 0 || RES(r) == 3);
    }
    ouro_prep_poll(op, fds[1], POLLOUT);
    attempt(t, op, POLLOUT);
    ouro_prep_read(r, fds[0], buf, 8, 0);
    r->deadline = in_ms(t, 1);
    if (start_try(t, r) >= 0)
        finish(t, r);
    close(fds[0]);
    close(fds[1]);
}

static void scenario(struct test *t)
{
    static char region[4096];
    ouro_op *op;
    int r = open_loop_try(t);

    if (r < 0)
        return;
    op = op_new(t);
    ouro_prep_nop(op);
    attempt(t, op, 0);
    ouro_prep_timer(op, in_ms(t, 1));
    attempt(t, op, 0);
    files_scenario(t, op);
    pipes_scenario(t, op);
    ouro_prep_work(op, no_work, NULL);
    attempt(t, op, 3);
    ouro_register_buffers(t->loop, &(struct iovec){ region, sizeof region }, 1);
    if (ouro_direct_table(t->loop, 4) == 0) {
        ouro_prep_open_direct(op, OURO_HERE, "/dev/null", O_RDONLY, 0, 1);
        attempt(t, op, 0);
    }
    close_loop(t);
}

/* ---- Every failure ------------------------------------------------------------------------- */

static void fail_one_call(struct test *t, int call)
{
    error_now = error_of(call);
    for (int n = 1; error_now; n++) {
        long fds = count_fds(), before = live;

        snprintf(harness_note, sizeof harness_note, "[%s fails at use %d] ", names[call], n);
        failing = call;
        countdown = n;
        scenario(t);
        failing = -1;
        if (count_fds() != fds)
            FAIL("leaked %ld descriptors", count_fds() - fds);
        if (live != before)
            FAIL("leaked %ld allocations", live - before);
        if (countdown > 0)
            return; /* the scenario ended before its n-th use */
        CHECK(n < 400);
    }
}

static void every_call_may_fail_at_every_use(struct test *t)
{
    t->config.alloc = NULL;
    failing = -1;
    install();
    scenario(t); /* what libc keeps for itself is there from now on */
    for (int call = 0; call < CALL_COUNT; call++)
        fail_one_call(t, call);
    harness_note[0] = 0;
    ouro__sys = real;
}

/* The configured allocator fails instead. */
static int fail_after;
static _Atomic long mine;

static void *meagre(void *ctx, void *old, size_t size)
{
    void *at;

    (void)ctx;
    if (!size) {
        mine -= old != NULL;
        free(old);
        return NULL;
    }
    if (fail_after-- == 0)
        return NULL;
    at = realloc(old, size);
    mine += at && !old;
    return at;
}

static void the_callers_allocator_may_fail(struct test *t)
{
    t->config.alloc = meagre;
    for (int n = 0; n < 100; n++) {
        snprintf(harness_note, sizeof harness_note, "[allocation %d fails] ", n);
        fail_after = n;
        scenario(t);
        CHECK_EQ(mine, 0);
    }
    harness_note[0] = 0;
}

static const struct test_case cases[] = {
    { NAMED(every_call_may_fail_at_every_use), .faults = "6", .fixed = FIX_FD | FIX_MASK,
      .no_loop = true, .heavy = true, .seconds = 60, .pitfalls = "R4 S7" },
    { NAMED(the_callers_allocator_may_fail), .faults = "6", .fixed = FIX_STYLE | FIX_FD | FIX_MASK,
      .style = STYLE_WAIT, .no_loop = true, .heavy = true, .seconds = 30 },
    { .name = NULL },
};
const struct subject subject_fault = { "fault", cases };

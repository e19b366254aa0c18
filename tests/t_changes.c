/* SPDX-License-Identifier: MIT */
/* t_changes.c: the world changes under a loop: limits are lowered, descriptors closed, handlers
 * installed, users changed, and a server stops answering. */
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "sys.h"
#include "test.h"

/* ---- A server that is slow ----------------------------------------------------------------- */

static struct ouro__sys real;
static _Atomic ouro_time shift; /* how far the coarse clock was turned on */
static _Atomic bool stalls;     /* the next open takes two seconds of it */
static _Atomic unsigned opens, closes;
static pthread_t driver;

/* Stands still else: a machine that is busy is no slow server. */
static ouro_time shifted_now(void)
{
    return 1 * OURO_S + shift;
}

static void stall(void)
{
    if (atomic_exchange(&stalls, false))
        shift += 2 * OURO_S;
}

static long slow_openat2(int dir, const char *path, int flags, unsigned mode, uint64_t resolve)
{
    opens++;
    stall();
    return real.openat2(dir, path, flags, mode, resolve);
}

static long slow_enter(int fd, unsigned submit, unsigned min, unsigned flags, const void *arg,
                       size_t size)
{
    if (submit)
        stall();
    return real.io_uring_enter(fd, submit, min, flags, arg, size);
}

static long counted_close(int fd)
{
    closes += pthread_equal(pthread_self(), driver) != 0;
    return real.close(fd);
}

/* How many of the two were tried on the driver's thread. */
static unsigned tries_of_an_open_and_close(struct test *t)
{
    ouro_op *op = op_new(t);
    int64_t fd;

    opens = closes = 0;
    ouro_prep_open(op, OURO_HERE, path_in(t, "f"), O_RDONLY, 0);
    fd = do_op(t, op);
    CHECK(fd >= 0);
    ouro_prep_close(op, (int)fd);
    CHECK_EQ(do_op(t, op), 0);
    return opens + closes;
}

static void a_slow_server_is_waited_for_once_in_a_while(struct test *t)
{
    unsigned usual;

    real = ouro__sys;
    driver = pthread_self();
    ouro__sys.coarse_now = shifted_now;
    ouro__sys.openat2 = slow_openat2;
    ouro__sys.io_uring_enter = slow_enter;
    ouro__sys.close = counted_close;
    open_loop(t);
    make_file(t, "f", "abc", 3);
    usual = tries_of_an_open_and_close(t);
    CHECK_EQ(usual, strcmp(ouro_engine_name(t->loop), "uring") ? 2 : 1); /* the ring opens */
    stalls = true;
    tries_of_an_open_and_close(t);
    CHECK(!stalls);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(tries_of_an_open_and_close(t), 0);
    shift += 65 * OURO_S;
    stalls = true;
    tries_of_an_open_and_close(t);
    CHECK(!stalls);
    shift += 65 * OURO_S; /* this time it is longer */
    CHECK_EQ(tries_of_an_open_and_close(t), 0);
    shift += 65 * OURO_S;
    CHECK_EQ(tries_of_an_open_and_close(t), usual);
    CHECK_EQ(tries_of_an_open_and_close(t), usual);
    close_loop(t);
    ouro__sys = real;
}

/* ---- Fewer descriptors than are open ------------------------------------------------------- */

static ouro_time cpu_time(void)
{
    struct timespec now;

    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (ouro_time)now.tv_sec * OURO_S + (ouro_time)now.tv_nsec;
}

static void under_a_limit(struct test *t, rlim_t fds_most)
{
    enum { COUNT = 70 };
    ouro_op *ops[COUNT], *copy = op_new(t), *poll_op = op_new(t), *late = op_new(t);
    static char bytes[COUNT];
    struct rlimit limit, less;
    int fds[COUNT + 2][2], file = make_file(t, "f", NULL, 0);
    ouro_time cpu;

    open_loop(t);
    for (int i = 0; i < COUNT + 2; i++)
        CHECK_EQ(pipe2(fds[i], O_CLOEXEC), 0);
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_read(ops[i] = op_new(t), fds[i][0], &bytes[i], 1, 0);
        start(t, ops[i]);
    }
    step(t);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    less = (struct rlimit){ fds_most, limit.rlim_max };
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &less), 0);
    ouro_prep_copy(copy, fds[COUNT][0], OURO_CUR, file, 0, 4);
    start(t, copy);
    ouro_prep_poll(poll_op, fds[COUNT + 1][0], POLLIN);
    start(t, poll_op);
    cpu = cpu_time();
    ouro_prep_read(late, fds[COUNT + 1][0], bytes, 1, 0);
    late->deadline = in_ms(t, 200);
    CHECK_EQ(do_op(t, late), -ETIMEDOUT);
    CHECK(cpu_time() - cpu < seconds_scaled(1) * 100 * OURO_MS); /* it slept */
    for (int i = 0; i < COUNT + 2; i++)
        CHECK_EQ(write(fds[i][1], "word", 4), 4);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(finish(t, ops[i]), 1);
    CHECK_EQ(finish(t, copy), 4);
    CHECK_EQ(finish(t, poll_op), POLLIN);
    close_loop(t);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < COUNT + 2; i++)
        CHECK(close(fds[i][0]) == 0 && close(fds[i][1]) == 0);
}

static void waiting_works_with_a_limit_of_few_descriptors(struct test *t)
{
    under_a_limit(t, 50);
}

static void waiting_works_with_a_limit_of_one_descriptor(struct test *t)
{
    under_a_limit(t, 1);
}

static void waiting_works_when_no_descriptor_is_allowed(struct test *t)
{
    under_a_limit(t, 0);
}

/* ---- Descriptors closed by the program ----------------------------------------------------- */

enum { NUMBERS = 64 };
#define CONTENT "0123456789abcdef"
struct foreign { /* what has got the numbers of the loop's descriptors */
    bool files;  /* or eventfds, which the loop has as well */
    bool open[NUMBERS];
    int notify; /* for the loop's notifications; not closed */
};

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void note_open(struct foreign *foreign)
{
    for (int fd = 0; fd < NUMBERS; fd++)
        foreign->open[fd] = is_open(fd);
}

/* closefrom(3), and then as many files as there were descriptors. */
static void take_numbers(struct test *t, struct foreign *foreign)
{
    for (int fd = 0; fd < NUMBERS; fd++) {
        int new;

        foreign->open[fd] = !foreign->open[fd] && is_open(fd);
        if (!foreign->open[fd])
            continue;
        new = foreign->files ? open(path_in(t, "foreign"), O_RDWR | O_CREAT | O_CLOEXEC, 0600)
                             : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        CHECK(new >= 0);
        CHECK_EQ(dup3(new, fd, O_CLOEXEC), fd);
        close(new);
        if (foreign->files)
            CHECK_EQ(pwrite(fd, CONTENT, 16, 0), 16);
    }
}

static void check_untouched(const struct foreign *foreign)
{
    for (int fd = 0; fd < NUMBERS; fd++) {
        char got[32] = "";
        uint64_t count;

        if (!foreign->open[fd])
            continue;
        harness_note[0] = 0;
        snprintf(harness_note, sizeof harness_note, "[descriptor %d] ", fd);
        CHECK(is_open(fd));
        if (foreign->files) {
            CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
            CHECK_EQ(pread(fd, got, sizeof got, 0), 16);
            CHECK(memcmp(got, CONTENT, 16) == 0);
        } else {
            CHECK_EQ(plain(read(fd, &count, sizeof count)), -EAGAIN);
        }
        close(fd);
    }
    harness_note[0] = 0;
}

/* A loop with all the descriptors that it ever has, asleep in its notifier. */
static void open_fully(struct test *t, struct foreign *foreign)
{
    ouro_notify notify = { .size = sizeof notify, .kind = OURO_NOTIFY_EVENTFD };
    ouro_op *op = op_new(t);

    notify.fd = foreign->notify = made(t, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    note_open(foreign);
    open_loop(t);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(ouro_pollfd(t->loop) >= 0);
    CHECK_EQ(ouro_set_notify(t->loop, &notify), 0);
    usleep(10000);
    CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
    usleep(10000);
}

static int64_t answer(void *arg)
{
    (void)arg;
    return 42;
}

static bool is_own(const struct foreign *foreign, int fd)
{
    return fd >= 0 && !(fd < NUMBERS && foreign->open[fd]);
}

static void goes_on_without_its_descriptors(struct test *t, bool files)
{
    struct foreign foreign = { .files = files };
    ouro_op *op = op_new(t);
    struct pollfd host;
    char byte;
    int fds[2];

    open_fully(t, &foreign);
    take_numbers(t, &foreign);
    if (files)
        CHECK(is_own(&foreign, ouro_pollfd(t->loop)));
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_timer(op, in_ms(t, 2));
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_work(op, answer, NULL);
    CHECK_EQ(do_op(t, op), 42);
    make_pipe(t, fds);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    host = (struct pollfd){ .fd = ouro_pollfd(t->loop), .events = POLLIN };
    CHECK(is_own(&foreign, host.fd));
    CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
    ouro_wake(t->loop);
    CHECK_EQ(poll(&host, 1, 1000), 1);
    close_loop(t);
    check_untouched(&foreign);
}

static void a_loop_goes_on_when_files_have_its_descriptors(struct test *t)
{
    goes_on_without_its_descriptors(t, true);
}

static void a_loop_goes_on_when_eventfds_have_its_descriptors(struct test *t)
{
    goes_on_without_its_descriptors(t, false);
}

/* A turn that had something to report before it would have asked the system for more. */
static void what_ends_by_itself_touches_no_descriptor_of_others(struct test *t)
{
    struct foreign foreign = { .files = true };
    ouro_op *op = op_new(t);

    open_fully(t, &foreign);
    take_numbers(t, &foreign);
    for (int i = 0; i < 10; i++) {
        ouro_prep_timer(op, OURO_NOWAIT);
        CHECK_EQ(do_op(t, op), 0);
    }
    close_loop(t);
    check_untouched(&foreign);
}

static void closing_closes_no_descriptor_of_others(struct test *t)
{
    for (int files = 0; files < 2; files++) {
        struct foreign foreign = { .files = files };

        open_fully(t, &foreign);
        take_numbers(t, &foreign);
        close_loop(t);
        check_untouched(&foreign);
    }
}

/* ---- Signals that the program wants for itself --------------------------------------------- */

static _Atomic unsigned hits;

static void on_signal(int signo)
{
    (void)signo;
    hits++;
}

/* Takes the last signal that somebody else has a handler for. */
static void take_a_signal(void)
{
    for (int signo = SIGRTMAX; signo >= SIGRTMIN; signo--) {
        struct sigaction now;

        CHECK_EQ(sigaction(signo, NULL, &now), 0);
        if (now.sa_handler == SIG_DFL || now.sa_handler == on_signal)
            continue;
        now = (struct sigaction){ .sa_handler = on_signal };
        CHECK_EQ(sigaction(signo, &now, NULL), 0);
        return;
    }
    FAIL("no signal is in use");
}

static void a_worker_is_interrupted_without_the_programs_handlers(struct test *t)
{
    ouro_op *op = op_new(t);
    int fds[2], fd = make_file(t, "f", NULL, 0);

    make_pipe(t, fds);
    for (int round = 0; round < 5; round++) {
        ouro_prep_copy(op, fds[0], OURO_CUR, fd, 0, 100);
        start(t, op);
        let_pass(t);
        take_a_signal();
        CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
        finish_canceled(t, op);
    }
    CHECK_EQ(hits, 0);
}

/* ---- Another user -------------------------------------------------------------------------- */

/* Effective user of the whole process: of workers, too. */
static void names_are_opened_as_the_present_user(struct test *t)
{
    ouro_op *op = op_new(t);
    int64_t fd;

    if (geteuid() != 0)
        return;
    CHECK_EQ(chmod(t->dir, 0755), 0);
    make_file(t, "secret", "abc", 3);
    for (int round = 0; round < 3; round++) {
        for (unsigned flags = 0; flags <= OURO_BG; flags += OURO_BG) {
            CHECK_EQ(seteuid(65534), 0);
            ouro_prep_open(op, OURO_HERE, path_in(t, "secret"), O_RDONLY, 0);
            op->flags = flags;
            CHECK_EQ(do_op(t, op), -EACCES);
            CHECK_EQ(seteuid(0), 0);
            ouro_prep_open(op, OURO_HERE, path_in(t, "secret"), O_RDONLY, 0);
            op->flags = flags;
            fd = do_op(t, op);
            CHECK(fd >= 0);
            close((int)fd);
        }
    }
}

#define ALONE .fixed = FIX_STYLE | FIX_FD | FIX_MASK, .no_loop = true
static const struct test_case cases[] = {
    { NAMED(a_slow_server_is_waited_for_once_in_a_while), .fixed = FIX_ALL, .no_loop = true },
    { NAMED(waiting_works_with_a_limit_of_few_descriptors), ALONE },
    { NAMED(waiting_works_with_a_limit_of_one_descriptor), ALONE },
    { NAMED(waiting_works_when_no_descriptor_is_allowed), ALONE },
    { NAMED(a_loop_goes_on_when_files_have_its_descriptors), ALONE, .needs = NEED_DRIVER },
    { NAMED(a_loop_goes_on_when_eventfds_have_its_descriptors), ALONE, .needs = NEED_DRIVER },
    { NAMED(what_ends_by_itself_touches_no_descriptor_of_others), ALONE, .style = STYLE_REAP,
      .needs = NEED_DRIVER },
    { NAMED(closing_closes_no_descriptor_of_others), ALONE, .needs = NEED_DRIVER },
    { NAMED(a_worker_is_interrupted_without_the_programs_handlers), .fixed = FIX_FD | FIX_MASK },
    { NAMED(names_are_opened_as_the_present_user), .fixed = FIX_FD, .pitfalls = "R12" },
    { .name = NULL },
};
const struct subject subject_changes = { "changes", cases };

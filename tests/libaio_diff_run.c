/* SPDX-License-Identifier: MIT */
/* libaio_diff_run.c: runs the steps of a random program, and says what was seen. */
#include "libaio_diff_model.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { UNTOUCHED_ERRNO = 4711, EVENTS = 32, FIRST_COUNTER = 140 };

static const struct program *running;

static void say_result(unsigned number, long r)
{
    say("%u: %ld%s\n", number, r, errno == UNTOUCHED_ERRNO ? "" : ", errno changed");
}

/* ---- Submitting ----------------------------------------------------------------------------- */

struct batch {
    unsigned context;
    struct iocb *list[ENTRIES];
    struct flight *made[ENTRIES];
    long count, result;
    int error; /* errno behind it */
};

static void *submit(void *arg)
{
    struct batch *batch = arg;

    errno = UNTOUCHED_ERRNO;
    batch->result = io_submit(contexts[batch->context], batch->count, batch->list);
    batch->error = errno;
    return NULL;
}

static void submit_in(struct batch *batch, enum manner manner)
{
    pthread_t thread;

    if (manner == BY_ITSELF) {
        batch->result = syscall(SYS_io_submit, contexts[batch->context], batch->count, batch->list);
        if (batch->result < 0)
            batch->result = -errno;
        batch->error = UNTOUCHED_ERRNO;
    } else if (manner == BY_THREAD) {
        if (pthread_create(&thread, NULL, submit, batch) != 0 || pthread_join(thread, NULL) != 0)
            say("! no thread\n");
    } else {
        submit(batch);
    }
}

/* What must be over before it, and the bytes that it would wait for. */
static void make_way(const struct ask *ask)
{
    if (conflicts(ask))
        settle(running->path);
    if (!lacks_bytes(ask))
        return;
    settle(running->path);
    if (targets[ask->target].avail == 0) {
        world_feed(ask->target, 900, ask->block);
        world_await_bytes(ask->target);
    }
}

static void make_batch(struct batch *batch, const struct step *step)
{
    for (int i = 0; i < step->count; i++) {
        struct ask ask = step->asks[i];
        bool used = false;

        tame(&ask);
        if (i == 0)
            make_way(&ask);
        for (long k = 0; k < batch->count; k++)
            used = used || batch->list[k] == &blocks[ask.block];
        if (used || conflicts(&ask) || lacks_bytes(&ask))
            continue;
        batch->made[batch->count] = prepare(&ask, step->context);
        batch->list[batch->count] = &blocks[ask.block];
        if (ask.bad == BAD_BLOCK)
            batch->list[batch->count] = (struct iocb *)(uintptr_t)(ask.variant % 2 ? 8 : -4096);
        batch->count++;
    }
}

static void replace(unsigned target, bool back)
{
    static int kept[TARGETS];
    int fd = targets[target].fd;

    if (!has_descriptor(targets[target].kind))
        return;
    if (back) {
        dup2(kept[target], fd);
        close(kept[target]);
        return;
    }
    kept[target] = fcntl(fd, F_DUPFD, 200);
    dup2(counters[0], fd); /* whoever uses the number now would be counted there */
}

static void do_submit(unsigned number, const struct step *step)
{
    struct batch batch = { .context = step->context };

    make_batch(&batch, step);
    if (batch.count == 0)
        return;
    submit_in(&batch, step->manner);
    errno = batch.error;
    say_result(number, batch.result);
    if (batch.result < batch.count)
        forget(batch.made[batch.result < 0 ? 0 : batch.result]);
    for (long i = 0; i < batch.result; i++) {
        struct flight *flight = batch.made[i];

        told[step->context] += flight->ask.tells;
        if (flight->ask.overwritten)
            memset(flight->iocb, 0xee, sizeof(*flight->iocb));
    }
    if (step->manner != REPLACED)
        return;
    for (unsigned i = 0; i < TARGETS; i++)
        replace(i, false);
    settle(running->path);
    for (unsigned i = 0; i < TARGETS; i++)
        replace(i, true);
}

/* ---- Taking events -------------------------------------------------------------------------- */

/* At least so many there have to be where nothing limits the wait; without a number to wait for the
 * library waits for those that would be over in io_submit. */
static long least(const struct step *step, long min, long most)
{
    return min == 0 && most > 0 && step->path <= PGETEVENTS && any_at_once(step->context) ? 1 : min;
}

static long get_rest(const struct step *step, long r, long most)
{
    while (r < most) {
        long more = get(step->context, step->path, 1, most - r, &(struct timespec){ 5, 0 });

        if (more <= 0 && more != -EINTR)
            break;
        r += more > 0 ? more : 0;
    }
    errno = UNTOUCHED_ERRNO;
    return r;
}

static void do_get(unsigned number, const struct step *step)
{
    static const struct timespec times[] = { { 0, 0 }, { 0, 0 }, { 0, 1000000 }, { 3600, 0 } };
    unsigned sure = sure_in(step->context);
    enum timeout timeout = running->stormy && step->timeout == SHORT ? NO_TIME : step->timeout;
    bool no_limit = timeout == FOREVER || timeout == HOUR;
    bool exact = !careless && (!no_limit || step->path == RING || step->variant % 2);
    long r, min = step->min, most = step->nr < (long)sure ? step->nr : (long)sure;

    if (no_limit && min > most)
        min = most; /* it would wait for ever */
    if (exact)
        await_ring(step->context);
    do {
        errno = UNTOUCHED_ERRNO;
        r = get(step->context, step->path, min, step->nr,
                timeout == FOREVER ? NULL : &times[timeout]);
    } while (r == -EINTR && running->stormy);
    if (step->path == SYSTEM_CALL)
        errno = UNTOUCHED_ERRNO;
    /* Whether more were there already, or came before a signal, is a matter of time; then they are
     * waited for. */
    if (!exact && r >= (no_limit && !running->stormy ? least(step, min, most) : 0) && r < most)
        r = get_rest(step, r, most);
    say_result(number, r);
}

/* ---- Other steps ---------------------------------------------------------------------------- */

static void do_cancel(unsigned number, const struct step *step)
{
    struct flight *flight = only_poll_of(step->context, step->block);
    struct io_event event;

    errno = UNTOUCHED_ERRNO;
    say_result(number, io_cancel(contexts[step->context], &blocks[step->block], &event));
    if (flight)
        flight->held = false;
}

static void do_feed(const struct step *step)
{
    struct target *target = &targets[step->target];
    bool feeds = target->far >= 0 && target->kind != PIPE_WRITE && target->avail < 8000;

    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].ask.target == step->target && (careless || !flights[i].held))
            feeds = false; /* it is not sure what that would see */
    if (!feeds)
        return;
    world_feed(step->target, target->kind == TERMINAL ? 9 : 700, step->variant);
    world_await_bytes(step->target);
    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].held && flights[i].ask.target == step->target &&
            flights[i].copy.u.poll.events & 1)
            flights[i].held = false;
    for (unsigned i = 0; i < CONTEXTS && !careless; i++)
        await_ring(i);
}

static int bad_call(const struct step *step)
{
    static char nothing[4096];
    io_context_t context = contexts[step->context], none = NULL;
    io_context_t stranger = (io_context_t)(void *)nothing;
    struct io_event events[2];
    struct timespec hour = { 3600, 0 };
    struct iocb *list[] = { NULL };

    switch (step->variant) {
    case 0: return io_setup(0, &none);
    case 1: return io_setup(4, &context);
    case 2: return io_setup(4, NULL);
    case 3: return io_setup(-1, &none);
    case 4: return io_queue_init(0, &none);
    case 5: return io_submit(context, -1, list);
    case 6: return io_submit(context, 1, list);
    case 7: return io_submit(context, 1, NULL);
    case 8: return io_submit(stranger, 1, list);
    case 9: return io_submit(context, 0, NULL);
    case 10: return io_getevents(context, 2, 1, events, &hour);
    case 11: return io_getevents(stranger, 1, 1, events, &hour);
    case 12: return io_pgetevents(context, 0, -1, events, &hour, NULL);
    case 13: return io_cancel(context, NULL, events);
    case 14: return io_destroy(stranger);
    default: return io_cancel(stranger, &blocks[step->block], events);
    }
}

static void do_bad(unsigned number, const struct step *step)
{
    errno = UNTOUCHED_ERRNO;
    say_result(number, bad_call(step));
}

static void begin_context(unsigned context)
{
    int r;

    contexts[context] = NULL;
    r = io_setup(EVENTS, &contexts[context]);
    if (r < 0)
        say("! io_setup: %d\n", r);
}

static void do_renew(unsigned number, const struct step *step)
{
    for (unsigned i = 0; i < flight_count; i++)
        if (!is_file(targets[flights[i].ask.target].kind) && flights[i].ask.what != POLL) {
            settle(running->path); /* how much of a stream is left would be unknown */
            break;
        }
    say("%u:\n", number);
    end_context(step->context);
    begin_context(step->context);
}

/* ---- Children ------------------------------------------------------------------------------- */

static void be_a_child(int out)
{
    struct timespec soon = { 0, 1000 };
    char text[512], buf[600] = { 0 }, same[600];
    io_context_t own = NULL;
    struct io_event event;
    struct iocb iocb, *list[] = { &iocb };
    int count = 0, fd = open("/proc/self/exe", O_RDONLY);

    alarm(10);
    io_prep_pread(&iocb, fd, buf, sizeof(buf), 5);
    for (unsigned i = 0; i < CONTEXTS; i++)
        count += snprintf(text + count, sizeof(text) - (size_t)count, " %d %d %d %d",
                          io_submit(contexts[i], 1, list),
                          io_getevents(contexts[i], 1, 1, &event, &soon),
                          io_cancel(contexts[i], &iocb, &event), io_destroy(contexts[i]));
    count +=
        snprintf(text + count, sizeof(text) - (size_t)count, ", its own %d", io_setup(4, &own));
    count += snprintf(text + count, sizeof(text) - (size_t)count, " %d", io_submit(own, 1, list));
    count += snprintf(text + count, sizeof(text) - (size_t)count, " %d",
                      io_getevents(own, 1, 1, &event, NULL));
    count += snprintf(
        text + count, sizeof(text) - (size_t)count, " %ld, reads %s\n", (long)event.res,
        pread(fd, same, sizeof(same), 5) == (long)event.res && memcmp(buf, same, sizeof(same)) == 0
            ? "right"
            : "wrong");
    (void)!write(out, text, (size_t)count + 1);
    _exit(0);
}

static void do_fork(unsigned number)
{
    char text[512] = "";
    int fds[2], status;
    pid_t child;

    if (pipe(fds) < 0 || (child = fork()) < 0) {
        say("! fork: %d\n", errno);
        return;
    }
    if (child == 0)
        be_a_child(fds[1]);
    close(fds[1]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (read(fds[0], text, sizeof(text)) <= 0)
        say("%u: the child hangs\n", number);
    else
        say("%u: in the child%s", number, text);
    close(fds[0]);
}

/* ---- All of it ------------------------------------------------------------------------------ */

static void do_step(unsigned number)
{
    const struct step *step = &running->steps[number];

    switch (step->op) {
    case DO_SUBMIT: do_submit(number, step); break;
    case DO_GET: do_get(number, step); break;
    case DO_CANCEL: do_cancel(number, step); break;
    case DO_FEED: do_feed(step); break;
    case DO_WAIT: settle(running->path); break;
    case DO_BAD: do_bad(number, step); break;
    case DO_RENEW: do_renew(number, step); break;
    case DO_FORK: do_fork(number); break;
    case DO_REOPEN:
        settle(running->path);
        world_end(step->target);
        world_open(step->target, step->kind, running->sizes[step->target]);
        break;
    }
}

static void do_steps(uint32_t without)
{
    for (unsigned i = 0; i < running->count; i++)
        if (!(without >> i & 1))
            do_step(i);
}

static void on_nothing(int signo)
{
    (void)signo;
}

static void begin_storm(void)
{
    struct sigaction action = { .sa_handler = on_nothing, .sa_flags = SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    struct itimerspec often = { { 0, 300000 }, { 0, 300000 } };
    timer_t timer;

    sigaction(SIGUSR1, &action, NULL);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &often, NULL))
        say("! timer: %d\n", errno);
}

static void begin(const char *dir)
{
    struct rlimit limit = { FILE_LIMIT, FILE_LIMIT };

    world_begin(dir);
    for (unsigned i = 0; i < TARGETS; i++)
        world_open(i, running->kinds[i], running->sizes[i]);
    for (unsigned i = 0; i < CONTEXTS; i++) {
        int fd = eventfd(0, EFD_NONBLOCK);

        counters[i] = dup2(fd, FIRST_COUNTER + (int)i);
        close(fd);
        begin_context(i);
    }
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (running->limited)
        setrlimit(RLIMIT_FSIZE, &limit);
    if (running->stormy)
        begin_storm();
}

static void leave(void)
{
    switch (running->seed % 3) {
    case 0: exit(0);
    case 1: quick_exit(0);
    default: _exit(0);
    }
}

/* A process of its own, which ends with what is in flight; then all of it is in the files. */
static void run_and_leave(uint32_t without, const char *dir, char *trace)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        begin(dir);
        do_steps(without);
        leave();
    }
    waitpid(child, &status, 0);
    say_on(trace);
    say("ends as %d\n", status);
    for (unsigned i = 0; i < TARGETS; i++)
        world_contents(i);
}

void run_program(const struct program *program, uint32_t without, const char *dir, char *ret_trace)
{
    running = program;
    careless = program->careless;
    say_to(ret_trace);
    world_clear(dir);
    if (program->leaves) {
        run_and_leave(without, dir, ret_trace);
        return;
    }
    begin(dir);
    do_steps(without);
    settle(program->path);
    for (unsigned i = 0; i < TARGETS; i++)
        world_end(i);
    for (unsigned i = 0; i < CONTEXTS && program->seed % 8 == 0; i++)
        say("c%u ends: %d\n", i, io_destroy(contexts[i])); /* which takes the kernel a while */
}

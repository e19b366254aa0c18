/* SPDX-License-Identifier: MIT */
/* aio_handlers.c: waiting in signal handlers that have interrupted any other call (P28). One thread
 * makes a call of <aio.h> again and again, another one interrupts it; the handler waits for a
 * request that is under way, by aio_suspend or by polling aio_error, and would never return if the
 * interrupted call held what its end needs.
 *
 * With --long each call is interrupted a million times, which takes minutes. */
#include "aio_test.h"

#include <sched.h>
#include <time.h>

enum { OFTEN = 2000, VERY_OFTEN = 1000000, LISTED = 4, LIMIT_S = 2 };

/* `probe` is what handlers wait for: by turns a read of a device, and of a pipe where nothing is
 * before a handler writes it. `idle` waits for a byte that does not come. */
static struct aiocb probes[2], *_Atomic probe, idle;
static _Alignas(SLOW_SIZE) char probe_page[SLOW_SIZE];
static char probe_byte, idle_byte;
static int file, wide, probe_fds[2], idle_fds[2];

static atomic_bool inside; /* a call that is to be interrupted */
static atomic_bool over;
static atomic_int interruptions, hits, waits; /* with a request that was under way */
static pthread_t interrupted;

static void prepare_probes(void)
{
    CHECK(pipe(probe_fds) == 0);
    probes[0] = block_of(slow_file(), probe_page, SLOW_SIZE, 0);
    probes[1] = block_of(probe_fds[0], &probe_byte, 1, 0);
    CHECK(aio_read(&probes[0]) == 0 && await(&probes[0]) == 0);
    probe = &probes[0];
}

/* Handlers may come meanwhile: the probe that they see is over or under way. */
static void renew_probe(void)
{
    if (aio_error(probe) == EINPROGRESS)
        return;
    if (probe == &probes[0]) {
        CHECK(aio_read(&probes[1]) == 0);
        probe = &probes[1];
    } else {
        CHECK(aio_read(&probes[0]) == 0);
        probe = &probes[0];
    }
}

static void on_interruption(int signo)
{
    struct aiocb *one = probe;
    const struct aiocb *both[] = { &idle, one };
    struct timespec none = { 0, 0 }, ample = { 1000, 0 };
    int saved = errno, number = interruptions;

    (void)signo;
    hits += inside;
    if (number % 4 && aio_error(one) == EINPROGRESS) {
        waits += inside;
        CHECK(one == &probes[0] || write(probe_fds[1], "x", 1) == 1);
    }
    switch (number % 4) {
    case 0: CHECK(aio_suspend(both, 1, &none) == -1 && errno == EAGAIN); break;
    case 1: CHECK(aio_suspend(both, 2, NULL) == 0); break;
    case 2: CHECK(aio_suspend(both, 2, &ample) == 0); break;
    default:
        while (aio_error(one) == EINPROGRESS)
            sched_yield();
    }
    if (number % 4)
        CHECK(aio_error(one) == 0 && aio_return(one) == (ssize_t)one->aio_nbytes);
    errno = saved;
    interruptions = number + 1;
}

/* At another point of the call each time. */
static void *interrupt(void *arg)
{
    unsigned random = 1;

    while (!over) {
        int before = interruptions;

        random = random * 1103515245 + 12345;
        for (volatile unsigned spins = random >> 16 & 1023; spins; spins--)
            ;
        CHECK(pthread_kill(interrupted, SIGUSR1) == 0);
        while (interruptions == before && !over)
            sched_yield();
    }
    return arg;
}

/* ---- The calls that are interrupted --------------------------------------------------------- */

static void calls_read(void)
{
    char byte;
    struct aiocb block = block_of(file, &byte, 1, 0);

    inside = true;
    CHECK(aio_read(&block) == 0);
    inside = false;
    CHECK(await(&block) == 0 && aio_return(&block) == 1);
}

static void calls_write(void)
{
    char byte = 'b';
    struct aiocb block = block_of(wide, &byte, 1, 0);

    inside = true;
    CHECK(aio_write(&block) == 0);
    inside = false;
    CHECK(await(&block) == 0 && aio_return(&block) == 1);
}

static void calls_fsync(void)
{
    struct aiocb block = block_of(file, NULL, 0, 0);

    inside = true;
    CHECK(aio_fsync(O_DSYNC, &block) == 0);
    inside = false;
    CHECK(await(&block) == 0);
}

static void calls_error_and_return(void)
{
    static struct aiocb never;

    inside = true;
    for (int i = 0; i < 2000; i++)
        CHECK(aio_error(&idle) == EINPROGRESS && aio_return(&never) == 0);
    inside = false;
}

static void calls_suspend(void)
{
    const struct aiocb *list[] = { &idle, NULL };
    struct timespec limit = { 0, 1000000 };

    inside = true;
    CHECK(aio_suspend(list, 2, &limit) == -1 && (errno == EINTR || errno == EAGAIN));
    inside = false;
}

static void calls_cancel(void)
{
    char byte;
    struct aiocb block = block_of(idle_fds[0], &byte, 1, 0); /* `idle` is before it */

    CHECK(aio_read(&block) == 0);
    inside = true;
    CHECK(aio_cancel(idle_fds[0], &block) == AIO_CANCELED);
    inside = false;
    CHECK(aio_error(&block) == ECANCELED);
}

static void calls_listio(int mode)
{
    char bytes[LISTED];
    struct aiocb blocks[LISTED], *list[LISTED];

    for (int i = 0; i < LISTED; i++) {
        blocks[i] = block_of(file, &bytes[i], 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
        list[i] = &blocks[i];
    }
    inside = true;
    CHECK(lio_listio(mode, list, LISTED, NULL) == 0 || (mode == LIO_WAIT && errno == EINTR));
    inside = false;
    for (int i = 0; i < LISTED; i++)
        CHECK(await(&blocks[i]) == 0 && bytes[i] == 'a');
}

static void calls_listio_wait(void)
{
    calls_listio(LIO_WAIT);
}

static void calls_listio_nowait(void)
{
    calls_listio(LIO_NOWAIT);
}

static atomic_int told;

static void tell(union sigval value)
{
    (void)value;
    told++;
}

/* By its end, or by the call itself, if it fails at once. */
static void calls_read_that_tells(void)
{
    char byte;
    struct aiocb block = block_of(file, &byte, 1, told % 2 ? 0 : -1);
    int wanted = told + 1;

    block.aio_sigevent.sigev_notify = SIGEV_THREAD;
    block.aio_sigevent.sigev_notify_function = tell;
    block.aio_sigevent.sigev_notify_attributes = NULL;
    inside = true;
    CHECK(aio_read(&block) == 0);
    inside = false;
    CHECK(await(&block) == (block.aio_offset ? EINVAL : 0));
    while (told < wanted)
        sched_yield();
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {
    { "aio_read", calls_read },
    { "aio_write", calls_write },
    { "aio_fsync", calls_fsync },
    { "aio_error and aio_return", calls_error_and_return },
    { "aio_suspend", calls_suspend },
    { "aio_cancel", calls_cancel },
    { "lio_listio, LIO_WAIT", calls_listio_wait },
    { "lio_listio, LIO_NOWAIT", calls_listio_nowait },
    { "aio_read, SIGEV_THREAD", calls_read_that_tells },
};

/* Until it was interrupted so often, or for a while: but once at least. */
static void interrupt_calls(void (*call)(void), double enough_s)
{
    double start = now_s(), s = 0;

    hits = waits = 0;
    while (takes_long ? hits < VERY_OFTEN
                      : (hits < OFTEN && s < enough_s) || (waits == 0 && s < LIMIT_S)) {
        renew_probe();
        call();
        s = now_s() - start;
    }
}

static void p28_handlers_may_wait_whatever_they_interrupt(void)
{
    enum { COUNT = sizeof(calls) / sizeof(*calls) };
    struct sigaction action = { .sa_handler = on_interruption };
    pthread_t thread;

    file = temp_file(0);
    wide = temp_file(0);
    CHECK(pwrite(file, "a", 1, 0) == 1 && pipe(idle_fds) == 0);
    idle = block_of(idle_fds[0], &idle_byte, 1, 0);
    CHECK(aio_read(&idle) == 0);
    prepare_probes();
    interrupted = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pthread_create(&thread, NULL, interrupt, NULL) == 0);
    for (unsigned i = 0; i < COUNT; i++) {
        interrupt_calls(calls[i].call, 2.0 / COUNT); /* enough, if not asked for more */
        dprintf(1, "# %s: %d interruptions, %d with something to wait for\n", calls[i].name, hits,
                waits);
        CHECK(hits > 0 && waits > 0);
    }
    over = true;
    CHECK(pthread_join(thread, NULL) == 0);
}

const struct dropin_case handler_tests[] = {
    BETTER(p28_handlers_may_wait_whatever_they_interrupt),
    { 0 },
};

/* SPDX-License-Identifier: MIT */
/* timer_cancel: three timers, of which one is cancelled, and a read that gives up at its deadline.
 * No callbacks and no state machine: submit, wait, look at res.
 * Usage: timer_cancel [MILLISECONDS], the step between the timers (20). */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <ouro.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS ((ouro_time)1000000)

enum { TIMERS = 3, CANCELED = 1 };

/* Timers at 1, 2 and 3 steps from now, the second of them cancelled. Returns 0 if each ended as it
 * must. */
static int run_timers(ouro_loop *loop, ouro_op *timers, ouro_time step)
{
    ouro_op *waiting[TIMERS]; /* NULL: has ended */
    ouro_time start = ouro_now(loop);
    int wrong = 0, r;

    for (unsigned i = 0; i < TIMERS; i++) {
        waiting[i] = &timers[i];
        ouro_prep_timer(&timers[i], start + (i + 1) * step);
        r = ouro_submit(loop, &timers[i]);
        if (r < 0)
            return r;
    }
    r = ouro_cancel(loop, &timers[CANCELED]); /* a request: the timer's own completion tells */
    if (r < 0)
        return r;
    for (unsigned left = TIMERS; left > 0; left--) {
        int i = ouro_wait_any(loop, waiting, TIMERS, OURO_FOREVER);
        if (i < 0)
            return i;
        waiting[i] = NULL;
        ouro_time after = ouro_now(loop) - start;
        printf("timer %d after %3llu ms: %s\n", i + 1, (unsigned long long)(after / MS),
               timers[i].res < 0 ? strerror((int)-timers[i].res) : "came");
        if (i == CANCELED)
            wrong |= timers[i].res != -ECANCELED || !(timers[i].cflags & OURO_C_CANCELED);
        else
            wrong |= timers[i].res != 0 || after < ((unsigned)i + 1) * step;
    }
    return wrong;
}

/* A read of an empty pipe ends at its deadline without having taken anything; a second read gets
 * what is written later. Returns 0 if both did. */
static int read_in_time(ouro_loop *loop, ouro_op *op, const int fds[2], ouro_time step)
{
    static char buf[16]; /* static: it is the library's until the read is final */
    int wrong = 0;

    for (int turn = 0; turn < 2; turn++) {
        if (turn == 1 && write(fds[1], "late", 4) != 4)
            return -errno;
        ouro_prep_read(op, fds[0], buf, sizeof(buf), 0);
        op->deadline = ouro_now(loop) + step;
        int r = ouro_submit(loop, op);
        if (r >= 0)
            r = ouro_wait(loop, op, OURO_FOREVER); /* the deadline ends the read, not the waiting */
        if (r < 0)
            return r;
        printf("read %d: %s\n", turn + 1, op->res < 0 ? strerror((int)-op->res) : "came");
        if (turn == 0)
            wrong |= op->res != -ETIMEDOUT || !(op->cflags & OURO_C_TIMEDOUT);
        else
            wrong |= op->res != 4 || memcmp(buf, "late", 4) != 0;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    static ouro_op timers[TIMERS], read_op; /* static: zeroed, and outlive the loop */
    ouro_time step = (argc > 1 ? strtoul(argv[1], NULL, 10) : 20) * MS;
    ouro_loop *loop = NULL;
    int fds[2];

    if (pipe(fds) != 0) {
        perror("timer_cancel");
        return 1;
    }
    int r = ouro_open(NULL, &loop);
    if (r >= 0)
        r = run_timers(loop, timers, step);
    if (r == 0)
        r = read_in_time(loop, &read_op, fds, step);
    int closed = ouro_close(loop, OURO_FOREVER);
    if (r == 0)
        r = closed;
    close(fds[0]);
    close(fds[1]);
    if (r != 0)
        fprintf(stderr, "timer_cancel: %s\n", r < 0 ? strerror(-r) : "a wrong result");
    return r != 0;
}

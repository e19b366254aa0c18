/* SPDX-License-Identifier: MIT */
/* hosted_epoll: a program that has an epoll loop already, with a source of its own (a ticking
 * timerfd), and lets ouro live in it: files are read while the ticks go on.
 * Usage: hosted_epoll [FILE]; without arguments it reads a file of its own. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <ouro.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MS ((ouro_time)1000000)

enum { TICKS = 3, TICK_MS = 5, BLOCK = 4096 };

struct host {
    ouro_loop *loop;
    ouro_op read, timer;
    ouro_fd file;
    int64_t bytes;
    int ticks, reading, timing;
    int error;
    char block[BLOCK];
};

static int submit(struct host *host, ouro_op *op, ouro_cb *cb)
{
    op->cb = cb;
    op->user = host;
    int r = ouro_submit(host->loop, op);
    if (r < 0 && host->error == 0)
        host->error = r;
    return r >= 0;
}

static void on_read(ouro_op *op)
{
    struct host *host = op->user;

    host->reading = 0;
    if (op->res < 0)
        host->error = (int)op->res;
    if (op->res <= 0)
        return;
    host->bytes += op->res;
    ouro_prep_read(op, host->file, host->block, BLOCK, host->bytes);
    host->reading = submit(host, op, on_read);
}

static void on_timer(ouro_op *op)
{
    struct host *host = op->user;

    host->timing = 0;
    if (op->res < 0)
        host->error = (int)op->res;
}

/* How long epoll_wait may sleep: until ouro's next deadline, rounded up, or for ever. */
static int timeout_ms(ouro_loop *loop)
{
    ouro_time next = ouro_next_deadline(loop), now = ouro_now(loop);

    if (next == OURO_FOREVER)
        return -1;
    if (next <= now) /* OURO_NOWAIT too: something is ready, or submitted and not yet flushed */
        return 0;
    ouro_time ms = (next - now + MS - 1) / MS;
    return ms > 60000 ? 60000 : (int)ms;
}

/* The program's own loop. All that ouro needs in it: the timeout, and the call of ouro_dispatch. */
static int serve(struct host *host, int epoll, int ticker)
{
    while (host->error == 0 && (host->reading || host->timing || host->ticks < TICKS)) {
        struct epoll_event events[8];
        int n = epoll_wait(epoll, events, 8, timeout_ms(host->loop));
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++) {
            uint64_t expirations;
            if (events[i].data.fd == ticker && read(ticker, &expirations, 8) == 8)
                host->ticks++;
        }
        int r = ouro_dispatch(host->loop, 0); /* cheap when nothing is due, so simply always */
        if (r < 0)
            return r;
    }
    return host->error;
}

/* An epoll set that watches the ticker and the loop; -errno on failure. */
static int make_epoll(ouro_loop *loop, int ticker)
{
    struct itimerspec every = { { 0, TICK_MS * 1000000 }, { 0, TICK_MS * 1000000 } };
    int fds[2] = { ticker, ouro_pollfd(loop) }, epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0 || timerfd_settime(ticker, 0, &every, NULL) != 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fds[i] };
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) != 0)
            return -errno;
    }
    return epoll;
}

int main(int argc, char **argv)
{
    static struct host host; /* static: all-zero, and there until the loop is closed */
    char own[] = "/tmp/ouro-hosted-XXXXXX";
    struct stat st;

    host.file = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : mkstemp(own);
    int ticker = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (argc == 1 && host.file >= 0 && (unlink(own) != 0 || ftruncate(host.file, 100001) != 0))
        return perror("hosted_epoll"), 1;
    if (host.file < 0 || ticker < 0 || fstat(host.file, &st) != 0)
        return perror("hosted_epoll"), 1;
    int r = ouro_open(NULL, &host.loop);
    int epoll = r < 0 ? r : make_epoll(host.loop, ticker);
    if (epoll >= 0) {
        ouro_time at = ouro_now(host.loop) + 2 * TICK_MS * MS;
        ouro_prep_read(&host.read, host.file, host.block, BLOCK, 0);
        host.reading = submit(&host, &host.read, on_read);
        ouro_prep_timer(&host.timer, at);
        host.timing = submit(&host, &host.timer, on_timer);
        r = serve(&host, epoll, ticker);
        if (r >= 0 && (host.bytes != st.st_size || ouro_now(host.loop) < at))
            r = -EIO;
    }
    int closed = ouro_close(host.loop, OURO_FOREVER);
    r = epoll < 0 ? epoll : r < 0 ? r : closed;
    printf("%lld bytes and %d ticks: %s\n", (long long)host.bytes, host.ticks,
           r < 0 ? strerror(-r) : "ok");
    return r < 0;
}

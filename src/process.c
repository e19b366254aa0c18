/* SPDX-License-Identifier: MIT */
/* process.c: what the loop asks of the process: the word that a fork wipes, and conditions that
 * wait on the monotonic clock. */
#include "core.h"
#include "dropin.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#ifndef F_SETSIG
#define F_SETSIG 10
#define F_GETSIG 11
#endif
#define SIGNALS 64u   /* Linux has so many everywhere but on MIPS, where there are more */
#define UNMARKED 255u /* marks cannot be had here: what is open counts as ours */

void ouro__cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* A word that is 1 in this process and 0 in a forked child; getpid would be a system call. */
int ouro__alive_open(ouro_loop *loop)
{
    void *page;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    long r = sys_mmap(&page, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (r < 0)
        return (int)r;
    r = sys_madvise(page, size, MADV_WIPEONFORK);
    if (r < 0) {
        sys_munmap(page, size);
        return (int)r;
    }
    loop->alive = page;
    atomic_store(loop->alive, 1);
    return 0;
}

void ouro__alive_close(ouro_loop *loop)
{
    if (loop->alive)
        sys_munmap((void *)loop->alive, (size_t)sysconf(_SC_PAGESIZE));
    loop->alive = NULL;
}

unsigned ouro__cores(void)
{
    int saved = errno;
    long cores = sysconf(_SC_NPROCESSORS_ONLN); /* may open files, and fail in that */

    errno = saved;
    return cores > 0 ? (unsigned)cores : 1;
}

/* Not for programs that run with more rights than their user. */
const char *ouro__environment(const char *name)
{
    return secure_getenv(name);
}

/* ---- Descriptors of the loop's own --------------------------------------------------------- */

/* A program may close all descriptors (closefrom(3), as daemons do), ours with them, and get their
 * numbers for other files. Numbers and types do not tell these from ours: many are eventfds. But
 * every open file bears the number of a signal (F_SETSIG) that it would send if it was told to send
 * any (O_ASYNC), which ours never are. */
void ouro__own(ouro_loop *loop, int fd)
{
    static _Atomic unsigned loops;

    if (!loop->mark)
        loop->mark = (uint8_t)(1 + atomic_fetch_add(&loops, 1) % SIGNALS);
    if (loop->mark != UNMARKED && sys_fcntl(fd, F_SETSIG, loop->mark) < 0)
        loop->mark = UNMARKED;
}

bool ouro__owns(const ouro_loop *loop, int fd)
{
    long mark = fd < 0 ? -EBADF : sys_fcntl(fd, F_GETSIG, 0);

    return loop->mark == UNMARKED ? mark != -EBADF : mark == loop->mark;
}

void ouro__drop(const ouro_loop *loop, int fd)
{
    if (ouro__owns(loop, fd))
        sys_close(fd);
}

/* ---- Hosting -------------------------------------------------------------------------------- */

/* The descriptor that a foreign loop watches stays the same when the engine changes. */
int ouro__host_open(ouro_loop *loop)
{
    int r;

    if (ouro__owns(loop, loop->host_fd))
        return loop->host_fd;
    r = (int)sys_epoll_create(EPOLL_CLOEXEC);
    if (r < 0)
        return r;
    loop->host_fd = r;
    ouro__own(loop, r);
    r = loop->engine->pollfd(loop);
    loop->host_engine_fd = r;
    if (r >= 0)
        r = (int)sys_epoll_ctl(loop->host_fd, EPOLL_CTL_ADD, r, EPOLLIN, 0);
    if (r < 0) {
        ouro__host_close(loop);
        return r;
    }
    return loop->host_fd;
}

int ouro__engine_fd(ouro_loop *loop)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    r = loop->engine->pollfd(loop);
    ouro__leave(loop);
    return r;
}

void ouro__host_change(ouro_loop *loop)
{
    if (!ouro__owns(loop, loop->host_fd))
        loop->host_fd = -1;
    if (loop->host_fd < 0)
        return;
    (void)sys_epoll_ctl(loop->host_fd, EPOLL_CTL_DEL, loop->host_engine_fd, 0, 0);
    loop->host_engine_fd = loop->engine->pollfd(loop);
    if (loop->host_engine_fd >= 0)
        (void)sys_epoll_ctl(loop->host_fd, EPOLL_CTL_ADD, loop->host_engine_fd, EPOLLIN, 0);
}

void ouro__host_close(ouro_loop *loop)
{
    ouro__drop(loop, loop->host_fd);
    loop->host_fd = -1;
}

void ouro__pause(void)
{
    sys_poll(NULL, 0, 1);
}

void ouro__await_hangup(int fd)
{
    struct pollfd watch = { .fd = fd, .events = POLLIN };
    long r;

    do
        r = sys_poll(&watch, 1, -1);
    while (r == -EINTR || r == -EAGAIN);
}

void ouro__queue_signal(int signo, void *value)
{
    int saved = errno;

    sigqueue(getpid(), signo, (union sigval){ .sival_ptr = value });
    errno = saved;
}

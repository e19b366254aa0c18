/* SPDX-License-Identifier: MIT */
/* aio_signal: copies standard input to standard output by POSIX AIO and is told by a signal that a
 * request is over. The signal is blocked, and taken with sigwaitinfo where the program waits, so
 * that no handler interrupts anything; its value is the request.
 * Plain <aio.h>; `ouro run aio_signal <IN >OUT` runs it on ouro. With an argument it checks itself
 * by a pipe. */
#define _POSIX_C_SOURCE 200809L
#include <aio.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned char data[64 * 1024];

/* Waits for the request by its signal: its result, or -1 with errno. */
static ssize_t wait_for(struct aiocb *request, const sigset_t *set)
{
    siginfo_t info;

    do {
        while (sigwaitinfo(set, &info) < 0)
            if (errno != EINTR)
                return -1;
    } while (info.si_value.sival_ptr != request);
    errno = aio_error(request);
    return aio_return(request);
}

static ssize_t transfer(int fd, void *buf, size_t len, off_t offset, int writes,
                        const sigset_t *set)
{
    struct aiocb request;

    memset(&request, 0, sizeof(request));
    request.aio_fildes = fd;
    request.aio_buf = buf;
    request.aio_nbytes = len;
    request.aio_offset = offset; /* of no meaning for pipes and terminals */
    request.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
    request.aio_sigevent.sigev_signo = SIGRTMIN;
    request.aio_sigevent.sigev_value.sival_ptr = &request;
    if ((writes ? aio_write(&request) : aio_read(&request)) < 0)
        return -1;
    return wait_for(&request, set);
}

static int copy(int in, int out)
{
    off_t at = 0;
    sigset_t set;
    ssize_t got;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    while ((got = transfer(in, data, sizeof(data), at, 0, &set)) > 0) {
        for (ssize_t done = 0, put; done < got; done += put) {
            put = transfer(out, data + done, (size_t)(got - done), at + done, 1, &set);
            if (put < 0)
                return -1;
        }
        at += got;
    }
    return got < 0 ? -1 : 0;
}

static int check_by_pipes(void)
{
    static const char text[] = "told by a signal";
    char back[sizeof(text)] = "";
    int in[2], out[2];

    if (pipe(in) < 0 || pipe(out) < 0 || write(in[1], text, sizeof(text)) != sizeof(text))
        return 1;
    close(in[1]);
    if (copy(in[0], out[1]) < 0 || read(out[0], back, sizeof(back)) != sizeof(back))
        return 1;
    return strcmp(text, back) != 0;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return check_by_pipes();
    if (copy(STDIN_FILENO, STDOUT_FILENO) < 0) {
        perror("aio_signal");
        return 1;
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* aio_poll: reads a file by POSIX AIO, DEPTH blocks at once, and looks by itself what is over:
 * aio_suspend sleeps until one is. Prints size and sum of the bytes. Plain <aio.h>; `ouro run
 * aio_poll FILE` runs it on ouro. Without FILE it checks one of its own. */
#define _POSIX_C_SOURCE 200809L
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEPTH = 16, BLOCK = 16 * 1024, OWN_BLOCKS = 100 };

static struct aiocb requests[DEPTH];
static unsigned char data[DEPTH][BLOCK];
static unsigned long long size, sum;

static int begin(int i, int fd, off_t offset)
{
    struct aiocb *request = &requests[i];

    memset(request, 0, sizeof(*request));
    request->aio_fildes = fd;
    request->aio_buf = data[i];
    request->aio_nbytes = BLOCK;
    request->aio_offset = offset;
    request->aio_sigevent.sigev_notify = SIGEV_NONE;
    return aio_read(request);
}

/* What came. */
static ssize_t take(int i)
{
    int error = aio_error(&requests[i]);
    ssize_t got = aio_return(&requests[i]);

    if (error) {
        fprintf(stderr, "read: %s\n", strerror(error));
        exit(1);
    }
    for (ssize_t at = 0; at < got; at++)
        sum += data[i][at];
    size += (unsigned long long)got;
    return got;
}

static void read_all(int fd)
{
    const struct aiocb *waiting[DEPTH] = { NULL };
    off_t next = 0;
    int in_flight = 0, ended = 0;

    do {
        for (int i = 0; i < DEPTH && !ended; i++, next += BLOCK) {
            if (waiting[i] || begin(i, fd, next) < 0)
                break;
            waiting[i] = &requests[i];
            in_flight++;
        }
        if (in_flight && aio_suspend(waiting, DEPTH, NULL) < 0 && errno != EINTR)
            exit(1);
        for (int i = 0; i < DEPTH; i++) {
            if (!waiting[i] || aio_error(waiting[i]) == EINPROGRESS)
                continue;
            waiting[i] = NULL;
            in_flight--;
            ended |= take(i) < BLOCK;
        }
    } while (in_flight || !ended);
}

/* A file whose sum is known. */
static int own_file(void)
{
    char path[] = "aio-example-XXXXXX";
    int fd = mkstemp(path);

    unlink(path);
    memset(data[0], 1, BLOCK);
    for (int i = 0; i < OWN_BLOCKS && fd >= 0; i++)
        if (write(fd, data[0], BLOCK) != BLOCK)
            return -1;
    return fd;
}

int main(int argc, char **argv)
{
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : own_file();

    if (fd < 0) {
        perror(argc > 1 ? argv[1] : "a file of its own");
        return 1;
    }
    read_all(fd);
    printf("%llu bytes, sum %llu\n", size, sum);
    return argc > 1 || (size == (unsigned long long)OWN_BLOCKS * BLOCK && sum == size) ? 0 : 1;
}

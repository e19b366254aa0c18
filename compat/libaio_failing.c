/* SPDX-License-Identifier: MIT */
/* libaio_failing.c: requests that can only fail, one for each errno that has such a request. They
 * are given to the kernel for the event that says so (libaio_inject.c, libaio_proxy.c), and do
 * nothing else: no signal comes of them, and nobody waits. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

char laio_scrap[8];

int laio_open_terminal(bool writes)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), other;

    if (master < 0)
        return -1;
    other = unlockpt(master) < 0 ? -1 : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (other < 0) {
        close(master);
        return -1;
    }
    close(writes ? master : other);
    return writes ? other : master;
}

static int open_pty(int *ret_other)
{
    *ret_other = -1;
    return laio_open_terminal(false);
}

static int open_zero(int *ret_other)
{
    *ret_other = -1;
    return open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static int open_eventfd(int *ret_other)
{
    *ret_other = -1;
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static int open_socket(int *ret_other)
{
    *ret_other = -1;
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* One of a pair that has sent a byte which nobody reads. NULL: the other one is closed. */
static int open_pair(int type, int *ret_other)
{
    int pair[2];

    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    (void)send(pair[0], laio_scrap, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (ret_other)
        *ret_other = pair[1];
    else
        close(pair[1]);
    return pair[0];
}

int laio_open_reset(void)
{
    return open_pair(SOCK_STREAM, NULL);
}

static int open_reset(int *ret_other)
{
    *ret_other = -1;
    return laio_open_reset();
}

static int open_refused(int *ret_other)
{
    *ret_other = -1;
    return open_pair(SOCK_DGRAM, NULL);
}

/* Datagrams, for which there is no SIGPIPE; who reads none is there, or it would be refused. */
static int open_broken(int *ret_other)
{
    int fd = open_pair(SOCK_DGRAM, ret_other);

    if (fd >= 0)
        shutdown(*ret_other, SHUT_RD);
    return fd;
}

static int open_sealed(int *ret_other)
{
    int fd = memfd_create("ouro-sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    *ret_other = -1;
    if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static const struct laio_failing failing[] = {
    { EIO, open_pty, IOCB_CMD_PREAD, 8, 0, laio_scrap },
    { EFAULT, open_zero, IOCB_CMD_PREAD, 8, 0, (char *)sizeof(laio_scrap) }, // NOLINT
    { EINVAL, open_eventfd, IOCB_CMD_PREAD, 4, 0, laio_scrap },
    { EAGAIN, open_eventfd, IOCB_CMD_PREAD, 8, 0, laio_scrap },
    { ESPIPE, open_socket, IOCB_CMD_PREAD, 8, 8, laio_scrap },
    { ENOTCONN, open_socket, IOCB_CMD_PWRITE, 8, 0, laio_scrap },
    { ECONNRESET, open_reset, IOCB_CMD_PREAD, 8, 0, laio_scrap },
    { ECONNREFUSED, open_refused, IOCB_CMD_PWRITE, 8, 0, laio_scrap },
    { EPIPE, open_broken, IOCB_CMD_PWRITE, 8, 0, laio_scrap },
    { EPERM, open_sealed, IOCB_CMD_PWRITE, 8, 0, laio_scrap },
};

const struct laio_failing *laio_failing_of(int error)
{
    for (size_t i = 0; i < sizeof(failing) / sizeof(*failing); i++)
        if (failing[i].error == error)
            return &failing[i];
    return &failing[0];
}

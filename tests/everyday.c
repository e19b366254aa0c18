/* SPDX-License-Identifier: MIT */
/* everyday.c: one of each usual operation on the loop of a test, for cases in which something
 * beneath it is not as usual. */
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "test.h"

static void work_with_bytes(struct test *t, ouro_op *op, int fd)
{
    char buf[8], two[] = "gh";

    ouro_prep_write(op, fd, "abcdef", 6, 0);
    CHECK_EQ(do_op(t, op), 6);
    ouro_prep_writev(op, fd, (struct iovec[]){ { buf, 0 }, { two, 2 } }, 2, 6, 0);
    CHECK_EQ(do_op(t, op), 2);
    ouro_prep_fsync(op, fd);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_fallocate(op, fd, 0, 0, 16);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_ftruncate(op, fd, 8);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ouro_prep_read(op, fd, buf, 8, OURO_CUR);
    CHECK_EQ(do_op(t, op), 8);
    CHECK(memcmp(buf, "abcdefgh", 8) == 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    memset(buf, 0, sizeof(buf));
    ouro_prep_readv(op, fd, (struct iovec[]){ { buf, 1 }, { buf + 1, 7 } }, 2, 1, 0);
    CHECK_EQ(do_op(t, op), 7);
    CHECK(memcmp(buf, "bcdefgh", 8) == 0);
}

void work_on_files(struct test *t)
{
    ouro_op *op = op_new(t);
    struct ouro_stat st;
    int fd;

    ouro_prep_open(op, OURO_HERE, path_in(t, "everyday"), O_RDWR | O_CREAT, 0600);
    fd = (int)do_op(t, op);
    CHECK(fd >= 0);
    work_with_bytes(t, op, fd);
    ouro_prep_stat(op, OURO_HERE, path_in(t, "everyday"), 0, &st);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(st.size, 8);
    ouro_prep_rename(op, OURO_HERE, path_in(t, "everyday"), OURO_HERE, path_in(t, "moved"), 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_unlink(op, OURO_HERE, path_in(t, "moved"), 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_mkdir(op, OURO_HERE, path_in(t, "folder"), 0700);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(rmdir(path_in(t, "folder")), 0);
    ouro_prep_close(op, fd);
    CHECK_EQ(do_op(t, op), 0);
}

static void make_connection(struct test *t, int fds[2])
{
    ouro_op *op = op_new(t), *accept = op_new(t);
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof(addr);
    int listener;

    ouro_prep_socket(op, AF_INET, SOCK_STREAM, 0);
    listener = (int)do_op(t, op);
    CHECK(listener >= 0);
    ouro_prep_bind(op, listener, (struct sockaddr *)&addr, size);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_listen(op, listener, 4);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&addr, &size), 0);
    ouro_prep_accept(accept, listener, NULL, NULL, 0);
    start(t, accept);
    ouro_prep_socket(op, AF_INET, SOCK_STREAM, 0);
    fds[0] = (int)do_op(t, op);
    CHECK(fds[0] >= 0);
    ouro_prep_connect(op, fds[0], (struct sockaddr *)&addr, size);
    CHECK_EQ(do_op(t, op), 0);
    fds[1] = (int)finish(t, accept);
    CHECK(fds[1] >= 0);
    ouro_prep_close(op, listener);
    CHECK_EQ(do_op(t, op), 0);
}

void work_on_sockets(struct test *t)
{
    ouro_op *op = op_new(t), *in = op_new(t);
    char buf[4] = "";
    int fds[2];

    make_connection(t, fds);
    ouro_prep_recv(in, fds[1], buf, 4, 0);
    start(t, in);
    step(t);
    ouro_prep_send(op, fds[0], "abc", 3, 0);
    CHECK_EQ(do_op(t, op), 3);
    CHECK_EQ(finish(t, in), 3);
    CHECK(memcmp(buf, "abc", 4) == 0);
    ouro_prep_poll(op, fds[0], POLLOUT);
    CHECK_EQ(do_op(t, op), POLLOUT);
    ouro_prep_recv(in, fds[1], buf, 4, 0);
    start(t, in);
    step(t);
    cancel_and_finish(t, in);
    ouro_prep_shutdown(op, fds[0], SHUT_WR);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_recv(in, fds[1], buf, 4, 0);
    CHECK_EQ(do_op(t, in), 0);
    for (int i = 0; i < 2; i++) {
        ouro_prep_close(op, fds[i]);
        CHECK_EQ(do_op(t, op), 0);
    }
}

/* What no file and no socket is needed for, a cancel, and an error that is the caller's own. */
void work_on_the_rest(struct test *t)
{
    ouro_op *op = op_new(t), *ready = op_new(t);
    char byte;
    int fds[2];

    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    ouro_prep_nop(op);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_poll(ready, fds[0], POLLIN);
    start(t, ready);
    ouro_prep_read(op, fds[0], &byte, 1, 0);
    start(t, op);
    step(t);
    cancel_and_finish(t, op);
    ouro_prep_write(op, fds[1], "x", 1, 0);
    CHECK_EQ(do_op(t, op), 1);
    CHECK_EQ(finish(t, ready), POLLIN);
    ouro_prep_open(op, OURO_HERE, "/proc/self/mem/x", O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -ENOTDIR);
    for (int i = 0; i < 2; i++) {
        ouro_prep_close(op, fds[i]);
        CHECK_EQ(do_op(t, op), 0);
    }
}

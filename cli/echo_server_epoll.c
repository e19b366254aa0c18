/* SPDX-License-Identifier: MIT */
/* The contender `epoll` of suite echo: a plain server as one writes it by hand. Edge-triggered: a
 * connection is registered once, a short receive means that nothing is left, and epoll does not
 * have to look at it again. */
#include "echo.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 512, SPARE = 256 };

struct conn {
    bool ended;                  /* the peer will send no more */
    size_t rest_size, rest_done; /* what could not be sent at once; nothing is received meanwhile */
};

static char block[ECHO_BLOCK];
static struct conn *conns; /* by descriptor */
static unsigned conn_room;
static char (*rests)[ECHO_BLOCK]; /* for each connection; the memory is there once it is used */

static void conn_end(int fd)
{
    conns[fd] = (struct conn){ 0 };
    close(fd);
}

/* 1: all is sent; 0: the rest is kept; -errno. */
static int conn_send(int fd, const char *data, size_t size)
{
    struct conn *conn = &conns[fd];
    size_t done = 0;

    while (done < size) {
        ssize_t r = send(fd, data + done, size - done, MSG_NOSIGNAL);

        if (r < 0 && errno == EAGAIN)
            break;
        if (r < 0 && errno != EINTR)
            return -errno;
        done += r > 0 ? (size_t)r : 0;
    }
    if (done == size)
        return 1;
    memcpy(rests[fd], data + done, size - done);
    conn->rest_size = size - done;
    conn->rest_done = 0;
    return 0;
}

/* As conn_send, for what was kept. */
static int conn_send_rest(int fd)
{
    struct conn *conn = &conns[fd];

    while (conn->rest_done < conn->rest_size) {
        ssize_t r =
            send(fd, rests[fd] + conn->rest_done, conn->rest_size - conn->rest_done, MSG_NOSIGNAL);

        if (r < 0 && errno == EAGAIN)
            return 0;
        if (r < 0 && errno != EINTR)
            return -errno;
        conn->rest_done += r > 0 ? (size_t)r : 0;
    }
    return 1;
}

static void conn_serve(int fd, uint32_t events)
{
    struct conn *conn = &conns[fd];
    int r = conn->rest_done < conn->rest_size ? conn_send_rest(fd) : 1;

    conn->ended |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    while (r > 0) {
        ssize_t got = recv(fd, block, sizeof(block), 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        r = got > 0 ? conn_send(fd, block, (size_t)got) : -1;
        if (r > 0 && (size_t)got < sizeof(block) && !conn->ended)
            return;
    }
    if (r < 0)
        conn_end(fd);
}

static void accept_all(int epoll, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                     .data.fd = fd };

        if ((unsigned)fd >= conn_room || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

int echo_serve_epoll(const struct echo_job *job)
{
    struct epoll_event events[EVENTS], event = { .events = EPOLLIN, .data.fd = job->listener };
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0 || fcntl(job->listener, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, job->listener, &event) < 0)
        return -errno;
    conn_room = job->connections + SPARE;
    conns = calloc(conn_room, sizeof(*conns));
    rests = calloc(conn_room, sizeof(*rests));
    if (!conns || !rests)
        return -ENOMEM;
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);

        if (count < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd != job->listener)
                conn_serve(events[i].data.fd, events[i].events);
            else
                accept_all(epoll, job->listener);
        }
    }
}

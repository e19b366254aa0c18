/* SPDX-License-Identifier: MIT */
/* The contender `libevent` of suite echo: plain events, which are faster than its bufferevents;
 * receives and sends by hand. */
#include "echo.h"

#ifdef HAVE_LIBEVENT

#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct conn {
    struct event *in, *out;
    char *rest; /* what could not be sent at once; nothing is received meanwhile */
    size_t rest_size, rest_done;
};

static char block[ECHO_BLOCK];

static void conn_end(struct conn *conn, int fd)
{
    if (conn->in)
        event_free(conn->in);
    if (conn->out)
        event_free(conn->out);
    close(fd);
    free(conn->rest);
    free(conn);
}

static void on_writable(int fd, short what, void *arg)
{
    struct conn *conn = arg;

    (void)what;
    while (conn->rest_done < conn->rest_size) {
        ssize_t r =
            send(fd, conn->rest + conn->rest_done, conn->rest_size - conn->rest_done, MSG_NOSIGNAL);

        if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
            event_add(conn->out, NULL);
            return;
        }
        if (r < 0) {
            conn_end(conn, fd);
            return;
        }
        conn->rest_done += (size_t)r;
    }
    free(conn->rest);
    conn->rest = NULL;
    event_add(conn->in, NULL);
}

static void on_readable(int fd, short what, void *arg)
{
    struct conn *conn = arg;
    ssize_t got = recv(fd, block, sizeof(block), 0), sent;

    (void)what;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    sent = got > 0 ? send(fd, block, (size_t)got, MSG_NOSIGNAL) : -1;
    if (got <= 0 || (sent < 0 && errno != EAGAIN && errno != EINTR)) {
        conn_end(conn, fd);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    if (sent == got)
        return;
    conn->rest_size = (size_t)(got - sent);
    conn->rest_done = 0;
    conn->rest = malloc(conn->rest_size);
    if (!conn->rest) {
        conn_end(conn, fd);
        return;
    }
    memcpy(conn->rest, block + sent, conn->rest_size);
    event_del(conn->in);
    event_add(conn->out, NULL);
}

static void on_connection(int listener, short what, void *arg)
{
    int fd;

    (void)what;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *conn = calloc(1, sizeof(*conn));

        if (!conn) {
            close(fd);
            continue;
        }
        conn->in = event_new(arg, fd, EV_READ | EV_PERSIST, on_readable, conn);
        conn->out = event_new(arg, fd, EV_WRITE, on_writable, conn);
        if (!conn->in || !conn->out || event_add(conn->in, NULL) < 0)
            conn_end(conn, fd);
    }
}

int echo_serve_libevent(const struct echo_job *job)
{
    struct event_base *base = event_base_new();
    struct event *accepts;

    if (!base)
        return -ENOMEM;
    if (fcntl(job->listener, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    accepts = event_new(base, job->listener, EV_READ | EV_PERSIST, on_connection, base);
    if (!accepts || event_add(accepts, NULL) < 0)
        return -ENOMEM;
    return event_base_dispatch(base) < 0 ? -EIO : 0;
}

#endif

/* SPDX-License-Identifier: MIT */
/* The contender `libuv` of suite echo: one buffer for all that is received, uv_try_write first, and
 * uv_write only for what that leaves. */
#include "echo.h"

#ifdef HAVE_LIBUV

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct rest {
    uv_write_t request;
    char data[];
};

static char block[ECHO_BLOCK];

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *ret)
{
    (void)handle;
    (void)wanted;
    *ret = uv_buf_init(block, sizeof(block));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);

static void on_written(uv_write_t *request, int status)
{
    uv_stream_t *stream = request->handle;

    free(request);
    if (uv_is_closing((uv_handle_t *)stream))
        return;
    if (status < 0)
        uv_close((uv_handle_t *)stream, on_closed);
    else
        uv_read_start(stream, on_alloc, on_read);
}

/* Nothing is read until it is gone. */
static int write_rest(uv_stream_t *stream, const char *data, size_t size)
{
    struct rest *rest = malloc(sizeof(*rest) + size);
    uv_buf_t buffer;
    int r;

    if (!rest)
        return UV_ENOMEM;
    memcpy(rest->data, data, size);
    buffer = uv_buf_init(rest->data, (unsigned)size);
    r = uv_write(&rest->request, stream, &buffer, 1, on_written);
    if (r < 0)
        free(rest);
    else
        uv_read_stop(stream);
    return r;
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    int r = size < 0 ? (int)size : 0;

    if (size > 0) {
        uv_buf_t out = uv_buf_init(buffer->base, (unsigned)size);
        size_t done;

        r = uv_try_write(stream, &out, 1);
        done = r > 0 ? (size_t)r : 0;
        if (r == UV_EAGAIN || (r >= 0 && done < (size_t)size))
            r = write_rest(stream, buffer->base + done, (size_t)size - done);
    }
    if (r < 0)
        uv_close((uv_handle_t *)stream, on_closed);
}

static void on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *tcp = status < 0 ? NULL : malloc(sizeof(*tcp));

    if (!tcp || uv_tcp_init(listener->loop, tcp) < 0) {
        free(tcp);
        return;
    }
    if (uv_accept(listener, (uv_stream_t *)tcp) < 0 ||
        uv_read_start((uv_stream_t *)tcp, on_alloc, on_read) < 0)
        uv_close((uv_handle_t *)tcp, on_closed);
}

int echo_serve_libuv(const struct echo_job *job)
{
    static uv_loop_t loop;
    static uv_tcp_t listener;
    int r = uv_loop_init(&loop);

    if (r == 0)
        r = uv_tcp_init(&loop, &listener);
    if (r == 0)
        r = uv_tcp_open(&listener, job->listener);
    if (r == 0)
        r = uv_listen((uv_stream_t *)&listener, ECHO_BACKLOG, on_connection);
    return r < 0 ? r : uv_run(&loop, UV_RUN_DEFAULT);
}

#endif

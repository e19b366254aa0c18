/* SPDX-License-Identifier: MIT */
/* epoll.c: the engine where io_uring is not to be had: readiness by epoll(7), files on workers. */
#include "epoll_set.h"

static int epoll_open(ouro_loop *loop, struct ouro__why *why)
{
    int r = ouro__epoll_set_open(loop, sizeof(struct epoll_set), why);

    if (r == 0)
        loop->caps = ouro__ready_caps() & ~loop->mask;
    return r;
}

static int epoll_close(ouro_loop *loop, int forked, ouro_time until)
{
    (void)forked,
        (void)until; /* a child's copies share the set, which no close of theirs changes */
    ouro__epoll_set_close(loop);
    return 0;
}

const struct ouro__engine ouro__engine_epoll = {
    .name = "epoll",
    .sends_here = true,
    .open = epoll_open,
    .close = epoll_close,
    .route = ouro__ready_route,
    .route_op = ouro__ready_route_op,
    .submit = ouro__ready_submit,
    .wait = ouro__ready_wait,
    .cancel = ouro__ready_cancel,
    .wake = ouro__ready_wake,
    .pollfd = ouro__epoll_set_pollfd,
    .forget = ouro__epoll_set_forget,
};

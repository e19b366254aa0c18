/* SPDX-License-Identifier: MIT */
/* threads.c: the engine that works everywhere: readiness by poll(2), everything else on workers. */
#include "poll_set.h"

static int threads_open(ouro_loop *loop, struct ouro__why *why)
{
    int r = ouro__poll_set_open(loop, sizeof(struct poll_set), why);

    if (r == 0)
        loop->caps = ouro__ready_caps() & ~loop->mask;
    return r;
}

static int threads_close(ouro_loop *loop, int forked, ouro_time until)
{
    (void)forked, (void)until; /* nothing here is left to the kernel */
    ouro__poll_set_close(loop);
    return 0;
}

const struct ouro__engine ouro__engine_threads = {
    .name = "threads",
    .sends_here = true,
    .open = threads_open,
    .close = threads_close,
    .route = ouro__ready_route,
    .route_op = ouro__ready_route_op,
    .submit = ouro__ready_submit,
    .wait = ouro__ready_wait,
    .cancel = ouro__ready_cancel,
    .wake = ouro__ready_wake,
    .pollfd = ouro__poll_set_pollfd,
};

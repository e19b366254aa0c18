/* SPDX-License-Identifier: MIT */
/* doorbell.c: an eventfd, or a pipe where there is none, that other threads write to. */
#include "doorbell.h"

#include <fcntl.h>
#include <sys/eventfd.h>

int ouro__doorbell_open(ouro_loop *loop, struct doorbell *bell)
{
    int ends[2];
    long r = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    ends[0] = ends[1] = (int)r;
    if (r < 0)
        r = sys_pipe2(ends, O_CLOEXEC | O_NONBLOCK);
    if (r < 0)
        return (int)r;
    for (unsigned i = 0; i < 2; i++) {
        ouro__own(loop, ends[i]);
        atomic_store(&bell->ends[i], ends[i]);
    }
    return 0;
}

void ouro__doorbell_close(struct doorbell *bell)
{
    int ends[2] = { bell->ends[0], bell->ends[1] };

    ouro__drop(bell->loop, ends[0]);
    if (ends[1] != ends[0])
        ouro__drop(bell->loop, ends[1]);
    bell->ends[0] = -1;
    bell->ends[1] = -1;
}

/* A full pipe is rung already. A driver whose bell is gone finds that out before it sleeps. */
static void ring(struct doorbell *bell)
{
    const uint64_t one = 1;
    int end = atomic_load(&bell->ends[1]);

    if (ouro__owns(bell->loop, end))
        sys_write(end, &one, sizeof(one));
}

void ouro__doorbell_ring(struct doorbell *bell)
{
    if (!atomic_exchange(&bell->rung, true))
        ring(bell);
}

bool ouro__doorbell_renew(ouro_loop *loop, struct doorbell *bell)
{
    ouro__doorbell_close(bell);
    if (ouro__doorbell_open(loop, bell) < 0)
        return false;
    atomic_store(&bell->rung, true);
    ring(bell);
    return true;
}

enum doorbell_is ouro__doorbell_check(ouro_loop *loop, struct doorbell *bell)
{
    if (ouro__owns(loop, ouro__doorbell_fd(bell)))
        return DOORBELL_HOLDS;
    return ouro__doorbell_renew(loop, bell) ? DOORBELL_NEW : DOORBELL_GONE;
}

/* Who rings between the last two lines has been heard: the driver looks at everything behind. */
bool ouro__doorbell_hear(struct doorbell *bell)
{
    uint64_t some[32];

    if (!ouro__owns(bell->loop, ouro__doorbell_fd(bell)))
        return false;
    while (sys_read(ouro__doorbell_fd(bell), some, sizeof(some)) == (long)sizeof(some))
        ; /* a pipe may hold more */
    atomic_exchange(&bell->rung, false);
    return true;
}

/* SPDX-License-Identifier: MIT */
/* register.c: memory regions and open files that a program names once. An engine that can make them
 * known to the kernel does; everywhere else they mean the same. */
#include "core.h"

#define SLOTS_MOST 65536u
#define REGIONS_MOST 16384u

static void forget_regions(ouro_loop *loop)
{
    ouro__alloc(loop, loop->regions, loop->region_count * sizeof(*loop->regions), 0);
    loop->regions = NULL;
    loop->region_count = 0;
    loop->regions_native = false;
}

static int set_regions(ouro_loop *loop, const struct iovec *regions, unsigned count)
{
    struct iovec *copy = NULL;

    if (loop->regbuf_in_flight)
        return -EBUSY;
    if (count) {
        copy = ouro__alloc(loop, NULL, 0, count * sizeof(*copy));
        if (!copy)
            return -ENOMEM;
        memcpy(copy, regions, count * sizeof(*copy));
    }
    if (loop->regions_native)
        loop->engine->buffers(loop, NULL, 0);
    forget_regions(loop);
    loop->regions = copy;
    loop->region_count = count;
    if (count && loop->engine->buffers && loop->caps & OURO_CAP_FIXED)
        loop->regions_native = loop->engine->buffers(loop, regions, count) == 0;
    if (count && !loop->regions_native)
        loop->stats.fallback++;
    return 0;
}

int ouro_register_buffers(ouro_loop *loop, const struct iovec *regions, unsigned count)
{
    int r;

    if ((count && !regions) || count > REGIONS_MOST)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++)
        if (!regions[i].iov_base || !regions[i].iov_len)
            return -EFAULT;
    r = ouro__enter(loop);
    if (r < 0)
        return r;
    r = loop->closing ? -ESHUTDOWN : set_regions(loop, regions, count);
    ouro__leave(loop);
    return r;
}

int ouro_direct_table(ouro_loop *loop, unsigned slots)
{
    int r = slots && slots <= SLOTS_MOST ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    if (loop->direct) {
        r = -EBUSY;
    } else if (!(loop->direct = ouro__alloc(loop, NULL, 0, slots * sizeof(*loop->direct)))) {
        r = -ENOMEM;
    } else {
        memset(loop->direct, 0, slots * sizeof(*loop->direct));
        for (unsigned i = 0; i < slots; i++)
            loop->direct[i].fd = OURO__SLOT_EMPTY;
        loop->direct_count = slots;
    }
    ouro__leave(loop);
    return r;
}

/* A descriptor for a file that the engine alone has, as the caller would have opened it. */
static int lend(ouro_loop *loop, uint32_t slot)
{
    struct ouro__direct *direct = &loop->direct[slot];
    int fd = loop->engine->lend(loop, slot);

    if (fd >= 0 && direct->hasty) {
        ouro__fd_unblock(fd, direct->flags);
        direct->hasty = false;
    }
    return fd;
}

int ouro_direct_install(ouro_loop *loop, unsigned slot)
{
    int r = ouro__enter(loop);

    if (r < 0)
        return r;
    if (slot >= loop->direct_count)
        r = -EBADF;
    else if (loop->direct[slot].fd == OURO__SLOT_ENGINE)
        r = lend(loop, slot);
    else if (loop->direct[slot].fd == OURO__SLOT_LOST)
        r = -EIO;
    else
        r = loop->direct[slot].fd < 0 ? -EBADF : ouro__fd_copy(loop->direct[slot].fd);
    if (r >= 0 && loop->direct[slot].file.ours == OURS_SOCKET)
        loop->direct[slot].lingers = true; /* who has it may set SO_LINGER */
    ouro__leave(loop);
    return r;
}

/* A descriptor for a file that the engine alone had. The slot keeps it. */
int ouro__direct_descriptor(ouro_loop *loop, uint32_t slot)
{
    struct ouro__direct *direct = &loop->direct[slot];
    int r = direct->fd == OURO__SLOT_ENGINE ? lend(loop, slot) : direct->fd;

    if (r >= 0 && direct->fd < 0) {
        direct->fd = r;
        direct->file.cache = CACHE_UNKNOWN;
    }
    return r;
}

/* The engine learns what a slot stands for; -1: nothing. */
void ouro__direct_tell(ouro_loop *loop, uint32_t slot, int fd)
{
    struct ouro__direct *direct = &loop->direct[slot];

    if (fd < 0 && !direct->native)
        return;
    direct->native = loop->engine->slot && loop->engine->slot(loop, slot, fd) == 0 && fd >= 0;
}

/* Before the engine ends: its table would outlive it for a moment, and keep the files open. */
void ouro__direct_untell(ouro_loop *loop)
{
    for (uint32_t i = 0; i < loop->direct_count; i++) {
        ouro__direct_tell(loop, i, -1);
        if (loop->direct[i].fd == OURO__SLOT_ENGINE)
            loop->direct[i].fd = OURO__SLOT_LOST;
    }
}

/* Closes the files that are still in slots (in a forked child: this process' copies). */
void ouro__direct_finish(ouro_loop *loop, int forked)
{
    if (!forked)
        ouro__direct_untell(loop);
    for (uint32_t i = 0; i < loop->direct_count; i++)
        if (loop->direct[i].fd >= 0)
            ouro__fd_close(loop->direct[i].fd);
    ouro__alloc(loop, loop->direct, loop->direct_count * sizeof(*loop->direct), 0);
    loop->direct = NULL;
    loop->direct_count = 0;
    forget_regions(loop);
}

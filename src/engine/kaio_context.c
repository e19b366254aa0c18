/* SPDX-License-Identifier: MIT */
/* kaio_context.c: one context of the kernel's asynchronous I/O: whether it is to be had, opening
 * it, taking what has ended, closing it.
 *
 * The requests of all contexts of the system are counted together (fs.aio-nr), and there may be
 * 65,536 if nobody has raised fs.aio-max-nr. A context is not a descriptor: it belongs to the
 * memory of the process, a forked child has none, and closing all descriptors leaves it alone. */
#include "kaio_context.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../sys.h"
#include "refusal.h"

#define ROOM_LEAST 8u
#define ROOM_MOST 512u /* others want some, too */

#define ALLOW "run with a profile that allows io_setup, io_submit, io_getevents and io_destroy"

/* ---- Is it to be had? ----------------------------------------------------------------------- */

/* No context has the address 0, and no memory for the answer is there. */
static void try_calls(struct refusal *refusal)
{
    static const char *const names[] = { "io_setup", "io_submit", "io_getevents", "io_destroy" };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        long r;

        refusal->error = 0;
        refusal->call = names[i];
        switch (i) {
        case 0: r = sys_io_setup(0, NULL); break;
        case 1: r = sys_io_submit(0, 0, NULL); break;
        case 2: r = sys_io_getevents(0, 0, NULL); break;
        default: r = sys_io_destroy(0); break;
        }
        refusal->error = (int)-r;
        if (r != -EFAULT && r != -EINVAL)
            return;
    }
    refusal->call = NULL;
}

static void explain(const struct refusal *refusal, char *why, size_t size)
{
    const char *name = ouro__error_name(refusal->error);

    if (!refusal->error)
        snprintf(why, size, "a seccomp filter kills whoever calls %s (tried in a child); " ALLOW,
                 refusal->call);
    else if (ouro__seccomp_filtered())
        snprintf(
            why, size,
            "%s failed with %s: a seccomp filter is in force and most likely refuses it; " ALLOW,
            refusal->call, name);
    else if (refusal->error == ENOSYS)
        snprintf(why, size,
                 "%s failed with ENOSYS: this kernel was built without CONFIG_AIO; use another one",
                 refusal->call);
    else
        snprintf(why, size, "%s failed with %s (%d), which ouro knows no cause for", refusal->call,
                 name, refusal->error);
}

/* What the whole system may still have; where /proc is hidden that shows at the first request. */
static int check_limit(char *why, size_t size)
{
    int64_t most = ouro__number_in("/proc/sys/fs/aio-max-nr");
    int64_t now = ouro__number_in("/proc/sys/fs/aio-nr");

    if (most < 0 || now < 0 || most - now >= (int64_t)ROOM_LEAST)
        return 0;
    snprintf(
        why, size,
        "io_setup would fail with EAGAIN: the programs of this system have taken %lld requests "
        "(fs.aio-nr) of %lld (fs.aio-max-nr); end some, or as root run: "
        "sysctl fs.aio-max-nr=%lld",
        (long long)now, (long long)most, most > 0 ? 2 * (long long)most : 65536);
    return -EAGAIN;
}

int ouro__kaio_ask(char *why, size_t why_size)
{
    struct refusal refusal;
    int r = ouro__try_calls(try_calls, &refusal);

    if (r < 0) {
        snprintf(why, why_size,
                 "a seccomp filter is in force and the process that tries kernel AIO could not be "
                 "started (%s); raise the limits on processes and memory",
                 ouro__error_name(-r));
        return r;
    }
    if (!refusal.call)
        try_calls(&refusal);
    if (!refusal.call)
        return check_limit(why, why_size);
    explain(&refusal, why, why_size);
    return refusal.error ? -refusal.error : -EPERM;
}

/* ---- Open and close ------------------------------------------------------------------------- */

/* A forked child has nothing of the memory: what it wrote there would be read here. */
static void find_ring(struct kaio_context *context)
{
    struct kaio_ring *ring = (struct kaio_ring *)context->id;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes;

    context->ring = NULL;
    if (ring->magic != KAIO_MAGIC || ring->incompatible || ring->header != sizeof(*ring) ||
        !ring->count)
        return;
    context->ring = ring;
    context->count = ring->count;
    bytes = sizeof(*ring) + ring->count * sizeof(ring->events[0]);
    (void)sys_madvise(ring, (bytes + page - 1) / page * page, MADV_DONTFORK);
}

int ouro__kaio_open(struct kaio_context *ret, unsigned room)
{
    struct kaio_context context = { .room = room < ROOM_MOST ? room : ROOM_MOST };
    long r;

    do
        r = sys_io_setup(context.room, &context.id);
    while (r == -EAGAIN && (context.room /= 2) >= ROOM_LEAST);
    if (r < 0)
        return (int)r;
    find_ring(&context);
    *ret = context;
    return 0;
}

void ouro__kaio_close(struct kaio_context *context)
{
    if (context->id)
        (void)sys_io_destroy(context->id);
    context->id = 0;
}

/* ---- What has ended ------------------------------------------------------------------------- */

static unsigned take_from_ring(struct kaio_context *context, struct kaio_event *ret, unsigned most)
{
    struct kaio_ring *ring = context->ring;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    unsigned count = 0;

    for (; head != tail && count < most; count++) {
        ret[count] = ring->events[head];
        head = head + 1 < context->count ? head + 1 : 0;
    }
    if (count) /* the places are the kernel's again */
        atomic_store_explicit(&ring->head, head, memory_order_release);
    return count;
}

unsigned ouro__kaio_take(struct kaio_context *context, struct kaio_event *ret, unsigned most)
{
    long r;

    if (context->ring)
        return take_from_ring(context, ret, most);
    r = sys_io_getevents(context->id, (long)most, ret);
    return r > 0 ? (unsigned)r : 0;
}

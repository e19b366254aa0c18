/* SPDX-License-Identifier: MIT */
/* libaio_context.c: contexts: how they are found by their name, made, and destroyed.
 *
 * The name of a context is the address of its ring, and programs ask with names that are none.
 * So it is looked up before anything is read there: in a table that is read without a lock, because
 * every call begins with it. Records are never freed, only used again. */
#include "libaio_dropin.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libaio_pure.h"

enum {
    TABLE_BITS = 17,
    TABLE = 1 << TABLE_BITS,
    CONTEXTS_MAX = TABLE / 2,
    CHUNK = 64, /* records that get their memory together */
    PAGE_BITS = 12,
    NAP_NS = 50 * 1000,
};

static struct laio_context gone; /* a place in the table that was taken once */

static struct {
    struct laio_context *_Atomic table[TABLE];
    struct laio_context *chunks[CONTEXTS_MAX / CHUNK];
    struct laio_context *free;
    uint32_t count;  /* records there is memory for */
    _Atomic int off; /* OURO_DISABLE: -1 is no */
} contexts;

/* ---- The table ------------------------------------------------------------------------------ */

static uint32_t place_of(uintptr_t address)
{
    return (uint32_t)((uint64_t)(address >> PAGE_BITS) * 0x9e3779b97f4a7c15u >> (64 - TABLE_BITS));
}

static uint32_t after(uint32_t place)
{
    return (place + 1) % TABLE;
}

static struct laio_context *look_up(uintptr_t address)
{
    for (uint32_t i = place_of(address);; i = after(i)) {
        struct laio_context *context =
            atomic_load_explicit(&contexts.table[i], memory_order_acquire);

        if (!context)
            return NULL;
        if (atomic_load_explicit(&context->address, memory_order_relaxed) == address)
            return context;
    }
}

/* With the lock. */
static void insert(struct laio_context *context, uintptr_t address)
{
    uint32_t i = place_of(address);

    atomic_store(&context->address, address);
    while (contexts.table[i] && contexts.table[i] != &gone)
        i = after(i);
    atomic_store_explicit(&contexts.table[i], context, memory_order_release);
}

/* With the lock. A place stays marked while others lie behind it. */
static void erase(struct laio_context *context)
{
    uint32_t i = place_of(context->address);

    while (contexts.table[i] != context)
        i = after(i);
    contexts.table[i] = &gone;
    if (contexts.table[after(i)])
        return;
    for (; contexts.table[i] == &gone; i = (i + TABLE - 1) % TABLE)
        contexts.table[i] = NULL;
}

/* With the lock. NULL: no memory, or there are too many. */
static struct laio_context *new_record(void)
{
    struct laio_context *context = contexts.free;
    size_t size = CHUNK * sizeof(*context);

    if (!context && contexts.count < CONTEXTS_MAX) {
        context = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (context == MAP_FAILED)
            return NULL;
        contexts.chunks[contexts.count / CHUNK] = context;
        for (unsigned i = CHUNK; i-- > 0;) {
            context[i].next_free = contexts.free;
            contexts.free = &context[i];
        }
        contexts.count += CHUNK;
    }
    if (context) {
        contexts.free = context->next_free;
        context->users = 1;
        context->active = 0;
        context->dying = false;
        context->special = 0;
        context->taken = context->ended = 0;
        context->fetched = 0;
        context->calls = 0;
        context->sleepers = 0;
        context->pure = false;
        context->waiters = 0;
        context->waiting = 0;
        context->running = context->undelivered = context->prompt = 0;
    }
    return context;
}

void laio_contexts_forked(void)
{
    memset(contexts.table, 0, sizeof(contexts.table));
    contexts.free = NULL;
    for (uint32_t i = contexts.count; i-- > 0;) {
        struct laio_context *context = &contexts.chunks[i / CHUNK][i % CHUNK];

        memset(context, 0, sizeof(*context));
        context->next_free = contexts.free;
        contexts.free = context;
    }
}

/* ---- Finding -------------------------------------------------------------------------------- */

/* The program may have moved the ring (mremap); then the kernel knows it by the new address. */
static struct laio_context *find_moved(aio_context_t name)
{
    const struct laio_ring *ring = (const void *)name; // NOLINT(performance-no-int-to-ptr)
    struct laio_context *found = NULL;
    struct aio_shield old;

    if (!contexts.count || name % sizeof(uint64_t) || !laio_readable(ring, sizeof(*ring)) ||
        ring->magic != LAIO_MAGIC)
        return NULL;
    aio_shield(&old);
    aio_lock();
    for (uint32_t i = 0; i < contexts.count && !found; i++) {
        struct laio_context *context = &contexts.chunks[i / CHUNK][i % CHUNK];

        if (context->address && !context->dying && context->id == ring->id &&
            context->room + 1 == ring->count &&
            (context->pure || LAIO_KERNEL(SYS_io_submit, name, 0, NULL) == 0))
            found = context;
    }
    if (found) {
        erase(found);
        if (!found->pure)
            found->ring = (void *)name; // NOLINT(performance-no-int-to-ptr)
        insert(found, name);
        if (found->first) /* it came when the ring was not to be found */
            laio_queue(found);
    }
    aio_unlock();
    aio_unshield(&old);
    return found;
}

struct laio_context *laio_find(aio_context_t name)
{
    struct laio_context *context;

    if (aio_is_copy() || !name)
        return NULL;
    context = look_up(name);
    return context ? context : find_moved(name);
}

/* With the lock: nobody uses it any more. */
static void free_record(struct laio_context *context)
{
    context->next_free = contexts.free;
    contexts.free = context;
}

/* With the lock. */
static void leave(struct laio_context *context)
{
    if (atomic_fetch_sub(&context->users, 1) == 1)
        free_record(context);
}

void laio_unuse(struct laio_context *context)
{
    struct aio_shield old;

    if (atomic_fetch_sub(&context->users, 1) > 1)
        return;
    aio_shield(&old);
    aio_lock();
    free_record(context);
    aio_unlock();
    aio_unshield(&old);
}

bool laio_enter(struct laio_context *context, aio_context_t name)
{
    uint32_t users = atomic_load(&context->users);

    do
        if (!users)
            return false;
    while (!atomic_compare_exchange_weak(&context->users, &users, users + 1));
    if (laio_resume(context)) {
        if (atomic_load(&context->address) == name)
            return true;
        laio_rest(context);
    }
    laio_unuse(context);
    return false;
}

void laio_rest(struct laio_context *context)
{
    atomic_fetch_sub(&context->active, 1);
}

bool laio_resume(struct laio_context *context)
{
    atomic_fetch_add(&context->active, 1);
    if (!atomic_load(&context->dying))
        return true;
    laio_rest(context);
    return false;
}

void laio_leave(struct laio_context *context)
{
    laio_rest(context);
    laio_unuse(context);
}

/* ---- Room ----------------------------------------------------------------------------------- */

/* Programs write the head, and may write what they like. */
static uint32_t head_of(const struct laio_context *context)
{
    return atomic_load_explicit(&context->ring->head, memory_order_relaxed) % (context->room + 1);
}

uint32_t laio_tail(const struct laio_context *context)
{
    return atomic_load_explicit(&context->ring->tail, memory_order_acquire) % (context->room + 1);
}

uint32_t laio_unread(const struct laio_context *context)
{
    uint32_t count = context->room + 1;

    return (laio_tail(context) + count - head_of(context)) % count;
}

/* What was ended is only seen by the tail, which goes round. */
void laio_look_at_tail(struct laio_context *context)
{
    uint32_t count = context->room + 1;
    uint64_t ended = atomic_load(&context->ended);
    uint32_t more = (laio_tail(context) + count - (uint32_t)(ended % count)) % count;

    if (more) /* or somebody else has seen it */
        (void)atomic_compare_exchange_strong(&context->ended, &ended, ended + more);
}

/* Programs may give requests to the kernel themselves, of which only the ends are seen. */
uint32_t laio_used(struct laio_context *context)
{
    uint64_t taken, ended;

    laio_look_at_tail(context);
    ended = atomic_load(&context->ended);
    taken = atomic_load(&context->taken);
    if (taken < ended) {
        (void)atomic_compare_exchange_strong(&context->taken, &taken, ended);
        return laio_unread(context);
    }
    return laio_unread(context) + (uint32_t)((taken - ended) % (context->room + 1));
}

/* ---- Making and destroying ------------------------------------------------------------------ */

static bool is_off(void)
{
    int off = atomic_load_explicit(&contexts.off, memory_order_relaxed);

    if (!off) {
        const char *word = secure_getenv("OURO_DISABLE");

        off = word && *word && strcmp(word, "0") != 0 ? 1 : -1;
        atomic_store(&contexts.off, off);
    }
    return off > 0;
}

/* Each processor but the one that submits may keep places for itself, in lots. */
static uint32_t sure_of(uint32_t room)
{
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    uint32_t count = cpus > 0 ? (uint32_t)cpus : 1, lot = room / (count * 4);

    return lot ? room - lot * (2 * count - 1) : room;
}

/* The kernel has made it. Without memory for a record it is the kernel's alone. */
static void adopt(aio_context_t name)
{
    struct laio_ring *ring = (void *)name; // NOLINT(performance-no-int-to-ptr)
    struct laio_context *context, *stale;
    struct aio_shield old;

    if (ring->magic != LAIO_MAGIC || ring->incompatible || ring->header != sizeof(*ring))
        return;
    aio_shield(&old);
    aio_lock();
    stale = look_up(name);
    if (stale) { /* destroyed behind our back, or being destroyed by now */
        erase(stale);
        stale->address = 0;
        /* What runs there yet will say so to nobody else. */
        if (!atomic_exchange(&stale->dying, true) && !stale->undelivered && !stale->fixes)
            leave(stale);
    }
    context = aio_watch_forks() == 0 ? new_record() : NULL;
    if (context) {
        aio_prepare();
        context->ring = ring;
        context->room = ring->count - 1;
        context->sure = sure_of(context->room);
        context->id = ring->id;
        insert(context, name);
    }
    aio_unlock();
    aio_unshield(&old);
}

static int setup_pure(unsigned count, aio_context_t *ret)
{
    struct laio_context *context;
    struct aio_shield old;
    uintptr_t address = 0;
    int r = -ENOMEM;

    if (!laio_plausible(ret, sizeof(*ret)) || !laio_readable(ret, sizeof(*ret)) ||
        !laio_writable(ret, sizeof(*ret)))
        return -EFAULT;
    if (*ret || !count)
        return -EINVAL;
    aio_shield(&old);
    aio_lock();
    context = aio_watch_forks() == 0 ? new_record() : NULL;
    if (context && (r = laio_pure_open(context, count, &address)) == 0) {
        aio_prepare();
        insert(context, address);
        *ret = address;
    } else if (context) {
        context->address = 0;
        leave(context);
    }
    aio_unlock();
    aio_unshield(&old);
    return r;
}

int laio_setup(unsigned count, aio_context_t *ret)
{
    long r;

    if (is_off())
        return (int)LAIO_KERNEL(SYS_io_setup, count, ret);
    if (laio_pure_wanted())
        return setup_pure(count, ret);
    r = LAIO_KERNEL(SYS_io_setup, count, ret);
    if (r == 0)
        adopt(*ret);
    else if (r == -ENOSYS || r == -EPERM || r == -EACCES)
        return setup_pure(count, ret);
    return (int)r;
}

static int destroy(struct laio_context *context)
{
    const struct timespec nap = { .tv_nsec = NAP_NS };
    uintptr_t name = context->address;
    struct aio_shield old;
    long r = 0;

    aio_shield(&old);
    for (;;) {
        aio_lock();
        aio_wake(context->waiters);
        aio_unlock();
        if (atomic_load(&context->active) == 1) /* it is we */
            break;
        (void)LAIO_KERNEL(SYS_nanosleep, &nap, NULL);
    }
    laio_end_all(context, &old);
    if (!context->pure)
        r = LAIO_KERNEL(SYS_io_destroy, name);
    aio_lock();
    if (context->address) { /* else a new one has the name */
        erase(context);
        context->address = 0;
    }
    if (context->pure)
        laio_pure_close(context, name);
    leave(context);
    aio_unlock();
    aio_unshield(&old);
    return (int)r;
}

int laio_destroy(aio_context_t name)
{
    struct laio_context *context = laio_find(name);

    if (!context)
        return (int)LAIO_KERNEL(SYS_io_destroy, name);
    if (!laio_enter(context, name))
        return -EINVAL;
    if (!atomic_exchange(&context->dying, true)) {
        int r = destroy(context);

        laio_leave(context);
        return r;
    }
    laio_leave(context);
    return -EINVAL;
}

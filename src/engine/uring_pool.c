/* SPDX-License-Identifier: MIT */
/* uring_pool.c: rings of provided buffers: the free buffers of a pool lie where the kernel takes
 * them from when bytes have come. The kernel reads entries between its head and our tail; the tail
 * lies in the last two bytes of the first entry.
 *
 * The kernel takes them in turn, so that all that lie there pass through the processor's caches
 * again and again. So few lie there, as many as a turn may want (pool->level): when a stream finds
 * none, twice as many; when turns have wanted less for long, fewer. The others lie aside
 * (pool->ids), and the one that was used last is the next for the ring.
 *
 * With OURO_CAP_PARTS the kernel fills a buffer by several receives: it moves the start of the
 * entry at its head, and says with each completion whether it is done with the buffer. Where a part
 * lies follows from the sizes of those before it; completions come in the order in which the kernel
 * has used the buffer. */
#include "uring.h"

#include <sys/mman.h>

#define LEVEL_LEAST 8u
#define LEVEL_BYTES 131072u /* but no more than the nearer caches hold beside all else */
#define LEVEL_TAKES 1024u   /* that the level is judged by */
#define RESERVE_PART 8u     /* of a pool that gives parts: one in so many is for who takes none */

static size_t ring_bytes(uint32_t count)
{
    return count * sizeof(struct ring_buf);
}

/* The number that no other pool of the loop has. */
static uint16_t free_group(const ouro_loop *loop, const ouro_pool *pool)
{
    uint16_t group = 0;

    for (const ouro_pool *other = loop->pools; other; other = other->next) {
        if (other != pool && other->native && other->group == group) {
            group++;
            other = loop->pools;
        }
    }
    return group;
}

static void add(ouro_pool *pool, uint32_t id)
{
    struct ring_buf *entry = (struct ring_buf *)pool->ring + (pool->tail++ & (pool->count - 1));

    entry->addr = (uintptr_t)(pool->memory + (size_t)id * pool->size);
    entry->len = pool->size;
    entry->bid = (uint16_t)id;
    pool->rings++;
}

/* From what lies aside, up to the level. */
void ouro__uring_pool_fill(ouro_pool *pool)
{
    struct ring_buf *ring = pool->ring;
    uint32_t in_ring = ouro__pool_in_ring(pool), tail = pool->tail;

    for (; in_ring < pool->level && ouro__pool_spares(pool); in_ring++)
        add(pool, pool->ids[--pool->ready]);
    if (tail != pool->tail)
        __atomic_store_n(&ring[0].tail, pool->tail, __ATOMIC_RELEASE);
}

static int open_ring(struct uring *u, struct ring_buf_reg *reg, void **ret)
{
    void *ring = NULL;
    long r = sys_mmap(&ring, ring_bytes(reg->ring_entries), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (r < 0)
        return (int)r;
    reg->ring_addr = (uintptr_t)ring;
    r = ring_register(&u->ring, RING_REGISTER_PBUF_RING, reg, 1);
    if (r < 0) {
        sys_munmap(ring, ring_bytes(reg->ring_entries));
        return (int)r;
    }
    *ret = ring;
    return 0;
}

/* Nothing tells of it but the attempt. */
bool ouro__uring_knows_parts(struct uring *u)
{
    struct ring_buf_reg reg = { .ring_entries = 1, .flags = RING_PBUF_INC }, end = { .bgid = 0 };
    void *ring = NULL;

    if (open_ring(u, &reg, &ring) < 0)
        return false;
    (void)ring_register(&u->ring, RING_UNREGISTER_PBUF_RING, &end, 1);
    sys_munmap(ring, ring_bytes(1));
    return true;
}

/* Once a pool gives parts, it does so on every ring: some may be out. */
static int make_parts(ouro_loop *loop, ouro_pool *pool)
{
    size_t size = pool->count * sizeof(*pool->parts);

    if (pool->parts)
        return 0;
    pool->parts = ouro__alloc(loop, NULL, 0, size);
    if (!pool->parts)
        return -ENOMEM;
    for (uint32_t id = 0; id < pool->count; id++)
        pool->parts[id] = (struct ouro__parts){ .out = pool->out[id] };
    pool->reserve = pool->count < RESERVE_PART ? 1 : pool->count / RESERVE_PART;
    return 0;
}

int ouro__uring_pool_open(ouro_loop *loop, ouro_pool *pool)
{
    struct uring *u = loop->engine_state;
    struct ring_buf_reg reg = { .ring_entries = pool->count, .bgid = free_group(loop, pool) };
    int r = 0;

    if (!(u->caps & OURO_CAP_MULTISHOT) || u->lost)
        return -EOPNOTSUPP;
    if (u->caps & OURO_CAP_PARTS && pool->count > 1)
        r = make_parts(loop, pool);
    if (pool->parts)
        reg.flags = RING_PBUF_INC;
    if (r == 0)
        r = open_ring(u, &reg, &pool->ring);
    if (r < 0)
        return r;
    pool->group = reg.bgid;
    pool->tail = 0;
    pool->level = pool->rings = 0;
    pool->most = pool->takes = 0;
    return 0;
}

static uint32_t least_level(const ouro_pool *pool)
{
    uint32_t fit = LEVEL_BYTES / pool->size;

    return fit < 2 ? 2 : fit < LEVEL_LEAST ? fit : LEVEL_LEAST;
}

/* A stream is about to take from the ring. Until one does, all are for who takes no parts. */
void ouro__uring_pool_start(ouro_pool *pool)
{
    if (!pool->level)
        pool->level = 2 * least_level(pool);
    ouro__uring_pool_fill(pool);
}

/* So many so far. A polled ring is not entered, but has entries. */
uint64_t ouro__uring_enters(const ouro_loop *loop)
{
    const struct ring *ring = &((struct uring *)loop->engine_state)->ring;

    return ring_polled(ring) ? ring->sq_published : loop->stats.enters;
}

/* A stream found none. Others of the same enter did so before the ring was fuller; a stream that
 * begins again has a new entry. */
void ouro__uring_pool_more(ouro_loop *loop, ouro_pool *pool)
{
    uint64_t now = ouro__uring_enters(loop);

    if (!ouro__pool_spares(pool) || pool->filled == now)
        return;
    pool->filled = now;
    pool->level = pool->level < pool->count / 2 ? pool->level * 2 : pool->count;
    ouro__uring_pool_fill(pool);
}

/* A fourth more than any turn has taken are enough. */
static void settle_level(ouro_pool *pool)
{
    uint32_t enough = pool->most + pool->most / 4;

    if (enough < least_level(pool))
        enough = least_level(pool);
    if (pool->level > enough)
        pool->level = enough;
    pool->most = pool->takes = 0;
}

void ouro__uring_pool_took(ouro_pool *pool)
{
    if (++pool->turn_took > pool->most)
        pool->most = pool->turn_took;
    if (++pool->takes == LEVEL_TAKES)
        settle_level(pool);
}

/* Before a turn. What was taken in the last one is back by now, and goes there first; what the
 * caller keeps is made up for by others. */
void ouro__uring_pools_fill(ouro_loop *loop)
{
    for (ouro_pool *pool = loop->pools; pool; pool = pool->next) {
        pool->turn_took = 0;
        if (pool->native)
            ouro__uring_pool_fill(pool);
    }
}

/* A ring that is lost, or the parent's, is told nothing. */
void ouro__uring_pool_close(ouro_loop *loop, ouro_pool *pool, int forked)
{
    struct uring *u = loop->engine_state;
    struct ring_buf_reg reg = { .bgid = pool->group };

    if (!forked && !u->lost && u->ring.map)
        (void)ring_register(&u->ring, RING_UNREGISTER_PBUF_RING, &reg, 1);
    sys_munmap(pool->ring, ring_bytes(pool->count));
    pool->ring = NULL;
}

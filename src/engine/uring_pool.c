/* SPDX-License-Identifier: MIT */
/* uring_pool.c: rings of provided buffers: the free buffers of a pool lie where the kernel takes
 * them from when bytes have come. The kernel reads entries between its head and our tail; the tail
 * lies in the last two bytes of the first entry.
 *
 * The kernel takes them in turn, so that all that lie there pass through the processor's caches
 * again and again. So there are few at first; when a stream finds none, as many more. The others
 * lie aside (pool->ids). */
#include "uring.h"

#include <sys/mman.h>

#define IN_USE_FIRST 16u

static size_t ring_bytes(const ouro_pool *pool)
{
    return pool->count * sizeof(struct ring_buf);
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

static void publish(ouro_pool *pool)
{
    struct ring_buf *ring = pool->ring;

    __atomic_store_n(&ring[0].tail, pool->tail, __ATOMIC_RELEASE);
}

static void add(ouro_pool *pool, uint32_t id)
{
    struct ring_buf *entry = (struct ring_buf *)pool->ring + (pool->tail++ & (pool->count - 1));

    entry->addr = (uintptr_t)(pool->memory + (size_t)id * pool->size);
    entry->len = pool->size;
    entry->bid = (uint16_t)id;
}

/* So many more of those that lie aside. */
static void put(ouro_pool *pool, uint32_t more)
{
    while (more-- && pool->ready)
        add(pool, pool->ids[--pool->ready]);
    publish(pool);
}

int ouro__uring_pool_open(ouro_loop *loop, ouro_pool *pool)
{
    struct uring *u = loop->engine_state;
    struct ring_buf_reg reg = { .ring_entries = pool->count, .bgid = free_group(loop, pool) };
    long r;

    if (!(u->caps & OURO_CAP_MULTISHOT) || u->lost)
        return -EOPNOTSUPP;
    r = sys_mmap(&pool->ring, ring_bytes(pool), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
    if (r < 0)
        return (int)r;
    reg.ring_addr = (uintptr_t)pool->ring;
    r = ring_register(&u->ring, RING_REGISTER_PBUF_RING, &reg, 1);
    if (r < 0) {
        sys_munmap(pool->ring, ring_bytes(pool));
        pool->ring = NULL;
        return (int)r;
    }
    pool->group = reg.bgid;
    pool->tail = 0;
    put(pool, IN_USE_FIRST);
    return 0;
}

/* A stream found none. Others of the same enter did so before the ring was fuller. */
void ouro__uring_pool_more(ouro_loop *loop, ouro_pool *pool)
{
    uint32_t in_use = pool->count - pool->ready;

    if (!pool->ready || pool->filled == loop->stats.enters)
        return;
    pool->filled = loop->stats.enters;
    put(pool, in_use);
}

void ouro__uring_pool_give(ouro_loop *loop, ouro_pool *pool, uint32_t id)
{
    (void)loop;
    add(pool, id);
    publish(pool);
}

/* A ring that is lost, or the parent's, is told nothing. */
void ouro__uring_pool_close(ouro_loop *loop, ouro_pool *pool, int forked)
{
    struct uring *u = loop->engine_state;
    struct ring_buf_reg reg = { .bgid = pool->group };

    if (!forked && !u->lost && u->ring.map)
        (void)ring_register(&u->ring, RING_UNREGISTER_PBUF_RING, &reg, 1);
    sys_munmap(pool->ring, ring_bytes(pool));
    pool->ring = NULL;
}

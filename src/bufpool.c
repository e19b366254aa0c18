/* SPDX-License-Identifier: MIT */
/* bufpool.c: buffers of one size that streams receive into. A buffer is the pool's, or (native) in
 * a ring that the kernel takes from, until a completion brings it; then the caller's until it is
 * released.
 *
 * Where receives share buffers (parts), a completion brings a part of one. Such a buffer is taken
 * when the kernel is done with it, and free again when the caller has released all its parts. */
#include "core.h"

#define COUNT_MOST 32768u
#define SIZE_MOST ((uint64_t)1 << 30)

static size_t bytes_of(const ouro_pool *pool)
{
    return (size_t)pool->count * pool->size;
}

static void free_pool(ouro_loop *loop, ouro_pool *pool)
{
    ouro__alloc(loop, pool->memory, bytes_of(pool), 0);
    ouro__alloc(loop, pool->ids, pool->count * sizeof(*pool->ids), 0);
    ouro__alloc(loop, pool->out, pool->count, 0);
    ouro__alloc(loop, pool->parts, pool->count * sizeof(*pool->parts), 0);
    ouro__alloc(loop, pool, sizeof(*pool), 0);
}

/* All that is not the caller's is ours to give. */
static void fill_stack(ouro_pool *pool)
{
    pool->ready = 0;
    for (uint32_t id = pool->count; id-- > 0;)
        if (!pool->out[id])
            pool->ids[pool->ready++] = (uint16_t)id;
}

static int make_pool(ouro_loop *loop, uint32_t count, uint32_t size, ouro_pool **ret)
{
    ouro_pool *pool = ouro__alloc(loop, NULL, 0, sizeof(*pool));

    if (!pool)
        return -ENOMEM;
    memset(pool, 0, sizeof(*pool));
    pool->loop = loop;
    pool->count = count;
    pool->size = size;
    while (!(size & (size - 1)) && size >> pool->shift != 1)
        pool->shift++;
    pool->memory = ouro__alloc(loop, NULL, 0, bytes_of(pool));
    pool->ids = ouro__alloc(loop, NULL, 0, count * sizeof(*pool->ids));
    pool->out = ouro__alloc(loop, NULL, 0, count);
    if (!pool->memory || !pool->ids || !pool->out) {
        free_pool(loop, pool);
        return -ENOMEM;
    }
    memset(pool->out, 0, count);
    fill_stack(pool);
    *ret = pool;
    return 0;
}

int ouro_pool_create(ouro_loop *loop, unsigned count, unsigned size, ouro_pool **ret)
{
    int r = ret ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    if (!count || count > COUNT_MOST || count & (count - 1) || !size ||
        (uint64_t)count * size > SIZE_MOST)
        r = -EINVAL;
    else if (loop->closing)
        r = -ESHUTDOWN;
    else
        r = make_pool(loop, count, size, ret);
    if (r == 0) {
        (*ret)->next = loop->pools;
        loop->pools = *ret;
        (*ret)->native = loop->engine->pool_open && loop->engine->pool_open(loop, *ret) == 0;
    }
    ouro__leave(loop);
    return r;
}

static void end_pool(ouro_loop *loop, ouro_pool *pool)
{
    ouro_pool **at = &loop->pools;

    while (*at != pool)
        at = &(*at)->next;
    *at = pool->next;
    if (pool->native)
        loop->engine->pool_close(loop, pool, 0);
    free_pool(loop, pool);
}

int ouro_pool_destroy(ouro_pool *pool)
{
    ouro_loop *loop = pool ? pool->loop : NULL;
    int r = pool ? ouro__enter(loop) : 0;

    if (!pool || r < 0)
        return r;
    r = pool->streams ? -EBUSY : 0;
    if (r == 0)
        end_pool(loop, pool);
    ouro__leave(loop);
    return r;
}

/* The loop ends: nothing is in flight. */
void ouro__pools_free(ouro_loop *loop)
{
    while (loop->pools)
        end_pool(loop, loop->pools);
}

/* The ring is gone: buffers of which the caller has parts are taken as they are. */
static void take_parted(ouro_pool *pool)
{
    for (uint32_t id = 0; pool->parts && id < pool->count; id++) {
        pool->parts[id].used = 0;
        if (pool->parts[id].out && !pool->out[id]) {
            pool->out[id] = 1;
            pool->taken++;
        }
    }
}

/* The engine that had them is gone, or this is a forked child. busy: it may still write to them,
 * until ouro__pools_found. */
void ouro__pools_lose(ouro_loop *loop, bool busy, int forked)
{
    for (ouro_pool *pool = loop->pools; pool; pool = pool->next) {
        if (pool->native) {
            loop->engine->pool_close(loop, pool, forked);
            pool->native = false;
            pool->lost = busy;
            take_parted(pool);
            fill_stack(pool);
        }
        if (forked) {
            pool->parked = (struct ouro__list){ 0 };
            pool->streams = 0;
        }
    }
}

void ouro__pools_found(ouro_loop *loop)
{
    for (ouro_pool *pool = loop->pools; pool; pool = pool->next) {
        pool->lost = false;
        if (pool->parked.head)
            ouro__unpark_all(loop, &pool->parked);
    }
}

void ouro__pools_adopt(ouro_loop *loop)
{
    for (ouro_pool *pool = loop->pools; pool; pool = pool->next)
        pool->native = loop->engine->pool_open && loop->engine->pool_open(loop, pool) == 0;
}

/* ---- Taking and giving ---------------------------------------------------------------------- */

/* Native: so many are in the ring, or in completions that are not collected yet. */
uint32_t ouro__pool_in_ring(const ouro_pool *pool)
{
    return pool->count - pool->ready - pool->taken;
}

/* Lies one aside that the ring may have? */
bool ouro__pool_spares(const ouro_pool *pool)
{
    return pool->ready && (!pool->reserve || pool->rings < pool->count - pool->reserve);
}

/* Is there a buffer for this stream? */
bool ouro__pool_has(const ouro_pool *pool, const ouro_op *op)
{
    if (pool->lost)
        return false;
    if (!pool->native || op->stream_ & STREAM_WHOLE)
        return pool->ready;
    return ouro__pool_in_ring(pool) || ouro__pool_spares(pool);
}

static void *hand_out(ouro_pool *pool, uint32_t id)
{
    pool->out[id] = 1;
    pool->taken++;
    if (pool->parts)
        pool->parts[id].out = 1;
    return pool->memory + (size_t)id * pool->size;
}

/* NULL: all are out. */
void *ouro__pool_take(ouro_pool *pool)
{
    assert(!pool->native || pool->parts);
    return pool->ready && !pool->lost ? hand_out(pool, pool->ids[--pool->ready]) : NULL;
}

/* The kernel has taken this one. NULL: it cannot have. */
void *ouro__pool_took(ouro_pool *pool, uint32_t id)
{
    return id < pool->count && !pool->out[id] ? hand_out(pool, id) : NULL;
}

/* The kernel has put so many bytes behind those that it put into this one before; last: and is done
 * with it. NULL: it cannot have. */
void *ouro__pool_part(ouro_pool *pool, uint32_t id, uint32_t size, bool last)
{
    char *data;

    if (id >= pool->count || pool->out[id] || size > pool->size - pool->parts[id].used)
        return NULL;
    data = pool->memory + (size_t)id * pool->size + pool->parts[id].used;
    pool->parts[id].used += size;
    pool->parts[id].out++;
    pool->out[id] = last;
    pool->taken += last;
    return data;
}

/* It is free. */
static void come_home(ouro_pool *pool, uint32_t id)
{
    pool->out[id] = 0;
    pool->taken--;
    if (pool->parts && pool->parts[id].used) {
        pool->parts[id].used = 0;
        pool->rings--;
    }
    pool->ids[pool->ready++] = (uint16_t)id;
    if (pool->native)
        pool->loop->engine->pool_give(pool);
    if (OURO__SELDOM(pool->parked.head))
        ouro__stream_feed(pool->loop, pool);
}

/* False: that is no buffer that is out. */
bool ouro__pool_give(ouro_pool *pool, const void *data)
{
    size_t at = (size_t)((uintptr_t)data - (uintptr_t)pool->memory);
    uint32_t id;

    if (at >= bytes_of(pool)) /* also what lies before it */
        return false;
    id = pool->shift ? (uint32_t)(at >> pool->shift) : (uint32_t)at / pool->size;
    if (pool->parts ? !pool->parts[id].out : !pool->out[id])
        return false;
    if (!pool->parts || (--pool->parts[id].out == 0 && pool->out[id]))
        come_home(pool, id);
    return true;
}

int ouro_pool_release(ouro_pool *pool, void *data)
{
    ouro_loop *loop = pool ? pool->loop : NULL;
    int r = pool ? ouro__enter(loop) : -EINVAL;
    uint32_t taken;
    bool starved;

    if (r < 0)
        return r;
    taken = pool->taken;
    starved = pool->parked.head;
    r = ouro__pool_give(pool, data) ? 0 : -EINVAL;
    if (starved && pool->taken < taken)
        ouro__submitted(loop);
    ouro__leave(loop);
    return r;
}

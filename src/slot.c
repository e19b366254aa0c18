/* SPDX-License-Identifier: MIT */
/* slot.c: slots, which give operations their ids: generation << 20 | slot, never reused.
 *
 * Chunk k holds 256 << k slots and never moves while the loop lives, so other threads and signal
 * handlers may look a slot up. The driver's slots lie below OURO__REMOTE; those above are for posted
 * operations and taken and given under the inbox's lock. */
#include "core.h"

#define FIRST_CHUNK_BITS 8

static uint32_t chunk_of(uint32_t index, uint32_t *at)
{
    uint32_t n = index + (1u << FIRST_CHUNK_BITS);
    uint32_t top = 31u - (uint32_t)__builtin_clz(n);

    *at = n - (1u << top);
    return top - FIRST_CHUNK_BITS;
}

struct ouro__slot *ouro__slot_at(ouro_loop *loop, uint32_t slot)
{
    struct ouro__slots *slots = slot & OURO__REMOTE ? &loop->inbox.slots : &loop->slots;
    uint32_t at, chunk = chunk_of(slot & ~OURO__REMOTE, &at);
    struct ouro__slot *base;

    if (chunk >= OURO__CHUNKS)
        return NULL;
    base = atomic_load_explicit(&slots->chunk[chunk], memory_order_acquire);
    return base ? base + at : NULL;
}

/* Called by the driver (or for posted operations under the inbox's lock) only. */
static int grow(ouro_loop *loop, struct ouro__slots *slots, uint32_t base)
{
    uint32_t at, chunk = chunk_of(slots->count, &at), size = 1u << (FIRST_CHUNK_BITS + chunk);
    struct ouro__slot *fresh;

    if (chunk >= OURO__CHUNKS || slots->count + size > OURO__REMOTE)
        return -EAGAIN;
    fresh = ouro__alloc(loop, NULL, 0, size * sizeof(*fresh));
    if (!fresh)
        return -ENOMEM;
    memset(fresh, 0, size * sizeof(*fresh));
    for (uint32_t i = 0; i < size; i++) {
        uint32_t slot = base + slots->count + i;

        atomic_init(&fresh[i].id, (uint64_t)1 << OURO__SLOT_BITS | slot);
        fresh[i].next_free = i + 1 < size ? slot + 2 : slots->free;
    }
    slots->free = base + slots->count + 1;
    slots->count += size;
    atomic_store_explicit(&slots->chunk[chunk], fresh, memory_order_release);
    return 0;
}

int ouro__slot_take(ouro_loop *loop, struct ouro__slots *slots, uint32_t base, ouro_op *op)
{
    struct ouro__slot *slot;

    if (!slots->free) {
        int r = grow(loop, slots, base);
        if (r < 0)
            return r;
    }
    slot = ouro__slot_at(loop, slots->free - 1);
    slots->free = slot->next_free;
    op->id_ = atomic_load_explicit(&slot->id, memory_order_relaxed);
    atomic_store_explicit(&slot->op, op, memory_order_relaxed);
    return 0;
}

/* The next tenant gets the next generation; a slot whose generations are used up stays empty. */
void ouro__slot_give(ouro_loop *loop, ouro_op *op)
{
    uint32_t index = (uint32_t)(op->id_ & OURO__SLOT_MASK);
    struct ouro__slot *slot = ouro__slot_at(loop, index);
    uint64_t next = op->id_ + ((uint64_t)1 << OURO__SLOT_BITS);
    bool remote = index & OURO__REMOTE;
    struct ouro__slots *slots = remote ? &loop->inbox.slots : &loop->slots;

    atomic_store_explicit(&slot->op, NULL, memory_order_relaxed);
    atomic_store_explicit(&slot->id, next, memory_order_relaxed);
    if (next < op->id_)
        return;
    if (remote)
        pthread_mutex_lock(&loop->inbox.lock);
    slot->next_free = slots->free;
    slots->free = index + 1;
    if (remote)
        pthread_mutex_unlock(&loop->inbox.lock);
}

ouro_op *ouro__slot_find(ouro_loop *loop, ouro_id id)
{
    struct ouro__slot *slot = ouro__slot_at(loop, (uint32_t)(id & OURO__SLOT_MASK));

    if (!slot || atomic_load_explicit(&slot->id, memory_order_relaxed) != id)
        return NULL;
    return atomic_load_explicit(&slot->op, memory_order_relaxed);
}

void ouro__slots_finish(ouro_loop *loop, struct ouro__slots *slots)
{
    for (uint32_t i = 0; i < OURO__CHUNKS; i++)
        ouro__alloc(loop, atomic_load(&slots->chunk[i]),
                    sizeof(struct ouro__slot) << (FIRST_CHUNK_BITS + i), 0);
}

/* Calls fn for each operation that holds a slot. fn may end the operation. */
void ouro__each_slot(ouro_loop *loop, int (*fn)(ouro_loop *, ouro_op *, void *), void *user)
{
    struct ouro__slots *both[2] = { &loop->slots, &loop->inbox.slots };

    for (unsigned k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < both[k]->count; i++) {
            struct ouro__slot *slot = ouro__slot_at(loop, (k ? OURO__REMOTE : 0) + i);
            ouro_op *op = atomic_load_explicit(&slot->op, memory_order_relaxed);
            if (op && fn(loop, op, user))
                return;
        }
    }
}

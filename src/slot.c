/* SPDX-License-Identifier: MIT */
/* slot.c: slots, which give operations their ids: generation << 20 | slot, never reused. What each
 * operation passes is inline in core.h; here is what happens seldom.
 *
 * Chunks never move while the loop lives, so other threads and signal handlers may look a slot up.
 * The driver's slots lie below OURO__REMOTE; those above are for posted operations and are taken
 * and given under the inbox's lock. */
#include "core.h"

/* Called by the driver (or for posted operations under the inbox's lock) only. */
int ouro__slots_grow(ouro_loop *loop, struct ouro__slots *slots)
{
    uint32_t first = slots->base + slots->count;
    struct ouro__slot *fresh;

    if (slots->count == OURO__REMOTE)
        return -EAGAIN;
    fresh = ouro__alloc(loop, NULL, 0, OURO__CHUNK_BYTES);
    if (!fresh)
        return -ENOMEM;
    memset(fresh, 0, OURO__CHUNK_BYTES);
    for (uint32_t i = 0; i < OURO__CHUNK_SIZE; i++) {
        atomic_init(&fresh[i].id, (uint64_t)1 << OURO__SLOT_BITS | (first + i));
        ouro__slot_set_next(&fresh[i], i + 1 < OURO__CHUNK_SIZE ? &fresh[i + 1] : slots->free);
    }
    slots->free = fresh;
    slots->count += OURO__CHUNK_SIZE;
    atomic_store_explicit(&loop->chunks[first >> OURO__CHUNK_BITS], fresh, memory_order_release);
    return 0;
}

void ouro__slot_give_remote(ouro_loop *loop, struct ouro__slot *slot)
{
    struct ouro__inbox *inbox = &loop->inbox;

    pthread_mutex_lock(&inbox->lock);
    ouro__slot_set_next(slot, inbox->slots.free);
    inbox->slots.free = slot;
    pthread_mutex_unlock(&inbox->lock);
}

void ouro__slots_finish(ouro_loop *loop)
{
    for (uint32_t i = 0; i < OURO__CHUNKS; i++)
        ouro__alloc(loop, atomic_load(&loop->chunks[i]), OURO__CHUNK_BYTES, 0);
}

/* Calls fn for each operation that holds a slot. fn may end the operation. */
void ouro__each_slot(ouro_loop *loop, int (*fn)(ouro_loop *, ouro_op *, void *), void *user)
{
    for (uint32_t chunk = 0; chunk < OURO__CHUNKS; chunk++) {
        struct ouro__slot *slots = atomic_load(&loop->chunks[chunk]);
        for (uint32_t i = 0; slots && i < OURO__CHUNK_SIZE; i++) {
            ouro_op *op = ouro__slot_op(&slots[i]);
            if (op && fn(loop, op, user))
                return;
        }
    }
}

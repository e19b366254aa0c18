/* SPDX-License-Identifier: MIT */
/* deadline.c: the heap of timers and deadlines. A deadline is a cancel request at a given time; the
 * engines know nothing of it. An operation stands in the heap at most once: heap_at_ is its
 * place. */
#include "core.h"

#define FIRST_ROOM 64u
#define WAYS 4u /* children of a node: flatter than a binary heap, and one cache line each */

static void put(ouro_loop *loop, uint32_t at, struct ouro__timer timer)
{
    loop->heap[at] = timer;
    timer.op->heap_at_ = at;
}

static void sift_up(ouro_loop *loop, uint32_t at, struct ouro__timer timer)
{
    while (at) {
        uint32_t parent = (at - 1) / WAYS;
        if (loop->heap[parent].at <= timer.at)
            break;
        put(loop, at, loop->heap[parent]);
        at = parent;
    }
    put(loop, at, timer);
}

static void sift_down(ouro_loop *loop, uint32_t at, struct ouro__timer timer)
{
    for (;;) {
        uint32_t first = at * WAYS + 1, least = first;
        if (first >= loop->heap_count)
            break;
        for (uint32_t i = first + 1; i < first + WAYS && i < loop->heap_count; i++)
            if (loop->heap[i].at < loop->heap[least].at)
                least = i;
        if (loop->heap[least].at >= timer.at)
            break;
        put(loop, at, loop->heap[least]);
        at = least;
    }
    put(loop, at, timer);
}

int ouro__heap_add(ouro_loop *loop, ouro_op *op, ouro_time at)
{
    if (loop->heap_count == loop->heap_room) {
        uint32_t room = loop->heap_room ? loop->heap_room * 2 : FIRST_ROOM;
        struct ouro__timer *heap =
            ouro__alloc(loop, loop->heap, loop->heap_room * sizeof(*heap), room * sizeof(*heap));
        if (!heap)
            return -ENOMEM;
        loop->heap = heap;
        loop->heap_room = room;
    }
    op->marks_ |= MARK_HEAP;
    sift_up(loop, loop->heap_count++, (struct ouro__timer){ at, op });
    return 0;
}

void ouro__heap_remove(ouro_loop *loop, ouro_op *op)
{
    uint32_t at = op->heap_at_;
    struct ouro__timer last = loop->heap[--loop->heap_count];

    op->marks_ &= (uint8_t)~MARK_HEAP;
    if (last.op == op)
        return;
    if (at && loop->heap[(at - 1) / WAYS].at > last.at)
        sift_up(loop, at, last);
    else
        sift_down(loop, at, last);
}

/* Needs no memory. */
void ouro__heap_move(ouro_loop *loop, ouro_op *op, ouro_time at)
{
    ouro__heap_remove(loop, op);
    (void)ouro__heap_add(loop, op, at);
}

/* Ends timers and asks for the end of operations whose time has come. */
void ouro__heap_fire(ouro_loop *loop)
{
    while (loop->heap_count && loop->heap[0].at <= loop->now) {
        ouro_op *op = loop->heap[0].op;
        ouro_time key = loop->heap[0].at;
        /* One that rests has its time behind it, and is here for its deadline. */
        bool late = key == op->deadline && key != ouro__timer_at(op);
        bool due = op->state_ == STATE_TIMING && !late;

        ouro__heap_remove(loop, op);
        if (due && op->code == OURO_TIMER_MANY)
            ouro__timer_ticks(loop, op);
        else if (due)
            ouro__finish(loop, op, 0, 0);
        else
            ouro__cancel(loop, op, MARK_TIMEOUT);
    }
}

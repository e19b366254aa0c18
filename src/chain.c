/* SPDX-License-Identifier: MIT */
/* chain.c: operations that run one after the other. A member whose turn has not come is HELD with
 * MARK_TURN; chain_ points to the next member, prev_ to the one before. The kernel's own
 * links are not used: their rules differ from ours in what breaks a chain and when
 * descriptors are resolved. */
#include "core.h"

static int accept_all(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int r = ouro__check(loop, ops[i]);
        if (r == 0 && ouro__kinds[ops[i]->code].traits & KIND_STREAM)
            r = -EINVAL;
        if (r == 0)
            r = ouro__accept(loop, ops[i]);
        if (r < 0) {
            while (i)
                ouro__unaccept(loop, ops[--i]);
            return r;
        }
    }
    return 0;
}

/* It keeps the file that its descriptor stands for now. A timer keeps its place in the heap, but
 * only its deadline counts until it is set. */
static void wait_for_turn(ouro_loop *loop, ouro_op *op)
{
    ouro__hold_file(op);
    if (op->code == OURO_TIMER)
        ouro__heap_move(loop, op, op->deadline ? op->deadline : UINT64_MAX);
}

int ouro_chain(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    int r = ops && count ? ouro__enter(loop) : -EINVAL;

    if (r < 0)
        return r;
    r = loop->closing ? -ESHUTDOWN : accept_all(loop, ops, count);
    if (r == 0) {
        for (unsigned i = 0; i < count; i++) {
            ouro__accepted(loop, ops[i]);
            ops[i]->marks_ |= MARK_CHAIN | (i ? MARK_TURN : 0);
            ops[i]->result_ = loop->turns; /* until it has its own */
            ops[i]->chain_ = i + 1 < count ? ops[i + 1] : NULL;
            ops[i]->prev_ = i ? ops[i - 1] : NULL;
            if (i)
                wait_for_turn(loop, ops[i]);
        }
        ouro__begin(loop, ops[0]);
        ouro__submitted(loop);
    }
    ouro__leave(loop);
    return r;
}

/* Does the end of this member end the rest? One that never had its turn always does. */
bool ouro__chain_breaks(const ouro_op *op)
{
    if (op->marks_ & MARK_TURN)
        return true;
    if (op->flags & OURO_SOFT)
        return false;
    if (op->res < 0)
        return true;
    return op->flags & OURO_EXACT && (uint64_t)op->res < ouro__wanted_bytes(op);
}

/* A member whose turn has not come ends: the ones before it end without it. */
void ouro__chain_cut(ouro_op *op)
{
    op->prev_->chain_ = NULL;
}

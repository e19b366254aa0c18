/* SPDX-License-Identifier: MIT */
/* soak_order.c: chains: a member succeeds after those before it, and none does behind one that
 * failed. The members of a chain complete in the same way, so in the order in which they end. */
#include "soak.h"

enum { CHAINS = 32, LONGEST = 5 };

/* How a member ended, for those behind it: they go on; perhaps not; they end. */
enum { NOT_YET, GOES_ON, MAY_END, ENDS };

static struct chain {
    struct item *members[LONGEST];
    unsigned count, wanted, left; /* members; when it is submitted; not final yet */
    bool callbacks;
    uint8_t ends[LONGEST];
} chains[CHAINS];
static struct chain *open_chain; /* that members are added to */
static int zero;
enum { NO_FD = 9999 };

static int64_t some_work(void *arg)
{
    return arg ? -EIO : 0;
}

static bool may_fail(const struct item *item, int64_t res)
{
    return item->op.code == OURO_WORK ? res == -EIO : item->op.fd == NO_FD && res == -EBADF;
}

/* A SOFT member that was stopped may not have begun; then it ends the rest all the same. */
static uint8_t end_of(const struct item *item, int64_t res, uint32_t cflags)
{
    if (res >= 0)
        return GOES_ON;
    if (!(item->op.flags & OURO_SOFT))
        return ENDS;
    return ended_early(res, cflags) ? MAY_END : GOES_ON;
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    struct chain *chain = &chains[item->at];
    unsigned at = (unsigned)item->number;
    bool excuse = item->canceled;

    for (unsigned i = 0; i < at; i++) {
        if (res >= 0 && (chain->ends[i] == NOT_YET || chain->ends[i] == ENDS))
            die("member %u of a chain succeeded, and member %u %s", at, i,
                chain->ends[i] == ENDS ? "had failed" : "had not ended");
        excuse |= chain->ends[i] > GOES_ON;
    }
    if (cflags & OURO_C_CANCELED && !excuse)
        die("member %u of a chain was ended, and none before it failed", at);
    chain->ends[at] = end_of(item, res, cflags);
    if (--chain->left == 0)
        chain->wanted = 0;
}

/* ---- Submissions ----------------------------------------------------------------------------- */

static struct chain *new_chain(void)
{
    for (unsigned i = 0; i < CHAINS; i++) {
        if (chains[i].wanted)
            continue;
        chains[i] = (struct chain){ .wanted = 1 + draw(LONGEST), .callbacks = draw(2) };
        return &chains[i];
    }
    return NULL;
}

static bool prepare(struct item *item)
{
    ouro_op *op = &item->op;

    if (!open_chain)
        open_chain = new_chain();
    if (!open_chain)
        return false;
    item->at = (int)(open_chain - chains);
    item->number = open_chain->count;
    item->linked = true;
    item->way = open_chain->callbacks ? BY_CALLBACK : BY_EVENT;
    open_chain->members[open_chain->count++] = item;
    open_chain->left++;
    switch (draw(6)) {
    case 0:
    case 1: ouro_prep_nop(op); break;
    case 2: ouro_prep_timer(op, soon(200000)); break;
    case 3: ouro_prep_work(op, some_work, draw(4) ? NULL : op); break;
    case 4: ouro_prep_stat(op, OURO_HERE, "/", 0, &item->st); break;
    default: ouro_prep_read(op, draw(4) ? zero : NO_FD, item->buf, 1 + draw(BUF), 0); break;
    }
    if (!draw(4))
        op->flags = OURO_SOFT;
    return true;
}

static void submit_chain(void)
{
    ouro_op *ops[LONGEST];
    int r;

    for (unsigned i = 0; i < open_chain->count; i++)
        ops[i] = &open_chain->members[i]->op;
    r = ouro_chain(soak.loop, ops, open_chain->count);
    if (r < 0)
        die("a chain is refused: %s", strerror(-r));
    open_chain = NULL;
}

static int submit(struct item *item)
{
    (void)item;
    if (open_chain->count == open_chain->wanted)
        submit_chain();
    return 0;
}

/* One that waits for more members goes without them. */
static void stir(void)
{
    if (open_chain)
        submit_chain();
}

static void open_zero(void)
{
    zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (zero < 0)
        die("no /dev/zero");
}

static void close_zero(void)
{
    close(zero);
}

const struct theme theme_order = {
    .name = "order",
    .weight = 15,
    .open = open_zero,
    .close = close_zero,
    .prepare = prepare,
    .submit = submit,
    .may_fail = may_fail,
    .judge = judge,
    .stir = stir,
};

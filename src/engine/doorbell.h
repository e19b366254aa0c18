/* SPDX-License-Identifier: MIT */
/* doorbell.h: how other threads wake an engine that sleeps on descriptors: one more of them.
 *
 * A program may close it, as it may all of the loop's descriptors: the driver asks for it before it
 * sleeps, and whoever rings asks before it writes. */
#ifndef OURO_DOORBELL_H
#define OURO_DOORBELL_H

#include "../core.h"

/* The longest sleep when other threads cannot wake the sleeper. */
#define OURO__DEAF_NS (10 * OURO_MS)

struct doorbell {
    const ouro_loop *loop;
    _Atomic int ends[2]; /* twice the same eventfd, or the ends of a pipe; -1: none for now */
    _Atomic uint32_t rung;
};

enum doorbell_is {
    DOORBELL_GONE,  /* the program has closed it, and there is no descriptor for a new one */
    DOORBELL_HOLDS, /* as it was */
    DOORBELL_NEW    /* it was closed: there is a new one */
};

int ouro__doorbell_open(ouro_loop *loop, struct doorbell *bell);
void ouro__doorbell_close(struct doorbell *bell);
/* A new one, rung for whoever rang the old one. False: there is no descriptor for it. */
bool ouro__doorbell_renew(ouro_loop *loop, struct doorbell *bell);
enum doorbell_is ouro__doorbell_check(ouro_loop *loop, struct doorbell *bell);
/* Any thread, signal handlers too. */
void ouro__doorbell_ring(struct doorbell *bell);
/* Makes it silent; who rings from now on is heard the next time. False: it is not ours any more. */
bool ouro__doorbell_hear(struct doorbell *bell);

/* The end that is readable once it was rung. */
static inline int ouro__doorbell_fd(const struct doorbell *bell)
{
    return atomic_load_explicit(&bell->ends[0], memory_order_relaxed);
}

static inline bool ouro__doorbell_rung(const struct doorbell *bell)
{
    return atomic_load(&bell->rung);
}

#endif

/* SPDX-License-Identifier: MIT */
/* stats.h: what a drop-in counts for `ouro run --stats`, see stats_layout.h. Where nobody wants the
 * numbers, the callers' look at stats_on is all that it costs. */
#ifndef OURO_COMPAT_STATS_H
#define OURO_COMPAT_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "ouro.h"
#include "stats_layout.h"

/* The numbers are wanted. Set once, before the first request is there. */
extern bool stats_on;

/* The first request comes; the drop-in stands for this interface. errno stays. */
void stats_open(unsigned interface);

/* This process has a loop for its requests. Also in a child, after stats_forked, which is due in
 * every child: what the parent had outstanding is not the child's. */
void stats_start(ouro_loop *loop);
void stats_forked(void);

/* This thread is the drop-in's own. */
void stats_thread(void);

/* ---- With stats_on ---- */

uint64_t stats_now(void); /* nanoseconds, never 0 */

/* A request is submitted, at that time; it is over; or was not queued after all. What is counted is
 * what can be seen when the program sees the result: count first, then tell. */
void stats_begin(unsigned kind, uint64_t size, bool listed);
void stats_end(unsigned kind, uint64_t wanted, int64_t res, uint64_t took_ns);
void stats_refused(void);
void stats_passed(uint64_t count); /* were left to the kernel */
void stats_ended_by(unsigned ender, uint64_t count);
void stats_notice(unsigned notice);

/* Now and then: what the loop has counted. */
void stats_loop(ouro_loop *loop);

/* Who ends requests, if not the call that submits them. */
unsigned stats_ender(void);

#endif

/* SPDX-License-Identifier: MIT */
/* aio_diff_model.h: what is in flight of a random program, and how it will end. */
#ifndef OURO_TESTS_AIO_DIFF_MODEL_H
#define OURO_TESTS_AIO_DIFF_MODEL_H

#include <aio.h>

#include "aio_diff_world.h"

enum { FLIGHTS = 64 };

/* It ends by itself; waits for bytes that only the program brings; is behind one that does; or is
 * so with glibc alone: a write behind a read. */
enum fate { SURE, HELD, QUEUED, UNSURE };

struct flight {
    struct ask ask;
    void *buf;
    size_t room; /* of it that there is */
    unsigned serial, step, entry;
    int list;   /* that it belongs to, or -1 */
    bool vague; /* a cancel may have found it */
};

extern struct aiocb blocks[BLOCKS];
extern struct flight flights[FLIGHTS]; /* in the order in which they were asked for */
extern unsigned flight_count;
extern unsigned expected; /* notifications */
extern int list_left[STEPS];

enum fate fate_of(unsigned which);
bool may_end(unsigned which);
bool any_fate(unsigned target, enum fate fate);
bool any_bad_signal(unsigned target); /* some result there is not ECANCELED with glibc */
bool has_followers(unsigned which);
int flight_of(unsigned block); /* or -1 */

/* Makes of an ask what both would do the same. */
void tame(struct ask *ask);
bool is_alone(const struct ask *ask); /* its effect on a stream is not the same on both */
bool conflicts(const struct ask *ask);
bool bad_priority(const struct ask *ask);
bool waits_for_bytes(const struct ask *ask);

/* Fills the block, and remembers the request as one in flight. */
void prepare(const struct ask *ask, unsigned step, unsigned entry, int list);
void clear(struct aiocb *block, int fd);

void await(const struct aiocb *block);
void say_done(unsigned which);                           /* it is over, and no longer in flight */
void feed(unsigned target, size_t count, unsigned salt); /* with nothing in flight there */

/* Waits for all on a descriptor, in their order, and brings what they wait for. */
void settle(unsigned target);
void settle_all(void);
void settle_block(unsigned block);

#endif

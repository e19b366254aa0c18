/* SPDX-License-Identifier: MIT */
/* libaio_diff_model.h: what is in flight of a random program, and how it will end. */
#ifndef OURO_TESTS_LIBAIO_DIFF_MODEL_H
#define OURO_TESTS_LIBAIO_DIFF_MODEL_H

#include <libaio.h>

#include "libaio_diff.h"

enum { FLIGHTS = BUFFERS, PATIENCE_MS = 5000 };

struct flight {
    struct ask ask;
    unsigned context, buffer, serial;
    void *buf;
    size_t room;       /* of it that there is */
    struct iocb *iocb; /* the program's */
    struct iocb copy;  /* as it is when it is submitted */
    bool held;         /* a poll of what is not ready */
    bool collected;    /* its event was taken, */
    struct io_event event;
};

/* An io_context_t, and its memory, which programs may read. */
struct ring {
    unsigned id, nr;
    _Atomic unsigned head, tail;
    unsigned magic, compat, incompat, header_length;
    struct io_event events[];
};

extern struct iocb blocks[BLOCKS];
extern struct flight flights[FLIGHTS]; /* in the order in which they were submitted */
extern unsigned flight_count;
extern io_context_t contexts[CONTEXTS];
extern int counters[CONTEXTS]; /* eventfds */
extern unsigned told[CONTEXTS];

/* The program's: what has become of a block that is used again in flight is known to io_getevents,
 * and the ring says nothing. */
extern bool careless;

struct ring *ring_of(unsigned context);

/* Makes of an ask what would not wait on the system's libaio, and what is the same in whatever
 * order requests are done. */
void tame(struct ask *ask);

/* It would see the effect of one in flight, or the other way round. */
bool conflicts(const struct ask *ask);

/* A read that would wait for bytes, behind those that are in flight. */
bool lacks_bytes(const struct ask *ask);

/* Fills the program's block. What is submitted is in flight until its event is told of. */
struct flight *prepare(const struct ask *ask, unsigned context);
void forget(struct flight *flight); /* and those behind it: they were not accepted */

/* In flight in a context: events that come by themselves and are not taken yet; and whether some
 * would be over in io_submit on the system's libaio. */
unsigned sure_in(unsigned context);
bool any_at_once(unsigned context);
struct flight *only_poll_of(unsigned context, unsigned block); /* that waits, or NULL */

/* Waits until the events of all that are sure are in the ring. */
void await_ring(unsigned context);

/* Takes events, and remembers them: how many, or -errno. */
long get(unsigned context, enum path path, long min, long nr, const struct timespec *timeout);

/* Ends what is in flight, says how, and what else there is to see. */
void settle(enum path path);

/* Ends a context with what is in flight there. */
void end_context(unsigned context);

#endif

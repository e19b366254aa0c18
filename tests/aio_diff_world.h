/* SPDX-License-Identifier: MIT */
/* aio_diff_world.h: what the programs of aio_diff.h act on: descriptors, buffers, notifications,
 * and the trace of what was seen. */
#ifndef OURO_TESTS_AIO_DIFF_WORLD_H
#define OURO_TESTS_AIO_DIFF_WORLD_H

#include <signal.h>

#include "aio_diff.h"

struct target {
    enum kind kind;
    int fd, far;  /* always the same numbers, so that those that are closed stay closed */
    size_t avail; /* of a stream: bytes that wait to be read */
    size_t sent;  /* and that were written, and not read at the far end yet */
    unsigned drained;
};

extern struct target targets[TARGETS];

void say_to(char *to);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

void world_begin(const char *dir);
void world_open(unsigned number, enum kind kind, unsigned size);
void world_end(unsigned number); /* says what became of it, and closes it */
void world_feed(unsigned number, size_t count, unsigned salt);
void world_await_bytes(unsigned number); /* a terminal's come later; nobody may read them */
void world_drain(unsigned number);       /* says what was written */
void world_forget(unsigned number);      /* what nobody knows the size of */

uint32_t hash_of(const void *bytes, size_t count);
void fill(void *bytes, size_t count, int64_t at, unsigned salt);

/* The memory of a block's buffer, and how much of it there is. */
void *world_buffer(const struct ask *ask, size_t *ret_room);

/* An event that brings the value. */
struct sigevent world_event(enum notify notify, unsigned variant, int value);
bool world_tells(enum notify notify);

/* Waits until so many notifications have come in all, and says which came since the last time. */
void world_notes(unsigned expected);

#endif

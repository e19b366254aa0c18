/* SPDX-License-Identifier: MIT */
/* diff_world.h: what random programs act on, whatever their interface is: descriptors, buffers, and
 * the trace of what was seen. */
#ifndef OURO_TESTS_DIFF_WORLD_H
#define OURO_TESTS_DIFF_WORLD_H

#include <sys/types.h>

#include "diff.h"

enum {
    TARGETS = 4,       /* descriptors of a program */
    BUFFERS = 12,      /* buffers, behind which there is nothing */
    BUFFER = 80 << 10, /* bytes of each */
    FILE_LIMIT = 50000,
};

enum kind {
    FILE_RW,
    FILE_APPEND,
    FILE_RDONLY,
    FILE_WRONLY,
    FILE_NONBLOCK,
    FILE_PATH,
    DIRECTORY,
    DEV_NULL,
    DEV_ZERO,
    DEV_FULL,
    PROC_FILE,
    EVENT_FD,
    PIPE_READ,
    PIPE_WRITE,
    PIPE_NONBLOCK, /* its end that reads */
    PIPE_ENDED,    /* nobody writes any more */
    PIPE_BROKEN,   /* nobody reads any more */
    SOCKET,
    SOCKET_NONBLOCK,
    SOCKET_ENDED,
    TERMINAL,
    CLOSED,
    MINUS_ONE,
    AIO_KINDS, /* up to here */
    FILE_DIRECT = AIO_KINDS,
    KINDS
};

enum where { GOOD, NOWHERE, LOW, KERNEL, FORBIDDEN, READ_ONLY, EDGE };

extern const char *const kind_names[KINDS];

bool is_file(enum kind kind);   /* one of the program's own, with contents */
bool is_stream(enum kind kind); /* what is written has to be read at its far end, or fed there */
bool has_no_position(enum kind kind); /* those, and those without a far end */
bool has_descriptor(enum kind kind);

struct target {
    enum kind kind;
    int fd, far;  /* always the same numbers, so that those that are closed stay closed */
    size_t avail; /* of a stream: bytes that wait to be read */
    size_t sent;  /* and that were written, and not read at the far end yet */
    unsigned drained;
};

extern struct target targets[TARGETS];

void say_to(char *to);
void say_on(char *to); /* behind what another process has said */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

void world_clear(const char *dir); /* of what other programs have left there */
void world_begin(const char *dir);
void world_open(unsigned number, enum kind kind, unsigned size);
void world_end(unsigned number);      /* says what became of it, and closes it */
void world_contents(unsigned number); /* says what is in a file */
void world_feed(unsigned number, size_t count, unsigned salt);
void world_await_bytes(unsigned number); /* a terminal's come later; nobody may read them */
void world_drain(unsigned number);       /* says what was written */
void world_forget(unsigned number);      /* what nobody knows the size of */

uint32_t hash_of(const void *bytes, size_t count);
void fill(void *bytes, size_t count, int64_t at, unsigned salt);

/* The memory of a buffer, and how much of it there is. */
void *world_buffer(enum where where, unsigned block, size_t size, size_t *ret_room);

#endif

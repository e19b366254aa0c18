/* SPDX-License-Identifier: MIT */
/* aio_diff.h: random programs of <aio.h>, run on two implementations of it and compared.
 *
 * A program is made of a seed alone, so that who runs it and who prints it make the same. Its steps
 * are random; who runs it (aio_diff_run.c) keeps a model of what is in flight, and does first what
 * makes the next step's outcome a matter of the implementation and not of time. Because of that
 * steps may be left out, and the rest is still a program: so it is made small. */
#ifndef OURO_TESTS_AIO_DIFF_H
#define OURO_TESTS_AIO_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

enum {
    TARGETS = 4, /* descriptors of a program */
    BLOCKS = 8,  /* its struct aiocb */
    STEPS = 15,
    ENTRIES = 5,       /* of a list */
    BUFFER = 80 << 10, /* bytes of a block's buffer, behind which there is nothing */
    TRACE = 1 << 16,   /* bytes of a program's trace */
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
    KINDS
};

enum what { READ, WRITE, SYNC, DATASYNC, BAD_SYNC, NOP, BAD_CODE, NO_BLOCK };

enum where { GOOD, NOWHERE, LOW, KERNEL, FORBIDDEN, READ_ONLY, EDGE };

enum notify { NONE, UNKNOWN, SIGNAL, SIGNAL_ZERO, SIGNAL_BAD, THREAD, THREAD_ATTR };

/* One request. */
struct ask {
    enum what what;
    enum where where; /* its buffer */
    enum notify notify;
    unsigned target, block, variant; /* variant: which of several bad or good values */
    int priority;
    bool keeps; /* the block's private fields are what they were */
    size_t size;
    int64_t offset;
};

enum op {
    DO_ASK,
    DO_LIST,
    DO_SUSPEND,
    DO_CANCEL_ONE,
    DO_CANCEL_ALL,
    DO_ERROR,
    DO_RETURN,
    DO_FEED,
    DO_WAIT,
    DO_FORK,
    DO_CLOSE,
    DO_REOPEN,
    OPS
};

enum mode { MODE_WAIT, MODE_NOWAIT, MODE_BAD };
enum timeout { FOREVER, POLL, SHORT, HOUR, PAST, BAD_NSEC, TIMEOUTS };

struct step {
    enum op op;
    enum mode mode;
    enum notify notify; /* of a list */
    enum timeout timeout;
    enum kind kind; /* to open anew */
    unsigned target, block, variant;
    int count; /* of asks; DO_SUSPEND: -1 is one more bad value */
    struct ask asks[ENTRIES];
};

struct program {
    uint64_t seed;
    enum kind kinds[TARGETS];
    unsigned sizes[TARGETS]; /* bytes in its files at first */
    bool limited;            /* its files cannot grow above FILE_LIMIT */
    bool leaves;             /* ends with requests that wait */
    unsigned count;
    struct step steps[STEPS];
};

enum { FILE_LIMIT = 50000 };

bool is_file(enum kind kind);   /* one of the program's own, with contents */
bool is_stream(enum kind kind); /* what is written has to be read at its far end, or fed there */
bool has_no_position(enum kind kind); /* those, and those without a far end */

void make_program(struct program *ret, uint64_t seed);

/* C-like, but for the steps that are left out (bits of `without`). */
void print_program(FILE *out, const struct program *program, uint32_t without);
void print_step(FILE *out, const struct program *program, unsigned number);

/* Runs a program in this process, which is of no other use afterwards, and writes a line per fact
 * that was seen. reference: it is the implementation that the other is compared with, in which a
 * child may wait for ever for its parent's threads, so nobody waits for it long. */
void run_program(const struct program *program, uint32_t without, bool reference, const char *dir,
                 char *ret_trace);

static inline bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

/* Of two lines that differ: which of the allowed differences it is, or -1. */
int allowed_as(const struct program *program, uint32_t without, const char *reference,
               const char *tested);
void count_allowed(int which);
void print_allowed(void);

#endif

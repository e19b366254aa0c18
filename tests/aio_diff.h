/* SPDX-License-Identifier: MIT */
/* aio_diff.h: random programs of <aio.h> (diff.h). */
#ifndef OURO_TESTS_AIO_DIFF_H
#define OURO_TESTS_AIO_DIFF_H

#include "diff_world.h"

enum {
    BLOCKS = 8, /* its struct aiocb */
    STEPS = 15,
    ENTRIES = 5, /* of a list */
};

enum what { READ, WRITE, SYNC, DATASYNC, BAD_SYNC, NOP, BAD_CODE, NO_BLOCK };

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

void make_program(struct program *ret, uint64_t seed);

/* C-like, but for the steps that are left out (bits of `without`). */
void print_program(FILE *out, const struct program *program, uint32_t without);
void print_step(FILE *out, const struct program *program, unsigned number);

/* In the reference a child may wait for ever for its parent's threads, so nobody waits for it
 * long. */
void run_program(const struct program *program, uint32_t without, bool reference, const char *dir,
                 char *ret_trace);

int allowed_as(const struct program *program, uint32_t without, const char *reference,
               const char *tested);

enum { ALLOWED = 7 };
extern struct diff_allowed allowed[ALLOWED];

#endif

/* SPDX-License-Identifier: MIT */
/* libaio_diff.h: random programs of <libaio.h> (diff.h). They are run on the system's libaio, where
 * io_submit does what it would wait for elsewhere: nothing is asked for that would wait for ever
 * there. */
#ifndef OURO_TESTS_LIBAIO_DIFF_H
#define OURO_TESTS_LIBAIO_DIFF_H

#include "diff_world.h"

enum {
    CONTEXTS = 2,
    BLOCKS = 10, /* its struct iocb */
    STEPS = 15,
    ENTRIES = 6, /* of one io_submit */
};

enum what { READ, WRITE, READV, WRITEV, SYNC, DATASYNC, POLL, BAD_CODE };

/* What else is wrong with a request. */
enum bad {
    FINE,
    BAD_RESERVED,
    BAD_RESFD,
    BAD_VECTORS,
    MANY_VECTORS,
    BAD_PRIORITY,
    BAD_FLAGS,
    BAD_EXTRA, /* a field that is not for such a request */
    BAD_BLOCK, /* where there is none */
};

struct ask {
    enum what what;
    enum where where; /* its buffer */
    enum bad bad;
    unsigned target, block, variant; /* variant: which of several values */
    bool tells;                      /* by eventfd */
    bool garbage;                    /* in what nobody reads */
    bool overwritten;                /* the program's block, as soon as it is submitted */
    int flags;                       /* RWF_... */
    size_t size;
    int64_t offset;
};

enum op { DO_SUBMIT, DO_GET, DO_CANCEL, DO_FEED, DO_WAIT, DO_BAD, DO_RENEW, DO_FORK, DO_REOPEN };

/* How a batch is submitted: by the library, by a system call of the program's, by a thread that
 * ends, or with the descriptors being another file's at once. */
enum manner { BY_LIBRARY, BY_ITSELF, BY_THREAD, REPLACED, MANNERS };

/* How events are taken: io_getevents, io_pgetevents, a system call, the ring. */
enum path { GETEVENTS, PGETEVENTS, SYSTEM_CALL, RING, PATHS };

enum timeout { FOREVER, NO_TIME, SHORT, HOUR, TIMEOUTS };

struct step {
    enum op op;
    enum manner manner;
    enum path path;
    enum timeout timeout;
    enum kind kind; /* to open anew */
    unsigned context, target, block, variant;
    int min, nr;
    int count; /* of asks */
    struct ask asks[ENTRIES];
};

struct program {
    uint64_t seed;
    enum kind kinds[TARGETS];
    unsigned sizes[TARGETS];
    bool limited;   /* its files cannot grow above FILE_LIMIT */
    bool stormy;    /* signals come all the time */
    bool leaves;    /* ends, in one of several ways, with requests in flight */
    bool careless;  /* uses blocks again in flight, and takes events by io_getevents alone */
    enum path path; /* by which it takes what is left */
    unsigned count;
    struct step steps[STEPS];
};

void make_program(struct program *ret, uint64_t seed);
void print_program(FILE *out, const struct program *program, uint32_t without);
void run_program(const struct program *program, uint32_t without, const char *dir, char *ret_trace);

#endif

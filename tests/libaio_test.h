/* SPDX-License-Identifier: MIT */
/* libaio_test.h: what the files of libaio_test share. Each has the tests of one theme and a table
 * of them; helpers for contexts and requests are in libaio_test.c. */
#ifndef OURO_LIBAIO_TEST_H
#define OURO_LIBAIO_TEST_H

#include <libaio.h>
#include <sys/syscall.h>

#include "dropin_test.h"

extern const struct dropin_case context_tests[], submit_tests[], error_tests[], stream_tests[],
    event_tests[], wait_tests[], ring_tests[], process_tests[], end_tests[], trouble_tests[];

/* What the kernel's libaio.h has, and Debian's has not. */
enum {
    FLAG_RESFD = 1,
    FLAG_IOPRIO = 2,
    OPCODE_4 = 4, /* was taken once, and means nothing now */
};

#define RING_MAGIC 0xa10a10a1u

/* The memory that an io_context_t is the address of, as programs read it. */
struct ring {
    unsigned id, nr;
    _Atomic unsigned head, tail;
    unsigned magic, compat, incompat, header_length;
    struct io_event events[];
};

struct ring *ring_of(io_context_t context);

/* OURO_AIO_PURE=1: contexts are not the kernel's. */
bool is_pure(void);

io_context_t context_of(int nr);

/* ---- Requests ------------------------------------------------------------------------------- */

/* io_submit of one. */
int submit(io_context_t context, struct iocb *iocb);

/* How a program learns of an event: by io_getevents, by the same as a system call of its own, or by
 * reading the ring. */
enum path { BY_CALL, BY_SYSTEM_CALL, BY_RING, PATHS };

/* Waits some seconds for an event. */
struct io_event take(io_context_t context, enum path path);

/* Whether there is one within so much time, which it takes. */
bool take_within(io_context_t context, enum path path, long ms, struct io_event *ret);

/* Submits, waits, checks that the event is the request's, and says its result. */
long outcome_by(io_context_t context, struct iocb *iocb, enum path path);
long outcome(io_context_t context, struct iocb *iocb);

/* The result that an event has; res2 is always 0. */
long result_of(const struct io_event *event);

/* No event is there. */
void check_empty(io_context_t context);

/* Raw system calls: the result or -errno. */
long raw_submit(io_context_t context, long nr, struct iocb **list);
long raw_getevents(io_context_t context, long min, long nr, struct io_event *events,
                   struct timespec *timeout);

/* ---- Files and what is in them -------------------------------------------------------------- */

/* Bytes that tell their place. */
void fill_at(char *bytes, size_t count, off_t at);
bool is_filled(const char *bytes, size_t count, off_t at);

/* A file with such bytes, unlinked already, of which nothing is in the cache. */
int file_of(size_t size, int flags);
void drop_cache(int fd);

/* Memory for direct transfers. */
char *aligned(size_t size);

#endif

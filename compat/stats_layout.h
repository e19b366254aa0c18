/* SPDX-License-Identifier: MIT */
/* stats_layout.h: the memory in which `ouro run --stats` has the drop-ins count. The command makes
 * it and passes its name on; each process that uses a drop-in maps it and adds to it, so nothing is
 * lost by _exit, exec or a signal, and many processes are summed. Who adds does so by relaxed
 * atomics; who reads may see one number before another. */
#ifndef OURO_COMPAT_STATS_LAYOUT_H
#define OURO_COMPAT_STATS_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

#define STATS_VARIABLE "OURO_STATS_FILE" /* of the environment */
#define STATS_MAGIC "ourostat"

enum {
    STATS_VERSION = 2,    /* of all that follows the head */
    STATS_SIZES = 66,     /* 0 bytes, 1 byte, up to 2, up to 4, ... */
    STATS_ENGINES = 4,    /* that are told from one another */
    STATS_NAME_SIZE = 24, /* of an engine */
    STATS_WHY_SIZE = 1024,
};

enum { STATS_POSIX_AIO, STATS_LIBAIO, STATS_INTERFACES };
enum { STATS_READ, STATS_WRITE, STATS_FSYNC, STATS_KINDS };

/* What became of requests. */
enum {
    STATS_OK,
    STATS_SHORT, /* fewer bytes than asked for: also the end of a file */
    STATS_FAILED,
    STATS_CANCELED,
    STATS_REFUSED, /* not queued, for lack of memory: the call failed with EAGAIN */
    STATS_RESULTS
};

/* Who ended them. */
enum { STATS_BY_THREAD, STATS_BY_CALLER, STATS_AT_ONCE, STATS_ENDERS };

/* What the program was told by; and signals that found no room for a second. */
enum { STATS_BY_SIGNAL, STATS_BY_FUNCTION, STATS_DROPPED, STATS_NOTICES };

/* System calls of the loop. */
enum { STATS_ENTERS, STATS_WAITS, STATS_WAKEUPS, STATS_CALLS };

/* Text that is written once, by whom has made FREE into TAKEN, and can be read when it is THERE. */
enum { STATS_FREE, STATS_TAKEN, STATS_THERE };

struct stats_engine {
    _Atomic uint32_t state;
    char name[STATS_NAME_SIZE];
    _Atomic uint64_t processes;
};

struct stats_interface {
    _Atomic uint64_t processes;
    _Atomic uint64_t kinds[STATS_KINDS]; /* requests that were submitted */
    _Atomic uint64_t listed;             /* of them, in lists */
    _Atomic uint64_t passed;             /* that the kernel does as well: these were left to it */
    _Atomic uint64_t results[STATS_RESULTS];
    _Atomic uint64_t bytes[STATS_KINDS]; /* transferred */
    _Atomic uint64_t sizes[STATS_SIZES]; /* asked for */
    _Atomic uint64_t depth_max;          /* of one process */
    _Atomic uint64_t enders[STATS_ENDERS];
    _Atomic uint64_t notices[STATS_NOTICES];
    _Atomic uint64_t calls[STATS_CALLS];
    _Atomic uint64_t latency_max_ns;
    _Atomic uint64_t latency[HISTOGRAM_BUCKETS]; /* nanoseconds */
    struct stats_engine engines[STATS_ENGINES];
    _Atomic uint32_t why_state;
    char why[STATS_WHY_SIZE]; /* better engines were refused, by the first process */
};

/* What every version begins with. */
struct stats_head {
    char magic[8];
    uint32_t version;
    uint32_t size;
    _Atomic uint64_t strangers; /* drop-ins of another version, which add nothing else */
};

struct stats_file {
    struct stats_head head;
    struct stats_interface interfaces[STATS_INTERFACES];
};

/* 0; 1 for one byte, 2 for 2, 3 for up to 4, and so on. */
static inline unsigned stats_size_bucket(uint64_t size)
{
    return size < 2 ? (unsigned)size : 65 - (unsigned)__builtin_clzll(size - 1);
}

#endif

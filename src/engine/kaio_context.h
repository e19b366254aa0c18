/* SPDX-License-Identifier: MIT */
/* kaio_context.h: one context of the kernel's asynchronous I/O (io_setup(2)): its layout, opening,
 * taking what has ended, closing. It knows nothing of operations and loops.
 *
 * Numbers and layouts are our own words for what linux/aio_abi.h says; a test compares them with
 * that header. */
#ifndef OURO_KAIO_CONTEXT_H
#define OURO_KAIO_CONTEXT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KAIO_READ = 0,
    KAIO_WRITE = 1,
    KAIO_FSYNC = 2, /* this and the next: Linux 4.18 */
    KAIO_FDATASYNC = 3,
    KAIO_READV = 7,
    KAIO_WRITEV = 8
};
#define KAIO_FLAG_BELL 1u /* bell_fd is an eventfd that the end of the request adds 1 to */

struct kaio_control { /* a request, which the kernel copies */
    uint64_t data;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint32_t rw_flags, key;
#else
    uint32_t key, rw_flags; /* rw_flags: RWF_*, Linux 4.13 */
#endif
    uint16_t code;
    int16_t priority;
    uint32_t fd;
    uint64_t buf; /* or the vectors */
    uint64_t len; /* bytes, or vectors */
    int64_t offset;
    uint64_t reserved;
    uint32_t flags;
    uint32_t bell_fd;
};

struct kaio_event { /* the end of one */
    uint64_t data;
    uint64_t control; /* its address */
    int64_t res, res2;
};

/* Behind the context's address, written by the kernel. No header has it, but libraries read it
 * since 2.6: the magic word and the two sets of features say whether they still may. */
struct kaio_ring {
    uint32_t id, count;
    _Atomic uint32_t head; /* ours: the next event to be read */
    _Atomic uint32_t tail; /* the kernel's: where the next one comes */
    uint32_t magic, compatible, incompatible, header;
    struct kaio_event events[];
};
#define KAIO_MAGIC 0xa10a10a1u

struct kaio_context {
    unsigned long id;       /* the kernel's name for it; 0: there is none */
    unsigned room;          /* requests that may be in flight */
    struct kaio_ring *ring; /* NULL: of a form that we do not know; events come by a call */
    uint32_t count;         /* events that the ring has places for */
};

/* Could a context be had? Makes none. -errno: why says it in plain words. */
int ouro__kaio_ask(char *why, size_t why_size);
/* For so many requests, or fewer if the system has no more to give; 0 or -errno. */
int ouro__kaio_open(struct kaio_context *ret, unsigned room);
/* Waits for what is in flight, and for the kernel's books: tens of milliseconds. */
void ouro__kaio_close(struct kaio_context *context);
/* Events of requests that have ended, at most so many. */
unsigned ouro__kaio_take(struct kaio_context *context, struct kaio_event *ret, unsigned most);

#endif

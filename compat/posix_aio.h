/* SPDX-License-Identifier: MIT */
/* posix_aio.h: the inside of the POSIX AIO drop-in: calls, requests, notifications.
 *
 * A request of the program (struct aiocb) becomes one operation of a SHARED loop that a thread of
 * ours drives. What the library needs meanwhile is in a struct request of its own: of the program's
 * block it reads the public fields once, when it is submitted, and writes the result, last of all
 * the error code, by which everybody sees that the request is over.
 *
 * Everything else is under the one lock of aio_base.h. aio_error and aio_return load from the block
 * and need nothing else. */
#ifndef OURO_COMPAT_AIO_H
#define OURO_COMPAT_AIO_H

#include <aio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "aio_base.h"

struct request {
    ouro_op op;
    /* In one cache line what is looked at for each request of a list. */
    struct aiocb *block; /* NULL: it stands for a list, or is free */
    uint64_t waiters;    /* who is woken when it is over: bits of struct waiter */
    uint32_t number;     /* its place, from 1 on: what the program's block remembers */
    unsigned left;       /* of a list: requests that are not over, and one while it is made */
    unsigned holders;    /* who is not done with it: given back by the last */
    int fd;
    bool used;
    bool over;     /* the program's block says so; its notification may be under way */
    bool stream;   /* may wait for ever */
    bool steps;    /* it may have to wait for others, or for a thread that does it */
    bool kept;     /* by aio_keep */
    bool canceled; /* by aio_cancel, which waits until the program is told */
    bool failed;   /* of a list: one of its requests has */
    bool waited;   /* of a list: lio_listio waits for it, and gives it back */

    struct request *list;  /* that it belongs to */
    struct request *next;  /* free, or waiting for a thread to call its function */
    uint64_t begun;        /* by stats_now; 0: it is not counted */
    struct sigevent event; /* as the program said when it submitted it */
};

extern const unsigned aio_request_bytes; /* aio_size.c: for reports */

/* ---- aio_request.c: requests, and their end -------------------------------------------------- */

/* OURO_AIO_CANCEL=strong: aio_cancel also ends what waits for a stream's peer already. */
bool aio_cancels_strongly(void);

/* With the lock. NULL: no memory. */
struct request *aio_take(void);
void aio_give(struct request *request);

/* With the lock. The request that the block was last submitted as, if it is not over yet; and a
 * hint that it will be asked for. */
struct request *aio_find(const struct aiocb *block);
void aio_prefetch(const struct aiocb *block);

bool aio_tells(const struct request *request); /* by a signal, or a function */

/* With the lock. Until it is over, our thread drives the loop, and no caller: that may be a handler
 * of a signal, which must neither start threads nor call what the program has given us. */
void aio_keep(struct request *request);

/* With the lock. The first one from `number` on that is in use and not over; NULL: none. */
struct request *aio_next(uint32_t number);

/* Without the lock. The request is over: stores its result, tells the program, wakes who waits, and
 * ends its list. */
void aio_finish(struct request *request, int64_t res);

/* Without the lock. The list is made: from now on it is over with the last of its requests. */
void aio_list_done(struct request *list);

/* With the lock. The end of the request wakes the waiter. */
void aio_await(struct waiter *waiter, struct request *request);

void aio_mark_canceled(struct request *request); /* with the lock */
void aio_await_canceled(void);                   /* without it */

/* ---- aio_notify.c: signals and threads ------------------------------------------------------ */

/* Sends what the event wants, or has a thread call its function, which holds the request then. */
void aio_notify(struct request *request);
void aio_notify_forked(void);

/* ---- aio_original.c: the functions that ours stand for -------------------------------------- */

enum { AIO_USE_UNKNOWN = 0, AIO_USE_OURS, AIO_USE_ORIGINAL };
extern struct aio_original {
    int use;
    int (*read)(struct aiocb *block);
    int (*write)(struct aiocb *block);
    int (*fsync)(int how, struct aiocb *block);
    int (*error)(const struct aiocb *block);
    ssize_t (*return_)(struct aiocb *block);
    int (*cancel)(int fd, struct aiocb *block);
    int (*suspend)(const struct aiocb *const blocks[], int count, const struct timespec *timeout);
    int (*listio)(int mode, struct aiocb *const blocks[], int count, struct sigevent *event);
    int (*old_listio)(int mode, struct aiocb *const blocks[], int count, struct sigevent *event);
    void (*init)(const struct aioinit *init);
} aio_original;
bool aio_find_original(void);

/* OURO_DISABLE=1: ours are not to be used. aio_known_off: as far as anybody has asked. */
static inline bool aio_known_off(void)
{
    return __atomic_load_n(&aio_original.use, __ATOMIC_ACQUIRE) == AIO_USE_ORIGINAL;
}

static inline bool aio_off(void)
{
    int use = __atomic_load_n(&aio_original.use, __ATOMIC_ACQUIRE);

    return use == AIO_USE_UNKNOWN ? aio_find_original() : use == AIO_USE_ORIGINAL;
}

/* ---- aio_calls.c: the functions of <aio.h>, under names of our own -------------------------- */

int aio_do_read(struct aiocb *block);
int aio_do_write(struct aiocb *block);
int aio_do_fsync(int how, struct aiocb *block);
int aio_do_error(const struct aiocb *block);
ssize_t aio_do_return_(struct aiocb *block);
int aio_do_suspend(const struct aiocb *const blocks[], int count, const struct timespec *timeout);
int aio_do_cancel(int fd, struct aiocb *block);
int aio_do_listio(int mode, struct aiocb *const blocks[], int count, struct sigevent *event);
/* As it was before glibc 2.4: the requests of a list tell nothing by themselves. */
int aio_do_old_listio(int mode, struct aiocb *const blocks[], int count, struct sigevent *event);
void aio_do_init(const struct aioinit *init);

#endif

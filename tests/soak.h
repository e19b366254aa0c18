/* SPDX-License-Identifier: MIT */
/* soak.h: what the themes of the soak (soak_*.c) and its frame (soak.c) know of each other.
 *
 * A theme prepares operations of its kind and judges what comes of them. All of its functions but
 * open, settle and close are called with the soak's lock held; what it submits is submitted by the
 * main thread alone, so that the order of preparing is the order of submitting. */
#ifndef OURO_SOAK_H
#define OURO_SOAK_H

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "test.h"

enum {
    BUF = 4096,
    KEPT = 16,  /* buffers of a pool that are given back later */
    SLOTS = 16, /* of the direct table */
};

struct item {
    ouro_op op; /* first */
    const struct theme *theme;
    bool busy, timed, canceled;
    bool linked; /* a chain or a queue may end it; its theme judges that */
    bool posts;  /* another thread's way will do: nothing depends on its place */
    enum { ANY_WAY, BY_CALLBACK, BY_EVENT } way;
    uint32_t accepted, completed;
    /* The theme's: which pipe, socket, connection; what; which one of these. */
    int at;
    unsigned kind;
    uint64_t number;
    size_t len;
    union {
        struct ouro_stat st;
        struct ouro_signal signal;
        struct addrinfo *names;
        struct iovec parts[2];
        struct {
            struct msghdr head;
            struct iovec part;
            struct sockaddr_in addr;
        } message;
    };
    _Alignas(BUF) char buf[BUF];
};

struct theme {
    const char *name;
    unsigned weight;     /* relative to the others' */
    void (*open)(void);  /* the loop is there */
    void (*close)(void); /* it is closed */
    /* Prepares the item; false: there is nothing to do for now. */
    bool (*prepare)(struct item *item);
    int (*submit)(struct item *item);                         /* NULL: ouro_submit */
    void (*refused)(struct item *item, int error);            /* NULL: it must not be */
    bool (*may_fail)(const struct item *item, int64_t res);   /* NULL: it must not */
    void (*more)(struct item *item, int64_t res, void *data); /* of streams: not the last one */
    void (*judge)(struct item *item, int64_t res, uint32_t cflags); /* the last one; NULL */
    void (*stir)(void);                                             /* between turns; NULL */
    void (*settle)(void); /* nothing is in flight, the loop is still there; NULL */
};
extern const struct theme theme_basics, theme_files, theme_bytes, theme_datagrams, theme_network,
    theme_order, theme_system;

extern struct soak {
    ouro_loop *loop;
    ouro_config config;
    struct item *items;
    unsigned depth;
    _Atomic unsigned in_flight; /* SERVICE counts on its own thread */
    _Atomic uint64_t completed, canceled, timed_out, streamed;
    uint64_t ops, submitted, seed, random;
    pthread_mutex_t lock;
    _Atomic long live;
} soak;

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint32_t draw(uint32_t below);
ouro_time soon(uint32_t below_ns); /* a random time from now on */
/* Nothing else is in flight: the result. */
int64_t soak_do(ouro_op *op);
/* On the loopback device. */
int soak_listener(struct sockaddr_in *ret_addr);
/* By a cancel or a deadline, without effect. */
bool ended_early(int64_t res, uint32_t cflags);

/* A pool some of whose buffers are given back only when others have come. */
struct keeper {
    ouro_pool *pool;
    unsigned count;
    void *kept[KEPT];
    uint64_t number;
};
void keeper_open(struct keeper *keeper, unsigned count, unsigned size);
void keeper_take(struct keeper *keeper, void *data);
void keeper_settle(struct keeper *keeper); /* all of its buffers must be there */

#endif

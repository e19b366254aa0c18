/* SPDX-License-Identifier: MIT */
/* serving.h: a small echo server on the loop of a test, and peers of it. Every other connection is
 * a stream into a pool, the rest are plain receives; whatever the style of the case, its operations
 * complete by callback. The peers are plain calls on a thread of their own. */
#ifndef OURO_TEST_SERVING_H
#define OURO_TEST_SERVING_H

#include <netinet/in.h>

#include "test.h"

enum {
    BLOCK = 4096,
    BUFFERS = 32,
    STEADY = 4,      /* connections that go on whatever else happens */
    SLOW = 4,        /* and such as read nothing for a while */
    MESSAGE = 20000, /* the longest request */
};

extern struct server {
    int listener;
    struct sockaddr_in addr;
    ouro_pool *pool;
    ouro_op *door; /* the stream that accepts */
    atomic_uint accepted, closed, broken;
} server;

/* ---- The server ---- */

void serve(struct test *t, int backlog);
/* A turn or more, that long if nothing wakes the loop. */
void turn(struct test *t, int64_t ms);
/* Until that many connections are open, and all others closed. */
void await_open(struct test *t, unsigned open);
/* When all connections have ended. All that is left is the listener. */
void stop(struct test *t);
/* An operation that completes by callback. */
ouro_op *op_of(struct test *t, void *user);
/* Nothing happens for 300 ms: the process sleeps, but for looks that are seldom. */
void check_rest(struct test *t);

/* ---- Peers ---- */

/* Drives the server while a thread does that; or in two halves. */
void with_peers(struct test *t, void (*peers)(void));
void begin_peers(void (*peers)(void));
void end_peers(struct test *t);

/* What they may do; calls that take too long fail. */
int peer_socket(void);
int connect_to_server(int fd);
int connected(void);
void send_all(int fd, const char *data, size_t size);
void receive_all(int fd, char *data, size_t size);
/* A request and its answer. */
void exchange(int fd, size_t size);
void reset(int fd);
/* Ends its half, and waits for the other's end. */
void say_goodbye(int fd);

extern int steady[STEADY];
void steady_begin(void);
void steady_go_on(void);
void steady_end(void);

/* Connections that send as much as goes, byte n being n % 251, and read nothing. */
extern struct slow {
    int fd;
    size_t sent, got;
} slow[SLOW];
void fill_windows(void);

#endif

/* SPDX-License-Identifier: MIT */
/* What `ouro echo` and the suite `echo` of `ouro bench` share: addresses, the load generator, and
 * the server that is written to ouro.h. */
#ifndef OURO_ECHO_H
#define OURO_ECHO_H

#include "bench.h"

#include <stdatomic.h>
#include <sys/socket.h>

enum {
    ECHO_BACKLOG = 4096,
    ECHO_BLOCK = 64 * 1024, /* what plain servers receive at once, whatever the message */
};

/* ---- echo_net.c ---- */

struct echo_address {
    struct sockaddr_storage addr;
    socklen_t size;
};

/* 0, or -errno with the reason in `why` (WHY_SIZE). */
int echo_address_tcp(struct echo_address *ret, const char *host, unsigned port, char *why);
int echo_address_unix(struct echo_address *ret, const char *path, char *why);
/* "127.0.0.1:7777", or a path. */
void echo_address_text(const struct echo_address *address, char *ret, size_t size);

/* A listening socket, close-on-exec, whose connections send at once (TCP_NODELAY, which they take
 * over from it). shared: others may listen there too (SO_REUSEPORT, TCP only). The file of a unix
 * socket that nobody listens to any more is replaced. The address is changed to what was bound,
 * which tells the port if it was 0. The descriptor or -errno. */
int echo_listen(struct echo_address *address, bool shared);
/* A connected socket or -errno. */
int echo_connect(const struct echo_address *address);
/* Raises the limit of descriptors to what may be had. */
void echo_raise_nofile(void);

/* ---- echo_load.c: one thread, plain epoll, one request in flight per connection ---- */

struct echo_result {
    uint64_t requests; /* answered in full, every byte as sent */
    uint64_t wall_ns;
    uint64_t wrong_data, broken, unanswered; /* errors, by kind */
    uint64_t late;                           /* with an interval: not sent, the last was not back */
    char first_error[WHY_SIZE];              /* "" if there was none */
    struct histogram latency;
};

struct echo_load;

/* Connects `connections` times. 0, or -errno with the reason in `why`. */
int echo_load_open(struct echo_load **ret, const struct echo_address *address, unsigned connections,
                   size_t size, char *why);
/* It shall look for answers all the time instead of sleeping until some come. On a core of its own,
 * since else the server pays for waking it: up to 10 % of its time, and the more, the slower it is,
 * because then the load generator sleeps more often. */
void echo_load_spin(struct echo_load *load);
/* Sends requests until the time is over, then waits for the answers that are due. interval_ns: how
 * often a connection sends; 0: as soon as the answer is there. A connection with an error is closed
 * and counted. Stops early after a signal, or when no connection is left. Adds to `ret`. */
int echo_load_run(struct echo_load *load, uint64_t limit_ns, uint64_t interval_ns,
                  struct echo_result *ret);
/* reset: the server sees an error, but no port is kept for a minute as after an orderly end. */
void echo_load_close(struct echo_load *load, bool reset);
uint64_t echo_result_errors(const struct echo_result *result);

/* ---- echo_server_ouro.c ---- */

/* Written by the server's thread alone; any thread may look. */
struct echo_counters {
    _Atomic uint64_t accepted, ended; /* connections */
    _Atomic uint64_t requests, bytes; /* sent back */
    _Atomic uint64_t failed;          /* connections that an error ended */
    _Atomic uint64_t pauses;          /* times that accepting had to wait for descriptors */
};

struct echo_server;

/* One loop on one thread. The listener stays the caller's. 0, or -errno with the reason in `why`.
 */
int echo_server_open(struct echo_server **ret, const char *engine, int listener, char *why);
/* Serves until echo_server_stop, then ends all connections and closes the loop; 0 or -errno. On the
 * thread that opened it. */
int echo_server_run(struct echo_server *server);
void echo_server_stop(struct echo_server *server); /* any thread */
const struct echo_counters *echo_server_counters(const struct echo_server *server);
const char *echo_server_engine(const struct echo_server *server);
void echo_server_free(struct echo_server *server);

/* ---- servers of the bench, each in a process of its own that is killed in the end ---- */

/* What a server may know beforehand, as one who tunes it would. */
struct echo_job {
    int listener;
    unsigned connections;
    size_t size;
    unsigned variant;
    const char *engine;
    char *why; /* WHY_SIZE */
};

int echo_serve_epoll(const struct echo_job *job);
int echo_serve_libuv(const struct echo_job *job);
int echo_serve_libevent(const struct echo_job *job);
int echo_serve_liburing(const struct echo_job *job);

#endif

/* SPDX-License-Identifier: MIT */
/* aio_test.h: what the files of aio_test share. Each has the tests of one theme and a table of
 * them, which aio_test.c runs; the helpers are there, too. */
#ifndef OURO_AIO_TEST_H
#define OURO_AIO_TEST_H

#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sanitizer allocates memory and calls the system by itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct aio_case {
    const char *name;
    void (*run)(void);
    bool better; /* not so with glibc */
};

/* Each ends with one that has no name. */
extern const struct aio_case submit_tests[], order_tests[], wait_tests[], cancel_tests[],
    notify_tests[], list_tests[], process_tests[], memory_tests[], handler_tests[], driving_tests[];

#define TEST(name)         \
    {                      \
#name, name, false \
    }
#define BETTER(name)      \
    {                     \
#name, name, true \
    }

#define CHECK(holds)                                                                   \
    do {                                                                               \
        if (!(holds)) {                                                                \
            dprintf(1, "# %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #holds, errno); \
            _exit(1);                                                                  \
        }                                                                              \
    } while (0)

/* What a test exits with that says nothing here. */
enum { SKIP_STATUS = 77 };

/* --long: as often as the statement says, however long it takes. */
extern bool takes_long;

void nap_ms(long ms);
double now_s(void);

/* Unlinked already. */
int temp_file(int flags);

/* For this thread and those that it starts, for good. */
void refuse_io_uring(int error);

/* Whether the process has a ring open. */
bool has_io_uring(void);

/* ---- Requests ------------------------------------------------------------------------------- */

/* Fields that are the library's hold garbage, as in a block on the stack. */
struct aiocb block_of(int fd, void *buf, size_t size, off_t offset);

/* Until it is over: its error. */
int await(struct aiocb *block);

/* Submit and wait: the result, and errno is the request's error. */
ssize_t read_by(int fd, void *buf, size_t size, off_t offset);
ssize_t write_by(int fd, const void *buf, size_t size, off_t offset);

/* ---- Others that take part ------------------------------------------------------------------ */

/* Until others have counted so far; no further. */
void until(const atomic_int *count, int wanted);

void on_nothing(int signo); /* a handler */

/* Threads: SIGUSR1 for main_thread after a while, then a byte into *arg, unless that is NULL; and
 * one that waits for the block arg. */
extern pthread_t main_thread;
void *send_signal(void *arg);
void *suspend_for_ever(void *arg);

/* A read of one byte that ends with a signal, of which `signals` and `last_value` tell. It does not
 * count where *signalled was in progress still. */
struct aiocb signalling(int fd, void *buf, int signo, int value);
extern atomic_int signals, last_value;
extern struct aiocb *signalled;

#endif

/* SPDX-License-Identifier: MIT */
/* dropin_test.h: what the tests of the drop-ins share: helpers, and a runner. They are programs of
 * another interface's header alone, which know nothing of ouro: the drop-in is put under them. */
#ifndef OURO_DROPIN_TEST_H
#define OURO_DROPIN_TEST_H

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

/* A theme is a table of them, which ends with one that has no name. */
struct dropin_case {
    const char *name;
    void (*run)(void);
    bool better; /* not so with what the drop-in stands for */
};

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

/* Runs all themes, each test in a process of its own with a time limit; the program's status.
 *
 *   PROGRAM [--blocked] [--original] [--long] [--lacks FILE] [--except NAME]... [NAME]
 *
 * --blocked refuses io_uring; --original wants BETTER to fail; --lacks wants the tests to fail that
 * stand in FILE, each with the reason behind its name; --long takes minutes where seconds do. */
int run_tests(int argc, char **argv, const struct dropin_case *const *themes, unsigned count);

/* ---- dropin_alloc.c: who asks for memory ----------------------------------------------------- */

void start_counting(void);
int counted(void); /* ends it: calls since then */

extern void (*_Atomic in_allocation)(void); /* is called for each, before it */
void call_nobody(void);

/* ---- Helpers --------------------------------------------------------------------------------- */

void nap_ms(long ms);
double now_s(void);

/* Unlinked already. */
int temp_file(int flags);

/* For this thread and those that it starts, for good: all system calls from one number to another;
 * io_uring's. */
void refuse_calls(long from, long to, int error);
void refuse_io_uring(int error);

/* Whether the process has a ring open. */
bool has_io_uring(void);

/* How many descriptors and threads the process has. */
int count_of(const char *directory);

/* Until others have counted so far; no further. */
void until(const atomic_int *count, int wanted);

void on_nothing(int signo); /* a handler */

/* A thread: SIGUSR1 for main_thread after a while, then a byte into *arg, unless that is NULL. */
extern pthread_t main_thread;
void *send_signal(void *arg);

#endif

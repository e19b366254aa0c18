/* SPDX-License-Identifier: MIT */
/* aio_test.h: what the files of aio_test share. Each has the tests of one theme and a table of
 * them; helpers for requests are in aio_test.c. */
#ifndef OURO_AIO_TEST_H
#define OURO_AIO_TEST_H

#include <aio.h>

#include "dropin_test.h"

extern const struct dropin_case submit_tests[], order_tests[], wait_tests[], cancel_tests[],
    notify_tests[], list_tests[], process_tests[], memory_tests[], handler_tests[], driving_tests[];

/* Fields that are the library's hold garbage, as in a block on the stack. */
struct aiocb block_of(int fd, void *buf, size_t size, off_t offset);

/* Until it is over: its error. */
int await(struct aiocb *block);

/* Submit and wait: the result, and errno is the request's error. */
ssize_t read_by(int fd, void *buf, size_t size, off_t offset);
ssize_t write_by(int fd, const void *buf, size_t size, off_t offset);

/* Such as no cache has: a device has to be asked, where the file system can do that. The i-th block
 * has 'a' + i % 26 in it. */
enum { SLOW_SIZE = 4096, SLOW_BLOCKS = 64 };
int slow_file(void);

/* What this thread has used. */
double cpu_seconds(void);

/* ---- Others that take part ------------------------------------------------------------------ */

/* A thread that waits for the block arg. */
void *suspend_for_ever(void *arg);

/* A read of one byte that ends with a signal, of which `signals` and `last_value` tell. It does not
 * count where *signalled was in progress still. */
struct aiocb signalling(int fd, void *buf, int signo, int value);
extern atomic_int signals, last_value;
extern struct aiocb *signalled;

#endif

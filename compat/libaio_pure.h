/* SPDX-License-Identifier: MIT */
/* libaio_pure.h: contexts without kernel AIO: what else than the files of the drop-in they take. */
#ifndef OURO_COMPAT_LIBAIO_PURE_H
#define OURO_COMPAT_LIBAIO_PURE_H

#include "libaio_dropin.h"

/* The user wants no kernel AIO. */
bool laio_pure_wanted(void);

/* With the lock. The context gets a ring of its own for so many requests, and the program's view of
 * it an address: 0 or -errno. Its end takes both views. */
int laio_pure_open(struct laio_context *context, unsigned count, uintptr_t *ret_address);
void laio_pure_close(struct laio_context *context, uintptr_t address);

/* With the lock. The request is over: its event is put into the ring, and it is given back. */
void laio_pure_post(struct laio_context *context, struct laio_request *request);

/* How many were accepted, or -errno. */
long laio_pure_submit(struct laio_context *context, long count, struct iocb **blocks);
int laio_pure_cancel(struct laio_context *context, const struct iocb *block);

/* With the lock: events that were read. */
long laio_pure_read(struct laio_context *context, struct io_event *events, long count);

#endif

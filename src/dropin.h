/* SPDX-License-Identifier: MIT */
/* dropin.h: what the drop-ins see of the core beside ouro.h: sleeping on a ring without driving its
 * loop. A loop that is hosted (ouro_pollfd) rings its bell for whatever ends, and who sleeps in
 * ouro_run cannot be left behind by a handler that does not come back. */
#ifndef OURO_DROPIN_H
#define OURO_DROPIN_H

#include <signal.h>
#include <time.h>

#include "ouro.h"

/* The descriptor of the engine itself, which need not be the loop's next one; or -errno. */
int ouro__engine_fd(ouro_loop *loop);

/* Until there is something in the ring's completion queue: 0, or -errno: -ETIME after `limit`,
 * -EINTR by a handler, which `mask` lets through meanwhile, others where it is no ring. One system
 * call, which holds nothing: the thread may be cancelled in it. */
long ouro__ring_sleep(int fd, const struct timespec *limit, const sigset_t *mask);

#endif

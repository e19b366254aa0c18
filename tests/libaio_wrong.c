/* SPDX-License-Identifier: MIT */
/* libaio_wrong.c: an io_getevents that is wrong now and then, put before the true one for
 * libaio_diff to find: a transfer of exactly 511 bytes is told as one of 510. */
#include <dlfcn.h>
#include <libaio.h>
#include <string.h>

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the header has its own */
int io_getevents(io_context_t context, long min, long nr, struct io_event *events,
                 struct timespec *timeout)
{
    int (*real)(io_context_t, long, long, struct io_event *, struct timespec *);
    void *at = dlsym(RTLD_NEXT, "io_getevents");
    int r;

    memcpy(&real, &at, sizeof(at));
    r = real(context, min, nr, events, timeout);
    for (int i = 0; i < r; i++)
        if (events[i].res == 511)
            events[i].res = 510;
    return r;
}

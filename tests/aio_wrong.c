/* SPDX-License-Identifier: MIT */
/* aio_wrong.c: an aio_return that is wrong now and then, put before the true one for aio_diff to
 * find: one of exactly 511 bytes is told as 510. */
#include <aio.h>
#include <dlfcn.h>
#include <string.h>

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's is reserved */
ssize_t aio_return(struct aiocb *block)
{
    ssize_t (*real)(struct aiocb *);
    void *at = dlsym(RTLD_NEXT, "aio_return64");
    ssize_t r;

    memcpy(&real, &at, sizeof(at));
    r = real(block);
    return r == 511 ? 510 : r;
}

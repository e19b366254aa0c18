/* SPDX-License-Identifier: MIT */
/* libc_aio.c: the C library's own POSIX AIO, for the entries aio_* of sys.h.
 *
 * The names aio_read and so on may be somebody else's: a program may define them, and so does what
 * is preloaded to put POSIX AIO on ouro. So they are not linked but looked up in the C library
 * itself, which glibc and musl both know as libc.so.6; before glibc 2.34 they are in librt.so.1.
 * A static program has no C library to look into, and its aio_read may be its own: there is none
 * for us.
 *
 * glibc gives the 32-bit names to programs with 32-bit offsets; ours have 64 bits everywhere. */
#include "../sys.h"

#include <aio.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

/* Static programs have none, and glibc warns who links it into one. */
#pragma weak dlopen
#pragma weak dlsym

static struct {
    int (*read)(struct aiocb *);
    int (*write)(struct aiocb *);
    int (*sync)(int, struct aiocb *);
    int (*error)(const struct aiocb *);
    ssize_t (*give)(struct aiocb *);
    int (*cancel)(int, struct aiocb *);
    int (*suspend)(const struct aiocb *const *, int, const struct timespec *);
} own;

static const struct {
    const char *wide, *name;
    void *to;
} names[] = {
    { "aio_read64", "aio_read", &own.read },          { "aio_write64", "aio_write", &own.write },
    { "aio_fsync64", "aio_fsync", &own.sync },        { "aio_error64", "aio_error", &own.error },
    { "aio_return64", "aio_return", &own.give },      { "aio_cancel64", "aio_cancel", &own.cancel },
    { "aio_suspend64", "aio_suspend", &own.suspend },
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool found;

static bool find_in(const char *library, int flags)
{
    void *handle = dlopen(library, flags | RTLD_LAZY);

    if (!handle)
        return false;
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        void *at = dlsym(handle, names[i].wide);

        if (!at)
            at = dlsym(handle, names[i].name);
        if (!at)
            return false;
        memcpy(names[i].to, &at, sizeof(at)); /* C has no cast from data to functions */
    }
    return true;
}

static void find(void)
{
    if (dlopen && dlsym)
        found = find_in("libc.so.6", RTLD_NOLOAD) || find_in("librt.so.1", 0);
}

long ouro__do_aio_find(void)
{
    int saved = errno;

    pthread_once(&once, find);
    errno = saved;
    return found ? 0 : -ENOSYS;
}

static long settle(long result, int saved)
{
    if (result < 0)
        result = -errno;
    errno = saved;
    return result;
}

long ouro__do_aio_start(struct aiocb *request, int sync)
{
    int saved = errno;

    if (sync)
        return settle(own.sync(sync, request), saved);
    return settle(request->aio_lio_opcode == LIO_READ ? own.read(request) : own.write(request),
                  saved);
}

long ouro__do_aio_result(struct aiocb *request)
{
    int saved = errno, error = own.error(request);
    long result;

    if (error == EINPROGRESS)
        return -EINPROGRESS;
    result = (long)own.give(request);
    errno = saved;
    return error ? -error : result;
}

long ouro__do_aio_cancel(int fd, struct aiocb *request)
{
    int saved = errno;

    return settle(own.cancel(fd, request), saved);
}

long ouro__do_aio_suspend(const struct aiocb *const *requests, unsigned count)
{
    int saved = errno;

    return settle(own.suspend(requests, (int)count, NULL), saved);
}

/* SPDX-License-Identifier: MIT */
/* libaio_exit.c: the end of a process: the kernel finishes what kernel AIO has accepted, io_uring
 * does not. So what was accepted for files is waited for. */
#include "libaio_dropin.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aio_versions.h"

static void __attribute__((destructor)) drain_at_exit(void)
{
    laio_drain();
}

#ifdef OURO_LIBAIO_PRELOAD

/* Each in the versions that a program may have been linked with. */
#define SHOWN __attribute__((visibility("default"), noreturn))

static void __attribute__((noreturn)) end(int status)
{
    laio_drain();
    for (;;)
        (void)LAIO_KERNEL(SYS_exit_group, status);
}

SHOWN void laio__exit(int status);
void laio__exit(int status)
{
    end(status);
}
__asm__(".symver laio__exit, _exit@@" AIO_TEXT(AIO_FIRST));

SHOWN void laio__Exit(int status);
void laio__Exit(int status)
{
    end(status);
}
__asm__(".symver laio__Exit, _Exit@@" AIO_TEXT(AIO_FIRST));

/* The C library's own runs the handlers, and ends by an _exit of its own. */
static void __attribute__((noreturn)) end_quickly(const char *version, int status)
{
    void (*original)(int);
    void *at = dlvsym(RTLD_NEXT, "quick_exit", version);

    memcpy(&original, &at, sizeof(at));
    laio_drain();
    if (original)
        original(status);
    end(status);
}

SHOWN void laio_quick_exit(int status);
void laio_quick_exit(int status)
{
    end_quickly(AIO_TEXT(AIO_QUICK_EXIT), status);
}
__asm__(".symver laio_quick_exit, quick_exit@@" AIO_TEXT(AIO_QUICK_EXIT));

#ifdef AIO_OLD_QUICK_EXIT
SHOWN void laio_old_quick_exit(int status);
void laio_old_quick_exit(int status)
{
    end_quickly(AIO_TEXT(AIO_OLD_QUICK_EXIT), status);
}
__asm__(".symver laio_old_quick_exit, quick_exit@" AIO_TEXT(AIO_OLD_QUICK_EXIT));
#endif

#endif

/* SPDX-License-Identifier: MIT */
/* syscall_pure.c: the C library's syscall(), for programs that do without the functions of libaio
 * (nginx, Seastar) where contexts are not the kernel's (OURO_AIO_PURE=1). It is a library of its
 * own, which `ouro run` preloads then alone: calls of io_* go to the drop-in, which gives those
 * for contexts of the kernel to the kernel; all others go there untouched. */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>

#include "../src/syscall.h"

struct mask {
    sigset_t *set;
    size_t size;
};

enum { ARGS = 6 };

typedef int plain_call(long a, long b, long c, long d, long e);
typedef int mask_call(long context, long min, long count, long events, long timeout,
                      sigset_t *mask);

/* The drop-in's, in the version that has the kernel's arguments. */
static void *find(const char *name, const char *version)
{
    return dlvsym(RTLD_DEFAULT, name, version);
}

static long call_plain(const char *name, const char *version, const long a[ARGS])
{
    void *at = find(name, version);
    plain_call *function;

    if (!at)
        return -ENOSYS;
    memcpy(&function, &at, sizeof(at));
    return function(a[0], a[1], a[2], a[3], a[4]);
}

static long call_masked(const long a[ARGS])
{
    const struct mask *mask = (const void *)a[5]; // NOLINT(performance-no-int-to-ptr)
    void *at = find("io_pgetevents", "LIBAIO_0.5");
    mask_call *function;

    if (!at)
        return -ENOSYS;
    memcpy(&function, &at, sizeof(at));
    return function(a[0], a[1], a[2], a[3], a[4], mask ? mask->set : NULL);
}

static long call(long number, const long a[ARGS])
{
    switch (number) {
    case SYS_io_setup: return call_plain("io_setup", "LIBAIO_0.4", a);
    case SYS_io_destroy: return call_plain("io_destroy", "LIBAIO_0.4", a);
    case SYS_io_submit: return call_plain("io_submit", "LIBAIO_0.1", a);
    case SYS_io_cancel: return call_plain("io_cancel", "LIBAIO_0.4", a);
    case SYS_io_getevents: return call_plain("io_getevents", "LIBAIO_0.4", a);
    case SYS_io_pgetevents: return call_masked(a);
    default: return OURO__SYSCALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libraries disagree */
__attribute__((visibility("default"))) long syscall(long number, ...)
{
    long args[ARGS], r;
    va_list list;

    va_start(list, number);
    for (unsigned i = 0; i < ARGS; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    r = call(number, args);
    if (r >= 0 || r < -4095)
        return r;
    errno = (int)-r;
    return -1;
}

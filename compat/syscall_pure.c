/* SPDX-License-Identifier: MIT */
/* syscall_pure.c: the C library's syscall(), for programs that do without the functions of libaio
 * (nginx, Seastar) where contexts are not the kernel's (OURO_AIO_PURE=1). It is a library of its
 * own, which `ouro run` preloads then alone: calls of io_* go to the drop-in, which gives those
 * for contexts of the kernel to the kernel; all others go there untouched. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "../src/syscall.h"

/* Of the drop-in, found by name when it is loaded. */
struct iocb;
struct io_event;
struct timespec;
int io_setup(int count, void *ret);
int io_destroy(unsigned long context);
int io_submit(unsigned long context, long count, struct iocb **blocks);
int io_cancel(unsigned long context, struct iocb *block, struct io_event *ret);
int io_getevents(unsigned long context, long min, long count, struct io_event *events,
                 struct timespec *timeout);
int io_pgetevents(unsigned long context, long min, long count, struct io_event *events,
                  struct timespec *timeout, sigset_t *mask);

struct mask {
    sigset_t *set;
    size_t size;
};

enum { ARGS = 6 };

static void *pointer(long arg)
{
    return (void *)arg; // NOLINT(performance-no-int-to-ptr)
}

static long call(long number, const long a[ARGS])
{
    const struct mask *mask;

    switch (number) {
    case SYS_io_setup: return io_setup((int)a[0], pointer(a[1]));
    case SYS_io_destroy: return io_destroy((unsigned long)a[0]);
    case SYS_io_submit: return io_submit((unsigned long)a[0], a[1], pointer(a[2]));
    case SYS_io_cancel: return io_cancel((unsigned long)a[0], pointer(a[1]), pointer(a[2]));
    case SYS_io_getevents:
        return io_getevents((unsigned long)a[0], a[1], a[2], pointer(a[3]), pointer(a[4]));
    case SYS_io_pgetevents:
        mask = pointer(a[5]);
        return io_pgetevents((unsigned long)a[0], a[1], a[2], pointer(a[3]), pointer(a[4]),
                             mask ? mask->set : NULL);
    default: return OURO__SYSCALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}

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

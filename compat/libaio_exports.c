/* SPDX-License-Identifier: MIT */
/* libaio_exports.c: the names that programs know, in the versions that libaio gave them. Three of
 * them had other parameters before 0.4. */
#include "libaio_dropin.h"

#include <errno.h>
#include <stddef.h>

#define FIRST "@LIBAIO_0.1"
#define FIRST_NOW "@@LIBAIO_0.1"
#define FOURTH "@@LIBAIO_0.4"
#define FIFTH "@@LIBAIO_0.5"

#define SHOWN __attribute__((visibility("default")))
/* One symbol has one version, so each version has a symbol of its own. Who is inside (aio_base.h)
 * is refused. */
#define EXPORT(symbol, name, params, call)         \
    SHOWN int symbol params;                       \
    int symbol params                              \
    {                                              \
        return aio_is_inside() ? -EAGAIN : (call); \
    }                                              \
    __asm__(".symver " #symbol ", " name)

typedef void callback(aio_context_t context, struct iocb *block, long res, long res2);

static const struct timespec none;

static int queue_init(int count, aio_context_t *ret)
{
    if (count <= 0)
        return -EINVAL;
    *ret = 0;
    return laio_setup((unsigned)count, ret);
}

static int queue_run(aio_context_t context)
{
    struct io_event event;
    int r;

    while ((r = laio_getevents(context, 0, 1, &event, &none, NULL)) == 1) {
        callback *call = (callback *)(uintptr_t)event.data; // NOLINT

        call(context, (struct iocb *)(uintptr_t)event.obj, (long)event.res, // NOLINT
             (long)event.res2);
    }
    return r;
}

static int cancel_first(aio_context_t context, struct iocb *block)
{
    struct io_event event;

    return laio_cancel(context, block, &event);
}

EXPORT(laio_io_queue_init, "io_queue_init" FIRST_NOW, (int count, aio_context_t *ret),
       queue_init(count, ret));
EXPORT(laio_io_queue_run, "io_queue_run" FIRST_NOW, (aio_context_t context), queue_run(context));
EXPORT(laio_io_queue_release, "io_queue_release" FIRST_NOW, (aio_context_t context),
       laio_destroy(context));
EXPORT(laio_io_submit, "io_submit" FIRST_NOW,
       (aio_context_t context, long count, struct iocb **blocks),
       laio_submit(context, count, blocks));

EXPORT(laio_io_cancel_first, "io_cancel" FIRST, (aio_context_t context, struct iocb *block),
       cancel_first(context, block));
EXPORT(laio_io_getevents_first, "io_getevents" FIRST,
       (aio_context_t context, long count, struct io_event *events, const struct timespec *timeout),
       laio_getevents(context, 1, count, events, timeout, NULL));
EXPORT(laio_io_queue_wait_first, "io_queue_wait" FIRST, (aio_context_t context),
       laio_getevents(context, 0, 0, NULL, &none, NULL));

EXPORT(laio_io_setup, "io_setup" FOURTH, (int count, aio_context_t *ret),
       laio_setup((unsigned)count, ret));
EXPORT(laio_io_destroy, "io_destroy" FOURTH, (aio_context_t context), laio_destroy(context));
EXPORT(laio_io_cancel, "io_cancel" FOURTH,
       (aio_context_t context, struct iocb *block, struct io_event *ret),
       laio_cancel(context, block, ret));
EXPORT(laio_io_getevents, "io_getevents" FOURTH,
       (aio_context_t context, long min, long count, struct io_event *events,
        struct timespec *timeout),
       laio_getevents(context, min, count, events, timeout, NULL));
EXPORT(laio_io_queue_wait, "io_queue_wait" FOURTH,
       (aio_context_t context, struct timespec *timeout),
       laio_getevents(context, 0, 0, NULL, timeout, NULL));

EXPORT(laio_io_pgetevents, "io_pgetevents" FIFTH,
       (aio_context_t context, long min, long count, struct io_event *events,
        struct timespec *timeout, sigset_t *mask),
       laio_getevents(context, min, count, events, timeout, mask));

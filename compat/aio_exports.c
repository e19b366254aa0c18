/* SPDX-License-Identifier: MIT */
/* aio_exports.c: the names that programs know, in the versions that glibc gave them: each was there
 * from the first on, and again when the functions moved from librt to libc. They are the same, but
 * for lio_listio where it was there before 2.4. Where off_t has 64 bits, so have the names that end
 * in 64. Who links the archive (OURO_AIO_STATIC) was built with the names as they are now: there
 * are no versions. */
#include "posix_aio.h"

#include "aio_versions.h"

#define FIRST "@" AIO_TEXT(AIO_FIRST)
#define FOURTH "@GLIBC_2.4"
#define NOW "@@GLIBC_2.34"

#define SHOWN __attribute__((visibility("default")))
#ifdef OURO_AIO_STATIC
#define CURRENT(ret, symbol, name, params, call) \
    SHOWN ret symbol params __asm__(name);       \
    ret symbol params                            \
    {                                            \
        call;                                    \
    }                                            \
    _Static_assert(1, "a name")
#define OLD(ret, symbol, name, params, call) _Static_assert(1, "no name")
#else
/* One symbol has one version, so each version has a symbol of its own. */
#define OLD(ret, symbol, name, params, call) \
    SHOWN ret symbol params;                 \
    ret symbol params                        \
    {                                        \
        call;                                \
    }                                        \
    __asm__(".symver " #symbol ", " name)
#define CURRENT(ret, symbol, name, params, call) OLD(ret, symbol, name NOW, params, call)
#endif

/* STATUS: nothing is looked for, so that these two never lock. Where no other call has looked so
 * far, nothing was submitted. */
#ifdef OURO_AIO_STATIC
#define CALL(name, args) aio_do_##name args
#define STATUS CALL
#else
#define CALL(name, args) (aio_off() ? aio_original.name args : aio_do_##name args)
#define STATUS(name, args) (aio_known_off() ? aio_original.name args : aio_do_##name args)
#endif
#define BOTH(ret, name, params, call)                                       \
    OLD(ret, name##_first, "aio_" #name FIRST, params, return call);        \
    CURRENT(ret, name##_now, "aio_" #name, params, return call);            \
    OLD(ret, name##64_first, "aio_" #name "64" FIRST, params, return call); \
    CURRENT(ret, name##64_now, "aio_" #name "64", params, return call)

BOTH(int, read, (struct aiocb * block), CALL(read, (block)));
BOTH(int, write, (struct aiocb * block), CALL(write, (block)));
BOTH(int, fsync, (int how, struct aiocb *block), CALL(fsync, (how, block)));
BOTH(int, error, (const struct aiocb *block), STATUS(error, (block)));
BOTH(int, cancel, (int fd, struct aiocb *block), CALL(cancel, (fd, block)));
BOTH(int, suspend, (const struct aiocb *const blocks[], int count, const struct timespec *timeout),
     CALL(suspend, (blocks, count, timeout)));

#define RETURN return STATUS(return_, (block))
OLD(ssize_t, return_first, "aio_return" FIRST, (struct aiocb * block), RETURN);
CURRENT(ssize_t, return_now, "aio_return", (struct aiocb * block), RETURN);
OLD(ssize_t, return64_first, "aio_return64" FIRST, (struct aiocb * block), RETURN);
CURRENT(ssize_t, return64_now, "aio_return64", (struct aiocb * block), RETURN);

#define LIST (int mode, struct aiocb *const blocks[], int count, struct sigevent *event)
#define LISTED (mode, blocks, count, event)
#ifdef AIO_OLD_LISTS
OLD(int, listio_first, "lio_listio" FIRST, LIST, return CALL(old_listio, LISTED));
OLD(int, listio_fourth, "lio_listio" FOURTH, LIST, return CALL(listio, LISTED));
OLD(int, listio64_first, "lio_listio64" FIRST, LIST, return CALL(old_listio, LISTED));
OLD(int, listio64_fourth, "lio_listio64" FOURTH, LIST, return CALL(listio, LISTED));
#else
OLD(int, listio_first, "lio_listio" FIRST, LIST, return CALL(listio, LISTED));
OLD(int, listio64_first, "lio_listio64" FIRST, LIST, return CALL(listio, LISTED));
#endif
CURRENT(int, listio_now, "lio_listio", LIST, return CALL(listio, LISTED));
CURRENT(int, listio64_now, "lio_listio64", LIST, return CALL(listio, LISTED));

OLD(void, init_first, "aio_init" FIRST, (const struct aioinit *init), CALL(init, (init)));
CURRENT(void, init_now, "aio_init", (const struct aioinit *init), CALL(init, (init)));

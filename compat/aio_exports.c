/* SPDX-License-Identifier: MIT */
/* aio_exports.c: the names that programs know, in the versions that glibc gave them on x86-64. Each
 * was there from the first on, and again when the functions moved from librt to libc (2.34). They
 * are the same but for lio_listio: the one before 2.4 tells of no single request. Where off_t has
 * 64 bits, so are the names that end in 64. */
#include "posix_aio.h"

#define FIRST "@GLIBC_2.2.5"
#define FOURTH "@GLIBC_2.4"
#define NOW "@@GLIBC_2.34"

/* One symbol has one version, so each version has a symbol of its own. */
#define SHOWN __attribute__((visibility("default")))
#define ONE(ret, symbol, version, params, call) \
    SHOWN ret symbol params;                    \
    ret symbol params                           \
    {                                           \
        return call;                            \
    }                                           \
    __asm__(".symver " #symbol ", " version)

#define CALL(name, args) (aio_off() ? aio_original.name args : aio_do_##name args)
#define BOTH(ret, name, params, args)                                            \
    ONE(ret, name##_first, "aio_" #name FIRST, params, CALL(name, args));        \
    ONE(ret, name##_now, "aio_" #name NOW, params, CALL(name, args));            \
    ONE(ret, name##64_first, "aio_" #name "64" FIRST, params, CALL(name, args)); \
    ONE(ret, name##64_now, "aio_" #name "64" NOW, params, CALL(name, args))

BOTH(int, read, (struct aiocb * block), (block));
BOTH(int, write, (struct aiocb * block), (block));
BOTH(int, fsync, (int how, struct aiocb *block), (how, block));
BOTH(int, error, (const struct aiocb *block), (block));
BOTH(int, cancel, (int fd, struct aiocb *block), (fd, block));
BOTH(int, suspend, (const struct aiocb *const blocks[], int count, const struct timespec *timeout),
     (blocks, count, timeout));

#define RETURN (aio_off() ? aio_original.return_(block) : aio_do_return(block))
ONE(ssize_t, return_first, "aio_return" FIRST, (struct aiocb * block), RETURN);
ONE(ssize_t, return_now, "aio_return" NOW, (struct aiocb * block), RETURN);
ONE(ssize_t, return64_first, "aio_return64" FIRST, (struct aiocb * block), RETURN);
ONE(ssize_t, return64_now, "aio_return64" NOW, (struct aiocb * block), RETURN);

#define LIST (int mode, struct aiocb *const blocks[], int count, struct sigevent *event)
#define LISTED (mode, blocks, count, event)
ONE(int, listio_first, "lio_listio" FIRST, LIST, CALL(old_listio, LISTED));
ONE(int, listio_fourth, "lio_listio" FOURTH, LIST, CALL(listio, LISTED));
ONE(int, listio_now, "lio_listio" NOW, LIST, CALL(listio, LISTED));
ONE(int, listio64_first, "lio_listio64" FIRST, LIST, CALL(old_listio, LISTED));
ONE(int, listio64_fourth, "lio_listio64" FOURTH, LIST, CALL(listio, LISTED));
ONE(int, listio64_now, "lio_listio64" NOW, LIST, CALL(listio, LISTED));

SHOWN void init_first(const struct aioinit *init);
SHOWN void init_now(const struct aioinit *init);
void init_first(const struct aioinit *init)
{
    if (aio_off())
        aio_original.init(init);
    else
        aio_do_init(init);
}
void init_now(const struct aioinit *init)
{
    init_first(init);
}
__asm__(".symver init_first, aio_init" FIRST);
__asm__(".symver init_now, aio_init" NOW);

/* SPDX-License-Identifier: MIT */
/* aio_original.c: the functions that ours stand for, for programs that are told to use them
 * (OURO_DISABLE=1): what comes next in the order in which the dynamic linker looks. */
#include "posix_aio.h"

#include "aio_versions.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct aio_original aio_original;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void)
{
    static const struct {
        const char *name, *version;
        void *to;
    } names[] = {
        { "aio_read64", NULL, &aio_original.read },
        { "aio_write64", NULL, &aio_original.write },
        { "aio_fsync64", NULL, &aio_original.fsync },
        { "aio_error64", NULL, &aio_original.error },
        { "aio_return64", NULL, &aio_original.return_ },
        { "aio_cancel64", NULL, &aio_original.cancel },
        { "aio_suspend64", NULL, &aio_original.suspend },
        { "lio_listio64", NULL, &aio_original.listio },
#ifdef AIO_OLD_LISTS
        { "lio_listio64", AIO_TEXT(AIO_FIRST), &aio_original.old_listio },
#endif
        { "aio_init", NULL, &aio_original.init },
    };
    const char *word = secure_getenv("OURO_DISABLE");
    bool off = word && *word && strcmp(word, "0") != 0;

    for (size_t i = 0; off && i < sizeof(names) / sizeof(*names); i++) {
        void *at = names[i].version ? dlvsym(RTLD_NEXT, names[i].name, names[i].version)
                                    : dlsym(RTLD_NEXT, names[i].name);

        if (!at)
            off = false; /* there is nothing to fall back to */
        memcpy(names[i].to, &at, sizeof(at));
    }
    __atomic_store_n(&aio_original.use, off ? AIO_USE_ORIGINAL : AIO_USE_OURS, __ATOMIC_RELEASE);
}

bool aio_find_original(void)
{
    struct aio_shield old;
    int saved = errno;

    if (aio_is_inside()) /* called by what is called here: refused */
        return false;
    aio_shield(&old);
    pthread_once(&once, find);
    aio_unshield(&old);
    errno = saved;
    return aio_original.use == AIO_USE_ORIGINAL;
}

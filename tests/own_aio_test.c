/* SPDX-License-Identifier: MIT */
/* own_aio_test.c: a program that has an aio_read of its own, as one has that puts POSIX AIO on
 * ouro: engine posixaio must not meet it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ouro.h"

/* Whoever asks for these by name, linked or with dlsym(RTLD_DEFAULT), gets ours. */
#define OWN(name)                               \
    __attribute__((used)) int name(void);       \
    int name(void)                              \
    {                                           \
        printf("not ok - %s was met\n", #name); \
        fflush(stdout);                         \
        _exit(1);                               \
    }
OWN(aio_read)
OWN(aio_read64)
OWN(aio_write)
OWN(aio_write64)
OWN(aio_fsync)
OWN(aio_fsync64)
OWN(aio_error)
OWN(aio_error64)
OWN(aio_return)
OWN(aio_return64)
OWN(aio_cancel)
OWN(aio_cancel64)
OWN(aio_suspend)
OWN(aio_suspend64)

static int done(ouro_loop *loop, ouro_op *op, int64_t best)
{
    int r = ouro_submit(loop, op);

    if (r >= 0)
        r = ouro_wait(loop, op, OURO_FOREVER);
    /* By the engine: neither on the spot nor on a worker. */
    return r >= 0 && op->res == best && !(op->cflags & (OURO_C_POOLED | OURO_C_INLINE));
}

int main(void)
{
    ouro_config config = { .size = sizeof config, .engine = "posixaio", .mask = OURO_CAP_NOWAIT };
    char path[] = "own-aio-XXXXXX", text[] = "a text", back[sizeof text] = "";
    ouro_op op = { 0 };
    ouro_loop *loop;
    int fd = mkstemp(path), ok = fd >= 0 && ouro_open(&config, &loop) == 0;

    printf("1..1\n");
    if (ok) {
        unlink(path);
        ouro_prep_write(&op, fd, text, sizeof text, 0);
        ok = done(loop, &op, sizeof text);
        ouro_prep_fsync(&op, fd);
        ok = ok && done(loop, &op, 0);
        ok = ok && pread(fd, back, sizeof back, 0) == sizeof back && !strcmp(text, back);
        ok = ok && ouro_close(loop, OURO_FOREVER) == 0;
    }
    printf("%s 1 - the program's aio_read is not the C library's\n", ok ? "ok" : "not ok");
    return !ok;
}

/* SPDX-License-Identifier: MIT */
/* A program outside the tree: writes a file through the installed library and reads it back. */
#include <fcntl.h>
#include <ouro.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int64_t finish(ouro_loop *loop, ouro_op *op)
{
    int r = ouro_submit(loop, op);
    if (r < 0)
        return r;
    r = ouro_wait(loop, op, OURO_FOREVER);
    return r < 0 ? r : op->res;
}

int main(int argc, char **argv)
{
    static const char text[] = "written by a consumer";
    char back[sizeof(text)] = { 0 };
    ouro_config config = { 0 };
    ouro_loop *loop = NULL;
    ouro_op op = { 0 };

    if (argc < 2)
        return 2;
    config.size = sizeof(config);
    config.engine = argc > 2 ? argv[2] : NULL;
    if (ouro_open(&config, &loop) < 0)
        return 3;
    ouro_prep_open(&op, OURO_HERE, argv[1], O_CREAT | O_RDWR | O_TRUNC, 0600);
    int fd = (int)finish(loop, &op);
    ouro_prep_write(&op, fd, text, sizeof(text), 0);
    op.flags = OURO_EXACT;
    int64_t written = finish(loop, &op);
    ouro_prep_read(&op, fd, back, sizeof(back), 0);
    op.flags = OURO_EXACT;
    int64_t got = finish(loop, &op);
    ouro_prep_close(&op, fd);
    int64_t closed = finish(loop, &op);
    printf("%s: wrote %d, read %d\n", ouro_engine_name(loop), (int)written, (int)got);
    if (config.engine && strcmp(config.engine, ouro_engine_name(loop)) != 0)
        return 4;
    if (ouro_close(loop, OURO_FOREVER) != 0)
        return 5;
    return written == (int64_t)sizeof(text) && got == written && closed == 0 &&
                   memcmp(text, back, sizeof(text)) == 0
               ? 0
               : 1;
}

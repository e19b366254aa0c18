/* SPDX-License-Identifier: MIT */
/* copy_pipeline: copies one file with DEPTH blocks on their way at once. Each block is one
 * operation that alternates between a read and a write; the callbacks move it on.
 * Usage: copy_pipeline [FROM TO]; without arguments it copies a file of its own and compares. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <ouro.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 8, BLOCK = 64 * 1024 };

struct copy {
    ouro_loop *loop;
    ouro_fd in, out;
    int64_t next;   /* offset that no block has taken yet */
    int64_t copied; /* bytes written */
    unsigned busy;  /* operations in flight */
    int error;      /* -errno, or 0; nothing new starts after it */
};

struct block {
    ouro_op op;
    struct copy *copy;
    int64_t offset;
    char data[BLOCK];
};

static struct block blocks[DEPTH]; /* all-zero, as operations must be before their first use */

static void start(struct block *block, ouro_cb *cb)
{
    struct copy *copy = block->copy;

    block->op.cb = cb;
    block->op.user = block;
    block->op.flags = OURO_EXACT; /* short: end of file, or an error on the way (see main) */
    int r = ouro_submit(copy->loop, &block->op);
    if (r < 0)
        copy->error = r; /* refused: no callback will come */
    else
        copy->busy++;
}

static void on_read(ouro_op *op);

static void read_next(struct block *block)
{
    struct copy *copy = block->copy;

    block->offset = copy->next;
    copy->next += BLOCK;
    ouro_prep_read(&block->op, copy->in, block->data, BLOCK, block->offset);
    start(block, on_read);
}

static void on_written(ouro_op *op)
{
    struct block *block = op->user;
    struct copy *copy = block->copy;

    copy->busy--;
    if (op->res < 0)
        copy->error = (int)op->res;
    else
        copy->copied += op->res;
    if (copy->error == 0)
        read_next(block);
}

static void on_read(ouro_op *op)
{
    struct block *block = op->user;
    struct copy *copy = block->copy;

    copy->busy--;
    if (op->res < 0)
        copy->error = (int)op->res;
    if (copy->error != 0 || op->res == 0)
        return; /* failed, or past the end: this block rests */
    ouro_prep_write(op, copy->out, block->data, (size_t)op->res, block->offset);
    start(block, on_written);
}

/* Returns 0 or -errno. */
static int copy_file(struct copy *copy)
{
    int r = ouro_open(NULL, &copy->loop);
    if (r < 0)
        return r;
    for (int i = 0; i < DEPTH && copy->error == 0; i++) {
        blocks[i].copy = copy;
        read_next(&blocks[i]);
    }
    while (copy->busy > 0 && r >= 0) /* after an error too: the library still has the buffers */
        r = ouro_run(copy->loop, 1, OURO_FOREVER);
    if (r < 0)
        copy->error = r;
    r = ouro_close(copy->loop, OURO_FOREVER); /* whatever is left ends here */
    return copy->error != 0 ? copy->error : r;
}

/* The program's own input: no multiple of BLOCK, and no two blocks alike. */
static int make_input(int fd)
{
    for (int i = 0; i < 300001; i++) {
        if (dprintf(fd, "%d\n", i) < 0)
            return -1;
    }
    return 0;
}

static int same(int a, int b)
{
    static char x[BLOCK], y[BLOCK];
    ssize_t n = 1;

    for (off_t at = 0; n > 0; at += n) {
        n = pread(a, x, BLOCK, at);
        if (n < 0 || pread(b, y, BLOCK, at) != n || memcmp(x, y, (size_t)n) != 0)
            return 0;
    }
    return 1;
}

int main(int argc, char **argv)
{
    char from[] = "/tmp/ouro-from-XXXXXX", to[] = "/tmp/ouro-to-XXXXXX";
    struct copy copy = { .in = -1, .out = -1 };
    struct stat st;
    int own = argc != 3;

    copy.in = own ? mkstemp(from) : open(argv[1], O_RDONLY | O_CLOEXEC);
    copy.out = own ? mkstemp(to) : open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (copy.in < 0 || copy.out < 0 || (own && (unlink(from) != 0 || unlink(to) != 0)))
        return perror("copy_pipeline"), 1;
    if ((own && make_input(copy.in) != 0) || fstat(copy.in, &st) != 0)
        return perror("copy_pipeline"), 1;
    int r = copy_file(&copy);
    /* A transfer that fails half-way reports its bytes, so only the sum shows that all arrived. */
    if (r == 0 && (copy.copied != st.st_size || (own && !same(copy.in, copy.out))))
        r = -EIO;
    printf("copied %lld bytes: %s\n", (long long)copy.copied, r < 0 ? strerror(-r) : "ok");
    return r < 0;
}

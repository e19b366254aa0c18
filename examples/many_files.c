/* SPDX-License-Identifier: MIT */
/* many_files: reads many files at once, WINDOW of them open together, and prints size, checksum and
 * name of each. No callbacks: each file is one operation that walks through open, read, ..., close,
 * and the main loop reaps events in batches.
 * Usage: many_files [FILE...]; without arguments it reads files of its own and checks the sums. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <inttypes.h>
#include <ouro.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW = 32, BLOCK = 64 * 1024, OWN_FILES = 100, STEP = 1999 };

struct file {
    const char *path;
    uint64_t size, sum, expected;
    int64_t error; /* what went wrong with it, or 0 */
};

struct reader { /* reads one file after the other */
    ouro_op op;
    struct file *file;
    ouro_fd fd;
    unsigned char data[BLOCK];
};

static struct reader readers[WINDOW];

/* FNV-1a, enough to tell files apart. */
static uint64_t checksum(uint64_t sum, const unsigned char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static int prep_open(struct reader *reader, struct file *file)
{
    reader->file = file;
    reader->op.user = reader;
    file->sum = UINT64_C(0xcbf29ce484222325);
    ouro_prep_open(&reader->op, OURO_HERE, file->path, O_RDONLY, 0);
    return 1;
}

/* Takes a result and prepares the operation that follows it; 0: the file is finished. */
static int prep_next(struct reader *reader, int64_t res)
{
    struct file *file = reader->file;

    if (res < 0)
        file->error = res;
    if (reader->op.code == OURO_CLOSE || (reader->op.code == OURO_OPEN && res < 0))
        return 0;
    if (reader->op.code == OURO_OPEN) {
        reader->fd = (ouro_fd)res;
    } else if (res <= 0) { /* the end or an error: either way it is closed */
        ouro_prep_close(&reader->op, reader->fd);
        return 1;
    } else {
        file->sum = checksum(file->sum, reader->data, (size_t)res);
        file->size += (uint64_t)res;
    }
    ouro_prep_read(&reader->op, reader->fd, reader->data, BLOCK, (int64_t)file->size);
    return 1;
}

/* Reads all files; returns 0 or -errno when the loop itself failed. */
static int read_files(ouro_loop *loop, struct file *files, unsigned count)
{
    ouro_event events[WINDOW];
    unsigned next = 0, busy = 0;
    int r = 0;

    for (; next < count && busy < WINDOW && r >= 0; busy++) {
        prep_open(&readers[busy], &files[next++]);
        r = ouro_submit(loop, &readers[busy].op);
    }
    while (busy > 0 && r >= 0) {
        r = ouro_run(loop, 1, OURO_FOREVER);
        unsigned n = ouro_reap(loop, events, WINDOW);
        for (unsigned i = 0; i < n && r >= 0; i++) {
            struct reader *reader = events[i].op->user;
            int more = prep_next(reader, events[i].res);
            if (!more && next < count)
                more = prep_open(reader, &files[next++]);
            if (more)
                r = ouro_submit(loop, &reader->op);
            else
                busy--;
        }
    }
    return r < 0 ? r : 0;
}

/* Makes OWN_FILES files in dir, one empty, some longer than a block. */
static int make_files(const char *dir, struct file *files)
{
    static char names[OWN_FILES][64];
    static unsigned char data[OWN_FILES * STEP];

    for (int i = 0; i < OWN_FILES; i++) {
        size_t len = (size_t)i * STEP;
        memset(data, i, len);
        files[i].expected = checksum(UINT64_C(0xcbf29ce484222325), data, len);
        snprintf(names[i], sizeof(names[i]), "%s/%d", dir, i);
        files[i].path = names[i];
        int fd = open(names[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, data, len) != (ssize_t)len || close(fd) != 0)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/ouro-many-XXXXXX";
    int own = argc < 2, wrong;
    unsigned count = own ? OWN_FILES : (unsigned)argc - 1;
    struct file *files = calloc(count, sizeof(*files));
    ouro_loop *loop = NULL;

    for (unsigned i = 0; files && !own && i < count; i++)
        files[i].path = argv[i + 1];
    if (!files || (own && (!mkdtemp(dir) || make_files(dir, files) != 0)))
        return perror("many_files"), free(files), 1;
    int r = ouro_open(NULL, &loop);
    r = r < 0 ? r : read_files(loop, files, count);
    if (r < 0)
        fprintf(stderr, "many_files: %s\n", strerror(-r));
    int closed = ouro_close(loop, OURO_FOREVER); /* also ends what a failure left in flight */
    wrong = r < 0 || closed < 0;
    for (unsigned i = 0; i < count; i++) {
        struct file *f = &files[i];
        wrong |= f->error != 0 || (own && (f->size != i * STEP || f->sum != f->expected));
        if (r >= 0)
            printf("%10" PRIu64 "  %016" PRIx64 "  %s  %s\n", f->size, f->sum, f->path,
                   f->error ? strerror((int)-f->error) : "ok");
        if (own)
            unlink(f->path);
    }
    if (own)
        rmdir(dir);
    free(files);
    return wrong;
}

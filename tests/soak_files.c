/* SPDX-License-Identifier: MIT */
/* soak_files.c: plain and direct files, and names. One file is ordered: what is a BARRIER there
 * ends after all that was accepted before it. */
#include "soak.h"

enum { FILES = 4, FILE_SIZE = 65536, DIRECT_BLOCKS = 64 /* of BUF bytes */ };
enum { PLAIN, ORDERED }; /* kinds */

static int files[FILES], direct;
static char dir[128], paths[FILES + 2][160], direct_path[160];
static uint64_t numbers; /* of operations on the ordered file, which is the first */

static bool may_fail(const struct item *item, int64_t res)
{
    switch (item->op.code) {
    case OURO_MKDIR: return res == -EEXIST;
    case OURO_OPEN:
    case OURO_UNLINK:
    case OURO_RENAME:
    case OURO_STAT: return res == -ENOENT;
    default: return false;
    }
}

/* All of them complete by callback, so in the order in which they end. */
static void check_barrier(const struct item *barrier)
{
    for (unsigned i = 0; i < soak.depth; i++) {
        const struct item *item = &soak.items[i];
        if (item != barrier && item->busy && item->theme == &theme_files && item->kind == ORDERED &&
            item->number < barrier->number)
            die("%s: a barrier ended before it", ouro_code_name(item->op.code));
    }
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    (void)cflags;
    if (item->op.code == OURO_OPEN && res >= 0)
        close((int)res);
    if (item->op.flags & OURO_BARRIER && res >= 0)
        check_barrier(item);
}

static void prepare_direct(struct item *item)
{
    int64_t block = (int64_t)draw(DIRECT_BLOCKS) * BUF;

    switch (draw(3)) {
    case 0: ouro_prep_read(&item->op, direct, item->buf, BUF, block); break;
    case 1: ouro_prep_write(&item->op, direct, item->buf, BUF, block); break;
    default: ouro_prep_fdatasync(&item->op, direct); break;
    }
}

static void prepare_bytes(struct item *item, int fd)
{
    ouro_op *op = &item->op;

    switch (draw(4)) {
    case 0: ouro_prep_read(op, fd, item->buf, 1 + draw(BUF), draw(FILE_SIZE)); break;
    case 1: ouro_prep_write(op, fd, item->buf, 1 + draw(BUF), draw(FILE_SIZE)); break;
    case 2: ouro_prep_read(op, fd, item->buf, 1 + draw(64), OURO_CUR); break;
    default: ouro_prep_fadvise(op, fd, 0, 0, POSIX_FADV_NORMAL); break;
    }
}

static void prepare_name(struct item *item)
{
    ouro_op *op = &item->op;
    const char *path = paths[draw(FILES + 2)];

    switch (draw(4)) {
    case 0: ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0); break;
    case 1: ouro_prep_stat(op, OURO_HERE, path, 0, &item->st); break;
    case 2: ouro_prep_mkdir(op, OURO_HERE, dir, 0700); break;
    default: ouro_prep_unlink(op, OURO_HERE, paths[FILES + 1], 0); break;
    }
}

static bool prepare(struct item *item)
{
    unsigned kind = draw(11);

    item->kind = PLAIN;
    item->posts = true;
    if (kind < 3)
        prepare_direct(item);
    else if (kind < 7)
        prepare_name(item);
    else if (kind < 9)
        prepare_bytes(item, files[1 + draw(FILES - 1)]);
    else {
        prepare_bytes(item, files[0]);
        item->kind = ORDERED;
        item->number = numbers++;
        item->posts = false;
        item->way = BY_CALLBACK;
        if (!draw(8))
            item->op.flags |= OURO_BARRIER;
        else if (!draw(4) && item->op.code != OURO_FADVISE)
            item->op.flags |= OURO_SERIAL;
    }
    return true;
}

/* Files in memory did not know O_DIRECT before 6.6: then it is one more plain file. */
static void open_direct(void)
{
    static char blocks[DIRECT_BLOCKS * BUF];
    int flags = O_RDWR | O_CREAT | O_CLOEXEC;

    snprintf(direct_path, sizeof direct_path, "%s/direct", dir);
    direct = open(direct_path, flags, 0600);
    if (direct < 0 || write(direct, blocks, sizeof blocks) != sizeof blocks || fsync(direct) != 0)
        die("no file");
    close(direct);
    direct = open(direct_path, flags | O_DIRECT, 0600);
    if (direct < 0)
        direct = open(direct_path, flags, 0600);
    if (direct < 0)
        die("no file");
}

static void open_files(void)
{
    const char *tmp = getenv("TMPDIR");

    if (snprintf(dir, sizeof dir, "%s/ouro-soak-XXXXXX", tmp ? tmp : "/tmp") >= (int)sizeof dir ||
        !mkdtemp(dir))
        die("no directory");
    for (int i = 0; i < FILES + 2; i++)
        snprintf(paths[i], sizeof paths[i], "%s/file%d", dir, i);
    for (int i = 0; i < FILES; i++) {
        files[i] = open(paths[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (files[i] < 0 || ftruncate(files[i], FILE_SIZE) != 0)
            die("no file");
    }
    open_direct();
}

static void close_files(void)
{
    for (int i = 0; i < FILES; i++) {
        close(files[i]);
        unlink(paths[i]);
    }
    close(direct);
    unlink(direct_path);
    rmdir(dir);
}

const struct theme theme_files = {
    .name = "files",
    .weight = 200,
    .open = open_files,
    .close = close_files,
    .prepare = prepare,
    .may_fail = may_fail,
    .judge = judge,
};

/* SPDX-License-Identifier: MIT */
/* t_names.c: operations on names and directories, compared with the plain system calls. */
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "test.h"

static int64_t do_open(struct test *t, const char *path, int flags, unsigned mode)
{
    ouro_op *op = op_new(t);

    ouro_prep_open(op, OURO_HERE, path, flags, mode);
    return do_op(t, op);
}

static void open_gives_a_descriptor_that_closes_on_exec(struct test *t)
{
    ouro_op *op = op_new(t);
    int64_t fd = do_open(t, path_in(t, "new"), O_RDWR | O_CREAT | O_EXCL, 0640);
    struct stat st;

    CHECK(fd >= 0);
    CHECK_EQ(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl((int)fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    CHECK_EQ(fstat((int)fd, &st), 0);
    CHECK_EQ(st.st_mode & 0777 & ~0640u, 0);
    ouro_prep_close(op, (int)fd);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(fcntl((int)fd, F_GETFD) < 0 && errno == EBADF);
}

static void open_fails_as_open_does(struct test *t)
{
    char longer[400];

    close(make_file(t, "f", "x", 1));
    unmade(t, t->made[t->made_count - 1]);
    CHECK_EQ(do_open(t, path_in(t, "none"), O_RDONLY, 0), -ENOENT);
    CHECK_EQ(do_open(t, path_in(t, "none/x"), O_RDONLY | O_CREAT, 0600), -ENOENT);
    CHECK_EQ(do_open(t, path_in(t, "f"), O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
    CHECK_EQ(do_open(t, path_in(t, "f/x"), O_RDONLY, 0), -ENOTDIR);
    CHECK_EQ(do_open(t, t->dir, O_RDWR, 0), -EISDIR);
    CHECK_EQ(do_open(t, path_in(t, "f"), O_RDONLY | O_DIRECTORY, 0), -ENOTDIR);
    CHECK_EQ(do_open(t, "", O_RDONLY, 0), -ENOENT);
    memset(longer, 'n', sizeof longer);
    longer[sizeof longer - 1] = 0;
    CHECK_EQ(do_open(t, longer, O_RDONLY, 0), -ENAMETOOLONG);
}

static void open_below_a_directory(struct test *t)
{
    ouro_op *op = op_new(t);
    int dir = made(t, open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)), fd;

    fd = make_file(t, "f", "xy", 2);
    ouro_prep_open(op, dir, "f", O_RDONLY, 0);
    CHECK(do_op(t, op) >= 0);
    close((int)RES(op));
    ouro_prep_open(op, fd, "f", O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -ENOTDIR);
    ouro_prep_open(op, 9999, "f", O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -EBADF);
}

static void opening_a_fifo_never_waits(struct test *t)
{
    const char *path = path_in(t, "fifo");
    ouro_op *op = op_new(t);
    char byte = 0;
    int64_t reader, writer;

    CHECK_EQ(mkfifo(path, 0600), 0);
    CHECK_EQ(do_open(t, path, O_WRONLY, 0), -ENXIO);
    reader = do_open(t, path, O_RDONLY, 0);
    CHECK(reader >= 0);
    CHECK_EQ(fcntl((int)reader, F_GETFL) & O_NONBLOCK, 0);
    writer = do_open(t, path, O_WRONLY, 0);
    CHECK(writer >= 0);
    CHECK_EQ(fcntl((int)writer, F_GETFL) & O_NONBLOCK, 0);
    ouro_prep_read(op, (int)reader, &byte, 1, 0);
    start(t, op);
    CHECK_EQ(write((int)writer, "f", 1), 1);
    CHECK_EQ(finish(t, op), 1);
    CHECK_EQ(byte, 'f');
    close((int)reader);
    close((int)writer);
    reader = do_open(t, path, O_RDONLY | O_NONBLOCK, 0);
    CHECK(reader >= 0);
    CHECK_EQ(fcntl((int)reader, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    close((int)reader);
}

static void many_opens_and_closes(struct test *t)
{
    enum { COUNT = 200 };
    ouro_op *ops[COUNT];
    char *paths = calloc(COUNT, 256);

    CHECK(paths != NULL);
    for (int i = 0; i < COUNT; i++) {
        snprintf(paths + i * 256, 256, "%s/file%d", t->dir, i);
        ouro_prep_open(ops[i] = op_new(t), OURO_HERE, paths + i * 256, O_CREAT | O_RDWR, 0600);
    }
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    finish_all(t);
    for (int i = 0; i < COUNT; i++) {
        int64_t fd = RES(ops[i]);

        CHECK(fd >= 0);
        ouro_prep_close(ops[i], (int)fd);
    }
    CHECK_EQ(start_n(t, ops, COUNT), COUNT);
    finish_all(t);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(RES(ops[i]), 0);
    free(paths);
}

static void stat_says_what_statx_says(struct test *t)
{
    struct ouro_stat got;
    ouro_op *op = op_new(t);
    struct stat want;
    int fd = make_file(t, "f", "hello", 5);

    CHECK_EQ(sizeof got, sizeof(struct statx));
    ouro_prep_stat(op, OURO_HERE, path_in(t, "f"), 0, &got);
    CHECK_EQ(do_op(t, op), 0);
    CHECK_EQ(fstat(fd, &want), 0);
    CHECK(got.ino == want.st_ino && got.size == 5 && got.mode == want.st_mode);
    CHECK(got.nlink == 1 && got.uid == want.st_uid && got.gid == want.st_gid);
    CHECK(got.mtime.sec == want.st_mtim.tv_sec && got.mtime.nsec == (uint32_t)want.st_mtim.tv_nsec);
    CHECK(got.dev_major == major(want.st_dev) && got.dev_minor == minor(want.st_dev));
    memset(&got, 0, sizeof got);
    ouro_prep_stat(op, fd, "", AT_EMPTY_PATH, &got);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(got.ino == want.st_ino);
    ouro_prep_stat(op, OURO_HERE, path_in(t, "none"), 0, &got);
    CHECK_EQ(do_op(t, op), -ENOENT);
    CHECK_EQ(symlink("f", path_in(t, "s")), 0);
    ouro_prep_stat(op, OURO_HERE, path_in(t, "s"), AT_SYMLINK_NOFOLLOW, &got);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(S_ISLNK(got.mode));
    ouro_prep_stat(op, OURO_HERE, path_in(t, "s"), 1 << 29, &got);
    CHECK_EQ(do_op(t, op), -EINVAL);
}

static void rename_moves_and_can_refuse_to_replace(struct test *t)
{
    ouro_op *op = op_new(t);
    const char *a = path_in(t, "a"), *b = path_in(t, "b");

    make_file(t, "a", "1", 1);
    ouro_prep_rename(op, OURO_HERE, a, OURO_HERE, b, 0);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(access(a, F_OK) != 0 && access(b, F_OK) == 0);
    make_file(t, "a", "2", 1);
    ouro_prep_rename(op, OURO_HERE, a, OURO_HERE, b, 1 /* RENAME_NOREPLACE */);
    CHECK_EQ(do_op(t, op), -EEXIST);
    ouro_prep_rename(op, OURO_HERE, a, OURO_HERE, b, 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_rename(op, OURO_HERE, a, OURO_HERE, b, 0);
    CHECK_EQ(do_op(t, op), -ENOENT);
}

static void directories_are_made_and_removed(struct test *t)
{
    ouro_op *op = op_new(t);
    const char *dir = path_in(t, "dir"), *file = path_in(t, "dir/f");
    struct stat st;

    ouro_prep_mkdir(op, OURO_HERE, dir, 0700);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(stat(dir, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
    ouro_prep_mkdir(op, OURO_HERE, dir, 0700);
    CHECK_EQ(do_op(t, op), -EEXIST);
    make_file(t, "dir/f", "x", 1);
    ouro_prep_rmdir(op, OURO_HERE, dir);
    CHECK_EQ(do_op(t, op), -ENOTEMPTY);
    ouro_prep_unlink(op, OURO_HERE, dir, 0);
    CHECK_EQ(do_op(t, op), plain(unlink(dir)));
    ouro_prep_rmdir(op, OURO_HERE, file);
    CHECK_EQ(do_op(t, op), -ENOTDIR);
    ouro_prep_unlink(op, OURO_HERE, file, 0);
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_unlink(op, OURO_HERE, file, 0);
    CHECK_EQ(do_op(t, op), -ENOENT);
    ouro_prep_unlink(op, OURO_HERE, dir, AT_REMOVEDIR);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(access(dir, F_OK) != 0);
}

static void links_are_made(struct test *t)
{
    ouro_op *op = op_new(t);
    const char *file = path_in(t, "f"), *hard = path_in(t, "hard"), *soft = path_in(t, "soft");
    char target[32] = "";
    struct stat st;

    make_file(t, "f", "x", 1);
    ouro_prep_link(op, OURO_HERE, file, OURO_HERE, hard, 0);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(stat(hard, &st) == 0 && st.st_nlink == 2);
    ouro_prep_link(op, OURO_HERE, file, OURO_HERE, hard, 0);
    CHECK_EQ(do_op(t, op), -EEXIST);
    ouro_prep_symlink(op, "some/target", OURO_HERE, soft);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(readlink(soft, target, 31) == 11 && strcmp(target, "some/target") == 0);
    ouro_prep_symlink(op, "some/target", OURO_HERE, soft);
    CHECK_EQ(do_op(t, op), -EEXIST);
    ouro_prep_open(op, OURO_HERE, soft, O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -ENOENT);
    ouro_prep_open(op, OURO_HERE, soft, O_RDONLY | O_NOFOLLOW, 0);
    CHECK_EQ(do_op(t, op), -ELOOP);
}

static void readdir_lists_every_name_once(struct test *t)
{
    enum { COUNT = 300 };
    bool seen[COUNT] = { false };
    ouro_op *op = op_new(t);
    char name[32], *buf = aligned_alloc(8, 1024);
    int dir, others = 0, i;

    CHECK(buf != NULL);
    for (i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "entry-%d", i);
        close(open(path_in(t, name), O_CREAT | O_CLOEXEC | O_WRONLY, 0600));
    }
    dir = made(t, open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (;;) {
        ouro_prep_readdir(op, dir, buf, 1024);
        CHECK(do_op(t, op) >= 0);
        if (!RES(op))
            break;
        for (char *at = buf; at < buf + RES(op);) {
            struct ouro_dirent *entry = (struct ouro_dirent *)(void *)at;

            if (sscanf(entry->name, "entry-%d", &i) == 1) {
                CHECK(!seen[i]);
                CHECK(entry->type == DT_REG || entry->type == DT_UNKNOWN);
                seen[i] = true;
            } else {
                others++;
            }
            at += entry->size;
        }
    }
    for (i = 0; i < COUNT; i++)
        CHECK(seen[i]);
    CHECK_EQ(others, 2);
    CHECK_EQ(lseek(dir, 0, SEEK_SET), 0);
    ouro_prep_readdir(op, dir, buf, 8);
    CHECK_EQ(do_op(t, op), -EINVAL);
    ouro_prep_readdir(op, make_file(t, "f", "x", 1), buf, 1024);
    CHECK_EQ(do_op(t, op), -ENOTDIR);
    free(buf);
}

static void close_of_a_bad_descriptor_is_ebadf(struct test *t)
{
    ouro_op *op = op_new(t);

    ouro_prep_close(op, 9999);
    CHECK_EQ(do_op(t, op), -EBADF);
}

static void path_stays_the_callers_after_the_end(struct test *t)
{
    ouro_op *op = op_new(t);
    char *path = strdup(path_in(t, "f"));

    make_file(t, "f", "x", 1);
    ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0);
    CHECK(do_op(t, op) >= 0);
    free(path); /* nobody looks at it any more: for the sanitizers */
    close((int)RES(op));
    step(t);
}

static void out_of_descriptors_is_emfile(struct test *t)
{
    ouro_op *op = op_new(t);
    struct rlimit limit, less;
    int held[64], count = 0;

    /* The library's own first, so that only the open meets the limit. */
    CHECK_EQ(do_open(t, path_in(t, "none"), O_RDONLY, 0), -ENOENT);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    less = (struct rlimit){ 40, limit.rlim_max };
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &less), 0);
    while (count < 64 && (held[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    ouro_prep_open(op, OURO_HERE, "/dev/null", O_RDONLY, 0);
    CHECK_EQ(do_op(t, op), -EMFILE);
    CHECK(count > 0);
    close(held[--count]);
    ouro_prep_open(op, OURO_HERE, "/dev/null", O_RDONLY, 0);
    CHECK(do_op(t, op) >= 0);
    close((int)RES(op));
    while (count)
        close(held[--count]);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static const struct test_case cases[] = {
    { NAMED(open_gives_a_descriptor_that_closes_on_exec), .pitfalls = "R1" },
    { NAMED(open_fails_as_open_does), .fixed = FIX_FD },
    { NAMED(open_below_a_directory), .fixed = FIX_FD },
    { NAMED(opening_a_fifo_never_waits), .fixed = FIX_FD, .pitfalls = "F10" },
    { NAMED(many_opens_and_closes), .fixed = FIX_FD },
    { NAMED(stat_says_what_statx_says), .fixed = FIX_FD },
    { NAMED(rename_moves_and_can_refuse_to_replace), .fixed = FIX_FD },
    { NAMED(directories_are_made_and_removed), .fixed = FIX_FD },
    { NAMED(links_are_made), .fixed = FIX_FD },
    { NAMED(readdir_lists_every_name_once), .fixed = FIX_FD },
    { NAMED(close_of_a_bad_descriptor_is_ebadf), .fixed = FIX_FD },
    { NAMED(path_stays_the_callers_after_the_end), .fixed = FIX_FD, .pitfalls = "S11" },
    { NAMED(out_of_descriptors_is_emfile), .faults = "7", .fixed = FIX_FD },
    { .name = NULL },
};
const struct subject subject_names = { "names", cases };

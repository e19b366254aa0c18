/* SPDX-License-Identifier: MIT */
/* aio_alone.c: are our threads all that is left of the process?
 *
 * When the last thread of a program ends by pthread_exit(3), the process ends; but for threads of
 * ours, which the C library cannot tell from the program's. So they look from time to time. That
 * takes descriptors, if only for a moment, and the program may count on getting the lowest number:
 * so it is done in a thread with a table of its own. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "../src/syscall.h"
#include "aio_base.h"

enum { STACK = 64 * 1024, STAT_SIZE = 128, LIST_SIZE = 2048 };

struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    unsigned char type;
    char name[];
};

/* "1234 (name) S ...": one of the program's, and not one that has ended? */
static bool is_programs(const char *stat)
{
    const char *name = strchr(stat, '('), *end = strrchr(stat, ')');

    if (!name || !end || end[1] != ' ')
        return true;
    if (end[2] == 'Z' || end[2] == 'X')
        return false;
    return strncmp(name, "(ouro-aio", 9) != 0 && strncmp(name, "(iou-", 5) != 0;
}

/* Ours, those of io_uring's workers, or gone meanwhile. What cannot be seen is the program's. */
static bool is_none(const char *tid)
{
    char path[64], stat[STAT_SIZE + 1];
    long fd, size;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", tid);
    fd = OURO__SYSCALL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fd == -ENOENT || fd == -ESRCH;
    size = OURO__SYSCALL(SYS_read, fd, stat, STAT_SIZE);
    (void)OURO__SYSCALL(SYS_close, fd);
    if (size < 0)
        return size == -ESRCH;
    stat[size] = '\0';
    return !is_programs(stat);
}

static bool look(void)
{
    _Alignas(struct entry) char list[LIST_SIZE] = { 0 };
    bool alone = true;
    long fd, size = 0;

    if (OURO__SYSCALL(SYS_close_range, 0, UINT_MAX, CLOSE_RANGE_UNSHARE) < 0)
        return false;
    fd = OURO__SYSCALL(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return false;
    while (alone && (size = OURO__SYSCALL(SYS_getdents64, fd, list, sizeof(list))) > 0)
        for (long at = 0; alone && at < size;) {
            const struct entry *entry = (const void *)(list + at);

            alone = entry->name[0] == '.' || is_none(entry->name);
            at += entry->size;
        }
    (void)OURO__SYSCALL(SYS_close, fd);
    return alone && size == 0; /* it was seen to the end */
}

/* Of the one thread that looks. */
static struct {
    bool alone;
    _Atomic uint32_t done;
} result;

static void *thread_main(void *arg)
{
    (void)arg;
    prctl(PR_SET_NAME, "ouro-aio", 0, 0, 0);
    result.alone = look();
    atomic_store(&result.done, 1);
    aio_futex_wake(&result.done);
    return NULL;
}

bool aio_is_alone(void)
{
    int r;

    result.alone = false;
    atomic_store(&result.done, 0);
    r = aio_thread(thread_main, NULL, STACK);
    while (r == 0 && !atomic_load(&result.done))
        (void)aio_futex_wait(&result.done, 0, NULL);
    return result.alone;
}

/* SPDX-License-Identifier: MIT */
/* refusal.c: whether system calls may be made here, found out without being killed for it.
 *
 * System calls go through sys.h; the few direct ones only ask the process about itself. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "refusal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "../sys.h"

/* gcc's name for it, which clang does not define. */
#if !defined(__SANITIZE_THREAD__) && defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#define STACK 65536u

const char *ouro__error_name(int error)
{
    static const struct {
        int error;
        const char *name;
    } names[] = {
        { EPERM, "EPERM" },   { ENOSYS, "ENOSYS" }, { ENOMEM, "ENOMEM" },
        { EINVAL, "EINVAL" }, { EACCES, "EACCES" }, { EMFILE, "EMFILE" },
        { ENFILE, "ENFILE" }, { EAGAIN, "EAGAIN" }, { EFAULT, "EFAULT" },
        { EBUSY, "EBUSY" },   { ENODEV, "ENODEV" }, { EOPNOTSUPP, "EOPNOTSUPP" },
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].error == error)
            return names[i].name;
    }
    return "an unexpected error";
}

int64_t ouro__number_in(const char *path)
{
    char text[24] = "", *end;
    long fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0), r;
    int64_t number;

    if (fd < 0)
        return -1;
    r = sys_read((int)fd, text, sizeof(text) - 1);
    (void)sys_close((int)fd);
    number = r > 0 ? strtoll(text, &end, 10) : -1;
    return r > 0 && end == text ? -1 : number;
}

/* PR_GET_SECCOMP says 0 or 2 (in mode 1 nobody lives to ask). Where the question itself is
 * filtered, there is a filter. */
bool ouro__seccomp_filtered(void)
{
    int saved = errno;
    int mode = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
    bool filtered = mode > 0 || (mode < 0 && errno != EINVAL);

    errno = saved;
    return filtered;
}

/* In memory that the child shares with us, below its stack's end. */
struct probe {
    void (*fn)(struct refusal *);
    struct refusal noted;
};

static int probe_child(void *arg)
{
    struct probe *probe = arg;
    /* A filter that kills asks for a core dump. 1 byte and not 0, since 0 does not stop a program
     * that receives core dumps by a pipe. */
    struct rlimit limit = { 0, 0 };

    if (getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur > 1) {
        limit.rlim_cur = 1;
        (void)setrlimit(RLIMIT_CORE, &limit);
    }
    probe->fn(&probe->noted);
    return 0;
}

/*
 * A child that shares our memory is cheap, but before 5.16 a core dump took along every process
 * that shared the memory: us. There, and under ThreadSanitizer, which takes every clone() for a
 * fork(), the child gets a copy.
 */
static int probe_flags(void)
{
#if defined(__SANITIZE_THREAD__)
    return 0;
#else
    struct utsname system = { .release = "" };
    int major = 0, minor = 0, saved = errno;

    (void)uname(&system);
    errno = saved;
    if (sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
        (major > 5 || (major == 5 && minor >= 16)))
        return CLONE_VFORK | CLONE_VM;
    return 0;
#endif
}

/*
 * Starts the child and waits for its end. All signals are blocked meanwhile, so that the program's
 * handlers never run in the child. There is no exit signal: the program hears nothing of it, and
 * its own wait() calls do not see it.
 */
static int probe_run(struct probe *probe, char *stack_top)
{
    sigset_t all, before;
    int saved = errno, status = 0, pid, r;
    long waited;

    sigfillset(&all);
    r = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (r)
        return -r;
    pid = clone(probe_child, stack_top, probe_flags(), probe);
    r = pid < 0 ? -errno : 0;
    if (r == 0) {
        do
            waited = sys_wait4(pid, &status, (int)__WCLONE);
        while (waited == -EINTR);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return r;
}

int ouro__try_calls(void (*fn)(struct refusal *), struct refusal *ret)
{
    struct probe *probe;
    void *map = NULL;
    long r;

    *ret = (struct refusal){ NULL, 0 };
    if (!ouro__seccomp_filtered())
        return 0;
    /* Shared, so that the child's notes are seen also when it has a copy of our memory. */
    r = sys_mmap(&map, STACK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r < 0)
        return (int)r;
    probe = map;
    probe->fn = fn;
    probe->noted.call = "the start of the probe";
    r = probe_run(probe, (char *)map + STACK);
    *ret = probe->noted;
    (void)sys_munmap(map, STACK);
    return (int)r;
}

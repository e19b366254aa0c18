/* SPDX-License-Identifier: MIT */
/* namespaces.c: a network and mounts of this process's own, as root or by a user namespace. */
#include <sched.h>
#include <sys/wait.h>

#include "test.h"

bool own_namespaces(void)
{
    const int own = CLONE_NEWNET | CLONE_NEWNS;

    return unshare(own) == 0 || unshare(own | CLONE_NEWUSER) == 0;
}

bool allowed_in_child(int (*try)(const char *arg), const char *arg)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(try(arg) < 0);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int try_namespaces(const char *unused)
{
    (void)unused;
    return own_namespaces() ? 0 : -1;
}

bool namespaces_allowed(void)
{
    return allowed_in_child(try_namespaces, NULL);
}

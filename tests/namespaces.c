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

/* Could a process have them? */
bool namespaces_allowed(void)
{
    static int allowed = -1;
    pid_t child;
    int status;

    if (allowed >= 0)
        return allowed;
    child = fork();
    if (child == 0)
        _exit(own_namespaces() ? 0 : 1);
    allowed = child > 0 && waitpid(child, &status, 0) == child && status == 0;
    return allowed;
}

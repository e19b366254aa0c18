/* SPDX-License-Identifier: MIT */
/* Processes that `ouro bench` has work done in, and what they use. */
#include "bench.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

pid_t bench_fork(void)
{
    pid_t parent = getpid(), child = fork();

    if (child != 0)
        return child < 0 ? -errno : child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    return 0;
}

double bench_resident(pid_t pid)
{
    unsigned long long size = 0, resident = 0;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* SPDX-License-Identifier: MIT */
/* block.c: seccomp filters that refuse system calls, as container runtimes do with io_uring's. */
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "test.h"

enum { CALLS_MAX = 3 };

void block_calls(const long *numbers, unsigned count, int error)
{
    uint32_t action = error == BLOCK_KILL ? SECCOMP_RET_KILL_PROCESS
                                          : SECCOMP_RET_ERRNO | ((uint32_t)error & 0xffff);
    struct sock_filter code[CALLS_MAX + 3];
    struct sock_fprog program = { .len = 0, .filter = code };

    CHECK(count <= CALLS_MAX);
    code[program.len++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    /* A match jumps over the comparisons that remain and over the ALLOW. */
    for (unsigned i = 0; i < count; i++)
        code[program.len++] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], (uint8_t)(count - i), 0);
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);

    /* TSYNC: threads that the library has already get the filter as well. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        FAIL("no_new_privs: %s", strerror(errno));
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        FAIL("seccomp: %s", strerror(errno));
}

void block_io_uring(unsigned which, int error)
{
    static const long all[CALLS_MAX] = { 425, 426, 427 }; /* the same on every architecture */
    long numbers[CALLS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < CALLS_MAX; i++)
        if (which & 1u << i)
            numbers[count++] = all[i];
    block_calls(numbers, count, error);
}

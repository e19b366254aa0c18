/* SPDX-License-Identifier: MIT */
/* block.c: seccomp filters that refuse io_uring's three system calls, as container runtimes do. */
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "test.h"

void block_io_uring(unsigned which, int error)
{
    static const long numbers[3] = { 425, 426, 427 }; /* the same on every architecture */
    uint32_t action = error == BLOCK_KILL ? SECCOMP_RET_KILL_PROCESS
                                          : SECCOMP_RET_ERRNO | ((uint32_t)error & 0xffff);
    struct sock_filter code[8];
    struct sock_fprog program = { .len = 0, .filter = code };
    unsigned left = (unsigned)__builtin_popcount(which & BLOCK_ALL);

    code[program.len++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < 3; i++) {
        if (!(which & 1u << i))
            continue;
        /* A match jumps over the comparisons that remain and over the ALLOW. */
        code[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                           (uint32_t)numbers[i], (uint8_t)left, 0);
        left--;
    }
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);

    /* TSYNC: threads that the library has already get the filter as well. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        FAIL("no_new_privs: %s", strerror(errno));
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        FAIL("seccomp: %s", strerror(errno));
}

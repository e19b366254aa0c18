/* SPDX-License-Identifier: MIT */
/* refusal.h: whether system calls may be made here, found out without being killed for it, and
 * what engines say when they may not. */
#ifndef OURO_REFUSAL_H
#define OURO_REFUSAL_H

#include <stdbool.h>
#include <stdint.h>

struct refusal {
    const char *volatile call; /* being tried, or that was refused; NULL: all are allowed */
    volatile int error;        /* what it said; 0 while it has not returned */
};

/* Under a seccomp filter, which may kill, lets a child make the calls: `fn` notes each one before
 * it makes it, with arguments that the kernel refuses at once. 0: *ret has what the child noted (a
 * call without error: it was killed there); -errno: the child could not be started. Without a
 * filter nothing is tried. */
int ouro__try_calls(void (*fn)(struct refusal *), struct refusal *ret);

bool ouro__seccomp_filtered(void);
const char *ouro__error_name(int error);
/* The number in a file of /proc, or -1. */
int64_t ouro__number_in(const char *path);

#endif

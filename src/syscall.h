/* SPDX-License-Identifier: MIT */
/* syscall.h: a system call by number: the result or -errno; errno is not touched. On machines that
 * are named here it is the kernel's instruction and nothing else: no function of the C library,
 * which another library in the process may have replaced. */
#ifndef OURO_SYSCALL_H
#define OURO_SYSCALL_H

#include <sys/syscall.h>

/* Arguments are numbers or pointers; those that are left out are 0. */
#define OURO__SYSCALL(...) OURO__SYSCALL_OF(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define OURO__SYSCALL_OF(number, a, b, c, d, e, f, ...) \
    ouro__syscall(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#if defined(__x86_64__) && !defined(__ILP32__)
static inline long ouro__syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__) && defined(__LP64__)
static inline long ouro__syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
static inline long ouro__syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c, a3 __asm__("a3") = d, a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;

    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
}
#else
#include <errno.h>
#include <unistd.h>
static inline long ouro__syscall(long number, long a, long b, long c, long d, long e, long f)
{
    int saved = errno;
    long result = syscall(number, a, b, c, d, e, f);

    if (result < 0)
        result = -errno;
    errno = saved;
    return result;
}
#endif

#endif

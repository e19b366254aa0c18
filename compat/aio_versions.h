/* SPDX-License-Identifier: MIT */
/* aio_versions.h: the versions that glibc gives the names of <aio.h>: the first one that there was
 * on this machine, and GLIBC_2.34, in which the functions moved from librt to libc. Machines that
 * are older than 2.4 have another lio_listio before that, which tells of no single request. And
 * those of the ways out of a process: _exit and _Exit were there from the first on; quick_exit came
 * with 2.10, and is another one since 2.24. Read by aio_exports.c and libaio_exit.c, and by the
 * preprocessor for posix_aio.map.in and libaio_preload.map.in. */
#ifndef OURO_AIO_VERSIONS_H
#define OURO_AIO_VERSIONS_H

/* clang-format off */
#if defined(__x86_64__) && !defined(__ILP32__)
#define AIO_FIRST GLIBC_2.2.5
#define AIO_OLD_LISTS 1
#define AIO_OLD_QUICK_EXIT GLIBC_2.10
#define AIO_QUICK_EXIT GLIBC_2.24
#elif defined(__aarch64__) && defined(__LP64__)
#define AIO_FIRST GLIBC_2.17
#define AIO_OLD_QUICK_EXIT AIO_FIRST
#define AIO_QUICK_EXIT GLIBC_2.24
#elif defined(__riscv) && __riscv_xlen == 64
#define AIO_FIRST GLIBC_2.27
#define AIO_QUICK_EXIT AIO_FIRST
#else
#error "the versions of <aio.h> on this machine are not known"
#endif
/* clang-format on */

/* A version as the text of it. */
#define AIO_TEXT(version) AIO_TEXT_OF(version)
#define AIO_TEXT_OF(version) #version

#endif

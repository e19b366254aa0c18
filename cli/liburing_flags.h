/* SPDX-License-Identifier: MIT */
/* liburing_flags.h: liburing, and what its older headers lack. */
#ifndef OURO_LIBURING_FLAGS_H
#define OURO_LIBURING_FLAGS_H

#include <liburing.h>

#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#endif

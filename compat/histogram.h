/* SPDX-License-Identifier: MIT */
/* histogram.h: the buckets of a log-linear histogram: 64 for each power of two, so that a quantile
 * is never more than 1.6 % off, whatever its size, at a cost of a few instructions per value. */
#ifndef OURO_COMPAT_HISTOGRAM_H
#define OURO_COMPAT_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB_BITS = 6, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) << 6 };

/* Values below 64 have buckets of their own; then each power of two has 64 of them. */
static inline unsigned histogram_bucket(uint64_t value)
{
    const unsigned sub = 1 << HISTOGRAM_SUB_BITS;
    unsigned shift;

    if (value < sub)
        return (unsigned)value;
    shift = 63 - HISTOGRAM_SUB_BITS - (unsigned)__builtin_clzll(value);
    return (shift + 1) * sub + (unsigned)((value >> shift) - sub);
}

#endif

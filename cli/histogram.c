/* SPDX-License-Identifier: MIT */
/* A log-linear histogram: 64 buckets for each power of two, so that a quantile is never more than
 * 1.6 % off, whatever its size, at a cost of a few instructions per value. */
#include "bench.h"

enum { SUB = 1 << HISTOGRAM_SUB_BITS };

/* Values below SUB have buckets of their own; then each power of two has SUB of them. */
static unsigned bucket_of(uint64_t value)
{
    unsigned shift;

    if (value < SUB)
        return (unsigned)value;
    shift = 0;
    for (uint64_t v = value >> (HISTOGRAM_SUB_BITS + 1); v; v >>= 1)
        shift++;
    return (shift + 1) * SUB + (unsigned)((value >> shift) - SUB);
}

/* The middle of the bucket. */
static uint64_t value_of(unsigned bucket)
{
    unsigned shift;

    if (bucket < SUB)
        return bucket;
    shift = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB) << shift) + (shift ? (uint64_t)1 << (shift - 1) : 0);
}

void histogram_add(struct histogram *h, uint64_t value, uint64_t count)
{
    h->count += count;
    h->buckets[bucket_of(value)] += count;
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
    h->count += other->count;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->buckets[i] += other->buckets[i];
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;

    if (!h->count)
        return 0;
    if (wanted >= h->count)
        wanted = h->count - 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > wanted)
            return value_of(i);
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* A log-linear histogram, see histogram.h. */
#include "bench.h"

enum { SUB = 1 << HISTOGRAM_SUB_BITS };

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
    h->buckets[histogram_bucket(value)] += count;
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

/* SPDX-License-Identifier: MIT */
/* The few statistics that the report needs: medians, ranges, and how sure a ratio is. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000 };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median_sorted(const double *values, unsigned count)
{
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

struct interval stats_range(const double *values, unsigned count)
{
    struct interval result = { NAN, NAN, NAN };
    double *sorted = malloc((count ? count : 1) * sizeof(*sorted));

    if (sorted && count) {
        memcpy(sorted, values, count * sizeof(*sorted));
        qsort(sorted, count, sizeof(*sorted), compare);
        result = (struct interval){ median_sorted(sorted, count), sorted[0], sorted[count - 1] };
    }
    free(sorted);
    return result;
}

double stats_median(const double *values, unsigned count)
{
    return stats_range(values, count).middle;
}

/* Draws as many ratios as there are, with repetition, again and again, and looks how far the median
 * swings: the middle 95 % of those medians is the interval. */
struct interval stats_paired_ratio(const double *a, const double *b, unsigned count)
{
    struct interval result = { NAN, NAN, NAN };
    double *ratios = malloc((2 * (size_t)count + RESAMPLES) * sizeof(*ratios));
    double *sample = ratios + count, *medians = sample + count;
    uint64_t seed = 1;

    if (!ratios || !count) {
        free(ratios);
        return result;
    }
    for (unsigned i = 0; i < count; i++)
        ratios[i] = a[i] / b[i];
    for (unsigned r = 0; r < RESAMPLES; r++) {
        for (unsigned i = 0; i < count; i++)
            sample[i] = ratios[(next_random(&seed) >> 32) * count >> 32];
        qsort(sample, count, sizeof(*sample), compare);
        medians[r] = median_sorted(sample, count);
    }
    qsort(medians, RESAMPLES, sizeof(*medians), compare);
    qsort(ratios, count, sizeof(*ratios), compare);
    result.middle = median_sorted(ratios, count);
    result.low = medians[RESAMPLES * 25 / 1000];
    result.high = medians[RESAMPLES * 975 / 1000 - 1];
    free(ratios);
    return result;
}

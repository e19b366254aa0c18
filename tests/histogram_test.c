/* SPDX-License-Identifier: MIT */
/* histogram_test.c: the quantiles that `ouro bench` and `ouro echo load` print, beside those of the
 * sorted values: never more than 1.6 % off (compat/histogram.h), exact below 64. TAP out. */
#include "../cli/bench.h"

#include <stdlib.h>

#define VALUES 10000u
#define CHECK(condition)                                                 \
    do {                                                                 \
        if (!(condition)) {                                              \
            printf("# histogram_test.c:%d: %s\n", __LINE__, #condition); \
            return false;                                                \
        }                                                                \
    } while (0)

static struct histogram all, part;
static uint64_t values[VALUES];

static bool is_near(uint64_t got, uint64_t wanted)
{
    uint64_t apart = got > wanted ? got - wanted : wanted - got;

    if (apart <= wanted / 64)
        return true;
    printf("# %llu, wanted %llu\n", (unsigned long long)got, (unsigned long long)wanted);
    return false;
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static uint64_t random_word(void)
{
    static uint64_t word = 88172645463325252u;

    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    return word;
}

static bool of_nothing_all_are_zero(void)
{
    CHECK(histogram_quantile(&all, 0) == 0 && histogram_quantile(&all, 0.99) == 0);
    return true;
}

static bool small_values_are_exact(void)
{
    for (uint64_t i = 0; i < 64; i++)
        histogram_add(&all, i, 1);
    for (uint64_t i = 0; i < 64; i++)
        CHECK(histogram_quantile(&all, ((double)i + 0.5) / 64) == i);
    CHECK(histogram_quantile(&all, 1) == 63);
    return true;
}

/* Beside each power of two, and anywhere between. */
static bool each_value_is_told_within_its_precision(void)
{
    for (unsigned i = 0; i < VALUES; i++) {
        uint64_t value = i < 192 ? ((uint64_t)1 << i / 3) + i % 3 - 1 : random_word() >> i % 64;

        all = (struct histogram){ 0 };
        histogram_add(&all, value, 1);
        CHECK(is_near(histogram_quantile(&all, 0.5), value));
    }
    return true;
}

static bool quantiles_are_those_of_the_sorted_values(void)
{
    static const double shares[] = { 0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 };

    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = random_word() >> 20 >> i % 30;
        histogram_add(&all, values[i], 1);
    }
    qsort(values, VALUES, sizeof(*values), by_size);
    for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
        unsigned at = (unsigned)(shares[i] * VALUES);

        CHECK(is_near(histogram_quantile(&all, shares[i]), values[at < VALUES ? at : VALUES - 1]));
    }
    return true;
}

/* Of a thousand the slowest one is the p99.9, and no other. */
static bool a_rare_value_is_not_lost(void)
{
    histogram_add(&all, 1000, 999);
    histogram_add(&all, 5000000, 1);
    CHECK(all.count == 1000);
    CHECK(is_near(histogram_quantile(&all, 0.5), 1000));
    CHECK(is_near(histogram_quantile(&all, 0.998), 1000));
    CHECK(is_near(histogram_quantile(&all, 0.999), 5000000));
    return true;
}

static bool two_that_are_merged_are_one(void)
{
    histogram_add(&all, 100, 10);
    histogram_add(&part, 100, 40);
    histogram_add(&part, 70000, 50);
    histogram_merge(&all, &part);
    CHECK(all.count == 100);
    CHECK(is_near(histogram_quantile(&all, 0.49), 100));
    CHECK(is_near(histogram_quantile(&all, 0.5), 70000));
    return true;
}

#define TEST(name)  \
    {               \
#name, name \
    }
static const struct {
    const char *name;
    bool (*fn)(void);
} tests[] = {
    TEST(of_nothing_all_are_zero),
    TEST(small_values_are_exact),
    TEST(each_value_is_told_within_its_precision),
    TEST(quantiles_are_those_of_the_sorted_values),
    TEST(a_rare_value_is_not_lost),
    TEST(two_that_are_merged_are_one),
};

int main(void)
{
    unsigned count = sizeof(tests) / sizeof(*tests), failed = 0;

    for (unsigned i = 0; i < count; i++) {
        bool ok;

        all = part = (struct histogram){ 0 };
        ok = tests[i].fn();
        printf("%sok %u - %s\n", ok ? "" : "not ", i + 1, tests[i].name);
        failed += !ok;
    }
    printf("1..%u\n", count);
    return failed != 0;
}

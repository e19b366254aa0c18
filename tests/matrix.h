/* SPDX-License-Identifier: MIT */
/* matrix.h: the axes of the suite, the rows in which a test runs, and the list of skips. */
#ifndef OURO_TEST_MATRIX_H
#define OURO_TEST_MATRIX_H

#include "test.h"

enum {
    ROWS_MAX = MODE_COUNT * STYLE_COUNT * FDMODE_COUNT * MASK_COUNT,
    SKIPS_MAX = 512,
    ROWS_BRIEF = MODE_COUNT
};
#ifndef SKIPS_FILE
#define SKIPS_FILE "tests/skips.txt"
#endif

struct rows {
    unsigned count, at[ROWS_MAX][AXIS_COUNT];
};
extern const unsigned axis_sizes[AXIS_COUNT];
extern const char *const axis_names[AXIS_COUNT];

const char *value_word(unsigned axis, unsigned value);
void row_words(const unsigned row[AXIS_COUNT], char *ret, size_t size);
bool axis_allows(const struct test_case *what, unsigned axis, unsigned value);
/* The whole product of what the test allows; else rows in which every pair of values stands. */
void rows_for(const struct test_case *what, bool full, struct rows *ret);
/* Leaves ROWS_BRIEF of these, others for each turn, in as many threading modes as there are. */
void rows_shorten(struct rows *rows, unsigned turn);
/* Does each mode that the test allows stand in one of them? */
bool rows_have_modes(const struct test_case *what, const struct rows *rows);

/* Lines `SUBJECT/TEST AXIS=VALUE REASON`, where `*` matches as in the shell. */
struct skips {
    struct {
        char test[96], axis[32];
        bool used;
    } at[SKIPS_MAX];
    unsigned count;
};
bool skips_read(struct skips *ret, const char *path);
bool skips_use(struct skips *list, const char *subject, const char *test, const char *axis,
               const char *value);
bool skips_all_used(const struct skips *list);

#endif

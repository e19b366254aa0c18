/* SPDX-License-Identifier: MIT */
/* matrix.c: the axes of the suite, covering arrays of them, and the list of skips. */
#include <fnmatch.h>

#include "matrix.h"

const unsigned axis_sizes[AXIS_COUNT] = { MODE_COUNT, STYLE_COUNT, FDMODE_COUNT, MASK_COUNT };
const char *const axis_names[AXIS_COUNT] = { "mode", "style", "fd", "mask" };
static const char *const words[AXIS_COUNT][MASK_COUNT] = {
    { "owned", "shared", "service" },
    { "callback", "reap", "wait", "hosted" },
    { "blocking", "nonblock" },
    { "none", "cache", "names", "ring", "fixed", "small" },
};

const char *value_word(unsigned axis, unsigned value)
{
    return words[axis][value];
}

void row_words(const unsigned row[AXIS_COUNT], char *ret, size_t size)
{
    snprintf(ret, size, "%s+%s+%s+%s", words[0][row[0]], words[1][row[1]], words[2][row[2]],
             words[3][row[3]]);
}

bool axis_allows(const struct test_case *what, unsigned axis, unsigned value)
{
    if (axis != AXIS_MODE || what->fixed & FIX_MODE)
        return true;
    if (what->needs & NEED_OWNED)
        return value == MODE_OWNED;
    if (what->needs & NEED_DRIVER && value == MODE_SERVICE)
        return false;
    return !(what->needs & NEED_THREADS && value == MODE_OWNED);
}

static bool row_allowed(const struct test_case *what, const unsigned row[AXIS_COUNT])
{
    for (unsigned axis = 0; axis < AXIS_COUNT; axis++) {
        unsigned first = axis == AXIS_STYLE ? (unsigned)what->style : 0;

        if (what->fixed & 1u << axis && row[axis] != first)
            return false;
        if (!axis_allows(what, axis, row[axis]))
            return false;
    }
    return true;
}

static void product(const struct test_case *what, struct rows *ret)
{
    ret->count = 0;
    for (unsigned i = 0; i < ROWS_MAX; i++) {
        unsigned row[AXIS_COUNT], rest = i;

        for (unsigned axis = 0; axis < AXIS_COUNT; axis++) {
            row[axis] = rest % axis_sizes[axis];
            rest /= axis_sizes[axis];
        }
        if (row_allowed(what, row))
            memcpy(ret->at[ret->count++], row, sizeof row);
    }
}

struct pairs { /* [axis a][value][axis b][value], a < b */
    bool seen[AXIS_COUNT][MASK_COUNT][AXIS_COUNT][MASK_COUNT];
};

static unsigned new_pairs(struct pairs *pairs, const unsigned row[AXIS_COUNT], bool take)
{
    unsigned count = 0;

    for (unsigned a = 0; a < AXIS_COUNT; a++)
        for (unsigned b = a + 1; b < AXIS_COUNT; b++) {
            bool *seen = &pairs->seen[a][row[a]][b][row[b]];

            count += !*seen;
            *seen |= take;
        }
    return count;
}

void rows_for(const struct test_case *what, bool full, struct rows *ret)
{
    struct rows all;
    struct pairs pairs = { 0 };

    product(what, full ? ret : &all);
    if (full)
        return;
    /* Greedy: always the first of the rows that add the most pairs. */
    for (ret->count = 0;;) {
        unsigned best = 0, best_at = 0;

        for (unsigned i = 0; i < all.count; i++) {
            unsigned gain = new_pairs(&pairs, all.at[i], false);

            if (gain > best) {
                best = gain;
                best_at = i;
            }
        }
        if (!best)
            return;
        new_pairs(&pairs, all.at[best_at], true);
        memcpy(ret->at[ret->count++], all.at[best_at], sizeof all.at[0]);
    }
}

/* The rows of a circle that begins at the turn's place, a third further for each, whose mode was
 * taken least often. */
void rows_shorten(struct rows *rows, unsigned turn)
{
    const struct rows all = *rows;
    unsigned times[MODE_COUNT] = { 0 };
    bool taken[ROWS_MAX] = { false };

    if (all.count <= ROWS_BRIEF)
        return;
    for (rows->count = 0; rows->count < ROWS_BRIEF; rows->count++) {
        unsigned start = turn + rows->count * (all.count / ROWS_BRIEF), best = start % all.count;

        for (unsigned i = 1; i < all.count; i++) {
            unsigned at = (start + i) % all.count, mode = all.at[at][AXIS_MODE];

            if (!taken[at] && (taken[best] || times[mode] < times[all.at[best][AXIS_MODE]]))
                best = at;
        }
        taken[best] = true;
        times[all.at[best][AXIS_MODE]]++;
        memcpy(rows->at[rows->count], all.at[best], sizeof all.at[0]);
    }
}

bool rows_have_modes(const struct test_case *what, const struct rows *rows)
{
    for (unsigned mode = 0; mode < MODE_COUNT; mode++) {
        bool has = (what->fixed & FIX_MODE && mode) || !axis_allows(what, AXIS_MODE, mode);

        for (unsigned i = 0; i < rows->count; i++)
            has = has || rows->at[i][AXIS_MODE] == mode;
        if (!has)
            return false;
    }
    return true;
}

bool skips_read(struct skips *ret, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[256];

    ret->count = 0;
    if (!file) {
        printf("# no list of skips: %s\n", path);
        return false;
    }
    while (fgets(line, sizeof line, file) && ret->count < SKIPS_MAX) {
        int reason = 0;

        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (sscanf(line, "%95s %31s %n", ret->at[ret->count].test, ret->at[ret->count].axis,
                   &reason) < 2 ||
            !reason || !line[reason])
            printf("# bad line in %s: %s", path, line);
        ret->at[ret->count++].used = false;
    }
    fclose(file);
    return true;
}

bool skips_use(struct skips *list, const char *subject, const char *test, const char *axis,
               const char *value)
{
    char name[200], place[64];
    bool found = false;

    snprintf(name, sizeof name, "%s/%s", subject, test);
    snprintf(place, sizeof place, "%s=%s", axis, value);
    for (unsigned i = 0; i < list->count; i++)
        if (fnmatch(list->at[i].test, name, 0) == 0 && strcmp(list->at[i].axis, place) == 0)
            found = list->at[i].used = true;
    if (!found)
        printf("# not listed: %s %s\n", name, place);
    return found;
}

bool skips_all_used(const struct skips *list)
{
    bool ok = true;

    for (unsigned i = 0; i < list->count; i++)
        if (!list->at[i].used) {
            printf("# listed, but not skipped: %s %s\n", list->at[i].test, list->at[i].axis);
            ok = false;
        }
    return ok;
}

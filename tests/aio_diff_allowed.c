/* SPDX-License-Identifier: MIT */
/* aio_diff_allowed.c: where programs may see another thing on ouro than on glibc: what ouro does
 * better on purpose. Each is counted when it is seen, so that nothing hides behind it. */
#include "aio_diff.h"

#include <limits.h>
#include <string.h>

/* A line of both traces, and the step and the request that it is about. */
struct difference {
    const struct program *program;
    uint32_t without;
    const struct step *step;
    const struct ask *ask;          /* NULL: it is about the step */
    const char *reference, *tested; /* behind the colon */
};

/* What was asked for at that time. */
static enum kind kind_at(const struct difference *d)
{
    enum kind kind = d->program->kinds[d->ask->target];

    for (const struct step *step = d->program->steps; step < d->step; step++) {
        bool left_out = d->without >> (step - d->program->steps) & 1;

        if (step->target == d->ask->target && !left_out && step->op == DO_REOPEN)
            kind = step->kind;
        if (step->target == d->ask->target && !left_out && step->op == DO_CLOSE)
            kind = CLOSED;
    }
    return kind;
}

static bool same_buffer(const struct difference *d)
{
    const char *one = strstr(d->reference, "buffer"), *two = strstr(d->tested, "buffer");

    return one && two && strcmp(one, two) == 0;
}

static bool p5_offset(const struct difference *d)
{
    return d->ask && d->ask->offset < 0 && has_no_position(kind_at(d)) &&
           begins(d->reference, "22, -1");
}

static bool p6_size(const struct difference *d)
{
    return d->ask && d->ask->size > SSIZE_MAX && same_buffer(d) && begins(d->reference, "14, -1") &&
           begins(d->tested, "22, -1");
}

static bool p26_time(const struct difference *d)
{
    return !d->ask && d->step->op == DO_SUSPEND && d->step->timeout == BAD_NSEC &&
           begins(d->tested, "-1, errno 22");
}

static bool p34_result(const struct difference *d)
{
    return d->ask && d->ask->notify == SIGNAL_BAD && begins(d->reference, "22, -1") &&
           same_buffer(d);
}

static bool p34_list(const struct difference *d)
{
    bool bad = false;

    for (int i = 0; !d->ask && d->step->op == DO_LIST && i < d->step->count; i++)
        bad = bad || d->step->asks[i].notify == SIGNAL_BAD;
    return bad && begins(d->reference, "-1, errno 5") && begins(d->tested, "0");
}

static bool p46_child(const struct difference *d)
{
    return !d->ask && d->step->op == DO_FORK && begins(d->reference, "the child hangs") &&
           begins(d->tested, "in the child");
}

static bool p53_errno(const struct difference *d)
{
    size_t length = strlen(d->tested);

    return !d->ask && begins(d->reference, d->tested) &&
           strcmp(d->reference + length, ", errno changed") == 0;
}

/* Each is marked as better in the list of what programs may rely on. */
struct diff_allowed allowed[ALLOWED] = {
    { "P5", "a negative offset means nothing to a stream", 0 },
    { "P6", "more bytes than SSIZE_MAX are EINVAL, not EFAULT", 0 },
    { "P26", "a bad tv_nsec is EINVAL", 0 },
    { "P34", "a signal that does not exist spoils no result", 0 },
    { "P34", "a signal that does not exist fails no list", 0 },
    { "P46", "a child has requests of its own", 0 },
    { "P53", "errno changes on failure alone", 0 },
};

static bool (*const holds[ALLOWED])(const struct difference *difference) = {
    p5_offset, p6_size, p26_time, p34_result, p34_list, p46_child, p53_errno,
};

int allowed_as(const struct program *program, uint32_t without, const char *reference,
               const char *tested)
{
    struct difference d = { .program = program, .without = without };
    const char *one = strstr(reference, ": "), *two = strstr(tested, ": ");
    unsigned step, entry;
    int found = sscanf(reference, "%u.%u", &step, &entry);

    if (!one || !two || one - reference != two - tested || found < 1 || step >= program->count ||
        strncmp(reference, tested, (size_t)(one - reference)) != 0)
        return -1;
    d.step = &program->steps[step];
    if (found == 2 && entry < ENTRIES)
        d.ask = &d.step->asks[entry];
    d.reference = one + 2;
    d.tested = two + 2;
    for (int i = 0; i < ALLOWED; i++)
        if (holds[i](&d))
            return i;
    return -1;
}

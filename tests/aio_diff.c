/* SPDX-License-Identifier: MIT */
/* aio_diff.c: POSIX AIO on ouro against glibc's, by random programs (diff.c): they must see the
 * same, but for what ouro does better on purpose (aio_diff_allowed.c). */
#include "aio_diff.h"

static struct program program;

static void make(uint64_t seed)
{
    make_program(&program, seed);
}

static unsigned steps(void)
{
    return program.count;
}

static void print(FILE *out, uint32_t without)
{
    print_program(out, &program, without);
}

static void run(uint32_t without, bool is_reference, const char *dir, char *ret_trace)
{
    run_program(&program, without, is_reference, dir, ret_trace);
}

static int is_allowed(uint32_t without, const char *reference, const char *tested)
{
    return allowed_as(&program, without, reference, tested);
}

int main(int argc, char **argv)
{
    const struct diff diff = {
        .name = "aio_diff",
        .reference = "glibc",
        .at_once = 1,
        .make = make,
        .steps = steps,
        .print = print,
        .run = run,
        .allowed_as = is_allowed,
        .allowed = allowed,
        .allowed_count = ALLOWED,
    };

    return diff_main(argc, argv, &diff);
}

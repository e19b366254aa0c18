/* SPDX-License-Identifier: MIT */
/* libaio_diff.c: libaio on ouro against the system's, by random programs (diff.c): returns, errno,
 * events, buffers, files and streams must be the same. */
#include "libaio_diff.h"

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
    (void)is_reference;
    run_program(&program, without, dir, ret_trace);
}

static struct diff_allowed allowed[] = {
    { "decision 2", "an error may be EIO for who does not call io_getevents", 0 },
};

static bool takes_by_itself(void)
{
    bool does = program.path >= SYSTEM_CALL;

    for (unsigned i = 0; i < program.count; i++)
        does = does || (program.steps[i].op == DO_GET && program.steps[i].path >= SYSTEM_CALL);
    return does;
}

static int allowed_as(uint32_t without, const char *reference, const char *tested)
{
    unsigned block[2];
    long result[2];
    int at[2] = { 0, 0 };

    (void)without;
    if (sscanf(reference, "b%u is over: %ld,%n", &block[0], &result[0], &at[0]) != 2 ||
        sscanf(tested, "b%u is over: %ld,%n", &block[1], &result[1], &at[1]) != 2 || !at[0] ||
        !at[1])
        return -1;
    return block[0] == block[1] && result[0] < 0 && result[1] == -5 && takes_by_itself() &&
                   strcmp(reference + at[0], tested + at[1]) == 0
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    const struct diff diff = {
        .name = "libaio_diff",
        .reference = "the system's libaio",
        .at_once = 8, /* a process with contexts waits for the kernel when it ends */
        .make = make,
        .steps = steps,
        .print = print,
        .run = run,
        .allowed_as = allowed_as,
        .allowed = allowed,
        .allowed_count = sizeof(allowed) / sizeof(*allowed),
    };

    return diff_main(argc, argv, &diff);
}

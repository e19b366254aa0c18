/* SPDX-License-Identifier: MIT */
/* libaio_diff_program.c: makes programs of seeds, and prints them. */
#include "libaio_diff.h"

#include <inttypes.h>
#include <limits.h>
#include <sys/uio.h>

/* ---- Making --------------------------------------------------------------------------------- */

static size_t some_size(bool direct)
{
    static const size_t sizes[] = { 0, 1, 2, 100, 511, 512, 4095, 4096, 16384, 65535, 65536 };
    static const size_t huge[] = { SIZE_MAX, (size_t)SSIZE_MAX + 1, SSIZE_MAX, (size_t)1 << 31 };

    if (once_in(60))
        return huge[below(4)];
    if (direct && !once_in(5))
        return 4096 * (size_t)(1 + below(8));
    return once_in(2) ? sizes[below(11)] : once_in(2) ? below(65536) : below(600);
}

static int64_t some_offset(unsigned file_size, bool direct)
{
    static const int64_t bad[] = { -1, -5, INT64_MIN, INT64_MAX, INT64_MAX - 4096 };

    if (once_in(16))
        return bad[below(5)];
    if (direct && !once_in(5))
        return 4096 * (int64_t)below(17);
    switch (below(6)) {
    case 0: return file_size;
    case 1: return (int64_t)file_size + below(9000);
    case 2: return below(70000);
    case 3: return 0;
    case 4: return 4096 * (int64_t)below(8);
    default: return below(file_size + 1);
    }
}

static void make_ask(struct ask *ask, const struct program *program)
{
    static const enum what whats[] = { READ,   READ,   READ, WRITE,    WRITE, WRITE, READV,   READV,
                                       WRITEV, WRITEV, SYNC, DATASYNC, POLL,  POLL,  BAD_CODE };
    static const int flags[] = { RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND };
    bool direct;

    ask->what = once_in(4) ? whats[below(15)] : whats[below(10)];
    ask->where = once_in(12) ? (enum where)(1 + below(6)) : GOOD;
    ask->bad = once_in(16) ? (enum bad)below(BAD_BLOCK + 1) : FINE;
    ask->target = below(TARGETS);
    ask->block = below(BLOCKS);
    ask->variant = below(8);
    ask->tells = once_in(3);
    ask->garbage = once_in(3);
    ask->overwritten = once_in(3) && program->careless;
    ask->flags = once_in(8) ? flags[below(5)] : 0;
    direct = program->kinds[ask->target] == FILE_DIRECT;
    ask->size = some_size(direct);
    ask->offset = some_offset(program->sizes[ask->target], direct);
}

/* Writes to a terminal are interrupted by signals. */
static enum kind some_kind(const struct program *program)
{
    enum kind kind = (enum kind)below(KINDS);

    return program->stormy && kind == TERMINAL ? SOCKET : kind;
}

static enum op some_op(void)
{
    static const enum op all[] = { DO_GET,  DO_GET,  DO_GET, DO_GET,   DO_CANCEL, DO_CANCEL,
                                   DO_FEED, DO_WAIT, DO_BAD, DO_RENEW, DO_REOPEN };

    if (once_in(40))
        return DO_FORK;
    return once_in(2) ? DO_SUBMIT : all[below(11)];
}

static void make_step(struct step *step, const struct program *program)
{
    step->op = some_op();
    step->manner = once_in(2) ? BY_LIBRARY : (enum manner)below(MANNERS);
    step->path = (enum path)below(program->careless ? PGETEVENTS + 1 : PATHS);
    step->timeout = (enum timeout)below(TIMEOUTS);
    step->kind = some_kind(program);
    step->context = below(CONTEXTS);
    step->target = below(TARGETS);
    step->block = below(BLOCKS);
    step->variant = below(16);
    step->nr = (int)below(10);
    step->min = step->nr ? (int)below((unsigned)step->nr + 1) : 0;
    step->count = 1 + (int)(once_in(2) ? 0 : below(ENTRIES));
    for (int i = 0; i < step->count; i++)
        make_ask(&step->asks[i], program);
}

void make_program(struct program *ret, uint64_t seed)
{
    static const unsigned sizes[] = { 0, 1, 100, 4096, 5000, 12288, 40000, 65536 };

    *ret = (struct program){ .seed = seed };
    random_begin(seed);
    ret->limited = once_in(20);
    ret->stormy = once_in(10);
    for (unsigned i = 0; i < TARGETS; i++) {
        ret->kinds[i] = once_in(4) ? FILE_RW : once_in(4) ? FILE_DIRECT : some_kind(ret);
        ret->sizes[i] = sizes[below(8)];
    }
    ret->leaves = once_in(16);
    ret->careless = once_in(3);
    ret->path = (enum path)below(ret->careless ? PGETEVENTS + 1 : PATHS);
    ret->count = 3 + below(STEPS - 2);
    for (unsigned i = 0; i < ret->count; i++)
        make_step(&ret->steps[i], ret);
}

/* ---- Printing ------------------------------------------------------------------------------- */

static void print_ask(FILE *out, const struct ask *ask)
{
    static const char *const whats[] = { "pread", "pwrite", "preadv", "pwritev",
                                         "fsync", "fdsync", "poll",   "bad opcode" };
    static const char *const wheres[] = { "good",      "NULL",      "(void *)8", "(void *)-4096",
                                          "PROT_NONE", "PROT_READ", "half of it" };
    static const char *const bads[] = { "",
                                        ", a reserved field",
                                        ", a bad eventfd",
                                        ", bad vectors",
                                        ", 1025 vectors",
                                        ", a bad priority",
                                        ", a bad flag",
                                        ", a field too many",
                                        ", a bad block" };

    fprintf(out,
            "\n        %s &b%u(%u): t%u, buffer %s, %zu bytes at %" PRId64 ", flags %d%s%s%s%s",
            whats[ask->what], ask->block, ask->variant, ask->target, wheres[ask->where], ask->size,
            ask->offset, ask->flags, bads[ask->bad], ask->tells ? ", tells" : "",
            ask->garbage ? ", garbage inside" : "", ask->overwritten ? ", overwritten" : "");
}

static void print_step(FILE *out, const struct program *program, unsigned number)
{
    static const char *const names[] = { "submit",
                                         "get",
                                         "cancel",
                                         "feed",
                                         "wait for all",
                                         "bad call",
                                         "destroy and setup",
                                         "fork",
                                         "close and open" };
    static const char *const manners[] = { "io_submit", "syscall", "in a thread that ends",
                                           "descriptors replaced" };
    static const char *const paths[] = { "io_getevents", "io_pgetevents", "syscall", "the ring" };
    static const char *const timeouts[] = { "NULL", "{0, 0}", "{0, 1000}", "{3600, 0}" };
    const struct step *step = &program->steps[number];

    fprintf(out, "  %2u: %s", number, names[step->op]);
    switch (step->op) {
    case DO_SUBMIT:
        fprintf(out, " c%u, %s", step->context, manners[step->manner]);
        for (int i = 0; i < step->count; i++)
            print_ask(out, &step->asks[i]);
        break;
    case DO_GET:
        fprintf(out, " c%u by %s(%d, %d, %s), variant %u", step->context, paths[step->path],
                step->min, step->nr, timeouts[step->timeout], step->variant);
        break;
    case DO_CANCEL: fprintf(out, " c%u &b%u", step->context, step->block); break;
    case DO_BAD: fprintf(out, " %u", step->variant); break;
    case DO_RENEW: fprintf(out, " c%u", step->context); break;
    case DO_REOPEN: fprintf(out, " t%u as %s", step->target, kind_names[step->kind]); break;
    case DO_FEED: fprintf(out, " t%u", step->target); break;
    default: break;
    }
    fprintf(out, "\n");
}

void print_program(FILE *out, const struct program *program, uint32_t without)
{
    fprintf(out, "program %" PRIu64 "%s%s%s%s, what is left is taken by path %d\n", program->seed,
            program->limited ? ", files limited to 50000 bytes" : "",
            program->stormy ? ", signals all the time" : "",
            program->leaves ? ", ends while requests are in flight" : "",
            program->careless ? ", careless" : "", (int)program->path);
    for (unsigned i = 0; i < TARGETS; i++)
        fprintf(out, "  t%u = %s (%u bytes)\n", i, kind_names[program->kinds[i]],
                program->sizes[i]);
    for (unsigned i = 0; i < program->count; i++)
        if (!(without >> i & 1))
            print_step(out, program, i);
}

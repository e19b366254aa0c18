/* SPDX-License-Identifier: MIT */
/* aio_diff_program.c: makes programs of seeds, and prints them. */
#include "aio_diff.h"

#include <inttypes.h>
#include <limits.h>

/* ---- Making --------------------------------------------------------------------------------- */

static size_t some_size(void)
{
    static const size_t sizes[] = { 0,    1,    2,    7,     100,   511,   512,
                                    4095, 4096, 4097, 16384, 65535, 65536, 65536 };
    static const size_t huge[] = { SIZE_MAX, (size_t)SSIZE_MAX + 1, SSIZE_MAX, (size_t)1 << 31,
                                   0x7ffff001 };

    if (once_in(60))
        return huge[below(5)];
    return once_in(2) ? sizes[below(14)] : once_in(2) ? below(65536) : below(600);
}

static int64_t some_offset(unsigned file_size)
{
    static const int64_t bad[] = { -1, -5, INT64_MIN, INT64_MAX, INT64_MAX - 4096 };

    switch (below(12)) {
    case 0: return bad[below(5)];
    case 1: return file_size;
    case 2: return (int64_t)file_size + below(9000);
    case 3: return file_size ? file_size - 1 : 0;
    case 4: return below(70000);
    case 5:
    case 6: return 0;
    case 7: return 4096 * (int64_t)below(8);
    default: return below(file_size + 1);
    }
}

static enum where some_where(void)
{
    return once_in(8) ? (enum where)(1 + below(6)) : GOOD;
}

static enum notify some_notify(void)
{
    static const enum notify all[] = { NONE,   NONE,        NONE,       UNKNOWN, SIGNAL,
                                       SIGNAL, SIGNAL_ZERO, SIGNAL_BAD, THREAD,  THREAD_ATTR };

    return once_in(2) ? NONE : all[below(10)];
}

static void make_ask(struct ask *ask, const struct program *program, bool listed)
{
    static const enum what alone[] = { READ,  READ,  READ, READ,     WRITE,   WRITE,
                                       WRITE, WRITE, SYNC, DATASYNC, BAD_SYNC };
    static const enum what inside[] = { READ,  READ, READ,     WRITE,   WRITE,
                                        WRITE, NOP,  BAD_CODE, NO_BLOCK };
    static const int bad[] = { -1, 21, INT_MAX, INT_MIN };

    ask->what = listed ? inside[below(9)] : alone[below(11)];
    ask->where = some_where();
    ask->notify = some_notify();
    ask->target = below(TARGETS);
    ask->block = below(BLOCKS);
    ask->variant = below(8);
    ask->priority = once_in(12) ? bad[below(4)] : once_in(4) ? (int)below(21) : 0;
    ask->keeps = once_in(3);
    ask->size = some_size();
    ask->offset = some_offset(program->sizes[ask->target]);
}

static enum op some_op(void)
{
    static const enum op all[] = {
        DO_LIST,       DO_LIST,       DO_LIST,       DO_SUSPEND, DO_SUSPEND,
        DO_CANCEL_ONE, DO_CANCEL_ONE, DO_CANCEL_ALL, DO_ERROR,   DO_RETURN,
        DO_FEED,       DO_FEED,       DO_WAIT,       DO_CLOSE,   DO_REOPEN,
    };

    if (once_in(40))
        return DO_FORK;
    return once_in(2) ? DO_ASK : all[below(15)];
}

static void make_step(struct step *step, const struct program *program)
{
    step->op = some_op();
    step->mode = once_in(20) ? MODE_BAD : once_in(2) ? MODE_WAIT : MODE_NOWAIT;
    step->notify = some_notify();
    step->timeout = (enum timeout)below(TIMEOUTS);
    step->kind = (enum kind)below(AIO_KINDS);
    step->target = below(TARGETS);
    step->block = below(BLOCKS);
    step->variant = below(8);
    step->count = step->op == DO_ASK ? 1 : (int)below(ENTRIES + 1);
    if (step->op == DO_SUSPEND && once_in(20))
        step->count = -1;
    for (int i = 0; i < step->count; i++)
        make_ask(&step->asks[i], program, step->op != DO_ASK);
}

void make_program(struct program *ret, uint64_t seed)
{
    static const unsigned sizes[] = { 0, 1, 100, 4096, 5000, 12288, 40000, 65536 };

    *ret = (struct program){ .seed = seed };
    random_begin(seed);
    for (unsigned i = 0; i < TARGETS; i++) {
        ret->kinds[i] = once_in(3) ? FILE_RW : (enum kind)below(AIO_KINDS);
        ret->sizes[i] = sizes[below(8)];
    }
    ret->limited = once_in(20);
    ret->leaves = once_in(8);
    ret->count = 3 + below(STEPS - 2);
    for (unsigned i = 0; i < ret->count; i++)
        make_step(&ret->steps[i], ret);
}

/* ---- Printing ------------------------------------------------------------------------------- */

static const char *const notify_names[] = {
    "SIGEV_NONE",
    "4711",
    "SIGEV_SIGNAL",
    "SIGEV_SIGNAL of 0",
    "SIGEV_SIGNAL of a bad number",
    "SIGEV_THREAD",
    "SIGEV_THREAD with attributes",
};

static void print_ask(FILE *out, const struct ask *ask, const char *begin)
{
    static const char *const whats[] = { "read",       "write",   "fsync(O_SYNC)", "fsync(O_DSYNC)",
                                         "fsync(bad)", "LIO_NOP", "bad opcode",    "NULL" };
    static const char *const wheres[] = { "good",      "NULL",      "(void *)8", "(void *)-4096",
                                          "PROT_NONE", "PROT_READ", "half of it" };

    fprintf(out, "%s%s", begin, whats[ask->what]);
    if (ask->what == NO_BLOCK)
        return;
    fprintf(out, " &b%u: t%u, buffer %s, %zu bytes at %" PRId64 ", priority %d, %s(%u)%s",
            ask->block, ask->target, wheres[ask->where], ask->size, ask->offset, ask->priority,
            notify_names[ask->notify], ask->variant, ask->keeps ? "" : ", garbage inside");
}

void print_step(FILE *out, const struct program *program, unsigned number)
{
    static const char *const names[OPS] = { "aio_",       "lio_listio",     "aio_suspend",
                                            "aio_cancel", "aio_cancel all", "aio_error",
                                            "aio_return", "feed",           "wait for all",
                                            "fork",       "close",          "close and open" };
    static const char *const modes[] = { "LIO_WAIT", "LIO_NOWAIT", "bad mode" };
    static const char *const timeouts[] = { "NULL",      "{0, 0}",  "{0, 1000}",
                                            "{3600, 0}", "{-1, 0}", "bad tv_nsec" };
    const struct step *step = &program->steps[number];

    fprintf(out, "  %2u: %s", number, names[step->op]);
    switch (step->op) {
    case DO_ASK: print_ask(out, step->asks, ""); break;
    case DO_LIST:
        fprintf(out, "(%s, %d, %s(%u))", modes[step->mode], step->count, notify_names[step->notify],
                step->variant);
        for (int i = 0; i < step->count; i++)
            print_ask(out, &step->asks[i], "\n        ");
        break;
    case DO_SUSPEND:
        fprintf(out, "(%s, %d:", timeouts[step->timeout], step->count);
        for (int i = 0; i < step->count; i++)
            fprintf(out, step->asks[i].what == NO_BLOCK ? " NULL" : " &b%u", step->asks[i].block);
        fprintf(out, ")");
        break;
    case DO_CANCEL_ONE:
        fprintf(out, "(%s, &b%u)",
                step->variant == 0   ? "another's descriptor"
                : step->variant == 1 ? "-1"
                                     : "its descriptor",
                step->block);
        break;
    case DO_ERROR:
    case DO_RETURN: fprintf(out, "(&b%u)", step->block); break;
    case DO_REOPEN: fprintf(out, " t%u as %s", step->target, kind_names[step->kind]); break;
    case DO_WAIT: break;
    default: fprintf(out, " t%u", step->target); break;
    }
    fprintf(out, "\n");
}

void print_program(FILE *out, const struct program *program, uint32_t without)
{
    fprintf(out, "program %" PRIu64 "%s%s\n", program->seed,
            program->limited ? ", files limited to 50000 bytes" : "",
            program->leaves ? ", ends while requests wait" : "");
    for (unsigned i = 0; i < TARGETS; i++)
        fprintf(out, "  t%u = %s (%u bytes)\n", i, kind_names[program->kinds[i]],
                program->sizes[i]);
    for (unsigned i = 0; i < program->count; i++)
        if (!(without >> i & 1))
            print_step(out, program, i);
}

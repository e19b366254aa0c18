/* SPDX-License-Identifier: MIT */
/* t_trace.c: what the environment asks for: a line for each operation, a summary at close. */
#include "test.h"

/* The loop is opened and closed anew, with its standard error in a file. */
static char *said_by_a_loop(struct test *t, void (*work)(struct test *t))
{
    static char text[65536];
    const char *path = path_in(t, "said");
    int keep = dup(STDERR_FILENO), fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    ssize_t n;

    CHECK(keep >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    open_loop(t);
    work(t);
    close_loop(t);
    CHECK(dup2(keep, STDERR_FILENO) >= 0);
    close(keep);
    n = pread(fd, text, sizeof(text) - 1, 0);
    CHECK(n >= 0);
    text[n] = 0;
    close(fd);
    unlink(path);
    return text;
}

static unsigned lines_with(const char *text, const char *what)
{
    unsigned count = 0;

    while ((text = strstr(text, what))) {
        count++;
        text += strlen(what);
    }
    return count;
}

static void work(struct test *t)
{
    ouro_op *read = op_new(t), *nop = op_new(t), *timer = op_new(t);
    int fd = make_file(t, "f", "abcdef", 6);
    char buf[8];

    ouro_prep_read(read, fd, buf, 8, 1);
    CHECK_EQ(do_op(t, read), 5);
    ouro_prep_nop(nop);
    CHECK_EQ(do_op(t, nop), 0);
    ouro_prep_timer(timer, in_ms(t, 60000));
    start(t, timer);
    ouro_cancel(t->loop, timer);
    CHECK_EQ(finish(t, timer), -ECANCELED);
    unmade(t, t->made[t->made_count - 1]);
    close(fd);
}

static void every_operation_is_traced(struct test *t)
{
    char *text;

    CHECK_EQ(setenv("OURO_TRACE", "1", 1), 0);
    text = said_by_a_loop(t, work);
    CHECK_EQ(lines_with(text, " begin "), 3);
    CHECK_EQ(lines_with(text, " end "), 3);
    CHECK(strstr(text, "bytes=8 offset=1"));
    CHECK(strstr(text, "res=5 "));
    CHECK_EQ(lines_with(text, " end nop "), 1);
}

/* A chain that is refused as a whole, and one that is not. */
static void work_in_chains(struct test *t)
{
    ouro_op *ops[3] = { op_new(t), op_new(t), op_new(t) };

    for (int i = 0; i < 3; i++)
        ouro_prep_nop(ops[i]);
    ouro_prep_timer(ops[2], 0);
    CHECK_EQ(start_chain(t, ops, 3), -EINVAL);
    ouro_prep_open(ops[0], OURO_HERE, path_in(t, "none"), O_RDONLY, 0);
    CHECK_EQ(start_chain(t, ops, 2), 0);
    CHECK_EQ(finish(t, ops[0]), -ENOENT);
    finish_canceled(t, ops[1]);
}

static void a_refused_chain_is_not_traced(struct test *t)
{
    char *text;

    CHECK_EQ(setenv("OURO_TRACE", "1", 1), 0);
    text = said_by_a_loop(t, work_in_chains);
    CHECK_EQ(lines_with(text, " begin open "), 1);
    CHECK_EQ(lines_with(text, " begin nop "), 1);
    CHECK_EQ(lines_with(text, " begin "), 2);
    CHECK_EQ(lines_with(text, " end "), 2);
    CHECK(strstr(text, " begin nop ") < strstr(text, " end open "));
}

static void a_trace_goes_to_a_file(struct test *t)
{
    const char *path = path_in(t, "trace");
    char text[4096];
    ssize_t n;
    int fd;

    CHECK_EQ(setenv("OURO_TRACE", path, 1), 0);
    CHECK_EQ(said_by_a_loop(t, work)[0], 0);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    n = read(fd, text, sizeof(text) - 1);
    CHECK(n > 0);
    text[n] = 0;
    CHECK_EQ(lines_with(text, "\n"), 6);
    close(fd);
    unlink(path);
    CHECK_EQ(setenv("OURO_TRACE", "/nowhere/at/all", 1), 0);
    CHECK(strstr(said_by_a_loop(t, work), "cannot open /nowhere/at/all"));
}

static void a_summary_is_given_at_close(struct test *t)
{
    char *text;

    CHECK_EQ(setenv("OURO_STATS", "1", 1), 0);
    text = said_by_a_loop(t, work);
    CHECK_EQ(lines_with(text, "\n"), 1);
    CHECK(strstr(text, "3 operations"));
    CHECK(strstr(text, "1 canceled"));
    CHECK_EQ(setenv("OURO_STATS", "0", 1), 0);
    CHECK_EQ(said_by_a_loop(t, work)[0], 0);
}

static const struct test_case cases[] = {
    { NAMED(every_operation_is_traced), .fixed = FIX_FD, .no_loop = true },
    { NAMED(a_refused_chain_is_not_traced), .fixed = FIX_FD, .no_loop = true },
    { NAMED(a_trace_goes_to_a_file), .fixed = FIX_FD, .no_loop = true },
    { NAMED(a_summary_is_given_at_close), .fixed = FIX_FD, .no_loop = true },
    { .name = NULL },
};
const struct subject subject_trace = { "trace", cases };

/* SPDX-License-Identifier: MIT */
/* run.c: the runner of the conformance suite: which cases there are, a process for each, TAP.
 *
 * A case is a test on an engine in one row of the axes (threading mode, completion style,
 * descriptor mode, hidden capabilities). Quick runs take a pairwise covering array of the axes,
 * full runs their whole product. Values of an axis that a test cannot have are skips, and stand in
 * skips.txt. */
#include <ftw.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "matrix.h"
#include "test.h"

static const struct subject *const subjects[] = {
    &subject_basics,  &subject_files,     &subject_names,   &subject_space,    &subject_time,
    &subject_cancel,  &subject_chains,    &subject_order,   &subject_poll,     &subject_work,
    &subject_threads, &subject_hosting,   &subject_closing, &subject_fork,     &subject_trace,
    &subject_signals, &subject_sigwait,   &subject_limits,  &subject_refusal,  &subject_fault,
    &subject_cost,    &subject_register,  &subject_slots,   &subject_corners,  &subject_edges,
    &subject_changes, &subject_sockets,   &subject_sendq,   &subject_zerocopy, &subject_resolve,
    &subject_streams, &subject_datagrams, &subject_flow,    &subject_ready,    &subject_direct,
    &subject_kaio,    &subject_posixaio,  &subject_network, &subject_trouble,  &subject_disk,
    &subject_parts,   &subject_sqpoll,    &subject_slotted, &subject_entries,
};
#define SUBJECTS (sizeof subjects / sizeof *subjects)

enum { JOBS_MAX = 16, ENGINES_MAX = 8, FILTERS_MAX = 32 };

static struct {
    bool full, list, pitfalls, faults, all_engines;
    const char *engines[ENGINES_MAX]; /* NULL: automatic, under --blocked */
    unsigned engine_count;
    const char *filters[FILTERS_MAX], *except[FILTERS_MAX];
    unsigned filter_count, except_count;
    const char *row, *state, *skips;
    unsigned jobs, repeat;
    int blocked; /* errno, BLOCK_KILL, 0: no */
    FILE *state_file;
    char *done; /* what the state file had */
} options;

struct job {
    pid_t pid; /* 0: free */
    int output;
    struct test_name {
        char text[256];
    } name;
    char dir[96];
    uint64_t started, limit; /* ns */
    bool killed;
    unsigned engine;
};
static struct job jobs[JOBS_MAX];

static struct {
    unsigned number, failed, skipped, per_engine[ENGINES_MAX];
    bool hushed; /* the self-test counts failures and prints its own results */
} counts;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static const char *engine_word(unsigned engine)
{
    return options.engines[engine] ? options.engines[engine] : "auto";
}

/* ---- TAP ----------------------------------------------------------------------------------- */

static void result(bool ok, const char *name, const char *skip)
{
    if (!counts.hushed)
        printf("%sok %u - %s%s%s\n", ok ? "" : "not ", ++counts.number, name,
               skip ? " # SKIP " : "", skip ? skip : "");
    counts.failed += !ok;
    counts.skipped += skip != NULL;
    fflush(stdout);
}

static void print_output(int fd)
{
    FILE *file = fdopen(dup(fd), "r");
    char line[512];

    if (!file)
        return;
    rewind(file);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        printf("# %s\n", line);
    }
    fclose(file);
}

/* ---- A process for each case --------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

_Noreturn static void run_child(struct test *t, int output)
{
    setpgid(0, 0);
    dup2(output, 1);
    dup2(output, 2);
    for (unsigned i = 0; i < options.jobs; i++)
        if (jobs[i].pid || jobs[i].output == output)
            close(jobs[i].output);
    signal(SIGPIPE, SIG_DFL); /* S14: raised by the library, it shall kill */
    if (options.blocked)
        block_io_uring(BLOCK_ALL, options.blocked);
    run_case(t);
    exit(0);
}

static void judge_job(struct job *job, int status)
{
    char name[300];
    bool ok = !job->killed && WIFEXITED(status) && WEXITSTATUS(status) == 0;

    /* What a test left running must not disturb the next one. */
    kill(-job->pid, SIGKILL);
    snprintf(name, sizeof name, "%s", job->name.text);
    result(ok, name, NULL);
    if (!ok) {
        print_output(job->output);
        if (job->killed)
            printf("# killed after its time\n");
        else if (WIFSIGNALED(status))
            printf("# signal %d: %s\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
        else
            printf("# exit %d\n", WEXITSTATUS(status));
        fflush(stdout);
    } else if (options.state_file) {
        fprintf(options.state_file, "%s\n", name);
        fflush(options.state_file);
    }
    counts.per_engine[job->engine]++;
    close(job->output);
    nftw(job->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    job->pid = 0;
}

/* Judges what has ended and kills what is late; waits for a free place (or for all to end). */
static void tend(bool all)
{
    for (;;) {
        unsigned running = 0, ended = 0;

        for (unsigned i = 0; i < options.jobs; i++) {
            struct job *job = &jobs[i];
            int status;

            if (!job->pid)
                continue;
            if (waitpid(job->pid, &status, WNOHANG) == job->pid) {
                judge_job(job, status);
                ended++;
            } else {
                running++;
                if (!job->killed && now_ns() - job->started > job->limit) {
                    job->killed = true;
                    kill(-job->pid, SIGKILL);
                }
            }
        }
        if (all ? !running : running < options.jobs)
            return;
        if (!ended) { /* the pause ends early by SIGCHLD */
            sigset_t none;
            struct timespec pause = { .tv_nsec = 20000000 };

            sigemptyset(&none);
            ppoll(NULL, 0, &pause, &none);
        }
    }
}

static struct job *free_job(void)
{
    tend(false);
    for (unsigned i = 0; i < options.jobs; i++)
        if (!jobs[i].pid)
            return &jobs[i];
    return NULL;
}

static void on_child(int signo)
{
    (void)signo;
}

static void start_case(const struct test_case *what, unsigned engine,
                       const unsigned row[AXIS_COUNT], const char *name)
{
    struct job *job = free_job();
    const char *base = getenv("TMPDIR");
    static struct test t;
    sigset_t none;

    memset(&t, 0, sizeof t);
    t.what = what;
    t.engine = options.engines[engine];
    t.mode = (enum mode)row[AXIS_MODE];
    t.style = (enum style)row[AXIS_STYLE];
    t.fdmode = (enum fdmode)row[AXIS_FD];
    t.mask = (enum mask)row[AXIS_MASK];
    if (!job)
        abort(); /* the caller has waited for a free one */
    snprintf(job->name.text, sizeof job->name.text, "%s", name);
    snprintf(job->dir, sizeof job->dir, "%.60s/ouro-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(job->dir)) {
        printf("Bail out! no directory %s\n", job->dir);
        exit(1);
    }
    memcpy(t.dir, job->dir, sizeof t.dir);
    job->output = memfd_create("output", MFD_CLOEXEC);
    job->engine = engine;
    job->killed = false;
    job->started = now_ns();
    job->limit = seconds_scaled(what->seconds ? what->seconds : 10) * 1000000000ull;
    fflush(NULL);
    job->pid = fork();
    if (job->pid == 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGCHLD, SIG_DFL);
        run_child(&t, job->output);
    }
    setpgid(job->pid, job->pid);
}

/* ---- Which cases --------------------------------------------------------------------------- */

/* Does `name` (engine/subject/test) begin with the filter's parts? `*` stands for any part. */
static bool matches(const char *filter, const char *name)
{
    while (*filter) {
        size_t f = strcspn(filter, "/"), n = strcspn(name, "/");

        if (!(f == 1 && *filter == '*') && (f != n || strncmp(filter, name, n) != 0))
            return false;
        filter += f + (filter[f] == '/');
        name += n + (name[n] == '/');
        if (*filter && !*name)
            return false;
    }
    return true;
}

static bool wanted(const char *name)
{
    for (unsigned i = 0; i < options.except_count; i++)
        if (matches(options.except[i], name))
            return false;
    if (!options.filter_count)
        return true;
    for (unsigned i = 0; i < options.filter_count; i++)
        if (matches(options.filters[i], name))
            return true;
    return false;
}

/* Does `name` stand in the list, whose entries have `between` between them? */
static bool listed(const char *list, const char *name, char between)
{
    size_t len = strlen(name);

    for (const char *at = list; at && (at = strstr(at, name)); at += len)
        if ((at == list || at[-1] == between) && (at[len] == between || !at[len]))
            return true;
    return false;
}

static void run_row(const struct test_case *what, unsigned engine, const char *name,
                    const unsigned row[AXIS_COUNT])
{
    char words[128], full[300];

    row_words(row, words, sizeof words);
    if (options.row && !listed(options.row, words, ','))
        return;
    for (unsigned i = 0; i < options.repeat; i++) {
        snprintf(full, sizeof full, "%s %s", name, words);
        if (options.repeat > 1)
            snprintf(full + strlen(full), sizeof full - strlen(full), " %u", i + 1);
        if (options.list)
            printf("%s\n", full);
        else if (!listed(options.done, full, '\n'))
            start_case(what, engine, row, full);
    }
}

/* The one that a test is about; NULL: none. */
static const char *needed_engine(const struct test_case *what)
{
    return what->needs & NEED_URING      ? "uring"
           : what->needs & NEED_KAIO     ? "kaio"
           : what->needs & NEED_POSIXAIO ? "posixaio"
                                         : NULL;
}

/* What is no direct file kaio does as epoll does, by the same code, and quick runs with io_uring
 * refused are runs on kaio. What is no file posixaio does as threads does. */
static bool is_twin(const struct subject *subject, unsigned engine)
{
    const char *name = engine_word(engine);

    if (!options.all_engines || options.filter_count || subject == &subject_direct)
        return false;
    if (strcmp(name, "kaio") == 0)
        return subject != &subject_kaio;
    return strcmp(name, "posixaio") == 0 && subject != &subject_posixaio &&
           subject != &subject_files && subject != &subject_order && subject != &subject_disk;
}

/* What a process may have or not, whatever the engine. */
static const struct {
    unsigned need;
    const char *word;
    bool (*allowed)(void);
} privileges[] = {
    { NEED_NAMESPACES, "namespaces", namespaces_allowed },
    { NEED_DISK, "fuse", disk_allowed },
};
#define PRIVILEGES (sizeof privileges / sizeof *privileges)

static bool is_allowed(size_t which)
{
    static int answers[PRIVILEGES]; /* 1: yes, -1: no */

    if (!answers[which])
        answers[which] = privileges[which].allowed() ? 1 : -1;
    return answers[which] > 0;
}

static void run_test(const struct subject *subject, const struct test_case *what, unsigned engine,
                     unsigned index)
{
    char name[160], skip[300];
    const char *needed;
    struct rows rows;

    snprintf(name, sizeof name, "%s/%s/%s", engine_word(engine), subject->name, what->name);
    if (!wanted(name))
        return;
    needed = needed_engine(what);
    if (needed && !(options.engines[engine] && strcmp(options.engines[engine], needed) == 0)) {
        if (!options.list && !options.row) {
            snprintf(skip, sizeof skip, "engine=%s", engine_word(engine));
            result(true, name, skip);
        }
        return;
    }
    for (size_t i = 0; i < PRIVILEGES && !options.list; i++)
        if (what->needs & privileges[i].need && !is_allowed(i)) {
            snprintf(skip, sizeof skip, "%s=none", privileges[i].word);
            result(true, name, skip);
            return;
        }
    for (unsigned axis = 0; axis < AXIS_COUNT && !options.list && !options.row; axis++)
        for (unsigned value = 0; value < axis_sizes[axis]; value++)
            if (!axis_allows(what, axis, value)) {
                snprintf(skip, sizeof skip, "%s=%s", axis_names[axis], value_word(axis, value));
                result(true, name, skip);
            }
    rows_for(what, options.full || options.row, &rows);
    /* In brief are three rows, others each time we add a test before it. */
    if ((what->heavy || is_twin(subject, engine)) && !options.full && !options.row)
        rows_shorten(&rows, index);
    for (unsigned i = 0; i < rows.count; i++)
        run_row(what, engine, name, rows.at[i]);
}

static void run_all(void)
{
    for (unsigned engine = 0; engine < options.engine_count; engine++) {
        unsigned index = 0;

        for (unsigned s = 0; s < SUBJECTS; s++)
            for (const struct test_case *what = subjects[s]->cases; what->name; what++)
                run_test(subjects[s], what, engine, index++);
    }
    tend(true);
}

/* ---- Other ways to be called --------------------------------------------------------------- */

/* Every skip that the table declares must be listed, every listed one must be declared. */
static void check_skips(void)
{
    struct skips list;
    bool ok = skips_read(&list, options.skips);

    for (unsigned s = 0; s < SUBJECTS; s++)
        for (const struct test_case *what = subjects[s]->cases; what->name; what++) {
            for (unsigned axis = 0; axis < AXIS_COUNT; axis++)
                for (unsigned value = 0; value < axis_sizes[axis]; value++)
                    if (!axis_allows(what, axis, value))
                        ok &= skips_use(&list, subjects[s]->name, what->name, axis_names[axis],
                                        value_word(axis, value));
            for (unsigned i = 0; needed_engine(what) && ouro_engine_list(i); i++)
                if (strcmp(ouro_engine_list(i), needed_engine(what)) != 0)
                    ok &= skips_use(&list, subjects[s]->name, what->name, "engine",
                                    ouro_engine_list(i));
            for (size_t i = 0; i < PRIVILEGES; i++)
                if (what->needs & privileges[i].need)
                    ok &=
                        skips_use(&list, subjects[s]->name, what->name, privileges[i].word, "none");
        }
    ok &= skips_all_used(&list);
    result(ok, "every skip is listed, every listed skip happens", NULL);
}

static bool always_has_modes(const struct test_case *what)
{
    struct rows all, few;
    bool ok;

    rows_for(what, false, &all);
    ok = rows_have_modes(what, &all);
    for (unsigned turn = 0; turn < all.count && ok; turn++) {
        few = all;
        rows_shorten(&few, turn);
        ok = rows_have_modes(what, &few);
    }
    return ok;
}

/* However few rows a test gets, and whichever. */
static void check_modes(void)
{
    bool ok = true;

    for (unsigned s = 0; s < SUBJECTS; s++)
        for (const struct test_case *what = subjects[s]->cases; what->name; what++)
            if (!always_has_modes(what)) {
                printf("# not in all of its modes: %s/%s\n", subjects[s]->name, what->name);
                ok = false;
            }
    result(ok, "the rows of each test have all of its modes", NULL);
}

/* Which tests prove which rows of the list of pitfalls, or make which of that of faults. */
static int print_rows(void)
{
    for (unsigned s = 0; s < SUBJECTS; s++)
        for (const struct test_case *what = subjects[s]->cases; what->name; what++) {
            const char *list = options.faults ? what->faults : what->pitfalls;
            char rows[128];

            if (!list)
                continue;
            snprintf(rows, sizeof rows, "%s", list);
            for (char *row = strtok(rows, " "); row; row = strtok(NULL, " "))
                printf("%s\t%s/%s\n", row, subjects[s]->name, what->name);
        }
    return 0;
}

/* The harness must see what is planted: each canary must make a healthy test fail. */
static int self_test(void)
{
    static const char *const names[] = {
        "a healthy test passes",       "a lost completion is seen", "a double completion is seen",
        "a leaked descriptor is seen", "a leaked thread is seen",   "leaked memory is seen"
    };
    static const unsigned row[AXIS_COUNT];
    unsigned bad = 0;

    for (int canary = 0; canary <= 5; canary++) {
        unsigned failed = 0;

        counts.failed = 0;
        counts.hushed = true;
        harness_canary = canary;
        for (unsigned engine = 0; engine < options.engine_count; engine++)
            start_case(&subject_basics.cases[0], engine, row, names[canary]);
        tend(true);
        failed = counts.failed;
        counts.hushed = false;
        result(failed == (canary ? options.engine_count : 0), names[canary], NULL);
        bad += failed != (canary ? options.engine_count : 0);
    }
    printf("1..%u\n", counts.number);
    return bad ? 1 : 0;
}

static void read_state(void)
{
    FILE *file = fopen(options.state, "r");
    size_t size = 0;

    if (file && getdelim(&options.done, &size, 0, file) < 0) {
        free(options.done);
        options.done = NULL;
    }
    if (file)
        fclose(file);
    options.state_file = fopen(options.state, "a");
}

static int usage(int code)
{
    fprintf(code ? stderr : stdout,
            "usage: run [--quick|--full] [--filter ENGINE/SUBJECT[/NAME]] [--engine NAME]...\n"
            "           [--except ENGINE/SUBJECT[/NAME]]... [--row mode+style+fd+mask[,...]]\n"
            "           [--jobs N] [--repeat N] [--state FILE]\n"
            "           [--blocked=eperm|enosys|kill] [--list] [--pitfalls] [--faults]\n"
            "           [--self-test] [--skips FILE] [ENGINE[/SUBJECT[/NAME]]]...\n"
            "`*` stands for any engine or subject.\n");
    return code;
}

static int parse_blocked(const char *word)
{
    if (strcmp(word, "eperm") == 0)
        return EPERM;
    if (strcmp(word, "enosys") == 0)
        return ENOSYS;
    return strcmp(word, "kill") == 0 ? BLOCK_KILL : 0;
}

static int parse(int argc, char **argv, bool *self)
{
    static const struct option table[] = {
        { "quick", 0, NULL, 'q' },  { "full", 0, NULL, 'f' },     { "filter", 1, NULL, 'F' },
        { "engine", 1, NULL, 'e' }, { "row", 1, NULL, 'r' },      { "jobs", 1, NULL, 'j' },
        { "repeat", 1, NULL, 'n' }, { "state", 1, NULL, 's' },    { "blocked", 1, NULL, 'b' },
        { "list", 0, NULL, 'l' },   { "pitfalls", 0, NULL, 'p' }, { "self-test", 0, NULL, 't' },
        { "skips", 1, NULL, 'k' },  { "help", 0, NULL, 'h' },     { "except", 1, NULL, 'x' },
        { "faults", 0, NULL, 'a' }, { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == 'f')
            options.full = true;
        else if (c == 'F' && options.filter_count < FILTERS_MAX)
            options.filters[options.filter_count++] = optarg;
        else if (c == 'x' && options.except_count < FILTERS_MAX)
            options.except[options.except_count++] = optarg;
        else if (c == 'e' && options.engine_count < ENGINES_MAX)
            options.engines[options.engine_count++] = optarg;
        else if (c == 'r')
            options.row = optarg;
        else if (c == 'j')
            options.jobs = (unsigned)atoi(optarg);
        else if (c == 'n')
            options.repeat = (unsigned)atoi(optarg);
        else if (c == 's')
            options.state = optarg;
        else if (c == 'b' && parse_blocked(optarg))
            options.blocked = parse_blocked(optarg);
        else if (c == 'k')
            options.skips = optarg;
        else if (c == 'l' || c == 't')
            *(c == 'l' ? &options.list : self) = true;
        else if (c == 'p' || c == 'a')
            *(c == 'p' ? &options.pitfalls : &options.faults) = true;
        else if (c == 'h')
            exit(usage(0));
        else if (c != 'q')
            return -EINVAL;
    }
    for (; optind < argc && options.filter_count < FILTERS_MAX; optind++)
        options.filters[options.filter_count++] = argv[optind];
    return 0;
}

static void choose_engines(void)
{
    char why[512];
    const char *name;

    if (options.blocked) {
        options.engines[0] = NULL;
        options.engine_count = 1;
        return;
    }
    if (options.engine_count)
        return;
    options.all_engines = true;
    for (unsigned i = 0; (name = ouro_engine_list(i)) && i < ENGINES_MAX; i++) {
        int r = ouro_probe(name, why, sizeof why, NULL);

        if (r < 0 && !options.list) {
            char text[600];

            snprintf(text, sizeof text, "engine %s can be had: %s", name, why);
            result(false, text, NULL);
        } else {
            options.engines[options.engine_count++] = name;
        }
    }
}

static int finish_run(uint64_t start)
{
    printf("1..%u\n", counts.number);
    for (unsigned i = 0; i < options.engine_count; i++)
        printf("# %s: %u cases\n", engine_word(i), counts.per_engine[i]);
    printf("# %u failed, %u skips, all listed, %.1f s\n", counts.failed, counts.skipped,
           (double)(now_ns() - start) / 1e9);
    return counts.failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    bool self = false;
    uint64_t start = now_ns();
    struct sigaction on_chld = { .sa_handler = on_child };
    sigset_t chld;

    if (argc > 1 && strcmp(argv[1], "--exec-child") == 0)
        return count_fds() == atol(argv[2]) ? 0 : 1; /* R1: t_fork.c */
    options.jobs = 10; /* most of them sleep: a ring takes the kernel 30 ms to close */
    options.repeat = 1;
    options.skips = SKIPS_FILE;
    if (parse(argc, argv, &self) < 0 || !options.jobs || options.jobs > JOBS_MAX)
        return usage(2);
    if (options.pitfalls || options.faults)
        return print_rows();
    unsetenv("OURO_ENGINE");
    sigaction(SIGCHLD, &on_chld, NULL);
    sigemptyset(&chld); /* taken in tend's pause only */
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    choose_engines();
    if (self)
        return self_test();
    if (options.state)
        read_state();
    if (!options.list && !options.filter_count && !options.row) {
        check_skips();
        check_modes();
    }
    run_all();
    return options.list ? 0 : finish_run(start);
}

/* SPDX-License-Identifier: MIT */
/* `ouro bench`: does the same work with every way of doing I/O, side by side, and says how they
 * compare. This file reads the options, picks the contenders and holds the order of events; the
 * work is in bench_data.c, the turns in bench_rounds.c, the output in bench_report.c, and each way
 * of doing the work in a contender_*.c. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *opt_contenders, *opt_depth, *opt_dir, *opt_file, *opt_html;
static unsigned opt_rounds = 21, opt_count = 1000;
static uint64_t opt_size = 4096, opt_block = 4096, opt_file_size;
static double opt_seconds;
static bool opt_aa, opt_warm, opt_cold, opt_direct, opt_buffered;

static const struct cli_option options[] = {
    { .name = "contenders",
      .kind = CLI_TEXT,
      .into = &opt_contenders,
      .value = "A,B",
      .words = "@contender",
      .help = "who takes part, and in which order (default: all that run here)" },
    { .name = "rounds",
      .kind = CLI_COUNT,
      .into = &opt_rounds,
      .value = "N",
      .min = 3,
      .max = ROUNDS_MAX,
      .help = "rounds of each contender (default 21)" },
    { .name = "seconds",
      .kind = CLI_SECONDS,
      .into = &opt_seconds,
      .value = "S",
      .help = "time of each contender, all rounds (default: nop 2, files 1, random 4)" },
    { .name = "depth",
      .kind = CLI_TEXT,
      .into = &opt_depth,
      .value = "N[,N...]",
      .help = "operations in flight, or nops per batch (default: nop 128, files 64, random 32)" },
    { .name = "aa",
      .kind = CLI_FLAG,
      .into = &opt_aa,
      .help = "measure one contender against itself too: what the method cannot tell apart" },
    { .name = "dir",
      .kind = CLI_TEXT,
      .into = &opt_dir,
      .value = "DIR",
      .words = "@dir",
      .help = "where the files are made (default $TMPDIR or /var/tmp)" },
    { .name = "count",
      .kind = CLI_COUNT,
      .into = &opt_count,
      .value = "N",
      .min = 1,
      .max = 1000000,
      .help = "files: how many (default 1000)" },
    { .name = "size",
      .kind = CLI_SIZE,
      .into = &opt_size,
      .value = "BYTES",
      .min = 1,
      .max = 64 << 20,
      .help = "files: size of each (default 4096)" },
    { .name = "cold",
      .kind = CLI_FLAG,
      .into = &opt_cold,
      .help = "drop the files from the page cache before each round (default)" },
    { .name = "warm", .kind = CLI_FLAG, .into = &opt_warm, .help = "leave them in the page cache" },
    { .name = "bs",
      .kind = CLI_SIZE,
      .into = &opt_block,
      .value = "BYTES",
      .min = 512,
      .max = 64 << 20,
      .help = "random: size of a read (default 4096)" },
    { .name = "file-size",
      .kind = CLI_SIZE,
      .into = &opt_file_size,
      .value = "BYTES",
      .help = "random: size of the file (default 512M; with --file, all of it)" },
    { .name = "file",
      .kind = CLI_TEXT,
      .into = &opt_file,
      .value = "PATH",
      .words = "@file",
      .help = "random: read this file or block device instead of making one" },
    { .name = "direct", .kind = CLI_FLAG, .into = &opt_direct, .help = "random: with O_DIRECT" },
    { .name = "buffered",
      .kind = CLI_FLAG,
      .into = &opt_buffered,
      .help = "random: through the page cache (default)" },
    { .name = "html",
      .kind = CLI_TEXT,
      .into = &opt_html,
      .value = "FILE",
      .words = "@file",
      .help = "also write a page with charts" },
    { 0 },
};

/* Everybody that could take part; the engines of ouro are added at run time. */
static struct contender known[CONTENDERS_MAX];
static unsigned known_count;

static void list_contenders(void)
{
    known[known_count++] = contender_blocking;
    known[known_count++] = contender_glibc_aio;
#ifdef HAVE_LIBAIO
    known[known_count++] = contender_libaio;
#endif
#ifdef HAVE_LIBURING
    known[known_count++] = contender_liburing;
#endif
    known_count += contender_ouro_list(known + known_count, CONTENDERS_MAX - known_count);
}

static int unknown_contender(const char *name, size_t length)
{
    char names[256] = "";
    size_t used = 0;

    if ((strncmp(name, "libaio", length) == 0 && length == 6) ||
        (strncmp(name, "liburing", length) == 0 && length == 8))
        return cli_usage_error("the contender '%.*s' is not built in: its library was missing",
                               (int)length, name);
    for (unsigned i = 0; i < known_count && used < sizeof(names); i++)
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
                                 known[i].name);
    return cli_usage_error("there is no contender '%.*s': choose from %s", (int)length, name,
                           names);
}

/* Those that --contenders names, in that order. */
static int pick_named(enum suite suite, const struct contender **ret, unsigned *ret_count)
{
    const char *at = opt_contenders;

    for (;;) {
        size_t length = strcspn(at, ",");
        const struct contender *found = NULL;

        for (unsigned i = 0; i < known_count && !found; i++)
            if (strncmp(known[i].name, at, length) == 0 && !known[i].name[length])
                found = &known[i];
        if (!found)
            return unknown_contender(at, length);
        if (!(found->suites & 1u << suite))
            return cli_usage_error("the contender %s cannot do suite %s", found->name,
                                   suite_name(suite));
        for (unsigned i = 0; i < *ret_count; i++)
            if (ret[i] == found)
                return cli_usage_error("the contender %s is named twice", found->name);
        ret[(*ret_count)++] = found;
        if (!at[length])
            return CLI_OK;
        at += length + 1;
    }
}

/* All that can do the suite and can be opened here; who cannot is told of, with the reason. */
static void pick_all(const struct job *job, const char *engine, const struct contender **ret,
                     unsigned *ret_count, struct absentee *absent, unsigned *ret_absent)
{
    for (unsigned i = 0; i < known_count; i++) {
        const struct contender *c = &known[i];
        struct absentee *a = &absent[*ret_absent];
        void *state;
        int r;

        if (!(c->suites & 1u << job->suite) ||
            (engine && c->engine && strcmp(c->engine, engine) != 0))
            continue;
        a->why[0] = 0;
        r = c->open(c, job, &state, a->why);
        if (r < 0) {
            a->name = c->name;
            if (!a->why[0])
                snprintf(a->why, sizeof(a->why), "%s", strerror(-r));
            cli_note("%s does not take part: %s", c->name, a->why);
            (*ret_absent)++;
            continue;
        }
        c->close(state);
        ret[(*ret_count)++] = c;
    }
}

static int read_depths(enum suite suite, unsigned *ret, unsigned *ret_count)
{
    static const char *const defaults[] = { "128", "64", "32" };
    const char *at = opt_depth ? opt_depth : defaults[suite];

    for (;;) {
        char *end;
        unsigned long depth = strtoul(at, &end, 10);

        if (*at < '0' || *at > '9' || (*end && *end != ',') || depth < 1 || depth > DEPTH_MAX)
            return cli_usage_error("--depth=%s: numbers from 1 to %d, divided by commas", opt_depth,
                                   DEPTH_MAX);
        if (*ret_count == DEPTHS_MAX)
            return cli_usage_error("--depth: at most %d depths", DEPTHS_MAX);
        ret[(*ret_count)++] = (unsigned)depth;
        if (!*end)
            return CLI_OK;
        at = end + 1;
    }
}

static int check_options(const struct cli_settings *set, enum suite suite)
{
    if (cli_check_engine(set) != CLI_OK)
        return CLI_USAGE;
    if (set->engine && opt_contenders)
        return cli_usage_error("--engine and --contenders exclude each other");
    if (opt_warm && opt_cold)
        return cli_usage_error("--warm and --cold exclude each other");
    if (opt_direct && opt_buffered)
        return cli_usage_error("--direct and --buffered exclude each other");
    if (opt_file && suite != SUITE_RANDOM)
        return cli_usage_error("--file belongs to suite random");
    if (opt_block % 512)
        return cli_usage_error("--bs must be a multiple of 512");
    if (opt_file_size && opt_file_size < opt_block)
        return cli_usage_error("--file-size must be at least one block (--bs)");
    return CLI_OK;
}

static int read_job(const char *name, struct job *ret_job, struct plan *ret_plan)
{
    static const double seconds[] = { 2, 1, 4 };
    const char *parent = getenv("TMPDIR");
    enum suite suite;

    for (suite = SUITE_NOP; suite <= SUITE_RANDOM; suite++)
        if (strcmp(name, suite_name(suite)) == 0)
            break;
    if (suite > SUITE_RANDOM)
        return cli_usage_error("there is no suite '%s': choose nop, files or random", name);
    *ret_job = (struct job){
        .suite = suite,
        .dir_fd = -1,
        .cold = !opt_warm,
        .count = opt_count,
        .size = opt_size,
        .path = opt_file,
        .file_size = opt_file_size || opt_file ? opt_file_size : (uint64_t)512 << 20,
        .block = opt_block,
        .direct = opt_direct,
        .parent = opt_dir             ? opt_dir
                  : parent && *parent ? parent
                                      : "/var/tmp",
    };
    *ret_plan = (struct plan){
        .rounds = opt_rounds,
        .seconds = opt_seconds > 0 ? opt_seconds : seconds[suite],
    };
    return CLI_OK;
}

/* The page is written beside its place first: an earlier report survives a failed run. */
static FILE *open_page(char **ret_path)
{
    size_t room = strlen(opt_html) + sizeof(".partial");
    char *path = malloc(room);
    FILE *page;

    if (!path)
        return NULL;
    snprintf(path, room, "%s.partial", opt_html);
    page = fopen(path, "we");
    if (page)
        *ret_path = path;
    else
        free(path);
    return page;
}

static int close_page(FILE *page, char *path, int status)
{
    bool failed = ferror(page) != 0;

    if (fclose(page) != 0)
        failed = true;
    if (status == CLI_OK && !failed && rename(path, opt_html) < 0)
        failed = true;
    if (status == CLI_OK && failed) {
        cli_error("%s: %s", opt_html, strerror(errno));
        status = CLI_FAILED;
    }
    if (status != CLI_OK)
        unlink(path);
    free(path);
    return status;
}

/* Everybody's turn at every depth. */
static int measure(struct job *job, const struct plan *plan, const unsigned *depths,
                   unsigned depth_count, const struct contender *const *picked, unsigned count,
                   struct run *runs)
{
    int status = CLI_OK;

    for (unsigned d = 0; d < depth_count && status == CLI_OK; d++) {
        struct run *run = &runs[d];
        int twin_of;

        job->depth = depths[d];
        run->job = job;
        run->depth = depths[d];
        for (unsigned i = 0; i < count; i++)
            run->entries[run->count++].contender = picked[i];
        if (opt_aa) {
            twin_of = run_find(run, "liburing");
            twin_of = twin_of < 0 ? run_find(run, "blocking") : twin_of;
            twin_of = twin_of < 0 ? 0 : twin_of;
            run->entries[run->count++] = (struct entry){ .contender = picked[twin_of],
                                                         .twin = true,
                                                         .twin_of = (unsigned)twin_of };
        }
        status = run_measure(run, plan);
    }
    return status;
}

static int bench(const struct cli_settings *set, struct job *job, const struct plan *plan,
                 FILE *page)
{
    static struct run runs[DEPTHS_MAX];
    static struct absentee absent[CONTENDERS_MAX];
    const struct contender *picked[CONTENDERS_MAX];
    struct report report = { .job = job, .plan = plan, .runs = runs, .absent = absent };
    unsigned depths[DEPTHS_MAX] = { 0 }, count = 0;
    int status = read_depths(job->suite, depths, &report.count);

    if (status == CLI_OK && opt_contenders)
        status = pick_named(job->suite, picked, &count);
    if (status != CLI_OK)
        return status;
    status = job_make(job);
    if (status == CLI_OK && !opt_contenders) {
        job->depth = depths[0];
        pick_all(job, set->engine, picked, &count, absent, &report.absent_count);
    }
    if (status == CLI_OK && count == 0) {
        cli_error("no contender can do this here");
        status = CLI_FAILED;
    }
    if (status == CLI_OK)
        status = measure(job, plan, depths, report.count, picked, count, runs);
    if (status == CLI_OK) {
        if (set->json)
            report_json(&report, stdout);
        else
            report_table(&report, stdout, set->color);
        if (page)
            report_html(&report, page);
    }
    for (unsigned i = 0; i < report.count; i++)
        run_free(&runs[i]);
    return status;
}

static int run(const struct cli_settings *set, int argc, char **argv)
{
    struct job job;
    struct plan plan;
    FILE *page = NULL;
    char *page_path = NULL;
    int status;

    (void)argc;
    list_contenders();
    status = read_job(argv[0], &job, &plan);
    if (status == CLI_OK)
        status = check_options(set, job.suite);
    if (status != CLI_OK)
        return status;
    cli_catch_signals();
    if (opt_html && !(page = open_page(&page_path))) {
        cli_error("%s: %s", opt_html, strerror(errno));
        return CLI_FAILED;
    }
    status = bench(set, &job, &plan, page);
    job_clean(&job);
    if (page)
        status = close_page(page, page_path, status);
    return cli_signal ? CLI_INTERRUPTED : status;
}

const struct cli_command cli_bench = {
    .name = "bench",
    .summary = "Compare the ways of doing I/O on this machine.",
    .operands = "SUITE",
    .operand_words = "nop files random",
    .operands_min = 1,
    .operands_max = 1,
    .options = options,
    .run = run,
    .details = "Suites:\n"
               "  nop     operations that do nothing, in batches: the cost of the interface\n"
               "  files   open, read and close of many small files\n"
               "  random  random reads of one file\n\n"
               "Contenders: blocking, glibc-aio, libaio, liburing, and ouro:ENGINE for each\n"
               "engine. They take turns, round by round. A round during which other processes\n"
               "used more than 10 % of a core is thrown away, counted and repeated up to twice.\n"
               "Ratios are of paired rounds: the median and its 95 % bootstrap interval. All\n"
               "data is verified, except that of --file.\n",
};

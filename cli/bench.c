/* SPDX-License-Identifier: MIT */
/* `ouro bench`: does the same work with every way of doing I/O, side by side, and says how they
 * compare. This file reads the options, picks the contenders and holds the order of events; the
 * work is in bench_data.c, the turns in bench_rounds.c, the output in bench_report.c, and each way
 * of doing the work in a contender_*.c. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096 }; /* --bs by default */

#define SUITE_WORDS "nop files random echo notify aio-scale"

static const char *opt_contenders, *opt_depth, *opt_dir, *opt_file, *opt_html;
static const char *opt_connections, *opt_size, *opt_ways;
static unsigned opt_rounds = 21, opt_count;
static uint64_t opt_block, opt_file_size;
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
      .help = "time of each contender, all rounds (default: nop 2, files 1, random 4, "
              "echo 2, notify 1)" },
    { .name = "depth",
      .kind = CLI_TEXT,
      .into = &opt_depth,
      .value = "N[,N...]",
      .help = "operations in flight, or nops per batch (default: nop 128, files 64, random 32, "
              "notify 1,32)" },
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
      .help = "files: how many (default 1000); aio-scale: requests (default 100000)" },
    { .name = "size",
      .kind = CLI_TEXT,
      .into = &opt_size,
      .value = "BYTES[,...]",
      .help = "files: size of each (default 4096); echo: of a request (default "
              "64,512,1024,16384)" },
    { .name = "connections",
      .kind = CLI_TEXT,
      .into = &opt_connections,
      .value = "N[,N...]",
      .help = "echo: connections, each with one request in flight (default 1,50,500,1000,10000)" },
    { .name = "ways",
      .kind = CLI_TEXT,
      .into = &opt_ways,
      .value = "WAY[,WAY...]",
      .words = "none signal thread",
      .help = "notify: how a request's end is told (default none,signal,thread)" },
    { .name = "cold",
      .kind = CLI_FLAG,
      .into = &opt_cold,
      .help = "drop the files from the page cache before each round (default, but for notify)" },
    { .name = "warm", .kind = CLI_FLAG, .into = &opt_warm, .help = "leave them in the page cache" },
    { .name = "bs",
      .kind = CLI_SIZE,
      .into = &opt_block,
      .value = "BYTES",
      .min = 512,
      .max = 64 << 20,
      .help = "random, notify: size of a read (default 4096)" },
    { .name = "file-size",
      .kind = CLI_SIZE,
      .into = &opt_file_size,
      .value = "BYTES",
      .help = "random, notify: size of the file (default 512M and 64M; with --file, all)" },
    { .name = "file",
      .kind = CLI_TEXT,
      .into = &opt_file,
      .value = "PATH",
      .words = "@file",
      .help = "random, notify: read this file or block device instead of making one" },
    { .name = "direct",
      .kind = CLI_FLAG,
      .into = &opt_direct,
      .help = "random, notify: with O_DIRECT" },
    { .name = "buffered",
      .kind = CLI_FLAG,
      .into = &opt_buffered,
      .help = "random, notify: through the page cache (default)" },
    { .name = "html",
      .kind = CLI_TEXT,
      .into = &opt_html,
      .value = "FILE",
      .words = "@file",
      .help = "also write a page with charts" },
    { 0 },
};

/* Everybody that could take part in the suite. */
static struct contender known[CONTENDERS_MAX];
static unsigned known_count;

static int unknown_contender(const char *name, size_t length)
{
    char names[256] = "";
    size_t used = 0;

    static const char *const libraries[] = { "libaio", "libevent", "liburing", "libuv" };

    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
        if (strncmp(libraries[i], name, length) == 0 && !libraries[i][length])
            return cli_usage_error("the contender '%s' does not do this suite, or is not built in "
                                   "because its library was missing",
                                   libraries[i]);
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
                                   suites[suite].name);
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

/* Numbers divided by commas; sizes may have a suffix. */
static int read_list(const char *option, const char *text, uint64_t max, bool sizes, uint64_t *ret,
                     unsigned *ret_count, unsigned count_max)
{
    const char *at = text;

    for (;;) {
        size_t length = strcspn(at, ",");
        char word[32];
        int r = length < sizeof(word) ? 0 : -EINVAL;

        snprintf(word, sizeof(word), "%.*s", (int)length, at);
        if (*ret_count == count_max)
            return cli_usage_error("--%s: at most %u of them", option, count_max);
        if (r == 0 && !sizes && strspn(word, "0123456789") != length)
            r = -EINVAL;
        if (r == 0)
            r = cli_parse_size(word, &ret[*ret_count]);
        if (r < 0 || ret[*ret_count] < 1 || ret[*ret_count] > max)
            return cli_usage_error("--%s=%s: %s from 1 to %llu, divided by commas", option, text,
                                   sizes ? "sizes" : "numbers", (unsigned long long)max);
        ++*ret_count;
        if (!at[length])
            return CLI_OK;
        at += length + 1;
    }
}

/* Everything that is measured one after the other: each depth, in suite echo with each size, in
 * suite notify with each way. */
struct points {
    uint64_t depths[DEPTHS_MAX], sizes[SIZES_MAX];
    enum way ways[WAYS];
    unsigned depth_count, size_count, way_count;
};

static unsigned count_points(const struct points *points)
{
    return points->depth_count * points->size_count * points->way_count;
}

static int read_ways(const char *text, enum way *ret, unsigned *ret_count)
{
    const char *at = text;

    for (;;) {
        size_t length = strcspn(at, ",");
        unsigned way = 0;

        while (way < WAYS && (strncmp(way_names[way], at, length) != 0 || way_names[way][length]))
            way++;
        if (way == WAYS || *ret_count == WAYS)
            return cli_usage_error("--ways=%s: none, signal and thread, divided by commas", text);
        ret[(*ret_count)++] = (enum way)way;
        if (!at[length])
            return CLI_OK;
        at += length + 1;
    }
}

static int read_points(enum suite suite, struct points *ret)
{
    bool echo = suite == SUITE_ECHO;
    const char *text = echo ? opt_connections : opt_depth;
    int status = read_list(echo ? "connections" : "depth", text ? text : suites[suite].depths,
                           echo ? CONNECTIONS_MAX : DEPTH_MAX, false, ret->depths,
                           &ret->depth_count, DEPTHS_MAX);

    if (status != CLI_OK)
        return status;
    status = read_list("size", opt_size ? opt_size : suites[suite].sizes, 64 << 20, true,
                       ret->sizes, &ret->size_count, echo ? SIZES_MAX : 1);
    if (status != CLI_OK)
        return status;
    return read_ways(opt_ways             ? opt_ways
                     : suites[suite].ways ? suites[suite].ways
                                          : "none",
                     ret->ways, &ret->way_count);
}

/* The first suites took many options that say nothing to them, and still do. */
#define FIRST (1u << SUITE_NOP | 1u << SUITE_FILES | 1u << SUITE_RANDOM | 1u << SUITE_ECHO)
#define BLOCKS (1u << SUITE_RANDOM | 1u << SUITE_NOTIFY)

static int check_belongs(enum suite suite)
{
    const struct {
        const char *option;
        bool given;
        unsigned suites;
    } options_of[] = {
        { "depth", opt_depth, FIRST - (1u << SUITE_ECHO) + (1u << SUITE_NOTIFY) },
        { "connections", opt_connections, 1u << SUITE_ECHO },
        { "ways", opt_ways, 1u << SUITE_NOTIFY },
        { "count", opt_count, FIRST | 1u << SUITE_SCALE },
        { "size", opt_size, FIRST },
        { "file", opt_file, BLOCKS },
        { "seconds", opt_seconds > 0, ~(1u << SUITE_SCALE) },
        { "dir", opt_dir, ~(1u << SUITE_SCALE) },
        { "bs", opt_block > 0, ~(1u << SUITE_SCALE) },
        { "file-size", opt_file_size > 0, ~(1u << SUITE_SCALE) },
        { "cold", opt_cold, ~(1u << SUITE_SCALE) },
        { "warm", opt_warm, ~(1u << SUITE_SCALE) },
        { "direct", opt_direct, ~(1u << SUITE_SCALE) },
        { "buffered", opt_buffered, ~(1u << SUITE_SCALE) },
    };

    for (size_t i = 0; i < sizeof(options_of) / sizeof(options_of[0]); i++)
        if (options_of[i].given && !(options_of[i].suites & 1u << suite))
            return cli_usage_error("--%s does not belong to suite %s", options_of[i].option,
                                   suites[suite].name);
    return CLI_OK;
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
    if (opt_block % 512)
        return cli_usage_error("--bs must be a multiple of 512");
    if (opt_file_size && opt_file_size < (opt_block ? opt_block : BLOCK))
        return cli_usage_error("--file-size must be at least one block (--bs)");
    if (suite == SUITE_SCALE && opt_count && opt_count < SCALE_COUNT_MIN)
        return cli_usage_error("--count must be at least %d in suite %s", SCALE_COUNT_MIN,
                               suites[suite].name);
    return check_belongs(suite);
}

static int read_job(const char *name, struct job *ret_job, struct plan *ret_plan)
{
    const struct suite_traits *traits;
    const char *parent = getenv("TMPDIR");
    enum suite suite;

    for (suite = SUITE_NOP; suite < SUITES; suite++)
        if (strcmp(name, suites[suite].name) == 0)
            break;
    if (suite == SUITES)
        return cli_usage_error("there is no suite '%s': choose one of " SUITE_WORDS, name);
    traits = &suites[suite];
    *ret_job = (struct job){
        .suite = suite,
        .reads = traits->reads,
        .dir_fd = -1,
        .cold = opt_cold || (!opt_warm && !traits->warm),
        .count = opt_count && traits->count ? opt_count : traits->count,
        .path = opt_file,
        .file_size = opt_file_size || opt_file ? opt_file_size : traits->file_size,
        .block = opt_block ? opt_block : BLOCK,
        .direct = opt_direct,
        .parent = opt_dir             ? opt_dir
                  : parent && *parent ? parent
                                      : "/var/tmp",
    };
    *ret_plan = (struct plan){
        .rounds = opt_rounds,
        .seconds = opt_seconds > 0 ? opt_seconds : traits->seconds,
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

/* Whom the A/A row measures again. */
static unsigned find_twin(const struct run *run)
{
    static const char *const names[] = { "liburing", "blocking", "epoll" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (run_find(run, names[i]) >= 0)
            return (unsigned)run_find(run, names[i]);
    return 0;
}

/* Everybody's turn at every point. */
static int measure(struct job *job, const struct plan *plan, const struct points *points,
                   const struct contender *const *picked, unsigned count, struct run *runs)
{
    int status = CLI_OK;

    for (unsigned i = 0; i < count_points(points) && status == CLI_OK; i++) {
        struct run *run = &runs[i];
        unsigned at = i / points->way_count;

        job->depth = (unsigned)points->depths[at / points->size_count];
        job->size = points->sizes[at % points->size_count];
        job->way = points->ways[i % points->way_count];
        run->job = job;
        run->depth = job->depth;
        run->size = job->size;
        run->way = job->way;
        for (unsigned c = 0; c < count; c++)
            run->entries[run->count++].contender = picked[c];
        if (opt_aa) {
            unsigned twin_of = find_twin(run);

            run->entries[run->count++] =
                (struct entry){ .contender = picked[twin_of], .twin = true, .twin_of = twin_of };
        }
        status = run_measure(run, plan);
    }
    return status;
}

/* What is wrong with an answer is an error of the row, and of the whole. */
static int count_errors(const struct report *report)
{
    uint64_t errors = 0;

    for (unsigned i = 0; i < report->count; i++)
        for (unsigned row = 0; row < report->runs[i].count; row++)
            errors += report->runs[i].entries[row].errors;
    if (errors == 0)
        return CLI_OK;
    cli_error("%llu requests failed", (unsigned long long)errors);
    return CLI_FAILED;
}

static int bench(const struct cli_settings *set, struct job *job, const struct plan *plan,
                 FILE *page)
{
    static struct run runs[DEPTHS_MAX * SIZES_MAX];
    static struct absentee absent[CONTENDERS_MAX];
    const struct contender *picked[CONTENDERS_MAX];
    struct report report = { .job = job, .plan = plan, .runs = runs, .absent = absent };
    struct points points = { 0 };
    unsigned count = 0;
    int status = read_points(job->suite, &points);

    if (status == CLI_OK && opt_contenders)
        status = pick_named(job->suite, picked, &count);
    if (status != CLI_OK)
        return status;
    report.count = count_points(&points);
    job->depth = (unsigned)points.depths[0];
    job->size = points.sizes[0];
    job->way = points.ways[0];
    status = job_make(job);
    if (status == CLI_OK && !opt_contenders) {
        pick_all(job, set->engine, picked, &count, absent, &report.absent_count);
    }
    if (status == CLI_OK && count == 0) {
        cli_error("no contender can do this here");
        status = CLI_FAILED;
    }
    if (status == CLI_OK)
        status = measure(job, plan, &points, picked, count, runs);
    if (status == CLI_OK) {
        if (set->json)
            report_json(&report, stdout);
        else
            report_table(&report, stdout, set->color);
        if (page)
            report_html(&report, page);
        status = count_errors(&report);
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
    status = read_job(argv[0], &job, &plan);
    if (status == CLI_OK)
        status = check_options(set, job.suite);
    if (status != CLI_OK)
        return status;
    known_count = suites[job.suite].list(known, CONTENDERS_MAX);
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
    .operand_words = SUITE_WORDS,
    .operands_min = 1,
    .operands_max = 1,
    .options = options,
    .run = run,
    .details = "Suites:\n"
               "  nop     operations that do nothing, in batches: the cost of the interface\n"
               "  files   open, read and close of many small files\n"
               "  random  random reads of one file\n"
               "  echo    a server and a load generator on two cores, over the loopback; judged\n"
               "          by the server's CPU time per request\n"
               "  notify  random reads whose end is told by nothing but a call that waits, by a\n"
               "          signal, or by a call on a thread\n"
               "  aio-scale\n"
               "          very many outstanding requests of POSIX AIO: submitting them, and\n"
               "          waiting for one of very many\n\n"
               "Contenders: blocking, glibc-aio, posixaio-dropin, libaio, libaio-dropin,\n"
               "liburing, and ouro:ENGINE for each engine; of echo: epoll, libuv, libevent,\n"
               "liburing and ouro:ENGINE; of notify: glibc-aio, posixaio-dropin and\n"
               "ouro:ENGINE; of aio-scale: glibc-aio and posixaio-dropin. They take turns,\n"
               "round by round. A\n"
               "round during which other processes used more than 10 % of a core is thrown\n"
               "away, counted and repeated up to twice. Ratios are of paired rounds: the median\n"
               "and its 95 % bootstrap interval. All data is verified, except that of --file.\n",
};

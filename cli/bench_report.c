/* SPDX-License-Identifier: MIT */
/* What `ouro bench` says in the end: a table for people, JSON (schema 1) for programs, a page with
 * charts. All three show the same rows and ratios. */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ouro.h"

enum { COLUMNS = 10 };

/* ---- facts about the machine ---- */

static const char *file_system_name(const struct job *job)
{
    static const struct {
        unsigned magic;
        const char *name;
    } names[] = {
        { 0xef53, "ext4" },         { 0x58465342, "xfs" },     { 0x9123683e, "btrfs" },
        { 0x01021994, "tmpfs" },    { 0x794c7630, "overlay" }, { 0x6969, "nfs" },
        { 0x2fc12fc1, "zfs" },      { 0xf2f52010, "f2fs" },    { 0x65735546, "fuse" },
        { 0xca451a4e, "bcachefs" },
    };
    struct statfs fs;

    if (job->suite == SUITE_NOP || job->suite == SUITE_ECHO)
        return NULL;
    if (statfs(job->suite == SUITE_RANDOM ? job->path : job->work_path, &fs) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((unsigned)fs.f_type == names[i].magic)
            return names[i].name;
    return "other";
}

static int cores_allowed(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : CPU_COUNT(&set);
}

static void describe_work(const struct report *report, char *ret, size_t size)
{
    const struct job *job = report->job;

    if (job->suite == SUITE_NOP)
        snprintf(ret, size, "nop: operations that do nothing, in batches");
    else if (job->suite == SUITE_ECHO)
        snprintf(ret, size,
                 "echo: one request in flight per connection, TCP over the loopback; server and "
                 "load %s",
                 cores_allowed() > 1 ? "each on a core of its own" : "on one core");
    else if (job->suite == SUITE_FILES)
        snprintf(ret, size,
                 "files: open, read and close of files of %llu bytes, %u of them, %s cache",
                 (unsigned long long)job->size, job->count, job->cold ? "cold" : "warm");
    else
        snprintf(ret, size, "random: reads of %llu bytes in a file of %llu MiB, %s%s",
                 (unsigned long long)job->block, (unsigned long long)(job->file_size >> 20),
                 job->direct ? "direct" : "buffered",
                 job->direct ? ""
                 : job->cold ? ", cold cache"
                             : ", warm cache");
}

static void describe_machine(const struct report *report, char *ret, size_t size)
{
    const char *fs = file_system_name(report->job);
    struct utsname name;

    uname(&name);
    snprintf(ret, size, "%s %s %s, %ld CPUs%s%s", name.sysname, name.release, name.machine,
             sysconf(_SC_NPROCESSORS_ONLN), fs ? ", " : "", fs ? fs : "");
}

static void row_name(const struct entry *entry, char *ret, size_t size)
{
    snprintf(ret, size, "%s%s", entry->twin ? "A/A " : "", entry->contender->name);
}

static double sum(const double *values, unsigned count)
{
    double total = 0;

    for (unsigned i = 0; i < count; i++)
        total += values[i];
    return total;
}

/* ---- the table ---- */

static void cell_number(struct table *table, double value)
{
    char text[32];

    chart_number(text, sizeof(text), value);
    table_cell(table, "%s", text);
}

static void format_ns(char *ret, size_t size, double ns)
{
    if (ns < 1e4)
        snprintf(ret, size, "%.0f ns", ns);
    else if (ns < 1e7)
        snprintf(ret, size, "%.*f us", ns < 1e5 ? 1 : 0, ns / 1e3);
    else
        snprintf(ret, size, "%.1f ms", ns / 1e6);
}

static void cell_ns(struct table *table, double ns)
{
    char text[32];

    format_ns(text, sizeof(text), ns);
    table_cell(table, "%s", text);
}

static void cell_ratio(struct table *table, const struct run *run, unsigned row, const char *base)
{
    int other = run_find(run, base);
    struct interval ratio = run_ratio(run, row, other);

    if (other < 0)
        table_cell(table, "-");
    else if (other == (int)row)
        table_cell(table, "1");
    else
        table_cell(table, "%.2f [%.2f, %.2f]", ratio.middle, ratio.low, ratio.high);
}

static void table_row(struct table *table, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);
    char name[64], low[32], high[32];
    double operations = (double)entry->operations;

    row_name(entry, name, sizeof(name));
    chart_number(low, sizeof(low), rate.low);
    chart_number(high, sizeof(high), rate.high);
    table_cell(table, "%s", name);
    cell_number(table, rate.middle);
    table_cell(table, "%s .. %s", low, high);
    cell_ns(table, 1e9 / rate.middle);
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.5));
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.99));
    table_cell(table, "%.2f", sum(entry->cpu, run->rounds));
    cell_ns(table, operations > 0 ? sum(entry->cpu, run->rounds) * 1e9 / operations : 0);
    cell_ratio(table, run, row, "blocking");
    cell_ratio(table, run, row, "liburing");
}

static void cell_bytes(struct table *table, double bytes)
{
    if (bytes < 10 * 1024)
        table_cell(table, "%.0f B", bytes);
    else
        table_cell(table, "%.0f KiB", bytes / 1024);
}

static void table_row_echo(struct table *table, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);
    char name[64], low[32], high[32];

    row_name(entry, name, sizeof(name));
    chart_number(low, sizeof(low), rate.low);
    chart_number(high, sizeof(high), rate.high);
    table_cell(table, "%s", name);
    cell_number(table, rate.middle);
    table_cell(table, "%s .. %s", low, high);
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.5));
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.99));
    table_cell(table, "%.2f us", stats_median(entry->costs, run->rounds));
    cell_bytes(table, entry->memory);
    table_cell(table, "%llu", (unsigned long long)entry->errors);
    cell_ratio(table, run, row, "epoll");
    cell_ratio(table, run, row, "liburing");
}

static void fill_table_echo(struct table *table, const struct run *run)
{
    static const char *const titles[COLUMNS] = { "contender",
                                                 "req/s",
                                                 "range",
                                                 "p50",
                                                 "p99",
                                                 "CPU/req",
                                                 "RSS/conn",
                                                 "errors",
                                                 "CPU x epoll [95 %]",
                                                 "CPU x liburing [95 %]" };

    for (unsigned i = 0; i < COLUMNS; i++)
        table_cell(table, "%s", titles[i]);
    for (unsigned i = 0; i < run->count; i++)
        table_row_echo(table, run, i);
}

static void fill_table(struct table *table, const struct run *run)
{
    static const char *const titles[COLUMNS] = { "contender",
                                                 "ops/s",
                                                 "range",
                                                 "per op",
                                                 "p50",
                                                 "p99",
                                                 "CPU s",
                                                 "CPU/op",
                                                 "x blocking [95 %]",
                                                 "x liburing [95 %]" };

    table_init(table, COLUMNS, "lrrrrrrrrr");
    if (run->job->suite == SUITE_ECHO) {
        fill_table_echo(table, run);
        return;
    }
    for (unsigned i = 0; i < COLUMNS; i++)
        table_cell(table, "%s", titles[i]);
    for (unsigned i = 0; i < run->count; i++)
        table_row(table, run, i);
}

static void count_disturbed(const struct run *run, unsigned *ret_discarded, unsigned *ret_noisy)
{
    *ret_discarded = *ret_noisy = 0;
    for (unsigned i = 0; i < run->count; i++) {
        *ret_discarded += run->entries[i].discarded;
        *ret_noisy += run->entries[i].noisy;
    }
}

static void print_judgement(const struct run *run, FILE *out)
{
    unsigned discarded, noisy;

    count_disturbed(run, &discarded, &noisy);
    fprintf(out, "%u rounds each; %u discarded and repeated because other processes used the CPU",
            run->rounds, discarded);
    if (noisy)
        fprintf(out,
                ";\n%u of %u kept although disturbed: the machine is not quiet, judge with care",
                noisy, run->count * run->rounds);
    fputs(".\n", out);
    for (unsigned i = 0; i < run->count; i++) {
        const struct entry *entry = &run->entries[i];
        struct interval ratio;

        if (!entry->twin)
            continue;
        ratio = run_ratio(run, i, (int)entry->twin_of);
        fprintf(out,
                "A/A: %s against itself: %.3f [%.3f, %.3f]; less than that is no difference.\n",
                entry->contender->name, ratio.middle, ratio.low, ratio.high);
    }
}

void report_table(const struct report *report, FILE *out, bool color)
{
    char text[256];

    describe_work(report, text, sizeof(text));
    fprintf(out, "%s\n", text);
    describe_machine(report, text, sizeof(text));
    fprintf(out, "%s\n", text);
    for (unsigned i = 0; i < report->count; i++) {
        struct table table;
        char point[64];

        run_point(&report->runs[i], point, sizeof(point));
        fprintf(out, "\n%s\n", point);
        fill_table(&table, &report->runs[i]);
        table_print(&table, out, color);
        table_finish(&table);
        print_judgement(&report->runs[i], out);
    }
    fputc('\n', out);
    for (unsigned i = 0; i < report->runs[0].count; i++) {
        const struct entry *entry = &report->runs[0].entries[i];
        if (!entry->twin)
            fprintf(out, "  %-14s%s\n", entry->contender->name,
                    entry->contender->describe(entry->contender, report->job));
    }
    for (unsigned i = 0; i < report->absent_count; i++)
        fprintf(out, "  %-14snot here: %s\n", report->absent[i].name, report->absent[i].why);
}

/* ---- JSON ---- */

static void json_ratio(struct json *json, const char *key, const struct run *run, unsigned row,
                       int base)
{
    struct interval ratio = run_ratio(run, row, base);

    if (base < 0) {
        json_null(json, key);
        return;
    }
    json_object(json, key);
    json_double(json, "ratio", ratio.middle);
    json_double(json, "low", ratio.low);
    json_double(json, "high", ratio.high);
    json_end(json);
}

static void json_numbers(struct json *json, const char *key, const double *values, unsigned count)
{
    json_array_compact(json, key);
    for (unsigned i = 0; i < count; i++)
        json_double(json, NULL, values[i]);
    json_end(json);
}

/* What only the rows of suite echo have, and under what names they have the rest. */
static void json_row_echo(struct json *json, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);

    json_uint(json, "connections", run->depth);
    json_uint(json, "size_bytes", run->size);
    json_double(json, "requests_per_second", rate.middle);
    json_double(json, "requests_per_second_min", rate.low);
    json_double(json, "requests_per_second_max", rate.high);
    json_double(json, "server_cpu_seconds_per_million_requests",
                stats_median(entry->costs, run->rounds));
    json_double(json, "server_rss_bytes_per_connection", entry->memory);
    json_double(json, "server_cpu_seconds", sum(entry->cpu, run->rounds));
    json_uint(json, "requests", entry->operations);
    json_uint(json, "errors", entry->errors);
    json_ratio(json, "cpu_ratio_to_epoll", run, row, run_find(run, "epoll"));
    json_ratio(json, "cpu_ratio_to_liburing", run, row, run_find(run, "liburing"));
    if (entry->twin)
        json_ratio(json, "cpu_ratio_to_itself", run, row, (int)entry->twin_of);
    json_numbers(json, "rounds_server_cpu_seconds_per_million_requests", entry->costs, run->rounds);
}

static void json_row_files(struct json *json, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);

    json_uint(json, "depth", run->depth);
    json_double(json, "ops_per_second", rate.middle);
    json_double(json, "ops_per_second_min", rate.low);
    json_double(json, "ops_per_second_max", rate.high);
    json_double(json, "cpu_seconds", sum(entry->cpu, run->rounds));
    json_uint(json, "operations", entry->operations);
    json_ratio(json, "ratio_to_blocking", run, row, run_find(run, "blocking"));
    json_ratio(json, "ratio_to_liburing", run, row, run_find(run, "liburing"));
    if (entry->twin)
        json_ratio(json, "ratio_to_itself", run, row, (int)entry->twin_of);
    json_numbers(json, "rounds_cpu_seconds", entry->cpu, run->rounds);
}

static void json_row(struct json *json, const struct report *report, const struct run *run,
                     unsigned row)
{
    const struct entry *entry = &run->entries[row];

    json_object(json, NULL);
    json_string(json, "contender", entry->contender->name);
    json_bool(json, "aa", entry->twin);
    json_string(json, "how", entry->contender->describe(entry->contender, report->job));
    if (report->job->suite == SUITE_ECHO)
        json_row_echo(json, run, row);
    else
        json_row_files(json, run, row);
    json_uint(json, "latency_ns_p50", histogram_quantile(entry->latency, 0.5));
    json_uint(json, "latency_ns_p99", histogram_quantile(entry->latency, 0.99));
    json_uint(json, "latency_ns_p999", histogram_quantile(entry->latency, 0.999));
    json_double(json, "wall_seconds", sum(entry->wall, run->rounds));
    json_double(json, "foreign_cpu_seconds", entry->foreign);
    json_uint(json, "rounds_discarded", entry->discarded);
    json_uint(json, "rounds_noisy", entry->noisy);
    json_numbers(json, "rounds", entry->rates, run->rounds);
    json_end(json);
}

static void json_machine(struct json *json, const struct job *job)
{
    struct utsname name;

    uname(&name);
    json_object(json, "machine");
    json_string(json, "system", name.sysname);
    json_string(json, "kernel", name.release);
    json_string(json, "architecture", name.machine);
    json_int(json, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
    json_string(json, "file_system", file_system_name(job));
    json_end(json);
}

static void json_options(struct json *json, const struct report *report)
{
    const struct job *job = report->job;

    json_object(json, "options");
    json_uint(json, "rounds", report->plan->rounds);
    json_double(json, "seconds", report->plan->seconds);
    if (job->suite == SUITE_FILES) {
        json_uint(json, "count", job->count);
        json_uint(json, "size_bytes", job->size);
    }
    if (job->suite == SUITE_RANDOM) {
        json_uint(json, "block_bytes", job->block);
        json_uint(json, "file_size_bytes", job->file_size);
        json_bool(json, "direct", job->direct);
    }
    if (job->suite == SUITE_FILES || job->suite == SUITE_RANDOM)
        json_bool(json, "cold", job->cold);
    json_end(json);
}

void report_json(const struct report *report, FILE *out)
{
    char version[32];
    struct json json;

    snprintf(version, sizeof(version), "%d.%d.%d", OURO_VERSION_MAJOR, OURO_VERSION_MINOR,
             OURO_VERSION_PATCH);
    json_init(&json, out);
    json_object(&json, NULL);
    json_int(&json, "schema", 1);
    json_string(&json, "suite", suite_name(report->job->suite));
    json_string(&json, "version", version);
    json_machine(&json, report->job);
    json_options(&json, report);
    json_array(&json, "rows");
    for (unsigned i = 0; i < report->count; i++)
        for (unsigned row = 0; row < report->runs[i].count; row++)
            json_row(&json, report, &report->runs[i], row);
    json_end(&json);
    json_array(&json, "absent");
    for (unsigned i = 0; i < report->absent_count; i++) {
        json_object(&json, NULL);
        json_string(&json, "contender", report->absent[i].name);
        json_string(&json, "why", report->absent[i].why);
        json_end(&json);
    }
    json_end(&json);
    json_end(&json);
}

/* ---- the page ---- */

static void html_table(const struct run *run, FILE *out)
{
    struct table table;

    fill_table(&table, run);
    fputs("<div class=\"wide\"><table>\n", out);
    for (size_t i = 0; i < table.count; i++) {
        const char *tag = i < COLUMNS ? "th" : "td";

        fprintf(out, "%s<%s>", i % COLUMNS ? "" : "<tr>", tag);
        chart_text(out, table.cells[i]);
        fprintf(out, "</%s>%s", tag, i % COLUMNS == COLUMNS - 1 ? "</tr>\n" : "");
    }
    fputs("</table></div>\n<p class=\"soft\">", out);
    print_judgement(run, out);
    fputs("</p>\n", out);
    table_finish(&table);
}

static void html_run(const struct run *run, FILE *out)
{
    struct chart_bar bars[CONTENDERS_MAX + 1];
    char names[CONTENDERS_MAX + 1][64], notes[CONTENDERS_MAX + 1][64];
    char point[64], title[128], about[128];
    const char *labels[CONTENDERS_MAX + 1];
    const double *values[CONTENDERS_MAX + 1];
    bool echo = run->job->suite == SUITE_ECHO;
    const char *base_name = echo ? "epoll" : "blocking";
    const char *unit = echo ? "microseconds of the server's CPU" : "operations per second";
    int base = run_find(run, base_name);

    for (unsigned i = 0; i < run->count; i++) {
        const struct entry *entry = &run->entries[i];
        struct interval ratio = run_ratio(run, i, base);

        row_name(entry, names[i], sizeof(names[i]));
        notes[i][0] = 0;
        if (base >= 0 && base != (int)i)
            snprintf(notes[i], sizeof(notes[i]), "%.2f x %s", ratio.middle, base_name);
        labels[i] = names[i];
        values[i] = run_judged(run, i);
        bars[i] = (struct chart_bar){
            .label = names[i],
            .value = stats_range(values[i], run->rounds),
            .note = notes[i],
            .series = i,
        };
    }
    run_point(run, point, sizeof(point));
    snprintf(title, sizeof(title), "%s at %s", echo ? "Cost of a request" : "Throughput", point);
    snprintf(about, sizeof(about), "%s: median and range of the rounds", unit);
    chart_bars(out, title, about, bars, run->count);
    html_table(run, out);
    snprintf(title, sizeof(title), "Round by round at %s", point);
    chart_rounds(out, title, unit, values, labels, run->count, run->rounds);
}

void report_html(const struct report *report, FILE *out)
{
    char text[256];

    describe_work(report, text, sizeof(text));
    chart_page_begin(out, text);
    describe_machine(report, text, sizeof(text));
    fputs("<p class=\"soft\">", out);
    chart_text(out, text);
    fputs("</p>\n", out);
    for (unsigned i = 0; i < report->count; i++)
        html_run(&report->runs[i], out);
    fputs("<h2>How each contender works</h2>\n<ul>\n", out);
    for (unsigned i = 0; i < report->runs[0].count; i++) {
        const struct entry *entry = &report->runs[0].entries[i];

        if (entry->twin)
            continue;
        fprintf(out, "<li>%s: ", entry->contender->name);
        chart_text(out, entry->contender->describe(entry->contender, report->job));
        fputs("</li>\n", out);
    }
    for (unsigned i = 0; i < report->absent_count; i++) {
        fprintf(out, "<li>%s is not here: ", report->absent[i].name);
        chart_text(out, report->absent[i].why);
        fputs("</li>\n", out);
    }
    fputs("</ul>\n", out);
    chart_page_end(out);
}

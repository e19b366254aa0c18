/* SPDX-License-Identifier: MIT */
/* What `ouro bench` says in the end: a table for people, JSON (schema 1) for programs, a page with
 * charts. All three show the same rows and ratios. */
#include "bench.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ouro.h"

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

    if (job->reads == READS_NOTHING)
        return NULL;
    if (statfs(job->reads == READS_BLOCKS ? job->path : job->work_path, &fs) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((unsigned)fs.f_type == names[i].magic)
            return names[i].name;
    return "other";
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

/* ---- the table ---- */

static void fill_table(struct table *table, const struct run *run)
{
    const struct suite_traits *suite = &suites[run->job->suite];
    const struct view *view = suite->view;
    unsigned columns = 1;

    while (columns <= TITLES_MAX && view->titles[columns - 1])
        columns++;
    for (unsigned i = 0; i < BASES; i++)
        columns += suite->bases[i] != NULL;
    table_init(table, columns, "lrrrrrrrrrrrr");
    table_cell(table, "contender");
    for (unsigned i = 0; i < TITLES_MAX && view->titles[i]; i++)
        table_cell(table, "%s", view->titles[i]);
    for (unsigned i = 0; i < BASES && suite->bases[i]; i++)
        table_cell(table, "%s %s [95 %%]", view->ratio, suite->bases[i]);
    for (unsigned row = 0; row < run->count; row++) {
        char name[64];

        row_name(&run->entries[row], name, sizeof(name));
        table_cell(table, "%s", name);
        view->cells(table, run, row);
        for (unsigned i = 0; i < BASES && suite->bases[i]; i++)
            cell_ratio(table, run, row, suite->bases[i]);
    }
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

    suites[report->job->suite].describe(report->job, text, sizeof(text));
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
            fprintf(out, "  %-16s%s\n", entry->contender->name,
                    entry->contender->describe(entry->contender, report->job));
    }
    for (unsigned i = 0; i < report->absent_count; i++)
        fprintf(out, "  %-16snot here: %s\n", report->absent[i].name, report->absent[i].why);
}

/* ---- JSON ---- */

static void json_row(struct json *json, const struct report *report, const struct run *run,
                     unsigned row)
{
    const struct entry *entry = &run->entries[row];

    json_object(json, NULL);
    json_string(json, "contender", entry->contender->name);
    json_bool(json, "aa", entry->twin);
    json_string(json, "how", entry->contender->describe(entry->contender, report->job));
    suites[report->job->suite].view->json(json, run, row);
    json_double(json, "wall_seconds", stats_sum(entry->wall, run->rounds));
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
    if (job->count)
        json_uint(json, "count", job->count);
    if (job->reads == READS_FILES)
        json_uint(json, "size_bytes", job->size);
    if (job->reads == READS_BLOCKS) {
        json_uint(json, "block_bytes", job->block);
        json_uint(json, "file_size_bytes", job->file_size);
        json_bool(json, "direct", job->direct);
    }
    if (job->reads != READS_NOTHING)
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
    json_string(&json, "suite", suites[report->job->suite].name);
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
    unsigned column = 0;

    fill_table(&table, run);
    fputs("<div class=\"wide\"><table>\n", out);
    for (size_t i = 0; i < table.count; i++) {
        const char *tag = i < table.columns ? "th" : "td";

        fprintf(out, "%s<%s>", column ? "" : "<tr>", tag);
        chart_text(out, table.cells[i]);
        fprintf(out, "</%s>%s", tag, column + 1 == table.columns ? "</tr>\n" : "");
        column = column + 1 == table.columns ? 0 : column + 1;
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
    const struct view *view = suites[run->job->suite].view;
    const char *base_name = suites[run->job->suite].bases[0];
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
    snprintf(title, sizeof(title), "%s at %s", view->chart, point);
    snprintf(about, sizeof(about), "%s: median and range of the rounds", view->unit);
    chart_bars(out, title, about, bars, run->count);
    html_table(run, out);
    snprintf(title, sizeof(title), "Round by round at %s", point);
    chart_rounds(out, title, view->unit, values, labels, run->count, run->rounds);
}

void report_html(const struct report *report, FILE *out)
{
    char text[256];

    suites[report->job->suite].describe(report->job, text, sizeof(text));
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

/* SPDX-License-Identifier: MIT */
/* What a row of `ouro bench` says, in the table and in JSON: the pieces, and the views of those
 * suites that count operations and of suite echo. */
#include "bench.h"

double stats_sum(const double *values, unsigned count)
{
    double total = 0;

    for (unsigned i = 0; i < count; i++)
        total += values[i];
    return total;
}

/* ---- cells ---- */

void cell_number(struct table *table, double value)
{
    char text[32];

    chart_number(text, sizeof(text), value);
    table_cell(table, "%s", text);
}

void cell_range(struct table *table, struct interval range)
{
    char low[32], high[32];

    chart_number(low, sizeof(low), range.low);
    chart_number(high, sizeof(high), range.high);
    table_cell(table, "%s .. %s", low, high);
}

void cell_ns(struct table *table, double ns)
{
    if (ns < 1e4)
        table_cell(table, "%.0f ns", ns);
    else if (ns < 1e7)
        table_cell(table, "%.*f us", ns < 1e5 ? 1 : 0, ns / 1e3);
    else
        table_cell(table, "%.1f ms", ns / 1e6);
}

void cell_bytes(struct table *table, double bytes)
{
    if (bytes < 10 * 1024)
        table_cell(table, "%.0f B", bytes);
    else
        table_cell(table, "%.0f KiB", bytes / 1024);
}

void cell_ratio(struct table *table, const struct run *run, unsigned row, const char *base)
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

/* ---- JSON ---- */

void json_numbers(struct json *json, const char *key, const double *values, unsigned count)
{
    json_array_compact(json, key);
    for (unsigned i = 0; i < count; i++)
        json_double(json, NULL, values[i]);
    json_end(json);
}

static void json_ratio(struct json *json, const char *prefix, const char *name,
                       const struct run *run, unsigned row, int base)
{
    struct interval ratio = run_ratio(run, row, base);
    char key[64];

    snprintf(key, sizeof(key), "%sratio_to_%s", prefix, name);
    for (char *c = key; *c; c++)
        *c = *c == '-' ? '_' : *c;
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

void json_ratios(struct json *json, const char *prefix, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];

    for (unsigned i = 0; i < BASES; i++) {
        const char *base = suites[run->job->suite].bases[i];

        if (base)
            json_ratio(json, prefix, base, run, row, run_find(run, base));
    }
    if (entry->twin)
        json_ratio(json, prefix, "itself", run, row, (int)entry->twin_of);
}

void json_latency(struct json *json, const struct entry *entry)
{
    json_uint(json, "latency_ns_p50", histogram_quantile(entry->latency, 0.5));
    json_uint(json, "latency_ns_p99", histogram_quantile(entry->latency, 0.99));
    json_uint(json, "latency_ns_p999", histogram_quantile(entry->latency, 0.999));
}

/* ---- operations ---- */

void cells_operations(struct table *table, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);
    double operations = (double)entry->operations, cpu = stats_sum(entry->cpu, run->rounds);

    cell_number(table, rate.middle);
    cell_range(table, rate);
    cell_ns(table, 1e9 / rate.middle);
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.5));
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.99));
    table_cell(table, "%.2f", cpu);
    cell_ns(table, operations > 0 ? cpu * 1e9 / operations : 0);
}

void json_operations(struct json *json, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);

    json_double(json, "ops_per_second", rate.middle);
    json_double(json, "ops_per_second_min", rate.low);
    json_double(json, "ops_per_second_max", rate.high);
    json_double(json, "cpu_seconds", stats_sum(entry->cpu, run->rounds));
    json_uint(json, "operations", entry->operations);
    json_ratios(json, "", run, row);
    json_numbers(json, "rounds_cpu_seconds", entry->cpu, run->rounds);
}

static void json_row_operations(struct json *json, const struct run *run, unsigned row)
{
    json_uint(json, "depth", run->depth);
    json_operations(json, run, row);
    json_latency(json, &run->entries[row]);
}

const struct view view_operations = {
    .titles = { "ops/s", "range", "per op", "p50", "p99", "CPU s", "CPU/op" },
    .ratio = "x",
    .chart = "Throughput",
    .unit = "operations per second",
    .cells = cells_operations,
    .json = json_row_operations,
};

/* ---- echo ---- */

static void cells_echo(struct table *table, const struct run *run, unsigned row)
{
    const struct entry *entry = &run->entries[row];
    struct interval rate = stats_range(entry->rates, run->rounds);

    cell_number(table, rate.middle);
    cell_range(table, rate);
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.5));
    cell_ns(table, (double)histogram_quantile(entry->latency, 0.99));
    table_cell(table, "%.2f us", stats_median(entry->costs, run->rounds));
    cell_bytes(table, entry->memory);
    table_cell(table, "%llu", (unsigned long long)entry->errors);
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
    json_double(json, "server_cpu_seconds", stats_sum(entry->cpu, run->rounds));
    json_uint(json, "requests", entry->operations);
    json_uint(json, "errors", entry->errors);
    json_ratios(json, "cpu_", run, row);
    json_numbers(json, "rounds_server_cpu_seconds_per_million_requests", entry->costs, run->rounds);
    json_latency(json, entry);
}

const struct view view_echo = {
    .titles = { "req/s", "range", "p50", "p99", "CPU/req", "RSS/conn", "errors" },
    .ratio = "CPU x",
    .chart = "Cost of a request",
    .unit = "microseconds of the server's CPU",
    .cells = cells_echo,
    .json = json_row_echo,
};

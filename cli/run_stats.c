/* SPDX-License-Identifier: MIT */
/* `ouro run --stats`: the memory that drop-ins count in, and what is said of it in the end. It is a
 * file without a name, which is reached through our own descriptor, so nothing is left behind. */
#include "run.h"

#include "../compat/stats_layout.h"
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    const char *name, *title; /* in JSON, for people */
} interface_names[STATS_INTERFACES] = { { "posix_aio", "POSIX AIO" }, { "libaio", "libaio" } };

struct stats_file *run_stats_open(void)
{
    int fd = memfd_create("ouro-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING), saved;
    struct stats_file *file = MAP_FAILED;
    char path[64];

    if (fd < 0)
        return NULL;
    /* Who has it mapped must not find that it has become shorter. */
    if (fchmod(fd, S_IRUSR | S_IWUSR) == 0 && ftruncate(fd, sizeof(*file)) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        file = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
    if (file == MAP_FAILED || setenv(STATS_VARIABLE, path, 1) < 0) {
        saved = errno;
        close(fd);
        errno = saved;
        return NULL;
    }
    memcpy(file->head.magic, STATS_MAGIC, sizeof(file->head.magic));
    file->head.version = STATS_VERSION;
    file->head.size = sizeof(*file);
    return file;
}

/* ---- Numbers -------------------------------------------------------------------------------- */

static uint64_t sum_of(const _Atomic uint64_t *counters, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++)
        sum += counters[i];
    return sum;
}

/* Requests that were submitted, and had not ended when their process did. */
static uint64_t unfinished(const struct stats_interface *from)
{
    uint64_t begun = sum_of(from->kinds, STATS_KINDS);
    uint64_t ended = sum_of(from->results, STATS_RESULTS);

    return begun > ended ? begun - ended : 0;
}

static void take_latency(const struct stats_interface *from, struct histogram *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        ret->buckets[i] = from->latency[i];
        ret->count += ret->buckets[i];
    }
}

/* The middle of a bucket may be above all that is in it. */
static uint64_t quantile(const struct stats_interface *from, const struct histogram *latency,
                         double share)
{
    uint64_t value = histogram_quantile(latency, share), most = from->latency_max_ns;

    return value < most ? value : most;
}

/* The most that the bucket holds. */
static uint64_t size_of(unsigned bucket)
{
    return bucket < 2 ? bucket : bucket > 64 ? UINT64_MAX : (uint64_t)1 << (bucket - 1);
}

struct engine {
    const char *name;
    uint64_t processes;
};

/* Each name once; how many. */
static unsigned take_engines(const struct stats_interface *from, struct engine *ret)
{
    unsigned count = 0, i;

    for (unsigned e = 0; e < STATS_ENGINES; e++) {
        const struct stats_engine *engine = &from->engines[e];

        if (engine->state != STATS_THERE)
            continue;
        for (i = 0; i < count && strcmp(ret[i].name, engine->name) != 0; i++)
            continue;
        if (i == count)
            ret[count++] = (struct engine){ .name = engine->name };
        ret[i].processes += engine->processes;
    }
    return count;
}

static const char *why_of(const struct stats_interface *from)
{
    return from->why_state == STATS_THERE ? from->why : "";
}

/* ---- For people ----------------------------------------------------------------------------- */

struct text {
    char text[TABLE_CELL_SIZE];
    size_t length;
};

static void append(struct text *to, const char *format, ...) CLI_PRINTF(2, 3);

static void append(struct text *to, const char *format, ...)
{
    size_t room = sizeof(to->text) - to->length;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(to->text + to->length, room, format, args);
    va_end(args);
    if (n > 0)
        to->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void append_bytes(struct text *to, uint64_t bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    append(to, "%.*f %s", unit && value != (double)(uint64_t)value ? 1 : 0, value,
           bytes == 1 ? "byte" : units[unit]);
}

static void append_time(struct text *to, uint64_t ns)
{
    double value = (double)ns / 1000;
    const char *unit = "us";

    if (value >= 1000) {
        value /= 1000;
        unit = "ms";
    }
    if (value >= 1000) {
        value /= 1000;
        unit = "s";
    }
    append(to, "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, unit);
}

/* "a 1, b 2" */
static void append_counts(struct text *to, const _Atomic uint64_t *counters,
                          const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        append(to, "%s%s %" PRIu64, i ? ", " : "", names[i], (uint64_t)counters[i]);
}

static void row(struct table *table, const char *name, struct text *text)
{
    table_cell(table, "  %s", name);
    table_cell(table, "%s", text->text);
    *text = (struct text){ .length = 0 };
}

static void add_requests(struct table *table, const struct stats_interface *from)
{
    static const char *const results[] = { "ok", "short", "failed", "cancelled", "refused" };
    struct text text = { .length = 0 };
    uint64_t left = unfinished(from);

    append(&text, "read %" PRIu64 " (", (uint64_t)from->kinds[STATS_READ]);
    append_bytes(&text, from->bytes[STATS_READ]);
    append(&text, "), write %" PRIu64 " (", (uint64_t)from->kinds[STATS_WRITE]);
    append_bytes(&text, from->bytes[STATS_WRITE]);
    append(&text, "), fsync %" PRIu64 "; in lists %" PRIu64, (uint64_t)from->kinds[STATS_FSYNC],
           (uint64_t)from->listed);
    row(table, "requests", &text);
    append_counts(&text, from->results, results, from->results[STATS_REFUSED] ? 5 : 4);
    if (left)
        append(&text, ", not ended %" PRIu64, left);
    row(table, "results", &text);
    if (from->passed) {
        append(&text, "%" PRIu64, (uint64_t)from->passed);
        row(table, "left to the kernel", &text);
    }
}

static void add_sizes(struct table *table, const struct stats_interface *from)
{
    struct text text = { .length = 0 };

    for (unsigned i = 0; i < STATS_SIZES; i++) {
        uint64_t bytes = size_of(i);

        if (!from->sizes[i])
            continue;
        append(&text, "%s%s", text.length ? ", " : "", bytes < 3 ? "" : "to ");
        append_bytes(&text, bytes);
        append(&text, ": %" PRIu64, (uint64_t)from->sizes[i]);
    }
    if (text.length)
        row(table, "sizes", &text);
    append(&text, "%" PRIu64, (uint64_t)from->depth_max);
    row(table, "depth reached", &text);
}

static void add_latency(struct table *table, const struct stats_interface *from)
{
    static const struct {
        const char *name;
        double share;
    } shares[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 } };
    struct text text = { .length = 0 };
    struct histogram latency;

    take_latency(from, &latency);
    for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
        append(&text, "%s ", shares[i].name);
        append_time(&text, quantile(from, &latency, shares[i].share));
        append(&text, ", ");
    }
    append(&text, "max ");
    append_time(&text, from->latency_max_ns);
    row(table, "latency", &text);
}

static void add_rest(struct table *table, const struct stats_interface *from)
{
    static const char *const enders[] = { "our thread", "callers that waited", "at once" };
    static const char *const notices[] = { "by signal", "by function", "signals dropped" };
    static const char *const calls[] = { "submitting", "sleeping", "woken by others" };
    struct text text = { .length = 0 };
    struct engine engines[STATS_ENGINES] = { { 0 } };
    unsigned count = take_engines(from, engines);

    append_counts(&text, from->enders, enders, STATS_ENDERS);
    row(table, "ended by", &text);
    append_counts(&text, from->notices, notices, STATS_NOTICES);
    row(table, "notifications", &text);
    append_counts(&text, from->calls, calls, STATS_CALLS);
    row(table, "system calls", &text);
    for (unsigned i = 0; i < count; i++) {
        append(&text, "%s%s", i ? ", " : "", engines[i].name);
        if (count > 1)
            append(&text, " (processes: %" PRIu64 ")", engines[i].processes);
    }
    row(table, count > 1 ? "engines" : "engine", &text);
}

static void print_interface(const struct stats_interface *from, const char *title)
{
    struct table table;
    uint64_t processes = from->processes;

    if (!processes && from->passed)
        fprintf(stderr, "ouro run: %s: all requests were left to the kernel: %" PRIu64 "\n", title,
                (uint64_t)from->passed);
    else if (!processes)
        fprintf(stderr, "ouro run: %s was not used\n", title);
    if (!processes)
        return;
    fprintf(stderr, "ouro run: %s, used by %" PRIu64 " process%s\n", title, processes,
            processes == 1 ? "" : "es");
    table_init(&table, 2, "ll");
    add_requests(&table, from);
    add_sizes(&table, from);
    add_latency(&table, from);
    add_rest(&table, from);
    table_print(&table, stderr, false);
    table_finish(&table);
    if (*why_of(from))
        fprintf(stderr, "  %s\n", why_of(from));
}

void run_stats_print(const struct stats_file *file)
{
    for (unsigned i = 0; i < STATS_INTERFACES; i++)
        print_interface(&file->interfaces[i], interface_names[i].title);
    if (file->head.strangers)
        fprintf(stderr, "ouro run: not counted: %" PRIu64 " with a drop-in of another version\n",
                (uint64_t)file->head.strangers);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void json_counts(struct json *json, const char *key, const _Atomic uint64_t *counters,
                        const char *const *names, unsigned count)
{
    json_object(json, key);
    for (unsigned i = 0; i < count; i++)
        json_uint(json, names[i], counters[i]);
    json_end(json);
}

static void json_requests(struct json *json, const struct stats_interface *from)
{
    static const char *const results[] = { "ok", "short", "failed", "canceled", "refused" };

    json_object(json, "requests");
    json_uint(json, "read", from->kinds[STATS_READ]);
    json_uint(json, "write", from->kinds[STATS_WRITE]);
    json_uint(json, "fsync", from->kinds[STATS_FSYNC]);
    json_uint(json, "in_lists", from->listed);
    json_uint(json, "left_to_kernel", from->passed);
    json_uint(json, "not_ended", unfinished(from));
    json_end(json);
    json_counts(json, "results", from->results, results, STATS_RESULTS);
    json_object(json, "bytes");
    json_uint(json, "read", from->bytes[STATS_READ]);
    json_uint(json, "written", from->bytes[STATS_WRITE]);
    json_end(json);
    json_array(json, "sizes");
    for (unsigned i = 0; i < STATS_SIZES; i++) {
        if (!from->sizes[i])
            continue;
        json_object(json, NULL);
        json_uint(json, "up_to_bytes", size_of(i));
        json_uint(json, "requests", from->sizes[i]);
        json_end(json);
    }
    json_end(json);
    json_uint(json, "depth_max", from->depth_max);
}

static void json_times(struct json *json, const struct stats_interface *from)
{
    struct histogram latency;

    take_latency(from, &latency);
    json_object(json, "latency_ns");
    json_uint(json, "p50", quantile(from, &latency, 0.5));
    json_uint(json, "p90", quantile(from, &latency, 0.9));
    json_uint(json, "p99", quantile(from, &latency, 0.99));
    json_uint(json, "p999", quantile(from, &latency, 0.999));
    json_uint(json, "max", from->latency_max_ns);
    json_end(json);
}

static void json_interface(struct json *json, const struct stats_interface *from, const char *name)
{
    static const char *const enders[] = { "thread", "caller", "at_once" };
    static const char *const notices[] = { "signals", "functions", "signals_dropped" };
    static const char *const calls[] = { "submitting", "sleeping", "woken_by_others" };
    struct engine engines[STATS_ENGINES] = { { 0 } };
    unsigned count = take_engines(from, engines);

    json_object(json, NULL);
    json_string(json, "name", name);
    json_uint(json, "processes", from->processes);
    json_requests(json, from);
    json_times(json, from);
    json_counts(json, "ended_by", from->enders, enders, STATS_ENDERS);
    json_counts(json, "notifications", from->notices, notices, STATS_NOTICES);
    json_counts(json, "system_calls", from->calls, calls, STATS_CALLS);
    json_array(json, "engines");
    for (unsigned i = 0; i < count; i++) {
        json_object(json, NULL);
        json_string(json, "name", engines[i].name);
        json_uint(json, "processes", engines[i].processes);
        json_end(json);
    }
    json_end(json);
    json_string(json, "engine_why", why_of(from));
    json_end(json);
}

void run_stats_print_json(const struct stats_file *file, char **argv, int status, double seconds)
{
    struct json json;

    json_init(&json, stderr);
    json_object(&json, NULL);
    json_uint(&json, "schema", 1);
    json_array(&json, "command");
    for (; *argv; argv++)
        json_string(&json, NULL, *argv);
    json_end(&json);
    if (WIFSIGNALED(status)) {
        json_null(&json, "exit_status");
        json_int(&json, "signal", WTERMSIG(status));
    } else {
        json_int(&json, "exit_status", WEXITSTATUS(status));
        json_null(&json, "signal");
    }
    json_double(&json, "seconds", seconds);
    json_array(&json, "interfaces");
    for (unsigned i = 0; i < STATS_INTERFACES; i++)
        json_interface(&json, &file->interfaces[i], interface_names[i].name);
    json_end(&json);
    json_uint(&json, "dropins_of_another_version", file->head.strangers);
    json_end(&json);
}

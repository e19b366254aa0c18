/* SPDX-License-Identifier: MIT */
/* What the files of `ouro bench` share. A `job` is the work, the same for everyone; a `contender`
 * is a way to do it: one entry in a table, with open (outside the timed part), round (timed by the
 * caller) and close. To add a contender: write its functions in a file of its own and name it in
 * the table in bench.c. */
#ifndef OURO_BENCH_H
#define OURO_BENCH_H

#include "../compat/histogram.h"
#include "cli.h"

#include <errno.h>
#include <sys/types.h>
#include <time.h>

enum suite { SUITE_NOP, SUITE_FILES, SUITE_RANDOM, SUITE_ECHO, SUITE_NOTIFY, SUITE_SCALE, SUITES };

/* What of the file system a suite reads: many files, blocks anywhere in one, or nothing. */
enum reads { READS_NOTHING, READS_FILES, READS_BLOCKS };

/* Suite notify: how a program learns that a request is over. */
enum way { WAY_NONE, WAY_SIGNAL, WAY_THREAD, WAYS };
extern const char *const way_names[WAYS]; /* bench_notify.c */

enum {
    ROUNDS_MAX = 1000,
    DEPTH_MAX = 4096,
    DEPTHS_MAX = 8,
    SIZES_MAX = 8,
    CONNECTIONS_MAX = 100000,
    CONTENDERS_MAX = 16,
    WHY_SIZE = 256,
    VARIANTS_MAX = 16,
    MEASURES_MAX = 16,
    SCALE_COUNT_MIN = 10,  /* requests of suite aio-scale */
    SCALE_ENTRIES = 32000, /* of which aio_suspend waits for one there */
    NOP_BATCHES = 16,      /* batches between two looks at the clock in suite nop */
};

/* ---- histogram.c: log-linear, 1.6 % per bucket (histogram.h) ---- */

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value, uint64_t count);
void histogram_merge(struct histogram *h, const struct histogram *other);
/* The value below or at which `share` (0 to 1) of all lie; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *h, double share);

/* ---- stats.c ---- */

struct interval {
    double middle, low, high; /* NaN where there is nothing to say */
};

double stats_median(const double *values, unsigned count);
struct interval stats_range(const double *values, unsigned count); /* median, least, most */
/* Median of a[i] / b[i] and its 95 % bootstrap interval (fixed seed: the same data give the same).
 * */
struct interval stats_paired_ratio(const double *a, const double *b, unsigned count);

/* ---- the work (bench_data.c) ---- */

struct job {
    enum suite suite;
    enum reads reads; /* the suite's */
    unsigned depth; /* operations in flight; nop: in a batch; echo: connections, one request each */
    enum way way;   /* suite notify */
    bool cold;      /* the files' pages are dropped before each round */

    /* READS_FILES: names[i] in dir_fd, `size` bytes each; echo: requests of `size` bytes */
    int dir_fd;
    unsigned count;
    uint64_t size;
    char (*names)[16];

    /* READS_BLOCKS: of `block` bytes anywhere in the first file_size bytes of path */
    const char *path;
    uint64_t file_size;
    uint64_t block;
    bool direct;
    bool known; /* the file is ours and every word's value is known */

    /* Private to bench_data.c. */
    const char *parent;
    char *work_path;
    int parent_fd;
    bool made_dir;
    unsigned made;
};

/* Makes what the suite reads; 0 or an exit status after a message. job_clean is due in either case;
 * it removes all that was made. */
int job_make(struct job *job);
void job_clean(struct job *job);
/* "direct", "buffered, cold cache", ... */
const char *job_cache(const struct job *job);
/* Brings the caches into the state that the job wants before a round; 0 or -errno. */
int job_prepare_caches(const struct job *job);
/* Checks what a contender read; result is the read's. 0, or -EBADMSG after a message. The first and
 * last word of the data tell the file and the place; in full all words are compared. */
int job_check_file(const struct job *job, unsigned index, const void *data, int64_t result,
                   bool full);
int job_check_block(const struct job *job, uint64_t offset, const void *data, int64_t result,
                    bool full);

/* ---- contenders ---- */

/* One round: what to do in it, and what came out. */
struct round {
    uint64_t limit_ns; /* nop, random: stop starting operations after that; files: one pass */
    uint64_t seed;     /* of the random offsets */
    bool full_check;   /* warm-up: compare all data */
    struct histogram *latency;
    uint64_t operations; /* out */
    double busy;         /* out: the seconds that they took; 0: all of the round */
    /* Out: what the suite measures besides, in an order of its own. */
    double measures[MEASURES_MAX];

    /* Out, suite echo. */
    double server_cpu;   /* seconds */
    double kept_waiting; /* seconds that others had the cores which server and load wanted */
    uint64_t errors;
    double memory; /* bytes of the server per connection */
};

struct echo_job;

struct contender {
    const char *name;
    unsigned suites;    /* bits: 1u << SUITE_... */
    const char *engine; /* of ouro, or NULL */
    /* Suite echo: the server, which runs in a process of its own (echo.h), and in how many ways it
     * can serve: the best is found by trial. */
    int (*serve)(const struct echo_job *job);
    unsigned variants;
    /* How it works in that suite, in a few words for the report. */
    const char *(*describe)(const struct contender *self, const struct job *job);
    /* Makes everything that a round needs. 0 or -errno with the reason in `why`. */
    int (*open)(const struct contender *self, const struct job *job, void **ret_state, char *why);
    /* Does the work; nothing is in flight when it returns. 0 or -errno; -EINTR after a signal. */
    int (*round)(void *state, struct round *round);
    void (*close)(void *state);
};

extern const struct contender contender_blocking, contender_glibc_aio, contender_posixaio_dropin;
#ifdef HAVE_LIBAIO
extern const struct contender contender_libaio, contender_libaio_dropin;
#endif
#ifdef HAVE_LIBURING
extern const struct contender contender_liburing;
#endif
/* Each fills `ret` with contenders and returns how many: one for each engine of the library; those
 * of nop, files and random; the servers of suite echo; those of suites notify and aio-scale. */
unsigned contender_ouro_list(struct contender *ret, unsigned max);
unsigned contender_plain_list(struct contender *ret, unsigned max);
unsigned contender_echo_list(struct contender *ret, unsigned max);
unsigned contender_notify_list(struct contender *ret, unsigned max);
unsigned contender_scale_list(struct contender *ret, unsigned max);

/* Whose functions of <aio.h> (contender_aio.c): the C library's, or the drop-in's. */
struct aiocb;
struct aio_calls {
    int (*read)(struct aiocb *control);
    int (*error)(const struct aiocb *control);
    ssize_t (*result)(struct aiocb *control);
    int (*suspend)(const struct aiocb *const list[], int count, const struct timespec *timeout);
};
/* Those of the contender; 0, or -errno with the reason in `why`. */
int aio_calls_find(const struct contender *self, struct aio_calls *ret, char *why);
extern const unsigned aio_request_bytes; /* that the drop-in has for each request */

/* Makes short rounds with each of `count` variants in turn (at most VARIANTS_MAX), then with the
 * faster half of them, until one is left, which is returned: what somebody finds who tunes a
 * program for this machine. -errno. */
int job_choose(const struct job *job, unsigned count, void *state,
               int (*round)(void *state, unsigned variant, struct round *round));

/* What a contender reads with: the file of suite random, and a buffer for each read in flight. */
struct reading {
    const struct job *job;
    int fd;        /* -1: not READS_BLOCKS */
    int file;      /* what reads are given: fd, or what the contender has put in its place */
    char *buffers; /* zeroed, each aligned for direct I/O */
    uint64_t stride;
};
/* 0 or -errno, with the reason in `why`. reading_close is due in either case. */
int reading_open(struct reading *ret, const struct job *job, unsigned depth, char *why);
void reading_close(struct reading *reading);

/* One read, into the buffer of its index. */
struct piece {
    uint64_t begun;
    uint64_t where; /* READS_BLOCKS: the offset; files: the number of the file */
    int64_t offset;
    uint64_t size;
    int fd; /* -1: READS_FILES, and not open */
    char *data;
};
/* The next read of a round: true; false: nothing is left to start. `next` counts files, or is the
 * state of the random offsets. */
bool piece_next(struct piece *ret, const struct reading *reading, unsigned index, uint64_t now,
                uint64_t *next);
/* The same, its file opened by hand: 1, 0, or -errno after a message. */
int piece_begin(struct piece *ret, const struct reading *reading, unsigned index, uint64_t now,
                uint64_t *next);
/* It brought `result` (bytes or -errno): closes its file if that is open, counts it, checks it. 0
 * or -errno. */
int piece_end(const struct piece *piece, const struct job *job, struct round *round, int64_t result,
              uint64_t now);
/* It was never started. */
void piece_drop(const struct piece *piece, const struct job *job);

static inline uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* splitmix64: offsets, contents, resampling. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t random_offset(const struct job *job, uint64_t *state)
{
    /* The high half of a product spreads evenly without a division. */
    uint64_t blocks = job->file_size / job->block;

    return ((next_random(state) >> 32) * blocks >> 32) * job->block;
}

/* ---- results (bench_rounds.c) ---- */

/* One contender in one run (one depth), and one row of the report. */
struct entry {
    const struct contender *contender;
    bool twin; /* the A/A row: entries[0..] twin_of measured a second time */
    unsigned twin_of;
    void *state;
    double *rates;                  /* operations per second, by round */
    double *cpu;                    /* CPU seconds, by round; echo: of the server */
    double *wall;                   /* seconds, by round */
    double *costs;                  /* CPU seconds per million operations, by round */
    double *measures[MEASURES_MAX]; /* as the rounds have them, by round */
    uint64_t errors;
    double memory; /* echo: bytes of the server per connection */
    uint64_t operations;
    unsigned discarded; /* rounds thrown away because others used the CPU */
    unsigned noisy;     /* such rounds that were kept, because repeating did not help */
    double foreign;     /* CPU seconds of others in the rounds that were kept */
    struct histogram *latency;
};

struct run {
    const struct job *job;
    unsigned depth;
    uint64_t size;
    enum way way;
    unsigned rounds; /* that every entry has */
    struct entry entries[CONTENDERS_MAX + 1];
    unsigned count;
    double *numbers; /* what the pointers of the entries point into */
    struct histogram *latencies;
};

struct plan {
    unsigned rounds;
    double seconds; /* per contender */
};

/* Opens, warms up, takes turns, closes. 0 or an exit status after a message. run_free is due. */
int run_measure(struct run *run, const struct plan *plan);
void run_free(struct run *run);
void run_point(const struct run *run, char *ret, size_t size);

/* ---- bench_process.c ---- */

/* As fork(2), or -errno: a child that no way of ending its parent leaves behind. */
pid_t bench_fork(void);
double bench_resident(pid_t pid); /* bytes of memory that it has */

/* ---- bench_suites.c: what the suites differ in, besides the contenders' work ---- */

enum { COLUMNS_MAX = 13, TITLES_MAX = COLUMNS_MAX - 3, BASES = 2 };

/* How the rows of a suite look. */
struct view {
    const char *titles[TITLES_MAX]; /* of the columns between the contender and the ratios */
    const char *ratio;              /* before the name of who it is to: "x", "CPU x" */
    const char *chart, *unit;       /* of what the suite is judged by */
    void (*cells)(struct table *table, const struct run *run, unsigned row);
    void (*json)(struct json *json, const struct run *run, unsigned row);
};

struct suite_traits {
    const char *name;
    enum reads reads;
    double seconds;           /* of each contender, if --seconds does not say */
    unsigned count;           /* --count by default; 0: the suite has none */
    uint64_t file_size;       /* --file-size by default */
    const char *depths;       /* --depth or --connections by default */
    const char *sizes;        /* --size by default */
    const char *bases[BASES]; /* contenders that the others are compared with, or NULL */
    const char *ways;         /* --ways by default; NULL: it has none */
    bool warm;                /* by default the file is left in the page cache */
    const struct view *view;
    unsigned (*list)(struct contender *ret, unsigned max);
    void (*describe)(const struct job *job, char *ret, size_t size);
    /* What is special about the run: "depth 32". */
    void (*point)(const struct run *run, char *ret, size_t size);
};

extern const struct suite_traits suites[SUITES];

/* ---- bench_views.c: what views are made of ---- */

extern const struct view view_operations, view_echo, view_notify, view_scale;

double stats_sum(const double *values, unsigned count);
void cell_number(struct table *table, double value);
void cell_range(struct table *table, struct interval range);
void cell_ns(struct table *table, double ns);
void cell_bytes(struct table *table, double bytes);
void cell_ratio(struct table *table, const struct run *run, unsigned row, const char *base);
void json_numbers(struct json *json, const char *key, const double *values, unsigned count);
/* To each of the suite's bases, and to itself: `prefix` ratio_to_NAME. */
void json_ratios(struct json *json, const char *prefix, const struct run *run, unsigned row);
void json_latency(struct json *json, const struct entry *entry);
/* Operations per second and what goes with them. */
void cells_operations(struct table *table, const struct run *run, unsigned row);
void json_operations(struct json *json, const struct run *run, unsigned row);

/* ---- bench_report.c ---- */

struct absentee {
    const char *name;
    char why[WHY_SIZE];
};

struct report {
    const struct job *job;
    const struct plan *plan;
    const struct run *runs;
    unsigned count;
    const struct absentee *absent;
    unsigned absent_count;
};

void report_table(const struct report *report, FILE *out, bool color);
void report_json(const struct report *report, FILE *out);
void report_html(const struct report *report, FILE *out);

/* What row `e` of the run is compared with: the entry of that contender's name, or -1. */
int run_find(const struct run *run, const char *contender);
/* The ratio of what the suite is judged by, run_judged: operations per second, or in suite echo the
 * server's CPU per request, where less is better. */
const double *run_judged(const struct run *run, unsigned row);
struct interval run_ratio(const struct run *run, unsigned a, int b);

/* ---- chart.c: pieces of a self-contained page ---- */

struct chart_bar {
    const char *label;
    struct interval value;
    const char *note; /* behind the value; may be NULL */
    unsigned series;  /* picks the colour */
};

void chart_page_begin(FILE *out, const char *title);
void chart_page_end(FILE *out);
void chart_text(FILE *out, const char *text); /* escaped for HTML */
/* Horizontal bars from zero with whiskers for the range. */
void chart_bars(FILE *out, const char *title, const char *unit, const struct chart_bar *bars,
                unsigned count);
/* The value of each round, one line per series: shows drift and outliers. */
void chart_rounds(FILE *out, const char *title, const char *unit, const double *const *values,
                  const char *const *labels, unsigned series, unsigned rounds);
/* 1234567 as "1.23 M", 0.0031 as "3.10 m". */
void chart_number(char *ret, size_t size, double value);

#endif

/* SPDX-License-Identifier: MIT */
/* Runs the contenders of `ouro bench` in turn, round by round, so that whatever drifts (the
 * machine, the disk, the clock of the CPU) hits all alike and ratios can be taken of paired rounds.
 * What other processes take of the CPU meanwhile is measured; a round that they disturbed is thrown
 * away, counted and repeated, within bounds. */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TRIES_MAX = 3,        /* of one round that others disturb; the last is kept and counted noisy */
    WARM_UP_MS = 30,      /* nop, random */
    FOREIGN_PERCENT = 10, /* of one core that others may use in a round */
    TRIALS = 5,           /* of each variant that is left, in each of ... */
    STAGES_MAX = 4,       /* ... so many stages: after each, the faster half is left */
    TRIAL_NS = 20 * 1000 * 1000,
};

/* CPU seconds that the machine's processes have used up to now, with what the hypervisor took; not
 * interrupts, which our own I/O causes. -1 where /proc/stat cannot be read. */
static double machine_seconds(void)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal = 0;
    FILE *stat = fopen("/proc/stat", "re");
    int got = 0;

    if (stat) {
        got = fscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
                     &idle, &iowait, &irq, &softirq, &steal);
        fclose(stat);
    }
    return got < 7 ? -1 : (double)(user + nice + system + steal) / (double)sysconf(_SC_CLK_TCK);
}

/* CPU seconds of this process, io_uring's workers included: they are threads of ours; or of its
 * children that have ended. */
static double seconds_of(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double own_seconds(void)
{
    return seconds_of(RUSAGE_SELF) + seconds_of(RUSAGE_CHILDREN);
}

struct measured {
    double wall, cpu, foreign, busy;
    uint64_t operations;
};

/* One call of the contender, timed. */
static int measure_once(const struct job *job, struct entry *entry, struct round *round,
                        struct measured *sum)
{
    double machine = machine_seconds(), own = own_seconds(), own_end, machine_end;
    uint64_t begin = now_ns(), end;
    int r;

    round->operations = 0;
    round->busy = 0;
    r = entry->contender->round(entry->state, round);
    end = now_ns();
    own_end = own_seconds();
    machine_end = machine_seconds();
    sum->wall += (double)(end - begin) / 1e9;
    sum->busy += round->busy > 0 ? round->busy : (double)(end - begin) / 1e9;
    sum->cpu += job->suite == SUITE_ECHO ? round->server_cpu : own_end - own;
    sum->operations += round->operations;
    /* The machine's clock ticks slowly: may be negative for one pass, judged as a sum; and it is
     * far off for processes that sleep and wake all the time, which know better themselves. */
    if (job->suite == SUITE_ECHO)
        sum->foreign += round->kept_waiting;
    else if (machine >= 0)
        sum->foreign += machine_end - machine - (own_end - own);
    return r;
}

/* A whole round: in suite files as many passes as make it long enough. */
static int measure_round(const struct run *run, struct entry *entry, struct round *round,
                         struct measured *ret)
{
    const struct job *job = run->job;
    int r;

    *ret = (struct measured){ 0 };
    do {
        r = job_prepare_caches(job);
        if (r < 0) {
            cli_error("cannot drop the files from the page cache: %s", strerror(-r));
            return r;
        }
        r = measure_once(job, entry, round, ret);
    } while (r == 0 && job->suite == SUITE_FILES && ret->wall * 1e9 < (double)round->limit_ns);
    return r;
}

static bool is_disturbed(const struct job *job, const struct measured *m)
{
    /* /proc/stat counts in ticks of 10 ms, so two of them more or less say nothing. */
    double unsure = job->suite == SUITE_ECHO ? 0 : 2.0 / (double)sysconf(_SC_CLK_TCK);

    return m->foreign > m->wall * FOREIGN_PERCENT / 100 + unsure;
}

/* What has been seen of one variant. */
struct variant {
    unsigned number;
    unsigned count;
    double rates[TRIALS * STAGES_MAX];
};

static int try_variant(const struct job *job, struct variant *variant, struct round *trial,
                       void *state, int (*round)(void *, unsigned, struct round *))
{
    uint64_t begin;
    int r = job_prepare_caches(job);

    if (r < 0)
        return r;
    trial->operations = 0;
    begin = now_ns();
    r = round(state, variant->number, trial);
    variant->rates[variant->count++] = (double)trial->operations / (double)(now_ns() - begin);
    return r;
}

/* The fastest first; of equal ones, as they were. */
static void sort_variants(struct variant *all, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct variant one = all[i];
        double rate = stats_median(one.rates, one.count);
        unsigned at = i;

        for (; at && stats_median(all[at - 1].rates, all[at - 1].count) < rate; at--)
            all[at] = all[at - 1];
        all[at] = one;
    }
}

int job_choose(const struct job *job, unsigned count, void *state,
               int (*round)(void *state, unsigned variant, struct round *round))
{
    struct variant all[VARIANTS_MAX] = { 0 };
    struct round trial = { .latency = calloc(1, sizeof(*trial.latency)), .limit_ns = TRIAL_NS };
    int r = trial.latency ? 0 : -ENOMEM;

    for (unsigned i = 0; i < count; i++)
        all[i].number = i;
    while (count > 1 && r == 0) {
        for (unsigned i = 0; i < TRIALS * count && r == 0; i++) {
            trial.seed++;
            r = try_variant(job, &all[i % count], &trial, state, round);
        }
        sort_variants(all, count);
        count = (count + 1) / 2;
    }
    free(trial.latency);
    return r < 0 ? r : (int)all[0].number;
}

static int take_turn(struct run *run, unsigned which, unsigned number, const struct plan *plan)
{
    struct entry *entry = &run->entries[which];
    struct histogram *kept = calloc(1, sizeof(*kept));
    struct measured m;
    uint64_t errors = 0; /* of discarded rounds too */
    double memory = 0, measures[MEASURES_MAX] = { 0 };
    int r = kept ? 0 : -ENOMEM;

    for (unsigned try = 0; r == 0; try++) {
        struct round round = {
            .limit_ns = (uint64_t)(plan->seconds * 1e9 / plan->rounds),
            .seed = ((uint64_t)number << 32) + (uint64_t)which * 1000003u + try,
            .latency = kept,
        };
        bool disturbed;

        memset(kept, 0, sizeof(*kept));
        r = measure_round(run, entry, &round, &m);
        errors += round.errors;
        memory = round.memory;
        memcpy(measures, round.measures, sizeof(measures));
        disturbed = is_disturbed(run->job, &m);
        if (r == 0 && disturbed && try + 1 < TRIES_MAX) {
            entry->discarded++;
            continue;
        }
        entry->noisy += disturbed;
        break;
    }
    if (r == 0) {
        entry->rates[number] = (double)m.operations / m.busy;
        entry->cpu[number] = m.cpu;
        entry->wall[number] = m.wall;
        entry->costs[number] = m.cpu * 1e6 / (double)m.operations;
        for (unsigned i = 0; i < MEASURES_MAX; i++)
            entry->measures[i][number] = measures[i];
        entry->errors += errors;
        entry->memory = memory > entry->memory ? memory : entry->memory;
        entry->foreign += m.foreign > 0 ? m.foreign : 0;
        entry->operations += m.operations;
        histogram_merge(entry->latency, kept);
    }
    free(kept);
    return r;
}

static int warm_up(const struct run *run, struct entry *entry)
{
    struct histogram *latency = calloc(1, sizeof(*latency));
    struct round round = {
        .limit_ns = (uint64_t)WARM_UP_MS * 1000000,
        .seed = 1,
        .full_check = true,
        .latency = latency,
    };
    int r = latency ? job_prepare_caches(run->job) : -ENOMEM;

    if (r == 0)
        r = entry->contender->round(entry->state, &round);
    free(latency);
    return r;
}

static int report_failure(const struct entry *entry, int error)
{
    cli_progress_end();
    if (cli_signal)
        return CLI_INTERRUPTED;
    if (error == -EBADMSG)
        cli_error("%s returned wrong data: the run counts for nothing", entry->contender->name);
    else
        cli_error("%s failed: %s", entry->contender->name, strerror(-error));
    return CLI_FAILED;
}

static int make_room(struct run *run, unsigned rounds)
{
    const size_t series = 4 + MEASURES_MAX;

    run->numbers = calloc(run->count * series * rounds, sizeof(*run->numbers));
    run->latencies = calloc(run->count, sizeof(*run->latencies));
    if (!run->numbers || !run->latencies) {
        cli_error("%s", strerror(ENOMEM));
        return CLI_FAILED;
    }
    for (unsigned i = 0; i < run->count; i++) {
        run->entries[i].rates = run->numbers + i * series * rounds;
        run->entries[i].cpu = run->entries[i].rates + rounds;
        run->entries[i].wall = run->entries[i].cpu + rounds;
        run->entries[i].costs = run->entries[i].wall + rounds;
        for (unsigned m = 0; m < MEASURES_MAX; m++)
            run->entries[i].measures[m] = run->entries[i].costs + (m + 1) * (size_t)rounds;
        run->entries[i].latency = &run->latencies[i];
    }
    return CLI_OK;
}

static int open_entry(const struct run *run, struct entry *entry)
{
    char why[WHY_SIZE] = "";
    int r;

    r = entry->contender->open(entry->contender, run->job, &entry->state, why);
    if (r < 0) {
        entry->state = NULL;
        if (why[0] && !cli_signal) {
            cli_error("%s: %s", entry->contender->name, why);
            return CLI_FAILED;
        }
        return report_failure(entry, r);
    }
    r = warm_up(run, entry);
    return r < 0 ? report_failure(entry, r) : CLI_OK;
}

void run_point(const struct run *run, char *ret, size_t size)
{
    suites[run->job->suite].point(run, ret, size);
}

static void show_progress(const struct run *run, const struct plan *plan, unsigned number,
                          const struct entry *entry, uint64_t begin)
{
    double passed = (double)(now_ns() - begin) / 1e9;
    char point[64], left[32] = "";

    run_point(run, point, sizeof(point));
    if (number)
        snprintf(left, sizeof(left), ", %.0f s left", passed / number * (plan->rounds - number));
    cli_progress("%s, %s: round %u of %u, %s%s", suites[run->job->suite].name, point, number + 1,
                 plan->rounds, entry->contender->name, left);
}

int run_measure(struct run *run, const struct plan *plan)
{
    uint64_t begin = now_ns();
    int status = make_room(run, plan->rounds);

    for (unsigned i = 0; i < run->count && status == CLI_OK; i++) {
        char point[64];

        run_point(run, point, sizeof(point));
        cli_progress("%s, %s: warming up %s", suites[run->job->suite].name, point,
                     run->entries[i].contender->name);
        status = open_entry(run, &run->entries[i]);
    }
    for (; run->rounds < plan->rounds && status == CLI_OK; run->rounds++) {
        for (unsigned i = 0; i < run->count && status == CLI_OK; i++) {
            int r;

            show_progress(run, plan, run->rounds, &run->entries[i], begin);
            r = take_turn(run, i, run->rounds, plan);
            if (r < 0 || cli_signal)
                status = report_failure(&run->entries[i], r);
        }
    }
    cli_progress_end();
    for (unsigned i = 0; i < run->count; i++) {
        if (run->entries[i].state)
            run->entries[i].contender->close(run->entries[i].state);
        run->entries[i].state = NULL;
    }
    return status;
}

void run_free(struct run *run)
{
    free(run->numbers);
    free(run->latencies);
}

int run_find(const struct run *run, const char *contender)
{
    for (unsigned i = 0; i < run->count; i++)
        if (!run->entries[i].twin && strcmp(run->entries[i].contender->name, contender) == 0)
            return (int)i;
    return -1;
}

const double *run_judged(const struct run *run, unsigned row)
{
    return run->job->suite == SUITE_ECHO ? run->entries[row].costs : run->entries[row].rates;
}

struct interval run_ratio(const struct run *run, unsigned a, int b)
{
    if (b < 0)
        return stats_paired_ratio(NULL, NULL, 0);
    return stats_paired_ratio(run_judged(run, a), run_judged(run, (unsigned)b), run->rounds);
}

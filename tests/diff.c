/* SPDX-License-Identifier: MIT */
/* diff.c: compares two implementations of an interface by random programs (diff.h).
 *
 *   PROGRAM --library PATH [--count N] [--seed S] [--engine NAME] [--blocked] [--planted PATH]
 *   PROGRAM --trace [--seed S] [--count N] [--without STEPS]   what programs see, without it all
 *   PROGRAM --print [--seed S] [--without STEPS]               a program
 *
 * Two workers (PROGRAM --trace), one with the library preloaded, run the programs; each program is
 * a process. Where they differ, steps are left out while they still do; what is left is printed.
 * --planted preloads one more library, which is wrong, and wants it found. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "diff.h"

enum { LIMIT_S = 40, SHRINK_LIMIT_S = 5, SHOWN = 5, SMALL = 3, FILES = 8, SLOTS = 16 };

static const struct diff *face;

static struct {
    const char *library, *engine, *planted;
    uint64_t seed, without;
    volatile uint64_t count;
    unsigned limit_s; /* for a program */
    bool blocked, reference, trace, print;
} options = { .seed = 1, .count = 2000, .limit_s = LIMIT_S };

/* ---- A worker ------------------------------------------------------------------------------- */

static void refuse_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 425, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 427, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {
        perror("seccomp");
        exit(2);
    }
}

static void on_end(int signo)
{
    options.count = 0;
    (void)signo;
}

/* Who is interrupted takes its files away, as does who has nobody to tell any more. */
static void end_well(bool well)
{
    struct sigaction action = { .sa_handler = well ? on_end : SIG_DFL };

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, well ? SIG_IGN : SIG_DFL);
}

/* A program that runs, in a process and a directory of its own; its trace is there even if it is
 * killed. */
struct slot {
    char *trace, dir[240];
    uint64_t seed;
    pid_t child;
};

static bool slot_open(struct slot *slot, const char *dir, unsigned number)
{
    snprintf(slot->dir, sizeof(slot->dir), "%s/%u", dir, number);
    slot->trace = mmap(NULL, TRACE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return slot->trace != MAP_FAILED && mkdir(slot->dir, 0700) == 0;
}

static void slot_start(struct slot *slot, uint64_t seed)
{
    face->make(seed);
    slot->seed = seed;
    slot->trace[0] = 0;
    if ((slot->child = fork()) == 0) {
        end_well(false);
        alarm(options.limit_s);
        face->run((uint32_t)options.without, options.reference, slot->dir, slot->trace);
        _exit(0);
    }
}

static bool slot_finish(struct slot *slot)
{
    int status = 0;

    if (slot->child <= 0 || waitpid(slot->child, &status, 0) < 0)
        return false;
    slot->child = 0;
    printf("program %" PRIu64 "\n%send %d\n", slot->seed, slot->trace, status);
    return fflush(stdout) == 0;
}

static bool slot_close(struct slot *slot)
{
    if (slot->child > 0)
        waitpid(slot->child, NULL, 0);
    for (unsigned i = 0; i < FILES; i++) {
        char path[256];

        snprintf(path, sizeof(path), "%s/t%u", slot->dir, i);
        unlink(path);
    }
    return rmdir(slot->dir) == 0;
}

/* Several at once, in their order. */
static int trace_programs(void)
{
    struct slot slots[SLOTS] = { 0 };
    unsigned count = face->at_once ? face->at_once : 1;
    const char *base = getenv("TMPDIR");
    char dir[200];
    bool good = true;

    snprintf(dir, sizeof(dir), "%s/%s-XXXXXX", base ? base : "/tmp", face->name);
    good = mkdtemp(dir) != NULL;
    for (unsigned i = 0; i < count && good; i++)
        good = slot_open(&slots[i], dir, i);
    if (!good) {
        perror(face->name);
        return 2;
    }
    end_well(true);
    for (uint64_t i = 0; i < options.count + count && good; i++) {
        struct slot *slot = &slots[i % count];

        if (i >= count && i - count < options.count)
            good = slot_finish(slot);
        if (i < options.count)
            slot_start(slot, options.seed + i);
    }
    good = true;
    for (unsigned i = 0; i < count; i++)
        good = slot_close(&slots[i]) && good;
    return rmdir(dir) == 0 && good ? 0 : 2;
}

struct worker {
    pid_t pid;
    FILE *out;
    char trace[TRACE + 64]; /* of the program that was read last */
};

static void become_worker(bool reference, uint64_t seed, uint64_t count, uint64_t without)
{
    char preload[1024], numbers[4][24];
    const char *args[] = { face->name,  "--trace",  "--seed",  numbers[0], "--count", numbers[1],
                           "--without", numbers[2], "--limit", numbers[3], NULL,      NULL };

    snprintf(preload, sizeof(preload), "%s%s%s", options.planted ? options.planted : "",
             options.planted ? ":" : "", options.library);
    snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu64, seed);
    snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu64, count);
    snprintf(numbers[2], sizeof(numbers[2]), "%" PRIu64, without);
    snprintf(numbers[3], sizeof(numbers[3]), "%u", options.limit_s);
    unsetenv("LD_PRELOAD");
    if (!reference)
        setenv("LD_PRELOAD", preload, 1);
    if (!reference && options.engine)
        setenv("OURO_ENGINE", options.engine, 1);
    if (reference)
        args[10] = "--reference";
    else if (options.blocked)
        args[10] = "--blocked";
    execv("/proc/self/exe", (char **)(uintptr_t)args);
    _exit(2);
}

static void start(struct worker *worker, bool reference, uint64_t seed, uint64_t count,
                  uint64_t without)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0 || (worker->pid = fork()) < 0) {
        perror(face->name);
        exit(2);
    }
    if (worker->pid == 0) {
        dup2(fds[1], 1);
        become_worker(reference, seed, count, without);
    }
    close(fds[1]);
    worker->out = fdopen(fds[0], "r");
}

static void finish(struct worker *worker)
{
    fclose(worker->out);
    waitpid(worker->pid, NULL, 0);
}

/* The next program's trace, from its name to how it ended. */
static bool next_trace(struct worker *worker)
{
    size_t used = 0;

    worker->trace[0] = 0;
    while (fgets(worker->trace + used, (int)(sizeof(worker->trace) - used), worker->out)) {
        char *line = worker->trace + used;

        used += strlen(line);
        if (begins(line, "end "))
            return true;
    }
    return false;
}

static bool next_traces(struct worker both[2])
{
    bool one = next_trace(&both[0]), two = next_trace(&both[1]);

    return one && two;
}

/* ---- Comparing ------------------------------------------------------------------------------ */

static const char *next_line(const char *text, char *ret_line, size_t size)
{
    size_t length = strcspn(text, "\n"), kept = length < size ? length : size - 1;

    memcpy(ret_line, text, kept);
    ret_line[kept] = 0;
    return text + length + (text[length] == '\n');
}

/* Whether nothing differs that must not. counts: those that may are counted. */
static bool same(uint32_t without, const char *reference, const char *tested, bool counts)
{
    char one[1024], two[1024];

    while (*reference || *tested) {
        int as;

        reference = next_line(reference, one, sizeof(one));
        tested = next_line(tested, two, sizeof(two));
        if (begins(one, "!") || begins(two, "!"))
            return false; /* the program could not do what it wanted */
        if (strcmp(one, two) == 0)
            continue;
        as = face->allowed_as(without, one, two);
        if (as < 0)
            return false;
        if (counts)
            face->allowed[as].seen++;
    }
    return true;
}

static struct worker workers[2];

/* Runs the program on both: whether they differ. */
static bool differs(uint64_t seed, uint32_t without)
{
    bool both;

    for (int i = 0; i < 2; i++)
        start(&workers[i], i == 0, seed, 1, without);
    both = next_traces(workers);
    for (int i = 0; i < 2; i++)
        finish(&workers[i]);
    return !both || !same(without, workers[0].trace, workers[1].trace, false);
}

static void print_commented(const char *text)
{
    char line[1024];

    while (*text) {
        text = next_line(text, line, sizeof(line));
        printf("#   %s\n", line);
    }
}

/* Leaves out steps while they still differ, and says what is left: how many steps. A difference
 * that does not come again is told as it came. */
static unsigned shrink(uint64_t seed, const char *reference, const char *tested)
{
    char *text, *came = NULL;
    size_t size;
    uint32_t without = 0;
    unsigned left = face->steps();
    FILE *out = open_memstream(&came, &size);

    options.limit_s = SHRINK_LIMIT_S; /* who hangs once hangs often */
    fprintf(out, "%s:\n%souro:\n%s", face->reference, reference, tested);
    fclose(out);
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = face->steps(); i-- > 0;)
            if (!(without >> i & 1) && differs(seed, without | 1u << i)) {
                without |= 1u << i;
                left--;
                again = true;
            }
    }
    out = open_memstream(&text, &size);
    face->print(out, without);
    if (differs(seed, without))
        fprintf(out, "%s:\n%souro:\n%s", face->reference, workers[0].trace, workers[1].trace);
    else
        fprintf(out, "This did not come again.\n%s", came);
    fclose(out);
    print_commented(text);
    free(text);
    free(came);
    return left;
}

/* ---- The whole ------------------------------------------------------------------------------ */

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void show_progress(uint64_t done, double start)
{
    static double shown;
    double now = now_s();

    if (!isatty(2) || (now - shown < 0.2 && done < options.count))
        return;
    shown = now;
    fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " programs, %.0f/s %s", done, options.count,
            (double)done / (now - start), done == options.count ? "\n" : "");
}

/* How many programs differ; *ret_smallest: steps of the smallest that is left of one. */
static unsigned compare(uint64_t *ret_done, unsigned *ret_smallest)
{
    static struct worker both[2];
    unsigned failed = 0;
    double start_s = now_s();

    for (int i = 0; i < 2; i++)
        start(&both[i], i == 0, options.seed, options.count, 0);
    for (*ret_done = 0; *ret_done < options.count && failed < SHOWN;
         show_progress(*ret_done, start_s)) {
        uint64_t seed = options.seed + *ret_done;

        if (!next_traces(both)) {
            printf("# a worker ended early\n");
            failed++;
            break;
        }
        face->make(seed);
        (*ret_done)++;
        if (!same(0, both[0].trace, both[1].trace, true)) {
            unsigned left = shrink(seed, both[0].trace, both[1].trace);

            failed++;
            *ret_smallest = left < *ret_smallest ? left : *ret_smallest;
            if (options.planted && left <= SMALL)
                break;
        }
    }
    for (int i = 0; i < 2; i++)
        finish(&both[i]);
    return failed;
}

static int run(void)
{
    unsigned smallest = UINT_MAX, failed;
    uint64_t done;
    double start_s = now_s();
    bool good;

    setvbuf(stdout, NULL, _IOLBF, 0);
    failed = compare(&done, &smallest);
    good = options.planted ? failed && smallest <= SMALL : !failed;
    for (unsigned i = 0; i < face->allowed_count; i++)
        printf("# %8lu times: %s, %s\n", face->allowed[i].seen, face->allowed[i].statement,
               face->allowed[i].about);
    printf("# %" PRIu64 " programs from seed %" PRIu64 " in %.1f s, %u differ\n", done,
           options.seed, now_s() - start_s, failed);
    if (options.planted)
        printf("%sok 1 - a wrong result is found, and made small\n1..1\n", good ? "" : "not ");
    else
        printf("%sok 1 - what programs see is what they see with %s\n1..1\n", good ? "" : "not ",
               face->reference);
    return good ? 0 : 1;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: %s --library PATH [--count N] [--seed S] [--engine NAME] "
            "[--blocked] [--planted PATH]\n"
            "       %s --trace|--print [--seed S] [--count N] [--without STEPS]\n",
            face->name, face->name);
    return 2;
}

static bool take_options(int argc, char **argv)
{
    static const struct option names[] = {
        { "library", required_argument, NULL, 'l' }, { "count", required_argument, NULL, 'c' },
        { "seed", required_argument, NULL, 's' },    { "engine", required_argument, NULL, 'e' },
        { "planted", required_argument, NULL, 'p' }, { "without", required_argument, NULL, 'w' },
        { "limit", required_argument, NULL, 'L' },   { "blocked", no_argument, NULL, 'b' },
        { "reference", no_argument, NULL, 'r' },     { "trace", no_argument, NULL, 't' },
        { "print", no_argument, NULL, 'P' },         { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'l': options.library = optarg; break;
        case 'c': options.count = strtoull(optarg, NULL, 0); break;
        case 's': options.seed = strtoull(optarg, NULL, 0); break;
        case 'e': options.engine = optarg; break;
        case 'p': options.planted = optarg; break;
        case 'w': options.without = strtoull(optarg, NULL, 0); break;
        case 'L': options.limit_s = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'b': options.blocked = true; break;
        case 'r': options.reference = true; break;
        case 't': options.trace = true; break;
        case 'P': options.print = true; break;
        default: return false;
        }
    }
    return optind == argc && (options.library || options.trace || options.print);
}

int diff_main(int argc, char **argv, const struct diff *diff)
{
    face = diff;
    if (!take_options(argc, argv))
        return usage();
    if (options.print) {
        face->make(options.seed);
        face->print(stdout, (uint32_t)options.without);
        return 0;
    }
    if (!options.trace)
        return run();
    if (options.blocked)
        refuse_io_uring();
    return trace_programs();
}

/* ---- Random numbers ------------------------------------------------------------------------- */

static uint64_t random_state;

void random_begin(uint64_t seed)
{
    random_state = seed * 0x2545f4914f6cdd1du;
}

uint64_t random_word(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned below(unsigned count)
{
    return (unsigned)(random_word() % count);
}

bool once_in(unsigned count)
{
    return below(count) == 0;
}

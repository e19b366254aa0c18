/* SPDX-License-Identifier: MIT */
/* dropin_test.c: helpers and the runner of the drop-ins' tests. */
#include "dropin_test.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
    LIMIT_S = 20,
    LONG_LIMIT_S = 3600,
    LACK_LIMIT_S = 2, /* of who is meant to fail, and may hang */
    EXCEPT_MAX = 16,
    LACKS_MAX = 32,
};

bool takes_long;

/* ---- Helpers -------------------------------------------------------------------------------- */

void nap_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int temp_file(int flags)
{
    char path[] = "/var/tmp/aio-test-XXXXXX";
    int fd = mkstemp(path), again;

    CHECK(fd >= 0);
    again = open(path, O_RDWR | flags);
    CHECK(again >= 0);
    close(fd);
    unlink(path);
    return again;
}

void until(const atomic_int *count, int wanted)
{
    for (int i = 0; i < 5000 && *count < wanted; i++)
        nap_ms(1);
    CHECK(*count == wanted);
}

void on_nothing(int signo)
{
    (void)signo;
}

pthread_t main_thread;

void *send_signal(void *arg)
{
    nap_ms(50);
    pthread_kill(main_thread, SIGUSR1);
    if (arg) {
        nap_ms(50);
        CHECK(write(*(int *)arg, "x", 1) == 1);
    }
    return NULL;
}

void refuse_calls(long from, long to, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)from, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (unsigned)to, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

void refuse_io_uring(int error)
{
    refuse_calls(SYS_io_uring_setup, SYS_io_uring_register, error);
}

bool has_io_uring(void)
{
    char path[64], to[64];
    bool found = false;

    for (int fd = 0; fd < 4096 && !found; fd++) {
        ssize_t length;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        length = readlink(path, to, sizeof(to) - 1);
        to[length < 0 ? 0 : length] = 0;
        found = strcmp(to, "anon_inode:[io_uring]") == 0;
    }
    return found;
}

int count_of(const char *directory)
{
    DIR *list = opendir(directory);
    int count = 0;

    CHECK(list);
    while (readdir(list))
        count++;
    closedir(list);
    return count - 2; /* itself and the one above */
}

/* ---- The runner ----------------------------------------------------------------------------- */

enum outcome { PASSED, FAILED, SKIPPED };

struct run {
    const char *only;
    const char *except[EXCEPT_MAX];
    char lacks[LACKS_MAX][200]; /* lines: the name of a test, and the reason */
    bool original;
    unsigned excepted, lacking, number, failed;
};

static bool has_name(const char *line, const char *name)
{
    size_t length = strlen(name);

    return strncmp(line, name, length) == 0 && line[length] == ' ';
}

/* Why it is meant to fail here, or NULL. */
static const char *lack_of(const struct run *run, const struct dropin_case *test)
{
    if (run->original && test->better)
        return "it is there to show that the drop-in is better";
    for (unsigned i = 0; i < run->lacking; i++)
        if (has_name(run->lacks[i], test->name))
            return run->lacks[i] + strlen(test->name) + 1;
    return NULL;
}

/* Its status. After a while it is ended, and with it whom it has started: from here, because who
 * hangs may have blocked all signals. */
static int end_of(pid_t child, bool lacks)
{
    double limit = now_s() + (lacks ? LACK_LIMIT_S : takes_long ? LONG_LIMIT_S : LIMIT_S);
    int status, r;

    while ((r = waitpid(child, &status, WNOHANG)) == 0) {
        if (now_s() > limit)
            kill(-child, SIGKILL);
        nap_ms(1);
    }
    CHECK(r == child);
    return status;
}

static enum outcome outcome_of(const struct dropin_case *test, bool lacks)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        setpgid(0, 0);
        test->run();
        _exit(0);
    }
    CHECK(child > 0);
    setpgid(child, child);
    status = end_of(child, lacks);
    if (WIFSIGNALED(status))
        printf("# killed by signal %d\n", WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_STATUS)
        return SKIPPED;
    return status ? FAILED : PASSED;
}

static bool is_wanted(const struct run *run, const char *name)
{
    for (unsigned i = 0; i < run->excepted; i++)
        if (strcmp(run->except[i], name) == 0)
            return false;
    return !run->only || strcmp(run->only, name) == 0;
}

static void run_theme(struct run *run, const struct dropin_case *test)
{
    for (; test->name; test++) {
        const char *lack = lack_of(run, test);
        enum outcome outcome;
        bool good;

        if (!is_wanted(run, test->name))
            continue;
        outcome = outcome_of(test, lack != NULL);
        good = outcome != FAILED;
        if (lack && outcome != SKIPPED) {
            good = !good;
            printf("# %s: %s\n", good ? "as expected" : "it passes, and should not", lack);
        }
        printf("%sok %u - %s%s\n", good ? "" : "not ", ++run->number, test->name,
               outcome == SKIPPED ? " # SKIP does not apply here" : "");
        run->failed += !good;
    }
}

static bool is_any(const char *line, const struct dropin_case *const *themes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        for (const struct dropin_case *test = themes[i]; test->name; test++)
            if (has_name(line, test->name))
                return true;
    return false;
}

/* Comments begin with '#'. A name that no test has is an error: nothing is listed for nothing. */
static void read_lacks(struct run *run, const char *path, const struct dropin_case *const *themes,
                       unsigned count)
{
    char line[sizeof(run->lacks[0])];
    FILE *file = fopen(path, "r");

    CHECK(file);
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#' || !line[0])
            continue;
        CHECK(run->lacking < LACKS_MAX && is_any(line, themes, count));
        memcpy(run->lacks[run->lacking++], line, sizeof(line));
    }
    fclose(file);
}

int run_tests(int argc, char **argv, const struct dropin_case *const *themes, unsigned count)
{
    static struct run run;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--blocked") == 0)
            refuse_io_uring(EPERM);
        else if (strcmp(argv[i], "--original") == 0)
            run.original = true;
        else if (strcmp(argv[i], "--long") == 0)
            takes_long = true;
        else if (strcmp(argv[i], "--lacks") == 0 && i + 1 < argc)
            read_lacks(&run, argv[++i], themes, count);
        else if (strcmp(argv[i], "--except") == 0 && i + 1 < argc && run.excepted < EXCEPT_MAX)
            run.except[run.excepted++] = argv[++i];
        else
            run.only = argv[i];
    }
    for (unsigned i = 0; i < count; i++)
        run_theme(&run, themes[i]);
    printf("1..%u\n", run.number);
    return run.failed ? 1 : 0;
}

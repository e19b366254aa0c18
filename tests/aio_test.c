/* SPDX-License-Identifier: MIT */
/* aio_test.c: what programs may rely on of POSIX AIO, a test for each statement. It is a program of
 * <aio.h> alone, and knows nothing of ouro: `ouro run` puts the drop-in under it (DROPINS in the
 * Makefile), also where io_uring is refused and on other engines. By itself it runs on glibc;
 * BETTER marks what glibc does not do. Here are helpers and the runner; the tests are in
 * aio_submit.c, aio_order.c, aio_wait.c, aio_cancel.c, aio_notify.c, aio_lists.c, aio_process.c,
 * aio_memory.c and aio_handlers.c.
 *
 *   aio_test [--blocked] [--glibc] [--long] [--except NAME]... [NAME]
 *
 * --blocked refuses io_uring, --glibc wants BETTER to fail, --long takes minutes where seconds do.
 */
#include "aio_test.h"

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
    EXCEPT_MAX = 16,
};

static const struct aio_case *const themes[] = {
    submit_tests, order_tests,   wait_tests,   cancel_tests,  notify_tests,
    list_tests,   process_tests, memory_tests, handler_tests, driving_tests,
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

/* Fields that are the library's hold garbage, as in a block on the stack. */
struct aiocb block_of(int fd, void *buf, size_t size, off_t offset)
{
    struct aiocb block;

    memset(&block, 0x5a, sizeof(block));
    block.aio_fildes = fd;
    block.aio_buf = buf;
    block.aio_nbytes = size;
    block.aio_offset = offset;
    block.aio_reqprio = 0;
    block.aio_sigevent.sigev_notify = SIGEV_NONE;
    return block;
}

int await(struct aiocb *block)
{
    const struct aiocb *list[] = { block };

    while (aio_error(block) == EINPROGRESS)
        CHECK(aio_suspend(list, 1, NULL) == 0 || errno == EINTR);
    return aio_error(block);
}

ssize_t read_by(int fd, void *buf, size_t size, off_t offset)
{
    struct aiocb block = block_of(fd, buf, size, offset);

    CHECK(aio_read(&block) == 0);
    errno = await(&block);
    return aio_return(&block);
}

ssize_t write_by(int fd, const void *buf, size_t size, off_t offset)
{
    struct aiocb block = block_of(fd, (void *)(uintptr_t)buf, size, offset);

    CHECK(aio_write(&block) == 0);
    errno = await(&block);
    return aio_return(&block);
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

void *suspend_for_ever(void *arg)
{
    const struct aiocb *list[] = { arg };

    aio_suspend(list, 1, NULL);
    return NULL;
}

atomic_int signals, last_value;
struct aiocb *signalled;

static void on_aio(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    if (info->si_code == SI_ASYNCIO && info->si_pid == getpid() && info->si_uid == getuid() &&
        (!signalled || aio_error(signalled) != EINPROGRESS)) { /* P38 */
        last_value = info->si_value.sival_int;
        signals++;
    }
}

struct aiocb signalling(int fd, void *buf, int signo, int value)
{
    struct aiocb block = block_of(fd, buf, 1, 0);
    struct sigaction action = { .sa_sigaction = on_aio, .sa_flags = SA_SIGINFO | SA_RESTART };

    sigaction(signo ? signo : SIGUSR1, &action, NULL);
    block.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
    block.aio_sigevent.sigev_signo = signo;
    block.aio_sigevent.sigev_value.sival_int = value;
    return block;
}

void refuse_io_uring(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
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

/* ---- The runner ----------------------------------------------------------------------------- */

enum outcome { PASSED, FAILED, SKIPPED };

/* Its status. After a while it is ended, and with it whom it has started: from here, because who
 * hangs may have blocked all signals. */
static int end_of(pid_t child)
{
    double limit = now_s() + (takes_long ? LONG_LIMIT_S : LIMIT_S);
    int status, r;

    while ((r = waitpid(child, &status, WNOHANG)) == 0) {
        if (now_s() > limit)
            kill(-child, SIGKILL);
        nap_ms(1);
    }
    CHECK(r == child);
    return status;
}

static enum outcome outcome_of(const struct aio_case *test)
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
    status = end_of(child);
    if (WIFSIGNALED(status))
        printf("# killed by signal %d\n", WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_STATUS)
        return SKIPPED;
    return status ? FAILED : PASSED;
}

struct run {
    const char *only;
    const char *except[EXCEPT_MAX];
    bool glibc;
    unsigned excepted, number, failed;
};

static bool is_wanted(const struct run *run, const char *name)
{
    for (unsigned i = 0; i < run->excepted; i++)
        if (strcmp(run->except[i], name) == 0)
            return false;
    return !run->only || strcmp(run->only, name) == 0;
}

static void run_theme(struct run *run, const struct aio_case *test)
{
    for (; test->name; test++) {
        enum outcome outcome;
        bool good;

        if (!is_wanted(run, test->name))
            continue;
        outcome = outcome_of(test);
        good = outcome != FAILED;
        if (run->glibc && test->better && outcome != SKIPPED)
            good = !good; /* it is there to show that it is better */
        printf("%sok %u - %s%s\n", good ? "" : "not ", ++run->number, test->name,
               outcome == SKIPPED ? " # SKIP does not apply here" : "");
        run->failed += !good;
    }
}

int main(int argc, char **argv)
{
    struct run run = { 0 };

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--blocked") == 0)
            refuse_io_uring(EPERM);
        else if (strcmp(argv[i], "--glibc") == 0)
            run.glibc = true;
        else if (strcmp(argv[i], "--long") == 0)
            takes_long = true;
        else if (strcmp(argv[i], "--except") == 0 && i + 1 < argc && run.excepted < EXCEPT_MAX)
            run.except[run.excepted++] = argv[++i];
        else
            run.only = argv[i];
    }
    for (unsigned i = 0; i < sizeof(themes) / sizeof(*themes); i++)
        run_theme(&run, themes[i]);
    printf("1..%u\n", run.number);
    return run.failed ? 1 : 0;
}

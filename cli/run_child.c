/* SPDX-License-Identifier: MIT */
/* A program that `ouro run` starts and waits for. It stays in our process group, so what a terminal
 * sends reaches it by itself; what others send to us is passed on. We stop when it does, for shells
 * with job control, end by the signal that it ended by, and take it with us if we are killed. */
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not passed on: what stops us as it stops the program, what cannot be caught, what says that we
 * have a fault, and that nobody reads what we write. */
static bool is_passed_on(int signo)
{
    static const int kept[] = {
        SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP, SIGKILL, SIGSEGV, SIGBUS,
        SIGFPE,  SIGILL,  SIGTRAP, SIGSYS,  SIGABRT, SIGPIPE, SIGCHLD,
    };

    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        if (kept[i] == signo)
            return false;
    return true;
}

/* All that we take by sigwaitinfo. What was ignored when we were started stays so, for both. */
static void choose_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGCHLD);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        struct sigaction action;

        if (is_passed_on(signo) && sigaction(signo, NULL, &action) == 0 &&
            action.sa_handler != SIG_IGN)
            sigaddset(ret, signo);
    }
}

static void pass_on(pid_t child, const siginfo_t *info)
{
    int signo = info->si_signo;
    bool of_terminal = signo == SIGINT || signo == SIGQUIT || signo == SIGHUP || signo == SIGWINCH;

    if (of_terminal && info->si_code == SI_KERNEL)
        return; /* the program has got it as well */
    if (info->si_code == SI_QUEUE)
        (void)sigqueue(child, signo, info->si_value);
    else
        (void)kill(child, signo);
}

/* Unless we are to go on already: then so is the program. */
static void stop_as_well(void)
{
    sigset_t pending;

    if (sigpending(&pending) == 0 && !sigismember(&pending, SIGCONT))
        raise(SIGSTOP);
}

static int wait_for(pid_t child, const sigset_t *set)
{
    for (;;) {
        siginfo_t info;
        int signo = sigwaitinfo(set, &info), status;
        pid_t pid;

        if (signo > 0 && signo != SIGCHLD)
            pass_on(child, &info);
        while ((pid = waitpid(child, &status, WNOHANG | WUNTRACED)) > 0) {
            if (!WIFSTOPPED(status))
                return status;
            stop_as_well();
        }
        if (pid < 0 && errno != EINTR)
            return -errno;
    }
}

int run_child(const char *program, char **argv)
{
    struct sigaction action = { .sa_handler = SIG_DFL }, old_child;
    pid_t parent = getpid(), child;
    sigset_t set, old;

    choose_signals(&set);
    sigaction(SIGCHLD, &action, &old_child); /* ignored, it would lose the status */
    sigprocmask(SIG_BLOCK, &set, &old);
    fflush(NULL);
    child = fork();
    if (child < 0)
        return -errno;
    if (child > 0) {
        signal(SIGPIPE, SIG_IGN); /* the program's end matters more than what we say of it */
        return wait_for(child, &set);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(RUN_NOT_EXECUTABLE);
    sigaction(SIGCHLD, &old_child, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    execv(program, argv);
    cli_error("%s: %s", program, strerror(errno));
    _exit(RUN_NOT_EXECUTABLE);
}

int run_end_as(int status)
{
    if (WIFSIGNALED(status)) {
        struct rlimit none = { 0, 0 };
        int signo = WTERMSIG(status);
        sigset_t set;

        setrlimit(RLIMIT_CORE, &none); /* there is the program's already */
        sigemptyset(&set);
        sigaddset(&set, signo);
        signal(signo, SIG_DFL);
        raise(signo);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        return 128 + signo;
    }
    return WEXITSTATUS(status);
}

/* SPDX-License-Identifier: MIT */
/* What a command says to a person, all of it on stderr, and the signals that end a command early.
 * The signal handler only notes the signal: commands look at cli_signal and clean up themselves. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REDRAW_NS = 100 * 1000 * 1000 }; /* at most 10 redraws a second */

enum progress { PROGRESS_NONE, PROGRESS_DRAW, PROGRESS_LINES };

static const char *talk_command;
static bool talk_quiet;
static enum progress talk_progress;
static bool drawn; /* a progress line stands on the terminal */

volatile sig_atomic_t cli_signal;

void cli_talk_setup(const char *command, bool quiet, const char *progress)
{
    if (command)
        talk_command = command;
    talk_quiet = quiet;
    talk_progress = PROGRESS_NONE;
    if (quiet || !progress || strcmp(progress, "none") == 0)
        return;
    if (strcmp(progress, "plain") == 0)
        talk_progress = PROGRESS_LINES;
    else if (isatty(STDERR_FILENO))
        talk_progress = PROGRESS_DRAW;
}

static void say(const char *format, va_list args) CLI_PRINTF(1, 0);

static void say(const char *format, va_list args)
{
    cli_progress_end();
    fprintf(stderr, "ouro%s%s: ", talk_command ? " " : "", talk_command ? talk_command : "");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void cli_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
}

void cli_tell_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    fprintf(stderr, "Try 'ouro%s%s --help'.\n", talk_command ? " " : "",
            talk_command ? talk_command : "");
}

void cli_note(const char *format, ...)
{
    va_list args;

    if (talk_quiet)
        return;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void cli_progress(const char *format, ...)
{
    static struct timespec last;
    struct timespec now;
    va_list args;

    if (talk_progress == PROGRESS_NONE)
        return;
    if (talk_progress == PROGRESS_DRAW) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (drawn &&
            (now.tv_sec - last.tv_sec) * 1000000000LL + now.tv_nsec - last.tv_nsec < REDRAW_NS)
            return;
        last = now;
        fputs("\r\033[K", stderr);
        drawn = true;
    }
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (talk_progress == PROGRESS_LINES)
        fputc('\n', stderr);
    fflush(stderr);
}

void cli_progress_end(void)
{
    if (!drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    drawn = false;
}

static void note_signal(int signo)
{
    cli_signal = signo;
}

void cli_catch_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct sigaction action = { .sa_handler = note_signal }, old;

        /* A signal that our parent had ignored (nohup) stays ignored. */
        sigaction(signals[i], NULL, &old);
        if (old.sa_handler == SIG_IGN)
            continue;
        sigemptyset(&action.sa_mask);
        sigaction(signals[i], &action, NULL); /* no SA_RESTART: a long wait must end */
    }
    /* Who stops reading our output must not keep us from cleaning up; the write fails instead. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit likewise */
}

int cli_finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    cli_error("cannot write the output: %s", strerror(errno));
    return status == CLI_OK ? CLI_FAILED : status;
}

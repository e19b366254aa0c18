/* SPDX-License-Identifier: MIT */
/* aio_diff_world.c: notifications of random programs of POSIX AIO. */
#include "aio_diff_world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { NOTES = 256, PATIENCE_MS = 3000 };

struct note {
    atomic_bool there;
    int signo, code, value;
    bool right; /* from this process; in a thread without blocked signals */
};

static struct note notes[NOTES];
static atomic_uint note_count;
static unsigned notes_said;

static void take_note(int signo, int code, int value, bool right)
{
    unsigned at = atomic_fetch_add(&note_count, 1);

    if (at >= NOTES)
        return;
    notes[at].signo = signo;
    notes[at].code = code;
    notes[at].value = value;
    notes[at].right = right;
    notes[at].there = true;
}

static void take_signal(int signo, siginfo_t *info, void *context)
{
    (void)context;
    take_note(signo, info->si_code, info->si_value.sival_int,
              info->si_pid == getpid() && info->si_uid == getuid());
}

static void take_call(union sigval value)
{
    sigset_t now;

    pthread_sigmask(SIG_SETMASK, NULL, &now);
    take_note(0, 0, value.sival_int, sigisemptyset(&now));
}

static pthread_attr_t attributes[2];

/* The program's own thread blocks the signals, which are taken when it is time; threads that call
 * its functions do not, and may get them. */
void notes_begin(void)
{
    struct sigaction action = { .sa_sigaction = take_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigset_t ours;

    sigemptyset(&ours);
    for (int i = 0; i < 4; i++) {
        sigaction(SIGRTMIN + i, &action, NULL);
        sigaddset(&ours, SIGRTMIN + i);
    }
    sigprocmask(SIG_BLOCK, &ours, NULL);
    pthread_attr_init(&attributes[0]);
    pthread_attr_setdetachstate(&attributes[0], PTHREAD_CREATE_DETACHED);
    pthread_attr_init(&attributes[1]);
    pthread_attr_setstacksize(&attributes[1], 1 << 18);
}

struct sigevent world_event(enum notify notify, unsigned variant, int value)
{
    static const int bad[] = { -1, 65, 1000, 1 << 30 };
    static const int kinds[] = { SIGEV_NONE,   4711,         SIGEV_SIGNAL, SIGEV_SIGNAL,
                                 SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD };
    struct sigevent event;

    memset(&event, 0, sizeof(event));
    event.sigev_notify = kinds[notify];
    event.sigev_value.sival_int = value;
    if (notify == SIGNAL)
        event.sigev_signo = SIGRTMIN + (int)(variant % 4);
    else if (notify == SIGNAL_BAD)
        event.sigev_signo = bad[variant % 4];
    if (notify == THREAD || notify == THREAD_ATTR)
        event.sigev_notify_function = take_call;
    if (notify == THREAD_ATTR)
        event.sigev_notify_attributes = &attributes[variant % 2];
    return event;
}

bool world_tells(enum notify notify)
{
    return notify == SIGNAL || notify == THREAD || notify == THREAD_ATTR;
}

static void take_pending(void)
{
    sigset_t ours;
    siginfo_t info;

    sigemptyset(&ours);
    for (int i = 0; i < 4; i++)
        sigaddset(&ours, SIGRTMIN + i);
    while (sigtimedwait(&ours, &info, &(struct timespec){ 0 }) > 0)
        take_signal(info.si_signo, &info, NULL);
}

static int by_value(const void *a, const void *b)
{
    const struct note *one = a, *two = b;

    return one->value < two->value ? -1 : one->value > two->value;
}

void world_notes(unsigned expected)
{
    unsigned count = 0;

    for (int i = 0; i < PATIENCE_MS * 10; i++) {
        take_pending();
        for (count = 0; count < NOTES && notes[count].there;)
            count++;
        if (count >= expected)
            break;
        nanosleep(&(struct timespec){ .tv_nsec = 100 * 1000 }, NULL);
    }
    if (count > notes_said)
        qsort(notes + notes_said, count - notes_said, sizeof(*notes), by_value);
    for (; notes_said < count; notes_said++) {
        const struct note *note = &notes[notes_said];

        say("told %d: %s %d, code %d%s\n", note->value, note->signo ? "signal" : "call",
            note->signo, note->code, note->right ? "" : ", not as promised");
    }
    if (count != expected)
        say("told %u times of %u\n", count, expected);
}

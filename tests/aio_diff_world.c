/* SPDX-License-Identifier: MIT */
/* aio_diff_world.c: descriptors, buffers and notifications of random programs. */
#include "aio_diff_world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 100, FIRST_FAR = 120, PAGE = 4096, NOTES = 256, PATIENCE_MS = 3000 };

struct target targets[TARGETS];

static const char *directory;
static char *memory, *forbidden, *read_only;
static char *trace;
static size_t trace_used;

/* ---- The trace ------------------------------------------------------------------------------ */

void say_to(char *to)
{
    trace = to;
    trace_used = 0;
}

void say(const char *format, ...)
{
    va_list args;
    int r;

    va_start(args, format);
    r = vsnprintf(trace + trace_used, TRACE - trace_used, format, args);
    va_end(args);
    if (r > 0 && trace_used + (size_t)r < TRACE)
        trace_used += (size_t)r;
}

uint32_t hash_of(const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < count; i++)
        hash = (hash ^ at[i]) * 16777619u;
    return hash;
}

void fill(void *bytes, size_t count, int64_t at, unsigned salt)
{
    unsigned char *to = bytes;

    for (size_t i = 0; i < count; i++) {
        uint64_t place = (uint64_t)at + i;

        to[i] = (unsigned char)(place * 31 + (place >> 8) + salt * 17);
    }
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

static void move(int *fd, int to)
{
    if (*fd < 0)
        return;
    dup2(*fd, to);
    close(*fd);
    *fd = to;
}

static int open_file(unsigned number, enum kind kind, unsigned size)
{
    static const int flags[] = {
        [FILE_RW] = O_RDWR,       [FILE_APPEND] = O_RDWR | O_APPEND,
        [FILE_RDONLY] = O_RDONLY, [FILE_WRONLY] = O_WRONLY,
        [FILE_PATH] = O_PATH,     [FILE_NONBLOCK] = O_RDWR | O_NONBLOCK,
    };
    static char bytes[1 << 16];
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/t%u", directory, number);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    fill(bytes, size, 0, 1);
    if (fd >= 0 && write(fd, bytes, size) < 0)
        say("! a file cannot be filled: %s\n", strerror(errno));
    close(fd);
    return open(path, flags[kind]);
}

static int open_terminal(int *ret_far)
{
    char name[64];
    struct termios raw;
    int fd;

    *ret_far = posix_openpt(O_RDWR | O_NOCTTY);
    if (grantpt(*ret_far) || unlockpt(*ret_far) || ptsname_r(*ret_far, name, sizeof(name)))
        return -1;
    fd = open(name, O_RDWR | O_NOCTTY);
    tcgetattr(fd, &raw);
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    return fd;
}

static int open_stream(enum kind kind, int *ret_far)
{
    int fds[2] = { -1, -1 }, nonblock = kind == SOCKET_NONBLOCK ? SOCK_NONBLOCK : 0;
    bool reads = kind == PIPE_READ || kind == PIPE_NONBLOCK || kind == PIPE_ENDED;

    if (kind == TERMINAL)
        return open_terminal(ret_far);
    if (kind == SOCKET || kind == SOCKET_NONBLOCK || kind == SOCKET_ENDED)
        (void)!socketpair(AF_UNIX, SOCK_STREAM | nonblock, 0, fds);
    else
        (void)!pipe(fds);
    *ret_far = fds[reads ? 1 : 0];
    if (kind == PIPE_NONBLOCK)
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
    return fds[reads ? 0 : 1];
}

static int open_kind(unsigned number, enum kind kind, unsigned size, int *ret_far)
{
    *ret_far = -1;
    if (is_file(kind))
        return open_file(number, kind, size);
    switch (kind) {
    case DIRECTORY: return open("/", O_RDONLY | O_DIRECTORY);
    case DEV_NULL: return open("/dev/null", O_RDWR);
    case DEV_ZERO: return open("/dev/zero", O_RDWR);
    case DEV_FULL: return open("/dev/full", O_RDWR);
    case PROC_FILE: return open("/proc/version", O_RDONLY);
    case EVENT_FD: return eventfd(5, EFD_NONBLOCK);
    case CLOSED:
    case MINUS_ONE: return -1;
    default: return open_stream(kind, ret_far);
    }
}

void world_open(unsigned number, enum kind kind, unsigned size)
{
    struct target *target = &targets[number];

    *target = (struct target){ .kind = kind };
    target->fd = open_kind(number, kind, size, &target->far);
    if (target->fd < 0 && kind < CLOSED)
        say("! t%u: %s\n", number, strerror(errno));
    move(&target->far, FIRST_FAR + (int)number);
    move(&target->fd, FIRST_FD + (int)number);
    if (kind == PIPE_ENDED || kind == PIPE_BROKEN || kind == SOCKET_ENDED) {
        close(target->far);
        target->far = -1;
    }
    if (kind == CLOSED)
        target->fd = FIRST_FD + (int)number;
}

void world_end(unsigned number)
{
    static char bytes[1 << 18];
    struct target *target = &targets[number];
    char path[256];

    if (is_file(target->kind)) {
        ssize_t count = -1;
        int fd;

        snprintf(path, sizeof(path), "%s/t%u", directory, number);
        fd = open(path, O_RDONLY);
        count = read(fd, bytes, sizeof(bytes));
        close(fd);
        say("t%u ends: %zd bytes %08x, position %lld\n", number, count,
            hash_of(bytes, count < 0 ? 0 : (size_t)count),
            (long long)lseek(target->fd, 0, SEEK_CUR));
    }
    if (target->kind < CLOSED)
        close(target->fd);
    if (target->far >= 0)
        close(target->far);
    *target = (struct target){ .kind = CLOSED, .fd = FIRST_FD + (int)number, .far = -1 };
}

static bool ready(int fd, int timeout_ms)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    return poll(&entry, 1, timeout_ms) > 0;
}

void world_feed(unsigned number, size_t count, unsigned salt)
{
    char bytes[8192];

    fill(bytes, count, 0, salt);
    if (write(targets[number].far, bytes, count) != (ssize_t)count)
        say("! t%u cannot be fed\n", number);
    targets[number].avail += count;
}

void world_await_bytes(unsigned number)
{
    struct target *target = &targets[number];

    for (int i = 0, count = 0; target->kind == TERMINAL && i < 1000; i++) {
        if (ioctl(target->fd, FIONREAD, &count) < 0 || (size_t)count >= target->avail)
            return;
        nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 }, NULL);
    }
}

void world_drain(unsigned number)
{
    static char bytes[1 << 17];
    struct target *target = &targets[number];
    size_t got = 0;

    while (got < target->sent && ready(target->far, 1000)) {
        ssize_t r = read(target->far, bytes + got, sizeof(bytes) - got);

        if (r <= 0)
            break;
        got += (size_t)r;
    }
    if (target->sent)
        say("t%u was written %zu of %zu bytes %08x\n", number, got, target->sent,
            hash_of(bytes, got));
    target->sent = 0;
}

void world_forget(unsigned number)
{
    struct target *target = &targets[number];
    char bytes[8192];
    int ends[] = { target->fd, target->far };

    for (unsigned i = 0; i < 2; i++)
        while (ends[i] >= 0 && ready(ends[i], 0) && read(ends[i], bytes, sizeof(bytes)) > 0)
            continue;
    target->avail = target->sent = 0;
}

/* ---- Buffers -------------------------------------------------------------------------------- */

void *world_buffer(const struct ask *ask, size_t *ret_room)
{
    char *at = memory + ask->block * (size_t)(BUFFER + PAGE);

    *ret_room = BUFFER;
    switch (ask->where) {
    case GOOD: return at;
    case EDGE: *ret_room = ask->size / 2 < BUFFER ? ask->size / 2 : BUFFER; break;
    case READ_ONLY: return read_only;
    default: *ret_room = 0; break;
    }
    switch (ask->where) {
    case LOW: return (void *)8;                   // NOLINT(performance-no-int-to-ptr)
    case KERNEL: return (void *)(uintptr_t)-4096; // NOLINT(performance-no-int-to-ptr)
    case FORBIDDEN: return forbidden;
    case EDGE: return at + BUFFER - *ret_room;
    default: return NULL;
    }
}

/* ---- Notifications -------------------------------------------------------------------------- */

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
static void begin_notes(void)
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

void world_begin(const char *dir)
{
    size_t size = BLOCKS * (size_t)(BUFFER + PAGE);

    directory = dir;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        mprotect(memory + i * (BUFFER + PAGE) + BUFFER, PAGE, PROT_NONE);
    forbidden = mmap(NULL, BUFFER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    read_only = mmap(NULL, BUFFER, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_notes();
}

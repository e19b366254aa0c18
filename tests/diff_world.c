/* SPDX-License-Identifier: MIT */
/* diff_world.c: descriptors, buffers and traces of random programs. */
#include "diff_world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
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

enum { FIRST_FD = 100, FIRST_FAR = 120, PAGE = 4096 };

struct target targets[TARGETS];

static const char *directory;
static char *memory, *forbidden, *read_only;
static char *trace;
static size_t trace_used;

/* ---- Kinds of descriptors -------------------------------------------------------------------- */

const char *const kind_names[KINDS] = {
    "file",
    "file, O_APPEND",
    "file, O_RDONLY",
    "file, O_WRONLY",
    "file, O_NONBLOCK",
    "file, O_PATH",
    "directory",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/proc/version",
    "eventfd",
    "pipe that is read",
    "pipe that is written",
    "pipe that is read, O_NONBLOCK",
    "pipe whose writer has closed",
    "pipe whose reader has closed",
    "socketpair",
    "socketpair, O_NONBLOCK",
    "socketpair whose peer has closed",
    "terminal",
    "closed",
    "-1",
    "file, O_DIRECT",
};

bool is_file(enum kind kind)
{
    return kind <= FILE_PATH || kind == FILE_DIRECT;
}

bool is_stream(enum kind kind)
{
    return kind == PIPE_READ || kind == PIPE_WRITE || kind == PIPE_NONBLOCK || kind == SOCKET ||
           kind == SOCKET_NONBLOCK || kind == TERMINAL;
}

bool has_no_position(enum kind kind)
{
    return kind >= PIPE_READ && kind <= TERMINAL;
}

bool has_descriptor(enum kind kind)
{
    return kind != CLOSED && kind != MINUS_ONE;
}

/* ---- The trace ------------------------------------------------------------------------------ */

void say_to(char *to)
{
    trace = to;
    trace_used = 0;
}

void say_on(char *to)
{
    trace = to;
    trace_used = strlen(to);
}

void say(const char *format, ...)
{
    va_list args;
    int r;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it was begun */
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

void world_contents(unsigned number)
{
    static char bytes[1 << 18];
    char path[256];
    ssize_t count;
    int fd;

    snprintf(path, sizeof(path), "%s/t%u", directory, number);
    fd = open(path, O_RDONLY);
    count = read(fd, bytes, sizeof(bytes));
    close(fd);
    say("t%u has %zd bytes %08x\n", number, count, hash_of(bytes, count < 0 ? 0 : (size_t)count));
}

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
        [FILE_RW] = O_RDWR,
        [FILE_APPEND] = O_RDWR | O_APPEND,
        [FILE_RDONLY] = O_RDONLY,
        [FILE_WRONLY] = O_WRONLY,
        [FILE_PATH] = O_PATH,
        [FILE_NONBLOCK] = O_RDWR | O_NONBLOCK,
        [FILE_DIRECT] = O_RDWR | O_DIRECT,
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
    if (target->fd < 0 && has_descriptor(kind))
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
    struct target *target = &targets[number];

    if (is_file(target->kind)) {
        world_contents(number);
        say("t%u is at %lld\n", number, (long long)lseek(target->fd, 0, SEEK_CUR));
    }
    if (has_descriptor(target->kind))
        close(target->fd);
    if (target->far >= 0)
        close(target->far);
    *target = (struct target){ .kind = CLOSED, .fd = FIRST_FD + (int)number, .far = -1 };
}

static bool ready(int fd, int timeout_ms)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };
    int r;

    while ((r = poll(&entry, 1, timeout_ms)) < 0 && errno == EINTR)
        continue;
    return r > 0;
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

void *world_buffer(enum where where, unsigned block, size_t size, size_t *ret_room)
{
    char *at = memory + block * (size_t)(BUFFER + PAGE);

    *ret_room = BUFFER;
    switch (where) {
    case GOOD: return at;
    case EDGE: *ret_room = size / 2 < BUFFER ? size / 2 : BUFFER; break;
    case READ_ONLY: return read_only;
    default: *ret_room = 0; break;
    }
    switch (where) {
    case LOW: return (void *)8;                   // NOLINT(performance-no-int-to-ptr)
    case KERNEL: return (void *)(uintptr_t)-4096; // NOLINT(performance-no-int-to-ptr)
    case FORBIDDEN: return forbidden;
    case EDGE: return at + BUFFER - *ret_room;
    default: return NULL;
    }
}

void world_clear(const char *dir)
{
    char path[256];

    directory = dir;
    for (unsigned i = 0; i < TARGETS; i++) {
        snprintf(path, sizeof(path), "%s/t%u", directory, i);
        unlink(path);
    }
}

void world_begin(const char *dir)
{
    size_t size = BUFFERS * (size_t)(BUFFER + PAGE);

    directory = dir;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < BUFFERS; i++)
        mprotect(memory + i * (BUFFER + PAGE) + BUFFER, PAGE, PROT_NONE);
    forbidden = mmap(NULL, BUFFER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    read_only = mmap(NULL, BUFFER, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

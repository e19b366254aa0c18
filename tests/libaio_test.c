/* SPDX-License-Identifier: MIT */
/* libaio_test.c: what programs may rely on of libaio, a test for each statement, found by its
 * number. It is a program of <libaio.h> and the kernel's calls alone, and knows nothing of ouro:
 * the drop-in is preloaded (LIBAIO in the Makefile), also where io_uring is refused, on other
 * engines and in pure mode. By itself it runs on the system's libaio and the kernel; BETTER marks
 * what those do not do. Here are helpers for contexts and requests; the runner is dropin_test.c,
 * and the tests are in libaio_context.c, libaio_submit.c, libaio_error.c, libaio_stream.c,
 * libaio_event.c, libaio_wait.c, libaio_ring.c, libaio_process.c, libaio_end.c and
 * libaio_trouble.c. */
#include "libaio_test.h"

#include <sys/mman.h>
#include <time.h>

enum { PATIENCE_MS = 8000, PAGE = 4096 };

static const struct dropin_case *const themes[] = {
    context_tests, submit_tests, error_tests,   stream_tests, event_tests,
    wait_tests,    ring_tests,   process_tests, end_tests,    trouble_tests,
};

struct ring *ring_of(io_context_t context)
{
    return (struct ring *)(void *)context;
}

bool is_pure(void)
{
    const char *value = getenv("OURO_AIO_PURE");

    return value && strcmp(value, "1") == 0;
}

io_context_t context_of(int nr)
{
    io_context_t context = NULL;
    int r = io_setup(nr, &context);

    errno = -r;
    CHECK(r == 0 && context);
    return context;
}

/* ---- Requests ------------------------------------------------------------------------------- */

int submit(io_context_t context, struct iocb *iocb)
{
    return io_submit(context, 1, &iocb);
}

long raw_submit(io_context_t context, long nr, struct iocb **list)
{
    long r = syscall(SYS_io_submit, context, nr, list);

    return r < 0 ? -errno : r;
}

long raw_getevents(io_context_t context, long min, long nr, struct io_event *events,
                   struct timespec *timeout)
{
    long r = syscall(SYS_io_getevents, context, min, nr, events, timeout);

    return r < 0 ? -errno : r;
}

static bool take_from_ring(struct ring *ring, struct io_event *ret)
{
    unsigned head = ring->head, tail = ring->tail;

    if (head == tail)
        return false;
    *ret = ring->events[head % ring->nr];
    ring->head = (head + 1) % ring->nr;
    return true;
}

bool take_within(io_context_t context, enum path path, long ms, struct io_event *ret)
{
    struct timespec timeout = { ms / 1000, ms % 1000 * 1000000 };
    double limit = now_s() + (double)ms / 1e3;
    long r;

    memset(ret, 0x5a, sizeof(*ret));
    if (path == BY_RING) {
        while (!take_from_ring(ring_of(context), ret)) {
            if (now_s() > limit)
                return false;
            usleep(20);
        }
        return true;
    }
    r = path == BY_CALL ? io_getevents(context, 1, 1, ret, &timeout)
                        : raw_getevents(context, 1, 1, ret, &timeout);
    errno = r < 0 ? (int)-r : errno;
    CHECK(r == 0 || r == 1);
    return r == 1;
}

struct io_event take(io_context_t context, enum path path)
{
    struct io_event event;

    CHECK(take_within(context, path, PATIENCE_MS, &event));
    return event;
}

long result_of(const struct io_event *event)
{
    CHECK(event->res2 == 0);
    return (long)event->res;
}

long outcome_by(io_context_t context, struct iocb *iocb, enum path path)
{
    struct io_event event;
    int r;

    iocb->data = &iocb->data;
    r = submit(context, iocb);
    errno = r < 0 ? -r : errno;
    CHECK(r == 1);
    event = take(context, path);
    CHECK(event.obj == iocb && event.data == &iocb->data);
    return result_of(&event);
}

long outcome(io_context_t context, struct iocb *iocb)
{
    return outcome_by(context, iocb, BY_CALL);
}

void check_empty(io_context_t context)
{
    struct io_event event;
    struct timespec none = { 0, 0 };

    CHECK(io_getevents(context, 0, 1, &event, &none) == 0);
    CHECK(ring_of(context)->head == ring_of(context)->tail);
}

/* ---- Files and what is in them -------------------------------------------------------------- */

static char byte_at(off_t at)
{
    return (char)((uint64_t)at * 31 + ((uint64_t)at >> 8) * 7 + 1);
}

void fill_at(char *bytes, size_t count, off_t at)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = byte_at(at + (off_t)i);
}

bool is_filled(const char *bytes, size_t count, off_t at)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != byte_at(at + (off_t)i))
            return false;
    return true;
}

void drop_cache(int fd)
{
    CHECK(fsync(fd) == 0);
    CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
}

int file_of(size_t size, int flags)
{
    int fd = temp_file(0);
    char *bytes = aligned(size + PAGE), path[64];
    int again;

    fill_at(bytes, size, 0);
    CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
    drop_cache(fd);
    munmap(bytes, size + PAGE);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = open(path, O_RDWR | flags);
    CHECK(again >= 0);
    close(fd);
    return again;
}

char *aligned(size_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED);
    return memory;
}

int main(int argc, char **argv)
{
    return run_tests(argc, argv, themes, sizeof(themes) / sizeof(*themes));
}

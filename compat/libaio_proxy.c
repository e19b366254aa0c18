/* SPDX-License-Identifier: MIT */
/* libaio_proxy.c: the program's block, submitted as it is, on other files.
 *
 * An event bears the address of a block that is submitted, and whoever sees the event may look at
 * the block at once. So it should not be changed, not even for a moment. A thread of ours has a
 * table of descriptors of its own, where the numbers in the block stand for other files: one that
 * is written is /dev/null; one that is read is a pipe that holds the very memory that was read
 * into, so that the kernel copies the bytes onto themselves and counts them; the descriptor that
 * is to be told is a counter of nobody's, and the right one is told behind it.
 *
 * The thread has no descriptor of the program's: it begins with an empty table. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    STACK = 64 * 1024,
    PIPE_SIZE = 1 << 20, /* what every user may have */
};
enum { IDLE, ASKED, ANSWERED };
enum { NULL_FILE, PIPE_IN, PIPE_OUT, COUNTER, FAILING, FILES };

static struct {
    bool tried, there;
    _Atomic uint32_t state;
    struct laio_context *context;
    struct laio_request *const *requests;
    unsigned count, done;
    long result;
    /* Of the thread. */
    int files[FILES];
    int shown[2]; /* numbers that stand for something: of a file, and of a counter */
    int shown_as; /* of the first one */
} proxy;

/* ---- Its descriptors ------------------------------------------------------------------------ */

static long close_number(int *number)
{
    long r = *number < 0 ? 0 : LAIO_KERNEL(SYS_close, *number);

    *number = -1;
    return r;
}

static int make_pipe(void)
{
    close_number(&proxy.files[PIPE_IN]);
    close_number(&proxy.files[PIPE_OUT]);
    if (pipe2(&proxy.files[PIPE_IN], O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    (void)LAIO_KERNEL(SYS_fcntl, proxy.files[PIPE_OUT], F_SETPIPE_SZ, PIPE_SIZE);
    return 0;
}

static int open_files(void)
{
    int r = (int)LAIO_KERNEL(SYS_close_range, 0, UINT_MAX, CLOSE_RANGE_UNSHARE);

    memset(proxy.files, -1, sizeof(proxy.files));
    proxy.shown[0] = proxy.shown[1] = -1;
    if (r < 0)
        return r;
    proxy.files[NULL_FILE] = open("/dev/null", O_RDWR | O_CLOEXEC);
    proxy.files[COUNTER] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return proxy.files[NULL_FILE] < 0 || proxy.files[COUNTER] < 0 ? -EMFILE : make_pipe();
}

/* The number is wanted for something else. */
static bool make_way(int number)
{
    for (int i = 0; i < FILES; i++)
        if (proxy.files[i] == number) {
            proxy.files[i] = (int)LAIO_KERNEL(SYS_fcntl, number, F_DUPFD_CLOEXEC, 0);
            return proxy.files[i] >= 0;
        }
    return true;
}

/* From now on `number` is that file, and no other number of that place is one. */
static bool show(int place, int number, int file)
{
    if (proxy.shown[place] == number && (place == 1 || proxy.shown_as == file))
        return true;
    close_number(&proxy.shown[place]);
    if (proxy.shown[!place] == number)
        proxy.shown[!place] = -1;
    if (!make_way(number) || LAIO_KERNEL(SYS_dup3, proxy.files[file], number, O_CLOEXEC) != number)
        return false;
    proxy.shown[place] = number;
    if (place == 0)
        proxy.shown_as = file;
    return true;
}

/* ---- One request ---------------------------------------------------------------------------- */

static bool fill_pipe(const struct laio_request *request)
{
    const struct iovec part = { (void *)(uintptr_t)request->copy.aio_buf, // NOLINT
                                (size_t)request->res };

    return LAIO_KERNEL(SYS_vmsplice, proxy.files[PIPE_OUT], &part, 1,
                       1 << 1 /* SPLICE_F_NONBLOCK */) == request->res;
}

/* The other end of a pair, closed. Each signal is blocked here, SIGPIPE too. */
static int open_pipe_without_readers(void)
{
    int pair[2];

    if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    close(pair[0]);
    return pair[1];
}

int laio_proxy_error(const struct laio_request *request)
{
    bool writes = laio_writes(&request->copy), at_0 = request->copy.aio_offset == 0;
    int error = (int)-request->res;

    return error == EFAULT || (error == EAGAIN && !writes) || (error == EPIPE && writes) ||
                   (error == ECONNRESET && !writes && at_0)
               ? error
               : EIO;
}

/* What fails for the same reason as the request, or else with EIO. False: not to be had. */
static bool open_failing(const struct laio_request *request, int *ret_file)
{
    bool writes = laio_writes(&request->copy);
    int fd = -1;

    *ret_file = FAILING;
    switch (laio_proxy_error(request)) {
    case EAGAIN: *ret_file = PIPE_IN; return true; /* it is empty */
    case EFAULT:                                   /* the buffer is as bad as it was */
        if (writes)
            *ret_file = PIPE_OUT;
        else
            fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        break;
    case EPIPE: fd = open_pipe_without_readers(); break;
    case ECONNRESET: fd = laio_open_reset(); break;
    default: fd = laio_open_terminal(writes); break;
    }
    proxy.files[FAILING] = fd;
    return fd >= 0 || *ret_file != FAILING;
}

static void close_failing(void)
{
    if (proxy.files[FAILING] < 0)
        return;
    close_number(&proxy.files[FAILING]);
    close_number(&proxy.shown[0]);
}

/* As io_submit; -EBADF: it cannot be done so. */
static long submit_one(struct laio_context *context, const struct laio_request *request)
{
    const struct iocb *block = &request->copy;
    struct iocb *at = request->at;
    bool fills = !laio_writes(block) && request->res > 0;
    bool tells = block->aio_flags & IOCB_FLAG_RESFD;
    int file = fills ? PIPE_IN : NULL_FILE;
    long r = -EBADF;

    if (tells && block->aio_resfd == block->aio_fildes)
        return -EBADF;
    if (request->res < 0 && !open_failing(request, &file))
        return -EBADF;
    if (show(0, (int)block->aio_fildes, file) &&
        (!tells || show(1, (int)block->aio_resfd, COUNTER)) && (!fills || fill_pipe(request)))
        r = LAIO_KERNEL(SYS_io_submit, context->address, 1, &at);
    close_failing();
    if (r != 1) { /* the pipe is not empty, and who knows what is where */
        close_number(&proxy.shown[0]);
        close_number(&proxy.shown[1]);
        (void)make_pipe();
    }
    return r;
}

static void *thread_main(void *arg)
{
    int r = open_files();
    uint32_t state;

    (void)arg;
    prctl(PR_SET_NAME, "ouro-aio-ring", 0, 0, 0);
    proxy.result = r;
    for (;;) {
        atomic_store(&proxy.state, ANSWERED);
        aio_futex_wake(&proxy.state);
        if (r < 0)
            return NULL;
        while ((state = atomic_load(&proxy.state)) != ASKED)
            (void)aio_futex_wait(&proxy.state, state, NULL);
        proxy.result = 1;
        for (proxy.done = 0; proxy.done < proxy.count && proxy.result == 1;
             proxy.done += proxy.result == 1)
            proxy.result = submit_one(proxy.context, proxy.requests[proxy.done]);
    }
}

/* ---- Who asks ------------------------------------------------------------------------------- */

static void await_answer(void)
{
    uint32_t state;

    while ((state = atomic_load(&proxy.state)) != ANSWERED)
        (void)aio_futex_wait(&proxy.state, state, NULL);
    atomic_store(&proxy.state, IDLE);
}

static bool start(void)
{
    proxy.tried = true;
    if (aio_thread(thread_main, NULL, STACK) < 0)
        return false;
    await_answer();
    return proxy.result == 0;
}

/* The kernel would read a vector once more, which may be anything by now, or between a look at it
 * and that. /dev/null takes all, and a pipe so much. */
bool laio_proxy_can(const struct laio_request *request)
{
    bool writes = laio_writes(&request->copy);

    if (laio_is_vector(&request->copy) ||
        (writes && request->res >= 0 && (uint64_t)request->res != request->copy.aio_nbytes) ||
        (!writes && request->res > PIPE_SIZE))
        return false;
    if (!proxy.tried)
        proxy.there = start();
    return proxy.there;
}

unsigned laio_proxy_submit(struct laio_context *context, struct laio_request *const *requests,
                           unsigned count, long *ret_error)
{
    proxy.context = context;
    proxy.requests = requests;
    proxy.count = count;
    atomic_store(&proxy.state, ASKED);
    aio_futex_wake(&proxy.state);
    await_answer();
    *ret_error = proxy.result;
    return proxy.done;
}

void laio_proxy_forked(void)
{
    memset(&proxy, 0, sizeof(proxy));
}

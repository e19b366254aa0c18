/* SPDX-License-Identifier: MIT */
/* libaio_held.c: where io_uring is not to be had: requests whose files are held.
 *
 * The kernel, and so does io_uring, holds the file of a request from io_submit on. An operation of
 * the other engines begins some time later, and by then its descriptor may be closed, or another
 * file's. A second descriptor in the program's table is no way out: to close it would drop the
 * program's record locks (fcntl(2)). So there is a thread with a table of its own, and a loop of
 * its own. Requests are sent to it, each with its file (SCM_RIGHTS), which it has under a number of
 * its own until the request is over. The program may close the socket, with all else: what is there
 * goes on, and there is a new thread for what comes.
 *
 * That thread must not touch what the program's table has: see laio_finish_apart. */
#include "libaio_dropin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    STACK = 128 * 1024,
    BATCH = 64,
    SPARE = 64,    /* descriptors that the loop may want for itself */
    SLICE_MS = 10, /* without a socket the thread looks so often for what is cancelled */
};

/* A file that the thread has. */
struct laio_file {
    ouro_op close;          /* first: it is the file */
    struct laio_file *next; /* of those that are shared, or unused */
    int number;             /* the program's */
    unsigned users;
    bool shared; /* requests that keep an order have one descriptor, by which the loop knows it */
};

struct laio_keeper {
    ouro_loop *loop;
    const char *engine;
    ouro_op watch;
    bool watched;
    bool ended; /* the program has closed its end */
    int socket;
    unsigned busy; /* operations that are in the loop */
    struct laio_file *shared, *unused;
    _Atomic bool looks; /* for requests that are cancelled */
    _Atomic uint32_t open;
    int error;
};

static struct {
    struct laio_keeper *keeper; /* with the lock */
    int socket;                 /* its other end; the program's table has it */
    bool off;                   /* no such thread is to be had */
    uint32_t most;
    _Atomic uint32_t count; /* requests that are held */
} held;

/* ---- The thread: files ---------------------------------------------------------------------- */

/* Has each of its kind an inode of its own? All eventfds share one, and so do openings of a device
 * that makes something new. */
static bool has_own_inode(const struct stat *st)
{
    return S_ISREG(st->st_mode) || S_ISFIFO(st->st_mode) || S_ISSOCK(st->st_mode);
}

/* Containers refuse kcmp(2). */
static bool is_same_file(int a, int b)
{
    pid_t self = (pid_t)LAIO_KERNEL(SYS_gettid, 0); /* the process has another table */
    long r = LAIO_KERNEL(SYS_kcmp, self, self, KCMP_FILE, a, b);
    struct stat one = { 0 }, other = { 0 };

    if (r >= 0)
        return r == 0;
    return LAIO_KERNEL(SYS_fstat, a, &one) == 0 && has_own_inode(&one) &&
           LAIO_KERNEL(SYS_fstat, b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino &&
           LAIO_KERNEL(SYS_fcntl, a, F_GETFL) == LAIO_KERNEL(SYS_fcntl, b, F_GETFL);
}

static struct laio_file *find_shared(const struct laio_keeper *keeper, int number, int fd)
{
    struct laio_file *file = keeper->shared;

    while (file && (file->number != number || !is_same_file(file->close.fd, fd)))
        file = file->next;
    return file;
}

/* NULL: no memory. The descriptor is its own from now on. */
static struct laio_file *file_of(struct laio_keeper *keeper, const struct laio_request *request,
                                 int fd)
{
    bool shared = request->op.flags & OURO_SERIAL;
    int number = (int)request->copy.aio_fildes;
    struct laio_file *file = shared ? find_shared(keeper, number, fd) : NULL;

    if (file) {
        (void)LAIO_KERNEL(SYS_close, fd);
        file->users++;
        return file;
    }
    file = keeper->unused;
    if (file)
        keeper->unused = file->next;
    else
        file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    ouro_prep_close(&file->close, fd);
    file->number = number;
    file->users = 1;
    file->shared = shared;
    if (shared) {
        file->next = keeper->shared;
        keeper->shared = file;
    }
    return file;
}

static void put_away(struct laio_keeper *keeper, struct laio_file *file)
{
    file->next = keeper->unused;
    keeper->unused = file;
}

/* By the loop, which may still know its number. */
static void release(struct laio_keeper *keeper, struct laio_file *file)
{
    struct laio_file **at = &keeper->shared;

    if (--file->users)
        return;
    while (file->shared && *at != file)
        at = &(*at)->next;
    if (file->shared)
        *at = file->next;
    keeper->busy++;
    if (ouro_submit(keeper->loop, &file->close) < 0) {
        keeper->busy--;
        (void)LAIO_KERNEL(SYS_close, file->close.fd);
        put_away(keeper, file);
    }
}

/* ---- The thread: requests ------------------------------------------------------------------- */

static void end(struct laio_request *request, int64_t res)
{
    const ouro_event event = { .op = &request->op, .res = res };

    atomic_fetch_sub(&held.count, 1);
    laio_finish_apart(&event, 1);
}

static void begin(struct laio_keeper *keeper, struct laio_request *request, int fd)
{
    int r = fd < 0 ? -EMFILE : -ENOMEM;

    request->source = fd < 0 ? NULL : file_of(keeper, request, fd);
    if (request->source) {
        request->op.fd = request->source->close.fd;
        r = ouro_submit(keeper->loop, &request->op);
    } else if (fd >= 0) {
        (void)LAIO_KERNEL(SYS_close, fd);
    }
    if (r >= 0) {
        keeper->busy++;
        if (request->canceled) /* before it was here */
            atomic_store(&keeper->looks, true);
        return;
    }
    if (request->source)
        release(keeper, request->source);
    end(request, r);
}

/* False: there is no more now. */
static bool take_message(struct laio_keeper *keeper)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .align = { 0 } };
    struct laio_request *request = NULL;
    struct iovec part = { &request, sizeof(request) };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof(control.bytes) };
    long r = LAIO_KERNEL(SYS_recvmsg, keeper->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *first;
    int fd = -1;

    if (r <= 0) {
        keeper->ended = r != -EAGAIN && r != -EINTR;
        return r == -EINTR;
    }
    first = CMSG_FIRSTHDR(&message);
    if (first && first->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(first), sizeof(fd));
    if (request)
        begin(keeper, request, fd);
    return true;
}

/* Of events: those of requests. */
static unsigned sort_out(struct laio_keeper *keeper, ouro_event *events, unsigned count)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++) {
        ouro_op *op = events[i].op;
        struct laio_request *request = op->user;

        if (op == &keeper->watch) {
            keeper->watched = false;
            continue;
        }
        keeper->busy--;
        if (!request) {
            put_away(keeper, (struct laio_file *)(void *)op);
            continue;
        }
        release(keeper, request->source);
        events[kept++] = events[i];
    }
    return kept;
}

static void turn(struct laio_keeper *keeper)
{
    ouro_time until = keeper->ended ? ouro_now(keeper->loop) + SLICE_MS * OURO_MS : OURO_FOREVER;
    ouro_event events[BATCH];
    int count;

    if (!keeper->ended && !keeper->watched) {
        ouro_prep_poll(&keeper->watch, keeper->socket, POLLIN);
        keeper->watched = ouro_submit(keeper->loop, &keeper->watch) >= 0;
        if (!keeper->watched)
            until = ouro_now(keeper->loop) + SLICE_MS * OURO_MS;
    }
    (void)ouro_run(keeper->loop, 1, until);
    while ((count = ouro_reap(keeper->loop, events, BATCH)) > 0) {
        unsigned ours = sort_out(keeper, events, (unsigned)count);

        atomic_fetch_sub(&held.count, ours);
        if (ours)
            laio_finish_apart(events, ours);
    }
    for (int i = 0; i < BATCH && !keeper->ended && !keeper->watched && take_message(keeper); i++)
        continue;
    if (atomic_exchange(&keeper->looks, false) || keeper->ended)
        laio_cancel_marked(keeper, keeper->loop);
}

/* It has no descriptor of the program's, but its end of the socket. */
static int open_keeper(struct laio_keeper *keeper)
{
    ouro_config config = { .size = sizeof(config), .engine = keeper->engine };
    unsigned socket = (unsigned)keeper->socket;
    long r = LAIO_KERNEL(SYS_close_range, socket + 1, UINT_MAX, CLOSE_RANGE_UNSHARE);

    if (r == 0 && socket > 0)
        r = LAIO_KERNEL(SYS_close_range, 0, socket - 1, 0);
    return r < 0 ? (int)r : ouro_open(&config, &keeper->loop);
}

static void free_all(struct laio_keeper *keeper)
{
    struct laio_file *file;

    while ((file = keeper->unused)) {
        keeper->unused = file->next;
        free(file);
    }
    free(keeper);
}

static void *thread_main(void *arg)
{
    struct laio_keeper *keeper = arg;
    int r;

    aio_set_inside(true);
    r = open_keeper(keeper);
    keeper->error = r;
    atomic_store(&keeper->open, 1);
    aio_futex_wake(&keeper->open); /* at worst it wakes somebody for nothing */
    if (r < 0)
        return NULL;
    stats_thread();
    prctl(PR_SET_NAME, "ouro-aio-held", 0, 0, 0);
    while (!keeper->ended || keeper->busy)
        turn(keeper);
    (void)ouro_close(keeper->loop, OURO_NOWAIT);
    (void)LAIO_KERNEL(SYS_close, keeper->socket);
    free_all(keeper);
    return NULL;
}

/* ---- Who sends ------------------------------------------------------------------------------ */

static int start_thread(struct laio_keeper *keeper)
{
    int r = aio_thread(thread_main, keeper, STACK);

    while (r == 0 && !atomic_load(&keeper->open))
        (void)aio_futex_wait(&keeper->open, 0, NULL);
    return r < 0 ? r : keeper->error;
}

static uint32_t most_of(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 2 * SPARE)
        return 0;
    return limit.rlim_cur > UINT16_MAX ? UINT16_MAX : (uint32_t)limit.rlim_cur - SPARE;
}

/* With the lock. POSIX AIO of the C library's has threads with the program's table. */
static int start(ouro_loop *loop)
{
    const char *engine = ouro_engine_name(loop);
    struct laio_keeper *keeper = calloc(1, sizeof(*keeper));
    int pair[2], r;

    if (!keeper)
        return -ENOMEM;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        r = -errno;
        free(keeper);
        return r;
    }
    keeper->socket = pair[1];
    keeper->engine = strcmp(engine, "posixaio") == 0 ? "threads" : engine;
    r = start_thread(keeper);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        free(keeper);
        return r;
    }
    laio_mark(pair[0]);
    held.keeper = keeper;
    held.socket = pair[0];
    held.most = most_of();
    return 0;
}

/* A lack that ends. */
static bool is_passing(int r)
{
    return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS || r == -EAGAIN;
}

/* With the lock. NULL: there is none. */
static struct laio_keeper *keeper_for(ouro_loop *loop)
{
    int r = 0;

    if (held.off)
        return NULL;
    if (!held.keeper || !laio_is_marked(held.socket))
        r = start(loop);
    held.off = r < 0 && !is_passing(r);
    return r < 0 ? NULL : held.keeper;
}

static long send_to(int socket, struct laio_request *request, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {
        { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS }
    };
    struct iovec part = { &request, sizeof(request) };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    long r;

    if (request) {
        int fd = (int)request->copy.aio_fildes;

        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
    }
    do
        r = LAIO_KERNEL(SYS_sendmsg, socket, &message, MSG_NOSIGNAL | flags);
    while (r == -EINTR);
    return r;
}

unsigned laio_held_submit(ouro_loop *loop, ouro_op *const *ops, unsigned count)
{
    unsigned done = 0;

    while (done < count) {
        struct laio_request *request = ops[done]->user;
        struct laio_keeper *keeper;
        int socket;

        aio_lock();
        keeper = keeper_for(loop);
        socket = held.socket;
        if (keeper && atomic_load(&held.count) < held.most)
            request->keeper = keeper;
        aio_unlock();
        if (!request->keeper)
            break;
        atomic_fetch_add(&held.count, 1);
        if (send_to(socket, request, 0) < 0) {
            atomic_fetch_sub(&held.count, 1);
            request->keeper = NULL;
            break;
        }
        done++;
    }
    return done;
}

bool laio_holds(void)
{
    return held.keeper && !held.off;
}

void laio_held_cancel(struct laio_request *request)
{
    if (request->keeper != held.keeper) /* an older one looks by itself */
        return;
    atomic_store(&held.keeper->looks, true);
    if (laio_is_marked(held.socket)) /* where there is no room, there are messages, too */
        (void)send_to(held.socket, NULL, MSG_DONTWAIT);
}

void laio_held_forked(void)
{
    if (held.keeper && laio_is_marked(held.socket))
        (void)LAIO_KERNEL(SYS_close, held.socket);
    memset(&held, 0, sizeof(held));
}

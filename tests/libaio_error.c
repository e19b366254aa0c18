/* SPDX-License-Identifier: MIT */
/* libaio_error.c: what is refused when it is submitted, and what ends with an error, on each way of
 * learning of it (L10, L11, L33, L34). */
#include "libaio_test.h"

#include <arpa/inet.h>
#include <limits.h>
#include <linux/loop.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

/* ---- When it is submitted (L10) ------------------------------------------------------------- */

/* Descriptors to do it with. */
enum which {
    FILE_RW,
    FILE_RDONLY,
    FILE_WRONLY,
    FILE_PATH,
    DIRECTORY,
    PIPE,
    TERMINAL,
    EPOLL,
    FULL,
    CLOSED,
    NOTHING,
    KINDS
};

static int open_which(enum which which)
{
    int fds[2], fd = temp_file(0);
    char path[64];

    CHECK(pwrite(fd, "abc", 3, 0) == 3);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    switch (which) {
    case FILE_RW: return fd;
    case FILE_RDONLY: return open(path, O_RDONLY);
    case FILE_WRONLY: return open(path, O_WRONLY);
    case FILE_PATH: return open(path, O_PATH);
    case DIRECTORY: return open("/", O_RDONLY | O_DIRECTORY);
    case PIPE: CHECK(pipe(fds) == 0); return fds[0];
    case TERMINAL: return posix_openpt(O_RDWR | O_NOCTTY);
    case EPOLL: return epoll_create1(0);
    case FULL: return open("/dev/full", O_RDWR);
    case CLOSED: close(fd); return fd;
    default: return -1;
    }
}

static struct iovec vectors[1025];
static char byte;
#define KERNELS ((uintptr_t)-PAGE)

static const struct refusal {
    const char *about;
    int opcode;
    enum which fd;
    uintptr_t buf;
    size_t nbytes;
    long long offset, reserved;
    int rw_flags, prio;
    unsigned flags, resfd;
    int error;
    bool of_file; /* what the file cannot do */
} refusals[] = {
    { .about = "a reserved field", .reserved = 1, .error = EINVAL },
    { .about = "too many bytes", .nbytes = (size_t)SSIZE_MAX + 1, .error = EINVAL },
    { .about = "NOOP", .opcode = IO_CMD_NOOP, .error = EINVAL },
    { .about = "opcode 4", .opcode = OPCODE_4, .error = EINVAL },
    { .about = "opcode 9", .opcode = 9, .error = EINVAL },
    { .about = "opcode -1", .opcode = -1, .error = EINVAL },
    { .about = "no descriptor", .fd = NOTHING, .error = EBADF },
    { .about = "a closed descriptor", .fd = CLOSED, .error = EBADF },
    { .about = "a closed one, and a bad opcode", .opcode = 9, .fd = CLOSED, .error = EBADF },
    { .about = "O_PATH", .fd = FILE_PATH, .error = EBADF },
    { .about = "a read of O_WRONLY", .fd = FILE_WRONLY, .error = EBADF },
    { .about = "a write of O_RDONLY", .opcode = IO_CMD_PWRITE, .fd = FILE_RDONLY, .error = EBADF },
    { .about = "a read of a directory", .fd = DIRECTORY, .error = EINVAL },
    { .about = "a read of an epoll set", .fd = EPOLL, .error = EINVAL, .of_file = true },
    { .about = "a write of /dev/full",
      .opcode = IO_CMD_PWRITE,
      .fd = FULL,
      .error = EINVAL,
      .of_file = true },
    { .about = "a negative offset", .offset = -1, .nbytes = 1, .error = EINVAL },
    { .about = "the least offset", .offset = INT64_MIN, .nbytes = 1, .error = EINVAL },
    { .about = "an end too far away", .offset = INT64_MAX, .nbytes = 10, .error = EINVAL },
    { .about = "a write with a negative offset",
      .opcode = IO_CMD_PWRITE,
      .offset = -5,
      .nbytes = 1,
      .error = EINVAL },
    { .about = "1025 vectors",
      .opcode = IO_CMD_PREADV,
      .buf = (uintptr_t)vectors,
      .nbytes = 1025,
      .error = EINVAL },
    { .about = "vectors at NULL", .opcode = IO_CMD_PREADV, .nbytes = 2, .error = EFAULT },
    { .about = "vectors at 8", .opcode = IO_CMD_PWRITEV, .buf = 8, .nbytes = 2, .error = EFAULT },
    { .about = "vectors of the kernel's",
      .opcode = IO_CMD_PREADV,
      .buf = KERNELS,
      .nbytes = 2,
      .error = EFAULT },
    { .about = "a buffer of the kernel's", .buf = KERNELS, .nbytes = 1, .error = EFAULT },
    { .about = "an unknown flag", .rw_flags = 1 << 30, .error = EOPNOTSUPP },
    { .about = "RWF_NOWAIT of a terminal",
      .fd = TERMINAL,
      .rw_flags = RWF_NOWAIT,
      .error = EOPNOTSUPP,
      .of_file = true },
    { .about = "fsync with a buffer", .opcode = IO_CMD_FSYNC, .buf = 1, .error = EINVAL },
    { .about = "fsync with a size", .opcode = IO_CMD_FSYNC, .nbytes = 1, .error = EINVAL },
    { .about = "fsync with an offset", .opcode = IO_CMD_FDSYNC, .offset = 1, .error = EINVAL },
    { .about = "fsync with flags", .opcode = IO_CMD_FDSYNC, .rw_flags = 1, .error = EINVAL },
    { .about = "fsync of a pipe", .opcode = IO_CMD_FSYNC, .fd = PIPE, .error = EINVAL },
    { .about = "fsync of nothing", .opcode = IO_CMD_FSYNC, .fd = CLOSED, .error = EBADF },
    { .about = "a poll with an offset",
      .opcode = IO_CMD_POLL,
      .fd = PIPE,
      .buf = 1,
      .offset = 1,
      .error = EINVAL },
    { .about = "a poll with a size",
      .opcode = IO_CMD_POLL,
      .fd = PIPE,
      .buf = 1,
      .nbytes = 1,
      .error = EINVAL },
    { .about = "a poll with flags",
      .opcode = IO_CMD_POLL,
      .fd = PIPE,
      .buf = 1,
      .rw_flags = 1,
      .error = EINVAL },
    { .about = "a poll for too much",
      .opcode = IO_CMD_POLL,
      .fd = PIPE,
      .buf = 0x10001,
      .error = EINVAL },
    { .about = "no eventfd", .flags = FLAG_RESFD, .resfd = (unsigned)-1, .error = EBADF },
    { .about = "another kind of eventfd", .flags = FLAG_RESFD, .resfd = 0, .error = EINVAL },
    { .about = "a class of priority that is none",
      .flags = FLAG_IOPRIO,
      .prio = 7 << 13,
      .error = EINVAL },
};

static void prepare(struct iocb *ret, const struct refusal *row, int fd)
{
    memset(ret, 0, sizeof(*ret));
    ret->aio_lio_opcode = (short)row->opcode;
    ret->aio_fildes = fd;
    ret->u.c.buf = (void *)row->buf;
    if (!row->buf && row->opcode <= IO_CMD_PWRITE && row->opcode >= 0)
        ret->u.c.buf = &byte;
    ret->u.c.nbytes = row->nbytes;
    ret->u.c.offset = row->offset;
    ret->u.c.__pad3 = row->reserved;
    ret->aio_rw_flags = (unsigned)row->rw_flags;
    ret->aio_reqprio = (short)row->prio;
    ret->u.c.flags = row->flags;
    ret->u.c.resfd = row->resfd;
}

static void check_refusals(bool of_file)
{
    io_context_t context = context_of(8);
    int fds[2], bad = 0;

    CHECK(pipe(fds) == 0 && dup2(fds[0], 0) == 0); /* 0 is no eventfd */
    for (int i = 0; i < 1025; i++)
        vectors[i] = (struct iovec){ &byte, 0 };
    for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
        const struct refusal *row = &refusals[i];
        int fd, r;
        struct iocb iocb;

        if (row->of_file != of_file)
            continue;
        fd = open_which(row->fd);
        prepare(&iocb, row, fd);
        r = submit(context, &iocb);
        if (r != -row->error)
            printf("# %s: %d, not %d\n", row->about, r, -row->error);
        bad += r != -row->error;
        close(fd);
    }
    CHECK(bad == 0);
    check_empty(context);
}

static void l10_what_is_refused_at_once(void)
{
    check_refusals(false);
}

static void l10_what_a_file_cannot_do_is_refused_at_once(void)
{
    check_refusals(true);
}

/* Of addresses that a program could have the drop-in tests none. */
static void l10_control_blocks_that_cannot_be_there(void)
{
    static const uintptr_t bad[] = { 0, 8, 4095, KERNELS, (uintptr_t)1 << 63 };
    io_context_t context = context_of(8);

    for (int i = 0; i < 5; i++) {
        struct iocb *iocb = (struct iocb *)bad[i];

        CHECK(io_submit(context, 1, &iocb) == -EFAULT);
        CHECK(io_submit(context, 1, (struct iocb **)bad[i]) == -EFAULT);
    }
    check_empty(context);
}

/* ---- When it is over (L11) ------------------------------------------------------------------ */

/* The result on each of the paths. Where another one is promised by io_getevents alone, whoever
 * reads the ring, or calls the system by himself, may see EIO. */
static void check_error(io_context_t context, struct iocb *iocb, enum path path, int error)
{
    long r = outcome_by(context, iocb, path);

    errno = (int)-r;
    CHECK(r == -error || (path != BY_CALL && r == -EIO));
}

static void l11_bad_buffers(void)
{
    io_context_t context = context_of(8);
    char *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = file_of(PAGE, 0), fds[2];
    struct iovec vector = { none, 10 };
    struct iocb iocb;

    CHECK(pipe(fds) == 0);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, fd, none, 100, 0);
        check_error(context, &iocb, path, EFAULT);
        io_prep_pread(&iocb, fd, (void *)8, 100, 0);
        check_error(context, &iocb, path, EFAULT);
        io_prep_pwrite(&iocb, fd, NULL, 100, 0);
        check_error(context, &iocb, path, EFAULT);
        io_prep_preadv(&iocb, fd, &vector, 1, 0);
        check_error(context, &iocb, path, EFAULT);
        io_prep_pwrite(&iocb, fds[1], none, 100, 0);
        check_error(context, &iocb, path, EFAULT);
    }
}

static void l11_what_is_not_aligned(void)
{
    io_context_t context = context_of(8);
    char *bytes = aligned(2 * PAGE);
    int fd = file_of(4 * PAGE, O_DIRECT);
    struct iocb iocb;

    for (enum path path = BY_CALL; path < PATHS; path++)
        for (int i = 0; i < 3; i++) {
            char *at = bytes + (i == 0);
            size_t size = PAGE - (i == 1 ? 1 : 0);
            off_t offset = i == 2 ? 1 : 0;
            ssize_t same = pread(fd, at, size, offset);

            io_prep_pread(&iocb, fd, at, size, offset);
            if (same < 0)
                check_error(context, &iocb, path, errno);
            else
                CHECK(outcome_by(context, &iocb, path) == same);
        }
}

static void l11_what_would_have_to_wait(void)
{
    io_context_t context = context_of(8);
    int fds[2], pair[2], fd = file_of(PAGE, 0);
    struct iocb iocb;
    long r;

    CHECK(pipe2(fds, O_NONBLOCK) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, fds[0], &byte, 1, 0);
        check_error(context, &iocb, path, EAGAIN);
        io_prep_pread(&iocb, pair[0], &byte, 1, 0);
        iocb.aio_rw_flags = RWF_NOWAIT;
        check_error(context, &iocb, path, EAGAIN);
        drop_cache(fd);
        io_prep_pread(&iocb, fd, &byte, 1, 0);
        iocb.aio_rw_flags = RWF_NOWAIT;
        r = outcome_by(context, &iocb, path);
        CHECK(r == -EAGAIN || r == 1 || (path != BY_CALL && r == -EIO)); /* it may be cached */
    }
}

static void l11_a_terminal_that_is_gone(void)
{
    io_context_t context = context_of(8);
    struct iocb iocb;
    char name[64];
    int far = posix_openpt(O_RDWR | O_NOCTTY);

    CHECK(grantpt(far) == 0 && unlockpt(far) == 0 && ptsname_r(far, name, sizeof(name)) == 0);
    close(open(name, O_RDWR | O_NOCTTY));
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, far, &byte, 1, 0);
        CHECK(outcome_by(context, &iocb, path) == -EIO);
    }
}

static void write_into(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);

    (void)!write(fd, text, strlen(text)); /* what follows shows whether it helped */
    close(fd);
}

/* Mounts of the process's own: as root, or as who is root there alone. */
static bool may_mount(void)
{
    char map[32];

    snprintf(map, sizeof(map), "0 %u 1", geteuid());
    if (unshare(CLONE_NEWNS) < 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
            return false;
        write_into("/proc/self/uid_map", map);
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void l11_a_file_system_that_is_full(void)
{
    io_context_t context = context_of(8);
    char *bytes = aligned(16 * PAGE);
    struct iocb iocb;
    int fd;

    if (!may_mount() || mount("none", "/mnt", "tmpfs", 0, "size=8192") < 0)
        _exit(SKIP_STATUS);
    fd = open("/mnt/full", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    io_prep_pwrite(&iocb, fd, bytes, 16 * PAGE, 0);
    CHECK(outcome(context, &iocb) == 2 * PAGE); /* what there was room for */
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pwrite(&iocb, fd, bytes, PAGE, 8 * PAGE);
        check_error(context, &iocb, path, ENOSPC);
    }
}

static void l33_a_file_that_may_not_grow(void)
{
    io_context_t context = context_of(8);
    struct rlimit limit = { 5000, 5000 };
    char *bytes = aligned(2 * PAGE);
    int fd = temp_file(0);
    struct iocb iocb;

    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pwrite(&iocb, fd, bytes, 2 * PAGE, 0);
        CHECK(outcome_by(context, &iocb, path) == 5000);
        io_prep_pwrite(&iocb, fd, bytes, PAGE, 5000);
        check_error(context, &iocb, path, EFBIG);
        io_prep_pwrite(&iocb, fd, bytes, PAGE, 1LL << 50);
        check_error(context, &iocb, path, EFBIG);
    }
}

static void break_pipes(void)
{
    io_context_t context = context_of(8);
    struct iocb iocb;
    int fds[2], pair[2];

    CHECK(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    close(fds[0]);
    close(pair[0]);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pwrite(&iocb, fds[1], (char[]){ "x" }, 1, 0);
        check_error(context, &iocb, path, EPIPE);
        io_prep_pwrite(&iocb, pair[1], (char[]){ "x" }, 1, 0);
        check_error(context, &iocb, path, EPIPE);
    }
}

static void l11_a_broken_pipe(void)
{
    signal(SIGPIPE, SIG_IGN);
    break_pipes();
}

/* BETTER: it ends the program. */
static void l34_a_broken_pipe_is_no_signal(void)
{
    break_pipes();
}

static void l15_a_socket_has_no_offset(void)
{
    io_context_t context = context_of(8);
    struct iocb iocb;
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[1], "x", 1) == 1);
    for (enum path path = BY_CALL; path < PATHS; path++) {
        io_prep_pread(&iocb, pair[0], &byte, 1, 1);
        check_error(context, &iocb, path, ESPIPE);
        io_prep_pwrite(&iocb, pair[0], &byte, 1, 4096);
        check_error(context, &iocb, path, ESPIPE);
    }
    io_prep_pread(&iocb, pair[0], &byte, 1, 0);
    CHECK(outcome(context, &iocb) == 1 && byte == 'x');
}

/* ---- What is told once (decision 2) --------------------------------------------------------- */

/* Two ends of a connection, of which *ret_peer resets it when it is closed. */
static int connection(int *ret_peer)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    CHECK(connect(fd, (struct sockaddr *)&address, size) == 0);
    *ret_peer = accept(listener, NULL, NULL);
    CHECK(setsockopt(*ret_peer, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
                     sizeof(struct linger)) == 0);
    close(listener);
    return fd;
}

static void l11_a_reset_is_told_once(void)
{
    io_context_t context = context_of(8);
    struct iocb iocb;

    for (enum path path = BY_CALL; path < PATHS; path++) {
        int peer, fd = connection(&peer);

        close(peer);
        CHECK(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 1000) == 1);
        io_prep_pread(&iocb, fd, &byte, 1, 0);
        check_error(context, &iocb, path, ECONNRESET);
        CHECK(outcome_by(context, &iocb, path) == 0);
        close(fd);
    }
}

/* BETTER: the kernel waits for it. */
static void l11_a_reset_is_told_who_waits_for_bytes(void)
{
    io_context_t context = context_of(8);
    struct io_event event;
    struct iocb iocb;

    for (enum path path = BY_CALL; path < PATHS; path++) {
        int peer, fd = connection(&peer);
        long r;

        io_prep_pread(&iocb, fd, &byte, 1, 0);
        CHECK(submit(context, &iocb) == 1);
        close(peer);
        event = take(context, path);
        r = result_of(&event);
        CHECK(event.obj == &iocb && (r == -ECONNRESET || (path != BY_CALL && r == -EIO)));
        CHECK(outcome_by(context, &iocb, path) == 0);
        close(fd);
    }
}

/* A device whose memory refuses to be written. Without the means for it the test says nothing. */
static int bad_device(void)
{
    int control = open("/dev/loop-control", O_RDWR),
        memory = memfd_create("bad", MFD_ALLOW_SEALING);
    struct loop_config config = { .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
    char path[64];
    int fd;

    CHECK(memory >= 0 && ftruncate(memory, 64 << 20) == 0);
    config.fd = (unsigned)memory;
    snprintf(path, sizeof(path), "/dev/loop%d",
             control < 0 ? 0 : ioctl(control, LOOP_CTL_GET_FREE));
    fd = open(path, O_RDWR);
    if (control < 0 || fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0 ||
        fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE) < 0)
        _exit(SKIP_STATUS);
    return fd;
}

static void l11_what_fsync_says_is_told_once(void)
{
    io_context_t context = context_of(8);
    char *bytes = aligned(PAGE);
    int fd = bad_device();
    struct iocb iocb;

    for (enum path path = BY_CALL; path < PATHS; path++)
        for (int data = 0; data < 2; data++) {
            io_prep_pwrite(&iocb, fd, bytes, PAGE, PAGE * (long long)path);
            CHECK(outcome_by(context, &iocb, path) == PAGE); /* it is in the cache */
            if (data)
                io_prep_fdsync(&iocb, fd);
            else
                io_prep_fsync(&iocb, fd);
            CHECK(outcome_by(context, &iocb, path) == -EIO);
            CHECK(outcome_by(context, &iocb, path) == 0);
        }
}

const struct dropin_case error_tests[] = {
    TEST(l10_what_is_refused_at_once),
    TEST(l10_what_a_file_cannot_do_is_refused_at_once),
    TEST(l10_control_blocks_that_cannot_be_there),
    TEST(l11_bad_buffers),
    TEST(l11_what_is_not_aligned),
    TEST(l11_what_would_have_to_wait),
    TEST(l11_a_terminal_that_is_gone),
    TEST(l11_a_file_system_that_is_full),
    TEST(l11_a_broken_pipe),
    TEST(l11_a_reset_is_told_once),
    BETTER(l11_a_reset_is_told_who_waits_for_bytes),
    TEST(l11_what_fsync_says_is_told_once),
    TEST(l15_a_socket_has_no_offset),
    TEST(l33_a_file_that_may_not_grow),
    BETTER(l34_a_broken_pipe_is_no_signal),
    { 0 },
};

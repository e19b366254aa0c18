/* SPDX-License-Identifier: MIT */
/* t_disk.c: disks that give little, fail, or hang. The disk is a FUSE server in a process of its
 * own, mounted in a namespace of the test's own: one file, whose next answers the test decides. */
#include <linux/fuse.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "test.h"

enum { SIZE = 16384, FILE_NODE = 2 };

/* What server and test share. */
static struct disk {
    _Atomic unsigned most;      /* bytes that it moves at once; 0: all */
    _Atomic int error;          /* of one request, */
    _Atomic unsigned code, nth; /* the n-th of these from now on */
    atomic_bool hangs, hung;    /* reads and closes wait until it hangs no more; one does */
    atomic_bool mounted;
    unsigned char data[SIZE];
} * disk;
static pid_t disk_server;
static int disk_device;

/* ---- The server ----------------------------------------------------------------------------- */

static void answer(int device, uint64_t unique, int error, const void *data, size_t size)
{
    struct fuse_out_header head = { .error = -error, .unique = unique };
    struct iovec parts[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)data, size } };

    head.len = (uint32_t)(sizeof(head) + size);
    if (writev(device, parts, size ? 2 : 1) < 0 && errno != ENOENT)
        _exit(1);
}

static struct fuse_attr attributes(uint64_t node)
{
    return (struct fuse_attr){ .ino = node,
                               .size = node == FILE_NODE ? SIZE : 0,
                               .mode = node == FILE_NODE ? S_IFREG | 0666 : S_IFDIR | 0777,
                               .nlink = 1 };
}

/* How many of so many bytes at that place are moved now. */
static size_t portion(uint64_t offset, size_t size)
{
    if (offset >= SIZE)
        return 0;
    if (size > SIZE - offset)
        size = SIZE - offset;
    return disk->most && size > disk->most ? disk->most : size;
}

static void hang(void)
{
    for (disk->hung = true; disk->hangs;)
        usleep(1000);
}

static void transfer(int device, const struct fuse_in_header *in, const void *arg)
{
    const struct fuse_read_in *range = arg; /* fuse_write_in begins in the same way */
    size_t size = portion(range->offset, range->size);

    if (in->opcode == FUSE_WRITE) {
        struct fuse_write_out out = { .size = (uint32_t)size };

        memcpy(disk->data + range->offset, (const char *)arg + sizeof(struct fuse_write_in), size);
        answer(device, in->unique, 0, &out, sizeof(out));
        return;
    }
    hang();
    answer(device, in->unique, 0, disk->data + range->offset, size);
}

static void handle(int device, const struct fuse_in_header *in)
{
    const struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 65536 };
    const struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
    const struct fuse_attr_out attr = { .attr = attributes(in->nodeid) };
    const struct fuse_entry_out entry = { .nodeid = FILE_NODE, .attr = attributes(FILE_NODE) };

    if (in->opcode == disk->code && disk->nth && !--disk->nth) {
        answer(device, in->unique, disk->error, NULL, 0);
        return;
    }
    switch (in->opcode) {
    case FUSE_INIT: answer(device, in->unique, 0, &init, sizeof(init)); break;
    case FUSE_LOOKUP: answer(device, in->unique, 0, &entry, sizeof(entry)); break;
    case FUSE_GETATTR: answer(device, in->unique, 0, &attr, sizeof(attr)); break;
    case FUSE_OPEN: answer(device, in->unique, 0, &opened, sizeof(opened)); break;
    case FUSE_READ:
    case FUSE_WRITE: transfer(device, in, in + 1); break;
    case FUSE_FLUSH: /* close(2) waits for it */
        hang();
        answer(device, in->unique, 0, NULL, 0);
        break;
    case FUSE_FSYNC:
    case FUSE_RELEASE: answer(device, in->unique, 0, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break; /* want no answer */
    default: answer(device, in->unique, ENOSYS, NULL, 0); break;
    }
}

_Noreturn static void serve_disk(int device)
{
    static _Alignas(8) char request[1 << 17];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!disk->mounted)
        usleep(1000);
    for (;;) {
        ssize_t r = read(device, request, sizeof(request));
        if (r >= (ssize_t)sizeof(struct fuse_in_header))
            handle(device, (const void *)request);
        else if (r < 0 && errno != EINTR && errno != ENOENT && errno != EAGAIN)
            _exit(0); /* unmounted */
    }
}

/* ---- Mounting ------------------------------------------------------------------------------- */

/* The device of a disk that may be mounted, for this process and its children alone; or -1. */
static int make_device(void)
{
    if (!own_namespaces() || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    return open("/dev/fuse", O_RDWR | O_CLOEXEC);
}

static int mount_device(int device, const char *path)
{
    char options[100];

    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    return mount("test", path, "fuse", MS_NOSUID | MS_NODEV, options);
}

static int try_disk(const char *path)
{
    int device = make_device();

    return device < 0 ? -1 : mount_device(device, path);
}

bool disk_allowed(void)
{
    return allowed_in_child(try_disk, "/tmp");
}

/* A disk, with its server, that is not mounted yet. */
static void make_disk(struct test *t)
{
    CHECK_EQ(mkdir(path_in(t, "disk"), 0700), 0);
    disk = mmap(NULL, sizeof(*disk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(disk != MAP_FAILED);
    disk_device = make_device();
    CHECK(disk_device >= 0);
    disk_server = fork();
    if (disk_server == 0)
        serve_disk(disk_device);
    made(t, disk_device);
}

static void mount_disk(struct test *t)
{
    CHECK_EQ(mount_device(disk_device, path_in(t, "disk")), 0);
    unmade(t, disk_device);
    close(disk_device);
    disk->mounted = true;
}

/* The file on it, open. */
static int open_file(struct test *t)
{
    return made(t, open(path_in(t, "disk/f"), O_RDWR | O_CLOEXEC));
}

static int insert_disk(struct test *t)
{
    make_disk(t);
    mount_disk(t);
    open_loop(t);
    return open_file(t);
}

static void end_server(void)
{
    CHECK_EQ(kill(disk_server, SIGKILL), 0);
    CHECK_EQ(waitpid(disk_server, NULL, 0), disk_server);
}

static void eject_disk(struct test *t, int fd)
{
    unmade(t, fd);
    close(fd);
    close_loop(t);
    end_server();
}

static void fail_once(unsigned code, unsigned nth, int error)
{
    disk->code = code;
    disk->error = error;
    disk->nth = nth;
}

/* ---- Tests ---------------------------------------------------------------------------------- */

/* io_uring (seen on Linux 6.18) goes on by itself after a short read of such a file, at the offset
 * where it began, and calls that a success. */
static void check_parts(struct test *t, ouro_fd fd, uint32_t flags)
{
    static unsigned char data[SIZE];
    ouro_op *op = op_new(t);

    fill(data, SIZE, 8);
    disk->most = 1000;
    ouro_prep_write(op, fd, data, SIZE, 0);
    op->flags = flags;
    CHECK_EQ(do_op(t, op), 1000);
    op->flags = flags | OURO_EXACT;
    CHECK_EQ(do_op(t, op), SIZE);
    check_filled(disk->data, SIZE, 8);
    memset(data, 0, SIZE);
    ouro_prep_read(op, fd, data, SIZE, 0);
    op->flags = flags;
    CHECK_EQ(do_op(t, op), 1000);
    check_filled(data, 1000, 8);
    op->flags = flags | OURO_EXACT;
    CHECK_EQ(do_op(t, op), SIZE);
    check_filled(data, SIZE, 8);
    disk->most = 0;
}

static void a_disk_that_moves_little_is_told_or_gone_on_with(struct test *t)
{
    int fd = insert_disk(t);

    check_parts(t, fd, 0);
    check_parts(t, fd, OURO_BG);
    eject_disk(t, fd);
}

static void errors_of_a_disk_are_told_once(struct test *t)
{
    static const int errors[] = { EIO, ENOSPC, EDQUOT, EFBIG };
    static char data[4096];
    int fd = insert_disk(t);
    ouro_op *op = op_new(t);

    for (unsigned i = 0; i < 4; i++) {
        ouro_prep_write(op, fd, data, 4096, 0);
        fail_once(FUSE_WRITE, 1, errors[i]);
        CHECK_EQ(do_op(t, op), -errors[i]);
        CHECK_EQ(do_op(t, op), 4096);
        disk->most = 1000;
        op->flags = OURO_EXACT;
        fail_once(FUSE_WRITE, 3, errors[i]);
        CHECK_EQ(do_op(t, op), 2000);
        CHECK_EQ(op->cause, -errors[i]);
        disk->most = 0;
    }
    ouro_prep_read(op, fd, data, 4096, 0);
    fail_once(FUSE_READ, 1, EIO);
    CHECK_EQ(do_op(t, op), -EIO);
    CHECK_EQ(do_op(t, op), 4096);
    ouro_prep_fsync(op, fd);
    fail_once(FUSE_FSYNC, 1, EIO);
    CHECK_EQ(do_op(t, op), -EIO);
    CHECK_EQ(do_op(t, op), 0); /* as fsync(2) does: it is for the caller to remember */
    eject_disk(t, fd);
}

static void others_go_on(struct test *t)
{
    ouro_op *in = op_new(t), *timer = op_new(t), *out = op_new(t);
    int fds[2], file = make_file(t, "other", "o", 1);
    char byte = 0;

    make_socketpair(t, fds);
    for (int i = 0; i < 5; i++) {
        ouro_prep_recv(in, fds[0], &byte, 1, 0);
        start(t, in);
        CHECK_EQ(send(fds[1], "s", 1, 0), 1);
        CHECK_EQ(finish(t, in), 1);
        ouro_prep_timer(timer, in_ms(t, 2));
        CHECK_EQ(do_op(t, timer), 0);
        ouro_prep_write(out, file, "w", 1, 0);
        CHECK_EQ(do_op(t, out), 1);
    }
}

/* A socket, a timer and another file go on while the disk hangs in this operation. */
static int64_t hang_in(struct test *t, ouro_op *stuck)
{
    disk->hung = false;
    disk->hangs = true;
    start(t, stuck);
    while (!disk->hung)
        step(t);
    others_go_on(t);
    CHECK(!is_final(stuck));
    disk->hangs = false;
    return finish(t, stuck);
}

static void check_hang(struct test *t, ouro_fd fd, uint32_t flags)
{
    ouro_op *stuck = op_new(t);
    char byte = 0;

    disk->data[0] = 'd';
    ouro_prep_read(stuck, fd, &byte, 1, 0);
    stuck->flags = flags;
    CHECK_EQ(hang_in(t, stuck), 1);
    CHECK_EQ(byte, 'd');
}

static void a_disk_that_hangs_holds_up_nobody_else(struct test *t)
{
    int fd = insert_disk(t);

    check_hang(t, fd, 0);
    check_hang(t, fd, OURO_BG);
    eject_disk(t, fd);
}

/* What was written may have to reach the disk first. The loop has opened some of the files. */
static void a_disk_that_hangs_in_a_close_holds_up_nobody_else(struct test *t)
{
    int fd = insert_disk(t), mine;
    ouro_op *op = op_new(t);

    for (int i = 0; i < 4; i++) {
        if (i % 2) {
            mine = open(path_in(t, "disk/f"), O_RDWR | O_CLOEXEC);
        } else {
            ouro_prep_open(op, OURO_HERE, path_in(t, "disk/f"), O_RDWR, 0);
            mine = (int)do_op(t, op);
        }
        CHECK(mine >= 0);
        ouro_prep_write(op, mine, "w", 1, 0);
        CHECK_EQ(do_op(t, op), 1);
        ouro_prep_close(op, mine);
        op->flags = i / 2 ? OURO_BG : 0;
        CHECK_EQ(hang_in(t, op), 0);
    }
    eject_disk(t, fd);
}

/* It is never closed: its process ends while the server has its read. */
_Noreturn static void read_and_end(struct test *t, bool exits)
{
    static ouro_op op;
    static char byte;
    int fd = open(path_in(t, "disk/f"), O_RDONLY | O_CLOEXEC);

    if (fd < 0 || ouro_open(&t->config, &t->loop) < 0)
        _exit(1);
    ouro_prep_read(&op, fd, &byte, 1, 0);
    if (ouro_submit(t->loop, &op) < 0)
        _exit(2);
    while (!disk->hung)
        if (ouro_flush(t->loop) < 0)
            _exit(3);
    if (exits)
        exit(0);
    for (;;)
        pause();
}

/* The kernel may keep a process whose request the server has; once that answers, nothing does. */
static void a_process_ends_as_soon_as_its_disk_lets_it(struct test *t)
{
    make_disk(t);
    mount_disk(t);
    for (int exits = 0; exits < 2; exits++) {
        int status = 0;
        pid_t child;

        disk->hung = false;
        disk->hangs = true;
        child = fork();
        if (child == 0)
            read_and_end(t, exits);
        for (unsigned ms = 0; !disk->hung; ms++, usleep(1000))
            CHECK(ms < seconds_scaled(3) * 1000);
        if (!exits)
            CHECK_EQ(kill(child, SIGKILL), 0);
        usleep(20000);
        disk->hangs = false;
        CHECK(ends_within(child, seconds_scaled(3), &status));
        CHECK_EQ(status, exits ? 0 : SIGKILL);
    }
    end_server();
}

/* The loop has opened, read and written before there was such a disk. */
static void a_disk_that_comes_later_is_like_one_that_was_there(struct test *t)
{
    ouro_op *op = op_new(t);
    int file, fd;

    make_disk(t);
    open_loop(t);
    file = make_file(t, "f", "p", 1);
    for (unsigned i = 0; i < 3; i++) {
        ouro_prep_write(op, file, "q", 1, 0);
        CHECK_EQ(do_op(t, op), 1);
    }
    mount_disk(t);
    fd = open_file(t);
    check_parts(t, fd, 0);
    check_hang(t, fd, 0);
    eject_disk(t, fd);
}

static void a_disk_is_known_where_mounts_cannot_be_seen(struct test *t)
{
    int fd;

    make_disk(t);
    CHECK_EQ(mount("test", "/proc", "tmpfs", 0, NULL), 0);
    mount_disk(t);
    open_loop(t);
    fd = open_file(t);
    check_parts(t, fd, 0);
    check_hang(t, fd, 0);
    CHECK_EQ(umount2("/proc", 0), 0);
    eject_disk(t, fd);
}

static void open_slot(struct test *t, ouro_op *op, const char *name, unsigned slot)
{
    ouro_prep_open_direct(op, OURO_HERE, path_in(t, name), O_RDWR, 0, slot);
    start(t, op);
}

static void close_slots(struct test *t, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ouro_op *op = op_new(t);

        ouro_prep_close(op, i);
        op->flags = OURO_DIRECT;
        CHECK_EQ(do_op(t, op), 0);
    }
}

/* Slot 0: opened before the disk comes; 1: asked for before; 2: after. */
static void slots_of_a_disk_are_like_descriptors(struct test *t)
{
    ouro_op *op = op_new(t), *others[2] = { op_new(t), op_new(t) };
    char byte = 0;
    bool slots;
    int fd;

    make_disk(t);
    slots = open_loop_wanting(t, OURO_CAP_SLOTS);
    CHECK_EQ(ouro_direct_table(t->loop, 3), 0);
    fd = make_file(t, "f", "p", 1);
    unmade(t, fd);
    close(fd);
    open_slot(t, op, "f", 0);
    CHECK_EQ(finish(t, op), 0);
    open_slot(t, others[0], "disk/f", 1);
    mount_disk(t);
    if (finish(t, others[0]) == -ENOENT)
        open_slot(t, others[0], "disk/f", 1); /* it was opened at once */
    open_slot(t, others[1], "disk/f", 2);
    CHECK_EQ(finish(t, others[0]), 0);
    CHECK_EQ(finish(t, others[1]), 0);
    for (ouro_fd slot = 1; slot < 3; slot++) {
        check_parts(t, slot, OURO_DIRECT);
        check_hang(t, slot, OURO_DIRECT);
    }
    ouro_prep_read(op, 0, &byte, 1, 0);
    op->flags = OURO_DIRECT;
    CHECK_EQ(do_op(t, op), 1);
    CHECK_EQ(byte, 'p');
    CHECK(!slots || !(op->cflags & OURO_C_POOLED));
    close_slots(t, 3);
    close_loop(t);
    end_server();
}

#define ON_DISK .fixed = FIX_FD, .heavy = true, .no_loop = true, .needs = NEED_DISK
static const struct test_case cases[] = {
    { NAMED(a_disk_that_moves_little_is_told_or_gone_on_with), ON_DISK, .faults = "1" },
    { NAMED(errors_of_a_disk_are_told_once), ON_DISK, .faults = "4 5" },
    { NAMED(a_disk_that_hangs_holds_up_nobody_else), ON_DISK, .faults = "17" },
    { NAMED(a_disk_that_hangs_in_a_close_holds_up_nobody_else), ON_DISK, .faults = "17",
      .pitfalls = "R10" },
    { NAMED(a_process_ends_as_soon_as_its_disk_lets_it), ON_DISK, .faults = "12" },
    { NAMED(a_disk_that_comes_later_is_like_one_that_was_there), ON_DISK, .faults = "1 17" },
    { NAMED(a_disk_is_known_where_mounts_cannot_be_seen), ON_DISK, .faults = "1 17" },
    { NAMED(slots_of_a_disk_are_like_descriptors), ON_DISK, .faults = "1 17" },
    { 0 },
};

const struct subject subject_disk = { "disk", cases };

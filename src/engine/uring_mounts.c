/* SPDX-License-Identifier: MIT */
/* uring_mounts.c: which files must not be read or written by the ring, because a server that may
 * hang is behind them (FUSE).
 *
 * The ring takes a file that can be polled for one that it can read without waiting. FUSE's files
 * all can: the enter waits for their server, for ever if it hangs; and after a short read of one
 * without a cache the kernel (6.18) goes on at the offset where it began. What lies there is read
 * and written by plain calls, on workers.
 *
 * To ask each file where it lies would be dear. So the list of mounts is read when a file is first
 * met, and where no server is mounted nothing more is asked. That the list has changed since is
 * known without a call: a poll of it waits in a ring of its own (the bell) that nobody ever enters
 * again, and when mounts change the kernel, before anything can be opened there, shows in that
 * ring's memory that there is work to do. Then it is thrown away, and list and bell are made anew.
 * The bell needs no descriptor: its maps keep the ring, and its poll the list's file.
 *
 * Without a list (no /proc, no memory) what lies on no device is taken to be on a server. */
#include "uring.h"

#include <fcntl.h>
#include <poll.h>

#define DOUBT_NS OURO_S /* until a list that could not be had is asked for again */

/* ---- The list ------------------------------------------------------------------------------- */

/* A line: ID PARENT MAJOR:MINOR ROOT WHERE OPTIONS [TAG ...] - TYPE ..., where blanks in names are
 * escaped. */
struct line {
    unsigned field; /* number of the current one */
    unsigned type;  /* number of the one that tells the type; 0: not yet known */
    unsigned len;   /* of the current one */
    char text[12];  /* its beginning */
    uint32_t major, minor;
};

static bool is_server(const char *type)
{
    return !strcmp(type, "fuse") || !strncmp(type, "fuse.", 5) || !strncmp(type, "fuseblk", 7) ||
           !strcmp(type, "virtiofs");
}

static void add_device(struct uring_mounts *mounts, const struct line *line)
{
    if (mounts->count < URING_SERVERS)
        mounts->devices[mounts->count] = (uint64_t)line->major << 32 | line->minor;
    mounts->count++;
}

static void end_field(struct uring_mounts *mounts, struct line *line)
{
    line->text[line->len < sizeof(line->text) ? line->len : sizeof(line->text) - 1] = 0;
    if (line->field == 2)
        (void)sscanf(line->text, "%u:%u", &line->major, &line->minor);
    else if (line->field > 5 && !line->type && !strcmp(line->text, "-"))
        line->type = line->field + 1;
    else if (line->type == line->field && is_server(line->text))
        add_device(mounts, line);
    line->field++;
    line->len = 0;
}

static void read_text(struct uring_mounts *mounts, struct line *line, const char *text, long len)
{
    for (; len > 0; len--, text++) {
        if (*text == ' ' || *text == '\n') {
            end_field(mounts, line);
            if (*text == '\n')
                *line = (struct line){ 0 };
        } else {
            if (line->len < sizeof(line->text))
                line->text[line->len] = *text;
            line->len++;
        }
    }
}

static int read_list(struct uring_mounts *mounts, int fd)
{
    struct line line = { 0 };
    char text[2048];
    long r;

    mounts->count = 0;
    while ((r = sys_read(fd, text, sizeof(text))) > 0)
        read_text(mounts, &line, text, r);
    return (int)r;
}

/* ---- The bell ------------------------------------------------------------------------------- */

static bool rung(const struct ring *bell)
{
    return ring_sq_flags(bell) & RING_SQ_TASKRUN || ring_cq_ready(bell);
}

static int poll_changes(struct ring *bell, int fd)
{
    struct ring_sqe *sqe = ring_sqe(bell);
    int r = -EAGAIN;

    if (sqe) {
        sqe->opcode = RING_OP_POLL_ADD;
        sqe->fd = fd;
        sqe->op_flags = ring_poll_mask(POLLPRI);
        r = ring_enter(bell, ring_flush_count(bell), 0, 0, NULL, 0);
    }
    return r == 0 ? -EAGAIN : r;
}

static int hang_bell(struct ring *bell, int fd)
{
    const struct ring_wish wish = { .entries = RING_ENTRIES_MIN, .flags = RING_WISH_OWNED };
    struct ouro__why why;
    int r = ring_open(bell, &wish, why.text, sizeof(why.text));

    if (r < 0)
        return r;
    r = poll_changes(bell, fd);
    if (r < 0) {
        ring_close(bell);
        return r;
    }
    sys_close(bell->fd);
    bell->fd = bell->enter_fd = -1;
    return 0;
}

/* The bell comes first: what changes while the list is read is heard. */
static void look(struct uring_mounts *mounts)
{
    long fd = sys_openat(AT_FDCWD, "/proc/thread-self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
    int r = fd < 0 ? (int)fd : hang_bell(&mounts->bell, (int)fd);

    if (r == 0)
        r = read_list(mounts, (int)fd);
    if (fd >= 0)
        sys_close((int)fd);
    if (r < 0)
        ring_close(&mounts->bell);
    mounts->doubt = r < 0 ? sys_coarse_now() + DOUBT_NS : 0;
}

bool ouro__uring_wary(struct uring *u)
{
    struct uring_mounts *mounts = &u->mounts;

    if (OURO__SELDOM(mounts->bell.map ? rung(&mounts->bell)
                                      : !mounts->doubt || sys_coarse_now() >= mounts->doubt)) {
        ring_close(&mounts->bell);
        look(mounts);
    }
    return mounts->count || mounts->doubt;
}

void ouro__uring_mounts_close(struct uring *u)
{
    ring_close(&u->mounts.bell);
}

/* ---- Files ---------------------------------------------------------------------------------- */

/* What cannot be told may be. */
static uint8_t server_of(const struct uring_mounts *mounts, int fd)
{
    uint64_t device;
    int r = ouro__fd_device(fd, &device);

    if (r < 0)
        return r == -EBADF ? SERVER_NO : SERVER_YES;
    if ((mounts->doubt || mounts->count > URING_SERVERS) && device >> 32 == 0)
        return SERVER_YES;
    for (uint32_t i = 0; i < mounts->count && i < URING_SERVERS; i++)
        if (mounts->devices[i] == device)
            return SERVER_YES;
    return SERVER_NO;
}

static uint8_t look_at_file(ouro_loop *loop, struct uring *u, ouro_op *op)
{
    if (!ouro__uring_wary(u))
        return SERVER_NO;
    /* A slot without a descriptor is lent one: nothing else tells. */
    if (ouro__need_descriptor(loop, op) < 0)
        return SERVER_YES;
    return server_of(&u->mounts, ouro__fd(op));
}

bool ouro__uring_may_be_on_server(ouro_loop *loop, struct uring *u, ouro_op *op,
                                  struct ouro__file *file)
{
    if (file->ours == OURS_SOCKET || file->kind == FILE_SOCKET || file->kind == FILE_STREAM)
        return false;
    if (file->server == SERVER_UNKNOWN)
        file->server = look_at_file(loop, u, op);
    return file->server == SERVER_YES;
}

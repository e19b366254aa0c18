/* SPDX-License-Identifier: MIT */
/* The files that `ouro bench` reads: made in a directory of their own, checked when read, dropped
 * from the page cache (theirs alone, never the machine's), and removed in the end. Every 8 bytes
 * hold a value that tells the file and the place, so that data from elsewhere cannot pass. */
#include "bench.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE_SIZE = 1 << 20, ALIGNMENT = 4096, BIG_FILE = 0xffffff };

static uint64_t word_at(unsigned index, uint64_t offset)
{
    uint64_t state = ((uint64_t)index << 40) ^ offset;

    return next_random(&state);
}

static void fill(char *data, uint64_t size, unsigned index, uint64_t offset)
{
    for (uint64_t at = 0; at < size; at += 8) {
        uint64_t word = word_at(index, offset + at);
        memcpy(data + at, &word, size - at < 8 ? size - at : 8);
    }
}

static bool word_is_right(const char *data, uint64_t size, uint64_t at, unsigned index,
                          uint64_t offset)
{
    uint64_t word = word_at(index, offset + at);

    return memcmp(data + at, &word, size - at < 8 ? size - at : 8) == 0;
}

static bool data_is_right(const char *data, uint64_t size, unsigned index, uint64_t offset,
                          bool full)
{
    if (!full)
        return word_is_right(data, size, 0, index, offset) &&
               word_is_right(data, size, (size - 1) / 8 * 8, index, offset);
    for (uint64_t at = 0; at < size; at += 8)
        if (!word_is_right(data, size, at, index, offset))
            return false;
    return true;
}

/* One wrong read rarely comes alone; and several threads may be reading. */
static bool may_tell(void)
{
    static _Atomic unsigned told;

    return told++ < 3;
}

/* Says what is wrong with a read of `path`. */
static int refuse(const char *path, uint64_t offset, uint64_t wanted, int64_t result)
{
    bool tell = may_tell();

    if (result < 0) {
        if (tell)
            cli_error("%s: %s at offset %" PRIu64, path, strerror((int)-result), offset);
        return (int)result;
    }
    if (tell)
        cli_error("%s: wrong data at offset %" PRIu64 " (%" PRId64 " bytes came of %" PRIu64 ")",
                  path, offset, result, wanted);
    return -EBADMSG;
}

int job_check_file(const struct job *job, unsigned index, const void *data, int64_t result,
                   bool full)
{
    if (result >= 0 && (uint64_t)result == job->size &&
        data_is_right(data, job->size, index, 0, full))
        return 0;
    return refuse(job->names[index], 0, job->size, result);
}

int job_check_block(const struct job *job, uint64_t offset, const void *data, int64_t result,
                    bool full)
{
    if (result >= 0 && (uint64_t)result == job->block &&
        (!job->known || data_is_right(data, job->block, BIG_FILE, offset, full)))
        return 0;
    return refuse(job->path, offset, job->block, result);
}

static char *make_buffers(unsigned count, uint64_t size, uint64_t *ret_stride)
{
    uint64_t stride = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *data;

    if (stride > SIZE_MAX / count)
        return NULL;
    data = aligned_alloc(ALIGNMENT, (size_t)stride * count);
    if (data)
        memset(data, 0, (size_t)stride * count); /* touched here, not in the timed part */
    *ret_stride = stride;
    return data;
}

static int open_file(const struct job *job, char *why)
{
    int fd = open(job->path, O_RDONLY | O_CLOEXEC | (job->direct ? O_DIRECT : 0));

    if (fd < 0) {
        int error = errno;

        snprintf(why, WHY_SIZE, "%s: %s%s", job->path, strerror(error),
                 error == EINVAL && job->direct ? " (no O_DIRECT here? try --buffered)" : "");
        return -error;
    }
    /* Random offsets: reading ahead would fetch what nobody asked for. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    return fd;
}

int reading_open(struct reading *ret, const struct job *job, unsigned depth, char *why)
{
    *ret = (struct reading){ .job = job, .fd = -1, .file = -1 };
    ret->buffers =
        make_buffers(depth, job->reads == READS_FILES ? job->size : job->block, &ret->stride);
    if (!ret->buffers)
        return -ENOMEM;
    if (job->reads != READS_BLOCKS)
        return 0;
    ret->fd = ret->file = open_file(job, why);
    return ret->fd < 0 ? ret->fd : 0;
}

void reading_close(struct reading *reading)
{
    if (reading->fd >= 0)
        close(reading->fd);
    free(reading->buffers);
}

bool piece_next(struct piece *ret, const struct reading *reading, unsigned index, uint64_t now,
                uint64_t *next)
{
    const struct job *job = reading->job;

    ret->begun = now;
    ret->data = reading->buffers + index * reading->stride;
    ret->fd = reading->file;
    if (job->reads == READS_BLOCKS) {
        ret->where = random_offset(job, next);
        ret->offset = (int64_t)ret->where;
        ret->size = job->block;
        return true;
    }
    if (*next == job->count)
        return false;
    ret->where = (*next)++;
    ret->offset = 0;
    ret->size = job->size;
    return true;
}

int piece_begin(struct piece *ret, const struct reading *reading, unsigned index, uint64_t now,
                uint64_t *next)
{
    const struct job *job = reading->job;

    if (!piece_next(ret, reading, index, now, next))
        return 0;
    if (job->reads == READS_FILES)
        ret->fd = openat(job->dir_fd, job->names[ret->where], O_RDONLY | O_CLOEXEC);
    return ret->fd < 0 ? job_check_file(job, (unsigned)ret->where, ret->data, -errno, false) : 1;
}

int piece_end(const struct piece *piece, const struct job *job, struct round *round, int64_t result,
              uint64_t now)
{
    round->operations++;
    histogram_add(round->latency, now - piece->begun, 1);
    if (job->reads == READS_BLOCKS)
        return job_check_block(job, piece->where, piece->data, result, round->full_check);
    if (piece->fd >= 0)
        close(piece->fd);
    return job_check_file(job, (unsigned)piece->where, piece->data, result, round->full_check);
}

void piece_drop(const struct piece *piece, const struct job *job)
{
    if (job->reads == READS_FILES)
        close(piece->fd);
}

static int fail(const struct job *job, const char *what, int error)
{
    if (cli_signal)
        return CLI_INTERRUPTED;
    cli_error("%s: %s: %s", job->work_path ? job->work_path : job->parent, what, strerror(error));
    if (error == ENOSPC || error == EDQUOT)
        cli_error("%" PRIu64 " bytes are needed; choose another place with --dir, or less",
                  job->reads == READS_FILES ? job->count * job->size : job->file_size);
    return CLI_FAILED;
}

static int write_file(const struct job *job, const char *name, unsigned index, uint64_t size,
                      char *buffer)
{
    int fd = openat(job->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;

    if (fd < 0)
        return -errno;
    for (uint64_t at = 0; at < size && r == 0;) {
        uint64_t step = size - at < WRITE_SIZE ? size - at : WRITE_SIZE;
        ssize_t n;

        fill(buffer, step, index, at);
        n = write(fd, buffer, (size_t)step);
        if (n < 0)
            r = -errno;
        else if (cli_signal)
            r = -EINTR;
        else if ((uint64_t)n == step || n % 8 == 0)
            at += (uint64_t)n;
        else
            r = -EIO; /* a tail that is no whole word: fill() could not go on from there */
    }
    if (close(fd) < 0 && r == 0)
        r = -errno;
    return r;
}

static int make_directory(struct job *job)
{
    size_t room = strlen(job->parent) + sizeof("/ouro-bench-XXXXXX");

    job->work_path = malloc(room);
    if (!job->work_path)
        return fail(job, "memory", ENOMEM);
    snprintf(job->work_path, room, "%s/ouro-bench-XXXXXX", job->parent);
    if (!mkdtemp(job->work_path)) {
        int error = errno;

        cli_error("cannot make a directory in %s: %s", job->parent, strerror(error));
        return CLI_FAILED;
    }
    job->made_dir = true;
    job->dir_fd = open(job->work_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return job->dir_fd < 0 ? fail(job, "open", errno) : CLI_OK;
}

static int make_files(struct job *job, char *buffer)
{
    bool one = job->reads == READS_BLOCKS;
    unsigned count = one ? 1 : job->count;

    job->names = calloc(count, sizeof(*job->names));
    if (!job->names)
        return fail(job, "memory", ENOMEM);
    while (job->made < count) {
        unsigned i = job->made++; /* counted first: half a file is removed too */
        int r;

        snprintf(job->names[i], sizeof(job->names[i]), "f%07u", i);
        if (i % 64 == 0)
            cli_progress("%s: making %u files", suites[job->suite].name, count);
        r = write_file(job, job->names[i], one ? (unsigned)BIG_FILE : i,
                       one ? job->file_size : job->size, buffer);
        if (r < 0 || cli_signal)
            return fail(job, "write", -r);
    }
    /* Dirty pages cannot be dropped, and writing them back would disturb the rounds. */
    if (syncfs(job->dir_fd) < 0)
        return fail(job, "sync", errno);
    if (one) {
        size_t room = strlen(job->work_path) + sizeof(*job->names) + 1;
        char *path = malloc(room);

        if (!path)
            return fail(job, "memory", ENOMEM);
        snprintf(path, room, "%s/%s", job->work_path, job->names[0]);
        job->path = path;
        job->known = true;
    }
    return CLI_OK;
}

static int use_file(struct job *job)
{
    int fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = CLI_OK;
    struct stat st;
    off_t end;

    if (fd < 0 || fstat(fd, &st) < 0) {
        cli_error("%s: %s", job->path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return CLI_FAILED;
    }
    end = lseek(fd, 0, SEEK_END); /* of block devices too, whose st_size is 0 */
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        cli_error("%s: neither a regular file nor a block device", job->path);
        r = CLI_FAILED;
    } else if (end < 0 || (uint64_t)end < job->block) {
        cli_error("%s: smaller than one block of %" PRIu64 " bytes", job->path, job->block);
        r = CLI_FAILED;
    } else if (!job->file_size || job->file_size > (uint64_t)end) {
        job->file_size = (uint64_t)end;
    }
    close(fd);
    return r;
}

/* Brings a file into the page cache, so that "warm" holds from the first round on. */
static int read_through(const struct job *job, char *buffer)
{
    int fd = open(job->path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;

    if (fd < 0)
        return fail(job, "open", errno);
    for (uint64_t at = 0; at < job->file_size && !cli_signal; at += (uint64_t)n) {
        n = pread(fd, buffer, WRITE_SIZE, (off_t)at);
        if (n <= 0)
            break;
    }
    close(fd);
    return n < 0 ? fail(job, "read", errno) : cli_signal ? CLI_INTERRUPTED : CLI_OK;
}

int job_make(struct job *job)
{
    char *buffer;
    int status = CLI_OK;

    job->dir_fd = -1;
    if (job->reads == READS_NOTHING)
        return CLI_OK;
    buffer = malloc(WRITE_SIZE);
    if (!buffer)
        return fail(job, "memory", ENOMEM);
    if (job->path) {
        status = use_file(job);
    } else {
        status = make_directory(job);
        if (status == CLI_OK)
            status = make_files(job, buffer);
    }
    if (status == CLI_OK && job->reads == READS_BLOCKS && !job->cold && !job->direct)
        status = read_through(job, buffer);
    free(buffer);
    return status;
}

void job_clean(struct job *job)
{
    if (job->dir_fd >= 0) {
        for (unsigned i = 0; i < job->made; i++)
            unlinkat(job->dir_fd, job->names[i], 0);
        close(job->dir_fd);
        job->dir_fd = -1;
    }
    if (job->made_dir && rmdir(job->work_path) < 0)
        cli_error("%s could not be removed: %s", job->work_path, strerror(errno));
    job->made_dir = false;
    if (job->known)
        free((char *)(uintptr_t)job->path);
    free(job->names);
    free(job->work_path);
    job->names = NULL;
    job->work_path = NULL;
    job->known = false;
}

static int drop_pages(int dir, const char *path)
{
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC), r;

    if (fd < 0)
        return -errno;
    r = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return -r;
}

int job_prepare_caches(const struct job *job)
{
    int r = 0;

    if (!job->cold || job->reads == READS_NOTHING)
        return 0;
    if (job->reads == READS_BLOCKS)
        return drop_pages(AT_FDCWD, job->path);
    for (unsigned i = 0; i < job->count && r == 0; i++)
        r = drop_pages(job->dir_fd, job->names[i]);
    return r;
}

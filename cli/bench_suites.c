/* SPDX-License-Identifier: MIT */
/* The suites of `ouro bench`: what they differ in besides the contenders' work. To add one: name it
 * in enum suite and in the table here, and write its contenders in a file of its own. */
#include "bench.h"

#include <sched.h>

/* ---- nop, files, random ---- */

unsigned contender_plain_list(struct contender *ret, unsigned max)
{
    unsigned count = 0;

    ret[count++] = contender_blocking;
    ret[count++] = contender_glibc_aio;
#ifdef HAVE_POSIXAIO
    ret[count++] = contender_posixaio_dropin;
#endif
#ifdef HAVE_LIBAIO
    ret[count++] = contender_libaio;
#ifdef HAVE_LIBAIO_DROPIN
    ret[count++] = contender_libaio_dropin;
#endif
#endif
#ifdef HAVE_LIBURING
    ret[count++] = contender_liburing;
#endif
    return count + contender_ouro_list(ret + count, max - count);
}

static void describe_nop(const struct job *job, char *ret, size_t size)
{
    (void)job;
    snprintf(ret, size, "nop: operations that do nothing, in batches");
}

static void describe_files(const struct job *job, char *ret, size_t size)
{
    snprintf(ret, size, "files: open, read and close of files of %llu bytes, %u of them, %s cache",
             (unsigned long long)job->size, job->count, job->cold ? "cold" : "warm");
}

static void describe_random(const struct job *job, char *ret, size_t size)
{
    snprintf(ret, size, "random: reads of %llu bytes in a file of %llu MiB, %s",
             (unsigned long long)job->block, (unsigned long long)(job->file_size >> 20),
             job_cache(job));
}

const char *job_cache(const struct job *job)
{
    return job->direct ? "direct" : job->cold ? "buffered, cold cache" : "buffered, warm cache";
}

static void point_depth(const struct run *run, char *ret, size_t size)
{
    snprintf(ret, size, "depth %u", run->depth);
}

/* ---- echo ---- */

static bool has_cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

static void describe_echo(const struct job *job, char *ret, size_t size)
{
    (void)job;
    snprintf(ret, size,
             "echo: one request in flight per connection, TCP over the loopback; server and "
             "load %s",
             has_cores() ? "each on a core of its own" : "on one core");
}

static void point_echo(const struct run *run, char *ret, size_t size)
{
    snprintf(ret, size, "%u connection%s, %llu bytes", run->depth, run->depth > 1 ? "s" : "",
             (unsigned long long)run->size);
}

/* ---- notify ---- */

static void describe_notify(const struct job *job, char *ret, size_t size)
{
    snprintf(ret, size,
             "notify: being told that a read is over; reads of %llu bytes in a file of %llu MiB, "
             "%s",
             (unsigned long long)job->block, (unsigned long long)(job->file_size >> 20),
             job_cache(job));
}

static void point_notify(const struct run *run, char *ret, size_t size)
{
    snprintf(ret, size, "depth %u, %s", run->depth, way_names[run->way]);
}

/* ---- aio-scale ---- */

static void describe_scale(const struct job *job, char *ret, size_t size)
{
    snprintf(ret, size,
             "aio-scale: %u reads of an empty pipe outstanding at once; aio_suspend over %u "
             "of them, where that can be done",
             job->count, job->count > SCALE_ENTRIES ? SCALE_ENTRIES : job->count - 1);
}

static void point_scale(const struct run *run, char *ret, size_t size)
{
    snprintf(ret, size, "%u requests", run->job->count);
}

/* ---- all ---- */

const struct suite_traits suites[SUITES] = {
    [SUITE_NOP] = { .name = "nop",
                    .seconds = 2,
                    .depths = "128",
                    .sizes = "4096",
                    .bases = { "blocking", "liburing" },
                    .view = &view_operations,
                    .list = contender_plain_list,
                    .describe = describe_nop,
                    .point = point_depth },
    [SUITE_FILES] = { .name = "files",
                      .reads = READS_FILES,
                      .seconds = 1,
                      .count = 1000,
                      .depths = "64",
                      .sizes = "4096",
                      .bases = { "blocking", "liburing" },
                      .view = &view_operations,
                      .list = contender_plain_list,
                      .describe = describe_files,
                      .point = point_depth },
    [SUITE_RANDOM] = { .name = "random",
                       .reads = READS_BLOCKS,
                       .seconds = 4,
                       .file_size = (uint64_t)512 << 20,
                       .depths = "32",
                       .sizes = "4096",
                       .bases = { "blocking", "liburing" },
                       .view = &view_operations,
                       .list = contender_plain_list,
                       .describe = describe_random,
                       .point = point_depth },
    [SUITE_ECHO] = { .name = "echo",
                     .seconds = 2,
                     .depths = "1,50,500,1000,10000",
                     .sizes = "64,512,1024,16384",
                     .bases = { "epoll", "liburing" },
                     .view = &view_echo,
                     .list = contender_echo_list,
                     .describe = describe_echo,
                     .point = point_echo },
    [SUITE_NOTIFY] = { .name = "notify",
                       .reads = READS_BLOCKS,
                       .seconds = 1,
                       .file_size = (uint64_t)64 << 20,
                       .depths = "1,32",
                       .sizes = "4096",
                       .ways = "none,signal,thread",
                       .warm = true,
                       .bases = { "glibc-aio", "posixaio-dropin" },
                       .view = &view_notify,
                       .list = contender_notify_list,
                       .describe = describe_notify,
                       .point = point_notify },
    [SUITE_SCALE] = { .name = "aio-scale",
                      .count = 100000,
                      .depths = "1",
                      .sizes = "4096",
                      .bases = { "glibc-aio" },
                      .view = &view_scale,
                      .list = contender_scale_list,
                      .describe = describe_scale,
                      .point = point_scale },
};

/* SPDX-License-Identifier: MIT */
/* stats.c: counts what a drop-in does, in memory that `ouro run --stats` has made. The file is
 * looked for when the first request comes, and never in a process with more rights than its user.
 * One that is not what this drop-in knows is left alone. */
#include "stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PUBLISH_NS = 1000 * 1000 }; /* how often the loop is asked, at most */

bool stats_on;

static struct stats_interface *to;
static bool tried;
static _Thread_local bool ours;

/* Of this process. */
static struct {
    _Atomic uint64_t outstanding;
    ouro_loop *_Atomic loop;
    _Atomic uint32_t publishing;
    uint64_t published_ns;
    const char *_Atomic engine;
    ouro_counters last; /* what of the loop's is counted already */
} own;

static void add(_Atomic uint64_t *counter, uint64_t count)
{
    if (count)
        atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
}

static void raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t old = atomic_load_explicit(most, memory_order_relaxed);

    while (old < value && !atomic_compare_exchange_weak_explicit(
                              most, &old, value, memory_order_relaxed, memory_order_relaxed))
        continue;
}

/* ---- The file ------------------------------------------------------------------------------- */

static bool is_ours(const struct stats_head *head, uint64_t size)
{
    return head->version == STATS_VERSION && head->size == sizeof(struct stats_file) &&
           size >= sizeof(struct stats_file);
}

/* NULL: there is none, or not for us. */
static struct stats_file *map(int fd)
{
    struct stat info;
    struct stats_head *head;
    void *at;

    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || info.st_size < (off_t)sizeof(*head))
        return NULL;
    at = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return NULL;
    head = at;
    if (memcmp(head->magic, STATS_MAGIC, sizeof(head->magic)) == 0) {
        if (is_ours(head, (uint64_t)info.st_size))
            return at;
        add(&head->strangers, 1);
    }
    munmap(at, (size_t)info.st_size);
    return NULL;
}

static void at_exit(void);

void stats_open(unsigned interface)
{
    const char *path = tried ? NULL : secure_getenv(STATS_VARIABLE);
    struct stats_file *file = NULL;
    int saved = errno, fd;

    tried = true;
    if (path && *path) {
        fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        file = fd < 0 ? NULL : map(fd);
        if (fd >= 0)
            close(fd);
    }
    if (file && atexit(at_exit) == 0) {
        to = &file->interfaces[interface];
        stats_on = true;
    }
    errno = saved;
}

/* ---- The loop ------------------------------------------------------------------------------- */

static bool claim(_Atomic uint32_t *state)
{
    uint32_t nobody = STATS_FREE;

    return atomic_compare_exchange_strong(state, &nobody, STATS_TAKEN);
}

/* Who is killed between claim and end leaves a slot that nobody uses, so two may have one name. */
static void note_engine(const char *name)
{
    own.engine = name;
    for (unsigned i = 0; i < STATS_ENGINES; i++) {
        struct stats_engine *engine = &to->engines[i];

        if (claim(&engine->state)) {
            strncpy(engine->name, name, sizeof(engine->name) - 1);
            atomic_store(&engine->state, STATS_THERE);
        }
        if (atomic_load(&engine->state) == STATS_THERE &&
            strncmp(engine->name, name, sizeof(engine->name) - 1) == 0) {
            add(&engine->processes, 1);
            return;
        }
    }
}

void stats_start(ouro_loop *loop)
{
    if (!stats_on)
        return;
    add(&to->processes, 1);
    note_engine(ouro_engine_name(loop));
    if (claim(&to->why_state)) {
        strncpy(to->why, ouro_engine_why(loop), sizeof(to->why) - 1);
        atomic_store(&to->why_state, STATS_THERE);
    }
    own.loop = loop;
}

void stats_forked(void)
{
    memset(&own, 0, sizeof(own));
}

/* Who comes while another thread does it has nothing to add. */
static void publish(ouro_loop *loop)
{
    ouro_counters now;

    if (atomic_exchange(&own.publishing, true))
        return;
    if (ouro_get_counters(loop, &now, sizeof(now)) == 0) {
        const char *name = ouro_engine_name(loop), *known = own.engine;

        add(&to->calls[STATS_ENTERS], now.enters - own.last.enters);
        add(&to->calls[STATS_WAITS], now.waits - own.last.waits);
        add(&to->calls[STATS_WAKEUPS], now.wakeups - own.last.wakeups);
        own.last = now;
        if (known && known != name) /* that engine was taken away */
            note_engine(name);
    }
    atomic_store(&own.publishing, false);
}

void stats_loop(ouro_loop *loop)
{
    uint64_t now = stats_now();

    if (now - __atomic_load_n(&own.published_ns, __ATOMIC_RELAXED) < PUBLISH_NS)
        return;
    __atomic_store_n(&own.published_ns, now, __ATOMIC_RELAXED);
    publish(loop);
}

/* Without it the last system calls of a process would be missing. */
static void at_exit(void)
{
    ouro_loop *loop = own.loop;

    if (loop)
        publish(loop);
}

/* ---- Requests ------------------------------------------------------------------------------- */

uint64_t stats_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + 1;
}

void stats_begin(unsigned kind, uint64_t size, bool listed)
{
    uint64_t before = atomic_fetch_add_explicit(&own.outstanding, 1, memory_order_relaxed);

    raise_to(&to->depth_max, before + 1);
    add(&to->kinds[kind], 1);
    if (kind != STATS_FSYNC)
        add(&to->sizes[stats_size_bucket(size)], 1);
    add(&to->listed, listed);
}

void stats_end(unsigned kind, uint64_t wanted, int64_t res, uint64_t took_ns)
{
    bool transfer = kind != STATS_FSYNC;
    unsigned result = res == -ECANCELED                    ? STATS_CANCELED
                      : res < 0                            ? STATS_FAILED
                      : transfer && (uint64_t)res < wanted ? STATS_SHORT
                                                           : STATS_OK;

    atomic_fetch_sub_explicit(&own.outstanding, 1, memory_order_relaxed);
    add(&to->results[result], 1);
    if (transfer && res > 0)
        add(&to->bytes[kind], (uint64_t)res);
    add(&to->latency[histogram_bucket(took_ns)], 1);
    raise_to(&to->latency_max_ns, took_ns);
}

void stats_refused(void)
{
    atomic_fetch_sub_explicit(&own.outstanding, 1, memory_order_relaxed);
    add(&to->results[STATS_REFUSED], 1);
}

void stats_passed(uint64_t count)
{
    add(&to->passed, count);
}

void stats_thread(void)
{
    ours = true;
}

unsigned stats_ender(void)
{
    return ours ? STATS_BY_THREAD : STATS_BY_CALLER;
}

void stats_ended_by(unsigned ender, uint64_t count)
{
    add(&to->enders[ender], count);
}

void stats_notice(unsigned notice)
{
    add(&to->notices[notice], 1);
}

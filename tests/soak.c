/* SPDX-License-Identifier: MIT */
/* soak.c: millions of operations of random kinds, with random cancels and deadlines, on one engine:
 * soak [--engine NAME] [--threading owned|shared|service] [--ops N] [--seed N] [--depth N].
 *
 * Every operation has a record of what was accepted, and what its completion may say; nothing may
 * be lost, doubled, or ended without a reason. At the end nothing is left: descriptors, threads,
 * memory, locked memory, the system's count of kernel AIO contexts. */
#include <dirent.h>
#include <getopt.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "test.h"

enum {
    PIPES = 8,
    SOCKETS = 4 /* of the pipes */,
    KEPT = 16,
    FILES = 4,
    FILE_SIZE = 65536,
    BUF = 4096,
    DIRECT_BLOCKS = 64 /* of BUF bytes */
};

struct item {
    ouro_op op; /* first */
    bool busy, timed, canceled, by_callback;
    uint32_t accepted, completed;
    int pipe; /* its pipe, or -1 */
    unsigned kind;
    struct ouro_stat st;
    _Alignas(BUF) char buf[BUF];
};

static struct {
    ouro_loop *loop;
    ouro_config config;
    struct item *items;
    unsigned depth;
    _Atomic unsigned in_flight; /* SERVICE counts on its own thread */
    _Atomic uint64_t completed, canceled, timed_out, streamed;
    uint64_t ops, submitted, refused, seed, random;
    int pipes[PIPES][2], files[FILES], direct;
    ouro_pool *pool;
    void *kept[KEPT]; /* buffers of the pool that are given back later */
    int64_t bytes_in[PIPES], bytes_out[PIPES];
    char dir[64], paths[FILES + 2][96], direct_path[96];
    uint64_t kinds[OURO_CODE_COUNT];
    pthread_mutex_t lock;
    _Atomic long live;
} soak;

#define DIE(...)                                                             \
    do {                                                                     \
        printf("seed %llu, operation %llu: ", (unsigned long long)soak.seed, \
               (unsigned long long)soak.submitted);                          \
        printf(__VA_ARGS__);                                                 \
        printf("\n");                                                        \
        exit(1);                                                             \
    } while (0)

static uint32_t draw(uint32_t below)
{
    /* splitmix64 */
    uint64_t z = soak.random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) % below);
}

static void *counted(void *ctx, void *old, size_t size)
{
    void *at;

    (void)ctx;
    if (!size) {
        soak.live -= old != NULL;
        free(old);
        return NULL;
    }
    at = realloc(old, size);
    soak.live += at && !old;
    return at;
}

/* ---- Completions --------------------------------------------------------------------------- */

/* Errors that the operations below may have by themselves. */
static bool may_fail(const struct item *item, int64_t res)
{
    switch (item->op.code) {
    case OURO_MKDIR: return res == -EEXIST;
    case OURO_OPEN:
    case OURO_UNLINK:
    case OURO_RENAME:
    case OURO_STAT: return res == -ENOENT;
    default: return false;
    }
}

/* A completion that is not final. Some buffers are given back only when others have come. */
static void *judge_more(struct item *item, int64_t res, uint32_t cflags, void *data)
{
    uint64_t number = soak.streamed++;
    void **place = &soak.kept[number % KEPT], *back = data;

    if (!item->busy || res < 0 || !(cflags & OURO_C_BUF) != !data)
        DIE("%s: %lld, %x before its end", ouro_code_name(item->op.code), (long long)res, cflags);
    if (!data)
        return NULL;
    soak.bytes_out[item->pipe] += res;
    if (number % 3) {
        back = *place;
        *place = data;
    }
    return back;
}

static bool reads(const ouro_op *op)
{
    return op->code == OURO_READ || op->code == OURO_RECV;
}

static bool writes(const ouro_op *op)
{
    return op->code == OURO_WRITE || op->code == OURO_SEND;
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    ouro_op *op = &item->op;

    if (!item->busy || ++item->completed != item->accepted)
        DIE("%s completed %u times, accepted %u times", ouro_code_name(op->code), item->completed,
            item->accepted);
    item->busy = false;
    if (cflags & OURO_C_CANCELED && !item->canceled)
        DIE("%s: cancelled, and nobody asked", ouro_code_name(op->code));
    if (cflags & OURO_C_TIMEDOUT && !item->timed)
        DIE("%s: timed out without deadline", ouro_code_name(op->code));
    if (res < 0 && !(res == -ECANCELED && cflags & OURO_C_CANCELED) &&
        !(res == -ETIMEDOUT && cflags & OURO_C_TIMEDOUT) && !may_fail(item, res))
        DIE("%s: %s", ouro_code_name(op->code), strerror((int)-res));
    if (op->code == OURO_OPEN && res >= 0)
        close((int)res);
    if (reads(op) && item->pipe >= 0 && res > 0)
        soak.bytes_out[item->pipe] += res;
    if (writes(op) && item->pipe >= 0 && res > 0)
        soak.bytes_in[item->pipe] += res;
    soak.canceled += (cflags & OURO_C_CANCELED) != 0;
    soak.timed_out += (cflags & OURO_C_TIMEDOUT) != 0;
    soak.completed++;
    soak.in_flight--;
}

static void completed(ouro_op *op, int64_t res, uint32_t cflags, void *data)
{
    struct item *item = (struct item *)(void *)op;
    void *back = NULL;

    pthread_mutex_lock(&soak.lock);
    if (cflags & OURO_C_MORE)
        back = judge_more(item, res, cflags, data);
    else
        judge(item, res, cflags);
    pthread_mutex_unlock(&soak.lock);
    if (back && ouro_pool_release(soak.pool, back) < 0)
        DIE("a buffer is not taken back");
}

static void on_completion(ouro_op *op)
{
    completed(op, op->res, op->cflags, op->cflags & OURO_C_BUF ? op->data : NULL);
}

static void collect(void)
{
    ouro_event events[64];
    int count;

    while ((count = ouro_reap(soak.loop, events, 64)) > 0)
        for (int i = 0; i < count; i++)
            completed(events[i].op, events[i].res, events[i].cflags, events[i].data);
}

/* ---- Submissions --------------------------------------------------------------------------- */

static int64_t some_work(void *arg)
{
    (void)arg;
    return 0;
}

static void prepare_files(struct item *item, unsigned kind)
{
    ouro_op *op = &item->op;
    int fd = soak.files[draw(FILES)];
    const char *path = soak.paths[draw(FILES + 2)];
    int64_t block = (int64_t)draw(DIRECT_BLOCKS) * BUF;

    switch (kind) {
    case 0: ouro_prep_read(op, fd, item->buf, 1 + draw(BUF), draw(FILE_SIZE)); break;
    case 1: ouro_prep_write(op, fd, item->buf, 1 + draw(BUF), draw(FILE_SIZE)); break;
    case 2: ouro_prep_open(op, OURO_HERE, path, O_RDONLY, 0); break;
    case 3: ouro_prep_stat(op, OURO_HERE, path, 0, &item->st); break;
    case 4: ouro_prep_read(op, fd, item->buf, 1 + draw(64), OURO_CUR); break;
    case 5: ouro_prep_fadvise(op, fd, 0, 0, POSIX_FADV_NORMAL); break;
    case 7: ouro_prep_read(op, soak.direct, item->buf, BUF, block); break;
    case 8: ouro_prep_write(op, soak.direct, item->buf, BUF, block); break;
    case 9: ouro_prep_fdatasync(op, soak.direct); break;
    case 6: ouro_prep_mkdir(op, OURO_HERE, soak.dir, 0700); break;
    default: ouro_prep_unlink(op, OURO_HERE, soak.paths[FILES + 1], 0); break;
    }
}

/* Each ends by its deadline, if not by a cancel. */
static void prepare_stream(struct item *item, int pipe)
{
    ouro_op *op = &item->op;
    ouro_time now = ouro_now(soak.loop);

    switch (draw(3)) {
    case 0:
        item->pipe = pipe % SOCKETS;
        ouro_prep_recv_many(op, soak.pipes[item->pipe][0], soak.pool, 0);
        break;
    case 1: ouro_prep_poll_many(op, soak.pipes[pipe][0], POLLIN); break;
    default: ouro_prep_timer_many(op, now + draw(100000), 1 + draw(1000000)); break;
    }
    op->deadline = now + 1 + draw(3000000);
}

/* To or from a pipe. A socket is one that messages work on, too. */
static void prepare_bytes(struct item *item, int pipe, bool write)
{
    ouro_op *op = &item->op;
    int fd = soak.pipes[pipe][write];
    size_t len = 1 + draw(16);

    item->pipe = pipe;
    if (pipe < SOCKETS && write && draw(2))
        ouro_prep_send(op, fd, item->buf, len, 0);
    else if (pipe < SOCKETS && !write && draw(2))
        ouro_prep_recv(op, fd, item->buf, len, 0);
    else if (write)
        ouro_prep_write(op, fd, item->buf, len, 0);
    else
        ouro_prep_read(op, fd, item->buf, len, 0);
    op->deadline = ouro_now(soak.loop) + draw(3000000);
}

static void prepare(struct item *item)
{
    ouro_op *op = &item->op;
    unsigned kind = draw(100);
    int pipe = (int)draw(PIPES);

    item->pipe = -1;
    item->canceled = item->timed = false;
    if (kind < 30) {
        ouro_prep_nop(op);
    } else if (kind < 38) {
        ouro_prep_timer(op, ouro_now(soak.loop) + draw(2000000));
    } else if (kind < 72) {
        prepare_bytes(item, pipe, kind < 55);
    } else if (kind < 75) {
        prepare_stream(item, pipe);
    } else if (kind < 78) {
        ouro_prep_poll(op, soak.pipes[pipe][0], POLLIN);
        op->deadline = ouro_now(soak.loop) + draw(3000000);
    } else if (kind < 80) {
        ouro_prep_work(op, some_work, NULL);
    } else {
        prepare_files(item, draw(11));
    }
    if (reads(op) && !draw(8))
        op->flags |= OURO_SERIAL;
    if (!draw(20) && !op->deadline && op->code != OURO_TIMER)
        op->deadline = ouro_now(soak.loop) + draw(100000);
    item->timed = op->deadline != 0;
    op->cb = draw(2) ? on_completion : NULL;
}

/* An idle item, or NULL. */
static struct item *idle(void)
{
    for (unsigned i = 0, at = draw(soak.depth); i < soak.depth; i++, at++) {
        struct item *item = &soak.items[at % soak.depth];
        if (!item->busy)
            return item;
    }
    return NULL;
}

static void submit_one(void)
{
    struct item *item;
    bool post = !draw(16);
    int r;

    pthread_mutex_lock(&soak.lock);
    item = idle();
    if (item) {
        item->busy = true; /* before: a service may be faster than our next line */
        item->accepted++;
        soak.in_flight++;
        soak.submitted++;
    }
    pthread_mutex_unlock(&soak.lock);
    if (!item)
        return;
    prepare(item);
    soak.kinds[item->op.code]++;
    r = post ? ouro_post(soak.loop, &item->op, NULL) : ouro_submit(soak.loop, &item->op);
    if (r < 0)
        DIE("%s refused: %s", ouro_code_name(item->op.code), strerror(-r));
}

static void cancel_one(void)
{
    ouro_id id = 0;

    pthread_mutex_lock(&soak.lock);
    for (unsigned i = 0, at = draw(soak.depth); i < soak.depth && !id; i++, at++) {
        struct item *item = &soak.items[at % soak.depth];
        if (item->busy) {
            item->canceled = true;
            id = ouro_op_id(&item->op);
        }
    }
    pthread_mutex_unlock(&soak.lock);
    if (id && ouro_cancel_id(soak.loop, id) < 0)
        DIE("cancel refused");
}

static void cancel_many(void)
{
    int pipe = (int)draw(PIPES);

    pthread_mutex_lock(&soak.lock);
    for (unsigned i = 0; i < soak.depth; i++)
        soak.items[i].canceled |= soak.items[i].busy;
    pthread_mutex_unlock(&soak.lock);
    if (draw(2))
        ouro_cancel_fd(soak.loop, soak.pipes[pipe][draw(2)]);
    else
        ouro_cancel_all(soak.loop);
}

/* ---- The whole ----------------------------------------------------------------------------- */

/* Files in memory did not know O_DIRECT before 6.6: then it is one more plain file. */
static void open_direct(void)
{
    static char blocks[DIRECT_BLOCKS * BUF];
    int flags = O_RDWR | O_CREAT | O_CLOEXEC;

    snprintf(soak.direct_path, sizeof soak.direct_path, "%s/direct", soak.dir);
    soak.direct = open(soak.direct_path, flags, 0600);
    if (soak.direct < 0 || write(soak.direct, blocks, sizeof blocks) != sizeof blocks ||
        fsync(soak.direct) != 0)
        DIE("no file");
    close(soak.direct);
    soak.direct = open(soak.direct_path, flags | O_DIRECT, 0600);
    if (soak.direct < 0)
        soak.direct = open(soak.direct_path, flags, 0600);
    if (soak.direct < 0)
        DIE("no file");
}

static void open_all(void)
{
    int r;

    snprintf(soak.dir, sizeof soak.dir, "/tmp/ouro-soak-XXXXXX");
    if (!mkdtemp(soak.dir))
        DIE("no directory");
    for (int i = 0; i < FILES + 2; i++)
        snprintf(soak.paths[i], sizeof soak.paths[i], "%s/file%d", soak.dir, i);
    for (int i = 0; i < FILES; i++) {
        soak.files[i] = open(soak.paths[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (soak.files[i] < 0 || ftruncate(soak.files[i], FILE_SIZE) != 0)
            DIE("no file");
    }
    open_direct();
    for (int i = 0; i < PIPES; i++) {
        int mode = i & 1 ? O_NONBLOCK : 0;
        if (i < SOCKETS ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | mode, 0, soak.pipes[i])
                        : pipe2(soak.pipes[i], O_CLOEXEC | mode))
            DIE("no pipe");
    }
    r = ouro_open(&soak.config, &soak.loop);
    if (r == 0)
        r = ouro_pool_create(soak.loop, 2 * KEPT, 8, &soak.pool);
    if (r < 0)
        DIE("ouro_open: %s", strerror(-r));
}

static void close_all(void)
{
    for (int i = 0; i < PIPES; i++) {
        char rest[256];
        ssize_t r;

        fcntl(soak.pipes[i][0], F_SETFL, O_NONBLOCK);
        while ((r = read(soak.pipes[i][0], rest, sizeof rest)) > 0)
            soak.bytes_out[i] += r;
        if (soak.bytes_in[i] != soak.bytes_out[i])
            DIE("pipe %d: %lld bytes in, %lld out", i, (long long)soak.bytes_in[i],
                (long long)soak.bytes_out[i]);
        close(soak.pipes[i][0]);
        close(soak.pipes[i][1]);
    }
    for (int i = 0; i < FILES; i++) {
        close(soak.files[i]);
        unlink(soak.paths[i]);
    }
    close(soak.direct);
    unlink(soak.direct_path);
    rmdir(soak.dir);
}

static void progress(time_t start)
{
    static time_t last;
    time_t now = time(NULL);

    if (now - last < 10)
        return;
    last = now;
    printf("# %llu of %llu, %lld s, %u in flight, %llu cancelled, %llu timed out\n",
           (unsigned long long)soak.submitted, (unsigned long long)soak.ops,
           (long long)(now - start), soak.in_flight, (unsigned long long)soak.canceled,
           (unsigned long long)soak.timed_out);
    fflush(stdout);
}

static void run_all(void)
{
    bool service = soak.config.threading == OURO_SERVICE;
    ouro_time stuck = ouro_now(soak.loop) + 30 * OURO_S;
    uint64_t seen = 0;
    time_t start = time(NULL);

    while (soak.completed < soak.ops) {
        unsigned burst = 1 + draw(32);

        for (unsigned i = 0; i < burst && soak.submitted < soak.ops; i++)
            submit_one();
        if (!draw(4))
            cancel_one();
        if (!draw(5000))
            cancel_many();
        if (service && ouro_run(soak.loop, 0, OURO_NOWAIT) < 0)
            DIE("ouro_run");
        if (!service && ouro_run(soak.loop, draw(4), ouro_now(soak.loop) + OURO_MS) < 0)
            DIE("ouro_run");
        collect();
        if (soak.completed != seen) {
            seen = soak.completed;
            stuck = ouro_now(soak.loop) + 30 * OURO_S;
        } else if (ouro_now(soak.loop) > stuck) {
            DIE("lost: %u operations stay in flight", soak.in_flight);
        }
        progress(start);
    }
}

static long aio_contexts(void)
{
    FILE *file = fopen("/proc/sys/fs/aio-nr", "re");
    long count = 0;

    if (file && fscanf(file, "%ld", &count) != 1)
        count = 0;
    if (file)
        fclose(file);
    return count;
}

static void parse(int argc, char **argv)
{
    static const struct option table[] = { { "engine", 1, NULL, 'e' },    { "ops", 1, NULL, 'o' },
                                           { "seed", 1, NULL, 's' },      { "depth", 1, NULL, 'd' },
                                           { "threading", 1, NULL, 't' }, { NULL, 0, NULL, 0 } };
    static const char *const modes[] = { "owned", "shared", "service" };
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == 'e')
            soak.config.engine = optarg;
        else if (c == 'o')
            soak.ops = strtoull(optarg, NULL, 0);
        else if (c == 's')
            soak.seed = strtoull(optarg, NULL, 0);
        else if (c == 'd')
            soak.depth = (unsigned)atoi(optarg);
        else if (c == 't')
            for (uint32_t i = 0; i < 3; i++)
                if (strcmp(optarg, modes[i]) == 0)
                    soak.config.threading = i;
        if (c == '?')
            exit(2);
    }
}

static void check_end(long fds, long threads, long locked, long aio)
{
    if (soak.live)
        DIE("leaked: %ld allocations", (long)soak.live);
    if (count_fds() != fds)
        DIE("leaked: %ld descriptors, %ld before", count_fds(), fds);
    for (int i = 0; i < 2000 && count_threads() != threads; i++)
        usleep(1000); /* a joined thread may stay in /proc for a moment */
    if (count_threads() != threads)
        DIE("leaked: %ld threads, %ld before", count_threads(), threads);
    if (locked_kib() != locked)
        DIE("leaked: %ld KiB locked, %ld before", locked_kib(), locked);
    for (int i = 0; i < 5000 && aio_contexts() > aio; i++)
        usleep(1000); /* others use it too, and the kernel gives it back late */
    if (aio_contexts() > aio)
        DIE("leaked: fs.aio-nr %ld, %ld before", aio_contexts(), aio);
}

int main(int argc, char **argv)
{
    long fds, threads, locked, aio;
    int r;

    await_first_thread();
    fds = count_fds();
    threads = count_threads();
    locked = locked_kib();
    aio = aio_contexts();
    soak.config = (ouro_config){ .size = sizeof soak.config, .alloc = counted };
    soak.ops = 10000000;
    soak.seed = (uint64_t)time(NULL);
    soak.depth = 200;
    parse(argc, argv);
    soak.random = soak.seed;
    pthread_mutex_init(&soak.lock, NULL);
    soak.items = aligned_alloc(BUF, soak.depth * sizeof *soak.items);
    if (!soak.items)
        return 1;
    memset(soak.items, 0, soak.depth * sizeof *soak.items);
    open_all();
    printf("# engine %s, seed %llu, %llu operations\n", ouro_engine_name(soak.loop),
           (unsigned long long)soak.seed, (unsigned long long)soak.ops);
    fflush(stdout);
    run_all();
    r = ouro_close(soak.loop, OURO_FOREVER);
    if (r < 0)
        DIE("ouro_close: %s", strerror(-r));
    close_all();
    if (soak.completed != soak.submitted || soak.in_flight)
        DIE("%llu submitted, %llu completed", (unsigned long long)soak.submitted,
            (unsigned long long)soak.completed);
    check_end(fds, threads, locked, aio);
    printf(
        "ok: %llu operations, %llu cancelled, %llu timed out, %llu completions of streams before "
        "their end, 0 lost, 0 double, 0 leaked\n",
        (unsigned long long)soak.completed, (unsigned long long)soak.canceled,
        (unsigned long long)soak.timed_out, (unsigned long long)soak.streamed);
    free(soak.items);
    return 0;
}

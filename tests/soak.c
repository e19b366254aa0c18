/* SPDX-License-Identifier: MIT */
/* soak.c: millions of operations of random kinds, with random cancels and deadlines, on one engine:
 * the frame and the ledger. See `soak --help`, and soak.h for the themes that bring the kinds.
 *
 * Every operation has a record of what was accepted, and its theme says what its completion may
 * say; nothing may be lost, doubled, or ended without a reason. At the end nothing is left:
 * descriptors, threads, memory, locked memory, the system's count of kernel AIO contexts. */
#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>

#include "soak.h"

struct soak soak;

static const struct theme *const themes[] = { &theme_basics,    &theme_files,   &theme_bytes,
                                              &theme_datagrams, &theme_network, &theme_order,
                                              &theme_system };
enum { THEMES = sizeof themes / sizeof themes[0] };
static const char *only; /* the theme that alone takes part */

_Noreturn void die(const char *format, ...)
{
    va_list args;

    printf("seed %llu, operation %llu: ", (unsigned long long)soak.seed,
           (unsigned long long)soak.submitted);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    _exit(1); /* other threads may be anywhere */
}

uint32_t draw(uint32_t below)
{
    /* splitmix64 */
    uint64_t z = soak.random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) % below);
}

ouro_time soon(uint32_t below_ns)
{
    return ouro_now(soak.loop) + 1 + draw(below_ns);
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

/* ---- Help for themes ----------------------------------------------------------------------- */

int64_t soak_do(ouro_op *op)
{
    op->cb = NULL;
    return ouro_do(soak.loop, op);
}

int soak_listener(struct sockaddr_in *ret_addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *ret_addr;

    memset(ret_addr, 0, sizeof *ret_addr);
    ret_addr->sin_family = AF_INET;
    ret_addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)ret_addr, sizeof *ret_addr) != 0 ||
        getsockname(fd, (struct sockaddr *)ret_addr, &size) != 0 || listen(fd, 64) != 0)
        die("no listener");
    return fd;
}

static void open_pool(struct keeper *keeper, unsigned size)
{
    int r = ouro_pool_create(soak.loop, keeper->count, size, &keeper->pool);

    if (r < 0)
        die("ouro_pool_create: %s", strerror(-r));
}

void keeper_open(struct keeper *keeper, unsigned count, unsigned size)
{
    *keeper = (struct keeper){ .count = count };
    open_pool(keeper, size);
}

static void give_back(struct keeper *keeper, void *data)
{
    if (data && ouro_pool_release(keeper->pool, data) < 0)
        die("a buffer is not taken back");
}

void keeper_take(struct keeper *keeper, void *data)
{
    void **place = &keeper->kept[keeper->number % KEPT], *back = data;

    if (keeper->number++ % 3) {
        back = *place;
        *place = data;
    }
    give_back(keeper, back);
}

/* A stream that is given as many packets as the pool has buffers brings them all. */
void keeper_settle(struct keeper *keeper)
{
    ouro_op op = { 0 };
    ouro_event event;
    int fds[2];

    for (int i = 0; i < KEPT; i++)
        give_back(keeper, keeper->kept[i]);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        die("no sockets");
    ouro_prep_recv_many(&op, fds[0], keeper->pool, 0);
    op.deadline = ouro_now(soak.loop) + 10 * OURO_S;
    if (ouro_submit(soak.loop, &op) < 0)
        die("recv_many refused");
    for (unsigned i = 0; i < keeper->count; i++) {
        if (send(fds[1], "x", 1, 0) != 1)
            die("send");
        while (ouro_reap(soak.loop, &event, 1) == 0)
            ouro_run(soak.loop, 1, OURO_FOREVER);
        if (!(event.cflags & OURO_C_MORE))
            die("a pool has lost %u of %u buffers", keeper->count - i, keeper->count);
    }
    ouro_cancel(soak.loop, &op);
    ouro_wait(soak.loop, &op, OURO_FOREVER);
    close(fds[0]);
    close(fds[1]);
    if (ouro_pool_destroy(keeper->pool) < 0)
        die("a pool without streams is busy");
}

/* ---- Completions --------------------------------------------------------------------------- */

bool ended_early(int64_t res, uint32_t cflags)
{
    return (res == -ECANCELED && cflags & OURO_C_CANCELED) ||
           (res == -ETIMEDOUT && cflags & OURO_C_TIMEDOUT);
}

static void judge_more(struct item *item, int64_t res, uint32_t cflags, void *data)
{
    soak.streamed++;
    if (!item->busy || !item->theme->more || res < 0 || !(cflags & OURO_C_BUF) != !data)
        die("%s: %lld, %x before its end", ouro_code_name(item->op.code), (long long)res, cflags);
    item->theme->more(item, res, data);
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    const struct theme *theme = item->theme;
    const char *name = ouro_code_name(item->op.code);

    if (!item->busy || ++item->completed != item->accepted)
        die("%s completed %u times, accepted %u times", name, item->completed, item->accepted);
    if (cflags & OURO_C_CANCELED && !item->canceled && !item->linked)
        die("%s: cancelled, and nobody asked", name);
    if (cflags & OURO_C_TIMEDOUT && !item->timed)
        die("%s: timed out without deadline", name);
    if (res < 0 && !ended_early(res, cflags) && !(theme->may_fail && theme->may_fail(item, res)))
        die("%s: %s", name, strerror((int)-res));
    if (theme->judge)
        theme->judge(item, res, cflags);
    item->busy = false;
    soak.canceled += (cflags & OURO_C_CANCELED) != 0;
    soak.timed_out += (cflags & OURO_C_TIMEDOUT) != 0;
    soak.completed++;
    soak.in_flight--;
}

static void completed(ouro_op *op, int64_t res, uint32_t cflags, void *data)
{
    struct item *item = (struct item *)(void *)op;

    pthread_mutex_lock(&soak.lock);
    if (cflags & OURO_C_MORE)
        judge_more(item, res, cflags, data);
    else
        judge(item, res, cflags);
    pthread_mutex_unlock(&soak.lock);
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

static bool takes_part(const struct theme *theme)
{
    return !only || strcmp(theme->name, only) == 0;
}

static const struct theme *draw_theme(void)
{
    static uint32_t sum;
    uint32_t at;
    unsigned i;

    if (!sum)
        for (i = 0; i < THEMES; i++)
            sum += takes_part(themes[i]) ? themes[i]->weight : 0;
    at = draw(sum);
    for (i = 0; !takes_part(themes[i]) || at >= themes[i]->weight; i++)
        at -= takes_part(themes[i]) ? themes[i]->weight : 0;
    return themes[i];
}

/* An item, prepared; before it is submitted: a service may be faster than our next line. */
static struct item *prepare_one(void)
{
    struct item *item = idle();
    ouro_op *op;

    if (!item)
        return NULL;
    op = &item->op;
    item->canceled = item->timed = item->linked = item->posts = false;
    item->way = ANY_WAY;
    item->theme = draw_theme();
    item->at = -1;
    if (!item->theme->prepare(item)) {
        item->theme = &theme_basics;
        item->posts = true;
        ouro_prep_nop(op);
    }
    if (!draw(20) && !op->deadline && op->code != OURO_TIMER)
        op->deadline = soon(100000);
    item->timed = op->deadline != 0;
    op->cb = item->way == BY_CALLBACK || (item->way == ANY_WAY && draw(2)) ? on_completion : NULL;
    item->busy = true;
    item->accepted++;
    soak.in_flight++;
    soak.submitted++;
    return item;
}

/* A queue that is broken takes no more: it is as if the item had never been drawn. */
static void take_back(struct item *item, int error)
{
    if (!item->theme->refused)
        die("%s refused: %s", ouro_code_name(item->op.code), strerror(-error));
    pthread_mutex_lock(&soak.lock);
    item->theme->refused(item, error);
    item->busy = false;
    item->accepted--;
    soak.in_flight--;
    soak.submitted--;
    pthread_mutex_unlock(&soak.lock);
}

static void submit_one(void)
{
    bool post = !draw(16);
    struct item *item;
    int r;

    pthread_mutex_lock(&soak.lock);
    item = prepare_one();
    pthread_mutex_unlock(&soak.lock);
    if (!item)
        return;
    if (item->theme->submit)
        r = item->theme->submit(item);
    else if (post && item->posts)
        r = ouro_post(soak.loop, &item->op, NULL);
    else
        r = ouro_submit(soak.loop, &item->op);
    if (r < 0)
        take_back(item, r);
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
        die("cancel refused");
}

static void cancel_many(void)
{
    int fd = -1;

    pthread_mutex_lock(&soak.lock);
    for (unsigned i = 0, at = draw(soak.depth); i < soak.depth; i++, at++) {
        struct item *item = &soak.items[at % soak.depth];
        item->canceled |= item->busy;
        if (item->busy && item->op.code != OURO_CLOSE && !(item->op.flags & OURO_DIRECT))
            fd = item->op.fd;
    }
    pthread_mutex_unlock(&soak.lock);
    if (draw(2) && fd >= 0)
        ouro_cancel_fd(soak.loop, fd);
    else
        ouro_cancel_all(soak.loop);
}

/* ---- The whole ----------------------------------------------------------------------------- */

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

static void stir(void)
{
    pthread_mutex_lock(&soak.lock);
    for (unsigned i = 0; i < THEMES; i++)
        if (takes_part(themes[i]) && themes[i]->stir)
            themes[i]->stir();
    pthread_mutex_unlock(&soak.lock);
}

static void turn(void)
{
    bool service = soak.config.threading == OURO_SERVICE;
    unsigned burst = 1 + draw(32);

    for (unsigned i = 0; i < burst && soak.submitted < soak.ops; i++)
        submit_one();
    if (!draw(4))
        cancel_one();
    if (!draw(5000))
        cancel_many();
    if (!draw(4))
        stir();
    if (service && ouro_run(soak.loop, 0, OURO_NOWAIT) < 0)
        die("ouro_run");
    if (!service && ouro_run(soak.loop, draw(4), ouro_now(soak.loop) + OURO_MS) < 0)
        die("ouro_run");
    collect();
}

static int say_stuck(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    (void)user;
    (void)since;
    printf("# %s waits: %s\n", ouro_code_name(op->code), where);
    return 0;
}

static void run_all(void)
{
    ouro_time stuck = ouro_now(soak.loop) + 30 * OURO_S;
    uint64_t seen = 0;
    time_t start = time(NULL);

    while (soak.completed < soak.ops) {
        turn();
        if (soak.completed != seen) {
            seen = soak.completed;
            stuck = ouro_now(soak.loop) + 30 * OURO_S;
        } else if (ouro_now(soak.loop) > stuck) {
            ouro_each_inflight(soak.loop, say_stuck, NULL);
            die("lost: %u operations stay in flight", soak.in_flight);
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

static int usage(int code)
{
    fprintf(code ? stderr : stdout,
            "usage: soak [--engine NAME] [--threading owned|shared|service] [--ops N] [--seed N]\n"
            "            [--depth N] [--only THEME]\n"
            "Random operations, --depth of them (200) at once, until --ops (10000000) have ended.\n"
            "The same seed draws the same numbers, but what the system does differs. Themes:");
    for (unsigned i = 0; i < THEMES; i++)
        fprintf(code ? stderr : stdout, " %s", themes[i]->name);
    fprintf(code ? stderr : stdout, "\n");
    return code;
}

static void parse_threading(const char *word)
{
    static const char *const modes[] = { "owned", "shared", "service" };

    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(word, modes[i]) == 0) {
            soak.config.threading = i;
            return;
        }
    }
    exit(usage(2));
}

static void parse_only(const char *word)
{
    for (unsigned i = 0; i < THEMES; i++)
        if (strcmp(word, themes[i]->name) == 0)
            only = themes[i]->name;
    if (!only)
        exit(usage(2));
}

static void parse(int argc, char **argv)
{
    static const struct option table[] = { { "engine", 1, NULL, 'e' },    { "ops", 1, NULL, 'o' },
                                           { "seed", 1, NULL, 's' },      { "depth", 1, NULL, 'd' },
                                           { "only", 1, NULL, 'y' },      { "help", 0, NULL, 'h' },
                                           { "threading", 1, NULL, 't' }, { NULL, 0, NULL, 0 } };
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (c) {
        case 'e': soak.config.engine = optarg; break;
        case 'o': soak.ops = strtoull(optarg, NULL, 0); break;
        case 's': soak.seed = strtoull(optarg, NULL, 0); break;
        case 'd': soak.depth = (unsigned)atoi(optarg); break;
        case 't': parse_threading(optarg); break;
        case 'y': parse_only(optarg); break;
        default: exit(usage(c == 'h' ? 0 : 2));
        }
    }
    if (!soak.depth || optind < argc)
        exit(usage(2));
}

struct left {
    long fds, threads, locked, aio;
};

static struct left count_left(void)
{
    return (struct left){ count_fds(), count_threads(), locked_kib(), aio_contexts() };
}

static void check_end(struct left before)
{
    if (soak.live)
        die("leaked: %ld allocations", (long)soak.live);
    if (count_fds() != before.fds)
        die("leaked: %ld descriptors, %ld before", count_fds(), before.fds);
    for (int i = 0; i < 2000 && count_threads() != before.threads; i++)
        usleep(1000); /* a joined thread may stay in /proc for a moment */
    if (count_threads() != before.threads)
        die("leaked: %ld threads, %ld before", count_threads(), before.threads);
    if (locked_kib() != before.locked)
        die("leaked: %ld KiB locked, %ld before", locked_kib(), before.locked);
    for (int i = 0; i < 5000 && aio_contexts() > before.aio; i++)
        usleep(1000); /* others use it too, and the kernel gives it back late */
    if (aio_contexts() > before.aio)
        die("leaked: fs.aio-nr %ld, %ld before", aio_contexts(), before.aio);
}

/* Every other seed asks for slots without descriptors, which few engines have. */
static void open_all(void)
{
    int r;

    soak.config.want = soak.seed % 2 ? OURO_CAP_SLOTS : 0;
    r = ouro_open(&soak.config, &soak.loop);
    if (r == -EOPNOTSUPP) {
        soak.config.want = 0;
        r = ouro_open(&soak.config, &soak.loop);
    }
    if (r == 0)
        r = ouro_direct_table(soak.loop, SLOTS);
    if (r < 0)
        die("ouro_open: %s", strerror(-r));
    for (unsigned i = 0; i < THEMES; i++)
        if (takes_part(themes[i]) && themes[i]->open)
            themes[i]->open();
    printf("# engine %s, seed %llu, %llu operations\n", ouro_engine_name(soak.loop),
           (unsigned long long)soak.seed, (unsigned long long)soak.ops);
    fflush(stdout);
}

static void close_all(void)
{
    int r;

    for (unsigned i = 0; i < THEMES; i++)
        if (takes_part(themes[i]) && themes[i]->settle)
            themes[i]->settle();
    r = ouro_close(soak.loop, OURO_FOREVER);
    if (r < 0)
        die("ouro_close: %s", strerror(-r));
    for (unsigned i = 0; i < THEMES; i++)
        if (takes_part(themes[i]) && themes[i]->close)
            themes[i]->close();
    if (soak.completed != soak.submitted || soak.in_flight)
        die("%llu submitted, %llu completed", (unsigned long long)soak.submitted,
            (unsigned long long)soak.completed);
}

int main(int argc, char **argv)
{
    struct left before;

    await_first_thread();
    before = count_left();
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
    run_all();
    close_all();
    check_end(before);
    printf(
        "ok: %llu operations, %llu cancelled, %llu timed out, %llu completions of streams before "
        "their end, 0 lost, 0 double, 0 leaked\n",
        (unsigned long long)soak.completed, (unsigned long long)soak.canceled,
        (unsigned long long)soak.timed_out, (unsigned long long)soak.streamed);
    free(soak.items);
    return 0;
}

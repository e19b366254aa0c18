/* SPDX-License-Identifier: MIT */
/* Suite echo: for each contender a process that serves and one that loads it, each on a core of its
 * own where there are two, so that neither takes the other's time and the limit of descriptors is
 * for each alone. This process only says when a round begins. Both die with it, whatever ends it.
 * What a request costs is read from the clock of the server's CPU time. */
#include "echo.h"

#include "ouro.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ENGINES_MAX = 8,
    PATIENCE_MS = 120 * 1000, /* for thousands of connections on a slow machine */
    TRIALS = 5,
    TRIAL_NS = 30 * 1000 * 1000,
};

/* What the processes write for this one to read. */
struct shared {
    struct echo_result result;
    double server_cpu, kept_waiting; /* seconds in the round */
    double memory;                   /* bytes of the server per connection */
    int server_error, load_error;
    char server_why[WHY_SIZE], load_why[WHY_SIZE];
};

struct pair {
    const struct contender *contender;
    const struct job *job;
    pid_t server, load;
    bool apart;  /* each on a core of its own */
    int control; /* a limit goes to the load generator, a byte comes back when it is done */
    struct shared *shared;
};

static int cores_allowed(cpu_set_t *ret)
{
    return sched_getaffinity(0, sizeof(*ret), ret) < 0 ? 1 : CPU_COUNT(ret);
}

/* To the first or second CPU that may be used; with one there is nothing to choose. */
static void pin(unsigned which)
{
    cpu_set_t all, one;
    unsigned seen = 0;

    if (cores_allowed(&all) < 2)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || seen++ != which)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

/* A child with what serving and loading need. */
static pid_t spawn(unsigned cpu)
{
    pid_t child = bench_fork();

    if (child == 0) {
        echo_raise_nofile();
        pin(cpu);
    }
    return child;
}

/* ---- the load generator's process ---- */

static double cpu_of(pid_t pid)
{
    struct timespec time = { 0 };
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* How long a process was ready to run but did not: on a core of its own, because of others. Threads
 * that share a core wait for each other, so nothing is said of a process that has several, nor
 * where there is one core only. */
static double waited_of(const struct pair *pair, pid_t pid)
{
    unsigned long long ran, waited = 0;
    struct stat tasks;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    if (!pair->apart || stat(path, &tasks) < 0 || tasks.st_nlink != 3) /* ".", "..", and one */
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    fclose(file);
    return (double)waited / 1e9;
}

static int load_round(const struct pair *pair, struct echo_load *load, uint64_t limit_ns)
{
    struct shared *shared = pair->shared;
    double waited = waited_of(pair, pair->server) + waited_of(pair, getpid());
    double server = cpu_of(pair->server);
    int r;

    if (pair->apart)
        echo_load_spin(load);
    memset(&shared->result, 0, sizeof(shared->result));
    r = echo_load_run(load, limit_ns, 0, &shared->result);
    shared->server_cpu = cpu_of(pair->server) - server;
    shared->kept_waiting = waited_of(pair, pair->server) + waited_of(pair, getpid()) - waited;
    if (r == 0 && echo_result_errors(&shared->result) && !shared->load_why[0])
        snprintf(shared->load_why, WHY_SIZE, "%s", shared->result.first_error);
    return r;
}

/* One connection and one request, so that the server has made all that does not depend on the
 * number of connections; then all of them, and one request each. */
static int load_begin(const struct pair *pair, const struct echo_address *address,
                      struct echo_load **ret, double *ret_before)
{
    struct shared *shared = pair->shared;
    size_t size = pair->job->size;
    int r = echo_load_open(ret, address, 1, size, shared->load_why);

    if (r < 0)
        return r;
    r = load_round(pair, *ret, 0);
    echo_load_close(*ret, true);
    *ret_before = bench_resident(pair->server);
    if (r == 0 && echo_result_errors(&shared->result) == 0)
        r = echo_load_open(ret, address, pair->job->depth, size, shared->load_why);
    if (r == 0 && echo_result_errors(&shared->result) == 0)
        r = load_round(pair, *ret, 0);
    return r < 0 ? r : echo_result_errors(&shared->result) ? -EIO : 0;
}

static void load_process(const struct pair *pair, const struct echo_address *address, int control)
{
    struct shared *shared = pair->shared;
    struct echo_load *load;
    double before = 0;
    uint64_t limit;
    ssize_t got;

    shared->load_error = load_begin(pair, address, &load, &before);
    while (write(control, "", 1) == 1 && shared->load_error == 0) {
        do
            got = read(control, &limit, sizeof(limit));
        while (got < 0 && errno == EINTR && !cli_signal);
        if (got != (ssize_t)sizeof(limit))
            break;
        shared->load_error = load_round(pair, load, limit);
        shared->memory = (bench_resident(pair->server) - before) / pair->job->depth;
    }
    _exit(0);
}

/* ---- this process ---- */

static void pair_close(struct pair *pair)
{
    const pid_t pids[] = { pair->load, pair->server };

    for (size_t i = 0; i < 2; i++) {
        if (pids[i] <= 0)
            continue;
        kill(pids[i], SIGKILL);
        while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (pair->control >= 0)
        close(pair->control);
    if (pair->shared)
        munmap(pair->shared, sizeof(*pair->shared));
    *pair = (struct pair){ .control = -1 };
}

/* Until the load generator is done. 0, or -errno with the reason in `why`. */
static int pair_wait(const struct pair *pair, char *why)
{
    const struct shared *shared = pair->shared;
    struct pollfd poll_fd = { .fd = pair->control, .events = POLLIN };
    char byte;
    int r = poll(&poll_fd, 1, PATIENCE_MS);

    if (cli_signal)
        return -EINTR;
    if (r > 0 && read(pair->control, &byte, 1) == 1 && !shared->load_error)
        return 0;
    if (shared->server_error) {
        snprintf(why, WHY_SIZE, "%s",
                 shared->server_why[0] ? shared->server_why : strerror(-shared->server_error));
        return shared->server_error;
    }
    snprintf(why, WHY_SIZE, "%s",
             r == 0                   ? "no answer in two minutes"
             : shared->load_why[0]    ? shared->load_why
             : shared->load_error < 0 ? strerror(-shared->load_error)
                                      : "the load generator has died");
    return r == 0 ? -ETIMEDOUT : shared->load_error < 0 ? shared->load_error : -EPIPE;
}

static int fork_server(struct pair *pair, int listener, unsigned variant)
{
    struct echo_job echo = {
        .listener = listener,
        .connections = pair->job->depth,
        .size = pair->job->size,
        .variant = variant,
        .engine = pair->contender->engine,
        .why = pair->shared->server_why,
    };

    pair->server = spawn(0);
    if (pair->server != 0)
        return pair->server < 0 ? pair->server : 0;
    pair->shared->server_error = pair->contender->serve(&echo);
    _exit(1);
}

static int fork_load(struct pair *pair, const struct echo_address *address, int listener)
{
    int sockets[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    pair->load = spawn(1);
    if (pair->load == 0) {
        close(listener); /* else a dead server would still be connected to */
        close(sockets[0]);
        load_process(pair, address, sockets[1]);
    }
    close(sockets[1]);
    pair->control = sockets[0];
    return pair->load < 0 ? pair->load : 0;
}

static int pair_open(struct pair *ret, const struct contender *contender, const struct job *job,
                     unsigned variant, char *why)
{
    struct echo_address address;
    cpu_set_t cores;
    int r, listener = -1;

    *ret = (struct pair){ .contender = contender, .job = job, .control = -1 };
    ret->apart = cores_allowed(&cores) > 1;
    ret->shared =
        mmap(NULL, sizeof(*ret->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ret->shared == MAP_FAILED) {
        ret->shared = NULL;
        return -ENOMEM;
    }
    r = echo_address_tcp(&address, "127.0.0.1", 0, why);
    if (r == 0)
        r = listener = echo_listen(&address, false);
    if (r >= 0)
        r = fork_server(ret, listener, variant);
    if (r == 0)
        r = fork_load(ret, &address, listener);
    if (listener >= 0)
        close(listener);
    if (r == 0)
        r = pair_wait(ret, why);
    if (r < 0)
        pair_close(ret);
    return r;
}

static int pair_round(struct pair *pair, struct round *round, char *why)
{
    const struct shared *shared = pair->shared;
    int r = write(pair->control, &round->limit_ns, sizeof(round->limit_ns)) < 0
                ? -errno
                : pair_wait(pair, why);

    if (r < 0)
        return r;
    round->operations = shared->result.requests;
    round->server_cpu = shared->server_cpu;
    round->kept_waiting = shared->kept_waiting;
    round->errors = echo_result_errors(&shared->result);
    round->memory = shared->memory > 0 ? shared->memory : 0;
    histogram_merge(round->latency, &shared->result.latency);
    if (round->operations == 0) {
        snprintf(why, WHY_SIZE, "%s",
                 shared->load_why[0] ? shared->load_why : "no request was answered");
        return -EIO;
    }
    return 0;
}

/* Short rounds of each variant in turn; the one that costs least per request. -errno. */
static int choose(const struct contender *contender, const struct job *job, char *why)
{
    struct pair pairs[VARIANTS_MAX];
    struct histogram *latency = calloc(1, sizeof(*latency));
    double cpu[VARIANTS_MAX] = { 0 }, requests[VARIANTS_MAX] = { 0 };
    unsigned opened = 0, best = 0;
    int r = latency ? 0 : -ENOMEM;

    for (; opened < contender->variants && r == 0; opened += r == 0)
        r = pair_open(&pairs[opened], contender, job, opened, why);
    for (unsigned i = 0; i < TRIALS * opened && r == 0; i++) {
        struct round round = { .limit_ns = TRIAL_NS, .latency = latency };

        r = pair_round(&pairs[i % opened], &round, why);
        cpu[i % opened] += round.server_cpu;
        requests[i % opened] += (double)round.operations;
    }
    for (unsigned i = 0; i < opened; i++) {
        if (cpu[i] * requests[best] < cpu[best] * requests[i])
            best = i;
        pair_close(&pairs[i]);
    }
    free(latency);
    return r < 0 ? r : (int)best;
}

static int echo_open(const struct contender *self, const struct job *job, void **ret_state,
                     char *why)
{
    /* A contender that is measured against itself shall do the same thing twice. */
    static struct {
        unsigned depth;
        uint64_t size;
        int variant;
    } chosen;
    struct pair *pair = calloc(1, sizeof(*pair));
    int r = pair ? 0 : -ENOMEM;

    if (r == 0 && self->variants > 1 && (chosen.depth != job->depth || chosen.size != job->size)) {
        r = choose(self, job, why);
        chosen.depth = job->depth;
        chosen.size = job->size;
        chosen.variant = r;
    }
    if (r >= 0)
        r = pair_open(pair, self, job, self->variants > 1 ? (unsigned)chosen.variant : 0, why);
    if (r < 0)
        free(pair);
    else
        *ret_state = pair;
    return r;
}

static int echo_round(void *state, struct round *round)
{
    struct pair *pair = state;
    char why[WHY_SIZE] = "";
    int r = pair_round(pair, round, why);

    if (r < 0 && !cli_signal && why[0])
        cli_error("%s: %s", pair->contender->name, why);
    return r;
}

static void echo_close(void *state)
{
    pair_close(state);
    free(state);
}

static int serve_ouro(const struct echo_job *job)
{
    struct echo_server *server;
    int r = echo_server_open(&server, job->engine, job->listener, job->why);

    return r < 0 ? r : echo_server_run(server);
}

static const char *describe_epoll(const struct contender *self, const struct job *job)
{
    (void)self;
    (void)job;
    return "edge-triggered, one buffer for all, recv and send at once";
}

static const char *describe_ouro(const struct contender *self, const struct job *job)
{
    (void)self;
    (void)job;
    return "one loop, per connection a stream into a pool of buffers, and a send of what came";
}

#ifdef HAVE_LIBUV
static const char *describe_libuv(const struct contender *self, const struct job *job)
{
    (void)self;
    (void)job;
    return "uv_read_start with one buffer for all, uv_try_write";
}
#endif

#ifdef HAVE_LIBEVENT
static const char *describe_libevent(const struct contender *self, const struct job *job)
{
    (void)self;
    (void)job;
    return "plain persistent events, one buffer for all, recv and send at once";
}
#endif

#ifdef HAVE_LIBURING
static const char *describe_liburing(const struct contender *self, const struct job *job)
{
    (void)self;
    (void)job;
    return "multishot accept to direct descriptors; recv multishot with provided buffers, or into "
           "a buffer for each connection: what costs less here";
}
#endif

static const struct contender servers[] = {
    { .name = "epoll", .serve = echo_serve_epoll, .describe = describe_epoll },
#ifdef HAVE_LIBUV
    { .name = "libuv", .serve = echo_serve_libuv, .describe = describe_libuv },
#endif
#ifdef HAVE_LIBEVENT
    { .name = "libevent", .serve = echo_serve_libevent, .describe = describe_libevent },
#endif
#ifdef HAVE_LIBURING
    { .name = "liburing",
      .serve = echo_serve_liburing,
      .describe = describe_liburing,
      .variants = 2 },
#endif
};

unsigned contender_echo_list(struct contender *ret, unsigned max)
{
    static char names[ENGINES_MAX][32];
    const char *engine;
    unsigned count = 0;

    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]) && count < max; i++)
        ret[count++] = servers[i];
    for (unsigned i = 0; i < ENGINES_MAX && count < max && (engine = ouro_engine_list(i)); i++) {
        snprintf(names[i], sizeof(names[i]), "ouro:%s", engine);
        ret[count++] = (struct contender){
            .name = names[i], .engine = engine, .serve = serve_ouro, .describe = describe_ouro
        };
    }
    for (unsigned i = 0; i < count; i++) {
        ret[i].suites = 1u << SUITE_ECHO;
        ret[i].open = echo_open;
        ret[i].round = echo_round;
        ret[i].close = echo_close;
    }
    return count;
}

/* SPDX-License-Identifier: MIT */
/* `ouro info`: what this machine offers and what ouro makes of it: kernel, engines, the one that
 * would be chosen and how it works, limits, environment. Nothing here is concluded from a version
 * number: engines and features are opened, ways of working are read off a real operation, and
 * whether rings count as locked memory is asked with a limit of nothing. */
#include "cli.h"

#include "ouro.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { ENGINES_MAX = 8, WIDTH = 80, BLOCK = 4096, TRIES = 8, LABEL = 17, CAP_IPC_LOCK_BIT = 14 };

static bool opt_verbose;

static const struct cli_option options[] = {
    { .name = "verbose",
      .kind = CLI_FLAG,
      .into = &opt_verbose,
      .help = "also how each operation is done (with --json always)" },
    { 0 },
};

static const struct cap {
    uint64_t bit;
    const char *name, *words;
} caps[] = {
    { OURO_CAP_DEFER, "defer", "deferred completions" },
    { OURO_CAP_SINGLE, "single", "single submitter" },
    { OURO_CAP_RING_FD, "ring_fd", "registered ring descriptor" },
    { OURO_CAP_RESIZE, "resize", "growing rings" },
    { OURO_CAP_NO_ARRAY, "no_array", "no index array" },
    { OURO_CAP_FIXED, "fixed", "registered buffers and files" },
    { OURO_CAP_NAMES, "names", "names without workers" },
    { OURO_CAP_NOWAIT, "nowait", "cached data on the spot" },
    { OURO_CAP_CACHED, "cached", "cached names on the spot" },
    { OURO_CAP_PIDFD, "pidfd", "processes without threads" },
    { OURO_CAP_NOSIGNAL, "nosignal", "pipes without SIGPIPE" },
    { OURO_CAP_MULTISHOT, "multishot", "streams that go on by themselves" },
    { OURO_CAP_SLOTS, "slots", "direct slots without descriptors" },
    { OURO_CAP_ZEROCOPY, "zerocopy", "sends without copying" },
    { OURO_CAP_PARTS, "parts", "receives that share buffers" },
    { OURO_CAP_SQPOLL, "sqpoll", "submission without system calls" },
    { OURO_CAP_CREDENTIALS, "credentials", "the same by who may act as others" },
};
enum { CAPS = sizeof(caps) / sizeof(caps[0]) };
/* Asked for together. */
#define POLLING (OURO_CAP_SQPOLL | OURO_CAP_CREDENTIALS)

/* How something is done; the names are those of the JSON document. */
enum way { WAY_UNKNOWN, WAY_INLINE, WAY_NATIVE, WAY_EMULATED, WAY_WORKER, WAY_NO };
static const char *const way_names[] = { NULL, "inline", "native", "emulated", "worker", "no" };

struct engine {
    const char *name;
    int error; /* 0: available, else -errno */
    char why[1024];
    uint64_t caps, on_request; /* had by itself; had when config.want asks */
};

struct choice {
    const char *source, *preference; /* "automatic", "OURO_ENGINE", "--engine"; NULL: none */
    int error;
    char engine[32], why[1024];
    enum way cached, uncached, direct, socket, support[OURO_CODE_COUNT];
};

struct limits {
    struct rlimit memlock, nofile;
    bool exempt;      /* CAP_IPC_LOCK: the limit of locked memory does not hold */
    int counts_rings; /* 1: rings count as locked memory; 0: they do not; -1: not known */
    int64_t aio_max, aio_now, disabled, group, seccomp, filters; /* -1: not to be had */
};

struct facts {
    struct utsname system;
    long cores;
    struct engine engines[ENGINES_MAX];
    unsigned engine_count;
    struct choice choice;
    struct limits limits;
};

/* ---- Asking -------------------------------------------------------------------------------- */

/* The number behind `label` ("" for the start) in a small file of /proc, or -1. */
static int64_t number_in(const char *path, const char *label, int base)
{
    char line[256];
    FILE *file = fopen(path, "re");
    int64_t number = -1;

    while (file && number < 0 && fgets(line, sizeof(line), file)) {
        char *at = line + strlen(label), *end;
        if (strncmp(line, label, strlen(label)) == 0) {
            number = strtoll(at, &end, base);
            number = end == at ? -1 : number;
        }
    }
    if (file)
        fclose(file);
    return number;
}

static bool opens_with(const char *engine, uint64_t want)
{
    ouro_config config = { .size = sizeof(config), .engine = engine, .depth = 8, .want = want };
    ouro_loop *loop;

    return ouro_open(&config, &loop) == 0 && ouro_close(loop, OURO_FOREVER) == 0;
}

static void ask_engine(struct engine *engine, const char *name)
{
    const char *prefix = " refused: ";
    size_t skip = strlen(name) + strlen(prefix);

    engine->name = name;
    engine->error = ouro_probe(name, engine->why, sizeof(engine->why), &engine->caps);
    if (strncmp(engine->why, name, strlen(name)) == 0 &&
        strncmp(engine->why + strlen(name), prefix, strlen(prefix)) == 0)
        memmove(engine->why, engine->why + skip, strlen(engine->why + skip) + 1);
    for (unsigned i = 0; engine->error == 0 && i < CAPS; i++) {
        uint64_t bit = caps[i].bit;

        if (!(engine->caps & bit) && opens_with(name, bit & POLLING ? POLLING : bit))
            engine->on_request |= bit;
    }
}

/* Reads and says which way that went; TRIES times where cached data is hoped for, because what was
 * not cached at first is so afterwards. */
static enum way way_of_read(ouro_loop *loop, int fd, size_t len, unsigned tries)
{
    static _Alignas(BLOCK) char buf[BLOCK];
    enum way way = WAY_UNKNOWN;

    for (unsigned i = 0; i < tries && way != WAY_INLINE; i++) {
        ouro_op op = { 0 };
        ouro_prep_read(&op, fd, buf, len, 0);
        if (ouro_do(loop, &op) < 0)
            return way;
        way = op.cflags & OURO_C_INLINE   ? WAY_INLINE
              : op.cflags & OURO_C_POOLED ? WAY_WORKER
                                          : WAY_NATIVE;
    }
    return way;
}

/* What is not cached goes the way that all goes in a loop which does not look into the cache. */
static enum way way_uncached(int fd, const char *engine)
{
    ouro_config config = { .size = sizeof(config), .engine = engine, .mask = OURO_CAP_NOWAIT };
    ouro_loop *loop;
    enum way way;

    if (ouro_open(&config, &loop) < 0)
        return WAY_UNKNOWN;
    way = way_of_read(loop, fd, BLOCK, 1);
    ouro_close(loop, OURO_FOREVER);
    return way;
}

static void watch_files(ouro_loop *loop, struct choice *choice)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        choice->cached = way_of_read(loop, fd, BLOCK, TRIES);
        choice->uncached = way_uncached(fd, choice->engine);
        close(fd);
    }
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd >= 0) {
        choice->direct = way_of_read(loop, fd, BLOCK, TRIES);
        close(fd);
    }
}

static void watch_socket(ouro_loop *loop, struct choice *choice)
{
    ouro_op op = { 0 };
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return;
    if (write(fds[1], "", 1) == 1) {
        ouro_prep_poll(&op, fds[0], 1 /* POLLIN */);
        if (ouro_do(loop, &op) > 0)
            choice->socket = op.cflags & OURO_C_POOLED ? WAY_WORKER : WAY_NATIVE;
    }
    close(fds[0]);
    close(fds[1]);
}

static void ask_choice(struct choice *choice, const char *engine)
{
    static const enum way ways[] = { [OURO_NO] = WAY_NO,
                                     [OURO_NATIVE] = WAY_NATIVE,
                                     [OURO_EMULATED] = WAY_EMULATED,
                                     [OURO_ON_WORKER] = WAY_WORKER };
    const char *environment = getenv("OURO_ENGINE");
    ouro_config config = { .size = sizeof(config), .engine = engine };
    ouro_loop *loop;

    if (environment && !*environment)
        environment = NULL; /* empty is automatic, as unset is */
    choice->source = engine ? "--engine" : environment ? "OURO_ENGINE" : "automatic";
    choice->preference = engine ? engine : environment;
    choice->error = ouro_open(&config, &loop);
    if (choice->error < 0)
        return;
    snprintf(choice->engine, sizeof(choice->engine), "%s", ouro_engine_name(loop));
    snprintf(choice->why, sizeof(choice->why), "%s", ouro_engine_why(loop));
    for (unsigned code = 0; code < OURO_CODE_COUNT; code++) {
        int r = ouro_support(loop, code, 0);
        choice->support[code] = r >= 0 ? ways[r] : WAY_UNKNOWN;
    }
    watch_files(loop, choice);
    watch_socket(loop, choice);
    choice->error = ouro_close(loop, OURO_FOREVER);
}

/* Kernels differ, not in step with their versions: an engine that cannot be opened any more with a
 * limit of nothing counts its rings. */
static int rings_are_counted(const struct facts *facts)
{
    struct rlimit none = { 0, facts->limits.memlock.rlim_max };
    int counted = -1;

    for (unsigned i = 0; i < facts->engine_count; i++) {
        const struct engine *engine = &facts->engines[i];
        if (engine->error || !(engine->caps & OURO_CAP_FIXED))
            continue;
        if (setrlimit(RLIMIT_MEMLOCK, &none) < 0)
            return -1;
        counted = ouro_probe(engine->name, NULL, 0, NULL) == -ENOMEM;
        setrlimit(RLIMIT_MEMLOCK, &facts->limits.memlock);
    }
    return counted;
}

static void ask_limits(struct facts *facts)
{
    struct limits *limits = &facts->limits;
    int64_t effective = number_in("/proc/self/status", "CapEff:", 16);

    getrlimit(RLIMIT_MEMLOCK, &limits->memlock);
    getrlimit(RLIMIT_NOFILE, &limits->nofile);
    limits->exempt = effective > 0 && effective >> CAP_IPC_LOCK_BIT & 1;
    limits->counts_rings = rings_are_counted(facts);
    limits->aio_max = number_in("/proc/sys/fs/aio-max-nr", "", 10);
    limits->aio_now = number_in("/proc/sys/fs/aio-nr", "", 10);
    limits->disabled = number_in("/proc/sys/kernel/io_uring_disabled", "", 10);
    limits->group = number_in("/proc/sys/kernel/io_uring_group", "", 10);
    limits->seccomp = number_in("/proc/self/status", "Seccomp:", 10);
    limits->filters = number_in("/proc/self/status", "Seccomp_filters:", 10);
}

/* ---- Text ---------------------------------------------------------------------------------- */

static void heading(const struct cli_settings *set, const char *text)
{
    printf(set->color ? "\n\033[1m%s\033[0m\n" : "\n%s\n", text);
}

/* Prints text from `column` on, in as many lines as it needs; the cursor is at `column` already. */
static void print_wrapped(int column, const char *text)
{
    int at = column;

    while (*text) {
        int length = (int)strcspn(text, " ");

        if (at > column && at + 1 + length > WIDTH) {
            printf("\n%*s", column, "");
            at = column;
        } else if (at > column) {
            putchar(' ');
            at++;
        }
        printf("%.*s", length, text);
        at += length;
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_item(const char *label, const char *format, ...) CLI_PRINTF(2, 3);

static void print_item(const char *label, const char *format, ...)
{
    char text[1280];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    printf("  %-*s ", LABEL, label);
    print_wrapped(LABEL + 3, text);
}

static void print_caps(const char *title, uint64_t set)
{
    char text[512];
    size_t used = (size_t)snprintf(text, sizeof(text), "%s", title);
    bool first = true;

    for (unsigned i = 0; i < CAPS && used < sizeof(text); i++) {
        if (!(set & caps[i].bit))
            continue;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", first ? "" : ", ",
                                 caps[i].words);
        first = false;
    }
    if (!first)
        print_item("", "%s", text);
}

static void print_engines(const struct cli_settings *set, const struct facts *facts)
{
    heading(set, "Engines, best first");
    for (unsigned i = 0; i < facts->engine_count; i++) {
        const struct engine *engine = &facts->engines[i];
        const char *color = engine->error ? "\033[31m" : "\033[32m";

        printf("  %-*s %s%s%s\n", LABEL, engine->name, set->color ? color : "",
               engine->error ? "refused" : "available", set->color ? "\033[0m" : "");
        if (engine->error)
            print_item("", "%s", engine->why[0] ? engine->why : strerror(-engine->error));
        print_caps("with ", engine->caps);
        print_caps("when asked for: ", engine->on_request);
    }
}

static const char *way_words(enum way way, const char *engine, char *ret, size_t size)
{
    switch (way) {
    case WAY_INLINE: return "on the spot";
    case WAY_WORKER: return "on worker threads";
    case WAY_NATIVE: snprintf(ret, size, "by %s itself", engine); return ret;
    default: return "in a way that could not be tried here";
    }
}

static void print_choice(const struct cli_settings *set, const struct choice *choice)
{
    char words[64];
    const char *how;

    heading(set, "What ouro_open would choose");
    if (choice->preference)
        print_item("asked for", "%s, by %s", choice->preference, choice->source);
    if (choice->error == -EINVAL) {
        print_item("engine", "none: %s names an engine that this build does not have",
                   choice->source);
        return;
    }
    if (choice->error < 0) {
        print_item("engine", "none: %s; see above for the reason", strerror(-choice->error));
        return;
    }
    print_item("engine", "%s", choice->engine);
    how = way_words(choice->uncached, choice->engine, words, sizeof(words));
    if (choice->cached == WAY_INLINE && choice->uncached != WAY_INLINE)
        print_item("files", "cached data on the spot, the rest %s", how);
    else
        print_item("files", "%s", how);
    print_item("direct files", "%s",
               way_words(choice->direct, choice->engine, words, sizeof(words)));
    print_item("sockets", "%s", way_words(choice->socket, choice->engine, words, sizeof(words)));
}

static void print_operations(const struct cli_settings *set, const struct choice *choice)
{
    heading(set, "How its operations are done");
    for (enum way way = WAY_NATIVE; way <= WAY_NO; way++) {
        char text[512] = "";
        size_t used = 0;

        for (unsigned code = 0; code < OURO_CODE_COUNT && used < sizeof(text); code++)
            if (choice->support[code] == way)
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used ? ", " : "",
                                         ouro_code_name(code));
        if (used)
            print_item(way_names[way], "%s", text);
    }
}

static const char *size_text(char *ret, size_t size, rlim_t limit)
{
    static const char *const units[] = { "", " KiB", " MiB", " GiB", " TiB" };
    unsigned unit = 0;

    if (limit == RLIM_INFINITY)
        return "unlimited";
    while (unit + 1 < sizeof(units) / sizeof(units[0]) && limit >= 1024 && limit % 1024 == 0) {
        limit /= 1024;
        unit++;
    }
    snprintf(ret, size, "%llu%s", (unsigned long long)limit, units[unit]);
    return ret;
}

static const char *count_text(char *ret, size_t size, rlim_t limit)
{
    if (limit == RLIM_INFINITY)
        return "unlimited";
    snprintf(ret, size, "%llu", (unsigned long long)limit);
    return ret;
}

static void print_memlock(const struct limits *limits)
{
    char soft[32], hard[32];
    const char *meaning = "registered buffers of this user count";

    if (limits->exempt)
        meaning = "this process need not keep to it (CAP_IPC_LOCK)";
    else if (limits->counts_rings > 0)
        meaning = "rings and registered buffers of this user count; larger rings shrink to fit";
    else if (limits->counts_rings == 0)
        meaning = "registered buffers of this user count, rings do not";
    print_item("locked memory", "%s (at most %s): %s",
               size_text(soft, sizeof(soft), limits->memlock.rlim_cur),
               size_text(hard, sizeof(hard), limits->memlock.rlim_max), meaning);
}

static void print_limits(const struct cli_settings *set, const struct limits *limits)
{
    char soft[32], hard[32];

    heading(set, "Limits");
    print_memlock(limits);
    print_item("open files", "%s (at most %s)",
               count_text(soft, sizeof(soft), limits->nofile.rlim_cur),
               count_text(hard, sizeof(hard), limits->nofile.rlim_max));
    if (limits->aio_max >= 0)
        print_item("kernel AIO", "%lld of fs.aio-max-nr %lld requests taken",
                   (long long)limits->aio_now, (long long)limits->aio_max);
    else
        print_item("kernel AIO", "fs.aio-max-nr is not to be seen: none, or /proc is hidden");
    switch (limits->disabled) {
    case -1: print_item("io_uring_disabled", "not there: a kernel before 6.6"); break;
    case 0: print_item("io_uring_disabled", "0: io_uring is for everybody"); break;
    case 1:
        print_item("io_uring_disabled", "1: for CAP_SYS_ADMIN and the group %lld only",
                   (long long)limits->group);
        break;
    default: print_item("io_uring_disabled", "%lld: off for all", (long long)limits->disabled);
    }
    if (limits->seccomp == 0)
        print_item("seccomp", "no filter in this process");
    else if (limits->seccomp < 0)
        print_item("seccomp", "not known: /proc/self/status does not say");
    else
        print_item("seccomp", "filtered (mode %lld, %lld filters): io_uring may be refused",
                   (long long)limits->seccomp, (long long)limits->filters);
}

static void print_text(const struct cli_settings *set, const struct facts *facts)
{
    const char *environment = getenv("OURO_ENGINE");

    printf("ouro %d.%d.%d on %s %s %s, %ld core%s\n", OURO_VERSION_MAJOR, OURO_VERSION_MINOR,
           OURO_VERSION_PATCH, facts->system.sysname, facts->system.release, facts->system.machine,
           facts->cores, facts->cores == 1 ? "" : "s");
    print_engines(set, facts);
    print_choice(set, &facts->choice);
    if (opt_verbose && facts->choice.error == 0)
        print_operations(set, &facts->choice);
    print_limits(set, &facts->limits);
    heading(set, "Environment");
    print_item("OURO_ENGINE", "%s", environment ? environment : "not set");
}

/* ---- JSON, schema 1 ------------------------------------------------------------------------ */

static void json_caps(struct json *json, const char *key, uint64_t set)
{
    json_array_compact(json, key);
    for (unsigned i = 0; i < CAPS; i++)
        if (set & caps[i].bit)
            json_string(json, NULL, caps[i].name);
    json_end(json);
}

static void json_engines(struct json *json, const struct facts *facts)
{
    json_array(json, "engines");
    for (unsigned i = 0; i < facts->engine_count; i++) {
        const struct engine *engine = &facts->engines[i];
        const char *why = engine->why[0] ? engine->why : strerror(-engine->error);

        json_object(json, NULL);
        json_string(json, "name", engine->name);
        json_bool(json, "available", engine->error == 0);
        json_int(json, "errno", -engine->error);
        json_string(json, "why", engine->error ? why : NULL);
        json_caps(json, "features", engine->caps);
        json_caps(json, "features_on_request", engine->on_request);
        json_end(json);
    }
    json_end(json);
}

static void json_choice(struct json *json, const struct choice *choice)
{
    const char *engine = choice->error ? NULL : choice->engine;

    json_object(json, "chosen");
    json_string(json, "source", choice->source);
    json_string(json, "preference", choice->preference);
    json_string(json, "engine", engine);
    json_int(json, "errno", -choice->error);
    json_string(json, "why", choice->why);
    json_object(json, "files");
    json_string(json, "engine", engine);
    json_string(json, "cached", way_names[choice->cached]);
    json_string(json, "uncached", way_names[choice->uncached]);
    json_end(json);
    json_object(json, "direct_files");
    json_string(json, "engine", engine);
    json_string(json, "how", way_names[choice->direct]);
    json_end(json);
    json_object(json, "sockets");
    json_string(json, "engine", engine);
    json_string(json, "poll", way_names[choice->socket]);
    json_string(json, "receive", way_names[choice->support[OURO_RECV]]);
    json_end(json);
    json_object(json, "operations");
    for (unsigned code = 0; code < OURO_CODE_COUNT; code++)
        json_string(json, ouro_code_name(code), way_names[choice->support[code]]);
    json_end(json);
    json_end(json);
}

/* null: unlimited, or not to be had. */
static void json_limit(struct json *json, const char *key, rlim_t limit)
{
    if (limit == RLIM_INFINITY)
        json_null(json, key);
    else
        json_uint(json, key, limit);
}

static void json_known(struct json *json, const char *key, int64_t value)
{
    if (value < 0)
        json_null(json, key);
    else
        json_int(json, key, value);
}

static void json_limits(struct json *json, const struct limits *limits)
{
    json_object(json, "limits");
    json_limit(json, "memlock_soft_bytes", limits->memlock.rlim_cur);
    json_limit(json, "memlock_hard_bytes", limits->memlock.rlim_max);
    json_bool(json, "memlock_exempt", limits->exempt);
    if (limits->counts_rings < 0)
        json_null(json, "memlock_counts_rings");
    else
        json_bool(json, "memlock_counts_rings", limits->counts_rings);
    json_limit(json, "nofile_soft", limits->nofile.rlim_cur);
    json_limit(json, "nofile_hard", limits->nofile.rlim_max);
    json_known(json, "aio_max_nr", limits->aio_max);
    json_known(json, "aio_nr", limits->aio_now);
    json_known(json, "io_uring_disabled", limits->disabled);
    json_known(json, "io_uring_group", limits->group);
    json_known(json, "seccomp_mode", limits->seccomp);
    json_known(json, "seccomp_filters", limits->filters);
    json_end(json);
}

static void print_json(const struct facts *facts)
{
    struct json json;
    char version[32];

    snprintf(version, sizeof(version), "%d.%d.%d", OURO_VERSION_MAJOR, OURO_VERSION_MINOR,
             OURO_VERSION_PATCH);
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_int(&json, "schema", 1);
    json_string(&json, "version", version);
    json_object(&json, "kernel");
    json_string(&json, "system", facts->system.sysname);
    json_string(&json, "release", facts->system.release);
    json_string(&json, "machine", facts->system.machine);
    json_end(&json);
    json_int(&json, "cpus", facts->cores);
    json_engines(&json, facts);
    json_choice(&json, &facts->choice);
    json_limits(&json, &facts->limits);
    json_object(&json, "environment");
    json_string(&json, "OURO_ENGINE", getenv("OURO_ENGINE"));
    json_end(&json);
    json_end(&json);
}

/* ---- The command --------------------------------------------------------------------------- */

static int run(const struct cli_settings *set, int argc, char **argv)
{
    static struct facts facts;
    const char *name;

    (void)argc;
    (void)argv;
    if (cli_check_engine(set) != CLI_OK)
        return CLI_USAGE;
    uname(&facts.system);
    facts.cores = sysconf(_SC_NPROCESSORS_ONLN);
    while (facts.engine_count < ENGINES_MAX && (name = ouro_engine_list(facts.engine_count)))
        ask_engine(&facts.engines[facts.engine_count++], name);
    ask_choice(&facts.choice, set->engine);
    ask_limits(&facts);
    if (set->json)
        print_json(&facts);
    else
        print_text(set, &facts);
    return set->engine && facts.choice.error ? CLI_FAILED : CLI_OK;
}

const struct cli_command cli_info = {
    .name = "info",
    .summary = "Show what this machine offers, which engine ouro takes, and why.",
    .details = "What is shown was tried, not looked up: every engine is opened, and how files\n"
               "and sockets are served is seen on operations of this command. With --engine\n"
               "the status is 1 if that engine cannot be had.\n",
    .options = options,
    .run = run,
};

/* SPDX-License-Identifier: MIT */
/* `ouro echo serve` sends back what it receives, on one loop per thread; `ouro echo load` drives
 * such a server and checks every byte that comes back. */
#include "echo.h"

#include "ouro.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 256, DEFAULT_PORT = 7777 };

static const char *opt_host, *opt_unix, *opt_contender;
static unsigned opt_port = UINT32_MAX, opt_threads, opt_connections;
static uint64_t opt_size;
static double opt_seconds, opt_interval;

static const struct cli_option options[] = {
    { .name = "host",
      .kind = CLI_TEXT,
      .into = &opt_host,
      .value = "NAME",
      .help = "listen or connect there (default 127.0.0.1)" },
    { .name = "port",
      .kind = CLI_COUNT,
      .into = &opt_port,
      .value = "N",
      .max = 65535,
      .help = "TCP port (default 7777); serve: 0 takes a free one" },
    { .name = "unix",
      .kind = CLI_TEXT,
      .into = &opt_unix,
      .value = "PATH",
      .words = "@file",
      .help = "a unix socket instead of TCP" },
    { .name = "threads",
      .kind = CLI_COUNT,
      .into = &opt_threads,
      .value = "N",
      .min = 1,
      .max = THREADS_MAX,
      .help = "serve: threads, each with a loop of its own (default 1)" },
    { .name = "connections",
      .kind = CLI_COUNT,
      .into = &opt_connections,
      .value = "N",
      .min = 1,
      .max = 1000000,
      .help = "load: connections, each with one request in flight (default 50)" },
    { .name = "size",
      .kind = CLI_SIZE,
      .into = &opt_size,
      .value = "BYTES",
      .min = 1,
      .max = 64 << 20,
      .help = "load: size of a request (default 64)" },
    { .name = "seconds",
      .kind = CLI_SECONDS,
      .into = &opt_seconds,
      .value = "S",
      .help = "load: for how long (default 5)" },
    { .name = "interval",
      .kind = CLI_SECONDS,
      .into = &opt_interval,
      .value = "S",
      .help = "load: each connection sends once in that time (default: without a pause)" },
    { .name = "contender",
      .kind = CLI_TEXT,
      .into = &opt_contender,
      .value = "NAME",
      .help = "serve: as that one of the bench, which knows --connections and --size beforehand",
      .hidden = true },
    { 0 },
};

static int find_address(struct echo_address *ret)
{
    char why[WHY_SIZE] = "";
    int r;

    if (opt_unix && (opt_host || opt_port != UINT32_MAX))
        return cli_usage_error("--unix excludes --host and --port");
    if (opt_unix)
        r = echo_address_unix(ret, opt_unix, why);
    else
        r = echo_address_tcp(ret, opt_host ? opt_host : "127.0.0.1",
                             opt_port != UINT32_MAX ? opt_port : DEFAULT_PORT, why);
    if (r == 0)
        return CLI_OK;
    cli_error("%s", why);
    return CLI_FAILED;
}

/* ---- serve ---- */

struct worker {
    struct echo_server *server;
    int listener;
    pthread_t thread;
    bool started;
    int result;
    struct service *service;
};

struct service {
    struct echo_address address;
    char text[128]; /* the address */
    unsigned count; /* of workers */
    struct worker workers[THREADS_MAX];
    const char *engine;
    _Atomic unsigned ended; /* workers that have ended: by themselves only after an error */
    uint64_t begun;
};

struct totals {
    uint64_t accepted, open, requests, bytes, failed, pauses;
};

static void add_up(const struct service *service, struct totals *ret)
{
    *ret = (struct totals){ 0 };
    for (unsigned i = 0; i < service->count; i++) {
        const struct echo_counters *c;
        uint64_t ended;

        if (!service->workers[i].server)
            continue;
        c = echo_server_counters(service->workers[i].server);
        ended = atomic_load_explicit(&c->ended, memory_order_relaxed);
        ret->accepted += atomic_load_explicit(&c->accepted, memory_order_relaxed);
        ret->open -= ended;
        ret->requests += atomic_load_explicit(&c->requests, memory_order_relaxed);
        ret->bytes += atomic_load_explicit(&c->bytes, memory_order_relaxed);
        ret->failed += atomic_load_explicit(&c->failed, memory_order_relaxed);
        ret->pauses += atomic_load_explicit(&c->pauses, memory_order_relaxed);
    }
    ret->open += ret->accepted;
}

static void *serve_thread(void *arg)
{
    struct worker *worker = arg;

    worker->result = echo_server_run(worker->server);
    atomic_fetch_add(&worker->service->ended, 1);
    return NULL;
}

/* Every thread listens by itself, and the kernel spreads the connections; unix sockets know nothing
 * of that: there all accept from one. */
static int listen_all(struct service *service)
{
    bool shared = !opt_unix && service->count > 1;

    for (unsigned i = 0; i < service->count; i++)
        service->workers[i].listener = -1;
    for (unsigned i = 0; i < service->count; i++) {
        int fd =
            opt_unix && i ? service->workers[0].listener : echo_listen(&service->address, shared);

        if (fd < 0) {
            echo_address_text(&service->address, service->text, sizeof(service->text));
            cli_error("cannot listen on %s: %s", service->text, strerror(-fd));
            return CLI_FAILED;
        }
        service->workers[i].listener = fd;
    }
    echo_address_text(&service->address, service->text, sizeof(service->text));
    return CLI_OK;
}

static int start_all(struct service *service, const char *engine)
{
    for (unsigned i = 0; i < service->count; i++) {
        struct worker *worker = &service->workers[i];
        char why[WHY_SIZE] = "";
        int r = echo_server_open(&worker->server, engine, worker->listener, why);

        if (r < 0) {
            cli_error("%s", why[0] ? why : strerror(-r));
            return CLI_FAILED;
        }
        worker->service = service;
    }
    service->engine = echo_server_engine(service->workers[0].server);
    for (unsigned i = 0; i < service->count; i++) {
        struct worker *worker = &service->workers[i];
        int r = pthread_create(&worker->thread, NULL, serve_thread, worker);

        if (r != 0) {
            cli_error("cannot start a thread: %s", strerror(r));
            return CLI_FAILED;
        }
        worker->started = true;
    }
    return CLI_OK;
}

/* Until a signal comes or a server ends by itself. Signals are let in here only, so that none is
 * missed between the look at cli_signal and the sleep. */
static void watch(const struct service *service, const sigset_t *open_mask)
{
    struct totals now, before = { 0 };
    uint64_t paused = 0;

    while (!cli_signal && !atomic_load(&service->ended)) {
        struct timespec second = { .tv_sec = 1 };
        char requests[32], bytes[32];

        ppoll(NULL, 0, &second, open_mask);
        add_up(service, &now);
        chart_number(requests, sizeof(requests), (double)(now.requests - before.requests));
        chart_number(bytes, sizeof(bytes), (double)(now.bytes - before.bytes));
        cli_progress("%llu connections, %s requests/s, %s bytes/s", (unsigned long long)now.open,
                     requests, bytes);
        if (now.pauses && !paused)
            cli_note("no descriptors left: accepting waits for some (see 'ulimit -n')");
        paused = now.pauses;
        before = now;
    }
    cli_progress_end();
}

static int stop_all(struct service *service)
{
    int status = CLI_OK;

    for (unsigned i = 0; i < service->count; i++)
        if (service->workers[i].started)
            echo_server_stop(service->workers[i].server);
    for (unsigned i = 0; i < service->count; i++) {
        struct worker *worker = &service->workers[i];

        if (!worker->started)
            continue;
        pthread_join(worker->thread, NULL);
        if (worker->result < 0) {
            cli_error("thread %u failed: %s", i, strerror(-worker->result));
            status = CLI_FAILED;
        }
    }
    return status;
}

static void release_all(struct service *service)
{
    for (unsigned i = 0; i < service->count; i++) {
        if (service->workers[i].server)
            echo_server_free(service->workers[i].server);
        if (service->workers[i].listener >= 0 && (i == 0 || !opt_unix))
            close(service->workers[i].listener);
    }
    if (opt_unix && service->workers[0].listener >= 0)
        unlink(opt_unix);
}

static void report_service(const struct service *service, bool as_json)
{
    double seconds = (double)(now_ns() - service->begun) / 1e9;
    struct totals sum;
    struct json json;

    add_up(service, &sum);
    if (!as_json) {
        printf("engine         %s, %u thread%s\n", service->engine, service->count,
               service->count > 1 ? "s" : "");
        printf("connections    %llu, of which an error ended %llu\n",
               (unsigned long long)sum.accepted, (unsigned long long)sum.failed);
        printf("requests       %llu\n", (unsigned long long)sum.requests);
        printf("bytes          %llu\n", (unsigned long long)sum.bytes);
        printf("seconds        %.1f\n", seconds);
        return;
    }
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_int(&json, "schema", 1);
    json_string(&json, "address", service->text);
    json_string(&json, "engine", service->engine);
    json_uint(&json, "threads", service->count);
    json_double(&json, "seconds", seconds);
    json_uint(&json, "connections", sum.accepted);
    json_array_compact(&json, "connections_by_thread");
    for (unsigned i = 0; i < service->count; i++)
        json_uint(&json, NULL, echo_server_counters(service->workers[i].server)->accepted);
    json_end(&json);
    json_uint(&json, "connections_failed", sum.failed);
    json_uint(&json, "accept_pauses", sum.pauses);
    json_uint(&json, "requests", sum.requests);
    json_uint(&json, "bytes", sum.bytes);
    json_end(&json);
}

/* For scripts/hold: until a signal ends the process. Of several variants the first. */
static int serve_as_contender(void)
{
    struct contender list[CONTENDERS_MAX];
    unsigned count = contender_echo_list(list, CONTENDERS_MAX);
    char why[WHY_SIZE] = "", text[128];
    struct echo_address address;
    struct echo_job job = { .connections = opt_connections, .size = opt_size, .why = why };
    int r = find_address(&address);

    if (r != CLI_OK)
        return r;
    while (count && strcmp(list[count - 1].name, opt_contender) != 0)
        count--;
    if (!count)
        return cli_usage_error("there is no contender '%s' in this build", opt_contender);
    if (!opt_connections || !opt_size)
        return cli_usage_error("--contender wants --connections and --size");
    echo_raise_nofile();
    job.engine = list[count - 1].engine;
    r = job.listener = echo_listen(&address, false);
    if (r >= 0) {
        echo_address_text(&address, text, sizeof(text));
        cli_note("listening on %s, engine %s", text, opt_contender);
        r = list[count - 1].serve(&job);
    }
    cli_error("%s: %s", opt_contender, why[0] ? why : strerror(-r));
    return CLI_FAILED;
}

static int serve(const struct cli_settings *set)
{
    static struct service service;
    sigset_t blocked, before;
    int status;

    if (opt_contender)
        return serve_as_contender();
    if (opt_connections || opt_size || opt_seconds > 0 || opt_interval > 0)
        return cli_usage_error("--connections, --size, --seconds and --interval belong to load");
    service.count = opt_threads ? opt_threads : 1;
    status = find_address(&service.address);
    if (status != CLI_OK)
        return status;
    echo_raise_nofile();
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGHUP);
    cli_catch_signals();
    pthread_sigmask(SIG_BLOCK, &blocked, &before); /* the threads keep it */
    status = listen_all(&service);
    if (status == CLI_OK)
        status = start_all(&service, set->engine);
    if (status == CLI_OK) {
        service.begun = now_ns();
        cli_note("listening on %s, engine %s", service.text, service.engine);
        watch(&service, &before);
    }
    if (stop_all(&service) != CLI_OK)
        status = CLI_FAILED;
    if (status == CLI_OK)
        report_service(&service, set->json);
    release_all(&service);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

/* ---- load ---- */

static void report_load(const struct echo_result *result, bool as_json)
{
    double seconds = (double)result->wall_ns / 1e9;
    double rate = seconds > 0 ? (double)result->requests / seconds : 0;
    struct json json;

    if (!as_json) {
        printf("connections    %u, requests of %llu bytes\n", opt_connections,
               (unsigned long long)opt_size);
        printf("requests       %llu in %.2f s\n", (unsigned long long)result->requests, seconds);
        printf("requests/s     %.0f\n", rate);
        printf("p50            %.1f us\n", (double)histogram_quantile(&result->latency, 0.5) / 1e3);
        printf("p99            %.1f us\n",
               (double)histogram_quantile(&result->latency, 0.99) / 1e3);
        printf("p99.9          %.1f us\n",
               (double)histogram_quantile(&result->latency, 0.999) / 1e3);
        if (result->late)
            printf("late           %llu\n", (unsigned long long)result->late);
        printf("errors         %llu\n", (unsigned long long)echo_result_errors(result));
        return;
    }
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_int(&json, "schema", 1);
    json_uint(&json, "connections", opt_connections);
    json_uint(&json, "size_bytes", opt_size);
    json_double(&json, "seconds", seconds);
    json_uint(&json, "requests", result->requests);
    json_double(&json, "requests_per_second", rate);
    json_uint(&json, "latency_ns_p50", histogram_quantile(&result->latency, 0.5));
    json_uint(&json, "latency_ns_p99", histogram_quantile(&result->latency, 0.99));
    json_uint(&json, "latency_ns_p999", histogram_quantile(&result->latency, 0.999));
    json_uint(&json, "late", result->late);
    json_uint(&json, "errors", echo_result_errors(result));
    json_uint(&json, "errors_wrong_data", result->wrong_data);
    json_uint(&json, "errors_broken", result->broken);
    json_uint(&json, "errors_unanswered", result->unanswered);
    json_end(&json);
}

static int load(const struct cli_settings *set)
{
    static struct echo_result result;
    struct echo_address address;
    struct echo_load *load;
    char why[WHY_SIZE] = "";
    int status, r;

    if (opt_threads || set->engine)
        return cli_usage_error("--threads and --engine belong to serve");
    opt_connections = opt_connections ? opt_connections : 50;
    opt_size = opt_size ? opt_size : 64;
    status = find_address(&address);
    if (status != CLI_OK)
        return status;
    echo_raise_nofile();
    cli_catch_signals();
    r = echo_load_open(&load, &address, opt_connections, opt_size, why);
    if (r == 0) {
        r = echo_load_run(load, (uint64_t)((opt_seconds > 0 ? opt_seconds : 5) * 1e9),
                          (uint64_t)(opt_interval * 1e9), &result);
        echo_load_close(load, false);
    }
    if (cli_signal)
        return CLI_INTERRUPTED;
    if (r < 0) {
        cli_error("%s", why[0] ? why : strerror(-r));
        return CLI_FAILED;
    }
    report_load(&result, set->json);
    if (echo_result_errors(&result) == 0)
        return CLI_OK;
    cli_error("%llu errors; the first: %s", (unsigned long long)echo_result_errors(&result),
              result.first_error);
    return CLI_FAILED;
}

static int run(const struct cli_settings *set, int argc, char **argv)
{
    (void)argc;
    if (cli_check_engine(set) != CLI_OK)
        return CLI_USAGE;
    if (strcmp(argv[0], "serve") == 0)
        return serve(set);
    if (strcmp(argv[0], "load") == 0)
        return load(set);
    return cli_usage_error("there is no '%s': choose serve or load", argv[0]);
}

const struct cli_command cli_echo = {
    .name = "echo",
    .summary = "Serve echo over sockets, or load such a server.",
    .operands = "ACTION",
    .operand_words = "serve load",
    .operands_min = 1,
    .operands_max = 1,
    .options = options,
    .run = run,
    .details = "Actions:\n"
               "  serve   send back what comes, until SIGINT or SIGTERM; then print a summary\n"
               "  load    keep one request in flight per connection, check every byte that\n"
               "          comes back, and print the rate, the latency and the errors\n",
};

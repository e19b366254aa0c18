/* SPDX-License-Identifier: MIT */
/* The load generator: plain epoll on one thread, one request in flight per connection, every byte
 * of every answer compared. It shall cost little beside the server that it drives, so nothing is
 * filled in or copied: a request is a slice of one random text, and where the slice begins depends
 * on the connection and the number of the request. */
#include "echo.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    SLICES = 1 << 16, /* places where a request may begin in the text */
    EVENTS = 512,
    SCRATCH = 256 * 1024,
    DRAIN_MS = 10 * 1000, /* answers that are due at the end */
};

struct link {
    int fd; /* -1: closed after an error */
    bool busy, wants_room;
    uint64_t number;     /* of the request */
    const char *content; /* of it */
    size_t sent, got;
    uint64_t begun;
};

struct echo_load {
    struct link *links;
    unsigned count, alive, in_flight;
    size_t size;
    int epoll;
    char *text;    /* SLICES + size random bytes */
    char *scratch; /* where answers arrive */
    bool stopping, spins;
    uint64_t interval_ns;
    struct echo_result *result;
};

uint64_t echo_result_errors(const struct echo_result *result)
{
    return result->wrong_data + result->broken + result->unanswered;
}

static const char *slice(const struct echo_load *load, unsigned index, uint64_t number)
{
    uint64_t mixed = index * 0x9e3779b97f4a7c15u + number * 0xbf58476d1ce4e5b9u;

    return load->text + ((mixed ^ mixed >> 29) * 0x94d049bb133111ebu >> 48) % SLICES;
}

static void fail(struct echo_load *load, struct link *link, uint64_t *counter, const char *what)
{
    struct echo_result *result = load->result;

    ++*counter;
    if (!result->first_error[0])
        snprintf(result->first_error, sizeof(result->first_error),
                 "connection %u, request %llu, byte %zu: %s", (unsigned)(link - load->links),
                 (unsigned long long)link->number, link->got, what);
    close(link->fd);
    link->fd = -1;
    load->alive--;
    load->in_flight -= link->busy;
    link->busy = false;
}

static void want_room(struct echo_load *load, struct link *link, bool wants)
{
    struct epoll_event event = { .events = EPOLLIN | (wants ? EPOLLOUT : 0u) };

    if (link->wants_room == wants)
        return;
    link->wants_room = wants;
    event.data.u32 = (unsigned)(link - load->links);
    epoll_ctl(load->epoll, EPOLL_CTL_MOD, link->fd, &event);
}

/* Sends what the socket takes of the request. */
static void push(struct echo_load *load, struct link *link)
{
    while (link->sent < load->size) {
        ssize_t r = send(link->fd, link->content + link->sent, load->size - link->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno != EAGAIN) {
            fail(load, link, &load->result->broken, strerror(errno));
            return;
        }
        if (r < 0)
            break;
        link->sent += (size_t)r;
    }
    want_room(load, link, link->sent < load->size);
}

static void begin(struct echo_load *load, struct link *link, uint64_t now)
{
    link->number++;
    link->content = slice(load, (unsigned)(link - load->links), link->number);
    link->sent = link->got = 0;
    link->begun = now;
    link->busy = true;
    load->in_flight++;
    push(load, link);
}

static void finish(struct echo_load *load, struct link *link)
{
    uint64_t now = now_ns();

    histogram_add(&load->result->latency, now - link->begun, 1);
    load->result->requests++;
    link->busy = false;
    load->in_flight--;
    if (!load->stopping && load->interval_ns == 0)
        begin(load, link, now);
}

/* Takes what has come: one call per event, as the rest is reported again. */
static void pull(struct echo_load *load, struct link *link)
{
    ssize_t r = recv(link->fd, load->scratch, SCRATCH, MSG_DONTWAIT);
    size_t got = (size_t)r;

    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (r <= 0) {
        fail(load, link, &load->result->broken,
             r < 0 ? strerror(errno) : "the server has ended the connection");
    } else if (!link->busy || got > link->sent - link->got) {
        fail(load, link, &load->result->wrong_data, "more came back than was sent");
    } else if (memcmp(load->scratch, link->content + link->got, got) != 0) {
        for (size_t i = 0; load->scratch[i] == link->content[link->got]; i++)
            link->got++;
        fail(load, link, &load->result->wrong_data, "not what was sent");
    } else {
        link->got += got;
        if (link->got == load->size)
            finish(load, link);
    }
}

/* With an interval the connections send one after the other, evenly spread. Returns when the next
 * one is due. */
static uint64_t begin_due(struct echo_load *load, uint64_t start, uint64_t now, uint64_t *position)
{
    for (;;) {
        uint64_t due =
            start + (uint64_t)((double)*position / load->count * (double)load->interval_ns);
        struct link *link = &load->links[*position % load->count];

        if (due > now)
            return due;
        if (link->fd >= 0 && !link->busy)
            begin(load, link, now);
        else if (link->fd >= 0)
            load->result->late++;
        ++*position;
    }
}

static int turn(struct echo_load *load, uint64_t now, uint64_t until)
{
    struct epoll_event events[EVENTS];
    /* Rounded up: epoll would spin through the last millisecond. */
    int ms = until > now && !load->spins ? (int)((until - now + 999999) / 1000000) : 0;
    int count = epoll_wait(load->epoll, events, EVENTS, ms);

    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        struct link *link = &load->links[events[i].data.u32];

        if (link->fd >= 0 && events[i].events & EPOLLOUT)
            push(load, link);
        if (link->fd >= 0 && events[i].events & ~(unsigned)EPOLLOUT)
            pull(load, link);
    }
    return 0;
}

static int drain(struct echo_load *load)
{
    uint64_t now = now_ns(), until = now + (uint64_t)DRAIN_MS * 1000000;
    int r = 0;

    load->stopping = true;
    while (r == 0 && load->in_flight && now < until && !cli_signal) {
        r = turn(load, now, until);
        now = now_ns();
    }
    for (unsigned i = 0; i < load->count && load->in_flight && !cli_signal; i++)
        if (load->links[i].busy)
            fail(load, &load->links[i], &load->result->unanswered, "no answer in 10 seconds");
    return r;
}

int echo_load_run(struct echo_load *load, uint64_t limit_ns, uint64_t interval_ns,
                  struct echo_result *ret)
{
    uint64_t start = now_ns(), now = start, until = start + limit_ns, position = 0;
    int r = 0;

    load->result = ret;
    load->stopping = false;
    load->interval_ns = interval_ns;
    for (unsigned i = 0; i < load->count && interval_ns == 0; i++)
        if (load->links[i].fd >= 0)
            begin(load, &load->links[i], now_ns());
    while (r == 0 && now < until && load->count && load->alive && !cli_signal) {
        uint64_t due = interval_ns ? begin_due(load, start, now, &position) : until;

        r = turn(load, now, due < until ? due : until);
        now = now_ns();
    }
    if (r == 0)
        r = drain(load);
    ret->wall_ns += now_ns() - start;
    return r;
}

static int connect_all(struct echo_load *load, const struct echo_address *address, char *why)
{
    for (; load->alive < load->count; load->alive++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = load->alive };
        int fd = echo_connect(address);

        if (fd < 0) {
            snprintf(why, WHY_SIZE, "connection %u of %u: %s", load->alive + 1, load->count,
                     strerror(-fd));
            return fd;
        }
        load->links[load->alive].fd = fd;
        if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            return -errno;
        if (cli_signal)
            return -EINTR;
    }
    return 0;
}

int echo_load_open(struct echo_load **ret, const struct echo_address *address, unsigned connections,
                   size_t size, char *why)
{
    struct echo_load *load = calloc(1, sizeof(*load));
    uint64_t seed = 1;
    int r = -ENOMEM;

    if (!load)
        return -ENOMEM;
    load->epoll = -1;
    load->size = size;
    load->links = calloc(connections, sizeof(*load->links));
    load->text = malloc(SLICES + size + sizeof(seed));
    load->scratch = malloc(SCRATCH);
    if (load->links && load->text && load->scratch) {
        load->count = connections;
        for (unsigned i = 0; i < connections; i++)
            load->links[i].fd = -1;
        for (size_t i = 0; i < SLICES + size; i += sizeof(seed)) {
            uint64_t word = next_random(&seed);
            memcpy(load->text + i, &word, sizeof(word));
        }
        load->epoll = epoll_create1(EPOLL_CLOEXEC);
        r = load->epoll < 0 ? -errno : connect_all(load, address, why);
    }
    if (r < 0)
        echo_load_close(load, false);
    else
        *ret = load;
    return r;
}

void echo_load_spin(struct echo_load *load)
{
    load->spins = true;
}

void echo_load_close(struct echo_load *load, bool reset)
{
    struct linger linger = { .l_onoff = 1 };

    for (unsigned i = 0; i < load->count; i++) {
        if (load->links[i].fd < 0)
            continue;
        if (reset)
            setsockopt(load->links[i].fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(load->links[i].fd);
    }
    if (load->epoll >= 0)
        close(load->epoll);
    free(load->links);
    free(load->text);
    free(load->scratch);
    free(load);
}

/* SPDX-License-Identifier: MIT */
/* poll_set.c: descriptors watched by poll(2), which works everywhere.
 *
 * One entry of the set stands for all operations on a descriptor, so that there are never more
 * entries than descriptors: poll(2) refuses more than RLIMIT_NOFILE. watch->at says where it is; 0:
 * there is none, because entry 0 is the doorbell.
 *
 * While the driver of a SHARED loop sleeps, without the lock, others may arm and disarm: it
 * sleeps on a copy, an arming wakes it, and a changed set is looked at once more.
 *
 * A hosted loop (ouro_pollfd) has one descriptor to show: an epoll descriptor that is kept in
 * step with the set, and only says whether poll(2) would find something. It cannot be the set
 * itself, because it refuses files that are always ready, and forgets descriptors that are
 * closed under it. */
#include "poll_set.h"

#include <poll.h>
#include <sys/epoll.h>

#define ROOM_FIRST 16u

static struct poll_set *set_of(struct ready *ready)
{
    return (struct poll_set *)ready;
}

/* ---- Room ----------------------------------------------------------------------------------- */

/* The larger copy takes the place of the one that nobody sleeps on any more. */
static void change_copy(struct poll_set *set)
{
    if (!set->next_copy)
        return;
    ouro__alloc(set->ready.loop, set->copy, set->copy_room * sizeof(*set->copy), 0);
    set->copy = set->next_copy;
    set->copy_room = set->next_room;
    set->next_copy = NULL;
}

/* Now, so that a sleep never needs memory. */
static int grow_copy(struct poll_set *set, uint32_t room)
{
    ouro_loop *loop = set->ready.loop;
    struct pollfd *fds;

    if (!loop->locked_mode || room <= (set->next_copy ? set->next_room : set->copy_room))
        return 0;
    fds = ouro__alloc(loop, set->next_copy, set->next_copy ? set->next_room * sizeof(*fds) : 0,
                      room * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    set->next_copy = fds;
    set->next_room = room;
    if (!loop->sleeping)
        change_copy(set);
    return 0;
}

static int grow_set(struct poll_set *set)
{
    uint32_t room = set->room ? set->room * 2 : ROOM_FIRST;
    struct pollfd *fds;

    if (set->count < set->room)
        return 0;
    if (grow_copy(set, room) < 0)
        return -ENOMEM;
    fds = ouro__alloc(set->ready.loop, set->fds, set->room * sizeof(*fds), room * sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    set->fds = fds;
    set->room = room;
    return 0;
}

/* ---- Entries -------------------------------------------------------------------------------- */

/* Tells a hosted loop's epoll descriptor what is waited for on fd; 0: nothing any more. Files
 * that it does not take (EPERM) never change their answer. */
static void mirror(struct poll_set *set, int fd, short events)
{
    unsigned bits = (uint16_t)events;
    long r;

    if (set->host < 0)
        return;
    r = sys_epoll_ctl(set->host, bits ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, bits, 0);
    if (r == -ENOENT && bits)
        r = sys_epoll_ctl(set->host, EPOLL_CTL_ADD, fd, bits, 0);
    if (r < 0 && r != -EPERM && bits)
        set->blind = true;
}

static int64_t poll_set_watch(struct ready *ready, uint32_t fd, struct watch *watch,
                              const ouro_op *op)
{
    struct poll_set *set = set_of(ready);

    (void)op;
    if (grow_set(set) < 0)
        return -ENOMEM;
    if (!watch->at) {
        watch->at = set->count++;
        set->fds[watch->at] = (struct pollfd){ .fd = (int)fd };
    }
    set->fds[watch->at].events = (short)watch->wants;
    mirror(set, (int)fd, set->fds[watch->at].events);
    set->version++;
    if (ready->loop->sleeping || set->blind)
        ouro__doorbell_ring(&ready->bell);
    return 0;
}

static void poll_set_unwatch(struct ready *ready, uint32_t fd, struct watch *watch)
{
    struct poll_set *set = set_of(ready);
    struct pollfd *last = &set->fds[--set->count];

    mirror(set, (int)fd, 0);
    ready->watches[last->fd].at = watch->at;
    set->fds[watch->at] = *last;
    watch->at = 0;
    set->version++;
}

/* ---- Looking -------------------------------------------------------------------------------- */

/* False: the program has closed the doorbell, and there is no descriptor for a new one. */
static bool bell_holds(struct poll_set *set)
{
    struct ready *ready = &set->ready;
    enum doorbell_is is = ouro__doorbell_check(ready->loop, &ready->bell);
    int fd = ouro__doorbell_fd(&ready->bell);

    if (is == DOORBELL_HOLDS)
        return true;
    set->fds[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
    if (is == DOORBELL_GONE)
        return false;
    set->version++;
    if (!ouro__owns(ready->loop, set->host))
        set->host = -1;
    else
        (void)sys_epoll_ctl(set->host, EPOLL_CTL_ADD, fd, POLLIN, 0);
    ready->hosted = set->host >= 0;
    return true;
}

/* An entry that poll(2) has marked. */
static void collect_entry(struct poll_set *set, struct pollfd *entry)
{
    struct watch *watch = &set->ready.watches[entry->fd]; /* whose entry this is */
    bool left = ouro__ready_got(&set->ready, watch, (uint16_t)entry->revents);

    entry->revents = 0;
    set->version++;
    if (!left) {
        poll_set_unwatch(&set->ready, (uint32_t)entry->fd, watch);
        return;
    }
    entry->events = (short)watch->wants;
    mirror(set, entry->fd, entry->events);
}

static void collect(struct poll_set *set)
{
    uint32_t i = 1;

    if (set->fds[0].revents && !ouro__doorbell_hear(&set->ready.bell))
        (void)bell_holds(set);
    set->fds[0].revents = 0;
    while (i < set->count) {
        struct pollfd *entry = &set->fds[i];
        int fd = entry->fd;

        if (entry->revents)
            collect_entry(set, entry);
        i += i < set->count && set->fds[i].fd == fd; /* else another one stands here now */
    }
}

/* In SHARED and SERVICE loops others change the set meanwhile: a copy is polled. */
static long sleep_on_copy(struct poll_set *set, ouro_time until)
{
    ouro_loop *loop = set->ready.loop;
    uint64_t version = set->version;
    uint32_t count = set->count;
    long r;

    memcpy(set->copy, set->fds, count * sizeof(*set->fds));
    ouro__sleep(loop, until);
    r = sys_ppoll(set->copy, count, until);
    ouro__awake(loop);
    if (r > 0 && set->version == version)
        memcpy(set->fds, set->copy, count * sizeof(*set->fds));
    else if (r > 0 || set->version != version)
        r = sys_poll(set->fds, set->count, 0);
    change_copy(set);
    return r;
}

/* Nobody could wake a sleeper whose doorbell is gone. */
static void poll_set_look(struct ready *ready, ouro_time until)
{
    struct poll_set *set = set_of(ready);
    ouro_loop *loop = ready->loop;
    long r;

    if (until != OURO_NOWAIT && !bell_holds(set))
        until = ouro__sooner(until, sys_now() + OURO__DEAF_NS);
    if (until == OURO_NOWAIT) {
        r = sys_poll(set->fds, set->count, 0);
    } else if (loop->locked_mode) {
        r = sleep_on_copy(set, until);
    } else {
        ouro__sleep(loop, until);
        r = sys_ppoll(set->fds, set->count, until);
        ouro__awake(loop);
    }
    if (r > 0)
        collect(set);
    set->blind = set->blind && set->count > 1;
    if (set->blind)
        ouro__doorbell_ring(&ready->bell);
}

/* ---- Hosting -------------------------------------------------------------------------------- */

int ouro__poll_set_pollfd(ouro_loop *loop)
{
    struct poll_set *set = loop->engine_state;
    long r;

    (void)bell_holds(set);
    if (ouro__owns(loop, set->host))
        return set->host;
    r = sys_epoll_create(EPOLL_CLOEXEC);
    if (r < 0)
        return (int)r;
    set->host = (int)r;
    ouro__own(loop, set->host);
    r = sys_epoll_ctl(set->host, EPOLL_CTL_ADD, ouro__doorbell_fd(&set->ready.bell), POLLIN, 0);
    if (r < 0) {
        sys_close(set->host);
        set->host = -1;
        set->ready.hosted = false;
        return (int)r;
    }
    set->ready.hosted = true;
    for (uint32_t i = 1; i < set->count; i++)
        mirror(set, set->fds[i].fd, set->fds[i].events);
    return set->host;
}

/* ---- Open and close ------------------------------------------------------------------------- */

static const struct ready_way by_poll = {
    .watch = poll_set_watch,
    .unwatch = poll_set_unwatch,
    .look = poll_set_look,
};

int ouro__poll_set_open(ouro_loop *loop, size_t size, struct ouro__why *why)
{
    int r = ouro__ready_open(loop, size, &by_poll, why);
    struct poll_set *set = loop->engine_state;

    if (r < 0)
        return r;
    set->host = -1;
    if (grow_set(set) < 0) {
        ouro__poll_set_close(loop);
        snprintf(why->text, sizeof(why->text), "%s: no memory for its state", loop->engine->name);
        return -ENOMEM;
    }
    set->fds[0] = (struct pollfd){ .fd = ouro__doorbell_fd(&set->ready.bell), .events = POLLIN };
    set->count = 1;
    return 0;
}

void ouro__poll_set_close(ouro_loop *loop)
{
    struct poll_set *set = loop->engine_state;

    ouro__drop(loop, set->host);
    ouro__alloc(loop, set->fds, set->room * sizeof(*set->fds), 0);
    change_copy(set);
    ouro__alloc(loop, set->copy, set->copy_room * sizeof(*set->copy), 0);
    ouro__ready_close(loop);
}

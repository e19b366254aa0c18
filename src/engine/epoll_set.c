/* SPDX-License-Identifier: MIT */
/* epoll_set.c: descriptors watched by epoll(7), whose cost does not grow with their number.
 *
 * The kernel's set knows files, not numbers: a registration lives as long as the file is open
 * anywhere, also when the program has closed this number and opened another file under it. So:
 *
 * - Each word that travels with events is number and generation, and every call of epoll_ctl
 *   begins a new generation: what the kernel says of an older one is dropped.
 * - A descriptor that somebody else opened is registered anew for each wait, and for one event
 *   (EPOLLONESHOT). MOD tells (ENOENT) when the number stands for another file by now; who still
 *   waits for the former one ends with -EBADF.
 * - A descriptor that the loop opened keeps its registration until the loop closes it
 *   (ouro__file.watched): edge-triggered, for all that was ever waited for there (`mask`), and a
 *   wait costs no call. Edges are remembered (`seen`) until an attempt would block behind them, or
 *   a stream over TCP has received less than it could, so that none is lost between an attempt and
 *   its waiting.
 *
 * A program may close a number that the loop has opened, too, without telling the loop. Then the
 * kept registration is gone, or is another file's, and a wait could last for ever. So what has
 * waited for a second on trust is registered anew (`trust`, a timerfd for all together); what is
 * busy never waits so long.
 *
 * Where the kernel takes no registration (ENOSPC: fs.epoll.max_user_watches; ENOMEM; EPERM: a file
 * without readiness) a worker waits.
 *
 * The kernel lets others change the set while the driver of a SHARED loop sleeps in it. */
#include "epoll_set.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

/* Words of our own; descriptors are below. */
#define WORD_BELL ((uint64_t)UINT32_MAX)
#define WORD_TIMER ((uint64_t)UINT32_MAX - 1)
#define WORD_ENGINE ((uint64_t)UINT32_MAX - 2)

#define DOUBT_NS (1 * OURO_S)
#define TOGETHER 8u /* events whose operations are loaded at once */
#define ANYTHING ((uint32_t)UINT16_MAX & ~(uint32_t)POLLNVAL)

/* What ends or interrupts a stream of bytes: a short receive may have stopped there. */
#define MARKS ((uint16_t)(EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))

/* watch->transport: is a short receive the end of what is there? */
enum { TRANSPORT_UNKNOWN = 0, TRANSPORT_TCP, TRANSPORT_OTHER };

/* watch->trust: since when somebody waits without having asked the kernel */
enum { TRUST_NONE = 0, TRUST_NEW, TRUST_OLD };

static struct epoll_set *set_of(struct ready *ready)
{
    return (struct epoll_set *)ready;
}

static long control(struct epoll_set *set, int code, int fd, unsigned events, uint64_t word)
{
    return sys_epoll_ctl(set->fd, code, fd, events, word);
}

/* ---- Our own descriptors -------------------------------------------------------------------- */

static void forget_all(struct epoll_set *set)
{
    struct ready *ready = &set->ready;

    for (uint32_t fd = 0; fd < ready->room; fd++) {
        struct watch *watch = &ready->watches[fd];

        watch->mask = watch->seen = 0;
        watch->trust = TRUST_NONE;
        if (watch->ops.head)
            (void)ouro__ready_got(ready, watch, ANYTHING); /* tried again, they come back */
    }
}

static long make_set(struct epoll_set *set)
{
    struct ready *ready = &set->ready;
    long r = sys_epoll_create(EPOLL_CLOEXEC);

    if (r < 0)
        return r;
    set->fd = (int)r;
    set->made++;
    ouro__own(ready->loop, set->fd);
    r = control(set, EPOLL_CTL_ADD, ouro__doorbell_fd(&ready->bell), EPOLLIN, WORD_BELL);
    if (r < 0) {
        sys_close(set->fd);
        set->fd = -1;
    }
    return r;
}

/* The program has closed what is ours: all begins anew. */
static bool make_anew(struct epoll_set *set)
{
    struct ready *ready = &set->ready;

    ouro__drop(ready->loop, set->fd);
    ouro__drop(ready->loop, set->timer);
    set->fd = set->timer = -1;
    set->doubts = false;
    set->event_at = set->event_count = 0; /* all are told to try again */
    ready->left = false;
    if (!ouro__doorbell_renew(ready->loop, &ready->bell) || make_set(set) < 0)
        return false;
    forget_all(set);
    if (ready->hosted)
        ouro__host_change(ready->loop);
    return true;
}

/* Are set and doorbell ours still? Asked once in a turn, and of the set alone: it was opened behind
 * the doorbell and has the higher number, so that who closes all from some number on closes it,
 * too. False: there are no descriptors for new ones. */
static bool sure(struct epoll_set *set)
{
    struct ready *ready = &set->ready;

    if (!ready->sure)
        ready->sure = ouro__owns(ready->loop, set->fd) || make_anew(set);
    return ready->sure;
}

bool ouro__epoll_set_sure(struct epoll_set *set)
{
    return sure(set);
}

long ouro__epoll_set_hear(struct epoll_set *set, int fd)
{
    return control(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, WORD_ENGINE);
}

/* ---- Trust ---------------------------------------------------------------------------------- */

static bool start_timer(struct epoll_set *set)
{
    ouro_loop *loop = set->ready.loop;
    long r;

    if (!ouro__owns(loop, set->timer)) {
        r = sys_timerfd_create(TFD_CLOEXEC | TFD_NONBLOCK);
        if (r < 0)
            return false;
        set->timer = (int)r;
        ouro__own(loop, set->timer);
        r = control(set, EPOLL_CTL_ADD, set->timer, EPOLLIN | EPOLLET, WORD_TIMER);
        if (r < 0) {
            sys_close(set->timer);
            set->timer = -1;
            return false;
        }
    }
    set->doubts = sys_timerfd_set(set->timer, DOUBT_NS) == 0;
    return set->doubts;
}

/* Somebody waits on a kept registration. False: nothing would ever doubt it. */
static bool trust(struct epoll_set *set, struct watch *watch)
{
    if (!set->doubts && !start_timer(set))
        return false;
    if (!watch->trust)
        watch->trust = TRUST_NEW;
    return true;
}

/* ---- Registering ---------------------------------------------------------------------------- */

/* What the kernel says from now on of the events that are registered next. */
static uint64_t next_word(uint32_t fd, struct watch *watch)
{
    watch->trust = TRUST_NONE;
    watch->at += watch->at == UINT32_MAX ? 2 : 1; /* the generation; 0: was never registered */
    return (uint64_t)watch->at << 32 | fd;
}

/* Registers fd for these events, whatever was before, in a set that is ours for sure. *ret_moved:
 * the number stands for another file than it did the last time. */
static long enrol(struct epoll_set *set, uint32_t fd, struct watch *watch, uint32_t events,
                  bool *ret_moved)
{
    bool known = watch->at;
    uint64_t word = next_word(fd, watch);
    long r = -ENOENT;

    if (known)
        r = control(set, EPOLL_CTL_MOD, (int)fd, events, word);
    *ret_moved = known && r == -ENOENT;
    if (r == -ENOENT)
        r = control(set, EPOLL_CTL_ADD, (int)fd, events, word);
    return r;
}

/* What an answer of epoll_ctl means for who wants to wait. */
static int64_t judge(long r)
{
    return r == 0 || r == -EBADF ? r : -EOPNOTSUPP;
}

/* For one event. Those who wait for a file that has this number no more end. */
static int64_t watch_once(struct epoll_set *set, uint32_t fd, struct watch *watch,
                          const ouro_op *op)
{
    bool moved;
    long r;

    watch->mask = 0;
    r = enrol(set, fd, watch, watch->wants | (uint32_t)EPOLLONESHOT, &moved);
    if (moved || r == -EBADF) {
        (void)ouro__ready_got(&set->ready, watch, POLLNVAL);
        watch->wants = op->ready_;
    }
    return judge(r);
}

/* What op waits for, and what else a registration that is kept asks for: so a mask is never 0. */
static uint16_t asked_by(const ouro_op *op)
{
    return op->ready_ | (uint16_t)(EPOLLERR | EPOLLHUP);
}
static bool asked_for(const struct watch *watch, const ouro_op *op)
{
    uint16_t wants = asked_by(op) | MARKS;

    return (watch->mask & wants) == wants;
}

/* Of a file that the loop has opened. */
static int64_t watch_kept(struct epoll_set *set, uint32_t fd, struct watch *watch,
                          struct ouro__file *file, const ouro_op *op)
{
    uint16_t asks = asked_by(op);
    bool moved;
    long r;

    if (!file->watched) {
        watch->mask = watch->seen = 0;
        watch->transport = TRANSPORT_UNKNOWN;
    }
    if (asked_for(watch, op) && (watch->seen & asks || trust(set, watch)))
        return watch->seen & asks;
    watch->mask |= asks | MARKS | watch->wants;
    r = enrol(set, fd, watch, watch->mask | (uint32_t)EPOLLET, &moved);
    file->watched = r == 0;
    if (r < 0) {
        watch->mask = 0;
        (void)ouro__ready_got(&set->ready, watch, ANYTHING); /* an attempt tells more */
        watch->wants = op->ready_;
    }
    return judge(r);
}

/* The record of the file that op waits for, if the loop has opened it. */
static struct ouro__file *own_file(ouro_loop *loop, const ouro_op *op)
{
    struct ouro__file *file;

    if (op->notes_ & NOTE_AUX_OURS)
        return NULL;
    file = op->notes_ & NOTE_AUX ? ouro__file_at(loop, op->aux_fd_) : ouro__file_of(loop, op);
    return file && file->ours ? file : NULL;
}

static int64_t epoll_set_watch(struct ready *ready, uint32_t fd, struct watch *watch,
                               const ouro_op *op)
{
    struct epoll_set *set = set_of(ready);
    struct ouro__file *file = own_file(ready->loop, op);

    /* What waits on trust asks nothing of the set before the next look. */
    if (file && file->watched && set->doubts && asked_for(watch, op) && trust(set, watch))
        return watch->seen & asked_by(op);
    if (!sure(set))
        return -EOPNOTSUPP;
    watch->wants |= op->ready_; /* a set that was made just now knows of nobody */
    return file ? watch_kept(set, fd, watch, file, op) : watch_once(set, fd, watch, op);
}

static void epoll_set_unwatch(struct ready *ready, uint32_t fd, struct watch *watch)
{
    (void)ready, (void)fd;
    watch->trust = TRUST_NONE;
}

/* What was seen before has not helped. */
static void epoll_set_tried(struct ready *ready, struct watch *watch, const ouro_op *op)
{
    (void)ready;
    watch->seen &= (uint16_t)~op->ready_;
}

/* What comes behind a short receive makes another edge, but on sockets that keep packets, or other
 * things in between, there may be more already. */
static bool epoll_set_drained(struct ready *ready, uint32_t fd, struct watch *watch)
{
    int protocol;
    unsigned size = sizeof(protocol);

    (void)ready;
    if (!(watch->mask & EPOLLIN) || watch->seen & MARKS)
        return false;
    if (watch->transport == TRANSPORT_UNKNOWN)
        watch->transport =
            sys_getsockopt((int)fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) >= 0 &&
                    protocol == IPPROTO_TCP
                ? TRANSPORT_TCP
                : TRANSPORT_OTHER;
    if (watch->transport != TRANSPORT_TCP)
        return false;
    watch->seen &= (uint16_t)~EPOLLIN;
    return true;
}

void ouro__epoll_set_forget(ouro_loop *loop, int fd)
{
    struct epoll_set *set = loop->engine_state;
    struct watch *watch = ouro__ready_watch(&set->ready, (uint32_t)fd);

    if (!watch || !watch->mask || !sure(set))
        return;
    (void)control(set, EPOLL_CTL_DEL, fd, 0, 0);
    watch->mask = watch->seen = 0;
    watch->at++;
}

/* ---- Looking -------------------------------------------------------------------------------- */

/* Some of those who wait there are told: the others need another event, which comes with the next
 * look if something is left then. If the number has changed hands meanwhile, what they wait for is
 * gone. */
static void watch_rest(struct epoll_set *set, uint32_t fd, struct watch *watch)
{
    uint32_t events =
        watch->mask ? watch->mask | (uint32_t)EPOLLET : watch->wants | (uint32_t)EPOLLONESHOT;
    uint64_t word = next_word(fd, watch);
    uint32_t bits = ANYTHING; /* an attempt tells more */
    long r = -EMFILE;

    if (sure(set))
        r = control(set, EPOLL_CTL_MOD, (int)fd, events, word);
    if (r < 0)
        watch->mask = 0;
    if (r == -EBADF || r == -ENOENT || r == -EPERM)
        bits = POLLNVAL;
    if (r < 0)
        (void)ouro__ready_got(&set->ready, watch, bits);
}

static void got(struct epoll_set *set, const struct epoll_event *event)
{
    struct ready *ready = &set->ready;
    uint32_t fd = (uint32_t)event->data.u64;
    struct watch *watch = ouro__ready_watch(ready, fd);
    bool left;

    if (!watch || watch->at != event->data.u64 >> 32) {
        ready->loop->stats.stale++;
        return;
    }
    if (watch->mask) /* also for who was tried before, and is about to wait */
        watch->seen |= (uint16_t)event->events;
    if (event->events == EPOLLIN && watch->mask && watch->transport == TRANSPORT_TCP &&
        set->doubts && ouro__ready_serve(ready, fd, watch)) {
        watch->trust = watch->ops.head ? TRUST_NEW : TRUST_NONE;
        return;
    }
    left = ouro__ready_got(ready, watch, event->events);
    if (!left)
        watch->trust = TRUST_NONE;
    else if (!watch->mask || watch->wants & event->events)
        watch_rest(set, fd, watch);
}

static bool trusted(const struct ready *ready, uint8_t since)
{
    for (uint32_t fd = 0; fd < ready->room; fd++)
        if (ready->watches[fd].trust == since)
            return true;
    return false;
}

/* A second has passed: who has waited since before it on trust waits for certain from now on. */
static void doubt(struct epoll_set *set)
{
    struct ready *ready = &set->ready;
    bool later = trusted(ready, TRUST_NEW) && start_timer(set);

    set->doubts = later;
    for (uint32_t fd = 0; fd < ready->room; fd++) {
        struct watch *watch = &ready->watches[fd];
        bool moved;

        if (watch->trust == TRUST_NEW && later) {
            watch->trust = TRUST_OLD;
        } else if (watch->trust &&
                   enrol(set, fd, watch, watch->mask | (uint32_t)EPOLLET, &moved) < 0) {
            watch->mask = 0;
            (void)ouro__ready_got(ready, watch, ANYTHING); /* an attempt tells why */
        }
    }
}

static void collect(struct epoll_set *set, const struct epoll_event *event)
{
    switch (event->data.u64) {
    case WORD_BELL:
        if (!ouro__doorbell_hear(&set->ready.bell))
            set->ready.sure = make_anew(set);
        break;
    case WORD_TIMER:
        if (sure(set))
            doubt(set);
        break;
    case WORD_ENGINE: break; /* it looks anyway */
    default: got(set, event); break;
    }
}

/* Nobody could wake a sleeper without a set. */
static void nap(ouro_loop *loop, ouro_time until)
{
    if (until == OURO_NOWAIT)
        return;
    ouro__sleep(loop, until);
    (void)sys_ppoll(NULL, 0, ouro__sooner(until, sys_now() + OURO__DEAF_NS));
    ouro__awake(loop);
}

static void fetch(struct epoll_set *set, ouro_time until)
{
    ouro_loop *loop = set->ready.loop;
    long r;

    if (until != OURO_NOWAIT)
        ouro__sleep(loop, until);
    r = sys_epoll_wait(set->fd, set->events, EPOLL_SET_EVENTS, until);
    if (until != OURO_NOWAIT)
        ouro__awake(loop);
    set->event_at = 0;
    set->event_count = r > 0 ? (uint32_t)r : 0;
}

/* Not only asked for: of prefetches that a system call follows nothing was left. */
static void load(const void *at)
{
    (void)*(const volatile char *)at;
}

/* With many connections all that an event leads to has left the caches. Reads that nobody waits for
 * go side by side: first the records of some events, then the operations that wait there. */
static void load_together(struct epoll_set *set, uint32_t from, uint32_t to)
{
    struct ready *ready = &set->ready;
    const ouro_op *waiting[TOGETHER];
    uint32_t count = 0;

    for (uint32_t at = from; at < to; at++) {
        uint32_t fd = (uint32_t)set->events[at].data.u64;
        const struct ouro__file *file = ouro__file_at(ready->loop, (ouro_fd)fd);

        if (fd < ready->room)
            waiting[count++] = ready->watches[fd].ops.head;
        if (file)
            load(file);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!waiting[i])
            continue;
        for (size_t byte = 0; byte < sizeof(ouro_op); byte += 64)
            load((const char *)waiting[i] + byte);
        __builtin_prefetch(waiting[i] + 1, 1); /* what the program keeps behind it */
    }
}

static void see_to_events(struct epoll_set *set)
{
    uint32_t loaded = set->event_at;

    while (set->event_at < set->event_count && !ouro__ready_full(&set->ready)) {
        if (set->event_at == loaded) {
            loaded = set->event_count - loaded < TOGETHER ? set->event_count : loaded + TOGETHER;
            load_together(set, set->event_at, loaded);
        }
        collect(set, &set->events[set->event_at++]);
    }
}

static void epoll_set_look(struct ready *ready, ouro_time until)
{
    struct epoll_set *set = set_of(ready);

    if (!ready->left) {
        if (!sure(set)) {
            nap(ready->loop, until);
            return;
        }
        if (ready->ended.head) /* the set was made anew */
            until = OURO_NOWAIT;
        fetch(set, until);
    }
    see_to_events(set);
    ready->left = set->event_at < set->event_count;
}

/* ---- Hosting, open, close ------------------------------------------------------------------- */

/* The set itself: it holds nothing that is always ready. */
int ouro__epoll_set_pollfd(ouro_loop *loop)
{
    struct epoll_set *set = loop->engine_state;

    set->ready.sure = set->ready.hosted = false; /* who asks learns of a new one by himself */
    if (!sure(set))
        return -EMFILE;
    set->ready.hosted = set->ready.strays = true;
    return set->fd;
}

static const struct ready_way by_epoll = {
    .watch = epoll_set_watch,
    .unwatch = epoll_set_unwatch,
    .tried = epoll_set_tried,
    .drained = epoll_set_drained,
    .look = epoll_set_look,
};

int ouro__epoll_set_open(ouro_loop *loop, size_t size, struct ouro__why *why)
{
    int r = ouro__ready_open(loop, size, &by_epoll, why);
    struct epoll_set *set = loop->engine_state;

    if (r < 0)
        return r;
    set->timer = -1;
    r = (int)make_set(set);
    if (r == 0)
        return 0;
    snprintf(why->text, sizeof(why->text),
             "%s: the system gives no epoll descriptor (error %d): %s", loop->engine->name, -r,
             r == -EMFILE || r == -ENFILE ? "raise the limit of open files"
                                          : "a seccomp filter may forbid it, or memory is short");
    set->fd = -1;
    ouro__epoll_set_close(loop);
    return r;
}

void ouro__epoll_set_close(ouro_loop *loop)
{
    struct epoll_set *set = loop->engine_state;

    ouro__drop(loop, set->timer);
    ouro__drop(loop, set->fd);
    ouro__ready_close(loop);
}

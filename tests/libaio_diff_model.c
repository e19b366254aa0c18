/* SPDX-License-Identifier: MIT */
/* libaio_diff_model.c: what is in flight of a random program. Nothing is asked for that time
 * decides: requests in flight of which one would see another's effect are waited for first. Which
 * of several events comes first is nobody's promise, so they are told of when all are there. */
#include "libaio_diff_model.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FILE_SALT = 2, VECTORS = 3, STREAM_ROOM = 8000, FLAG_IOPRIO = 2 };

struct iocb blocks[BLOCKS];
struct flight flights[FLIGHTS];
unsigned flight_count;
io_context_t contexts[CONTEXTS];
int counters[CONTEXTS];
unsigned told[CONTEXTS];
bool careless;

static unsigned serials;
static struct iovec vectors[FLIGHTS][VECTORS], many_vectors[1025];

struct ring *ring_of(unsigned context)
{
    return (struct ring *)(void *)contexts[context];
}

/* ---- What may be asked for ------------------------------------------------------------------ */

static bool reads(const struct ask *ask)
{
    return ask->what == READ || ask->what == READV;
}

static bool writes(const struct ask *ask)
{
    return ask->what == WRITE || ask->what == WRITEV;
}

static enum kind kind_of(const struct ask *ask)
{
    return targets[ask->target].kind;
}

static void tame_stream(struct ask *ask)
{
    enum kind kind = kind_of(ask);

    ask->size = kind == TERMINAL ? 1 + ask->size % 64 : ask->size % 2049;
    if (ask->where == EDGE || kind == TERMINAL ||
        (reads(ask) && kind != PIPE_READ && kind != PIPE_NONBLOCK))
        ask->where = GOOD;
    if (kind == TERMINAL || ask->variant % 2)
        ask->offset = 0; /* a socket has none */
}

void tame(struct ask *ask)
{
    enum kind kind = kind_of(ask);

    if (is_stream(kind))
        tame_stream(ask);
    if (kind == EVENT_FD)
        ask->size %= 64;
    if ((kind == DEV_ZERO || kind == DEV_FULL) && reads(ask) && ask->size <= SSIZE_MAX)
        ask->size %= 4097; /* it gives less to who has something else to do */
    if (ask->where == READ_ONLY && (ask->size > BUFFER || (writes(ask) && is_file(kind))))
        ask->where = GOOD; /* files are written with what belongs there */
    if (is_file(kind) && ask->flags == RWF_NOWAIT)
        ask->flags = 0; /* whether it would wait is a matter of time */
    if (kind == FILE_DIRECT &&
        (ask->flags == RWF_HIPRI || ask->where != GOOD || ask->size > BUFFER)) {
        ask->flags = 0; /* the device's driver decides; and how much is done of what fails */
        ask->where = GOOD;
        ask->size %= BUFFER;
    }
    if (kind == FILE_DIRECT && writes(ask)) { /* of what is not aligned some may be written */
        ask->size -= ask->size % 4096;
        ask->offset -= ask->offset > 0 ? ask->offset % 4096 : 0;
    }
    if (ask->what == POLL)
        ask->overwritten = false; /* io_cancel wants it */
}

/* It may change what a stream holds. */
static bool consumes(const struct ask *ask)
{
    return reads(ask) && ask->where == GOOD && ask->size && ask->offset >= 0;
}

static bool appends(const struct ask *ask)
{
    return kind_of(ask) == FILE_APPEND || ask->flags == RWF_APPEND;
}

static bool conflict(const struct ask *a, const struct ask *b)
{
    enum kind kind = kind_of(a);

    if (a->target != b->target)
        return false;
    if (kind == EVENT_FD || a->what == POLL || b->what == POLL)
        return true;
    if (kind == TERMINAL)
        return writes(a) != writes(b);
    if (!is_file(kind) || (!writes(a) && !writes(b)))
        return false;
    if (writes(a) && writes(b))
        return appends(a) != appends(b); /* what is written is the same wherever it overlaps */
    return reads(a) || reads(b);
}

bool conflicts(const struct ask *ask)
{
    size_t written = targets[ask->target].sent + ask->size;

    if (flight_count == FLIGHTS)
        return true;
    for (unsigned i = 0; i < flight_count; i++) {
        const struct ask *other = &flights[i].ask;

        if (conflict(ask, other))
            return true;
        if (other->target == ask->target && writes(other))
            written += other->size;
        if (flights[i].iocb == &blocks[ask->block] &&
            (!careless || ask->what == POLL || other->what == POLL))
            return true; /* io_cancel would not know which of two */
    }
    return writes(ask) && is_stream(kind_of(ask)) && written > STREAM_ROOM;
}

bool lacks_bytes(const struct ask *ask)
{
    size_t left = targets[ask->target].avail;
    enum kind kind = kind_of(ask);

    if (!reads(ask) || !ask->size || ask->flags == RWF_NOWAIT ||
        (kind != PIPE_READ && kind != SOCKET && kind != TERMINAL))
        return false;
    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].ask.target == ask->target && consumes(&flights[i].ask))
            left -= flights[i].ask.size < left ? flights[i].ask.size : left;
    return left == 0;
}

/* ---- Asking --------------------------------------------------------------------------------- */

static unsigned free_buffer(void)
{
    unsigned used = 0, i = 0;

    for (unsigned k = 0; k < flight_count; k++)
        used |= 1u << flights[k].buffer;
    while (used >> i & 1)
        i++;
    return i;
}

static void fill_buffer(const struct flight *flight)
{
    const struct ask *ask = &flight->ask;
    bool placed = is_file(kind_of(ask)) && !appends(ask);

    if (!flight->buf || ask->where == READ_ONLY)
        return;
    if (writes(ask))
        fill(flight->buf, flight->room, placed ? ask->offset : 0,
             placed ? FILE_SALT : flight->serial + 3);
    else
        memset(flight->buf, 0xee, flight->room);
}

/* Three of different sizes. */
static void split(const struct flight *flight, struct iovec *to, size_t size)
{
    size_t first = kind_of(&flight->ask) == FILE_DIRECT ? size / 2 / 4096 * 4096 : size / 3;
    char *at = flight->buf;

    to[0] = (struct iovec){ at, first };
    to[1] = (struct iovec){ at + first, 0 };
    to[2] = (struct iovec){ at + first, size - first };
}

static void prepare_transfer(struct flight *flight, struct iocb *iocb)
{
    static const int codes[] = { IO_CMD_PREAD, IO_CMD_PWRITE, IO_CMD_PREADV, IO_CMD_PWRITEV };
    const struct ask *ask = &flight->ask;
    struct iovec *list = vectors[flight->buffer];

    iocb->aio_lio_opcode = (short)codes[ask->what];
    iocb->u.c.offset = ask->offset;
    iocb->aio_rw_flags = (unsigned)ask->flags;
    if (ask->what == READ || ask->what == WRITE) {
        iocb->u.c.buf = flight->buf;
        iocb->u.c.nbytes = ask->size;
        return;
    }
    split(flight, list, ask->size);
    iocb->u.c.buf = list;
    iocb->u.c.nbytes = VECTORS;
    if (ask->bad == BAD_VECTORS)
        iocb->u.c.buf = (void *)(uintptr_t)(ask->variant % 2 ? 8 : -4096);
    if (ask->bad == MANY_VECTORS) {
        iocb->u.c.buf = many_vectors;
        iocb->u.c.nbytes = 1025;
    }
}

static void prepare_other(const struct flight *flight, struct iocb *iocb)
{
    static const int events[] = { POLLIN, POLLIN | POLLRDNORM, POLLOUT, 0, POLLPRI, POLLIN, POLLOUT,
                                  0x10000 };
    static const short codes[] = { 4, 6, 9, -1 };
    const struct ask *ask = &flight->ask;

    switch (ask->what) {
    case SYNC: iocb->aio_lio_opcode = IO_CMD_FSYNC; break;
    case DATASYNC: iocb->aio_lio_opcode = IO_CMD_FDSYNC; break;
    case POLL:
        iocb->aio_lio_opcode = IO_CMD_POLL;
        iocb->u.poll.events = events[ask->variant % 8];
        break;
    default: iocb->aio_lio_opcode = codes[ask->variant % 4]; break;
    }
    if (ask->bad == BAD_EXTRA && ask->variant % 3 == 0)
        iocb->u.c.offset = 1;
    if (ask->bad == BAD_EXTRA && ask->variant % 3 == 1)
        iocb->u.c.nbytes = 1;
    if (ask->bad == BAD_EXTRA && ask->variant % 3 == 2)
        iocb->aio_rw_flags = 1;
}

static void prepare_flags(const struct ask *ask, struct iocb *iocb, int counter)
{
    if (ask->garbage) {
        iocb->key = 0x12345678;
        iocb->aio_reqprio = 0x7777;
        iocb->u.c.flags = 1u << 7 | 1u << 30;
        iocb->u.c.resfd = 4711;
    }
    if (ask->tells)
        io_set_eventfd(iocb, counter);
    if (ask->bad == BAD_RESFD)
        io_set_eventfd(iocb, ask->variant % 2 ? -1 : 2);
    if (ask->bad == BAD_RESERVED)
        iocb->u.c.__pad3 = 1;
    if (ask->bad == BAD_PRIORITY) {
        iocb->u.c.flags |= FLAG_IOPRIO;
        iocb->aio_reqprio = (short)((ask->variant % 2 ? 7 : 2) << 13); /* the second one is good */
    }
    if (ask->bad == BAD_FLAGS && (reads(ask) || writes(ask)))
        iocb->aio_rw_flags |= 1u << 29;
}

static bool is_ready(const struct iocb *iocb)
{
    struct pollfd entry = { .fd = iocb->aio_fildes, .events = (short)iocb->u.poll.events };

    return poll(&entry, 1, 0) != 0;
}

struct flight *prepare(const struct ask *ask, unsigned context)
{
    struct flight *flight = &flights[flight_count];
    struct iocb *iocb = &blocks[ask->block];
    unsigned buffer = free_buffer();

    flight_count++;
    *flight = (struct flight){
        .ask = *ask, .context = context, .buffer = buffer, .serial = serials++, .iocb = iocb
    };
    flight->buf = world_buffer(ask->where, buffer, ask->size, &flight->room);
    if (ask->size < flight->room)
        flight->room = ask->size;
    if (!flight->buf)
        flight->room = 0;
    fill_buffer(flight);
    memset(iocb, 0, sizeof(*iocb));
    if (ask->what <= WRITEV)
        prepare_transfer(flight, iocb);
    else
        prepare_other(flight, iocb);
    iocb->aio_fildes = targets[ask->target].fd;
    prepare_flags(ask, iocb, counters[context]);
    iocb->data = (void *)(uintptr_t)(flight->serial + 1);
    flight->held = ask->what == POLL && !is_ready(iocb);
    flight->copy = *iocb;
    flight->copy.key = 0;
    return flight;
}

void forget(struct flight *flight)
{
    unsigned kept = (unsigned)(flight - flights);

    for (unsigned i = 0; i < kept; i++) /* the program has written to the block all the same */
        for (unsigned k = kept; k < flight_count; k++)
            if (flights[i].iocb == flights[k].iocb)
                flights[i].ask.overwritten = true;
    flight_count = kept;
}

/* ---- Taking events -------------------------------------------------------------------------- */

unsigned sure_in(unsigned context)
{
    unsigned count = 0;

    for (unsigned i = 0; i < flight_count; i++)
        count += flights[i].context == context && !flights[i].held && !flights[i].collected;
    return count;
}

bool any_at_once(unsigned context)
{
    for (unsigned i = 0; i < flight_count; i++) {
        const struct ask *ask = &flights[i].ask;

        if (flights[i].context == context && !flights[i].collected && is_file(kind_of(ask)) &&
            kind_of(ask) != FILE_DIRECT && (reads(ask) || writes(ask)))
            return true;
    }
    return false;
}

struct flight *only_poll_of(unsigned context, unsigned block)
{
    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].iocb == &blocks[block])
            return flights[i].context == context && flights[i].held ? &flights[i] : NULL;
    return NULL;
}

static unsigned in_ring(unsigned context)
{
    struct ring *ring = ring_of(context);

    return (ring->tail + ring->nr - ring->head) % ring->nr;
}

static void nap(long us)
{
    nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

void await_ring(unsigned context)
{
    unsigned wanted = sure_in(context);

    for (int i = 0; i < PATIENCE_MS * 50 && in_ring(context) != wanted; i++)
        nap(20);
    if (in_ring(context) != wanted)
        say("c%u has %u events of %u\n", context, in_ring(context), wanted);
}

static void collect(unsigned context, const struct io_event *event)
{
    uintptr_t serial = (uintptr_t)event->data - 1;

    for (unsigned i = 0; i < flight_count; i++) {
        struct flight *flight = &flights[i];

        if (flight->serial != serial || flight->context != context || flight->collected)
            continue;
        flight->collected = true;
        flight->event = *event;
        if (event->obj != flight->iocb)
            say("b%u: an event of another block\n", flight->ask.block);
        return;
    }
    say("c%u: an event of nothing, or a second one\n", context);
}

static long take_from_ring(struct ring *ring, long nr, struct io_event *ret)
{
    unsigned head = ring->head, tail = ring->tail;
    long count = 0;

    for (; head != tail && count < nr; head = (head + 1) % ring->nr)
        ret[count++] = ring->events[head];
    ring->head = head;
    return count;
}

long get(unsigned context, enum path path, long min, long nr, const struct timespec *timeout)
{
    struct io_event events[FLIGHTS + 1];
    struct timespec time = timeout ? *timeout : (struct timespec){ 0, 0 };
    struct timespec *at = timeout ? &time : NULL;
    long r;

    switch (path) {
    case GETEVENTS: r = io_getevents(contexts[context], min, nr, events, at); break;
    case PGETEVENTS: r = io_pgetevents(contexts[context], min, nr, events, at, NULL); break;
    case SYSTEM_CALL: r = syscall(SYS_io_getevents, contexts[context], min, nr, events, at); break;
    default: r = take_from_ring(ring_of(context), nr, events); break;
    }
    if (path == SYSTEM_CALL && r < 0)
        r = -errno;
    for (long i = 0; i < r; i++)
        collect(context, &events[i]);
    return r;
}

/* ---- The end of what is in flight ----------------------------------------------------------- */

static void end_polls(unsigned context)
{
    struct io_event event;

    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].context == context && flights[i].held) {
            say("b%u: cancelled: %d\n", flights[i].ask.block,
                io_cancel(contexts[context], flights[i].iocb, &event));
            flights[i].held = false;
        }
}

/* How many said so by eventfd. A stranger's count would be another value. */
static void say_told(unsigned context)
{
    uint64_t count = 0, sum = 0;

    for (int i = 0; i < PATIENCE_MS && sum < told[context]; i++) {
        if (read(counters[context], &count, sizeof(count)) == sizeof(count))
            sum += count;
        else
            nap(1000);
    }
    if (read(counters[context], &count, sizeof(count)) == sizeof(count))
        sum += count;
    say("c%u told %llu of %u\n", context, (unsigned long long)sum, told[context]);
    told[context] = 0;
}

static bool is_reused(unsigned which)
{
    for (unsigned i = which + 1; i < flight_count; i++)
        if (flights[i].iocb == flights[which].iocb)
            return true;
    return flights[which].ask.overwritten;
}

/* Byte by byte, also what is between the members. */
static bool is_same(const void *one, const void *two)
{
    return memcmp(one, two, sizeof(struct iocb)) == 0;
}

/* Who looks by himself may see it while the event is put there. */
static bool is_changed(unsigned which)
{
    const struct flight *flight = &flights[which];
    bool differs = true;

    if (is_reused(which))
        return false;
    for (int i = 0; i < 100 && differs; i++) {
        differs = !is_same(flight->iocb, &flight->copy);
        if (differs)
            nap(1000);
    }
    return differs;
}

static void say_done(unsigned which)
{
    const struct flight *flight = &flights[which];
    struct target *target = &targets[flight->ask.target];
    long r = (long)flight->event.res;

    if (flight->ask.what == POLL) /* whoever makes it ready may say more, or not */
        r &= POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP;
    say("b%u is over: %ld, %ld, buffer %08x%s\n", flight->ask.block, r, (long)flight->event.res2,
        hash_of(flight->buf, flight->room), is_changed(which) ? ", its block changed" : "");
    if (is_stream(target->kind) && r > 0 && reads(&flight->ask))
        target->avail -= (size_t)r < target->avail ? (size_t)r : target->avail;
    if (is_stream(target->kind) && r > 0 && writes(&flight->ask))
        target->sent += (size_t)r;
}

void settle(enum path path)
{
    for (unsigned i = 0; i < CONTEXTS; i++) {
        long r = 0;

        end_polls(i);
        for (int tries = 0; sure_in(i) && tries < 10000; tries++) {
            if (path == RING)
                await_ring(i);
            r = get(i, path, 1, FLIGHTS, &(struct timespec){ PATIENCE_MS / 1000, 0 });
            if (r <= 0 && r != -EINTR)
                break;
        }
        if (sure_in(i))
            say("c%u lacks %u events: %ld\n", i, sure_in(i), r);
        if (in_ring(i) && !careless)
            say("c%u has %u events too many\n", i, in_ring(i));
        say_told(i);
    }
    for (unsigned i = 0; i < flight_count; i++)
        say_done(i);
    flight_count = 0;
    for (unsigned i = 0; i < TARGETS; i++)
        world_drain(i);
}

void end_context(unsigned context)
{
    uint64_t count;
    unsigned kept = 0;

    say("c%u is ended: %d\n", context, io_destroy(contexts[context]));
    for (unsigned i = 0; i < flight_count; i++) {
        if (flights[i].context != context)
            flights[kept++] = flights[i];
        else if (!flights[i].held)
            say("b%u was over, buffer %08x\n", flights[i].ask.block,
                hash_of(flights[i].buf, flights[i].room));
    }
    flight_count = kept;
    (void)!read(counters[context], &count, sizeof(count)); /* or not: nobody promises it */
    told[context] = 0;
}

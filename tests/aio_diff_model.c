/* SPDX-License-Identifier: MIT */
/* aio_diff_model.c: what is in flight of a random program. Nothing is asked for that time decides:
 * requests in flight of which one would see another's effect are waited for first. */
#include "aio_diff_model.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum { FILE_SALT = 2 };

struct aiocb blocks[BLOCKS];
struct flight flights[FLIGHTS];
unsigned flight_count, expected;
int list_left[STEPS];

static unsigned serials;

/* ---- The model ------------------------------------------------------------------------------ */

bool bad_priority(const struct ask *ask)
{
    return ask->what != SYNC && ask->what != DATASYNC && (ask->priority < 0 || ask->priority > 20);
}

bool waits_for_bytes(const struct ask *ask)
{
    enum kind kind = targets[ask->target].kind;

    return ask->what == READ && ask->size && ask->offset >= 0 &&
           (kind == PIPE_READ || kind == SOCKET || kind == TERMINAL);
}

enum fate fate_of(unsigned which)
{
    const struct ask *ask = &flights[which].ask;
    size_t avail = targets[ask->target].avail;
    bool held = false;

    for (unsigned i = 0; i <= which; i++) {
        const struct ask *earlier = &flights[i].ask;

        if (earlier->target != ask->target)
            continue;
        if (i == which)
            break;
        if (waits_for_bytes(earlier) && avail == 0)
            held = true;
        if (earlier->what == READ && earlier->where == GOOD)
            avail -= earlier->size < avail ? earlier->size : avail;
    }
    if (held)
        return ask->what == WRITE || ask->what == BAD_CODE ? UNSURE : QUEUED;
    return waits_for_bytes(ask) && avail == 0 ? HELD : SURE;
}

bool may_end(unsigned which)
{
    enum fate fate = fate_of(which);

    return fate == SURE || fate == UNSURE;
}

bool any_fate(unsigned target, enum fate fate)
{
    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].ask.target == target && fate_of(i) == fate)
            return true;
    return false;
}

bool has_followers(unsigned which)
{
    for (unsigned i = which + 1; i < flight_count; i++)
        if (flights[i].ask.target == flights[which].ask.target)
            return true;
    return false;
}

bool any_bad_signal(unsigned target)
{
    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].ask.target == target && flights[i].ask.notify == SIGNAL_BAD)
            return true;
    return false;
}

int flight_of(unsigned block)
{
    for (unsigned i = 0; i < flight_count; i++)
        if (flights[i].ask.block == block)
            return (int)i;
    return -1;
}

static void drop(unsigned which)
{
    struct flight *flight = &flights[which];

    expected += world_tells(flight->ask.notify);
    if (flight->list >= 0 && --list_left[flight->list] == 0)
        expected++;
    memmove(flight, flight + 1, (--flight_count - which) * sizeof(*flight));
}

/* ---- Waiting -------------------------------------------------------------------------------- */

void await(const struct aiocb *block)
{
    const struct aiocb *list[] = { block };

    while (aio_error(block) == EINPROGRESS)
        if (aio_suspend(list, 1, NULL) < 0 && errno != EINTR)
            say("! aio_suspend: %s\n", strerror(errno));
}

/* Its result may differ, which is told once. */
static bool may_differ(const struct ask *ask)
{
    return ask->notify == SIGNAL_BAD || ask->offset < 0 || ask->size > SSIZE_MAX;
}

/* What an earlier request has left of itself in a block. */
void clear(struct aiocb *block, int fd)
{
    memset(block, 0, sizeof(*block));
    block->aio_fildes = fd;
}

/* It is over. */
void say_done(unsigned which)
{
    const struct flight *flight = &flights[which];
    struct target *target = &targets[flight->ask.target];
    struct aiocb *block = &blocks[flight->ask.block];
    ssize_t r = aio_return(block);

    if (flight->vague)
        say("%u.%u b%u is over\n", flight->step, flight->entry, flight->ask.block);
    else
        say("%u.%u b%u is over: %d, %zd, again %d %zd, buffer %08x\n", flight->step, flight->entry,
            flight->ask.block, aio_error(block), r, aio_error(block), aio_return(block),
            hash_of(flight->buf, flight->room));
    if (is_stream(target->kind) && r > 0 && flight->ask.what == READ)
        target->avail -= (size_t)r < target->avail ? (size_t)r : target->avail;
    if (is_stream(target->kind) && r > 0 && flight->ask.what == WRITE)
        target->sent += (size_t)r;
    if (flight->vague || may_differ(&flight->ask))
        clear(block, block->aio_fildes);
    drop(which);
}

static size_t enough_for(const struct ask *ask)
{
    if (targets[ask->target].kind == TERMINAL)
        return 1; /* more may come one by one */
    return ask->size > 3 ? ask->size - 2 : ask->size;
}

void settle(unsigned target)
{
    for (unsigned i = 0; i < flight_count;) {
        const struct ask *ask = &flights[i].ask;

        if (ask->target != target) {
            i++;
            continue;
        }
        if (fate_of(i) == HELD && aio_error(&blocks[ask->block]) == EINPROGRESS)
            world_feed(target, enough_for(ask), flights[i].serial);
        await(&blocks[ask->block]);
        say_done(i);
    }
    world_drain(target);
}

void settle_all(void)
{
    for (unsigned i = 0; i < TARGETS; i++)
        settle(i);
}

void settle_block(unsigned block)
{
    int which = flight_of(block);

    if (which >= 0)
        settle(flights[which].ask.target);
}

/* With nothing in flight there: bytes for later. */
void feed(unsigned target, size_t count, unsigned salt)
{
    world_feed(target, count, salt);
    world_await_bytes(target);
}

/* ---- Asking --------------------------------------------------------------------------------- */

/* What both would do the same is all that may be asked of a stream. */
static void tame_stream(struct ask *ask)
{
    enum kind kind = targets[ask->target].kind;

    ask->size = kind == TERMINAL ? 1 + ask->size % 64 : ask->size % 4097;
    if (ask->where == EDGE || kind == TERMINAL ||
        (ask->what == READ && kind != PIPE_READ && kind != PIPE_NONBLOCK))
        ask->where = GOOD;
    if (ask->where == KERNEL)
        ask->where = LOW;
    if (kind == TERMINAL && ask->offset < 0)
        ask->offset = 0;
    if (kind == TERMINAL && ask->notify == SIGNAL_BAD)
        ask->notify = NONE;
}

void tame(struct ask *ask)
{
    enum kind kind = targets[ask->target].kind;

    if (is_stream(kind))
        tame_stream(ask);
    if (kind == EVENT_FD)
        ask->size %= 64;
    if ((is_stream(kind) || kind == FILE_APPEND) && ask->priority > 0 && ask->priority <= 20)
        ask->priority = 0; /* glibc sorts by it what has not begun */
    if ((kind == DEV_ZERO || kind == DEV_FULL) && ask->what == READ && ask->size <= SSIZE_MAX)
        ask->size %= 4097; /* it gives less to a thread of io_uring that has something else to do */
    if (ask->where == READ_ONLY && (ask->size > BUFFER || (ask->what == WRITE && is_file(kind))))
        ask->where = GOOD; /* files are written with what belongs there */
    if (ask->where == KERNEL && ask->what == READ && kind != FILE_RW)
        ask->where = LOW; /* of two errors either is right */
}

bool is_alone(const struct ask *ask)
{
    return is_stream(targets[ask->target].kind) && (ask->offset < 0 || ask->notify == SIGNAL_BAD) &&
           ask->what <= WRITE;
}

/* One of them would see what the other does. */
static bool conflict(const struct ask *a, const struct ask *b)
{
    enum kind kind = targets[a->target].kind;

    if (a->target != b->target)
        return false;
    if (kind == EVENT_FD)
        return true;
    if (kind == TERMINAL)
        return (a->what == WRITE) != (b->what == WRITE);
    return is_file(kind) &&
           ((a->what == READ && b->what == WRITE) || (a->what == WRITE && b->what == READ));
}

bool conflicts(const struct ask *ask)
{
    unsigned writes = 0;

    for (unsigned i = 0; i < flight_count; i++) {
        if (conflict(ask, &flights[i].ask))
            return true;
        writes += flights[i].ask.target == ask->target && flights[i].ask.what == WRITE;
    }
    return writes >= 4 || flight_count == FLIGHTS;
}

static int code_of(const struct ask *ask)
{
    switch (ask->what) {
    case READ: return LIO_READ;
    case WRITE: return LIO_WRITE;
    case NOP: return LIO_NOP;
    default: return ask->variant % 2 ? 99 : -1;
    }
}

void prepare(const struct ask *ask, unsigned step, unsigned entry, int list)
{
    struct flight *flight = &flights[flight_count++];
    struct aiocb *block = &blocks[ask->block];
    enum kind kind = targets[ask->target].kind;
    size_t room, count;

    *flight = (struct flight){
        .ask = *ask, .serial = serials++, .step = step, .entry = entry, .list = list
    };
    flight->buf = world_buffer(ask->where, ask->block, ask->size, &room);
    count = ask->size < room ? ask->size : room;
    flight->room = flight->buf ? count : 0;
    if (flight->buf && ask->where != READ_ONLY && ask->what == WRITE)
        fill(flight->buf, count, is_file(kind) && kind != FILE_APPEND ? ask->offset : 0,
             is_file(kind) && kind != FILE_APPEND ? FILE_SALT : flight->serial + 3);
    else if (flight->buf && ask->where != READ_ONLY)
        memset(flight->buf, 0xee, count);
    if (!ask->keeps)
        memset(block, 0x5a, sizeof(*block));
    block->aio_fildes = targets[ask->target].fd;
    block->aio_buf = flight->buf;
    block->aio_nbytes = ask->size;
    block->aio_offset = ask->offset;
    block->aio_reqprio = ask->priority;
    block->aio_lio_opcode = code_of(ask);
    block->aio_sigevent = world_event(ask->notify, ask->variant, (int)flight->serial);
}

/* SPDX-License-Identifier: MIT */
/* kaio.c: the engine of the kernel's older asynchronous I/O: reads, writes and syncs of files that
 * are open with O_DIRECT go to io_submit(2); everything else goes as on epoll.
 *
 * io_submit waits for whatever a file makes it wait for: locks, the page cache, blocks that a
 * longer file needs. So a request refuses to wait (RWF_NOWAIT), and what would have waited is for a
 * worker, as is what the file cannot do this way at all. A file without RWF_NOWAIT could make the
 * loop wait without end: all of it is for workers. Syncs wait on a thread of the kernel's.
 *
 * The context is made for the first request: most programs have none, the whole system shares a few
 * thousand requests, and to close a context takes tens of milliseconds.
 *
 * Requests wait in a list of the engine's while the context is full, and not in the loop's queue,
 * where they would hold up what is no matter of a disk.
 *
 * Completions are read from the context's memory; a sleeping driver hears of them by an eventfd in
 * the set. It is edge-triggered and so never read. Nothing can be cancelled that the kernel has. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "epoll_set.h"
#include "kaio_context.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100
#endif
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif

#define ROOM 256u
#define PAUSE (1 * OURO_S)
#define BATCH 64u
#define WANTED_SIZE 0x201u /* STATX_TYPE, STATX_SIZE */

struct kaio {
    struct epoll_set set;
    struct kaio_context context;
    struct ouro__list waiting; /* are to be submitted */
    unsigned in_flight;        /* the kernel's */
    ouro_time again_at;        /* no context could be had: to be tried again then */
    int bell;                  /* the eventfd; -1: there was no descriptor for it */
    uint32_t made;             /* the set that it is in */
    bool heard;                /* asked in this turn: the bell is in the set, and both are ours */
    bool deaf;                 /* of some in flight the end is not to be heard */
    struct kaio_control controls[BATCH], *batch[BATCH];
};

static struct kaio *kaio_of(struct ready *ready)
{
    return (struct kaio *)ready;
}

static ouro_loop *loop_of(const struct kaio *kaio)
{
    return kaio->set.ready.loop;
}

/* ---- The bell ------------------------------------------------------------------------------- */

static bool make_bell(struct kaio *kaio)
{
    ouro_loop *loop = loop_of(kaio);
    long r;

    ouro__drop(loop, kaio->bell); /* is in a set that is no more */
    kaio->bell = -1;
    kaio->deaf = kaio->in_flight;
    if (!ouro__epoll_set_sure(&kaio->set))
        return false;
    r = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r < 0)
        return false;
    kaio->bell = (int)r;
    ouro__own(loop, kaio->bell);
    if (ouro__epoll_set_hear(&kaio->set, kaio->bell) < 0) {
        sys_close(kaio->bell);
        kaio->bell = -1;
        return false;
    }
    kaio->made = kaio->set.made;
    return true;
}

/* Will the end of what is submitted now be heard? The program may have closed the bell. That the
 * set is whole is found out before it is slept on; a new one lets nobody sleep at first. */
static bool hears(struct kaio *kaio)
{
    if (!kaio->heard)
        kaio->heard = (kaio->made == kaio->set.made && ouro__owns(loop_of(kaio), kaio->bell)) ||
                      make_bell(kaio);
    return kaio->heard;
}

/* ---- Submitting ----------------------------------------------------------------------------- */

/* What the loop has opened so is taken for a file without a further look. */
static bool is_direct(const ouro_op *op)
{
    struct ouro__file *file = ouro__file_counted(op);

    return (file->ours == OURS_NAMED && file->cache == CACHE_NO) ||
           ouro__file_kind(file, ouro__fd(op)) == FILE_DIRECT;
}

static bool is_native(ouro_loop *loop, ouro_op *op)
{
    switch (op->code) {
    case OURO_READ:
    case OURO_WRITE:
    case OURO_READV:
    case OURO_WRITEV:
        if ((int64_t)op->arg[ARG_OFFSET] == OURO_CUR || op->notes_ & NOTE_STREAM ||
            !(loop->caps & OURO_CAP_NOWAIT))
            return false;
        break;
    case OURO_FSYNC: break;
    default: return false;
    }
    return is_direct(op);
}

static bool kaio_take(struct ready *ready, ouro_op *op)
{
    struct kaio *kaio = kaio_of(ready);

    if (!is_native(ready->loop, op))
        return false;
    op->worker_ = &kaio->waiting; /* says that it is there */
    ouro__push(&kaio->waiting, op);
    return true;
}

static void encode_transfer(const ouro_loop *loop, ouro_op *op, struct kaio_control *control)
{
    static const uint16_t codes[2][2] = { { KAIO_READ, KAIO_WRITE }, { KAIO_READV, KAIO_WRITEV } };
    bool writes = ouro__kinds[op->code].traits & KIND_WRITES;
    struct ouro__span span;

    (void)ouro__span_of(op, &span);
    control->code = codes[!span.single][writes];
    control->buf = (uintptr_t)(span.single ? span.ptr : (const void *)span.iov);
    control->len = span.single ? span.len : span.count;
    control->offset = span.offset;
    control->rw_flags = (uint32_t)span.rwf | RWF_NOWAIT;
    if (!(span.rwf & RWF_NOWAIT))
        op->notes_ |= NOTE_TRIED;
    if (writes && loop->caps & OURO_CAP_NOSIGNAL)
        control->rw_flags |= RWF_NOSIGNAL;
}

static void encode(const struct kaio *kaio, ouro_op *op, struct kaio_control *control)
{
    memset(control, 0, sizeof(*control));
    control->data = op->id_;
    control->fd = (uint32_t)ouro__fd(op);
    if (kaio->heard) {
        control->flags = KAIO_FLAG_BELL;
        control->bell_fd = (uint32_t)kaio->bell;
    }
    if (op->code == OURO_FSYNC)
        control->code = op->arg[ARG_DATASYNC] ? KAIO_FDATASYNC : KAIO_FSYNC;
    else
        encode_transfer(loop_of(kaio), op, control);
}

static ouro_op *pop_waiting(struct kaio *kaio)
{
    ouro_op *op = ouro__pop(&kaio->waiting);

    op->worker_ = NULL;
    return op;
}

/* What a worker does is right for every file. But the number may stand for a pipe by now, which it
 * would wait for without end. */
static void give_up(struct kaio *kaio, ouro_op *op)
{
    struct ouro__file *file = ouro__file_counted(op);
    ouro_loop *loop = loop_of(kaio);

    op->notes_ &= (uint16_t)~NOTE_TRIED;
    file->kind = FILE_UNKNOWN;
    file->cache = CACHE_UNKNOWN;
    if (ouro__file_streams(file, ouro__fd(op)))
        ouro__report(loop, op, -EINTR); /* begins anew, where it belongs */
    else
        ouro__to_worker(loop, op, ROUTE_WORKER);
}

static unsigned encode_batch(struct kaio *kaio)
{
    unsigned room = kaio->context.room - kaio->in_flight, count = 0;

    for (ouro_op *op = kaio->waiting.head; op && count < BATCH && count < room; op = op->next_) {
        encode(kaio, op, &kaio->controls[count]);
        kaio->batch[count] = &kaio->controls[count];
        count++;
    }
    return count;
}

static bool has_context(struct kaio *kaio)
{
    ouro_loop *loop = loop_of(kaio);

    if (kaio->context.id)
        return true;
    if (ouro__now(loop) < kaio->again_at)
        return false;
    kaio->again_at = ouro__now(loop) + PAUSE;
    return ouro__kaio_open(&kaio->context, loop->config.depth ? loop->config.depth : ROOM) == 0;
}

/* While there is room. The kernel answers for the first that it does not take. */
static void hand_over(struct kaio *kaio)
{
    while (kaio->waiting.head && !has_context(kaio))
        give_up(kaio, pop_waiting(kaio));
    while (kaio->waiting.head && kaio->in_flight < kaio->context.room) {
        bool heard = hears(kaio);
        long taken = sys_io_submit(kaio->context.id, (long)encode_batch(kaio), kaio->batch);

        loop_of(kaio)->stats.enters += taken > 0;
        for (long i = 0; i < taken; i++)
            (void)pop_waiting(kaio);
        if (taken > 0) {
            kaio->in_flight += (unsigned)taken;
            kaio->deaf |= !heard;
        } else if (taken == -EAGAIN && kaio->in_flight) {
            break; /* full after all: what ends makes room */
        } else {
            give_up(kaio, pop_waiting(kaio));
        }
    }
    loop_of(kaio)->stats.queue_full += kaio->waiting.head != NULL;
}

/* ---- Completions ---------------------------------------------------------------------------- */

static bool ends_at(int fd, int64_t end)
{
    struct ouro_stat st;

    return sys_statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, WANTED_SIZE, &st) == 0 &&
           S_ISREG(st.mode) && (int64_t)st.size <= end;
}

/* A request that refused to wait has moved less than was asked for: because it ran into what it
 * would have had to wait for? */
static bool cut_short(ouro_op *op, int64_t res)
{
    struct ouro__span span;

    if (op->code == OURO_FSYNC || !ouro__span_of(op, &span) ||
        (uint64_t)res >= ouro__span_bytes(&span))
        return false;
    return res > 0 && (ouro__kinds[op->code].traits & KIND_WRITES ||
                       !ends_at(ouro__fd(op), span.offset + res));
}

static void settle(struct kaio *kaio, ouro_op *op, int64_t res)
{
    bool tried = op->notes_ & NOTE_TRIED && !(op->marks_ & (MARK_CANCEL | MARK_TIMEOUT));

    op->notes_ &= (uint16_t)~NOTE_TRIED;
    if (!tried || (res != -EAGAIN && !cut_short(op, res))) {
        ouro__report(loop_of(kaio), op, res);
        return;
    }
    if (res > 0 && ouro__kinds[op->code].traits & KIND_WRITES)
        op->done_ += res; /* what was read is simply read again */
    give_up(kaio, op);
}

static void reap(struct kaio *kaio)
{
    struct kaio_event events[BATCH];
    ouro_loop *loop = loop_of(kaio);
    unsigned count = BATCH;

    while (kaio->in_flight && count == BATCH) {
        count = ouro__kaio_take(&kaio->context, events, BATCH);
        for (unsigned i = 0; i < count; i++) {
            ouro_op *op = ouro__slot_find(loop, events[i].data);

            kaio->in_flight--;
            if (op)
                settle(kaio, op, events[i].res);
            else
                loop->stats.stale++;
        }
    }
}

/* ---- A turn --------------------------------------------------------------------------------- */

static void kaio_run(struct ready *ready)
{
    struct kaio *kaio = kaio_of(ready);

    reap(kaio);
    hand_over(kaio);
    kaio->deaf = kaio->in_flight && (!hears(kaio) || kaio->deaf);
    ready->deaf = kaio->deaf;
    if (kaio->deaf && ready->hosted)
        ouro__doorbell_ring(&ready->bell); /* the host looks again, and again */
}

static void kaio_submit(ouro_loop *loop)
{
    struct kaio *kaio = loop->engine_state;

    kaio->heard = false;
    ouro__ready_submit(loop);
}

static void kaio_wait(ouro_loop *loop, ouro_time until)
{
    struct kaio *kaio = loop->engine_state;

    kaio->heard = false;
    ouro__ready_wait(loop, until);
}

static void kaio_cancel(ouro_loop *loop, ouro_op *op)
{
    struct kaio *kaio = loop->engine_state;

    if (op->worker_ == &kaio->waiting) {
        ouro__unlink(&kaio->waiting, op);
        ouro__ready_end(&kaio->set.ready, op, -ECANCELED);
    } else {
        ouro__ready_cancel(loop, op);
    }
}

/* ---- Routes, open, close -------------------------------------------------------------------- */

static enum ouro__route kaio_route(ouro_loop *loop, unsigned code)
{
    return code == OURO_FSYNC ? ROUTE_ENGINE : ouro__ready_route(loop, code);
}

static enum ouro__route kaio_route_op(ouro_loop *loop, ouro_op *op)
{
    if (is_native(loop, op))
        return ROUTE_ENGINE;
    return op->code == OURO_FSYNC ? ROUTE_WORKER : ouro__ready_route_op(loop, op);
}

static int kaio_close(ouro_loop *loop, int forked, ouro_time until)
{
    struct kaio *kaio = loop->engine_state;

    (void)until; /* nothing is in flight */
    if (!forked)
        ouro__kaio_close(&kaio->context);
    ouro__drop(loop, kaio->bell);
    ouro__epoll_set_close(loop);
    return 0;
}

static int kaio_open(ouro_loop *loop, struct ouro__why *why)
{
    static const struct ready_more by_context = { .take = kaio_take, .run = kaio_run };
    struct kaio *kaio;
    int r = ouro__kaio_ask(why->text, sizeof(why->text));

    if (r == 0)
        r = ouro__epoll_set_open(loop, sizeof(struct kaio), why);
    if (r < 0)
        return r;
    kaio = loop->engine_state;
    kaio->bell = -1;
    kaio->set.ready.more = &by_context;
    loop->caps = ouro__ready_caps() & ~loop->mask;
    return 0;
}

const struct ouro__engine ouro__engine_kaio = {
    .name = "kaio",
    .sends_here = true,
    .open = kaio_open,
    .close = kaio_close,
    .route = kaio_route,
    .route_op = kaio_route_op,
    .submit = kaio_submit,
    .wait = kaio_wait,
    .cancel = kaio_cancel,
    .wake = ouro__ready_wake,
    .pollfd = ouro__epoll_set_pollfd,
    .forget = ouro__epoll_set_forget,
};

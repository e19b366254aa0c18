/* SPDX-License-Identifier: MIT */
/* order.c: the records of descriptors on which operations are in flight, and the order among these
 * operations: OURO_CUR on one file, SERIAL, BARRIER, and close after all others.
 *
 * A record has two lanes, reading and writing. A SERIAL operation takes the lane of its
 * direction; one that uses the file's position takes both. Who cannot have its lanes is HELD in
 * the record's list, first come first served. An operation with two descriptors (copy, splice)
 * takes its lanes one record after the other, the lower descriptor first, so that two of them
 * cannot wait for each other. While it is held at one it claims its lanes at the other: who comes
 * later waits behind it there, too. Each has its turn from when it came (turns are even: what must
 * come before another has the odd one below). */
#include "core.h"

#define FD_MOST (1 << 30)

/* op->lanes_ */
enum {
    LANE_READ = 1,
    LANE_WRITE = 2,
    LANE_BOTH = 3,
    SECOND = 2,          /* shift: the lanes wanted on the second descriptor */
    HAS_FIRST = 16,      /* lanes of the first were granted */
    HAS_SECOND = 32,     /* lanes of the second were granted */
    WAITS_SECOND = 64,   /* held in the second descriptor's list */
    WAITS_BARRIER = 128, /* waits_ earlier operations are not final yet */
};

/* NULL: no memory, or no such descriptor can be. */
struct ouro__file *ouro__file_make(ouro_loop *loop, ouro_fd fd)
{
    uint32_t page = (uint32_t)fd >> OURO__PAGE_BITS;

    if (fd < 0 || fd > FD_MOST)
        return NULL;
    if (page >= loop->file_pages) {
        uint32_t pages = page + 1 < 8 ? 8 : page + 1;
        struct ouro__file **files = ouro__alloc(
            loop, loop->files, loop->file_pages * sizeof(*files), pages * sizeof(*files));
        if (!files)
            return NULL;
        memset(files + loop->file_pages, 0, (pages - loop->file_pages) * sizeof(*files));
        loop->files = files;
        loop->file_pages = pages;
    }
    if (!loop->files[page]) {
        size_t size = OURO__PAGE_SIZE * sizeof(struct ouro__file);
        loop->files[page] = ouro__alloc(loop, NULL, 0, size);
        if (!loop->files[page])
            return NULL;
        memset(loop->files[page], 0, size);
    }
    return ouro__file_at(loop, fd);
}

void ouro__files_finish(ouro_loop *loop)
{
    for (uint32_t i = 0; i < loop->file_pages; i++)
        ouro__alloc(loop, loop->files[i], OURO__PAGE_SIZE * sizeof(struct ouro__file), 0);
    ouro__alloc(loop, loop->files, loop->file_pages * sizeof(struct ouro__file *), 0);
}

/* In a forked child: nothing is in flight, nothing is known. */
void ouro__files_forget(ouro_loop *loop)
{
    for (uint32_t i = 0; i < loop->file_pages; i++)
        if (loop->files[i])
            memset(loop->files[i], 0, OURO__PAGE_SIZE * sizeof(struct ouro__file));
    memset(&loop->here, 0, sizeof(loop->here));
    for (uint32_t i = 0; i < loop->direct_count; i++) {
        int fd = loop->direct[i].fd; /* inherited, but for what the parent's engine alone has */

        loop->direct[i] = (struct ouro__direct){ .fd = fd < 0 ? OURO__SLOT_EMPTY : fd };
    }
}

static inline struct ouro__file *second_of(ouro_loop *loop, const ouro_op *op)
{
    if (!(ouro__kinds[op->code].traits & (KIND_FD2 | KIND_DIR2)))
        return NULL;
    return ouro__file_at(loop, ouro__int(op, 0));
}

/* ---- Counting ------------------------------------------------------------------------------ */

static inline void uncount(ouro_loop *loop, struct ouro__file *file)
{
    file->in_flight--;
    if (file->closer && file->in_flight == 1) {
        ouro_op *closer = file->closer;
        file->closer = NULL;
        ouro__start(loop, closer);
    } else if (!file->in_flight) {
        ouro__file_rests(file);
    }
}

/* Counts the operation in the records of its descriptors. */
int ouro__file_enter(ouro_loop *loop, ouro_op *op)
{
    uint16_t traits = ouro__kinds[op->code].traits;
    struct ouro__file *first = NULL, *second = NULL;

    if (!(traits & (KIND_FD | KIND_DIR)))
        return 0;
    if (op->flags & OURO_DIRECT) {
        if (loop->direct[op->fd].fd == OURO__SLOT_EMPTY)
            return -EBADF;
        first = &loop->direct[op->fd].file;
    } else if (op->fd < 0) {
        first = &loop->here;
    } else if (!(first = ouro__file_at(loop, op->fd)) && !(first = ouro__file_make(loop, op->fd))) {
        return op->fd > FD_MOST ? -EBADF : -ENOMEM;
    }
    if (traits & (KIND_FD2 | KIND_DIR2) && ouro__int(op, 0) >= 0) {
        second = ouro__file_make(loop, ouro__int(op, 0));
        if (!second)
            return ouro__int(op, 0) > FD_MOST ? -EBADF : -ENOMEM;
    }
    if (first->closer || (second && second->closer))
        return -EBADF;
    first->in_flight++;
    if (!(traits & KIND_WRITES) && op->code != OURO_CLOSE)
        ouro__file_waits(first, op);
    op->epoch_ = op->flags & OURO_BARRIER ? ++first->epoch : first->epoch;
    if (second) {
        second->in_flight++;
        op->epoch2_ = second->epoch;
    }
    op->file_ = (uint64_t)(uintptr_t)first;
    op->marks_ |= MARK_FILE;
    return 0;
}

/* ---- Lanes --------------------------------------------------------------------------------- */

static uint8_t position_lanes(struct ouro__file *file, int fd, bool positioned)
{
    return !positioned || !file || ouro__file_streams(file, fd) ? 0 : LANE_BOTH;
}

/* The lanes that the operation wants on its first and second descriptor. */
static void want(ouro_loop *loop, ouro_op *op, struct ouro__file *first)
{
    uint16_t traits = ouro__kinds[op->code].traits;
    uint8_t lanes = 0;

    if (traits & KIND_FD2) {
        struct ouro__file *second = second_of(loop, op);
        lanes = position_lanes(first, ouro__fd(op), (int64_t)op->arg[ARG_IN_OFFSET] == OURO_CUR);
        lanes |= (uint8_t)(position_lanes(second, ouro__int(op, 0),
                                          (int64_t)op->arg[ARG_OUT_OFFSET] == OURO_CUR)
                           << SECOND);
        if (second == first)
            lanes = (lanes | lanes >> SECOND) & LANE_BOTH;
    } else {
        bool positioned = traits & KIND_POSITION ||
                          (traits & KIND_SPAN && (int64_t)op->arg[ARG_OFFSET] == OURO_CUR);
        lanes = position_lanes(first, ouro__fd(op), positioned);
        if (positioned && !lanes)
            op->notes_ |= NOTE_STREAM;
        if (op->flags & OURO_SERIAL)
            lanes |= traits & KIND_READS ? LANE_READ : LANE_WRITE;
    }
    op->lanes_ = lanes;
}

/* The lanes that it wants where it is held (or at the other record). */
static uint8_t lanes_here(const ouro_op *op, bool other)
{
    bool second = !(op->lanes_ & WAITS_SECOND) == other;

    return (second ? op->lanes_ >> SECOND : op->lanes_) & LANE_BOTH;
}

/* ---- Claims -------------------------------------------------------------------------------- */

/* In the order of their turns: by engine_[1], which a copy needs for nothing else. */
static ouro_op *next_claim(const ouro_op *op)
{
    return (ouro_op *)(uintptr_t)op->engine_[1];
}

/* The record that op claims lanes of, which is held at the other one; NULL: there is none. */
static struct ouro__file *claimed(ouro_loop *loop, const ouro_op *op)
{
    bool second = !(op->lanes_ & WAITS_SECOND);

    if (!(ouro__kinds[op->code].traits & KIND_FD2) || !lanes_here(op, true) ||
        op->lanes_ & (second ? HAS_SECOND : HAS_FIRST))
        return NULL;
    return second ? second_of(loop, op) : ouro__file_of(loop, op);
}

static void claim(struct ouro__file *file, ouro_op *op)
{
    ouro_op *last = file->claims;

    while (last && next_claim(last) && next_claim(last)->result_ <= op->result_)
        last = next_claim(last);
    if (!last || last->result_ > op->result_) {
        op->engine_[1] = (uintptr_t)last;
        file->claims = op;
    } else {
        op->engine_[1] = last->engine_[1];
        last->engine_[1] = (uintptr_t)op;
    }
}

static void unclaim(struct ouro__file *file, const ouro_op *op)
{
    ouro_op *at = file->claims;

    if (at == op)
        file->claims = next_claim(op);
    while (at && at != op && next_claim(at) != op)
        at = next_claim(at);
    if (at && at != op)
        at->engine_[1] = op->engine_[1];
}

/* ---- Waiting for lanes --------------------------------------------------------------------- */

/* Of two with the same turn, who is there already came first. */
static uint8_t claimed_before(const struct ouro__file *file, int64_t turn)
{
    uint8_t lanes = 0;

    for (const ouro_op *at = file->claims; at && at->result_ <= turn; at = next_claim(at))
        lanes |= lanes_here(at, true);
    return lanes;
}

/* Lanes that held operations want. */
static uint8_t wanted(const struct ouro__file *file)
{
    return (uint8_t)((file->held_in[0] ? LANE_READ : 0) | (file->held_in[1] ? LANE_WRITE : 0));
}

/* Lanes that others want whose turn is before that: nobody overtakes them. */
static uint8_t wanted_before(const ouro_loop *loop, const struct ouro__file *file, int64_t turn)
{
    uint8_t lanes = claimed_before(file, turn);

    if (turn == loop->turns) /* it has come just now */
        return lanes | wanted(file);
    for (const ouro_op *at = file->held.head; at && at->result_ <= turn; at = at->next_)
        lanes |= lanes_here(at, false);
    return lanes;
}

/* Behind those that came before it: it may have been held elsewhere meanwhile. */
static void insert(struct ouro__list *list, ouro_op *op)
{
    ouro_op *before = list->tail;

    while (before && before->result_ > op->result_)
        before = before == list->head ? NULL : before->prev_;
    if (before == list->tail) {
        ouro__push(list, op);
    } else if (!before) {
        ouro__push_front(list, op);
    } else {
        op->prev_ = before;
        op->next_ = before->next_;
        before->next_->prev_ = op;
        before->next_ = op;
    }
}

static void hold(ouro_loop *loop, struct ouro__file *file, ouro_op *op)
{
    uint8_t lanes = lanes_here(op, false);
    struct ouro__file *other = claimed(loop, op);

    if (lanes & LANE_READ)
        file->held_in[0]++;
    if (lanes & LANE_WRITE)
        file->held_in[1]++;
    insert(&file->held, op);
    if (other)
        claim(other, op);
}

static void unhold(ouro_loop *loop, struct ouro__file *file, ouro_op *op)
{
    uint8_t lanes = lanes_here(op, false);
    struct ouro__file *other = claimed(loop, op);

    if (lanes & LANE_READ)
        file->held_in[0]--;
    if (lanes & LANE_WRITE)
        file->held_in[1]--;
    ouro__unlink(&file->held, op);
    if (other)
        unclaim(other, op);
}

/* Takes what it can, lower descriptor first. True: has all; else it is held where it stopped. */
static bool advance(ouro_loop *loop, ouro_op *op)
{
    bool swap = ouro__kinds[op->code].traits & KIND_FD2 && ouro__int(op, 0) < op->fd;

    op->lanes_ &= (uint8_t)~WAITS_SECOND;
    for (unsigned step = 0; step < 2; step++) {
        bool second = (step == 1) != swap;
        uint8_t has = second ? HAS_SECOND : HAS_FIRST;
        uint8_t lanes = (second ? op->lanes_ >> SECOND : op->lanes_) & LANE_BOTH;
        struct ouro__file *file;

        if (!lanes || op->lanes_ & has)
            continue;
        file = second ? second_of(loop, op) : ouro__file_of(loop, op);
        if (lanes & (file->busy | wanted_before(loop, file, op->result_))) {
            op->lanes_ |= second ? WAITS_SECOND : 0;
            hold(loop, file, op);
            return false;
        }
        file->busy |= lanes;
        op->lanes_ |= has;
    }
    return true;
}

/* ---- Barriers ------------------------------------------------------------------------------- */

/* Linked by worker_, which nobody needs while they are held. */
static ouro_op *first_barrier(ouro_loop *loop, const struct ouro__file *file)
{
    return file->barrier ? ouro__slot_op(ouro__slot_at(loop, file->barrier - 1)) : NULL;
}

static uint32_t barrier_name(const ouro_op *op)
{
    return op ? (uint32_t)(op->id_ & OURO__SLOT_MASK) + 1 : 0;
}

static void add_barrier(ouro_loop *loop, struct ouro__file *file, ouro_op *op)
{
    op->worker_ = first_barrier(loop, file);
    file->barrier = barrier_name(op);
}

static void drop_barrier(ouro_loop *loop, struct ouro__file *file, ouro_op *op)
{
    ouro_op *at = first_barrier(loop, file);

    if (at == op)
        file->barrier = barrier_name(op->worker_);
    while (at != op && at->worker_ != op)
        at = at->worker_;
    if (at != op)
        at->worker_ = op->worker_;
    op->worker_ = NULL;
    op->lanes_ &= (uint8_t)~WAITS_BARRIER;
}

struct earlier {
    const ouro_op *than;
    uint32_t count;
};

/* An operation that names the file twice leaves it twice. */
static int count_earlier(ouro_loop *loop, ouro_op *op, void *user)
{
    struct earlier *earlier = user;
    const ouro_op *than = earlier->than;
    struct ouro__file *file = ouro__file_of(loop, than);

    if (op == than || !(op->marks_ & MARK_FILE))
        return 0;
    if (op->fd >= 0 && ouro__file_of(loop, op) == file && (int32_t)(than->epoch_ - op->epoch_) > 0)
        earlier->count++;
    if (second_of(loop, op) == file && (int32_t)(than->epoch_ - op->epoch2_) > 0)
        earlier->count++;
    return 0;
}

/* How many operations a BARRIER waits for. In a chain it begins later than it was accepted, and
 * others may have come between. */
static uint32_t earlier_ones(ouro_loop *loop, const ouro_op *op, const struct ouro__file *file)
{
    struct earlier earlier = { .than = op };
    const struct ouro__file *second = second_of(loop, op);
    uint32_t own = second && second == file ? 2 : 1;

    if (!(op->marks_ & MARK_CHAIN) || file->in_flight == own)
        return file->in_flight - own;
    ouro__each_slot(loop, count_earlier, &earlier);
    return earlier.count;
}

/* Does one that is held stand before whoever wants to write behind it? */
bool ouro__order_writes(const ouro_op *op)
{
    uint8_t lanes = op->lanes_ & WAITS_SECOND ? op->lanes_ >> SECOND : op->lanes_;

    return lanes & LANE_WRITE;
}

/* The turn before the first barrier of a file that waits for those of this epoch, or that has come
 * since this turn, waits elsewhere, and claims lanes here. */
static int64_t turn_before_barriers(ouro_loop *loop, const struct ouro__file *file, uint32_t epoch,
                                    int64_t since, int64_t turn)
{
    const ouro_op *at;

    for (at = first_barrier(loop, file); at; at = at->worker_)
        if (at->result_ < turn && (int32_t)(at->epoch_ - epoch) > 0)
            turn = at->result_ - 1;
    for (at = file->claims; at && at->result_ < turn; at = next_claim(at))
        if (at->lanes_ & WAITS_BARRIER && at->result_ > since)
            turn = at->result_ - 1;
    return turn;
}

/* Its turn. A member of a chain begins later than it was accepted: barriers that have come
 * meanwhile wait for it, or for another one behind it, so that it must not wait for them. */
static int64_t next_turn(ouro_loop *loop, const ouro_op *op)
{
    const struct ouro__file *second = second_of(loop, op);
    int64_t turn = loop->turns += 2;

    if (op->marks_ & MARK_CHAIN) {
        turn = turn_before_barriers(loop, ouro__file_of(loop, op), op->epoch_, op->result_, turn);
        if (second)
            turn = turn_before_barriers(loop, second, op->epoch2_, op->result_, turn);
    }
    return turn;
}

/* 1: may start; 0: it is held. */
int ouro__order_enter(ouro_loop *loop, ouro_op *op)
{
    struct ouro__file *file = ouro__file_of(loop, op);

    if (op->code == OURO_CLOSE) {
        if (file->in_flight == 1)
            return 1;
        file->closer = op;
        return 0;
    }
    want(loop, op, file);
    if (op->flags & OURO_BARRIER && (op->waits_ = earlier_ones(loop, op, file))) {
        op->lanes_ |= WAITS_BARRIER;
        op->marks_ |= MARK_LANES;
        op->result_ = next_turn(loop, op);
        add_barrier(loop, file, op);
        hold(loop, file, op);
        return 0;
    }
    if (!op->lanes_)
        return 1;
    op->marks_ |= MARK_LANES;
    op->result_ = next_turn(loop, op);
    return advance(loop, op);
}

/* The first held operations whose lanes are free now start. */
static void release(ouro_loop *loop, struct ouro__file *file)
{
    uint8_t blocked = file->busy;
    ouro_op *next;

    for (ouro_op *op = file->held.head; op; op = next) {
        bool second = op->lanes_ & WAITS_SECOND;
        uint8_t lanes = lanes_here(op, false);

        next = op->next_;
        blocked |= claimed_before(file, op->result_);
        if ((wanted(file) & ~blocked) == 0)
            return;
        if (op->lanes_ & WAITS_BARRIER || lanes & blocked) {
            blocked |= lanes;
            continue;
        }
        unhold(loop, file, op);
        file->busy |= lanes;
        blocked |= lanes;
        op->lanes_ |= second ? HAS_SECOND : HAS_FIRST;
        if (advance(loop, op))
            ouro__start(loop, op);
    }
}

/* An operation of an epoch before theirs is final: barriers come closer. */
static void approach(ouro_loop *loop, struct ouro__file *file, uint32_t epoch)
{
    ouro_op *next;

    for (ouro_op *op = first_barrier(loop, file); op; op = next) {
        uint8_t lanes = op->lanes_ & LANE_BOTH;

        next = op->worker_;
        if ((int32_t)(op->epoch_ - epoch) <= 0 || --op->waits_)
            continue;
        drop_barrier(loop, file, op);
        /* Held in its place: release() comes next. But lanes on two files are taken in their
         * order. */
        if (lanes && !(op->lanes_ >> SECOND & LANE_BOTH))
            continue;
        unhold(loop, file, op);
        if (advance(loop, op))
            ouro__start(loop, op);
    }
}

/* Takes a HELD operation out of its list, because it ends. */
void ouro__order_unhold(ouro_loop *loop, ouro_op *op)
{
    bool second = op->lanes_ & WAITS_SECOND;
    struct ouro__file *file = second ? second_of(loop, op) : ouro__file_of(loop, op);

    if (op->code == OURO_CLOSE) {
        file->closer = NULL;
        return;
    }
    unhold(loop, file, op);
    if (op->lanes_ & WAITS_BARRIER)
        drop_barrier(loop, file, op);
    op->lanes_ &= (uint8_t)~WAITS_SECOND;
}

static inline void leave(ouro_loop *loop, struct ouro__file *file, uint32_t epoch)
{
    if (file->held.head) {
        if (file->barrier)
            approach(loop, file, epoch);
        release(loop, file);
    }
    uncount(loop, file);
}

/* Somebody may wait for it. */
void ouro__file_leave_slowly(ouro_loop *loop, ouro_op *op)
{
    struct ouro__file *first = ouro__file_counted(op);
    struct ouro__file *second = second_of(loop, op);

    if (op->marks_ & MARK_LANES) {
        if (op->lanes_ & HAS_FIRST)
            first->busy &= (uint8_t) ~(op->lanes_ & LANE_BOTH);
        if (second && op->lanes_ & HAS_SECOND)
            second->busy &= (uint8_t) ~(op->lanes_ >> SECOND & LANE_BOTH);
    }
    op->marks_ &= (uint8_t) ~(MARK_LANES | MARK_FILE);
    leave(loop, first, op->epoch_);
    if (second)
        leave(loop, second, op->epoch2_);
}

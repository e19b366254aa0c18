/* SPDX-License-Identifier: MIT */
/* aio_diff_run.c: runs the steps of a random program, and says what was seen. What a cancel may
 * find begun or not is only held against what aio_error says afterwards. */
#include "aio_diff_model.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UNTOUCHED_ERRNO = 4711, LIST_VALUE = 1000 };

static bool patient; /* this is not the reference */

/* ---- Asking --------------------------------------------------------------------------------- */

static void say_result(unsigned number, int r)
{
    if (r == -1)
        say("%u: -1, errno %d\n", number, errno);
    else if (errno != UNTOUCHED_ERRNO)
        say("%u: %d, errno changed\n", number, r);
    else
        say("%u: %d\n", number, r);
}

static int submit(const struct ask *ask, struct aiocb *block)
{
    errno = UNTOUCHED_ERRNO;
    switch (ask->what) {
    case READ: return aio_read(block);
    case WRITE: return aio_write(block);
    case SYNC: return aio_fsync(O_SYNC, block);
    case DATASYNC: return aio_fsync(O_DSYNC, block);
    default: return aio_fsync(ask->variant % 2 ? 0 : 4711, block);
    }
}

/* Byte by byte, also what is between the members. */
static bool is_same(const void *one, const void *two)
{
    return memcmp(one, two, sizeof(struct aiocb)) == 0;
}

static void do_ask(unsigned number, struct ask ask)
{
    struct aiocb *block = &blocks[ask.block], before;
    bool alone;
    int r;

    tame(&ask);
    alone = is_alone(&ask);
    settle_block(ask.block);
    if (alone || conflicts(&ask))
        settle(ask.target);
    if (alone && ask.what == READ && targets[ask.target].kind != PIPE_WRITE)
        feed(ask.target, 16, 9);
    prepare(&ask, number, 0, -1);
    before = *block;
    r = submit(&ask, block);
    say_result(number, r);
    if (r == -1) {
        flight_count--;
        if (bad_priority(&ask) && ask.what != BAD_SYNC)
            say("b%u: %d, %zd\n", ask.block, aio_error(block), aio_return(block));
        else
            say("b%u: %s\n", ask.block, is_same(&before, block) ? "as it was" : "new");
        /* So that nothing random is taken for its state. */
        clear(block, targets[ask.target].fd);
    }
    if (ask.what == SYNC || ask.what == DATASYNC)
        say("b%u: priority %d\n", ask.block, block->aio_reqprio);
    if (alone && r == 0) {
        await(block);
        say_done(flight_count - 1);
    }
    if (alone)
        world_forget(ask.target);
}

/* ---- Lists ---------------------------------------------------------------------------------- */

/* Whether it can be in a list with those that are prepared. */
static bool fits(struct ask *ask, enum mode mode, unsigned before)
{
    if (ask->what == NO_BLOCK || flight_of(ask->block) >= 0)
        return false;
    if (has_no_position(targets[ask->target].kind)) {
        if (ask->offset < 0)
            ask->offset = 0;
        if (ask->notify == SIGNAL_BAD)
            ask->notify = NONE;
    }
    if (conflicts(ask))
        return false;
    if (mode != MODE_WAIT || ask->what != READ || !waits_for_bytes(ask))
        return true;
    for (unsigned i = before; i < flight_count; i++)
        if (flights[i].ask.target == ask->target)
            return false;
    if (targets[ask->target].avail == 0)
        feed(ask->target, 8, 7);
    return true;
}

/* Ends those that must not be in flight when the list is made. */
static void make_way(const struct step *step)
{
    for (int i = 0; i < step->count; i++) {
        struct ask ask = step->asks[i];

        if (ask.what == NO_BLOCK)
            continue;
        tame(&ask);
        settle_block(ask.block);
        if (step->mode == MODE_WAIT || conflicts(&ask))
            settle(ask.target);
    }
}

struct list {
    struct aiocb *entries[ENTRIES], before[ENTRIES];
    unsigned blocks[ENTRIES];
    bool idle[ENTRIES]; /* it has nothing to do, or cannot be had */
};

static void make_list(struct list *ret, const struct step *step, int list)
{
    unsigned before = flight_count, used = 0;

    for (int i = 0; i < step->count; i++) {
        struct ask ask = step->asks[i];

        ret->entries[i] = NULL;
        if (ask.what != NO_BLOCK)
            tame(&ask);
        if ((used >> ask.block & 1) || !fits(&ask, step->mode, before))
            continue;
        used |= 1u << ask.block;
        prepare(&ask, (unsigned)list, (unsigned)i, list);
        ret->entries[i] = &blocks[ask.block];
        ret->before[i] = blocks[ask.block];
        ret->blocks[i] = ask.block;
        ret->idle[i] = ask.what == NOP || bad_priority(&ask) || step->mode == MODE_BAD;
        if (ret->idle[i])
            flight_count--;
        else
            list_left[list]++;
    }
}

/* Those that were not to be queued. */
static void say_idle(const struct list *list, const struct step *step)
{
    for (int i = 0; i < step->count; i++) {
        struct aiocb *block = list->entries[i];

        if (!block || !list->idle[i])
            continue;
        if (step->mode == MODE_BAD || block->aio_lio_opcode == LIO_NOP)
            say("b%u: %s\n", list->blocks[i],
                is_same(&list->before[i], block) ? "as it was" : "new");
        else
            say("b%u: %d, %zd\n", list->blocks[i], aio_error(block), aio_return(block));
        clear(block, list->before[i].aio_fildes);
    }
}

static void do_list(unsigned number, const struct step *step)
{
    static const int modes[] = { LIO_WAIT, LIO_NOWAIT, 7 };
    struct sigevent event = world_event(step->notify, step->variant, LIST_VALUE + (int)number);
    bool tells = world_tells(step->notify) && step->mode == MODE_NOWAIT;
    struct list list;
    unsigned before;
    int r;

    make_way(step);
    before = flight_count;
    list_left[number] = 0;
    make_list(&list, step, (int)number);
    if (!tells || list_left[number] == 0)
        for (unsigned i = before; i < flight_count; i++)
            flights[i].list = -1;
    errno = UNTOUCHED_ERRNO;
    r = lio_listio(modes[step->mode], list.entries, step->count,
                   step->notify == NONE && step->variant % 2 ? NULL : &event);
    say_result(number, r);
    if (tells && list_left[number] == 0)
        expected++;
    say_idle(&list, step);
    for (unsigned i = before; step->mode == MODE_WAIT && i < flight_count; i++)
        if (aio_error(&blocks[flights[i].ask.block]) == EINPROGRESS)
            say("b%u goes on\n", flights[i].ask.block);
    if (step->mode == MODE_WAIT)
        settle_all();
}

/* ---- Looking and cancelling ------------------------------------------------------------------ */

static void do_suspend(unsigned number, const struct step *step)
{
    static const struct timespec times[] = { { 0, 0 },    { 0, 0 },  { 0, 1000 },
                                             { 3600, 0 }, { -1, 0 }, { 0, 1000000000 } };
    const struct aiocb *list[ENTRIES];
    enum timeout timeout = step->timeout;
    bool waits = false, over = false;

    for (int i = 0; i < step->count; i++) {
        const struct ask *ask = &step->asks[i];
        int which = flight_of(ask->block);

        list[i] = ask->what == NO_BLOCK ? NULL : &blocks[ask->block];
        if (list[i] && which >= 0 && may_end((unsigned)which) &&
            (timeout != FOREVER || fate_of((unsigned)which) == UNSURE))
            settle(flights[which].ask.target);
    }
    for (int i = 0; i < step->count; i++) {
        int which = list[i] ? flight_of(step->asks[i].block) : -1;

        if (list[i] && (which < 0 || fate_of((unsigned)which) == SURE))
            over = true;
        waits = waits || which >= 0;
    }
    if (waits && !over && (timeout == FOREVER || timeout == HOUR || timeout == BAD_NSEC))
        timeout = POLL; /* it would wait, or glibc ends the program */
    errno = UNTOUCHED_ERRNO;
    say_result(number, aio_suspend(list, step->count, timeout == FOREVER ? NULL : &times[timeout]));
}

static void do_look(unsigned number, const struct step *step)
{
    int which = flight_of(step->block);
    struct aiocb *block = &blocks[step->block];

    if (which >= 0 && (may_end((unsigned)which) || step->op == DO_RETURN))
        settle(flights[which].ask.target);
    errno = UNTOUCHED_ERRNO;
    say_result(number, step->op == DO_ERROR ? aio_error(block) : (int)aio_return(block));
}

/* What aio_cancel may say of one that may have begun, or be over. */
static bool agrees(int result, int error)
{
    return result == AIO_CANCELED ? error == ECANCELED : error != ECANCELED;
}

/* Where the first on a descriptor has not begun and is cancelled, glibc forgets those behind it. */
static void cancel_flight(unsigned number, unsigned which)
{
    unsigned target = flights[which].ask.target;
    struct aiocb *block = &blocks[flights[which].ask.block];
    enum fate fate = fate_of(which);
    bool reads = flights[which].ask.what == READ && is_file(targets[target].kind);
    int r;

    if (fate == UNSURE || (fate == SURE && !reads) || (fate != QUEUED && has_followers(which)) ||
        any_bad_signal(target)) {
        settle(target);
        say_result(number, aio_cancel(targets[target].fd, block));
        return;
    }
    r = aio_cancel(targets[target].fd, block);
    if (fate == QUEUED) {
        say_result(number, r);
        say("b%u: %d\n", flights[which].ask.block, aio_error(block));
        if (aio_error(block) == ECANCELED)
            say_done(which);
        return;
    }
    flights[which].vague = true;
    if (r < 0 || (r == AIO_CANCELED) != (aio_error(block) == ECANCELED))
        say("%u: aio_cancel says %d, aio_error %d\n", number, r, aio_error(block));
    if (fate == SURE)
        await(block);
    if (!agrees(r, aio_error(block)))
        say("%u: aio_cancel said %d, aio_error %d\n", number, r, aio_error(block));
    settle(target);
}

static void do_cancel_one(unsigned number, const struct step *step)
{
    struct aiocb *block = &blocks[step->block];
    int which = flight_of(step->block), fd = block->aio_fildes;

    errno = UNTOUCHED_ERRNO;
    if (step->variant == 0)
        fd = targets[step->target].fd;
    if (step->variant == 1)
        fd = -1;
    if (fd == block->aio_fildes && which >= 0)
        cancel_flight(number, (unsigned)which);
    else
        say_result(number, aio_cancel(fd, block));
}

static void do_cancel_all(unsigned number, unsigned target)
{
    bool held = any_fate(target, HELD), head = true;
    int r, wanted = AIO_ALLDONE;

    if (any_fate(target, SURE) || any_fate(target, UNSURE) || any_bad_signal(target)) {
        settle(target);
        held = false;
    }
    errno = UNTOUCHED_ERRNO;
    r = aio_cancel(targets[target].fd, NULL);
    if (!held) {
        say_result(number, r);
        return;
    }
    for (unsigned i = 0; i < flight_count; i++) {
        int error = aio_error(&blocks[flights[i].ask.block]);

        if (flights[i].ask.target != target)
            continue;
        if (head)
            wanted = error == ECANCELED ? AIO_CANCELED : AIO_NOTCANCELED;
        else
            say("b%u: %d\n", flights[i].ask.block, error);
        flights[i].vague = head;
        head = false;
    }
    if (r != wanted)
        say("%u: aio_cancel says %d, not %d\n", number, r, wanted);
    settle(target);
}

/* ---- Children ------------------------------------------------------------------------------- */

/* A child has no requests of its parent's, and may make its own. */
static void run_child(unsigned target, int out)
{
    struct itimerval limit = { .it_value = { .tv_usec = 5000 } };
    char text[512], buf[600] = { 0 }, same[600];
    struct aiocb block;
    int count = 0, fd = targets[target].fd;
    ssize_t r;

    if (patient)
        limit.it_value = (struct timeval){ .tv_sec = 10 };
    setitimer(ITIMER_REAL, &limit, NULL);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (flight_of(i) < 0)
            count +=
                snprintf(text + count, sizeof(text) - (size_t)count, " %d", aio_error(&blocks[i]));
    if (is_file(targets[target].kind)) {
        memset(&block, 0x5a, sizeof(block));
        block.aio_fildes = fd;
        block.aio_buf = buf;
        block.aio_nbytes = sizeof(buf);
        block.aio_offset = 5;
        block.aio_reqprio = 0;
        block.aio_sigevent = world_event(NONE, 0, 0);
        if (aio_read(&block) == 0)
            await(&block);
        r = pread(fd, same, sizeof(same), 5);
        count += snprintf(text + count, sizeof(text) - (size_t)count, ", reads %s",
                          r != aio_return(&block) || (r < 0 && errno != aio_error(&block)) ||
                                  (r > 0 && memcmp(buf, same, (size_t)r) != 0)
                              ? "wrong"
                              : "right");
    }
    (void)!write(out, text, (size_t)count + 1);
    _exit(0);
}

static void do_fork(unsigned number, unsigned target)
{
    char text[512] = "";
    int fds[2], status;
    pid_t child;

    for (unsigned i = 0; i < TARGETS; i++)
        if (any_fate(i, SURE) || any_fate(i, UNSURE))
            settle(i);
    if (pipe(fds) < 0 || (child = fork()) < 0) {
        say("! fork: %s\n", strerror(errno));
        return;
    }
    if (child == 0)
        run_child(target, fds[1]);
    close(fds[1]);
    waitpid(child, &status, 0);
    if (read(fds[0], text, sizeof(text)) <= 0)
        say("%u: the child hangs\n", number);
    else
        say("%u: in the child%s\n", number, text);
    close(fds[0]);
}

/* ---- All of it ------------------------------------------------------------------------------ */

static void do_step(const struct program *program, unsigned number)
{
    const struct step *step = &program->steps[number];
    unsigned target = step->target;
    enum kind kind = targets[target].kind;

    switch (step->op) {
    case DO_ASK: do_ask(number, step->asks[0]); break;
    case DO_LIST: do_list(number, step); break;
    case DO_SUSPEND: do_suspend(number, step); break;
    case DO_CANCEL_ONE: do_cancel_one(number, step); break;
    case DO_CANCEL_ALL: do_cancel_all(number, target); break;
    case DO_ERROR:
    case DO_RETURN: do_look(number, step); break;
    case DO_FEED:
        settle(target);
        if (targets[target].far >= 0 && kind != PIPE_WRITE && targets[target].avail < 8000)
            feed(target, kind == TERMINAL ? 9 : 700, number + 50);
        break;
    case DO_WAIT:
        settle_all();
        world_notes(expected);
        break;
    case DO_FORK: do_fork(number, target); break;
    default:
        settle(target);
        world_end(target);
        if (step->op == DO_REOPEN)
            world_open(target, step->kind, program->sizes[target]);
        break;
    }
}

static void begin(const struct program *program, const char *dir)
{
    struct rlimit limit = { FILE_LIMIT, FILE_LIMIT };

    world_begin(dir);
    notes_begin();
    for (unsigned i = 0; i < TARGETS; i++)
        world_open(i, program->kinds[i], program->sizes[i]);
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i].aio_fildes = targets[i % TARGETS].fd;
    signal(SIGXFSZ, SIG_IGN);
    if (program->limited)
        setrlimit(RLIMIT_FSIZE, &limit);
}

void run_program(const struct program *program, uint32_t without, bool reference, const char *dir,
                 char *ret_trace)
{
    say_to(ret_trace);
    patient = !reference;
    begin(program, dir);
    for (unsigned i = 0; i < program->count; i++)
        if (!(without >> i & 1))
            do_step(program, i);
    for (unsigned i = 0; i < TARGETS; i++)
        if (!program->leaves || any_fate(i, SURE) || any_fate(i, UNSURE))
            settle(i);
    world_notes(expected);
    for (unsigned i = 0; i < TARGETS; i++)
        if (flight_count == 0)
            world_end(i);
}

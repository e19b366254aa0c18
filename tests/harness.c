/* SPDX-License-Identifier: MIT */
/* harness.c: one case: its loop, its ledger, its way of submitting and completing, and the search
 * for what is left behind when it ends. The ledger proves one final completion per accepted
 * operation. */
#include <aio.h>
#include <dirent.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "test.h"

/* A build in which the ledger itself is broken must fail: see --self-test. */
#ifndef OURO_CANARY
#define OURO_CANARY 0
#endif
int harness_canary = OURO_CANARY;
char harness_note[128]; /* printed with a failure */

#define ERRNO_MARK 4242 /* the library must leave errno alone */

/* ---- Failing ------------------------------------------------------------------------------- */

void test_fail(const char *file, int line, const char *format, ...)
{
    const char *base = strrchr(file, '/');
    va_list list;

    printf("%s:%d: %s", base ? base + 1 : file, line, harness_note);
    va_start(list, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 is mistaken */
    vprintf(format, list);
    va_end(list);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

static const char *word_of(int64_t value)
{
    return value < 0 && value > -4096 ? strerror((int)-value) : "";
}

void test_equal(const char *file, int line, const char *text, int64_t a, int64_t b)
{
    if (a != b)
        test_fail(file, line, "%s: %lld %s != %lld %s", text, (long long)a, word_of(a),
                  (long long)b, word_of(b));
}

static int print_one(const ouro_op *op, const char *where, ouro_time since, void *user)
{
    (void)user;
    (void)since;
    printf("  in flight: %s fd %d in %s\n", ouro_code_name(op->code), (int)op->fd, where);
    return 0;
}

_Noreturn static void fail_stuck(struct test *t, ouro_op *op)
{
    if (t->mode != MODE_SERVICE)
        ouro_each_inflight(t->loop, print_one, NULL);
    if (op)
        FAIL("%s (fd %d) did not complete in time", ouro_code_name(op->code), (int)op->fd);
    FAIL("nothing completed in time");
}

unsigned seconds_scaled(unsigned seconds)
{
    const char *factor = getenv("OURO_TEST_SLOW");
    unsigned by = factor ? (unsigned)atoi(factor) : 1;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    by *= 6;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
    by *= 6;
#endif
#endif
    return seconds * (by ? by : 1);
}

ouro_time in_ms(struct test *t, int64_t ms)
{
    return (ouro_time)((int64_t)ouro_now(t->loop) + ms * 1000000);
}

/* ---- The ledger ---------------------------------------------------------------------------- */

struct record *record_of(ouro_op *op)
{
    return (struct record *)(void *)op;
}

ouro_op *op_new(struct test *t)
{
    struct record *record = calloc(1, sizeof *record);

    if (!record)
        FAIL("out of memory");
    record->t = t;
    pthread_mutex_lock(&t->lock);
    record->next = t->records;
    t->records = record;
    pthread_mutex_unlock(&t->lock);
    return &record->op;
}

bool is_final(ouro_op *op)
{
    struct record *record = record_of(op);

    return atomic_load(&record->completed) == atomic_load(&record->offered);
}

void op_free(struct test *t, ouro_op *op)
{
    struct record *record = record_of(op), **at = &t->records;

    if (!is_final(op))
        FAIL("freed with %u completions of %u", record->completed, record->offered);
    pthread_mutex_lock(&t->lock);
    while (*at != record)
        at = &(*at)->next;
    *at = record->next;
    pthread_mutex_unlock(&t->lock);
    free(record);
}

/* May its -ETIMEDOUT be the system's, which gives up a silent peer? */
static bool gives_up(const ouro_op *op)
{
    return op->code == OURO_WORK || op->code == OURO_CONNECT || op->code == OURO_RECV ||
           op->code == OURO_SEND || op->code == OURO_RECV_MANY;
}

/* What holds of every completion, whatever the operation. */
static void check_completion(const ouro_op *op, int64_t res, uint32_t cflags)
{
    bool canceled = cflags & OURO_C_CANCELED, timedout = cflags & OURO_C_TIMEDOUT;

    if (cflags & OURO_C_MORE)
        FAIL("a completion is not final");
    if (res == -ECANCELED && op->code != OURO_WORK && !canceled)
        FAIL("%s: -ECANCELED without its flag", ouro_code_name(op->code));
    if (res == -ETIMEDOUT && !gives_up(op) && !timedout)
        FAIL("%s: -ETIMEDOUT without its flag", ouro_code_name(op->code));
    if (canceled && timedout)
        FAIL("%s: canceled and timed out at once", ouro_code_name(op->code));
    if (res <= -512 && op->code != OURO_WORK)
        FAIL("%s: the kernel's own %lld came out", ouro_code_name(op->code), (long long)res);
    if (op->code != OURO_WORK && res == -EINTR)
        FAIL("%s: -EINTR came out", ouro_code_name(op->code));
    if (op->code == OURO_READ || op->code == OURO_WRITE)
        if (res == -EAGAIN && !(op->flags & OURO_FDMODE))
            FAIL("%s: -EAGAIN came out", ouro_code_name(op->code));
    if (!ouro_done(op))
        FAIL("%s: completed, but ouro_done says no", ouro_code_name(op->code));
}

/* Every completion comes through here, whatever its way. */
static void ledger_complete(ouro_op *op, int64_t res, uint32_t cflags)
{
    struct record *record = record_of(op);
    struct test *t = record->t;
    uint32_t times = 1;

    if (harness_canary == 1 || harness_canary == 2) {
        times = harness_canary == 1 ? 0 : 2;
        harness_canary = 0;
    }
    pthread_mutex_lock(&t->lock);
    if (res != op->res || cflags != op->cflags)
        FAIL("event and operation differ: %lld, %lld; %x, %x", (long long)res, (long long)op->res,
             cflags, op->cflags);
    record->res = res;
    record->cflags = cflags;
    record->order = t->order + 1;
    check_completion(op, res, cflags);
    if (atomic_load(&record->completed) + times > atomic_load(&record->offered))
        FAIL("%s: more completions than accepted submissions", ouro_code_name(op->code));
    atomic_fetch_add(&record->completed, times); /* from here on others may use it again */
    atomic_fetch_add(&t->order, 1); /* last: who counts completions looks at it first */
    pthread_cond_broadcast(&t->completed);
    pthread_mutex_unlock(&t->lock);
}

/* A completion that is not the last. */
static void ledger_more(ouro_op *op, int64_t res, uint32_t cflags, void *data)
{
    struct record *record = record_of(op);
    struct test *t = record->t;

    if (!record->more)
        FAIL("%s: a completion is not final", ouro_code_name(op->code));
    if (res < 0 || cflags & (OURO_C_CANCELED | OURO_C_TIMEDOUT) || !(cflags & OURO_C_BUF) != !data)
        FAIL("%s: a completion that is not final says %lld, %x", ouro_code_name(op->code),
             (long long)res, cflags);
    record->more(t, op, res, data);
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->order, 1);
    pthread_cond_broadcast(&t->completed);
    pthread_mutex_unlock(&t->lock);
}

static void ledger_callback(ouro_op *op)
{
    struct record *record = record_of(op);
    struct test *t = record->t;
    ouro_id id = ouro_op_id(op);

    if (!id)
        FAIL("no id in the callback");
    record->thread = pthread_self();
    if (op->cflags & OURO_C_MORE) {
        ledger_more(op, op->res, op->cflags, op->cflags & OURO_C_BUF ? op->data : NULL);
        return;
    }
    ledger_complete(op, op->res, op->cflags);
    if (record->then) /* may free it */
        record->then(t, op);
}

void ledger_event(struct test *t, const ouro_event *event)
{
    if (event->op && event->cflags & OURO_C_MORE) {
        ledger_more(event->op, event->res, event->cflags, event->data);
    } else if (event->op) {
        if (event->cause != event->op->cause)
            FAIL("event and operation differ in their cause");
        if (event->cflags & OURO_C_MESSAGE)
            FAIL("a message bears an operation");
        ledger_complete(event->op, event->res, event->cflags);
    } else {
        if (!(event->cflags & OURO_C_MESSAGE))
            FAIL("an event without operation is no message");
        pthread_mutex_lock(&t->lock);
        t->words[t->word_count++ % 64] = event->res;
        pthread_mutex_unlock(&t->lock);
    }
}

void ledger_waited(struct test *t, ouro_op *op)
{
    (void)t;
    ledger_complete(op, op->res, op->cflags);
}

void ledger_quiet(ouro_op *op)
{
    if (!ouro_done(op))
        FAIL("a quiet operation is not done");
    record_of(op)->completed++;
}

void ledger_forget(ouro_op *op)
{
    struct record *record = record_of(op);

    record->offered = record->completed = 0;
}

/* Offered before the call, for in SERVICE the completion may be faster than submit's return. */
void ledger_offer(ouro_op *op)
{
    atomic_fetch_add(&record_of(op)->offered, 1);
}

/* An accepted one may have been freed by its callback. */
void ledger_answer(struct test *t, ouro_op *op, bool accepted)
{
    struct record *record = record_of(op);

    if (accepted) {
        atomic_fetch_add(&t->accepted, 1);
        return;
    }
    atomic_fetch_sub(&record->offered, 1);
    if (atomic_load(&record->completed) > atomic_load(&record->offered))
        FAIL("%s: refused, and completed", ouro_code_name(op->code));
}

/* After the loop's end: all that was accepted is final. What a test did not collect by intent
 * (t->drops) was dropped with the loop. */
static void ledger_judge(struct test *t)
{
    for (struct record *record = t->records; record; record = record->next) {
        uint32_t offered = record->offered, completed = record->completed;

        if (completed == offered)
            continue;
        if (t->drops && completed + 1 == offered && !record->op.cb && ouro_done(&record->op))
            continue;
        FAIL("lost: %s was accepted %u times and completed %u times",
             ouro_code_name(record->op.code), offered, completed);
    }
}

/* ---- Submitting ---------------------------------------------------------------------------- */

/* SERVICE loops call back on their own thread, hosted ones there are watched by an eventfd. */
static bool by_callback(const struct test *t)
{
    return t->style == STYLE_CALLBACK || (t->style == STYLE_HOSTED && t->mode != MODE_SERVICE);
}

static void dress(struct test *t, ouro_op *op)
{
    struct record *record = record_of(op);

    op->cb = (by_callback(t) && !record->own_event) || record->own_cb ? ledger_callback : NULL;
}

int start_try(struct test *t, ouro_op *op)
{
    int r;

    dress(t, op);
    ledger_offer(op);
    errno = ERRNO_MARK;
    r = ouro_submit(t->loop, op);
    if (errno != ERRNO_MARK)
        FAIL("submit touched errno");
    ledger_answer(t, op, r >= 0);
    return r;
}

void start(struct test *t, ouro_op *op)
{
    int r = start_try(t, op);

    if (r < 0)
        FAIL("%s was refused: %s", ouro_code_name(op->code), strerror(-r));
}

static int start_many(struct test *t, ouro_op *const *ops, unsigned count,
                      int (*submit)(ouro_loop *, ouro_op *const *, unsigned), bool all)
{
    int r;

    for (unsigned i = 0; i < count; i++) {
        dress(t, ops[i]);
        ledger_offer(ops[i]);
    }
    r = submit(t->loop, ops, count);
    for (unsigned i = 0; i < count; i++)
        ledger_answer(t, ops[i], r >= 0 && (all || i < (unsigned)r));
    return r;
}

int start_n(struct test *t, ouro_op *const *ops, unsigned count)
{
    return start_many(t, ops, count, ouro_submit_n, false);
}

int start_chain(struct test *t, ouro_op *const *ops, unsigned count)
{
    return start_many(t, ops, count, ouro_chain, true);
}

int start_post(struct test *t, ouro_op *op)
{
    ouro_id id = 0;
    int r;

    dress(t, op);
    ledger_offer(op);
    r = ouro_post(t->loop, op, &id);
    if (r >= 0 && !id)
        FAIL("posted without a name");
    record_of(op)->id = id;
    ledger_answer(t, op, r >= 0);
    return r;
}

int start_push(struct test *t, ouro_sendq *queue, ouro_op *op)
{
    int r;

    dress(t, op);
    ledger_offer(op);
    r = ouro_sendq_push(queue, op);
    ledger_answer(t, op, r >= 0);
    return r;
}

/* ---- Completing ---------------------------------------------------------------------------- */

unsigned reap_all(struct test *t)
{
    ouro_event events[32];
    unsigned total = 0;
    int count;

    do {
        count = ouro_reap(t->loop, events, 32);
        if (count < 0)
            FAIL("ouro_reap: %s", strerror(-count));
        for (int i = 0; i < count; i++)
            ledger_event(t, &events[i]);
        total += (unsigned)count;
    } while (count == 32);
    return total;
}

static uint64_t count_completions(struct test *t)
{
    return atomic_load(&t->order) + atomic_load(&t->word_count);
}

static void checked_run(struct test *t, unsigned min, ouro_time until)
{
    int r;

    errno = ERRNO_MARK;
    r = ouro_run(t->loop, min, until);
    if (r < 0)
        FAIL("ouro_run: %s", strerror(-r));
    if (errno != ERRNO_MARK)
        FAIL("ouro_run touched errno");
}

static int until_ms(struct test *t, ouro_time until)
{
    ouro_time now = ouro_now(t->loop);

    if (until == OURO_FOREVER || until > t->limit)
        until = t->limit;
    return until <= now ? 0 : (int)((until - now + 999999) / 1000000);
}

static void turn_hosted(struct test *t)
{
    struct epoll_event event;
    int r, ms = ouro_timeout_ms(t->loop), limit = until_ms(t, OURO_FOREVER);

    if (ms < 0 || ms > limit)
        ms = limit;
    r = epoll_wait(t->epoll, &event, 1, ms);
    if (r < 0 && errno != EINTR)
        FAIL("epoll_wait: %s", strerror(errno));
    r = ouro_dispatch(t->loop, 0);
    if (r < 0)
        FAIL("ouro_dispatch: %s", strerror(-r));
}

static void turn_notified(struct test *t)
{
    struct pollfd poll_fd = { .fd = t->notify, .events = POLLIN };
    uint64_t value;

    if (reap_all(t))
        return;
    if (poll(&poll_fd, 1, until_ms(t, OURO_FOREVER)) > 0 &&
        read(t->notify, &value, sizeof value) < 0 && errno != EAGAIN)
        FAIL("notify eventfd: %s", strerror(errno));
    reap_all(t);
}

/* SERVICE: the library's thread calls back. */
static void turn_watching(struct test *t, uint64_t seen)
{
    struct timespec until = { .tv_sec = (time_t)(t->limit / 1000000000),
                              .tv_nsec = (long)(t->limit % 1000000000) };

    pthread_mutex_lock(&t->lock);
    while (count_completions(t) == seen)
        if (pthread_cond_timedwait(&t->completed, &t->lock, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&t->lock);
}

static void turn_from(struct test *t, uint64_t seen)
{
    if (t->mode == MODE_SERVICE && t->style == STYLE_CALLBACK) {
        turn_watching(t, seen);
    } else if (t->mode == MODE_SERVICE && t->style == STYLE_HOSTED) {
        turn_notified(t);
    } else if (t->style == STYLE_HOSTED) {
        turn_hosted(t);
        reap_all(t); /* messages, and operations that want events */
    } else if (t->mode == MODE_SERVICE) {
        checked_run(t, 1, in_ms(t, 10)); /* it waits for events; callbacks are counted elsewhere */
        reap_all(t);
    } else {
        checked_run(t, 1, t->limit);
        reap_all(t);
    }
}

void wait_completions(struct test *t, uint64_t count)
{
    uint64_t seen;

    while (seen = count_completions(t), seen < count) {
        if (ouro_now(t->loop) >= t->limit)
            fail_stuck(t, NULL);
        turn_from(t, seen);
    }
}

void step(struct test *t)
{
    int r = 0;

    if (t->mode == MODE_SERVICE)
        r = ouro_flush(t->loop);
    else if (t->style == STYLE_HOSTED)
        r = ouro_dispatch(t->loop, 0);
    else
        checked_run(t, 0, OURO_NOWAIT);
    if (r < 0)
        FAIL("step: %s", strerror(-r));
    if (t->style != STYLE_WAIT)
        reap_all(t);
}

void let_pass(struct test *t)
{
    for (int i = 0; i < 20; i++) {
        if (t->mode != MODE_SERVICE)
            CHECK(ouro_run(t->loop, 0, OURO_NOWAIT) >= 0);
        usleep(1000);
    }
}

void let_rest(struct test *t)
{
    for (int i = 0; i < 20; i++) {
        step(t);
        reap_all(t);
        usleep(1000);
    }
}

static void finish_waiting(struct test *t, ouro_op *op)
{
    int r;

    errno = ERRNO_MARK;
    r = ouro_wait(t->loop, op, t->limit);
    if (errno != ERRNO_MARK)
        FAIL("ouro_wait touched errno");
    if (r == -ETIME)
        fail_stuck(t, op);
    if (r < 0)
        FAIL("ouro_wait: %s", strerror(-r));
    ledger_waited(t, op);
}

int64_t finish(struct test *t, ouro_op *op)
{
    struct record *record = record_of(op);
    uint64_t seen;

    if (t->style == STYLE_WAIT && !record->own_cb && !is_final(op))
        finish_waiting(t, op);
    while (seen = count_completions(t), !is_final(op)) {
        if (ouro_now(t->loop) >= t->limit)
            fail_stuck(t, op);
        turn_from(t, seen);
    }
    return record->res;
}

void finish_canceled(struct test *t, ouro_op *op)
{
    CHECK_EQ(finish(t, op), -ECANCELED);
    CHECK(CFLAGS(op) & OURO_C_CANCELED);
}

void cancel_and_finish(struct test *t, ouro_op *op)
{
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(op)), 0);
    finish_canceled(t, op);
}

int64_t do_op(struct test *t, ouro_op *op)
{
    start(t, op);
    return finish(t, op);
}

void finish_all(struct test *t)
{
    for (struct record *record = t->records; record; record = record->next)
        if (!is_final(&record->op))
            finish(t, &record->op);
}

/* ---- The loop ------------------------------------------------------------------------------ */

/* As realloc, with its size in front, so that what lives can be counted. */
static void *counted(void *ctx, void *old, size_t size)
{
    struct test *t = ctx;
    void *at;

    if (!size) {
        if (old)
            atomic_fetch_sub(&t->allocated, 1);
        free(old);
        return NULL;
    }
    at = realloc(old, size);
    if (at && !old)
        atomic_fetch_add(&t->allocated, 1);
    return at;
}

void config_for(struct test *t, ouro_config *config)
{
    static const uint64_t masks[MASK_COUNT] = {
        [MASK_CACHE] = OURO_CAP_NOWAIT | OURO_CAP_CACHED,
        [MASK_NAMES] = OURO_CAP_NAMES,
        [MASK_RING] = OURO_CAP_DEFER | OURO_CAP_SINGLE | OURO_CAP_RING_FD | OURO_CAP_NO_ARRAY |
                      OURO_CAP_RESIZE,
        [MASK_FIXED] = OURO_CAP_FIXED,
        [MASK_SMALL] = OURO_CAP_PIDFD | OURO_CAP_NOSIGNAL | OURO_CAP_MULTISHOT | OURO_CAP_ZEROCOPY,
    };

    memset(config, 0, sizeof *config);
    config->size = sizeof *config;
    config->threading = (uint32_t)t->mode; /* the header's order */
    config->engine = t->engine;
    config->mask = masks[t->mask];
    config->alloc = counted;
    config->alloc_ctx = t;
}

int set_notify_try(struct test *t, ouro_notify notify)
{
    notify.size = sizeof notify;
    return ouro_set_notify(t->loop, &notify);
}

void set_notify(struct test *t, ouro_notify notify)
{
    CHECK_EQ(set_notify_try(t, notify), 0);
}

/* -errno: the loop cannot be hosted, as when a test lets system calls fail. */
static int prepare_hosting(struct test *t)
{
    struct epoll_event event = { .events = EPOLLIN };

    if (t->style != STYLE_HOSTED)
        return 0;
    if (t->mode == MODE_SERVICE) {
        t->notify = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        CHECK(t->notify >= 0);
        return set_notify_try(t, (ouro_notify){ .kind = OURO_NOTIFY_EVENTFD, .fd = t->notify });
    } else {
        int fd = ouro_pollfd(t->loop);

        if (fd < 0)
            return fd;
        t->epoll = epoll_create1(EPOLL_CLOEXEC);
        CHECK_EQ(epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &event), 0);
    }
    return 0;
}

static void close_hosting(struct test *t)
{
    if (t->epoll >= 0)
        close(t->epoll);
    if (t->notify >= 0)
        close(t->notify);
    t->epoll = t->notify = -1;
}

int open_loop_try(struct test *t)
{
    int r;

    errno = ERRNO_MARK;
    r = ouro_open(&t->config, &t->loop);
    if (errno != ERRNO_MARK)
        FAIL("ouro_open touched errno");
    if (r < 0)
        return r;
    t->limit =
        ouro_now(t->loop) + seconds_scaled(t->what->seconds ? t->what->seconds : 10) * 800000000ull;
    r = prepare_hosting(t);
    if (r < 0) {
        CHECK_EQ(ouro_close(t->loop, t->limit), 0);
        t->loop = NULL;
        close_hosting(t);
    }
    return r;
}

void open_loop(struct test *t)
{
    int r = open_loop_try(t);

    if (r < 0)
        FAIL("ouro_open: %s", strerror(-r));
}

bool open_loop_wanting(struct test *t, uint64_t caps)
{
    int r;

    t->config.want = caps;
    r = open_loop_try(t);
    if (r == 0)
        return true;
    CHECK_EQ(r, -EOPNOTSUPP);
    t->config.want = 0;
    open_loop(t);
    return false;
}

void close_loop(struct test *t)
{
    int r = ouro_close(t->loop, ouro_now(t->loop) + seconds_scaled(6) * 1000000000ull);

    if (r < 0) {
        if (t->mode != MODE_SERVICE)
            ouro_each_inflight(t->loop, print_one, NULL);
        FAIL("ouro_close: %s", strerror(-r));
    }
    t->loop = NULL;
    close_hosting(t);
    ledger_judge(t);
    if (harness_canary == 5)
        atomic_fetch_add(&t->allocated, 1);
    if (t->allocated != 0)
        FAIL("leaked: %ld allocations of the loop live on", (long)t->allocated);
}

/* ---- Files --------------------------------------------------------------------------------- */

const char *path_in(struct test *t, const char *name)
{
    static _Thread_local char paths[16][256];
    static _Thread_local unsigned at;
    char *path = paths[at++ % 16];

    snprintf(path, sizeof paths[0], "%s/%s", t->dir, name);
    return path;
}

int made(struct test *t, int fd)
{
    if (fd < 0)
        FAIL("no descriptor: %s", strerror(errno));
    if (t->made_count == 64)
        FAIL("too many descriptors");
    if (t->fdmode == FD_NONBLOCK)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    t->made[t->made_count] = fd;
    t->made_flags[t->made_count++] = fcntl(fd, F_GETFL);
    return fd;
}

void unmade(struct test *t, int fd)
{
    for (unsigned i = 0; i < t->made_count; i++)
        if (t->made[i] == fd) {
            t->made[i] = t->made[--t->made_count];
            t->made_flags[i] = t->made_flags[t->made_count];
            return;
        }
    FAIL("descriptor %d is not of the helpers", fd);
}

static void close_made(struct test *t)
{
    for (unsigned i = 0; i < t->made_count; i++) {
        int flags = fcntl(t->made[i], F_GETFL);

        if (flags != t->made_flags[i])
            FAIL("flags of descriptor %d changed: %x to %x", t->made[i], t->made_flags[i], flags);
        close(t->made[i]);
    }
    t->made_count = 0;
}

int make_file(struct test *t, const char *name, const void *data, size_t len)
{
    int fd = made(t, open(path_in(t, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));

    for (size_t at = 0; at < len;) {
        ssize_t r = pwrite(fd, (const char *)data + at, len - at, (off_t)at);

        if (r <= 0)
            FAIL("writing %s: %s", name, strerror(errno));
        at += (size_t)r;
    }
    return fd;
}

int make_direct(struct test *t, const char *name, const void *data, size_t len)
{
    int fd = make_file(t, name, data, len);

    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    return made(t, open(path_in(t, name), O_RDWR | O_DIRECT | O_CLOEXEC));
}

void make_pipe(struct test *t, int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) != 0)
        FAIL("pipe2: %s", strerror(errno));
    made(t, fds[0]);
    made(t, fds[1]);
}

void make_socketpair(struct test *t, int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        FAIL("socketpair: %s", strerror(errno));
    made(t, fds[0]);
    made(t, fds[1]);
}

void make_stream(struct test *t, bool socket, int fds[2])
{
    if (socket)
        make_socketpair(t, fds);
    else
        make_pipe(t, fds);
}

bool readable(int fd, int ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    return poll(&poll_fd, 1, ms) == 1;
}

static unsigned char filled_byte(size_t i, uint32_t seed)
{
    return (unsigned char)((i * 2654435761u + seed * 40503u) >> 7);
}

void fill(void *buf, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)buf)[i] = filled_byte(i, seed);
}

void check_filled(const void *buf, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++)
        if (((const unsigned char *)buf)[i] != filled_byte(i, seed))
            FAIL("wrong byte at %zu", i);
}

/* ---- Connections --------------------------------------------------------------------------- */

int make_listener(struct test *t, struct sockaddr_in *ret_addr)
{
    int fd = made(t, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    socklen_t size = sizeof(*ret_addr);

    memset(ret_addr, 0, sizeof(*ret_addr));
    ret_addr->sin_family = AF_INET;
    ret_addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(fd, (struct sockaddr *)ret_addr, sizeof(*ret_addr)), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)ret_addr, &size), 0);
    CHECK_EQ(listen(fd, 512), 0);
    return fd;
}

int connect_to(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK_EQ(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
    return fd;
}

void make_tcp(struct test *t, int fds[2])
{
    struct sockaddr_in addr;
    int listener = make_listener(t, &addr);

    fds[0] = made(t, connect_to(&addr));
    CHECK(readable(listener, 1000));
    fds[1] = made(t, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

void expect_exit_zero(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (status != 0)
        FAIL("the child ended with %x", status);
}

bool ends_within(pid_t child, unsigned seconds, int *ret_status)
{
    for (unsigned ms = 0; ms < seconds * 1000; ms++, usleep(1000))
        if (waitpid(child, ret_status, WNOHANG) == child)
            return true;
    return false;
}

int64_t plain(int64_t result)
{
    return result < 0 ? -errno : result;
}

/* ---- What is left behind ------------------------------------------------------------------- */

static long count_entries(const char *path)
{
    DIR *dir = opendir(path);
    long count = 0;

    if (!dir)
        return -1;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

long count_fds(void)
{
    return count_entries("/proc/self/fd");
}

long count_threads(void)
{
    return count_entries("/proc/self/task");
}

void drop_privileges(uid_t user)
{
    if (getuid() == 0)
        CHECK_EQ(setuid(user), 0);
}

long locked_kib(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    long kib = 0;

    while (file && fgets(line, sizeof line, file))
        sscanf(line, "VmLck: %ld", &kib);
    if (file)
        fclose(file);
    return kib;
}

static void list_fds(void)
{
    char path[64], target[PATH_MAX];

    for (int fd = 0; fd < 64; fd++) {
        ssize_t len;

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        len = readlink(path, target, sizeof target - 1);
        if (len > 0)
            printf("  descriptor %d: %.*s\n", fd, (int)len, target);
    }
}

/* A joined thread may stay in /proc for a moment. */
static void check_threads(struct test *t)
{
    long threads = 0;

    for (int i = 0; i < 2000; i++) {
        threads = count_threads();
        if (threads == t->threads_before)
            return;
        usleep(1000);
    }
    FAIL("leaked: %ld threads, %ld before", threads - 2, t->threads_before - 2);
}

static void *canary_thread(void *arg)
{
    (void)arg;
    pause();
    return NULL;
}

static void check_left(struct test *t)
{
    pthread_t thread;

    if (harness_canary == 3 && dup(1) < 0)
        FAIL("dup");
    if (harness_canary == 4 && pthread_create(&thread, NULL, canary_thread, NULL) != 0)
        FAIL("no thread");
    check_threads(t);
    if (count_fds() != t->fds_before) {
        list_fds();
        FAIL("leaked: %ld descriptors, %ld before", count_fds() - 3, t->fds_before - 3);
    }
    if (locked_kib() != t->locked_before)
        FAIL("leaked: %ld KiB locked, %ld before", locked_kib(), t->locked_before);
}

static void free_records(struct test *t)
{
    for (struct record *record = t->records, *next; record; record = next) {
        next = record->next;
        free(record);
    }
    t->records = NULL;
}

static void *brief_thread(void *arg)
{
    *(pid_t *)arg = (pid_t)syscall(SYS_gettid);
    return NULL;
}

/* ThreadSanitizer has a thread of its own, which comes with the first of the program's: before we
 * count. */
void await_first_thread(void)
{
    pthread_t thread;
    pid_t id = 0;
    char path[64];

    if (pthread_create(&thread, NULL, brief_thread, &id) != 0)
        FAIL("no thread");
    pthread_join(thread, NULL);
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)id);
    for (int i = 0; i < 2000 && access(path, F_OK) == 0; i++)
        usleep(100); /* joined, but not yet gone */
}

/* The C library keeps the threads of its AIO for a second, which are then no leak of ours. */
static void keep_no_aio_threads(void)
{
#ifdef __GLIBC__
    const struct aioinit init = { .aio_threads = 20, .aio_num = 64, .aio_idle_time = -1 };

    aio_init(&init);
#endif
}

void run_case(struct test *t)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->completed, &monotonic);
    t->epoll = t->notify = -1;
    keep_no_aio_threads();
    await_first_thread();
    t->fds_before = count_fds();
    t->threads_before = count_threads();
    t->locked_before = locked_kib();
    config_for(t, &t->config);
    if (!t->what->no_loop)
        open_loop(t);
    t->what->run(t);
    if (t->loop)
        close_loop(t);
    ledger_judge(t);
    close_made(t);
    check_left(t);
    free_records(t);
}

/* SPDX-License-Identifier: MIT */
/* workers.c: threads that perform operations by blocking calls, in two crews: one for what ends
 * by itself (files, names), one for what may wait for ever.
 *
 * One lock guards the queues and what each worker is at; it is held neither over a system call
 * of an operation nor over ouro__return. Threads start on demand, up to the crew's bound, and
 * end after ten idle seconds; the driver joins them later. Memory is allocated and freed by the
 * driver alone.
 *
 * A blocker is interrupted by a signal. It may arrive just before the system call begins, and is
 * lost then, so a thread of its own (the "nagger") repeats it until the worker is back. The
 * signal is a free real-time one with an empty handler, unblocked on blockers' threads only, and
 * blocked while they run code that is not ours, which is never interrupted. There are two of them:
 * if the program takes one for itself while a worker is blocked, the other one still ends its
 * call. */
#include "core.h"

#include <signal.h>
#include <time.h>

#define STACK ((size_t)256 * 1024)
#define MS 1000000u
#define SIGNALS 2u
#define IDLE (10000ull * MS) /* a thread without work waits that long */
#define NAG_FIRST (1ull * MS)
#define NAG_MOST (10ull * MS)

enum { CREW_WORKERS, CREW_BLOCKERS, CREW_NAGGER, CREW_COUNT };

struct crew {
    struct ouro__list queue;
    pthread_cond_t cond;
    unsigned threads, max;
    unsigned idle;   /* threads that wait for work */
    unsigned queued; /* length of the queue */
};

struct worker {
    struct ouro__workers *all;
    struct crew *crew;
    struct worker *next; /* in `live` or `ended` */
    void *thread;
    ouro_op *op;                /* what it performs */
    bool interrupt;             /* ... must come back */
    _Atomic int hears[SIGNALS]; /* does not block these now */
};

struct ouro__workers {
    ouro_loop *loop;
    pthread_mutex_t lock;
    struct crew crews[CREW_COUNT];
    struct worker *live, *ended;
    unsigned marked; /* workers with `interrupt` */
    bool stop;
};

/* ---- The signal ----------------------------------------------------------------------------- */

static _Atomic int signals[SIGNALS]; /* 0: none is free */
static pthread_once_t signals_once = PTHREAD_ONCE_INIT;

static void on_interrupt(int signo)
{
    (void)signo; /* the system call that it ends is all that matters */
}

static bool install(int signo)
{
    struct sigaction empty = { .sa_handler = on_interrupt, .sa_flags = SA_ONSTACK };

    sigemptyset(&empty.sa_mask);
    return sys_sigaction(signo, &empty, NULL) == 0;
}

/* Does the process still handle it the way that we left it? Else it might kill. One that resets
 * all signals gives it back to nobody; one with a handler of its own keeps it. */
static bool ours(int signo)
{
    struct sigaction now;

    if (sys_sigaction(signo, NULL, &now) < 0)
        return false;
    if (!(now.sa_flags & SA_SIGINFO) && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN))
        return install(signo);
    return now.sa_handler == on_interrupt;
}

static bool is_free(int signo)
{
    struct sigaction now;

    for (unsigned i = 0; i < SIGNALS; i++)
        if (signals[i] == signo)
            return false;
    return sys_sigaction(signo, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
           now.sa_handler == SIG_DFL;
}

/* Another one than `taken`, which the program has a handler for by now (0: the first). */
static void pick_signal(unsigned i, int taken)
{
    int signo = SIGRTMAX;

    if (signals[i] != taken)
        return;
    while (signo >= SIGRTMIN && !(is_free(signo) && install(signo)))
        signo--;
    atomic_compare_exchange_strong(&signals[i], &taken, signo >= SIGRTMIN ? signo : 0);
}

static void pick_signals(void)
{
    for (unsigned i = 0; i < SIGNALS; i++)
        pick_signal(i, 0);
}

/* On the worker itself, which blocks all others. */
static void hear(struct worker *worker, bool on)
{
    bool change = false;
    sigset_t set;

    sigfillset(&set);
    for (unsigned i = 0; i < SIGNALS; i++) {
        int signo = on ? signals[i] : 0;

        if (signo)
            sigdelset(&set, signo);
        change |= worker->hears[i] != signo;
        worker->hears[i] = signo;
    }
    if (change)
        sys_sigmask(SIG_SETMASK, &set, NULL);
}

/* A signal that was taken is replaced for the operations after this one. */
static void interrupt(struct worker *worker)
{
    int usable = 0;

    for (unsigned i = 0; i < SIGNALS; i++) {
        int signo = worker->hears[i];

        if (signo && ours(signo))
            usable = signo;
        else if (signo)
            pick_signal(i, signo);
    }
    if (usable)
        sys_signal_thread(worker->thread, usable);
}

/* ---- On the threads ------------------------------------------------------------------------- */

/* Waits on a condition of ours; false: the time came. */
static bool wait_for(struct ouro__workers *all, pthread_cond_t *cond, uint64_t ns)
{
    ouro_time until = ouro__do_now() + ns;
    struct timespec at = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };

    return pthread_cond_timedwait(cond, &all->lock, &at) != ETIMEDOUT;
}

/* It may have waited for a worker while the program closed its file and opened another one. */
static int64_t attempt(ouro_op *op)
{
    return ouro__has_its_file(op) ? ouro__perform(op, PERFORM_BLOCK) : -EBADF;
}

static void perform(struct worker *worker, ouro_op *op)
{
    struct ouro__workers *all = worker->all;
    ouro_loop *loop = all->loop;
    bool strange = ouro__kinds[op->code].traits & KIND_STRANGE;
    int64_t res;

    if (worker->crew == &all->crews[CREW_BLOCKERS])
        hear(worker, !strange);
    op->notes_ |= NOTE_POOLED;
    res = attempt(op);

    pthread_mutex_lock(&all->lock);
    /* A signal for the operation before may come late. */
    while (res == -EINTR && !strange && !worker->interrupt) {
        pthread_mutex_unlock(&all->lock);
        res = attempt(op);
        pthread_mutex_lock(&all->lock);
    }
    op->notes_ &= (uint16_t)~NOTE_HELD;
    worker->op = NULL;
    op->worker_ = NULL;
    if (worker->interrupt) {
        worker->interrupt = false;
        all->marked--;
    }
    pthread_mutex_unlock(&all->lock);
    ouro__return(loop, op, res); /* the operation is the driver's again */
    pthread_mutex_lock(&all->lock);
}

/* Until there is nothing to do for a while. */
static void work(struct worker *worker)
{
    struct ouro__workers *all = worker->all;
    struct crew *crew = worker->crew;
    bool waited = true;

    while (crew->queued || (waited && !all->stop)) {
        ouro_op *op = ouro__pop(&crew->queue);

        if (!op) {
            crew->idle++;
            waited = wait_for(all, &crew->cond, IDLE);
            crew->idle--;
            continue;
        }
        waited = true;
        crew->queued--;
        worker->op = op;
        op->worker_ = worker;
        pthread_mutex_unlock(&all->lock);
        perform(worker, op); /* comes back with the lock */
    }
}

/* Signals the marked workers again and again, ever more seldom. */
static void nag(struct worker *worker)
{
    struct ouro__workers *all = worker->all;
    uint64_t pause = NAG_FIRST;
    unsigned known = 0;
    bool waited = true;

    while (all->marked || (waited && !all->stop)) {
        if (!all->marked) {
            waited = wait_for(all, &worker->crew->cond, IDLE);
            pause = NAG_FIRST;
            continue;
        }
        waited = true;
        if (all->marked > known)
            pause = NAG_FIRST;
        known = all->marked;
        wait_for(all, &worker->crew->cond, pause);
        pause = pause * 2 < NAG_MOST ? pause * 2 : NAG_MOST;
        for (struct worker *w = all->live; w; w = w->next)
            if (w->interrupt)
                interrupt(w);
    }
}

static void *thread_main(void *arg)
{
    struct worker *worker = arg, **at;
    struct ouro__workers *all = worker->all;

    pthread_mutex_lock(&all->lock); /* the driver holds it until worker->thread is known */
    if (worker->crew == &all->crews[CREW_NAGGER])
        nag(worker);
    else
        work(worker);
    worker->crew->threads--;
    if (!all->stop) { /* else workers_finish has the lists already */
        for (at = &all->live; *at != worker; at = &(*at)->next)
            ;
        *at = worker->next;
        worker->next = all->ended;
        all->ended = worker;
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* ---- On the driver -------------------------------------------------------------------------- */

/* Starts one thread more; the lock is held. */
static int start(struct ouro__workers *all, struct crew *crew)
{
    struct worker *worker = ouro__alloc(all->loop, NULL, 0, sizeof(*worker));
    long r;

    if (!worker)
        return -ENOMEM;
    *worker = (struct worker){ .all = all, .crew = crew };
    r = sys_thread(&worker->thread, thread_main, worker, STACK);
    if (r < 0) {
        ouro__alloc(all->loop, worker, sizeof(*worker), 0);
        return (int)r;
    }
    worker->next = all->live;
    all->live = worker;
    crew->threads++;
    return 0;
}

/* Joins and frees workers of a list that nobody else changes. All are joined before the first is
 * freed, because a nagger among them may be on its way through the list. */
static void bury(ouro_loop *loop, struct worker *worker, bool join)
{
    for (struct worker *one = worker; join && one; one = one->next)
        sys_join(one->thread);
    while (worker) {
        struct worker *next = worker->next;

        ouro__alloc(loop, worker, sizeof(*worker), 0);
        worker = next;
    }
}

static void crew_init(struct crew *crew, unsigned max)
{
    ouro__cond_init(&crew->cond);
    crew->max = max;
}

static struct ouro__workers *workers_of(ouro_loop *loop)
{
    struct ouro__workers *all = loop->workers;

    if (all)
        return all;
    all = ouro__alloc(loop, NULL, 0, sizeof(*all));
    if (!all)
        return NULL;
    *all = (struct ouro__workers){ .loop = loop };
    pthread_mutex_init(&all->lock, NULL);
    crew_init(&all->crews[CREW_WORKERS], loop->config.max_workers);
    crew_init(&all->crews[CREW_BLOCKERS], loop->config.max_blocking);
    crew_init(&all->crews[CREW_NAGGER], 1);
    loop->workers = all;
    return all;
}

int ouro__workers_submit(ouro_loop *loop, ouro_op *op, bool blocker)
{
    struct ouro__workers *all = workers_of(loop);
    struct worker *ended;
    struct crew *crew;
    int r = 0;

    if (!all)
        return -ENOMEM;
    if (blocker)
        pthread_once(&signals_once, pick_signals);
    crew = &all->crews[blocker ? CREW_BLOCKERS : CREW_WORKERS];
    pthread_mutex_lock(&all->lock);
    ouro__push(&crew->queue, op);
    crew->queued++;
    op->worker_ = crew;
    if (crew->idle >= crew->queued)
        pthread_cond_signal(&crew->cond);
    else if (crew->threads < crew->max)
        r = start(all, crew);
    if (r < 0 && crew->threads)
        r = 0; /* it waits for one of those */
    if (r < 0) {
        ouro__unlink(&crew->queue, op);
        crew->queued--;
        op->worker_ = NULL;
    }
    ended = all->ended;
    all->ended = NULL;
    pthread_mutex_unlock(&all->lock);
    bury(loop, ended, true); /* they have given up the lock for the last time, or are about to */
    return r;
}

int ouro__workers_cancel(ouro_loop *loop, ouro_op *op)
{
    struct ouro__workers *all = loop->workers;
    struct crew *nagger = &all->crews[CREW_NAGGER];
    struct worker *worker;
    int taken = 0;

    pthread_mutex_lock(&all->lock);
    if (op->worker_ == &all->crews[CREW_WORKERS] || op->worker_ == &all->crews[CREW_BLOCKERS]) {
        struct crew *crew = op->worker_;

        ouro__unlink(&crew->queue, op);
        crew->queued--;
        op->worker_ = NULL;
        taken = 1;
    } else if (op->worker_ && !(ouro__kinds[op->code].traits & KIND_STRANGE)) {
        worker = op->worker_;
        if (worker->crew == &all->crews[CREW_BLOCKERS] && !worker->interrupt) {
            worker->interrupt = true;
            all->marked++;
            interrupt(worker);
        }
    }
    if (all->marked && nagger->threads)
        pthread_cond_signal(&nagger->cond);
    else if (all->marked)
        start(all, nagger); /* without one, the signal just sent has to do, until the next call */
    pthread_mutex_unlock(&all->lock);
    return taken;
}

/* In a forked child the threads do not exist, and the lock may be held by one of them for ever. */
void ouro__workers_finish(ouro_loop *loop, int forked)
{
    struct ouro__workers *all = loop->workers;

    if (!all)
        return;
    loop->workers = NULL;
    if (!forked) {
        pthread_mutex_lock(&all->lock);
        all->stop = true;
        for (unsigned i = 0; i < CREW_COUNT; i++)
            pthread_cond_broadcast(&all->crews[i].cond);
        pthread_mutex_unlock(&all->lock);
    }
    bury(loop, all->live, !forked); /* both lists stand still by now */
    bury(loop, all->ended, !forked);
    if (!forked) {
        for (unsigned i = 0; i < CREW_COUNT; i++)
            pthread_cond_destroy(&all->crews[i].cond);
        pthread_mutex_destroy(&all->lock);
    }
    ouro__alloc(loop, all, sizeof(*all), 0);
}

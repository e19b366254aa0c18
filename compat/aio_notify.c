/* SPDX-License-Identifier: MIT */
/* aio_notify.c: telling the program that a request is over: by a signal, or by calling a function
 * on a thread. Threads wait a second for the next call; one that is busy delays no other: where
 * none is free, one more is started. */
#include "posix_aio.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../src/syscall.h"

enum {
    SIGNAL_TRIES = 1000, /* a millisecond apart, where the queue of signals is full */
    START_TRIES = 1000,  /* and where no thread can be had */
    IDLE_S = 1,
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct request *first, *last;
    unsigned waiting; /* of `first` and so on */
    unsigned idle;    /* threads */
    bool ready;
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void nap(void)
{
    (void)nanosleep(&(struct timespec){ .tv_nsec = 1000 * 1000 }, NULL);
}

/* ---- Signals -------------------------------------------------------------------------------- */

/* The kernel's siginfo_t of a signal that a program queues. */
static long queue_signal(const struct sigevent *event)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    info.si_signo = event->sigev_signo;
    info.si_code = SI_ASYNCIO;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value = event->sigev_value;
    return OURO__SYSCALL(SYS_rt_sigqueueinfo, info.si_pid, info.si_signo, &info);
}

static long send_signal(const struct sigevent *event)
{
    long r = queue_signal(event);

    if (stats_on && r == 0)
        stats_notice(STATS_BY_SIGNAL);
    return r;
}

/* ---- Threads -------------------------------------------------------------------------------- */

static void release(struct request *request)
{
    aio_lock();
    aio_give(request);
    aio_unlock();
}

static void insist(const struct sigevent *event)
{
    long r;

    for (unsigned i = 0; (r = send_signal(event)) == -EAGAIN && i < SIGNAL_TRIES; i++)
        nap();
    if (stats_on && r == -EAGAIN)
        stats_notice(STATS_DROPPED);
}

/* Also where the program's attributes, or its function, have opened signals. */
static void be_inside(void)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    aio_set_inside(true);
}

/* What the program's function may do, leave or change is its own affair. */
static void call(struct request *request)
{
    struct sigevent event = request->event;
    sigset_t none;

    release(request);
    if (event.sigev_notify == SIGEV_SIGNAL) {
        insist(&event);
        return;
    }
    if (stats_on)
        stats_notice(STATS_BY_FUNCTION);
    sigemptyset(&none);
    aio_set_inside(false);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    event.sigev_notify_function(event.sigev_value);
    be_inside();
}

static void push(struct request *request)
{
    request->next = NULL;
    if (pool.first)
        pool.last->next = request;
    else
        pool.first = request;
    pool.last = request;
    pool.waiting++;
}

static struct request *pop(void)
{
    struct request *request = pool.first;

    pool.first = request->next;
    pool.waiting--;
    return request;
}

/* With the pool's lock. False: for a second there was nothing. */
static bool wait_for_work(void)
{
    struct timespec until;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    pool.idle++;
    while (!pool.first && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
    pool.idle--;
    return pool.first;
}

/* Not ours by its name, nor is what the program's function starts there: see aio_alone.c. */
static void name_thread(void)
{
    prctl(PR_SET_NAME, "ouro-call", 0, 0, 0);
}

static void *serve(void *arg)
{
    (void)arg;
    be_inside();
    name_thread();
    pthread_mutex_lock(&pool.lock);
    while (wait_for_work()) {
        struct request *request = pop();

        pthread_mutex_unlock(&pool.lock);
        call(request);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* With attributes of the program's: one thread, one call. Joinable ones nobody would join. */
static void *serve_once(void *arg)
{
    int state = PTHREAD_CREATE_DETACHED;
    pthread_attr_t attr;

    be_inside();
    name_thread();
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getdetachstate(&attr, &state);
        pthread_attr_destroy(&attr);
    }
    if (state == PTHREAD_CREATE_JOINABLE)
        pthread_detach(pthread_self());
    call(arg);
    return NULL;
}

static int start_thread(const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
    pthread_t thread;

    return attr ? pthread_create(&thread, attr, main, arg) : -aio_thread(main, arg, 0);
}

/* With the pool's lock. */
static void make_ready(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.work, &attr);
    pthread_condattr_destroy(&attr);
    pool.ready = true;
}

static void hand_over(struct request *request)
{
    bool enough;

    pthread_mutex_lock(&pool.lock);
    if (!pool.ready)
        make_ready();
    push(request);
    enough = pool.idle >= pool.waiting;
    pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; !enough && start_thread(NULL, serve, NULL) && i < START_TRIES; i++)
        nap();
}

static void hold(struct request *request)
{
    aio_lock();
    request->holders++;
    aio_unlock();
}

static void call_on_thread(struct request *request)
{
    const pthread_attr_t *attr = request->event.sigev_notify_attributes;

    if (!request->event.sigev_notify_function)
        return;
    hold(request);
    if (!attr || start_thread(attr, serve_once, request))
        hand_over(request); /* on a thread without them is better than never */
}

void aio_notify(struct request *request)
{
    const struct sigevent *event = &request->event;

    if (event->sigev_notify == SIGEV_THREAD) {
        call_on_thread(request);
    } else if (event->sigev_notify == SIGEV_SIGNAL && event->sigev_signo &&
               send_signal(event) == -EAGAIN) {
        hold(request); /* the queue of signals is full: nobody else waits for that */
        hand_over(request);
    }
}

void aio_notify_forked(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pool.first = pool.last = NULL;
    pool.waiting = pool.idle = 0;
    pool.ready = false;
}

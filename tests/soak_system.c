/* SPDX-License-Identifier: MIT */
/* soak_system.c: what the system tells: signals, each of which is taken once, and names, of which
 * only numeric ones are asked for. */
#include <arpa/inet.h>
#include <signal.h>

#include "soak.h"

enum { SIGNALS = 4, WAITING = 64 /* signals that nobody has taken, at most */ };
enum { VALUES = 4096 /* of the latest: a signal may be collected long after later ones */ };

static uint64_t set;
static int64_t sent[SIGNALS], taken[SIGNALS];
static bool awaited[SIGNALS][VALUES];
static sigset_t before, ours;

static int first(void)
{
    return SIGRTMIN + 3;
}

/* ---- Signals --------------------------------------------------------------------------------- */

static void took(int64_t signo)
{
    int64_t at = signo - first();

    if (at < 0 || at >= SIGNALS)
        die("signal %lld, and nobody asked for it", (long long)signo);
    if (++taken[at] > sent[at])
        die("signal %lld came more often than it was sent", (long long)signo);
}

/* A stream tells no values. */
static void took_value(const struct ouro_signal *signal)
{
    int64_t at = signal->signo - first(), value = (int64_t)signal->value;

    if (signal->pid != getpid() || value < 0 || value >= sent[at] || value < sent[at] - VALUES)
        die("signal %d with value %lld", signal->signo, (long long)value);
    if (!awaited[at][value % VALUES])
        die("signal %d came twice with value %lld", signal->signo, (long long)value);
    awaited[at][value % VALUES] = false;
}

static void send_signal(void)
{
    unsigned at = draw(SIGNALS);
    union sigval value = { .sival_ptr = (void *)(uintptr_t)sent[at] };

    if (sent[at] - taken[at] == WAITING)
        return;
    awaited[at][sent[at]++ % VALUES] = true;
    if (sigqueue(getpid(), first() + (int)at, value) != 0)
        die("no signal can be sent");
}

/* ---- Names ----------------------------------------------------------------------------------- */

static const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                       .ai_socktype = SOCK_STREAM };
static const char *const hosts[] = { "127.0.0.1", "10.20.30.40", "::1", "no.number" };
enum { HOSTS = 4, NO_NUMBER = HOSTS - 1, IPV6 = 2 };

static void judge_names(const struct item *item)
{
    char text[INET6_ADDRSTRLEN];
    const struct addrinfo *names = item->names;
    bool v6 = item->kind == IPV6;
    const void *addr;

    if (item->kind == NO_NUMBER || !names || names->ai_family != (v6 ? AF_INET6 : AF_INET))
        die("%s is resolved to something else", hosts[item->kind]);
    addr =
        v6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)names->ai_addr)->sin6_addr
           : &((const struct sockaddr_in *)(const void *)names->ai_addr)->sin_addr;
    if (!inet_ntop(names->ai_family, addr, text, sizeof text) ||
        strcmp(text, hosts[item->kind]) != 0)
        die("%s is resolved to %s", hosts[item->kind], text);
    freeaddrinfo(item->names);
}

/* ---- The theme ------------------------------------------------------------------------------- */

static bool may_fail(const struct item *item, int64_t res)
{
    return item->op.code == OURO_RESOLVE && item->kind == NO_NUMBER && res == -ENOENT &&
           item->op.cause == EAI_NONAME;
}

static void judge(struct item *item, int64_t res, uint32_t cflags)
{
    (void)cflags;
    if (res < 0)
        return;
    if (item->op.code == OURO_RESOLVE) {
        judge_names(item);
    } else if (item->op.code == OURO_SIGNAL) {
        took(res);
        if (item->signal.signo != res)
            die("signal %lld says that it is %d", (long long)res, item->signal.signo);
        took_value(&item->signal);
    } else {
        die("a stream of signals ended");
    }
}

static void more(struct item *item, int64_t res, void *data)
{
    (void)item;
    (void)data;
    took(res);
}

static bool prepare(struct item *item)
{
    ouro_op *op = &item->op;
    uint32_t kind = draw(10);

    if (kind < 3) {
        item->kind = draw(HOSTS);
        item->names = NULL;
        ouro_prep_resolve(op, hosts[item->kind], "80", &hints, &item->names);
    } else {
        if (kind < 9)
            ouro_prep_signal(op, draw(2) ? set : OURO_SIGNAL_BIT(first() + (int)draw(SIGNALS)),
                             &item->signal);
        else
            ouro_prep_signal_many(op, set);
        op->deadline = soon(2000000);
    }
    item->posts = true;
    return true;
}

static void stir(void)
{
    if (!draw(4))
        send_signal();
}

/* Before the loop is opened: its threads inherit the mask. */
__attribute__((constructor)) static void block_signals(void)
{
    sigemptyset(&ours);
    for (int i = 0; i < SIGNALS; i++) {
        sigaddset(&ours, first() + i);
        set |= OURO_SIGNAL_BIT(first() + i);
    }
    pthread_sigmask(SIG_BLOCK, &ours, &before);
}

/* What was sent and not taken is still there. */
static void settle(void)
{
    const struct timespec now = { 0 };
    int signo;

    while ((signo = sigtimedwait(&ours, NULL, &now)) > 0)
        took(signo);
    for (int i = 0; i < SIGNALS; i++)
        if (sent[i] != taken[i])
            die("signal %d was sent %lld times and came %lld times", first() + i,
                (long long)sent[i], (long long)taken[i]);
}

const struct theme theme_system = {
    .name = "system",
    .weight = 10,
    .prepare = prepare,
    .may_fail = may_fail,
    .more = more,
    .judge = judge,
    .stir = stir,
    .settle = settle,
};

/* SPDX-License-Identifier: MIT */
/* select.c: which engine, and why not the others. */
#include "core.h"

#include <stdio.h>

/* Best first; those behind AUTOMATIC are taken by name alone. */
static const struct ouro__engine *const engines[] = {
    &ouro__engine_uring,   &ouro__engine_kaio,     &ouro__engine_epoll,
    &ouro__engine_threads, &ouro__engine_posixaio,
};
#define ENGINES (sizeof(engines) / sizeof(engines[0]))
#define AUTOMATIC (ENGINES - 1)

const char *ouro_engine_list(unsigned i)
{
    return i < ENGINES ? engines[i]->name : NULL;
}

static const struct ouro__engine *find(const char *name, size_t len)
{
    for (unsigned i = 0; i < ENGINES; i++)
        if (strlen(engines[i]->name) == len && !memcmp(engines[i]->name, name, len))
            return engines[i];
    return NULL;
}

/* The i-th engine of a preference list; NULL after the last; *ret_bad: a name that nobody knows. */
static const struct ouro__engine *preferred(const char *list, unsigned i, bool *ret_bad)
{
    if (!list[0])
        return i < AUTOMATIC ? engines[i] : NULL;
    for (; *list; i--) {
        size_t len = strcspn(list, ",");
        if (i == 0) {
            const struct ouro__engine *engine = find(list, len);
            *ret_bad = !engine;
            return engine;
        }
        list += len + (list[len] == ',');
    }
    return NULL;
}

static int check_list(const char *list)
{
    bool bad = false;

    for (unsigned i = 0; preferred(list, i, &bad); i++)
        ;
    return bad ? -EINVAL : 0;
}

/* "auto", and the empty list, are the automatic order. */
int ouro__engines_set(ouro_loop *loop, const char *list)
{
    if (!list || !strcmp(list, "auto"))
        list = "";
    if (strlen(list) >= sizeof(loop->engines))
        return -EINVAL;
    snprintf(loop->engines, sizeof(loop->engines), "%s", list);
    return check_list(loop->engines);
}

static void add_why(ouro_loop *loop, const char *name, const char *text)
{
    size_t used = strlen(loop->why);

    snprintf(loop->why + used, sizeof(loop->why) - used, "%s%s refused: %s", used ? "; " : "", name,
             text);
}

static void set_routes(ouro_loop *loop)
{
    for (unsigned code = 0; code < OURO_CODE_COUNT; code++)
        loop->routes[code] = (uint8_t)loop->engine->route(loop, code);
    loop->routes[OURO_TIMER] = loop->routes[OURO_TIMER_MANY] = ROUTE_CORE;
    loop->routes[OURO_MESSAGE] = ROUTE_CORE;
}

/* The first engine of the preference, from place `from` on, that opens here. */
int ouro__select(ouro_loop *loop, unsigned from)
{
    const struct ouro__engine *engine;
    bool bad = false;
    int r = -EOPNOTSUPP;

    for (unsigned i = from; (engine = preferred(loop->engines, i, &bad)); i++) {
        struct ouro__why why = { { 0 } };
        loop->engine = engine;
        loop->caps = 0;
        r = engine->open(loop, &why);
        if (r == 0 && loop->config.want & ~loop->caps) {
            engine->close(loop, 0, OURO_FOREVER);
            snprintf(why.text, sizeof(why.text),
                     "it lacks features 0x%llx that config.want asks for",
                     (unsigned long long)(loop->config.want & ~loop->caps));
            r = -EOPNOTSUPP;
        }
        if (r == 0) {
            struct ouro__bell *bell = &loop->bells[loop->lost_engine != NULL];
            *bell = (struct ouro__bell){ engine->wake, loop->engine_state };
            atomic_store(&loop->bell, bell);
            loop->engine_at = i;
            set_routes(loop);
            return 0;
        }
        add_why(loop, engine->name, why.text[0] ? why.text : strerror(-r));
        if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
            continue;
        r = -EOPNOTSUPP;
    }
    loop->engine = NULL;
    return r;
}

/* ---- Loss ---------------------------------------------------------------------------------- */

static int mark_lost(ouro_loop *loop, ouro_op *op, void *user)
{
    unsigned *count = user;

    ouro__make_ordinary(loop, op);
    /* Of a slot that is lost as well nobody can be asked for readiness: another attempt ends it. */
    if (op->flags & OURO_DIRECT && op->real_fd_ == OURO__SLOT_ENGINE)
        op->ready_ = 0;
    if (op->state_ == STATE_RUNNING || ouro__sendq_rides(op))
        op->notes_ |= NOTE_LOST;
    if (op->state_ == STATE_RUNNING || op->stream_ & SEND_KEPT)
        ++*count;
    return 0;
}

static int end_lost(ouro_loop *loop, ouro_op *op, void *user)
{
    bool lost = op->state_ == STATE_RUNNING && op->notes_ & NOTE_LOST;

    (void)user;
    if (op->stream_ & SEND_KEPT) {
        op->waits_ = 1;
        ouro__let_go(loop, op);
    }
    if (lost)
        ouro__ended(loop, op, -EIO);
    return 0;
}

/* The kernel has let go of the lost ring: its operations' buffers are written no more. */
static void proved(ouro_op *watch)
{
    ouro_loop *loop = watch->user;

    if (ouro__enter(loop) < 0)
        return;
    ouro__each_slot(loop, end_lost, NULL);
    ouro__pools_found(loop);
    ouro__drop(loop, (int)watch->fd);
    ouro__leave(loop);
}

static void open_next(ouro_loop *loop)
{
    loop->config.want = 0; /* better one without it than none */
    if (ouro__select(loop, loop->engine_at + 1) == 0)
        return;
    /* The preference names no other engine, or none opens: the one that needs nothing but memory
     * and one descriptor, of which the lost engine has just given back several. Features that were
     * asked for at open cannot be had any more. */
    loop->engines[0] = 0;
    loop->config.want = 0;
    while (ouro__select(loop, AUTOMATIC - 1) < 0)
        ouro__pause();
}

/* Called by the engine, inside submit or wait, which must leave its state alone afterwards. */
void ouro__engine_lost(ouro_loop *loop, const char *reason)
{
    const struct ouro__engine *lost = loop->engine;
    unsigned running = 0;
    int proof;

    ouro__direct_untell(loop);
    proof = lost->abandon(loop);
    ouro__each_slot(loop, mark_lost, &running);
    ouro__pools_lose(loop, running && proof >= 0, 0);
    add_why(loop, lost->name, reason);
    loop->stats.fallback++;
    loop->lost_engine = lost;
    loop->lost_state = loop->engine_state;
    loop->regions_native = false;
    loop->engine_state = NULL;
    open_next(loop);
    ouro__host_change(loop);
    if (running && proof >= 0) {
        ouro_op *watch = &loop->lost_watch;
        ouro_prep_poll(watch, proof, 1);
        watch->user = loop;
        watch->cb = proved;
        if (ouro__accept(loop, watch) == 0) {
            ouro__accepted(loop, watch);
            ouro__begin(loop, watch);
            return;
        }
    }
    /* Nothing was running, or the proof cannot be waited for in the loop: wait for it here. */
    if (running && proof >= 0)
        ouro__await_hangup(proof);
    ouro__drop(loop, proof);
    ouro__each_slot(loop, end_lost, NULL);
    ouro__pools_found(loop);
}

void ouro__lost_finish(ouro_loop *loop, int forked)
{
    void *state = loop->engine_state;

    if (!loop->lost_engine)
        return;
    loop->engine_state = loop->lost_state;
    loop->lost_engine->close(loop, forked, OURO_FOREVER);
    loop->engine_state = state;
    loop->lost_engine = NULL;
}

/* ---- What the caller may ask --------------------------------------------------------------- */

const char *ouro_engine_name(ouro_loop *loop)
{
    return loop && loop->engine ? loop->engine->name : "";
}

const char *ouro_engine_why(ouro_loop *loop)
{
    return loop ? loop->why : "";
}

int ouro_support(ouro_loop *loop, unsigned code, uint32_t flags)
{
    if (!loop || code >= OURO_CODE_COUNT || flags & ~ouro__kinds[code].flags)
        return -EINVAL;
    if (flags & OURO_REGBUF && !(loop->caps & OURO_CAP_FIXED))
        return loop->routes[code] == ROUTE_NO ? OURO_NO : OURO_EMULATED;
    if (flags & OURO_ZEROCOPY && !(loop->caps & OURO_CAP_ZEROCOPY))
        return OURO_EMULATED;
    switch (loop->routes[code]) {
    case ROUTE_NO: return OURO_NO;
    case ROUTE_WORKER:
    case ROUTE_BLOCKER: return OURO_ON_WORKER;
    case ROUTE_CORE: return OURO_NATIVE;
    default:
        if (code == OURO_WORK || code == OURO_COPY || code == OURO_RESOLVE)
            return OURO_ON_WORKER;
        return ouro__kinds[code].traits & KIND_FD2 || code == OURO_WAITPID || code == OURO_SIGNAL ||
                       code == OURO_SIGNAL_MANY || flags & OURO_DIRECT
                   ? OURO_EMULATED
                   : OURO_NATIVE;
    }
}

int ouro_probe(const char *engine, char *why, size_t why_size, uint64_t *ret_caps)
{
    ouro_config config = { .size = sizeof(config), .engine = engine, .depth = 8 };
    ouro_loop *loop;
    int r;

    if (!engine || !find(engine, strlen(engine)))
        return -EINVAL;
    r = ouro__open_why(&config, &loop, why, why_size);
    if (r < 0)
        return r;
    if (ret_caps)
        *ret_caps = loop->caps;
    return ouro_close(loop, OURO_FOREVER);
}

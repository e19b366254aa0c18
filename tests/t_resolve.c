/* SPDX-License-Identifier: MIT */
/* t_resolve.c: looking names up: what is found, what is not, and that nobody else waits for it. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include "sys.h"
#include "test.h"

static struct addrinfo *untouched(void)
{
    static struct addrinfo marker;

    return &marker;
}

static void numbers_and_local_names_are_found(struct test *t)
{
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = untouched();
    ouro_op *op = op_new(t);

    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    ouro_prep_resolve(op, "127.0.0.7", "8080", &hints, &list);
    CHECK_EQ(do_op(t, op), 0);
    CHECK(CFLAGS(op) & OURO_C_POOLED);
    CHECK(list != untouched() && list->ai_family == AF_INET && !list->ai_next);
    CHECK_EQ(((struct sockaddr_in *)(void *)list->ai_addr)->sin_port, htons(8080));
    CHECK_EQ(((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr.s_addr, htonl(0x7f000007));
    freeaddrinfo(list);
    ouro_prep_resolve(op, NULL, "9", NULL, &list); /* ourselves */
    CHECK_EQ(do_op(t, op), 0);
    CHECK(list != NULL);
    freeaddrinfo(list);
}

static void what_is_not_found_says_why(struct test *t)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST };
    struct addrinfo *list = untouched();
    ouro_op *op = op_new(t);

    ouro_prep_resolve(op, "no number", NULL, &hints, &list);
    CHECK_EQ(do_op(t, op), -ENOENT);
    CHECK_EQ(op->cause, EAI_NONAME);
    hints.ai_flags = 0x40000000;
    CHECK_EQ(do_op(t, op), -EINVAL);
    CHECK_EQ(op->cause, EAI_BADFLAGS);
    hints = (struct addrinfo){ .ai_family = 12345, .ai_flags = AI_NUMERICHOST };
    ouro_prep_resolve(op, "127.0.0.1", NULL, &hints, &list);
    CHECK_EQ(do_op(t, op), -EINVAL);
    CHECK_EQ(op->cause, EAI_FAMILY);
    CHECK(list == untouched());
    ouro_prep_resolve(op, NULL, NULL, NULL, &list);
    CHECK_EQ(start_try(t, op), -EFAULT);
    ouro_prep_resolve(op, "x", NULL, NULL, NULL);
    CHECK_EQ(start_try(t, op), -EFAULT);
}

/* ---- A resolver that takes its time --------------------------------------------------------- */

static _Atomic int asked, code, system_error;
static _Atomic bool answers;

static long slow_lookup(const char *host, const char *service, const void *hints, void **ret,
                        int *ret_code)
{
    (void)hints;
    asked++;
    while (!answers)
        usleep(500);
    if (!code)
        return ouro__do_getaddrinfo(host, service, NULL, ret, ret_code);
    *ret_code = code;
    return system_error ? -system_error : -EIO;
}

static void await_asked(struct test *t, int count)
{
    while (asked < count) {
        CHECK(ouro_now(t->loop) < t->limit);
        step(t);
        reap_all(t);
        usleep(200);
    }
}

static void a_slow_lookup_holds_up_nothing(struct test *t)
{
    enum { COUNT = 12 };
    struct addrinfo *lists[COUNT];
    ouro_op *ops[COUNT], *op = op_new(t);
    int fd = make_file(t, "f", "data", 4);
    char buf[4];

    ouro__sys.getaddrinfo = slow_lookup;
    for (int i = 0; i < COUNT; i++) {
        ouro_prep_resolve(ops[i] = op_new(t), "127.0.0.1", NULL, NULL, &lists[i]);
        start(t, ops[i]);
    }
    await_asked(t, COUNT);
    ouro_prep_fsync(op, fd); /* needs the workers for files */
    CHECK_EQ(do_op(t, op), 0);
    ouro_prep_read(op, fd, buf, 4, 0);
    CHECK_EQ(do_op(t, op), 4);
    for (int i = 0; i < COUNT; i++)
        CHECK(!is_final(ops[i]));
    answers = true;
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(finish(t, ops[i]), 0);
        freeaddrinfo(lists[i]);
    }
}

/* One runs, and its answer stands; one waits for the only worker, and ends at once. */
static void a_cancel_comes_in_time_or_not(struct test *t)
{
    struct addrinfo *first = untouched(), *second = untouched(), *third = untouched();
    ouro_op *runs = op_new(t), *waits = op_new(t), *late = op_new(t);

    close_loop(t);
    t->config.max_blocking = 1;
    open_loop(t);
    ouro__sys.getaddrinfo = slow_lookup;
    ouro_prep_resolve(runs, "127.0.0.1", NULL, NULL, &first);
    ouro_prep_resolve(waits, "127.0.0.1", NULL, NULL, &second);
    ouro_prep_resolve(late, "127.0.0.1", NULL, NULL, &third);
    start(t, runs);
    await_asked(t, 1);
    start(t, waits);
    late->deadline = in_ms(t, 20);
    start(t, late);
    let_pass(t);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(runs)), 0);
    CHECK_EQ(ouro_cancel_id(t->loop, ouro_op_id(waits)), 0);
    finish_canceled(t, waits);
    CHECK_EQ(finish(t, late), -ETIMEDOUT);
    CHECK(!is_final(runs) && second == untouched() && third == untouched());
    answers = true;
    CHECK_EQ(finish(t, runs), 0);
    CHECK(first != untouched());
    freeaddrinfo(first);
    CHECK_EQ(asked, 1);
}

static void errors_never_ask_to_be_repeated(struct test *t)
{
    static const struct {
        int code, error, res;
    } cases[] = {
        { EAI_AGAIN, 0, -EHOSTUNREACH },
        { EAI_FAIL, 0, -EIO },
        { EAI_MEMORY, 0, -ENOMEM },
        { EAI_SERVICE, 0, -ENOENT },
        { EAI_SYSTEM, EAGAIN, -EHOSTUNREACH },
        { EAI_SYSTEM, EINTR, -EHOSTUNREACH },
        { EAI_SYSTEM, ETIMEDOUT, -EHOSTUNREACH },
        { EAI_SYSTEM, EMFILE, -EMFILE },
    };
    struct addrinfo *list = untouched();
    ouro_op *op = op_new(t);

    ouro__sys.getaddrinfo = slow_lookup;
    answers = true;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        code = cases[i].code;
        system_error = cases[i].error;
        asked = 0;
        ouro_prep_resolve(op, "name", NULL, NULL, &list);
        CHECK_EQ(do_op(t, op), cases[i].res);
        CHECK_EQ(op->cause, cases[i].code);
        CHECK_EQ(asked, 1);
    }
    CHECK(list == untouched());
}

static const struct test_case cases[] = {
    { NAMED(numbers_and_local_names_are_found) }, { NAMED(what_is_not_found_says_why) },
    { NAMED(a_slow_lookup_holds_up_nothing) },    { NAMED(a_cancel_comes_in_time_or_not) },
    { NAMED(errors_never_ask_to_be_repeated) },   { 0 },
};

const struct subject subject_resolve = { "resolve", cases };

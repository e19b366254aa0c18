/* SPDX-License-Identifier: MIT */
/* test.h: what a test of the conformance suite sees: its case, the helpers that submit and complete
 * operations in the case's own style, and the ledger that counts every completion.
 *
 * A test is `static void end_of_file_is_zero(struct test *t)`, named in its subject's table. The
 * runner calls it in a process of its own, once for each row of axes that the test does not fix.
 * Operations come from op_new, go out by start and come back by finish (do_op: both), whatever the
 * style; a test that calls ouro_submit by itself goes round the ledger. A failed CHECK ends the
 * process. After the test the harness closes the loop and looks for what it left behind. */
#ifndef OURO_TEST_H
#define OURO_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ouro.h"

/* ---- Axes ---------------------------------------------------------------------------------- */

enum { AXIS_MODE, AXIS_STYLE, AXIS_FD, AXIS_MASK, AXIS_COUNT };
enum mode { MODE_OWNED, MODE_SHARED, MODE_SERVICE, MODE_COUNT };
enum style { STYLE_CALLBACK, STYLE_REAP, STYLE_WAIT, STYLE_HOSTED, STYLE_COUNT };
enum fdmode { FD_BLOCKING, FD_NONBLOCK, FDMODE_COUNT };
enum mask { MASK_NONE, MASK_CACHE, MASK_NAMES, MASK_RING, MASK_FIXED, MASK_SMALL, MASK_COUNT };

/* test_case.fixed: axes that make no difference to this test; their first value is used. */
#define FIX_MODE (1u << AXIS_MODE)
#define FIX_STYLE (1u << AXIS_STYLE)
#define FIX_FD (1u << AXIS_FD)
#define FIX_MASK (1u << AXIS_MASK)
#define FIX_ALL (FIX_MODE | FIX_STYLE | FIX_FD | FIX_MASK)

/* test_case.needs: what a row must have; rows without are skips, listed in skips.txt. */
enum {
    NEED_DRIVER = 1u << 0,     /* a thread of the program drives the loop: not SERVICE */
    NEED_OWNED = 1u << 1,      /* one thread drives the loop */
    NEED_THREADS = 1u << 2,    /* several threads may use the loop: not OWNED */
    NEED_URING = 1u << 3,      /* it is about io_uring itself */
    NEED_KAIO = 1u << 4,       /* it is about the engine kaio itself */
    NEED_POSIXAIO = 1u << 5,   /* it is about POSIX AIO itself */
    NEED_NAMESPACES = 1u << 6, /* the process can be given a network and mounts of its own */
    NEED_DISK = 1u << 7        /* and a FUSE server may be mounted there */
};

struct test;
struct test_case {
    const char *name;
    void (*run)(struct test *t);
    const char *pitfalls; /* rows of the list of pitfalls that it proves: "K1 K14" */
    const char *faults;   /* rows of the list of faults that it makes: "7 23" */
    unsigned needs, fixed;
    enum style style; /* with FIX_STYLE */
    unsigned seconds; /* its time limit; 0: 10 */
    bool heavy;       /* quick runs give it three rows only */
    bool no_loop;     /* it opens loops by itself */
};
#define NAMED(function) .name = #function, .run = function

struct subject {
    const char *name;
    const struct test_case *cases; /* ends with a NULL name */
};

/* ---- A case while it runs ------------------------------------------------------------------ */

/* An operation with its page in the ledger. */
struct record {
    ouro_op op; /* first: an operation of op_new leads back here */
    struct test *t;
    struct record *next;
    _Atomic uint32_t offered, completed;
    uint64_t order; /* place of its last completion among all */
    ouro_id id;     /* the accepted submission; completions must bear it */
    int64_t res;    /* of its last completion */
    uint32_t cflags;
    bool own_cb;                               /* completes by callback, whatever the style */
    bool own_event;                            /* completes by an event, whatever the style */
    pthread_t thread;                          /* that ran its callback */
    void (*then)(struct test *t, ouro_op *op); /* after its callback was counted */
    /* of a stream: each completion that is not final, whatever its way */
    void (*more)(struct test *t, ouro_op *op, int64_t res, void *data);
};

struct test {
    const struct test_case *what;
    const char *engine; /* NULL: automatic */
    enum mode mode;
    enum style style;
    enum fdmode fdmode;
    enum mask mask;
    ouro_loop *loop;
    ouro_config config; /* with which open_loop opens */
    char dir[96];       /* an empty directory of this case's own */
    ouro_time limit;    /* when waiting for completions becomes a failure */

    pthread_mutex_t lock;
    pthread_cond_t completed;
    struct record *records;
    _Atomic uint64_t order;
    _Atomic uint64_t accepted;
    int64_t words[64]; /* messages that were reaped */
    _Atomic unsigned word_count;
    bool drops; /* it leaves events uncollected */

    int epoll, notify; /* hosting */
    int made[64]; /* descriptors of the helpers, and their flags: must be the same at the end */
    int made_flags[64];
    unsigned made_count;
    _Atomic long allocated; /* live allocations of the loop */
    long fds_before, threads_before, locked_before;
};

/* ---- Failing ------------------------------------------------------------------------------- */

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void test_equal(const char *file, int line, const char *text, int64_t a, int64_t b);

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(x)                          \
    do {                                  \
        if (!(x))                         \
            FAIL("%s does not hold", #x); \
    } while (0)
#define CHECK_EQ(a, b) test_equal(__FILE__, __LINE__, #a " == " #b, (int64_t)(a), (int64_t)(b))

/* ---- Loops --------------------------------------------------------------------------------- */

void open_loop(struct test *t);                        /* t->loop by t->config, hosting prepared */
int open_loop_try(struct test *t);                     /* the same: ouro_open's answer */
bool open_loop_wanting(struct test *t, uint64_t caps); /* true: the engine has these caps */
void close_loop(struct test *t);                       /* must be 0; then the ledger is judged */
void config_for(struct test *t, ouro_config *config);
ouro_time in_ms(struct test *t, int64_t ms);            /* loop time, ms from now */
int set_notify_try(struct test *t, ouro_notify notify); /* ouro_set_notify's answer */
void set_notify(struct test *t, ouro_notify notify);
unsigned seconds_scaled(unsigned seconds); /* sanitizers and valgrind are slow */

/* ---- Operations ---------------------------------------------------------------------------- */

ouro_op *op_new(struct test *t);
struct record *record_of(ouro_op *op);
void op_free(struct test *t, ouro_op *op);  /* idle again; the test frees it early */
int start_try(struct test *t, ouro_op *op); /* ouro_submit's answer */
void start(struct test *t, ouro_op *op);    /* must be accepted */
int start_n(struct test *t, ouro_op *const *ops, unsigned count);
int start_chain(struct test *t, ouro_op *const *ops, unsigned count);
int start_post(struct test *t, ouro_op *op);
int start_push(struct test *t, ouro_sendq *queue, ouro_op *op);
int64_t finish(struct test *t, ouro_op *op); /* waits for its final completion: res */
void finish_canceled(struct test *t, ouro_op *op);
void cancel_and_finish(struct test *t, ouro_op *op);
int64_t do_op(struct test *t, ouro_op *op);
void finish_all(struct test *t);
bool is_final(ouro_op *op);                            /* the ledger has its completion */
void wait_completions(struct test *t, uint64_t count); /* so many in all, messages included */
void step(struct test *t);                             /* a turn that does not wait */
void let_rest(struct test *t);                         /* turns for 20 ms, collecting what comes */
void let_pass(struct test *t); /* some turns, so that what is wrongly done early is done */
unsigned reap_all(struct test *t);
void ledger_event(struct test *t, const ouro_event *event); /* for tests that reap by themselves */
void ledger_waited(struct test *t, ouro_op *op);            /* ... that wait by themselves */
void ledger_quiet(ouro_op *op);  /* a QUIET success: no completion is due */
void ledger_forget(ouro_op *op); /* in a forked child: idle again */
void ledger_offer(ouro_op *op);
void ledger_answer(struct test *t, ouro_op *op, bool accepted);
#define RES(op) (record_of(op)->res)
#define CFLAGS(op) (record_of(op)->cflags)
#define ORDER(op) (record_of(op)->order)

/* ---- One of each usual operation (everyday.c) ------------------------------------------------ */

void work_on_files(struct test *t);
void work_on_sockets(struct test *t);
void work_on_the_rest(struct test *t);

/* ---- Files --------------------------------------------------------------------------------- */

const char *path_in(struct test *t, const char *name); /* in t->dir; good for 16 further calls */
int make_file(struct test *t, const char *name, const void *data, size_t len); /* O_RDWR */
int make_direct(struct test *t, const char *name, const void *data,
                size_t len); /* open with O_DIRECT, and not in the page cache */
void make_pipe(struct test *t, int fds[2]);
void make_socketpair(struct test *t, int fds[2]);
void make_stream(struct test *t, bool socket, int fds[2]); /* one of the two */
struct sockaddr_in;
/* On the loopback device: a TCP listener and where it listens; a connection to it, which the caller
 * closes; and both ends of one. */
int make_listener(struct test *t, struct sockaddr_in *ret_addr);
int connect_to(const struct sockaddr_in *addr);
void make_tcp(struct test *t, int fds[2]);
bool readable(int fd, int ms);
int made(struct test *t, int fd);    /* closed, and its flags compared, at the end */
void unmade(struct test *t, int fd); /* the test closes it by itself */
void fill(void *buf, size_t len, uint32_t seed);
void check_filled(const void *buf, size_t len, uint32_t seed);
int64_t plain(int64_t result); /* of a system call: itself or -errno */
long count_fds(void);
void expect_exit_zero(pid_t child);
bool ends_within(pid_t child, unsigned seconds, int *ret_status);
void await_first_thread(void); /* before threads are counted */
long count_threads(void);
long locked_kib(void);
void drop_privileges(uid_t user); /* root's CAP_IPC_LOCK makes RLIMIT_MEMLOCK void */

/* ---- Refusing system calls (block.c) ------------------------------------------------------- */

enum { BLOCK_SETUP = 1, BLOCK_ENTER = 2, BLOCK_REGISTER = 4, BLOCK_ALL = 7 };
#define BLOCK_KILL (-1)
/* From now on these calls of this process fail with error (an errno), or kill it (BLOCK_KILL). */
void block_io_uring(unsigned which, int error);
void block_calls(const long *numbers, unsigned count, int error); /* by their numbers */

/* ---- Namespaces (namespaces.c) ------------------------------------------------------------- */

/* This process, which has one thread, gets a network and mounts of its own; false: it may not. */
bool own_namespaces(void);
/* Is it >= 0 in a process of its own? */
bool allowed_in_child(int (*try)(const char *arg), const char *arg);
/* What NEED_NAMESPACES and NEED_DISK ask for. */
bool namespaces_allowed(void);
bool disk_allowed(void); /* t_disk.c */

/* ---- Tables -------------------------------------------------------------------------------- */

extern const struct subject subject_basics, subject_files, subject_names, subject_space,
    subject_time, subject_cancel, subject_chains, subject_order, subject_poll, subject_work,
    subject_threads, subject_hosting, subject_closing, subject_fork, subject_trace, subject_signals,
    subject_sigwait, subject_limits, subject_refusal, subject_fault, subject_cost, subject_register,
    subject_slots, subject_corners, subject_edges, subject_changes, subject_sockets, subject_sendq,
    subject_zerocopy, subject_resolve, subject_streams, subject_datagrams, subject_flow,
    subject_ready, subject_direct, subject_kaio, subject_posixaio, subject_network, subject_trouble,
    subject_disk, subject_parts, subject_sqpoll, subject_slotted, subject_entries;

/* harness.c: runs one case in this process; returns when all is well. */
void run_case(struct test *t);
extern char harness_note[128];
extern int harness_canary; /* 0 none, 1 lost, 2 double, 3 leaked descriptor, 4 thread, 5 memory */

#endif

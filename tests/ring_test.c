/* SPDX-License-Identifier: MIT */
/*
 * Tests of the raw ring (src/engine/ring.h) by itself, without the core: each in a process of its
 * own with a time limit, TAP out. Filters and fakes stay in the process of their test. Built with
 * OURO_TESTING it also swaps system calls in the sys table and so plays older kernels.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../src/engine/ring.h"
#include "../src/sys.h"

#define SKIPPED 77
#define LIMIT_SECONDS 30

#define CHECK(condition)                \
    do {                                \
        if (!(condition))               \
            fail(__LINE__, #condition); \
    } while (0)

#define CHECK_EQ(a, b)                                      \
    do {                                                    \
        long long a_ = (long long)(a), b_ = (long long)(b); \
        if (a_ != b_)                                       \
            fail_eq(__LINE__, #a " == " #b, a_, b_);        \
    } while (0)

static char why[512];

static void fail(int line, const char *what)
{
    printf("# ring_test.c:%d: %s (why: %s)\n", line, what, why);
    exit(1);
}

static void fail_eq(int line, const char *what, long long a, long long b)
{
    printf("# ring_test.c:%d: %s: %lld and %lld (why: %s)\n", line, what, a, b, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static unsigned fds_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    CHECK(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int maps_of_rings(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    int count = 0;

    CHECK(maps);
    while (fgets(line, sizeof(line), maps))
        count += strstr(line, "io_uring") != NULL;
    fclose(maps);
    return count;
}

/* Opens or fails; a test that is about refusal calls ring_open itself. */
static void open_ring(struct ring *ring, unsigned entries, unsigned flags)
{
    struct ring_wish wish = { .entries = entries, .cq_entries = 4 * entries, .flags = flags };
    int r = ring_open(ring, &wish, why, sizeof(why));

    CHECK_EQ(r, 0);
}

static void add_nop(struct ring *ring, uint64_t user_data)
{
    struct ring_sqe *sqe = ring_sqe(ring);

    CHECK(sqe);
    sqe->opcode = RING_OP_NOP;
    sqe->user_data = user_data;
}

static void add_read(struct ring *ring, int fd, void *buf, unsigned len, uint64_t user_data)
{
    struct ring_sqe *sqe = ring_sqe(ring);

    CHECK(sqe);
    sqe->opcode = RING_OP_READ;
    sqe->fd = fd;
    sqe->addr = (uintptr_t)buf;
    sqe->len = len;
    sqe->off = UINT64_MAX;
    sqe->user_data = user_data;
}

static struct ring_cqe take(struct ring *ring)
{
    struct ring_cqe cqe;

    CHECK(ring_cq_ready(ring) > 0);
    cqe = *ring_cqe(ring, ring->cq_head);
    ring_cq_advance(ring, ring->cq_head + 1);
    return cqe;
}

static void nops(struct ring *ring, unsigned depth, unsigned rounds)
{
    uint64_t sent = 0, seen = 0;

    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < depth; i++)
            add_nop(ring, ++sent);
        CHECK_EQ(ring_wait(ring, ring_flush_count(ring), depth, RING_FOREVER), depth);
        CHECK_EQ(ring_cq_ready(ring), depth);
        for (unsigned i = 0; i < depth; i++) {
            struct ring_cqe cqe = take(ring);

            CHECK_EQ(cqe.user_data, ++seen);
            CHECK_EQ(cqe.res, 0);
        }
    }
}

/* ---- opening and moving entries */

static void opens_with_the_wished_flags(void)
{
    struct ring ring;

    open_ring(&ring, 256, RING_WISH_OWNED);
    CHECK_EQ(ring.sq_entries, 256);
    CHECK_EQ(ring.cq_entries, 1024);
    CHECK_EQ(ring.features & RING_FEAT_REQUIRED, RING_FEAT_REQUIRED);
    CHECK_EQ(ring.flags & ring.refused, 0);
    CHECK_EQ((ring.flags | ring.refused) & RING_WISH_OWNED, RING_WISH_OWNED);
    CHECK(fcntl(ring.fd, F_GETFD) & FD_CLOEXEC);
    printf("# flags 0x%x, refused 0x%x, features 0x%x\n", ring.flags, ring.refused, ring.features);
    ring_close(&ring);
}

static void nops_come_back_once_and_in_order(void)
{
    static const unsigned wishes[] = { RING_WISH_OWNED, RING_WISH_SHARED,
                                       RING_WISH_OWNED & ~RING_SETUP_NO_SQARRAY, 0 };

    for (unsigned w = 0; w < sizeof(wishes) / sizeof(wishes[0]); w++) {
        struct ring ring;

        open_ring(&ring, 128, wishes[w]);
        for (unsigned depth = 1; depth <= 128; depth++)
            nops(&ring, depth, 3);
        ring_close(&ring);
    }
}

static void the_cost_of_a_nop_is_printed(void)
{
    struct ring ring;

    open_ring(&ring, 128, RING_WISH_OWNED);
    CHECK_EQ(ring_register_fd(&ring), 0);
    for (unsigned depth = 1; depth <= 128; depth *= depth == 1 ? 8 : 4) {
        uint64_t best = UINT64_MAX;
        unsigned rounds = 100000 / depth;

        for (unsigned i = 0; i < 5; i++) {
            uint64_t start = now_ns(), took;

            nops(&ring, depth, rounds);
            took = now_ns() - start;
            best = took < best ? took : best;
        }
        printf("# depth %u: %.1f ns per nop\n", depth, (double)best / rounds / depth);
    }
    ring_close(&ring);
}

static void a_full_queue_answers_null_and_loses_nothing(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 8; i++)
            add_nop(&ring, i);
        CHECK(!ring_sqe(&ring));
        CHECK_EQ(ring_sq_space(&ring), 0);
        CHECK_EQ(ring_sq_pending(&ring), 8);
        CHECK_EQ(ring_sq_peek(&ring, 3)->user_data, 3);
        CHECK_EQ(ring_flush_count(&ring), 8);
        CHECK_EQ(ring_enter(&ring, 5, 0, 0, NULL, 0), 5);
        CHECK_EQ(ring_sq_space(&ring), 5);
        CHECK_EQ(ring_sq_peek(&ring, 0)->user_data, 5);
        CHECK_EQ(ring_flush_count(&ring), 3);
        CHECK_EQ(ring_wait(&ring, 3, 8, RING_FOREVER), 3);
        for (unsigned i = 0; i < 8; i++)
            CHECK_EQ(take(&ring).user_data, i);
    }
    ring_close(&ring);
}

static void an_entry_is_zeroed_whatever_it_held(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    for (unsigned i = 0; i < 8; i++)
        memset(&ring.sqes[i], 0xa5, sizeof(ring.sqes[i]));
    for (unsigned i = 0; i < 8; i++) {
        const unsigned char *bytes = (const unsigned char *)ring_sqe(&ring);

        for (unsigned k = 0; k < sizeof(struct ring_sqe); k++)
            CHECK_EQ(bytes[k], 0);
    }
    ring_close(&ring);
}

static void a_registered_descriptor_works_and_is_given_back(void)
{
    struct ring ring;

    for (unsigned i = 0; i < 40; i++) { /* the kernel keeps 16 per thread */
        open_ring(&ring, 8, RING_WISH_OWNED);
        CHECK_EQ(ring_register_fd(&ring), 0);
        CHECK_EQ(ring.enter_flags, RING_ENTER_REGISTERED_RING);
        CHECK_EQ(ring_register_fd(&ring), -EBUSY);
        nops(&ring, 8, 2);
        ring_close(&ring);
    }
}

static void a_closed_ring_may_be_closed_and_nothing_leaks(void)
{
    unsigned before = fds_open();
    struct ring ring;

    memset(&ring, 0, sizeof(ring));
    ring_close(NULL);
    ring_close(&ring);
    for (unsigned i = 0; i < 20; i++) {
        open_ring(&ring, 64, RING_WISH_OWNED);
        nops(&ring, 3, 1);
        ring_close(&ring);
        ring_close(&ring);
    }
    CHECK_EQ(fds_open(), before);
}

static void the_probe_tells_known_from_unknown(void)
{
    uint64_t ops[2];
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    CHECK_EQ(ring_probe(&ring, ops), 0);
    CHECK(ring_knows(ops, RING_OP_NOP) && ring_knows(ops, RING_OP_READ));
    CHECK(ring_knows(ops, RING_OP_LINKAT));
    CHECK(!ring_knows(ops, 127) && !ring_knows(ops, 200));
    printf("# opcodes 0x%llx\n", (unsigned long long)ops[0]);
    ring_close(&ring);
}

static void a_disabled_ring_runs_once_enabled(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED | RING_SETUP_R_DISABLED);
    add_nop(&ring, 1);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), -EBADFD);
    CHECK_EQ(ring_register(&ring, RING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), 1);
    CHECK_EQ(take(&ring).user_data, 1);
    ring_close(&ring);
}

static void errno_is_left_alone(void)
{
    struct ring_wish bad = { .entries = 0, .flags = RING_WISH_OWNED };
    struct ring ring;

    errno = 4711;
    CHECK_EQ(ring_open(&ring, &bad, why, sizeof(why)), -EINVAL);
    open_ring(&ring, 8, RING_WISH_OWNED | 1u << 31);
    CHECK_EQ(ring_register(&ring, 9999, NULL, 0), -EINVAL);
    CHECK_EQ(ring_wait(&ring, 0, 1, now_ns()), -ETIME);
    CHECK_EQ(ring_register_fd(&ring), 0);
    ring_close(&ring);
    CHECK_EQ(errno, 4711);
}

/* ---- a ring that a thread of the kernel polls */

static bool wait_for_completion(struct ring *ring)
{
    uint64_t limit = now_ns() + 2000000000u;

    while (!ring_cq_ready(ring) && now_ns() < limit)
        usleep(100);
    return ring_cq_ready(ring);
}

/* R11: what is published while it sleeps stays there until somebody wakes it; and whoever looks
 * at the flag behind the fence of ring_needs_wakeup never finds it awake wrongly. An enter that has
 * nothing to hand over lets it sleep. */
static void a_sleeping_poller_is_woken(void)
{
    struct ring_wish wish = {
        .entries = 8, .cq_entries = 32, .flags = RING_SETUP_SQPOLL, .sq_idle_ms = 1
    };
    unsigned woken = 0;
    struct ring ring;

    if (ring_open(&ring, &wish, why, sizeof(why)) == -EPERM)
        exit(SKIPPED);
    CHECK(ring.flags & RING_SETUP_SQPOLL);
    for (int i = 0; i < 2000 && !ring_needs_wakeup(&ring); i++)
        usleep(1000);
    CHECK(ring_needs_wakeup(&ring));
    CHECK_EQ(ring_flush_count(&ring), 0);
    CHECK_EQ(ring_enter(&ring, 0, 0, RING_ENTER_GETEVENTS, NULL, 0), 0);
    add_nop(&ring, 1);
    CHECK_EQ(ring_sq_revocable(&ring), 1);
    CHECK_EQ(ring_flush_count(&ring), 1);
    CHECK_EQ(ring_sq_revocable(&ring), 0);
    usleep(20000);
    CHECK_EQ(ring_cq_ready(&ring), 0);
    CHECK(ring_needs_wakeup(&ring));
    CHECK(ring_enter(&ring, 1, 0, RING_ENTER_SQ_WAKEUP, NULL, 0) >= 0);
    CHECK(wait_for_completion(&ring));
    CHECK_EQ(take(&ring).user_data, 1);
    /* It falls asleep at any point of these. */
    for (unsigned i = 0; i < 400; i++) {
        usleep(i * 37 % 8000);
        add_nop(&ring, i);
        if (ring_flush_count(&ring)) {
            CHECK(ring_enter(&ring, 1, 0, RING_ENTER_SQ_WAKEUP, NULL, 0) >= 0);
            woken++;
        }
        CHECK(wait_for_completion(&ring));
        CHECK_EQ(take(&ring).user_data, i);
    }
    CHECK(woken > 0);
    ring_close(&ring);
}

/* Room comes by itself, and who waits for it is woken. */
static void an_awake_poller_needs_no_enter(void)
{
    struct ring_wish wish = {
        .entries = 8, .cq_entries = 32, .flags = RING_SETUP_SQPOLL, .sq_idle_ms = 60000
    };
    struct ring ring;

    if (ring_open(&ring, &wish, why, sizeof(why)) == -EPERM)
        exit(SKIPPED);
    CHECK(ring_polled(&ring));
    CHECK_EQ(ring_register_fd(&ring), 0);
    CHECK(ring_polled(&ring));
    add_nop(&ring, 1); /* a new one sleeps, or is about to */
    (void)ring_flush_count(&ring);
    CHECK(ring_enter(&ring, 1, 0, RING_ENTER_SQ_WAKEUP, NULL, 0) >= 0);
    CHECK(wait_for_completion(&ring));
    CHECK_EQ(take(&ring).user_data, 1);
    while (ring_sq_pending(&ring))
        usleep(10);
    for (unsigned i = 0; i < 1000; i++) {
        for (unsigned n = 0; n < 8; n++)
            add_nop(&ring, i * 8 + n);
        CHECK_EQ(ring_sq_revocable(&ring), 8);
        CHECK_EQ(ring_flush_count(&ring), 0);
        CHECK_EQ(ring_sq_revocable(&ring), 0);
        CHECK_EQ(ring_enter(&ring, 0, 0, RING_ENTER_SQ_WAIT, NULL, 0), 0);
        CHECK(ring_sq_space(&ring) > 0);
        for (unsigned n = 0; n < 8; n++) {
            CHECK(wait_for_completion(&ring));
            CHECK_EQ(take(&ring).user_data, i * 8 + n);
        }
        while (ring_sq_pending(&ring)) /* completions may be seen before */
            usleep(10);
    }
    ring_close(&ring);
    CHECK(!ring_polled(&ring));
}

/* ---- waiting */

static void wait_until(struct ring *ring)
{
    uint64_t start = now_ns(), took;

    CHECK_EQ(ring_wait(ring, 0, 1, start + 20000000), -ETIME);
    took = now_ns() - start;
    CHECK(took >= 20000000 && took < 2000000000);
    CHECK_EQ(ring_wait(ring, 0, 1, start), -ETIME);
    CHECK(now_ns() - start - took < 10000000);
}

static void a_deadline_is_absolute_and_monotonic(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    printf("# wait flags 0x%x\n", ring.wait_flags);
    wait_until(&ring);
    ring.wait_flags &= ~RING_ENTER_ABS_TIMER; /* as before 6.12 */
    wait_until(&ring);
    ring.wait_flags = 0;
    wait_until(&ring);
    /* A submission hides the timeout: the count comes back. */
    add_nop(&ring, 7);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 2, now_ns() + 1000000), 1);
    CHECK_EQ(take(&ring).user_data, 7);
    ring_close(&ring);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

static void a_signal_ends_the_wait(void)
{
    struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
    struct itimerval once = { .it_value = { 0, 20000 } };
    uint64_t deadline;
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
    CHECK_EQ(ring_wait(&ring, 0, 1, RING_FOREVER), -EINTR);
    deadline = now_ns() + 50000000;
    CHECK_EQ(setitimer(ITIMER_REAL, &once, NULL), 0);
    CHECK_EQ(ring_wait(&ring, 0, 1, deadline), -EINTR);
    CHECK_EQ(ring_wait(&ring, 0, 1, deadline), -ETIME);
    CHECK(now_ns() >= deadline);
    ring_close(&ring);
}

static void deferred_completions_need_an_enter(void)
{
    char byte = 0;
    int fds[2];
    struct ring ring;

    CHECK_EQ(pipe(fds), 0);
    open_ring(&ring, 8, RING_WISH_OWNED);
    if (!(ring.flags & RING_SETUP_DEFER_TASKRUN))
        exit(SKIPPED);
    add_read(&ring, fds[0], &byte, 1, 5);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 0, RING_NOWAIT), 1);
    CHECK(!ring_needs_enter(&ring));
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(ring_needs_enter(&ring));
    CHECK_EQ(ring_cq_ready(&ring), 0);
    CHECK_EQ(ring_wait(&ring, 0, 1, RING_NOWAIT), 0);
    CHECK_EQ(take(&ring).res, 1);
    CHECK_EQ(byte, 'x');
    ring_close(&ring);
}

/* ---- resizing */

static void resizing_keeps_everything(void)
{
    char bytes[4] = "";
    int fds[2];
    struct ring ring;
    int r;

    CHECK_EQ(pipe(fds), 0);
    open_ring(&ring, 8, RING_WISH_OWNED);
    CHECK_EQ(ring_register_fd(&ring), 0);
    nops(&ring, 5, 3); /* so that the counters stand anywhere but at 0 */
    add_read(&ring, fds[0], bytes, 1, 100);
    add_nop(&ring, 101);
    add_nop(&ring, 102);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 2, RING_FOREVER), 3);
    add_nop(&ring, 103); /* claimed, not published */
    r = ring_resize(&ring, 64, 256);
    if (r == -EINVAL)
        exit(SKIPPED);
    CHECK_EQ(r, 0);
    CHECK_EQ(ring.sq_entries, 64);
    CHECK_EQ(ring.cq_entries, 256);
    CHECK_EQ(take(&ring).user_data, 101);
    CHECK_EQ(take(&ring).user_data, 102);
    CHECK_EQ(ring_sq_pending(&ring), 1);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), 1);
    CHECK_EQ(take(&ring).user_data, 103);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK_EQ(ring_wait(&ring, 0, 1, RING_FOREVER), 0);
    CHECK_EQ(take(&ring).user_data, 100);
    CHECK_EQ(bytes[0], 'x');
    nops(&ring, 64, 10);
    ring_close(&ring);
}

static void a_ring_with_an_index_array_refuses_to_resize(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED & ~RING_SETUP_NO_SQARRAY);
    nops(&ring, 5, 1);
    add_nop(&ring, 100);
    CHECK_EQ(ring_resize(&ring, 128, 512), -EINVAL);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), 1);
    CHECK_EQ(take(&ring).user_data, 100);
    nops(&ring, 8, 10);
    ring_close(&ring);
}

static void resizing_goes_both_ways(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    if (ring_resize(&ring, 16, 64) == -EINVAL)
        exit(SKIPPED);
    for (unsigned entries = 1; entries <= 1024; entries *= 2) {
        CHECK_EQ(ring_resize(&ring, entries, entries * 4), 0);
        CHECK_EQ(ring.sq_entries, entries);
        nops(&ring, entries, 5);
    }
    CHECK_EQ(ring_resize(&ring, 4, 16), 0);
    nops(&ring, 4, 20);
    CHECK_EQ(maps_of_rings(), 2);
    ring_close(&ring);
}

static void a_resize_that_cannot_be_leaves_the_ring_alone(void)
{
    struct rlimit limit, before;
    struct ring ring;

    open_ring(&ring, 32, RING_WISH_OWNED);
    if (ring_resize(&ring, 64, 256) == -EINVAL)
        exit(SKIPPED);
    for (unsigned i = 0; i < 20; i++)
        add_nop(&ring, i);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 20, RING_FOREVER), 20);
    CHECK_EQ(ring_resize(&ring, 8, 8), -EOVERFLOW);
    /* No address space: found out before the kernel switches. */
    CHECK_EQ(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    CHECK_EQ(ring_resize(&ring, 128, 512), -ENOMEM);
    CHECK_EQ(setrlimit(RLIMIT_AS, &before), 0);
    CHECK_EQ(ring.sq_entries, 64);
    for (unsigned i = 0; i < 20; i++)
        CHECK_EQ(take(&ring).user_data, i);
    nops(&ring, 64, 3);
    ring_close(&ring);
}

static void a_ring_without_deferred_work_refuses_to_resize(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_SHARED);
    CHECK_EQ(ring_resize(&ring, 64, 256), -EINVAL);
    nops(&ring, 8, 3);
    ring_close(&ring);
}

/* ---- processes */

static void a_forked_child_has_no_maps_and_does_no_harm(void)
{
    struct ring ring;
    int status, pid;

    open_ring(&ring, 8, RING_WISH_OWNED);
    CHECK_EQ(ring_register_fd(&ring), 0);
    CHECK_EQ(maps_of_rings(), 2);
    add_nop(&ring, 1);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        void *other;

        if (maps_of_rings() != 0)
            _exit(1);
        /* Something else of the child's now lies where the ring was; closing must not touch it. */
        other = mmap(ring.map, ring.map_size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        ring_close(&ring);
        *(volatile char *)other = 1;
        _exit(ring.fd == -1 ? 0 : 2);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), 1);
    CHECK_EQ(take(&ring).user_data, 1);
    ring_close(&ring);
    CHECK_EQ(maps_of_rings(), 0);
}

/* ---- refusal */

static void filter(int number, unsigned above, unsigned answer)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, above, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void refused(int error, const char *word)
{
    struct ring_wish wish = { .entries = 64, .cq_entries = 256, .flags = RING_WISH_OWNED };
    sigset_t mask, before;
    struct ring ring;
    int status, fds = (int)fds_open();

    CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &before), 0);
    signal(SIGCHLD, count_signal);
    signal(SIGSYS, count_signal);
    errno = 4711;
    CHECK_EQ(ring_blocked(why, sizeof(why)), error);
    CHECK_EQ(errno, 4711);
    printf("# %s\n", why);
    CHECK(strstr(why, word));
    why[0] = '\0';
    CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), error);
    CHECK(strstr(why, word));
    CHECK_EQ(signals, 0);
    CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    for (int number = 1; number < 32; number++)
        CHECK_EQ(sigismember(&mask, number), sigismember(&before, number));
    CHECK_EQ(waitpid(-1, &status, __WALL), -1);
    CHECK_EQ(errno, ECHILD);
    CHECK_EQ(fds_open(), fds);
}

static void blocked_by_eperm(void)
{
    filter(RING_NR_SETUP, 0, SECCOMP_RET_ERRNO | EPERM);
    refused(-EPERM, "seccomp");
}

static void blocked_by_enosys(void)
{
    filter(RING_NR_SETUP, 0, SECCOMP_RET_ERRNO | ENOSYS);
    refused(-ENOSYS, "seccomp");
}

static void blocked_by_killing_the_process(void)
{
    filter(RING_NR_SETUP, 0, SECCOMP_RET_KILL_PROCESS);
    refused(-EPERM, "kills whoever calls io_uring_setup");
}

static void blocked_by_killing_the_thread(void)
{
    filter(RING_NR_SETUP, 0, SECCOMP_RET_KILL_THREAD);
    refused(-EPERM, "kills whoever calls io_uring_setup");
}

static void blocked_by_a_trap(void)
{
    filter(RING_NR_SETUP, 0, SECCOMP_RET_TRAP);
    refused(-EPERM, "kills whoever calls io_uring_setup");
}

static void blocked_in_enter_alone(void)
{
    filter(RING_NR_ENTER, 0, SECCOMP_RET_ERRNO | EPERM);
    refused(-EPERM, "io_uring_enter failed");
}

static void blocked_in_enter_by_killing(void)
{
    filter(RING_NR_ENTER, 0, SECCOMP_RET_KILL_PROCESS);
    refused(-EPERM, "kills whoever calls io_uring_enter");
}

static void blocked_in_register_alone(void)
{
    filter(RING_NR_REGISTER, 0, SECCOMP_RET_ERRNO | ENOSYS);
    refused(-ENOSYS, "io_uring_register failed");
}

static void a_filter_that_allows_is_no_obstacle(void)
{
    struct ring ring;

    filter(SYS_reboot, 0, SECCOMP_RET_ERRNO | EPERM);
    CHECK_EQ(ring_blocked(why, sizeof(why)), 0);
    open_ring(&ring, 64, RING_WISH_OWNED);
    nops(&ring, 64, 3);
    ring_close(&ring);
}

static void a_ring_blocked_after_opening_says_so(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED);
    add_nop(&ring, 1);
    add_nop(&ring, 2);
    filter(RING_NR_ENTER, 0, SECCOMP_RET_ERRNO | EPERM);
    CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), -EPERM);
    CHECK_EQ(ring_sq_pending(&ring), 2);
    CHECK_EQ(ring_sq_peek(&ring, 1)->user_data, 2);
    ring_close(&ring);
}

static void short_memory_shrinks_the_ring(void)
{
    struct ring ring;

    filter(RING_NR_SETUP, 17, SECCOMP_RET_ERRNO | ENOMEM);
    open_ring(&ring, 256, RING_WISH_OWNED);
    CHECK_EQ(ring.sq_entries, 16);
    CHECK_EQ(ring.cq_entries, 64);
    nops(&ring, 16, 3);
    ring_close(&ring);
}

static void no_memory_waits_once_and_names_the_limit(void)
{
    struct ring_wish wish = { .entries = 256, .cq_entries = 1024, .flags = RING_WISH_OWNED };
    uint64_t start = now_ns(), took;
    struct ring ring;

    filter(RING_NR_SETUP, 1, SECCOMP_RET_ERRNO | ENOMEM);
    CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), -ENOMEM);
    took = now_ns() - start;
    CHECK(took >= 45000000 && took < 1000000000);
    printf("# %s\n", why);
    CHECK(strstr(why, "memory"));
}

static void no_locked_memory_names_the_limit(void)
{
    struct ring_wish wish = { .entries = 64, .flags = RING_WISH_OWNED };
    struct rlimit limit = { 0, 0 };
    struct ring ring;

    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (getuid() == 0) /* root is not charged */
        CHECK_EQ(setresuid(65534, 65534, 65534), 0);
    CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), -ENOMEM);
    printf("# %s\n", why);
    CHECK(strstr(why, "may lock 0 KiB") && strstr(why, "ulimit -l"));
}

static void no_descriptor_left_names_the_limit(void)
{
    struct ring_wish wish = { .entries = 8, .flags = RING_WISH_OWNED };
    struct rlimit limit, before;
    struct ring ring;
    int r;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 3;
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    r = ring_open(&ring, &wish, why, sizeof(why));
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(r, -EMFILE);
    printf("# %s\n", why);
    CHECK(strstr(why, "all 3 file descriptors") && strstr(why, "ulimit -n"));
}

static void an_unknown_flag_is_given_up(void)
{
    struct ring ring;

    open_ring(&ring, 8, RING_WISH_OWNED | 1u << 31 | 1u << 30);
    CHECK(ring.refused & 1u << 31 && ring.refused & 1u << 30);
    CHECK_EQ(ring.flags & 3u << 30, 0);
    CHECK_EQ((ring.flags | ring.refused) & RING_WISH_OWNED, RING_WISH_OWNED);
    nops(&ring, 8, 3);
    ring_close(&ring);
}

#if defined(OURO_TESTING)

/* ---- older kernels, played by swapping the setup call */

static unsigned known_flags, lacking_features, setups;

static long old_setup(unsigned entries, struct ring_params *params)
{
    unsigned flags = params ? params->flags : 0;
    long r;

    setups++;
    if (flags & ~known_flags)
        return -EINVAL;
    if (flags & RING_SETUP_TASKRUN_FLAG &&
        !(flags & (RING_SETUP_COOP_TASKRUN | RING_SETUP_DEFER_TASKRUN)))
        return -EINVAL;
    r = ouro__do_io_uring_setup(entries, params);
    if (r >= 0 && params)
        params->features &= ~lacking_features;
    return r;
}

static void open_on(unsigned knows, unsigned expect)
{
    struct ring ring;

    known_flags = knows;
    ouro__sys.io_uring_setup = old_setup;
    open_ring(&ring, 16, RING_WISH_OWNED);
    CHECK_EQ(ring.flags, expect | RING_SETUP_CQSIZE | RING_SETUP_CLAMP);
    nops(&ring, 16, 3);
    ring_close(&ring);
}

static void flags_are_peeled_newest_first(void)
{
    const unsigned coop = RING_SETUP_COOP_TASKRUN | RING_SETUP_TASKRUN_FLAG;

    open_on((1u << 14) - 1, RING_WISH_OWNED & ~RING_SETUP_NO_SQARRAY);                /* 6.1 */
    open_on((1u << 13) - 1, RING_SETUP_SUBMIT_ALL | coop | RING_SETUP_SINGLE_ISSUER); /* 6.0 */
    open_on((1u << 12) - 1, RING_SETUP_SUBMIT_ALL | coop);                            /* 5.19 */
    open_on((1u << 8) - 1, RING_SETUP_SUBMIT_ALL);                                    /* 5.18 */
    open_on((1u << 7) - 1, 0);                                                        /* 5.15 */
}

static void a_kernel_below_the_floor_is_refused(void)
{
    struct ring_wish wish = { .entries = 8, .flags = RING_WISH_OWNED };
    unsigned fds = fds_open();
    struct ring ring;

    known_flags = UINT32_MAX;
    lacking_features = RING_FEAT_RSRC_TAGS;
    ouro__sys.io_uring_setup = old_setup;
    CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), -EOPNOTSUPP);
    CHECK(strstr(why, "5.15"));
    known_flags = 0;
    CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), -EINVAL);
    CHECK(setups < 20);
    CHECK_EQ(fds_open(), fds);
}

static int sysctl_value;

static long refuse_setup(unsigned entries, struct ring_params *params)
{
    (void)entries;
    (void)params;
    return -EPERM;
}

static long open_sysctl(int dir, const char *path, int flags, unsigned mode)
{
    int fds[2];

    CHECK(strstr(path, "io_uring_disabled") && dir && flags && !mode);
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(dprintf(fds[1], "%d\n", sysctl_value), 2);
    close(fds[1]);
    return fds[0];
}

static void the_sysctl_is_named(void)
{
    struct ring_wish wish = { .entries = 8, .flags = RING_WISH_OWNED };
    struct ring ring;

    ouro__sys.io_uring_setup = refuse_setup;
    ouro__sys.openat = open_sysctl;
    for (sysctl_value = 0; sysctl_value < 3; sysctl_value++) {
        static const char *const words[] = { "security module", "io_uring_disabled is 1",
                                             "io_uring_disabled is 2" };

        CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), -EPERM);
        CHECK(strstr(why, words[sysctl_value]));
    }
}

/* The n-th mmap or madvise of an open fails, for every n: the error comes back, nothing is left. */
static unsigned fail_at, calls;

static long failing_mmap(void **ret, size_t len, int prot, int flags, int fd, int64_t offset)
{
    return ++calls == fail_at ? -EAGAIN : ouro__do_mmap(ret, len, prot, flags, fd, offset);
}

static long failing_madvise(void *at, size_t len, int advice)
{
    return ++calls == fail_at ? -EAGAIN : ouro__do_madvise(at, len, advice);
}

static void a_failed_map_leaves_nothing(void)
{
    struct ring_wish wish = { .entries = 8, .flags = RING_WISH_OWNED };
    unsigned fds = fds_open();
    struct ring ring;

    ouro__sys.mmap = failing_mmap;
    ouro__sys.madvise = failing_madvise;
    for (fail_at = 1; fail_at <= 4; fail_at++) {
        calls = 0;
        CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), -EAGAIN);
        CHECK_EQ(maps_of_rings(), 0);
        CHECK_EQ(fds_open(), fds);
    }
    calls = 0;
    CHECK_EQ(ring_open(&ring, &wish, why, sizeof(why)), 0);
    CHECK_EQ(calls, 4);
    ring_close(&ring);
}

/* The same of a resize: refused while there is a way back, and said plainly once there is none. */
static void a_failed_map_of_a_resize_is_told(void)
{
    unsigned fds = fds_open();
    struct ring ring;
    int r = 0;

    for (fail_at = 1; fail_at <= 6; fail_at++) {
        ouro__sys.mmap = ouro__do_mmap;
        ouro__sys.madvise = ouro__do_madvise;
        open_ring(&ring, 8, RING_WISH_OWNED);
        ouro__sys.mmap = failing_mmap;
        ouro__sys.madvise = failing_madvise;
        calls = 0;
        add_nop(&ring, 1);
        r = ring_resize(&ring, 64, 256);
        if (r == -EINVAL)
            exit(SKIPPED);
        CHECK_EQ(r, fail_at == 1 ? -EAGAIN : fail_at < 6 ? -ENOTRECOVERABLE : 0);
        if (r != -ENOTRECOVERABLE) {
            CHECK_EQ(ring_wait(&ring, ring_flush_count(&ring), 1, RING_FOREVER), 1);
            CHECK_EQ(take(&ring).user_data, 1);
        }
        ring_close(&ring);
        CHECK_EQ(maps_of_rings(), 0);
        CHECK_EQ(fds_open(), fds);
    }
}

#endif

/* A test, and the row of the list of pitfalls or of faults that it is for (tests/rows.txt). */
#define TEST(name) PROVES(name, NULL, NULL)
#define PROVES(name, pitfall, fault) \
    {                                \
#name, name, pitfall, fault  \
    }

static const struct {
    const char *name;
    void (*run)(void);
    const char *pitfall, *fault;
} tests[] = {
    TEST(opens_with_the_wished_flags),
    TEST(nops_come_back_once_and_in_order),
    TEST(the_cost_of_a_nop_is_printed),
    TEST(a_full_queue_answers_null_and_loses_nothing),
    PROVES(an_entry_is_zeroed_whatever_it_held, "S15", NULL),
    TEST(a_registered_descriptor_works_and_is_given_back),
    TEST(a_closed_ring_may_be_closed_and_nothing_leaks),
    TEST(the_probe_tells_known_from_unknown),
    TEST(a_disabled_ring_runs_once_enabled),
    TEST(errno_is_left_alone),
    TEST(a_sleeping_poller_is_woken),
    TEST(an_awake_poller_needs_no_enter),
    TEST(a_deadline_is_absolute_and_monotonic),
    TEST(a_signal_ends_the_wait),
    TEST(deferred_completions_need_an_enter),
    TEST(resizing_keeps_everything),
    TEST(resizing_goes_both_ways),
    TEST(a_ring_with_an_index_array_refuses_to_resize),
    TEST(a_resize_that_cannot_be_leaves_the_ring_alone),
    TEST(a_ring_without_deferred_work_refuses_to_resize),
    TEST(a_forked_child_has_no_maps_and_does_no_harm),
    TEST(blocked_by_eperm),
    TEST(blocked_by_enosys),
    TEST(blocked_by_killing_the_process),
    TEST(blocked_by_killing_the_thread),
    TEST(blocked_by_a_trap),
    TEST(blocked_in_enter_alone),
    TEST(blocked_in_enter_by_killing),
    TEST(blocked_in_register_alone),
    TEST(a_filter_that_allows_is_no_obstacle),
    TEST(a_ring_blocked_after_opening_says_so),
    TEST(short_memory_shrinks_the_ring),
    TEST(no_memory_waits_once_and_names_the_limit),
    TEST(no_locked_memory_names_the_limit),
    TEST(no_descriptor_left_names_the_limit),
    TEST(an_unknown_flag_is_given_up),
#if defined(OURO_TESTING)
    TEST(flags_are_peeled_newest_first),
    TEST(a_kernel_below_the_floor_is_refused),
    PROVES(the_sysctl_is_named, NULL, "15"),
    TEST(a_failed_map_leaves_nothing),
    TEST(a_failed_map_of_a_resize_is_told),
#endif
};

static int run_one(unsigned i)
{
    int status = -1, pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        alarm(LIMIT_SECONDS);
        tests[i].run();
        exit(0);
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        printf("# ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* As `run --pitfalls` and `run --faults`. */
static int print_rows(bool faults)
{
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        const char *row = faults ? tests[i].fault : tests[i].pitfall;

        if (row)
            printf("%s\tring_test/%s\n", row, tests[i].name);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const unsigned count = sizeof(tests) / sizeof(tests[0]);
    unsigned failed = 0;

    if (argc > 1 && (strcmp(argv[1], "--pitfalls") == 0 || strcmp(argv[1], "--faults") == 0))
        return print_rows(strcmp(argv[1], "--faults") == 0);
    printf("1..%u\n", count);
    for (unsigned i = 0; i < count; i++) {
        int result;

        if (argc > 1 && strcmp(argv[1], tests[i].name) != 0) {
            printf("ok %u - %s # SKIP not asked for\n", i + 1, tests[i].name);
            continue;
        }
        result = run_one(i);
        failed += result != 0 && result != SKIPPED;
        printf("%s %u - %s%s\n", result && result != SKIPPED ? "not ok" : "ok", i + 1,
               tests[i].name, result == SKIPPED ? " # SKIP not on this kernel" : "");
    }
    return failed ? 1 : 0;
}

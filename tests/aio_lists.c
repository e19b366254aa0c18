/* SPDX-License-Identifier: MIT */
/* aio_lists.c: lio_listio (P40-P45). */
#include "aio_test.h"

#include "../compat/aio_versions.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void p40_lists_are_long(void)
{
    enum { COUNT = 5000 };
    static struct aiocb blocks[COUNT];
    static struct aiocb *list[COUNT];
    static char bytes[COUNT];
    int fd = temp_file(0);

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    CHECK(lio_listio(77, list, 0, NULL) == -1 && errno == EINVAL);
    CHECK(lio_listio(LIO_WAIT, list, -1, NULL) == -1 && errno == EINVAL);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block_of(fd, &bytes[i], 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
        list[i] = &blocks[i];
    }
    CHECK(lio_listio(LIO_WAIT, list, COUNT, NULL) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(aio_error(&blocks[i]) == 0 && bytes[i] == 'a');
}

static void p41_one_that_fails_stops_no_other(void)
{
    char bytes[3] = { 0 };
    int fd = temp_file(0);
    struct aiocb blocks[4];
    struct aiocb *list[] = { &blocks[0], NULL, &blocks[1], &blocks[2], &blocks[3] };

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    for (int i = 0; i < 4; i++) {
        blocks[i] = block_of(fd, bytes + i % 3, 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
    }
    blocks[1].aio_lio_opcode = LIO_NOP;
    blocks[1].__error_code = 4242;
    CHECK(lio_listio(LIO_WAIT, list, 5, NULL) == 0 && blocks[1].__error_code == 4242);
    blocks[2].aio_lio_opcode = 99;
    CHECK(lio_listio(LIO_WAIT, list, 5, NULL) == -1 && errno == EIO);
    CHECK(aio_error(&blocks[0]) == 0 && aio_error(&blocks[2]) == EINVAL &&
          aio_error(&blocks[3]) == 0);
}

enum { CANARY = 64 << 10 };

static __attribute__((noinline)) int interrupted_list(struct aiocb *const list[], int count)
{
    return lio_listio(LIO_WAIT, list, count, NULL) == -1 && errno == EINTR;
}

/* Where the stack of the interrupted call was. */
static __attribute__((noinline)) void end_over_a_canary(struct aiocb *blocks, int count, int writer)
{
    volatile char canary[CANARY];

    for (int i = 0; i < CANARY; i++)
        canary[i] = 0x77;
    for (int i = 0; i < count; i++)
        CHECK(write(writer, &"ab"[i], 1) == 1);
    for (int i = 0; i < count; i++)
        while (aio_error(&blocks[i]) == EINPROGRESS) /* needs no more stack than it */
            nap_ms(1);
    nap_ms(20);
    for (int i = 0; i < CANARY; i++)
        CHECK(canary[i] == 0x77);
}

/* BETTER: glibc writes to the caller's stack when the requests end. */
static void p42_a_wait_that_was_interrupted_leaves_nothing_behind(void)
{
    char bytes[2];
    int fds[2];
    struct aiocb blocks[2];
    struct aiocb *list[] = { &blocks[0], &blocks[1] };
    struct sigaction action = { .sa_handler = on_nothing };
    pthread_t thread;

    main_thread = pthread_self();
    sigaction(SIGUSR1, &action, NULL);
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 2; i++) {
        blocks[i] = block_of(fds[0], bytes + i, 1, 0);
        blocks[i].aio_lio_opcode = LIO_READ;
    }
    CHECK(pthread_create(&thread, NULL, send_signal, NULL) == 0);
    CHECK(interrupted_list(list, 2));
    pthread_join(thread, NULL);
    end_over_a_canary(blocks, 2, fds[1]);
    CHECK(aio_error(&blocks[0]) == 0 && aio_error(&blocks[1]) == 0);
    CHECK(aio_return(&blocks[0]) == 1 && aio_return(&blocks[1]) == 1 && bytes[1] == 'b');
}

static void p43_a_list_tells_when_all_are_over(void)
{
    char bytes[3];
    int fds[2];
    struct aiocb blocks[3];
    struct aiocb *list[3];
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };

    event.sigev_value.sival_int = 1000;
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 3; i++) {
        blocks[i] = signalling(fds[0], bytes + i, SIGRTMIN, i);
        blocks[i].aio_lio_opcode = LIO_READ;
        list[i] = &blocks[i];
    }
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == 0);
    CHECK(write(fds[1], "ab", 2) == 2);
    until(&signals, 2);
    nap_ms(20);
    CHECK(signals == 2);
    CHECK(write(fds[1], "c", 1) == 1);
    until(&signals, 4);
    CHECK(last_value == 1000);
    list[0] = NULL;
    blocks[1].aio_lio_opcode = blocks[2].aio_lio_opcode = LIO_NOP;
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == 0); /* of nothing: at once */
    until(&signals, 5);
    blocks[1].aio_lio_opcode = blocks[2].aio_lio_opcode = LIO_READ;
    blocks[1].aio_reqprio = -1;
    CHECK(lio_listio(LIO_NOWAIT, list, 3, &event) == -1 && errno == EINVAL);
    CHECK(write(fds[1], "d", 1) == 1);
    CHECK(await(&blocks[2]) == 0 && aio_error(&blocks[1]) == EINVAL);
    for (int i = 0; i < 5000 && last_value != 1000; i++)
        nap_ms(1);
    CHECK(last_value == 1000);
}

/* The first version that there was. On machines younger than glibc 2.4 it is as it is now. */
extern int old_lio_listio(int mode, struct aiocb *const list[], int count, struct sigevent *event);
__asm__(".symver old_lio_listio, lio_listio@" AIO_TEXT(AIO_FIRST));

static void p44_the_oldest_lio_listio_tells_of_no_single_request(void)
{
    char byte;
    int fd = temp_file(0);
    struct aiocb block = signalling(fd, &byte, SIGRTMIN, 5);
    struct aiocb *list[] = { &block };

    CHECK(pwrite(fd, "a", 1, 0) == 1);
    block.aio_lio_opcode = LIO_READ;
    CHECK(old_lio_listio(LIO_WAIT, list, 1, NULL) == 0);
#ifdef AIO_OLD_LISTS
    nap_ms(50);
    CHECK(signals == 0);
#else
    until(&signals, 1);
    signals = 0;
#endif
    CHECK(lio_listio(LIO_WAIT, list, 1, NULL) == 0);
    until(&signals, 1);
}

/* ---- How often the kernel is entered -------------------------------------------------------- */

/* Every io_uring_enter of this thread, and of those that it starts, asks let_enter first. -1: it
 * cannot be had. */
static int ask_before_entering(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program);
}

static atomic_int listener = -1, enters;
static pid_t entering;

static void *let_enter(void *arg)
{
    while (listener < 0)
        nap_ms(1);
    for (;;) {
        struct seccomp_notif ask = { 0 };
        struct seccomp_notif_resp answer = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask) < 0)
            continue;
        enters += (pid_t)ask.pid == entering;
        answer.id = ask.id;
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    return arg;
}

static void p45_a_list_enters_the_kernel_once(void)
{
    enum { COUNT = 200, SIZE = 4096 };
    static struct aiocb blocks[COUNT];
    static struct aiocb *list[COUNT];
    char *bytes = aligned_alloc(SIZE, COUNT * SIZE);
    int fd = temp_file(O_DIRECT); /* what memory has already needs no kernel */
    pthread_t thread;

    memset(bytes, 'a', SIZE);
    CHECK(pwrite(fd, bytes, SIZE, 0) == SIZE && read_by(fd, bytes, SIZE, 0) == SIZE);
    if (!has_io_uring()) {
        dprintf(1, "# there is no io_uring to be entered\n");
        _exit(SKIP_STATUS);
    }
    entering = gettid();
    CHECK(pthread_create(&thread, NULL, let_enter, NULL) == 0);
    listener = ask_before_entering();
    if (listener < 0)
        _exit(SKIP_STATUS); /* somebody else is asked already */
    for (int count = 2; count <= COUNT; count *= 10) {
        for (int i = 0; i < count; i++) {
            blocks[i] = block_of(fd, bytes + i * SIZE, SIZE, 0);
            blocks[i].aio_lio_opcode = LIO_READ;
            list[i] = &blocks[i];
        }
        enters = 0;
        CHECK(lio_listio(LIO_NOWAIT, list, count, NULL) == 0);
        if (enters != 1)
            dprintf(1, "# %d times for %d requests\n", enters, count);
        CHECK(enters == 1);
        for (int i = 0; i < count; i++)
            CHECK(await(&blocks[i]) == 0 && bytes[i * SIZE] == 'a');
    }
}

const struct dropin_case list_tests[] = {
    BETTER(p40_lists_are_long),
    TEST(p41_one_that_fails_stops_no_other),
    BETTER(p42_a_wait_that_was_interrupted_leaves_nothing_behind),
    TEST(p43_a_list_tells_when_all_are_over),
    BETTER(p44_the_oldest_lio_listio_tells_of_no_single_request),
    TEST(p45_a_list_enters_the_kernel_once),
    { 0 },
};

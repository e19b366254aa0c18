/* SPDX-License-Identifier: MIT */
/*
 * Compares src/engine/uring_abi.h with the io_uring header that is installed, name by name:
 * numbers, sizes and offsets. By default that is liburing's, with -DABI_KERNEL_HEADER the kernel's
 * own.
 *
 * What an older header lacks is left out. A macro says itself whether it is there; for enumerators
 * and struct members we go by a macro that appeared in the same release of the kernel or after it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdio.h>
#include <sys/syscall.h>

#include "../src/engine/uring_abi.h"

#if defined(__has_include)
#if !defined(ABI_KERNEL_HEADER) && __has_include(<liburing.h>)
#include <liburing.h>
#define ABI_HEADER "liburing.h"
#elif __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#define ABI_HEADER "linux/io_uring.h"
#endif
#endif

#if !defined(ABI_HEADER)

int main(void)
{
    printf("1..0 # SKIP no io_uring header is installed\n");
    return 0;
}

#else

static unsigned compared, wrong;

static void same(const char *ours, unsigned long long a, const char *theirs, unsigned long long b)
{
    compared++;
    if (a == b)
        return;
    wrong++;
    printf("# %s is %llu, %s is %llu\n", ours, a, theirs, b);
}

#define SAME(ours, theirs) \
    same(#ours, (unsigned long long)(ours), #theirs, (unsigned long long)(theirs))
#define SAME_SIZE(ours, theirs) SAME(sizeof(struct ours), sizeof(struct theirs))
#define SAME_FIELD(ours, a, theirs, b)                                        \
    do {                                                                      \
        SAME(offsetof(struct ours, a), offsetof(struct theirs, b));           \
        SAME(sizeof(((struct ours *)0)->a), sizeof(((struct theirs *)0)->b)); \
    } while (0)

static void setup_flags(void)
{
#ifdef IORING_SETUP_IOPOLL
    SAME(RING_SETUP_IOPOLL, IORING_SETUP_IOPOLL);
#endif
#ifdef IORING_SETUP_SQPOLL
    SAME(RING_SETUP_SQPOLL, IORING_SETUP_SQPOLL);
#endif
#ifdef IORING_SETUP_SQ_AFF
    SAME(RING_SETUP_SQ_AFF, IORING_SETUP_SQ_AFF);
#endif
#ifdef IORING_SETUP_CQSIZE
    SAME(RING_SETUP_CQSIZE, IORING_SETUP_CQSIZE);
#endif
#ifdef IORING_SETUP_CLAMP
    SAME(RING_SETUP_CLAMP, IORING_SETUP_CLAMP);
#endif
#ifdef IORING_SETUP_ATTACH_WQ
    SAME(RING_SETUP_ATTACH_WQ, IORING_SETUP_ATTACH_WQ);
#endif
#ifdef IORING_SETUP_R_DISABLED
    SAME(RING_SETUP_R_DISABLED, IORING_SETUP_R_DISABLED);
#endif
#ifdef IORING_SETUP_SUBMIT_ALL
    SAME(RING_SETUP_SUBMIT_ALL, IORING_SETUP_SUBMIT_ALL);
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
    SAME(RING_SETUP_COOP_TASKRUN, IORING_SETUP_COOP_TASKRUN);
#endif
#ifdef IORING_SETUP_TASKRUN_FLAG
    SAME(RING_SETUP_TASKRUN_FLAG, IORING_SETUP_TASKRUN_FLAG);
#endif
#ifdef IORING_SETUP_SQE128
    SAME(RING_SETUP_SQE128, IORING_SETUP_SQE128);
#endif
#ifdef IORING_SETUP_CQE32
    SAME(RING_SETUP_CQE32, IORING_SETUP_CQE32);
#endif
#ifdef IORING_SETUP_SINGLE_ISSUER
    SAME(RING_SETUP_SINGLE_ISSUER, IORING_SETUP_SINGLE_ISSUER);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME(RING_SETUP_DEFER_TASKRUN, IORING_SETUP_DEFER_TASKRUN);
#endif
#ifdef IORING_SETUP_NO_MMAP
    SAME(RING_SETUP_NO_MMAP, IORING_SETUP_NO_MMAP);
#endif
#ifdef IORING_SETUP_REGISTERED_FD_ONLY
    SAME(RING_SETUP_REGISTERED_FD_ONLY, IORING_SETUP_REGISTERED_FD_ONLY);
#endif
#ifdef IORING_SETUP_NO_SQARRAY
    SAME(RING_SETUP_NO_SQARRAY, IORING_SETUP_NO_SQARRAY);
#endif
#ifdef IORING_SETUP_HYBRID_IOPOLL
    SAME(RING_SETUP_HYBRID_IOPOLL, IORING_SETUP_HYBRID_IOPOLL);
#endif
#ifdef IORING_SETUP_CQE_MIXED
    SAME(RING_SETUP_CQE_MIXED, IORING_SETUP_CQE_MIXED);
#endif
}

static void features(void)
{
#ifdef IORING_FEAT_SINGLE_MMAP
    SAME(RING_FEAT_SINGLE_MMAP, IORING_FEAT_SINGLE_MMAP);
#endif
#ifdef IORING_FEAT_NODROP
    SAME(RING_FEAT_NODROP, IORING_FEAT_NODROP);
#endif
#ifdef IORING_FEAT_SUBMIT_STABLE
    SAME(RING_FEAT_SUBMIT_STABLE, IORING_FEAT_SUBMIT_STABLE);
#endif
#ifdef IORING_FEAT_RW_CUR_POS
    SAME(RING_FEAT_RW_CUR_POS, IORING_FEAT_RW_CUR_POS);
#endif
#ifdef IORING_FEAT_CUR_PERSONALITY
    SAME(RING_FEAT_CUR_PERSONALITY, IORING_FEAT_CUR_PERSONALITY);
#endif
#ifdef IORING_FEAT_FAST_POLL
    SAME(RING_FEAT_FAST_POLL, IORING_FEAT_FAST_POLL);
#endif
#ifdef IORING_FEAT_POLL_32BITS
    SAME(RING_FEAT_POLL_32BITS, IORING_FEAT_POLL_32BITS);
#endif
#ifdef IORING_FEAT_SQPOLL_NONFIXED
    SAME(RING_FEAT_SQPOLL_NONFIXED, IORING_FEAT_SQPOLL_NONFIXED);
#endif
#ifdef IORING_FEAT_EXT_ARG
    SAME(RING_FEAT_EXT_ARG, IORING_FEAT_EXT_ARG);
#endif
#ifdef IORING_FEAT_NATIVE_WORKERS
    SAME(RING_FEAT_NATIVE_WORKERS, IORING_FEAT_NATIVE_WORKERS);
#endif
#ifdef IORING_FEAT_RSRC_TAGS
    SAME(RING_FEAT_RSRC_TAGS, IORING_FEAT_RSRC_TAGS);
#endif
#ifdef IORING_FEAT_CQE_SKIP
    SAME(RING_FEAT_CQE_SKIP, IORING_FEAT_CQE_SKIP);
#endif
#ifdef IORING_FEAT_LINKED_FILE
    SAME(RING_FEAT_LINKED_FILE, IORING_FEAT_LINKED_FILE);
#endif
#ifdef IORING_FEAT_REG_REG_RING
    SAME(RING_FEAT_REG_REG_RING, IORING_FEAT_REG_REG_RING);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME(RING_FEAT_RECVSEND_BUNDLE, IORING_FEAT_RECVSEND_BUNDLE);
#endif
#ifdef IORING_FEAT_MIN_TIMEOUT
    SAME(RING_FEAT_MIN_TIMEOUT, IORING_FEAT_MIN_TIMEOUT);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME(RING_FEAT_RW_ATTR, IORING_FEAT_RW_ATTR);
#endif
#ifdef IORING_FEAT_NO_IOWAIT
    SAME(RING_FEAT_NO_IOWAIT, IORING_FEAT_NO_IOWAIT);
#endif
}

static void enter_flags(void)
{
#ifdef IORING_ENTER_GETEVENTS
    SAME(RING_ENTER_GETEVENTS, IORING_ENTER_GETEVENTS);
#endif
#ifdef IORING_ENTER_SQ_WAKEUP
    SAME(RING_ENTER_SQ_WAKEUP, IORING_ENTER_SQ_WAKEUP);
#endif
#ifdef IORING_ENTER_SQ_WAIT
    SAME(RING_ENTER_SQ_WAIT, IORING_ENTER_SQ_WAIT);
#endif
#ifdef IORING_ENTER_EXT_ARG
    SAME(RING_ENTER_EXT_ARG, IORING_ENTER_EXT_ARG);
#endif
#ifdef IORING_ENTER_REGISTERED_RING
    SAME(RING_ENTER_REGISTERED_RING, IORING_ENTER_REGISTERED_RING);
#endif
#ifdef IORING_ENTER_ABS_TIMER
    SAME(RING_ENTER_ABS_TIMER, IORING_ENTER_ABS_TIMER);
#endif
#ifdef IORING_ENTER_EXT_ARG_REG
    SAME(RING_ENTER_EXT_ARG_REG, IORING_ENTER_EXT_ARG_REG);
#endif
#ifdef IORING_ENTER_NO_IOWAIT
    SAME(RING_ENTER_NO_IOWAIT, IORING_ENTER_NO_IOWAIT);
#endif
}

static void queue_flags(void)
{
#ifdef IOSQE_FIXED_FILE
    SAME(RING_SQE_FIXED_FILE, IOSQE_FIXED_FILE);
#endif
#ifdef IOSQE_IO_DRAIN
    SAME(RING_SQE_DRAIN, IOSQE_IO_DRAIN);
#endif
#ifdef IOSQE_IO_LINK
    SAME(RING_SQE_LINK, IOSQE_IO_LINK);
#endif
#ifdef IOSQE_IO_HARDLINK
    SAME(RING_SQE_HARDLINK, IOSQE_IO_HARDLINK);
#endif
#ifdef IOSQE_ASYNC
    SAME(RING_SQE_ASYNC, IOSQE_ASYNC);
#endif
#ifdef IOSQE_BUFFER_SELECT
    SAME(RING_SQE_BUFFER_SELECT, IOSQE_BUFFER_SELECT);
#endif
#ifdef IOSQE_CQE_SKIP_SUCCESS
    SAME(RING_SQE_CQE_SKIP, IOSQE_CQE_SKIP_SUCCESS);
#endif
#ifdef IORING_CQE_F_BUFFER
    SAME(RING_CQE_BUFFER, IORING_CQE_F_BUFFER);
#endif
#ifdef IORING_CQE_F_MORE
    SAME(RING_CQE_MORE, IORING_CQE_F_MORE);
#endif
#ifdef IORING_CQE_F_SOCK_NONEMPTY
    SAME(RING_CQE_SOCK_NONEMPTY, IORING_CQE_F_SOCK_NONEMPTY);
#endif
#ifdef IORING_CQE_F_NOTIF
    SAME(RING_CQE_NOTIF, IORING_CQE_F_NOTIF);
#endif
#ifdef IORING_CQE_F_BUF_MORE
    SAME(RING_CQE_BUF_MORE, IORING_CQE_F_BUF_MORE);
#endif
#ifdef IORING_CQE_F_SKIP
    SAME(RING_CQE_SKIP, IORING_CQE_F_SKIP);
#endif
#ifdef IORING_CQE_F_32
    SAME(RING_CQE_32, IORING_CQE_F_32);
#endif
#ifdef IORING_SQ_NEED_WAKEUP
    SAME(RING_SQ_NEED_WAKEUP, IORING_SQ_NEED_WAKEUP);
#endif
#ifdef IORING_SQ_CQ_OVERFLOW
    SAME(RING_SQ_CQ_OVERFLOW, IORING_SQ_CQ_OVERFLOW);
#endif
#ifdef IORING_SQ_TASKRUN
    SAME(RING_SQ_TASKRUN, IORING_SQ_TASKRUN);
#endif
#ifdef IORING_CQ_EVENTFD_DISABLED
    SAME(RING_CQ_EVENTFD_DISABLED, IORING_CQ_EVENTFD_DISABLED);
#endif
    SAME(RING_CQE_BUFFER_SHIFT, IORING_CQE_BUFFER_SHIFT); /* an enumerator at first */
}

static void operation_flags(void)
{
#ifdef IORING_FSYNC_DATASYNC
    SAME(RING_FSYNC_DATASYNC, IORING_FSYNC_DATASYNC);
#endif
#ifdef IORING_TIMEOUT_ABS
    SAME(RING_TIMEOUT_ABS, IORING_TIMEOUT_ABS);
#endif
#ifdef IORING_TIMEOUT_UPDATE
    SAME(RING_TIMEOUT_UPDATE, IORING_TIMEOUT_UPDATE);
#endif
#ifdef IORING_TIMEOUT_BOOTTIME
    SAME(RING_TIMEOUT_BOOTTIME, IORING_TIMEOUT_BOOTTIME);
#endif
#ifdef IORING_TIMEOUT_REALTIME
    SAME(RING_TIMEOUT_REALTIME, IORING_TIMEOUT_REALTIME);
#endif
#ifdef IORING_LINK_TIMEOUT_UPDATE
    SAME(RING_LINK_TIMEOUT_UPDATE, IORING_LINK_TIMEOUT_UPDATE);
#endif
#ifdef IORING_TIMEOUT_ETIME_SUCCESS
    SAME(RING_TIMEOUT_ETIME_SUCCESS, IORING_TIMEOUT_ETIME_SUCCESS);
#endif
#ifdef IORING_TIMEOUT_MULTISHOT
    SAME(RING_TIMEOUT_MULTISHOT, IORING_TIMEOUT_MULTISHOT);
#endif
#ifdef SPLICE_F_FD_IN_FIXED
    SAME(RING_SPLICE_FD_IN_FIXED, SPLICE_F_FD_IN_FIXED);
#endif
#ifdef IORING_POLL_ADD_MULTI
    SAME(RING_POLL_MULTI, IORING_POLL_ADD_MULTI);
#endif
#ifdef IORING_POLL_UPDATE_EVENTS
    SAME(RING_POLL_UPDATE_EVENTS, IORING_POLL_UPDATE_EVENTS);
#endif
#ifdef IORING_POLL_UPDATE_USER_DATA
    SAME(RING_POLL_UPDATE_USER_DATA, IORING_POLL_UPDATE_USER_DATA);
#endif
#ifdef IORING_POLL_ADD_LEVEL
    SAME(RING_POLL_LEVEL, IORING_POLL_ADD_LEVEL);
#endif
#ifdef IORING_ASYNC_CANCEL_ALL
    SAME(RING_CANCEL_ALL, IORING_ASYNC_CANCEL_ALL);
#endif
#ifdef IORING_ASYNC_CANCEL_FD
    SAME(RING_CANCEL_FD, IORING_ASYNC_CANCEL_FD);
#endif
#ifdef IORING_ASYNC_CANCEL_ANY
    SAME(RING_CANCEL_ANY, IORING_ASYNC_CANCEL_ANY);
#endif
#ifdef IORING_ASYNC_CANCEL_FD_FIXED
    SAME(RING_CANCEL_FD_FIXED, IORING_ASYNC_CANCEL_FD_FIXED);
#endif
#ifdef IORING_ASYNC_CANCEL_USERDATA
    SAME(RING_CANCEL_USERDATA, IORING_ASYNC_CANCEL_USERDATA);
#endif
#ifdef IORING_ASYNC_CANCEL_OP
    SAME(RING_CANCEL_OP, IORING_ASYNC_CANCEL_OP);
#endif
#ifdef IORING_RECVSEND_POLL_FIRST
    SAME(RING_RECVSEND_POLL_FIRST, IORING_RECVSEND_POLL_FIRST);
#endif
#ifdef IORING_RECV_MULTISHOT
    SAME(RING_RECV_MULTISHOT, IORING_RECV_MULTISHOT);
#endif
}

static void other_numbers(void)
{
#ifdef IORING_RECVSEND_FIXED_BUF
    SAME(RING_RECVSEND_FIXED_BUF, IORING_RECVSEND_FIXED_BUF);
#endif
#ifdef IORING_SEND_ZC_REPORT_USAGE
    SAME(RING_SEND_ZC_REPORT_USAGE, IORING_SEND_ZC_REPORT_USAGE);
#endif
#ifdef IORING_RECVSEND_BUNDLE
    SAME(RING_RECVSEND_BUNDLE, IORING_RECVSEND_BUNDLE);
#endif
#ifdef IORING_SEND_VECTORIZED
    SAME(RING_SEND_VECTORIZED, IORING_SEND_VECTORIZED);
#endif
#ifdef IORING_NOTIF_USAGE_ZC_COPIED
    SAME(RING_NOTIF_USAGE_ZC_COPIED, IORING_NOTIF_USAGE_ZC_COPIED);
#endif
#ifdef IORING_ACCEPT_MULTISHOT
    SAME(RING_ACCEPT_MULTISHOT, IORING_ACCEPT_MULTISHOT);
#endif
#ifdef IORING_ACCEPT_DONTWAIT
    SAME(RING_ACCEPT_DONTWAIT, IORING_ACCEPT_DONTWAIT);
#endif
#ifdef IORING_ACCEPT_POLL_FIRST
    SAME(RING_ACCEPT_POLL_FIRST, IORING_ACCEPT_POLL_FIRST);
#endif
#ifdef IORING_MSG_RING_CQE_SKIP
    SAME(RING_MSG_CQE_SKIP, IORING_MSG_RING_CQE_SKIP);
#endif
#ifdef IORING_MSG_RING_FLAGS_PASS
    SAME(RING_MSG_FLAGS_PASS, IORING_MSG_RING_FLAGS_PASS);
#endif
#ifdef IORING_NOP_INJECT_RESULT
    SAME(RING_NOP_INJECT_RESULT, IORING_NOP_INJECT_RESULT);
#endif
#ifdef IORING_FIXED_FD_NO_CLOEXEC
    SAME(RING_FIXED_FD_NO_CLOEXEC, IORING_FIXED_FD_NO_CLOEXEC);
#endif
#ifdef IORING_FILE_INDEX_ALLOC
    SAME(RING_FILE_INDEX_ALLOC, IORING_FILE_INDEX_ALLOC);
#endif
#ifdef IORING_REGISTER_FILES_SKIP
    SAME(RING_FILES_SKIP, IORING_REGISTER_FILES_SKIP);
#endif
#ifdef IORING_RSRC_REGISTER_SPARSE
    SAME(RING_RSRC_REGISTER_SPARSE, IORING_RSRC_REGISTER_SPARSE);
#endif
#ifdef IO_URING_OP_SUPPORTED
    SAME(RING_OP_SUPPORTED, IO_URING_OP_SUPPORTED);
#endif
#ifdef IORING_OFF_SQ_RING
    SAME(RING_OFF_SQ_RING, IORING_OFF_SQ_RING);
#endif
#ifdef IORING_OFF_CQ_RING
    SAME(RING_OFF_CQ_RING, IORING_OFF_CQ_RING);
#endif
#ifdef IORING_OFF_SQES
    SAME(RING_OFF_SQES, IORING_OFF_SQES);
#endif
#ifdef IORING_OFF_PBUF_RING
    SAME(RING_OFF_PBUF_RING, IORING_OFF_PBUF_RING);
#endif
#ifdef IORING_OFF_PBUF_SHIFT
    SAME(RING_OFF_PBUF_SHIFT, IORING_OFF_PBUF_SHIFT);
#endif
}

static void opcodes(void)
{
    SAME(RING_OP_NOP, IORING_OP_NOP);
    SAME(RING_OP_READV, IORING_OP_READV);
    SAME(RING_OP_WRITEV, IORING_OP_WRITEV);
    SAME(RING_OP_FSYNC, IORING_OP_FSYNC);
    SAME(RING_OP_READ_FIXED, IORING_OP_READ_FIXED);
    SAME(RING_OP_WRITE_FIXED, IORING_OP_WRITE_FIXED);
    SAME(RING_OP_POLL_ADD, IORING_OP_POLL_ADD);
    SAME(RING_OP_POLL_REMOVE, IORING_OP_POLL_REMOVE);
    SAME(RING_OP_SYNC_FILE_RANGE, IORING_OP_SYNC_FILE_RANGE);
    SAME(RING_OP_SENDMSG, IORING_OP_SENDMSG);
    SAME(RING_OP_RECVMSG, IORING_OP_RECVMSG);
    SAME(RING_OP_TIMEOUT, IORING_OP_TIMEOUT);
    SAME(RING_OP_TIMEOUT_REMOVE, IORING_OP_TIMEOUT_REMOVE);
    SAME(RING_OP_ACCEPT, IORING_OP_ACCEPT);
    SAME(RING_OP_ASYNC_CANCEL, IORING_OP_ASYNC_CANCEL);
    SAME(RING_OP_LINK_TIMEOUT, IORING_OP_LINK_TIMEOUT);
    SAME(RING_OP_CONNECT, IORING_OP_CONNECT);
    SAME(RING_OP_FALLOCATE, IORING_OP_FALLOCATE);
    SAME(RING_OP_OPENAT, IORING_OP_OPENAT);
    SAME(RING_OP_CLOSE, IORING_OP_CLOSE);
    SAME(RING_OP_FILES_UPDATE, IORING_OP_FILES_UPDATE);
    SAME(RING_OP_STATX, IORING_OP_STATX);
    SAME(RING_OP_READ, IORING_OP_READ);
    SAME(RING_OP_WRITE, IORING_OP_WRITE);
    SAME(RING_OP_FADVISE, IORING_OP_FADVISE);
    SAME(RING_OP_MADVISE, IORING_OP_MADVISE);
    SAME(RING_OP_SEND, IORING_OP_SEND);
    SAME(RING_OP_RECV, IORING_OP_RECV);
    SAME(RING_OP_OPENAT2, IORING_OP_OPENAT2);
    SAME(RING_OP_EPOLL_CTL, IORING_OP_EPOLL_CTL);
    SAME(RING_OP_SPLICE, IORING_OP_SPLICE);
    SAME(RING_OP_PROVIDE_BUFFERS, IORING_OP_PROVIDE_BUFFERS);
    SAME(RING_OP_REMOVE_BUFFERS, IORING_OP_REMOVE_BUFFERS);
    SAME(RING_OP_TEE, IORING_OP_TEE);
    SAME(RING_OP_SHUTDOWN, IORING_OP_SHUTDOWN);
    SAME(RING_OP_RENAMEAT, IORING_OP_RENAMEAT);
    SAME(RING_OP_UNLINKAT, IORING_OP_UNLINKAT);
    SAME(RING_OP_MKDIRAT, IORING_OP_MKDIRAT);
    SAME(RING_OP_SYMLINKAT, IORING_OP_SYMLINKAT);
    SAME(RING_OP_LINKAT, IORING_OP_LINKAT);
}

static void later_opcodes(void)
{
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME(RING_OP_MSG_RING, IORING_OP_MSG_RING);
    SAME(RING_OP_FSETXATTR, IORING_OP_FSETXATTR);
    SAME(RING_OP_SETXATTR, IORING_OP_SETXATTR);
    SAME(RING_OP_FGETXATTR, IORING_OP_FGETXATTR);
    SAME(RING_OP_GETXATTR, IORING_OP_GETXATTR);
    SAME(RING_OP_SOCKET, IORING_OP_SOCKET);
    SAME(RING_OP_URING_CMD, IORING_OP_URING_CMD);
    SAME(RING_OP_SEND_ZC, IORING_OP_SEND_ZC);
    SAME(RING_OP_SENDMSG_ZC, IORING_OP_SENDMSG_ZC);
#endif
#ifdef IORING_FIXED_FD_NO_CLOEXEC
    SAME(RING_OP_READ_MULTISHOT, IORING_OP_READ_MULTISHOT);
    SAME(RING_OP_WAITID, IORING_OP_WAITID);
    SAME(RING_OP_FUTEX_WAIT, IORING_OP_FUTEX_WAIT);
    SAME(RING_OP_FUTEX_WAKE, IORING_OP_FUTEX_WAKE);
    SAME(RING_OP_FUTEX_WAITV, IORING_OP_FUTEX_WAITV);
    SAME(RING_OP_FIXED_FD_INSTALL, IORING_OP_FIXED_FD_INSTALL);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME(RING_OP_FTRUNCATE, IORING_OP_FTRUNCATE);
#endif
#ifdef IORING_FEAT_MIN_TIMEOUT
    SAME(RING_OP_BIND, IORING_OP_BIND);
    SAME(RING_OP_LISTEN, IORING_OP_LISTEN);
#endif
#ifdef IORING_FEAT_NO_IOWAIT
    SAME(RING_OP_RECV_ZC, IORING_OP_RECV_ZC);
    SAME(RING_OP_EPOLL_WAIT, IORING_OP_EPOLL_WAIT);
    SAME(RING_OP_READV_FIXED, IORING_OP_READV_FIXED);
    SAME(RING_OP_WRITEV_FIXED, IORING_OP_WRITEV_FIXED);
#endif
#ifdef IORING_SETUP_CQE_MIXED
    SAME(RING_OP_PIPE, IORING_OP_PIPE);
#endif
}

static void register_opcodes(void)
{
    SAME(RING_REGISTER_BUFFERS, IORING_REGISTER_BUFFERS);
    SAME(RING_UNREGISTER_BUFFERS, IORING_UNREGISTER_BUFFERS);
    SAME(RING_REGISTER_FILES, IORING_REGISTER_FILES);
    SAME(RING_UNREGISTER_FILES, IORING_UNREGISTER_FILES);
    SAME(RING_REGISTER_EVENTFD, IORING_REGISTER_EVENTFD);
    SAME(RING_UNREGISTER_EVENTFD, IORING_UNREGISTER_EVENTFD);
    SAME(RING_REGISTER_FILES_UPDATE, IORING_REGISTER_FILES_UPDATE);
    SAME(RING_REGISTER_EVENTFD_ASYNC, IORING_REGISTER_EVENTFD_ASYNC);
    SAME(RING_REGISTER_PROBE, IORING_REGISTER_PROBE);
    SAME(RING_REGISTER_PERSONALITY, IORING_REGISTER_PERSONALITY);
    SAME(RING_UNREGISTER_PERSONALITY, IORING_UNREGISTER_PERSONALITY);
    SAME(RING_REGISTER_RESTRICTIONS, IORING_REGISTER_RESTRICTIONS);
    SAME(RING_REGISTER_ENABLE_RINGS, IORING_REGISTER_ENABLE_RINGS);
    SAME(RING_REGISTER_FILES2, IORING_REGISTER_FILES2);
    SAME(RING_REGISTER_FILES_UPDATE2, IORING_REGISTER_FILES_UPDATE2);
    SAME(RING_REGISTER_BUFFERS2, IORING_REGISTER_BUFFERS2);
    SAME(RING_REGISTER_BUFFERS_UPDATE, IORING_REGISTER_BUFFERS_UPDATE);
    SAME(RING_REGISTER_IOWQ_AFF, IORING_REGISTER_IOWQ_AFF);
    SAME(RING_UNREGISTER_IOWQ_AFF, IORING_UNREGISTER_IOWQ_AFF);
    SAME(RING_REGISTER_IOWQ_MAX_WORKERS, IORING_REGISTER_IOWQ_MAX_WORKERS);
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME(RING_REGISTER_RING_FDS, IORING_REGISTER_RING_FDS);
    SAME(RING_UNREGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS);
    SAME(RING_REGISTER_PBUF_RING, IORING_REGISTER_PBUF_RING);
    SAME(RING_UNREGISTER_PBUF_RING, IORING_UNREGISTER_PBUF_RING);
    SAME(RING_REGISTER_SYNC_CANCEL, IORING_REGISTER_SYNC_CANCEL);
    SAME(RING_REGISTER_FILE_ALLOC_RANGE, IORING_REGISTER_FILE_ALLOC_RANGE);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME(RING_REGISTER_PBUF_STATUS, IORING_REGISTER_PBUF_STATUS);
    SAME(RING_REGISTER_NAPI, IORING_REGISTER_NAPI);
    SAME(RING_UNREGISTER_NAPI, IORING_UNREGISTER_NAPI);
    SAME(RING_REGISTER_USE_REGISTERED_RING, IORING_REGISTER_USE_REGISTERED_RING);
#endif
#ifdef IORING_FEAT_MIN_TIMEOUT
    SAME(RING_REGISTER_CLOCK, IORING_REGISTER_CLOCK);
    SAME(RING_REGISTER_CLONE_BUFFERS, IORING_REGISTER_CLONE_BUFFERS);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME(RING_REGISTER_SEND_MSG_RING, IORING_REGISTER_SEND_MSG_RING);
    SAME(RING_REGISTER_RESIZE_RINGS, IORING_REGISTER_RESIZE_RINGS);
    SAME(RING_REGISTER_MEM_REGION, IORING_REGISTER_MEM_REGION);
#endif
#ifdef IORING_FEAT_NO_IOWAIT
    SAME(RING_REGISTER_ZCRX_IFQ, IORING_REGISTER_ZCRX_IFQ);
#endif
#ifdef IORING_SETUP_CQE_MIXED
    SAME(RING_REGISTER_QUERY, IORING_REGISTER_QUERY);
#endif
}

static void small_enumerators(void)
{
    SAME(RING_IOWQ_BOUND, IO_WQ_BOUND);
    SAME(RING_IOWQ_UNBOUND, IO_WQ_UNBOUND);
    SAME(RING_RESTRICT_REGISTER_OP, IORING_RESTRICTION_REGISTER_OP);
    SAME(RING_RESTRICT_SQE_OP, IORING_RESTRICTION_SQE_OP);
    SAME(RING_RESTRICT_SQE_FLAGS_ALLOWED, IORING_RESTRICTION_SQE_FLAGS_ALLOWED);
    SAME(RING_RESTRICT_SQE_FLAGS_REQUIRED, IORING_RESTRICTION_SQE_FLAGS_REQUIRED);
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME(RING_MSG_DATA, IORING_MSG_DATA);
    SAME(RING_MSG_SEND_FD, IORING_MSG_SEND_FD);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME(RING_PBUF_MMAP, IOU_PBUF_RING_MMAP);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME(RING_PBUF_INC, IOU_PBUF_RING_INC);
    SAME(RING_CLONE_SRC_REGISTERED, IORING_REGISTER_SRC_REGISTERED);
    SAME(RING_CLONE_DST_REPLACE, IORING_REGISTER_DST_REPLACE);
    SAME(RING_REG_WAIT_TS, IORING_REG_WAIT_TS);
    SAME(RING_MEM_REGION_TYPE_USER, IORING_MEM_REGION_TYPE_USER);
    SAME(RING_MEM_REGION_REG_WAIT_ARG, IORING_MEM_REGION_REG_WAIT_ARG);
#endif
}

static void entries(void)
{
    SAME_SIZE(ring_sqe, io_uring_sqe);
    SAME_FIELD(ring_sqe, opcode, io_uring_sqe, opcode);
    SAME_FIELD(ring_sqe, flags, io_uring_sqe, flags);
    SAME_FIELD(ring_sqe, ioprio, io_uring_sqe, ioprio);
    SAME_FIELD(ring_sqe, fd, io_uring_sqe, fd);
    SAME_FIELD(ring_sqe, off, io_uring_sqe, off);
    SAME_FIELD(ring_sqe, addr2, io_uring_sqe, addr2);
    SAME_FIELD(ring_sqe, addr, io_uring_sqe, addr);
    SAME_FIELD(ring_sqe, splice_off_in, io_uring_sqe, splice_off_in);
    SAME_FIELD(ring_sqe, len, io_uring_sqe, len);
    SAME_FIELD(ring_sqe, op_flags, io_uring_sqe, rw_flags);
    SAME_FIELD(ring_sqe, op_flags, io_uring_sqe, poll32_events);
    SAME_FIELD(ring_sqe, user_data, io_uring_sqe, user_data);
    SAME_FIELD(ring_sqe, buf_index, io_uring_sqe, buf_index);
    SAME_FIELD(ring_sqe, buf_group, io_uring_sqe, buf_group);
    SAME_FIELD(ring_sqe, personality, io_uring_sqe, personality);
    SAME_FIELD(ring_sqe, splice_fd_in, io_uring_sqe, splice_fd_in);
    SAME_FIELD(ring_sqe, file_index, io_uring_sqe, file_index);
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_FIELD(ring_sqe, cmd_op, io_uring_sqe, cmd_op);
    SAME_FIELD(ring_sqe, addr_len, io_uring_sqe, addr_len);
    SAME_FIELD(ring_sqe, addr3, io_uring_sqe, addr3);
#endif
#ifdef IORING_FEAT_NO_IOWAIT
    SAME_FIELD(ring_sqe, level, io_uring_sqe, level);
    SAME_FIELD(ring_sqe, optname, io_uring_sqe, optname);
    SAME_FIELD(ring_sqe, optlen, io_uring_sqe, optlen);
#endif
    SAME_SIZE(ring_cqe, io_uring_cqe);
    SAME_FIELD(ring_cqe, user_data, io_uring_cqe, user_data);
    SAME_FIELD(ring_cqe, res, io_uring_cqe, res);
    SAME_FIELD(ring_cqe, flags, io_uring_cqe, flags);
}

static void setup_structs(void)
{
    SAME_SIZE(ring_sq_offsets, io_sqring_offsets);
    SAME_FIELD(ring_sq_offsets, head, io_sqring_offsets, head);
    SAME_FIELD(ring_sq_offsets, tail, io_sqring_offsets, tail);
    SAME_FIELD(ring_sq_offsets, ring_mask, io_sqring_offsets, ring_mask);
    SAME_FIELD(ring_sq_offsets, ring_entries, io_sqring_offsets, ring_entries);
    SAME_FIELD(ring_sq_offsets, flags, io_sqring_offsets, flags);
    SAME_FIELD(ring_sq_offsets, dropped, io_sqring_offsets, dropped);
    SAME_FIELD(ring_sq_offsets, array, io_sqring_offsets, array);
    SAME_SIZE(ring_cq_offsets, io_cqring_offsets);
    SAME_FIELD(ring_cq_offsets, head, io_cqring_offsets, head);
    SAME_FIELD(ring_cq_offsets, tail, io_cqring_offsets, tail);
    SAME_FIELD(ring_cq_offsets, ring_mask, io_cqring_offsets, ring_mask);
    SAME_FIELD(ring_cq_offsets, ring_entries, io_cqring_offsets, ring_entries);
    SAME_FIELD(ring_cq_offsets, overflow, io_cqring_offsets, overflow);
    SAME_FIELD(ring_cq_offsets, cqes, io_cqring_offsets, cqes);
    SAME_FIELD(ring_cq_offsets, flags, io_cqring_offsets, flags);
    SAME_SIZE(ring_params, io_uring_params);
    SAME_FIELD(ring_params, sq_entries, io_uring_params, sq_entries);
    SAME_FIELD(ring_params, cq_entries, io_uring_params, cq_entries);
    SAME_FIELD(ring_params, flags, io_uring_params, flags);
    SAME_FIELD(ring_params, sq_thread_cpu, io_uring_params, sq_thread_cpu);
    SAME_FIELD(ring_params, sq_thread_idle, io_uring_params, sq_thread_idle);
    SAME_FIELD(ring_params, features, io_uring_params, features);
    SAME_FIELD(ring_params, wq_fd, io_uring_params, wq_fd);
    SAME_FIELD(ring_params, resv, io_uring_params, resv);
    SAME_FIELD(ring_params, sq_off, io_uring_params, sq_off);
    SAME_FIELD(ring_params, cq_off, io_uring_params, cq_off);
}

static void wait_structs(void)
{
    SAME_SIZE(ring_timespec, __kernel_timespec);
    SAME_FIELD(ring_timespec, sec, __kernel_timespec, tv_sec);
    SAME_FIELD(ring_timespec, nsec, __kernel_timespec, tv_nsec);
    SAME_SIZE(ring_getevents_arg, io_uring_getevents_arg);
    SAME_FIELD(ring_getevents_arg, sigmask, io_uring_getevents_arg, sigmask);
    SAME_FIELD(ring_getevents_arg, sigmask_sz, io_uring_getevents_arg, sigmask_sz);
    SAME_FIELD(ring_getevents_arg, ts, io_uring_getevents_arg, ts);
#ifdef IORING_FEAT_MIN_TIMEOUT
    SAME_FIELD(ring_getevents_arg, min_wait_usec, io_uring_getevents_arg, min_wait_usec);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME_SIZE(ring_reg_wait, io_uring_reg_wait);
    SAME_FIELD(ring_reg_wait, ts, io_uring_reg_wait, ts);
    SAME_FIELD(ring_reg_wait, min_wait_usec, io_uring_reg_wait, min_wait_usec);
    SAME_FIELD(ring_reg_wait, flags, io_uring_reg_wait, flags);
    SAME_FIELD(ring_reg_wait, sigmask, io_uring_reg_wait, sigmask);
    SAME_FIELD(ring_reg_wait, sigmask_sz, io_uring_reg_wait, sigmask_sz);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME_SIZE(ring_region_desc, io_uring_region_desc);
    SAME_FIELD(ring_region_desc, user_addr, io_uring_region_desc, user_addr);
    SAME_FIELD(ring_region_desc, size, io_uring_region_desc, size);
    SAME_FIELD(ring_region_desc, flags, io_uring_region_desc, flags);
    SAME_FIELD(ring_region_desc, id, io_uring_region_desc, id);
    SAME_FIELD(ring_region_desc, mmap_offset, io_uring_region_desc, mmap_offset);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME_SIZE(ring_mem_region_reg, io_uring_mem_region_reg);
    SAME_FIELD(ring_mem_region_reg, region, io_uring_mem_region_reg, region_uptr);
    SAME_FIELD(ring_mem_region_reg, flags, io_uring_mem_region_reg, flags);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_SIZE(ring_sync_cancel, io_uring_sync_cancel_reg);
    SAME_FIELD(ring_sync_cancel, addr, io_uring_sync_cancel_reg, addr);
    SAME_FIELD(ring_sync_cancel, fd, io_uring_sync_cancel_reg, fd);
    SAME_FIELD(ring_sync_cancel, flags, io_uring_sync_cancel_reg, flags);
    SAME_FIELD(ring_sync_cancel, timeout, io_uring_sync_cancel_reg, timeout);
#endif
#ifdef IORING_SETUP_NO_SQARRAY
    SAME_FIELD(ring_sync_cancel, opcode, io_uring_sync_cancel_reg, opcode);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME_SIZE(ring_clock_register, io_uring_clock_register);
    SAME_FIELD(ring_clock_register, clockid, io_uring_clock_register, clockid);
#endif
}

static void resource_structs(void)
{
    SAME_SIZE(ring_rsrc_register, io_uring_rsrc_register);
    SAME_FIELD(ring_rsrc_register, nr, io_uring_rsrc_register, nr);
    SAME_FIELD(ring_rsrc_register, data, io_uring_rsrc_register, data);
    SAME_FIELD(ring_rsrc_register, tags, io_uring_rsrc_register, tags);
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_FIELD(ring_rsrc_register, flags, io_uring_rsrc_register, flags);
#endif
    SAME_SIZE(ring_rsrc_update, io_uring_rsrc_update);
    SAME_FIELD(ring_rsrc_update, offset, io_uring_rsrc_update, offset);
    SAME_FIELD(ring_rsrc_update, data, io_uring_rsrc_update, data);
    SAME_SIZE(ring_rsrc_update2, io_uring_rsrc_update2);
    SAME_FIELD(ring_rsrc_update2, offset, io_uring_rsrc_update2, offset);
    SAME_FIELD(ring_rsrc_update2, data, io_uring_rsrc_update2, data);
    SAME_FIELD(ring_rsrc_update2, tags, io_uring_rsrc_update2, tags);
    SAME_FIELD(ring_rsrc_update2, nr, io_uring_rsrc_update2, nr);
    SAME_SIZE(ring_probe_op, io_uring_probe_op);
    SAME_FIELD(ring_probe_op, op, io_uring_probe_op, op);
    SAME_FIELD(ring_probe_op, flags, io_uring_probe_op, flags);
    SAME_SIZE(ring_probe_reg, io_uring_probe);
    SAME_FIELD(ring_probe_reg, last_op, io_uring_probe, last_op);
    SAME_FIELD(ring_probe_reg, ops_len, io_uring_probe, ops_len);
    SAME(offsetof(struct ring_probe_reg, ops), offsetof(struct io_uring_probe, ops));
}

static void buffer_structs(void)
{
    SAME_SIZE(ring_restriction, io_uring_restriction);
    SAME_FIELD(ring_restriction, opcode, io_uring_restriction, opcode);
    SAME_FIELD(ring_restriction, what, io_uring_restriction, register_op);
    SAME_FIELD(ring_restriction, what, io_uring_restriction, sqe_op);
    SAME_FIELD(ring_restriction, what, io_uring_restriction, sqe_flags);
#ifdef IORING_FEAT_RW_ATTR
    SAME_SIZE(ring_clone_buffers, io_uring_clone_buffers);
    SAME_FIELD(ring_clone_buffers, src_fd, io_uring_clone_buffers, src_fd);
    SAME_FIELD(ring_clone_buffers, flags, io_uring_clone_buffers, flags);
    SAME_FIELD(ring_clone_buffers, src_off, io_uring_clone_buffers, src_off);
    SAME_FIELD(ring_clone_buffers, dst_off, io_uring_clone_buffers, dst_off);
    SAME_FIELD(ring_clone_buffers, nr, io_uring_clone_buffers, nr);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_SIZE(ring_file_range, io_uring_file_index_range);
    SAME_FIELD(ring_file_range, off, io_uring_file_index_range, off);
    SAME_FIELD(ring_file_range, len, io_uring_file_index_range, len);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_SIZE(ring_recvmsg_out, io_uring_recvmsg_out);
    SAME_FIELD(ring_recvmsg_out, namelen, io_uring_recvmsg_out, namelen);
    SAME_FIELD(ring_recvmsg_out, controllen, io_uring_recvmsg_out, controllen);
    SAME_FIELD(ring_recvmsg_out, payloadlen, io_uring_recvmsg_out, payloadlen);
    SAME_FIELD(ring_recvmsg_out, flags, io_uring_recvmsg_out, flags);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_SIZE(ring_buf, io_uring_buf);
    SAME_FIELD(ring_buf, addr, io_uring_buf, addr);
    SAME_FIELD(ring_buf, len, io_uring_buf, len);
    SAME_FIELD(ring_buf, bid, io_uring_buf, bid);
    SAME_FIELD(ring_buf, tail, io_uring_buf, resv);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_FIELD(ring_buf, tail, io_uring_buf_ring, tail);
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
    SAME_SIZE(ring_buf_reg, io_uring_buf_reg);
    SAME_FIELD(ring_buf_reg, ring_addr, io_uring_buf_reg, ring_addr);
    SAME_FIELD(ring_buf_reg, ring_entries, io_uring_buf_reg, ring_entries);
    SAME_FIELD(ring_buf_reg, bgid, io_uring_buf_reg, bgid);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME_FIELD(ring_buf_reg, flags, io_uring_buf_reg, flags);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME_SIZE(ring_buf_status, io_uring_buf_status);
    SAME_FIELD(ring_buf_status, buf_group, io_uring_buf_status, buf_group);
    SAME_FIELD(ring_buf_status, head, io_uring_buf_status, head);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    SAME_SIZE(ring_napi, io_uring_napi);
    SAME_FIELD(ring_napi, busy_poll_to, io_uring_napi, busy_poll_to);
    SAME_FIELD(ring_napi, prefer_busy_poll, io_uring_napi, prefer_busy_poll);
#endif
#ifdef IORING_FEAT_RW_ATTR
    SAME_FIELD(ring_napi, opcode, io_uring_napi, opcode);
    SAME_FIELD(ring_napi, op_param, io_uring_napi, op_param);
#endif
}

static void system_calls(void)
{
#ifdef SYS_io_uring_setup
    SAME(RING_NR_SETUP, SYS_io_uring_setup);
#endif
#ifdef SYS_io_uring_enter
    SAME(RING_NR_ENTER, SYS_io_uring_enter);
#endif
#ifdef SYS_io_uring_register
    SAME(RING_NR_REGISTER, SYS_io_uring_register);
#endif
}

#define GROUP(name) \
    {               \
#name, name \
    }

static const struct {
    const char *name;
    void (*compare)(void);
} groups[] = {
    GROUP(setup_flags),      GROUP(features),          GROUP(enter_flags),    GROUP(queue_flags),
    GROUP(operation_flags),  GROUP(other_numbers),     GROUP(opcodes),        GROUP(later_opcodes),
    GROUP(register_opcodes), GROUP(small_enumerators), GROUP(entries),        GROUP(setup_structs),
    GROUP(wait_structs),     GROUP(resource_structs),  GROUP(buffer_structs), GROUP(system_calls),
};

int main(void)
{
    const unsigned count = sizeof(groups) / sizeof(groups[0]);
    unsigned failed = 0;

    printf("1..%u\n# compared with %s\n", count, ABI_HEADER);
    for (unsigned i = 0; i < count; i++) {
        compared = wrong = 0;
        groups[i].compare();
        /* Every header has something of every group: nothing compared would be our own mistake. */
        failed += wrong || !compared;
        printf("%s %u - %s: %u compared, %u differ\n", wrong || !compared ? "not ok" : "ok", i + 1,
               groups[i].name, compared, wrong);
    }
    return failed ? 1 : 0;
}

#endif

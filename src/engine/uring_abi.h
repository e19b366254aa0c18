/* SPDX-License-Identifier: MIT */
/*
 * The numbers and layouts of Linux' io_uring interface under our own names, up to kernel 6.18.
 *
 * Nothing here comes from a system header, because what works must depend on the kernel that runs,
 * not on the headers that were installed when ouro was built. Numbers of a released interface never
 * change; a kernel that does not know one says so at run time. Comments give the first kernel that
 * knows a number, where that is later than the engine's floor (5.15). tests/abi_uring.c compares
 * everything with the system's headers where there are any.
 */
#ifndef OURO_URING_ABI_H
#define OURO_URING_ABI_H

#include <stddef.h>
#include <stdint.h>

/* System calls: the same everywhere but on Alpha, MIPS and x32. */
#if defined(__alpha__)
#define RING_NR_BASE 110
#elif defined(__mips__) && defined(_ABIN32) && _MIPS_SIM == _ABIN32
#define RING_NR_BASE 6000
#elif defined(__mips__) && defined(_ABI64) && _MIPS_SIM == _ABI64
#define RING_NR_BASE 5000
#elif defined(__mips__)
#define RING_NR_BASE 4000
#elif defined(__x86_64__) && defined(__ILP32__)
#define RING_NR_BASE 0x40000000
#else
#define RING_NR_BASE 0
#endif
#define RING_NR_SETUP (RING_NR_BASE + 425)
#define RING_NR_ENTER (RING_NR_BASE + 426)
#define RING_NR_REGISTER (RING_NR_BASE + 427)

/* What an entry asks for (ring_sqe.opcode). */
enum ring_opcode {
    RING_OP_NOP = 0,
    RING_OP_READV = 1,
    RING_OP_WRITEV = 2,
    RING_OP_FSYNC = 3,
    RING_OP_READ_FIXED = 4,
    RING_OP_WRITE_FIXED = 5,
    RING_OP_POLL_ADD = 6,
    RING_OP_POLL_REMOVE = 7,
    RING_OP_SYNC_FILE_RANGE = 8,
    RING_OP_SENDMSG = 9,
    RING_OP_RECVMSG = 10,
    RING_OP_TIMEOUT = 11,
    RING_OP_TIMEOUT_REMOVE = 12,
    RING_OP_ACCEPT = 13,
    RING_OP_ASYNC_CANCEL = 14,
    RING_OP_LINK_TIMEOUT = 15,
    RING_OP_CONNECT = 16,
    RING_OP_FALLOCATE = 17,
    RING_OP_OPENAT = 18,
    RING_OP_CLOSE = 19,
    RING_OP_FILES_UPDATE = 20,
    RING_OP_STATX = 21,
    RING_OP_READ = 22,
    RING_OP_WRITE = 23,
    RING_OP_FADVISE = 24,
    RING_OP_MADVISE = 25,
    RING_OP_SEND = 26,
    RING_OP_RECV = 27,
    RING_OP_OPENAT2 = 28,
    RING_OP_EPOLL_CTL = 29,
    RING_OP_SPLICE = 30,
    RING_OP_PROVIDE_BUFFERS = 31,
    RING_OP_REMOVE_BUFFERS = 32,
    RING_OP_TEE = 33,
    RING_OP_SHUTDOWN = 34,
    RING_OP_RENAMEAT = 35,
    RING_OP_UNLINKAT = 36,
    RING_OP_MKDIRAT = 37,
    RING_OP_SYMLINKAT = 38,
    RING_OP_LINKAT = 39,
    RING_OP_MSG_RING = 40,         /* 5.18 */
    RING_OP_FSETXATTR = 41,        /* 5.19 */
    RING_OP_SETXATTR = 42,         /* 5.19 */
    RING_OP_FGETXATTR = 43,        /* 5.19 */
    RING_OP_GETXATTR = 44,         /* 5.19 */
    RING_OP_SOCKET = 45,           /* 5.19 */
    RING_OP_URING_CMD = 46,        /* 5.19 */
    RING_OP_SEND_ZC = 47,          /* 6.0 */
    RING_OP_SENDMSG_ZC = 48,       /* 6.1 */
    RING_OP_READ_MULTISHOT = 49,   /* 6.7 */
    RING_OP_WAITID = 50,           /* 6.7 */
    RING_OP_FUTEX_WAIT = 51,       /* 6.7 */
    RING_OP_FUTEX_WAKE = 52,       /* 6.7 */
    RING_OP_FUTEX_WAITV = 53,      /* 6.7 */
    RING_OP_FIXED_FD_INSTALL = 54, /* 6.8 */
    RING_OP_FTRUNCATE = 55,        /* 6.9 */
    RING_OP_BIND = 56,             /* 6.11 */
    RING_OP_LISTEN = 57,           /* 6.11 */
    RING_OP_RECV_ZC = 58,          /* 6.15 */
    RING_OP_EPOLL_WAIT = 59,       /* 6.15 */
    RING_OP_READV_FIXED = 60,      /* 6.15 */
    RING_OP_WRITEV_FIXED = 61,     /* 6.15 */
    RING_OP_PIPE = 62,             /* 6.16 */
};

/* ring_sqe.flags */
#define RING_SQE_FIXED_FILE (1u << 0)    /* fd is an index into the registered files */
#define RING_SQE_DRAIN (1u << 1)         /* start after everything submitted before is done */
#define RING_SQE_LINK (1u << 2)          /* the next entry starts when this one succeeded */
#define RING_SQE_HARDLINK (1u << 3)      /* the next entry starts when this one ended */
#define RING_SQE_ASYNC (1u << 4)         /* straight to a kernel worker */
#define RING_SQE_BUFFER_SELECT (1u << 5) /* take a buffer from group buf_group */
#define RING_SQE_CQE_SKIP (1u << 6)      /* no completion on success, 5.17 */

/* io_uring_setup */
#define RING_SETUP_IOPOLL (1u << 0)
#define RING_SETUP_SQPOLL (1u << 1)
#define RING_SETUP_SQ_AFF (1u << 2)
#define RING_SETUP_CQSIZE (1u << 3)
#define RING_SETUP_CLAMP (1u << 4)
#define RING_SETUP_ATTACH_WQ (1u << 5)
#define RING_SETUP_R_DISABLED (1u << 6)
#define RING_SETUP_SUBMIT_ALL (1u << 7)          /* 5.18 */
#define RING_SETUP_COOP_TASKRUN (1u << 8)        /* 5.19 */
#define RING_SETUP_TASKRUN_FLAG (1u << 9)        /* 5.19; with COOP_ or DEFER_TASKRUN only */
#define RING_SETUP_SQE128 (1u << 10)             /* 5.19 */
#define RING_SETUP_CQE32 (1u << 11)              /* 5.19 */
#define RING_SETUP_SINGLE_ISSUER (1u << 12)      /* 6.0 */
#define RING_SETUP_DEFER_TASKRUN (1u << 13)      /* 6.1; with SINGLE_ISSUER only */
#define RING_SETUP_NO_MMAP (1u << 14)            /* 6.5 */
#define RING_SETUP_REGISTERED_FD_ONLY (1u << 15) /* 6.5 */
#define RING_SETUP_NO_SQARRAY (1u << 16)         /* 6.6 */
#define RING_SETUP_HYBRID_IOPOLL (1u << 17)      /* 6.13 */
#define RING_SETUP_CQE_MIXED (1u << 18)          /* 6.18 */

/* ring_params.features */
#define RING_FEAT_SINGLE_MMAP (1u << 0)
#define RING_FEAT_NODROP (1u << 1)
#define RING_FEAT_SUBMIT_STABLE (1u << 2)
#define RING_FEAT_RW_CUR_POS (1u << 3)
#define RING_FEAT_CUR_PERSONALITY (1u << 4)
#define RING_FEAT_FAST_POLL (1u << 5)
#define RING_FEAT_POLL_32BITS (1u << 6)
#define RING_FEAT_SQPOLL_NONFIXED (1u << 7)
#define RING_FEAT_EXT_ARG (1u << 8)
#define RING_FEAT_NATIVE_WORKERS (1u << 9)
#define RING_FEAT_RSRC_TAGS (1u << 10)
#define RING_FEAT_CQE_SKIP (1u << 11)        /* 5.17 */
#define RING_FEAT_LINKED_FILE (1u << 12)     /* 5.17 */
#define RING_FEAT_REG_REG_RING (1u << 13)    /* 6.3 */
#define RING_FEAT_RECVSEND_BUNDLE (1u << 14) /* 6.10 */
#define RING_FEAT_MIN_TIMEOUT (1u << 15)     /* 6.12 */
#define RING_FEAT_RW_ATTR (1u << 16)         /* 6.14 */
#define RING_FEAT_NO_IOWAIT (1u << 17)       /* 6.15 */

/* io_uring_enter */
#define RING_ENTER_GETEVENTS (1u << 0)
#define RING_ENTER_SQ_WAKEUP (1u << 1)
#define RING_ENTER_SQ_WAIT (1u << 2)
#define RING_ENTER_EXT_ARG (1u << 3)
#define RING_ENTER_REGISTERED_RING (1u << 4) /* 5.18 */
#define RING_ENTER_ABS_TIMER (1u << 5)       /* 6.12 */
#define RING_ENTER_EXT_ARG_REG (1u << 6)     /* 6.13 */
#define RING_ENTER_NO_IOWAIT (1u << 7)       /* 6.15 */

/* The flags word that the kernel keeps in the submission queue. */
#define RING_SQ_NEED_WAKEUP (1u << 0)
#define RING_SQ_CQ_OVERFLOW (1u << 1)
#define RING_SQ_TASKRUN (1u << 2) /* 5.19, with SETUP_TASKRUN_FLAG */

/* The flags word that we keep in the completion queue. */
#define RING_CQ_EVENTFD_DISABLED (1u << 0)

/* ring_cqe.flags */
#define RING_CQE_BUFFER (1u << 0)        /* the upper 16 bits name a provided buffer */
#define RING_CQE_MORE (1u << 1)          /* not the last completion of its entry */
#define RING_CQE_SOCK_NONEMPTY (1u << 2) /* 5.19 */
#define RING_CQE_NOTIF (1u << 3)         /* 6.0: a zero-copy send has let go of its buffer */
#define RING_CQE_BUF_MORE (1u << 4)      /* 6.12: the buffer is only partly used up */
#define RING_CQE_SKIP (1u << 5)          /* 6.18: filler in a ring of mixed sizes */
#define RING_CQE_32 (1u << 15)           /* 6.18: a long entry in a ring of mixed sizes */
#define RING_CQE_BUFFER_SHIFT 16

/* io_uring_register */
enum ring_register_op {
    RING_REGISTER_BUFFERS = 0,
    RING_UNREGISTER_BUFFERS = 1,
    RING_REGISTER_FILES = 2,
    RING_UNREGISTER_FILES = 3,
    RING_REGISTER_EVENTFD = 4,
    RING_UNREGISTER_EVENTFD = 5,
    RING_REGISTER_FILES_UPDATE = 6,
    RING_REGISTER_EVENTFD_ASYNC = 7,
    RING_REGISTER_PROBE = 8,
    RING_REGISTER_PERSONALITY = 9,
    RING_UNREGISTER_PERSONALITY = 10,
    RING_REGISTER_RESTRICTIONS = 11,
    RING_REGISTER_ENABLE_RINGS = 12,
    RING_REGISTER_FILES2 = 13,
    RING_REGISTER_FILES_UPDATE2 = 14,
    RING_REGISTER_BUFFERS2 = 15,
    RING_REGISTER_BUFFERS_UPDATE = 16,
    RING_REGISTER_IOWQ_AFF = 17,
    RING_UNREGISTER_IOWQ_AFF = 18,
    RING_REGISTER_IOWQ_MAX_WORKERS = 19,
    RING_REGISTER_RING_FDS = 20,         /* 5.18 */
    RING_UNREGISTER_RING_FDS = 21,       /* 5.18 */
    RING_REGISTER_PBUF_RING = 22,        /* 5.19 */
    RING_UNREGISTER_PBUF_RING = 23,      /* 5.19 */
    RING_REGISTER_SYNC_CANCEL = 24,      /* 6.0 */
    RING_REGISTER_FILE_ALLOC_RANGE = 25, /* 6.0 */
    RING_REGISTER_PBUF_STATUS = 26,      /* 6.8 */
    RING_REGISTER_NAPI = 27,             /* 6.9 */
    RING_UNREGISTER_NAPI = 28,           /* 6.9 */
    RING_REGISTER_CLOCK = 29,            /* 6.12 */
    RING_REGISTER_CLONE_BUFFERS = 30,    /* 6.12 */
    RING_REGISTER_SEND_MSG_RING = 31,    /* 6.13 */
    RING_REGISTER_ZCRX_IFQ = 32,         /* 6.15 */
    RING_REGISTER_RESIZE_RINGS = 33,     /* 6.13 */
    RING_REGISTER_MEM_REGION = 34,       /* 6.13 */
    RING_REGISTER_QUERY = 35,            /* 6.18 */
};
#define RING_REGISTER_USE_REGISTERED_RING (1u << 31) /* 6.3; added to the opcode */

/* Small flag sets, each named after the field of the entry that carries it. */
#define RING_FSYNC_DATASYNC (1u << 0)

#define RING_TIMEOUT_ABS (1u << 0)
#define RING_TIMEOUT_UPDATE (1u << 1)
#define RING_TIMEOUT_BOOTTIME (1u << 2)
#define RING_TIMEOUT_REALTIME (1u << 3)
#define RING_LINK_TIMEOUT_UPDATE (1u << 4)
#define RING_TIMEOUT_ETIME_SUCCESS (1u << 5) /* 5.16 */
#define RING_TIMEOUT_MULTISHOT (1u << 6)     /* 6.4 */

#define RING_SPLICE_FD_IN_FIXED (1u << 31)

#define RING_POLL_MULTI (1u << 0) /* these four in ring_sqe.len */
#define RING_POLL_UPDATE_EVENTS (1u << 1)
#define RING_POLL_UPDATE_USER_DATA (1u << 2)
#define RING_POLL_LEVEL (1u << 3) /* 6.0 */

#define RING_CANCEL_ALL (1u << 0) /* 5.19, as the next three */
#define RING_CANCEL_FD (1u << 1)
#define RING_CANCEL_ANY (1u << 2)
#define RING_CANCEL_FD_FIXED (1u << 3)
#define RING_CANCEL_USERDATA (1u << 4) /* 6.6 */
#define RING_CANCEL_OP (1u << 5)       /* 6.6 */

#define RING_RECVSEND_POLL_FIRST (1u << 0)  /* 5.19; these six in ring_sqe.ioprio */
#define RING_RECV_MULTISHOT (1u << 1)       /* 6.0 */
#define RING_RECVSEND_FIXED_BUF (1u << 2)   /* 6.0 */
#define RING_SEND_ZC_REPORT_USAGE (1u << 3) /* 6.2 */
#define RING_RECVSEND_BUNDLE (1u << 4)      /* 6.10 */
#define RING_SEND_VECTORIZED (1u << 5)      /* 6.17 */
#define RING_NOTIF_USAGE_ZC_COPIED (1u << 31)

#define RING_ACCEPT_MULTISHOT (1u << 0)  /* 5.19; these three in ring_sqe.ioprio */
#define RING_ACCEPT_DONTWAIT (1u << 1)   /* 6.10 */
#define RING_ACCEPT_POLL_FIRST (1u << 2) /* 6.10 */

#define RING_MSG_DATA 0u    /* these two in ring_sqe.addr */
#define RING_MSG_SEND_FD 1u /* 6.0 */
#define RING_MSG_CQE_SKIP (1u << 0)
#define RING_MSG_FLAGS_PASS (1u << 1) /* 6.3 */

#define RING_NOP_INJECT_RESULT (1u << 0)    /* 6.10 */
#define RING_FIXED_FD_NO_CLOEXEC (1u << 0)  /* 6.8 */
#define RING_FILE_INDEX_ALLOC UINT32_MAX    /* the kernel picks the slot, 5.19 */
#define RING_FILES_SKIP (-2)                /* leave this slot of an update alone */
#define RING_RSRC_REGISTER_SPARSE (1u << 0) /* 5.19 */
#define RING_OP_SUPPORTED (1u << 0)         /* ring_probe_op.flags */
#define RING_REG_WAIT_TS (1u << 0)          /* ring_reg_wait.flags */
#define RING_MEM_REGION_TYPE_USER 1u        /* ring_region_desc.flags */
#define RING_MEM_REGION_REG_WAIT_ARG 1u     /* ring_mem_region_reg.flags */
#define RING_PBUF_MMAP 1u                   /* ring_buf_reg.flags, 6.4 */
#define RING_PBUF_INC 2u                    /* ring_buf_reg.flags, 6.12 */
#define RING_CLONE_SRC_REGISTERED (1u << 0) /* ring_clone_buffers.flags */
#define RING_CLONE_DST_REPLACE (1u << 1)    /* 6.13 */
#define RING_IOWQ_BOUND 0                   /* index of work that ends by itself */
#define RING_IOWQ_UNBOUND 1                 /* index of work that may wait for ever */
#define RING_RESTRICT_REGISTER_OP 0
#define RING_RESTRICT_SQE_OP 1
#define RING_RESTRICT_SQE_FLAGS_ALLOWED 2
#define RING_RESTRICT_SQE_FLAGS_REQUIRED 3

/* Where the parts of a ring lie in its file, for mmap. */
#define RING_OFF_SQ_RING 0ull
#define RING_OFF_CQ_RING 0x8000000ull
#define RING_OFF_SQES 0x10000000ull
#define RING_OFF_PBUF_RING 0x80000000ull
#define RING_OFF_PBUF_SHIFT 16

/* One submission. Unions only where one word has a type or a meaning of its own. */
struct ring_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t ioprio; /* flags of accept, receive and send; else the I/O priority */
    int32_t fd;
    union {
        uint64_t off;   /* file offset; -1: use and move the file's position */
        uint64_t addr2; /* a second pointer: statx result, new path, sockaddr of send */
        uint32_t cmd_op;
    };
    union {
        uint64_t addr;
        uint64_t splice_off_in;
        struct {
            uint32_t level;
            uint32_t optname;
        };
    };
    uint32_t len;
    uint32_t op_flags; /* every operation's own flags: rw, fsync, open, poll, msg, cancel, ... */
    uint64_t user_data;
    union {
        uint16_t buf_index;
        uint16_t buf_group;
    };
    uint16_t personality;
    union {
        int32_t splice_fd_in;
        uint32_t file_index; /* slot of a direct descriptor plus one */
        uint16_t addr_len;
        uint32_t optlen;
    };
    uint64_t addr3;
    uint64_t pad;
};

struct ring_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct ring_sq_offsets {
    uint32_t head;
    uint32_t tail;
    uint32_t ring_mask;
    uint32_t ring_entries;
    uint32_t flags;
    uint32_t dropped;
    uint32_t array;
    uint32_t resv1;
    uint64_t user_addr;
};

struct ring_cq_offsets {
    uint32_t head;
    uint32_t tail;
    uint32_t ring_mask;
    uint32_t ring_entries;
    uint32_t overflow;
    uint32_t cqes;
    uint32_t flags;
    uint32_t resv1;
    uint64_t user_addr;
};

struct ring_params {
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t flags;
    uint32_t sq_thread_cpu;
    uint32_t sq_thread_idle; /* milliseconds */
    uint32_t features;
    uint32_t wq_fd;
    uint32_t resv[3];
    struct ring_sq_offsets sq_off;
    struct ring_cq_offsets cq_off;
};

struct ring_timespec {
    int64_t sec;
    int64_t nsec;
};

/* The argument of io_uring_enter with ENTER_EXT_ARG. */
struct ring_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_sz;
    uint32_t min_wait_usec; /* 6.12, padding before */
    uint64_t ts;
};

/* One slot of a registered wait region, for ENTER_EXT_ARG_REG. */
struct ring_reg_wait {
    struct ring_timespec ts;
    uint32_t min_wait_usec;
    uint32_t flags;
    uint64_t sigmask;
    uint32_t sigmask_sz;
    uint32_t pad[3];
    uint64_t pad2[2];
};

struct ring_region_desc {
    uint64_t user_addr;
    uint64_t size;
    uint32_t flags;
    uint32_t id;
    uint64_t mmap_offset;
    uint64_t resv[4];
};

struct ring_mem_region_reg {
    uint64_t region; /* struct ring_region_desc * */
    uint64_t flags;
    uint64_t resv[2];
};

struct ring_rsrc_register {
    uint32_t nr;
    uint32_t flags;
    uint64_t resv2;
    uint64_t data;
    uint64_t tags;
};

struct ring_rsrc_update {
    uint32_t offset;
    uint32_t resv;
    uint64_t data;
};

struct ring_rsrc_update2 {
    uint32_t offset;
    uint32_t resv;
    uint64_t data;
    uint64_t tags;
    uint32_t nr;
    uint32_t resv2;
};

struct ring_probe_op {
    uint8_t op;
    uint8_t resv;
    uint16_t flags;
    uint32_t resv2;
};

struct ring_probe_reg {
    uint8_t last_op;
    uint8_t ops_len;
    uint16_t resv;
    uint32_t resv2[3];
    struct ring_probe_op ops[];
};

struct ring_restriction {
    uint16_t opcode;
    uint8_t what; /* register opcode, entry opcode or entry flags, as opcode says */
    uint8_t resv;
    uint32_t resv2[3];
};

struct ring_clock_register {
    uint32_t clockid;
    uint32_t resv[3];
};

struct ring_clone_buffers {
    uint32_t src_fd;
    uint32_t flags;
    uint32_t src_off;
    uint32_t dst_off;
    uint32_t nr;
    uint32_t pad[3];
};

/* One provided buffer. The ring's tail lies over tail of entry 0. */
struct ring_buf {
    uint64_t addr;
    uint32_t len;
    uint16_t bid;
    uint16_t tail;
};

struct ring_buf_reg {
    uint64_t ring_addr;
    uint32_t ring_entries;
    uint16_t bgid;
    uint16_t flags;
    uint64_t resv[3];
};

struct ring_buf_status {
    uint32_t buf_group;
    uint32_t head;
    uint32_t resv[8];
};

struct ring_sync_cancel {
    uint64_t addr;
    int32_t fd;
    uint32_t flags;
    struct ring_timespec timeout; /* -1, -1: none */
    uint8_t opcode;               /* 6.6, padding before */
    uint8_t pad[7];
    uint64_t pad2[3];
};

struct ring_file_range {
    uint32_t off;
    uint32_t len;
    uint64_t resv;
};

struct ring_recvmsg_out {
    uint32_t namelen;
    uint32_t controllen;
    uint32_t payloadlen;
    uint32_t flags;
};

struct ring_napi {
    uint32_t busy_poll_to;
    uint8_t prefer_busy_poll;
    uint8_t opcode;
    uint8_t pad[2];
    uint32_t op_param;
    uint32_t resv;
};

_Static_assert(sizeof(struct ring_sqe) == 64, "layout");
_Static_assert(offsetof(struct ring_sqe, fd) == 4, "layout");
_Static_assert(offsetof(struct ring_sqe, off) == 8, "layout");
_Static_assert(offsetof(struct ring_sqe, addr) == 16, "layout");
_Static_assert(offsetof(struct ring_sqe, len) == 24, "layout");
_Static_assert(offsetof(struct ring_sqe, op_flags) == 28, "layout");
_Static_assert(offsetof(struct ring_sqe, user_data) == 32, "layout");
_Static_assert(offsetof(struct ring_sqe, buf_index) == 40, "layout");
_Static_assert(offsetof(struct ring_sqe, personality) == 42, "layout");
_Static_assert(offsetof(struct ring_sqe, file_index) == 44, "layout");
_Static_assert(offsetof(struct ring_sqe, addr3) == 48, "layout");
_Static_assert(sizeof(struct ring_cqe) == 16, "layout");
_Static_assert(offsetof(struct ring_cqe, res) == 8, "layout");
_Static_assert(offsetof(struct ring_cqe, flags) == 12, "layout");
_Static_assert(sizeof(struct ring_sq_offsets) == 40, "layout");
_Static_assert(offsetof(struct ring_sq_offsets, array) == 24, "layout");
_Static_assert(sizeof(struct ring_cq_offsets) == 40, "layout");
_Static_assert(offsetof(struct ring_cq_offsets, cqes) == 20, "layout");
_Static_assert(sizeof(struct ring_params) == 120, "layout");
_Static_assert(offsetof(struct ring_params, features) == 20, "layout");
_Static_assert(offsetof(struct ring_params, sq_off) == 40, "layout");
_Static_assert(offsetof(struct ring_params, cq_off) == 80, "layout");
_Static_assert(sizeof(struct ring_timespec) == 16, "layout");
_Static_assert(sizeof(struct ring_getevents_arg) == 24, "layout");
_Static_assert(offsetof(struct ring_getevents_arg, ts) == 16, "layout");
_Static_assert(sizeof(struct ring_reg_wait) == 64, "layout");
_Static_assert(offsetof(struct ring_reg_wait, sigmask) == 24, "layout");
_Static_assert(sizeof(struct ring_region_desc) == 64, "layout");
_Static_assert(offsetof(struct ring_region_desc, mmap_offset) == 24, "layout");
_Static_assert(sizeof(struct ring_mem_region_reg) == 32, "layout");
_Static_assert(sizeof(struct ring_rsrc_register) == 32, "layout");
_Static_assert(offsetof(struct ring_rsrc_register, data) == 16, "layout");
_Static_assert(sizeof(struct ring_rsrc_update) == 16, "layout");
_Static_assert(offsetof(struct ring_rsrc_update, data) == 8, "layout");
_Static_assert(sizeof(struct ring_rsrc_update2) == 32, "layout");
_Static_assert(offsetof(struct ring_rsrc_update2, nr) == 24, "layout");
_Static_assert(sizeof(struct ring_probe_op) == 8, "layout");
_Static_assert(sizeof(struct ring_probe_reg) == 16, "layout");
_Static_assert(offsetof(struct ring_probe_reg, ops) == 16, "layout");
_Static_assert(sizeof(struct ring_restriction) == 16, "layout");
_Static_assert(sizeof(struct ring_clock_register) == 16, "layout");
_Static_assert(sizeof(struct ring_clone_buffers) == 32, "layout");
_Static_assert(sizeof(struct ring_buf) == 16, "layout");
_Static_assert(offsetof(struct ring_buf, tail) == 14, "layout");
_Static_assert(sizeof(struct ring_buf_reg) == 40, "layout");
_Static_assert(offsetof(struct ring_buf_reg, bgid) == 12, "layout");
_Static_assert(sizeof(struct ring_buf_status) == 40, "layout");
_Static_assert(sizeof(struct ring_sync_cancel) == 64, "layout");
_Static_assert(offsetof(struct ring_sync_cancel, timeout) == 16, "layout");
_Static_assert(offsetof(struct ring_sync_cancel, opcode) == 32, "layout");
_Static_assert(sizeof(struct ring_file_range) == 16, "layout");
_Static_assert(sizeof(struct ring_recvmsg_out) == 16, "layout");
_Static_assert(sizeof(struct ring_napi) == 16, "layout");

#endif

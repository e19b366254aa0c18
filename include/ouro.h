/* SPDX-License-Identifier: MIT */
/* ouro.h: one completion API for files, sockets, timers and wakeups, on whatever engine the
 * machine offers. This header is the whole public interface, and its comments are the reference. */
#ifndef OURO_H
#define OURO_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
typedef intptr_t ouro_fd; /* a HANDLE or SOCKET */
struct iovec {
    void *iov_base;
    size_t iov_len;
};
struct sockaddr;
struct msghdr;
struct addrinfo;
#else
#include <sys/socket.h>
#include <sys/uio.h>
struct addrinfo;     /* <netdb.h> */
typedef int ouro_fd; /* a file descriptor */
#endif

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility push(default) /* the library is compiled with -fvisibility=hidden */
#endif

#define OURO_VERSION_MAJOR 0
#define OURO_VERSION_MINOR 1
#define OURO_VERSION_PATCH 0

/* ---- 1. Conventions ------------------------------------------------------------------------
 *
 * Functions return >= 0 or -errno (the platform's errno numbers) and never touch errno.
 *
 * An operation (struct ouro_op) belongs to the caller. Prepare it, set flags, deadline and callback
 * by plain stores, submit it:
 *
 *   submit >= 0   the library owns the operation, and everything it points to (buffers, paths,
 *                 iovec arrays, result structs), until its FINAL completion. Exactly one follows.
 *   submit <  0   refused: no completion will follow, and everything is still the caller's.
 *
 * Nothing ends that ownership early: not a cancel, not a deadline, not close(2) of the descriptor.
 *
 * Before its first use an operation must be all-zero (`ouro_op op = {0}`, static, calloc). The
 * library changes nothing of what was prepared and set, so after a final completion it may be
 * prepared anew, or submitted again as it is. Never prepare one that is in flight, and close the
 * loop before the memory of operations goes that may be in flight. Aligned to 64 bytes it lies in
 * the fewest cache lines.
 *
 * A completion is learned in exactly one way, chosen per operation:
 *   cb != NULL    the callback runs inside ouro_run, ouro_dispatch, ouro_wait or ouro_close, on the
 *                 thread that called it (SERVICE: on the library's thread, but in ouro_close).
 *                 It may do anything, also free or submit its own operation, and run the loop
 *                 (up to 8 deep, then -EDEADLK).
 *   cb == NULL    the event is collected once, by ouro_reap, ouro_wait or ouro_wait_any; ouro_done
 *                 looks without collecting.
 *
 * op->res never lies about the effect: -ECANCELED and -ETIMEDOUT only when nothing was transferred
 * or created; otherwise the real result stands there, with OURO_C_CANCELED or OURO_C_TIMEDOUT
 * beside it. -EAGAIN and -EINTR never stand in op->res except where a flag asks for it.
 * O_NONBLOCK of a descriptor does not matter (see OURO_FDMODE), and the library never changes
 * it on a descriptor that it did not open. Descriptors that the library opens are
 * close-on-exec. No SIGPIPE is raised.
 *
 * "Driver thread" below means: OWNED loops, the one thread that drives the loop (the first that
 * submits or runs); SHARED and SERVICE loops, any thread. "Any thread" means any thread in all
 * modes. Functions called by the wrong thread return -EPERM; after fork the child gets -EOWNERDEAD
 * from everything but ouro_fork_child and ouro_close. */

typedef struct ouro_loop ouro_loop;
typedef struct ouro_op ouro_op;
typedef struct ouro_pool ouro_pool; /* buffers that streams receive into */
typedef struct ouro_sendq ouro_sendq;
typedef void ouro_cb(ouro_op *op);
typedef uint64_t ouro_time; /* absolute nanoseconds on the loop's monotonic clock, see ouro_now */
typedef uint64_t ouro_id; /* names one submission of one operation; never reused in a loop's life */

#define OURO_FOREVER ((ouro_time)0) /* as a deadline: none; as a limit: wait without limit */
#define OURO_NOWAIT ((ouro_time)1)  /* already past: look, do not wait */
#define OURO_US ((ouro_time)1000)
#define OURO_MS ((ouro_time)1000000)
#define OURO_S ((ouro_time)1000000000)

/* ---- 2. The operation ---------------------------------------------------------------------- */

/* ouro_op.flags: set by the caller after ouro_prep_*, which clears them. An unknown flag, or one
 * that the operation has no use for, is refused with -EINVAL. Where nothing else is said, all
 * operations take it. */
enum {
    /* (read, write, readv, writev, copy, splice, recv, send) go on after a short transfer until
     * all, end of file, or an error; then res is what was transferred, and op->cause why it is less
     * than asked for: -errno, or 0 for end of file */
    OURO_EXACT = 1u << 0,
    OURO_BG = 1u << 2, /* will block long: user work goes to the class of workers that may wait for
                          ever; others are not tried on the driver thread first, and a disk or
                          server (FUSE, NFS) that hangs under them holds up nothing else */
    OURO_DIRECT = 1u << 3, /* fd is a slot of the loop's direct table (what takes one fd) */
    OURO_REGBUF = 1u << 4, /* the buffer lies in a region of ouro_register_buffers (read, write) */
    OURO_QUIET = 1u << 5,  /* success is not reported: no event, no callback; ouro_done tells */
    OURO_SOFT = 1u << 6,   /* in a chain: an error or short transfer here does not break it */
    OURO_FDMODE = 1u << 7, /* honour O_NONBLOCK of the descriptor: -EAGAIN is a result (read, write,
                              readv, writev, recv, send, recvmsg, sendmsg, accept) */
    OURO_SERIAL = 1u << 8, /* start after the previous SERIAL operation of this fd and direction is
                              final (read, write, readv, writev, recv, send, recvmsg, sendmsg) */
    OURO_BARRIER = 1u << 9, /* start after all operations that this loop accepted before it on this
                               fd are final (what takes an fd) */
    /* (send, sendmsg) a hint: send from the buffer itself, without copying it first, if that is to
     * be had and is likely to pay. The completion comes only when nothing reads the buffer any
     * more, which may be when the peer has acknowledged all, whatever cancel or deadline say. */
    OURO_ZEROCOPY = 1u << 10
};

/* ouro_op.cflags and ouro_event.cflags: set by the library with each completion; other bits are
 * reserved. */
enum {
    OURO_C_MORE = 1u << 0, /* not final: the operation is still the library's */
    OURO_C_BUF = 1u << 1,  /* data is a buffer of the pool, now the caller's: ouro_pool_release */
    OURO_C_CANCELED = 1u << 2, /* a cancel, or its chain, ended it; res may still be >= 0 */
    OURO_C_TIMEDOUT = 1u << 3, /* its deadline ended it; res may still be >= 0 */
    OURO_C_COPIED = 1u << 4, /* OURO_ZEROCOPY was of no use: it, or a part, was copied after all */
    OURO_C_INLINE = 1u << 5, /* finished on the driver thread without waiting */
    OURO_C_POOLED = 1u << 6, /* ran on a worker thread */
    OURO_C_LOST = 1u << 7,   /* the engine was lost under it: res is -EIO, the effect not known */
    OURO_C_MESSAGE = 1u << 8 /* an event without operation: res is a message's word */
};

/* What an operation does. Bindings may store these numbers; they never change. */
enum ouro_code {
    OURO_NOP = 0,
    OURO_READ,
    OURO_WRITE,
    OURO_READV,
    OURO_WRITEV,
    OURO_FSYNC,
    OURO_OPEN,
    OURO_CLOSE,
    OURO_STAT,
    OURO_RENAME,
    OURO_UNLINK,
    OURO_MKDIR,
    OURO_SYMLINK,
    OURO_LINK,
    OURO_FALLOCATE,
    OURO_FTRUNCATE,
    OURO_FADVISE,
    OURO_READDIR,
    OURO_COPY,
    OURO_SPLICE,
    OURO_TIMER,
    OURO_POLL,
    OURO_WORK,
    OURO_WAITPID,
    OURO_MESSAGE,
    OURO_SOCKET,
    OURO_BIND,
    OURO_LISTEN,
    OURO_CONNECT,
    OURO_ACCEPT,
    OURO_RECV,
    OURO_SEND,
    OURO_RECVMSG,
    OURO_SENDMSG,
    OURO_SHUTDOWN,
    OURO_ACCEPT_MANY,
    OURO_RECV_MANY,
    OURO_POLL_MANY,
    OURO_TIMER_MANY,
    OURO_RECVMSG_MANY,
    OURO_RESOLVE,
    OURO_SIGNAL,
    OURO_SIGNAL_MANY,
    OURO_CODE_COUNT
};

/* One operation: 256 bytes of plain data. All-zero is a valid idle one. No pointer to it is kept
 * after its final completion. */
struct ouro_op {
    ouro_cb *cb;        /* NULL: collect the event by ouro_reap or ouro_wait */
    void *user;         /* the caller's; never looked at */
    int64_t res;        /* >= 0 or -errno; valid in the callback and after the final completion */
    uint32_t flags;     /* OURO_EXACT ... */
    uint32_t cflags;    /* OURO_C_...; valid when res is */
    ouro_time deadline; /* covers the whole operation; 0 = none; cleared by ouro_prep_* */

    /* Stored by ouro_prep_*; may be read, not written. */
    ouro_fd fd;
    uint16_t code;
    /* From here on the library's, but for arg. */
    uint8_t state_;
    uint8_t marks_;
    uint64_t id_;
    ouro_op *next_;
    uint64_t arg[7]; /* the arguments, as ouro_prep_* stored them */
    ouro_op *prev_;
    ouro_loop *loop_;
    int64_t done_;
    ouro_time since_;
    uint8_t route_, lanes_, retries_, stream_;
    uint16_t notes_, ready_;
    uint64_t file_;
    int32_t real_fd_;
    int32_t cause; /* the caller's: of an EXACT transfer that fell short: -errno; 0: end of file;
                      of a failed resolve: EAI_... */
    uint32_t epoch_, region_;
    int64_t result_;
    /* Seldom needed: the last cache line. */
    union {
        void *data; /* with OURO_C_BUF: what came; valid in the callback */
        ouro_op *chain_;
        ouro_sendq *sendq_;
    };
    void *worker_;
    uint32_t heap_at_, epoch2_, waits_;
    int32_t aux_fd_;
    uint64_t engine_[3];
#if UINTPTR_MAX == UINT32_MAX
    uint64_t spare_[4];
#elif !defined(_WIN64)
    uint64_t spare_;
#endif
};
#define OURO_OP_SIZE 256

/* One completion, as a value. */
typedef struct ouro_event {
    ouro_op *op;     /* NULL for a message */
    int64_t res;     /* result, or a message's word */
    uint32_t cflags; /* OURO_C_... */
    int32_t cause;   /* as ouro_op.cause */
    void *data;      /* as ouro_op.data */
} ouro_event;

/* ---- 3. Preparing --------------------------------------------------------------------------
 *
 * Plain stores that cannot fail; any thread. They set what to do and clear res, flags, cflags and
 * deadline; cb and user stay as they are. Bad arguments are found by submit: -EBADF for a negative
 * descriptor, -EFAULT for a missing pointer, -EINVAL for the rest. */

#define OURO_CUR \
    ((int64_t)-1)        /* offset: use and move the file position; such operations on one file
                                  run one after the other, in order of submission. What has no
                                  position (pipe, socket, terminal) ignores any offset, and OURO_CUR
                                  orders nothing there: see OURO_SERIAL. */
#define OURO_HERE (-100) /* dir: the current directory (AT_FDCWD) */

/* Completes with 0 at the next turn. */
void ouro_prep_nop(ouro_op *op);

/* pread(2)/pwrite(2), or read(2)/write(2) with OURO_CUR. Result: bytes; 0 at end of file. On pipes,
 * sockets and terminals the offset is ignored. At most 0x7ffff000 bytes move in one step: more
 * needs OURO_EXACT or comes back short. */
void ouro_prep_read(ouro_op *op, ouro_fd fd, void *buf, size_t len, int64_t offset);
void ouro_prep_write(ouro_op *op, ouro_fd fd, const void *buf, size_t len, int64_t offset);

/* preadv2(2)/pwritev2(2). rwf: RWF_* bits; with RWF_NOWAIT, -EAGAIN is a result. The array must
 * stay until the final completion. count may exceed IOV_MAX. */
void ouro_prep_readv(ouro_op *op, ouro_fd fd, const struct iovec *iov, unsigned count,
                     int64_t offset, int rwf);
void ouro_prep_writev(ouro_op *op, ouro_fd fd, const struct iovec *iov, unsigned count,
                      int64_t offset, int rwf);

/* fsync(2), fdatasync(2). Earlier writes that are still in flight are not waited for: see
 * OURO_BARRIER. */
void ouro_prep_fsync(ouro_op *op, ouro_fd fd);
void ouro_prep_fdatasync(ouro_op *op, ouro_fd fd);

/* openat(2); dir may be OURO_HERE. Result: a new descriptor, close-on-exec. Opening a FIFO never
 * waits for the other end: reading succeeds at once, writing without a reader gives -ENXIO. Where
 * opening or closing asks a server (FUSE, NFS), OURO_BG keeps the driver from waiting for it;
 * without, a loop that was kept waiting over 10 ms opens and closes elsewhere for a while. */
void ouro_prep_open(ouro_op *op, ouro_fd dir, const char *path, int flags, unsigned mode);

/* The same into slot of the loop's direct table; result 0. The slot must be free: -EBUSY. */
void ouro_prep_open_direct(ouro_op *op, ouro_fd dir, const char *path, int flags, unsigned mode,
                           unsigned slot);

/* Cancels this loop's operations on fd, waits until they are final, then close(2). The number must
 * not be used for new operations after this was submitted. With OURO_DIRECT: empties the slot. */
void ouro_prep_close(ouro_op *op, ouro_fd fd);

/* What ouro_prep_stat fills: the layout of Linux' struct statx, under names of our own. */
struct ouro_stat_time {
    int64_t sec;
    uint32_t nsec;
    int32_t reserved;
};
struct ouro_stat {
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, reserved0;
    uint64_t ino, size, blocks, attributes_mask;
    struct ouro_stat_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t mount_id;
    uint32_t dio_mem_align, dio_offset_align;
    uint64_t reserved[12];
};

/* statx(2) with the basic fields and the birth time. flags: AT_SYMLINK_NOFOLLOW and the like. */
void ouro_prep_stat(ouro_op *op, ouro_fd dir, const char *path, int flags, struct ouro_stat *ret);

/* renameat2(2), unlinkat(2) (flags: AT_REMOVEDIR), rmdir(2), mkdirat(2), symlinkat(2), linkat(2).
 * Result: 0. */
void ouro_prep_rename(ouro_op *op, ouro_fd old_dir, const char *old_path, ouro_fd new_dir,
                      const char *new_path, unsigned flags);
void ouro_prep_unlink(ouro_op *op, ouro_fd dir, const char *path, int flags);
void ouro_prep_rmdir(ouro_op *op, ouro_fd dir, const char *path);
void ouro_prep_mkdir(ouro_op *op, ouro_fd dir, const char *path, unsigned mode);
void ouro_prep_symlink(ouro_op *op, const char *target, ouro_fd dir, const char *path);
void ouro_prep_link(ouro_op *op, ouro_fd old_dir, const char *old_path, ouro_fd new_dir,
                    const char *new_path, int flags);

/* fallocate(2), ftruncate(2), posix_fadvise(3). Result: 0. */
void ouro_prep_fallocate(ouro_op *op, ouro_fd fd, int mode, int64_t offset, int64_t len);
void ouro_prep_ftruncate(ouro_op *op, ouro_fd fd, int64_t len);
void ouro_prep_fadvise(ouro_op *op, ouro_fd fd, int64_t offset, int64_t len, int advice);

/* getdents64(2): fills buf with whole records, moving the directory's position. Result: bytes; 0 at
 * the end; -EINVAL when one record does not fit. */
struct ouro_dirent {
    uint64_t ino;
    int64_t position;
    uint16_t size; /* of this record: the next one starts there */
    uint8_t type;  /* DT_* */
#if defined(__cplusplus)
    char name[1]; /* the same layout: C++ has no flexible array members */
#else
    char name[]; /* ends with a NUL */
#endif
};
void ouro_prep_readdir(ouro_op *op, ouro_fd dir, void *buf, size_t len);

/* copy_file_range(2) where both files allow it, else by reading and writing; offsets may be
 * OURO_CUR. Result: bytes, 0 at end of the input. */
void ouro_prep_copy(ouro_op *op, ouro_fd in, int64_t in_offset, ouro_fd out, int64_t out_offset,
                    size_t len);

/* splice(2): one of the two is a pipe; its offset must be OURO_CUR. Waits for readiness of either.
 * flags: SPLICE_F_*; with SPLICE_F_NONBLOCK, -EAGAIN is a result. */
void ouro_prep_splice(ouro_op *op, ouro_fd in, int64_t in_offset, ouro_fd out, int64_t out_offset,
                      size_t len, unsigned flags);

/* Completes with 0 at that time (loop clock); OURO_NOWAIT or a past time: at the next turn. 0 is
 * refused with -EINVAL. An earlier deadline ends it with -ETIMEDOUT. */
void ouro_prep_timer(ouro_op *op, ouro_time at);

/* poll(2) for one descriptor: events are POLL* bits; result: the bits that hold. Files that are
 * always ready complete at once. */
void ouro_prep_poll(ouro_op *op, ouro_fd fd, unsigned events);

/* Runs fn(arg) on a worker thread with all signals blocked; its return value is the result, as it
 * is. Once it runs it cannot be cancelled. With OURO_BG: in the class that may wait for ever. */
void ouro_prep_work(ouro_op *op, int64_t (*fn)(void *arg), void *arg);

/* waitpid(2): result: the child's pid, and its status in *status if not NULL. options as there, but
 * WNOHANG, with which 0 is a result. */
void ouro_prep_waitpid(ouro_op *op, int pid, int *status, int options);

/* Takes one signal of a set, as sigwaitinfo(2) does. signals: OURO_SIGNAL_BIT of each. Result: its
 * number, with what came with it in *ret if that is not NULL. All threads of the program must have
 * these blocked: otherwise a signal may go its usual way instead. What is pending stays so until an
 * operation takes it; several that wait for the same share what comes. Signals of one thread
 * (pthread_kill) may never be seen. -EINVAL: the set is empty, or has SIGKILL or SIGSTOP. */
#define OURO_SIGNAL_BIT(signo) ((uint64_t)1 << ((signo)-1))
struct ouro_signal { /* the fields of siginfo_t */
    int32_t signo, code;
    int32_t pid, status;
    uint32_t uid, reserved;
    uint64_t value; /* of sigqueue(3): sival_ptr */
};
void ouro_prep_signal(ouro_op *op, uint64_t signals, struct ouro_signal *ret);

/* getaddrinfo(3), on a worker of the class that may wait for ever. host or service may be NULL;
 * hints: NULL, or what to look for. Result: 0, and a list in *ret that is the caller's to give to
 * freeaddrinfo(3); else *ret is not touched, and op->cause is what getaddrinfo returned: -ENOENT:
 * no such name or service; -EHOSTUNREACH: no answer for now; -EIO: the answer was a failure;
 * -EINVAL, -ENOMEM, or the system's own error. It cannot be interrupted: a cancel or deadline ends
 * it while it waits for a worker; once it runs its answer is waited for, and stands. */
void ouro_prep_resolve(ouro_op *op, const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **ret);

/* Delivers word to another loop (or this one), which must stay open meanwhile: there it comes as an
 * event without operation and with OURO_C_MESSAGE. Completes with 0 when the other loop has it in
 * its event queue; -EPIPE if that loop was closed first. (A thread without a loop posts an
 * operation with a callback instead; a nop will do.) */
void ouro_prep_message(ouro_op *op, ouro_loop *to, int64_t word);

/* socket(2). Result: a new descriptor, close-on-exec. _direct: into a free slot of the loop's
 * direct table (-EBUSY); result 0. */
void ouro_prep_socket(ouro_op *op, int domain, int type, int protocol);
void ouro_prep_socket_direct(ouro_op *op, int domain, int type, int protocol, unsigned slot);

/* bind(2), listen(2), connect(2), shutdown(2). Result: 0. The address must stay until the final
 * completion; it has at most 128 bytes (struct sockaddr_storage), else -EINVAL. A connect that was
 * cancelled leaves the socket as an interrupted connect(2) does: close it. */
void ouro_prep_bind(ouro_op *op, ouro_fd fd, const struct sockaddr *addr, unsigned addr_size);
void ouro_prep_listen(ouro_op *op, ouro_fd fd, int backlog);
void ouro_prep_connect(ouro_op *op, ouro_fd fd, const struct sockaddr *addr, unsigned addr_size);
void ouro_prep_shutdown(ouro_op *op, ouro_fd fd, int how);

/* accept4(2). Result: a new descriptor, close-on-exec; _direct: into a free slot, result 0.
 * ret_addr: NULL, or where the peer's address goes, with the room for it in *ret_size, which then
 * says its size; both stay until the final completion. flags: SOCK_NONBLOCK. */
void ouro_prep_accept(ouro_op *op, ouro_fd fd, struct sockaddr *ret_addr, unsigned *ret_size,
                      int flags);
void ouro_prep_accept_direct(ouro_op *op, ouro_fd fd, struct sockaddr *ret_addr, unsigned *ret_size,
                             int flags, unsigned slot);

/* recv(2), send(2). Result: bytes; 0: the peer has ended its side. flags: MSG_* bits; with
 * MSG_DONTWAIT -EAGAIN is a result. OURO_EXACT goes on until all has come or gone (streams; not
 * with MSG_PEEK, MSG_TRUNC, MSG_OOB, MSG_ERRQUEUE), and stands for MSG_WAITALL, which is refused
 * with -EINVAL, as MSG_ZEROCOPY is. -EPIPE comes without SIGPIPE. Several on one socket at once run
 * in no certain order unless they are OURO_SERIAL. */
void ouro_prep_recv(ouro_op *op, ouro_fd fd, void *buf, size_t len, int flags);
void ouro_prep_send(ouro_op *op, ouro_fd fd, const void *buf, size_t len, int flags);

/* recvmsg(2), sendmsg(2): datagrams, addresses, descriptors (received ones are close-on-exec), and
 * vectors. The struct and all that it points to must stay until the final completion. */
void ouro_prep_recvmsg(ouro_op *op, ouro_fd fd, struct msghdr *message, int flags);
void ouro_prep_sendmsg(ouro_op *op, ouro_fd fd, const struct msghdr *message, int flags);

/* Streams: operations with many completions. Each success is one, with OURO_C_MORE; the final one
 * is a cancel's, an error's, or the end of the input. The loop re-arms what the engine ends early,
 * and goes on by itself after a lack of buffers, of descriptors, or of places for events. Members
 * of chains and QUIET they cannot be.
 * accept_many: res is a new descriptor, close-on-exec; _direct: res is the number of a slot of the
 * direct table, which was free; it rests while none is. recv_many: res bytes, in a buffer of the
 * pool (OURO_C_BUF, data), which the caller gives back; 0 at the end of the stream, which is final.
 * recvmsg_many: datagrams with their senders: res is the size of the payload (0: an empty one; on
 * other sockets that is the end, and final), and the buffer has, in this order, 16 bytes, the
 * sender's address, control data, and the payload: see ouro_datagram_of. addr_room and control_room
 * are for the former two, the payload has the rest. -EINVAL: it has none, or the pool's size is no
 * multiple of 16. Both end with a socket's own -ENOBUFS (netlink: messages were lost); start again.
 * poll_many: as poll, level-triggered: the next completion can come when this one was collected.
 * signal_many: as signal; res is the number alone.
 * timer_many: at that time and then every so many nanoseconds; res: how often since the last
 * completion that was collected. */
void ouro_prep_accept_many(ouro_op *op, ouro_fd fd, int flags);
void ouro_prep_accept_many_direct(ouro_op *op, ouro_fd fd, int flags);
void ouro_prep_recv_many(ouro_op *op, ouro_fd fd, ouro_pool *pool, int flags);
void ouro_prep_recvmsg_many(ouro_op *op, ouro_fd fd, ouro_pool *pool, unsigned addr_room,
                            unsigned control_room, int flags);
void ouro_prep_poll_many(ouro_op *op, ouro_fd fd, unsigned events);
void ouro_prep_signal_many(ouro_op *op, uint64_t signals);
void ouro_prep_timer_many(ouro_op *op, ouro_time at, ouro_time every);

/* Where things lie in the buffer that a completion of recvmsg_many brought; op as it was prepared.
 * They are good until the buffer is released. Any thread. */
typedef struct ouro_datagram {
    const struct sockaddr *addr; /* NULL: it has none */
    void *control;               /* struct cmsghdr ...; NULL: there is none */
    void *payload;
    uint32_t addr_size; /* more than the room: it was cut */
    uint32_t control_size, size;
    uint32_t flags; /* MSG_TRUNC: the payload was cut; MSG_CTRUNC: the control data was; MSG_EOR */
} ouro_datagram;
void ouro_datagram_of(const ouro_op *op, void *data, ouro_datagram *ret);

/* ---- 4. Submitting ------------------------------------------------------------------------- */

/* Hands one operation to the loop; 0. Never blocks on I/O, never runs callbacks. OWNED: the engine
 * sees it at the next turn or ouro_flush. -EBUSY: the operation is in flight already
 * or refers to a full slot; -ENOMEM; -EAGAIN: config.max_ops operations are in flight or
 * uncollected; -EOPNOTSUPP: not to be had here (ouro_support); -ESHUTDOWN: the loop is closing.
 * Driver thread. */
int ouro_submit(ouro_loop *loop, ouro_op *op);

/* Several, in order. Result: how many were accepted, a prefix; or the first one's error. */
int ouro_submit_n(ouro_loop *loop, ouro_op *const *ops, unsigned count);

/* All or none: each starts when the one before it has succeeded. A member breaks the chain by a
 * result < 0, or by a short transfer (end of file included) when it is EXACT; the rest then
 * complete, in order, with -ECANCELED and OURO_C_CANCELED. Deadlines run from now. Cancelling a
 * member that has not started ends it and the rest. */
int ouro_chain(ouro_loop *loop, ouro_op *const *ops, unsigned count);

/* A queue of sends on one socket or pipe, in memory of the caller's: what is pushed goes out in the
 * order of pushing, each of it whole before the next begins. When one fails, or can go out only
 * in part, the rest complete, in order, with -ECANCELED and OURO_C_CANCELED, and later pushes are
 * refused with the error. One that is cancelled, or times out, before any of it went out leaves the
 * queue, and the others go on.
 * ouro_sendq_init: plain stores, also to begin anew when none is in flight; flags: OURO_DIRECT or
 * 0. The queue stays until the last one is final.
 * ouro_sendq_push: ouro_submit for a prepared send, write or writev on that fd, to whose flags it
 * adds OURO_EXACT and OURO_SERIAL; -EINVAL: it is none.
 * ouro_sendq_stop: those that have not begun end, in order, as when one fails; one that has begun
 * goes on; later pushes are refused with -ECANCELED. Driver thread, both. */
struct ouro_sendq {
    ouro_loop *loop;
    ouro_fd fd;
    uint32_t flags;
    int32_t error_; /* why nothing more goes out; 0: nothing is wrong */
    uint32_t spare_[3];
};
void ouro_sendq_init(ouro_sendq *queue, ouro_loop *loop, ouro_fd fd, uint32_t flags);
int ouro_sendq_push(ouro_sendq *queue, ouro_op *op);
int ouro_sendq_stop(ouro_sendq *queue);

/* ouro_submit from any thread; wakes the driver. ret_id: NULL, or where the submission's
 * name is stored before anyone else can see the operation. What needs memory that is not
 * there completes with -ENOMEM. */
int ouro_post(ouro_loop *loop, ouro_op *op, ouro_id *ret_id);

/* Submits an operation without callback, runs the loop until it is final, and collects its event;
 * ouro_wake does not end it. Result: op->res, or why it was refused: in both cases the operation is
 * the caller's again. Driver thread. */
int64_t ouro_do(ouro_loop *loop, ouro_op *op);

/* Hands all that is submitted to the engine without waiting; 0. Driver thread. */
int ouro_flush(ouro_loop *loop);

/* The submission's name: valid from the return of submit (in callbacks too), as long as the
 * operation's memory is; other threads take it from ouro_post. 0: never submitted. */
ouro_id ouro_op_id(const ouro_op *op);

/* Requests to end early; 0. Never an error for "too late"; look at the operation's completion.
 * Results count as in convention 1. ouro_cancel_id: any thread, also from signal handlers; a stale
 * id is a no-op. ouro_cancel: driver thread, for an operation whose final completion was not yet
 * delivered. ouro_cancel_fd, ouro_cancel_all: any thread; what was submitted before; effective at
 * the loop's next turn. ouro_cancel_fd may return -ENOMEM from other threads than the driver. */
int ouro_cancel_id(ouro_loop *loop, ouro_id id);
int ouro_cancel(ouro_loop *loop, ouro_op *op);
int ouro_cancel_fd(ouro_loop *loop, ouro_fd fd);
int ouro_cancel_all(ouro_loop *loop);

/* Cancels what has not begun because others come before it (OURO_SERIAL, OURO_BARRIER, a chain): 0,
 * and it ends with -ECANCELED without having had an effect; -EALREADY: nothing is before it, it may
 * have begun or be final, and nothing was done. Driver thread. */
int ouro_withdraw(ouro_loop *loop, ouro_op *op);

/* Backpressure on a stream: after ouro_pause it starts nothing until ouro_resume; what has been
 * received already still completes. 0; -EINVAL: no stream, or none in flight. Driver thread. */
int ouro_pause(ouro_loop *loop, ouro_op *op);
int ouro_resume(ouro_loop *loop, ouro_op *op);

/* ---- 5. Completing ------------------------------------------------------------------------- */

/* One or more turns: flushes, waits until min completions were delivered to callbacks or lie
 * ready to reap, or until the time comes, or ouro_wake; runs callbacks. min 0: one turn that
 * does not wait; OURO_ALL: until nothing is in flight. Events that lie uncollected count, so
 * reap before running again; QUIET successes do not. With a min of more than 1 an engine may wait
 * for several together, and notice what else happens up to 0.2 ms late. Result: callbacks run plus
 * events ready, perhaps 0. Driver thread.
 *
 * Neither this nor ouro_wait, ouro_dispatch, ouro_close and the callbacks in them are points of
 * cancellation (pthread_cancel), nor is any function of a SHARED or SERVICE loop. */
#define OURO_ALL UINT32_MAX
int ouro_run(ouro_loop *loop, unsigned min, ouro_time until);

/* Takes up to max events of operations without callback, oldest first; result: how many. Does not
 * run the loop. Driver thread. */
int ouro_reap(ouro_loop *loop, ouro_event *ret, unsigned max);

/* Runs the loop until the operation (one without callback) is final, and collects its event; 0, or
 * -ETIME if the time came first (nothing is cancelled). wait_any: the index of one that is final;
 * NULL entries are skipped. A QUIET success counts as collected. -EINVAL: it has a callback or was
 * never submitted, or its event was collected already. Driver thread. */
int ouro_wait(ouro_loop *loop, ouro_op *op, ouro_time until);
int ouro_wait_any(ouro_loop *loop, ouro_op *const *ops, unsigned count, ouro_time until);

/* 1 if the last submission is final (then res is valid), else 0, also if there was none; any
 * thread; does not collect. */
int ouro_done(const ouro_op *op);

/* Hosting in a foreign loop (epoll, libuv, GLib, ...): watch the descriptor for readability, level
 * triggered; before each sleep ask ouro_timeout_ms (or ouro_next_deadline), after each sleep call
 * ouro_dispatch: nothing else is needed. All: driver thread.
 * ouro_pollfd: owned by the loop. ouro_next_deadline: 0 if there is none, OURO_NOWAIT if callbacks
 * are ready or operations not yet flushed; uncollected events do not count. ouro_timeout_ms: the
 * same for poll(2): milliseconds rounded up, 0, or -1. ouro_dispatch: flushes, runs at most max
 * callbacks (0: no limit), never sleeps; its result is ouro_run's. */
int ouro_pollfd(ouro_loop *loop);
ouro_time ouro_next_deadline(ouro_loop *loop);
int ouro_timeout_ms(ouro_loop *loop);
int ouro_dispatch(ouro_loop *loop, unsigned max);

/* Makes the current ouro_run or ouro_wait, or the next one, return early (-EINTR from ouro_wait).
 * Any thread, async-signal-safe. */
void ouro_wake(ouro_loop *loop);

/* How to learn that the loop wants to be run (OWNED, SHARED), or that there are events to reap
 * (SERVICE), without watching ouro_pollfd. Fired once, then again after the loop was run or reaped.
 * Driver thread; the loop must not be in a run. */
enum { OURO_NOTIFY_NONE, OURO_NOTIFY_EVENTFD, OURO_NOTIFY_SIGNAL, OURO_NOTIFY_THREAD };
typedef struct ouro_notify {
    uint32_t size;           /* sizeof(struct ouro_notify) */
    uint32_t kind;           /* OURO_NOTIFY_... */
    int fd;                  /* EVENTFD: 1 is written to it (8 bytes); it stays the caller's */
    int signo;               /* SIGNAL: queued to the process, with value in si_value */
    void *value;             /* SIGNAL, THREAD */
    void (*fn)(void *value); /* THREAD: called on a thread of the library, one call at a time */
} ouro_notify;
int ouro_set_notify(ouro_loop *loop, const ouro_notify *notify);

/* ---- 6. Things registered once ------------------------------------------------------------- */

/* Regions in which OURO_REGBUF buffers lie (each whole in one region); replaces the earlier
 * ones; count 0 ends it. -EBUSY while OURO_REGBUF operations are in flight. Engines that
 * cannot pin memory, or may not (memlock), use it as plain memory with the same results. The
 * memory stays the caller's. */
int ouro_register_buffers(ouro_loop *loop, const struct iovec *regions, unsigned count);

/* A table of slots that stand for open files, for OURO_DIRECT; once per loop, 1 to 65536 slots. */
int ouro_direct_table(ouro_loop *loop, unsigned slots);

/* A pool of count (a power of two, at most 32768) buffers of size bytes (at most 1 GiB in all) for
 * the streams of this loop, which take a buffer when bytes have come, not before. -EINVAL, -ENOMEM.
 * The pool ends with ouro_pool_destroy (-EBUSY while streams use it; buffers that are out are gone
 * then; NULL is fine) or with the loop. ouro_pool_release gives back the buffer that data lies in
 * (OURO_CAP_PARTS: one part of it; the buffer is free when all are back, in any order); -EINVAL: it
 * is none that is out. Driver thread. */
int ouro_pool_create(ouro_loop *loop, unsigned count, unsigned size, ouro_pool **ret);
int ouro_pool_destroy(ouro_pool *pool);
int ouro_pool_release(ouro_pool *pool, void *data);

/* Gives the file in a slot a descriptor of its own, close-on-exec; the slot stays. Result: it. */
int ouro_direct_install(ouro_loop *loop, unsigned slot);

/* ---- 7. The loop --------------------------------------------------------------------------- */

enum {
    OURO_OWNED = 0,  /* one thread drives it: no locks */
    OURO_SHARED = 1, /* any thread submits and runs, under an internal lock. io_uring may interrupt
                        (EINTR) other blocking calls of a thread that has submitted, when what it
                        submitted ends */
    OURO_SERVICE = 2 /* the library drives it on a thread of its own; any thread submits, waits,
                        reaps; ouro_run waits for events only */
};

/* Features that engines may have: config.want makes them required, config.mask hides them. */
enum {
    OURO_CAP_DEFER = 1u << 0,     /* io_uring: completions run on the driver's wait only */
    OURO_CAP_SINGLE = 1u << 1,    /* io_uring: one submitter */
    OURO_CAP_RING_FD = 1u << 2,   /* io_uring: registered ring descriptor */
    OURO_CAP_RESIZE = 1u << 3,    /* io_uring: rings grow */
    OURO_CAP_NO_ARRAY = 1u << 4,  /* io_uring: no indirection array */
    OURO_CAP_FIXED = 1u << 5,     /* registered buffers and files known to the kernel */
    OURO_CAP_NAMES = 1u << 6,     /* operations on names (open, stat, rename, ...) without worker */
    OURO_CAP_NOWAIT = 1u << 7,    /* cached data is tried on the spot (RWF_NOWAIT) */
    OURO_CAP_CACHED = 1u << 8,    /* cached names are tried on the spot (RESOLVE_CACHED) */
    OURO_CAP_PIDFD = 1u << 9,     /* waiting for one process without a thread */
    OURO_CAP_NOSIGNAL = 1u << 10, /* pipe writes without SIGPIPE (RWF_NOSIGNAL) */
    /* io_uring: streams go on by themselves, buffers are the ring's */
    OURO_CAP_MULTISHOT = 1u << 11,
    /* io_uring, only where config.want asks: files that are opened into direct slots, and sockets
     * that are made or accepted into them, are the ring's alone, without a descriptor until
     * something needs one. Reads of such are not tried on the spot. If the ring is taken away they
     * are lost with it: -EIO, OURO_C_LOST */
    OURO_CAP_SLOTS = 1u << 12,
    OURO_CAP_ZEROCOPY = 1u << 13, /* io_uring: sends without copying */
    /* io_uring (6.12), only where config.want asks: several receives of recv_many on connections
     * share one buffer of a pool, each its part; nothing behind the res bytes of a completion is
     * the caller's. The next part may be filled while the caller has this one */
    OURO_CAP_PARTS = 1u << 14,
    /* io_uring, only where config.want asks: a thread of the kernel takes what is submitted, which
     * needs no system call while it is awake; after 20 ms without work it sleeps, and is woken by
     * one. It needs a processor of its own: on two of them it was slower in all that was measured.
     * A descriptor must stay open until the completion: its number may be looked up after the
     * submission. Without DEFER, SINGLE, RING_FD, RESIZE, SLOTS. That thread keeps the credentials
     * with which the loop was opened, so where these may change (root, capabilities, different
     * ids) it takes CREDENTIALS as well */
    OURO_CAP_SQPOLL = 1u << 15,
    OURO_CAP_CREDENTIALS = 1u << 16 /* with SQPOLL: the caller knows that, and means it */
};

typedef struct ouro_config {
    uint32_t size;         /* sizeof(struct ouro_config) */
    uint32_t threading;    /* OURO_OWNED ... */
    const char *engine;    /* preference, "uring,epoll"; NULL: $OURO_ENGINE, or automatic */
    uint32_t depth;        /* operations that the engine holds at first; 0 = 256 */
    uint32_t max_ops;      /* in flight or uncollected at once; 0 = 524,288, which is the most (what
                              io_uring has posted of streams may exceed it) */
    uint32_t max_workers;  /* threads for what ends by itself; 0 = twice the cores, at least 4 */
    uint32_t max_blocking; /* threads for what may wait for ever; 0 = 64 */
    uint64_t want;         /* OURO_CAP_*: an engine without one is refused */
    uint64_t mask;         /* OURO_CAP_*: pretended away (tests) */
    void *(*alloc)(void *ctx, void *old, size_t size); /* as realloc; size 0 frees; NULL = libc's */
    void *alloc_ctx;
    uint64_t reserved[8]; /* zero */
} ouro_config;

/* Makes a loop; config may be NULL. Allocates. -EINVAL: bad config or unknown engine name;
 * -EOPNOTSUPP: no engine of the preference could be had (ouro_probe tells why); -ENOMEM,
 * -EMFILE. */
int ouro_open(const ouro_config *config, ouro_loop **ret);

/* Cancels everything, runs what is left to its end (callbacks included), releases all; 0 means that
 * nothing of the loop is left: threads, locks, kernel objects. -EBUSY: the time came first; the
 * loop is still there but accepts nothing: call again. Uncollected events are dropped. In a forked
 * child: releases the child's copy only. NULL is fine. Driver thread; in SHARED and SERVICE no
 * other thread may be using the loop. -EDEADLK inside a callback of the loop. */
int ouro_close(ouro_loop *loop, ouro_time until);

/* In the child after fork(2): forgets what was in flight (those operations are idle again, in the
 * child) and gives the loop an engine of its own. */
int ouro_fork_child(ouro_loop *loop);

/* The loop's clock: CLOCK_MONOTONIC in nanoseconds. Any thread. */
ouro_time ouro_now(ouro_loop *loop);

/* ---- 8. Knowing what is going on ----------------------------------------------------------- */

enum { OURO_NO = 0, OURO_NATIVE = 1, OURO_EMULATED = 2, OURO_ON_WORKER = 3 };

/* How this loop performs an operation with such flags: OURO_NO ...; -EINVAL: no such thing. */
int ouro_support(ouro_loop *loop, unsigned code, uint32_t flags);

/* The engine's name; and a sentence for each better one that was refused: what, why, what to do (""
 * if none was). The strings live as long as the loop; the engine may change if it is lost. */
const char *ouro_engine_name(ouro_loop *loop);
const char *ouro_engine_why(ouro_loop *loop);

/* Without a loop: the i-th known engine's name, best first, NULL after the last (posixaio, which
 * stands there, is taken by name alone); and whether it could be opened here: 0, or -errno with the
 * reason in why.
 * ouro_code_name: "read", ... or NULL. */
const char *ouro_engine_list(unsigned i);
int ouro_probe(const char *engine, char *why, size_t why_size, uint64_t *ret_caps);
const char *ouro_code_name(unsigned code);

/* Counters since open; size: sizeof(ouro_counters). Driver thread. */
typedef struct ouro_counters {
    uint64_t submitted, completed; /* accepted operations; final completions */
    uint64_t inlined, pooled;      /* finished on the spot; ran on workers */
    uint64_t canceled, timed_out;  /* completions that carry the flag */
    uint64_t enters, waits;        /* system calls that submitted; that slept */
    uint64_t wakeups;              /* times that another thread woke the loop */
    uint64_t queue_full, overflow; /* engine had no room; kernel's completion queue overflowed */
    uint64_t retried, stale;       /* operations issued again; completions without an owner */
    uint64_t fallback;             /* registered things used as plain ones; engines lost */
    uint64_t in_flight, uncollected;
    uint64_t memory;   /* bytes allocated now */
    uint64_t streamed; /* completions that were not final */
} ouro_counters;
int ouro_get_counters(ouro_loop *loop, ouro_counters *ret, size_t size);

/* Calls fn for each operation in flight, with where it waits ("queue", "engine", "worker", "order",
 * "chain", "timer", "readiness", "stream", "inbox") and since when. fn returns nonzero to stop; it
 * must not call the library. Result: the last return of fn. Driver thread. */
int ouro_each_inflight(ouro_loop *loop,
                       int (*fn)(const ouro_op *op, const char *where, ouro_time since, void *user),
                       void *user);

#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif

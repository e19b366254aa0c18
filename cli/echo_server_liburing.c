/* SPDX-License-Identifier: MIT */
/* The contender `liburing` of suite echo: io_uring tuned by hand, the ceiling that ouro is measured
 * against. Multishot accept into direct descriptors, and two ways to serve a connection, of which
 * the bench tries both: multishot recv with a ring of provided buffers (what has come waits in its
 * buffer until it is sent, in order), or one recv and one send at a time in a buffer of the
 * connection's own, which needs no bookkeeping and suits large messages. */
#include "echo.h"

#ifdef HAVE_LIBURING

#include "liburing_flags.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ENTRIES = 2048,
    BUFFERS_MAX = 4096,
    NONE = 0xffff, /* no buffer */
    SPARE_FILES = 64,
};

enum tag { TAG_ACCEPT, TAG_RECV, TAG_SEND, TAG_CLOSE };

struct conn {
    bool open, ended, armed, sending, parked;
    uint16_t first, last; /* buffers that wait to be sent, oldest first */
    unsigned done;        /* sent of the first */
    unsigned size;        /* variant 1: what the own buffer holds */
    unsigned next_parked;
};

struct server {
    struct io_uring ring;
    int listener;
    bool own; /* variant 1: a buffer for each connection */
    struct conn *conns;
    unsigned conn_count;
    unsigned parked; /* connections (+ 1) whose recv waits for buffers */
    struct io_uring_buf_ring *pool;
    char *buffers;
    unsigned buffer_count, buffer_size, buffers_free;
    uint16_t *next;     /* of a buffer in its connection's queue */
    unsigned *received; /* bytes in a buffer */
};

static struct io_uring_sqe *get_sqe(struct server *s)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);

    while (!sqe) {
        io_uring_submit(&s->ring);
        sqe = io_uring_get_sqe(&s->ring);
    }
    return sqe;
}

static void set_data(struct io_uring_sqe *sqe, unsigned conn, enum tag tag)
{
    sqe->user_data = (uint64_t)conn << 2 | tag;
}

static void arm_accept(struct server *s)
{
    struct io_uring_sqe *sqe = get_sqe(s);

    io_uring_prep_multishot_accept_direct(sqe, s->listener, NULL, NULL, 0);
    set_data(sqe, 0, TAG_ACCEPT);
}

static void arm_recv(struct server *s, unsigned index)
{
    struct io_uring_sqe *sqe = get_sqe(s);

    if (s->own) {
        io_uring_prep_recv(sqe, (int)index, s->buffers + (size_t)index * s->buffer_size,
                           s->buffer_size, 0);
        sqe->flags |= IOSQE_FIXED_FILE;
    } else {
        io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
        sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    }
    s->conns[index].armed = true;
    set_data(sqe, index, TAG_RECV);
}

static void send_first(struct server *s, unsigned index)
{
    struct conn *conn = &s->conns[index];
    unsigned buffer = s->own ? index : conn->first;
    unsigned size = s->own ? conn->size : s->received[buffer];
    struct io_uring_sqe *sqe = get_sqe(s);

    io_uring_prep_send(sqe, (int)index, s->buffers + (size_t)buffer * s->buffer_size + conn->done,
                       size - conn->done, MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_FIXED_FILE;
    conn->sending = true;
    set_data(sqe, index, TAG_SEND);
}

static void give_back(struct server *s, unsigned buffer)
{
    io_uring_buf_ring_add(s->pool, s->buffers + (size_t)buffer * s->buffer_size, s->buffer_size,
                          (unsigned short)buffer, io_uring_buf_ring_mask(s->buffer_count), 0);
    io_uring_buf_ring_advance(s->pool, 1);
    s->buffers_free++;
}

/* Closes a connection that has ended as soon as nothing of it is in the kernel. */
static void end_if_over(struct server *s, unsigned index)
{
    struct conn *conn = &s->conns[index];
    struct io_uring_sqe *sqe;

    if (!conn->open || !conn->ended || conn->armed || conn->sending || conn->parked)
        return;
    while (conn->first != NONE) {
        unsigned buffer = conn->first;

        conn->first = s->next[buffer];
        give_back(s, buffer);
    }
    conn->open = false;
    sqe = get_sqe(s);
    io_uring_prep_close_direct(sqe, index);
    set_data(sqe, index, TAG_CLOSE);
}

static void unpark(struct server *s)
{
    for (unsigned room = s->buffers_free; room && s->parked; room--) {
        unsigned index = s->parked - 1;
        struct conn *conn = &s->conns[index];

        s->parked = conn->next_parked;
        conn->parked = false;
        if (conn->ended)
            end_if_over(s, index);
        else
            arm_recv(s, index);
    }
}

static void on_accept(struct server *s, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0 && (unsigned)cqe->res < s->conn_count) {
        s->conns[cqe->res] = (struct conn){ .open = true, .first = NONE, .last = NONE };
        arm_recv(s, (unsigned)cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm_accept(s);
}

/* One block has come, with a provided buffer or in the connection's own. */
static void on_recv(struct server *s, unsigned index, const struct io_uring_cqe *cqe)
{
    struct conn *conn = &s->conns[index];

    conn->armed = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res > 0 && s->own) {
        conn->size = (unsigned)cqe->res;
        conn->done = 0;
        send_first(s, index);
    } else if (cqe->res > 0) {
        uint16_t buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);

        s->buffers_free--;
        s->received[buffer] = (unsigned)cqe->res;
        s->next[buffer] = NONE;
        if (conn->first == NONE)
            conn->first = buffer;
        else
            s->next[conn->last] = buffer;
        conn->last = buffer;
        if (!conn->sending)
            send_first(s, index);
        if (!conn->armed)
            arm_recv(s, index);
    } else if (cqe->res == -ENOBUFS) {
        conn->parked = true;
        conn->next_parked = s->parked;
        s->parked = index + 1;
    } else {
        conn->ended = true;
        end_if_over(s, index);
    }
}

static void on_send(struct server *s, unsigned index, const struct io_uring_cqe *cqe)
{
    struct conn *conn = &s->conns[index];
    unsigned buffer = conn->first;
    unsigned size = s->own ? conn->size : s->received[buffer];

    conn->sending = false;
    if (cqe->res < 0) {
        conn->ended = true; /* a recv that is armed ends by itself */
        end_if_over(s, index);
        return;
    }
    conn->done += (unsigned)cqe->res;
    if (conn->done < size) {
        send_first(s, index);
        return;
    }
    conn->done = 0;
    if (s->own) {
        arm_recv(s, index);
        return;
    }
    conn->first = s->next[buffer];
    give_back(s, buffer);
    if (conn->first != NONE)
        send_first(s, index);
    else
        end_if_over(s, index);
}

static void handle(struct server *s, const struct io_uring_cqe *cqe)
{
    unsigned index = (unsigned)(cqe->user_data >> 2);

    switch ((enum tag)(cqe->user_data & 3)) {
    case TAG_ACCEPT: on_accept(s, cqe); break;
    case TAG_RECV: on_recv(s, index, cqe); break;
    case TAG_SEND: on_send(s, index, cqe); break;
    case TAG_CLOSE: break;
    }
}

static int open_ring(struct server *s)
{
    struct io_uring_params params = { 0 };
    int r;

    params.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                   IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
    params.cq_entries = 8 * ENTRIES;
    r = io_uring_queue_init_params(ENTRIES, &s->ring, &params);
    if (r == -EINVAL) { /* a kernel before 6.1 */
        params = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE };
        params.cq_entries = 8 * ENTRIES;
        r = io_uring_queue_init_params(ENTRIES, &s->ring, &params);
    }
    if (r == 0)
        r = io_uring_register_files_sparse(&s->ring, s->conn_count);
    if (r == 0)
        io_uring_register_ring_fd(&s->ring);
    return r < 0 ? r : 0;
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static int open_pool(struct server *s, const struct echo_job *job)
{
    struct io_uring_buf_reg reg = { 0 };
    unsigned count = 16;

    while (count < job->connections && count < BUFFERS_MAX)
        count *= 2;
    s->buffer_count = s->own ? s->conn_count : count;
    s->buffer_size = job->size > ECHO_BLOCK ? ECHO_BLOCK : ((unsigned)job->size + 63) / 64 * 64;
    s->buffers = map((size_t)s->buffer_count * s->buffer_size);
    if (!s->buffers)
        return -ENOMEM;
    if (s->own)
        return 0;
    s->next = calloc(count, sizeof(*s->next));
    s->received = calloc(count, sizeof(*s->received));
    s->pool = map(count * sizeof(struct io_uring_buf));
    if (!s->next || !s->received || !s->pool)
        return -ENOMEM;
    reg.ring_addr = (uintptr_t)s->pool;
    reg.ring_entries = count;
    io_uring_buf_ring_init(s->pool);
    for (unsigned i = 0; i < count; i++)
        give_back(s, i);
    return io_uring_register_buf_ring(&s->ring, &reg, 0);
}

int echo_serve_liburing(const struct echo_job *job)
{
    static struct server s;
    int r;

    s.listener = job->listener;
    s.own = job->variant == 1;
    s.conn_count = job->connections + SPARE_FILES;
    s.conns = calloc(s.conn_count, sizeof(*s.conns));
    r = s.conns ? open_ring(&s) : -ENOMEM;
    if (r == 0)
        r = open_pool(&s, job);
    if (r == 0)
        arm_accept(&s);
    while (r >= 0 || r == -EINTR) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;

        r = io_uring_submit_and_wait(&s.ring, 1);
        io_uring_for_each_cqe(&s.ring, head, cqe)
        {
            handle(&s, cqe);
            seen++;
        }
        io_uring_cq_advance(&s.ring, seen);
        if (s.parked)
            unpark(&s);
    }
    return r;
}

#endif

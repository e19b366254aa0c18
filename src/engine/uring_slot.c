/* SPDX-License-Identifier: MIT */
/* uring_slot.c: an io_uring's table of files: the proof that tells when the ring is gone, and
 * behind it the slots of the direct table.
 *
 * Each slot's file has a descriptor as well, so that workers, plain calls, and another engine after
 * a loss have it, too. Whoever asks for OURO_CAP_SLOTS does without: the ring opens files, makes
 * and accepts sockets into the table, and a descriptor is lent when something cannot do without. */
#include "uring.h"

#include <fcntl.h>

/* A table of files: the write end of the proof, and the slots behind it. */
static int register_table(struct uring *u, int proof, uint32_t slots)
{
    struct ring_rsrc_register table = { .nr = slots + 1, .flags = RING_RSRC_REGISTER_SPARSE };
    struct ring_rsrc_update update = { .data = (uintptr_t)&proof };
    int r;

    if (!slots)
        return ring_register(&u->ring, RING_REGISTER_FILES, &proof, 1);
    r = ring_register(&u->ring, RING_REGISTER_FILES2, &table, sizeof(table));
    return r < 0 ? r : ring_register(&u->ring, RING_REGISTER_FILES_UPDATE, &update, 1);
}

/* Registers the write end of a proof, and room for slots; forgets the write end. With slots there
 * is a table already: it goes, and with it its proof, by which nobody has judged yet. */
int ouro__uring_files(ouro_loop *loop, struct uring *u, uint32_t slots)
{
    int fds[2];
    long r = sys_pipe2(fds, O_CLOEXEC | O_NONBLOCK);

    if (r < 0)
        return (int)r;
    if (slots) {
        ouro__drop(loop, u->proof_fd);
        (void)ring_register(&u->ring, RING_UNREGISTER_FILES, NULL, 0);
    }
    u->proof_fd = fds[0];
    ouro__own(loop, u->proof_fd);
    r = register_table(u, fds[1], slots);
    if (r >= 0) {
        u->files = slots;
    } else if (slots) {
        (void)ring_register(&u->ring, RING_UNREGISTER_FILES, NULL, 0);
        if (register_table(u, fds[1], 0) < 0)
            u->lost = -ENOMEM; /* what runs cannot be proved to have ended any more */
    }
    sys_close(fds[1]);
    return (int)r;
}

/* The first file brings room for all with it. */
int ouro__uring_table(ouro_loop *loop, struct uring *u)
{
    int r;

    if (!(u->caps & OURO_CAP_FIXED) || u->no_files || !u->ring.map || u->ring.fd < 0)
        return -EOPNOTSUPP;
    if (u->files)
        return 0;
    r = ouro__uring_files(loop, u, loop->direct_count);
    u->no_files = r < 0; /* more than RLIMIT_NOFILE, or an old kernel: once is enough */
    return r < 0 ? r : 0;
}

int ouro__uring_slot(ouro_loop *loop, uint32_t slot, int fd)
{
    struct uring *u = loop->engine_state;
    struct ring_rsrc_update update = { .offset = slot + URING_SLOTS, .data = (uintptr_t)&fd };
    int r = ouro__uring_table(loop, u);

    if (r < 0)
        return r;
    r = ring_register(&u->ring, RING_REGISTER_FILES_UPDATE, &update, 1);
    return r < 0 ? r : 0;
}

/* It ends within the enter that submits it, among completions that were there before. */
static int take_lent(const struct ring *ring)
{
    uint32_t tail = ring_cq_tail(ring);

    for (uint32_t i = ring->cq_head; i != tail; i++) {
        struct ring_cqe *cqe = &ring->cqes[i & ring->cq_mask];

        if (cqe->user_data == URING_TAG_LEND) {
            cqe->user_data = URING_TAG_LENT;
            return cqe->res;
        }
    }
    return -ENOMEM; /* the queue was full; who reaps it closes the descriptor */
}

int ouro__uring_lend(ouro_loop *loop, uint32_t slot)
{
    struct uring *u = loop->engine_state;
    struct ring_sqe *sqe = u->lost || !u->ring.map ? NULL : ouro__uring_spare_sqe(loop, u);

    if (!sqe)
        return u->lost ? u->lost : -EIO;
    sqe->opcode = RING_OP_FIXED_FD_INSTALL;
    sqe->flags = RING_SQE_FIXED_FILE;
    sqe->fd = (int32_t)(slot + URING_SLOTS);
    sqe->user_data = URING_TAG_LEND;
    return ouro__uring_submit_all(loop, u) ? take_lent(&u->ring) : -EIO;
}

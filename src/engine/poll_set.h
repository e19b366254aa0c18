/* SPDX-License-Identifier: MIT */
/* poll_set.h: descriptors watched by poll(2): for engines whose state begins with such a set. */
#ifndef OURO_POLL_SET_H
#define OURO_POLL_SET_H

#include "ready.h"

struct pollfd;

struct poll_set {
    struct ready ready;
    struct pollfd *fds;
    uint32_t count, room;
    uint64_t version;         /* of the set */
    struct pollfd *copy;      /* for the sleeping driver */
    struct pollfd *next_copy; /* larger, for its next sleep */
    uint32_t copy_room, next_room;
    int host;   /* epoll descriptor; -1: not hosted */
    bool blind; /* it does not show all: the host has to look all the time */
};

/* As ouro__ready_open; the state is of `size` bytes. */
int ouro__poll_set_open(ouro_loop *loop, size_t size, struct ouro__why *why);
void ouro__poll_set_close(ouro_loop *loop);
/* A slot of struct ouro__engine. */
int ouro__poll_set_pollfd(ouro_loop *loop);

#endif

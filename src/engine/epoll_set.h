/* SPDX-License-Identifier: MIT */
/* epoll_set.h: descriptors watched by epoll(7): for engines whose state begins with such a set. */
#ifndef OURO_EPOLL_SET_H
#define OURO_EPOLL_SET_H

#include <sys/epoll.h>

#include "ready.h"

#define EPOLL_SET_EVENTS 512u /* taken at once */

struct epoll_set {
    struct ready ready;
    int fd;        /* -1: lost, and there is no descriptor for a new one */
    int timer;     /* timerfd for the time of the next doubt; -1: none yet */
    bool doubts;   /* it runs */
    uint32_t made; /* how often a set was made: it is empty then */
    struct epoll_event events[EPOLL_SET_EVENTS];
    uint32_t event_at, event_count; /* those before event_at are seen to */
};

/* As ouro__ready_open; the state is of `size` bytes. */
int ouro__epoll_set_open(ouro_loop *loop, size_t size, struct ouro__why *why);
void ouro__epoll_set_close(ouro_loop *loop);
/* For engines: are the set and the doorbell ours? Asked once in a turn, and mended if possible. */
bool ouro__epoll_set_sure(struct epoll_set *set);
/* Each write to this eventfd of the engine's wakes the loop; nobody reads it. 0 or -errno. */
long ouro__epoll_set_hear(struct epoll_set *set, int fd);
/* Slots of struct ouro__engine. */
int ouro__epoll_set_pollfd(ouro_loop *loop);
void ouro__epoll_set_forget(ouro_loop *loop, int fd);

#endif

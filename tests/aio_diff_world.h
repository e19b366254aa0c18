/* SPDX-License-Identifier: MIT */
/* aio_diff_world.h: how random programs of POSIX AIO are told that requests are over. */
#ifndef OURO_TESTS_AIO_DIFF_WORLD_H
#define OURO_TESTS_AIO_DIFF_WORLD_H

#include <signal.h>

#include "aio_diff.h"

void notes_begin(void);

/* An event that brings the value. */
struct sigevent world_event(enum notify notify, unsigned variant, int value);
bool world_tells(enum notify notify);

/* Waits until so many notifications have come in all, and says which came since the last time. */
void world_notes(unsigned expected);

#endif

/* SPDX-License-Identifier: MIT */
/* aio_base.h: what the drop-ins share: one loop of the process, who drives it, and callers that
 * wait. Each drop-in is a library of its own with a copy of this inside; what differs it provides
 * itself, see the end.
 *
 * One lock, always taken with all signals blocked, so that every call may be made in a handler that
 * has interrupted another one. It is not held while operations are submitted, nor while the loop is
 * driven. */
#ifndef OURO_COMPAT_AIO_BASE_H
#define OURO_COMPAT_AIO_BASE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "ouro.h"
#include "stats.h"

/* ---- aio_base.c ------------------------------------------------------------------------------ */

/* Around every call of the program's: what was before. While the thread is shielded no handler of a
 * signal runs, and nothing cancels it. Our own threads block all signals always. */
struct aio_shield {
    sigset_t signals;
    int cancel;
};
void aio_shield(struct aio_shield *ret_old);
void aio_unshield(const struct aio_shield *old);

/* Between the two the thread is inside. What it calls there may be the program's (its malloc, its
 * mmap) and call us again, which must then be refused: locks may be taken. Handlers that run in its
 * sleep are not inside. */
bool aio_is_inside(void);
void aio_set_inside(bool inside);

/* A thread that nobody joins, with all signals blocked as its maker has; 0 or -errno. stack: 0: as
 * the C library has it. */
int aio_thread(void *(*main)(void *arg), void *arg, size_t stack);

void aio_lock(void); /* with all signals blocked */
void aio_unlock(void);

/* Without the lock. The loop that runs requests; 0 or -errno. */
int aio_start(ouro_loop **ret);

/* With the lock. A child of fork(2) begins anew, also where there is no loop yet; 0 or -errno. */
int aio_watch_forks(void);

/* The lock has not been taken since this process was forked: all that is remembered here is the
 * parent's. And how often that was so, by which who has slept knows. */
bool aio_is_copy(void);
unsigned aio_copies(void);

/* Without the lock, at the end of the process. Drives the loop for as long as something is left,
 * which is asked with the lock. */
void aio_drain(bool (*is_left)(void));

/* With the lock. Somebody who waits: a bit stands for him. */
struct waiter;
struct waiter *aio_waiter_new(void);
uint64_t aio_waiter_bit(const struct waiter *waiter);
void aio_wake(uint64_t waiters);
uint32_t aio_wakes(const struct waiter *waiter);
void aio_waiter_free(struct waiter *waiter);
bool aio_waits_alone(const struct waiter *waiter);
_Atomic uint32_t *aio_word(struct waiter *waiter); /* without it */

/* ---- aio_drive.c: who drives the loop, and how callers sleep --------------------------------- */

/* With the lock. Opens a loop, which somebody drives from now on; 0 or -errno. */
int aio_drive(ouro_loop **ret);
void aio_drive_forked(void);

/* With the lock. There is a request. */
void aio_drive_busy(void);

/* With the lock. Our thread asks for its patience anew, at once; aio_drive_call: by a thread that
 * has other descriptors, so that it cannot wake who sleeps in the loop. */
void aio_drive_hurry(void);
void aio_drive_call(void);

/* What ends is told to the thread that has submitted it, and interrupts calls that it sleeps in. */
bool aio_drive_interrupts(void);

bool aio_drive_is_here(void); /* the caller is our thread: nobody else would do what it waits for */

/* Without the lock. Ends what is over by now, whoever calls. */
void aio_drive_reap(void);

/* Without the lock. Ends what is over by now, unless that is for our thread: see aio_drive_keep. */
void aio_drive_now(void);

/* With the lock. As long as there are such, our thread drives the loop, and no caller: that may be
 * a handler of a signal, which must neither start threads nor call what the program has given us.
 */
void aio_drive_keep(void);
void aio_drive_kept(void);

/* With the lock. The waiter waits no more; true: somebody else who waits should drive. */
bool aio_drive_leave(const struct waiter *waiter);
bool aio_drive_is_led_by(const struct waiter *waiter); /* so that it does not sleep elsewhere */

/* Without the lock. Sleeps until the waiter was woken since aio_wakes, or for less: 0, -EINTR, or
 * -ETIMEDOUT. timeout: relative; NULL: none. The caller is shielded, but while it sleeps: then, and
 * only then, the thread may be cancelled. */
int aio_sleep(struct waiter *waiter, uint32_t wakes, const struct timespec *timeout,
              const struct aio_shield *old);

/* The same, and the caller does not drive: who drives submits what others have left to the loop,
 * and see aio_drive_interrupts. */
int aio_doze(struct waiter *waiter, uint32_t wakes, const struct timespec *timeout,
             const struct aio_shield *old);

long aio_futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout);
void aio_futex_wake(_Atomic uint32_t *word);

/* ---- aio_alone.c ----------------------------------------------------------------------------- */

/* Without the lock. Have all threads of the program ended? Some 0.1 ms. */
bool aio_is_alone(void);

/* ---- What each drop-in provides -------------------------------------------------------------- */

/* With the lock. The loop is about to be opened; a child of fork begins anew; some requests are in
 * use. */
void aio_prepare(void);
void aio_forked(void);
bool aio_busy(void);

/* Without the lock. The program's threads have all ended: may the process? */
bool aio_may_end(void);

/* Without the lock. These operations are over. */
void aio_finish_all(const ouro_event *events, unsigned count);

/* Without the lock. Our thread asks between two turns how long it may sleep, at most; and whether
 * outside of the loop, in which there is nothing: aio_drive_call wakes it there. */
ouro_time aio_patience(bool *ret_parks);

#endif

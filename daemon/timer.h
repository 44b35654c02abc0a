/* SPDX-License-Identifier: MIT */
/* Timers, for the rooms that do not know libevent. */
#ifndef VENVD_TIMER_H
#define VENVD_TIMER_H
#include <stdint.h>

struct venvd;

/* A one-shot timer; owned by whoever made it. fn is called from the loop. */
struct timer;
struct timer *timer_new(struct venvd *, void (*fn)(void *), void *arg);
void timer_set(struct timer *, int64_t delay_us);       /* again moves it */
void timer_clear(struct timer *);
void timer_free(struct timer *);
#endif

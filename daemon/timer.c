/* SPDX-License-Identifier: MIT */
/* See timer.h. */
#include <event2/event.h>
#include <stdlib.h>

#include "timer.h"
#include "util.h"
#include "venvd.h"

struct timer {
	struct event *event;
	void (*fn)(void *);
	void *arg;
};

static void timer_fire_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	struct timer *t = arg;
	t->fn(t->arg);
}

struct timer *timer_new(struct venvd *v, void (*fn)(void *), void *arg)
{
	struct timer *t = xcalloc(1, sizeof(*t));
	t->fn = fn;
	t->arg = arg;
	t->event = evtimer_new(v->base, timer_fire_cb, t);
	if (t->event == NULL)
		abort();
	return t;
}

void timer_set(struct timer *t, int64_t delay_us)
{
	struct timeval tv = { .tv_sec = delay_us / 1000000, .tv_usec = delay_us % 1000000 };
	evtimer_add(t->event, &tv);
}

void timer_clear(struct timer *t)
{
	evtimer_del(t->event);
}

void timer_free(struct timer *t)
{
	if (t == NULL)
		return;
	event_free(t->event);
	free(t);
}

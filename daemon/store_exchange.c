/* SPDX-License-Identifier: MIT */
/*
 * Operations on their way to the store's thread and back. The mutex guards the two lists, `running`, `stopping` and
 * `awaited`, and nothing else.
 *
 * What nobody waits for is held back for LAZY_NS, so that it goes along with what somebody does wait for: a commit
 * of its own would stand in that one's way.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include "store_exchange.h"

#define LAZY_NS 20000000

int store_exchange_init(struct store_exchange *x)
{
	pthread_condattr_t clock;

	store_queue_init(&x->queue);
	store_queue_init(&x->done);
	pthread_mutex_init(&x->mutex, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&x->cond, &clock);
	pthread_condattr_destroy(&clock);
	x->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return x->event_fd < 0 ? -1 : 0;
}

void store_exchange_done(struct store_exchange *x)
{
	if (x->event_fd >= 0)
		close(x->event_fd);
	pthread_mutex_destroy(&x->mutex);
	pthread_cond_destroy(&x->cond);
}

void store_exchange_add(struct store_exchange *x, struct store_op *op)
{
	pthread_mutex_lock(&x->mutex);
	x->awaited |= op->done != NULL;
	store_queue_add(&x->queue, op);
	pthread_cond_signal(&x->cond);
	pthread_mutex_unlock(&x->mutex);
}

bool store_exchange_awake(struct store_exchange *x)
{
	uint64_t count;

	return read(x->event_fd, &count, sizeof(count)) >= 0 || errno == EAGAIN;
}

struct store_op *store_exchange_next(struct store_exchange *x)
{
	pthread_mutex_lock(&x->mutex);
	struct store_op *op = store_queue_take(&x->done);
	pthread_mutex_unlock(&x->mutex);
	return op;
}

bool store_exchange_idle(struct store_exchange *x)
{
	pthread_mutex_lock(&x->mutex);
	bool idle = !x->queue.first && !x->running && !x->done.first;
	pthread_mutex_unlock(&x->mutex);
	return idle;
}

void store_exchange_stop(struct store_exchange *x)
{
	pthread_mutex_lock(&x->mutex);
	x->stopping = true;
	pthread_cond_signal(&x->cond);
	pthread_mutex_unlock(&x->mutex);
}

/* Until something is queued that is worth a commit of its own, or has waited long enough. */
static void wait_for_work(struct store_exchange *x)
{
	struct timespec until;

	while (!x->queue.first && !x->stopping)
		pthread_cond_wait(&x->cond, &x->mutex);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LAZY_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (!x->awaited && !x->stopping)
		if (pthread_cond_timedwait(&x->cond, &x->mutex, &until) == ETIMEDOUT)
			break;
	x->awaited = false;
}

bool store_exchange_take(struct store_exchange *x, struct store_queue *ret)
{
	pthread_mutex_lock(&x->mutex);
	wait_for_work(x);
	x->running = x->queue.first != NULL;
	store_queue_move(ret, &x->queue);
	pthread_mutex_unlock(&x->mutex);
	return ret->first != NULL;
}

void store_exchange_give(struct store_exchange *x, struct store_queue *done)
{
	uint64_t one = 1;

	pthread_mutex_lock(&x->mutex);
	store_queue_move(&x->done, done);
	x->running = false;
	pthread_mutex_unlock(&x->mutex);
	/* It fails only when the counter is full, and then the loop is being woken anyway. */
	if (write(x->event_fd, &one, sizeof(one)) < 0)
		return;
}

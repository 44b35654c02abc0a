/* SPDX-License-Identifier: MIT */
/* Between the loop and the store's thread: what is to be written, and what has been. */
#ifndef VENVD_STORE_EXCHANGE_H
#define VENVD_STORE_EXCHANGE_H
#include <pthread.h>
#include "store_queue.h"

struct store_exchange {
	int event_fd;                   /* readable when something was given back */
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	struct store_queue queue, done;
	bool running, stopping;
	bool awaited;                   /* somebody waits for something in `queue` */
};

int store_exchange_init(struct store_exchange *);       /* -1 with errno; then it can still be done with */
void store_exchange_done(struct store_exchange *);

/* The loop's side. */
void store_exchange_add(struct store_exchange *, struct store_op *op);  /* takes op */
bool store_exchange_awake(struct store_exchange *);     /* after event_fd: false if that cannot be read */
struct store_op *store_exchange_next(struct store_exchange *);          /* of what was given back; owned; or NULL */
bool store_exchange_idle(struct store_exchange *);
void store_exchange_stop(struct store_exchange *);

/* The thread's side: waits for a group, false when it is to end; gives back those who wait. */
bool store_exchange_take(struct store_exchange *, struct store_queue *ret);
void store_exchange_give(struct store_exchange *, struct store_queue *done);
#endif

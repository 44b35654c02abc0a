/* SPDX-License-Identifier: MIT */
/*
 * What lies under images/ and pool/, as far as it was told: images, buckets of entries made from them, how many of
 * those are to be kept, and which are let go. Plain data: orders, timers and who waits are pool.c's.
 */
#ifndef VENVD_STOCK_H
#define VENVD_STOCK_H
#include <jansson.h>
#include <sys/queue.h>

#include "config.h"

#define STOCK_ENTRIES_MAX (1LL << 20)   /* of a bucket, whatever somebody says ... */
#define STOCK_BYTES_MAX (1LL << 40)     /* ... and of an entry or an image: what is reckoned with them fits */

struct pool_wait;
TAILQ_HEAD(pool_waits, pool_wait);

struct image {
	char *key, *python, *version, *delegate;
	int64_t bytes, used_at;
	bool verified;                  /* by its content, since we started */
	TAILQ_ENTRY(image) entry;
};

struct bucket {
	char *name, *image;
	json_t *order;                  /* that fills it; NULL until a claim has told */
	int64_t entries, filling, target;
	int64_t fills;                  /* orders that are filling it */
	int64_t bytes;                  /* of one; 0: not known yet */
	int64_t used_at;
	size_t waiting;
	struct pool_waits waiters;      /* pool.c's */
	TAILQ_ENTRY(bucket) entry;
};

struct stock {
	const struct config *config;
	TAILQ_HEAD(, image) images;
	TAILQ_HEAD(, bucket) buckets;
};

void stock_init(struct stock *, const struct config *);
void stock_done(struct stock *);

struct image *stock_image(struct stock *, const char *key);             /* made if it is not there */
struct image *stock_find_image(const struct stock *, const char *key);  /* or NULL */
void stock_remove_image(struct stock *, struct image *);
struct bucket *stock_bucket(struct stock *, const char *name, const char *image);
/* Sets what is told, leaves what is not. */
void stock_tell(char **member, const char *value);
/* What a worker says of a number, as far as one can count with it: 0 to max. */
int64_t stock_number(const json_t *object, const char *key, int64_t max);
/* The scan's frame "pool". */
void stock_scanned(struct stock *, const json_t *frame);

int64_t stock_initial(const struct stock *);    /* the first size of a bucket in use */
/* How many entries the bounds leave to this bucket. */
int64_t stock_room(const struct stock *, const struct bucket *);
/* The bucket's target, within the bounds; the ones that were not used longest make room for a first size. */
json_t *stock_set_target(struct stock *, struct bucket *, int64_t target);
/* When something may have to go; 0: never. */
int64_t stock_due(const struct stock *);

/* Each forgets what is to go and gives the order that removes it, owned; NULL if there is nothing. */
json_t *stock_decay(struct stock *);
json_t *stock_limit_images(struct stock *);
json_t *stock_fit(struct stock *);      /* the bounds may be others than last time */
json_t *stock_damaged(struct stock *, const char *image);

json_t *stock_images(const struct stock *);     /* as the IDL's, owned */
#endif

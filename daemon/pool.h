/* SPDX-License-Identifier: MIT */
/*
 * What is prepared: images, and the environments that wait in the pool's buckets. Says which long order brings what
 * a claim misses, lets one such order run for each key however many wait for it, and keeps buckets as full as the
 * demand asks for, within their bounds. The pool has no rows: the directories are the truth, counted at the start.
 */
#ifndef VENVD_POOL_H
#define VENVD_POOL_H
#include <jansson.h>

#include "errors.h"
#include "venvd.h"

struct pool *pool_new(struct venvd *);
void pool_free(struct pool *);
/* The scan's frame "pool". */
void pool_scanned(struct pool *, const json_t *frame);
/* We are ready: the default interpreter's image is begun if there is none. */
void pool_begin(struct pool *);
/* No new work. */
void pool_stop(struct pool *);

struct pool_wait;
/* code ERROR_NONE: claim again. Else result holds the error's parameters, borrowed. */
typedef void pool_ready_fn(enum error_code, const json_t *result, void *arg);
/* A claim's answer {miss, key, order} (borrowed): runs the order, or waits for the one of the same key. round: how
 * often this one has missed; who has before is served first. NULL when too many wait (ready is never called). */
struct pool_wait *pool_want(struct pool *, const json_t *miss, int round, pool_ready_fn *ready, void *arg);
/* Nobody waits any more: ready is not called; an order that only this one wanted is cancelled. */
void pool_forget(struct pool_wait *);
/* A claim's frame "reserved" (borrowed): an entry was taken. Refills. */
void pool_taken(struct pool *, const json_t *reserved);

/* Status: images as the IDL's (owned), and how payload gets into environments (constant). */
json_t *pool_images(const struct pool *);
const char *pool_link_mode(const struct pool *);
#endif

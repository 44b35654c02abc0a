/* SPDX-License-Identifier: MIT */
/* Which processes run from an environment, for all questions of a batch in one pass over /proc. */
#ifndef VENVD_WORKER_INUSE_H
#define VENVD_WORKER_INUSE_H
#include <jansson.h>
#include <sys/types.h>

/* An order (orders.h, "inuse") on its way to its answer. */
struct inuse;

/* Looks at the order, which is borrowed until inuse_end(). */
struct inuse *inuse_begin(json_t *order);
/* One pass for all of them. */
void inuse_look(struct inuse *const *all, size_t count);
/* The answer's fields, owned; frees it. */
json_t *inuse_end(struct inuse *);
#endif

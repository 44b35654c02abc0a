/* SPDX-License-Identifier: MIT */
/* Letting go for good: the trash when its time is over or when somebody asks, rows of what is missing, and the stage's
 * leftovers. */
#ifndef VENVD_RETENTION_H
#define VENVD_RETENTION_H
#include <jansson.h>

#include "environment.h"
#include "errors.h"
#include "venvd.h"

struct retention *retention_new(struct venvd *);
void retention_free(struct retention *);
/* The trash has changed: looks when the next one is due. */
void retention_arm(struct retention *);
/* The index has another state of it. */
void retention_changed(struct retention *, const struct environment *);
/* Gives a trashed environment its expires_at. */
void retention_stamp(const struct retention *, struct environment *);
/* Removes entries of the stage in the background; takes the array. What fails is left to the next start. */
void retention_sweep(struct retention *, json_t *entries);

/* What is left of an entry of the trash whose tree is not in it any more goes, in the background. location: as its
 * environment's. env: whose row is written when that has been tried, or NULL: until then a start tries it again. */
void retention_tidy(struct retention *, const char *entry, const char *location, const struct environment *);

/* Of a worker's answer: NULL, or a sentence on what refused to be removed and stays in the stage until the next start.
 * Owned. */
char *retention_kept(const char *name, const json_t *result);

/* why: NULL, or a borrowed sentence; kept: the same of one that is gone but for that. */
typedef void retention_done_fn(const char *why, const char *kept, void *arg);
/* Purges one trashed environment that nobody is busy with: intent row, removal, row dropped. On success env
 * is gone from the index when done is called. Once the intent is on the disk nothing brings it back. */
void retention_purge(struct retention *, struct environment *env, retention_done_fn *done, void *arg);
#endif

/* SPDX-License-Identifier: MIT */
/* From what a worker has seen of a directory (orders.h, inspect) to the row. */
#ifndef VENVD_SEEN_H
#define VENVD_SEEN_H
#include <jansson.h>

#include "environment.h"
#include "venvd.h"

/* Of one that has a row, by its name, or by its path if it lies elsewhere: what it is now, made anew, another one, missing. Nothing
 * if an operation has had it since the moment at which the worker was asked (operation_moment()). */
void seen_look(struct venvd *, const json_t *found, uint64_t asked);
/* Of one that has none: its row, if it is an environment or foreign, in the index and not yet in the catalog; NULL. */
struct environment *seen_adopt(struct venvd *, const json_t *found);

/* Its directory is gone. */
void seen_missing(struct venvd *, struct environment *);
/* It is in the trash: its deletion, which was under way, has come to its end. */
void seen_deleted(struct venvd *, struct environment *);
/* What was intended has not happened. */
void seen_as_before(struct venvd *, struct environment *);
/* Out of index and catalog. */
void seen_drop(struct venvd *, struct environment *);
#endif

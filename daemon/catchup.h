/* SPDX-License-Identifier: MIT */
/* What a start has left for later, so that nobody waits for it. */
#ifndef VENVD_CATCHUP_H
#define VENVD_CATCHUP_H
#include <jansson.h>

#include "environment.h"
#include "venvd.h"

/* Once, when the daemon is ready: the rows of what was adopted (env->unrecorded) are written, and what only the catalog
 * has told of (env->unseen, and `paths`, taken: locations) is looked into. */
void catchup_begin(struct venvd *, json_t *paths);
/* Before an operation writes a row of its own: the one of what was adopted comes first. */
void catchup_record(struct venvd *, struct environment *);
#endif

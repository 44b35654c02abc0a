/* SPDX-License-Identifier: MIT */
/* A close look at an environment: what is wrong with it, and what it would take to mend it. Writes nothing, runs nothing. */
#ifndef VENVD_WORKER_DIAGNOSE_H
#define VENVD_WORKER_DIAGNOSE_H
#include <jansson.h>
#include "failure.h"
#include "moving.h"
#include "source.h"

#define DIAGNOSE_PATHS 4        /* of other places; as many as texts are rewritten for at once */

struct diagnosis {
	json_t *findings;               /* an array of the IDL's Finding; owned */
	char *paths[DIAGNOSE_PATHS + 1];        /* its files name these instead of its own; owned */
	size_t path_count;
	struct moving moving;           /* the files that do, as they should be */
	char *wanted;           /* the Python that it needs and has not: "3.11", "pypy3.9"; owned, or NULL */
};
#define _cleanup_diagnosis_ __attribute__((cleanup(diagnosis_done)))

/* The environment of source, whose path is `path` (absolute) and whose name in commands is source->name. -1: it could not be
 * looked at. */
int diagnose(const struct source *, const char *path, struct diagnosis *ret, struct failure *);
void diagnosis_done(struct diagnosis *);
#endif

/* SPDX-License-Identifier: MIT */
/* Which processes of our own user have files of environments mapped: extension modules, above all. That they run from it is another
 * question (inuse.h). */
#ifndef VENVD_WORKER_MAPPED_H
#define VENVD_WORKER_MAPPED_H
#include <jansson.h>
#include <stddef.h>

struct mapped;

/* One pass over /proc for all environments under these directories, given as where they really are. */
struct mapped *mapped_look(const char *const *directories, size_t count);
void mapped_free(struct mapped *);

/* Those of the environment that is really there, at most LIMIT_IN_USE: an array of {pid, command}; owned. A finding for
 * each that runs what is not there any more. */
json_t *mapped_tell(const struct mapped *, const char *directory, json_t *findings);
#endif

/* SPDX-License-Identifier: MIT */
/* Into the trash by rename, each with its own record. */
#ifndef VENVD_WORKER_TRASH_H
#define VENVD_WORKER_TRASH_H
#include <jansson.h>
#include "failure.h"
#include "place.h"

/* The directories that the resident's orders work in; -1 where one could not be opened. */
struct places {
	int trash, stage, pool;
};

/* What goes: NAME of that identity, to trash/ENTRY/tree. All borrowed. */
struct trashing {
	const char *name, *entry;
	struct identity want;
	const json_t *record;
	const char *base;       /* not NULL: it is not in the root, but has this name in parent_fd */
	int parent_fd;
};
/* Where it is when it is not in the trash. */
int trash_origin(const struct trashing *, const char **ret_name);

/* First step, for all of a batch before the second: the entry with its synced record. 0; 1: it is there with its tree
 * already, from before a crash; -1 (NoSuchEnvironment, ...), and nothing of it is left. */
int trash_prepare(const struct trashing *, const struct places *, struct failure *);
/* Second step: the rename. -1 (NoSuchEnvironment, Unsupported, ...), and the entry is away again. */
int trash_move(const struct trashing *, const struct places *, struct failure *);
/* The rename back, and the entry away. */
int trash_undo(const struct trashing *, const struct places *);

/* An entry without its tree goes away. */
void trash_remove_entry(const struct places *, const char *entry);
#endif

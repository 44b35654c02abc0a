/* SPDX-License-Identifier: MIT */
/* Into the trash by rename, each with its own record. The trash of one elsewhere lies beside it. */
#ifndef VENVD_WORKER_TRASH_H
#define VENVD_WORKER_TRASH_H
#include <jansson.h>
#include "durable.h"
#include "failure.h"
#include "place.h"

/* The directories that the resident's orders work in; -1 where one could not be opened. */
struct places {
	int trash, stage, pool;
};

/* What goes: NAME of that identity, to ENTRY/tree of its trash. All borrowed. */
struct trashing {
	const char *name, *entry;
	struct identity want;
	const json_t *record;
	const char *base;       /* not NULL: it is not in the root, but has this name in parent_fd */
	int parent_fd;
	int beside_fd;          /* with base: the trash beside it, or -1: there is none */
	struct durable durable; /* its record, on its way to the disk; durable_done() is the caller's */
};

/* The trash beside parent_fd/base; made if it is to be and is not there. -1 with errno, EPERM if it is not ours
 * alone: then somebody else has put it there. */
int trash_open_beside(int parent_fd, const char *base, bool make);
/* It goes away when nothing is in it any more. */
void trash_leave_beside(int parent_fd, const char *base);

/* Where it is when it is not in the trash. */
int trash_origin(const struct trashing *, const char **ret_name);

/* After a failed call on the way into the trash or out of it: whether the reserve has given room for another try. */
bool trash_more_room(const struct trashing *);

/* First step, for all of a batch before the second: the entry with its record, on its way to the disk. 0; 1: it is there
 * with its tree already, from before a crash; -1 (NoSuchEnvironment, ...), and nothing of it is left. */
int trash_prepare(struct trashing *, const struct places *, struct failure *);
/* Second step: the rename, once the record is on the disk. -1 (NoSuchEnvironment, Unsupported, ...), and the entry is away again. */
int trash_move(struct trashing *, const struct places *, struct failure *);
/* The rename back, and the entry away. */
int trash_undo(const struct trashing *, const struct places *);
/* The same of a restore: into the entry again, which is still there. */
int trash_undo_restore(const struct trashing *, const struct places *);

/* Its entry, which holds PATH_TREE; -1. */
int trash_open_entry(const struct trashing *, const struct places *);
/* An entry without its tree goes away; false if it does not. */
bool trash_remove_entry(const struct trashing *, const struct places *);
#endif

/* SPDX-License-Identifier: MIT */
/* A directory that was named by its path and is used as it is, there or not, as `python -m venv` does. */
#ifndef VENVD_WORKER_TARGET_H
#define VENVD_WORKER_TARGET_H
#include "failure.h"
#include "place.h"

struct target {
	char *path;             /* absolute, lexically cleaned; links among its parents are kept */
	const char *base;       /* its last component, in path */
	int parent_fd, fd;
	struct identity id;
	bool made;              /* it was not there */
	int above_fd;           /* in which the first missing directory was made; -1 */
	struct target_level {
		int fd;
		char *name;
	} *levels;              /* what was made, from there downward */
	size_t level_count;
};
#define TARGET_NONE { .parent_fd = -1, .fd = -1, .above_fd = -1 }
#define _cleanup_target_ __attribute__((cleanup(target_done)))
void target_done(struct target *);

/* Opens it, and makes it and its missing parents first. Failed if it is a link or no directory (venv's own words),
 * if it holds the root or lies in the root's state. What was made is taken away again then. */
int target_open(struct target *, const char *path, mode_t umask, struct failure *);
/* Takes away what target_open() made, and all that was put into it since. */
void target_undo(struct target *);
/* Whether it lies in the root, through whatever links. */
bool target_lies_in_root(const struct target *);
/* Whether its path still leads to it. */
bool target_is_there(const struct target *);
/* Everything in it is on the disk. */
int target_sync(struct target *, struct failure *);
#endif

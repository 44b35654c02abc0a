/* SPDX-License-Identifier: MIT */
/* Which files of an environment name its path, and what they have to say when it lies elsewhere. */
#ifndef VENVD_WORKER_MOVING_H
#define VENVD_WORKER_MOVING_H
#include <jansson.h>
#include <sys/stat.h>
#include "failure.h"
#include "util.h"

#define REPAIR_ASIDE ".venvd-repair"    /* in the tree, while a repair lasts; no file of the environment */

struct moving_file {
	char *path;             /* relative */
	bool link;              /* content is a link's new target */
	mode_t mode;
	struct text content;
	ino_t ino;              /* which one it was that was looked at ... */
	struct timespec mtime;  /* ... and of which time */
};

struct moving {
	struct moving_file *files;      /* ordered by path */
	size_t count, size;
	size_t bytes;                   /* of all contents */
	size_t looked_at;
};
#define _cleanup_moving_ __attribute__((cleanup(moving_done)))

struct moving_question {
	int tree_fd;
	const char *const *from;        /* its path, as it may be spelled; absolute */
	size_t from_count;
	const char *to;                 /* the path it will have; absolute */
	const char *from_name, *to_name; /* what it is called in prompts where it was given none */
};

/* Why no script may name the new path, if the old one was harmless; owned, or NULL. */
char *moving_danger(const char *from, const char *to);
/* Reads the tree and changes nothing. -1: too much (Unsupported), or the kernel's word. */
int moving_scan(const struct moving_question *, struct moving *ret, struct failure *);
void moving_done(struct moving *);

/* Writes them into the tree, which is nobody's yet: what was there under their names is unlinked first. */
int moving_apply(const struct moving *, int tree_fd, struct failure *);
/* Makes one of them as dir_fd/name, which is not there. -1 with errno. fd: of the file, owned, to be synced; -1 for a link. */
int moving_make(const struct moving_file *, int dir_fd, const char *name, int *ret_fd);
#endif

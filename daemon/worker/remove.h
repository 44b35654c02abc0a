/* SPDX-License-Identifier: MIT */
/* Removing trees for good: flat, by descriptor, never through a link and never over a mount. */
#ifndef VENVD_WORKER_REMOVE_H
#define VENVD_WORKER_REMOVE_H
#include <jansson.h>
#include "failure.h"
#include "place.h"

struct removal {
	json_int_t removed;     /* files and directories */
	json_t *kept;           /* an array of sentences: what could not go; owned */
	bool gone;              /* stopped because the daemon went away */
	bool to_the_end;        /* set by the caller: it does not stop then */
};
#define _cleanup_removal_ __attribute__((cleanup(remove_done)))
void remove_done(struct removal *);

/* Removes dir_fd/name, whatever it is. Nothing there is fine. */
void remove_entry(struct removal *, int dir_fd, const char *name);
/* Removes what a directory holds, but for the entry `except` (may be NULL). */
void remove_contents(struct removal *, int fd, const char *except);
/* The same as remove_entry where directories cannot be renamed (lower layers of overlayfs): memory grows
 * with the depth, 16 bytes a level, and the first thing that cannot go ends it. Touches only the one that
 * is wanted. */
void remove_in_place(struct removal *, int dir_fd, const char *name, struct identity want);
#endif

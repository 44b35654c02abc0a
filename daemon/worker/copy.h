/* SPDX-License-Identifier: MIT */
/* A tree with everything in it, made once more: times, modes and links as they are. */
#ifndef VENVD_WORKER_COPY_H
#define VENVD_WORKER_COPY_H
#include <stdbool.h>
#include "failure.h"

/* Fills the empty directory to_fd with what from_fd holds. A file of an image (a hard link that may not be written) is
 * linked again if links are wanted, every other one is reflinked (if that is wanted) or copied. Sockets and the like are left out. Nothing is synced. -1: the
 * kernel's word, or the daemon is gone (failure_is_gone()). what: the path that stands in errors. */
int copy_tree(int from_fd, int to_fd, bool links, bool reflinks, struct failure *);
#endif

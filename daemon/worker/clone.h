/* SPDX-License-Identifier: MIT */
/*
 * From an image to an environment, in two steps: all that bears no path (clone_payload, when the pool is
 * filled), and the few files and links that do (clone_finish, at a claim). By descriptor; nothing is published here.
 */
#ifndef VENVD_WORKER_CLONE_H
#define VENVD_WORKER_CLONE_H
#include "durable.h"
#include "failure.h"
#include "image.h"

enum clone_mode { CLONE_AUTO, CLONE_REFLINK, CLONE_HARDLINK, CLONE_COPY };
int clone_mode_from_name(const char *);         /* -1: unknown */
const char *clone_mode_name(enum clone_mode);

struct clone_result {
	enum clone_mode how;    /* what most of the payload came by */
	int64_t bytes;          /* that the new one takes on the disk */
};

/* Fills the empty directory dir_fd from the image's tree. EMLINK, EXDEV, EPERM, EOPNOTSUPP fall back for the
 * one file. Linked payload is 0444, or 0555 where executable, as it is in the image; the rest has the mask's modes. What is
 * copied is begun to be pushed out if there is a durable; nothing is synced. ret may be NULL. */
int clone_payload(const struct image *, int tree_fd, int dir_fd, mode_t mask, enum clone_mode,
    struct durable *, struct clone_result *ret, struct failure *);

/* Writes what the model answered into dir_fd (which must not have any of it yet) and begins to push it out. With
 * copies the interpreter's copies must be there already (clone_executables). */
int clone_finish(const struct model_answer *, bool copies, int dir_fd, mode_t mask, struct durable *,
    struct failure *);

/* With copies: the interpreter's file under each of its names. Adds to *bytes. */
int clone_executables(const struct model_answer *, int dir_fd, enum clone_mode, struct durable *,
    int64_t *bytes, struct failure *);
#endif

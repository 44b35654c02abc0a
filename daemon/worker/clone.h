/* SPDX-License-Identifier: MIT */
/*
 * From an image to an environment, in two steps. When the pool is filled: all that bears no path (clone_payload),
 * and a blank of each file that does (clone_blanks), for to make a file costs more than to change it. At a claim:
 * what differs from the blanks, and the links (clone_finish). By descriptor; nothing is published here.
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
	enum clone_mode how;    /* what most of the payload came by; CLONE_AUTO: there is none */
	int64_t bytes;          /* that the new one takes on the disk */
};

/* Fills the empty directory dir_fd from the image's tree. EMLINK, EXDEV, EPERM, EOPNOTSUPP fall back for the
 * one file. Linked payload is 0444, or 0555 where executable, as it is in the image; the rest has the mask's modes. What is
 * copied is begun to be pushed out if there is a durable; nothing is synced. ret may be NULL. */
int clone_payload(const struct image *, int tree_fd, int dir_fd, mode_t mask, enum clone_mode,
    struct durable *, struct clone_result *ret, struct failure *);

/* Makes the image's blanks. Adds to *bytes. */
int clone_blanks(const struct model_answer *blank, int dir_fd, mode_t mask, struct durable *, int64_t *bytes,
    struct failure *);

/* Of one of an answer's files: bytes [from, to) are written over its blank, which has so many; 0: there is none. What a
 * power cut has brought back to the pool may be written over already (claim.c): so all that any claim writes over a blank
 * is written by every claim. What cannot keep to that is made anew, and its blank not touched. */
struct clone_change {
	size_t from, to, blank;
	bool anew;
};
/* One for each of the answer's files, owned. NULL if there is a blank of something that the answer has not. */
struct clone_change *clone_changes(const struct model_answer *, const struct model_answer *blank);

/* Writes what the model answered into dir_fd, over its blanks, and begins to push it out. With copies the
 * interpreter's copies must be there already (clone_executables). */
int clone_finish(const struct model_answer *, const struct clone_change *, bool copies, int dir_fd, mode_t mask,
    struct durable *, struct failure *);

/* With copies: the interpreter's file under each of its names. Adds to *bytes. */
int clone_executables(const struct model_answer *, int dir_fd, enum clone_mode, struct durable *,
    int64_t *bytes, struct failure *);
#endif

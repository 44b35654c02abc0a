/* SPDX-License-Identifier: MIT */
/* Holding a real environment against what a model says of it. */
#ifndef VENVD_WORKER_VERIFY_H
#define VENVD_WORKER_VERIFY_H
#include "model.h"
#include "tree.h"

/* Each gives NULL, or an owned sentence that names the first difference. fd is the tree's
 * directory. */

/* Every file and link of the answer is in the tree, byte by byte, with its mode under this
 * umask; what is is marked as predicted. */
char *verify_answer(struct tree *, int fd, const struct model_answer *, mode_t mask);
/* What is not predicted does not hold the text that was looked for, but for bytecode. */
char *verify_payload(const struct tree *);
/* Every RECORD names what is there, as it is, and together they name all of site-packages. */
char *verify_records(struct tree *, int fd);
/* What is not predicted of `some` is in `all`, the same and with the modes that follow from its
 * own. */
char *verify_subset(const struct tree *some, mode_t some_mask, const struct tree *all,
    const struct model_file *exact, size_t exact_count);

/* How the mode of a file or directory that was made under the umask 077 came about; false: in no
 * way that is known. `exact` are files that have their template's mode. */
bool verify_mode(const struct tree_entry *, const struct model_file *exact, size_t exact_count,
    struct model_file *ret);
#endif

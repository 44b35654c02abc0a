/* SPDX-License-Identifier: MIT */
/* The list of what an image's tree holds: PATH_STATE/PATH_IMAGES/KEY/manifest.json. */
#ifndef VENVD_WORKER_MANIFEST_H
#define VENVD_WORKER_MANIFEST_H
#include "image.h"
#include "tree.h"

#define MANIFEST_FILE "manifest.json"
#define MANIFEST_MODEL "model.json"     /* beside it: what a claim needs */
#define MANIFEST_TREE "tree"

/* Takes out of the tree what is predicted, makes the rest read-only, and gives its manifest.
 * NULL with errno and *ret_odd (owned) the path. Kinds are as image.h says; *ret_bytes is what
 * is on the disk. */
json_t *manifest_make(const struct tree *, int fd, const struct model_file *exact, size_t exact_count,
    int64_t *ret_bytes, char **ret_odd);

/* Fills image->entries and the JSON that they borrow from, which it takes. -1: it makes no
 * sense. */
int manifest_read(struct image *, json_t *manifest);
#endif

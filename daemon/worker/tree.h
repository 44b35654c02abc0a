/* SPDX-License-Identifier: MIT */
/* What a directory holds, all of it, as it is: for images. */
#ifndef VENVD_WORKER_TREE_H
#define VENVD_WORKER_TREE_H
#include <sha256.h>
#include <sys/stat.h>
#include "util.h"

struct tree_entry {
	char *path;             /* relative */
	struct stat st;
	char *target;           /* of a symbolic link */
	unsigned char digest[SHA256_DIGEST_LENGTH];     /* of a file's content */
	bool holds;             /* the text that was looked for is in its content or target */
	bool predicted;         /* verify.c: it is what the model says */
	bool recorded;          /* verify.c: a RECORD has it */
};

struct tree {
	struct tree_entry *entries;     /* parents before children, else by name */
	size_t count;
	struct tree_entry **by_path;    /* the same, ordered by path */
};
#define _cleanup_tree_ __attribute__((cleanup(tree_done)))

/* Reads all below fd; `text` is looked for. -1 with errno: E2BIG (more than LIMIT_IMAGE_FILES),
 * EINVAL (*ret_odd, owned, is neither file, link nor directory, or too large), ECANCELED (the
 * daemon is gone), or the kernel's. */
int tree_read(int fd, const char *text, struct tree *ret, char **ret_odd);
struct tree_entry *tree_find(const struct tree *, const char *path);
void tree_done(struct tree *);

/* The SHA-256 of one file below fd; -1 with errno. */
int tree_digest(int fd, const char *path, unsigned char ret[SHA256_DIGEST_LENGTH]);
#endif

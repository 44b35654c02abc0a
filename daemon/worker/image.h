/* SPDX-License-Identifier: MIT */
/*
 * Images: for each installation of a Python one golden environment with pip and one without, made
 * by its own `python -m venv` and kept read-only with a manifest,
 * PATH_STATE/PATH_IMAGES/KEY/{manifest.json,tree/}. What claims need of it is a small part, read
 * once and kept in memory.
 */
#ifndef VENVD_WORKER_IMAGE_H
#define VENVD_WORKER_IMAGE_H
#include "model.h"
#include "probe.h"

/* How a file of the image gets into an environment. */
enum image_kind {
	IMAGE_DIRECTORY,
	IMAGE_PAYLOAD,          /* below lib/, not empty, no .pth, no RECORD: reflink, link or copy */
	IMAGE_COPY,             /* the rest of what bears no path: empty files, .pth, Activate.ps1 ... */
	IMAGE_LINK              /* a symbolic link whose target is the same everywhere: lib64 */
};

#define IMAGE_USED "used"         /* in images/KEY: its mtime tells when it was used last */

struct image_entry {
	enum image_kind kind;
	const char *path;       /* relative to the environment */
	mode_t mode, floor;     /* as in model_file; see model_mode(). Directories 0777, files 0666 ... */
	bool exact_mode;
	off_t size;
	struct timespec mtime;
	int64_t ino;
	const char *target;     /* of a link */
	const char *digest;     /* SHA-256, hex, of a file */
};

struct image {
	char *key;
	struct model *model;    /* NULL for a delegate */
	struct model_answer blank;      /* its blanks (clone.h) */
	char *delegate;         /* why its own venv is always run; NULL */
	char *python, *version; /* the interpreter that made it */
	int64_t bytes;          /* on the disk */
	/* Only after image_load_manifest(): */
	struct image_entry *entries;    /* parents before children */
	size_t count;
	json_t *json;           /* what they borrow from */
};

/* The question for an environment of this interpreter, all but path, prompt, cwd and options.
 * What it borrows is the interpreter's; `real` is owned by the caller afterwards. */
void image_question(const struct interpreter *, struct model_question *ret, char **ret_real);

/* The key of the image for this interpreter: it names the implementation and version and holds a
 * digest of what the installation's files are (path, ino, size, mtime, ctime of: the base
 * executable, the venv module and its templates, ensurepip and the wheels it would use,
 * sysconfig's data), so that any upgrade is another key. Only stats. NULL if the installation
 * cannot be read. Owned. */
char *image_key(const struct interpreter *, bool with_pip);

/* The image of this key, without its entries; kept in memory, borrowed until the next call.
 * NULL: there is none. */
const struct image *image_get(const char *key);

/* Loads the entries as well; owned by the caller. NULL with errno. */
struct image *image_load(const char *key);
void image_free(struct image *);

/* Whether the tree is what the manifest says: kind, size, mode, mtime, inode of each; by
 * content, too. NULL if so, else an owned sentence that names the first difference. */
char *image_check(const struct image *, int tree_fd, bool by_content);
/* What a scan tells of it (proto/orders.h): image, usedAt, bytes, python, version, delegate.
 * Owned. NULL if it is only a part of an image. */
json_t *image_describe(const char *key);
/* Takes a damaged one away, with the pool's entries that were made from it, and tells the log. */
void image_quarantine(const char *key, const char *why);
/* Its tree, images/KEY/tree; -1 with errno. */
int image_open_tree(const char *key);
/* Marks it as used now, at most once an hour: the mtime of images/KEY/used. */
void image_touch(const char *key);

/* Makes it if it is not there (under its lock, so that two of one key make one): the golden
 * environment, the verification, the manifest, everything synced, then renamed to images/KEY.
 * *ret_key owned. */
/* Errors as builder_run_venv(). Its tree has no file or link that the model answers with. */
int image_make(const struct interpreter *, bool with_pip, const struct caller *, char **ret_key,
    char **ret_delegate, struct failure *);
#endif

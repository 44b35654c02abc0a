/* SPDX-License-Identifier: MIT */
/* Where things are by default. Texts only: nothing here looks at a file system. */
#ifndef VENVD_PATHS_H
#define VENVD_PATHS_H
#include <stdbool.h>

#define PATH_STATE ".venvd"             /* below the root, 0700 */
#define PATH_SOCKET "io.venvd"          /* in PATH_STATE, 0600 */
#define PATH_LOCK "lock"                /* in PATH_STATE: held for the daemon's and its workers' life */
#define PATH_START "start"              /* in PATH_STATE: held by a daemon from start to ready */
#define PATH_CATALOG "catalog.db"
#define PATH_STAGE "stage"
#define PATH_STAGE_WORKER "w%d~"        /* begins what a worker of this process id makes in PATH_STAGE for its order */
#define PATH_STAGE_RENAME "rename~"     /* begins what a rename keeps in PATH_STAGE until it is settled */
#define PATH_TRASH "trash"
#define PATH_RESERVE "reserve"          /* in PATH_STATE: room for what must work on a full disk (reserve.c) */
#define PATH_RECORD "record.json"       /* in PATH_TRASH/ENTRY, beside PATH_TREE */
#define PATH_TREE "tree"
#define PATH_REST "rest"                /* what was PATH_TREE, on its way to be removed where there is no stage */
#define PATH_BESIDE ".%s.venvd-trash"   /* the trash of one elsewhere, beside it, by its base name */
#define PATH_IMAGES "images"            /* in PATH_STATE: KEY/manifest.json, KEY/tree */
#define PATH_POOL "pool"                /* in PATH_STATE: BUCKET/ENTRY, each complete but for what bears its path */
#define PATH_INTERPRETERS "interpreters" /* in PATH_STATE: what each said of itself, a file each */

/* The absolute, lexically cleaned root: given (--root) if not NULL, else $VENVD_ROOT, $WORKON_HOME,
 * ~/.virtualenvs. Relative ones are joined to the working directory. Owned. NULL with *ret_why (a
 * constant sentence) without a home directory. *ret_builtin: it is the built-in default. */
char *path_root(const char *given, bool *ret_builtin, const char **ret_why);

/* Absolute and lexically cleaned, symbolic links untouched, as os.path.abspath. Owned. */
char *path_absolute(const char *path);

/* Relative, clean, and without "..". */
bool path_stays_inside(const char *path);

/* The user's home: $HOME, else the password database; borrowed; NULL if neither knows. */
const char *path_home(void);
#endif

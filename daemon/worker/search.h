/* SPDX-License-Identifier: MIT */
/* The directories in which interpreters are looked for, in order. */
#ifndef VENVD_WORKER_SEARCH_H
#define VENVD_WORKER_SEARCH_H
#include <stddef.h>
#include "caller.h"

struct search_dir {
	char *path;             /* absolute */
	const char *source;     /* "PATH", "/usr/bin", "/usr/local/bin", "pyenv" */
};

struct search {
	struct search_dir *dirs;
	size_t count;
	size_t on_path;         /* the first so many are those of PATH */
	char *pyenv;            /* PYENV_ROOT/versions, there or not; NULL without a home */
};
#define _cleanup_search_ __attribute__((cleanup(search_done)))

void search_init(struct search *, const struct caller *);
void search_done(struct search *);

/* dir/name if it is there, a file and executable; owned, or NULL. */
char *search_find(const struct search_dir *, const char *name);
#endif

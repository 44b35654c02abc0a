/* SPDX-License-Identifier: MIT */
/* The directories in which interpreters are looked for, in order, and no sooner than they are asked for. */
#ifndef VENVD_WORKER_SEARCH_H
#define VENVD_WORKER_SEARCH_H
#include <sys/stat.h>
#include "caller.h"
#include "spec.h"

struct search_dir {
	char *path;             /* absolute */
	const char *source;     /* "PATH", "/usr/bin", "/usr/local/bin", "configuration", "added", "pyenv", "uv",
	                         * "conda", "asdf", "mise" */
	char *file;             /* of "added": the one interpreter that is meant; else NULL */
	char *name;             /* of an installation's directory; NULL outside of the tools' directories */
	bool guessed;           /* guess says what version it holds, by its name */
	struct spec_candidate guess;
	struct stat st;
};

struct search_list {
	struct search_dir *dirs;
	size_t count;
};

struct search {
	const struct caller *caller;
	const char *const *configured;  /* NULL-terminated; may be NULL */
	const char *rest;               /* of PATH, still to be looked at; NULL: all is in the list */
	size_t looked;                  /* so many of its directories were */
	struct search_list programs, installed;
	bool scanned;                   /* `installed` is filled */
};
#define _cleanup_search_ __attribute__((cleanup(search_done)))

void search_init(struct search *, const struct caller *, const char *const *configured);
void search_done(struct search *);

/* Directories of programs: PATH, /usr/bin, /usr/local/bin, the configuration's, and what was added by hand. Each
 * is looked at when its number is asked for. NULL behind the last; valid until the next call. */
const struct search_dir *search_programs(struct search *, size_t number);
/* Installations of pyenv, uv, conda, asdf and mise, the best first (spec_rank, then the shortest path). */
const struct search_dir *search_installed(struct search *, size_t number);

/* dir/name if it is there, a file and executable; owned, or NULL. */
char *search_find(const struct search_dir *, const char *name);
/* The same for a name that begins as interpreters' do: the directory's own list is remembered while it holds. */
char *search_interpreter(const struct search_dir *, const char *name);
/* An installation's interpreter; owned, or NULL. */
char *search_python(const struct search_dir *);

/* Where pyenv and uv keep theirs; owned, NULL without a home. */
char *search_pyenv(const struct caller *);
char *search_uv(const struct caller *);
#endif

/* SPDX-License-Identifier: MIT */
/* What a request brought along of its caller's process, and the environment that a child gets. */
#ifndef VENVD_WORKER_CALLER_H
#define VENVD_WORKER_CALLER_H
#include <jansson.h>
#include <sys/types.h>

struct caller {                 /* all borrowed from the order */
	const char *cwd;        /* absolute, or NULL */
	const char *path;       /* never NULL */
	mode_t umask;
	json_t *environment;    /* an object or NULL */
};

/* value is the order's `caller`, an object or null. */
void caller_init(struct caller *, json_t *value);

/* One of the listed variables, NULL if it was not sent. */
const char *caller_variable(const struct caller *, const char *name);

/* A NULL-terminated environment, free with caller_free_environment(). */
char **caller_environment(const struct caller *);
void caller_free_environment(char ***);
#endif

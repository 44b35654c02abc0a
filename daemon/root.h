/* SPDX-License-Identifier: MIT */
/* The root directory, our own directory in it, and the locks that make us its only daemon. */
#ifndef VENVD_ROOT_H
#define VENVD_ROOT_H
#include <stdbool.h>

struct root;

enum root_result {
	ROOT_OPENED,
	ROOT_SERVED,            /* another venvd answers there; *ret_holder is its process */
	ROOT_REFUSED            /* *ret_why: owned, one sentence, perhaps with a "\nhint: ..." line */
};

/* Opens path, makes it and PATH_STATE if they are missing, and takes both locks: `start` until
 * root_started(), `lock` for life. Waits at most LIMIT_LOCK_WAIT_MS for workers of a dead daemon. */
enum root_result root_open(const char *path, struct root **ret, int *ret_holder, char **ret_why);
/* Opens it only for looking: makes nothing, locks nothing. A missing root gives one without descriptor. */
enum root_result root_open_peek(const char *path, struct root **ret, char **ret_why);
void root_started(struct root *);       /* others who want to start may now look at the socket */
void root_close(struct root *);

int root_fd(const struct root *);       /* -1: there is none (only looking) */
int root_state_fd(const struct root *); /* -1 when only looking */
int root_lock_fd(const struct root *);
const char *root_real(const struct root *);     /* its path without symbolic links, or NULL */
/* Whether the lock that we hold is the one whose path is ROOT/.venvd/lock: else another daemon may serve the root by now. */
bool root_lock_current(const struct root *);
/* NULL while the root's path still leads to the directory that we opened; else why not, owned. */
char *root_changed(const struct root *);
#endif

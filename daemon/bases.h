/* SPDX-License-Identifier: MIT */
/* The directories that hold base interpreters in use: whether something has happened to them. */
#ifndef VENVD_BASES_H
#define VENVD_BASES_H
#include <stdbool.h>
#include <sys/inotify.h>

struct bases;

/* Its watches are added to this inotify descriptor (borrowed), whose watch of the root, which is never touched, is root_wd. */
struct bases *bases_new(int inotify_fd, int root_wd);
void bases_free(struct bases *);

/* The directory of this interpreter (absolute) is watched from now on, there or not. At most LIMIT_WATCHED_BASES are: false if
 * there is no room for it. */
bool bases_add(struct bases *, const char *interpreter);
/* Somebody uses it; and those that nobody has been said to use since the last time make room. */
void bases_use(struct bases *, const char *interpreter);
void bases_drop_unused(struct bases *);
/* An event that is not the root's. */
void bases_heard(struct bases *, const struct inotify_event *);

/* Whether interpreters may have come or gone since the last bases_clean(): any; those in the directory of this one. */
bool bases_dirty(const struct bases *);
bool bases_dirty_of(const struct bases *, const char *interpreter);
void bases_clean(struct bases *);
#endif

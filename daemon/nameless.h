/* SPDX-License-Identifier: MIT */
/*
 * Rows without a name: the directory of each is out of sight, and its name is somebody else's by now. Nobody is told of
 * them. For seven days they wait for their directory, by its inode and birth time, to come back, whatever it is called then
 * (follow.c), for it may have been carried away only to make room.
 */
#ifndef VENVD_NAMELESS_H
#define VENVD_NAMELESS_H
#include "environment.h"
#include "request.h"
#include "venvd.h"

struct nameless;

struct nameless *nameless_new(void);
void nameless_free(struct nameless *);

/* Whether this row of the catalog is one of them, and then it is taken. */
bool nameless_load(struct venvd *, struct environment *);
/* A live one whose directory is not there gives up its name, and is in no index any more: it waits here, or is dropped if
 * its directory could not be known again. Of too many the one that has waited longest is dropped. */
void nameless_give_way(struct venvd *, struct environment *);
/* The same, for a call that wants the name. If that comes to nothing, it has its name again (nameless_come_back()). */
void nameless_displace(struct venvd *, struct request *, struct environment *);
void nameless_come_back(struct venvd *, const char *id);
/* Its row as if it were here: whoever is killed before it has another name in the catalog finds it by its directory. */
void nameless_store(struct venvd *, const struct environment *);

/* The one at *at (0: the first), and on to the next; NULL behind the last one. Borrowed. */
struct environment *nameless_next(const struct nameless *, size_t *at);
struct environment *nameless_get(const struct nameless *, const char *id);
/* Out of here, and the caller's; its row stays. / Its directory is no more. */
struct environment *nameless_take(struct nameless *, struct environment *);
void nameless_drop(struct venvd *, struct environment *);

/* Drops those that have waited long enough; microseconds until the next one has, INT64_MAX if there is none. */
int64_t nameless_forget(struct venvd *, int64_t now);
size_t nameless_count(const struct nameless *);
#endif

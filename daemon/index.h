/* SPDX-License-Identifier: MIT */
/*
 * The environments in memory, ordered by name: what List, Get, Prompt and Status answer from. Two
 * parts: the live names (each once) and the trash (ordered by name, then the newest first). Owns the
 * environments in it. A cursor over it is a name (and id), never a pointer.
 */
#ifndef VENVD_INDEX_H
#define VENVD_INDEX_H
#include "environment.h"

struct index;

struct index *index_new(void);
void index_free(struct index *);

struct environment *index_get(const struct index *, const char *name);          /* live; borrowed; or NULL */
struct environment *index_get_id(const struct index *, const char *id);         /* live or trashed */
/* The live one elsewhere at path (absolute) or, if none is, at the nearest directory above. No file is looked at. */
struct environment *index_get_location(const struct index *, const char *path);
/* The n-th of those in the trash whose place is path, in no order; NULL behind the last one. */
struct environment *index_trash_at(const struct index *, const char *path, size_t n);
struct environment *index_trash_get(const struct index *, const char *name, const char *id_or_null);

/* Takes env. Its state says which part; a live name must not be there yet (asserted). */
void index_add(struct index *, struct environment *env);
/* Out of its part and freed / handed back to the caller. */
void index_remove(struct index *, struct environment *env);
struct environment *index_take(struct index *, struct environment *env);
/* Live <-> trash: sets the state and moves it. env stays valid. One that is in the trash already finds
 * its place anew: whoever changes its times says so. */
void index_to_trash(struct index *, struct environment *env);
void index_from_trash(struct index *, struct environment *env, enum environment_state);
/* Every state change of a live one goes through here: the counts are kept by it. */
void index_set_state(struct index *, struct environment *env, enum environment_state);

/* The first live environment whose name is > after (NULL: the first of all). */
struct environment *index_next(const struct index *, const char *after);
/* The first in the trash that comes after (name, deleted_at, id) of `after` (NULL: the first of all). */
struct environment *index_trash_next(const struct index *, const char *after_name, int64_t after_deleted_at,
    const char *after_id);
/* The trashed one with the smallest expires_at, NULL if the trash is empty. */
struct environment *index_trash_due(const struct index *);

/* Is told of each environment that comes, goes, or gets another state, while it is still there. NULL: nobody. */
void index_observe(struct index *, void (*changed)(const struct environment *, void *arg), void *arg);

size_t index_count(const struct index *, enum environment_state);
#endif

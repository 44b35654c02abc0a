/* SPDX-License-Identifier: MIT */
/*
 * See catchup.h. Two walks over the index, some thousand names at a time, so that neither a turn of the loop nor
 * memory grows with the root; of the looks one is ordered after the other, and none is refused. Between two turns the
 * cursor is a name. At the daemon's end the rows are all written, and the rest is not looked into.
 *
 * Invariant: a row that is unrecorded is in no queue of the store. Whoever writes another row of it says so first.
 */
#include <stdlib.h>
#include <string.h>

#include "catchup.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "operation.h"
#include "retention.h"
#include "seen.h"
#include "store.h"
#include "timer.h"
#include "watch.h"

#define CATCHUP_ROWS 512        /* written at a time */
#define CATCHUP_LOOKS 2048      /* looked into by one worker: the longest paths of so many fit into an order */
#define CATCHUP_VISITS 8192     /* passed in one turn of the loop */

static struct {
	char *recorded, *looked;        /* the cursors; NULL: at the beginning */
	struct timer *timer;            /* to the next turn of the looks */
	uint64_t asked, looks;          /* when the look under way was ordered (operation_moment(), watch_looks()) */
	json_t *paths;                  /* elsewhere; NULL: all of them have been looked at ... */
	size_t paths_at;                /* ... or those before this one */
} catchup;

/* The next that `wanted` wants, behind the cursor and at most *visits further; NULL. */
static struct environment *catchup_next(const struct index *index, char **cursor, size_t *visits,
    bool (*wanted)(const struct environment *))
{
	struct environment *env = NULL;
	const char *after = *cursor;
	while (*visits > 0 && (env = index_next(index, after)) != NULL && !wanted(env)) {
		after = env->name;
		--*visits;
	}
	const char *at = env != NULL ? env->name : after;
	if (at != NULL && at != *cursor) {
		char *now = xstrdup(at);
		free(*cursor);
		*cursor = now;
	}
	return *visits > 0 ? env : NULL;
}

/* --- rows of what was adopted --- */

static bool catchup_unrecorded(const struct environment *env)
{
	return env->unrecorded;
}

void catchup_record(struct venvd *v, struct environment *env)
{
	if (!env->unrecorded)
		return;
	env->unrecorded = false;
	store_put(v->store, env, NULL, NULL);
}

/* They can wait: without them the next start adopts again. */
static void catchup_record_some(bool ok, void *arg)
{
	(void)ok;               /* a full disk: the store keeps them for later */
	struct venvd *v = arg;
	size_t visits = v->stopping ? SIZE_MAX : CATCHUP_VISITS, rows = 0;
	struct environment *env = NULL;
	while ((v->stopping || rows < CATCHUP_ROWS) &&
	    (env = catchup_next(v->index, &catchup.recorded, &visits, catchup_unrecorded)) != NULL) {
		catchup_record(v, env);
		rows++;
	}
	if (env == NULL && visits > 0) {
		free(catchup.recorded);
		catchup.recorded = NULL;
		return;
	}
	store_drop(v->store, "", NULL, catchup_record_some, v);       /* no such row: what comes back is that we may go on */
}

/* --- looks at what was known --- */

static void catchup_look_some(void *arg);

/* What was seen under a name may be older than what the watch has concluded of it since, and another directory there may be one
 * that is known by another name: the watch looks itself then. */
static void catchup_saw(struct venvd *v, const json_t *found)
{
	const char *name = json_string_value(json_object_get(found, "name"));
	const struct environment *env = name != NULL ? index_get(v->index, name) : NULL;
	if (env == NULL || env->location != NULL)
		return;
	if (catchup.looks == watch_looks(v->watch) && json_integer_value(json_object_get(found, "ino")) == env->ino)
		seen_look(v, found, catchup.asked);
	else
		watch_look_into(v->watch, env);
}

static void catchup_frame(const char *kind, const json_t *frame, void *arg)
{
	(void)kind;
	size_t i;
	json_t *found;
	json_array_foreach(json_object_get(frame, "environments"), i, found)
		catchup_saw(arg, found);
}

static void catchup_frame_elsewhere(const char *kind, const json_t *frame, void *arg)
{
	(void)kind;
	size_t i;
	json_t *found;
	json_array_foreach(json_object_get(frame, "environments"), i, found)
		seen_look(arg, found, 0);       /* asked at the very beginning */
}

static void catchup_look_ends(void)
{
	timer_free(catchup.timer);
	catchup.timer = NULL;
	free(catchup.looked);
	catchup.looked = NULL;
}

static void catchup_looked(enum error_code code, const json_t *result, void *arg)
{
	(void)result;
	struct venvd *v = arg;
	if (code == ERROR_CANCELLED || v->stopping) {
		catchup_look_ends();
		return;
	}
	if (code != ERROR_NONE)
		log_warning("some environments could not be looked into");
	catchup_look_some(v);
}

static bool catchup_unseen(const struct environment *env)
{
	return env->unseen;
}

/* What is there may be as it was when it was looked into: its mark says so, and then no more is read. */
static void catchup_look_some(void *arg)
{
	struct venvd *v = arg;
	_cleanup_text_ struct text known = { 0 };
	size_t visits = CATCHUP_VISITS, looks = 0;
	struct environment *env = NULL;
	while (looks < CATCHUP_LOOKS &&
	    (env = catchup_next(v->index, &catchup.looked, &visits, catchup_unseen)) != NULL) {
		env->unseen = false;
		if (operation_has_had(env, 0)) {
			watch_look_into(v->watch, env);         /* an operation may know better */
			continue;
		}
		text_addf(&known, "%lld %s/", (long long)env->looked, env->name);
		looks++;
	}
	if (looks == 0 && visits == 0) {
		timer_set(catchup.timer, 0);
		return;
	}
	json_t *order = looks == 0 ? NULL : json_pack("{s:s,s:[],s:s}", "op", "inspect", "names", "known", known.data);
	catchup.asked = operation_moment();
	catchup.looks = watch_looks(v->watch);
	if (order != NULL && job_continue_background(v->jobs, order, 0, catchup_frame, catchup_looked, v) != NULL)
		return;
	catchup_look_ends();
}

/* --- the same, elsewhere --- */

static void catchup_look_elsewhere(struct venvd *);

static void catchup_looked_elsewhere(enum error_code code, const json_t *result, void *arg)
{
	struct venvd *v = arg;
	(void)result;
	if (code != ERROR_NONE && code != ERROR_CANCELLED)
		log_warning("the environments elsewhere could not all be looked into");
	if (code != ERROR_CANCELLED && !v->stopping && catchup.paths_at < json_array_size(catchup.paths)) {
		catchup_look_elsewhere(v);
		return;
	}
	json_decref(catchup.paths);
	catchup.paths = NULL;
	/* Nothing of what may not be in the trash at all is removed before it has been looked for. */
	retention_arm(v->retention);
}

static void catchup_look_elsewhere(struct venvd *v)
{
	json_t *some = json_array(), *path;
	while (json_array_size(some) < CATCHUP_LOOKS && (path = json_array_get(catchup.paths, catchup.paths_at)) != NULL) {
		json_array_append(some, path);
		catchup.paths_at++;
	}
	if (job_continue_background(v->jobs, json_pack("{s:s,s:[],s:o}", "op", "inspect", "names", "paths", some), 0,
	    catchup_frame_elsewhere, catchup_looked_elsewhere, v) == NULL)
		catchup_looked_elsewhere(ERROR_CANCELLED, NULL, v);
}

void catchup_begin(struct venvd *v, json_t *paths)
{
	catchup_record_some(true, v);
	if (v->stopping) {
		json_decref(paths);
		return;
	}
	json_decref(catchup.paths);
	catchup.paths = json_array_size(paths) > 0 ? json_incref(paths) : NULL;
	catchup.paths_at = 0;
	if (catchup.paths != NULL)
		catchup_look_elsewhere(v);
	json_decref(paths);
	catchup.timer = timer_new(v, catchup_look_some, v);
	catchup_look_some(v);
}

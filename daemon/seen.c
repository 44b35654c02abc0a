/* SPDX-License-Identifier: MIT */
/*
 * What a worker has seen of one directory, made true of its row. The directory is right; the row is by whoever knew of it
 * before. Nothing is concluded about what somebody is busy with, or has had since the order to look was given.
 */
#include <string.h>

#include "entries.h"
#include "index.h"
#include "log.h"
#include "nameless.h"
#include "operation.h"
#include "replay.h"
#include "retention.h"
#include "seen.h"
#include "store.h"
#include "watch.h"

/* Made anew in place of one whose end nobody has seen, as 'uv venv --clear' does it, or a restore from a backup, whether a daemon
 * ran or not: the same environment to whoever uses it, protected as before, but no longer of our making. */
static void seen_remade(struct venvd *v, struct environment *env, const json_t *found)
{
	enum environment_state before = env->state;
	log_info("'%s' was made anew by somebody", env->name);
	word_set(&env->origin, "adopted");
	word_set(&env->options, NULL);
	env->created_at = 0;
	environment_take_inspection(env, found);
	enum environment_state now = env->state;
	env->state = before;            /* the index keeps its counts by every change */
	index_set_state(v->index, env, now);
	store_put(v->store, env, NULL, NULL);
}

/* The directory of this name is another one than the row's. */
static void seen_replace(struct venvd *v, struct environment *env, const json_t *found)
{
	const char *kind = json_string_value(json_object_get(found, "kind"));
	if (env->state != STATE_MISSING && env->state != STATE_FOREIGN && strcmp(kind, "environment") == 0) {
		seen_remade(v, env, found);
		return;
	}
	struct environment *other = environment_new(env->name);
	char *location = xstrdup(env->location);
	log_info("'%s' is another directory than the one that was known", env->name);
	nameless_give_way(v, env);
	word_set(&other->origin, "adopted");
	other->location = location;
	environment_take_inspection(other, found);
	index_add(v->index, other);
	store_put(v->store, other, NULL, NULL);
}

void seen_missing(struct venvd *v, struct environment *env)
{
	if (env->state == STATE_MISSING)
		return;
	index_set_state(v->index, env, STATE_MISSING);
	env->missing_since = now_us();
	store_put(v->store, env, NULL, NULL);
}

static bool seen_same(const struct environment *env, const json_t *found)
{
	json_int_t btime = json_integer_value(json_object_get(found, "btime"));
	return json_integer_value(json_object_get(found, "ino")) == env->ino &&
	    (env->btime_ns == 0 || btime == 0 || btime == env->btime_ns);
}

void seen_deleted(struct venvd *v, struct environment *env)
{
	env->intent = INTENT_NONE;
	retention_stamp(v->retention, env);
	index_to_trash(v->index, env);
	store_put(v->store, env, NULL, NULL);
}

void seen_as_before(struct venvd *v, struct environment *env)
{
	if (env->intent == INTENT_DELETE || env->intent == INTENT_PURGE)
		replay_forget_environment(v->replay, env->id, "Delete", env->deleted_at);
	/* No start looks for what is left of its entry there, but for the row's sake, which is written when that is gone. */
	bool left = env->location != NULL && env->entry != NULL && env->intent != INTENT_PURGE;
	if (left)
		retention_tidy(v->retention, env->entry, env->location, env);
	env->intent = INTENT_NONE;
	env->deleted_at = 0;
	free(env->entry);
	env->entry = NULL;
	if (!left)
		store_put(v->store, env, NULL, NULL);
}

/* What the row has in the trash was seen at its own place elsewhere: its deletion never came to the rename, or it
 * was restored. */
static void seen_again(struct venvd *v, const char *path, const json_t *found, uint64_t asked)
{
	struct environment *env = NULL, *one;
	for (size_t n = 0; (one = index_trash_at(v->index, path, n)) != NULL; n++)
		if (!operation_has_had(one, asked) && seen_same(one, found) && (env == NULL || one->deleted_at > env->deleted_at))
			env = one;
	struct environment *there = env != NULL ? index_get(v->index, env->name) : NULL;
	if (env == NULL || (there != NULL && (there->state != STATE_MISSING || there->busy != NULL)))
		return;
	if (there != NULL)
		nameless_give_way(v, there);    /* as it did before, if we were killed before that was written */
	index_from_trash(v->index, env, STATE_READY);
	env->expires_at = 0;
	seen_as_before(v, env);
}

/* Of rows in the trash: where one would be if it had been restored, or not deleted, nothing is. */
static void seen_not_again(struct venvd *v, const char *path, uint64_t asked)
{
	const struct environment *env;
	for (size_t n = 0; (env = index_trash_at(v->index, path, n)) != NULL; n++)
		if (!operation_has_had(env, asked))
			replay_forget_environment(v->replay, env->id, "Restore", env->deleted_at);
}

/* By its name, or by its path if it lies elsewhere. */
static struct environment *seen_environment(struct venvd *v, const json_t *found, uint64_t asked)
{
	const char *name = json_string_value(json_object_get(found, "name"));
	struct environment *env = name != NULL && name[0] != '/' ? index_get(v->index, name) : NULL;
	if (name == NULL || name[0] != '/')
		return env != NULL && env->location == NULL ? env : NULL;
	env = index_get_location(v->index, name);
	if (env == NULL || strcmp(env->location, name) != 0)
		seen_again(v, name, found, asked);
	env = index_get_location(v->index, name);
	return env != NULL && strcmp(env->location, name) == 0 ? env : NULL;
}

void seen_drop(struct venvd *v, struct environment *env)
{
	store_drop(v->store, env->id, NULL, NULL, NULL);
	index_remove(v->index, env);
}

void seen_look(struct venvd *v, const json_t *found, uint64_t asked)
{
	const char *kind = json_string_value(json_object_get(found, "kind"));
	const char *name = json_string_value(json_object_get(found, "name"));
	struct environment *env = seen_environment(v, found, asked);
	bool lost = kind != NULL && strcmp(kind, "absent") == 0;
	if (env == NULL && lost && name != NULL)
		seen_not_again(v, name, asked);
	if (env == NULL || kind == NULL)
		return;
	/* The worker may have looked before somebody deleted, restored or made it; or he has only marked it. */
	if (operation_has_had(env, asked)) {
		watch_look_into(v->watch, env);
		return;
	}
	if (env->intent != INTENT_NONE) {
		/* Elsewhere: its creation came to nothing, or its removal to its end; or that one had not begun. */
		bool purged = env->intent == INTENT_PURGE && !seen_same(env, found);
		if (env->location != NULL && (lost || purged))
			seen_drop(v, env);
		else if (env->intent == INTENT_PURGE && env->location != NULL)
			seen_as_before(v, env);
		return;
	}
	bool emptied = strcmp(kind, "other") == 0;
	if (!lost && !emptied && !seen_same(env, found)) {
		seen_replace(v, env, found);
	} else if (env->state == STATE_FOREIGN && (lost || emptied)) {
		seen_drop(v, env);      /* it was only seen */
	} else if (lost || (emptied && !seen_same(env, found))) {
		seen_missing(v, env);
	} else if (emptied) {
		word_set(&env->problem, "its pyvenv.cfg is gone");
		index_set_state(v->index, env, STATE_BROKEN);
		store_put(v->store, env, NULL, NULL);
	} else {
		struct environment *before = environment_copy(env);
		bool changed = environment_take_inspection(env, found);
		enum environment_state state = env->state;
		env->state = before->state;     /* the index keeps its counts by every change */
		env->missing_since = 0;
		index_set_state(v->index, env, state);
		environment_free(before);
		if (changed)
			store_put(v->store, env, NULL, NULL);
	}
}

struct environment *seen_adopt(struct venvd *v, const json_t *found)
{
	const char *name = json_string_value(json_object_get(found, "name"));
	const char *what = json_string_value(json_object_get(found, "kind"));
	if (name == NULL || what == NULL || !entries_fits(name) || index_get(v->index, name) != NULL ||
	    (strcmp(what, "environment") != 0 && strcmp(what, "foreign") != 0))
		return NULL;
	struct environment *env = environment_new(name);
	word_set(&env->origin, "adopted");
	environment_take_inspection(env, found);
	index_add(v->index, env);
	return env;
}

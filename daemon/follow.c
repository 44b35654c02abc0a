/* SPDX-License-Identifier: MIT */
/*
 * See follow.h. An inode number is used again soon after its directory has gone, so it only says where to look: the
 * directory's birth time decides. Two that have changed their names with each other both follow.
 */
#include <string.h>

#include "follow.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "nameless.h"
#include "operation.h"
#include "paths.h"
#include "relocation.h"
#include "seen.h"
#include "store.h"

/* --- renames that were under way --- */

struct settling {
	struct venvd *venvd;
	json_t *stage;
	json_t *entries;        /* those that are yet to be settled */
	void (*done)(void *arg);
	void *arg;
};

static void follow_settle_next(struct settling *);

static bool follow_is_rename(const json_t *entry)
{
	return strncmp(json_string_value(entry), PATH_STAGE_RENAME, sizeof(PATH_STAGE_RENAME) - 1) == 0;
}

static void follow_keep(json_t *stage, const json_t *entry)
{
	for (size_t i = json_array_size(stage); i-- > 0;)
		if (json_equal(json_array_get(stage, i), entry))
			json_array_remove(stage, i);
}

static void follow_settled(enum error_code code, const json_t *result, void *arg)
{
	struct settling *s = arg;
	size_t last = json_array_size(s->entries) - 1;
	if (code != ERROR_NONE) {
		log_error("an interrupted rename could not be settled: %s", job_reason(code, result));
		follow_keep(s->stage, json_array_get(s->entries, last));
	}
	json_array_remove(s->entries, last);
	follow_settle_next(s);
}

/* From the last one on. */
static void follow_settle_next(struct settling *s)
{
	size_t count = json_array_size(s->entries);
	if (count == 0) {
		s->done(s->arg);
		json_decref(s->entries);
		free(s);
		return;
	}
	json_t *order = json_pack("{s:s,s:O}", "op", "settle", "entry", json_array_get(s->entries, count - 1));
	if (job_continue(s->venvd->jobs, order, 0, NULL, follow_settled, s) == NULL)
		follow_settled(ERROR_FAILED, NULL, s);
}

void follow_settle(struct venvd *v, json_t *stage, void (*done)(void *arg), void *arg)
{
	struct settling *s = xcalloc(1, sizeof(*s));
	size_t i;
	json_t *entry;
	*s = (struct settling){ v, stage, json_array(), done, arg };
	json_array_foreach(stage, i, entry)
		if (follow_is_rename(entry) && !v->config.peek)
			json_array_append(s->entries, entry);
	follow_settle_next(s);
}

/* --- rows --- */

struct following {
	struct venvd *venvd;
	json_t *wanted;         /* name of a directory -> ids of the rows that may be it: an inode is used again */
	json_t *found;          /* name -> id, of those that are */
	json_t *follow;         /* the ids of those that do follow: they give up their names */
	uint64_t asked;         /* since when somebody is looking at them (operation_moment()) */
	void (*done)(void *arg);
	void *arg;
};

static void follow_end(struct following *f)
{
	f->done(f->arg);
	json_decref(f->wanted);
	json_decref(f->found);
	json_decref(f->follow);
	free(f);
}

/* One that is being renamed is in the trash or in the root, and then under its old name or the new one. What was made or restored
 * a moment before the end is in the root, though its row does not say so yet. What somebody has put back out of the trash
 * under its own name follows, too; at a start that is reconcile.c's, for it may be what was to be recreated. */
static void follow_want(struct following *f, struct entries *names, const struct environment *env)
{
	if (env->location != NULL || env->ino == 0 || (env->intent != INTENT_NONE && env->intent != INTENT_CLAIM) ||
	    env->busy != NULL)
		return;
	bool renamed = env->state == STATE_TRASHED && env->new_name != NULL;
	bool put_back = env->state == STATE_TRASHED && f->venvd->ready;
	if (!renamed && !put_back && entries_ino(names, env->name) == env->ino)
		return;
	const char *name = renamed ? env->new_name : entries_name(names, env->ino);
	if (name == NULL || entries_ino(names, name) != env->ino)
		return;
	json_t *ids = json_object_get(f->wanted, name);
	if (ids == NULL)
		json_object_set_new(f->wanted, name, ids = json_array());
	json_array_append_new(ids, json_string(env->id));
}

/* Live, in the trash, or without a name; NULL. */
static struct environment *follow_get(const struct following *f, const json_t *id)
{
	struct environment *env = index_get_id(f->venvd->index, json_string_value(id));
	return env != NULL ? env : nameless_get(f->venvd->nameless, json_string_value(id));
}

static void follow_look(struct following *f, struct entries *names)
{
	const struct index *index = f->venvd->index;
	for (const struct environment *env = index_next(index, NULL); env != NULL; env = index_next(index, env->name))
		follow_want(f, names, env);
	for (const struct environment *env = index_trash_next(index, NULL, 0, NULL); env != NULL;
	    env = index_trash_next(index, env->name, env->deleted_at, env->id))
		follow_want(f, names, env);
	const struct environment *nameless;
	for (size_t at = 0; (nameless = nameless_next(f->venvd->nameless, &at)) != NULL;)
		follow_want(f, names, nameless);
}

/* One of those whose inode the directory of this name has. */
static void follow_compare(struct following *f, const char *name, const json_t *id, const json_t *seen)
{
	struct environment *env = follow_get(f, id);
	if (env == NULL || env->busy != NULL || json_integer_value(json_object_get(seen, "ino")) != env->ino)
		return;
	json_int_t btime = json_integer_value(json_object_get(seen, "btime"));
	if (btime == env->btime_ns || (env->btime_ns == 0 && json_object_get(f->found, name) == NULL))
		json_object_set_new(f->found, name, json_string(env->id));
	else if (nameless_get(f->venvd->nameless, env->id) == env && btime != 0)
		nameless_drop(f->venvd, env);   /* the inode of what is no more */
}

static void follow_frame(const char *kind, const json_t *frame, void *arg)
{
	struct following *f = arg;
	size_t i;
	json_t *one;
	(void)kind;
	json_array_foreach(json_object_get(frame, "environments"), i, one) {
		const char *name = json_string_value(json_object_get(one, "name"));
		json_t *ids = name != NULL ? json_object_get(f->wanted, name) : NULL, *id;
		size_t n;
		json_array_foreach(ids, n, id)
			follow_compare(f, name, id, one);
	}
}

/* Not what somebody has had since it was looked at; and not to the name of one that keeps it: that is somebody's by now, or
 * lies elsewhere. Of any other the directory is not there, for ours is. */
static bool follow_may(const struct following *f, const char *name, const json_t *id)
{
	const struct environment *env = follow_get(f, id);
	const struct environment *there = index_get(f->venvd->index, name);
	if (env == NULL || operation_has_had(env, f->asked))
		return false;
	return there == NULL || there == env || json_object_get(f->follow, there->id) != NULL ||
	    (there->location == NULL && !operation_has_had(there, f->asked));
}

/* It has no name, for whoever has that keeps it. What was made or copied is whole, for it was in the root: it is missing until
 * the name is free, and not what never was made. */
static void follow_stays(const struct following *f, const json_t *id)
{
	struct environment *env = follow_get(f, id);
	if (env == NULL || env->intent != INTENT_CLAIM || operation_has_had(env, f->asked))
		return;
	index_set_state(f->venvd->index, env, STATE_READY);
	seen_as_before(f->venvd, env);
}

/* Who stays keeps another one from following, and so on. */
static void follow_leave_out(struct following *f)
{
	const char *name;
	json_t *id;
	void *next;
	json_object_foreach(f->found, name, id)
		json_object_set_new(f->follow, json_string_value(id), json_true());
	for (bool changed = true; changed;) {
		changed = false;
		json_object_foreach_safe(f->found, next, name, id) {
			if (follow_may(f, name, id))
				continue;
			follow_stays(f, id);
			json_object_del(f->follow, json_string_value(id));
			json_object_del(f->found, name);
			changed = true;
		}
	}
}

/* Out of index or room, with its new name to come. */
static struct environment *follow_take(struct following *f, const json_t *id, const char *name)
{
	struct venvd *v = f->venvd;
	struct environment *env = follow_get(f, id);
	bool was_nameless = nameless_get(v->nameless, env->id) == env;
	if (was_nameless)
		log_info("the directory of one whose name was taken is back, and is called '%s'", name);
	else if (env->state == STATE_TRASHED && env->new_name == NULL)
		log_info("somebody has taken '%s' out of the trash, as '%s'", env->name, name);
	else
		log_info("the directory of '%s' is called '%s' now, and so is it", env->name, name);
	free(env->new_name);
	env->new_name = xstrdup(name);
	return was_nameless ? nameless_take(v->nameless, env) : index_take(v->index, env);
}

/* `there` is not there: `by` is, which may have been taken for a new one when nobody could look. */
static void follow_displace(struct venvd *v, struct environment *there, const struct environment *by)
{
	if (there->ino == by->ino && there->btime_ns == by->btime_ns)
		seen_drop(v, there);
	else
		nameless_give_way(v, there);
}

/* All give up their names before the first gets another one, in the catalog, too: a name is there once, and whoever is killed
 * between two of its commits loses no row. Those that follow first: the room lets go of others to make place for these. */
static void follow_rename(struct following *f)
{
	struct venvd *v = f->venvd;
	const char *name;
	json_t *id;
	follow_leave_out(f);
	size_t count = json_object_size(f->found), n = 0;
	_cleanup_free_ struct environment **all = xcalloc(count + 1, sizeof(*all));
	json_object_foreach(f->found, name, id)
		all[n++] = follow_take(f, id, name);
	for (size_t i = 0; i < n; i++) {
		struct environment *there = index_get(v->index, all[i]->new_name);
		if (there != NULL)
			follow_displace(v, there, all[i]);
		if (n > 1)
			nameless_store(v, all[i]);
	}
	while (n > 0) {
		relocation_name(all[--n]);
		index_add(v->index, all[n]);
		store_put(v->store, all[n], NULL, NULL);
	}
}

static void follow_looked(enum error_code code, const json_t *result, void *arg)
{
	struct following *f = arg;
	if (code != ERROR_NONE)
		log_warning("directories with other names could not be looked at: %s", job_reason(code, result));
	else
		follow_rename(f);
	follow_end(f);
}

void follow_begin(struct venvd *v, struct entries *names, void (*done)(void *arg), void *arg)
{
	struct following *f = xcalloc(1, sizeof(*f));
	*f = (struct following){ v, json_object(), json_object(), json_object(), operation_moment(), done, arg };
	follow_look(f, names);
	json_t *targets = json_array();
	const char *name;
	json_t *id;
	json_object_foreach(f->wanted, name, id)
		json_array_append_new(targets, json_string(name));
	bool any = json_array_size(targets) > 0;
	json_t *order = json_pack("{s:s,s:o}", "op", "inspect", "names", targets);
	if (!any || job_continue(v->jobs, order, 0, follow_frame, follow_looked, f) == NULL) {
		if (!any)
			json_decref(order);
		follow_end(f);
	}
}

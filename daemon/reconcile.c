/* SPDX-License-Identifier: MIT */
/*
 * Reconcile. The file system is the truth, the catalog an index of it; a row and its directory know each
 * other by inode (and, when it is looked into, birth time). Each step can be repeated after a crash:
 * it only ever repeats what the rows and the root say.
 *
 *   row          directory of that inode        elsewhere                  outcome
 *   create       at NAME                                                   to the stage, row dropped
 *   create       no                                                        row dropped
 *   claim        at NAME                                                   it is whole: kept
 *   claim        no                                                        row dropped, its request too
 *   (either, of one that replaces another: the other is put back at NAME, under the id of both)
 *   rebuild      at NAME                                                   kept, looked into later
 *   delete       at NAME                                                   taken back: as before
 *   delete       no                             trash/ENTRY/tree           trashed
 *   purge        at NAME (delete --now)                                    taken back: as before
 *   purge        no                             trash/ENTRY                purged now
 *   none         at NAME                                                   kept, looked into later
 *   none         at another name                                           it is called that (follow.c)
 *   none         at NAME, and it was missing                               looked into at once: as it was
 *   none         another one                                               looked into at once: made anew (seen.c)
 *   none         no                             (trashed: trash/ENTRY)     kept; else missing, 7 days long
 *   new name     at NAME                                                   its rename is taken back
 *   trashed      at NAME                        no entry                   it was restored: live
 *   no row       an environment at NAME                                    adopted
 *   no row                                      trash/ENTRY with a tree    row made from its record
 *
 * The trash is never emptied because a row is missing. All of the stage goes. What lies elsewhere (rows with a
 * location) is not looked for, for that may take long: when it is looked into later it is where it is seen. Only what was
 * being deleted or restored is looked for at once, for a while, and if that does not end it is believed to be where its row
 * would have it in the end (a delete has happened, a restore has not).
 */
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "catchup.h"
#include "entries.h"
#include "follow.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "nameless.h"
#include "names.h"
#include "paths.h"
#include "pool.h"
#include "reconcile.h"
#include "replay.h"
#include "retention.h"
#include "root.h"
#include "seen.h"
#include "store.h"
#include "watch.h"

#define RECONCILE_SHARE_MIN 64      /* names that are not worth a worker of their own */

struct reconcile {
	struct venvd *venvd;
	void (*ready)(struct venvd *);
	struct entries *names;  /* what the root holds and no row claims yet */
	json_t *paths;          /* locations of rows, as keys: to be looked into afterwards */
	json_t *open;           /* those where it is open whether something has happened */
	json_t *settled;        /* names of what was being made: nothing more is concluded about them */
	json_t *trash;          /* entry -> what the scan says of it */
	json_t *empty;          /* entries of the trash without a tree: they go */
	json_t *stage;          /* what lies in the stage: all of it goes, but nothing that comes later */
	int scans;              /* begun */
	size_t waiting;         /* discards and inspections that `ready` waits for */
	size_t adopted;
};

/* A clock may have been set back since, and a catalog may say anything: it is kept from now on. Of several in the trash the
 * order counts, so what a clock can have said stays. */
static void reconcile_times(struct environment *env)
{
	int64_t now = now_us();
	if (env->missing_since < 0 || env->missing_since > now)
		env->missing_since = now;
	if (env->deleted_at < 0 || env->deleted_at > INT64_MAX / 2)
		env->deleted_at = now;
}

static void reconcile_row(struct environment *env, void *arg)
{
	struct venvd *v = arg;
	reconcile_times(env);
	if (nameless_load(v, env))
		return;
	if (env->state != STATE_TRASHED && index_get(v->index, env->name) != NULL) {
		log_warning("the catalog has '%s' twice; one row is dropped", env->name);
		environment_free(env);
		return;
	}
	if (env->state == STATE_TRASHED) {
		env->restoring = env->expires_at == 0;
		retention_stamp(v->retention, env);
	}
	index_add(v->index, env);
}

static void reconcile_request(struct store_request *request, void *arg)
{
	struct venvd *v = arg;
	replay_load(v->replay, request);
}

int reconcile_load(struct venvd *v)
{
	return store_load(v->store, reconcile_row, reconcile_request, v);
}

static void reconcile_free(struct reconcile *rec)
{
	entries_free(rec->names);
	json_decref(rec->paths);
	json_decref(rec->open);
	json_decref(rec->settled);
	json_decref(rec->trash);
	json_decref(rec->empty);
	json_decref(rec->stage);
	free(rec);
}

/* As an array, owned. */
static json_t *reconcile_keys(json_t *object)
{
	json_t *keys = json_array(), *value;
	const char *key;
	json_object_foreach(object, key, value)
		json_array_append_new(keys, json_string(key));
	return keys;
}

/* --- ready --- */

static void reconcile_emptied(enum error_code code, const json_t *result, void *arg)
{
	(void)arg;
	if (code != ERROR_NONE && code != ERROR_CANCELLED)
		log_warning("empty entries of the trash stay: %s", job_reason(code, result));
}

static void reconcile_step(struct reconcile *rec)
{
	if (rec->waiting > 0)
		return;
	struct venvd *v = rec->venvd;
	/* Nothing of what may not be in the trash at all is removed before it has been looked for. */
	if (json_object_size(rec->paths) == 0)
		retention_arm(v->retention);
	if (json_array_size(rec->stage) > 0 && !v->config.peek)
		retention_sweep(v->retention, json_incref(rec->stage));
	if (json_array_size(rec->empty) > 0 && !v->stopping)
		job_continue_background(v->jobs, json_pack("{s:s,s:s,s:O}", "op", "purge", "where", "trash",
		    "entries", rec->empty), 0, NULL, reconcile_emptied, NULL);
	rec->ready(v);
	if (rec->adopted > 0)
		log_info("adopted %zu environments", rec->adopted);
	catchup_begin(v, reconcile_keys(rec->paths));
	reconcile_free(rec);
}

/* --- before: adoption --- */

static void reconcile_adopt_frame(const char *kind, const json_t *frame, void *arg)
{
	(void)kind;
	struct reconcile *rec = arg;
	struct venvd *v = rec->venvd;
	size_t i;
	json_t *found;
	json_array_foreach(json_object_get(frame, "environments"), i, found) {
		/* A row may have the name already, of what was there before; not one that is being taken back. */
		const char *name = json_string_value(json_object_get(found, "name"));
		const struct environment *row = name != NULL ? index_get(v->index, name) : NULL;
		bool as_scanned = name != NULL &&
		    json_integer_value(json_object_get(found, "ino")) == entries_ino(rec->names, name);
		/* Another one by now may be a known one: the watch has heard of it, and lets rows follow first. */
		if (row != NULL && row->intent == INTENT_NONE && !as_scanned)
			watch_look_into(v->watch, row);
		else if (row != NULL && row->intent == INTENT_NONE)
			seen_look(v, found, 0);
		struct environment *env = seen_adopt(v, found);
		if (env != NULL) {
			env->unrecorded = true;
			rec->adopted++;
		}
	}
}

static void reconcile_adopt_done(enum error_code code, const json_t *result, void *arg)
{
	(void)result;
	struct reconcile *rec = arg;
	if (code != ERROR_NONE)
		log_error("the new environments in the root could not all be looked into");
	rec->waiting--;
	reconcile_step(rec);
}

static void reconcile_inspect(struct reconcile *rec, json_t *names)
{
	json_t *order = json_pack("{s:s,s:o}", "op", "inspect", "names", names);
	rec->waiting++;
	if (rec->venvd->stopping || json_array_size(names) == 0) {
		json_decref(order);
		reconcile_adopt_done(ERROR_NONE, NULL, rec);
	} else if (job_start(rec->venvd->jobs, order, 0, reconcile_adopt_frame, reconcile_adopt_done,
	    rec) == NULL) {
		reconcile_adopt_done(ERROR_FAILED, NULL, rec);
	}
}

static int reconcile_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A large root is dealt out, in order, among as many workers as may run: everybody waits for this. */
static void reconcile_adopt(struct reconcile *rec)
{
	size_t count = entries_count(rec->names), i = 0, at = 0;
	size_t workers = (size_t)rec->venvd->config.value[CONFIG_JOBS_RUNNING];
	if (workers > 1 + count / RECONCILE_SHARE_MIN)
		workers = 1 + count / RECONCILE_SHARE_MIN;
	_cleanup_free_ const char **sorted = xcalloc(count + 1, sizeof(*sorted));
	const char *name;
	while ((name = entries_next(rec->names, &at)) != NULL)
		sorted[i++] = name;
	qsort(sorted, count, sizeof(*sorted), reconcile_compare);
	for (size_t worker = 0; worker < workers; worker++) {
		json_t *names = json_array();
		for (i = worker; i < count; i += workers)
			json_array_append_new(names, json_string(sorted[i]));
		reconcile_inspect(rec, names);
	}
}

/* --- before: what was under way --- */

/* Whether the scan saw this environment's directory at its name; it is then no stranger any more. */
static bool reconcile_claim_name(struct reconcile *rec, struct environment *env)
{
	if (!entries_take(rec->names, env->name, env->ino))
		return false;
	env->unseen = true;
	return true;
}

/* An unfinished creation: the row, and what it was to replace. */
struct rollback {
	struct reconcile *rec;
	struct environment *env;
};

/* The name that a creation has in the stage. */
static json_t *reconcile_stage_entry(const struct environment *env)
{
	return json_sprintf("%s~%lld~%s", env->name, (long long)env->created_at, env->id);
}

/* The row in the trash of the one that env was to replace; NULL. */
static struct environment *reconcile_predecessor(const struct venvd *v, const struct environment *env)
{
	struct environment *old = env->entry != NULL ?
	    index_trash_next(v->index, env->name, INT64_MAX, "") : NULL;
	while (old != NULL && strcmp(old->name, env->name) == 0) {
		if (old->entry != NULL && strcmp(old->entry, env->entry) == 0)
			return old;
		old = index_trash_next(v->index, old->name, old->deleted_at, old->id);
	}
	return NULL;
}

/* env is the old one again, under its old id; its row in the trash goes. */
static void reconcile_take_over(struct reconcile *rec, struct environment *env, struct environment *old)
{
	struct venvd *v = rec->venvd;
	struct environment *row = environment_copy(old);
	log_info("an interrupted recreation of '%s' was taken back", env->name);
	memcpy(row->id, env->id, sizeof(row->id));
	row->intent = INTENT_NONE;
	row->deleted_at = row->expires_at = 0;
	row->state = row->problem != NULL ? STATE_BROKEN : STATE_READY;
	free(row->entry);
	row->entry = NULL;
	environment_assign(env, row);
	index_set_state(v->index, env, row->state);
	environment_free(row);
	store_put(v->store, env, NULL, NULL);
	seen_drop(v, old);
	if (env->location != NULL)
		json_object_set_new(rec->paths, env->location, json_true());
	else
		env->unseen = true;
}

static void reconcile_restored(enum error_code code, const json_t *result, void *arg)
{
	struct rollback *back = arg;
	struct reconcile *rec = back->rec;
	struct environment *old = reconcile_predecessor(rec->venvd, back->env);
	/* Elsewhere nobody has looked before: it may be gone from both places. */
	bool lost = code == ERROR_NOT_IN_TRASH && back->env->location != NULL;
	if ((code == ERROR_NONE || lost) && old != NULL) {
		reconcile_take_over(rec, back->env, old);
	} else {
		log_error("'%s' could not be taken back out of the trash: %s", back->env->name,
		    job_reason(code, result));
		seen_drop(rec->venvd, back->env);
	}
	free(back);
	rec->waiting--;
	reconcile_step(rec);
}

/* What env has begun to make is gone: so is env, or it is what it was. */
static void reconcile_unmade(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	struct environment *old = reconcile_predecessor(v, env);
	const json_t *entry = env->entry != NULL ? json_object_get(rec->trash, env->entry) : NULL;
	replay_forget_environment(v->replay, env->id, NULL, env->created_at);
	if (old != NULL && old->location == NULL && reconcile_claim_name(rec, old)) {
		reconcile_take_over(rec, env, old);     /* it had not been moved yet */
		return;
	}
	/* An entry that is not in the list any more was found good, and its row kept. */
	if (old == NULL || (old->location == NULL && entry != NULL &&
	    !json_is_true(json_object_get(entry, "tree")))) {
		seen_drop(v, env);
		return;
	}
	struct rollback *back = xcalloc(1, sizeof(*back));
	*back = (struct rollback){ rec, env };
	json_t *order = json_pack("{s:s,s:s,s:I,s:I,s:s,s:s*}", "op", "restore", "name", env->name, "ino",
	    (json_int_t)old->ino, "btime", (json_int_t)old->btime_ns, "entry", old->entry, "path", old->location);
	if (old->location != NULL)
		json_object_set_new(order, "makeWay", json_true());
	rec->waiting++;
	if (!jobs_short_continue(v->jobs, order, reconcile_restored, back))
		reconcile_restored(ERROR_FAILED, NULL, back);
}

static void reconcile_discarded(enum error_code code, const json_t *result, void *arg)
{
	(void)result;
	struct rollback *back = arg;
	struct reconcile *rec = back->rec;
	struct venvd *v = rec->venvd;
	if (code == ERROR_NONE) {
		log_info("an interrupted creation of '%s' was taken back", back->env->name);
		json_array_append_new(rec->stage, reconcile_stage_entry(back->env));
		reconcile_unmade(rec, back->env);
	} else {
		word_set(&back->env->problem, "its creation was interrupted, and it could not be taken back");
		index_set_state(v->index, back->env, STATE_BROKEN);
	}
	free(back);
	rec->waiting--;
	reconcile_step(rec);
}

static void reconcile_roll_back(struct reconcile *rec, struct environment *env)
{
	struct rollback *back = xcalloc(1, sizeof(*back));
	*back = (struct rollback){ rec, env };
	json_t *order = json_pack("{s:s,s:s,s:I,s:I,s:o,s:s*}", "op", "discard", "name", env->name, "ino",
	    (json_int_t)env->ino, "btime", (json_int_t)env->btime_ns, "entry", reconcile_stage_entry(env),
	    "path", env->location);
	rec->waiting++;
	if (!jobs_short_continue(rec->venvd->jobs, order, reconcile_discarded, back))
		reconcile_discarded(ERROR_FAILED, NULL, back);
}

/* An entry's name is its own: a tree of another inode there (from a backup, say) is the same one. */
static bool reconcile_claim_trash(struct reconcile *rec, struct environment *env)
{
	const json_t *entry = env->entry != NULL ? json_object_get(rec->trash, env->entry) : NULL;
	if (entry == NULL || !json_is_true(json_object_get(entry, "tree")))
		return false;
	int64_t ino = json_integer_value(json_object_get(entry, "ino"));
	int64_t btime_ns = json_integer_value(json_object_get(entry, "btime"));
	if (ino != env->ino || btime_ns != env->btime_ns) {
		env->ino = ino;
		env->btime_ns = btime_ns;
		store_put(rec->venvd->store, env, NULL, NULL);
	}
	json_object_del(rec->trash, env->entry);
	return true;
}

/* It lies elsewhere: what became of it is seen when it is looked into. */
static void reconcile_elsewhere(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	json_object_set_new(rec->paths, env->location, json_true());
	if (env->intent == INTENT_CREATE) {
		reconcile_roll_back(rec, env);
	} else if (env->intent == INTENT_PURGE) {
		index_set_state(v->index, env, STATE_READY);    /* or gone for good: seen.c */
		json_object_set_new(rec->open, env->location, json_true());
	} else if (env->intent != INTENT_NONE) {
		index_set_state(v->index, env, STATE_READY);
		seen_as_before(v, env);
	}
}

/* Rows of what was being made. First of all: what they replace is in the trash, or is there again. */
static void reconcile_unfinished(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	if ((env->intent != INTENT_CREATE && env->intent != INTENT_CLAIM) || env->location != NULL)
		return;
	json_object_set_new(rec->settled, env->name, json_true());
	if (!reconcile_claim_name(rec, env)) {
		reconcile_unmade(rec, env);
	} else if (env->intent == INTENT_CLAIM) {
		index_set_state(v->index, env, STATE_READY);
		seen_as_before(v, env);
	} else {
		env->unseen = false;
		reconcile_roll_back(rec, env);
	}
}

/* Of what was missing more than its mark is to be seen, and before anybody asks: deleting it would only forget it. */
static bool reconcile_is_back(const struct reconcile *rec, const struct environment *env)
{
	return env->state == STATE_MISSING && env->intent == INTENT_NONE && env->ino != 0 &&
	    entries_ino(rec->names, env->name) == env->ino;
}

static void reconcile_live(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	if (env->location != NULL) {
		reconcile_elsewhere(rec, env);
		return;
	}
	if (reconcile_is_back(rec, env)) {
		env->unseen = true;     /* and once more afterwards, if nobody can look now */
		env->looked = 0;
		return;
	}
	if (reconcile_claim_name(rec, env)) {
		if (env->intent == INTENT_REBUILD)
			index_set_state(v->index, env, STATE_READY);
		if (env->intent != INTENT_NONE)
			seen_as_before(v, env);
		return;
	}
	if (env->intent == INTENT_DELETE && reconcile_claim_trash(rec, env)) {
		seen_deleted(v, env);
	} else if (env->intent == INTENT_PURGE) {
		seen_drop(v, env);         /* what is left of it lies in the stage */
	} else if (env->state == STATE_MISSING && env->missing_since + LIMIT_MISSING_US < now_us()) {
		seen_drop(v, env);
	} else if (entries_ino(rec->names, env->name) != 0) {
		/* Another directory has its name now: the same one made anew, or another one, as seen.c decides. */
		if (env->intent != INTENT_NONE)
			seen_drop(v, env);
	} else if (env->state == STATE_FOREIGN) {
		seen_drop(v, env);      /* it was only seen */
	} else {
		env->intent = INTENT_NONE;
		seen_missing(v, env);
	}
}

/* It has been restored: its directory is at its name. The row of one that was missing there, and gave way to it, may still be. */
static bool reconcile_restored_row(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	struct environment *there = index_get(v->index, env->name);
	bool settled = json_object_get(rec->settled, env->name) != NULL;
	if ((there != NULL && (settled || there->unseen || there->location != NULL)) || !reconcile_claim_name(rec, env))
		return false;
	if (there != NULL)
		nameless_give_way(v, there);
	return true;
}

static void reconcile_trashed_elsewhere(struct reconcile *rec, const struct environment *env)
{
	json_object_set_new(rec->paths, env->location, json_true());
	if (env->intent == INTENT_DELETE || env->restoring)
		json_object_set_new(rec->open, env->location, json_true());
}

static void reconcile_trashed(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	if (env->location != NULL || reconcile_claim_trash(rec, env)) {
		if (env->location != NULL)
			reconcile_trashed_elsewhere(rec, env);
		else
			replay_forget_environment(v->replay, env->id, "Restore", env->deleted_at);
		if (env->intent == INTENT_PURGE) {
			env->expires_at = 1;    /* due at once */
			index_to_trash(v->index, env);
		}
	} else if (reconcile_restored_row(rec, env)) {
		index_from_trash(v->index, env, STATE_READY);
		env->expires_at = 0;
		seen_as_before(v, env);
	} else {
		seen_drop(v, env);
	}
}

/* The rows as they are now, so that each can be moved or dropped while we go through them. */
static struct environment **reconcile_rows(const struct venvd *v, bool trash, size_t *ret_count)
{
	size_t count = 0, size = 0;
	for (int state = 0; state < STATE_COUNT; state++)
		if ((state == STATE_TRASHED) == trash)
			size += index_count(v->index, state);
	struct environment **rows = xcalloc(size + 1, sizeof(*rows));
	struct environment *env = trash ? index_trash_next(v->index, NULL, 0, NULL) :
	    index_next(v->index, NULL);
	while (env != NULL && count < size) {
		rows[count++] = env;
		env = trash ? index_trash_next(v->index, env->name, env->deleted_at, env->id) :
		    index_next(v->index, env->name);
	}
	*ret_count = count;
	return rows;
}

/* NAME~TIME~ID: what is known of a trashed tree without a readable record. */
static struct environment *reconcile_from_entry(const char *entry)
{
	const char *tilde = strchr(entry, '~');
	if (tilde == NULL)
		return NULL;
	_cleanup_free_ char *name = xstrndup(entry, (size_t)(tilde - entry));
	if (name_rule_broken(name) != NULL)
		return NULL;
	struct environment *env = environment_new(name);
	env->deleted_at = strtoll(tilde + 1, NULL, 10);
	word_set(&env->origin, "adopted");
	return env;
}

static void reconcile_entry(struct reconcile *rec, const char *entry, const json_t *found)
{
	struct venvd *v = rec->venvd;
	if (!json_is_true(json_object_get(found, "tree"))) {
		json_array_append_new(rec->empty, json_string(entry));
		return;
	}
	struct environment *env = environment_from_record(json_object_get(found, "record"));
	if (env == NULL)
		env = reconcile_from_entry(entry);
	if (env == NULL) {
		log_warning("the trash holds '%s', which is not ours", entry);
		return;
	}
	if (index_get_id(v->index, env->id) != NULL || nameless_get(v->nameless, env->id) != NULL)
		id_new(env->id);        /* somebody has copied an entry */
	int64_t now = now_us();
	if (env->deleted_at <= 0 || env->deleted_at > now)
		env->deleted_at = now;  /* nobody knows when: then it is kept from now on */
	env->state = STATE_TRASHED;
	env->intent = INTENT_NONE;
	env->ino = json_integer_value(json_object_get(found, "ino"));
	env->btime_ns = json_integer_value(json_object_get(found, "btime"));
	free(env->entry);
	env->entry = xstrdup(entry);
	retention_stamp(v->retention, env);
	index_add(v->index, env);
	store_put(v->store, env, NULL, NULL);
}

/* --- renames that were under way --- */

/* When its last rename began, as its entry in the stage says (method_rename.c); 0: there is none. */
static int64_t reconcile_rename_began(const struct reconcile *rec, const struct environment *env)
{
	int64_t began = 0;
	size_t i;
	json_t *entry;
	json_array_foreach(rec->stage, i, entry) {
		const char *name = json_string_value(entry);
		size_t prefix = sizeof(PATH_STAGE_RENAME) - 1;
		const char *tilde = strncmp(name, PATH_STAGE_RENAME, prefix) == 0 ? strchr(name + prefix, '~') : NULL;
		int64_t at = tilde != NULL && strcmp(tilde + 1, env->id) == 0 ? strtoll(name + prefix, NULL, 10) : 0;
		began = at > began ? at : began;
	}
	return began;
}

/* The row says that it is being renamed, and its directory has its old name. */
static void reconcile_not_renamed(struct reconcile *rec, struct environment *env)
{
	struct venvd *v = rec->venvd;
	if (env->new_name == NULL)
		return;
	log_info("an interrupted rename of '%s' to '%s' was taken back", env->name, env->new_name);
	free(env->new_name);
	env->new_name = NULL;
	replay_forget_rename(v->replay, env->id, reconcile_rename_began(rec, env));
	store_put(v->store, env, NULL, NULL);
}

/* --- what is open elsewhere: a request that is made again must hear what has become of it --- */

static void reconcile_open_frame(const char *kind, const json_t *frame, void *arg)
{
	struct reconcile *rec = arg;
	size_t i;
	json_t *found;
	(void)kind;
	json_array_foreach(json_object_get(frame, "environments"), i, found) {
		const char *path = json_string_value(json_object_get(found, "name"));
		const struct environment *row = path == NULL ? NULL : path[0] == '/' ?
		    index_get_location(rec->venvd->index, path) : index_get(rec->venvd->index, path);
		/* Who takes a creation back holds its row. */
		if (path != NULL && (row == NULL || (row->intent != INTENT_CREATE && row->intent != INTENT_CLAIM)))
			seen_look(rec->venvd, found, 0);
	}
}

static void reconcile_open_done(enum error_code code, const json_t *result, void *arg)
{
	struct reconcile *rec = arg;
	size_t count;
	if (code != ERROR_NONE)
		log_warning("some environments elsewhere could not be looked for: %s", job_reason(code, result));
	/* Those that nobody has seen. */
	_cleanup_free_ struct environment **trashed = reconcile_rows(rec->venvd, true, &count);
	for (size_t i = 0; i < count; i++)
		if (trashed[i]->location != NULL && trashed[i]->intent == INTENT_DELETE)
			seen_deleted(rec->venvd, trashed[i]);
		else if (trashed[i]->restoring && code == ERROR_NONE)
			store_put(rec->venvd->store, trashed[i], NULL, NULL);   /* no later start need look */
	rec->waiting--;
	reconcile_step(rec);
}

static void reconcile_open(struct reconcile *rec)
{
	struct venvd *v = rec->venvd;
	if (json_object_size(rec->open) == 0)
		return;
	json_t *order = json_pack("{s:s,s:[],s:o}", "op", "inspect", "names", "paths",
	    reconcile_keys(rec->open));
	rec->waiting++;
	if (job_start(v->jobs, order, LIMIT_ELSEWHERE_MS, reconcile_open_frame, reconcile_open_done, rec) == NULL)
		reconcile_open_done(ERROR_CANCELLED, NULL, rec);
}

/* --- the scan --- */

static void reconcile_scan_frame(const char *kind, const json_t *frame, void *arg)
{
	struct reconcile *rec = arg;
	size_t i;
	json_t *item;
	if (strcmp(kind, "names") == 0) {
		entries_add_text(rec->names, json_string_value(json_object_get(frame, "names")));
	} else if (strcmp(kind, "trash") == 0) {
		json_array_foreach(json_object_get(frame, "entries"), i, item)
			json_object_set(rec->trash, json_string_value(json_object_get(item, "entry")), item);
	} else if (strcmp(kind, "stage") == 0) {
		json_array_foreach(json_object_get(frame, "entries"), i, item)
			if (json_is_string(item))
				json_array_append(rec->stage, item);
	} else if (strcmp(kind, "pool") == 0) {
		pool_scanned(rec->venvd->pool, frame);
	}
}

static void reconcile_scan(struct reconcile *);
static void reconcile_renames_settled(void *);
static void reconcile_followed(void *);

static void reconcile_scanned(enum error_code code, const json_t *result, void *arg)
{
	struct reconcile *rec = arg;
	struct venvd *v = rec->venvd;
	bool truncated = json_is_true(json_object_get(result, "truncated"));
	if (truncated)
		log_error("the root holds more than %d directories", LIMIT_ENVIRONMENTS);
	if (code == ERROR_FAILED && !v->stopping && rec->scans < LIMIT_WORKER_RESTARTS) {
		log_warning("the root is looked through once more: %s", job_reason(code, result));
		reconcile_scan(rec);
		return;
	}
	if (code != ERROR_NONE || truncated || v->stopping) {
		/* Nothing is concluded from half a look: what the catalog says stands until the next start, and so does the
		 * stage: what an interrupted rename has kept there is what takes it back. */
		json_array_clear(rec->stage);
		log_error("the root could not be looked through: %s",
		    job_reason(code, result));
		if (v->config.peek)
			venvd_stop(v);          /* there is nothing else that it could tell */
		reconcile_step(rec);
		return;
	}
	follow_settle(v, rec->stage, reconcile_renames_settled, rec);
}

static void reconcile_renames_settled(void *arg)
{
	struct reconcile *rec = arg;
	size_t count;
	_cleanup_free_ struct environment **live = reconcile_rows(rec->venvd, false, &count);
	/* Their names are free, and directories may have them by now. What became of it is seen when it is looked for. */
	for (size_t i = 0; i < count; i++)
		if (live[i]->location != NULL && live[i]->intent == INTENT_DELETE)
			index_to_trash(rec->venvd->index, live[i]);
	follow_begin(rec->venvd, rec->names, reconcile_followed, rec);
}

/* The names are those of the directories now. */
static void reconcile_followed(void *arg)
{
	struct reconcile *rec = arg;
	struct venvd *v = rec->venvd;
	size_t live_count, trash_count;
	rec->waiting = 1;       /* ours, until every order is given */
	struct environment **live = reconcile_rows(v, false, &live_count);
	for (size_t i = 0; i < live_count; i++)
		reconcile_unfinished(rec, live[i]);
	free(live);
	live = reconcile_rows(v, false, &live_count);
	struct environment **trashed = reconcile_rows(v, true, &trash_count);
	for (size_t i = 0; i < live_count; i++)
		reconcile_not_renamed(rec, live[i]);
	for (size_t i = 0; i < trash_count; i++)
		reconcile_not_renamed(rec, trashed[i]);
	for (size_t i = 0; i < live_count; i++)
		if (json_object_get(rec->settled, live[i]->name) == NULL)
			reconcile_live(rec, live[i]);
	for (size_t i = 0; i < trash_count; i++)
		reconcile_trashed(rec, trashed[i]);
	free(live);
	free(trashed);
	const char *entry;
	json_t *found;
	json_object_foreach(rec->trash, entry, found)
		reconcile_entry(rec, entry, found);
	reconcile_adopt(rec);
	reconcile_open(rec);
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that what waits is counted */
	rec->waiting--;
	reconcile_step(rec);
}

/* Anew, whatever a worker that has died over it has told. */
static void reconcile_scan(struct reconcile *rec)
{
	struct jobs *jobs = rec->venvd->jobs;
	rec->scans++;
	entries_clear(rec->names);
	json_object_clear(rec->trash);
	json_array_clear(rec->stage);
	if (job_start(jobs, json_pack("{s:s}", "op", "scan"), 0, reconcile_scan_frame, reconcile_scanned, rec) == NULL)
		reconcile_scanned(ERROR_CANCELLED, NULL, rec);
}

void reconcile_start(struct venvd *v, void (*ready)(struct venvd *))
{
	struct reconcile *rec = xcalloc(1, sizeof(*rec));
	rec->venvd = v;
	rec->ready = ready;
	rec->names = entries_new();
	rec->paths = json_object();
	rec->open = json_object();
	rec->settled = json_object();
	rec->trash = json_object();
	rec->empty = json_array();
	rec->stage = json_array();
	if (root_fd(v->root) < 0) {     /* a look where no root is yet */
		reconcile_step(rec);
		return;
	}
	reconcile_scan(rec);
}

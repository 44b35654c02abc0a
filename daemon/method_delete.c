/* SPDX-License-Identifier: MIT */
/*
 * Delete and Restore. Deleting is one rename into the trash, so it can be undone:
 *
 *   Delete    intent row on the disk, and meanwhile a look that nothing runs from it -> the resident worker
 *             writes the entry's own record and renames -> root synced -> answer -> row says trashed
 *   Restore   row says trashed, without a time at which it expires, on the disk -> renames it back, never over anything
 *             -> root synced -> answer -> row says ready. It needs no intent: at the next start the inode tells where the
 *             tree is, and elsewhere the row says that it is to be looked for. What Delete has left to be written when
 *             there is time is on the disk by then, too: or that start would take the tree for one that never was deleted.
 *   --now     for a live one: intent, then a worker removes it for good; for trashed ones: retention_purge()
 *
 * The name stays taken in the index while any of this is under way.
 */
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "inuse.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "operation.h"
#include "relocation.h"
#include "replay.h"
#include "retention.h"
#include "store.h"
#include "watch.h"

struct removal {
	struct operation op;
	char *entry;
	int64_t at_us;
	bool now;
	struct inuse_question question;
	bool looking, committing;
	enum error_code refused;
	json_t *refusal;        /* its parameters, what runs from it; NULL */
	json_t *warnings;
	int attempts;           /* --now: workers that failed over it */
};

struct restoring {
	struct operation op;
};

/* One whose directory is gone. */
struct forgetting {
	struct operation op;
};

/* Several environments of one name in the trash, purged one after the other. */
struct emptying {
	struct operation op;
	json_t *ids;            /* of those that are yet to go; the last of them is the next */
	char *why;              /* of the first that could not go */
	json_t *warnings;       /* of what is left of others */
};

static void removal_free(struct removal *d)
{
	json_decref(d->refusal);
	json_decref(d->warnings);
	free(d->entry);
	free(d);
}

static json_t *removal_reply(const struct removal *d, json_t *reply)
{
	if (json_array_size(d->warnings) > 0)
		json_object_set(reply, "warnings", d->warnings);
	return reply;
}

static json_t *removal_identity(const char *op, const struct environment *env, const char *entry)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:s,s:s*}", "op", op, "name", env->name,
	    "ino", (json_int_t)env->ino, "btime", (json_int_t)env->btime_ns, "entry", entry, "path", env->location);
}

/* It stays what it was: the intent is taken back. A directory that is gone is missing from now on. */
static void removal_failed(struct removal *d, enum error_code code, const json_t *parameters)
{
	struct venvd *v = d->op.venvd;
	struct environment *env = d->op.env;
	operation_take_back(&d->op);
	env->intent = INTENT_NONE;
	if (code == ERROR_NO_SUCH_ENVIRONMENT) {
		index_set_state(v->index, env, STATE_MISSING);
		env->missing_since = now_us();
	}
	store_put(v->store, env, NULL, NULL);
	operation_error(&d->op, code, parameters != NULL ? json_deep_copy(parameters) : NULL);
	removal_free(d);
	venvd_stop_if_idle(v);
}

/* Elsewhere its owner may have removed it: then it is forgotten. */
static void removal_forget(struct removal *d)
{
	struct venvd *v = d->op.venvd;
	struct environment *env = d->op.env;
	json_t *reply = removal_reply(d, method_environment(v, env));
	d->op.env = NULL;
	store_drop(v->store, env->id, NULL, NULL, NULL);
	index_remove(v->index, env);
	operation_reply(&d->op, reply);
	removal_free(d);
	venvd_stop_if_idle(v);
}

static void removal_trashed(enum error_code code, const json_t *result, void *arg)
{
	struct removal *d = arg;
	struct venvd *v = d->op.venvd;
	struct environment *env = d->op.env;
	if (code == ERROR_NO_SUCH_ENVIRONMENT && env->location != NULL) {
		removal_forget(d);
		return;
	}
	if (code != ERROR_NONE) {
		removal_failed(d, code, result);
		return;
	}
	env->intent = INTENT_NONE;
	env->deleted_at = d->at_us;
	free(env->entry);
	env->entry = d->entry;
	d->entry = NULL;
	retention_stamp(v->retention, env);
	index_to_trash(v->index, env);
	store_put(v->store, env, NULL, NULL);
	operation_reply(&d->op, removal_reply(d, method_environment(v, env)));
	removal_free(d);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

static bool removal_purge(struct removal *);

static void removal_removed(enum error_code code, const json_t *result, void *arg)
{
	struct removal *d = arg;
	struct venvd *v = d->op.venvd;
	if (code == ERROR_CANCELLED) {          /* we are ending: the row's intent says what is left to do */
		operation_error(&d->op, ERROR_SHUTTING_DOWN, NULL);
		removal_free(d);
		venvd_stop_if_idle(v);
		return;
	}
	/* Its worker may have died half-way: the order can be repeated, and only that tells what is left. */
	if (code == ERROR_FAILED && ++d->attempts < LIMIT_WORKER_RESTARTS && removal_purge(d))
		return;
	if (code != ERROR_NONE && (code != ERROR_NO_SUCH_ENVIRONMENT || d->attempts == 0)) {
		removal_failed(d, code, result);
		return;
	}
	struct environment *env = d->op.env;
	_cleanup_free_ char *kept = retention_kept(env->name, result);
	log_info("removed '%s' for good", env->name);
	if (kept != NULL)
		log_warning("%s", kept);
	method_warn(&d->warnings, kept);
	d->op.env = NULL;
	store_drop(v->store, env->id, NULL, NULL, NULL);
	index_remove(v->index, env);
	operation_reply(&d->op, removal_reply(d, json_object()));
	removal_free(d);
	venvd_stop_if_idle(v);
}

static bool removal_purge(struct removal *d)
{
	return job_start(d->op.venvd->jobs, removal_identity("purge-name", d->op.env, d->entry), 0, NULL,
	    removal_removed, d) != NULL;
}

/* Nothing has been touched before this. */
static void removal_go_on(struct removal *d)
{
	struct venvd *v = d->op.venvd;
	const struct environment *env = d->op.env;
	bool begun;
	if (d->looking || d->committing)
		return;                 /* their end leads here again */
	if (d->refused != ERROR_NONE) {
		removal_failed(d, d->refused, d->refusal);
		return;
	}
	if (d->now) {
		begun = removal_purge(d);
	} else {
		json_t *order = removal_identity("trash", env, d->entry);
		struct environment *copy = environment_copy(env);
		copy->deleted_at = d->at_us;
		json_object_set_new(order, "record", environment_to_record(copy));
		environment_free(copy);
		begun = jobs_short(v->jobs, order, removal_trashed, d);
	}
	if (begun)
		return;
	json_t *parameters = job_refused(env->name);
	removal_failed(d, ERROR_BUSY, parameters);
	json_decref(parameters);
}

static void removal_intent_on_disk(bool ok, void *arg)
{
	struct removal *d = arg;
	if (!ok) {
		log_warning("the catalog's file system is full; the trash entry's own record has to do");
		operation_take_back(&d->op);    /* its id is tried again with the answer */
	}
	d->committing = false;
	removal_go_on(d);
}

static void removal_looked(enum error_code code, const json_t *parameters, json_t *warnings, void *arg)
{
	struct removal *d = arg;
	d->looking = false;
	d->refused = code;
	d->refusal = json_incref((json_t *)parameters);
	d->warnings = json_incref(warnings);
	removal_go_on(d);
}

static void removal_begin(struct venvd *v, struct request *r, struct environment *env)
{
	struct removal *d = xcalloc(1, sizeof(*d));
	d->now = request_bool(r, "now");
	d->at_us = now_us();
	d->entry = xasprintf("%s~%lld~%s", env->name, (long long)d->at_us, env->id);
	operation_begin(&d->op, v, r, env);
	struct environment *row = environment_copy(env);
	row->intent = d->now ? INTENT_PURGE : INTENT_DELETE;
	row->deleted_at = d->at_us;
	free(row->entry);
	row->entry = xstrdup(d->entry);
	d->looking = !request_bool(r, "force");
	d->committing = true;
	operation_put_row(&d->op, row, removal_intent_on_disk, d);
	environment_free(row);
	if (d->looking)
		inuse_look(v, r, env, &d->question, removal_looked, d);
}

/* --- delete --now of what is in the trash --- */

static void emptying_next(struct emptying *);

/* Their rows say that they go, so each has its try, and whoever could not go another one later (retention.c). */
static void emptying_purged(const char *why, const char *kept, void *arg)
{
	struct emptying *e = arg;
	method_warn(&e->warnings, kept);
	if (why != NULL && e->why == NULL)
		e->why = xstrdup(why);
	emptying_next(e);
}

/* One that was to go when it was asked for: what has come into the trash since then can be taken back. */
static struct environment *emptying_one(struct emptying *e)
{
	struct environment *env = NULL;
	while (env == NULL && json_array_size(e->ids) > 0) {
		size_t last = json_array_size(e->ids) - 1;
		env = index_get_id(e->op.venvd->index, json_string_value(json_array_get(e->ids, last)));
		json_array_remove(e->ids, last);
		if (env != NULL && (env->state != STATE_TRASHED || env->busy != NULL))
			env = NULL;
	}
	return env;
}

static void emptying_next(struct emptying *e)
{
	struct venvd *v = e->op.venvd;
	struct environment *env = v->stopping ? NULL : emptying_one(e);
	if (env != NULL) {
		retention_purge(v->retention, env, emptying_purged, e);
		return;
	}
	e->op.env = NULL;
	if (v->stopping && (e->why != NULL || json_array_size(e->ids) > 0))     /* the next start goes on with the rows */
		operation_error(&e->op, ERROR_SHUTTING_DOWN, NULL);
	else if (e->why != NULL)
		operation_error(&e->op, ERROR_FAILED, json_pack("{s:s}", "reason", e->why));
	else
		operation_reply(&e->op, json_pack("{s:O*}", "warnings", e->warnings));
	json_decref(e->ids);
	json_decref(e->warnings);
	free(e->why);
	free(e);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

static void emptying_intents_on_disk(bool ok, void *arg)
{
	struct emptying *e = arg;
	if (!ok)
		operation_take_back(&e->op);    /* its id is tried again with the answer */
	emptying_next(e);
}

/* All of them are to go before the first does: then a crash cannot leave some and the answer too. */
static void emptying_begin(struct venvd *v, struct request *r, struct environment *env)
{
	struct emptying *e = xcalloc(1, sizeof(*e));
	e->ids = json_pack("[s]", env->id);
	operation_begin(&e->op, v, r, env);
	env->busy = NULL;               /* retention_purge() marks each in turn */
	e->op.env = NULL;
	for (struct environment *one = index_trash_next(v->index, env->name, INT64_MAX, "");
	    one != NULL && strcmp(one->name, env->name) == 0;
	    one = index_trash_next(v->index, one->name, one->deleted_at, one->id)) {
		if (one == env || one->busy != NULL)
			continue;
		one->intent = INTENT_PURGE;
		json_array_append_new(e->ids, json_string(one->id));
		store_put(v->store, one, NULL, NULL);
	}
	env->intent = INTENT_PURGE;
	operation_put_row(&e->op, env, emptying_intents_on_disk, e);
}

/* --- the methods --- */

/* Of one that somebody is busy with. */
static const char *delete_busy_reason(const struct environment *env)
{
	if (env->state == STATE_CREATING)
		return "it is being created";
	return env->state == STATE_TRASHED && env->intent == INTENT_PURGE ? "it is being removed for good" :
	    "another operation is under way";
}

static bool delete_refuse_state(struct request *r, const struct environment *env)
{
	_cleanup_free_ char *reason = NULL;
	if (env->busy != NULL || env->state == STATE_CREATING) {
		request_error(r, ERROR_BUSY, json_pack("{s:s,s:s}", "name", env->name, "reason", delete_busy_reason(env)));
		return true;
	}
	if (env->state != STATE_FOREIGN)
		return false;
	reason = xasprintf("it is not venvd's to delete: %s",
	    env->problem != NULL ? env->problem : "foreign");
	request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", env->name, "reason", reason));
	return true;
}

/* There is only the memory of a directory to take away. */
static void missing_dropped(bool ok, void *arg)
{
	struct forgetting *f = arg;
	struct venvd *v = f->op.venvd;
	struct environment *env = f->op.env;
	if (ok) {
		json_t *reply = method_environment(v, env);
		f->op.env = NULL;
		index_remove(v->index, env);
		operation_reply(&f->op, reply);
	} else {
		operation_error(&f->op, ERROR_NO_SPACE, json_pack("{s:s}", "reason",
		    "the catalog's file system is full"));
	}
	free(f);
	venvd_stop_if_idle(v);
}

static void delete_missing(struct venvd *v, struct request *r, struct environment *env)
{
	struct forgetting *f = xcalloc(1, sizeof(*f));
	operation_begin(&f->op, v, r, env);
	operation_drop_row(&f->op, missing_dropped, f);
}

void method_delete(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	bool now = request_bool(r, "now");
	if (replay_answer(v->replay, r))
		return;
	struct environment *env = index_get(v->index, name);
	/* Somebody may have put it back a moment ago. */
	if (env != NULL && env->state == STATE_MISSING && env->busy == NULL && watch_defer(v->watch, name, r, method_again))
		return;
	bool trashed = env == NULL && now;
	if (trashed)
		env = index_trash_get(v->index, name, NULL);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
	} else if (delete_refuse_state(r, env) || inuse_refuse_protected(r, env)) {
		return;
	} else if (trashed) {
		emptying_begin(v, r, env);
	} else if (env->state == STATE_MISSING) {
		delete_missing(v, r, env);
	} else {
		removal_begin(v, r, env);
	}
}

static void restore_done(enum error_code code, const json_t *result, void *arg);

static void restore_go(bool ok, void *arg)
{
	struct restoring *b = arg;
	struct environment *env = b->op.env;
	if (!ok)
		operation_take_back(&b->op);    /* its id is tried again with the answer */
	if (jobs_short(b->op.venvd->jobs, removal_identity("restore", env, env->entry), restore_done, b))
		return;
	json_t *parameters = job_refused(env->name);
	restore_done(ERROR_BUSY, parameters, b);
	json_decref(parameters);
}

static void restore_done(enum error_code code, const json_t *result, void *arg)
{
	struct restoring *b = arg;
	struct venvd *v = b->op.venvd;
	struct environment *env = b->op.env;
	if (code == ERROR_NONE) {
		if (json_is_true(json_object_get(result, "left")))
			retention_tidy(v->retention, env->entry, env->location, NULL);
		env->deleted_at = env->expires_at = 0;
		free(env->entry);
		env->entry = NULL;
		index_set_state(v->index, env, env->problem != NULL ? STATE_BROKEN : STATE_READY);
		store_put(v->store, env, NULL, NULL);
		operation_reply(&b->op, method_environment(v, env));
	} else {
		operation_take_back(&b->op);
		index_to_trash(v->index, env);
		store_put(v->store, env, NULL, NULL);
		operation_error(&b->op, code, result != NULL ? json_deep_copy(result) : NULL);
	}
	free(b);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

/* What lies elsewhere goes back to its own place, whatever it is called, if no other one is there, or is being made there.
 * Answered; true if refused. */
static bool restore_refuse_place(const struct venvd *v, struct request *r, const struct environment *env, bool renamed)
{
	const struct environment *there = env->location != NULL ? index_get_location(v->index, env->location) : NULL;
	if (!renamed && there != NULL && strcmp(there->location, env->location) == 0) {
		request_error(r, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", there->name, "state",
		    environment_state_name(there->state)));
		return true;
	}
	if (!renamed || env->location == NULL)
		return false;
	_cleanup_free_ char *reason = xasprintf("it lies at '%s' and is restored under its own name; venvctl rename changes it",
	    env->location);
	request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", env->name, "reason", reason));
	return true;
}

void method_restore(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name"), *to = request_string(r, "as");
	if (replay_answer(v->replay, r) || (to != NULL && method_refuse_name(r, to)))
		return;
	struct environment *env = index_trash_get(v->index, name, request_string(r, "id"));
	if (env == NULL) {
		request_error(r, ERROR_NOT_IN_TRASH, json_pack("{s:s}", "name", name));
		return;
	}
	if (env->busy != NULL || env->intent == INTENT_PURGE) {
		request_error(r, ERROR_BUSY, json_pack("{s:s,s:s}", "name", name, "reason", delete_busy_reason(env)));
		return;
	}
	bool renamed = to != NULL && strcmp(to, name) != 0;
	if (restore_refuse_place(v, r, env, renamed) || relocation_refuse_taken(v, r, renamed ? to : name))
		return;
	if (renamed) {
		if (!method_refuse_root(v, r))
			rename_restore(v, r, env, to);
		return;
	}
	struct restoring *b = xcalloc(1, sizeof(*b));
	operation_begin(&b->op, v, r, env);
	struct environment *row = environment_copy(env);
	row->expires_at = 0;
	operation_put_row(&b->op, row, restore_go, b);
	environment_free(row);
	index_from_trash(v->index, env, STATE_CREATING);
}

/* SPDX-License-Identifier: MIT */
/*
 * The making of an environment, and the way back.
 *
 *   claim       the resident worker makes it in the stage from an image's entry and tells the inode (`reserved`);
 *               the row with that inode is committed, with it what the request's id leads to; "go"; renamed to
 *               NAME, the root synced; answer; the row becomes ready when there is time. What is missing is
 *               brought by the pool, and the claim is given again.
 *   in place    an empty reservation, the same row and "go"; renamed to NAME; the interpreter's own venv runs in
 *               it, all is synced; the row is committed as ready; answer.
 *   rebuild     in place, in a directory that was there (--clear, --upgrade) or is not in the root.
 *
 * A claimed tree is complete when it has its name, so its row says "claim" and a crash leaves it. One in place
 * looks the same half-made and whole, so its row says "create" until it is ready, and a crash takes it back.
 * Recreate writes a second row in front, of the old tree in the trash; `entry` of ours names it.
 *
 * Whatever goes wrong after "go" ends with the new tree in the stage (found by its inode, so nothing else can be
 * hit), the old one back at its name, the rows as they were, and only then the error.
 */
#include <string.h>

#include "bounds.h"
#include "creation.h"
#include "index.h"
#include "inuse.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "pool.h"
#include "replay.h"
#include "retention.h"
#include "store.h"

struct creation {
	struct operation op;
	struct creation_plan plan;
	char *entry;                    /* its name in the stage */
	struct job *job;                /* a claim or a long order; NULL before and after */
	bool claiming;                  /* it is a claim: told, not cancelled */
	struct pool_wait *wait;         /* for what a claim missed */
	int rounds;
	json_t *resolved;               /* what a worker has found out about the interpreter; NULL */
	bool asked;                     /* the stage "interpreter" has been told */
	struct environment *before;     /* what was there; NULL: nothing */
	struct environment *previous;   /* Recreate: the old one as it will be in the trash, or NULL */
	json_t *packages;               /* what was installed in it */
	char *interpreter_reason;
	json_t *warnings;
	struct inuse_question question;
	json_t *standing;               /* Recreate: who stands in the old one */
	enum environment_intent intent; /* of our row until it is ready */
	bool committing;                /* a row is on its way to the disk: we are not freed before */
	bool has_row;
	bool staged;                    /* the stage may have something of ours */
	bool went;                      /* "go" was said: NAME may be there */
	bool found;                     /* there is still an environment, after a rebuild that failed */
	bool moved;                     /* the old one may be in the trash */
};

static void creation_roll_back(struct creation *);
static void creation_claim(struct creation *);
static void creation_build(struct creation *);

static void creation_free(struct creation *c)
{
	json_decref(c->plan.options);
	json_decref(c->plan.caller);
	json_decref(c->packages);
	json_decref(c->resolved);
	json_decref(c->warnings);
	json_decref(c->standing);
	environment_free(c->before);
	environment_free(c->previous);
	free(c->entry);
	free(c->interpreter_reason);
	free(c);
}

/* A claim hears of it when it asks for "go"; what is on its way to the disk is awaited. */
static void creation_cancel(struct operation *op)
{
	struct creation *c = (struct creation *)op;
	operation_fail(&c->op, op->venvd->stopping ? ERROR_SHUTTING_DOWN : ERROR_CANCELLED, NULL);
	if (c->wait != NULL) {
		pool_forget(c->wait);
		c->wait = NULL;
		creation_roll_back(c);
	} else if (c->job != NULL && !c->claiming) {
		job_cancel(c->job);
	}
}

static json_t *creation_identity(const char *op, const struct environment *env, const char *entry)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:s,s:s*}", "op", op, "name", env->name, "ino", (json_int_t)env->ino,
	    "btime", (json_int_t)env->btime_ns, "entry", entry, "path", env->location);
}

/* --- the way back --- */

static void creation_answer_error(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	operation_failed(&c->op);
	creation_free(c);
	venvd_stop_if_idle(v);
}

/* Catalog and index are as they were before we came. */
static void creation_undo(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	operation_take_back(&c->op);
	if (c->before != NULL) {
		enum environment_state state = c->before->state;
		environment_assign(env, c->before);
		index_set_state(v->index, env, state);
		if (c->has_row)
			store_put(v->store, env, NULL, NULL);
	} else {
		c->op.env = NULL;
		if (c->has_row)
			store_drop(v->store, env->id, NULL, NULL, NULL);
		index_remove(v->index, env);
	}
	if (c->previous != NULL && c->has_row)
		store_drop(v->store, c->previous->id, NULL, NULL, NULL);
	if (c->staged)
		retention_sweep(v->retention, json_pack("[s]", c->entry));
	creation_answer_error(c);
}

/* The old tree stays in the trash, where whoever wants it finds it. */
static void creation_leave_in_trash(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	if (c->previous == NULL)
		return;
	operation_fail_changed(&c->op, "the old one is in the trash");
	index_add(v->index, c->previous);
	c->previous = NULL;
	retention_arm(v->retention);
}

static void creation_lose_name(struct creation *c, const char *why)
{
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	log_error("'%s' could not be taken back out of the trash: %s", env->name, why);
	operation_take_back(&c->op);
	c->op.env = NULL;
	store_drop(v->store, env->id, NULL, NULL, NULL);
	index_remove(v->index, env);
	creation_leave_in_trash(c);
	creation_answer_error(c);
}

/* Somebody took away what was there. */
static void creation_lost(struct creation *c)
{
	c->before->state = STATE_MISSING;
	c->before->missing_since = now_us();
	c->has_row = true;      /* to be written again */
}

static void creation_restored(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	if (code == ERROR_NOT_IN_TRASH)
		creation_lost(c);
	if (code == ERROR_NONE || code == ERROR_NOT_IN_TRASH)
		creation_undo(c);
	else
		creation_lose_name(c, job_reason(code, result));
}

static void creation_restore(struct creation *c)
{
	if (c->previous == NULL || !c->moved) {
		creation_undo(c);
		return;
	}
	json_t *order = creation_identity("restore", c->previous, c->previous->entry);
	if (c->previous->location != NULL)
		json_object_set_new(order, "makeWay", json_true());
	if (!jobs_short_continue(c->op.venvd->jobs, order, creation_restored, c))
		creation_lose_name(c, "no worker takes it now");
}

/* Its row stays. With INTENT_CREATE the next start tries again, and adopts nothing half-made. */
static void creation_leave_broken(struct creation *c, enum environment_intent intent, store_done_fn *done)
{
	struct environment *env = c->op.env;
	env->intent = intent;
	word_set(&env->problem, intent == INTENT_NONE ? "nothing is left of it: its rebuilding failed" :
	    "its creation failed, and what was made could not be taken away");
	index_set_state(c->op.venvd->index, env, STATE_BROKEN);
	store_put(c->op.venvd->store, env, done, c);
}

static void creation_left(bool ok, void *arg)
{
	(void)ok;               /* a full disk: the store keeps it for later */
	creation_answer_error(arg);
}

static void creation_discarded(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	struct environment *env = c->op.env;
	if (code == ERROR_NONE) {
		creation_restore(c);
		return;
	}
	log_error("what was made of '%s' could not be taken away: %s", env->name,
	    job_reason(code, result));
	operation_take_back(&c->op);
	if (c->moved)
		creation_leave_in_trash(c);
	creation_leave_broken(c, INTENT_CREATE, creation_left); /* before the answer: as it was, the row would keep it */
}

/* What has been left of one that is not ours to take away. */
static void creation_look_frame(const char *kind, const json_t *frame, void *arg)
{
	struct creation *c = arg;
	(void)kind;
	const json_t *found = json_array_get(json_object_get(frame, "environments"), 0);
	const char *what = json_string_value(json_object_get(found, "kind"));
	if (c->before != NULL)
		environment_assign(c->op.env, c->before);
	environment_take_inspection(c->op.env, found);
	c->found = what != NULL && (strcmp(what, "environment") == 0 || strcmp(what, "foreign") == 0);
}

static void creation_looked(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	(void)result;
	operation_take_back(&c->op);
	if (code != ERROR_NONE && c->before != NULL) {  /* nobody knows; its row has the next start look */
		enum environment_state state = c->before->state;
		environment_assign(env, c->before);
		index_set_state(v->index, env, state);
	} else if (!c->found && c->before == NULL) {
		c->op.env = NULL;
		store_drop(v->store, env->id, NULL, NULL, NULL);
		index_remove(v->index, env);
	} else if (!c->found) {
		creation_leave_broken(c, INTENT_NONE, NULL);
	} else {
		env->intent = INTENT_NONE;
		index_set_state(v->index, env, env->state);
		store_put(v->store, env, NULL, NULL);
	}
	creation_leave_in_trash(c);     /* somebody made a directory where it had been */
	creation_answer_error(c);
}

static json_t *creation_inspect(const struct environment *env)
{
	return env->location != NULL ?
	    json_pack("{s:s,s:[],s:[s]}", "op", "inspect", "names", "paths", env->location) :
	    json_pack("{s:s,s:[s]}", "op", "inspect", "names", env->name);
}

static void creation_look(struct creation *c)
{
	struct jobs *jobs = c->op.venvd->jobs;
	if (job_continue(jobs, creation_inspect(c->op.env), 0, creation_look_frame, creation_looked, c) == NULL)
		creation_looked(ERROR_FAILED, NULL, c);
}

static void creation_roll_back(struct creation *c)
{
	if (c->job != NULL || c->committing)
		return;                 /* their end leads here again */
	c->op.cancel = NULL;
	if (c->went && c->intent == INTENT_REBUILD) {
		creation_look(c);
	} else if (c->went) {
		json_t *order = creation_identity("discard", c->op.env, c->entry);
		if (!jobs_short_continue(c->op.venvd->jobs, order, creation_discarded, c))
			creation_discarded(ERROR_FAILED, NULL, c);
	} else {
		creation_restore(c);
	}
}

/* --- the way forward --- */

static json_t *creation_reply(const struct creation *c)
{
	const struct venvd *v = c->op.venvd;
	json_t *reply = method_environment(v, c->op.env);
	if (c->interpreter_reason != NULL)
		json_object_set_new(reply, "interpreterReason", json_string(c->interpreter_reason));
	json_t *warnings = json_array();
	json_array_extend(warnings, c->standing);
	json_array_extend(warnings, c->warnings);
	json_object_set_new(reply, "warnings", json_array_size(warnings) > 0 ? json_incref(warnings) : NULL);
	json_decref(warnings);
	return reply;
}

/* The old one is in the trash for good. */
static void creation_keep_previous(struct creation *c, json_t *reply)
{
	struct venvd *v = c->op.venvd;
	const struct environment *previous = c->previous;
	if (previous == NULL)
		return;
	creation_leave_in_trash(c);
	json_object_set_new(reply, "previous", environment_to_json(previous, v->config.root, FIELDS_ALL));
	if (c->packages != NULL)
		json_object_set(reply, "packages", c->packages);
}

static void creation_answer(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	const struct environment *env = c->op.env;
	json_t *reply = creation_reply(c);
	_cleanup_free_ char *interpreter = text_printable(env->interpreter != NULL ? env->interpreter : "?");
	log_info("created '%s' with %s", env->name, interpreter);
	creation_keep_previous(c, reply);
	operation_reply(&c->op, reply);
	creation_free(c);
	venvd_stop_if_idle(v);
}

/* env is what the worker found in what it has made. */
static void creation_made(struct creation *c, const json_t *result)
{
	struct environment *env = c->op.env;
	c->op.cancel = NULL;
	environment_take_inspection(env, json_object_get(result, "environment"));
	env->intent = INTENT_NONE;
	free(env->entry);
	env->entry = NULL;
	index_set_state(c->op.venvd->index, env, env->state);
}

static void creation_ready(bool ok, void *arg)
{
	struct creation *c = arg;
	c->committing = false;
	if (ok) {
		creation_answer(c);
		return;
	}
	operation_fail_full(&c->op);
	creation_roll_back(c);
}

static void creation_done(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	c->job = NULL;
	c->staged |= code == ERROR_FAILED;      /* its worker may have died before it told us */
	if (code != ERROR_NONE)
		operation_fail(&c->op, code, result);
	else if (!c->went)
		operation_fail_reason(&c->op, ERROR_FAILED, "its worker has done nothing");
	if (c->op.error != ERROR_NONE) {
		creation_roll_back(c);
		return;
	}
	creation_made(c, result);
	c->committing = true;
	operation_put(&c->op, creation_ready, c);
}

/* The row is on the disk, or not: the worker waits for our word. */
static void creation_intent_on_disk(bool ok, void *arg)
{
	struct creation *c = arg;
	c->committing = false;
	if (!ok)
		operation_fail_full(&c->op);
	if (c->job == NULL) {
		creation_roll_back(c);
	} else if (c->op.error == ERROR_NONE) {
		c->went = true;
		c->moved = c->previous != NULL;
		if (c->claiming)
			c->op.cancel = NULL;    /* it is over before anybody could */
		job_send(c->job, json_pack("{s:b}", "go", true));
	} else if (c->claiming) {
		job_send(c->job, json_pack("{s:b}", "go", false));
	} else {
		job_cancel(c->job);
	}
}

static void creation_take_interpreter(struct creation *c, const json_t *frame)
{
	struct environment *env = c->op.env;
	const json_t *interpreter = json_object_get(frame, "interpreter");
	word_set(&env->interpreter, json_string_value(json_object_get(interpreter, "path")));
	word_set(&env->implementation, json_string_value(json_object_get(interpreter, "implementation")));
	word_set(&env->version, json_string_value(json_object_get(interpreter, "version")));
	free(c->interpreter_reason);
	c->interpreter_reason = xstrdup(json_string_value(json_object_get(frame, "reason")));
	json_decref(c->warnings);
	c->warnings = json_incref(json_object_get(frame, "warnings"));
}

/* What a crash needs to settle this goes to the disk before the first rename. */
static void creation_reserved(struct creation *c, const json_t *frame, enum environment_intent intent)
{
	struct environment *env = c->op.env;
	struct store *store = c->op.venvd->store;
	env->ino = json_integer_value(json_object_get(frame, "ino"));
	env->btime_ns = json_integer_value(json_object_get(frame, "btime"));
	env->intent = c->intent = intent;
	creation_take_interpreter(c, frame);
	c->staged = intent != INTENT_REBUILD;
	c->committing = true;
	if (c->previous != NULL && !c->has_row)
		store_put(store, c->previous, NULL, NULL);
	c->has_row = true;
	/* A claim has nothing to write between the rename and the answer. */
	if (intent == INTENT_CLAIM)
		operation_put(&c->op, creation_intent_on_disk, c);
	else
		store_put(store, env, creation_intent_on_disk, c);
}

static void creation_stage(struct creation *c, const char *stage)
{
	if (stage == NULL || (strcmp(stage, "interpreter") == 0 && c->asked))
		return;
	c->asked |= strcmp(stage, "interpreter") == 0;
	operation_progress(&c->op, json_pack("{s:s}", "stage", stage));
}

/* --- by claim --- */

/* NAME, ENTRY and what is asked for, as claims and orders in place have it. */
static json_t *creation_order(const struct creation *c, const char *op)
{
	const struct venvd *v = c->op.venvd;
	const struct environment *env = c->op.env;
	const char *root = strcmp(v->config.root, "/") == 0 ? "" : v->config.root;
	_cleanup_free_ char *path = env->location != NULL ? xstrdup(env->location) :
	    xasprintf("%s/%s", root, env->name);
	return json_pack("{s:s,s:s,s:s,s:s,s:O,s:o,s:O}", "op", op, "name", env->name, "entry", c->entry,
	    "path", path, "options", c->plan.options, "search", method_search(v), "caller", c->plan.caller);
}

/* What the old one's entry in the trash says of it. */
static json_t *creation_record(const struct creation *c)
{
	json_t *record = environment_to_record(c->previous);
	if (c->packages != NULL)
		json_object_set(record, "packages", c->packages);
	return record;
}

static void creation_claim_frame(const char *kind, const json_t *frame, void *arg)
{
	struct creation *c = arg;
	if (strcmp(kind, "reserved") != 0)
		return;
	c->staged = true;
	pool_taken(c->op.venvd->pool, frame);
	if (c->op.error == ERROR_NONE)
		creation_reserved(c, frame, INTENT_CLAIM);
	else
		job_send(c->job, json_pack("{s:b}", "go", false));
}

static void creation_prepared(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	c->wait = NULL;
	if (code == ERROR_NONE && json_object_get(result, "interpreter") != NULL) {
		json_decref(c->resolved);
		c->resolved = json_deep_copy(result);
	}
	if (code == ERROR_NONE) {
		creation_claim(c);
		return;
	}
	operation_fail(&c->op, code, result);
	creation_roll_back(c);
}

/* What a claim misses, as the stage that brings it. */
static const char *creation_miss_stage(const char *miss)
{
	return strcmp(miss, "entry") == 0 ? "fill" : miss;
}

static void creation_missed(struct creation *c, const char *miss, const json_t *answer)
{
	if (strcmp(miss, "place") == 0 || ++c->rounds >= LIMIT_CLAIM_ROUNDS) {
		creation_build(c);
		return;
	}
	c->wait = pool_want(c->op.venvd->pool, answer, c->rounds, creation_prepared, c);
	if (c->wait != NULL) {
		creation_stage(c, creation_miss_stage(miss));
		return;
	}
	operation_fail_refused(&c->op);
	creation_roll_back(c);
}

static void creation_claimed(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	const char *miss = json_string_value(json_object_get(result, "miss"));
	c->job = NULL;
	c->claiming = false;
	c->staged |= code == ERROR_FAILED;      /* its worker may have died before it told us */
	if (code == ERROR_NO_SUCH_ENVIRONMENT && c->before != NULL)
		creation_lost(c);
	if (code != ERROR_NONE)
		operation_fail(&c->op, code, result);
	else if (c->went != (miss == NULL) || (miss == NULL && json_object_get(result, "environment") == NULL))
		operation_fail_reason(&c->op, ERROR_FAILED, "its worker has answered nothing");
	if (c->op.error != ERROR_NONE) {
		creation_roll_back(c);
	} else if (miss != NULL) {
		creation_missed(c, miss, result);
	} else {
		creation_made(c, result);
		store_put(c->op.venvd->store, c->op.env, NULL, NULL);
		creation_answer(c);
	}
}

static void creation_claim(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	json_t *order = creation_order(c, "claim");
	json_object_set_new(order, "probeMs", json_integer(v->config.value[CONFIG_PROBE_MS]));
	if (c->resolved != NULL)
		json_object_set(order, "resolved", c->resolved);
	if (c->previous != NULL)
		json_object_set_new(order, "replaces", json_pack("{s:I,s:I,s:s,s:o}",
		    "ino", (json_int_t)c->previous->ino, "btime", (json_int_t)c->previous->btime_ns,
		    "trash", c->previous->entry, "record", creation_record(c)));
	c->claiming = true;
	c->job = jobs_claim(v->jobs, order, v->config.value[CONFIG_CREATE_MS], creation_claim_frame,
	    creation_claimed, c);
	if (c->job != NULL)
		return;
	c->claiming = false;
	operation_fail_refused(&c->op);
	creation_roll_back(c);
}

/* --- in place --- */

/* A directory that was there is not ours to take away. */
static enum environment_intent creation_intent(const struct creation *c, const json_t *frame)
{
	bool as_is = c->op.env->location != NULL || json_is_true(json_object_get(c->plan.options, "clear")) ||
	    json_is_true(json_object_get(c->plan.options, "upgrade"));
	return as_is && !json_is_true(json_object_get(frame, "made")) ? INTENT_REBUILD : INTENT_CREATE;
}

/* The one that is this directory already, which was reached through other links; NULL. */
static const struct environment *creation_same(const struct creation *c, const json_t *frame)
{
	const struct index *index = c->op.venvd->index;
	const struct environment *ours = c->op.env, *env = ours->location != NULL ? index_next(index, NULL) : NULL;
	int64_t ino = json_integer_value(json_object_get(frame, "ino")), btime = json_integer_value(json_object_get(frame, "btime"));
	while (env != NULL && (env == ours || env->state == STATE_MISSING || env->ino != ino || env->btime_ns != btime))
		env = index_next(index, env->name);
	return env;
}

static void creation_refuse_same(struct creation *c, const struct environment *same)
{
	json_t *parameters = json_pack("{s:s,s:s}", "name", same->name, "state", environment_state_name(same->state));
	operation_fail(&c->op, ERROR_ALREADY_EXISTS, parameters);
	json_decref(parameters);
	job_cancel(c->job);
}

static void creation_frame(const char *kind, const json_t *frame, void *arg)
{
	struct creation *c = arg;
	bool reserved = strcmp(kind, "reserved") == 0 && c->op.error == ERROR_NONE;
	const struct environment *same = reserved ? creation_same(c, frame) : NULL;
	if (strcmp(kind, "progress") == 0)
		creation_stage(c, json_string_value(json_object_get(frame, "stage")));
	else if (same != NULL)
		creation_refuse_same(c, same);
	else if (reserved)
		creation_reserved(c, frame, creation_intent(c, frame));
}

static void creation_build_now(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	json_t *order = creation_order(c, "create");
	json_object_set_new(order, "root", json_string(v->config.root));
	json_object_set_new(order, "elsewhere", json_boolean(c->op.env->location != NULL));
	json_object_set_new(order, "probeMs", json_integer(v->config.value[CONFIG_PROBE_MS]));
	bool waits = jobs_places(v->jobs) == 0;
	c->job = (c->rounds > 0 || c->moved ? job_continue : job_start)(v->jobs, order,
	    v->config.value[CONFIG_CREATE_MS], creation_frame, creation_done, c);
	if (c->job == NULL) {
		operation_fail_refused(&c->op);
		creation_roll_back(c);
	} else if (waits) {
		/* What waits is served in order: ours is the last of it. */
		creation_stage(c, "queued");
	}
}

/* The old tree gives up its name; the rows that say so are on the disk. */
static void creation_trashed(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	c->op.cancel = creation_cancel;
	if (code == ERROR_NO_SUCH_ENVIRONMENT)
		creation_lost(c);
	if (code != ERROR_NONE)
		operation_fail(&c->op, code, result);
	c->moved = code == ERROR_NONE || code == ERROR_FAILED;
	if (c->op.error == ERROR_NONE)
		creation_build_now(c);
	else
		creation_roll_back(c);
}

static void creation_rows_on_disk(bool ok, void *arg)
{
	struct creation *c = arg;
	c->committing = false;
	if (!ok)
		operation_fail_full(&c->op);
	if (c->op.error != ERROR_NONE) {
		creation_roll_back(c);
		return;
	}
	json_t *order = creation_identity("trash", c->previous, c->previous->entry);
	json_object_set_new(order, "record", creation_record(c));
	c->op.cancel = NULL;
	if (jobs_short(c->op.venvd->jobs, order, creation_trashed, c))
		return;
	operation_fail_refused(&c->op);
	creation_roll_back(c);
}

static void creation_build(struct creation *c)
{
	struct environment *env = c->op.env;
	struct store *store = c->op.venvd->store;
	if (c->previous == NULL) {
		creation_build_now(c);
		return;
	}
	env->intent = INTENT_CREATE;
	env->ino = env->btime_ns = 0;
	c->has_row = c->committing = true;
	store_put(store, c->previous, NULL, NULL);
	store_put(store, env, creation_rows_on_disk, c);
}

/* --- Recreate: what is to be replaced --- */

static void creation_listed(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	c->job = NULL;
	if (code == ERROR_CANCELLED || c->op.error != ERROR_NONE) {
		operation_fail(&c->op, code, result);
		creation_roll_back(c);
		return;
	}
	/* Of a broken one perhaps nothing can be read; that is no reason to keep it so. */
	json_t *packages = json_object_get(result, "packages");
	c->packages = code == ERROR_NONE && json_is_array(packages) ? json_incref(packages) : NULL;
	if (c->packages == NULL) {
		_cleanup_free_ char *why = xasprintf("what is installed in '%s' could not be read: %s", c->op.env->name,
		    job_reason(code, result));
		log_warning("%s", why);
		method_warn(&c->standing, why);
	}
	(c->plan.in_place ? creation_build : creation_claim)(c);
}

static void creation_replace(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env, *previous = environment_copy(c->before);
	id_new(previous->id);
	previous->state = STATE_TRASHED;
	previous->deleted_at = env->created_at;
	free(previous->entry);
	previous->entry = xasprintf("%s~%lld~%s", env->name, (long long)previous->deleted_at, previous->id);
	retention_stamp(v->retention, previous);
	c->previous = previous;
	free(env->entry);
	env->entry = xstrdup(previous->entry);
	json_t *order = json_pack("{s:s,s:s}", "op", "packages", env->location != NULL ? "path" : "name",
	    env->location != NULL ? env->location : env->name);
	c->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], NULL, creation_listed, c);
	if (c->job == NULL) {
		operation_fail_refused(&c->op);
		creation_roll_back(c);
	}
}

static void creation_in_use(enum error_code code, const json_t *parameters, json_t *warnings, void *arg)
{
	struct creation *c = arg;
	c->standing = json_incref(warnings);
	if (code != ERROR_NONE && !c->plan.force)
		operation_fail(&c->op, code, parameters);
	if (c->op.error == ERROR_NONE)
		creation_replace(c);
	else
		creation_roll_back(c);
}

/* --- what is asked for --- */

static const char *const creation_flags[] = {
	"withoutPip", "systemSitePackages", "copies", "upgradeDeps", "withoutScmIgnoreFiles"
};

json_t *creation_options_kept(const json_t *options)
{
	json_t *kept = json_object(), *python = json_object_get(options, "python");
	json_t *prompt = json_object_get(options, "prompt");
	if (json_array_size(python) > 0)
		json_object_set(kept, "python", python);
	if (json_is_string(prompt))
		json_object_set(kept, "prompt", prompt);
	for (size_t i = 0; i < ARRAY_LENGTH(creation_flags); i++)
		if (json_is_true(json_object_get(options, creation_flags[i])))
			json_object_set_new(kept, creation_flags[i], json_true());
	return kept;
}

json_t *creation_options_full(const json_t *kept)
{
	json_t *python = json_object_get(kept, "python"), *prompt = json_object_get(kept, "prompt");
	json_t *options = json_pack("{s:O?,s:b,s:b}", "prompt", json_is_string(prompt) ? prompt : NULL,
	    "clear", json_is_true(json_object_get(kept, "clear")),
	    "upgrade", json_is_true(json_object_get(kept, "upgrade")));
	json_object_set_new(options, "python", python != NULL ? json_incref(python) : json_array());
	for (size_t i = 0; i < ARRAY_LENGTH(creation_flags); i++)
		json_object_set_new(options, creation_flags[i],
		    json_boolean(json_is_true(json_object_get(kept, creation_flags[i]))));
	return options;
}

static void creation_prepare_environment(struct creation *c)
{
	struct environment *env = c->op.env;
	if (c->before != NULL)
		index_set_state(c->op.venvd->index, env, STATE_CREATING);
	if (!c->plan.keeps_options || env->options == NULL) {
		json_t *kept = creation_options_kept(c->plan.options);
		if (c->plan.any_python)
			json_object_del(kept, "python");
		char *text = json_dumps(kept, JSON_COMPACT);
		word_set(&env->options, text);
		free(text);
		json_decref(kept);
	}
	if (c->before == NULL || c->plan.replaces)
		word_set(&env->origin, "created");
	if (c->plan.replaces) {
		word_set(&env->problem, NULL);
		env->missing_since = 0;
	}
	c->entry = xasprintf("%s~%lld~%s", env->name, (long long)env->created_at, env->id);
}

void creation_begin(struct venvd *v, struct request *r, struct environment *env,
    const struct creation_plan *plan)
{
	struct creation *c = xcalloc(1, sizeof(*c));
	c->plan = *plan;
	c->before = env->state != STATE_CREATING ? environment_copy(env) : NULL;
	c->op.cancel = creation_cancel;
	/* Before the request's own time: by that the start tells what a crash has undone (reconcile.c). */
	if (c->before == NULL || plan->replaces)
		env->created_at = now_us();
	operation_begin(&c->op, v, r, env);
	creation_prepare_environment(c);
	if (plan->replaces && c->before->state != STATE_MISSING)
		inuse_look(v, r, env, &c->question, creation_in_use, c);
	else
		(plan->in_place ? creation_build : creation_claim)(c);
}

/* SPDX-License-Identifier: MIT */
/*
 * Rename, and Restore under another name: the tree keeps its identity, and everything in it that names its path is
 * written anew (worker/rename.c).
 *
 *   a worker prepares the new files and a journal in the stage -> the row says which name it is being given, with it what
 *   the request's id leads to -> "go": files change places, the tree gets its name, the root is synced -> answer
 *   -> the row has the new name when there is time
 *
 * The new name is taken in the index meanwhile, by an environment that is never stored. Whatever goes wrong after "go",
 * the worker's death too, ends in one more order (settle) that says whether the tree has its new name, and otherwise
 * goes back what was done. What lies elsewhere changes its name in the catalog alone.
 */
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "inuse.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "operation.h"
#include "paths.h"
#include "relocation.h"
#include "replay.h"
#include "retention.h"
#include "store.h"

struct renaming {
	struct operation op;
	struct environment *place;      /* has the new name in the index */
	char *entry;                    /* of the stage */
	struct inuse_question question;
	struct job *job;
	bool committing;                /* a row is on its way to the disk */
	bool has_row;
	bool went;                      /* "go" was said */
	json_t *warnings;
	enum error_code error;
	json_t *error_parameters;
};

static void renaming_free(struct renaming *n)
{
	struct venvd *v = n->op.venvd;
	json_decref(n->warnings);
	json_decref(n->error_parameters);
	free(n->entry);
	free(n);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

static void renaming_fail(struct renaming *n, enum error_code code, const json_t *parameters)
{
	if (n->error != ERROR_NONE)
		return;
	n->error = code;
	n->error_parameters = parameters != NULL ? json_deep_copy(parameters) : NULL;
}

static void renaming_cancel(struct operation *op)
{
	struct renaming *n = (struct renaming *)op;
	renaming_fail(n, op->venvd->stopping ? ERROR_SHUTTING_DOWN : ERROR_CANCELLED, NULL);
	if (n->job != NULL)
		job_cancel(n->job);
}

static void renaming_drop_place(struct renaming *n)
{
	n->place->busy = NULL;
	index_remove(n->op.venvd->index, n->place);
	n->place = NULL;
}

/* It is what it was. */
static void renaming_undo(struct renaming *n)
{
	struct venvd *v = n->op.venvd;
	struct environment *env = n->op.env;
	operation_take_back(&n->op);
	renaming_drop_place(n);
	free(env->new_name);
	env->new_name = NULL;
	if (n->has_row)
		store_put(v->store, env, NULL, NULL);
	retention_sweep(v->retention, json_pack("[s]", n->entry));
	operation_error(&n->op, n->error, json_incref(n->error_parameters));
	renaming_free(n);
}

/* found: what the worker saw of it under its new name; NULL: nobody has looked. */
static void renaming_finish(struct renaming *n, const json_t *found, bool left)
{
	struct venvd *v = n->op.venvd;
	struct environment *env = n->op.env;
	_cleanup_free_ char *old = xstrdup(env->name);
	if (left && env->state == STATE_TRASHED)
		retention_tidy(v->retention, env->entry);
	renaming_drop_place(n);
	relocation_named(v, env);
	if (found != NULL) {
		enum environment_state state = env->state;
		environment_take_inspection(env, found);
		enum environment_state now = env->state;
		env->state = state;
		index_set_state(v->index, env, now);
	}
	log_info("'%s' is called '%s' now", old, env->name);
	store_put(v->store, env, NULL, NULL);
	retention_sweep(v->retention, json_pack("[s]", n->entry));
	json_t *reply = method_environment(v, env);
	if (json_array_size(n->warnings) > 0)
		json_object_set(reply, "warnings", n->warnings);
	operation_reply(&n->op, reply);
	renaming_free(n);
}

static void renaming_settled(enum error_code code, const json_t *result, void *arg)
{
	struct renaming *n = arg;
	struct environment *env = n->op.env;
	if (code == ERROR_NONE && json_is_true(json_object_get(result, "renamed"))) {
		renaming_finish(n, NULL, true);
	} else if (code == ERROR_NONE) {
		renaming_undo(n);
	} else {
		/* Its row has the next start try again. */
		log_error("the renaming of '%s' could not be taken back: %s", env->name, job_reason(code, result));
		operation_take_back(&n->op);
		renaming_drop_place(n);
		operation_error(&n->op, n->error, json_incref(n->error_parameters));
		renaming_free(n);
	}
}

static void renaming_roll_back(struct renaming *n)
{
	if (n->job != NULL || n->committing)
		return;                 /* their end leads here again */
	n->op.cancel = NULL;
	if (!n->went) {
		renaming_undo(n);
		return;
	}
	json_t *order = json_pack("{s:s,s:s}", "op", "settle", "entry", n->entry);
	if (job_continue(n->op.venvd->jobs, order, 0, NULL, renaming_settled, n) == NULL)
		renaming_settled(ERROR_FAILED, NULL, n);
}

static void renaming_done(enum error_code code, const json_t *result, void *arg)
{
	struct renaming *n = arg;
	n->job = NULL;
	if (code != ERROR_NONE) {
		renaming_fail(n, code, result);
	} else if (!n->went) {
		json_t *parameters = json_pack("{s:s}", "reason", "its worker has done nothing");
		renaming_fail(n, ERROR_FAILED, parameters);
		json_decref(parameters);
	}
	if (n->error == ERROR_NONE)
		renaming_finish(n, json_object_get(result, "environment"), json_is_true(json_object_get(result, "left")));
	else
		renaming_roll_back(n);
}

static void renaming_row_on_disk(bool ok, void *arg)
{
	struct renaming *n = arg;
	n->committing = false;
	if (!ok) {
		json_t *parameters = json_pack("{s:s}", "reason", "the catalog's file system is full");
		renaming_fail(n, ERROR_NO_SPACE, parameters);
		json_decref(parameters);
	}
	if (n->job == NULL) {
		renaming_roll_back(n);
	} else if (n->error != ERROR_NONE) {
		job_cancel(n->job);
	} else {
		n->went = true;
		n->op.cancel = NULL;    /* it is over before anybody could */
		job_send(n->job, json_pack("{s:b}", "go", true));
	}
}

static void renaming_frame(const char *kind, const json_t *frame, void *arg)
{
	struct renaming *n = arg;
	(void)frame;
	if (strcmp(kind, "reserved") != 0 || n->error != ERROR_NONE)
		return;
	n->committing = n->has_row = true;
	n->op.env->new_name = xstrdup(n->place->name);
	operation_put(&n->op, renaming_row_on_disk, n);
}

static void renaming_looked(const json_t *refusal, json_t *warnings, void *arg)
{
	struct renaming *n = arg;
	struct venvd *v = n->op.venvd;
	n->warnings = json_incref(warnings);
	if (refusal != NULL)
		renaming_fail(n, ERROR_IN_USE, refusal);
	if (n->error == ERROR_NONE) {
		json_t *order = relocation_order(v, "rename", n->op.env, n->place->name, n->entry);
		n->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], renaming_frame, renaming_done, n);
		if (n->job != NULL)
			return;
		json_t *parameters = job_refused(n->op.env->name);
		renaming_fail(n, ERROR_BUSY, parameters);
		json_decref(parameters);
	}
	renaming_roll_back(n);
}

static void renaming_begin(struct venvd *v, struct request *r, struct environment *env, const char *to, bool force)
{
	struct renaming *n = xcalloc(1, sizeof(*n));
	n->op.cancel = renaming_cancel;
	operation_begin(&n->op, v, r, env);
	n->place = environment_new(to);
	n->place->busy = &n->op;
	index_add(v->index, n->place);
	n->entry = xasprintf(PATH_STAGE_RENAME "%lld~%s", (long long)now_us(), env->id);
	if (force)
		renaming_looked(NULL, NULL, n);
	else
		inuse_look(v, r, env, &n->question, renaming_looked, n);
}

/* --- elsewhere: the catalog alone --- */

static void renaming_elsewhere_on_disk(bool ok, void *arg)
{
	struct renaming *n = arg;
	struct venvd *v = n->op.venvd;
	struct environment *env = n->op.env;
	_cleanup_free_ char *to = xstrdup(n->place->name);
	renaming_drop_place(n);
	if (ok) {
		log_info("'%s' is called '%s' now", env->name, to);
		env->new_name = xstrdup(to);
		relocation_named(v, env);
		operation_reply(&n->op, method_environment(v, env));
	} else {
		operation_error(&n->op, ERROR_NO_SPACE, json_pack("{s:s}", "reason",
		    "the catalog's file system is full"));
	}
	renaming_free(n);
}

/* It keeps its old name, and the new one is kept for it, until its row is on the disk: that may fail. */
static void renaming_elsewhere(struct venvd *v, struct request *r, struct environment *env, const char *to)
{
	struct renaming *n = xcalloc(1, sizeof(*n));
	struct environment *row = environment_copy(env);
	operation_begin(&n->op, v, r, env);
	n->place = environment_new(to);
	n->place->busy = &n->op;
	index_add(v->index, n->place);
	free(row->name);
	row->name = xstrdup(to);
	operation_put_row(&n->op, row, renaming_elsewhere_on_disk, n);
	environment_free(row);
}

/* --- the methods --- */

void method_rename(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name"), *to = request_string(r, "to");
	if (replay_answer(v->replay, r) || method_refuse_name(r, to) || method_refuse_root(v, r))
		return;
	struct environment *env = index_get(v->index, name);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
		return;
	}
	if (relocation_refuse_state(r, env) || relocation_refuse_taken(v, r, to))
		return;
	if (env->location != NULL)
		renaming_elsewhere(v, r, env, to);
	else
		renaming_begin(v, r, env, to, request_bool(r, "force"));
}

void rename_restore(struct venvd *v, struct request *r, struct environment *env, const char *to)
{
	renaming_begin(v, r, env, to, true);
}

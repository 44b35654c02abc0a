/* SPDX-License-Identifier: MIT */
/*
 * Rename, and Restore under another name: the tree keeps its identity, and everything in it that names its path is
 * written anew (worker/rename.c).
 *
 *   a worker prepares the new files and a journal in the stage -> the row says which name it is being given -> "go": files
 *   change places, the tree gets its name -> answer -> the row has the new name when there is time (relocation.h)
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
	struct relocation relocation;
	struct environment *place;      /* has the new name in the index */
	struct inuse_question question;
	json_t *warnings;
};

static void renaming_free(struct renaming *n)
{
	struct venvd *v = n->relocation.op.venvd;
	json_decref(n->warnings);
	free(n->relocation.entry);
	free(n);
	retention_arm(v->retention);
	venvd_stop_if_idle(v);
}

static void renaming_drop_place(struct renaming *n)
{
	n->place->busy = NULL;
	index_remove(n->relocation.op.venvd->index, n->place);
	n->place = NULL;
}

/* It is what it was. */
static void renaming_taken_back(struct renaming *n)
{
	struct venvd *v = n->relocation.op.venvd;
	struct environment *env = n->relocation.op.env;
	operation_take_back(&n->relocation.op);
	renaming_drop_place(n);
	free(env->new_name);
	env->new_name = NULL;
	if (n->relocation.has_row)
		store_put(v->store, env, NULL, NULL);
	retention_sweep(v->retention, json_pack("[s]", n->relocation.entry));
	operation_failed(&n->relocation.op);
	renaming_free(n);
}

/* found: what the worker saw of it under its new name; NULL: nobody has looked. */
static void renaming_finish(struct renaming *n, const json_t *found, bool left)
{
	struct venvd *v = n->relocation.op.venvd;
	struct environment *env = n->relocation.op.env;
	_cleanup_free_ char *old = xstrdup(env->name);
	if (left && env->state == STATE_TRASHED)
		retention_tidy(v->retention, env->entry, NULL, NULL);
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
	retention_sweep(v->retention, json_pack("[s]", n->relocation.entry));
	json_t *reply = method_environment(v, env);
	if (json_array_size(n->warnings) > 0)
		json_object_set(reply, "warnings", n->warnings);
	operation_reply(&n->relocation.op, reply);
	renaming_free(n);
}

static void renaming_settled(enum error_code code, const json_t *result, void *arg)
{
	struct renaming *n = arg;
	struct environment *env = n->relocation.op.env;
	if (code == ERROR_NONE && json_is_true(json_object_get(result, "renamed"))) {
		renaming_finish(n, NULL, true);
	} else if (code == ERROR_NONE) {
		renaming_taken_back(n);
	} else {
		/* Its row has the next start try again. */
		log_error("the renaming of '%s' could not be taken back: %s", env->name, job_reason(code, result));
		operation_take_back(&n->relocation.op);
		renaming_drop_place(n);
		operation_failed(&n->relocation.op);
		renaming_free(n);
	}
}

static void renaming_undo(struct relocation *m)
{
	struct renaming *n = (struct renaming *)m;
	if (!m->went) {
		renaming_taken_back(n);
		return;
	}
	json_t *order = json_pack("{s:s,s:s}", "op", "settle", "entry", m->entry);
	if (job_continue(m->op.venvd->jobs, order, 0, NULL, renaming_settled, n) == NULL)
		renaming_settled(ERROR_FAILED, NULL, n);
}

static void renaming_done(enum error_code code, const json_t *result, void *arg)
{
	struct renaming *n = arg;
	if (relocation_done(&n->relocation, code, result))
		renaming_finish(n, json_object_get(result, "environment"), json_is_true(json_object_get(result, "left")));
}

static void renaming_frame(const char *kind, const json_t *frame, void *arg)
{
	struct renaming *n = arg;
	struct operation *op = &n->relocation.op;
	(void)frame;
	if (strcmp(kind, "reserved") != 0 || op->error != ERROR_NONE)
		return;
	op->env->new_name = xstrdup(n->place->name);
	relocation_reserved(&n->relocation);
}

static void renaming_looked(enum error_code code, const json_t *parameters, json_t *warnings, void *arg)
{
	struct renaming *n = arg;
	struct operation *op = &n->relocation.op;
	n->warnings = json_incref(warnings);
	if (code != ERROR_NONE)
		operation_fail(op, code, parameters);
	if (op->error == ERROR_NONE)
		relocation_start(&n->relocation, "rename", op->env, n->place->name, renaming_frame, renaming_done);
	else
		relocation_roll_back(&n->relocation);
}

/* It keeps its name until it has another one, which nobody else gets meanwhile. */
static struct renaming *renaming_new(struct venvd *v, struct request *r, struct environment *env, const char *to)
{
	struct renaming *n = xcalloc(1, sizeof(*n));
	operation_begin(&n->relocation.op, v, r, env);
	n->place = environment_new(to);
	n->place->busy = &n->relocation.op;
	index_add(v->index, n->place);
	return n;
}

static void renaming_begin(struct venvd *v, struct request *r, struct environment *env, const char *to, bool force)
{
	/* Before the request's own time: by that the start tells whether it is this one's (reconcile.c). */
	char *entry = xasprintf(PATH_STAGE_RENAME "%lld~%s", (long long)now_us(), env->id);
	struct renaming *n = renaming_new(v, r, env, to);
	n->relocation.undo = renaming_undo;
	n->relocation.op.cancel = relocation_cancel;
	n->relocation.entry = entry;
	if (force)
		renaming_looked(ERROR_NONE, NULL, NULL, n);
	else
		inuse_look(v, r, env, &n->question, renaming_looked, n);
}

/* --- elsewhere: the catalog alone --- */

static void renaming_elsewhere_on_disk(bool ok, void *arg)
{
	struct renaming *n = arg;
	struct venvd *v = n->relocation.op.venvd;
	struct environment *env = n->relocation.op.env;
	_cleanup_free_ char *to = xstrdup(n->place->name);
	renaming_drop_place(n);
	if (ok) {
		log_info("'%s' is called '%s' now", env->name, to);
		env->new_name = xstrdup(to);
		relocation_named(v, env);
		operation_reply(&n->relocation.op, method_environment(v, env));
	} else {
		operation_fail_full(&n->relocation.op);
		operation_failed(&n->relocation.op);
	}
	renaming_free(n);
}

/* Until its row is on the disk it has its old name: that may fail. */
static void renaming_elsewhere(struct venvd *v, struct request *r, struct environment *env, const char *to)
{
	struct renaming *n = renaming_new(v, r, env, to);
	struct environment *row = environment_copy(env);
	free(row->name);
	row->name = xstrdup(to);
	operation_put_row(&n->relocation.op, row, renaming_elsewhere_on_disk, n);
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

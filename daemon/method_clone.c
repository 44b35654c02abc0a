/* SPDX-License-Identifier: MIT */
/*
 * Clone: a second environment of an existing one, under a name in the root.
 *
 *   a worker makes the whole copy in the stage, on the disk -> the row with its inode and the intent claim, with it what the
 *   request's id leads to -> "go": one rename, the root synced -> answer -> the row becomes ready when there is time
 *
 * From "go" on it is like a claim (creation.c): a directory of that inode at that name is complete. The first one is only
 * read; it is kept from being deleted or renamed meanwhile.
 */
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "operation.h"
#include "relocation.h"
#include "replay.h"
#include "retention.h"
#include "store.h"

struct cloning {
	struct operation op;            /* of the new one */
	struct environment *source;
	char *entry;                    /* of the stage */
	struct job *job;
	bool committing, has_row, went;
	enum error_code error;
	json_t *error_parameters;
};

static void cloning_free(struct cloning *c)
{
	struct venvd *v = c->op.venvd;
	c->source->busy = NULL;
	json_decref(c->error_parameters);
	free(c->entry);
	free(c);
	venvd_stop_if_idle(v);
}

static void cloning_fail(struct cloning *c, enum error_code code, const json_t *parameters)
{
	if (c->error != ERROR_NONE)
		return;
	c->error = code;
	c->error_parameters = parameters != NULL ? json_deep_copy(parameters) : NULL;
}

static void cloning_cancel(struct operation *op)
{
	struct cloning *c = (struct cloning *)op;
	cloning_fail(c, op->venvd->stopping ? ERROR_SHUTTING_DOWN : ERROR_CANCELLED, NULL);
	if (c->job != NULL)
		job_cancel(c->job);
}

static void cloning_undo(struct cloning *c)
{
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	operation_take_back(&c->op);
	c->op.env = NULL;
	if (c->has_row)
		store_drop(v->store, env->id, NULL, NULL, NULL);
	index_remove(v->index, env);
	retention_sweep(v->retention, json_pack("[s]", c->entry));
	operation_error(&c->op, c->error, json_incref(c->error_parameters));
	cloning_free(c);
}

static void cloning_discarded(enum error_code code, const json_t *result, void *arg)
{
	struct cloning *c = arg;
	struct environment *env = c->op.env;
	if (code == ERROR_NONE) {
		cloning_undo(c);
		return;
	}
	/* It is whole if it is there, and the next start keeps it. */
	log_error("the copy '%s' could not be taken away: %s", env->name, job_reason(code, result));
	operation_take_back(&c->op);
	word_set(&env->problem, "its creation failed, and what was made could not be taken away");
	index_set_state(c->op.venvd->index, env, STATE_BROKEN);
	operation_error(&c->op, c->error, json_incref(c->error_parameters));
	cloning_free(c);
}

static void cloning_roll_back(struct cloning *c)
{
	struct environment *env = c->op.env;
	if (c->job != NULL || c->committing)
		return;                 /* their end leads here again */
	c->op.cancel = NULL;
	if (!c->went) {
		cloning_undo(c);
		return;
	}
	json_t *order = json_pack("{s:s,s:s,s:I,s:I,s:s}", "op", "discard", "name", env->name, "ino",
	    (json_int_t)env->ino, "btime", (json_int_t)env->btime_ns, "entry", c->entry);
	if (!jobs_short(c->op.venvd->jobs, order, cloning_discarded, c))
		cloning_discarded(ERROR_FAILED, NULL, c);
}

static void cloning_done(enum error_code code, const json_t *result, void *arg)
{
	struct cloning *c = arg;
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	c->job = NULL;
	if (code != ERROR_NONE) {
		cloning_fail(c, code, result);
	} else if (!c->went) {
		json_t *parameters = json_pack("{s:s}", "reason", "its worker has done nothing");
		cloning_fail(c, ERROR_FAILED, parameters);
		json_decref(parameters);
	}
	if (c->error != ERROR_NONE) {
		cloning_roll_back(c);
		return;
	}
	environment_take_inspection(env, json_object_get(result, "environment"));
	enum environment_state state = env->state;
	env->state = STATE_CREATING;    /* the index keeps its counts by every change */
	env->intent = INTENT_NONE;
	index_set_state(v->index, env, state);
	log_info("copied '%s' to '%s'", c->source->name, env->name);
	store_put(v->store, env, NULL, NULL);
	operation_reply(&c->op, method_environment(v, env));
	cloning_free(c);
}

static void cloning_row_on_disk(bool ok, void *arg)
{
	struct cloning *c = arg;
	c->committing = false;
	if (!ok) {
		json_t *parameters = json_pack("{s:s}", "reason", "the catalog's file system is full");
		cloning_fail(c, ERROR_NO_SPACE, parameters);
		json_decref(parameters);
	}
	if (c->job == NULL) {
		cloning_roll_back(c);
	} else if (c->error != ERROR_NONE) {
		job_cancel(c->job);
	} else {
		c->went = true;
		job_send(c->job, json_pack("{s:b}", "go", true));
	}
}

static void cloning_frame(const char *kind, const json_t *frame, void *arg)
{
	struct cloning *c = arg;
	struct environment *env = c->op.env;
	if (strcmp(kind, "progress") == 0) {
		operation_progress(&c->op, json_pack("{s:O}", "stage", json_object_get(frame, "stage")));
		return;
	}
	if (strcmp(kind, "reserved") != 0 || c->error != ERROR_NONE)
		return;
	env->ino = json_integer_value(json_object_get(frame, "ino"));
	env->btime_ns = json_integer_value(json_object_get(frame, "btime"));
	env->intent = INTENT_CLAIM;
	c->committing = c->has_row = true;
	operation_put(&c->op, cloning_row_on_disk, c);
}

/* It is what the first one is, until somebody has looked at it. */
static struct environment *cloning_environment(const struct environment *source, const char *to)
{
	struct environment *env = environment_copy(source);
	id_new(env->id);
	free(env->name);
	free(env->location);
	env->name = xstrdup(to);
	word_set(&env->origin, "created");
	env->location = NULL;
	env->state = STATE_CREATING;
	env->protected = 0;
	env->created_at = now_us();
	return env;
}

static void cloning_begin(struct venvd *v, struct request *r, struct environment *source, const char *to)
{
	struct cloning *c = xcalloc(1, sizeof(*c));
	struct environment *env = cloning_environment(source, to);
	index_add(v->index, env);
	c->source = source;
	c->op.cancel = cloning_cancel;
	operation_begin(&c->op, v, r, env);
	source->busy = &c->op;
	c->entry = xasprintf("%s~%lld~%s", to, (long long)env->created_at, env->id);
	c->job = job_start(v->jobs, relocation_order(v, "clone", source, to, c->entry),
	    v->config.value[CONFIG_CREATE_MS], cloning_frame, cloning_done, c);
	if (c->job != NULL)
		return;
	json_t *parameters = job_refused(to);
	cloning_fail(c, ERROR_BUSY, parameters);
	json_decref(parameters);
	cloning_roll_back(c);
}

void method_clone(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name"), *to = request_string(r, "to");
	if (replay_answer(v->replay, r) || method_refuse_name(r, to) || method_refuse_root(v, r))
		return;
	struct environment *env = index_get(v->index, name);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
		return;
	}
	if (!relocation_refuse_state(r, env) && !relocation_refuse_taken(v, r, to))
		cloning_begin(v, r, env, to);
}

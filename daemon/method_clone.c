/* SPDX-License-Identifier: MIT */
/*
 * Clone: a second environment of an existing one, under a name in the root.
 *
 *   a worker makes the whole copy in the stage, on the disk -> the row with its inode and the intent claim -> "go": one rename
 *   -> answer -> the row becomes ready when there is time (relocation.h)
 *
 * From "go" on it is like a claim (creation.c): a directory of that inode at that name is complete. The first one is only
 * read; it is kept from being deleted or renamed meanwhile.
 */
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "log.h"
#include "method.h"
#include "relocation.h"
#include "replay.h"
#include "retention.h"
#include "store.h"
#include "watch.h"

struct cloning {
	struct relocation relocation;   /* of the new one */
	struct environment *source;
};

static void cloning_end(struct cloning *c)
{
	struct venvd *v = c->relocation.op.venvd;
	c->source->busy = NULL;
	watch_ended(v->watch, c->source);
	free(c->relocation.entry);
	free(c);
	venvd_stop_if_idle(v);
}

static void cloning_taken_away(struct cloning *c)
{
	struct operation *op = &c->relocation.op;
	struct venvd *v = op->venvd;
	struct environment *env = op->env;
	operation_take_back(op);
	op->env = NULL;
	if (c->relocation.has_row)
		store_drop(v->store, env->id, NULL, NULL, NULL);
	index_remove(v->index, env);
	retention_sweep(v->retention, json_pack("[s]", c->relocation.entry));
	operation_failed(op);
	cloning_end(c);
}

static void cloning_left(bool ok, void *arg)
{
	struct cloning *c = arg;
	(void)ok;               /* a full disk: the store keeps it for later */
	operation_failed(&c->relocation.op);
	cloning_end(c);
}

static void cloning_discarded(enum error_code code, const json_t *result, void *arg)
{
	struct cloning *c = arg;
	struct operation *op = &c->relocation.op;
	struct environment *env = op->env;
	if (code == ERROR_NONE) {
		cloning_taken_away(c);
		return;
	}
	/* It may be whole; but who has been told that it failed does not want it. The next start tries again. */
	log_error("the copy '%s' could not be taken away: %s", env->name, job_reason(code, result));
	operation_take_back(op);
	word_set(&env->problem, "its creation failed, and what was made could not be taken away");
	env->intent = INTENT_CREATE;
	index_set_state(op->venvd->index, env, STATE_BROKEN);
	store_put(op->venvd->store, env, cloning_left, c);
}

static void cloning_undo(struct relocation *m)
{
	struct cloning *c = (struct cloning *)m;
	const struct environment *env = m->op.env;
	if (!m->went) {
		cloning_taken_away(c);
		return;
	}
	json_t *order = json_pack("{s:s,s:s,s:I,s:I,s:s}", "op", "discard", "name", env->name, "ino",
	    (json_int_t)env->ino, "btime", (json_int_t)env->btime_ns, "entry", m->entry);
	if (!jobs_short_continue(m->op.venvd->jobs, order, cloning_discarded, c))
		cloning_discarded(ERROR_FAILED, NULL, c);
}

static void cloning_done(enum error_code code, const json_t *result, void *arg)
{
	struct cloning *c = arg;
	struct operation *op = &c->relocation.op;
	struct venvd *v = op->venvd;
	struct environment *env = op->env;
	if (!relocation_done(&c->relocation, code, result))
		return;
	environment_take_inspection(env, json_object_get(result, "environment"));
	enum environment_state state = env->state;
	env->state = STATE_CREATING;    /* the index keeps its counts by every change */
	env->intent = INTENT_NONE;
	index_set_state(v->index, env, state);
	log_info("copied '%s' to '%s'", c->source->name, env->name);
	store_put(v->store, env, NULL, NULL);
	operation_reply(op, method_environment(v, env));
	cloning_end(c);
}

static void cloning_frame(const char *kind, const json_t *frame, void *arg)
{
	struct cloning *c = arg;
	struct operation *op = &c->relocation.op;
	if (strcmp(kind, "progress") == 0) {
		operation_progress(op, json_pack("{s:O}", "stage", json_object_get(frame, "stage")));
	} else if (strcmp(kind, "reserved") == 0 && op->error == ERROR_NONE) {
		op->env->ino = json_integer_value(json_object_get(frame, "ino"));
		op->env->btime_ns = json_integer_value(json_object_get(frame, "btime"));
		op->env->intent = INTENT_CLAIM;
		relocation_reserved(&c->relocation);
	}
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
	struct relocation *m = &c->relocation;
	struct environment *env = cloning_environment(source, to);
	index_add(v->index, env);
	m->undo = cloning_undo;
	m->op.cancel = relocation_cancel;
	operation_begin(&m->op, v, r, env);
	c->source = source;
	source->busy = &m->op;
	m->entry = xasprintf("%s~%lld~%s", to, (long long)env->created_at, env->id);
	relocation_start(m, "clone", source, to, cloning_frame, cloning_done);
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

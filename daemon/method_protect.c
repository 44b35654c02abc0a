/* SPDX-License-Identifier: MIT */
/* Protect: a mark in an environment's row that the methods which would take its tree away look at. */
#include "events.h"
#include "index.h"
#include "method.h"
#include "operation.h"
#include "replay.h"
#include "store.h"

struct protection {
	struct operation op;
	signed char before;
};

static void protect_on_disk(bool ok, void *arg)
{
	struct protection *p = arg;
	struct venvd *v = p->op.venvd;
	if (ok) {
		events_changed(v->events, p->op.env);
		operation_reply(&p->op, method_environment(v, p->op.env));
	} else {
		p->op.env->protected = p->before;
		operation_error(&p->op, ERROR_NO_SPACE,
		    json_pack("{s:s}", "reason", "the catalog's file system is full"));
	}
	free(p);
	venvd_stop_if_idle(v);
}

/* Whatever is under way keeps a copy of the row and would put it back without the mark. */
static bool protect_refuse_state(struct request *r, const struct environment *env)
{
	const char *reason = env->state == STATE_CREATING ? "it is being created" : "another operation is under way";
	if (env->busy == NULL && env->state != STATE_CREATING && env->state != STATE_FOREIGN)
		return false;
	if (env->state == STATE_FOREIGN)
		request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", env->name, "reason",
		    "venvd never deletes what is foreign"));
	else
		request_error(r, ERROR_BUSY, json_pack("{s:s,s:s}", "name", env->name, "reason", reason));
	return true;
}

void method_protect(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	const json_t *wanted = request_value(r, "protected");
	if (replay_answer(v->replay, r))
		return;
	struct environment *env = index_get(v->index, name);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
		return;
	}
	if (protect_refuse_state(r, env))
		return;
	struct protection *p = xcalloc(1, sizeof(*p));
	p->before = env->protected;
	operation_begin(&p->op, v, r, env);
	env->protected = wanted == NULL || json_is_true(wanted);
	operation_put(&p->op, protect_on_disk, p);
}

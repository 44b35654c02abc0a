/* SPDX-License-Identifier: MIT */
/*
 * Adopt: an environment elsewhere, made by whatever tool, comes into the catalog where it is. A worker looks at it;
 * nothing is written into it, not a byte and not a time. From then on it is like one that was created with a path.
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
#include "store.h"

struct adoption {
	struct operation op;
	struct job *job;
	bool found;
	char *why;              /* it is none */
};

static void adopt_end(struct adoption *a, enum error_code code, json_t *parameters)
{
	struct venvd *v = a->op.venvd;
	struct environment *env = a->op.env;
	if (code == ERROR_NONE) {
		log_info("adopted '%s'", env->name);
		operation_reply(&a->op, method_environment(v, env));
	} else {
		operation_take_back(&a->op);
		a->op.env = NULL;
		index_remove(v->index, env);
		operation_error(&a->op, code, parameters);
	}
	free(a->why);
	free(a);
	venvd_stop_if_idle(v);
}

static void adopt_cancel(struct operation *op)
{
	struct adoption *a = (struct adoption *)op;
	if (a->job != NULL)
		job_cancel(a->job);
}

static void adopt_frame(const char *kind, const json_t *frame, void *arg)
{
	struct adoption *a = arg;
	struct environment *env = a->op.env;
	const json_t *found = json_array_get(json_object_get(frame, "environments"), 0);
	const char *what = json_string_value(json_object_get(found, "kind"));
	const char *problem = json_string_value(json_object_get(found, "problem"));
	(void)kind;
	a->found = what != NULL && strcmp(what, "environment") == 0;
	if (!a->found) {
		free(a->why);
		a->why = xasprintf("'%s' is no environment%s%s", env->location, problem != NULL ? ": " : "",
		    problem != NULL ? problem : "");
		return;
	}
	environment_take_inspection(env, found);
	enum environment_state state = env->state;
	env->state = STATE_CREATING;    /* the index keeps its counts by every change */
	index_set_state(a->op.venvd->index, env, state);
}

static void adopt_on_disk(bool ok, void *arg)
{
	if (ok)
		adopt_end(arg, ERROR_NONE, NULL);
	else
		adopt_end(arg, ERROR_NO_SPACE, json_pack("{s:s}", "reason", "the catalog's file system is full"));
}

/* The one that is this directory already, whatever links its path leads through; NULL. */
static const struct environment *adopt_same(const struct adoption *a)
{
	const struct index *index = a->op.venvd->index;
	const struct environment *ours = a->op.env, *env = index_next(index, NULL);
	while (env != NULL && (env == ours || env->state == STATE_MISSING || env->ino != ours->ino ||
	    env->btime_ns != ours->btime_ns))
		env = index_next(index, env->name);
	return env;
}

/* The one that has this directory in its trash: with that it would be removed one day. NULL. */
static const struct environment *adopt_trashed(const struct adoption *a)
{
	const struct index *index = a->op.venvd->index;
	const struct environment *ours = a->op.env, *env = index_trash_next(index, NULL, 0, NULL);
	while (env != NULL && (env->ino != ours->ino || env->btime_ns != ours->btime_ns))
		env = index_trash_next(index, env->name, env->deleted_at, env->id);
	return env;
}

static void adopt_refuse_trashed(struct adoption *a, const struct environment *trashed)
{
	_cleanup_free_ char *reason = xasprintf("'%s' is in the trash, as '%s'; venvctl restore takes it back",
	    a->op.env->location, trashed->name);
	adopt_end(a, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", a->op.env->name, "reason", reason));
}

static void adopt_looked(enum error_code code, const json_t *result, void *arg)
{
	struct adoption *a = arg;
	const struct environment *same;
	a->job = NULL;
	a->op.cancel = NULL;
	if (code != ERROR_NONE) {
		adopt_end(a, code, result != NULL ? json_deep_copy(result) : NULL);
	} else if (!a->found) {
		adopt_end(a, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", a->op.env->name, "reason",
		    a->why != NULL ? a->why : "it is no environment"));
	} else if ((same = adopt_same(a)) != NULL) {
		adopt_end(a, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", same->name, "state",
		    environment_state_name(same->state)));
	} else if ((same = adopt_trashed(a)) != NULL) {
		adopt_refuse_trashed(a, same);
	} else {
		operation_put(&a->op, adopt_on_disk, a);
	}
}

void method_adopt(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	method_plain_path(r);
	if (replay_answer(v->replay, r) || method_refuse_name(r, name) || method_refuse_path(v, r) ||
	    method_refuse_named(v, r, NULL) || relocation_refuse_taken(v, r, name))
		return;
	struct adoption *a = xcalloc(1, sizeof(*a));
	struct environment *env = environment_new(name);
	env->location = xstrdup(request_string(r, "path"));
	word_set(&env->origin, "adopted");
	index_add(v->index, env);
	a->op.cancel = adopt_cancel;
	operation_begin(&a->op, v, r, env);
	a->job = job_start(v->jobs, json_pack("{s:s,s:[],s:[s]}", "op", "inspect", "names", "paths", env->location), 0,
	    adopt_frame, adopt_looked, a);
	if (a->job == NULL)
		adopt_end(a, ERROR_BUSY, job_refused(name));
}

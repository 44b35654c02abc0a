/* SPDX-License-Identifier: MIT */
/* See relocation.h. */
#include "index.h"
#include "method.h"
#include "nameless.h"
#include "relocation.h"
#include "root.h"
#include "watch.h"

bool relocation_refuse_state(struct request *r, const struct environment *env)
{
	_cleanup_free_ char *reason = NULL;
	enum error_code code = ERROR_UNSUPPORTED;
	if (env->busy != NULL || env->state == STATE_CREATING) {
		code = ERROR_BUSY;
		reason = xstrdup(env->busy == NULL ? "it is being created" : "another operation is under way");
	} else if (env->state == STATE_FOREIGN) {
		reason = xasprintf("it is not venvd's to change or copy: %s",
		    env->problem != NULL ? env->problem : "foreign");
	} else if (env->state == STATE_MISSING) {
		reason = xstrdup("its directory is gone");
	}
	if (reason != NULL)
		request_error(r, code, json_pack("{s:s,s:s}", "name", env->name, "reason", reason));
	return reason != NULL;
}

bool relocation_refuse_taken(struct venvd *v, struct request *r, const char *name)
{
	struct environment *there = index_get(v->index, name);
	if (there == NULL)
		return false;
	/* Somebody may have removed it a moment ago. */
	if (there->busy == NULL && watch_defer(v->watch, name, r, method_again))
		return true;
	if (there->state == STATE_MISSING && there->busy == NULL) {
		nameless_displace(v, r, there);
		return false;
	}
	request_error(r, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", name,
	    "state", environment_state_name(there->state)));
	return true;
}

static char *below(const char *root, const char *name)
{
	return xasprintf("%s/%s", root[0] == '/' && root[1] == '\0' ? "" : root, name);
}

char *relocation_path(const struct venvd *v, const struct environment *env)
{
	return env->location != NULL ? xstrdup(env->location) : below(v->config.root, env->name);
}

json_t *relocation_source(const struct venvd *v, const struct environment *env)
{
	const char *real = root_real(v->root);
	_cleanup_free_ char *from = relocation_path(v, env);
	_cleanup_free_ char *also = env->location == NULL && real != NULL ? below(real, env->name) : NULL;
	json_t *paths = json_pack("[s]", from);
	json_t *spelling = also != NULL ? json_string(also) : NULL;
	if (spelling != NULL)           /* else it is not UTF-8, and nothing that we have made spells it so */
		json_array_append_new(paths, spelling);
	return json_pack("{s:s,s:I,s:I,s:o,s:s*,s:s*}", "name", env->name, "ino", (json_int_t)env->ino,
	    "btime", (json_int_t)env->btime_ns, "paths", paths,
	    "trash", env->state == STATE_TRASHED ? env->entry : NULL, "location", env->location);
}

/* --- its course --- */

void relocation_cancel(struct operation *op)
{
	struct relocation *m = (struct relocation *)op;
	operation_fail(op, op->venvd->stopping ? ERROR_SHUTTING_DOWN : ERROR_CANCELLED, NULL);
	if (m->job != NULL)
		job_cancel(m->job);
}

void relocation_roll_back(struct relocation *m)
{
	if (m->job != NULL || m->committing)
		return;                 /* their end leads here again */
	m->op.cancel = NULL;
	m->undo(m);
}

void relocation_start(struct relocation *m, const char *what, const struct environment *tree, const char *to,
    job_frame_fn *frame, job_done_fn *done)
{
	struct venvd *v = m->op.venvd;
	_cleanup_free_ char *path = below(v->config.root, to);
	json_t *order = json_pack("{s:s,s:s,s:s,s:s,s:o,s:s}", "op", what, "name", to, "entry", m->entry, "path", path,
	    "source", relocation_source(v, tree), "linkMode", v->config.link_mode);
	m->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], frame, done, m);
	if (m->job != NULL)
		return;
	operation_fail_refused(&m->op);
	relocation_roll_back(m);
}

static void relocation_row_on_disk(bool ok, void *arg)
{
	struct relocation *m = arg;
	m->committing = false;
	if (!ok)
		operation_fail_full(&m->op);
	if (m->job == NULL) {
		relocation_roll_back(m);
	} else if (m->op.error != ERROR_NONE) {
		job_cancel(m->job);
	} else {
		m->went = true;
		m->op.cancel = NULL;    /* it is over before anybody could */
		job_send(m->job, json_pack("{s:b}", "go", true));
	}
}

void relocation_reserved(struct relocation *m)
{
	m->committing = m->has_row = true;
	operation_put(&m->op, relocation_row_on_disk, m);
}

bool relocation_done(struct relocation *m, enum error_code code, const json_t *result)
{
	m->job = NULL;
	if (code != ERROR_NONE)
		operation_fail(&m->op, code, result);
	else if (!m->went)
		operation_fail_reason(&m->op, ERROR_FAILED, "its worker has done nothing");
	if (m->op.error == ERROR_NONE)
		return true;
	relocation_roll_back(m);
	return false;
}

/* --- a new name --- */

void relocation_name(struct environment *env)
{
	free(env->name);
	env->name = env->new_name;
	env->new_name = NULL;
	if (env->state == STATE_TRASHED) {
		env->state = env->problem != NULL ? STATE_BROKEN : STATE_READY;
		env->deleted_at = env->expires_at = 0;
		free(env->entry);
		env->entry = NULL;
	}
}

void relocation_named(struct venvd *v, struct environment *env)
{
	index_take(v->index, env);
	relocation_name(env);
	index_add(v->index, env);
}

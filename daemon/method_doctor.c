/* SPDX-License-Identifier: MIT */
/*
 * Diagnose and Repair: what is wrong with environments in sentences, and what can be mended of it. Both are a worker's work
 * (worker/diagnose.c, repair.c).
 *
 * To look at all of them is one long order after the other, DIAGNOSE_BATCH environments each; between two the place is a name, so
 * what comes and goes meanwhile does no harm. A repair needs no intent: it replaces files that are each whole at any
 * moment, and what a crash leaves of it is diagnosed again.
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

#define DIAGNOSE_BATCH 64

/* --- Diagnose --- */

struct examination {
	struct request *request;        /* NULL: its client is gone */
	struct venvd *venvd;
	struct job *job;
	char *last;                     /* the name that the batch ends with; NULL before the first */
	bool only_one;
	size_t looked;
	json_t *held;                   /* the last one that was told, for the last reply; NULL */
};

static void examination_free(struct examination *e)
{
	json_decref(e->held);
	free(e->last);
	free(e);
}

static void examination_gone(struct request *r, void *arg)
{
	struct examination *e = arg;
	e->request = NULL;
	job_cancel(e->job);
	request_error(r, ERROR_CANCELLED, NULL);        /* to nobody: it ends the request */
}

/* With `more` each goes out when the next one is known, so that the last comes with the end. */
static void examination_tell(struct examination *e, const json_t *name, json_t *findings, json_t *mapped)
{
	e->looked++;
	if (json_array_size(findings) == 0 && (!e->only_one || json_array_size(mapped) == 0))
		return;
	if (e->held != NULL && e->request != NULL)
		request_progress(e->request, json_pack("{s:o}", "diagnosis", e->held));
	else
		json_decref(e->held);
	e->held = json_pack("{s:O,s:O,s:O*}", "name", name, "findings", findings,
	    "mapped", json_array_size(mapped) > 0 ? mapped : NULL);
}

static void examination_frame(const char *kind, const json_t *frame, void *arg)
{
	json_t *findings = json_object_get(frame, "findings");
	if (strcmp(kind, "diagnosis") == 0 && json_is_array(findings))
		examination_tell(arg, json_object_get(frame, "name"), findings, json_object_get(frame, "mapped"));
}

/* Why nobody needs to look at it; NULL if somebody does. */
static json_t *examination_known(const struct environment *env)
{
	const char *kind = "missing";
	_cleanup_free_ char *text = NULL;
	if (env->state == STATE_MISSING) {
		text = xstrdup("its directory is gone");
	} else if (env->state == STATE_FOREIGN) {
		kind = "unreadable";
		text = xasprintf("it is not venvd's to look into: %s", env->problem != NULL ? env->problem : "foreign");
	} else {
		return NULL;
	}
	return json_pack("[{s:s,s:s,s:b}]", "kind", kind, "text", text, "repairable", false);
}

static void examination_next(struct examination *e);

static void examination_end(struct examination *e)
{
	if (e->request != NULL) {
		request_on_gone(e->request, NULL, NULL);
		request_reply(e->request, json_pack("{s:O*,s:I}", "diagnosis", e->held, "looked", (json_int_t)e->looked));
	}
	examination_free(e);
}

static void examination_done(enum error_code code, const json_t *result, void *arg)
{
	struct examination *e = arg;
	e->job = NULL;
	if (e->request != NULL && code != ERROR_NONE) {
		request_on_gone(e->request, NULL, NULL);
		request_error(e->request, code, result != NULL ? json_deep_copy(result) : NULL);
		e->request = NULL;
	}
	if (e->request == NULL)
		examination_free(e);
	else if (e->only_one)
		examination_end(e);
	else
		examination_next(e);
}

static void examination_add(struct examination *e, json_t *batch, const struct environment *env)
{
	json_t *known = examination_known(env);
	if (known != NULL) {
		json_t *name = json_string(env->name);
		/* One that is nobody's is an answer only for whoever asks for it. */
		if (e->only_one || env->state != STATE_FOREIGN)
			examination_tell(e, name, known, NULL);
		json_decref(name);
		json_decref(known);
		return;
	}
	_cleanup_free_ char *path = relocation_path(e->venvd, env);
	json_array_append_new(batch, json_pack("{s:s,s:o}", "path", path, "source",
	    relocation_source(e->venvd, env)));
}

/* Takes batch. The first order waits for a place as any other does. */
static void examination_order(struct examination *e, json_t *batch, bool first)
{
	struct jobs *jobs = e->venvd->jobs;
	if (json_array_size(batch) == 0) {
		json_decref(batch);
		examination_end(e);
		return;
	}
	json_t *order = json_pack("{s:s,s:o}", "op", "diagnose", "environments", batch);
	e->job = first ? job_start(jobs, order, 0, examination_frame, examination_done, e) :
	    job_continue(jobs, order, 0, examination_frame, examination_done, e);
	if (e->job != NULL) {
		request_on_gone(e->request, examination_gone, e);
		return;
	}
	json_t *parameters = job_refused(NULL);
	examination_done(first ? ERROR_BUSY : ERROR_SHUTTING_DOWN, first ? parameters : NULL, e);
	json_decref(parameters);
}

static void examination_next(struct examination *e)
{
	bool first = e->last == NULL;
	const struct environment *env;
	json_t *batch = json_array();
	while (json_array_size(batch) < DIAGNOSE_BATCH && (env = index_next(e->venvd->index, e->last)) != NULL) {
		free(e->last);
		e->last = xstrdup(env->name);
		if (env->busy == NULL && env->state != STATE_CREATING)
			examination_add(e, batch, env);
	}
	examination_order(e, batch, first);
}

void method_diagnose(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	const struct environment *env = name != NULL ? index_get(v->index, name) : NULL;
	if (name != NULL && env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
		return;
	}
	if (name == NULL && !r->call.more) {
		request_error(r, ERROR_EXPECTED_MORE, NULL);
		return;
	}
	if (env != NULL && (env->busy != NULL || env->state == STATE_CREATING)) {
		request_error(r, ERROR_BUSY, json_pack("{s:s,s:s}", "name", name, "reason", "another operation is under way"));
		return;
	}
	if (method_refuse_root(v, r))
		return;
	struct examination *e = xcalloc(1, sizeof(*e));
	e->request = r;
	e->venvd = v;
	if (env == NULL) {
		examination_next(e);
		return;
	}
	json_t *batch = json_array();
	e->only_one = true;
	examination_add(e, batch, env);
	examination_order(e, batch, true);
}

/* --- Repair --- */

struct repair {
	struct operation op;
	struct job *job;
	json_t *reply;          /* once it is done */
};

static void repair_end(struct repair *p, enum error_code code, json_t *parameters)
{
	struct venvd *v = p->op.venvd;
	if (code != ERROR_NONE) {
		operation_take_back(&p->op);
		operation_error(&p->op, code, parameters);
		json_decref(p->reply);
	} else {
		operation_reply(&p->op, p->reply);
	}
	free(p);
	venvd_stop_if_idle(v);
}

static void repair_cancel(struct operation *op)
{
	struct repair *p = (struct repair *)op;
	if (p->job != NULL)
		job_cancel(p->job);
}

static void repair_frame(const char *kind, const json_t *frame, void *arg)
{
	struct repair *p = arg;
	if (strcmp(kind, "progress") == 0)
		operation_progress(&p->op, json_pack("{s:O}", "stage", json_object_get(frame, "stage")));
}

static void repair_on_disk(bool ok, void *arg)
{
	struct repair *p = arg;
	if (ok) {
		repair_end(p, ERROR_NONE, NULL);
		return;
	}
	store_put(p->op.venvd->store, p->op.env, NULL, NULL);   /* it is mended; its row follows when there is room */
	repair_end(p, ERROR_NO_SPACE, json_pack("{s:s}", "reason", "the catalog's file system is full"));
}

static void repair_done(enum error_code code, const json_t *result, void *arg)
{
	struct repair *p = arg;
	struct environment *env = p->op.env;
	p->job = NULL;
	p->op.cancel = NULL;
	if (code != ERROR_NONE) {
		repair_end(p, code, result != NULL ? json_deep_copy(result) : NULL);
		return;
	}
	enum environment_state before = env->state;
	environment_take_inspection(env, json_object_get(result, "environment"));
	enum environment_state now = env->state;
	env->state = before;            /* the index keeps its counts by every change */
	index_set_state(p->op.venvd->index, env, now);
	p->reply = method_environment(p->op.venvd, env);
	json_object_set(p->reply, "repaired", json_object_get(result, "repaired"));
	json_object_set(p->reply, "remaining", json_object_get(result, "remaining"));
	log_info("repaired '%s': %zu mended, %zu left", env->name, json_array_size(json_object_get(result, "repaired")),
	    json_array_size(json_object_get(result, "remaining")));
	operation_put(&p->op, repair_on_disk, p);
}

void method_repair(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	if (replay_answer(v->replay, r) || method_refuse_caller(r) || method_refuse_root(v, r))
		return;
	struct environment *env = index_get(v->index, name);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
		return;
	}
	if (relocation_refuse_state(r, env))
		return;
	struct repair *p = xcalloc(1, sizeof(*p));
	_cleanup_free_ char *path = relocation_path(v, env);
	p->op.cancel = repair_cancel;
	operation_begin(&p->op, v, r, env);
	json_t *order = json_pack("{s:s,s:s,s:o,s:o,s:I,s:o}", "op", "repair", "path", path, "source",
	    relocation_source(v, env), "search", method_search(v), "probeMs",
	    (json_int_t)v->config.value[CONFIG_PROBE_MS], "caller", method_caller(r));
	p->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], repair_frame, repair_done, p);
	if (p->job == NULL)
		repair_end(p, ERROR_BUSY, job_refused(name));
}

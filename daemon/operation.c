/* SPDX-License-Identifier: MIT */
/*
 * See operation.h. Owns the list of operations under way, so that the end of the daemon can cancel them
 * and knows when none is left, and the count of their beginnings and ends. An operation is cancelled by its last waiter's leaving, unless it is one
 * that runs to its end (oneway, with a requestId, or a client that half-closed first: the server then
 * only orphans the request and does not tell).
 */
#include "catchup.h"
#include "index.h"
#include "job.h"
#include "nameless.h"
#include "operation.h"
#include "replay.h"
#include "venvd.h"
#include "watch.h"

static TAILQ_HEAD(, operation) operations = TAILQ_HEAD_INITIALIZER(operations);
static uint64_t moment;

uint64_t operation_moment(void)
{
	return moment;
}

bool operation_has_had(const struct environment *env, uint64_t since)
{
	return env->busy != NULL || (env->touched > since && env->state != STATE_MISSING);
}

static void operation_gone(struct request *r, void *arg)
{
	struct operation *op = arg;
	struct request *other;
	TAILQ_FOREACH(other, &op->waiters, entry)
		if (other != r && other->conn != NULL)
			return;
	if (!op->runs_to_its_end && op->cancel != NULL)
		op->cancel(op);
}

void operation_attach(struct operation *op, struct request *r)
{
	TAILQ_INSERT_TAIL(&op->waiters, r, entry);
	request_on_gone(r, operation_gone, op);
}

void operation_begin(struct operation *op, struct venvd *v, struct request *r, struct environment *env)
{
	op->venvd = v;
	op->env = env;
	catchup_record(v, env);
	env->busy = op;
	env->touched = ++moment;
	TAILQ_INIT(&op->waiters);
	op->runs_to_its_end = r->conn == NULL || request_string(r, "requestId") != NULL;
	op->replay = replay_begin(v->replay, r, op);
	TAILQ_INSERT_TAIL(&operations, op, entry);
	operation_attach(op, r);
}

void operation_progress(struct operation *op, json_t *parameters)
{
	struct request *r;
	TAILQ_FOREACH(r, &op->waiters, entry)
		request_progress(r, json_incref(parameters));
	json_decref(parameters);
}

void operation_put(struct operation *op, store_done_fn *done, void *arg)
{
	operation_put_row(op, op->env, done, arg);
}

void operation_put_row(struct operation *op, const struct environment *row, store_done_fn *done, void *arg)
{
	store_put_both(op->venvd->store, row, replay_success(op->replay, row->id), done, arg);
}

void operation_drop_row(struct operation *op, store_done_fn *done, void *arg)
{
	store_drop(op->venvd->store, op->env->id, replay_success(op->replay, ""), done, arg);
}

void operation_take_back(struct operation *op)
{
	replay_take_back(op->venvd->replay, op->replay);
}

/* An outcome on its way out. */
struct answer {
	struct request_list waiters;
	enum error_code code;
	json_t *parameters;
};

static void operation_answer(bool ok, void *arg)
{
	struct answer *a = arg;
	struct request *r;
	(void)ok;               /* a full disk: the id is remembered until our end, at least */
	while ((r = TAILQ_FIRST(&a->waiters)) != NULL) {
		TAILQ_REMOVE(&a->waiters, r, entry);
		if (a->code == ERROR_NONE)
			request_reply(r, json_incref(a->parameters));
		else
			request_error(r, a->code, json_incref(a->parameters));
	}
	json_decref(a->parameters);
	free(a);
}

/* What is remembered under a request id is on the disk before anybody is told of it. */
static void operation_end(struct operation *op, const char *env_id, enum error_code code, json_t *parameters)
{
	struct answer *a = xcalloc(1, sizeof(*a));
	struct request *r;
	if (code == ERROR_CANCELLED && op->venvd->stopping) {   /* by our end: whoever asks the next daemon has it done */
		code = ERROR_SHUTTING_DOWN;
		json_decref(parameters);
		parameters = NULL;
	}
	a->code = code;
	a->parameters = parameters;
	TAILQ_INIT(&a->waiters);
	TAILQ_FOREACH(r, &op->waiters, entry) {
		request_on_gone(r, NULL, NULL);
		if (code != ERROR_NONE && r->displaced[0] != '\0')
			nameless_come_back(op->venvd, r->displaced);
	}
	TAILQ_CONCAT(&a->waiters, &op->waiters, entry);
	TAILQ_REMOVE(&operations, op, entry);
	bool remembered = replay_end(op->venvd->replay, op->replay, env_id, code, parameters, operation_answer, a);
	if (op->env != NULL) {
		op->env->busy = NULL;
		op->env->touched = ++moment;
	}
	watch_ended(op->venvd->watch, op->env);
	op->env = NULL;
	json_decref(op->error_parameters);      /* what had gone wrong with one that has come to its end after all */
	op->error_parameters = NULL;
	if (!remembered)
		operation_answer(true, a);
}

void operation_reply(struct operation *op, json_t *parameters)
{
	operation_end(op, op->env != NULL ? op->env->id : "", ERROR_NONE, parameters);
}

void operation_error(struct operation *op, enum error_code code, json_t *parameters)
{
	operation_end(op, "", code, parameters);
}

void operation_fail(struct operation *op, enum error_code code, const json_t *parameters)
{
	if (op->error != ERROR_NONE)
		return;
	op->error = code;
	op->error_parameters = parameters != NULL ? json_deep_copy(parameters) : NULL;
}

void operation_fail_reason(struct operation *op, enum error_code code, const char *reason)
{
	json_t *parameters = json_pack("{s:s}", "reason", reason);
	operation_fail(op, code, parameters);
	json_decref(parameters);
}

void operation_fail_full(struct operation *op)
{
	operation_fail_reason(op, ERROR_NO_SPACE, "the catalog's file system is full");
}

void operation_fail_refused(struct operation *op)
{
	json_t *parameters = op->venvd->stopping ? NULL : job_refused(op->env->name);
	operation_fail(op, op->venvd->stopping ? ERROR_SHUTTING_DOWN : ERROR_BUSY, parameters);
	json_decref(parameters);
}

/* Other errors promise that nothing was changed. */
void operation_fail_changed(struct operation *op, const char *what)
{
	bool promises = op->error == ERROR_NO_SPACE || op->error == ERROR_CANCELLED;
	if (op->error == ERROR_NONE || (!promises && json_object_get(op->error_parameters, "reason") == NULL))
		return;
	json_t *reason = json_sprintf("%s; %s", job_reason(op->error, op->error_parameters), what);
	if (promises) {
		op->error = ERROR_FAILED;
		json_decref(op->error_parameters);
		op->error_parameters = json_object();
	}
	json_object_set_new(op->error_parameters, "reason", reason);
}

void operation_failed(struct operation *op)
{
	json_t *parameters = op->error_parameters;
	op->error_parameters = NULL;
	operation_error(op, op->error, parameters);
}

void operation_cancel_all(void)
{
	struct operation *op, *next;
	for (op = TAILQ_FIRST(&operations); op != NULL; op = next) {
		next = TAILQ_NEXT(op, entry);
		if (op->cancel != NULL)
			op->cancel(op);
	}
}

bool operation_none(void)
{
	return TAILQ_EMPTY(&operations);
}

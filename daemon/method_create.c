/* SPDX-License-Identifier: MIT */
/*
 * Create, by the in-place builder: the interpreter's own `python -m venv` at the final path.
 *
 *   accepted    the name is taken in the index (state creating); the worker resolves the interpreter and
 *               makes stage/ENTRY, whose inode it reports
 *   reserved    the intent row with that inode is committed; then "go"
 *   building    the worker renames the reservation to NAME (never over anything) and runs venv in it
 *   built       everything is on the disk; the row is committed as ready
 *   answered
 *
 * A complete and a half-made tree look alike from outside, so here the ready row goes to the disk before
 * the answer. Whatever goes wrong after "go" ends with the tree in the stage (found by its inode, so
 * nothing else can be hit), the row dropped, and only then the error: then nothing remains.
 */
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "operation.h"
#include "replay.h"
#include "retention.h"
#include "store.h"

struct creation {
	struct operation op;
	struct job *job;                /* NULL before and after */
	char *entry;                    /* its name in the stage */
	char *interpreter_reason;
	bool committing;                /* a row is on its way to the disk: we are not freed before */
	bool has_row;
	bool went;                      /* "go" was said: NAME may be there */
	enum error_code error;          /* what will be answered once it is rolled back */
	json_t *error_parameters;
};

static void create_roll_back(struct creation *);

static void create_free(struct creation *c)
{
	free(c->entry);
	free(c->interpreter_reason);
	json_decref(c->error_parameters);
	free(c);
}

/* Remembers the first thing that went wrong. */
static void create_fail(struct creation *c, enum error_code code, const json_t *parameters)
{
	if (c->error != ERROR_NONE)
		return;
	c->error = code;
	c->error_parameters = parameters != NULL ? json_deep_copy(parameters) : NULL;
}

static void create_cancel(struct operation *op)
{
	struct creation *c = (struct creation *)op;
	create_fail(c, op->venvd->stopping ? ERROR_SHUTTING_DOWN : ERROR_CANCELLED, NULL);
	if (c->job != NULL)
		job_cancel(c->job);
}

/* --- the way back --- */

static void create_answer_error(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	operation_error(&c->op, c->error, json_incref(c->error_parameters));
	create_free(c);
	venvd_stop_if_idle(v);
}

static void create_refuse(struct creation *c)
{
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	c->op.env = NULL;
	if (c->has_row) {
		store_drop(v->store, env->id, NULL, NULL);
		retention_sweep(v->retention, json_pack("[s]", c->entry));
	}
	index_remove(v->index, env);
	create_answer_error(c);
}

static void create_discarded(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	struct environment *env = c->op.env;
	if (code == ERROR_NONE) {
		create_refuse(c);
		return;
	}
	log_error("what was made of '%s' could not be taken away: %s", env->name,
	    job_reason(code, result));
	/* Its row stays, and with it the intent: the next start tries again, and adopts nothing half-made. */
	env->intent = INTENT_CREATE;
	free(env->problem);
	env->problem = xstrdup("its creation failed, and what was made could not be taken away");
	index_set_state(c->op.venvd->index, env, STATE_BROKEN);
	create_answer_error(c);
}

static void create_roll_back(struct creation *c)
{
	struct environment *env = c->op.env;
	if (c->job != NULL || c->committing)
		return;                 /* their end leads here again */
	c->op.cancel = NULL;
	if (!c->went) {
		create_refuse(c);
		return;
	}
	json_t *order = json_pack("{s:s,s:s,s:I,s:I,s:s}", "op", "discard", "name", env->name,
	    "ino", (json_int_t)env->ino, "btime", (json_int_t)env->btime_ns, "entry", c->entry);
	if (!jobs_short(c->op.venvd->jobs, order, create_discarded, c))
		create_discarded(ERROR_FAILED, NULL, c);
}

/* --- the way forward --- */

static void create_ready(bool ok, void *arg)
{
	struct creation *c = arg;
	struct venvd *v = c->op.venvd;
	struct environment *env = c->op.env;
	c->committing = false;
	if (!ok) {
		json_t *parameters = json_pack("{s:s}", "reason", "the catalog's file system is full");
		create_fail(c, ERROR_NO_SPACE, parameters);
		json_decref(parameters);
		create_roll_back(c);
		return;
	}
	json_t *reply = method_environment(v, env);
	if (c->interpreter_reason != NULL)
		json_object_set_new(reply, "interpreterReason", json_string(c->interpreter_reason));
	_cleanup_free_ char *interpreter = text_printable(env->interpreter != NULL ? env->interpreter : "?");
	log_info("created '%s' with %s", env->name, interpreter);
	operation_reply(&c->op, reply);
	create_free(c);
	venvd_stop_if_idle(v);
}

static void create_done(enum error_code code, const json_t *result, void *arg)
{
	struct creation *c = arg;
	struct environment *env = c->op.env;
	c->job = NULL;
	if (code != ERROR_NONE)
		create_fail(c, code, result);
	if (c->error != ERROR_NONE) {
		create_roll_back(c);
		return;
	}
	c->op.cancel = NULL;
	environment_take_inspection(env, json_object_get(result, "environment"));
	env->intent = INTENT_NONE;
	index_set_state(c->op.venvd->index, env, env->state);
	c->committing = true;
	store_put(c->op.venvd->store, env, create_ready, c);
}

static void create_intent_on_disk(bool ok, void *arg)
{
	struct creation *c = arg;
	c->committing = false;
	if (ok && c->error == ERROR_NONE && c->job != NULL) {
		c->went = true;
		job_send(c->job, json_pack("{s:b}", "go", true));
		return;
	}
	if (!ok) {
		json_t *parameters = json_pack("{s:s}", "reason", "the catalog's file system is full");
		create_fail(c, ERROR_NO_SPACE, parameters);
		json_decref(parameters);
	}
	if (c->job != NULL)
		job_cancel(c->job);
	create_roll_back(c);
}

static void create_reserved(struct creation *c, const json_t *frame)
{
	struct environment *env = c->op.env;
	const json_t *interpreter = json_object_get(frame, "interpreter");
	const char *reason = json_string_value(json_object_get(frame, "reason"));
	env->ino = json_integer_value(json_object_get(frame, "ino"));
	env->btime_ns = json_integer_value(json_object_get(frame, "btime"));
	free(env->interpreter);
	free(env->implementation);
	free(env->version);
	env->interpreter = xstrdup(json_string_value(json_object_get(interpreter, "path")));
	env->implementation = xstrdup(json_string_value(json_object_get(interpreter, "implementation")));
	env->version = xstrdup(json_string_value(json_object_get(interpreter, "version")));
	c->interpreter_reason = xstrdup(reason);
	c->committing = true;
	c->has_row = true;
	store_put(c->op.venvd->store, env, create_intent_on_disk, c);
}

static void create_frame(const char *kind, const json_t *frame, void *arg)
{
	struct creation *c = arg;
	if (strcmp(kind, "progress") == 0) {
		const char *stage = json_string_value(json_object_get(frame, "stage"));
		operation_progress(&c->op, json_pack("{s:s*}", "stage", stage));
	} else if (strcmp(kind, "reserved") == 0 && c->error == ERROR_NONE) {
		create_reserved(c, frame);
	}
}

/* --- what is asked for --- */

/* The prompt goes into files as one line of text, and onto terminals. */
static bool create_refuse_prompt(struct request *r)
{
	const char *prompt = request_string(r, "prompt");
	if (prompt == NULL)
		return false;
	for (const unsigned char *p = (const unsigned char *)prompt; *p != '\0'; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			request_invalid(r, "prompt");
			return true;
		}
	}
	return method_refuse_length(r, "prompt", LIMIT_PROMPT_BYTES);
}

static json_t *create_options(const struct request *r)
{
	static const char *const flags[] = {
		"withoutPip", "systemSitePackages", "copies", "withoutScmIgnoreFiles", "clear", "upgrade",
		"upgradeDeps",
	};
	json_t *python = json_array(), *spec;
	size_t i;
	if (request_string(r, "python") != NULL)
		json_array_append_new(python, json_string(request_string(r, "python")));
	json_array_foreach(json_object_get(r->parameters, "pythonAlternatives"), i, spec)
		json_array_append(python, spec);
	json_t *options = json_pack("{s:o,s:s?}", "python", python, "prompt", request_string(r, "prompt"));
	for (i = 0; i < ARRAY_LENGTH(flags); i++)
		json_object_set_new(options, flags[i], json_boolean(request_bool(r, flags[i])));
	return options;
}

static json_t *create_order(const struct venvd *v, const struct request *r, const char *entry)
{
	const char *given = request_string(r, "path"), *name = request_string(r, "name");
	_cleanup_free_ char *path = given ? xstrdup(given) : xasprintf("%s/%s", v->config.root, name);
	json_t *order = json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:o,s:{s:[],s:b},s:I}", "op", "create", "name",
	    name, "entry", entry, "root", v->config.root, "path", path, "elsewhere", given != NULL,
	    "options", create_options(r), "search", "dirs", "managedFirst", 0,
	    "probeMs", (json_int_t)v->config.value[CONFIG_PROBE_MS]);
	json_object_set_new(order, "caller", method_caller(r));
	return order;
}

/* A name whose directory is gone is free again: its row goes. Answered; true if it was not free. */
static bool create_refuse_taken(struct venvd *v, struct request *r, const char *name)
{
	struct environment *there = index_get(v->index, name);
	if (there == NULL)
		return false;
	if (there->state != STATE_MISSING || there->busy != NULL) {
		request_error(r, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", name,
		    "state", environment_state_name(there->state)));
		return true;
	}
	store_drop(v->store, there->id, NULL, NULL);
	index_remove(v->index, there);
	return false;
}

void method_create(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	if (replay_answer(v->replay, r) || method_refuse_name(r, name) || create_refuse_prompt(r) ||
	    method_refuse_length(r, "python", LIMIT_PYTHON_BYTES) || method_refuse_caller(r))
		return;
	if (jobs_queued(v->jobs) >= (size_t)v->config.value[CONFIG_JOBS_QUEUED]) {
		request_error(r, ERROR_BUSY, job_refused(name));
		return;
	}
	if (create_refuse_taken(v, r, name))
		return;
	struct environment *env = environment_new(name);
	env->intent = INTENT_CREATE;
	env->origin = xstrdup("created");
	env->created_at = now_us();
	index_add(v->index, env);
	struct creation *c = xcalloc(1, sizeof(*c));
	c->entry = xasprintf("%s~%lld~%s", name, (long long)env->created_at, env->id);
	json_t *order = create_order(v, r, c->entry);
	c->op.cancel = create_cancel;
	operation_begin(&c->op, v, r, env);
	c->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], create_frame, create_done, c);
	if (c->job == NULL) {
		create_fail(c, ERROR_SHUTTING_DOWN, NULL);
		create_roll_back(c);
	} else if (jobs_running(v->jobs) + jobs_queued(v->jobs) >
	           (size_t)v->config.value[CONFIG_JOBS_RUNNING]) {
		/* What waits is served in order: ours is the last of it. */
		operation_progress(&c->op, json_pack("{s:s}", "stage", "queued"));
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * Interpreters: listing them, finding the one that a specification means, and those that are added by hand. A
 * worker does all of it, in an order of its own; what it learns it remembers in files (daemon/worker/known.c), and
 * nothing of it is kept here.
 */
#include <string.h>

#include "bounds.h"
#include "job.h"
#include "method.h"

/* One call that waits for its order. */
struct search {
	struct request *request;        /* NULL: its client is gone */
	struct job *job;
	json_t *found;                  /* of a list */
	json_t *order;                  /* as it was given: a change may have to be given again */
	int attempts;                   /* workers that failed over it */
};

static void search_gone(struct request *r, void *arg)
{
	struct search *s = arg;
	s->request = NULL;
	job_cancel(s->job);
	request_error(r, ERROR_CANCELLED, NULL);        /* to nobody: it ends the request */
}

/* Takes order. done gets the struct search. */
static void search_start(struct venvd *v, struct request *r, json_t *order, job_frame_fn *frame, job_done_fn *done)
{
	struct search *s = xcalloc(1, sizeof(*s));
	s->request = r;
	s->found = json_array();
	s->order = json_deep_copy(order);
	s->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], frame, done, s);
	if (s->job == NULL) {
		json_t *parameters = job_refused(NULL);
		done(ERROR_BUSY, parameters, s);
		json_decref(parameters);
		return;
	}
	request_on_gone(r, search_gone, s);
}

/* The request if it is still there and was not answered with the error by now. */
static struct request *search_end(struct search *s, enum error_code code, const json_t *result)
{
	struct request *r = s->request;
	if (r == NULL)
		return NULL;
	request_on_gone(r, NULL, NULL);
	if (code == ERROR_NONE)
		return r;
	request_error(r, code, result != NULL ? json_deep_copy(result) : NULL);
	return NULL;
}

static void search_free(struct search *s)
{
	json_decref(s->found);
	json_decref(s->order);
	free(s);
}

/* With `more` each interpreter goes out when the next one is known, so that the last says so. */
static void list_frame(const char *kind, const json_t *frame, void *arg)
{
	struct search *s = arg;
	if (strcmp(kind, "interpreter") != 0 || s->request == NULL ||
	    json_array_size(s->found) >= LIMIT_INTERPRETERS)
		return;
	json_t *before = json_array_get(s->found, json_array_size(s->found) - 1);
	if (before != NULL)
		request_progress(s->request, json_pack("{s:O}", "interpreter", before));
	json_array_append(s->found, json_object_get(frame, "interpreter"));
}

static void list_done(enum error_code code, const json_t *result, void *arg)
{
	struct search *s = arg;
	struct request *r = search_end(s, code, result);
	json_t *last = json_array_get(s->found, json_array_size(s->found) - 1);
	if (r != NULL && !r->call.more)
		request_reply(r, json_pack("{s:O}", "interpreters", s->found));
	else if (r != NULL)
		request_reply(r, last != NULL ? json_pack("{s:O}", "interpreter", last) : NULL);
	search_free(s);
}

void method_list_interpreters(struct venvd *v, struct request *r)
{
	if (v->stopping) {
		request_error(r, ERROR_SHUTTING_DOWN, NULL);
		return;
	}
	if (method_refuse_caller(r))
		return;
	json_t *order = json_pack("{s:s,s:o,s:I,s:o}", "op", "interpreters", "caller", method_caller(r),
	    "probeMs", (json_int_t)v->config.value[CONFIG_PROBE_MS], "search", method_search(v));
	search_start(v, r, order, list_frame, list_done);
}

static void find_done(enum error_code code, const json_t *result, void *arg)
{
	struct search *s = arg;
	struct request *r = search_end(s, code, result);
	if (r != NULL) {
		json_t *warnings = json_object_get(result, "warnings");
		request_reply(r, json_pack("{s:O,s:O,s:O*,s:O*}", "interpreter", json_object_get(result, "interpreter"),
		    "reason", json_object_get(result, "reason"), "rule", json_object_get(result, "rule"),
		    "warnings", json_array_size(warnings) > 0 ? warnings : NULL));
	}
	search_free(s);
}

bool method_refuse_specs(struct request *r, const char *parameter)
{
	const json_t *specs = request_value(r, parameter);
	bool refused = json_array_size(specs) > LIMIT_SPECS;
	for (size_t i = 0; i < json_array_size(specs); i++)
		refused |= json_string_length(json_array_get(specs, i)) > LIMIT_PYTHON_BYTES;
	if (refused)
		request_invalid(r, parameter);
	return refused;
}

void method_find_interpreter(struct venvd *v, struct request *r)
{
	if (v->stopping) {
		request_error(r, ERROR_SHUTTING_DOWN, NULL);
		return;
	}
	if (method_refuse_caller(r) || method_refuse_specs(r, "python"))
		return;
	const json_t *specs = request_value(r, "python");
	json_t *order = json_pack("{s:s,s:o,s:I,s:o,s:o}", "op", "resolve", "caller", method_caller(r),
	    "probeMs", (json_int_t)v->config.value[CONFIG_PROBE_MS], "search", method_search(v), "python",
	    json_is_array(specs) ? json_deep_copy(specs) : json_array());
	search_start(v, r, order, NULL, find_done);
}

static void change_done(enum error_code code, const json_t *result, void *arg);

static bool change_again(struct search *s)
{
	struct venvd *v = s->request->venvd;
	s->job = job_continue(v->jobs, json_deep_copy(s->order), v->config.value[CONFIG_CREATE_MS], NULL, change_done, s);
	return s->job != NULL;
}

static void change_done(enum error_code code, const json_t *result, void *arg)
{
	struct search *s = arg;
	/* Its worker may have died half-way: the order can be repeated, and only that tells what is left to do. */
	if (code == ERROR_FAILED && s->request != NULL && ++s->attempts < LIMIT_WORKER_RESTARTS && change_again(s))
		return;
	if (code == ERROR_NO_SUCH_INTERPRETER && s->attempts > 0 &&
	    strcmp(json_string_value(json_object_get(s->order, "verb")), "remove") == 0) {
		code = ERROR_NONE;      /* by the one before */
		result = NULL;
	}
	struct request *r = search_end(s, code, result);
	json_t *interpreter = json_object_get(result, "interpreter");
	if (r != NULL)
		request_reply(r, interpreter != NULL ? json_pack("{s:O}", "interpreter", interpreter) : NULL);
	search_free(s);
}

static void change(struct venvd *v, struct request *r, const char *verb)
{
	if (method_refuse_length(r, "path", LIMIT_PYTHON_BYTES) || method_refuse_caller(r))
		return;
	json_t *order = json_pack("{s:s,s:s,s:s,s:o,s:I}", "op", "python", "verb", verb, "path",
	    request_string(r, "path"), "caller", method_caller(r), "probeMs",
	    (json_int_t)v->config.value[CONFIG_PROBE_MS]);
	search_start(v, r, order, NULL, change_done);
}

void method_add_interpreter(struct venvd *v, struct request *r)
{
	change(v, r, "add");
}

void method_remove_interpreter(struct venvd *v, struct request *r)
{
	change(v, r, "remove");
}

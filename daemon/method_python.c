/* SPDX-License-Identifier: MIT */
/*
 * ListInterpreters: a worker looks and asks each interpreter what it is; nothing is remembered here yet,
 * so the answer is always what is there now.
 */
#include <string.h>

#include "bounds.h"
#include "job.h"
#include "method.h"

struct search {
	struct request *request;        /* NULL: its client is gone */
	struct job *job;
	json_t *found;
};

static void search_gone(struct request *r, void *arg)
{
	struct search *s = arg;
	s->request = NULL;
	job_cancel(s->job);
	request_error(r, ERROR_CANCELLED, NULL);        /* to nobody: it ends the request */
}

/* With `more` each interpreter goes out when the next one is known, so that the last says so. */
static void search_frame(const char *kind, const json_t *frame, void *arg)
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

static void search_done(enum error_code code, const json_t *result, void *arg)
{
	struct search *s = arg;
	struct request *r = s->request;
	if (r != NULL) {
		request_on_gone(r, NULL, NULL);
		json_t *last = json_array_get(s->found, json_array_size(s->found) - 1);
		if (code != ERROR_NONE)
			request_error(r, code, result != NULL ? json_deep_copy(result) : NULL);
		else if (!r->call.more)
			request_reply(r, json_pack("{s:O}", "interpreters", s->found));
		else
			request_reply(r, last != NULL ? json_pack("{s:O}", "interpreter", last) : NULL);
	}
	json_decref(s->found);
	free(s);
}

void method_list_interpreters(struct venvd *v, struct request *r)
{
	if (v->stopping) {
		request_error(r, ERROR_SHUTTING_DOWN, NULL);
		return;
	}
	if (method_refuse_caller(r))
		return;
	struct search *s = xcalloc(1, sizeof(*s));
	json_t *order = json_pack("{s:s,s:o,s:I}", "op", "interpreters", "caller", method_caller(r),
	    "probeMs", (json_int_t)v->config.value[CONFIG_PROBE_MS]);
	s->request = r;
	s->found = json_array();
	s->job = job_start(v->jobs, order, v->config.value[CONFIG_CREATE_MS], search_frame, search_done, s);
	if (s->job == NULL) {
		json_t *parameters = job_refused(NULL);
		search_done(ERROR_BUSY, parameters, s);
		json_decref(parameters);
		return;
	}
	request_on_gone(r, search_gone, s);
}

static void method_unsupported(struct request *r)
{
	request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s}", "reason", "not built yet"));
}

void method_find_interpreter(struct venvd *v, struct request *r)
{
	(void)v;
	method_unsupported(r);
}

void method_add_interpreter(struct venvd *v, struct request *r)
{
	(void)v;
	method_unsupported(r);
}

void method_remove_interpreter(struct venvd *v, struct request *r)
{
	(void)v;
	method_unsupported(r);
}

/* SPDX-License-Identifier: MIT */
/*
 * Asks the resident worker (worker/inuse.c says what counts) and puts its answer into words. Whoever asks does so
 * beside its own commit: the look costs a millisecond, and the answer waits for the disk anyhow.
 */
#include <limits.h>
#include <string.h>

#include "inuse.h"
#include "job.h"
#include "log.h"
#include "root.h"

/* Those that are not named: as many as one can count. */
static int inuse_more(const json_t *answer, const char *key)
{
	json_int_t more = json_integer_value(json_object_get(answer, key));
	return more < 0 ? 0 : more < INT_MAX ? (int)more : INT_MAX;
}

static void inuse_add_process(struct text *out, const json_t *process)
{
	const char *command = json_string_value(json_object_get(process, "command"));
	text_addf(out, "process %lld (%s)", (long long)json_integer_value(json_object_get(process, "pid")),
	    command != NULL ? command : "?");
}

/* Of one elsewhere: a project that is an environment itself is not taken away with it unasked. */
static json_t *inuse_others(const char *name, const json_t *answer)
{
	const json_t *others = json_object_get(answer, "others"), *one;
	int more = inuse_more(answer, "othersMore");
	_cleanup_text_ struct text reason = { 0 };
	size_t i, count = json_array_size(others);
	if (count == 0)
		return NULL;
	json_array_foreach(others, i, one)
		text_addf(&reason, "%s'%s'", i == 0 ? "its directory also holds " : more == 0 && i + 1 == count ? " and " : ", ",
		    json_string_value(one) != NULL ? json_string_value(one) : "?");
	if (more > 0)
		text_addf(&reason, " and %d more", more);
	text_adds(&reason, ", which would go with it");
	return json_pack("{s:s,s:s}", "name", name, "reason", reason.data);
}

/* NULL if nothing runs. */
static json_t *inuse_refusal(const char *name, const json_t *answer)
{
	json_t *processes = json_object_get(answer, "processes");
	size_t count = json_array_size(processes);
	long long others = (long long)count - 1 + inuse_more(answer, "more");
	_cleanup_text_ struct text reason = { 0 };
	if (count == 0)
		return inuse_others(name, answer);
	inuse_add_process(&reason, json_array_get(processes, 0));
	if (others > 0)
		text_addf(&reason, " and %lld more", others);
	text_adds(&reason, others > 0 ? " run from it" : " runs from it");
	return json_pack("{s:s,s:s,s:O}", "name", name, "reason", reason.data, "processes", processes);
}

static json_t *inuse_warnings(const json_t *answer)
{
	json_t *warnings = json_array(), *process;
	size_t i;
	json_array_foreach(json_object_get(answer, "standing"), i, process) {
		_cleanup_text_ struct text sentence = { 0 };
		inuse_add_process(&sentence, process);
		text_adds(&sentence, " stands in it or has it activated");
		json_array_append_new(warnings, json_string(sentence.data));
	}
	return warnings;
}

static void inuse_looked(enum error_code code, const json_t *result, void *arg)
{
	struct inuse_question *q = arg;
	if (code != ERROR_NONE)
		log_warning("nobody knows what runs from '%s': %s", q->env->name, job_reason(code, result));
	json_t *refusal = inuse_refusal(q->env->name, result), *warnings = inuse_warnings(result);
	q->done(refusal != NULL ? ERROR_IN_USE : ERROR_NONE, refusal, warnings, q->arg);
	json_decref(refusal);
	json_decref(warnings);
}

void inuse_look(struct venvd *v, const struct request *r, const struct environment *env, struct inuse_question *q,
    inuse_done_fn *done, void *arg)
{
	const char *root = strcmp(v->config.root, "/") == 0 ? "" : v->config.root;
	_cleanup_free_ char *path = env->location != NULL ? xstrdup(env->location) :
	    xasprintf("%s/%s", root, env->name);
	*q = (struct inuse_question){ env, done, arg };
	json_t *order = json_pack("{s:s,s:s,s:s,s:b,s:I}", "op", "inuse", "name", env->name, "at", path,
	    "elsewhere", env->location != NULL, "caller", (json_int_t)r->caller_pid);
	if (order == NULL) {            /* a path that is no UTF-8: nothing is made there that could run */
		inuse_looked(ERROR_FAILED, NULL, q);
		return;
	}
	if (jobs_short(v->jobs, order, inuse_looked, q))
		return;
	json_t *parameters = job_refused(env->name), *warnings = json_array();
	done(ERROR_BUSY, parameters, warnings, arg);
	json_decref(parameters);
	json_decref(warnings);
}

bool inuse_refuse_protected(struct request *r, const struct environment *env)
{
	if (!env->protected)
		return false;
	request_error(r, ERROR_PROTECTED, json_pack("{s:s}", "name", env->name));
	return true;
}

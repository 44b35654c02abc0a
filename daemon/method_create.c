/* SPDX-License-Identifier: MIT */
/*
 * Create: what can be said against a call without a look at the disk, and what it asks for in the words of
 * orders. The making is creation.c's.
 */
#include <string.h>

#include "bounds.h"
#include "creation.h"
#include "index.h"
#include "inuse.h"
#include "method.h"
#include "nameless.h"
#include "paths.h"
#include "replay.h"
#include "root.h"
#include "watch.h"

/* CPython's words. */
#define CREATE_CLEAR_AND_UPGRADE "you cannot supply --upgrade and --clear together."

bool method_refuse_prompt(struct request *r)
{
	const char *prompt = request_string(r, "prompt");
	if (prompt == NULL)
		return false;
	/* It goes into files as one line of text, and onto terminals. */
	for (const unsigned char *p = (const unsigned char *)prompt; *p != '\0'; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			request_invalid(r, "prompt");
			return true;
		}
	}
	return method_refuse_length(r, "prompt", LIMIT_PROMPT_BYTES);
}

bool method_refuse_python(struct request *r)
{
	const json_t *others = request_value(r, "pythonAlternatives");
	size_t i, count = json_array_size(others) + (request_string(r, "python") != NULL);
	json_t *spec;
	bool wrong = count > LIMIT_SPECS;
	json_array_foreach((json_t *)(uintptr_t)others, i, spec)
		wrong = wrong || json_string_length(spec) > LIMIT_PYTHON_BYTES;
	if (wrong)
		request_invalid(r, "pythonAlternatives");
	return wrong || method_refuse_length(r, "python", LIMIT_PYTHON_BYTES);
}

json_t *method_python_specs(const struct request *r)
{
	json_t *specs = json_array(), *others = (json_t *)(uintptr_t)request_value(r, "pythonAlternatives");
	const char *python = request_string(r, "python");
	if (python != NULL)
		json_array_append_new(specs, json_string(python));
	if (json_is_array(others))
		json_array_extend(specs, others);
	return specs;
}

static json_t *create_options(const struct request *r)
{
	static const char *const flags[] = { "withoutPip", "systemSitePackages", "copies", "clear",
		"upgrade", "upgradeDeps", "withoutScmIgnoreFiles" };
	json_t *options = json_pack("{s:o,s:s?}", "python", method_python_specs(r),
	    "prompt", request_string(r, "prompt"));
	for (size_t i = 0; i < ARRAY_LENGTH(flags); i++)
		json_object_set_new(options, flags[i], json_boolean(request_bool(r, flags[i])));
	return options;
}

/* Whether path is dir or below it; both absolute. */
static bool create_is_below(const char *path, const char *dir)
{
	size_t len = dir != NULL ? strlen(dir) : 0;
	while (len > 0 && dir[len - 1] == '/')
		len--;
	return dir != NULL && strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

void method_plain_path(struct request *r)
{
	const char *path = request_string(r, "path");
	if (path == NULL || path[0] != '/')
		return;
	_cleanup_free_ char *plain = path_absolute(path);
	json_object_set_new(r->parameters, "path", json_string(plain));
}

/* Elsewhere means just that: what lies in the root has its name from there. Answered; true if refused. */
bool method_refuse_path(const struct venvd *v, struct request *r)
{
	const char *path = request_string(r, "path");
	if (path == NULL)
		return false;
	if (path[0] != '/' || strlen(path) > LIMIT_PYTHON_BYTES) {
		request_invalid(r, "path");
		return true;
	}
	if (!create_is_below(path, v->config.root) && !create_is_below(path, root_real(v->root)))
		return false;
	_cleanup_free_ char *reason = xasprintf("'%s' lies in the root", path);
	request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", request_string(r, "name"),
	    "reason", reason));
	return true;
}

bool method_refuse_root(const struct venvd *v, struct request *r)
{
	json_t *path = json_string(v->config.root);
	if (path != NULL) {
		json_decref(path);
		return false;
	}
	_cleanup_free_ char *root = text_printable(v->config.root);
	_cleanup_free_ char *reason = xasprintf("the path of the root, '%s', is not UTF-8", root);
	request_error(r, ERROR_UNSUPPORTED, json_pack("{s:s,s:s}", "name", request_string(r, "name"),
	    "reason", reason));
	return true;
}

static bool create_refuse_both(struct request *r)
{
	if (!request_bool(r, "clear") || !request_bool(r, "upgrade"))
		return false;
	request_error(r, ERROR_FAILED, json_pack("{s:s}", "reason", CREATE_CLEAR_AND_UPGRADE));
	return true;
}

static bool create_same_place(const struct environment *env, const char *path)
{
	return path == NULL ? env->location == NULL :
	    env->location != NULL && strcmp(env->location, path) == 0;
}

/* --clear and --upgrade work on what is there. Answered; true if that is refused. */
static bool create_refuse_existing(struct request *r, const struct environment *there)
{
	const char *state = environment_state_name(there->state);
	if (there->busy != NULL) {
		request_error(r, ERROR_BUSY, json_pack("{s:s,s:s}", "name", there->name, "reason",
		    "another operation is under way"));
		return true;
	}
	if (there->state == STATE_READY || there->state == STATE_BROKEN) {
		if (create_same_place(there, request_string(r, "path")))
			return false;
	}
	request_error(r, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", there->name, "state", state));
	return true;
}

/* A directory has one name. Answered; true if this one has another. */
bool method_refuse_named(const struct venvd *v, struct request *r, const char *name)
{
	const char *path = request_string(r, "path");
	const struct environment *env = path != NULL ? index_next(v->index, NULL) : NULL;
	while (env != NULL && ((name != NULL && strcmp(env->name, name) == 0) || !create_same_place(env, path)))
		env = index_next(v->index, env->name);
	if (env != NULL)
		request_error(r, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", env->name, "state",
		    environment_state_name(env->state)));
	return env != NULL;
}

/* What is to be made, in the index: a new one, or what is there already; NULL if it was answered. A name whose
 * directory is gone is free again: its row goes. */
static struct environment *create_environment(struct venvd *v, struct request *r, const char *name)
{
	struct environment *there = index_get(v->index, name);
	bool rebuild = request_bool(r, "clear") || request_bool(r, "upgrade");
	if (there != NULL && there->state == STATE_MISSING && there->busy == NULL) {
		nameless_displace(v, r, there);
		there = NULL;
	}
	if (there != NULL && rebuild)
		return create_refuse_existing(r, there) ? NULL : there;
	if (there != NULL) {
		request_error(r, ERROR_ALREADY_EXISTS, json_pack("{s:s,s:s}", "name", name,
		    "state", environment_state_name(there->state)));
		return NULL;
	}
	struct environment *env = environment_new(name);
	env->location = xstrdup(request_string(r, "path"));
	index_add(v->index, env);
	return env;
}

void method_create(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	method_plain_path(r);
	if (replay_answer(v->replay, r) || method_refuse_name(r, name) || method_refuse_prompt(r) ||
	    method_refuse_python(r) || method_refuse_caller(r) || method_refuse_path(v, r) ||
	    create_refuse_both(r) || method_refuse_named(v, r, name) ||
	    (request_string(r, "path") == NULL && method_refuse_root(v, r)))
		return;
	/* Somebody may have removed it a moment ago. */
	const struct environment *there = index_get(v->index, name);
	if (there != NULL && there->busy == NULL && watch_defer(v->watch, name, r, method_again))
		return;
	struct environment *env = create_environment(v, r, name);
	if (env == NULL || (request_bool(r, "clear") && inuse_refuse_protected(r, env)))
		return;
	struct creation_plan plan = {
		.options = create_options(r), .caller = method_caller(r),
		.keeps_options = request_bool(r, "upgrade"),
		.in_place = request_bool(r, "clear") || request_bool(r, "upgrade") ||
		    request_bool(r, "upgradeDeps") || env->location != NULL,
	};
	creation_begin(v, r, env, &plan);
}

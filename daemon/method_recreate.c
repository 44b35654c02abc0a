/* SPDX-License-Identifier: MIT */
/*
 * Recreate: which options an environment was made with, as far as it is known, and what the call changes of them.
 * The making is creation.c's.
 */
#include <string.h>

#include "creation.h"
#include "index.h"
#include "inuse.h"
#include "method.h"
#include "replay.h"

/* The interpreter it has, else the same version, else the same minor version: the first that exists. */
static json_t *recreate_python(const struct environment *env)
{
	json_t *specs = json_array();
	if (env->interpreter != NULL && env->interpreter[0] == '/')
		json_array_append_new(specs, json_string(env->interpreter));
	if (env->version == NULL)
		return specs;
	const char *implementation = env->implementation != NULL ? env->implementation : "cpython";
	size_t full = strspn(env->version, "0123456789.");
	size_t minor = strcspn(env->version, ".");
	if (env->version[minor] == '.')
		minor += 1 + strspn(env->version + minor + 1, "0123456789");
	if (full == 0 || strcmp(implementation, "cpython") != 0)
		return specs;
	json_array_append_new(specs, json_sprintf("%.*s", (int)full, env->version));
	if (minor < full)
		json_array_append_new(specs, json_sprintf("%.*s", (int)minor, env->version));
	return specs;
}

/* What can be read off one that nobody recorded the options of. */
static json_t *recreate_derived(const struct environment *env)
{
	json_t *kept = json_object();
	if (env->pip == 0 && env->state != STATE_BROKEN && env->state != STATE_MISSING)
		json_object_set_new(kept, "withoutPip", json_true());
	if (env->system_site_packages == 1)
		json_object_set_new(kept, "systemSitePackages", json_true());
	if (env->prompt != NULL)
		json_object_set_new(kept, "prompt", json_string(env->prompt));
	return kept;
}

static json_t *recreate_options(const struct environment *env, const struct request *r)
{
	json_t *kept = env->options != NULL ? json_loads(env->options, 0, NULL) : NULL;
	json_t *python = method_python_specs(r);
	const char *prompt = request_string(r, "prompt");
	if (kept == NULL)
		kept = recreate_derived(env);
	if (prompt != NULL && *prompt == '\0')
		json_object_del(kept, "prompt");
	else if (prompt != NULL)
		json_object_set_new(kept, "prompt", json_string(prompt));
	if (json_array_size(python) > 0)
		json_object_set(kept, "python", python);
	json_decref(python);
	json_t *options = creation_options_full(kept);
	json_decref(kept);
	return options;
}

static bool recreate_refuse_state(struct request *r, const struct environment *env)
{
	_cleanup_free_ char *reason = NULL;
	enum error_code code = ERROR_UNSUPPORTED;
	if (env->busy != NULL || env->state == STATE_CREATING) {
		code = ERROR_BUSY;
		reason = xstrdup("another operation is under way");
	} else if (env->state == STATE_FOREIGN) {
		reason = xasprintf("it is not venvd's to replace: %s", env->problem != NULL ? env->problem : "foreign");
	}
	if (reason != NULL)
		request_error(r, code, json_pack("{s:s,s:s}", "name", env->name, "reason", reason));
	return reason != NULL;
}

void method_recreate(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	if (replay_answer(v->replay, r) || method_refuse_prompt(r) || method_refuse_python(r) ||
	    method_refuse_caller(r) || method_refuse_root(v, r))
		return;
	struct environment *env = index_get(v->index, name);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
		return;
	}
	if (recreate_refuse_state(r, env) || inuse_refuse_protected(r, env))
		return;
	json_t *options = recreate_options(env, r);
	struct creation_plan plan = {
		.options = options, .caller = method_caller(r), .replaces = true, .force = request_bool(r, "force"),
		.in_place = json_is_true(json_object_get(options, "upgradeDeps")) || env->location != NULL,
		.any_python = json_array_size(json_object_get(options, "python")) == 0,
	};
	if (plan.any_python)
		json_object_set_new(options, "python", recreate_python(env));
	creation_begin(v, r, env, &plan);
}

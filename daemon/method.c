/* SPDX-License-Identifier: MIT */
/*
 * From a call to its function. The interface descriptions say which methods there are and what their
 * parameters are; this table only adds the function. A method that is described and not in the table,
 * or the other way round, ends the program at its start.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "idl.h"
#include "log.h"
#include "method.h"
#include "names.h"
#include "root.h"

#define METHOD_WARNINGS 16     /* more tell nothing more */

static const struct {
	const char *name;
	method_fn *fn;
	bool changes;           /* refused while ending, by a daemon that only looks, on a moved root */
} method_table[] = {
	{ "io.venvd.List", method_list, false },
	{ "io.venvd.Get", method_get, false },
	{ "io.venvd.Create", method_create, true },
	{ "io.venvd.Delete", method_delete, true },
	{ "io.venvd.Restore", method_restore, true },
	{ "io.venvd.Adopt", method_adopt, true },
	{ "io.venvd.EmptyTrash", method_empty_trash, true },
	{ "io.venvd.Rename", method_rename, true },
	{ "io.venvd.Clone", method_clone, true },
	{ "io.venvd.Protect", method_protect, true },
	{ "io.venvd.Diagnose", method_diagnose, false },
	{ "io.venvd.Repair", method_repair, true },
	{ "io.venvd.ListTrash", method_list_trash, false },
	{ "io.venvd.Watch", method_watch, false },
	{ "io.venvd.Prompt", method_prompt, false },
	{ "io.venvd.ListInterpreters", method_list_interpreters, false },
	{ "io.venvd.FindInterpreter", method_find_interpreter, false },
	{ "io.venvd.AddInterpreter", method_add_interpreter, true },
	{ "io.venvd.RemoveInterpreter", method_remove_interpreter, true },
	{ "io.venvd.Recreate", method_recreate, true },
	{ "io.venvd.Status", method_status, false },
	{ "io.venvd.Shutdown", method_shutdown, false },
	{ "org.varlink.service.GetInfo", method_get_info, false },
	{ "org.varlink.service.GetInterfaceDescription", method_get_interface_description, false },
};

struct interfaces {
	struct idl *idl[2];
};

static void __attribute__((noreturn)) interfaces_broken(const char *what, const char *detail)
{
	log_error("this venvd was built wrong: %s: %s", what, detail);
	abort();
}

struct interfaces *interfaces_new(void)
{
	const char *const texts[] = { idl_text_io_venvd, idl_text_org_varlink_service };
	struct interfaces *all = xcalloc(1, sizeof(*all));
	size_t described = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		char *why = NULL;
		all->idl[i] = idl_parse(texts[i], &why);
		if (all->idl[i] == NULL)
			interfaces_broken("interface description", why);
		described += idl_method_count(all->idl[i]);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(method_table); i++) {
		const char *bare = strrchr(method_table[i].name, '.') + 1;
		if (idl_method(all->idl[0], bare) == NULL && idl_method(all->idl[1], bare) == NULL)
			interfaces_broken("method is not described", method_table[i].name);
	}
	if (described != ARRAY_LENGTH(method_table))
		interfaces_broken("a described method has no function", "see method_table");
	return all;
}

void interfaces_free(struct interfaces *all)
{
	if (all == NULL)
		return;
	for (size_t i = 0; i < ARRAY_LENGTH(all->idl); i++)
		idl_free(all->idl[i]);
	free(all);
}

/* The interface whose name is what stands before the method's last dot. */
static const struct idl *method_interface(const struct interfaces *all, const char *method, const char *dot)
{
	for (size_t i = 0; i < ARRAY_LENGTH(all->idl); i++) {
		const char *name = idl_name(all->idl[i]);
		if (strlen(name) == (size_t)(dot - method) && strncmp(name, method, strlen(name)) == 0)
			return all->idl[i];
	}
	return NULL;
}

static void method_run(struct venvd *v, struct request *r)
{
	for (size_t i = 0; i < ARRAY_LENGTH(method_table); i++) {
		if (strcmp(method_table[i].name, r->call.method) != 0)
			continue;
		if (!method_table[i].changes || !method_refuse_change(v, r))
			method_table[i].fn(v, r);
		return;
	}
	request_error(r, ERROR_METHOD_NOT_IMPLEMENTED, json_pack("{s:s}", "method", r->call.method));
}

void method_dispatch(struct request *r)
{
	struct venvd *v = r->venvd;
	const char *method = r->call.method, *dot = strrchr(method, '.');
	const struct idl *idl = dot != NULL ? method_interface(v->interfaces, method, dot) : NULL;
	if (idl == NULL) {
		_cleanup_free_ char *name = dot != NULL ? xstrndup(method, (size_t)(dot - method)) :
		    xstrdup(method);
		request_error(r, ERROR_INTERFACE_NOT_FOUND, json_pack("{s:s}", "interface", name));
		return;
	}
	const struct idl_method *m = idl_method(idl, dot + 1);
	if (m == NULL) {
		request_error(r, ERROR_METHOD_NOT_FOUND, json_pack("{s:s}", "method", method));
		return;
	}
	if (r->call.upgrade) {
		request_error(r, ERROR_METHOD_NOT_IMPLEMENTED, json_pack("{s:s}", "method", method));
		return;
	}
	_cleanup_free_ char *wrong = idl_check_call(idl, m, r->parameters);
	if (wrong != NULL)
		request_invalid(r, wrong);
	else
		method_run(v, r);
}

void method_again(struct venvd *v, struct request *r)
{
	(void)v;
	method_dispatch(r);
}

bool method_refuse_name(struct request *r, const char *name)
{
	const char *rule = name_rule_broken(name);
	if (rule == NULL)
		return false;
	request_error(r, ERROR_INVALID_NAME, json_pack("{s:s,s:s}", "name", name, "rule", rule));
	return true;
}

bool method_refuse_length(struct request *r, const char *parameter, size_t max)
{
	const char *value = request_string(r, parameter);
	if (value == NULL || strlen(value) <= max)
		return false;
	request_invalid(r, parameter);
	return true;
}

bool method_refuse_caller(struct request *r)
{
	const json_t *caller = request_value(r, "caller");
	const char *path = json_string_value(json_object_get(caller, "path"));
	const char *cwd = json_string_value(json_object_get(caller, "cwd"));
	const json_t *mask = json_object_get(caller, "umask");
	const char *wrong = NULL;
	if (path != NULL && strlen(path) > LIMIT_CALLER_PATH_BYTES)
		wrong = "caller.path";
	else if (cwd != NULL && (cwd[0] != '/' || strlen(cwd) > LIMIT_PYTHON_BYTES))
		wrong = "caller.cwd";
	else if (json_is_integer(mask) &&
	    (json_integer_value(mask) < 0 || json_integer_value(mask) > 0777))
		wrong = "caller.umask";
	else if (json_object_size(json_object_get(caller, "environment")) > LIMIT_CALLER_VARIABLES)
		wrong = "caller.environment";
	if (wrong != NULL)
		request_invalid(r, wrong);
	return wrong != NULL;
}

bool method_refuse_change(struct venvd *v, struct request *r)
{
	if (v->stopping) {
		request_error(r, ERROR_SHUTTING_DOWN, NULL);
		return true;
	}
	if (v->config.peek) {
		request_error(r, ERROR_UNSUPPORTED,
		    json_pack("{s:s}", "reason", "this daemon was started only to look"));
		return true;
	}
	_cleanup_free_ char *why = root_changed(v->root);
	if (why == NULL)
		return false;
	request_error(r, ERROR_ROOT_UNAVAILABLE,
	    json_pack("{s:s,s:s}", "root", v->config.root, "reason", why));
	return true;
}

json_t *method_caller(const struct request *r)
{
	const json_t *caller = request_value(r, "caller");
	json_t *environment = json_object_get(caller, "environment");
	return json_pack("{s:O?,s:O?,s:O?,s:o}", "cwd", json_object_get(caller, "cwd"),
	    "path", json_object_get(caller, "path"), "umask", json_object_get(caller, "umask"),
	    "environment", json_is_object(environment) ? json_incref(environment) : json_object());
}

json_t *method_search(const struct venvd *v)
{
	json_t *dirs = json_array();
	for (const char *s = v->config.python_directories; s != NULL && *s != '\0';) {
		size_t n = strcspn(s, ":");
		if (n > 0)
			json_array_append_new(dirs, json_stringn(s, n));
		s += n + (s[n] != '\0');
	}
	return json_pack("{s:o,s:b}", "dirs", dirs, "managedFirst", v->config.managed_first);
}

void method_warn(json_t **warnings, const char *text)
{
	if (text == NULL)
		return;
	if (*warnings == NULL)
		*warnings = json_array();
	if (json_array_size(*warnings) < METHOD_WARNINGS)
		json_array_append_new(*warnings, json_string(text));
}

json_t *method_environment(const struct venvd *v, const struct environment *env)
{
	return json_pack("{s:o}", "environment", environment_to_json(env, v->config.root, FIELDS_ALL));
}

/* SPDX-License-Identifier: MIT */
/*
 * What makes an environment the one that this user's own 'python -m venv' would have made here:
 * the working directory, PATH, the umask, and the few variables that a Python child may see. The
 * list of them is one with the worker's (proto/orders.h), which has the last word.
 *
 * Nothing here fails. What JSON cannot carry (bytes that are not UTF-8) or the limits forbid is
 * left out: a component of PATH on its own, any other text as a whole.
 */
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include "bounds.h"
#include "caller.h"
#include "orders.h"
#include "util.h"

#define VARIABLES_BYTES (16 * 1024)     /* all of them together, so that the call fits its frame */

extern char **environ;

static json_t *path_without_rubbish(const char *path)
{
	_cleanup_text_ struct text out = { 0 };
	bool first = true;
	while (path) {
		size_t len = strcspn(path, ":");
		json_auto_t *part = json_stringn(path, len);
		if (part && out.len + len + 1 <= LIMIT_CALLER_PATH_BYTES) {
			if (!first)
				text_adds(&out, ":");
			text_add(&out, path, len);
			first = false;
		}
		path = path[len] == ':' ? path + len + 1 : NULL;
	}
	return json_string(out.data ? out.data : "");
}

static bool listed(const char *variable, size_t len)
{
	static const char *const patterns[] = { ORDER_CALLER_VARIABLES };
	_cleanup_free_ char *name = xstrndup(variable, len);
	for (size_t i = 0; i < ARRAY_LENGTH(patterns); i++)
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	return false;
}

static json_t *variables(void)
{
	json_t *object = json_object();
	size_t bytes = 0;
	for (char **v = environ; *v; v++) {
		const char *equals = strchr(*v, '=');
		if (!equals || !listed(*v, (size_t)(equals - *v)))
			continue;
		if (json_object_size(object) == LIMIT_CALLER_VARIABLES ||
		    bytes + strlen(*v) > VARIABLES_BYTES)
			continue;
		_cleanup_free_ char *name = xstrndup(*v, (size_t)(equals - *v));
		if (json_object_set_new(object, name, json_string(equals + 1)) == 0)
			bytes += strlen(*v);
	}
	return object;
}

json_t *caller_new(void)
{
	json_t *caller = json_object();
	_cleanup_free_ char *cwd = getcwd(NULL, 0);
	if (cwd && *cwd == '/')
		json_object_set_new(caller, "cwd", json_string(cwd));
	const char *path = getenv("PATH");
	if (path)
		json_object_set_new(caller, "path", path_without_rubbish(path));
	mode_t mask = umask(0);
	umask(mask);
	json_object_set_new(caller, "umask", json_integer(mask));
	json_object_set_new(caller, "environment", variables());
	return caller;
}

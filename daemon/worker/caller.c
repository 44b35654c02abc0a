/* SPDX-License-Identifier: MIT */
/*
 * The caller. A child's environment is built anew: PATH is the caller's, HOME the daemon's, the locale
 * fixed, and of the caller's variables only those that ORDER_CALLER_VARIABLES lists, whatever came in.
 */
#include <stdio.h>
#include <string.h>

#include "caller.h"
#include "orders.h"
#include "paths.h"
#include "util.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define DEFAULT_UMASK 022

static const char *const listed[] = { ORDER_CALLER_VARIABLES };

static const char *string_or_null(json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s && *s ? s : NULL;
}

void caller_init(struct caller *caller, json_t *value)
{
	*caller = (struct caller){ .umask = DEFAULT_UMASK };
	caller->cwd = string_or_null(value, "cwd");
	if (caller->cwd && caller->cwd[0] != '/')
		caller->cwd = NULL;
	caller->path = string_or_null(value, "path");
	if (!caller->path)
		caller->path = getenv("PATH");
	if (!caller->path || !*caller->path)
		caller->path = DEFAULT_PATH;
	json_t *mask = json_object_get(value, "umask");
	if (json_is_integer(mask))
		caller->umask = json_integer_value(mask) & 0777;
	json_t *environment = json_object_get(value, "environment");
	caller->environment = json_is_object(environment) ? environment : NULL;
}

static bool fits(const char *name, const char *pattern)
{
	size_t len = strlen(name), n = strlen(pattern);
	if (pattern[0] == '*')
		return len >= n - 1 && strcmp(name + len - (n - 1), pattern + 1) == 0;
	if (pattern[n - 1] == '*')
		return strncmp(name, pattern, n - 1) == 0;
	return strcmp(name, pattern) == 0;
}

static bool is_listed(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(listed); i++)
		if (fits(name, listed[i]))
			return !strchr(name, '=');
	return false;
}

const char *caller_variable(const struct caller *caller, const char *name)
{
	return is_listed(name) ? string_or_null(caller->environment, name) : NULL;
}

char **caller_environment(const struct caller *caller)
{
	char **env = xcalloc(json_object_size(caller->environment) + 4, sizeof(*env));
	size_t n = 0;
	env[n++] = xasprintf("PATH=%s", caller->path);
	const char *home = path_home();
	if (home)
		env[n++] = xasprintf("HOME=%s", home);
	env[n++] = xstrdup("LC_ALL=C.UTF-8");
	const char *name;
	json_t *value;
	json_object_foreach(caller->environment, name, value)
		if (json_is_string(value) && is_listed(name))
			env[n++] = xasprintf("%s=%s", name, json_string_value(value));
	return env;
}

void caller_free_environment(char ***env)
{
	for (size_t i = 0; *env && (*env)[i]; i++)
		free((*env)[i]);
	free(*env);
	*env = NULL;
}

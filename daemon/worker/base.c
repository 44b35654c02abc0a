/* SPDX-License-Identifier: MIT */
/*
 * The base interpreter of an environment, as its own files tell: nothing is run. An environment that was made
 * from within another one (up to Python 3.10 it depends on that) leads to the base of that one.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>

#include "base.h"
#include "inspect.h"
#include "probe.h"

#define CHAIN_MAX 8

bool base_is_environment(const char *dir)
{
	_cleanup_free_ char *cfg = xasprintf("%s/pyvenv.cfg", dir);
	return access(cfg, F_OK) == 0;
}

/* As its bin/python or its pyvenv.cfg name it; owned or NULL. */
static char *read_base(const char *dir)
{
	_cleanup_free_ char *real = xrealpath(dir);
	char *slash = real ? strrchr(real, '/') : NULL;
	if (!slash || !slash[1])
		return NULL;
	*slash = '\0';
	_cleanup_fd_ int fd = open(*real ? real : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	json_auto_t *found = fd < 0 ? NULL : inspect_one(fd, slash + 1);
	const char *interpreter = json_string_value(json_object_get(found, "interpreter"));
	if (!interpreter || interpreter[0] != '/')
		return NULL;
	char *raw = inspect_raw_name(interpreter);
	return raw ? raw : xstrdup(interpreter);
}

char *base_find(const char *dir, char **ret_why)
{
	_cleanup_free_ char *place = xstrdup(dir);
	for (int i = 0; i < CHAIN_MAX; i++) {
		char *base = read_base(place);
		if (!base)
			break;
		if (!probe_in_environment(base))
			return base;
		/* DIR/bin/python */
		free(place);
		place = base;
		for (int k = 0; k < 2; k++) {
			char *slash = strrchr(place, '/');
			if (slash)
				*slash = '\0';
		}
	}
	*ret_why = xasprintf("the environment '%s' does not tell which interpreter it was made from", dir);
	return NULL;
}

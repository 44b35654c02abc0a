/* SPDX-License-Identifier: MIT */
/*
 * Where things are by default, worked out from texts and the process's own environment. Nothing
 * here looks at a file system: whether a root is there, or is fit to be one, is for its user to
 * find out. Owns nothing.
 */
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include "paths.h"
#include "util.h"

/* Appends one after the other the parts of path to out, "." left out and ".." taken back. */
static void add_parts(struct text *out, const char *path)
{
	while (*path) {
		size_t len = strcspn(path, "/");
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			const char *slash = out->len ? memrchr(out->data, '/', out->len) : NULL;
			out->len = slash ? (size_t)(slash - out->data) : 0;
			text_add(out, "", 0);
		} else if (len && !(len == 1 && path[0] == '.')) {
			text_add(out, "/", 1);
			text_add(out, path, len);
		}
		path += len;
		path += strspn(path, "/");
	}
}

char *path_absolute(const char *path)
{
	struct text out = { 0 };

	if (path[0] != '/') {
		_cleanup_free_ char *cwd = getcwd(NULL, 0);
		if (!cwd)
			return NULL;
		add_parts(&out, cwd);
	}
	/* Unlike Python we make one slash of two in front: on Linux they mean the same, and a root
	 * must have one name. */
	add_parts(&out, path);
	if (out.len == 0)
		text_add(&out, "/", 1);
	return out.data;
}

const char *path_home(void)
{
	const char *home = getenv("HOME");

	if (home && home[0] == '/')
		return home;
	const struct passwd *user = getpwuid(getuid());
	return user && user->pw_dir && user->pw_dir[0] == '/' ? user->pw_dir : NULL;
}

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static char *builtin_root(void)
{
	const char *home = path_home();

	if (!home)
		return NULL;
	_cleanup_free_ char *path = xasprintf("%s/.virtualenvs", home);
	return path_absolute(path);
}

char *path_root(const char *given, bool *ret_builtin, const char **ret_why)
{
	_cleanup_free_ char *builtin = builtin_root();
	const char *wanted = given ? given : variable("VENVD_ROOT");

	if (!wanted)
		wanted = variable("WORKON_HOME");
	if (!wanted)
		wanted = builtin;
	if (!wanted || !*wanted) {
		*ret_why = wanted ? "the root's path is empty" :
		    "no home directory: HOME is not set and the password database knows none";
		return NULL;
	}
	char *root = path_absolute(wanted);
	if (!root) {
		*ret_why = "the root's path is relative, and the working directory is gone";
		return NULL;
	}
	*ret_builtin = builtin && strcmp(root, builtin) == 0;
	return root;
}

bool path_stays_inside(const char *path)
{
	for (const char *part = path;;) {
		size_t len = strcspn(part, "/");
		if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && memcmp(part, "..", 2) == 0))
			return false;
		if (!part[len])
			return true;
		part += len + 1;
	}
}

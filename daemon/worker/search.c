/* SPDX-License-Identifier: MIT */
/*
 * Where interpreters are: PATH, then /usr/bin and /usr/local/bin, then pyenv's versions, the newest
 * first. Directories of PATH that are empty or relative are passed over: the directory that somebody
 * happens to stand in (a repository just cloned, say) must not decide what the daemon executes.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "paths.h"
#include "search.h"
#include "util.h"

static void add(struct search *s, char *path, const char *source)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->dirs[i].path, path) == 0) {
			free(path);
			return;
		}
	s->dirs = xreallocarray(s->dirs, s->count + 1, sizeof(*s->dirs));
	s->dirs[s->count++] = (struct search_dir){ .path = path, .source = source };
}

static void add_path(struct search *s, const char *path)
{
	while (s->count < LIMIT_INTERPRETERS) {
		size_t n = strcspn(path, ":");
		if (n > 0 && path[0] == '/') {
			size_t len = n;
			while (len > 1 && path[len - 1] == '/')
				len--;
			add(s, xstrndup(path, len), "PATH");
		}
		if (path[n] == '\0')
			break;
		path += n + 1;
	}
	s->on_path = s->count;
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*b)->d_name, (*a)->d_name);
}

static int is_version(const struct dirent *e)
{
	return e->d_name[0] != '.' && (e->d_type == DT_DIR || e->d_type == DT_LNK ||
	    e->d_type == DT_UNKNOWN);
}

static void add_pyenv(struct search *s, const struct caller *caller)
{
	const char *root = caller_variable(caller, "PYENV_ROOT"), *home = path_home();
	if (root && root[0] == '/')
		s->pyenv = xasprintf("%s/versions", root);
	else if (home)
		s->pyenv = xasprintf("%s/.pyenv/versions", home);
	else
		return;
	struct dirent **entries;
	int n = scandir(s->pyenv, &entries, is_version, newest_first);
	for (int i = 0; i < n; i++) {
		if (i < LIMIT_INTERPRETERS)
			add(s, xasprintf("%s/%s/bin", s->pyenv, entries[i]->d_name), "pyenv");
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

void search_init(struct search *s, const struct caller *caller)
{
	*s = (struct search){ 0 };
	add_path(s, caller->path);
	add(s, xstrdup("/usr/bin"), "/usr/bin");
	add(s, xstrdup("/usr/local/bin"), "/usr/local/bin");
	add_pyenv(s, caller);
}

void search_done(struct search *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->dirs[i].path);
	free(s->dirs);
	free(s->pyenv);
	*s = (struct search){ 0 };
}

char *search_find(const struct search_dir *dir, const char *name)
{
	char *path = xasprintf("%s/%s", strcmp(dir->path, "/") == 0 ? "" : dir->path, name);
	struct stat st;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

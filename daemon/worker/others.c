/* SPDX-License-Identifier: MIT */
/*
 * Somebody's project may be an environment itself: 'python -m venv .' makes one of it. What takes the environment away
 * takes the project away, too, so that is told first. Known is what the tools put at the top of one: venv, virtualenv
 * (before 20 and after), uv, tox, and what packages mostly install as data. Not 'src', though pip puts checkouts
 * there: it is what projects have.
 *
 * A project has directories, or files with an ending; a single file that somebody left there is none. Contents are not
 * looked at, and no more entries than a bound. Owns nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "failure.h"
#include "others.h"
#include "place.h"

#define LOOKED_AT_MAX 4096
#define TOLD 2

static bool is_known(const char *name)
{
	static const char *const known[] = {
		"bin", "include", "lib", "lib32", "lib64", "libexec", "local", "sbin", "share", "etc", "man", "var",
		"pyvenv.cfg", ".gitignore", "CACHEDIR.TAG", ".lock", ".project", "pip-selfcheck.json", ".venvd-repair",
		"lib-python", "lib_pypy", "site-packages", ".tox-info.json", "log", "tmp", "__pycache__",
	};
	for (size_t i = 0; i < ARRAY_LENGTH(known); i++)
		if (strcmp(known[i], name) == 0)
			return true;
	return false;
}

static bool is_work(int dir_fd, const char *name)
{
	struct stat st;
	if (!place_component(name) || is_known(name) || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return S_ISDIR(st.st_mode) || strchr(name + 1, '.') != NULL;
}

/* Takes name; the last of them goes. */
static void keep_first(char *first[TOLD], char *name)
{
	for (size_t i = 0; i < TOLD && name; i++)
		if (!first[i] || strcmp(name, first[i]) < 0) {
			char *other = first[i];
			first[i] = name;
			name = other;
		}
	free(name);
}

json_t *others_in(int env_fd, size_t *ret_more)
{
	int fd = openat(env_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char *first[TOLD] = { 0 };
	json_t *names = json_array();
	size_t count = 0;
	struct dirent *e;
	if (!dir) {
		cleanup_fd(&fd);
		return names;
	}
	for (size_t left = LOOKED_AT_MAX; left > 0 && (e = readdir(dir)); left--)
		if (is_work(fd, e->d_name)) {
			keep_first(first, xstrdup(e->d_name));
			count++;
		}
	closedir(dir);
	for (size_t i = 0; i < TOLD && first[i]; i++) {
		json_array_append_new(names, failure_text(first[i]));
		free(first[i]);
	}
	*ret_more = count - json_array_size(names);
	return names;
}

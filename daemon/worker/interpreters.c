/* SPDX-License-Identifier: MIT */
/*
 * ListInterpreters: every interpreter in the directories that a search looks at, once for each file
 * however many names lead to it. Shims and the interpreters of environments are left out. One that cannot
 * be used is told with its problem.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "orders_do.h"
#include "probe.h"
#include "search.h"
#include "talk.h"

struct listing {
	json_t *order;
	struct caller caller;
	int probe_ms;
	struct { dev_t dev; ino_t ino; } seen[LIMIT_INTERPRETERS];
	size_t count;
};

/* pythonX[.Y], python, pypyX[.Y], pypy: and nothing like python3-config. */
static int is_python(const struct dirent *e)
{
	const char *s = e->d_name;
	if (strncmp(s, "python", 6) == 0)
		s += 6;
	else if (strncmp(s, "pypy", 4) == 0)
		s += 4;
	else
		return 0;
	return s[strspn(s, "0123456789.")] == '\0';
}

/* python3 is the name that people use; then the longer ones, the newest first. */
static int by_use(const struct dirent **a, const struct dirent **b)
{
	bool first = strcmp((*a)->d_name, "python3") == 0, second = strcmp((*b)->d_name, "python3") == 0;
	if (first != second)
		return second - first;
	return strverscmp((*b)->d_name, (*a)->d_name);
}

/* False if it was met under another name already. */
static bool is_new(struct listing *l, const char *path)
{
	struct stat st;
	if (l->count >= LIMIT_INTERPRETERS || stat(path, &st) < 0)
		return false;
	for (size_t i = 0; i < l->count; i++)
		if (l->seen[i].dev == st.st_dev && l->seen[i].ino == st.st_ino)
			return false;
	l->seen[l->count].dev = st.st_dev;
	l->seen[l->count++].ino = st.st_ino;
	return true;
}

static json_t *problem_of(const struct failure *f)
{
	json_t *reason = json_object_get(f->parameters, "reason");
	if (f->code == ERROR_NO_ENSUREPIP) {
		const char *package = json_string_value(json_object_get(f->parameters, "package"));
		return package ? json_sprintf("has no pip to install, needs the package %s", package) :
		    json_string("has no ensurepip module");
	}
	return reason ? json_incref(reason) : json_string("cannot be used");
}

static int tell(struct listing *l, const char *path, const char *source, struct failure *f)
{
	_cleanup_interpreter_ struct interpreter i = { 0 };
	_cleanup_failure_ struct failure trouble = { 0 };
	if (probe_check(path, path, &trouble) == 0 &&
	    probe_ask(path, &l->caller, l->probe_ms, &i, &trouble) == 0)
		probe_require_venv(&i, true, &trouble);
	if (failure_is_gone(&trouble) || talk_gone())
		return failure_gone(f);
	i.source = source;
	json_t *value = interpreter_json(&i);
	json_object_set_new(value, "path", failure_text(path));
	if (trouble.code != ERROR_NONE)
		json_object_set_new(value, "problem", problem_of(&trouble));
	talk_frame(l->order, "interpreter", json_pack("{so}", "interpreter", value));
	return 0;
}

static int look_in(struct listing *l, const struct search_dir *dir, struct failure *f)
{
	struct dirent **entries;
	int n = scandir(dir->path, &entries, is_python, by_use), r = 0;
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = r == 0 ? search_find(dir, entries[i]->d_name) : NULL;
		free(entries[i]);
		if (path && !probe_is_shim(path) && !probe_in_environment(path) && is_new(l, path))
			r = tell(l, path, dir->source, f);
	}
	if (n >= 0)
		free(entries);
	return r;
}

int do_interpreters(json_t *order, json_t **ret, struct failure *f)
{
	struct listing l = { .order = order };
	json_t *caller = NULL;
	(void)ret;
	talk_unpack(order, "{s?o, s:i}", "caller", &caller, "probeMs", &l.probe_ms);
	caller_init(&l.caller, caller);
	_cleanup_search_ struct search s;
	search_init(&s, &l.caller);
	for (size_t i = 0; i < s.count; i++)
		if (look_in(&l, &s.dirs[i], f) < 0)
			return -1;
	return 0;
}

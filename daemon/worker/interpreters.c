/* SPDX-License-Identifier: MIT */
/*
 * The orders about interpreters. `interpreters` lists every one in the places where a search looks, once for
 * each file however many names lead to it; shims and the interpreters of environments are left out, and one
 * that cannot be used is told with its problem. Only those are asked that are not known as they are now.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "image.h"
#include "known.h"
#include "orders_do.h"
#include "paths.h"
#include "resolve.h"
#include "search.h"
#include "talk.h"

struct listing {
	json_t *order;
	struct caller caller;
	struct search search;
	int probe_ms;
	struct { dev_t dev; ino_t ino; } seen[LIMIT_INTERPRETERS];
	size_t count;
};

/* pythonX[.Y][t], python, pypyX[.Y], pypy, graalpy: and nothing like python3-config. */
static int is_python(const struct dirent *e)
{
	static const char *const words[] = { "python", "pypy", "graalpy" };
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
		size_t n = strlen(words[i]);
		if (strncmp(e->d_name, words[i], n) != 0)
			continue;
		const char *s = e->d_name + n;
		s += strspn(s, "0123456789.");
		return *s == '\0' || strcmp(s, "t") == 0 || strcmp(s, "d") == 0 || strcmp(s, "td") == 0;
	}
	return 0;
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

/* Whether its image, if there is one, could not be verified. */
static void judge(struct interpreter *i)
{
	_cleanup_free_ char *key = image_key(i, true);
	const struct image *image = key ? image_get(key) : NULL;
	if (image && image->delegate)
		i->state = "delegate";
}

static bool is_added(const char *path)
{
	size_t count;
	bool found = false;
	__attribute__((cleanup(known_free_added))) char **added = known_added(&count);
	for (size_t i = 0; i < count; i++)
		found |= strcmp(added[i], path) == 0;
	return found;
}

static int tell(struct listing *l, const char *path, const char *source, struct failure *f)
{
	_cleanup_interpreter_ struct interpreter i = { 0 };
	_cleanup_failure_ struct failure trouble = { 0 };
	int r = known_get(path, &i, &trouble);
	if (r == 1)
		r = known_ask(path, path, &l->caller, l->probe_ms, &i, &trouble);
	else if (r == 0)
		r = probe_check(path, path, &trouble);
	if (r == 0 && !probe_is_old(&i))
		probe_require_venv(&i, true, &trouble);
	if (failure_is_gone(&trouble) || talk_gone())
		return failure_gone(f);
	i.source = source;
	if (trouble.code == ERROR_NONE)
		judge(&i);
	json_t *value = interpreter_json(&i);
	json_object_set_new(value, "path", failure_text(path));
	if (trouble.code != ERROR_NONE)
		json_object_set_new(value, "problem", problem_of(&trouble));
	if (r != 0)
		json_object_set_new(value, "state", json_string("unusable"));
	if (is_added(path))
		json_object_set_new(value, "added", json_true());
	talk_frame(l->order, "interpreter", json_pack("{so}", "interpreter", value));
	return 0;
}

/* dir/../conda-meta */
static const char *source_of(const struct search_dir *dir)
{
	_cleanup_free_ char *meta = xasprintf("%s/../conda-meta", dir->path);
	return strcmp(dir->source, "conda") != 0 && access(meta, F_OK) == 0 ? "conda" : dir->source;
}

static int look_in(struct listing *l, const struct search_dir *dir, struct failure *f)
{
	if (dir->file)
		return is_new(l, dir->file) ? tell(l, dir->file, dir->source, f) : 0;
	struct dirent **entries;
	int n = scandir(dir->path, &entries, is_python, by_use), r = 0;
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = r == 0 ? search_find(dir, entries[i]->d_name) : NULL;
		free(entries[i]);
		if (path && !probe_is_shim(path) && !probe_in_environment(path) && is_new(l, path))
			r = tell(l, path, source_of(dir), f);
	}
	if (n >= 0)
		free(entries);
	return r;
}

static int list(struct listing *l, struct failure *f)
{
	const struct search_dir *dir;
	for (size_t i = 0; (dir = search_programs(&l->search, i)); i++)
		if (look_in(l, dir, f) < 0)
			return -1;
	for (size_t i = 0; (dir = search_installed(&l->search, i)); i++)
		if (look_in(l, dir, f) < 0)
			return -1;
	return 0;
}

int do_interpreters(json_t *order, json_t **ret, struct failure *f)
{
	struct listing l = { .order = order };
	json_t *caller = NULL, *search = NULL;
	bool managed_first;
	(void)ret;
	talk_unpack(order, "{s?o, s:i, s?o}", "caller", &caller, "probeMs", &l.probe_ms, "search", &search);
	talk_positive(l.probe_ms);
	caller_init(&l.caller, caller);
	_cleanup_free_ const char **dirs = resolve_search(search, &managed_first);
	search_init(&l.search, &l.caller, dirs);
	int r = list(&l, f);
	search_done(&l.search);
	return r;
}

int do_resolve(json_t *order, json_t **ret, struct failure *f)
{
	json_t *caller_value = NULL, *search = NULL, *specs;
	struct caller caller;
	json_auto_t *warnings = json_array();
	_cleanup_interpreter_ struct interpreter i = { 0 };
	struct resolution resolution = { .caller = &caller, .warnings = warnings };
	talk_unpack(order, "{s?o, s?o, s:o, s:i}", "caller", &caller_value, "search", &search, "python", &specs,
	    "probeMs", &resolution.probe_ms);
	caller_init(&caller, caller_value);
	_cleanup_free_ const char **dirs = resolve_search(search, &resolution.managed_first);
	resolution.specs = specs;
	resolution.dirs = dirs;
	int r = resolve(&resolution, &i, f);
	if (r != 0)
		return r < 0 ? -1 : 0;          /* nobody was to be asked */
	judge(&i);
	*ret = json_pack("{sososssO}", "interpreter", interpreter_json(&i), "reason", failure_text(i.reason),
	    "rule", i.rule, "warnings", warnings);
	return 0;
}

static int add_one(const char *path, const struct caller *caller, int probe_ms, json_t **ret, struct failure *f)
{
	_cleanup_interpreter_ struct interpreter i = { 0 };
	if (known_ask(path, path, caller, probe_ms, &i, f) < 0 || known_add(i.path, f) < 0)
		return -1;
	i.source = "added";
	judge(&i);
	json_t *value = interpreter_json(&i);
	json_object_set_new(value, "added", json_true());
	*ret = json_pack("{so}", "interpreter", value);
	return 0;
}

int do_python(json_t *order, json_t **ret, struct failure *f)
{
	const char *verb, *path;
	json_t *caller_value = NULL;
	struct caller caller;
	int probe_ms;
	talk_unpack(order, "{s:s, s:s, s:i, s?o}", "verb", &verb, "path", &path, "probeMs", &probe_ms, "caller",
	    &caller_value);
	talk_positive(probe_ms);
	caller_init(&caller, caller_value);
	if (path[0] != '/')
		return failure_set(f, ERROR_NO_SUCH_INTERPRETER, json_pack("{soss}", "interpreter",
		    failure_text(path), "reason", "its path must be absolute"));
	_cleanup_free_ char *clean = path_absolute(path);
	if (strcmp(verb, "remove") == 0)
		return known_remove(clean, f);
	return add_one(clean, &caller, probe_ms, ret, f);
}

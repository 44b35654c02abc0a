/* SPDX-License-Identifier: MIT */
/*
 * Which interpreter. Four kinds of specification: nothing (the first python3 on the caller's PATH that is
 * neither a shim nor inside an environment), a path (anything with a '/'), a version (3, 3.12, 3.12.1) and
 * a name on PATH. What was named is taken or refused, never replaced by another; only a version passes over
 * candidates that do not answer, and then the first one's trouble is what is told.
 *
 * Shims are run when they are named, and otherwise only when nothing real was found.
 */
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "paths.h"
#include "place.h"
#include "resolve.h"
#include "search.h"
#include "util.h"

struct question {
	const char *spec;
	const struct caller *caller;
	int probe_ms;
	struct interpreter *ret;
	struct failure *failure;
};

/* A version: how many numbers were given, and which. */
struct version {
	int count;
	int numbers[3];
};

static bool parse_version(const char *s, struct version *ret)
{
	*ret = (struct version){ 0 };
	while (ret->count < 3) {
		size_t digits = strspn(s, "0123456789");
		if (digits == 0 || digits > 4)
			return false;
		ret->numbers[ret->count++] = atoi(s);
		s += digits;
		if (*s == '\0')
			return true;
		if (*s++ != '.')
			return false;
	}
	return false;
}

static int not_found(const struct question *q, const char *reason)
{
	return failure_set(q->failure, ERROR_NO_SUCH_INTERPRETER, json_pack("{soso}", "interpreter",
	    failure_text(q->spec ? q->spec : "python3"), "reason", failure_text(reason)));
}

/* Takes this file or fails; reason is owned by it. */
static int take(const struct question *q, const char *path, const char *source, char *reason)
{
	_cleanup_free_ char *why = reason;
	if (probe_check(path, q->spec ? q->spec : path, q->failure) < 0 ||
	    probe_ask(path, q->caller, q->probe_ms, q->ret, q->failure) < 0)
		return -1;
	q->ret->source = source;
	q->ret->reason = strcmp(q->ret->path, path) == 0 ? xstrdup(why) :
	    xasprintf("%s, behind the shim '%s'", why, path);
	return 0;
}

static int resolve_default(const struct question *q, const struct search *s)
{
	_cleanup_free_ char *shim = NULL;
	for (size_t i = 0; i < s->on_path; i++) {
		_cleanup_free_ char *path = search_find(&s->dirs[i], "python3");
		if (!path || probe_in_environment(path))
			continue;
		if (!probe_is_shim(path))
			return take(q, path, "PATH", xstrdup("first python3 on PATH"));
		if (!shim)
			shim = xstrdup(path);
	}
	if (shim)
		return take(q, shim, "PATH", xstrdup("only python3 on PATH"));
	return not_found(q, "there is no python3 on PATH outside of environments");
}

static int resolve_path(const struct question *q)
{
	if (q->spec[0] == '/')
		return take(q, q->spec, "path", xstrdup("named by its path"));
	if (!q->caller->cwd)
		return not_found(q, "a relative path needs the caller's working directory");
	_cleanup_free_ char *joined = xasprintf("%s/%s", q->caller->cwd, q->spec);
	_cleanup_free_ char *path = path_absolute(joined);
	return take(q, path, "path", xstrdup("named by its path"));
}

static int resolve_name(const struct question *q, const struct search *s)
{
	for (size_t i = 0; i < s->on_path; i++) {
		_cleanup_free_ char *path = search_find(&s->dirs[i], q->spec);
		if (path)
			return take(q, path, "PATH", xasprintf("first %s on PATH", q->spec));
	}
	_cleanup_free_ char *reason = xasprintf("there is no '%s' on PATH", q->spec);
	return not_found(q, reason);
}

static bool fits(const struct interpreter *i, const struct version *v)
{
	return memcmp(i->numbers, v->numbers, v->count * sizeof(v->numbers[0])) == 0;
}

/* A candidate for a version. 1: taken; 0: not this one; -1: the daemon is gone. The first failure of a
 * candidate is kept in *first. */
static int try_candidate(const struct question *q, const struct version *v, const char *path,
    const char *source, struct failure *first)
{
	_cleanup_failure_ struct failure f = { 0 };
	struct question mine = *q;
	mine.failure = &f;
	char *reason = strcmp(source, "PATH") == 0 ? xasprintf("first Python %s on PATH", q->spec) :
	    strcmp(source, "pyenv") == 0 ? xasprintf("newest Python %s of pyenv", q->spec) :
	    xasprintf("Python %s in %s", q->spec, source);
	if (take(&mine, path, source, reason) == 0)
		return fits(q->ret, v);
	if (failure_is_gone(&f)) {
		failure_move(first, &f);
		return -1;
	}
	/* What answered to be another version was never meant. */
	bool other = q->ret->version && !fits(q->ret, v);
	if (first->code == ERROR_NONE && !other)
		failure_move(first, &f);
	return 0;
}

static int try_dir(const struct question *q, const struct version *v, const struct search_dir *dir,
    bool shims, struct failure *first)
{
	char exact[32], major[32];
	snprintf(exact, sizeof(exact), "python%d.%d", v->numbers[0], v->numbers[1]);
	snprintf(major, sizeof(major), "python%d", v->numbers[0]);
	bool pyenv = strcmp(dir->source, "pyenv") == 0;
	for (int i = v->count == 1; i < 2; i++) {
		/* One of pyenv's holds a single version under all of its names. */
		if (i == 1 && pyenv && v->count > 1)
			break;
		_cleanup_free_ char *path = search_find(dir, i == 0 ? exact : major);
		if (!path || probe_in_environment(path) || probe_is_shim(path) != shims)
			continue;
		int r = try_candidate(q, v, path, dir->source, first);
		if (r != 0)
			return r;
	}
	return 0;
}

static int resolve_version(const struct question *q, const struct search *s, const struct version *v)
{
	_cleanup_failure_ struct failure first = { 0 };
	for (int shims = 0; shims < 2; shims++)
		for (size_t i = 0; i < s->count; i++) {
			int r = try_dir(q, v, &s->dirs[i], shims, &first);
			if (r > 0)
				return 0;
			if (r < 0) {
				failure_move(q->failure, &first);
				return -1;
			}
		}
	if (first.code != ERROR_NONE) {
		failure_move(q->failure, &first);
		return -1;
	}
	_cleanup_free_ char *reason = xasprintf("there is no Python %s on PATH, in /usr/bin, "
	    "/usr/local/bin or '%s'", q->spec, s->pyenv ? s->pyenv : "~/.pyenv/versions");
	return not_found(q, reason);
}

int resolve(const struct resolution *r, struct interpreter *ret, struct failure *failure)
{
	const char *spec = json_string_value(json_array_get(r->specs, 0));
	struct question q = {
		.spec = spec, .caller = r->caller, .probe_ms = r->probe_ms, .ret = ret, .failure = failure,
	};
	if (spec && strchr(spec, '/'))
		return resolve_path(&q);
	_cleanup_search_ struct search s;
	search_init(&s, r->caller);
	struct version version;
	if (!spec)
		return resolve_default(&q, &s);
	if (!place_component(spec))
		return not_found(&q, "it is neither a path, a version nor a name");
	if (parse_version(spec, &version))
		return resolve_version(&q, &s, &version);
	return resolve_name(&q, &s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Which interpreter. Without a specification: what a .python-version names, else the first python3 on the
 * caller's PATH that is neither a shim nor inside an environment. With several: the first that exists. What was
 * named by a path or a name is taken or refused, never replaced by another; only a version passes over
 * candidates that do not answer, and then the first one's trouble is what is told.
 *
 * The order for a version: an installation that is named for exactly this one (if it has three numbers); uv's,
 * if the configuration wants those first; the directories of programs, in order; all installations, the newest
 * first; shims. Pre-releases, free-threaded builds and other implementations than CPython are only taken when
 * they were asked for, or when nothing else is there.
 *
 * Whoever must not ask (probe_ms 0) learns 1 as soon as the answer hangs on an interpreter that is not known.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base.h"
#include "known.h"
#include "orders.h"
#include "paths.h"
#include "pin.h"
#include "place.h"
#include "resolve.h"
#include "search.h"
#include "spec.h"
#include "util.h"

#define HOPS_MAX 8

struct question {
	const struct resolution *of;
	const char *text;               /* what the user wrote; NULL: nothing */
	struct spec spec;
	bool pinned;                    /* it stands in a file: it may choose, but not name a program */
	struct search *search;
	struct interpreter *ret;
	struct failure *failure;        /* what is told */
	/* Of versions: */
	char *fallback;                 /* fits, but is of a kind that nobody asked for */
	const char *fallback_source;
	struct failure first;           /* the first candidate's trouble */
};

/* What is tried next: 0 taken, NEXT not this one, UNKNOWN somebody would have to be asked, -1 failed. */
enum { UNKNOWN = 1, NEXT = 2 };

static int not_found(const struct question *q, const char *reason)
{
	return failure_set(q->failure, ERROR_NO_SUCH_INTERPRETER, json_pack("{soso}", "interpreter",
	    failure_text(q->text ? q->text : "python3"), "reason", failure_text(reason)));
}

static void chosen(const struct question *q, const char *rule, const char *source, const char *path,
    const char *reason)
{
	free(q->ret->reason);
	q->ret->rule = rule;
	q->ret->source = source;
	q->ret->reason = strcmp(q->ret->path, path) == 0 ? xstrdup(reason) :
	    xasprintf("%s, behind the shim '%s'", reason, path);
}

/* Takes this file or fails; reason is owned by it. */
static int take(const struct question *q, const char *path, const char *rule, const char *source, char *reason)
{
	_cleanup_free_ char *why = reason;
	int r = known_ask(path, q->text ? q->text : path, q->of->caller, q->of->probe_ms, q->ret, q->failure);
	if (r == 0)
		chosen(q, rule, source, path, why);
	return r;
}

/* A link on PATH into an installation of uv: an environment must lean on that, not on the link. */
static char *within_uv(const struct question *q, char *path)
{
	char target[PATH_MAX];
	_cleanup_free_ char *uv = NULL, *at = xstrdup(path);
	for (int i = 0; i < HOPS_MAX; i++) {
		ssize_t n = readlink(at, target, sizeof(target) - 1);
		if (n < 0)
			return path;
		target[n] = '\0';
		const char *slash = strrchr(at, '/');
		char *joined = target[0] == '/' ? xstrdup(target) :
		    xasprintf("%.*s/%s", (int)(slash - at), at, target);
		free(at);
		at = path_absolute(joined);
		free(joined);
		if (!uv && !(uv = search_uv(q->of->caller)))
			return path;
		size_t len = strlen(uv);
		if (strncmp(at, uv, len) != 0 || at[len] != '/')
			continue;
		/* It was found inside: nothing to correct. */
		if (strncmp(path, uv, len) == 0 && path[len] == '/')
			return path;
		free(path);
		return xstrdup(at);
	}
	return path;
}

/* --- nothing given --- */

static int resolve_managed(struct question *q);

static int resolve_default(struct question *q)
{
	_cleanup_free_ char *shim = NULL;
	const struct search_dir *dir;
	if (q->of->managed_first) {
		spec_parse("cpython", &q->spec);
		int r = resolve_managed(q);
		if (r != NEXT)
			return r;
	}
	for (size_t i = 0; (dir = search_programs(q->search, i)) && strcmp(dir->source, "PATH") == 0; i++) {
		char *path = search_interpreter(dir, "python3");
		if (path && probe_in_environment(path)) {
			free(path);
			continue;
		}
		if (path && probe_is_shim(path)) {
			if (shim)
				free(path);
			else
				shim = path;
			continue;
		}
		if (!path)
			continue;
		path = within_uv(q, path);
		int r = take(q, path, "PATH", "PATH", xstrdup("first python3 on PATH"));
		free(path);
		return r;
	}
	if (shim)
		return take(q, shim, "PATH", "PATH", xstrdup("only python3 on PATH"));
	return not_found(q, "there is no python3 on PATH outside of environments");
}

/* --- paths and names --- */

static int take_base(struct question *q, const char *dir, const char *source, const char *name)
{
	_cleanup_free_ char *why = NULL;
	_cleanup_free_ char *base = base_find(dir, &why);
	if (!base)
		return not_found(q, why);
	return take(q, base, "environment", source, name ?
	    xasprintf("base interpreter of the environment '%s'", name) :
	    xasprintf("base interpreter of the environment in '%s'", dir));
}

static int resolve_path(struct question *q)
{
	if (q->text[0] != '/' && !q->of->caller->cwd)
		return not_found(q, "a relative path needs the caller's working directory");
	_cleanup_free_ char *path = q->text[0] == '/' ? xstrdup(q->text) : NULL;
	if (!path) {
		_cleanup_free_ char *joined = xasprintf("%s/%s", q->of->caller->cwd, q->text);
		path = path_absolute(joined);
	}
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		_cleanup_free_ char *top = path_absolute(path);
		if (base_is_environment(top))
			return take_base(q, top, "path", NULL);
		_cleanup_free_ char *bin = xasprintf("%s/bin", strcmp(top, "/") == 0 ? "" : top);
		struct search_dir dir = { .path = bin };
		_cleanup_free_ char *inside = search_python(&dir);
		if (inside)
			return take(q, inside, "path", "path", xasprintf("the installation in '%s'", top));
	}
	return take(q, path, "path", "path", xstrdup("named by its path"));
}

static int take_installation(struct question *q, const char *prefix, const char *source)
{
	if (base_is_environment(prefix))
		return take_base(q, prefix, source, q->text);
	_cleanup_free_ char *bin = xasprintf("%s/bin", prefix);
	struct search_dir dir = { .path = bin };
	dir.guessed = spec_read_installation(strrchr(prefix, '/') + 1, &dir.guess);
	_cleanup_free_ char *path = search_python(&dir);
	if (!path)
		return NEXT;
	return take(q, path, "installation", source, xasprintf("%s's '%s'", source, q->text));
}

/* What a tool calls so: miniconda3-latest, 3.12-dev, pypy3.9-7.3.11, an environment of pyenv. */
static int resolve_installation(struct question *q)
{
	const char *name = strncmp(q->spec.text, "python-", 7) == 0 ? q->spec.text + 7 : q->spec.text;
	const struct search_dir *dir;
	_cleanup_free_ char *pyenv = search_pyenv(q->of->caller);
	_cleanup_free_ char *direct = pyenv ? xasprintf("%s/%s", pyenv, name) : NULL;
	if (direct && access(direct, F_OK) == 0) {
		int r = take_installation(q, direct, "pyenv");
		if (r != NEXT)
			return r;
	}
	for (size_t i = 0; (dir = search_installed(q->search, i)); i++) {
		if (strcmp(dir->name, name) == 0) {
			_cleanup_free_ char *prefix = xstrndup(dir->path, strlen(dir->path) - strlen("/bin"));
			int r = take_installation(q, prefix, dir->source);
			if (r != NEXT)
				return r;
		}
		/* pyenv-virtualenv: versions/3.12.1/envs/NAME */
		if (strcmp(dir->source, "pyenv") == 0) {
			_cleanup_free_ char *nested = xasprintf("%.*s/envs/%s",
			    (int)(strlen(dir->path) - strlen("/bin")), dir->path, name);
			if (base_is_environment(nested))
				return take_base(q, nested, "pyenv", q->text);
		}
	}
	return NEXT;
}

static int resolve_program(struct question *q)
{
	const struct search_dir *dir;
	for (size_t i = 0; (dir = search_programs(q->search, i)) && strcmp(dir->source, "PATH") == 0; i++) {
		_cleanup_free_ char *path = search_find(dir, q->text);
		if (path)
			return take(q, path, "name", "PATH", xasprintf("first %s on PATH", q->text));
	}
	return NEXT;
}

/* An environment of the root. */
static int resolve_environment(struct question *q)
{
	_cleanup_fd_ int fd = place_open(WORKER_FD_ROOT, q->text, O_PATH | O_DIRECTORY);
	char dir[64];
	snprintf(dir, sizeof(dir), "/proc/self/fd/%d", fd);
	if (fd < 0 || !base_is_environment(dir))
		return NEXT;
	_cleanup_free_ char *path = xrealpath(dir);
	return path ? take_base(q, path, "environment", q->text) : NEXT;
}

static int resolve_name(struct question *q)
{
	if (!place_component(q->text))
		return not_found(q, "it is neither a path, a version nor a name");
	int r = resolve_environment(q);
	if (r == NEXT)
		r = resolve_installation(q);
	if (r == NEXT && !q->pinned)
		r = resolve_program(q);
	if (r != NEXT)
		return r;
	_cleanup_free_ char *reason = xasprintf("there is no environment, no installation%s '%s'",
	    q->pinned ? "" : " and no program on PATH called", q->text);
	return not_found(q, reason);
}

/* --- versions --- */

static struct spec_candidate candidate_of(const struct interpreter *i)
{
	struct spec_candidate c = { .implementation = i->implementation };
	spec_version_parse(i->version, &c.version);
	c.free_threaded = json_is_true(json_object_get(i->facts, "gilDisabled"));
	c.debug = json_is_true(json_object_get(i->facts, "debug"));
	json_t *wide = json_object_get(i->facts, "lib64");
	c.bits = json_is_true(wide) ? 64 : json_is_false(wide) ? 32 : 0;
	return c;
}

static char *version_reason(const struct question *q, const char *source, bool exact)
{
	const char *what = q->spec.text;
	const char *python = strpbrk(what, "0123456789") == what || strchr("<>=!~", *what) ? "Python " : "";
	if (strcmp(source, "PATH") == 0)
		return xasprintf("first %s%s on PATH", python, what);
	if (source[0] == '/')
		return xasprintf("%s%s in %s", python, what, source);
	if (strcmp(source, "configuration") == 0)
		return xasprintf("%s%s in a directory of the configuration", python, what);
	if (strcmp(source, "added") == 0)
		return xasprintf("%s%s that was added", python, what);
	return xasprintf("%s %s%s of %s", exact ? "the" : "newest", python, what, source);
}

/* known: what known_get() said of it. A failure goes to *f. */
static int look_at(struct question *q, const char *path, int known, struct failure *f)
{
	const char *named = q->text ? q->text : path;
	if (known != 0)
		return known_ask(path, named, q->of->caller, q->of->probe_ms, q->ret, f);
	/* One that does not fit is not worth a walk of its path. */
	struct spec_candidate c = candidate_of(q->ret);
	return spec_fits(&q->spec, &c) ? probe_check(path, named, f) : NEXT;
}

static int try_candidate(struct question *q, const char *path, int known, const char *rule,
    const char *source, bool last)
{
	_cleanup_failure_ struct failure f = { 0 };
	int r = look_at(q, path, known, &f);
	if (r > 0)
		return r;
	if (r < 0 && failure_is_gone(&f)) {
		failure_move(q->failure, &f);
		return -1;
	}
	if (r < 0) {
		if (q->first.code == ERROR_NONE)
			failure_move(&q->first, &f);
		return NEXT;
	}
	struct spec_candidate c = candidate_of(q->ret);
	if (!spec_fits(&q->spec, &c))
		return NEXT;
	if (!last && !spec_prefers(&q->spec, &c)) {
		if (!q->fallback) {
			q->fallback = xstrdup(path);
			q->fallback_source = source;
		}
		return NEXT;
	}
	_cleanup_free_ char *reason = version_reason(q, source, strcmp(rule, "installation") == 0);
	chosen(q, rule, source, path, reason);
	return 0;
}

/* Whether the interpreter at path, of which known_get() said `known`, is an environment's. */
static bool is_of_environment(const struct question *q, const char *path, int known)
{
	return known == 0 ? q->ret->in_environment : probe_in_environment(path);
}

/* Takes path, which may be NULL. */
static int try_program(struct question *q, char *path, const struct search_dir *dir, bool shims)
{
	int r = NEXT;
	if (path && probe_is_shim(path) == shims) {
		path = within_uv(q, path);
		int known = known_get(path, q->ret, NULL);
		if (dir->file || !is_of_environment(q, path, known))
			r = try_candidate(q, path, known, strcmp(dir->source, "PATH") == 0 ? "PATH" : "version",
			    dir->source, false);
	}
	free(path);
	return r;
}

static int try_programs(struct question *q, bool shims)
{
	char names[SPEC_NAMES][SPEC_NAME_BYTES];
	size_t count = spec_names(&q->spec, shims, names);
	const struct search_dir *dir;
	for (size_t i = 0; (dir = search_programs(q->search, i)); i++) {
		int r = NEXT;
		if (dir->file)
			r = try_program(q, xstrdup(dir->file), dir, shims);
		else
			for (size_t k = 0; r == NEXT && k < count; k++)
				r = try_program(q, search_interpreter(dir, names[k]), dir, shims);
		if (r != NEXT)
			return r;
	}
	return NEXT;
}

static bool is_exactly(const struct spec *s, const struct search_dir *dir)
{
	return dir->guessed && dir->guess.version.count == 3 && spec_fits(s, &dir->guess) &&
	    spec_prefers(s, &dir->guess);
}

/* only: of this tool alone. */
static int try_installations(struct question *q, const char *only, bool exact)
{
	const struct search_dir *dir;
	for (size_t i = 0; (dir = search_installed(q->search, i)); i++) {
		if ((only && strcmp(dir->source, only) != 0) || (exact && !is_exactly(&q->spec, dir)) ||
		    (dir->guessed && !spec_may_fit(&q->spec, &dir->guess)))
			continue;
		_cleanup_free_ char *path = search_python(dir);
		if (!path || probe_is_shim(path))
			continue;
		int known = known_get(path, q->ret, NULL);
		if (is_of_environment(q, path, known))
			continue;
		int r = try_candidate(q, path, known, exact ? "installation" : "version", dir->source, false);
		if (r != NEXT)
			return r;
	}
	return NEXT;
}

static void forget_candidates(struct question *q)
{
	failure_done(&q->first);
	free(q->fallback);
	q->fallback = NULL;
}

static int resolve_managed(struct question *q)
{
	int r = try_installations(q, "uv", false);
	forget_candidates(q);
	return r;
}

static int try_fallback(struct question *q)
{
	if (!q->fallback)
		return NEXT;
	int known = known_get(q->fallback, q->ret, NULL);
	return try_candidate(q, q->fallback, known, "version", q->fallback_source, true);
}

static int try_everything(struct question *q)
{
	int r = NEXT;
	if (q->spec.version.count == 3)
		r = try_installations(q, NULL, true);
	if (r == NEXT && q->of->managed_first)
		r = try_installations(q, "uv", false);
	if (r == NEXT)
		r = try_programs(q, false);
	if (r == NEXT)
		r = try_installations(q, NULL, false);
	if (r == NEXT)
		r = try_fallback(q);
	if (r == NEXT)
		r = try_programs(q, true);
	if (r == NEXT)
		r = try_fallback(q);            /* a shim's */
	return r;
}

static int version_not_found(struct question *q)
{
	if (q->first.code != ERROR_NONE) {
		failure_move(q->failure, &q->first);
		return -1;
	}
	const char *what = q->spec.text;
	bool bare = strpbrk(what, "0123456789") == what || strchr("<>=!~", *what);
	_cleanup_free_ char *reason = xasprintf("there is no %s%s on PATH, in /usr/bin or /usr/local/bin, nor "
	    "among those of pyenv, uv, conda, asdf and mise", bare ? "Python " : "", what);
	return not_found(q, reason);
}

static int resolve_version(struct question *q)
{
	int r = try_everything(q);
	if (r == NEXT)
		r = version_not_found(q);
	forget_candidates(q);
	return r;
}

/* --- one, several, pinned --- */

static int resolve_one(struct question *q)
{
	spec_parse(q->text, &q->spec);
	if (q->spec.kind == SPEC_PATH)
		return resolve_path(q);
	return q->spec.kind == SPEC_VERSION ? resolve_version(q) : resolve_name(q);
}

/* A file in some repository chooses among what is there. It does not say what is to be run. */
static int resolve_word(struct question *q)
{
	if (strcmp(q->text, "system") == 0)
		return resolve_default(q);
	const char *nested = strstr(q->text, "/envs/");
	if (nested && !strchr(nested + 6, '/') && !strstr(q->text, "..")) {
		_cleanup_free_ char *pyenv = search_pyenv(q->of->caller);
		_cleanup_free_ char *dir = pyenv ? xasprintf("%s/%s", pyenv, q->text) : NULL;
		if (dir && base_is_environment(dir))
			return take_base(q, dir, "pyenv", q->text);
	}
	if (strchr(q->text, '/'))
		return not_found(q, "a path is not taken from a .python-version");
	return resolve_one(q);
}

static char *join_words(const struct pin *p)
{
	struct text t = { 0 };
	for (size_t i = 0; i < p->count; i++)
		text_addf(&t, "%s'%s'", i == 0 ? "" : i + 1 == p->count ? " or " : ", ", p->words[i]);
	return t.data;
}

static void warn(const struct question *q, const struct pin *p)
{
	/* A repository may have a link of this name to a secret of whoever has fetched it. */
	_cleanup_free_ char *words = p->linked ? xstrdup("a Python") : join_words(p);
	_cleanup_free_ char *text = xasprintf("'%s' asks for %s, which is not here", p->file, words);
	if (q->of->warnings)
		json_array_append_new(q->of->warnings, failure_text(text));
}

static int resolve_pin(struct question *q, const struct pin *p)
{
	for (size_t i = 0; i < p->count; i++) {
		q->text = p->words[i];
		int r = resolve_word(q);
		if (r == 0) {
			_cleanup_free_ char *reason = q->ret->reason;
			q->ret->reason = xasprintf("%s, as '%s' says", reason, p->file);
			q->ret->rule = "pin";
		}
		if (r >= 0 || q->failure->code != ERROR_NO_SUCH_INTERPRETER)
			return r;
	}
	return NEXT;
}

static int resolve_nothing(struct question *q)
{
	_cleanup_free_ char *dir = q->of->caller->cwd ? path_absolute(q->of->caller->cwd) : NULL;
	int level = 0;
	q->pinned = true;
	while (dir) {
		_cleanup_pin_ struct pin pin = { 0 };
		if (!pin_next(&dir, &level, &pin))
			break;
		int r = resolve_pin(q, &pin);
		if (r != NEXT)
			return r;
		warn(q, &pin);
	}
	q->pinned = false;
	q->text = NULL;
	failure_done(q->failure);
	return resolve_default(q);
}

static int none_of(const struct question *q, const struct text *reasons)
{
	const json_t *specs = q->of->specs;
	_cleanup_text_ struct text all = { 0 };
	for (size_t i = 0; i < json_array_size(specs); i++) {
		const char *text = json_string_value(json_array_get(specs, i));
		text_addf(&all, "%s%s", i ? ", " : "", text ? text : "");
	}
	return failure_set(q->failure, ERROR_NO_SUCH_INTERPRETER, json_pack("{soso}", "interpreter",
	    failure_text(all.data), "reason", failure_text(reasons->data)));
}

static int resolve_first(struct question *q)
{
	_cleanup_text_ struct text reasons = { 0 };
	size_t count = json_array_size(q->of->specs);
	for (size_t i = 0; i < count; i++) {
		q->text = json_string_value(json_array_get(q->of->specs, i));
		if (!q->text)
			q->text = "";
		int r = resolve_one(q);
		if (r >= 0 || q->failure->code != ERROR_NO_SUCH_INTERPRETER || count == 1)
			return r;
		text_addf(&reasons, "%s%s", i ? "; " : "",
		    json_string_value(json_object_get(q->failure->parameters, "reason")));
	}
	return none_of(q, &reasons);
}

int resolve_answered(json_t *answer, json_t *warnings, struct interpreter *ret)
{
	_cleanup_failure_ struct failure f = { 0 };
	json_t *interpreter = json_object_get(answer, "interpreter"), *told = json_object_get(answer, "warnings");
	const char *path = json_string_value(json_object_get(interpreter, "path"));
	const char *reason = json_string_value(json_object_get(answer, "reason"));
	if (!path || known_get(path, ret, NULL) != 0 || probe_check(path, path, &f) < 0)
		return 1;
	ret->reason = xstrdup(reason ? reason : "");
	ret->rule = json_string_value(json_object_get(answer, "rule"));
	ret->source = json_string_value(json_object_get(interpreter, "source"));
	if (json_is_array(told))
		json_array_extend(warnings, told);
	return 0;
}

const char **resolve_search(json_t *search, bool *ret_managed_first)
{
	json_t *dirs = json_object_get(search, "dirs"), *value;
	const char **ret = xcalloc(json_array_size(dirs) + 1, sizeof(*ret));
	size_t i, n = 0;
	json_array_foreach(dirs, i, value)
		if (json_is_string(value))
			ret[n++] = json_string_value(value);
	*ret_managed_first = json_is_true(json_object_get(search, "managedFirst"));
	return ret;
}

int resolve(const struct resolution *r, struct interpreter *ret, struct failure *failure)
{
	_cleanup_search_ struct search search;
	search_init(&search, r->caller, r->dirs);
	struct question q = { .of = r, .search = &search, .ret = ret, .failure = failure };
	return json_array_size(r->specs) == 0 ? resolve_nothing(&q) : resolve_first(&q);
}

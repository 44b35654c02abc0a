/* SPDX-License-Identifier: MIT */
/*
 * Finding a virtualenv for an old interpreter. Which release still makes environments of which Python is told by
 * virtualenv's release history: 16.0.0 (May 2018) left out 2.6 and fails with 3.3 (its issue 1179), 20.5.0
 * (July 2021) left out 3.4, and 20.22.0 (April 2023) everything below 3.7, Python 2 included. Each release has
 * the wheels that it needs in itself, so nothing is downloaded.
 *
 * Candidates are asked for their version, in this order, until one is old enough: the interpreter's own module,
 * `virtualenv` on the caller's PATH, pip's --user directory, pipx. What is run is checked like an interpreter.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "child.h"
#include "paths.h"
#include "pytext.h"
#include "virtualenv.h"

#define ASKED_MAX 8             /* candidates: each may take its time to answer */

struct search_state {
	const struct interpreter *interpreter;
	const struct caller *caller;
	int probe_ms;
	char *asked[ASKED_MAX];         /* real paths */
	size_t count;
	bool newer;                     /* one was met that is too new */
};

/* The first release that no longer makes environments of these versions. */
static const struct {
	int python[2];
	int virtualenv[2];
} ends[] = {
	{ { 2, 6 }, { 16, 0 } },
	{ { 2, 7 }, { 20, 22 } },
	{ { 3, 3 }, { 16, 0 } },
	{ { 3, 4 }, { 20, 5 } },
	{ { 3, 5 }, { 20, 22 } },
};

void virtualenv_done(struct virtualenv *v)
{
	for (size_t i = 0; i < v->words; i++)
		free(v->command[i]);
	*v = (struct virtualenv){ 0 };
}

/* NULL: there never was one. */
static const int *end_of(const struct interpreter *interpreter)
{
	for (size_t i = 0; i < ARRAY_LENGTH(ends); i++)
		if (memcmp(ends[i].python, interpreter->numbers, sizeof(ends[i].python)) == 0)
			return ends[i].virtualenv;
	return NULL;
}

static bool old_enough(const struct virtualenv *v, const int end[2])
{
	return v->numbers[0] < end[0] || (v->numbers[0] == end[0] && v->numbers[1] < end[1]);
}

/* "virtualenv 20.21.1 from ..." since 20, "16.7.10" before; warnings of its Python may stand above it. */
static bool read_version(const char *output, int ret[2])
{
	for (const char *line = output; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *s = strncmp(line, "virtualenv ", 11) == 0 ? line + 11 : line;
		if (sscanf(s, "%4d.%4d.", &ret[0], &ret[1]) == 2)
			return true;
	}
	return false;
}

/* Takes v's words. 1: this one; 0: not this one; -1: the daemon is gone. */
static int ask(struct search_state *s, struct virtualenv *v, struct virtualenv *ret, struct failure *f)
{
	const char *argv[5] = { 0 };
	size_t n = 0;
	for (; n < v->words; n++)
		argv[n] = v->command[n];
	argv[n] = "--version";
	__attribute__((cleanup(child_done))) struct child child = {
		.argv = argv, .caller = s->caller, .cwd = v->words > 1 ? "/" : s->caller->cwd,
		.timeout_ms = s->probe_ms,
	};
	child_run(&child);
	bool good = child.end == CHILD_EXITED && child.status == 0 &&
	    read_version(child.output.data, v->numbers);
	if (good && old_enough(v, end_of(s->interpreter))) {
		*ret = *v;
		return 1;
	}
	s->newer |= good;
	virtualenv_done(v);
	return child.end == CHILD_GONE ? failure_gone(f) : 0;
}

static int ask_module(struct search_state *s, struct virtualenv *ret, struct failure *f)
{
	struct virtualenv v = { .words = 3 };
	v.command[0] = xstrdup(s->interpreter->path);
	v.command[1] = xstrdup("-m");
	v.command[2] = xstrdup("virtualenv");
	return ask(s, &v, ret, f);
}

static int ask_file(struct search_state *s, const char *path, struct virtualenv *ret, struct failure *f)
{
	_cleanup_failure_ struct failure unfit = { 0 };
	char *real = xrealpath(path);
	bool again = !real || s->count == ASKED_MAX;
	for (size_t i = 0; !again && i < s->count; i++)
		again = strcmp(s->asked[i], real) == 0;
	if (again || probe_check(path, path, &unfit) < 0) {
		free(real);
		return 0;
	}
	s->asked[s->count++] = real;
	struct virtualenv v = { .words = 1 };
	v.command[0] = xstrdup(path);
	return ask(s, &v, ret, f);
}

static int ask_on_path(struct search_state *s, struct virtualenv *ret, struct failure *f)
{
	int r = 0;
	for (const char *dir = s->caller->path; r == 0 && dir;) {
		size_t len = strcspn(dir, ":");
		_cleanup_free_ char *file = xasprintf("%.*s/virtualenv", (int)len, dir);
		if (*dir == '/')
			r = ask_file(s, file, ret, f);
		dir = dir[len] == ':' ? dir + len + 1 : NULL;
	}
	return r;
}

/* Where pip --user and pipx put it, on the caller's PATH or not. */
static int ask_at_home(struct search_state *s, struct virtualenv *ret, struct failure *f)
{
	static const char *const places[] = {
		".local/bin/virtualenv", ".local/share/pipx/venvs/virtualenv/bin/virtualenv",
		".local/pipx/venvs/virtualenv/bin/virtualenv",
	};
	const char *home = path_home();
	int r = 0;
	for (size_t i = 0; home && r == 0 && i < ARRAY_LENGTH(places); i++) {
		_cleanup_free_ char *file = xasprintf("%s/%s", home, places[i]);
		r = ask_file(s, file, ret, f);
	}
	return r;
}

static bool on_path(const struct caller *caller, const char *name)
{
	for (const char *dir = caller->path; dir;) {
		size_t len = strcspn(dir, ":");
		_cleanup_free_ char *file = xasprintf("%.*s/%s", (int)len, dir, name);
		if (access(file, X_OK) == 0)
			return true;
		dir = dir[len] == ':' ? dir + len + 1 : NULL;
	}
	return false;
}

/* pip refuses --user where the distribution says so (PEP 668: Debian 12, Ubuntu 23.04, Fedora 38 and later), and
 * there pipx is a package; elsewhere pip is what is there already. The oldest ones run only under the old Python. */
static char *install_command(const struct search_state *s, const int end[2])
{
	_cleanup_free_ char *what = end[1] ? xasprintf("'virtualenv<%d.%d'", end[0], end[1]) :
	    xasprintf("'virtualenv<%d'", end[0]);
	if (end[0] < 20) {
		_cleanup_text_ struct text python = { 0 };
		pytext_quote_shell(&python, s->interpreter->path);
		return xasprintf("%s -m pip install --user %s", python.data, what);
	}
	if (on_path(s->caller, "pipx"))
		return xasprintf("pipx install --force %s", what);
	if (access("/etc/debian_version", F_OK) == 0)
		return xasprintf("sudo apt-get install -y pipx && pipx install %s", what);
	return xasprintf("python3 -m pip install --user %s", what);
}

static int none_found(const struct search_state *s, const int end[2], struct failure *f)
{
	_cleanup_free_ char *command = install_command(s, end);
	_cleanup_free_ char *below = end[1] ? xasprintf("%d.%d", end[0], end[1]) : xasprintf("%d", end[0]);
	_cleanup_free_ char *reason = xasprintf("environments of Python %s are made by a virtualenv "
	    "below version %s, and %s is installed", s->interpreter->version, below,
	    s->newer ? "only a newer one" : "none");
	return failure_set(f, ERROR_UNSUPPORTED, json_pack("{soso}", "reason", failure_text(reason),
	    "command", failure_text(command)));
}

int virtualenv_find(const struct interpreter *interpreter, const struct caller *caller, int probe_ms,
    struct virtualenv *ret, struct failure *f)
{
	struct search_state s = { .interpreter = interpreter, .caller = caller, .probe_ms = probe_ms };
	const int *end = end_of(interpreter);
	if (!end)
		return failure_reason(f, ERROR_UNSUPPORTED,
		    "'%s' is Python %s, of which no virtualenv makes environments", interpreter->path,
		    interpreter->version);
	int r = ask_module(&s, ret, f);
	if (r == 0)
		r = ask_on_path(&s, ret, f);
	if (r == 0)
		r = ask_at_home(&s, ret, f);
	for (size_t i = 0; i < s.count; i++)
		free(s.asked[i]);
	if (r != 0)
		return r > 0 ? 0 : -1;
	return none_found(&s, end, f);
}

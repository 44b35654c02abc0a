/* SPDX-License-Identifier: MIT */
/*
 * Every error that a user can meet, in one table: what it says and what to do about it. The exit
 * status belongs to the error's name (proto/errors.c).
 *
 * The texts are templates over the error's parameters. {key} stands for a parameter's text; a part
 * in <angle brackets> is left out when one of its parameters is missing. In a hint a parameter is
 * quoted for the shell where it must be, so that a hint can always be pasted; {!key} is a command already, and
 * stands as it is. If the first hint
 * comes to nothing, the other one is given. {root} and {name} are known even where the error does
 * not carry them.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "bounds.h"
#include "messages.h"
#include "names.h"
#include "talk.h"
#include "util.h"
#include "venvctl.h"

struct message {
	const char *what;
	const char *hint;       /* or NULL */
	const char *other;      /* when nothing is left of hint; or NULL */
};

static const struct message messages[ERROR_COUNT] = {
	[ERROR_NO_SUCH_ENVIRONMENT] = {
		.what = "no environment<, path '{path}'>< '{name}'>",
		.hint = "venvctl list",
	},
	[ERROR_ALREADY_EXISTS] = {
		.what = "'{name}' exists already<, state {state}>",
		.hint = "venvctl show {name}",
	},
	[ERROR_INVALID_NAME] = { .what = "'{name}' cannot be the name of an environment: {rule}" },
	[ERROR_NO_SUCH_INTERPRETER] = {
		.what = "no interpreter '{interpreter}'<: {reason}>",
		.hint = "venvctl python list",
	},
	[ERROR_UNSAFE_INTERPRETER] = {
		.what = "interpreter '{interpreter}' is not safe to run: {reason}",
		.hint = "venvctl python list",
	},
	[ERROR_INTERPRETER_FAILED] = { .what = "interpreter '{interpreter}' failed: {reason}" },
	[ERROR_NO_ENSUREPIP] = {
		.what = "'{interpreter}' has no ensurepip<, version {version}>",
		.hint = "<sudo apt-get install {package}>",
		.other = "<{!bare}>",
	},
	[ERROR_BUSY] = { .what = "<'{name}' is busy: >{reason}" },
	[ERROR_IN_USE] = {
		.what = "'{name}' is in use: {reason}",
		.hint = "<{!forced}>",
	},
	[ERROR_PROTECTED] = { .what = "'{name}' is protected", .hint = "venvctl unprotect {name}" },
	[ERROR_OVERFLOW] = { .what = "more has happened than was read", .hint = "venvctl events" },
	[ERROR_NOT_IN_TRASH] = {
		.what = "no environment '{name}' in the trash",
		.hint = "venvctl list --trash",
	},
	[ERROR_UNSUPPORTED] = { .what = "<'{name}': >{reason}", .hint = "<{!command}>" },
	[ERROR_ROOT_UNAVAILABLE] = {
		.what = "root '{root}' cannot be used: {reason}",
		.hint = "export VENVD_ROOT=DIRECTORY",
	},
	[ERROR_NO_SPACE] = { .what = "no space is left: {reason}", .hint = "df -h {root}" },
	[ERROR_CANCELLED] = { .what = "cancelled; nothing was changed" },
	[ERROR_SHUTTING_DOWN] = {
		.what = "venvd is ending and takes no more work",
		.hint = "venvctl restart",
	},
	[ERROR_FAILED] = { .what = "{reason}" },
	[ERROR_INTERFACE_NOT_FOUND] = { .what = "venvd has no interface<  '{interface}'>" },
	[ERROR_METHOD_NOT_FOUND] = { .what = "venvd has no method< '{method}'>" },
	[ERROR_METHOD_NOT_IMPLEMENTED] = { .what = "venvd has no method< '{method}'>" },
	[ERROR_INVALID_PARAMETER] = {
		.what = "venvd does not take this value of< '{parameter}'>",
	},
	[ERROR_PERMISSION_DENIED] = { .what = "permission denied" },
	[ERROR_EXPECTED_MORE] = {
		.what = "the answer is too long for one reply",
		.hint = "venvctl call --more METHOD",
	},
	[ERROR_UNKNOWN] = { .what = "venvd refused: {error}", .hint = "man venvctl" },
};

static const struct message transport[] = {
	[CALL_GONE] = { .what = "venvd went away before it answered", .hint = "venvctl list" },
	[CALL_LATE] = { .what = "venvd did not answer in time", .hint = "venvctl status" },
	[CALL_INTERRUPTED] = { .what = "interrupted" },
	[CALL_GARBLED] = { .what = "venvd's answer makes no sense", .hint = "venvctl restart" },
	[CALL_TOO_BIG] = { .what = "the request is too long" },
};

static const enum exit_status transport_status[] = {
	[CALL_GONE] = EXIT_UNREACHABLE,
	[CALL_LATE] = EXIT_TIMED_OUT,
	[CALL_INTERRUPTED] = EXIT_INTERRUPTED,
	[CALL_GARBLED] = EXIT_UNREACHABLE,
	[CALL_TOO_BIG] = EXIT_USAGE,
};

static char *forced;            /* see messages_in_use() */
static char *bare;              /* see messages_without_pip() */

/* What templates can speak of. */
struct facts {
	const json_t *parameters;
	const char *name;
	const char *error;
};

static const char *fact(const struct facts *f, const char *key)
{
	const char *value = json_text(f->parameters, key);
	if (value)
		return value;
	if (strcmp(key, "name") == 0)
		return f->name;
	if (strcmp(key, "error") == 0)
		return f->error;
	if (strcmp(key, "forced") == 0)
		return forced;
	if (strcmp(key, "bare") == 0)
		return bare;
	return strcmp(key, "root") == 0 ? settings_root() : NULL;
}

/* Adds template up to stop (or its end); false if a parameter was missing. Returns behind stop. */
static bool expand_part(struct text *out, const char **template, char stop, const struct facts *f,
                        bool quote)
{
	bool whole = true;
	const char *t = *template;
	while (*t && *t != stop && *t != '<') {
		if (*t != '{') {
			text_add(out, t++, 1);
			continue;
		}
		bool raw = *++t == '!';
		t += raw;
		size_t len = strcspn(t, "}");
		_cleanup_free_ char *key = xstrndup(t, len);
		t += len + 1;
		const char *value = fact(f, key);
		_cleanup_free_ char *quoted = value && quote && !raw ? talk_quote(value) : NULL;
		if (value)
			text_adds(out, quoted ? quoted : value);
		else
			whole = false;
	}
	*template = t;
	return whole;
}

static void expand(struct text *out, const char *template, const struct facts *f, bool quote)
{
	while (*template) {
		if (*template != '<') {
			expand_part(out, &template, '\0', f, quote);
			continue;
		}
		_cleanup_text_ struct text part = { 0 };
		template++;
		if (expand_part(&part, &template, '>', f, quote) && part.len > 0)
			text_add(out, part.data, part.len);
		if (*template == '>')
			template++;
	}
}

static void say(const struct message *m, const struct facts *f, const char *hint)
{
	_cleanup_text_ struct text what = { 0 };
	expand(&what, m->what, f, false);
	talk_error("%s", what.len > 0 ? what.data : "failed, without a reason");

	const char *output = json_text(f->parameters, "output");
	if (output && *output)
		talk_indented(output);
	if (hint) {
		talk_hint("%s", hint);
		return;
	}
	_cleanup_text_ struct text advice = { 0 };
	if (m->hint)
		expand(&advice, m->hint, f, true);
	if (advice.len == 0 && m->other)
		expand(&advice, m->other, f, true);
	if (advice.len > 0)
		talk_hint("%s", advice.data);
}

struct candidates {
	char **names;
	size_t count;
};

static void collect_cb(void *arg, const char *text, size_t len)
{
	struct candidates *c = arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	const char *name = json_text(json_object_get(parameters, "environment"), "name");
	if (!name)
		return;
	if ((c->count & (c->count - 1)) == 0)
		c->names = xreallocarray(c->names, c->count ? 2 * c->count : 1, sizeof(*c->names));
	c->names[c->count++] = xstrdup(name);
}

/* "venvctl restore x" if it lies in the trash; else the closest name there is. Owned, or NULL. */
static char *hint_for_name(struct session *s, const char *name)
{
	struct candidates c = { 0 };
	json_auto_t *by_name = json_pack("{s:s, s:[s]}", "name", name, "fields", "name");
	json_auto_t *all = json_pack("{s:[s]}", "fields", "name");
	struct request q = { .method = "ListTrash", .parameters = by_name, .more = true,
	                     .each = collect_cb, .arg = &c };
	_cleanup_free_ char *quoted = talk_quote(name);
	char *hint = NULL;
	struct answer a;
	if (session_call(s, &q, &a) && c.count > 0)
		hint = xasprintf("'%s' is in the trash: venvctl restore %s", name, quoted);
	answer_done(&a);
	if (!hint) {
		q.method = "List";
		q.parameters = all;
		if (session_call(s, &q, &a)) {
			const char *const *names = (const char *const *)c.names;
			const char *best = name_suggest(name, names, c.count);
			/* Listed, but gone or replaced since: show tells what is known of it. */
			if (best && strcmp(best, name) == 0)
				hint = xasprintf("venvctl show %s", quoted);
			else
				hint = best ? xasprintf("did you mean '%s'?", best) : NULL;
		}
		answer_done(&a);
	}
	for (size_t i = 0; i < c.count; i++)
		free(c.names[i]);
	free(c.names);
	return hint;
}

/* An error that a daemon of our own version has no reason to give. Owned, or NULL. */
static char *hint_for_skew(struct session *s)
{
	struct request q = { .method = "Status" };
	struct answer a;
	session_call(s, &q, &a);
	const char *version = json_text(a.parameters, "version");
	bool same = a.error == ERROR_NONE && version && strcmp(version, VENVD_VERSION) == 0;
	char *hint = same ? NULL : xstrdup("venvctl restart");
	answer_done(&a);
	return hint;
}

/* One that was waited for as long as anybody should wait is stuck: neither asking again nor restart helps,
 * and what it acknowledged is on the disk. Owned, or NULL. */
static char *hint_for_stuck(const struct session *s)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (settings.timeout_ms > 0 || !s || s->wire.fd < 0 ||
	    getsockopt(s->wire.fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
		return NULL;
	return xasprintf("kill -KILL %ld", (long)peer.pid);
}

int messages_report(struct session *s, const struct answer *a, const char *name)
{
	struct facts f = { .parameters = a->parameters, .name = name, .error = a->error_name };
	if (a->end != CALL_OK) {
		int status;
		/* A daemon that only looks has our stderr, and has said there why it ended. */
		if (a->end == CALL_GONE && s && s->looking && waitpid(s->looking, &status, 0) > 0 &&
		    WIFEXITED(status) && WEXITSTATUS(status) != 0)
			return EXIT_REFUSED;
		_cleanup_free_ char *stuck = a->end == CALL_LATE ? hint_for_stuck(s) : NULL;
		say(&transport[a->end], &f, stuck);
		return transport_status[a->end];
	}
	_cleanup_free_ char *hint = NULL;
	bool reachable = s && s->wire.fd >= 0;
	const char *missing = fact(&f, "name");
	if (a->error == ERROR_NO_SUCH_ENVIRONMENT && reachable && missing)
		hint = hint_for_name(s, missing);
	bool skew = a->error == ERROR_METHOD_NOT_FOUND || a->error == ERROR_INVALID_PARAMETER;
	if (skew && reachable)
		hint = hint_for_skew(s);
	say(&messages[a->error], &f, hint);
	return (int)error_exit_status(a->error);
}

int messages_refuse(enum error_code error, json_t *parameters)
{
	struct facts f = { .parameters = parameters };
	say(&messages[error], &f, NULL);
	return (int)error_exit_status(error);
}

void messages_in_use(char *command)
{
	free(forced);
	forced = command;
}

void messages_without_pip(char *command)
{
	free(bare);
	bare = command;
}

void messages_warnings(const json_t *parameters)
{
	const json_t *warning;
	size_t i;
	json_array_foreach(json_object_get(parameters, "warnings"), i, warning)
		if (json_is_string(warning))
			talk_say("warning: %s", json_string_value(warning));
}

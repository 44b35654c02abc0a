/* SPDX-License-Identifier: MIT */
/*
 * Comparing what exists with what is asked for. What the daemon recorded of the creation (`options`) counts, and
 * where there is no such record, what can be seen. An interpreter is compared by its text where that decides
 * it; else the daemon is asked which one the specifications mean here, for that is what would be taken.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "caller.h"
#include "existing.h"
#include "messages.h"
#include "talk.h"
#include "venvctl.h"

void existing_print_path(const json_t *environment)
{
	const char *path = json_text(environment, "path");
	if (!path || talk_terminal(STDOUT_FILENO))
		return;
	_cleanup_text_ struct text out = { 0 };
	text_addf(&out, "%s\n", path);
	talk_out(&out);
}

/* --- the interpreter --- */

/* "3", "3.12" or "3.12.1" alone: digits and dots. */
static bool is_version(const char *python)
{
	return strchr(python, '.') ? strspn(python, "0123456789.") == strlen(python)
	                           : strlen(python) == 1 && strspn(python, "0123456789") == 1;
}

static bool version_fits(const char *wanted, const char *version)
{
	size_t len = strlen(wanted);
	while (len > 0 && wanted[len - 1] == '.')
		len--;
	return version && strncmp(wanted, version, len) == 0 &&
	       (version[len] < '0' || version[len] > '9');
}

static bool same_file(const char *one, const char *other)
{
	_cleanup_free_ char *a = one ? xrealpath(one) : NULL;
	_cleanup_free_ char *b = other ? xrealpath(other) : NULL;
	return a && b && strcmp(a, b) == 0;
}

/* The file that a name on PATH stands for. Owned, or NULL. */
static char *find_on_path(const char *name)
{
	for (const char *path = getenv("PATH"); path && *path;) {
		size_t len = strcspn(path, ":");
		char *file = xasprintf("%.*s/%s", (int)len, path, name);
		if (len > 0 && access(file, X_OK) == 0)
			return file;
		free(file);
		path += len + (path[len] == ':');
	}
	return NULL;
}

static json_t *python_array(const char *const *python)
{
	json_t *array = json_array();
	for (size_t i = 0; python[i]; i++)
		json_array_append_new(array, json_string(python[i]));
	return array;
}

static bool daemon_says_so(struct session *s, const char *const *python, const char *interpreter)
{
	json_auto_t *parameters = json_pack("{s:o, s:o}", "python", python_array(python), "caller",
	                                    caller_new());
	struct request q = { .method = "FindInterpreter", .parameters = parameters,
	                     .repeatable = true };
	_cleanup_answer_ struct answer a;
	if (session_call(s, &q, &a))
		return same_file(json_text(json_object_get(a.parameters, "interpreter"), "path"),
		                 interpreter);
	if (a.end == CALL_OK && a.error == ERROR_NO_SUCH_INTERPRETER)
		return false;
	/* One that is older than this question. */
	_cleanup_free_ char *file = python[1] ? NULL : find_on_path(python[0]);
	return same_file(file, interpreter);
}

static bool python_fits(struct session *s, const struct wanted *w, const json_t *environment)
{
	const char *interpreter = json_text(environment, "interpreter");
	const char *first = w->python[0];
	json_auto_t *given = python_array(w->python);
	const json_t *options = json_object_get(environment, "options");
	if (json_equal(json_object_get(options, "python"), given))
		return true;
	if (!w->python[1] && is_version(first))
		return version_fits(first, json_text(environment, "version"));
	if (!w->python[1] && strchr(first, '/') && same_file(first, interpreter))
		return true;
	return daemon_says_so(s, w->python, interpreter);
}

/* --- the rest --- */

/* A boolean that the daemon does not know cannot differ. */
static bool flag_fits(const json_t *environment, const char *key, bool wanted)
{
	const json_t *value = json_object_get(environment, key);
	return !json_is_boolean(value) || json_is_true(value) == wanted;
}

/* Of the options only what is not the default is recorded. */
static bool option_fits(const json_t *environment, const char *key, bool wanted)
{
	const json_t *options = json_object_get(environment, "options");
	return !options || json_is_true(json_object_get(options, key)) == wanted;
}

static void add_difference(struct text *out, const char *what)
{
	text_addf(out, "%s%s", out->len > 0 ? ", " : "", what);
}

/* In the root its directory has its name; the root itself may be spelled in more than one way. */
static bool path_fits(const struct wanted *w, const json_t *environment)
{
	const char *path = json_text(environment, "path"), *slash = path ? strrchr(path, '/') : NULL;
	if (!slash)
		return true;
	return w->path ? strcmp(path, w->path) == 0 : strcmp(slash + 1, w->name) == 0;
}

/* What was given is recorded: "." of another directory is another prompt. Old interpreters' pyvenv.cfg has none. */
static bool prompt_fits(const struct wanted *w, const json_t *environment)
{
	const char *given = json_text(json_object_get(environment, "options"), "prompt");
	const char *has = given && strcmp(given, ".") != 0 ? given : json_text(environment, "prompt");
	_cleanup_free_ char *cwd = w->prompt && strcmp(w->prompt, ".") == 0 ? getcwd(NULL, 0) : NULL;
	if (!has)
		return !w->prompt || (given && strcmp(given, w->prompt) == 0);
	return strcmp(has, cwd ? strrchr(cwd, '/') + 1 : w->prompt ? w->prompt : w->name) == 0;
}

/* What is different between what exists and what was asked for. */
static void differences(struct session *s, const struct wanted *w, const json_t *environment,
                        struct text *ret)
{
	const char *state = json_text(environment, "state");
	if (!state || strcmp(state, "ready") != 0) {
		text_addf(ret, "it is %s", state ? state : "in no known state");
		return;
	}
	if (!path_fits(w, environment))
		add_difference(ret, "the path");
	if (w->python[0] && !python_fits(s, w, environment))
		add_difference(ret, "the interpreter");
	if (!flag_fits(environment, "pip", !w->without_pip))
		add_difference(ret, w->without_pip ? "it has pip" : "it has no pip");
	if (!flag_fits(environment, "systemSitePackages", w->system_site_packages))
		add_difference(ret, "system-site-packages");
	if (!option_fits(environment, "copies", w->copies))
		add_difference(ret, w->copies ? "it has links to the interpreter"
		                              : "it has copies of the interpreter");
	if (!option_fits(environment, "withoutScmIgnoreFiles", w->without_scm_ignore_files))
		add_difference(ret, "scm-ignore-files");
	if (!prompt_fits(w, environment))
		add_difference(ret, "the prompt");
}

int existing_accept(struct session *s, const struct wanted *w)
{
	_cleanup_answer_ struct answer a;
	if (!session_get(s, w->name, &a))
		return messages_report(s, &a, w->name);
	const json_t *environment = json_object_get(a.parameters, "environment");
	_cleanup_text_ struct text different = { 0 };
	differences(s, w, environment, &different);
	if (different.len > 0) {
		_cleanup_free_ char *quoted = talk_quote(w->name);
		talk_error("'%s' exists and differs: %s", w->name, different.data);
		talk_hint("venvctl show %s", quoted);
		return EXIT_EXISTS;
	}
	talk_say("'%s' exists already", w->name);
	existing_print_path(environment);
	return EXIT_DONE;
}

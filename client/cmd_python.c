/* SPDX-License-Identifier: MIT */
/*
 * venvctl python: the interpreters that environments can be made from. list shows all, find tells which one a
 * specification means and why, add and remove keep those that lie where none is looked for. Each is asked
 * what it is the first time it is met, so a first list takes a moment; those that cannot be used are listed
 * with the reason.
 */
#include <limits.h>
#include <string.h>
#include "bounds.h"
#include "caller.h"
#include "messages.h"
#include "names.h"
#include "paths.h"
#include "row.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

static const char *const fields[] = { "version", "implementation", "path", "source", "state", "problem" };
static const char *const headers[] = { "VERSION", "IMPLEMENTATION", "PATH", "FOUND", "STATE", "PROBLEM" };

struct interpreters {
	bool json;
	size_t rows;
	struct table table;
	struct text out;
};

static void row_cb(void *arg, const char *text, size_t len)
{
	struct interpreters *l = arg;
	struct row row;
	if (!row_read(text, len, "interpreter", &row))
		return;
	if (row.object && l->json) {
		text_adds(&l->out, l->rows == 0 ? "[\n" : ",\n");
		text_add(&l->out, row.object, row.object_len);
	}
	for (size_t i = 0; row.object && !l->json && i < ARRAY_LENGTH(fields); i++) {
		const struct row_field *f = row_field(&row, fields[i]);
		table_cell(&l->table, f ? f->value : "", f ? f->len : 0, NULL);
	}
	l->rows += row.object != NULL;
	row_done(&row);
}

static int list(bool json)
{
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != EXIT_DONE)
		return status;
	struct interpreters l = { .json = json };
	table_init(&l.table, headers, ARRAY_LENGTH(headers));
	json_auto_t *parameters = json_pack("{s:o}", "caller", caller_new());
	struct request q = { .method = "ListInterpreters", .parameters = parameters, .more = true,
	                     .repeatable = true, .wait_ms = LIMIT_CREATE_MS, .each = row_cb,
	                     .arg = &l };
	_cleanup_answer_ struct answer a;
	bool good = session_call(&s, &q, &a);
	if (good && json) {
		text_adds(&l.out, l.rows == 0 ? "[]\n" : "\n]\n");
		talk_json(&l.out);
	}
	text_done(&l.out);
	table_end(&l.table);
	if (!good)
		return messages_report(&s, &a, NULL);
	if (l.rows == 0 && talk_terminal(STDOUT_FILENO))
		talk_say("no interpreters were found");
	return EXIT_DONE;
}

static void print(const json_t *value, const char *path, bool json)
{
	_cleanup_text_ struct text out = { 0 };
	_cleanup_free_ char *text = json ? json_dumps(value, JSON_INDENT(2)) : NULL;
	text_addf(&out, "%s\n", text ? text : path ? path : "");
	(text ? talk_json : talk_out)(&out);
}

static json_t *read_specs(int count, char **words)
{
	json_t *specs = json_array();
	for (int i = 0; i < count; i++)
		if (json_array_append_new(specs, json_string(words[i])) < 0)
			usage_error("'%s' is not UTF-8", words[i]);
	return specs;
}

/* The path is for a program, why it is this one for a person. */
static int find(int count, char **words, bool json)
{
	json_auto_t *parameters = json_pack("{s:o, s:o}", "python", read_specs(count, words), "caller",
	                                    caller_new());
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != EXIT_DONE)
		return status;
	struct request q = { .method = "FindInterpreter", .parameters = parameters, .repeatable = true,
	                     .wait_ms = LIMIT_CREATE_MS };
	_cleanup_answer_ struct answer a;
	if (!session_call(&s, &q, &a))
		return messages_report(&s, &a, NULL);
	const json_t *interpreter = json_object_get(a.parameters, "interpreter"), *warning;
	const char *version = json_text(interpreter, "version");
	const char *reason = json_text(a.parameters, "reason");
	size_t i;
	json_array_foreach(json_object_get(a.parameters, "warnings"), i, warning)
		talk_say("warning: %s", json_string_value(warning) ? json_string_value(warning) : "");
	if (!json)
		talk_say("Python %s, %s", version ? version : "of unknown version", reason ? reason : "");
	print(a.parameters, json_text(interpreter, "path"), json);
	return EXIT_DONE;
}

static int change(const char *method, const char *word, bool add)
{
	/* Where this shell stands is nothing to the daemon. */
	_cleanup_free_ char *path = path_absolute(word);
	json_auto_t *parameters = json_pack("{s:s}", "path", path);
	if (!parameters)
		usage_error("'%s' is not UTF-8", word);
	if (add)
		json_object_set_new(parameters, "caller", caller_new());
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != EXIT_DONE)
		return status;
	struct request q = { .method = method, .parameters = parameters, .repeatable = add,
	                     .wait_ms = LIMIT_CREATE_MS };
	_cleanup_answer_ struct answer a;
	if (!session_call(&s, &q, &a))
		return messages_report(&s, &a, NULL);
	const char *version = json_text(json_object_get(a.parameters, "interpreter"), "version");
	if (add)
		talk_say("added Python %s (%s)", version ? version : "of unknown version", path);
	else
		talk_say("removed '%s'; environments made from it stay", path);
	return EXIT_DONE;
}

int cmd_python(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	static const char *const verbs[] = { "list", "find", "add", "remove" };
	bool json = false;
	while (verb_option(argc, argv, "", options) != -1)
		json = true;
	verb_arguments(argc, argv, 1, INT_MAX);
	const char *verb = argv[optind];
	if (strcmp(verb, "find") == 0)
		return find(argc - optind - 1, argv + optind + 1, json);
	bool add = strcmp(verb, "add") == 0;
	if (add || strcmp(verb, "remove") == 0 || strcmp(verb, "rm") == 0) {
		verb_arguments(argc, argv, 2, 2);
		if (json)
			usage_error("'python %s' takes no --json", verb);
		return change(add ? "AddInterpreter" : "RemoveInterpreter", argv[optind + 1], add);
	}
	if (strcmp(verb, "list") != 0 && strcmp(verb, "ls") != 0) {
		const char *best = name_suggest(verb, verbs, ARRAY_LENGTH(verbs));
		usage_error("there is no command 'python %s'; did you mean 'python %s'?", verb,
		            best ? best : "list");
	}
	verb_arguments(argc, argv, 1, 1);
	return list(json);
}

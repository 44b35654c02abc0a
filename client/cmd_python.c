/* SPDX-License-Identifier: MIT */
/*
 * venvctl python list: the interpreters that environments can be made from. Each is asked what it
 * is as the list goes, so this takes a moment; those that cannot be used are listed with the
 * reason.
 */
#include <string.h>
#include "bounds.h"
#include "caller.h"
#include "messages.h"
#include "row.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

static const char *const fields[] = { "version", "implementation", "path", "source", "problem" };
static const char *const headers[] = { "VERSION", "IMPLEMENTATION", "PATH", "FOUND", "PROBLEM" };

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
		talk_out(&l.out);
	}
	text_done(&l.out);
	table_end(&l.table);
	if (!good)
		return messages_report(&s, &a, NULL);
	if (l.rows == 0 && talk_terminal(STDOUT_FILENO))
		talk_say("no interpreters were found");
	return EXIT_DONE;
}

int cmd_python(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	bool json = false;
	while (verb_option(argc, argv, "", options) != -1)
		json = true;
	verb_arguments(argc, argv, 1, 2);
	if (strcmp(argv[optind], "list") != 0 && strcmp(argv[optind], "ls") != 0)
		usage_error("there is no command 'python %s'; did you mean 'python list'?",
		            argv[optind]);
	verb_arguments(argc, argv, 1, 1);
	return list(json);
}

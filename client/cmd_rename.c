/* SPDX-License-Identifier: MIT */
/* venvctl rename and clone: from one name to another, the environment itself or a copy of it. */
#include "bounds.h"
#include "making.h"
#include "messages.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

static void print_path(const json_t *answer)
{
	const char *path = json_text(json_object_get(answer, "environment"), "path");
	_cleanup_text_ struct text out = { 0 };
	if (!path || talk_terminal(STDOUT_FILENO))
		return;
	text_addf(&out, "%s\n", path);
	talk_out(&out);
}

static json_t *from_to(const char *from, const char *to)
{
	json_t *parameters = json_object();
	making_add_text(parameters, "name", from);
	making_add_text(parameters, "to", to);
	return parameters;
}

int cmd_rename(int argc, char **argv)
{
	static const struct option options[] = { { "force", no_argument, NULL, 'f' }, { 0 } };
	bool force = false;
	while (verb_option(argc, argv, "f", options) != -1)
		force = true;
	verb_arguments(argc, argv, 2, 2);
	const char *from = argv[optind], *to = argv[optind + 1];
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != EXIT_DONE)
		return status;
	json_auto_t *parameters = from_to(from, to);
	if (force)
		json_object_set_new(parameters, "force", json_true());
	_cleanup_free_ char *quoted = talk_quote(from), *other = talk_quote(to);
	messages_in_use(xasprintf("venvctl rename --force %s %s", quoted, other));
	_cleanup_answer_ struct answer a;
	if (!session_change(&s, "Rename", parameters, LIMIT_CREATE_MS, &a))
		return messages_report(&s, &a, from);
	messages_warnings(a.parameters);
	talk_say("'%s' is called '%s' now", from, to);
	print_path(a.parameters);
	return EXIT_DONE;
}

int cmd_clone(int argc, char **argv)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 2, 2);
	const char *from = argv[optind], *to = argv[optind + 1];
	json_auto_t *parameters = from_to(from, to);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != EXIT_DONE)
		return status;
	struct making making = { .name = to, .doing = "copying to", .done = "created" };
	_cleanup_answer_ struct answer a;
	if (!making_ask(&s, &making, "Clone", parameters, &a, &status))
		return status >= 0 ? status : messages_report(&s, &a, from);
	talk_say("copied '%s' to '%s'", from, to);
	print_path(a.parameters);
	return EXIT_DONE;
}

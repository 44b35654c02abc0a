/* SPDX-License-Identifier: MIT */
/*
 * venvctl call: the interface as it is, for scripts and for whoever wants to look. Nothing is
 * explained or converted: the parameters of each reply, or of the error, become one compact line
 * on stdout.
 */
#include <string.h>
#include "bounds.h"
#include "messages.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

static void print_parameters(const json_t *parameters)
{
	_cleanup_text_ struct text out = { 0 };
	_cleanup_free_ char *text = json_dumps(parameters, JSON_COMPACT);
	text_addf(&out, "%s\n", text ? text : "{}");
	talk_json(&out);
}

static void reply_cb(void *arg, const char *text, size_t len)
{
	(void)arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	json_auto_t *empty = json_object();
	print_parameters(json_is_object(parameters) ? parameters : empty);
}

/* What a call needs of the daemon: see "started" in venvctl(1). One that only reads may be repeated; of one that is
 * not known here nothing is known. */
static enum session_need need_of(const char *method, bool *ret_reads)
{
	static const char *const reading[] = {
		"List", "Get", "ListTrash", "Watch", "Diagnose", "Prompt", "ListInterpreters", "FindInterpreter", "Status",
	};
	static const char *const changing[] = {
		"Create", "Recreate", "Delete", "Protect", "Restore", "Adopt", "EmptyTrash", "Rename", "Clone", "Repair",
		"AddInterpreter", "RemoveInterpreter",
	};
	*ret_reads = false;
	if (strncmp(method, "io.venvd.", 9) == 0)
		method += 9;
	for (size_t i = 0; i < ARRAY_LENGTH(reading); i++)
		*ret_reads = *ret_reads || strcmp(reading[i], method) == 0;
	for (size_t i = 0; i < ARRAY_LENGTH(changing); i++)
		if (strcmp(changing[i], method) == 0)
			return SESSION_CHANGE;
	return strcmp(method, "Shutdown") == 0 ? SESSION_RUNNING : SESSION_READ;
}

static json_t *parse_parameters(const char *text)
{
	if (!text)
		return NULL;
	json_error_t why;
	json_t *parameters = json_loads(text, JSON_REJECT_DUPLICATES, &why);
	if (!parameters)
		usage_error("the parameters are no JSON: %s (at character %d)", why.text,
		            why.column);
	if (!json_is_object(parameters))
		usage_error("the parameters must be a JSON object, such as '{\"name\":\"projA\"}'");
	return parameters;
}

int cmd_call(int argc, char **argv)
{
	static const struct option options[] = { { "more", no_argument, NULL, 'm' }, { 0 } };
	bool more = false;
	while (verb_option(argc, argv, "", options) != -1)
		more = true;
	verb_arguments(argc, argv, 1, 2);
	const char *method = argv[optind];
	json_auto_t *check = json_string(method);
	if (!check || !*method)
		usage_error("'%s' cannot be a method", method);
	json_auto_t *parameters = parse_parameters(argv[optind + 1]);

	bool reads;
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, need_of(method, &reads));
	if (status != EXIT_DONE)
		return s.absent ? session_say_absent() : status;
	struct request q = { .method = method, .parameters = parameters, .more = more,
	                     .wait_ms = LIMIT_CREATE_MS, .repeatable = reads, .each = reply_cb };
	_cleanup_answer_ struct answer a;
	if (session_call(&s, &q, &a))
		return EXIT_DONE;
	if (a.end != CALL_OK)
		return messages_report(&s, &a, NULL);
	print_parameters(a.parameters);
	talk_error("%s", a.error_name);
	return (int)error_exit_status(a.error);
}

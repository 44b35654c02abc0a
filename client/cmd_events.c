/* SPDX-License-Identifier: MIT */
/*
 * venvctl events: what happens to environments, a line each, as it happens. The first state is not shown; who wants it has
 * list. It ends with the daemon, or when it is interrupted. When more has happened than was read it says so and
 * goes on.
 */
#include <string.h>
#include <time.h>
#include "messages.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

struct events {
	bool json;
	bool ready;             /* the first state is over */
};

static void add_cell(struct text *out, const char *value, const char *end)
{
	_cleanup_free_ char *safe = text_printable(value ? value : "");
	text_adds(out, safe);
	text_adds(out, end);
}

static void print_event(struct text *out, const json_t *parameters, const char *event)
{
	const json_t *environment = json_object_get(parameters, "environment");
	const char *name = json_text(environment, "name"), *old = json_text(parameters, "oldName");
	char time[32];
	table_iso(now_us(), time);
	if (!talk_terminal(STDOUT_FILENO)) {
		add_cell(out, time, "\t");
		add_cell(out, event, "\t");
		add_cell(out, name, "\t");
		add_cell(out, json_text(environment, "state"), "\t");
		add_cell(out, old, "\n");
		return;
	}
	const char *problem = json_text(environment, "problem");
	text_addf(out, "%s  %-8s  ", time, event);
	add_cell(out, name, old || problem ? "  (" : "\n");
	if (old || problem)
		add_cell(out, old ? old : problem, ")\n");
}

static void event_cb(void *arg, const char *text, size_t len)
{
	struct events *e = arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	const char *event = json_text(parameters, "event");
	_cleanup_text_ struct text out = { 0 };
	if (!event)
		return;
	if (e->json) {
		_cleanup_free_ char *line = json_dumps(parameters, JSON_COMPACT);
		text_addf(&out, "%s\n", line);
		talk_json(&out);
	} else if (e->ready) {
		print_event(&out, parameters, event);
	}
	e->ready = e->ready || strcmp(event, "ready") == 0;
	talk_out(&out);
}

int cmd_events(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	struct events e = { 0 };
	while (verb_option(argc, argv, "", options) != -1)
		e.json = true;
	json_auto_t *names = json_array();
	for (int i = optind; i < argc; i++)
		if (json_array_append_new(names, json_string(argv[i])) < 0)
			usage_error("'%s' is not UTF-8", argv[i]);
	json_auto_t *parameters = json_object();
	if (json_array_size(names) > 0)
		json_object_set(parameters, "names", names);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != EXIT_DONE)
		return status;
	struct request q = { .method = "Watch", .parameters = parameters, .more = true, .wait_ms = -1, .each = event_cb,
	                     .arg = &e };
	for (;;) {
		_cleanup_answer_ struct answer a;
		e.ready = false;
		if (session_call(&s, &q, &a))
			return EXIT_DONE;
		if (a.end != CALL_OK || a.error != ERROR_OVERFLOW)
			return messages_report(&s, &a, NULL);
		talk_say("more has happened than was read; see 'venvctl list'");
	}
}

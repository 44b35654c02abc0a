/* SPDX-License-Identifier: MIT */
/* venvctl status: the daemon about itself. A line for each fact; --json gives the reply as it
 * came. */
#include <string.h>
#include "messages.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

static long long integer(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

static void add_counts(struct text *out, json_t *counts)
{
	_cleanup_text_ struct text line = { 0 };
	const char *state;
	json_t *value;
	json_object_foreach(counts, state, value)
		if (json_integer_value(value) > 0)
			text_addf(&line, "%s%lld %s", line.len > 0 ? ", " : "",
			          (long long)json_integer_value(value), state);
	table_pair(out, "environments", line.len > 0 ? line.data : "none");
}

static void add_uptime(struct text *out, const json_t *status)
{
	/* In microseconds, as all times on the wire. */
	char since[32];
	table_iso(integer(status, "startedAt"), since);
	long long s = integer(status, "uptime") / 1000000;
	_cleanup_free_ char *line = s >= 86400
		? xasprintf("%lldd %lldh %lldm, since %s", s / 86400, s / 3600 % 24, s / 60 % 60,
		            since)
		: xasprintf("%lldh %lldm %llds, since %s", s / 3600, s / 60 % 60, s % 60, since);
	table_pair(out, "uptime", line);
}

/* One line an image: what it is of, and how many environments wait to be handed out. */
static void add_images(struct text *out, const json_t *images)
{
	const json_t *image;
	size_t i;
	json_array_foreach(images, i, image) {
		const char *version = json_text(image, "version"), *why = json_text(image, "delegate");
		const char *interpreter = json_text(image, "interpreter"), *key = json_text(image, "key");
		double bytes = (double)integer(image, "bytes");
		_cleanup_text_ struct text line = { 0 };
		if (version)
			text_addf(&line, "Python %s", version);
		else
			text_adds(&line, key ? key : "unknown");
		if (version && key && strstr(key, "-nopip-"))
			text_adds(&line, " without pip");
		if (interpreter)
			text_addf(&line, " (%s)", interpreter);
		if (why)
			text_addf(&line, ": not used, %s", why);
		else
			text_addf(&line, ": %lld ready", integer(image, "pool"));
		if (bytes > 0)
			text_addf(&line, ", %.1f MiB", bytes / 1048576);
		table_pair(out, "image", line.data);
	}
}

static void add_warnings(struct text *out, const json_t *warnings)
{
	const json_t *warning;
	size_t i;
	json_array_foreach(warnings, i, warning)
		table_pair(out, "warning", json_string_value(warning));
}

static void add_status(struct text *out, json_t *status, bool looking)
{
	_cleanup_free_ char *pid = xasprintf("%lld", integer(status, "pid"));
	_cleanup_free_ char *connections = xasprintf("%lld of %lld", integer(status, "connections"),
	                                             integer(status, "connectionsMax"));
	_cleanup_free_ char *jobs = xasprintf("%lld running, %lld queued",
	                                      integer(status, "jobsRunning"),
	                                      integer(status, "jobsQueued"));
	_cleanup_free_ char *memory = xasprintf("%.1f MiB",
	                                        (double)integer(status, "memoryBytes") / 1048576);
	table_pair(out, "version", json_text(status, "version"));
	table_pair(out, "root", json_text(status, "root"));
	add_counts(out, json_object_get(status, "counts"));
	if (looking) {
		table_pair(out, "daemon", "not running; nothing has been created here yet");
		return;
	}
	table_pair(out, "pid", pid);
	add_uptime(out, status);
	table_pair(out, "connections", connections);
	table_pair(out, "jobs", jobs);
	table_pair(out, "memory", memory);
	add_images(out, json_object_get(status, "images"));
	table_pair(out, "link mode", json_text(status, "linkMode"));
	add_warnings(out, json_object_get(status, "warnings"));
}

int cmd_status(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	bool json = false;
	while (verb_option(argc, argv, "", options) != -1)
		json = true;
	verb_arguments(argc, argv, 0, 0);

	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != EXIT_DONE)
		return status;
	struct request q = { .method = "Status", .repeatable = true };
	_cleanup_answer_ struct answer a;
	if (!session_call(&s, &q, &a))
		return messages_report(&s, &a, NULL);
	_cleanup_text_ struct text out = { 0 };
	if (json) {
		_cleanup_free_ char *text = json_dumps(a.parameters, JSON_INDENT(2));
		text_addf(&out, "%s\n", text ? text : "{}");
	} else {
		add_status(&out, a.parameters, s.looking != 0);
	}
	(json ? talk_json : talk_out)(&out);
	return EXIT_DONE;
}

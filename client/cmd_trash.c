/* SPDX-License-Identifier: MIT */
/*
 * venvctl trash: what it holds, and letting go of it before its time. That cannot be undone, so it is confirmed like
 * 'delete --now'.
 */
#include <string.h>
#include "bounds.h"
#include "messages.h"
#include "row.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

struct emptying {
	int64_t before_us;      /* only what was deleted before; 0: all */
	int64_t last_us;        /* when the last of them was deleted */
	bool dry_run;
	size_t count;
	struct text names;      /* a line each */
};

/* "3d", "12h", "30m", "2w", "90s", or "7 days". */
static int64_t read_age(const char *text)
{
	static const struct { char unit; int64_t seconds; } units[] = {
		{ 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 7 * 86400 },
	};
	char *end;
	size_t digits = strspn(text, "0123456789");
	long long number = digits > 0 && digits <= 6 ? strtoll(text, &end, 10) : -1;
	for (size_t i = 0; number >= 0 && i < ARRAY_LENGTH(units); i++)
		if (*end == units[i].unit && end[1] == '\0')
			return number * units[i].seconds * 1000000;
	usage_error("'%s' is no age; examples are 12h, 3d and 2w", text);
}

static void collect_cb(void *arg, const char *text, size_t len)
{
	struct emptying *e = arg;
	struct row row;
	if (!row_read(text, len, "environment", &row))
		return;
	const struct row_field *name = row_field(&row, "name");
	int64_t deleted = row_integer(row_field(&row, "deletedAt"));
	if (name && (e->before_us == 0 || deleted < e->before_us)) {
		e->count++;
		e->last_us = deleted > e->last_us ? deleted : e->last_us;
		_cleanup_free_ char *line = xstrndup(name->value, name->len);
		table_line(&e->names, line);
	}
	row_done(&row);
}

static int collect(struct session *s, struct emptying *e)
{
	json_auto_t *parameters = json_pack("{s:[s,s]}", "fields", "name", "deletedAt");
	struct request q = { .method = "ListTrash", .parameters = parameters, .more = true, .repeatable = true,
	                     .each = collect_cb, .arg = e };
	_cleanup_answer_ struct answer a;
	return session_call(s, &q, &a) ? EXIT_DONE : messages_report(s, &a, NULL);
}

static int empty(struct session *s, const struct emptying *e)
{
	json_auto_t *parameters = json_object();
	if (e->before_us > 0)
		json_object_set_new(parameters, "deletedBefore", json_integer(e->before_us));
	struct request q = { .method = "EmptyTrash", .parameters = parameters, .repeatable = true,
	                     .wait_ms = LIMIT_CREATE_MS };
	_cleanup_answer_ struct answer a;
	if (!session_call(s, &q, &a))
		return messages_report(s, &a, NULL);
	messages_warnings(a.parameters);
	long long removed = json_integer_value(json_object_get(a.parameters, "removed"));
	talk_say("removed %lld environment%s for good", removed, removed == 1 ? "" : "s");
	return EXIT_DONE;
}

static int empty_run(struct session *s, struct emptying *e)
{
	int status = session_open(s, e->dry_run ? SESSION_READ : SESSION_CHANGE);
	if (status == EXIT_DONE)
		status = collect(s, e);
	if (status != EXIT_DONE)
		return status;
	if (e->dry_run) {
		talk_out(&e->names);
		talk_say("dry run: nothing was removed");
		return EXIT_DONE;
	}
	if (e->count == 0) {
		talk_say("there is nothing to remove");
		return EXIT_DONE;
	}
	_cleanup_free_ char *question = xasprintf("remove %zu environment%s for good?", e->count,
	                                          e->count == 1 ? "" : "s");
	if (!settings.yes && !talk_ask(question)) {
		talk_say("nothing was removed");
		return EXIT_REFUSED;
	}
	/* What was deleted while the question stood there is none of those that it was about. */
	if (e->before_us == 0)
		e->before_us = e->last_us + 1;
	return empty(s, e);
}

int cmd_trash(int argc, char **argv)
{
	static const struct option options[] = {
		{ "older-than", required_argument, NULL, 'o' }, { "dry-run", no_argument, NULL, 'd' }, { 0 },
	};
	struct emptying e = { 0 };
	const char *age = NULL;
	for (int c; (c = verb_option(argc, argv, "", options)) != -1;) {
		if (c == 'o')
			age = optarg;
		else
			e.dry_run = true;
	}
	verb_arguments(argc, argv, 1, 1);
	if (strcmp(argv[optind], "list") == 0 && !age && !e.dry_run) {
		char *list[] = { (char *)"list", (char *)"--trash", NULL };
		optind = 0;
		return cmd_list(2, list);
	}
	if (strcmp(argv[optind], "list") == 0)
		usage_error("'trash list' takes no %s", age ? "--older-than" : "--dry-run");
	if (strcmp(argv[optind], "empty") != 0)
		usage_error("there is no 'trash %s'; there are 'trash list' and 'trash empty'", argv[optind]);
	if (age)
		e.before_us = now_us() - read_age(age);
	if (!settings.yes && !e.dry_run && !talk_can_ask()) {
		talk_error("this must be confirmed, and there is nobody to ask");
		talk_hint("venvctl trash empty -y%s%s", age ? " --older-than " : "", age ? age : "");
		return EXIT_USAGE;
	}
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = empty_run(&s, &e);
	text_done(&e.names);
	return status;
}

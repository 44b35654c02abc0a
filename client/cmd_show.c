/* SPDX-License-Identifier: MIT */
/*
 * venvctl show: everything that the daemon knows about one environment, in the order in which it is
 * useful to a person; --json prints the object as the interface describes it. Fields that this
 * program does not know yet are shown at the end, so that an older client hides nothing.
 */
#include <string.h>
#include "messages.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

static const char *const order[] = {
	"name", "state", "problem", "path", "version", "implementation", "executable",
	"interpreter", "prompt", "project", "pip", "systemSitePackages", "origin", "creator", "options", "protected",
	"createdAt", "deletedAt", "expiresAt", "id",
};

static bool is_time(const char *key)
{
	size_t len = strlen(key);
	return len > 2 && strcmp(key + len - 2, "At") == 0;
}

/* The options as they would be typed; those that this program does not know by their names on the wire. */
static char *options_text(json_t *options)
{
	static const struct { const char *key, *option; } names[] = {
		{ "withoutPip", "--without-pip" },
		{ "systemSitePackages", "--system-site-packages" },
		{ "copies", "--copies" },
		{ "upgradeDeps", "--upgrade-deps" },
		{ "withoutScmIgnoreFiles", "--without-scm-ignore-files" },
		{ "prompt", "--prompt" },
		{ "python", "-p" },
	};
	struct text out = { 0 };
	const char *key;
	json_t *value, *one;
	size_t i;
	json_object_foreach(options, key, value) {
		const char *name = key;
		for (i = 0; i < ARRAY_LENGTH(names); i++)
			if (strcmp(names[i].key, key) == 0)
				name = names[i].option;
		json_auto_t *list = json_is_array(value) ? json_incref(value) : json_pack("[O]", value);
		json_array_foreach(list, i, one) {
			_cleanup_free_ char *quoted = talk_quote(json_is_string(one) ? json_string_value(one) : "");
			if (json_is_string(one))
				text_addf(&out, "%s%s %s", out.len ? " " : "", name, quoted);
			else if (json_is_true(one))
				text_addf(&out, "%s%s", out.len ? " " : "", name);
		}
	}
	return out.data;
}

static void add_field(struct text *out, const char *key, json_t *value)
{
	if (json_is_string(value)) {
		table_pair(out, key, json_string_value(value));
	} else if (json_is_boolean(value)) {
		table_pair(out, key, json_is_true(value) ? "yes" : "no");
	} else if (json_is_integer(value) && is_time(key)) {
		char time[32];
		table_iso(json_integer_value(value), time);
		table_pair(out, key, time);
	} else if (json_is_integer(value)) {
		long long integer = (long long)json_integer_value(value);
		_cleanup_free_ char *number = xasprintf("%lld", integer);
		table_pair(out, key, number);
	} else if (json_is_object(value)) {
		_cleanup_free_ char *options = options_text(value);
		table_pair(out, key, options);
	}
}

static bool known(const char *key)
{
	for (size_t i = 0; i < ARRAY_LENGTH(order); i++)
		if (strcmp(order[i], key) == 0)
			return true;
	return false;
}

static void add_environment(struct text *out, json_t *environment)
{
	for (size_t i = 0; i < ARRAY_LENGTH(order); i++)
		add_field(out, order[i], json_object_get(environment, order[i]));
	const char *key;
	json_t *value;
	json_object_foreach(environment, key, value)
		if (!known(key))
			add_field(out, key, value);
}

int cmd_show(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	bool json = false;
	while (verb_option(argc, argv, "", options) != -1)
		json = true;
	verb_arguments(argc, argv, 1, 1);
	const char *name = argv[optind];

	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != 0)
		return status;
	_cleanup_answer_ struct answer a;
	if (!session_get(&s, name, &a))
		return messages_report(&s, &a, name);

	_cleanup_text_ struct text out = { 0 };
	json_t *environment = json_object_get(a.parameters, "environment");
	if (json) {
		_cleanup_free_ char *text = json_dumps(environment, JSON_INDENT(2));
		text_addf(&out, "%s\n", text ? text : "{}");
	} else {
		add_environment(&out, environment);
	}
	(json ? talk_json : talk_out)(&out);
	return EXIT_DONE;
}

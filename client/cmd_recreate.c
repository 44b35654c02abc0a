/* SPDX-License-Identifier: MIT */
/*
 * venvctl recreate. stdout is a requirements file: what was installed in the old environment, so that
 *
 *     venvctl recreate NAME >installed.txt && venvctl run NAME -- python -m pip install -r installed.txt
 *
 * brings it back. What came with the environment itself is left out, unless --all asks for it.
 */
#include <stdio.h>
#include <string.h>
#include "bounds.h"
#include "making.h"
#include "messages.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

struct recreate {
	const char *name;
	const char *python[LIMIT_SPECS + 1];
	size_t python_count;
	const char *prompt;
	bool all;
	bool force;
};

/* What ensurepip and virtualenv put in, which from Python 3.12 on is pip alone. An environment without pip got these from
 * its user. */
static bool came_with_it(const json_t *package, const json_t *environment, const json_t *previous)
{
	static const char *const seeds[] = { "pip", "setuptools", "wheel" };
	const char *name = json_text(package, "name"), *version = json_text(previous, "version");
	int major = 0, minor = 0;
	if (json_text(package, "directUrl") || json_is_false(json_object_get(environment, "pip")))
		return false;
	bool alone = version && sscanf(version, "%4d.%4d", &major, &minor) == 2 && (major > 3 || (major == 3 && minor >= 12));
	for (size_t i = 0; i < (alone ? 1 : ARRAY_LENGTH(seeds)); i++)
		if (strcasecmp(name, seeds[i]) == 0)
			return true;
	return false;
}

static void add_requirement(struct text *out, const json_t *package)
{
	const char *name = json_text(package, "name"), *version = json_text(package, "version");
	const char *url = json_text(package, "directUrl");
	_cleanup_text_ struct text line = { 0 };
	if (url && json_is_true(json_object_get(package, "editable")))
		text_addf(&line, "-e %s", url);
	else if (url)
		text_addf(&line, "%s @ %s", name, url);
	else
		text_addf(&line, version ? "%s==%s" : "%s", name, version);
	table_line(out, line.data);
}

static size_t list_packages(const struct recreate *r, const json_t *answer, struct text *out)
{
	const json_t *environment = json_object_get(answer, "environment"), *package;
	const json_t *previous = json_object_get(answer, "previous");
	size_t i, count = 0;
	json_array_foreach(json_object_get(answer, "packages"), i, package) {
		if (!json_text(package, "name") || (!r->all && came_with_it(package, environment, previous)))
			continue;
		add_requirement(out, package);
		count++;
	}
	return count;
}

static void say_how(const struct recreate *r, const json_t *answer, size_t packages)
{
	_cleanup_free_ char *name = talk_quote(r->name);
	const json_t *previous = json_object_get(answer, "previous");
	const char *id = json_text(previous, "id");
	if (packages > 0) {
		_cleanup_free_ char *raw = xasprintf("venvctl run %s -- python -m pip install -r FILE", name);
		_cleanup_free_ char *command = talk_command(raw);
		talk_say("what was installed in the old one (%zu) is on standard output, as a requirements file; "
		         "to install it again: %s", packages, command);
	} else if (!json_is_array(json_object_get(answer, "packages"))) {
		talk_say("what had been installed in the old one could not be read");
	} else {
		talk_say("nothing had been installed in the old one");
	}
	if (!id)
		return;
	_cleanup_free_ char *first = xasprintf("venvctl delete %s", name);
	_cleanup_free_ char *second = xasprintf("venvctl restore --id %s %s", id, name);
	_cleanup_free_ char *delete = talk_command(first), *restore = talk_command(second);
	talk_say("the old one is in the trash; to take it back: %s && %s", delete, restore);
}

static void read_options(int argc, char **argv, struct recreate *r)
{
	static const struct option options[] = {
		{ "python", required_argument, NULL, 'p' },
		{ "prompt", required_argument, NULL, 'P' },
		{ "all", no_argument, NULL, 'a' },
		{ "force", no_argument, NULL, 'f' },
		{ 0 },
	};
	for (int o; (o = verb_option(argc, argv, "p:f", options)) != -1;) {
		if (o == 'a')
			r->all = true;
		else if (o == 'f')
			r->force = true;
		else if (o == 'P')
			r->prompt = optarg;
		else if (r->python_count == LIMIT_SPECS)
			usage_error("at most %d interpreters can be given", LIMIT_SPECS);
		else
			r->python[r->python_count++] = optarg;
	}
	verb_arguments(argc, argv, 1, 1);
	r->name = argv[optind];
}

/* The same once more, with --force. */
static char *forced(const struct recreate *r)
{
	_cleanup_free_ char *name = talk_quote(r->name), *prompt = r->prompt ? talk_quote(r->prompt) : NULL;
	struct text out = { 0 };
	text_addf(&out, "venvctl recreate --force%s", r->all ? " --all" : "");
	for (size_t i = 0; i < r->python_count; i++) {
		_cleanup_free_ char *python = talk_quote(r->python[i]);
		text_addf(&out, " -p %s", python);
	}
	if (prompt)
		text_addf(&out, " --prompt %s", prompt);
	text_addf(&out, " %s", name);
	return out.data;
}

int cmd_recreate(int argc, char **argv)
{
	struct recreate r = { 0 };
	read_options(argc, argv, &r);
	json_auto_t *parameters = json_object();
	making_add_text(parameters, "name", r.name);
	making_add_text(parameters, "prompt", r.prompt);
	making_add_python(parameters, r.python);
	if (r.force)
		json_object_set_new(parameters, "force", json_true());
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != 0)
		return status;
	messages_in_use(forced(&r));
	struct making making = { .name = r.name, .doing = "recreating", .done = "recreated" };
	_cleanup_answer_ struct answer a;
	if (making_ask(&s, &making, "Recreate", parameters, &a, &status)) {
		_cleanup_text_ struct text out = { 0 };
		size_t count = list_packages(&r, a.parameters, &out);
		making_say(&making, a.parameters);
		/* First, for the disk that standard output leads to may be full. */
		say_how(&r, a.parameters, count);
		talk_out(&out);
		return EXIT_DONE;
	}
	return status >= 0 ? status : messages_report(&s, &a, r.name);
}

/* SPDX-License-Identifier: MIT */
/*
 * venvctl create. What ^C and the stages are about is in making.c. With --path a name can be left out: it is the
 * project's, made fit for a name. --exist-ok turns AlreadyExists into success if what exists is what would
 * have been made (existing.c).
 */
#include <string.h>
#include "bounds.h"
#include "existing.h"
#include "making.h"
#include "messages.h"
#include "names.h"
#include "paths.h"
#include "talk.h"
#include "venvctl.h"

struct create {
	struct wanted wanted;
	const char *python[LIMIT_SPECS + 1];
	size_t python_count;
	char *path;             /* owned, absolute */
	char *name;             /* owned: the one that was found for it */
	bool clear, upgrade, upgrade_deps;
	bool exist_ok;
};

static void create_done(struct create *c)
{
	free(c->path);
	free(c->name);
}

static json_t *parameters_new(const struct create *c)
{
	const struct wanted *w = &c->wanted;
	const struct {
		const char *key;
		bool wanted;
	} flags[] = {
		{ "withoutPip", w->without_pip },
		{ "systemSitePackages", w->system_site_packages },
		{ "copies", w->copies },
		{ "clear", c->clear },
		{ "upgrade", c->upgrade },
		{ "upgradeDeps", c->upgrade_deps },
		{ "withoutScmIgnoreFiles", w->without_scm_ignore_files },
	};
	json_t *p = json_object();
	json_object_set_new(p, "name", json_string(w->name));
	for (size_t i = 0; i < ARRAY_LENGTH(flags); i++)
		if (flags[i].wanted)
			json_object_set_new(p, flags[i].key, json_true());
	making_add_text(p, "prompt", w->prompt);
	making_add_text(p, "path", w->path);
	making_add_python(p, c->python);
	return p;
}

/* --- the name --- */

static void find_name(struct create *c)
{
	struct wanted *w = &c->wanted;
	const char *base = strrchr(c->path, '/') + 1;
	size_t dir = (size_t)(base - c->path);
	const char *root = settings_root();
	/* What lies in the root has its directory's name. */
	if (strlen(root) == dir - 1 && strncmp(c->path, root, dir - 1) == 0) {
		if (w->name && strcmp(w->name, base) != 0)
			usage_error("'%s' is in the root, where its name is '%s'", c->path, base);
		w->name = base;
		return;
	}
	w->path = c->path;
	if (w->name)
		return;
	w->name = c->name = making_name(c->path);
	if (!w->name)
		usage_error("no name can be made from '%s'; give one: venvctl create NAME --path DIR", c->path);
}

/* A name that nobody gave is taken. -1: by this very directory. */
static int refuse_derived(struct session *s, const struct create *c)
{
	_cleanup_free_ char *quoted = talk_quote(c->path);
	_cleanup_answer_ struct answer a;
	session_get(s, c->wanted.name, &a);
	const char *path = json_text(json_object_get(a.parameters, "environment"), "path");
	if (path && strcmp(path, c->path) == 0)
		return -1;
	talk_error("'%s' exists already, and would be the name of '%s'", c->wanted.name, c->path);
	talk_hint("venvctl create ANOTHER-NAME --path %s", quoted);
	return EXIT_EXISTS;
}

/* --- the command line --- */

static void take_python(struct create *c, const char *python)
{
	if (c->python_count == LIMIT_SPECS)
		usage_error("at most %d interpreters can be given", LIMIT_SPECS);
	c->python[c->python_count++] = python;
}

static void take_option(struct create *c, int option, const char *value)
{
	struct wanted *w = &c->wanted;
	switch (option) {
	case 'p': take_python(c, value); break;
	case 'd': free(c->path); c->path = path_absolute(value); break;
	case 'w': w->without_pip = true; break;
	case 's': w->system_site_packages = true; break;
	case 'l': w->copies = false; break;
	case 'c': w->copies = true; break;
	case 'x': c->clear = true; break;
	case 'u': c->upgrade = true; break;
	case 'U': c->upgrade_deps = true; break;
	case 'g': w->without_scm_ignore_files = true; break;
	case 'P': w->prompt = value; break;
	default: c->exist_ok = true;
	}
}

static void read_options(int argc, char **argv, struct create *c)
{
	static const struct option options[] = {
		{ "python", required_argument, NULL, 'p' },
		{ "path", required_argument, NULL, 'd' },
		{ "without-pip", no_argument, NULL, 'w' },
		{ "system-site-packages", no_argument, NULL, 's' },
		{ "symlinks", no_argument, NULL, 'l' },
		{ "copies", no_argument, NULL, 'c' },
		{ "clear", no_argument, NULL, 'x' },
		{ "upgrade", no_argument, NULL, 'u' },
		{ "upgrade-deps", no_argument, NULL, 'U' },
		{ "without-scm-ignore-files", no_argument, NULL, 'g' },
		{ "prompt", required_argument, NULL, 'P' },
		{ "exist-ok", no_argument, NULL, 'e' },
		{ 0 },
	};
	bool path = false;
	for (int o; (o = verb_option(argc, argv, "p:", options)) != -1;) {
		if (o == 'd' && !*optarg)
			usage_error("--path needs a directory");
		path |= o == 'd';
		take_option(c, o, optarg);
	}
	verb_arguments(argc, argv, path ? 0 : 1, 1);
	c->wanted.name = argv[optind];
	c->wanted.python = c->python;
	if (path && !c->path)
		usage_error("there is no working directory that --path could start from");
	if (path)
		find_name(c);
}

/* The same once more, without pip. */
static char *without_pip(int argc, char **argv)
{
	struct text out = { 0 };
	text_adds(&out, "venvctl create --without-pip");
	for (int i = 1; i < argc; i++) {
		_cleanup_free_ char *word = talk_quote(argv[i]);
		text_addf(&out, " %s", word);
	}
	return out.data;
}

int cmd_create(int argc, char **argv)
{
	__attribute__((cleanup(create_done))) struct create c = { 0 };
	messages_without_pip(without_pip(argc, argv));
	read_options(argc, argv, &c);
	/* Before a daemon is started: a name that cannot be must not leave a root behind. */
	const char *name = c.wanted.name, *rule = name_rule_broken(name);
	if (rule) {
		_cleanup_free_ char *shown = text_printable(name);
		json_auto_t *why = json_pack("{s:s, s:s}", "name", shown, "rule", rule);
		return messages_refuse(ERROR_INVALID_NAME, why);
	}
	json_auto_t *parameters = parameters_new(&c);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != 0)
		return status;
	struct making making = { .name = name, .doing = "creating", .done = "created",
	                         .show_path = c.wanted.path };
	_cleanup_answer_ struct answer a;
	if (making_ask(&s, &making, "Create", parameters, &a, &status)) {
		making_say(&making, a.parameters);
		existing_print_path(json_object_get(a.parameters, "environment"));
		return EXIT_DONE;
	}
	if (status >= 0)
		return status;
	/* Or its directory is known by another name. */
	const char *other = json_text(a.parameters, "name");
	bool taken = a.end == CALL_OK && a.error == ERROR_ALREADY_EXISTS && other && strcmp(other, name) == 0;
	if (taken && c.exist_ok)
		return existing_accept(&s, &c.wanted);
	if (taken && c.name)
		status = refuse_derived(&s, &c);
	return status >= 0 ? status : messages_report(&s, &a, name);
}

/* SPDX-License-Identifier: MIT */
/*
 * venvctl move: an environment that lies elsewhere comes into the root. It is taken into the catalog where it is, a copy that is
 * fit for its path in the root is made, and only then the old one goes to the trash beside its place: at any moment one
 * of the two is whole and in the list, and the way back is a restore.
 */
#include <string.h>
#include "bounds.h"
#include "existing.h"
#include "making.h"
#include "messages.h"
#include "names.h"
#include "paths.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

struct move {
	struct session session;
	char *path;             /* absolute */
	const char *name;       /* in the root */
	char *old;              /* what the one elsewhere is called meanwhile */
};

/* Takes parameters. */
static int change(struct move *m, const char *method, json_t *parameters, const char *about)
{
	_cleanup_answer_ struct answer a;
	bool good = session_change(&m->session, method, parameters, LIMIT_CREATE_MS, &a);
	json_decref(parameters);
	return good ? EXIT_DONE : messages_report(&m->session, &a, about);
}

struct search {
	const char *path;
	char *name;             /* of what lies there */
};

static void search_cb(void *arg, const char *text, size_t len)
{
	struct search *f = arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *environment = json_object_get(json_object_get(reply, "parameters"), "environment");
	const char *path = json_text(environment, "path");
	if (!f->name && path && strcmp(path, f->path) == 0)
		f->name = xstrdup(json_text(environment, "name"));
}

/* The name under which it is in the list, or NULL. */
static int find_name(struct move *m, char **ret)
{
	struct search f = { .path = m->path };
	json_auto_t *parameters = json_pack("{s:[s]}", "fields", "path");
	struct request q = { .method = "List", .parameters = parameters, .more = true, .repeatable = true,
	                     .each = search_cb, .arg = &f };
	_cleanup_answer_ struct answer a;
	bool good = session_call(&m->session, &q, &a);
	*ret = f.name;
	return good ? EXIT_DONE : messages_report(&m->session, &a, NULL);
}

static int refuse_taken(struct move *m)
{
	_cleanup_answer_ struct answer a;
	if (!session_get(&m->session, m->name, &a))
		return a.error == ERROR_NO_SUCH_ENVIRONMENT ? EXIT_DONE : messages_report(&m->session, &a, m->name);
	const json_t *environment = json_object_get(a.parameters, "environment");
	const char *path = json_text(environment, "path"), *state = json_text(environment, "state");
	if ((path && strcmp(path, m->path) == 0) || (state && strcmp(state, "missing") == 0))
		return EXIT_DONE;
	json_auto_t *why = json_pack("{s:s, s:s*}", "name", m->name, "state", state);
	return messages_refuse(ERROR_ALREADY_EXISTS, why);
}

/* Into the list where it is, and not under the name that the copy is to have. */
static int take_in(struct move *m)
{
	_cleanup_free_ char *listed = NULL;
	int status = find_name(m, &listed);
	if (status != EXIT_DONE)
		return status;
	m->old = xasprintf("%.*s-old", LIMIT_NAME_BYTES - 4, m->name);
	if (!listed)
		return change(m, "Adopt", json_pack("{s:s, s:s}", "name", m->old, "path", m->path), m->old);
	if (strcmp(listed, m->name) == 0)
		return change(m, "Rename", json_pack("{s:s, s:s}", "name", listed, "to", m->old), listed);
	free(m->old);
	m->old = xstrdup(listed);
	return EXIT_DONE;
}

static int copy(struct move *m)
{
	struct making making = { .name = m->name, .doing = "copying to", .done = "created" };
	json_auto_t *parameters = json_pack("{s:s, s:s}", "name", m->old, "to", m->name);
	_cleanup_answer_ struct answer a;
	int status;
	if (making_ask(&m->session, &making, "Clone", parameters, &a, &status))
		return EXIT_DONE;
	if (status < 0)
		status = messages_report(&m->session, &a, m->old);
	talk_say("'%s' is where it was, and in the list as '%s'", m->path, m->old);
	return status;
}

static int move(struct move *m)
{
	int status = refuse_taken(m);
	if (status == EXIT_DONE)
		status = take_in(m);
	if (status == EXIT_DONE)
		status = copy(m);
	if (status != EXIT_DONE)
		return status;
	messages_in_use(xasprintf("venvctl delete --force %s", m->old));
	status = change(m, "Delete", json_pack("{s:s}", "name", m->old), m->old);
	if (status != EXIT_DONE) {
		talk_say("'%s' is in the root now, and the old one is where it was, called '%s'", m->name, m->old);
		return EXIT_PARTLY;
	}
	_cleanup_free_ char *words = xasprintf("venvctl restore %s", m->old), *command = talk_command(words);
	talk_say("moved '%s' to '%s'; the old one is in the trash: %s", m->path, m->name, command);
	_cleanup_answer_ struct answer a;
	if (session_get(&m->session, m->name, &a))
		existing_print_path(json_object_get(a.parameters, "environment"));
	return EXIT_DONE;
}

int cmd_move(int argc, char **argv)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 2, 2);
	struct move m = { .session = SESSION_CLOSED, .name = argv[optind + 1] };
	m.path = *argv[optind] ? path_absolute(argv[optind]) : NULL;
	json_auto_t *text = json_string(m.path);
	if (!m.path)
		usage_error("move needs a directory");
	if (!text)
		usage_error("'%s' is not UTF-8", m.path);
	const char *rule = name_rule_broken(m.name);
	_cleanup_free_ char *shown = text_printable(m.name);
	json_auto_t *why = rule ? json_pack("{s:s, s:s}", "name", shown, "rule", rule) : NULL;
	int status = rule ? messages_refuse(ERROR_INVALID_NAME, why) : session_open(&m.session, SESSION_CHANGE);
	if (status == EXIT_DONE)
		status = move(&m);
	session_close(&m.session);
	free(m.path);
	free(m.old);
	return status;
}

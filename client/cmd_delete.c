/* SPDX-License-Identifier: MIT */
/*
 * venvctl delete and restore. Deleting is light because it can be undone: one name to the trash
 * asks nothing and says how to take it back. What is easily regretted asks first: several names, a
 * pattern, and --now, which the trash does not catch. Without a terminal such a command needs -y,
 * and is refused with the line to type before anything is touched.
 *
 * Each deletion carries a requestId, so it can be sent again if the daemon goes away in between,
 * and still happens once.
 */
#include <string.h>
#include "bounds.h"
#include "messages.h"
#include "row.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

#define NAMES_SHOWN 20          /* in a question or an undo line */

struct names {
	char **name;
	size_t count;
	size_t size;
};

struct deletion {
	char **given;           /* as on the command line */
	int given_count;
	bool now;
	bool force;
	bool missing_ok;
	bool dry_run;
	bool pattern;           /* one of the given was one */
	struct names names;     /* patterns expanded */
	struct names done;
	size_t forgotten;       /* of which there was only the memory */
	size_t matched;         /* what the pattern under way has found */
};

static void names_add(struct names *n, const char *name)
{
	for (size_t i = 0; i < n->count; i++)
		if (strcmp(n->name[i], name) == 0)
			return;
	if (n->count == n->size) {
		n->size = n->size ? 2 * n->size : 16;
		n->name = xreallocarray(n->name, n->size, sizeof(*n->name));
	}
	n->name[n->count++] = xstrdup(name);
}

static void names_done(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->name[i]);
	free(n->name);
}

/* "a, b, c and 12 more" */
static void names_join(struct text *out, const struct names *n, const char *between)
{
	size_t shown = n->count > NAMES_SHOWN ? NAMES_SHOWN : n->count;
	for (size_t i = 0; i < shown; i++)
		text_addf(out, "%s%s", i > 0 ? between : "", n->name[i]);
	if (shown < n->count)
		text_addf(out, " and %zu more", n->count - shown);
}

static void match_cb(void *arg, const char *text, size_t len)
{
	struct deletion *d = arg;
	struct row row;
	if (!row_read(text, len, "environment", &row))
		return;
	const struct row_field *name = row_field(&row, "name"), *state = row_field(&row, "state");
	bool protected = row_field(&row, "protected") != NULL;
	if (name) {
		_cleanup_free_ char *copy = xstrndup(name->value, name->len);
		d->matched++;
		/* venvd never deletes these, so a pattern does not mean them. */
		if (state && state->len == 7 && memcmp(state->value, "foreign", 7) == 0)
			talk_say("'%s' is not ours to delete, leaving it alone", copy);
		else if (protected)
			talk_say("'%s' is protected, leaving it alone", copy);
		else
			names_add(&d->names, copy);
	}
	row_done(&row);
}

static int expand_pattern(struct session *s, struct deletion *d, const char *glob)
{
	json_auto_t *parameters = json_pack("{s:s, s:[s,s,s]}", "glob", glob, "fields", "name",
	                                   "state", "protected");
	struct request q = { .method = "List", .parameters = parameters, .more = true,
	                     .repeatable = true, .each = match_cb, .arg = d };
	_cleanup_answer_ struct answer a;
	d->matched = 0;
	if (!parameters)
		usage_error("'%s' is not UTF-8", glob);
	if (!session_call(s, &q, &a))
		return messages_report(s, &a, NULL);
	if (d->matched > 0 || d->missing_ok)
		return EXIT_DONE;
	talk_error("no environment matches '%s'", glob);
	talk_hint("venvctl list");
	return EXIT_NOT_FOUND;
}

static bool is_pattern(const char *name)
{
	return strpbrk(name, "*?[") != NULL;
}

static int expand(struct session *s, struct deletion *d)
{
	for (int i = 0; i < d->given_count; i++) {
		if (!is_pattern(d->given[i])) {
			names_add(&d->names, d->given[i]);
			continue;
		}
		int status = expand_pattern(s, d, d->given[i]);
		if (status != EXIT_DONE)
			return status;
	}
	return EXIT_DONE;
}

/* The command again, with the answer in it. */
static void hint_yes(const struct deletion *d)
{
	_cleanup_text_ struct text line = { 0 };
	text_adds(&line, "venvctl delete -y");
	if (d->now)
		text_adds(&line, " --now");
	if (d->force)
		text_adds(&line, " --force");
	if (d->missing_ok)
		text_adds(&line, " --missing-ok");
	bool dash = false;
	for (int i = 0; i < d->given_count; i++)
		dash = dash || *d->given[i] == '-';
	if (dash)
		text_adds(&line, " --");
	for (int i = 0; i < d->given_count; i++) {
		_cleanup_free_ char *quoted = talk_quote(d->given[i]);
		text_addf(&line, " %s", quoted);
	}
	talk_hint("%s", line.data);
}

static bool needs_answer(const struct deletion *d)
{
	return !settings.yes && !d->dry_run && (d->now || d->pattern || d->given_count > 1);
}

static bool ask(const struct deletion *d)
{
	_cleanup_text_ struct text question = { 0 };
	if (d->names.count == 1)
		text_addf(&question, "delete '%s'", d->names.name[0]);
	else
		text_addf(&question, "delete %zu environments: ", d->names.count);
	if (d->names.count > 1)
		names_join(&question, &d->names, ", ");
	text_adds(&question, d->now ? " for good, without the trash?" : "?");
	return talk_ask(question.data);
}

static int refuse_foreign(const char *name, const char *problem)
{
	_cleanup_free_ char *reason = xasprintf("it is not venvd's to delete: %s", problem ? problem : "foreign");
	json_auto_t *why = json_pack("{s:s, s:s}", "name", name, "reason", reason);
	return messages_refuse(ERROR_UNSUPPORTED, why);
}

static void found_cb(void *arg, const char *text, size_t len)
{
	struct row row;
	if (!row_read(text, len, "environment", &row))
		return;
	if (row.object)
		*(bool *)arg = true;
	row_done(&row);
}

/* Where there is none in the root, --now is about what the trash holds. */
static bool is_in_trash(struct session *s, const char *name)
{
	bool found = false;
	json_auto_t *parameters = json_pack("{s:s, s:[s]}", "name", name, "fields", "name");
	struct request q = { .method = "ListTrash", .parameters = parameters, .more = true, .repeatable = true, .each = found_cb,
	                     .arg = &found };
	_cleanup_answer_ struct answer a;
	return session_call(s, &q, &a) && found;
}

static int print_dry_run(struct session *s, struct deletion *d)
{
	_cleanup_text_ struct text out = { 0 };
	int status = EXIT_DONE;
	for (size_t i = 0; i < d->names.count; i++) {
		_cleanup_answer_ struct answer a;
		bool there = session_get(s, d->names.name[i], &a);
		json_t *environment = json_object_get(a.parameters, "environment");
		const char *state = json_text(environment, "state");
		if (there && json_is_true(json_object_get(environment, "protected")))
			status = messages_refuse(ERROR_PROTECTED, environment);
		else if (there && state && strcmp(state, "foreign") == 0)
			status = refuse_foreign(d->names.name[i], json_text(environment, "problem"));
		else if (there || (d->now && a.error == ERROR_NO_SUCH_ENVIRONMENT && is_in_trash(s, d->names.name[i])))
			table_line(&out, d->names.name[i]);
		else if (a.error != ERROR_NO_SUCH_ENVIRONMENT || !d->missing_ok)
			status = messages_report(s, &a, d->names.name[i]);
	}
	talk_out(&out);
	talk_say("dry run: nothing was deleted");
	return status;
}

/* Of one that was missing there is nothing in the trash. */
static void took_away(struct deletion *d, const char *name, const char *state)
{
	if (!state || strcmp(state, "missing") != 0) {
		names_add(&d->done, name);
		return;
	}
	d->forgotten++;
	talk_say("forgot '%s'; its directory was gone already", name);
}

static int delete_one(struct session *s, struct deletion *d, const char *name)
{
	json_auto_t *parameters = json_pack("{s:s}", "name", name);
	if (!parameters) {
		talk_error("no environment '%s'", name);
		return EXIT_NOT_FOUND;
	}
	if (d->now)
		json_object_set_new(parameters, "now", json_true());
	_cleanup_answer_ struct answer a;
	if (d->force)
		json_object_set_new(parameters, "force", json_true());
	_cleanup_free_ char *quoted = talk_quote(name);
	messages_in_use(xasprintf("venvctl delete --force%s %s", d->now ? " --now" : "", quoted));
	if (session_change(s, "Delete", parameters, d->now ? LIMIT_CREATE_MS : 0, &a)) {
		messages_warnings(a.parameters);
		took_away(d, name, json_text(json_object_get(a.parameters, "environment"), "state"));
		return EXIT_DONE;
	}
	if (a.end == CALL_OK && d->missing_ok &&
	    (a.error == ERROR_NO_SUCH_ENVIRONMENT || a.error == ERROR_NOT_IN_TRASH))
		return EXIT_DONE;
	return messages_report(s, &a, name);
}

static void report_deleted(const struct deletion *d)
{
	const struct names *done = &d->done;
	if (done->count == 0)
		return;
	_cleanup_text_ struct text what = { 0 }, undo = { 0 };
	if (done->count == 1)
		text_addf(&what, "'%s'", done->name[0]);
	else
		text_addf(&what, "%zu environments", done->count);
	if (d->now) {
		talk_say("removed %s", what.data);
		return;
	}
	talk_say("moved %s to the trash", what.data);
	text_adds(&undo, "undo: venvctl restore");
	for (size_t i = 0; i < done->count; i++) {
		_cleanup_free_ char *quoted = talk_quote(done->name[i]);
		text_addf(&undo, " %s", quoted);
	}
	_cleanup_free_ char *command = talk_command(undo.data);
	talk_say("%s", command);
}

static int delete_all(struct session *s, struct deletion *d)
{
	int status = EXIT_DONE;
	size_t failed = 0;
	for (size_t i = 0; i < d->names.count; i++) {
		int one = delete_one(s, d, d->names.name[i]);
		if (one == EXIT_DONE)
			continue;
		failed++;
		if (status == EXIT_DONE)
			status = one;
		if (one == EXIT_UNREACHABLE || one == EXIT_TIMED_OUT)
			break;
	}
	report_deleted(d);
	return failed > 0 && d->done.count + d->forgotten > 0 ? EXIT_PARTLY : status;
}

static int delete_run(struct session *s, struct deletion *d)
{
	int status = session_open(s, d->dry_run ? SESSION_READ : SESSION_CHANGE);
	if (status == EXIT_DONE)
		status = expand(s, d);
	if (status != EXIT_DONE)
		return status;
	if (d->dry_run)
		return print_dry_run(s, d);
	if (d->names.count > 0 && needs_answer(d) && !ask(d)) {
		talk_say("nothing was deleted");
		return EXIT_REFUSED;
	}
	return delete_all(s, d);
}

int cmd_delete(int argc, char **argv)
{
	static const struct option options[] = {
		{ "now", no_argument, NULL, 'n' }, { "missing-ok", no_argument, NULL, 'm' },
		{ "dry-run", no_argument, NULL, 'd' }, { "force", no_argument, NULL, 'f' }, { 0 },
	};
	struct deletion d = { 0 };
	for (int c; (c = verb_option(argc, argv, "f", options)) != -1;) {
		if (c == 'n')
			d.now = true;
		else if (c == 'f')
			d.force = true;
		else if (c == 'm')
			d.missing_ok = true;
		else
			d.dry_run = true;
	}
	verb_arguments(argc, argv, 1, -1);
	d.given = argv + optind;
	d.given_count = argc - optind;
	for (int i = 0; i < d.given_count; i++)
		d.pattern = d.pattern || is_pattern(d.given[i]);
	if (needs_answer(&d) && !talk_can_ask()) {
		talk_error("this must be confirmed, and there is nobody to ask");
		hint_yes(&d);
		return EXIT_USAGE;
	}
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = delete_run(&s, &d);
	names_done(&d.names);
	names_done(&d.done);
	return status;
}

static int restore_one(struct session *s, const char *name, const char *id, const char *as)
{
	json_auto_t *parameters = json_pack("{s:s}", "name", name);
	if (parameters && id)
		json_object_set_new(parameters, "id", json_string(id));
	if (parameters && as && json_object_set_new(parameters, "as", json_string(as)) < 0)
		usage_error("'%s' is not UTF-8", as);
	_cleanup_answer_ struct answer a = { .error = ERROR_NOT_IN_TRASH };
	if (!parameters || !session_change(s, "Restore", parameters, as ? LIMIT_CREATE_MS : 0, &a))
		return messages_report(s, &a, name);
	const char *path = json_text(json_object_get(a.parameters, "environment"), "path");
	if (as)
		talk_say("restored '%s' as '%s'", name, as);
	else
		talk_say("restored '%s'", name);
	if (path && !talk_terminal(STDOUT_FILENO)) {
		_cleanup_text_ struct text out = { 0 };
		text_addf(&out, "%s\n", path);
		talk_out(&out);
	}
	return EXIT_DONE;
}

int cmd_restore(int argc, char **argv)
{
	static const struct option options[] = {
		{ "id", required_argument, NULL, 'i' }, { "as", required_argument, NULL, 'a' }, { 0 },
	};
	const char *id = NULL, *as = NULL;
	for (int c; (c = verb_option(argc, argv, "", options)) != -1;) {
		if (c == 'i')
			id = optarg;
		else
			as = optarg;
	}
	verb_arguments(argc, argv, 1, id || as ? 1 : -1);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != EXIT_DONE)
		return status;
	int done = 0;
	for (int i = optind; i < argc; i++) {
		int one = restore_one(&s, argv[i], id, as);
		done += one == EXIT_DONE;
		if (status == EXIT_DONE)
			status = one;
	}
	return status != EXIT_DONE && done > 0 ? EXIT_PARTLY : status;
}

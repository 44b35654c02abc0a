/* SPDX-License-Identifier: MIT */
/*
 * venvctl list. Asks only for the fields that it will print, takes the environments as a stream,
 * and reads each where it lies (row.c). On a terminal: a table with relative times, a star at the
 * active environment. Elsewhere: tab-separated values in the order that 'venvctl help list'
 * promises, or with --json the objects as the daemon wrote them.
 */
#include <string.h>
#include "messages.h"
#include "names.h"
#include "row.h"
#include "session.h"
#include "table.h"
#include "talk.h"
#include "venvctl.h"

#define JSON_BYTES (64 * 1024)

/* One way of showing a field of an environment. */
struct column {
	const char *header;
	const char *field;
	enum { SHOW_TEXT, SHOW_NAME, SHOW_STATE, SHOW_TIME, SHOW_FLAG } show;
};

static const struct column live_terminal[] = {
	{ "NAME", "name", SHOW_NAME }, { "STATE", "state", SHOW_STATE },
	{ "PYTHON", "version", SHOW_TEXT }, { "CREATED", "createdAt", SHOW_TIME },
	{ "PROBLEM", "problem", SHOW_TEXT }, { "", "protected", SHOW_FLAG },
};
static const struct column live_piped[] = {
	{ "", "name", SHOW_TEXT }, { "", "state", SHOW_TEXT }, { "", "version", SHOW_TEXT },
	{ "", "path", SHOW_TEXT }, { "", "createdAt", SHOW_TIME }, { "", "problem", SHOW_TEXT },
	{ "", "protected", SHOW_FLAG },
};
static const struct column trash_terminal[] = {
	{ "NAME", "name", SHOW_TEXT }, { "PYTHON", "version", SHOW_TEXT },
	{ "DELETED", "deletedAt", SHOW_TIME }, { "EXPIRES", "expiresAt", SHOW_TIME },
	{ "ID", "id", SHOW_TEXT },
};
static const struct column trash_piped[] = {
	{ "", "name", SHOW_TEXT }, { "", "state", SHOW_TEXT }, { "", "version", SHOW_TEXT },
	{ "", "path", SHOW_TEXT }, { "", "deletedAt", SHOW_TIME }, { "", "expiresAt", SHOW_TIME },
	{ "", "id", SHOW_TEXT },
};
static const struct column names_only[] = { { "", "name", SHOW_TEXT } };

struct list {
	const char *glob;
	const char *state;
	bool json;
	bool trash;
	bool names;
	const struct column *columns;
	size_t count;
	struct table table;
	struct text out;                /* --json */
	size_t rows;
	int64_t now;
	const char *active;             /* the active environment, if it is in our root */
};

static void add_cell(struct list *l, const struct column *c, const struct row *row)
{
	const struct row_field *f = row_field(row, c->field);
	char text[32];
	if (!f) {
		table_cells(&l->table, NULL);
	} else if (c->show == SHOW_TIME) {
		if (l->table.aligned)
			table_relative(row_integer(f), l->now, text);
		else
			table_iso(row_integer(f), text);
		table_cells(&l->table, text);
	} else if (c->show == SHOW_FLAG) {
		table_cells(&l->table, f->len == 4 ? c->field : NULL);
	} else if (c->show == SHOW_STATE) {
		table_cell(&l->table, f->value, f->len, table_state_color(f->value, f->len));
	} else if (c->show == SHOW_NAME && l->active && strlen(l->active) == f->len &&
	           memcmp(l->active, f->value, f->len) == 0) {
		_cleanup_free_ char *marked = xasprintf("%s *", l->active);
		table_cell(&l->table, marked, f->len + 2, TALK_BOLD);
	} else {
		table_cell(&l->table, f->value, f->len, NULL);
	}
}

static void row_cb(void *arg, const char *text, size_t len)
{
	struct list *l = arg;
	struct row row;
	if (!row_read(text, len, "environment", &row))
		return;
	if (row.object) {
		l->rows++;
		if (l->json) {
			text_adds(&l->out, l->rows == 1 ? "[\n" : ",\n");
			text_add(&l->out, row.object, row.object_len);
			if (l->out.len >= JSON_BYTES)
				talk_json(&l->out);
		} else {
			for (size_t i = 0; i < l->count; i++)
				add_cell(l, &l->columns[i], &row);
		}
	}
	row_done(&row);
}

static void choose_columns(struct list *l)
{
	bool terminal = talk_terminal(STDOUT_FILENO);
#define USE(which) (l->columns = (which), l->count = ARRAY_LENGTH(which))
	if (l->names)
		USE(names_only);
	else if (l->trash && terminal)
		USE(trash_terminal);
	else if (l->trash)
		USE(trash_piped);
	else if (terminal)
		USE(live_terminal);
	else
		USE(live_piped);
#undef USE
}

/* The active environment's name if it is a direct child of our root. */
static const char *active_name(void)
{
	const char *active = getenv("VIRTUAL_ENV"), *root = settings_root();
	size_t len = strlen(root);
	if (!active || strncmp(active, root, len) != 0 || active[len] != '/' || !active[len + 1] ||
	    strchr(active + len + 1, '/'))
		return NULL;
	return active + len + 1;
}

static void read_options(int argc, char **argv, struct list *l)
{
	static const char *const states[] = { "creating", "ready", "broken", "missing", "foreign",
	                                      "trashed" };
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { "trash", no_argument, NULL, 't' },
		{ "state", required_argument, NULL, 's' }, { 0 },
	};
	for (int c; (c = verb_option(argc, argv, "", options)) != -1;) {
		if (c == 'j')
			l->json = true;
		else if (c == 't')
			l->trash = true;
		else
			l->state = optarg;
	}
	verb_arguments(argc, argv, 0, 1);
	l->glob = argv[optind];
	l->names = settings.quiet && !l->json;
	if (!l->state)
		return;
	bool known = false;
	for (size_t i = 0; i < ARRAY_LENGTH(states); i++)
		known = known || strcmp(states[i], l->state) == 0;
	const char *meant = known ? NULL : name_suggest(l->state, states, ARRAY_LENGTH(states));
	if (!known && meant)
		usage_error("there is no state '%s'; did you mean '%s'?", l->state, meant);
	if (!known)
		usage_error("there is no state '%s'", l->state);
	if (strcmp(l->state, "trashed") == 0) {
		l->trash = true;
		l->state = NULL;
	} else if (l->trash) {
		usage_error("what is in the trash has no state '%s'", l->state);
	}
}

static json_t *parameters_new(const struct list *l)
{
	json_t *parameters = json_object();
	if (l->glob && json_object_set_new(parameters, "glob", json_string(l->glob)) < 0)
		usage_error("'%s' is not UTF-8", l->glob);
	if (l->state)
		json_object_set_new(parameters, "state", json_string(l->state));
	if (l->json)
		return parameters;
	json_t *fields = json_array();
	for (size_t i = 0; i < l->count; i++)
		json_array_append_new(fields, json_string(l->columns[i].field));
	json_object_set_new(parameters, "fields", fields);
	return parameters;
}

/* An empty listing is no error; on a terminal it still deserves a word. */
static void say_empty(const struct list *l)
{
	if (l->rows > 0 || settings.quiet || !talk_terminal(STDOUT_FILENO))
		return;
	if (l->glob)
		talk_say("no environment matches '%s'", l->glob);
	else if (l->trash)
		talk_say("the trash of '%s' is empty", settings_root());
	else if (l->state)
		talk_say("no environment is %s", l->state);
	else {
		talk_say("no environments in '%s'", settings_root());
		talk_hint("venvctl create NAME");
	}
}

int cmd_list(int argc, char **argv)
{
	struct list l = { 0 };
	read_options(argc, argv, &l);
	choose_columns(&l);
	l.now = now_us();
	l.active = active_name();
	const char *headers[TABLE_COLUMNS];
	for (size_t i = 0; i < l.count; i++)
		headers[i] = l.columns[i].header;
	table_init(&l.table, headers, l.count);
	if (l.names)
		l.table.aligned = false;

	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != 0)
		return status;
	json_auto_t *parameters = parameters_new(&l);
	struct request q = { .method = l.trash ? "ListTrash" : "List", .parameters = parameters,
	                     .more = true, .repeatable = true, .each = row_cb, .arg = &l };
	_cleanup_answer_ struct answer a;
	bool good = session_call(&s, &q, &a);
	if (l.json && good) {
		text_adds(&l.out, l.rows == 0 ? "[]\n" : "\n]\n");
		talk_json(&l.out);
	}
	text_done(&l.out);
	table_end(&l.table);
	if (!good)
		return messages_report(&s, &a, NULL);
	say_empty(&l);
	return EXIT_DONE;
}

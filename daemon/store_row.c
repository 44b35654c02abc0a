/* SPDX-License-Identifier: MIT */
/*
 * See store_row.h. Rows of the catalog and what they are in memory; all of them at once, in order. Owns nothing but what
 * it reads; which statement, when and in which transaction is store.c's.
 *
 * Everything that a start waits for goes through here for each environment: SQLite hands the rows over as they lie in
 * its tree, and they are sorted here, by pointers. Invariant: what leaves this room fits the schema's CHECKs.
 */
#include <stdio.h>
#include <string.h>
#include "store_row.h"

static const char *const intents[] = { "none", "create", "delete", "purge", "claim", "rebuild" };

/* Those of ROW_COLUMNS, in its order. The id is the first, apart, for it is no pointer. */
enum column { TEXT, WORD, INTEGER, FLAG, STATE, INTENT };

static const struct {
	enum column type;
	size_t offset;
} columns[] = {
#define COLUMN(type, member) { type, offsetof(struct environment, member) }
	COLUMN(TEXT, name), COLUMN(STATE, state), COLUMN(INTENT, intent), COLUMN(INTEGER, ino),
	COLUMN(INTEGER, btime_ns), COLUMN(WORD, executable), COLUMN(WORD, interpreter),
	COLUMN(WORD, implementation), COLUMN(WORD, version), COLUMN(WORD, prompt),
	COLUMN(WORD, project), COLUMN(FLAG, system_site_packages), COLUMN(FLAG, pip),
	COLUMN(WORD, origin), COLUMN(WORD, creator), COLUMN(INTEGER, created_at),
	COLUMN(INTEGER, deleted_at), COLUMN(INTEGER, expires_at), COLUMN(INTEGER, missing_since),
	COLUMN(WORD, problem), COLUMN(TEXT, entry),
	COLUMN(TEXT, location), COLUMN(WORD, options), COLUMN(TEXT, new_name), COLUMN(FLAG, protected),
	COLUMN(INTEGER, looked),
};

#define UNFIT 2         /* a flag that is none */

/* Where the name of this state or intent is among `names`; `count` if it is none. */
static uint8_t name_at(const char *name, const char *const *names, uint8_t count)
{
	uint8_t i = 0;

	while (i < count && (!name || strcmp(names[i], name) != 0))
		i++;
	return i;
}

/* Most rows have the word of the row before. */
static const char *word_like(const char *text, const char *before)
{
	return before && text && strcmp(before, text) == 0 ? word_again(before) : word(text);
}

/* before: the same member of the row before, or NULL. */
static void load_column(sqlite3_stmt *stmt, int i, enum column type, void *member, const void *before)
{
	const char *text = type == INTEGER || type == FLAG ? NULL :
	    (const char *)sqlite3_column_text(stmt, i);

	switch (type) {
	case TEXT: *(char **)member = xstrdup(text); break;
	case WORD: *(const char **)member = word_like(text, before ? *(const char *const *)before : NULL); break;
	case INTEGER: *(int64_t *)member = sqlite3_column_int64(stmt, i); break;
	case FLAG:
		if (sqlite3_column_type(stmt, i) != SQLITE_NULL) {
			int64_t flag = sqlite3_column_int64(stmt, i);
			*(int8_t *)member = flag < 0 || flag > 1 ? UNFIT : (int8_t)flag;
		}
		break;
	case STATE: {
		int state = text ? environment_state_from_name(text) : -1;
		*(enum environment_state *)member = state < 0 ? STATE_COUNT : (enum environment_state)state;
		break;
	}
	case INTENT:
		*(enum environment_intent *)member =
		    (enum environment_intent)name_at(text, intents, ARRAY_LENGTH(intents));
		break;
	}
}

static struct environment *row_environment(sqlite3_stmt *stmt, const struct environment *before)
{
	struct environment *env = environment_empty();
	const unsigned char *id = sqlite3_column_text(stmt, 0);

	if (id && sqlite3_column_bytes(stmt, 0) == sizeof(env->id) - 1)
		memcpy(env->id, id, sizeof(env->id));
	for (size_t i = 0; i < ARRAY_LENGTH(columns); i++)
		load_column(stmt, (int)i + 1, columns[i].type, (char *)env + columns[i].offset,
		    before ? (const char *)before + columns[i].offset : NULL);
	/* They are sent to clients as they are; in a damaged catalog they may be anything, and then nobody knows them. */
	if (env->options && (!before || env->options != before->options) && !environment_options_fit(env->options))
		word_set(&env->options, NULL);
	return env;
}

/* The CHECKs of the schema, in C. */
static bool row_fits(const struct environment *env)
{
	return strlen(env->id) == sizeof(env->id) - 1 && env->name && *env->name && env->state < STATE_COUNT &&
	    (size_t)env->intent < ARRAY_LENGTH(intents) && env->system_site_packages != UNFIT && env->pip != UNFIT &&
	    env->protected != UNFIT && (!env->new_name || *env->new_name) &&
	    (!env->location || *env->location == '/');
}

/* --- reading them all, in order ------------------------------------------------------------ */

static int row_order(const void *one, const void *other)
{
	const struct row *a = one, *b = other;
	if (a->begins != b->begins)
		return a->begins < b->begins ? -1 : 1;
	int order = strcmp(a->env->name, b->env->name);
	return order ? order : strcmp(a->env->id, b->env->id);
}

static uint64_t name_begins(const char *name)
{
	uint64_t begins = 0;

	for (int i = 0; i < 8; i++) {
		begins = begins << 8 | (unsigned char)*name;
		name += *name != '\0';
	}
	return begins;
}

void row_list_done(struct row_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		environment_free(list->rows[i].env);
	free(list->rows);
	*list = (struct row_list){ 0 };
}

void row_list_give(struct row_list *list, void (*row)(struct environment *, void *), void *arg)
{
	for (size_t i = 0; i < list->count; i++)
		row(list->rows[i].env, arg);
	list->count = 0;
	row_list_done(list);
}

int row_list_read(struct row_list *ret, sqlite3_stmt *stmt, char **ret_unfit)
{
	const struct environment *before = NULL;
	size_t size = 64;
	int rc = SQLITE_DONE;

	*ret = (struct row_list){ .rows = xcalloc(size, sizeof(struct row)) };
	while (!*ret_unfit && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct environment *env = row_environment(stmt, before);
		if (ret->count == size)
			ret->rows = xreallocarray(ret->rows, size *= 2, sizeof(struct row));
		ret->rows[ret->count++] = (struct row){ env->name ? name_begins(env->name) : 0, env };
		before = env;
		if (!row_fits(env))
			*ret_unfit = xasprintf("the row '%s' has values that it cannot have", env->id);
	}
	sqlite3_reset(stmt);
	if (*ret_unfit || rc != SQLITE_DONE)
		row_list_done(ret);
	else
		qsort(ret->rows, ret->count, sizeof(struct row), row_order);
	return *ret_unfit || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* --- requests, and the way back ------------------------------------------------------------ */

static char *column_text(sqlite3_stmt *stmt, int i)
{
	return xstrdup((const char *)sqlite3_column_text(stmt, i));
}

struct store_request *row_request(sqlite3_stmt *stmt)
{
	struct store_request *request = xcalloc(1, sizeof(*request));

	request->id = column_text(stmt, 0);
	request->method = column_text(stmt, 1);
	snprintf(request->fingerprint, sizeof(request->fingerprint), "%s",
	    (const char *)sqlite3_column_text(stmt, 2));
	snprintf(request->environment_id, sizeof(request->environment_id), "%s",
	    (const char *)sqlite3_column_text(stmt, 3));
	request->error = column_text(stmt, 4);
	request->parameters = column_text(stmt, 5);
	request->at_us = sqlite3_column_int64(stmt, 6);
	return request;
}

void row_bind_text(sqlite3_stmt *stmt, int i, const char *value)
{
	/* Static: the operation outlives the step. */
	sqlite3_bind_text(stmt, i, value, -1, SQLITE_STATIC);
}

static void bind_column(sqlite3_stmt *stmt, int i, enum column type, const void *member)
{
	switch (type) {
	case TEXT: case WORD: row_bind_text(stmt, i, *(const char *const *)member); break;
	case INTEGER: sqlite3_bind_int64(stmt, i, *(const int64_t *)member); break;
	case FLAG:
		/* An unknown one stays unbound, which is NULL. */
		if (*(const int8_t *)member >= 0)
			sqlite3_bind_int(stmt, i, *(const int8_t *)member);
		break;
	case STATE:
		row_bind_text(stmt, i, environment_state_name(*(const enum environment_state *)member));
		break;
	case INTENT: row_bind_text(stmt, i, intents[*(const enum environment_intent *)member]); break;
	}
}

void row_bind(sqlite3_stmt *stmt, const struct environment *env)
{
	row_bind_text(stmt, 1, env->id);
	for (size_t i = 0; i < ARRAY_LENGTH(columns); i++)
		bind_column(stmt, (int)i + 2, columns[i].type,
		    (const char *)env + columns[i].offset);
}

void row_bind_request(sqlite3_stmt *stmt, const struct store_request *request)
{
	row_bind_text(stmt, 1, request->id);
	row_bind_text(stmt, 2, request->method);
	row_bind_text(stmt, 3, request->fingerprint);
	row_bind_text(stmt, 4, request->environment_id);
	row_bind_text(stmt, 5, request->error);
	row_bind_text(stmt, 6, request->parameters);
	sqlite3_bind_int64(stmt, 7, request->at_us);
}

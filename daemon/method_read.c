/* SPDX-License-Identifier: MIT */
/*
 * What memory alone answers: List, ListTrash, Get, Prompt. Lists are written as text, row by row, at
 * most LIMIT_STREAM_TURN bytes a turn of the loop; between two turns the cursor is the last row's
 * name (and, in the trash, time and id), so rows may come and go meanwhile.
 */
#include <fnmatch.h>
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "method.h"
#include "root.h"

struct listing {
	struct venvd *venvd;
	bool trash;
	char *name, *glob;
	int state;                      /* -1: every one */
	environment_fields fields;
	char *after;                    /* the cursor; NULL: at the beginning */
	int64_t after_deleted_at;
	char after_id[17];
	unsigned passed;                /* rows passed over in this turn */
	bool paused;                    /* ... were enough: the cursor is at the last of them */
	struct text all;                /* without `more`: the reply so far */
	size_t rows;                    /* in it */
};

static void list_free(void *arg)
{
	struct listing *l = arg;
	free(l->name);
	free(l->glob);
	free(l->after);
	text_done(&l->all);
	free(l);
}

static bool list_matches(const struct listing *l, const struct environment *env)
{
	/* It is on its way out, which may take a while. One that could not go is told of again. */
	if (l->trash && env->busy != NULL && env->intent == INTENT_PURGE)
		return false;
	return (l->name == NULL || strcmp(l->name, env->name) == 0) &&
	    (l->state < 0 || (int)env->state == l->state) &&
	    (l->glob == NULL || fnmatch(l->glob, env->name, 0) == 0);
}

static void list_keep_cursor(struct listing *l, const struct environment *env)
{
	free(l->after);
	l->after = xstrdup(env->name);
	l->after_deleted_at = env->deleted_at;
	memcpy(l->after_id, env->id, sizeof(l->after_id));
}

/* The first match behind env, or behind the cursor for NULL. NULL when there is none, or `paused`. */
static const struct environment *list_next(struct listing *l, const struct environment *env)
{
	const struct index *index = l->venvd->index;
	const char *after = env != NULL ? env->name : l->after;
	if (!l->trash && l->name != NULL) {
		if (after != NULL)
			return NULL;
		env = index_get(index, l->name);
		return env != NULL && list_matches(l, env) ? env : NULL;
	}
	int64_t at = env != NULL ? env->deleted_at : l->after_deleted_at;
	const char *id = env != NULL ? env->id : l->after_id;
	for (;;) {
		env = l->trash ? index_trash_next(index, after, at, id) : index_next(index, after);
		if (env == NULL || list_matches(l, env))
			return env;
		if (++l->passed >= LIMIT_ROWS_TURN) {
			list_keep_cursor(l, env);
			l->paused = true;
			return NULL;
		}
		after = env->name;
		at = env->deleted_at;
		id = env->id;
	}
}

static bool list_turn(struct request *r, void *state, struct text *out)
{
	(void)r;
	struct listing *l = state;
	l->passed = 0;
	l->paused = false;
	const struct environment *env = list_next(l, NULL);
	if (env == NULL && !l->paused)
		reply_add(out, NULL, false);
	while (env != NULL) {
		const struct environment *next = list_next(l, env);
		bool more = next != NULL || l->paused;
		text_adds(out, "{\"parameters\":{\"environment\":");
		environment_add_json(out, env, l->venvd->config.root, l->fields);
		text_adds(out, more ? "},\"continues\":true}" : "}}");
		text_add(out, "", 1);
		if (next != NULL && out->len >= LIMIT_STREAM_TURN) {
			list_keep_cursor(l, env);
			return false;
		}
		env = next;
	}
	return !l->paused;
}

/* Everything in one reply, or ExpectedMore. */
static bool list_at_once(struct request *r, void *state, struct text *out)
{
	(void)r;
	struct listing *l = state;
	l->passed = 0;
	l->paused = false;
	if (l->all.len == 0)
		text_adds(&l->all, "{\"parameters\":{\"environments\":[");
	for (const struct environment *env = list_next(l, NULL); env != NULL; env = list_next(l, env)) {
		text_adds(&l->all, l->rows++ > 0 ? "," : "");
		environment_add_json(&l->all, env, l->venvd->config.root, l->fields);
		if (l->all.len > LIMIT_REPLY_BYTES - sizeof("]}}")) {
			reply_add_error(out, ERROR_EXPECTED_MORE, NULL);
			return true;
		}
	}
	if (l->paused)
		return false;
	text_add(out, l->all.data, l->all.len);
	text_add(out, "]}}", sizeof("]}}"));
	return true;
}

/* False, answered, if a field is none. */
static bool list_fields(struct request *r, environment_fields *ret)
{
	const json_t *fields = request_value(r, "fields");
	size_t i;
	json_t *field;
	*ret = fields == NULL ? FIELDS_ALL : 0;
	json_array_foreach(fields, i, field) {
		environment_fields bit = environment_field_bit(json_string_value(field));
		if (bit == 0) {
			request_invalid(r, "fields");
			return false;
		}
		*ret |= bit;
	}
	return true;
}

static void list_answer(struct venvd *v, struct request *r, bool trash)
{
	environment_fields fields;
	if (!list_fields(r, &fields) || method_refuse_length(r, "glob", LIMIT_GLOB_BYTES))
		return;
	struct listing *l = xcalloc(1, sizeof(*l));
	l->venvd = v;
	l->trash = trash;
	l->name = xstrdup(request_string(r, "name"));
	l->glob = xstrdup(request_string(r, "glob"));
	l->fields = fields;
	const char *state = trash ? NULL : request_string(r, "state");
	l->state = state != NULL ? environment_state_from_name(state) : -1;
	request_stream(r, r->call.more ? list_turn : list_at_once, l, list_free);
}

void method_list(struct venvd *v, struct request *r)
{
	list_answer(v, r, false);
}

void method_list_trash(struct venvd *v, struct request *r)
{
	list_answer(v, r, true);
}

void method_get(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name");
	const struct environment *env = index_get(v->index, name);
	if (env == NULL)
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{s:s}", "name", name));
	else
		request_reply(r, method_environment(v, env));
}

/* The environment that a path lies in: the component behind either spelling of the root, else one elsewhere. */
static const struct environment *prompt_by_path(const struct venvd *v, const char *path)
{
	const char *const roots[] = { v->config.root, root_real(v->root) };
	for (size_t i = 0; i < ARRAY_LENGTH(roots); i++) {
		size_t len = roots[i] != NULL ? strlen(roots[i]) : 0;
		if (len == 0 || strncmp(path, roots[i], len) != 0)
			continue;
		const char *name = path + len;
		if (roots[i][len - 1] != '/' && *name++ != '/')
			continue;
		name += strspn(name, "/");
		_cleanup_free_ char *component = xstrndup(name, strcspn(name, "/"));
		const struct environment *env = index_get(v->index, component);
		return env != NULL && env->location == NULL ? env : NULL;       /* one elsewhere is not what has its name here */
	}
	return index_get_location(v->index, path);
}

void method_prompt(struct venvd *v, struct request *r)
{
	const char *name = request_string(r, "name"), *path = request_string(r, "path");
	if ((name == NULL) == (path == NULL)) {
		request_invalid(r, name == NULL ? "name" : "path");
		return;
	}
	const struct environment *env = name != NULL ? index_get(v->index, name) : prompt_by_path(v, path);
	if (env == NULL) {
		request_error(r, ERROR_NO_SUCH_ENVIRONMENT, name != NULL ?
		    json_pack("{s:s}", "name", name) : json_pack("{s:s}", "path", path));
		return;
	}
	request_reply(r, json_pack("{s:s,s:s*,s:s*,s:s}", "name", env->name, "prompt", env->prompt,
	    "version", env->version, "state", environment_state_name(env->state)));
}

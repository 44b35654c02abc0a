/* SPDX-License-Identifier: MIT */
/*
 * Watch. While somebody watches, each environment is kept as it was last told (`told`: id -> name, state, a digest of all
 * its fields). What may have changed is marked and compared once the turn of the loop is over, so that a few steps of one
 * operation are one event, and what is as before is none.
 *
 * A watcher's events wait in its own queue until the server has room for them. One that does not read gets Overflow
 * instead of an endless queue, and lists again. With nobody watching nothing is kept.
 */
#include <string.h>
#include <sys/queue.h>

#include "bounds.h"
#include "events.h"
#include "index.h"
#include "method.h"
#include "request.h"
#include "retention.h"
#include "timer.h"
#include "watch.h"

struct watcher {
	struct events *events;
	struct request *request;
	json_t *names;          /* an array, borrowed from the request; NULL: all */
	char *after;            /* the cursor of the first state */
	bool listed;            /* ... which has been told */
	bool overflow;
	json_t *queue;          /* of replies, without their numbers */
	json_int_t sequence;
	TAILQ_ENTRY(watcher) entry;
};

struct events {
	struct venvd *venvd;
	TAILQ_HEAD(, watcher) watchers;
	json_t *told;           /* id -> [name, state, digest]; only while there are watchers */
	json_t *marked;         /* id -> true */
	struct timer *timer;
};

static json_t *events_known(const struct events *e, const struct environment *env)
{
	_cleanup_text_ struct text row = { 0 };
	uint64_t hash = 14695981039346656037ull;
	environment_add_json(&row, env, e->venvd->config.root, FIELDS_ALL);
	for (size_t i = 0; i < row.len; i++)
		hash = (hash ^ (unsigned char)row.data[i]) * 1099511628211ull;
	return json_pack("[s, i, I]", env->name, (int)env->state, (json_int_t)(hash >> 1));
}

static bool events_is_wanted(const struct watcher *w, const char *name)
{
	size_t i;
	json_t *wanted;
	json_array_foreach(w->names, i, wanted)
		if (strcmp(json_string_value(wanted), name) == 0)
			return true;
	return w->names == NULL;
}

/* --- one watcher --- */

static void watcher_free(void *arg)
{
	struct watcher *w = arg;
	TAILQ_REMOVE(&w->events->watchers, w, entry);
	if (TAILQ_EMPTY(&w->events->watchers)) {
		json_object_clear(w->events->told);
		json_object_clear(w->events->marked);
		timer_clear(w->events->timer);
	}
	json_decref(w->queue);
	free(w->after);
	free(w);
}

static void watcher_write(struct watcher *w, struct text *out, json_t *reply)
{
	json_object_set_new(reply, "sequence", json_integer(w->sequence++));
	reply_add(out, reply, true);
}

/* The next environments of the first state, and behind the last one a reply without any. */
static void watcher_list(struct watcher *w, struct text *out)
{
	const struct venvd *v = w->events->venvd;
	const struct environment *env = NULL;
	for (unsigned passed = 0; out->len < LIMIT_STREAM_TURN && passed < LIMIT_ROWS_TURN; passed++) {
		env = index_next(v->index, w->after);
		if (env == NULL)
			break;
		free(w->after);
		w->after = xstrdup(env->name);
		if (!events_is_wanted(w, env->name))
			continue;
		json_t *reply = method_environment(v, env);
		json_object_set_new(reply, "event", json_string("state"));
		watcher_write(w, out, reply);
		json_decref(reply);
	}
	if (env != NULL)
		return;
	w->listed = true;
	json_t *reply = json_pack("{s:s}", "event", "ready");
	watcher_write(w, out, reply);
	json_decref(reply);
}

static bool watcher_turn(struct request *r, void *state, struct text *out)
{
	struct watcher *w = state;
	if (w->overflow) {
		reply_add_error(out, ERROR_OVERFLOW, NULL);
		return true;
	}
	if (!w->listed)
		watcher_list(w, out);
	while (w->listed && json_array_size(w->queue) > 0 && out->len < LIMIT_STREAM_TURN) {
		watcher_write(w, out, json_array_get(w->queue, 0));
		json_array_remove(w->queue, 0);
	}
	if (w->listed && json_array_size(w->queue) == 0)
		request_stream_pause(r);
	return false;
}

static void watcher_add(struct watcher *w, json_t *event)
{
	if (json_array_size(w->queue) >= LIMIT_EVENTS_QUEUED) {
		w->overflow = true;
		json_array_clear(w->queue);
	}
	if (!w->overflow)
		json_array_append_new(w->queue, json_copy(event));
	request_stream_resume(w->request, watcher_turn);
}

/* --- what has changed --- */

static const char *events_kind(enum environment_state before, enum environment_state now)
{
	if (before == now)
		return "changed";
	if (now == STATE_BROKEN)
		return "broken";
	if (now == STATE_READY && (before == STATE_BROKEN || before == STATE_MISSING))
		return "repaired";
	return "changed";
}

/* old: its other name, or NULL. */
static void events_tell(struct events *e, const char *kind, const struct environment *env, const char *name, const char *old)
{
	json_t *event = env != NULL ? method_environment(e->venvd, env) : json_pack("{s:{s:s}}", "environment", "name", name);
	struct watcher *w, *next;
	json_object_set_new(event, "event", json_string(kind));
	if (old != NULL)
		json_object_set_new(event, "oldName", json_string(old));
	for (w = TAILQ_FIRST(&e->watchers); w != NULL; w = next) {
		next = TAILQ_NEXT(w, entry);
		if (events_is_wanted(w, name) || (old != NULL && events_is_wanted(w, old)))
			watcher_add(w, event);
	}
	json_decref(event);
}

static void events_compare(struct events *e, const char *id)
{
	const struct environment *env = index_get_id(e->venvd->index, id);
	json_t *before = json_object_get(e->told, id);
	const char *old = json_string_value(json_array_get(before, 0));
	enum environment_state state = (enum environment_state)json_integer_value(json_array_get(before, 1));
	if (env != NULL && env->state == STATE_TRASHED)
		env = NULL;
	if (env != NULL && env->state == STATE_CREATING)
		return;                 /* it has not come to its end: that will say so */
	if (env == NULL) {
		if (before != NULL)
			events_tell(e, "deleted", NULL, old, NULL);
		json_object_del(e->told, id);
		return;
	}
	json_t *now = events_known(e, env);
	if (before == NULL)
		events_tell(e, "created", env, env->name, NULL);
	else if (strcmp(old, env->name) != 0)
		events_tell(e, "renamed", env, env->name, old);
	else if (!json_equal(before, now))
		events_tell(e, events_kind(state, env->state), env, env->name, NULL);
	json_object_set_new(e->told, id, now);
}

static void events_due(void *arg)
{
	struct events *e = arg;
	json_t *marked = e->marked, *value;
	const char *id;
	e->marked = json_object();
	json_object_foreach(marked, id, value)
		events_compare(e, id);
	json_decref(marked);
}

void events_changed(struct events *e, const struct environment *env)
{
	if (e == NULL || TAILQ_EMPTY(&e->watchers))
		return;
	if (json_object_size(e->marked) == 0)
		timer_set(e->timer, 0);
	json_object_set_new(e->marked, env->id, json_true());
}

static void events_index_changed(const struct environment *env, void *arg)
{
	struct events *e = arg;
	events_changed(e, env);
	watch_changed(e->venvd->watch, env);
	retention_changed(e->venvd->retention, env);
}

/* --- its life --- */

struct events *events_new(struct venvd *v)
{
	struct events *e = xcalloc(1, sizeof(*e));
	e->venvd = v;
	e->told = json_object();
	e->marked = json_object();
	e->timer = timer_new(v, events_due, e);
	TAILQ_INIT(&e->watchers);
	index_observe(v->index, events_index_changed, e);
	return e;
}

void events_free(struct events *e)
{
	if (e == NULL)
		return;
	index_observe(e->venvd->index, NULL, NULL);
	timer_free(e->timer);
	json_decref(e->told);
	json_decref(e->marked);
	free(e);
}

void events_watch(struct events *e, struct request *r)
{
	const struct index *index = e->venvd->index;
	struct watcher *w = xcalloc(1, sizeof(*w));
	if (TAILQ_EMPTY(&e->watchers))
		for (const struct environment *env = index_next(index, NULL); env != NULL;
		    env = index_next(index, env->name))
			if (env->state != STATE_CREATING)
				json_object_set_new(e->told, env->id, events_known(e, env));
	w->events = e;
	w->request = r;
	w->names = (json_t *)request_value(r, "names");
	w->queue = json_array();
	TAILQ_INSERT_TAIL(&e->watchers, w, entry);
	request_stream(r, watcher_turn, w, watcher_free);
}

void method_watch(struct venvd *v, struct request *r)
{
	if (r->call.more || r->conn == NULL)
		events_watch(v->events, r);
	else
		request_error(r, ERROR_EXPECTED_MORE, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * An event only says which name to look at. Some milliseconds later, so that what belongs together comes together, the
 * resident worker is asked what is there (look); only what differs from the index is looked into (inspect), after rows have
 * followed directories that were renamed (follow.c). Our own changes are seen as well, and differ from nothing.
 *
 * A name that somebody is busy with waits for the end of it. A new directory that is no environment yet is looked at
 * again, ever later, five times. When the kernel had to drop events the whole root is looked through. All of it is
 * bounded, and nothing happens where nothing is heard.
 *
 * Invariant: at most one look is under way. `dirty` is what is yet to be looked at; what is heard meanwhile comes next.
 */
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "bases.h"
#include "bounds.h"
#include "entries.h"
#include "follow.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "operation.h"
#include "paths.h"
#include "root.h"
#include "seen.h"
#include "store.h"
#include "timer.h"
#include "watch.h"

#define WATCH_ROOT (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_ONLYDIR)
#define WATCH_DELAY_US 20000    /* from the first event to the look */
#define WATCH_BASES_US (60 * 1000000LL) /* between two looks at which bases are used: each goes through all environments */
#define WATCH_READS 512         /* of all that the kernel keeps for us */

/* A request that waits for the look under way or the next one. */
struct deferred {
	struct watch *watch;
	struct request *request;
	void (*fn)(struct venvd *, struct request *);
	TAILQ_ENTRY(deferred) entry;
};

struct watch {
	struct venvd *venvd;
	int fd, root_wd;
	struct event *event;
	struct timer *timer, *again_timer;
	bool started;
	bool looking;           /* an order is under way ... */
	uint64_t asked;         /* ... since then (operation_moment()) */
	uint64_t looks;         /* at the root, that something was concluded from */
	bool lost_state;        /* our own directory was taken away: nothing can be kept there any more */
	bool rescan;            /* events were lost */
	bool scanning;          /* the look under way is at the whole root */
	int scans;              /* workers that have been given it */
	json_t *dirty;          /* name -> how often it has been looked at in vain */
	json_t *again;          /* name -> [as in dirty, when (monotonic)], of those that are looked at later */
	int64_t again_at;       /* the earliest of those; 0: there is none */
	struct entries *names;  /* of the look under way: what is there */
	json_t *considered;     /* names of the look under way */
	json_t *attempts;       /* of those that are inspected, as in dirty */
	json_t *known;          /* those of them that had a row then ... */
	bool rows_only;         /* ... as all have that are not inspected because of an event in the root */
	json_t *into;           /* ids of those that are to be looked into, whatever the root says */
	struct bases *bases;
	int64_t bases_at;       /* when room was last made among them (monotonic); 0: never */
	TAILQ_HEAD(deferrals, deferred) deferred;
	size_t deferred_count;
};

static const int64_t again_us[] = { 200000, 1000000, 5000000, 30000000 };

static void watch_arm(struct watch *w)
{
	bool any = w->rescan || json_object_size(w->dirty) + json_object_size(w->into) > 0 || bases_dirty(w->bases);
	if (any && w->started && !w->looking && !w->venvd->stopping)
		timer_set(w->timer, WATCH_DELAY_US);
}

/* All who wait go on with what is known now, or hear that the daemon ends. They are nobody's while that lasts. */
static void watch_go_on(struct watch *w, bool ends)
{
	struct deferrals all = TAILQ_HEAD_INITIALIZER(all);
	struct deferred *d, *next;
	TAILQ_CONCAT(&all, &w->deferred, entry);
	w->deferred_count = 0;
	for (d = TAILQ_FIRST(&all); d != NULL; d = next) {
		next = TAILQ_NEXT(d, entry);
		request_on_gone(d->request, NULL, NULL);
		if (ends)
			request_error(d->request, ERROR_SHUTTING_DOWN, NULL);
		else
			d->fn(w->venvd, d->request);
		free(d);
	}
}

static void watch_look_begins(struct watch *w)
{
	w->looking = true;
	w->rows_only = w->scanning = false;
	w->asked = operation_moment();
}

static void watch_look_ends(struct watch *w)
{
	entries_clear(w->names);
	json_array_clear(w->considered);
	json_object_clear(w->attempts);
	json_object_clear(w->known);
	w->looking = false;
	watch_arm(w);
	watch_go_on(w, w->venvd->stopping);
}

/* --- looking into what differs --- */

static void watch_again_arm(struct watch *w, int64_t at)
{
	int64_t left = at - monotonic_us();
	w->again_at = at;
	timer_set(w->again_timer, left < 0 ? 0 : left);
}

/* A directory that may become an environment. Each waits its own time: others that come meanwhile use up none of its looks. */
static void watch_look_later(struct watch *w, const char *name)
{
	json_int_t attempt = json_integer_value(json_object_get(w->attempts, name));
	if (attempt >= (json_int_t)ARRAY_LENGTH(again_us))
		return;
	int64_t at = monotonic_us() + again_us[attempt];
	json_object_set_new(w->again, name, json_pack("[I,I]", attempt + 1, (json_int_t)at));
	if (w->again_at == 0 || at < w->again_at)
		watch_again_arm(w, at);
}

/* No worker has told what is there. */
static void watch_look_failed(struct watch *w)
{
	size_t i;
	json_t *name;
	json_array_foreach(w->considered, i, name)
		watch_look_later(w, json_string_value(name));
}

static void watch_again(void *arg)
{
	struct watch *w = arg;
	int64_t now = monotonic_us(), next = 0;
	const char *name;
	json_t *later;
	void *safe;
	json_object_foreach_safe(w->again, safe, name, later) {
		int64_t at = json_integer_value(json_array_get(later, 1));
		if (at > now) {
			next = next == 0 || at < next ? at : next;
			continue;
		}
		json_object_set(w->dirty, name, json_array_get(later, 0));
		json_object_del(w->again, name);
	}
	w->again_at = 0;
	if (next != 0)
		watch_again_arm(w, next);
	watch_arm(w);
}

/* An operation has had it since it was asked for, and knows better, or has seen nothing of its directory. */
static void watch_look_once_more(struct watch *w, const char *name)
{
	json_t *attempt = json_object_get(w->attempts, name);
	json_object_set_new(w->dirty, name, attempt != NULL ? json_incref(attempt) : json_integer(0));
}

void watch_look_into(struct watch *w, const struct environment *env)
{
	json_object_set_new(w->into, env->id, json_true());
	watch_arm(w);
}

uint64_t watch_looks(const struct watch *w)
{
	return w->looks;
}

/* Whether another directory is there than was when rows followed theirs: it may be one that is known, and is to be followed first.
 * env: the row of this name, or NULL. */
static bool watch_is_new_there(const struct watch *w, const char *name, const struct environment *env, const json_t *found)
{
	int64_t there = json_integer_value(json_object_get(found, "ino"));
	if (name[0] == '/' || (env != NULL && env->location != NULL))
		return false;
	return w->rows_only ? env != NULL && there != 0 && there != env->ino : there != entries_ino(w->names, name);
}

static void watch_saw(struct watch *w, const json_t *found)
{
	struct venvd *v = w->venvd;
	const char *name = json_string_value(json_object_get(found, "name"));
	const char *kind = json_string_value(json_object_get(found, "kind"));
	struct environment *env = name != NULL ? index_get(v->index, name) : NULL;
	if (name == NULL || kind == NULL)
		return;
	if (watch_is_new_there(w, name, env, found)) {
		watch_look_once_more(w, name);
		if (w->rows_only && env->state != STATE_MISSING)
			watch_look_into(w, env);        /* behind that */
		return;
	}
	if (env != NULL || name[0] == '/') {
		seen_look(v, found, w->asked);
		env = index_get(v->index, name);
	} else if (w->rows_only || json_object_get(w->known, name) != NULL) {
		watch_look_once_more(w, name);  /* its row has gone meanwhile, and perhaps its directory, too */
	} else if ((env = seen_adopt(v, found)) != NULL) {
		log_info("adopted '%s'", name);
		store_put(v->store, env, NULL, NULL);
	} else if (strcmp(kind, "other") == 0) {
		watch_look_later(w, name);
	}
	if (env != NULL)
		watch_base(w, env);
}

static void watch_inspect_frame(const char *kind, const json_t *frame, void *arg)
{
	size_t i;
	json_t *found;
	(void)kind;
	json_array_foreach(json_object_get(frame, "environments"), i, found)
		watch_saw(arg, found);
}

static void watch_inspected(enum error_code code, const json_t *result, void *arg)
{
	if (code != ERROR_NONE && code != ERROR_CANCELLED) {
		log_warning("what has changed in the root could not be looked into: %s", job_reason(code, result));
		watch_look_failed(arg);
	}
	watch_look_ends(arg);
}

/* Takes both arrays. */
static void watch_inspect(struct watch *w, json_t *names, json_t *paths)
{
	bool any = json_array_size(names) + json_array_size(paths) > 0;
	json_t *order = json_pack("{s:s,s:o,s:o}", "op", "inspect", "names", names, "paths", paths);
	if (any && job_continue_background(w->venvd->jobs, order, 0, watch_inspect_frame, watch_inspected, w) != NULL)
		return;
	if (!any)
		json_decref(order);
	watch_look_ends(w);
}

/* Names are those of their directories by now. */
static void watch_followed(void *arg)
{
	struct watch *w = arg;
	struct venvd *v = w->venvd;
	json_t *names = json_array(), *considered;
	size_t i;
	w->looks++;
	json_array_foreach(w->considered, i, considered) {
		const char *name = json_string_value(considered);
		struct environment *env = index_get(v->index, name);
		int64_t ino = entries_ino(w->names, name);
		if (env != NULL && (operation_has_had(env, w->asked) || env->state == STATE_CREATING)) {
			watch_look_once_more(w, name);
			continue;
		}
		if (env != NULL && env->location != NULL)
			continue;
		if (ino != 0 && (env == NULL || env->ino != ino || env->state == STATE_MISSING)) {
			json_array_append(names, considered);
			if (env != NULL)
				json_object_set_new(w->known, name, json_true());
		} else if (ino == 0 && env != NULL && env->state == STATE_FOREIGN) {
			seen_drop(v, env);
		} else if (ino == 0 && env != NULL) {
			seen_missing(v, env);
		}
	}
	watch_inspect(w, names, json_array());
}

static void watch_settle(struct watch *w)
{
	follow_begin(w->venvd, w->names, watch_followed, w);
}

/* --- a look at some names --- */

static void watch_looked(enum error_code code, const json_t *result, void *arg)
{
	struct watch *w = arg;
	size_t i;
	json_t *one;
	if (code != ERROR_NONE) {
		log_warning("what has changed in the root could not be looked at: %s", job_reason(code, result));
		watch_look_failed(w);
		watch_look_ends(w);
		return;
	}
	json_array_foreach(json_object_get(result, "found"), i, one) {
		const char *name = json_string_value(json_array_get(one, 0));
		const struct environment *env = name != NULL ? index_get(w->venvd->index, name) : NULL;
		json_int_t ino = json_integer_value(json_array_get(one, 1));
		/* A directory of the same number made since the row was written is another one. */
		if (env != NULL && !operation_has_had(env, w->asked) && env->ino == ino && env->btime_ns != 0 &&
		    json_integer_value(json_array_get(one, 2)) != env->btime_ns)
			index_get(w->venvd->index, name)->ino = 0;
		if (name != NULL)
			entries_add(w->names, name, ino);
	}
	watch_settle(w);
}

static void watch_look(struct watch *w)
{
	const char *name;
	json_t *attempt;
	json_object_foreach(w->dirty, name, attempt) {
		struct environment *env = index_get(w->venvd->index, name);
		if (env != NULL && (env->busy != NULL || env->state == STATE_CREATING))
			continue;       /* its end wakes us */
		json_array_append_new(w->considered, json_string(name));
		json_object_set(w->attempts, name, attempt);
	}
	json_object_foreach(w->attempts, name, attempt)
		json_object_del(w->dirty, name);
	if (json_array_size(w->considered) == 0)
		return;
	watch_look_begins(w);
	if (!jobs_short_continue(w->venvd->jobs, json_pack("{s:s,s:O}", "op", "look", "names", w->considered), watch_looked, w))
		watch_looked(ERROR_BUSY, NULL, w);
}

/* --- the whole root --- */

static void watch_scan_frame(const char *kind, const json_t *frame, void *arg)
{
	struct watch *w = arg;
	if (strcmp(kind, "names") == 0)
		entries_add_text(w->names, json_string_value(json_object_get(frame, "names")));
}

static void watch_scan(struct watch *);

static void watch_scanned(enum error_code code, const json_t *result, void *arg)
{
	struct watch *w = arg;
	const struct index *index = w->venvd->index;
	const char *name;
	size_t at = 0;
	if (code == ERROR_FAILED && !w->venvd->stopping && w->scans < LIMIT_WORKER_RESTARTS) {
		log_warning("the root is looked through once more: %s", job_reason(code, result));
		watch_scan(w);
		return;
	}
	w->scans = 0;
	if (code != ERROR_NONE || json_is_true(json_object_get(result, "truncated"))) {
		log_error("the root could not be looked through: %s", job_reason(code, result));
		watch_look_ends(w);
		return;
	}
	while ((name = entries_next(w->names, &at)) != NULL) {
		const struct environment *env = index_get(index, name);
		if (env == NULL || env->state == STATE_MISSING || env->ino != entries_ino(w->names, name))
			json_array_append_new(w->considered, json_string(name));
	}
	for (const struct environment *env = index_next(index, NULL); env != NULL; env = index_next(index, env->name))
		if (env->location == NULL && entries_ino(w->names, env->name) == 0)
			json_array_append_new(w->considered, json_string(env->name));
	watch_settle(w);
}

/* Anew, whatever a worker that has died over it has told. */
static void watch_scan(struct watch *w)
{
	if (w->scans++ == 0)
		log_warning("events were lost: the whole root is looked through");
	w->rescan = false;
	entries_clear(w->names);
	json_object_clear(w->dirty);
	watch_look_begins(w);
	w->scanning = true;
	if (job_continue_background(w->venvd->jobs, json_pack("{s:s}", "op", "scan"), 0, watch_scan_frame, watch_scanned,
	    w) == NULL)
		watch_scanned(ERROR_CANCELLED, NULL, w);
}

/* --- base interpreters --- */

void watch_base(struct watch *w, const struct environment *env)
{
	if (w == NULL || w->fd < 0 || bases_add(w->bases, env->interpreter) ||
	    (w->bases_at != 0 && monotonic_us() < w->bases_at + WATCH_BASES_US))
		return;
	w->bases_at = monotonic_us();
	const struct index *index = w->venvd->index;
	for (const struct environment *one = index_next(index, NULL); one != NULL; one = index_next(index, one->name))
		if (one->state != STATE_MISSING)
			bases_use(w->bases, one->interpreter);
	bases_drop_unused(w->bases);
	bases_add(w->bases, env->interpreter);
}

/* All environments of the interpreters in these directories. */
static void watch_look_at_bases(struct watch *w)
{
	const struct index *index = w->venvd->index;
	json_t *names = json_array(), *paths = json_array();
	const struct environment *next;
	for (next = index_next(index, NULL); next != NULL; next = index_next(index, next->name)) {
		if (!bases_dirty_of(w->bases, next->interpreter))
			continue;
		if (next->busy != NULL || next->state == STATE_CREATING)
			json_object_set_new(w->into, next->id, json_true());    /* at the end of that */
		else if (next->location != NULL)
			json_array_append_new(paths, json_string(next->location));
		else
			json_array_append_new(names, json_string(next->name));
	}
	bases_clean(w->bases);
	watch_look_begins(w);
	w->rows_only = true;
	watch_inspect(w, names, paths);
}

/* Whether one of them is not busy, or gone. */
static bool watch_may_look_into(const struct watch *w)
{
	const char *id;
	json_t *value;
	json_object_foreach(w->into, id, value) {
		const struct environment *env = index_get_id(w->venvd->index, id);
		if (env == NULL || (env->busy == NULL && env->state != STATE_CREATING))
			return true;
	}
	return false;
}

/* Those that are to be. Who is busy wakes us. */
static void watch_look_into_some(struct watch *w)
{
	json_t *names = json_array(), *paths = json_array(), *value;
	const char *id;
	void *next;
	json_object_foreach_safe(w->into, next, id, value) {
		const struct environment *env = index_get_id(w->venvd->index, id);
		if (env != NULL && (env->busy != NULL || env->state == STATE_CREATING))
			continue;
		if (env != NULL && env->state != STATE_TRASHED)
			json_array_append_new(env->location != NULL ? paths : names,
			    json_string(env->location != NULL ? env->location : env->name));
		json_object_del(w->into, id);
	}
	watch_look_begins(w);
	w->rows_only = true;
	watch_inspect(w, names, paths);
}

/* --- events --- */

static void watch_due(void *arg)
{
	struct watch *w = arg;
	if (w->lost_state && !w->venvd->stopping) {
		log_error("'%s/" PATH_STATE "' was taken away, and venvd ends", w->venvd->config.root);
		venvd_stop(w->venvd);
	}
	if (w->looking || w->venvd->stopping)
		return;
	if (w->rescan)
		watch_scan(w);
	else if (json_object_size(w->dirty) > 0)
		watch_look(w);
	if (!w->looking && bases_dirty(w->bases))
		watch_look_at_bases(w);
	if (!w->looking && watch_may_look_into(w))
		watch_look_into_some(w);
}

static void watch_mark(struct watch *w, const char *name)
{
	if (json_object_size(w->dirty) >= LIMIT_WATCHED_NAMES)
		w->rescan = true;
	else
		json_object_set_new(w->dirty, name, json_integer(0));
}

void watch_changed(struct watch *w, const struct environment *env)
{
	if (w == NULL || w->fd < 0 || env->location == NULL)
		return;
	watch_mark(w, env->name);
	watch_arm(w);
}

static void watch_heard_root(struct watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_IGNORED)
		w->root_wd = -1;
	/* With the root it goes, too: who makes another one there has another daemon. */
	if (e->len > 0 && strcmp(e->name, PATH_STATE) == 0 && !root_lock_current(w->venvd->root)) {
		w->lost_state = true;
		timer_set(w->timer, 0);
	}
	if (e->len == 0 || e->name[0] == '.')
		return;
	_cleanup_free_ char *name = text_printable(e->name);
	watch_mark(w, name);
}

/* Some of what the kernel has heard; false if it has nothing more. */
static bool watch_read(struct watch *w)
{
	union {
		struct inotify_event event;
		char bytes[16 * 1024];
	} buffer;
	ssize_t n = read(w->fd, buffer.bytes, sizeof(buffer.bytes));
	for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
		const struct inotify_event *e = (const struct inotify_event *)(const void *)(buffer.bytes + at);
		if (e->mask & IN_Q_OVERFLOW)
			w->rescan = true;
		else if (e->wd == w->root_wd)
			watch_heard_root(w, e);
		else
			bases_heard(w->bases, e);
		at += (ssize_t)sizeof(*e) + e->len;
	}
	watch_arm(w);
	return n > 0;
}

static void watch_read_cb(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	watch_read(arg);
}

/* --- who waits --- */

/* One with an id is done, whoever listens. */
static void watch_client_gone(struct request *r, void *arg)
{
	struct deferred *d = arg;
	if (request_string(r, "requestId") != NULL)
		return;
	TAILQ_REMOVE(&d->watch->deferred, d, entry);
	d->watch->deferred_count--;
	free(d);
	request_error(r, ERROR_CANCELLED, NULL);
}

bool watch_defer(struct watch *w, const char *name, struct request *r, void (*fn)(struct venvd *, struct request *))
{
	if (w->fd < 0 || !w->started || w->venvd->stopping)
		return false;
	for (int i = 0; i < WATCH_READS && watch_read(w); i++)
		;                       /* what the kernel has until now */
	bool all = w->rescan || (w->looking && w->scanning);
	if (!all && json_object_get(w->dirty, name) == NULL && json_object_get(w->attempts, name) == NULL)
		return false;
	/* Calls that want no answer wait without a connection that would be counted. */
	if (w->deferred_count >= LIMIT_SHORT_ORDERS) {
		request_error(r, ERROR_BUSY, job_refused(name));
		return true;
	}
	struct deferred *d = xcalloc(1, sizeof(*d));
	*d = (struct deferred){ .watch = w, .request = r, .fn = fn };
	TAILQ_INSERT_TAIL(&w->deferred, d, entry);
	w->deferred_count++;
	request_on_gone(r, watch_client_gone, d);
	if (!w->looking)
		timer_set(w->timer, 0);
	return true;
}

/* --- its life --- */

struct watch *watch_new(struct venvd *v)
{
	struct watch *w = xcalloc(1, sizeof(*w));
	w->venvd = v;
	w->root_wd = -1;
	TAILQ_INIT(&w->deferred);
	w->dirty = json_object();
	w->again = json_object();
	w->names = entries_new();
	w->considered = json_array();
	w->attempts = json_object();
	w->known = json_object();
	w->into = json_object();
	w->timer = timer_new(v, watch_due, w);
	w->again_timer = timer_new(v, watch_again, w);
	w->fd = v->config.peek ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0) {
		if (!v->config.peek)
			log_warning("the root is not watched: %s", strerror(errno));
		w->bases = bases_new(-1, -1);
		return w;
	}
	_cleanup_free_ char *root = xasprintf("/proc/self/fd/%d", root_fd(v->root));
	w->root_wd = inotify_add_watch(w->fd, root, WATCH_ROOT);
	if (w->root_wd < 0)
		log_warning("the root is not watched: %s", strerror(errno));
	w->bases = bases_new(w->fd, w->root_wd);
	w->event = event_new(v->base, w->fd, EV_READ | EV_PERSIST, watch_read_cb, w);
	if (w->event == NULL || event_add(w->event, NULL) != 0)
		abort();
	return w;
}

void watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	watch_go_on(w, true);
	if (w->event != NULL)
		event_free(w->event);
	cleanup_fd(&w->fd);
	timer_free(w->timer);
	timer_free(w->again_timer);
	bases_free(w->bases);
	json_decref(w->dirty);
	json_decref(w->again);
	entries_free(w->names);
	json_decref(w->considered);
	json_decref(w->attempts);
	json_decref(w->known);
	json_decref(w->into);
	free(w);
}

void watch_start(struct watch *w)
{
	const struct index *index = w->venvd->index;
	for (const struct environment *env = index_next(index, NULL); env != NULL; env = index_next(index, env->name))
		watch_base(w, env);
	w->started = true;
	watch_arm(w);
}

void watch_ended(struct watch *w, const struct environment *env)
{
	if (w == NULL)
		return;
	if (env != NULL)
		watch_base(w, env);
	watch_arm(w);
}

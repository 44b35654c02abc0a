/* SPDX-License-Identifier: MIT */
/*
 * The trash's clock. One one-shot timer, set to the moment at which the oldest environment in the trash
 * is due; no periodic wake-ups. A purge is first committed as an intent, and only then unlinked: until
 * that commit Restore takes it back, after it the next start finishes it.
 *
 * A second one, as long as anything is missing, for the rows of what has been so too long: a daemon may run for months.
 */
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "job.h"
#include "log.h"
#include "nameless.h"
#include "paths.h"
#include "retention.h"
#include "seen.h"
#include "store.h"
#include "timer.h"

#define RETENTION_AGAIN_US (3600 * 1000000LL)   /* after a purge that did not succeed */
#define RETENTION_LOOK_US (24 * RETENTION_AGAIN_US) /* the wall clock may be set meanwhile */

struct retention {
	struct venvd *venvd;
	struct timer *timer, *missing;
	bool purging;           /* one at a time */
	bool waiting;           /* `missing` is set */
	json_t *stage;          /* entries of it that are to go; while `sweeping`, after those */
	bool sweeping;
};

struct purge {
	struct venvd *venvd;
	struct environment *env;
	retention_done_fn *done;
	void *arg;
};

static void retention_due(void *);
static void retention_forget(void *);

struct retention *retention_new(struct venvd *v)
{
	struct retention *r = xcalloc(1, sizeof(*r));
	r->venvd = v;
	r->timer = timer_new(v, retention_due, r);
	r->missing = timer_new(v, retention_forget, r);
	r->stage = json_array();
	return r;
}

void retention_free(struct retention *r)
{
	if (r == NULL)
		return;
	timer_free(r->timer);
	timer_free(r->missing);
	json_decref(r->stage);
	free(r);
}

void retention_stamp(const struct retention *r, struct environment *env)
{
	env->expires_at = env->deleted_at + r->venvd->config.value[CONFIG_TRASH_SECONDS] * 1000000;
}

static void retention_wait(struct retention *r, int64_t delay)
{
	if (r->waiting || r->venvd->stopping || r->venvd->config.peek)
		return;
	r->waiting = true;
	timer_set(r->missing, delay < 0 ? 0 : delay > RETENTION_LOOK_US ? RETENTION_LOOK_US : delay);
}

static bool retention_misses(const struct retention *r)
{
	return index_count(r->venvd->index, STATE_MISSING) > 0 || nameless_count(r->venvd->nameless) > 0;
}

/* One that somebody is busy with has its turn the next time. */
static void retention_forget(void *arg)
{
	struct retention *r = arg;
	struct venvd *v = r->venvd;
	struct environment *env, *next;
	int64_t now = now_us(), delay = RETENTION_LOOK_US;
	r->waiting = false;
	if (v->stopping)
		return;
	for (env = index_next(v->index, NULL); env != NULL; env = next) {
		next = index_next(v->index, env->name);
		int64_t left = env->missing_since + LIMIT_MISSING_US - now;
		if (env->state != STATE_MISSING || env->busy != NULL)
			continue;
		if (left < 0)
			seen_drop(v, env);
		else if (left < delay)
			delay = left + 1;
	}
	int64_t left = nameless_forget(v, now);
	if (left < delay)
		delay = left + 1;
	if (retention_misses(r))
		retention_wait(r, delay);
}

/* A start arms us when it is ready: whoever has waited longer is not to wait for what is missing since then. */
void retention_changed(struct retention *r, const struct environment *env)
{
	if (env->state == STATE_MISSING && r->venvd->ready)
		retention_wait(r, RETENTION_LOOK_US);
}

void retention_arm(struct retention *r)
{
	const struct environment *env = index_trash_due(r->venvd->index);
	if (retention_misses(r))
		retention_wait(r, 0);
	timer_clear(r->timer);
	if (env == NULL || r->purging || r->venvd->stopping || r->venvd->config.peek)
		return;
	int64_t delay = env->expires_at - now_us();
	timer_set(r->timer, delay < 0 ? 0 : delay > RETENTION_LOOK_US ? RETENTION_LOOK_US : delay);
}

static void retention_purged(const char *why, const char *kept, void *arg)
{
	struct retention *r = arg;
	(void)kept;             /* it is in the log */
	if (why != NULL)
		log_warning("the trash keeps an environment that is due: %s", why);
	r->purging = false;
	retention_arm(r);
}

static void retention_due(void *arg)
{
	struct retention *r = arg;
	struct environment *env = index_trash_due(r->venvd->index);
	if (env == NULL || r->venvd->stopping)
		return;
	if (env->busy != NULL)
		return;                 /* who is busy with it arms us again */
	if (env->expires_at > now_us()) {
		retention_arm(r);
		return;
	}
	r->purging = true;
	retention_purge(r, env, retention_purged, r);
}

/* --- one purge --- */

char *retention_kept(const char *name, const json_t *result)
{
	const char *first = json_string_value(json_array_get(json_object_get(result, "kept"), 0));
	return first == NULL ? NULL : xasprintf("a part of '%s' refuses to be removed, and is left in '%s/%s': %s", name, PATH_STATE,
	    PATH_STAGE, first);
}

static void purge_end(struct purge *p, const char *why, const char *kept)
{
	struct venvd *v = p->venvd;
	struct environment *env = p->env;
	if (why == NULL) {
		log_info("purged '%s'", env->entry);
		if (kept != NULL)
			log_warning("%s", kept);
		store_drop(v->store, env->id, NULL, NULL, NULL);
		index_remove(v->index, env);
	} else {
		env->busy = NULL;
		env->expires_at = now_us() + RETENTION_AGAIN_US;
		index_to_trash(v->index, env);  /* behind those that are due before it now */
	}
	p->done(why, kept, p->arg);
	free(p);
	venvd_stop_if_idle(v);
}

static void purge_done(enum error_code code, const json_t *result, void *arg)
{
	struct purge *p = arg;
	_cleanup_free_ char *kept = code == ERROR_NONE ? retention_kept(p->env->name, result) : NULL;
	purge_end(p, code == ERROR_NONE ? NULL : job_reason(code, result), kept);
}

static void purge_intent_on_disk(bool ok, void *arg)
{
	struct purge *p = arg;
	if (!ok) {
		/* Removing frees space, and the record in the trash makes the row again: go on without it. */
		log_warning("the catalog's file system is full");
	}
	json_t *order = json_pack("{s:s,s:s,s:[s],s:s*}", "op", "purge", "where", "trash", "entries",
	    p->env->entry, "path", p->env->location);
	bool awaited = p->done != retention_purged;
	if ((awaited ? job_start : job_start_background)(p->venvd->jobs, order, 0, NULL, purge_done, p) == NULL)
		purge_end(p, "no worker takes it now", NULL);
}

void retention_purge(struct retention *r, struct environment *env, retention_done_fn *done, void *arg)
{
	struct purge *p = xcalloc(1, sizeof(*p));
	*p = (struct purge){ r->venvd, env, done, arg };
	env->busy = p;
	env->intent = INTENT_PURGE;
	store_put(r->venvd->store, env, purge_intent_on_disk, p);
}

/* --- the stage --- */

static void sweep_next(struct retention *);

static void sweep_done(enum error_code code, const json_t *result, void *arg)
{
	struct retention *r = arg;
	if (code != ERROR_NONE && code != ERROR_CANCELLED)
		log_warning("the stage could not be swept: %s", job_reason(code, result));
	r->sweeping = false;
	sweep_next(r);
}

/* One order after the other, each for all that has come meanwhile: so there are not many, and none is refused. */
static void sweep_next(struct retention *r)
{
	if (r->sweeping || r->venvd->stopping || json_array_size(r->stage) == 0)
		return;
	r->sweeping = job_continue_background(r->venvd->jobs, json_pack("{s:s,s:s,s:o}", "op", "purge", "where", "stage",
	    "entries", r->stage), 0, NULL, sweep_done, r) != NULL;
	r->stage = json_array();
}

void retention_sweep(struct retention *r, json_t *entries)
{
	json_array_extend(r->stage, entries);
	json_decref(entries);
	sweep_next(r);
}

struct tidying {
	struct venvd *venvd;
	char id[17];            /* "": nobody's row waits for it */
};

static void tidy_done(enum error_code code, const json_t *result, void *arg)
{
	struct tidying *t = arg;
	const struct environment *env = t->id[0] != '\0' ? index_get_id(t->venvd->index, t->id) : NULL;
	if (code != ERROR_NONE && code != ERROR_CANCELLED)
		log_warning("what is left of an entry of the trash stays: %s", job_reason(code, result));
	/* At our end it stays as it is: the next start tries it again. */
	if (env != NULL && env->busy == NULL && !(code == ERROR_CANCELLED && t->venvd->stopping))
		store_put(t->venvd->store, env, NULL, NULL);
	free(t);
}

void retention_tidy(struct retention *r, const char *entry, const char *location, const struct environment *env)
{
	struct venvd *v = r->venvd;
	if (v->stopping || v->config.peek)
		return;
	struct tidying *t = xcalloc(1, sizeof(*t));
	t->venvd = v;
	if (env != NULL)
		memcpy(t->id, env->id, sizeof(t->id));
	json_t *order = json_pack("{s:s,s:s,s:[s],s:s*}", "op", "purge", "where", "trash", "entries", entry, "path", location);
	if (job_continue_background(v->jobs, order, 0, NULL, tidy_done, t) == NULL)
		free(t);
}

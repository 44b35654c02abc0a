/* SPDX-License-Identifier: MIT */
/*
 * What is prepared. Owns one `task` for each long order that brings something (a second one of the same key is never
 * begun), and who waits for one or for an entry. What there is, and how much of it is kept, is in stock.c.
 *
 * Whenever a claim finds a bucket empty its target doubles. Those who wait come first, in the order of their
 * creations; then the bucket is filled up in the background, once the takers pause or half of it is gone: filling
 * takes the processor from them. Nothing is due, no timer runs: when all is as it should be, nobody wakes us.
 */
#include <string.h>
#include <sys/queue.h>

#include "bounds.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "pool.h"
#include "stock.h"
#include "timer.h"

#define POOL_PAUSE_US 100000                    /* without a taker: then buckets are filled up */
#define POOL_LOOK_US (24 * 3600 * 1000000LL)    /* the wall clock may be set meanwhile */

struct pool_wait {
	struct pool *pool;
	struct task *task;              /* or */
	struct bucket *bucket;
	int round;
	pool_ready_fn *ready;
	void *arg;
	TAILQ_ENTRY(pool_wait) entry;
};
/* One long order. */
struct task {
	struct pool *pool;
	char *key;                      /* "": nobody shares it */
	json_t *order;                  /* as it was given to us */
	struct job *job;                /* NULL: it waits until what is damaged is gone */
	bool background;                /* it is wanted though nobody waits */
	bool first;                     /* of whoever asks for it: it may be refused */
	bool dropped;                   /* cancelled: nobody may join */
	struct pool_waits waiters;
	struct bucket *bucket;          /* a fill's */
	int64_t count;
	TAILQ_ENTRY(task) entry;
};

struct pool {
	struct venvd *venvd;
	bool stopped;
	struct stock stock;
	TAILQ_HEAD(, task) tasks;
	size_t waiting;
	size_t clearing;                /* evictions after damage: no image is made before they are done */
	struct timer *pause, *decay;
	const char *link_mode;          /* what the last fill did, or NULL */
};

static void pool_fill(struct bucket *, struct pool *);
static bool pool_run(struct task *);
static void pool_pause(void *);
static void pool_task_done(enum error_code, const json_t *, void *);

struct pool *pool_new(struct venvd *v)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	p->venvd = v;
	stock_init(&p->stock, &v->config);
	TAILQ_INIT(&p->tasks);
	return p;
}

static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* --- eviction --- */

struct eviction {
	struct pool *pool;
	bool clearing;
};

static void pool_resume(struct pool *p)
{
	struct task *t, *next;
	if (p->clearing > 0 || p->stopped)
		return;
	for (t = TAILQ_FIRST(&p->tasks); t != NULL; t = next) {
		next = TAILQ_NEXT(t, entry);
		if (t->job != NULL || t->dropped || pool_run(t))
			continue;
		json_t *parameters = job_refused(NULL);
		pool_task_done(ERROR_BUSY, parameters, t);
		json_decref(parameters);
	}
	pool_pause(p);
}

static void evict_done(enum error_code code, const json_t *result, void *arg)
{
	struct eviction *e = arg;
	if (code != ERROR_NONE && code != ERROR_CANCELLED)
		log_warning("what is prepared and not used could not be removed: %s", job_reason(code, result));
	if (e->clearing) {
		e->pool->clearing--;
		pool_resume(e->pool);
	}
	free(e);
}

/* Takes the order, which may be NULL. clearing: what is damaged goes before anything new comes. */
static void pool_evict(struct pool *p, json_t *order, bool clearing)
{
	if (order == NULL)
		return;
	struct eviction *e = xcalloc(1, sizeof(*e));
	*e = (struct eviction){ p, clearing };
	p->clearing += clearing;
	struct job *job = p->stopped ? NULL : (clearing ? job_start : job_start_background)(p->venvd->jobs,
	    json_incref(order), 0, NULL, evict_done, e);
	json_decref(order);
	if (job == NULL) {
		p->clearing -= clearing;
		free(e);
	}
}

/* --- the two timers --- */

static void pool_pause(void *arg)
{
	struct pool *p = arg;
	struct bucket *b;
	TAILQ_FOREACH(b, &p->stock.buckets, entry)
		pool_fill(b, p);
}

static void pool_arm(struct pool *p)
{
	if (p->decay == NULL || p->stopped)
		return;
	int64_t next = stock_due(&p->stock), delay = next - now_us();
	timer_clear(p->decay);
	if (next != 0)
		timer_set(p->decay, delay < 0 ? 0 : delay > POOL_LOOK_US ? POOL_LOOK_US : delay);
}

static void pool_decay(void *arg)
{
	struct pool *p = arg;
	pool_evict(p, stock_decay(&p->stock), false);
	pool_arm(p);
}

/* --- who waits --- */

static struct pool_wait *wait_new(struct pool *p, int round, pool_ready_fn *ready, void *arg)
{
	struct pool_wait *w = xcalloc(1, sizeof(*w));
	w->pool = p;
	w->round = round;
	w->ready = ready;
	w->arg = arg;
	p->waiting++;
	return w;
}

static void wait_tell(struct pool_wait *w, enum error_code code, const json_t *result)
{
	pool_ready_fn *ready = w->ready;
	void *arg = w->arg;
	w->pool->waiting--;
	free(w);
	ready(code, result, arg);
}

/* Takes the first `count` of them off; to be told when the lists are in order again. */
static void wait_take(struct pool_waits *from, size_t count, struct pool_waits *ret)
{
	struct pool_wait *w;
	TAILQ_INIT(ret);
	for (; count > 0 && (w = TAILQ_FIRST(from)) != NULL; count--) {
		TAILQ_REMOVE(from, w, entry);
		if (w->bucket != NULL)
			w->bucket->waiting--;
		w->bucket = NULL;
		w->task = NULL;
		TAILQ_INSERT_TAIL(ret, w, entry);
	}
}

static void wait_tell_all(struct pool_waits *list, enum error_code code, const json_t *result)
{
	struct pool_wait *w;
	while ((w = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, w, entry);
		wait_tell(w, code, result);
	}
}

static void wait_free_all(struct pool_waits *list)
{
	struct pool_wait *w;
	while ((w = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, w, entry);
		free(w);
	}
}

/* Behind those who have missed as often. */
static void wait_enter_bucket(struct bucket *b, struct pool_wait *w)
{
	struct pool_wait *other;
	TAILQ_FOREACH(other, &b->waiters, entry)
		if (other->round < w->round)
			break;
	w->bucket = b;
	b->waiting++;
	if (other != NULL)
		TAILQ_INSERT_BEFORE(other, w, entry);
	else
		TAILQ_INSERT_TAIL(&b->waiters, w, entry);
}

/* --- tasks --- */

static struct task *task_new(struct pool *p, const char *key, const json_t *order, bool background)
{
	struct task *t = xcalloc(1, sizeof(*t));
	t->pool = p;
	t->key = xstrdup(key != NULL ? key : "");
	t->order = json_deep_copy(order);
	t->background = background;
	TAILQ_INIT(&t->waiters);
	TAILQ_INSERT_TAIL(&p->tasks, t, entry);
	return t;
}

static void task_free(struct task *t)
{
	TAILQ_REMOVE(&t->pool->tasks, t, entry);
	json_decref(t->order);
	free(t->key);
	free(t);
}

static bool task_is(const struct task *t, const char *op)
{
	return strcmp(string_of(t->order, "op"), op) == 0;
}

/* Whether t brings what this order would: the same key, or an image of the same interpreter. */
static bool task_brings(const struct task *t, const char *key, const json_t *order)
{
	if (t->dropped || t->bucket != NULL)
		return false;
	if (key != NULL && *key != '\0' && strcmp(key, t->key) == 0)
		return true;
	const char *python = string_of(order, "python"), *ours = string_of(t->order, "python");
	return task_is(t, "image") && strcmp(string_of(order, "op"), "image") == 0 && python != NULL &&
	    ours != NULL && strcmp(python, ours) == 0 &&
	    json_is_true(json_object_get(order, "withoutPip")) ==
	    json_is_true(json_object_get(t->order, "withoutPip"));
}

static void pool_image_made(struct pool *p, const struct task *t, const json_t *result)
{
	const char *key = string_of(result, "image");
	if (key == NULL)
		return;
	struct image *i = stock_image(&p->stock, key);
	i->used_at = now_us();
	stock_tell(&i->python, string_of(t->order, "python"));
	stock_tell(&i->version, string_of(result, "version"));
	stock_tell(&i->delegate, string_of(result, "delegate"));
	i->verified = i->verified || json_is_true(json_object_get(result, "fresh"));
	int64_t bytes = stock_number(result, "bytes", STOCK_BYTES_MAX);
	if (bytes > 0)
		i->bytes = bytes;
	if (i->delegate != NULL)
		log_warning("environments of '%s' are made by its own venv module: %s",
		    i->python != NULL ? i->python : "?", i->delegate);
	pool_evict(p, stock_limit_images(&p->stock), false);
	pool_arm(p);
}

static void pool_begin_image(struct pool *, const json_t *interpreter);

static void pool_task_done(enum error_code code, const json_t *result, void *arg)
{
	struct task *t = arg;
	struct pool *p = t->pool;
	struct pool_waits waiters;
	if (code == ERROR_NONE && task_is(t, "image"))
		pool_image_made(p, t, result);
	else if (code == ERROR_NONE && t->background && task_is(t, "resolve"))
		pool_begin_image(p, json_object_get(result, "interpreter"));
	else if (code != ERROR_NONE && code != ERROR_CANCELLED && TAILQ_EMPTY(&t->waiters))
		log_info("nothing could be prepared: %s", job_reason(code, result));
	wait_take(&t->waiters, SIZE_MAX, &waiters);
	task_free(t);
	wait_tell_all(&waiters, code, result);
}

/* --- filling --- */

/* The entries of the bucket were made of what is damaged now: they go, and so does the image. */
static void pool_damaged(struct pool *p, struct bucket *b, const char *why)
{
	struct pool_waits waiters;
	log_warning("image '%s' is damaged and is made anew: %s", b->image, why);
	pool_evict(p, stock_damaged(&p->stock, b->image), true);
	wait_take(&b->waiters, SIZE_MAX, &waiters);
	wait_tell_all(&waiters, ERROR_NONE, NULL);
}

static void pool_filled(struct pool *p, struct bucket *b, const json_t *result)
{
	struct image *i = stock_find_image(&p->stock, b->image);
	struct pool_waits waiters;
	int64_t made = stock_number(result, "made", LIMIT_FILL_ENTRIES);
	int64_t bytes = stock_number(result, "bytes", STOCK_BYTES_MAX);
	const char *how = string_of(result, "how");
	static const char *const modes[] = { "reflink", "hardlink", "copy" };
	for (size_t mode = 0; how != NULL && mode < ARRAY_LENGTH(modes); mode++)
		if (strcmp(how, modes[mode]) == 0)
			p->link_mode = modes[mode];
	if (i != NULL)
		i->verified = true;
	if (bytes > 0)
		b->bytes = bytes;
	b->entries += made;
	if (b->target > stock_room(&p->stock, b))
		b->target = stock_room(&p->stock, b);
	wait_take(&b->waiters, (size_t)made, &waiters);
	wait_tell_all(&waiters, ERROR_NONE, NULL);
}

static void pool_fill_failed(struct bucket *b, enum error_code code, const json_t *result)
{
	struct pool_waits waiters;
	json_t *nothing = json_pack("{s:s}", "reason", "nothing could be made for the pool");
	if (code == ERROR_NONE) {
		code = ERROR_FAILED;
		result = nothing;
	}
	if (b->waiting == 0 && code != ERROR_CANCELLED)
		log_warning("the pool could not be filled: %s", job_reason(code, result));
	b->target = 0;          /* until somebody asks again */
	wait_take(&b->waiters, SIZE_MAX, &waiters);
	wait_tell_all(&waiters, code, result);
	json_decref(nothing);
}

static void pool_fill_done(enum error_code code, const json_t *result, void *arg)
{
	struct task *t = arg;
	struct pool *p = t->pool;
	struct bucket *b = t->bucket;
	const char *damaged = string_of(result, "damaged");
	b->filling -= t->count;
	b->fills--;
	task_free(t);
	if (code == ERROR_NONE && damaged != NULL) {
		pool_damaged(p, b, damaged);
	} else if (code == ERROR_NONE && stock_number(result, "made", LIMIT_FILL_ENTRIES) > 0) {
		pool_filled(p, b, result);
		pool_fill(b, p);
	} else {
		pool_fill_failed(b, code, result);
	}
	pool_arm(p);
}

/* The order goes out now, or when what is damaged is gone. False if no worker takes it. */
static bool pool_run(struct task *t)
{
	struct pool *p = t->pool;
	struct venvd *v = p->venvd;
	bool fill = t->bucket != NULL;
	if (p->clearing > 0 && (fill || task_is(t, "image")))
		return true;
	json_t *order = json_deep_copy(t->order);
	json_object_set_new(order, "linkMode", json_string(v->config.link_mode));
	t->job = (t->background ? job_start_background : t->first ? job_start : job_continue)(v->jobs, order,
	    v->config.value[CONFIG_CREATE_MS], NULL, fill ? pool_fill_done : pool_task_done, t);
	return t->job != NULL;
}

/* False if no worker takes it. */
static bool pool_start_fill(struct pool *p, struct bucket *b, int64_t count, bool background)
{
	const struct image *i = stock_find_image(&p->stock, b->image);
	struct task *t = task_new(p, "", b->order, background);
	json_object_set_new(t->order, "count", json_integer(count));
	json_object_set_new(t->order, "verify", json_boolean(i == NULL || !i->verified));
	t->bucket = b;
	t->count = count;
	pool_run(t);
	if (t->job == NULL) {
		task_free(t);
		return false;
	}
	b->filling += count;
	b->fills++;
	return true;
}

/* How many go into one of the orders that run side by side. */
static int64_t pool_share(const struct pool *p, int64_t need)
{
	int64_t places = (int64_t)jobs_places(p->venvd->jobs);
	int64_t share = places > 1 ? (need + places - 1) / places : need;
	return share < LIMIT_FILL_ENTRIES ? share : LIMIT_FILL_ENTRIES;
}

static void pool_fill(struct bucket *b, struct pool *p)
{
	if (p->stopped || p->venvd->stopping || b->order == NULL || p->clearing > 0)
		return;
	while ((int64_t)b->waiting > b->filling && b->fills < p->venvd->config.value[CONFIG_JOBS_RUNNING])
		if (!pool_start_fill(p, b, pool_share(p, (int64_t)b->waiting - b->filling), false))
			return;
	/* In the background one after the other, as long as nobody waits. */
	int64_t need = b->target - b->entries;
	if (b->waiting == 0 && b->filling == 0 && need > 0)
		pool_start_fill(p, b, need < LIMIT_FILL_ENTRIES ? need : LIMIT_FILL_ENTRIES, true);
}

/* --- what claims say --- */

/* What is being made for later is waited for now. */
static void pool_hurry(struct pool *p, const struct bucket *b)
{
	struct task *t;
	TAILQ_FOREACH(t, &p->tasks, entry)
		if (t->bucket == b && t->job != NULL)
			job_hurry(t->job);
}

static struct pool_wait *pool_want_entry(struct pool *p, const json_t *order, int round, pool_ready_fn *ready,
    void *arg)
{
	const char *name = string_of(order, "bucket"), *image = string_of(order, "image");
	if (name == NULL || image == NULL)
		return NULL;
	struct bucket *b = stock_bucket(&p->stock, name, image);
	stock_image(&p->stock, image)->used_at = b->used_at = now_us();
	json_decref(b->order);
	b->order = json_deep_copy(order);
	b->entries = 0;
	if (b->waiting == 0)
		pool_evict(p, stock_set_target(&p->stock, b, 2 * b->target), false);
	struct pool_wait *w = wait_new(p, round, ready, arg);
	wait_enter_bucket(b, w);
	pool_hurry(p, b);
	pool_fill(b, p);
	if (b->filling > 0 || p->clearing > 0)
		return w;
	TAILQ_REMOVE(&b->waiters, w, entry);
	b->waiting--;
	p->waiting--;
	free(w);
	return NULL;
}

struct pool_wait *pool_want(struct pool *p, const json_t *miss, int round, pool_ready_fn *ready, void *arg)
{
	const char *kind = string_of(miss, "miss"), *key = string_of(miss, "key");
	const json_t *order = json_object_get(miss, "order");
	if (p->stopped || p->waiting >= LIMIT_SHORT_ORDERS || string_of(order, "op") == NULL)
		return NULL;
	if (strcmp(kind, "entry") == 0)
		return pool_want_entry(p, order, round, ready, arg);
	struct task *t;
	TAILQ_FOREACH(t, &p->tasks, entry)
		if (task_brings(t, key, order))
			break;
	if (t == NULL) {
		t = task_new(p, key, order, false);
		t->first = round <= 1;
		pool_run(t);
	} else if (t->job != NULL) {
		job_hurry(t->job);
	}
	if (t->job == NULL && p->clearing == 0) {
		task_free(t);
		return NULL;
	}
	struct pool_wait *w = wait_new(p, round, ready, arg);
	w->task = t;
	TAILQ_INSERT_TAIL(&t->waiters, w, entry);
	return w;
}

void pool_forget(struct pool_wait *w)
{
	struct task *t = w->task;
	w->pool->waiting--;
	if (w->bucket != NULL) {
		TAILQ_REMOVE(&w->bucket->waiters, w, entry);
		w->bucket->waiting--;           /* what is being made for it serves the next one */
	} else {
		TAILQ_REMOVE(&t->waiters, w, entry);
		if (TAILQ_EMPTY(&t->waiters) && !t->background) {
			t->dropped = true;
			if (t->job != NULL)
				job_cancel(t->job);
			else
				task_free(t);
		}
	}
	free(w);
}

void pool_taken(struct pool *p, const json_t *reserved)
{
	const char *name = string_of(reserved, "bucket"), *key = string_of(reserved, "image");
	const json_t *order = json_object_get(reserved, "order");
	const json_t *interpreter = json_object_get(reserved, "interpreter");
	if (name == NULL || key == NULL)
		return;
	struct bucket *b = stock_bucket(&p->stock, name, key);
	struct image *i = stock_image(&p->stock, key);
	i->used_at = b->used_at = now_us();
	if (i->python == NULL)
		stock_tell(&i->python, string_of(interpreter, "path"));
	if (i->version == NULL)
		stock_tell(&i->version, string_of(interpreter, "version"));
	b->entries = stock_number(reserved, "left", STOCK_ENTRIES_MAX);
	if (string_of(order, "op") != NULL && b->order == NULL)
		b->order = json_deep_copy(order);
	if (b->target < stock_initial(&p->stock))
		pool_evict(p, stock_set_target(&p->stock, b, stock_initial(&p->stock)), false);
	if (p->stopped || p->pause == NULL)
		return;
	if (b->entries * 2 <= b->target)
		pool_fill(b, p);
	else if (b->entries < b->target)
		timer_set(p->pause, POOL_PAUSE_US);
	pool_arm(p);
}

/* --- the beginning and the end --- */

void pool_scanned(struct pool *p, const json_t *frame)
{
	stock_scanned(&p->stock, frame);
}

/* Ours: there is no caller. */
static json_t *pool_caller(void)
{
	return json_pack("{s:n,s:s?,s:n,s:{}}", "cwd", "path", getenv("PATH"), "umask", "environment");
}

static void pool_begin_image(struct pool *p, const json_t *interpreter)
{
	const char *python = string_of(interpreter, "path"), *state = string_of(interpreter, "state");
	if (python == NULL || (state != NULL && strcmp(state, "usable") != 0) || p->stopped)
		return;
	json_t *order = json_pack("{s:s,s:s,s:b,s:I,s:o}", "op", "image", "python", python, "withoutPip", 0,
	    "probeMs", (json_int_t)p->venvd->config.value[CONFIG_PROBE_MS], "caller", pool_caller());
	struct task *t;
	TAILQ_FOREACH(t, &p->tasks, entry)
		if (task_brings(t, "", order))
			break;
	if (t == NULL) {
		t = task_new(p, "", order, true);
		pool_run(t);
		if (t->job == NULL)
			task_free(t);
	}
	json_decref(order);
}

void pool_begin(struct pool *p)
{
	struct venvd *v = p->venvd;
	p->pause = timer_new(v, pool_pause, p);
	p->decay = timer_new(v, pool_decay, p);
	pool_evict(p, stock_fit(&p->stock), false);
	pool_arm(p);
	if (!TAILQ_EMPTY(&p->stock.images) || v->config.value[CONFIG_POOL_ENTRIES] == 0)
		return;
	json_t *order = json_pack("{s:s,s:o,s:[],s:I,s:o}", "op", "resolve", "search", method_search(v), "python",
	    "probeMs", (json_int_t)v->config.value[CONFIG_PROBE_MS], "caller", pool_caller());
	struct task *t = task_new(p, "", order, true);
	json_decref(order);
	pool_run(t);
	if (t->job == NULL)
		task_free(t);
}

void pool_stop(struct pool *p)
{
	p->stopped = true;
	if (p->pause != NULL)
		timer_clear(p->pause);
	if (p->decay != NULL)
		timer_clear(p->decay);
}

void pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	timer_free(p->pause);
	timer_free(p->decay);
	struct bucket *b;
	TAILQ_FOREACH(b, &p->stock.buckets, entry)
		wait_free_all(&b->waiters);
	struct task *t, *next;
	for (t = TAILQ_FIRST(&p->tasks); t != NULL; t = next) {
		next = TAILQ_NEXT(t, entry);
		wait_free_all(&t->waiters);
		task_free(t);
	}
	stock_done(&p->stock);
	free(p);
}

/* --- Status --- */

json_t *pool_images(const struct pool *p)
{
	return stock_images(&p->stock);
}

const char *pool_link_mode(const struct pool *p)
{
	return p->link_mode != NULL ? p->link_mode : p->venvd->config.link_mode;
}

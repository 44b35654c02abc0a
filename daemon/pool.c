/* SPDX-License-Identifier: MIT */
/*
 * What is prepared. Owns one `task` for each long order that brings something (a second one of the same key is never
 * begun), one `bucket` for each kind of entry, and who waits for either.
 *
 * A bucket's target is what it is kept at when nobody waits: it begins small, doubles whenever a claim found the
 * bucket empty, and falls back when nobody has asked for POOL_QUIET_US. The sum of all targets stays within the
 * bounds. Those who wait come first, in the order of their creations; then the bucket is filled up in the
 * background, once the takers pause or half of it is gone: filling takes the processor from them.
 *
 * The counts are what the last claim, fill or scan said. They may be off by what happened meanwhile: a claim finds
 * out, and says so. Nothing is due, no timer runs: when all is as it should be, nobody wakes us.
 */
#include <string.h>
#include <sys/queue.h>

#include "bounds.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "pool.h"

#define POOL_PAUSE_US 100000                    /* without a taker: then buckets are filled up */
#define POOL_QUIET_US (600 * 1000000LL)         /* without a taker: then what is above the first size goes */
#define POOL_LOOK_US (24 * 3600 * 1000000LL)    /* the wall clock may be set meanwhile */
#define MIB (1024 * 1024)

struct pool_wait {
	struct pool *pool;
	struct task *task;              /* or */
	struct bucket *bucket;
	int round;
	pool_ready_fn *ready;
	void *arg;
	TAILQ_ENTRY(pool_wait) entry;
};
TAILQ_HEAD(wait_list, pool_wait);

struct image {
	char *key, *python, *version, *delegate;
	int64_t bytes, used_at;
	bool verified;                  /* by its content, since we started */
	TAILQ_ENTRY(image) entry;
};

struct bucket {
	char *name, *image;
	json_t *order;                  /* that fills it; NULL until a claim has told */
	int64_t entries, filling, target;
	int64_t bytes;                  /* of one; 0: not known yet */
	int64_t used_at;
	size_t waiting;
	struct wait_list waiters;
	TAILQ_ENTRY(bucket) entry;
};

/* One long order. */
struct task {
	struct pool *pool;
	char *key;                      /* "": nobody shares it */
	json_t *order;                  /* as it was given to us */
	struct job *job;                /* NULL: it waits until what is damaged is gone */
	bool background;                /* it is wanted though nobody waits */
	bool dropped;                   /* cancelled: nobody may join */
	struct wait_list waiters;
	struct bucket *bucket;          /* a fill's */
	int64_t count;
	TAILQ_ENTRY(task) entry;
};

struct pool {
	struct venvd *venvd;
	bool stopped;
	TAILQ_HEAD(, image) images;
	TAILQ_HEAD(, bucket) buckets;
	TAILQ_HEAD(, task) tasks;
	size_t waiting;
	size_t clearing;                /* evictions after damage: no image is made before they are done */
	struct timer *pause, *decay;
	const char *link_mode;          /* what the last fill did, or NULL */
};

static void pool_fill(struct bucket *, struct pool *);
static void pool_run(struct task *);

struct pool *pool_new(struct venvd *v)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	p->venvd = v;
	TAILQ_INIT(&p->images);
	TAILQ_INIT(&p->buckets);
	TAILQ_INIT(&p->tasks);
	return p;
}

static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int64_t integer_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* --- images and buckets --- */

static struct image *image_find(const struct pool *p, const char *key)
{
	struct image *i;
	TAILQ_FOREACH(i, &p->images, entry)
		if (strcmp(i->key, key) == 0)
			break;
	return i;
}

static struct image *image_get(struct pool *p, const char *key)
{
	struct image *i = image_find(p, key);
	if (i != NULL)
		return i;
	i = xcalloc(1, sizeof(*i));
	i->key = xstrdup(key);
	i->used_at = now_us();
	TAILQ_INSERT_TAIL(&p->images, i, entry);
	return i;
}

static void image_remove(struct pool *p, struct image *i)
{
	TAILQ_REMOVE(&p->images, i, entry);
	free(i->key);
	free(i->python);
	free(i->version);
	free(i->delegate);
	free(i);
}

static void image_tell(char **member, const char *value)
{
	if (value == NULL)
		return;
	free(*member);
	*member = xstrdup(value);
}

static struct bucket *bucket_get(struct pool *p, const char *name, const char *image)
{
	struct bucket *b;
	TAILQ_FOREACH(b, &p->buckets, entry)
		if (strcmp(b->name, name) == 0)
			return b;
	b = xcalloc(1, sizeof(*b));
	b->name = xstrdup(name);
	b->image = xstrdup(image);
	TAILQ_INIT(&b->waiters);
	TAILQ_INSERT_TAIL(&p->buckets, b, entry);
	return b;
}

static void bucket_remove(struct pool *p, struct bucket *b)
{
	TAILQ_REMOVE(&p->buckets, b, entry);
	json_decref(b->order);
	free(b->name);
	free(b->image);
	free(b);
}

/* Nothing is under way for it. */
static bool bucket_is_idle(const struct bucket *b)
{
	return b->waiting == 0 && b->filling == 0;
}

static int64_t pool_initial(const struct pool *p)
{
	int64_t initial = p->venvd->config.value[CONFIG_POOL_INITIAL];
	int64_t max = p->venvd->config.value[CONFIG_POOL_ENTRIES];
	return initial < max ? initial : max;
}

/* --- eviction --- */

struct eviction {
	struct pool *pool;
	bool clearing;
};

static void pool_resume(struct pool *p)
{
	struct task *t;
	if (p->clearing > 0)
		return;
	TAILQ_FOREACH(t, &p->tasks, entry)
		if (t->job == NULL && !t->dropped)
			pool_run(t);
	struct bucket *b;
	TAILQ_FOREACH(b, &p->buckets, entry)
		if (b->waiting > 0)
			pool_fill(b, p);
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

/* Takes both arrays. clearing: what is damaged goes before anything new comes. */
static void pool_evict(struct pool *p, json_t *buckets, json_t *images, bool clearing)
{
	json_t *order = json_pack("{s:s,s:o,s:o}", "op", "evict", "buckets", buckets, "images", images);
	struct eviction *e = xcalloc(1, sizeof(*e));
	*e = (struct eviction){ p, clearing };
	p->clearing += clearing;
	struct job *job = p->stopped ? NULL : clearing ?
	    job_start(p->venvd->jobs, json_incref(order), 0, NULL, evict_done, e) :
	    job_start_background(p->venvd->jobs, json_incref(order), 0, NULL, evict_done, e);
	json_decref(order);
	if (job == NULL) {
		p->clearing -= clearing;
		free(e);
	}
}

static json_t *evict_bucket(struct bucket *b, int64_t keep)
{
	if (b->entries > keep)
		b->entries = keep;
	return json_pack("{s:s,s:I}", "bucket", b->name, "keep", (json_int_t)keep);
}

/* --- bounds --- */

/* What the others need of the bounds: entries, and bytes. */
static void pool_others(const struct pool *p, const struct bucket *b, int64_t *ret_entries, int64_t *ret_bytes)
{
	const struct bucket *other;
	*ret_entries = *ret_bytes = 0;
	TAILQ_FOREACH(other, &p->buckets, entry) {
		if (other == b)
			continue;
		int64_t count = other->entries > other->target ? other->entries : other->target;
		*ret_entries += count;
		*ret_bytes += count * other->bytes;
	}
}

static int64_t pool_room(const struct pool *p, const struct bucket *b)
{
	int64_t entries, bytes;
	pool_others(p, b, &entries, &bytes);
	int64_t room = p->venvd->config.value[CONFIG_POOL_ENTRIES] - entries;
	if (b->bytes > 0) {
		int64_t left = (p->venvd->config.value[CONFIG_POOL_MIB] * MIB - bytes) / b->bytes;
		room = left < room ? left : room;
	}
	return room < 0 ? 0 : room;
}

/* The one that was not used longest gives up what it has, until there is room for the first size of b. */
static void pool_make_room(struct pool *p, const struct bucket *b)
{
	json_t *evicted = json_array();
	while (pool_room(p, b) < pool_initial(p)) {
		struct bucket *other, *oldest = NULL;
		TAILQ_FOREACH(other, &p->buckets, entry)
			if (other != b && bucket_is_idle(other) && (other->target > 0 || other->entries > 0) &&
			    (oldest == NULL || other->used_at < oldest->used_at))
				oldest = other;
		if (oldest == NULL)
			break;
		oldest->target = 0;
		json_array_append_new(evicted, evict_bucket(oldest, 0));
	}
	if (json_array_size(evicted) > 0)
		pool_evict(p, evicted, json_array(), false);
	else
		json_decref(evicted);
}

static void pool_set_target(struct pool *p, struct bucket *b, int64_t target)
{
	if (target < pool_initial(p))
		target = pool_initial(p);
	pool_make_room(p, b);
	int64_t room = pool_room(p, b);
	b->target = target < room ? target : room;
}

/* --- the two timers --- */

static void pool_pause(void *arg)
{
	struct pool *p = arg;
	struct bucket *b;
	TAILQ_FOREACH(b, &p->buckets, entry)
		pool_fill(b, p);
}

/* When something may be due for b; 0: never. */
static int64_t bucket_due(const struct pool *p, const struct bucket *b)
{
	if (!bucket_is_idle(b))
		return 0;       /* whoever is busy with it arms us again */
	int64_t initial = pool_initial(p);
	int64_t gone = b->used_at + p->venvd->config.value[CONFIG_IMAGE_SECONDS] * 1000000;
	int64_t less = b->used_at + POOL_QUIET_US;
	return (b->target > initial || b->entries > initial) && less < gone ? less : gone;
}

static int64_t image_due(const struct pool *p, const struct image *i)
{
	const struct bucket *b;
	TAILQ_FOREACH(b, &p->buckets, entry)
		if (strcmp(b->image, i->key) == 0 && !bucket_is_idle(b))
			return 0;
	return i->used_at + p->venvd->config.value[CONFIG_IMAGE_SECONDS] * 1000000;
}

static void pool_arm(struct pool *p)
{
	int64_t next = 0, due;
	const struct bucket *b;
	const struct image *i;
	TAILQ_FOREACH(b, &p->buckets, entry)
		if ((due = bucket_due(p, b)) != 0 && (next == 0 || due < next))
			next = due;
	TAILQ_FOREACH(i, &p->images, entry)
		if ((due = image_due(p, i)) != 0 && (next == 0 || due < next))
			next = due;
	if (p->decay == NULL || p->stopped)
		return;
	timer_clear(p->decay);
	if (next == 0)
		return;
	int64_t delay = next - now_us();
	timer_set(p->decay, delay < 0 ? 0 : delay > POOL_LOOK_US ? POOL_LOOK_US : delay);
}

static void pool_decay_bucket(struct pool *p, struct bucket *b, int64_t now, json_t *evicted)
{
	int64_t due = bucket_due(p, b), initial = pool_initial(p);
	bool unused = b->used_at + p->venvd->config.value[CONFIG_IMAGE_SECONDS] * 1000000 <= now;
	if (due == 0 || due > now)
		return;
	if (b->target > initial || unused)
		b->target = unused ? 0 : initial;
	if (b->entries > b->target || unused)
		json_array_append_new(evicted, evict_bucket(b, b->target));
	if (unused)
		bucket_remove(p, b);
}

static void pool_decay(void *arg)
{
	struct pool *p = arg;
	json_t *buckets = json_array(), *images = json_array();
	int64_t now = now_us(), due;
	struct bucket *b, *next_bucket;
	for (b = TAILQ_FIRST(&p->buckets); b != NULL; b = next_bucket) {
		next_bucket = TAILQ_NEXT(b, entry);
		pool_decay_bucket(p, b, now, buckets);
	}
	struct image *i, *next;
	for (i = TAILQ_FIRST(&p->images); i != NULL; i = next) {
		next = TAILQ_NEXT(i, entry);
		due = image_due(p, i);
		if (due == 0 || due > now)
			continue;
		json_array_append_new(images, json_string(i->key));
		image_remove(p, i);
	}
	if (json_array_size(buckets) + json_array_size(images) > 0) {
		pool_evict(p, buckets, images, false);
	} else {
		json_decref(buckets);
		json_decref(images);
	}
	pool_arm(p);
}

/* More images than we keep: the one that was not used longest goes, with its buckets. */
static void pool_limit_images(struct pool *p)
{
	struct image *i, *oldest = NULL;
	size_t count = 0;
	TAILQ_FOREACH(i, &p->images, entry) {
		count++;
		if (image_due(p, i) != 0 && (oldest == NULL || i->used_at < oldest->used_at))
			oldest = i;
	}
	if (count <= LIMIT_IMAGES || oldest == NULL)
		return;
	json_t *buckets = json_array();
	struct bucket *b, *next;
	for (b = TAILQ_FIRST(&p->buckets); b != NULL; b = next) {
		next = TAILQ_NEXT(b, entry);
		if (strcmp(b->image, oldest->key) != 0)
			continue;
		json_array_append_new(buckets, evict_bucket(b, 0));
		bucket_remove(p, b);
	}
	pool_evict(p, buckets, json_pack("[s]", oldest->key), false);
	image_remove(p, oldest);
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
static void wait_take(struct wait_list *from, size_t count, struct wait_list *ret)
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

static void wait_tell_all(struct wait_list *list, enum error_code code, const json_t *result)
{
	struct pool_wait *w;
	while ((w = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, w, entry);
		wait_tell(w, code, result);
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
	struct image *i = image_get(p, key);
	i->used_at = now_us();
	image_tell(&i->python, string_of(t->order, "python"));
	image_tell(&i->version, string_of(result, "version"));
	image_tell(&i->delegate, string_of(result, "delegate"));
	if (integer_of(result, "bytes") > 0)
		i->bytes = integer_of(result, "bytes");
	if (i->delegate != NULL)
		log_warning("environments of '%s' are made by its own venv module: %s",
		    i->python != NULL ? i->python : "?", i->delegate);
	pool_limit_images(p);
	pool_arm(p);
}

static void pool_begin_image(struct pool *, const json_t *interpreter);

static void pool_task_done(enum error_code code, const json_t *result, void *arg)
{
	struct task *t = arg;
	struct pool *p = t->pool;
	struct wait_list waiters;
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
	struct wait_list waiters;
	json_t *buckets = json_array();
	struct bucket *other;
	log_warning("image '%s' is damaged and is made anew: %s", b->image, why);
	TAILQ_FOREACH(other, &p->buckets, entry)
		if (strcmp(other->image, b->image) == 0)
			json_array_append_new(buckets, evict_bucket(other, 0));
	struct image *i = image_find(p, b->image);
	if (i != NULL)
		image_remove(p, i);
	pool_evict(p, buckets, json_array(), true);
	wait_take(&b->waiters, SIZE_MAX, &waiters);
	wait_tell_all(&waiters, ERROR_NONE, NULL);
}

static void pool_filled(struct pool *p, struct bucket *b, const json_t *result)
{
	struct image *i = image_find(p, b->image);
	struct wait_list waiters;
	int64_t made = integer_of(result, "made");
	const char *how = string_of(result, "how");
	static const char *const modes[] = { "reflink", "hardlink", "copy" };
	for (size_t mode = 0; how != NULL && mode < ARRAY_LENGTH(modes); mode++)
		if (strcmp(how, modes[mode]) == 0)
			p->link_mode = modes[mode];
	if (i != NULL)
		i->verified = true;
	if (integer_of(result, "bytes") > 0)
		b->bytes = integer_of(result, "bytes");
	b->entries += made;
	if (b->target > pool_room(p, b))
		b->target = pool_room(p, b);
	wait_take(&b->waiters, (size_t)made, &waiters);
	wait_tell_all(&waiters, ERROR_NONE, NULL);
}

static void pool_fill_done(enum error_code code, const json_t *result, void *arg)
{
	struct task *t = arg;
	struct pool *p = t->pool;
	struct bucket *b = t->bucket;
	struct wait_list waiters;
	const char *damaged = string_of(result, "damaged");
	b->filling -= t->count;
	task_free(t);
	if (code == ERROR_NONE && damaged != NULL) {
		pool_damaged(p, b, damaged);
	} else if (code == ERROR_NONE && integer_of(result, "made") > 0) {
		pool_filled(p, b, result);
		pool_fill(b, p);
	} else {
		if (b->waiting == 0 && code != ERROR_CANCELLED)
			log_warning("the pool could not be filled: %s", job_reason(code, result));
		b->target = 0;          /* until somebody asks again */
		wait_take(&b->waiters, SIZE_MAX, &waiters);
		wait_tell_all(&waiters, code == ERROR_NONE ? ERROR_FAILED : code, result);
	}
	pool_arm(p);
}

/* The order goes out now, or when what is damaged is gone. */
static void pool_run(struct task *t)
{
	struct pool *p = t->pool;
	struct venvd *v = p->venvd;
	bool fill = t->bucket != NULL;
	if (p->clearing > 0 && (fill || task_is(t, "image")))
		return;
	json_t *order = json_deep_copy(t->order);
	json_object_set_new(order, "linkMode", json_string(v->config.link_mode));
	t->job = (t->background ? job_start_background : job_start)(v->jobs, order,
	    v->config.value[CONFIG_CREATE_MS], NULL, fill ? pool_fill_done : pool_task_done, t);
}

/* False if no worker takes it. */
static bool pool_start_fill(struct pool *p, struct bucket *b, int64_t count, bool background)
{
	const struct image *i = image_find(p, b->image);
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
	while ((int64_t)b->waiting > b->filling)
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
	struct bucket *b = bucket_get(p, name, image);
	image_get(p, image)->used_at = b->used_at = now_us();
	json_decref(b->order);
	b->order = json_deep_copy(order);
	b->entries = 0;
	if (b->waiting == 0)
		pool_set_target(p, b, 2 * b->target);
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
	struct bucket *b = bucket_get(p, name, key);
	struct image *i = image_get(p, key);
	i->used_at = b->used_at = now_us();
	if (i->python == NULL)
		image_tell(&i->python, string_of(interpreter, "path"));
	if (i->version == NULL)
		image_tell(&i->version, string_of(interpreter, "version"));
	b->entries = integer_of(reserved, "left");
	if (json_is_object(order) && b->order == NULL)
		b->order = json_deep_copy(order);
	if (b->target < pool_initial(p))
		pool_set_target(p, b, pool_initial(p));
	if (p->stopped || p->pause == NULL)
		return;
	if (b->entries * 2 <= b->target)
		pool_fill(b, p);
	else if (b->entries < b->target)
		timer_set(p->pause, POOL_PAUSE_US);
	pool_arm(p);
}

/* --- the beginning and the end --- */

static void pool_scanned_image(struct pool *p, const json_t *found)
{
	const char *key = string_of(found, "image");
	if (key == NULL)
		return;
	struct image *i = image_get(p, key);
	i->used_at = integer_of(found, "usedAt");
	i->bytes = integer_of(found, "bytes");
	image_tell(&i->python, string_of(found, "python"));
	image_tell(&i->version, string_of(found, "version"));
	image_tell(&i->delegate, string_of(found, "delegate"));
}

void pool_scanned(struct pool *p, const json_t *frame)
{
	size_t n;
	json_t *found;
	json_array_foreach(json_object_get(frame, "images"), n, found)
		pool_scanned_image(p, found);
	json_array_foreach(json_object_get(frame, "buckets"), n, found) {
		const char *name = string_of(found, "bucket"), *key = string_of(found, "image");
		if (name == NULL || key == NULL)
			continue;
		struct bucket *b = bucket_get(p, name, key);
		const struct image *i = image_find(p, key);
		b->entries = b->target = integer_of(found, "entries");
		b->used_at = i != NULL ? i->used_at : 0;
	}
}

/* The bounds may be others than last time: nothing above them is kept. */
static void pool_fit(struct pool *p)
{
	json_t *evicted = json_array();
	struct bucket *b;
	TAILQ_FOREACH(b, &p->buckets, entry) {
		int64_t room = pool_room(p, b);
		if (b->target <= room)
			continue;
		b->target = room;
		json_array_append_new(evicted, evict_bucket(b, room));
	}
	if (json_array_size(evicted) > 0)
		pool_evict(p, evicted, json_array(), false);
	else
		json_decref(evicted);
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
	pool_fit(p);
	pool_arm(p);
	if (!TAILQ_EMPTY(&p->images) || v->config.value[CONFIG_POOL_ENTRIES] == 0)
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
	while (!TAILQ_EMPTY(&p->tasks)) {
		struct task *t = TAILQ_FIRST(&p->tasks);
		struct pool_wait *w;
		while ((w = TAILQ_FIRST(&t->waiters)) != NULL) {
			TAILQ_REMOVE(&t->waiters, w, entry);
			free(w);
		}
		task_free(t);
	}
	while (!TAILQ_EMPTY(&p->buckets)) {
		struct bucket *b = TAILQ_FIRST(&p->buckets);
		struct pool_wait *w;
		while ((w = TAILQ_FIRST(&b->waiters)) != NULL) {
			TAILQ_REMOVE(&b->waiters, w, entry);
			free(w);
		}
		bucket_remove(p, b);
	}
	while (!TAILQ_EMPTY(&p->images))
		image_remove(p, TAILQ_FIRST(&p->images));
	free(p);
}

/* --- Status --- */

static int64_t pool_entries_of(const struct pool *p, const char *key)
{
	const struct bucket *b;
	int64_t entries = 0;
	TAILQ_FOREACH(b, &p->buckets, entry)
		if (strcmp(b->image, key) == 0)
			entries += b->entries;
	return entries;
}

json_t *pool_images(const struct pool *p)
{
	json_t *images = json_array();
	const struct image *i;
	TAILQ_FOREACH(i, &p->images, entry) {
		json_t *image = json_pack("{s:s,s:s*,s:s*,s:I,s:I,s:s*}", "key", i->key, "interpreter", i->python,
		    "version", i->version, "pool", (json_int_t)pool_entries_of(p, i->key),
		    "usedAt", (json_int_t)i->used_at, "delegate", i->delegate);
		if (i->bytes > 0)
			json_object_set_new(image, "bytes", json_integer(i->bytes));
		json_array_append_new(images, image);
	}
	return images;
}

const char *pool_link_mode(const struct pool *p)
{
	return p->link_mode != NULL ? p->link_mode : p->venvd->config.link_mode;
}

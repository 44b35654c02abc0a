/* SPDX-License-Identifier: MIT */
/*
 * The stock. A bucket's target is what it is kept at when nobody waits; the sum of all targets stays within the
 * bounds (entries, and bytes as the fills have told them). Who has not been used for STOCK_QUIET_US falls back to
 * the first size; who was not for the images' retention goes.
 *
 * The counts are what the last claim, fill or scan said. They may be off by what happened meanwhile: a claim finds
 * out, and says so.
 */
#include <string.h>

#include "bounds.h"
#include "stock.h"

#define STOCK_QUIET_US (600 * 1000000LL)
#define MIB (1024 * 1024)

static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

int64_t stock_number(const json_t *object, const char *key, int64_t max)
{
	int64_t number = json_integer_value(json_object_get(object, key));
	return number < 0 ? 0 : number < max ? number : max;
}

void stock_init(struct stock *s, const struct config *config)
{
	s->config = config;
	TAILQ_INIT(&s->images);
	TAILQ_INIT(&s->buckets);
}

struct image *stock_find_image(const struct stock *s, const char *key)
{
	struct image *i;
	TAILQ_FOREACH(i, &s->images, entry)
		if (strcmp(i->key, key) == 0)
			break;
	return i;
}

struct image *stock_image(struct stock *s, const char *key)
{
	struct image *i = stock_find_image(s, key);
	if (i != NULL)
		return i;
	i = xcalloc(1, sizeof(*i));
	i->key = xstrdup(key);
	i->used_at = now_us();
	TAILQ_INSERT_TAIL(&s->images, i, entry);
	return i;
}

void stock_remove_image(struct stock *s, struct image *i)
{
	TAILQ_REMOVE(&s->images, i, entry);
	free(i->key);
	free(i->python);
	free(i->version);
	free(i->delegate);
	free(i);
}

void stock_tell(char **member, const char *value)
{
	if (value == NULL)
		return;
	free(*member);
	*member = xstrdup(value);
}

struct bucket *stock_bucket(struct stock *s, const char *name, const char *image)
{
	struct bucket *b;
	TAILQ_FOREACH(b, &s->buckets, entry)
		if (strcmp(b->name, name) == 0)
			return b;
	b = xcalloc(1, sizeof(*b));
	b->name = xstrdup(name);
	b->image = xstrdup(image);
	TAILQ_INIT(&b->waiters);
	TAILQ_INSERT_TAIL(&s->buckets, b, entry);
	return b;
}

static void bucket_remove(struct stock *s, struct bucket *b)
{
	TAILQ_REMOVE(&s->buckets, b, entry);
	json_decref(b->order);
	free(b->name);
	free(b->image);
	free(b);
}

void stock_done(struct stock *s)
{
	struct bucket *b, *next_bucket;
	for (b = TAILQ_FIRST(&s->buckets); b != NULL; b = next_bucket) {
		next_bucket = TAILQ_NEXT(b, entry);
		bucket_remove(s, b);
	}
	struct image *i, *next;
	for (i = TAILQ_FIRST(&s->images); i != NULL; i = next) {
		next = TAILQ_NEXT(i, entry);
		stock_remove_image(s, i);
	}
}

/* Nothing is under way for it. */
static bool bucket_is_idle(const struct bucket *b)
{
	return b->waiting == 0 && b->filling == 0;
}

static void scanned_image(struct stock *s, const json_t *found)
{
	const char *key = string_of(found, "image");
	if (key == NULL)
		return;
	struct image *i = stock_image(s, key);
	i->used_at = stock_number(found, "usedAt", now_us());
	i->bytes = stock_number(found, "bytes", STOCK_BYTES_MAX);
	stock_tell(&i->python, string_of(found, "python"));
	stock_tell(&i->version, string_of(found, "version"));
	stock_tell(&i->delegate, string_of(found, "delegate"));
}

void stock_scanned(struct stock *s, const json_t *frame)
{
	size_t n;
	json_t *found;
	json_array_foreach(json_object_get(frame, "images"), n, found)
		scanned_image(s, found);
	json_array_foreach(json_object_get(frame, "buckets"), n, found) {
		const char *name = string_of(found, "bucket"), *key = string_of(found, "image");
		if (name == NULL || key == NULL)
			continue;
		struct bucket *b = stock_bucket(s, name, key);
		const struct image *i = stock_find_image(s, key);
		b->entries = b->target = stock_number(found, "entries", STOCK_ENTRIES_MAX);
		b->used_at = i != NULL ? i->used_at : 0;
	}
}

/* --- orders that remove --- */

static json_t *evict_nothing(void)
{
	return json_pack("{s:s,s:[],s:[]}", "op", "evict", "buckets", "images");
}

static void evict_bucket(json_t *order, struct bucket *b, int64_t keep)
{
	if (b->entries > keep)
		b->entries = keep;
	json_array_append_new(json_object_get(order, "buckets"),
	    json_pack("{s:s,s:I}", "bucket", b->name, "keep", (json_int_t)keep));
}

static void evict_image(json_t *order, struct stock *s, struct image *i)
{
	json_array_append_new(json_object_get(order, "images"), json_string(i->key));
	stock_remove_image(s, i);
}

/* Takes the order, and gives it back if there is something in it. */
static json_t *evict_order(json_t *order)
{
	if (json_array_size(json_object_get(order, "buckets")) > 0 ||
	    json_array_size(json_object_get(order, "images")) > 0)
		return order;
	json_decref(order);
	return NULL;
}

/* --- bounds --- */

int64_t stock_initial(const struct stock *s)
{
	int64_t initial = s->config->value[CONFIG_POOL_INITIAL];
	int64_t max = s->config->value[CONFIG_POOL_ENTRIES];
	return initial < max ? initial : max;
}

int64_t stock_room(const struct stock *s, const struct bucket *b)
{
	int64_t entries = 0, bytes = 0, max = s->config->value[CONFIG_POOL_MIB] * MIB;
	const struct bucket *other;
	TAILQ_FOREACH(other, &s->buckets, entry) {
		if (other == b)
			continue;
		int64_t count = other->entries > other->target ? other->entries : other->target;
		entries += count;
		if (bytes < max)                /* more changes nothing */
			bytes += count * other->bytes;
	}
	int64_t room = s->config->value[CONFIG_POOL_ENTRIES] - entries;
	if (b->bytes > 0) {
		int64_t left = (max - bytes) / b->bytes;
		room = left < room ? left : room;
	}
	return room < 0 ? 0 : room;
}

/* Of those that have something to give and nobody who waits. */
static struct bucket *bucket_oldest(const struct stock *s, const struct bucket *but)
{
	struct bucket *b, *oldest = NULL;
	TAILQ_FOREACH(b, &s->buckets, entry)
		if (b != but && bucket_is_idle(b) && (b->target > 0 || b->entries > 0) &&
		    (oldest == NULL || b->used_at < oldest->used_at))
			oldest = b;
	return oldest;
}

json_t *stock_set_target(struct stock *s, struct bucket *b, int64_t target)
{
	json_t *order = evict_nothing();
	struct bucket *oldest;
	if (target < stock_initial(s))
		target = stock_initial(s);
	while (stock_room(s, b) < stock_initial(s) && (oldest = bucket_oldest(s, b)) != NULL) {
		oldest->target = 0;
		evict_bucket(order, oldest, 0);
	}
	int64_t room = stock_room(s, b);
	b->target = target < room ? target : room;
	return evict_order(order);
}

json_t *stock_fit(struct stock *s)
{
	json_t *order = evict_nothing();
	struct bucket *b;
	TAILQ_FOREACH(b, &s->buckets, entry) {
		int64_t room = stock_room(s, b);
		if (b->target <= room)
			continue;
		b->target = room;
		evict_bucket(order, b, room);
	}
	return evict_order(order);
}

/* --- time --- */

static int64_t stock_retention_us(const struct stock *s)
{
	return s->config->value[CONFIG_IMAGE_SECONDS] * 1000000;
}

static int64_t bucket_due(const struct stock *s, const struct bucket *b)
{
	if (!bucket_is_idle(b))
		return 0;       /* whoever is busy with it looks again */
	int64_t initial = stock_initial(s);
	int64_t gone = b->used_at + stock_retention_us(s), less = b->used_at + STOCK_QUIET_US;
	return (b->target > initial || b->entries > initial) && less < gone ? less : gone;
}

static int64_t image_due(const struct stock *s, const struct image *i)
{
	const struct bucket *b;
	TAILQ_FOREACH(b, &s->buckets, entry)
		if (strcmp(b->image, i->key) == 0 && !bucket_is_idle(b))
			return 0;
	return i->used_at + stock_retention_us(s);
}

int64_t stock_due(const struct stock *s)
{
	int64_t next = 0, due;
	const struct bucket *b;
	const struct image *i;
	TAILQ_FOREACH(b, &s->buckets, entry)
		if ((due = bucket_due(s, b)) != 0 && (next == 0 || due < next))
			next = due;
	TAILQ_FOREACH(i, &s->images, entry)
		if ((due = image_due(s, i)) != 0 && (next == 0 || due < next))
			next = due;
	return next;
}

static void decay_bucket(struct stock *s, struct bucket *b, int64_t now, json_t *order)
{
	int64_t due = bucket_due(s, b), initial = stock_initial(s);
	bool unused = b->used_at + stock_retention_us(s) <= now;
	if (due == 0 || due > now)
		return;
	if (unused || b->target > initial)
		b->target = unused ? 0 : initial;
	if (unused || b->entries > b->target)
		evict_bucket(order, b, b->target);
	if (unused)
		bucket_remove(s, b);
}

json_t *stock_decay(struct stock *s)
{
	json_t *order = evict_nothing();
	int64_t now = now_us(), due;
	struct bucket *b, *next_bucket;
	for (b = TAILQ_FIRST(&s->buckets); b != NULL; b = next_bucket) {
		next_bucket = TAILQ_NEXT(b, entry);
		decay_bucket(s, b, now, order);
	}
	struct image *i, *next;
	for (i = TAILQ_FIRST(&s->images); i != NULL; i = next) {
		next = TAILQ_NEXT(i, entry);
		if ((due = image_due(s, i)) != 0 && due <= now)
			evict_image(order, s, i);
	}
	return evict_order(order);
}

/* The one that was not used longest, with its buckets. */
json_t *stock_limit_images(struct stock *s)
{
	struct image *i, *oldest = NULL;
	size_t count = 0;
	TAILQ_FOREACH(i, &s->images, entry) {
		count++;
		if (image_due(s, i) != 0 && (oldest == NULL || i->used_at < oldest->used_at))
			oldest = i;
	}
	if (count <= LIMIT_IMAGES || oldest == NULL)
		return NULL;
	json_t *order = evict_nothing();
	struct bucket *b, *next;
	for (b = TAILQ_FIRST(&s->buckets); b != NULL; b = next) {
		next = TAILQ_NEXT(b, entry);
		if (strcmp(b->image, oldest->key) != 0)
			continue;
		evict_bucket(order, b, 0);
		bucket_remove(s, b);
	}
	evict_image(order, s, oldest);
	return order;
}

/* The worker has moved the image away itself; what was made from it shares its files. */
json_t *stock_damaged(struct stock *s, const char *image)
{
	json_t *order = evict_nothing();
	struct bucket *b;
	TAILQ_FOREACH(b, &s->buckets, entry)
		if (strcmp(b->image, image) == 0)
			evict_bucket(order, b, 0);
	struct image *i = stock_find_image(s, image);
	if (i != NULL)
		stock_remove_image(s, i);
	return order;
}

/* --- Status --- */

static int64_t image_entries(const struct stock *s, const char *key)
{
	const struct bucket *b;
	int64_t entries = 0;
	TAILQ_FOREACH(b, &s->buckets, entry)
		if (strcmp(b->image, key) == 0)
			entries += b->entries;
	return entries;
}

json_t *stock_images(const struct stock *s)
{
	json_t *images = json_array();
	const struct image *i;
	TAILQ_FOREACH(i, &s->images, entry) {
		json_t *image = json_pack("{s:s,s:s*,s:s*,s:I,s:I,s:s*}", "key", i->key, "interpreter", i->python,
		    "version", i->version, "pool", (json_int_t)image_entries(s, i->key),
		    "usedAt", (json_int_t)i->used_at, "delegate", i->delegate);
		if (i->bytes > 0)
			json_object_set_new(image, "bytes", json_integer(i->bytes));
		json_array_append_new(images, image);
	}
	return images;
}

/* SPDX-License-Identifier: MIT */
/*
 * See word.h. A hash of counted texts. Copies of environments cross to the store's thread and are freed there, so a count
 * is atomic and the table has a mutex; whoever holds a word copies it without the mutex, for it cannot go meanwhile.
 *
 * Invariant: a word leaves the table, under the mutex, when its last owner drops it, and not before.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "util.h"
#include "word.h"

struct word {
	struct word *next;              /* in its bucket */
	uint32_t hash;
	atomic_uint owners;
	char text[];
};

static struct {
	pthread_mutex_t mutex;
	struct word **buckets;
	size_t bucket_count;            /* a power of two, or 0 */
	size_t count;
} words = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static struct word *word_of(const char *text)
{
	return (struct word *)(void *)((char *)(uintptr_t)text - offsetof(struct word, text));
}

static uint32_t word_hash(const char *text)
{
	/* FNV-1a */
	uint32_t hash = 0x811c9dc5u;

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 0x01000193u;
	return hash ^ hash >> 15;
}

static struct word **word_bucket(uint32_t hash)
{
	return &words.buckets[hash & (words.bucket_count - 1)];
}

static void word_grow(void)
{
	struct word **before = words.buckets;
	size_t count = words.bucket_count;

	words.bucket_count = count ? count * 4 : 64;
	words.buckets = xcalloc(words.bucket_count, sizeof(struct word *));
	for (size_t i = 0; i < count; i++)
		for (struct word *w = before[i], *next; w; w = next) {
			struct word **bucket = word_bucket(w->hash);
			next = w->next;
			w->next = *bucket;
			*bucket = w;
		}
	free(before);
}

static struct word *word_add(const char *text, uint32_t hash)
{
	size_t size = strlen(text) + 1;
	struct word *w = xmalloc(sizeof(*w) + size);

	if (words.count >= words.bucket_count)
		word_grow();
	w->hash = hash;
	atomic_init(&w->owners, 0);
	memcpy(w->text, text, size);
	struct word **bucket = word_bucket(hash);
	w->next = *bucket;
	*bucket = w;
	words.count++;
	return w;
}

/* The last one of a room is not kept either: without words there is nothing. */
static void word_remove(struct word *w)
{
	struct word **link = word_bucket(w->hash);

	while (*link != w)
		link = &(*link)->next;
	*link = w->next;
	free(w);
	if (--words.count == 0) {
		free(words.buckets);
		words.buckets = NULL;
		words.bucket_count = 0;
	}
}

const char *word(const char *text)
{
	if (!text)
		return NULL;
	uint32_t hash = word_hash(text);
	pthread_mutex_lock(&words.mutex);
	struct word *w = words.bucket_count ? *word_bucket(hash) : NULL;
	while (w && (w->hash != hash || strcmp(w->text, text) != 0))
		w = w->next;
	if (!w)
		w = word_add(text, hash);
	atomic_fetch_add_explicit(&w->owners, 1, memory_order_relaxed);
	pthread_mutex_unlock(&words.mutex);
	return w->text;
}

const char *word_again(const char *text)
{
	if (text)
		atomic_fetch_add_explicit(&word_of(text)->owners, 1, memory_order_relaxed);
	return text;
}

void word_drop(const char *text)
{
	if (!text)
		return;
	struct word *w = word_of(text);
	unsigned owners = atomic_load_explicit(&w->owners, memory_order_relaxed);
	while (owners > 1)
		if (atomic_compare_exchange_weak_explicit(&w->owners, &owners, owners - 1, memory_order_release,
		    memory_order_relaxed))
			return;
	/* Perhaps the last one: then nobody may find it between the count and its end. */
	pthread_mutex_lock(&words.mutex);
	if (atomic_fetch_sub_explicit(&w->owners, 1, memory_order_acq_rel) == 1)
		word_remove(w);
	pthread_mutex_unlock(&words.mutex);
}

void word_set(const char **slot, const char *text)
{
	/* First the new one: text may be the old one's. */
	const char *now = word(text);

	word_drop(*slot);
	*slot = now;
}

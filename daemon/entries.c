/* SPDX-License-Identifier: MIT */
/*
 * See entries.h. A root may have 200,000 of them, and everybody waits for a start: one text with all names, one array, a
 * hash over it by name (open addressing), and, once somebody asks by inode, the same array's places sorted by that.
 *
 * Invariants: at least half of the hash is empty; what was taken keeps its place in it, with inode 0.
 */
#include <stdlib.h>
#include <string.h>

#include "entries.h"
#include "util.h"

struct entry {
	int64_t ino;            /* 0: taken */
	size_t name_at;         /* in names */
};

struct entries {
	struct text names;      /* each with its NUL */
	struct entry *all;
	size_t count, size;
	size_t there;           /* those that are not taken */
	uint32_t *slots;        /* place in `all` + 1; 0: empty */
	size_t slot_count;      /* a power of two */
	struct entry *by_ino;   /* a sorted copy; NULL: nobody has asked, or it is not true any more */
};

struct entries *entries_new(void)
{
	return xcalloc(1, sizeof(struct entries));
}

void entries_clear(struct entries *e)
{
	text_done(&e->names);
	free(e->all);
	free(e->slots);
	free(e->by_ino);
	*e = (struct entries){ 0 };
}

void entries_free(struct entries *e)
{
	if (e == NULL)
		return;
	entries_clear(e);
	free(e);
}

static const char *entry_name(const struct entries *e, const struct entry *entry)
{
	return e->names.data + entry->name_at;
}

/* The slot that holds this name, or the empty one where it belongs. */
static uint32_t *entries_slot(const struct entries *e, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325u;    /* FNV-1a */
	for (const char *c = name; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	size_t at = (size_t)(hash ^ hash >> 32);
	for (;; at++) {
		uint32_t *slot = &e->slots[at & (e->slot_count - 1)];
		if (*slot == 0 || strcmp(entry_name(e, &e->all[*slot - 1]), name) == 0)
			return slot;
	}
}

static void entries_grow(struct entries *e)
{
	free(e->slots);
	e->slot_count = e->slot_count > 0 ? e->slot_count * 4 : 256;
	e->slots = xcalloc(e->slot_count, sizeof(*e->slots));
	for (size_t i = 0; i < e->count; i++)
		*entries_slot(e, entry_name(e, &e->all[i])) = (uint32_t)i + 1;
}

static struct entry *entries_find(const struct entries *e, const char *name)
{
	uint32_t slot = e->slot_count > 0 ? *entries_slot(e, name) : 0;
	return slot != 0 ? &e->all[slot - 1] : NULL;
}

static void entry_set(struct entries *e, struct entry *entry, int64_t ino)
{
	e->there += (ino != 0) - (entry->ino != 0);
	entry->ino = ino;
	free(e->by_ino);
	e->by_ino = NULL;
}

bool entries_fits(const char *name)
{
	return *name != '\0' && *name != '.' && strchr(name, '/') == NULL;
}

void entries_add(struct entries *e, const char *name, int64_t ino)
{
	if (!entries_fits(name))
		return;
	if (e->slot_count < 2 * (e->count + 1))
		entries_grow(e);
	uint32_t *slot = entries_slot(e, name);
	if (*slot == 0 && ino == 0)
		return;
	if (*slot == 0) {
		if (e->count == e->size) {
			e->size = e->size > 0 ? 2 * e->size : 64;
			e->all = xreallocarray(e->all, e->size, sizeof(*e->all));
		}
		e->all[e->count] = (struct entry){ 0, e->names.len };
		text_add(&e->names, name, strlen(name) + 1);
		*slot = (uint32_t)++e->count;
	}
	entry_set(e, &e->all[*slot - 1], ino);
}

void entries_add_text(struct entries *e, const char *text)
{
	_cleanup_text_ struct text name = { 0 };
	while (text != NULL && *text != '\0') {
		char *end;
		int64_t ino = strtoll(text, &end, 10);
		const char *slash = *end == ' ' ? strchr(end, '/') : NULL;
		if (slash == NULL)
			return;
		text_clear(&name);
		text_add(&name, end + 1, (size_t)(slash - end - 1));
		entries_add(e, name.data, ino);
		text = slash + 1;
	}
}

bool entries_take(struct entries *e, const char *name, int64_t ino)
{
	struct entry *entry = ino != 0 ? entries_find(e, name) : NULL;
	if (entry == NULL || entry->ino != ino)
		return false;
	entry_set(e, entry, 0);
	return true;
}

size_t entries_count(const struct entries *e)
{
	return e->there;
}

int64_t entries_ino(const struct entries *e, const char *name)
{
	const struct entry *entry = entries_find(e, name);
	return entry != NULL ? entry->ino : 0;
}

/* --- by inode --- */

static int entry_order(const void *a, const void *b)
{
	int64_t one = ((const struct entry *)a)->ino, other = ((const struct entry *)b)->ino;
	return one < other ? -1 : one > other;
}

const char *entries_name(struct entries *e, int64_t ino)
{
	struct entry key = { .ino = ino };
	if (ino == 0 || e->count == 0)
		return NULL;
	if (e->by_ino == NULL) {
		e->by_ino = xcalloc(e->count, sizeof(*e->by_ino));
		memcpy(e->by_ino, e->all, e->count * sizeof(*e->by_ino));
		qsort(e->by_ino, e->count, sizeof(*e->by_ino), entry_order);
	}
	const struct entry *entry = bsearch(&key, e->by_ino, e->count, sizeof(*e->by_ino), entry_order);
	return entry != NULL ? entry_name(e, entry) : NULL;
}

const char *entries_next(const struct entries *e, size_t *at)
{
	while (*at < e->count) {
		const struct entry *entry = &e->all[(*at)++];
		if (entry->ino != 0)
			return entry_name(e, entry);
	}
	return NULL;
}

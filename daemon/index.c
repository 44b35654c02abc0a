/* SPDX-License-Identifier: MIT */
/*
 * The environments in memory. Sorted arrays (live by name; the trash by name, the newest first; those elsewhere by
 * location, in either part), a hash of the ids, and a heap of the trash by expiry. Insertion
 * moves what lies behind, which for 100,000 pointers is some tens of microseconds, and nothing
 * where names come in order.
 *
 * What the index itself has to remember of an environment lies in it (`counted`, `next`, `node`): with 100,000 of
 * them, a block of memory each would be felt. Only one in the trash has a node, which keeps a copy of what it is sorted
 * by (deletion, expiry): whoever changes those in an environment and then says so finds it again; likewise the counts
 * are those of `counted`. A location never changes while its environment is here. Invariants: live names are unique;
 * ids need not be (a trash entry may have been copied by hand), so a link of the hash is always looked for by its
 * environment's address. Says nothing to the store, nor to anybody else.
 */
#include <assert.h>
#include <string.h>
#include "bounds.h"
#include "index.h"

struct node {
	int64_t deleted_at;             /* as sorted */
	int64_t expires_at;             /* as in the heap */
	size_t heap_at;
};

struct list {
	struct environment **envs;
	size_t count, size;
};

struct index {
	struct list live, trash;        /* sorted */
	struct list located, trash_located; /* sorted: those of each that have a location, by that */
	struct list due;                /* a heap: the trash by expiry, the earliest first */
	struct environment **buckets;
	size_t bucket_count;            /* a power of two */
	size_t *walked;                 /* where index_next() was last: whoever goes through all of them comes next */
	size_t counts[STATE_COUNT];
	void (*changed)(const struct environment *, void *);
	void *changed_arg;
};

/* --- arrays -------------------------------------------------------------------------------- */

static void list_insert(struct list *list, size_t at, struct environment *env)
{
	if (list->count == list->size) {
		list->size = list->size ? list->size * 2 : 64;
		list->envs = xreallocarray(list->envs, list->size, sizeof(struct environment *));
	}
	memmove(&list->envs[at + 1], &list->envs[at], (list->count - at) * sizeof(struct environment *));
	list->envs[at] = env;
	list->count++;
}

static void list_remove(struct list *list, size_t at)
{
	list->count--;
	memmove(&list->envs[at], &list->envs[at + 1], (list->count - at) * sizeof(struct environment *));
}

/* The first live one whose name is >= name, or > name if `beyond`. */
static size_t live_position(const struct index *index, const char *name, bool beyond)
{
	size_t low = 0, high = index->live.count;

	/* Names mostly come in order, when a catalog or a directory is read. */
	if (high && strcmp(index->live.envs[high - 1]->name, name) < 0)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(index->live.envs[middle]->name, name);
		if (order < 0 || (beyond && order == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The order of the trash: name, then the newest first, then the id. */
static int trash_order(const struct environment *env, const char *name, int64_t deleted_at,
    const char *id)
{
	int order = strcmp(env->name, name);

	if (order)
		return order;
	if (env->node->deleted_at != deleted_at)
		return env->node->deleted_at > deleted_at ? -1 : 1;
	return strcmp(env->id, id);
}

static size_t trash_position(const struct index *index, const char *name, int64_t deleted_at,
    const char *id, bool beyond)
{
	size_t low = 0, high = index->trash.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = trash_order(index->trash.envs[middle], name, deleted_at, id);
		if (order < 0 || (beyond && order == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first of these whose location is not before the first len bytes of path. */
static size_t location_position(const struct list *located, const char *path, size_t len)
{
	size_t low = 0, high = located->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const char *location = located->envs[middle]->location;
		int order = strncmp(location, path, len);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* --- the heap of what falls due ------------------------------------------------------------ */

/* Without an expiry: never due, so behind all others. */
static bool due_before(const struct node *a, const struct node *b)
{
	return (uint64_t)a->expires_at - 1 < (uint64_t)b->expires_at - 1;
}

static void due_put(struct index *index, size_t at, struct environment *env)
{
	index->due.envs[at] = env;
	env->node->heap_at = at;
}

/* Moves env from the hole `at` to where it belongs, up or down. */
static void due_settle(struct index *index, size_t at, struct environment *env)
{
	struct environment **heap = index->due.envs;

	for (; at && due_before(env->node, heap[(at - 1) / 2]->node); at = (at - 1) / 2)
		due_put(index, at, heap[(at - 1) / 2]);
	for (;;) {
		size_t child = 2 * at + 1;
		if (child + 1 < index->due.count && due_before(heap[child + 1]->node, heap[child]->node))
			child++;
		if (child >= index->due.count || !due_before(heap[child]->node, env->node))
			break;
		due_put(index, at, heap[child]);
		at = child;
	}
	due_put(index, at, env);
}

static void due_add(struct index *index, struct environment *env)
{
	list_insert(&index->due, index->due.count, env);
	due_settle(index, index->due.count - 1, env);
}

static void due_remove(struct index *index, const struct environment *env)
{
	struct environment *last = index->due.envs[--index->due.count];

	if (last != env)
		due_settle(index, env->node->heap_at, last);
}

/* --- the hash of ids ----------------------------------------------------------------------- */

static struct environment **bucket(const struct index *index, const char *id)
{
	/* FNV-1a: ids are random, but a catalog is a file. */
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *id; id++)
		hash = (hash ^ (unsigned char)*id) * 0x100000001b3u;
	return &index->buckets[(hash ^ hash >> 32) & (index->bucket_count - 1)];
}

static void hash_add(struct index *index, struct environment *env)
{
	struct environment **head = bucket(index, env->id);

	env->next = *head;
	*head = env;
}

/* Seldom and by much: each time every environment is touched. */
static void hash_grow(struct index *index)
{
	free(index->buckets);
	index->bucket_count = index->bucket_count ? index->bucket_count * 4 : 256;
	index->buckets = xcalloc(index->bucket_count, sizeof(struct environment *));
	for (size_t i = 0; i < index->live.count; i++)
		hash_add(index, index->live.envs[i]);
	for (size_t i = 0; i < index->trash.count; i++)
		hash_add(index, index->trash.envs[i]);
}

/* The link that points at env, which must be there. */
static struct environment **hash_link(const struct index *index, const struct environment *env)
{
	struct environment **link = bucket(index, env->id);

	while (*link && *link != env)
		link = &(*link)->next;
	assert(*link);
	return link;
}

/* --- both parts ---------------------------------------------------------------------------- */

/* Where env is, which must be there: at `at` or behind others that sort the same. */
static void list_take(struct list *list, size_t at, const struct environment *env)
{
	while (at < list->count && list->envs[at] != env)
		at++;
	assert(at < list->count);
	list_remove(list, at);
}

static void location_enter(struct list *located, struct environment *env)
{
	if (env->location)
		list_insert(located, location_position(located, env->location, strlen(env->location)), env);
}

static void location_leave(struct list *located, const struct environment *env)
{
	if (env->location)
		list_take(located, location_position(located, env->location, strlen(env->location)), env);
}

/* Puts env into the part that the state says, and counts it. */
static void enter(struct index *index, struct environment *env, enum environment_state state)
{
	env->state = env->counted = state;
	index->counts[state]++;
	if (state == STATE_TRASHED) {
		env->node = xcalloc(1, sizeof(*env->node));
		env->node->deleted_at = env->deleted_at;
		env->node->expires_at = env->expires_at;
		list_insert(&index->trash,
		    trash_position(index, env->name, env->deleted_at, env->id, true), env);
		due_add(index, env);
		location_enter(&index->trash_located, env);
	} else {
		size_t at = live_position(index, env->name, false);
		assert(at == index->live.count || strcmp(index->live.envs[at]->name, env->name) != 0);
		list_insert(&index->live, at, env);
		location_enter(&index->located, env);
	}
}

static void leave(struct index *index, struct environment *env)
{
	index->counts[env->counted]--;
	if (env->counted == STATE_TRASHED) {
		list_take(&index->trash, trash_position(index, env->name, env->node->deleted_at, env->id, false), env);
		location_leave(&index->trash_located, env);
		due_remove(index, env);
		free(env->node);
		env->node = NULL;
		return;
	}
	list_take(&index->live, live_position(index, env->name, false), env);
	location_leave(&index->located, env);
}

struct index *index_new(void)
{
	struct index *index = xcalloc(1, sizeof(*index));

	index->walked = xcalloc(1, sizeof(*index->walked));
	hash_grow(index);
	return index;
}

static void list_free(struct list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->envs[i]->node);
		environment_free(list->envs[i]);
	}
	free(list->envs);
}

void index_free(struct index *index)
{
	if (!index)
		return;
	list_free(&index->live);
	list_free(&index->trash);
	free(index->located.envs);
	free(index->trash_located.envs);
	free(index->due.envs);
	free(index->buckets);
	free(index->walked);
	free(index);
}

struct environment *index_get(const struct index *index, const char *name)
{
	size_t at = live_position(index, name, false);

	if (at == index->live.count || strcmp(index->live.envs[at]->name, name) != 0)
		return NULL;
	return index->live.envs[at];
}

struct environment *index_get_location(const struct index *index, const char *path)
{
	for (size_t len = strnlen(path, LIMIT_PYTHON_BYTES); len > 0; len--) {
		if (path[len] != '\0' && path[len] != '/')
			continue;
		size_t at = location_position(&index->located, path, len);
		const char *location = at < index->located.count ? index->located.envs[at]->location : "";
		if (strncmp(location, path, len) == 0 && location[len] == '\0')
			return index->located.envs[at];
	}
	return NULL;
}

struct environment *index_trash_at(const struct index *index, const char *path, size_t n)
{
	const struct list *located = &index->trash_located;
	size_t at = location_position(located, path, strlen(path)) + n;

	return at < located->count && strcmp(located->envs[at]->location, path) == 0 ? located->envs[at] : NULL;
}

struct environment *index_get_id(const struct index *index, const char *id)
{
	struct environment *env = *bucket(index, id);

	while (env && strcmp(env->id, id) != 0)
		env = env->next;
	return env;
}

struct environment *index_trash_get(const struct index *index, const char *name,
    const char *id_or_null)
{
	size_t at = trash_position(index, name, INT64_MAX, "", false);

	for (; at < index->trash.count; at++) {
		struct environment *env = index->trash.envs[at];
		if (strcmp(env->name, name) != 0)
			break;
		if (!id_or_null || strcmp(env->id, id_or_null) == 0)
			return env;
	}
	return NULL;
}

void index_observe(struct index *index, void (*changed)(const struct environment *, void *), void *arg)
{
	index->changed = changed;
	index->changed_arg = arg;
}

static void tell(const struct index *index, const struct environment *env)
{
	if (index->changed)
		index->changed(env, index->changed_arg);
}

void index_add(struct index *index, struct environment *env)
{
	if (index->live.count + index->trash.count >= index->bucket_count * 2)
		hash_grow(index);
	enter(index, env, env->state);
	hash_add(index, env);
	tell(index, env);
}

struct environment *index_take(struct index *index, struct environment *env)
{
	struct environment **link = hash_link(index, env);

	tell(index, env);
	*link = env->next;
	env->next = NULL;
	leave(index, env);
	return env;
}

void index_remove(struct index *index, struct environment *env)
{
	environment_free(index_take(index, env));
}

static void move(struct index *index, struct environment *env, enum environment_state state)
{
	leave(index, env);
	enter(index, env, state);
	tell(index, env);
}

void index_to_trash(struct index *index, struct environment *env)
{
	move(index, env, STATE_TRASHED);
}

void index_from_trash(struct index *index, struct environment *env, enum environment_state state)
{
	assert(state != STATE_TRASHED);
	move(index, env, state);
}

void index_set_state(struct index *index, struct environment *env, enum environment_state state)
{
	assert(state != STATE_TRASHED && env->counted != STATE_TRASHED);
	index->counts[env->counted]--;
	index->counts[state]++;
	env->state = env->counted = state;
	tell(index, env);
}

struct environment *index_next(const struct index *index, const char *after)
{
	size_t last = *index->walked;
	bool goes_on = after && last < index->live.count && index->live.envs[last]->name == after;
	size_t at = goes_on ? last + 1 : after ? live_position(index, after, true) : 0;

	*index->walked = at;
	return at < index->live.count ? index->live.envs[at] : NULL;
}

struct environment *index_trash_next(const struct index *index, const char *after_name,
    int64_t after_deleted_at, const char *after_id)
{
	size_t at = after_name ?
	    trash_position(index, after_name, after_deleted_at, after_id, true) : 0;

	return at < index->trash.count ? index->trash.envs[at] : NULL;
}

struct environment *index_trash_due(const struct index *index)
{
	if (!index->due.count || index->due.envs[0]->node->expires_at == 0)
		return NULL;
	return index->due.envs[0];
}

size_t index_count(const struct index *index, enum environment_state state)
{
	return index->counts[state];
}

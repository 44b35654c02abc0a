/* SPDX-License-Identifier: MIT */
/*
 * The environments in memory. Sorted arrays (live by name; the trash by name, the newest first; the live ones
 * elsewhere by location), a hash of the ids, and a heap of the trash by expiry, all of the same nodes. Insertion
 * moves what lies behind, which for 100,000 pointers is some tens of microseconds, and nothing
 * where names come in order.
 *
 * A node keeps its own copy of what it is sorted and counted by (state, deletion, expiry): whoever
 * changes those in an environment and then says so finds it again, and the counts are those of the
 * nodes. A location never changes while its environment is live. Invariants: live names are unique; ids need not be (a trash entry may have been copied by
 * hand), so a node is always looked for by its environment's address. Says nothing to the store,
 * nor to anybody else.
 */
#include <assert.h>
#include <string.h>
#include "bounds.h"
#include "index.h"

struct node {
	struct environment *env;
	struct node *next;              /* in its bucket */
	enum environment_state state;   /* as counted */
	int64_t deleted_at;             /* as sorted */
	int64_t expires_at;             /* as in the heap */
	size_t heap_at;
};

struct list {
	struct node **nodes;
	size_t count, size;
};

struct index {
	struct list live, trash;        /* sorted */
	struct list located;            /* sorted: the live ones that have a location, by that */
	struct list due;                /* a heap: the trash by expiry, the earliest first */
	struct node **buckets;
	size_t bucket_count;            /* a power of two */
	size_t counts[STATE_COUNT];
	void (*changed)(const struct environment *, void *);
	void *changed_arg;
};

/* --- arrays -------------------------------------------------------------------------------- */

static void list_insert(struct list *list, size_t at, struct node *node)
{
	if (list->count == list->size) {
		list->size = list->size ? list->size * 2 : 64;
		list->nodes = xreallocarray(list->nodes, list->size, sizeof(struct node *));
	}
	memmove(&list->nodes[at + 1], &list->nodes[at], (list->count - at) * sizeof(struct node *));
	list->nodes[at] = node;
	list->count++;
}

static void list_remove(struct list *list, size_t at)
{
	list->count--;
	memmove(&list->nodes[at], &list->nodes[at + 1], (list->count - at) * sizeof(struct node *));
}

/* The first live node whose name is >= name, or > name if `beyond`. */
static size_t live_position(const struct index *index, const char *name, bool beyond)
{
	size_t low = 0, high = index->live.count;

	/* Names mostly come in order, when a catalog or a directory is read. */
	if (high && strcmp(index->live.nodes[high - 1]->env->name, name) < 0)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(index->live.nodes[middle]->env->name, name);
		if (order < 0 || (beyond && order == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The order of the trash: name, then the newest first, then the id. */
static int trash_order(const struct node *node, const char *name, int64_t deleted_at,
    const char *id)
{
	int order = strcmp(node->env->name, name);

	if (order)
		return order;
	if (node->deleted_at != deleted_at)
		return node->deleted_at > deleted_at ? -1 : 1;
	return strcmp(node->env->id, id);
}

static size_t trash_position(const struct index *index, const char *name, int64_t deleted_at,
    const char *id, bool beyond)
{
	size_t low = 0, high = index->trash.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = trash_order(index->trash.nodes[middle], name, deleted_at, id);
		if (order < 0 || (beyond && order == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first one elsewhere whose location is not before the first len bytes of path. */
static size_t location_position(const struct index *index, const char *path, size_t len)
{
	size_t low = 0, high = index->located.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const char *location = index->located.nodes[middle]->env->location;
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

static void due_put(struct index *index, size_t at, struct node *node)
{
	index->due.nodes[at] = node;
	node->heap_at = at;
}

/* Moves node from the hole `at` to where it belongs, up or down. */
static void due_settle(struct index *index, size_t at, struct node *node)
{
	struct node **heap = index->due.nodes;

	for (; at && due_before(node, heap[(at - 1) / 2]); at = (at - 1) / 2)
		due_put(index, at, heap[(at - 1) / 2]);
	for (;;) {
		size_t child = 2 * at + 1;
		if (child + 1 < index->due.count && due_before(heap[child + 1], heap[child]))
			child++;
		if (child >= index->due.count || !due_before(heap[child], node))
			break;
		due_put(index, at, heap[child]);
		at = child;
	}
	due_put(index, at, node);
}

static void due_add(struct index *index, struct node *node)
{
	list_insert(&index->due, index->due.count, node);
	due_settle(index, index->due.count - 1, node);
}

static void due_remove(struct index *index, struct node *node)
{
	struct node *last = index->due.nodes[--index->due.count];

	if (last != node)
		due_settle(index, node->heap_at, last);
}

/* --- the hash of ids ----------------------------------------------------------------------- */

static struct node **bucket(const struct index *index, const char *id)
{
	/* FNV-1a: ids are random, but a catalog is a file. */
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *id; id++)
		hash = (hash ^ (unsigned char)*id) * 0x100000001b3u;
	return &index->buckets[(hash ^ hash >> 32) & (index->bucket_count - 1)];
}

static void hash_add(struct index *index, struct node *node)
{
	struct node **head = bucket(index, node->env->id);

	node->next = *head;
	*head = node;
}

static void hash_grow(struct index *index)
{
	free(index->buckets);
	index->bucket_count = index->bucket_count ? index->bucket_count * 2 : 256;
	index->buckets = xcalloc(index->bucket_count, sizeof(struct node *));
	for (size_t i = 0; i < index->live.count; i++)
		hash_add(index, index->live.nodes[i]);
	for (size_t i = 0; i < index->trash.count; i++)
		hash_add(index, index->trash.nodes[i]);
}

/* The link that points at the node of env, which must be there. */
static struct node **hash_link(const struct index *index, const struct environment *env)
{
	struct node **link = bucket(index, env->id);

	while (*link && (*link)->env != env)
		link = &(*link)->next;
	assert(*link);
	return link;
}

/* --- both parts ---------------------------------------------------------------------------- */

/* Puts node into the part that the state says, and counts it. */
static void enter(struct index *index, struct node *node, enum environment_state state)
{
	struct environment *env = node->env;

	env->state = node->state = state;
	index->counts[state]++;
	if (state == STATE_TRASHED) {
		node->deleted_at = env->deleted_at;
		node->expires_at = env->expires_at;
		list_insert(&index->trash,
		    trash_position(index, env->name, env->deleted_at, env->id, true), node);
		due_add(index, node);
	} else {
		size_t at = live_position(index, env->name, false);
		assert(!index_get(index, env->name));
		list_insert(&index->live, at, node);
		if (env->location)
			list_insert(&index->located,
			    location_position(index, env->location, strlen(env->location)), node);
	}
}

/* Where node is, which must be there: at `at` or behind others that sort the same. */
static void list_take(struct list *list, size_t at, const struct node *node)
{
	while (at < list->count && list->nodes[at] != node)
		at++;
	assert(at < list->count);
	list_remove(list, at);
}

static void leave(struct index *index, struct node *node)
{
	const struct environment *env = node->env;

	index->counts[node->state]--;
	if (node->state == STATE_TRASHED) {
		list_take(&index->trash, trash_position(index, env->name, node->deleted_at, env->id, false), node);
		due_remove(index, node);
		return;
	}
	list_take(&index->live, live_position(index, env->name, false), node);
	if (env->location)
		list_take(&index->located,
		    location_position(index, env->location, strlen(env->location)), node);
}

struct index *index_new(void)
{
	struct index *index = xcalloc(1, sizeof(*index));

	hash_grow(index);
	return index;
}

static void list_free(struct list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		environment_free(list->nodes[i]->env);
		free(list->nodes[i]);
	}
	free(list->nodes);
}

void index_free(struct index *index)
{
	if (!index)
		return;
	list_free(&index->live);
	list_free(&index->trash);
	free(index->located.nodes);
	free(index->due.nodes);
	free(index->buckets);
	free(index);
}

struct environment *index_get(const struct index *index, const char *name)
{
	size_t at = live_position(index, name, false);

	if (at == index->live.count || strcmp(index->live.nodes[at]->env->name, name) != 0)
		return NULL;
	return index->live.nodes[at]->env;
}

struct environment *index_get_location(const struct index *index, const char *path)
{
	for (size_t len = strnlen(path, LIMIT_PYTHON_BYTES); len > 0; len--) {
		if (path[len] != '\0' && path[len] != '/')
			continue;
		size_t at = location_position(index, path, len);
		const char *location = at < index->located.count ? index->located.nodes[at]->env->location : "";
		if (strncmp(location, path, len) == 0 && location[len] == '\0')
			return index->located.nodes[at]->env;
	}
	return NULL;
}

struct environment *index_get_id(const struct index *index, const char *id)
{
	struct node *node = *bucket(index, id);

	while (node && strcmp(node->env->id, id) != 0)
		node = node->next;
	return node ? node->env : NULL;
}

struct environment *index_trash_get(const struct index *index, const char *name,
    const char *id_or_null)
{
	size_t at = trash_position(index, name, INT64_MAX, "", false);

	for (; at < index->trash.count; at++) {
		struct environment *env = index->trash.nodes[at]->env;
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
	struct node *node = xcalloc(1, sizeof(*node));

	if (index->live.count + index->trash.count >= index->bucket_count)
		hash_grow(index);
	node->env = env;
	enter(index, node, env->state);
	hash_add(index, node);
	tell(index, env);
}

struct environment *index_take(struct index *index, struct environment *env)
{
	struct node **link = hash_link(index, env), *node = *link;

	tell(index, env);
	*link = node->next;
	leave(index, node);
	free(node);
	return env;
}

void index_remove(struct index *index, struct environment *env)
{
	environment_free(index_take(index, env));
}

static void move(struct index *index, struct environment *env, enum environment_state state)
{
	struct node *node = *hash_link(index, env);

	leave(index, node);
	enter(index, node, state);
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
	struct node *node = *hash_link(index, env);

	assert(state != STATE_TRASHED && node->state != STATE_TRASHED);
	index->counts[node->state]--;
	index->counts[state]++;
	env->state = node->state = state;
	tell(index, env);
}

struct environment *index_next(const struct index *index, const char *after)
{
	size_t at = after ? live_position(index, after, true) : 0;

	return at < index->live.count ? index->live.nodes[at]->env : NULL;
}

struct environment *index_trash_next(const struct index *index, const char *after_name,
    int64_t after_deleted_at, const char *after_id)
{
	size_t at = after_name ?
	    trash_position(index, after_name, after_deleted_at, after_id, true) : 0;

	return at < index->trash.count ? index->trash.nodes[at]->env : NULL;
}

struct environment *index_trash_due(const struct index *index)
{
	if (!index->due.count || index->due.nodes[0]->expires_at == 0)
		return NULL;
	return index->due.nodes[0]->env;
}

size_t index_count(const struct index *index, enum environment_state state)
{
	return index->counts[state];
}

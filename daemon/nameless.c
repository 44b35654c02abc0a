/* SPDX-License-Identifier: MIT */
/*
 * See nameless.h. Owns the environments in it, in no order; there are few. In the catalog each has a name that no environment
 * can have, '.' and its id, and is missing: that is how a start knows it. new_name is here what it was called. Of one whose
 * birth time is unknown an inode is all there is, which is soon another directory's: it does not wait.
 *
 * The bound is of those that wait. A start has all that the catalog has until it has seen which are there: of many that were
 * changing names in one go (follow.c) none has to wait.
 */
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "index.h"
#include "nameless.h"
#include "retention.h"
#include "store.h"

struct nameless {
	struct environment **envs;
	size_t count, size;
};

struct nameless *nameless_new(void)
{
	return xcalloc(1, sizeof(struct nameless));
}

void nameless_free(struct nameless *n)
{
	if (n == NULL)
		return;
	for (size_t i = 0; i < n->count; i++)
		environment_free(n->envs[i]);
	free(n->envs);
	free(n);
}

static void nameless_add(struct nameless *n, struct environment *env)
{
	if (n->count == n->size) {
		n->size = n->size > 0 ? 2 * n->size : 64;
		n->envs = xreallocarray(n->envs, n->size, sizeof(struct environment *));
	}
	n->envs[n->count++] = env;
}

/* The newest first. */
static int nameless_order(const void *a, const void *b)
{
	int64_t one = (*(struct environment *const *)a)->missing_since, other = (*(struct environment *const *)b)->missing_since;
	return one > other ? -1 : one < other;
}

static void nameless_limit(struct venvd *v)
{
	struct nameless *n = v->nameless;
	if (n->count <= LIMIT_NAMELESS)
		return;
	qsort(n->envs, n->count, sizeof(struct environment *), nameless_order);
	while (n->count > LIMIT_NAMELESS)
		nameless_drop(v, n->envs[n->count - 1]);
}

/* As it is here and in the catalog. */
static void nameless_become(struct environment *env)
{
	free(env->name);
	env->name = xasprintf(".%s", env->id);
	free(env->new_name);
	env->new_name = NULL;
	if (env->state != STATE_MISSING)
		env->missing_since = now_us();
	env->state = STATE_MISSING;
	env->intent = INTENT_NONE;
	env->deleted_at = env->expires_at = 0;
	free(env->entry);
	env->entry = NULL;
	env->unseen = env->unrecorded = false;
}

bool nameless_load(struct venvd *v, struct environment *env)
{
	if (env->name[0] != '.')
		return false;
	nameless_become(env);
	nameless_add(v->nameless, env);
	return true;
}

void nameless_store(struct venvd *v, const struct environment *env)
{
	struct environment *row = environment_copy(env);
	nameless_become(row);
	store_put(v->store, row, NULL, NULL);
	environment_free(row);
}

void nameless_give_way(struct venvd *v, struct environment *env)
{
	index_take(v->index, env);
	if (env->state == STATE_FOREIGN || env->intent != INTENT_NONE || env->location != NULL || env->ino == 0 || env->btime_ns == 0) {
		store_drop(v->store, env->id, NULL, NULL, NULL);
		environment_free(env);
		return;
	}
	nameless_become(env);
	store_put(v->store, env, NULL, NULL);
	nameless_add(v->nameless, env);
	retention_changed(v->retention, env);
	nameless_limit(v);              /* env may be the oldest */
}

void nameless_displace(struct venvd *v, struct request *r, struct environment *env)
{
	_cleanup_free_ char *name = xstrdup(env->name);
	memcpy(r->displaced, env->id, sizeof(r->displaced));
	nameless_give_way(v, env);
	env = nameless_get(v->nameless, r->displaced);
	if (env != NULL)
		env->new_name = xstrdup(name);
}

/* Only while the daemon runs: the catalog does not know what it was called. */
void nameless_come_back(struct venvd *v, const char *id)
{
	struct environment *env = nameless_get(v->nameless, id);
	if (env == NULL || env->new_name == NULL || index_get(v->index, env->new_name) != NULL)
		return;
	nameless_take(v->nameless, env);
	free(env->name);
	env->name = env->new_name;
	env->new_name = NULL;
	index_add(v->index, env);
	store_put(v->store, env, NULL, NULL);
}

struct environment *nameless_next(const struct nameless *n, size_t *at)
{
	return *at < n->count ? n->envs[(*at)++] : NULL;
}

struct environment *nameless_get(const struct nameless *n, const char *id)
{
	for (size_t i = 0; i < n->count; i++)
		if (strcmp(n->envs[i]->id, id) == 0)
			return n->envs[i];
	return NULL;
}

struct environment *nameless_take(struct nameless *n, struct environment *env)
{
	size_t i = n->count - 1;
	while (n->envs[i] != env)
		i--;
	n->envs[i] = n->envs[--n->count];
	return env;
}

void nameless_drop(struct venvd *v, struct environment *env)
{
	store_drop(v->store, env->id, NULL, NULL, NULL);
	environment_free(nameless_take(v->nameless, env));
}

int64_t nameless_forget(struct venvd *v, int64_t now)
{
	int64_t next = INT64_MAX;
	nameless_limit(v);
	for (size_t i = v->nameless->count; i-- > 0;) {
		int64_t left = v->nameless->envs[i]->missing_since + LIMIT_MISSING_US - now;
		if (left < 0)
			nameless_drop(v, v->nameless->envs[i]);
		else if (left < next)
			next = left;
	}
	return next;
}

size_t nameless_count(const struct nameless *n)
{
	return n->count;
}

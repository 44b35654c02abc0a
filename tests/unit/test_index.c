/* SPDX-License-Identifier: MIT */
/*
 * The index against a model that is an unsorted array walked from end to end: after every random
 * operation both must say the same of everything that can be asked.
 */
#include <stdio.h>
#include <string.h>
#include "bounds.h"
#include "unit.h"
#include "index.h"

#define MODEL_MAX 400

static struct environment *add(struct index *index, const char *name, enum environment_state state)
{
	struct environment *env = environment_new(name);

	env->state = state;
	index_add(index, env);
	return env;
}

static struct environment *trash(struct index *index, const char *name, int64_t deleted_at,
    int64_t expires_at)
{
	struct environment *env = environment_new(name);

	env->state = STATE_TRASHED;
	env->deleted_at = deleted_at;
	env->expires_at = expires_at;
	index_add(index, env);
	return env;
}

static void empty(void **state)
{
	struct index *index = index_new();

	(void)state;
	assert_null(index_get(index, "a"));
	assert_null(index_get_id(index, "a"));
	assert_null(index_trash_get(index, "a", NULL));
	assert_null(index_next(index, NULL));
	assert_null(index_next(index, "a"));
	assert_null(index_trash_next(index, NULL, 0, NULL));
	assert_null(index_trash_due(index));
	for (int s = 0; s < STATE_COUNT; s++)
		assert_int_equal(index_count(index, (enum environment_state)s), 0);
	index_free(index);
	index_free(NULL);
}

/* As many as a root may hold, and one more, not all of them in order; then some go. */
static void more_than_a_root_holds(void **state)
{
	struct index *index = index_new();
	char name[16];

	(void)state;
	for (int late = 0; late < 2; late++)
		for (int i = 0; i <= LIMIT_ENVIRONMENTS; i++) {
			snprintf(name, sizeof(name), "e%06d", i);
			if ((i % 200 == 0) == late)
				add(index, name, STATE_READY);
		}
	assert_int_equal(index_count(index, STATE_READY), LIMIT_ENVIRONMENTS + 1);
	for (int i = 0; i <= LIMIT_ENVIRONMENTS; i += 100) {
		snprintf(name, sizeof(name), "e%06d", i);
		index_remove(index, index_get(index, name));
	}
	int i = 0;
	for (const struct environment *env = index_next(index, NULL); env; env = index_next(index, env->name), i++) {
		i += i % 100 == 0;
		snprintf(name, sizeof(name), "e%06d", i);
		assert_string_equal(env->name, name);
		assert_ptr_equal(index_get_id(index, env->id), env);
	}
	assert_int_equal(i, LIMIT_ENVIRONMENTS);        /* the last one has gone */
	index_free(index);
}

static void locations(void **state)
{
	static const char *const places[] = { "/p/a-b", "/p/a", "/p", "/q/a", "/p/a/b/c", "/p/a/b" };
	struct index *index = index_new();
	struct environment *envs[ARRAY_LENGTH(places)];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
		char name[2] = { (char)('0' + i), '\0' };
		envs[i] = environment_new(name);
		envs[i]->state = STATE_READY;
		envs[i]->location = xstrdup(places[i]);
		index_add(index, envs[i]);
	}
	add(index, "in the root", STATE_READY);
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
		_cleanup_free_ char *inside = xasprintf("%s/x/y", places[i]);
		assert_ptr_equal(index_get_location(index, places[i]), envs[i]);
		assert_ptr_equal(index_get_location(index, inside), envs[i]);
	}
	assert_ptr_equal(index_get_location(index, "/p/a-"), envs[2]);
	assert_ptr_equal(index_get_location(index, "/p/a/bb"), envs[1]);
	assert_null(index_get_location(index, "/q"));
	assert_null(index_get_location(index, "p/a"));
	assert_null(index_get_location(index, "/"));
	assert_null(index_get_location(index, ""));
	assert_null(index_trash_at(index, places[5], 0));
	index_to_trash(index, envs[5]);
	assert_ptr_equal(index_get_location(index, "/p/a/b"), envs[1]);
	assert_ptr_equal(index_trash_at(index, places[5], 0), envs[5]);
	assert_null(index_trash_at(index, places[5], 1));
	struct environment *again = environment_copy(envs[5]), *below = environment_copy(envs[5]);
	free(below->location);
	below->location = xasprintf("%s/x", places[5]);
	index_add(index, below);
	index_add(index, again);
	const struct environment *two[] = { index_trash_at(index, places[5], 0), index_trash_at(index, places[5], 1) };
	assert_true((two[0] == envs[5] && two[1] == again) || (two[1] == envs[5] && two[0] == again));
	assert_null(index_trash_at(index, places[5], 2));
	assert_ptr_equal(index_trash_at(index, below->location, 0), below);
	index_remove(index, again);
	index_remove(index, below);
	index_from_trash(index, envs[5], STATE_BROKEN);
	assert_null(index_trash_at(index, places[5], 0));
	assert_ptr_equal(index_get_location(index, "/p/a/b"), envs[5]);
	index_remove(index, envs[2]);
	assert_null(index_get_location(index, "/p"));
	index_free(index);
}

static void cursors_survive(void **state)
{
	struct index *index = index_new();

	(void)state;
	struct environment *b = add(index, "b", STATE_READY);
	add(index, "a", STATE_READY);
	add(index, "d", STATE_READY);
	assert_string_equal(index_next(index, NULL)->name, "a");
	assert_string_equal(index_next(index, "a")->name, "b");
	index_remove(index, b);
	assert_string_equal(index_next(index, "b")->name, "d");
	add(index, "c", STATE_READY);
	assert_string_equal(index_next(index, "b")->name, "c");
	assert_null(index_next(index, "d"));
	index_free(index);
}

static void trash_is_ordered(void **state)
{
	struct index *index = index_new();

	(void)state;
	struct environment *old = trash(index, "p", 10, 30);
	struct environment *new = trash(index, "p", 20, 40);
	struct environment *other = trash(index, "o", 5, 50);
	assert_ptr_equal(index_trash_get(index, "p", NULL), new);
	assert_ptr_equal(index_trash_get(index, "p", old->id), old);
	assert_null(index_trash_get(index, "o", old->id));
	assert_null(index_trash_get(index, "q", NULL));
	assert_ptr_equal(index_trash_next(index, NULL, 0, NULL), other);
	assert_ptr_equal(index_trash_next(index, "o", 5, other->id), new);
	assert_ptr_equal(index_trash_next(index, "p", 20, new->id), old);
	assert_null(index_trash_next(index, "p", 10, old->id));
	/* The cursor of one that is gone. */
	char id[17];
	strcpy(id, new->id);
	index_remove(index, new);
	assert_ptr_equal(index_trash_next(index, "p", 20, id), old);
	assert_ptr_equal(index_trash_due(index), old);
	index_remove(index, old);
	assert_ptr_equal(index_trash_due(index), other);
	index_free(index);
}

/* Whoever changes what a row is sorted by finds it again all the same. */
static void changed_keys(void **state)
{
	struct index *index = index_new();

	(void)state;
	struct environment *a = trash(index, "p", 10, 30), *b = trash(index, "p", 20, 40);
	a->deleted_at = a->expires_at = 0;
	index_from_trash(index, a, STATE_READY);
	assert_ptr_equal(index_get(index, "p"), a);
	assert_int_equal(a->state, STATE_READY);
	assert_int_equal(index_count(index, STATE_TRASHED), 1);
	/* As environment_take_inspection() does, before it is said. */
	a->state = STATE_BROKEN;
	assert_int_equal(index_count(index, STATE_READY), 1);
	index_set_state(index, a, a->state);
	assert_int_equal(index_count(index, STATE_READY), 0);
	assert_int_equal(index_count(index, STATE_BROKEN), 1);
	a->deleted_at = 50;
	a->expires_at = 35;
	index_to_trash(index, a);
	assert_ptr_equal(index_trash_get(index, "p", NULL), a);
	assert_ptr_equal(index_trash_due(index), a);
	struct environment *taken = index_take(index, a);
	assert_ptr_equal(taken, a);
	assert_ptr_equal(index_trash_due(index), b);
	environment_free(taken);
	index_free(index);
}

/* A trash entry that somebody copied by hand comes with the same record. */
static void equal_entries(void **state)
{
	struct index *index = index_new();
	struct environment *envs[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(envs); i++) {
		envs[i] = environment_new("p");
		strcpy(envs[i]->id, "0123456789abcdef");
		envs[i]->state = STATE_TRASHED;
		envs[i]->deleted_at = 7;
		index_add(index, envs[i]);
	}
	assert_null(index_trash_due(index));
	assert_int_equal(index_count(index, STATE_TRASHED), 4);
	index_remove(index, envs[2]);
	index_remove(index, envs[0]);
	struct environment *left = index_trash_get(index, "p", "0123456789abcdef");
	assert_true(left == envs[1] || left == envs[3]);
	assert_non_null(index_get_id(index, "0123456789abcdef"));
	index_free(index);
}

struct model {
	struct environment *all[MODEL_MAX];
	size_t count;
};

static struct environment *model_live(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->all[i]->state != STATE_TRASHED && strcmp(m->all[i]->name, name) == 0)
			return m->all[i];
	return NULL;
}

static struct environment *model_next(const struct model *m, const char *after)
{
	struct environment *best = NULL;

	for (size_t i = 0; i < m->count; i++) {
		struct environment *env = m->all[i];
		if (env->state == STATE_TRASHED || (after && strcmp(env->name, after) <= 0))
			continue;
		if (!best || strcmp(env->name, best->name) < 0)
			best = env;
	}
	return best;
}

static int trash_order(const char *name, int64_t deleted_at, const char *id,
    const struct environment *b)
{
	int order = strcmp(name, b->name);

	if (order)
		return order;
	if (deleted_at != b->deleted_at)
		return deleted_at > b->deleted_at ? -1 : 1;
	return strcmp(id, b->id);
}

static struct environment *model_trash_next(const struct model *m, const char *name,
    int64_t deleted_at,
    const char *id)
{
	struct environment *best = NULL;

	for (size_t i = 0; i < m->count; i++) {
		struct environment *env = m->all[i];
		if (env->state != STATE_TRASHED ||
		    (name && trash_order(name, deleted_at, id, env) >= 0))
			continue;
		if (!best || trash_order(env->name, env->deleted_at, env->id, best) < 0)
			best = env;
	}
	return best;
}

static void compare(const struct index *index, const struct model *m, uint64_t *seed)
{
	size_t counts[STATE_COUNT] = { 0 };
	int64_t due = INT64_MAX;
	char name[8], id[17];

	for (size_t i = 0; i < m->count; i++) {
		counts[m->all[i]->state]++;
		if (m->all[i]->state == STATE_TRASHED && m->all[i]->expires_at < due)
			due = m->all[i]->expires_at;
	}
	for (int s = 0; s < STATE_COUNT; s++)
		assert_int_equal(index_count(index, (enum environment_state)s), counts[s]);
	const struct environment *first = index_trash_due(index);
	assert_int_equal(first ? first->expires_at : INT64_MAX, due);
	snprintf(name, sizeof(name), "n%u", unit_random(seed) % 60);
	assert_ptr_equal(index_get(index, name), model_live(m, name));
	assert_ptr_equal(index_next(index, name), model_next(m, name));
	assert_ptr_equal(index_next(index, NULL), model_next(m, NULL));
	id_new(id);
	int64_t at = unit_random(seed) % 50;
	assert_ptr_equal(index_trash_next(index, name, at, id), model_trash_next(m, name, at, id));
	struct environment *newest = model_trash_next(m, name, INT64_MAX, "");
	assert_ptr_equal(index_trash_get(index, name, NULL), newest &&
	    strcmp(newest->name, name) == 0 ? newest : NULL);
	if (m->count) {
		struct environment *any = m->all[unit_random(seed) % m->count];
		assert_ptr_equal(index_get_id(index, any->id), any);
		assert_ptr_equal(index_trash_get(index, any->name, any->id),
		    any->state == STATE_TRASHED ? any : NULL);
	}
}

static void operate(struct index *index, struct model *m, uint64_t *seed)
{
	static const enum environment_state live[] = {
		STATE_CREATING, STATE_READY, STATE_BROKEN, STATE_MISSING, STATE_FOREIGN
	};
	uint32_t what = unit_random(seed) % 8;
	size_t at = m->count ? unit_random(seed) % m->count : 0;
	struct environment *env = m->count ? m->all[at] : NULL;
	enum environment_state some = live[unit_random(seed) % ARRAY_LENGTH(live)];
	char name[8];

	snprintf(name, sizeof(name), "n%u", unit_random(seed) % 60);
	if (what < 3) {
		if (m->count == MODEL_MAX || (what < 2 && model_live(m, name)))
			return;
		m->all[m->count++] = what < 2 ? add(index, name, some) :
		    trash(index, name, unit_random(seed) % 50, 1 + unit_random(seed) % 90);
	} else if (!env) {
		return;
	} else if (what == 3) {
		m->all[at] = m->all[--m->count];
		index_remove(index, env);
	} else if (what == 4) {
		m->all[at] = m->all[--m->count];
		environment_free(index_take(index, env));
	} else if (env->state != STATE_TRASHED && what == 5) {
		env->deleted_at = unit_random(seed) % 50;
		env->expires_at = 1 + unit_random(seed) % 90;
		index_to_trash(index, env);
	} else if (env->state == STATE_TRASHED) {
		if (model_live(m, env->name))
			return;
		env->deleted_at = env->expires_at = 0;
		index_from_trash(index, env, some);
	} else {
		index_set_state(index, env, some);
	}
}

static void against_a_model(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 20; round++) {
		struct index *index = index_new();
		struct model m = { .count = 0 };
		uint64_t seed = round * 1000003 + 17;
		for (int i = 0; i < 2000; i++) {
			operate(index, &m, &seed);
			compare(index, &m, &seed);
		}
		/* Whole walks, both of them. */
		size_t live = 0, trashed = 0;
		for (struct environment *env = NULL; (env = index_next(index, env ? env->name :
		    NULL));)
			live++;
		for (struct environment *e = NULL; (e = index_trash_next(index, e ? e->name : NULL,
		    e ? e->deleted_at : 0, e ? e->id : NULL));)
			trashed++;
		assert_int_equal(live + trashed, m.count);
		assert_int_equal(trashed, index_count(index, STATE_TRASHED));
		index_free(index);
	}
}

static void many(void **state)
{
	struct index *index = index_new();
	uint64_t seed = 5;
	char name[16];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "e%u", unit_random(&seed));
		if (!index_get(index, name))
			add(index, name, STATE_READY);
	}
	size_t count = 0;
	const char *before = "";
	for (struct environment *env = NULL; (env = index_next(index, env ? env->name :
	    NULL)); count++) {
		assert_true(strcmp(before, env->name) < 0);
		assert_ptr_equal(index_get_id(index, env->id), env);
		before = env->name;
	}
	assert_int_equal(count, index_count(index, STATE_READY));
	index_free(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),
		cmocka_unit_test(locations),
		cmocka_unit_test(more_than_a_root_holds),
		cmocka_unit_test(cursors_survive),
		cmocka_unit_test(trash_is_ordered),
		cmocka_unit_test(changed_keys),
		cmocka_unit_test(equal_entries),
		cmocka_unit_test(against_a_model),
		cmocka_unit_test(many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include <string.h>
#include "unit.h"
#include "environment.h"

static struct environment *full(void)
{
	struct environment *env = environment_new("projA");

	env->state = STATE_READY;
	env->intent = INTENT_DELETE;
	env->ino = 4711;
	env->btime_ns = 1700000000123456789;
	env->executable = word("bin/python");
	env->interpreter = word("/usr/bin/python3.11");
	env->implementation = word("cpython");
	env->version = word("3.11.2");
	env->prompt = word("a \"b\"");
	env->project = word("/src/\xc3\xa4");
	env->system_site_packages = 0;
	env->pip = 1;
	env->origin = word("created");
	env->creator = word("venv");
	env->created_at = 1700000000123456;
	env->deleted_at = 1700000000000001;
	env->expires_at = INT64_MAX;
	env->missing_since = 3;
	env->problem = word("it is 'broken'");
	env->entry = xstrdup("projA~1~2");
	return env;
}

/* What many say is there once, as long as somebody says it. */
static void words(void **state)
{
	struct environment *env = environment_new("a");
	char text[] = "/usr/bin/python3";

	(void)state;
	word_set(&env->interpreter, text);
	word_set(&env->version, "3.11.2");
	assert_ptr_not_equal(env->interpreter, text);
	struct environment *copy = environment_copy(env);
	assert_ptr_equal(copy->interpreter, env->interpreter);
	word_set(&copy->interpreter, "/opt/python3");
	assert_string_equal(env->interpreter, text);
	word_set(&copy->interpreter, env->interpreter);
	assert_ptr_equal(copy->interpreter, env->interpreter);
	environment_free(env);
	assert_string_equal(copy->interpreter, text);
	word_set(&copy->interpreter, copy->interpreter);
	assert_string_equal(copy->interpreter, text);
	word_set(&copy->interpreter, NULL);
	assert_null(copy->interpreter);
	environment_free(copy);
}

static void json_equals(const struct environment *env, const char *root, environment_fields fields,
    const char *expected)
{
	_cleanup_text_ struct text t = { 0 };

	environment_add_json(&t, env, root, fields);
	assert_string_equal(t.data, expected);
}

static void fresh(void **state)
{
	struct environment *env = environment_new("a"), *other = environment_new("a");

	(void)state;
	assert_int_equal(strlen(env->id), 16);
	assert_string_not_equal(env->id, other->id);
	assert_int_equal(env->state, STATE_CREATING);
	strcpy(env->id, "0123456789abcdef");
	json_equals(env, "/r", FIELDS_ALL,
	    "{\"name\":\"a\",\"id\":\"0123456789abcdef\",\"path\":\"/r/a\","
	    "\"state\":\"creating\"}");
	json_equals(env, "/", environment_field_bit("path"), "{\"name\":\"a\",\"path\":\"/a\"}");
	environment_free(env);
	environment_free(other);
	environment_free(NULL);
}

static void everything(void **state)
{
	struct environment *env = full();

	(void)state;
	strcpy(env->id, "0123456789abcdef");
	json_equals(env, "/r", FIELDS_ALL,
	    "{\"name\":\"projA\",\"id\":\"0123456789abcdef\",\"path\":\"/r/projA\","
	    "\"state\":\"ready\",\"executable\":\"/r/projA/bin/python\","
	    "\"interpreter\":\"/usr/bin/python3.11\","
	    "\"implementation\":\"cpython\",\"version\":\"3.11.2\",\"prompt\":\"a \\\"b\\\"\","
	    "\"project\":\"/src/\xc3\xa4\",\"systemSitePackages\":false,\"pip\":true,"
	    "\"origin\":\"created\","
	    "\"creator\":\"venv\",\"createdAt\":1700000000123456,\"deletedAt\":1700000000000001,"
	    "\"expiresAt\":9223372036854775807,\"problem\":\"it is 'broken'\"}");
	env->state = STATE_TRASHED;
	json_equals(env, "/r", environment_field_bit("path") | environment_field_bit("executable"),
	    "{\"name\":\"projA\",\"path\":\"/r/.venvd/trash/projA~1~2/tree\","
	    "\"executable\":\"/r/.venvd/trash/projA~1~2/tree/bin/python\"}");
	environment_free(env);
}

/* One outside of the root has the path it was given, and what it was made with is sent as it is kept. */
static void elsewhere(void **state)
{
	struct environment *env = environment_new("a");

	(void)state;
	env->state = STATE_READY;
	env->location = xstrdup("/src/a b/.venv");
	env->executable = word("bin/python");
	env->options = word("{\"python\":[\"3.12\"],\"copies\":true}");
	json_equals(env, "/r", environment_field_bit("path") | environment_field_bit("executable") |
	    environment_field_bit("options"), "{\"name\":\"a\",\"path\":\"/src/a b/.venv\","
	    "\"executable\":\"/src/a b/.venv/bin/python\","
	    "\"options\":{\"python\":[\"3.12\"],\"copies\":true}}");
	json_t *record = environment_to_record(env);
	struct environment *again = environment_from_record(record);
	assert_string_equal(again->location, env->location);
	assert_string_equal(again->options, env->options);
	environment_free(again);
	/* What is no option of ours is not sent to anybody. */
	json_object_set_new(record, "options", json_pack("{s:b,s:i}", "copies", 1, "colour", 7));
	again = environment_from_record(record);
	assert_null(again->options);
	environment_free(again);
	json_decref(record);
	environment_free(env);
}

/* Everything but what is the index's alone. */
static void assignments(void **state)
{
	struct environment *env = environment_new("projA"), *from = full();
	_cleanup_text_ struct text a = { 0 }, b = { 0 };

	(void)state;
	env->busy = env;
	env->touched = 7;
	env->problem = word("old");
	environment_assign(env, from);
	environment_add_json(&a, env, "/r", FIELDS_ALL);
	environment_add_json(&b, from, "/r", FIELDS_ALL);
	assert_string_equal(a.data, b.data);
	assert_ptr_equal(env->busy, env);
	assert_int_equal(env->touched, 7);
	environment_free(from);
	environment_free(env);
}

static void selections(void **state)
{
	static const char *const names[] = { "id", "path", "state", "executable", "interpreter",
	    "implementation",
		"version", "prompt", "project", "systemSitePackages", "pip", "origin", "creator",
		"createdAt",
		"deletedAt", "expiresAt", "problem" };
	struct environment *env = full();
	environment_fields all = environment_field_bit("name");

	(void)state;
	assert_int_not_equal(all, 0);
	json_equals(env, "/r", 0, "{\"name\":\"projA\"}");
	json_equals(env, "/r", all, "{\"name\":\"projA\"}");
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		environment_fields bit = environment_field_bit(names[i]);
		assert_int_not_equal(bit, 0);
		assert_int_equal(all & bit, 0);
		all |= bit;
		json_t *value = environment_to_json(env, "/r", bit);
		assert_int_equal(json_object_size(value), 2);
		assert_non_null(json_object_get(value, names[i]));
		json_decref(value);
	}
	assert_int_equal(environment_field_bit("ino"), 0);
	assert_int_equal(environment_field_bit(""), 0);
	json_t *value = environment_to_json(env, "/r\xff", FIELDS_ALL);
	assert_string_equal(json_string_value(json_object_get(value, "path")),
	    "/r\xef\xbf\xbd/projA");
	json_decref(value);
	environment_free(env);
}

static void state_names(void **state)
{
	(void)state;
	for (int s = 0; s < STATE_COUNT; s++) {
		const char *name = environment_state_name((enum environment_state)s);
		assert_int_equal(environment_state_from_name(name), s);
	}
	assert_int_equal(environment_state_from_name("Ready"), -1);
	assert_int_equal(environment_state_from_name(""), -1);
}

static void copies(void **state)
{
	struct environment *env = full();

	(void)state;
	env->busy = env;
	struct environment *copy = environment_copy(env);
	_cleanup_text_ struct text a = { 0 }, b = { 0 };
	environment_add_json(&a, env, "/r", FIELDS_ALL);
	assert_null(copy->busy);
	assert_int_equal(copy->intent, INTENT_DELETE);
	assert_int_equal(copy->ino, 4711);
	assert_int_equal(copy->btime_ns, env->btime_ns);
	assert_int_equal(copy->missing_since, 3);
	assert_string_equal(copy->entry, "projA~1~2");
	environment_free(env);
	environment_add_json(&b, copy, "/r", FIELDS_ALL);
	assert_string_equal(a.data, b.data);
	environment_free(copy);
}

static bool inspect(struct environment *env, const char *json)
{
	json_t *value = json_loads(json, 0, NULL);
	assert_non_null(value);
	bool changed = environment_take_inspection(env, value);

	json_decref(value);
	return changed;
}

static void inspections(void **state)
{
	struct environment *env = environment_new("a");
	const char *found = "{\"name\":\"b\",\"kind\":\"environment\",\"ino\":5,"
	    "\"btime\":6,\"creator\":\"uv\","
	    "\"version\":\"3.12.1\",\"systemSitePackages\":true,"
	    "\"executable\":\"bin/python\",\"createdAt\":77}";

	(void)state;
	env->missing_since = 9;
	env->intent = INTENT_CREATE;
	assert_false(inspect(env, "{\"name\":\"a\",\"kind\":\"absent\"}"));
	assert_false(inspect(env, "{\"name\":\"a\",\"kind\":\"other\",\"ino\":1}"));
	assert_false(inspect(env, "{}"));
	assert_int_equal(env->state, STATE_CREATING);
	assert_int_equal(env->ino, 0);
	assert_true(inspect(env, found));
	assert_false(inspect(env, found));
	assert_string_equal(env->name, "a");
	assert_int_equal(env->state, STATE_READY);
	assert_int_equal(env->intent, INTENT_CREATE);
	assert_int_equal(env->ino, 5);
	assert_int_equal(env->btime_ns, 6);
	assert_int_equal(env->missing_since, 0);
	assert_int_equal(env->created_at, 77);
	assert_int_equal(env->system_site_packages, 1);
	assert_int_equal(env->pip, -1);
	assert_string_equal(env->creator, "uv");
	assert_string_equal(env->executable, "bin/python");
	assert_null(env->prompt);

	assert_true(inspect(env,
	    "{\"kind\":\"environment\",\"broken\":true,\"problem\":\"gone\",\"createdAt\":88}"));
	assert_int_equal(env->state, STATE_BROKEN);
	assert_string_equal(env->problem, "gone");
	assert_int_equal(env->created_at, 77);
	assert_null(env->creator);
	assert_int_equal(env->system_site_packages, -1);
	assert_true(inspect(env, "{\"kind\":\"foreign\",\"problem\":\"gone\"}"));
	assert_int_equal(env->state, STATE_FOREIGN);
	assert_true(inspect(env, "{\"kind\":\"environment\",\"pip\":false}"));
	assert_int_equal(env->state, STATE_READY);
	assert_null(env->problem);
	assert_int_equal(env->pip, 0);
	environment_free(env);
}

/* One key alone is enough to be a change. */
static void every_change_is_seen(void **state)
{
	static const char *const texts[] = { "executable", "interpreter", "implementation",
	    "version", "prompt", "project",
		"creator", "problem", "systemSitePackages", "pip", "ino", "btime", "createdAt" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		struct environment *env = environment_new("a");
		env->state = STATE_READY;
		json_t *value = i < 8 ? json_pack("{s:s,s:s}", "kind", "environment", texts[i],
		    "x") :
		    i < 10 ? json_pack("{s:s,s:b}", "kind", "environment", texts[i], 1) :
		    json_pack("{s:s,s:i}", "kind", "environment", texts[i], 7);
		assert_true(environment_take_inspection(env, value));
		assert_false(environment_take_inspection(env, value));
		json_decref(value);
		environment_free(env);
	}
}

static void records(void **state)
{
	struct environment *env = full();
	json_t *record = environment_to_record(env);
	_cleanup_free_ char *text = json_dumps(record, 0);

	(void)state;
	json_decref(record);
	record = json_loads(text, 0, NULL);
	struct environment *again = environment_from_record(record);
	assert_non_null(again);
	assert_int_equal(again->state, STATE_TRASHED);
	assert_int_equal(again->intent, INTENT_NONE);
	assert_string_equal(again->id, env->id);
	assert_string_equal(again->entry, env->entry);
	assert_int_equal(again->ino, env->ino);
	assert_int_equal(again->btime_ns, env->btime_ns);
	again->state = env->state;
	_cleanup_text_ struct text a = { 0 }, b = { 0 };
	environment_add_json(&a, env, "/r", FIELDS_ALL);
	environment_add_json(&b, again, "/r", FIELDS_ALL);
	assert_string_equal(a.data, b.data);
	json_decref(record);
	environment_free(env);
	environment_free(again);
}

static void unfit_records(void **state)
{
	static const char *const unfit[] = {
		"[]", "{}", "{\"name\":\"a\"}", "{\"id\":\"0123456789abcdef\"}",
		"{\"id\":\"0123456789abcdeg\",\"name\":\"a\"}",
		"{\"id\":\"0123456789abcde\",\"name\":\"a\"}",
		"{\"id\":\"0123456789abcdef0\",\"name\":\"a\"}", "{\"id\":7,\"name\":\"a\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"../a\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":1}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"pip\":1}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"version\":3}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"ino\":\"5\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"deletedAt\":-1}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"origin\":\"stolen\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"entry\":\"../x\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"entry\":\"..\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"entry\":\"a/b\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"entry\":\"\"}",
		"{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"location\":\"b\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(unfit); i++) {
		json_t *record = json_loads(unfit[i], 0, NULL);
		assert_non_null(record);
		assert_null(environment_from_record(record));
		json_decref(record);
	}
	assert_null(environment_from_record(NULL));
	json_t *least = json_loads("{\"id\":\"0123456789abcdef\",\"name\":\"a\",\"future\":[1]}", 0,
	    NULL);
	struct environment *env = environment_from_record(least);
	assert_non_null(env);
	assert_int_equal(env->pip, -1);
	environment_free(env);
	json_decref(least);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(fresh),
		cmocka_unit_test(everything),
		cmocka_unit_test(elsewhere),
		cmocka_unit_test(assignments),
		cmocka_unit_test(selections),
		cmocka_unit_test(state_names),
		cmocka_unit_test(copies),
		cmocka_unit_test(inspections),
		cmocka_unit_test(every_change_is_seen),
		cmocka_unit_test(records),
		cmocka_unit_test(unfit_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

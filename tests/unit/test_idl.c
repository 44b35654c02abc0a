/* SPDX-License-Identifier: MIT */
#include <string.h>
#include "unit.h"
#include "environment.h"
#include "errors.h"
#include "idl.h"

static struct idl *venvd, *service;

static struct idl *parsed(const char *text)
{
	char *why = NULL;
	struct idl *idl = idl_parse(text, &why);

	if (why)
		print_error("%s\n", why);
	assert_non_null(idl);
	assert_null(why);
	return idl;
}

static int parse_embedded(void **state)
{
	(void)state;
	venvd = parsed(idl_text_io_venvd);
	service = parsed(idl_text_org_varlink_service);
	return 0;
}

static int free_embedded(void **state)
{
	(void)state;
	idl_free(venvd);
	idl_free(service);
	idl_free(NULL);
	return 0;
}

static void embedded(void **state)
{
	(void)state;
	assert_string_equal(idl_name(venvd), "io.venvd");
	assert_string_equal(idl_name(service), "org.varlink.service");
	assert_int_equal(idl_method_count(service), 2);
	assert_string_equal(idl_method_name(idl_method_at(service, 0)), "GetInfo");
	for (size_t i = 0; i < idl_method_count(venvd); i++) {
		const struct idl_method *method = idl_method_at(venvd, i);
		assert_ptr_equal(idl_method(venvd, idl_method_name(method)), method);
	}
	assert_non_null(idl_method(venvd, "Create"));
	assert_null(idl_method(venvd, "create"));
	assert_null(idl_method(venvd, "Environment"));
	assert_null(idl_method(venvd, "AlreadyExists"));
	assert_non_null(strstr(idl_text_io_venvd, "\n# [Supports 'more' flag]\nmethod List("));
}

/* errors.c and the descriptions say the same. */
static void errors_are_described(void **state)
{
	const struct { const char *text, *prefix; } both[] = {
		{ idl_text_io_venvd, "io.venvd." },
		{ idl_text_org_varlink_service, "org.varlink.service." },
	};
	size_t described = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(both); i++)
		for (const char *p = both[i].text; (p = strstr(p, "\nerror ")); p++) {
			_cleanup_free_ char *name = xasprintf("%s%.*s", both[i].prefix,
			    (int)strcspn(p + 7, " ("), p + 7);
			assert_int_not_equal(error_from_name(name), ERROR_UNKNOWN);
			described++;
		}
	assert_int_equal(described, ERROR_UNKNOWN - ERROR_NONE - 1);
}

static void accepted(void **state)
{
	static const char *const texts[] = {
		"interface a.b",
		"interface a.b\n",
		"# c\ninterface a-c.b2.3d\n\n# d\n\nmethod M() -> ()\n",
		("interface a.b\nmethod M(type: int, error: ?string, a_b: bool) -> "
		"(x: []T, y: [string]T, z: ?[]string)\ntype T (\n  # field\n  f: float,\n  # other\n\n"
		"  o: object, # behind a comma\n  t: ?T\n)\nerror E ()"),
		("interface a.b\ntype E (one, two)\n"
		"type S (e: E, a: (x: int, y: (p: ?[]E, q: [string](m: int))), i: (l, r))"),
		"interface a.b\n# \xc3\xa4\ttab\nerror\tE\t(\tx\t:\tint\t)",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++)
		idl_free(parsed(texts[i]));
}

static const struct {
	const char *text, *why;
} refusals[] = {
	{ "", "line 1: expected 'interface'" },
	{ "method M() -> ()", "line 1: expected 'interface'" },
	{ "interfacea.b", "expected 'interface'" },
	{ "interface a", "name of an interface" },
	{ "interface a.", "name of an interface" },
	{ "interface a..b", "name of an interface" },
	{ "interface 1.b", "name of an interface" },
	{ "interface a-.b", "name of an interface" },
	{ "interface a.b-", "name of an interface" },
	{ "interface -a.b", "name of an interface" },
	{ "interface a.b type T (x: int)", "beginning of a line" },
	{ "interface a.b\ninterface c.d", "line 2: expected 'type', 'method' or 'error'" },
	{ "interface a.b\r\n", "line 1" },
	{ "interface a.b\n# c\r\n", "carriage return" },
	{ "interface a.b\nmethod M() -> () # c", "line 2" },
	{ "interface a.b\ntype T (x: int)method M() -> ()", "line" },
	{ "interface a.b\ntype T ()", "empty type" },
	{ "interface a.b\ntype T (x: ())", "empty type" },
	{ "interface a.b\ntype T (one)", "single value" },
	{ "interface a.b\ntype T (x: (one))", "single value" },
	{ "interface a.b\ntype t (x: int)", "capital" },
	{ "interface a.b\nmethod m() -> ()", "capital" },
	{ "interface a.b\nmethod M()", "'->'" },
	{ "interface a.b\nmethod M() -> (a, b)", "not an enum" },
	{ "interface a.b\nerror E", "'('" },
	{ "interface a.b\nerror E (a, b)", "not an enum" },
	{ "interface a.b\ntype T (x: int,)", "name of a field" },
	{ "interface a.b\ntype T (x: int,\n)", "line 3: expected the name of a field" },
	{ "interface a.b\ntype T (x: int y: int)", "')'" },
	{ "interface a.b\ntype T (x: int , y: int)", "blank before a comma" },
	{ "interface a.b\ntype T (x: int # c\n)", "')'" },
	{ "interface a.b\ntype T (x: # c\n int)", "expected a type" },
	{ "interface a.b\ntype T ( # c\n x: int)", "own line" },
	{ "interface a.b\ntype T # c\n(x: int)", "'('" },
	{ "interface a.b\ntype T (x int)", "'" },
	{ "interface a.b\ntype T (a, b: int)", "','" },
	{ "interface a.b\ntype T (a: int, b)", "':'" },
	{ "interface a.b\ntype T (1: int)", "name of a field" },
	{ "interface a.b\ntype T (_a: int)", "name of a field" },
	{ "interface a.b\ntype T (a_: int)", "'" },
	{ "interface a.b\ntype T (a__b: int)", "'" },
	{ "interface a.b\ntype T (a-b: int)", "'" },
	{ "interface a.b\ntype T (x: int, x: bool)", "'x' is there twice" },
	{ "interface a.b\ntype T (one, one)", "'one' is there twice" },
	{ "interface a.b\ntype T (x: any)", "expected a type" },
	{ "interface a.b\ntype T (x: integer)", "expected a type" },
	{ "interface a.b\ntype T (x: int_)", "expected a type" },
	{ "interface a.b\ntype T (x: [][]int)", "inside a container" },
	{ "interface a.b\ntype T (x: [string][]int)", "inside a container" },
	{ "interface a.b\ntype T (x: [][string]int)", "inside a container" },
	{ "interface a.b\ntype T (x: ?[]?string)", "inside a container" },
	{ "interface a.b\ntype T (x: [string]())", "empty type" },
	{ "interface a.b\ntype T (x: ??int)", "expected a type" },
	{ "interface a.b\ntype T (x: [int]int)", "expected a type" },
	{ "interface a.b\n\ntype T (\n x: U)", "line 4: there is no type 'U'" },
	{ "interface a.b\nmethod M(x: M) -> ()", "there is no type 'M'" },
	{ "interface a.b\ntype T (x: int)\nmethod T() -> ()",
	"line 3: 'T' is there twice" },
	{ "interface a.b\nmethod M() -> ()\nerror M ()", "'M' is there twice" },
	{ "interface a.b\nerror E ()\nerror E ()", "'E' is there twice" },
	{ "interface a.b\nerror E ()\ntype E (x: int)", "'E' is there twice" },
	{ "interface a.b\ntype T (x: int", "')'" },
	{ "interface a.b\ntype T (", "name of a field" },
	{ "interface a.b\ntype ", "capital" },
	{ "interface a.b\ntype", "expected 'type'" },
	{ "interface a.b\nmethod M() -> (x: int", "')'" },
	{ "interface a.b\nmethod M(x: \xc3\xa4) -> ()", "expected a type" },
};

static void refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(refusals); i++) {
		char *why = NULL;
		struct idl *idl = idl_parse(refusals[i].text, &why);
		if (idl || !why || !strstr(why, refusals[i].why))
			print_error("case %zu: %s: %s\n", i, refusals[i].text, why ? why : "taken");
		assert_null(idl);
		assert_non_null(why);
		assert_int_equal(strncmp(why, "line ", 5), 0);
		assert_non_null(strstr(why, refusals[i].why));
		free(why);
	}
}

static void bounded_depth(void **state)
{
	(void)state;
	for (int depth = 1; depth <= 100000; depth *= 10) {
		_cleanup_text_ struct text t = { 0 };
		text_adds(&t, "interface a.b\ntype T ");
		for (int i = 0; i < depth; i++)
			text_adds(&t, "(a: ");
		text_adds(&t, "int");
		for (int i = 0; i < depth; i++)
			text_adds(&t, ")");
		_cleanup_free_ char *why = NULL;
		struct idl *idl = idl_parse(t.data, &why);
		assert_int_equal(idl != NULL, depth == 1);
		if (!idl)
			assert_non_null(strstr(why, "nested deeper"));
		idl_free(idl);
	}
}

/* Every prefix of a description, and every one with a byte changed, is taken or refused; nothing
 * else. */
static void damaged_descriptions(void **state)
{
	size_t len = strlen(idl_text_io_venvd);
	_cleanup_free_ char *text = xstrdup(idl_text_io_venvd);
	uint64_t seed = 3;

	(void)state;
	for (size_t i = 0; i < len; i += 13) {
		char *why = NULL, kept = text[i];
		text[i] = '\0';
		struct idl *idl = idl_parse(text, &why);
		assert_int_equal(idl != NULL, why == NULL);
		idl_free(idl);
		free(why);
		why = NULL;
		text[i] = (char)(unit_random(&seed) | 1);
		idl = idl_parse(text, &why);
		assert_int_equal(idl != NULL, why == NULL);
		idl_free(idl);
		free(why);
		text[i] = kept;
	}
}

static void call_gives(const char *method, const char *json, const char *expected)
{
	json_t *parameters = json ? json_loads(json, 0, NULL) : NULL;
	assert_int_equal(json != NULL, parameters != NULL);
	_cleanup_free_ char *path = idl_check_call(venvd, idl_method(venvd, method), parameters);

	if (expected)
		assert_string_equal(path ? path : "(it fits)", expected);
	else
		assert_string_equal(path ? path : "", "");
	json_decref(parameters);
}

static void right_calls(void **state)
{
	(void)state;
	call_gives("Status", NULL, NULL);
	call_gives("Status", "{}", NULL);
	call_gives("List", NULL, NULL);
	call_gives("List", "{\"name\":null,\"glob\":\"a*\",\"state\":\"ready\","
	    "\"fields\":[\"name\",\"id\"]}", NULL);
	call_gives("List", "{\"fields\":[]}", NULL);
	call_gives("Get", "{\"name\":\"\"}", NULL);
	call_gives("Create", "{\"name\":\"a\",\"withoutPip\":false,"
	    "\"caller\":{\"cwd\":null,\"umask\":18,"
	    "\"environment\":{\"A\":\"1\",\"B\":\"\"}}}", NULL);
	call_gives("Create", "{\"requestId\":null,\"name\":\"a\",\"caller\":{}}", NULL);
}

static void wrong_calls(void **state)
{
	(void)state;
	call_gives("Status", "{\"x\":1}", "x");
	call_gives("Status", "{\"x\":null}", "x");
	call_gives("Get", NULL, "name");
	call_gives("Get", "{}", "name");
	call_gives("Get", "{\"name\":null}", "name");
	call_gives("Get", "{\"name\":7}", "name");
	call_gives("Get", "{\"Name\":\"a\"}", "Name");
	call_gives("Get", "{\"name\":\"a\",\"bogus\":1}", "bogus");
	call_gives("List", "{\"state\":\"Ready\"}", "state");
	call_gives("List", "{\"state\":1}", "state");
	call_gives("List", "{\"fields\":\"name\"}", "fields");
	call_gives("List", "{\"fields\":[\"a\",1]}", "fields");
	call_gives("List", "{\"fields\":[null]}", "fields");
	call_gives("List", "{\"fields\":{\"a\":\"b\"}}", "fields");
	call_gives("Create", "{\"name\":\"a\",\"withoutPip\":1}", "withoutPip");
	call_gives("Create", "{\"name\":\"a\",\"withoutPip\":\"true\"}", "withoutPip");
	call_gives("Create", "{\"name\":\"a\",\"caller\":[]}", "caller");
	call_gives("Create", "{\"name\":\"a\",\"caller\":{\"umask\":\"022\"}}", "caller.umask");
	call_gives("Create", "{\"name\":\"a\",\"caller\":{\"umask\":1.5}}", "caller.umask");
	call_gives("Create", "{\"name\":\"a\",\"caller\":{\"gid\":1}}", "caller.gid");
	call_gives("Create", "{\"name\":\"a\",\"caller\":{\"environment\":[]}}",
	    "caller.environment");
	call_gives("Create", "{\"name\":\"a\",\"caller\":{\"environment\":{\"A\":1}}}",
	    "caller.environment");
	call_gives("Create", "{\"caller\":{\"umask\":true},\"bogus\":1}", "caller.umask");
}

static void other_types(void **state)
{
	static const struct { const char *json, *expected; } cases[] = {
		{ "{\"f\":1.5,\"o\":{},\"t\":[]}", NULL },
		{ "{\"f\":1,\"o\":{\"any\":[1]},\"t\":[]}", NULL },
		{ "{\"f\":\"1\",\"o\":{},\"t\":[]}", "f" }, { "{\"f\":1,\"o\":[],\"t\":[]}", "o" },
		{ "{\"f\":1,\"o\":{},\"t\":[{}]}", "t.v" }, { "{\"f\":1,\"o\":{}}", "t" },
		{ "{\"f\":1,\"o\":{},\"t\":[{\"v\":{\"a\":{\"n\":true}}}]}", NULL },
		{ "{\"f\":1,\"o\":{},\"t\":[{\"v\":{\"a\":{\"n\":true},\"b\":{\"n\":1}}}]}",
		"t.v.n" },
		{ "{\"f\":1,\"o\":{},\"t\":[{\"v\":{},\"r\":{\"v\":{},\"r\":{\"v\":{},\"r\":1}}}]}",
		"t.r.r.r" },
	};
	struct idl *idl = parsed("interface a.b\ntype T (v: [string](n: bool), r: ?T)\n"
	    "method M(f: float, o: object, t: []T) -> (x: int)\nerror E (n: int)");

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		json_t *p = json_loads(cases[i].json, 0, NULL);
		_cleanup_free_ char *path = idl_check_call(idl, idl_method(idl, "M"), p);
		assert_string_equal(path ? path : "", cases[i].expected ? cases[i].expected : "");
		json_decref(p);
	}
	json_t *p = json_pack("{s:i}", "x", 1);
	_cleanup_free_ char *reply = idl_check_reply(idl, idl_method(idl, "M"), p);
	assert_null(reply);
	_cleanup_free_ char *error = idl_check_error(idl, "E", p);
	assert_string_equal(error, "x");
	_cleanup_free_ char *none = idl_check_error(idl, "F", p);
	assert_string_equal(none, "F");
	_cleanup_free_ char *empty = idl_check_reply(idl, idl_method(idl, "M"), NULL);
	assert_string_equal(empty, "x");
	json_decref(p);
	idl_free(idl);
}

/* What environment.c writes is what the description says, field by field. */
static void environments_fit(void **state)
{
	struct environment *env = environment_new("projA");

	(void)state;
	env->executable = word("bin/python");
	env->interpreter = word("/usr/bin/python3");
	env->implementation = word("cpython");
	env->version = word("3.11.2");
	env->prompt = word("p");
	env->project = word("/p");
	env->origin = word("created");
	env->creator = word("venv");
	env->problem = word("none");
	env->system_site_packages = 0;
	env->pip = 1;
	env->created_at = env->deleted_at = env->expires_at = 5;
	for (int s = 0; s < STATE_COUNT; s++) {
		env->state = (enum environment_state)s;
		json_t *reply = json_object();
		json_object_set_new(reply, "environment",
		    environment_to_json(env, "/r", FIELDS_ALL));
		assert_int_equal(json_object_size(json_object_get(reply, "environment")), 18);
		_cleanup_free_ char *path = idl_check_reply(venvd, idl_method(venvd, "Get"), reply);
		assert_null(path);
		json_decref(reply);
	}
	environment_free(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(embedded),
		cmocka_unit_test(errors_are_described),
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(bounded_depth),
		cmocka_unit_test(damaged_descriptions),
		cmocka_unit_test(right_calls),
		cmocka_unit_test(wrong_calls),
		cmocka_unit_test(other_types),
		cmocka_unit_test(environments_fit),
	};
	return cmocka_run_group_tests(tests, parse_embedded, free_embedded);
}

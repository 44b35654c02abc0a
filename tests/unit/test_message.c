/* SPDX-License-Identifier: MIT */
#include <string.h>
#include "bounds.h"
#include "message.h"
#include "unit.h"

static const char *parse(const char *text, struct call *ret)
{
	return call_parse(text, strlen(text), ret);
}

/* What each existing client really sends. */
static void clients_calls(void **state)
{
	static const struct { const char *text; bool parameters, more; } calls[] = {
		{ "{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{}}", true, false },
		{ "{\"method\":\"org.varlink.service.GetInfo\"}", false, false },
		{ "{\"method\":\"io.venvd.List\",\"more\":true}", false, true },
		{ "{\"method\": \"io.venvd.List\", \"more\": false, \"parameters\": {}}", true,
		false },
		{ "{\"method\":\"io.venvd.List\",\"more\":true,\"parameters\":{}}", true, true },
		{ "{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":null}", false,
		false },
		{ " \n{\"method\":\"io.venvd.List\",\"oneway\":null,\"more\":true}\n", false,
		true },
		{ "{\"method\":\"a.B\",\"com.example.trace\":{\"x\":1}}", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(calls); i++) {
		struct call call;
		assert_null(parse(calls[i].text, &call));
		assert_non_null(call.method);
		assert_int_equal(call.parameters != NULL, calls[i].parameters);
		assert_int_equal(call.more, calls[i].more);
		assert_false(call.oneway || call.upgrade);
		call_done(&call);
	}
}

static void no_calls(void **state)
{
	static const char *const texts[] = {
		"", " ", "null", "1", "[]", "\"x\"", "{}", "{", "{\"method\":\"a.B\"",
		"{\"method\":\"a.B\"}}",
		"{\"method\":1}", "{\"method\":null}", "{\"method\":[\"a.B\"]}",
		"{\"method\":\"a.B\",\"method\":\"a.B\"}",
		"{\"method\":\"a.B\",\"parameters\":{\"x\":1,\"x\":1}}",
		"{\"method\":\"a.B\",\"parameters\":[]}",
		"{\"method\":\"a.B\",\"parameters\":\"x\"}",
		"{\"method\":\"a.B\",\"more\":1}", "{\"method\":\"a.B\",\"oneway\":\"true\"}",
		"{\"method\":\"a.B\",\"more\":true,\"oneway\":true}",
		"{\"method\":\"a.B\",\"upgrade\":true,\"oneway\":true}",
		"{\"method\":\"a.B\",\"unknown\":1}", "{\"method\":\"a.B\",\"parameter\":{}}",
		"{\"method\":\"a.B\\u0000\"}", "{\"method\":\"a.\xff\"}",
		"{\"method\":\"\xed\xa0\x80\"}",
		"{\"method\":\"\\ud800\"}", "{'method':'a.B'}", "{\"method\":\"a.B\",}",
		"{\"method\":\"a.B\"} x",
		"{\"method\":\"a.B\",\"parameters\":{\"x\":99999999999999999999}}",
		"{\"method\":\"a.B\",\"parameters\":{\"x\":NaN}}",
		"\xef\xbb\xbf{\"method\":\"a.B\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
		struct call call;
		assert_non_null(parse(texts[i], &call));
	}
	struct call call;
	assert_non_null(call_parse("{\"method\":\"a.B\"}\0", 17, &call));
}

static void flags(void **state)
{
	struct call call;

	(void)state;
	assert_null(parse("{\"method\":\"a.B\",\"oneway\":true,\"more\":false}", &call));
	assert_true(call.oneway && !call.more && !call.upgrade);
	call_done(&call);
	assert_null(parse("{\"method\":\"a.B\",\"upgrade\":true}", &call));
	assert_true(call.upgrade && !call.more && !call.oneway);
	call_done(&call);
}

static char *nested(size_t depth)
{
	struct text t = { 0 };

	text_adds(&t, "{\"method\":\"a.B\",\"parameters\":");
	for (size_t i = 1; i < depth; i++)
		text_adds(&t, i % 2 ? "{\"a\":" : "[");
	text_adds(&t, "1");
	for (size_t i = depth - 1; i > 0; i--)
		text_adds(&t, i % 2 ? "}" : "]");
	text_adds(&t, "}");
	return t.data;
}

static void depth(void **state)
{
	struct call call;

	(void)state;
	_cleanup_free_ char *fits = nested(LIMIT_JSON_DEPTH);
	assert_null(parse(fits, &call));
	call_done(&call);
	_cleanup_free_ char *deeper = nested(LIMIT_JSON_DEPTH + 1);
	assert_non_null(strstr(parse(deeper, &call), "nested deeper than 16"));
	_cleanup_free_ char *hostile = nested(2000);
	assert_non_null(strstr(parse(hostile, &call), "nested deeper than 16"));
	/* Brackets in a string are none, whatever is escaped there. */
	assert_null(message_scan("\"[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\\\\\"", 33));
	assert_null(message_scan("\"\\", 2));
	assert_null(message_scan("]]]]]]{}", 8));
	assert_false(message_is_deeper(hostile, strlen(hostile), 2000));
	assert_true(message_is_deeper(hostile, strlen(hostile), 1999));
}

static void tokens(void **state)
{
	(void)state;
	for (size_t count = LIMIT_JSON_TOKENS - 1; count <= LIMIT_JSON_TOKENS; count++) {
		_cleanup_text_ struct text t = { 0 };
		text_adds(&t, "[");
		for (size_t i = 0; i < count; i++)
			text_adds(&t, i == 0 ? "1" : i % 4 == 1 ? ",\"x y\"" : i % 4 == 2 ?
			    ",-1.5e+3" :
			    i % 4 == 3 ? ",null" : ", []");
		text_adds(&t, "]");
		const char *why = message_scan(t.data, t.len);
		assert_int_equal(why == NULL, count < LIMIT_JSON_TOKENS);
	}
}

static void reply_equals(struct text *out, const char *expected)
{
	assert_string_equal(out->data, expected);
	assert_int_equal(out->len, strlen(expected) + 1);
	text_clear(out);
}

static void replies(void **state)
{
	_cleanup_text_ struct text out = { 0 };

	(void)state;
	reply_add(&out, NULL, false);
	reply_equals(&out, "{\"parameters\":{}}");
	reply_add(&out, NULL, true);
	reply_equals(&out, "{\"parameters\":{},\"continues\":true}");
	json_t *p = json_pack("{s:s, s:{s:i}, s:[{}, b, [], i], s:f}", "a", "x\n\"", "o", "i", -5,
	    "l", 1, 7,
	    "r", 1.5);
	assert_non_null(p);
	reply_add(&out, p, true);
	reply_equals(&out, "{\"parameters\":{\"a\":\"x\\n\\\"\",\"o\":{\"i\":-5},"
	    "\"l\":[{},true,[],7],\"r\":1.5},"
	    "\"continues\":true}");
	json_decref(p);
	p = json_pack("{s:s}", "name", "projA");
	reply_add_error(&out, ERROR_ALREADY_EXISTS, p);
	reply_equals(&out, "{\"error\":\"io.venvd.AlreadyExists\","
	    "\"parameters\":{\"name\":\"projA\"}}");
	json_decref(p);
	reply_add_error(&out, ERROR_EXPECTED_MORE, NULL);
	reply_equals(&out, "{\"error\":\"org.varlink.service.ExpectedMore\",\"parameters\":{}}");
}

static void error_names(void **state)
{
	(void)state;
	for (enum error_code code = ERROR_NONE + 1; code < ERROR_UNKNOWN; code++) {
		assert_non_null(strrchr(error_name(code), '.'));
		assert_int_equal(error_from_name(error_name(code)), code);
		assert_int_not_equal(error_exit_status(code), EXIT_DONE);
	}
	assert_int_equal(error_from_name("io.venvd.FromTheFuture"), ERROR_UNKNOWN);
	assert_int_equal(error_from_name(""), ERROR_UNKNOWN);
	assert_int_equal(error_from_name(NULL), ERROR_NONE);
	assert_int_equal(error_exit_status(ERROR_NONE), EXIT_DONE);
	assert_int_equal(error_exit_status(ERROR_NO_SUCH_ENVIRONMENT), EXIT_NOT_FOUND);
	assert_int_equal(error_exit_status(ERROR_ALREADY_EXISTS), EXIT_EXISTS);
	assert_int_equal(error_exit_status(ERROR_BUSY), EXIT_IN_USE);
	assert_int_equal(error_exit_status(ERROR_PERMISSION_DENIED), EXIT_PERMISSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients_calls),
		cmocka_unit_test(no_calls),
		cmocka_unit_test(flags),
		cmocka_unit_test(depth),
		cmocka_unit_test(tokens),
		cmocka_unit_test(replies),
		cmocka_unit_test(error_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

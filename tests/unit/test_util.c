/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "unit.h"

static void text_grows(void **state)
{
	_cleanup_text_ struct text t = { 0 };

	(void)state;
	for (int i = 0; i < 1000; i++)
		text_addf(&t, "%d,", i);
	assert_int_equal(t.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_int_equal(strlen(t.data), t.len);
	text_clear(&t);
	assert_string_equal(t.data, "");
	text_adds(&t, "ab");
	text_add(&t, "c\0d", 3);
	assert_memory_equal(t.data, "abc\0d", 6);
	text_done(&t);
	assert_null(t.data);
}

static void json_string_equals(const char *in, const char *expected)
{
	_cleanup_text_ struct text t = { 0 };

	text_add_json(&t, in);
	assert_string_equal(t.data, expected);
	json_t *value = json_loads(t.data, JSON_DECODE_ANY, NULL);
	assert_non_null(value);
	json_decref(value);
}

#define BAD "\xef\xbf\xbd"

static void json_strings(void **state)
{
	(void)state;
	json_string_equals("", "\"\"");
	json_string_equals("a\"b\\c/", "\"a\\\"b\\\\c/\"");
	json_string_equals("\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
	json_string_equals("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8d",
	    "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8d\"");
	json_string_equals("x\xff" "y", "\"x" BAD "y\"");
	json_string_equals("\xc0\xaf", "\"" BAD BAD "\"");                /* overlong */
	json_string_equals("\xe0\x80\xaf", "\"" BAD BAD BAD "\"");        /* overlong */
	json_string_equals("\xed\xa0\x80", "\"" BAD BAD BAD "\"");        /* surrogate */
	json_string_equals("\xf4\x90\x80\x80", "\"" BAD BAD BAD BAD "\""); /* beyond the end */
	json_string_equals("\xe2\x82", "\"" BAD BAD "\"");                /* cut short */
	json_string_equals("\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\"");
}

static void json_strings_of_any_bytes(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		char in[12] = "";
		_cleanup_text_ struct text t = { 0 };
		for (size_t i = 0; i < 11; i++)
			in[i] = (char)unit_random(&seed);
		text_add_json(&t, in);
		json_t *value = json_loads(t.data, JSON_DECODE_ANY, NULL);
		assert_non_null(value);
		json_decref(value);
	}
}

static void printable_equals(const char *in, const char *expected)
{
	_cleanup_free_ char *out = text_printable(in);

	assert_string_equal(out, expected);
}

static void printable(void **state)
{
	(void)state;
	printable_equals("", "");
	printable_equals("projA \xc3\xa4\xe2\x82\xac", "projA \xc3\xa4\xe2\x82\xac");
	printable_equals("\x1b[31m\n\t\x7f", "\\x1b[31m\\x0a\\x09\\x7f");
	printable_equals("\xc2\x9b", "\\xc2\\x9b");                       /* C1: CSI */
	printable_equals("a\xe2\x80\xae" "b", "a\\xe2\\x80\\xae" "b");    /* right-to-left override */
	printable_equals("\xe2\x81\xa6\xe2\x80\x8f\xd8\x9c",
	    "\\xe2\\x81\\xa6\\xe2\\x80\\x8f\\xd8\\x9c");
	printable_equals("\xe2\x80\xa7\xe2\x81\xaa", "\xe2\x80\xa7\xe2\x81\xaa");
	printable_equals("\xff\xc3", "\\xff\\xc3");
}

/* It says the same, to whoever reads it as JSON. */
static void printable_json(void **state)
{
	(void)state;
	_cleanup_free_ char *same = text_printable_json("{\n  \"a\": \"\\u001b \xc3\xa9\"}");
	assert_string_equal(same, "{\n  \"a\": \"\\u001b \xc3\xa9\"}");
	_cleanup_free_ char *made = text_printable_json("\"\x7f\xc2\x9b\xe2\x80\xae\xff\"");
	assert_string_equal(made, "\"\\u007f\\u009b\\u202e\xef\xbf\xbd\"");
}

static void reads_and_writes(void **state)
{
	_cleanup_fd_ int fd = memfd_create("unit", MFD_CLOEXEC);
	_cleanup_text_ struct text in = { 0 }, out = { 0 };

	(void)state;
	for (int i = 0; i < 20000; i++)
		text_addf(&in, "%05d", i);
	assert_int_equal(fd_read_all(fd, 0, &out), 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(fd_write_all(fd, in.data, in.len), 0);
	assert_int_equal(fd_read_all(fd, in.len, &out), 0);
	assert_int_equal(out.len, in.len);
	assert_memory_equal(out.data, in.data, in.len);
	text_clear(&out);
	errno = 0;
	assert_int_equal(fd_read_all(fd, in.len - 1, &out), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(out.len, 0);
	assert_int_equal(fd_read_all(-1, 1, &out), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(fd_write_all(-1, "x", 1), -1);
	assert_int_equal(errno, EBADF);
}

static void full_device(void **state)
{
	_cleanup_fd_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(fd_write_all(fd, "x", 1), -1);
	assert_int_equal(errno, ENOSPC);
}

static void identifiers(void **state)
{
	char a[17], b[17];

	(void)state;
	id_new(a);
	id_new(b);
	assert_int_equal(strlen(a), 16);
	assert_int_equal(strspn(a, "0123456789abcdef"), 16);
	assert_string_not_equal(a, b);
}

static void memory(void **state)
{
	(void)state;
	assert_null(xstrdup(NULL));
	_cleanup_free_ char *a = xstrndup("abcdef", 3);
	assert_string_equal(a, "abc");
	_cleanup_free_ char *b = xstrndup("ab", 10);
	assert_string_equal(b, "ab");
	_cleanup_free_ char *c = xasprintf("%s-%d", "x", 7);
	assert_string_equal(c, "x-7");
	_cleanup_free_ int *d = xcalloc(4, sizeof(*d));
	assert_int_equal(d[0] | d[1] | d[2] | d[3], 0);
	free(xmalloc(0));
}

static void clocks(void **state)
{
	(void)state;
	assert_true(now_us() > 1600000000LL * 1000000);
	int64_t before = monotonic_us();
	assert_true(monotonic_us() >= before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_grows),
		cmocka_unit_test(json_strings),
		cmocka_unit_test(json_strings_of_any_bytes),
		cmocka_unit_test(printable),
		cmocka_unit_test(printable_json),
		cmocka_unit_test(reads_and_writes),
		cmocka_unit_test(full_device),
		cmocka_unit_test(identifiers),
		cmocka_unit_test(memory),
		cmocka_unit_test(clocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

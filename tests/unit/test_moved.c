/* SPDX-License-Identifier: MIT */
/* What becomes of a text when its environment moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "moved.h"
#include "record.h"
#include "util.h"

typedef bool moved_fn(const struct moved *, const char *, size_t, struct text *);

static const char *const froms[] = { "/r/old", "/real/old" };

/* A copy of the exact size lets a sanitizer see any reading past the end. */
static void check(const struct moved *m, moved_fn *fn, const char *text, const char *want)
{
	size_t len = strlen(text);
	char *copy = xmalloc(len ? len : 1);
	_cleanup_text_ struct text out = { 0 };
	memcpy(copy, text, len);
	bool changed = fn(m, copy, len, &out);
	assert_string_equal(out.data ? out.data : "", want);
	assert_int_equal(changed, strcmp(text, want) != 0);
	free(copy);
	/* Doing it again changes nothing more. */
	_cleanup_text_ struct text again = { 0 };
	assert_false(fn(m, out.data ? out.data : "", out.len, &again));
}

static void test_paths(void **state)
{
	(void)state;
	struct moved *m = moved_new(froms, 2, "/r/older", NULL, NULL);
	check(m, moved_text, "", "");
	check(m, moved_text, "/r/old", "/r/older");
	check(m, moved_text, "x=/r/old/bin:/real/old/bin\n", "x=/r/older/bin:/r/older/bin\n");
	check(m, moved_text, "'/r/old' \"/r/old\" file:///r/old,/r/old;", "'/r/older' \"/r/older\" file:///r/older,/r/older;");
	check(m, moved_text, "-L/r/old/lib -I/r/old/include --x/r/old a-I/r/old", "-L/r/older/lib -I/r/older/include --x/r/old a-I/r/old");
	/* Others, whose names or directories begin or end like it. */
	check(m, moved_text, "/r/older /r/old.d /r/old-1 /r/old_ /r/old~ /r/ol /xr/old x/r/old", "/r/older /r/old.d /r/old-1 /r/old_ "
	    "/r/old~ /r/ol /xr/old x/r/old");
	check(m, moved_text, "/r/old\xc3\xa9", "/r/old\xc3\xa9");
	moved_free(m);
}

/* Where the new path needs quotes, and the old one needed none. */
static void test_quotes(void **state)
{
	(void)state;
	struct moved *m = moved_new(froms, 2, "/it's/a new", NULL, NULL);
	check(m, moved_activate, "VIRTUAL_ENV=/r/old\n", "VIRTUAL_ENV='/it'\"'\"'s/a new'\n");
	check(m, moved_activate, "x=\"it's\" y='\"' export VIRTUAL_ENV=$(cygpath /r/old)\n",
	    "x=\"it's\" y='\"' export VIRTUAL_ENV=$(cygpath '/it'\"'\"'s/a new')\n");
	check(m, moved_activate, "setenv VIRTUAL_ENV /r/old;", "setenv VIRTUAL_ENV '/it'\"'\"'s/a new';");
	check(m, moved_activate, "VIRTUAL_ENV='/r/old'", "VIRTUAL_ENV='/it'\"'\"'s/a new'");
	check(m, moved_activate, "VIRTUAL_ENV=\"/r/old\"", "VIRTUAL_ENV=\"/it's/a new\"");
	check(m, moved_activate, "it's one line\nVIRTUAL_ENV=\"\\\"/r/old/bin\"", "it's one line\nVIRTUAL_ENV=\"\\\"/it's/a new/bin\"");
	check(m, moved_text, "VIRTUAL_ENV=/r/old\n", "VIRTUAL_ENV=/it's/a new\n");
	moved_free(m);
}

static void test_forms(void **state)
{
	(void)state;
	static const char *const from[] = { "/it's \xc3\xbc/old" };
	struct moved *m = moved_new(from, 1, "/it's \xc3\xbc/new", NULL, NULL);
	check(m, moved_text, "/it's \xc3\xbc/old", "/it's \xc3\xbc/new");
	check(m, moved_text, "'/it'\"'\"'s \xc3\xbc/old'", "'/it'\"'\"'s \xc3\xbc/new'");
	check(m, moved_text, "'/it''s \xc3\xbc/old'", "'/it''s \xc3\xbc/new'");
	check(m, moved_text, "file:///it%27s%20%C3%BC/old/x", "file:///it%27s%20%C3%BC/new/x");
	check(m, moved_text, "\"/it's \\u00fc/old\"", "\"/it's \\u00fc/new\"");
	moved_free(m);
}

static void test_links(void **state)
{
	(void)state;
	struct moved *m = moved_new(froms, 2, "/r/new", NULL, NULL);
	static const char *const targets[][2] = {
		{ "/r/old", "/r/new" }, { "/r/old/bin/x", "/r/new/bin/x" }, { "/real/old/y", "/r/new/y" },
		{ "/r/old2", NULL }, { "old", NULL }, { "../old", NULL }, { "/x/r/old", NULL },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(targets); i++) {
		_cleanup_text_ struct text out = { 0 };
		assert_int_equal(moved_link(m, targets[i][0], &out), targets[i][1] != NULL);
		if (targets[i][1])
			assert_string_equal(out.data, targets[i][1]);
	}
	moved_free(m);
}

static void test_shebangs(void **state)
{
	(void)state;
	struct moved *m = moved_new(froms, 2, "/r/new", NULL, NULL);
	check(m, moved_script, "#!/r/old/bin/python\nx\n", "#!/r/new/bin/python\nx\n");
	check(m, moved_script, "#!/r/old/bin/python -E -s\nx", "#!/r/new/bin/python -E -s\nx");
	check(m, moved_script, "#!/r/old/bin/python -I/r/old/x\nx", "#!/r/new/bin/python -I/r/new/x\nx");
	check(m, moved_script, "#!/usr/bin/env python\n'/r/old'\n", "#!/usr/bin/env python\n'/r/new'\n");
	check(m, moved_script, "#!/r/old/bin/python", "#!/r/new/bin/python");
	check(m, moved_script, "#!/bin/sh\n'''exec' /r/old/bin/python \"$0\" \"$@\"\n' '''\nx\n", "#!/r/new/bin/python\nx\n");
	check(m, moved_script, "#!/bin/sh\n'''exec' '/r/old/bin/python' \"$0\" \"$@\"\n' '''\nx\n", "#!/r/new/bin/python\nx\n");
	check(m, moved_script, "#!/bin/sh\n'''exec' \"/r/old/bin/python\" -E \"$0\" \"$@\"\n' '''\nx\n",
	    "#!/r/new/bin/python -E\nx\n");
	check(m, moved_script, "#!/usr/bin/env /r/old/bin/python\n", "#!/usr/bin/env /r/new/bin/python\n");
	/* Half of that form is a shell script like any other. */
	check(m, moved_script, "#!/bin/sh\n'''exec' \"/r/old/bin/python \"$0\"\n", "#!/bin/sh\n'''exec' \"/r/new/bin/python \"$0\"\n");
	check(m, moved_script, "#!/bin/sh\n'''exec' \"/r/old/bin/\"python \"$0\" \"$@\"\n' '''\n",
	    "#!/bin/sh\n'''exec' \"/r/new/bin/\"python \"$0\" \"$@\"\n' '''\n");
	check(m, moved_script, "#!/bin/sh\n'''exec' \"$0\" \"$@\"\n' '''\n", "#!/bin/sh\n'''exec' \"$0\" \"$@\"\n' '''\n");
	moved_free(m);

	char to[200] = "/r/";
	memset(to + 3, 'n', 120);
	m = moved_new(froms, 1, to, NULL, NULL);
	_cleanup_free_ char *want = xasprintf("#!/bin/sh\n'''exec' %s/bin/python \"$0\" \"$@\"\n' '''\nx\n", to);
	_cleanup_free_ char *with = xasprintf("#!/bin/sh\n'''exec' %s/bin/python -E \"$0\" \"$@\"\n' '''\nx\n", to);
	check(m, moved_script, "#!/r/old/bin/python\nx\n", want);
	check(m, moved_script, "#!/r/old/bin/python -E\nx\n", with);
	moved_free(m);

	m = moved_new(froms, 1, "/a b/new", NULL, NULL);
	check(m, moved_script, "#!/r/old/bin/python\nx\n", "#!/bin/sh\n'''exec' \"/a b/new/bin/python\" \"$0\" \"$@\"\n' '''\nx\n");
	moved_free(m);
}

static void test_prompts(void **state)
{
	(void)state;
	struct moved *m = moved_new(froms, 1, "/r/new", "old", "new");
	check(m, moved_activate, "PS1=\"(old) ${PS1:-}\"\n", "PS1=\"(new) ${PS1:-}\"\n");
	check(m, moved_activate, "VIRTUAL_ENV_PROMPT=old\nVIRTUAL_ENV_PROMPT=older\n", "VIRTUAL_ENV_PROMPT=new\nVIRTUAL_ENV_PROMPT=older\n");
	check(m, moved_activate, "set -gx VIRTUAL_ENV_PROMPT '(old) '", "set -gx VIRTUAL_ENV_PROMPT '(new) '");
	check(m, moved_activate, "set prompt = \"(\"old\") $prompt:q\"", "set prompt = \"(\"new\") $prompt:q\"");
	check(m, moved_activate, "old = old; # old, an old (old)", "old = old; # old, an old (old)");
	check(m, moved_cfg, "home = /usr\nprompt = old\n", "home = /usr\nprompt = new\n");
	moved_free(m);
	m = moved_new(froms, 1, "/r/new", NULL, NULL);
	check(m, moved_activate, "PS1=\"(old) \"", "PS1=\"(old) \"");
	check(m, moved_cfg, "prompt = old\n", "prompt = old\n");
	moved_free(m);
}

static bool row(void *arg, const char *path, unsigned char digest[SHA256_DIGEST_LENGTH], size_t *size)
{
	(void)arg;
	if (strcmp(path, "../../../bin/x") != 0 && strcmp(path, "with, comma \"and\" quotes") != 0)
		return false;
	memset(digest, 0, SHA256_DIGEST_LENGTH);
	*size = 7;
	return true;
}

static bool record(const struct moved *m, const char *text, size_t len, struct text *out)
{
	return moved_record(m, text, len, row, NULL, out);
}

static void test_records(void **state)
{
	(void)state;
#define NEW "sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,7"
	struct moved *m = moved_new(froms, 1, "/r/new", NULL, NULL);
	_cleanup_text_ struct text out = { 0 };
	static const char text[] = "a.py,sha256=x,1\r\n../../../bin/x,sha256=y,2\r\n\"with, comma \"\"and\"\" quotes\",md5=z,3\r\n"
	    "../../../bin/x,,\nRECORD,,\n/r/old/y,sha256=q,4\n../../../bin/x,sha256=y,2";
	assert_true(record(m, text, sizeof(text) - 1, &out));
	assert_string_equal(out.data, "a.py,sha256=x,1\r\n../../../bin/x," NEW "\r\n\"with, comma \"\"and\"\" quotes\"," NEW "\r\n"
	    "../../../bin/x,,\nRECORD,,\n/r/new/y,sha256=q,4\n../../../bin/x," NEW);
	text_clear(&out);
	assert_false(record(m, "a,sha256=b,1\n\"\n\n,\n\",,\n", 23, &out));
	moved_free(m);
}

static void test_record_paths(void **state)
{
	(void)state;
	static const struct { const char *row, *path; } rows[] = {
		{ "a.py", "lib/p/site-packages/a.py" }, { "../../../bin/x", "bin/x" }, { "./a//b/../c", "lib/p/site-packages/a/c" },
		{ "/etc/passwd", NULL }, { "../../../../etc/passwd", NULL }, { "../../..", "" }, { "a/../../../../..", NULL },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		_cleanup_free_ char *path = record_path("lib/p/site-packages", rows[i].row);
		if (rows[i].path)
			assert_string_equal(path, rows[i].path);
		else
			assert_null(path);
	}
}

static void test_programs(void **state)
{
	(void)state;
	static const struct { const char *text, *program; } heads[] = {
		{ "#!/x/bin/python3\nimport x\n", "/x/bin/python3" }, { "#!/x/bin/python3 -I\n", "/x/bin/python3" },
		{ "#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n", "/a b/bin/python" },
		{ "#!/bin/sh\n'''exec' /ab/bin/python \"$0\" \"$@\"\n' '''\n", "/ab/bin/python" },
		{ "#!python\n", NULL }, { "#!/no/newline", NULL }, { "", NULL }, { "\177ELF", NULL },
	};
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		_cleanup_free_ char *program = moved_program(heads[i].text, strlen(heads[i].text));
		if (heads[i].program)
			assert_string_equal(program, heads[i].program);
		else
			assert_null(program);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_quotes), cmocka_unit_test(test_forms),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_shebangs),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_record_paths),
		cmocka_unit_test(test_programs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The reader of pyvenv.cfg: files as venv, virtualenv and uv write them, and files that nobody
 * wrote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "pyvenv.h"
#include "util.h"

static struct pyvenv parse(const char *s)
{
	struct pyvenv cfg;
	/* A copy of the exact size lets a sanitizer see any reading past the end. */
	size_t len = strlen(s);
	char *copy = xmalloc(len + 1);
	memcpy(copy, s, len);
	copy = xreallocarray(copy, len ? len : 1, 1);
	pyvenv_parse(copy, len, &cfg);
	free(copy);
	return cfg;
}

static void test_venv(void **state)
{
	(void)state;
	struct pyvenv cfg = parse("home = /usr/bin\ninclude-system-site-packages = false\n"
	    "version = 3.11.2\nexecutable = /usr/bin/python3.11\n"
	    "command = /usr/bin/python3 -m venv --without-pip /tmp/x\n");
	assert_string_equal(cfg.creator, "venv");
	assert_string_equal(cfg.home, "/usr/bin");
	assert_string_equal(cfg.version, "3.11.2");
	assert_string_equal(cfg.executable, "/usr/bin/python3.11");
	assert_null(cfg.prompt);
	assert_null(cfg.implementation);
	assert_int_equal(cfg.system_site_packages, 0);
	pyvenv_done(&cfg);
	cfg = parse("home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.8.1\n");
	assert_string_equal(cfg.creator, "venv");
	assert_int_equal(cfg.system_site_packages, 1);
	pyvenv_done(&cfg);
}

static void test_virtualenv(void **state)
{
	(void)state;
	struct pyvenv cfg = parse("home = /b\nimplementation = CPython\nversion_info = 3.9.18.final.0\n"
	    "virtualenv = 20.17.1\ninclude-system-site-packages = false\nbase-prefix = /\n"
	    "base-exec-prefix = /\nbase-executable = /b/python3.9\nprompt = \"x\"\n");
	assert_string_equal(cfg.creator, "virtualenv");
	assert_string_equal(cfg.version, "3.9.18");
	assert_string_equal(cfg.implementation, "cpython");
	assert_string_equal(cfg.executable, "/b/python3.9");
	assert_string_equal(cfg.prompt, "x");
	pyvenv_done(&cfg);
	cfg = parse("virtualenv = 21\nversion_info = 3.14.0.candidate.2\nprompt = bare words\n");
	assert_string_equal(cfg.version, "3.14.0rc2");
	assert_string_equal(cfg.prompt, "bare words");
	pyvenv_done(&cfg);
}

static void test_uv(void **state)
{
	(void)state;
	struct pyvenv cfg = parse("home = /b\nimplementation = PyPy\nuv = 0.5.0\nversion_info = 3.12.1\n"
	    "include-system-site-packages = false\nprompt = 'x'\n");
	assert_string_equal(cfg.creator, "uv");
	assert_string_equal(cfg.version, "3.12.1");
	assert_string_equal(cfg.implementation, "pypy");
	assert_string_equal(cfg.prompt, "'x'");
	pyvenv_done(&cfg);
}

static void test_prompts(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "'x'", "x" }, { "\"it's\"", "it's" }, { "'a\\\\b'", "a\\b" }, { "'it\\'s \"q\"'", "it's \"q\"" },
		{ "'\\xe9'", "\xc3\xa9" }, { "'\\u20ac'", "\xe2\x82\xac" }, { "'\\U0001f40d'", "\xf0\x9f\x90\x8d" },
		{ "'\\ud800'", "\\ud800" }, { "'\\x4'", "\\x4" }, { "'\\", "'\\" }, { "'", "'" },
		{ "plain", "plain" }, { "'open", "'open" }, { "'\\xzz'", "\\xzz" }, { "'a\\x00b'", "a\\x00b" },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		_cleanup_free_ char *file = xasprintf("home = /\nversion = 3\ncommand = x -m venv y\nprompt = %s\n",
		    cases[i][0]);
		struct pyvenv cfg = parse(file);
		assert_string_equal(cfg.prompt, cases[i][1]);
		pyvenv_done(&cfg);
	}
	struct pyvenv cfg = parse("command = x -m venv y\nprompt = ''\n");
	assert_null(cfg.prompt);
	pyvenv_done(&cfg);
}

static void test_odd_files(void **state)
{
	(void)state;
	struct pyvenv cfg = parse("");
	assert_string_equal(cfg.creator, "unknown");
	assert_int_equal(cfg.system_site_packages, 1);
	assert_null(cfg.home);
	pyvenv_done(&cfg);
	cfg = parse("no equals\n=\n= x\n\n HOME=/a = b\r\nhome =  /c = d  \r\nversion=");
	assert_string_equal(cfg.home, "/c = d");
	assert_null(cfg.version);
	pyvenv_done(&cfg);
	cfg = parse("home = /\xff\x1b[31m");
	for (const char *s = cfg.home; *s; s++)
		assert_true(*s >= ' ' && *s < 127);
	pyvenv_done(&cfg);
	static const char nul[] = "home = /a\0b\nversion = 3\n";
	pyvenv_parse(nul, sizeof(nul) - 1, &cfg);
	assert_string_equal(cfg.home, "/a");
	assert_string_equal(cfg.version, "3");
	pyvenv_done(&cfg);
}

static void changes(const char *before, const char *after)
{
	static const struct pyvenv_value values[] = {
		{ "home", "/new" }, { "version", "3.9.9" }, { "executable", NULL },
	};
	_cleanup_text_ struct text out = { 0 };
	assert_int_equal(pyvenv_change(before, strlen(before), values, 3, &out), strcmp(before, after) != 0);
	assert_string_equal(out.data ? out.data : "", after);
}

static void test_changed(void **state)
{
	(void)state;
	changes("home = /old\nversion = 3.9.1\nexecutable = /old/x\n", "home = /new\nversion = 3.9.9\nexecutable = /old/x\n");
	changes("# home\n\n HOME=/old \r\nhomes = /old\nversion =", "# home\n\n HOME=/new \r\nhomes = /old\nversion =3.9.9");
	changes("home = /new\n", "home = /new\n");
	changes("home = /a = b\nhome = /c", "home = /new\nhome = /new");
	changes("", "");
	changes("=\n= x\n", "=\n= x\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_venv),
		cmocka_unit_test(test_virtualenv),
		cmocka_unit_test(test_uv),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test(test_odd_files),
		cmocka_unit_test(test_changed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

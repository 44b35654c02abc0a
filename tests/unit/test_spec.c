/* SPDX-License-Identifier: MIT */
/* What -p takes: every form once, what each fits and prefers, and the names it is looked for under. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "pin.h"
#include "spec.h"

/* form: N a name, P a path, else what spec_parse() found as text: implementation, version, flags, clauses */
static const struct { const char *text, *form; } forms[] = {
	{ "/usr/bin/python3", "P" }, { "./3.12", "P" }, { "../x", "P" }, { "dir/", "P" }, { "/", "P" },
	{ "~/x", "P" }, { "bin/python3.12", "P" },
	{ "3", "* 3" }, { "3.12", "* 3.12" }, { "3.12.1", "* 3.12.1" }, { "312", "* 3.12" }, { "39", "* 3.9" },
	{ "27", "* 2.7" }, { "2.7.18", "* 2.7.18" }, { "3.13rc1", "* 3.13r1" }, { "3.14.0a2", "* 3.14.0a2" },
	{ "3.14b1", "* 3.14b1" }, { "3.14c1", "* 3.14r1" }, { "python3.12", "* 3.12" }, { "python", "*" },
	{ "python3", "* 3" }, { "python@3.12", "* 3.12" }, { "python312", "* 3.12" }, { "Python3.12", "* 3.12" },
	{ "python3.12.1", "* 3.12.1" }, { "python-3.12.1", "* 3.12.1" }, { "any", "*" }, { "default", "*" },
	{ "py312", "* 3.12" }, { "py3", "* 3" }, { " 3.12 ", "* 3.12" }, { "3.12.*", "* 3.12" }, { "3.*", "* 3" },
	{ "cpython", "cpython" }, { "cpython3.12", "cpython 3.12" }, { "cpython@3.12", "cpython 3.12" },
	{ "cpython-3.12", "cpython 3.12" }, { "cp312", "cpython 3.12" }, { "cp", "cpython" },
	{ "CPython312", "cpython 3.12" }, { "pypy", "pypy" }, { "pypy3", "pypy 3" }, { "pypy3.9", "pypy 3.9" },
	{ "pypy@3.9", "pypy 3.9" }, { "pypy-3.9", "pypy 3.9" }, { "pp39", "pypy 3.9" }, { "pp310", "pypy 3.10" },
	{ "graalpy", "graalpy" }, { "graalpy3.11", "graalpy 3.11" }, { "gp311", "graalpy 3.11" },
	{ "3.13t", "* 3.13 t" }, { "313t", "* 3.13 t" }, { "3.13+freethreaded", "* 3.13 t" },
	{ "python3.13t", "* 3.13 t" }, { "cp313t", "cpython 3.13 t" }, { "3.13d", "* 3.13 d" },
	{ "3.13td", "* 3.13 td" }, { "3.13+debug", "* 3.13 d" }, { "3.13+freethreaded+debug", "* 3.13 td" },
	{ "3.14+gil", "* 3.14 g" }, { "3.12-64", "* 3.12 64" }, { "3.12-32", "* 3.12 32" },
	{ ">=3.11", "* >=3.11" }, { ">=3.11,<3.13", "* >=3.11 <3.13" }, { " >= 3.11 , < 3.13 ", "* >=3.11 <3.13" },
	{ "==3.12", "* ==3.12" }, { "===3.12.1", "* ==3.12.1" }, { "!=3.12", "* !=3.12" }, { "~=3.12", "* ~=3.12" },
	{ "~=3.12.1", "* ~=3.12.1" }, { ">3.11", "* >3.11" }, { "<=3.12.4", "* <=3.12.4" },
	{ "==3.12.*", "* ==3.12" }, { "!=3.11.*,>3", "* !=3.11 >3" }, { ">=3.13rc1", "* >=3.13r1" },
	{ "python>=3.11", "* >=3.11" }, { "pypy>=3.9", "pypy >=3.9" }, { "cpython>=3.8,<4", "cpython >=3.8 <4" },
	/* names: of environments, installations, programs */
	{ "", "N" }, { ".", "N" }, { "3.", "N" }, { "3.12.", "N" }, { "3.12.1.2", "N" }, { "v3.12", "N" },
	{ "3.12-dev", "N" }, { "3.13t-dev", "N" }, { "pypy3.9-7.3.11", "N" }, { "miniconda3-latest", "N" },
	{ "cpython-3.12.3-linux-x86_64-gnu", "N" }, { "python3-config", "N" }, { "python3.12-gdb", "N" },
	{ "my-python", "N" }, { "projA", "N" }, { "python_3", "N" }, { "12345", "N" }, { "3.12345", "N" },
	{ ">=", "N" }, { ">=3.11,", "N" }, { ">=3.11;<4", "N" }, { "=3.11", "N" }, { "~=3", "N" }, { ">=3.*", "N" },
	{ "3.12 3.13", "N" }, { "3.12x", "N" }, { "3.13tx", "N" }, { "system", "N" }, { "-3", "N" },
	{ ">=1,>=1,>=1,>=1,>=1,>=1,>=1,>=1,>=1", "N" },
};

static void add_version(struct text *t, const struct spec_version *v)
{
	for (int i = 0; i < v->count; i++)
		text_addf(t, "%s%d", i ? "." : "", v->numbers[i]);
	if (v->level)
		text_addf(t, "%c%d", v->level, v->serial);
}

static void describe(const struct spec *s, struct text *t)
{
	static const char *const operators[] = { "==", "!=", ">=", ">", "<=", "<", "~=" };
	if (s->kind != SPEC_VERSION) {
		text_adds(t, s->kind == SPEC_PATH ? "P" : "N");
		return;
	}
	text_adds(t, s->implementation ? s->implementation : "*");
	if (s->version.count > 0)
		text_adds(t, " ");
	add_version(t, &s->version);
	if (s->free_threaded || s->debug || s->gil)
		text_addf(t, " %s%s%s", s->free_threaded ? "t" : "", s->debug ? "d" : "", s->gil ? "g" : "");
	if (s->bits)
		text_addf(t, " %d", s->bits);
	for (size_t i = 0; i < s->clause_count; i++) {
		text_addf(t, " %s", operators[s->clauses[i].op]);
		add_version(t, &s->clauses[i].version);
	}
}

static void test_forms(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(forms); i++) {
		struct spec s;
		_cleanup_text_ struct text found = { 0 };
		spec_parse(forms[i].text, &s);
		describe(&s, &found);
		if (strcmp(found.data, forms[i].form) != 0)
			fail_msg("'%s' is '%s', not '%s'", forms[i].text, found.data, forms[i].form);
	}
}

static void test_long_text(void **state)
{
	(void)state;
	struct spec s;
	char *text = xmalloc(100001);
	memset(text, '3', 100000);
	text[100000] = '\0';
	spec_parse(text, &s);
	assert_int_equal(s.kind, SPEC_NAME);
	memset(text, ' ', 300);
	text[300] = '\0';
	spec_parse(text, &s);
	assert_int_equal(s.kind, SPEC_NAME);
	free(text);
}

static struct spec_candidate candidate(const char *text)
{
	struct spec_candidate c;
	assert_true(spec_read_installation(text, &c));
	return c;
}

/* fits: 'y' and preferred, 'f' only if nothing else is there, 'n' */
static const struct { const char *spec, *candidate; char fits; } cases[] = {
	{ "3", "3.12.1", 'y' }, { "3", "2.7.18", 'n' }, { "3.1", "3.12.1", 'n' }, { "3.12", "3.12.1", 'y' },
	{ "3.12.1", "3.12.10", 'n' }, { "3.12", "3.12.0rc1", 'f' }, { "3.12rc1", "3.12.0rc1", 'y' },
	{ "3.12rc2", "3.12.0rc1", 'n' }, { ">=3.12", "3.12.0rc1", 'n' }, { ">=3.12rc1", "3.12.0rc1", 'y' },
	{ ">=3.12rc1", "3.12.0", 'y' }, { ">=3.11", "3.12.0rc1", 'f' }, { "<3.12", "3.12.0rc1", 'n' },
	{ "<3.13", "3.12.9", 'y' }, { "<3.13", "3.13.0", 'n' }, { "<=3.12", "3.12.1", 'n' },
	{ "<=3.12.1", "3.12.1", 'y' }, { ">3.12", "3.12.1", 'y' }, { ">3.12.1", "3.12.1", 'n' },
	{ "==3.12", "3.12.7", 'y' }, { "==3.12.0", "3.12.7", 'n' }, { "!=3.12", "3.12.7", 'n' },
	{ "!=3.12.6", "3.12.7", 'y' }, { "~=3.12", "3.13.1", 'y' }, { "~=3.12", "4.0.0", 'n' },
	{ "~=3.12", "3.11.9", 'n' }, { "~=3.12.2", "3.12.9", 'y' }, { "~=3.12.2", "3.12.1", 'n' },
	{ "~=3.12.2", "3.13.0", 'n' }, { ">=3.11,<3.13", "3.12.1", 'y' }, { ">=3.11,<3.13", "3.13.0", 'n' },
	{ "3.13t", "3.13.0t", 'y' }, { "3.13t", "3.13.0", 'n' }, { "3.13", "3.13.0t", 'f' },
	{ "3.14+gil", "3.14.0t", 'n' }, { "3.13", "3.13.0+debug", 'f' }, { "3.13d", "3.13.0+debug", 'y' },
	{ "3.9", "pypy3.9-7.3.11", 'f' }, { "pypy", "pypy3.9-7.3.11", 'y' }, { "pypy3.10", "pypy3.9-7.3.11", 'n' },
	{ "cpython", "pypy3.9-7.3.11", 'n' }, { "cpython", "cpython-3.12.5-linux-x86_64-gnu", 'y' },
	{ "python", "2.7.18", 'y' }, { "any", "pypy3.9-7.3.11", 'f' },
};

static void test_fits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct spec s;
		struct spec_candidate c = candidate(cases[i].candidate);
		spec_parse(cases[i].spec, &s);
		char found = !spec_fits(&s, &c) ? 'n' : spec_prefers(&s, &c) ? 'y' : 'f';
		if (found != cases[i].fits)
			fail_msg("%s for %s: %c", cases[i].candidate, cases[i].spec, found);
		/* A guess never rules out what fits. */
		if (found != 'n')
			assert_true(spec_may_fit(&s, &c));
	}
}

static void test_guesses(void **state)
{
	(void)state;
	struct spec_candidate c = candidate("3.12-dev");
	assert_int_equal(c.version.level, 'd');
	c = candidate("cpython-3.13.0+freethreaded-linux-x86_64-gnu");
	assert_true(c.free_threaded);
	assert_int_equal(c.version.count, 3);
	c = candidate("pypy3.9-7.3.11");
	assert_string_equal(c.implementation, "pypy");
	assert_int_equal(c.version.count, 2);
	static const char *const none[] = { "miniconda3-latest", "graalpy-22.3.0", "projA", "", "stackless-x" };
	for (size_t i = 0; i < ARRAY_LENGTH(none); i++)
		assert_false(spec_read_installation(none[i], &c));
	struct spec s;
	struct spec_candidate minor = candidate("cpython-3.12-linux-x86_64-gnu");
	static const struct { const char *spec; bool may; } may[] = {
		{ "3.12.4", true }, { "3.13", false }, { ">=3.12.4", true }, { "<3.12", false }, { "<3.12.4", true },
		{ "<=3.12", true }, { "==3.12.4", true }, { "!=3.12", false }, { "!=3.12.4", true }, { "~=3.11", true },
		{ "~=3.11.2", false }, { ">3.12", true }, { "pypy", false }, { "3.12t", false },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(may); i++) {
		spec_parse(may[i].spec, &s);
		if (spec_may_fit(&s, &minor) != may[i].may)
			fail_msg("%s", may[i].spec);
	}
}

static void test_rank(void **state)
{
	(void)state;
	static const char *const order[] = {
		"3.13.0", "3.12.10", "3.12.9", "2.7.18", "pypy3.10-7.3.12", "3.14.0t", "3.15.0rc1", "3.15.0b2",
	};
	for (size_t i = 0; i + 1 < ARRAY_LENGTH(order); i++) {
		struct spec_candidate a = candidate(order[i]), b = candidate(order[i + 1]);
		if (spec_rank(&a, &b) >= 0 || spec_rank(&b, &a) <= 0)
			fail_msg("%s before %s", order[i], order[i + 1]);
	}
}

static void check_names(const char *spec, const char *expected)
{
	struct spec s;
	char names[SPEC_NAMES][SPEC_NAME_BYTES];
	_cleanup_text_ struct text all = { 0 };
	spec_parse(spec, &s);
	size_t count = spec_names(&s, true, names);
	for (size_t i = 0; i < count; i++)
		text_addf(&all, "%s%s", i ? " " : "", names[i]);
	if (strncmp(all.data, expected, strlen(expected)) != 0 ||
	    (!strchr(" ", expected[strlen(expected) - 1]) && all.len != strlen(expected)))
		fail_msg("%s: %s", spec, all.data);
}

static void test_names(void **state)
{
	(void)state;
	check_names("3.12", "python3.12 python3 python pypy3.12");
	check_names("312", "python3.12 python3 python pypy3.12");
	check_names("python3.12", "python3.12 python3 python pypy3.12");
	check_names("python", "python python3");
	check_names("3.13t", "python3.13t python3.13 python3 python pypy3.13");
	check_names("pypy3.9", "pypy3.9 pypy3 pypy python3.9 python3 python");
	check_names("pypy", "pypy pypy3 python3 python");
	check_names("cpython@3.12", "python3.12 python3 python");
	check_names(">=3.11,<3.13", "python3 python python3.12 python3.11");
	check_names("~=3.12.1", "python3 python python3.12");
	check_names("==3.12.*", "python3 python python3.12");
	check_names("2", "python2 python python2.7 python2.6 ");
	check_names("3", "python3 python python3.40 ");
}

static void test_pins(void **state)
{
	(void)state;
	static const struct { const char *text, *words; } pins[] = {
		{ "3.12.1\n", "3.12.1" }, { "3.12", "3.12" }, { "# why\n\n  3.12  # this\r\n", "3.12" },
		{ "3.13\n3.12:3.11\n", "3.13|3.12|3.11" }, { ":::\n#\n \n", "" }, { "", "" },
		{ "a b : c\n", "a b|c" }, { ">=3.11,<3.13", ">=3.11,<3.13" },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(pins); i++) {
		_cleanup_pin_ struct pin pin = { 0 };
		_cleanup_text_ struct text words = { 0 };
		text_adds(&words, "");
		pin_parse(pins[i].text, &pin);
		for (size_t k = 0; k < pin.count; k++)
			text_addf(&words, "%s%s", k ? "|" : "", pin.words[k]);
		assert_string_equal(words.data, pins[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms), cmocka_unit_test(test_long_text), cmocka_unit_test(test_fits),
		cmocka_unit_test(test_guesses), cmocka_unit_test(test_rank), cmocka_unit_test(test_names),
		cmocka_unit_test(test_pins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include <string.h>
#include "bounds.h"
#include "names.h"
#include "unit.h"

static void fit_names(void **state)
{
	static const char *const fit[] = { "a", "Z", "0", "_", "projA", "a.b", "a-b", "a_b", "3.12",
	    "x..y", "_-" };
	char longest[LIMIT_NAME_BYTES + 1] = "";

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(fit); i++)
		assert_null(name_rule_broken(fit[i]));
	memset(longest, 'n', LIMIT_NAME_BYTES);
	assert_null(name_rule_broken(longest));
}

static void unfit_names(void **state)
{
	static const char *const unfit[] = {
		"", ".", "..", ".venvd", "-x", "a b", "a/b", "/a", "a\n", "a\x01", "$(x)", "a;b",
		"a\\b", "a'b",
		"\xc3\xa4", "a\xc3\xa4", "a\xff", "a~", "a@b", "a`", "a[", "a{", "a:", "a%"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(unfit); i++)
		assert_non_null(name_rule_broken(unfit[i]));
	assert_non_null(name_rule_broken(NULL));
}

static void which_rule(void **state)
{
	char long_one[LIMIT_NAME_BYTES + 2] = "";

	(void)state;
	memset(long_one, 'n', LIMIT_NAME_BYTES + 1);
	assert_non_null(strstr(name_rule_broken(""), "empty"));
	assert_non_null(strstr(name_rule_broken("-a"), "begin"));
	assert_non_null(strstr(name_rule_broken("a b"), "only"));
	assert_non_null(strstr(name_rule_broken(long_one), "100"));
}

static void every_byte(void **state)
{
	const char *word = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

	(void)state;
	for (int c = 1; c < 256; c++) {
		char first[] = { (char)c, 'x', '\0' }, second[] = { 'x', (char)c, '\0' };
		bool is_word = strchr(word, c) != NULL;
		assert_int_equal(!name_rule_broken(first), is_word);
		assert_int_equal(!name_rule_broken(second), is_word || c == '.' || c == '-');
	}
}

static void distances(void **state)
{
	(void)state;
	assert_int_equal(name_distance("", "", 3), 0);
	assert_int_equal(name_distance("list", "list", 3), 0);
	assert_int_equal(name_distance("lst", "list", 3), 1);
	assert_int_equal(name_distance("list", "lst", 3), 1);
	assert_int_equal(name_distance("lisp", "list", 3), 1);
	assert_int_equal(name_distance("lits", "list", 3), 1);
	assert_int_equal(name_distance("ca", "abc", 3), 3);
	assert_int_equal(name_distance("kitten", "sitting", 9), 3);
	assert_int_equal(name_distance("kitten", "sitting", 2), 3);
	assert_int_equal(name_distance("kitten", "sitting", 0), 1);
	assert_int_equal(name_distance("", "abc", 9), 3);
	assert_int_equal(name_distance("abc", "", 1), 2);
	assert_int_equal(name_distance("abc", "abd", ~0u), 1);
}

static unsigned plain_distance(const char *a, const char *b)
{
	unsigned d[16][16];
	size_t len_a = strlen(a), len_b = strlen(b);

	for (size_t i = 0; i <= len_a; i++)
		for (size_t j = 0; j <= len_b; j++) {
			if (!i || !j) {
				d[i][j] = (unsigned)(i + j);
				continue;
			}
			unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return d[len_a][len_b];
}

static void distances_of_random_words(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		char a[12] = "", b[12] = "";
		for (uint32_t i = 0, n = unit_random(&seed) % 11; i < n; i++)
			a[i] = (char)('a' + unit_random(&seed) % 3);
		for (uint32_t i = 0, n = unit_random(&seed) % 11; i < n; i++)
			b[i] = (char)('a' + unit_random(&seed) % 3);
		unsigned max = unit_random(&seed) % 8, plain = plain_distance(a, b);
		assert_int_equal(name_distance(a, b, max), plain > max ? max + 1 : plain);
	}
}

static void suggestions(void **state)
{
	static const char *const verbs[] = {
		"create", "list", "ls", "delete", "restore", "restart", "path", "run", "status",
		"prompt"
	};
	static const struct { const char *word, *expected; } cases[] = {
		{ "crate", "create" }, { "lsit", "list" }, { "sl", "ls" }, { "statsu", "status" },
		{ "dleete", "delete" },
		{ "del", "delete" }, { "restor", "restore" }, { "restat", "restart" },
		{ "list", "list" },
		{ "xyzzy", NULL }, { "q", NULL }, { "", NULL }, { "configure", NULL }
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const char *found = name_suggest(cases[i].word, verbs, ARRAY_LENGTH(verbs));
		if (cases[i].expected)
			assert_string_equal(found, cases[i].expected);
		else
			assert_null(found);
	}
	assert_null(name_suggest("list", NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fit_names),
		cmocka_unit_test(unfit_names),
		cmocka_unit_test(which_rule),
		cmocka_unit_test(every_byte),
		cmocka_unit_test(distances),
		cmocka_unit_test(distances_of_random_words),
		cmocka_unit_test(suggestions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

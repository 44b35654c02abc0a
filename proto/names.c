/* SPDX-License-Identifier: MIT */
/*
 * The one judge of environment names, and the search for what somebody meant who mistyped one (or a
 * verb). Works on bytes and on ASCII alone, whatever the locale: a name ends up in prompts, in
 * shell scripts and in file names, and must mean the same in all of them. Owns nothing.
 */
#include <string.h>
#include "bounds.h"
#include "names.h"
#include "util.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

static bool is_word(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	    c == '_';
}

const char *name_rule_broken(const char *name)
{
	if (!name || !*name)
		return "a name must not be empty";
	if (!is_word(name[0]))
		return "a name must begin with a letter, a digit or '_'";
	size_t len = 0;
	while (name[len]) {
		if (!is_word(name[len]) && name[len] != '.' && name[len] != '-')
			return "a name may hold only letters of ASCII, digits, '.', '_' and '-'";
		if (++len > LIMIT_NAME_BYTES)
			return "a name may be at most " STRING(LIMIT_NAME_BYTES) " characters long";
	}
	return NULL;
}

static unsigned min_of(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* One row of the table of distances, from the two before it; returns the smallest in it. */
static unsigned distance_row(const char *a, size_t i, const char *b, size_t len_b,
    const unsigned *before, const unsigned *last, unsigned *row)
{
	unsigned smallest = row[0] = (unsigned)i;

	for (size_t j = 1; j <= len_b; j++) {
		unsigned cost = a[i - 1] != b[j - 1];
		row[j] = min_of(min_of(last[j] + 1, row[j - 1] + 1), last[j - 1] + cost);
		if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
			row[j] = min_of(row[j], before[j - 2] + 1);
		smallest = min_of(smallest, row[j]);
	}
	return smallest;
}

unsigned name_distance(const char *a, const char *b, unsigned max)
{
	size_t len_a = strlen(a), len_b = strlen(b);

	if ((len_a > len_b ? len_a - len_b : len_b - len_a) > max)
		return max + 1;
	unsigned width = (unsigned)len_b + 1;
	_cleanup_free_ unsigned *rows = xcalloc(3 * (size_t)width, sizeof(*rows));
	unsigned *before = rows, *last = rows + width, *row = rows + 2 * (size_t)width;
	for (unsigned j = 0; j < width; j++)
		last[j] = j;
	for (size_t i = 1; i <= len_a; i++) {
		/* What is smallest in a row only grows from row to row. */
		if (distance_row(a, i, b, len_b, before, last, row) > max)
			return max + 1;
		unsigned *oldest = before;
		before = last;
		last = row;
		row = oldest;
	}
	return last[len_b] > max ? max + 1 : last[len_b];
}

const char *name_suggest(const char *word, const char *const *candidates, size_t count)
{
	size_t len = strlen(word), best = count;
	unsigned max = len < 4 ? 1 : len < 8 ? 2 : 3;

	for (size_t i = 0; i < count; i++) {
		unsigned distance = name_distance(word, candidates[i], max);
		if (distance > max || distance >= len)
			continue;
		best = i;
		if (distance == 0)
			break;
		/* Only a closer one may take its place. */
		max = distance - 1;
	}
	/* Nothing was mistyped; it may have been left off early. */
	for (size_t i = 0; best == count && len >= 2 && i < count; i++)
		if (strncmp(candidates[i], word, len) == 0)
			best = i;
	return best < count ? candidates[best] : NULL;
}

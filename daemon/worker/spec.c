/* SPDX-License-Identifier: MIT */
/*
 * The grammar of interpreters: what virtualenv and uv take. Whatever holds a '/' is a path; a version
 * form wins over a name, so that a file called 3.12 needs './'. Everything else is a name: of an
 * environment, of an installation of pyenv and its like, or of a program on PATH; which, is not decided here.
 *
 * An '==' with fewer than three numbers means every version that begins with them, as everybody who writes
 * '==3.12' wants it; the other operators compare as PEP 440 has it.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "spec.h"
#include "util.h"

#define NEWEST_MINOR 40         /* python3.N is looked for up to this N */

static const struct {
	const char *word;
	const char *implementation;
	bool bare;              /* means something without a version, too */
} prefixes[] = {                /* a longer word stands before its beginning */
	{ "cpython", "cpython", true }, { "python", NULL, true }, { "pypy", "pypy", true },
	{ "graalpy", "graalpy", true }, { "cp", "cpython", true }, { "pp", "pypy", true },
	{ "gp", "graalpy", true }, { "py", NULL, true },
};

static const struct {
	const char *text;
	enum spec_op op;
} operators[] = {               /* likewise */
	{ "===", SPEC_EQ }, { "==", SPEC_EQ }, { "!=", SPEC_NE }, { ">=", SPEC_GE }, { "<=", SPEC_LE },
	{ "~=", SPEC_COMPATIBLE }, { ">", SPEC_GT }, { "<", SPEC_LT },
};

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

/* At most four digits; NULL if there is none. */
static const char *read_number(const char *s, int *ret)
{
	size_t digits = strspn(s, "0123456789");
	if (digits == 0 || digits > 4)
		return NULL;
	*ret = atoi(s);
	return s + digits;
}

static const char *read_level(const char *s, struct spec_version *ret)
{
	static const struct { const char *text; char level; } levels[] = {
		{ "rc", 'r' }, { "a", 'a' }, { "b", 'b' }, { "c", 'r' },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
		size_t n = strlen(levels[i].text);
		const char *end = strncmp(s, levels[i].text, n) == 0 ? read_number(s + n, &ret->serial) : NULL;
		if (!end)
			continue;
		ret->level = levels[i].level;
		return end;
	}
	return s;
}

/* 3, 3.12, 3.12.1, 3.13rc1, and, if tags are taken, 312. The end of it, or NULL. */
static const char *read_version(const char *s, bool tags, struct spec_version *ret)
{
	*ret = (struct spec_version){ 0 };
	const char *begin = s;
	while (ret->count < 3) {
		s = read_number(s, &ret->numbers[ret->count]);
		if (!s)
			return NULL;
		ret->count++;
		if (*s != '.' || !isdigit((unsigned char)s[1]))
			break;
		s++;
	}
	if (tags && ret->count == 1 && s - begin > 1) {
		ret->numbers[1] = atoi(begin + 1);
		ret->numbers[0] = begin[0] - '0';
		ret->count = 2;
	}
	return read_level(s, ret);
}

bool spec_version_parse(const char *text, struct spec_version *ret)
{
	const char *end = read_version(text, false, ret);
	return end && *end == '\0';
}

/* "t", "td", "+freethreaded", "-64" behind a version; the end of what it knows. */
static const char *read_variant(const char *s, struct spec *ret)
{
	static const struct { const char *text; size_t flag; } words[] = {
		{ "+freethreaded", offsetof(struct spec, free_threaded) },
		{ "+debug", offsetof(struct spec, debug) }, { "+gil", offsetof(struct spec, gil) },
	};
	if (*s == 't') {
		ret->free_threaded = true;
		s++;
	}
	if (*s == 'd') {
		ret->debug = true;
		s++;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++)
		if (strncmp(s, words[i].text, strlen(words[i].text)) == 0) {
			*(bool *)((char *)ret + words[i].flag) = true;
			s += strlen(words[i].text);
			i = -1;         /* in any order */
		}
	if (strcmp(s, "-32") == 0 || strcmp(s, "-64") == 0) {
		ret->bits = s[1] == '3' ? 32 : 64;
		s += 3;
	}
	return s;
}

/* >=3.11,<3.13 */
static bool read_clauses(const char *s, struct spec *ret)
{
	for (;;) {
		struct spec_clause clause = { 0 };
		size_t i = 0;
		s = skip_blanks(s);
		while (i < ARRAY_LENGTH(operators) &&
		    strncmp(s, operators[i].text, strlen(operators[i].text)) != 0)
			i++;
		if (i == ARRAY_LENGTH(operators) || ret->clause_count == SPEC_CLAUSES)
			return false;
		clause.op = operators[i].op;
		s = read_version(skip_blanks(s + strlen(operators[i].text)), false, &clause.version);
		if (!s)
			return false;
		if (strncmp(s, ".*", 2) == 0) {
			if (clause.version.count == 3 || (clause.op != SPEC_EQ && clause.op != SPEC_NE))
				return false;
			s += 2;
		} else if (clause.op == SPEC_COMPATIBLE && clause.version.count == 1) {
			return false;
		}
		ret->clauses[ret->clause_count++] = clause;
		s = skip_blanks(s);
		if (*s == '\0')
			return true;
		if (*s++ != ',')
			return false;
	}
}

/* What follows an implementation. */
static bool read_rest(const char *s, bool tags, struct spec *ret)
{
	s = skip_blanks(s);
	if (*s && strchr("<>=!~", *s))
		return read_clauses(s, ret);
	s = read_version(s, tags, &ret->version);
	if (!s)
		return false;
	if (strcmp(s, ".*") == 0 && ret->version.count < 3)
		return true;
	return *read_variant(s, ret) == '\0';
}

static bool read_version_form(const char *s, struct spec *ret)
{
	if (strcasecmp(s, "any") == 0 || strcasecmp(s, "default") == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LENGTH(prefixes); i++) {
		size_t n = strlen(prefixes[i].word);
		if (strncasecmp(s, prefixes[i].word, n) != 0)
			continue;
		ret->implementation = prefixes[i].implementation;
		if (s[n] == '\0')
			return prefixes[i].bare;
		return read_rest(s + n + (s[n] == '@' || s[n] == '-'), true, ret);
	}
	return read_rest(s, true, ret);
}

void spec_parse(const char *text, struct spec *ret)
{
	text = skip_blanks(text);
	*ret = (struct spec){ .kind = strchr(text, '/') ? SPEC_PATH : SPEC_VERSION };
	snprintf(ret->text, sizeof(ret->text), "%s", text);
	for (size_t n = strlen(ret->text); n > 0 && strchr(" \t", ret->text[n - 1]); n--)
		ret->text[n - 1] = '\0';
	if (ret->kind == SPEC_PATH)
		return;
	struct spec plain = *ret;
	plain.kind = SPEC_NAME;
	if (strlen(text) >= sizeof(ret->text) || !read_version_form(ret->text, ret))
		*ret = plain;
}

static int level_order(const struct spec_version *v)
{
	return v->level == 'd' ? 0 : v->level == 'a' ? 1 : v->level == 'b' ? 2 : v->level == 'r' ? 3 : 4;
}

static int compare_numbers(const struct spec_version *a, const struct spec_version *b, int count)
{
	for (int i = 0; i < count; i++)
		if (a->numbers[i] != b->numbers[i])
			return a->numbers[i] < b->numbers[i] ? -1 : 1;
	return 0;
}

int spec_compare(const struct spec_version *a, const struct spec_version *b)
{
	int r = compare_numbers(a, b, 3);
	if (r == 0)
		r = level_order(a) - level_order(b);
	return r != 0 ? r : a->serial - b->serial;
}

/* Begins v with what begin says? */
static bool begins(const struct spec_version *v, const struct spec_version *begin)
{
	return compare_numbers(v, begin, begin->count) == 0 &&
	    (!begin->level || (v->level == begin->level && v->serial == begin->serial));
}

static bool clause_fits(const struct spec_clause *c, const struct spec_version *v)
{
	int order = spec_compare(v, &c->version);
	switch (c->op) {
	case SPEC_EQ:
		return begins(v, &c->version);
	case SPEC_NE:
		return !begins(v, &c->version);
	case SPEC_GE:
		return order >= 0;
	case SPEC_GT:
		return order > 0;
	case SPEC_LE:
		return order <= 0;
	case SPEC_LT:
		/* 3.13.0rc1 is not what "<3.13" means. */
		return order < 0 && (c->version.level || compare_numbers(v, &c->version, 3) != 0);
	default:
		return order >= 0 && compare_numbers(v, &c->version, c->version.count - 1) == 0;
	}
}

bool spec_fits(const struct spec *s, const struct spec_candidate *c)
{
	if (s->implementation && strcmp(s->implementation, c->implementation) != 0)
		return false;
	if ((s->free_threaded && !c->free_threaded) || (s->gil && c->free_threaded) || (s->debug && !c->debug))
		return false;
	if ((s->bits && c->bits && s->bits != c->bits) || !begins(&c->version, &s->version))
		return false;
	for (size_t i = 0; i < s->clause_count; i++)
		if (!clause_fits(&s->clauses[i], &c->version))
			return false;
	return true;
}

static bool wants_unfinished(const struct spec *s)
{
	bool wants = s->version.level != 0;
	for (size_t i = 0; i < s->clause_count; i++)
		wants |= s->clauses[i].version.level != 0;
	return wants;
}

bool spec_prefers(const struct spec *s, const struct spec_candidate *c)
{
	if (c->version.level && !wants_unfinished(s))
		return false;
	if ((c->free_threaded && !s->free_threaded) || (c->debug && !s->debug))
		return false;
	return s->implementation || strcmp(c->implementation, "cpython") == 0;
}

/* Could any 3.N.x fit this clause? */
static bool minor_may_fit(const struct spec_clause *c, const struct spec_version *v)
{
	int order = compare_numbers(v, &c->version, 2);
	switch (c->op) {
	case SPEC_EQ:
		return compare_numbers(v, &c->version, c->version.count < 2 ? c->version.count : 2) == 0;
	case SPEC_NE:
		return c->version.count == 3 || c->version.level || !begins(v, &c->version);
	case SPEC_GE:
	case SPEC_GT:
		return order >= 0;
	case SPEC_LE:
		return order <= 0;
	case SPEC_LT:
		return order < 0 || (order == 0 && (c->version.numbers[2] > 0 || c->version.level));
	default:
		return order >= 0 &&
		    compare_numbers(v, &c->version, c->version.count == 3 ? 2 : c->version.count - 1) == 0;
	}
}

bool spec_may_fit(const struct spec *s, const struct spec_candidate *guess)
{
	const struct spec_version *v = &guess->version;
	int known = v->count < s->version.count ? v->count : s->version.count;
	if (s->implementation && strcmp(s->implementation, guess->implementation) != 0)
		return false;
	if (s->free_threaded != guess->free_threaded && s->free_threaded)
		return false;
	if (compare_numbers(v, &s->version, known) != 0)
		return false;
	for (size_t i = 0; i < s->clause_count && v->count > 1; i++)
		if (v->count == 3 ? !clause_fits(&s->clauses[i], v) : !minor_may_fit(&s->clauses[i], v))
			return false;
	return true;
}

int spec_rank(const struct spec_candidate *a, const struct spec_candidate *b)
{
	bool stable_a = !a->version.level, stable_b = !b->version.level;
	if (stable_a != stable_b)
		return stable_b - stable_a;
	if (a->free_threaded != b->free_threaded)
		return a->free_threaded - b->free_threaded;
	bool ours_a = strcmp(a->implementation, "cpython") == 0;
	bool ours_b = strcmp(b->implementation, "cpython") == 0;
	if (ours_a != ours_b)
		return ours_b - ours_a;
	return spec_compare(&b->version, &a->version);
}

struct names {
	char (*name)[SPEC_NAME_BYTES];
	size_t count;
};

static void add_name(struct names *n, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add_name(struct names *n, const char *fmt, ...)
{
	if (n->count == SPEC_NAMES)
		return;
	char *to = n->name[n->count];
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(to, SPEC_NAME_BYTES, fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < n->count; i++)
		if (strcmp(n->name[i], to) == 0)
			return;
	if (len < SPEC_NAME_BYTES)
		n->count++;
}

static void add_names_of(struct names *n, const struct spec *s, const char *base)
{
	const struct spec_version *v = &s->version;
	if (v->count > 1 && s->free_threaded)
		add_name(n, "%s%d.%dt", base, v->numbers[0], v->numbers[1]);
	if (v->count > 1 && s->debug)
		add_name(n, "%s%d.%dd", base, v->numbers[0], v->numbers[1]);
	if (v->count > 1)
		add_name(n, "%s%d.%d", base, v->numbers[0], v->numbers[1]);
	add_name(n, "%s%d", base, v->count > 0 ? v->numbers[0] : 3);
	add_name(n, "%s", base);
}

/* python3.N, the newest first, of those that could fit. */
static void add_minors(struct names *n, const struct spec *s)
{
	if (s->version.count > 1 || (s->version.count == 0 && s->clause_count == 0))
		return;
	int major = s->version.count == 1 ? s->version.numbers[0] : 3;
	for (int minor = major == 2 ? 7 : NEWEST_MINOR; minor >= 0; minor--) {
		struct spec_version v = { .count = 2, .numbers = { major, minor } };
		bool may = true;
		for (size_t i = 0; i < s->clause_count; i++)
			may = may && minor_may_fit(&s->clauses[i], &v);
		if (may)
			add_name(n, "python%d.%d%s", major, minor, s->free_threaded ? "t" : "");
	}
}

size_t spec_names(const struct spec *s, bool others, char ret[SPEC_NAMES][SPEC_NAME_BYTES])
{
	struct names n = { .name = ret };
	const char *own = s->implementation && strcmp(s->implementation, "cpython") != 0 ?
	    s->implementation : NULL;
	/* The word itself, where it could be the name of a program. */
	if (strncmp(s->text, "python", 6) == 0 || (own && strncmp(s->text, own, strlen(own)) == 0))
		if (!strpbrk(s->text, "@<>=!~+, -") && strlen(s->text) < SPEC_NAME_BYTES)
			add_name(&n, "%s", s->text);
	if (own)
		add_names_of(&n, s, own);
	add_names_of(&n, s, "python");
	add_minors(&n, s);
	if (others && !s->implementation && s->version.count > 1)
		add_name(&n, "pypy%d.%d", s->version.numbers[0], s->version.numbers[1]);
	return n.count;
}

bool spec_read_installation(const char *name, struct spec_candidate *ret)
{
	struct spec variant = { 0 };
	*ret = (struct spec_candidate){ .implementation = "cpython" };
	for (size_t i = 0; i < ARRAY_LENGTH(prefixes); i++) {
		size_t n = strlen(prefixes[i].word);
		if (strncmp(name, prefixes[i].word, n) != 0)
			continue;
		if (prefixes[i].implementation)
			ret->implementation = prefixes[i].implementation;
		name += n + (name[n] == '-');
		break;
	}
	const char *end = read_version(name, false, &ret->version);
	/* pyenv's graalpy-22.3.0 counts otherwise than Python does. */
	if (!end || ret->version.numbers[0] > 4)
		return false;
	if (strncmp(end, "-dev", 4) == 0) {
		ret->version.level = 'd';
		return end[4] == '\0';
	}
	end = read_variant(end, &variant);
	ret->free_threaded = variant.free_threaded;
	ret->debug = variant.debug;
	if (strcmp(end, "-dev") == 0)
		ret->version.level = 'd';
	return *end == '\0' || *end == '-';
}

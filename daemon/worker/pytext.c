/* SPDX-License-Identifier: MIT */
/*
 * Texts as Python would write them, for the prediction of what its venv module writes. Works on
 * memory alone, and rather knows nothing than something wrong: what is printable grows with every
 * Unicode version, so repr() answers only for characters that Unicode 9 (Python 3.6) and 15.1
 * (3.13) have judged alike. A character that is assigned once never changes sides.
 */
#include <string.h>

#include "pytext.h"

#define SHEBANG_MAX 127         /* what distlib believes that Linux takes */

struct range {
	unsigned first, last;
};

/* Assigned and printable in both; the larger blocks, and what people write in prompts. */
static const struct range printable[] = {
	{ 0xa1, 0xac }, { 0xae, 0x377 }, { 0x3a3, 0x52f }, { 0x591, 0x5c7 }, { 0x5d0, 0x5ea },
	{ 0x61e, 0x6dc }, { 0x6de, 0x70d }, { 0x710, 0x74a }, { 0x74d, 0x7b1 }, { 0x7c0, 0x7fa },
	{ 0x8e3, 0x983 }, { 0xd12, 0xd3a }, { 0xe01, 0xe3a }, { 0xf00, 0xf47 }, { 0x1000, 0x10c5 },
	{ 0x10d0, 0x1248 }, { 0x13a0, 0x13f5 }, { 0x1400, 0x167f }, { 0x16a0, 0x16f8 },
	{ 0x1780, 0x17dd }, { 0x1820, 0x1877 }, { 0x1d00, 0x1df5 }, { 0x1dfb, 0x1f15 },
	{ 0x1f80, 0x1fb4 }, { 0x2010, 0x2027 }, { 0x2030, 0x205e }, { 0x20a0, 0x20be },
	{ 0x2100, 0x218b }, { 0x2190, 0x23fe }, { 0x2460, 0x2b73 }, { 0x2c00, 0x2c2e },
	{ 0x2c30, 0x2c5e }, { 0x2c60, 0x2cf3 }, { 0x2de0, 0x2e44 }, { 0x2f00, 0x2fd5 },
	{ 0x3001, 0x303f }, { 0x3041, 0x3096 }, { 0x3099, 0x30ff }, { 0x3105, 0x312d },
	{ 0x3131, 0x318e }, { 0x3190, 0x31ba }, { 0x31f0, 0x321e }, { 0x3220, 0x32fe },
	{ 0x3300, 0x4db5 }, { 0x4dc0, 0x9fd5 }, { 0xa000, 0xa48c }, { 0xa490, 0xa4c6 },
	{ 0xa4d0, 0xa62b }, { 0xa640, 0xa6f7 }, { 0xa700, 0xa7ae }, { 0xac00, 0xd7a3 },
	{ 0xf900, 0xfa6d }, { 0xfa70, 0xfad9 }, { 0xfb46, 0xfbc1 }, { 0xfbd3, 0xfd3f },
	{ 0xfe20, 0xfe52 }, { 0xfe76, 0xfefc }, { 0xff01, 0xffbe }, { 0x12000, 0x12399 },
	{ 0x13000, 0x1342e }, { 0x1d000, 0x1d0f5 }, { 0x1d400, 0x1d454 }, { 0x1d552, 0x1d6a5 },
	{ 0x1d6a8, 0x1d7cb }, { 0x1f000, 0x1f02b }, { 0x1f300, 0x1f6d2 }, { 0x1f700, 0x1f773 },
	{ 0x20000, 0x2a6d6 }, { 0x2a700, 0x2b734 },
};

/* Assigned and not printable in both: controls, formats, separators, surrogates, private use. */
static const struct range unprintable[] = {
	{ 0x7f, 0xa0 }, { 0xad, 0xad }, { 0x600, 0x605 }, { 0x61c, 0x61c }, { 0x6dd, 0x6dd },
	{ 0x70f, 0x70f }, { 0x1680, 0x1680 }, { 0x180e, 0x180e }, { 0x2000, 0x200f },
	{ 0x2028, 0x202f }, { 0x205f, 0x2064 }, { 0x2066, 0x206f }, { 0x3000, 0x3000 },
	{ 0xd800, 0xf8ff }, { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb }, { 0xf0000, 0xffffd },
};

static bool within(const struct range *ranges, size_t count, unsigned c)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (c > ranges[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && c >= ranges[low].first;
}

/* The length of the character at s, 0 if it is none of UTF-8's. */
static size_t decode(const char *s, unsigned *ret)
{
	const unsigned char *p = (const unsigned char *)s;
	static const unsigned least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (len <= 1) {
		*ret = p[0];
		return len;
	}
	unsigned c = p[0] & (0x7f >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	*ret = c;
	bool surrogate = c >= 0xd800 && c < 0xe000;
	return c < least[len] || c > 0x10ffff || surrogate || p[0] > 0xf4 ? 0 : len;
}

static bool add_character(struct text *out, const char *s, size_t len, unsigned c, char quote)
{
	static const char *const names[] = { "\tt", "\nn", "\rr", "\\\\" };
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (c == (unsigned char)names[i][0]) {
			text_addf(out, "\\%c", names[i][1]);
			return true;
		}
	if (c == (unsigned char)quote)
		text_addf(out, "\\%c", quote);
	else if ((c >= ' ' && c < 0x7f) || within(printable, ARRAY_LENGTH(printable), c))
		text_add(out, s, len);
	else if (c >= ' ' && !within(unprintable, ARRAY_LENGTH(unprintable), c))
		return false;
	else if (c <= 0xff)
		text_addf(out, "\\x%02x", c);
	else if (c <= 0xffff)
		text_addf(out, "\\u%04x", c);
	else
		text_addf(out, "\\U%08x", c);
	return true;
}

bool pytext_repr(struct text *out, const char *s)
{
	_cleanup_text_ struct text text = { 0 };
	char quote = strchr(s, '\'') && !strchr(s, '"') ? '"' : '\'';
	text_add(&text, &quote, 1);
	while (*s) {
		unsigned c;
		size_t len = decode(s, &c);
		if (len == 0 || !add_character(&text, s, len, c, quote))
			return false;
		s += len;
	}
	text_add(&text, &quote, 1);
	text_add(out, text.data, text.len);
	return true;
}

void pytext_quote_shell(struct text *out, const char *s)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
	if (*s && s[strspn(s, safe)] == '\0') {
		text_adds(out, s);
		return;
	}
	text_adds(out, "'");
	for (; *s; s++)
		if (*s == '\'')
			text_adds(out, "'\"'\"'");
		else
			text_add(out, s, 1);
	text_adds(out, "'");
}

void pytext_quote_powershell(struct text *out, const char *s)
{
	text_adds(out, "'");
	for (; *s; s++)
		text_add(out, *s == '\'' ? "''" : s, *s == '\'' ? 2 : 1);
	text_adds(out, "'");
}

void pytext_replace(struct text *subject, const char *what, const char *with)
{
	size_t what_len = strlen(what), with_len = strlen(with);
	const char *from = subject->data, *end = from + subject->len;
	const char *found = subject->len ? memmem(from, subject->len, what, what_len) : NULL;
	if (!found)
		return;
	struct text out = { 0 };
	while (found) {
		text_add(&out, from, found - from);
		text_add(&out, with, with_len);
		from = found + what_len;
		found = memmem(from, end - from, what, what_len);
	}
	text_add(&out, from, end - from);
	text_done(subject);
	*subject = out;
}

void pytext_base64(struct text *out, const unsigned char *data, size_t len)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	for (size_t bit = 0; bit < len * 8; bit += 6) {
		size_t i = bit / 8;
		unsigned two = data[i] << 8 | (i + 1 < len ? data[i + 1] : 0);
		text_add(out, &digits[two >> (10 - bit % 8) & 0x3f], 1);
	}
}

bool pytext_shebang_is_simple(const char *python)
{
	return !strchr(python, ' ') && strlen(python) + 3 <= SHEBANG_MAX;
}

void pytext_shebang(struct text *out, const char *python, bool newline)
{
	if (pytext_shebang_is_simple(python)) {
		text_addf(out, "#!%s\n%s", python, newline ? "\n" : "");
		return;
	}
	const char *quote = strchr(python, ' ') ? "\"" : "";
	text_addf(out, "#!/bin/sh\n'''exec' %s%s%s \"$0\" \"$@\"\n' '''\n", quote, python, quote);
}

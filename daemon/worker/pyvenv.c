/* SPDX-License-Identifier: MIT */
/*
 * The reader of pyvenv.cfg. Lines are `key = value` as Python's site module splits them: at the first
 * '=', both sides stripped, the key in lower case, the last line of a key counts, all else is passed over.
 *
 * Who wrote the file decides what its words mean: venv writes the prompt as a Python literal, virtualenv
 * bare or in double quotes, uv always bare; virtualenv's version_info is "3.9.18.final.0", uv's "3.12.1".
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "pyvenv.h"
#include "util.h"

enum key {
	KEY_HOME, KEY_VERSION, KEY_VERSION_INFO, KEY_IMPLEMENTATION, KEY_PROMPT, KEY_EXECUTABLE,
	KEY_BASE_EXECUTABLE, KEY_SYSTEM, KEY_COMMAND, KEY_UV, KEY_VIRTUALENV, KEY_COUNT
};

static const char *const key_names[KEY_COUNT] = {
	[KEY_HOME] = "home",
	[KEY_VERSION] = "version",
	[KEY_VERSION_INFO] = "version_info",
	[KEY_IMPLEMENTATION] = "implementation",
	[KEY_PROMPT] = "prompt",
	[KEY_EXECUTABLE] = "executable",
	[KEY_BASE_EXECUTABLE] = "base-executable",
	[KEY_SYSTEM] = "include-system-site-packages",
	[KEY_COMMAND] = "command",
	[KEY_UV] = "uv",
	[KEY_VIRTUALENV] = "virtualenv",
};

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

/* Strips both ends of [*start, *end). */
static void strip(const char **start, const char **end)
{
	while (*start < *end && is_space(**start))
		++*start;
	while (*end > *start && is_space((*end)[-1]))
		--*end;
}

static enum key find_key(const char *s, size_t len)
{
	for (int i = 0; i < KEY_COUNT; i++)
		if (strlen(key_names[i]) == len && strncasecmp(s, key_names[i], len) == 0)
			return i;
	return KEY_COUNT;
}

static void read_line(const char *start, const char *end, char *values[KEY_COUNT])
{
	const char *equals = memchr(start, '=', end - start);
	if (!equals)
		return;
	const char *key_end = equals, *value = equals + 1;
	strip(&start, &key_end);
	enum key key = find_key(start, key_end - start);
	if (key == KEY_COUNT)
		return;
	strip(&value, &end);
	free(values[key]);
	values[key] = xstrndup(value, end - value);
}

/* The code point as UTF-8; false for what has none (surrogates). */
static bool add_utf8(struct text *out, unsigned long c)
{
	unsigned char b[4];
	size_t n;
	if (c == 0 || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return false;
	if (c < 0x80) {
		b[0] = c;
		n = 1;
	} else if (c < 0x800) {
		b[0] = 0xc0 | c >> 6;
		n = 2;
	} else if (c < 0x10000) {
		b[0] = 0xe0 | c >> 12;
		n = 3;
	} else {
		b[0] = 0xf0 | c >> 18;
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		b[i] = 0x80 | ((c >> 6 * (n - 1 - i)) & 0x3f);
	text_add(out, b, n);
	return true;
}

/* After a backslash: how many characters the escape has, 0 if it is none that repr() writes. */
static size_t add_escape(struct text *out, const char *s, const char *end)
{
	static const char plain[] = "\\\\''\"\"n\nr\rt\t";
	if (s == end)
		return 0;
	for (size_t i = 0; i + 1 < sizeof(plain); i += 2)
		if (*s == plain[i]) {
			text_add(out, &plain[i + 1], 1);
			return 1;
		}
	size_t digits = *s == 'x' ? 2 : *s == 'u' ? 4 : *s == 'U' ? 8 : 0;
	if (digits == 0 || (size_t)(end - s - 1) < digits)
		return 0;
	char hex[9] = "";
	memcpy(hex, s + 1, digits);
	if (strspn(hex, "0123456789abcdefABCDEF") != digits)
		return 0;
	return add_utf8(out, strtoul(hex, NULL, 16)) ? 1 + digits : 0;
}

/* The text of a literal in quotes; NULL if s is not one. Owned. */
static char *unquote(const char *s)
{
	size_t len = strlen(s);
	if (len < 2 || (s[0] != '\'' && s[0] != '"') || s[len - 1] != s[0])
		return NULL;
	const char *end = s + len - 1;
	struct text out = { 0 };
	text_adds(&out, "");
	for (const char *p = s + 1; p < end; p++) {
		size_t n = 0;
		if (*p == '\\')
			n = add_escape(&out, p + 1, end);
		if (n == 0)
			text_add(&out, p, 1);
		p += n;
	}
	return out.data;
}

static char *read_prompt(const char *value, const char *creator)
{
	char *text = NULL;
	if (value && strcmp(creator, "uv") != 0)
		text = unquote(value);
	return text ? text : xstrdup(value);
}

/* "3.9.18.final.0" and "3.14.0.candidate.1" as people write them; others stay as they are. */
static char *read_version_info(const char *value)
{
	static const struct {
		const char *level, *suffix;
	} levels[] = { { "alpha", "a" }, { "beta", "b" }, { "candidate", "rc" } };
	int major, minor, micro, serial = 0, end = 0;
	char level[16] = "";
	if (sscanf(value, "%4d.%4d.%4d%n.%15[a-z].%4d", &major, &minor, &micro, &end, level, &serial) < 4)
		return xstrdup(value);
	for (size_t i = 0; i < ARRAY_LENGTH(levels); i++)
		if (strcmp(level, levels[i].level) == 0)
			return xasprintf("%.*s%s%d", end, value, levels[i].suffix, serial);
	return xstrndup(value, end);
}

/* The key that only one tool writes tells it; venv up to 3.10 wrote just these three. */
static const char *creator_of(char *const values[KEY_COUNT])
{
	if (values[KEY_UV])
		return "uv";
	if (values[KEY_VIRTUALENV])
		return "virtualenv";
	if (values[KEY_COMMAND] && strstr(values[KEY_COMMAND], "-m venv"))
		return "venv";
	if (values[KEY_HOME] && values[KEY_VERSION] && values[KEY_SYSTEM])
		return "venv";
	return "unknown";
}

/* Takes s; an empty text is none. */
static char *printable(char *s)
{
	char *text = s && *s ? text_printable(s) : NULL;
	free(s);
	return text;
}

void pyvenv_parse(const char *data, size_t len, struct pyvenv *ret)
{
	char *values[KEY_COUNT] = { 0 };
	for (const char *line = data, *end = data + len; line < end;) {
		const char *newline = memchr(line, '\n', end - line);
		read_line(line, newline ? newline : end, values);
		line = newline ? newline + 1 : end;
	}
	const char *creator = creator_of(values);
	char *version = values[KEY_VERSION] ? xstrdup(values[KEY_VERSION]) :
	    values[KEY_VERSION_INFO] ? read_version_info(values[KEY_VERSION_INFO]) : NULL;
	*ret = (struct pyvenv){
		.home = printable(xstrdup(values[KEY_HOME])),
		.version = printable(version),
		.implementation = printable(xstrdup(values[KEY_IMPLEMENTATION])),
		.prompt = printable(read_prompt(values[KEY_PROMPT], creator)),
		.executable = printable(xstrdup(values[KEY_BASE_EXECUTABLE] ?
		    values[KEY_BASE_EXECUTABLE] : values[KEY_EXECUTABLE])),
		.creator = creator,
		.system_site_packages = !values[KEY_SYSTEM] || strcasecmp(values[KEY_SYSTEM], "true") == 0,
	};
	for (char *c = ret->implementation; c && *c; c++)
		*c = tolower((unsigned char)*c);
	for (int i = 0; i < KEY_COUNT; i++)
		free(values[i]);
}

void pyvenv_done(struct pyvenv *cfg)
{
	free(cfg->home);
	free(cfg->version);
	free(cfg->implementation);
	free(cfg->prompt);
	free(cfg->executable);
	*cfg = (struct pyvenv){ 0 };
}

/* --- changing one --- */

static const char *changed_value(const char *start, const char *equals, const struct pyvenv_value *values, size_t count)
{
	const char *end = equals;
	strip(&start, &end);
	for (size_t i = 0; i < count; i++)
		if (values[i].value && strlen(values[i].key) == (size_t)(end - start) &&
		    strncasecmp(values[i].key, start, (size_t)(end - start)) == 0)
			return values[i].value;
	return NULL;
}

bool pyvenv_change(const char *data, size_t len, const struct pyvenv_value *values, size_t count, struct text *out)
{
	bool changed = false;
	for (const char *line = data, *end = data + len; line < end;) {
		const char *newline = memchr(line, '\n', end - line);
		const char *stop = newline ? newline : end, *next = newline ? newline + 1 : end;
		const char *equals = memchr(line, '=', stop - line);
		const char *new = equals ? changed_value(line, equals, values, count) : NULL;
		const char *old = equals ? equals + 1 : stop, *old_end = stop;
		strip(&old, &old_end);
		if (new && (strlen(new) != (size_t)(old_end - old) || memcmp(new, old, old_end - old) != 0)) {
			text_add(out, line, old - line);
			text_adds(out, new);
			text_add(out, old_end, next - old_end);
			changed = true;
		} else {
			text_add(out, line, next - line);
		}
		line = next;
	}
	return changed;
}

/* SPDX-License-Identifier: MIT */
/*
 * The two faces of a listing. On a terminal: upper-case headers, columns as wide as their widest
 * cell, "-" for what is unknown, every cell made terminal-safe. For a program: no header, no
 * colour, one tab between values, nothing for what is unknown, and the four characters that could
 * break a line or a field (tab, newline, return, backslash) written as \t \n \r \\, and every other byte that acts on a
 * terminal as \xNN; this form is stable.
 *
 * Rows for a program are written as they come; those for a terminal are kept until the widths are
 * known, in one growing text, so that a long listing costs no allocation a cell.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "table.h"
#include "talk.h"

#define OUT_BYTES (64 * 1024)   /* written in pieces of about this size */

void table_init(struct table *t, const char *const *headers, size_t columns)
{
	*t = (struct table){ .headers = headers, .columns = columns,
	                     .aligned = talk_terminal(STDOUT_FILENO) };
	for (size_t i = 0; i < columns; i++)
		t->width[i] = strlen(headers[i]);
}

static bool plain(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] < ' ' || value[i] > '~')
			return false;
	return true;
}

/* Code points: what comes over the wire is UTF-8, and names are ASCII anyway. */
static size_t columns_of(const char *value, size_t len)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)value[i] & 0xc0) != 0x80;
	return n;
}

static void keep_cell(struct table *t, const char *value, size_t len, const char *sgr)
{
	_cleanup_free_ char *safe = NULL;
	if (!plain(value, len)) {
		_cleanup_free_ char *raw = xstrndup(value, len);
		safe = text_printable(raw);
		value = safe;
		len = strlen(safe);
	}
	t->used[t->filled] = t->used[t->filled] || len > 0;
	if (len == 0) {
		value = "-";
		len = 1;
		sgr = NULL;
	}
	size_t width = columns_of(value, len);
	if (width > t->width[t->filled])
		t->width[t->filled] = width;
	text_adds(&t->cells, sgr ? sgr : "0");
	text_add(&t->cells, "", 1);
	text_add(&t->cells, value, len);
	text_add(&t->cells, "", 1);
}

static void add_pairs(struct text *out, const char *value, size_t len)
{
	size_t from = 0;
	for (size_t i = 0; i < len; i++) {
		char c = value[i];
		if (c != '\t' && c != '\n' && c != '\r' && c != '\\')
			continue;
		text_add(out, value + from, i - from);
		char pair[2] = { '\\', c == '\t' ? 't' : c == '\n' ? 'n' : c == '\r' ? 'r' : '\\' };
		text_add(out, pair, 2);
		from = i + 1;
	}
	text_add(out, value + from, len - from);
}

static void add_escaped(struct text *out, const char *value, size_t len)
{
	if (plain(value, len)) {
		add_pairs(out, value, len);
		return;
	}
	_cleanup_text_ struct text pairs = { 0 };
	add_pairs(&pairs, value, len);
	_cleanup_free_ char *safe = text_printable(pairs.data);
	text_adds(out, safe);
}

void table_line(struct text *out, const char *value)
{
	_cleanup_free_ char *safe = text_printable(value);
	text_addf(out, "%s\n", safe);
}

void table_cell(struct table *t, const char *value, size_t len, const char *sgr)
{
	if (t->aligned) {
		keep_cell(t, value, len, sgr);
	} else {
		if (t->filled > 0)
			text_add(&t->out, "\t", 1);
		add_escaped(&t->out, value, len);
	}
	if (++t->filled < t->columns)
		return;
	t->filled = 0;
	t->rows++;
	if (!t->aligned)
		text_add(&t->out, "\n", 1);
	if (t->out.len >= OUT_BYTES)
		talk_out(&t->out);
}

void table_cells(struct table *t, const char *value)
{
	table_cell(t, value ? value : "", value ? strlen(value) : 0, NULL);
}

static void pad(struct text *out, size_t count)
{
	static const char blanks[] = "                                ";
	for (; count > sizeof(blanks) - 1; count -= sizeof(blanks) - 1)
		text_add(out, blanks, sizeof(blanks) - 1);
	text_add(out, blanks, count);
}

static void write_cell(struct table *t, size_t column, const char *value, const char *sgr)
{
	if (column >= t->shown)
		return;
	size_t len = strlen(value);
	if (sgr)
		text_addf(&t->out, "\033[%sm", sgr);
	text_add(&t->out, value, len);
	if (sgr)
		text_adds(&t->out, "\033[0m");
	if (column + 1 == t->shown)
		text_add(&t->out, "\n", 1);
	else
		pad(&t->out, t->width[column] - columns_of(value, len) + 2);
}

static void write_aligned(struct table *t)
{
	bool color = talk_color(STDOUT_FILENO);
	t->shown = t->columns;
	while (t->shown > 1 && !t->used[t->shown - 1])
		t->shown--;
	for (size_t i = 0; i < t->columns; i++)
		write_cell(t, i, t->headers[i], color ? TALK_BOLD : NULL);
	const char *p = t->cells.data;
	for (size_t row = 0; row < t->rows; row++) {
		for (size_t i = 0; i < t->columns; i++) {
			const char *sgr = p;
			p += strlen(p) + 1;
			write_cell(t, i, p, color && *sgr != '0' ? sgr : NULL);
			p += strlen(p) + 1;
		}
		if (t->out.len >= OUT_BYTES)
			talk_out(&t->out);
	}
}

void table_end(struct table *t)
{
	if (t->aligned && t->rows > 0)
		write_aligned(t);
	talk_out(&t->out);
	text_done(&t->out);
	text_done(&t->cells);
}

void table_relative(int64_t us, int64_t now, char ret[32])
{
	static const struct { int64_t seconds; const char *name; } units[] = {
		{ 365LL * 86400, "year" }, { 30LL * 86400, "month" }, { 86400, "day" },
		{ 3600, "hour" }, { 60, "minute" },
	};
	int64_t seconds = (now - us) / 1000000;
	bool future = seconds < 0;
	if (future)
		seconds = -seconds;
	/* A week that began a moment ago still lasts "7 days". */
	if (future)
		seconds += seconds >= 86400 ? 43200 : seconds >= 3600 ? 1800 : 30;
	for (size_t i = 0; i < ARRAY_LENGTH(units); i++) {
		int64_t n = seconds / units[i].seconds;
		if (n == 0)
			continue;
		snprintf(ret, 32, "%s%lld %s%s%s", future ? "in " : "", (long long)n, units[i].name,
		         n == 1 ? "" : "s", future ? "" : " ago");
		return;
	}
	snprintf(ret, 32, "%s", future ? "now" : "just now");
}

static char *two_digits(char *p, int value, char behind)
{
	*p++ = (char)('0' + value / 10 % 10);
	*p++ = (char)('0' + value % 10);
	*p++ = behind;
	return p;
}

void table_iso(int64_t us, char ret[32])
{
	time_t seconds = (time_t)(us / 1000000);
	struct tm tm;
	*ret = '\0';
	if (us <= 0 || !gmtime_r(&seconds, &tm) || tm.tm_year > 8099)
		return;
	char *p = two_digits(ret, (tm.tm_year + 1900) / 100, '\0') - 1;
	p = two_digits(p, tm.tm_year + 1900, '-');
	p = two_digits(p, tm.tm_mon + 1, '-');
	p = two_digits(p, tm.tm_mday, 'T');
	p = two_digits(p, tm.tm_hour, ':');
	p = two_digits(p, tm.tm_min, ':');
	p = two_digits(p, tm.tm_sec, 'Z');
	*p = '\0';
}

const char *table_state_color(const char *state, size_t len)
{
	static const struct { const char *state, *sgr; } colors[] = {
		{ "ready", TALK_GREEN }, { "creating", TALK_YELLOW }, { "broken", TALK_RED },
		{ "missing", TALK_RED }, { "trashed", TALK_DIM }, { "foreign", TALK_DIM },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(colors); i++)
		if (strlen(colors[i].state) == len && memcmp(colors[i].state, state, len) == 0)
			return colors[i].sgr;
	return NULL;
}

void table_pair(struct text *out, const char *key, const char *value)
{
	if (!value)
		return;
	if (!talk_terminal(STDOUT_FILENO)) {
		add_escaped(out, key, strlen(key));
		text_add(out, "\t", 1);
		add_escaped(out, value, strlen(value));
		text_add(out, "\n", 1);
		return;
	}
	_cleanup_free_ char *safe = text_printable(value), *safe_key = text_printable(key);
	bool color = talk_color(STDOUT_FILENO);
	text_addf(out, "%s%s:%s", color ? "\033[" TALK_BOLD "m" : "", safe_key, color ? "\033[0m" : "");
	pad(out, strlen(safe_key) < 18 ? 19 - strlen(safe_key) : 1);
	text_addf(out, "%s\n", safe);
}

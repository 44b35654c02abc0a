/* SPDX-License-Identifier: MIT */
/* See record.h. Owns nothing. */
#include <string.h>

#include "record.h"

char *record_field(const char **p, const char *end)
{
	struct text field = { 0 };
	const char *s = *p;
	text_add(&field, "", 0);
	if (s < end && *s == '"') {
		for (s++; s < end; s++) {
			if (*s == '"' && (s + 1 == end || s[1] != '"')) {
				s++;
				break;
			}
			s += *s == '"';
			text_add(&field, s, 1);
		}
	} else {
		while (s < end && *s != ',')
			text_add(&field, s++, 1);
	}
	*p = s;
	return field.data ? field.data : xstrdup("");
}

bool record_line(const char **p, const char *end, const char **ret, const char **ret_end)
{
	if (*p >= end)
		return false;
	const char *newline = memchr(*p, '\n', (size_t)(end - *p));
	const char *stop = newline ? newline : end;
	*ret = *p;
	*ret_end = stop > *p && stop[-1] == '\r' ? stop - 1 : stop;
	*p = newline ? newline + 1 : end;
	return true;
}

char *record_path(const char *site, const char *row)
{
	_cleanup_free_ char *joined = *row == '/' ? NULL : xasprintf("%s/%s", site, row);
	struct text out = { 0 };
	char *rest = joined, *part;
	while ((part = strsep(&rest, "/"))) {
		if (*part == '\0' || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") != 0) {
			text_addf(&out, "%s%s", out.len ? "/" : "", part);
			continue;
		}
		char *slash = out.len ? strrchr(out.data, '/') : NULL;
		if (out.len == 0) {
			text_done(&out);
			return NULL;
		}
		out.len = slash ? (size_t)(slash - out.data) : 0;
		out.data[out.len] = '\0';
	}
	return out.data;
}

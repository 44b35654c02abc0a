/* SPDX-License-Identifier: MIT */
/*
 * Failures of orders. Owns the translation of errno values into the interface's errors and makes every
 * foreign byte fit for JSON. Knows nothing of what was attempted: callers say so in words.
 */
#include <errno.h>
#include <string.h>

#include "failure.h"

void failure_done(struct failure *f)
{
	json_decref(f->parameters);
	*f = (struct failure){ 0 };
}

int failure_set(struct failure *f, enum error_code code, json_t *parameters)
{
	failure_done(f);
	*f = (struct failure){ .code = code, .parameters = parameters };
	return -1;
}

static int set_reason(struct failure *f, enum error_code code, const char *reason)
{
	return failure_set(f, code, json_pack("{so}", "reason", failure_text(reason)));
}

int failure_reason(struct failure *f, enum error_code code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	_cleanup_free_ char *reason = xvasprintf(fmt, ap);
	va_end(ap);
	return set_reason(f, code, reason);
}

int failure_errno(struct failure *f, const char *fmt, ...)
{
	int err = errno;
	va_list ap;
	va_start(ap, fmt);
	_cleanup_free_ char *what = xvasprintf(fmt, ap);
	va_end(ap);
	_cleanup_free_ char *reason = xasprintf("%s: %s", what, strerror(err));
	bool full = err == ENOSPC || err == EDQUOT;
	return set_reason(f, full ? ERROR_NO_SPACE : ERROR_FAILED, reason);
}

int failure_sync(struct failure *f)
{
	failure_errno(f, "cannot sync the root to the disk");
	f->sync_failed = true;
	return -1;
}

int failure_gone(struct failure *f)
{
	return failure_set(f, ERROR_CANCELLED, NULL);
}

bool failure_is_gone(const struct failure *f)
{
	return f->code == ERROR_CANCELLED;
}

void failure_move(struct failure *to, struct failure *from)
{
	failure_done(to);
	*to = *from;
	*from = (struct failure){ 0 };
}

json_t *failure_text(const char *s)
{
	_cleanup_free_ char *printable = text_printable(s);
	return json_string(printable);
}

json_t *failure_lines(const char *s, size_t max)
{
	size_t len = strlen(s);
	if (len > max) {
		s += len - max;
		const char *line = strchr(s, '\n');
		if (line && line[1])
			s = line + 1;
	}
	_cleanup_text_ struct text out = { 0 };
	text_adds(&out, "");
	while (*s) {
		size_t n = strcspn(s, "\n");
		_cleanup_free_ char *line = xstrndup(s, n);
		_cleanup_free_ char *printable = text_printable(line);
		text_adds(&out, printable);
		if (s[n])
			text_adds(&out, "\n");
		s += n + (s[n] != '\0');
	}
	return json_string(out.data);
}

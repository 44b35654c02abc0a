/* SPDX-License-Identifier: MIT */
/* See finding.h. Owns nothing. */
#include <stdarg.h>
#include <stdio.h>

#include "bounds.h"
#include "failure.h"
#include "finding.h"

void finding_add(json_t *findings, const char *kind, bool repairable, const char *command, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	if (json_array_size(findings) >= LIMIT_FINDINGS)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	json_t *finding = json_pack("{ss, so, sb}", "kind", kind, "text", failure_text(text), "repairable", repairable);
	if (command)
		json_object_set_new(finding, "command", failure_text(command));
	json_array_append_new(findings, finding);
}

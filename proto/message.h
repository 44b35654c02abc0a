/* SPDX-License-Identifier: MIT */
/* One Varlink message: a call as it came in, and the texts of replies as they go out (UAPI.20). */
#ifndef VENVD_MESSAGE_H
#define VENVD_MESSAGE_H
#include <jansson.h>
#include "errors.h"
#include "util.h"

struct call {
	json_t *message;        /* owned; the rest borrows from it */
	const char *method;     /* fully qualified */
	json_t *parameters;     /* an object or NULL (absent, null) */
	bool more;
	bool oneway;
	bool upgrade;
};

/* Why a text is no call, for the log; NULL when it is one and *ret was filled. The text is bounded by
 * LIMIT_JSON_DEPTH and LIMIT_JSON_TOKENS before it is parsed. Such a connection is closed unanswered. */
const char *call_parse(const char *text, size_t len, struct call *ret);
void call_done(struct call *);

/* The depth and token check alone; NULL if within limits. */
const char *message_scan(const char *text, size_t len);
/* Whether what comes from elsewhere is nested deeper than so many levels. */
bool message_is_deeper(const char *text, size_t len, unsigned levels);

/* Frames of replies, appended with their NUL: compact, `continues` last, no null, no other key.
 * parameters may be NULL (then {}); borrowed. */
void reply_add(struct text *out, const json_t *parameters, bool continues);
void reply_add_error(struct text *out, enum error_code, const json_t *parameters);
#endif

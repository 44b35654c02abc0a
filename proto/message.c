/* SPDX-License-Identifier: MIT */
/*
 * One Varlink message (UAPI.20): liberal in, strict out. A call is measured before it is parsed, so
 * a hostile text costs neither stack nor memory; a reply carries `parameters`, `error` and
 * `continues` and no other key, for sd-varlink hangs up on a fourth. Owns the parsed message of a
 * call. Which methods there are, and what their parameters must be, is for idl.c and the daemon to
 * say.
 */
#include <string.h>
#include "bounds.h"
#include "message.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

/* The byte after the string that begins at p (its opening quote), or end. */
static const char *after_string(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (*p == '"')
			return p + 1;
		if (*p == '\\')
			p++;
	}
	return end;
}

static bool in_scalar(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    c == '+' || c == '-' || c == '.';
}

enum excess { FITS, TOO_DEEP, TOO_MUCH };

static enum excess measure(const char *text, size_t len, unsigned max_depth, size_t max_tokens)
{
	const char *p = text, *end = text + len;
	unsigned depth = 0;
	size_t tokens = 0;

	while (p < end) {
		bool token = true;
		if (*p == '"') {
			p = after_string(p, end);
		} else if (*p == '{' || *p == '[') {
			if (++depth > max_depth)
				return TOO_DEEP;
			p++;
		} else if (in_scalar(*p)) {
			while (p < end && in_scalar(*p))
				p++;
		} else {
			depth -= (*p == '}' || *p == ']') && depth > 0;
			token = false;
			p++;
		}
		if (token && ++tokens > max_tokens)
			return TOO_MUCH;
	}
	return FITS;
}

const char *message_scan(const char *text, size_t len)
{
	static const char *const why[] = {
		[TOO_DEEP] = "nested deeper than " STRING(LIMIT_JSON_DEPTH) " levels",
		[TOO_MUCH] = "more than " STRING(LIMIT_JSON_TOKENS) " values and keys",
	};

	return why[measure(text, len, LIMIT_JSON_DEPTH, LIMIT_JSON_TOKENS)];
}

bool message_is_deeper(const char *text, size_t len, unsigned levels)
{
	return measure(text, len, levels, SIZE_MAX) != FITS;
}

/* Takes one key of the header; says what is wrong with it. */
static const char *take_key(const char *key, json_t *value, struct call *ret)
{
	bool *flag = strcmp(key, "more") == 0 ? &ret->more :
	    strcmp(key, "oneway") == 0 ? &ret->oneway :
	    strcmp(key, "upgrade") == 0 ? &ret->upgrade : NULL;

	if (flag) {
		if (!json_is_boolean(value) && !json_is_null(value))
			return "'more', 'oneway' or 'upgrade' is no boolean";
		*flag = json_is_true(value);
	} else if (strcmp(key, "method") == 0) {
		if (!json_is_string(value))
			return "'method' is no string";
		ret->method = json_string_value(value);
	} else if (strcmp(key, "parameters") == 0) {
		if (!json_is_object(value) && !json_is_null(value))
			return "'parameters' is no object";
		ret->parameters = json_is_object(value) ? value : NULL;
	} else if (!strchr(key, '.')) {
		/* Those of other vendors have a domain in their name and are not our business. */
		return "unknown key beside 'method' and 'parameters'";
	}
	return NULL;
}

static const char *take_header(struct call *call)
{
	const char *key;
	json_t *value;

	if (!json_is_object(call->message))
		return "no JSON object";
	json_object_foreach(call->message, key, value) {
		const char *why = take_key(key, value, call);
		if (why)
			return why;
	}
	if (!call->method)
		return "no 'method'";
	if (call->more + call->oneway + call->upgrade > 1)
		return "more than one of 'more', 'oneway' and 'upgrade'";
	return NULL;
}

const char *call_parse(const char *text, size_t len, struct call *ret)
{
	const char *why = message_scan(text, len);

	if (why)
		return why;
	json_error_t error;
	struct call call = { .message = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error) };
	if (!call.message)
		return "no JSON text in UTF-8 with unlike keys";
	why = take_header(&call);
	if (why)
		json_decref(call.message);
	else
		*ret = call;
	return why;
}

void call_done(struct call *call)
{
	json_decref(call->message);
	*call = (struct call){ 0 };
}

static int add_cb(const char *data, size_t len, void *text)
{
	text_add(text, data, len);
	return 0;
}

static void add_parameters(struct text *out, const json_t *parameters)
{
	text_adds(out, "\"parameters\":");
	if (!json_is_object(parameters))
		text_adds(out, "{}");
	else if (json_dump_callback(parameters, add_cb, out, JSON_COMPACT) < 0)
		abort();
}

void reply_add(struct text *out, const json_t *parameters, bool continues)
{
	text_adds(out, "{");
	add_parameters(out, parameters);
	text_adds(out, continues ? ",\"continues\":true}" : "}");
	text_add(out, "", 1);
}

void reply_add_error(struct text *out, enum error_code code, const json_t *parameters)
{
	text_adds(out, "{\"error\":");
	text_add_json(out, error_name(code));
	text_adds(out, ",");
	add_parameters(out, parameters);
	text_adds(out, "}");
	text_add(out, "", 1);
}

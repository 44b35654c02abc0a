/* SPDX-License-Identifier: MIT */
/*
 * A listing of ten thousand environments is ten thousand small JSON objects. A JSON library makes
 * a tree of each, some twenty allocations, only for its texts to be copied out again; that alone
 * took longer than all the rest of 'venvctl list'. The daemon promises compact replies, so their
 * common form, one flat object of strings without escapes, integers and booleans, is read here in
 * place.
 *
 * Whatever is not exactly of that form goes through jansson: this reader may give up, but never
 * guesses.
 */
#include <stdio.h>
#include <string.h>
#include "row.h"
#include "util.h"

#define INTEGER_DIGITS 18       /* any of so many fit 64 bits */

/* Behind the literal word if the text goes on with it, else NULL. */
static const char *skip(const char *p, const char *end, const char *word, size_t len)
{
	return (size_t)(end - p) >= len && memcmp(p, word, len) == 0 ? p + len : NULL;
}

/* Behind a string's closing quote, with what is between in ret; NULL if it has escapes, controls or no end. */
static const char *read_string(const char *p, const char *end, const char **ret, size_t *ret_len)
{
	if (p == end || *p++ != '"')
		return NULL;
	*ret = p;
	while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= ' ')
		p++;
	*ret_len = (size_t)(p - *ret);
	return p < end && *p == '"' ? p + 1 : NULL;
}

/* A string, an integer, true or false: null is no value. */
static const char *read_scalar(const char *p, const char *end, const char **ret, size_t *ret_len)
{
	if (p < end && *p == '"')
		return read_string(p, end, ret, ret_len);
	*ret = p;
	const char *word = skip(p, end, "true", 4);
	if (!word)
		word = skip(p, end, "false", 5);
	const char *digits = p + (p < end && *p == '-');
	for (p = digits; !word && p < end && *p >= '0' && *p <= '9';)
		p++;
	if (word)
		p = word;
	else if (p == digits || p > digits + INTEGER_DIGITS || (*digits == '0' && p > digits + 1))
		return NULL;
	*ret_len = (size_t)(p - *ret);
	return p;
}

/* Reads the object at p; behind its brace, or NULL if it is not of the common form. */
static const char *read_object(const char *p, const char *end, struct row *row)
{
	row->object = p;
	row->count = 0;
	if (p == end || *p++ != '{')
		return NULL;
	while (p < end && *p != '}') {
		struct row_field f;
		p = read_string(p, end, &f.key, &f.key_len);
		if (!p || p == end || *p++ != ':')
			return NULL;
		p = read_scalar(p, end, &f.value, &f.len);
		if (!p || p == end || (*p != ',' && *p != '}'))
			return NULL;
		if (row->count < ROW_FIELDS)
			row->field[row->count++] = f;
		if (*p == ',' && (++p == end || *p != '"'))
			return NULL;
	}
	if (p >= end)
		return NULL;
	row->object_len = (size_t)(p + 1 - row->object);
	return p + 1;
}

static bool read_compact(const char *frame, size_t len, const char *key, struct row *row)
{
	const char *end = frame + len;
	const char *p = skip(frame, end, "{\"parameters\":", 14);
	if (p && key) {
		const char *name;
		size_t name_len;
		if (p == end || *p++ != '{')
			return false;
		p = read_string(p, end, &name, &name_len);
		if (!p || name_len != strlen(key) || memcmp(name, key, name_len) != 0)
			return false;
		if (p == end || *p++ != ':')
			return false;
	}
	p = p ? read_object(p, end, row) : NULL;
	if (p && key)
		p = p < end && *p == '}' ? p + 1 : NULL;
	if (!p)
		return false;
	const char *tail = skip(p, end, ",\"continues\":true}", 18);
	if (!tail)
		tail = skip(p, end, "}", 1);
	return tail == end;
}

static void take_field(struct row *row, const char *key, const json_t *value)
{
	struct row_field *f = &row->field[row->count];
	f->key = key;
	f->key_len = strlen(key);
	if (json_is_string(value)) {
		f->value = json_string_value(value);
	} else if (json_is_integer(value)) {
		snprintf(row->number[row->count], sizeof(row->number[0]), "%lld",
		         (long long)json_integer_value(value));
		f->value = row->number[row->count];
	} else if (json_is_boolean(value)) {
		f->value = json_is_true(value) ? "true" : "false";
	} else {
		return;
	}
	f->len = strlen(f->value);
	row->count++;
}

static bool read_parsed(const char *frame, size_t len, const char *key, struct row *row)
{
	json_auto_t *reply = json_loadb(frame, len, 0, NULL);
	json_t *object = json_object_get(reply, "parameters");
	if (!json_is_object(reply) || json_object_get(reply, "error"))
		return false;
	row->object = NULL;
	row->count = 0;
	if (key)
		object = json_object_get(object, key);
	if (!json_is_object(object))
		return true;
	row->held = json_incref(object);
	row->text = json_dumps(object, JSON_COMPACT);
	row->object = row->text;
	row->object_len = row->text ? strlen(row->text) : 0;
	const char *name;
	json_t *value;
	json_object_foreach(object, name, value)
		if (row->count < ROW_FIELDS)
			take_field(row, name, value);
	return true;
}

bool row_read(const char *frame, size_t len, const char *key, struct row *row)
{
	row->held = NULL;
	row->text = NULL;
	return read_compact(frame, len, key, row) || read_parsed(frame, len, key, row);
}

void row_done(struct row *row)
{
	json_decref(row->held);
	free(row->text);
	row->held = NULL;
	row->text = NULL;
}

const struct row_field *row_field(const struct row *row, const char *key)
{
	size_t len = strlen(key);
	for (size_t i = 0; i < row->count; i++)
		if (row->field[i].key_len == len && memcmp(row->field[i].key, key, len) == 0)
			return &row->field[i];
	return NULL;
}

int64_t row_integer(const struct row_field *f)
{
	if (!f || f->len == 0 || f->len > INTEGER_DIGITS)
		return 0;
	int64_t value = 0;
	for (size_t i = 0; i < f->len; i++) {
		if (f->value[i] < '0' || f->value[i] > '9')
			return 0;
		value = value * 10 + (f->value[i] - '0');
	}
	return value;
}

/* SPDX-License-Identifier: MIT */
/*
 * The client's reader of replies. What it reads in place is what jansson would have read: the frame is JSON (if it is UTF-8,
 * which this reader does not look at), the object's text is that object, each field has the value that it has there.
 */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "row.h"
#include "util.h"

static bool is_ascii(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] >= 0x80)
			return false;
	return true;
}

/* It was read in place. */
static void compare_text(const struct row *row, const json_t *object)
{
	json_t *again = json_loadb(row->object, row->object_len, 0, NULL);
	assert(json_equal(again, object));
	json_decref(again);
}

static void compare(const struct row *row, const json_t *object)
{
	for (size_t i = 0; i < row->count; i++) {
		const struct row_field *f = &row->field[i];
		char *key = xstrndup(f->key, f->key_len);
		const json_t *value = json_object_get(object, key);
		if (json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value)) {
			/* Of a key that is there twice jansson keeps the last. */
			const struct row_field *found = row_field(row, key);
			assert(found != f || row->count > 1 ||
			    (f->len == json_string_length(value) && memcmp(f->value, json_string_value(value), f->len) == 0));
		}
		free(key);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct row row;
	char *text = xstrndup("", 0);
	text = xreallocarray(text, len + 1, 1);
	memcpy(text, data, len);
	text[len] = '\0';
	for (int i = 0; i < 2; i++) {
		const char *key = i ? "environment" : NULL;
		if (row_read(text, len, key, &row)) {
			json_t *reply = json_loadb(text, len, 0, NULL);
			const json_t *parameters = json_object_get(reply, "parameters");
			assert(reply || !is_ascii(text, len));
			if (reply && row.object && !row.held)
				compare_text(&row, key ? json_object_get(parameters, key) : parameters);
			if (reply && row.object)
				compare(&row, key ? json_object_get(parameters, key) : parameters);
			row_integer(row_field(&row, "createdAt"));
			json_decref(reply);
		}
		row_done(&row);
	}
	free(text);
	return 0;
}

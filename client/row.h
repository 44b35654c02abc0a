/* SPDX-License-Identifier: MIT */
/* The flat objects of replies, read where they lie: no allocation a row. */
#ifndef VENVCTL_ROW_H
#define VENVCTL_ROW_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROW_FIELDS 32           /* more are left out */

struct row_field {
	const char *key;
	size_t key_len;
	const char *value;      /* a string without its quotes, or a number; no NUL ends it */
	size_t len;
};

struct row {
	const char *object;     /* the object's own text; NULL if the reply holds none */
	size_t object_len;
	struct row_field field[ROW_FIELDS];
	size_t count;
	json_t *held;           /* what the fields point into if it had to be parsed in full */
	char *text;             /* likewise */
	char number[ROW_FIELDS][24];
};

/* Fills the row from a reply's frame: from parameters.KEY, or from parameters themselves if key is
 * NULL. false if the frame is no reply. The row points into the frame. */
bool row_read(const char *frame, size_t len, const char *key, struct row *);
/* Needed after each row_read. */
void row_done(struct row *);

/* The field, or NULL. */
const struct row_field *row_field(const struct row *, const char *key);
int64_t row_integer(const struct row_field *);         /* 0 if it is none */
#endif

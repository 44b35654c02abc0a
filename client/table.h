/* SPDX-License-Identifier: MIT */
/* Rows on stdout: aligned for a terminal, tab-separated for a program. Columns at the end without a
 * value are not shown on a terminal. */
#ifndef VENVCTL_TABLE_H
#define VENVCTL_TABLE_H
#include <stdbool.h>
#include <stdint.h>
#include "util.h"

#define TABLE_COLUMNS 8

struct table {
	const char *const *headers;
	size_t columns;
	size_t shown;                   /* of them, once that is known */
	bool aligned;
	size_t rows;
	size_t filled;                  /* cells of the row under way */
	size_t width[TABLE_COLUMNS];
	bool used[TABLE_COLUMNS];       /* a cell of it is not empty */
	struct text cells;              /* aligned: colour digit, text, NUL, for each cell */
	struct text out;
};

/* headers: one a column, borrowed, upper case. */
void table_init(struct table *, const char *const *headers, size_t columns);
/* The next cell of the row; the last one ends the row. sgr: a colour of talk.h or NULL. */
void table_cell(struct table *, const char *value, size_t len, const char *sgr);
void table_cells(struct table *, const char *value);    /* NULL: there is none */
/* Writes what was not yet written, and frees. */
void table_end(struct table *);

/* "2 days ago", "in 3 hours"; ret holds 32 bytes. */
void table_relative(int64_t us, int64_t now, char ret[32]);
/* "2026-11-23T19:58:07Z"; ret holds 32 bytes; empty for 0. */
void table_iso(int64_t us, char ret[32]);

/* The colour of a state, or NULL. */
const char *table_state_color(const char *state, size_t len);

/* "key: value" lines: keys aligned on a terminal, tab-separated elsewhere. Nothing for a NULL
 * value. */
void table_pair(struct text *out, const char *key, const char *value);
/* A value that has a line for itself, made safe. */
void table_line(struct text *out, const char *value);
#endif

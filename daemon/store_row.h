/* SPDX-License-Identifier: MIT */
/* The catalog's rows as SQLite has them and as the daemon does: for store.c. */
#ifndef VENVD_STORE_ROW_H
#define VENVD_STORE_ROW_H
#include <sqlite3.h>
#include "store.h"

#define ROW_COLUMNS "id, name, state, intent, ino, btime_ns, executable, interpreter, " \
	"implementation, version, prompt, project, system_site_packages, pip, origin, creator, " \
	"created_at, deleted_at, expires_at, missing_since, problem, entry, location, options, new_name, protected, looked"
#define ROW_REQUEST_COLUMNS "id, method, fingerprint, environment_id, error, parameters, at_us"

struct row {
	uint64_t begins;                /* the name's first bytes, so that they compare as it does */
	struct environment *env;
};

/* All environments, by name and id. */
struct row_list {
	struct row *rows;               /* NULL: none have been read */
	size_t count;
};

/* stmt: ROW_COLUMNS of all. SQLITE_OK, or what SQLite said; *ret_unfit is an owned sentence if a row has values that
 * the schema would not have let in, and then nothing is read. */
int row_list_read(struct row_list *ret, sqlite3_stmt *stmt, char **ret_unfit);
/* One after the other to row(), which owns what it gets; the list is done with. */
void row_list_give(struct row_list *, void (*row)(struct environment *, void *), void *arg);
void row_list_done(struct row_list *);

struct store_request *row_request(sqlite3_stmt *);      /* owned */

/* To the parameters ?1 and on. What is bound must outlive the step. */
void row_bind(sqlite3_stmt *, const struct environment *);
void row_bind_request(sqlite3_stmt *, const struct store_request *);
void row_bind_text(sqlite3_stmt *, int i, const char *);
#endif

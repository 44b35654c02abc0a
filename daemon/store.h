/* SPDX-License-Identifier: MIT */
/*
 * The catalog on disk: one SQLite connection on a thread of its own, which commits in groups: what
 * has queued while the last commit ran goes into the next. Nobody else opens the file. Everything
 * that crosses is a plain copy that the store then owns. Completions come back to the loop: when
 * store_fd() becomes readable, call store_deliver().
 *
 * An I/O error or corruption while running is never retried: logged, then abort(); the next start
 * reconciles. A full disk fails the group (ok = false) and is tried again with the next group.
 */
#ifndef VENVD_STORE_H
#define VENVD_STORE_H
#include "environment.h"

struct store;

/* A remembered request id: what the first call with it led to. */
struct store_request {
	char *id;               /* the client's */
	char *method;           /* "Create" */
	char fingerprint[17];   /* of the parameters */
	char environment_id[17]; /* "" if none */
	char *error;            /* wire name of the error, NULL = done */
	char *parameters;       /* JSON text of the error's parameters, or NULL */
	int64_t at_us;
};
void store_request_free(struct store_request *);

/* Opens or makes PATH_CATALOG in state_fd; NULL state (-1): in memory only (a daemon that only
 * looks). Migrates; checks. NULL with *ret_why an owned sentence (with a second line "hint: ..."
 * where there is one) if the schema is newer or the file cannot be used. A damaged file is moved
 * aside to catalog.db.damaged and a new one begun; *ret_note then says so (owned). root is for the
 * hint's words alone. */
struct store *store_open(int state_fd, const char *root, char **ret_why, char **ret_note);

/* Before store_start, on the caller's thread: every row. Takes nothing; the callback owns what it
 * gets. */
int store_load(struct store *, void (*row)(struct environment *, void *),
    void (*request)(struct store_request *, void *), void *arg);

void store_start(struct store *);       /* the thread, all signals blocked */
int store_fd(const struct store *);     /* an eventfd, for the loop's EV_READ */

typedef void store_done_fn(bool ok, void *arg);
/* Inserts or replaces the row of env->id (a copy is taken). done, if not NULL, is called from
 * store_deliver() once it is on the disk; without one nobody waits for it. */
void store_put(struct store *, const struct environment *, store_done_fn *done, void *arg);
/* The same and, if it is not NULL, a request's row: both are on the disk or neither. */
void store_put_both(struct store *, const struct environment *, const struct store_request *,
    store_done_fn *done, void *arg);
/* The row goes; a request's may come with it. */
void store_drop(struct store *, const char *id, const struct store_request *, store_done_fn *done, void *arg);
void store_put_request(struct store *, const struct store_request *, store_done_fn *done, void *arg);
void store_drop_request(struct store *, const char *id);
/* Forgets requests older than at_us. */
void store_drop_requests(struct store *, int64_t older_than_us);

void store_deliver(struct store *);
bool store_idle(const struct store *);  /* nothing queued, running or undelivered */
/* Finishes what is queued, checkpoints, closes, joins, frees. */
void store_close(struct store *);
#endif

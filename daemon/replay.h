/* SPDX-License-Identifier: MIT */
/*
 * Request ids: the same id again attaches to the operation that still runs, or gets the first result.
 * Looked up before any other check of a call.
 */
#ifndef VENVD_REPLAY_H
#define VENVD_REPLAY_H
#include "environment.h"
#include "request.h"
#include "store.h"

struct operation;
struct replay_record;

struct replay *replay_new(struct venvd *);
void replay_free(struct replay *);
void replay_load(struct replay *, struct store_request *);      /* a row of the catalog; takes it */

/* True if the request was answered, or attached to its running operation: the method has no more to do.
 * Answers InvalidParameter if the id was used for another call. */
bool replay_answer(struct replay *, struct request *);
/* Remembers the request's id, if it has one, as op's; NULL if it has none. */
struct replay_record *replay_begin(struct replay *, struct request *, struct operation *op);
/* The row that says that it led to this environment, for whoever writes it with the environment's own; borrowed.
 * NULL for NULL. */
const struct store_request *replay_success(struct replay_record *, const char *env_id);
/* It did not, after all: the row is dropped again. */
void replay_take_back(struct replay *, struct replay_record *);
/* At the start: what led to this environment since then did not, after all, and is forgotten. method: "Delete", or NULL for
 * all of them. */
void replay_forget_environment(struct replay *, const char *env_id, const char *method, int64_t since_us);
/* The same of the last one, if it was a Rename, or a Restore under another name, and came since then. */
void replay_forget_rename(struct replay *, const char *env_id, int64_t since_us);
/* The operation's outcome; env_id "" if it left no environment. error ERROR_NONE: done. Records and frees the tie.
 * True if done, if not NULL, will be called once that is on the disk; false: there is nothing to wait for. */
bool replay_end(struct replay *, struct replay_record *, const char *env_id, enum error_code,
    const json_t *parameters, store_done_fn *done, void *arg);
/* Cancelled, or not a result that would be the same again: forgotten. */
void replay_forget(struct replay *, struct replay_record *);
#endif

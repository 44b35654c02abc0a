/* SPDX-License-Identifier: MIT */
/*
 * What is under way for an environment: who waits for it, and how all of them hear its outcome. The
 * first member of each concrete operation (a creation, a removal, ...), which frees itself after
 * operation_reply() or operation_error().
 */
#ifndef VENVD_OPERATION_H
#define VENVD_OPERATION_H
#include "environment.h"
#include "request.h"
#include "store.h"

struct replay_record;

struct operation {
	struct venvd *venvd;
	struct request_list waiters;
	struct replay_record *replay;
	struct environment *env;        /* in the index, its `busy` is this operation */
	bool runs_to_its_end;           /* a closed connection does not cancel it */
	void (*cancel)(struct operation *);     /* NULL: nothing can be taken back any more */
	enum error_code error;          /* the first thing that went wrong: what is begun is taken back, and then it is the answer */
	json_t *error_parameters;
	TAILQ_ENTRY(operation) entry;
};

/* Parks the request and marks env as this operation's. */
void operation_begin(struct operation *, struct venvd *, struct request *, struct environment *env);
void operation_attach(struct operation *, struct request *);
/* One more reply for those who asked with `more`; takes parameters. */
void operation_progress(struct operation *, json_t *parameters);
/* Writes env's row, and in the same commit what the request's id, if there is one, leads to: success. The answer
 * then waits for no further commit. */
void operation_put(struct operation *, store_done_fn *done, void *arg);
/* The same with this row of env, which need not be what the index has yet. */
void operation_put_row(struct operation *, const struct environment *row, store_done_fn *done, void *arg);
/* The same where the row goes. */
void operation_drop_row(struct operation *, store_done_fn *done, void *arg);
/* It did not come to that: what was written under the id is dropped, before env's row is. */
void operation_take_back(struct operation *);
/* The outcome, to all; lets go of env (NULL it first if it was freed). Takes parameters. */
void operation_reply(struct operation *, json_t *parameters);
void operation_error(struct operation *, enum error_code, json_t *parameters);

/* The present moment, counted in operations' beginnings and ends. */
uint64_t operation_moment(void);
/* Whether what was asked of a worker at that moment, or later, may have been answered before an operation did something to
 * env, or is doing it. Whatever one has had of a missing one, a directory it was not. */
bool operation_has_had(const struct environment *env, uint64_t moment);

/* Something went wrong; what did so before counts. parameters are borrowed, or NULL. */
void operation_fail(struct operation *, enum error_code, const json_t *parameters);
void operation_fail_reason(struct operation *, enum error_code, const char *reason);
/* The catalog's file system is full. */
void operation_fail_full(struct operation *);
/* No worker takes the order now. */
void operation_fail_refused(struct operation *);
/* What has failed cannot be taken back wholly: what the answer says then. */
void operation_fail_changed(struct operation *, const char *what);
/* It is taken back: operation_error() with what went wrong. */
void operation_failed(struct operation *);

/* Tells every operation that can be cancelled to cancel itself: the daemon ends. */
void operation_cancel_all(void);
bool operation_none(void);
#endif

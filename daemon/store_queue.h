/* SPDX-License-Identifier: MIT */
/* What waits to be written to the catalog, and what waits to be told of it: lists of operations. */
#ifndef VENVD_STORE_QUEUE_H
#define VENVD_STORE_QUEUE_H
#include "store.h"

enum store_op_kind {
	STORE_OP_PUT, STORE_OP_DROP, STORE_OP_PUT_REQUEST, STORE_OP_DROP_REQUEST,
	STORE_OP_DROP_REQUESTS
};

/* One thing to write, and who waits for it. Owns what it points at but arg. */
struct store_op {
	struct store_op *next;
	enum store_op_kind kind;
	struct environment *env;        /* PUT */
	struct store_request *request;  /* PUT_REQUEST; PUT: its row as well, or NULL */
	char *id;                       /* DROP, DROP_REQUEST */
	int64_t older_than_us;          /* DROP_REQUESTS */
	store_done_fn *done;
	void *arg;
	bool ok;
};

struct store_queue {
	struct store_op *first, **end;
	size_t count;
};

struct store_op *store_op_new(enum store_op_kind, store_done_fn *done, void *arg);
void store_op_free(struct store_op *);
struct store_request *store_request_copy(const struct store_request *);

void store_queue_init(struct store_queue *);
void store_queue_add(struct store_queue *, struct store_op *op);        /* takes op */
struct store_op *store_queue_take(struct store_queue *);                /* owned; NULL if empty */
/* After a group: those who wait go to `done`, told how it went; the rest is finished with or, if it failed, kept for the
 * next group while that has less than `most`. */
void store_queue_settle(struct store_queue *group, bool ok, struct store_queue *done, struct store_queue *kept, size_t most);
/* All of from to the end of to. */
void store_queue_move(struct store_queue *to, struct store_queue *from);
#endif

/* SPDX-License-Identifier: MIT */
/*
 * Operations on their way to the catalog and back: plain lists, and the copies that cross from the
 * loop to the store's thread. Nothing here locks or waits, and nothing knows SQLite: store.c does
 * both.
 *
 * Invariant: `end` points at the link that a new operation is hung on, which is `first` when there
 * is none.
 */
#include "store_queue.h"

struct store_op *store_op_new(enum store_op_kind kind, store_done_fn *done, void *arg)
{
	struct store_op *op = xcalloc(1, sizeof(*op));

	op->kind = kind;
	op->done = done;
	op->arg = arg;
	return op;
}

void store_op_free(struct store_op *op)
{
	environment_free(op->env);
	store_request_free(op->request);
	free(op->id);
	free(op);
}

struct store_request *store_request_copy(const struct store_request *from)
{
	struct store_request *request = xmalloc(sizeof(*request));

	*request = *from;
	request->id = xstrdup(from->id);
	request->method = xstrdup(from->method);
	request->error = xstrdup(from->error);
	request->parameters = xstrdup(from->parameters);
	return request;
}

void store_request_free(struct store_request *request)
{
	if (!request)
		return;
	free(request->id);
	free(request->method);
	free(request->error);
	free(request->parameters);
	free(request);
}

void store_queue_init(struct store_queue *queue)
{
	*queue = (struct store_queue){ .end = &queue->first };
}

void store_queue_add(struct store_queue *queue, struct store_op *op)
{
	op->next = NULL;
	*queue->end = op;
	queue->end = &op->next;
	queue->count++;
}

struct store_op *store_queue_take(struct store_queue *queue)
{
	struct store_op *op = queue->first;

	if (!op)
		return NULL;
	queue->first = op->next;
	if (!queue->first)
		queue->end = &queue->first;
	queue->count--;
	return op;
}

void store_queue_move(struct store_queue *to, struct store_queue *from)
{
	if (!from->first)
		return;
	*to->end = from->first;
	to->end = from->end;
	to->count += from->count;
	store_queue_init(from);
}

void store_queue_settle(struct store_queue *group, bool ok, struct store_queue *done, struct store_queue *kept, size_t most)
{
	struct store_op *op;

	while ((op = store_queue_take(group))) {
		op->ok = ok;
		if (op->done)
			store_queue_add(done, op);
		else if (!ok && kept->count < most)
			store_queue_add(kept, op);
		else
			store_op_free(op);
	}
}

/* SPDX-License-Identifier: MIT */
/* The worker's end of the socketpair: orders in, frames and answers out (proto/orders.h). */
#ifndef VENVD_WORKER_TALK_H
#define VENVD_WORKER_TALK_H
#include <jansson.h>
#include "failure.h"

void talk_init(void);
void talk_done_with(void);      /* frees what it holds, at the end */

/* The next order or message, owned. wait = false: NULL when none has come yet. NULL at EOF too, see
 * talk_gone(). Anything that is no JSON object ends the worker with status 1. */
json_t *talk_next(bool wait);

/* Whether the daemon has closed its end (or sends what nobody asked for, which is no better). Never
 * waits. Not for use between orders of the resident. */
bool talk_gone(void);

/* All take what they are given but the order; after the daemon is gone they do nothing. */
void talk_frame(const json_t *order, const char *kind, json_t *fields);
void talk_progress(const json_t *order, const char *stage);
void talk_answer(const json_t *order, json_t *fields);         /* fields may be NULL */
void talk_fail(const json_t *order, struct failure *);

/* Says `reserved` with these fields (taken) and waits for the daemon's word. 0: "go", its row is on the disk; -1:
 * failure_is_gone(). */
int talk_reserved(const json_t *order, json_t *fields, struct failure *);

/* json_unpack of an order that must fit; else the worker ends with status 1. */
void talk_unpack(json_t *order, const char *fmt, ...);
/* The same for a number of an order that must be more than 0, */
void talk_positive(int number);
/* and for a path of an order that must be absolute; NULL is none. */
void talk_absolute(const char *path);
#endif

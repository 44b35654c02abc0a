/* SPDX-License-Identifier: MIT */
/* Whether processes run from an environment, before its tree is taken away from under them. */
#ifndef VENVD_INUSE_H
#define VENVD_INUSE_H
#include <jansson.h>

#include "environment.h"
#include "request.h"
#include "venvd.h"

/* refusal: the parameters of InUse, NULL if nothing runs from it; warnings: an array of sentences. Both borrowed.
 * What could not be looked at does not run. */
typedef void inuse_done_fn(const json_t *refusal, json_t *warnings, void *arg);

/* A question under way: part of whoever asks it. */
struct inuse_question {
	const struct environment *env;
	inuse_done_fn *done;
	void *arg;
};

/* Looks for processes of env, which is kept by its asker until done; the process that sent r, and those that started it, do
 * not count. done may be called at once. */
void inuse_look(struct venvd *, const struct request *r, const struct environment *env, struct inuse_question *,
    inuse_done_fn *done, void *arg);

/* Protected, answered; true if it was. */
bool inuse_refuse_protected(struct request *, const struct environment *env);
#endif

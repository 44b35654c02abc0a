/* SPDX-License-Identifier: MIT */
/* Whether processes run from an environment, before its tree is taken away from under them. */
#ifndef VENVD_INUSE_H
#define VENVD_INUSE_H
#include <jansson.h>

#include "environment.h"
#include "request.h"
#include "venvd.h"

/* ERROR_NONE: nothing runs from it, or the look failed. ERROR_IN_USE, or ERROR_BUSY if it could not even be asked, with
 * the error's parameters. warnings: an array of sentences. Both borrowed. */
typedef void inuse_done_fn(enum error_code, const json_t *parameters, json_t *warnings, void *arg);

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

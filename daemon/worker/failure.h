/* SPDX-License-Identifier: MIT */
/* What went wrong with one order: the error and its parameters as they will stand on the wire. */
#ifndef VENVD_WORKER_FAILURE_H
#define VENVD_WORKER_FAILURE_H
#include <jansson.h>
#include "errors.h"
#include "util.h"

struct failure {
	enum error_code code;           /* ERROR_NONE: nothing went wrong */
	json_t *parameters;             /* owned */
	bool sync_failed;               /* the daemon must not go on with what it believes */
};
#define _cleanup_failure_ __attribute__((cleanup(failure_done)))

void failure_done(struct failure *);

/* Each sets *f, whose old content is freed, and returns -1. */
int failure_set(struct failure *f, enum error_code, json_t *parameters);       /* takes parameters */
int failure_reason(struct failure *f, enum error_code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* "WHAT: text of errno"; a full disk or quota becomes NoSpace, all else Failed. */
int failure_errno(struct failure *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* From errno: a sync failed. It is never tried again, for the kernel may call lost pages clean. */
int failure_sync(struct failure *f);
/* The daemon is gone or has closed the socket: nobody waits for an answer. */
int failure_gone(struct failure *f);
bool failure_is_gone(const struct failure *f);
/* *from becomes *to's. */
void failure_move(struct failure *to, struct failure *from);

/* s as a JSON string whatever its bytes are; what is not printable stands there as \xNN. */
json_t *failure_text(const char *s);
/* The same for several lines; at most max bytes of the end, from the start of a line if there is one. */
json_t *failure_lines(const char *s, size_t max);
#endif

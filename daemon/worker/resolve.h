/* SPDX-License-Identifier: MIT */
/* From what a request says to the interpreter that it means. */
#ifndef VENVD_WORKER_RESOLVE_H
#define VENVD_WORKER_RESOLVE_H
#include "probe.h"

struct resolution {
	const json_t *specs;            /* array of strings; empty: .python-version, else the default */
	const struct caller *caller;
	const char *const *dirs;        /* of the configuration, NULL-terminated; may be NULL */
	bool managed_first;
	int probe_ms;                   /* 0: nobody is asked, what is not known makes it return 1 */
	json_t *warnings;               /* an array that warnings are added to; borrowed */
};

/* Fills *ret, its source, reason and rule included. 0; 1: an interpreter would have to be asked (probe_ms 0
 * alone); -1 with the failure set (NoSuchInterpreter, UnsafeInterpreter, InterpreterFailed, Unsupported, gone). */
int resolve(const struct resolution *, struct interpreter *ret, struct failure *);

/* What the order `resolve` has answered, from memory alone: its source and rule borrow from answer, its warnings are
 * added. 0; 1: nobody knows that interpreter as it is now. */
int resolve_answered(json_t *answer, json_t *warnings, struct interpreter *ret);

/* An order's `search`, which may be NULL: the NULL-terminated dirs borrow from it, the array is owned. */
const char **resolve_search(json_t *search, bool *ret_managed_first);
#endif

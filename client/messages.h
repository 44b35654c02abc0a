/* SPDX-License-Identifier: MIT */
/* What went wrong, in words, with the way out and the exit status. */
#ifndef VENVCTL_MESSAGES_H
#define VENVCTL_MESSAGES_H
#include "session.h"

/*
 * Says why the answer is not a good one, on stderr, and returns the exit status. name is the
 * environment that was asked for (or NULL): what the answer leaves out is filled in from it. The
 * session is used once more where that makes a better hint; NULL if there is none.
 */
int messages_report(struct session *, const struct answer *, const char *name);

/* The same for an error of our own making; parameters are borrowed. */
int messages_refuse(enum error_code, json_t *parameters);

/* The command that does it all the same, for the hint where the answer is InUse; takes it. */
void messages_in_use(char *command);

/* The one that does it without pip, for the hint where the answer is NoEnsurepip; takes it. */
void messages_without_pip(char *command);

/* The warnings of a good answer, on stderr. */
void messages_warnings(const json_t *parameters);
#endif

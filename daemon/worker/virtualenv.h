/* SPDX-License-Identifier: MIT */
/* virtualenv, for the interpreters that are too old to have a venv module with a pip of use. */
#ifndef VENVD_WORKER_VIRTUALENV_H
#define VENVD_WORKER_VIRTUALENV_H
#include "probe.h"

struct virtualenv {
	char *command[3];       /* how it is called: "/usr/bin/virtualenv", or "/usr/bin/python2", "-m", "virtualenv" */
	size_t words;
	int numbers[2];         /* 20, 21 */
};
void virtualenv_done(struct virtualenv *);

/* The first installed one that still makes environments of this interpreter: the interpreter's own, those on the
 * caller's PATH, ~/.local/bin, pipx. Unsupported, with the command that installs one, if there is none; gone. */
int virtualenv_find(const struct interpreter *, const struct caller *, int probe_ms, struct virtualenv *ret,
    struct failure *);
#endif

/* SPDX-License-Identifier: MIT */
/* Running an interpreter's own venv module, and what its failure means. */
#ifndef VENVD_WORKER_BUILDER_H
#define VENVD_WORKER_BUILDER_H
#include "child.h"
#include "failure.h"
#include "probe.h"

/* `INTERPRETER -I -m venv ARGUMENTS...` (NULL-terminated, at most 32; the last is the directory), with the caller's
 * umask and cleaned environment, in the caller's directory. `what` is being made: a name for messages. -1: gone, or
 * as builder_failed() says. */
int builder_run_venv(const struct interpreter *, const struct caller *, const char *const *arguments,
    const char *what, struct failure *);

/* Sets the error for a child of this interpreter that did not end well: NoEnsurepip where Debian's venv says that
 * its package is missing, NoSpace, Unsupported for an option that it does not know, Failed with its own
 * sentence where it refuses ("Error: ..."), else InterpreterFailed with its output. Also for other makers than
 * the venv module: `module` is "venv" or "virtualenv". Returns -1. */
int builder_failed(const struct interpreter *, const struct child *, const char *module,
    const char *what, struct failure *);
/* Unsupported, for an option that this interpreter's tool does not know. */
int builder_unknown_option(const struct interpreter *, const char *module, const char *option,
    struct failure *);
/* Whether so little is left on this file system that what failed has failed for want of space. */
bool builder_disk_is_full(int fd);
#endif

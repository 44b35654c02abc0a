/* SPDX-License-Identifier: MIT */
/* Runs the tool that makes an environment: the interpreter's own `python -m venv`, or a virtualenv. */
#ifndef VENVD_WORKER_MAKER_H
#define VENVD_WORKER_MAKER_H
#include "probe.h"
#include "virtualenv.h"

/* The order's `options` but for the interpreter. */
struct maker_options {
	const char *prompt;     /* borrowed from the order; NULL: none was given */
	bool without_pip, system_site_packages, copies, without_scm_ignore_files;
	bool clear, upgrade, upgrade_deps;
};
void maker_options_read(struct maker_options *, json_t *options);

struct maker {
	const struct interpreter *interpreter;
	const struct virtualenv *virtualenv;    /* NULL: its own venv */
	const struct maker_options *options;
	const struct caller *caller;
	const char *path;       /* the environment's, absolute */
	const char *name;       /* what it is called in messages */
};

/* Whether the tool knows these options, before anything is made: Unsupported. */
int maker_check(const struct maker *, struct failure *);

/* Runs it. With a virtualenv --clear is left to the caller: it would make another directory, where venv keeps the
 * one that it empties. Failed with its own sentence if it refuses, InterpreterFailed with its output if it fails, NoEnsurepip,
 * Unsupported, or gone. */
int maker_run(const struct maker *, struct failure *);
#endif

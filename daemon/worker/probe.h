/* SPDX-License-Identifier: MIT */
/* One interpreter: what it says about itself. */
#ifndef VENVD_WORKER_PROBE_H
#define VENVD_WORKER_PROBE_H
#include "caller.h"
#include "failure.h"

struct interpreter {
	char *path;             /* as it will be invoked: absolute */
	char *executable;       /* its sys.executable */
	char *implementation;   /* "cpython" */
	char *version;          /* "3.12.1", "3.14.0rc1" */
	int numbers[3];
	bool has_venv, has_ensurepip;
	bool in_environment;    /* told by known.c: there is a pyvenv.cfg beside or above it */
	/* What images need, as it said so, owned: {"executable", "baseExecutable"|null, "basePrefix", "stdlib",
	 * "cacheTag", "scheme":{"scripts","include","purelib" with "@" for the base}|null, "lib64":bool, "platform",
	 * "encoding", "wheelDir"|null, "gilDisabled":bool, "debug":bool}. NULL: it said nothing of it. */
	json_t *facts;
	const char *rule;       /* constant; which rule chose it: "path", "PATH", "pin", "version", "name", ... */
	const char *source;     /* constant; where it was found */
	const char *state;      /* constant; "delegate" if its image says so; NULL: as its own answer says */
	char *reason;           /* why this one was chosen */
};
#define _cleanup_interpreter_ __attribute__((cleanup(interpreter_done)))
void interpreter_done(struct interpreter *);
void interpreter_copy(struct interpreter *to, const struct interpreter *from);  /* to is freed first */
json_t *interpreter_json(const struct interpreter *);

/* Whether facts are all there, each of its kind. */
bool probe_facts_fit(json_t *facts);

/* Whether the file's content begins with "#!": something that will run an interpreter, not one. */
bool probe_is_shim(const char *path);
/* Whether the interpreter at path is that of an environment. */
bool probe_in_environment(const char *path);

/* Is path safe to execute, and something that could be? NoSuchInterpreter, UnsafeInterpreter,
 * InterpreterFailed. `named` is what the user wrote. */
int probe_check(const char *path, const char *named, struct failure *);

/* Asks the interpreter at path; a shim is asked in the caller's directory for the one behind it, which
 * is then checked and asked. Errors as above. */
int probe_ask(const char *path, const struct caller *, int timeout_ms, struct interpreter *ret,
    struct failure *);

/* Whether it is of a version (2.6, 2.7, 3.0 to 3.5) whose environments virtualenv makes. */
bool probe_is_old(const struct interpreter *);

/* 0 if environments can be made with (or without) pip; else sets NoEnsurepip and returns -1. */
int probe_require_venv(const struct interpreter *, bool with_pip, struct failure *);
#endif

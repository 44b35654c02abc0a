/* SPDX-License-Identifier: MIT */
/* From what a request says to the interpreter that it means. */
#ifndef VENVD_WORKER_RESOLVE_H
#define VENVD_WORKER_RESOLVE_H
#include "probe.h"

/* spec: NULL, a path, a version or a name. Fills *ret, its source and reason included, or sets the
 * failure (NoSuchInterpreter, UnsafeInterpreter, InterpreterFailed, Unsupported, gone). */
int resolve(const char *spec, const struct caller *, int probe_ms, struct interpreter *ret,
    struct failure *);
#endif

/* SPDX-License-Identifier: MIT */
/*
 * What interpreters said of themselves, remembered in memory and in PATH_STATE/PATH_INTERPRETERS, a file for
 * each path as it is spelled. An answer holds as long as the path's own entry, the file it leads to and the
 * pyvenv.cfg beside or above it are what they were (dev, ino, size, mtime, ctime). Shims are never remembered:
 * only what is behind them.
 */
#ifndef VENVD_WORKER_KNOWN_H
#define VENVD_WORKER_KNOWN_H
#include "probe.h"

/* Of the interpreter at path: 0 with *ret; 1 if nothing valid is known; -1 if it was asked lately and gave no
 * answer, with the failure (which may be NULL) set. Starts no child, opens at most one file. */
int known_get(const char *path, struct interpreter *ret, struct failure *);
/* Remembers an answer that probe_ask() has just given; trouble is only told to the log. */
void known_put(const struct interpreter *);
/* probe_check(), then what is known, else probe_ask() and known_put(). With probe_ms 0 nothing is asked: 1. What
 * failed lately is asked again. */
int known_ask(const char *path, const char *named, const struct caller *, int probe_ms,
    struct interpreter *ret, struct failure *);

/* The paths that were added by hand. */
int known_add(const char *path, struct failure *);
int known_remove(const char *path, struct failure *);  /* NoSuchInterpreter if it was not added */
/* A NULL-terminated array, each and all owned (known_free_added). */
char **known_added(size_t *ret_count);
void known_free_added(char ***);
#endif

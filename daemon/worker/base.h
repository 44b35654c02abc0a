/* SPDX-License-Identifier: MIT */
/* From an environment to the interpreter that it was made from. */
#ifndef VENVD_WORKER_BASE_H
#define VENVD_WORKER_BASE_H
#include <stdbool.h>

/* Whether the directory holds a pyvenv.cfg. */
bool base_is_environment(const char *dir);
/* The base interpreter of the environment in this directory, through environments that were made from
 * environments; owned. NULL with *ret_why, owned, if that cannot be told. */
char *base_find(const char *dir, char **ret_why);
#endif

/* SPDX-License-Identifier: MIT */
/* Whether a path leads somewhere that not everybody could change. */
#ifndef VENVD_WORKER_TRUST_H
#define VENVD_WORKER_TRUST_H
#include <sys/stat.h>

/* Walks an absolute path, links and all. 0 with *ret, the end's. -1 with errno if it leads nowhere, or
 * with *ret_unsafe, an owned sentence, if something on the way could be replaced by anybody. */
int trust_check(const char *path, struct stat *ret, char **ret_unsafe);
#endif

/* SPDX-License-Identifier: MIT */
/* What is wrong with an environment, as the IDL's Finding; an array of them is what a diagnosis is. */
#ifndef VENVD_WORKER_FINDING_H
#define VENVD_WORKER_FINDING_H
#include <jansson.h>
#include "util.h"

#define FINDING_INTERPRETER "interpreter"       /* gone, or cannot be used */
#define FINDING_VERSION "version"               /* another one than it was made for */
#define FINDING_PATH "path"                     /* its files name another path */
#define FINDING_FILES "files"                   /* of packages, not as they were installed */
#define FINDING_REMAINS "remains"               /* of an interrupted pip, or repair */
#define FINDING_STALE "stale"                   /* a process runs what is not there any more */
#define FINDING_UNREADABLE "unreadable"

/* Adds one, as long as there are fewer than LIMIT_FINDINGS. repairable: the order repair may know a way. command: what a person
 * would type, or NULL. Whatever bytes are in them, they are printable afterwards. */
void finding_add(json_t *findings, const char *kind, bool repairable, const char *command, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
#endif

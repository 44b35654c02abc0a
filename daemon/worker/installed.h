/* SPDX-License-Identifier: MIT */
/* Whether what was installed in an environment is still there, as each RECORD says (PEP 376, PEP 627). */
#ifndef VENVD_WORKER_INSTALLED_H
#define VENVD_WORKER_INSTALLED_H
#include <jansson.h>

/* Adds what is missing or has another size, a finding a package, and what an interrupted pip left. name: the environment's,
 * for commands. Reads, and changes nothing. */
void installed_check(int env_fd, const char *name, json_t *findings);
#endif

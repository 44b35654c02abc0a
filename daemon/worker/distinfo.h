/* SPDX-License-Identifier: MIT */
/*
 * What is installed in an environment, read from dist-info and egg-info without running Python (PEP 376, 427,
 * 610). Hostile files are read up to their limits; what makes no sense is left out.
 */
#ifndef VENVD_WORKER_DISTINFO_H
#define VENVD_WORKER_DISTINFO_H
#include <jansson.h>

/* Packages as in the IDL, ordered by name, at most LIMIT_PACKAGES; owned. Every lib/<python>/site-packages of the
 * environment is read once. */
json_t *distinfo_read(int env_fd);
#endif

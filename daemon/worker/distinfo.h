/* SPDX-License-Identifier: MIT */
/*
 * What is installed in an environment, read from dist-info and egg-info without running Python (PEP 376, 427,
 * 610). Hostile files are read up to their limits; what makes no sense is left out.
 */
#ifndef VENVD_WORKER_DISTINFO_H
#define VENVD_WORKER_DISTINFO_H
#include <jansson.h>

/* Packages as in the IDL, ordered by name, at most LIMIT_PACKAGES; owned. Every lib/<python>/site-packages of the
 * environment is read once. NULL with errno if one of them cannot be, or not to its end. */
json_t *distinfo_read(int env_fd);

/* Calls for each site-packages of an environment: its descriptor, to be closed by whoever is called, and its path
 * there ("lib/python3.12/site-packages"). -1 with errno if there may be more. */
typedef void distinfo_site_fn(void *arg, int site_fd, const char *path);
int distinfo_sites(int env_fd, distinfo_site_fn *call, void *arg);
#endif

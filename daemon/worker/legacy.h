/* SPDX-License-Identifier: MIT */
/* Environments without pyvenv.cfg, as virtualenv made them before version 20. */
#ifndef VENVD_WORKER_LEGACY_H
#define VENVD_WORKER_LEGACY_H
#include <stdbool.h>

struct legacy {
	char *version;          /* "2.7", no more is recorded; or NULL */
	char *interpreter;      /* or NULL */
	bool system_site_packages;
};

void legacy_read(int env_fd, struct legacy *ret);
void legacy_done(struct legacy *);
#endif

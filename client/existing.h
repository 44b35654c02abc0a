/* SPDX-License-Identifier: MIT */
/* Whether an environment that exists is what 'create' would make: --exist-ok. */
#ifndef VENVCTL_EXISTING_H
#define VENVCTL_EXISTING_H
#include "session.h"

struct wanted {
	const char *name;
	const char *const *python;      /* specifications, NULL-terminated; none: any interpreter */
	const char *prompt;             /* or NULL */
	const char *path;               /* absolute, or NULL: in the root */
	bool without_pip, system_site_packages, copies, without_scm_ignore_files;
};

/* Says what differs, EXIT_EXISTS; or that it is there already, 0 with its path on stdout. */
int existing_accept(struct session *, const struct wanted *);
/* An environment's path for whoever reads stdout; on a terminal the words on stderr are enough. */
void existing_print_path(const json_t *environment);
#endif

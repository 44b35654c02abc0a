/* SPDX-License-Identifier: MIT */
#ifndef VENVCTL_VERBS_H
#define VENVCTL_VERBS_H
#include <stddef.h>
#include "venvctl.h"

/* Subjects of 'help' that are no verbs. */
struct topic {
	const char *name;
	const char *text;
};
const struct topic *topic_table(size_t *ret_count);
extern const char global_options_help[];
#endif

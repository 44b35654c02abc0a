/* SPDX-License-Identifier: MIT */
#ifndef VENVD_NAMES_H
#define VENVD_NAMES_H
#include <stdbool.h>
#include <stddef.h>

/* NULL if name is a fit name for an environment, [A-Za-z0-9_][A-Za-z0-9._-]{0,99}; else the rule that
 * it breaks, a constant English sentence without a full stop. The one judge of names, everywhere. */
const char *name_rule_broken(const char *name);

/* How many edits (insert, delete, replace, swap) lead from a to b; at most `max` + 1 is returned. */
unsigned name_distance(const char *a, const char *b, unsigned max);

/* The one of the candidates closest to word, NULL if none is close enough to suggest. Borrowed. */
const char *name_suggest(const char *word, const char *const *candidates, size_t count);
#endif

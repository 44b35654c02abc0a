/* SPDX-License-Identifier: MIT */
/*
 * One environment's making, by claim from what is prepared or in place, for Create and Recreate. It is an
 * operation: whoever begins one has checked everything that can be said without a look at the disk, and hears
 * no more of it; it answers its request.
 */
#ifndef VENVD_CREATION_H
#define VENVD_CREATION_H
#include <jansson.h>

#include "environment.h"
#include "operation.h"

struct creation_plan {
	json_t *options;        /* as orders take them (orders.h); owned */
	json_t *caller;         /* owned */
	bool in_place;          /* --clear, --upgrade, --upgrade-deps, elsewhere: never by claim */
	bool keeps_options;     /* --upgrade: what it was made with stays recorded */
	bool any_python;        /* nobody has asked for the interpreter that options name: that is not recorded */
	bool replaces;          /* Recreate: the tree that is there goes to the trash ... */
	bool force;             /* ... although processes run from it */
};

/* Takes the plan's values. env is in the index and nobody's; if it is not STATE_CREATING, it is there already, and
 * a failure leaves it as it is. */
void creation_begin(struct venvd *, struct request *, struct environment *env, const struct creation_plan *);

/* Options as orders take them, to those that the catalog keeps: only what differs from the default. Owned. */
json_t *creation_options_kept(const json_t *options);
/* And back: every key there. clear, upgrade, upgradeDeps are those of kept. Owned. */
json_t *creation_options_full(const json_t *kept);
#endif

/* SPDX-License-Identifier: MIT */
/* Making the catalog agree with the root, at the start. */
#ifndef VENVD_RECONCILE_H
#define VENVD_RECONCILE_H
#include "venvd.h"

/* Before the loop: every row of the catalog comes into the index and the request memory. */
int reconcile_load(struct venvd *);
/* Looks at the root, settles what was under way, adopts, and calls ready() once; the environments that
 * were known already are looked into afterwards, in the background. */
void reconcile_start(struct venvd *, void (*ready)(struct venvd *));
#endif

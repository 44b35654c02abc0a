/* SPDX-License-Identifier: MIT */
/* Rows whose directory has another name in the root by now: they follow it, by its identity. */
#ifndef VENVD_FOLLOW_H
#define VENVD_FOLLOW_H
#include <jansson.h>

#include "entries.h"
#include "venvd.h"

/* Renames that a crash has interrupted: stage is what the stage holds, an array of names, borrowed. Files that have changed
 * places change them again, unless the tree has its new name (orders.h, settle); what could not be settled is taken out
 * of the array, for it is needed again. No directory's name changes. done is called once, perhaps at once. */
void follow_settle(struct venvd *, json_t *stage, void (*done)(void *arg), void *arg);

/* names: every directory of the root; borrowed until done is called, perhaps at once. A row whose
 * directory (inode and birth time) is not under its own name but under another one gets that name, in the index and in
 * the catalog; whatever row had it, without a directory, gives way (nameless.h). Rows that somebody is busy with stay. */
void follow_begin(struct venvd *, struct entries *names, void (*done)(void *arg), void *arg);
#endif

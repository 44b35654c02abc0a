/* SPDX-License-Identifier: MIT */
/* Where an environment is, with a daemon or without. */
#ifndef VENVCTL_PLACE_H
#define VENVCTL_PLACE_H
#include <stdbool.h>

struct place {
	char *path;             /* owned; absolute */
	char *prompt;           /* owned; NULL if there is none of its own, or nobody knows */
};
#define _cleanup_place_ __attribute__((cleanup(place_done)))
void place_done(struct place *);

/* 0, or the exit status with everything said. Never starts a daemon; without one, or when it does
 * not answer soon, ROOT/NAME itself is looked at. */
int place_find(const char *name, struct place *ret);
#endif

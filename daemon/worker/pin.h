/* SPDX-License-Identifier: MIT */
/* .python-version files, of the caller's directory and those above it. */
#ifndef VENVD_WORKER_PIN_H
#define VENVD_WORKER_PIN_H
#include <stdbool.h>
#include "util.h"

struct pin {
	char *file;             /* where it was read */
	bool linked;            /* by a link: what it holds need not be meant for anybody's eyes */
	char **words;           /* what it names, in order */
	size_t count;
};
#define _cleanup_pin_ __attribute__((cleanup(pin_done)))

/* The words of a file's text: comments and blank lines are left out, ':' separates as a line's end does.
 * *ret is appended to. */
void pin_parse(const char *text, struct pin *ret);
/* Looks in *dir and upward for the next file that names something, and moves *dir above it (NULL: nothing is
 * left). level counts the directories that were looked at. False if there is none. */
bool pin_next(char **dir, int *level, struct pin *ret);
void pin_done(struct pin *);
#endif

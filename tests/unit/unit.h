/* SPDX-License-Identifier: MIT */
/* What every unit test includes: cmocka with its prerequisites, and a few words of ours. */
#ifndef VENVD_UNIT_H
#define VENVD_UNIT_H
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "util.h"

/* How often log_error() was called (tests/unit/stubs.c has it instead of daemon/log.c), and the
 * last. */
extern unsigned log_errors;
extern char log_last[512];

/* A new empty directory below $TMPDIR, and its end with all that is in it. Owned. */
char *unit_directory(void);
void unit_directory_remove(const char *path);

/* A small generator, the same numbers for the same seed on every machine. */
uint32_t unit_random(uint64_t *seed);
#endif

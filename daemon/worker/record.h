/* SPDX-License-Identifier: MIT */
/* Rows of a RECORD (PEP 376, PEP 627): "path,sha256=...,size", as csv writes them. Works on memory alone. */
#ifndef VENVD_WORKER_RECORD_H
#define VENVD_WORKER_RECORD_H
#include <stdbool.h>
#include <stdint.h>
#include "util.h"

/* One field of a row, unquoted (owned); what is behind it, a comma or the end, is at *p then. */
char *record_field(const char **p, const char *end);

/* The next line of [*p, end), without its line break, as [*ret, *ret_end); *p is behind it. False at the end. */
bool record_line(const char **p, const char *end, const char **ret, const char **ret_end);

/* What a row names, seen from the environment: "../../../bin/pip" in lib/python3.12/site-packages is bin/pip. NULL if it is
 * absolute, or leads out of the environment. Owned. */
char *record_path(const char *site, const char *row);
#endif

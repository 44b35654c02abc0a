/* SPDX-License-Identifier: MIT */
/* One line an event, on stderr or in a capped file. Client strings go through text_printable() first. */
#ifndef VENVD_LOG_H
#define VENVD_LOG_H
#include "util.h"

/* With a NULL root: stderr, for systemd with "<N>" priorities when it reads them ($JOURNAL_STREAM).
 * Else $XDG_STATE_HOME/venvd/NAME.log, where NAME tells roots apart; at most two of LIMIT_LOG_BYTES.
 * stderr then is that file as well, so that a worker's words reach it. */
void log_open(const char *root);
void log_quiet(void);           /* from now on nothing below a warning */
void log_reopen(void);          /* SIGHUP */
const char *log_path(void);     /* NULL when it is stderr */

void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
#endif

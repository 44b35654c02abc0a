/* SPDX-License-Identifier: MIT */
/* A venvd.conf and what can be wrong with it. */
#ifndef VENVD_CONFIG_FILE_H
#define VENVD_CONFIG_FILE_H
#include "config.h"

/* Puts what the file sets over *config. NULL, or an owned text "FILE:LINE: what is wrong", perhaps with a second
 * line "hint: ...". A file that is not there sets nothing, unless it is wanted. */
char *config_file_read(struct config *, const char *path, bool wanted);
#endif

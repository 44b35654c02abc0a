/* SPDX-License-Identifier: MIT */
/* The catalog's file before SQLite has it open: made, looked at, moved aside. */
#ifndef VENVD_STORE_FILE_H
#define VENVD_STORE_FILE_H

/* Each gives NULL, or an owned sentence. Never while SQLite has the file open: closing a descriptor
 * of it drops the locks of the whole process. */
char *store_file_make(int dir_fd);
/* To catalog.db.damaged, with what belongs to it. */
char *store_file_move_aside(int dir_fd);

/* The log, all of which is in the catalog, says nothing any more: its header is no header. A catalog that somebody puts
 * back from a copy meets no old log. Its length stays. */
void store_file_empty_log(int dir_fd);

/* Why a catalog of schema `has` is refused, and the command that makes room; owned. */
char *store_file_newer(const char *root, int has, int knows);
#endif

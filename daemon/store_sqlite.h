/* SPDX-License-Identifier: MIT */
/* What SQLite is told before a catalog is opened: where memory comes from, and that a path is one already. */
#ifndef VENVD_STORE_SQLITE_H
#define VENVD_STORE_SQLITE_H

/* From now on it has memory or the program ends, as everybody else here; told once, before it is used. */
void store_sqlite_memory(void);

/* The name of the VFS to open a catalog with; NULL if there is no default one to make it of. */
const char *store_sqlite_vfs(void);
#endif

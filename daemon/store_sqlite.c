/* SPDX-License-Identifier: MIT */
/*
 * What SQLite is told before a catalog is opened, once for the whole program. Owns its memory functions and its VFS; knows
 * nothing of catalogs.
 *
 * Invariant: no SQLite function that reads a column or binds a value fails for want of memory, so that NULL means NULL.
 */
#include <sqlite3.h>
#include <string.h>
#include "store_sqlite.h"
#include "util.h"

static sqlite3_mem_methods usual;

static void *memory_or_end(int size)
{
	void *p = usual.xMalloc(size);

	if (!p)
		out_of_memory();
	return p;
}

static void *more_memory_or_end(void *old, int size)
{
	void *p = usual.xRealloc(old, size);

	if (!p)
		out_of_memory();
	return p;
}

void store_sqlite_memory(void)
{
	sqlite3_mem_methods ours;

	/* It refuses both when it is in use already, and then has been told before. */
	if (usual.xMalloc || sqlite3_config(SQLITE_CONFIG_GETMALLOC, &usual) != SQLITE_OK)
		return;
	ours = usual;
	ours.xMalloc = memory_or_end;
	ours.xRealloc = more_memory_or_end;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
}

static int full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	size_t len = strlen(name) + 1;

	(void)vfs;
	if (len > (size_t)size)
		return SQLITE_CANTOPEN;
	memcpy(ret, name, len);
	return SQLITE_OK;
}

/* SQLite makes a full path of the name it is given, following links, and refuses one of more than 512 bytes; a root
 * may lie deeper. So we name the catalog through our descriptor of its directory, /proc/self/fd/N/catalog.db, and this
 * copy of the default VFS leaves the name as it is. The log and the directory's sync go the same way. */
const char *store_sqlite_vfs(void)
{
	static sqlite3_vfs vfs;

	if (!vfs.zName) {
		const sqlite3_vfs *model = sqlite3_vfs_find(NULL);
		if (!model)
			return NULL;
		vfs = *model;
		vfs.pNext = NULL;
		vfs.zName = "venvd";
		vfs.xFullPathname = full_pathname;
		if (vfs.mxPathname < 512)
			vfs.mxPathname = 512;
		if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
			vfs.zName = NULL;
	}
	return vfs.zName;
}

/* SPDX-License-Identifier: MIT */
/*
 * The catalog's file while SQLite does not have it open. It is made here, so that its mode (and
 * with it that of SQLite's files beside it) is ours whatever the umask, and so that what cannot be
 * a catalog is called by its name instead of by SQLite's. Works below a descriptor of the
 * directory; owns nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "paths.h"
#include "store_file.h"
#include "util.h"

char *store_file_make(int dir_fd)
{
	_cleanup_fd_ int fd = openat(dir_fd, PATH_CATALOG,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return xasprintf("cannot open '" PATH_CATALOG "': %s", strerror(errno));
	return S_ISREG(st.st_mode) ? NULL : xstrdup("'" PATH_CATALOG "' is no regular file");
}

char *store_file_move_aside(int dir_fd)
{
	/* The catalog first: SQLite throws away a log beside an empty one, and takes one beside a
	 * catalog without its log for whole. */
	static const char *const parts[] = { "", "-wal", "-journal", "-shm" };

	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		char from[64], to[64];
		snprintf(from, sizeof(from), PATH_CATALOG "%s", parts[i]);
		snprintf(to, sizeof(to), PATH_CATALOG ".damaged%s", parts[i]);
		if (renameat(dir_fd, from, dir_fd, to) == 0)
			continue;
		/* Nor may a part of an earlier one lie beside this one. */
		if (errno != ENOENT || (unlinkat(dir_fd, to, 0) < 0 && errno != ENOENT))
			return xasprintf("cannot move the damaged '%s' aside: %s", from,
			    strerror(errno));
	}
	return NULL;
}

void store_file_empty_log(int dir_fd)
{
	static const char header[32];
	_cleanup_fd_ int fd = openat(dir_fd, PATH_CATALOG "-wal", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	/* Whatever of it is lost, the next start reads it, and finds what it has. */
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof(header) &&
	    pwrite(fd, header, sizeof(header), 0) < 0)
		return;
}

/* The path of the catalog in root, and what follows it, as one word for a shell; owned. */
static char *shell_quoted(const char *root, const char *after)
{
	struct text word = { 0 };

	text_adds(&word, "'");
	for (const char *p = root; *p; p++)
		text_add(&word, *p == '\'' ? "'\\''" : p, *p == '\'' ? 4 : 1);
	text_adds(&word, "/" PATH_STATE "/" PATH_CATALOG);
	text_adds(&word, after);
	text_adds(&word, "'");
	return word.data;
}

char *store_file_newer(const char *root, int has, int knows)
{
	_cleanup_free_ char *from = shell_quoted(root, "");
	_cleanup_free_ char *to = shell_quoted(root, ".newer");

	return xasprintf("the catalog has schema %d, and this venvd knows only up to %d\n"
	    "hint: mv %s %s  # only history is lost, the environments are found again",
	    has, knows, from, to);
}

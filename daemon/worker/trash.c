/* SPDX-License-Identifier: MIT */
/*
 * The trash's side of orders. In two steps, so that no tree lies in a trash without its record: the records of
 * a whole batch are written before the first rename, and each is on the disk before its own. The syncs of the directories
 * are the caller's.
 *
 * What lies in the root goes to the root's trash. What lies elsewhere, perhaps on another file system, goes to one beside
 * it, which is made for it and goes with its last entry.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "orders.h"
#include "paths.h"
#include "reserve.h"
#include "trash.h"

#define IGNORE_FILE ".gitignore"

int trash_origin(const struct trashing *t, const char **ret_name)
{
	*ret_name = t->base ? t->base : t->name;
	return t->base ? t->parent_fd : WORKER_FD_ROOT;
}

static int no_such_environment(const struct trashing *t, struct failure *f)
{
	return failure_set(f, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{so}", "name", failure_text(t->name)));
}

/* --- beside --- */

/* Where another user could have put it, or could put something into it, is no place for ours. */
static int check_owner(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -1;
	errno = EPERM;
	return st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : -1;
}

/* Version control has no interest in it. */
static void write_ignore(int fd)
{
	static const char words[] = "# Made by venvd\n*\n";
	_cleanup_fd_ int file = openat(fd, IGNORE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (file >= 0 && fd_write_all(file, words, sizeof(words) - 1) < 0)
		unlinkat(fd, IGNORE_FILE, 0);
}

int trash_open_beside(int parent_fd, const char *base, bool make)
{
	_cleanup_free_ char *name = xasprintf(PATH_BESIDE, base);
	bool made = make && mkdirat(parent_fd, name, 0700) == 0;
	if (make && !made && errno != EEXIST)
		return -1;
	_cleanup_fd_ int fd = place_open(parent_fd, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0 || check_owner(fd) < 0)
		return -1;
	if (made)
		write_ignore(fd);
	int ret = fd;
	fd = -1;
	return ret;
}

static bool holds_nothing(int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	const struct dirent *d = NULL;
	if (!dir) {
		cleanup_fd(&own);
		return false;
	}
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && strcmp(d->d_name, IGNORE_FILE) != 0)
			break;
	closedir(dir);
	return !d;
}

void trash_leave_beside(int parent_fd, const char *base)
{
	_cleanup_free_ char *name = xasprintf(PATH_BESIDE, base);
	_cleanup_fd_ int fd = trash_open_beside(parent_fd, base, false);
	if (fd < 0 || !holds_nothing(fd))
		return;
	unlinkat(fd, IGNORE_FILE, 0);
	unlinkat(parent_fd, name, AT_REMOVEDIR);
}

/* --- entries --- */

/* The directory that its entry is in, or will be; -1. */
static int entry_home(const struct trashing *t, const struct places *p)
{
	return t->base ? t->beside_fd : p->trash;
}

int trash_open_entry(const struct trashing *t, const struct places *p)
{
	int home = entry_home(t, p);
	errno = ENOENT;
	return home < 0 ? -1 : place_open(home, t->entry, O_RDONLY | O_DIRECTORY);
}

bool trash_remove_entry(const struct trashing *t, const struct places *p)
{
	int home = entry_home(t, p);
	_cleanup_fd_ int fd = trash_open_entry(t, p);
	if (fd < 0)
		return true;
	unlinkat(fd, PATH_RECORD, 0);
	return unlinkat(home, t->entry, AT_REMOVEDIR) == 0;
}

/* The reserve lies on the root's file system, and helps nobody elsewhere. */
bool trash_more_room(const struct trashing *t)
{
	return !t->base && reserve_spend(WORKER_FD_STATE);
}

/* Where the sync after the rename commits the record's name and size too, its data is all that has to be there before. */
static int write_record(struct trashing *t, int entry_fd)
{
	_cleanup_free_ char *text = json_dumps(t->record, JSON_COMPACT);
	_cleanup_fd_ int fd = openat(entry_fd, PATH_RECORD,
	    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || !text || fd_write_all(fd, text, strlen(text)) < 0)
		return -1;
	if (!durable_commits(fd))
		return fsync(fd);
	durable_add(&t->durable, fd);
	fd = -1;
	return 0;
}

int trash_prepare(struct trashing *t, const struct places *p, struct failure *f)
{
	while (mkdirat(entry_home(t, p), t->entry, 0700) < 0 && errno != EEXIST)
		if (!trash_more_room(t))
			return failure_errno(f, "cannot make a place in the trash for '%s'", t->name);
	_cleanup_fd_ int fd = trash_open_entry(t, p);
	if (fd >= 0 && place_is(fd, PATH_TREE, t->want))
		return 1;
	const char *name;
	int from = trash_origin(t, &name);
	int r = -1;
	if (!place_is(from, name, t->want)) {
		no_such_environment(t, f);
	} else {
		do {
			r = fd < 0 ? -1 : write_record(t, fd);
		} while (r < 0 && trash_more_room(t));
		if (r == 0)
			return 0;
		failure_errno(f, "cannot write the record of '%s'", t->name);
	}
	trash_remove_entry(t, p);
	return -1;
}

int trash_move(struct trashing *t, const struct places *p, struct failure *f)
{
	_cleanup_fd_ int fd = trash_open_entry(t, p);
	const char *name;
	int from = trash_origin(t, &name);
	if (durable_wait(&t->durable) < 0) {
		failure_sync(f);
		return -1;
	}
	if (fd < 0) {
		failure_reason(f, ERROR_FAILED, "the place in the trash for '%s' was taken away", t->name);
		return -1;
	}
	do {
		if (place_move_known(from, name, fd, PATH_TREE, t->want, t->entry) == 0)
			return 0;
	} while (trash_more_room(t));
	if (errno == EXDEV) {
		_cleanup_free_ char *reason = xasprintf(
		    "this file system cannot move '%s' to the trash", t->name);
		failure_set(f, ERROR_UNSUPPORTED, json_pack("{soso}", "name", failure_text(t->name),
		    "reason", failure_text(reason)));
	} else if (errno == ENOENT || errno == ESTALE) {
		no_such_environment(t, f);
	} else {
		failure_errno(f, "cannot move to the trash '%s'", t->name);
	}
	trash_remove_entry(t, p);
	return -1;
}

int trash_undo(const struct trashing *t, const struct places *p)
{
	_cleanup_fd_ int fd = trash_open_entry(t, p);
	const char *name;
	int from = trash_origin(t, &name);
	if (fd < 0 || place_move_known(fd, PATH_TREE, from, name, t->want, PATH_REST) < 0)
		return -1;
	trash_remove_entry(t, p);
	return 0;
}

int trash_undo_restore(const struct trashing *t, const struct places *p)
{
	_cleanup_fd_ int fd = trash_open_entry(t, p);
	const char *name;
	int to = trash_origin(t, &name);
	return fd < 0 ? -1 : place_move_known(to, name, fd, PATH_TREE, t->want, PATH_REST);
}

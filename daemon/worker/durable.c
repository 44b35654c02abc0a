/* SPDX-License-Identifier: MIT */
/*
 * Durability. Two kinds of file systems:
 *  - ext4 with a journal, xfs: one journal for all. Data is pushed by range; names, sizes and links are in the
 *    transaction that the fsync of any directory changed after them commits.
 *  - all others (btrfs, an ext4 without journal): each file and directory by fsync, a tree by syncfs. The sync of a directory that
 *    a tree was renamed into makes a btrfs commit everything, too; but what it has logged by then of the directory alone goes
 *    to the disk with anybody else's sync, and a power cut then leaves the tree at its new name as it was before.
 *
 * Owns the descriptors it was given, and bounds how many are open at once in the whole process: what comes
 * above that is waited for at once, and its error kept for durable_wait().
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "durable.h"
#include "place.h"
#include "util.h"

#define OPEN_SHARE 2            /* this part of the descriptors that the process may have */
#define XFS_MAGIC 0x58465342    /* not in <linux/magic.h> of older kernels */

static size_t open_now;

/* An ext2, or an ext4 made without a journal, is of the same type; only sysfs tells them apart. */
static bool has_journal(int fd)
{
	static dev_t asked;
	static bool answer;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return false;
	if (asked == st.st_dev)
		return answer;
	char path[64], text[512];
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	ssize_t n = readlink(path, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	const char *device = strrchr(text, '/');
	_cleanup_free_ char *journal = xasprintf("/sys/fs/ext4%s/journal_task", device ? device : "/");
	_cleanup_fd_ int file = open(journal, O_RDONLY | O_CLOEXEC);
	n = file < 0 ? -1 : read(file, text, sizeof(text));
	answer = n > 0 && text[0] != '<';       /* "<none>", else the number of a thread */
	asked = st.st_dev;
	return answer;
}

bool durable_commits(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return false;
	return fs.f_type == XFS_MAGIC || (fs.f_type == EXT4_SUPER_MAGIC && has_journal(fd));
}

/* Waits for one and closes it. */
static void settle(struct durable *d, int fd)
{
	int r = d->ranges ? sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
	    SYNC_FILE_RANGE_WAIT_AFTER) : fsync(fd);
	if (r < 0 && d->error == 0)
		d->error = errno;
	close(fd);
}

static size_t open_at_once(void)
{
	static size_t limit;
	struct rlimit files;
	if (limit == 0)
		limit = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur / OPEN_SHARE : 1;
	return limit;
}

static void remember(struct durable *d, int fd)
{
	if (open_now >= open_at_once()) {
		settle(d, fd);
		return;
	}
	if (d->count == d->size) {
		d->size = d->size ? 2 * d->size : 16;
		d->fds = xreallocarray(d->fds, d->size, sizeof(*d->fds));
	}
	d->fds[d->count++] = fd;
	open_now++;
}

void durable_add(struct durable *d, int fd)
{
	if (d->size == 0)
		d->ranges = durable_commits(fd);
	/* Where this cannot begin it, the wait will do both. */
	(void)!sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	remember(d, fd);
}

void durable_add_directory(struct durable *d, int dir_fd, const char *name)
{
	if (d->size > 0 && d->ranges)
		return;
	int fd = place_open(dir_fd, name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0)
		remember(d, fd);
	else if (d->error == 0)
		d->error = errno;
}

int durable_wait(struct durable *d)
{
	for (size_t i = 0; i < d->count; i++)
		settle(d, d->fds[i]);
	open_now -= d->count;
	d->count = 0;
	errno = d->error;
	return d->error ? -1 : 0;
}

void durable_done(struct durable *d)
{
	for (size_t i = 0; i < d->count; i++)
		close(d->fds[i]);
	open_now -= d->count;
	free(d->fds);
	*d = (struct durable){ 0 };
}

/* --- trees --- */

static int push_file(struct durable *d, int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	durable_add(d, fd);
	return 0;
}

/* Takes fd. As deep as what we have made ourselves. */
static int push_files(struct durable *d, int fd)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		cleanup_fd(&fd);
		return -1;
	}
	int r = 0;
	struct dirent *e;
	for (errno = 0; r == 0 && (e = readdir(dir)); errno = 0) {
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = -1;
		else if (S_ISDIR(st.st_mode))
			r = push_files(d, place_open(fd, e->d_name, O_RDONLY | O_DIRECTORY));
		else if (S_ISREG(st.st_mode) && st.st_size > 0)
			r = push_file(d, fd, e->d_name);
	}
	int err = errno;
	closedir(dir);
	errno = err;
	return r < 0 || err ? -1 : 0;
}

int durable_directory(int fd)
{
	struct stat st;
	return fsync(fd) < 0 ? -1 : fstat(fd, &st);
}

/* The directory is changed once more: what was done below it may be in a transaction that began after the
 * one that it was last changed in, and its fsync would wait for the older alone. */
int durable_names(int dir_fd)
{
	if (!durable_commits(dir_fd))
		return syncfs(dir_fd);
	return futimens(dir_fd, NULL) < 0 ? -1 : durable_directory(dir_fd);
}

int durable_tree(int dir_fd)
{
	if (durable_commits(dir_fd)) {
		_cleanup_durable_ struct durable d = { 0 };
		if (push_files(&d, openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
		    durable_wait(&d) < 0)
			return -1;
	}
	return durable_names(dir_fd);
}

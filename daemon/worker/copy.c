/* SPDX-License-Identifier: MIT */
/*
 * Copying. By descriptor and component, never through a link and never over a mount; what changes meanwhile is copied
 * as it is then. Modification times are kept, for a compiled module is right only beside a source of its time.
 *
 * What is linked: a file with several names already that nobody may write (0444, 0555), which is how a file of an image
 * lies in an environment. Whoever has linked others by hand, writable ones, gets copies.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "bounds.h"
#include "copy.h"
#include "place.h"
#include "talk.h"

#define DEPTH_MAX 128
#define LOOK_EVERY 256          /* files between two looks whether anybody still waits */

struct copying {
	struct failure *f;
	size_t files;
	bool reflinks;          /* not refused yet */
	bool links;
};

/* From at to end. 1: the file has become shorter, and ended before. */
static int copy_range(int from, int to, off_t at, off_t end)
{
	char buffer[64 * 1024];
	while (at < end) {
		off_t in = at, out = at;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);
		if (n == 0)
			return 1;
		if (n < 0)
			break;
		at += n;
	}
	/* Some file systems cannot, and some only from here on. */
	while (at < end) {
		size_t want = (size_t)(end - at) < sizeof(buffer) ? (size_t)(end - at) : sizeof(buffer);
		ssize_t n = pread(from, buffer, want, at);
		if (n <= 0)
			return n < 0 ? -1 : 1;
		if (lseek(to, at, SEEK_SET) < 0 || fd_write_all(to, buffer, (size_t)n) < 0)
			return -1;
		at += n;
	}
	return 0;
}

/* A hole stays a hole: a sparse file may be longer than the disk. */
static int copy_data(int from, int to, off_t size)
{
	for (off_t at = 0; at < size;) {
		off_t data = lseek(from, at, SEEK_DATA), end = data < 0 ? data : lseek(from, data, SEEK_HOLE);
		if ((data < 0 && errno == ENXIO) || data >= size)
			break;
		if (end < 0) {          /* it cannot tell */
			data = at;
			end = size;
		}
		int r = copy_range(from, to, data, end < size ? end : size);
		if (r != 0)
			return r < 0 ? -1 : 0;
		at = end;
	}
	/* A hole at its end, if it has not become shorter meanwhile. */
	struct stat now;
	if (fstat(from, &now) < 0)
		return -1;
	return ftruncate(to, now.st_size < size ? now.st_size : size);
}

static int copy_bytes(struct copying *c, int from, int to, off_t size)
{
	if (c->reflinks && ioctl(to, FICLONE, from) == 0)
		return 0;
	c->reflinks = c->reflinks && errno != EOPNOTSUPP && errno != ENOTTY && errno != EXDEV && errno != EINVAL;
	return copy_data(from, to, size);
}

/* An image's file; -1 if it has to be copied. */
static int link_file(struct copying *c, int from_fd, int to_fd, const char *name, const struct stat *st)
{
	if (!c->links || st->st_nlink < 2 || st->st_size == 0 || (st->st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)))
		return -1;
	if (linkat(from_fd, name, to_fd, name, 0) == 0)
		return 0;
	c->links = errno == EMLINK;
	return -1;
}

/* Whoever owned the source does not own the copy: what ran as another user or group must not run as ours. */
static mode_t mode_of_copy(const struct stat *source, int to)
{
	struct stat st;
	mode_t mode = source->st_mode & 07777;
	if (fstat(to, &st) < 0 || st.st_uid != source->st_uid)
		mode &= ~(mode_t)S_ISUID;
	return (mode & S_ISGID) && st.st_gid != source->st_gid ? mode & ~(mode_t)S_ISGID : mode;
}

static int copy_file(struct copying *c, int from_fd, int to_fd, const char *name)
{
	struct stat st;
	_cleanup_fd_ int from = place_open(from_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (from < 0 || fstat(from, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (link_file(c, from_fd, to_fd, name, &st) == 0)
		return 0;
	struct timespec times[2] = { st.st_atim, st.st_mtim };
	_cleanup_fd_ int to = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0 || (st.st_size > 0 && copy_bytes(c, from, to, st.st_size) < 0) ||
	    fchmod(to, mode_of_copy(&st, to)) < 0)
		return -1;
	return futimens(to, times);
}

static int copy_link(int from_fd, int to_fd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from_fd, name, target, sizeof(target) - 1);
	if (n < 0)
		return errno == ENOENT ? 0 : -1;
	target[n] = '\0';
	return symlinkat(target, to_fd, name);
}

static int copy_level(struct copying *c, int from_fd, int to_fd, int depth);

static int copy_directory(struct copying *c, int from_fd, int to_fd, const char *name, const struct stat *st, int depth)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	errno = ENAMETOOLONG;
	if (depth >= DEPTH_MAX || mkdirat(to_fd, name, 0700) < 0)
		return -1;
	int from = place_open(from_fd, name, O_RDONLY | O_DIRECTORY);
	_cleanup_fd_ int to = place_open(to_fd, name, O_RDONLY | O_DIRECTORY);
	if (from < 0 || to < 0) {
		cleanup_fd(&from);
		return -1;
	}
	if (copy_level(c, from, to, depth + 1) < 0)
		return -1;
	return fchmod(to, st->st_mode & 07777) < 0 ? -1 : futimens(to, times);
}

static int copy_entry(struct copying *c, int from_fd, int to_fd, const char *name, int depth)
{
	struct stat st;
	if (++c->files % LOOK_EVERY == 0 && talk_gone())
		return failure_gone(c->f);
	if (fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -1;
	if (S_ISDIR(st.st_mode))
		return copy_directory(c, from_fd, to_fd, name, &st, depth);
	if (S_ISLNK(st.st_mode))
		return copy_link(from_fd, to_fd, name);
	return S_ISREG(st.st_mode) ? copy_file(c, from_fd, to_fd, name) : 0;
}

/* Takes from_fd. The first thing that fails is named. */
static int copy_level(struct copying *c, int from_fd, int to_fd, int depth)
{
	DIR *dir = fdopendir(from_fd);
	struct dirent *d;
	int r = 0;
	if (!dir) {
		close(from_fd);
		return -1;
	}
	while (r == 0 && (d = place_next(dir, &r))) {
		if (!place_component(d->d_name))
			continue;
		r = copy_entry(c, from_fd, to_fd, d->d_name, depth);
		if (r < 0 && c->f->code == ERROR_NONE && !failure_is_gone(c->f))
			failure_errno(c->f, "cannot copy '%s'", d->d_name);
	}
	int err = errno;
	closedir(dir);
	errno = err;
	return r;
}

int copy_tree(int from_fd, int to_fd, bool links, bool reflinks, struct failure *f)
{
	struct copying c = { .f = f, .reflinks = reflinks, .links = links };
	struct stat st;
	int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0) {
		cleanup_fd(&from);
		return failure_errno(f, "cannot read the environment");
	}
	if (copy_level(&c, from, to_fd, 0) < 0)
		return f->code == ERROR_NONE && !failure_is_gone(f) ? failure_errno(f, "cannot copy the environment") : -1;
	return fchmod(to_fd, st.st_mode & 07777) < 0 ? failure_errno(f, "cannot copy the environment") : 0;
}

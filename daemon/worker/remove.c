/* SPDX-License-Identifier: MIT */
/*
 * Removal. A tree is flattened instead of walked: a pass over the top directory empties each of its child
 * directories by unlinking files and renaming grandchild directories up into the top, then removes it.
 * Every directory moves at most once, so it ends; two descriptors and two directory buffers are all that
 * it needs, however deep the tree is.
 *
 * Only direct children of the top are ever opened, without following links and without leaving the
 * mount (place_open); a mount point further down refuses to be renamed or removed. What refuses stays, and is
 * told in `kept`: a pass that gets nowhere is the last.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "place.h"
#include "remove.h"
#include "talk.h"

#define KEPT_MAX 16             /* reasons told; the rest stays untold */
#define CHECK_EVERY 256         /* removals between two looks at the daemon's socket */

/* One flattening. */
struct flat {
	struct removal *removal;
	int top;
	const char *except;
	unsigned long next;     /* of the names given to directories that are moved up */
	unsigned long moved;    /* in this pass, to see whether anything goes on */
};

void remove_done(struct removal *r)
{
	json_decref(r->kept);
	*r = (struct removal){ 0 };
}

static void keep(struct removal *r, const char *name)
{
	const char *why = errno == EBUSY || errno == EXDEV ? "is a mount point" : strerror(errno);
	_cleanup_free_ char *sentence = xasprintf("'%s': %s", name, why);
	if (!r->kept)
		r->kept = json_array();
	if (json_array_size(r->kept) < KEPT_MAX)
		json_array_append_new(r->kept, failure_text(sentence));
}

static void count(struct removal *r)
{
	if (++r->removed % CHECK_EVERY == 0 && !r->to_the_end && talk_gone())
		r->gone = true;
}

/* 1: gone. 0: a directory with something in it. -1: it refuses. */
static int unlink_any(struct removal *r, int fd, const char *name, unsigned char type)
{
	if (type != DT_DIR) {
		if (unlinkat(fd, name, 0) == 0 || errno == ENOENT) {
			count(r);
			return 1;
		}
		/* POSIX says EPERM where Linux says EISDIR. */
		if (errno != EISDIR && errno != EPERM)
			return -1;
		int err = errno;
		struct statx st;
		bool directory = place_statx(fd, name, &st) == 0 && S_ISDIR(st.stx_mode);
		errno = err;
		if (!directory)
			return -1;
	}
	if (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
		count(r);
		return 1;
	}
	return errno == ENOTEMPTY || errno == EEXIST ? 0 : -1;
}

/* A directory that its owner may not read, search or change is made 0700, by descriptor. */
static bool unlock(int path_fd)
{
	struct stat st;
	if (fstat(path_fd, &st) < 0)
		return false;
	if ((st.st_mode & S_IRWXU) == S_IRWXU)
		return true;
	return place_chmod(path_fd, 0700) == 0;
}

/* For reading, unlocked; errno EXDEV for a mount point. */
static int open_unlocked(int dir_fd, const char *name)
{
	_cleanup_fd_ int path_fd = place_open(dir_fd, name, O_PATH | O_DIRECTORY);
	if (path_fd < 0)
		return -1;
	unlock(path_fd);
	return openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static DIR *open_stream(int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	if (!dir && own >= 0)
		close(own);
	return dir;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Up into the top under a new name. A name that is taken by a file or a full directory is passed over;
 * one that is taken by an empty directory is replaced, and that is as good. */
static int move_up(struct flat *f, int fd, const char *name)
{
	bool unlocked = false;
	for (int tries = 0; tries < 1000; tries++) {
		char up[32];
		snprintf(up, sizeof(up), ".%lx", f->next++);
		if (f->except && strcmp(up, f->except) == 0)
			continue;
		if (renameat(fd, name, f->top, up) == 0) {
			f->moved++;
			return 0;
		}
		if (errno == EACCES && !unlocked) {
			_cleanup_fd_ int path_fd = place_open(fd, name, O_PATH | O_DIRECTORY);
			unlocked = true;
			if (path_fd < 0 || !unlock(path_fd))
				return -1;
			continue;
		}
		if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
			return -1;
	}
	return -1;
}

static void empty_child(struct flat *f, const char *child)
{
	int fd = open_unlocked(f->top, child);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		keep(f->removal, child);
		cleanup_fd(&fd);
		return;
	}
	for (struct dirent *e; !f->removal->gone && (e = readdir(dir));) {
		if (is_dots(e->d_name))
			continue;
		int r = unlink_any(f->removal, fd, e->d_name, e->d_type);
		if (r == 0)
			r = move_up(f, fd, e->d_name);
		if (r < 0)
			keep(f->removal, e->d_name);
	}
	closedir(dir);
	if (unlinkat(f->top, child, AT_REMOVEDIR) == 0)
		count(f->removal);
	else if (errno != ENOTEMPTY)
		keep(f->removal, child);
}

/* Once over all that the top holds now. */
static void pass(struct flat *f, DIR *dir)
{
	json_decref(f->removal->kept);
	f->removal->kept = NULL;
	f->moved = 0;
	rewinddir(dir);
	for (struct dirent *e; !f->removal->gone && (e = readdir(dir));) {
		if (is_dots(e->d_name) || (f->except && strcmp(e->d_name, f->except) == 0))
			continue;
		int r = unlink_any(f->removal, f->top, e->d_name, e->d_type);
		if (r == 0)
			empty_child(f, e->d_name);
		else if (r < 0)
			keep(f->removal, e->d_name);
	}
}

void remove_contents(struct removal *r, int fd, const char *except)
{
	struct flat f = { .removal = r, .top = fd, .except = except };
	DIR *dir = open_stream(fd);
	if (!dir) {
		keep(r, ".");
		return;
	}
	/* A directory may be read while it changes; what a pass overlooked, the next one finds. */
	json_t *before = r->kept;
	r->kept = NULL;
	for (json_int_t last = -1; !r->gone && (r->removed != last || f.moved);) {
		last = r->removed;
		pass(&f, dir);
	}
	closedir(dir);
	if (before && r->kept)
		json_array_extend(before, r->kept);
	if (before) {
		json_decref(r->kept);
		r->kept = before;
	}
}

void remove_entry(struct removal *r, int dir_fd, const char *name)
{
	int done = unlink_any(r, dir_fd, name, DT_UNKNOWN);
	if (done > 0)
		return;
	_cleanup_fd_ int fd = done == 0 ? open_unlocked(dir_fd, name) : -1;
	if (fd < 0) {
		keep(r, name);
		return;
	}
	size_t before = json_array_size(r->kept);
	remove_contents(r, fd, NULL);
	if (r->gone)
		return;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
		count(r);
	else if (json_array_size(r->kept) == before)
		keep(r, name);
}

/* --- in place --- */

struct level {
	dev_t dev;
	ino_t ino;
};

struct descent {
	struct removal *removal;
	int fd;                 /* the directory it is in */
	struct level *levels;   /* those above, to know them again through '..' */
	size_t depth, size;
};

static bool enter(struct descent *d, int fd)
{
	struct stat st;
	if (fd < 0 || fstat(d->fd, &st) < 0)
		return false;
	if (d->depth == d->size) {
		d->size = d->size ? 2 * d->size : 64;
		d->levels = xreallocarray(d->levels, d->size, sizeof(*d->levels));
	}
	d->levels[d->depth++] = (struct level){ .dev = st.st_dev, .ino = st.st_ino };
	close(d->fd);
	d->fd = fd;
	return true;
}

/* Somebody may have moved the directory meanwhile: its '..' must be where we came from. */
static bool leave(struct descent *d)
{
	struct stat st;
	int fd = openat(d->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct level *l = &d->levels[d->depth - 1];
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != l->dev || st.st_ino != l->ino) {
		if (fd >= 0)
			close(fd);
		errno = ESTALE;
		return false;
	}
	d->depth--;
	close(d->fd);
	d->fd = fd;
	return true;
}

/* Unlinks what it can here. 1: empty; 0: went into a child; -1: something refuses. */
static int sweep(struct descent *d)
{
	DIR *dir = open_stream(d->fd);
	int r = dir ? 1 : -1;
	for (struct dirent *e; r > 0 && !d->removal->gone && (e = readdir(dir));) {
		if (is_dots(e->d_name))
			continue;
		r = unlink_any(d->removal, d->fd, e->d_name, e->d_type);
		if (r == 0 && !enter(d, open_unlocked(d->fd, e->d_name)))
			r = -1;
		if (r < 0)
			keep(d->removal, e->d_name);
	}
	if (dir)
		closedir(dir);
	return d->removal->gone ? -1 : r;
}

void remove_in_place(struct removal *r, int dir_fd, const char *name, struct identity want)
{
	struct descent d = { .removal = r, .fd = open_unlocked(dir_fd, name) };
	int left = d.fd >= 0 && place_is(d.fd, "", want) ? 0 : -1;
	while (left >= 0) {
		left = sweep(&d);
		if (left > 0 && d.depth == 0)
			break;
		if (left > 0 && !leave(&d))
			left = -1;
	}
	if (d.fd >= 0)
		close(d.fd);
	free(d.levels);
	if (left > 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
		count(r);
	else if (!r->kept && !r->gone)
		keep(r, name);
}

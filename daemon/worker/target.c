/* SPDX-License-Identifier: MIT */
/*
 * Directories by path: where `create --path` makes an environment, and where --clear and --upgrade work on one.
 * Here alone a worker goes by a path of the caller's, as `python -m venv` would: links among its parents count.
 * From then on the directory is a descriptor and an identity.
 *
 * Owns the undoing: only what was made here is ever taken away, only while it is still the same directory, and
 * parents only while they are empty. For that each directory that was made is a descriptor, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "durable.h"
#include "orders.h"
#include "paths.h"
#include "remove.h"
#include "target.h"

#define LEVELS_MAX 256          /* directories upward from one to see what it lies in */

static void forget_levels(struct target *t)
{
	while (t->level_count > 0) {
		struct target_level *l = &t->levels[--t->level_count];
		cleanup_fd(&l->fd);
		free(l->name);
	}
	free(t->levels);
	t->levels = NULL;
	cleanup_fd(&t->above_fd);
}

void target_done(struct target *t)
{
	forget_levels(t);
	cleanup_fd(&t->parent_fd);
	cleanup_fd(&t->fd);
	free(t->path);
	*t = (struct target)TARGET_NONE;
}

/* venv's own sentence; it puts the path as Python's repr() does, which these quotes mostly are. */
static int refuse(const struct target *t, struct failure *f)
{
	return failure_reason(f, ERROR_FAILED, "Unable to create directory '%s'", t->path);
}

/* The directory that the next one is made in. */
static int above(struct target *t)
{
	if (t->level_count > 0)
		return t->levels[t->level_count - 1].fd;
	const char *slash = strrchr(t->path, '/');
	_cleanup_free_ char *parent = xstrndup(t->path, slash > t->path ? (size_t)(slash - t->path) : 1);
	cleanup_fd(&t->above_fd);
	t->above_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return t->above_fd;
}

/* What t->path names for now. 0 made, 1 it is there, -1. */
static int make_level(struct target *t)
{
	/* Below what was made here nobody else makes anything. */
	if (t->level_count == 0 && access(t->path, F_OK) == 0)
		return 1;
	const char *name = strrchr(t->path, '/') + 1;
	int dir = above(t);
	errno = t->level_count < LEVELS_MAX ? errno : ENAMETOOLONG;
	if (dir < 0 || t->level_count == LEVELS_MAX || mkdirat(dir, name, 0777) < 0)
		return dir >= 0 && errno == EEXIST && t->level_count == 0 ? 1 : -1;
	int fd = place_open(dir, name, O_PATH | O_DIRECTORY);
	if (fd < 0)
		return -1;
	t->levels = xreallocarray(t->levels, t->level_count + 1, sizeof(*t->levels));
	t->levels[t->level_count++] = (struct target_level){ .fd = fd, .name = xstrdup(name) };
	return 0;
}

/* Makes what is missing of path, from the top. */
static int make_missing(struct target *t, mode_t mask, struct failure *f)
{
	int r = 0;
	umask(mask);
	for (char *slash = t->path; r >= 0 && slash;) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		r = make_level(t);
		if (r < 0)
			failure_errno(f, "cannot make the directory '%s'", t->path);
		t->made = r == 0 && !slash;
		if (slash)
			*slash = '/';
	}
	umask(022);
	return r < 0 ? -1 : 0;
}

/* What was made here is opened where it was made; its path may lead elsewhere by now. */
static int open_parent(struct target *t)
{
	if (!t->made)
		return place_open_parent(t->path, &t->base);
	return openat(t->level_count > 1 ? t->levels[t->level_count - 2].fd : t->above_fd, ".",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_it(struct target *t, struct failure *f)
{
	struct statx st;
	t->parent_fd = open_parent(t);
	if (t->parent_fd < 0)
		return failure_errno(f, "cannot open the directory that holds '%s'", t->path);
	t->fd = openat(t->parent_fd, t->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (t->fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return refuse(t, f);
	if (t->fd < 0 || place_statx(t->fd, "", &st) < 0)
		return failure_errno(f, "cannot open '%s'", t->path);
	t->id = place_identity(&st);
	return 0;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether the directory `inner` is `outer` or lies somewhere in it. */
static bool lies_in(int inner, int outer)
{
	struct stat in, out, last = { 0 };
	int fd = openat(inner, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool found = false;
	for (int i = 0; fd >= 0 && i < LEVELS_MAX; i++) {
		if (fstat(fd, &in) < 0 || fstat(outer, &out) < 0 || same(&in, &last))
			break;
		found = same(&in, &out);
		if (found)
			break;
		last = in;
		int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = up;
	}
	cleanup_fd(&fd);
	return found;
}

/* An environment around the root would take --clear to every other one. */
static int check_place(const struct target *t, struct failure *f)
{
	if (lies_in(WORKER_FD_ROOT, t->fd))
		return failure_reason(f, ERROR_FAILED, "'%s' holds the root of the environments", t->path);
	if (lies_in(t->fd, WORKER_FD_STATE))
		return failure_reason(f, ERROR_FAILED, "'%s' lies in the daemon's own directory", t->path);
	return 0;
}

int target_open(struct target *t, const char *path, mode_t mask, struct failure *f)
{
	struct stat st;
	t->path = path_absolute(path);
	t->base = strrchr(t->path, '/') + 1;
	if (!*t->base)
		return failure_reason(f, ERROR_FAILED, "'%s' cannot be an environment", t->path);
	if (lstat(t->path, &st) == 0 && !S_ISDIR(st.st_mode))
		return refuse(t, f);
	if (make_missing(t, mask, f) == 0 && open_it(t, f) == 0 && check_place(t, f) == 0)
		return 0;
	target_undo(t);
	return -1;
}

void target_undo(struct target *t)
{
	if (t->made && t->fd >= 0 && place_is(t->parent_fd, t->base, t->id)) {
		_cleanup_removal_ struct removal removal = { .to_the_end = true };
		remove_contents(&removal, t->fd, NULL);
	}
	/* From below: whatever is not empty by now, or is another, belongs to somebody else. */
	for (size_t n = t->level_count; n > 0; n--) {
		const struct target_level *l = &t->levels[n - 1];
		int dir = n > 1 ? t->levels[n - 2].fd : t->above_fd;
		struct statx st;
		if (place_statx(l->fd, "", &st) < 0 || !place_is(dir, l->name, place_identity(&st)) ||
		    unlinkat(dir, l->name, AT_REMOVEDIR) < 0)
			break;
	}
	forget_levels(t);
	t->made = false;
}

bool target_lies_in_root(const struct target *t)
{
	return lies_in(t->parent_fd, WORKER_FD_ROOT);
}

bool target_is_there(const struct target *t)
{
	const char *base;
	_cleanup_fd_ int parent = place_open_parent(t->path, &base);
	return parent >= 0 && place_is(parent, base, t->id) && place_is(t->parent_fd, t->base, t->id);
}

/* A file system that is not the root's: its failure is this order's alone. */
int target_sync(struct target *t, struct failure *f)
{
	if (syncfs(t->fd) < 0 || durable_directory(t->fd) < 0 || durable_directory(t->parent_fd) < 0)
		return failure_errno(f, "cannot sync '%s' to the disk", t->path);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Directories by path: where `create --path` makes an environment, and where --clear and --upgrade work on one.
 * Here alone a worker goes by a path of the caller's, as `python -m venv` would: links among its parents count.
 * From then on the directory is a descriptor and an identity.
 *
 * Owns the undoing: only what was made here is ever taken away, only while it is still the same directory, and
 * parents only while they are empty.
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

void target_done(struct target *t)
{
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

/* Makes what is missing of path, from the top. */
static int make_missing(struct target *t, mode_t mask, struct failure *f)
{
	int r = 0;
	umask(mask);
	for (char *slash = t->path; r == 0 && slash;) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		if (mkdir(t->path, 0777) == 0) {
			if (t->first_made == 0)
				t->first_made = strlen(t->path);
			t->made = !slash;
		} else if (errno != EEXIST && access(t->path, F_OK) < 0) {
			r = failure_errno(f, "cannot make the directory '%s'", t->path);
		}
		if (slash)
			*slash = '/';
	}
	umask(022);
	return r;
}

static int open_it(struct target *t, struct failure *f)
{
	struct statx st;
	t->parent_fd = place_open_parent(t->path, &t->base);
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
	/* From below: whatever is not empty by now belongs to somebody else. */
	for (size_t n = strlen(t->path); t->first_made > 0 && n >= t->first_made; n--) {
		if (t->path[n] != '\0' && t->path[n] != '/')
			continue;
		_cleanup_free_ char *path = xstrndup(t->path, n);
		if (rmdir(path) < 0)
			break;
	}
	t->made = false;
	t->first_made = 0;
}

/* A file system that is not the root's: its failure is this order's alone. */
int target_sync(struct target *t, struct failure *f)
{
	if (syncfs(t->fd) < 0 || durable_directory(t->fd) < 0 || durable_directory(t->parent_fd) < 0)
		return failure_errno(f, "cannot sync '%s' to the disk", t->path);
	if (!place_is(t->parent_fd, t->base, t->id))
		return failure_reason(f, ERROR_FAILED,
		    "'%s' was moved or replaced by somebody while it was being made", t->path);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The root. Owns its descriptor, that of ROOT/.venvd, and the locks. The locks are flock()s, so they
 * end with their holder, however it ended; the file `lock` is shared with every worker, so it is free
 * only when nobody writes under the root any more. No pid is ever read from a file.
 *
 * Two who start at once meet at `start`: the second waits until the first serves, and then finds its
 * socket. Everything here happens before the loop begins, except root_changed().
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

#include "bounds.h"
#include "paths.h"
#include "root.h"
#include "server.h"
#include "util.h"

#define ROOT_OPEN_TRIES 3       /* somebody may purge ROOT/.venvd while we wait for its lock */

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400
#endif

struct root {
	char *path, *real;
	int fd, state_fd, lock_fd, start_fd;
	dev_t dev;
	ino_t ino;
};

/* --- is it a root that we can keep our word in? --- */

static const char *root_remote(int fd)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} kinds[] = {
		{ NFS_SUPER_MAGIC, "NFS" }, { SMB_SUPER_MAGIC, "SMB" }, { CIFS_SUPER_MAGIC, "CIFS" },
		{ SMB2_SUPER_MAGIC, "SMB" }, { V9FS_MAGIC, "9p" }, { FUSE_SUPER_MAGIC, "FUSE" },
		{ AFS_SUPER_MAGIC, "AFS" }, { CODA_SUPER_MAGIC, "Coda" }, { CEPH_SUPER_MAGIC, "Ceph" },
	};
	struct statfs fs;
	if (fstatfs(fd, &fs) != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
		if ((uint32_t)fs.f_type == kinds[i].magic)
			return kinds[i].name;
	return NULL;
}

static char *root_unfit(const char *path, int fd, const struct stat *st)
{
	const char *remote = root_remote(fd);
	if (remote != NULL)
		return xasprintf("root '%s' is on %s, where nothing can be promised\n"
		    "hint: export VENVD_ROOT=/a/local/directory", path, remote);
	if (st->st_uid != geteuid())
		return xasprintf("root '%s' belongs to uid %u, not to uid %u\n"
		    "hint: export VENVD_ROOT=/a/directory/of/yours", path, (unsigned)st->st_uid,
		    (unsigned)geteuid());
	if ((st->st_mode & S_IWOTH) != 0)
		return xasprintf("root '%s' can be written by everybody\nhint: chmod o-w '%s'", path, path);
	return NULL;
}

static char *root_open_error(const char *path, int error)
{
	char target[4096];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n >= 0) {
		target[n] = '\0';
		return xasprintf("root '%s' is a symbolic link\nhint: export VENVD_ROOT='%s'", path, target);
	}
	if (error == ENOTDIR) {
		struct stat st;
		if (lstat(path, &st) == 0)
			return xasprintf("root '%s' is not a directory", path);
	}
	return xasprintf("root '%s' cannot be opened: %s", path, strerror(error));
}

static char *root_make_error(const char *path, int error)
{
	_cleanup_free_ char *parent = xstrdup(path);
	char *slash = strrchr(parent, '/');
	slash[slash == parent ? 1 : 0] = '\0';
	if (error == ENOENT)
		return xasprintf("root '%s' cannot be made: its parent '%s' is missing\n"
		    "hint: mkdir -p '%s'", path, parent, parent);
	return xasprintf("root '%s' cannot be made: %s", path, strerror(error));
}

/* Opens the directory itself; -1 with errno or *ret_why. */
static int root_open_directory(const char *path, bool make, char **ret_why)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = open(path, flags);
	if (fd < 0 && errno == ENOENT && make) {
		if (mkdir(path, 0755) != 0 && errno != EEXIST) {
			*ret_why = root_make_error(path, errno);
			return -1;
		}
		fd = open(path, flags);
	}
	if (fd < 0) {
		if (errno != ENOENT || make)
			*ret_why = root_open_error(path, errno);
		return -1;
	}
	return fd;
}

static struct root *root_new(const char *path, int fd)
{
	struct root *root = xcalloc(1, sizeof(*root));
	root->path = xstrdup(path);
	root->real = fd >= 0 ? xrealpath(path) : NULL;
	root->fd = fd;
	root->state_fd = root->lock_fd = root->start_fd = -1;
	struct stat st;
	if (fd >= 0 && fstat(fd, &st) == 0) {
		root->dev = st.st_dev;
		root->ino = st.st_ino;
	}
	return root;
}

/* --- our own directory --- */

static char *root_state_error(const struct root *root, int error)
{
	if (error == EROFS)
		return xasprintf("root '%s' is on a read-only file system", root->path);
	return xasprintf("root '%s': '%s' cannot be used: %s", root->path, PATH_STATE, strerror(error));
}

static char *root_open_state(struct root *root)
{
	if (mkdirat(root->fd, PATH_STATE, 0700) != 0 && errno != EEXIST)
		return root_state_error(root, errno);
	root->state_fd = openat(root->fd, PATH_STATE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (root->state_fd < 0 || fstat(root->state_fd, &st) != 0)
		return root_state_error(root, errno);
	if (st.st_uid != geteuid())
		return xasprintf("root '%s': '%s' belongs to uid %u", root->path, PATH_STATE,
		    (unsigned)st.st_uid);
	if ((st.st_mode & 07777) != 0700 && fchmod(root->state_fd, 0700) != 0)
		return root_state_error(root, errno);
	static const char *const directories[] = { PATH_STAGE, PATH_TRASH };
	for (size_t i = 0; i < ARRAY_LENGTH(directories); i++)
		if (mkdirat(root->state_fd, directories[i], 0700) != 0 && errno != EEXIST)
			return root_state_error(root, errno);
	/* On a disk that is full already there can be none. */
	if (mkdirat(root->state_fd, PATH_RESERVE, 0700) != 0 && errno != EEXIST && errno != ENOSPC && errno != EDQUOT)
		return root_state_error(root, errno);
	return NULL;
}

/* --- locks --- */

static void root_alarm(int signal)
{
	(void)signal;           /* its only work is to interrupt flock() */
}

/* Waits for the lock at most wait_ms; 0 or -1 with errno (EINTR: still held). */
static int root_flock(int fd, int wait_ms)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK || wait_ms == 0)
		return -1;
	struct sigaction action = { .sa_handler = root_alarm }, before;
	/* The interval catches an alarm that comes before flock() has begun to wait. */
	struct itimerval timer = { .it_value = { wait_ms / 1000, wait_ms % 1000 * 1000 },
		.it_interval = { 0, 100000 } }, off = { 0 };
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &timer, NULL);
	int result = flock(fd, LOCK_EX);
	int saved = errno;
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &before, NULL);
	errno = saved;
	return result;
}

/* Who holds the flock on this file, from /proc/locks; 0 if it does not say. */
static int root_lock_holder(int fd)
{
	struct stat st;
	_cleanup_fd_ int locks = open("/proc/locks", O_RDONLY | O_CLOEXEC);
	_cleanup_text_ struct text text = { 0 };
	if (fstat(fd, &st) != 0 || locks < 0 || fd_read_all(locks, 1 << 20, &text) != 0 || text.len == 0)
		return 0;
	_cleanup_free_ char *file = xasprintf("%02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
	    (unsigned long long)st.st_ino);
	char *save = NULL;
	for (char *line = strtok_r(text.data, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		int pid;
		if (strstr(line, file) != NULL && sscanf(line, "%*s FLOCK %*s %*s %d", &pid) == 1)
			return pid;
	}
	return 0;
}

/* The descriptor, or -1 with errno. */
static int root_open_lock(const struct root *root, const char *name)
{
	return openat(root->state_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* The file that we locked is still the one of that name, in the directory of that name. */
bool root_lock_current(const struct root *root)
{
	struct stat ours, there;
	_cleanup_fd_ int state = openat(root->fd, PATH_STATE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return state >= 0 && fstat(root->lock_fd, &ours) == 0 &&
	    fstatat(state, PATH_LOCK, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static enum root_result root_take_locks(struct root *root, int *ret_holder, char **ret_why)
{
	root->start_fd = root_open_lock(root, PATH_START);
	if (root->start_fd < 0 || root_flock(root->start_fd, LIMIT_START_WAIT_MS) != 0) {
		*ret_why = errno == EINTR ?
		    xasprintf("root '%s': another venvd has been starting for too long", root->path) :
		    root_state_error(root, errno);
		return ROOT_REFUSED;
	}
	root->lock_fd = root_open_lock(root, PATH_LOCK);
	if (root->lock_fd < 0) {
		*ret_why = root_state_error(root, errno);
		return ROOT_REFUSED;
	}
	if (root_flock(root->lock_fd, 0) == 0)
		return ROOT_OPENED;
	*ret_holder = server_holder(root->state_fd);
	if (*ret_holder != 0)
		return ROOT_SERVED;
	if (root_flock(root->lock_fd, LIMIT_LOCK_WAIT_MS) == 0)
		return ROOT_OPENED;
	int pid = root_lock_holder(root->lock_fd);
	*ret_why = pid != 0 ? xasprintf("root '%s' is still held by process %d", root->path, pid) :
	    xasprintf("root '%s' is still held by another process", root->path);
	return ROOT_REFUSED;
}

enum root_result root_open(const char *path, struct root **ret, int *ret_holder, char **ret_why)
{
	for (int tries = 0; tries < ROOT_OPEN_TRIES; tries++) {
		int fd = root_open_directory(path, true, ret_why);
		if (fd < 0)
			return ROOT_REFUSED;
		struct root *root = root_new(path, fd);
		struct stat st;
		enum root_result result = ROOT_REFUSED;
		*ret_why = fstat(fd, &st) == 0 ? root_unfit(path, fd, &st) : xstrdup(strerror(errno));
		if (*ret_why == NULL)
			*ret_why = root_open_state(root);
		if (*ret_why == NULL)
			result = root_take_locks(root, ret_holder, ret_why);
		if (result == ROOT_OPENED && root_lock_current(root)) {
			*ret = root;
			return ROOT_OPENED;
		}
		root_close(root);
		if (result != ROOT_OPENED)
			return result;
	}
	*ret_why = xasprintf("root '%s': '%s' is being removed again and again", path, PATH_STATE);
	return ROOT_REFUSED;
}

enum root_result root_open_peek(const char *path, struct root **ret, char **ret_why)
{
	int fd = root_open_directory(path, false, ret_why);
	struct stat st;
	if (*ret_why == NULL && fd >= 0 && fstat(fd, &st) == 0)
		*ret_why = root_unfit(path, fd, &st);
	if (*ret_why != NULL) {
		if (fd >= 0)
			close(fd);
		return ROOT_REFUSED;
	}
	*ret = root_new(path, fd);
	return ROOT_OPENED;
}

void root_started(struct root *root)
{
	if (root->start_fd >= 0)
		close(root->start_fd);
	root->start_fd = -1;
}

void root_close(struct root *root)
{
	if (root == NULL)
		return;
	const int fds[] = { root->start_fd, root->state_fd, root->lock_fd, root->fd };
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(root->path);
	free(root->real);
	free(root);
}

int root_fd(const struct root *root)
{
	return root->fd;
}

int root_state_fd(const struct root *root)
{
	return root->state_fd;
}

int root_lock_fd(const struct root *root)
{
	return root->lock_fd;
}

const char *root_real(const struct root *root)
{
	return root->real;
}

char *root_changed(const struct root *root)
{
	struct stat st;
	if (lstat(root->path, &st) != 0)
		return xasprintf("it is gone: %s", strerror(errno));
	if (st.st_dev != root->dev || st.st_ino != root->ino)
		return xstrdup("another directory has taken its place since venvd started");
	return NULL;
}

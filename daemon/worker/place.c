/* SPDX-License-Identifier: MIT */
/*
 * Descriptor work that several rooms share. No lookup follows a link, in any of its components, or crosses a mount:
 * openat2 where the kernel has it, else a step for each component, and a comparison of device and mount id. Nothing
 * here decides what may be touched; the caller compares identities first.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "orders.h"
#include "paths.h"
#include "place.h"

#define OPENAT2_TRIES 8         /* EAGAIN: something was renamed above while the kernel looked */

int place_statx(int dir_fd, const char *name, struct statx *ret)
{
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
	return statx(dir_fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, ret);
}

struct identity place_identity(const struct statx *st)
{
	struct identity id = { .ino = (int64_t)st->stx_ino };
	if (st->stx_mask & STATX_BTIME)
		id.btime_ns = st->stx_btime.tv_sec * 1000000000LL + st->stx_btime.tv_nsec;
	return id;
}

bool place_is(int dir_fd, const char *name, struct identity want)
{
	struct statx st;
	if (place_statx(dir_fd, name, &st) < 0)
		return false;
	struct identity have = place_identity(&st);
	errno = ESTALE;
	return S_ISDIR(st.stx_mode) && have.ino == want.ino &&
	    (want.btime_ns == 0 || have.btime_ns == want.btime_ns);
}

/* STATX_MNT_ID exists since Linux 5.8; older ones are told apart by the device alone. */
static bool same_mount(int a, int b)
{
	struct statx sa, sb;
	if (statx(a, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &sa) < 0 ||
	    statx(b, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &sb) < 0)
		return false;
	if (sa.stx_dev_major != sb.stx_dev_major || sa.stx_dev_minor != sb.stx_dev_minor)
		return false;
	return !(sa.stx_mask & sb.stx_mask & STATX_MNT_ID) || sa.stx_mnt_id == sb.stx_mnt_id;
}

static int open_component(int dir_fd, const char *name, int flags, mode_t mode)
{
	int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd >= 0 && !same_mount(dir_fd, fd)) {
		close(fd);
		errno = EXDEV;
		return -1;
	}
	return fd;
}

static int open_compared(int dir_fd, const char *path, int flags, mode_t mode)
{
	_cleanup_fd_ int above = -1;
	for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
		_cleanup_free_ char *name = xstrndup(path, (size_t)(slash - path));
		int next = -1;
		errno = EXDEV;
		if (place_component(name))
			next = open_component(above >= 0 ? above : dir_fd, name, O_PATH | O_DIRECTORY, 0);
		if (next < 0)
			return -1;
		cleanup_fd(&above);
		above = next;
	}
	return open_component(above >= 0 ? above : dir_fd, path, flags, mode);
}

int place_make(int dir_fd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC, .mode = mode,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};
	int fd = -1;
	for (int i = 0; i < OPENAT2_TRIES; i++) {
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	/* EPERM: a sandbox that does not know the call. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		return open_compared(dir_fd, path, flags, mode);
	return fd;
}

int place_open(int dir_fd, const char *path, int flags)
{
	return place_make(dir_fd, path, flags, 0);
}

int place_parent(int dir_fd, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *parent = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
	*ret_name = slash ? slash + 1 : path;
	return place_open(dir_fd, parent, O_PATH | O_DIRECTORY);
}

int place_unlink(int dir_fd, const char *path)
{
	const char *name;
	_cleanup_fd_ int parent = place_parent(dir_fd, path, &name);
	return parent < 0 ? -1 : unlinkat(parent, name, 0);
}

ssize_t place_real(int fd, char ret[PATH_MAX])
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, ret, PATH_MAX - 1);
	ret[n > 0 ? n : 0] = '\0';
	return n > 0 ? n : -1;
}

int place_chmod(int path_fd, mode_t mode)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
	return chmod(path, mode);
}

static int rename_noreplace(int from_fd, const char *from, int to_fd, const char *to)
{
	if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* No such flag here. A plain rename replaces nothing but an empty directory. */
	struct statx st;
	if (place_statx(to_fd, to, &st) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(from_fd, from, to_fd, to);
}

/* Moving a directory rewrites its '..', for which it must be writable itself. */
static int move_locked(int from_fd, const char *from, int to_fd, const char *to)
{
	_cleanup_fd_ int fd = place_open(from_fd, from, O_PATH | O_DIRECTORY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if ((st.st_mode & S_IWUSR) || place_chmod(fd, (st.st_mode & 07777) | S_IRWXU) < 0) {
		errno = EACCES;
		return -1;
	}
	int r = rename_noreplace(from_fd, from, to_fd, to);
	int err = errno;
	place_chmod(fd, st.st_mode & 07777);
	errno = err;
	return r;
}

int place_move(int from_fd, const char *from, int to_fd, const char *to)
{
	int r = rename_noreplace(from_fd, from, to_fd, to);
	if (r < 0 && errno == EACCES)
		return move_locked(from_fd, from, to_fd, to);
	return r;
}

int place_move_known(int from_fd, const char *from, int to_fd, const char *to, struct identity want,
    const char *aside)
{
	if (place_move(from_fd, from, to_fd, to) < 0)
		return -1;
	if (place_is(to_fd, to, want))
		return 0;
	if (place_move(to_fd, to, from_fd, from) < 0)
		place_move(to_fd, to, from_fd, aside);
	errno = ESTALE;
	return -1;
}

int place_open_parent(const char *path, const char **ret_base)
{
	const char *slash = strrchr(path, '/');
	errno = EINVAL;
	if (path[0] != '/' || !place_component(slash + 1))
		return -1;
	*ret_base = slash + 1;
	_cleanup_free_ char *parent = xstrndup(path, slash > path ? slash - path : 1);
	return open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int place_state_dir(const char *name)
{
	int fd = place_open(WORKER_FD_STATE, name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(WORKER_FD_STATE, name, 0700) < 0 && errno != EEXIST)
		return -1;
	return place_open(WORKER_FD_STATE, name, O_RDONLY | O_DIRECTORY);
}

void place_stage_name(char ret[PLACE_STAGE_NAME])
{
	char id[17];
	id_new(id);
	snprintf(ret, PLACE_STAGE_NAME, PATH_STAGE_WORKER "%s", (int)getpid(), id);
}

void place_mark_cache(int dir_fd)
{
	static const char words[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
		"# Made by venvd; see https://bford.info/cachedir/\n";
	_cleanup_fd_ int fd = openat(dir_fd, "CACHEDIR.TAG",
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	/* Only backups miss it. */
	if (fd >= 0 && fd_write_all(fd, words, sizeof(words) - 1) < 0)
		unlinkat(dir_fd, "CACHEDIR.TAG", 0);
}

struct dirent *place_next(DIR *dir, int *ret)
{
	errno = 0;
	struct dirent *e = readdir(dir);
	*ret = e || errno == 0 ? 0 : -1;
	return e;
}

bool place_component(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int place_read(int dir_fd, const char *name, size_t max, struct text *ret, struct stat *ret_st)
{
	struct stat st;
	/* Looked at before it is opened: opening a device can already do something. */
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	errno = EINVAL;
	if (!S_ISREG(st.st_mode))
		return -1;
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
	_cleanup_fd_ int fd = dir_fd == AT_FDCWD ? openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC) :
	    place_open(dir_fd, name, flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	errno = EINVAL;
	if (!S_ISREG(st.st_mode))
		return -1;
	if (ret_st)
		*ret_st = st;
	return fd_read_all(fd, max, ret);
}

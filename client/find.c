/* SPDX-License-Identifier: MIT */
/*
 * Finds the daemon that serves our root, and nothing but that one: the socket that was named; else
 * the one inside the root, so that two roots never meet, and cron, ssh and su find the same daemon
 * without a runtime directory; else, for the built-in root alone, those that systemd keeps.
 *
 * A path too long for a socket address is reached through its directory's descriptor and /proc,
 * which has no such limit. What is found is trusted only if our own uid or root serves it, and
 * that is looked at before a byte is sent. Starting one is left to start.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include "bounds.h"
#include "call.h"
#include "find.h"
#include "paths.h"
#include "util.h"
#include "venvctl.h"

/* Fills the address; *ret_dir is a descriptor that must stay open until after connect. */
static int address_of(const char *path, struct sockaddr_un *ret, int *ret_dir)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	size_t len = strlen(path);
	if (len < sizeof(ret->sun_path)) {
		memcpy(ret->sun_path, path, len + 1);
		return 0;
	}
	const char *base = strrchr(path, '/');
	if (!base) {
		errno = ENAMETOOLONG;
		return -1;
	}
	_cleanup_free_ char *dir = xstrndup(path, base == path ? 1 : (size_t)(base - path));
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -1;
	int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d%s", *ret_dir,
	                 base);
	if (n < 0 || (size_t)n >= sizeof(ret->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return 0;
}

static int connect_to(const char *path, bool now, int64_t *ret_stranger)
{
	struct sockaddr_un address;
	_cleanup_fd_ int dir = -1;
	if (address_of(path, &address, &dir) < 0)
		return -1;
	int type = SOCK_STREAM | SOCK_CLOEXEC | (now ? SOCK_NONBLOCK : 0);
	_cleanup_fd_ int fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return -1;
	if (!now) {
		/* For AF_UNIX this bounds connect, which waits while the daemon's queue is full. */
		int64_t ms = settings.timeout_ms > 0 ? settings.timeout_ms : LIMIT_CALL_MS;
		struct timeval limit = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	}
	int rc;
	do
		rc = connect(fd, (const struct sockaddr *)&address, sizeof(address));
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -1;
	int64_t stranger = call_stranger(fd);
	if (stranger >= 0) {
		*ret_stranger = stranger;
		errno = EPERM;
		return -1;
	}
	int found = fd;
	fd = -1;
	return found;
}

/* Whether a failed connect means that nobody is there, so that looking further makes sense. */
static bool absent(int err)
{
	return err == ENOENT || err == ECONNREFUSED || err == ENOTDIR;
}

/* The sockets that systemd units listen on. */
static int connect_systemd(bool now, int64_t *ret_stranger)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	if (runtime && *runtime == '/') {
		_cleanup_free_ char *path = xasprintf("%s/venvd/%s", runtime, PATH_SOCKET);
		int fd = connect_to(path, now, ret_stranger);
		if (fd >= 0 || !absent(errno))
			return fd;
	}
	const char *user = getenv("USER");
	if (!user || !*user || strchr(user, '/')) {
		struct passwd *entry = getpwuid(geteuid());
		user = entry ? entry->pw_name : NULL;
	}
	if (!user) {
		errno = ENOENT;
		return -1;
	}
	_cleanup_free_ char *path = xasprintf("/run/venvd/%s/%s", user, PATH_SOCKET);
	return connect_to(path, now, ret_stranger);
}

int find_connect(bool now, int64_t *ret_stranger)
{
	int fd = -1;
	if (settings.socket) {
		fd = connect_to(settings.socket, now, ret_stranger);
		if (fd >= 0 || !absent(errno))
			return fd;
	}
	const char *why, *root = now ? settings_root_try(&why) : settings_root();
	if (!root) {
		errno = ENOENT;
		return -1;
	}
	_cleanup_free_ char *path = xasprintf("%s/" PATH_STATE "/" PATH_SOCKET, root);
	fd = connect_to(path, now, ret_stranger);
	if (fd >= 0 || !absent(errno))
		return fd;
	if (!settings.socket && settings_root_builtin()) {
		fd = connect_systemd(now, ret_stranger);
		if (fd >= 0 || !absent(errno))
			return fd;
	}
	errno = ENOENT;
	return -1;
}

bool find_state_exists(void)
{
	struct stat st;
	_cleanup_fd_ int root = open(settings_root(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root >= 0 && fstatat(root, PATH_STATE, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

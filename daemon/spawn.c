/* SPDX-License-Identifier: MIT */
/*
 * The start of workers. Owns the open program and the descriptors that each of them is given; what becomes of a
 * worker is job.c's.
 *
 * A worker inherits nothing that is not listed here: its own session, default signals, a rebuilt environment, four
 * descriptors. The program was opened at the daemon's start and is run by that descriptor, so replacing the file
 * changes nothing until the daemon starts anew. posix_spawn: SQLite is open, nothing may fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "orders.h"
#include "spawn.h"
#include "util.h"

#define SPAWN_SOURCE_FD 16      /* what is given away is kept above the numbers that it will have */

int spawn_high_fd(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_SOURCE_FD);
}

/* The worker lies beside us in a build directory, or in libexec of the prefix that holds us. */
static int spawn_open(char **ret_why)
{
	static const char *const places[] = { "venvd-worker", "../libexec/venvd/venvd-worker" };
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0) {
		*ret_why = xasprintf("/proc cannot be read: %s", strerror(errno));
		return -1;
	}
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", exe, places[i]);
		_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
		int high = spawn_high_fd(fd);
		if (high >= 0)
			return high;
	}
	*ret_why = xasprintf("venvd-worker is not beside '%s/venvd' nor in its libexec directory", exe);
	return -1;
}

int spawn_init(struct spawn *s, int root_fd, int state_fd, int lock_fd, char **ret_why)
{
	s->binary = spawn_open(ret_why);
	if (s->binary < 0)
		return -1;
	s->root_fd = spawn_high_fd(root_fd);
	s->state_fd = spawn_high_fd(state_fd);
	s->lock_fd = spawn_high_fd(lock_fd);
	return 0;
}

void spawn_done(struct spawn *s)
{
	cleanup_fd(&s->binary);
	cleanup_fd(&s->root_fd);
	cleanup_fd(&s->state_fd);
	cleanup_fd(&s->lock_fd);
}

static char **spawn_environment(void)
{
	static const char *const kept[] = { "HOME", "USER", "LOGNAME", "PYENV_ROOT", "TMPDIR",
		"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" };
	char **env = xcalloc(ARRAY_LENGTH(kept) + 3, sizeof(*env));
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(kept); i++) {
		const char *value = getenv(kept[i]);
		if (value != NULL)
			env[n++] = xasprintf("%s=%s", kept[i], value);
	}
	env[n++] = xstrdup("PATH=/usr/local/bin:/usr/bin:/bin");
	env[n++] = xstrdup("LANG=C.UTF-8");
	return env;
}

static void spawn_attributes(posix_spawnattr_t *attributes)
{
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_init(attributes);
	posix_spawnattr_setflags(attributes,
	    POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigdefault(attributes, &all);
	posix_spawnattr_setsigmask(attributes, &none);
}

/* A list without one of these would start a worker that has other files under their numbers. */
static int spawn_files(posix_spawn_file_actions_t *files, const struct spawn *s, int theirs)
{
	const int sources[] = { theirs, s->root_fd, s->state_fd, s->lock_fd };
	posix_spawn_file_actions_init(files);
	int error = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (error == 0)
		error = posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	for (int i = 0; error == 0 && i < (int)ARRAY_LENGTH(sources); i++) {
		if (sources[i] >= 0)
			error = posix_spawn_file_actions_adddup2(files, sources[i], WORKER_FD_ORDERS + i);
		else
			error = posix_spawn_file_actions_addclose(files, WORKER_FD_ORDERS + i);
	}
	return error;
}

int spawn_worker(const struct spawn *s, int theirs, bool resident, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	spawn_attributes(&attributes);
	int error = spawn_files(&files, s, theirs);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->binary);
	char name[] = "venvd-worker", residence[] = "resident", order[] = "order";
	char *argv[] = { name, resident ? residence : order, NULL };
	char **env = spawn_environment();
	if (error == 0)
		error = posix_spawn(ret_pid, path, &files, &attributes, argv, env);
	for (char **e = env; *e != NULL; e++)
		free(*e);
	free(env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return error;
}

/* SPDX-License-Identifier: MIT */
/*
 * Starts venvd as tmux and gpg start their servers: a command that needs one never tells its user
 * to go and start it.
 *
 * The started process keeps nothing of its caller: a session of its own, no descriptor but the one
 * it reports on, default signals, the root directory as its working directory, a rebuilt
 * environment (limits and umask it resets itself). So 'x=$(venvctl list)' and 'ssh host venvctl
 * list' return at once, whatever they were run from. The daemon says on a pipe, in one line, that
 * it is ready, or that another one serves this root already, or why neither is so; when two start
 * at once both callers are told a process that serves, so there is nothing to wait for but that
 * line.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "bounds.h"
#include "paths.h"
#include "start.h"
#include "talk.h"
#include "util.h"
#include "venvctl.h"

#define READY_FD 3
#define ANSWER_BYTES 8192       /* of what the daemon says on the pipe */

extern char **environ;

static const char *const kept_variables[] = {
	"USER", "LOGNAME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "PYENV_ROOT",
	"VENVD_POOL", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
};
#define ENVIRONMENT_MAX (ARRAY_LENGTH(kept_variables) + 5)

static char *executable_in(const char *dir, size_t len)
{
	_cleanup_free_ char *path = xasprintf("%.*s/venvd", (int)len, dir);
	if (access(path, X_OK) < 0)
		return NULL;
	char *found = path;
	path = NULL;
	return found;
}

/* Beside ourselves, so that a build tree and an installed pair each find their own; else on PATH.
 * */
static char *find_venvd(void)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		const char *slash = strrchr(self, '/');
		char *found = slash ? executable_in(self, (size_t)(slash - self)) : NULL;
		if (found)
			return found;
	}
	const char *path = getenv("PATH");
	while (path && *path) {
		size_t len = strcspn(path, ":");
		char *found = *path == '/' ? executable_in(path, len) : NULL;
		if (found)
			return found;
		path += len + (path[len] == ':');
	}
	return NULL;
}

static void environment_fill(char *ret[ENVIRONMENT_MAX])
{
	size_t n = 0;
	const char *home = path_home();
	if (home)
		ret[n++] = xasprintf("HOME=%s", home);
	ret[n++] = xstrdup("PATH=/usr/local/bin:/usr/bin:/bin");
	ret[n++] = xstrdup("LANG=C.UTF-8");
	/* A relative one means our working directory, which the daemon does not share. */
	const char *config = getenv("VENVD_CONFIG");
	_cleanup_free_ char *file = config && *config ? path_absolute(config) : NULL;
	if (file)
		ret[n++] = xasprintf("VENVD_CONFIG=%s", file);
	for (size_t i = 0; i < ARRAY_LENGTH(kept_variables); i++) {
		const char *value = getenv(kept_variables[i]);
		if (value)
			ret[n++] = xasprintf("%s=%s", kept_variables[i], value);
	}
	ret[n] = NULL;
}

static int attributes_fill(posix_spawnattr_t *attributes)
{
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	int rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
	                                  POSIX_SPAWN_SETSIGMASK);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(attributes, &all);
	return rc ? rc : posix_spawnattr_setsigmask(attributes, &none);
}

static int actions_fill(posix_spawn_file_actions_t *actions, int fd, bool keep_stderr)
{
	int rc = posix_spawn_file_actions_adddup2(actions, fd, READY_FD);
	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
	if (rc == 0 && !keep_stderr)
		rc = posix_spawn_file_actions_addopen(actions, 2, "/dev/null", O_WRONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_addchdir_np(actions, "/");
	return rc ? rc : posix_spawn_file_actions_addclosefrom_np(actions, READY_FD + 1);
}

/* Runs venvd with fd as its descriptor 3; takes nothing. errno on failure. */
static int spawn(const char *venvd, char *const argv[], int fd, bool keep_stderr, pid_t *ret_pid)
{
	posix_spawnattr_t attributes;
	posix_spawn_file_actions_t actions;
	char *variables[ENVIRONMENT_MAX];
	environment_fill(variables);
	int rc = posix_spawnattr_init(&attributes);
	if (rc == 0) {
		rc = posix_spawn_file_actions_init(&actions);
		if (rc == 0) {
			rc = attributes_fill(&attributes);
			if (rc == 0)
				rc = actions_fill(&actions, fd, keep_stderr);
			if (rc == 0)
				rc = posix_spawn(ret_pid, venvd, &actions, &attributes, argv,
				                 variables);
			posix_spawn_file_actions_destroy(&actions);
		}
		posix_spawnattr_destroy(&attributes);
	}
	for (char **v = variables; *v; v++)
		free(*v);
	errno = rc;
	return rc == 0 ? 0 : -1;
}

static char *venvd_or_complain(void)
{
	char *venvd = find_venvd();
	if (!venvd) {
		talk_error("venvd is neither beside venvctl nor on PATH");
		talk_hint("make install");
	}
	return venvd;
}

/* A descriptor above those that the spawned process gets, or a dup2 over it would go wrong. */
static int raise_fd(int fd)
{
	if (fd < 0 || fd > READY_FD)
		return fd;
	int high = fcntl(fd, F_DUPFD_CLOEXEC, READY_FD + 1);
	close(fd);
	return high;
}

static int64_t patience_ms(void)
{
	int64_t ms = settings.timeout_ms;
	return ms > 0 && ms < LIMIT_START_WAIT_MS ? ms : LIMIT_START_WAIT_MS;
}

/* Reads what the daemon says until it closes the pipe. -1 when it said nothing in time. */
static int read_answer(int fd, struct text *ret)
{
	int64_t end = monotonic_us() + patience_ms() * 1000;
	char buffer[1024];
	while (ret->len < ANSWER_BYTES) {
		int64_t left_ms = (end - monotonic_us()) / 1000;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n = poll(&p, 1, left_ms > 0 ? (int)left_ms : 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		ssize_t got = read(fd, buffer, sizeof(buffer));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 0;
		text_add(ret, buffer, (size_t)got);
	}
	return 0;
}

/* What became of a daemon that closed the pipe without a word. */
static int report_death(pid_t pid)
{
	int status;
	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		talk_error("venvd was killed by signal %d as it started", WTERMSIG(status));
	else
		talk_error("venvd ended as it started, without saying why");
	return EXIT_UNREACHABLE;
}

static int report_answer(struct text *answer, pid_t pid)
{
	const char *said = answer->data ? answer->data : "";
	long served_by = 0;
	if (sscanf(said, "ready %ld", &served_by) == 1) {
		if (talk_terminal(STDERR_FILENO))
			talk_say("venvctl: started venvd (pid %ld)", served_by);
		return 0;
	}
	if (strncmp(said, "already ", 8) == 0)
		return 0;
	if (!*said)
		return report_death(pid);

	/* Its own lines, "error: ..." and "hint: ...", in our colours. */
	for (const char *p = said; *p;) {
		size_t len = strcspn(p, "\n");
		_cleanup_free_ char *line = xstrndup(p, len);
		if (strncmp(line, "error: ", 7) == 0)
			talk_error("%s", line + 7);
		else if (strncmp(line, "hint: ", 6) == 0)
			talk_hint("%s", line + 6);
		else
			talk_error("%s", line);
		p += len + (p[len] == '\n');
	}
	return strncmp(said, "error: root ", 12) == 0 ? EXIT_REFUSED : EXIT_UNREACHABLE;
}

int start_daemon(void)
{
	_cleanup_free_ char *venvd = venvd_or_complain();
	if (!venvd)
		return EXIT_UNREACHABLE;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		talk_error("cannot start venvd: %s", strerror(errno));
		return EXIT_UNREACHABLE;
	}
	_cleanup_fd_ int answer_fd = ends[0];
	int theirs = raise_fd(ends[1]);

	char *argv[9], **a = argv;
	*a++ = (char *)"venvd";
	*a++ = (char *)"--root";
	*a++ = (char *)settings_root();
	if (settings.socket) {
		*a++ = (char *)"--socket";
		*a++ = (char *)settings.socket;
	}
	*a++ = (char *)"--detached";
	*a++ = (char *)"--ready-fd";
	*a++ = (char *)"3";
	*a = NULL;

	pid_t pid;
	int rc = theirs < 0 ? -1 : spawn(venvd, argv, theirs, false, &pid);
	int why = errno;
	if (theirs >= 0)
		close(theirs);
	if (rc < 0) {
		talk_error("cannot start '%s': %s", venvd, strerror(why));
		return EXIT_UNREACHABLE;
	}
	_cleanup_text_ struct text answer = { 0 };
	if (read_answer(answer_fd, &answer) < 0) {
		talk_error("venvd (pid %ld) is not ready after %g s", (long)pid,
		           (double)patience_ms() / 1000);
		return EXIT_TIMED_OUT;
	}
	return report_answer(&answer, pid);
}

int start_looking(pid_t *ret_pid)
{
	_cleanup_free_ char *venvd = venvd_or_complain();
	if (!venvd)
		return -1;
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		talk_error("cannot start venvd: %s", strerror(errno));
		return -1;
	}
	_cleanup_fd_ int ours = ends[0];
	int theirs = raise_fd(ends[1]);
	char *argv[] = { (char *)"venvd", (char *)"--root", (char *)settings_root(),
	                 (char *)"--peek", NULL };
	int rc = theirs < 0 ? -1 : spawn(venvd, argv, theirs, true, ret_pid);
	int why = errno;
	if (theirs >= 0)
		close(theirs);
	if (rc < 0) {
		talk_error("cannot start '%s': %s", venvd, strerror(why));
		return -1;
	}
	int fd = ours;
	ours = -1;
	return fd;
}

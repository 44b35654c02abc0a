/* SPDX-License-Identifier: MIT */
/*
 * Children. Only Python is ever run, one at a time, in a process group of its own and with nothing of
 * ours but a cleaned environment. fork() is safe here: a worker has one thread and no SQLite.
 *
 * Between us and Python stands a guard: a fork of ours that runs nothing. It holds the root's lock and
 * one end of a pipe whose other end only we have. When we are killed, and the daemon with us, the guard
 * kills all that Python has started (a parent's death signal would reach Python alone), and only then lets
 * go of the lock, so the next daemon never starts beside a pip that still writes.
 *
 * Invariants: when child_run() returns, no descendant is left, whether it ended by itself, timed out
 * or the daemon went away; a descendant that made a session of its own is found too, since the guard and
 * this process are subreapers. Python itself dies with its guard (PR_SET_PDEATHSIG).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bounds.h"
#include "child.h"
#include "orders.h"
#include "talk.h"

static int ended_fd = -1;               /* a signalfd: some child has ended */

void child_init(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigset_t ended;
	sigemptyset(&ended);
	sigaddset(&ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ended, NULL);
	ended_fd = signalfd(-1, &ended, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void default_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &action, NULL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In Python's process: never returns. errno of what failed goes through error_fd. */
static _Noreturn void become(const struct child *c, char **env, pid_t parent, int out_fd, int error_fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	default_signals();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	umask(c->caller->umask);
	if (!c->cwd || chdir(c->cwd) < 0)
		(void)!chdir("/");
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	if (null_fd >= 0 && dup2(null_fd, 0) == 0 && dup2(out_fd, 1) == 1 && dup2(out_fd, 2) == 2)
		execve(c->argv[0], (char *const *)c->argv, env);
	int err = errno;
	(void)!write(error_fd, &err, sizeof(err));
	_exit(127);
}

/* Signals of several children come as one, and adopted orphans send theirs too: so it is asked whether
 * this one has ended. It is not reaped yet, which keeps its process group's id from being given away. */
static bool has_ended(pid_t pid)
{
	struct signalfd_siginfo signals[8];
	siginfo_t info = { 0 };
	(void)!read(ended_fd, signals, sizeof(signals));
	return waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* SIGKILL for every process whose parent we are. */
static void kill_children(void)
{
	DIR *proc = opendir("/proc");
	if (!proc)
		return;
	for (struct dirent *e; (e = readdir(proc));) {
		pid_t pid = atoi(e->d_name), parent = 0;
		char path[300], line[512] = "";
		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0)
			continue;
		/* The name in parentheses may hold anything; what follows its last one is fixed. */
		const char *after = strrchr(line, ')');
		if (after && sscanf(after, ") %*c %d", &parent) == 1 && parent == getpid())
			kill(pid, SIGKILL);
	}
	closedir(proc);
}

/* Each round ends at least one process; orphans become our children and are met in a later one. */
static void reap_everything(pid_t pid, int *ret_status)
{
	kill(-pid, SIGKILL);
	for (;;) {
		int status;
		pid_t r = waitpid(-1, &status, WNOHANG);
		if (r == 0) {
			kill_children();
			r = waitpid(-1, &status, 0);
		}
		if (r < 0 && errno != EINTR)
			break;
		if (r == pid)
			*ret_status = status;
	}
}

/* Ends as Python did, when Python has ended or the worker is gone (`life` says EOF); never returns. */
static _Noreturn void guard(const struct child *c, char **env, int out_fd, int error_fd, int life)
{
	setpgid(0, 0);
	signal(SIGTERM, SIG_IGN);
	prctl(PR_SET_NAME, "python-guard");     /* not what 'pkill venvd' looks for */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	close(WORKER_FD_ORDERS);
	close(ended_fd);
	sigset_t ended;
	sigemptyset(&ended);
	sigaddset(&ended, SIGCHLD);
	pid_t self = getpid();
	int status = 0, fd = signalfd(-1, &ended, SFD_CLOEXEC);
	pid_t pid = fork();
	if (pid == 0)
		become(c, env, self, out_fd, error_fd);
	close(error_fd);
	struct pollfd fds[] = { { .fd = life, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	ended_fd = fd;
	while (pid > 0 && !fds[0].revents && !(fds[1].revents && has_ended(pid)))
		if (poll(fds, ARRAY_LENGTH(fds), -1) < 0 && errno != EINTR)
			break;
	if (pid > 0)
		reap_everything(pid, &status);
	if (WIFSIGNALED(status)) {
		default_signals();
		kill(self, WTERMSIG(status));
	}
	_exit(pid > 0 ? WEXITSTATUS(status) : 127);
}

/* Both pipes must not land on 0..2 of the child; a worker always has those open. */
static pid_t start(struct child *c, int *ret_out, int *ret_error, int *ret_life)
{
	int out[2], error[2], life[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(error, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return -1;
	}
	if (pipe2(life, O_CLOEXEC) < 0) {
		for (int i = 0; i < 2; i++) {
			close(out[i]);
			close(error[i]);
		}
		return -1;
	}
	__attribute__((cleanup(caller_free_environment))) char **env = caller_environment(c->caller);
	pid_t pid = fork();
	if (pid == 0) {
		close(life[1]);
		guard(c, env, out[1], error[1], life[0]);
	}
	int err = errno;
	if (pid > 0)
		setpgid(pid, pid);
	close(out[1]);
	close(error[1]);
	close(life[0]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	*ret_out = out[0];
	*ret_error = error[0];
	*ret_life = life[1];
	errno = err;
	return pid;
}

/* Takes what waits in the pipe, at most one pipe full; false at its end. */
static bool take_output(struct child *c, int fd)
{
	char buf[16 * 1024];
	for (int i = 0; i < 64; i++) {
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
		for (ssize_t j = 0; j < n; j++)
			if (buf[j] == '\0')
				buf[j] = ' ';
		text_add(&c->output, buf, n);
		if (c->output.len > 2 * LIMIT_CHILD_OUTPUT) {
			size_t drop = c->output.len - LIMIT_CHILD_OUTPUT;
			memmove(c->output.data, c->output.data + drop, LIMIT_CHILD_OUTPUT + 1);
			c->output.len -= drop;
		}
	}
	return true;
}

static void trim_output(struct child *c)
{
	text_adds(&c->output, "");
	if (c->output.len > LIMIT_CHILD_OUTPUT) {
		size_t drop = c->output.len - LIMIT_CHILD_OUTPUT;
		memmove(c->output.data, c->output.data + drop, LIMIT_CHILD_OUTPUT + 1);
		c->output.len -= drop;
	}
}

/* For poll(): -1 without a deadline. */
static int time_left_ms(const struct child *c, int64_t deadline)
{
	if (c->timeout_ms <= 0)
		return -1;
	int64_t left = deadline - monotonic_us();
	return left > 0 ? (int)(left / 1000 + 1) : 0;
}

/* Until it ends, its time is up or the daemon is gone; sets c->end for the latter two. */
static void watch(struct child *c, pid_t pid, int out_fd)
{
	int64_t deadline = monotonic_us() + c->timeout_ms * 1000LL;
	struct pollfd fds[] = {
		{ .fd = WORKER_FD_ORDERS, .events = POLLIN | POLLRDHUP },
		{ .fd = ended_fd, .events = POLLIN },
		{ .fd = out_fd, .events = POLLIN },
	};
	while (c->end == CHILD_EXITED) {
		int timeout = time_left_ms(c, deadline);
		int n = poll(fds, ARRAY_LENGTH(fds), timeout);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->end = CHILD_NOT_STARTED;
			c->status = errno;
			return;
		}
		if (fds[2].revents && !take_output(c, out_fd))
			fds[2].fd = -1;
		if (fds[1].revents && has_ended(pid))
			return;
		/* One that never stops writing must not keep its deadline from being seen. */
		if (timeout == 0)
			c->end = CHILD_TIMED_OUT;
		if (fds[0].revents && talk_gone())
			c->end = CHILD_GONE;
	}
}

void child_run(struct child *c)
{
	_cleanup_fd_ int out_fd = -1;
	_cleanup_fd_ int error_fd = -1;
	_cleanup_fd_ int life_fd = -1;
	c->end = CHILD_EXITED;
	text_clear(&c->output);
	pid_t pid = start(c, &out_fd, &error_fd, &life_fd);
	if (pid < 0) {
		c->end = CHILD_NOT_STARTED;
		c->status = errno;
		trim_output(c);
		return;
	}
	watch(c, pid, out_fd);
	int status = 0, err;
	/* The leader is waited for only after the group was killed: its id cannot be another's yet. */
	reap_everything(pid, &status);
	take_output(c, out_fd);
	trim_output(c);
	if (c->end != CHILD_EXITED)
		return;
	c->status = WEXITSTATUS(status);
	if (WIFSIGNALED(status)) {
		c->end = CHILD_KILLED;
		c->status = WTERMSIG(status);
	} else if (read(error_fd, &err, sizeof(err)) == sizeof(err)) {
		c->end = CHILD_NOT_STARTED;
		c->status = err;
	}
}

void child_done(struct child *c)
{
	text_done(&c->output);
}

char *child_end_text(const struct child *c)
{
	switch (c->end) {
	case CHILD_EXITED:
		return xasprintf("exited with status %d", c->status);
	case CHILD_KILLED:
		return xasprintf("was killed by signal %d (%s)", c->status, strsignal(c->status));
	case CHILD_TIMED_OUT:
		return xasprintf("gave no answer within %g seconds", c->timeout_ms / 1000.0);
	case CHILD_NOT_STARTED:
		return xasprintf("cannot be executed: %s", strerror(c->status));
	case CHILD_GONE:
		break;
	}
	return xstrdup("was stopped");
}

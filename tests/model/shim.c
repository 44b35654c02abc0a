/* SPDX-License-Identifier: MIT */
/*
 * Loaded into venvd and its workers (LD_PRELOAD). All of their calls that change a file system go through here and share
 * one counter, in a file that the test has mapped too ($FAULT_STATE). At the call whose number the test has set it kills
 * the process, or it and the daemon, before or after the call; or the call fails with an errno. Once; then it only
 * counts on. Writes to anything but regular files do not count, nor do opens that make nothing.
 *
 * Two more things are switched on and off (tests/model): a disk that is full, where each call that would take room fails
 * with ENOSPC, and a wall clock that is so many microseconds ahead.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { MODE_COUNT, MODE_KILL_BEFORE, MODE_KILL_AFTER, MODE_ERRNO };

struct state {
	_Atomic uint64_t count;         /* of calls since the test set it to 0 */
	_Atomic uint64_t target;        /* 0: none */
	int32_t mode, error;
	int32_t daemon;                 /* to be killed as well; 0: only who calls */
	_Atomic int32_t fired;          /* the process */
	char call[32];
	_Atomic int64_t clock_us;       /* what is added to the wall clock */
	_Atomic int32_t full;           /* nothing that takes room succeeds */
};

static struct state *state;

static struct state *map(void)
{
	const char *path = getenv("FAULT_STATE");
	if (state || !path)
		return state;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (at == MAP_FAILED)
		abort();
	return state = at;
}

__attribute__((constructor)) static void begin(void)
{
	map();
}

static void end_it(const struct state *s)
{
	if (s->daemon > 0 && s->daemon != getpid())
		kill(s->daemon, SIGKILL);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* Counts the call; 1: it is the one, and is to fail; 2: it is the one, and this process ends after it. */
static int here(const char *call)
{
	struct state *s = map();
	if (!s)
		return 0;
	uint64_t number = atomic_fetch_add(&s->count, 1) + 1;
	if (number != atomic_load(&s->target))
		return 0;
	atomic_store(&s->target, 0);
	strncpy(s->call, call, sizeof(s->call) - 1);
	atomic_store(&s->fired, getpid());
	if (s->mode == MODE_KILL_BEFORE)
		end_it(s);
	if (s->mode == MODE_ERRNO) {
		errno = s->error;
		return 1;
	}
	return s->mode == MODE_KILL_AFTER ? 2 : 0;
}

/* Counts a call that takes room on the disk. */
static int room(const char *call)
{
	const struct state *s = map();
	if (s && atomic_load(&s->full)) {
		errno = ENOSPC;
		return 1;
	}
	return here(call);
}

static int regular(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* RESULT NAME(PARAMETERS) that calls on with ARGUMENTS when it counts, by here() or room(). */
#define CALL(result, name, counts, parameters, arguments) CALL_BY(here, result, name, counts, parameters, arguments)
#define CALL_BY(by, result, name, counts, parameters, arguments) \
	result name parameters \
	{ \
		static result (*real) parameters; \
		if (!real) \
			real = (result (*) parameters)dlsym(RTLD_NEXT, #name); \
		int what = (counts) ? by(#name) : 0; \
		if (what == 1) \
			return (result)-1; \
		result r = real arguments; \
		if (what == 2) \
			end_it(state); \
		return r; \
	}

CALL_BY(room, ssize_t, write, regular(fd), (int fd, const void *data, size_t n), (fd, data, n))
CALL_BY(room, ssize_t, pwrite, regular(fd), (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
CALL_BY(room, ssize_t, pwrite64, regular(fd), (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
CALL(int, ftruncate, 1, (int fd, off_t n), (fd, n))
CALL(int, ftruncate64, 1, (int fd, off64_t n), (fd, n))
CALL(int, fsync, 1, (int fd), (fd))
CALL(int, fdatasync, 1, (int fd), (fd))
CALL(int, syncfs, 1, (int fd), (fd))
CALL(int, sync_file_range, 1, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags))
CALL(int, rename, 1, (const char *a, const char *b), (a, b))
CALL(int, renameat, 1, (int a, const char *b, int c, const char *d), (a, b, c, d))
CALL(int, renameat2, 1, (int a, const char *b, int c, const char *d, unsigned f), (a, b, c, d, f))
CALL_BY(room, int, linkat, 1, (int a, const char *b, int c, const char *d, int f), (a, b, c, d, f))
CALL_BY(room, int, symlink, 1, (const char *a, const char *b), (a, b))
CALL_BY(room, int, symlinkat, 1, (const char *a, int b, const char *c), (a, b, c))
CALL(int, unlink, 1, (const char *a), (a))
CALL(int, unlinkat, 1, (int a, const char *b, int f), (a, b, f))
CALL(int, rmdir, 1, (const char *a), (a))
CALL_BY(room, int, mkdir, 1, (const char *a, mode_t m), (a, m))
CALL_BY(room, int, mkdirat, 1, (int a, const char *b, mode_t m), (a, b, m))
CALL(int, fchmod, 1, (int fd, mode_t m), (fd, m))
CALL(int, chmod, 1, (const char *a, mode_t m), (a, m))
CALL(int, futimens, 1, (int fd, const struct timespec t[2]), (fd, t))
CALL(int, utimensat, 1, (int a, const char *b, const struct timespec t[2], int f), (a, b, t, f))
CALL_BY(room, ssize_t, copy_file_range, 1, (int a, off64_t *b, int c, off64_t *d, size_t n, unsigned f), (a, b, c, d, n, f))

#define OPEN(name, parameters, arguments) \
	int name parameters \
	{ \
		static int (*real) parameters; \
		if (!real) \
			real = (int (*) parameters)dlsym(RTLD_NEXT, #name); \
		mode_t mode = 0; \
		if (flags & (O_CREAT | O_TMPFILE)) { \
			va_list ap; \
			va_start(ap, flags); \
			mode = va_arg(ap, mode_t); \
			va_end(ap); \
		} \
		int full = state && (flags & O_CREAT) && atomic_load(&state->full); \
		if (full && !(flags & O_EXCL)) \
			flags &= ~O_CREAT; \
		else if (full) \
			return errno = ENOSPC, -1; \
		int what = state && (flags & (O_CREAT | O_TRUNC)) ? here(#name) : 0; \
		if (what == 1) \
			return -1; \
		int r = real arguments; \
		if (full && r < 0 && errno == ENOENT) \
			errno = ENOSPC; \
		if (what == 2) \
			end_it(state); \
		return r; \
	}

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))

/* --- the wall clock --- */

int clock_gettime(clockid_t clock, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(clock, t);
	if (r == 0 && state && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		int64_t us = t->tv_sec * INT64_C(1000000) + t->tv_nsec / 1000 + atomic_load(&state->clock_us);
		t->tv_sec = us / 1000000;
		t->tv_nsec = us % 1000000 * 1000 + t->tv_nsec % 1000;
	}
	return r;
}

time_t time(time_t *ret)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (ret)
		*ret = t.tv_sec;
	return t.tv_sec;
}

/* A worker gets us too; what a worker starts does not. */
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files, const posix_spawnattr_t *attributes,
    char *const argv[], char *const env[])
{
	static int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
	    char *const[], char *const[]);
	if (!real)
		real = (int (*)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
		    char *const[], char *const[]))dlsym(RTLD_NEXT, "posix_spawn");
	size_t n = 0;
	while (env[n])
		n++;
	char **more = calloc(n + 3, sizeof(*more));
	char preload[4200], where[4200];
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", getenv("LD_PRELOAD"));
	snprintf(where, sizeof(where), "FAULT_STATE=%s", getenv("FAULT_STATE"));
	memcpy(more, env, n * sizeof(*more));
	more[n] = preload;
	more[n + 1] = where;
	int r = real(pid, path, files, attributes, argv, more);
	free(more);
	return r;
}

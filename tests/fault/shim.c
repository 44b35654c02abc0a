/* SPDX-License-Identifier: MIT */
/*
 * Loaded into venvd, its workers, venvctl and, where a test wants it, the Python children of workers (LD_PRELOAD). All
 * of their calls that change a file system go through here and share one counter, in a file that the test has mapped too
 * ($FAULT_STATE). At the call whose number the test has set it kills the process, or it and the daemon, before or after
 * the call; or the call fails with an errno, once, or this one and all that follow. Then it only counts on. Writes to
 * anything but regular files do not count, nor do those of the log, nor opens that make nothing.
 *
 * With FAULT_MEMORY defined, allocations are counted and refused in the same way when the test asks for them in place of
 * calls; where the one was that was refused first is written into $FAULT_STATE.trace.
 *
 * `who` says which of the processes count; each knows by its own command line which it is.
 *
 * Two more things are switched on and off (tests/model): a disk that is full, where each call that would take room fails
 * with ENOSPC, and a wall clock that is so many microseconds ahead.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { MODE_COUNT, MODE_KILL_BEFORE, MODE_KILL_AFTER, MODE_ERRNO };
enum { WHO_DAEMON = 1, WHO_RESIDENT = 2, WHO_ORDER = 4, WHO_CHILD = 8, WHO_CLIENT = 16 };

struct state {
	_Atomic uint64_t count;         /* of calls since the test set it to 0 */
	_Atomic uint64_t target;        /* 0: none */
	int32_t mode, error;
	int32_t daemon;                 /* to be killed as well; 0: only who calls */
	_Atomic int32_t fired;          /* the process */
	int32_t who;                    /* counts */
	int32_t persists;               /* the errno, from the target on */
	int32_t memory;                 /* allocations count, calls do not */
	char call[32];
	_Atomic int64_t clock_us;       /* what is added to the wall clock */
	_Atomic int32_t full;           /* nothing that takes room succeeds */
};

static struct state *state;
static int self = WHO_CHILD;

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

__attribute__((constructor)) static void begin(int argc, char **argv)
{
	const char *name = argc > 0 && strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argc > 0 ? argv[0] : "";
	if (strcmp(name, "venvd") == 0)
		self = WHO_DAEMON;
	else if (strcmp(name, "venvd-worker") == 0)
		self = argc > 1 && strcmp(argv[1], "resident") == 0 ? WHO_RESIDENT : WHO_ORDER;
	else if (strcmp(name, "venvctl") == 0)
		self = WHO_CLIENT;
#ifdef FAULT_MEMORY
	void *frame[1];
	if (self != WHO_CHILD)
		backtrace(frame, 1);            /* its first use loads a library */
#endif
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

/* Whether the call with this number is to be met. The first of them is written down. */
static int is_it(struct state *s, const char *call)
{
	uint64_t number = atomic_fetch_add(&s->count, 1) + 1;
	uint64_t target = atomic_load(&s->target);
	if (target == 0 || (s->persists ? number < target : number != target))
		return 0;
	if (!s->persists)
		atomic_store(&s->target, 0);
	int32_t nobody = 0;
	if (s->call[0] == '\0')
		strncpy(s->call, call, sizeof(s->call) - 1);
	return atomic_compare_exchange_strong(&s->fired, &nobody, getpid()) ? 2 : 1;
}

/* Counts the call; 1: it is the one, and is to fail; 2: it is the one, and this process ends after it. */
static int here(const char *call)
{
	struct state *s = map();
	if (!s || s->memory || !(s->who & self) || !is_it(s, call))
		return 0;
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

#ifdef FAULT_MEMORY
/* --- memory; all that libc gives by itself (strdup, asprintf, opendir) is asked for here, too --- */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void say_where(void)
{
	char path[4200];
	void *frames[40];
	snprintf(path, sizeof(path), "%s.trace", getenv("FAULT_STATE"));
	int n = backtrace(frames, 40), fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		backtrace_symbols_fd(frames, n, fd);
		close(fd);
	}
}

static int refused(const char *call)
{
	static _Thread_local int inside;
	struct state *s = state;
	if (!s || !s->memory || !(s->who & self) || inside)
		return 0;
	int what = is_it(s, call);
	if (what == 2) {
		inside = 1;
		say_where();
		inside = 0;
	}
	if (what)
		errno = ENOMEM;
	return what;
}

void *malloc(size_t n)
{
	return refused("malloc") ? NULL : __libc_malloc(n);
}

void *calloc(size_t count, size_t n)
{
	return refused("calloc") ? NULL : __libc_calloc(count, n);
}

void *realloc(void *p, size_t n)
{
	return refused("realloc") ? NULL : __libc_realloc(p, n);
}

void *reallocarray(void *p, size_t count, size_t n)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, n, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return refused("reallocarray") ? NULL : __libc_realloc(p, bytes);
}

void *memalign(size_t boundary, size_t n)
{
	return refused("memalign") ? NULL : __libc_memalign(boundary, n);
}

void *aligned_alloc(size_t boundary, size_t n)
{
	return refused("aligned_alloc") ? NULL : __libc_memalign(boundary, n);
}

int posix_memalign(void **ret, size_t boundary, size_t n)
{
	void *p = refused("posix_memalign") ? NULL : __libc_memalign(boundary, n);
	if (!p)
		return ENOMEM;
	*ret = p;
	return 0;
}
#endif

/* --- calls --- */

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

CALL_BY(room, ssize_t, write, fd != STDERR_FILENO && regular(fd), (int fd, const void *data, size_t n), (fd, data, n))
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
CALL(int, fchmodat, 1, (int a, const char *b, mode_t m, int f), (a, b, m, f))
CALL(int, fchownat, 1, (int a, const char *b, uid_t u, gid_t g, int f), (a, b, u, g, f))
CALL(int, bind, a->sa_family == AF_UNIX, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
CALL(int, futimens, 1, (int fd, const struct timespec t[2]), (fd, t))
CALL(int, utimensat, 1, (int a, const char *b, const struct timespec t[2], int f), (a, b, t, f))
CALL_BY(room, ssize_t, sendfile, regular(a), (int a, int b, off_t *c, size_t n), (a, b, c, n))
CALL_BY(room, ssize_t, sendfile64, regular(a), (int a, int b, off64_t *c, size_t n), (a, b, c, n))
CALL_BY(room, int, link, 1, (const char *a, const char *b), (a, b))
CALL(int, utimes, 1, (const char *a, const struct timeval t[2]), (a, t))
CALL_BY(room, ssize_t, copy_file_range, 1, (int a, off64_t *b, int c, off64_t *d, size_t n, unsigned f), (a, b, c, d, n, f))

/* The one that changes a file. */
int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	if (!real)
		real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	va_list ap;
	va_start(ap, request);
	void *argument = va_arg(ap, void *);
	va_end(ap);
	int what = request == FICLONE || request == FICLONERANGE ? room("ioctl") : 0;
	if (what == 1)
		return -1;
	int r = real(fd, request, argument);
	if (what == 2)
		end_it(state);
	return r;
}

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

/* --- what is started gets us too: workers always, what a worker starts when it is to be met --- */

/* Room for two more than env has; `words` holds them. An environment that has us already is what it is. */
struct words {
	char preload[4200], where[4200];
};

static char **with_us(char *const env[], char **more, struct words *words)
{
	size_t n = 0;
	for (; env[n]; n++) {
		more[n] = env[n];
		if (strncmp(env[n], "FAULT_STATE=", 12) == 0)
			return (char **)env;
	}
	snprintf(words->preload, sizeof(words->preload), "LD_PRELOAD=%s", getenv("LD_PRELOAD"));
	snprintf(words->where, sizeof(words->where), "FAULT_STATE=%s", getenv("FAULT_STATE"));
	more[n] = words->preload;
	more[n + 1] = words->where;
	more[n + 2] = NULL;
	return more;
}

static size_t length(char *const env[])
{
	size_t n = 0;
	while (env[n])
		n++;
	return n;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files, const posix_spawnattr_t *attributes,
    char *const argv[], char *const env[])
{
	static int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
	    char *const[], char *const[]);
	if (!real)
		real = (int (*)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
		    char *const[], char *const[]))dlsym(RTLD_NEXT, "posix_spawn");
	struct words words;
	char *more[length(env) + 3];
	return real(pid, path, files, attributes, argv, with_us(env, more, &words));
}

int execve(const char *path, char *const argv[], char *const env[])
{
	static int (*real)(const char *, char *const[], char *const[]);
	if (!real)
		real = (int (*)(const char *, char *const[], char *const[]))dlsym(RTLD_NEXT, "execve");
	struct words words;
	char *more[length(env) + 3];
	return real(path, argv, state && (state->who & WHO_CHILD) ? with_us(env, more, &words) : (char **)env);
}

/* SPDX-License-Identifier: MIT */
/*
 * Loaded into a worker (LD_PRELOAD): the attacker, inside the process that is attacked, so that it comes exactly in
 * time. Every call that looks up a path below $RACE_TOP comes through here and is counted in a file that the test has
 * mapped too ($RACE_STATE). Before a call, what is at `place` changes places with the link that waits at `link`
 * (RENAME_EXCHANGE; where nothing is, the link itself goes there), and after it back again, if that is wanted.
 *
 *   MODE_EXACT   before the call whose number is `target`; back after it, after the next one (2), or not at all (0)
 *   MODE_DICE    before each call, or not, as a generator says that begins at `dice`: in for one call, in, out
 *   MODE_FREE    in a thread of its own, as fast as it can, whatever is called
 *
 * A '*' in `place` is the first name there that does not begin with a dot. What was really done is counted in `races`.
 * The attacker himself goes by raw system calls.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MODE_OFF, MODE_EXACT, MODE_DICE, MODE_FREE };

struct state {
	_Atomic uint64_t count;         /* of calls since the test set it to 0 */
	_Atomic uint64_t races;         /* changes that were made right before a call, or by the thread */
	uint64_t target, dice;
	volatile int32_t mode;
	int32_t back;
	int32_t in;                     /* the link is at `at` */
	char call[28];                  /* the one that was raced last */
	char top[512], place[512], link[512], at[1024];
};

static struct state *state;

static long real_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	static long (*real)(long, ...);
	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return real(number, a, b, c, d, e, f);
}

/* --- the attacker --- */

static int kind(const char *path)
{
	struct stat st;
	return real_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, AT_SYMLINK_NOFOLLOW, 0, 0) < 0 ? 0 :
	    (int)(st.st_mode & S_IFMT);
}

/* The first name in a directory; 0 if there is none. */
static int first(const char *directory, char *ret, size_t size)
{
	struct dirent64 *d;
	char buffer[2048];
	long n = -1;
	int fd = (int)real_syscall(SYS_openat, AT_FDCWD, (long)directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
	*ret = '\0';
	while (fd >= 0 && !*ret && (n = real_syscall(SYS_getdents64, fd, (long)buffer, sizeof(buffer), 0, 0, 0)) > 0)
		for (long at = 0; at < n && !*ret; at += d->d_reclen) {
			d = (struct dirent64 *)(buffer + at);
			if (d->d_name[0] != '.' && d->d_type == DT_DIR)
				snprintf(ret, size, "%s", d->d_name);
		}
	if (fd >= 0)
		close(fd);
	return *ret != '\0';
}

static int resolve(char *ret, size_t size)
{
	char copy[512], name[256], *rest = copy, *part;
	size_t len = 0;
	snprintf(copy, sizeof(copy), "%s", state->place);
	ret[0] = '\0';
	while ((part = strsep(&rest, "/"))) {
		if (!*part)
			continue;
		if (strcmp(part, "*") == 0) {
			if (!first(ret, name, sizeof(name)))
				return 0;
			part = name;
		}
		len += (size_t)snprintf(ret + len, size - len, "/%s", part);
		if (len >= size)
			return 0;
	}
	return 1;
}

static long change(const char *from, const char *to, unsigned flags)
{
	return real_syscall(SYS_renameat2, AT_FDCWD, (long)from, AT_FDCWD, (long)to, flags, 0);
}

static int swap_in(void)
{
	char at[sizeof(state->at)];
	if (state->in || !resolve(at, sizeof(at)) || kind(state->link) != S_IFLNK)
		return 0;
	/* Known before it is done: this process may be killed at any moment. */
	snprintf(state->at, sizeof(state->at), "%s", at);
	state->in = change(at, state->link, RENAME_EXCHANGE) == 0 || change(state->link, at, RENAME_NOREPLACE) == 0;
	return state->in;
}

/* Whoever was moved away comes back, even where the link has gone meanwhile. */
static int swap_back(void)
{
	int parked = kind(state->link) == S_IFDIR, there = kind(state->at);
	if (!state->in)
		return 0;
	if (there == S_IFLNK ? change(state->at, state->link, parked ? RENAME_EXCHANGE : RENAME_NOREPLACE) < 0 :
	    !parked || change(state->link, state->at, RENAME_NOREPLACE) < 0)
		return 0;
	state->in = 0;
	return 1;
}

static void *run(void *nothing)
{
	while (state->mode == MODE_FREE)
		if (state->in ? swap_back() : swap_in())
			atomic_fetch_add(&state->races, 1);
		else
			sched_yield();
	return nothing;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("RACE_STATE");
	if (!path)
		return;
	int fd = (int)real_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
	void *at = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || at == MAP_FAILED)
		abort();
	close(fd);
	state = at;
	pthread_t thread;
	if (state->mode == MODE_FREE && pthread_create(&thread, NULL, run, NULL) != 0)
		abort();
}

static uint64_t roll(void)
{
	state->dice ^= state->dice << 13;
	state->dice ^= state->dice >> 7;
	state->dice ^= state->dice << 17;
	return state->dice;
}

/* --- who is attacked --- */

static int below(int dir, const char *path)
{
	char link[64], at[1024];
	size_t len = strlen(state->top);
	if (path && path[0] == '/')
		return strncmp(path, state->top, len) == 0;
	if (dir < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	long n = real_syscall(SYS_readlinkat, AT_FDCWD, (long)link, (long)at, sizeof(at), 0, 0);
	return n >= (long)len && memcmp(at, state->top, len) == 0;
}

/* 1: after(1) is due. */
static int before(const char *call, int dir, const char *path, int other_dir, const char *other)
{
	int err = errno, due = 0, done = 0;
	if (!state || state->mode == MODE_OFF || state->mode == MODE_FREE || (!below(dir, path) && !(other && below(other_dir, other))))
		return 0;
	uint64_t number = atomic_fetch_add(&state->count, 1) + 1;
	if (state->mode == MODE_EXACT && number == state->target) {
		done = swap_in();
		due = done && state->back == 1;
	} else if (state->mode == MODE_EXACT) {
		due = state->in && state->back == 2 && number == state->target + 1;
	} else if (state->mode == MODE_DICE) {
		uint64_t die = roll() % 8;
		if (die < 2)
			done = state->in ? swap_back() : swap_in();
		else if (die < 6)
			done = due = swap_in();
	}
	if (done) {
		atomic_fetch_add(&state->races, 1);
		snprintf(state->call, sizeof(state->call), "%s", call);
	}
	errno = err;
	return due;
}

static void after(int due)
{
	int err = errno;
	if (due)
		swap_back();
	errno = err;
}

/* RESULT NAME(PARAMETERS): one that looks up PATH from DIR, and perhaps OTHER from OTHER_DIR. */
#define CALL2(result, name, dir, path, other_dir, other, parameters, arguments) \
	result name parameters \
	{ \
		static result (*real) parameters; \
		if (!real) \
			real = (result (*) parameters)dlsym(RTLD_NEXT, #name); \
		int due = before(#name, dir, path, other_dir, other); \
		result answer = real arguments; \
		after(due); \
		return answer; \
	}
#define CALL(result, name, dir, path, parameters, arguments) CALL2(result, name, dir, path, -1, NULL, parameters, arguments)

typedef struct stat stat_t;
typedef struct statx statx_t;

CALL(int, __openat_2, a, b, (int a, const char *b, int f), (a, b, f))
CALL(DIR *, opendir, -1, b, (const char *b), (b))
CALL(int, fstatat, a, b, (int a, const char *restrict b, stat_t *restrict s, int f), (a, b, s, f))
CALL(int, stat, -1, b, (const char *restrict b, stat_t *restrict s), (b, s))
CALL(int, lstat, -1, b, (const char *restrict b, stat_t *restrict s), (b, s))
CALL(int, statx, a, b, (int a, const char *restrict b, int f, unsigned m, statx_t *restrict s), (a, b, f, m, s))
CALL(int, access, -1, b, (const char *b, int m), (b, m))
CALL(int, faccessat, a, b, (int a, const char *b, int m, int f), (a, b, m, f))
CALL(ssize_t, readlink, -1, b, (const char *restrict b, char *restrict t, size_t n), (b, t, n))
CALL(ssize_t, readlinkat, a, b, (int a, const char *restrict b, char *restrict t, size_t n), (a, b, t, n))
CALL(char *, realpath, -1, b, (const char *restrict b, char *restrict r), (b, r))
CALL(int, chmod, -1, b, (const char *b, mode_t m), (b, m))
CALL(int, fchmodat, a, b, (int a, const char *b, mode_t m, int f), (a, b, m, f))
CALL(int, fchownat, a, b, (int a, const char *b, uid_t u, gid_t g, int f), (a, b, u, g, f))
CALL(int, utimensat, a, b, (int a, const char *b, const struct timespec t[2], int f), (a, b, t, f))
CALL(int, mkdir, -1, b, (const char *b, mode_t m), (b, m))
CALL(int, mkdirat, a, b, (int a, const char *b, mode_t m), (a, b, m))
CALL(int, symlinkat, a, b, (const char *t, int a, const char *b), (t, a, b))
CALL(int, unlink, -1, b, (const char *b), (b))
CALL(int, unlinkat, a, b, (int a, const char *b, int f), (a, b, f))
CALL(int, rmdir, -1, b, (const char *b), (b))
CALL2(int, linkat, a, b, c, d, (int a, const char *b, int c, const char *d, int f), (a, b, c, d, f))
CALL2(int, renameat, a, b, c, d, (int a, const char *b, int c, const char *d), (a, b, c, d))
CALL2(int, renameat2, a, b, c, d, (int a, const char *b, int c, const char *d, unsigned f), (a, b, c, d, f))

int open(const char *path, int flags, ...)
{
	static int (*real)(const char *, int, ...);
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (!real)
		real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	int due = before("open", -1, path, -1, NULL);
	int r = real(path, flags, mode);
	after(due);
	return r;
}

int openat(int dir, const char *path, int flags, ...)
{
	static int (*real)(int, const char *, int, ...);
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (!real)
		real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
	int due = before("openat", dir, path, -1, NULL);
	int r = real(dir, path, flags, mode);
	after(due);
	return r;
}

/* An order steps back for others, which here are other tests: it would take hours. */
int nice(int by)
{
	(void)by;
	return 0;
}

/* openat2 has no function of its own. */
long syscall(long number, ...)
{
	long a[6];
	va_list ap;
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	int due = number == SYS_openat2 ? before("openat2", (int)a[0], (const char *)a[1], -1, NULL) : 0;
	long r = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	after(due);
	return r;
}

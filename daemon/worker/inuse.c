/* SPDX-License-Identifier: MIT */
/*
 * In use = a program of the environment runs: a process of our own user whose executable lies in it, or whose
 * executable is the environment's base interpreter and that was started through the environment (argv[0] lies in
 * it, or VIRTUAL_ENV names it). The executable alone says nothing: it is the base Python, and everybody's.
 *
 * A shell that stands in it, or has it activated, is told as a warning. Who asks, and the processes above it, never
 * count. Other users' processes are not seen, nor what only has a file of it mapped.
 *
 * Everything is bounded, for the text is that of the processes (process.h).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "failure.h"
#include "inuse.h"
#include "orders.h"
#include "others.h"
#include "place.h"
#include "process.h"
#include "talk.h"

#define INUSE_SPELLINGS 4
#define INUSE_ANCESTORS 64

struct inuse {
	json_t *order;
	const char *name;
	char *path[INUSE_SPELLINGS];    /* as it was given, and where it really is; no slash at the end */
	size_t path_count;
	struct stat base;               /* of its base interpreter */
	char base_path[PATH_MAX];       /* where that really is; "" if there is none */
	pid_t apart[INUSE_ANCESTORS];   /* who asks, and what is above it */
	size_t apart_count;
	json_t *processes, *standing;
	json_t *others;                 /* names, of what else lies in the directory of one elsewhere */
	size_t others_more;
	size_t more;                    /* that were found beyond LIMIT_IN_USE */
};

/* One process, as far as it has been looked at. */
struct program {
	struct process process;         /* open if it is looked at any closer */
	char exe[PATH_MAX];
	bool deleted;                   /* another file is there by now, as after an upgrade */
	struct stat st;                 /* of its executable */
};

/* --- the question --- */

static void add_path(struct inuse *q, const char *path)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	for (size_t i = 0; i < q->path_count; i++)
		if (strlen(q->path[i]) == len && strncmp(q->path[i], path, len) == 0)
			return;
	if (q->path_count < INUSE_SPELLINGS)
		q->path[q->path_count++] = xstrndup(path, len);
}

static ssize_t read_link(int dir_fd, const char *name, char ret[PATH_MAX])
{
	ssize_t n = readlinkat(dir_fd, name, ret, PATH_MAX - 1);
	ret[n > 0 ? n : 0] = '\0';
	return n;
}

static void find_base(struct inuse *q, int env_fd)
{
	static const char *const names[] = { "bin/python", "bin/python3" };
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		_cleanup_fd_ int fd = openat(env_fd, names[i], O_PATH | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &q->base) == 0 && S_ISREG(q->base.st_mode)) {
			place_real(fd, q->base_path);
			return;
		}
	}
}

static pid_t parent_of(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	int parent = 0;
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* Behind the name, which may hold anything, its last parenthesis. */
	const char *p = strrchr(text, ')');
	return p && sscanf(p + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

struct inuse *inuse_begin(json_t *order)
{
	struct inuse *q = xcalloc(1, sizeof(*q));
	const char *op, *path;
	json_int_t id, caller;
	int elsewhere;
	char real[PATH_MAX];
	talk_unpack(order, "{s:I, s:s, s:s, s:s, s:b, s:I}", "id", &id, "op", &op, "name", &q->name, "at", &path,
	    "elsewhere", &elsewhere, "caller", &caller);
	q->order = order;
	q->processes = json_array();
	q->standing = json_array();
	add_path(q, path);
	_cleanup_fd_ int fd = elsewhere ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) :
	    place_open(WORKER_FD_ROOT, q->name, O_PATH | O_DIRECTORY);
	if (fd >= 0) {
		if (place_real(fd, real) > 0)
			add_path(q, real);
		find_base(q, fd);
		q->others = elsewhere ? others_in(fd, &q->others_more) : NULL;
	}
	for (pid_t pid = (pid_t)caller; pid > 1 && q->apart_count < INUSE_ANCESTORS; pid = parent_of(pid))
		q->apart[q->apart_count++] = pid;
	return q;
}

/* --- a process --- */

/* Whether path is the environment's directory or lies in it. */
static bool lies_in(const struct inuse *q, const char *path)
{
	for (size_t i = 0; i < q->path_count; i++) {
		size_t len = strlen(q->path[i]);
		if (strncmp(path, q->path[i], len) == 0 && (path[len] == '/' || path[len] == '\0'))
			return true;
	}
	return false;
}

static bool has_activated(const struct inuse *q, struct program *p)
{
	const char *active = process_variable(&p->process, "VIRTUAL_ENV");
	_cleanup_free_ char *bare = xstrdup(active);
	for (size_t len = bare ? strlen(bare) : 0; len > 1 && bare[len - 1] == '/'; len--)
		bare[len - 1] = '\0';
	for (size_t i = 0; bare && i < q->path_count; i++)
		if (strcmp(bare, q->path[i]) == 0)
			return true;
	return false;
}

/* The absolute path without '//', '.' and '..', by its text alone. */
static void straighten(char *path)
{
	char *out = path, *rest = path;
	do {
		const char *part = strsep(&rest, "/");
		if (strcmp(part, "..") == 0) {
			while (out > path && *--out != '/')
				;
		} else if (*part && strcmp(part, ".") != 0) {
			size_t len = strlen(part);
			*out++ = '/';
			memmove(out, part, len);
			out += len;
		}
	} while (rest);
	*out = '\0';
}

/* argv[0] of one that was started by a relative path belongs to the directory it was started in, which mostly is still its
 * own. */
static bool was_started_in(const struct inuse *q, struct program *p)
{
	const char *word = process_first_word(&p->process);
	char cwd[PATH_MAX] = "";
	if (!strchr(word, '/') || (word[0] != '/' && read_link(p->process.fd, "cwd", cwd) <= 0))
		return false;
	_cleanup_free_ char *path = xasprintf("%s/%s", cwd, word);
	straighten(path);
	return lies_in(q, path);
}

static const char *program_of(const struct program *p)
{
	const char *slash = strrchr(p->exe, '/');
	return slash ? slash + 1 : p->exe;
}

static bool is_base(const struct inuse *q, const struct program *p)
{
	if (p->deleted)
		return strcmp(p->exe, q->base_path) == 0;
	return *q->base_path && p->st.st_dev == q->base.st_dev && p->st.st_ino == q->base.st_ino;
}

static bool runs_from(const struct inuse *q, struct program *p)
{
	return lies_in(q, p->exe) || was_started_in(q, p) || (is_base(q, p) && has_activated(q, p));
}

static bool is_python(const struct program *p)
{
	return strncmp(program_of(p), "python", 6) == 0 || strncmp(program_of(p), "pypy", 4) == 0;
}

static bool is_shell(const struct program *p)
{
	static const char *const shells[] = { "sh", "bash", "dash", "zsh", "fish", "ksh", "ksh93", "mksh", "tcsh", "csh",
		"busybox", "xonsh", "nu", "pwsh" };
	for (size_t i = 0; i < ARRAY_LENGTH(shells); i++)
		if (strcmp(program_of(p), shells[i]) == 0)
			return true;
	return false;
}

/* By its executable alone: whether it may have to do with the environment. A base that is gone or was upgraded is
 * still a Python by its name. */
static bool is_of_interest(const struct inuse *q, const struct program *p)
{
	return is_python(p) || is_shell(p) || strcmp(p->exe, q->base_path) == 0 || lies_in(q, p->exe);
}

static void tell(struct inuse *q, json_t *list, struct program *p)
{
	if (json_array_size(list) < LIMIT_IN_USE)
		json_array_append_new(list, json_pack("{s:i,s:o}", "pid", (int)p->process.pid,
		    "command", process_command(&p->process, p->exe)));
	else if (list == q->processes)
		q->more++;
}

static void ask(struct inuse *q, struct program *p)
{
	char cwd[PATH_MAX];
	for (size_t i = 0; i < q->apart_count; i++)
		if (q->apart[i] == p->process.pid)
			return;
	if (runs_from(q, p))
		tell(q, q->processes, p);
	else if (is_shell(p) && ((read_link(p->process.fd, "cwd", cwd) > 0 && lies_in(q, cwd)) || has_activated(q, p)))
		tell(q, q->standing, p);
}

/* False: it has ended, is a thread of the kernel, or nobody asks for such. Most are of that kind, and cost one call each. */
static bool read_program(struct program *p, int proc_fd, const char *name, struct inuse *const *all, size_t count)
{
	static const char deleted[] = " (deleted)";
	char link[32];
	snprintf(link, sizeof(link), "%.20s/exe", name);
	if (read_link(proc_fd, link, p->exe) <= 0)
		return false;
	size_t len = strlen(p->exe), tail = sizeof(deleted) - 1;
	p->deleted = len > tail && strcmp(p->exe + len - tail, deleted) == 0;
	if (p->deleted)
		p->exe[len - tail] = '\0';
	for (size_t i = 0; i < count; i++)
		if (is_of_interest(all[i], p))
			return true;
	return false;
}

void inuse_look(struct inuse *const *all, size_t count)
{
	DIR *proc = opendir("/proc");
	const struct dirent *d;
	if (!proc) {
		fprintf(stderr, "venvd-worker: nobody knows what runs here: /proc: %s\n", strerror(errno));
		return;
	}
	struct program p = { .process = PROCESS_NONE };
	while ((d = readdir(proc))) {
		if (d->d_name[0] < '0' || d->d_name[0] > '9')
			continue;
		if (read_program(&p, dirfd(proc), d->d_name, all, count) && process_open(&p.process, dirfd(proc), d->d_name) &&
		    fstatat(p.process.fd, "exe", &p.st, 0) == 0)
			for (size_t i = 0; i < count; i++)
				ask(all[i], &p);
		process_close(&p.process);
	}
	closedir(proc);
}

json_t *inuse_end(struct inuse *q)
{
	json_t *fields = json_pack("{s:o,s:o,s:I,s:o,s:I}", "processes", q->processes, "standing", q->standing,
	    "more", (json_int_t)q->more, "others", q->others ? q->others : json_array(), "othersMore",
	    (json_int_t)q->others_more);
	for (size_t i = 0; i < q->path_count; i++)
		free(q->path[i]);
	free(q);
	return fields;
}

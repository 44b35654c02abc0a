/* SPDX-License-Identifier: MIT */
/*
 * The log. A daemon that somebody started by hand, or that systemd runs, talks on stderr; one that a
 * client started has no terminal and writes a file below $XDG_STATE_HOME, capped: when it is full it
 * becomes NAME.log.1 and a new one begins. Owns the file's descriptor and puts it on stderr too, so
 * the words of workers, of SQLite and of a sanitizer land there.
 *
 * Never fails upwards: a log that cannot be opened is /dev/null.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "bounds.h"
#include "log.h"
#include "paths.h"

#define LOG_QUIET_PRIORITY 4

static struct {
	char *path;             /* NULL: stderr */
	bool priorities;        /* stderr goes to the journal */
	bool quiet;             /* stderr is a person's: only what went wrong */
	off_t size;
} log_state;

/* The store's thread has something to say too, when a disk fails. */
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;

/* The default root has the plain name; every other one gets a short hash of its path beside it. */
static char *log_name(const char *root)
{
	uint32_t hash = 2166136261u;
	for (const char *p = root; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	const char *home = path_home();
	_cleanup_free_ char *usual = home != NULL ? xasprintf("%s/.virtualenvs", home) : NULL;
	if (usual != NULL && strcmp(usual, root) == 0)
		return xstrdup("venvd.log");
	return xasprintf("venvd-%08x.log", hash);
}

static char *log_directory(void)
{
	const char *state = getenv("XDG_STATE_HOME");
	if (state != NULL && state[0] == '/')
		return xasprintf("%s/venvd", state);
	const char *home = path_home();
	return home != NULL ? xasprintf("%s/.local/state/venvd", home) : NULL;
}

static void log_make_directories(const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);
	for (char *p = strchr(copy + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(copy, 0700);
		*p = '/';
	}
}

static void log_open_file(void)
{
	int fd = open(log_state.path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	struct stat st;
	log_state.size = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
	dup2(fd, STDERR_FILENO);
	if (fd != STDERR_FILENO)
		close(fd);
}

void log_open(const char *root)
{
	if (root == NULL) {
		log_state.priorities = getenv("JOURNAL_STREAM") != NULL;
		return;
	}
	_cleanup_free_ char *directory = log_directory();
	_cleanup_free_ char *name = log_name(root);
	log_state.path = directory != NULL ? xasprintf("%s/%s", directory, name) : xstrdup("/dev/null");
	log_make_directories(log_state.path);
	log_open_file();
}

void log_quiet(void)
{
	log_state.quiet = true;
}

void log_reopen(void)
{
	if (log_state.path != NULL)
		log_open_file();
}

const char *log_path(void)
{
	return log_state.path;
}

static void log_rotate(void)
{
	_cleanup_free_ char *old = xasprintf("%s.1", log_state.path);
	if (rename(log_state.path, old) == 0)
		log_open_file();
	else
		log_state.size = 0;
}

static void PRINTF_LIKE(3, 0) log_line(int priority, const char *word, const char *fmt, va_list ap)
{
	char message[1024];
	if (log_state.quiet && priority > LOG_QUIET_PRIORITY)
		return;
	vsnprintf(message, sizeof(message), fmt, ap);
	/* What came from outside cannot act on whoever reads it, or look like another line. */
	_cleanup_free_ char *safe = text_printable(message);
	_cleanup_text_ struct text line = { 0 };
	if (log_state.path != NULL) {
		time_t now = time(NULL);
		struct tm tm;
		char when[32] = "";
		if (localtime_r(&now, &tm) != NULL)
			strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S%z", &tm);
		text_addf(&line, "%s venvd[%d] %s: %s\n", when, (int)getpid(), word, safe);
	} else if (log_state.priorities) {
		text_addf(&line, "<%d>%s\n", priority, safe);
	} else {
		text_addf(&line, "venvd: %s: %s\n", word, safe);
	}
	pthread_mutex_lock(&log_mutex);
	if (fd_write_all(STDERR_FILENO, line.data, line.len) == 0)
		log_state.size += (int64_t)line.len;
	if (log_state.path != NULL && log_state.size >= LIMIT_LOG_BYTES)
		log_rotate();
	pthread_mutex_unlock(&log_mutex);
}

#define LOG_FUNCTION(name, priority, word) \
	void name(const char *fmt, ...) \
	{ \
		va_list ap; \
		va_start(ap, fmt); \
		log_line(priority, word, fmt, ap); \
		va_end(ap); \
	}
LOG_FUNCTION(log_info, 6, "info")
LOG_FUNCTION(log_warning, 4, "warning")
LOG_FUNCTION(log_error, 3, "error")

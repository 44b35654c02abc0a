/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's own venv module, run once: for environments that are made in place, and for the golden
 * ones that images are made of. Owns the translation of its failures. Decides nothing about paths or options.
 */
#include <string.h>
#include <sys/statvfs.h>

#include "bounds.h"
#include "builder.h"
#include "orders.h"

/* With less than this left, what failed has failed for want of space. */
#define FULL_BYTES (1024 * 1024)
#define FULL_FILES 16
#define MOST_ARGUMENTS 32

/* The venv module swallows what pip says about it, so the file system itself is asked. */
bool builder_disk_is_full(int fd)
{
	struct statvfs fs;
	if (fstatvfs(fd, &fs) < 0)
		return false;
	fsblkcnt_t left = geteuid() == 0 ? fs.f_bfree : fs.f_bavail;
	return left * fs.f_frsize < FULL_BYTES || (fs.f_files > 0 && fs.f_ffree < FULL_FILES);
}

/* The option that its own parser does not know; owned, or NULL. */
static char *unknown_option(const struct child *child)
{
	static const char words[] = "unrecognized arguments: ";
	const char *found = strstr(child->output.data, words);
	if (!found || child->end != CHILD_EXITED || child->status != 2)
		return NULL;
	found += strlen(words);
	return xstrndup(found, strcspn(found, " \n"));
}

/* The sentence of "Error: ...", with which the venv module refuses. NULL if it did not: a command of its own that
 * failed (ensurepip) is told in the same form. Owned. */
static char *refusal(const struct child *child)
{
	const char *output = child->output.data, *found = NULL;
	if (child->end != CHILD_EXITED || child->status != 1)
		return NULL;
	for (const char *s = output; (s = strstr(s, "Error: ")); s++)
		if (s == output || s[-1] == '\n')
			found = s + 7;
	if (!found || strncmp(found, "Command ", 8) == 0)
		return NULL;
	return xstrndup(found, strcspn(found, "\n"));
}

int builder_unknown_option(const struct interpreter *i, const char *module, const char *option,
    struct failure *f)
{
	return failure_reason(f, ERROR_UNSUPPORTED, "the %s of Python %s ('%s') does not know %s",
	    strcmp(module, "venv") == 0 ? "venv module" : module, i->version, i->path, option);
}

int builder_failed(const struct interpreter *i, const struct child *child, const char *module,
    const char *what, struct failure *f)
{
	const char *output = child->output.data;
	if (strstr(output, "ensurepip is not") && strstr(output, "apt install")) {
		struct interpreter bare = *i;
		bare.has_ensurepip = false;
		return probe_require_venv(&bare, true, f);
	}
	if (strstr(output, "No space left on device") || strstr(output, "Disk quota exceeded") ||
	    builder_disk_is_full(WORKER_FD_ROOT))
		return failure_reason(f, ERROR_NO_SPACE, "the disk became full while '%s' was being made",
		    what);
	_cleanup_free_ char *option = unknown_option(child);
	if (option)
		return builder_unknown_option(i, module, option, f);
	_cleanup_free_ char *sentence = strcmp(module, "venv") == 0 ? refusal(child) : NULL;
	if (sentence)
		return failure_reason(f, ERROR_FAILED, "%s", sentence);
	_cleanup_free_ char *end = child_end_text(child);
	_cleanup_free_ char *reason = xasprintf("its %s module %s", module, end);
	return failure_set(f, ERROR_INTERPRETER_FAILED, json_pack("{sososo}", "interpreter",
	    failure_text(i->path), "reason", failure_text(reason), "output",
	    failure_lines(output, LIMIT_ERROR_OUTPUT)));
}

int builder_run_venv(const struct interpreter *i, const struct caller *caller,
    const char *const *arguments, const char *what, struct failure *f)
{
	const char *argv[MOST_ARGUMENTS + 5] = { i->path, "-I", "-m", "venv" };
	for (size_t n = 0; arguments[n]; n++) {
		if (n == MOST_ARGUMENTS)
			abort();
		argv[4 + n] = arguments[n];
	}
	__attribute__((cleanup(child_done))) struct child child = {
		.argv = argv, .caller = caller, .cwd = caller->cwd,
	};
	child_run(&child);
	if (child.end == CHILD_GONE)
		return failure_gone(f);
	if (child.end != CHILD_EXITED || child.status != 0)
		return builder_failed(i, &child, "venv", what, f);
	return 0;
}

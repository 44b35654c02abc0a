/* SPDX-License-Identifier: MIT */
/*
 * venvctl run: becomes the command. Because it is an exec, signals, the terminal, the process id,
 * the exit status and every descriptor are the command's own, and no shell stands in between. Of
 * the environment only what activation means is changed: PATH, VIRTUAL_ENV, VIRTUAL_ENV_PROMPT and
 * PYTHONHOME.
 *
 * The search on PATH is done here, because execvp would hand a file without "#!" to a shell. Exit
 * statuses are a shell's: 127 not found, 126 found but not to be run; 125 is for our own failures.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "place.h"
#include "talk.h"
#include "venvctl.h"

#define RUN_CANNOT 126
#define RUN_NOT_FOUND 127
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

extern char **environ;

static int failed_with(const char *command, int why)
{
	bool missing = why == ENOENT || why == ENOTDIR;
	if (missing && !strchr(command, '/'))
		talk_error("command '%s' was not found", command);
	else if (why == ENOEXEC)
		talk_error("cannot run '%s': it has no '#!' line and is no program", command);
	else
		talk_error("cannot run '%s': %s", command, strerror(why));
	return missing ? RUN_NOT_FOUND : RUN_CANNOT;
}

/* A file that exists but whose interpreter does not also fails with ENOENT; a shell says 126 then.
 * */
static int exec_one(const char *file, char **argv)
{
	struct stat st;
	execve(file, argv, environ);
	int why = errno;
	if (why == ENOENT && stat(file, &st) == 0)
		return ELIBBAD;
	if (why == EACCES && stat(file, &st) == 0 && S_ISDIR(st.st_mode))
		return EISDIR;
	return why;
}

/* Returns only if nothing could be run: the errno that says most about it. The first directory is the
 * environment's: a link of it that leads nowhere, as bin/python does when its base was removed, or a file that may not
 * be executed, as on a file system mounted so, must not make another Python or pip run in its place. */
static int exec_on_path(const char *path, char **argv)
{
	int why = ENOENT;
	struct stat st;
	for (bool ours = true;; ours = false) {
		size_t len = strcspn(path, ":");
		_cleanup_free_ char *file = len > 0 ? xasprintf("%.*s/%s", (int)len, path, argv[0])
		                                    : xasprintf("./%s", argv[0]);
		int one = exec_one(file, argv);
		if (ours && (one == ENOENT || one == ENOTDIR) && lstat(file, &st) == 0)
			return ELIBBAD;
		if (ours && one == EACCES && lstat(file, &st) == 0)
			return EACCES;
		if (one == EACCES)
			why = EACCES;
		else if (one != ENOENT && one != ENOTDIR && one != EISDIR && one != ENAMETOOLONG)
			return one;
		if (path[len] == '\0')
			return why;
		path += len + 1;
	}
}

static void environment_activate(const struct place *place, const char *name)
{
	const char *before = getenv("PATH");
	_cleanup_free_ char *path = xasprintf("%s/bin:%s", place->path,
	                                      before && *before ? before : DEFAULT_PATH);
	if (setenv("PATH", path, 1) < 0 || setenv("VIRTUAL_ENV", place->path, 1) < 0 ||
	    setenv("VIRTUAL_ENV_PROMPT", place->prompt ? place->prompt : name, 1) < 0)
		out_of_memory();
	unsetenv("PYTHONHOME");
}

int cmd_run(int argc, char **argv)
{
	if (verb_option(argc, argv, "+", NULL) != -1 || argc - optind < 2) {
		talk_error("run needs the name of an environment and a command");
		talk_hint("venvctl help run");
		return EXIT_RUN_FAILED;
	}
	const char *name = argv[optind];
	char **command = argv + optind + 1;
	if (strcmp(*command, "--") == 0)
		command++;
	if (!*command) {
		talk_error("run needs a command");
		talk_hint("venvctl help run");
		return EXIT_RUN_FAILED;
	}
	_cleanup_place_ struct place place;
	if (place_find(name, &place) != EXIT_DONE)
		return EXIT_RUN_FAILED;
	if (strchr(place.path, ':')) {
		talk_error("cannot run anything in '%s': its path, '%s', has a ':' in it, which PATH cannot hold", name,
		           place.path);
		return EXIT_RUN_FAILED;
	}
	environment_activate(&place, name);
	const char *path = getenv("PATH");
	int why = strchr(*command, '/') ? exec_one(*command, command)
	                                : exec_on_path(path ? path : DEFAULT_PATH, command);
	if (why == ELIBBAD) {
		talk_error("cannot run '%s': its interpreter does not exist", *command);
		return RUN_CANNOT;
	}
	return failed_with(*command, why);
}

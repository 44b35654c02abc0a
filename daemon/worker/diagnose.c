/* SPDX-License-Identifier: MIT */
/*
 * What can be wrong with an environment, and is told in sentences:
 *
 *   interpreter   its base Python is gone, or cannot be used
 *   version       its base Python is another one than its packages were installed for
 *   path          it was moved or copied by hand, and its files still name where it was
 *   files         packages lack files that they were installed with (installed.c)
 *   remains       an interrupted pip left something (installed.c), or an interrupted repair
 *   stale         a process runs what is not there any more (mapped.c)
 *
 * Which path it had before is what its own activation script says, and what scripts of it name as their interpreter where
 * nothing is any more. A path in which its base Python lies is never one of them. Nothing of it is executed: whoever filled
 * the tree is not trusted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "diagnose.h"
#include "distinfo.h"
#include "finding.h"
#include "inspect.h"
#include "installed.h"
#include "mapped.h"
#include "moved.h"
#include "orders.h"
#include "orders_do.h"
#include "place.h"
#include "pyvenv.h"
#include "talk.h"

#define HEAD_BYTES 4096         /* of a script: its shebang */
#define SCRIPTS_MAX 2000        /* of bin, that are looked at */
#define SITES_MAX 8

struct look {
	const struct source *source;
	const char *path;
	struct diagnosis *ret;
	json_t *inspection;     /* owned */
	char *home;             /* as pyvenv.cfg says it; owned, NULL */
	char *sites[SITES_MAX]; /* "lib/python3.11/site-packages" */
	size_t site_count;
};

static void look_done(struct look *l)
{
	json_decref(l->inspection);
	free(l->home);
	for (size_t i = 0; i < l->site_count; i++)
		free(l->sites[i]);
}

void diagnosis_done(struct diagnosis *d)
{
	json_decref(d->findings);
	for (size_t i = 0; i < d->path_count; i++)
		free(d->paths[i]);
	moving_done(&d->moving);
	free(d->wanted);
	*d = (struct diagnosis){ 0 };
}

static const char *inspected(const struct look *l, const char *key)
{
	return json_string_value(json_object_get(l->inspection, key));
}

/* --- its Python --- */

static void site_cb(void *arg, int site_fd, const char *path)
{
	struct look *l = arg;
	close(site_fd);
	if (l->site_count < SITES_MAX)
		l->sites[l->site_count++] = xstrdup(path);
}

/* "3.11" of lib/python3.11/site-packages, "pypy3.9" of lib/pypy3.9: as a specification has it. Owned, or NULL. */
static char *site_python(const char *site)
{
	const char *start = strchr(site, '/'), *end = start ? strchr(start + 1, '/') : NULL;
	if (!end)
		return NULL;
	start++;
	if (strncmp(start, "python", 6) == 0)
		start += 6;
	char *python = xstrndup(start, (size_t)(end - start));
	static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789.";
	if (*python && python[strspn(python, good)] == '\0')
		return python;
	free(python);
	return NULL;
}

/* The one Python that its packages are for; NULL if there are several, or none. Owned. */
static char *only_python(const struct look *l)
{
	char *only = NULL;
	for (size_t i = 0; i < l->site_count; i++) {
		char *python = site_python(l->sites[i]);
		if (!python || (only && strcmp(python, only) != 0)) {
			free(python);
			free(only);
			return NULL;
		}
		free(only);
		only = python;
	}
	return only;
}

/* Where the links of bin/python end, if that says a version: "3.12", "pypy3.9". NULL: unknown. Owned. */
static char *base_python(const struct look *l, char ret_path[PATH_MAX])
{
	const char *executable = inspected(l, "executable");
	const char *name;
	_cleanup_fd_ int bin = executable ? place_parent(l->source->fd, executable, &name) : -1;
	_cleanup_fd_ int fd = bin < 0 ? -1 : openat(bin, name, O_PATH | O_CLOEXEC);
	if (fd < 0 || place_real(fd, ret_path) < 0)
		return NULL;
	const char *base = strrchr(ret_path, '/');
	base = base ? base + 1 : ret_path;
	if (strncmp(base, "python", 6) == 0)
		base += 6;
	else if (strncmp(base, "pypy", 4) != 0)
		return NULL;
	/* "python3" may be any. */
	return strchr(base, '.') && base[strspn(base, "abcdefghijklmnopqrstuvwxyz0123456789.")] == '\0' ? xstrdup(base) : NULL;
}

static void tell_interpreter(struct look *l, const char *kind, const char *text)
{
	_cleanup_free_ char *command = xasprintf("venvctl recreate %s", l->source->name);
	if (!l->ret->wanted)
		finding_add(l->ret->findings, kind, false, command, "%s", text);
	else
		finding_add(l->ret->findings, kind, true, command, "%s; it needs a Python %s", text, l->ret->wanted);
}

static void look_at_interpreter(struct look *l)
{
	const char *problem = inspected(l, "problem"), *executable = inspected(l, "executable"), *name;
	_cleanup_free_ char *python = only_python(l);
	char path[PATH_MAX];
	_cleanup_fd_ int bin = executable ? place_parent(l->source->fd, executable, &name) : -1;
	bool runs = bin >= 0 && faccessat(bin, name, X_OK, 0) == 0;
	if (problem && (!runs || strstr(problem, "interpreter"))) {
		l->ret->wanted = xstrdup(python);
		tell_interpreter(l, FINDING_INTERPRETER, problem);
		return;
	}
	if (problem)
		finding_add(l->ret->findings, FINDING_UNREADABLE, false, NULL, "%s", problem);
	_cleanup_free_ char *base = python ? base_python(l, path) : NULL;
	if (!base || strcmp(base, python) == 0)
		return;
	l->ret->wanted = xstrdup(python);
	_cleanup_free_ char *text = xasprintf("its packages were installed for Python %s, and its interpreter, '%s', is Python %s",
	    python, path, base);
	tell_interpreter(l, FINDING_VERSION, text);
}

/* --- its path --- */

static bool is_below(const char *path, const char *directory)
{
	size_t len = strlen(directory);
	return strncmp(path, directory, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Not one of its own paths, whatever they are called; nor does its Python lie there. */
static bool is_other(const struct look *l, const char *path)
{
	const char *interpreter = inspected(l, "interpreter");
	struct statx st;
	if (path[0] != '/' || path[1] == '\0' || strlen(path) >= PATH_MAX || strstr(path, "//"))
		return false;
	for (size_t i = 0; i < l->source->path_count; i++)
		if (strcmp(path, l->source->paths[i]) == 0)
			return false;
	if ((interpreter && is_below(interpreter, path)) || (l->home && is_below(l->home, path)) || is_below(l->path, path))
		return false;
	for (size_t i = 0; i < l->ret->path_count; i++)
		if (strcmp(path, l->ret->paths[i]) == 0)
			return false;
	/* Through another link to the same directory. */
	if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &st) < 0)
		return true;
	struct identity id = place_identity(&st);
	return id.ino != l->source->id.ino || id.btime_ns != l->source->id.btime_ns;
}

/* Without a slash at its end, for its last component is the name that prompts had. */
static void add_path(struct look *l, const char *path)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	_cleanup_free_ char *bare = xstrndup(path, len);
	if (l->ret->path_count < DIAGNOSE_PATHS && is_other(l, bare)) {
		l->ret->paths[l->ret->path_count++] = bare;
		bare = NULL;
	}
}

/* What a line of an activation script sets it to, if that is a plain path; owned, or NULL. */
static char *assigned_path(const char *line, const char *end)
{
	static const char export[] = "export ", variable[] = "VIRTUAL_ENV=";
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	if ((size_t)(end - line) > strlen(export) && strncmp(line, export, strlen(export)) == 0)
		line += strlen(export);
	if ((size_t)(end - line) <= strlen(variable) || strncmp(line, variable, strlen(variable)) != 0)
		return NULL;
	line += strlen(variable);
	while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	bool quoted = end - line >= 2 && (*line == '"' || *line == '\'') && end[-1] == *line;
	_cleanup_free_ char *value = xstrndup(line + quoted, (size_t)(end - line) - 2 * quoted);
	if (value[0] != '/' || value[strcspn(value, "\"'`$\\")] != '\0' || (!quoted && value[strcspn(value, " ;&|")] != '\0'))
		return NULL;
	return xstrdup(value);
}

static void read_activate(struct look *l)
{
	_cleanup_fd_ int bin = place_open(l->source->fd, "bin", O_PATH | O_DIRECTORY);
	_cleanup_text_ struct text text = { 0 };
	if (bin < 0 || place_read(bin, "activate", LIMIT_CFG_BYTES, &text, NULL) < 0 || text.len == 0)
		return;
	for (const char *line = text.data, *end = text.data + text.len; line < end;) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *stop = newline ? newline : end;
		_cleanup_free_ char *path = assigned_path(line, stop);
		if (path) {
			add_path(l, path);
			return;
		}
		line = stop + 1;
	}
}

/* The environment whose Python a script names: /x of /x/bin/python3. Cut off in place; NULL if it is none. */
static char *program_environment(char *program)
{
	char *slash = strrchr(program, '/');
	if (!slash || (strncmp(slash + 1, "python", 6) != 0 && strncmp(slash + 1, "pypy", 4) != 0))
		return NULL;
	*slash = '\0';
	char *bin = strrchr(program, '/');
	if (!bin || bin == program || strcmp(bin, "/bin") != 0)
		return NULL;
	*bin = '\0';
	return program;
}

static void read_script(struct look *l, int bin_fd, const char *name)
{
	char buf[HEAD_BYTES];
	struct stat st;
	if (fstatat(bin_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	_cleanup_fd_ int fd = place_open(bin_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	ssize_t n = fd < 0 ? -1 : pread(fd, buf, sizeof(buf), 0);
	_cleanup_free_ char *program = n > 0 ? moved_program(buf, (size_t)n) : NULL;
	char *path = program ? program_environment(program) : NULL;
	if (path && access(path, F_OK) < 0 && errno == ENOENT)
		add_path(l, path);
}

static void read_scripts(struct look *l)
{
	int fd = place_open(l->source->fd, "bin", O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		cleanup_fd(&fd);
		return;
	}
	struct dirent *e;
	for (size_t left = SCRIPTS_MAX; left > 0 && (e = readdir(dir)); left--)
		if (place_component(e->d_name))
			read_script(l, fd, e->d_name);
	closedir(dir);
}

static int look_at_paths(struct look *l, struct failure *f)
{
	struct diagnosis *d = l->ret;
	read_activate(l);
	bool moved = d->path_count > 0;
	read_scripts(l);
	if (d->path_count == 0)
		return 0;
	_cleanup_free_ char *danger = moving_danger(d->paths[0], l->path);
	if (danger) {
		finding_add(d->findings, FINDING_PATH, false, NULL, "files of it name '%s', where it was before, and cannot be mended "
		    "here: %s", d->paths[0], danger);
		return 0;
	}
	struct moving_question question = {
		.tree_fd = l->source->fd, .from = (const char *const *)d->paths, .from_count = d->path_count, .to = l->path,
		.from_name = moved ? strrchr(d->paths[0], '/') + 1 : NULL, .to_name = strrchr(l->path, '/') + 1,
	};
	if (moving_scan(&question, &d->moving, f) < 0)
		return -1;
	if (d->moving.count == 0)
		return 0;
	bool is_there = access(d->paths[0], F_OK) == 0;
	finding_add(d->findings, FINDING_PATH, true, NULL, "%zu of its files %s '%s', %s", d->moving.count,
	    d->moving.count == 1 ? "names" : "name", d->paths[0],
	    is_there ? "of which it is a copy: what they start runs there" : "where it was before: what they start is not there");
	return 0;
}

/* --- all of it --- */

static void read_home(struct look *l)
{
	_cleanup_text_ struct text text = { 0 };
	struct pyvenv cfg;
	if (place_read(l->source->fd, "pyvenv.cfg", LIMIT_CFG_BYTES, &text, NULL) < 0)
		return;
	pyvenv_parse(text.data ? text.data : "", text.len, &cfg);
	l->home = xstrdup(cfg.home);
	pyvenv_done(&cfg);
}

int diagnose(const struct source *source, const char *path, struct diagnosis *ret, struct failure *f)
{
	__attribute__((cleanup(look_done))) struct look l = { .source = source, .path = path, .ret = ret };
	ret->findings = json_array();
	l.inspection = inspect_elsewhere(source->parent_fd, source->base, source->name);
	read_home(&l);
	distinfo_sites(source->fd, site_cb, &l);
	look_at_interpreter(&l);
	if (look_at_paths(&l, f) < 0)
		return -1;
	installed_check(source->fd, source->name, ret->findings);
	if (faccessat(source->fd, REPAIR_ASIDE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		finding_add(ret->findings, FINDING_REMAINS, true, NULL, "'%s' is left over from an interrupted repair", REPAIR_ASIDE);
	return 0;
}

/* --- the order --- */

/* Which processes have files of them mapped: of those in the root, and each elsewhere. */
static struct mapped *look_for_users(json_t *all)
{
	char real[PATH_MAX];
	size_t i, count = 0;
	json_t *one;
	_cleanup_free_ char **directories = xcalloc(json_array_size(all) + 1, sizeof(*directories));
	if (place_real(WORKER_FD_ROOT, real) > 0)
		directories[count++] = xstrdup(real);
	json_array_foreach(all, i, one) {
		const char *location = json_string_value(json_object_get(json_object_get(one, "source"), "location"));
		if (location && realpath(location, real))
			directories[count++] = xstrdup(real);
	}
	struct mapped *users = mapped_look((const char *const *)directories, count);
	while (count > 0)
		free(directories[--count]);
	return users;
}

static void diagnose_one(const json_t *order, json_t *one, const struct mapped *users)
{
	const char *path;
	json_t *source_json;
	_cleanup_failure_ struct failure failure = { 0 };
	struct source source = SOURCE_NONE;
	_cleanup_diagnosis_ struct diagnosis d = { 0 };
	talk_unpack(one, "{s:s, s:o}", "path", &path, "source", &source_json);
	talk_absolute(path);
	json_t *mapped = NULL;
	char real[PATH_MAX];
	if (source_open(&source, source_json, &failure) == 0) {
		diagnose(&source, path, &d, &failure);
		if (d.findings && place_real(source.fd, real) > 0)
			mapped = mapped_tell(users, real, d.findings);
	}
	/* One that has gone meanwhile is nobody's patient. */
	if (failure.code != ERROR_NONE && failure.code != ERROR_NO_SUCH_ENVIRONMENT) {
		const char *reason = json_string_value(json_object_get(failure.parameters, "reason"));
		if (!d.findings)
			d.findings = json_array();
		finding_add(d.findings, FINDING_UNREADABLE, false, NULL, "it could not be looked at: %s",
		    reason ? reason : error_name(failure.code));
	}
	talk_frame(order, "diagnosis", json_pack("{sO?, sO?, so*}", "name", json_object_get(source_json, "name"), "findings",
	    d.findings, "mapped", mapped));
	source_done(&source);
}

int do_diagnose(json_t *order, json_t **ret, struct failure *f)
{
	json_t *all, *one;
	size_t i;
	(void)ret;
	talk_unpack(order, "{s:o}", "environments", &all);
	struct mapped *users = look_for_users(all);
	json_array_foreach(all, i, one) {
		if (talk_gone())
			break;
		diagnose_one(order, one, users);
	}
	mapped_free(users);
	return i < json_array_size(all) ? failure_gone(f) : 0;
}

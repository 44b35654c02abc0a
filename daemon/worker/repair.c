/* SPDX-License-Identifier: MIT */
/*
 * Mends what a diagnosis calls repairable, in place, under the environment's name and with everything that is installed:
 *
 *   path          the files that name another path name its own, as after a rename (moving.c)
 *   interpreter,  its links lead to a Python of the same implementation and minor version, as a creation would find it,
 *   version       and pyvenv.cfg says so
 *
 * New files are written to a directory in the tree and pushed to the disk; then each replaces the old one by a rename. So every file
 * is whole at any moment, and a repair that a crash interrupted is finished by the next one: nothing has to be remembered. What
 * a diagnosis knows it by is replaced last.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "diagnose.h"
#include "durable.h"
#include "finding.h"
#include "inspect.h"
#include "moving.h"
#include "orders.h"
#include "orders_do.h"
#include "place.h"
#include "pyvenv.h"
#include "remove.h"
#include "resolve.h"
#include "source.h"
#include "talk.h"

#define LINKS_MAX 64            /* of bin */
#define HOPS_MAX 8              /* of links in bin */

struct repair {
	json_t *order;
	const char *path;
	struct source source;
	int aside_fd;
};

/* --- files --- */

/* When its turn is. What a RECORD says of the others does not depend on whether they are there yet, and the next repair
 * would not know that it is due; in bin is what the path is known by that it had, first of all in activate, and that its Python
 * has gone. */
static int turn(const struct moving_file *file)
{
	const char *slash = strrchr(file->path, '/');
	if (strcmp(slash ? slash + 1 : file->path, "RECORD") == 0)
		return 0;
	if (strncmp(file->path, "bin/", 4) != 0)
		return 1;
	if (strcmp(file->path, "bin/activate") == 0 || strcmp(file->path, "bin/python") == 0)
		return 5;
	if (file->link)
		return strcmp(file->path, "bin/python3") == 0 ? 4 : 3;
	return file->content.len > 2 && memcmp(file->content.data, "#!", 2) == 0 ? 4 : 2;
}

static int by_turn(const void *a, const void *b)
{
	return turn(a) - turn(b);
}

static int make_aside(struct repair *r, struct failure *f)
{
	if (mkdirat(r->source.fd, REPAIR_ASIDE, 0700) < 0)
		return failure_errno(f, "cannot write into '%s'", r->source.name);
	r->aside_fd = place_open(r->source.fd, REPAIR_ASIDE, O_RDONLY | O_DIRECTORY);
	return r->aside_fd < 0 ? failure_errno(f, "cannot write into '%s'", r->source.name) : 0;
}

static void remove_aside(struct repair *r)
{
	_cleanup_removal_ struct removal removal = { .to_the_end = true };
	cleanup_fd(&r->aside_fd);
	r->aside_fd = -1;
	remove_entry(&removal, r->source.fd, REPAIR_ASIDE);
}

static int write_new(struct repair *r, const struct moving *moving, struct failure *f)
{
	_cleanup_durable_ struct durable durable = { 0 };
	char name[24];
	for (size_t i = 0; i < moving->count; i++) {
		int fd;
		snprintf(name, sizeof(name), "%zu", i);
		if (moving_make(&moving->files[i], r->aside_fd, name, &fd) < 0)
			return failure_errno(f, "cannot write '%s' of '%s'", moving->files[i].path, r->source.name);
		if (fd >= 0)
			durable_add(&durable, fd);
	}
	return durable_wait(&durable) < 0 || durable_names(r->aside_fd) < 0 ? failure_sync(f) : 0;
}

static int replace_old(struct repair *r, const struct moving *moving, struct failure *f)
{
	char new[24];
	for (size_t i = 0; i < moving->count; i++) {
		const struct moving_file *file = &moving->files[i];
		const char *name;
		struct stat st;
		_cleanup_fd_ int parent = place_parent(r->source.fd, file->path, &name);
		if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != file->ino ||
		    st.st_mtim.tv_sec != file->mtime.tv_sec || st.st_mtim.tv_nsec != file->mtime.tv_nsec)
			return failure_reason(f, ERROR_FAILED, "'%s' in it was changed by somebody meanwhile", file->path);
		snprintf(new, sizeof(new), "%zu", i);
		if (renameat(r->aside_fd, new, parent, name) < 0)
			return failure_errno(f, "cannot replace '%s' of '%s'", file->path, r->source.name);
	}
	return 0;
}

static int replace(struct repair *r, struct moving *moving, struct failure *f)
{
	if (moving->count == 0)
		return 0;
	qsort(moving->files, moving->count, sizeof(*moving->files), by_turn);
	if (make_aside(r, f) < 0)
		return -1;
	int result = write_new(r, moving, f) < 0 || replace_old(r, moving, f) < 0 ? -1 : 0;
	remove_aside(r);
	return result;
}

/* --- its Python --- */

static struct moving_file *add_file(struct moving *m, const char *path, const struct stat *st)
{
	m->files = xreallocarray(m->files, m->count + 1, sizeof(*m->files));
	struct moving_file *file = &m->files[m->count++];
	*file = (struct moving_file){ .path = xstrdup(path), .link = S_ISLNK(st->st_mode), .mode = st->st_mode & 07777,
		.ino = st->st_ino, .mtime = st->st_mtim };
	return file;
}

/* The version in "python3.11", "pypy3.9", "python" and the like; NULL: another program, as python3-config is. */
static const char *version_of(const char *name)
{
	const char *version = strncmp(name, "python", 6) == 0 ? name + 6 : strncmp(name, "pypy", 4) == 0 ? name + 4 : NULL;
	return version && version[strspn(version, "0123456789.")] == '\0' ? version : NULL;
}

/* The last name in bin on the way from "python" out of it. */
static void follow_python(int bin_fd, char ret[NAME_MAX + 1])
{
	char target[NAME_MAX + 1];
	memcpy(ret, "python", sizeof("python"));
	for (int hop = 0; hop < HOPS_MAX; hop++) {
		ssize_t n = readlinkat(bin_fd, ret, target, sizeof(target) - 1);
		if (n <= 0 || memchr(target, '/', (size_t)n))
			return;
		memcpy(ret, target, (size_t)n);
		ret[n] = '\0';
	}
}

/* Whether the link is one to the interpreter that is wanted: by its name, or because "python" leads through it. One to
 * another version was put there by somebody who meant that. */
static bool is_python(const char *name, const char *wanted, const char *last)
{
	const char *version = version_of(name);
	wanted += strncmp(wanted, "pypy", 4) == 0 ? 4 : 0;
	size_t len = version ? strlen(version) : 0;
	return strcmp(name, last) == 0 || (version && strncmp(wanted, version, len) == 0 &&
	    (len == 0 || wanted[len] == '.' || wanted[len] == '\0'));
}

/* Links of bin that lead out of it; those among themselves follow. */
static int add_links(struct repair *r, const char *wanted, const char *interpreter, struct moving *m, struct failure *f)
{
	char last[NAME_MAX + 1];
	int fd = place_open(r->source.fd, "bin", O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char target[PATH_MAX];
	struct dirent *e;
	struct stat st;
	if (!dir) {
		cleanup_fd(&fd);
		return failure_errno(f, "cannot read 'bin' of '%s'", r->source.name);
	}
	follow_python(fd, last);
	while (m->count < LINKS_MAX && (e = readdir(dir))) {
		if (!is_python(e->d_name, wanted, last) || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode))
			continue;
		ssize_t n = readlinkat(fd, e->d_name, target, sizeof(target) - 1);
		if (n <= 0 || target[0] != '/')
			continue;
		_cleanup_free_ char *path = xasprintf("bin/%s", e->d_name);
		text_adds(&add_file(m, path, &st)->content, interpreter);
	}
	closedir(dir);
	return 0;
}

/* virtualenv's version_info is "3.11.2.final.0". */
static char *version_info(const struct text *cfg, const struct interpreter *i)
{
	bool is_long = cfg->data && strstr(cfg->data, ".final.");
	return xasprintf("%d.%d.%d%s", i->numbers[0], i->numbers[1], i->numbers[2], is_long ? ".final.0" : "");
}

static void add_cfg(struct repair *r, const struct interpreter *i, struct moving *m)
{
	_cleanup_text_ struct text cfg = { 0 }, new = { 0 };
	struct stat st;
	if (place_read(r->source.fd, "pyvenv.cfg", LIMIT_CFG_BYTES, &cfg, &st) < 0 || cfg.len == 0)
		return;
	_cleanup_free_ char *home = xstrndup(i->path, (size_t)(strrchr(i->path, '/') - i->path));
	_cleanup_free_ char *real = xrealpath(i->path);
	_cleanup_free_ char *info = version_info(&cfg, i);
	const char *prefix = json_string_value(json_object_get(i->facts, "basePrefix"));
	const struct pyvenv_value values[] = {
		{ "home", *home ? home : "/" }, { "executable", real }, { "base-executable", real }, { "version", i->version },
		{ "version_info", info }, { "base-prefix", prefix }, { "base-exec-prefix", prefix },
	};
	if (!pyvenv_change(cfg.data, cfg.len, values, ARRAY_LENGTH(values), &new))
		return;
	add_file(m, "pyvenv.cfg", &st)->content = new;
	new = (struct text){ 0 };
}

static int find_python(struct repair *r, const char *wanted, struct interpreter *ret, struct failure *f)
{
	struct caller caller;
	json_t *caller_value = NULL, *search = NULL;
	json_auto_t *warnings = json_array(), *specs = json_pack("[s]", wanted);
	struct resolution resolution = { .caller = &caller, .warnings = warnings, .specs = specs };
	talk_unpack(r->order, "{s?o, s?o, s:i}", "caller", &caller_value, "search", &search, "probeMs", &resolution.probe_ms);
	talk_positive(resolution.probe_ms);
	caller_init(&caller, caller_value);
	_cleanup_free_ const char **dirs = resolve_search(search, &resolution.managed_first);
	resolution.dirs = dirs;
	return resolve(&resolution, ret, f);
}

static int mend_python(struct repair *r, const char *wanted, struct failure *f)
{
	_cleanup_interpreter_ struct interpreter interpreter = { 0 };
	_cleanup_moving_ struct moving moving = { 0 };
	if (find_python(r, wanted, &interpreter, f) < 0) {
		/* It is not here: that stays to be told, and is no failure of this order. */
		if (failure_is_gone(f))
			return -1;
		failure_done(f);
		return 0;
	}
	if (add_links(r, wanted, interpreter.path, &moving, f) < 0)
		return -1;
	if (moving.count == 0)
		return 0;               /* a copy of the old one */
	add_cfg(r, &interpreter, &moving);
	return replace(r, &moving, f);
}

/* --- the order --- */

/* Those of the first that are not in the second any more. */
static json_t *mended(const json_t *before, const json_t *after)
{
	json_t *all = json_array(), *one, *other;
	size_t i, k;
	json_array_foreach(before, i, one) {
		bool is_there = !json_is_true(json_object_get(one, "repairable"));
		json_array_foreach(after, k, other)
			is_there = is_there || json_equal(json_object_get(one, "kind"), json_object_get(other, "kind"));
		if (!is_there)
			json_array_append(all, one);
	}
	return all;
}

static int mend(struct repair *r, json_t **ret, struct failure *f)
{
	_cleanup_diagnosis_ struct diagnosis before = { 0 }, after = { 0 };
	if (diagnose(&r->source, r->path, &before, f) < 0)
		return -1;
	remove_aside(r);                /* of one that was interrupted */
	talk_progress(r->order, "repair");
	if (replace(r, &before.moving, f) < 0 || (before.wanted && mend_python(r, before.wanted, f) < 0))
		return -1;
	talk_progress(r->order, "sync");
	if (syncfs(r->source.fd) < 0)
		return failure_sync(f);
	if (diagnose(&r->source, r->path, &after, f) < 0)
		return -1;
	*ret = json_pack("{so, so, sO}", "environment",
	    inspect_elsewhere(r->source.parent_fd, r->source.base, r->source.name), "repaired",
	    mended(before.findings, after.findings), "remaining", after.findings);
	return 0;
}

int do_repair(json_t *order, json_t **ret, struct failure *f)
{
	struct repair r = { .order = order, .source = SOURCE_NONE, .aside_fd = -1 };
	json_t *source;
	talk_unpack(order, "{s:s, s:o}", "path", &r.path, "source", &source);
	talk_absolute(r.path);
	int result = source_open(&r.source, source, f) < 0 ? -1 : mend(&r, ret, f);
	source_done(&r.source);
	return result;
}

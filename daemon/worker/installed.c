/* SPDX-License-Identifier: MIT */
/*
 * Each *.dist-info/RECORD of each site-packages is read, and each row with a hash is looked up: by a stat, for whether the
 * file is there and as long as it was. Contents are not read; compiled modules come and go, and count for nothing.
 *
 * Whoever filled the tree is not trusted: rows that lead out of it are passed over, no link is followed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "distinfo.h"
#include "finding.h"
#include "installed.h"
#include "moving.h"
#include "place.h"
#include "record.h"

#define DIST_INFO ".dist-info"

struct check {
	int env_fd;
	const char *name;
	json_t *findings;
	const char *site;       /* relative path of what rows are relative to */
	bool has_pip;           /* in it */
	char *parent;           /* the directory of the row before, ... */
	int parent_fd;          /* ... which most rows share */
};

struct package {
	char *name, *version;   /* as its directory is called */
	size_t files, missing, changed;
	char *example;          /* the first that is not as it was */
};

static bool ends_in(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);
	return len > n && strcmp(s + len - n, suffix) == 0;
}

/* -1 with errno. */
static int look_at(struct check *c, const char *path, struct stat *st)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	if (!c->parent || strlen(c->parent) != len || memcmp(c->parent, path, len) != 0) {
		const char *name;
		free(c->parent);
		cleanup_fd(&c->parent_fd);
		c->parent = xstrndup(path, len);
		c->parent_fd = place_parent(c->env_fd, path, &name);
		if (c->parent_fd < 0) {
			free(c->parent);
			c->parent = NULL;
			return -1;
		}
	}
	return fstatat(c->parent_fd, slash ? slash + 1 : path, st, AT_SYMLINK_NOFOLLOW);
}

static void check_row(struct check *c, struct package *package, const char *line, const char *end)
{
	const char *p = line;
	struct stat st;
	_cleanup_free_ char *row = record_field(&p, end);
	if (p == end || p + 1 == end || p[1] == ',' || ends_in(row, ".pyc"))
		return;                 /* without a hash it promises nothing */
	const char *comma = memchr(p + 1, ',', (size_t)(end - p - 1));
	_cleanup_free_ char *path = record_path(c->site, row);
	if (!path || !comma)
		return;
	_cleanup_free_ char *digits = xstrndup(comma + 1, (size_t)(end - comma - 1));
	char *rest;
	long long size = strtoll(digits, &rest, 10);
	bool has_size = rest != digits && *rest == '\0';
	package->files++;
	if (look_at(c, path, &st) < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			return;
		package->missing++;
	} else if (has_size && S_ISREG(st.st_mode) && st.st_size != size) {
		package->changed++;
	} else {
		return;
	}
	if (!package->example)
		package->example = xstrdup(path);
}

/* "requests-2.31.0.dist-info"; false for what no index would have. */
static bool read_name(const char *entry, struct package *ret)
{
	const char *dash = strchr(entry, '-'), *end = entry + strlen(entry) - strlen(DIST_INFO);
	if (!dash || dash >= end)
		return false;
	ret->name = xstrndup(entry, (size_t)(dash - entry));
	ret->version = xstrndup(dash + 1, (size_t)(end - dash - 1));
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+!";
	return ret->name[0] != '\0' && ret->version[0] != '\0' && ret->name[strspn(ret->name, good)] == '\0' &&
	    ret->version[strspn(ret->version, good)] == '\0';
}

static void tell(const struct check *c, const struct package *p, bool named)
{
	/* Of an epoch, as in 1!2.0, a shell that is typed into would make a line from before. */
	const char *quote = named && (strchr(p->name, '!') || strchr(p->version, '!')) ? "'" : "";
	_cleanup_free_ char *command = NULL;
	if (named && strcmp(p->name, "pip") == 0)
		command = xasprintf("venvctl recreate %s", c->name);
	else if (named && c->has_pip)
		command = xasprintf("venvctl run %s -- python -m pip install --force-reinstall --no-deps %s%s==%s%s", c->name,
		    quote, p->name, p->version, quote);
	_cleanup_free_ char *also = p->missing && p->changed ? xasprintf(", and %zu changed", p->changed) : NULL;
	finding_add(c->findings, FINDING_FILES, false, command, "%zu of the %zu files of '%s' %s %s%s (%s%s)",
	    p->missing ? p->missing : p->changed, p->files, p->name,
	    (p->missing ? p->missing : p->changed) == 1 ? "is" : "are",
	    p->missing ? "missing" : "not as long as when it was installed", also ? also : "", p->example,
	    p->missing + p->changed > 1 ? ", ..." : "");
}

static void check_record(struct check *c, int site_fd, const char *entry)
{
	_cleanup_fd_ int fd = place_open(site_fd, entry, O_RDONLY | O_DIRECTORY);
	_cleanup_text_ struct text text = { 0 };
	struct package package = { 0 };
	if (fd < 0 || place_read(fd, "RECORD", LIMIT_MOVED_RECORD, &text, NULL) < 0 || text.len == 0)
		return;
	bool named = read_name(entry, &package);
	if (!package.name)
		package.name = xstrdup(entry);
	const char *p = text.data, *end = text.data + text.len;
	for (const char *line, *line_end; record_line(&p, end, &line, &line_end);)
		check_row(c, &package, line, line_end);
	if (package.missing + package.changed > 0)
		tell(c, &package, named);
	free(package.name);
	free(package.version);
	free(package.example);
}

static void check_site(void *arg, int site_fd, const char *path)
{
	struct check *c = arg;
	size_t remains = 0;
	_cleanup_free_ char *example = NULL;
	DIR *dir = fdopendir(site_fd);
	if (!dir) {
		close(site_fd);
		return;
	}
	c->site = path;
	c->has_pip = faccessat(site_fd, "pip", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	struct dirent *e;
	for (size_t left = LIMIT_MOVED_ENTRIES; left > 0 && (e = readdir(dir)); left--) {
		if (!place_component(e->d_name))
			continue;
		if (e->d_name[0] == '~') {
			/* pip renames so what it is about to replace. */
			remains++;
			if (!example)
				example = xstrdup(e->d_name);
		} else if (ends_in(e->d_name, DIST_INFO)) {
			check_record(c, site_fd, e->d_name);
		}
	}
	closedir(dir);
	if (remains > 0)
		finding_add(c->findings, FINDING_REMAINS, false, NULL,
		    "%zu %s left over from an interrupted pip, and can be removed: '%s/%s'%s", remains,
		    remains == 1 ? "entry is" : "entries are", path, example, remains > 1 ? ", ..." : "");
}

void installed_check(int env_fd, const char *name, json_t *findings)
{
	struct check c = { .env_fd = env_fd, .name = name, .findings = findings, .parent_fd = -1 };
	distinfo_sites(env_fd, check_site, &c);
	free(c.parent);
	cleanup_fd(&c.parent_fd);
}

/* SPDX-License-Identifier: MIT */
/*
 * Looked at are: pyvenv.cfg and all of bin; the metadata of what is installed, .pth files, .egg-links and finders of
 * editable installs at the top of each site-packages; every text below lib, share, etc and the rest that is not a module
 * of Python; all links on the way. Not looked at is what is inside packages: in none of 9,869 files was
 * there a path (facts: venv-layout 6.1).
 *
 * What was rewritten gets its new hash and size in the RECORD that lists it. Compiled modules need nothing: the import
 * system corrects the path in them, and those of a rewritten finder are out of date by its time.
 *
 * Whoever filled the tree is not trusted: by descriptor, without following links, with a bound on everything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "bounds.h"
#include "model.h"
#include "moved.h"
#include "moving.h"
#include "place.h"
#include "pytext.h"
#include "pyvenv.h"
#include "record.h"

#define DEPTH_MAX 64
#define PYVENV_CFG "pyvenv.cfg"

struct scan {
	const struct moving_question *q;
	struct moved *moved;
	struct moving *found;
	char **sites;           /* paths of the site-packages that were met */
	size_t site_count;
	struct failure *f;
};

void moving_done(struct moving *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->files[i].path);
		text_done(&m->files[i].content);
	}
	free(m->files);
	*m = (struct moving){ 0 };
}

static int too_much(struct scan *s, const char *what)
{
	return failure_reason(s->f, ERROR_UNSUPPORTED, "it is too large to be moved: %s", what);
}

/* Takes content. */
static int keep(struct scan *s, const char *path, const struct stat *st, struct text *content)
{
	struct moving *m = s->found;
	m->bytes += content->len;
	if (m->count == m->size) {
		m->size = m->size ? 2 * m->size : 64;
		m->files = xreallocarray(m->files, m->size, sizeof(*m->files));
	}
	m->files[m->count++] = (struct moving_file){ .path = xstrdup(path), .link = S_ISLNK(st->st_mode),
		.mode = st->st_mode & 07777, .content = *content, .ino = st->st_ino, .mtime = st->st_mtim };
	*content = (struct text){ 0 };
	return m->count > LIMIT_MOVED_FILES || m->bytes > LIMIT_MOVED_BYTES ?
	    too_much(s, "too many files hold its path") : 0;
}

/* --- one file --- */

typedef bool rewrite_fn(const struct moved *, const char *text, size_t len, struct text *out);

static bool ends_in(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);
	return len >= n && strcmp(s + len - n, suffix) == 0;
}

static bool begins_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int look_at_link(struct scan *s, int dir_fd, const char *name, const char *path, const struct stat *st)
{
	char target[PATH_MAX];
	_cleanup_text_ struct text new = { 0 };
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
	if (n < 0)
		return 0;
	target[n] = '\0';
	return moved_link(s->moved, target, &new) ? keep(s, path, st, &new) : 0;
}

/* Modules of Python, what compilers write and large files are passed over; so is what has a NUL in it. */
static bool is_text(const char *name, const struct stat *st)
{
	static const char *const others[] = { ".py", ".pyc", ".pyo", ".so", ".a", ".o", ".h", ".png", ".whl" };
	if (st->st_size == 0 || st->st_size > LIMIT_MOVED_TEXT)
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(others); i++)
		if (ends_in(name, others[i]))
			return false;
	return true;
}

static int look_at_file(struct scan *s, int dir_fd, const char *name, const char *path, rewrite_fn *rewrite)
{
	_cleanup_text_ struct text text = { 0 }, new = { 0 };
	struct stat st;
	if (place_read(dir_fd, name, LIMIT_MOVED_TEXT, &text, &st) < 0) {
		if (errno == EFBIG || errno == ENOENT || errno == EINVAL)
			return 0;
		return failure_errno(s->f, "cannot read '%s' of the environment", path);
	}
	if (text.len == 0 || memchr(text.data, '\0', text.len) || !rewrite(s->moved, text.data, text.len, &new))
		return 0;
	return keep(s, path, &st, &new);
}

/* --- directories --- */

enum kind { KIND_TOP, KIND_BIN, KIND_ANY, KIND_SITE, KIND_METADATA };

static bool is_metadata(const char *name)
{
	return ends_in(name, ".dist-info") || ends_in(name, ".egg-info");
}

static bool is_site(const char *name)
{
	return strcmp(name, "site-packages") == 0 || strcmp(name, "dist-packages") == 0;
}

static rewrite_fn *rewriter(enum kind kind, const char *name, const struct stat *st)
{
	bool is_pth = ends_in(name, ".pth") || ends_in(name, ".egg-link");
	if (kind == KIND_TOP && strcmp(name, PYVENV_CFG) == 0)
		return moved_cfg;
	if (kind == KIND_SITE)
		return is_pth || (begins_with(name, "__editable__") && ends_in(name, ".py")) ? moved_text : NULL;
	if (kind == KIND_METADATA)
		return strcmp(name, "RECORD") != 0 && is_text(name, st) ? moved_text : NULL;
	/* virtualenv's and uv's activate_this.py has no prompt in it, but words in parentheses. */
	if (kind == KIND_BIN && begins_with(name, "activate") && !ends_in(name, ".py"))
		return moved_activate;
	if (kind == KIND_BIN && st->st_size > 0 && st->st_size <= LIMIT_MOVED_TEXT)
		return moved_script;
	return is_text(name, st) ? moved_text : NULL;
}

static enum kind kind_below(enum kind kind, const char *name)
{
	if (kind == KIND_TOP && strcmp(name, "bin") == 0)
		return KIND_BIN;
	if (kind == KIND_SITE)
		return is_metadata(name) ? KIND_METADATA : KIND_SITE;
	return kind == KIND_METADATA ? KIND_METADATA : is_site(name) ? KIND_SITE : KIND_ANY;
}

static int look_into(struct scan *s, int dir_fd, const char *path, enum kind kind, int depth);

static int look_at(struct scan *s, int dir_fd, const char *name, const char *above, enum kind kind, int depth)
{
	_cleanup_free_ char *path = *above ? xasprintf("%s/%s", above, name) : xstrdup(name);
	struct stat st;
	if (++s->found->looked_at > LIMIT_MOVED_ENTRIES)
		return too_much(s, "it has too many files outside of packages");
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISLNK(st.st_mode))
		return look_at_link(s, dir_fd, name, path, &st);
	if (S_ISDIR(st.st_mode)) {
		if (strcmp(name, "__pycache__") == 0 || (kind == KIND_SITE && !is_metadata(name)) ||
		    (kind == KIND_TOP && strcmp(name, REPAIR_ASIDE) == 0))
			return 0;
		int fd = place_open(dir_fd, name, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			return errno == EXDEV ? failure_reason(s->f, ERROR_UNSUPPORTED, "something is mounted on '%s' in it", path) :
			    failure_errno(s->f, "cannot read '%s' of the environment", path);
		return look_into(s, fd, path, kind_below(kind, name), depth + 1);
	}
	rewrite_fn *rewrite = S_ISREG(st.st_mode) ? rewriter(kind, name, &st) : NULL;
	return rewrite ? look_at_file(s, dir_fd, name, path, rewrite) : 0;
}

/* Takes dir_fd. */
static int look_into(struct scan *s, int dir_fd, const char *path, enum kind kind, int depth)
{
	DIR *dir = depth > DEPTH_MAX ? NULL : fdopendir(dir_fd);
	struct dirent *d;
	int r = 0;
	if (!dir) {
		close(dir_fd);
		return too_much(s, "its directories are too deep");
	}
	if (kind == KIND_SITE) {
		s->sites = xreallocarray(s->sites, s->site_count + 1, sizeof(*s->sites));
		s->sites[s->site_count++] = xstrdup(path);
	}
	while (r == 0 && (d = place_next(dir, &r)))
		if (place_component(d->d_name))
			r = look_at(s, dir_fd, d->d_name, path, kind, depth);
	if (r < 0 && s->f->code == ERROR_NONE)
		failure_errno(s->f, "cannot read '%s' of the environment", *path ? path : ".");
	closedir(dir);
	return r;
}

/* --- RECORD --- */

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct moving_file *)a)->path, ((const struct moving_file *)b)->path);
}

struct rows {
	const struct moving *found;
	size_t count;           /* of files that were there before any RECORD was */
	const char *site;       /* relative path of what rows are relative to */
};

static bool row_of(void *arg, const char *row, unsigned char ret_digest[SHA256_DIGEST_LENGTH], size_t *ret_size)
{
	const struct rows *rows = arg;
	_cleanup_free_ char *path = record_path(rows->site, row);
	struct moving_file key = { .path = path };
	const struct moving_file *file = path && rows->count > 0 ?
	    bsearch(&key, rows->found->files, rows->count, sizeof(key), by_path) : NULL;
	if (!file || file->link)
		return false;
	SHA256_CTX hash;
	SHA256Init(&hash);
	SHA256Update(&hash, (const uint8_t *)file->content.data, file->content.len);
	SHA256Final(ret_digest, &hash);
	*ret_size = file->content.len;
	return true;
}

static int look_at_record(struct scan *s, int site_fd, const char *site, const char *name, size_t count)
{
	_cleanup_free_ char *path = xasprintf("%s/%s/RECORD", site, name);
	_cleanup_fd_ int fd = place_open(site_fd, name, O_RDONLY | O_DIRECTORY);
	_cleanup_text_ struct text text = { 0 }, new = { 0 };
	struct rows rows = { s->found, count, site };
	struct stat st;
	if (fd < 0 || place_read(fd, "RECORD", LIMIT_MOVED_RECORD, &text, &st) < 0) {
		if (fd >= 0 && errno == EFBIG)
			return too_much(s, "a RECORD of it lists too much");
		return fd < 0 || errno == ENOENT || errno == EINVAL ? 0 :
		    failure_errno(s->f, "cannot read '%s' of the environment", path);
	}
	if (text.len == 0 || !moved_record(s->moved, text.data, text.len, row_of, &rows, &new))
		return 0;
	return keep(s, path, &st, &new);
}

static int look_at_records(struct scan *s, const char *site, size_t count)
{
	const char *name;
	_cleanup_fd_ int parent = place_parent(s->q->tree_fd, site, &name);
	int fd = parent < 0 ? -1 : place_open(parent, name, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r = 0;
	if (!dir) {
		cleanup_fd(&fd);
		return failure_errno(s->f, "cannot read '%s' of the environment", site);
	}
	while (r == 0 && (d = place_next(dir, &r)))
		if (ends_in(d->d_name, ".dist-info"))
			r = look_at_record(s, fd, site, d->d_name, count);
	if (r < 0 && s->f->code == ERROR_NONE)
		failure_errno(s->f, "cannot read '%s' of the environment", site);
	closedir(dir);
	return r;
}

/* --- all of it --- */

/* Prompts stand in no quotes where their names need none. */
static bool needs_quotes(const char *name)
{
	_cleanup_text_ struct text quoted = { 0 };
	pytext_quote_shell(&quoted, name);
	return strcmp(quoted.data, name) != 0;
}

/* A prompt that was asked for stays, whatever it says. What uv writes into pyvenv.cfg without being asked is the name. */
static bool prompt_is_its_name(int tree_fd, const char *name)
{
	_cleanup_text_ struct text text = { 0 };
	struct pyvenv cfg;
	if (place_read(tree_fd, PYVENV_CFG, LIMIT_CFG_BYTES, &text, NULL) < 0)
		return true;
	pyvenv_parse(text.data ? text.data : "", text.len, &cfg);
	bool is = !cfg.prompt || (strcmp(cfg.creator, "uv") == 0 && strcmp(cfg.prompt, name) == 0);
	pyvenv_done(&cfg);
	return is;
}

char *moving_danger(const char *from, const char *to)
{
	_cleanup_free_ char *before = model_danger(from, "", NULL, true);
	return before ? NULL : model_danger(to, "", NULL, true);
}

int moving_scan(const struct moving_question *q, struct moving *ret, struct failure *f)
{
	bool names = q->from_name && !needs_quotes(q->to_name) && prompt_is_its_name(q->tree_fd, q->from_name);
	struct scan s = { .q = q, .found = ret, .f = f };
	_cleanup_free_ char *danger = moving_danger(q->from[0], q->to);
	if (danger)
		return failure_reason(f, ERROR_UNSUPPORTED, "%s", danger);
	int fd = openat(q->tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failure_errno(f, "cannot read the environment");
	s.moved = moved_new(q->from, q->from_count, q->to, names ? q->from_name : NULL, q->to_name);
	int r = look_into(&s, fd, "", KIND_TOP, 0);
	if (ret->count > 0)
		qsort(ret->files, ret->count, sizeof(*ret->files), by_path);
	size_t count = ret->count;
	for (size_t i = 0; r == 0 && i < s.site_count; i++)
		r = look_at_records(&s, s.sites[i], count);
	for (size_t i = 0; i < s.site_count; i++)
		free(s.sites[i]);
	free(s.sites);
	moved_free(s.moved);
	return r;
}

/* --- afterwards --- */

int moving_make(const struct moving_file *file, int dir_fd, const char *name, int *ret_fd)
{
	*ret_fd = -1;
	if (file->link)
		return symlinkat(file->content.data, dir_fd, name);
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (fd_write_all(fd, file->content.data, file->content.len) < 0 || fchmod(fd, file->mode) < 0) {
		int err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	*ret_fd = fd;
	return 0;
}

int moving_apply(const struct moving *m, int tree_fd, struct failure *f)
{
	for (size_t i = 0; i < m->count; i++) {
		const char *name;
		_cleanup_fd_ int parent = place_parent(tree_fd, m->files[i].path, &name);
		_cleanup_fd_ int fd = -1;
		if (parent < 0 || unlinkat(parent, name, 0) < 0 || moving_make(&m->files[i], parent, name, &fd) < 0)
			return failure_errno(f, "cannot write '%s' of the copy", m->files[i].path);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * One installation of a Python as files: what an image's key is made of, and the texts that a model
 * is made of. Reads, never writes, and starts nothing. Asked at every claim, so it costs some
 * twenty stats: the names in a directory are remembered with the directory's own times, and are
 * listed again when those change.
 *
 * No st_dev goes into a digest: it is another one after a restart on some file systems.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sha256.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "installation.h"

#define FORM "venvd image 1"            /* of images: another one makes all of them anew */
#define LISTINGS 128                    /* remembered; the next one takes the oldest one's place */
#define NAMES_MAX 4096                  /* in one directory */
#define SETTLED_US 2000000              /* a directory that changed within it may change unseen */
#define TEMPLATE_MAX (1024 * 1024)
#define TEMPLATE_LEVELS 4

/* --- the names in a directory --- */

struct listing {
	char *path;
	struct stat st;
	bool settled;           /* it had not just been changed when it was read */
	char **names;           /* in order */
	size_t count;
};

static struct listing listings[LISTINGS];
static size_t next_listing;

static void listing_clear(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->names[i]);
	free(l->names);
	free(l->path);
	*l = (struct listing){ 0 };
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_fresh(const struct listing *l, const struct stat *st)
{
	return l->settled && l->st.st_ino == st->st_ino && l->st.st_dev == st->st_dev &&
	    same_time(l->st.st_mtim, st->st_mtim) && same_time(l->st.st_ctim, st->st_ctim);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool wanted(const char *name, const char *prefix, const char *suffix)
{
	size_t len = strlen(name), n = strlen(suffix);
	return name[0] != '.' && strncmp(name, prefix, strlen(prefix)) == 0 && len >= n &&
	    strcmp(name + len - n, suffix) == 0;
}

/* The names that begin and end so; NULL if the directory cannot be read. */
static const struct listing *list(const char *path, const char *prefix, const char *suffix)
{
	struct listing *l = NULL;
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return NULL;
	for (size_t i = 0; !l && i < LISTINGS; i++)
		if (listings[i].path && strcmp(listings[i].path, path) == 0)
			l = &listings[i];
	if (l && is_fresh(l, &st))
		return l;
	if (!l)
		l = &listings[next_listing++ % LISTINGS];
	listing_clear(l);
	DIR *dir = opendir(path);
	if (!dir)
		return NULL;
	l->path = xstrdup(path);
	l->st = st;
	l->settled = now_us() - (st.st_mtim.tv_sec * 1000000LL + st.st_mtim.tv_nsec / 1000) > SETTLED_US;
	for (struct dirent *e; l->count < NAMES_MAX && (e = readdir(dir));)
		if (wanted(e->d_name, prefix, suffix)) {
			l->names = xreallocarray(l->names, l->count + 1, sizeof(*l->names));
			l->names[l->count++] = xstrdup(e->d_name);
		}
	closedir(dir);
	if (l->count)
		qsort(l->names, l->count, sizeof(*l->names), by_name);
	return l;
}

/* --- the digest --- */

/* One file as it is; one that is not there is told from one that is. */
static bool add_file(SHA2_CTX *context, const char *path)
{
	struct stat st;
	int64_t words[6] = { 0 };
	bool there = stat(path, &st) == 0;
	if (there) {
		words[0] = st.st_ino;
		words[1] = st.st_size;
		words[2] = st.st_mtim.tv_sec;
		words[3] = st.st_mtim.tv_nsec;
		words[4] = st.st_ctim.tv_sec;
		words[5] = st.st_ctim.tv_nsec;
	}
	SHA256Update(context, (const uint8_t *)path, strlen(path) + 1);
	SHA256Update(context, (const uint8_t *)words, sizeof(words));
	return there;
}

static bool add_below(SHA2_CTX *context, const char *stdlib, const char *name)
{
	char path[4200];
	return snprintf(path, sizeof(path), "%s/%s", stdlib, name) < (int)sizeof(path) &&
	    add_file(context, path);
}

static bool add_directory(SHA2_CTX *context, const char *path, const char *prefix, const char *suffix)
{
	const struct listing *l = list(path, prefix, suffix);
	for (size_t i = 0; l && i < l->count; i++)
		add_below(context, path, l->names[i]);
	return l;
}

static bool add_directory_below(SHA2_CTX *context, const char *stdlib, const char *name,
    const char *prefix, const char *suffix)
{
	char path[4200];
	return snprintf(path, sizeof(path), "%s/%s", stdlib, name) < (int)sizeof(path) &&
	    add_directory(context, path, prefix, suffix);
}

static const char *fact(const struct interpreter *i, const char *key)
{
	return json_string_value(json_object_get(i->facts, key));
}

bool installation_digest(const struct interpreter *i, bool with_pip, char ret[17])
{
	const char *stdlib = fact(i, "stdlib"), *base = fact(i, "baseExecutable");
	const char *wheels = fact(i, "wheelDir");
	SHA2_CTX context;
	uint8_t digest[SHA256_DIGEST_LENGTH];
	if (!stdlib || stdlib[0] != '/')
		return false;
	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)FORM, sizeof(FORM));
	/* By what it is and not by how it is spelled: all spellings share one image. */
	struct stat st;
	if (stat(base ? base : i->executable, &st) < 0)
		return false;
	int64_t words[4] = { st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_ctim.tv_sec };
	SHA256Update(&context, (const uint8_t *)words, sizeof(words));
	if (!add_below(&context, stdlib, "venv/__init__.py") ||
	    !add_directory_below(&context, stdlib, "venv/scripts/common", "", ""))
		return false;
	add_below(&context, stdlib, "venv/__main__.py");
	add_directory_below(&context, stdlib, "venv/scripts/posix", "", "");
	add_below(&context, stdlib, "sysconfig.py");
	add_below(&context, stdlib, "sysconfig/__init__.py");
	add_directory(&context, stdlib, "_sysconfigdata", ".py");
	if (with_pip) {
		add_below(&context, stdlib, "ensurepip/__init__.py");
		add_directory_below(&context, stdlib, "ensurepip/_bundled", "", ".whl");
		if (wheels && wheels[0] == '/')
			add_directory(&context, wheels, "", ".whl");
	}
	SHA256Final(digest, &context);
	for (int n = 0; n < 8; n++)
		snprintf(ret + 2 * n, 3, "%02x", digest[n]);
	return true;
}

/* --- the texts --- */

int installation_venv_text(const struct interpreter *i, struct text *ret)
{
	const char *stdlib = fact(i, "stdlib");
	_cleanup_free_ char *path = xasprintf("%s/venv/__init__.py", stdlib ? stdlib : "");
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -1 : fd_read_all(fd, TEMPLATE_MAX, ret);
}

struct templates {
	int (*take)(void *data, const char *name, const struct text *content, mode_t mode);
	void *data;
};

static int take_directory(const struct templates *, const char *path, const char *inside, int levels);

static int take_entry(const struct templates *t, const char *path, const char *name, int levels)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return -1;
	if (S_ISDIR(st.st_mode))
		return take_directory(t, path, name, levels - 1);
	_cleanup_text_ struct text content = { 0 };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, TEMPLATE_MAX, &content) < 0)
		return -1;
	text_adds(&content, "");
	return t->take(t->data, name, &content, st.st_mode & 07777);
}

/* Its names are copied: what is remembered may give way to a directory below. */
static int take_directory(const struct templates *t, const char *path, const char *inside, int levels)
{
	const struct listing *l = levels > 0 ? list(path, "", "") : NULL;
	size_t count = l ? l->count : 0;
	char **names = xcalloc(count, sizeof(*names));
	int r = l ? 0 : -1;
	for (size_t i = 0; i < count; i++)
		names[i] = xstrdup(l->names[i]);
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *below = xasprintf("%s/%s", path, names[i]);
		_cleanup_free_ char *name = xasprintf("%s%s%s", inside, *inside ? "/" : "", names[i]);
		if (r == 0)
			r = take_entry(t, below, name, levels);
		free(names[i]);
	}
	free(names);
	return r;
}

int installation_templates(const struct interpreter *i,
    int (*take)(void *data, const char *name, const struct text *content, mode_t mode), void *data)
{
	const struct templates t = { .take = take, .data = data };
	const char *stdlib = fact(i, "stdlib");
	static const char *const kinds[] = { "common", "posix" };
	for (size_t n = 0; n < ARRAY_LENGTH(kinds); n++) {
		_cleanup_free_ char *path = xasprintf("%s/venv/scripts/%s", stdlib ? stdlib : "", kinds[n]);
		struct stat st;
		int r = stat(path, &st) < 0 && errno == ENOENT ? 0 :
		    take_directory(&t, path, "", TEMPLATE_LEVELS);
		if (r != 0)
			return r;
	}
	return 0;
}

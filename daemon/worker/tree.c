/* SPDX-License-Identifier: MIT */
/*
 * Reading a whole tree into memory: names, kinds, digests. The tree is one that was made a moment
 * ago in our stage by an interpreter, so it is read by descriptor and never through a link all the
 * same, and its size is bounded. Changes nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "place.h"
#include "talk.h"
#include "tree.h"

#define FILE_MAX (64 * 1024 * 1024)
#define LEVELS_MAX 64

struct reading {
	int root_fd;
	const char *text;
	struct tree *tree;
	size_t size;            /* of tree->entries, allocated */
	struct text content;    /* of one file at a time */
	char **ret_odd;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, in order; NULL with errno. */
static char **names_of(int dir_fd, const char *path, size_t *ret_count)
{
	int fd = openat(dir_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char **names = NULL;
	if (!dir) {
		cleanup_fd(&fd);
		return NULL;
	}
	size_t count = 0, size = 0;
	int r = 0;
	for (struct dirent *e; count <= LIMIT_IMAGE_FILES && (e = place_next(dir, &r));) {
		if (!place_component(e->d_name))
			continue;
		if (count == size) {
			size = size ? 2 * size : 16;
			names = xreallocarray(names, size, sizeof(*names));
		}
		names[count++] = xstrdup(e->d_name);
	}
	closedir(dir);
	if (count)
		qsort(names, count, sizeof(*names), by_name);
	*ret_count = count;
	return names ? names : xcalloc(1, sizeof(*names));
}

static void digest(const struct text *content, unsigned char ret[SHA256_DIGEST_LENGTH])
{
	SHA2_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)content->data, content->len);
	SHA256Final(ret, &context);
}

static int odd(struct reading *r, const char *path)
{
	*r->ret_odd = xstrdup(path);
	errno = EINVAL;
	return -1;
}

static int read_file(struct reading *r, struct tree_entry *e)
{
	text_clear(&r->content);
	if (e->st.st_size > FILE_MAX)
		return odd(r, e->path);
	if (place_read(r->root_fd, e->path, FILE_MAX, &r->content, NULL) < 0)
		return -1;
	text_adds(&r->content, "");
	digest(&r->content, e->digest);
	e->holds = memmem(r->content.data, r->content.len, r->text, strlen(r->text));
	return 0;
}

static int read_link(struct reading *r, struct tree_entry *e)
{
	char target[4096];
	ssize_t n = readlinkat(r->root_fd, e->path, target, sizeof(target));
	if (n < 0)
		return -1;
	if (n == (ssize_t)sizeof(target))
		return odd(r, e->path);
	e->target = xstrndup(target, n);
	e->holds = strstr(e->target, r->text);
	return 0;
}

static int read_directory(struct reading *r, const char *path, int level);

/* Takes path. */
static int read_entry(struct reading *r, char *path, int level)
{
	struct tree *t = r->tree;
	if (t->count == r->size) {
		r->size = r->size ? 2 * r->size : 1024;
		t->entries = xreallocarray(t->entries, r->size, sizeof(*t->entries));
	}
	struct tree_entry *e = &t->entries[t->count++];
	*e = (struct tree_entry){ .path = path };
	if (t->count > LIMIT_IMAGE_FILES || level > LEVELS_MAX) {
		errno = E2BIG;
		return -1;
	}
	if (fstatat(r->root_fd, path, &e->st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISREG(e->st.st_mode))
		return read_file(r, e);
	if (S_ISLNK(e->st.st_mode))
		return read_link(r, e);
	return S_ISDIR(e->st.st_mode) ? read_directory(r, path, level + 1) : odd(r, path);
}

static int read_directory(struct reading *r, const char *path, int level)
{
	size_t count = 0;
	char **names = names_of(r->root_fd, path, &count);
	if (!names)
		return -1;
	int result = 0, err = ECANCELED;
	if (talk_gone())
		result = -1;
	for (size_t i = 0; i < count; i++) {
		if (result == 0) {
			result = read_entry(r, xasprintf("%s%s%s", path, *path ? "/" : "", names[i]), level);
			err = errno;
		}
		free(names[i]);
	}
	free(names);
	errno = err;
	return result;
}

static int by_path(const void *a, const void *b)
{
	return strcmp((*(struct tree_entry *const *)a)->path, (*(struct tree_entry *const *)b)->path);
}

int tree_read(int fd, const char *text, struct tree *ret, char **ret_odd)
{
	struct reading r = { .root_fd = fd, .text = text, .tree = ret, .ret_odd = ret_odd };
	*ret = (struct tree){ 0 };
	*ret_odd = NULL;
	int result = read_directory(&r, "", 0);
	int err = errno;
	ret->by_path = xcalloc(ret->count, sizeof(struct tree_entry *));
	for (size_t i = 0; i < ret->count; i++)
		ret->by_path[i] = &ret->entries[i];
	if (ret->count)
		qsort(ret->by_path, ret->count, sizeof(*ret->by_path), by_path);
	text_done(&r.content);
	errno = err;
	return result;
}

struct tree_entry *tree_find(const struct tree *t, const char *path)
{
	size_t low = 0, high = t->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(path, t->by_path[middle]->path);
		if (order == 0)
			return t->by_path[middle];
		if (order > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void tree_done(struct tree *t)
{
	for (size_t i = 0; i < t->count; i++) {
		free(t->entries[i].path);
		free(t->entries[i].target);
	}
	free(t->entries);
	free(t->by_path);
	*t = (struct tree){ 0 };
}

int tree_digest(int fd, const char *path, unsigned char ret[SHA256_DIGEST_LENGTH])
{
	_cleanup_text_ struct text content = { 0 };
	if (place_read(fd, path, FILE_MAX, &content, NULL) < 0)
		return -1;
	text_adds(&content, "");
	digest(&content, ret);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * An image's manifest: how it is written, read, and held against the tree. A row is an array: kind,
 * path, mode, floor, exact, size, seconds and nanoseconds of its mtime, inode, and the target or
 * digest. What is in it is checked when it is read, for a person may have had a hand in it; a path
 * never leads out of the tree.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "manifest.h"
#include "place.h"
#include "paths.h"
#include "verify.h"

#define FORM 1

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), n = strlen(end);
	return len >= n && strcmp(s + len - n, end) == 0;
}

static enum image_kind kind_of(const struct tree_entry *e)
{
	if (S_ISDIR(e->st.st_mode))
		return IMAGE_DIRECTORY;
	if (S_ISLNK(e->st.st_mode))
		return IMAGE_LINK;
	if (strncmp(e->path, "lib/", 4) != 0 || e->st.st_size == 0 || ends_with(e->path, ".pth") ||
	    ends_with(e->path, "/RECORD"))
		return IMAGE_COPY;
	return IMAGE_PAYLOAD;
}

static void hex(const unsigned char digest[SHA256_DIGEST_LENGTH], char ret[2 * SHA256_DIGEST_LENGTH + 1])
{
	for (int i = 0; i < SHA256_DIGEST_LENGTH; i++)
		snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

/* Read-only for everybody: the inode is going to be in many environments. */
static mode_t kept_mode(mode_t mode)
{
	return mode & 0111 ? 0555 : 0444;
}

static json_t *make_row(const struct tree_entry *e, int fd, const struct model_file *mode)
{
	char digest[2 * SHA256_DIGEST_LENGTH + 1] = "";
	struct stat st;
	if (S_ISREG(e->st.st_mode)) {
		_cleanup_fd_ int file = place_open(fd, e->path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		if (file < 0 || fchmod(file, kept_mode(mode->mode)) < 0)
			return NULL;
		hex(e->digest, digest);
	}
	if (fstatat(fd, e->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	json_t *row = json_pack("[i,s,i,i,b,I,I,I,I,s]", kind_of(e), e->path, (int)mode->mode,
	    (int)mode->floor, (int)mode->exact_mode, (json_int_t)st.st_size,
	    (json_int_t)st.st_mtim.tv_sec, (json_int_t)st.st_mtim.tv_nsec, (json_int_t)st.st_ino,
	    e->target ? e->target : digest);
	if (!row)
		errno = EILSEQ;
	return row;
}

json_t *manifest_make(const struct tree *t, int fd, const struct model_file *exact, size_t exact_count,
    int64_t *ret_bytes, char **ret_odd)
{
	json_t *rows = json_array();
	*ret_bytes = 0;
	for (size_t i = 0; i < t->count; i++) {
		const struct tree_entry *e = &t->entries[i];
		struct model_file mode;
		json_t *row = NULL;
		if (e->predicted && place_unlink(fd, e->path) == 0)
			continue;
		errno = EINVAL;
		if (!e->predicted && verify_mode(e, exact, exact_count, &mode))
			row = make_row(e, fd, &mode);
		if (!row) {
			*ret_odd = xstrdup(e->path);
			json_decref(rows);
			return NULL;
		}
		json_array_append_new(rows, row);
		*ret_bytes += e->st.st_blocks * 512;
	}
	return json_pack("{si, so}", "form", FORM, "entries", rows);
}

static bool read_row(json_t *row, struct image_entry *ret)
{
	int kind, mode, floor, exact;
	json_int_t size, seconds, nanoseconds, ino;
	const char *path, *text;
	if (json_unpack(row, "[i,s,i,i,b,I,I,I,I,s]", &kind, &path, &mode, &floor, &exact, &size,
	    &seconds, &nanoseconds, &ino, &text) < 0)
		return false;
	*ret = (struct image_entry){
		.kind = kind, .path = path, .mode = mode & 07777, .floor = floor & 0777,
		.exact_mode = exact, .size = size, .mtime = { seconds, nanoseconds }, .ino = ino,
	};
	if (kind == IMAGE_LINK)
		ret->target = text;
	else
		ret->digest = text;
	return kind >= IMAGE_DIRECTORY && kind <= IMAGE_LINK && path_stays_inside(path);
}

int manifest_read(struct image *image, json_t *manifest)
{
	json_t *rows = json_object_get(manifest, "entries"), *row;
	size_t i, count = json_array_size(rows);
	image->json = manifest;
	if (json_integer_value(json_object_get(manifest, "form")) != FORM || count == 0 ||
	    count > LIMIT_IMAGE_FILES)
		return -1;
	image->entries = xcalloc(count, sizeof(*image->entries));
	image->count = count;
	json_array_foreach(rows, i, row)
		if (!read_row(row, &image->entries[i]))
			return -1;
	return 0;
}

/* --- checking --- */

static char *check_content(const struct image_entry *e, int tree_fd)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char text[2 * SHA256_DIGEST_LENGTH + 1];
	if (tree_digest(tree_fd, e->path, digest) < 0)
		return xasprintf("'%s' cannot be read: %s", e->path, strerror(errno));
	hex(digest, text);
	return strcmp(text, e->digest) == 0 ? NULL : xasprintf("'%s' has another content", e->path);
}

static char *check_link(const struct image_entry *e, int tree_fd)
{
	char target[4096];
	ssize_t n = readlinkat(tree_fd, e->path, target, sizeof(target));
	if (n == (ssize_t)strlen(e->target) && memcmp(target, e->target, n) == 0)
		return NULL;
	return xasprintf("'%s' leads somewhere else", e->path);
}

static char *check_entry(const struct image_entry *e, int tree_fd, bool by_content)
{
	static const mode_t kinds[] = {
		[IMAGE_DIRECTORY] = S_IFDIR, [IMAGE_PAYLOAD] = S_IFREG, [IMAGE_COPY] = S_IFREG,
		[IMAGE_LINK] = S_IFLNK,
	};
	struct stat st;
	if (fstatat(tree_fd, e->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return xasprintf("'%s': %s", e->path, strerror(errno));
	if ((st.st_mode & S_IFMT) != kinds[e->kind])
		return xasprintf("'%s' is of another kind", e->path);
	if ((int64_t)st.st_ino != e->ino)
		return xasprintf("'%s' is another file", e->path);
	if (e->kind == IMAGE_DIRECTORY)
		return NULL;
	if (st.st_size != e->size)
		return xasprintf("'%s' has another size", e->path);
	if (st.st_mtim.tv_sec != e->mtime.tv_sec || st.st_mtim.tv_nsec != e->mtime.tv_nsec)
		return xasprintf("'%s' was changed", e->path);
	if (e->kind == IMAGE_LINK)
		return check_link(e, tree_fd);
	if ((st.st_mode & 07777) != kept_mode(e->mode))
		return xasprintf("'%s' has another mode", e->path);
	return by_content ? check_content(e, tree_fd) : NULL;
}

char *image_check(const struct image *image, int tree_fd, bool by_content)
{
	char *why = NULL;
	for (size_t i = 0; !why && i < image->count; i++)
		why = check_entry(&image->entries[i], tree_fd, by_content);
	return why;
}

/* SPDX-License-Identifier: MIT */
/*
 * Buckets. An entry that is there is complete; it is taken by one rename, which a fill, an eviction and a claim
 * may try at once: one of them has it. What was read of a bucket is only a memory of names, good while its
 * directory has the time that our own last rename left.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bucket.h"
#include "place.h"

#define TRIES 1000              /* entries that others took before us */
#define REMEMBERED 16           /* buckets; one more takes the place of another */

struct bucket {
	char *name;
	struct timespec changed;        /* of its directory, when last read or taken from */
	char **entries;
	size_t count, size;
};

static struct bucket buckets[REMEMBERED];

char *bucket_name(const char *image, mode_t mask, const char *copies)
{
	if (!copies)
		return xasprintf("%s~%03o", image, (unsigned)mask);
	char digest[SHA256_DIGEST_STRING_LENGTH];
	SHA256Data((const uint8_t *)copies, strlen(copies), digest);
	return xasprintf("%s~%03o~copies~%.8s", image, (unsigned)mask, digest);
}

static void forget_entries(struct bucket *b)
{
	while (b->count > 0)
		free(b->entries[--b->count]);
	b->changed = (struct timespec){ 0 };
}

static struct bucket *find(const char *name)
{
	static size_t next;
	for (size_t i = 0; i < REMEMBERED; i++)
		if (buckets[i].name && strcmp(buckets[i].name, name) == 0)
			return &buckets[i];
	struct bucket *b = &buckets[next++ % REMEMBERED];
	forget_entries(b);
	free(b->name);
	b->name = xstrdup(name);
	return b;
}

static void remember(struct bucket *b, const char *entry)
{
	if (b->count == b->size) {
		b->size = b->size ? 2 * b->size : 32;
		b->entries = xreallocarray(b->entries, b->size, sizeof(*b->entries));
	}
	b->entries[b->count++] = xstrdup(entry);
}

/* Reads the names if the directory has changed since. -1 if there is no such bucket. */
static int refresh(struct bucket *b, int pool_fd)
{
	struct stat st;
	if (fstatat(pool_fd, b->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (b->count > 0 && b->changed.tv_sec == st.st_ctim.tv_sec && b->changed.tv_nsec == st.st_ctim.tv_nsec)
		return 0;
	forget_entries(b);
	int fd = place_open(pool_fd, b->name, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		cleanup_fd(&fd);
		return -1;
	}
	for (struct dirent *e; (e = readdir(dir));)
		if (e->d_name[0] != '.')
			remember(b, e->d_name);
	closedir(dir);
	b->changed = st.st_ctim;
	return 0;
}

/* 0 taken, 1 gone meanwhile or none of ours, -1. */
static int take(struct bucket *b, int pool_fd, int stage_fd, const char *entry)
{
	_cleanup_free_ char *name = b->entries[--b->count];
	_cleanup_fd_ int bucket = place_open(pool_fd, b->name, O_PATH | O_DIRECTORY);
	struct stat st;
	if (bucket < 0 || place_move(bucket, name, stage_fd, entry) < 0)
		return errno == ENOENT ? 1 : -1;
	if (fstatat(stage_fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
		return 0;
	return unlinkat(stage_fd, entry, 0) < 0 ? -1 : 1;
}

int bucket_take(int pool_fd, const char *name, int stage_fd, const char *entry, size_t *ret_left)
{
	struct bucket *b = find(name);
	struct stat st;
	int r = 1;
	for (int tries = 0; r > 0 && tries < TRIES; tries++) {
		if (refresh(b, pool_fd) < 0 || b->count == 0) {
			forget_entries(b);
			return 1;
		}
		r = take(b, pool_fd, stage_fd, entry);
	}
	if (r == 0 && fstatat(pool_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		b->changed = st.st_ctim;
	*ret_left = b->count;
	return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * The reserve: files below PATH_RESERVE that hold blocks and inodes and say nothing. Who finds the disk full (or the
 * quota used up) at something that must work gives some of them up and tries again.
 *
 * Made from 0 upwards and spent from the last downwards, so that the last one tells whether all are there. Any process of
 * the daemon spends, however many at once; only the resident worker makes them. The directory is the daemon's to make:
 * where it is missing there is no reserve, and where the disk was never roomy there is none either.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "paths.h"
#include "reserve.h"
#include "util.h"

#define PIECES 128
#define PIECE_BYTES 4096        /* an inode and a block: an entry of the trash takes two of them, and so is one try */
#define SPENT_AT_ONCE 2         /* no more: what nobody needs, whoever comes next takes */
#define PLENTY 8                /* it is made whole where there is so many times as much room */

static int reserve_open(int state_fd)
{
	return openat(state_fd, PATH_RESERVE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void reserve_name(char ret[16], int piece)
{
	snprintf(ret, 16, "%d", piece);
}

bool reserve_spend(int state_fd)
{
	int error = errno, spent = 0;
	char name[16];
	if (error != ENOSPC && error != EDQUOT)
		return false;
	_cleanup_fd_ int fd = reserve_open(state_fd);
	for (int piece = PIECES - 1; fd >= 0 && piece >= 0 && spent < SPENT_AT_ONCE; piece--) {
		reserve_name(name, piece);
		spent += unlinkat(fd, name, 0) == 0;
	}
	/* Blocks that were given up can be had when their transaction is on the disk. */
	if (spent > 0 && fsync(fd) < 0)
		spent = 0;
	errno = error;
	return spent > 0;
}

static bool reserve_has(int fd, int piece)
{
	struct stat st;
	char name[16];
	reserve_name(name, piece);
	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == PIECE_BYTES;
}

/* Some file systems count no inodes. */
static bool reserve_has_room(int fd)
{
	struct statvfs fs;
	return fstatvfs(fd, &fs) == 0 && (fs.f_files == 0 || fs.f_favail / PLENTY >= PIECES) &&
	    (uint64_t)fs.f_bavail * fs.f_frsize / PLENTY >= (uint64_t)PIECES * PIECE_BYTES;
}

static bool reserve_make(int fd, int piece)
{
	char name[16];
	reserve_name(name, piece);
	_cleanup_fd_ int file = openat(fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (file >= 0 && posix_fallocate(file, 0, PIECE_BYTES) == 0)
		return true;
	if (file >= 0)
		unlinkat(fd, name, 0);
	return false;
}

void reserve_fill(int state_fd)
{
	_cleanup_fd_ int fd = reserve_open(state_fd);
	if (fd < 0 || reserve_has(fd, PIECES - 1) || !reserve_has_room(fd))
		return;
	for (int piece = 0; piece < PIECES; piece++)
		if (!reserve_has(fd, piece) && !reserve_make(fd, piece))
			return;
}

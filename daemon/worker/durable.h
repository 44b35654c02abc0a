/* SPDX-License-Identifier: MIT */
/*
 * Pushing files to the disk, many at once: each is begun as soon as it is written, all are waited for together.
 * On ext4 and xfs by sync_file_range (write, then wait), where the directory's fsync that follows
 * commits the rest (measured there); by fsync of each elsewhere.
 */
#ifndef VENVD_WORKER_DURABLE_H
#define VENVD_WORKER_DURABLE_H
#include <stdbool.h>
#include <stddef.h>

struct durable {
	int *fds;               /* owned, of files that are under way */
	size_t count, size;
	bool ranges;            /* decided by the first of them */
	int error;              /* of one that had to be waited for early; an errno */
};
#define _cleanup_durable_ __attribute__((cleanup(durable_done)))

/* Takes the descriptor of a file that is completely written; begins. */
void durable_add(struct durable *, int fd);
/* The same for a directory that new ones were made in, where its names are not on the disk by themselves. */
void durable_add_directory(struct durable *, int dir_fd, const char *name);
/* Waits for all and closes them. -1 with errno: lost, never to be tried again. */
int durable_wait(struct durable *);
void durable_done(struct durable *);

/* Whether one fsync of a directory that was just changed commits all names and sizes of that file system. */
bool durable_commits(int fd);

/* fsync of a directory, believed only if the file system is still there afterwards: an xfs that has shut itself down, since
 * its log could not be written, calls a directory synced whose changes are lost, but cannot be asked about it any more. */
int durable_directory(int fd);

/* A whole new tree below dir_fd, with all that was linked or made in it: afterwards it is on the disk. */
int durable_tree(int dir_fd);
/* The same where the caller has pushed out the data of all files already, if durable_commits(). */
int durable_names(int dir_fd);
#endif

/* SPDX-License-Identifier: MIT */
/*
 * Pushing files to the disk, many at once: each is begun as soon as it is written, all are waited for together.
 * On ext4, xfs and btrfs by sync_file_range (write, then wait), where the directory's fsync that follows
 * commits the rest (measured there); by fsync of each elsewhere.
 */
#ifndef VENVD_WORKER_DURABLE_H
#define VENVD_WORKER_DURABLE_H
#include <stdbool.h>
#include <stddef.h>

struct durable {
	int *fds;               /* owned, of files that are under way */
	size_t count;
};
#define _cleanup_durable_ __attribute__((cleanup(durable_done)))

/* Takes the descriptor of a file that is completely written; begins. */
void durable_add(struct durable *, int fd);
/* Waits for all and closes them. -1 with errno: lost, never to be tried again. */
int durable_wait(struct durable *);
void durable_done(struct durable *);

/* A whole new tree below dir_fd, with all that was linked or made in it: afterwards it is on the disk. */
int durable_tree(int dir_fd);
#endif

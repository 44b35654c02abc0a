/* SPDX-License-Identifier: MIT */
/* A worker's process, from its binary to its first instruction. */
#ifndef VENVD_SPAWN_H
#define VENVD_SPAWN_H
#include <stdbool.h>
#include <sys/types.h>

/* What every worker gets: the program, and descriptors of ours (-1: none). */
struct spawn {
	int binary, root_fd, state_fd, lock_fd;
};

/* Opens the program and takes copies of the descriptors. -1 with an owned sentence. */
int spawn_init(struct spawn *, int root_fd, int state_fd, int lock_fd, char **ret_why);
void spawn_done(struct spawn *);

/* A copy above the numbers that a worker has, close-on-exec; -1 for -1, or with errno. */
int spawn_high_fd(int fd);

/* Starts one; `theirs`, its end of the socket, comes from spawn_high_fd(). 0 or an errno. */
int spawn_worker(const struct spawn *, int theirs, bool resident, pid_t *ret_pid);
#endif

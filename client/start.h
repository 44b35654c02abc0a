/* SPDX-License-Identifier: MIT */
/* Starts a daemon for our root. */
#ifndef VENVCTL_START_H
#define VENVCTL_START_H
#include <sys/types.h>

/* Starts one that stays, and waits until it serves or says why not. 0, else the exit status, with
 * everything said. */
int start_daemon(void);

/* Starts one that only looks, makes no file, and serves the descriptor returned until it is closed.
 * -1, with everything said, if that is not possible. */
int start_looking(pid_t *ret_pid);
#endif

/* SPDX-License-Identifier: MIT */
/* Where the daemon of our root listens, if there is one. */
#ifndef VENVCTL_FIND_H
#define VENVCTL_FIND_H
#include <stdbool.h>
#include <stdint.h>

/*
 * A connected socket whose server is our own uid or 0; else -1 with errno: ENOENT when nobody
 * serves this root, EPERM when a stranger does (*ret_stranger is its uid), or what the system
 * said. now: fails with EAGAIN instead of waiting for a daemon that is too busy to accept.
 */
int find_connect(bool now, int64_t *ret_stranger);

/* Whether ROOT/.venvd exists. */
bool find_state_exists(void);
#endif

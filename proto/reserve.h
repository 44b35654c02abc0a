/* SPDX-License-Identifier: MIT */
/* Room on the file system that is kept for what must work when there is no other: deletes, restores, a start. */
#ifndef VENVD_RESERVE_H
#define VENVD_RESERVE_H
#include <stdbool.h>

/* After a call that failed with ENOSPC or EDQUOT: gives up a part of the reserve below state_fd, and the call can be made
 * again. False, and errno as it was: it failed of something else, or nothing is left. So a loop around it ends. */
bool reserve_spend(int state_fd);

/* Makes whole what is missing of it, where there is room in plenty. Nobody waits for it, and it cannot fail. */
void reserve_fill(int state_fd);
#endif

/* SPDX-License-Identifier: MIT */
/*
 * The daemon in one process, for fuzz targets: all of its rooms as they are, but for four. There is no disk under the
 * store (rows are kept here, committed when the loop has turned), no root, no inotify, and a worker is not a
 * process but the other end of its socket, where the target answers. Everything is made anew for each input.
 */
#ifndef VENVD_FUZZ_HOUSE_H
#define VENVD_FUZZ_HOUSE_H
#include <jansson.h>
#include <sys/types.h>

#include "frame.h"
#include "venvd.h"

struct house_worker {
	int fd;                         /* its end of the socket; -1: it has ended */
	pid_t pid;
	bool resident;
	bool reaped;
	int status;                     /* as waitpid() gives it */
	struct frame_reader in;
};

extern struct venvd house;
extern bool house_disk_is_full;         /* a commit that is waited for fails; others are kept */

/* Fresh rooms, with some environments in them. starting: as after a crash, with much under way in the catalog, of which the
 * index knows nothing yet. */
void house_open(bool starting);
/* Turns until nothing happens any more; asserts that this comes about. */
void house_settle(void);
/* One turn; whether something has happened in it. */
bool house_turn(void);
/* Workers that have not answered die, as often as another one is given their orders. */
void house_end_under_way(void);
/* The daemon's orderly end: what is under way is settled (workers that do not end are killed), then asserts that
 * nothing is left and that catalog and index agree; frees everything. */
void house_close(void);

/* Says something to the daemon as this worker. False once it has gone. */
bool house_say(struct house_worker *, const char *text, size_t len);
/* It ends; wait status. */
void house_end(struct house_worker *, int status);

/* The target's: what a worker does with an order (text with its NUL); for an end of the daemon's side it just ends. */
void house_order(struct house_worker *, const char *text, size_t len);
/* The target's: something that happens beside the loop, such as a client that reads. Whether it has. */
bool house_beside(void);
#endif

/* SPDX-License-Identifier: MIT */
/* What can be set: the command line's options, and the numbers of -o KEY=VALUE with their ranges. */
#ifndef VENVD_CONFIG_H
#define VENVD_CONFIG_H
#include "util.h"

enum config_key {
	CONFIG_CONNECTIONS,
	CONFIG_FIRST_BYTE_MS,
	CONFIG_FRAME_MS,
	CONFIG_IDLE_MS,
	CONFIG_STALL_MS,
	CONFIG_CREATE_MS,
	CONFIG_PROBE_MS,
	CONFIG_JOBS_RUNNING,
	CONFIG_JOBS_QUEUED,
	CONFIG_TRASH_SECONDS,
	CONFIG_POOL_ENTRIES,    /* 0: none is kept (also VENVD_POOL=0) */
	CONFIG_POOL_INITIAL,
	CONFIG_POOL_MIB,
	CONFIG_IMAGE_SECONDS,
	CONFIG_KEYS
};

struct config {
	char *root;             /* absolute, owned */
	char *socket;           /* --socket, absolute, or NULL; owned */
	bool detached;          /* started by a client: log file, no terminal */
	bool peek;              /* only look: write nothing, serve descriptor 3 */
	int ready_fd;           /* where to say that we are ready, or -1 */
	char *link_mode;        /* one of ORDER_LINK_MODES; owned */
	char *python_directories;       /* absolute, separated by ':', "" for none; owned */
	bool managed_first;     /* python_preference = managed: uv's own before PATH */
	int64_t value[CONFIG_KEYS];
};

/* Fills *ret from the arguments, or ends the program: --help and --version with 0, a wrong one with 2. */
void config_read(struct config *ret, int argc, char **argv);
void config_done(struct config *);
/* NULL, or an owned sentence that says what is wrong with "key=value". */
char *config_set(struct config *, const char *assignment);
#endif

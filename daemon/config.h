/* SPDX-License-Identifier: MIT */
/* What can be set: in files, in the environment and on the command line, with ranges. */
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
	CONFIG_KEYS,            /* those above are numbers */
	CONFIG_LINK_MODE = CONFIG_KEYS,
	CONFIG_PYTHON_DIRECTORIES,
	CONFIG_PYTHON_PREFERENCE,
	CONFIG_SETTINGS
};

struct config {
	char *root;             /* absolute, owned */
	char *socket;           /* --socket, absolute, or NULL; owned */
	bool detached;          /* started by a client: log file, no terminal */
	bool peek;              /* only look: write nothing, serve descriptor 3 */
	int ready_fd;           /* where to say that we are ready, or -1 */
	char *link_mode;        /* one of ORDER_LINK_MODES; owned */
	char *python_directories;       /* absolute, separated by ':', "" for none; UTF-8, owned */
	bool managed_first;     /* python_preference = managed: uv's own before PATH */
	int64_t value[CONFIG_KEYS];
	char *origin[CONFIG_SETTINGS];  /* where each was set, "FILE:LINE", "-o", ...; NULL: the default; owned */
};

/* Fills *ret from files, environment and arguments, or ends the program: --help, --version, --check-config and
 * --print-config with 0, a wrong argument with 2, a wrong file with 1 (said to --ready-fd, too). */
void config_read(struct config *ret, int argc, char **argv);
void config_done(struct config *);

/* The key's number, '-' and '_' being one; CONFIG_SETTINGS if there is none. Then *ret_suggest is the close one
 * or NULL; constant, spelt with '_'. */
enum config_key config_key_find(const char *key, const char **ret_suggest);
/* Sets one value. NULL, or an owned sentence that says what is wrong with it. */
char *config_set(struct config *, enum config_key, const char *value, const char *origin);
/* Adds to a value that goes on in a further line, which only python_directories does; as config_set. */
char *config_add(struct config *, enum config_key, const char *value);
#endif

/* SPDX-License-Identifier: MIT */
/* A process of our own user, as /proc tells of it. What is read of it is bounded, and is that of the process: it is made safe where
 * it is printed. */
#ifndef VENVD_WORKER_PROCESS_H
#define VENVD_WORKER_PROCESS_H
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include "util.h"

struct process {
	pid_t pid;
	int fd;                         /* /proc/PID; -1: none */
	struct text words, variables;   /* NUL-separated; read when they are needed */
	bool words_read, variables_read;
};
#define PROCESS_NONE ((struct process){ .fd = -1 })

/* name is that of a process, in the directory proc_fd. False: it has ended, or is another user's. */
bool process_open(struct process *, int proc_fd, const char *name);
/* It can be opened for another one then. */
void process_close(struct process *);

/* argv[0]; "" if it has none. */
const char *process_first_word(struct process *);
/* Of the environment that it was started with; NULL. */
const char *process_variable(struct process *, const char *name);
/* Its words with blanks between them, LIMIT_COMMAND_BYTES of them; if there are none, otherwise. Owned. */
json_t *process_command(struct process *, const char *otherwise);
#endif

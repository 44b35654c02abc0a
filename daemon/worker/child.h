/* SPDX-License-Identifier: MIT */
/* One Python child at a time: started, watched, and gone with all of its descendants afterwards. */
#ifndef VENVD_WORKER_CHILD_H
#define VENVD_WORKER_CHILD_H
#include "caller.h"
#include "util.h"

struct child {
	/* The question. */
	const char *const *argv;        /* argv[0] is the absolute path that is executed */
	const struct caller *caller;
	const char *cwd;                /* NULL, or one that cannot be entered: "/" */
	int timeout_ms;                 /* 0: the daemon's own deadline is the only one */
	/* The answer. */
	enum { CHILD_EXITED, CHILD_KILLED, CHILD_TIMED_OUT, CHILD_GONE, CHILD_NOT_STARTED } end;
	int status;                     /* exit status, signal, or errno, as `end` says */
	struct text output;             /* the tail of stdout and stderr, NULs as spaces; data is never NULL */
};

/* The process becomes a subreaper and dies of SIGTERM together with its child. */
void child_init(void);

/* Fills in the answer. CHILD_GONE: the daemon has closed the socket. When this returns there is no
 * descendant of this process left. */
void child_run(struct child *);
void child_done(struct child *);

/* What the end means, in words: "exited with status 3"; owned. */
char *child_end_text(const struct child *);
#endif

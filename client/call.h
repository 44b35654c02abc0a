/* SPDX-License-Identifier: MIT */
/* One connection to a daemon: a call out, its replies in, each wait with an end. */
#ifndef VENVCTL_CALL_H
#define VENVCTL_CALL_H
#include <jansson.h>
#include <signal.h>
#include <stdint.h>
#include "frame.h"

enum call_end {
	CALL_OK,
	CALL_GONE,              /* the other side closed the connection */
	CALL_LATE,              /* the deadline passed */
	CALL_INTERRUPTED,       /* wire.interrupted was set while it waited */
	CALL_GARBLED,           /* what came is no reply */
	CALL_TOO_BIG            /* longer than LIMIT_FRAME_BYTES; nothing was sent */
};

struct wire {
	int fd;                                 /* owned; -1: closed */
	struct frame_reader in;
	int64_t until_us;                       /* monotonic; no call lasts beyond it; 0: none */
	int wait_ms;                            /* this long a silence is borne; < 0: any */
	volatile sig_atomic_t *interrupted;     /* or NULL; set by a handler of a signal ... */
	const sigset_t *waiting;                /* ... that only this mask lets in, while waiting */
};

/* Takes fd, a connected stream socket. */
void call_init(struct wire *, int fd);
/* Closes. A call that was under way is cancelled by that. */
void call_close(struct wire *);

/* The uid at the other end if it may not serve us (it is neither ours nor 0), else -1. */
int64_t call_stranger(int fd);

/* method without a dot is one of io.venvd. parameters: borrowed, or NULL. */
enum call_end call_send(struct wire *, const char *method, json_t *parameters, bool more);
/* The next frame; valid until the next call of this function. */
enum call_end call_frame(struct wire *, const char **ret_text, size_t *ret_len);
/* Whether a frame is, by its compact spelling, a reply that another one follows. */
bool call_continues(const char *text, size_t len);
/* Waits until the other side closes. */
enum call_end call_wait_close(struct wire *);
#endif

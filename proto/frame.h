/* SPDX-License-Identifier: MIT */
/*
 * Frames: one JSON text, one NUL. Works on memory; who owns a socket feeds it. Used by the client and
 * between daemon and worker (the server finds its frames in its own input buffer).
 */
#ifndef VENVD_FRAME_H
#define VENVD_FRAME_H
#include <jansson.h>
#include "util.h"

struct frame_reader {
	struct text in;         /* what has come and was not yet taken */
	size_t scanned;         /* this much of it is known to hold no NUL */
	size_t taken;           /* this much of it was handed out already */
	size_t max;             /* longest frame, without its NUL */
};

void frame_reader_init(struct frame_reader *, size_t max);
void frame_reader_done(struct frame_reader *);
void frame_feed(struct frame_reader *, const void *data, size_t len);
/* The next whole frame, NUL-terminated, valid until the next feed; NULL if there is none yet.
 * *ret_len is its length. errno EMSGSIZE (else 0) when what waits is longer than max. */
const char *frame_next(struct frame_reader *, size_t *ret_len);

/* First of all in a program: jansson, too, has memory or the program ends. */
void frame_memory(void);

/* Appends the compact text of value and a NUL. */
void frame_add(struct text *out, const json_t *value);

/* Blocking: sends value as one frame (MSG_NOSIGNAL). -1 with errno. */
int frame_send(int fd, const json_t *value);
#endif

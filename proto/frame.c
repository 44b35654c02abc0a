/* SPDX-License-Identifier: MIT */
/*
 * Frames: one JSON text, one NUL. Finds them in what was fed, a byte being looked at once however
 * small the pieces come; writes them. Owns the reader's buffer, and nothing else: descriptors and
 * what the frames say belong to others.
 *
 * Invariant: taken <= scanned <= in.len once frame_next() has run; no NUL lies in [taken, scanned).
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "frame.h"

#define BUFFER_KEPT (256 * 1024)        /* an emptied buffer above this is given back */

void frame_reader_init(struct frame_reader *r, size_t max)
{
	*r = (struct frame_reader){ .max = max };
}

void frame_reader_done(struct frame_reader *r)
{
	text_done(&r->in);
	r->scanned = r->taken = 0;
}

void frame_feed(struct frame_reader *r, const void *data, size_t len)
{
	if (r->taken) {
		size_t rest = r->in.len - r->taken;
		memmove(r->in.data, r->in.data + r->taken, rest);
		r->in.len = rest;
		r->scanned -= r->taken;
		r->taken = 0;
		if (rest == 0 && r->in.size > BUFFER_KEPT)
			text_done(&r->in);
	}
	text_add(&r->in, data, len);
}

const char *frame_next(struct frame_reader *r, size_t *ret_len)
{
	errno = 0;
	if (r->scanned == r->in.len)
		return NULL;
	const char *frame = r->in.data + r->taken;
	const char *from = r->in.data + r->scanned;
	const char *nul = memchr(from, '\0', r->in.len - r->scanned);
	size_t len = (size_t)((nul ? nul : r->in.data + r->in.len) - frame);
	if (len > r->max) {
		errno = EMSGSIZE;
		return NULL;
	}
	if (!nul) {
		r->scanned = r->in.len;
		return NULL;
	}
	r->taken = r->scanned = r->taken + len + 1;
	*ret_len = len;
	return frame;
}

void frame_memory(void)
{
	json_set_alloc_funcs(xmalloc, free);
}

static int add_cb(const char *data, size_t len, void *text)
{
	text_add(text, data, len);
	return 0;
}

void frame_add(struct text *out, const json_t *value)
{
	/* Nothing that we build is refused by jansson. */
	if (json_dump_callback(value, add_cb, out, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
		abort();
	text_add(out, "", 1);
}

int frame_send(int fd, const json_t *value)
{
	_cleanup_text_ struct text out = { 0 };

	frame_add(&out, value);
	for (size_t sent = 0; sent < out.len;) {
		ssize_t n = send(fd, out.data + sent, out.len - sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		sent += (size_t)n;
	}
	return 0;
}

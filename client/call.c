/* SPDX-License-Identifier: MIT */
/*
 * The client's end of a Varlink connection, without an event loop: poll, send, receive. It owns
 * the socket and the bytes that have come and were not yet taken, and knows two kinds of
 * impatience: a moment that nothing lasts beyond, and the longest silence between two frames.
 *
 * Sending never raises SIGPIPE (MSG_NOSIGNAL); the socket itself stays in blocking mode, each
 * transfer is made non-blocking on its own, so that a stopped daemon costs the deadline and never
 * more. What a reply means, and whether a broken call is tried again, is decided in session.c.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include "bounds.h"
#include "call.h"

#define RECEIVE_BYTES (128 * 1024)

void call_init(struct wire *w, int fd)
{
	*w = (struct wire){ .fd = fd, .wait_ms = LIMIT_CALL_MS };
	frame_reader_init(&w->in, LIMIT_REPLY_BYTES);
}

void call_close(struct wire *w)
{
	if (w->fd >= 0) {
		close(w->fd);
		frame_reader_done(&w->in);
	}
	w->fd = -1;
}

int64_t call_stranger(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return (int64_t)(uid_t)-1;
	return peer.uid == 0 || peer.uid == geteuid() ? -1 : (int64_t)peer.uid;
}

/* Waits for events until the earlier of the two ends; silent_from is when the silence began. */
static enum call_end wait_for(struct wire *w, short events, int64_t silent_from)
{
	for (;;) {
		int64_t now = monotonic_us(), end = INT64_MAX;
		if (w->wait_ms >= 0)
			end = silent_from + (int64_t)w->wait_ms * 1000;
		if (w->until_us > 0 && w->until_us < end)
			end = w->until_us;
		struct timespec left = { 0 };
		if (end > now && end != INT64_MAX) {
			left.tv_sec = (time_t)((end - now) / 1000000);
			left.tv_nsec = (long)((end - now) % 1000000) * 1000;
		}
		struct pollfd p = { .fd = w->fd, .events = events };
		int n = ppoll(&p, 1, end == INT64_MAX ? NULL : &left, w->waiting);
		if (w->interrupted && *w->interrupted)
			return CALL_INTERRUPTED;
		if (n > 0)
			return CALL_OK;
		if (n == 0)
			return CALL_LATE;
		if (errno != EINTR)
			return CALL_GONE;
	}
}

static enum call_end send_all(struct wire *w, const char *data, size_t len)
{
	int64_t silent_from = monotonic_us();
	while (len > 0) {
		ssize_t n = send(w->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			data += n;
			len -= (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return CALL_GONE;
		enum call_end end = wait_for(w, POLLOUT, silent_from);
		if (end != CALL_OK)
			return end;
	}
	return CALL_OK;
}

enum call_end call_send(struct wire *w, const char *method, json_t *parameters, bool more)
{
	_cleanup_text_ struct text out = { 0 };
	_cleanup_free_ char *full = strchr(method, '.') ? xstrdup(method)
	                                                : xasprintf("io.venvd.%s", method);
	json_auto_t *call = json_object();
	if (json_object_set_new(call, "method", json_string(full)) < 0)
		return CALL_GARBLED;
	if (parameters)
		json_object_set(call, "parameters", parameters);
	if (more)
		json_object_set_new(call, "more", json_true());
	frame_add(&out, call);
	if (out.len > LIMIT_FRAME_BYTES + 1)
		return CALL_TOO_BIG;
	return send_all(w, out.data, out.len);
}

static enum call_end receive(struct wire *w, int64_t silent_from)
{
	static char buffer[RECEIVE_BYTES];
	for (;;) {
		ssize_t n = recv(w->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n > 0) {
			frame_feed(&w->in, buffer, (size_t)n);
			return CALL_OK;
		}
		if (n == 0)
			return CALL_GONE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return CALL_GONE;
		enum call_end end = wait_for(w, POLLIN, silent_from);
		if (end != CALL_OK)
			return end;
	}
}

enum call_end call_frame(struct wire *w, const char **ret_text, size_t *ret_len)
{
	int64_t silent_from = monotonic_us();
	for (;;) {
		errno = 0;
		*ret_text = frame_next(&w->in, ret_len);
		if (*ret_text)
			return CALL_OK;
		if (errno == EMSGSIZE)
			return CALL_GARBLED;
		enum call_end end = receive(w, silent_from);
		if (end != CALL_OK)
			return end;
	}
}

bool call_continues(const char *text, size_t len)
{
	/* The daemon promises this spelling. Deeper down it could not be the end of the frame. */
	static const char head[] = "{\"parameters\":{", tail[] = "},\"continues\":true}";
	const size_t head_len = sizeof(head) - 1, tail_len = sizeof(tail) - 1;
	return len >= head_len + tail_len && memcmp(text, head, head_len) == 0 &&
	       memcmp(text + len - tail_len, tail, tail_len) == 0;
}

enum call_end call_wait_close(struct wire *w)
{
	int64_t silent_from = monotonic_us();
	for (;;) {
		size_t len;
		while (frame_next(&w->in, &len))
			;
		enum call_end end = receive(w, silent_from);
		if (end != CALL_OK)
			return end == CALL_GONE ? CALL_OK : end;
	}
}

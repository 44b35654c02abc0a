/* SPDX-License-Identifier: MIT */
/*
 * The wire to the daemon. Owns the frame reader and the knowledge whether the daemon is still there.
 * Writing blocks: the daemon always reads. Once a write failed or EOF was read, all writing is silently
 * dropped and talk_gone() stays true, so that rooms need one check where they wait and none elsewhere.
 *
 * Both ends are of one build; a text that does not fit is a bug, and ends the worker with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "bounds.h"
#include "frame.h"
#include "orders.h"
#include "talk.h"

static struct frame_reader reader;
static bool gone;

static void bad(const char *what)
{
	fprintf(stderr, "venvd-worker: %s\n", what);
	exit(1);
}

void talk_init(void)
{
	frame_reader_init(&reader, LIMIT_WORKER_FRAME);
	int flags = fcntl(WORKER_FD_ORDERS, F_GETFL);
	if (flags < 0)
		bad("this program is started by venvd alone");
	fcntl(WORKER_FD_ORDERS, F_SETFL, flags & ~O_NONBLOCK);
}

void talk_done_with(void)
{
	frame_reader_done(&reader);
}

/* One read from the socket into the reader; false when nothing came. */
static bool fill(bool wait)
{
	char buf[64 * 1024];
	ssize_t n;
	do
		n = recv(WORKER_FD_ORDERS, buf, sizeof(buf), wait ? 0 : MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		frame_feed(&reader, buf, n);
		return true;
	}
	if (n == 0 || errno != EAGAIN)
		gone = true;
	return false;
}

json_t *talk_next(bool wait)
{
	for (;;) {
		size_t len;
		const char *frame = frame_next(&reader, &len);
		if (frame) {
			json_t *message = json_loadb(frame, len, JSON_REJECT_DUPLICATES, NULL);
			if (!json_is_object(message))
				bad("the daemon sent something that is no order");
			return message;
		}
		if (errno == EMSGSIZE)
			bad("the daemon sent an order over the limit");
		if (gone || !fill(wait))
			return NULL;
	}
}

bool talk_gone(void)
{
	char c;
	ssize_t n;
	if (gone)
		return true;
	do
		n = recv(WORKER_FD_ORDERS, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	gone = n >= 0 || errno != EAGAIN;
	if (n > 0)
		fprintf(stderr, "venvd-worker: the daemon sent more than one order\n");
	return gone;
}

/* Sends fields as a message of this order; takes fields. */
static void send_message(const json_t *order, json_t *fields)
{
	if (!fields)
		abort();
	json_object_set(fields, "id", json_object_get(order, "id"));
	if (!gone && frame_send(WORKER_FD_ORDERS, fields) < 0) {
		if (errno != EPIPE && errno != ECONNRESET)
			perror("venvd-worker: cannot answer");
		gone = true;
	}
	json_decref(fields);
}

void talk_frame(const json_t *order, const char *kind, json_t *fields)
{
	json_object_set_new(fields, "frame", json_string(kind));
	send_message(order, fields);
}

void talk_progress(const json_t *order, const char *stage)
{
	talk_frame(order, "progress", json_pack("{ss}", "stage", stage));
}

void talk_answer(const json_t *order, json_t *fields)
{
	if (!fields)
		fields = json_object();
	json_object_set_new(fields, "done", json_true());
	send_message(order, fields);
}

void talk_fail(const json_t *order, struct failure *f)
{
	json_t *parameters = f->parameters ? json_incref(f->parameters) : json_object();
	send_message(order, json_pack("{sbsbssso}", "done", 1, "syncFailed", f->sync_failed, "error",
	    error_name(f->code), "parameters", parameters));
}

void talk_unpack(json_t *order, const char *fmt, ...)
{
	json_error_t error;
	va_list ap;
	va_start(ap, fmt);
	int r = json_vunpack_ex(order, &error, 0, fmt, ap);
	va_end(ap);
	if (r < 0)
		bad(error.text);
}

void talk_positive(int number)
{
	if (number <= 0)
		bad("a number in an order is not positive");
}

void talk_absolute(const char *path)
{
	if (!path || path[0] != '/')
		bad("a path in an order is not absolute");
}

int talk_reserved(const json_t *order, json_t *fields, struct failure *f)
{
	json_int_t id;
	int go;
	talk_frame(order, "reserved", fields);
	json_auto_t *message = talk_next(true);
	if (!message)
		return failure_gone(f);
	talk_unpack(message, "{s:I, s:b}", "id", &id, "go", &go);
	return go ? 0 : failure_gone(f);
}

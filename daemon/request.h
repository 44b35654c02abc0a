/* SPDX-License-Identifier: MIT */
/*
 * One call's life: it is answered exactly once, by whoever holds it then, and is gone with the answer.
 * It does not know the server: answers go through a sink. When its client goes first, what is said to
 * it is dropped in one place, here.
 */
#ifndef VENVD_REQUEST_H
#define VENVD_REQUEST_H
#include <sys/queue.h>

#include "message.h"

struct venvd;
struct request;

struct request_sink {
	void (*send)(void *conn, const struct text *frames);
	void (*answered)(void *conn);   /* the last frame was sent; the request is being freed */
	void (*wake)(void *conn);       /* there is something to be pulled again */
};

/* Appends some frames of a stream, about LIMIT_STREAM_TURN bytes of them, or none if it only went on
 * looking; true = the last one is among them. */
typedef bool request_stream_fn(struct request *, void *state, struct text *out);

struct request {
	struct venvd *venvd;
	struct call call;               /* owned */
	json_t *parameters;             /* an object, never NULL; borrowed from call, or owned_empty */
	json_t *owned_empty;
	const struct request_sink *sink;
	char displaced[17];             /* id of the one that is missing, and gave its name up for this call; "" (nameless.h) */
	int caller_pid;                 /* of the process that connected; it may be gone; 0: unknown */
	void *conn;                     /* NULL: nobody listens (oneway, or gone) */
	request_stream_fn *stream;
	void *stream_state;
	void (*stream_free)(void *);
	void (*gone)(struct request *, void *arg);
	void *gone_arg;
	TAILQ_ENTRY(request) entry;     /* of whoever parks it */
};
TAILQ_HEAD(request_list, request);

/* Takes the call's contents. conn NULL for a oneway call. */
struct request *request_new(struct venvd *, struct call *, const struct request_sink *, void *conn);

/* Each ends the request. parameters: taken, may be NULL for {}. */
void request_reply(struct request *, json_t *parameters);
void request_error(struct request *, enum error_code, json_t *parameters);
void request_invalid(struct request *, const char *parameter);
/* One more reply before the last; nothing unless the call had `more`. Takes parameters. */
void request_progress(struct request *, json_t *parameters);
/* From now on the server pulls frames from fn; state is freed with the request. */
void request_stream(struct request *, request_stream_fn *fn, void *state, void (*free_state)(void *));
/* Within fn: there is nothing for now, and until it is resumed fn is not asked. A paused one is freed like a running one. */
void request_stream_pause(struct request *);
void request_stream_resume(struct request *, request_stream_fn *fn);
/* For the server: one turn of the stream; true when the request has ended. */
bool request_stream_turn(struct request *);

/* For the server: the client is gone for good (tell: it may cancel) or will only never read (no tell). */
void request_orphan(struct request *, bool tell);
/* Who parks a request is told when its client closes the connection. NULL takes it back. */
void request_on_gone(struct request *, void (*gone)(struct request *, void *), void *arg);

/* Typed parameters, already checked against the IDL; NULL / the default when absent. Borrowed. */
const char *request_string(const struct request *, const char *name);
bool request_bool(const struct request *, const char *name);
const json_t *request_value(const struct request *, const char *name);
#endif

/* SPDX-License-Identifier: MIT */
/*
 * See request.h. A request belongs to its connection until a method parks it with an operation; both may
 * point at it, and only its answer frees it. A oneway call has no connection from the start, so its
 * answers vanish here, like those to a client that left.
 */
#include <assert.h>

#include "request.h"

struct request *request_new(struct venvd *v, struct call *call, const struct request_sink *sink, void *conn)
{
	struct request *r = xcalloc(1, sizeof(*r));
	r->venvd = v;
	r->call = *call;
	*call = (struct call){ 0 };
	if (r->call.parameters == NULL)
		r->owned_empty = json_object();
	r->parameters = r->call.parameters != NULL ? r->call.parameters : r->owned_empty;
	r->sink = sink;
	r->conn = conn;
	return r;
}

static void request_free(struct request *r)
{
	if (r->stream_free != NULL)
		r->stream_free(r->stream_state);
	json_decref(r->owned_empty);
	call_done(&r->call);
	free(r);
}

static void request_finish(struct request *r, const struct text *frames)
{
	if (r->conn != NULL) {
		r->sink->send(r->conn, frames);
		r->sink->answered(r->conn);
	}
	request_free(r);
}

void request_reply(struct request *r, json_t *parameters)
{
	_cleanup_text_ struct text frame = { 0 };
	reply_add(&frame, parameters, false);
	json_decref(parameters);
	request_finish(r, &frame);
}

void request_error(struct request *r, enum error_code code, json_t *parameters)
{
	_cleanup_text_ struct text frame = { 0 };
	reply_add_error(&frame, code, parameters);
	json_decref(parameters);
	request_finish(r, &frame);
}

void request_invalid(struct request *r, const char *parameter)
{
	request_error(r, ERROR_INVALID_PARAMETER, json_pack("{s:s}", "parameter", parameter));
}

void request_progress(struct request *r, json_t *parameters)
{
	if (r->call.more && r->conn != NULL) {
		_cleanup_text_ struct text frame = { 0 };
		reply_add(&frame, parameters, true);
		r->sink->send(r->conn, &frame);
	}
	json_decref(parameters);
}

void request_stream(struct request *r, request_stream_fn *fn, void *state, void (*free_state)(void *))
{
	r->stream_state = state;
	r->stream_free = free_state;
	r->stream = fn;
	if (r->conn == NULL)
		request_free(r);        /* a oneway list: nobody would pull it */
}

void request_stream_pause(struct request *r)
{
	r->stream = NULL;
}

void request_stream_resume(struct request *r, request_stream_fn *fn)
{
	r->stream = fn;
	r->sink->wake(r->conn);
}

bool request_stream_turn(struct request *r)
{
	_cleanup_text_ struct text frames = { 0 };
	if (r->stream(r, r->stream_state, &frames)) {
		request_finish(r, &frames);
		return true;
	}
	if (frames.len > 0)
		r->sink->send(r->conn, &frames);
	return false;
}

void request_orphan(struct request *r, bool tell)
{
	r->conn = NULL;
	if (r->stream_state != NULL)
		request_free(r);
	else if (tell && r->gone != NULL)
		r->gone(r, r->gone_arg);
}

void request_on_gone(struct request *r, void (*gone)(struct request *, void *), void *arg)
{
	r->gone = gone;
	r->gone_arg = arg;
}

const json_t *request_value(const struct request *r, const char *name)
{
	json_t *value = json_object_get(r->parameters, name);
	return json_is_null(value) ? NULL : value;
}

const char *request_string(const struct request *r, const char *name)
{
	return json_string_value(json_object_get(r->parameters, name));
}

bool request_bool(const struct request *r, const char *name)
{
	return json_is_true(json_object_get(r->parameters, name));
}

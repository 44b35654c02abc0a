/* SPDX-License-Identifier: MIT */
/*
 * Between a verb and the wire. It decides what happens when no daemon is there (start one that
 * stays, start one that only looks, or none), and when one goes away in the middle of a call: a
 * call is repeated once, on a new connection, if the verb says that this is harmless (it only
 * reads, or it carries a requestId), and no reply of it was handed out yet. A daemon that answers
 * ShuttingDown has changed nothing, so such a call is always repeated, after that daemon has
 * closed the connection.
 *
 * It says only what concerns reaching a daemon; what an answer means is for messages.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include "bounds.h"
#include "find.h"
#include "paths.h"
#include "session.h"
#include "start.h"
#include "talk.h"
#include "util.h"
#include "venvctl.h"

int session_say_absent(void)
{
	_cleanup_free_ char *quoted = talk_quote(settings_root());
	talk_error("no venvd is running for '%s'", settings_root());
	talk_hint("venvd --root %s", quoted);
	return EXIT_UNREACHABLE;
}

static int report_connect(int why, int64_t stranger)
{
	const char *where = settings.socket ? settings.socket : settings_root();
	if (why == EPERM && stranger >= 0) {
		talk_error("the socket for '%s' is served by user %lld", where, (long long)stranger);
		return EXIT_PERMISSION;
	}
	if (why == EAGAIN) {
		talk_error("venvd for '%s' does not accept connections", where);
		return EXIT_TIMED_OUT;
	}
	talk_error("cannot connect to venvd for '%s': %s", where, strerror(why));
	return why == EACCES || why == EPERM ? EXIT_PERMISSION : EXIT_UNREACHABLE;
}

int session_open(struct session *s, enum session_need need)
{
	*s = (struct session){ .wire.fd = -1, .need = need };
	for (bool started = false;; started = true) {
		int64_t stranger = -1;
		int fd = find_connect(false, &stranger);
		if (fd >= 0) {
			call_init(&s->wire, fd);
			return 0;
		}
		if (errno != ENOENT)
			return report_connect(errno, stranger);
		if (need == SESSION_RUNNING) {
			s->absent = true;
			return EXIT_UNREACHABLE;
		}
		if (started || settings.no_start)
			return session_say_absent();
		if (need == SESSION_READ && !find_state_exists()) {
			fd = start_looking(&s->looking);
			if (fd < 0)
				return EXIT_UNREACHABLE;
			call_init(&s->wire, fd);
			return 0;
		}
		int status = start_daemon();
		if (status != 0)
			return status;
	}
}

void session_close(struct session *s)
{
	call_close(&s->wire);
}

void answer_done(struct answer *a)
{
	free(a->error_name);
	json_decref(a->parameters);
	*a = (struct answer){ 0 };
}

const char *json_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* Reads one frame that may be the last; *ret_more if it says that another one follows. */
static enum call_end answer_read(const char *text, size_t len, struct answer *ret, bool *ret_more)
{
	json_auto_t *reply = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(reply))
		return CALL_GARBLED;
	const char *error = json_text(reply, "error");
	if (error) {
		ret->error = error_from_name(error);
		ret->error_name = xstrdup(error);
	}
	*ret_more = !error && json_is_true(json_object_get(reply, "continues"));
	json_t *parameters = json_object_get(reply, "parameters");
	json_decref(ret->parameters);
	ret->parameters = json_is_object(parameters) ? json_incref(parameters) : json_object();
	return CALL_OK;
}

/* One try. *ret_handed: a reply was given to the caller already. */
static enum call_end call_once(struct session *s, const struct request *q, struct answer *ret,
                               bool *ret_handed)
{
	int wait_ms = q->wait_ms ? q->wait_ms : LIMIT_CALL_MS;
	s->wire.wait_ms = q->first_ms ? q->first_ms : wait_ms;
	enum call_end end = call_send(&s->wire, q->method, q->parameters, q->more);
	while (end == CALL_OK) {
		const char *text;
		size_t len;
		end = call_frame(&s->wire, &text, &len);
		if (end != CALL_OK)
			break;
		s->wire.wait_ms = wait_ms;
		bool more = q->more && call_continues(text, len);
		if (!more)
			end = answer_read(text, len, ret, &more);
		if (end != CALL_OK || ret->error != ERROR_NONE)
			break;
		if (q->each) {
			*ret_handed = true;
			q->each(q->arg, text, len);
		}
		if (!more)
			break;
	}
	return end;
}

bool session_call(struct session *s, const struct request *q, struct answer *ret)
{
	*ret = (struct answer){ 0 };
	bool handed = false, again = false;
	for (;;) {
		s->wire.until_us = 0;
		if (settings.timeout_ms > 0)
			s->wire.until_us = monotonic_us() + settings.timeout_ms * 1000;
		ret->end = s->wire.fd < 0 ? CALL_GONE : call_once(s, q, ret, &handed);
		bool ending = ret->end == CALL_OK && ret->error == ERROR_SHUTTING_DOWN;
		bool gone = ret->end == CALL_GONE && q->repeatable;
		if (again || handed || s->looking || !(ending || gone))
			break;
		if (ending && call_wait_close(&s->wire) != CALL_OK)
			break;
		call_close(&s->wire);
		struct session fresh;
		if (session_open(&fresh, s->need) != 0)
			break;
		fresh.wire.interrupted = s->wire.interrupted;
		fresh.wire.waiting = s->wire.waiting;
		*s = fresh;
		answer_done(ret);
		again = true;
	}
	return ret->end == CALL_OK && ret->error == ERROR_NONE;
}

bool session_change(struct session *s, const char *method, json_t *parameters, int wait_ms, struct answer *ret)
{
	char id[17];
	id_new(id);
	json_object_set_new(parameters, "requestId", json_string(id));
	struct request q = { .method = method, .parameters = parameters, .repeatable = true,
	                     .wait_ms = wait_ms };
	return session_call(s, &q, ret);
}

bool session_get(struct session *s, const char *name, struct answer *ret)
{
	json_auto_t *parameters = json_pack("{s:s}", "name", name);
	if (!parameters) {
		*ret = (struct answer){ .error = ERROR_NO_SUCH_ENVIRONMENT };
		return false;
	}
	struct request q = { .method = "Get", .parameters = parameters, .repeatable = true };
	return session_call(s, &q, ret);
}

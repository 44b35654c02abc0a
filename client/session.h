/* SPDX-License-Identifier: MIT */
/* A verb's dealings with the daemon: found or started, asked, asked again if it went away. */
#ifndef VENVCTL_SESSION_H
#define VENVCTL_SESSION_H
#include <jansson.h>
#include <sys/types.h>
#include "call.h"
#include "errors.h"

enum session_need {
	SESSION_RUNNING,        /* never starts one */
	SESSION_READ,           /* starts one; where venvd keeps nothing yet, one that only looks */
	SESSION_CHANGE          /* starts one */
};

struct session {
	struct wire wire;
	enum session_need need;
	pid_t looking;          /* the daemon that serves only us; 0 if it is a common one */
	bool absent;            /* none was running (SESSION_RUNNING) */
};
#define _cleanup_session_ __attribute__((cleanup(session_close)))
#define SESSION_CLOSED { .wire.fd = -1 }

/* 0, or the exit status, with everything said; SESSION_RUNNING without one: EXIT_UNREACHABLE,
 * absent is set and nothing is said. */
int session_open(struct session *, enum session_need);
void session_close(struct session *);
/* Says that no daemon serves the root; EXIT_UNREACHABLE. */
int session_say_absent(void);

struct request {
	const char *method;
	json_t *parameters;     /* borrowed; or NULL */
	bool more;
	bool repeatable;        /* may be sent a second time when the daemon went away unanswered */
	int wait_ms;            /* the silence that is borne; 0: LIMIT_CALL_MS */
	int first_ms;           /* ... before the first reply; 0: wait_ms */
	/* Each reply of a series, and the last one, as it stands on the wire; or NULL. */
	void (*each)(void *arg, const char *text, size_t len);
	void *arg;
};

struct answer {
	enum call_end end;              /* CALL_OK: there is an answer */
	enum error_code error;          /* ERROR_NONE: a good one */
	char *error_name;               /* owned; as it stood on the wire */
	json_t *parameters;             /* owned; of the last reply, never NULL with CALL_OK */
};
#define _cleanup_answer_ __attribute__((cleanup(answer_done)))
void answer_done(struct answer *);

/* Asks; true if a good answer came. *ret is filled always (answer_done). Says nothing. */
bool session_call(struct session *, const struct request *, struct answer *ret);

/* A change that happens once, however often it has to be sent: adds a requestId to parameters. wait_ms as in request. */
bool session_change(struct session *, const char *method, json_t *parameters, int wait_ms, struct answer *ret);

/* One name in, one answer out: Get, repeatable. */
bool session_get(struct session *, const char *name, struct answer *ret);

/* A string among parameters, or NULL. Borrowed. */
const char *json_text(const json_t *object, const char *key);
#endif

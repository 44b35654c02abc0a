/* SPDX-License-Identifier: MIT */
/*
 * venvctl restart and shutdown. The daemon answers Shutdown at once and then finishes what it has
 * acknowledged; that it is gone is known when it closes the connection, so that is what both wait
 * for.
 *
 * shutdown never starts a daemon to stop it, but for --purge, which the daemon itself must do: it
 * alone knows that nobody writes there. A purge empties the trash for good, so it asks if there is
 * something in it.
 */
#include "bounds.h"
#include "find.h"
#include "messages.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

/* 0 when the daemon at the other end is gone. */
static int stop(struct session *s, bool purge)
{
	json_auto_t *parameters = purge ? json_pack("{s:b}", "purge", 1) : NULL;
	struct request q = { .method = "Shutdown", .parameters = parameters,
	                     .wait_ms = purge ? LIMIT_CREATE_MS : 0 };
	_cleanup_answer_ struct answer a;
	if (!session_call(s, &q, &a)) {
		/* One that is ending anyway may not answer; a purge must be confirmed. */
		if (purge || a.end != CALL_GONE)
			return messages_report(s, &a, NULL);
		return EXIT_DONE;
	}
	enum call_end end = call_wait_close(&s->wire);
	if (end == CALL_OK)
		return EXIT_DONE;
	struct answer late = { .end = end };
	return messages_report(s, &late, NULL);
}

int cmd_restart(int argc, char **argv)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 0, 0);
	if (settings.no_start_given)
		usage_error("restart must start a daemon, and --no-start forbids it");
	settings.no_start = false;

	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_RUNNING);
	bool ran = status == EXIT_DONE;
	if (status != EXIT_DONE && !s.absent)
		return status;
	status = ran ? stop(&s, false) : EXIT_DONE;
	session_close(&s);
	/* What was started is said below, once. */
	bool quiet = settings.quiet;
	settings.quiet = true;
	if (status == EXIT_DONE)
		status = session_open(&s, SESSION_CHANGE);
	settings.quiet = quiet;
	if (status != EXIT_DONE)
		return status;
	struct request q = { .method = "Status", .repeatable = true };
	_cleanup_answer_ struct answer a;
	if (!session_call(&s, &q, &a))
		return messages_report(&s, &a, NULL);
	talk_say("%s venvd %s (pid %lld)", ran ? "restarted" : "started",
	         json_text(a.parameters, "version"),
	         (long long)json_integer_value(json_object_get(a.parameters, "pid")));
	return EXIT_DONE;
}

static void count_cb(void *arg, const char *text, size_t len)
{
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	if (json_object_get(parameters, "environment"))
		++*(size_t *)arg;
}

static int count_trash(struct session *s, size_t *ret)
{
	*ret = 0;
	json_auto_t *parameters = json_pack("{s:[s]}", "fields", "name");
	struct request q = { .method = "ListTrash", .parameters = parameters, .more = true, .repeatable = true,
	                     .each = count_cb, .arg = ret };
	_cleanup_answer_ struct answer a;
	return session_call(s, &q, &a) ? EXIT_DONE : messages_report(s, &a, NULL);
}

/* EXIT_DONE if the purge may go on. */
static int confirm_purge(struct session *s, size_t asked)
{
	size_t count;
	int status = count_trash(s, &count);
	/* What came while the question stood was not asked about. */
	if (status != EXIT_DONE || count <= asked || settings.yes)
		return status;
	if (!talk_can_ask()) {
		talk_error("the trash holds %zu environment%s, and there is nobody to ask", count,
		           count == 1 ? "" : "s");
		talk_hint("venvctl shutdown --purge -y");
		return EXIT_USAGE;
	}
	_cleanup_free_ char *question = xasprintf(
		"remove venvd's own files, and %zu environment%s in the trash for good?", count,
		count == 1 ? "" : "s");
	if (talk_ask(question))
		return confirm_purge(s, count);
	talk_say("nothing was removed");
	return EXIT_REFUSED;
}

int cmd_shutdown(int argc, char **argv)
{
	static const struct option options[] = { { "purge", no_argument, NULL, 'p' }, { 0 } };
	bool purge = false;
	while (verb_option(argc, argv, "", options) != -1)
		purge = true;
	verb_arguments(argc, argv, 0, 0);

	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_RUNNING);
	if (status != EXIT_DONE && s.absent) {
		if (!purge || !find_state_exists()) {
			talk_say("no venvd is running for '%s'", settings_root());
			return EXIT_DONE;
		}
		status = session_open(&s, SESSION_CHANGE);
	}
	if (status == EXIT_DONE && purge)
		status = confirm_purge(&s, 0);
	if (status == EXIT_DONE)
		status = stop(&s, purge);
	if (status == EXIT_DONE)
		talk_say(purge ? "stopped venvd and removed its files; every environment stays"
		               : "stopped venvd");
	return status;
}

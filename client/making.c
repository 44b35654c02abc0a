/* SPDX-License-Identifier: MIT */
/*
 * A creation, seen from outside. It is asked for with 'more', so that a terminal can watch the stages, and
 * without a requestId, because a call that carries one is not cancelled by closing its connection, and ^C
 * must cancel.
 *
 * ^C sets a flag that only a wait lets in; the connection is then closed, which is the cancel, and
 * a second connection is asked what came of it: the creation may have been finished in that
 * moment. Only then is it known what may be said. A second ^C ends the program at once.
 */
#include <signal.h>
#include <string.h>
#include "bounds.h"
#include "caller.h"
#include "making.h"
#include "messages.h"
#include "names.h"
#include "talk.h"
#include "venvctl.h"

static volatile sig_atomic_t interrupted;
static sigset_t waiting;                /* the mask while the wire waits; it keeps pointing here */

static void interrupt_handler(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

/* From here on SIGINT waits until the wire waits. */
static void interrupt_watch(struct wire *w)
{
	struct sigaction action = { .sa_handler = interrupt_handler,
	                            .sa_flags = (int)SA_RESETHAND };
	struct sigaction before;
	/* Who started us with SIGINT ignored (nohup, a background job) wants it ignored. */
	if (sigaction(SIGINT, NULL, &before) < 0 || before.sa_handler == SIG_IGN)
		return;
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, &waiting);
	sigdelset(&waiting, SIGINT);
	sigaction(SIGINT, &action, NULL);
	w->interrupted = &interrupted;
	w->waiting = &waiting;
}

/* Each as it stands behind "creating 'x': ". */
static char *stage_words(const char *stage, const json_t *parameters)
{
	static const struct { const char *stage, *words; } stages[] = {
		{ "queued", "waiting for its turn" },
		{ "interpreter", "asking the interpreter" },
		{ "resolve", "asking the interpreter" },
		{ "fill", "preparing another copy" },
		{ "reserve", "reserving the name" },
		{ "copy", "copying" },
		{ "build", "running python -m venv" },
		{ "sync", "writing to the disk" },
	};
	for (size_t i = 0; i < ARRAY_LENGTH(stages); i++)
		if (strcmp(stages[i].stage, stage) == 0)
			return xstrdup(stages[i].words);
	if (strcmp(stage, "image") != 0)
		return xstrdup(stage);
	const char *version = json_text(json_object_get(parameters, "environment"), "version");
	return version ? xasprintf("preparing Python %s (first use)", version)
	               : xstrdup("preparing this Python (first use)");
}

static void progress_cb(void *arg, const char *text, size_t len)
{
	const struct making *m = arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	const char *stage = json_text(parameters, "stage");
	if (!stage)
		return;
	_cleanup_free_ char *words = stage_words(stage, parameters);
	const json_t *percent = json_object_get(parameters, "percent");
	_cleanup_free_ char *done = json_is_integer(percent)
		? xasprintf(" %lld%%", (long long)json_integer_value(percent)) : xstrdup("");
	_cleanup_free_ char *line = xasprintf("%s '%s': %s%s ...", m->doing, m->name, words, done);
	talk_progress(line);
}

/* text as a name: what may not stand in one is a '-', none of them at the ends. Owned, NULL if nothing is left. */
static char *name_from(const char *text, size_t len)
{
	char *name = xstrndup(text, len), *out = name;
	for (const char *s = name; *s; s++) {
		char one[] = { 'a', *s, '\0' };
		bool fit = name_rule_broken(one) == NULL && *s != '-';
		bool first = out == name;
		if (fit && !(first && *s == '.'))
			*out++ = *s;
		else if (!first && out[-1] != '-')
			*out++ = '-';
	}
	while (out > name && (out[-1] == '-' || out[-1] == '.' || out - name > LIMIT_NAME_BYTES))
		out--;
	*out = '\0';
	if (*name && !name_rule_broken(name))
		return name;
	free(name);
	return NULL;
}

/* Whether a directory of this name is called so for what it is, and not for what it is for. */
static bool says_nothing(const char *base)
{
	static const char *const usual[] = { "venv", "env", "virtualenv" };
	for (size_t i = 0; i < ARRAY_LENGTH(usual); i++)
		if (strcmp(base, usual[i]) == 0)
			return true;
	return base[0] == '.';
}

/* The project is the directory that holds one called .venv; else the environment's own name is taken. */
char *making_name(const char *path)
{
	const char *base = strrchr(path, '/') + 1;
	if (!says_nothing(base))
		return name_from(base, strlen(base));
	const char *end = base - 1, *start = end;
	while (start > path && start[-1] != '/')
		start--;
	return name_from(start, (size_t)(end - start));
}

void making_add_text(json_t *parameters, const char *key, const char *text)
{
	if (text && json_object_set_new(parameters, key, json_string(text)) < 0)
		usage_error("'%s' is not UTF-8", text);
}

void making_add_python(json_t *parameters, const char *const *python)
{
	making_add_text(parameters, "python", python[0]);
	if (python[0] && python[1]) {
		json_t *others = json_array();
		for (size_t i = 1; python[i]; i++)
			if (json_array_append_new(others, json_string(python[i])) < 0)
				usage_error("'%s' is not UTF-8", python[i]);
		json_object_set_new(parameters, "pythonAlternatives", others);
	}
	json_object_set_new(parameters, "caller", caller_new());
}

/* What became of it is asked on a connection of its own; the one that was closed cannot say. */
static void say_cancelled(struct session *s, const struct making *m)
{
	session_close(s);
	int status = session_open(s, SESSION_RUNNING);
	_cleanup_answer_ struct answer a = { 0 };
	bool there = status == 0 && session_get(s, m->name, &a);
	const char *state = json_text(json_object_get(a.parameters, "environment"), "state");
	/* One that is made anew is there all the time. */
	if (strcmp(m->done, "created") != 0)
		talk_say("cancelled; see 'venvctl show %s' for what '%s' is now", m->name, m->name);
	else if (there && state && strcmp(state, "creating") != 0)
		talk_say("'%s' was already created", m->name);
	else if (there)
		talk_say("cancelled '%s'; what was made of it is being removed", m->name);
	else if (a.error == ERROR_NO_SUCH_ENVIRONMENT)
		talk_say("cancelled '%s'; nothing remains", m->name);
	else
		talk_say("cancelled '%s'", m->name);
}

bool making_ask(struct session *s, const struct making *m, const char *method, json_t *parameters,
                struct answer *ret, int *ret_status)
{
	interrupt_watch(&s->wire);
	struct making mine = *m;
	struct request q = { .method = method, .parameters = parameters, .more = true,
	                     .first_ms = LIMIT_CALL_MS,
	                     .wait_ms = LIMIT_CREATE_MS + LIMIT_CALL_MS, .each = progress_cb,
	                     .arg = &mine };
	bool good = session_call(s, &q, ret);
	talk_progress(NULL);
	*ret_status = -1;
	if (!good && ret->end == CALL_INTERRUPTED) {
		sigprocmask(SIG_SETMASK, &waiting, NULL);
		say_cancelled(s, m);
		*ret_status = EXIT_INTERRUPTED;
	}
	return good;
}

void making_say(const struct making *m, const json_t *parameters)
{
	const json_t *environment = json_object_get(parameters, "environment");
	const char *version = json_text(environment, "version");
	const char *interpreter = json_text(environment, "interpreter");
	const char *reason = json_text(parameters, "interpreterReason");
	const char *path = m->show_path ? json_text(environment, "path") : NULL;
	_cleanup_text_ struct text why = { 0 };
	if (interpreter)
		text_addf(&why, " (%s%s%s)", interpreter, reason ? ", " : "", reason ? reason : "");
	messages_warnings(parameters);
	talk_say("%s '%s'%s%s with Python %s%s", m->done, m->name, path ? " in " : "", path ? path : "",
	         version ? version : "of unknown version", why.data ? why.data : "");
}

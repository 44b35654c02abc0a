/* SPDX-License-Identifier: MIT */
/*
 * venvctl create. Asks with 'more', so that a terminal can watch the stages; sends no requestId,
 * because a call that carries one is not cancelled by closing its connection, and ^C must cancel.
 *
 * ^C sets a flag that only a wait lets in; the connection is then closed, which is the cancel, and
 * a second connection is asked what came of it: the creation may have been finished in that
 * moment. Only then is it known what may be said. A second ^C ends the program at once.
 *
 * --exist-ok turns AlreadyExists into success if what exists is what would have been made.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include "bounds.h"
#include "caller.h"
#include "messages.h"
#include "names.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

struct create {
	const char *name;
	const char *python;
	const char *prompt;
	bool without_pip;
	bool system_site_packages;
	bool exist_ok;
};

static volatile sig_atomic_t interrupted;

static void interrupt_handler(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

/* From here on SIGINT waits until the wire waits. */
static void interrupt_watch(struct wire *w, sigset_t *waiting)
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
	sigprocmask(SIG_BLOCK, &block, waiting);
	sigdelset(waiting, SIGINT);
	sigaction(SIGINT, &action, NULL);
	w->interrupted = &interrupted;
	w->waiting = waiting;
}

static void progress_cb(void *arg, const char *text, size_t len)
{
	static const struct { const char *stage, *words; } stages[] = {
		{ "queued", "waiting for its turn" },
		{ "interpreter", "asking the interpreter" },
		{ "reserve", "reserving the name" },
		{ "build", "running python -m venv" },
		{ "sync", "writing to the disk" },
	};
	const struct create *c = arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	const char *stage = json_text(parameters, "stage");
	if (!stage)
		return;
	for (size_t i = 0; i < ARRAY_LENGTH(stages); i++)
		if (strcmp(stages[i].stage, stage) == 0)
			stage = stages[i].words;
	const json_t *percent = json_object_get(parameters, "percent");
	_cleanup_free_ char *done = json_is_integer(percent)
		? xasprintf(" %lld%%", (long long)json_integer_value(percent)) : xstrdup("");
	_cleanup_free_ char *line = xasprintf("creating '%s': %s%s ...", c->name, stage, done);
	talk_progress(line);
}

static json_t *parameters_new(const struct create *c)
{
	json_t *p = json_object();
	json_object_set_new(p, "name", json_string(c->name));
	if (c->python && json_object_set_new(p, "python", json_string(c->python)) < 0)
		usage_error("'%s' is not UTF-8", c->python);
	if (c->without_pip)
		json_object_set_new(p, "withoutPip", json_true());
	if (c->system_site_packages)
		json_object_set_new(p, "systemSitePackages", json_true());
	if (c->prompt && json_object_set_new(p, "prompt", json_string(c->prompt)) < 0)
		usage_error("'%s' is not UTF-8", c->prompt);
	json_object_set_new(p, "caller", caller_new());
	return p;
}

/* The path for whoever reads stdout; on a terminal the words on stderr are enough. */
static void print_path(const json_t *environment)
{
	const char *path = json_text(environment, "path");
	if (!path || talk_terminal(STDOUT_FILENO))
		return;
	_cleanup_text_ struct text out = { 0 };
	text_addf(&out, "%s\n", path);
	talk_out(&out);
}

static int report_created(const struct create *c, const json_t *parameters)
{
	const json_t *environment = json_object_get(parameters, "environment");
	const char *version = json_text(environment, "version");
	const char *interpreter = json_text(environment, "interpreter");
	const char *reason = json_text(parameters, "interpreterReason");
	_cleanup_text_ struct text why = { 0 };
	if (interpreter)
		text_addf(&why, " (%s%s%s)", interpreter, reason ? ", " : "", reason ? reason : "");
	talk_say("created '%s' with Python %s%s", c->name, version ? version : "of unknown version",
	         why.data ? why.data : "");
	print_path(environment);
	return EXIT_DONE;
}

/* What became of it is asked on a connection of its own; the one that was closed cannot say. */
static int report_cancelled(struct session *s, const struct create *c)
{
	talk_progress(NULL);
	session_close(s);
	int status = session_open(s, SESSION_RUNNING);
	_cleanup_answer_ struct answer a = { 0 };
	bool there = status == 0 && session_get(s, c->name, &a);
	const char *state = json_text(json_object_get(a.parameters, "environment"), "state");
	if (there && state && strcmp(state, "creating") != 0)
		talk_say("'%s' was already created", c->name);
	else if (there)
		talk_say("cancelled '%s'; what was made of it is being removed", c->name);
	else if (a.error == ERROR_NO_SUCH_ENVIRONMENT)
		talk_say("cancelled '%s'; nothing remains", c->name);
	else
		talk_say("cancelled '%s'", c->name);
	return EXIT_INTERRUPTED;
}

/* "3", "3.12" or "3.12.1": digits and dots. */
static bool is_version(const char *python)
{
	return *python && strspn(python, "0123456789.") == strlen(python);
}

static bool version_fits(const char *wanted, const char *version)
{
	size_t len = strlen(wanted);
	while (len > 0 && wanted[len - 1] == '.')
		len--;
	return version && strncmp(wanted, version, len) == 0 &&
	       (version[len] < '0' || version[len] > '9');
}

/* The file that a path or a name on PATH stands for. Owned, or NULL. */
static char *resolve(const char *python)
{
	if (strchr(python, '/'))
		return realpath(python, NULL);
	for (const char *path = getenv("PATH"); path && *path;) {
		size_t len = strcspn(path, ":");
		_cleanup_free_ char *file = xasprintf("%.*s/%s", (int)len, path, python);
		if (len > 0 && access(file, X_OK) == 0)
			return realpath(file, NULL);
		path += len + (path[len] == ':');
	}
	return NULL;
}

static bool python_fits(const char *python, const json_t *environment)
{
	if (is_version(python))
		return version_fits(python, json_text(environment, "version"));
	const char *interpreter = json_text(environment, "interpreter");
	_cleanup_free_ char *wanted = resolve(python);
	_cleanup_free_ char *used = interpreter ? realpath(interpreter, NULL) : NULL;
	return wanted && used && strcmp(wanted, used) == 0;
}

/* A boolean that the daemon does not know cannot differ. */
static bool flag_fits(const json_t *environment, const char *key, bool wanted)
{
	const json_t *value = json_object_get(environment, key);
	return !json_is_boolean(value) || json_is_true(value) == wanted;
}

static void add_difference(struct text *out, const char *what)
{
	text_addf(out, "%s%s", out->len > 0 ? ", " : "", what);
}

/* What --exist-ok finds different between what exists and what was asked for. */
static void differences(const struct create *c, const json_t *environment, struct text *ret)
{
	const char *state = json_text(environment, "state");
	const char *prompt = json_text(environment, "prompt");
	if (!state || strcmp(state, "ready") != 0) {
		text_addf(ret, "it is %s", state ? state : "in no known state");
		return;
	}
	if (c->python && !python_fits(c->python, environment))
		add_difference(ret, "the interpreter");
	if (!flag_fits(environment, "pip", !c->without_pip))
		add_difference(ret, c->without_pip ? "it has pip" : "it has no pip");
	if (!flag_fits(environment, "systemSitePackages", c->system_site_packages))
		add_difference(ret, "system-site-packages");
	if (c->prompt ? !prompt || strcmp(prompt, c->prompt) != 0
	              : prompt && strcmp(prompt, c->name) != 0)
		add_difference(ret, "the prompt");
}

static int accept_existing(struct session *s, const struct create *c)
{
	_cleanup_answer_ struct answer a;
	if (!session_get(s, c->name, &a))
		return messages_report(s, &a, c->name);
	const json_t *environment = json_object_get(a.parameters, "environment");
	_cleanup_text_ struct text different = { 0 };
	differences(c, environment, &different);
	if (different.len > 0) {
		_cleanup_free_ char *quoted = talk_quote(c->name);
		talk_error("'%s' exists and differs: %s", c->name, different.data);
		talk_hint("venvctl show %s", quoted);
		return EXIT_EXISTS;
	}
	talk_say("'%s' exists already", c->name);
	print_path(environment);
	return EXIT_DONE;
}

static void read_options(int argc, char **argv, struct create *c)
{
	static const struct option options[] = {
		{ "python", required_argument, NULL, 'p' },
		{ "without-pip", no_argument, NULL, 'w' },
		{ "system-site-packages", no_argument, NULL, 's' },
		{ "prompt", required_argument, NULL, 'P' },
		{ "exist-ok", no_argument, NULL, 'e' },
		{ 0 },
	};
	for (int o; (o = verb_option(argc, argv, "p:", options)) != -1;) {
		if (o == 'p')
			c->python = optarg;
		else if (o == 'w')
			c->without_pip = true;
		else if (o == 's')
			c->system_site_packages = true;
		else if (o == 'P')
			c->prompt = optarg;
		else
			c->exist_ok = true;
	}
	verb_arguments(argc, argv, 1, 1);
	c->name = argv[optind];
}

int cmd_create(int argc, char **argv)
{
	struct create c = { 0 };
	read_options(argc, argv, &c);
	/* Before a daemon is started: a name that cannot be must not leave a root behind. */
	const char *rule = name_rule_broken(c.name);
	if (rule) {
		_cleanup_free_ char *shown = text_printable(c.name);
		json_auto_t *why = json_pack("{s:s, s:s}", "name", shown, "rule", rule);
		return messages_refuse(ERROR_INVALID_NAME, why);
	}
	json_auto_t *parameters = parameters_new(&c);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != 0)
		return status;
	sigset_t waiting;
	interrupt_watch(&s.wire, &waiting);
	struct request q = { .method = "Create", .parameters = parameters, .more = true,
	                     .first_ms = LIMIT_CALL_MS,
	                     .wait_ms = LIMIT_CREATE_MS + LIMIT_CALL_MS, .each = progress_cb,
	                     .arg = &c };
	_cleanup_answer_ struct answer a;
	bool good = session_call(&s, &q, &a);
	talk_progress(NULL);
	if (good)
		return report_created(&c, a.parameters);
	if (a.end == CALL_INTERRUPTED) {
		sigprocmask(SIG_SETMASK, &waiting, NULL);
		return report_cancelled(&s, &c);
	}
	if (a.end == CALL_OK && a.error == ERROR_ALREADY_EXISTS && c.exist_ok)
		return accept_existing(&s, &c);
	return messages_report(&s, &a, c.name);
}

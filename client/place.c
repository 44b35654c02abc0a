/* SPDX-License-Identifier: MIT */
/*
 * 'run' and 'path' must work when venvd is stopped, hung or uninstalled, because an environment
 * does. A running daemon is asked first, since it knows what a directory does not show (that it is
 * still being made); what it says is final. If none answers within a moment, the directory is the
 * answer.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "messages.h"
#include "names.h"
#include "place.h"
#include "session.h"
#include "talk.h"
#include "util.h"
#include "venvctl.h"
#include "find.h"

#define ANSWER_MS 500           /* a daemon that needs longer than this is not waited for */

void place_done(struct place *p)
{
	free(p->path);
	free(p->prompt);
}

/* By the rule by which venvd adopts. */
static bool is_environment(int root, const char *name)
{
	struct stat st;
	_cleanup_fd_ int fd = openat(root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	return fstatat(fd, "pyvenv.cfg", &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	       (fstatat(fd, "bin/python", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	        fstatat(fd, "bin/activate", &st, AT_SYMLINK_NOFOLLOW) == 0);
}

static int look(const char *name, struct place *ret)
{
	const char *rule = name_rule_broken(name);
	if (rule) {
		_cleanup_free_ char *shown = text_printable(name);
		json_auto_t *why = json_pack("{s:s, s:s}", "name", shown, "rule", rule);
		return messages_refuse(ERROR_INVALID_NAME, why);
	}
	_cleanup_fd_ int root = open(settings_root(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || !is_environment(root, name)) {
		talk_error("no environment '%s' in '%s'", name, settings_root());
		talk_hint("venvctl list");
		return EXIT_NOT_FOUND;
	}
	ret->path = xasprintf("%s/%s", settings_root(), name);
	return EXIT_DONE;
}

static int unfit(const char *name, const char *words)
{
	_cleanup_free_ char *quoted = talk_quote(name);
	talk_error("'%s' %s", name, words);
	talk_hint("venvctl show %s", quoted);
	return EXIT_REFUSED;
}

static int take_answer(const char *name, const struct answer *a, struct place *ret)
{
	const json_t *environment = json_object_get(a->parameters, "environment");
	const char *state = json_text(environment, "state"), *path = json_text(environment, "path");
	if (state && strcmp(state, "creating") == 0)
		return unfit(name, "is still being created");
	if (state && strcmp(state, "missing") == 0) {
		unfit(name, "is missing: its directory is gone");
		return EXIT_NOT_FOUND;
	}
	if (!path)
		return look(name, ret);
	ret->path = xstrdup(path);
	ret->prompt = xstrdup(json_text(environment, "prompt"));
	return EXIT_DONE;
}

int place_find(const char *name, struct place *ret)
{
	*ret = (struct place){ 0 };
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int64_t stranger;
	int fd = find_connect(true, &stranger);
	if (fd < 0)
		return look(name, ret);
	call_init(&s.wire, fd);
	json_auto_t *parameters = json_pack("{s:s}", "name", name);
	struct request q = { .method = "Get", .parameters = parameters, .wait_ms = ANSWER_MS };
	_cleanup_answer_ struct answer a = { .end = CALL_GONE };
	if (parameters && session_call(&s, &q, &a))
		return take_answer(name, &a, ret);
	if (a.end != CALL_OK || a.error == ERROR_SHUTTING_DOWN)
		return look(name, ret);
	return messages_report(&s, &a, name);
}

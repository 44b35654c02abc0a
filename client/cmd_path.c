/* SPDX-License-Identifier: MIT */
/*
 * venvctl path and activate: where an environment is, as a path and as a line for a shell. The
 * line is to be evaluated, so everything in it is quoted by the rules of the shell that will read
 * it, and nothing else is ever printed on stdout.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "messages.h"
#include "names.h"
#include "place.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

enum family { SHELL_NONE, SHELL_SH, SHELL_FISH, SHELL_CSH };

static const struct {
	const char *name;
	enum family family;
} shells[] = {
	{ "sh", SHELL_SH }, { "bash", SHELL_SH }, { "zsh", SHELL_SH }, { "dash", SHELL_SH },
	{ "ksh", SHELL_SH }, { "ksh93", SHELL_SH }, { "mksh", SHELL_SH }, { "ash", SHELL_SH },
	{ "busybox", SHELL_SH }, { "fish", SHELL_FISH }, { "csh", SHELL_CSH },
	{ "tcsh", SHELL_CSH },
};

int cmd_path(int argc, char **argv)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 1, 1);
	_cleanup_place_ struct place place;
	int status = place_find(argv[optind], &place);
	if (status != EXIT_DONE)
		return status;
	_cleanup_text_ struct text out = { 0 };
	text_addf(&out, "%s\n", place.path);
	talk_out(&out);
	return EXIT_DONE;
}

static enum family family_of(const char *name)
{
	const char *slash = strrchr(name, '/');
	const char *base = slash ? slash + 1 : name;
	for (size_t i = 0; i < ARRAY_LENGTH(shells); i++)
		if (strcmp(shells[i].name, base + (*base == '-')) == 0)
			return shells[i].family;
	return SHELL_NONE;
}

/* The parent is the shell of eval "$(...)"; $SHELL is only the one that the user logs in with. */
static enum family family_guess(void)
{
	char path[64], comm[64];
	snprintf(path, sizeof(path), "/proc/%ld/comm", (long)getppid());
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, comm, sizeof(comm) - 1);
	if (n > 0) {
		comm[n] = '\0';
		comm[strcspn(comm, "\n")] = '\0';
		enum family family = family_of(comm);
		if (family != SHELL_NONE)
			return family;
	}
	const char *shell = getenv("SHELL");
	enum family family = shell ? family_of(shell) : SHELL_NONE;
	return family != SHELL_NONE ? family : SHELL_SH;
}

static enum family family_given(const char *given)
{
	enum family family = family_of(given);
	if (family != SHELL_NONE)
		return family;
	const char *names[ARRAY_LENGTH(shells)];
	for (size_t i = 0; i < ARRAY_LENGTH(shells); i++)
		names[i] = shells[i].name;
	const char *meant = name_suggest(given, names, ARRAY_LENGTH(names));
	if (meant)
		usage_error("there is no line for the shell '%s'; did you mean '%s'?", given,
		            meant);
	usage_error("there is no line for the shell '%s', only for sh, bash, zsh, dash, ksh, fish, "
	            "csh and tcsh", given);
}

/* Adds word in single quotes, as the shell reads them. */
static void add_quoted(struct text *out, const char *word, enum family family)
{
	text_adds(out, "'");
	for (; *word; word++) {
		if (family == SHELL_FISH && (*word == '\'' || *word == '\\'))
			text_addf(out, "\\%c", *word);
		else if (*word == '\'')
			text_adds(out, "'\\''");
		else if (family == SHELL_CSH && *word == ' ')   /* of several, `...` would leave one */
			text_adds(out, "'\\ '");
		else if (family == SHELL_CSH && (*word == '!' || *word == '\n'))
			text_addf(out, "\\%c", *word);
		else
			text_add(out, word, 1);
	}
	text_adds(out, "'");
}

static void add_line(struct text *out, const char *path, enum family family)
{
	const char *suffix = family == SHELL_FISH ? ".fish" : family == SHELL_CSH ? ".csh" : "";
	_cleanup_free_ char *script = xasprintf("%s/bin/activate%s", path, suffix);
	text_adds(out, family == SHELL_SH ? ". " : "source ");
	add_quoted(out, script, family);
	text_adds(out, "\n");
}

static void say_how(const char *name, enum family family)
{
	_cleanup_free_ char *quoted = talk_quote(name);
	if (!talk_terminal(STDOUT_FILENO))
		return;
	_cleanup_free_ char *bare = xasprintf("venvctl activate %s", quoted);
	_cleanup_free_ char *command = talk_command(bare);
	if (family == SHELL_CSH)
		talk_say("to activate it in this shell: eval `%s`", command);
	else if (family == SHELL_FISH)
		talk_say("to activate it in this shell: %s | source", command);
	else
		talk_say("to activate it in this shell: eval \"$(%s)\"", command);
}

int cmd_activate(int argc, char **argv)
{
	static const struct option options[] = { { "shell", required_argument, NULL, 's' }, { 0 } };
	enum family family = SHELL_NONE;
	while (verb_option(argc, argv, "", options) != -1)
		family = family_given(optarg);
	verb_arguments(argc, argv, 1, 1);
	const char *name = argv[optind];
	if (family == SHELL_NONE)
		family = family_guess();

	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_READ);
	if (status != EXIT_DONE)
		return status;
	_cleanup_answer_ struct answer a;
	if (!session_get(&s, name, &a))
		return messages_report(&s, &a, name);
	const json_t *environment = json_object_get(a.parameters, "environment");
	const char *path = json_text(environment, "path"), *state = json_text(environment, "state");
	if (!path || !state || strcmp(state, "creating") == 0 || strcmp(state, "missing") == 0) {
		_cleanup_free_ char *quoted = talk_quote(name);
		talk_error("'%s' cannot be activated: it is %s", name, state ? state : "nowhere");
		talk_hint("venvctl show %s", quoted);
		return EXIT_REFUSED;
	}
	_cleanup_text_ struct text out = { 0 };
	add_line(&out, path, family);
	talk_out(&out);
	say_how(name, family);
	return EXIT_DONE;
}

/* SPDX-License-Identifier: MIT */
/*
 * venvctl: the command line of venvd. This room holds the table of verbs and the options that all
 * of them share; what a verb does is in its own file (cmd_*.c), which reads like its manual page:
 * options, one call, what is printed.
 *
 * The global options may stand before the verb or behind it. 'venvctl prompt' runs at every prompt
 * of every shell, so nothing is set up here that a verb might not need: no locale, no stdio, no
 * look at the file system; the root is worked out when a verb first asks for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "frame.h"
#include "names.h"
#include "paths.h"
#include "talk.h"
#include "util.h"
#include "verbs.h"
#include "venvctl.h"

#define OPTIONS_MAX 32
#define TIMEOUT_MAX_S 86400

struct settings settings;

static const struct verb *running;
static char *root;
static bool root_builtin;

enum {
	OPT_ROOT = 1000, OPT_SOCKET, OPT_NO_START, OPT_TIMEOUT, OPT_COLOR, OPT_NO_INPUT,
	OPT_VERSION
};

static const struct option global_options[] = {
	{ "root", required_argument, NULL, OPT_ROOT },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "no-start", no_argument, NULL, OPT_NO_START },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "color", required_argument, NULL, OPT_COLOR },
	{ "quiet", no_argument, NULL, 'q' },
	{ "yes", no_argument, NULL, 'y' },
	{ "no-input", no_argument, NULL, OPT_NO_INPUT },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, 'h' },
};

const char *settings_root_try(const char **ret_why)
{
	if (!root)
		root = path_root(settings.root_given, &root_builtin, ret_why);
	return root;
}

const char *settings_root(void)
{
	const char *why = NULL;
	if (!settings_root_try(&why)) {
		talk_error("%s", why);
		talk_hint("export VENVD_ROOT=DIRECTORY");
		exit(EXIT_REFUSED);
	}
	return root;
}

bool settings_root_builtin(void)
{
	settings_root();
	return root_builtin;
}

void usage_error(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *what = xvasprintf(fmt, ap);
	va_end(ap);
	talk_error("%s", what);
	free(what);
	if (running)
		talk_hint("venvctl help %s", running->name);
	else
		talk_hint("venvctl help");
	exit(running && running->fn == cmd_run ? EXIT_RUN_FAILED : EXIT_USAGE);
}

void verb_arguments(int argc, char **argv, int min, int max)
{
	int count = argc - optind;
	if (count < min)
		usage_error("too few arguments; usage: venvctl %s %s", running->name,
		            running->usage);
	if (max >= 0 && count > max)
		usage_error("unexpected argument '%s'", argv[optind + max]);
}

static int64_t parse_timeout(const char *text)
{
	char *end;
	errno = 0;
	double seconds = strtod(text, &end);
	if (errno || end == text || *end || !(seconds >= 0.001) || seconds > TIMEOUT_MAX_S)
		usage_error("--timeout takes seconds, more than 0 and at most %d, not '%s'",
		            TIMEOUT_MAX_S, text);
	return (int64_t)(seconds * 1000);
}

static enum color_when parse_color(const char *text)
{
	if (strcmp(text, "auto") == 0)
		return COLOR_AUTO;
	if (strcmp(text, "always") == 0)
		return COLOR_ALWAYS;
	if (strcmp(text, "never") == 0)
		return COLOR_NEVER;
	usage_error("--color takes auto, always or never, not '%s'", text);
}

static const char *socket_path(const char *given)
{
	char *path = *given ? path_absolute(given) : NULL;
	if (!path)
		usage_error("'%s' cannot be the path of a socket", given);
	return path;
}

static _Noreturn void show_version(void)
{
	_cleanup_text_ struct text out = { 0 };
	text_adds(&out, "venvctl " VENVD_VERSION "\n");
	talk_out(&out);
	exit(EXIT_DONE);
}

static _Noreturn void show_help(void)
{
	char *argv[] = { (char *)"help", running ? (char *)running->name : NULL, NULL };
	optind = 1;
	exit(cmd_help(running ? 2 : 1, argv));
}

/* True if the option was a global one. */
static bool global_option(int c)
{
	switch (c) {
	case OPT_ROOT:
		settings.root_given = optarg;
		return true;
	case OPT_SOCKET:
		settings.socket = socket_path(optarg);
		settings.socket_given = true;
		return true;
	case OPT_NO_START:
		settings.no_start = settings.no_start_given = true;
		return true;
	case OPT_TIMEOUT:
		settings.timeout_ms = parse_timeout(optarg);
		return true;
	case OPT_COLOR:
		settings.color = parse_color(optarg);
		return true;
	case OPT_NO_INPUT:
		settings.no_input = true;
		return true;
	case OPT_VERSION:
		show_version();
	case 'q':
		settings.quiet = true;
		return true;
	case 'y':
		settings.yes = true;
		return true;
	case 'h':
		show_help();
	default:
		return false;
	}
}

static _Noreturn void wrong_option(int c, char **argv)
{
	const char *word = argv[optind - 1];
	bool is_long = strncmp(word, "--", 2) == 0, has_value = is_long && strchr(word, '=');
	/* An unknown letter may stand in the middle of a word; all others end theirs. */
	bool letter = c == '?' && optopt > 0 && optopt < 256 && !has_value;
	_cleanup_free_ char *name = letter ? xasprintf("-%c", optopt)
	                                   : xstrndup(word, strcspn(word, "="));
	if (c == ':')
		usage_error("option '%s' needs a value", name);
	if (has_value && optopt)
		usage_error("option '%s' takes no value", name);
	usage_error("unknown option '%s'", name);
}

int verb_option(int argc, char **argv, const char *shorts, const struct option *longs)
{
	struct option all[OPTIONS_MAX] = { 0 };
	size_t n = 0;
	for (; longs && longs->name && n < OPTIONS_MAX - ARRAY_LENGTH(global_options) - 1; longs++)
		all[n++] = *longs;
	memcpy(all + n, global_options, sizeof(global_options));

	/* A leading ':' makes getopt tell a missing value from an unknown option. */
	bool stops = *shorts == '+';
	_cleanup_free_ char *letters = xasprintf("%s:qyh%s", stops ? "+" : "", shorts + stops);
	opterr = 0;
	for (;;) {
		int c = getopt_long(argc, argv, letters, all, NULL);
		if (c == '?' || c == ':')
			wrong_option(c, argv);
		if (!global_option(c))
			return c;
	}
}

const struct verb *verb_find(const char *name)
{
	size_t count;
	const struct verb *table = verb_table(&count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(table[i].name, name) == 0 ||
		    (table[i].alias && strcmp(table[i].alias, name) == 0))
			return &table[i];
	return NULL;
}

static int unknown_verb(const char *name)
{
	const char *names[64];
	size_t count, n = 0;
	const struct verb *table = verb_table(&count);
	for (size_t i = 0; i < count && n < ARRAY_LENGTH(names) - 1; i++) {
		names[n++] = table[i].name;
		if (table[i].alias)
			names[n++] = table[i].alias;
	}
	const char *meant = name_suggest(name, names, n);
	talk_error("there is no command '%s'", name);
	if (meant)
		talk_hint("venvctl %s", meant);
	else
		talk_hint("venvctl help");
	return EXIT_USAGE;
}

static void settings_from_environment(void)
{
	const char *socket = getenv("VENVD_SOCKET");
	if (socket && *socket)
		settings.socket = path_absolute(socket);
	const char *autostart = getenv("VENVD_AUTOSTART");
	settings.no_start = autostart && strcmp(autostart, "0") == 0;
}

int main(int argc, char **argv)
{
	fd_fill_standard(O_CLOEXEC);    /* a command that is run has closed what was closed */
	frame_memory();
	settings_from_environment();
	if (argc > 0)
		verb_option(argc, argv, "+", NULL);
	if (optind >= argc) {
		talk_error("no command was given");
		talk_hint("venvctl help");
		return EXIT_USAGE;
	}
	running = verb_find(argv[optind]);
	if (!running)
		return unknown_verb(argv[optind]);
	argc -= optind;
	argv += optind;
	optind = 0;
	return running->fn(argc, argv);
}

/* SPDX-License-Identifier: MIT */
/*
 * The configuration: defaults, the system's file, the user's over it, the environment, the command line, each
 * over what came before. Every number has a key, a default and a range in one table; a value outside its range
 * is an error, never clipped. Each value remembers where it came from (--print-config).
 *
 * Files are read and judged by config_file.c. A daemon that only looks (--peek) reads none: whoever lists a root
 * need not first mend a file that it would not use.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "config.h"
#include "config_file.h"
#include "errors.h"
#include "names.h"
#include "orders.h"
#include "paths.h"

#define CONFIG_SYSTEM "/etc/venvd/venvd.conf"
#define CONFIG_NAME "venvd/venvd.conf"          /* below $XDG_CONFIG_HOME */

static const struct {
	const char *key;
	int64_t initial, min, max;
} config_table[CONFIG_SETTINGS] = {
	[CONFIG_CONNECTIONS] = { "connections", LIMIT_CONNECTIONS, 1, 4096 },
	[CONFIG_FIRST_BYTE_MS] = { "first_byte_timeout", LIMIT_FIRST_BYTE_MS, 10, 3600000 },
	[CONFIG_FRAME_MS] = { "frame_timeout", LIMIT_FRAME_MS, 10, 3600000 },
	[CONFIG_IDLE_MS] = { "idle_timeout", LIMIT_IDLE_MS, 10, 86400000 },
	[CONFIG_STALL_MS] = { "stall_timeout", LIMIT_STALL_MS, 10, 3600000 },
	[CONFIG_CREATE_MS] = { "create_timeout", LIMIT_CREATE_MS, 100, 86400000 },
	[CONFIG_PROBE_MS] = { "probe_timeout", LIMIT_PROBE_MS, 100, 600000 },
	[CONFIG_JOBS_RUNNING] = { "jobs_running", 0, 1, 64 },   /* initial: the number of cores */
	[CONFIG_JOBS_QUEUED] = { "jobs_queued", LIMIT_JOBS_QUEUED, 1, 4096 },
	[CONFIG_TRASH_SECONDS] = { "trash_retention", LIMIT_TRASH_SECONDS, 0, 3650LL * 24 * 3600 },
	[CONFIG_POOL_ENTRIES] = { "pool_entries", LIMIT_POOL_ENTRIES, 0, 4096 },
	[CONFIG_POOL_INITIAL] = { "pool_initial", LIMIT_POOL_INITIAL, 0, 4096 },
	[CONFIG_POOL_MIB] = { "pool_mib", LIMIT_POOL_MIB, 0, 1048576 },
	[CONFIG_IMAGE_SECONDS] = { "image_retention", LIMIT_IMAGE_SECONDS, 0, 3650LL * 24 * 3600 },
	[CONFIG_LINK_MODE] = { "link_mode", 0, 0, 0 },
	[CONFIG_PYTHON_DIRECTORIES] = { "python_directories", 0, 0, 0 },
	[CONFIG_PYTHON_PREFERENCE] = { "python_preference", 0, 0, 0 },
};
static const char *const config_link_modes[] = { ORDER_LINK_MODES };

/* What the command line says; the texts are argv's. */
struct arguments {
	const char *word;               /* that is read now */
	const char *root, *file;
	const char **options;           /* of -o, in order; the array is owned */
	size_t count;
	bool check, print;
};

static const char config_usage[] =
    "usage: venvd [--root DIR] [--socket PATH] [--config FILE] [-o KEY=VALUE]...\n"
    "       venvd --check-config | --print-config [--config FILE] [-o KEY=VALUE]...\n"
    "       venvd --help | --version\n"
    "\n"
    "Keeps the Python virtual environments below DIR (default: $VENVD_ROOT, $WORKON_HOME,\n"
    "~/.virtualenvs) and serves io.venvd on DIR/.venvd/io.venvd. See venvd(8), venvd.conf(5).\n";

/* --- one setting --- */

static char *config_spelt(const char *key, char from, char to)
{
	char *spelt = xstrdup(key);
	for (char *p = spelt; (p = strchr(p, from)) != NULL;)
		*p = to;
	return spelt;
}

enum config_key config_key_find(const char *key, const char **ret_suggest)
{
	const char *keys[CONFIG_SETTINGS];
	_cleanup_free_ char *wanted = config_spelt(key, '-', '_');
	*ret_suggest = NULL;
	for (size_t i = 0; i < CONFIG_SETTINGS; i++) {
		keys[i] = config_table[i].key;
		if (strcmp(wanted, keys[i]) == 0)
			return (enum config_key)i;
	}
	*ret_suggest = name_suggest(wanted, keys, CONFIG_SETTINGS);
	return CONFIG_SETTINGS;
}

static char *config_set_number(struct config *config, enum config_key key, const char *text)
{
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < config_table[key].min ||
	    value > config_table[key].max)
		return xasprintf("'%s' is not a value for '%s': it takes %lld to %lld", text, config_table[key].key,
		    (long long)config_table[key].min, (long long)config_table[key].max);
	config->value[key] = value;
	return NULL;
}

static char *config_set_link_mode(struct config *config, const char *text)
{
	_cleanup_text_ struct text modes = { 0 };
	for (size_t i = 0; i < ARRAY_LENGTH(config_link_modes); i++) {
		if (strcmp(text, config_link_modes[i]) == 0) {
			free(config->link_mode);
			config->link_mode = xstrdup(text);
			return NULL;
		}
		text_addf(&modes, "%s%s", i > 0 ? ", " : "", config_link_modes[i]);
	}
	return xasprintf("'%s' is not a value for 'link_mode': it takes one of %s", text, modes.data);
}

static char *config_set_preference(struct config *config, const char *text)
{
	if (strcmp(text, "path") != 0 && strcmp(text, "managed") != 0)
		return xasprintf("'%s' is not a value for 'python_preference': it takes one of path, managed", text);
	config->managed_first = strcmp(text, "managed") == 0;
	return NULL;
}

static bool config_utf8(const char *text)
{
	json_auto_t *string = json_string(text);
	return string != NULL;
}

static size_t config_directories(const char *list)
{
	size_t count = *list != '\0';
	while ((list = strchr(list, ':')) != NULL)
		list++, count++;
	return count;
}

char *config_add(struct config *config, enum config_key key, const char *value)
{
	if (key != CONFIG_PYTHON_DIRECTORIES)
		return xasprintf("'%s' has one value", config_table[key].key);
	_cleanup_text_ struct text all = { 0 };
	text_adds(&all, config->python_directories);
	for (const char *p = value; p != NULL && *value != '\0'; p = *p == ':' ? p + 1 : NULL) {
		size_t len = strcspn(p, ":");
		_cleanup_free_ char *directory = xstrndup(p, len);
		if (*directory != '/' || !config_utf8(directory))
			return xasprintf("'%s' is not a directory for 'python_directories': it takes absolute paths in UTF-8, "
			    "separated by ':'", directory);
		_cleanup_free_ char *clean = path_absolute(directory);
		text_addf(&all, "%s%s", all.len > 0 ? ":" : "", clean);
		p += len;
	}
	if (all.len > 0 && config_directories(all.data) > LIMIT_CONFIG_DIRECTORIES)
		return xasprintf("more than %d python_directories", LIMIT_CONFIG_DIRECTORIES);
	free(config->python_directories);
	config->python_directories = xstrdup(all.len > 0 ? all.data : "");
	return NULL;
}

static char *config_set_directories(struct config *config, const char *text)
{
	char *before = config->python_directories;
	config->python_directories = xstrdup("");
	char *why = config_add(config, CONFIG_PYTHON_DIRECTORIES, text);
	if (why == NULL) {
		free(before);
		return NULL;
	}
	free(config->python_directories);
	config->python_directories = before;
	return why;
}

char *config_set(struct config *config, enum config_key key, const char *value, const char *origin)
{
	char *why = key == CONFIG_LINK_MODE ? config_set_link_mode(config, value) :
	    key == CONFIG_PYTHON_DIRECTORIES ? config_set_directories(config, value) :
	    key == CONFIG_PYTHON_PREFERENCE ? config_set_preference(config, value) :
	    config_set_number(config, key, value);
	if (why != NULL)
		return why;
	free(config->origin[key]);
	config->origin[key] = xstrdup(origin);
	return NULL;
}

static void config_defaults(struct config *config)
{
	*config = (struct config){ .ready_fd = -1 };
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		config->value[i] = config_table[i].initial;
	config->link_mode = xstrdup("auto");
	config->python_directories = xstrdup("");
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	config->value[CONFIG_JOBS_RUNNING] = cores < 1 ? 1 : cores > 64 ? 64 : cores;
}

/* --- refusing --- */

/* Says it to whoever reads: the terminal, and the client that started us. Takes why. */
static void __attribute__((noreturn)) config_end(const struct config *config, char *why, int status)
{
	char *safe = text_printable_lines(why);
	fprintf(stderr, "error: %s\n", safe);
	if (config->ready_fd >= 0)
		dprintf(config->ready_fd, "error: %s\n", safe);
	free(safe);
	free(why);
	exit(status);
}

/* A wrong word on the command line, owned. */
static char *config_wrong(const char *what, const char *detail)
{
	_cleanup_free_ char *shown = text_printable(detail);
	return xasprintf("%s%s\nhint: venvd --help", what, shown);
}

/* --- where values come from; NULL, or what is wrong, owned --- */

static char *config_read_files(struct config *config, const char *given)
{
	const char *instead = given != NULL ? given : getenv("VENVD_CONFIG");
	if (instead != NULL && *instead != '\0') {
		_cleanup_free_ char *path = path_absolute(instead);
		return config_file_read(config, path != NULL ? path : instead, true);
	}
	char *why = config_file_read(config, CONFIG_SYSTEM, false);
	if (why != NULL)
		return why;
	const char *base = getenv("XDG_CONFIG_HOME");
	const char *home = path_home();
	_cleanup_free_ char *path = NULL;
	if (base != NULL && *base == '/')
		path = xasprintf("%s/" CONFIG_NAME, base);
	else if (home != NULL)
		path = xasprintf("%s/.config/" CONFIG_NAME, home);
	return path != NULL ? config_file_read(config, path, false) : NULL;
}

static void config_read_environment(struct config *config)
{
	const char *pool = getenv("VENVD_POOL");
	if (pool != NULL && strcmp(pool, "0") == 0)
		free(config_set(config, CONFIG_POOL_ENTRIES, "0", "$VENVD_POOL"));
}

/* "KEY=VALUE" is no setting of ours: what would be. */
static char *config_wrong_option(const char *name, const char *close_key, bool known)
{
	if (close_key == NULL)
		return config_wrong("unknown option key ", name);
	_cleanup_free_ char *shown = text_printable(name);
	_cleanup_free_ char *spelt = config_spelt(close_key, '_', '-');
	return xasprintf(known ? "'%s' needs a value\nhint: -o %s=VALUE" :
	    "unknown option key '%s'\nhint: -o %s=VALUE", shown, spelt);
}

static char *config_assign(struct config *config, const char *assignment)
{
	const char *equals = strchr(assignment, '='), *suggest;
	_cleanup_free_ char *name = equals != NULL ?
	    xstrndup(assignment, (size_t)(equals - assignment)) : xstrdup(assignment);
	enum config_key key = config_key_find(name, &suggest);
	if (key == CONFIG_SETTINGS)
		return config_wrong_option(name, suggest, false);
	if (equals == NULL)
		return config_wrong_option(name, config_table[key].key, true);
	_cleanup_free_ char *why = config_set(config, key, equals + 1, "-o");
	return why != NULL ? config_wrong("", why) : NULL;
}

/* --- the command line --- */

static int config_fd(const struct config *config, const char *s)
{
	char *end;
	long value = strtol(s, &end, 10);
	if (end == s || *end != '\0' || value < 3 || value > 1023)
		config_end(config, config_wrong("--ready-fd takes a descriptor number, not ", s), EXIT_USAGE);
	return (int)value;
}

static void config_option(struct config *config, int option, struct arguments *arguments)
{
	switch (option) {
	case 'r':
		arguments->root = optarg;
		break;
	case 'c':
		arguments->file = optarg;
		break;
	case 's':
		free(config->socket);
		config->socket = path_absolute(optarg);
		break;
	case 'o':
		arguments->options = xreallocarray(arguments->options, arguments->count + 1,
		    sizeof(*arguments->options));
		arguments->options[arguments->count++] = optarg;
		break;
	case 'd':
		config->detached = true;
		break;
	case 'f':
		config->ready_fd = config_fd(config, optarg);
		break;
	case 'p':
		config->peek = true;
		break;
	case 'C':
		arguments->check = true;
		break;
	case 'P':
		arguments->print = true;
		break;
	case 'V':
		printf("venvd %s\n", VENVD_VERSION);
		exit(EXIT_DONE);
	case 'h':
		fputs(config_usage, stdout);
		exit(EXIT_DONE);
	default:
		config_end(config, config_wrong(option == ':' ? "a value is missing after " : "unknown option ",
		    arguments->word), EXIT_USAGE);
	}
}

static void config_arguments(struct config *config, int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "socket", required_argument, NULL, 's' },
		{ "config", required_argument, NULL, 'c' },
		{ "option", required_argument, NULL, 'o' },
		{ "detached", no_argument, NULL, 'd' },
		{ "ready-fd", required_argument, NULL, 'f' },
		{ "peek", no_argument, NULL, 'p' },
		{ "check-config", no_argument, NULL, 'C' },
		{ "print-config", no_argument, NULL, 'P' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;
	/* Its own words would put onto the terminal what was typed as it is. */
	opterr = 0;
	while (ret->word = argv[optind], (option = getopt_long(argc, argv, "+:o:h", options, NULL)) != -1)
		config_option(config, option, ret);
	if (optind < argc)
		config_end(config, config_wrong("unexpected argument: ", argv[optind]), EXIT_USAGE);
}

/* --- what is in force --- */

static char *config_value(const struct config *config, size_t key)
{
	switch (key) {
	case CONFIG_LINK_MODE:
		return xstrdup(config->link_mode);
	case CONFIG_PYTHON_PREFERENCE:
		return xstrdup(config->managed_first ? "managed" : "path");
	case CONFIG_PYTHON_DIRECTORIES:
		return xstrdup(config->python_directories);
	default:
		return xasprintf("%lld", (long long)config->value[key]);
	}
}

/* A line for each, in the form of a file. A list has a line a directory: no line becomes too long. */
static void config_print(const struct config *config)
{
	for (size_t i = 0; i < CONFIG_SETTINGS; i++) {
		const char *known = config->origin[i] != NULL ? config->origin[i] : "default";
		_cleanup_free_ char *origin = text_printable(known);
		_cleanup_free_ char *value = config_value(config, i);
		char *rest = i == CONFIG_PYTHON_DIRECTORIES ? value : NULL;
		const char *first = rest != NULL ? strsep(&rest, ":") : value;
		printf("%-18s = %-12s ; %s\n", config_table[i].key, first, origin);
		while (rest != NULL)
			printf("    %s\n", strsep(&rest, ":"));
	}
}

static void __attribute__((noreturn)) config_show(const struct config *config, const struct arguments *arguments)
{
	if (arguments->print)
		config_print(config);
	else
		puts("ok");
	bool told = fflush(stdout) == 0;
	exit(told ? EXIT_DONE : EXIT_REFUSED);
}

void config_read(struct config *config, int argc, char **argv)
{
	struct arguments arguments = { 0 };
	config_defaults(config);
	config_arguments(config, argc, argv, &arguments);
	char *wrong = config->peek ? NULL : config_read_files(config, arguments.file);
	if (wrong != NULL)
		config_end(config, wrong, EXIT_REFUSED);
	config_read_environment(config);
	for (size_t i = 0; wrong == NULL && i < arguments.count; i++)
		wrong = config_assign(config, arguments.options[i]);
	free(arguments.options);
	if (wrong != NULL)
		config_end(config, wrong, EXIT_USAGE);
	if (arguments.check || arguments.print)
		config_show(config, &arguments);
	const char *why = NULL;
	bool builtin;
	config->root = path_root(arguments.root, &builtin, &why);
	if (config->root == NULL)
		config_end(config, config_wrong(why, ""), EXIT_USAGE);
}

void config_done(struct config *config)
{
	free(config->root);
	free(config->socket);
	free(config->link_mode);
	free(config->python_directories);
	for (size_t i = 0; i < CONFIG_SETTINGS; i++)
		free(config->origin[i]);
}

/* SPDX-License-Identifier: MIT */
/*
 * The configuration: defaults, then the command line. Every number has a key, a default and a range in
 * one table; a value outside its range is an error, never clipped. Touches nothing outside itself.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "config.h"
#include "errors.h"
#include "names.h"
#include "paths.h"

static const struct {
	const char *key;
	int64_t initial, min, max;
} config_table[CONFIG_KEYS] = {
	[CONFIG_CONNECTIONS] = { "connections", LIMIT_CONNECTIONS, 1, 4096 },
	[CONFIG_FIRST_BYTE_MS] = { "first-byte-timeout", LIMIT_FIRST_BYTE_MS, 10, 3600000 },
	[CONFIG_FRAME_MS] = { "frame-timeout", LIMIT_FRAME_MS, 10, 3600000 },
	[CONFIG_IDLE_MS] = { "idle-timeout", LIMIT_IDLE_MS, 10, 86400000 },
	[CONFIG_STALL_MS] = { "stall-timeout", LIMIT_STALL_MS, 10, 3600000 },
	[CONFIG_CREATE_MS] = { "create-timeout", LIMIT_CREATE_MS, 100, 86400000 },
	[CONFIG_PROBE_MS] = { "probe-timeout", LIMIT_PROBE_MS, 100, 600000 },
	[CONFIG_JOBS_RUNNING] = { "jobs-running", 0, 1, 64 },   /* initial: the number of cores */
	[CONFIG_JOBS_QUEUED] = { "jobs-queued", LIMIT_JOBS_QUEUED, 1, 4096 },
	[CONFIG_TRASH_SECONDS] = { "trash-retention", LIMIT_TRASH_SECONDS, 0, 3650LL * 24 * 3600 },
	[CONFIG_POOL_ENTRIES] = { "pool-entries", LIMIT_POOL_ENTRIES, 0, 4096 },
	[CONFIG_POOL_INITIAL] = { "pool-initial", LIMIT_POOL_INITIAL, 0, 4096 },
	[CONFIG_POOL_MIB] = { "pool-mib", LIMIT_POOL_MIB, 0, 1048576 },
	[CONFIG_IMAGE_SECONDS] = { "image-retention", LIMIT_IMAGE_SECONDS, 0, 3650LL * 24 * 3600 },
};

static const char config_usage[] =
    "usage: venvd [--root DIR] [--socket PATH] [-o KEY=VALUE]...\n"
    "       venvd --help | --version\n"
    "\n"
    "Keeps the Python virtual environments below DIR (default: $VENVD_ROOT, $WORKON_HOME,\n"
    "~/.virtualenvs) and serves io.venvd on DIR/.venvd/io.venvd. See venvd(8).\n";

char *config_set(struct config *config, const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	const char *keys[CONFIG_KEYS];
	_cleanup_free_ char *key = equals != NULL ?
	    xstrndup(assignment, (size_t)(equals - assignment)) : xstrdup(assignment);
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		keys[i] = config_table[i].key;
		if (strcmp(key, keys[i]) != 0)
			continue;
		if (equals == NULL)
			return xasprintf("'%s' needs a value: -o %s=NUMBER", key, key);
		char *end;
		errno = 0;
		long long value = strtoll(equals + 1, &end, 10);
		if (errno != 0 || end == equals + 1 || *end != '\0' ||
		    value < config_table[i].min || value > config_table[i].max)
			return xasprintf("'%s' is not a value for '%s': it takes %lld to %lld", equals + 1,
			    key, (long long)config_table[i].min, (long long)config_table[i].max);
		config->value[i] = value;
		return NULL;
	}
	const char *close_one = name_suggest(key, keys, CONFIG_KEYS);
	return xasprintf("unknown option key '%s'%s%s%s", key, close_one != NULL ? "\nhint: -o " : "",
	    close_one != NULL ? close_one : "", close_one != NULL ? "=NUMBER" : "");
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

static void __attribute__((noreturn)) config_refuse(const char *what, const char *detail)
{
	fprintf(stderr, "error: %s%s\nhint: venvd --help\n", what, detail);
	exit(EXIT_USAGE);
}

static int config_fd(const char *s)
{
	char *end;
	long value = strtol(s, &end, 10);
	if (end == s || *end != '\0' || value < 3 || value > 1023)
		config_refuse("--ready-fd takes a descriptor number, not ", s);
	return (int)value;
}

static void config_option(struct config *config, int option, const char **root)
{
	_cleanup_free_ char *why = NULL;
	switch (option) {
	case 'r':
		*root = optarg;
		break;
	case 's':
		free(config->socket);
		config->socket = path_absolute(optarg);
		break;
	case 'o':
		why = config_set(config, optarg);
		if (why != NULL)
			config_refuse(why, "");
		break;
	case 'd':
		config->detached = true;
		break;
	case 'f':
		config->ready_fd = config_fd(optarg);
		break;
	case 'p':
		config->peek = true;
		break;
	case 'V':
		printf("venvd %s\n", VENVD_VERSION);
		exit(EXIT_DONE);
	case 'h':
		fputs(config_usage, stdout);
		exit(EXIT_DONE);
	default:
		fputs("hint: venvd --help\n", stderr);
		exit(EXIT_USAGE);
	}
}

void config_read(struct config *config, int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "socket", required_argument, NULL, 's' },
		{ "option", required_argument, NULL, 'o' },
		{ "detached", no_argument, NULL, 'd' },
		{ "ready-fd", required_argument, NULL, 'f' },
		{ "peek", no_argument, NULL, 'p' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	config_defaults(config);
	const char *root = NULL;
	int option;
	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1)
		config_option(config, option, &root);
	if (optind < argc)
		config_refuse("unexpected argument: ", argv[optind]);
	const char *why = NULL;
	bool builtin;
	config->root = path_root(root, &builtin, &why);
	if (config->root == NULL)
		config_refuse(why, "");
}

void config_done(struct config *config)
{
	free(config->root);
	free(config->socket);
	free(config->link_mode);
	free(config->python_directories);
}

/* SPDX-License-Identifier: MIT */
/* What every room of the client shares: the settings, the verbs, and how a verb reads its options.
 * */
#ifndef VENVCTL_H
#define VENVCTL_H
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "errors.h"

#ifndef VENVD_VERSION
#define VENVD_VERSION "0.1.0"
#endif

enum color_when { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/* The global options. Texts are borrowed from argv or live as long as the program. */
struct settings {
	const char *root_given;         /* --root */
	const char *socket;             /* --socket, else $VENVD_SOCKET; absolute; or NULL */
	bool socket_given;              /* --socket itself */
	int64_t timeout_ms;             /* --timeout; 0: each call's own default */
	enum color_when color;
	bool no_start;                  /* --no-start or VENVD_AUTOSTART=0 */
	bool no_start_given;            /* --no-start itself */
	bool quiet;
	bool yes;
	bool no_input;
};
extern struct settings settings;

/* The absolute root; ends the program with a message if there is no home directory to find it in.
 * */
const char *settings_root(void);
/* NULL with *ret_why instead. */
const char *settings_root_try(const char **ret_why);
bool settings_root_builtin(void);

struct verb {
	const char *name;
	const char *alias;              /* or NULL */
	int (*fn)(int argc, char **argv); /* argv[0] is the verb; returns the exit status */
	const char *usage;              /* what stands behind "venvctl VERB" */
	const char *help;               /* one line */
	const char *details;            /* more lines for 'help VERB', or "" */
};
const struct verb *verb_table(size_t *ret_count);
const struct verb *verb_find(const char *name);        /* by name or alias; NULL */

/*
 * As getopt_long, with the global options taken care of: returns the next option of the verb
 * itself, -1 at the end (optind is then the first argument). shorts begins with '+' if the first
 * argument ends the options. A wrong option, and --help, end the program.
 */
int verb_option(int argc, char **argv, const char *shorts, const struct option *longs);

/* Says what is wrong with the command line of the running verb; exit status 2 (125 for run). */
_Noreturn void usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Ends with a usage error unless optind leaves between min and max arguments. */
void verb_arguments(int argc, char **argv, int min, int max);

int cmd_adopt(int argc, char **argv);
int cmd_move(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_activate(int argc, char **argv);
int cmd_call(int argc, char **argv);
int cmd_clone(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_delete(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_path(int argc, char **argv);
int cmd_prompt(int argc, char **argv);
int cmd_protect(int argc, char **argv);
int cmd_python(int argc, char **argv);
int cmd_recreate(int argc, char **argv);
int cmd_rename(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_shutdown(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_trash(int argc, char **argv);
int cmd_unprotect(int argc, char **argv);
#endif

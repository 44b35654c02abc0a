/* SPDX-License-Identifier: MIT */
/*
 * The verbs: how each is called, and what 'venvctl help' says about it. Only texts and one pointer
 * a verb are here, in the order in which help shows them. venvctl.1 says the same at more length.
 */
#include "util.h"
#include "verbs.h"

const char global_options_help[] =
	"Options of every command:\n"
	"  --root DIRECTORY    where the environments are\n"
	"                      ($VENVD_ROOT, $WORKON_HOME, ~/.virtualenvs)\n"
	"  --socket PATH       where the daemon listens ($VENVD_SOCKET)\n"
	"  --no-start          never start a daemon (VENVD_AUTOSTART=0)\n"
	"  --timeout SECONDS   give up after this time\n"
	"  --color WHEN        auto, always or never\n"
	"  -q, --quiet         only data and errors\n"
	"  -y, --yes           answer yes to every question\n"
	"  --no-input          never ask\n"
	"  --version           print the version\n"
	"  -h, --help          print help\n";

static const struct verb verbs[] = {
	{ "create", NULL, cmd_create, "[NAME] [-p PYTHON]... [--path DIR] [OPTION...]",
	  "create an environment",
	  "  -p, --python PYTHON      a version (3.12, 312, '>=3.11,<3.13'), pypy3.9, a path, a name\n"
	  "                           on PATH, or another environment; of several the first that\n"
	  "                           exists is taken. Without it: .python-version, else the\n"
	  "                           first python3 on PATH\n"
	  "  --path DIR               make it there, as 'python -m venv DIR' does; without NAME it\n"
	  "                           is called after the project's directory\n"
	  "  --system-site-packages   make the interpreter's own packages visible\n"
	  "  --symlinks, --copies     link to the interpreter (as without either), or copy it\n"
	  "  --clear                  empty the directory first, if it is there\n"
	  "  --upgrade                make it one of this interpreter, in place\n"
	  "  --without-pip            do not install pip\n"
	  "  --prompt TEXT            what the environment's activate scripts show\n"
	  "  --upgrade-deps           upgrade pip from the index\n"
	  "  --without-scm-ignore-files   do not write a .gitignore\n"
	  "  --exist-ok               succeed if NAME exists and was made with these options\n"
	  "\n"
	  "When stdout is no terminal, the environment's path is written there. ^C cancels.\n"
	  "\n"
	  "Example: venvctl create --path .venv -p 3.13 -p 3.12\n" },
	{ "adopt", "import", cmd_adopt, "DIR [NAME]", "take an environment elsewhere into the list, where it is",
	  "Nothing in it is changed. Without NAME it is called after the project's directory, as with\n"
	  "create --path. What lies in the root is in the list by itself.\n" },
	{ "move", NULL, cmd_move, "DIR NAME", "bring an environment that lies elsewhere into the root",
	  "It is copied, with everything that is installed and fit for its new path; then the old one goes\n"
	  "to the trash beside its place.\n" },
	{ "recreate", NULL, cmd_recreate, "NAME [-p PYTHON]... [--prompt TEXT] [--all] [--force]",
	  "make an environment anew, with the options it was made with",
	  "  -p, --python PYTHON   another interpreter; as for create\n"
	  "  --prompt TEXT         another prompt; '' for none\n"
	  "  --all                 also list pip and what else came with it\n"
	  "  -f, --force           although processes run from it\n"
	  "\n"
	  "The old one goes to the trash. What was installed in it is written to stdout, as a\n"
	  "requirements file:\n"
	  "\n"
	  "Example: venvctl recreate projA -p 3.13 >old.txt && venvctl run projA -- python -m pip install -r old.txt\n" },
	{ "list", "ls", cmd_list, "[GLOB] [--json] [--trash] [--state STATE] [-q]",
	  "list environments",
	  "  --json          one JSON array, one environment a line\n"
	  "  --trash         what was deleted and can be restored\n"
	  "  --state STATE   only those that are creating, ready, broken, missing or foreign\n"
	  "  -q              only the names\n"
	  "\n"
	  "When stdout is no terminal: one line an environment, a tab between values:\n"
	  "  name state version path created problem protected\n"
	  "with --trash:\n"
	  "  name state version path deleted expires id\n"
	  "Times are UTC (2026-01-31T12:00:00Z). Tab, newline, return and backslash in a value\n"
	  "are written \\t \\n \\r \\\\, what acts on a terminal \\xNN. More columns may be added at the end.\n" },
	{ "show", NULL, cmd_show, "NAME [--json]", "show everything about an environment",
	  "  --json   as one JSON object\n" },
	{ "delete", "rm", cmd_delete, "NAME... [--now] [--force] [--missing-ok] [--dry-run] [-y]",
	  "move environments to the trash",
	  "  --now          remove for good, from the trash too\n"
	  "  -f, --force    although processes run from it, or its directory holds more\n"
	  "  --missing-ok   it is no error if NAME does not exist\n"
	  "  --dry-run      print the names that would be deleted\n"
	  "\n"
	  "NAME may be a pattern in quotes, such as 'test-*'. Several names, patterns and --now\n"
	  "ask first on a terminal, and need -y elsewhere.\n" },
	{ "restore", NULL, cmd_restore, "NAME... | [--id ID] [--as NEW] NAME",
	  "take environments out of the trash",
	  "  --id ID    the one with this id, where the trash holds several of one name\n"
	  "  --as NEW   under another name\n" },
	{ "trash", NULL, cmd_trash, "list | empty [--older-than AGE] [--dry-run] [-y]",
	  "see what was deleted, or let go of it now",
	  "  --older-than AGE   only what was deleted before that: 12h, 3d, 2w\n"
	  "  --dry-run          print the names that would be removed\n" },
	{ "rename", NULL, cmd_rename, "NAME NEW [--force]", "give an environment another name",
	  "  -f, --force   although processes run from it\n"
	  "\n"
	  "Everything in it that holds its path is written anew: scripts, activation, metadata.\n" },
	{ "clone", NULL, cmd_clone, "NAME NEW", "make a copy of an environment",
	  "The copy has everything that is installed, and works from its own path. ^C cancels.\n" },
	{ "protect", NULL, cmd_protect, "NAME...", "keep environments from being deleted",
	  "delete, recreate and create --clear refuse them, with --force too, until unprotect.\n" },
	{ "unprotect", NULL, cmd_unprotect, "NAME...", "let environments be deleted again", "" },
	{ "path", NULL, cmd_path, "NAME", "print an environment's path",
	  "Works without a daemon too.\n" },
	{ "activate", NULL, cmd_activate, "NAME [--shell SHELL]",
	  "print the line that activates an environment",
	  "  --shell SHELL   sh, bash, zsh, dash, ksh, fish, csh or tcsh; guessed otherwise\n"
	  "\n"
	  "In sh, bash, zsh:  eval \"$(venvctl activate NAME)\"\n"
	  "In fish:           venvctl activate NAME | source\n"
	  "In csh, tcsh:      eval `venvctl activate NAME`\n" },
	{ "run", NULL, cmd_run, "NAME [--] COMMAND [ARGUMENT...]",
	  "run a command in an environment",
	  "PATH, VIRTUAL_ENV and VIRTUAL_ENV_PROMPT are set, PYTHONHOME is removed, all else is\n"
	  "the caller's. The exit status is the command's own; 127 if it was not found, 126 if it\n"
	  "could not be run, 125 for a failure of venvctl. Works without a daemon too.\n" },
	{ "prompt", NULL, cmd_prompt, "[NAME]", "print what a shell prompt shows",
	  "Prints the prompt (the one that the environment was made with, else its name) and the\n"
	  "version of Python, as in 'projA 3.12.1', for the active environment ($VIRTUAL_ENV) or\n"
	  "for NAME; nothing if none is active. Marks behind it:\n"
	  "  !   broken: it cannot work           ?   missing: its directory is gone\n"
	  "  +   still being created\n"
	  "It never starts a daemon and never waits more than 5 ms. If there is no answer by\n"
	  "then, it prints the name alone, from VIRTUAL_ENV_PROMPT or VIRTUAL_ENV. The exit\n"
	  "status is 0.\n" },
	{ "python", NULL, cmd_python, "list|find|add|remove [--json]",
	  "the interpreters that environments can be made from",
	  "  list           all that are found, and those that were added\n"
	  "  find [PYTHON]  which one -p PYTHON means here (without it: which one is taken without\n"
	  "                 -p), its path on stdout, and why on stderr; several: the first there is\n"
	  "  add PATH       make one known that lies where none is looked for\n"
	  "  remove PATH    forget one that was added\n"
	  "\n"
	  "When stdout is no terminal list writes one line an interpreter, a tab between values:\n"
	  "  version implementation path source state problem\n" },
	{ "events", NULL, cmd_events, "[NAME...] [--json]", "show what happens to environments, as it happens",
	  "  --json   one JSON object a line: the state first, then each event\n"
	  "\n"
	  "When stdout is no terminal: one line an event, a tab between values:\n"
	  "  time event name state old-name\n"
	  "Events are created, deleted, renamed, changed, broken and repaired. ^C ends it.\n" },
	{ "doctor", NULL, cmd_doctor, "[NAME] [--fix] [--json]", "say what is wrong with environments, and mend it",
	  "  --fix    mend what can be mended in place, with everything that is installed: files that\n"
	  "           name the path where it was before, links to a Python that is gone\n"
	  "  --json   one JSON array of those that are not well\n"
	  "\n"
	  "Exit status 0: nothing is wrong (any more); 9: with --fix, some is; 1: something is.\n" },
	{ "status", NULL, cmd_status, "[--json]", "show how the daemon is doing", "" },
	{ "call", NULL, cmd_call, "METHOD [JSON] [--more]", "call a method of the daemon",
	  "METHOD without a dot is one of io.venvd. JSON is an object with the parameters. The\n"
	  "parameters of each reply, or of the error, are written to stdout, one line a reply.\n"
	  "  --more   ask for a series of replies\n"
	  "\n"
	  "Example: venvctl call List '{\"glob\":\"test-*\"}' --more\n" },
	{ "restart", NULL, cmd_restart, "", "stop the daemon and start it again", "" },
	{ "shutdown", NULL, cmd_shutdown, "[--purge] [-y]", "stop the daemon",
	  "  --purge   also remove the daemon's own files, the trash among them\n"
	  "\n"
	  "Every environment stays and goes on working.\n" },
	{ "help", NULL, cmd_help, "[COMMAND | exit-codes]", "explain a command", "" },
};

static const struct topic topics[] = {
	{ "exit-codes",
	  "Exit status of venvctl:\n"
	  "  0    done\n"
	  "  1    refused or failed\n"
	  "  2    the command line was wrong\n"
	  "  3    no such environment\n"
	  "  4    it exists already\n"
	  "  5    it is in use, or protected\n"
	  "  6    the daemon cannot be reached\n"
	  "  7    permission denied\n"
	  "  8    no answer in time\n"
	  "  9    partly done\n"
	  "  130  interrupted\n"
	  "'venvctl run' gives its command's own status (128+N if signal N killed it), 127 if the\n"
	  "command was not found, 126 if it could not be run, 125 if venvctl itself failed.\n" },
};

const struct verb *verb_table(size_t *ret_count)
{
	*ret_count = ARRAY_LENGTH(verbs);
	return verbs;
}

const struct topic *topic_table(size_t *ret_count)
{
	*ret_count = ARRAY_LENGTH(topics);
	return topics;
}

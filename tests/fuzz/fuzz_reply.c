/* SPDX-License-Identifier: MIT */
/*
 * venvctl's reading of replies: every verb that asks a daemon, from its arguments to what is written, with a daemon that may
 * say anything. The first byte chooses the verb, the second how it is run (MODE_*); the rest is what comes over the
 * wire: up to each 0xff on one connection, then what comes on the next.
 *
 * The program is whole but for find.c and start.c: a connection is nobody's, and send() and recv() are ours.
 *
 * Invariants: nothing but text and line ends reaches a terminal, from the start of the program to its end; what --json
 * prints is JSON, on a terminal as elsewhere, and the same in both; a row for a program has as many tabs as its columns ask
 * for; the exit status is one of those that are documented.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <sys/socket.h>

/* With its main() and the verb that runs, which only it knows. */
int venvctl_main(int argc, char **argv);
#define main venvctl_main
#include "../../client/venvctl.c"
#undef main
#include "../../client/find.h"
#include "../../client/start.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_fd_write_all(int fd, const void *data, size_t len);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
int __wrap_isatty(int fd);
bool __wrap_talk_terminal(int fd);
_Noreturn void __wrap_exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __real_exit(int status);
_Noreturn void __real__exit(int status);

enum {
	MODE_TERMINAL = 1,
	MODE_QUIET = 2,
	MODE_PIECES = 4                 /* bytes come one by one */
};

static const char *const verbs[][6] = {
	{ "list" }, { "list", "--json" }, { "list", "--trash" }, { "list", "a*" }, { "show", "a" }, { "show", "--json", "a" },
	{ "status" }, { "status", "--json" }, { "events" }, { "events", "--json" }, { "python", "list" },
	{ "python", "list", "--json" }, { "python", "find" }, { "python", "find", "--json", "3" }, { "create", "a" },
	{ "create", "--exist-ok", "a" }, { "recreate", "a" }, { "delete", "a", "b" }, { "delete", "a*" },
	{ "delete", "--now", "a" }, { "delete", "--dry-run", "a*" }, { "restore", "a" }, { "rename", "a", "b" },
	{ "clone", "a", "b" }, { "adopt", "/x/a" }, { "protect", "a" }, { "prompt", "a" }, { "path", "a" },
	{ "activate", "--shell", "fish", "a" }, { "call", "Get" }, { "call", "--more", "List" }, { "trash", "empty" },
	{ "trash", "empty", "--dry-run" }, { "shutdown" }, { "doctor" }, { "doctor", "--json" }, { "doctor", "--fix", "a" },
	{ "create", "--exist-ok", "-p", "3.12", "a" }, { "create", "--exist-ok", "-p", "python3", "a" },
	{ "create", "--exist-ok", "--copies", "a" }, { "create", "--path", "/x/a" }, { "create", "--path", "/x/a", "b" },
	{ "restore", "a", "--as", "b" }, { "trash", "list" }, { "unprotect", "a" }, { "recreate", "-p", "3", "a" },
	{ "doctor", "a" }, { "python", "add", "/x/python" }, { "python", "remove", "/x/python" }, { "move", "/x/a", "a" },
};

static const uint8_t *wire, *wire_end;
static unsigned mode;
static int connections;
static struct text printed;
static jmp_buf ended;
static bool running_ours;
static int end_status;

/* --- the system --- */

int find_connect(bool now, int64_t *ret_stranger)
{
	(void)now;
	*ret_stranger = -1;
	if (connections++ > 0 && wire == wire_end) {
		errno = ENOENT;
		return -1;
	}
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

bool find_state_exists(void)
{
	return true;
}

int start_daemon(void)
{
	return EXIT_UNREACHABLE;
}

int start_looking(pid_t *ret_pid)
{
	(void)ret_pid;
	return -1;
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	(void)fd, (void)data, (void)flags;
	return (ssize_t)len;
}

/* Up to the next 0xff, then the end of this connection. */
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
	(void)fd, (void)flags;
	const uint8_t *end = wire < wire_end ? memchr(wire, 0xff, (size_t)(wire_end - wire)) : NULL;
	size_t left = (size_t)((end != NULL ? end : wire_end) - wire);
	if (left == 0) {
		wire += wire < wire_end;
		return 0;
	}
	if (left > len)
		left = len;
	if (mode & MODE_PIECES)
		left = 1;
	memcpy(data, wire, left);
	wire += left;
	return (ssize_t)left;
}

int __wrap_isatty(int fd)
{
	(void)fd;
	return 1;
}

bool __wrap_talk_terminal(int fd)
{
	(void)fd;
	return mode & MODE_TERMINAL;
}

static void end(int status)
{
	if (!running_ours)
		return;
	end_status = status;
	longjmp(ended, 1);
}

void __wrap_exit(int status)
{
	end(status);
	__real_exit(status);
}

void __wrap__exit(int status)
{
	end(status);
	__real__exit(status);
}

/* --- what is written --- */

/* Controls and what reorders text, as UTF-8: first and last of each range. */
static const char *const forbidden[][2] = {
	{ "\x01", "\x1f" }, { "\x7f", "\x7f" }, { "\xc2\x80", "\xc2\x9f" }, { "\xd8\x9c", "\xd8\x9c" },
	{ "\xe2\x80\x8e", "\xe2\x80\x8f" }, { "\xe2\x80\xaa", "\xe2\x80\xae" }, { "\xe2\x81\xa6", "\xe2\x81\xa9" },
};

/* Line ends, and progress begins its line again; nothing else moves the cursor. */
static void check_terminal(int fd, const char *text, size_t len)
{
	assert(memchr(text, '\0', len) == NULL);
	for (size_t at = 0; at < len; at++) {
		if (text[at] == '\n' || text[at] == '\t' || (text[at] == '\r' && fd == STDERR_FILENO))
			continue;
		for (size_t i = 0; i < ARRAY_LENGTH(forbidden); i++) {
			size_t n = strlen(forbidden[i][0]);
			bool acts = len - at >= n && memcmp(text + at, forbidden[i][0], n) >= 0 &&
			    memcmp(text + at, forbidden[i][1], n) <= 0;
			if (acts)
				fprintf(stderr, "on a terminal, at %zu: %02x\n", at, (unsigned char)text[at]);
			assert(!acts);
		}
	}
}

int __wrap_fd_write_all(int fd, const void *data, size_t len)
{
	assert(fd == STDOUT_FILENO || fd == STDERR_FILENO);
	if (fd == STDERR_FILENO || (mode & MODE_TERMINAL))
		check_terminal(fd, data, len);
	if (fd == STDOUT_FILENO)
		text_add(&printed, data, len);
	return 0;
}

static bool has(const char *const *words, const char *word)
{
	for (; *words != NULL; words++)
		if (strcmp(*words, word) == 0)
			return true;
	return false;
}

/* Either one value, or one a line. */
static void check_json(bool lines)
{
	json_t *value;
	size_t at = 0;
	do {
		size_t len = lines ? strcspn(printed.data + at, "\n") : printed.len;
		value = json_loadb(printed.data + at, len, JSON_DECODE_ANY, NULL);
		assert(value != NULL);
		json_decref(value);
		at += len + 1;
	} while (lines && at < printed.len);
}

static void check_tabs(size_t tabs)
{
	size_t found = 0;
	for (size_t i = 0; i < printed.len; i++) {
		found += printed.data[i] == '\t';
		assert(printed.data[i] != '\n' || found == tabs);
		if (printed.data[i] == '\n')
			found = 0;
	}
}

static void check(const char *const *words)
{
	bool list = strcmp(words[0], "list") == 0, good = end_status == EXIT_DONE && printed.len > 0;
	if (good && has(words, "--json"))
		check_json(strcmp(words[0], "events") == 0);
	else if (good && strcmp(words[0], "call") == 0)
		check_json(true);
	else if (list && !(mode & (MODE_TERMINAL | MODE_QUIET)))
		check_tabs(6);
	assert(end_status <= EXIT_PARTLY || end_status == EXIT_RUN_FAILED || end_status == EXIT_INTERRUPTED);
}

static void run_verb(int argc, char **argv)
{
	running_ours = true;
	if (setjmp(ended) == 0)
		end_status = running->fn(argc, argv);
	running_ours = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	const char *const *words = verbs[data[0] % ARRAY_LENGTH(verbs)];
	char *argv[ARRAY_LENGTH(verbs[0]) + 1] = { NULL };
	int argc = 0;
	for (; words[argc] != NULL; argc++)
		argv[argc] = xstrdup(words[argc]);
	mode = data[1];
	wire = data + 2;
	wire_end = data + size;
	connections = 0;
	text_clear(&printed);
	settings = (struct settings){ .color = COLOR_NEVER, .quiet = mode & MODE_QUIET, .yes = true, .no_input = true,
		.root_given = "/r" };
	running = verb_find(words[0]);
	optind = 0;
	run_verb(argc, argv);
	check(words);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return 0;
}

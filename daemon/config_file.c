/* SPDX-License-Identifier: MIT */
/*
 * A venvd.conf: 'key = value' in lines, read with inih. What inih would let pass or bend in silence is stopped
 * before it sees the line: lines longer than its buffer (it would take the rest as a line of its own) and NULs;
 * comments, which may be as long as they like, it does not see at all. Its continuation lines stay what they are for python_directories, and are an
 * error for every other key, because an indented 'key = value' below another key is one, too. A key that is
 * set twice in one file is an error. The first wrong line ends the reading; nothing is started with half a
 * configuration.
 *
 * The file decides what a daemon executes, so it must be the user's own or root's and closed to all others.
 */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "config_file.h"

#define BOM "\xef\xbb\xbf"

struct reading {
	struct config *config;
	const char *path;
	const char *rest;               /* what inih has not seen; NULL at the end */
	const char *end;
	int line;                       /* of what inih has seen last */
	bool indented;                  /* that line begins with white space */
	char *previous;                 /* the key before, for a line that goes on; owned, or NULL */
	int set_at[CONFIG_SETTINGS];    /* lines; 0: not yet */
	char *wrong;                    /* owned: the first thing */
};

static char *config_file_printable(char *owned)
{
	char *printable = text_printable(owned);
	free(owned);
	return printable;
}

/* Takes both; the first complaint stays. */
static void config_file_complain(struct reading *r, char *what, char *hint)
{
	_cleanup_free_ char *first = config_file_printable(xasprintf("%s:%d: %s", r->path, r->line, what));
	_cleanup_free_ char *second = hint != NULL ? config_file_printable(hint) : NULL;
	free(what);
	if (r->wrong == NULL)
		r->wrong = xasprintf("%s%s%s", first, second != NULL ? "\nhint: " : "", second != NULL ? second : "");
}

/* Gives inih one line; it ends with the first complaint. */
static char *config_file_line(char *buffer, int size, void *stream)
{
	struct reading *r = stream;
	if (r->rest == NULL || r->rest >= r->end || r->wrong != NULL)
		return NULL;
	const char *newline = memchr(r->rest, '\n', (size_t)(r->end - r->rest));
	size_t len = (size_t)((newline != NULL ? newline : r->end) - r->rest);
	r->line++;
	size_t blank = 0;
	while (blank < len && (r->rest[blank] == ' ' || r->rest[blank] == '\t'))
		blank++;
	const char *text = r->rest;
	r->rest = newline != NULL ? newline + 1 : NULL;
	if (blank < len && (text[blank] == ';' || text[blank] == '#'))
		len = 0;
	if (memchr(text, '\0', len) != NULL)
		config_file_complain(r, xstrdup("a NUL byte"), NULL);
	else if (memmem(text, len, BOM, strlen(BOM)) != NULL)
		config_file_complain(r, xstrdup("a byte order mark, which nobody can see"), NULL);
	else if (len > (size_t)size - 2)
		config_file_complain(r, xasprintf("the line has more than %d bytes", size - 2),
		    xstrdup("python_directories goes on in lines that begin with white space"));
	if (r->wrong != NULL)
		return NULL;
	memcpy(buffer, text, len);
	memcpy(buffer + len, "\n", 2);
	r->indented = blank > 0;
	return buffer;
}

static void config_file_goes_on(struct reading *r, enum config_key key, const char *value)
{
	if (key != CONFIG_PYTHON_DIRECTORIES) {
		config_file_complain(r, xasprintf("a line that begins with white space goes on with '%s', which has "
		    "one line", r->previous), xstrdup("begin the line with its key"));
		return;
	}
	char *why = config_add(r->config, key, value);
	if (why != NULL)
		config_file_complain(r, why, NULL);
}

static void config_file_set(struct reading *r, const char *name, const char *value)
{
	const char *suggest;
	enum config_key key = config_key_find(name, &suggest);
	if (key == CONFIG_SETTINGS) {
		config_file_complain(r, xasprintf("unknown key '%s'", name),
		    suggest != NULL ? xasprintf("did you mean '%s'?", suggest) : xstrdup("man venvd.conf"));
	} else if (r->indented && r->previous != NULL && strcmp(r->previous, name) == 0) {
		config_file_goes_on(r, key, value);
	} else if (r->set_at[key] != 0) {
		config_file_complain(r, xasprintf("'%s' is set again, first in line %d", name, r->set_at[key]), NULL);
	} else {
		r->set_at[key] = r->line;
		_cleanup_free_ char *origin = xasprintf("%s:%d", r->path, r->line);
		char *why = config_set(r->config, key, value, origin);
		if (why != NULL)
			config_file_complain(r, why, NULL);
	}
}

static int config_file_pair(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	if (r->wrong != NULL)
		return 0;
	if (*section != '\0' && strcmp(section, "venvd") != 0)
		config_file_complain(r, xasprintf("'%s' is in the unknown section [%s]", name, section),
		    xstrdup("keys stand in no section, or in [venvd]"));
	else
		config_file_set(r, name, value);
	if (r->previous == NULL || strcmp(r->previous, name) != 0) {
		free(r->previous);
		r->previous = xstrdup(name);
	}
	return r->wrong == NULL;
}

static char *config_file_parse(struct config *config, const char *path, const struct text *text)
{
	struct reading r = { .config = config, .path = path };
	if (text->len > 0) {
		bool bom = text->len >= strlen(BOM) && memcmp(text->data, BOM, strlen(BOM)) == 0;
		r.rest = text->data + (bom ? strlen(BOM) : 0);
		r.end = text->data + text->len;
	}
	int line = ini_parse_stream(config_file_line, &r, config_file_pair, &r);
	/* A line that inih alone found wrong lies before every one of our complaints. */
	if (line > 0 && (r.wrong == NULL || line < r.line)) {
		free(r.wrong);
		r.wrong = NULL;
		r.line = line;
		config_file_complain(&r, xstrdup("neither 'key = value' nor '[venvd]'"), NULL);
	} else if (line < 0 && r.wrong == NULL) {
		config_file_complain(&r, xstrdup("cannot be parsed: no memory"), NULL);
	}
	free(r.previous);
	return r.wrong;
}

static char *config_file_refuse(const char *path, const char *what)
{
	return config_file_printable(xasprintf("%s: %s", path, what));
}

static char *config_file_unsafe(const struct stat *st, const char *path)
{
	_cleanup_free_ char *shown = text_printable(path);
	if (!S_ISREG(st->st_mode))
		return config_file_refuse(path, "not a regular file");
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return config_file_refuse(path, "it belongs to somebody else, who could change it");
	if ((st->st_mode & S_IWOTH) != 0)
		return xasprintf("%s: everybody could change it\nhint: chmod o-w '%s'", shown, shown);
	return NULL;
}

char *config_file_read(struct config *config, const char *path, bool wanted)
{
	/* The one way to say "no file at all". */
	if (strcmp(path, "/dev/null") == 0)
		return NULL;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 && !wanted && (errno == ENOENT || errno == ENOTDIR))
		return NULL;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return config_file_refuse(path, strerror(errno));
	char *unsafe = config_file_unsafe(&st, path);
	if (unsafe != NULL)
		return unsafe;
	_cleanup_text_ struct text text = { 0 };
	if (fd_read_all(fd, LIMIT_CONFIG_BYTES, &text) < 0) {
		if (errno != EFBIG)
			return config_file_refuse(path, strerror(errno));
		_cleanup_free_ char *what = xasprintf("larger than %d bytes", LIMIT_CONFIG_BYTES);
		return config_file_refuse(path, what);
	}
	return config_file_parse(config, path, &text);
}

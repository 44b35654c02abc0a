/* SPDX-License-Identifier: MIT */
/*
 * Reading .python-version as pyenv and uv do. The file may lie in a repository that was just fetched: it can
 * only choose among the interpreters that a search finds anyway, and what a word means is resolve.c's business.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "pin.h"

#define PIN_FILE ".python-version"
#define PIN_WORDS 64

void pin_done(struct pin *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->words[i]);
	free(p->words);
	free(p->file);
	*p = (struct pin){ 0 };
}

static void add_word(struct pin *p, const char *s, size_t len)
{
	while (len > 0 && strchr(" \t\r", s[len - 1]))
		len--;
	while (len > 0 && strchr(" \t", *s)) {
		s++;
		len--;
	}
	if (len == 0 || *s == '#' || p->count == PIN_WORDS)
		return;
	p->words = xreallocarray(p->words, p->count + 1, sizeof(*p->words));
	p->words[p->count++] = xstrndup(s, len);
}

void pin_parse(const char *text, struct pin *ret)
{
	while (*text) {
		size_t line = strcspn(text, "\n");
		const char *end = text + line, *comment = memchr(text, '#', line);
		for (const char *s = text, *stop = comment ? comment : end; s < stop;) {
			size_t n = strcspn(s, ":\n");
			if (n > (size_t)(stop - s))
				n = stop - s;
			add_word(ret, s, n);
			s += n + 1;
		}
		text = end + (*end == '\n');
	}
}

/* A file that is larger, or is no file, names nothing. */
static bool read_pin(const char *path, struct pin *ret)
{
	_cleanup_text_ struct text data = { 0 };
	struct stat st;
	ret->linked = lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
	/* Looked at before it is opened: opening a device can already do something. */
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    fd_read_all(fd, LIMIT_PIN_BYTES, &data) < 0 || !data.data)
		return false;
	pin_parse(data.data, ret);
	if (ret->count == 0)
		return false;
	ret->file = xstrdup(path);
	return true;
}

bool pin_next(char **dir, int *level, struct pin *ret)
{
	*ret = (struct pin){ 0 };
	bool found = false;
	while (!found && *dir && (*level)++ < LIMIT_PIN_LEVELS) {
		_cleanup_free_ char *path = xasprintf("%s/" PIN_FILE, *dir);
		found = read_pin(path, ret);
		char *slash = strrchr(*dir, '/');
		if (!slash) {
			free(*dir);
			*dir = NULL;
		} else {
			*slash = '\0';
		}
	}
	return found;
}

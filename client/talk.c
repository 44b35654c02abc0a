/* SPDX-License-Identifier: MIT */
/*
 * The mouth of venvctl. Every byte that reaches a terminal passes through here, so this is the one
 * place that knows about colour, quietness and hostile text: a name or a problem that came over
 * the wire, or out of a file of an environment, cannot move the cursor of whoever lists it.
 *
 * stdout carries data only, and only through talk_out(); stderr carries one message a line,
 * beginning with "error: ", "hint: " or nothing. stdio is not used: a line is one write, and the
 * prompt does not pay for buffers that it never fills.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include "talk.h"
#include "venvctl.h"

bool talk_terminal(int fd)
{
	static signed char known[3] = { -1, -1, -1 };
	if (fd < 0 || fd > 2)
		return false;
	if (known[fd] < 0)
		known[fd] = (signed char)(isatty(fd) != 0);
	return known[fd] == 1;
}

bool talk_color(int fd)
{
	if (settings.color != COLOR_AUTO)
		return settings.color == COLOR_ALWAYS;
	const char *no_color = getenv("NO_COLOR");
	if (no_color && *no_color)
		return false;
	const char *term = getenv("TERM");
	return talk_terminal(fd) && term && strcmp(term, "dumb") != 0;
}

/* stderr may be gone or full: there is nobody left to tell. */
static void put(const struct text *line)
{
	if (fd_write_all(STDERR_FILENO, line->data, line->len) < 0)
		return;
}

static void PRINTF_LIKE(3, 0)
line_v(const char *label, const char *sgr, const char *fmt, va_list ap)
{
	_cleanup_free_ char *raw = xvasprintf(fmt, ap);
	_cleanup_free_ char *safe = text_printable(raw);
	_cleanup_text_ struct text line = { 0 };
	talk_progress(NULL);
	if (label && talk_color(STDERR_FILENO))
		text_addf(&line, "\033[1;%sm%s:\033[0m ", sgr, label);
	else if (label)
		text_addf(&line, "%s: ", label);
	text_adds(&line, safe);
	text_adds(&line, "\n");
	put(&line);
}

void talk_error(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	line_v("error", TALK_RED, fmt, ap);
	va_end(ap);
}

static void PRINTF_LIKE(3, 4) line(const char *label, const char *sgr, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	line_v(label, sgr, fmt, ap);
	va_end(ap);
}

void talk_hint(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	_cleanup_free_ char *raw = xvasprintf(fmt, ap);
	va_end(ap);
	_cleanup_free_ char *command = talk_command(raw);
	line("hint", TALK_GREEN, "%s", command);
}

void talk_say(const char *fmt, ...)
{
	if (settings.quiet)
		return;
	va_list ap;
	va_start(ap, fmt);
	line_v(NULL, NULL, fmt, ap);
	va_end(ap);
}

void talk_indented(const char *text)
{
	_cleanup_text_ struct text out = { 0 };
	while (*text) {
		size_t len = strcspn(text, "\n");
		_cleanup_free_ char *raw = xstrndup(text, len);
		_cleanup_free_ char *safe = text_printable(raw);
		text_addf(&out, "  %s\n", safe);
		text += len + (text[len] == '\n');
	}
	if (out.len > 0)
		put(&out);
}

/* Cut to the terminal, or '\r' would not come back to the line's beginning. */
static size_t progress_columns(void)
{
	struct winsize size;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
		return size.ws_col - 1u;
	return 79;
}

void talk_progress(const char *text)
{
	static size_t shown;
	if (!text && shown == 0)
		return;
	if (text && (settings.quiet || !talk_terminal(STDERR_FILENO)))
		return;
	_cleanup_text_ struct text line = { 0 };
	_cleanup_free_ char *safe = text_printable(text ? text : "");
	size_t len = strlen(safe), columns = progress_columns();
	if (len > columns)
		len = columns;
	text_adds(&line, "\r");
	text_add(&line, safe, len);
	for (size_t i = len; i < shown; i++)
		text_adds(&line, " ");
	if (shown > len) {
		text_adds(&line, "\r");
		text_add(&line, safe, len);
	}
	shown = len;
	put(&line);
}

bool talk_can_ask(void)
{
	return !settings.no_input && talk_terminal(STDIN_FILENO) && talk_terminal(STDERR_FILENO);
}

bool talk_ask(const char *question)
{
	_cleanup_free_ char *safe = text_printable(question);
	_cleanup_text_ struct text line = { 0 };
	text_addf(&line, "%s [y/N] ", safe);
	put(&line);

	char answer[256];
	ssize_t len;
	do
		len = read(STDIN_FILENO, answer, sizeof(answer) - 1);
	while (len < 0 && errno == EINTR);
	if (len <= 0) {
		talk_say("%s", "");
		return false;
	}
	answer[len] = '\0';
	answer[strcspn(answer, "\r\n")] = '\0';
	return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

/* The length of a colour of ours at s; 0 if there is none. */
static size_t color_at(const char *s)
{
	size_t len = s[0] == '\033' && s[1] == '[' ? 2 + strspn(s + 2, "0123456789;") : 0;
	return len > 0 && s[len] == 'm' && talk_color(STDOUT_FILENO) ? len + 1 : 0;
}

/* Most of what is written was made of harmless parts. This is for the rest: paths, names, lines for a shell. */
static void make_harmless(struct text *out)
{
	size_t len, plain = 0;
	while (plain < out->len && (out->data[plain] == '\n' || (out->data[plain] >= ' ' && out->data[plain] <= '~')))
		plain++;
	if (plain == out->len)
		return;
	struct text safe = { 0 };
	for (const char *p = out->data; *p; p += len) {
		len = *p == '\n' || *p == '\t' ? 1 : color_at(p);
		if (len > 0) {
			text_add(&safe, p, len);
			continue;
		}
		while (p[len] && p[len] != '\n' && p[len] != '\t' && color_at(p + len) == 0)
			len++;
		_cleanup_free_ char *raw = xstrndup(p, len);
		_cleanup_free_ char *printable = text_printable(raw);
		text_adds(&safe, printable);
	}
	text_done(out);
	*out = safe;
}

void talk_json(struct text *out)
{
	if (out->len == 0)
		return;
	struct text safe = { 0 };
	_cleanup_free_ char *printable = text_printable_json(out->data);
	text_adds(&safe, printable);
	talk_out(&safe);
	text_done(&safe);
	text_clear(out);
}

void talk_out(struct text *out)
{
	if (out->len > 0 && talk_terminal(STDOUT_FILENO))
		make_harmless(out);
	if (out->len > 0 && fd_write_all(STDOUT_FILENO, out->data, out->len) < 0) {
		int why = errno;
		if (why != EPIPE)
			talk_error("cannot write to standard output: %s", strerror(why));
		_exit(why == EPIPE ? 128 + SIGPIPE : EXIT_REFUSED);
	}
	text_clear(out);
}

char *talk_command(const char *text)
{
	static const char self[] = "venvctl ";
	const char *at = strstr(text, self), *why;
	const char *root = at && settings.root_given ? settings_root_try(&why) : NULL;
	const char *socket = at && settings.socket_given ? settings.socket : NULL;
	if (!root && !socket)
		return xstrdup(text);
	struct text out = { 0 };
	size_t before = (size_t)(at - text) + sizeof(self) - 1;
	_cleanup_free_ char *quoted_root = talk_quote(root ? root : ""), *quoted_socket = talk_quote(socket ? socket : "");
	text_add(&out, text, before);
	if (root)
		text_addf(&out, "--root %s ", quoted_root);
	if (socket)
		text_addf(&out, "--socket %s ", quoted_socket);
	text_adds(&out, text + before);
	return out.data;
}

char *talk_quote(const char *word)
{
	static const char harmless[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+=:,@%/";
	if (*word && strspn(word, harmless) == strlen(word))
		return xstrdup(word);
	struct text out = { 0 };
	text_adds(&out, "'");
	for (; *word; word++) {
		if (*word == '\'')
			text_adds(&out, "'\\''");
		else
			text_add(&out, word, 1);
	}
	text_adds(&out, "'");
	return out.data;
}

/* SPDX-License-Identifier: MIT */
/*
 * venvctl prompt: runs before every line that somebody types. It may take 5 ms in all and must
 * never be the reason why a shell is slow or a prompt lies. So it connects and reads without
 * blocking (a stopped daemon still accepts), touches no locale and no stdio, reads the reply in
 * place, and when the daemon is late, gone, wrong or a stranger's, it prints what the shell itself
 * knows: the name. Always exit 0.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include "bounds.h"
#include "call.h"
#include "find.h"
#include "row.h"
#include "talk.h"
#include "venvctl.h"

static void add_field(struct text *out, const struct row_field *f)
{
	text_add(out, f->value, f->len);
}

static const char *mark_of(const struct row_field *state)
{
	static const struct { const char *state, *mark; } marks[] = {
		{ "broken", " !" }, { "missing", " ?" }, { "creating", " +" },
	};
	for (size_t i = 0; state && i < ARRAY_LENGTH(marks); i++)
		if (strlen(marks[i].state) == state->len &&
		    memcmp(marks[i].state, state->value, state->len) == 0)
			return marks[i].mark;
	return "";
}

/* Asks until the moment is over; false if the answer is not there by then, or is no good one. */
static bool ask(struct wire *w, const char *name, const char *path, struct text *out)
{
	json_auto_t *parameters = json_object();
	json_t *which = json_string(name ? name : path);
	if (json_object_set_new(parameters, name ? "name" : "path", which) < 0)
		return false;
	const char *frame;
	size_t len;
	if (call_send(w, "Prompt", parameters, false) != CALL_OK ||
	    call_frame(w, &frame, &len) != CALL_OK)
		return false;
	struct row row;
	if (!row_read(frame, len, NULL, &row))
		return false;
	const struct row_field *shown = row_field(&row, "prompt");
	if (!shown || shown->len == 0)
		shown = row_field(&row, "name");
	const struct row_field *version = row_field(&row, "version");
	if (shown)
		add_field(out, shown);
	if (shown && version) {
		text_adds(out, " ");
		add_field(out, version);
	}
	if (shown)
		text_adds(out, mark_of(row_field(&row, "state")));
	row_done(&row);
	return shown != NULL;
}

static bool ask_daemon(const char *name, const char *path, int64_t until_us, struct text *out)
{
	int64_t stranger;
	int fd = find_connect(true, &stranger);
	if (fd < 0)
		return false;
	struct wire w;
	call_init(&w, fd);
	w.until_us = until_us;
	w.wait_ms = LIMIT_PROMPT_MS;
	bool known = ask(&w, name, path, out);
	call_close(&w);
	return known;
}

/* Some activate scripts write "(name) " into VIRTUAL_ENV_PROMPT, others "name". */
static void add_bare_prompt(struct text *out, const char *prompt)
{
	size_t len = strlen(prompt);
	while (len > 0 && prompt[len - 1] == ' ')
		len--;
	if (len > 2 && prompt[0] == '(' && prompt[len - 1] == ')') {
		prompt++;
		len -= 2;
	}
	text_add(out, prompt, len);
}

static void add_what_we_know(struct text *out, const char *name, const char *path)
{
	const char *prompt = getenv("VIRTUAL_ENV_PROMPT");
	text_clear(out);
	if (name) {
		text_adds(out, name);
		return;
	}
	if (prompt)
		add_bare_prompt(out, prompt);
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	const char *slash = memrchr(path, '/', len);
	const char *base = slash ? slash + 1 : path;
	if (out->len == 0)
		text_add(out, base, len - (size_t)(base - path));
}

int cmd_prompt(int argc, char **argv)
{
	int64_t until_us = monotonic_us() + LIMIT_PROMPT_MS * 1000;
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 0, 1);
	const char *name = argv[optind], *path = getenv("VIRTUAL_ENV");
	if (!name && (!path || !*path))
		return EXIT_DONE;

	_cleanup_text_ struct text out = { 0 };
	if (!ask_daemon(name, path, until_us, &out))
		add_what_we_know(&out, name, path);
	_cleanup_free_ char *safe = text_printable(out.data ? out.data : "");
	_cleanup_text_ struct text line = { 0 };
	text_addf(&line, "%s\n", safe);
	talk_out(&line);
	return EXIT_DONE;
}

/* SPDX-License-Identifier: MIT */
/*
 * A path is found in each of the forms in which tools write one: as it is, quoted for a shell, in a URL, in JSON. It
 * counts only where a component ends behind it and none goes on before it: in the environment 'a' nothing is
 * done to the path of 'ab'. So doing it again changes nothing more.
 *
 * A prompt's name is a word like any other, and replaced only where activation scripts have it.
 */
#include <jansson.h>
#include <string.h>

#include "moved.h"
#include "pytext.h"
#include "record.h"

#define FORMS_MAX 5
#define SPELLINGS_MAX 4
#define SHEBANG_MAX 127         /* as distlib, in pip */

struct form {
	char *from, *to;
	size_t from_len, to_len;
};

struct moved {
	struct form forms[FORMS_MAX * SPELLINGS_MAX];
	size_t count;
	char *to;
	char *from_name, *to_name;
};

/* --- forms --- */

static void add_form(struct moved *m, const char *from, const char *to)
{
	for (size_t i = 0; i < m->count; i++)
		if (strcmp(m->forms[i].from, from) == 0)
			return;
	if (m->count < ARRAY_LENGTH(m->forms))
		m->forms[m->count++] = (struct form){ xstrdup(from), xstrdup(to), strlen(from), strlen(to) };
}

/* Inside the quotes of shlex.quote() and of quote_ps1(). */
static char *in_shell(const char *path)
{
	struct text out = { 0 };
	for (; *path; path++)
		text_adds(&out, *path == '\'' ? "'\"'\"'" : (char[]){ *path, '\0' });
	return out.data;
}

static char *in_powershell(const char *path)
{
	struct text out = { 0 };
	for (; *path; path++)
		text_adds(&out, *path == '\'' ? "''" : (char[]){ *path, '\0' });
	return out.data;
}

/* urllib.parse.quote() */
static char *in_url(const char *path)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~/";
	struct text out = { 0 };
	for (; *path; path++) {
		if (strchr(plain, *path))
			text_add(&out, path, 1);
		else
			text_addf(&out, "%%%02X", (unsigned char)*path);
	}
	return out.data;
}

/* json.dumps() */
static char *in_json(const char *path)
{
	json_t *string = json_string(path);
	char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
	char *inner = quoted ? xstrndup(quoted + 1, strlen(quoted) - 2) : xstrdup(path);
	for (char *p = inner; (p = strstr(p, "\\u")); p++)     /* Python's hexadecimal is in lower case */
		for (size_t i = 2; i < 6 && p[i]; i++)
			if (p[i] >= 'A' && p[i] <= 'F')
				p[i] += 'a' - 'A';
	json_decref(string);
	free(quoted);
	return inner;
}

struct moved *moved_new(const char *const *from, size_t from_count, const char *to, const char *from_name,
    const char *to_name)
{
	static char *(*const forms[])(const char *) = { in_shell, in_powershell, in_url, in_json };
	struct moved *m = xcalloc(1, sizeof(*m));
	m->to = xstrdup(to);
	for (size_t i = 0; i < from_count && i < SPELLINGS_MAX; i++) {
		add_form(m, from[i], to);
		for (size_t k = 0; k < ARRAY_LENGTH(forms); k++) {
			_cleanup_free_ char *old = forms[k](from[i]), *new = forms[k](to);
			add_form(m, old, new);
		}
	}
	if (from_name && to_name) {
		m->from_name = xstrdup(from_name);
		m->to_name = xstrdup(to_name);
	}
	return m;
}

void moved_free(struct moved *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->count; i++) {
		free(m->forms[i].from);
		free(m->forms[i].to);
	}
	free(m->to);
	free(m->from_name);
	free(m->to_name);
	free(m);
}

/* --- paths --- */

static bool in_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
	    c == '-' || c == '~' || (unsigned char)c >= 0x80;
}

/* Whether a path may begin at text[at]: no word goes on there, unless that is an option's letter, as in -I/r/a/include. */
static bool begins_at(const char *text, size_t at)
{
	if (at == 0 || !in_word(text[at - 1]))
		return true;
	return at >= 2 && text[at - 2] == '-' && text[at - 1] != '-' && (at == 2 || !in_word(text[at - 3]));
}

/* The form that stands at text[at], NULL if none does. */
static const struct form *form_at(const struct moved *m, const char *text, size_t len, size_t at)
{
	if (!begins_at(text, at))
		return NULL;
	for (size_t i = 0; i < m->count; i++) {
		const struct form *f = &m->forms[i];
		size_t end = at + f->from_len;
		if (end <= len && memcmp(text + at, f->from, f->from_len) == 0 && (end == len || !in_word(text[end])))
			return f;
	}
	return NULL;
}

/* The quote in which a shell is at text[at]; '\0' for none. No quoted word of an activation script has two lines. */
static char quote_at(const char *text, size_t at)
{
	size_t line = at;
	char quote = '\0';
	while (line > 0 && text[line - 1] != '\n')
		line--;
	for (; line < at; line++) {
		char c = text[line];
		if (c == '\\' && quote != '\'')
			line++;
		else if (quote ? c == quote : c == '\'' || c == '"')
			quote = quote ? '\0' : c;
	}
	return quote;
}

/* What stands in no quotes needs some if the new path does, and other ones may not stand in those it has. */
static void add_for_shell(const struct moved *m, char quote, struct text *out)
{
	_cleanup_free_ char *inner = quote == '\'' ? in_shell(m->to) : NULL;
	if (quote == '\0')
		pytext_quote_shell(out, m->to);
	else
		text_adds(out, inner ? inner : m->to);
}

static bool replace_paths(const struct moved *m, const char *text, size_t len, bool shell, struct text *out)
{
	bool changed = false;
	size_t done = 0;
	for (size_t at = 0; at < len;) {
		const char *slash = memchr(text + at, m->forms[0].from[0], len - at);
		if (!slash)
			break;
		at = (size_t)(slash - text);
		const struct form *f = form_at(m, text, len, at);
		if (!f) {
			at++;
			continue;
		}
		text_add(out, text + done, at - done);
		if (shell && strcmp(f->to, m->to) == 0)
			add_for_shell(m, quote_at(text, at), out);
		else
			text_add(out, f->to, f->to_len);
		at += f->from_len;
		done = at;
		changed = true;
	}
	text_add(out, text + done, len - done);
	return changed;
}

bool moved_text(const struct moved *m, const char *text, size_t len, struct text *out)
{
	return replace_paths(m, text, len, false, out);
}

bool moved_link(const struct moved *m, const char *target, struct text *out)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct form *f = &m->forms[i];
		if (strncmp(target, f->from, f->from_len) != 0 ||
		    (target[f->from_len] != '/' && target[f->from_len] != '\0'))
			continue;
		text_adds(out, f->to);
		text_adds(out, target + f->from_len);
		return true;
	}
	return false;
}

/* --- shebangs --- */

/* A script's head: the program of its shebang, and what stands behind that. */
struct head {
	const char *program;
	size_t program_len;
	const char *options;    /* from the blank before them to the end of the line */
	size_t options_len;
	size_t len;             /* of the whole head, its last newline too */
};

/* #!PROGRAM OPTIONS */
static bool read_short(const char *text, size_t len, struct head *h)
{
	const char *newline = memchr(text, '\n', len);
	if (len < 3 || memcmp(text, "#!", 2) != 0 || text[2] != '/' || !newline)
		return false;
	h->program = text + 2;
	const char *blank = memchr(h->program, ' ', (size_t)(newline - h->program));
	h->options = blank ? blank : newline;
	h->program_len = (size_t)(h->options - h->program);
	h->options_len = (size_t)(newline - h->options);
	h->len = (size_t)(newline - text) + 1;
	return true;
}

/* #!/bin/sh
 * '''exec' PROGRAM OPTIONS "$0" "$@"
 * ' '''
 * as pip writes it (quoted with "), and uv (with '). */
static bool read_long(const char *text, size_t len, struct head *h)
{
	static const char begin[] = "#!/bin/sh\n'''exec' ", end[] = " \"$0\" \"$@\"\n' '''\n";
	size_t begin_len = sizeof(begin) - 1, end_len = sizeof(end) - 1;
	const char *stop = len > begin_len && memcmp(text, begin, begin_len) == 0 ?
	    memmem(text + begin_len, len - begin_len, end, end_len) : NULL;
	if (!stop)
		return false;
	const char *p = text + begin_len;
	char quote = *p == '"' || *p == '\'' ? *p++ : '\0';
	const char *after = memchr(p, quote ? quote : ' ', (size_t)(stop - p));
	/* What goes on behind the quote is part of some other word: it must be seen with it. */
	if (quote && (!after || (after + 1 < stop && after[1] != ' ')))
		return false;
	h->program = p;
	h->program_len = (size_t)((after ? after : stop) - p);
	h->options = after ? after + (quote != '\0') : stop;
	h->options_len = (size_t)(stop - h->options);
	h->len = (size_t)(stop - text) + end_len;
	return h->program_len > 0 && !memchr(text + begin_len, '\n', (size_t)(stop - text) - begin_len);
}

static void write_head(struct text *out, const char *program, const char *options)
{
	_cleanup_free_ char *line = xasprintf("%s%s", program, options);
	if (*options == '\0') {
		pytext_shebang(out, program, false);
	} else if (!strchr(program, ' ') && strlen(line) + 3 <= SHEBANG_MAX) {
		text_addf(out, "#!%s\n", line);
	} else {
		const char *quote = strchr(program, ' ') ? "\"" : "";
		text_addf(out, "#!/bin/sh\n'''exec' %s%s%s%s \"$0\" \"$@\"\n' '''\n", quote, program, quote,
		    line + strlen(program));
	}
}

bool moved_script(const struct moved *m, const char *text, size_t len, struct text *out)
{
	struct head h;
	if (!read_long(text, len, &h) && !read_short(text, len, &h))
		return moved_text(m, text, len, out);
	_cleanup_free_ char *program = xstrndup(h.program, h.program_len);
	_cleanup_text_ struct text new = { 0 }, options = { 0 };
	/* Also what is a shebang only by its looks, with blanks in its path. */
	if (!moved_link(m, program, &new))
		return moved_text(m, text, len, out);
	text_clear(&new);
	moved_text(m, h.program, h.program_len, &new);
	moved_text(m, h.options, h.options_len, &options);
	write_head(out, new.data, options.data ? options.data : "");
	moved_text(m, text + h.len, len - h.len, out);
	return true;
}

char *moved_program(const char *text, size_t len)
{
	struct head h;
	return read_long(text, len, &h) || read_short(text, len, &h) ? xstrndup(h.program, h.program_len) : NULL;
}

/* --- prompts --- */

/* Replaces from where it stands between before and after; end: nothing of a word may follow. */
static bool replace_between(struct text *t, const char *before, const char *from, const char *to, const char *after)
{
	_cleanup_free_ char *what = xasprintf("%s%s%s", before, from, after);
	_cleanup_text_ struct text out = { 0 };
	bool changed = false;
	const char *p = t->data, *end = t->data + t->len, *hit;
	size_t len = strlen(what);
	while (p < end && (hit = memmem(p, (size_t)(end - p), what, len))) {
		bool whole = *after || hit + len == end || !in_word(hit[len]);
		text_add(&out, p, (size_t)(hit - p));
		text_addf(&out, "%s%s%s", before, whole ? to : from, after);
		changed = changed || whole;
		p = hit + len;
	}
	if (!changed)
		return false;
	text_add(&out, p, (size_t)(end - p));
	text_done(t);
	*t = out;
	out = (struct text){ 0 };
	return true;
}

bool moved_activate(const struct moved *m, const char *text, size_t len, struct text *out)
{
	static const struct { const char *before, *after; } places[] = {
		{ "(", ") " }, { "\"(\"", "\") " },
		{ "if (\"", "\" != \"\")" }, { "env_name = \"", "\"" }, { "(set_color 4B8BBE) \"", "\"" }, { "(set_color 4B8BBE) ", "" },
		{ "VIRTUAL_ENV_PROMPT=", "" }, { "VIRTUAL_ENV_PROMPT=\"", "\"" }, { "VIRTUAL_ENV_PROMPT='", "'" },
		{ "VIRTUAL_ENV_PROMPT ", "" }, { "VIRTUAL_ENV_PROMPT \"", "\"" }, { "VIRTUAL_ENV_PROMPT '", "'" },
	};
	_cleanup_text_ struct text t = { 0 };
	bool changed = replace_paths(m, text, len, true, &t);
	for (size_t i = 0; m->from_name && t.len > 0 && i < ARRAY_LENGTH(places); i++)
		changed |= replace_between(&t, places[i].before, m->from_name, m->to_name, places[i].after);
	text_add(out, t.data, t.len);
	return changed;
}

bool moved_cfg(const struct moved *m, const char *text, size_t len, struct text *out)
{
	_cleanup_text_ struct text t = { 0 };
	bool changed = moved_text(m, text, len, &t);
	if (m->from_name && t.len > 0)
		changed |= replace_between(&t, "prompt = ", m->from_name, m->to_name, "\n");
	text_add(out, t.data, t.len);
	return changed;
}

/* --- RECORD --- */

static bool rewrite_row(const char *line, const char *end, moved_row_fn *row, void *arg, struct text *out)
{
	const char *p = line;
	unsigned char digest[SHA256_DIGEST_LENGTH];
	size_t size;
	_cleanup_free_ char *path = record_field(&p, end);
	/* A row without a hash, as RECORD's own, promises nothing. */
	if (p == end || p + 1 == end || p[1] == ',' || !row(arg, path, digest, &size))
		return false;
	text_add(out, line, (size_t)(p - line));
	text_adds(out, ",sha256=");
	pytext_base64(out, digest, sizeof(digest));
	text_addf(out, ",%zu", size);
	return true;
}

bool moved_record(const struct moved *m, const char *text, size_t len, moved_row_fn *row, void *arg,
    struct text *out)
{
	_cleanup_text_ struct text t = { 0 };
	bool changed = moved_text(m, text, len, &t);
	const char *p = t.data, *end = t.data + t.len;
	for (const char *line, *bare; record_line(&p, end, &line, &bare);) {
		if (rewrite_row(line, bare, row, arg, out))
			changed = true;
		else
			text_add(out, line, (size_t)(bare - line));
		text_add(out, bare, (size_t)(p - bare));
	}
	return changed;
}

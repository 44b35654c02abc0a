/* SPDX-License-Identifier: MIT */
/*
 * Predicting what `python -m venv` writes. A model is JSON, in memory as on the disk: features that
 * were found in the venv module's own text, the templates of the activation scripts, pip's scripts
 * without their shebangs, and RECORDs cut at what depends on those scripts. Nothing here asks for a
 * version number.
 *
 * What is written is taken from the venv module line by line, its oddities included: the
 * replacements run one after the other, so a path that contains `__VENV_PROMPT__` is expanded
 * itself, and "command" is not quoted. What cannot be known is refused (-1), never guessed; image.c
 * holds every answer against the real thing once.
 */
#include <sha256.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "paths.h"
#include "pytext.h"

#define FORM 1                  /* of the JSON */
#define LONGEST_PROGRAM "bin/python3.14-intel64"
#define GITIGNORE "# Created by venv; see https://docs.python.org/3/library/venv.html\n*\n"

struct model {
	json_t *json;           /* owned; the rest borrows from it */
	const char *version, *bin;
	int pip, no_copies;
	struct {
		int quoting;            /* replacements are quoted */
		int bracketed_prompt;   /* "(NAME) " is what is put in, not NAME */
		int cfg_prompt, cfg_command;
		int dot_prompt;         /* "." means the current directory's name */
		int git_ignore;
		int refuses_separator;
	} has;
	json_t *names, *templates, *scripts, *records;
};

/* --- the draft --- */

static void add_names(json_t *names, const struct model_source *s)
{
	json_array_append_new(names, json_string("python"));
	json_array_append_new(names, json_string("python3"));
	if (strstr(s->venv, "python3.{sys.version_info[1]}") ||
	    strcmp(s->implementation, "pypy") == 0)
		json_array_append_new(names, json_sprintf("python%d.%d", s->numbers[0], s->numbers[1]));
	if (strstr(s->venv, "'pypy3', 'pypy'")) {
		json_array_append_new(names, json_string("pypy3"));
		json_array_append_new(names, json_string("pypy"));
	}
	const char *encoding = json_string_value(json_object_get(s->facts, "encoding"));
	if (strstr(s->venv, "𝜋thon") && s->numbers[0] == 3 && s->numbers[1] == 14 && encoding &&
	    strcmp(encoding, "utf-8") == 0)
		json_array_append_new(names, json_string("𝜋thon"));
}

/* The directory of the scripts, relative to the environment. */
static const char *bin_name(const struct model_source *s)
{
	json_t *scheme = json_object_get(s->facts, "scheme");
	const char *scripts = json_string_value(json_object_get(scheme, "scripts"));
	if (strstr(s->venv, "_venv_path(env_dir") && scripts && strncmp(scripts, "@/", 2) == 0)
		return scripts + 2;
	return "bin";
}

json_t *model_draft(const struct model_source *s)
{
	static const struct {
		const char *key, *text;
	} features[] = {
		{ "quoting", MODEL_QUOTES },
		{ "bracketedPrompt", "'(%s) ' % prompt" },
		{ "cfgPrompt", "prompt = {self.prompt!r}" },
		{ "cfgCommand", "'executable = %s" },
		{ "dotPrompt", "bpo-38901" },
		{ "gitIgnore", "create_git_ignore_file" },
		{ "refusesSeparator", "os.pathsep in os.fspath" },
	};
	json_t *draft = json_pack("{si, s[], s[], s[], s[]}", "form", FORM, "names", "templates",
	    "scripts", "records");
	for (size_t i = 0; i < ARRAY_LENGTH(features); i++)
		json_object_set_new(draft, features[i].key,
		    json_boolean(strstr(s->venv, features[i].text) != NULL));
	json_object_set_new(draft, "version", json_sprintf("%d.%d.%d", s->numbers[0], s->numbers[1],
	    s->numbers[2]));
	json_object_set_new(draft, "bin", json_string(bin_name(s)));
	json_object_set_new(draft, "pip", json_boolean(s->pip));
	/* Its libraries are copied, too, by rules of its own. */
	json_object_set_new(draft, "noCopies", json_boolean(strcmp(s->implementation, "pypy") == 0));
	add_names(json_object_get(draft, "names"), s);
	return draft;
}

int model_draft_template(json_t *draft, const char *name, const struct text *content, mode_t mode)
{
	static const char *const variables[] = {
		"__VENV_DIR__", "__VENV_NAME__", "__VENV_PROMPT__", "__VENV_BIN_NAME__", "__VENV_PYTHON__",
	};
	json_t *text = content->len ? json_stringn(content->data, content->len) : json_string("");
	if (!text || memchr(json_string_value(text), '\0', content->len)) {
		json_decref(text);
		return -1;
	}
	bool any = false;
	for (size_t i = 0; i < ARRAY_LENGTH(variables); i++)
		any = any || strstr(json_string_value(text), variables[i]);
	if (!any) {
		json_decref(text);
		return 1;
	}
	json_array_append_new(json_object_get(draft, "templates"), json_pack("{ss, so, si}", "name",
	    name, "text", text, "mode", (int)mode));
	return 0;
}

int model_draft_script(json_t *draft, const char *path, const struct text *content, mode_t floor,
    const char *python)
{
	_cleanup_text_ struct text shebang = { 0 };
	pytext_shebang(&shebang, python, false);
	if (content->len < shebang.len || memcmp(content->data, shebang.data, shebang.len) != 0)
		return 1;
	const char *body = content->data + shebang.len;
	/* Only the simple form has that line, so only there it can be seen. */
	bool newline = *body == '\n' && pytext_shebang_is_simple(python);
	json_t *text = json_stringn(body + newline, content->len - shebang.len - newline);
	if (!text || strlen(json_string_value(text)) != json_string_length(text) ||
	    strstr(json_string_value(text), python)) {
		json_decref(text);
		return -1;
	}
	json_array_append_new(json_object_get(draft, "scripts"), json_pack("{ss, so, sb, si}", "path",
	    path, "body", text, "newline", newline, "floor", (int)floor));
	return 0;
}

/* The script that a row of a RECORD is about, -1 if none; rows are relative to `site`. */
static int find_script(json_t *scripts, const char *row, size_t len, const char *site)
{
	_cleanup_free_ char *name = xstrndup(row, len);
	_cleanup_free_ char *joined = xasprintf("/%s/%s", site, name);
	_cleanup_free_ char *clean = path_absolute(joined);
	size_t i;
	json_t *script;
	json_array_foreach(scripts, i, script)
		if (strcmp(json_string_value(json_object_get(script, "path")), clean + 1) == 0)
			return (int)i;
	return -1;
}

int model_draft_record(json_t *draft, const char *path, const char *site, const struct text *content)
{
	json_t *scripts = json_object_get(draft, "scripts");
	json_auto_t *parts = json_array();
	const char *kept = content->data, *end = content->data + content->len;
	if (content->len == 0)
		return 1;
	for (const char *row = kept; row < end;) {
		const char *line = memchr(row, '\n', end - row);
		const char *next = line ? line + 1 : end;
		const char *comma = memchr(row, ',', next - row);
		if (!comma || memchr(row, '"', next - row))
			return -1;
		int script = find_script(scripts, row, comma - row, site);
		if (script >= 0) {
			json_array_append_new(parts, json_stringn(kept, comma + 1 - kept));
			json_array_append_new(parts, json_integer(script));
			kept = line ? line : end;
			kept -= kept > comma && kept[-1] == '\r';
		}
		row = next;
	}
	if (json_array_size(parts) == 0)
		return 1;
	json_t *rest = json_stringn(kept, end - kept);
	if (!rest)
		return -1;
	json_array_append_new(parts, rest);
	json_array_append_new(json_object_get(draft, "records"), json_pack("{ss, sO}", "path", path,
	    "parts", parts));
	return 0;
}

/* --- JSON --- */

struct template {
	const char *name, *text;
	int mode;
};

static bool read_template(json_t *value, struct template *ret)
{
	return json_unpack(value, "{ss, ss, si}", "name", &ret->name, "text", &ret->text, "mode",
	    &ret->mode) == 0;
}

struct script {
	const char *path, *body;
	int newline, floor;
};

static bool read_script(json_t *value, struct script *ret)
{
	return json_unpack(value, "{ss, ss, sb, si}", "path", &ret->path, "body", &ret->body, "newline",
	    &ret->newline, "floor", &ret->floor) == 0;
}

/* A person may have had a hand in it: nothing leads out of the environment. */
static bool is_sound(const struct model *m)
{
	struct template template;
	struct script script;
	size_t i;
	json_t *value;
	if (!json_is_array(m->names) || !json_is_array(m->templates) || !json_is_array(m->scripts) ||
	    !path_stays_inside(m->bin))
		return false;
	json_array_foreach(m->names, i, value)
		if (!json_is_string(value) || !path_stays_inside(json_string_value(value)))
			return false;
	json_array_foreach(m->templates, i, value)
		if (!read_template(value, &template) || !path_stays_inside(template.name))
			return false;
	json_array_foreach(m->scripts, i, value)
		if (!read_script(value, &script) || !path_stays_inside(script.path))
			return false;
	return true;
}

static bool are_records(const struct model *m)
{
	size_t i, j;
	json_t *record, *part;
	json_array_foreach(m->records, i, record) {
		json_t *parts = json_object_get(record, "parts");
		const char *path = json_string_value(json_object_get(record, "path"));
		if (!path || !path_stays_inside(path) || !json_is_array(parts))
			return false;
		json_array_foreach(parts, j, part)
			if (!json_is_string(part) && (!json_is_integer(part) || json_integer_value(part) < 0 ||
			    (size_t)json_integer_value(part) >= json_array_size(m->scripts)))
				return false;
	}
	return json_is_array(m->records);
}

struct model *model_from_json(const json_t *json)
{
	struct model *m = xcalloc(1, sizeof(*m));
	m->json = json_deep_copy(json);
	int form;
	if (json_unpack(m->json, "{si, ss, ss, sb, sb, sb, sb, sb, sb, sb, sb, sb, so, so, so, so}",
	    "form", &form, "version", &m->version, "bin", &m->bin, "pip", &m->pip, "noCopies",
	    &m->no_copies, "quoting", &m->has.quoting, "bracketedPrompt", &m->has.bracketed_prompt,
	    "cfgPrompt", &m->has.cfg_prompt, "cfgCommand", &m->has.cfg_command, "dotPrompt",
	    &m->has.dot_prompt, "gitIgnore", &m->has.git_ignore, "refusesSeparator",
	    &m->has.refuses_separator, "names", &m->names, "templates", &m->templates, "scripts",
	    &m->scripts, "records", &m->records) == 0 && form == FORM &&
	    is_sound(m) && are_records(m))
		return m;
	model_free(m);
	return NULL;
}

json_t *model_to_json(const struct model *m)
{
	return json_incref(m->json);
}

void model_free(struct model *m)
{
	if (m)
		json_decref(m->json);
	free(m);
}

/* --- the answer --- */

struct rendering {
	const struct model *model;
	const struct model_question *question;
	struct model_answer *answer;
	const char *name;       /* of the environment */
	const char *exe;        /* the name in bin that is the link to the base executable */
	char *home;             /* the base executable's directory */
	char *python;           /* the environment's own interpreter */
	char *prompt;           /* what was given, "." being expanded; NULL */
};

static void rendering_done(struct rendering *r)
{
	free(r->home);
	free(r->python);
	free(r->prompt);
}

static bool is_utf8(const char *s)
{
	json_auto_t *text = json_string(s);
	return text;
}

/* os.path.split(): the part behind the last slash. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static bool prepare(struct rendering *r)
{
	const struct model *m = r->model;
	const struct model_question *q = r->question;
	if (!is_utf8(q->path) || !is_utf8(q->executable) || !is_utf8(q->base_executable) ||
	    !is_utf8(q->executable_real) || (q->prompt && !is_utf8(q->prompt)))
		return false;
	if (q->path[0] != '/' || q->base_executable[0] != '/' || m->pip == q->without_pip ||
	    strncmp(q->path, "/usr/bin/env ", 13) == 0)
		return false;
	r->name = base_name(q->path);
	r->exe = base_name(q->base_executable);
	if (!*r->name || !*r->exe)
		return false;
	_cleanup_free_ char *base = path_absolute(q->base_executable);
	size_t len = base_name(base) - base;
	r->home = xstrndup(base, len > 1 ? len - 1 : 1);
	r->python = xasprintf("%s/%s/%s", q->path, m->bin, r->exe);
	if (q->prompt && strcmp(q->prompt, ".") == 0 && m->has.dot_prompt) {
		if (!q->cwd || !is_utf8(q->cwd))
			return false;
		r->prompt = xstrdup(base_name(q->cwd));
	} else {
		r->prompt = xstrdup(q->prompt);
	}
	return true;
}

/* There is room for all; the content is added by the caller. */
static struct text *add_file(struct rendering *r, char *path, mode_t mode, mode_t floor, bool exact)
{
	struct model_file *file = &r->answer->files[r->answer->file_count++];
	*file = (struct model_file){ .path = path, .mode = mode, .floor = floor, .exact_mode = exact };
	return &file->content;
}

static bool add_configuration(struct rendering *r)
{
	const struct model *m = r->model;
	const struct model_question *q = r->question;
	struct text *out = add_file(r, xstrdup("pyvenv.cfg"), 0666, 0, false);
	text_addf(out, "home = %s\ninclude-system-site-packages = %s\nversion = %s\n", r->home,
	    q->system_site_packages ? "true" : "false", m->version);
	if (r->prompt && m->has.cfg_prompt) {
		text_adds(out, "prompt = ");
		if (!pytext_repr(out, r->prompt))
			return false;
		text_adds(out, "\n");
	}
	if (!m->has.cfg_command)
		return true;
	text_addf(out, "executable = %s\ncommand = %s -m venv", q->executable_real, q->executable);
	if (q->copies)
		text_adds(out, " --copies");
	if (q->without_pip)
		text_adds(out, " --without-pip");
	if (q->system_site_packages)
		text_adds(out, " --system-site-packages");
	if (q->prompt)
		text_addf(out, " --prompt=\"%s\"", q->prompt);
	if (m->has.git_ignore && q->without_scm_ignore_files)
		text_adds(out, " --without-scm-ignore-files");
	text_addf(out, " %s\n", q->path);
	return true;
}

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), n = strlen(end);
	return len >= n && strcmp(s + len - n, end) == 0;
}

/* str.replace() of one variable, quoted for the kind of script that it is in. */
static void replace(const struct model *m, const char *script, struct text *out, const char *variable,
    const char *value)
{
	_cleanup_text_ struct text quoted = { 0 };
	if (!m->has.quoting || ends_with(script, ".bat"))
		text_adds(&quoted, value);
	else if (ends_with(script, ".ps1"))
		pytext_quote_powershell(&quoted, value);
	else
		pytext_quote_shell(&quoted, value);
	pytext_replace(out, variable, quoted.data);
}

static void add_templates(struct rendering *r)
{
	const struct model *m = r->model;
	const char *given = r->prompt ? r->prompt : r->name;
	_cleanup_free_ char *prompt = m->has.bracketed_prompt ? xasprintf("(%s) ", given) :
	    xstrdup(given);
	size_t i;
	json_t *value;
	json_array_foreach(m->templates, i, value) {
		struct template t;
		if (!read_template(value, &t))
			continue;
		struct text *out = add_file(r, xasprintf("%s/%s", m->bin, t.name), t.mode, 0, true);
		text_adds(out, t.text);
		replace(m, t.name, out, "__VENV_DIR__", r->question->path);
		replace(m, t.name, out, "__VENV_NAME__", r->name);
		replace(m, t.name, out, "__VENV_PROMPT__", prompt);
		replace(m, t.name, out, "__VENV_BIN_NAME__", m->bin);
		replace(m, t.name, out, "__VENV_PYTHON__", r->python);
	}
}

static void add_scripts(struct rendering *r)
{
	size_t i;
	json_t *value;
	json_array_foreach(r->model->scripts, i, value) {
		struct script s;
		if (!read_script(value, &s))
			continue;
		struct text *out = add_file(r, xstrdup(s.path), 0666 | s.floor, s.floor, false);
		pytext_shebang(out, r->python, s.newline);
		text_adds(out, s.body);
	}
}

/* "sha256=" and the rest of a row, as PEP 376 wants it. */
static void add_row(struct text *out, const struct text *script)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	SHA2_CTX context;
	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)script->data, script->len);
	SHA256Final(digest, &context);
	text_adds(out, "sha256=");
	pytext_base64(out, digest, sizeof(digest));
	text_addf(out, ",%zu", script->len);
}

static void add_records(struct rendering *r)
{
	const struct model_file *scripts = r->answer->files + r->answer->file_count -
	    json_array_size(r->model->scripts);
	size_t i, j;
	json_t *record, *part;
	json_array_foreach(r->model->records, i, record) {
		const char *path = json_string_value(json_object_get(record, "path"));
		struct text *out = add_file(r, xstrdup(path), 0666, 0, false);
		struct model_file *file = &r->answer->files[r->answer->file_count - 1];
		bool rows = false;
		json_array_foreach(json_object_get(record, "parts"), j, part) {
			if (json_is_string(part)) {
				text_add(out, json_string_value(part), json_string_length(part));
				*(rows ? &file->tail : &file->head) += json_string_length(part);
			} else {
				add_row(out, &scripts[json_integer_value(part)].content);
				rows = true;
				file->tail = 0;
			}
		}
	}
}

void model_render_blank(const struct model *m, struct model_answer *ret)
{
	const struct model_question question = {
		.path = "/b", .executable = "/b", .base_executable = "/b", .executable_real = "/b",
		.without_pip = !m->pip, .without_scm_ignore_files = true,
	};
	if (model_render(m, &question, ret) < 0)
		*ret = (struct model_answer){ 0 };
}

int model_render_links(const struct model *m, const char *base_executable, bool copies,
    struct model_answer *a)
{
	const char *exe = base_name(base_executable);
	size_t i;
	json_t *name;
	*a = (struct model_answer){ 0 };
	if (base_executable[0] != '/' || !*exe || (copies && m->no_copies))
		return -1;
	a->links = xcalloc(1 + json_array_size(m->names), sizeof(*a->links));
	/* The first is the one to the base executable; a name that is already there is left
	 * alone. */
	a->links[a->link_count++] = (struct model_link){
		.path = xasprintf("%s/%s", m->bin, exe), .target = xstrdup(base_executable),
	};
	json_array_foreach(m->names, i, name)
		if (strcmp(json_string_value(name), exe) != 0)
			a->links[a->link_count++] = (struct model_link){
				.path = xasprintf("%s/%s", m->bin, json_string_value(name)),
				.target = xstrdup(copies ? base_executable : exe),
			};
	return 0;
}

int model_render(const struct model *m, const struct model_question *q, struct model_answer *ret)
{
	__attribute__((cleanup(rendering_done))) struct rendering r = {
		.model = m, .question = q, .answer = ret,
	};
	*ret = (struct model_answer){ 0 };
	if (!prepare(&r) || model_render_links(m, q->base_executable, q->copies, ret) < 0)
		return -1;
	ret->files = xcalloc(2 + json_array_size(m->templates) + json_array_size(m->scripts) +
	    json_array_size(m->records), sizeof(*ret->files));
	if (!add_configuration(&r)) {
		model_answer_done(ret);
		return -1;
	}
	if (m->has.git_ignore && !q->without_scm_ignore_files)
		text_adds(add_file(&r, xstrdup(".gitignore"), 0666, 0, false), GITIGNORE);
	add_templates(&r);
	add_scripts(&r);
	add_records(&r);
	return 0;
}

void model_answer_done(struct model_answer *a)
{
	for (size_t i = 0; i < a->file_count; i++) {
		free(a->files[i].path);
		text_done(&a->files[i].content);
	}
	for (size_t i = 0; i < a->link_count; i++) {
		free(a->links[i].path);
		free(a->links[i].target);
	}
	free(a->files);
	free(a->links);
	*a = (struct model_answer){ 0 };
}

/* Whether one of the words is in the text. */
static bool holds(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strstr(text, words[i]))
			return true;
	return false;
}

/* A line that is too long to begin a script with pip leaves to a shell, in quotes only if it has a blank. */
static bool is_split_by_shell(const char *path)
{
	_cleanup_free_ char *python = xasprintf("%s/" LONGEST_PROGRAM, path);
	return strpbrk(path, "&|;<>()") && !strchr(path, ' ') && !pytext_shebang_is_simple(python);
}

/* A prompt is expanded once more whenever it is shown, whatever quotes it stands in. A path stands in double quotes where
 * pip starts its interpreter, and in none at the beginning of a script, where it ends at a tab; and a line of csh ends at its
 * end. */
char *model_danger(const char *path, const char *prompt, const char *cwd, bool quoted)
{
	static const char *const in_prompts[] = { "`", "$(", "${", "\\", "\n", "\r", "\033" };
	static const char *const in_paths[] = { "`", "$(", "${", "\"", "\n" };
	const char *shown = !prompt ? base_name(path) : strcmp(prompt, ".") == 0 && cwd ? base_name(cwd) : prompt;
	if (holds(shown, in_prompts, ARRAY_LENGTH(in_prompts)) || (!quoted && strchr(shown, '"')))
		return xasprintf("a shell would execute a part of the prompt '%s' when it shows it", shown);
	if (holds(path, in_paths, ARRAY_LENGTH(in_paths)) || is_split_by_shell(path))
		return xasprintf("a shell would execute a part of the path '%s', which scripts hold", path);
	if (strchr(path, '\t'))
		return xasprintf("who starts a script would execute a part of the path '%s', with which it begins", path);
	return NULL;
}

char *model_refusal(const struct model *m, const struct model_question *q)
{
	char *danger = model_danger(q->path, q->prompt, q->cwd, m->has.quoting);
	if (danger)
		return danger;
	if (m->has.refuses_separator && strchr(q->path, ':'))
		return xasprintf("Refusing to create a venv in %s because it contains the PATH separator :.",
		    q->path);
	if (q->without_scm_ignore_files && !m->has.git_ignore)
		return xstrdup("unrecognized arguments: --without-scm-ignore-files");
	return NULL;
}

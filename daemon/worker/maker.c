/* SPDX-License-Identifier: MIT */
/*
 * The tool: the interpreter's own venv module, or a virtualenv. It gets every option that was asked for and says
 * itself what it refuses; nothing of that is decided here by a version number. Owns no file: where it works, and
 * what becomes of it there, is the caller's business.
 */
#include <fcntl.h>
#include <string.h>

#include "builder.h"
#include "child.h"
#include "maker.h"
#include "model.h"

#define ARGUMENTS_MAX 16
#define MODULE_BYTES (256 * 1024)       /* of venv/__init__.py that is read */

struct arguments {
	const char *v[ARGUMENTS_MAX];
	size_t count;
};

static void add(struct arguments *a, const char *word)
{
	a->v[a->count++] = word;
}

static void add_if(struct arguments *a, bool wanted, const char *word)
{
	if (wanted)
		add(a, word);
}

static bool flag(json_t *options, const char *key)
{
	return json_is_true(json_object_get(options, key));
}

void maker_options_read(struct maker_options *o, json_t *options)
{
	*o = (struct maker_options){
		.prompt = json_string_value(json_object_get(options, "prompt")),
		.without_pip = flag(options, "withoutPip"),
		.system_site_packages = flag(options, "systemSitePackages"),
		.copies = flag(options, "copies"),
		.without_scm_ignore_files = flag(options, "withoutScmIgnoreFiles"),
		.clear = flag(options, "clear"),
		.upgrade = flag(options, "upgrade"),
		.upgrade_deps = flag(options, "upgradeDeps"),
	};
}

/* --- what it knows --- */

/* venv/__init__.py of the interpreter: its options stand there as they are typed. NULL if it cannot be read. */
static char *module_text(const struct interpreter *i)
{
	const char *stdlib = json_string_value(json_object_get(i->facts, "stdlib"));
	if (!stdlib)
		return NULL;
	_cleanup_free_ char *path = xasprintf("%s/venv/__init__.py", stdlib);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct text text = { 0 };
	if (fd < 0 || fd_read_all(fd, MODULE_BYTES, &text) < 0 || !text.data)
		return NULL;
	return text.data;
}

/* What the tool would write, and a shell execute, is not made. An upgrade writes no scripts. */
static int check_activation(const struct maker *m, const char *text, struct failure *f)
{
	bool quoted = !m->virtualenv && (!text || strstr(text, MODEL_QUOTES));
	_cleanup_free_ char *why = m->options->upgrade ? NULL :
	    model_danger(m->path, m->options->prompt, m->caller->cwd, quoted);
	return why ? failure_reason(f, ERROR_UNSUPPORTED, "%s", why) : 0;
}

int maker_check(const struct maker *m, struct failure *f)
{
	const struct maker_options *o = m->options;
	if (m->virtualenv && (o->upgrade || o->upgrade_deps))
		return builder_unknown_option(m->interpreter, "virtualenv",
		    o->upgrade ? "--upgrade" : "--upgrade-deps", f);
	_cleanup_free_ char *text = m->virtualenv ? NULL : module_text(m->interpreter);
	if (check_activation(m, text, f) < 0)
		return -1;
	if (m->virtualenv || (!o->upgrade_deps && !o->without_scm_ignore_files))
		return 0;
	const struct {
		bool wanted;
		const char *option;
	} late[] = {
		{ o->upgrade_deps, "--upgrade-deps" },
		{ o->without_scm_ignore_files, "--without-scm-ignore-files" },
	};
	for (size_t i = 0; text && i < ARRAY_LENGTH(late); i++)
		if (late[i].wanted && !strstr(text, late[i].option))
			return builder_unknown_option(m->interpreter, "venv", late[i].option, f);
	return 0;
}

/* --- running it --- */

static int run(const struct maker *m, const struct arguments *a, struct failure *f)
{
	/* Of `python2 -m virtualenv` the first place to be imported from is the working directory. */
	bool module = m->virtualenv->words > 1;
	__attribute__((cleanup(child_done))) struct child child = {
		.argv = a->v, .caller = m->caller, .cwd = module ? "/" : m->caller->cwd,
	};
	child_run(&child);
	if (child.end == CHILD_GONE)
		return failure_gone(f);
	if (child.end == CHILD_EXITED && child.status == 0)
		return 0;
	return builder_failed(m->interpreter, &child, "virtualenv", m->name, f);
}

static int run_venv(const struct maker *m, const char *prompt, struct failure *f)
{
	const struct maker_options *o = m->options;
	struct arguments a = { 0 };
	add_if(&a, o->system_site_packages, "--system-site-packages");
	add_if(&a, o->copies, "--copies");
	add_if(&a, o->clear, "--clear");
	add_if(&a, o->upgrade, "--upgrade");
	add_if(&a, o->without_pip, "--without-pip");
	add_if(&a, prompt, prompt);
	add_if(&a, o->upgrade_deps, "--upgrade-deps");
	add_if(&a, o->without_scm_ignore_files, "--without-scm-ignore-files");
	add(&a, m->path);
	return builder_run_venv(m->interpreter, m->caller, a.v, m->name, f);
}

/* One that a distribution has stripped of its wheels puts in a pip for another Python; so that is tried. */
static int check_pip(const struct maker *m, struct failure *f)
{
	_cleanup_free_ char *pip = xasprintf("%s/bin/pip", m->path);
	struct arguments a = { .v = { pip, "--version" }, .count = 2 };
	return run(m, &a, f);
}

static int run_virtualenv(const struct maker *m, const char *prompt, struct failure *f)
{
	const struct maker_options *o = m->options;
	bool twenty = m->virtualenv->numbers[0] >= 20;
	_cleanup_free_ char *python = xasprintf("--python=%s", m->interpreter->path);
	struct arguments a = { 0 };
	for (size_t i = 0; i < m->virtualenv->words; i++)
		add(&a, m->virtualenv->command[i]);
	add(&a, "--no-download");
	/* It would look for newer wheels in the background. */
	add_if(&a, twenty && (m->virtualenv->numbers[0] > 20 || m->virtualenv->numbers[1] >= 1),
	    "--no-periodic-update");
	add(&a, python);
	add_if(&a, o->system_site_packages, "--system-site-packages");
	add_if(&a, o->copies, "--always-copy");
	if (o->without_pip) {
		add(&a, "--no-pip");
		add(&a, "--no-setuptools");
		add(&a, "--no-wheel");
	}
	add_if(&a, prompt, prompt);
	add_if(&a, twenty && o->without_scm_ignore_files, "--no-vcs-ignore");
	add(&a, m->path);
	if (run(m, &a, f) < 0)
		return -1;
	return o->without_pip ? 0 : check_pip(m, f);
}

int maker_run(const struct maker *m, struct failure *f)
{
	const char *given = m->options->prompt;
	_cleanup_free_ char *prompt = given ? xasprintf("--prompt=%s", given) : NULL;
	return m->virtualenv ? run_virtualenv(m, prompt, f) : run_venv(m, prompt, f);
}

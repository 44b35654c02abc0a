/* SPDX-License-Identifier: MIT */
/*
 * What `python -m venv` writes that depends on the environment's path, prompt and options:
 * pyvenv.cfg, the activation scripts, pip's scripts, the rows of RECORD for those, and the links in
 * bin. Predicted from the interpreter's own templates and from its golden environment, never from
 * its version number. Works on memory alone; image.c fills a model, verifies it, and keeps it as
 * JSON.
 */
#ifndef VENVD_WORKER_MODEL_H
#define VENVD_WORKER_MODEL_H
#include <jansson.h>
#include <sys/types.h>
#include "util.h"

struct model;

struct model_question {
	const char *path;               /* the environment's absolute path, as os.path.abspath gives it */
	const char *executable;         /* what sys.executable is there: "command" and "executable" come from it */
	const char *base_executable;    /* what venv takes its links and home from, as spelled */
	const char *executable_real;    /* realpath of `executable` */
	const char *prompt;             /* NULL: none was given */
	const char *cwd;                /* for the prompt "."; may be NULL */
	bool system_site_packages, copies, without_pip, without_scm_ignore_files;
};

struct model_file {
	char *path;             /* relative */
	struct text content;
	mode_t mode;            /* before the umask is taken off, unless exact; see model_mode() */
	mode_t floor;           /* bits that it has whatever the umask: 0555 of pip's scripts */
	bool exact_mode;
	size_t head, tail;      /* so many bytes at its begin and its end are the same in all of its model */
};

/* The mode that a file gets under this umask. */
static inline mode_t model_mode(mode_t mode, mode_t floor, bool exact, mode_t mask)
{
	return exact ? mode : (mode & ~mask) | floor;
}

struct model_link {
	char *path;             /* relative: "bin/python" */
	char *target;           /* with copies: the file that is copied there (absolute) */
};

struct model_answer {
	struct model_file *files;
	size_t file_count;
	struct model_link *links;
	size_t link_count;
};

/* How a model comes to be: a draft, to which image.c adds what it finds. */
struct model_source {
	const char *venv;               /* the text of the venv module's __init__.py */
	const int *numbers;             /* of the version */
	const char *implementation;
	const json_t *facts;            /* of the interpreter (probe.h) */
	bool pip;                       /* environments have it */
};
json_t *model_draft(const struct model_source *);
/* A template of an activation script; name is relative to bin. 1: no variable in it, so it is
 * the same everywhere; -1: it cannot be predicted. */
int model_draft_template(json_t *draft, const char *name, const struct text *content, mode_t mode);
/* A file of the golden environment that begins with a shebang of its own `python`. 1: it does
 * not. */
int model_draft_script(json_t *draft, const char *path, const struct text *content, mode_t floor,
    const char *python);
/* A RECORD of the golden environment, once all scripts were added. 1: it has no row of one of
 * them; -1: it is odd. `site` is the path of the directory that its rows are relative to. */
int model_draft_record(json_t *draft, const char *path, const char *site, const struct text *content);

/* From JSON that model_to_json() gave, or a draft; NULL if it makes no sense. */
struct model *model_from_json(const json_t *);
json_t *model_to_json(const struct model *);    /* owned */
void model_free(struct model *);

/* In venv/__init__.py of those whose activation scripts are quoted (CVE-2024-9287). */
#define MODEL_QUOTES "quote_ps1"
/* NULL, or what a shell would execute of an environment that is called so; owned. prompt: as given, NULL for none. */
char *model_danger(const char *path, const char *prompt, const char *cwd, bool quoted);
/* NULL, or why the interpreter's venv would refuse this (its own words, after "Error: "), or must not make it; owned. */
char *model_refusal(const struct model *, const struct model_question *);
/* Everything that is written or linked for this environment. 0; -1: this one cannot be
 * predicted. */
int model_render(const struct model *, const struct model_question *, struct model_answer *ret);
/* The files of an environment of this model at no certain place: what differs in a real one is little. Empty if
 * that cannot be predicted. */
void model_render_blank(const struct model *, struct model_answer *ret);
/* The links alone, whatever the environment will be called: with copies, where the executables
 * go. -1 as above. */
int model_render_links(const struct model *, const char *base_executable, bool copies,
    struct model_answer *ret);
void model_answer_done(struct model_answer *);
#endif

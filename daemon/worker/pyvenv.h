/* SPDX-License-Identifier: MIT */
/* What a pyvenv.cfg says. Works on memory; opens nothing. */
#ifndef VENVD_WORKER_PYVENV_H
#define VENVD_WORKER_PYVENV_H
#include <stdbool.h>
#include <stddef.h>

struct pyvenv {                 /* owned, printable UTF-8; NULL = not said */
	char *home;
	char *version;          /* "3.12.1", "3.14.0rc1", whichever key holds it */
	char *implementation;   /* lower case; only virtualenv and uv write it */
	char *prompt;           /* as it would be shown, whoever wrote it */
	char *executable;       /* the base interpreter, if the file names it */
	const char *creator;    /* constant: "venv", "virtualenv", "uv", "unknown" */
	int system_site_packages;       /* true where nothing is said, as site.py takes it */
};

struct text;

/* A key, and the value that it is to have. */
struct pyvenv_value {
	const char *key, *value;        /* value NULL: it stays */
};
/* Appends the file's text to out, with these values on the lines that have these keys; everything else stays as it is, byte
 * for byte. True if that is another text. */
bool pyvenv_change(const char *data, size_t len, const struct pyvenv_value *values, size_t count, struct text *out);

/* Never fails: what makes no sense is passed over, as site.py does. */
void pyvenv_parse(const char *data, size_t len, struct pyvenv *ret);
void pyvenv_done(struct pyvenv *);
#endif

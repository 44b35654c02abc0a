/* SPDX-License-Identifier: MIT */
/* What a pyvenv.cfg says. Works on memory; opens nothing. */
#ifndef VENVD_WORKER_PYVENV_H
#define VENVD_WORKER_PYVENV_H
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

/* Never fails: what makes no sense is passed over, as site.py does. */
void pyvenv_parse(const char *data, size_t len, struct pyvenv *ret);
void pyvenv_done(struct pyvenv *);
#endif

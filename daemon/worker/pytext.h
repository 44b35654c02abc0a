/* SPDX-License-Identifier: MIT */
/* What functions of Python's own make of a text. All texts are UTF-8; everything is added to
 * `out`. */
#ifndef VENVD_WORKER_PYTEXT_H
#define VENVD_WORKER_PYTEXT_H
#include "util.h"

/* repr(s). false, with nothing added, if it depends on the Python's Unicode version, or s is no
 * UTF-8. */
bool pytext_repr(struct text *out, const char *s);
/* shlex.quote(s) */
void pytext_quote_shell(struct text *out, const char *s);
/* quote_ps1(s) of the venv module */
void pytext_quote_powershell(struct text *out, const char *s);
/* *subject = subject.replace(what, with) */
void pytext_replace(struct text *subject, const char *what, const char *with);

/* base64.urlsafe_b64encode(data).rstrip(b"=") */
void pytext_base64(struct text *out, const unsigned char *data, size_t len);

/* The first line(s) that pip's distlib gives a script of the interpreter `python`. `newline`:
 * the empty line that pip up to 18.1 puts after the simple form alone. */
void pytext_shebang(struct text *out, const char *python, bool newline);
/* The form "#!PYTHON\n" is the one that it gets. */
bool pytext_shebang_is_simple(const char *python);
#endif

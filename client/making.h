/* SPDX-License-Identifier: MIT */
/* What create and recreate share: a long call that ^C cancels, its stages on a terminal, what came of it. */
#ifndef VENVCTL_MAKING_H
#define VENVCTL_MAKING_H
#include "session.h"

struct making {
	const char *name;       /* of the environment */
	const char *doing;      /* "creating" */
	const char *done;       /* "created" */
	bool show_path;         /* it is not where its name says */
};

/* Adds what several -p gave, and the caller; NULL-terminated. */
void making_add_python(json_t *parameters, const char *const *python);
/* The name that an environment at this absolute path gets when nobody gives one; owned, NULL if none fits. */
char *making_name(const char *path);

/* Ends with a usage error if the text is not UTF-8. */
void making_add_text(json_t *parameters, const char *key, const char *text);

/* Asks with 'more'. true: a good answer. Else *ret_status is the exit status if all is said (^C), or -1: the
 * answer is yet to be reported. */
bool making_ask(struct session *, const struct making *, const char *method, json_t *parameters,
                struct answer *ret, int *ret_status);

/* Says what was made with which interpreter, and the answer's warnings. */
void making_say(const struct making *, const json_t *parameters);
#endif

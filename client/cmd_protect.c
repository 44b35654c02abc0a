/* SPDX-License-Identifier: MIT */
/* venvctl protect and unprotect: one mark, set or taken away, for each of the names. */
#include "messages.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

static int protect_one(struct session *s, const char *name, bool protected)
{
	json_auto_t *parameters = json_pack("{s:s, s:b}", "name", name, "protected", protected);
	_cleanup_answer_ struct answer a = { .error = ERROR_NO_SUCH_ENVIRONMENT };
	if (!parameters || !session_change(s, "Protect", parameters, 0, &a))
		return messages_report(s, &a, name);
	talk_say(protected ? "'%s' is protected" : "'%s' is not protected any more", name);
	return EXIT_DONE;
}

static int protect_all(int argc, char **argv, bool protected)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 1, -1);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE), done = 0;
	if (status != EXIT_DONE)
		return status;
	for (int i = optind; i < argc; i++) {
		int one = protect_one(&s, argv[i], protected);
		done += one == EXIT_DONE;
		if (status == EXIT_DONE)
			status = one;
	}
	return status != EXIT_DONE && done > 0 ? EXIT_PARTLY : status;
}

int cmd_protect(int argc, char **argv)
{
	return protect_all(argc, argv, true);
}

int cmd_unprotect(int argc, char **argv)
{
	return protect_all(argc, argv, false);
}

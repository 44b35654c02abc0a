/* SPDX-License-Identifier: MIT */
/* venvctl adopt: an environment that lies somewhere else, into the catalog, where it is. */
#include "making.h"
#include "messages.h"
#include "names.h"
#include "paths.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

int cmd_adopt(int argc, char **argv)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 1, 2);
	_cleanup_free_ char *path = *argv[optind] ? path_absolute(argv[optind]) : NULL;
	_cleanup_free_ char *derived = path && !argv[optind + 1] ? making_name(path) : NULL;
	const char *name = argv[optind + 1] ? argv[optind + 1] : derived;
	if (!path)
		usage_error("adopt needs a directory");
	if (!name)
		usage_error("no name can be made from '%s'; give one: venvctl adopt DIR NAME", path);
	const char *rule = name_rule_broken(name);
	if (rule) {
		_cleanup_free_ char *shown = text_printable(name);
		json_auto_t *why = json_pack("{s:s, s:s}", "name", shown, "rule", rule);
		return messages_refuse(ERROR_INVALID_NAME, why);
	}
	json_auto_t *parameters = json_object();
	making_add_text(parameters, "name", name);
	making_add_text(parameters, "path", path);
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, SESSION_CHANGE);
	if (status != EXIT_DONE)
		return status;
	_cleanup_answer_ struct answer a;
	if (!session_change(&s, "Adopt", parameters, 0, &a))
		return messages_report(&s, &a, name);
	const json_t *environment = json_object_get(a.parameters, "environment");
	const char *problem = json_text(environment, "problem");
	talk_say("adopted '%s' as '%s'%s%s", path, name, problem ? ", which is broken: " : "", problem ? problem : "");
	return EXIT_DONE;
}

/* SPDX-License-Identifier: MIT */
/*
 * venvctl help. The texts are in verbs.c; here they are only put together. Help that was asked for
 * is data and goes to stdout; a wrong command line gets one line of error and one of hint instead,
 * never this text.
 */
#include <string.h>
#include "names.h"
#include "talk.h"
#include "verbs.h"

static void add_overview(struct text *out)
{
	size_t count;
	const struct verb *table = verb_table(&count);
	text_adds(out, "usage: venvctl [OPTION...] COMMAND [ARGUMENT...]\n\n"
	               "Python virtual environments, kept by venvd.\n\nCommands:\n");
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *names = table[i].alias
			? xasprintf("%s, %s", table[i].name, table[i].alias)
			: xstrdup(table[i].name);
		text_addf(out, "  %-12s %s\n", names, table[i].help);
	}
	text_addf(out, "\n%s\n", global_options_help);
	text_adds(out, "'venvctl help COMMAND' says more; so does 'venvctl help exit-codes'.\n");
}

static void add_verb(struct text *out, const struct verb *verb)
{
	text_addf(out, "usage: venvctl %s%s%s\n\n", verb->name, *verb->usage ? " " : "",
	          verb->usage);
	text_addf(out, "%c%s", verb->help[0] - 'a' + 'A', verb->help + 1);
	if (verb->alias)
		text_addf(out, " (also: venvctl %s)", verb->alias);
	text_adds(out, ".\n");
	if (*verb->details)
		text_addf(out, "\n%s", verb->details);
	text_adds(out, "\nThe options of every command are in 'venvctl help'.\n");
}

static int unknown(const char *subject)
{
	const char *names[64];
	size_t verbs, topics, n = 0;
	const struct verb *verb = verb_table(&verbs);
	const struct topic *topic = topic_table(&topics);
	for (size_t i = 0; i < verbs; i++)
		names[n++] = verb[i].name;
	for (size_t i = 0; i < topics; i++)
		names[n++] = topic[i].name;
	const char *meant = name_suggest(subject, names, n);
	talk_error("there is no help on '%s'", subject);
	if (meant)
		talk_hint("venvctl help %s", meant);
	else
		talk_hint("venvctl help");
	return EXIT_USAGE;
}

int cmd_help(int argc, char **argv)
{
	verb_option(argc, argv, "", NULL);
	verb_arguments(argc, argv, 0, 1);
	const char *subject = optind < argc ? argv[optind] : NULL;

	_cleanup_text_ struct text out = { 0 };
	const struct verb *verb = subject ? verb_find(subject) : NULL;
	size_t count;
	const struct topic *topic = topic_table(&count);
	for (size_t i = 0; subject && i < count; i++)
		if (strcmp(topic[i].name, subject) == 0)
			text_adds(&out, topic[i].text);
	if (!subject)
		add_overview(&out);
	else if (verb)
		add_verb(&out, verb);
	else if (out.len == 0)
		return unknown(subject);
	talk_out(&out);
	return EXIT_DONE;
}

/* SPDX-License-Identifier: MIT */
/*
 * venvctl doctor: what is wrong, a sentence a finding, each with the command that helps; --fix mends what can be mended in
 * place. stdout is the findings; nothing is there when all are well.
 */
#include <string.h>
#include "bounds.h"
#include "caller.h"
#include "messages.h"
#include "session.h"
#include "talk.h"
#include "venvctl.h"

struct doctor {
	const char *name;       /* NULL: all */
	bool fix, json;
	json_t *diagnoses;      /* of those that are not well */
	size_t looked;
	size_t mended, left;    /* findings */
};

/* --- asking --- */

static void collect_cb(void *arg, const char *text, size_t len)
{
	struct doctor *d = arg;
	json_auto_t *reply = json_loadb(text, len, 0, NULL);
	const json_t *parameters = json_object_get(reply, "parameters");
	json_t *diagnosis = json_object_get(parameters, "diagnosis");
	const json_t *looked = json_object_get(parameters, "looked");
	if (json_text(diagnosis, "name") && json_is_array(json_object_get(diagnosis, "findings")))
		json_array_append(d->diagnoses, diagnosis);
	if (looked)
		d->looked = (size_t)json_integer_value(looked);
}

static int ask(struct session *s, struct doctor *d)
{
	json_auto_t *parameters = json_object();
	if (d->name && json_object_set_new(parameters, "name", json_string(d->name)) < 0)
		usage_error("'%s' is not UTF-8", d->name);
	struct request q = { .method = "Diagnose", .parameters = parameters, .more = true, .repeatable = true,
	                     .wait_ms = LIMIT_CREATE_MS, .each = collect_cb, .arg = d };
	_cleanup_answer_ struct answer a;
	return session_call(s, &q, &a) ? EXIT_DONE : messages_report(s, &a, d->name);
}

/* --- telling --- */

static void print_finding(struct text *out, const char *name, const json_t *finding, bool mended)
{
	const char *text = json_text(finding, "text"), *command = json_text(finding, "command");
	_cleanup_free_ char *safe_name = text_printable(name), *safe = text_printable(text ? text : "");
	text_addf(out, "%s: %s%s\n", safe_name, mended ? "mended: " : "", safe);
	if (mended)
		return;
	_cleanup_free_ char *fix = json_is_true(json_object_get(finding, "repairable")) ?
	    xasprintf("venvctl doctor %s --fix", name) : NULL;
	_cleanup_free_ char *command_of_ours = fix ? talk_command(fix) : NULL;
	_cleanup_free_ char *first = command_of_ours ? text_printable(command_of_ours) : NULL;
	_cleanup_free_ char *second = command ? talk_command(command) : NULL;
	_cleanup_free_ char *safe_second = second ? text_printable(second) : NULL;
	if (first || safe_second)
		text_addf(out, "  hint: %s%s%s\n", first ? first : "", first && safe_second ? ", or: " : "",
		    safe_second ? safe_second : "");
}

/* No harm by itself; who wants to delete it may like to know. */
static void print_mapped(const char *name, const json_t *mapped)
{
	const json_t *process;
	size_t i;
	json_array_foreach(mapped, i, process) {
		const char *command = json_text(process, "command");
		talk_say("'%s': process %lld ('%s') has files of it mapped", name,
		    (long long)json_integer_value(json_object_get(process, "pid")), command ? command : "?");
	}
}

static void print_findings(const char *name, const json_t *findings, bool mended)
{
	_cleanup_text_ struct text out = { 0 };
	const json_t *finding;
	size_t i;
	json_array_foreach(findings, i, finding)
		print_finding(&out, name, finding, mended);
	talk_out(&out);
}

/* --- mending --- */

static bool has_repairable(const json_t *findings)
{
	const json_t *finding;
	size_t i;
	json_array_foreach(findings, i, finding)
		if (json_is_true(json_object_get(finding, "repairable")))
			return true;
	return false;
}

/* What is left is diagnosis then; what was mended is added to it. */
static int mend(struct session *s, struct doctor *d, json_t *diagnosis)
{
	const char *name = json_text(diagnosis, "name");
	json_auto_t *parameters = json_pack("{s:s, s:o}", "name", name, "caller", caller_new());
	_cleanup_answer_ struct answer a;
	if (!session_change(s, "Repair", parameters, LIMIT_CREATE_MS, &a))
		return messages_report(s, &a, name);
	json_t *remaining = json_object_get(a.parameters, "remaining"), *repaired = json_object_get(a.parameters, "repaired");
	d->mended += json_array_size(repaired);
	if (json_is_array(remaining))
		json_object_set(diagnosis, "findings", remaining);
	json_object_set(diagnosis, "repaired", repaired);
	return EXIT_DONE;
}

static int mend_all(struct session *s, struct doctor *d)
{
	json_t *diagnosis;
	size_t i;
	int worst = EXIT_DONE;
	json_array_foreach(d->diagnoses, i, diagnosis) {
		if (!has_repairable(json_object_get(diagnosis, "findings")))
			continue;
		int status = mend(s, d, diagnosis);
		worst = status ? status : worst;
	}
	return worst;
}

/* --- all of it --- */

static int tell(struct doctor *d)
{
	json_t *diagnosis;
	size_t i, ill = 0;
	json_array_foreach(d->diagnoses, i, diagnosis) {
		const json_t *findings = json_object_get(diagnosis, "findings");
		d->left += json_array_size(findings);
		ill += json_array_size(findings) > 0;
		if (d->json)
			continue;
		print_findings(json_text(diagnosis, "name"), json_object_get(diagnosis, "repaired"), true);
		print_findings(json_text(diagnosis, "name"), findings, false);
		if (d->name)
			print_mapped(d->name, json_object_get(diagnosis, "mapped"));
	}
	if (d->json) {
		_cleanup_text_ struct text out = { 0 };
		_cleanup_free_ char *text = json_dumps(d->diagnoses, JSON_INDENT(2));
		text_addf(&out, "%s\n", text ? text : "[]");
		talk_json(&out);
	}
	if (ill > 0)
		talk_say("%zu of %zu environment%s: something is wrong", ill, d->looked, d->looked == 1 ? "" : "s");
	else
		talk_say("%zu environment%s: nothing is wrong", d->looked, d->looked == 1 ? "" : "s");
	return d->left == 0 ? EXIT_DONE : d->mended > 0 ? EXIT_PARTLY : EXIT_REFUSED;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "fix", no_argument, NULL, 'f' }, { "json", no_argument, NULL, 'j' }, { 0 },
	};
	struct doctor d = { 0 };
	for (int c; (c = verb_option(argc, argv, "", options)) != -1;) {
		if (c == 'f')
			d.fix = true;
		else
			d.json = true;
	}
	verb_arguments(argc, argv, 0, 1);
	d.name = argv[optind];
	_cleanup_session_ struct session s = SESSION_CLOSED;
	int status = session_open(&s, d.fix ? SESSION_CHANGE : SESSION_READ);
	if (status != EXIT_DONE)
		return status;
	d.diagnoses = json_array();
	status = ask(&s, &d);
	int mending = status == EXIT_DONE && d.fix ? mend_all(&s, &d) : EXIT_DONE;
	if (status == EXIT_DONE)
		status = tell(&d);
	json_decref(d.diagnoses);
	return mending ? mending : status;
}

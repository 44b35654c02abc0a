/* SPDX-License-Identifier: MIT */
/*
 * The prediction of what `python -m venv` writes, and the functions of Python's that it stands on. What is
 * expected here was printed by Pythons 3.6 to 3.13.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "pytext.h"
#include "util.h"

/* --- Python's own functions --- */

static void test_repr(void **state)
{
	static const char *const table[][2] = {
		{ "", "''" },
		{ "plain", "'plain'" },
		{ "it's", "\"it's\"" },
		{ "say \"x\"", "'say \"x\"'" },
		{ "it's \"x\"", "'it\\'s \"x\"'" },
		{ "a\\b", "'a\\\\b'" },
		{ "a\nb\tc\rd", "'a\\nb\\tc\\rd'" },
		{ "\x01\x1f\x7f", "'\\x01\\x1f\\x7f'" },
		{ "\u00e9\u00a1", "'\u00e9\u00a1'" },
		{ "\u00a0\u00ad\xc2\x85", "'\\xa0\\xad\\x85'" },
		{ "\u200b\u2028\ufeff\ue000", "'\\u200b\\u2028\\ufeff\\ue000'" },
		{ "\u3000\u3042\u4e2d\uac00", "'\\u3000\u3042\u4e2d\uac00'" },
		{ "\U0001f40d\U0001d70b", "'\U0001f40d\U0001d70b'" },
		{ "\U000f0000", "'\\U000f0000'" },
		{ "\u0430\u05d0\u0e01", "'\u0430\u05d0\u0e01'" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
		_cleanup_text_ struct text out = { 0 };
		assert_true(pytext_repr(&out, table[i][0]));
		assert_string_equal(out.data, table[i][1]);
	}
}

/* Newer than Python 3.6's Unicode, never assigned, or no UTF-8 at all: it is not guessed. */
static void test_repr_unknown(void **state)
{
	static const char *const table[] = {
		"\U0001fae0", "\u0378", "\uffff", "\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80",
		"\xf4\x90\x80\x80", "\u20c0", "\U0003fffd",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
		_cleanup_text_ struct text out = { 0 };
		text_adds(&out, "before");
		assert_false(pytext_repr(&out, table[i]));
		assert_string_equal(out.data, "before");
	}
}

static void test_quoting(void **state)
{
	static const char *const table[][3] = {
		{ "", "''", "''" },
		{ "/a/b-c_1.2", "/a/b-c_1.2", "'/a/b-c_1.2'" },
		{ "@%+=:,./-_", "@%+=:,./-_", "'@%+=:,./-_'" },
		{ "a b", "'a b'", "'a b'" },
		{ "it's", "'it'\"'\"'s'", "'it''s'" },
		{ "$x`y`\\", "'$x`y`\\'", "'$x`y`\\'" },
		{ "\u00e9", "'\u00e9'", "'\u00e9'" },
		{ "a\nb", "'a\nb'", "'a\nb'" },
		{ "~", "'~'", "'~'" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
		_cleanup_text_ struct text shell = { 0 };
		_cleanup_text_ struct text power = { 0 };
		pytext_quote_shell(&shell, table[i][0]);
		pytext_quote_powershell(&power, table[i][0]);
		assert_string_equal(shell.data, table[i][1]);
		assert_string_equal(power.data, table[i][2]);
	}
}

static void test_replace(void **state)
{
	static const char *const table[][4] = {
		{ "a X b X", "X", "YY", "a YY b YY" },
		{ "XX", "X", "", "" },
		{ "X", "X", "XX", "XX" },
		{ "aaa", "aa", "b", "ba" },
		{ "none", "X", "Y", "none" },
		{ "", "X", "Y", "" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
		_cleanup_text_ struct text text = { 0 };
		text_adds(&text, table[i][0]);
		pytext_replace(&text, table[i][1], table[i][2]);
		assert_string_equal(text.data, table[i][3]);
	}
}

static void test_base64(void **state)
{
	/* base64.urlsafe_b64encode(...).rstrip(b"=") */
	static const unsigned char bytes[] = { 0xfb, 0xff, 0xfe, 0x00 };
	static const char *const table[] = { "", "-w", "-_8", "-__-", "-__-AA" };
	(void)state;
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		_cleanup_text_ struct text out = { 0 };
		text_adds(&out, "");
		pytext_base64(&out, bytes, len);
		assert_string_equal(out.data, table[len]);
	}
}

/* The line that an interpreter of this many bytes gets. */
static void shebang_of_length(size_t len, bool simple)
{
	_cleanup_free_ char *python = xmalloc(len + 1);
	_cleanup_text_ struct text out = { 0 };
	memset(python, 'p', len);
	python[0] = '/';
	python[len] = '\0';
	_cleanup_free_ char *want = simple ? xasprintf("#!%s\n\n", python) :
	    xasprintf("#!/bin/sh\n'''exec' %s \"$0\" \"$@\"\n' '''\n", python);
	pytext_shebang(&out, python, true);
	assert_string_equal(out.data, want);
	assert_int_equal(pytext_shebang_is_simple(python), simple);
}

static void test_shebang(void **state)
{
	(void)state;
	for (size_t len = 120; len <= 124; len++)
		shebang_of_length(len, true);
	for (size_t len = 125; len <= 130; len++)
		shebang_of_length(len, false);
	shebang_of_length(300, false);
	_cleanup_text_ struct text out = { 0 };
	pytext_shebang(&out, "/a b/$x'", true);
	assert_string_equal(out.data, "#!/bin/sh\n'''exec' \"/a b/$x'\" \"$0\" \"$@\"\n' '''\n");
	text_clear(&out);
	pytext_shebang(&out, "/\u00e9/python", false);
	assert_string_equal(out.data, "#!/\u00e9/python\n");
}

/* --- the model --- */

static const char new_venv[] = "quote_ps1 'executable = %s prompt = {self.prompt!r} bpo-38901 "
	"python3.{sys.version_info[1]} _venv_path(env_dir, 'purelib') create_git_ignore_file "
	"os.pathsep in os.fspath";
static const char old_venv[] = "'(%s) ' % prompt";

static struct text text_of(const char *s)
{
	struct text text = { 0 };
	text_adds(&text, s);
	return text;
}

static void add_template(json_t *draft, const char *name, const char *content, int want)
{
	_cleanup_text_ struct text text = text_of(content);
	assert_int_equal(model_draft_template(draft, name, &text, 0644), want);
}

static json_t *draft_of(const char *venv, bool pip)
{
	static const int numbers[3] = { 3, 12, 1 };
	json_auto_t *facts = json_pack("{s{ss}, ss}", "scheme", "scripts", "@/bin", "encoding", "utf-8");
	struct model_source source = {
		.venv = venv, .numbers = numbers, .implementation = "cpython", .facts = facts, .pip = pip,
	};
	return model_draft(&source);
}

/* Takes the draft. Through JSON and back, as it comes from the disk. */
static struct model *model_of(json_t *draft)
{
	struct model *first = model_from_json(draft);
	json_decref(draft);
	assert_non_null(first);
	json_auto_t *json = model_to_json(first);
	char *dump = json_dumps(json, 0);
	json_auto_t *loaded = json_loads(dump, 0, NULL);
	struct model *model = model_from_json(loaded);
	free(dump);
	model_free(first);
	assert_non_null(model);
	return model;
}

static struct model_question question(const char *path)
{
	return (struct model_question){
		.path = path, .executable = "/usr/bin/python3", .base_executable = "/usr/bin/python3",
		.executable_real = "/usr/bin/python3.12", .without_pip = true, .cwd = "/home/u/pro ject",
	};
}

static const struct model_file *file_of(const struct model_answer *a, const char *path)
{
	for (size_t i = 0; i < a->file_count; i++)
		if (strcmp(a->files[i].path, path) == 0)
			return &a->files[i];
	return NULL;
}

static void assert_file(const struct model *m, const struct model_question *q, const char *path,
    const char *content)
{
	struct model_answer answer;
	assert_int_equal(model_render(m, q, &answer), 0);
	const struct model_file *file = file_of(&answer, path);
	assert_non_null(file);
	assert_string_equal(file->content.data, content);
	model_answer_done(&answer);
}

static void test_configuration(void **state)
{
	(void)state;
	struct model *m = model_of(draft_of(new_venv, false));
	struct model_question q = question("/e/a b");
	assert_file(m, &q, "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n"
	    "version = 3.12.1\nexecutable = /usr/bin/python3.12\n"
	    "command = /usr/bin/python3 -m venv --without-pip /e/a b\n");
	q.prompt = "it's \"q\"\n";
	q.system_site_packages = q.copies = q.without_scm_ignore_files = true;
	q.base_executable = "/usr/../opt//python3";
	assert_file(m, &q, "pyvenv.cfg", "home = /opt\ninclude-system-site-packages = true\n"
	    "version = 3.12.1\nprompt = 'it\\'s \"q\"\\n'\nexecutable = /usr/bin/python3.12\n"
	    "command = /usr/bin/python3 -m venv --copies --without-pip --system-site-packages "
	    "--prompt=\"it's \"q\"\n\" --without-scm-ignore-files /e/a b\n");
	model_free(m);
}

static void test_old_configuration(void **state)
{
	(void)state;
	struct model *m = model_of(draft_of(old_venv, false));
	struct model_question q = question("/e/a");
	q.prompt = ".";
	assert_file(m, &q, "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n"
	    "version = 3.12.1\n");
	q.path = "/e/a:b";
	assert_null(model_refusal(m, &q));
	model_free(m);
}

static void test_prompts(void **state)
{
	static const char template[] = "P=__VENV_PROMPT__ N=__VENV_NAME__";
	(void)state;
	json_t *draft = draft_of(new_venv, false);
	add_template(draft, "activate", template, 0);
	struct model *m = model_of(draft);
	struct model_question q = question("/e/name");
	assert_file(m, &q, "bin/activate", "P=name N=name");
	q.prompt = ".";
	assert_file(m, &q, "bin/activate", "P='pro ject' N=name");
	q.cwd = "/";
	assert_file(m, &q, "bin/activate", "P='' N=name");
	q.prompt = "";
	assert_file(m, &q, "bin/activate", "P='' N=name");
	q.prompt = ".";
	q.cwd = NULL;
	struct model_answer answer;
	assert_int_equal(model_render(m, &q, &answer), -1);
	model_free(m);
	draft = draft_of(old_venv, false);
	add_template(draft, "activate", template, 0);
	m = model_of(draft);
	assert_file(m, &q, "bin/activate", "P=(.)  N=name");
	model_free(m);
}

/* One after the other, so that what was put in is looked at again; quoted for each kind of shell. */
static void test_templates(void **state)
{
	(void)state;
	json_t *draft = draft_of(new_venv, false);
	add_template(draft, "activate", "__VENV_DIR__|__VENV_BIN_NAME__|__VENV_PYTHON__", 0);
	add_template(draft, "x/a.ps1", "__VENV_DIR__", 0);
	add_template(draft, "a.bat", "__VENV_DIR__", 0);
	add_template(draft, "Activate.ps1", "nothing __VENV__", 1);
	add_template(draft, "empty", "", 1);
	add_template(draft, "odd", "__VENV_DIR__ \xff", -1);
	_cleanup_text_ struct text nul = { 0 };
	text_add(&nul, "__VENV_DIR__\0", 13);
	assert_int_equal(model_draft_template(draft, "nul", &nul, 0644), -1);
	struct model *m = model_of(draft);
	struct model_question q = question("/e/it's");
	assert_file(m, &q, "bin/activate", "'/e/it'\"'\"'s'|bin|'/e/it'\"'\"'s/bin/python3'");
	assert_file(m, &q, "bin/x/a.ps1", "'/e/it''s'");
	assert_file(m, &q, "bin/a.bat", "/e/it's");
	q.path = "/e/__VENV_PROMPT__";
	q.prompt = "__VENV_BIN_NAME__";
	assert_file(m, &q, "bin/a.bat", "/e/bin");
	struct model_answer answer;
	assert_int_equal(model_render(m, &q, &answer), 0);
	assert_null(file_of(&answer, "bin/Activate.ps1"));
	const struct model_file *file = file_of(&answer, "bin/activate");
	assert_true(file->exact_mode);
	assert_int_equal(model_mode(file->mode, file->floor, file->exact_mode, 077), 0644);
	assert_string_equal(file_of(&answer, ".gitignore")->content.data,
	    "# Created by venv; see https://docs.python.org/3/library/venv.html\n*\n");
	model_answer_done(&answer);
	q.without_scm_ignore_files = true;
	assert_int_equal(model_render(m, &q, &answer), 0);
	assert_null(file_of(&answer, ".gitignore"));
	model_answer_done(&answer);
	model_free(m);
}

static void assert_links(const struct model *m, const struct model_question *q, const char *want)
{
	struct model_answer answer;
	_cleanup_text_ struct text have = { 0 };
	assert_int_equal(model_render(m, q, &answer), 0);
	for (size_t i = 0; i < answer.link_count; i++)
		text_addf(&have, "%s>%s ", answer.links[i].path, answer.links[i].target);
	assert_string_equal(have.data, want);
	model_answer_done(&answer);
}

static void test_links(void **state)
{
	(void)state;
	struct model *m = model_of(draft_of(new_venv, false));
	struct model_question q = question("/e/a");
	assert_links(m, &q, "bin/python3>/usr/bin/python3 bin/python>python3 bin/python3.12>python3 ");
	q.base_executable = "/o/my";
	assert_links(m, &q, "bin/my>/o/my bin/python>my bin/python3>my bin/python3.12>my ");
	q.copies = true;
	assert_links(m, &q, "bin/my>/o/my bin/python>/o/my bin/python3>/o/my bin/python3.12>/o/my ");
	model_free(m);
	m = model_of(draft_of(old_venv, false));
	q.copies = false;
	assert_links(m, &q, "bin/my>/o/my bin/python>my bin/python3>my ");
	model_free(m);
}

static void test_pypy(void **state)
{
	static const int numbers[3] = { 3, 9, 16 };
	(void)state;
	struct model_source source = {
		.venv = "python3.{sys.version_info[1]} 'pypy3', 'pypy'", .numbers = numbers,
		.implementation = "pypy",
	};
	struct model *m = model_of(model_draft(&source));
	struct model_question q = question("/e/a");
	q.base_executable = "/usr/bin/pypy3";
	assert_links(m, &q, "bin/pypy3>/usr/bin/pypy3 bin/python>pypy3 bin/python3>pypy3 "
	    "bin/python3.9>pypy3 bin/pypy>pypy3 ");
	q.copies = true;
	struct model_answer answer;
	assert_int_equal(model_render(m, &q, &answer), -1);
	model_free(m);
}

static void test_pi(void **state)
{
	static const int numbers[2][3] = { { 3, 14, 0 }, { 3, 15, 0 } };
	(void)state;
	json_auto_t *facts = json_pack("{ss}", "encoding", "utf-8");
	for (int i = 0; i < 2; i++) {
		struct model_source source = {
			.venv = "𝜋thon", .numbers = numbers[i], .implementation = "cpython", .facts = facts,
		};
		struct model *m = model_of(model_draft(&source));
		struct model_question q = question("/e/a");
		assert_links(m, &q, i == 0 ?
		    "bin/python3>/usr/bin/python3 bin/python>python3 bin/𝜋thon>python3 " :
		    "bin/python3>/usr/bin/python3 bin/python>python3 ");
		model_free(m);
	}
}

/* What pip has put there, its RECORD, and what becomes of both elsewhere. */
static void test_scripts_and_records(void **state)
{
	static const char record[] = "../../../bin/pip,sha256=old,11\r\n"
		"pip-1.dist-info/RECORD,,\r\npip/__init__.py,sha256=xyz,3\r\n"
		"../../../bin/pip3,sha256=old,11";
	(void)state;
	json_t *draft = draft_of(new_venv, true);
	_cleanup_text_ struct text script = text_of("#!/g/bin/python3\n# body\n");
	_cleanup_text_ struct text old = text_of("#!/g/bin/python3\n\n# body\n");
	_cleanup_text_ struct text other = text_of("#!/bin/sh\n");
	_cleanup_text_ struct text twice = text_of("#!/g/bin/python3\nexec /g/bin/python3");
	_cleanup_text_ struct text rows = text_of(record);
	_cleanup_text_ struct text none = text_of("pip/__init__.py,sha256=xyz,3\n");
	_cleanup_text_ struct text odd = text_of("\"a,b\",,\n");
	assert_int_equal(model_draft_script(draft, "bin/pip", &script, 0555, "/g/bin/python3"), 0);
	assert_int_equal(model_draft_script(draft, "bin/pip3", &old, 0555, "/g/bin/python3"), 0);
	assert_int_equal(model_draft_script(draft, "bin/x", &other, 0555, "/g/bin/python3"), 1);
	assert_int_equal(model_draft_script(draft, "bin/x", &twice, 0555, "/g/bin/python3"), -1);
	const char *site = "lib/python3.12/site-packages";
	const char *path = "lib/python3.12/site-packages/pip-1.dist-info/RECORD";
	assert_int_equal(model_draft_record(draft, path, site, &rows), 0);
	assert_int_equal(model_draft_record(draft, "x", site, &none), 1);
	assert_int_equal(model_draft_record(draft, "x", site, &odd), -1);
	struct model *m = model_of(draft);
	struct model_question q = question("/e");
	struct model_answer answer;
	assert_int_equal(model_render(m, &q, &answer), -1);     /* it has pip */
	q.without_pip = false;
	assert_file(m, &q, "bin/pip", "#!/e/bin/python3\n# body\n");
	assert_file(m, &q, "bin/pip3", "#!/e/bin/python3\n\n# body\n");
	assert_file(m, &q, path,
	    "../../../bin/pip,sha256=CSx2QGHUans9SSVFjnHvmB0v9wRU8ffRczuHk5Ag8g4,24\r\n"
	    "pip-1.dist-info/RECORD,,\r\npip/__init__.py,sha256=xyz,3\r\n"
	    "../../../bin/pip3,sha256=s2VyDEadFPOrH8dJDiiSum13_KzjfI21fsqIgTTkXcQ,25");
	assert_int_equal(model_render(m, &q, &answer), 0);
	const struct model_file *pip = file_of(&answer, "bin/pip");
	assert_int_equal(model_mode(pip->mode, pip->floor, pip->exact_mode, 077), 0755);
	assert_int_equal(model_mode(pip->mode, pip->floor, pip->exact_mode, 002), 0775);
	assert_int_equal(model_mode(pip->mode, pip->floor, pip->exact_mode, 0277), 0555);
	assert_int_equal(pip->head + pip->tail, 0);
	const struct model_file *rec = file_of(&answer, path);
	assert_int_equal(rec->head, strlen("../../../bin/pip,"));
	assert_int_equal(rec->tail, 0);                         /* it ends with a row */
	model_answer_done(&answer);
	q.path = "/e e";
	assert_file(m, &q, "bin/pip3", "#!/bin/sh\n'''exec' \"/e e/bin/python3\" \"$0\" \"$@\"\n' '''\n# body\n");
	model_free(m);
}

static void test_refusals(void **state)
{
	(void)state;
	struct model *m = model_of(draft_of(new_venv, false));
	struct model_question q = question("/e/a:b");
	_cleanup_free_ char *why = model_refusal(m, &q);
	assert_string_equal(why,
	    "Refusing to create a venv in /e/a:b because it contains the PATH separator :.");
	struct model_answer answer;
	static const char *const paths[] = { "relative", "/e/\xff", "/", "/usr/bin/env x" };
	for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
		q.path = paths[i];
		assert_int_equal(model_render(m, &q, &answer), -1);
	}
	q.path = "/e";
	assert_null(model_refusal(m, &q));
	q.prompt = "\U0001fae0";
	assert_int_equal(model_render(m, &q, &answer), -1);
	model_free(m);
}

static void test_damaged_json(void **state)
{
	static const char *const keys[] = {
		"form", "version", "bin", "pip", "noCopies", "quoting", "names", "templates", "scripts",
		"records",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(keys); i++) {
		json_auto_t *draft = draft_of(new_venv, false);
		json_object_set_new(draft, keys[i], json_pack("[[i]]", 7));
		assert_null(model_from_json(draft));
	}
	json_auto_t *draft = draft_of(new_venv, false);
	json_object_set_new(draft, "records", json_pack("[{ss, s[i]}]", "path", "x", "parts", 0));
	assert_null(model_from_json(draft));    /* a script that is not there */
	assert_null(model_from_json(json_null()));
}

static void test_nothing_leads_out(void **state)
{
	(void)state;
	static const char *const paths[] = { "../x", "/x", "a/../../x", "a//x", "" };
	for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
		const char *p = paths[i];
		const struct { const char *key; json_t *value; } members[] = {
			{ "bin", json_string(p) }, { "names", json_pack("[s]", p) },
			{ "templates", json_pack("[{ss, ss, si}]", "name", p, "text", "", "mode", 0) },
			{ "scripts", json_pack("[{ss, ss, sb, si}]", "path", p, "body", "", "newline", 0,
			    "floor", 0) },
			{ "records", json_pack("[{ss, s[]}]", "path", p, "parts") },
		};
		for (size_t k = 0; k < ARRAY_LENGTH(members); k++) {
			json_auto_t *draft = draft_of(new_venv, false);
			json_object_set_new(draft, members[k].key, members[k].value);
			assert_null(model_from_json(draft));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_repr),
		cmocka_unit_test(test_repr_unknown),
		cmocka_unit_test(test_quoting),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_shebang),
		cmocka_unit_test(test_configuration),
		cmocka_unit_test(test_old_configuration),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test(test_templates),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_pypy),
		cmocka_unit_test(test_pi),
		cmocka_unit_test(test_scripts_and_records),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_damaged_json),
		cmocka_unit_test(test_nothing_leads_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Questions to an interpreter. It is run isolated (-I -S -B), in '/', under its absolute path, and the
 * last line that parses is its answer, so whatever a site hook prints does no harm. A file that begins
 * with '#!' is a shim (pyenv, asdf, mise) or a wrapper: it is run once where the caller stands, and the
 * sys.executable that it leads to is the interpreter. Nothing is remembered here: known.c does that.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "child.h"
#include "probe.h"
#include "trust.h"

#define LOOKS_KEPT 64

/* Runs on 2.6 too. The leading 1 is the number of this form; what follows the sixth item is for images,
 * and an answer without it is an answer. */
static const char snippet[] =
	"import sys\n"
	"if sys.path[:1]==['']:del sys.path[0]\n"
	"import os,json\n"
	"try:\n"
	" import sysconfig as S\n"
	"except ImportError:\n"
	" S=None\n"
	"def has(n):\n"
	" try:\n"
	"  from importlib.util import find_spec\n"
	"  return find_spec(n) is not None\n"
	" except Exception:\n"
	"  return False\n"
	"g=lambda n:getattr(sys,n,None)\n"
	"i=g('implementation')\n"
	"b='@'\n"
	"p=None\n"
	"if S and 'venv' in S.get_scheme_names():\n"
	" p=dict((k,S.get_path(k,'venv',vars=dict(base=b,platbase=b,installed_base=b,installed_platbase=b)))"
	"for k in('scripts','include','purelib'))\n"
	"c=S and S.get_config_var or (lambda n:None)\n"
	"l=os.path.dirname(os.path.abspath(os.__file__))\n"
	"w=c('WHEEL_PKG_DIR') or None\n"
	/* Where Debian's patch of ensurepip has it in the text alone (PyPy's, older CPythons'). */
	"d='/usr/share/python-wheels'\n"
	"if not w:\n"
	" try:\n"
	"  with open(os.path.join(l,'ensurepip','__init__.py'),'rb') as f:\n"
	"   w=d.encode('ascii') in f.read() and d or None\n"
	" except Exception:\n"
	"  w=None\n"
	"n=i and i.name or ('__pypy__' in sys.builtin_module_names and 'pypy' or 'cpython')\n"
	"print(json.dumps([1,list(sys.version_info),n,sys.executable or '',has('venv'),has('ensurepip'),"
	"dict(executable=sys.executable or '',baseExecutable=g('_base_executable'),"
	"basePrefix=g('base_prefix') or g('real_prefix') or sys.prefix,"
	"stdlib=l,cacheTag=i and i.cache_tag,scheme=p,"
	"lib64=sys.maxsize>2**32,platform=sys.platform,encoding=sys.getfilesystemencoding() or 'ascii',"
	"wheelDir=w,gilDisabled=bool(c('Py_GIL_DISABLED')),"
	"debug=hasattr(sys,'gettotalrefcount'))]))\n";

void interpreter_done(struct interpreter *i)
{
	free(i->path);
	free(i->executable);
	free(i->implementation);
	free(i->version);
	free(i->reason);
	json_decref(i->facts);
	*i = (struct interpreter){ 0 };
}

static void set_text(json_t *object, const char *key, const char *value)
{
	if (value)
		json_object_set_new(object, key, failure_text(value));
}

json_t *interpreter_json(const struct interpreter *i)
{
	json_t *object = json_object();
	set_text(object, "path", i->path);
	set_text(object, "executable", i->executable);
	set_text(object, "implementation", i->implementation);
	set_text(object, "version", i->version);
	set_text(object, "source", i->source);
	/* One that this program cannot predict is told by its image; an old one is left to virtualenv. */
	set_text(object, "state", i->state ? i->state : probe_is_old(i) ? "delegate" :
	    i->has_venv ? "usable" : "unusable");
	return object;
}

void interpreter_copy(struct interpreter *to, const struct interpreter *from)
{
	interpreter_done(to);
	*to = *from;
	to->path = xstrdup(from->path);
	to->executable = xstrdup(from->executable);
	to->implementation = xstrdup(from->implementation);
	to->version = xstrdup(from->version);
	to->reason = xstrdup(from->reason);
	to->facts = json_incref(from->facts);
}

bool probe_is_old(const struct interpreter *i)
{
	return i->numbers[0] < 3 || (i->numbers[0] == 3 && i->numbers[1] < 6);
}

/* What a file's first bytes were, remembered while the file is the same. */
struct look {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
	bool shim;
};

static bool read_shim(const char *path)
{
	char magic[2];
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd >= 0 && read(fd, magic, 2) == 2 && magic[0] == '#' && magic[1] == '!';
}

bool probe_is_shim(const char *path)
{
	static struct look kept[LOOKS_KEPT];
	static size_t next;
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	struct look now = {
		.dev = st.st_dev, .ino = st.st_ino, .size = st.st_size, .mtime = st.st_mtim, .ctime = st.st_ctim,
	};
	for (size_t i = 0; i < LOOKS_KEPT; i++)
		if (kept[i].ino == now.ino && kept[i].dev == now.dev && kept[i].size == now.size &&
		    memcmp(&kept[i].mtime, &now.mtime, sizeof(now.mtime)) == 0 &&
		    memcmp(&kept[i].ctime, &now.ctime, sizeof(now.ctime)) == 0)
			return kept[i].shim;
	now.shim = read_shim(path);
	kept[next] = now;
	next = (next + 1) % LOOKS_KEPT;
	return now.shim;
}

bool probe_in_environment(const char *path)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? (int)(slash - path) : 0;
	_cleanup_free_ char *beside = xasprintf("%.*s/pyvenv.cfg", len, path);
	_cleanup_free_ char *above = xasprintf("%.*s/../pyvenv.cfg", len, path);
	return access(above, F_OK) == 0 || access(beside, F_OK) == 0;
}

static int failed(struct failure *f, const char *path, const char *reason, const char *output)
{
	json_t *p = json_pack("{soso}", "interpreter", failure_text(path), "reason",
	    failure_text(reason));
	if (output && *output)
		json_object_set_new(p, "output", failure_lines(output, LIMIT_ERROR_OUTPUT));
	return failure_set(f, ERROR_INTERPRETER_FAILED, p);
}

int probe_check(const char *path, const char *named, struct failure *f)
{
	_cleanup_free_ char *unsafe = NULL;
	struct stat st;
	if (trust_check(path, &st, &unsafe) < 0) {
		enum error_code code = unsafe ? ERROR_UNSAFE_INTERPRETER : ERROR_NO_SUCH_INTERPRETER;
		_cleanup_free_ char *why = unsafe ? xstrdup(unsafe) :
		    xasprintf("'%s': %s", path, strerror(errno));
		return failure_set(f, code, json_pack("{soso}", "interpreter", failure_text(named),
		    "reason", failure_text(why)));
	}
	if (S_ISDIR(st.st_mode))
		return failed(f, path, "is a directory", NULL);
	if (!S_ISREG(st.st_mode))
		return failed(f, path, "is not a regular file", NULL);
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		return failed(f, path, "is not executable", NULL);
	return 0;
}

static char *version_text(json_t *info, int numbers[3])
{
	const char *level = "", *suffix = "";
	int serial = 0;
	if (json_unpack(info, "[iiisi]", &numbers[0], &numbers[1], &numbers[2], &level, &serial) < 0)
		return NULL;
	suffix = strcmp(level, "alpha") == 0 ? "a" : strcmp(level, "beta") == 0 ? "b" :
	    strcmp(level, "candidate") == 0 ? "rc" : "";
	char *base = xasprintf("%d.%d.%d", numbers[0], numbers[1], numbers[2]);
	if (!*suffix)
		return base;
	char *full = xasprintf("%s%s%d", base, suffix, serial);
	free(base);
	return full;
}

bool probe_facts_fit(json_t *facts)
{
	const char *text;
	int flag;
	json_t *o;
	static const char *const optional[] = { "baseExecutable", "cacheTag", "wheelDir" };
	if (json_unpack(facts, "{s:s,s:s,s:s,s:s,s:s,s:b,s:b,s:b,s:o}", "executable", &text, "basePrefix", &text,
	    "stdlib", &text, "platform", &text, "encoding", &text, "lib64", &flag, "gilDisabled", &flag,
	    "debug", &flag, "scheme", &o) < 0)
		return false;
	if (!json_is_null(o) && json_unpack(o, "{s:s,s:s,s:s}", "scripts", &text, "include", &text,
	    "purelib", &text) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(optional); i++) {
		o = json_object_get(facts, optional[i]);
		if (!json_is_null(o) && !json_is_string(o))
			return false;
	}
	return true;
}

/* One line of output; false if it is not the answer. */
static bool read_answer(const char *line, size_t len, struct interpreter *ret)
{
	json_auto_t *answer = json_loadb(line, len, 0, NULL);
	json_t *info, *name;
	int form, has_venv, has_ensurepip;
	const char *executable;
	if (!answer || json_unpack(answer, "[ioosbb]", &form, &info, &name, &executable, &has_venv,
	    &has_ensurepip) < 0 || form != 1)
		return false;
	char *version = version_text(info, ret->numbers);
	if (!version)
		return false;
	ret->version = version;
	ret->implementation = xstrdup(json_is_string(name) ? json_string_value(name) : "cpython");
	ret->executable = xstrdup(*executable ? executable : ret->path);
	ret->has_venv = has_venv;
	ret->has_ensurepip = has_ensurepip;
	json_t *facts = json_array_get(answer, 6);
	if (probe_facts_fit(facts))
		ret->facts = json_incref(facts);
	return true;
}

/* The last line that parses. */
static bool find_answer(const char *output, struct interpreter *ret)
{
	size_t end = strlen(output);
	while (end > 0) {
		size_t start = end;
		while (start > 0 && output[start - 1] != '\n')
			start--;
		if (output[start] == '[' && read_answer(output + start, end - start, ret))
			return true;
		end = start > 0 ? start - 1 : 0;
	}
	return false;
}

static int ask_once(const char *path, const struct caller *caller, const char *cwd, int timeout_ms,
    struct interpreter *ret, struct failure *f)
{
	const char *const argv[] = { path, "-I", "-S", "-B", "-c", snippet, NULL };
	const char *const old_argv[] = { path, "-E", "-s", "-S", "-B", "-c", snippet, NULL };
	__attribute__((cleanup(child_done))) struct child c = {
		.argv = argv, .caller = caller, .cwd = cwd, .timeout_ms = timeout_ms,
	};
	interpreter_done(ret);
	ret->path = xstrdup(path);
	child_run(&c);
	/* Older than 3.4. */
	if (c.end == CHILD_EXITED && c.status == 2 && strstr(c.output.data, "Unknown option: -I")) {
		c.argv = old_argv;
		child_run(&c);
	}
	if (c.end == CHILD_GONE)
		return failure_gone(f);
	if (c.end == CHILD_EXITED && c.status == 0 && find_answer(c.output.data, ret))
		return 0;
	_cleanup_free_ char *end = child_end_text(&c);
	bool answered = c.end == CHILD_EXITED && c.status == 0;
	return failed(f, path, answered ? "is no Python: its answer makes no sense" : end,
	    c.output.data);
}

int probe_ask(const char *path, const struct caller *caller, int timeout_ms, struct interpreter *ret,
    struct failure *f)
{
	if (!probe_is_shim(path))
		return ask_once(path, caller, "/", timeout_ms, ret, f);
	if (ask_once(path, caller, caller->cwd, timeout_ms, ret, f) < 0)
		return -1;
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that every failure returns -1 */
	_cleanup_free_ char *real = xstrdup(ret->executable);
	if (!real || real[0] != '/' || strcmp(real, path) == 0)
		return 0;
	if (probe_check(real, path, f) < 0)
		return -1;
	return ask_once(real, caller, "/", timeout_ms, ret, f);
}

/* The Debian package that completes an interpreter which Debian installed; NULL for any other. */
static char *debian_package(const struct interpreter *i)
{
	_cleanup_free_ char *real = xrealpath(i->path);
	if (!real || strncmp(real, "/usr/bin/", 9) != 0 || access("/etc/debian_version", F_OK) < 0)
		return NULL;
	if (strcmp(i->implementation, "pypy") == 0)
		return xstrdup("pypy3-venv");
	return xasprintf("python%d.%d-venv", i->numbers[0], i->numbers[1]);
}

int probe_require_venv(const struct interpreter *i, bool with_pip, struct failure *f)
{
	if (i->has_venv && (i->has_ensurepip || !with_pip))
		return 0;
	json_t *p = json_pack("{soso}", "interpreter", failure_text(i->path), "version",
	    failure_text(i->version));
	_cleanup_free_ char *package = debian_package(i);
	set_text(p, "package", package);
	return failure_set(f, ERROR_NO_ENSUREPIP, p);
}

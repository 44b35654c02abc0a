/* SPDX-License-Identifier: MIT */
/*
 * Looking at environments. Everything goes by the environment's own descriptor, follows no link (but to
 * ask whether the interpreter at its end exists), opens regular files only, and reads no more than
 * LIMIT_CFG_BYTES of one. Nothing is ever run or written.
 *
 * `foreign` is what venvd will list but never touch; `broken` is an environment that cannot work.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "bounds.h"
#include "failure.h"
#include "inspect.h"
#include "legacy.h"
#include "names.h"
#include "orders.h"
#include "orders_do.h"
#include "place.h"
#include "pyvenv.h"
#include "talk.h"

#define INSPECT_BATCH 64
#define HOPS_MAX 8              /* links from bin/python to bin/python3 to ... */

/* What is known of one directory while it is looked at. */
struct look {
	int fd;                 /* O_PATH */
	int bin_fd;             /* O_PATH, -1 if there is no such directory */
	struct statx st;
	struct pyvenv cfg;
	bool has_cfg;
	int cfg_errno;          /* why the one that is there could not be read, 0 if it could */
	int64_t cfg_mtime_us;
	bool linked;            /* python leads out of it to `interpreter`, in the directory that is its home */
	const char *python;     /* its name in bin, NULL if there is none */
	char *interpreter;
};

static void look_done(struct look *l)
{
	cleanup_fd(&l->fd);
	cleanup_fd(&l->bin_fd);
	pyvenv_done(&l->cfg);
	free(l->interpreter);
}

char *inspect_raw_name(const char *printable)
{
	char *raw = xstrdup(printable), *out = raw;
	bool any = false;
	for (const char *s = printable; *s; s++) {
		char hex[3] = "";
		if (s[0] == '\\' && s[1] == 'x' && s[2] && s[3])
			memcpy(hex, s + 2, 2);
		if (strspn(hex, "0123456789abcdefABCDEF") == 2 && strcmp(hex, "00") != 0) {
			*out++ = (char)strtoul(hex, NULL, 16);
			s += 3;
			any = true;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
	if (any)
		return raw;
	free(raw);
	return NULL;
}

static bool exists(int fd, const char *name)
{
	struct stat st;
	return fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void read_cfg(struct look *l)
{
	_cleanup_text_ struct text data = { 0 };
	struct stat st = { 0 };
	if (place_read(l->fd, "pyvenv.cfg", LIMIT_CFG_BYTES, &data, &st) == 0)
		pyvenv_parse(data.data ? data.data : "", data.len, &l->cfg);
	else if (errno == ENOENT || errno == EINVAL || errno == ELOOP || errno == ENOTDIR)
		return;
	else
		l->cfg_errno = errno;
	l->has_cfg = true;
	l->cfg_mtime_us = st.st_mtim.tv_sec * 1000000LL + st.st_mtim.tv_nsec / 1000;
}

/* Through the links inside bin to the first target outside of it: the base interpreter as it was
 * spelled. NULL if the chain ends at a file in bin, a copy. Owned. */
static char *follow_python(const struct look *l)
{
	char target[PATH_MAX], name[PATH_MAX];
	snprintf(name, sizeof(name), "%s", l->python);
	for (int hop = 0; hop < HOPS_MAX; hop++) {
		ssize_t n = readlinkat(l->bin_fd, name, target, sizeof(target) - 1);
		if (n < 0)
			return NULL;
		target[n] = '\0';
		if (strchr(target, '/'))
			return xstrdup(target);
		memcpy(name, target, n + 1);
	}
	return NULL;
}

static char *find_interpreter(struct look *l)
{
	_cleanup_free_ char *target = l->python ? follow_python(l) : NULL;
	if (target && target[0] == '/') {
		size_t len = (size_t)(strrchr(target, '/') - target);
		l->linked = !l->cfg.home || (strncmp(l->cfg.home, target, len) == 0 && l->cfg.home[len] == '\0');
		return text_printable(target);
	}
	if (l->cfg.executable)
		return xstrdup(l->cfg.executable);
	if (!l->cfg.home)
		return NULL;
	const char *version = l->cfg.version ? l->cfg.version : "3";
	size_t minor = strcspn(version, ".");
	if (version[minor] == '.')
		minor += 1 + strspn(version + minor + 1, "0123456789");
	return xasprintf("%s/python%.*s", l->cfg.home, (int)minor, version);
}

static bool looks_at_many;      /* this worker has one order, and it is "inspect" */

/* Most environments of a root share their home; the last answer is remembered, for one order only. */
static bool home_is_gone(const char *home)
{
	static char last[PATH_MAX];
	static bool gone;
	if (home[0] != '/' || strlen(home) >= sizeof(last))
		return false;
	if (!looks_at_many || strcmp(home, last) != 0) {
		gone = access(home, F_OK) < 0 && errno == ENOENT;
		memcpy(last, home, strlen(home) + 1);
	}
	return gone;
}

/* Why it cannot work; owned, NULL if nothing speaks against it. */
static char *find_problem(const struct look *l)
{
	if (l->cfg_errno == EFBIG)
		return xasprintf("its pyvenv.cfg is larger than %d bytes", LIMIT_CFG_BYTES);
	if (l->cfg_errno)
		return xasprintf("its pyvenv.cfg cannot be read: %s", strerror(l->cfg_errno));
	if (!l->python)
		return xstrdup("it has no bin/python");
	if (faccessat(l->bin_fd, l->python, X_OK, 0) < 0) {
		const char *base = l->interpreter ? l->interpreter : "bin/python";
		if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
			return xasprintf("its interpreter '%s' is gone", base);
		return xasprintf("its interpreter '%s' cannot be used: %s", base, strerror(errno));
	}
	if (l->cfg.home && home_is_gone(l->cfg.home))
		return xasprintf("the directory of its interpreter, '%s', is gone", l->cfg.home);
	return NULL;
}

/* Fills in *l; false if the directory is no environment. */
static bool look_inside(struct look *l)
{
	l->bin_fd = openat(l->fd, "bin", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	l->python = exists(l->bin_fd, "python") ? "python" : exists(l->bin_fd, "python3") ? "python3" : NULL;
	read_cfg(l);
	if (l->has_cfg)
		return true;
	return l->python && exists(l->bin_fd, "activate");
}

/* Why it is not ours to touch; owned, NULL if it is. */
static char *find_foreign(const struct look *l, const char *name)
{
	/* One elsewhere goes by its path here; its name is the daemon's. */
	const char *rule = name[0] == '/' ? NULL : name_rule_broken(name);
	if (rule)
		return xasprintf("unfit name: %s", rule);
	if (l->st.stx_uid == geteuid())
		return NULL;
	const struct passwd *pw = getpwuid(l->st.stx_uid);
	return pw ? xasprintf("it belongs to another user, '%s'", pw->pw_name) :
	    xasprintf("it belongs to another user, number %u", (unsigned)l->st.stx_uid);
}

static void set_text(json_t *out, const char *key, const char *value)
{
	if (value)
		json_object_set_new(out, key, json_string(value));
}

static char *read_project(const struct look *l)
{
	_cleanup_text_ struct text data = { 0 };
	if (place_read(l->fd, ".project", LIMIT_CFG_BYTES, &data, NULL) < 0 || !data.data)
		return NULL;
	data.data[strcspn(data.data, "\r\n")] = '\0';
	return *data.data ? text_printable(data.data) : NULL;
}

static const char *find_implementation(const struct look *l)
{
	if (l->cfg.implementation)
		return l->cfg.implementation;
	const char *slash = l->interpreter ? strrchr(l->interpreter, '/') : NULL;
	if (slash && strncmp(slash + 1, "graalpy", 7) == 0)
		return "graalpy";
	/* PyPy's venv makes this link whatever the interpreter was called. */
	return exists(l->bin_fd, "pypy3") ? "pypy" : "cpython";
}

/* An environment without pyvenv.cfg: virtualenv before 20, for Python 2 or 3. */
static void describe_legacy(json_t *out, struct look *l)
{
	struct legacy old;
	legacy_read(l->fd, &old);
	set_text(out, "creator", "virtualenv");
	set_text(out, "version", old.version);
	if (old.interpreter && !l->interpreter)
		l->interpreter = xstrdup(old.interpreter);
	json_object_set_new(out, "systemSitePackages", json_boolean(old.system_site_packages));
	legacy_done(&old);
}

static void describe(json_t *out, struct look *l)
{
	_cleanup_free_ char *project = read_project(l);
	l->interpreter = find_interpreter(l);
	if (!l->has_cfg) {
		describe_legacy(out, l);
	} else {
		set_text(out, "creator", l->cfg.creator ? l->cfg.creator : "unknown");
		set_text(out, "version", l->cfg.version);
		set_text(out, "prompt", l->cfg.prompt);
		if (!l->cfg_errno)
			json_object_set_new(out, "systemSitePackages",
			    json_boolean(l->cfg.system_site_packages));
	}
	set_text(out, "project", project);
	set_text(out, "implementation", find_implementation(l));
	json_object_set_new(out, "pip",
	    json_boolean(exists(l->bin_fd, "pip") || exists(l->bin_fd, "pip3")));
	set_text(out, "interpreter", l->interpreter);
	if (l->python)
		set_text(out, "executable", strcmp(l->python, "python") == 0 ? "bin/python" : "bin/python3");
}

/* --- marks --- */

#define MARK_SETTLED_NS 2000000000LL    /* a change this long ago has another time than any that comes */

static int64_t mark_time(const struct statx *st)
{
	return st->stx_ctime.tv_sec * 1000000000LL + st->stx_ctime.tv_nsec;
}

static void mark_add(uint64_t *mark, uint64_t value)
{
	/* FNV-1a, eight bytes at a time */
	*mark = (*mark ^ value) * 0x100000001b3u;
	*mark ^= *mark >> 29;
}

/*
 * Which directory this is and when it, its bin, its pyvenv.cfg and its .project were last changed, as one number: all that
 * a look reads of it lies in these, or was there before it. 0 if that is too short ago to tell two changes apart.
 * What lies outside is not in it (is_as_before).
 */
static int64_t find_mark(int fd)
{
	static const char *const parts[] = { "", "bin", "pyvenv.cfg", ".project" };
	struct timespec now;
	uint64_t mark = 0xcbf29ce484222325u;
	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		return 0;
	int64_t settled = now.tv_sec * 1000000000LL + now.tv_nsec - MARK_SETTLED_NS;
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		struct statx st;
		if (place_statx(fd, parts[i], &st) < 0) {
			if (errno != ENOENT)
				return 0;
			mark_add(&mark, i);
			continue;
		}
		if (mark_time(&st) > settled)
			return 0;
		mark_add(&mark, (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor);
		mark_add(&mark, st.stx_ino);
		mark_add(&mark, (uint64_t)place_identity(&st).btime_ns);
		mark_add(&mark, (uint64_t)mark_time(&st));
	}
	mark &= INT64_MAX;
	return mark ? (int64_t)mark : 1;
}

/* Of one that may be marked: nothing that was found of it can change without its mark but that its interpreter goes, and
 * that is seen through bin/python. */
static bool may_be_marked(const struct look *l, const char *foreign, const char *problem)
{
	return !foreign && !problem && l->has_cfg && l->linked && l->python &&
	    strcmp(l->python, "python") == 0;
}

static bool is_as_before(const char *name, int64_t mark)
{
	_cleanup_fd_ int fd = mark != 0 && place_component(name) ?
	    openat(WORKER_FD_ROOT, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	return fd >= 0 && find_mark(fd) == mark && faccessat(fd, "bin/python", X_OK, 0) == 0;
}

static void judge_directory(json_t *out, struct look *l, const char *name)
{
	struct stat meta;
	int r = fstatat(l->fd, "conda-meta", &meta, AT_SYMLINK_NOFOLLOW);
	if (r < 0 && errno == EACCES) {
		_cleanup_free_ char *why = xasprintf("cannot be looked into: %s", strerror(errno));
		set_text(out, "kind", "foreign");
		set_text(out, "problem", why);
		return;
	}
	bool conda = r == 0 && S_ISDIR(meta.st_mode);
	int64_t mark = find_mark(l->fd);        /* first: what changes while we look has another one */
	if (!look_inside(l) && !conda) {
		set_text(out, "kind", "other");
		return;
	}
	describe(out, l);
	_cleanup_free_ char *foreign = conda ? xstrdup("made by conda") : find_foreign(l, name);
	_cleanup_free_ char *problem = foreign ? NULL : find_problem(l);
	set_text(out, "kind", foreign ? "foreign" : "environment");
	set_text(out, "problem", foreign ? foreign : problem);
	if (conda)
		set_text(out, "creator", "conda");
	if (problem)
		json_object_set_new(out, "broken", json_true());
	if (may_be_marked(l, foreign, problem) && mark)
		json_object_set_new(out, "looked", json_integer(mark));
}

/* Fills in out, by the descriptor. */
static void look_at(json_t *out, struct look *l, const char *name)
{
	if (l->fd < 0 || place_statx(l->fd, "", &l->st) < 0) {
		set_text(out, "kind", "absent");
		return;
	}
	struct identity id = place_identity(&l->st);
	json_object_set_new(out, "ino", json_integer(id.ino));
	json_object_set_new(out, "btime", json_integer(id.btime_ns));
	if (S_ISLNK(l->st.stx_mode)) {
		set_text(out, "kind", "foreign");
		set_text(out, "problem", "symbolic link");
	} else if (S_ISDIR(l->st.stx_mode)) {
		judge_directory(out, l, name);
	} else {
		set_text(out, "kind", "other");
	}
	int64_t created = id.btime_ns ? id.btime_ns / 1000 : l->cfg_mtime_us;
	if (created && l->python)
		json_object_set_new(out, "createdAt", json_integer(created));
}

json_t *inspect_elsewhere(int dir_fd, const char *entry, const char *name)
{
	__attribute__((cleanup(look_done))) struct look l = { .fd = -1, .bin_fd = -1 };
	json_t *out = json_object();
	set_text(out, "name", name);
	l.fd = openat(dir_fd, entry, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	look_at(out, &l, name);
	return out;
}

json_t *inspect_one(int root_fd, const char *name)
{
	__attribute__((cleanup(look_done))) struct look l = { .fd = -1, .bin_fd = -1 };
	json_t *out = json_object();
	set_text(out, "name", name);
	if (place_component(name)) {
		l.fd = openat(root_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		_cleanup_free_ char *raw = l.fd < 0 ? inspect_raw_name(name) : NULL;
		if (raw && place_component(raw))
			l.fd = openat(root_fd, raw, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	}
	look_at(out, &l, name);
	return out;
}

/* What is found goes out in frames of so many. */
static int batch_add(const json_t *order, json_t **batch, json_t *found, struct failure *f)
{
	json_array_append_new(*batch, found);
	if (json_array_size(*batch) < INSPECT_BATCH)
		return 0;
	talk_frame(order, "environments", json_pack("{so}", "environments", *batch));
	*batch = json_array();
	return talk_gone() ? failure_gone(f) : 0;
}

/* Of "MARK NAME/MARK NAME/": those that are not as they were. */
static int inspect_known(const json_t *order, json_t **batch, const char *known, struct failure *f)
{
	const char *slash;
	for (; (slash = strchr(known, '/')); known = slash + 1) {
		char *name;
		int64_t mark = strtoll(known, &name, 10);
		_cleanup_free_ char *one = *name == ' ' ? xstrndup(name + 1, (size_t)(slash - name - 1)) : NULL;
		if (one && !is_as_before(one, mark) &&
		    batch_add(order, batch, inspect_one(WORKER_FD_ROOT, one), f) < 0)
			return -1;
	}
	return 0;
}

int do_inspect(json_t *order, json_t **ret, struct failure *f)
{
	(void)ret;
	json_t *names, *paths = NULL, *item;
	const char *known = "";
	json_auto_t *batch = json_array();
	size_t i;
	talk_unpack(order, "{s:o, s?o, s?s}", "names", &names, "paths", &paths, "known", &known);
	looks_at_many = true;
	if (inspect_known(order, &batch, known, f) < 0)
		return -1;
	json_array_foreach(names, i, item)
		if (json_is_string(item) &&
		    batch_add(order, &batch, inspect_one(WORKER_FD_ROOT, json_string_value(item)), f) < 0)
			return -1;
	json_array_foreach(paths, i, item) {
		const char *path = json_string_value(item);
		if (path && path[0] == '/' &&
		    batch_add(order, &batch, inspect_elsewhere(AT_FDCWD, path, path), f) < 0)
			return -1;
	}
	if (json_array_size(batch) > 0)
		talk_frame(order, "environments", json_pack("{sO}", "environments", batch));
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The memory of interpreters. Two stores: this process's, and a directory of files that all workers of
 * a root share: a long order asks and writes, the resident reads. Files are replaced by rename and never
 * trusted: one that is damaged, of another form or of another path is as good as none. They are no data
 * of anybody's, so they are not synced; only the list of what was added by hand is.
 *
 * An interpreter that failed is remembered as well, for a minute, so that lists do not run it again and
 * again. What makes it fail (a library that is missing, a busy machine) need not be in its own file: whoever
 * must choose asks again.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "bounds.h"
#include "known.h"
#include "orders.h"
#include "paths.h"
#include "place.h"

#define FORM 2
#define ADDED "added.json"
#define STAMP_NUMBERS 5

/* A file as it was; all 0 if there was none. */
struct stamp {
	int64_t numbers[STAMP_NUMBERS];
};

/* What an answer hangs on: the path's own entry, where it leads, pyvenv.cfg beside and above. */
struct stamps {
	struct stamp link, file, beside, above;
};

struct entry {
	uint64_t hash;
	char *path;
	struct stamps stamps;
	struct stamp source;            /* of the file that this was read from, or written to */
	struct interpreter answer;      /* its path is NULL if it failed */
	json_t *failure;                /* the parameters of InterpreterFailed */
	int64_t failed_at;              /* us */
};

static struct entry memory[LIMIT_INTERPRETERS];
static size_t memory_next;              /* the one that is overwritten next */

static struct stamp stamp_of(const struct stat *st)
{
	return (struct stamp){ { (int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size,
	    st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec,
	    st->st_ctim.tv_sec * 1000000000LL + st->st_ctim.tv_nsec } };
}

static bool same(const struct stamp *a, const struct stamp *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static struct stamp look(int dir_fd, const char *name, int flags)
{
	struct stat st;
	return fstatat(dir_fd, name, &st, flags) == 0 ? stamp_of(&st) : (struct stamp){ 0 };
}

/* False if there is nothing at the path. */
static bool take_stamps(const char *path, struct stamps *ret)
{
	char cfg[4096];
	struct stat st;
	*ret = (struct stamps){ 0 };
	if (lstat(path, &st) < 0)
		return false;
	ret->link = ret->file = stamp_of(&st);
	if (S_ISLNK(st.st_mode)) {
		if (stat(path, &st) < 0)
			return false;
		ret->file = stamp_of(&st);
	}
	const char *slash = strrchr(path, '/');
	int dir = slash ? (int)(slash - path) : 0;
	if (snprintf(cfg, sizeof(cfg), "%.*s/pyvenv.cfg", dir, path) < (int)sizeof(cfg))
		ret->beside = look(AT_FDCWD, cfg, 0);
	if (snprintf(cfg, sizeof(cfg), "%.*s/../pyvenv.cfg", dir, path) < (int)sizeof(cfg))
		ret->above = look(AT_FDCWD, cfg, 0);
	return true;
}

/* FNV-1a. Two paths of one hash only drive each other out: a file says which path it is of. */
static uint64_t hash_of(const char *s)
{
	uint64_t h = 14695981039346656037u;
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return h;
}

static void file_name(uint64_t hash, char ret[32])
{
	snprintf(ret, 32, "%016" PRIx64 ".json", hash);
}

static struct stamp look_in_state(const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), PATH_INTERPRETERS "/%s", name);
	return look(WORKER_FD_STATE, path, AT_SYMLINK_NOFOLLOW);
}

static void entry_done(struct entry *e)
{
	free(e->path);
	interpreter_done(&e->answer);
	json_decref(e->failure);
	*e = (struct entry){ 0 };
}

static struct entry *find(const char *path, uint64_t hash)
{
	for (size_t i = 0; i < ARRAY_LENGTH(memory); i++)
		if (memory[i].hash == hash && memory[i].path && strcmp(memory[i].path, path) == 0)
			return &memory[i];
	return NULL;
}

/* An empty entry for the path. */
static struct entry *place_for(const char *path, uint64_t hash)
{
	struct entry *e = find(path, hash);
	if (!e) {
		e = &memory[memory_next];
		memory_next = (memory_next + 1) % ARRAY_LENGTH(memory);
	}
	entry_done(e);
	e->hash = hash;
	e->path = xstrdup(path);
	return e;
}

/* --- the files --- */

static json_t *stamp_json(const struct stamp *s)
{
	json_t *array = json_array();
	for (size_t i = 0; i < STAMP_NUMBERS; i++)
		json_array_append_new(array, json_integer(s->numbers[i]));
	return array;
}

static bool read_stamp(json_t *object, const char *key, struct stamp *ret)
{
	json_t *array = json_object_get(object, key);
	if (json_array_size(array) != STAMP_NUMBERS)
		return false;
	for (size_t i = 0; i < STAMP_NUMBERS; i++)
		ret->numbers[i] = json_integer_value(json_array_get(array, i));
	return true;
}

/* What was read fits e, whose path is set; false leaves e with whatever it has by then. */
static bool read_entry(json_t *json, struct entry *e)
{
	const char *path, *executable, *implementation, *version;
	json_t *facts = NULL, *failure = NULL, *answer = NULL;
	json_int_t failed_at = 0;
	int form, venv, ensurepip, *n = e->answer.numbers;
	if (json_unpack(json, "{s:i,s:s,s?o,s?o,s?I}", "form", &form, "path", &path, "answer", &answer,
	    "failure", &failure, "failedAt", &failed_at) < 0)
		return false;
	if (form != FORM || strcmp(path, e->path) != 0 || !read_stamp(json, "link", &e->stamps.link) ||
	    !read_stamp(json, "file", &e->stamps.file) || !read_stamp(json, "beside", &e->stamps.beside) ||
	    !read_stamp(json, "above", &e->stamps.above))
		return false;
	if (json_is_object(failure)) {
		e->failure = json_incref(failure);
		e->failed_at = failed_at;
		return true;
	}
	if (json_unpack(answer, "{s:s,s:s,s:s,s:[iii],s:b,s:b,s?o}", "executable", &executable, "implementation",
	    &implementation, "version", &version, "numbers", &n[0], &n[1], &n[2], "venv", &venv, "ensurepip",
	    &ensurepip, "facts", &facts) < 0 || (facts && !probe_facts_fit(facts)))
		return false;
	e->answer.path = xstrdup(path);
	e->answer.executable = xstrdup(executable);
	e->answer.implementation = xstrdup(implementation);
	e->answer.version = xstrdup(version);
	e->answer.has_venv = venv;
	e->answer.has_ensurepip = ensurepip;
	e->answer.facts = json_incref(facts);
	return true;
}

static json_t *entry_json(const struct entry *e)
{
	const struct interpreter *i = &e->answer;
	json_t *json = json_pack("{s:i,s:s,s:o,s:o,s:o,s:o}", "form", FORM, "path", e->path,
	    "link", stamp_json(&e->stamps.link), "file", stamp_json(&e->stamps.file),
	    "beside", stamp_json(&e->stamps.beside), "above", stamp_json(&e->stamps.above));
	if (e->failure) {
		json_object_set(json, "failure", e->failure);
		json_object_set_new(json, "failedAt", json_integer(e->failed_at));
		return json;
	}
	json_object_set_new(json, "answer", json_pack("{s:s,s:s,s:s,s:[iii],s:b,s:b,s:O*}", "executable",
	    i->executable, "implementation", i->implementation, "version", i->version, "numbers",
	    i->numbers[0], i->numbers[1], i->numbers[2], "venv", i->has_venv, "ensurepip",
	    i->has_ensurepip, "facts", i->facts));
	return json;
}

static json_t *read_file(const char *name, struct stamp *ret_stamp)
{
	_cleanup_fd_ int dir = place_open(WORKER_FD_STATE, PATH_INTERPRETERS, O_RDONLY | O_DIRECTORY);
	_cleanup_text_ struct text data = { 0 };
	struct stat st;
	if (dir < 0 || place_read(dir, name, LIMIT_KNOWN_BYTES, &data, &st) < 0)
		return NULL;
	*ret_stamp = stamp_of(&st);
	return json_loadb(data.data ? data.data : "", data.len, JSON_REJECT_DUPLICATES, NULL);
}

/* What the directory holds of the path, into memory; NULL if that is nothing. */
static struct entry *load(const char *path, uint64_t hash)
{
	char name[32];
	struct stamp source = { 0 };
	file_name(hash, name);
	json_auto_t *json = read_file(name, &source);
	if (!json)
		return NULL;
	struct entry *e = place_for(path, hash);
	e->source = source;
	if (read_entry(json, e))
		return e;
	entry_done(e);
	return NULL;
}

/* The oldest go; what a crash left behind as well. */
static void trim(int dir_fd)
{
	int own = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	char oldest[NAME_MAX + 1] = "";
	int64_t oldest_at = INT64_MAX;
	size_t count = 0;
	if (!dir) {
		cleanup_fd(&own);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		struct stat st;
		if (e->d_name[0] == '.' || strcmp(e->d_name, ADDED) == 0 ||
		    fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		int64_t at = stamp_of(&st).numbers[3];
		if (at < oldest_at) {
			oldest_at = at;
			snprintf(oldest, sizeof(oldest), "%s", e->d_name);
		}
		count++;
	}
	closedir(dir);
	if (count > LIMIT_INTERPRETERS)
		unlinkat(dir_fd, oldest, 0);
}

/* Under its own name at once or not at all. */
static int write_file(int dir_fd, const char *name, const json_t *json, bool sync, struct stamp *ret_stamp)
{
	char id[17], temporary[32];
	struct stat st;
	id_new(id);
	snprintf(temporary, sizeof(temporary), "new-%s", id);
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT);
	if (!text) {
		errno = EINVAL;
		return -1;
	}
	_cleanup_fd_ int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (fd_write_all(fd, text, strlen(text)) == 0 && (!sync || fsync(fd) == 0) &&
	    renameat(dir_fd, temporary, dir_fd, name) == 0 && (!sync || fsync(dir_fd) == 0)) {
		if (ret_stamp && fstat(fd, &st) == 0)
			*ret_stamp = stamp_of(&st);
		return 0;
	}
	int err = errno;
	unlinkat(dir_fd, temporary, 0);
	errno = err;
	return -1;
}

/* A daemon that only looks has no directory for it, and that is nothing to complain about. */
static void save(struct entry *e)
{
	char name[32];
	_cleanup_fd_ int dir = place_state_dir(PATH_INTERPRETERS);
	if (dir < 0 && (errno == ENOTDIR || errno == EBADF))
		return;
	json_auto_t *json = entry_json(e);
	file_name(e->hash, name);
	if (json && dir >= 0 && write_file(dir, name, json, false, &e->source) == 0) {
		trim(dir);
		return;
	}
	const char *why = json ? strerror(errno) : "its path is not UTF-8";
	_cleanup_free_ char *path = text_printable(e->path);
	fprintf(stderr, "venvd-worker: cannot remember '%s': %s\n", path, why);
}

/* --- asking --- */

static bool failure_holds(const struct entry *e)
{
	int64_t age = now_us() - e->failed_at;
	return age >= 0 && age < LIMIT_FAILURE_US;
}

int known_get(const char *path, struct interpreter *ret, struct failure *f)
{
	char name[32];
	struct stamps now;
	uint64_t hash = hash_of(path);
	if (!take_stamps(path, &now))
		return 1;
	file_name(hash, name);
	struct entry *e = find(path, hash);
	struct stamp source = look_in_state(name);
	/* Without a directory to share, memory is all there is. */
	if (!e || (source.numbers[1] != 0 && !same(&source, &e->source)))
		e = source.numbers[1] != 0 ? load(path, hash) : NULL;
	if (!e || memcmp(&e->stamps, &now, sizeof(now)) != 0)
		return 1;
	if (!e->failure) {
		interpreter_copy(ret, &e->answer);
		ret->in_environment = now.beside.numbers[1] != 0 || now.above.numbers[1] != 0;
		return 0;
	}
	if (!failure_holds(e))
		return 1;
	if (f)
		failure_set(f, ERROR_INTERPRETER_FAILED, json_deep_copy(e->failure));
	return -1;
}

/* stamps are from before it was asked: a file that was changed meanwhile is asked anew. */
static void put(const char *path, const struct stamps *stamps, const struct interpreter *answer,
    const struct failure *f)
{
	struct entry *e = place_for(path, hash_of(path));
	e->stamps = *stamps;
	if (answer) {
		interpreter_copy(&e->answer, answer);
		e->answer.reason = NULL;
		e->answer.rule = e->answer.source = e->answer.state = NULL;
	} else {
		e->failure = json_deep_copy(f->parameters);
		e->failed_at = now_us();
	}
	save(e);
}

/* A script that says it is its own sys.executable leads nowhere else. */
static bool leads_elsewhere(const struct interpreter *i)
{
	return strcmp(i->path, i->executable) != 0 && probe_is_shim(i->path);
}

void known_put(const struct interpreter *i)
{
	struct stamps now;
	if (!leads_elsewhere(i) && take_stamps(i->path, &now))
		put(i->path, &now, i, NULL);
}

int known_ask(const char *path, const char *named, const struct caller *caller, int probe_ms,
    struct interpreter *ret, struct failure *f)
{
	if (probe_check(path, named, f) < 0)
		return -1;
	if (known_get(path, ret, NULL) == 0)
		return 0;
	if (probe_ms == 0)
		return 1;
	struct stamps before;
	bool shim = probe_is_shim(path) || !take_stamps(path, &before);
	int r = probe_ask(path, caller, probe_ms, ret, f);
	if (r == 0 && shim)
		known_put(ret);
	else if (r == 0)
		put(path, &before, ret, NULL);
	else if (f->code == ERROR_INTERPRETER_FAILED && !shim)
		put(path, &before, NULL, f);
	return r;
}

/* --- added by hand --- */

static json_t *read_added(void)
{
	static json_t *list;
	static struct stamp source;
	struct stamp now = look_in_state(ADDED);
	if (!list || !same(&now, &source)) {
		json_decref(list);
		list = now.numbers[1] != 0 ? read_file(ADDED, &source) : NULL;
		if (!json_is_array(list)) {
			json_decref(list);
			list = json_array();
		}
		source = now;
	}
	return list;
}

char **known_added(size_t *ret_count)
{
	json_t *list = read_added(), *value;
	char **paths = xcalloc(json_array_size(list) + 1, sizeof(*paths));
	size_t i, n = 0;
	json_array_foreach(list, i, value) {
		const char *path = json_string_value(value);
		if (path && path[0] == '/' && n < LIMIT_INTERPRETERS)
			paths[n++] = xstrdup(path);
	}
	*ret_count = n;
	return paths;
}

void known_free_added(char ***paths)
{
	for (size_t i = 0; *paths && (*paths)[i]; i++)
		free((*paths)[i]);
	free(*paths);
	*paths = NULL;
}

static size_t position(const json_t *list, const char *path)
{
	size_t i = 0;
	while (i < json_array_size(list) && strcmp(json_string_value(json_array_get(list, i)) ?
	    json_string_value(json_array_get(list, i)) : "", path) != 0)
		i++;
	return i;
}

/* Two workers at once take turns: the list is read under the lock under which it is written. What is so already may be the
 * work of one that died before it had synced it. */
static int change_added(const char *path, bool add, struct failure *f)
{
	_cleanup_fd_ int dir = place_state_dir(PATH_INTERPRETERS);
	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return failure_errno(f, "cannot open '%s/%s'", PATH_STATE, PATH_INTERPRETERS);
	json_auto_t *before = json_incref(read_added()), *list = json_deep_copy(before);
	size_t at = position(list, path), count = json_array_size(list);
	if (add == (at < count) && fsync(dir) < 0)
		return failure_errno(f, "cannot sync '%s/%s'", PATH_STATE, PATH_INTERPRETERS);
	if (add && at < count)
		return 0;
	if (add && count >= LIMIT_INTERPRETERS)
		return failure_reason(f, ERROR_FAILED, "there are %d interpreters that were added, which is all "
		    "that can be", LIMIT_INTERPRETERS);
	if (!add && at == count)
		return failure_set(f, ERROR_NO_SUCH_INTERPRETER, json_pack("{soss}", "interpreter",
		    failure_text(path), "reason", "it was not added"));
	if (add ? json_array_append_new(list, json_string(path)) < 0 : json_array_remove(list, at) < 0)
		return failure_reason(f, ERROR_FAILED, "the path is not UTF-8");
	if (write_file(dir, ADDED, list, true, NULL) == 0)
		return 0;
	failure_errno(f, "cannot write '%s/%s/%s'", PATH_STATE, PATH_INTERPRETERS, ADDED);
	write_file(dir, ADDED, before, false, NULL);    /* it may have its new name, and not be on the disk */
	return -1;
}

int known_add(const char *path, struct failure *f)
{
	return change_added(path, true, f);
}

int known_remove(const char *path, struct failure *f)
{
	return change_added(path, false, f);
}

/* SPDX-License-Identifier: MIT */
/*
 * Creation in place: the tool (maker.c) runs at the final path, so the result is its own byte for byte.
 *
 * A new environment of the root begins as an empty directory in the stage; the daemon writes its inode down before
 * it is renamed to the name, so whatever a crash leaves can be told from everything else. Elsewhere, and with
 * --clear or --upgrade, the directory that was named is used as it is (target.c); its inode is written down too.
 *
 * Before the daemon's "go" this room cleans up after itself; afterwards the daemon discards by inode. A
 * directory that was made elsewhere is taken away here whenever it comes to nothing. Nothing is answered
 * before everything is on the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "builder.h"
#include "durable.h"
#include "inspect.h"
#include "maker.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "remove.h"
#include "resolve.h"
#include "talk.h"
#include "target.h"

#define ACCESS_LIST_BYTES 8192  /* a thousand entries */

struct creation {
	json_t *order;
	const char *name, *entry, *path;
	int elsewhere;
	struct maker_options options;
	json_t *python, *search;        /* borrowed from the order */
	int probe_ms;
	struct caller caller;
	struct interpreter interpreter;
	struct virtualenv virtualenv;
	struct maker maker;
	json_t *warnings;
	bool named;             /* path is used as it is: no stage */
	struct target target;
	int stage_fd;
	struct identity id;     /* of the reservation */
};

static void creation_done(struct creation *c)
{
	interpreter_done(&c->interpreter);
	virtualenv_done(&c->virtualenv);
	target_done(&c->target);
	cleanup_fd(&c->stage_fd);
	json_decref(c->warnings);
}

static void read_order(struct creation *c, json_t *order)
{
	json_t *options, *caller = NULL;
	c->order = order;
	talk_unpack(order, "{s:s, s:s, s:s, s:b, s:o, s?o, s:i, s?o}", "name", &c->name, "entry",
	    &c->entry, "path", &c->path, "elsewhere", &c->elsewhere, "options", &options, "search",
	    &c->search, "probeMs", &c->probe_ms, "caller", &caller);
	talk_positive(c->probe_ms);
	maker_options_read(&c->options, options);
	c->python = json_object_get(options, "python");
	caller_init(&c->caller, caller);
	c->named = c->elsewhere || c->options.clear || c->options.upgrade;
	c->warnings = json_array();
	c->maker = (struct maker){
		.interpreter = &c->interpreter, .options = &c->options, .caller = &c->caller, .path = c->path,
		.name = c->name,
	};
}

static int taken(const struct creation *c, struct failure *f)
{
	return failure_set(f, ERROR_ALREADY_EXISTS, json_pack("{so}", "name", failure_text(c->name)));
}

/* --- the interpreter --- */

static int resolve_order(struct creation *c, struct failure *f)
{
	json_t *list = json_object_get(c->search, "dirs"), *dir;
	_cleanup_free_ const char **dirs = xcalloc(json_array_size(list) + 1, sizeof(*dirs));
	size_t i, n = 0;
	json_array_foreach(list, i, dir)
		if (json_is_string(dir))
			dirs[n++] = json_string_value(dir);
	struct resolution r = {
		.specs = c->python, .caller = &c->caller, .dirs = dirs, .probe_ms = c->probe_ms,
		.managed_first = json_is_true(json_object_get(c->search, "managedFirst")),
		.warnings = c->warnings,
	};
	return resolve(&r, &c->interpreter, f);
}

static int find_interpreter(struct creation *c, struct failure *f)
{
	talk_progress(c->order, "interpreter");
	struct statx st;
	if (!c->named && place_statx(WORKER_FD_ROOT, c->name, &st) == 0)
		return taken(c, f);
	if (resolve_order(c, f) < 0)
		return -1;
	if (probe_is_old(&c->interpreter)) {
		if (virtualenv_find(&c->interpreter, &c->caller, c->probe_ms, &c->virtualenv, f) < 0)
			return -1;
		c->maker.virtualenv = &c->virtualenv;
	} else if (probe_require_venv(&c->interpreter, !c->options.without_pip, f) < 0) {
		return -1;
	}
	return maker_check(&c->maker, f);
}

/* --- the reservation --- */

/* A default access list of the root, as mkdir there would: the stage may have none, or an older one. */
static int inherit_access_list(int path_fd)
{
	char value[ACCESS_LIST_BYTES], path[64];
	ssize_t n = fgetxattr(WORKER_FD_ROOT, "system.posix_acl_default", value, sizeof(value));
	if (n <= 0)
		return n < 0 && errno == ERANGE ? -1 : 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
	return setxattr(path, "system.posix_acl_default", value, (size_t)n, 0) < 0 ? -1 :
	    setxattr(path, "system.posix_acl_access", value, (size_t)n, 0);
}

/* The directory has the mode, and in a set-group-id root the group, that mkdir in the root would give. */
static int make_reservation(struct creation *c, struct failure *f)
{
	struct stat root;
	struct statx st;
	c->stage_fd = place_state_dir(PATH_STAGE);
	if (c->stage_fd < 0)
		return failure_errno(f, "cannot open '%s/%s'", PATH_STATE, PATH_STAGE);
	umask(c->caller.umask);
	int r = mkdirat(c->stage_fd, c->entry, 0777);
	umask(022);
	if (r < 0)
		return failure_errno(f, "cannot make a directory for '%s'", c->name);
	if (place_statx(c->stage_fd, c->entry, &st) < 0 || fstat(WORKER_FD_ROOT, &root) < 0)
		return failure_errno(f, "cannot look at the directory for '%s'", c->name);
	c->id = place_identity(&st);
	_cleanup_fd_ int fd = place_open(c->stage_fd, c->entry, O_PATH | O_DIRECTORY);
	if ((root.st_mode & S_ISGID) && !(st.stx_mode & S_ISGID)) {
		if (fd < 0 || fchownat(fd, "", -1, root.st_gid, AT_EMPTY_PATH) < 0 ||
		    place_chmod(fd, (st.stx_mode & 07777) | S_ISGID) < 0)
			return failure_errno(f, "cannot give '%s' the group of the root", c->name);
	}
	return fd < 0 || inherit_access_list(fd) < 0 ? failure_errno(f, "cannot give '%s' the access list of the root", c->name) : 0;
}

/* Tells the daemon what is reserved; 0 once its row is on the disk. */
static int await_go(struct creation *c, struct failure *f)
{
	json_t *reserved = json_pack("{sIsIsosOso}", "ino", (json_int_t)c->id.ino, "btime",
	    (json_int_t)c->id.btime_ns, "interpreter", interpreter_json(&c->interpreter), "warnings",
	    c->warnings, "reason", failure_text(c->interpreter.reason));
	if (c->named)
		json_object_set_new(reserved, "made", json_boolean(c->target.made));
	return talk_reserved(c->order, reserved, f);
}

static int reserve(struct creation *c, struct failure *f)
{
	talk_progress(c->order, "reserve");
	if (c->named) {
		if (target_open(&c->target, c->path, c->caller.umask, f) < 0)
			return -1;
		c->id = c->target.id;
		/* The daemon knows the root by its text, and nothing is called there but by its directory's name. */
		if (c->elsewhere && target_lies_in_root(&c->target))
			return failure_reason(f, ERROR_UNSUPPORTED, "'%s' lies in the root", c->path);
		return await_go(c, f);
	}
	if (make_reservation(c, f) == 0 && await_go(c, f) == 0)
		return 0;
	if (c->stage_fd >= 0)
		unlinkat(c->stage_fd, c->entry, AT_REMOVEDIR);
	return -1;
}

/* --- the tool --- */

static int publish_reservation(struct creation *c, struct failure *f)
{
	if (c->named || place_move(c->stage_fd, c->entry, WORKER_FD_ROOT, c->name) == 0)
		return 0;
	int r = errno == EEXIST ? taken(c, f) : failure_errno(f, "cannot make '%s'", c->name);
	unlinkat(c->stage_fd, c->entry, AT_REMOVEDIR);
	return r;
}

/* Whether it is still the directory that was reserved. */
static int check_place(const struct creation *c, struct failure *f)
{
	if (c->named ? target_is_there(&c->target) : place_is(WORKER_FD_ROOT, c->name, c->id))
		return 0;
	return failure_reason(f, ERROR_FAILED, "'%s' was moved or replaced by somebody while it was being made",
	    c->elsewhere ? c->path : c->name);
}

/* The tool goes by path. */
static int build(struct creation *c, struct failure *f)
{
	if (publish_reservation(c, f) < 0 || check_place(c, f) < 0)
		return -1;
	talk_progress(c->order, "build");
	if (c->options.clear && c->maker.virtualenv) {
		_cleanup_removal_ struct removal removal = { 0 };
		remove_contents(&removal, c->target.fd, NULL);
		if (removal.gone)
			return failure_gone(f);
	}
	if (maker_run(&c->maker, f) == 0)
		return 0;
	if (c->named && f->code == ERROR_INTERPRETER_FAILED && builder_disk_is_full(c->target.fd))
		return failure_reason(f, ERROR_NO_SPACE, "the disk became full while '%s' was being made",
		    c->name);
	return -1;
}

static int sync_all(struct creation *c, struct failure *f)
{
	talk_progress(c->order, "sync");
	if (c->elsewhere)
		return target_sync(&c->target, f) < 0 ? -1 : check_place(c, f);
	if (syncfs(WORKER_FD_ROOT) < 0 || durable_directory(WORKER_FD_ROOT) < 0)
		return failure_sync(f);
	return check_place(c, f);
}

/* An interpreter may say that all went well and have made nothing of use. */
static int verify(struct creation *c, json_t **ret, struct failure *f)
{
	const char *tool = c->maker.virtualenv ? "virtualenv" : "its venv module";
	json_t *found = c->named ? inspect_elsewhere(c->target.parent_fd, c->target.base, c->name) :
	    inspect_one(WORKER_FD_ROOT, c->name);
	const char *kind = json_string_value(json_object_get(found, "kind"));
	const char *problem = json_string_value(json_object_get(found, "problem"));
	if (strcmp(kind, "environment") == 0 && !problem) {
		*ret = json_pack("{soss}", "environment", found, "creator",
		    c->maker.virtualenv ? "virtualenv" : "venv");
		return 0;
	}
	_cleanup_free_ char *reason = problem ?
	    xasprintf("%s made an environment that cannot work: %s", tool, problem) :
	    xasprintf("%s made no environment", tool);
	json_decref(found);
	return failure_set(f, ERROR_INTERPRETER_FAILED, json_pack("{soso}", "interpreter",
	    failure_text(c->interpreter.path), "reason", failure_text(reason)));
}

int do_create(json_t *order, json_t **ret, struct failure *f)
{
	__attribute__((cleanup(creation_done))) struct creation c = {
		.stage_fd = -1, .target = TARGET_NONE,
	};
	read_order(&c, order);
	if (!place_component(c.name) || !place_component(c.entry) || c.path[0] != '/')
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", c.name);
	if (find_interpreter(&c, f) == 0 && reserve(&c, f) == 0 && build(&c, f) == 0 &&
	    sync_all(&c, f) == 0 && verify(&c, ret, f) == 0)
		return 0;
	if (c.named && c.target.path)
		target_undo(&c.target);
	return -1;
}

/* SPDX-License-Identifier: MIT */
/*
 * Creation in place, with the interpreter's own `python -m venv` at the final path, so the result is its
 * own byte for byte. The reservation is an empty directory in the stage; the daemon writes its inode
 * down before it is renamed to the name, so whatever a crash leaves can be told from everything else.
 *
 * Before the daemon's "go" this room cleans up after itself; afterwards the daemon discards by inode.
 * Nothing is answered before everything is on the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "builder.h"
#include "inspect.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "resolve.h"
#include "talk.h"

struct creation {
	json_t *order;
	const char *name, *entry, *root, *python, *prompt;
	int without_pip, system_site_packages, probe_ms;
	struct caller caller;
	struct interpreter interpreter;
	int stage_fd;
	struct identity id;     /* of the reservation */
};

static void creation_done(struct creation *c)
{
	interpreter_done(&c->interpreter);
	cleanup_fd(&c->stage_fd);
}

static void read_order(struct creation *c, json_t *order)
{
	json_t *python = NULL, *prompt = NULL, *caller = NULL;
	c->order = order;
	talk_unpack(order, "{s:s, s:s, s:s, s?o, s:b, s:b, s?o, s:i, s?o}", "name", &c->name, "entry",
	    &c->entry, "root", &c->root, "python", &python, "withoutPip", &c->without_pip,
	    "systemSitePackages", &c->system_site_packages, "prompt", &prompt, "probeMs", &c->probe_ms,
	    "caller", &caller);
	c->python = json_string_value(python);
	c->prompt = json_string_value(prompt);
	caller_init(&c->caller, caller);
}

static int taken(const struct creation *c, struct failure *f)
{
	return failure_set(f, ERROR_ALREADY_EXISTS, json_pack("{so}", "name", failure_text(c->name)));
}

static int find_interpreter(struct creation *c, struct failure *f)
{
	talk_progress(c->order, "interpreter");
	struct statx st;
	if (place_statx(WORKER_FD_ROOT, c->name, &st) == 0)
		return taken(c, f);
	json_auto_t *specs = c->python ? json_pack("[s]", c->python) : json_array();
	struct resolution resolution = { .specs = specs, .caller = &c->caller, .probe_ms = c->probe_ms };
	if (resolve(&resolution, &c->interpreter, f) < 0)
		return -1;
	return probe_require_venv(&c->interpreter, !c->without_pip, f);
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
	if ((root.st_mode & S_ISGID) && !(st.stx_mode & S_ISGID)) {
		_cleanup_fd_ int fd = place_open(c->stage_fd, c->entry, O_PATH | O_DIRECTORY);
		if (fd < 0 || fchownat(fd, "", -1, root.st_gid, AT_EMPTY_PATH) < 0 ||
		    place_chmod(fd, (st.stx_mode & 07777) | S_ISGID) < 0)
			return failure_errno(f, "cannot give '%s' the group of the root", c->name);
	}
	return 0;
}

/* Tells the daemon what is reserved; 0 once its row is on the disk. */
static int await_go(struct creation *c, struct failure *f)
{
	talk_frame(c->order, "reserved", json_pack("{sIsIsoso}", "ino", (json_int_t)c->id.ino, "btime",
	    (json_int_t)c->id.btime_ns, "interpreter", interpreter_json(&c->interpreter), "reason",
	    failure_text(c->interpreter.reason)));
	json_auto_t *message = talk_next(true);
	if (!message)
		return failure_gone(f);
	json_int_t id;
	int go;
	talk_unpack(message, "{s:I, s:b}", "id", &id, "go", &go);
	return go ? 0 : failure_gone(f);
}

static int reserve(struct creation *c, struct failure *f)
{
	talk_progress(c->order, "reserve");
	if (make_reservation(c, f) == 0 && await_go(c, f) == 0)
		return 0;
	if (c->stage_fd >= 0)
		unlinkat(c->stage_fd, c->entry, AT_REMOVEDIR);
	return -1;
}

static int build(struct creation *c, struct failure *f)
{
	if (place_move(c->stage_fd, c->entry, WORKER_FD_ROOT, c->name) < 0) {
		int r = errno == EEXIST ? taken(c, f) : failure_errno(f, "cannot make '%s'", c->name);
		unlinkat(c->stage_fd, c->entry, AT_REMOVEDIR);
		return r;
	}
	talk_progress(c->order, "build");
	_cleanup_free_ char *path = xasprintf("%s/%s", strcmp(c->root, "/") == 0 ? "" : c->root, c->name);
	_cleanup_free_ char *prompt = c->prompt ? xasprintf("--prompt=%s", c->prompt) : NULL;
	const char *arguments[5] = { 0 };
	size_t n = 0;
	if (c->system_site_packages)
		arguments[n++] = "--system-site-packages";
	if (c->without_pip)
		arguments[n++] = "--without-pip";
	if (prompt)
		arguments[n++] = prompt;
	arguments[n++] = path;
	return builder_run_venv(&c->interpreter, &c->caller, arguments, c->name, f);
}

static int sync_all(struct creation *c, struct failure *f)
{
	talk_progress(c->order, "sync");
	if (syncfs(WORKER_FD_ROOT) < 0 || fsync(WORKER_FD_ROOT) < 0)
		return failure_sync(f);
	if (!place_is(WORKER_FD_ROOT, c->name, c->id))
		return failure_reason(f, ERROR_FAILED,
		    "'%s' was moved or replaced by somebody while it was being made", c->name);
	return 0;
}

/* An interpreter may say that all went well and have made nothing of use. */
static int verify(struct creation *c, json_t **ret, struct failure *f)
{
	json_t *found = inspect_one(WORKER_FD_ROOT, c->name);
	const char *kind = json_string_value(json_object_get(found, "kind"));
	const char *problem = json_string_value(json_object_get(found, "problem"));
	if (strcmp(kind, "environment") == 0 && !problem) {
		*ret = json_pack("{so}", "environment", found);
		return 0;
	}
	_cleanup_free_ char *reason = problem ?
	    xasprintf("its venv module made an environment that cannot work: %s", problem) :
	    xstrdup("its venv module made no environment");
	json_decref(found);
	return failure_set(f, ERROR_INTERPRETER_FAILED, json_pack("{soso}", "interpreter",
	    failure_text(c->interpreter.path), "reason", failure_text(reason)));
}

int do_create(json_t *order, json_t **ret, struct failure *f)
{
	__attribute__((cleanup(creation_done))) struct creation c = { .stage_fd = -1 };
	read_order(&c, order);
	if (!place_component(c.name) || !place_component(c.entry))
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", c.name);
	if (find_interpreter(&c, f) < 0 || reserve(&c, f) < 0 || build(&c, f) < 0 || sync_all(&c, f) < 0)
		return -1;
	return verify(&c, ret, f);
}

/* SPDX-License-Identifier: MIT */
/*
 * Claims. Nothing here starts a child or asks an interpreter: what is not known and prepared is a `miss` that
 * says which long order brings it, and what the interpreter's own venv alone can make is a miss "place".
 *
 * An entry goes pool/BUCKET/E -> stage/ENTRY -> NAME, each time by one rename that replaces nothing. Between
 * the two it gets the files that bear its path, while the daemon commits its intent. Whatever happens, there is
 * a leftover in the stage, which the daemon purges, or the whole environment. A power cut may take back the first rename,
 * but not the bytes that were written over the entry's blanks: what these hold is never relied upon (clone.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/xattr.h>

#include "bounds.h"
#include "bucket.h"
#include "claim.h"
#include "clone.h"
#include "inspect.h"
#include "orders.h"
#include "paths.h"
#include "resolve.h"
#include "talk.h"

struct claim {
	json_t *order;                  /* owned; the rest borrows from it */
	json_int_t id;
	const char *name, *entry, *path, *prompt;
	json_t *search, *caller_json, *python, *resolved;
	struct caller caller;
	int without_pip, system_site_packages, copies, without_scm;
	int probe_ms;
	bool replaces;
	struct trashing old;            /* what it replaces */

	json_t *warnings;
	struct interpreter interpreter;
	const char *base;               /* the executable that links lead to */
	char *key, *bucket;
	struct model_answer answer;
	struct clone_change *changes;   /* of its files against the entry's blanks */
	struct identity identity;       /* of the entry */
	size_t left;
	int dir_fd;                     /* stage/ENTRY, until it is written */
	struct durable durable;

	struct failure failure;
	json_t *environment;
	bool go;
	bool prepared;                  /* the old one's entry in the trash is made */
	bool moved;                     /* the root was changed */
	TAILQ_ENTRY(claim) link;
};

/* Those that have said `reserved`, and were told nothing yet. */
static TAILQ_HEAD(, claim) waiting = TAILQ_HEAD_INITIALIZER(waiting);
static size_t claim_count;

static void claim_free(struct claim *c)
{
	if (c->dir_fd >= 0)
		close(c->dir_fd);
	json_decref(c->warnings);
	json_decref(c->environment);
	interpreter_done(&c->interpreter);
	model_answer_done(&c->answer);
	free(c->changes);
	durable_done(&c->durable);
	durable_done(&c->old.durable);
	failure_done(&c->failure);
	free(c->key);
	free(c->bucket);
	json_decref(c->order);
	free(c);
	claim_count--;
}

static int taken(struct claim *c, struct failure *f)
{
	return failure_set(f, ERROR_ALREADY_EXISTS, json_pack("{so}", "name", failure_text(c->name)));
}

/* --- what is missing --- */

/* Answers; always 1. Takes order. */
static int miss(const struct claim *c, const char *what, char *key, json_t *order)
{
	talk_answer(c->order, json_pack("{ssssso}", "miss", what, "key", key, "order", order));
	free(key);
	return 1;
}

static int miss_place(const struct claim *c, const char *reason)
{
	talk_answer(c->order, json_pack("{ssso}", "miss", "place", "reason", failure_text(reason)));
	return 1;
}

static int miss_interpreter(const struct claim *c)
{
	json_t *order = json_pack("{ss, sO?, sO?, si, sO?}", "op", "resolve", "search", c->search, "python",
	    c->python, "probeMs", c->probe_ms, "caller", c->caller_json);
	_cleanup_free_ char *text = json_dumps(order, JSON_COMPACT | JSON_SORT_KEYS);
	char digest[SHA256_DIGEST_STRING_LENGTH];
	SHA256Data((const uint8_t *)text, strlen(text), digest);
	return miss(c, "interpreter", xasprintf("resolve~%.16s", digest), order);
}

static int miss_image(const struct claim *c)
{
	json_t *order = json_pack("{ss, so, sb, si, sO?}", "op", "image", "python",
	    failure_text(c->interpreter.path), "withoutPip", c->without_pip, "probeMs", c->probe_ms, "caller",
	    c->caller_json);
	return miss(c, "image", xasprintf("image~%s", c->key), order);
}

static json_t *fill_order(const struct claim *c)
{
	return json_pack("{ss, ss, ss, si, so, sb}", "op", "fill", "image", c->key, "bucket", c->bucket, "umask",
	    (int)c->caller.umask, "copies", c->copies ? json_string(c->base) : json_null(), "verify", 0);
}

static int miss_entry(const struct claim *c)
{
	return miss(c, "entry", xasprintf("fill~%s", c->bucket), fill_order(c));
}

/* --- what was asked for --- */

static void read_order(struct claim *c)
{
	json_t *options, *prompt = NULL, *replaces = NULL;
	int clear = 0, upgrade = 0, upgrade_deps = 0;
	c->search = c->caller_json = c->python = c->resolved = NULL;
	c->probe_ms = LIMIT_PROBE_MS;
	talk_unpack(c->order, "{s:I, s:s, s:s, s:s, s:o, s?o, s?o, s?i, s?o, s?o}", "id", &c->id, "name", &c->name,
	    "entry", &c->entry, "path", &c->path, "options", &options, "search", &c->search, "caller",
	    &c->caller_json, "probeMs", &c->probe_ms, "replaces", &replaces, "resolved", &c->resolved);
	talk_unpack(options, "{s?b, s?b, s?b, s?b, s?b, s?b, s?b, s?o, s?o}", "withoutPip", &c->without_pip,
	    "systemSitePackages", &c->system_site_packages, "copies", &c->copies, "withoutScmIgnoreFiles",
	    &c->without_scm, "clear", &clear, "upgrade", &upgrade, "upgradeDeps", &upgrade_deps, "prompt",
	    &prompt, "python", &c->python);
	c->prompt = json_string_value(prompt);
	caller_init(&c->caller, c->caller_json);
	if (json_is_object(replaces)) {
		json_int_t ino, btime;
		json_t *record;
		c->replaces = true;
		talk_unpack(replaces, "{s:I, s:I, s:s, s:o}", "ino", &ino, "btime", &btime, "trash",
		    &c->old.entry, "record", &record);
		c->old.name = c->name;
		c->old.record = record;
		c->old.want = (struct identity){ .ino = ino, .btime_ns = btime };
	}
}

/* A group or an access list that new directories of the root would inherit. */
static bool root_is_special(void)
{
	struct stat st;
	return fstat(WORKER_FD_ROOT, &st) < 0 || (st.st_mode & S_ISGID) ||
	    fgetxattr(WORKER_FD_ROOT, "system.posix_acl_default", NULL, 0) > 0;
}

/* Why only the interpreter's own venv can do what is asked; NULL. */
static const char *needs_place(const struct claim *c)
{
	static const char *const variables[] = { ORDER_BYTECODE_VARIABLES };
	static const char *const in_place[] = { "clear", "upgrade", "upgradeDeps" };
	const json_t *options = json_object_get(c->order, "options");
	for (size_t i = 0; i < ARRAY_LENGTH(variables); i++)
		if (caller_variable(&c->caller, variables[i]))
			return "a variable that changes bytecode is set";
	for (size_t i = 0; i < ARRAY_LENGTH(in_place); i++)
		if (json_is_true(json_object_get(options, in_place[i])))
			return "what is there is to be changed";
	if (c->caller.umask & S_IRWXU)
		return "the umask takes rights from the owner";
	if (root_is_special())
		return "the root gives new directories a group or an access list";
	return NULL;
}

static int check(struct claim *c, const struct places *p, struct failure *f)
{
	struct statx st;
	if (!place_component(c->name) || !place_component(c->entry) ||
	    (c->replaces && !place_component(c->old.entry)))
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", c->name);
	if (p->trash < 0 || p->stage < 0 || p->pool < 0)
		return failure_reason(f, ERROR_FAILED, "cannot open the stage, the trash and the pool");
	if (claim_count > LIMIT_SHORT_ORDERS)
		return failure_reason(f, ERROR_FAILED, "too many claims wait");
	if (c->replaces && !place_is(WORKER_FD_ROOT, c->name, c->old.want))
		return failure_set(f, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{so}", "name",
		    failure_text(c->name)));
	if (!c->replaces && place_statx(WORKER_FD_ROOT, c->name, &st) == 0)
		return taken(c, f);
	return 0;
}

/* --- what is prepared --- */

/* 0 with the interpreter; 1 answered. What the memory says against one may be old: then, too, somebody asks. */
static int find_interpreter(struct claim *c)
{
	_cleanup_failure_ struct failure ignored = { 0 };
	c->warnings = json_array();
	struct resolution resolution = {
		.specs = c->python, .caller = &c->caller, .warnings = c->warnings,
	};
	_cleanup_free_ const char **dirs = resolve_search(c->search, &resolution.managed_first);
	resolution.dirs = dirs;
	if (c->resolved && resolve_answered(c->resolved, c->warnings, &c->interpreter) != 0)
		return miss_place(c, "what the interpreter is cannot be remembered");
	if (!c->resolved && resolve(&resolution, &c->interpreter, &ignored) != 0)
		return miss_interpreter(c);
	if (probe_require_venv(&c->interpreter, !c->without_pip, &ignored) < 0)
		return miss_place(c, "the interpreter cannot make such an environment");
	if (c->copies && strcmp(c->interpreter.implementation, "pypy") == 0)
		return miss_place(c, "PyPy's copies are more than its executable");
	return 0;
}

/* What is written for it, and the bucket that its entry comes from. 0; 1 answered. */
static int predict(struct claim *c, const struct image *image)
{
	struct model_question question;
	_cleanup_free_ char *real = NULL;
	image_question(&c->interpreter, &question, &real);
	c->base = question.base_executable;
	question.path = c->path;
	question.prompt = c->prompt;
	question.cwd = c->caller.cwd;
	question.copies = c->copies;
	question.system_site_packages = c->system_site_packages;
	question.without_pip = c->without_pip;
	question.without_scm_ignore_files = c->without_scm;
	_cleanup_free_ char *refusal = model_refusal(image->model, &question);
	if (refusal)
		return miss_place(c, refusal);
	if (model_render(image->model, &question, &c->answer) < 0)
		return miss_place(c, "what its venv writes cannot be predicted");
	c->changes = clone_changes(&c->answer, &image->blank);
	if (!c->changes)
		return miss_place(c, "less is written than was prepared");
	c->bucket = bucket_name(c->key, c->caller.umask, c->copies ? c->base : NULL);
	return 0;
}

/* 0 with everything but the entry; 1 answered. */
static int find_image(struct claim *c)
{
	c->key = image_key(&c->interpreter, !c->without_pip);
	if (!c->key)
		return miss_place(c, "the installation cannot be read");
	const struct image *image = image_get(c->key);
	if (!image)
		return miss_image(c);
	if (!image->model)
		return miss_place(c, image->delegate ? image->delegate : "its image is of no use");
	image_touch(c->key);
	return predict(c, image);
}

/* 0; 1 answered; -1. */
static int take_entry(struct claim *c, const struct places *p, struct failure *f)
{
	struct statx st;
	int r = bucket_take(p->pool, c->bucket, p->stage, c->entry, &c->left);
	if (r > 0)
		return miss_entry(c);
	if (r < 0)
		return failure_errno(f, "cannot take an entry of the pool for '%s'", c->name);
	c->dir_fd = place_open(p->stage, c->entry, O_PATH | O_DIRECTORY);
	if (c->dir_fd < 0 || place_statx(c->dir_fd, "", &st) < 0)
		return failure_errno(f, "cannot open an entry of the pool");
	c->identity = place_identity(&st);
	return 0;
}

static void say_reserved(struct claim *c)
{
	json_t *fields = json_pack("{sI, sI, so, so, ss, ss, sI, so}", "ino", (json_int_t)c->identity.ino, "btime",
	    (json_int_t)c->identity.btime_ns, "interpreter", interpreter_json(&c->interpreter), "reason",
	    c->interpreter.reason ? failure_text(c->interpreter.reason) : json_string(""), "image", c->key,
	    "bucket", c->bucket, "left", (json_int_t)c->left, "order", fill_order(c));
	json_t *interpreter = json_object_get(fields, "interpreter");
	if (!json_object_get(interpreter, "state"))
		json_object_set_new(interpreter, "state", json_string("usable"));
	if (json_array_size(c->warnings) > 0)
		json_object_set(fields, "warnings", c->warnings);
	talk_frame(c->order, "reserved", fields);
}

struct claim *claim_begin(json_t *order, const struct places *p)
{
	struct claim *c = xcalloc(1, sizeof(*c));
	claim_count++;
	_cleanup_failure_ struct failure failure = { 0 };
	c->order = order;
	c->dir_fd = -1;
	read_order(c);
	int r = check(c, p, &failure);
	const char *why = r == 0 ? needs_place(c) : NULL;
	if (why)
		r = miss_place(c, why);
	if (r == 0)
		r = find_interpreter(c);
	if (r == 0)
		r = find_image(c);
	if (r == 0)
		r = take_entry(c, p, &failure);
	if (r < 0)
		talk_fail(order, &failure);
	if (r != 0) {
		claim_free(c);
		return NULL;
	}
	say_reserved(c);
	return c;
}

/* --- making and publishing it --- */

void claim_write(struct claim *c)
{
	clone_finish(&c->answer, c->changes, c->copies, c->dir_fd, c->caller.umask, &c->durable, &c->failure);
	close(c->dir_fd);
	c->dir_fd = -1;
}

void claim_wait(struct claim *c)
{
	TAILQ_INSERT_TAIL(&waiting, c, link);
}

struct claim *claim_told(json_t *message)
{
	json_int_t id;
	int go;
	struct claim *c;
	talk_unpack(message, "{s:I, s:b}", "id", &id, "go", &go);
	TAILQ_FOREACH(c, &waiting, link)
		if (c->id == id)
			break;
	if (!c)
		return NULL;
	TAILQ_REMOVE(&waiting, c, link);
	c->go = go;
	if (!go)
		failure_set(&c->failure, ERROR_CANCELLED, NULL);
	return c;
}

bool claim_is_over(const struct claim *c)
{
	return c->go || c->failure.code != ERROR_NONE;
}

bool claim_published(const struct claim *c)
{
	return c->moved;
}

void claim_prepare(struct claim *c, const struct places *p)
{
	if (c->failure.code != ERROR_NONE || !c->replaces)
		return;
	int r = trash_prepare(&c->old, p, &c->failure);
	if (r > 0)
		failure_reason(&c->failure, ERROR_FAILED, "the trash has '%s' already", c->old.entry);
	c->prepared = r == 0;
}

/* The files are not published yet: what is lost of them is lost, but nobody was promised anything. */
static int wait_for_files(struct claim *c)
{
	if (durable_wait(&c->durable) == 0)
		return 0;
	if (errno == ENOSPC || errno == EDQUOT)
		return failure_errno(&c->failure, "cannot write the files of '%s'", c->name);
	return failure_sync(&c->failure);
}

static int move_in(struct claim *c, const struct places *p)
{
	if (place_move_known(p->stage, c->entry, WORKER_FD_ROOT, c->name, c->identity, c->entry) == 0)
		return 0;
	if (errno == EEXIST)
		return taken(c, &c->failure);
	return failure_errno(&c->failure, "cannot publish '%s'", c->name);
}

/* An interpreter may have gone since it was asked. */
static int look(struct claim *c, const struct places *p)
{
	c->environment = inspect_elsewhere(p->stage, c->entry, c->path);
	json_object_set_new(c->environment, "name", failure_text(c->name));
	const char *kind = json_string_value(json_object_get(c->environment, "kind"));
	const char *problem = json_string_value(json_object_get(c->environment, "problem"));
	if (strcmp(kind, "environment") == 0 && !problem)
		return 0;
	_cleanup_free_ char *reason = xasprintf("what was prepared for '%s' cannot work: %s", c->name,
	    problem ? problem : "it is no environment");
	return failure_set(&c->failure, ERROR_INTERPRETER_FAILED, json_pack("{soso}", "interpreter",
	    failure_text(c->interpreter.path), "reason", failure_text(reason)));
}

/* Everything that comes before the rename; again it does nothing. */
static int settle(struct claim *c, const struct places *p)
{
	if (c->failure.code != ERROR_NONE)
		return -1;
	if (c->environment)
		return 0;
	return wait_for_files(c) < 0 ? -1 : look(c, p);
}

bool claim_waits(void)
{
	return !TAILQ_EMPTY(&waiting);
}

void claim_settle_waiting(const struct places *p)
{
	struct claim *c;
	TAILQ_FOREACH(c, &waiting, link)
		settle(c, p);
}

void claim_publish(struct claim *c, const struct places *p)
{
	if (settle(c, p) < 0 || (c->replaces && trash_move(&c->old, p, &c->failure) < 0)) {
		if (c->prepared)
			trash_remove_entry(&c->old, p);
		return;
	}
	c->moved = true;
	if (move_in(c, p) < 0 && c->replaces && trash_undo(&c->old, p) < 0)
		failure_errno(&c->failure, "'%s' is in the trash and could not be put back", c->name);
}

void claim_finish(struct claim *c, int sync_errno)
{
	errno = sync_errno;
	if (sync_errno && c->moved)
		failure_sync(&c->failure);
	if (c->failure.code != ERROR_NONE) {
		talk_fail(c->order, &c->failure);
	} else {
		json_object_set_new(c->environment, "createdAt", json_integer(now_us()));
		talk_answer(c->order, json_pack("{sO}", "environment", c->environment));
	}
	claim_free(c);
}

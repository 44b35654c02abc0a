/* SPDX-License-Identifier: MIT */
/*
 * Making an image. The interpreter's own venv module makes the golden environment in the stage,
 * under the umask 077, where every mode tells how it came about. With pip it has a short plain
 * path, so that scripts get their short form; a second environment without pip, with the most
 * awkward path and prompt that can be had, is the other half of the proof. Without pip the awkward
 * one is the golden one. What holds is in verify.c.
 *
 * Whatever is not as predicted makes a delegate: an image without a tree, which says why, so that
 * nobody tries again. Only what the file system, the daemon's end or the venv module itself has to
 * say is a failure. The stage is left empty in every case, and the image appears by one rename once
 * all of it is on the disk.
 *
 * An image is everybody's, so nothing of who asks for it first goes into it: the interpreter runs without the
 * caller's variables, and with them only where it cannot run without (LD_LIBRARY_PATH).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "bounds.h"
#include "builder.h"
#include "durable.h"
#include "installation.h"
#include "manifest.h"
#include "orders.h"
#include "paths.h"
#include "place.h"
#include "remove.h"
#include "talk.h"
#include "verify.h"

#define FORM 1
#define GOLDEN_UMASK 077
#define AWKWARD_UMASK 0
#define PLAIN_PATH_MAX 90       /* so that the scripts' shebang fits into 127 bytes */
#define LINK_SECONDS 7200       /* much longer than an image takes */
#define AWKWARD "a w'k\"w $A `b` \\r!d __VENV_PROMPT__"
#define AWKWARD_UNICODE " \u00e4\u20ac\U0001d70b"
#define AWKWARD_PROMPT "it's \"q\" $P `x` \\ __VENV_BIN_NAME__\n\t"
#define AWKWARD_PROMPT_UNICODE " \u00e9\u00a0\u200b\U0001d70b"

struct making {
	const struct interpreter *interpreter;
	bool with_pip;
	const char *key;
	struct caller caller;           /* without most or all of its variables */
	int images_fd, stage_fd, entry_fd, lock_fd;
	char entry[PLACE_STAGE_NAME];
	char *base;                     /* its path for a Python: plain */
	char *link_dir;                 /* NULL, or base is a link in this directory in /tmp */
	char *real;                     /* of the interpreter */
	json_t *draft;
	struct model *model;
	struct model_file *same;        /* templates without variables, with their modes */
	size_t same_count;
	struct tree golden, awkward;
	char *delegate;
	struct failure *failure;
};

/* To its end, though its daemon may be gone: when only the order was cancelled nobody sweeps it for long. */
static void drop_stage(struct making *m)
{
	_cleanup_removal_ struct removal removal = { .to_the_end = true };
	if (m->stage_fd >= 0 && m->entry[0])
		remove_entry(&removal, m->stage_fd, m->entry);
}

/* Where the link was taken away there is what a tool has made in its place. */
static void drop_detour(const struct making *m)
{
	_cleanup_removal_ struct removal removal = { .to_the_end = true };
	_cleanup_fd_ int fd = open(m->link_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && m->base)
		remove_entry(&removal, fd, strrchr(m->base, '/') + 1);
	rmdir(m->link_dir);             /* when nobody else uses it */
}

static void making_done(struct making *m)
{
	cleanup_fd(&m->entry_fd);
	drop_stage(m);
	if (m->link_dir)
		drop_detour(m);
	if (m->lock_fd >= 0) {
		_cleanup_free_ char *name = xasprintf("%s.lock", m->key);
		unlinkat(m->stage_fd, name, 0);
	}
	cleanup_fd(&m->lock_fd);
	cleanup_fd(&m->stage_fd);
	cleanup_fd(&m->images_fd);
	for (size_t i = 0; i < m->same_count; i++)
		free(m->same[i].path);
	free(m->same);
	free(m->base);
	free(m->link_dir);
	free(m->real);
	free(m->delegate);
	json_decref(m->draft);
	model_free(m->model);
	tree_done(&m->golden);
	tree_done(&m->awkward);
}

/* Takes why, the first that is told stays. Always true, "go on". */
static bool delegate(struct making *m, char *why)
{
	if (!m->delegate)
		m->delegate = why;
	else
		free(why);
	return true;
}

/* --- the place --- */

static bool is_plain(const char *path)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=,./-";
	return strlen(path) <= PLAIN_PATH_MAX && path[strspn(path, plain)] == '\0';
}

/* A number says nothing of a process in another namespace, and a clock can jump: a link goes only if both speak against it. */
static bool maker_lives(const char *name)
{
	int pid, end = 0;
	return sscanf(name, PATH_STAGE_WORKER "%n", &pid, &end) == 1 && end > 0 && pid > 0 && (kill(pid, 0) == 0 || errno != ESRCH);
}

/* What killed workers have left there. */
static void sweep_links(const char *path)
{
	DIR *dir = opendir(path);
	struct stat st;
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) &&
		    st.st_mtim.tv_sec < now_us() / 1000000 - LINK_SECONDS && !maker_lives(e->d_name))
			unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
}

/* A private directory in /tmp, always the same one, so that nothing piles up. Owned; NULL with
 * errno. */
static char *find_link_dir(void)
{
	char *path = xasprintf("/tmp/venvd-%u", (unsigned)geteuid());
	struct stat st;
	if ((mkdir(path, 0700) == 0 || errno == EEXIST) && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	    st.st_uid == geteuid() && (st.st_mode & 077) == 0) {
		sweep_links(path);
		return path;
	}
	free(path);
	path = xstrdup("/tmp/venvd-XXXXXX");
	if (mkdtemp(path))
		return path;
	free(path);
	return NULL;
}

/* The stage's entry under a path that a Python can be given. */
static int find_base(struct making *m)
{
	char proc[64], path[4096];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", m->entry_fd);
	ssize_t n = readlink(proc, path, sizeof(path) - 1);
	if (n < 0 || n == (ssize_t)sizeof(path) - 1)
		return failure_errno(m->failure, "cannot find out the root's path");
	path[n] = '\0';
	if (is_plain(path)) {
		m->base = xstrdup(path);
		return 0;
	}
	/* Another worker may take the directory away in between. */
	for (int i = 0; i < 3; i++) {
		free(m->link_dir);
		m->link_dir = find_link_dir();
		if (!m->link_dir)
			return failure_errno(m->failure, "cannot make a directory in '/tmp'");
		_cleanup_free_ char *link = xasprintf("%s/%s", m->link_dir, m->entry);
		if (symlink(path, link) == 0) {
			m->base = link;
			link = NULL;
			return 0;
		}
	}
	return failure_errno(m->failure, "cannot make a link in '%s'", m->link_dir);
}

/* In the stage, so that what a killed worker leaves is swept with it. The daemon runs one order for each key that it
 * knows; but what it begins by itself has none, and one that was cancelled may still be at it. */
static int take_lock(struct making *m)
{
	_cleanup_free_ char *name = xasprintf("%s.lock", m->key);
	_cleanup_fd_ int fd = openat(m->stage_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failure_errno(m->failure, "cannot make an image");
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return failure_errno(m->failure, "cannot make an image");
	m->lock_fd = fd;
	fd = -1;
	return 0;
}

static int open_places(struct making *m)
{
	m->images_fd = place_state_dir(PATH_IMAGES);
	m->stage_fd = place_state_dir(PATH_STAGE);
	if (m->images_fd < 0 || m->stage_fd < 0)
		return failure_errno(m->failure, "cannot open '%s/%s'", PATH_STATE,
		    m->images_fd < 0 ? PATH_IMAGES : PATH_STAGE);
	place_mark_cache(m->images_fd);
	if (take_lock(m) < 0)
		return -1;
	place_stage_name(m->entry);
	if (mkdirat(m->stage_fd, m->entry, 0700) < 0) {
		m->entry[0] = '\0';
		return failure_errno(m->failure, "cannot make an image");
	}
	m->entry_fd = place_open(m->stage_fd, m->entry, O_RDONLY | O_DIRECTORY);
	if (m->entry_fd < 0)
		return failure_errno(m->failure, "cannot make an image");
	return find_base(m);
}

/* --- the environments --- */

/* PIP_* and what changes bytecode would be in every environment from this image. */
static json_t *usable_variables(const struct caller *caller)
{
	static const char *const dropped[] = { ORDER_BYTECODE_VARIABLES };
	json_t *usable = json_object(), *value;
	const char *name;
	json_object_foreach(caller->environment, name, value) {
		bool drop = strncmp(name, "PIP_", 4) == 0;
		for (size_t i = 0; i < ARRAY_LENGTH(dropped); i++)
			drop = drop || strcmp(name, dropped[i]) == 0;
		if (!drop)
			json_object_set(usable, name, value);
	}
	return usable;
}

struct awkward_names {
	char *name, *prompt;
};

static void awkward_names_done(struct awkward_names *a)
{
	free(a->name);
	free(a->prompt);
}

static struct awkward_names awkward_names(const struct making *m)
{
	const char *encoding = json_string_value(json_object_get(m->interpreter->facts, "encoding"));
	bool unicode = encoding && strcmp(encoding, "utf-8") == 0;
	return (struct awkward_names){
		.name = xasprintf("%s%s", AWKWARD, unicode ? AWKWARD_UNICODE : ""),
		.prompt = xasprintf("%s%s", AWKWARD_PROMPT, unicode ? AWKWARD_PROMPT_UNICODE : ""),
	};
}

static int build(struct making *m, const char *path, const char *prompt, mode_t mask, struct failure *f)
{
	_cleanup_free_ char *option = prompt ? xasprintf("--prompt=%s", prompt) : NULL;
	const char *arguments[5] = { path };
	size_t n = 0;
	if (prompt) {
		arguments[n++] = "--system-site-packages";
		arguments[n++] = "--without-pip";
		arguments[n++] = option;
		arguments[n++] = path;
	}
	m->caller.umask = mask;
	return builder_run_venv(m->interpreter, &m->caller, arguments, m->key, f);
}

/* Then what was made lies somewhere else, and nothing can be said of the interpreter. */
static bool detour_is_lost(const struct making *m)
{
	struct stat st;
	return m->link_dir && (lstat(m->base, &st) < 0 || !S_ISLNK(st.st_mode));
}

/* Reads what stands in the stage under this name. -1 with the failure set. */
static int read_tree(struct making *m, const char *name, const char *path, struct tree *ret,
    int *ret_fd)
{
	_cleanup_free_ char *found = NULL;
	*ret_fd = place_open(m->entry_fd, name, O_RDONLY | O_DIRECTORY);
	if (*ret_fd >= 0 && tree_read(*ret_fd, path, ret, &found) == 0)
		return 0;
	if (*ret_fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) && detour_is_lost(m))
		return failure_reason(m->failure, ERROR_FAILED, "'%s' was taken away while an environment was made there", m->base);
	if (*ret_fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return !delegate(m, xstrdup("its venv module made nothing"));
	if (errno == ECANCELED)
		return failure_gone(m->failure);
	if (errno == E2BIG)
		return !delegate(m, xasprintf("more than %d files", LIMIT_IMAGE_FILES));
	if (found)
		return !delegate(m, xasprintf("'%s' is nothing that can be copied", found));
	return failure_errno(m->failure, "cannot read the new image");
}

/* --- the model --- */

static int take_template(void *data, const char *name, const struct text *content, mode_t mode)
{
	struct making *m = data;
	const char *bin = json_string_value(json_object_get(m->draft, "bin"));
	switch (model_draft_template(m->draft, name, content, mode)) {
	case 0:
		return 0;
	case 1:
		m->same = xreallocarray(m->same, m->same_count + 1, sizeof(*m->same));
		m->same[m->same_count++] = (struct model_file){
			.path = xasprintf("%s/%s", bin, name), .mode = mode, .exact_mode = true,
		};
		return 0;
	default:
		delegate(m, xasprintf("the template '%s' is no UTF-8 text", name));
		return 0;
	}
}

static int begin_draft(struct making *m)
{
	_cleanup_text_ struct text venv = { 0 };
	const struct interpreter *i = m->interpreter;
	if (installation_venv_text(i, &venv) < 0)
		return failure_errno(m->failure, "cannot read the venv module of '%s'", i->path);
	struct model_source source = {
		.venv = venv.data, .numbers = i->numbers, .implementation = i->implementation,
		.facts = i->facts, .pip = m->with_pip,
	};
	m->draft = model_draft(&source);
	if (installation_templates(i, take_template, m) < 0)
		return failure_errno(m->failure, "cannot read the templates of '%s'", i->path);
	return 0;
}

static bool is_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);
	return strncmp(path, dir, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/');
}

/* pip's scripts: what is executable in bin and begins with this environment's own interpreter. */
static void add_scripts(struct making *m, int fd, const char *python)
{
	const char *bin = json_string_value(json_object_get(m->draft, "bin"));
	for (size_t i = 0; i < m->golden.count; i++) {
		const struct tree_entry *e = &m->golden.entries[i];
		_cleanup_text_ struct text content = { 0 };
		struct model_file mode;
		if (!S_ISREG(e->st.st_mode) || !(e->st.st_mode & 0100) || !is_in(e->path, bin) ||
		    !verify_mode(e, m->same, m->same_count, &mode) ||
		    place_read(fd, e->path, LIMIT_CFG_BYTES, &content, NULL) < 0)
			continue;
		if (model_draft_script(m->draft, e->path, &content, mode.floor, python) < 0)
			delegate(m, xasprintf("'%s' is an unknown kind of script", e->path));
	}
}

static void add_records(struct making *m, int fd)
{
	static const char end[] = ".dist-info/RECORD";
	for (size_t i = 0; i < m->golden.count; i++) {
		const struct tree_entry *e = &m->golden.entries[i];
		size_t len = strlen(e->path), n = sizeof(end) - 1;
		_cleanup_text_ struct text content = { 0 };
		if (!S_ISREG(e->st.st_mode) || len < n || strcmp(e->path + len - n, end) != 0 ||
		    place_read(fd, e->path, 4 * 1024 * 1024, &content, NULL) < 0)
			continue;
		_cleanup_free_ char *site = xstrndup(e->path, len - n);
		char *slash = strrchr(site, '/');
		if (slash)
			*slash = '\0';
		if (!slash || model_draft_record(m->draft, e->path, site, &content) < 0)
			delegate(m, xasprintf("'%s' has an unknown form", e->path));
	}
}

/* Holds an environment against what the model says of it. */
static void prove(struct making *m, struct tree *t, int fd, const struct model_question *q, mode_t mask)
{
	struct model_answer answer;
	if (m->delegate || !m->model)
		return;
	if (model_render(m->model, q, &answer) < 0) {
		delegate(m, xstrdup("what its venv module writes cannot be predicted"));
		return;
	}
	char *why = verify_answer(t, fd, &answer, mask);
	model_answer_done(&answer);
	if (!why)
		why = verify_payload(t);
	if (why)
		delegate(m, why);
}

static int finish_draft(struct making *m, int fd, const struct model_question *q)
{
	const char *bin = json_string_value(json_object_get(m->draft, "bin"));
	const char *slash = strrchr(q->base_executable, '/');
	_cleanup_free_ char *python = xasprintf("%s/%s/%s", q->path, bin, slash ? slash + 1 : "");
	if (m->with_pip) {
		add_scripts(m, fd, python);
		add_records(m, fd);
	}
	m->model = model_from_json(m->draft);
	if (!m->model)
		delegate(m, xstrdup("what its venv module writes cannot be kept"));
	return 0;
}

/* Without pip: the awkward one is all there is. */
static int make_bare(struct making *m)
{
	__attribute__((cleanup(awkward_names_done))) struct awkward_names names = awkward_names(m);
	_cleanup_free_ char *path = xasprintf("%s/%s", m->base, names.name);
	_cleanup_fd_ int fd = -1;
	struct model_question q;
	image_question(m->interpreter, &q, &m->real);
	q.path = path;
	q.prompt = names.prompt;
	q.system_site_packages = q.without_pip = true;
	if (build(m, path, names.prompt, GOLDEN_UMASK, m->failure) < 0 || begin_draft(m) < 0 ||
	    read_tree(m, names.name, path, &m->golden, &fd) < 0)
		return -1;
	finish_draft(m, fd, &q);
	prove(m, &m->golden, fd, &q, GOLDEN_UMASK);
	if (fd >= 0 && renameat(m->entry_fd, names.name, m->entry_fd, MANIFEST_TREE) < 0)
		return failure_errno(m->failure, "cannot make an image");
	return 0;
}

/* The second environment; that its venv module cannot make it is no failure of the first. */
static int prove_awkward(struct making *m)
{
	__attribute__((cleanup(awkward_names_done))) struct awkward_names names = awkward_names(m);
	_cleanup_free_ char *path = xasprintf("%s/%s", m->base, names.name);
	_cleanup_failure_ struct failure failure = { 0 };
	_cleanup_removal_ struct removal removal = { 0 };
	_cleanup_fd_ int fd = -1;
	struct model_question q;
	_cleanup_free_ char *real = NULL;
	image_question(m->interpreter, &q, &real);
	q.path = path;
	q.prompt = names.prompt;
	q.system_site_packages = q.without_pip = true;
	if (m->delegate)
		return 0;
	if (build(m, path, names.prompt, AWKWARD_UMASK, &failure) < 0) {
		if (failure.code == ERROR_CANCELLED || failure.code == ERROR_NO_SPACE) {
			failure_move(m->failure, &failure);
			return -1;
		}
		return !delegate(m, xstrdup("its venv module cannot make an environment with odd names"));
	}
	if (read_tree(m, names.name, path, &m->awkward, &fd) < 0)
		return -1;
	/* The same model, but for pip. */
	json_auto_t *draft = json_copy(m->draft);
	json_object_set_new(draft, "pip", json_false());
	json_object_set_new(draft, "scripts", json_array());
	json_object_set_new(draft, "records", json_array());
	struct model *model = m->model;
	m->model = model_from_json(draft);
	prove(m, &m->awkward, fd, &q, AWKWARD_UMASK);
	model_free(m->model);
	m->model = model;
	char *why = verify_subset(&m->awkward, AWKWARD_UMASK, &m->golden, m->same, m->same_count);
	if (why)
		delegate(m, why);
	remove_entry(&removal, m->entry_fd, names.name);
	return 0;
}

static int make_with_pip(struct making *m)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", m->base, MANIFEST_TREE);
	_cleanup_fd_ int fd = -1;
	struct model_question q;
	image_question(m->interpreter, &q, &m->real);
	q.path = path;
	if (build(m, path, NULL, GOLDEN_UMASK, m->failure) < 0 || begin_draft(m) < 0 ||
	    read_tree(m, MANIFEST_TREE, path, &m->golden, &fd) < 0)
		return -1;
	finish_draft(m, fd, &q);
	prove(m, &m->golden, fd, &q, GOLDEN_UMASK);
	char *why = m->delegate ? NULL : verify_records(&m->golden, fd);
	if (why)
		delegate(m, why);
	return prove_awkward(m);
}

/* --- keeping it --- */

static int write_json(struct making *m, const char *name, const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);
	_cleanup_fd_ int fd = openat(m->entry_fd, name,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = -1;
	if (fd >= 0 && text)
		r = fd_write_all(fd, text, strlen(text));
	free(text);
	return r < 0 ? failure_errno(m->failure, "cannot write '%s' of an image", name) : 0;
}

static int write_files(struct making *m)
{
	int64_t bytes = 0;
	_cleanup_free_ char *found = NULL;
	json_auto_t *manifest = NULL;
	if (!m->delegate) {
		_cleanup_fd_ int fd = place_open(m->entry_fd, MANIFEST_TREE, O_RDONLY | O_DIRECTORY);
		manifest = manifest_make(&m->golden, fd, m->same, m->same_count, &bytes, &found);
		if (!manifest && errno != EINVAL && errno != EILSEQ)
			return failure_errno(m->failure, "cannot make the image's '%s'", found ? found : "");
		if (!manifest)
			delegate(m, xasprintf("'%s' has an odd name or mode", found));
	}
	if (m->delegate) {
		_cleanup_removal_ struct removal removal = { 0 };
		remove_entry(&removal, m->entry_fd, MANIFEST_TREE);
		bytes = 0;
	}
	json_auto_t *model = json_pack("{si, so, so, sI}", "form", FORM, "python",
	    failure_text(m->interpreter->path), "version", failure_text(m->interpreter->version), "bytes",
	    (json_int_t)bytes);
	if (m->delegate)
		json_object_set_new(model, "delegate", failure_text(m->delegate));
	else
		json_object_set_new(model, "model", model_to_json(m->model));
	if (manifest && write_json(m, MANIFEST_FILE, manifest) < 0)
		return -1;
	return write_json(m, MANIFEST_MODEL, model);
}

static int publish(struct making *m)
{
	_cleanup_free_ char *key = image_key(m->interpreter, m->with_pip);
	if (talk_gone())
		return failure_gone(m->failure);
	if (!key || strcmp(key, m->key) != 0)
		return failure_reason(m->failure, ERROR_FAILED,
		    "the installation of '%s' changed while its image was being made",
		    m->interpreter->path);
	if (syncfs(m->entry_fd) < 0) {
		/* Nobody was told of it yet. */
		bool full = errno == ENOSPC || errno == EDQUOT;
		return full ? failure_errno(m->failure, "cannot write the image '%s'", m->key) :
		    failure_sync(m->failure);
	}
	if (place_move(m->stage_fd, m->entry, m->images_fd, m->key) < 0) {
		if (errno == EEXIST)
			return 0;       /* as good as ours */
		return failure_errno(m->failure, "cannot keep the image '%s'", m->key);
	}
	m->entry[0] = '\0';
	if (durable_directory(m->images_fd) < 0 || durable_directory(WORKER_FD_STATE) < 0)
		return failure_sync(m->failure);
	image_touch(m->key);
	return 0;
}

/* Who had the lock before may have made it. */
static int make(struct making *m)
{
	if (talk_gone())
		return failure_gone(m->failure);
	if (image_get(m->key))
		return 0;
	if ((m->with_pip ? make_with_pip : make_bare)(m) < 0 || write_files(m) < 0)
		return -1;
	return publish(m);
}

static int make_with(const struct interpreter *i, bool with_pip, const char *key, const struct caller *caller,
    json_t *environment, struct failure *f)
{
	__attribute__((cleanup(making_done))) struct making m = {
		.interpreter = i, .with_pip = with_pip, .key = key, .failure = f, .caller = *caller,
		.images_fd = -1, .stage_fd = -1, .entry_fd = -1, .lock_fd = -1,
	};
	m.caller.cwd = "/";
	m.caller.environment = environment;
	return open_places(&m) < 0 ? -1 : make(&m);
}

static int make_anew(const struct interpreter *i, bool with_pip, const char *key, const struct caller *caller,
    struct failure *f)
{
	json_auto_t *none = json_object(), *usable = usable_variables(caller);
	int r = make_with(i, with_pip, key, caller, none, f);
	if (r == 0 || f->code != ERROR_INTERPRETER_FAILED || json_object_size(usable) == 0)
		return r;
	failure_done(f);
	return make_with(i, with_pip, key, caller, usable, f);
}

int image_make(const struct interpreter *i, bool with_pip, const struct caller *caller, char **ret_key,
    char **ret_delegate, struct failure *f)
{
	*ret_key = *ret_delegate = NULL;
	if (probe_require_venv(i, with_pip, f) < 0)
		return -1;
	_cleanup_free_ char *key = image_key(i, with_pip);
	if (!key)
		return failure_reason(f, ERROR_FAILED, "cannot read the installation of '%s'", i->path);
	const struct image *there = image_get(key);
	_cleanup_free_ char *directory = xasprintf(PATH_IMAGES "/%s", key);
	if (!there && faccessat(WORKER_FD_STATE, directory, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		image_quarantine(key, "'" MANIFEST_MODEL "' cannot be read");
	if (!there) {
		if (make_anew(i, with_pip, key, caller, f) < 0)
			return -1;
		there = image_get(key);
	}
	/* Not there: another worker found its forerunner damaged, and took this one. Who claims will ask again. */
	*ret_delegate = there ? xstrdup(there->delegate) : NULL;
	*ret_key = key;
	key = NULL;
	return 0;
}

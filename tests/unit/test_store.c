/* SPDX-License-Identifier: MIT */
/*
 * The catalog on a real directory. A full or broken disk is made with SQLite's own hook for its
 * system calls: no mount is needed, and it fails exactly when the test says so.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "unit.h"
#include "limits.h"
#include "store.h"
#include "store_file.h"

struct fixture {
	char *path;             /* the directory */
	int fd;
	struct store *store;
	struct environment *envs[1000];
	size_t env_count;
	struct store_request **requests;
	size_t request_count;
	unsigned done, failed;
	int last;
};

/* --- system calls that fail ---------------------------------------------------------------- */

static atomic_int write_errno;
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

static ssize_t fake_write(int fd, const void *data, size_t len)
{
	if (!write_errno)
		return real_write(fd, data, len);
	errno = write_errno;
	return -1;
}

static ssize_t fake_pwrite(int fd, const void *data, size_t len, off_t at)
{
	if (!write_errno)
		return real_pwrite(fd, data, len, at);
	errno = write_errno;
	return -1;
}

static sqlite3_syscall_ptr replace(const char *name, sqlite3_syscall_ptr fake)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	sqlite3_syscall_ptr real = vfs->xGetSystemCall(vfs, name);

	if (real)
		vfs->xSetSystemCall(vfs, name, fake);
	return real;
}

static int replace_calls(void **state)
{
	(void)state;
	sqlite3_initialize();
	real_write = (ssize_t (*)(int, const void *, size_t))replace("write",
	    (sqlite3_syscall_ptr)fake_write);
	real_pwrite = (ssize_t (*)(int, const void *, size_t, off_t))replace("pwrite64",
	    (sqlite3_syscall_ptr)fake_pwrite);
	if (!real_pwrite)
		real_pwrite = (ssize_t (*)(int, const void *, size_t, off_t))replace("pwrite",
		    (sqlite3_syscall_ptr)fake_pwrite);
	return 0;
}

/* --- a store in a directory ---------------------------------------------------------------- */

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->path = unit_directory();
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	log_errors = 0;
	write_errno = 0;
	*state = f;
	return f->fd < 0;
}

static void forget(struct fixture *f)
{
	while (f->env_count)
		environment_free(f->envs[--f->env_count]);
	while (f->request_count)
		store_request_free(f->requests[--f->request_count]);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	write_errno = 0;
	store_close(f->store);
	forget(f);
	free(f->requests);
	close(f->fd);
	unit_directory_remove(f->path);
	free(f->path);
	free(f);
	return 0;
}

static void open_store(struct fixture *f)
{
	char *why = NULL, *note = NULL;

	f->store = store_open(f->fd, "/r", &why, &note);
	if (why)
		print_error("%s\n", why);
	assert_non_null(f->store);
	assert_null(why);
	assert_null(note);
}

static void row_cb(struct environment *env, void *arg)
{
	struct fixture *f = arg;

	assert_true(f->env_count < ARRAY_LENGTH(f->envs));
	f->envs[f->env_count++] = env;
}

static void request_cb(struct store_request *request, void *arg)
{
	struct fixture *f = arg;

	f->requests = xreallocarray(f->requests, f->request_count + 1,
	    sizeof(struct store_request *));
	f->requests[f->request_count++] = request;
}

static void load(struct fixture *f)
{
	forget(f);
	assert_int_equal(store_load(f->store, row_cb, request_cb, f), 0);
}

static void close_store(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

static void reopen(struct fixture *f)
{
	close_store(f);
	open_store(f);
	load(f);
}

static void done_cb(bool ok, void *arg)
{
	struct fixture *f = arg;

	f->done += ok;
	f->failed += !ok;
}

static void wait_for(struct fixture *f, unsigned answers)
{
	while (f->done + f->failed < answers) {
		struct pollfd p = { .fd = store_fd(f->store), .events = POLLIN };
		assert_int_equal(poll(&p, 1, 60000), 1);
		store_deliver(f->store);
	}
}

/* Until nothing is under way, as the daemon does when it ends. */
static void wait_idle(struct fixture *f)
{
	while (!store_idle(f->store)) {
		struct pollfd p = { .fd = store_fd(f->store), .events = POLLIN };
		assert_int_equal(poll(&p, 1, 60000), 1);
		store_deliver(f->store);
	}
}

static void put(struct fixture *f, const char *id, const char *name,
    enum environment_state env_state,
    store_done_fn *done)
{
	struct environment *env = environment_new(name);

	strcpy(env->id, id);
	env->state = env_state;
	store_put(f->store, env, done, f);
	environment_free(env);
}

static int sql(const struct fixture *f, const char *text)
{
	sqlite3 *db;
	_cleanup_free_ char *name = xasprintf("%s/catalog.db", f->path);

	int rc = sqlite3_open(name, &db);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, text, NULL, NULL, NULL);
	sqlite3_close(db);
	return rc;
}

static int number(const struct fixture *f, const char *text)
{
	sqlite3 *db;
	sqlite3_stmt *stmt = NULL;
	_cleanup_free_ char *name = xasprintf("%s/catalog.db", f->path);

	assert_int_equal(sqlite3_open(name, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	int value = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return value;
}

#define ID_A "aaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccc"
#define ID_D "dddddddddddddddd"

/* --- tests --------------------------------------------------------------------------------- */

static struct environment *full_environment(void)
{
	struct environment *env = environment_new("projA");

	env->state = STATE_TRASHED;
	env->intent = INTENT_PURGE;
	env->ino = INT64_MAX;
	env->btime_ns = 1700000000123456789;
	env->executable = xstrdup("bin/python");
	env->interpreter = xstrdup("/usr/bin/python3");
	env->implementation = xstrdup("cpython");
	env->version = xstrdup("3.11.2");
	env->prompt = xstrdup("p'\"; DROP TABLE environment; --");
	env->project = xstrdup("/src");
	env->system_site_packages = 0;
	env->pip = 1;
	env->origin = xstrdup("adopted");
	env->creator = xstrdup("uv");
	env->created_at = 1;
	env->deleted_at = 2;
	env->expires_at = 3;
	env->missing_since = 4;
	env->problem = xstrdup("");
	env->entry = xstrdup("projA~1~2");
	return env;
}

static void create_and_reopen(void **state)
{
	struct fixture *f = *state;
	struct environment *env = full_environment();
	struct stat st;

	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 0);
	store_start(f->store);
	store_put(f->store, env, done_cb, f);
	put(f, ID_B, "b", STATE_CREATING, done_cb);
	wait_for(f, 2);
	assert_int_equal(f->done, 2);
	assert_int_equal(fstatat(f->fd, "catalog.db", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstatat(f->fd, "catalog.db-wal", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstatat(f->fd, "catalog.db-shm", &st, 0), -1);

	reopen(f);
	assert_int_equal(f->env_count, 2);
	assert_string_equal(f->envs[0]->name, "b");
	assert_string_equal(f->envs[0]->id, ID_B);
	assert_int_equal(f->envs[0]->pip, -1);
	assert_null(f->envs[0]->prompt);
	const struct environment *got = f->envs[1];
	assert_int_equal(got->state, env->state);
	assert_int_equal(got->intent, env->intent);
	assert_int_equal(got->ino, env->ino);
	assert_int_equal(got->btime_ns, env->btime_ns);
	assert_int_equal(got->missing_since, env->missing_since);
	assert_string_equal(got->entry, env->entry);
	_cleanup_text_ struct text a = { 0 }, b = { 0 };
	environment_add_json(&a, env, "/r", FIELDS_ALL);
	environment_add_json(&b, got, "/r", FIELDS_ALL);
	assert_string_equal(a.data, b.data);
	environment_free(env);
}

static void in_memory(void **state)
{
	struct fixture *f = *state;
	char *why = NULL, *note = NULL;

	f->store = store_open(-1, "/r", &why, &note);
	assert_non_null(f->store);
	load(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, done_cb);
	wait_for(f, 1);
	assert_int_equal(f->done, 1);
	assert_int_equal(faccessat(f->fd, "catalog.db", F_OK, 0), -1);
}

static void empty_file(void **state)
{
	struct fixture *f = *state;

	close(openat(f->fd, "catalog.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	open_store(f);
	load(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, NULL);
	close_store(f);
	assert_int_equal(number(f, "PRAGMA user_version"), 1);
	assert_int_equal(number(f, "PRAGMA application_id"), 1986358884);
	assert_int_equal(number(f, "SELECT count(*) FROM environment"), 1);
	assert_int_equal(number(f,
	    "SELECT sum(strict) FROM pragma_table_list WHERE name IN ('environment', 'request')"),
	    2);
	assert_int_equal(faccessat(f->fd, "catalog.db-wal", F_OK, 0), -1);
}

static void newer_schema(void **state)
{
	struct fixture *f = *state;
	char *why = NULL, *note = NULL;

	open_store(f);
	put(f, ID_A, "a", STATE_READY, NULL);
	close_store(f);
	assert_int_equal(sql(f, "PRAGMA user_version = 99"), SQLITE_OK);
	assert_null(store_open(f->fd, "/o'b/r", &why, &note));
	assert_null(note);
	assert_string_equal(why, "the catalog has schema 99, and this venvd knows only up to 1\n"
	    "hint: mv '/o'\\''b/r/.venvd/catalog.db' '/o'\\''b/r/.venvd/catalog.db.newer'"
	    "  # only history is lost, the environments are found again");
	free(why);
	assert_int_equal(number(f, "PRAGMA user_version"), 99);
	assert_int_equal(number(f, "SELECT count(*) FROM environment"), 1);
	assert_int_equal(renameat(f->fd, "catalog.db", f->fd, "catalog.db.newer"), 0);
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 0);
}

/* A newer daemon was killed: what it committed may still be in its log alone. */
static void newer_schema_in_the_log(void **state)
{
	struct fixture *f = *state;
	char *why = NULL, *note = NULL;

	pid_t pid = fork();
	if (pid == 0) {
		sqlite3 *db;
		_cleanup_free_ char *name = xasprintf("%s/catalog.db", f->path);
		open_store(f);
		close_store(f);
		sqlite3_open(name, &db);
		sqlite3_exec(db, "PRAGMA journal_mode = WAL; PRAGMA user_version = 2", NULL, NULL,
		    NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(faccessat(f->fd, "catalog.db-wal", F_OK, 0), 0);
	assert_null(store_open(f->fd, "/r", &why, &note));
	assert_non_null(strstr(why, "schema 2"));
	free(why);
	/* It moves aside whole: nothing of it is left in the log. */
	assert_int_equal(faccessat(f->fd, "catalog.db-wal", F_OK, 0), -1);
	assert_int_equal(number(f, "PRAGMA user_version"), 2);
}

/* A group is one record in the log, which stays small; and the order within it holds. */
static void groups(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	open_store(f);
	for (int i = 0; i < 500; i++)
		put(f, ID_A, i == 499 ? "last" : "a", i % 2 ? STATE_READY : STATE_BROKEN, done_cb);
	put(f, ID_B, "b", STATE_READY, done_cb);
	store_drop(f->store, ID_B, done_cb, f);
	store_drop(f->store, ID_C, done_cb, f);
	put(f, ID_C, "c", STATE_MISSING, done_cb);
	assert_false(store_idle(f->store));
	store_start(f->store);
	wait_for(f, 504);
	wait_idle(f);
	assert_int_equal(f->done, 504);
	assert_int_equal(fstatat(f->fd, "catalog.db-wal", &st, 0), 0);
	/* 504 commits would be 504 pages and more. */
	assert_true(st.st_size < 100 * 4096);
	reopen(f);
	assert_int_equal(f->env_count, 2);
	assert_string_equal(f->envs[0]->name, "c");
	assert_int_equal(f->envs[0]->state, STATE_MISSING);
	assert_string_equal(f->envs[1]->name, "last");
	assert_int_equal(f->envs[1]->state, STATE_READY);
}

static void order_cb(bool ok, void *arg)
{
	struct fixture *f = ((void **)arg)[0];
	int turn = (int)(intptr_t)((void **)arg)[1];

	assert_true(ok);
	assert_int_equal(turn, f->last + 1);
	f->last = turn;
	f->done++;
	free(arg);
}

static void answers_come_in_order(void **state)
{
	struct fixture *f = *state;
	struct environment *env = environment_new("a");

	open_store(f);
	store_start(f->store);
	for (intptr_t i = 1; i <= 300; i++) {
		void **arg = xcalloc(2, sizeof(*arg));
		arg[0] = f;
		arg[1] = (void *)i;
		store_put(f->store, env, order_cb, arg);
		if (i % 7 == 0)
			wait_for(f, (unsigned)i);
	}
	wait_for(f, 300);
	environment_free(env);
}

static void a_live_name_is_there_once(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	put(f, ID_A, "a", STATE_READY, NULL);
	put(f, ID_B, "a", STATE_CREATING, NULL);
	put(f, ID_C, "a", STATE_TRASHED, NULL);
	put(f, ID_D, "a", STATE_TRASHED, NULL);
	reopen(f);
	assert_int_equal(f->env_count, 3);
	assert_string_equal(f->envs[0]->id, ID_B);
	assert_string_equal(f->envs[1]->id, ID_C);
}

static void overwrite(const struct fixture *f, off_t at, size_t len)
{
	_cleanup_free_ char *junk = xcalloc(len, 1);
	_cleanup_fd_ int fd = openat(f->fd, "catalog.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	memset(junk, 'j', len);
	assert_int_equal(pwrite(fd, junk, len, at), len);
}

static void expect_damaged(struct fixture *f)
{
	char *why = NULL, *note = NULL;

	f->store = store_open(f->fd, "/r", &why, &note);
	if (why)
		print_error("%s\n", why);
	assert_non_null(f->store);
	assert_non_null(note);
	assert_non_null(strstr(note, "catalog.db.damaged"));
	free(note);
	assert_int_equal(faccessat(f->fd, "catalog.db.damaged", F_OK, 0), 0);
	load(f);
	assert_int_equal(f->env_count, 0);
	put(f, ID_A, "new", STATE_READY, NULL);
	reopen(f);
	assert_int_equal(f->env_count, 1);
	close_store(f);
}

static void damaged(void **state)
{
	struct fixture *f = *state;

	/* No database at all; and again, with the one of before in the way. */
	overwrite(f, 0, 5000);
	expect_damaged(f);
	overwrite(f, 0, 16);
	expect_damaged(f);
	/* A page in the middle. */
	overwrite(f, 4096, 4096);
	expect_damaged(f);
	/* Cut short. */
	_cleanup_fd_ int fd = openat(f->fd, "catalog.db", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 6000), 0);
	expect_damaged(f);
	/* Words that are not ours. */
	assert_int_equal(sql(f,
	    "PRAGMA ignore_check_constraints = ON; UPDATE environment SET state = 'odd'"),
	    SQLITE_OK);
	expect_damaged(f);
	assert_int_equal(sql(f, "DROP TABLE environment"), SQLITE_OK);
	assert_int_equal(sql(f, "PRAGMA application_id = 7"), SQLITE_OK);
	expect_damaged(f);
}

/* SQLite takes its log away when it can; where it could not, that goes with the catalog it belongs
 * to. */
static void moved_aside_whole(void **state)
{
	struct fixture *f = *state;

	close(openat(f->fd, "catalog.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	close(openat(f->fd, "catalog.db-wal", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	assert_null(store_file_move_aside(f->fd));
	assert_int_equal(faccessat(f->fd, "catalog.db", F_OK, 0), -1);
	assert_int_equal(faccessat(f->fd, "catalog.db-wal", F_OK, 0), -1);
	assert_int_equal(faccessat(f->fd, "catalog.db.damaged", F_OK, 0), 0);
	assert_int_equal(faccessat(f->fd, "catalog.db.damaged-wal", F_OK, 0), 0);
	/* The next one has no log: that of the last may not lie beside it. */
	assert_null(store_file_make(f->fd));
	assert_null(store_file_move_aside(f->fd));
	assert_int_equal(faccessat(f->fd, "catalog.db.damaged", F_OK, 0), 0);
	assert_int_equal(faccessat(f->fd, "catalog.db.damaged-wal", F_OK, 0), -1);
	/* What cannot be moved is said. */
	assert_null(store_file_make(f->fd));
	assert_int_equal(unlinkat(f->fd, "catalog.db.damaged", 0), 0);
	assert_int_equal(mkdirat(f->fd, "catalog.db.damaged", 0700), 0);
	_cleanup_free_ char *why = store_file_move_aside(f->fd);
	assert_non_null(strstr(why, "aside"));
}

/* The right number, but the statements do not fit what is there. */
static void tampered_schema(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	close_store(f);
	assert_int_equal(sql(f, "DROP TABLE request"), SQLITE_OK);
	expect_damaged(f);
}

static void expect_refused(struct fixture *f, const char *words)
{
	char *why = NULL, *note = NULL;

	assert_null(store_open(f->fd, "/r", &why, &note));
	assert_null(note);
	assert_non_null(why);
	assert_non_null(strstr(why, words));
	free(why);
}

static void not_a_file(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->fd, "catalog.db", 0700), 0);
	expect_refused(f, "Is a directory");
	assert_int_equal(unlinkat(f->fd, "catalog.db", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("elsewhere", f->fd, "catalog.db"), 0);
	expect_refused(f, "symbolic links");
	assert_int_equal(faccessat(f->fd, "elsewhere", F_OK, 0), -1);
	assert_int_equal(unlinkat(f->fd, "catalog.db", 0), 0);
	assert_int_equal(mkfifoat(f->fd, "catalog.db", 0600), 0);
	expect_refused(f, "regular file");
}

static void held_by_another(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db;
	_cleanup_free_ char *name = xasprintf("%s/catalog.db", f->path);

	open_store(f);
	close_store(f);
	assert_int_equal(sqlite3_open(name, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE", NULL,
	    NULL, NULL), SQLITE_OK);
	expect_refused(f, "held open by another program");
	sqlite3_close(db);
	open_store(f);
}

static void deep_directory(void **state)
{
	struct fixture *f = *state;
	char name[251] = "";

	memset(name, 'd', 250);
	int fd = dup(f->fd);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(mkdirat(fd, name, 0700), 0);
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	int outer = f->fd;
	f->fd = fd;
	open_store(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, done_cb);
	wait_for(f, 1);
	assert_int_equal(faccessat(fd, "catalog.db-wal", F_OK, 0), 0);
	reopen(f);
	assert_int_equal(f->env_count, 1);
	close_store(f);
	/* Damage is moved aside there as well. */
	overwrite(f, 0, 5000);
	expect_damaged(f);
	f->fd = outer;
	/* The tree is deeper than a path may be: it is taken away from inside. */
	assert_int_equal(unlinkat(fd, "catalog.db", 0), 0);
	assert_int_equal(unlinkat(fd, "catalog.db.damaged", 0), 0);
	for (int i = 0; i < 20; i++) {
		int up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(unlinkat(up, name, AT_REMOVEDIR), 0);
		close(fd);
		fd = up;
	}
	close(fd);
}

static void full_disk_with(struct fixture *f, int error)
{
	open_store(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, done_cb);
	wait_for(f, 1);
	write_errno = error;
	put(f, ID_B, "kept", STATE_READY, NULL);
	put(f, ID_D, "dropped", STATE_READY, NULL);
	put(f, ID_C, "told", STATE_READY, done_cb);
	wait_for(f, 2);
	assert_int_equal(f->failed, 1);
	assert_true(log_errors > 0);
	assert_non_null(strstr(log_last, "full"));
	wait_idle(f);
	put(f, ID_C, "told", STATE_READY, done_cb);
	wait_for(f, 3);
	assert_int_equal(f->failed, 2);
	write_errno = 0;
	/* What nobody waited for goes with the next group, and in front of it. */
	store_drop(f->store, ID_A, done_cb, f);
	store_drop(f->store, ID_D, done_cb, f);
	wait_for(f, 5);
	assert_int_equal(f->failed, 2);
	reopen(f);
	assert_int_equal(f->env_count, 1);
	assert_string_equal(f->envs[0]->name, "kept");
}

static void full_disk(void **state)
{
	full_disk_with(*state, ENOSPC);
}

static void full_quota(void **state)
{
	full_disk_with(*state, EDQUOT);
}

static void full_at_the_end(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, done_cb);
	wait_for(f, 1);
	write_errno = ENOSPC;
	put(f, ID_B, "b", STATE_READY, NULL);
	put(f, ID_C, "c", STATE_READY, done_cb);
	close_store(f);
	assert_int_equal(f->failed, 1);
	write_errno = 0;
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 1);
}

static void broken_disk(void **state)
{
	struct fixture *f = *state;
	int status;

	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0, 0 };
		setrlimit(RLIMIT_CORE, &none);
		open_store(f);
		store_start(f->store);
		write_errno = EIO;
		put(f, ID_A, "a", STATE_READY, done_cb);
		wait_for(f, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	open_store(f);
}

/* Killed with commits in the log alone: they are there. */
static void killed(void **state)
{
	struct fixture *f = *state;

	pid_t pid = fork();
	if (pid == 0) {
		open_store(f);
		store_start(f->store);
		for (int i = 0; i < 50; i++) {
			char id[17];
			snprintf(id, sizeof(id), "%016d", i);
			put(f, id, id, STATE_READY, done_cb);
			wait_for(f, (unsigned)i + 1);
		}
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 50);
}

static void request(struct fixture *f, const char *id, const char *error, int64_t at_us)
{
	struct store_request r = { .id = (char *)id, .method = (char *)"Create",
	    .fingerprint = "0123456789abcdef",
		.environment_id = "", .error = (char *)error,
		    .parameters = (char *)(error ? "{\"a\":1}" : NULL),
		.at_us = at_us };

	store_put_request(f->store, &r);
}

static void requests(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	store_start(f->store);
	request(f, "one", NULL, 100);
	request(f, "two", "io.venvd.NoSpace", 200);
	request(f, "three", NULL, 300);
	request(f, "three", "io.venvd.Failed", 300);
	wait_idle(f);
	reopen(f);
	assert_int_equal(f->request_count, 3);
	assert_string_equal(f->requests[0]->id, "one");
	assert_null(f->requests[0]->error);
	assert_null(f->requests[0]->parameters);
	assert_string_equal(f->requests[1]->error, "io.venvd.NoSpace");
	assert_string_equal(f->requests[1]->parameters, "{\"a\":1}");
	assert_string_equal(f->requests[1]->method, "Create");
	assert_string_equal(f->requests[1]->fingerprint, "0123456789abcdef");
	assert_string_equal(f->requests[1]->environment_id, "");
	assert_int_equal(f->requests[1]->at_us, 200);
	assert_string_equal(f->requests[2]->error, "io.venvd.Failed");
	store_drop_requests(f->store, 200);
	reopen(f);
	assert_int_equal(f->request_count, 2);
	assert_string_equal(f->requests[0]->id, "two");
}

static void requests_are_bounded(void **state)
{
	struct fixture *f = *state;
	char id[16];

	open_store(f);
	for (int i = 0; i < LIMIT_REQUESTS_KEPT + 100; i++) {
		snprintf(id, sizeof(id), "%d", i);
		request(f, id, NULL, 1000 + i);
	}
	store_start(f->store);
	wait_idle(f);
	reopen(f);
	assert_int_equal(f->request_count, LIMIT_REQUESTS_KEPT);
	assert_string_equal(f->requests[0]->id, "100");
}

/* The log goes into the file while the daemon runs, and does not grow without end. */
static void log_is_bounded(void **state)
{
	struct fixture *f = *state;
	char name[101], id[17];
	struct stat st;

	open_store(f);
	store_start(f->store);
	for (unsigned i = 0; i < 3000; i++) {
		memset(name, 'n', 100);
		name[100] = '\0';
		name[snprintf(name, 17, "%u", i % 900)] = '-';
		snprintf(id, sizeof(id), "%016u", i % 900);
		put(f, id, name, i % 2 ? STATE_READY : STATE_BROKEN, done_cb);
		if (i % 3 == 2)
			wait_for(f, i + 1);
	}
	wait_idle(f);
	assert_int_equal(fstatat(f->fd, "catalog.db", &st, 0), 0);
	assert_true(st.st_size > 100 * 1000);
	assert_int_equal(fstatat(f->fd, "catalog.db-wal", &st, 0), 0);
	assert_true(st.st_size < 8 * 1024 * 1024 + 1024 * 1024);
}

static void again_cb(bool ok, void *arg)
{
	struct fixture *f = arg;

	assert_true(ok);
	if (++f->done < 5)
		put(f, ID_A, f->done == 4 ? "fifth" : "a", STATE_READY, again_cb);
}

static void answers_may_put_more(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, again_cb);
	close_store(f);
	assert_int_equal(f->done, 5);
	open_store(f);
	load(f);
	assert_string_equal(f->envs[0]->name, "fifth");
	/* Never started: what was put is written all the same. */
	put(f, ID_B, "b", STATE_READY, again_cb);
	close_store(f);
	assert_int_equal(f->done, 6);
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 2);
	store_close(NULL);
}

static uint64_t blocked_signals(const char *task)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/task/%s/status", task);
	_cleanup_text_ struct text text = { 0 };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(fd_read_all(fd, 65536, &text), 0);
	const char *line = strstr(text.data, "\nSigBlk:\t");
	assert_non_null(line);
	return strtoull(line + 9, NULL, 16);
}

static void signals_are_for_the_loop(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *own = xasprintf("%d", (int)gettid());
	unsigned others = 0;

	open_store(f);
	uint64_t before = blocked_signals(own);
	store_start(f->store);
	/* The thread runs for certain once it has answered. */
	put(f, ID_A, "a", STATE_READY, done_cb);
	wait_for(f, 1);
	assert_int_equal(blocked_signals(own), before);
	DIR *tasks = opendir("/proc/self/task");
	for (struct dirent *d; (d = readdir(tasks));) {
		if (d->d_name[0] == '.' || strcmp(d->d_name, own) == 0)
			continue;
		uint64_t blocked = blocked_signals(d->d_name);
		others += blocked >> (SIGTERM - 1) & blocked >> (SIGCHLD - 1) & 1;
	}
	closedir(tasks);
	assert_true(others >= 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_and_reopen),
		TEST(in_memory),
		TEST(empty_file),
		TEST(newer_schema),
		TEST(newer_schema_in_the_log),
		TEST(groups),
		TEST(answers_come_in_order),
		TEST(a_live_name_is_there_once),
		TEST(damaged),
		TEST(moved_aside_whole),
		TEST(tampered_schema),
		TEST(not_a_file),
		TEST(held_by_another),
		TEST(deep_directory),
		TEST(full_disk),
		TEST(full_quota),
		TEST(full_at_the_end),
		TEST(broken_disk),
		TEST(killed),
		TEST(requests),
		TEST(requests_are_bounded),
		TEST(log_is_bounded),
		TEST(answers_may_put_more),
		TEST(signals_are_for_the_loop),
	};
	return cmocka_run_group_tests(tests, replace_calls, NULL);
}

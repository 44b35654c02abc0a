/* SPDX-License-Identifier: MIT */
/*
 * The catalog where the world is not kind: newer, damaged, deep, held, full, broken, killed. A full
 * or broken disk is made with SQLite's own hook for its system calls: no mount is needed, and it
 * fails exactly when the test says so.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "store_fixture.h"
#include "store_file.h"

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

static const char *refused_open;        /* the end of a name that is not opened for writing */
static int (*real_open)(const char *, int, int);

static int fake_open(const char *path, int flags, int mode)
{
	size_t n = strlen(path), m = refused_open ? strlen(refused_open) : 0;

	if (!m || n < m || strcmp(path + n - m, refused_open) != 0 || (flags & O_ACCMODE) == O_RDONLY)
		return real_open(path, flags, mode);
	errno = EMFILE;
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
	real_open = (int (*)(const char *, int, int))replace("open", (sqlite3_syscall_ptr)fake_open);
	if (!real_pwrite)
		real_pwrite = (ssize_t (*)(int, const void *, size_t, off_t))replace("pwrite",
		    (sqlite3_syscall_ptr)fake_pwrite);
	return 0;
}

/* The disk is whole again, whatever the test before left. */
static int setup_disk(void **state)
{
	write_errno = 0;
	refused_open = NULL;
	return setup(state);
}

#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, setup_disk, teardown)

/* --- tests --------------------------------------------------------------------------------- */

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
	assert_string_equal(why, "the catalog has schema 99, and this venvd knows only up to 4\n"
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
		sqlite3_exec(db, "PRAGMA journal_mode = WAL; PRAGMA user_version = 5", NULL, NULL,
		    NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(faccessat(f->fd, "catalog.db-wal", F_OK, 0), 0);
	assert_null(store_open(f->fd, "/r", &why, &note));
	assert_non_null(strstr(why, "schema 5"));
	free(why);
	/* It moves aside whole: nothing of it is left in the log. */
	assert_int_equal(faccessat(f->fd, "catalog.db-wal", F_OK, 0), -1);
	assert_int_equal(number(f, "PRAGMA user_version"), 5);
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
	/* Of another kind of writer, whom SQLite leaves it to. */
	overwrite(f, 18, 1);
	expect_damaged(f);
	/* The same, of one that is yet to be migrated. */
	assert_int_equal(sql(f, "PRAGMA user_version = 3; ALTER TABLE environment DROP COLUMN looked"), SQLITE_OK);
	overwrite(f, 18, 1);
	expect_damaged(f);
	/* A page in the middle. */
	overwrite(f, 4096, 4096);
	expect_damaged(f);
	/* Cut short. */
	_cleanup_fd_ int fd = openat(f->fd, "catalog.db", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 6000), 0);
	expect_damaged(f);
	/* Values that the schema lets nobody write: each of its CHECKs, for none is evaluated at a start. */
	static const char *const unfit[] = { "state = 'odd'", "intent = 'odd'", "id = 'short'", "name = ''", "pip = 2",
		"system_site_packages = -1", "protected = 7", "new_name = ''", "location = 'relative'" };
	for (size_t i = 0; i < ARRAY_LENGTH(unfit); i++) {
		_cleanup_free_ char *update = xasprintf("PRAGMA ignore_check_constraints = ON;"
		    " UPDATE environment SET %s", unfit[i]);
		assert_int_equal(sql(f, update), SQLITE_OK);
		expect_damaged(f);
	}
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
	assert_int_equal(unlinkat(fd, "catalog.db-wal", 0), 0);
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
	store_drop(f->store, ID_A, NULL, done_cb, f);
	store_drop(f->store, ID_D, NULL, done_cb, f);
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
/* SQLite goes on with what it may only read; a daemon that has said it is ready would end with its first row. */
static void not_to_be_written(void **state)
{
	static const char *const names[] = { "/catalog.db", "/catalog.db-wal" };
	struct fixture *f = *state;

	open_store(f);
	put(f, ID_A, "a", STATE_READY, NULL);
	close_store(f);
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		char *why = NULL, *note = NULL;
		refused_open = names[i];
		assert_null(store_open(f->fd, "/r", &why, &note));
		assert_null(note);
		assert_ptr_equal(strstr(why, "cannot open 'catalog.db': "), why);
		free(why);
	}
	refused_open = NULL;
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 1);
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(newer_schema),
		DISK_TEST(newer_schema_in_the_log),
		DISK_TEST(damaged),
		DISK_TEST(moved_aside_whole),
		DISK_TEST(tampered_schema),
		DISK_TEST(not_a_file),
		DISK_TEST(held_by_another),
		DISK_TEST(deep_directory),
		DISK_TEST(full_disk),
		DISK_TEST(full_quota),
		DISK_TEST(full_at_the_end),
		DISK_TEST(broken_disk),
		DISK_TEST(not_to_be_written),
		DISK_TEST(killed),
	};
	return cmocka_run_group_tests(tests, replace_calls, NULL);
}

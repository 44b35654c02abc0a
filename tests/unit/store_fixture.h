/* SPDX-License-Identifier: MIT */
/*
 * A store in a directory of its own, for the tests of the catalog: opened, filled, waited for, read
 * back, and looked at from outside. Each test program has its own copy; it need not use all of it.
 */
#ifndef VENVD_STORE_FIXTURE_H
#define VENVD_STORE_FIXTURE_H
#include <fcntl.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "unit.h"
#include "store.h"

#define ID_A "aaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccc"
#define ID_D "dddddddddddddddd"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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

static inline int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->path = unit_directory();
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	log_errors = 0;
	*state = f;
	return f->fd < 0;
}

static inline void forget(struct fixture *f)
{
	while (f->env_count)
		environment_free(f->envs[--f->env_count]);
	while (f->request_count)
		store_request_free(f->requests[--f->request_count]);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->store);
	forget(f);
	free(f->requests);
	close(f->fd);
	unit_directory_remove(f->path);
	free(f->path);
	free(f);
	return 0;
}

static inline void open_store(struct fixture *f)
{
	char *why = NULL, *note = NULL;

	f->store = store_open(f->fd, "/r", &why, &note);
	if (why)
		print_error("%s\n", why);
	assert_non_null(f->store);
	assert_null(why);
	assert_null(note);
}

static inline void row_cb(struct environment *env, void *arg)
{
	struct fixture *f = arg;

	assert_true(f->env_count < ARRAY_LENGTH(f->envs));
	f->envs[f->env_count++] = env;
}

static inline void request_cb(struct store_request *request, void *arg)
{
	struct fixture *f = arg;

	f->requests = xreallocarray(f->requests, f->request_count + 1,
	    sizeof(struct store_request *));
	f->requests[f->request_count++] = request;
}

static inline void load(struct fixture *f)
{
	forget(f);
	assert_int_equal(store_load(f->store, row_cb, request_cb, f), 0);
}

static inline void close_store(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

static inline void reopen(struct fixture *f)
{
	close_store(f);
	open_store(f);
	load(f);
}

static inline void done_cb(bool ok, void *arg)
{
	struct fixture *f = arg;

	f->done += ok;
	f->failed += !ok;
}

static inline void wait_for(struct fixture *f, unsigned answers)
{
	while (f->done + f->failed < answers) {
		struct pollfd p = { .fd = store_fd(f->store), .events = POLLIN };
		assert_int_equal(poll(&p, 1, 60000), 1);
		store_deliver(f->store);
	}
}

/* Until nothing is under way, as the daemon does when it ends. */
static inline void wait_idle(struct fixture *f)
{
	while (!store_idle(f->store)) {
		struct pollfd p = { .fd = store_fd(f->store), .events = POLLIN };
		assert_int_equal(poll(&p, 1, 60000), 1);
		store_deliver(f->store);
	}
}

static inline void put(struct fixture *f, const char *id, const char *name,
    enum environment_state env_state,
    store_done_fn *done)
{
	struct environment *env = environment_new(name);

	strcpy(env->id, id);
	env->state = env_state;
	store_put(f->store, env, done, f);
	environment_free(env);
}

static inline int sql(const struct fixture *f, const char *text)
{
	sqlite3 *db;
	_cleanup_free_ char *name = xasprintf("%s/catalog.db", f->path);

	int rc = sqlite3_open(name, &db);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, text, NULL, NULL, NULL);
	sqlite3_close(db);
	return rc;
}

static inline int number(const struct fixture *f, const char *text)
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
#endif

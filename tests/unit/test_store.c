/* SPDX-License-Identifier: MIT */
/* What the catalog keeps, in which order, and who is told when. */
#include <dirent.h>
#include <signal.h>
#include "bounds.h"
#include "store_fixture.h"

static struct environment *full_environment(void)
{
	struct environment *env = environment_new("projA");

	env->state = STATE_TRASHED;
	env->intent = INTENT_PURGE;
	env->ino = INT64_MAX;
	env->btime_ns = 1700000000123456789;
	env->executable = word("bin/python");
	env->interpreter = word("/usr/bin/python3");
	env->implementation = word("cpython");
	env->version = word("3.11.2");
	env->prompt = word("p'\"; DROP TABLE environment; --");
	env->project = word("/src");
	env->system_site_packages = 0;
	env->pip = 1;
	env->origin = word("adopted");
	env->creator = word("uv");
	env->created_at = 1;
	env->deleted_at = 2;
	env->expires_at = 3;
	env->missing_since = 4;
	env->problem = word("");
	env->entry = xstrdup("projA~1~2");
	env->location = xstrdup("/src/.venv");
	env->options = word("{\"python\":[\"3.12\"],\"copies\":true}");
	env->new_name = xstrdup("projB");
	env->protected = 1;
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
	assert_string_equal(got->location, env->location);
	assert_string_equal(got->new_name, env->new_name);
	assert_int_equal(got->protected, 1);
	_cleanup_text_ struct text a = { 0 }, b = { 0 };
	environment_add_json(&a, env, "/r", FIELDS_ALL);
	environment_add_json(&b, got, "/r", FIELDS_ALL);
	assert_string_equal(a.data, b.data);
	environment_free(env);
}

static const char schema_001[] =
#include "001-init.sql.inc"
;

/* A catalog as the first venvd left it: every row and index is there afterwards, and the new words are taken. */
static void first_schema(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(sql(f, schema_001), SQLITE_OK);
	assert_int_equal(sql(f,
	    "INSERT INTO environment VALUES ('" ID_A "', 'a', 'ready', 'none', 7, 8, 'bin/python', '/p', 'cpython',"
	    " '3.11.2', 'pr', '/src', 0, 1, 'created', 'venv', 1, 2, 3, 4, 'why', 'e');"
	    "INSERT INTO environment VALUES ('" ID_B "', 'a', 'trashed', 'purge', 7, 8, NULL, NULL, NULL,"
	    " NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 2, 3, 4, NULL, 'e');"
	    "INSERT INTO request VALUES ('r', 'Create', 'f', '" ID_A "', NULL, NULL, 5)"), SQLITE_OK);
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 2);
	assert_int_equal(f->request_count, 1);
	const struct environment *env = f->envs[0];
	assert_string_equal(env->id, ID_A);
	assert_int_equal(env->ino, 7);
	assert_int_equal(env->missing_since, 4);
	assert_string_equal(env->problem, "why");
	assert_string_equal(env->entry, "e");
	assert_null(env->location);
	assert_null(env->options);
	assert_null(env->new_name);
	assert_int_equal(env->protected, 0);
	assert_int_equal(f->envs[1]->intent, INTENT_PURGE);
	for (enum environment_intent intent = INTENT_CLAIM; intent <= INTENT_REBUILD; intent++) {
		f->envs[0]->intent = intent;
		store_put(f->store, f->envs[0], NULL, NULL);
		reopen(f);
		assert_int_equal(f->envs[0]->intent, intent);
	}
	/* A live name is still there once. */
	put(f, ID_C, "a", STATE_READY, NULL);
	reopen(f);
	assert_int_equal(f->env_count, 2);
	assert_string_equal(f->envs[1]->id, ID_C);
}

/* An environment and what a request led to: one commit, and each can be dropped alone. */
static void both(void **state)
{
	struct fixture *f = *state;
	struct store_request request = { .id = (char[]){ "r" }, .method = (char[]){ "Create" }, .at_us = 1 };
	struct environment *env = environment_new("a");

	strcpy(request.environment_id, env->id);
	open_store(f);
	store_start(f->store);
	store_put_both(f->store, env, &request, done_cb, f);
	wait_for(f, 1);
	reopen(f);
	assert_int_equal(f->env_count, 1);
	assert_int_equal(f->request_count, 1);
	assert_string_equal(f->requests[0]->environment_id, env->id);
	store_drop_request(f->store, "r");
	store_drop_request(f->store, "never there");
	reopen(f);
	assert_int_equal(f->env_count, 1);
	assert_int_equal(f->request_count, 0);
	environment_free(env);
}

/* What nobody waits for does not wait for ever. */
static void lazily(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, NULL);
	assert_false(store_idle(f->store));
	wait_idle(f);
	put(f, ID_B, "b", STATE_READY, NULL);
	put(f, ID_C, "c", STATE_READY, done_cb);
	wait_for(f, 1);
	assert_true(store_idle(f->store));
	reopen(f);
	assert_int_equal(f->env_count, 3);
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
	assert_int_equal(number(f, "PRAGMA user_version"), 4);
	assert_int_equal(number(f, "PRAGMA application_id"), 1986358884);
	assert_int_equal(number(f, "SELECT count(*) FROM environment"), 1);
	assert_int_equal(number(f,
	    "SELECT sum(strict) FROM pragma_table_list WHERE name IN ('environment', 'request')"),
	    2);
}

/* Pages in the log: each has a header of 24 bytes that begins with its number, which is never 0. */
static unsigned pages_in_log(const struct fixture *f)
{
	unsigned pages = 0;
	uint32_t number;

	int fd = openat(f->fd, "catalog.db-wal", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	while (pread(fd, &number, sizeof(number), 32 + (off_t)pages * (4096 + 24)) == sizeof(number) && number)
		pages++;
	close(fd);
	return pages;
}

/* A group is one record in the log, which stays small; and the order within it holds. */
static void groups(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	for (int i = 0; i < 500; i++)
		put(f, ID_A, i == 499 ? "last" : "a", i % 2 ? STATE_READY : STATE_BROKEN, done_cb);
	put(f, ID_B, "b", STATE_READY, done_cb);
	store_drop(f->store, ID_B, NULL, done_cb, f);
	store_drop(f->store, ID_C, NULL, done_cb, f);
	put(f, ID_C, "c", STATE_MISSING, done_cb);
	assert_false(store_idle(f->store));
	store_start(f->store);
	wait_for(f, 504);
	wait_idle(f);
	assert_int_equal(f->done, 504);
	/* 504 commits would be 504 pages and more. */
	assert_in_range(pages_in_log(f), 1, 99);
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

static void request(struct fixture *f, const char *id, const char *error, int64_t at_us)
{
	struct store_request r = { .id = (char *)id, .method = (char *)"Create",
	    .fingerprint = "0123456789abcdef",
		.environment_id = "", .error = (char *)error,
		    .parameters = (char *)(error ? "{\"a\":1}" : NULL),
		.at_us = at_us };

	store_put_request(f->store, &r, NULL, NULL);
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

/* From the second commit on none makes the log longer, until it begins anew. */
static void log_has_its_length(void **state)
{
	struct fixture *f = *state;
	struct stat before, after;

	open_store(f);
	store_start(f->store);
	for (unsigned i = 1; i <= 300; i++) {
		put(f, ID_A, "a", i % 2 ? STATE_READY : STATE_BROKEN, done_cb);
		wait_for(f, i);
		assert_int_equal(fstatat(f->fd, "catalog.db-wal", i <= 2 ? &before : &after, 0), 0);
	}
	assert_in_range(pages_in_log(f), 300, 999);
	assert_in_range(before.st_size, 4 * 1024 * 1024, 5 * 1024 * 1024);
	assert_int_equal(before.st_size, after.st_size);
	assert_int_equal(before.st_blocks, after.st_blocks);
}

/* The disk may be full at the next start: the log's room stays, but nothing that it says. */
static void log_stays_and_says_nothing(void **state)
{
	struct fixture *f = *state;
	struct stat before, after;

	open_store(f);
	store_start(f->store);
	put(f, ID_A, "a", STATE_READY, done_cb);
	wait_for(f, 1);
	put(f, ID_A, "b", STATE_READY, done_cb);
	wait_for(f, 2);
	assert_int_equal(fstatat(f->fd, "catalog.db-wal", &before, 0), 0);
	close_store(f);
	assert_int_equal(fstatat(f->fd, "catalog.db-wal", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(before.st_size, after.st_size);
	/* Somebody puts an older copy of the catalog back: the log must not be taken for its own. */
	_cleanup_free_ char *copy = xasprintf("cd '%s' && cp catalog.db old", f->path);
	assert_int_equal(system(copy), 0);
	open_store(f);
	store_start(f->store);
	put(f, ID_B, "later", STATE_READY, done_cb);
	wait_for(f, 3);
	close_store(f);
	assert_int_equal(renameat(f->fd, "old", f->fd, "catalog.db"), 0);
	open_store(f);
	load(f);
	assert_int_equal(f->env_count, 1);
	assert_string_equal(f->envs[0]->name, "b");
	assert_int_equal(fstatat(f->fd, "catalog.db-wal", &after, 0), 0);
	assert_int_equal(before.st_size, after.st_size);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_and_reopen),
		TEST(first_schema),
		TEST(both),
		TEST(lazily),
		TEST(in_memory),
		TEST(empty_file),
		TEST(groups),
		TEST(answers_come_in_order),
		TEST(a_live_name_is_there_once),
		TEST(requests),
		TEST(requests_are_bounded),
		TEST(log_is_bounded),
		TEST(log_has_its_length),
		TEST(log_stays_and_says_nothing),
		TEST(answers_may_put_more),
		TEST(signals_are_for_the_loop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
